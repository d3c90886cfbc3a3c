"""A connected socket in the hands of the event loop: bytes come by callback and go without waiting.

A greenlet a stream would cost 12 µs a message more than these callbacks do, so live audio runs in the loop alone.
Nothing in here blocks, and nothing it calls may. What the network does not take is kept up to a bound, and whoever
sends asks :meth:`Link.full` first and drops whole messages.
"""

from __future__ import annotations

import socket as modern
import ssl
from typing import TYPE_CHECKING, Any

import gevent

if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

__all__ = ["Link", "SecureLink", "Tls"]

_READ, _WRITE = 1, 2
_PIECE = 16_384
_WAIT = (BlockingIOError, InterruptedError)

KERNEL_BUFFER = 65_536
"""What the system may hold back for an endpoint; left to itself it would take megabytes, minutes of speech."""


class Link:
    """Bytes over TCP. ``receive`` is called with every piece, ``gone`` once, with the reason, when the far end left."""

    __slots__ = ("_gone", "_reader", "_receive", "_send", "_sock", "_unsent", "_writer", "limit", "open")

    def __init__(
        self,
        sock: _socket.socket,
        *,
        receive: Callable[[bytes], None],
        gone: Callable[[str], None],
        limit: int,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(modern.IPPROTO_TCP, modern.TCP_NODELAY, 1)
        sock.setsockopt(modern.SOL_SOCKET, modern.SO_SNDBUF, KERNEL_BUFFER)
        self.open = True
        self.limit = limit
        self._sock = sock
        self._send = sock.send
        self._receive = receive
        self._gone = gone
        self._unsent = bytearray()
        self._reader: Any = gevent.get_hub().loop.io(sock.fileno(), _READ)
        self._writer: Any = None
        self._reader.start(self._readable)

    def full(self, size: int) -> bool:
        """Whether ``size`` more bytes would go beyond the bound, because the far end does not take what it was sent."""
        return bool(self._unsent) and len(self._unsent) + size > self.limit

    def send(self, data: bytes) -> None:
        """Send now what the system takes, and the rest as soon as it takes that."""
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self._send(data)
        except _WAIT:
            sent = 0
        except OSError as problem:
            self.fail(problem.strerror or "broken")
            return
        if sent != len(data):
            self._unsent += data[sent:]
            self._writer = self._writer or gevent.get_hub().loop.io(self._sock.fileno(), _WRITE)
            self._writer.start(self._writable)

    def pause(self) -> None:
        """Read no more for now; the far end notices by itself."""
        self._reader.stop()

    def resume(self) -> None:
        """Read on."""
        if self.open:
            self._reader.start(self._readable)

    def close(self) -> None:
        """Close at once, without a word. What was not sent is lost."""
        if self.open:
            self.open = False
            for watcher in (self._reader, self._writer):
                if watcher is not None:
                    watcher.stop()
                    watcher.close()
            self._unsent = bytearray()
            self._sock.close()

    def fail(self, reason: str) -> None:
        """Close, and say that the far end is gone."""
        if self.open:
            self.close()
            self._gone(reason)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(_PIECE)
        except _WAIT:
            return
        except OSError as problem:
            self.fail(problem.strerror or "broken")
            return
        if data:
            self._receive(data)
        else:
            self.fail("closed by the far end")

    def _writable(self) -> None:
        try:
            sent = self._send(self._unsent)
        except _WAIT:
            return
        except OSError as problem:
            self.fail(problem.strerror or "broken")
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._writer.stop()


class Tls:
    """The secured inside of a connection: what to do with bytes, and no socket."""

    __slots__ = ("incoming", "object", "outgoing")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)

    def seal(self, data: bytes) -> bytes:
        """What to send so that the far end reads ``data``."""
        self.object.write(data)
        return self.outgoing.read()

    def unseal(self, data: bytes) -> tuple[bytes, bool]:
        """What the far end said with ``data``, and whether it said goodbye. Raises ssl.SSLError."""
        self.incoming.write(data)
        pieces = []
        ended = False
        try:
            while piece := self.object.read(_PIECE):
                pieces.append(piece)
            ended = True
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces), ended


class SecureLink(Link):
    """The same over TLS."""

    __slots__ = ("_receive_plain", "_tls")

    def __init__(
        self,
        sock: _socket.socket,
        tls: Tls,
        *,
        receive: Callable[[bytes], None],
        gone: Callable[[str], None],
        limit: int,
    ) -> None:
        self._tls = tls
        self._receive_plain = receive
        super().__init__(sock, receive=self._unseal, gone=gone, limit=limit)

    def send(self, data: bytes) -> None:
        """Send, sealed."""
        super().send(self._tls.seal(data))

    def _unseal(self, data: bytes) -> None:
        try:
            plain, ended = self._tls.unseal(data)
        except ssl.SSLError as problem:
            self.fail(f"TLS: {(problem.reason or 'broken').replace('_', ' ').lower()}")
            return
        if answer := self._tls.outgoing.read():
            super().send(answer)
        if plain and self.open:
            self._receive_plain(plain)
        if ended:
            self.fail("closed by the far end")
