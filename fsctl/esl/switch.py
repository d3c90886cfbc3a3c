"""The connection to FreeSWITCH itself, for what no leg can ask: new calls above all. It comes back by itself.

One socket that we open (port 8021), subscribed to the ends of our own jobs, to heartbeats and to the channels somebody
watches, each by a filter, so that FreeSWITCH sends nothing of other calls. What runs in the event loop (reactions) must
not wait for anything. Reference: freeswitch, 1.7, 1.11, 1.14.
"""

from __future__ import annotations

import itertools
import random
import re
import uuid as uuids
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent import get_hub, socket
from gevent.event import AsyncResult, Event
from gevent.hub import Waiter
from greenswitch.esl import InboundESL

from fsctl.errors import CommandFailed, SwitchDown
from fsctl.esl.connection import EventSocket
from fsctl.esl.protocol import encode, encode_line
from fsctl.freeswitch import commands, facts
from fsctl.tally import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.esl.protocol import Message
    from fsctl.freeswitch.commands import Api, Command
    from fsctl.freeswitch.facts import Fact

__all__ = ["SwitchLink"]

log = structlog.get_logger(__name__)

_UUID = re.compile(r"[A-Za-z0-9-]{1,64}")
_SUBSCRIPTION = encode(commands.subscribe(facts.SWITCH_EVENTS))
_PROBE = encode_line(commands.core_uuid().line)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_SILENCE = 60.0  # three heartbeats


