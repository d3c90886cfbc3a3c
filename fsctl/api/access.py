"""Who may use the REST API: HTTP Basic below ``/api/``, scopes, and how often (calling-api.md 1, 6.2, 9.7, 9.8).

:class:`Access` is falcon middleware. Metrics, health and recordings pass it untouched. A resource says which scope each
of its methods needs, and nothing it does not name can be asked for::

    class Calls:
        scopes: Final = {"POST": ("control", "dial")}  # one of these opens the method; a single scope is plain text

        def on_post(self, req, resp):
            if command == "dial":
                access.require(req, "dial")  # what only the body tells

Then ``req.context.token`` is a :class:`Grant` and ``req.context.project_id`` the project. Every request has an id,
ours or the client's ``X-Request-Id``, in its answer and in all its log lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import re
import time
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import falcon
import structlog

from fsctl.errors import ApiError
from fsctl.log import bind

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.config.sections import Api

__all__ = ["REFUSALS", "Access", "Grant", "basic_credentials", "require"]

log = structlog.get_logger(__name__)

# Why a request was refused, for a metric's label.
REFUSALS: Final = ("unauthorized", "guessing", "rate_limit", "forbidden")

# What an address may get wrong at once, and how often a second after that; how many addresses are remembered.
GUESSES: Final = 10
GUESSES_PER_SECOND: Final = 1.0
ADDRESSES: Final = 4096

CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="fsctl", charset="UTF-8"'}

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~:+/=-]{1,64}")


class Grant(NamedTuple):
    """What a request's token is called and opens."""

    name: str
    scopes: frozenset[str]


def require(req: falcon.Request, *scopes: str) -> None:
    """Pass when the request's token has one of ``scopes``; raises ApiError (403) when it has none."""
    token: Grant = req.context.token
    if token.scopes.isdisjoint(scopes):
        wanted = " or ".join(scopes)
        raise _refusal(req, "forbidden", 403, "forbidden", f"The token {token.name!r} lacks the scope {wanted}.")


def basic_credentials(header: str | None) -> tuple[bytes, bytes] | None:
    """Read an ``Authorization`` header: user and password, None when it holds no HTTP Basic (RFC 7617)."""
    scheme, _, encoded = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(" "), validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return None
    return (user, password) if colon else None


