"""The leg behind an event socket: commands go down, facts come up, and a hangup ends every wait.

Implements ``fsctl.call.leg.Leg`` on a ``Connection``. An application is known by the id we give it, which comes back
as ``Application-UUID``; never by its name. Reference: freeswitch, 1.7, 1.8, 1.10.
"""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
import structlog
from gevent import get_hub
from gevent.hub import Waiter
from gevent.queue import Empty, SimpleQueue

from fsctl.errors import CommandFailed, LegGone, ProtocolError
from fsctl.esl.connection import Connection, within
from fsctl.esl.protocol import encode, encode_execute, encode_line
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.escape import application_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gevent import socket

    from fsctl.clock import Clock
    from fsctl.freeswitch.commands import Api, Application, Command
    from fsctl.freeswitch.facts import Completed, Offered
    from fsctl.tally import Traffic

__all__ = ["EslLeg"]

log = structlog.get_logger(__name__)

F = TypeVar("F")

_SUBSCRIPTION = encode(commands.subscribe(facts.EVENTS, facts.CUSTOM_EVENTS))
_CONNECT = encode(commands.connect())
_RESUME = encode(commands.resume())

_PATIENCE = 2.0
_NEWS_SECONDS = 0.1  # a hangup is the reason of a refusal more often than not, and is heard of after it
_REST_SECONDS = 0.25  # real ones, for the last event of a channel whose first ones were missed
_GONE = object()


def _too_late(reply: str) -> None:
    """A refused hangup: the party was quicker."""
    if reply.startswith("-"):
        log.debug("hang_up_too_late", reply=reply.strip())


def _nobody(_cause: str) -> None:
    """Who hears of the end of a leg that has told it."""


_operations = itertools.count(1)


