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

    __slots__ = ("_buffer", "_length", "_message", "_scanned")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # how much of the buffer is known to hold no end of a header block
        self._message: tuple[str, bytes] | None = None  # kind and head of the message whose body is awaited
        self._length = 0

    @property
    def idle(self) -> bool:
        """True between messages; False when the stream would end in the middle of one."""
        return not self._buffer and self._message is None

    def receive(self, data: bytes) -> Iterator[Message]:
        """Every message that ``data`` completes. Raises ProtocolError; the connection must then be closed."""
        buffer = self._buffer
        buffer += data
        while True:
            if self._message is None:
                end = buffer.find(b"\n\n", max(self._scanned - 1, 0))
                if end < 0:
                    self._scanned = len(buffer)
                    if len(buffer) > _MAX_HEADERS:
                        raise ProtocolError(f"a header block of more than {_MAX_HEADERS} bytes")
                    return
                head = bytes(buffer[:end])
                del buffer[: end + 2]
                self._scanned = 0
                if head.endswith(_EVENT_END) and head.startswith(_EVENT_START):  # most of what comes
                    self._message, self._length = ("event", head), _number(head[len(_EVENT_START) : -len(_EVENT_END)])
                elif head.strip(b"\n"):
                    self._message, self._length = (_kind(head), head), _length(head)
                else:
                    continue
            if len(buffer) < self._length:
                return
            body = bytes(buffer[: self._length])
            del buffer[: self._length]
            (kind, head), self._message = self._message, None
            yield Message(kind, head, body)


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
