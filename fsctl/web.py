"""The one HTTP client, and the guard on where it may go.

Responsible for: which addresses a URL somebody else wrote may reach, a deadline on everything a request does, bounded
answers, credentials that are used and never shown. A name is resolved once, each of its addresses is checked, and the
connection goes to an address that passed; the certificate and the ``Host`` header stay with the name, so an answer of
the resolver that changes between check and use has no use to change.

Does not sign, retry on purpose or queue; those belong to who asks. Proxies, ``.netrc`` and cookies are not used.

:meth:`Client.fetch` is for answers somebody reads, :meth:`Client.send` for messages of which only the status counts.
Both go through the same door, but share no connections: a slow receiver of webhooks must not keep a call waiting for
its document.

``fetch`` stands on urllib3's pools and not on a ``requests`` session: that one, told not to follow a redirect, still
reads the redirect's body to its end, however long it is; its cookies, proxies and ``.netrc`` would all have to be
switched off. ``send`` does without them, too (``fsctl.messages``): there are many more messages than answers to read.
"""

from __future__ import annotations

import base64
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http.client import HTTPException, RemoteDisconnected
from http.client import IncompleteRead as IncompleteHTTPRead
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from select import POLLIN
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urljoin

import gevent
from gevent import monkey, socket
from httptools import HttpParserError
from urllib3 import (
    BaseHTTPResponse,
    HTTPConnectionPool,
    HTTPHeaderDict,
    HTTPResponse,
    HTTPSConnectionPool,
    Retry,
    Timeout,
)
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, IncompleteRead, InvalidHeader, LocationParseError, ProtocolError, SSLError
from urllib3.exceptions import TimeoutError as TimeoutHTTPError
from urllib3.util import parse_url

from fsctl import messages
from fsctl.errors import FetchError
from fsctl.messages import MAX_IDLE

__all__ = ["Client", "Policy", "Response", "Timeouts", "redact", "strip_credentials", "timeouts_of"]

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address
Resolver: TypeAlias = Callable[[str, int], list[tuple[Any, ...]]]  # as getaddrinfo answers

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
REDIRECTS = frozenset((301, 302, 303, 307, 308))
MAX_URL = 8192
MAX_HOSTS = 256  # with connections kept open

# IANA's special-purpose registries, and what else is not the public internet. Written out, because what the standard
# library calls private differs between its versions.
REFUSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, at a public number
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
PUBLIC_V6 = IPv6Network("2000::/3")
REFUSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
NAT64 = IPv6Network("64:ff9b::/96")

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_USERINFO = re.compile(r"^((?:[A-Za-z][A-Za-z0-9+.-]*:)?//)[^/?#]*@")
_LIMITS = {"ot": (100, 10_000), "rt": (100, 15_000), "tt": (100, 15_000)}  # milliseconds
NO_RETRY = Retry(False)
NODELAY = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})  # without a body they do not mention its length
FRAMING = frozenset({"content-length", "transfer-encoding", "connection"})  # of a message, which are ours to say
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_poll = monkey.get_original("select", "poll")  # asked with no time to wait; the patched one still visits the hub


@dataclass(frozen=True, slots=True)
class Policy:
    """Where the client may go: the public internet, and the networks in ``allow_private``."""

    allow_private: tuple[Network, ...] = ()
    schemes: tuple[str, ...] = ("http", "https")

    def allows(self, address: str) -> bool:
        """Tell whether a connection to this address is allowed; IPv4 inside IPv6 counts as what it reaches."""
        found = _reached(ip_address(address.partition("%")[0]))
        if any(found in network for network in self.allow_private):
            return True
        if isinstance(found, IPv4Address):
            return not any(found in network for network in REFUSED_V4)
        return found in PUBLIC_V6 and not any(found in network for network in REFUSED_V6)


def _reached(address: Address) -> Address:
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(address.packed[12:])
    return address.ipv4_mapped or address


class Timeouts(NamedTuple):
    """Seconds: to connect, between two pieces of an answer, and for everything together."""

    connect: float
    read: float
    total: float


