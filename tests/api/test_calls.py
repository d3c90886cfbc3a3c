"""``POST /api/calling/calls``: the envelope, `dial`, `update` and how live commands are found (calling-api 1 to 6)."""

from __future__ import annotations

import pytest
from falcon import testing
from prometheus_client import CollectorRegistry

from fsctl.api.access import Grant
from fsctl.api.app import make_app
from fsctl.api.calls import CallCommands
from fsctl.call.calls import Calls
from fsctl.call.events import Callback, Watcher
from fsctl.errors import ApiError, FetchError
from fsctl.methods import COMMANDS, METHODS
from fsctl.metrics import Metrics
from fsctl.swml.check import compile_document
from fsctl.swml.document import Document
from tests.fakes.call import CALL_ID, make_call

ANSWER = {"version": "1.0.0", "sections": {"main": [{"answer": {}}]}}
URL = "https://app.example/swml"


class Script:
    """Notes where a call is sent."""

    def __init__(self):
        self.sent = []

    def compile(self, text):
        return compile_document(text, METHODS)

    def redirect(self, dest, *, method="POST", fallback=""):
        self.sent.append((dest, method, fallback))


class FakeDialler:
    def __init__(self, call):
        self.call = call
        self.orders = []
        self.refuses = None

    def dial(self, order):
        if self.refuses:
            raise self.refuses
        self.orders.append(order)
        return self.call


class Bench:
    """An application with one live call, and what it did."""

    def __init__(self, tmp_path, *, scopes=("control", "dial"), strict=False, **changes):
        self.call = make_call(tmp_path, **changes)
        self.call.script = self.script = Script()
        self.calls = Calls()
        self.calls.add(self.call)
        self.dialler = FakeDialler(self.call)
        self.outcomes = []
        commands = CallCommands(
            self.calls,
            COMMANDS,
            self.dialler,
            compile_document=lambda text: compile_document(text, METHODS),
            admit=self.admit,
            strict=strict,
            on_command=lambda *outcome: self.outcomes.append(outcome),
        )
        self.client = testing.TestClient(
            make_app(
                metrics=Metrics(CollectorRegistry(), live=dict),
                health=dict,
                recordings=tmp_path,
                resources={"/api/calling/calls": commands},
                middleware=[self],
            )
        )
        self.scopes = frozenset(scopes)

    def admit(self, url):
        if "10.0.0." in url:
            raise FetchError(url, "address", "is at 10.0.0.1, which is not allowed here")
        if "nowhere" in url:
            raise FetchError(url, "dns", "cannot be found")

    def process_request(self, req, _resp):
        req.context.token = Grant("crm", self.scopes)

    def post(self, body, **options):
        return self.client.simulate_post("/api/calling/calls", json=body, **options)

    def command(self, name, params=None, call_id=CALL_ID):
        return self.post({"command": name, "params": params or {}, "id": call_id})

    def dial(self, **params):
        return self.post({"command": "dial", "params": {"from": "+15550001111", "to": "+15550002222", **params}})

    def update(self, **params):
        return self.post({"command": "update", "params": {"id": CALL_ID, **params}})

    def to(self, *states):
        for state in states:
            self.call.to(state)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def problem(answer):
    """Status, code and attribute of a refusal."""
    (item, *_) = answer.json["errors"]
    return answer.status_code, item["code"], item["attribute"]


# -- the envelope ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({}, (400, "bad_request", "command"), id="nothing"),
        pytest.param({"command": 5, "params": {}}, (400, "bad_request", "command"), id="command is a number"),
        pytest.param({"command": "dial"}, (400, "bad_request", "params"), id="no params"),
        pytest.param({"command": "dial", "params": []}, (422, "not_a_hash", "params"), id="params is a list"),
        pytest.param({"command": "dial", "params": None}, (422, "not_a_hash", "params"), id="params is null"),
        pytest.param(
            {"command": "calling.fly", "params": {}}, (422, "invalid_command_attempted", "command"), id="unknown"
        ),
        pytest.param(
            {"command": "calling.transcribe", "params": {}}, (422, "feature_not_available", "command"), id="not yet"
        ),
        pytest.param(
            {"command": "calling.denoise", "params": {}}, (422, "missing_required_parameter", "id"), id="no id"
        ),
        pytest.param({"command": "calling.denoise", "params": {}, "id": 7}, (422, "not_a_string", "id"), id="id is 7"),
        pytest.param({"command": "calling.denoise", "params": {}, "id": "x"}, (404, "not_found", "id"), id="no call"),
    ],
)
def test_an_envelope_that_is_wrong(bench, body, expected):
    assert problem(bench.post(body)) == expected


