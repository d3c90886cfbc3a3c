"""The methods of the language, one subject a file: adding a file is all it takes to add a method.

``METHODS`` holds every :class:`fsctl.swml.method.Method` the modules of this folder define, ``COMMANDS`` every
:class:`fsctl.call.live.Command`: what REST may ask of a call that is up.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TypeVar

from fsctl.call.live import Command, Commands
from fsctl.swml.method import Method, Methods

__all__ = ["COMMANDS", "METHODS"]

T = TypeVar("T", Command, Method)


def _defined(kind: type[T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, kind) and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"{module.name} defines {value.name} a second time")
    return found


METHODS = Methods(_defined(Method).values())
COMMANDS = Commands(_defined(Command).values())
