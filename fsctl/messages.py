"""Messages: HTTP requests of whose answer only the status and a header or two count, on connections kept open.

Responsible for: sending a request in one piece, reading its answer within bounds and in time, lending connections to
one message after the other, and asking again where a kept-open one was just being closed. Does not know URLs,
credentials or where a message may go: ``fsctl.web`` writes the requests, opens the connections and explains failures.

A webhook is the most frequent thing fsctl does besides reading events, so this path is short: a non-blocking socket,
llhttp for what comes back, and the event loop only where there is something to wait for. A general client takes four
times as long for the same.
"""

from __future__ import annotations

import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from http.client import RemoteDisconnected
from select import POLLIN
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import gevent
from gevent import monkey
from gevent.hub import Waiter
from gevent.lock import Semaphore
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gevent import socket

__all__ = ["FAILURES", "MAX_IDLE", "Headers", "Line", "Lines"]

Origin: TypeAlias = tuple[str, str, int]  # scheme, host, port

MAX_ANSWER: Final = 65_536  # head, interim ones and body; what is longer costs the connection
MAX_IDLE = 30.0  # seconds; a firewall forgets older connections without telling anybody
MAX_HOSTS: Final = 256  # with connections kept open
PIECE: Final = 8192

READ, WRITE = 1, 2  # as the event loop counts
LEFT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # by its server
FAILURES: Final = (OSError, HttpParserError, HttpParserUpgrade)

_poll = monkey.get_original("select", "poll")  # asked with no time to wait; the patched one still visits the hub


class Headers(Mapping[str, str]):
    """Headers of an answer, asked for in any spelling; repeated ones are joined by a comma."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        found = [value for given, value in self._pairs if given.lower() == wanted]
        if not found:
            raise KeyError(name)
        return b", ".join(found).decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower().decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Line:
    """One connection, for one message at a time.

    After :meth:`ask`, even one that raised: ``status`` is the answer's, 0 if none came; ``pairs`` are its headers;
    ``kept`` tells whether another message may follow; ``heard`` whether anything came back at all.
    """

    __slots__ = (
        "_look",
        "_loop",
        "_parser",
        "_readable",
        "_secure",
        "_socket",
        "_used",
        "_whole",
        "_writable",
        "_write",
        "heard",
        "kept",
        "pairs",
        "status",
    )

    def __init__(self, connection: socket.socket, *, secure: bool) -> None:
        connection.settimeout(0.0)
        self._socket = connection
        self._secure = secure
        self._write = connection.write if secure else connection.send  # TLS's send does not tell what it waits for
        self._loop = gevent.get_hub().loop
        self._readable = self._loop.io(connection.fileno(), READ)
        self._writable = self._loop.io(connection.fileno(), WRITE)
        self._look = _poll()
        self._look.register(connection.fileno(), POLLIN)
        self._parser = HttpResponseParser(self)
        self._used = 0.0  # when an answer was last read whole, on the monotonic clock
        self._whole = False
        self.heard = False
        self.kept = False
        self.status = 0
        self.pairs: list[tuple[bytes, bytes]] = []

    def ask(self, message: bytes, read: float, until: float, *, bodiless: bool = False) -> None:
        """Send a message and read its answer, the body (none if ``bodiless``, as for HEAD) into nothing.

        ``read`` is in seconds, between two pieces; ``until`` on the monotonic clock, for everything.
        Raises OSError, TimeoutError among them, and the parser's errors. Only a line that is ``kept`` may ask again.
        """
        self.status, self.pairs = 0, []
        self.heard = self.kept = self._whole = False
        try:
            self._send(message, read, until)
        except LEFT:
            if self._used:
                raise  # otherwise it may have answered before it had read everything
        taken = 0
        while not self._whole:
            piece = self._receive(read, until)
            if not piece:
                raise RemoteDisconnected("closed in the middle of an answer")
            self.heard = True
            self._parser.feed_data(piece)
            if bodiless and self.status:
                return
            taken += len(piece)
            if taken > MAX_ANSWER:
                raise HttpParserError("the answer has no end")
        self._used = time.monotonic()

    def rested(self) -> bool:
        """Tell whether an idle line is still good: not closed, not sent what nobody asked for, not too old."""
        return not self.expired() and not self._look.poll(0)

    def expired(self) -> bool:
        """Tell whether the line was idle for too long."""
        return time.monotonic() - self._used > MAX_IDLE

    def close(self) -> None:
        """Close the connection; it must not be in use."""
        self._readable.close()
        self._writable.close()
        self._socket.close()

    # -- what the parser finds --

    def on_message_begin(self) -> None:
        """Refuse an answer to a question that was not asked."""
        if self._whole:
            raise HttpParserError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self.pairs.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status, unless it is only that of an interim answer."""
        status = self._parser.get_status_code()
        if status < 100:
            raise HttpParserError("no status")
        if status < 200 and status != 101:
            self.pairs.clear()
        else:
            self.status = status

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.status:
            self._whole = True
            self.kept = self._parser.should_keep_alive()

    # -- what the loop waits for --

    def _send(self, message: bytes, read: float, until: float) -> None:
        sent = self._do(self._write, message, self._writable, read, until)
        if sent < len(message):
            rest = memoryview(message)
            while rest := rest[sent:]:
                sent = self._do(self._write, rest, self._writable, read, until)

    def _receive(self, read: float, until: float) -> bytes:
        if not self._secure:  # TLS may hold what the loop does not see; without it an answer is never there yet
            self._wait(self._readable, read, until)
        piece: bytes = self._do(self._socket.recv, PIECE, self._readable, read, until)
        return piece

    def _do(self, action: Callable[[Any], Any], argument: Any, watcher: Any, read: float, until: float) -> Any:
        while True:
            try:
                return action(argument)
            except BlockingIOError:
                self._wait(watcher, read, until)
            except ssl.SSLWantReadError:
                self._wait(self._readable, read, until)
            except ssl.SSLWantWriteError:
                self._wait(self._writable, read, until)

    def _wait(self, watcher: Any, read: float, until: float) -> None:
        seconds = min(read, until - time.monotonic())
        if seconds <= 0:
            raise TimeoutError
        waiter = Waiter()
        timer = self._loop.timer(seconds)
        timer.start(waiter.switch, False)
        watcher.start(waiter.switch, True)
        try:
            if not waiter.get():
                raise TimeoutError
        finally:
            watcher.stop()
            timer.close()


