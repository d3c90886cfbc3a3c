"""The one HTTP client, and the guard on where it may go.

Responsible for: which addresses a URL somebody else wrote may reach, a deadline on everything a request does, bounded
answers, credentials that are used and never shown. A name is resolved once, each of its addresses is checked, and the
connection goes to an address that passed; the certificate and the ``Host`` header stay with the name, so an answer of
the resolver that changes between check and use has no use to change.

Does not sign, retry on purpose or queue; those belong to who asks. Proxies, ``.netrc`` and cookies are not used.

:meth:`Client.fetch` is for answers somebody reads, :meth:`Client.send` for messages of which only the status counts. Both
stand on the same guarded connections, but do not share them: a slow receiver of webhooks must not keep a call waiting
for its document.
"""

from __future__ import annotations

import base64
import re
import socket as std_socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urljoin

import gevent
import requests
import urllib3
from gevent import socket
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError, ProtocolError
from urllib3.util import Retry, parse_url

from fsctl.errors import FetchError

__all__ = ["Client", "Policy", "Response", "Timeouts", "redact", "strip_credentials", "timeouts_of"]

Network: TypeAlias = IPv4Network | IPv6Network
Address: TypeAlias = IPv4Address | IPv6Address
Resolver: TypeAlias = Callable[[str, int], list[tuple[Any, ...]]]  # as getaddrinfo answers

DEFAULT_PORTS = {"http": 80, "https": 443}
REDIRECTS = frozenset((301, 302, 303, 307, 308))
MAX_URL = 8192
MAX_DROPPED = 65_536  # of an answer nobody reads; what is longer costs the connection instead
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
_ONCE = Retry(False)


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


def redact(url: str) -> str:
    """Give what of a URL may be logged: no credentials, no fragment, and no query, which may hold a token."""
    bare = strip_credentials(url).partition("#")[0]
    path, question, _ = bare.partition("?")
    return path + (question and "?…")


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
        self._policy = policy
        self._user_agent = user_agent
        self._target = lru_cache(maxsize=1024)(self._read_url)
        door = _Door(policy, resolve or _resolve)
        trust = _Trust(tls)
        self._adapter = _Adapter(_Pools(door, trust, pool_size), self._target)
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        self._pools = _Pools(door, trust, pool_size)

    def wire_url(self, url: str) -> str:
        """Give the URL as its server sees it: no credentials, no fragment, escapes made uniform. This is what to sign.

        Raises FetchError (``malformed``, ``scheme``).
        """
        return self._target(url).url

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
    ) -> Response:
        """Ask for something and read the answer.

        Timeouts are in seconds; the total bounds everything, redirects and a dribbling answer included. An answer longer
        than ``max_bytes``, or compressed although we asked for none of it, is refused. A status not in ``ok`` raises; None
        takes any.

        Redirects are followed for GET and HEAD, each hop checked like the first; ``Authorization`` and cookies stay with
        the origin they were meant for. A body is never sent on to where somebody else points: its signature names the
        first URL, and a redirect that drops the body would be worse.

        Raises FetchError, whose URL is redacted.
        """
        started = time.monotonic()
        target = self._target(url)
        timer = gevent.Timeout.start_new(total_timeout)
        try:
            given = CaseInsensitiveDict(headers or {})
            follow = method in {"GET", "HEAD"}
            for hop in range(redirects + 1):
                raw = self._ask(method, target, given, body, (connect_timeout, read_timeout))
                with raw:
                    location = raw.headers.get("location") if follow and raw.status in REDIRECTS else None
                    if location is None or redirects == 0:
                        return self._answer(target, method, raw, max_bytes, ok, started)
                    if hop == redirects:
                        raise _Failure("redirect", f"redirected more than {redirects} times", raw.status)
                    _drop(raw)
                target, before = self._target(urljoin(target.url, location)), target
                if target.origin != before.origin:
                    for name in ("authorization", "cookie"):
                        given.pop(name, None)
            raise AssertionError("unreachable")
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            raise FetchError(target.shown, "timeout", f"gave no whole answer within {total_timeout:g} s") from None
        except FAILURES as error:
            raise _explain(target, error) from error
        finally:
            timer.close()

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeouts: Timeouts) -> int:
        """Send a message and give the status of the answer, whatever it is; what the answer says is dropped.

        Never follows a redirect (its signature names this URL). A message may arrive twice: one that met a kept-open
        connection its server was just closing is sent again on a new one.

        Raises FetchError, whose URL is redacted.
        """
        target = self._target(url)
        status = None
        timer = gevent.Timeout.start_new(timeouts.total)
        try:
            with self._pools.of(target).urlopen(
                method,
                target.path,
                body,
                self._headers(target, headers),
                _ONCE,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=timeouts.connect, read=timeouts.read),
                preload_content=False,
                decode_content=False,
            ) as raw:
                status = raw.status
                _drop(raw)
        except gevent.Timeout as expired:
            if expired is not timer:
                raise
            if status is None:
                detail = f"gave no answer within {timeouts.total:g} s"
                raise FetchError(target.shown, "timeout", detail) from None
        except FAILURES as error:
            if status is None:
                raise _explain(target, error) from error
        finally:
            timer.close()
        return status

    def close(self) -> None:
        """Close the connections nobody uses; the others close when they are given back."""
        self._session.close()
        self._adapter.pools.clear()
        self._pools.clear()

    def _headers(self, target: _Target, given: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": self._user_agent}
        if target.authorization is not None:
            headers["Authorization"] = target.authorization
        headers.update(given)
        return headers


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL taken apart by the same library that connects, so that nobody reads it differently."""

    scheme: str
    host: str
    port: int
    path: str  # with the query
    authorization: str | None  # what user:password@ becomes
    url: str  # as the server sees it
    shown: str  # as errors and logs may show it

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port


def _read_url(schemes: tuple[str, ...], url: str) -> _Target:
    shown = redact(url)
    if len(url) > MAX_URL:
        raise FetchError(shown[:200] + "…", "malformed", f"is longer than {MAX_URL} characters")
    if _UNSAFE.search(url):
        shown = _UNSAFE.sub("�", shown)
        raise FetchError(shown, "malformed", "holds a space, a backslash or a control character")
    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise FetchError(shown.rpartition("@")[2], "malformed", "is not a URL") from error
    if parts.scheme is None or not parts.host:
        raise FetchError(shown.rpartition("@")[2], "malformed", "is not a full URL (https://host/path)")
    if parts.scheme not in schemes:
        raise FetchError(shown, "scheme", f"has the scheme {parts.scheme!r}; allowed: {', '.join(schemes)}")
    if parts.port == 0 or "%" in parts.host:
        raise FetchError(shown, "malformed", "has a port or host nobody can have")
    authority = parts.host if parts.port is None else f"{parts.host}:{parts.port}"
    bare = f"{parts.scheme}://{authority}{parts.request_uri}"
    return _Target(
        scheme=parts.scheme,
        host=parts.host,
        port=parts.port or DEFAULT_PORTS[parts.scheme],
        path=parts.request_uri,
        authorization=_basic(parts.auth),
        url=bare,
        shown=redact(bare),
    )


def _basic(userinfo: str | None) -> str | None:
    if userinfo is None:
        return None
    user, _, password = userinfo.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
