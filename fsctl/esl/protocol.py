"""The event socket's framing: bytes in, messages out; commands in, bytes out. Pure: no socket, no greenlet.

Correctness over recovery: an unknown or missing content type, an impossible length or an oversized header block
raises ProtocolError, which ends the connection. Outward, whatever happens above, nothing with a newline in a line or
header leaves, nor the words that make FreeSWITCH unload its own event socket. Reference: freeswitch, 1.4, 1.5, 1.13.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from fsctl.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsctl.freeswitch.commands import Command

__all__ = ["Message", "Protocol", "encode", "encode_execute", "encode_line"]

_MAX_HEADERS = 1 << 20
_MAX_BODY = 16 << 20

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
        return str(self.body, "utf-8", "replace") if self.kind == "api" else _reply_text(self.head)


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
        at, size = 0, len(data)
        kind, head, length = self._kind, self._head, self._length
        self._kind = ""
        while True:
            if not kind:
                end = data.find(b"\n\n", at)
                if end == at:  # empty lines between messages
                    at += 2
                    continue
                if end < 0:
                    if size - at > _MAX_HEADERS:
                        raise ProtocolError(f"a header block of more than {_MAX_HEADERS} bytes")
                    self._needed = 0
                    break
                head = data[at:end]
                kind, length = _announced_again(head) if end - at < _SHORT else _announced(head)
                at = end + 2
            end = at + length
            if end > size:
                self._kind, self._head, self._length = kind, head, length
                self._needed = length
                break
            yield Message(kind, head, data[at:end])
            kind, at = "", end
        rest = data[at:]
        self._held = len(rest)
        if rest:
            self._chunks.append(rest)


def _value(head: bytes, name: bytes) -> bytes | None:
    r"""The value of a header; ``name`` is ``b"\nName: "``."""
    head = b"\n" + head
    start = head.find(name)
    if start < 0:
        return None
    start += len(name)
    end = head.find(b"\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _announced(head: bytes) -> tuple[str, int]:
    """What kind of message a header block begins, and how long its body is."""
    found = _value(head, b"\nContent-Type: ")
    kind = _KINDS.get(found) if found is not None else None
    if kind is None:
        shown = found[:60].decode("utf-8", "replace") if found is not None else "none"
        raise ProtocolError(f"a message with the content type {shown!r}")
    length = _value(head, b"\nContent-Length: ")
    if length is None:
        return kind, 0
    if not length.isdigit() or len(length) > 9 or int(length) > _MAX_BODY:
        raise ProtocolError(f"a message with the length {length[:20].decode('utf-8', 'replace')!r}")
    return kind, int(length)


# FreeSWITCH begins most messages as it has begun others: a short reply, an event of some length.
_SHORT = 100
_announced_again = lru_cache(maxsize=1024)(_announced)


@lru_cache(maxsize=256)
def _reply_text(head: bytes) -> str:
    return str(_value(head, b"\nReply-Text: ") or b"", "utf-8", "replace")


def encode(command: Command) -> bytes:
    """The bytes of a command. Raises ValueError for text that must not reach the wire."""
    if not command.headers and command.body is None:
        return encode_line(command.line)
    return _frame([command.line, *[f"{name}: {value}" for name, value in command.headers]], command.body)


def encode_line(line: str) -> bytes:
    """The bytes of a command that is one line, as every API command is. Raises ValueError as ``encode``."""
    return _checked(line) + b"\n\n"


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
        return _checked(*lines) + b"\n\n"
    if "\0" in body:
        raise ValueError("an argument for FreeSWITCH holds NUL")
    raw = body.encode("utf-8", "replace")
    return _checked(*lines, f"content-length: {len(raw)}") + b"\n\n" + raw


def _checked(*lines: str) -> bytes:
    text = "\n".join(lines)
    if text.count("\n") >= len(lines) or "\r" in text or "\0" in text:
        raise ValueError("a line for FreeSWITCH holds a newline or NUL")
    if "mod_event_socket" in text.lower():
        raise ValueError("a line for FreeSWITCH names mod_event_socket, which could unload it")
    return text.encode("utf-8", "replace")
