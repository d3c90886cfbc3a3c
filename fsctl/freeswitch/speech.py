"""A speech recogniser of FreeSWITCH, and what it said in the forms the modules have: JSON, NLSML, the bare words. Pure.

Reference: freeswitch 4.9.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import unescape

__all__ = ["Heard", "Recogniser", "heard"]

_INPUT = re.compile(r"<input\b[^>]*>([^<]*)</input>", re.IGNORECASE)
_SILENCE = re.compile(r"<no-?input\b|\bno[-_ ]?input\b", re.IGNORECASE)
_CONFIDENCE = re.compile(r"""\bconfidence=["']([0-9.]{1,20})["']""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Recogniser:
    """The recogniser's name as its module registers it, and the grammar that lets it understand anything."""

    engine: str
    grammar: str


@dataclass(frozen=True, slots=True)
class Heard:
    """``text`` is empty when nothing was understood; ``silent`` tells that nothing was said either.

    ``confidence`` is from 0 to 1, and 0 when the recogniser gives none.
    """

    text: str
    confidence: float = 0.0
    silent: bool = False


def heard(result: str) -> Heard:
    """Read the body of a ``detected-speech`` event."""
    result = result.strip()
    if result.startswith("{"):
        try:
            return _of_json(json.loads(result))
        except (ValueError, RecursionError):
            return Heard("")
    if result.startswith("<"):
        return _of_nlsml(result)
    return Heard(result)


def _of_json(result: dict[str, object]) -> Heard:
    best = result
    alternatives = result.get("alternatives")
    if isinstance(alternatives, list) and alternatives and isinstance(alternatives[0], dict):
        best = alternatives[0]
    text = best.get("text", best.get("transcript"))
    return Heard(
        text.strip() if isinstance(text, str) else "",
        _confidence(best.get("confidence")),
        silent=_SILENCE.search(str(result.get("error", ""))) is not None,
    )


def _of_nlsml(result: str) -> Heard:
    text = _INPUT.search(result)
    confidence = _CONFIDENCE.search(result)
    return Heard(
        unescape(text[1]).strip() if text else "",
        _confidence(confidence[1] if confidence else None),
        silent=_SILENCE.search(result) is not None,
    )


def _confidence(value: object) -> float:
    """Some count to 1, some to 100."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    number = number / 100 if number > 1 else number
    return number if 0 <= number <= 1 else 0.0
