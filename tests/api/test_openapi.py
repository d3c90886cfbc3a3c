"""``/openapi.json``: that it is a document, that it is complete, and that it says what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import make_dataclass
from typing import Any, ClassVar

import jsonschema
import pytest
import quickjs
from falcon import inspect, testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from fsctl import __version__
from fsctl.api import calls, openapi, streams
from fsctl.api.app import compat_error_body, error_body
from fsctl.api.calls import Dial, Update, call_leg
from fsctl.api.logs import log_entry
from fsctl.api.openapi import document, gives, refusals, takes
from fsctl.call.live import MISSING, Commands, RequestInvalid, live_command, read
from fsctl.config import load
from fsctl.logs.database import CallRow
from fsctl.methods import COMMANDS
from fsctl.swml.parameters import (
    Anything,
    ByType,
    Integer,
    Kind,
    Object,
    OneOf,
    Record,
    Records,
    Shape,
    Text,
    TextList,
    Url,
    parameter,
    written,
)
from tests.fakes.call import make_call

PUBLIC = "https://calls.example"
METHODS = ("get", "head", "post", "put", "patch", "delete")
NAMES = ("dial", "update", *COMMANDS.names)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The application as the service makes it."""
    from fsctl import server

    folder = tmp_path_factory.mktemp("served")
    path = folder / "fsctl.yaml"
    path.write_text(f"http: {{public_url: '{PUBLIC}'}}\nlogs: {{database: '{folder}/calls.db'}}\n")
    made = []

    with pytest.MonkeyPatch.context() as patch:
        make_app = server.make_app
        patch.setattr(server, "make_app", lambda **options: made.append(make_app(**options)) or made[0])
        server.Server(load(path, {})).engine.close()
    return made[0]


@pytest.fixture(scope="module")
def client(app):
    return testing.TestClient(app)


@pytest.fixture(scope="module")
def served(client):
    answer = client.simulate_get("/openapi.json")
    assert answer.status_code == 200, "making the document failed: the log says why"
    return answer.json


def described(**resources):
    """A document of these resources alone."""
    routes = {f"/{name}": resource for name, resource in resources.items()}
    return document(routes, Commands(), public_url=PUBLIC, strict=False)


def schema_of(doc, schema):
    """A validator for a schema of that document."""
    return jsonschema.Draft202012Validator({**schema, "components": doc["components"]})


def component(doc, name):
    return schema_of(doc, {"$ref": f"#/components/schemas/{name}"})


# -- serving it ------------------------------------------------------------------------------------------------------


def test_everybody_may_have_it(client):
    answer = client.simulate_get("/openapi.json")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json["info"]["version"] == __version__
    assert answer.json["servers"] == [{"url": PUBLIC}]


@pytest.mark.parametrize("tag", ["{}", "*", '"other", {}', "W/{}"])
def test_one_who_has_it_is_told_that_it_is_unchanged(client, tag):
    has = client.simulate_get("/openapi.json").headers["etag"]

    answer = client.simulate_get("/openapi.json", headers={"If-None-Match": tag.format(has)})

    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", has)


def test_one_who_has_another_gets_it(client):
    answer = client.simulate_get("/openapi.json", headers={"If-None-Match": '"other"'})

    assert (answer.status_code, answer.json["openapi"]) == (200, "3.1.0")


def test_head(client):
    get, head = client.simulate_get("/openapi.json"), client.simulate_head("/openapi.json")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == get.headers["etag"]


def test_it_is_made_once_and_only_when_somebody_wants_it():
    made = []
    resource = openapi.OpenApi(lambda: made.append(1) or {"openapi": "3.1.0"})
    assert made == []

    for _ in range(2):
        answer = testing.simulate_get(_app_of(resource), "/openapi.json")
        assert answer.json == {"openapi": "3.1.0"}

    assert made == [1]


def _app_of(resource):
    import falcon

    app = falcon.App()
    app.add_route("/openapi.json", resource)
    return app


# -- completeness ----------------------------------------------------------------------------------------------------


def test_it_is_an_openapi_document(served):
    validate(served)