def timeouts_of(url: str, default: Timeouts) -> Timeouts:
    """Apply what the URL's fragment says (``#ot=2000&rt=5000&tt=15000``, milliseconds), held to the documented limits.

    Implements "webhooks: Delivery rules". What cannot be read is passed over.
    """
    fragment = url.partition("#")[2]
    if not fragment:
        return default
    given = {}
    for pair in fragment.split("&"):
        name, _, text = pair.partition("=")
        if name in _LIMITS and text.isascii() and text.isdigit():
            low, high = _LIMITS[name]
            given[name] = min(max(int(text[:9]), low), high) / 1000
    return Timeouts(given.get("ot", default.connect), given.get("rt", default.read), given.get("tt", default.total))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: header names in lower case, repeated ones joined by a comma; ``url`` is where it came from in the end.

    ``elapsed`` is in seconds, from the question to the last byte.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    elapsed: float


def strip_credentials(url: str) -> str:
    """Give the URL without ``user:password@``; works on any text."""
    return _USERINFO.sub(r"\1", url)


def with_query(url: str, text: str) -> str:
    """Put ``text`` after the query ``url`` already has, and drop its fragment."""
    bare = url.partition("#")[0]
    if "?" not in bare:
        return f"{bare}?{text}"
    return f"{bare}{text}" if bare.endswith(("?", "&")) else f"{bare}&{text}"


def redact(url: str) -> str:
    """Give what of a URL may be logged: no credentials, no fragment, and no query, which may hold a token."""
    bare = strip_credentials(url).partition("#")[0]
    path, question, _ = bare.partition("?")
    return path + (question and "?…")


@dataclass(frozen=True, slots=True)
class Dialled:
    """A connected socket, and what its protocol needs to know of the URL. ``shown`` is what may be logged."""

    sock: socket.socket
    url: str
    host: str
    authorization: str | None = field(repr=False)
    shown: str