def test_malformed_json_is_a_bad_request(bench):
    answer = bench.client.simulate_post("/api/calling/calls", body="{", headers={"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert answer.json["error"] == "Bad Request"


def test_another_content_type(bench):
    answer = bench.client.simulate_post("/api/calling/calls", body="a=1", headers={"Content-Type": "text/plain"})

    assert answer.status_code == 415


def test_a_command_answers_with_the_call(bench):
    answer = bench.command("calling.denoise")

    assert answer.status_code == 200
    assert answer.json == {
        "id": CALL_ID,
        "from": "alice@pbx.example",
        "to": "1000@pbx.example",
        "direction": "inbound",
        "status": "answered",
        "duration": 0,
        "duration_ms": 0,
        "billing_ms": 0,
        "source": "realtime_api",
        "type": "relay_sip_call",
        "url": None,
        "parent_id": None,
        "charge": 0,
        "charge_details": [],
        "created_at": "2025-12-29T09:20:00Z",
    }
    assert bench.outcomes == [("calling.denoise", "accepted")]


def test_an_id_in_capitals_is_the_same_call(bench):
    assert bench.command("calling.denoise", call_id=CALL_ID.upper()).status_code == 200


def test_a_call_that_ended_is_told_from_one_that_never_was(bench):
    bench.to("ending", "ended")
    bench.calls.remove(bench.call)

    assert problem(bench.command("calling.denoise")) == (422, "invalid_state", "id")


def test_a_command_before_the_answer(tmp_path):
    bench = Bench(tmp_path, answered=False)

    assert problem(bench.command("calling.denoise")) == (422, "invalid_state", None)
    assert bench.call.leg.sent == []
    assert bench.outcomes == [("calling.denoise", "refused")]


def test_a_leg_that_goes_in_the_middle(bench):
    bench.call.leg.gone = True

    assert problem(bench.command("calling.denoise")) == (422, "invalid_state", None)


def test_a_refusal_of_freeswitch(bench):
    bench.call.leg.when("uuid_preprocess", reply="-ERR no such thing")

    status, code, _ = problem(bench.command("calling.denoise"))

    assert (status, code) == (422, "call_update_failed")


@pytest.mark.parametrize(
    ("scopes", "command", "status"),
    [
        (("control",), "dial", 403),
        (("dial",), "calling.denoise", 403),
        (("dial",), "update", 403),
        (("dial",), "dial", 200),
        (("control",), "calling.denoise", 200),
    ],
)
def test_scopes(tmp_path, scopes, command, status):
    bench = Bench(tmp_path, scopes=scopes)

    answer = bench.dial(url=URL) if command == "dial" else bench.command(command, {"id": CALL_ID, "url": URL})

    assert answer.status_code == status


def test_unknown_parameters_are_overlooked_unless_strict(tmp_path):
    assert Bench(tmp_path).dial(url=URL, colour="red").status_code == 200
    assert problem(Bench(tmp_path, strict=True).dial(url=URL, colour="red")) == (422, "invalid_parameter", "colour")


def test_all_that_is_wrong_is_said_at_once(bench):
    answer = bench.dial(url="ftp://x", timeout=0, url_method="PUT")

    assert {(item["code"], item["attribute"]) for item in answer.json["errors"]} == {
        ("not_an_http_url", "url"),
        ("invalid_parameter", "timeout"),
        ("invalid_parameter", "url_method"),
    }


# -- dial ------------------------------------------------------------------------------------------------------------


def test_what_is_ordered(bench):
    answer = bench.dial(
        url=URL,
        fallback_url="https://app.example/other",
        url_method="GET",
        status_url="https://app.example/status",
        status_events=["answered", "ended"],
        caller_id="+15550009999",
        codecs="PCMU, OPUS@48000H@20I",
        timeout=20,
        send_digits="1,2W",
        max_price_per_minute=0.5,
        region=["us"],
        custom_variables={"order": "17"},
    )

    assert answer.status_code == 200
    (order,) = bench.dialler.orders
    assert (order.from_, order.to, order.document, order.method) == ("+15550001111", "+15550002222", URL, "GET")
    assert order.fallback == "https://app.example/other"
    assert order.watchers == (Watcher(Callback("https://app.example/status"), frozenset({"answered", "ended"})),)
    assert (order.caller_id, order.codecs, order.ring_seconds) == ("+15550009999", "PCMU,OPUS@48000h@20i", 20)
    assert (order.send_digits, order.max_price, order.envs) == ("1w2W", 0.5, {"order": "17"})


def test_what_is_ordered_without_a_wish(bench):
    bench.dial(url=URL, status_url="https://app.example/s")

    (order,) = bench.dialler.orders
    assert order.watchers == (Watcher(Callback("https://app.example/s"), frozenset({"ended"})),)
    assert (order.method, order.fallback, order.ring_seconds, order.codecs) == ("POST", "", None, "")


@pytest.mark.parametrize("swml", [ANSWER, '{"sections": {"main": ["answer"]}}', "sections:\n  main:\n    - answer\n"])
def test_an_inline_document_is_checked_before_the_call_is_made(bench, swml):
    assert bench.dial(swml=swml).status_code == 200
    assert isinstance(bench.dialler.orders[0].document, Document)


def test_a_published_recipe_has_the_document_at_the_top(bench):
    answer = bench.post({"command": "dial", "params": {"from": "+15550001111", "to": "+15550002222"}, "swml": ANSWER})

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("params", "code", "attribute"),
    [
        ({}, "inline_swml_or_swml_webhook_required", "url"),
        ({"url": URL, "swml": ANSWER}, "incompatible_parameters", "swml"),
        ({"swml": 5}, "not_json_or_yaml", "swml"),
        ({"swml": "{"}, "not_json_or_yaml", "swml"),
        ({"swml": {"sections": {"main": [{"fly": {}}]}}}, "invalid_parameter", "swml"),
        ({"url": "nope"}, "not_an_http_url", "url"),
        ({"url": 5}, "not_an_http_url", "url"),
        ({"url": "http://10.0.0.1/"}, "url_is_unsafe", "url"),
        ({"url": URL, "fallback_url": "http://10.0.0.1/"}, "url_is_unsafe", "fallback_url"),
        ({"url": URL, "status_url": "http://10.0.0.1/"}, "url_is_unsafe", "status_url"),
        ({"url": URL, "status_events": ["sleeping"]}, "invalid_parameter", "status_events.0"),
        ({"url": URL, "status_events": "ended"}, "not_an_array_of_strings", "status_events"),
        ({"url": URL, "timeout": 601}, "invalid_parameter", "timeout"),
        ({"url": URL, "timeout": "20"}, "invalid_parameter", "timeout"),
        ({"url": URL, "to": None}, "missing_required_parameter", "to"),
        ({"url": URL, "from": None}, "missing_required_parameter", "from"),
        ({"url": URL, "from": "a b"}, "not_valid_for_caller_id", "from"),
        ({"url": URL, "from": "x',app=system"}, "not_valid_for_caller_id", "from"),
        ({"url": URL, "caller_id": "${x}"}, "not_valid_for_caller_id", "caller_id"),
        ({"url": URL, "to_script": ANSWER}, "feature_not_available", "to_script"),
        ({"url": URL, "username": "u", "password": "p"}, "incompatible_parameters", "username"),
        ({"url": URL, "to": "sip:a@b.example", "username": "u"}, "must_specify_related_parameter", "password"),
        ({"url": URL, "codecs": 5}, "invalid_codecs_format", "codecs"),
        ({"url": URL, "codecs": ["PCMU", 5]}, "invalid_codecs_format", "codecs"),
        ({"url": URL, "codecs": "PCMU,x}y"}, "invalid_codecs_format", "codecs"),
        ({"url": URL, "send_digits": "1;2"}, "invalid_parameter", "send_digits"),
        ({"url": URL, "max_price_per_minute": -1}, "invalid_parameter", "max_price_per_minute"),
        ({"url": URL, "custom_variables": [1]}, "must_be_object", "custom_variables"),
        (
            {"url": URL, "custom_variables": {f"v{n}": "x" for n in range(21)}},
            "too_many_custom_variables",
            "custom_variables",
        ),
        ({"url": URL, "custom_variables": {"1a": "x"}}, "invalid_custom_variable_name", "custom_variables.1a"),
        ({"url": URL, "custom_variables": {"SW_a": "x"}}, "reserved_custom_variable_name", "custom_variables.SW_a"),
        ({"url": URL, "custom_variables": {"a": ""}}, "invalid_custom_variable_value", "custom_variables.a"),
        ({"url": URL, "custom_variables": {"a": 1}}, "invalid_custom_variable_value", "custom_variables.a"),
        ({"url": URL, "custom_variables": {"a": "é" * 513}}, "custom_variable_value_too_long", "custom_variables.a"),
    ],
)
def test_a_dial_that_is_wrong(bench, params, code, attribute):
    assert problem(bench.dial(**params)) == (422, code, attribute)
    assert bench.dialler.orders == []


def test_a_name_that_cannot_be_resolved_now_may_be_later(bench):
    assert bench.dial(url="https://nowhere.example/").status_code == 200


def test_a_dialler_that_refuses(bench):
    bench.dialler.refuses = ApiError(503, "service_unavailable", "no FreeSWITCH", headers={"Retry-After": "5"})

    answer = bench.dial(url=URL)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# -- update ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "code", "attribute"),
    [
        ({}, "missing_required_parameter", "status"),
        ({"status": "busy"}, "invalid_parameter", "status"),
        ({"status": "completed", "url": URL}, "incompatible_parameters", "status"),
        ({"url": URL, "swml": ANSWER}, "incompatible_parameters", "swml"),
        ({"id": None, "url": URL}, "missing_required_parameter", "id"),
    ],
)
def test_an_update_that_is_wrong(bench, params, code, attribute):
    assert problem(bench.update(**params)) == (422, code, attribute)


