"""Strings with placeholders: where ``${…}`` and ``%{…}`` begin and end, and whether a body is a path.

Knows the grammar and nothing of values: :mod:`fsctl.swml.scope` looks names up and
:mod:`fsctl.swml.expression` evaluates. Pure. Implements swml-calling: placeholders.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

__all__ = ["Part", "Path", "Placeholder", "contains_placeholder", "has_placeholder", "parse_path", "parse_template"]

Path: TypeAlias = tuple[str | int, ...]

# A name may hold a dash: request_response_headers.content-type is a look-up, not a subtraction.
_PATH = re.compile(r"[^\W\d][\w$-]*(?:\.[\w$-]+|\[\d{1,9}\])*|\$[\w$-]+(?:\.[\w$-]+|\[\d{1,9}\])*")
_STEP = re.compile(r"\.?([\w$-]+)|\[(\d+)\]")
_OPENING = re.compile(r"[$%]\{")

# Words that look like a path but mean a value in JavaScript.
_JS_WORDS = frozenset({"true", "false", "null", "undefined", "NaN", "Infinity", "this"})

# What may stand before a slash that begins a regular expression rather than divides.
_BEFORE_REGEX = frozenset("(,=:[!&|?{};+-*%<>~^")
_CACHED_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One ``${body}``: ``path`` when the body is a plain path, None when it is JavaScript."""

    body: str
    path: Path | None


Part: TypeAlias = str | Placeholder


def has_placeholder(text: str) -> bool:
    """Whether ``text`` holds the beginning of a placeholder."""
    return "${" in text or "%{" in text


def contains_placeholder(value: Any) -> bool:
    """Whether a string at any depth of ``value`` (not a key) holds the beginning of a placeholder."""
    if isinstance(value, str):
        return has_placeholder(value)
    if isinstance(value, dict):
        return any(map(contains_placeholder, value.values()))
    if isinstance(value, list | tuple):
        return any(map(contains_placeholder, value))
    return False


@lru_cache(maxsize=4096)
def _parse_path(text: str) -> Path | None:
    if text in _JS_WORDS or _PATH.fullmatch(text) is None:
        return None
    return tuple(name or int(index) for name, index in _STEP.findall(text))


def parse_path(text: str) -> Path | None:
    """The keys of a plain path (``a.b[0].c-d``), or None when ``text`` is anything else."""
    return _parse_path(text) if len(text) <= _CACHED_LENGTH else None


def parse_template(text: str) -> tuple[Part, ...]:
    """``text`` as literal pieces and placeholders, in order.

    A placeholder that never closes is literal text: the language has no way to escape one.
    """
    return _parse_cached(text) if len(text) <= _CACHED_LENGTH else _parse(text)


def _parse(text: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    done = 0
    while (opening := _OPENING.search(text, done)) is not None:
        end = _closing(text, opening.end())
        if end < 0:
            break
        if opening.start() > done:
            parts.append(text[done : opening.start()])
        body = text[opening.end() : end].strip()
        parts.append(Placeholder(body, parse_path(body)))
        done = end + 1
    if done < len(text) or not parts:
        parts.append(text[done:])
    return tuple(parts)


_parse_cached = lru_cache(maxsize=2048)(_parse)


def _closing(text: str, start: int) -> int:
    """The index of the brace that closes a body beginning at ``start``, or -1.

    Braces of objects, strings, template literals, regular expressions and comments do not count.
    """
    brace = text.find("}", start)
    if brace < 0 or parse_path(text[start:brace].strip()) is not None:
        return brace
    # Each open brace is "}" or, inside a template literal's ${…}, "`": what to go back to when it closes.
    opened: list[str] = []
    before = "("
    at = start
    while at < len(text):
        char = text[at]
        if char == "}":
            if not opened:
                return at
            if opened.pop() == "`":
                at = _literal_end(text, at + 1, opened)
                char = "`"
            else:
                at += 1
        elif char == "{":
            opened.append("}")
            at += 1
        elif char == "`":
            at = _literal_end(text, at + 1, opened)
        elif char in "'\"":
            at = _string_end(text, at + 1, char)
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            at = end + 2 if end >= 0 else -1
            char = before
        elif text.startswith("//", at):
            end = text.find("\n", at)
            at = end if end >= 0 else -1
            char = before
        elif char == "/" and before in _BEFORE_REGEX:
            at = _regex_end(text, at + 1)
        else:
            at += 1
        if at < 0:
            return -1
        if not char.isspace():
            before = char
    return -1


def _string_end(text: str, at: int, quote: str) -> int:
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == quote:
            return at + 1
        else:
            at += 1
    return -1


def _literal_end(text: str, at: int, opened: list[str]) -> int:
    """Behind the closing backtick, or behind the next ``${`` of a template literal (then noted in ``opened``)."""
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text[at] == "`":
            return at + 1
        elif text.startswith("${", at):
            opened.append("`")
            return at + 2
        else:
            at += 1
    return -1


def _regex_end(text: str, at: int) -> int:
    in_class = False
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "\n":
            return -1
        elif char == "[":
            in_class = True
        elif char == "]":
            in_class = False
        elif char == "/" and not in_class:
            return at + 1
        at += 1
    return -1
