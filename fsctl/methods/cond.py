"""``cond``: run the instructions of the first condition that holds. Implements swml-calling: cond."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsctl.swml.choice import Cond
from fsctl.swml.method import flow_method

if TYPE_CHECKING:
    from fsctl.swml.flow import Enter
    from fsctl.swml.scope import Scope

__all__ = ["cond"]


@flow_method("cond", Cond, whole=True)
def cond(scope: Scope, params: Cond) -> Enter | None:
    """Enter what holds; with no ``else`` nothing may."""
    return params.choose(scope)
