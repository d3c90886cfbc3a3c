"""Tell every observer what happened; one that raises is logged and passed over.

Observers are plain callables of one event. They never block and never call back into the call.
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

    def observe(self, observer: Callable[[CallEvent], Any]) -> None:
        """Add an observer; it hears of every event from now on."""
        self._observers.append(observer)

    def emit(self, event: CallEvent) -> None:
        """Tell everyone. Never raises and never waits."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # an observer's fault is not the call's
                log.exception("observer_failed", observer=repr(observer), event_kind=type(event).__name__)
