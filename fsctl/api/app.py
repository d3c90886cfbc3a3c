"""The WSGI application: routes, one shape for every refusal, health, metrics.

``/metrics`` Prometheus's text format, ``/health/live`` and ``/health/ready`` for whoever restarts and routes,
``/recordings/{name}`` for customers; further resources are handed in. Errors look as the calling API documents them
(calling-api.md 6.2), below ``/api/laml/`` as the compatibility API does (compat-streams.md 4). Sockets, limits on
headers and the log of connections are :mod:`fsctl.api.server`'s.
"""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import falcon
import structlog

from fsctl.api.recordings import Recordings
from fsctl.call.live import RequestInvalid
from fsctl.errors import ApiError
from fsctl.log import unbound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from fsctl.metrics import Metrics

__all__ = ["ERROR_CODES_URL", "MAX_BODY_BYTES", "compat_error_body", "error_body", "make_app"]

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 1024 * 1024

# Every documented error item carries this link; the codes are the ones that catalogue explains.
ERROR_CODES_URL: Final = "https://signalwire.com/docs/apis/error-codes"

# For these the reference documents ``{"error": "Not Found"}``; clients written for that find it beside ``errors``.
_BARE: Final = frozenset({400, 401, 403, 404, 500})

_CODES: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 411: "length_required"}

_COMPAT_ERRORS_URL: Final = "https://signalwire.com/docs/compatibility-api/reference/errors"

# What the compatibility API calls a refusal that says no number of its own: anything else wrong with a request is an
# invalid argument, anything else wrong here an internal error.
_COMPAT_CODES: Final = {401: 20003, 403: 20003, 404: 20404, 405: 20001, 429: 20429}
_INVALID_ARGUMENT: Final = 10000
_INTERNAL_ERROR: Final = 20504

# Shown, but no reason to send calls elsewhere: FreeSWITCH hands us calls without its own event socket, too.
ADVISORY: Final = frozenset({"freeswitch"})

SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def error_body(status: int, code: str, message: str, *, attribute: str | None = None) -> dict[str, Any]:
    """The JSON of a refusal, as the calling API documents it."""
    kind = "validation_error" if status == HTTPStatus.UNPROCESSABLE_ENTITY else "request_error"
    kind = "conflict_error" if status == HTTPStatus.CONFLICT else kind
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else kind
    item = {"type": kind, "code": code, "message": message, "attribute": attribute, "url": ERROR_CODES_URL}
    bare = {"error": HTTPStatus(status).phrase} if status in _BARE else {}
    return {**bare, "errors": [item]}


def compat_error_body(status: int, code: str, message: str) -> dict[str, Any]:
    """The JSON of a refusal, as the compatibility API documents it.

    A ``code`` in digits is that API's own; others are words of the calling API, and the status decides.
    """
    other = _INVALID_ARGUMENT if status < HTTPStatus.INTERNAL_SERVER_ERROR else _INTERNAL_ERROR
    number = int(code) if code.isdecimal() else _COMPAT_CODES.get(status, other)
    return {"code": number, "message": message, "more_info": _COMPAT_ERRORS_URL, "status": status}


def make_app(
    *,
    metrics: Metrics,
    health: Callable[[], Mapping[str, tuple[bool, str]]],
    recordings: Path,
    resources: Mapping[str, object] | None = None,
    middleware: Iterable[Any] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
) -> falcon.App[falcon.Request, falcon.Response]:
    """The application for :class:`fsctl.api.server.HttpServer`.

    ``health`` tells for each check whether it is fine and a sentence about it; all fine means ready. ``recordings`` is
    the directory of recordings. ``resources`` are falcon resources by their route (one takes the place of ours there),
    ``middleware`` runs inside ours.

    A resource refuses by raising ApiError; one below ``/api/laml/`` gives the compatibility API's number as the code,
    ``ApiError(422, "21220", …)``, where the status alone does not tell it.
    """
    app = falcon.App(middleware=[_Border(max_body_bytes), *middleware])
    app.req_options.strip_url_path_trailing_slash = False
    app.set_error_serializer(_serialize)
    app.add_error_handler(Exception, _broken)
    app.add_error_handler(ApiError, _refused)
    app.add_route("/metrics", _Metrics(metrics))
    app.add_route("/health/live", _Live())
    app.add_route("/health/ready", _Ready(health))
    app.add_route("/recordings/{name}", Recordings(recordings))
    for route, resource in (resources or {}).items():
        app.add_route(route, resource)
    return app


