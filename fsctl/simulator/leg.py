"""One party's leg as FreeSWITCH holds it: who it is, its media and signalling, its digits and its variables.

Nothing here takes time or executes anything: that is :class:`fsctl.simulator.channel.Channel`, which adds the session.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gevent.event import Event as Signal

from fsctl.simulator import identity, reporting
from fsctl.simulator.call import Said
from fsctl.simulator.caller import keys
from fsctl.simulator.events import Event
from fsctl.simulator.text import seconds_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import gevent

    from fsctl.simulator.bugs import Bug
    from fsctl.simulator.caller import Caller
    from fsctl.simulator.events import Headers
    from fsctl.simulator.nasty import Nasty
    from fsctl.simulator.playing import Playing
    from fsctl.simulator.recorder import Recording
    from fsctl.simulator.streamer import Stream
    from fsctl.simulator.switch import Switch
    from fsctl.simulator.wire import Listener

__all__ = ["Digit", "Leg"]

DICTATES_AFTER = 0.5
"""Seconds from the beginning of a recording until a caller who talks to recordings begins."""

_CALL_STATES = ("DOWN", "DIALING", "RINGING", "EARLY", "ACTIVE", "HELD", "RING_WAIT", "HANGUP", "UNHELD")


@dataclass(frozen=True, slots=True)
class Digit:
    """A key the caller pressed; ``duration`` in samples, ``source`` as DTMF events say it."""

    key: str
    duration: int = 2000
    source: str = "RTP"


class Leg:
    """What a channel is, without the session that runs it."""

    def __init__(self, switch: Switch, data: identity.ChannelData, behaviour: Caller, mischief: Nasty) -> None:
        self.switch = switch
        self.clock = switch.clock
        self.data = data
        self.uuid = data.uuid
        self.variables = data.variables
        self.behaviour = behaviour
        self.nasty = mischief
        self.started = self.clock.now()
        self.answered_at = 0.0
        self.media_ready = False
        self.hangup_cause = ""
        self.refused_with = ""
        self.redirecting = False
        self.dialed = ""
        self.sent_digits = ""
        self.digits: deque[Digit] = deque(maxlen=256)
        self.levels: dict[tuple[str, str], int] = {}
        self.heard: list[tuple[float, float]] = []
        self.mixed_in: list[tuple[float, float]] = []
        self.playing: list[Playing] = []
        self.bugs: list[Bug] = []
        self.recordings: list[Recording] = []
        self.streams: list[Stream] = []
        self.listeners: list[Listener] = []
        self.transcript: list[Said] = []
        self.apis: list[str] = []
        self._acknowledged = True
        self._pressing = False
        self._dictated: list[tuple[float, float]] = []
        self._wake = Signal()
        self._timers: list[gevent.Greenlet] = []

    # What the channel is now

    @property
    def hung_up(self) -> bool:
        """Whether the call is over, be it still lingering."""
        return bool(self.hangup_cause)

    @property
    def gone(self) -> bool:
        """Whether applications have to return: hung up, or redirected elsewhere."""
        return bool(self.hangup_cause) or self.redirecting

    @property
    def outbound(self) -> bool:
        """Whether the switch called the party."""
        return self.data.state["Call-Direction"] == "outbound"

    @property
    def answered(self) -> bool:
        """Whether the call was ever answered."""
        return self.answered_at > 0

    @property
    def state(self) -> str:
        """The channel's ``CS_`` state."""
        return self.data.state["Channel-State"]

    def fire(
        self,
        name: str,
        *,
        before: Headers | None = None,
        after: Headers | None = None,
        variables: bool = True,
        subclass: str = "",
        body: str | None = None,
        origin: str = "",
    ) -> None:
        """Fire an event that carries this channel's data."""
        switch = self.switch
        event = Event(
            name,
            switch.core.stamp(),
            channel=self.data,
            before=before,
            after=after,
            variables=variables,
            subclass=subclass,
            body=body,
            origin=origin,
        )
        switch.deliver(event)
        if name in self.nasty.duplicated:
            switch.deliver(event)

    # Media and signalling

    def pre_answer(self) -> None:
        """Send early media (183), once."""
        if self.media_ready or self.hung_up:
            return
        self._open_media()
        self.data.change(Answer_State="early")
        self.call_state("EARLY")
        self.data.at("Channel-Progress-Media-Time", self.clock.now())
        self.fire("CHANNEL_PROGRESS_MEDIA")
        self.variables.set("endpoint_disposition", "EARLY MEDIA")

    def answer(self) -> None:
        """Send 200 OK, once; the caller's script starts to run."""
        if self.switch.answer_takes and not self.answered:
            self.clock.sleep(self.switch.answer_takes)
        if self.answered or self.hung_up:
            return
        if not self.media_ready:
            self._open_media()
        self.answered_at = self.clock.now()
        self.data.change(Answer_State="answered")
        self.data.at("Channel-Answered-Time", self.answered_at)
        self.fire("CHANNEL_ANSWER")
        self.call_state("ACTIVE")
        self.variables.set("endpoint_disposition", "ANSWER")
        self._acknowledged = False
        if not self.behaviour.digits_on:
            self.start_pressing()
        if self.behaviour.hangs_up_after is not None:
            self.later(self.behaviour.hangs_up_after, self.hang_up, self.behaviour.hangs_up_cause, "recv")

    def call_state(self, state: str) -> None:
        """Change the call state and say so."""
        before = self.data.state["Channel-Call-State"]
        self.data.change(Channel_Call_State=state)
        headers = [
            ("Original-Channel-Call-State", before),
            ("Channel-Call-State-Number", str(_CALL_STATES.index(state))),
        ]
        self.fire("CHANNEL_CALLSTATE", before=headers, variables=False)

    def _open_media(self) -> None:
        self.media_ready = True
        for name, value in identity.answer_variables(self.uuid, self.switch.address):
            self.variables.set(name, value)
        for name in ("remote_media_ip", "remote_media_port"):
            self.variables.set(name, self.variables.get(name))

    def hang_up(self, cause: str, by: Literal["send", "recv"] = "send") -> None:
        """End the call: ``by`` us or by the party. Later ones change nothing."""
        if self.hung_up:
            return
        self.hangup_cause = cause
        for name, value in reporting.farewell(self, by):
            self.variables.set(name, value)
        self.data.change(Channel_State_Number="10", Answer_State="hangup", Hangup_Cause=cause)
        self.fire("CHANNEL_HANGUP")
        self.wake()
        for listener in self.listeners:
            listener.poke()

    def attach(self, bug: Bug) -> None:
        """Add a media bug."""
        self.bugs.append(bug)
        self.fire("MEDIA_BUG_START", before=[("Media-Bug-Function", bug.function), ("Media-Bug-Target", bug.target)])

    def detach(self, bug: Bug) -> None:
        """Remove a media bug, if it is still there."""
        if bug in self.bugs:
            self.bugs.remove(bug)
            self.fire("MEDIA_BUG_STOP", before=[("Media-Bug-Function", bug.function), ("Media-Bug-Target", bug.target)])

    def wake(self) -> None:
        """Let the session look at its flags and queues."""
        self._wake.set()

    def press(self, digits: str, *, source: str = "RTP", duration: int = 2000) -> None:
        """The party's keys arrive, all at once."""
        if self.hung_up:
            return
        self.digits.extend(Digit(key, duration, source) for key in digits)
        self.wake()

    def take_digit(self) -> str:
        """Take the first digit off the queue; this is when its DTMF event is fired."""
        digit = self.digits.popleft()
        self.dialed += digit.key
        if not truth(self.variables.get("sensitive_dtmf")):
            headers = [("DTMF-Digit", digit.key), ("DTMF-Duration", str(digit.duration)), ("DTMF-Source", digit.source)]
            self.fire("DTMF", after=headers, variables=False)
        return digit.key

    def acknowledge(self) -> None:
        """The party's ACK has come in: what it adds to the variables, once after an answer."""
        if not self._acknowledged:
            self._acknowledged = True
            for name, value in list(identity.acknowledged_variables(self.data, self.switch.address)):
                self.variables.set(name, value)

    def later(self, seconds: float, function: Callable[..., None], *args: object) -> None:
        """Call ``function`` in ``seconds`` of call time, unless the call has ended."""
        self._timers.append(self.clock.later(seconds, function, *args))

    @contextlib.contextmanager
    def sounding(self) -> Iterator[None]:
        """While this lasts, something is played to the party."""
        began = self.clock.now()
        self.heard.append((began, math.inf))
        try:
            yield
        finally:
            self.heard[self.heard.index((began, math.inf))] = (began, self.clock.now())

    @property
    def sends(self) -> bool:
        """Whether anything goes to the party now, be it silence."""
        silence = self.variables.get("send_silence_when_idle")
        return bool(seconds_of(silence)) or any(math.isinf(end) for _, end in self.heard)

    def speech(self) -> tuple[tuple[float, float], ...]:
        """When the party talks, or something is mixed in, as Unix times; never while unanswered or without RTP."""
        if not self.answered or not self.behaviour.sends_rtp:
            return ()
        scripted = ((self.answered_at + begin, self.answered_at + end) for begin, end in self.behaviour.speaks)
        return (*scripted, *self._dictated, *self.mixed_in)

    def dictate(self) -> None:
        """A recording begins: a caller who then talks does."""
        if self.behaviour.dictates:
            begin = self.clock.now() + DICTATES_AFTER
            self._dictated.append((begin, begin + self.behaviour.dictates))

    def said(self, who: str, data: bytes) -> None:
        """Note a message of the wire."""
        said = Said(self.clock.now() - self.started, who, data)
        self.transcript.append(said)
        if self.switch.overhears is not None and who == "application":
            self.switch.overhears(said)

    def start_pressing(self) -> None:
        """Begin with the digits of the caller's script, once."""
        if not self._pressing:
            self._pressing = True
            for at, key in keys(self.behaviour.digits):
                self.later(self.behaviour.digits_after + at, self.press, key)
