"""``goto``: go on at a label of this section. Implements swml-calling: goto.

A label is reached from its own list of instructions and from every list nested in that one. ``max`` counts jumps,
and all gotos to a label share the count for as long as the section runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.swml.flow import Jump
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Integer, LabelName, Source, parameter
from fsctl.swml.values import truthy

if TYPE_CHECKING:
    from fsctl.swml.scope import Scope

__all__ = ["goto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goto:
    """Where to, on what condition, and how often at most."""

    label: str = parameter(LabelName())
    when: str | None = parameter(Source(), default=None)
    max: int = parameter(Integer(low=1, high=100), default=100)


@flow_method("goto", Goto, shorthand="label")
def goto(scope: Scope, params: Goto) -> Jump | None:
    """Jump, unless there is a condition and it does not hold."""
    if params.when is not None and not truthy(scope.evaluate(params.when)):
        return None
    return Jump(params.label, params.max)