class _Stock:
    """The lines to one origin: how many more there may be, and the idle ones, the one used last at the end."""

    __slots__ = ("closed", "idle", "room")

    def __init__(self, size: int) -> None:
        self.room = Semaphore(size)
        self.idle: deque[Line] = deque()
        self.closed = False

    def take(self) -> Line | None:
        """Take the idle line that was used last, if it is still good; what is older is not."""
        while self.idle:
            line = self.idle.pop()
            if line.rested():
                return line
            line.close()
        return None

    def give(self, line: Line) -> None:
        """Keep a line, or close it where that is of no use."""
        if self.closed or not line.kept:
            line.close()
            return
        while self.idle and self.idle[0].expired():
            self.idle.popleft().close()
        self.idle.append(line)

    def close(self) -> None:
        """Close what is idle now, and what is lent as it comes back."""
        self.closed = True
        while self.idle:
            self.idle.pop().close()


class Lines:
    """Kept-open connections by origin, ``size`` to each at most; the origin not asked for longest goes first.

    ``connect(origin, seconds)`` opens a connection, secure where its scheme says so.
    """

    def __init__(self, connect: Callable[[Origin, float], socket.socket], size: int) -> None:
        self._connect = connect
        self._size = size
        self._stocks: OrderedDict[Origin, _Stock] = OrderedDict()

    def send(
        self, origin: Origin, message: bytes, connect: float, read: float, until: float, *, bodiless: bool = False
    ) -> tuple[int, Headers]:
        """Send a message and give the status and the headers of its answer, whatever it is.

        ``connect`` and ``read`` are in seconds, ``until`` is on the monotonic clock and holds for everything, the wait
        for a free connection included. What goes wrong after the status is known only costs the connection. A message
        that met a kept-open connection its server was just closing is sent again on a new one.

        Raises one of ``FAILURES``, and what ``connect`` raises.
        """
        stock = self._of(origin)
        if not stock.room.acquire(timeout=max(until - time.monotonic(), 0.0)):
            raise TimeoutError
        try:
            line = stock.take()
            if line is not None:
                try:
                    return _ask(stock, line, message, read, until, bodiless)
                except LEFT:
                    if line.heard:
                        raise
            seconds = min(connect, until - time.monotonic())
            if seconds <= 0:
                raise TimeoutError
            line = Line(self._connect(origin, seconds), secure=origin[0] == "https")
            return _ask(stock, line, message, read, until, bodiless)
        finally:
            stock.room.release()

    def close(self) -> None:
        """Close what is idle now; what is lent closes as it comes back."""
        while self._stocks:
            self._stocks.popitem()[1].close()

    def _of(self, origin: Origin) -> _Stock:
        stock = self._stocks.get(origin)
        if stock is not None:
            self._stocks.move_to_end(origin)
            return stock
        stock = self._stocks[origin] = _Stock(self._size)
        if len(self._stocks) > MAX_HOSTS:
            self._stocks.popitem(last=False)[1].close()
        return stock


def _ask(stock: _Stock, line: Line, message: bytes, read: float, until: float, bodiless: bool) -> tuple[int, Headers]:
    try:
        line.ask(message, read, until, bodiless=bodiless)
    except FAILURES:
        line.kept = False
        if not line.status:
            raise
    except BaseException:
        line.kept = False
        raise
    finally:
        stock.give(line)
    return line.status, Headers(line.pairs)