class _Refused(Exception):
    """FreeSWITCH does not let us in: ``reason`` is a word for the log, the rest a sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class SwitchLink:
    """A supervised connection to the event socket of the FreeSWITCH at ``address``. ``start`` it.

    ``on_up(restarted)`` is called each time the connection stands; ``restarted`` when FreeSWITCH is not the one of
    before, all channels of which are gone. ``on_down(problem)`` is called each time it was lost, after everybody who
    waited for an answer got SwitchDown. Both run one after the other in the link's greenlet, may use the link and may
    wait. A reply that takes more than ``timeout`` seconds ends the connection; when no heartbeat came for ``silence``
    seconds FreeSWITCH is asked for a sign of life. Raises ValueError for a password that holds a newline.
    """

    def __init__(
        self,
        address: tuple[str, int],
        password: str,
        *,
        on_up: Callable[[bool], None] = lambda _: None,
        on_down: Callable[[str], None] = lambda _: None,
        timeout: float = 10.0,
        silence: float = _SILENCE,
        traffic: Traffic | None = None,
    ) -> None:
        self.reconnects = 0
        self._address = address
        self._auth = encode(commands.auth(password))
        self._on_up = on_up
        self._on_down = on_down
        self._timeout = timeout
        self._silence = silence
        self._traffic = traffic or Traffic()
        self._where = f"{address[0]}:{address[1]}"
        self._problem = f"the connection to FreeSWITCH's event socket at {self._where} was not started yet"
        self._said: tuple[str, str] = ("", "")  # the state that was logged last
        self._core = ""  # which run of FreeSWITCH we were connected with
        self._up = False
        self._connection: _Inbound | None = None  # also while it is being opened
        self._supervisor: gevent.Greenlet | None = None
        self._numbers = itertools.count(1)
        self._prefix = f"fsctl-{uuids.uuid4().hex[:12]}-"  # of our jobs, and of nobody else's
        self._jobs: dict[str, Waiter] = {}
        self._watched: dict[str, list[Callable[[Fact], None]]] = {}

    # -- start and end -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, in the background, and stay connected until :meth:`stop`."""
        if self._supervisor is None:
            self._problem = f"the connection to FreeSWITCH's event socket at {self._where} is being made"
            self._supervisor = gevent.spawn(self._supervise)

    def stop(self) -> None:
        """Leave. Whoever still waits for an answer gets SwitchDown; ``on_down`` is not called."""
        supervisor, self._supervisor = self._supervisor, None
        self._problem = f"the connection to FreeSWITCH's event socket at {self._where} was stopped"
        self._up = False
        if self._connection is not None:
            self._connection.trouble = "fsctl stops"
            self._connection.close()
        if supervisor is not None and supervisor is not gevent.getcurrent():
            supervisor.kill(block=False)

    @property
    def connected(self) -> bool:
        """True while FreeSWITCH can be asked."""
        return self._up and self._connection is not None and self._connection.connected

    @property
    def problem(self) -> str:
        """Why it is not connected, as a sentence with a hint; empty when it is."""
        return "" if self.connected else self._problem

    # -- down ----------------------------------------------------------------------------------------------------

    def ask(self, api: Api, seconds: float | None = None) -> str:
        """What an API command prints. Only for quick ones: whatever else is asked for waits behind it.

        Raises CommandFailed for ``-ERR`` and ``-USAGE``, for text that must not reach the wire and when ``seconds``
        pass (at most the link's ``timeout``); SwitchDown when FreeSWITCH cannot be asked.
        """
        connection = self._live()
        with gevent.Timeout(seconds, False):
            return connection.api(api)
        raise CommandFailed(api.name, f"no reply within {seconds:g} s")

    def tell(self, *apis: Api) -> None:
        """Run API commands without waiting; refusals are logged, and so is that FreeSWITCH could not be told.

        Raises ValueError for text that must not reach the wire.
        """
        frames = [(encode_line(api.line), api.name) for api in apis]
        try:
            self._live().tell(*frames)
        except SwitchDown as problem:
            log.warning("switch_not_told", commands=[name for _, name in frames], problem=str(problem))

    def job(self, api: Api, seconds: float) -> str:
        """Run an API command in FreeSWITCH's background, and wait for what it prints.

        Raises like :meth:`ask`. After SwitchDown, or when ``seconds`` passed, FreeSWITCH may still be at it.
        """
        connection = self._live()
        job = f"{self._prefix}{next(self._numbers)}"
        try:
            frame = encode(api.background(job))
        except ValueError as problem:
            raise CommandFailed(api.name, str(problem)) from problem
        done = Waiter()
        self._jobs[job] = done
        output: str | None = None
        try:
            with gevent.Timeout(seconds, False):
                reply = connection.ask(frame, api.name).text
                if not reply.startswith("+OK"):
                    raise CommandFailed(api.name, reply)
                output = done.get()
        finally:
            self._jobs.pop(job, None)
        if output is None:
            raise CommandFailed(api.name, f"did not end within {seconds:g} s")
        if output.startswith(("-ERR", "-USAGE")):
            raise CommandFailed(api.name, output)
        return output

    def watch(self, uuid: str, reaction: Callable[[Fact], None]) -> Callable[[], None]:
        """Call ``reaction``, in the event loop, with the facts of a channel from now on: also one that is yet to be.

        Works without a connection, too: the channel is watched as soon as there is one. What happens while there is
        none is missed. The answer ends it. Raises ValueError for what is no UUID.
        """
        if not _UUID.fullmatch(uuid):
            raise ValueError(f"not a UUID: {uuid!r}")
        reactions = self._watched.get(uuid)
        if reactions is None:
            reactions = self._watched[uuid] = []
            self._fire(commands.filter_("Unique-ID", uuid))
        entry = partial(reaction)  # a thing of its own: the same reaction may be registered twice
        reactions.append(entry)

        def unwatch() -> None:
            if entry in reactions:
                reactions.remove(entry)
                if not reactions:
                    del self._watched[uuid]
                    self._fire(commands.filter_delete("Unique-ID", uuid))

        return unwatch

    def _live(self) -> _Inbound:
        if not self.connected or self._connection is None:
            raise SwitchDown(self._problem)
        return self._connection

    def _fire(self, command: Command) -> None:
        """Change what FreeSWITCH sends, if there is a connection; a new one is told everything."""
        connection = self._connection
        if connection is not None and connection.subscribed and connection.connected:
            connection.tell((encode(command), "filter"))

    # -- up ------------------------------------------------------------------------------------------------------

    def _event(self, data: bytes | bytearray, start: int, end: int) -> None:
        fact = facts.read(data, start, end)
        if isinstance(fact, facts.Heartbeat):
            if self._connection is not None:
                self._connection.alive()
        elif isinstance(fact, facts.JobDone):
            done = self._jobs.get(fact.job)
            if done is not None:
                done.switch(fact.output)
        elif fact is not None:
            uuid = facts.channel_of(data, start, end)
            reactions = self._watched.get(uuid, ())
            for reaction in list(reactions):
                try:
                    if reaction in reactions:  # not taken back by another one just now
                        reaction(fact)
                except Exception:  # one listener's fault must not cost the others the fact
                    log.exception("reaction_failed", call_id=uuid, fact=type(fact).__name__)

    def _lost(self, connection: _Inbound) -> None:
        """Nobody may wait for an answer any longer. In the event loop: the link's greenlet may itself be waiting."""
        if connection is not self._connection:
            return
        self._connection = None
        if self._up:
            self._up = False
            self._problem = f"{connection.lost()}; it is being made again"
        jobs, self._jobs = self._jobs, {}
        for done in jobs.values():
            done.throw(connection.lost())

    # -- supervision ---------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        me = gevent.getcurrent()
        pause = _FIRST_PAUSE
        while self._supervisor is me:
            try:
                connection, restarted = self._open()
            except _Refused as refused:
                self._failed("switch_refused", refused.reason, str(refused))
            except SwitchDown as problem:
                self._failed("switch_unreachable", "", str(problem))
            except Exception as error:  # a bug of ours must not end the supervision
                log.exception("switch_connect_failed", address=self._where)
                self._failed(
                    "switch_unreachable", "", f"FreeSWITCH at {self._where} could not be connected to: {error}"
                )
            else:
                began = monotonic()
                self._say("switch_connected", "", restarted=restarted)
                self._call(self._on_up, restarted)
                connection.ended.wait()
                if self._supervisor is not me:
                    return
                self._say("switch_lost", "", problem=self._problem)
                self._call(self._on_down, self._problem)
                if monotonic() - began >= _LONGEST_PAUSE:
                    pause = _FIRST_PAUSE
            gevent.sleep(min(pause * random.uniform(1.0, 1.5), _LONGEST_PAUSE))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _open(self) -> tuple[_Inbound, bool]:
        """A connection that is let in and subscribed, and whether FreeSWITCH is another one than before."""
        try:
            sock = socket.create_connection(self._address, self._timeout)
        except (OSError, ValueError, OverflowError) as error:  # the last two for what is no address at all
            hint = "is FreeSWITCH running, and does its event_socket.conf.xml listen there?"
            problem = getattr(error, "strerror", None) or error
            raise SwitchDown(f"no FreeSWITCH at {self._where}: {problem}; {hint}") from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connection = _Inbound(
            sock,
            self._where,
            on_event=self._event,
            on_lost=self._lost,
            timeout=self._timeout,
            silence=self._silence,
            traffic=self._traffic,
        )
        greeting = connection.greeting.wait(self._timeout)
        if greeting == "rejection":
            hint = "allow this host in `apply-inbound-acl` of event_socket.conf.xml"
            raise _Refused("acl", f"FreeSWITCH at {self._where} turns connections from this host away; {hint}")
        if greeting != "auth":
            trouble = connection.trouble or ("it closed at once" if greeting is not None else "it says nothing")
            raise SwitchDown(f"what listens at {self._where} is not FreeSWITCH's event socket: {trouble}")
        if not connection.ask(self._auth, "auth").text.startswith("+OK"):
            hint = "it is `password` in event_socket.conf.xml"
            raise _Refused("password", f"FreeSWITCH at {self._where} does not take the event socket's password; {hint}")
        # Filters go first: the other way round FreeSWITCH would send every call's events for a moment.
        # The other jobs there are belong to calls, and their arguments may hold secrets.
        filters = [
            commands.filter_("Event-Name", "HEARTBEAT"),
            commands.filter_("Job-UUID", f"/^{self._prefix}/"),
            *(commands.filter_("Unique-ID", uuid) for uuid in self._watched),
        ]
        connection.tell(*((encode(command), "filter") for command in filters), (_SUBSCRIPTION, "events"))
        connection.subscribe()
        try:
            core = connection.api(commands.core_uuid()).strip()
        except CommandFailed as refusal:
            raise _Refused("commands", f"FreeSWITCH at {self._where} refuses commands: {refusal}") from refusal
        restarted = self._core not in ("", core)
        if self._core:
            self.reconnects += 1
        self._core = core
        self._up = True
        return connection, restarted

    def _failed(self, state: str, reason: str, problem: str) -> None:
        """An attempt to connect did not succeed."""
        self._problem = problem
        if self._connection is not None:
            self._connection.close()
        self._say(state, reason, problem=problem)

    def _say(self, state: str, reason: str, **values: object) -> None:
        """Log a state once, however often it is come to again."""
        if (state, reason) == self._said:
            return
        self._said = state, reason
        tell = {"switch_connected": log.info, "switch_lost": log.warning}.get(state, log.error)
        tell(state, address=self._where, **({"reason": reason} if reason else {}), **values)

    def _call(self, whom: Callable[[Any], None], what: object) -> None:
        try:
            whom(what)
        except SwitchDown:  # lost again; that is said soon enough
            log.debug("switch_observer_interrupted")
        except Exception:  # whoever wants to know must not cost us the supervision
            log.exception("switch_observer_failed")


