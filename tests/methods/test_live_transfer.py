"""calling.transfer, laid out by its reference page (calling-api 3.4)."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsctl.errors import ApiError, FetchError, LegGone
from fsctl.methods import METHODS
from fsctl.swml.check import compile_inline
from fsctl.swml.document import Document
from tests.fakes.call import make_call
from tests.methods.commanding import ask, refusal

DOCUMENT = {"version": "1.0.0", "sections": {"main": [{"play": "silence:1"}, {"hangup": {}}]}}


class Script:
    """The document that runs; remembers where it was sent."""

    def __init__(self):
        self.sent = []

    def compile(self, text):
        return compile_inline(text if isinstance(text, str) else json.dumps(text), METHODS)

    def redirect(self, dest, *, method="POST", fallback=""):
        self.sent.append((dest, method, fallback))


@pytest.fixture
def call(tmp_path):
    call = make_call(tmp_path)
    call.script = Script()
    return call


@pytest.mark.parametrize("url", ["https://app.example/swml?x=1", "http://app.example/", "HTTPS://app.example/"])
def test_a_url_is_fetched_by_the_one_who_runs_the_document(call, url):
    assert ask(call, "calling.transfer", dest=url) == {}

    assert [(url, "POST", "")] == call.script.sent


@pytest.mark.parametrize(
    "dest",
    [
        pytest.param(DOCUMENT, id="object"),
        pytest.param(json.dumps(DOCUMENT), id="JSON"),
        pytest.param("version: 1.0.0\nsections:\n  main:\n    - play: silence:1\n    - hangup: {}\n", id="YAML"),
        pytest.param("sections: {main: [play: 'silence:1', hangup: {}]}", id="YAML-in-one-line"),
        pytest.param('[{"play": "silence:1"}, {"hangup": {}}]', id="steps"),
    ],
)
def test_an_inline_document_is_checked_first(call, dest):
    ask(call, "calling.transfer", dest=dest)

    ((document, _, _),) = call.script.sent
    assert isinstance(document, Document)
    assert [step.method.name for step in document.main] == ["play", "hangup"]


def test_its_placeholders_wait_for_the_call(call):
    ask(call, "calling.transfer", dest={"sections": {"main": [{"play": "${sound}"}]}})

    assert len(call.script.sent) == 1


@pytest.mark.parametrize(
    ("dest", "code"),
    [
        pytest.param("sip:alice@pbx.example", "feature_not_available", id="sip"),
        pytest.param("SIPS:alice@pbx.example;transport=tls", "feature_not_available", id="sips"),
        pytest.param("alice@pbx.example", "feature_not_available", id="address"),
        pytest.param("+15550001111", "feature_not_available", id="E.164"),
        pytest.param("1000", "feature_not_available", id="extension"),
        pytest.param("(555) nothing", "not_json_or_yaml", id="words"),
        pytest.param("main", "not_json_or_yaml", id="a-section"),
        pytest.param("menu.yaml", "not_json_or_yaml", id="a-file"),
        pytest.param("/etc/passwd", "not_json_or_yaml", id="a-path"),
        pytest.param('{"sections": ', "not_json_or_yaml", id="broken"),
        pytest.param("{a: [", "not_json_or_yaml", id="broken-YAML"),
        pytest.param({"type": "phone", "params": {"to_number": "+15550001111"}}, "feature_not_available", id="device"),
        pytest.param({"type": ["phone"]}, "invalid_parameter", id="no-device"),
        pytest.param({"sections": {}}, "invalid_parameter", id="no-main"),
        pytest.param({"sections": {"main": [{"dance": {}}]}}, "invalid_parameter", id="unknown-method"),
        pytest.param({"sections": {"main": [{"play": {"url": 5}}]}}, "invalid_parameter", id="wrong-parameter"),
        pytest.param({}, "invalid_parameter", id="empty-object"),
        pytest.param("", "invalid_parameter", id="empty"),
        pytest.param(15550001111, "invalid_parameter", id="number"),
        pytest.param(["https://app.example/"], "invalid_parameter", id="list"),
        pytest.param(None, "missing_required_parameter", id="missing"),
    ],
)
def test_refused(call, dest, code):
    assert refusal(call, "calling.transfer", dest=dest) == (422, code, "dest")
    assert call.script.sent == []


def test_what_is_wrong_with_the_document_is_said(call):
    with pytest.raises(ApiError, match=r"dance.*main\[0\]"):
        ask(call, "calling.transfer", dest={"sections": {"main": [{"dance": {}}]}})


@pytest.mark.parametrize(("reason", "code"), [("address", "url_is_unsafe"), ("malformed", "url_failed_to_parse")])
def test_a_url_that_may_not_be_asked(call, reason, code):
    call.services.web.refuses = FetchError("http://10.0.0.1/", reason, "no")

    assert refusal(call, "calling.transfer", dest="http://10.0.0.1/") == (422, code, "dest")


def test_a_url_that_cannot_be_reached_now_is_left_to_the_fetch(call):
    call.services.web.refuses = FetchError("http://app.example/", "dns", "no")

    ask(call, "calling.transfer", dest="http://app.example/")

    assert len(call.script.sent) == 1


def test_there_is_nothing_to_leave_when_the_document_is_over(call):
    call.script = None

    assert refusal(call, "calling.transfer", dest=DOCUMENT) == (422, "invalid_state", None)


def test_a_call_that_ends_meanwhile(call):
    def redirect(_):
        raise LegGone

    call.script.redirect = redirect

    with pytest.raises(ApiError) as refused:
        ask(call, "calling.transfer", dest=DOCUMENT)
    assert refused.value.code == "invalid_state"


def test_only_an_answered_call(tmp_path):
    call = make_call(tmp_path, answered=False)

    assert refusal(call, "calling.transfer", dest=DOCUMENT) == (422, "invalid_state", None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(dest=st.text() | st.dictionaries(st.text(), st.none() | st.text() | st.lists(st.text(), max_size=2), max_size=3))
def test_whatever_is_sent_is_taken_or_refused(call, dest):
    outcome = (422, "dest")
    try:
        ask(call, "calling.transfer", dest=dest)
    except ApiError as refused:
        outcome = (refused.status, refused.attribute)

    assert outcome == (422, "dest")
