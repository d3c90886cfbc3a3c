"""Messages: HTTP requests of whose answer only the status and a header or two count, on connections kept open.

Responsible for: sending a request in one piece, reading its answer within bounds and in time, lending connections to
one message after the other, and asking again where a kept-open one was just being closed. Does not know URLs,
credentials or where a message may go: ``fsctl.web`` writes the requests, opens the connections and explains failures.

A webhook is the most frequent thing fsctl does besides reading events, so this path is short: a non-blocking socket,
llhttp for what comes back, and the event loop only where there is something to wait for. A general client takes four
times as long for the same.
"""

from __future__ import annotations

import math
import ssl
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from http.client import RemoteDisconnected
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gevent import get_hub, getcurrent, monkey
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
GOOD_BYE: Final = 408  # on a connection kept open: it was idle for too long, and closes
LEFT: Final = (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)  # by its server
FAILURES: Final = (OSError, HttpParserError, HttpParserUpgrade)

_Plain = monkey.get_original("socket", "socket")  # never waits: that is done here, once for every kind of connection


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

    The loop watches it from beginning to end, which costs less than to begin and end with every message, and sees an
    idle line's server go: ``closed`` tells.
    """

    __slots__ = (
        "_asker",
        "_due",
        "_hub",
        "_parser",
        "_readable",
        "_rings",
        "_secure",
        "_socket",
        "_timer",
        "_whole",
        "_writable",
        "_write",
        "closed",
        "heard",
        "kept",
        "pairs",
        "status",
        "used",
    )

    def __init__(self, connection: socket.socket, *, secure: bool) -> None:
        self._secure = secure
        self._socket = connection if secure else _Plain(fileno=connection.detach())
        self._socket.settimeout(0.0)
        # TLS's send does not tell what it waits for.
        self._write: Callable[[Any], int] = self._socket.write if secure else self._socket.send
        self._hub = get_hub()
        # It does not keep the loop alive, as an idle line should not; the timer does for who waits.
        self._readable = self._hub.loop.io(self._socket.fileno(), READ, ref=False)
        self._readable.start(self._stirred)
        self._writable = self._hub.loop.io(self._socket.fileno(), WRITE)
        self._asker: Any = None  # the greenlet that waits
        self._due = 0.0  # when its wait has taken too long, on the monotonic clock
        self._timer: Any = None
        self._rings = math.inf  # when the timer goes off, on the same clock
        self._parser = HttpResponseParser(self)
        self._whole = False
        self.used = 0.0  # when an answer was last read whole, on the monotonic clock
        self.closed = False
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
            if self.used:
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
        self.used = time.monotonic()

    def close(self) -> None:
        """Close the connection; it must not be in use."""
        if self.closed:
            return
        self.closed = True
        self._readable.close()
        self._writable.close()
        if self._timer is not None:
            self._timer.close()
        self._socket.close()
        del self._parser  # it holds us

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
            self.kept = self._parser.should_keep_alive() and self.status != GOOD_BYE

    # -- what the loop waits for --

    def _send(self, message: bytes, read: float, until: float) -> None:
        rest: bytes | memoryview = message
        while True:
            try:
                sent = self._write(rest)
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait_to_write(read, until)
            except ssl.SSLWantReadError:
                self._wait(read, until)
            else:
                if sent == len(rest):
                    return
                rest = memoryview(rest)[sent:]

    def _receive(self, read: float, until: float) -> bytes:
        if not self._secure:  # TLS may hold what the loop does not see; without it an answer is never there yet
            self._wait(read, until)
        while True:
            try:
                piece: bytes = self._socket.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(read, until)
            except ssl.SSLWantWriteError:
                self._wait_to_write(read, until)
            else:
                return piece

    def _wait_to_write(self, read: float, until: float) -> None:
        self._readable.stop()  # an early answer would wake us for nothing, again and again
        self._writable.start(self._stirred)
        try:
            self._wait(read, until)
        finally:
            self._writable.stop()
            self._readable.start(self._stirred)

    def _wait(self, read: float, until: float) -> None:
        now = time.monotonic()
        self._due = min(now + read, until)
        if self._due <= now:
            raise TimeoutError
        if self._due < self._rings:
            self._set_timer(self._due - now)
        self._asker = getcurrent()
        try:
            if not self._hub.switch():
                raise TimeoutError
        finally:
            self._asker = None

    def _stirred(self) -> None:
        """Wake who waits. Where nobody does, the server closed the line, or said what nobody asked for."""
        if self._asker is None:
            self.close()
        else:
            self._asker.switch(True)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.close()
        self._rings = self._due
        self._timer = self._hub.loop.timer(seconds)
        self._timer.start(self._ring)

    def _ring(self) -> None:
        """End a wait that is due. The timer may be an earlier one's: nearly all are over long before, and leave it."""
        self._timer.close()
        self._timer, self._rings = None, math.inf
        if self._asker is None:
            return
        left = self._due - time.monotonic()
        if left > 0:
            self._set_timer(left)
        else:
            self._asker.switch(False)


class _Stock:
    """The lines to one origin: how many more there may be, and the idle ones, the one used last at the end."""

    __slots__ = ("closed", "idle", "room")

    def __init__(self, size: int) -> None:
        self.room = Semaphore(size)
        self.idle: deque[Line] = deque()
        self.closed = False

    def take(self) -> Line | None:
        """Take the idle line that was used last, if it is still good; what is older is not."""
        oldest = time.monotonic() - MAX_IDLE
        while self.idle:
            line = self.idle.pop()
            if line.used >= oldest and not line.closed:
                return line
            line.close()
        return None

    def give(self, line: Line) -> None:
        """Keep a line, or close it where that is of no use."""
        if self.closed or not line.kept:
            line.close()
            return
        idle, oldest = self.idle, line.used - MAX_IDLE
        while idle and idle[0].used < oldest:
            idle.popleft().close()
        idle.append(line)

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
        room = stock.room
        if not room.acquire(blocking=False) and not room.acquire(timeout=max(until - time.monotonic(), 0.0)):
            raise TimeoutError
        try:
            line = stock.take()
            if line is not None:
                try:
                    answer = _ask(stock, line, message, read, until, bodiless)
                except LEFT:
                    if line.heard:
                        raise
                else:
                    if line.status != GOOD_BYE:
                        return answer
            seconds = min(connect, until - time.monotonic())
            if seconds <= 0:
                raise TimeoutError
            line = Line(self._connect(origin, seconds), secure=origin[0] == "https")
            return _ask(stock, line, message, read, until, bodiless)
        finally:
            room.release()

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
