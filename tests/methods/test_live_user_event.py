"""calling.user_event, laid out by its reference page (calling-api 4.12)."""

import json

import pytest

from fsctl.call.events import UserEvent
from fsctl.webhooks.payloads import payload
from tests.fakes.call import make_call
from tests.methods.commanding import ask, refusal


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


@pytest.mark.parametrize("event", [{}, {"action": "open", "deep": {"a": [1, None, "${x}"]}}], ids=str)
def test_everyone_is_told(call, event):
    assert ask(call, "calling.user_event", event=event) == {}

    (told,) = [each for each in call.told if isinstance(each, UserEvent)]
    assert event == dict(told.event)
    assert event.items() <= payload(told)["params"].items()
    (sent,) = call.leg.sent
    assert ("Event-Subclass", "fsctl::user_event") in sent.headers
    assert event == json.loads(sent.body)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "missing_required_parameter"),
        ({"event": None}, "missing_required_parameter"),
        ({"event": "open"}, "not_a_hash"),
        ({"event": [1]}, "not_a_hash"),
    ],
    ids=str,
)
def test_refused(call, params, code):
    assert refusal(call, "calling.user_event", **params) == (422, code, "event")


def test_only_an_answered_call(tmp_path):
    call = make_call(tmp_path, answered=False)

    assert refusal(call, "calling.user_event", event={}) == (422, "invalid_state", None)