# -- resources --------------------------------------------------------------------------------------------------------


class _Metrics:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Every metric."""
        resp.data, resp.content_type = self._metrics.exposition()


class _Live:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """200 while the process can answer at all."""
        resp.media = {"live": True}

    on_head = on_get  # what load balancers like to ask


class _Ready:
    def __init__(self, health: Callable[[], Mapping[str, tuple[bool, str]]]) -> None:
        self._health = health

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """200 when calls should be sent here, 503 when not; each check with its reason."""
        checks = {name: {"ok": ok, "detail": detail} for name, (ok, detail) in self._health().items()}
        ready = all(check["ok"] for name, check in checks.items() if name not in ADVISORY)
        resp.status = falcon.HTTP_200 if ready else falcon.HTTP_503
        resp.media = {"ready": ready, "checks": checks}
        resp.cache_control = ["no-store"]

    on_head = on_get


# -- borders ----------------------------------------------------------------------------------------------------------


class _Border:
    """What holds for every request: bounded bodies in, careful headers out, one line in the log."""

    def __init__(self, max_body_bytes: int) -> None:
        self._max_body_bytes = max_body_bytes

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Refuse bodies that are too large, or do not say how large they are."""
        req.context.started = time.monotonic()
        if "HTTP_TRANSFER_ENCODING" in req.env:
            raise ApiError(411, "length_required", "Send the body with a Content-Length.")
        if (req.content_length or 0) > self._max_body_bytes:
            raise ApiError(413, "body_too_large", f"A body may have {self._max_body_bytes} bytes.")

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _req_succeeded: bool
    ) -> None:
        """Add the headers every answer carries, and write the access line."""
        resp.set_headers(SECURITY_HEADERS)
        started = getattr(req.context, "started", None)
        log.debug(
            "http_request",
            method=req.method,
            path=req.path,
            status=falcon.code_to_http_status(resp.status)[:3],
            client=req.remote_addr,
            seconds=None if started is None else round(time.monotonic() - started, 6),
        )
        unbound()  # the connection's next request has the same greenlet


def _is_compat(req: falcon.Request) -> bool:
    return req.path.lstrip("/").startswith("api/laml/")  # routing passes over slashes at the beginning


def _answer(
    req: falcon.Request, resp: falcon.Response, status: int, code: str, message: str, attribute: str | None = None
) -> None:
    body = error_body(status, code, message, attribute=attribute)
    if _is_compat(req):
        body = compat_error_body(status, code, message)
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = json.dumps(body).encode()
    resp.stream = None


def _serialize(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Put falcon's own refusals (no route, no such method, unreadable requests) into our shape."""
    status = error.status_code
    code = _CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")
    message = error.description or error.title or HTTPStatus(status).phrase
    _answer(req, resp, status, code, message)


def _refused(req: falcon.Request, resp: falcon.Response, error: ApiError, _params: dict[str, Any]) -> None:
    resp.set_headers(error.headers)
    _answer(req, resp, error.status, error.code, error.message, error.attribute)
    if isinstance(error, RequestInvalid) and len(error.findings) > 1 and not _is_compat(req):
        bodies = [error_body(error.status, *finding[:2], attribute=finding[2]) for finding in error.findings]
        resp.data = json.dumps({**bodies[0], "errors": [body["errors"][0] for body in bodies]}).encode()


def _broken(req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("http_request_failed", method=req.method, path=req.path, exc_info=error)
    _answer(req, resp, 500, "internal_error", "Something went wrong here; the log says what.")
