"""Events of a call in the form customers' servers get them (webhooks.md, sections 1 to 3).

Two tables say everything: ``ENVELOPED`` which event of ours is which ``event_type``, ``CONTROLS`` what a kind of
control shows. A kind that is in neither is sent as ``calling.call.<kind>`` with its state and its whole detail, so a
new method needs no line here unless its page leaves something out or adds something. ``COMPAT`` is the third: what the
compatibility API's callbacks show (compat-streams.md 5).

Pure. Where an event goes, and whether anybody wants it, is the sender's business.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

import orjson

from fsctl.call.events import CallStateChanged, ControlChanged, ScriptWarning, UserEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.events import CallEvent, CallInfo

__all__ = [
    "COMPAT",
    "CONTROLS",
    "END_REASONS",
    "ENVELOPED",
    "EVENT_TYPES",
    "Shape",
    "Surface",
    "compat",
    "event_type",
    "form_body",
    "form_query",
    "payload",
    "query",
    "serialise",
]

Surface: TypeAlias = Literal["rest", "swml"]
Json: TypeAlias = dict[str, Any]
Fields: TypeAlias = dict[str, str]

END_REASONS: Final[Mapping[Surface, Mapping[str, str]]] = {
    "rest": {
        "hangup": "hangup",
        "cancel": "cancel",
        "busy": "busy",
        "no_answer": "noAnswer",
        "declined": "decline",
        "error": "error",
        "abandoned": "abandoned",
        "max_duration": "max_duration",
        "not_found": "not_found",
    },
    # The page of ``connect`` knows these six and nothing else.
    "swml": {word: word for word in ("hangup", "cancel", "busy", "no_answer", "declined", "error")},
}


# -- what a kind of control shows -------------------------------------------------------------------------------------


def _everything(event: ControlChanged, params: Json) -> None:
    params.update((name, value) for name, value in event.detail.items() if value is not None)


def _only(*names: str) -> Callable[[ControlChanged, Json], None]:
    return lambda event, params: _copy(event.detail, names, params)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a kind of control is told: its ``event_type``, the optional call fields it carries, and its own fields.

    ``detail`` puts the latter into the ``params``; ``state`` is whether its state is among them.
    """

    event_type: str
    call_fields: tuple[str, ...] = ()
    detail: Callable[[ControlChanged, Json], None] = _everything
    state: bool = True


# The fields a recording shows in each state, in the flat form of the ``record`` page.
_RECORD: Final[Mapping[str, tuple[str, ...]]] = {
    "recording": ("recording_id",),
    "paused": ("recording_id", "pause_behavior"),
    "no_input": ("duration", "size", "recording_id", "start_time", "end_time"),
    "finished": ("url", "duration", "size", "recording_id", "start_time", "end_time", "first_frame_time"),
    "error": ("recording_id", "start_time", "end_time"),
}
_RECORD_NESTED: Final = ("url", "duration", "size", "format")
_RECORD_AUDIO: Final = ("format", "direction", "stereo")


def _record(event: ControlChanged, params: Json) -> None:
    """Both documented forms at once: flat, and (when finished) the same four fields inside ``record``."""
    detail = event.detail
    audio: Json = {}
    nested: Json = {"audio": audio}
    _copy(detail, _RECORD.get(event.state, ()), params)
    _copy(detail, _RECORD_AUDIO, audio)
    params["record"] = nested
    if event.state == "finished":
        _copy(detail, _RECORD_NESTED, nested)


def _collect(event: ControlChanged, params: Json) -> None:
    """``final`` with partial results, ``state`` with a continuous collection."""
    if event.detail.get("continuous"):
        params["state"] = event.state
    _copy(event.detail, ("final", "result"), params)


_SEGMENT: Final = ("segment_id", "tag")

CONTROLS: Final[Mapping[str, Shape]] = {
    "play": Shape("calling.call.play", detail=_only()),
    "record": Shape("calling.call.record", _SEGMENT, _record),
    "stream": Shape("calling.call.stream", _SEGMENT, _only("url", "name")),
    "tap": Shape("calling.call.tap", _SEGMENT, _only("tap", "device")),
    "collect": Shape("calling.call.collect", ("tag",), _collect, state=False),
    "detect": Shape("calling.call.detect", _SEGMENT, _only("detect"), state=False),
}


