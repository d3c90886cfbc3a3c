"""Bodies of requests: read within a time, as one JSON object or one form, or refused with the place that is wrong.

How large a body may be is checked for every request before it gets here (:mod:`fsctl.api.app`). What the values mean
is the resources' to say.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

import falcon
import gevent

from fsctl.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_body", "read_form_or_json", "read_json"]

SECONDS = 10.0
DEEPEST: Final = 64
MOST_FIELDS: Final = 1000

_JSON: Final = frozenset({"application/json", "text/json"})
_FORM: Final = "application/x-www-form-urlencoded"


def read_body(req: falcon.Request) -> bytes:
    """Return the body as it came; a second time the same bytes.

    Raises ApiError: 408 when it takes longer than ``SECONDS`` in all, however often a little of it comes; 400 when the
    client stops in the middle.
    """
    if (body := req.context.get("body")) is None:
        try:
            with gevent.Timeout(SECONDS, TimeoutError):
                body = req.bounded_stream.read()
        except OSError as error:
            slow = isinstance(error, TimeoutError)
            with suppress(AttributeError):  # gevent would wait for the rest, to have the connection's next request
                req.env["wsgi.input"].content_length = 0
            status, code, message = 400, "bad_request", "The body ended before its Content-Length."
            if slow:
                status, code, message = 408, "request_timeout", f"The body took longer than {SECONDS:g} seconds."
            raise ApiError(status, code, message, headers={"Connection": "close"}) from None
        req.context.body = body
    return bytes(body)


def read_json(req: falcon.Request) -> dict[str, Any]:
    """Return the body's JSON object.

    Raises ApiError: 415 for another content type, 400 for what is no JSON or can be understood in two ways (a key
    twice, NaN, half a surrogate pair), is no object, or is nested deeper than ``DEEPEST``; 408 as read_body.
    """
    if _content_type(req) not in _JSON:
        raise ApiError(415, "unsupported_media_type", "Send JSON in UTF-8, with Content-Type: application/json.")
    return _json_object(_text(req))


def read_form_or_json(req: falcon.Request) -> dict[str, Any]:
    """Return the body's fields, from a form (all text) or a JSON object; no body has none (compat-streams.md 1).

    Raises ApiError: 400 for another content type, a field twice and all that read_json finds; 408 as read_body.
    """
    if not req.content_length:
        return {}
    if (kind := _content_type(req)) in _JSON:
        return _json_object(_text(req))
    if kind != _FORM:
        raise ApiError(400, "bad_request", f"Send a form or JSON in UTF-8, with Content-Type: {_FORM}.")
    try:
        pairs = parse_qsl(_text(req), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except UnicodeDecodeError:
        raise _bad("a field is not UTF-8") from None
    except ValueError:
        raise _bad(f"more than {MOST_FIELDS} fields") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _bad(_twice(pairs))
    return fields


def _content_type(req: falcon.Request) -> str:
    """The body's content type; "" when it is compressed or in other characters than we read."""
    kind, parameters = falcon.parse_header(req.content_type or "")
    usual = parameters.get("charset", "utf-8").lower() in {"utf-8", "utf8", "us-ascii"}
    plain = (req.get_header("Content-Encoding") or "identity").lower() == "identity"
    return kind.strip().lower() if usual and plain else ""


def _text(req: falcon.Request) -> str:
    try:
        return read_body(req).decode()
    except UnicodeDecodeError as error:
        raise _bad(f"not UTF-8 at byte {error.start + 1}") from None


def _bad(problem: str) -> ApiError:
    return ApiError(400, "bad_request", f"The body cannot be read: {problem}.")


# -- JSON -------------------------------------------------------------------------------------------------------------


class _Wrong(NamedTuple):
    """Stands where the parser found what we do not take, until it is known where that is."""

    problem: str


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            break
        seen.add(name)
    return f"{_shown(name)} is there twice"


def _json_object(text: str) -> dict[str, Any]:
    # Nothing of what only a walk finds can be in most bodies, and these are walked by nobody.
    suspicious = text.count("{") + text.count("[") > DEEPEST or "\\ud" in text or "\\uD" in text

    def wrong(problem: str) -> _Wrong:
        nonlocal suspicious
        suspicious = True
        return _Wrong(problem)

    def pairs(found: list[tuple[str, Any]]) -> Any:
        record = dict(found)
        return record if len(record) == len(found) else wrong(_twice(found))

    def number(digits: str) -> Any:
        value = float(digits)
        return value if math.isfinite(value) else wrong("a number is too large")

    def constant(word: str) -> Any:
        return wrong(f"{word} is no number in JSON")

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_float=number, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _bad(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _bad(f"nested deeper than {DEEPEST} levels") from None
    except ValueError:  # Python bounds the digits of a whole number, as reading them takes the square of the time
        raise _bad("a number has too many digits") from None
    if suspicious and (found := next(_problems(value, "", 1), None)):
        raise _bad(found)
    if not isinstance(value, dict):
        raise _bad("it is not a JSON object")
    return value


def _problems(value: Any, where: str, depth: int) -> Iterator[str]:
    """All that is wrong in ``value``, each with where."""
    place = f"{where.removeprefix('.')}: " if where else ""
    if isinstance(value, _Wrong):
        yield place + value.problem
    elif isinstance(value, str):
        if not _encodable(value):
            yield place + "half a surrogate pair is no text"
    elif isinstance(value, dict | list):
        if depth > DEEPEST:
            yield f"{place}nested deeper than {DEEPEST} levels"
            return
        if isinstance(value, list):
            for index, item in enumerate(value):
                yield from _problems(item, f"{where}[{index}]", depth + 1)
            return
        for name, item in value.items():
            if not _encodable(name):
                yield f"{place}half a surrogate pair is no text"
            yield from _problems(item, f"{where}.{_shown(name)}", depth + 1)


def _encodable(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _shown(name: str) -> str:
    """A key as it can stand in a message."""
    return name if name.isprintable() and len(name) <= 40 else f"{name[:40]!a}"
