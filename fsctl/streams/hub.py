"""Where mod_audio_stream's one connection a call ends, and the streams of that call begin.

The hub listens on loopback. Each call's :class:`Attachment` has a URL with a token that lets one connection in, once;
whoever else comes is refused, without a word to anybody's stream. What the module says first does not matter: it may
send audio before its metadata, and none of what it could tell is needed.

The module's side (start, stop, variables) is ``attachment.py``'s; this file knows no FreeSWITCH.
"""

from __future__ import annotations

import secrets
import ssl
import time
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.pool import Pool
from gevent.server import StreamServer
from websockets.frames import Opcode

from fsctl.errors import FsctlError
from fsctl.streams import handshake, rtp
from fsctl.streams.ended import Ended
from fsctl.streams.endpoint import Counters, Limits, Stream, StreamSpec
from fsctl.streams.fanout import Fanout
from fsctl.streams.framing import Framing
from fsctl.streams.link import Link
from fsctl.streams.rtp import RtpSpec, RtpStream

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Mapping

    from fsctl.streams.handshake import Dial, Opened
    from fsctl.streams.playout import Line

__all__ = ["Attachment", "Hub", "TooManyStreams"]

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.25
MAX_MESSAGE = 131_072
"""Of the module: a second of stereo at 16 kHz is half of it."""
_PENDING_HANDSHAKES = 1024
_HANDSHAKE_SECONDS = 2.0
_PATH = "/module/"


class TooManyStreams(FsctlError):
    """The call has as many streams as it may have; says how many."""