@lru_cache(maxsize=64)
def _shape(kind: str) -> Shape:
    return CONTROLS.get(kind) or Shape(f"calling.call.{kind}", _SEGMENT)


def _control(event: ControlChanged, _surface: Surface) -> Json:
    shape = _shape(event.kind)
    params = _address(event.call, shape.call_fields)
    params["control_id"] = event.control_id
    if shape.state:
        params["state"] = event.state
    shape.detail(event, params)
    return params


# -- the other events -------------------------------------------------------------------------------------------------


def _state(event: CallStateChanged, surface: Surface) -> Json:
    call = event.call
    params = _address(call, _SEGMENT)
    params["call_state"] = event.state
    params["direction"] = call.direction
    params["device"] = _device(call)
    params["start_time"] = round(event.start_time * 1000)
    params["answer_time"] = round(event.answer_time * 1000)
    params["end_time"] = round(event.end_time * 1000)
    if event.state == "ended":
        if event.end_reason is not None:
            params["end_reason"] = END_REASONS[surface].get(event.end_reason, "error")
        if event.end_source is not None:
            params["end_source"] = event.end_source
    if call.type == "sip" and call.sip_data is not None:
        params["sip_data"] = dict(call.sip_data)
    if event.audio_in_mos is not None:
        params["audio_in_mos"] = event.audio_in_mos
    return params


def _device(call: CallInfo) -> Json:
    """Describe the leg; an empty object while the type of the call is not known."""
    kind = call.type
    if kind == "phone":
        params: Json = {"from_number": call.from_number, "to_number": call.to_number}
    elif kind in {"sip", "webrtc"}:
        params = {"from": call.from_, "to": call.to}
        if kind == "sip" and call.headers:
            params["headers"] = [dict(header) for header in call.headers]
    else:
        return {}
    return {"type": kind, "params": params}


def _warning(event: ScriptWarning, _surface: Surface) -> Json:
    params = {**_address(event.call), "code": event.code, "message": event.message}
    if event.section:
        params["section"] = event.section
    if event.index >= 0:
        params["step"] = event.index
    if event.line is not None:
        params["line"] = event.line
    return params


def _user_event(event: UserEvent, _surface: Surface) -> Json:
    return {**event.event, **_address(event.call)}


def _address(call: CallInfo, optional: tuple[str, ...] = ()) -> Json:
    address = {"call_id": call.call_id, "node_id": call.node_id}
    for name in optional:
        if value := getattr(call, name):
            address[name] = value
    return address


def _copy(source: Mapping[str, Any], names: tuple[str, ...], fields: Json) -> None:
    """Put what ``source`` knows of ``names`` into ``fields``."""
    for name in names:
        if (value := source.get(name)) is not None:
            fields[name] = value


# -- the envelope -----------------------------------------------------------------------------------------------------

ENVELOPED: Final[Mapping[type, tuple[str, Callable[[Any, Surface], Json]]]] = {
    CallStateChanged: ("calling.call.state", _state),
    ControlChanged: ("", _control),  # the type depends on the kind
    ScriptWarning: ("calling.script.warning", _warning),
    UserEvent: ("calling.user_event", _user_event),
}


EVENT_TYPES: Final = (
    *(shape.event_type for shape in CONTROLS.values()),
    *(name for name, _ in ENVELOPED.values() if name),
)


def event_type(event: CallEvent) -> str | None:
    """Name ``event`` as customers know it; None when it is none of their business."""
    if isinstance(event, ControlChanged):
        return _shape(event.kind).event_type
    known = ENVELOPED.get(type(event))
    return known[0] if known else None


