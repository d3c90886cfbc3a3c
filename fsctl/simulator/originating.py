"""``originate``: calls that go out. A leg rings a simulated party; when somebody picks up it runs an application.

Unlike the other leg of ``bridge``, such a leg is a channel like those that arrive. Left out: several dial strings at
once (``:_:``), and the dialling variables other than ``origination_uuid``, ``origination_caller_id_…``,
``originate_timeout`` and ``ignore_early_media``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gevent
import structlog
from gevent.event import Event as Signal

from fsctl.simulator import identity
from fsctl.simulator.bridging import endpoints
from fsctl.simulator.channel import Channel
from fsctl.simulator.registry import api
from fsctl.simulator.text import inline, seconds_of, separate, truth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsctl.simulator.caller import Party
    from fsctl.simulator.channel import Action
    from fsctl.simulator.identity import Address
    from fsctl.simulator.nasty import Nasty
    from fsctl.simulator.switch import Switch

__all__ = ["Outgoing"]

log = structlog.get_logger(__name__)

_USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] "
    "[<cid_name>] [<cid_num>] [<timeout_sec>]\n"
)
_DEFAULT_TIMEOUT = 60.0
_NOBODY = "0000000000"


class Outgoing(Channel):
    """A leg that the switch dials. ``settled`` is set when the attempt is over, one way or the other; ``up`` tells."""

    def __init__(
        self,
        switch: Switch,
        data: identity.ChannelData,
        *,
        address: Address,
        party: Party,
        timeout: float,
        ignores_early_media: bool,
        dialplan: Sequence[Action],
        mischief: Nasty,
    ) -> None:
        super().__init__(switch, data, behaviour=party.behaviour, mischief=mischief, dialplan=dialplan)
        self.settled = Signal()
        self.up = False
        self._address = address
        self._party = party
        self._timeout = timeout
        self._ignores_early_media = ignores_early_media
        self._responded = False

    def run(self) -> None:
        """The session greenlet: dial, and go on like any channel once somebody picked up."""
        self.ended.rawlink(lambda _: self.settled.set())
        super().run()

    def answer(self) -> None:
        """Nothing: the party answers, not we."""

    def pre_answer(self) -> None:
        """Nothing: the party opens early media, not we."""

    def acknowledge(self) -> None:
        """Nothing: it is we who acknowledge."""

    def _arrive(self) -> None:
        self.fire("CHANNEL_OUTGOING", variables=False)
        self.data.change(Channel_State="CS_INIT")
        self.fire("CHANNEL_STATE", variables=False)
        self.data.change(Channel_State_Number="2")
        self.fire("CHANNEL_CREATE")
        self.fire("CHANNEL_ORIGINATE")
        for state, number in (("CS_ROUTING", "2"), ("CS_CONSUME_MEDIA", "7")):
            self.data.change(Channel_State=state, Channel_State_Number=number)
            self.fire("CHANNEL_STATE", variables=False)
        self._dial()
        if self.hung_up:
            return
        self._set(identity.flip(self.data))
        self.data.change(Channel_HIT_Dialplan="true")
        self.fire("CALL_UPDATE", before=[("Direction", "RECV")])
        self.up = True
        self.settled.set()
        gevent.sleep(0)  # whoever asked hears of it first
        self.data.change(Channel_State="CS_EXECUTE", Channel_State_Number="4")
        self.fire("CHANNEL_STATE", variables=False)

    def _dial(self) -> None:
        """Ring until the party picks up or refuses, or the attempt is given up."""
        party = self._party
        if party.rings:
            self._ring()
        seconds = math.inf if party.cause == "NO_ANSWER" else party.after
        if party.early_media and not self._ignores_early_media:
            if seconds < math.inf:
                self.later(seconds, self._react_at_last)
            return
        if self.wait(min(seconds, self._timeout), breakable=False) == "gone":
            return
        if seconds <= self._timeout:
            self._react_at_last()
        else:
            self.hang_up("NO_ANSWER")
            self.settled.set()

    def _react_at_last(self) -> None:
        """The party picks up, or refuses."""
        if self._party.cause:
            self.hang_up(self._party.cause, "recv")
            return
        self._respond()
        self._accept()
        super().answer()
        if self._party.talks < math.inf:
            self.later(self._party.talks, self.hang_up, "NORMAL_CLEARING", "recv")

    def _ring(self) -> None:
        self._respond()
        now = self.clock.now()
        if self._party.early_media:
            self._accept()
            self.data.change(Answer_State="early")
            self.data.at("Channel-Progress-Media-Time", now)
            self.fire("CHANNEL_PROGRESS_MEDIA")
            self.call_state("EARLY")
            self.variables.set("endpoint_disposition", "EARLY MEDIA")
        else:
            self.data.at("Channel-Progress-Time", now)
            self.fire("CHANNEL_PROGRESS")
            self.call_state("RINGING")

    def _respond(self) -> None:
        if self._responded:
            return
        self._responded = True
        self.data.caller.update({"Callee-ID-Name": self._address.number, "Network-Addr": self.switch.address})
        self.data.touch()
        self._set(identity.responded_variables(self.data, self._address, host=self.switch.address))

    def _accept(self) -> None:
        if not self.media_ready:
            self.media_ready = True
            self._set(identity.accepted_variables(self.data, host=self.switch.address))

    def _set(self, variables: identity.Pairs) -> None:
        for name, value in variables:
            self.variables.set(name, value)


@api("originate")
def originate(switch: Switch, _: Channel | None, argument: str) -> str:
    """Call somebody: ``{variables}endpoint`` (or several), then ``&application(argument)`` or an extension."""
    words = separate(argument, 10)
    if not 2 <= len(words) <= 7:
        return _USAGE
    dial_string, extension, dialplan, _context, name, number, timeout = (
        None if word.lower() == "undef" else word for word in [*words, *["undef"] * (7 - len(words))]
    )
    if dial_string is None or extension is None or ":_:" in dial_string:
        log.warning("simulated_originate_unknown", problem="several dial strings, or none")
        return "-ERR FACILITY_NOT_IMPLEMENTED\n"
    caller = {"origination_caller_id_name": name or "", "origination_caller_id_number": number or _NOBODY}
    limit = seconds_of(timeout) or _DEFAULT_TIMEOUT
    cause = "DESTINATION_OUT_OF_ORDER"
    for group in endpoints(dial_string):
        legs = []
        for variables, endpoint in group:
            leg = _leg(switch, endpoint, variables, caller, limit, _actions(switch, extension, dialplan or "XML"))
            if isinstance(leg, str):
                cause = leg
            else:
                legs.append(leg)
        winner, cause = _race(legs, cause)
        if winner is not None:
            return f"+OK {winner.uuid}\n"
    return f"-ERR {cause}\n"


def _leg(
    switch: Switch,
    endpoint: str,
    variables: Mapping[str, str],
    caller: Mapping[str, str],
    limit: float,
    dialplan: Sequence[Action],
) -> Outgoing | str:
    """A leg that rings, or the cause for which there is none."""
    kind, _, cause = endpoint.partition("/")
    if kind == "error":
        return cause.upper()
    uuid = variables.get("origination_uuid") or switch.new_uuid()
    if switch.channel(uuid, ended=True) is not None:
        return "DESTINATION_OUT_OF_ORDER"
    host, known = switch.address, {**caller, **variables}
    address = identity.Address.of(endpoint, host)
    early = truth(variables.get("ignore_early_media"))
    data = identity.outgoing(
        uuid,
        address,
        name=known["origination_caller_id_name"],
        number=known["origination_caller_id_number"],
        host=host,
        created=switch.clock.now(),
    )
    switch.sessions += 1
    for header, value in identity.dialled_variables(
        data, address, host=host, session=switch.sessions, given=variables, early=not early
    ):
        data.variables.set(header, value)
    leg = Outgoing(
        switch,
        data,
        address=address,
        party=switch.party(endpoint, address.number),
        timeout=seconds_of(variables.get("originate_timeout")) or limit,
        ignores_early_media=early,
        dialplan=dialplan,
        mischief=switch.nasty,
    )
    switch.begin(leg)
    return leg


def _actions(switch: Switch, extension: str, dialplan: str) -> Sequence[Action]:
    """What the leg runs when it is up."""
    if extension.startswith("&") and len(extension) > 1:
        application, _, argument = extension[1:].partition(")")[0].partition("(")
        return [(application, argument)]
    return inline(extension) if dialplan == "inline" else switch.extension(extension)


def _race(legs: Sequence[Outgoing], cause: str) -> tuple[Outgoing | None, str]:
    """The leg that is up first, the others hung up; or the cause the first of them ended with."""
    waiting = list(legs)
    while waiting:
        gevent.wait([leg.settled for leg in waiting], count=1)
        winner = next((leg for leg in waiting if leg.up), None)
        if winner is not None:
            for leg in waiting:
                if leg is not winner:
                    leg.hang_up("LOSE_RACE")
            return winner, ""
        waiting = [leg for leg in waiting if not leg.settled.is_set()]
    return None, legs[0].hangup_cause if legs else cause
