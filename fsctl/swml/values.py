"""JavaScript's view of JSON values: as text, as a truth. Pure.

``None`` stands for both ``null`` and ``undefined``; NaN and the infinities are floats, written as JavaScript
writes them and as ``null`` inside JSON. Integers keep all their digits, beyond the 53 bits JavaScript has.
"""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["copied", "quoted", "short", "to_text", "truthy"]


def truthy(value: Any) -> bool:
    """Whether JavaScript takes ``value`` for true: empty lists and objects are, NaN and ``""`` are not."""
    if isinstance(value, float):
        return value != 0 and not math.isnan(value)
    return isinstance(value, dict | list | tuple) or bool(value)


def to_text(value: Any) -> str:
    """``value`` as it reads inside a longer string.

    Scalars as JavaScript's ``String()`` (``true``, ``1`` not ``1.0``), null as the empty string, lists and
    objects as JSON.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"))


def copied(value: Any) -> Any:
    """``value`` with its lists and objects made anew, so that nobody shares them with a document."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value


def short(text: str) -> str:
    """``text`` cut to what a message has room for."""
    return text if len(text) <= 60 else text[:57] + "..."


def quoted(name: str) -> str:
    """A name out of a document as it may stand in a message: short, and nothing but printable characters."""
    return f"`{short(name)}`" if name.isprintable() else repr(short(name))


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "0"
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    sign = "-" if value < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    head = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{head}e{point - 1:+d}"


def _plain(value: Any) -> Any:
    """``value`` with what JSON has no word for made into what JSON.stringify makes of it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return value if value is None or isinstance(value, bool | int | str) else str(value)