def payload(event: CallEvent, surface: Surface = "rest") -> Json | None:
    """Return the whole body that tells ``event``, or None for an event that is not told to customers.

    ``surface`` chooses the spelling of ``end_reason``: ``rest`` for who asked over REST or in the configuration,
    ``swml`` for a document's ``connect.call_state_url``. ``timestamp`` is in seconds, the three times of
    ``calling.call.state`` in milliseconds, 0 while unknown. Fields that do not apply are left out.
    """
    known = ENVELOPED.get(type(event))
    if known is None:
        return None
    kind, params = known
    told: Any = event
    call: CallInfo = told.call
    return {
        "event_type": kind or _shape(told.kind).event_type,
        "event_channel": f"swml:{call.session_id}",
        "timestamp": told.at,
        "project_id": call.project_id,
        "space_id": call.space_id,
        "params": params(told, surface),
    }


# -- the compatibility form -------------------------------------------------------------------------------------------

# What the page calls the reasons for which a stream ends as an error; these are of `fsctl.streams.ended.Ended`.
_STREAM_ERRORS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("scheme", "malformed", "address"), "invalid_url"),
    **dict.fromkeys(("refused", "status"), "connection_refused"),
    **dict.fromkeys(("dns", "connect", "timeout", "tls", "content", "lost"), "connection_refused_timeout_or_ssl_error"),
    **dict.fromkeys(("protocol", "internal"), "general_error"),
}


def _compat_stream(event: ControlChanged) -> Fields:
    error = _STREAM_ERRORS.get(event.detail.get("reason", ""))
    told = "started" if event.state == "streaming" else "stopped" if error is None else "error"
    fields = {
        "AccountSid": event.call.project_id,
        "CallSid": event.call.call_id,
        "StreamSid": event.control_id,
        "StreamName": event.detail.get("name") or event.control_id,
        "StreamEvent": f"stream-{told}",
        "StreamTrack": event.detail["track"],
        "Timestamp": datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Unique-ID": event.call.call_id,
    }
    return fields if error is None else {**fields, "StreamError": error}


# The kinds of control that the compatibility API tells of.
COMPAT: Final[Mapping[str, Callable[[ControlChanged], Fields]]] = {"stream": _compat_stream}


def compat(event: CallEvent) -> Fields:
    """Give the fields that tell ``event`` in the compatibility form. Raises TypeError for one that has no such form."""
    if not isinstance(event, ControlChanged) or event.kind not in COMPAT:
        raise TypeError(f"no {type(event).__name__} of this kind is told in the compatibility form")
    return COMPAT[event.kind](event)


# -- on the wire ------------------------------------------------------------------------------------------------------


def serialise(body: Json) -> bytes:
    """Encode ``body`` as JSON, in ASCII; numbers JSON has no form for become null, as JavaScript has it.

    Raises TypeError for keys that are no names, and RecursionError for a body that contains itself.
    """
    try:
        text = orjson.dumps(body, option=_ONLY_JSON)
    except orjson.JSONEncodeError:
        return _serialise_anything(body)
    return text if text.isascii() else _serialise_anything(body)


# orjson has forms of its own for these; the standard library's are what customers know. An enum has no such option.
_ONLY_JSON: Final = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS


def _serialise_anything(body: Json) -> bytes:
    """Encode what is not plain, in ten times the time: text beyond ASCII, huge numbers, numbers as keys, dates."""
    try:
        text = _JSON.encode(body)
    except ValueError:
        text = _JSON.encode(_finite(body))
    return text.encode("ascii")


# A document's YAML may hold dates and the like; their text is what a customer can use.
_JSON: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def form_body(fields: Fields) -> bytes:
    """Encode ``fields`` as they are posted."""
    return urlencode(fields).encode("ascii")


def form_query(fields: Fields) -> str:
    """Return the GET form of ``fields``."""
    return urlencode(fields, quote_via=quote)


def query(body: Json) -> str:
    """Return the GET form of ``body`` (webhooks.md, 2.1): the envelope's fields and those of ``params``, by name.

    Objects and lists are JSON text, and so are true and false; a field of ``params`` never replaces the envelope's.
    """
    fields = {name: value for name, value in body.items() if name != "params"}
    fields = {**fields, **{name: value for name, value in body["params"].items() if name not in fields}}
    pairs = [(name, value if isinstance(value, str) else serialise(value).decode()) for name, value in fields.items()]
    return urlencode(pairs, quote_via=quote)
