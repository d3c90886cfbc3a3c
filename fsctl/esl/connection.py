"""One event socket: a reader greenlet, replies in order, events handed on.

Subclasses greenswitch's session and puts right, in this one place, what it does wrong: framing is bytes and bounded
(``protocol.py``), an event is never decoded before it is split, writes are whole and in the order of their replies,
nothing polls, and whatever ends the socket ends every waiter. Knows nothing of calls.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import gevent

import structlog
from gevent import socket
from gevent.event import AsyncResult
from gevent.lock import Semaphore
from greenswitch.esl import ESLProtocol, OutboundSession

from fsctl.errors import CommandFailed, LegGone, ProtocolError
from fsctl.esl.protocol import Message, Protocol, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.freeswitch.commands import Api, Command

__all__ = ["Connection"]

log = structlog.get_logger(__name__)

_RECEIVE = 65536


class Connection(OutboundSession):  # type: ignore[misc]  # greenswitch carries no types
    """A connection that FreeSWITCH opened to us.

    ``on_event`` gets the raw body of every JSON event, ``on_end`` is called once when the socket is finished, both in
    the reader's greenlet: they must not wait for anything this connection brings.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_event: Callable[[bytes], None],
        on_end: Callable[[], None],
        timeout: float,
    ) -> None:
        # Not OutboundSession's: it would start its own readers on the socket before ours could run.
        ESLProtocol.__init__(self)
        self.sock = sock
        self.connected = True
        self._on_event = on_event
        self._on_end = on_end
        self._timeout = timeout
        self._replies: deque[AsyncResult | str] = deque()
        self._writing = Semaphore()
        self._reader = gevent.spawn(self.receive_events)

    # -- down ----------------------------------------------------------------------------------------------------

    def ask(self, command: Command | bytes, name: str, timeout: float | None = None) -> Message:
        """Send one command and wait for its reply. ``name`` is what errors call it.

        Raises LegGone when the connection ends first. A reply that does not come in time leaves the order of replies
        unknown, so the connection is closed.
        """
        result = AsyncResult()
        self._write([(encode(command) if not isinstance(command, bytes) else command, result)])
        with gevent.Timeout(timeout or self._timeout, False):
            message: Message = result.get()
            return message
        log.error("no_reply", command=name, seconds=timeout or self._timeout)
        self.close()
        raise LegGone

    def tell(self, *frames: tuple[bytes, str]) -> None:
        """Send commands in one write without waiting; a reply that is an error is logged under the given name."""
        self._write(list(frames))

    def api(self, api: Api, timeout: float | None = None) -> str:
        """What an API command prints. Raises CommandFailed for ``-ERR`` and ``-USAGE``, LegGone at the end."""
        text = self.ask(encode(api.command), api.name, timeout).text
        if text.startswith(("-ERR", "-USAGE")):
            raise CommandFailed(api.name, text)
        return text

    def _write(self, frames: list[tuple[bytes, AsyncResult | str]]) -> None:
        with self._writing:  # one greenlet at a time: the order of writes is the order of replies
            if not self.connected:
                raise LegGone
            self._replies.extend(reply for _, reply in frames)
            try:
                self.sock.sendall(b"".join([frame for frame, _ in frames]) if len(frames) > 1 else frames[0][0])
            except OSError as error:
                log.warning("event_socket_write_failed", problem=str(error))
                self.close()
                raise LegGone from error

    # -- up ------------------------------------------------------------------------------------------------------

    def receive_events(self) -> None:
        """Read until the socket ends, whatever ends it, and let nobody wait afterwards."""
        protocol = Protocol()
        receive = self.sock.recv
        try:
            while True:
                data = receive(_RECEIVE)
                if not data:
                    if not protocol.idle:
                        log.warning("event_socket_cut", problem="FreeSWITCH closed in the middle of a message")
                    break
                for message in protocol.receive(data):
                    self._handle(message)
        except ProtocolError as error:
            log.error("event_socket_garbage", problem=str(error))
        except OSError as error:
            if self.connected:
                log.warning("event_socket_lost", problem=str(error))
        finally:
            self.close()
            self._on_end()

    def _handle(self, message: Message) -> None:
        kind = message.kind
        if kind == "event":
            self._on_event(message.body)
        elif kind in ("reply", "api"):
            if not self._replies:
                raise ProtocolError("a reply to no command")
            waiting = self._replies.popleft()
            if isinstance(waiting, str):
                text = message.text
                if text.startswith("-"):
                    log.warning("command_refused", command=waiting, reply=text.strip()[:200])
            else:
                waiting.set(message)

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket and fail everyone who waits for a reply. Safe to call more than once, from anywhere."""
        if not self.connected:
            return
        self.connected = False
        replies, self._replies = self._replies, deque()
        for waiting in replies:
            if not isinstance(waiting, str):
                waiting.set_exception(LegGone())
        self.sock.close()

    def stop(self) -> None:
        """Close and wait for the reader to be gone."""
        self.close()
        if gevent.getcurrent() is not self._reader:
            self._reader.join()
