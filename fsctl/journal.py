"""What happens on calls, as log lines: an observer of the bus.

Warnings of scripts are for the operator's eyes at any level; the rest is told at ``debug``. The session itself logs a
call's start and end, which know more than an event does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from fsctl import log as logs
from fsctl.call.events import ControlChanged, MethodFinished, ScriptWarning

if TYPE_CHECKING:
    from fsctl.call.events import CallEvent

__all__ = ["journal"]

log = structlog.get_logger(__name__)


def journal(event: CallEvent) -> None:
    """Write the line an event is worth, if any."""
    kind = type(event)
    if kind is ScriptWarning:
        _warning(event)  # type: ignore[arg-type]  # looked at above, in the cheapest way
    elif not logs.debugging():
        return
    elif kind is ControlChanged:
        _control(event)  # type: ignore[arg-type]
    elif kind is MethodFinished:
        _method(event)  # type: ignore[arg-type]


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