class Client:
    """HTTP for everything that leaves fsctl.

    ``pool_size`` is the number of connections to one host, for :meth:`fetch` and :meth:`send` each; whoever finds them
    busy waits for one within the deadline. ``tls`` replaces the system's trust, ``resolve`` the resolver.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        user_agent: str,
        pool_size: int = 16,
        tls: ssl.SSLContext | None = None,
        resolve: Resolver | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._target = lru_cache(maxsize=1024)(partial(_read_url, policy.schemes))
        self._elsewhere = lru_cache(maxsize=256)(partial(_read_url, tuple(DEFAULT_PORTS)))
        self._door = _Door(policy, resolve or _resolve)
        self._trust = _Trust(tls)
        self._answers = _Pools(self._door, self._trust, pool_size)
        self._messages = messages.Lines(self._connect, pool_size)
        self._opening = lru_cache(maxsize=1024)(partial(_opening, user_agent))

    def wire_url(self, url: str) -> str:
        """Give the URL as its server sees it: no credentials, no fragment, escapes made uniform. This is what to sign.

        Raises FetchError (``malformed``, ``scheme``).
        """
        return self._target(url).url

    def admit(self, url: str, *, timeout: float = 5.0) -> None:
        """Check a URL (``http``, ``https``, ``ws``, ``wss``) that FreeSWITCH will connect to in our place.

        Each address of its host must be allowed. FreeSWITCH asks its resolver again, so this guards against URLs that
        point inward, not against a name server that lies to one of us. Raises FetchError.
        """
        target = self._elsewhere(url)
        try:
            self._door.admit(target.host, target.port, timeout)
        except FAILURES as error:
            raise _explain(target, error) from error

    def dial(self, url: str, *, timeout: float) -> Dialled:
        """Connect to the host of a ``ws`` or ``wss`` URL, as guarded as everything else; TLS is the caller's.

        Raises FetchError.
        """
        target = self._elsewhere(url)
        if target.scheme not in ("ws", "wss"):
            raise FetchError(target.shown, "scheme", f"is {target.scheme}, not ws or wss")
        try:
            sock = self._door.open(target.host, target.port, timeout, ())
        except FAILURES as error:
            raise _explain(target, error) from error
        return Dialled(sock, target.url, target.host.strip("[]"), target.authorization, target.shown)

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 10.0,
        total_timeout: float = 15.0,
        max_bytes: int = 1_048_576,
        redirects: int = 3,
        ok: Container[int] | None = range(200, 300),
        once: bool = False,
    ) -> Response:
        """Ask for something and read the answer.

        Timeouts are in seconds; the total bounds everything, redirects and a dribbling answer included. An answer
        longer than ``max_bytes``, or compressed although we asked for none of it, is refused. A status not in ``ok``
        raises; None takes any.

        Redirects are followed for GET and HEAD, each hop checked like the first; ``Authorization`` and cookies stay
        with the origin they were meant for. A body is never sent on to where somebody else points: its signature names
        the first URL, and a redirect that drops the body would be worse.

        A question that meets a kept-open connection its server is just closing is asked again on a new one. ``once``
        is for what must not happen twice, however unlikely: it gets a connection of its own.

        Raises FetchError, whose URL is redacted.
        """
        started = time.monotonic()
        target = self._target(url)
        timeouts = Timeouts(connect_timeout, read_timeout, total_timeout)
        given = HTTPHeaderDict(headers or {})
        follow = method in {"GET", "HEAD"} and redirects > 0
        pools = self._answers if not once else _Pools(self._door, self._trust, 1)
        hops = 0
        timer = gevent.Timeout.start_new(total_timeout)
        try:
            while True:
                if target.authorization is not None:
                    given.setdefault("Authorization", target.authorization)
                raw = pools.ask(method, target, self._headers(given), body, timeouts)
                try:
                    location = raw.headers.get("location") if follow and raw.status in REDIRECTS else None
                    if location is None:
                        _check_status(method, raw.status, ok)
                        return _read(target, raw, max_bytes, started)
                    if hops == redirects:
                        raise _Failure("redirect", f"was redirected more than {redirects} times", raw.status)
                finally:
                    _release(raw)
                hops += 1
                before, target = target, self._target(urljoin(target.url, location))
                if target.origin != before.origin:
                    for name in ("Authorization", "Cookie"):
                        given.pop(name, None)
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            raise FetchError(target.shown, "timeout", f"gave no whole answer within {total_timeout:g} s") from None
        except FAILURES as error:
            raise _explain(target, error) from error
        finally:
            timer.close()
            if once:
                pools.close()

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
        *,
        received: Callable[[Mapping[str, str]], None] | None = None,
    ) -> int:
        """Send a message and give the status of the answer, whatever it is; what the answer says is dropped.

        ``received`` is shown the headers of the answer, which may be asked for in any spelling.

        Never follows a redirect (its signature names this URL). A message may arrive twice: one that met a kept-open
        connection its server was just closing is sent again on a new one.

        Raises FetchError, whose URL is redacted.
        """
        connect, read, total = timeouts
        until = time.monotonic() + total
        target = self._target(url)
        try:
            message = self._message(target, method, headers, body)
            status, answered = self._messages.send(
                target.origin, message, connect, read, until, bodiless=method == "HEAD"
            )
        except FAILURES as error:
            raise _explain(target, error) from error
        if received is not None:
            received(answered)
        return status

    def close(self) -> None:
        """Close the connections nobody uses; the others close when they are given back."""
        self._answers.close()
        self._messages.close()

    def _message(self, target: _Target, method: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
        """Write a request: what is the same every time is kept, with places for the values and the length."""
        values = tuple(headers.values())
        if not "".join(values).isprintable():
            raise ValueError
        if body is None and method in BODILESS:
            return (self._opening(target, method, tuple(headers), False) % values).encode("latin-1")
        body = body or b""
        return (self._opening(target, method, tuple(headers), True) % (*values, len(body))).encode("latin-1") + body

    def _connect(self, origin: tuple[str, str, int], seconds: float) -> socket.socket:
        """Open a connection for messages: ``seconds`` each for reaching the host and for agreeing on TLS."""
        scheme, host, port = origin
        connection = self._door.open(host, port, seconds, NODELAY)
        if scheme != "https":
            return connection
        name = host.strip("[]").rstrip(".")
        try:
            with gevent.Timeout(seconds, TimeoutError()):
                connection = self._trust.context().wrap_socket(
                    connection, server_hostname=name, do_handshake_on_connect=False
                )
                connection.settimeout(None)
                connection.do_handshake()
        except BaseException:
            connection.close()
            raise
        return connection

    def _headers(self, given: MutableMapping[str, str]) -> MutableMapping[str, str]:
        given.setdefault("User-Agent", self._user_agent)
        return given


def _check_status(method: str, status: int, ok: Container[int] | None) -> None:
    if ok is None or status in ok:
        return
    if status in REDIRECTS:
        raise _Failure("redirect", f"answered {status}; a {method} stays where it is: use the final URL", status)
    raise _Failure("status", f"answered {status}", status)


def _read(target: _Target, raw: BaseHTTPResponse, max_bytes: int, started: float) -> Response:
    """Read an answer whole, or say why not."""
    if (raw.length_remaining or 0) > max_bytes:
        raise _Failure("size", f"is longer than {max_bytes} bytes", raw.status)
    body = b""
    while piece := raw.read(max_bytes + 1 - len(body), decode_content=False):  # the empty one proves it is whole
        body += piece
        if len(body) > max_bytes:
            raise _Failure("size", f"is longer than {max_bytes} bytes", raw.status)
    headers = {name.lower(): raw.headers[name] for name in raw.headers}
    encoding = headers.get("content-encoding", "")
    if body and encoding.strip().lower() not in {"", "identity"}:
        raise _Failure("content", f"is encoded ({encoding[:20]!r}), which was not asked for", raw.status)
    return Response(raw.status, headers, body, target.url, time.monotonic() - started)


def _release(raw: BaseHTTPResponse) -> None:
    """Give the connection back: as it is when the answer was read whole, closed otherwise."""
    raw.close()
    raw.release_conn()


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """A URL taken apart by the same library that connects, so that nobody reads it differently."""

    scheme: str
    host: str
    port: int
    path: str  # with the query
    authorization: str | None = field(repr=False)  # what user:password@ becomes
    url: str  # as the server sees it
    shown: str  # as errors and logs may show it
    origin: tuple[str, str, int]


def _read_url(schemes: tuple[str, ...], url: str) -> _Target:
    if len(url) > MAX_URL:
        raise _malformed(url, f"is longer than {MAX_URL} characters")
    if _UNSAFE.search(url):
        raise _malformed(url, "holds a space, a backslash or a control character")
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise _malformed(url, "is not a URL") from error
    if parts.scheme is not None and parts.scheme not in schemes:
        raise FetchError(redact(url), "scheme", f"is {parts.scheme}, not {' or '.join(schemes)}")
    if parts.scheme is None or not parts.host:
        raise _malformed(url, "is not a whole URL (https://host/path)")
    if parts.port == 0 or "%" in parts.host:
        raise _malformed(url, "has a host or port nobody can have")
    authority = parts.host if parts.port is None else f"{parts.host}:{parts.port}"
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    bare = f"{parts.scheme}://{authority}{parts.request_uri}"
    return _Target(
        scheme=parts.scheme,
        host=parts.host,
        port=port,
        path=parts.request_uri,
        authorization=_basic(parts.auth),
        url=bare,
        shown=redact(bare),
        origin=(parts.scheme, parts.host, port),
    )


def _malformed(url: str, detail: str) -> FetchError:
    """Show as little as helps: where the credentials end is a guess in what is no URL."""
    return FetchError(_UNSAFE.sub("�", redact(url.rpartition("@")[2]))[:200], "malformed", detail)


def _opening(user_agent: str, target: _Target, method: str, names: tuple[str, ...], sized: bool) -> str:
    """Everything of a request before its body, with a ``%s`` for the value of each named header, ``%d`` the length."""
    given = {name.lower() for name in names}
    if not all(map(_TOKEN.fullmatch, (method, *names))):
        raise ValueError
    if FRAMING & given:
        raise _Failure("malformed", f"cannot be asked: {', '.join(sorted(FRAMING & given))} is not the caller's to say")
    host = target.host if target.port == DEFAULT_PORTS[target.scheme] else f"{target.host}:{target.port}"
    ours = {
        "Host": host,
        "Accept-Encoding": "identity",
        "User-Agent": user_agent,
        "Authorization": target.authorization,
    }
    lines = [f"{method} {target.path} HTTP/1.1"]  # the URL was found fit for it
    lines += [f"{name}: {value}" for name, value in ours.items() if value is not None and name.lower() not in given]
    places = [f"{name}: %s" for name in names] + ["Content-Length: %d"] * sized
    return "\r\n".join([*(line.replace("%", "%%") for line in lines), *places, "", ""])


def _basic(userinfo: str | None) -> str | None:
    if userinfo is None:
        return None
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()


class _Failure(Exception):
    """Why there is no answer, before it is known for which URL: what FetchError wants."""

    def __init__(self, reason: str, detail: str, status: int | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.status = status


FAILURES = (_Failure, HTTPError, HTTPException, ValueError, *messages.FAILURES)


def _explain(target: _Target, error: BaseException) -> FetchError:
    """Say in our words what went wrong; those of the libraries may quote the URL."""
    if isinstance(error, _Failure):
        return FetchError(target.shown, error.reason, error.detail, status=error.status)
    cause: BaseException = error
    while isinstance(cause, HTTPError):  # urllib3 wraps what it catches
        inner = next((part for part in reversed(cause.args) if isinstance(part, BaseException)), None)
        if inner is None:
            break
        cause = inner
    for kinds, reason, detail in REASONS:
        if isinstance(cause, kinds):
            return FetchError(target.shown, reason, detail.format(_wording(cause)))
    return FetchError(target.shown, "connect", f"cannot be asked ({type(cause).__name__})")


REASONS: tuple[tuple[tuple[type[BaseException], ...], str, str], ...] = (
    ((TimeoutError, TimeoutHTTPError), "timeout", "gave no answer in time"),
    ((ssl.SSLError, SSLError), "tls", "cannot be trusted: {}"),
    ((ConnectionRefusedError,), "refused", "refused the connection"),
    ((IncompleteRead, IncompleteHTTPRead, RemoteDisconnected), "connect", "broke off"),
    ((OSError,), "connect", "cannot be reached: {}"),
    ((HTTPException, ProtocolError, InvalidHeader, HttpParserError), "content", "does not answer in HTTP ({})"),
    ((ValueError,), "malformed", "cannot be asked: a header or the method holds a character that is not allowed"),
)


def _wording(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "TLS failed").replace("_", " ").lower()
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return type(cause).__name__


class _Pools:
    """Kept-open connections by origin; the origin not asked for longest goes first."""

    def __init__(self, door: _Door, trust: _Trust, size: int) -> None:
        self._door = door
        self._trust = trust
        self._size = size
        self._pools: OrderedDict[tuple[str, str, int], HTTPConnectionPool] = OrderedDict()

    def ask(
        self,
        method: str,
        target: _Target,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
    ) -> BaseHTTPResponse:
        """Ask one question and read the head of the answer; the caller releases the rest."""
        connect, read, _ = timeouts
        return self._of(target).urlopen(
            method,
            target.path,
            body,
            headers,
            NO_RETRY,
            redirect=False,
            assert_same_host=False,
            timeout=Timeout(connect=connect, read=read),
            preload_content=False,
            decode_content=False,
        )

    def close(self) -> None:
        """Close what is idle."""
        while self._pools:
            self._pools.popitem()[1].close()

    def _of(self, target: _Target) -> HTTPConnectionPool:
        pool = self._pools.get(target.origin)
        if pool is None:
            scheme, host, port = target.origin
            if scheme == "https":
                pool = _SecurePool(
                    host, port, maxsize=self._size, block=True, door=self._door, ssl_context=self._trust.context()
                )
            else:
                pool = _Pool(host, port, maxsize=self._size, block=True, door=self._door)
            self._pools[target.origin] = pool
            if len(self._pools) > MAX_HOSTS:
                self._pools.popitem(last=False)[1].close()
        else:
            self._pools.move_to_end(target.origin)
        return pool


class _Trust:
    """The certificates we believe: read from the system once, with the first secure URL."""

    def __init__(self, given: ssl.SSLContext | None) -> None:
        self._context = given
        if given is not None and given.verify_mode is not ssl.CERT_NONE:
            given.check_hostname = True  # a certificate of somebody else's is none

    def context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


class _Door:
    """Opens sockets to hosts, if the policy lets it."""

    def __init__(self, policy: Policy, resolve: Resolver) -> None:
        self._policy = policy
        self._resolve = resolve

    def open(
        self, host: str, port: int, seconds: float, options: Iterable[tuple[int, int, int | bytes]]
    ) -> socket.socket:
        """Connect within ``seconds``, the look-up included. Raises _Failure or OSError."""
        until = time.monotonic() + seconds
        addresses = self._allowed(self._addresses(host, port, seconds))
        failure: OSError = TimeoutError()
        for number, (family, address) in enumerate(addresses):
            connection = socket.socket(family, socket.SOCK_STREAM)
            try:
                for option in options:
                    connection.setsockopt(*option)
                share = (until - time.monotonic()) / (len(addresses) - number)  # a dead address leaves time for others
                connection.settimeout(max(share, 0.001))
                connection.connect(address)
                connection.settimeout(seconds)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure

    def admit(self, host: str, port: int, seconds: float) -> None:
        """Raise _Failure unless every address of the host is allowed: somebody else chooses among them."""
        for address in self._addresses(host, port, seconds):
            self._allowed([address])

    def _addresses(self, host: str, port: int, seconds: float) -> list[tuple[int, tuple[Any, ...]]]:
        try:
            with gevent.Timeout(seconds, TimeoutError()):
                found = self._resolve(host.strip("[]"), port)
        except TimeoutError:
            raise _Failure("timeout", "gave no address in time") from None
        except (socket.gaierror, UnicodeError) as error:
            raise _Failure(
                "dns", f"cannot be found: {getattr(error, 'strerror', None) or 'not a host name'}"
            ) from error
        if not found:
            raise _Failure("dns", "has no address")
        return list(dict.fromkeys((info[0], info[4]) for info in found))

    def _allowed(self, addresses: list[tuple[int, tuple[Any, ...]]]) -> list[tuple[int, tuple[Any, ...]]]:
        allowed = [candidate for candidate in addresses if self._policy.allows(candidate[1][0])]
        if not allowed:
            refused = addresses[0][1][0]
            raise _Failure("address", f"is at {refused}, which is not on the public internet and not allowed here")
        return allowed


def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found


class _Dropped(ConnectionResetError):
    """A kept-open connection was closed by its server before it said a word about our question."""


class _Guarded(HTTPConnection):
    """A connection that goes through the door, and sends head and body in one piece."""

    def __init__(self, *args: Any, door: _Door, **options: Any) -> None:
        super().__init__(*args, **options)
        self._door = door
        self._held: list[bytes] | None = None
        self._answered = 0
        self._used = 0.0

    def _new_conn(self) -> socket.socket:
        self._answered = 0
        assert self.timeout is not None
        return self._door.open(self.host, self.port, self.timeout, self.socket_options or ())

    @property
    def is_connected(self) -> bool:
        """Look whether an idle connection is still good: not closed, not sent what nobody asked for, not too old."""
        if self.sock is None or time.monotonic() - self._used > MAX_IDLE:
            return False
        poll = _poll()
        poll.register(self.sock.fileno(), POLLIN)
        return not poll.poll(0)

    def request(self, *args: Any, **options: Any) -> None:
        self._held = []
        try:
            super().request(*args, **options)
            whole = b"".join(self._held)
        finally:
            self._held = None
        try:
            super().send(whole)
        except (BrokenPipeError, ConnectionResetError) as error:
            if self._answered:
                raise _Dropped(*error.args) from error
            raise

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)
        else:
            self._held.append(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # urllib3's has its own type, too
        try:
            response = super().getresponse()
        except (RemoteDisconnected, ConnectionResetError) as error:
            if self._answered:
                raise _Dropped(*error.args) from error
            raise
        self._answered += 1
        self._used = time.monotonic()
        return response


class _GuardedSecure(_Guarded, HTTPSConnection):
    """The same, with TLS on the name."""


class _Pool(HTTPConnectionPool):
    """Guarded connections to one origin."""

    ConnectionCls = _Guarded

    def urlopen(self, *args: Any, **options: Any) -> BaseHTTPResponse:
        """Ask again when the connection had been left by its server while it was idle: the question was not read."""
        while True:
            try:
                return super().urlopen(*args, **options)
            except ProtocolError as error:
                if not isinstance(error.args[-1], _Dropped):
                    raise


class _SecurePool(_Pool, HTTPSConnectionPool):
    """The same, with TLS."""

    ConnectionCls = _GuardedSecure
