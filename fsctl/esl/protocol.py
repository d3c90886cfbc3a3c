"""The event socket's framing: bytes in, messages out; commands in, bytes out. Pure: no socket, no greenlet.

Correctness over recovery: an unknown or missing content type, an impossible length or an oversized header block
raises ProtocolError, which ends the connection. Outward, whatever happens above, nothing with a newline in a line or
header leaves, nor the words that make FreeSWITCH unload its own event socket. Reference: freeswitch, 1.4, 1.5, 1.13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsctl.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsctl.freeswitch.commands import Command

__all__ = ["Message", "Protocol", "encode", "encode_execute"]

_MAX_HEADERS = 1 << 20
_MAX_BODY = 16 << 20

_EVENT_START = b"Content-Length: "
_EVENT_END = b"\nContent-Type: text/event-json"
_KINDS = {
    b"text/event-json": "event",
    b"command/reply": "reply",
    b"api/response": "api",
    b"text/disconnect-notice": "notice",
    b"text/event-plain": "other",
    b"text/event-xml": "other",
    b"log/data": "other",
    b"auth/request": "auth",
    b"text/rude-rejection": "rejection",
}


class Message(NamedTuple):
    """One message from FreeSWITCH.

    ``kind`` is ``event`` (JSON in ``body``), ``reply``, ``api``, ``notice``, ``auth``, ``rejection`` or ``other``;
    ``head`` the header block without its empty line; ``body`` exactly as many bytes as announced.
    """

    kind: str
    head: bytes
    body: bytes

    @property
    def text(self) -> str:
        """What a reply says: the output of an API command, or ``Reply-Text`` as it was sent."""
        if self.kind == "api":
            return self.body.decode("utf-8", "replace")
        return (_value(self.head, b"Reply-Text: ") or b"").decode("utf-8", "replace")


class Protocol:
    """Puts arriving bytes together; knows nothing of where they come from."""

    __slots__ = ("_chunks", "_head", "_held", "_kind", "_length", "_needed")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # what arrived and was not used yet
        self._held = 0  # how many bytes that is
        self._needed = 0  # how many there have to be before another look is worth it
        self._kind = ""  # of the message whose body is awaited
        self._head = b""
        self._length = 0

    @property
    def idle(self) -> bool:
        """True between messages; False when the stream would end in the middle of one."""
        return not self._held and not self._kind

    def receive(self, data: bytes) -> Iterator[Message]:
        """Every message that ``data`` completes. Raises ProtocolError; the connection must then be closed."""
        if self._held:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return
            data = b"".join(self._chunks)
            self._chunks.clear()
        at = 0
        while True:
            if not self._kind:
                end = data.find(b"\n\n", at)
                if end < 0:
                    if len(data) - at > _MAX_HEADERS:
                        raise ProtocolError(f"a header block of more than {_MAX_HEADERS} bytes")
                    self._needed = 0
                    break
                head = data[at:end]
                at = end + 2
                if head.endswith(_EVENT_END) and head.startswith(_EVENT_START):  # most of what comes
                    self._kind, self._length = "event", _number(head[len(_EVENT_START) : -len(_EVENT_END)])
                elif head.strip(b"\n"):
                    self._kind, self._length = _kind(head), _length(head)
                else:
                    continue
                self._head = head
            end = at + self._length
            if end > len(data):
                self._needed = self._length
                break
            kind, self._kind = self._kind, ""
            body, at = data[at:end], end
            yield Message(kind, self._head, body)
        rest = data[at:]
        self._held = len(rest)
        if rest:
            self._chunks.append(rest)


def _value(head: bytes, name: bytes) -> bytes | None:
    """The value of a header; ``name`` ends in ``": "``. Plain searches: the answer to `connect` has 5 kB of headers."""
    start = 0 if head.startswith(name) else head.find(b"\n" + name) + 1
    if start == 0 and not head.startswith(name):
        return None
    start += len(name)
    end = head.find(b"\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _kind(head: bytes) -> str:
    found = _value(head, b"Content-Type: ")
    kind = _KINDS.get(found) if found is not None else None
    if kind is None:
        shown = found[:60].decode("utf-8", "replace") if found is not None else "none"
        raise ProtocolError(f"a message with the content type {shown!r}")
    return kind


def _length(head: bytes) -> int:
    found = _value(head, b"Content-Length: ")
    return 0 if found is None else _number(found)


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 9 or int(text) > _MAX_BODY:
        raise ProtocolError(f"a message with the length {text[:20].decode('utf-8', 'replace')!r}")
    return int(text)


def encode(command: Command) -> bytes:
    """The bytes of a command. Raises ValueError for text that must not reach the wire."""
    if not command.headers and command.body is None:
        return _checked(command.line) + b"\n\n"
    return _frame([command.line, *(f"{name}: {value}" for name, value in command.headers)], command.body)


def encode_execute(uuid: str, operation: str, application: str, argument: str) -> bytes:
    """A ``sendmsg`` that runs an application after those before it (``event-lock``), its argument in the body."""
    lines = [
        f"sendmsg {uuid}",
        "call-command: execute",
        f"execute-app-name: {application}",
        f"Event-UUID: {operation}",
        "event-lock: true",
    ]
    if argument:
        lines.append("content-type: text/plain")
    return _frame(lines, argument or None)


def _frame(lines: list[str], body: str | None) -> bytes:
    if body is None:
        return b"\n".join([_checked(line) for line in lines]) + b"\n\n"
    if "\0" in body:
        raise ValueError("an argument for FreeSWITCH holds NUL")
    raw = body.encode("utf-8", "surrogatepass") if body.isascii() else body.encode("utf-8", "replace")
    return b"\n".join([*(_checked(line) for line in lines), b"content-length: %d" % len(raw)]) + b"\n\n" + raw


def _checked(line: str) -> bytes:
    if "\n" in line or "\r" in line or "\0" in line:
        raise ValueError("a line for FreeSWITCH holds a newline or NUL")
    if "mod_event_socket" in line.lower():
        raise ValueError("a line for FreeSWITCH names mod_event_socket, which could unload it")
    return line.encode("utf-8", "replace")
