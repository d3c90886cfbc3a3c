"""How a simulated stream reaches its WebSocket: really, or by a script.

:class:`WebSockets` opens real connections with the ``websockets`` package where that is installed; it does no TLS.
:class:`Scripted` has the outcome of every URL laid down beforehand and remembers what was sent.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import gevent
from gevent.event import Event as Signal
from gevent.lock import RLock
from gevent.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Connection", "Connector", "Outcome", "Scripted", "StreamClosed", "StreamFailed", "WebSockets"]


class StreamFailed(Exception):
    """The connection was not made: the module's error ``code`` and what it says."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(f"{code}: {problem}")
        self.code = code
        self.problem = problem


class StreamClosed(Exception):
    """The far end closed: the WebSocket close ``code`` and ``reason``."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Connection(Protocol):
    """An open WebSocket."""

    def send_text(self, text: str) -> None:
        """Send a text message; raises StreamClosed."""

    def send_audio(self, audio: bytes) -> None:
        """Send a binary message; raises StreamClosed."""

    def receive(self) -> str:
        """The next text message; raises StreamClosed when the far end closed."""

    def close(self) -> None:
        """Close it, without waiting."""


class Connector(Protocol):
    """Opens connections. ``simulated`` ones take call time, others real time."""

    simulated: bool

    def open(self, url: str, headers: Mapping[str, str], timeout: float) -> Connection:
        """Connect within ``timeout`` real seconds; raises StreamFailed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scripted URL does: refuse (``code`` and ``problem``) or accept, in ``after`` real seconds.

    Once accepted: send ``says``; answer each text ``t`` with ``{"echo": t}`` when ``echo``; close with ``close`` (code,
    reason) ``close_after`` real seconds later, or on :meth:`ScriptedConnection.hang_up`.
    """

    code: int = 0
    problem: str = ""
    after: float = 0.0
    says: tuple[str, ...] = ()
    echo: bool = False
    close: tuple[int, str] | None = None
    close_after: float = 0.0

    @classmethod
    def refuse(cls) -> Outcome:
        """Nobody listens there."""
        return cls(6, "Connection refused (system error 111)")

    @classmethod
    def time_out(cls) -> Outcome:
        """Nobody answers within the module's second."""
        return cls(10, "Timed out", after=float("inf"))


class ScriptedConnection:
    """A connection whose far end is an :class:`Outcome`; ``texts`` and ``audio`` are what was sent."""

    def __init__(self, url: str, headers: Mapping[str, str], outcome: Outcome) -> None:
        self.url = url
        self.headers = dict(headers)
        self.texts: list[str] = []
        self.audio: list[bytes] = []
        self.closed = Signal()
        self._outcome = outcome
        self._inbox: Queue[str | StreamClosed] = Queue()
        for text in outcome.says:
            self._inbox.put(text)
        if outcome.close is not None:
            gevent.spawn_later(outcome.close_after, self.hang_up, *outcome.close)

    def say(self, text: str) -> None:
        """The far end sends a text message."""
        self._inbox.put(text)

    def hang_up(self, code: int = 1011, reason: str = "") -> None:
        """The far end closes."""
        self._inbox.put(StreamClosed(code, reason))

    def send_text(self, text: str) -> None:
        """Remember ``text``, and echo it when the outcome says so."""
        self.texts.append(text)
        if self._outcome.echo:
            self._inbox.put(json.dumps({"echo": text}))

    def send_audio(self, audio: bytes) -> None:
        """Remember the frame."""
        self.audio.append(audio)

    def receive(self) -> str:
        """The next text the script sends."""
        said: str | StreamClosed = self._inbox.get()
        if isinstance(said, StreamClosed):
            raise said
        return said

    def close(self) -> None:
        """Remember that our side closed."""
        self.closed.set()


