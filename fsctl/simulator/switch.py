"""The simulated FreeSWITCH: its calls, who listens to its events, and what it is made of."""

from __future__ import annotations

import socket
import uuid as uuids
from typing import TYPE_CHECKING, Self

import gevent
from gevent.server import StreamServer

from fsctl.simulator import apis, applications, identity, originating  # noqa: F401 - all but identity fill the registry
from fsctl.simulator.call import Said, SimulatedCall
from fsctl.simulator.caller import Caller, Party
from fsctl.simulator.channel import Channel
from fsctl.simulator.connectors import Connector, WebSockets
from fsctl.simulator.events import Core, Event
from fsctl.simulator.nasty import GENTLE, POISON, Nasty
from fsctl.simulator.registry import APIS, APPLICATIONS
from fsctl.simulator.wire import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fsctl.clock import Clock
    from fsctl.simulator.channel import Action
    from fsctl.simulator.originating import Outgoing

__all__ = ["Switch"]

TICK = 0.02
HEARTBEAT = 20.0
_MODULES = frozenset(
    [
        "mod_event_socket",
        "mod_commands",
        "mod_dptools",
        "mod_sofia",
        "mod_sndfile",
        "mod_tone_stream",
        "mod_flite",
        "mod_audio_stream",
    ]
)