class _Inbound(EventSocket, InboundESL):  # type: ignore[misc]  # greenswitch carries no types
    """One socket to FreeSWITCH's port, from its greeting to its end.

    ``greeting`` gets ``auth``, ``rejection``, or nothing when the socket ended before a word; ``ended`` is set at the
    end, and ``trouble`` then says what was wrong, if anything was.
    """

    def __init__(
        self,
        sock: socket.socket,
        where: str,
        *,
        on_event: Callable[[bytes | bytearray, int, int], None],
        on_lost: Callable[[_Inbound], None],
        timeout: float,
        silence: float,
        traffic: Traffic,
    ) -> None:
        self.greeting: AsyncResult[str] = AsyncResult()
        self.ended = Event()
        self.subscribed = False
        self.trouble = ""
        self._where = where
        self._on_lost = on_lost
        self._silent = get_hub().loop.timer(silence, repeat=silence)
        super().__init__(
            sock, on_event=on_event, on_linger=lambda: None, on_end=self._end, timeout=timeout, traffic=traffic
        )

    def subscribe(self) -> None:
        """Events come from now on."""
        self.subscribed = True
        self._silent.start(self._probe)

    def alive(self) -> None:
        """A heartbeat came."""
        if self.connected:
            self._silent.again(self._probe)

    def lost(self) -> SwitchDown:
        """What to say of the end."""
        trouble = self.trouble or "FreeSWITCH closed it"
        return SwitchDown(f"the connection to FreeSWITCH's event socket at {self._where} was lost: {trouble}")

    def close(self) -> None:
        """Close the socket and fail everyone who waits for a reply."""
        if self.connected:
            self._silent.stop()
            self._silent.close()
        super().close()

    def _probe(self) -> None:
        """Ask for a sign of life; without a reply the connection ends."""
        self.send(_PROBE, lambda _: None)

    def _greeted(self, message: Message) -> None:
        self.greeting.set(message.kind)

    def _end(self) -> None:
        if not self.greeting.ready():
            self.greeting.set("")
        self._on_lost(self)
        self.ended.set()

    def _ends(self, level: str, event: str, **values: object) -> None:  # noqa: ARG002 - the link says it, once
        self.trouble = str(values.get("problem") or values.get("hint") or event)
        self.close()

    def _gone(self) -> BaseException:
        return self.lost()
