"""The plain dialplan applications: answering and ending, variables, parking, and those without a visible effect.

Importing this module fills the registry with every application of the simulator.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fsctl.simulator import bridging, digits, playing, recorder, sockets  # noqa: F401 - they register themselves
from fsctl.simulator.registry import application
from fsctl.simulator.reporting import cause_named
from fsctl.simulator.text import seconds_of, split_parameters

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel

__all__: list[str] = []

_SIP_CAUSES = {
    "403": "CALL_REJECTED",
    "404": "UNALLOCATED_NUMBER",
    "408": "RECOVERY_ON_TIMER_EXPIRE",
    "410": "NUMBER_CHANGED",
    "480": "NO_USER_RESPONSE",
    "484": "INVALID_NUMBER_FORMAT",
    "486": "USER_BUSY",
    "487": "ORIGINATOR_CANCEL",
    "488": "INCOMPATIBLE_DESTINATION",
    "500": "NORMAL_TEMPORARY_FAILURE",
    "502": "NETWORK_OUT_OF_ORDER",
    "503": "NORMAL_TEMPORARY_FAILURE",
    "600": "USER_BUSY",
    "603": "CALL_REJECTED",
}


@application("answer")
def answer(channel: Channel, _: str) -> None:
    """Answer the call."""
    channel.answer()


@application("pre_answer")
def pre_answer(channel: Channel, _: str) -> None:
    """Send early media."""
    channel.pre_answer()


@application("hangup")
def hangup(channel: Channel, argument: str) -> None:
    """End the call with a cause."""
    channel.hang_up(cause_named(argument.strip()) if argument.strip() else "NORMAL_CLEARING")


@application("respond")
def respond(channel: Channel, argument: str) -> None:
    """Refuse an unanswered call with a SIP status, as ``486 Busy Here``."""
    if channel.answered:
        return
    code, _, phrase = argument.partition(" ")
    channel.refused_with = argument
    channel.variables.set("sip_invite_failure_status", code)
    channel.variables.set("sip_invite_failure_phrase", phrase)
    channel.hang_up(_SIP_CAUSES.get(code, "NORMAL_UNSPECIFIED"))


@application("park")
def park(channel: Channel, _: str) -> None:
    """Wait for messages until the call ends."""
    channel.fire("CHANNEL_PARK")
    channel.park()


@application("echo", needs_media=True)
def echo(channel: Channel, _: str) -> None:
    """Send the caller's audio back until the call ends or a break."""
    channel.wait(math.inf, on_digit=lambda _: False)


@application("set")
def set_(channel: Channel, argument: str) -> None:
    """Set a channel variable; the value is expanded once more."""
    _assign(channel, argument)


@application("unset")
def unset(channel: Channel, argument: str) -> None:
    """Remove a channel variable."""
    channel.variables.set(argument.strip(), None)


@application("multiset")
def multiset(channel: Channel, argument: str) -> None:
    """Set several channel variables, separated by spaces or (``^^:``) another character."""
    delimiter = " "
    if argument.startswith("^^") and len(argument) > 2:
        delimiter, argument = argument[2], argument[3:]
    for pair in argument.split(delimiter):
        if pair:
            _assign(channel, pair)


@application("export")
def export(channel: Channel, argument: str) -> None:
    """Set a channel variable and have it copied to legs this one calls."""
    name, equals, value = argument.partition("=")
    target = name.removeprefix("nolocal:")
    exported = [one for one in (channel.variables.get("export_vars") or "").split(",") if one]
    channel.variables.set("export_vars", ",".join([*exported, name]))
    if target == name:
        _assign(channel, f"{target}{equals}{value}")
    else:
        channel.variables.set(name, channel.expander.expand(value))


def _assign(channel: Channel, pair: str) -> None:
    name, _, value = pair.partition("=")
    channel.variables.set(name.strip(), channel.expander.expand(value) or None)


@application("transfer")
def transfer(channel: Channel, argument: str) -> None:
    """Leave for another extension, as ``<extension> [<dialplan>] [<context>]``."""
    channel.transfer(argument.split(" ", maxsplit=1)[0])


@application("deflect")
def deflect(channel: Channel, argument: str) -> None:
    """Send an answered call elsewhere with a REFER, which its network always takes; ends the call."""
    if channel.answered:
        channel.variables.set("sip_refer_reply", "SIP/2.0 202 Accepted")
        channel.variables.set("sip_refer_to", split_parameters(argument)[1])
        channel.hang_up("BLIND_TRANSFER")


@application("sched_hangup")
def sched_hangup(channel: Channel, argument: str) -> None:
    """Hang up ``+<seconds>`` from now."""
    when, _, cause = argument.partition(" ")
    channel.switch.schedule_hangup(channel, seconds_of(when.lstrip("+")), cause.strip() or "ALLOTTED_TIMEOUT")


_UNSEEN = "info log preprocess start_dtmf stop_dtmf flush_dtmf ring_ready set_audio_level detect_speech"


@application(*_UNSEEN.split())
def nothing_to_see(channel: Channel, argument: str) -> None:
    """Do what no event, variable or duration shows; there is no recogniser, so ``detect_speech`` attaches none."""
    if (channel.variables.get("current_application"), argument) == ("flush_dtmf", ""):
        channel.digits.clear()
