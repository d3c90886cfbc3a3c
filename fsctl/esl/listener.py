"""Accept calls from FreeSWITCH: as many as allowed, the rest answered so that their dialplan goes on.

Accepting is gevent's ``StreamServer``; a call that comes while draining, or when the house is full, gets ``connect``
and ``resume`` and is closed, so that FreeSWITCH runs the dialplan action after ``socket``. A connection that is just
closed could be parked for ever. Reference: freeswitch, 1.2, 1.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent import socket
from gevent.event import Event
from gevent.pool import Group
from gevent.server import StreamServer

from fsctl import log as logs
from fsctl.esl.connection import Socket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listener"]

log = structlog.get_logger(__name__)

_REFUSALS_AT_ONCE = 256
_RESTING = 64  # workers: as many calls as end before the next ones come; each holds 20 kB
# Commands are small and waited for; a FreeSWITCH host that vanishes is noticed after half a minute.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class _Server(StreamServer):  # type: ignore[misc]  # gevent carries no types
    """gevent's, handing over sockets as the kernel made them: what its own add is of use to who waits in them.

    One at a time, or every call would cost a second look at a queue that is empty.
    """

    max_accept = 1

    def init_socket(self) -> None:
        """Begin to listen."""
        super().init_socket()
        self._kind = self.socket.family, self.socket.type, self.socket.proto  # each socket would ask the kernel for it

    def do_read(self) -> tuple[Any, object] | None:
        """Take a connection, if there is one."""
        try:
            descriptor, address = self.socket._accept()  # noqa: SLF001 - as StreamServer does
        except BlockingIOError:
            return None
        return Socket(*self._kind, descriptor), address

    def do_handle(self, sock: Any, address: object) -> None:
        """Hand it over; this runs in the event loop."""
        self._handle(sock, address)


class Listener:
    """``take(sock)`` runs a call to its end; ``refuse(sock, reason)`` turns one away. Both own the socket."""

    def __init__(
        self,
        address: tuple[str, int] | socket.socket,
        *,
        take: Callable[[socket.socket], None],
        refuse: Callable[[socket.socket, str], None],
        max_calls: int,
        backlog: int = 1024,
    ) -> None:
        self._take = take
        self._refuse = refuse
        self._max_calls = max_calls
        self.calls = 0  # that run now
        self._empty = Event()
        self._empty.set()
        self._workers = Group()
        # Workers whose call is over, by what gives them the next one. A new greenlet, for whose stack the kernel has to
        # find memory, is about a twentieth of what a call costs.
        self._resting: list[Callable[[Any], Any]] = []
        self._hub = gevent.get_hub()
        self._refusals = Group()
        self._draining = False
        listens = isinstance(address, socket.socket)  # one that systemd gave us; it has its own backlog
        self._server = _Server(address, self._accept, backlog=None if listens else backlog)

    def start(self) -> None:
        """Begin to accept. Raises OSError when the address cannot be had."""
        self._server.init_socket()
        for option in _SOCKET_OPTIONS:  # every accepted socket inherits them
            self._server.socket.setsockopt(*option)
        self._server.start()

    @property
    def address(self) -> tuple[str, int]:
        """Where we listen: host and port."""
        host, port = self._server.address[:2]
        return str(host), int(port)

    @property
    def accepting(self) -> bool:
        """True while new calls are taken."""
        return bool(self._server.started) and not self._draining

    def drain(self) -> None:
        """Take no more calls; those that come are turned away."""
        self._draining = True

    def wait_empty(self, seconds: float) -> bool:
        """Wait for the calls to end; False when some are left after ``seconds``."""
        return bool(self._empty.wait(seconds))

    def stop(self) -> None:
        """Stop listening and end what is left."""
        self._server.close()
        self._workers.kill(timeout=5)
        self._resting.clear()
        self._refusals.kill(timeout=1)

    def _accept(self, sock: Any, _address: object) -> None:
        # In the event loop: whatever is done with it has a greenlet of its own.
        reason = "draining" if self._draining else "capacity" if self.calls >= self._max_calls else ""
        if not reason:
            self.calls += 1
            self._empty.clear()
            if self._resting:
                self._hub.loop.run_callback(self._resting.pop(), sock)
            else:
                self._workers.spawn(self._work, sock)
        elif len(self._refusals) >= _REFUSALS_AT_ONCE:
            log.error("refusals_overflow", at_once=_REFUSALS_AT_ONCE)
            sock.close()
        else:
            self._refusals.spawn(self._refuse, sock, reason)

    def _work(self, sock: Any) -> None:
        """Run one call after the other."""
        while True:
            try:
                self._take(sock)
            finally:
                self.calls -= 1
                if not self.calls:
                    self._empty.set()
            if len(self._resting) >= _RESTING:
                return
            logs.unbound()  # what the log knew of the last call
            self._resting.append(gevent.getcurrent().switch)
            sock = self._hub.switch()
