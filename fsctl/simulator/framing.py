"""Framing of mod_event_socket: what an application sends, cut into commands; what FreeSWITCH answers, as bytes.

Pure. Keeps FreeSWITCH's oddities: a bare CR hides the headers before it, and a header block that mentions (re)loading
mod_event_socket is taken for exactly that command.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Command", "Reader", "api_response", "notice", "rejection", "reply"]

REJECTION = b"Access Denied, go away.\n"
GOODBYE = b"Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"
_REPLY_LIMIT = 511
_END = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its first line, its headers (lower-case names, first one wins) and its body.

    ``spelled`` are the header names as they were written, ``raw`` is everything as it came.
    """

    line: str
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    raw: bytes = b""
    spelled: dict[str, str] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        """The first word, lower case."""
        return self.line.partition(" ")[0].lower()

    @property
    def rest(self) -> str:
        """The line after the first word."""
        return self.line.partition(" ")[2].strip(" ")


class Reader:
    """Cuts a byte stream into commands."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> None:
        """Take in what the socket gave."""
        self._data += data

    def next(self) -> Command | None:
        """The next whole command, or None when more bytes are needed."""
        data = self._data
        if data.startswith((b"\r", b"\n")):
            del data[: len(data) - len(data.lstrip(b"\r\n"))]
            self._searched = 0
        end = _END.search(data, max(0, self._searched - 2))
        if end is None:
            self._searched = len(data)
            return None
        block = bytes(data[: end.start()])
        line, headers, lengths, spelled = _parse(block.decode("utf-8", "surrogateescape"))
        wanted = end.end() + sum(lengths)
        if len(data) < wanted:
            return None
        body = bytes(data[end.end() : end.end() + lengths[0]]) if lengths else b""
        raw = bytes(data[:wanted])
        del data[:wanted]
        self._searched = 0
        return Command(line, headers, body.decode("utf-8", "surrogateescape"), raw, spelled)


def _parse(block: str) -> tuple[str, dict[str, str], list[int], dict[str, str]]:
    lowered = block.lower()
    if "mod_event_socket" in lowered and (word := next((w for w in ("unload", "reload") if w in lowered), None)):
        return f"api bgapi {word} mod_event_socket", {}, [], {}
    first, *lines = (line.removesuffix("\r") for line in block.split("\n"))
    headers: dict[str, str] = {}
    spelled: dict[str, str] = {}
    lengths: list[int] = []
    for line in lines:
        if "\r" in line:
            headers.clear()
            continue
        name, colon, value = line.partition(":")
        if not colon:
            continue
        value = value.lstrip(" ")
        key = name.strip().lower()
        headers.setdefault(key, value)
        spelled.setdefault(key, name.strip())
        if key == "content-length" and value.strip().isdigit():
            lengths.append(int(value))
    return first.strip(), headers, lengths, spelled


def reply(text: str, *more: tuple[str, str]) -> bytes:
    """A ``command/reply``; ``more`` are headers after it."""
    lines = [f"Content-Type: command/reply\nReply-Text: {text[:_REPLY_LIMIT]}\n"]
    lines.extend(f"{name}: {value}\n" for name, value in more)
    return ("".join(lines) + "\n").encode("utf-8", "surrogateescape")


def api_response(output: str) -> bytes:
    """An ``api/response`` with a command's output."""
    body = output.encode("utf-8", "surrogateescape")
    return b"Content-Type: api/response\nContent-Length: %d\n\n%b" % (len(body), body)


def rejection() -> bytes:
    """What an inbound connection hears that the access control list turns away."""
    return b"Content-Type: text/rude-rejection\nContent-Length: %d\n\n%b" % (len(REJECTION), REJECTION)


def notice(disposition: str, *, uuid: str = "", channel_name: str = "", linger: int | None = None) -> bytes:
    """A ``text/disconnect-notice``: of kind ``linger`` (no body) or ``disconnect`` (a goodbye).

    An inbound connection has no ``uuid``; its notice does not say of what kind it is.
    """
    lines = ["Content-Type: text/disconnect-notice\n"]
    if uuid:
        lines.append(f"Controlled-Session-UUID: {uuid}\n")
        lines.append(f"Content-Disposition: {disposition}\n")
    body = GOODBYE
    if disposition == "linger":
        body = b""
        lines.append(f"Channel-Name: {channel_name}\n")
        if linger is not None:
            lines.append(f"Linger-Time: {linger}\n")
    lines.append(f"Content-Length: {len(body)}\n\n")
    return "".join(lines).encode("utf-8", "surrogateescape") + body
