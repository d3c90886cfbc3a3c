"""denoise, stop_denoise, calling.denoise: less noise in what the party says.

Reference: swml-calling 3.12, calling-api 4.7.

The filter is Speex's pre-processor, which FreeSWITCH has built in: good for hum and hiss, not for voices in the
background. A call has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsctl.call.live import live_command
from fsctl.freeswitch import commands
from fsctl.swml.method import method

if TYPE_CHECKING:
    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.swml.parameters import NoParameters

__all__ = ["denoise", "start", "stop", "stop_denoise"]

_DECIBELS = 25


@method("denoise", result="denoise_result")
def denoise(call: Call, _params: NoParameters) -> None:
    """Start the filter; the script goes on. Where it runs already, nothing changes."""
    call.answer()
    start(call)
    call.vars["denoise_result"] = "on"


@method("stop_denoise", result="denoise_result")
def stop_denoise(call: Call, _params: NoParameters) -> None:
    """Take the filter off; no error where there is none."""
    stop(call)
    call.vars["denoise_result"] = "off"


def start(call: Call) -> None:
    """Put the filter on, unless it is. Raises CommandFailed, LegGone."""
    if call.controls.running("denoise"):
        return
    call.leg.ask(commands.denoise(call.leg.uuid, _DECIBELS))
    if call.controls.running("denoise"):  # somebody else asked meanwhile
        return
    control = call.control("denoise", method="denoise")
    control.stop = lambda: _stop(control)
    control.abandon = lambda: control.to("finished")
    control.to("denoising")


def stop(call: Call) -> None:
    """Take the filter off, if it is on. Raises CommandFailed, LegGone."""
    for control in call.controls.running("denoise"):
        _stop(control)


def _stop(control: Control) -> None:
    leg = control.call.leg
    leg.ask(commands.denoise_stop(leg.uuid))
    if not control.over:
        control.to("finished")


@live_command("calling.denoise")
def live_denoise(call: Call, _params: NoParameters) -> None:
    """Start the filter; where it runs already, nothing changes."""
    start(call)


@live_command("calling.denoise.stop")
def live_denoise_stop(call: Call, _params: NoParameters) -> None:
    """Take the filter off; no error where there is none."""
    stop(call)
