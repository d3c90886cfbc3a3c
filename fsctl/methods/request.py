"""request: ask a web server while the caller waits, and keep its answer in variables. Reference: swml-calling 3.25.

Whatever happens the script goes on: it looks at ``request_result``. An answer other than 2xx is ``failed``, with its
code and body kept. Requests of scripts are not signed. Where they may go is the client's to judge (``fsctl.web``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.errors import FetchError
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Number, Object, OneOf, Text, Url, parameter
from fsctl.swml.values import quoted, to_text
from fsctl.web import redact, strip_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.call.call import Call
    from fsctl.web import Response

__all__ = ["Request", "request"]

log = structlog.get_logger(__name__)

FAILED = "relay_script_method_execute_failed"
MAX_ANSWER = 1_048_576  # read; more is a failure
MAX_BODY = 65_536  # kept, and the largest JSON taken apart
MAX_HEADERS = 64
MAX_DEPTH = 64
_ALLOWED = re.compile(r"accept|authorization|content-type|range|x-[!#$%&'*+.^_`|~0-9a-z-]+", re.IGNORECASE)
_CHARSET = re.compile(r"charset=\"?(iso-8859-1|latin1|windows-1252|us-ascii|utf-16)\b", re.IGNORECASE)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ANSWERS = ("request_response", "request_response_code", "request_response_headers", "request_response_body")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Times in seconds; 0 asks for none, which means the operator's ceiling."""

    url: str = parameter(Url())
    method: str = parameter(Text(choices=("GET", "POST", "PUT", "DELETE")))
    headers: Mapping[str, Any] | None = parameter(Object(), default=None)
    # A number or a truth a placeholder gave is sent as its text; a written one is refused.
    body: str | Mapping[str, Any] | None = parameter(
        OneOf({str: Text(), dict: Object(), int: Text(), float: Text(), bool: Text()}), default=None
    )
    connect_timeout: float = parameter(Number(), default=0.0)
    timeout: float = parameter(Number(), default=0.0)
    save_variables: bool = parameter(Boolean(), default=False)


@method("request", Request, result="request_result")
def request(call: Call, params: Request) -> None:
    """Ask, and set ``request_*`` and ``return_value``; nothing of an earlier request is left."""
    for name in _ANSWERS:
        call.vars.pop(name, None)
    call.vars.update(request_url=strip_credentials(params.url), request_result="failed", return_value="failed")
    headers, body = _headers(call, params), _body(params.body)
    if body is not None and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = _likely_type(body)
    total = _within(params.timeout, call.services.request_timeout)
    try:
        response = call.services.web.fetch(
            params.method,
            params.url,
            headers=headers,
            body=body,
            connect_timeout=_within(params.connect_timeout, total),
            read_timeout=total,
            total_timeout=total,
            max_bytes=MAX_ANSWER,
            redirects=3 if body is None else 0,
            ok=None,
            once=params.method != "GET",
        )
    except FetchError as error:
        if error.status is not None:
            call.vars["request_response_code"] = error.status
        call.warn(FAILED, f"request: {error}")
        return
    log.info("request_answered", url=redact(params.url), status=response.status, seconds=round(response.elapsed, 3))
    _keep(call, response, save=params.save_variables)


def _within(wish: float, ceiling: float) -> float:
    return min(wish, ceiling) if wish > 0 else ceiling


def _headers(call: Call, params: Request) -> dict[str, str]:
    headers = {}
    for name, value in (params.headers or {}).items():
        if _ALLOWED.fullmatch(name) is None:
            call.warn(FAILED, f"request: the header {quoted(name)} is not sent; a script may set {_WHICH}")
        elif value is not None:
            headers[name] = to_text(value)
    return headers


_WHICH = "Accept, Authorization, Content-Type, Range and X- headers"


def _body(body: str | Mapping[str, Any] | None) -> bytes | None:
    return None if body is None else to_text(body).encode("utf-8", "replace")


def _likely_type(body: bytes) -> str:
    """Guess from the first character that is not blank, as the reference says."""
    first = body.lstrip()[:1]
    if first in {b"{", b"["}:
        return "application/json"
    if first == b"<":
        return "application/xml"
    return "application/x-www-form-urlencoded" if b"=" in body else "text/plain; charset=utf-8"


def _keep(call: Call, response: Response, *, save: bool) -> None:
    """Set the variables of an answer."""
    outcome = "success" if 200 <= response.status < 300 else "failed"
    charset = _CHARSET.search(response.headers.get("content-type", ""))
    text = response.body[:MAX_BODY].decode(charset[1] if charset else "utf-8-sig", "replace")
    call.vars.update(
        request_result=outcome,
        return_value=outcome,
        request_response_code=response.status,
        request_response_headers=dict(list(response.headers.items())[:MAX_HEADERS]),
        request_response_body=text,
    )
    if not save:
        return
    if len(response.body) > MAX_BODY:
        call.warn(FAILED, f"request: the answer is not taken apart; it is longer than {MAX_BODY} bytes")
        return
    try:
        call.vars["request_response"] = _parsed(text)
    except (ValueError, RecursionError):
        call.warn(FAILED, "request: save_variables is set, but the answer is not JSON")


def _parsed(text: str) -> Any:
    """The JSON in ``text``. Raises ValueError for what is none, or is deeper than a script can use."""
    value = json.loads(text, parse_constant=_refuse)
    if not _shallow(value, MAX_DEPTH):
        raise ValueError("too deep")
    if _SURROGATE.search(text):  # half a pair cannot be written anywhere
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        value = json.loads(whole)
    return value


def _shallow(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    return depth > 0 and all(
        _shallow(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")
