"""A channel and its session: the queue of private messages, applications, the dialplan, and how time passes.

The session is one greenlet. Everything that takes call time inside an application goes through
:meth:`Channel.wait`, the place where FreeSWITCH reads media: there digits are taken, messages queued by ``sendmsg``
are executed (inside the running application, unless locked), and breaks and hangups are seen.
What the applications do is in :mod:`fsctl.simulator.applications`; the wire is not known here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import structlog
from gevent.event import Event as Signal

from fsctl.simulator import reporting
from fsctl.simulator.expansion import Expander, scoped
from fsctl.simulator.leg import Leg
from fsctl.simulator.text import seconds_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsctl.simulator.caller import Caller
    from fsctl.simulator.identity import ChannelData
    from fsctl.simulator.nasty import Nasty
    from fsctl.simulator.switch import Switch
    from fsctl.simulator.wire import Listener

__all__ = ["Action", "Channel", "Ended", "Executed", "Message"]

log = structlog.get_logger(__name__)

Ended = Literal["done", "break", "digit", "gone", "until"]
"""How a wait ended: time is up, ``uuid_break``, a digit was the one, hung up or redirected, the condition came true."""

Action = tuple[str, str]
"""One line of a dialplan: an application and its argument."""

QUEUE_LIMIT = 256
_NESTED = 32


@dataclass(frozen=True, slots=True)
class Message:
    """A private message: an application to execute or a hangup, queued by ``sendmsg`` or ``uuid_broadcast``."""

    application: str
    argument: str = ""
    uuid: str = ""
    uuid_name: str = ""
    loops: int = 1
    lock: bool = False
    first: bool = False
    lead_frames: int = 0
    hangup_cause: str = ""


@dataclass(slots=True)
class Executed:
    """An application the channel executed.

    ``argument`` is what it saw, after expansion; ``response`` is known once it ended. Times are Unix seconds of call
    time; ``ended`` is 0.0 while it runs.
    """

    application: str
    argument: str
    uuid: str
    started: float
    ended: float = 0.0
    response: str = ""
    scope: Mapping[str, str] = field(default_factory=dict)


class Channel(Leg):
    """A simulated call leg with its session. Made and started by :class:`fsctl.simulator.switch.Switch`."""

    def __init__(
        self, switch: Switch, data: ChannelData, *, behaviour: Caller, mischief: Nasty, dialplan: Sequence[Action]
    ) -> None:
        super().__init__(switch, data, behaviour, mischief)
        self.resumed = False
        self.stranded = False
        self.parked = False
        self.lingered = 0.0
        self.executed: list[Executed] = []
        self.expanded_apis: list[str] = []
        self.expander = Expander(self.variables.get, switch.variables.get, self._expand_api)
        self.attending: Listener | None = None
        self.ended = Signal()
        self.released = Signal()
        self.waited = 0.0
        self._dialplan = list(dialplan)
        self._queue: deque[Message] = deque()
        self._first: deque[Message] = deque()
        self._locked = False
        self._breaking = False
        self._depth = 0
        self._redirected: list[Action] | None = None
        self._left_during = False

    # What others may ask of the session

    def redirect(self, actions: Sequence[Action] | None) -> None:
        """Leave what runs: for ``actions``, or for the rest of the dialplan."""
        self._redirected = None if actions is None else list(actions)
        self.redirecting = True
        self.wake()

    def interrupt(self, *, flush: bool = False) -> None:
        """``uuid_break``: end what is playing; with ``flush`` forget every queued message too."""
        if flush:
            self._queue.clear()
            self._first.clear()
        self._breaking = True
        self.wake()

    def queue(self, message: Message) -> bool:
        """Queue a private message; False when the queue is full."""
        if self.hung_up:
            return True
        if len(self._queue) + len(self._first) >= QUEUE_LIMIT:
            return False
        (self._first if message.first else self._queue).append(message)
        self.wake()
        return True

    # Time

    def wait(
        self,
        seconds: float = math.inf,
        *,
        on_digit: Callable[[str], bool] | None = None,
        until: Callable[[], bool] | None = None,
        breakable: bool = True,
        one_digit_a_frame: bool = False,
    ) -> Ended:
        """Let ``seconds`` of call time pass as an application that reads media.

        ``on_digit`` gets each digit taken and answers whether it ends the wait; without it digits stay queued.
        Time spent in messages executed inside does not count; ``waited`` says afterwards how much did.
        """
        remaining, self_waited = seconds, 0.0
        while True:
            self.acknowledge()
            ended = self._looked(on_digit, until, breakable=breakable, single=one_digit_a_frame)
            if ended is None and remaining <= 0:
                ended = "done"
            if ended is not None:
                self.waited = self_waited
                return ended
            if self._perform_next():
                continue
            began = self.clock.monotonic()
            self._wake.clear()
            self._wake.wait(None if math.isinf(remaining) else self.clock.real(remaining))
            if self.switch.channel_tick and self._wake.is_set():
                self._to_next_frame()
            passed = self.clock.monotonic() - began
            remaining -= passed
            self_waited += passed

    def _looked(
        self, on_digit: Callable[[str], bool] | None, until: Callable[[], bool] | None, *, breakable: bool, single: bool
    ) -> Ended | None:
        if self.gone:
            return "gone"
        if self._breaking:
            self._breaking = False
            if breakable:
                return "break"
        if until is not None and until():
            return "until"
        while on_digit is not None and self.digits:
            if on_digit(self.take_digit()):
                return "digit"
            if single and self.digits:
                self.clock.sleep(self.switch.channel_tick)
        return None

    def _to_next_frame(self) -> None:
        tick = self.switch.channel_tick
        since = self.clock.now() - self.started
        self.clock.sleep(math.ceil(since / tick) * tick - since)

    # Executing

    def expand(self, text: str) -> str:
        """``text`` with ``${...}`` replaced, unless the channel has expansion switched off."""
        return self.expander.expand(text)

    def _expand_api(self, command: str, argument: str) -> str | None:
        self.expanded_apis.append(f"{command} {argument}".rstrip())
        return self.switch.api(f"{command} {argument}".rstrip(), self)

    def _perform_next(self) -> bool:
        queue = self._first or self._queue
        if not queue or self._depth >= _NESTED or (self._locked and queue is self._queue):
            return False
        message = queue.popleft()
        locked, self._locked = self._locked, self._locked or message.lock
        self._depth += 1
        try:
            self._perform(message)
        finally:
            self._depth -= 1
            self._locked = locked
        return True

    def _perform(self, message: Message) -> None:
        if message.hangup_cause:
            self.hang_up(message.hangup_cause)
            return
        if message.lead_frames and self.wait(message.lead_frames * 0.02, breakable=False) == "gone":
            return
        loop = 0
        while not self.gone and (message.loops < 0 or loop < max(message.loops, 1)):
            loop += 1
            self.variables.set("current_loop", str(loop))
            self.variables.set("total_loops", str(max(message.loops, 1) if message.loops >= 0 else message.loops))
            began = self.clock.monotonic()
            known = self.execute(message.application, message.argument, message.uuid, message.uuid_name)
            if not known or (self.clock.monotonic() - began) < 0.5:
                break
        self.variables.set("current_loop", None)
        self.variables.set("total_loops", None)

    def execute(self, name: str, argument: str, uuid: str = "", uuid_name: str = "") -> bool:
        """Execute an application with its events; False when FreeSWITCH does not know it, which ends the call."""
        application = self.switch.applications.get(name)
        if application is None:
            log.warning("simulated_application_unknown", application=name, call_id=self.uuid)
            self.hang_up("DESTINATION_OUT_OF_ORDER")
            return False
        if application.needs_media:
            self.pre_answer()
        uuid = uuid or self.switch.new_uuid()
        scope: dict[str, str] = {}
        if not truth(self.variables.get("app_disable_expand_variables")):
            scope, argument = scoped(self.expand(argument))
        variables = self.variables
        held = {key: variables.get(key) for key in scope}
        for key, value in scope.items():
            variables.set(key, value)
        variables.set("current_application_response", None)
        variables.set("current_application", name)
        variables.set("current_application_data", argument)
        who = [("Application-UUID", uuid), *([("Application-UUID-Name", uuid_name)] if uuid_name else [])]
        what = [("Application", name), *([("Application-Data", argument)] if argument else [])]
        self.fire("CHANNEL_EXECUTE", after=[*what, *who])
        variables.set("current_application", name)
        record = Executed(name, argument, uuid, self.clock.now(), scope=scope)
        self.executed.append(record)
        self._breaking = False
        self._react(name, argument)
        application.run(self, argument)
        for key, before in held.items():
            variables.set(key, before)
        record.ended = self.clock.now()
        record.response = variables.get("current_application_response") or "_none_"
        if name not in self.nasty.lost:
            response = ("Application-Response", record.response)
            self.fire("CHANNEL_EXECUTE_COMPLETE", after=[*what, response, *who])
        return True

    def respond(self, response: str) -> None:
        """Set what the running application's ``Application-Response`` will be."""
        self.variables.set("current_application_response", response)

    def _react(self, name: str, argument: str) -> None:
        behaviour = self.behaviour
        if behaviour.digits_on == name:
            self.start_pressing()
        if behaviour.hangs_up_on and behaviour.leaves_on(name, argument):
            self.later(behaviour.hangs_up_on_after, self.hang_up, behaviour.hangs_up_cause, "recv")
        if self.nasty.hang_up_during == name and not self._left_during:
            self._left_during = True
            self.later(self.nasty.hang_up_after, self.hang_up, behaviour.hangs_up_cause, "recv")

    # The session's life

    def run(self) -> None:
        """The session greenlet: arrive, run the dialplan, hang up, report, and wait for the listeners to let go."""
        try:
            self._arrive()
            self._run_dialplan()
            self.hang_up("NORMAL_CLEARING")
            reporting.report(self)
        finally:
            for timer in self._timers:
                timer.kill(block=False)
            self.ended.set()
        began = self.clock.monotonic()
        for listener in list(self.listeners):
            listener.finished.wait()
        self.lingered = self.clock.monotonic() - began
        self.fire("CHANNEL_DESTROY", variables=False)
        self.released.set()

    def _arrive(self) -> None:
        self.fire("CHANNEL_CREATE")
        for state in ("CS_INIT", "CS_ROUTING", "CS_EXECUTE"):
            self.data.change(Channel_State=state)
            self.fire("CHANNEL_STATE", variables=False)
        if self.behaviour.gives_up_after is not None:
            self.later(self.behaviour.gives_up_after, self._give_up)

    def _give_up(self) -> None:
        if not self.answered:
            self.hang_up("ORIGINATOR_CANCEL", "recv")

    def _run_dialplan(self) -> None:
        actions = deque(self._dialplan)
        while actions and not self.hung_up:
            self.execute(*actions.popleft())
            if self.redirecting and not self.hung_up:
                self.redirecting = False
                self._queue.clear()
                self._first.clear()
                if self._redirected is not None:
                    actions = deque(self._redirected)
                    self._enter_extension()

    def _enter_extension(self) -> None:
        self.data.change(Channel_State="CS_ROUTING", Channel_Call_State="RINGING")
        self.fire("CHANNEL_STATE", variables=False)
        self.data.change(Channel_State="CS_EXECUTE", Channel_Call_State="ACTIVE", Channel_State_Number="4")
        self.fire("CHANNEL_STATE", variables=False)
        self.variables.set("call_uuid", self.uuid)

    def park(self, over: Callable[[], bool] | None = None) -> None:
        """Wait for messages until hung up, redirected, or ``over``; digits taken here are thrown away."""
        limit = seconds_of(self.variables.get("park_timeout"))
        cause = (self.variables.get("park_timeout") or "").partition(":")[2] or "NORMAL_CLEARING"
        self.variables.set("park_timeout", None)
        self.parked = True
        ended: Ended = "break"
        deadline = self.clock.monotonic() + (limit or math.inf)
        while ended == "break":
            ended = self.wait(deadline - self.clock.monotonic(), on_digit=lambda _: False, until=over)
        self.parked = False
        if ended == "done":
            self.hang_up(cause)
        self.fire("CHANNEL_UNPARK")

    def listener_gone(self, listener: Listener) -> None:
        """The application closed its socket or lost it: resume, leave the park, or be stranded in it for ever."""
        if not self.hung_up and listener is self.attending:
            if truth(self.variables.get("socket_resume")):
                self.resumed = True
                self.redirect(None)
            elif not self.parked:
                self.stranded = True
        self.wake()

    def transfer(self, extension: str, actions: Sequence[Action] | None = None) -> None:
        """Leave for another extension; the listeners stay."""
        caller = self.data.caller
        context, now = caller["Context"], self.clock.now()
        origin = f"{int(now)}:{self.switch.new_uuid()}:bl_xfer:{extension}/{context}/XML"
        for name, value in (
            ("max_forwards", str(int(seconds_of(self.variables.get("max_forwards"), 70)) - 1)),
            ("transfer_history", origin),
            ("transfer_source", origin),
        ):
            self.variables.set(name, value)
        caller["RDNIS"], caller["Destination-Number"] = caller["Destination-Number"], extension
        caller["Transfer-Source"] = origin
        caller["Profile-Index"] = str(int(caller["Profile-Index"]) + 1)
        self.data.at("Profile-Created-Time", now)
        self.data.change(Channel_State_Number="2")
        self.redirect(self.switch.extension(extension) if actions is None else actions)
