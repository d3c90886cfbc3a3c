"""What a method may answer about flow, as values. Only the interpreter acts on them.

A method returns one of these, or None for "go on with the next instruction". Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Block

__all__ = ["Enter", "Execute", "Flow", "Jump", "Return", "Stop", "Transfer"]


@dataclass(frozen=True, slots=True)
class Enter:
    """Run ``block``, then go on after the instruction that answered this."""

    block: Block


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on at ``label`` of the current section, at most ``limit`` times for this label."""

    label: str
    limit: int


@dataclass(frozen=True, slots=True)
class Execute:
    """Call ``dest`` (section, URL or inline document) as a subroutine.

    ``params`` replace the caller's until it returns; then ``on_return`` runs, then, if the subroutine set a
    ``return_value``, ``result`` (a method's answer computed from it).
    """

    dest: str
    params: Mapping[str, Any] = field(default_factory=dict)
    on_return: Block | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Leave the current section for ``dest`` and never come back."""

    dest: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Return:
    """Leave the current subroutine with ``value``; outside one, end the script."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class Stop:
    """End the script: the call has been, or is being, hung up."""


Flow: TypeAlias = Enter | Jump | Execute | Transfer | Return | Stop
