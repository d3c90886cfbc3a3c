"""What happens on calls, as log lines: an observer of the bus.

Warnings of scripts are for the operator's eyes at any level; the rest is told at ``debug``. The session itself logs a
call's start and end, which know more than an event does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from fsctl import log as logs
from fsctl.call.events import ControlChanged, MethodFinished, ScriptWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.events import CallEvent

__all__ = ["journal"]

log = structlog.get_logger(__name__)


class _Journal:
    """Writes the line an event is worth, if any."""

    @property
    def reactions(self) -> Mapping[type, Callable[[Any], None]]:
        """What is worth a line at the log's level."""
        return _LINES if logs.debugging() else {ScriptWarning: _warning}

    def __call__(self, event: CallEvent) -> None:
        if (line := self.reactions.get(type(event))) is not None:
            line(event)


def _warning(event: ScriptWarning) -> None:
    say = log.error if event.fatal else log.warning
    say(
        "script_error" if event.fatal else "script_warning",
        call_id=event.call.call_id,
        code=event.code,
        problem=event.message,
        method=event.method,
        section=event.section,
        index=event.index,
        at=event.path,
    )


def _control(event: ControlChanged) -> None:
    log.debug(
        "control",
        call_id=event.call.call_id,
        control_id=event.control_id,
        kind=event.kind,
        state=event.state,
        method=event.method,
    )


def _method(event: MethodFinished) -> None:
    log.debug(
        "method",
        call_id=event.call.call_id,
        method=event.method,
        section=event.section,
        at=event.path,
        outcome=event.outcome,
        seconds=round(event.seconds, 4),
    )


_LINES: Final[Mapping[type, Callable[[Any], None]]] = {
    ScriptWarning: _warning,
    ControlChanged: _control,
    MethodFinished: _method,
}

journal: Final = _Journal()
