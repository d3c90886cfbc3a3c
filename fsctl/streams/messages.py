"""The messages on a stream's WebSocket, both ways. Pure. Reference: swml-calling 3.8.1, compat-streams 6.3 and 6.4.

What we send is bytes: a ``media`` message is made fifty times a second for every stream, so it is a template with four
holes. What an endpoint may send is read into one of four values; anything else raises :class:`Refused`.

Two things here are ours and not in the reference: the ``gap`` of a ``start`` after a reconnect, and that OPUS and PCMA
have an ``encoding``. A ``timestamp`` is a position in the call's audio: it goes on over audio that was dropped or lost
while ``chunk`` and ``sequenceNumber`` count what was sent, so an endpoint that looks can tell how much is missing.
"""

from __future__ import annotations

import json
from binascii import Error as NotBase64
from binascii import a2b_base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsctl.streams.audio import Format

__all__ = [
    "CONNECTED",
    "MEDIA",
    "Clear",
    "Dtmf",
    "Gap",
    "Mark",
    "Media",
    "Refused",
    "dtmf",
    "mark",
    "read",
    "start",
    "stop",
]

CONNECTED: Final = b'{"event":"connected","protocol":"Call","version":"0.2.0"}'

_MEDIA = (
    b'{"event":"media","sequenceNumber":"%%d","media":{"track":"%b","chunk":"%%d","timestamp":"%%d","payload":"%%b"}}'
)

MEDIA: Final = {track: _MEDIA % track.encode() for track in ("inbound", "outbound")}
"""By track: ``% (sequence number, chunk, milliseconds, payload in base64)``."""

MAX_NAME = 255
_DIGITS = frozenset("0123456789*#ABCD")


@dataclass(frozen=True, slots=True)
class Gap:
    """What a stream missed between two connections: ``connection`` counts from 1, the ends are timestamps in ms."""

    connection: int
    begin: int
    end: int


def start(
    stream: str,
    account: str,
    call: str,
    tracks: Sequence[str],
    form: Format,
    parameters: Mapping[str, str],
    gap: Gap | None = None,
) -> bytes:
    """The first message of a connection that has a number: 1."""
    body: dict[str, Any] = {
        "streamSid": stream,
        "accountSid": account,
        "callSid": call,
        "tracks": list(tracks),
        "customParameters": dict(parameters),
        "mediaFormat": form.media_format,
    }
    if gap is not None:
        body["gap"] = {"connection": gap.connection, "begin": str(gap.begin), "end": str(gap.end)}
    return _dump({"event": "start", "sequenceNumber": "1", "start": body})


def dtmf(sequence: int, digit: str, duration: int, stream: str | None = None) -> bytes:
    """A digit the party pressed; ``stream`` is told on two-way streams only."""
    body: dict[str, Any] = {"event": "dtmf", "sequenceNumber": str(sequence)}
    if stream is not None:
        body["streamSid"] = stream
    return _dump(body | {"dtmf": {"digit": digit, "duration": duration}})


def mark(name: str, stream: str) -> bytes:
    """The endpoint's mark back: what it queued before has been played, or cleared."""
    return _dump({"event": "mark", "streamSid": stream, "mark": {"name": name}})


def stop(sequence: int) -> bytes:
    """The last message."""
    return b'{"event":"stop","sequenceNumber":"%d"}' % sequence


def _dump(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode("ascii")


# -- from the endpoint -------------------------------------------------------------------------------------------


class Refused(ValueError):
    """A message that is none of the documented ones; says in what."""


@dataclass(frozen=True, slots=True)
class Media:
    """Audio for the call, in the stream's own encoding."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Say ``name`` back once everything before it has been played."""

    name: str


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what has not been played."""


@dataclass(frozen=True, slots=True)
class Dtmf:
    """Send a digit into the call."""

    digit: str


def read(text: bytes) -> Media | Mark | Clear | Dtmf:
    """Read a message of a two-way stream. Raises Refused."""
    try:
        message = json.loads(text.decode())
    except (ValueError, RecursionError):
        raise Refused("not JSON in UTF-8") from None
    event = message.get("event") if isinstance(message, dict) else None
    reader = _READERS.get(event) if isinstance(event, str) else None
    if reader is None:
        raise Refused("no event of media, mark, clear and dtmf")
    return reader(message)


def _part(message: Mapping[str, Any], name: str, key: str) -> str:
    part = message.get(name)
    value = part.get(key) if isinstance(part, dict) else None
    if not isinstance(value, str):
        raise Refused(f"{name}.{key} is not a text")
    return value


def _read_media(message: Mapping[str, Any]) -> Media:
    try:
        return Media(a2b_base64(_part(message, "media", "payload"), strict_mode=True))
    except (NotBase64, ValueError) as problem:
        if isinstance(problem, Refused):
            raise
        raise Refused("media.payload is not base64") from None


def _read_mark(message: Mapping[str, Any]) -> Mark:
    name = _part(message, "mark", "name")
    if len(name) > MAX_NAME:
        raise Refused(f"mark.name is longer than {MAX_NAME} characters")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise Refused("mark.name holds half a character")
    return Mark(name)


def _read_clear(_: Mapping[str, Any]) -> Clear:
    return Clear()


def _read_dtmf(message: Mapping[str, Any]) -> Dtmf:
    digit = _part(message, "dtmf", "digit")
    if digit not in _DIGITS:
        raise Refused("dtmf.digit is none of 0-9, *, # and A-D")
    return Dtmf(digit)


_READERS: Final[dict[str, Callable[[Mapping[str, Any]], Media | Mark | Clear | Dtmf]]] = {
    "media": _read_media,
    "mark": _read_mark,
    "clear": _read_clear,
    "dtmf": _read_dtmf,
}
