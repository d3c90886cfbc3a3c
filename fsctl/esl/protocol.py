"""The event socket's framing: bytes in, messages out; commands in, bytes out. Pure: no socket, no greenlet.

An event is 5 to 10 kB of which one or two values matter, so it is not even copied: it is looked at where it arrived.

Correctness over recovery: an unknown or missing content type, an impossible length or an oversized header block
is a problem, which ends the connection. Outward, whatever happens above, nothing with a newline in a line or
header leaves, nor the words that make FreeSWITCH unload its own event socket. Reference: freeswitch, 1.4, 1.5, 1.13.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fsctl.errors import ProtocolError

if TYPE_CHECKING:
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

    ``kind`` is ``event`` (of JSON), ``reply``, ``api``, ``notice``, ``auth``, ``rejection`` or ``other``; ``head`` the
    header block without its empty line. ``text`` is what a reply says: the output of an API command, or ``Reply-Text``
    as it was sent. The body, exactly as many bytes as announced, is ``data[start:end]``, and there only until what
    arrived is overwritten.
    """

    kind: str
    head: bytes
    text: str
    data: bytes | bytearray
    start: int
    end: int

    @property
    def body(self) -> bytes:
        """A copy of the body."""
        return bytes(self.data[self.start : self.end])


class Protocol:
    """Puts arriving bytes together; knows nothing of where they come from.

    ``problem`` says what was wrong, once something was; the connection must then be closed.
    """

    __slots__ = ("_begun", "_chunks", "_held", "_needed", "problem")

    def __init__(self) -> None:
        self.problem = ""
        self._chunks: list[bytes] = []  # what arrived and was not used yet
        self._held = 0  # how many bytes that is
        self._needed = 0  # how many there have to be before another look is worth it
        self._begun: _Begun | None = None  # the message whose body is awaited

    @property
    def idle(self) -> bool:
        """True between messages; False when the stream would end in the middle of one."""
        return not self._held and self._begun is None

    def receive(self, data: bytes | bytearray, size: int | None = None) -> list[Message]:
        """Every message that the first ``size`` bytes of ``data`` complete; all of them, when nothing is said.

        After garbage come none: look at ``problem`` each time. Raises ProtocolError when it is called in spite of one.
        """
        if self.problem:
            raise ProtocolError(self.problem)
        messages: list[Message] = []
        if size is None:
            size = len(data)
        if self._held:
            self._chunks.append(bytes(data[:size]))
            self._held += size
            if self._held < self._needed:
                return messages
            data = b"".join(self._chunks)
            self._chunks.clear()
            size = self._held
        at = 0
        begun, self._begun = self._begun, None
        while True:
            if begun is None:
                end = data.find(b"\n\n", at, size)
                if end == at:  # empty lines between messages
                    at += 2
                    continue
                if end < 0:
                    if size - at > _MAX_HEADERS:
                        self.problem = f"a header block of more than {_MAX_HEADERS} bytes"
                        return messages
                    self._needed = 0
                    break
                head = bytes(data[at:end])
                try:
                    begun = _announced_again(head) if end - at < _SHORT else _announced(head)
                except ProtocolError as error:
                    self.problem = str(error)  # not the error itself: its stack would hold us
                    return messages
                at = end + 2
            kind, head, length, text = begun
            end = at + length
            if end > size:
                self._begun = begun
                self._needed = length
                break
            if kind == "api":
                text = str(data[at:end], "utf-8", "replace")
            messages.append(_tuple(Message, (kind, head, text, data, at, end)))
            begun, at = None, end
        self._held = size - at
        if self._held:
            self._chunks.append(bytes(data[at:size]))
        return messages


_Begun: TypeAlias = tuple[str, bytes, int, str]  # kind, head, length of the body, text of a reply
_tuple = tuple.__new__  # what `Message(...)` does, without the Python function around it


def _value(head: bytes, name: bytes) -> bytes | None:
    """The value of a header; ``name`` is ``b"Name: "``."""
    start = 0
    if not head.startswith(name):
        start = head.find(b"\n" + name) + 1
        if not start:
            return None
    start += len(name)
    end = head.find(b"\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _announced(head: bytes) -> _Begun:
    """What kind of message a header block begins, how long its body is, and what it says if it is a reply."""
    found = _value(head, b"Content-Type: ")
    kind = _KINDS.get(found) if found is not None else None
    if kind is None:
        shown = found[:60].decode("utf-8", "replace") if found is not None else "none"
        raise ProtocolError(f"a message with the content type {shown!r}")
    text = str(_value(head, b"Reply-Text: ") or b"", "utf-8", "replace") if kind == "reply" else ""
    length = _value(head, b"Content-Length: ")
    if length is None:
        return kind, head, 0, text
    if not length.isdigit() or len(length) > 9 or int(length) > _MAX_BODY:
        raise ProtocolError(f"a message with the length {length[:20].decode('utf-8', 'replace')!r}")
    return kind, head, int(length), text


# FreeSWITCH begins most messages as it has begun others: a short reply, an event of some length.
_SHORT = 100
_announced_again = lru_cache(maxsize=1024)(_announced)


def encode(command: Command) -> bytes:
    """The bytes of a command. Raises ValueError for text that must not reach the wire."""
    return _frame(command.line, [f"{name}: {value}" for name, value in command.headers], command.body)


def encode_line(line: str, *headers: str) -> bytes:
    """The bytes of a command without a body; an API command is one line. Raises ValueError as ``encode``."""
    text = "\n".join((line, *headers))
    if text.count("\n") > len(headers) or "\r" in text or "\0" in text:
        raise ValueError("a line for FreeSWITCH holds a newline or NUL")
    if "mod_event_socket" in text.lower():
        raise ValueError("a line for FreeSWITCH names mod_event_socket, which could unload it")
    return text.encode("utf-8", "replace") + b"\n\n"


def encode_execute(uuid: str, operation: str, application: str, argument: str) -> bytes:
    """A ``sendmsg`` that runs an application after those before it (``event-lock``), its argument in the body."""
    headers = [
        "call-command: execute",
        f"execute-app-name: {application}",
        f"Event-UUID: {operation}",
        "event-lock: true",
    ]
    if argument:
        headers.append("content-type: text/plain")
    return _frame(f"sendmsg {uuid}", headers, argument or None)


def _frame(line: str, headers: list[str], body: str | None) -> bytes:
    if body is None:
        return encode_line(line, *headers)
    if "\0" in body:
        raise ValueError("an argument for FreeSWITCH holds NUL")
    raw = body.encode("utf-8", "replace")
    return encode_line(line, *headers, f"content-length: {len(raw)}") + raw
