"""user_event, calling.user_event: hand an event of the author's own to whoever listens.

Reference: swml-calling 3.31, calling-api 4.12.

The vendor pushes it to its browser clients. Here it goes to ``webhooks.user_event_url`` and, as the CUSTOM event
``fsctl::user_event`` with the JSON as its body, to everything that listens on this FreeSWITCH.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.call.live import live_command
from fsctl.freeswitch import commands
from fsctl.swml.method import method
from fsctl.swml.parameters import Object, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.call.call import Call

__all__ = ["user_event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """``event`` is any JSON object."""

    event: Mapping[str, Any] = parameter(Object())


@method("user_event", UserEvent)
def user_event(call: Call, params: UserEvent) -> None:
    """Tell everyone; nothing waits for them."""
    _tell(call, params)


@live_command("calling.user_event", UserEvent)
def live_user_event(call: Call, params: UserEvent) -> None:
    """Hand an event of any form to whoever listens; nothing waits for them."""
    _tell(call, params)


def _tell(call: Call, params: UserEvent) -> None:
    call.user_event(params.event)
    body = json.dumps(params.event)
    call.leg.fire(commands.send_event("fsctl::user_event", {"Call-ID": call.info.call_id}, body))
