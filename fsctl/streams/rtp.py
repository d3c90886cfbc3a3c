"""A track of a call as RTP to one address: plain UDP, for recorders and analysers that speak no WebSocket.

The receiver is asked nothing and tells nothing: there is no RTCP, nothing is sent twice, and what comes back, ICMP
included, is passed over. One packet for each ``ptime`` of audio, from a UDP socket of the tap's own, in the event loop;
what the system does not take at once is dropped and counted. Packets leave as FreeSWITCH's audio comes: with messages
of 60 ms and a ptime of 20, three in a row. Reference: swml-calling 3.10, RFC 3550, 3551 and 7587.
"""

from __future__ import annotations

import _socket
import ipaddress
import os
import time
from binascii import a2b_base64
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, Final

import gevent
import structlog
from gevent.socket import SOCK_DGRAM, getaddrinfo

from fsctl.errors import FetchError
from fsctl.streams.ended import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.streams.audio import Format
    from fsctl.streams.endpoint import Counters
    from fsctl.streams.fanout import Fanout, Lane

__all__ = ["CODECS", "Packetiser", "RtpSpec", "RtpStream", "addresses", "authority", "connected"]

log = structlog.get_logger(__name__)

CODECS: Final = {"PCMU": (0, 8000), "PCMA": (8, 8000), "OPUS": (111, 48_000)}
"""Payload type and clock in Hz. OPUS has no type of its own: 111 is what browsers offer it as."""

PAUSE_SECONDS = 1.0
"""Without audio for so much longer than a packet, the timestamp jumps: that was a pause, and no late packet."""

_HEADER = Struct("!BBHII")
_VERSION = 0x80
_MARKER = 0x80
_RECEIVE_BUFFER = 1  # bytes; the system makes its least of it


class Packetiser:
    """The packets of one source. Its number, its sequence and its clock begin anywhere (RFC 3550, 5.1).

    ``step`` is what one packet adds to the timestamp.
    """

    __slots__ = ("_mark", "_sequence", "_ssrc", "_step", "_timestamp", "_type")

    def __init__(self, payload_type: int, step: int, *, random: Callable[[int], bytes] = os.urandom) -> None:
        self._type = payload_type
        self._step = step
        self._ssrc, self._timestamp, self._sequence = Struct("!IIH").unpack(random(10))
        self._mark = _MARKER

    def packet(self, payload: bytes) -> bytes:
        """The next packet. The first one, and the first after a pause, carry the marker."""
        header = _HEADER.pack(_VERSION, self._mark | self._type, self._sequence, self._timestamp, self._ssrc)
        self._mark = 0
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + self._step) & 0xFFFFFFFF
        return header + payload

    def pause(self, packets: int) -> None:
        """Let the time of so many packets pass without any."""
        self._timestamp = (self._timestamp + packets * self._step) & 0xFFFFFFFF
        self._mark = _MARKER


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpSpec:
    """What is sent where. ``addr`` is an address that was let through the door, ``track`` one of the fanout's three."""

    stream_id: str
    call_id: str
    addr: str
    port: int
    track: str
    form: Format
    two_way: ClassVar[bool] = False

    @property
    def tracks(self) -> tuple[str, ...]:
        """The one track, as a stream has them."""
        return (self.track,)


