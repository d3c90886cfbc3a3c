"""The HTTP server around the application: gevent's, with limits and a structured log.

Bounded: connections at a time, the request line (gevent: 8 KiB) and headers (``MAX_HEADER_BYTES``), the time a
request's head may take, the time one read or write of a socket may take. TLS is a proxy's job.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from http import client as http_client
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import gevent
import structlog
from gevent import pywsgi
from gevent.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HttpServer"]

log = structlog.get_logger(__name__)

MAX_HEADER_BYTES: Final = 32 * 1024
REST_OF_BODY_SECONDS: Final = 5.0


class HttpServer:
    """Serves ``app`` on ``listener``: a listening socket or ``(host, port)``.

    ``connections`` at a time; more wait in the kernel's queue. A request's head has ``head_timeout`` seconds from its
    first byte, an idle connection ``idle_timeout``, and so has every single read and write afterwards.
    """

    def __init__(
        self,
        listener: Any,
        app: Callable[..., Any],
        *,
        connections: int = 200,
        head_timeout: float = 10.0,
        idle_timeout: float = 30.0,
    ) -> None:
        self._server = _Server(
            listener, app, spawn=Pool(connections), log=None, error_log=_ErrorLog(), handler_class=_Handler
        )
        self._server.head_timeout = head_timeout
        self._server.idle_timeout = idle_timeout

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; the port that was really taken, when 0 was asked for."""
        return self._server.address[0], self._server.address[1]

    def start(self) -> None:
        """Listen and serve in the background. Raises OSError when the address cannot be had."""
        self._server.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Take no more connections, let requests under way finish for ``timeout`` seconds, then cut them off."""
        self._server.stopping = True
        for handler in [*self._server.idle]:
            handler.hang_up()
        self._server.stop(timeout=timeout)


class _Server(pywsgi.WSGIServer):  # type: ignore[misc]  # gevent carries no types
    head_timeout: float
    idle_timeout: float
    stopping = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.idle: set[_Handler] = set()

    def handle(self, sock: Any, address: Any) -> None:
        sock.settimeout(self.idle_timeout)
        with suppress(OSError):  # a UNIX socket has no such option, and one that is gone will say so itself
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body leave as two writes
        try:
            super().handle(sock, address)
        except OSError as error:  # the client went away, or took too long
            log.debug("http_connection_lost", client=_host(address), problem=str(error))


class _Body(pywsgi.Input):  # type: ignore[misc]  # gevent carries no types
    """A request's body; what of it nobody read is waited for, but not for ever."""

    __slots__ = ()

    def _discard(self) -> None:
        with gevent.Timeout(REST_OF_BODY_SECONDS, TimeoutError):  # gevent passes over it, as over a lost connection
            super()._discard()


class _Handler(pywsgi.WSGIHandler):  # type: ignore[misc]  # gevent carries no types
    _head: gevent.Timeout | None = None  # runs while a request's head is read

    def hang_up(self) -> None:
        """Wake a connection that waits for its next request, and end it."""
        with suppress(OSError):  # the client was faster
            self.socket.shutdown(socket.SHUT_RDWR)

    def read_requestline(self) -> str:
        """Wait for a request; the clock for its head starts with the first byte."""
        if self.server.stopping:
            return ""
        self.server.idle.add(self)
        try:
            first = self.rfile.peek(1)
        finally:
            self.server.idle.discard(self)
        if not first:
            return ""
        self._head = gevent.Timeout.start_new(self.server.head_timeout)
        line: str = super().read_requestline()
        return line

    def handle_one_request(self) -> Any:
        self._head = None
        try:
            return super().handle_one_request()
        except gevent.Timeout as timeout:
            if timeout is not self._head:
                raise
            log.info("http_head_too_slow", client=_host(self.client_address), seconds=self.server.head_timeout)
            return ("408", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        finally:
            self._head_done()

    def MessageClass(self, *_arguments: Any) -> Any:  # noqa: N802 -- gevent's name for "parse the headers"
        lines = []
        left = MAX_HEADER_BYTES
        while (line := self.rfile.readline(left + 1)) not in (b"\r\n", b"\n", b""):
            left -= len(line)
            if left <= 0:
                too_long = pywsgi.headers_factory(BytesIO(b"\r\n"))
                too_long.status = "headers too long"
                return too_long
            lines.append(line)
        try:
            return super().MessageClass(BytesIO(b"".join([*lines, b"\r\n"])), 0)
        except http_client.HTTPException as error:  # more than 100 headers
            raise ValueError(str(error)) from error

    def handle_one_response(self) -> None:
        self._head_done()
        self.wsgi_input.__class__ = _Body
        super().handle_one_response()
        if self.wsgi_input.position < (self.content_length or 0):
            self.close_connection = True  # what comes next is the rest of this body, not a request

    def _head_done(self) -> None:
        if self._head is not None:
            self._head.close()

    def log_request(self) -> None:
        """Write nothing: the application writes the access line."""

    def _log_error(self, kind: type[BaseException], error: BaseException, trace: Any) -> None:
        client = _host(self.client_address)
        if issubclass(kind, ConnectionError | TimeoutError):  # it went away, or does not read
            log.info("http_connection_lost", client=client, problem=str(error))
        elif not issubclass(kind, gevent.GreenletExit):
            log.error("http_response_failed", client=client, exc_info=(kind, error, trace))

    def log_error(self, msg: str, *arguments: Any) -> None:
        """Report a request that could not be read; the client's fault, and its text is not repeated."""
        log.info("http_request_unreadable", client=_host(self.client_address), problem=(msg % arguments)[:200])


class _ErrorLog:
    """What WSGI calls ``wsgi.errors``: each line becomes a log line."""

    def write(self, text: str) -> None:
        if text := text.strip():
            log.error("http_application_said", text=text)

    def flush(self) -> None:
        """Nothing is held back."""


def _host(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) and address else ""
