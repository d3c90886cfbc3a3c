"""The methods of the language, one subject a file: adding a file is all it takes to add a method.

``METHODS`` holds every :class:`fsctl.swml.method.Method` the modules of this folder define.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from fsctl.swml.method import Method, Methods

__all__ = ["METHODS"]


def _defined() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, Method) and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"{module.name} defines the method {value.name} a second time")
    return found


METHODS = Methods(_defined().values())
