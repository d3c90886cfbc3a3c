"""``set``: give variables values. Implements swml-calling: set.

Names are expanded one after the other in the order they are written, so each sees those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Object, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.scope import Scope

__all__ = ["set_"]


@dataclass(frozen=True, slots=True)
class Set:
    """Names and their values, as written."""

    values: Mapping[str, Any] = parameter(Object())


@flow_method("set", Set, whole=True, unexpanded=True)
def set_(scope: Scope, params: Set) -> None:
    """Merge the values into ``vars``."""
    for name, value in params.values.items():
        scope.vars[name] = scope.expand(value)