class RtpStream:
    """Packets to one address from :meth:`open` on until :meth:`stop`; to the hub a stream like those to WebSockets.

    ``changed(state, ended)`` runs in the event loop and must not wait. ``source`` is the address and port that packets
    come from, once it is ``streaming``; ``dropped`` counts packets that the system did not take. ``connect`` makes the
    socket (:func:`connected`).
    """

    __slots__ = (
        "_changed",
        "_connect",
        "_counters",
        "_due",
        "_fanout",
        "_packetiser",
        "_seconds",
        "_send",
        "_sock",
        "dropped",
        "ended",
        "source",
        "spec",
        "started",
        "state",
    )

    def __init__(
        self,
        spec: RtpSpec,
        fanout: Fanout,
        *,
        connect: Callable[[str, int], _socket.socket],
        counters: Counters,
        changed: Callable[[str, Ended | None], None],
    ) -> None:
        payload_type, clock = CODECS[spec.form.codec]
        self.spec = spec
        self.state = "connecting"
        self.started = False
        self.ended: Ended | None = None
        self.source = ("", 0)
        self.dropped = 0
        self._fanout = fanout
        self._connect = connect
        self._counters = counters
        self._changed = changed
        self._packetiser = Packetiser(payload_type, clock * spec.form.frame_ms // 1000)
        self._seconds = spec.form.frame_ms / 1000
        self._due = 0.0  # when the next packet is late enough for a pause
        self._sock: _socket.socket | None = None
        self._send: Callable[[bytes], int] | None = None

    def open(self) -> None:
        """Send from now on. Nobody is asked: it is ``streaming``, or ``finished`` for want of a route or a socket."""
        try:
            self._sock = self._connect(self.spec.addr, self.spec.port)
            self.source = self._sock.getsockname()[:2]
        except OSError as problem:
            where = authority(self.spec.addr, self.spec.port)
            self.end(Ended("connect", f"nothing can be sent to {where}: {problem.strerror or problem}"))
            return
        try:
            self._fanout.join(self)
        except Exception:  # the border of this stream: an encoder that cannot be had ends it alone
            log.exception("stream_open_failed", stream_id=self.spec.stream_id)
            self.end(Ended("internal", "the audio cannot be encoded"))
            return
        self._send = self._sock.send
        self._due = time.monotonic() + PAUSE_SECONDS
        self.state = "streaming"
        self.started = True
        self._counters.streaming += 1
        self._tell("streaming", None)

    def push(self, lane: Lane, payload: bytes, at: int) -> None:  # noqa: ARG002 - the packets count for themselves
        """Send a frame, which comes in base64, as WebSockets want it; undoing that costs 0.2 µs. The hot path."""
        send = self._send
        if send is None:
            return
        now = time.monotonic()
        if now > self._due:
            self._packetiser.pause(round((now - self._due + PAUSE_SECONDS) / self._seconds))
        self._due = now + self._seconds + PAUSE_SECONDS
        packet = self._packetiser.packet(a2b_base64(payload))
        for _ in range(2):
            try:
                send(packet)
            except ConnectionRefusedError:  # somebody's answer to an earlier packet; this one has not left yet
                continue
            except OSError:  # no room, no route for now: the receiver sees a gap in the sequence
                break
            return
        self.dropped += 1
        self._counters.dropped_messages += 1

    def dtmf(self, digit: str, milliseconds: int) -> None:
        """Say nothing of keys: what is tapped is audio."""

    def tick(self, now: float, seconds: float) -> None:
        """Nothing to look after."""

    def stop(self, reason: str = "stopped") -> None:
        """Send nothing more; there is nobody to take leave of."""
        self.end(Ended(reason))

    def end(self, ended: Ended) -> None:
        """Be finished now."""
        if self.state == "finished":
            return
        self.state = "finished"
        self.ended = ended
        self._fanout.forget(self)
        self._send = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None
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


def connected(addr: str, port: int) -> _socket.socket:
    """A UDP socket that sends to one address and never waits. Raises OSError when there is no way there.

    Connecting sends nothing: it chooses the address we send from, and lets in nobody else's packets.
    """
    family = _socket.AF_INET6 if ":" in addr else _socket.AF_INET
    sock = _socket.socket(family, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _RECEIVE_BUFFER)  # nobody reads what comes back
        sock.connect((addr, port))
    except BaseException:
        sock.close()
        raise
    return sock


def addresses(host: str, port: int, *, timeout: float = 5.0) -> list[str]:
    """The addresses of ``host``, a name or itself an address; looked up once. Raises FetchError."""
    try:
        with gevent.Timeout(timeout, TimeoutError()):
            found = getaddrinfo(host.strip("[]"), port, type=SOCK_DGRAM)
    except TimeoutError:
        raise FetchError(f"rtp://{authority(host, port)}", "timeout", "gave no address in time") from None
    except (OSError, ValueError) as problem:  # ValueError: text that is no name at all
        detail = f"cannot be found: {getattr(problem, 'strerror', None) or 'not a host name'}"
        raise FetchError(f"rtp://{authority(host, port)}", "dns", detail) from problem
    return list(dict.fromkeys(str(ipaddress.ip_address(info[4][0].partition("%")[0])) for info in found))


def authority(host: str, port: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
