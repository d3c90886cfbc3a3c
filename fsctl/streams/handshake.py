"""The opening of a WebSocket, on either side: the only part of a stream that waits, in a greenlet of its own.

Ours towards an endpoint: the address is asked of the door (resolved once, checked, connected), TLS with the name and
the certificate checked, no compression offered, no redirect followed. Theirs towards the hub: see :func:`accept`.
Everything between the first byte and the last is bounded by one deadline and one size.
"""

from __future__ import annotations

import _socket
import logging
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from fsctl.errors import FetchError
from fsctl.streams.link import Tls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from websockets.protocol import Protocol as WebSocket

__all__ = ["Dial", "Dialled", "Opened", "accept", "connect"]

_MAX_HEAD = 16_384
_PIECE = 4096
_HEAD_END = b"\r\n\r\n"

_LOGGER = logging.getLogger(__name__)
_LOGGER.setLevel(logging.ERROR)  # what the library would tell about every connection, our states tell


class Dialled(Protocol):
    """A connection to an address that was allowed."""

    @property
    def sock(self) -> socket.socket:
        """Connected, no TLS yet."""

    @property
    def url(self) -> str:
        """Without credentials and fragment."""

    @property
    def host(self) -> str:
        """The name the certificate must hold."""

    @property
    def authorization(self) -> str | None:
        """What ``user:password@`` in the URL becomes."""

    @property
    def shown(self) -> str:
        """The URL as errors and logs may show it."""


class Dial(Protocol):
    """The door: connects to the host of a ``ws`` or ``wss`` URL, if that is allowed."""

    def __call__(self, url: str, *, timeout: float) -> Dialled:
        """Connect within ``timeout`` seconds. Raises FetchError."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open WebSocket: the bare socket, what secures it, the library's side, and what the far end said already."""

    sock: _socket.socket
    tls: Tls | None
    protocol: WebSocket
    rest: bytes = field(repr=False)


def connect(
    dial: Dial, url: str, *, token: str | None, tls: Callable[[], ssl.SSLContext], timeout: float, limit: int
) -> Opened:
    """Open a WebSocket to ``url`` within ``timeout`` seconds; messages from there may have ``limit`` bytes.

    Raises FetchError: the reasons of the door, ``timeout``, ``tls``, ``status`` (an HTTP answer that is no upgrade)
    and ``content`` (no WebSocket).
    """
    timer = gevent.Timeout.start_new(timeout)
    dialled = None
    try:
        dialled = dial(url, timeout=timeout)
        return _open(dialled, token, tls, limit)
    except gevent.Timeout as late:
        if late is not timer:
            raise
        shown = dialled.shown if dialled is not None else "the endpoint"
        raise FetchError(shown, "timeout", f"was not open within {timeout:g} s") from None
    finally:
        timer.close()
        if dialled is not None:
            dialled.sock.close()  # a socket that was handed on is detached, and this does nothing


def _open(dialled: Dialled, token: str | None, tls: Callable[[], ssl.SSLContext], limit: int) -> Opened:
    sock, shown = dialled.sock, dialled.shown
    try:
        uri = parse_uri(dialled.url)
    except InvalidURI:
        raise FetchError(shown, "malformed", "is not a WebSocket URL") from None
    try:
        secured = _secure(sock, tls(), dialled.host) if uri.secure else None
        protocol = ClientProtocol(uri, max_size=limit, logger=_LOGGER)
        request = protocol.connect()
        authorization = f"Bearer {token}" if token is not None else dialled.authorization
        if authorization is not None:
            request.headers["Authorization"] = authorization
        protocol.send_request(request)
        rest = _exchange(sock, secured, protocol, shown)
    except ssl.SSLCertVerificationError as problem:
        raise FetchError(shown, "tls", f"cannot be trusted: {problem.verify_message}") from None
    except ssl.SSLError as problem:
        reason = (problem.reason or "TLS failed").replace("_", " ").lower()
        raise FetchError(shown, "tls", f"cannot be trusted: {reason}") from None
    except OSError as problem:
        raise FetchError(shown, "connect", f"broke off: {problem.strerror or type(problem).__name__}") from None
    return Opened(_bare(sock), secured, protocol, rest)


def _exchange(sock: socket.socket, secured: Tls | None, protocol: ClientProtocol, shown: str) -> bytes:
    """Ask for the upgrade and read the answer's head; give what came after it."""
    question = b"".join(protocol.data_to_send())
    sock.sendall(question if secured is None else secured.seal(question))
    received = b""
    ended = False
    while _HEAD_END not in received and not ended:
        if len(received) > _MAX_HEAD:
            raise FetchError(shown, "content", "does not answer in HTTP")
        data = sock.recv(_PIECE)
        if not data:
            ended = True
        elif secured is None:
            received += data
        else:
            plain, ended = secured.unseal(data)
            received += plain
    head, mark, rest = received.partition(_HEAD_END)
    protocol.receive_data(head + mark)
    if protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        protocol.receive_eof()  # the body of a refusal interests nobody
    protocol.events_received()
    if protocol.state is State.OPEN:
        return rest
    status = _status(head)
    if status is not None and status != HTTPStatus.SWITCHING_PROTOCOLS:
        raise FetchError(shown, "status", f"answered {status} and not as a WebSocket", status=status)
    detail = "closed without an answer" if not head else "does not answer as a WebSocket"
    if isinstance(protocol.handshake_exc, InvalidHandshake) and status is not None:
        detail += f" ({type(protocol.handshake_exc).__name__})"
    raise FetchError(shown, "content", detail)


def _status(head: bytes) -> int | None:
    parts = head[:16].split(b" ")
    if len(parts) > 1 and parts[0].startswith(b"HTTP/") and len(parts[1]) == 3 and parts[1].isdigit():
        return int(parts[1])
    return None


def _secure(sock: socket.socket, context: ssl.SSLContext, host: str) -> Tls:
    secured = Tls(context, host)
    while True:
        try:
            secured.object.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(secured.outgoing.read())
            data = sock.recv(_PIECE)
            if not data:
                raise OSError(None, "closed during the TLS handshake") from None
            secured.incoming.write(data)
        except ssl.SSLError:
            alert = secured.outgoing.read()
            if alert:
                sock.sendall(alert)
            raise
        else:
            if last := secured.outgoing.read():
                sock.sendall(last)
            return secured


def accept(sock: Any, claim: Callable[[str], bool], *, timeout: float, limit: int) -> Opened | None:
    """Answer a WebSocket client that comes to us; ``claim`` says whether its path is one that may come in, once.

    None when it was refused, or said nothing sensible within ``timeout`` seconds; the socket is then left to the
    caller to close.
    """
    protocol = ServerProtocol(max_size=limit, logger=_LOGGER)
    received = b""
    with gevent.Timeout(timeout, False):
        while _HEAD_END not in received:
            data = sock.recv(_PIECE)
            if not data or len(received) > _MAX_HEAD:
                return None
            received += data
        head, mark, rest = received.partition(_HEAD_END)
        protocol.receive_data(head + mark)
        for event in protocol.events_received():
            if isinstance(event, Request):
                response = protocol.accept(event)
                if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS and not claim(event.path):
                    response = protocol.reject(HTTPStatus.FORBIDDEN, "No such stream.\n")
                protocol.send_response(response)
        sock.sendall(b"".join(protocol.data_to_send()))
        if protocol.state is State.OPEN:
            return Opened(_bare(sock), None, protocol, rest)
    return None


def _bare(sock: socket.socket) -> _socket.socket:
    """The socket without gevent, for callbacks; the object it came in is left empty."""
    return _socket.socket(fileno=sock.detach())
