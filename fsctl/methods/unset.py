"""``unset``: forget variables, whoever made them. Implements swml-calling: unset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Text, TextList, parameter

if TYPE_CHECKING:
    from fsctl.swml.scope import Scope

__all__ = ["unset"]


@dataclass(frozen=True, slots=True)
class Unset:
    """One name or several; a name nobody knows is no mistake."""

    names: tuple[str, ...] = parameter(TextList(Text(min_length=1), one_or_many=True))


@flow_method("unset", Unset, whole=True)
def unset(scope: Scope, params: Unset) -> None:
    """Remove the names from ``vars``."""
    for name in params.names:
        scope.vars.pop(name, None)
