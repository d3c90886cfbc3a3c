"""Tell every observer what happened; one that raises is logged and passed over.

Observers are plain callables of one event. They never block and never call back into the call. One that has a table
of ``reactions``, what it does with each type of event, is asked for it when the first event of a type comes; of types
that are not in it, it hears nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.events import CallEvent

__all__ = ["Bus"]

log = structlog.get_logger(__name__)


class Bus:
    """Hands each event to each observer, in the order they were added."""

    def __init__(self, *observers: Callable[[CallEvent], Any]) -> None:
        self._observers = list(observers)
        self._reactions: dict[type, list[Callable[[CallEvent], Any]]] = {}  # by type of event

    def observe(self, observer: Callable[[CallEvent], Any]) -> None:
        """Add an observer; it hears of every event from now on."""
        self._observers.append(observer)
        self._reactions.clear()

    def emit(self, event: CallEvent) -> None:
        """Tell everyone. Never raises and never waits."""
        kind = type(event)
        reactions = self._reactions.get(kind)
        if reactions is None:
            reactions = self._reactions[kind] = self._reactions_to(kind)
        for react in reactions:
            try:
                react(event)
            except Exception:  # an observer's fault is not the call's
                log.exception("observer_failed", observer=repr(react), event_kind=kind.__name__)

    def _reactions_to(self, kind: type) -> list[Callable[[CallEvent], Any]]:
        found = [getattr(observer, "reactions", {kind: observer}).get(kind) for observer in self._observers]
        return [reaction for reaction in found if reaction is not None]
