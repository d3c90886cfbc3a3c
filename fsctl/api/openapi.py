"""``GET /openapi.json``: what fsctl serves, as an OpenAPI 3.1 document made from the declarations it runs by.

What a command takes is read from its record (:meth:`fsctl.swml.parameters.Shape.schema`), what it does from its
docstring, what a refusal looks like from :mod:`fsctl.api.app`; nothing of that is written here a second time.

A resource can describe itself: ``openapi``, in its own file, is its path item by method, or a function that gives it::

    class Streams:
        scopes: Final = {"POST": "control"}
        openapi: Final = {
            "post": {
                "operationId": "startStream",
                "tags": ["Streams"],
                "summary": "Start a stream",
                "requestBody": takes(_START.schema(), FORM, JSON),
                "responses": {"200": gives("The stream.", STREAM), **refusals(404, 422)},
            },
        }

What holds for every operation is added to it here: the parameters of its path, and below ``/api/`` who may ask, how
often, and the refusals of that. A resource below ``/api/laml/`` refuses in the compatibility API's form, and is
described so. Its second route, the same with ``.json`` at the end, goes without saying.
"""

from __future__ import annotations

import inspect
import json
import re
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from fsctl import __version__
from fsctl.api.app import compat_error_body, error_body
from fsctl.api.calls import MOST_VARIABLE_BYTES, MOST_VARIABLES, STATES, Dial, Update
from fsctl.api.logs import LARGEST_PAGE, LAST_PAGE, PAGE_SIZE
from fsctl.api.recordings import CONTENT_TYPES
from fsctl.call.live import MISSING, ControlId
from fsctl.logs.status import DIRECTIONS, LEG_STATUSES, LOG_STATUSES, TYPES
from fsctl.swml.parameters import NoParameters, Shape, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import falcon

    from fsctl.call.live import Command, Commands

__all__ = ["FORM", "JSON", "OpenApi", "document", "gives", "refusals", "takes"]

PATH: Final = "/openapi.json"
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

_API: Final = "/api/"
_COMPAT: Final = "/api/laml/"

