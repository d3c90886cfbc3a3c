"""``POST /api/calling/calls``: dial a call, update it, and every live command (calling-api.md, sections 1 to 6).

Responsible for the envelope, for finding the call, for ``dial`` and ``update`` and their state rules, and for the call
leg that answers every command. What a live command does is its method's file (:mod:`fsctl.call.live` finds it), what
dialling is :mod:`fsctl.dialling`. Who may ask is :mod:`fsctl.api.access`'s.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from fsctl.api.access import require
from fsctl.api.body import read_json
from fsctl.call.events import Callback, Watcher
from fsctl.call.live import MISSING, RequestInvalid, read
from fsctl.dialling import Order
from fsctl.errors import ApiError, FetchError, LegGone, ScriptError
from fsctl.log import bind
from fsctl.logs.status import direction, leg_status, leg_type
from fsctl.swml.parameters import Anything, Integer, Number, Object, OneOf, Shape, Text, TextList, Url, parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import falcon

    from fsctl.call.call import Call
    from fsctl.call.calls import Calls
    from fsctl.call.live import Commands
    from fsctl.dialling import Dialler
    from fsctl.swml.document import Document

__all__ = ["CallCommands", "call_leg"]

log = structlog.get_logger(__name__)

STATES: Final = ("queued", "initiated", "created", "ringing", "answered", "ending", "ended")
CODECS: Final = re.compile(
    r"OPUS(?:@(?:48000|24000|16000|8000)H(?:@20I)?)?|G722|PCMU|PCMA|G729|VP8|H264", re.IGNORECASE
)
MOST_VARIABLES: Final = 20
MOST_VARIABLE_BYTES: Final = 1024
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESERVED = ("signalwire_", "sw_", "rtc_", "internal_")
_CALLER = re.compile(r"(?:sips?:)?[A-Za-z0-9_.+*#-]{1,64}(?:@[A-Za-z0-9_.:\[\]-]{1,255})?")
_DIGITS = re.compile(r"[0-9A-Da-d*#wW,]{1,255}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """What ``dial`` takes (calling-api.md 3.1)."""

    from_: str = parameter(Text(min_length=1, max_length=320))
    to: str | None = parameter(Text(min_length=1, max_length=512), default=None)
    url: str | None = parameter(Url(), default=None)
    swml: Any = parameter(Anything(), default=None)
    to_script: Any = parameter(Anything(), default=None)
    username: str | None = parameter(Text(min_length=1, max_length=255), default=None)
    password: str | None = parameter(Text(max_length=255), default=None)
    caller_id: str | None = parameter(Text(min_length=1, max_length=320), default=None)
    fallback_url: str | None = parameter(Url(), default=None)
    status_url: str | None = parameter(Url(), default=None)
    status_events: tuple[str, ...] = parameter(TextList(Text(choices=STATES), max_items=20), default=("ended",))
    url_method: str = parameter(Text(choices=("GET", "POST")), default="POST")
    codecs: Any = parameter(Anything(), default=None)
    timeout: int | None = parameter(Integer(low=1, high=600), default=None)
    max_price_per_minute: float | None = parameter(Number(low=0), default=None)
    send_digits: str | None = parameter(Text(pattern=_DIGITS), default=None)
    region: Any = parameter(OneOf({str: Text(), list: TextList(Text(), max_items=20)}), default=None)
    custom_variables: Any = parameter(Anything(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What ``update`` takes (calling-api.md 3.2)."""

    id: str = parameter(Text(min_length=1, max_length=255))
    url: str | None = parameter(Url(), default=None)
    swml: Any = parameter(Anything(), default=None)
    fallback_url: str | None = parameter(Url(), default=None)
    status: str | None = parameter(Text(choices=("canceled", "completed")), default=None)
    status_url: str | None = parameter(Url(), default=None)
    url_method: str = parameter(Text(choices=("GET", "POST")), default="POST")


_DIAL = Shape(Dial)
_UPDATE = Shape(Update)
_OBJECT = Object()