def test_all_that_is_served_is_described(app, served):
    routes = inspect.inspect_routes(app)
    there = {
        (route.path, method.method.lower())
        for route in routes
        for method in route.methods
        if not method.internal and method.method.lower() in METHODS
    }
    said = {(path, method) for path, item in served["paths"].items() for method in item if method in METHODS}
    twins = {(f"{path}.json", method) for path, method in there}

    assert len(there) > 10
    assert there - twins == said


def test_every_command_is_described(served):
    body = served["paths"]["/api/calling/calls"]["post"]["requestBody"]["content"]["application/json"]["schema"]

    assert set(body["discriminator"]["mapping"]) == set(NAMES)
    assert [each["$ref"] for each in body["oneOf"]] == list(body["discriminator"]["mapping"].values())
    for name, ref in body["discriminator"]["mapping"].items():
        assert served["components"]["schemas"][ref.rpartition("/")[2]]["properties"]["command"]["const"] == name


def test_commands_that_are_not_there_yet_are_told_as_such(served):
    text = served["paths"]["/api/calling/calls"]["post"]["description"]

    told = dict(re.findall(r"^\| `(calling\.[\w.]+)` \| `(\w+)` \|$", text, re.MULTILINE))
    assert told == MISSING
    assert not MISSING.keys() & set(NAMES)


def test_descriptions_are_for_clients(served):
    def descriptions(value):
        if isinstance(value, dict):
            yield from (text for name, text in value.items() if name == "description" and isinstance(text, str))
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from descriptions(item)

    found = list(descriptions(served))
    assert len(found) > 100
    assert [text for text in found if re.search(r"``|:\w+:`|\.md|\bself\b|\bRaises\b", text)] == []


def test_who_may_ask_is_said_of_every_operation(app, served):
    for path, item in served["paths"].items():
        for method in item.keys() & set(METHODS):
            security = item[method]["security"]
            assert security if path.startswith("/api/") else security == [], (path, method)
    post = served["paths"]["/api/calling/calls"]["post"]
    assert post["security"] == [{"basic": ["control", "dial"]}]
    assert served["paths"]["/api/recordings/{name}"]["delete"]["security"] == [{"basic": ["control"]}]


def test_every_status_of_the_calling_api_is_there(served):
    responses = served["paths"]["/api/calling/calls"]["post"]["responses"]

    assert " ".join(responses) == "200 400 401 403 404 405 408 409 411 413 415 422 429 500 503"
    assert all("$ref" in answer for status, answer in responses.items() if status != "200")


def test_a_service_that_is_strict_says_so(served):
    text = document({}, Commands(), public_url=PUBLIC, strict=True)["info"]["description"]

    assert "Parameters nobody knows are refused" in text
    assert "Parameters nobody knows are passed over" in served["info"]["description"]


# -- resources that describe themselves ------------------------------------------------------------------------------


class Streams:
    scopes: ClassVar = {"POST": "control"}
    idempotent = True
    openapi: ClassVar = {
        "post": {
            "operationId": "startStream",
            "summary": "Start a stream",
            "requestBody": takes({"type": "object"}, openapi.FORM, openapi.JSON),
            "responses": {"200": gives("A :class:`Stream`.", {"type": "object"}), **refusals(404)},
        }
    }

    def on_post(self, req, resp):
        pass


COMPAT = "/api/laml/2010-04-01/Accounts/{AccountSid}/Streams"


def compat(resource, *routes):
    doc = document(dict.fromkeys(routes, resource), Commands(), public_url=PUBLIC, strict=False)
    validate(doc)
    return doc


@pytest.mark.parametrize("called", [False, True], ids=["value", "function"])
def test_a_resource_says_what_it_is(called):
    resource = Streams()
    if called:
        resource.openapi = lambda: Streams.openapi

    post = compat(resource, COMPAT)["paths"][COMPAT]["post"]

    assert post["summary"] == "Start a stream"
    assert set(post["requestBody"]["content"]) == {openapi.FORM, openapi.JSON}
    assert post["responses"]["200"]["description"] == "A `Stream`."


