"""The compatibility API's streams: start one on a call, stop one (compat-streams.md 1 to 4, 8).

Responsible for the ways of that API: forms and JSON, paths with and without ``.json``, refusals with its numbers, and
the stream as it shows one. What streaming is, is :mod:`fsctl.methods.stream`: a stream that is started here is one of
the call's like all others. `stop_stream` and `calling.stream.stop` can end it, and it takes part in
``streams.max_per_call``; what a document has started can be stopped here. Its callbacks are
:mod:`fsctl.webhooks.payloads`'.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import structlog

from fsctl.api.body import read_form_or_json
from fsctl.api.openapi import FORM, JSON, gives, refusals, takes
from fsctl.call.live import RequestInvalid, read
from fsctl.errors import ApiError, CommandFailed, FetchError, LegGone, ScriptError
from fsctl.identity import new_id
from fsctl.log import bind
from fsctl.methods.stream import BearerToken, SocketUrl, Streaming, begin, named
from fsctl.swml.parameters import INVALID_VALUE, Shape, Text, Url, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    import falcon

    from fsctl.call.call import Call
    from fsctl.call.calls import Calls
    from fsctl.call.control import Control
    from fsctl.streams.ended import Ended
    from fsctl.swml.document import Where

__all__ = ["stream_resources"]

log = structlog.get_logger(__name__)

ROOT: Final = "/api/laml/2010-04-01/Accounts"
CODEC: Final = "PCMU@8000h"
MOST_PARAMETERS: Final = 99
LONGEST_NAME: Final = 255

# The numbers of refusals.
INVALID_ARGUMENT: Final = "10000"
INVALID_METHOD: Final = "13221"
NOT_FOUND: Final = "20404"
INTERNAL_ERROR: Final = "20504"
NOT_NOW: Final = "21220"
INVALID_URL: Final = "21402"
INVALID_CALLBACK: Final = "21456"

# A field that is there and wrong; all others, and fields that are missing, are invalid arguments.
_WRONG: Final = {"Url": INVALID_URL, "StatusCallback": INVALID_CALLBACK, "StatusCallbackMethod": INVALID_METHOD}
# Reasons of a FetchError that come from the URL itself. A host that is not found now may be found a moment later.
_UNFIT: Final = frozenset({"address", "malformed", "scheme"})
_STATUSES: Final = {"": "queued", "streaming": "in-progress", "finished": "stopped"}
_PARAMETER: Final = re.compile(r"Parameter([0-9]{1,6})\.(Name|Value)")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_REMEMBERED: Final = 4096  # streams that ended before their calls, so that stopping one too late is no error


@dataclass(frozen=True)
class EndpointUrl(SocketUrl):
    """The URL of a WebSocket, without a query."""

    def exact(self, value: Any, where: Where) -> str:
        """Raise ScriptError for anything else."""
        url = super().exact(value, where)
        if "?" in url:
            message = f"`{where.parameter}` must have no query; send Parameter1.Name and Parameter1.Value instead"
            raise ScriptError(INVALID_VALUE, message, where)
        return url

    def schema(self) -> dict[str, Any]:
        """As any URL of a WebSocket, but for the query."""
        return {**super().schema(), "not": {"pattern": r"\?"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a start takes; ``Parameter1.Name``, ``Parameter1.Value`` up to 99 come beside it."""

    url: str = parameter(EndpointUrl(), name="Url")
    name: str | None = parameter(Text(max_length=LONGEST_NAME), name="Name", default=None)
    track: str = parameter(
        Text(choices=("inbound_track", "outbound_track", "both_tracks")), name="Track", default="both_tracks"
    )
    status_callback: str | None = parameter(Url(), name="StatusCallback", default=None)
    status_callback_method: str = parameter(Text(choices=("GET", "POST")), name="StatusCallbackMethod", default="POST")
    authorization_bearer_token: str | None = parameter(BearerToken(), name="AuthorizationBearerToken", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What a stop takes."""

    status: str = parameter(Text(choices=("stopped",)), name="Status", default="stopped")


_START: Final = Shape(Start)
_STOP: Final = Shape(Stop)

_STREAM: Final = {
    "type": "object",
    "required": ["sid", "account_sid", "call_sid", "name", "status", "date_updated", "uri"],
    "properties": {
        "sid": {"type": "string"},
        "account_sid": {"type": "string"},
        "call_sid": {"type": "string"},
        "name": {"type": "string", "description": "The sid, where the start gave none."},
        "status": {"type": "string", "enum": list(_STATUSES.values())},
        "date_updated": {"type": "string", "description": "As RFC 2822 has it, in UTC."},
        "uri": {"type": "string", "format": "uri-reference"},
    },
}


def stream_resources(calls: Calls, *, strict: bool = False) -> dict[str, object]:
    """The resources by their routes; ``strict`` refuses fields nobody knows."""
    house = _House(calls, strict)
    start, stop, conference = StartStream(house), StopStream(house), ConferenceStreams()
    streams = f"{ROOT}/{{account_sid}}/Calls/{{call_sid}}/Streams"
    of_conference = f"{ROOT}/{{account_sid}}/Conferences/{{conference_sid}}/Streams"
    return {
        streams: start,
        f"{streams}.json": start,
        f"{streams}/{{sid}}": stop,
        of_conference: conference,
        f"{of_conference}.json": conference,
        f"{of_conference}/{{sid}}": conference,
    }


@dataclass(frozen=True, slots=True)
class _House:
    """What the resources share. ``ended`` holds, by call and sid, the streams that ended before their calls."""

    calls: Calls
    strict: bool
    ended: OrderedDict[tuple[str, str], dict[str, Any]] = field(default_factory=OrderedDict)

    def find(self, req: falcon.Request, account_sid: str, call_sid: str) -> Call:
        """The call that the path names. Raises ApiError for one that never was, or is over."""
        _check_account(req, account_sid)
        if _UUID.fullmatch(call_sid):
            call = self.calls.get(call_sid.lower())
            if call is not None and call.state != "ended":
                bind(call_id=call.info.call_id)
                return call
            if call is not None or self.calls.knew(call_sid.lower()):
                raise _refusal(422, NOT_NOW, "The call has ended, and its streams with it.")
        raise _refusal(404, NOT_FOUND, "There is no call with this sid.")

    def read(self, shape: Shape, fields: Mapping[str, Any]) -> Any:
        """``fields`` as the record of ``shape``; one that is blank counts as left out. Raises ApiError."""
        given = {name: value for name, value in fields.items() if value not in ("", None)}
        try:
            record, ignored = read(shape, given, strict=self.strict)
        except RequestInvalid as wrong:
            code, message, name = wrong.findings[0]
            missing = code == "missing_required_parameter"
            raise _refusal(
                400, INVALID_ARGUMENT if missing else _WRONG.get(name or "", INVALID_ARGUMENT), message
            ) from None
        if ignored:
            log.info("parameters_ignored", parameters=list(ignored[:20]), hint="nobody knows them here")
        return record

    def remember(self, call: Call, sid: str, name: str) -> None:
        """Keep what a stream was that is over now."""
        self.ended[call.info.call_id, sid] = _resource(call, sid, name, "finished")
        if len(self.ended) > _REMEMBERED:
            self.ended.popitem(last=False)


# -- starting ----------------------------------------------------------------------------------------------------------


class StartStream:
    """``POST …/Calls/{CallSid}/Streams``."""

    scopes = {"POST": "control"}  # noqa: RUF012 - read only
    idempotent = True

    def __init__(self, house: _House) -> None:
        self._house = house

    def on_post(self, req: falcon.Request, resp: falcon.Response, account_sid: str, call_sid: str) -> None:
        """Start a stream, and answer before its endpoint has."""
        call = self._house.find(req, account_sid, call_sid)
        parameters, fields = _split(read_form_or_json(req))
        wish = self._house.read(_START, fields)
        if call.state != "answered":
            raise _refusal(
                422, NOT_NOW, f"The call is {call.state or 'queued'}: it can be streamed once it is answered."
            )
        _check_url(call, wish.url)
        if wish.status_callback is not None:
            _admit(call, wish.status_callback, "StatusCallback")
        resp.media = self._start(call, wish, parameters)

    def _start(self, call: Call, wish: Start, parameters: Mapping[str, str]) -> dict[str, Any]:
        sid = new_id()
        name = wish.name or sid
        if named(call, name) is not None or call.controls.find("stream", name) is not None:
            raise _refusal(422, INVALID_ARGUMENT, f"`Name`: a stream called {name!r} runs on this call already.")

        def hear(_state: str, ended: Ended | None) -> None:
            if ended is not None and ended.reason != "hangup":
                self._house.remember(call, sid, name)

        try:
            control = begin(
                call,
                Streaming(
                    method="startStream",
                    url=wish.url,
                    control_id=sid,
                    name=wish.name,
                    track=wish.track,
                    codec=CODEC,
                    status_url=wish.status_callback,
                    status_url_method=wish.status_callback_method,
                    status_form="compat",
                    authorization_bearer_token=wish.authorization_bearer_token,
                    custom_parameters=parameters,
                    observer=hear,
                ),
            )
        except LegGone:
            raise _refusal(422, NOT_NOW, "The call has just ended.") from None
        except CommandFailed as problem:
            raise _refusal(422, NOT_NOW, f"The stream cannot be started: {problem.reply}.") from problem
        return _resource(call, sid, name, control.state)

    openapi: Final = {
        "post": {
            "operationId": "startStream",
            "tags": ["Streams"],
            "summary": "Start a stream on a call",
            "description": "PCMU at 8000 Hz, from the call to the endpoint. `Url` begins with `wss://` and has no "
            "query: what the endpoint is to know goes into parameters, which it gets as `start.customParameters`.",
            "requestBody": takes(
                {
                    **_START.schema(),
                    "patternProperties": {
                        r"^Parameter[1-9][0-9]?\.Name$": {"type": "string"},
                        r"^Parameter[1-9][0-9]?\.Value$": {"type": ["string", "number", "boolean"]},
                    },
                },
                FORM,
                JSON,
            ),
            "responses": {"200": gives("The stream.", _STREAM), **refusals(404, 422)},
        }
    }


def _split(fields: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
    """The parameters for the endpoint, and the other fields. Raises ApiError."""
    parts: dict[str, dict[int, Any]] = {"Name": {}, "Value": {}}
    others = {}
    for name, value in fields.items():
        if (found := _PARAMETER.fullmatch(name)) is None:
            others[name] = value
        elif not 0 < int(found[1]) <= MOST_PARAMETERS or found[1].startswith("0"):
            raise _refusal(400, INVALID_ARGUMENT, f"`{name}`: parameters have the numbers from 1 to {MOST_PARAMETERS}.")
        else:
            parts[found[2]][int(found[1])] = value
    names, values = parts["Name"], parts["Value"]
    parameters: dict[str, str] = {}
    for number in sorted(names.keys() | values.keys()):
        called, value = names.get(number), values.get(number)
        if called in ("", None) and value in ("", None):
            continue
        if not isinstance(called, str) or not called:
            raise _refusal(400, INVALID_ARGUMENT, f"`Parameter{number}.Name` must be text, and not empty.")
        if called in parameters:
            raise _refusal(400, INVALID_ARGUMENT, f"`Parameter{number}.Name` is that of another parameter, too.")
        parameters[called] = _text(value, f"Parameter{number}.Value")
    return parameters, others


def _text(value: Any, place: str) -> str:
    """A value as a form would have it. Raises ApiError."""
    if isinstance(value, dict | list):
        raise _refusal(400, INVALID_ARGUMENT, f"`{place}` must be text.")
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _check_url(call: Call, url: str) -> None:
    """Refuse what no stream may go to. Raises ApiError."""
    if url.lower().startswith("ws:") and not call.services.streams.allow_plaintext:
        raise _refusal(400, INVALID_URL, "`Url` must begin with wss://: ws:// is not encrypted.")
    _admit(call, url, "Url")


def _admit(call: Call, url: str, name: str) -> None:
    """Refuse a URL that points where customers may not go. Raises ApiError."""
    try:
        call.services.web.admit(url)
    except FetchError as problem:
        if problem.reason in _UNFIT:
            raise _refusal(400, _WRONG[name], f"`{name}`: {problem}.") from problem


# -- stopping ----------------------------------------------------------------------------------------------------------


class StopStream:
    """``POST …/Calls/{CallSid}/Streams/{Sid}``."""

    scopes = {"POST": "control"}  # noqa: RUF012 - read only

    def __init__(self, house: _House) -> None:
        self._house = house

    def on_post(self, req: falcon.Request, resp: falcon.Response, account_sid: str, call_sid: str, sid: str) -> None:
        """Stop a stream; when this is answered, the endpoint has been told."""
        call = self._house.find(req, account_sid, call_sid)
        self._house.read(_STOP, read_form_or_json(req))
        wanted = dict.fromkeys((sid.removesuffix(".json"), sid))  # a name may end like that
        control = next(filter(None, (_stream(call, each) for each in wanted)), None)
        if control is None:
            past = (self._house.ended.get((call.info.call_id, each.lower())) for each in wanted)
            resp.media = next(filter(None, past), None)
            if resp.media is None:
                raise _refusal(404, NOT_FOUND, "No stream with this sid or name runs on the call.")
            return
        try:
            control.halt()
        except LegGone:
            raise _refusal(422, NOT_NOW, "The call has just ended, and the stream with it.") from None
        except CommandFailed as problem:
            raise ApiError(
                503,
                INTERNAL_ERROR,
                f"FreeSWITCH did not stop the stream: {problem.reply}",
                headers={"Retry-After": "5"},
            ) from problem
        resp.media = _resource(call, control.id, control.detail.get("name") or control.id, control.state)

    openapi: Final = {
        "parameters": [
            {
                "name": "sid",
                "in": "path",
                "required": True,
                "description": "The stream's sid, or its name while it runs.",
                "schema": {"type": "string"},
            }
        ],
        "post": {
            "operationId": "stopStream",
            "tags": ["Streams"],
            "summary": "Stop a stream of a call",
            "description": "One that has ended by itself is no error.",
            "requestBody": {**takes(_STOP.schema(), FORM, JSON), "required": False},
            "responses": {"200": gives("The stream.", _STREAM), **refusals(404, 422, 503)},
        },
    }


def _stream(call: Call, wanted: str) -> Control | None:
    """The running stream with that sid, else the one of that name."""
    sid = wanted.lower() if _UUID.fullmatch(wanted) else wanted
    return call.controls.find("stream", sid) or call.controls.find("stream", wanted) or named(call, wanted)


# -- what there is none of ---------------------------------------------------------------------------------------------


class ConferenceStreams:
    """``POST …/Conferences/{ConferenceSid}/Streams``, with and without a sid: there is nothing to stream."""

    scopes = {"POST": "control"}  # noqa: RUF012 - read only

    def on_post(self, req: falcon.Request, _resp: falcon.Response, account_sid: str, **_sids: str) -> None:
        """Refuse."""
        _check_account(req, account_sid)
        raise _refusal(404, NOT_FOUND, "There is no such conference: fsctl has none, and streams calls only.")

    openapi: Final = {
        "post": {
            "tags": ["Streams"],
            "summary": "Refused: fsctl has no conferences",
            "responses": refusals(404),
        }
    }


# -- small things ------------------------------------------------------------------------------------------------------


def _resource(call: Call, sid: str, name: str, state: str) -> dict[str, Any]:
    """A stream as this API shows it, updated now."""
    account_sid, call_sid = call.info.project_id, call.info.call_id
    return {
        "sid": sid,
        "account_sid": account_sid,
        "call_sid": call_sid,
        "name": name,
        "status": _STATUSES[state],
        "date_updated": format_datetime(datetime.fromtimestamp(call.clock.now(), UTC)),
        "uri": f"{ROOT}/{account_sid}/Calls/{call_sid}/Streams/{quote(sid, safe='')}.json",
    }


def _check_account(req: falcon.Request, account_sid: str) -> None:
    """Refuse every account but the project: there are no sub-projects. Raises ApiError."""
    if account_sid.lower() != req.context.project_id.lower():
        raise _refusal(404, NOT_FOUND, "There is no account with this sid.")


def _refusal(status: int, code: str, message: str) -> ApiError:
    return ApiError(status, code, message)
