"""One event socket: replies in the order of their commands, events handed on the moment they arrive.

Puts right, in this one place, what greenswitch does wrong: framing is bytes and bounded (``protocol.py``), an event is
never decoded before it is split, writes are whole and in the order of their replies, nothing polls, and whatever ends
the socket ends every waiter. ``Connection`` is one that FreeSWITCH opened to us, on top of greenswitch's session; the
one that we open is in ``switch.py``. Knows nothing of calls.

Reading is a callback of the event loop, not a greenlet: the watcher stays in place from the first byte to the last, and
a reply or a fact switches straight to the greenlet that waits for it. That costs half of what a reader greenlet does,
in time and in memory. What runs in the callback (``on_event``, reactions) therefore must not wait for anything.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import structlog
from gevent import get_hub
from gevent.hub import Waiter
from gevent.monkey import get_original
from greenswitch.esl import OutboundSession

from fsctl.errors import CommandFailed, LegGone
from fsctl.esl.protocol import Message, Protocol, encode, encode_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent import socket

    from fsctl.freeswitch.commands import Api, Command
    from fsctl.tally import Traffic

__all__ = ["Connection", "EventSocket", "Socket", "within"]

log = structlog.get_logger(__name__)

# One for all connections: what arrives is dealt with before anybody else can read.
_ARRIVED = bytearray(65536)
_MOST_UNSENT = 4 << 20  # FreeSWITCH reads commands at once; one that does not is not going to
_READ, _WRITE = 1, 2
# Refused, we would hear of other calls as if they were this one, or of nothing.
_VITAL = frozenset({"filter", "events"})

# The interpreter's own, without what `socket.socket` adds: reading and writing is all there is to do.
Socket: Any = get_original("socket", "SocketType")


def _nobody(*_: object) -> None:
    """Whom a connection tells things that has ended, and said so."""


def within(seconds: float | None, waiter: Waiter) -> Any:
    """What somebody hands to the waiter, or None when ``seconds`` pass first."""
    if seconds is None:
        return waiter.get()
    timer = get_hub().loop.timer(seconds)
    timer.start(waiter.switch, None)
    try:
        return waiter.get()
    finally:
        timer.stop()
        timer.close()


class EventSocket:
    """What both connections have in common. Goes before greenswitch's class; takes the socket over.

    ``on_event`` gets every JSON event, as bytes and where in them it begins and ends; it must not keep them.
    ``on_linger`` is called when FreeSWITCH says that the channel is gone and the socket stays for a while, ``on_end``
    once when the socket is finished; all run in the event loop. A reply that takes more than ``timeout`` seconds leaves
    the order of replies unknown, so that ends the connection too.
    """

    _reacts = False  # whether commands are reactions, whose time is measured

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_event: Callable[[bytes | bytearray, int, int], None],
        on_linger: Callable[[], None],
        on_end: Callable[[], None],
        timeout: float,
        traffic: Traffic,
    ) -> None:
        # The base classes' own constructors make queues and start greenlets that would read the socket before us.
        self.connected = True
        self._on_event = on_event
        self._on_linger = on_linger
        self._on_end = on_end
        self._hub = get_hub()
        self._replies: list[Waiter | Callable[[str], None] | str] = []  # few at a time: no need of a deque's 600 bytes
        self._unsent = bytearray()
        self.call_id = ""  # for the log, once it is known
        self._flushing = False  # a flush is due at the end of this turn
        self._writable: Any = None  # watches a socket that takes no more for now
        self._protocol = Protocol()
        self._traffic = traffic
        self.fact_at = 0.0  # when somebody was woken by a reply or a fact; the time to the next command is measured
        traffic.connections += 1
        traffic.live += 1
        self.sock = sock if type(sock) is Socket else Socket(fileno=sock.detach())
        self.sock.setblocking(False)
        loop = self._hub.loop
        self._readable = loop.io(self.sock.fileno(), _READ)
        self._late = loop.timer(timeout, repeat=timeout)
        self._readable.start(self.receive_events)

    # -- down ----------------------------------------------------------------------------------------------------

    def ask(self, command: Command | bytes, name: str, timeout: float | None = None) -> Message:
        """Send one command and wait for its reply. ``name`` is what errors call it.

        Raises what ``_gone`` makes when the connection ends first, or when the reply does not come in time.
        """
        waiter = Waiter(self._hub)
        self.send(command if isinstance(command, bytes) else encode(command), waiter)
        answer: Message | None = waiter.get() if timeout is None else within(timeout, waiter)
        if answer is None:
            self._no_reply(name)
            raise self._gone()
        return answer

    def send(self, frame: bytes, replied: Waiter | Callable[[str], None] | str, *, later: bool = False) -> None:
        """Write one command, now or as soon as the socket takes it; never waits, so all replies come in that order.

        ``replied`` gets its reply in the event loop: a waiter all of it, a function its text; a name is what an error
        is logged under. A command for ``later`` leaves with the next one, or at the end of this turn of the event loop:
        half of what a command costs is the system call that sends it.
        """
        if not self.connected:
            raise self._gone()
        if not self._replies:
            self._late.again(self._no_reply)
        self._replies.append(replied)
        traffic = self._traffic
        traffic.commands += 1
        if self.fact_at:
            traffic.reactions.observe(monotonic() - self.fact_at)
            self.fact_at = 0.0
        if later:
            self._unsent += frame
            if not self._flushing:
                self._flushing = True
                self._hub.loop.run_callback(self._flush)
            return
        if not self._unsent:  # as ever; then the socket takes it all
            try:
                sent = self.sock.send(frame)
            except OSError:
                sent = 0  # the flush meets it again
            if sent == len(frame):
                return
            frame = frame[sent:]
        self._unsent += frame
        self._flush()
        if not self.connected:
            raise self._gone()

    def tell(self, *frames: tuple[bytes, str]) -> None:
        """Send commands without waiting, each with the name that an error is logged under."""
        for frame, name in frames:
            self.send(frame, name, later=True)

    def api(self, api: Api) -> str:
        """What an API command prints.

        Raises CommandFailed for ``-ERR`` and ``-USAGE`` and for text that must not reach the wire, and as ``ask`` does.
        """
        try:
            frame = encode_line(api.line)
        except ValueError as problem:
            raise CommandFailed(api.name, str(problem)) from problem
        text = self.ask(frame, api.name).text
        if text.startswith(("-ERR", "-USAGE")):
            self._traffic.refused += 1
            raise CommandFailed(api.name, text)
        return text

    def _flush(self) -> None:
        """Hand the socket what it takes of what is unsent."""
        self._flushing = False
        unsent = self._unsent
        if not unsent or not self.connected:
            return
        try:
            del unsent[: self.sock.send(unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._ends("debug", "event_socket_write_failed", problem=str(error))
            return
        if not unsent:
            if self._writable is not None:
                self._forget_writable()
        elif len(unsent) > _MOST_UNSENT:
            self._ends("error", "event_socket_stuck", unsent=len(unsent), hint="FreeSWITCH does not read our commands")
        elif self._writable is None:
            self._writable = self._hub.loop.io(self.sock.fileno(), _WRITE)
            self._writable.start(self._flush)

    def _forget_writable(self) -> None:
        self._writable.stop()
        self._writable.close()
        self._writable = None

    def _no_reply(self, name: str = "") -> None:
        waiting = name or next((entry for entry in self._replies if isinstance(entry, str)), "")
        hint = "FreeSWITCH is overloaded or stuck; the connection is given up"
        self._ends("error", "no_reply", command=waiting, hint=hint)

    # -- up ------------------------------------------------------------------------------------------------------

    def receive_events(self) -> None:
        """Read what there is. Called by the event loop whenever there is something."""
        try:
            size = self.sock.recv_into(_ARRIVED)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._ends("warning", "event_socket_lost", problem=str(error))
            return
        if not size:
            if self._protocol.idle:
                self.close()
            else:
                problem = "FreeSWITCH closed in the middle of a message"
                self._ends("warning", "event_socket_cut", problem=problem)
            return
        protocol = self._protocol
        try:
            for message in protocol.receive(_ARRIVED, size):
                kind = message.kind
                if kind == "event":
                    self._on_event(message.data, message.start, message.end)
                elif kind in ("reply", "api"):
                    if self._replies:
                        self._replied(message)
                    elif self.connected:
                        self._garbage("a reply to no command")
                        return
                elif kind == "notice":
                    if b"\nContent-Disposition: linger" in message.head:
                        self._on_linger()
                elif kind in ("auth", "rejection"):
                    self._greeted(message)
            if protocol.problem:
                self._garbage(protocol.problem)
        except Exception:  # a bug of ours ends this connection, and no other
            log.exception("event_socket_failed", call_id=self.call_id)
            self.close()

    def _replied(self, message: Message) -> None:
        """Hand the reply to whoever has waited the longest."""
        replies = self._replies
        waiting = replies.pop(0)
        if replies:
            self._late.again(self._no_reply)
        else:
            self._late.stop()
        if isinstance(waiting, str):
            text = message.text
            if text.startswith("-"):
                self._traffic.refused += 1
                log.warning("command_refused", call_id=self.call_id, command=waiting, reply=text.strip()[:200])
                if waiting in _VITAL:
                    self.close()
        elif isinstance(waiting, Waiter):
            if self._reacts:
                self.fact_at = monotonic()
            waiting.switch(message)
        else:
            waiting(message.text)

    def _garbage(self, problem: str) -> None:
        self._traffic.broken += 1
        self._ends("error", "event_socket_garbage", problem=problem)

    def _greeted(self, message: Message) -> None:
        """FreeSWITCH says whom it lets in. Only on a connection that we opened."""

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket and fail everyone who waits for a reply. Safe to call more than once, from anywhere."""
        if not self.connected:
            return
        self.connected = False
        self._traffic.live -= 1
        if self._writable is not None:
            self._forget_writable()
        for watcher in (self._readable, self._late):
            watcher.stop()
            watcher.close()
        self.sock.close()
        replies, self._replies = self._replies, []
        call_soon = self._hub.loop.run_callback
        for waiting in replies:
            if isinstance(waiting, Waiter):
                call_soon(waiting.throw, self._gone())
        call_soon(self._over)

    def _over(self) -> None:
        """Tell the end, and let go of everybody: what is told of us must not be kept by us."""
        self._on_end()
        self._on_event = self._on_linger = self._on_end = _nobody

    def stop(self) -> None:
        """As :meth:`close`; greenswitch's would wait for greenlets that are not there."""
        self.close()

    def _ends(self, level: str, event: str, **values: object) -> None:
        """Close for a reason worth a line in the log."""
        getattr(log, level)(event, call_id=self.call_id, **values)
        self.close()

    def _gone(self) -> BaseException:
        """What everyone gets who asks when the connection has ended."""
        raise NotImplementedError


class Connection(EventSocket, OutboundSession):  # type: ignore[misc]  # greenswitch carries no types
    """A connection that FreeSWITCH opened to us; its end is the leg's: LegGone."""

    _reacts = True

    def _gone(self) -> BaseException:
        return LegGone()