class EslLeg:
    """A channel FreeSWITCH handed us. ``open`` first; ``on_gone`` is called once when the party or the socket went.

    ``variables`` are set on the channel before anything else.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        clock: Clock,
        timeout: float,
        linger: int,
        on_gone: Callable[[str], None],
        variables: Mapping[str, str],
        traffic: Traffic,
    ) -> None:
        self.uuid = ""
        self.answered = False
        self.gone = False
        self.ended: facts.Ended | None = None
        self.cause = ""
        self.clock = clock
        self._answers_itself = True
        self._linger = linger
        self._on_gone = on_gone
        self._variables = variables
        self._expands = True
        self._leaving = False  # a hangup was asked for
        self._hears_of_jobs = False
        self._finished = False  # the last event was seen, or the socket ended
        self._rest: Waiter | None = None  # who waits for that
        self._operations: dict[str, Waiter] = {}
        self._jobs: dict[str, Waiter] = {}
        self._listeners: dict[type, list[Callable[[Any], None]]] = {}
        self.goodbyes: list[_Facts | _Waiter] = []  # who must hear that the leg is gone
        self._aside: list[gevent.Greenlet] = []  # what goes on beside the script
        self._missed = False  # the hangup came before we could hear of it
        self._connection = Connection(
            sock,
            on_event=self._event,
            on_linger=self._lingering,
            on_end=self._end,
            timeout=timeout,
            traffic=traffic,
        )

    # -- start and end -------------------------------------------------------------------------------------------

    def open(self, seconds: float) -> Offered:
        """Take the call: learn who it is and hear of what happens to it. LegGone or ProtocolError when that fails."""
        offer = facts.offered(self._known(seconds))
        if not offer.full_control:
            raise ProtocolError("the dialplan's `socket` application lacks `full`: use `socket HOST:PORT async full`")
        self.uuid = self._connection.call_id = offer.uuid
        self.answered = offer.answer_state == "answered"
        self._answers_itself = offer.direction == "inbound"
        self._expands = offer.expands
        if offer.ended is not None:  # the party was faster
            self._last_word(offer.ended)
            return offer
        self._connection.tell(
            (encode_line(commands.linger(self._linger).line), "linger"),
            (encode_line(commands.filter_("Unique-ID", offer.uuid).line), "filter"),
            (_SUBSCRIPTION, "events"),
        )
        missing = {name: value for name, value in self._variables.items() if offer.settings.get(name) != value}
        if missing:  # the dialplan we ship sets them, which saves the round trip
            self._connection.tell((encode_line(commands.set_variables(offer.uuid, missing).line), "uuid_setvar_multi"))
        return offer

    def give_back(self) -> None:
        """Refuse the call so that its dialplan goes on with the action after `socket`."""
        self._connection.ask(_CONNECT, "connect")
        self._connection.ask(_RESUME, "resume")
        self.close()

    def hang_up(self, cause: str) -> None:
        """Hang up, whatever runs; the fact that it happened comes by itself. Does nothing on a leg that is gone."""
        if self.gone or self._leaving:
            return
        self._leaving = True
        try:
            self._connection.send(encode_line(commands.hang_up(self.uuid, cause).line), _too_late)
        except LegGone:
            log.debug("hang_up_too_late")

    def wait_ended(self, seconds: float) -> bool:
        """Wait until FreeSWITCH has said its last word on the channel; False when it did not in time. One may wait."""
        if self._missed and not self._rested(_REST_SECONDS):
            try:
                offer = facts.offered(self._known(seconds))
            except (LegGone, ProtocolError):
                return False
            if offer.ended is not None and self.ended is None:
                self._last_word(offer.ended)
        finished = self._rested(seconds)
        if self._aside:  # they tell nothing any more
            gevent.joinall(list(self._aside), timeout=_PATIENCE)
        return finished

    def _rested(self, seconds: float) -> bool:
        if not self._finished and seconds > 0:
            self._rest = Waiter()
            try:
                within(seconds, self._rest)
            finally:
                self._rest = None
        return self._finished

    def _finish(self) -> None:
        self._finished = True
        if self._rest is not None:
            self._rest.switch(None)

    def _known(self, seconds: float | None = None) -> bytes:
        """What FreeSWITCH knows of the channel now, in its words. LegGone when that cannot be had."""
        return self._connection.ask(_CONNECT, "connect", seconds).head

    def close(self) -> None:
        """Leave: FreeSWITCH frees the thread and the memory it holds for us."""
        self._connection.close()

    # -- down ----------------------------------------------------------------------------------------------------

    def answer(self) -> None:
        """Answer the call (see ``fsctl.call.leg``)."""
        self.ask(commands.answer(self.uuid))
        # A call that FreeSWITCH makes is answered by its far end: what was asked for has done nothing then.
        self.answered = self._answers_itself or facts.answer_state(self._known()) == "answered"

    def pre_answer(self) -> None:
        """Open early media (see ``fsctl.call.leg``)."""
        self.ask(commands.pre_answer(self.uuid))

    def execute(
        self,
        application: Application,
        seconds: float,
        accepted: Callable[[], None] | None = None,
        longer: Callable[[], float] | None = None,
    ) -> Completed:
        """Run an application to its end (see ``fsctl.call.leg``)."""
        if self.gone:
            raise LegGone(self.cause)
        operation = f"fsctl-{next(_operations)}"
        done = Waiter()
        self._operations[operation] = done

        def replied(text: str) -> None:
            if not text.startswith("+OK"):
                done.switch(CommandFailed(application.name, text))
            elif accepted is not None:
                accepted()

        argument = application_argument(application.argument, expands=self._expands)
        try:
            self._connection.send(encode_execute(self.uuid, operation, application.name, argument), replied)
            completed: Completed | CommandFailed | None = self._wait(done, seconds)
            while completed is None and longer is not None and (more := longer()):
                seconds += more
                completed = self._wait(done, more)
        finally:
            self._operations.pop(operation, None)
        if completed is None:
            raise CommandFailed(application.name, f"did not end within {seconds:g} s")
        if isinstance(completed, CommandFailed):
            try:
                raise completed
            finally:
                del completed  # its stack holds this frame, which would hold it
        return completed

    def ask(self, api: Api) -> str:
        """Run an API command (see ``fsctl.call.leg``)."""
        if self.gone:
            raise LegGone(self.cause)
        try:
            return self._connection.api(api)
        except CommandFailed:
            self.waiter().wait(_NEWS_SECONDS)
            raise

    def job(self, api: Api, seconds: float) -> str:
        """Run an API command in FreeSWITCH's background (see ``fsctl.call.leg``)."""
        if self.gone:
            raise LegGone(self.cause)
        if not self._hears_of_jobs:  # their ends name no channel; few calls have any
            self._hears_of_jobs = True
            self.fire(commands.filter_("Job-Owner-UUID", self.uuid))
        job = f"fsctl-{next(_operations)}"
        done = Waiter()
        self._jobs[job] = done
        try:
            reply = self._connection.ask(encode(api.background(job)), api.name).text
            if not reply.startswith("+OK"):
                raise CommandFailed(api.name, reply)
            output: str | None = self._wait(done, seconds)
        finally:
            self._jobs.pop(job, None)
        if output is None:
            raise CommandFailed(api.name, f"did not end within {seconds:g} s")
        if output.startswith(("-ERR", "-USAGE")):
            raise CommandFailed(api.name, output)
        return output

    def tell(self, *apis: Api) -> None:
        """Run API commands without waiting (see ``fsctl.call.leg``)."""
        if self.gone:
            return
        frames = [(encode_line(api.line), api.name) for api in apis]  # all or none: it raises for what must not leave
        for frame, name in frames:
            self._tell(frame, name)

    def clear(self) -> None:
        """Stop what plays and forget what waits (see ``fsctl.call.leg``)."""
        self.tell(commands.break_everything(self.uuid))
        # FreeSWITCH says nothing of what it throws away.
        for name, done in list(self._operations.items()):
            get_hub().loop.run_callback(self._dropped, name, done)

    def _dropped(self, name: str, done: Waiter) -> None:
        if name in self._operations:
            done.switch(CommandFailed("execute", "it was thrown out of the channel's queue"))

    def background(self, what: Callable[[], None]) -> None:
        """Do ``what`` beside everything else (see ``fsctl.call.leg``)."""
        gevent.spawn(self._beside, what)

    def _beside(self, what: Callable[[], None]) -> None:
        if self.gone:
            return
        running = gevent.getcurrent()
        self._aside.append(running)  # not before: what has not begun cannot be interrupted
        try:
            what()
        except LegGone:
            log.debug("background_ended", call_id=self.uuid)
        except Exception:  # a bug of ours, or an error nobody awaits
            log.exception("background_failed", call_id=self.uuid)
        finally:
            self._aside.remove(running)

    def fire(self, command: Command) -> None:
        """Send a command without waiting (see ``fsctl.call.leg``)."""
        self._tell(encode(command), command.line.split(" ", 1)[0])

    def _tell(self, frame: bytes, name: str) -> None:
        try:
            self._connection.send(frame, name, later=True)
        except LegGone:
            log.debug("told_too_late", command=name)

    def _wait(self, done: Waiter, seconds: float) -> Any:
        """What somebody hands to the waiter, or None when ``seconds`` of call time pass first."""
        # A clock that runs fast makes no machine faster: the last seconds of patience are real ones.
        return within(max(seconds / self.clock.speed, min(seconds, _PATIENCE)), done)

    # -- up ------------------------------------------------------------------------------------------------------

    @contextmanager
    def listen(self, *kinds: type) -> Iterator[_Facts]:
        """Collect facts (see ``fsctl.call.leg``)."""
        heard = _Facts(self)
        forget = [self.react(kind, heard.put) for kind in kinds]
        self.goodbyes.append(heard)
        try:
            yield heard
        finally:
            self.goodbyes.remove(heard)
            for one in forget:
                one()

    def react(self, kind: type[F], reaction: Callable[[F], None]) -> Callable[[], None]:
        """Call a reaction with every fact (see ``fsctl.call.leg``)."""
        reactions = self._listeners.setdefault(kind, [])
        reactions.append(reaction)
        return lambda: reactions.remove(reaction) if reaction in reactions else None

    def waiter(self) -> _Waiter:
        """A new waiter (see ``fsctl.call.leg``)."""
        return _Waiter(self)

    def _event(self, data: bytes | bytearray, start: int, end: int) -> None:
        fact = facts.read(data, start, end)
        if fact is None:
            return
        self._connection.fact_at = monotonic()
        kind = type(fact)
        if kind is facts.Completed:
            done = self._operations.get(fact.operation)  # type: ignore[union-attr]
            if done is not None:
                done.switch(fact)
            return
        if kind is facts.JobDone:
            done = self._jobs.get(fact.job)  # type: ignore[union-attr]
            if done is not None:
                done.switch(fact.output)  # type: ignore[union-attr]
            return
        for listener in list(self._listeners.get(kind, ())):
            try:
                listener(fact)
            except Exception:  # one listener's fault must not cost the others the fact
                log.exception("reaction_failed", call_id=self.uuid, fact=kind.__name__)
        if kind is facts.HungUp:
            if not self.gone:
                self._leave(fact.cause)  # type: ignore[union-attr]
        elif kind is facts.Ended:
            self._last_word(fact)  # type: ignore[arg-type]

    def _last_word(self, ended: facts.Ended) -> None:
        self.ended = ended
        if not self.gone:
            self._leave(ended.cause)
        self._finish()

    def _lingering(self) -> None:
        """The channel is gone. No news, unless it went before we had subscribed to its events."""
        if not self.gone:
            self._missed = True
            self._leave("")

    def _end(self) -> None:
        if not self.gone:
            self._leave("")
        if not self._finished:
            self._finish()
        for reactions in self._listeners.values():  # there is no more to hear; who listened may hold the leg
            reactions.clear()

    def _leave(self, cause: str) -> None:
        """The party or the socket is gone, and was not before: nobody may wait any longer."""
        self.gone = True
        self.cause = cause
        on_gone, self._on_gone = self._on_gone, _nobody
        on_gone(cause)  # first, so that no other news of this moment lets the script go on
        for done in (*self._operations.values(), *self._jobs.values()):
            done.throw(LegGone(cause))
        for listener in list(self.goodbyes):
            listener.put(_GONE)
        if self._aside:
            gevent.killall(list(self._aside), LegGone(cause), block=False)


