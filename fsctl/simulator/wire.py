"""One event socket connection as FreeSWITCH holds it: reading commands, writing replies, events and notices.

A listener is one greenlet that reads and answers commands strictly in order; events of the moment wait in a queue
that is written between commands, at the real module's 20 ms polls or (``tick=0``) at once. What the commands do is
in :mod:`fsctl.simulator.commands`; all misbehaviour of a :class:`~fsctl.simulator.nasty.Nasty` on the wire is here.
"""

from __future__ import annotations

import contextlib
import math
import socket
from collections import deque
from typing import TYPE_CHECKING

import gevent
from gevent.event import Event as Signal
from gevent.lock import RLock

from fsctl.simulator import commands, framing
from fsctl.simulator.nasty import GARBAGE, GENTLE
from fsctl.simulator.subscription import Subscription

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel
    from fsctl.simulator.events import Event
    from fsctl.simulator.framing import Command
    from fsctl.simulator.switch import Switch

__all__ = ["Listener"]


class Listener:
    """One connection. ``channel`` is its session for an outbound one, None for an inbound one.

    ``settled`` is set once the application has said ``connect`` (``connected``) or the connection has ended;
    ``finished`` once it has ended.
    """

    def __init__(self, switch: Switch, sock: socket.socket, channel: Channel | None = None) -> None:
        self.switch = switch
        self.channel = channel
        self.nasty = channel.nasty if channel else GENTLE
        self.subscription = Subscription()
        self.format = "plain"
        self.authenticated = channel is not None
        self.connected = False
        self.lingers = False
        self.linger_seconds: int | None = None
        self.settled = Signal()
        self.finished = Signal()
        self.commands_seen = 0
        self._sock = sock
        self._reader = framing.Reader()
        self._events: deque[tuple[bytes, str]] = deque()
        self._scheduled = False
        self._busy = False
        self._noticed = False
        self._cut = False
        self._written = 0
        self._polled = 0.0
        self._lock = RLock()

    # Reading

    def run(self) -> None:
        """Serve the connection until either side ends it."""
        try:
            if self.channel is None and self.switch.turns_away:
                self.write(framing.rejection(), "rude-rejection")
                return
            if self.channel is None:
                self.write(b"Content-Type: auth/request\n\n", "auth/request")
            self._serve()
        except OSError:
            pass
        finally:
            self._cut = True
            self.switch.forget(self)
            self.switch.inbound.discard(self)
            self._sock.close()
            self.settled.set()
            self.finished.set()
            if self.channel is not None:
                self.channel.listener_gone(self)

    def _serve(self) -> None:
        self._polled = self.switch.clock.monotonic()
        self._sock.settimeout(self.switch.handshake)
        first = self._read()
        self._sock.settimeout(None)
        command = first
        while command is not None:
            self._said("application", command.raw)
            self._busy = True
            try:
                self._answer(command, silent=command is first and self.channel is not None)
            finally:
                self._busy = False
            if self._cut:
                return
            self._polled = self.switch.clock.monotonic()
            if self._events or self._down():
                self._schedule()
            command = self._read()

    def _read(self) -> Command | None:
        while (command := self._reader.next()) is None:
            data = self._sock.recv(65536)
            if not data:
                return None
            self._reader.feed(data)
            if data.strip(b"\r\n") == b"" and self._events:
                self._flush()
        return command

    def _answer(self, command: Command, *, silent: bool) -> None:
        names = commands.names_of(command)
        self.commands_seen += 1
        refused = self.nasty.refusal(names)
        answer = framing.reply(refused) if refused is not None else commands.run(self, command)
        if answer is None:
            self.cut()
            return
        if self.channel is not None and self.connected and self.commands_seen == self.nasty.park_at + 1:
            self.channel.fire("CHANNEL_PARK")
            if self.nasty.park_at:
                self._write_events()
        if silent and not self.connected:
            return
        if self.nasty.reply_delay:
            self.switch.clock.sleep(self.nasty.reply_delay)
        if self.nasty.events_first:
            gevent.sleep(0)
            self._write_events()
        self.write(answer, *names)
        if command.verb.startswith("exit") or (command.verb in {"auth", "userauth"} and not self.authenticated):
            self.say_goodbye()

    # Writing

    def post(self, event: Event) -> None:
        """Queue an event this listener wants."""
        self._events.append((event.frame(self.format), event.name))
        if not self._scheduled:
            self._schedule()

    def poke(self) -> None:
        """Look at the session again: it may have hung up."""
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        tick, clock = self.switch.event_tick, self.switch.clock
        delay = self.nasty.event_delay
        if tick:
            since = clock.monotonic() - self._polled
            delay += math.ceil(since / tick + 1e-9) * tick - since
        if delay:
            clock.later(delay, self._flush)
        else:
            gevent.spawn_raw(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._busy or self._cut:
            return
        try:
            self._write_events()
            self._polled = self.switch.clock.monotonic()
            self._notice()
        except OSError:
            self.cut()

    def _write_events(self) -> None:
        if self.nasty is GENTLE:
            with self._lock:
                frames = [frame for frame, _ in self._events]
                self._events.clear()
                if frames and not self._cut:
                    for frame in frames:
                        self._said("freeswitch", frame)
                    self._sock.sendall(b"".join(frames))
            return
        while self._events:
            frame, name = self._events.popleft()
            self.write(frame, name)

    def write(self, frame: bytes, *names: str) -> None:
        """Write one message; ``names`` are what a :class:`~fsctl.simulator.nasty.Drop` may call it."""
        with self._lock:
            if self._cut:
                return
            if self.nasty is not GENTLE:
                frame = self._spoiled(frame, names)
            self._said("freeswitch", frame)
            if self.nasty.fragment:
                for start in range(0, len(frame), self.nasty.fragment):
                    self._sock.sendall(frame[start : start + self.nasty.fragment])
                    gevent.sleep(0)
            else:
                self._sock.sendall(frame)
            if self._cut:
                self.cut()

    def _spoiled(self, frame: bytes, names: tuple[str, ...]) -> bytes:
        self._written += 1
        if self._written == self.nasty.garbage_after + 1 and self.nasty.garbage_after:
            frame = GARBAGE + frame
        drop = self.nasty.drop
        if drop is None or drop.at not in names:
            return frame
        self._cut = True
        header, _, body = frame.partition(b"\n\n")
        if drop.where == "reply":
            return b""
        if drop.where == "header" or not body:
            return frame[: max(1, len(header) // 2)]
        return frame[: len(header) + 2 + len(body) // 2]

    def _said(self, who: str, data: bytes) -> None:
        if self.switch.keeps_transcript and self.channel is not None and data:
            self.channel.said(who, data)

    # The end

    def _down(self) -> bool:
        return self.channel is not None and self.channel.hung_up and not self._noticed

    def _notice(self) -> None:
        channel = self.channel
        if channel is None or not self._down():
            return
        self._noticed = True
        if not self.lingers:
            self.say_goodbye()
            return
        seconds = self.linger_seconds
        self.write(
            framing.notice("linger", uuid=channel.uuid, channel_name=channel.data.name, linger=seconds), "notice"
        )
        if seconds is not None:
            now = self.switch.clock.now()
            self.switch.clock.later(int(now) + seconds + 1 - now, self.say_goodbye)

    def say_goodbye(self) -> None:
        """Write the last notice and close."""
        if self._cut:
            return
        try:
            self._write_events()
            if not self.nasty.close_without_notice:
                self.write(framing.notice("disconnect", uuid=self.channel.uuid if self.channel else ""), "notice")
        except OSError:
            pass
        self.cut()

    def cut(self) -> None:
        """Close without a word."""
        self._cut = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
