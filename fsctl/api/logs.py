"""Voice logs over HTTP: ``GET /api/voice/logs``, ``/api/voice/logs/{id}`` and ``/api/voice/logs/{id}/events``.

Lists come newest first, in pages. Page 0 fixes a moment; its token carries that moment to the other pages, so that
calls which come meanwhile neither move nor repeat what is on them. A long answer is put together in pieces, between
which live calls have their turn. Implements calling-api, section 7.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit
from uuid import UUID

import gevent

from fsctl.errors import ApiError
from fsctl.logs.status import direction, leg_type, log_status
from fsctl.logs.store import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import falcon

    from fsctl.logs.database import CallRow, Page
    from fsctl.logs.entries import Entry
    from fsctl.logs.store import CallLog

__all__ = ["log_entry", "page_token", "read_page_token", "voice_logs"]

T = TypeVar("T")

PATH: Final = "/api/voice/logs"
PAGE_SIZE: Final = 50
LARGEST_PAGE: Final = 1000
LAST_PAGE: Final = 2**31 - 1

_AT_A_TIME: Final = 20  # entries made before everybody else has a turn
_BUSY_SECONDS: Final = 2

_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d([.,]\d{1,9})?)?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_TOKEN: Final = re.compile(r"PA([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_ONE_DAY: Final = 86_400.0  # a day of UTC, whose timestamps know no leap seconds


def voice_logs(log: CallLog, public_url: str) -> dict[str, object]:
    """The resources by their routes, for :func:`fsctl.api.app.make_app`.

    ``public_url`` is where customers reach us: a proxy in front of us may speak TLS where we do not.
    """
    return {
        PATH: _Logs(log, public_url),
        f"{PATH}/{{log_id}}": _Log(log),
        f"{PATH}/{{log_id}}/events": _Events(log),
    }


# -- resources --------------------------------------------------------------------------------------------------------


class _Logs:
    scopes: Final = {"GET": "read"}

    def __init__(self, log: CallLog, public_url: str) -> None:
        self._log = log
        self._public = urlsplit(public_url)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """A page of logs, newest first."""
        wanted = _read_query(req)
        page = _asked(
            lambda: self._log.page(
                since=wanted.since,
                before=wanted.before,
                anchor=wanted.anchor,
                size=wanted.size,
                skip=wanted.number * wanted.size,
            )
        )
        links = _links(wanted, page, self._base(req))
        data = _pieces(log_entry(call) for call in page.calls)
        _send(resp, f'{{"links":{json.dumps(links)},"data":[{data}]}}')

    def _base(self, req: falcon.Request) -> str:
        """Where the client has us, from the request alone: what it says of proxies on its way is not believed."""
        host = req.netloc if _HOST.fullmatch(req.netloc) else self._public.netloc
        scheme = self._public.scheme if host.lower() == self._public.netloc.lower() else req.scheme
        return f"{scheme}://{host}{req.root_path}{PATH}"


class _Log:
    scopes: Final = {"GET": "read"}

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def on_get(self, _req: falcon.Request, resp: falcon.Response, log_id: str) -> None:
        """The log of one call."""
        call = _asked(lambda: self._log.call(log_id))
        if call is None:
            raise _missing()
        _send(resp, json.dumps(log_entry(call)))


class _Events:
    scopes: Final = {"GET": "read"}

    def __init__(self, log: CallLog) -> None:
        self._log = log

    def on_get(self, _req: falcon.Request, resp: falcon.Response, log_id: str) -> None:
        """What happened on one call, in order."""
        found = _asked(lambda: self._log.events(log_id))
        if found is None:
            raise _missing()
        call, events = found
        _send(resp, f'{{"data":[{_pieces(_event(call, event) for event in events)}]}}')


def _asked(question: Callable[[], T]) -> T:
    try:
        return question()
    except Unreadable as error:
        message = f"The call log cannot be read now: {error}"
        raise ApiError(503, "call_log_unavailable", message, headers={"Retry-After": str(_BUSY_SECONDS)}) from error


def _missing() -> ApiError:
    return ApiError(404, "not_found", "There is no such log; the id is the segment id of a call.")


def _send(resp: falcon.Response, text: str) -> None:
    resp.content_type = "application/json"
    resp.cache_control = ["no-store"]
    resp.data = text.encode()


# -- entries ----------------------------------------------------------------------------------------------------------


def log_entry(call: CallRow) -> dict[str, Any]:
    """A call as its log shows it: the fields of a call leg (6.1), the wider set of statuses (7).

    Durations are null until the end and count from the answer: 0 for a call that was not answered.
    """
    milliseconds = None
    if call.ended_at is not None:
        milliseconds = max(0, round((call.ended_at - (call.answered_at or call.ended_at)) * 1000))
    return {
        "id": call.segment_id,
        "from": call.from_,
        "to": call.to,
        "direction": direction(call.direction),
        "status": log_status(call.state, call.end_reason, None, answered=call.answered_at is not None),
        "duration": None if milliseconds is None else milliseconds // 1000,
        "duration_ms": milliseconds,
        "billing_ms": milliseconds,
        "source": "realtime_api",
        "type": leg_type(call.type),
        "url": None,
        "parent_id": None,
        "charge": 0,
        "charge_details": [],
        "created_at": _moment(call.created_at, "seconds"),
    }


def _event(call: CallRow, event: Entry) -> dict[str, Any]:
    return {
        "event_at": _moment(event.at, "milliseconds"),
        "level": event.level,
        "name": event.name,
        "details": json.loads(event.details),
        "project_id": call.project_id,
        "log_id": call.segment_id,
    }


def _moment(at: float, precision: str) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _pieces(entries: Iterable[Mapping[str, Any]]) -> str:
    """Entries as the inside of a JSON list; made a few at a time, because calls are waiting."""
    pieces = []
    for number, entry in enumerate(entries, 1):
        pieces.append(json.dumps(entry))
        if number % _AT_A_TIME == 0:
            gevent.sleep(0)
    return ",".join(pieces)


# -- pages ------------------------------------------------------------------------------------------------------------


class _Wanted(NamedTuple):
    """What a query asks for. ``filters`` are what every link repeats."""

    number: int
    size: int
    token: str
    anchor: int | None
    since: float | None
    before: float | None
    filters: dict[str, str]


def page_token(anchor: int) -> str:
    """What a client brings back to see further pages of what it sees now. Nothing in it is secret."""
    number = anchor.to_bytes(8, "big")
    return f"PA{UUID(bytes=number + _mark(number))}"


def read_page_token(token: str) -> int | None:
    """The anchor in a page's token; None for what we never gave out."""
    match = _TOKEN.fullmatch(token)
    raw = UUID(match[1]).bytes if match else b""
    number = int.from_bytes(raw[:8], "big")
    return number if match and raw[8:] == _mark(raw[:8]) and number < 2**63 else None


