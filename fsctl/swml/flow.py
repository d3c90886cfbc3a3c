"""What a method may answer about flow, as values. Only the interpreter acts on them.

A method returns one of these, or None for "go on with the next instruction". Pure.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Block, Document
    from fsctl.swml.scope import Scope

__all__ = ["Choice", "Choose", "Enter", "Execute", "Flow", "Jump", "Return", "Stop", "Transfer"]


class Choice(Protocol):
    """A ``cond`` or a ``switch`` waiting to be asked (``fsctl.swml.choice``)."""

    def choose(self, scope: Scope) -> Enter | None:
        """The block to run, or None. Raises ScriptError."""


@value
class Enter:
    """Run ``block``, then go on after the instruction that answered this."""

    block: Block


@value
class Choose:
    """Ask ``choice`` for a block and run it: the ``result`` of a method that has one."""

    choice: Choice


@value
class Jump:
    """Go on at ``label`` of the current section, at most ``limit`` times for this label."""

    label: str
    limit: int


@value
class Execute:
    """Call ``dest`` (section, URL, document as text, or checked document) as a subroutine.

    ``params`` replace the caller's until it returns; then ``on_return`` runs, then, if the subroutine set a
    ``return_value``, what ``result`` chooses.
    """

    dest: str | Document
    params: Mapping[str, Any] = field(default_factory=dict)
    on_return: Block | None = None
    result: Choice | None = None


@value
class Transfer:
    """Leave the current section, and every subroutine around it, for ``dest`` and never come back."""

    dest: str | Document
    params: Mapping[str, Any] = field(default_factory=dict)


@value
class Return:
    """Leave the current subroutine with ``value`` (None: without one); outside a subroutine, end the script."""

    value: Any = None


@value
class Stop:
    """End the script: the call has been, or is being, hung up."""


Flow: TypeAlias = Enter | Choose | Jump | Execute | Transfer | Return | Stop