class Switch:
    """A FreeSWITCH that hands its calls to an application at ``target``.

    ``clock`` is call time; ``tick`` the seconds between two looks at events and media (0: at once).
    ``streams`` opens the WebSockets of streams. ``parties`` are who ``bridge`` and ``originate`` reach, by number or
    whole endpoint, or a function of both; anybody else answers. ``extensions`` are what ``transfer`` finds,
    ``dialplan`` what an arriving call runs (as default ``socket <target> async full``). ``mod_shout`` off: no mp3;
    ``mod_ssml`` on: speech can be played like a file.
    ``writes_files`` off: recordings leave no file. ``keeps_transcript`` off saves the memory of everything said.
    ``nasty`` is for calls that bring none of their own. ``overhears`` gets everything an application says, as it is
    read (with transcripts).
    ``handshake`` are the real seconds an application has to say ``connect``.
    ``listen`` and ``password`` are for inbound event socket connections, which get a HEARTBEAT every ``heartbeat``
    seconds of call time (0: none); with ``turns_away``, which may be changed, the access control list lets none in.
    Call :meth:`close` when done.
    """

    version = "1.10.12-release"
    answer_takes = 0.0

    def __init__(
        self,
        target: tuple[str, int],
        *,
        clock: Clock,
        tick: float = TICK,
        streams: Connector | None = None,
        parties: Mapping[str, Party] | Callable[[str, str], Party] | None = None,
        extensions: Mapping[str, Sequence[Action]] | None = None,
        dialplan: Sequence[Action] | None = None,
        mod_shout: bool = True,
        mod_ssml: bool = False,
        writes_files: bool = True,
        keeps_transcript: bool = True,
        nasty: Nasty = GENTLE,
        overhears: Callable[[Said], object] | None = None,
        password: str = "ClueCon",  # noqa: S107 - FreeSWITCH's own default, on loopback
        handshake: float = 25.0,
        heartbeat: float = HEARTBEAT,
        turns_away: bool = False,
        hostname: str = "simulator",
        address: str = "127.0.0.1",
    ) -> None:
        self.clock = clock
        self.event_tick = self.channel_tick = tick
        self.answer_takes = min(tick, 0.002)
        self.streams: Connector = streams or WebSockets()
        self.dialplan = list(dialplan or [("socket", f"{target[0]}:{target[1]} async full")])
        self.mod_shout = mod_shout
        self.writes_files = writes_files
        self.keeps_transcript = keeps_transcript
        self.nasty = nasty
        self.overhears = overhears
        self.password = password
        self.handshake = handshake
        self.turns_away = turns_away
        self.hostname = hostname
        self.address = address
        self.applications = APPLICATIONS
        optional = {"mod_shout": mod_shout, "mod_ssml": mod_ssml}
        self.modules = _MODULES | {name for name, loaded in optional.items() if loaded}
        self.variables: dict[str, str] = {"local_ip_v4": address, "hostname": hostname, "domain": address}
        self.sessions = 0
        self.peak = 0
        self.unloaded: list[str] = []
        self.inbound: set[Listener] = set()
        self.originated: list[SimulatedCall] = []
        self._heartbeat = heartbeat
        self._boot()
        self._parties = parties or {}
        self._extensions = dict(extensions or {})
        self._channels: dict[str, Channel] = {}
        self._broad: list[Listener] = []
        self._owned: dict[str, list[Listener]] = {}
        self._owners: dict[Listener, frozenset[str] | None] = {}
        self._scheduled: dict[str, list[gevent.Greenlet]] = {}
        self._server: StreamServer | None = None
        self._greenlets: set[gevent.Greenlet] = set()

    def _boot(self) -> None:
        self.core = Core(self.clock, self.new_uuid(), self.hostname, self.address)
        self.variables["core_uuid"] = self.core.uuid
        self.started = self.clock.now()

    # Calls

    def call(
        self,
        *,
        destination: str = "1000",
        caller: str = "+15550100",
        variables: Mapping[str, str] | None = None,
        behaviour: Caller | None = None,
        nasty: Nasty | None = None,
        dialplan: Sequence[Action] | None = None,
        context: str = "default",
        uuid: str = "",
    ) -> SimulatedCall:
        """Let a call arrive. ``variables`` are what the dialplan set before it handed the call over."""
        behaviour = behaviour or Caller()
        mischief = nasty or self.nasty
        data = identity.ChannelData(
            uuid or self.new_uuid(),
            caller=caller,
            destination=destination,
            context=context,
            host=self.address,
            created=self.clock.now(),
        )
        self.sessions += 1
        headers = dict(behaviour.headers)
        if mischief.poison:
            headers["X-Poison"] = POISON
            data.caller["Caller-ID-Name"] = POISON + "\nUnique-ID: forged"
        if mischief.invalid_utf8:
            headers["X-Broken"] = "caf\udce9 \udcff"
        for name, value in identity.sip_variables(
            data, host=self.address, session=self.sessions, caller=caller, destination=destination, headers=headers
        ):
            data.variables.set(name, value)
        for name, value in (variables or {}).items():
            data.variables.set(name, value)
        channel = Channel(self, data, behaviour=behaviour, mischief=mischief, dialplan=dialplan or self.dialplan)
        self._run(channel)
        return SimulatedCall(channel)

    def begin(self, leg: Outgoing) -> None:
        """Let a leg be dialled; it is in ``originated`` from now on."""
        self.originated.append(SimulatedCall(leg))
        self._run(leg)

    def _run(self, channel: Channel) -> None:
        self._channels[channel.uuid] = channel
        self.peak = max(self.peak, len(self._channels))
        greenlet = self.spawn(channel.run)
        greenlet.link(lambda _: self._channels.pop(channel.uuid, None))

    def spawn(self, function: Callable[[], None]) -> gevent.Greenlet:
        """Run something that ends with the switch."""
        greenlet = gevent.spawn(function)
        self._greenlets.add(greenlet)
        greenlet.link(self._greenlets.discard)
        return greenlet

    def channel(self, uuid: str, *, ended: bool = False) -> Channel | None:
        """The channel of that UUID; with ``ended`` also one that only lingers."""
        channel = self._channels.get(uuid)
        return channel if channel is not None and (ended or not channel.hung_up) else None

    def live(self, uuid: str) -> Channel | None:
        """The channel of that UUID that has not hung up."""
        return self.channel(uuid)

    def live_uuids(self) -> list[str]:
        """The UUIDs of the calls that have not hung up."""
        return [uuid for uuid, channel in self._channels.items() if not channel.hung_up]

    @property
    def live_count(self) -> int:
        """How many calls have not hung up."""
        return len(self.live_uuids())

    def new_uuid(self) -> str:
        """A new UUID."""
        return str(uuids.uuid4())

    def extension(self, number: str) -> Sequence[Action]:
        """The dialplan of an extension; the default one for others."""
        return self._extensions.get(number, self.dialplan)

    def party(self, endpoint: str, number: str) -> Party:
        """Who is at the other end of a dialled endpoint."""
        kind, _, cause = endpoint.partition("/")
        if kind == "error":
            return Party(cause=cause.upper())
        if callable(self._parties):
            return self._parties(endpoint, number)
        return self._parties.get(endpoint) or self._parties.get(number) or Party()

    def api(self, text: str, channel: Channel | None = None) -> str | None:
        """Run an API command line for ``channel``; None when there is no such command."""
        name, _, argument = text.strip().partition(" ")
        run = APIS.get(name)
        return None if run is None else run(self, channel, argument)

    def schedule_hangup(self, channel: Channel, seconds: float, cause: str) -> None:
        """Hang a call up later, until :meth:`unschedule`."""
        timer = self.clock.later(seconds, channel.hang_up, cause)
        self._scheduled.setdefault(channel.uuid, []).append(timer)

    def unschedule(self, group: str) -> int:
        """Take back what was scheduled for a UUID; how many that was."""
        timers = self._scheduled.pop(group, [])
        gevent.killall(timers, block=False)
        return len(timers)

    # Events

    def deliver(self, event: Event) -> None:
        """Give ``event`` to every listener that wants it."""
        for listener in self._broad:
            if listener.subscription.wants(event):
                listener.post(event)
        if self._owned:
            for owner in _owners(event):
                for listener in self._owned.get(owner, ()):
                    if listener.subscription.wants(event):
                        listener.post(event)

    def index(self, listener: Listener) -> None:
        """A listener's filters changed: note which events can concern it at all."""
        self.forget(listener)
        owners = listener.subscription.owners()
        self._owners[listener] = owners
        if owners is None:
            self._broad.append(listener)
        else:
            for owner in owners:
                self._owned.setdefault(owner, []).append(listener)

    def forget(self, listener: Listener) -> None:
        """A connection is gone."""
        if listener not in self._owners:
            return
        owners = self._owners.pop(listener)
        if owners is None:
            self._broad.remove(listener)
            return
        for owner in owners:
            self._owned[owner].remove(listener)
            if not self._owned[owner]:
                del self._owned[owner]

    # Inbound connections

    def listen(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Accept inbound event socket connections, as on port 8021; answers the address."""
        self._server = StreamServer((host, port), self._accept)
        self._server.start()
        if self._heartbeat:
            self.spawn(self._beat)
        return host, int(self._server.server_port)

    def drop_inbound(self, *, listening: bool = True) -> None:
        """Close every inbound connection without a word; the port too, until :meth:`listen`, unless ``listening``."""
        if self._server is not None and not listening:
            self._server.stop(timeout=0)
            self._server = None
        for listener in list(self.inbound):
            listener.cut()

    def restart(self) -> None:
        """Be killed and start anew: every connection and call is gone without a word, and the Core-UUID is another."""
        self.drop_inbound()
        self._end_calls()
        self.sessions = self.peak = 0
        self._boot()
        if self._server is not None and self._heartbeat:
            self.spawn(self._beat)

    def _beat(self) -> None:
        server = self._server
        while self._server is server:
            self.clock.sleep(self._heartbeat)
            self.deliver(Event("HEARTBEAT", self.core.stamp(), before=list(self._health())))

    def _health(self) -> Iterator[tuple[str, str]]:
        seconds = self.clock.now() - self.started
        minutes, hours = int(seconds) // 60, int(seconds) // 3600
        yield ("Event-Info", "System Ready")
        yield ("Up-Time", f"0 years, {hours // 24} days, {hours % 24} hours, {minutes % 60} minutes")
        yield from (("FreeSWITCH-Version", f"{self.version}~64bit"), ("Uptime-msec", str(int(seconds * 1000))))
        yield from (("Session-Count", str(self.live_count)), ("Max-Sessions", "1000"), ("Session-Per-Sec", "30"))
        yield from (("Session-Since-Startup", str(self.sessions)), ("Session-Peak-Max", str(self.peak)))
        yield ("Idle-CPU", "99.000000")

    def _accept(self, connection: socket.socket, _: object) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener = Listener(self, connection)
        self.inbound.add(listener)
        self.index(listener)
        listener.run()

    def close(self) -> None:
        """End everything at once: calls, connections, the listening socket."""
        if self._server is not None:
            self._server.stop(timeout=0)
        self._end_calls()

    def _end_calls(self) -> None:
        for group in list(self._scheduled):
            self.unschedule(group)
        for channel in list(self._channels.values()):
            for listener in channel.listeners:
                listener.cut()
            for bug in channel.bugs:
                bug.drop()
        gevent.killall(list(self._greenlets))
        self._channels.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _owners(event: Event) -> set[str]:
    """The UUIDs an event belongs to, lower case."""
    found: set[str] = set()
    if event.channel is not None:
        found |= {event.channel.uuid.lower(), event.channel.state["Channel-Call-UUID"].lower()}
    for name, value in event.before:
        if name in {"Job-Owner-UUID", "Unique-ID"}:
            found.add(value.lower())
    return found