def _mark(number: bytes) -> bytes:
    return blake2b(number, digest_size=8, person=b"fsctl page").digest()


def _links(wanted: _Wanted, page: Page, base: str) -> dict[str, str]:
    def link(number: int, token: str) -> str:
        query = {"page_number": str(number), "page_size": str(wanted.size), **wanted.filters}
        return f"{base}?{urlencode(query | ({'page_token': token} if token else {}))}"

    token = page_token(page.anchor)
    links = {"self": link(wanted.number, wanted.token), "first": link(0, "")}
    if page.more:
        links["next"] = link(wanted.number + 1, token)
    if wanted.number > 0:
        links["prev"] = link(wanted.number - 1, token)
    return links


def _read_query(req: falcon.Request) -> _Wanted:
    """Check what was asked for; what we do not know is passed over. Raises ApiError (422)."""
    number = _whole(req, "page_number", 0, 0, LAST_PAGE)
    size = _whole(req, "page_size", PAGE_SIZE, 1, LARGEST_PAGE)
    token = _text(req, "page_token")
    anchor = read_page_token(token) if token else None
    if token and anchor is None:
        raise _invalid("page_token", "page_token is none of ours; begin again with page_number=0 and no token.")
    if number > 0 and not token:
        message = "page_token is required where page_number is greater than 0; follow links.next."
        raise _invalid("page_token", message, "missing_required_parameter")
    # Nothing is kept of a log that was deleted, so there is nothing to include.
    if (deleted := _text(req, "include_deleted")) not in ("", "true", "false"):
        raise _invalid("include_deleted", "include_deleted must be true or false.", "not_a_boolean")
    dates = {name: _text(req, name) for name in ("created_before", "created_on", "created_after")}
    spans = [_span(name, text) for name, text in dates.items() if text]
    given = {"include_deleted": deleted, **dates}
    return _Wanted(
        number,
        size,
        token,
        anchor,
        max((since for since, _ in spans if since is not None), default=None),
        min((before for _, before in spans if before is not None), default=None),
        {name: text for name, text in given.items() if text},
    )


def _span(name: str, text: str) -> tuple[float | None, float | None]:
    """From when, and until before when. A date is a day in UTC: ``before``, ``on`` and ``after`` it have no overlap."""
    try:
        if _DATE.fullmatch(text):
            start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
            end = start + _ONE_DAY
        elif _TIME.fullmatch(text):
            moment = datetime.fromisoformat(text)
            start = end = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            if name == "created_on":
                start -= start % _ONE_DAY
                end = start + _ONE_DAY
        else:
            raise ValueError(text)
    except (ValueError, OverflowError):
        message = f"{name} must be a date such as 2026-01-31, or a time such as 2026-01-31T09:30:00Z."
        raise _invalid(name, message) from None
    if name == "created_before":
        return None, start
    return (end, None) if name == "created_after" else (start, end)


def _whole(req: falcon.Request, name: str, default: int, low: int, high: int) -> int:
    text = _text(req, name)
    if not text:
        return default
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise _invalid(name, f"{name} must be a whole number from {low} to {high}.")
    return int(text)


def _text(req: falcon.Request, name: str) -> str:
    """A parameter's text, "" when it is not there."""
    value = req.params.get(name, "")
    if not isinstance(value, str):
        raise _invalid(name, f"{name} is there more than once; keep one.")
    return value


def _invalid(attribute: str, message: str, code: str = "invalid_parameter") -> ApiError:
    return ApiError(422, code, message, attribute=attribute)