# Refusals: the name of each, when it comes, and a code for the example.
_REFUSALS: Final = {
    400: ("BadRequest", "The body cannot be read, or lacks what tells what it is.", "bad_request"),
    401: ("Unauthorized", "The credentials are missing or wrong.", "unauthorized"),
    403: ("Forbidden", "The token lacks the scope.", "forbidden"),
    404: ("NotFound", "There is nothing of that name.", "not_found"),
    405: ("MethodNotAllowed", "The path has no such method.", "method_not_allowed"),
    408: ("RequestTimeout", "The body took too long.", "request_timeout"),
    409: ("Conflict", "It collides with what goes on already.", "invalid_state"),
    410: ("Gone", "It was there, and is not any more.", "link_expired"),
    411: ("LengthRequired", "The body came without a Content-Length.", "length_required"),
    413: ("ContentTooLarge", "The body is too large.", "body_too_large"),
    415: ("UnsupportedMediaType", "The body is of a type that is not read here.", "unsupported_media_type"),
    416: ("RangeNotSatisfiable", "No byte is in the range.", "range_not_satisfiable"),
    422: ("Invalid", "It can be read, but is wrong; every item of `errors` is one finding.", "invalid_parameter"),
    429: ("TooManyRequests", "Too many requests, or too many with wrong credentials.", "rate_limit_exceeded"),
    500: ("InternalError", "Something went wrong in fsctl.", "internal_error"),
    503: ("Unavailable", "Not now; `Retry-After` says when to try again.", "service_unavailable"),
}
_REFUSAL_HEADERS: Final = {
    401: {"WWW-Authenticate": {"description": "`Basic`, with its realm.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}

_ABOUT: Final = """\
Dials calls on a FreeSWITCH, steers calls that are up, and tells afterwards how they went.

* An optional parameter that is null counts as not given. Parameters nobody knows are {unknown}.
* Every answer carries `X-Request-Id`: the request's own, or one that fsctl made. All lines in the log that belong to
  the request have it, too.
* Times are ISO 8601 in UTC.
"""


def gives(description: str, schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """An answer in JSON, for an operation's ``responses``."""
    return {"description": description, "content": {JSON: {"schema": schema}}, **more}


def takes(schema: Mapping[str, Any], *content_types: str, **more: Any) -> dict[str, Any]:
    """A body, JSON unless told otherwise, for an operation's ``requestBody``."""
    content = {
        each: {"schema": _without_null(schema) if each == FORM else schema, **more} for each in content_types or (JSON,)
    }
    return {"required": True, "content": content}


def _without_null(schema: Any) -> Any:
    """A schema for where there is no null."""
    if isinstance(schema, list):
        return [_without_null(item) for item in schema if item not in (None, "null", {"type": "null"})]
    if not isinstance(schema, dict):
        return schema
    return {name: _without_null(part) for name, part in schema.items()}


def refusals(*statuses: int) -> dict[str, Any]:
    """Refusals with these statuses, for an operation's ``responses``."""
    return {str(status): {"$ref": f"#/components/responses/{_REFUSALS[status][0]}"} for status in statuses}


def document(resources: Mapping[str, object], commands: Commands, *, public_url: str, strict: bool) -> dict[str, Any]:
    """The whole document: ``resources`` by their routes, as for :func:`fsctl.api.app.make_app`, and what that adds.

    ``commands`` are those of the calling API, ``public_url`` is where customers reach us, ``strict`` whether unknown
    parameters are refused. Raises TypeError for a resource that neither says what it is nor is known here.
    """
    served = {**dict.fromkeys(_OWN), **resources}
    known = {**_OWN, **_LEFT, "/api/calling/calls": lambda: _calls(commands)}
    paths: dict[str, Any] = {}
    for route, resource in sorted(served.items(), key=lambda each: each[0]):
        bare = route.removesuffix(".json")
        if bare != route and resource is not None and served.get(bare) is resource:
            continue
        describe = getattr(resource, "openapi", None) or known.get(route)
        if describe is None:
            raise TypeError(f"{route} is served by {type(resource).__name__}, which has no `openapi` to describe it")
        paths[route] = _completed(route, resource, describe() if callable(describe) else describe)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fsctl",
            "version": __version__,
            "description": _ABOUT.format(unknown="refused" if strict else "passed over, with a line in fsctl's log"),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The project id and a token. Each token has scopes: `dial`, `control`, `read`.",
                }
            },
            "headers": _HEADERS,
            "schemas": {**_SCHEMAS, **_command_schemas(commands)},
            "responses": _refusal_responses(compat=any(route.startswith(_COMPAT) for route in paths)),
        },
    }