class _Facts:
    """The facts heard while somebody listens; after the last one, LegGone."""

    __slots__ = ("_leg", "_queue")

    def __init__(self, leg: EslLeg) -> None:
        self._leg = leg
        self._queue: SimpleQueue[Any] = SimpleQueue()

    def put(self, fact: Any) -> None:
        self._queue.put(fact)

    def next(self, seconds: float | None = None) -> Any:
        """The next fact, or None when ``seconds`` pass first."""
        leg = self._leg
        if leg.gone and self._queue.empty():
            raise LegGone(leg.cause)
        try:
            fact = self._queue.get(timeout=leg.clock.real(seconds))
        except Empty:
            return None
        if fact is _GONE:
            raise LegGone(leg.cause)
        return fact


class _Waiter:
    """Set by whoever has the news, and by the hangup."""

    __slots__ = ("_leg", "_set", "_waiting")

    def __init__(self, leg: EslLeg) -> None:
        self._leg = leg
        self._set = False
        self._waiting: list[Waiter] = []

    def set(self) -> None:
        """Let everyone who waits go on."""
        self._set = True
        self.put(None)

    def put(self, _: Any) -> None:
        """The leg is gone."""
        for waiting in self._waiting:
            get_hub().loop.run_callback(waiting.switch, None)

    def wait(self, seconds: float | None = None) -> bool:
        """True when it was set, False when ``seconds`` passed first."""
        leg = self._leg
        if not self._set and not leg.gone:
            waiting = Waiter()
            self._waiting.append(waiting)
            leg.goodbyes.append(self)
            try:
                within(leg.clock.real(seconds), waiting)
            finally:
                leg.goodbyes.remove(self)
                self._waiting.remove(waiting)
        if not self._set and leg.gone:
            raise LegGone(leg.cause)
        return self._set
