"""Accept calls from FreeSWITCH: as many as allowed, the rest answered so that their dialplan goes on.

Accepting is gevent's ``StreamServer``; a call that comes while draining, or when the house is full, gets ``connect``
and ``resume`` and is closed, so that FreeSWITCH runs the dialplan action after ``socket``. A connection that is just
closed could be parked for ever. Reference: freeswitch, 1.2, 1.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import structlog
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Listener"]

log = structlog.get_logger(__name__)

_REFUSALS_AT_ONCE = 256
# Commands are small and waited for; a FreeSWITCH host that vanishes is noticed after half a minute.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


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
        self._calls = Pool(max_calls)
        self._refusals = Pool(_REFUSALS_AT_ONCE)
        self._draining = False
        listens = isinstance(address, socket.socket)  # one that systemd gave us; it has its own backlog
        self._server = StreamServer(address, self._accept, backlog=None if listens else backlog)

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
        return bool(self._calls.join(timeout=seconds))

    def stop(self) -> None:
        """Stop listening and end what is left."""
        self._server.close()
        self._calls.kill(timeout=5)
        self._refusals.kill(timeout=1)

    def _accept(self, sock: socket.socket, _address: object) -> None:
        # StreamServer gives this a greenlet of its own, which becomes the call's.
        reason = "draining" if self._draining else "capacity" if self._calls.full() else ""
        if not reason:
            self._calls.add(gevent.getcurrent())
            self._take(sock)
        elif self._refusals.full():
            log.error("refusals_overflow", at_once=_REFUSALS_AT_ONCE)
            sock.close()
        else:
            self._refusals.add(gevent.getcurrent())
            self._refuse(sock, reason)
