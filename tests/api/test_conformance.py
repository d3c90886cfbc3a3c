"""The REST API against its own OpenAPI document, and that document against the published one.

schemathesis makes requests out of the document, good ones and bad ones, and looks at the answers: the edges of every
schema first, then at random. Every request finds an answered call under whatever id it names, and what it acts on
running, so that commands get as far as their functions.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from urllib.parse import urlsplit

import jsonschema
import pytest
import requests
import schemathesis
import yaml
from prometheus_client import CollectorRegistry
from schemathesis.engine import from_schema
from schemathesis.specs.openapi import checks

from fsctl import log as logs
from fsctl.api import openapi
from fsctl.api.access import Access
from fsctl.api.app import make_app
from fsctl.api.body import read_body
from fsctl.api.calls import CallCommands
from fsctl.api.idempotency import Idempotency
from fsctl.api.logs import voice_logs
from fsctl.api.recordings import recording_resources
from fsctl.api.server import HttpServer
from fsctl.api.streams import stream_resources
from fsctl.call.calls import Calls
from fsctl.call.events import CallStateChanged
from fsctl.call.live import MISSING
from fsctl.call.states import CONTROLS
from fsctl.config import load
from fsctl.errors import ApiError
from fsctl.freeswitch import facts
from fsctl.freeswitch.speech import Recogniser
from fsctl.logs.store import CallLog
from fsctl.media.recordings import Recordings
from fsctl.methods import COMMANDS, METHODS
from fsctl.metrics import Metrics
from fsctl.streams.hub import Hub
from fsctl.swml.check import compile_document
from tests.fakes.call import CALL_ID, info, make_call

PROJECT = "00000000-0000-4000-8000-000000000001"
TOKEN = "a-token-that-opens-everything"
PUBLIC = "https://calls.example"
NAMES = ("dial", "update", *COMMANDS.names)
RECORDING = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"
SPEC = Path(__file__).parents[3] / "shared/spec/data/calling-api.openapi.yaml"

SETTINGS = {
    "seed": 1,
    "workers": 1,
    "continue-on-failure": True,
    "suppress-health-check": ["all"],  # a busy machine is no fault of the document
    "parameters": {"path.account_sid": PROJECT, "path.call_sid": CALL_ID},
    "auth": {"basic": {"username": PROJECT, "password": TOKEN}},
    "generation": {"max-examples": 15, "deterministic": True, "database": "none"},
    "phases": {"stateful": {"enabled": False}},
}


# -- the service -----------------------------------------------------------------------------------------------------


class Everyone(Calls):
    """Whoever is asked for is there."""

    call = None

    def get(self, call_id):
        return self.call


class Service:
    """A server on loopback with everything real but the calls."""

    def __init__(self, folder):
        self.folder = folder
        self.healthy = True
        path = folder / "fsctl.yaml"
        token = {"name": "all", "token": TOKEN, "scopes": ["read", "control", "dial"]}
        path.write_text(yaml.safe_dump({"api": {"tokens": [token], "burst": 100_000}}))
        config = load(path, {})
        self.streams = config.streams
        self.recordings = Recordings(folder / "recordings", PUBLIC, min_free_bytes=0)
        self.recordings.directory.mkdir()
        self.log = CallLog(folder / "calls.db", retention_days=3650, max_calls=100, max_pending=1000)
        self.log.start()
        self.hub = Hub(lambda *_arguments, **_options: None)
        self.hub.start()
        self.calls = Everyone()
        self.answers = Counter()
        self.document = compile_document(json.dumps({"sections": {"main": ["answer"]}}), METHODS)
        resources = {
            **voice_logs(self.log, PUBLIC),
            **recording_resources(self.recordings, being_written=set),
            **stream_resources(self.calls),
            "/api/calling/calls": CallCommands(
                self.calls,
                COMMANDS,
                SimpleNamespace(dial=lambda _order: self.calls.call),
                compile_document=lambda _text: self.document,  # what a document must be is told elsewhere
                admit=lambda _url: None,
            ),
        }
        resources["/openapi.json"] = openapi.OpenApi(
            lambda: openapi.document(resources, COMMANDS, public_url=PUBLIC, strict=False)
        )
        app = make_app(
            metrics=Metrics(CollectorRegistry(), live=dict),
            health=lambda: {"event_socket": (self.healthy, "accepting calls")},
            recordings=self.recordings.directory,
            resources=resources,
            middleware=[
                Access(PROJECT, config.api),
                Idempotency(seconds=0, entries=10),  # so that a key made up twice is no hindrance
                self,
            ],
        )
        self._server = HttpServer(("127.0.0.1", 0), app)
        self._server.start()
        self.url = "http://{}:{}".format(*self._server.address)

    def close(self):
        self._server.stop(timeout=1)
        self.hub.stop()
        self.log.close()

    # -- falcon's middleware --

    def process_resource(self, req, _resp, _resource, params):
        """A fresh call for each command, with what the command acts on."""
        if req.method != "POST":
            return
        self.calls.call = call = self.new_call()
        if "sid" in params:
            run(call, "stream", params["sid"])
        req.context.command = ""
        with suppress(ValueError, TypeError, KeyError, AttributeError, ApiError):
            body = json.loads(read_body(req))
            if body["command"] in NAMES:
                req.context.command = body["command"]
                command = COMMANDS.get(body["command"])
                if command is not None and command.on is not None:
                    run(call, command.on, body["params"]["control_id"])

    def process_response(self, req, resp, _resource, _succeeded):
        if (name := req.context.get("command")) is not None:
            self.answers[name, int(str(resp.status)[:3])] += 1

    def new_call(self):
        call = make_call(self.folder, streams=self.streams, hub=self.hub)
        object.__setattr__(call.services, "recogniser", Recogniser("vosk", "default"))
        call.script = SimpleNamespace(compile=lambda _text: self.document, redirect=lambda *_, **__: None)
        call.leg.background = lambda _what: None  # what goes on beside the call is other tests'
        call.leg.when("uuid_audio_stream", reply="-ERR no such module")
        call.leg.when("uuid_record", then=lambda argument: self.record(call, argument))
        return call

    def record(self, call, argument):
        _, verb, rest = argument.split(" ", 2)
        path = rest.split(" ")[0]
        if verb == "start":
            Path(path).touch()
        elif verb == "stop":
            call.leg.at(0.02, facts.RecordStopped(path, "success-maxtime", 1000))

    # -- things to ask for --

    def add_call(self):
        call = info()
        for state in ("created", "answered"):
            self.log(CallStateChanged(call, state, call.created_at, start_time=call.created_at))
        self.log(CallStateChanged(call, "ended", call.created_at + 2, start_time=call.created_at, end_reason="hangup"))

    def add_recording(self):
        (self.recordings.directory / f"{RECORDING}.wav").write_bytes(b"RIFF and so on")


def run(call, kind, control_id):
    """Something of that kind that does whatever it is asked."""
    control = call.control(kind, control_id, method=f"calling.{kind}")
    control.to(min(CONTROLS[kind][""] - {"finished", "error"}, default="finished"))
    control.stop = lambda: None
    control.verbs = dict.fromkeys(("pause", "resume", "volume", "start_input_timers"), lambda *_: None)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Service(tmp_path_factory.mktemp("service"))
    yield service
    service.close()


CONFORMANCE = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def schema_of(service):
    config = schemathesis.Config.from_dict(SETTINGS)
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json", config=config)
    schema.config.update(base_url=service.url)
    return schema


# -- what schemathesis finds -----------------------------------------------------------------------------------------


class Finding(NamedTuple):
    check: str
    subject: str  # a command, or method and path
    status: int
    code: str
    message: str
    request: str

    @property
    def why(self):
        """What schemathesis says of the value that it made wrong, in one line."""
        return self.message.rpartition("Invalid component: ")[2].partition("\n")[0]


class Run(NamedTuple):
    findings: list[Finding]
    problems: list[str]  # with running itself
    asked: set[tuple[str, str]]  # operations

    def of(self, *checks):
        return [finding for finding in self.findings if finding.check in checks]

    def beside(self, *checks):
        return [finding for finding in self.findings if finding.check not in checks]


@pytest.fixture(scope="module")
def found(service):
    """What came of all requests; they are made once."""
    service.add_call()
    service.add_recording()
    logs.setup("error", "text")
    made = Run([], [], set())
    for event in from_schema(schema_of(service)).execute():
        kind = type(event).__name__
        if kind in ("NonFatalError", "FatalError"):
            made.problems.append(str(event.info if kind == "NonFatalError" else event.exception))
        if kind == "ScenarioFinished":
            made.findings.extend(findings(event.recorder))
            made.asked.add(event.recorder.label)
    return made


def findings(recorder):
    for case, judgements in recorder.checks.items():
        for check in judgements:
            if check.status == "failure":
                interaction = recorder.interactions[case]
                yield finding(check, interaction.request, interaction.response)


def finding(check, request, response):
    subject = f"{request.method} {urlsplit(request.uri).path}"
    body = (request.body or b"").decode()
    with suppress(ValueError, TypeError, KeyError):
        command = json.loads(body)["command"]
        subject = command if command in NAMES else subject
    code = ""
    with suppress(ValueError, TypeError, KeyError):
        answer = json.loads(response.content)
        code = str(answer["code"] if "code" in answer else answer["errors"][0]["code"])
    status = response.status_code if response is not None else 0
    failure = check.failure_info.failure
    return Finding(check.name, subject, status, code, f"{failure.title}: {failure.message}", body or request.uri)


def expect_none(findings):
    lines = [
        f"{each.check}: {each.subject}: {each.status} {each.code}: {each.why or each.message}\n    {each.request[:300]}"
        for each in findings
    ]
    if lines:
        pytest.fail("\n".join([f"{len(lines)} findings, of which the first are:", *lines[:30]]), pytrace=False)


JUDGING = ("positive_data_acceptance", "negative_data_rejection")


def test_it_ran(found, service):
    assert found.problems == []
    assert sum(service.answers.values()) > 1000


def test_no_answer_is_other_than_the_document_says(found):
    """No 5xx, no status, content type, header or body that is not described, no door left open."""
    expect_none(found.beside(*JUDGING))


# What is taken though the document does not allow it, by what was made wrong and the request, and why.
LENIENT = {
    r"Value not matching the 'uri' format": "a URL may be international, which `uri` has no word for",
    r"params -> Missing required property: record|params -> record: Incorrect type": "the official client does so",
    r"created_\w+: Value not matching the 'date' format": "a filter without a value is none",
    r"(?i)(\w+): Value not matching .* in .*\1(\": \"\"|=(&|$))": "compatibility API: what is blank counts as left out",
    r"'(Parameter1\.\w+)' .* in .*\1\": null": "compatibility API: null counts as left out",
}


def test_what_is_wrong_is_refused(found):
    taken = [
        each
        for each in found.of("negative_data_rejection")
        if not any(re.search(how, f"{each.why} in {each.request}") for how in LENIENT)
    ]

    expect_none(taken)


# What is refused though the document allows it: what it cannot say.
BEYOND = {
    ("update", "cannot_cancel_in_progress"): "the call is answered",
    ("calling.transfer", "feature_not_available"): "there is no `connect` for a number yet",
    ("calling.stream", "call_update_failed"): "a codec is any word, and most are none",
    (
        "calling.tap",
        "call_update_failed",
    ): "for packets this FreeSWITCH lacks the module, and OPUS is an extra of fsctl",
    ("dial", "reserved_custom_variable_name"): "some names are ours",
    ("GET", "invalid_parameter"): "a page's token is one that was given out",
    ("GET", "missing_required_parameter"): "every page but the first needs one",
    ("POST", "10000"): "compatibility API: a parameter's value needs a name, and a form has a field once",
    ("POST", "21402"): "compatibility API: a URL that is not encrypted is for who allows it",
    ("*", "not_an_http_url"): "a URL whose port is none",
}


def test_what_is_right_is_done(found):
    refused = [
        each
        for each in found.of("positive_data_acceptance")
        if not {(subject, each.code) for subject in (each.subject, each.subject.split()[0], "*")} & BEYOND.keys()
    ]

    expect_none(refused)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_reached_its_function(found, service, name):
    assert service.answers[name, 200] > 0
    assert service.answers[name, 422] > 0


def test_every_operation_was_asked(found, service):
    there = {operation.ok().label for operation in schema_of(service).get_all_operations()}

    assert len(there) >= 12
    assert there <= found.asked


# -- answers that no made-up request finds ---------------------------------------------------------------------------

SOUND = {"name": f"{RECORDING}.wav"}
LOG = {"log_id": CALL_ID}
STREAMS = "/api/laml/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}/Streams"
ON_CALL = {"account_sid": PROJECT, "call_sid": CALL_ID}
OF_NOBODY = {"account_sid": PROJECT, "call_sid": "nobody"}
STREAM = {"Url": "wss://endpoint.example/s", "Name": "first"}


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("GET", "/api/voice/logs", {"query": {"page_size": 1}}, 200),
        ("GET", "/api/voice/logs", {"query": {"page_number": 1}}, 422),
        ("GET", "/api/voice/logs/{log_id}", {"path_parameters": LOG}, 200),
        ("GET", "/api/voice/logs/{log_id}", {"path_parameters": {"log_id": "none"}}, 404),
        ("GET", "/api/voice/logs/{log_id}/events", {"path_parameters": LOG}, 200),
        ("GET", "/recordings/{name}", {"path_parameters": SOUND}, 200),
        ("HEAD", "/recordings/{name}", {"path_parameters": SOUND}, 200),
        ("GET", "/recordings/{name}", {"path_parameters": SOUND, "headers": {"Range": "bytes=1-2"}}, 206),
        ("GET", "/recordings/{name}", {"path_parameters": SOUND, "headers": {"If-None-Match": "*"}}, 304),
        ("GET", "/recordings/{name}", {"path_parameters": SOUND, "headers": {"Range": "bytes=999-"}}, 416),
        ("HEAD", "/recordings/{name}", {"path_parameters": SOUND, "headers": {"Range": "bytes=999-"}}, 416),
        ("GET", "/api/recordings/{name}", {"path_parameters": {"name": RECORDING}}, 200),
        ("HEAD", "/api/recordings/{name}", {"path_parameters": {"name": RECORDING}}, 200),
        ("GET", "/api/recordings/{name}", {"path_parameters": SOUND}, 200),
        ("GET", "/api/recordings/{name}", {"path_parameters": SOUND, "headers": {"Range": "bytes=1-2"}}, 206),
        ("DELETE", "/api/recordings/{name}", {"path_parameters": {"name": RECORDING}}, 204),
        ("DELETE", "/api/recordings/{name}", {"path_parameters": {"name": "none"}}, 404),
        ("POST", STREAMS, {"path_parameters": ON_CALL, "body": STREAM, "media_type": openapi.JSON}, 200),
        ("POST", STREAMS, {"path_parameters": ON_CALL, "body": STREAM, "media_type": openapi.FORM}, 200),
        ("POST", STREAMS, {"path_parameters": ON_CALL, "body": {}, "media_type": openapi.JSON}, 400),
        ("POST", STREAMS, {"path_parameters": OF_NOBODY, "body": STREAM, "media_type": openapi.JSON}, 404),
        ("POST", f"{STREAMS}/{{sid}}", {"path_parameters": {**ON_CALL, "sid": "first"}}, 200),
        ("GET", "/metrics", {}, 200),
        ("GET", "/health/live", {}, 200),
        ("HEAD", "/health/live", {}, 200),
        ("GET", "/health/ready", {}, 200),
        ("GET", "/openapi.json", {}, 200),
        ("GET", "/openapi.json", {"headers": {"If-None-Match": "*"}}, 304),
    ],
)
def test_answers_are_as_described(service, method, path, given, status):
    service.add_call()
    service.add_recording()
    case = schema_of(service)[path][method].Case(**given)

    answer = case.call(auth=(PROJECT, TOKEN))

    assert answer.status_code == status
    case.validate_response(answer, checks=CONFORMANCE)


@pytest.mark.parametrize("refused", [False, True], ids=["ready", "not ready"])
def test_both_words_of_health_are_as_described(service, refused):
    service.healthy = not refused
    case = schema_of(service)["/health/ready"]["GET"].Case()

    answer = case.call()

    assert answer.status_code == (503 if refused else 200)
    case.validate_response(answer, checks=CONFORMANCE)


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"json": {"command": "calling.play", "id": CALL_ID}}, 400),
        ({"json": {}, "auth": ("nobody", "x")}, 401),
        ({"data": "a=b"}, 415),
        ({"data": "x" * (1024 * 1024 + 1)}, 413),
        ({"data": iter([b"{}"])}, 411),
        ({"json": {"command": "calling.transcribe", "id": CALL_ID, "params": {}}}, 422),
    ],
)
def test_refusals_of_commands_are_as_described(service, options, status):
    operation = schema_of(service)["/api/calling/calls"]["POST"]

    answer = requests.post(f"{service.url}/api/calling/calls", timeout=10, **{"auth": (PROJECT, TOKEN), **options})

    assert answer.status_code == status
    operation.Case().validate_response(answer, checks=CONFORMANCE)


# -- the published document ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    if not SPEC.exists():
        pytest.skip("the published schemas are not beside the repository")
    return yaml.load(SPEC.read_text(), Loader=yaml.CSafeLoader)


@pytest.fixture(scope="module")
def ours(service):
    return requests.get(f"{service.url}/openapi.json", timeout=10).json()


def resolved(doc, schema):
    while "$ref" in schema:
        target = doc
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = target
    return schema


def commands(doc):
    """The parameters of every command, as schemas, by its name."""

    def members(schema):
        schema = resolved(doc, schema)
        if not (choices := schema.get("oneOf") or schema.get("anyOf")):
            yield schema["properties"]
        for choice in choices or ():
            yield from members(choice)

    found = {}
    body = doc["paths"]["/api/calling/calls"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    for properties in members(body):
        command = resolved(doc, properties["command"])
        found.setdefault(command.get("const") or command["enum"][0], []).append(properties["params"])
    return {name: {"anyOf": params} for name, params in found.items()}


def properties(doc, schema, path="", seen=()):
    """Every property there, and below, with its schemas. What is in a document's sections is the language's."""
    schema = resolved(doc, schema)
    if any(schema is other for other in seen) or path.endswith("sections"):
        return
    seen = (*seen, schema)
    for choice in [each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, ())]:
        yield from properties(doc, choice, path, seen)
    if isinstance(schema.get("items"), dict):
        yield from properties(doc, schema["items"], f"{path}[]", seen)
    for name, below in schema.get("properties", {}).items():
        place = f"{path}.{name}".removeprefix(".")
        yield place, resolved(doc, below)
        yield from properties(doc, below, place, seen)


def names(doc, schema):
    return {place for place, _ in properties(doc, schema)}


# Parameters of the published API that ours has not, by pattern, and why.
UNKNOWN_HERE = {
    r"dial to_script(\..*)?": "it needs `connect`, and is refused by name",
    r"(dial|update) swml\.(sections|version)": "a document is described by its language",
    r"calling\.transfer dest\.(sections|version)": "a document is described by its language",
}

# Fields of the published answers that ours has not, and why.
UNANSWERED = {"discarded_at": "of logs that were deleted nothing is kept"}


def test_every_published_command_is_here_or_known_to_be_missing(published):
    assert set(commands(published)) == (set(NAMES) | set(MISSING)) - {"calling.send_digits"}, "which is ours alone"


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"calling.send_digits"}))
def test_every_published_parameter_is_known_here(published, ours, name):
    theirs = names(published, commands(published)[name])
    unknown = theirs - names(ours, commands(ours)[name])

    assert {
        each for each in unknown if not any(re.fullmatch(known, f"{name} {each}") for known in UNKNOWN_HERE)
    } == set()


@pytest.mark.parametrize("known", UNKNOWN_HERE)
def test_what_is_said_to_be_unknown_still_is(published, ours, known):
    assert any(
        re.fullmatch(known, f"{name} {each}")
        for name, params in commands(published).items()
        if name in NAMES
        for each in names(published, params) - names(ours, commands(ours)[name])
    )


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"calling.send_digits"}))
def test_published_words_are_taken_and_defaults_are_the_same(published, ours, name):
    mine = {}
    for place, schema in properties(ours, commands(ours)[name]):
        mine.setdefault(place, []).append(schema)
    for place, schema in properties(published, commands(published)[name]):
        if place in mine:
            validators = [jsonschema.Draft202012Validator(each) for each in mine[place]]
            for value in values(published, schema):
                assert any(each.is_valid(value) or each.is_valid([value]) for each in validators), (place, value)
            defaults = [each["default"] for each in mine[place] if "default" in each]
            assert schema.get("default") in (None, *defaults), place


def values(doc, schema):
    """The words that a parameter allows, itself or in a list."""
    schema = resolved(doc, schema)
    found = {each for each in (*schema.get("enum", ()), schema.get("const")) if each is not None}
    for choice in [each for word in ("allOf", "anyOf", "oneOf") for each in schema.get(word, ())]:
        found |= values(doc, choice)
    return found | (values(doc, schema["items"]) if isinstance(schema.get("items"), dict) else set())


def answered(doc, method, path):
    (path,) = [each for each in doc["paths"] if re.sub(r"\{\w+\}", "{}", each) == path]
    return doc["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize(
    ("method", "path", "extra"),
    [
        ("post", "/api/calling/calls", {"control_id"}),
        ("get", "/api/voice/logs", set()),
        ("get", "/api/voice/logs/{}", set()),
        ("get", "/api/voice/logs/{}/events", set()),
    ],
)
def test_the_fields_of_answers_are_the_published_ones(published, ours, method, path, extra):
    """``control_id`` is ours: clients read it though the published schema has none."""
    theirs = names(published, answered(published, method, path))
    theirs = {each for each in theirs if each.rpartition(".")[2] not in UNANSWERED}

    assert names(ours, answered(ours, method, path)) == theirs | extra
