r"""The part of a dial string that carries text: ``{name=value,…}`` in front of an endpoint, for ``originate``.

FreeSWITCH takes such a list apart three times: the API's arguments at blanks, the list at commas, each pair at its
``=``; each time it removes ``'`` and undoes ``\`` escapes. Before that it looks for the closing brace and for ``:_:``
(which begins another dial string) without regard to either. So a value is escaped once for each pass, and those two
are seen to apart. What has no spelling at all is refused: a brace without its other half, and ``${``, for which
FreeSWITCH would drop the variable and go on. Reference: freeswitch, 2.4, 4.10. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fsctl.freeswitch.escape import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["variable_list"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_DROPPED = re.compile(r"\$\\*\{")
# Both are looked for in the whole dial string before anything in it is unquoted; the second turns that check off.
_LOOKED_FOR = re.compile(r":(?=_:)|origination_nested_vars(?==true)", re.IGNORECASE)
_ARRAY = "ARRAY::"


def variable_list(values: Mapping[str, str]) -> str:
    """``{name=value,…}`` as an argument of an API command, so that the new channel has exactly these variables.

    Empty values are left out: an empty variable is none. Raises ValueError for what no dial string can carry; it names
    the variable, never the value.
    """
    return "{" + ",".join([f"{_name(name)}={_value(name, value)}" for name, value in values.items() if value]) + "}"


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a channel variable: {name!r}")
    return name


def _value(name: str, value: str) -> str:
    try:
        one_line(value)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from None
    if _DROPPED.search(value):
        raise ValueError(f"{name}: FreeSWITCH takes no variable that holds ${{")
    if not _balanced(value):
        raise ValueError(f"{name}: a brace without its other half cannot stand in a dial string")
    if value.startswith(_ARRAY):
        raise ValueError(f"{name}: {_ARRAY} makes a list of a variable")
    of_pair = _LOOKED_FOR.sub(r"\g<0>''", _escaped(value)).replace(" ", r"\s")
    return _escaped(_escaped(of_pair).replace(",", r"\,"))


def _escaped(text: str) -> str:
    """``text`` after one pass of FreeSWITCH's unquoting is ``text``; a pair of quotes that is no text stays for it."""
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0
