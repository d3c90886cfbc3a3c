"""What a document may name as a sound, as values: a URL, words to say, silence, a ringing tone.

Reads the text of one playable sound and nothing else: it fetches nothing (``media.files``), knows no voices
(``media.voices``) and no tones (``media.rings``). Pure. Reference: swml-calling, "play", playable sounds.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING, TypeAlias

from fsctl.errors import ScriptError
from fsctl.media.rings import CADENCES, Ring
from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_SECONDS", "MAX_TEXT", "Audio", "Ring", "Silence", "Sound", "Speech", "parse"]

MAX_TEXT = 4096
"""The longest URL or text to say, in characters."""

MAX_SECONDS = 24 * 3600.0
"""The longest silence or ringing: longer than any call should last."""

ACCEPTED = "http://… or https://…, say:<text>, silence:<seconds>, ring:[<seconds>:]<country>"

_INVALID = "relay_script_method_parameter_invalid_value"
_FAILED = "relay_script_method_execute_failed"

_SCHEME = re.compile(r"\s*([A-Za-z]+):(.*)", re.DOTALL)
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_LINE_BREAKS = re.compile(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@value
class Audio:
    """An audio file to fetch. ``url`` is ``http(s)`` and may hold credentials, so it is not part of the repr."""

    url: str = field(repr=False)


@value
class Speech:
    """Words to say: one line, not empty; SSML when it begins with ``<speak``."""

    text: str


@value
class Silence:
    """So many seconds of nothing; 0.0 is over at once."""

    seconds: float


Sound: TypeAlias = Audio | Speech | Silence | Ring


def parse(text: str) -> Sound:
    """Read the sound that ``text`` names.

    The scheme's case does not matter, blanks after a colon and at the end do not either, and line breaks in a
    text to say are blanks. Raises ScriptError ``relay_script_method_parameter_invalid_value`` for what is no
    playable sound, and ``relay_script_method_execute_failed`` for a ``say:`` without words, which is what an
    unset variable leaves behind.
    """
    match = _SCHEME.fullmatch(text)
    read = _SCHEMES.get(match[1].lower()) if match else None
    if match is None or read is None:
        raise _invalid(text, f"is not a playable sound; accepted are {ACCEPTED}")
    return read(text, match[2].strip())


def _audio(text: str, rest: str) -> Audio:
    if not rest.startswith("//") or not rest.strip("/"):
        raise _invalid(text, "is a URL without a host")
    if len(rest) > MAX_TEXT or _CONTROL.search(rest):
        raise _invalid(text, f"is a URL of more than {MAX_TEXT} characters, or one with a control character in it")
    scheme = "https:" if text.lstrip()[:6].lower() == "https:" else "http:"
    return Audio(scheme + rest)


def _speech(text: str, rest: str) -> Speech:
    words = _LINE_BREAKS.sub(" ", rest)
    if not words:
        raise ScriptError(_FAILED, "say: has no words to say; was a variable in it not set?")
    if len(words) > MAX_TEXT:
        raise _invalid(text, f"has {len(words)} characters to say; at most {MAX_TEXT} can be said at once")
    return Speech(words)


def _silence(text: str, rest: str) -> Silence:
    return Silence(_seconds(text, rest))


def _ring(text: str, rest: str) -> Ring:
    before, colon, after = rest.partition(":")
    country = (after if colon else before).strip().lower()
    if country not in CADENCES:
        raise _invalid(text, f"names no ringing tone we know; known are {' '.join(CADENCES)}")
    duration = before.strip() if colon else ""
    seconds = _seconds(text, duration) if duration else None
    if seconds is not None and seconds < 0.001:
        raise _invalid(text, "rings for no time; leave the seconds out for one ring")
    return Ring(seconds, country)


def _seconds(text: str, number: str) -> float:
    # The length is looked at first: reading a million digits takes long.
    if len(number) > 32 or not _DECIMAL.fullmatch(number):
        raise _invalid(text, f"needs a number of seconds such as 2 or 1.5, not {_shown(number)}")
    seconds = float(number)
    if seconds > MAX_SECONDS:
        raise _invalid(text, f"lasts longer than {MAX_SECONDS:.0f} seconds")
    return seconds


_SCHEMES: dict[str, Callable[[str, str], Sound]] = {
    "http": _audio,
    "https": _audio,
    "say": _speech,
    "silence": _silence,
    "ring": _ring,
}


def _invalid(text: str, problem: str) -> ScriptError:
    return ScriptError(_INVALID, f"{_shown(text)} {problem}")


def _shown(text: str) -> str:
    # Between // and @ there may be a password; what follows the ? of a URL may be a token.
    start, end = text.find("//"), text.rfind("@")
    if start >= 0:
        text = (text[: start + 2] + "…" + text[end:] if start < end else text).partition("?")[0]
    return repr(text if len(text) <= 60 else text[:59] + "…")
