"""One stream to one endpoint of a customer: its connection, its messages, its states, its end.

A stream connects in a greenlet of its own, within a deadline; from the first message on it lives in the event loop. It
is ``streaming`` once ``connected`` and ``start`` are on their way over an accepted connection, and ``finished`` once,
whatever the end was. A slow endpoint is sent less: whole messages are dropped and counted. One that is gone, closes,
breaks the protocol, floods us or never answers a ping ends its own stream and nobody else's.

With ``reconnects``, a connection that was lost is opened again with growing pauses; every connection is a complete
conversation of the protocol, and a later one's ``start`` tells the gap (``messages.Gap``). A close with 1000 is an end,
not a loss.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gevent
import structlog
from websockets.frames import Opcode

from fsctl.errors import FetchError
from fsctl.streams import handshake, messages
from fsctl.streams.audio import Resampler, decoder
from fsctl.streams.ended import Ended
from fsctl.streams.framing import Framing, masked_text
from fsctl.streams.link import Link, SecureLink

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from fsctl.streams.audio import Format
    from fsctl.streams.fanout import Fanout, Lane
    from fsctl.streams.handshake import Dial, Opened
    from fsctl.streams.playout import Line, Playout

__all__ = ["Counters", "Limits", "Stream", "StreamSpec"]

log = structlog.get_logger(__name__)

_NORMAL_CLOSE = 1000
_FOR_GOOD = frozenset((1000, 1002, 1003, 1007, 1008, 1009, 1010))  # meant, or met again by a second try
_HOPELESS = frozenset(("address", "scheme", "malformed"))
_LONGEST_PAUSE = 8.0
_STABLE_SECONDS = 10.0  # a connection that held so long was none of the failed tries


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a stream may go; seconds and bytes."""

    connect_timeout: float = 5.0
    heartbeat: float = 15.0
    close_timeout: float = 1.0
    unsent: int = 32_768
    """What waits for a slow endpoint beside what the system holds; more is dropped."""
    message: int = 262_144
    """The longest message an endpoint may send."""
    read_per_second: int = 1_048_576
    """What is read of an endpoint; one that sends more has to wait."""
    backoff: float = 0.5
    """The pause before the first reconnect; it doubles, up to 8 s, with jitter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """What a stream is: where it goes, what it carries. ``tracks`` are ``inbound`` and ``outbound``."""

    stream_id: str
    call_id: str
    account_id: str
    url: str = field(repr=False)
    tracks: tuple[str, ...]
    form: Format
    token: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    two_way: bool = False
    reconnects: int = 0


@dataclass(slots=True)
class Counters:
    """What happened to all streams of a hub, ever."""

    streaming: int = 0
    failed: int = 0
    finished: int = 0
    reconnected: int = 0
    dropped_messages: int = 0
    refused_messages: int = 0
    refused_clients: int = 0
    lost_feeds: int = 0


class Stream:
    """A stream, from :meth:`open` until ``changed`` was called with ``finished``.

    ``changed(state, ended)`` runs in the event loop and must not wait. ``state`` is ``connecting``, ``streaming`` (also
    while it reconnects), ``closing`` or ``finished``; ``started`` tells whether it ever was streaming, ``ended`` how it
    ended.
    """

    __slots__ = (
        "_awaiting",
        "_base",
        "_budget",
        "_changed",
        "_closing",
        "_closing_until",
        "_connections",
        "_counters",
        "_decode",
        "_dial",
        "_fanout",
        "_framing",
        "_gap_begin",
        "_greenlet",
        "_line",
        "_next_ping",
        "_opened",
        "_playout",
        "_resample",
        "_tls",
        "_tries",
        "_warned",
        "dropped",
        "ended",
        "limits",
        "link",
        "sequence",
        "spec",
        "started",
        "state",
    )

    def __init__(
        self,
        spec: StreamSpec,
        fanout: Fanout,
        *,
        dial: Dial,
        tls: Callable[[], ssl.SSLContext],
        limits: Limits,
        counters: Counters,
        changed: Callable[[str, Ended | None], None],
        line: Line | None = None,
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.state = "connecting"
        self.sequence = 0
        self.dropped = 0
        self.started = False
        self.ended: Ended | None = None
        self.link: Link | None = None
        self._fanout = fanout
        self._dial = dial
        self._tls = tls
        self._counters = counters
        self._changed = changed
        self._line = line
        self._decode = decoder(spec.form) if spec.two_way else None
        self._framing: Framing | None = None
        self._greenlet: gevent.Greenlet | None = None
        self._playout: Playout | None = None
        self._resample: Resampler | None = None
        self._connections = 0
        self._tries = 0
        self._base = 0
        self._gap_begin = 0
        self._awaiting = False
        self._next_ping = 0.0
        self._opened = 0.0
        self._closing_until = 0.0
        self._closing = Ended("stopped")
        self._budget = 0
        self._warned = False

    # -- opening -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to connect."""
        self._greenlet = gevent.spawn(self._connect, 0.0)

    def _connect(self, pause: float) -> None:
        spec, limits = self.spec, self.limits
        if pause:
            gevent.sleep(pause)
        try:
            opened = handshake.connect(
                self._dial,
                spec.url,
                token=spec.token,
                tls=self._tls,
                timeout=limits.connect_timeout,
                limit=limits.message,
            )
            self._greenlet = None
            self._begin(opened)
        except FetchError as problem:
            self._greenlet = None
            self._again(Ended(problem.reason, str(problem)))
        except Exception:  # the border of this stream: it ends, the others go on
            log.exception("stream_open_failed", stream_id=spec.stream_id)
            self._greenlet = None
            self.end(Ended("internal", "the stream could not be opened"))

    def _begin(self, opened: Opened) -> None:
        """Take the open connection over into the loop and say the first two messages."""
        spec, fanout = self.spec, self._fanout
        self._framing = Framing(opened.protocol, Opcode.TEXT, self.limits.message)
        if opened.tls is None:
            link = Link(opened.sock, receive=self._receive, gone=self._gone, limit=self.limits.unsent)
        else:
            link = SecureLink(opened.sock, opened.tls, receive=self._receive, gone=self._gone, limit=self.limits.unsent)
        self.link = link
        self._connections += 1
        self._awaiting = False
        self._budget = self.limits.read_per_second
        self._opened = time.monotonic()
        self._next_ping = self._opened + self.limits.heartbeat * random.uniform(0.5, 1.0)  # noqa: S311 - spread
        at = fanout.join(self)
        gap = None
        if not self.started:
            self._base = at
        else:
            self._counters.reconnected += 1
            gap = messages.Gap(self._connections, self._gap_begin, at - self._base)
        start = messages.start(
            spec.stream_id, spec.account_id, spec.call_id, spec.tracks, spec.form, spec.parameters, gap
        )
        self.sequence = 1
        link.send(masked_text(messages.CONNECTED) + masked_text(start))
        if not link.open:  # gone already, and that was dealt with
            return
        if not self.started:
            if spec.two_way and self._line is not None and not self._open_playout(self._line):
                return
            self.state = "streaming"
            self.started = True
            self._counters.streaming += 1
            self._tell("streaming", None)
        if opened.rest:
            self._receive(opened.rest)

    def _open_playout(self, line: Line) -> bool:
        rate = 8000 if self.spec.form.rate == 8000 else 16_000
        try:
            self._playout = line.playout(rate, self._marked)
        except OSError as problem:
            self.end(Ended("internal", f"nothing can be played into the call: {problem.strerror or problem}"))
            return False
        if self.spec.form.rate != rate:
            self._resample = Resampler(self.spec.form.rate, rate)
        return True

    # -- to the endpoint -----------------------------------------------------------------------------------------

    def push(self, lane: Lane, payload: bytes, at: int) -> None:
        """Send a frame of one track; ``at`` is its place in the call's audio, in ms. The hot path."""
        link = self.link
        if link is None or link.full(len(payload)):
            self.dropped += 1
            self._counters.dropped_messages += 1
            return
        self.sequence = sequence = self.sequence + 1
        lane.chunk = chunk = lane.chunk + 1
        link.send(masked_text(lane.template % (sequence, chunk, at - self._base, payload)))

    def dtmf(self, digit: str, milliseconds: int) -> None:
        """Tell that the party pressed a digit."""
        if self.state == "streaming" and self.link is not None and not self.link.full(256):
            self.sequence += 1
            stream = self.spec.stream_id if self.spec.two_way else None
            self.link.send(masked_text(messages.dtmf(self.sequence, digit, milliseconds, stream)))

    def _marked(self, name: str) -> None:
        if self.state == "streaming" and self.link is not None and not self.link.full(1024):
            self.link.send(masked_text(messages.mark(name, self.spec.stream_id)))

    # -- from the endpoint ---------------------------------------------------------------------------------------

    def _receive(self, data: bytes) -> None:
        framing, link = self._framing, self.link
        if framing is None or link is None:
            return
        self._awaiting = False
        self._budget -= len(data)
        if self._budget <= 0:
            link.pause()
        for text in framing.receive(data):
            if self._decode is not None and self.state == "streaming":
                self._message(text)
        if framing.spoke:
            link.send(framing.answers())
            if framing.over and self.state == "streaming":
                self._closed(framing)

    def _message(self, text: bytes) -> None:
        playout = self._playout
        if playout is None or self._decode is None:
            return
        try:
            said = messages.read(text)
        except messages.Refused as problem:
            self._refuse(str(problem))
            return
        if isinstance(said, messages.Media):
            linear = self._decode(said.audio)
            if not playout.play(linear if self._resample is None else self._resample(linear)):
                self._refuse("more audio than can wait to be played")
        elif isinstance(said, messages.Mark):
            playout.mark(said.name)
        elif isinstance(said, messages.Clear):
            playout.clear()
        elif self._line is not None:
            self._line.press(said.digit)

    def _refuse(self, problem: str) -> None:
        """Pass a message over; the first of a stream is worth a line."""
        self._counters.refused_messages += 1
        if not self._warned:
            self._warned = True
            log.warning("stream_message_refused", stream_id=self.spec.stream_id, problem=problem)

    def _closed(self, framing: Framing) -> None:
        """The endpoint closed, or made the library close."""
        close = framing.protocol.close_rcvd
        if close is None:
            sent = framing.protocol.close_sent
            ended = Ended("protocol", f"the endpoint broke the protocol: {sent.reason if sent else 'framing'}")
        else:
            ended = Ended("closed", f"the endpoint closed with {close.code}")
        if close is None or close.code in _FOR_GOOD:
            self.end(ended)
        else:
            self._lose(ended)

    # -- the end -------------------------------------------------------------------------------------------------

    def stop(self, reason: str = "stopped") -> None:
        """Say ``stop``, close, and be finished when the endpoint answers that or does not in time."""
        if self.state in ("closing", "finished"):
            return
        if self.state != "streaming" or self.link is None or self._framing is None or self._framing.over:
            self.end(Ended(reason))
            return
        self._fanout.leave(self)
        self.state = "closing"
        self._closing_until = time.monotonic() + self.limits.close_timeout
        self.sequence += 1
        protocol = self._framing.protocol
        protocol.send_close(_NORMAL_CLOSE)
        self._closing = Ended(reason)
        self.link.send(masked_text(messages.stop(self.sequence)) + b"".join(protocol.data_to_send()))

    def _gone(self, reason: str) -> None:
        """The link's word: the far end is no more."""
        if self.state == "closing":
            self.end(self._closing)
        else:
            self._lose(Ended("lost", f"the connection was lost: {reason}"))

    def _lose(self, ended: Ended) -> None:
        """Be without a connection; ``ended`` is the end unless another one can be made."""
        self._gap_begin = self._fanout.leave(self) - self._base
        self._hang_up()
        if self._playout is not None:
            self._playout.clear()
        if time.monotonic() - self._opened >= _STABLE_SECONDS:
            self._tries = 0
        self._again(ended)

    def _again(self, ended: Ended) -> None:
        """Connect again, if this stream does that and has not tried too often."""
        if not self.started or self._tries >= self.spec.reconnects or ended.reason in _HOPELESS:
            self.end(ended)
            return
        pause = min(self.limits.backoff * 2**self._tries, _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311
        self._tries += 1
        log.info("stream_reconnects", stream_id=self.spec.stream_id, reason=ended.reason, detail=ended.detail)
        self._greenlet = gevent.spawn(self._connect, pause)

    def _hang_up(self) -> None:
        if self.link is not None:
            self.link.close()
        self.link = self._framing = None

    def end(self, ended: Ended) -> None:
        """Be finished now, without another word to the endpoint."""
        if self.state == "finished":
            return
        self.state = "finished"
        self.ended = ended
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
            self._greenlet = None
        self._fanout.forget(self)
        self._hang_up()
        if self._playout is not None:
            self._playout.close()
            self._playout = None
        if self.started:
            self._counters.finished += 1
        else:
            self._counters.failed += 1
        self._tell("finished", ended)

    def _tell(self, state: str, ended: Ended | None) -> None:
        try:
            self._changed(state, ended)
        except Exception:  # whoever listens must not break the loop
            log.exception("stream_listener_failed", stream_id=self.spec.stream_id)

    def tick(self, now: float, seconds: float) -> None:
        """Look after what time brings: pings, reading on, a close that is not answered."""
        link = self.link
        if link is None or self._framing is None:
            return
        if self.state == "closing":
            if now >= self._closing_until:
                self.end(self._closing)
            return
        if self._budget <= 0:
            link.resume()
        self._budget = min(self._budget + int(self.limits.read_per_second * seconds), self.limits.read_per_second)
        if now < self._next_ping:
            return
        if self._awaiting:
            link.fail("no answer to a ping")
            return
        self._next_ping = now + self.limits.heartbeat
        self._awaiting = True
        protocol = self._framing.protocol
        protocol.send_ping(b"")
        link.send(b"".join(protocol.data_to_send()))
