"""The ``bridge`` application: dial strings against simulated parties that answer, refuse or let it ring.

The other leg is no channel of its own: it has a UUID, shows up in the headers of this one, and fires no events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.simulator.identity import partner, sip_media
from fsctl.simulator.registry import application
from fsctl.simulator.reporting import CAUSES
from fsctl.simulator.text import seconds_of, split_parameters, truth

if TYPE_CHECKING:
    from fsctl.simulator.caller import Party
    from fsctl.simulator.channel import Channel

__all__ = ["Leg", "dialled", "endpoints"]

_STATUS = {
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "NO_USER_RESPONSE": "NOANSWER",
    "CALL_REJECTED": "CANCEL",
    "ORIGINATOR_CANCEL": "CANCEL",
    "UNALLOCATED_NUMBER": "INVALIDARGS",
}
_FORGIVEN = frozenset({"NO_ANSWER", "NO_USER_RESPONSE", "ORIGINATOR_CANCEL"})
_DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Leg:
    """One dialled endpoint: its text, the number in it, its UUID, who is there, how long it may ring."""

    endpoint: str
    number: str
    uuid: str
    party: Party
    timeout: float

    @property
    def answers(self) -> bool:
        """Whether the party picks up in time."""
        return not self.party.cause and self.party.after <= self.timeout

    @property
    def settled(self) -> tuple[float, str]:
        """After how long and how this leg ends unanswered."""
        if self.answers or self.party.cause == "NO_ANSWER" or self.party.after > self.timeout:
            return self.timeout, "NO_ANSWER"
        return self.party.after, self.party.cause


def dialled(channel: Channel, text: str) -> list[list[Leg]]:
    """A dial string as groups tried one after the other, each of legs that ring together."""
    return [
        [_leg(channel, endpoint, variables) for variables, endpoint in group]
        for group in endpoints(text.replace(":_:", ","))
    ]


def endpoints(text: str) -> list[list[tuple[dict[str, str], str]]]:
    """A dial string as groups tried one after the other, each of endpoints with their variables."""
    shared, text = split_parameters(text)
    groups: list[list[tuple[dict[str, str], str]]] = []
    for alternative in text.split("|"):
        pieces = [split_parameters(one.strip(), "[", "]") for one in re.split(r",(?![^\[]*\])", alternative)]
        groups.append([({**shared, **own}, endpoint) for own, endpoint in pieces if endpoint])
    return groups


def _leg(channel: Channel, endpoint: str, variables: dict[str, str]) -> Leg:
    switch = channel.switch
    kind, _, rest = endpoint.partition("/")
    number = re.split(r"[@;]", rest.split("/")[0 if kind in {"loopback", "user", "error"} else -1])[0]
    limits = [
        seconds_of(value)
        for value in (
            variables.get("leg_timeout"),
            variables.get("originate_timeout"),
            channel.variables.get("call_timeout"),
        )
        if value
    ]
    return Leg(
        endpoint,
        number,
        variables.get("origination_uuid") or switch.new_uuid(),
        switch.party(endpoint, number),
        min(limits, default=_DEFAULT_TIMEOUT),
    )


@application("bridge")
def bridge(channel: Channel, argument: str) -> None:
    """Call somebody else and let both talk."""
    variables = channel.variables
    cause = "NO_ROUTE_DESTINATION"
    for legs in dialled(channel, argument):
        for leg in legs:
            variables.push("originated_legs", f"{leg.uuid};{_called(leg)[0]};{_called(leg)[1]}")
        answering = min((leg for leg in legs if leg.answers), key=lambda leg: leg.party.after, default=None)
        seconds = answering.party.after if answering else max((leg.settled[0] for leg in legs), default=0.0)
        if channel.wait(seconds, breakable=False) == "gone":
            return
        if answering is not None:
            _talk(channel, answering, [leg for leg in legs if leg is not answering])
            return
        for leg in legs:
            cause = leg.settled[1]
            _lost(channel, leg, cause)
        goes_on = cause != "NO_ANSWER" or truth(variables.get("originate_continue_on_timeout"))
        if not goes_on:
            break
    variables.set("originate_disposition", cause)
    variables.set("DIALSTATUS", _STATUS.get(cause, "CHANUNAVAIL"))
    variables.set("originate_failed_cause", cause)
    _go_on(channel, cause)


def _called(leg: Leg) -> tuple[str, str]:
    if leg.endpoint.startswith("loopback/"):
        return "Outbound Call", leg.endpoint.split("/")[-1]
    return leg.number, leg.number


def _lost(channel: Channel, leg: Leg, cause: str) -> None:
    if leg.endpoint.startswith("sofia/") and cause == "USER_BUSY":
        for name, value in (
            ("originate_signal_bond", leg.uuid),
            ("sip_invite_failure_status", "486"),
            ("sip_invite_failure_phrase", "Busy Here"),
            ("sip_hangup_phrase", "Busy Here"),
        ):
            channel.variables.set(name, value)
    channel.variables.set("last_bridge_hangup_cause", cause)
    if leg.endpoint.startswith("sofia/") and cause == "USER_BUSY":
        channel.variables.set("last_bridge_proto_specific_hangup_cause", "sip:486")
    channel.variables.push("originate_causes", f"{leg.uuid};{cause}")


def _talk(channel: Channel, leg: Leg, losers: list[Leg]) -> None:
    variables, data, now = channel.variables, channel.data, channel.clock.now()
    for name in ("originate_signal_bond", "sip_invite_failure_status", "sip_invite_failure_phrase"):
        variables.set(name, None)
    name, number = _called(leg)
    over_sip = leg.endpoint.startswith("sofia/")
    if over_sip:
        data.at("Channel-Progress-Time", now)
        for key, value in sip_media(leg.uuid, channel.switch.address):
            variables.set(key, value)
    for loser in losers:
        _lost(channel, loser, "LOSE_RACE")
    variables.push("originate_causes", f"{leg.uuid};NONE")
    variables.set("originate_disposition", "SUCCESS")
    variables.set("DIALSTATUS", "SUCCESS")
    variables.set("signal_bond", leg.uuid)
    data.caller.update({"Callee-ID-Name": name, "Callee-ID-Number": number})
    channel_name = f"{leg.endpoint.rpartition('/')[0]}-a" if leg.endpoint.startswith("loopback/") else leg.endpoint
    data.other = partner(leg.uuid, channel_name, leg.number, data, now)
    data.at("Channel-Bridged-Time", now)
    sides = [("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", leg.uuid)]
    channel.fire("CHANNEL_BRIDGE", before=sides)
    variables.set("bridge_to", leg.uuid)
    for key, value in (
        ("last_bridge_to", leg.uuid),
        ("bridge_channel", channel_name),
        ("bridge_uuid", leg.uuid),
        ("signal_bond", leg.uuid),
        ("last_sent_callee_id_name", name),
        ("last_sent_callee_id_number", number),
    ):
        variables.set(key, value)
    if over_sip:
        variables.set("last_bridge_role", "originator")
    ended = channel.wait(leg.party.talks, on_digit=lambda _: False, breakable=False)
    variables.set("bridge_to", None)
    if not channel.hung_up:
        variables.set("last_bridge_hangup_cause", "NORMAL_CLEARING")
    variables.set("bridge_hangup_cause", channel.hangup_cause or "NORMAL_CLEARING")
    channel.fire("CHANNEL_UNBRIDGE", before=sides)
    if ended == "done" and truth(variables.get("hangup_after_bridge")):
        channel.hang_up("NORMAL_CLEARING")


def _go_on(channel: Channel, cause: str) -> None:
    wanted = channel.variables.get("continue_on_fail")
    if truth(wanted) or cause in _FORGIVEN:
        return
    named = {word.strip().upper() for word in (wanted or "").split(",")}
    if cause not in named and str(CAUSES.get(cause, -1)) not in named:
        channel.hang_up(cause)
