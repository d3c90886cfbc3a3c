r"""Expansion of ``${...}`` in application arguments, as ``switch_channel_expand_variables`` does it.

Pure: variables and API commands are looked up through what the caller hands in, so that every API command run
by an expansion can be recorded. Left out: permission lists and the global switch that turns API expansion off.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fsctl.simulator.text import seconds_of, split_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Expander", "scoped"]

_NEEDED = re.compile(r"\$\\*\{|\\[\\nst']")
_DEEPEST = 100


class Expander:
    """Expands text against one channel.

    ``variable(name)`` and ``of_switch(name)`` answer a channel's or the switch's variable or None;
    ``api(command, argument)`` runs an API command and answers its output, or None when there is none such.
    """

    def __init__(
        self,
        variable: Callable[[str], str | None],
        of_switch: Callable[[str], str | None],
        api: Callable[[str, str], str | None],
    ) -> None:
        self._variable = variable
        self._of_switch = of_switch
        self._api = api

    def expand(self, text: str, depth: int = 0) -> str:
        """``text`` with its references replaced; the same text when nothing in it asks for processing."""
        if depth > _DEEPEST or not _NEEDED.search(text):
            return text
        out: list[str] = []
        position = 0
        while position < len(text):
            character = text[position]
            following = text[position + 1 : position + 2]
            if character == "\\" and following in {"$", "'", "\\"} and following:
                out.append("" if following == "'" else following)
                position += 2
            elif character == "$" and text.startswith("$${", position):
                inside, position = _braced(text, position + 3)
                out.append(self._reference(inside, depth, global_only=True))
            elif character == "$" and following == "{":
                inside, position = _braced(text, position + 2)
                out.append(self._reference(inside, depth, global_only=False))
            else:
                out.append(character)
                position += 1
        return "".join(out)

    def _reference(self, inside: str, depth: int, *, global_only: bool) -> str:
        called = re.search(r"[ (]", inside)
        if called and not global_only:
            name, argument = inside[: called.start()], inside[called.end() :]
            if called.group() == "(" and argument.endswith(")"):
                argument = argument[:-1]
            return self._api(name, self.expand(argument, depth + 1)) or ""
        name = self.expand(inside, depth + 1)
        name, offset, length = _sliced(name)
        index = re.fullmatch(r"(.*?)\[(-?\d+)\].*", name, re.DOTALL)
        value = None
        if not global_only:
            value = _element(self._variable(index.group(1)), int(index.group(2))) if index else self._variable(name)
        if value is None:
            value = self._of_switch(index.group(1) if index else name)
        if value is None:
            return ""
        return self.expand(_cut(value, offset, length), depth + 1)


def _braced(text: str, start: int) -> tuple[str, int]:
    """What is inside the braces opened before ``start``, and where the text goes on; unclosed means to its end."""
    depth = 1
    for position in range(start, len(text)):
        if text[position] == "{":
            depth += 1
        elif text[position] == "}":
            depth -= 1
            if not depth:
                return text[start:position], position + 1
    return text[start:], len(text)


def _sliced(name: str) -> tuple[str, int, int]:
    base, colon, rest = name.partition(":")
    if not colon:
        return name, 0, 0
    offset, _, length = rest.partition(":")
    return base, int(seconds_of(offset)), int(seconds_of(length))


def _cut(value: str, offset: int, length: int) -> str:
    if offset >= 0 or -offset <= len(value):
        value = value[offset:]
    return value[:length] if 0 < length < len(value) else value


def _element(value: str | None, index: int) -> str | None:
    if value is None:
        return None
    if not value.startswith("ARRAY::"):
        return value if index == 0 else None
    parts = value.removeprefix("ARRAY::").split("|:")
    return parts[index] if 0 <= index < len(parts) else None


def scoped(argument: str) -> tuple[dict[str, str], str]:
    """Take a leading ``%[k=v,...]`` off an expanded application argument: scoped variables and the rest."""
    if not argument.startswith("%["):
        return {}, argument
    return split_parameters(argument[1:], "[", "]")