def test_what_holds_for_every_operation_it_need_not_say():
    item = compat(Streams(), COMPAT)["paths"][COMPAT]

    assert [(each["name"], each["in"], each["required"]) for each in item["parameters"]] == [
        ("AccountSid", "path", True)
    ]
    assert item["post"]["security"] == [{"basic": ["control"]}]
    assert [each["name"] for each in item["post"]["parameters"]] == ["Idempotency-Key"]
    assert " ".join(item["post"]["responses"]) == "200 400 401 403 404 408 409 411 413 422 429 500"
    assert Streams.openapi["post"].keys() == {"operationId", "summary", "requestBody", "responses"}


def test_below_the_compatibility_api_refusals_have_its_form():
    doc = compat(Streams(), COMPAT)

    for status, answer in doc["paths"][COMPAT]["post"]["responses"].items():
        if status != "200":
            assert answer["$ref"].startswith("#/components/responses/Compat")
    name = doc["paths"][COMPAT]["post"]["responses"]["404"]["$ref"].rpartition("/")[2]
    content = doc["components"]["responses"][name]["content"]["application/json"]
    assert content["example"].keys() == compat_error_body(404, "not_found", "").keys()
    schema_of(doc, content["schema"]).validate(content["example"])


def test_with_json_at_the_end_it_is_the_same():
    doc = compat(Streams(), COMPAT, f"{COMPAT}.json")

    assert [path for path in doc["paths"] if path.startswith("/api/laml")] == [COMPAT]


def test_what_has_json_at_the_end_alone_is_described():
    doc = compat(Streams(), f"{COMPAT}.json")

    assert [path for path in doc["paths"] if path.startswith("/api/laml")] == [f"{COMPAT}.json"]


def test_a_route_that_nobody_describes_is_a_mistake():
    with pytest.raises(TypeError, match="/odd is served by object, which has no `openapi`"):
        described(odd=object())


# -- what it says is what the code does: commands --------------------------------------------------------------------


COMMAND_SHAPES = {"dial": Shape(Dial), "update": Shape(Update), **{each.name: each.shape for each in COMMANDS}}
SHAPES = {**COMMAND_SHAPES, "start stream": streams._START, "stop stream": streams._STOP}


def fields(shape, at=""):
    """Every parameter declared there, and below, with its kind."""
    for name, field in shape.fields.items():
        path = f"{at}.{name}".removeprefix(".")
        yield path, field.kind
        yield from inside(field.kind, path)


def inside(kind, path):
    if isinstance(kind, Record | Records):
        yield from fields(Shape(kind.type), path)
    elif isinstance(kind, TextList):
        yield f"{path}[]", kind.item
        yield from inside(kind.item, f"{path}[]")
    elif isinstance(kind, OneOf):
        for each in kind.kinds.values():
            yield from inside(each, path)
    elif isinstance(kind, Object) and kind.values is not None:
        yield f"{path}.*", kind.values


KINDS = {f"{command} {path}": kind for command, shape in SHAPES.items() for path, kind in fields(shape)}
SAMPLES = [
    *(None, True, False, 0, 1, -1, 2, 5.0, 0.5, 40, 41, -40, -40.5, 100, 100.5, 600, 601, 1e300),
    *(
        "",
        " ",
        "a",
        "A",
        "5",
        "#",
        "*",
        "1w",
        "auto",
        "en-US",
        "x" * 256,
        "x" * 5000,
        "a b",
        "a,b",
        "é",
        "192.0.2.7",
        "192.0.2.007",
    ),
    *(
        "http://a.example",
        "https://u:p@a.example:80/x?y#z",
        "http://",
        "//a",
        "ftp://a",
        "ws://a",
        "wss://a/b",
        "http:/a",
    ),
    *([], ["a"], ["a", "b"], [1], [[]], {}, {"a": 1}, {"a": "b"}),
]


@pytest.mark.parametrize("name", SHAPES)
def test_every_kind_says_what_it_takes(name):
    jsonschema.Draft202012Validator.check_schema(SHAPES[name].schema())


def test_one_that_does_not_is_found_out():
    class Colour(Kind):
        pass

    shape = Shape(make_dataclass("Paint", [("colour", Any, parameter(Colour()))]))

    with pytest.raises(NotImplementedError, match="Colour does not say its JSON Schema"):
        shape.schema()


