"""``transfer``: go on elsewhere and never come back. Implements swml-calling: transfer.

A document given as text is accepted, although the vendor's own platform is said not to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.swml.flow import Transfer as TransferFlow
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Anything, Dest, Object, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Document
    from fsctl.swml.scope import Scope

__all__ = ["transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Where to, and with what. ``meta`` is the author's own."""

    dest: str | Document = parameter(Dest())
    params: Mapping[str, Any] = parameter(Object(), default={})
    meta: Any = parameter(Anything(), default=None)


@flow_method("transfer", Transfer, shorthand="dest")
def transfer(scope: Scope, params: Transfer) -> TransferFlow:  # noqa: ARG001 - the interpreter binds the params
    """Leave."""
    return TransferFlow(params.dest, params.params)
