"""``label``: marks a place for ``goto``; does nothing by itself. Implements swml-calling: label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.errors import ScriptError
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Text, parameter

if TYPE_CHECKING:
    from fsctl.swml.document import Where
    from fsctl.swml.scope import Scope

__all__ = ["label"]


@dataclass(frozen=True)
class _LabelText(Text):
    """Text that is not empty; the reference gives the empty one a code of its own."""

    def exact(self, value: Any, where: Where) -> str:
        text = super().exact(value, where)
        if not text:
            raise ScriptError("relay_script_element_invalid_value", "`label` must not be empty", where)
        return text


@dataclass(frozen=True, slots=True)
class Label:
    """The name, never expanded: gotos are checked against it before the call."""

    name: str = parameter(_LabelText())


@flow_method("label", Label, whole=True, unexpanded=True)
def label(scope: Scope, params: Label) -> None:
    """Go on."""
