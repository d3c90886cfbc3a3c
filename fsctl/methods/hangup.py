"""hangup, calling.end: end the call and the script. Reference: swml-calling 3.2, calling-api 3.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.call.live import live_command
from fsctl.freeswitch.causes import COMMAND_CAUSES, HANGUP_CAUSES
from fsctl.swml.flow import Stop
from fsctl.swml.method import method
from fsctl.swml.parameters import Text, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call

__all__ = ["hangup"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hangup:
    """``reason`` chooses the SIP response to a call that was not answered: busy is 486, decline is 603."""

    reason: str = parameter(Text(choices=tuple(HANGUP_CAUSES)), default="hangup")


@method("hangup", Hangup)
def hangup(call: Call, params: Hangup) -> Stop:
    """Hang up."""
    call.to("ending")
    call.leg.hang_up(HANGUP_CAUSES[params.reason])
    return Stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """As ``hangup``, with more reasons: each is what the call's ``end_reason`` will be."""

    reason: str = parameter(Text(choices=tuple(COMMAND_CAUSES)), default="hangup")


@live_command("calling.end", End, states=("queued", "initiated", "created", "ringing", "answered", "ending"))
def end(call: Call, params: End) -> dict[str, str]:
    """Hang up, or stop dialling. That it has happened is told by the call's states."""
    if call.state == "answered":  # before, an answer may still come in between
        call.to("ending")
    call.leg.hang_up(COMMAND_CAUSES[params.reason])
    return {"status": "ending"}
