"""hangup: end the call and the script. Reference: swml-calling 3.2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.freeswitch.causes import HANGUP_CAUSES
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