class OpenApi:
    """Serves the document that ``make`` gives; asked once, when somebody first wants it."""

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> tuple[bytes, str]:
        text = json.dumps(self._make(), ensure_ascii=False, separators=(",", ":")).encode()
        return text, blake2b(text, digest_size=16).hexdigest()

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The document, or that it is still the same."""
        text, tag = self._made
        resp.etag = tag
        resp.cache_control = ["no-cache"]  # an update changes it; that it is unchanged is a short answer
        if {tag, "*"}.intersection(req.if_none_match or ()):
            resp.status = 304
        else:
            resp.data, resp.content_type = text, JSON

    on_head = on_get


# -- what every operation has ----------------------------------------------------------------------------------------


def _completed(route: str, resource: object, described: Mapping[str, Any]) -> dict[str, Any]:
    """A path item with what its resource need not say."""
    item = {name: _markdown(each) for name, each in described.items()}
    said = {parameter["name"] for parameter in item.get("parameters", ()) if "name" in parameter}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)[^}]*\}", route)
        if name not in said
    ]
    if parameters:
        item["parameters"] = [*parameters, *item.get("parameters", ())]
    for method in item.keys() & {"get", "head", "post", "put", "patch", "delete"}:
        item[method] = _operation(route, resource, method, item[method])
    return item


def _operation(route: str, resource: object, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    added = [500]
    made = {**operation, "security": []}
    if "requestBody" in operation:
        added += [400, 408, 411, 413]
    if route.startswith(_API):
        scopes = getattr(resource, "scopes", {}).get(method.upper(), ())
        made["security"] = [{"basic": [scopes] if isinstance(scopes, str) else list(scopes)}]
        added += [401, 403, 429]
    if method == "post" and getattr(resource, "idempotent", False):
        made["parameters"] = [*operation.get("parameters", ()), _IDEMPOTENCY_KEY]
        added += [409, 422]
    answers = {**refusals(*added), **operation["responses"]}
    if route.startswith(_COMPAT):
        answers.update({status: _in_compat_form(answer) for status, answer in answers.items()})
    if method == "head":
        answers.update({status: _without_body(status, answer) for status, answer in answers.items()})
    made["responses"] = dict(sorted(answers.items()))
    return made


def _in_compat_form(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    head, _, name = answer.get("$ref", "").rpartition("/")
    return {**answer, "$ref": f"{head}/Compat{name}"} if head == "#/components/responses" else answer


def _without_body(status: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in answer:
        return {"description": _REFUSALS[int(status)][1]}
    return {name: part for name, part in answer.items() if name != "content"}


_ROLE = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")


def _markdown(value: Any) -> Any:
    """``value`` with each description in it, a docstring perhaps, in the form that readers of OpenAPI expect."""
    if isinstance(value, list):
        return [_markdown(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _ROLE.sub(lambda found: f"`{found[1] or found[2]}`", item)
        if name == "description" and isinstance(item, str)
        else _markdown(item)
        for name, item in value.items()
    }


_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same body is done once; sent again, it is answered as before.",
    "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
}

_HEADERS: Final = {
    "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "Replayed": {"description": "That this is the answer of an earlier request.", "schema": {"const": "true"}},
    "ETag": {"description": "Changes with the content.", "schema": {"type": "string"}},
}


def _refusal_responses(*, compat: bool) -> dict[str, Any]:
    """Every refusal, in the form of the calling API, and in the compatibility API's where that is served."""
    made: dict[str, Any] = {}
    for status, (name, description, code) in _REFUSALS.items():
        example = error_body(status, code, description)
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Refusal"}
        if "error" in example:
            schema = {"allOf": [schema, {"required": ["error"], "properties": {"error": {"const": example["error"]}}}]}
        made[name] = _refusal(status, description, schema, example)
        if compat:
            schema = {"$ref": "#/components/schemas/CompatRefusal"}
            made[f"Compat{name}"] = _refusal(status, description, schema, compat_error_body(status, code, description))
    return made