class Access:
    """Lets in who has one of the ``settings``' tokens.

    ``on_refused`` is told one of ``REFUSALS`` for each request turned away. Raises ConfigError when a token's file
    cannot be used.
    """

    def __init__(
        self,
        project_id: str,
        settings: Api,
        *,
        on_refused: Callable[[str], object] = lambda _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        secrets = settings.secrets()
        self._project_id = project_id
        self._user = _digest(project_id.lower().encode())
        self._keys = [
            _Key(
                _digest(secrets[token.name].encode()),
                Grant(token.name, frozenset(token.scopes)),
                _Bucket(settings.requests_per_second, settings.burst),
            )
            for token in settings.tokens
        ]
        self._addresses = _Addresses()
        self._on_refused = on_refused
        self._clock = clock
        self._failed = 0  # since the last line about it
        self._next_line = -math.inf

    # -- what falcon calls --

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Name the request; below ``/api/`` find out whose it is. Raises ApiError (401, 429)."""
        req.context.request_id = _request_id(req)
        bind(request_id=req.context.request_id)
        if not _guarded(req):
            return
        key = self._key(req)
        req.context.token, req.context.project_id = key.grant, self._project_id
        bind(api_client=key.grant.name)
        if wait := key.bucket.take(self._clock()):
            message = f"The token {key.grant.name!r} makes too many requests."
            raise _refusal(req, "rate_limit", 429, "rate_limit_exceeded", message, _retry_after(wait))

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Hold the token against what the resource asks for. Raises ApiError (403), falcon's 405."""
        if not _guarded(req):
            return
        scopes = getattr(resource, "scopes", {})
        if (needed := scopes.get(req.method)) is None:  # closed, should a resource forget one of its methods
            raise falcon.HTTPMethodNotAllowed(sorted(scopes))
        require(req, *([needed] if isinstance(needed, str) else needed))

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _req_succeeded: bool
    ) -> None:
        """Put the request's id on its answer; tell who counts refusals."""
        resp.set_header("X-Request-Id", req.context.get("request_id") or _request_id(req))
        if reason := req.context.get("refused"):
            self._on_refused(reason)

    # -- who is it --

    def _key(self, req: falcon.Request) -> _Key:
        """Find the key of the request's token; every key is compared, so that the time tells nothing."""
        header = req.get_header("Authorization")
        user, password = basic_credentials(header) or (b"", b"")
        presented, found = _digest(password), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, presented):
                found = key
        if not hmac.compare_digest(self._user, _digest(user.lower())):
            found = None
        now, address = self._clock(), self._addresses.at(req.remote_addr)
        # Behind a proxy everybody has one address: who guesses there must not lock out who was let in before.
        wait = 0.0 if found and found.grant.name in address.welcome else address.guesses.wait(now)
        if found and not wait:
            address.welcome.add(found.grant.name)
            return found
        if header is not None:
            self._report(req, now)
            address.guesses.take(now)
        if wait and header is not None:
            message = "Too many requests with wrong credentials came from your address."
            raise _refusal(req, "guessing", 429, "rate_limit_exceeded", message, _retry_after(wait))
        wanted = "Send the project id and an API token with HTTP Basic."
        message = wanted if self._keys else "The API is closed: no token is configured."
        raise _refusal(req, "unauthorized", 401, "unauthorized", message, CHALLENGE)

    def _report(self, req: falcon.Request, now: float) -> None:
        self._failed += 1
        if now >= self._next_line:
            log.warning("api_credentials_wrong", client=req.remote_addr, requests=self._failed)
            self._failed, self._next_line = 0, now + 1.0


def _guarded(req: falcon.Request) -> bool:
    return req.path.lstrip("/").startswith("api/")  # routing passes over slashes at the beginning


def _request_id(req: falcon.Request) -> str:
    given = req.get_header("X-Request-Id") or ""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def _refusal(
    req: falcon.Request, reason: str, status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> ApiError:
    req.context.refused = reason
    return ApiError(status, code, message, headers=headers)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _digest(text: bytes) -> bytes:
    """One length whatever was sent: comparing tells nothing about that of a token."""
    return hashlib.sha256(text).digest()


# -- how often --------------------------------------------------------------------------------------------------------


class _Bucket:
    """``burst`` at once, ``rate`` a second in the long run. Starts full."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until there is one to take; 0 when there is."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
        return max(0.0, (1 - self._left) / self._rate)

    def take(self, now: float) -> float:
        """Take one, when there is; the seconds until there is one otherwise."""
        if not (wait := self.wait(now)):
            self._left -= 1
        return wait


class _Key(NamedTuple):
    digest: bytes
    grant: Grant
    bucket: _Bucket


@dataclass(slots=True)
class _Address:
    """What is known of a client's address: its failures, and which tokens were right from there."""

    guesses: _Bucket = field(default_factory=lambda: _Bucket(GUESSES_PER_SECOND, GUESSES))
    welcome: set[str] = field(default_factory=set)


class _Addresses:
    """The addresses seen last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Address] = OrderedDict()

    def at(self, client: str) -> _Address:
        """What is known of the client's address; nothing yet is known of a new one."""
        place = _network(client)
        address = self._seen.setdefault(place, _Address())
        self._seen.move_to_end(place)
        if len(self._seen) > ADDRESSES:
            self._seen.popitem(last=False)
        return address


def _network(client: str) -> str:
    """An IPv4 address itself, an IPv6 address's /64: a customer there has all of it."""
    if ":" not in client:
        return client
    try:
        found = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return str(found.ipv4_mapped or ipaddress.ip_network((found.packed, 64), strict=False))
