"""How FreeSWITCH's core treats text: URL encoding of header values, splitting and cleaning of API arguments.

Pure. Expansion of ``${...}`` is :mod:`fsctl.simulator.expansion`'s business.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

__all__ = ["clean", "decode_url", "encode_url", "inline", "seconds_of", "separate", "split_parameters", "truth"]

_UNSAFE = re.compile(r"%(?![0-9A-F]{2})|[\x00-\x20#&+:;<=>?@\[\\\]^`{|}\"\x7f-\U0010ffff]")
_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " ", "'": "'", '"': '"', "\\": "\\"}


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode("utf-8", "surrogateescape"))


@lru_cache(maxsize=4096)
def encode_url(text: str) -> str:
    """``text`` as the plain event form carries it: unsafe characters as ``%XX``.

    A valid upper-case ``%XX`` in the text stays as it is, as in FreeSWITCH: decoding is ambiguous.
    """
    return _UNSAFE.sub(_percent, text)


def decode_url(text: str) -> str:
    """The reverse of :func:`encode_url`, bytes that are no UTF-8 kept as surrogates."""
    return unquote(text, errors="surrogateescape")


def clean(text: str, delimiter: str = "") -> str:
    r"""Undo quotes and escapes of one separated piece: pairs of ``'`` vanish, ``\n \r \t \s \' \" \\`` are undone."""
    out: list[str] = []
    kept = 0
    quoted = False
    text = text.lstrip(" ")
    position = 0
    while position < len(text):
        character = text[position]
        following = text[position + 1 : position + 2]
        if character == "\\" and following and (following in _UNESCAPED or following == delimiter):
            out.append(_UNESCAPED.get(following, following))
            kept = len(out)
            position += 2
            continue
        if character == "'" and (quoted or "'" in text[position + 1 :]):
            quoted = not quoted
            if quoted:
                kept = len(out)
        else:
            out.append(character)
            if character != " " or quoted:
                kept = len(out)
        position += 1
    return "".join(out[:kept])


def separate(text: str, limit: int, delimiter: str = " ") -> list[str]:
    """Split ``text`` at ``delimiter`` outside quotes into at most ``limit`` cleaned pieces.

    The last piece keeps the remainder. At a space, runs of delimiters count as one; at any other each counts.
    """
    pieces: list[str] = []
    position = 0
    blank = delimiter == " "
    while position < len(text):
        if blank:
            while text[position : position + 1] == " ":
                position += 1
            if position >= len(text):
                break
        if len(pieces) == limit - 1:
            pieces.append(text[position:])
            break
        start = position
        quoted = False
        while position < len(text):
            character = text[position]
            if character == "\\":
                position += 2
                continue
            if character == "'" and (blank or quoted or "'" in text[position + 1 :]):
                quoted = not quoted
            elif character == delimiter and not quoted:
                break
            position += 1
        position = min(position, len(text))
        pieces.append(text[start:position])
        position += 1
    return [clean(piece, "" if blank else delimiter) for piece in pieces]


def split_parameters(text: str, opening: str = "{", closing: str = "}") -> tuple[dict[str, str], str]:
    """Take every leading ``{k=v,...}`` (or ``{^^;k=v;...}``) off ``text``: the parameters and the rest.

    The closing brace is found by counting, without regard to quotes; then list and pairs are cleaned.
    """
    parameters: dict[str, str] = {}
    while text.startswith(opening):
        end = _closed(text, opening, closing)
        if end < 0:
            break
        inside, text = text[1:end], text[end + 1 :].lstrip(" ")
        delimiter = ","
        if inside.startswith("^^") and len(inside) > 2:
            delimiter, inside = inside[2], inside[3:]
        for pair in separate(inside, 1024, delimiter):
            name, *value = separate(pair, 2, "=")
            if value and value[0]:
                parameters[name] = value[0]
    return parameters, text


def _closed(text: str, opening: str, closing: str) -> int:
    depth = 0
    for position, character in enumerate(text):
        depth += (character == opening) - (character == closing)
        if not depth:
            return position
    return -1


def inline(text: str) -> list[tuple[str, str]]:
    """What the inline dialplan makes of ``app:argument,app`` (or ``m:^:app:argument^app``): applications, arguments."""
    delimiter = ","
    if text.startswith("m:") and len(text) > 4:
        delimiter, text = text[2], text[4:]
    actions = [one.partition(":") for one in text.split(delimiter) if one]
    return [(name, argument) for name, _, argument in actions]


def truth(text: str | None) -> bool:
    """Whether FreeSWITCH takes ``text`` for true."""
    if not text:
        return False
    if text.lstrip("-").isdigit():
        return int(text) != 0
    return text.lower() in {"yes", "on", "true", "t", "enabled", "active", "allow"}


def seconds_of(text: str | None, default: float = 0.0) -> float:
    """``text`` as a number the way C's ``atoi`` reads it: its leading digits, else ``default``."""
    match = re.match(r"\s*[+-]?\d+", text or "")
    return float(match.group()) if match else default