def _refusal(status: int, description: str, schema: Mapping[str, Any], example: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": description, "content": {JSON: {"schema": schema, "example": example}}}
    if status in _REFUSAL_HEADERS:
        made["headers"] = _REFUSAL_HEADERS[status]
    return made


# -- the calling API -------------------------------------------------------------------------------------------------

_EXAMPLES: Final = {
    "dial": {
        "command": "dial",
        "params": {
            "from": "+15550001111",
            "to": "sip:alice@pbx.example",
            "url": "https://app.example/swml",
            "status_url": "https://app.example/status",
            "status_events": ["answered", "ended"],
        },
    },
    "update": {
        "command": "update",
        "params": {"id": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11", "url": "https://app.example/queue"},
    },
    "calling.play": {
        "command": "calling.play",
        "id": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11",
        "params": {"control_id": "greeting", "play": [{"type": "tts", "params": {"text": "One moment, please."}}]},
    },
    "calling.end": {"command": "calling.end", "id": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11", "params": {}},
}

_DOCUMENT: Final = {
    "description": "A document: an object, or JSON or YAML as text.",
    "anyOf": [{"type": "object", "required": ["sections"]}, {"type": "string", "minLength": 1}, {"type": "null"}],
}
_CALLER: Final = {"pattern": "^(?:sips?:)?[A-Za-z0-9_.+*#-]{1,64}(?:@[A-Za-z0-9_.:\\[\\]-]{1,255})?$"}
_CODECS: Final = (
    "OPUS",
    *(f"OPUS@{rate}H@20I" for rate in (48000, 24000, 16000, 8000)),
    *("G722", "PCMU", "PCMA", "G729", "VP8", "H264"),
)
_CODEC: Final = f" *(?:{'|'.join(_CODECS)}) *"

# What dialling says of parameters of which the record says little or nothing.
_DIAL_PARAMETERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "from": _CALLER,
    "to": {"type": "string", "description": "A number, or a `sip:`, `sips:`, `verto:` or `client:` address."},
    "caller_id": {**_CALLER, "description": "Shown in place of `from`."},
    "swml": _DOCUMENT,
    "username": {"writeOnly": True, "description": "With `password`, for a SIP URI that wants to know who calls."},
    "password": {"writeOnly": True},
    "codecs": {
        "description": "A list, or names with commas between them. A `codecs` parameter inside a SIP `to` wins.",
        "anyOf": [
            {"type": "array", "items": {"type": "string", "enum": list(_CODECS)}},
            {"type": "string", "pattern": f"^{_CODEC}(?:,{_CODEC})*$"},
            {"type": "null"},
        ],
    },
    "custom_variables": {
        "type": ["object", "null"],
        "description": "Become `${envs.NAME}` in the call's documents. Names that begin with `signalwire_`, `sw_`, "
        f"`rtc_` or `internal_` are taken; a value may have {MOST_VARIABLE_BYTES} bytes.",
        "maxProperties": MOST_VARIABLES,
        "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": MOST_VARIABLE_BYTES},
    },
}

# What functions ask beyond their records.
_RULES: Final[Mapping[str, Mapping[str, Any]]] = {
    "calling.collect": {"anyOf": [present("digits"), present("speech")]},
}


def _calls(commands: Commands) -> dict[str, Any]:
    names = ("dial", "update", *commands.names)
    missing = "\n".join(f"| `{name}` | `{method}` |" for name, method in MISSING.items() if name not in names)
    control_id = {"type": "string", "description": "Of what was started; made up where the request had none."}
    leg = gives(
        "Done, or begun: the call as it is now. What comes of it is told to the `status_url`.",
        {"allOf": [{"$ref": "#/components/schemas/CallLeg"}, {"properties": {"control_id": control_id}}]},
        headers={"Idempotent-Replayed": {"$ref": "#/components/headers/Replayed"}},
    )
    refs = {name: f"#/components/schemas/{name}" for name in names}
    return {
        "post": {
            "operationId": "runCommand",
            "tags": ["Calls"],
            "summary": "Run a command",
            "description": "Dials a call, redirects or ends one, or does something on it while its document runs.\n\n"
            "These commands of the published API are not there yet, and refused (422 `feature_not_available`), each "
            f"for want of a method:\n\n| command | method |\n| --- | --- |\n{missing}\n",
            "requestBody": takes(
                {
                    "oneOf": [{"$ref": ref} for ref in refs.values()],
                    "discriminator": {"propertyName": "command", "mapping": refs},
                },
                examples={name: {"value": value} for name, value in _EXAMPLES.items() if name in names},
            ),
            "responses": {"200": leg, **refusals(400, 404, 405, 409, 415, 422, 503)},
        }
    }


_UPDATE: Final = """\
Send a call that is answered to another document (`url` or `swml`), or end it: `status` is `canceled` before the answer
and `completed` after it."""


def _command_schemas(commands: Commands) -> dict[str, Any]:
    made: dict[str, dict[str, Any]] = {
        "dial": _envelope("dial", _dial(), "Dial a call. When it is answered, it runs the document."),
        "update": _envelope("update", _update(), _UPDATE),
        **{command.name: _live(command) for command in sorted(commands, key=lambda each: each.name)},
    }
    return {name: _markdown(schema) for name, schema in made.items()}


def _envelope(name: str, params: Mapping[str, Any], description: str, **members: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "required": ["command", *members, "params"],
        "properties": {"command": {"type": "string", "const": name}, **members, "params": params},
    }


def _dial() -> dict[str, Any]:
    schema = Shape(Dial).schema()
    properties: dict[str, Any] = schema["properties"]
    del properties["to_script"]
    for name, more in _DIAL_PARAMETERS.items():
        properties[name].update(more)
    return {
        "type": "object",
        "description": "`to_script` of the published API needs the method `connect`, and is refused.",
        "properties": properties,
        "required": ["from", "to"],
        "oneOf": [present("url"), present("swml")],
        "allOf": [
            {"if": present("username"), "then": present("password")},
            {"if": present("password"), "then": present("username")},
            {"if": present("username"), "then": {"properties": {"to": {"pattern": "^[Ss][Ii][Pp][Ss]?:"}}}},
        ],
    }


def _update() -> dict[str, Any]:
    schema = Shape(Update).schema()
    del schema["description"]
    schema["properties"]["swml"] = _DOCUMENT
    return {**schema, "oneOf": [present(name) for name in ("status", "url", "swml")]}


def _live(command: Command) -> dict[str, Any]:
    record = command.shape.record
    params = command.shape.schema()
    said = [inspect.getdoc(command.function) or ""]
    if record in (NoParameters, ControlId):  # which say nothing that a client wants to know
        del params["description"]
    if command.opens:
        params["required"].remove("control_id")  # made up where it is not given
        params["properties"]["control_id"]["type"] = ["string", "null"]
        said.append(f"Starts a `{command.opens}`, which further commands find by its `control_id`.")
    elif command.on:
        said.append(f"`control_id` is that of a `{command.on}` on this call. One that has ended is no error.")
    params.update(_RULES.get(command.name, {}))
    said.append(f"The call must be {_or(state for state in STATES if state in command.states)}.")
    call_id = {"type": "string", "description": "The call: the `id` of its leg."}
    return _envelope(command.name, params, " ".join(said), id=call_id)


def _or(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


# -- schemas of what is answered -------------------------------------------------------------------------------------

_MOMENT: Final = {"type": "string", "format": "date-time"}
_MAYBE_WHOLE: Final = {"type": ["integer", "null"], "minimum": 0}


def _leg(id_description: str, statuses: Iterable[str]) -> dict[str, Any]:
    properties = {
        "id": {"type": "string", "description": id_description},
        "from": {"type": "string"},
        "to": {"type": "string"},
        "direction": {"type": "string", "enum": list(DIRECTIONS.values())},
        "status": {"type": "string", "enum": sorted(statuses)},
        "duration": {**_MAYBE_WHOLE, "description": "Seconds since the answer; null before it."},
        "duration_ms": {**_MAYBE_WHOLE, "description": "The same in milliseconds."},
        "billing_ms": {**_MAYBE_WHOLE, "description": "The same; fsctl bills nobody."},
        "source": {"const": "realtime_api"},
        "type": {"type": "string", "enum": list(TYPES.values())},
        "url": {"type": "null"},
        "parent_id": {"type": "null"},
        "charge": {"const": 0},
        "charge_details": {
            "type": "array",
            "maxItems": 0,
            "items": {"properties": {"description": {"type": "string"}, "charge": {"type": "number"}}},
        },
        "created_at": _MOMENT,
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _closed(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


_SCHEMAS: Final[dict[str, Any]] = {
    "Refusal": {
        "type": "object",
        "required": ["errors"],
        "properties": {
            "error": {"type": "string", "description": "The status in words, with 400, 401, 403, 404 and 500."},
            "errors": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Finding"}},
        },
    },
    "Finding": _closed(
        type={
            "type": "string",
            "enum": ["validation_error", "conflict_error", "request_error", "server_error"],
        },
        code={"type": "string", "description": "For programs: what is wrong."},
        message={"type": "string", "description": "For people: what is wrong, and what to do."},
        attribute={"type": ["string", "null"], "description": "The parameter at fault, `.` between levels."},
        url={"type": "string", "format": "uri", "description": "Where the published codes are explained."},
    ),
    "CompatRefusal": _closed(
        code={"type": "integer"},
        message={"type": "string"},
        more_info={"type": "string", "format": "uri"},
        status={"type": "integer"},
    ),
    "CallLeg": _leg("The call; what later commands name it by.", LEG_STATUSES),
    "CallLog": _leg("The segment id of the call.", LOG_STATUSES),
    "CallLogs": _closed(
        links={
            "type": "object",
            "required": ["self", "first"],
            "properties": {name: {"type": "string", "format": "uri"} for name in ("self", "first", "next", "prev")},
            "description": "`next` is there while more follow.",
        },
        data={"type": "array", "items": {"$ref": "#/components/schemas/CallLog"}},
    ),
    "CallEvents": _closed(
        data={
            "type": "array",
            "items": _closed(
                event_at=_MOMENT,
                level={"type": "string", "enum": ["debug", "info", "warn", "error"]},
                name={"type": "string"},
                details={"type": "object"},
                project_id={"type": "string"},
                log_id={"type": "string"},
            ),
        }
    ),
    "Recording": _closed(
        id={"type": "string"},
        url={"type": "string", "format": "uri"},
        format={"type": "string", "enum": list(CONTENT_TYPES)},
        size={"type": "integer", "minimum": 0, "description": "Bytes."},
        duration={"type": ["number", "null"], "description": "Seconds; null where the file does not tell."},
        created_at=_MOMENT,
    ),
    "Readiness": _closed(
        ready={"type": "boolean"},
        checks={
            "type": "object",
            "additionalProperties": _closed(ok={"type": "boolean"}, detail={"type": "string"}),
        },
    ),
}


# -- the other routes of fsctl's own ---------------------------------------------------------------------------------


def _query(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _date(name: str, description: str) -> dict[str, Any]:
    either = [{"type": "string", "format": "date"}, _MOMENT]
    return _query(name, {"anyOf": either}, f"{description}; a date is a day in UTC.")


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _with_head(operation: dict[str, Any]) -> dict[str, Any]:
    """``GET``, and ``HEAD``, which answers the same without the body."""
    return {"get": operation, "head": {**operation, "operationId": f"{operation['operationId']}Head"}}


def _logs() -> dict[str, Any]:
    return {
        "get": {
            "operationId": "listCallLogs",
            "tags": ["Call logs"],
            "summary": "List calls, newest first",
            "description": "Page 0 fixes a moment; calls that come later are not on its further pages.",
            "parameters": [
                _query("include_deleted", {"type": "boolean"}, "Of no effect: nothing is kept of what is deleted."),
                _date("created_before", "Only calls before this"),
                _date("created_on", "Only calls of this day"),
                _date("created_after", "Only calls after this"),
                _query(
                    "page_number", {"type": "integer", "minimum": 0, "maximum": LAST_PAGE, "default": 0}, "From 0 on."
                ),
                _query(
                    "page_size",
                    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE_SIZE},
                    "Calls on a page.",
                ),
                _query("page_token", {"type": "string"}, "From `links.next`; needed for every page but the first."),
            ],
            "responses": {
                "200": gives("A page.", {"$ref": "#/components/schemas/CallLogs"}),
                **refusals(422, 503),
            },
        }
    }


def _log() -> dict[str, Any]:
    return {
        "get": {
            "operationId": "getCallLog",
            "tags": ["Call logs"],
            "summary": "Look up a call",
            "responses": {
                "200": gives("The call.", {"$ref": "#/components/schemas/CallLog"}),
                **refusals(404, 503),
            },
        }
    }


def _events() -> dict[str, Any]:
    return {
        "get": {
            "operationId": "listCallEvents",
            "tags": ["Call logs"],
            "summary": "What happened on a call, in order",
            "responses": {
                "200": gives("All of it.", {"$ref": "#/components/schemas/CallEvents"}),
                **refusals(404, 503),
            },
        }
    }


def _metrics() -> dict[str, Any]:
    return {
        "get": {
            "operationId": "getMetrics",
            "tags": ["Operation"],
            "summary": "Metrics for Prometheus",
            "responses": {
                "200": {"description": "Every metric.", "content": {"text/plain": {"schema": {"type": "string"}}}}
            },
        }
    }


def _live_check() -> dict[str, Any]:
    return _with_head(
        {
            "operationId": "isLive",
            "tags": ["Operation"],
            "summary": "Whether the process answers at all",
            "responses": {"200": gives("It does.", _closed(live={"const": True}))},
        }
    )


def _ready_check() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Readiness"}
    return _with_head(
        {
            "operationId": "isReady",
            "tags": ["Operation"],
            "summary": "Whether calls should be sent here",
            "responses": {"200": gives("Yes.", schema), "503": gives("No; the checks say why.", schema)},
        }
    )


_RECORDING: Final = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_SOUND: Final = f"\\.(?:{'|'.join(CONTENT_TYPES)})"


def _name(pattern: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": "name", "in": "path", "required": True, "description": description, "schema": schema}


def _recordings() -> dict[str, Any]:
    sound = _sound()
    sound["operationId"] = "fetchRecording"
    sound["description"] = "Who has the recording's URL may have it; where links expire, as long as that is good."
    sound["parameters"] += [
        _query("expires", {"type": "string"}, "Part of a URL that expires."),
        _query("signature", {"type": "string"}, "Part of a URL that expires."),
    ]
    sound["responses"].update(refusals(403, 410))
    return {"parameters": [_name(_RECORDING + _SOUND, "The name in the recording's URL.")], **_with_head(sound)}


def _managed_recordings() -> dict[str, Any]:
    sound = _sound()
    sound["operationId"] = "getRecording"
    sound["description"] = "What is known of a recording, with a new URL of it; with the name of its file, the sound."
    whole = sound["responses"]["200"]
    whole["content"] = {JSON: {"schema": {"$ref": "#/components/schemas/Recording"}}, **whole["content"]}
    delete = {
        "operationId": "deleteRecording",
        "tags": ["Recordings"],
        "summary": "Delete a recording",
        "description": "By its id. One that is still being made is refused (409).",
        "responses": {"204": {"description": "It is gone."}, **refusals(404, 409)},
    }
    name = _name(f"{_RECORDING}(?:{_SOUND})?", "A recording's id, or the name of its file.")
    return {"parameters": [name], **_with_head(sound), "delete": delete}


def _sound() -> dict[str, Any]:
    """Fetching a file of sound."""
    audio: dict[str, Any] = {content_type: {} for content_type in CONTENT_TYPES.values()}
    headers = {
        "Accept-Ranges": {"schema": {"const": "bytes"}},
        "ETag": {"$ref": "#/components/headers/ETag"},
        "Last-Modified": {"schema": {"type": "string"}},
    }
    span = {"Content-Range": {"description": "Which bytes, of how many.", "schema": {"type": "string"}}}
    return {
        "tags": ["Recordings"],
        "summary": "Fetch a recording",
        "parameters": [
            _header("Range", "One range of bytes; several, and what cannot be read, count as none."),
            _header("If-Range", "The range, if this is still its `ETag` or `Last-Modified`; else all of it."),
            _header("If-None-Match", "The `ETag` the client has."),
            _header("If-Modified-Since", "The `Last-Modified` the client has."),
        ],
        "responses": {
            "200": {"description": "All of it.", "headers": headers, "content": audio},
            "206": {"description": "The range that was asked for.", "headers": {**headers, **span}, "content": audio},
            "304": {"description": "It is what the client has.", "headers": headers},
            **refusals(404, 416),
        },
    }


def _itself() -> dict[str, Any]:
    headers = {"ETag": {"$ref": "#/components/headers/ETag"}}
    return _with_head(
        {
            "operationId": "getOpenApi",
            "tags": ["Operation"],
            "summary": "This document",
            "parameters": [_header("If-None-Match", "The `ETag` the client has.")],
            "responses": {
                "200": gives("The document.", {"type": "object"}, headers=headers),
                "304": {"description": "It is what the client has.", "headers": headers},
            },
        }
    )


# By route: what fsctl always serves, and resources that leave their description to this file.
_OWN: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "/health/live": _live_check,
    "/health/ready": _ready_check,
    "/metrics": _metrics,
    PATH: _itself,
    "/recordings/{name}": _recordings,
}
_LEFT: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "/api/recordings/{name}": _managed_recordings,
    "/api/voice/logs": _logs,
    "/api/voice/logs/{log_id}": _log,
    "/api/voice/logs/{log_id}/events": _events,
}