class CallCommands:
    """The one endpoint of the calling API. ``strict`` refuses parameters nobody knows."""

    scopes = {"POST": ("control", "dial")}  # noqa: RUF012 - read only
    idempotent = True

    def __init__(
        self,
        calls: Calls,
        commands: Commands,
        dialler: Dialler,
        *,
        compile_document: Callable[[str], Document],
        admit: Callable[[str], None],
        strict: bool = False,
        on_command: Callable[[str, str], object] = lambda _command, _outcome: None,
    ) -> None:
        self._calls = calls
        self._commands = commands
        self._dialler = dialler
        self._compile_text = compile_document
        self._admit = admit
        self._strict = strict
        self._on_command = on_command

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Run one command."""
        body = read_json(req)
        name, params = body.get("command"), body.get("params")
        if not isinstance(name, str):
            raise ApiError(400, "bad_request", "`command` is missing: it names what is to be done", attribute="command")
        if params is None and "params" not in body:
            raise ApiError(400, "bad_request", "`params` is missing; {} where a command takes none", attribute="params")
        if not isinstance(params, dict):
            raise ApiError(422, "not_a_hash", "`params` must be an object", attribute="params")
        known = name in ("dial", "update") or self._commands.get(name) is not None
        bind(command=name if known else "unknown")
        try:
            resp.media = self._run(req, name, params, body)
        except ApiError:
            self._on_command(name if known else "unknown", "refused")
            raise
        self._on_command(name, "accepted")

    def _run(self, req: falcon.Request, name: str, params: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        if name == "dial":
            require(req, "dial")
            if "swml" in body and "swml" not in params:  # a published recipe puts it there
                params = {**params, "swml": body["swml"]}
            return call_leg(self._dial(params))
        require(req, "control")
        if name == "update":
            if "id" not in params and "id" in body:
                params = {"id": body["id"], **params}
            return self._update(params)
        command = self._commands.get(name)
        if command is None:
            raise self._unknown(name)
        call = self._find(body.get("id"), attribute="id")
        record, ignored = command.read(params, strict=self._strict)
        self._overlooked(ignored)
        return {**call_leg(call), **command.run(call, record)}

    def _unknown(self, name: str) -> ApiError:
        if name in MISSING:
            problem = f"fsctl does not have {name} yet: it needs the method `{MISSING[name]}`"
            return ApiError(422, "feature_not_available", problem, attribute="command")
        return ApiError(422, "invalid_command_attempted", f"there is no command {name[:80]!r}", attribute="command")

    def _find(self, call_id: Any, *, attribute: str) -> Call:
        """The call with that id. Raises ApiError for one that never was, or is over."""
        if call_id is None:
            raise ApiError(
                422, "missing_required_parameter", "`id` is missing: the call it is about", attribute=attribute
            )
        if not isinstance(call_id, str):
            raise ApiError(422, "not_a_string", "`id` must be the id of a call, as text", attribute=attribute)
        call_id = call_id.lower() if _UUID.fullmatch(call_id) else call_id
        call = self._calls.get(call_id)
        if call is None or call.state == "ended":
            if call is not None or self._calls.knew(call_id):
                raise ApiError(422, "invalid_state", "the call has ended", attribute=attribute)
            raise ApiError(404, "not_found", "There is no call with this id.", attribute=attribute)
        bind(call_id=call.info.call_id)
        return call

    def _overlooked(self, ignored: tuple[str, ...]) -> None:
        if ignored:
            log.info("parameters_ignored", parameters=list(ignored[:20]), hint="nobody knows them here")

    # -- dial ----------------------------------------------------------------------------------------------------

    def _dial(self, params: dict[str, Any]) -> Call:
        wish, ignored = read(_DIAL, params, strict=self._strict)
        self._overlooked(ignored)
        if wish.to_script is not None:
            raise _invalid(
                "feature_not_available", "to_script needs `connect`, which fsctl does not have yet", "to_script"
            )
        if wish.to is None:
            raise _invalid("missing_required_parameter", "`to` is missing", "to")
        if not _CALLER.fullmatch(wish.from_):
            raise _invalid("not_valid_for_caller_id", "`from` is neither a number nor a SIP URI", "from")
        if wish.caller_id is not None and not _CALLER.fullmatch(wish.caller_id):
            raise _invalid("not_valid_for_caller_id", "`caller_id` is neither a number nor a SIP URI", "caller_id")
        if (wish.username is None) != (wish.password is None):
            missing = "password" if wish.password is None else "username"
            raise _invalid("must_specify_related_parameter", "`username` and `password` go together", missing)
        if wish.username is not None and not wish.to.lower().startswith(("sip:", "sips:")):
            raise _invalid("incompatible_parameters", "`username` is for SIP URIs only", "username")
        return self._dialler.dial(
            Order(
                to=wish.to,
                from_=wish.from_,
                document=self._document(wish.url, wish.swml),
                method=wish.url_method,
                fallback=self._safe(wish.fallback_url, "fallback_url"),
                ring_seconds=wish.timeout,
                caller_id=wish.caller_id or "",
                codecs=_codecs(wish.codecs),
                send_digits=(wish.send_digits or "").replace(",", "w"),
                envs=_variables(wish.custom_variables),
                watchers=_watchers(self._safe(wish.status_url, "status_url"), wish.status_events),
                username=wish.username or "",
                password=wish.password or "",
                max_price=wish.max_price_per_minute,
            )
        )

    def _document(self, url: str | None, swml: Any) -> str | Document:
        """What the call shall run. Raises ApiError for neither, both, and what is wrong."""
        if url is not None and swml is not None:
            raise _invalid("incompatible_parameters", "`url` and `swml` exclude each other", "swml")
        if url is not None:
            return self._safe(url, "url")
        if swml is None:
            raise _invalid("inline_swml_or_swml_webhook_required", "one of `url` and `swml` is missing", "url")
        return self._compile(swml)

    def _compile(self, swml: Any) -> Document:
        if isinstance(swml, dict):
            text = json.dumps(swml)
        elif isinstance(swml, str):
            text = swml
        else:
            raise _invalid("not_json_or_yaml", "`swml` must be a document: an object, or JSON or YAML as text", "swml")
        try:
            return self._compile_text(text)
        except ScriptError as problem:
            code = "not_json_or_yaml" if problem.code == "relay_script_parse_error" else "invalid_parameter"
            raise _invalid(code, f"swml: {problem}", "swml") from problem

    def _safe(self, url: str | None, attribute: str) -> str:
        """``url``, "" for none. Raises ApiError for one that points where customers may not go."""
        if url is None:
            return ""
        try:
            self._admit(url)
        except FetchError as problem:
            if problem.reason == "address":
                raise _invalid("url_is_unsafe", f"{attribute}: {problem}", attribute) from problem
            if problem.reason in ("malformed", "scheme"):
                raise _invalid("url_failed_to_parse", f"{attribute}: {problem}", attribute) from problem
        return url

    # -- update --------------------------------------------------------------------------------------------------

    def _update(self, params: dict[str, Any]) -> dict[str, Any]:
        wish, ignored = read(_UPDATE, params, strict=self._strict)
        self._overlooked(ignored)
        redirects = wish.url is not None or wish.swml is not None
        if wish.status is not None and redirects:
            raise _invalid("incompatible_parameters", "`status` excludes `url` and `swml`", "status")
        if wish.status is None and not redirects:
            raise _invalid("missing_required_parameter", "one of `status`, `url` and `swml` is missing", "status")
        try:
            call = self._find(wish.id, attribute="id")
        except ApiError as problem:
            if problem.code == "invalid_state":
                raise _invalid("cannot_update_completed", "the call has ended", "id") from None
            raise
        if wish.status == "canceled":
            return self._cancel(call)
        if wish.status == "completed":
            return self._complete(call)
        return self._redirect(call, wish)

    def _cancel(self, call: Call) -> dict[str, Any]:
        if call.state not in ("queued", "initiated", "created", "ringing"):
            raise _invalid("cannot_cancel_in_progress", f"the call is {call.state}: too late to cancel it", "status")
        call.ended_by = "canceled"
        call.leg.hang_up("ORIGINATOR_CANCEL")
        return {**call_leg(call), "status": "canceled"}

    def _complete(self, call: Call) -> dict[str, Any]:
        if call.state != "answered":
            hint = "" if call.state == "ending" else ": cancel it instead"
            raise _invalid("invalid_state", f"the call is {call.state}, not answered{hint}", "status")
        call.ended_by = "completed"
        call.to("ending")
        call.leg.hang_up("NORMAL_CLEARING")
        return {**call_leg(call), "status": "completed"}

    def _redirect(self, call: Call, wish: Update) -> dict[str, Any]:
        if call.state != "answered":
            raise _invalid("cannot_redirect_not_in_progress", f"the call is {call.state}, not answered", "id")
        document = self._document(wish.url, wish.swml)
        fallback = self._safe(wish.fallback_url, "fallback_url")
        status_url = self._safe(wish.status_url, "status_url")
        script = call.script
        try:
            if script is None:
                raise LegGone
            script.redirect(document, method=wish.url_method, fallback=fallback)
        except LegGone:
            raise _invalid("call_update_failed", "the call is just ending", "id") from None
        if status_url:
            states = next((watcher.states for watcher in call.watchers), frozenset(("ended",)))
            call.watchers = (Watcher(Callback(status_url), states),)
        return call_leg(call)


# -- small things ----------------------------------------------------------------------------------------------------


def call_leg(call: Call) -> dict[str, Any]:
    """The call as every command answers it (calling-api.md 6.1)."""
    info = call.info
    seconds = None if not call.answer_time else max(0.0, (call.end_time or call.clock.now()) - call.answer_time)
    return {
        "id": info.call_id,
        "from": info.from_,
        "to": info.to,
        "direction": direction(info.direction),
        "status": leg_status(call.state, call.end_reason, call.ended_by),
        "duration": None if seconds is None else int(seconds),
        "duration_ms": None if seconds is None else int(seconds * 1000),
        "billing_ms": None if seconds is None else int(seconds * 1000),
        "source": "realtime_api",
        "type": leg_type(info.type),
        "url": None,
        "parent_id": None,
        "charge": 0,
        "charge_details": [],
        "created_at": datetime.fromtimestamp(info.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _invalid(code: str, message: str, attribute: str) -> ApiError:
    return ApiError(422, code, message, attribute=attribute)


def _watchers(url: str, states: tuple[str, ...]) -> tuple[Watcher, ...]:
    return (Watcher(Callback(url), frozenset(states)),) if url else ()


def _codecs(value: Any) -> str:
    """The codecs as FreeSWITCH lists them, "" for its own choice. Raises ApiError."""
    if value is None:
        return ""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _invalid("invalid_codecs_format", "`codecs` must be a list of names, or names with commas", "codecs")
    names = [name.strip() for name in names]
    for name in names:
        if not CODECS.fullmatch(name):
            raise _invalid("invalid_codecs_format", f"`codecs` names {name[:40]!r}, which is no codec", "codecs")
    return ",".join(re.sub(r"(\d)([HI])\b", lambda m: m[1] + m[2].lower(), name) for name in names)


def _variables(value: Any) -> Mapping[str, str]:
    """``custom_variables``, checked rule by rule. Raises ApiError."""
    if value is None:
        return {}
    place = "custom_variables"
    if not isinstance(value, dict):
        raise _invalid("must_be_object", "`custom_variables` must be an object", place)
    if len(value) > MOST_VARIABLES:
        raise _invalid("too_many_custom_variables", f"there may be at most {MOST_VARIABLES} custom variables", place)
    wrong: list[tuple[str, str, str | None]] = []
    for name, text in value.items():
        where = f"{place}.{name[:80]}"
        if not _VARIABLE.fullmatch(name):
            wrong.append(("invalid_custom_variable_name", f"{name[:80]!r} is no name for a variable", where))
        elif name.lower().startswith(_RESERVED):
            wrong.append(("reserved_custom_variable_name", f"{name[:80]!r} begins as our own variables do", where))
        elif not isinstance(text, str) or not text:
            wrong.append(("invalid_custom_variable_value", f"{name[:80]!r} must be text, and not empty", where))
        elif len(text.encode("utf-8", "surrogatepass")) > MOST_VARIABLE_BYTES:
            problem = f"{name[:80]!r} has more than {MOST_VARIABLE_BYTES} bytes"
            wrong.append(("custom_variable_value_too_long", problem, where))
    if wrong:
        raise RequestInvalid(wrong)
    return value
