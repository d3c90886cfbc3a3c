r"""Text from documents and phones, made harmless for each place it can land in on FreeSWITCH.

There are three such places here, and each has its own rules:

* the argument of an application: ``${…}`` runs variables and API commands, so it is escaped, but only when
  FreeSWITCH would process the text at all (an escape it does not process would be heard as typed);
* the arguments of an API command: one line, split at blanks, ``'`` groups and ``\`` escapes;
* the value of a ``{name=value}`` list, which only ever holds generated text: anything else is refused.

Newlines and NUL are refused everywhere; the wire layer refuses them again.
"""

from __future__ import annotations

import re

__all__ = ["api_text", "application_argument", "list_value", "one_line"]

# What makes FreeSWITCH expand an application's argument: "$", any backslashes, "{"; or a backslash before \ n s t '.
_PROCESSED = re.compile(r"\$\\*\{|\\[\\nst']")
_LIST_VALUE = re.compile(r"[A-Za-z0-9_.:@+/%-]*")
_FORBIDDEN = re.compile(r"[\r\n\0]")


def application_argument(argument: str, *, expands: bool = True) -> str:
    r"""The text to send so that the application sees exactly ``argument``.

    ``expands`` is False on a channel that has ``app_disable_expand_variables`` set: there nothing is processed.
    The decision is made on the complete argument, as FreeSWITCH does.
    """
    if expands and _PROCESSED.search(argument):
        return argument.replace("\\", "\\\\").replace("$", "\\$")
    return argument


def api_text(text: str) -> str:
    r"""``text`` as the last argument of an API command: quotes and backslashes survive FreeSWITCH's cleaning.

    Raises ValueError for a newline or NUL, which no API argument can carry.
    """
    return one_line(text).replace("\\", "\\\\").replace("'", "\\'")


def list_value(value: str) -> str:
    """``value`` for a ``{name=value,…}`` list. Raises ValueError unless it is plain generated text."""
    if not _LIST_VALUE.fullmatch(value):
        raise ValueError(f"not fit for a variable list: {value!r}")
    return value


def one_line(text: str) -> str:
    """``text`` unchanged. Raises ValueError when it holds a newline or NUL."""
    if _FORBIDDEN.search(text):
        raise ValueError("text for FreeSWITCH holds a newline or NUL")
    return text
