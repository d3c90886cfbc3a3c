"""``return``: leave a subroutine with a value, or end the script. Implements swml-calling: return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.swml.flow import Return as ReturnFlow
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Anything, parameter
from fsctl.swml.values import copied

if TYPE_CHECKING:
    from fsctl.swml.scope import Scope

__all__ = ["return_"]


@dataclass(frozen=True, slots=True)
class Return:
    """Any value; null and ``{}`` are how "no value" is written."""

    value: Any = parameter(Anything(), default=None)


@flow_method("return", Return, whole=True)
def return_(scope: Scope, params: Return) -> ReturnFlow:  # noqa: ARG001
    """Go back."""
    return ReturnFlow(None if params.value == {} else copied(params.value))