def test_the_id_of_an_update_may_stand_at_the_top(bench):
    answer = bench.post({"command": "update", "id": CALL_ID, "params": {"url": URL}})

    assert answer.status_code == 200


@pytest.mark.parametrize("states", [(), ("ringing",)], ids=["created", "ringing"])
def test_a_call_that_rings_can_be_cancelled(tmp_path, states):
    bench = Bench(tmp_path, answered=False)
    bench.to(*states)

    answer = bench.update(status="canceled")

    assert (answer.status_code, answer.json["status"]) == (200, "canceled")
    assert [api.argument for api in bench.call.leg.apis("uuid_kill")] == ["ORIGINATOR_CANCEL"]
    assert bench.call.ended_by == "canceled"


def test_an_answered_call_cannot_be_cancelled(bench):
    assert problem(bench.update(status="canceled")) == (422, "cannot_cancel_in_progress", "status")
    assert bench.call.leg.sent == []


def test_an_answered_call_can_be_completed(bench):
    answer = bench.update(status="completed")

    assert (answer.status_code, answer.json["status"]) == (200, "completed")
    assert bench.call.told[-1].state == "ending"
    assert [api.argument for api in bench.call.leg.apis("uuid_kill")] == ["NORMAL_CLEARING"]


def test_a_ringing_call_cannot_be_completed(tmp_path):
    bench = Bench(tmp_path, answered=False)

    assert problem(bench.update(status="completed")) == (422, "invalid_state", "status")