def accepts(kind, value):
    shape = Shape(make_dataclass("One", [("value", Any, parameter(kind))]))
    try:
        read(shape, {"value": value}, strict=True)
    except RequestInvalid:
        return False
    return True


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not isinstance(kind, Record | Records)])
def test_the_schema_takes_what_the_kind_takes(name):
    kind = KINDS[name]
    schema = kind.schema()
    words = [word for word in schema.get("enum", ()) if isinstance(word, str)]
    bounds = [schema[key] for key in ("minimum", "maximum", "exclusiveMinimum") if key in schema]
    samples = [*SAMPLES, *words, *map(str.swapcase, words)]
    samples += [bound + step for bound in bounds for step in (-1, -0.0001, 0, 0.0001, 1)]
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker(["ipv4"]))

    differing = [value for value in samples if validator.is_valid(value) != accepts(kind, value)]

    assert differing == []


def test_what_is_optional_may_be_null():
    doc = described()
    command = live_command("calling.paint", Paint, opens="play")(paint)
    schema = openapi._live(command)["properties"]["params"]

    assert schema["properties"]["size"] == {"type": ["integer", "null"], "minimum": 1, "default": 5}
    assert schema["properties"]["colour"] == {"type": ["string", "null"], "enum": ["red", None]}
    assert schema["properties"]["where"]["anyOf"][1] == {"type": "null"}
    assert schema["properties"]["tags"] == {
        "type": ["array", "null"],
        "items": {"type": "string"},
        "maxItems": 3,
        "default": ["a"],
    }
    assert schema["properties"]["anything"] == {}
    assert schema["properties"]["url"]["type"] == "string"
    assert set(schema["properties"]) == {"control_id", "url", "size", "colour", "tags", "where", "anything", "from"}
    assert doc["components"]["schemas"].keys() >= {"dial", "update"}


def test_an_operation_need_not_have_an_id_and_tells_what_it_is():
    command = live_command("calling.paint", Paint, opens="play")(paint)
    schema = openapi._live(command)

    assert schema["properties"]["params"]["required"] == ["url", "from"]
    assert schema["description"] == (
        "Paint the call. Starts a `play`, which further commands find by its `control_id`. The call must be answered."
    )


def paint(_call, _params):
    """Paint the call."""


Paint = make_dataclass(
    "Paint",
    [
        ("control_id", str, parameter(Text())),
        ("url", str, parameter(Url())),
        ("from_", str, parameter(Text())),
        ("size", int, parameter(Integer(low=1), default=5)),
        ("colour", str, parameter(Text(choices=("red",)), default="invisible")),
        ("tags", tuple, parameter(TextList(max_items=3), default=("a",))),
        ("where", Any, parameter(OneOf({str: Text(), list: TextList()}), default=None)),
        ("anything", Any, parameter(Anything(), default=None)),
        ("given", frozenset, written()),
    ],
)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ({"a": 1}, True),
        ({"b": "x"}, True),
        ({"a": None, "b": "x"}, True),
        ({}, False),
        ({"a": None}, False),
        ({"a": 1, "b": "x"}, False),
    ],
)
def test_of_parameters_that_exclude_each_other_one_is_given(value, good):
    record = make_dataclass(
        "Either", [("a", Any, parameter(Integer(), default=None)), ("b", Any, parameter(Text(), default=None))]
    )
    shape = Shape(record, (("a", "b"),))

    assert jsonschema.Draft202012Validator(shape.schema()).is_valid(value) is good
    assert accepts(Record(record, (("a", "b"),)), value) is good


def test_variants_are_told_by_their_type():
    types = {
        name: make_dataclass(name, [("type", str, parameter(Text())), ("size", int, parameter(kind))])
        for name, kind in {"small": Integer(high=3), "large": Integer(low=3)}.items()
    }
    validator = jsonschema.Draft202012Validator(ByType(types, object).schema())

    assert validator.is_valid({"type": "small", "size": 1})
    assert validator.is_valid({"type": "large", "size": 9})
    assert not validator.is_valid({"type": "large", "size": 1})
    assert not validator.is_valid({"type": "huge", "size": 9})