class Hub:
    """The listener and everything behind it.

    ``address`` is host and port; port 0 takes any free one. ``max_streams`` is for each call. ``tls`` replaces the
    system's trust. ``packets`` makes the socket of a stream of RTP from its address and port; who simulates puts
    another one there.
    """

    def __init__(
        self,
        dial: Dial,
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        limits: Limits | None = None,
        max_streams: int = 16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.counters = Counters()
        self.limits = limits or Limits()
        self.max_streams = max_streams
        self.packets: Callable[[str, int], _socket.socket] = rtp.connected
        self._dial = dial
        self._tls = tls
        self._tokens: dict[str, Attachment] = {}
        self._attachments: set[Attachment] = set()
        self._server = StreamServer(address, self._accept, spawn=Pool(_PENDING_HANDSHAKES), backlog=1024)
        self._timer: Any = None
        self._ticked = 0.0

    def start(self) -> None:
        """Listen. Raises OSError when the address is taken."""
        self._server.start()
        self._ticked = time.monotonic()
        self._timer = gevent.get_hub().loop.timer(TICK_SECONDS, TICK_SECONDS)
        self._timer.start(self._tick)

    @property
    def address(self) -> tuple[str, int]:
        """Where the hub listens."""
        host, port = self._server.address[:2]
        return host, port

    def stop(self) -> None:
        """End every stream and listen no more. Waits, for no longer than a close may take."""
        for attachment in tuple(self._attachments):
            attachment.close("stopped")
        until = time.monotonic() + self.limits.close_timeout
        while time.monotonic() < until and self.counts()["streams"]:
            gevent.sleep(0.02)
        for attachment in tuple(self._attachments):
            for stream in attachment.fanout.each():
                stream.end(Ended("stopped"))
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None
        self._server.stop()

    def open(self, call_id: str, rate: int) -> Attachment:
        """Prepare for a call whose audio the module will send at ``rate`` Hz, in stereo."""
        attachment = Attachment(self, call_id, rate)
        self._attachments.add(attachment)
        return attachment

    def counts(self) -> Mapping[str, int]:
        """What lives right now: ``attachments``, ``feeds`` (connections of modules) and ``streams``."""
        return {
            "attachments": len(self._attachments),
            "feeds": sum(attachment.connected for attachment in self._attachments),
            "streams": sum(len(attachment.fanout.streams) for attachment in self._attachments),
        }

    # -- for attachments -----------------------------------------------------------------------------------------

    def expect(self, attachment: Attachment) -> str:
        """A new URL that lets the module in once."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = attachment
        host, port = self.address
        attachment.token = token
        return f"ws://{host}:{port}{_PATH}{token}"

    def withdraw(self, token: str) -> None:
        """Let nobody in with ``token`` any more."""
        self._tokens.pop(token, None)

    def forget(self, attachment: Attachment) -> None:
        """The call is over."""
        self._attachments.discard(attachment)

    def stream(
        self,
        spec: StreamSpec | RtpSpec,
        fanout: Fanout,
        changed: Callable[[str, Ended | None], None],
        line: Line | None,
    ) -> Stream | RtpStream:
        """Make a stream: one to a WebSocket goes through our door, one of RTP to an address that did already."""
        if isinstance(spec, RtpSpec):
            return RtpStream(spec, fanout, connect=self.packets, counters=self.counters, changed=changed)
        return Stream(
            spec,
            fanout,
            dial=self._dial,
            tls=self._trust,
            limits=self.limits,
            counters=self.counters,
            changed=changed,
            line=line,
        )

    def _trust(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    # -- who comes in --------------------------------------------------------------------------------------------

    def _accept(self, sock: Any, _: Any) -> None:
        claimed: list[Attachment] = []

        def claim(path: str) -> bool:
            attachment = self._tokens.pop(path.removeprefix(_PATH), None) if path.startswith(_PATH) else None
            if attachment is not None:
                claimed.append(attachment)
            return attachment is not None

        try:
            opened = handshake.accept(sock, claim, timeout=_HANDSHAKE_SECONDS, limit=MAX_MESSAGE)
        except OSError:
            opened = None
        if opened is None:
            self.counters.refused_clients += 1
            log.warning("stream_client_refused", known=bool(claimed))
            for attachment in claimed:
                attachment.lost("the module's handshake failed")
            return
        claimed[0].connect(opened)

    def _tick(self) -> None:
        now = time.monotonic()
        passed, self._ticked = now - self._ticked, now
        for attachment in tuple(self._attachments):
            for stream in attachment.fanout.each():
                stream.tick(now, passed)


class Attachment:
    """One call's place in the hub.

    ``url`` is for the module. ``on_lost`` is called in the loop when the module's connection ended and nobody had asked
    for that; ``frames`` is the number of audio messages so far.
    """

    def __init__(self, hub: Hub, call_id: str, rate: int) -> None:
        self.call_id = call_id
        self.fanout = Fanout(rate)
        self.token = ""
        self.url = hub.expect(self)
        self.on_lost: Callable[[str], None] | None = None
        self.frames = 0
        self._hub = hub
        self._link: Link | None = None
        self._framing: Framing | None = None
        self._closed = False
        self._dismissed = False

    @property
    def connected(self) -> bool:
        """Whether the module is connected."""
        return self._link is not None

    def renew(self) -> str:
        """A new URL, for a module that shall connect again; the old connection and the old URL are given up."""
        self._hub.withdraw(self.token)
        self._let_go()
        self._dismissed = False
        self.url = self._hub.expect(self)
        return self.url

    def add(
        self, spec: StreamSpec | RtpSpec, changed: Callable[[str, Ended | None], None], *, line: Line | None = None
    ) -> Stream | RtpStream:
        """Start a stream: ``changed("streaming", None)``, then ``changed("finished", how)``, both in the loop.

        A stream that cannot be opened is only ever ``finished``. Raises TooManyStreams, and ValueError for what
        cannot be (two ways and OPUS).
        """
        if len(self.fanout.streams) >= self._hub.max_streams:
            raise TooManyStreams(f"a call may have {self._hub.max_streams} streams")
        stream = self._hub.stream(spec, self.fanout, changed, line)
        self.fanout.streams.add(stream)
        stream.open()
        return stream

    def dtmf(self, digit: str, milliseconds: int = 100) -> None:
        """Tell every stream that the party pressed a digit."""
        for stream in self.fanout.each():
            stream.dtmf(digit, milliseconds)

    def dismiss(self) -> None:
        """The module is about to be told to leave: its going is no loss."""
        self._dismissed = True

    def close(self, reason: str = "hangup") -> None:
        """End every stream of the call, for ``reason``, and let the module go."""
        if self._closed:
            return
        self._closed = True
        for stream in self.fanout.each():
            stream.stop(reason)
        self._hub.withdraw(self.token)
        self._let_go()
        if self.fanout.streams:
            gevent.spawn_later(self._hub.limits.close_timeout + 2 * TICK_SECONDS, self._hub.forget, self)
        else:
            self._hub.forget(self)

    # -- the module ----------------------------------------------------------------------------------------------

    def connect(self, opened: Opened) -> None:
        """Take the module's connection, unless the call ended while it was made."""
        if self._closed or self._link is not None:
            opened.sock.close()
            return
        self._framing = Framing(opened.protocol, Opcode.BINARY, MAX_MESSAGE)
        self._link = Link(opened.sock, receive=self._receive, gone=self.lost, limit=4096)
        if opened.rest:
            self._receive(opened.rest)

    def lost(self, reason: str) -> None:
        """The module's connection ended and nobody had asked for that."""
        self._let_go()
        if not self._closed and not self._dismissed:
            self._hub.counters.lost_feeds += 1
            log.debug("stream_module_lost", call_id=self.call_id, reason=reason)
            if self.on_lost is not None:
                self.on_lost(reason)

    def _receive(self, data: bytes) -> None:
        framing, link = self._framing, self._link
        if framing is None or link is None:
            return
        for stereo in framing.receive(data):
            self.frames += 1
            self.fanout.feed(stereo)
        if framing.spoke:
            link.send(framing.answers())
            if framing.over:
                link.fail("the module closed, or broke the protocol")

    def _let_go(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = self._framing = None
