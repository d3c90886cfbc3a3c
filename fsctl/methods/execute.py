"""``execute``: run a section or a document as a subroutine. Implements swml-calling: execute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.swml.choice import Result
from fsctl.swml.flow import Execute as ExecuteFlow
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Anything, Block_, Dest, Object, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Block, Document
    from fsctl.swml.flow import Choice
    from fsctl.swml.scope import Scope

__all__ = ["execute"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """What to run, with what, and what to do afterwards. ``meta`` is the author's own."""

    dest: str | Document = parameter(Dest())
    params: Mapping[str, Any] = parameter(Object(), default={})
    meta: Any = parameter(Anything(), default=None)
    on_return: Block | None = parameter(Block_(), default=None)
    result: Choice | None = parameter(Result(), default=None)


@flow_method("execute", Execute, shorthand="dest")
def execute(scope: Scope, params: Execute) -> ExecuteFlow:  # noqa: ARG001 - the interpreter binds the params
    """Call the subroutine."""
    return ExecuteFlow(params.dest, params.params, params.on_return, params.result)