def test_a_pattern_with_flags_cannot_be_told():
    with pytest.raises(ValueError, match="has flags"):
        Text(pattern=re.compile("a", re.IGNORECASE)).schema()


# -- patterns --------------------------------------------------------------------------------------------------------


def patterns(value):
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from patterns(item)


@pytest.fixture(scope="module")
def javascript():
    return quickjs.Context()


def test_patterns_mean_in_javascript_what_they_mean_here(served, javascript):
    found = sorted(set(patterns(served)))
    assert len(found) > 10

    def agree(pattern, text):
        javascript.set("pattern", pattern)
        javascript.set("text", text)
        there = javascript.eval("new RegExp(pattern, 'u').test(text)")
        # A dollar of Python's would pass over a last newline.
        assert there == bool(re.search(re.sub(r"\$$", r"\\Z", pattern), text)), (pattern, text)

    @settings(max_examples=20 * len(found))
    @example((found[0], ""))
    @given(st.sampled_from(found).flatmap(lambda p: st.tuples(st.just(p), st.from_regex(p) | st.text(max_size=5))))
    def compare(pair):
        pattern, text = pair
        if "\0" not in text:  # which ends a text on its way into this engine
            agree(pattern, text)

    for pattern in found:
        agree(pattern, "")
    compare()


def test_what_dialling_asks_beyond_its_record():
    """Rules that stand in the document by hand: as in the code."""
    said = openapi._DIAL_PARAMETERS

    assert said["from"]["pattern"] == said["caller_id"]["pattern"] == f"^{calls._CALLER.pattern}$"
    assert all(calls.CODECS.fullmatch(codec) for codec in openapi._CODECS)
    assert said["custom_variables"]["propertyNames"]["pattern"] == f"^{calls._VARIABLE.pattern}$"
    assert said["custom_variables"]["maxProperties"] == calls.MOST_VARIABLES
    assert all(f"`{prefix}`" in said["custom_variables"]["description"] for prefix in calls._RESERVED)
    assert said.keys() <= SHAPES["dial"].fields.keys()
    assert openapi._RULES.keys() <= set(COMMANDS.names)


# -- what it says is what the code does: answers ---------------------------------------------------------------------


def test_the_call_leg(tmp_path, served):
    leg = call_leg(make_call(tmp_path))

    component(served, "CallLeg").validate(leg)
    assert list(served["components"]["schemas"]["CallLeg"]["properties"]) == list(leg)


def test_the_log_of_a_call(served):
    texts = dict.fromkeys(CallRow.__annotations__, "")
    row = CallRow(**{**texts, "created_at": 0.0, "answered_at": None, "ended_at": None, "state": "created"})
    entry = log_entry(row)

    component(served, "CallLog").validate({**entry, "direction": "inbound"})
    assert list(served["components"]["schemas"]["CallLog"]["properties"]) == list(entry)


@pytest.mark.parametrize("status", openapi._REFUSALS)
def test_refusals(served, status):
    name, _, code = openapi._REFUSALS[status]
    answer = served["components"]["responses"][name]["content"]["application/json"]
    validator = schema_of(served, answer["schema"])

    validator.validate(answer["example"])
    validator.validate(error_body(status, code, "words", attribute="params.url"))
    assert not validator.is_valid({"error": "words"})
    if "error" in answer["example"]:
        assert not validator.is_valid({"errors": answer["example"]["errors"]})


@pytest.mark.parametrize("name", openapi._EXAMPLES)
def test_examples_are_good_ones(served, name):
    schema = SHAPES[name]
    component(served, name).validate(openapi._EXAMPLES[name])

    read(schema, {"control_id": "c", **openapi._EXAMPLES[name]["params"]}, strict="control_id" in schema.fields)


def test_no_command_is_without_words(served):
    for name in NAMES:
        text = served["components"]["schemas"][name]["description"]
        assert text[0].isupper(), name
        assert text.endswith("."), name


def test_it_is_a_reasonable_size(served):
    assert len(json.dumps(served)) < 200_000
