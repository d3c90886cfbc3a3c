"""``switch``: run the instructions that belong to a variable's value. Implements swml-calling: switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsctl.swml.choice import Switch
from fsctl.swml.method import flow_method

if TYPE_CHECKING:
    from fsctl.swml.flow import Enter
    from fsctl.swml.scope import Scope

__all__ = ["switch"]


@flow_method("switch", Switch)
def switch(scope: Scope, params: Switch) -> Enter:
    """Enter the case that matches, or the default."""
    return params.choose(scope)