class Scripted:
    """A connector that follows a table from URL path (or a prefix of the URL) to outcome; others are accepted."""

    simulated = True

    def __init__(self, outcomes: Mapping[str, Outcome] | None = None, default: Outcome | None = None) -> None:
        self.outcomes = dict(outcomes or {})
        self.default = default or Outcome()
        self.connections: list[ScriptedConnection] = []

    def open(self, url: str, headers: Mapping[str, str], timeout: float) -> Connection:
        """Do what the table says."""
        path = urlsplit(url).path
        outcome = self.outcomes.get(path) or next(
            (found for start, found in self.outcomes.items() if url.startswith(start)), self.default
        )
        if outcome.after:
            gevent.sleep(min(outcome.after, timeout))
        if outcome.after > timeout:
            raise StreamFailed(10, "Timed out")
        if outcome.code:
            raise StreamFailed(outcome.code, outcome.problem)
        connection = ScriptedConnection(url, headers, outcome)
        self.connections.append(connection)
        return connection


class WebSockets:
    """Connects for real, over TCP, with the ``websockets`` package's protocol; without it every start fails."""

    simulated = False

    def open(self, url: str, headers: Mapping[str, str], timeout: float) -> Connection:
        """Connect and upgrade within ``timeout`` seconds."""
        try:
            from websockets.client import ClientProtocol  # noqa: PLC0415 - a test dependency, needed only here
            from websockets.uri import parse_uri  # noqa: PLC0415
        except ImportError:
            raise StreamFailed(4, "Python package websockets is not installed") from None
        parts = urlsplit(url)
        if parts.scheme != "ws":
            raise StreamFailed(7, "TLS is not simulated")
        try:
            with gevent.Timeout(timeout, TimeoutError):
                sock = socket.create_connection((parts.hostname or "", parts.port or 80))
                return _WebSocket(sock, ClientProtocol(parse_uri(url), max_size=2**20), headers)
        except TimeoutError:
            raise StreamFailed(10, "Timed out") from None
        except OSError as error:
            number = error.errno or 0
            raise StreamFailed(6, f"{os.strerror(number)} (system error {number})") from None


@dataclass(slots=True)
class _WebSocket:
    sock: socket.socket
    protocol: Any
    headers: Mapping[str, str]
    texts: list[str] = field(default_factory=list)
    lock: RLock = field(default_factory=RLock)

    def __post_init__(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = self.protocol.connect()
        for name, value in self.headers.items():
            request.headers[name] = value
        self.protocol.send_request(request)
        self._flush()
        while self.protocol.state.name == "CONNECTING" and self.protocol.handshake_exc is None:
            self._pump()
        if self.protocol.handshake_exc is not None:
            self.sock.close()
            raise StreamFailed(6, "WebSocket upgrade failed")

    def send_text(self, text: str) -> None:
        self._send(self.protocol.send_text, text.encode("utf-8", "replace"))

    def send_audio(self, audio: bytes) -> None:
        self._send(self.protocol.send_binary, audio)

    def receive(self) -> str:
        while not self.texts:
            if not self._pump():
                raise self._closed()
        return self.texts.pop(0)

    def close(self) -> None:
        try:
            if self.protocol.state.name == "OPEN":
                self.protocol.send_close(1000)
                self._flush()
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def _send(self, send: Callable[[bytes], None], data: bytes) -> None:
        if self.protocol.state.name != "OPEN":
            raise self._closed()
        try:
            send(data)
            self._flush()
        except OSError:
            raise self._closed() from None

    def _flush(self) -> None:
        with self.lock:
            for data in self.protocol.data_to_send():
                if data:
                    self.sock.sendall(data)

    def _pump(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
        for event in self.protocol.events_received():
            if getattr(getattr(event, "opcode", None), "name", "") == "TEXT":
                self.texts.append(bytes(event.data).decode("utf-8", "replace"))
        try:
            self._flush()
        except OSError:
            return False
        return bool(data) and self.protocol.state.name in {"CONNECTING", "OPEN"}

    def _closed(self) -> StreamClosed:
        close = self.protocol.close_rcvd
        return StreamClosed(close.code, close.reason) if close else StreamClosed(1006, "")