def test_an_answered_call_can_be_redirected(bench):
    answer = bench.update(url=URL, fallback_url="https://app.example/b", status_url="https://app.example/s")

    assert answer.status_code == 200
    assert bench.script.sent == [(URL, "POST", "https://app.example/b")]
    assert [watcher.callback.url for watcher in bench.call.watchers] == ["https://app.example/s"]


def test_a_redirection_to_an_inline_document(bench):
    bench.update(swml=ANSWER)

    assert isinstance(bench.script.sent[0][0], Document)


def test_a_ringing_call_cannot_be_redirected(tmp_path):
    bench = Bench(tmp_path, answered=False)

    assert problem(bench.update(url=URL)) == (422, "cannot_redirect_not_in_progress", "id")
    assert bench.script.sent == []


def test_a_call_without_a_script_cannot_be_redirected(bench):
    bench.call.script = None

    assert problem(bench.update(url=URL)) == (422, "call_update_failed", "id")


@pytest.mark.parametrize("params", [{"status": "canceled"}, {"status": "completed"}, {"url": URL}])
def test_nothing_can_be_done_with_an_ended_call(bench, params):
    bench.to("ending", "ended")
    bench.calls.remove(bench.call)

    assert problem(bench.update(**params)) == (422, "cannot_update_completed", "id")


def test_updating_a_call_that_never_was(bench):
    assert problem(bench.update(id="nobody", url=URL)) == (404, "not_found", "id")
