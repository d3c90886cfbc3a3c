"""Tell every observer what happened; one that raises is logged and passed over.

Observers are plain callables of one event. They never block and never call back into the call. One that has
``kinds``, the types of the events it has a use for, hears of no others.
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
        self._hearing: dict[type, tuple[Callable[[CallEvent], Any], ...]] = {}  # who hears of a kind; found once

    def observe(self, observer: Callable[[CallEvent], Any]) -> None:
        """Add an observer; it hears of every event from now on."""
        self._observers.append(observer)
        self._hearing.clear()

    def emit(self, event: CallEvent) -> None:
        """Tell everyone. Never raises and never waits."""
        kind = type(event)
        hearing = self._hearing.get(kind)
        if hearing is None:
            hearing = self._hearing[kind] = tuple(
                observer for observer in self._observers if kind in getattr(observer, "kinds", (kind,))
            )
        for observer in hearing:
            try:
                observer(event)
            except Exception:  # an observer's fault is not the call's
                log.exception("observer_failed", observer=repr(observer), event_kind=kind.__name__)
