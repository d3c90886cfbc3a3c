"""calling.send_digits, which is ours: as the method (swml-calling 3.26), beside whatever goes on."""

import pytest
import structlog

from fsctl.freeswitch.commands import Api
from tests.fakes.call import make_call
from tests.methods.commanding import ask, refusal


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def test_they_are_sent(call):
    assert ask(call, "calling.send_digits", digits="1W2#") == {}

    assert [Api("uuid_send_dtmf", f"{call.leg.uuid} 1W2#")] == call.leg.apis("uuid_send_dtmf")
    assert call.vars == {}


def test_the_answer_does_not_wait_for_them(call):
    later = []
    call.leg.background = later.append

    ask(call, "calling.send_digits", digits="1" * 150)

    assert call.leg.sent == []
    later[0]()
    assert [len(api.argument.split(" ")[1]) for api in call.leg.apis("uuid_send_dtmf")] == [99, 51]


def test_a_refusal_is_logged(call):
    call.leg.when("uuid_send_dtmf", reply="-ERR Operation failed")

    with structlog.testing.capture_logs() as lines:
        ask(call, "calling.send_digits", digits="1")

    assert [line["event"] for line in lines] == ["digits_not_sent"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "missing_required_parameter"),
        ({"digits": ""}, "invalid_parameter"),
        ({"digits": "12x"}, "invalid_parameter"),
        ({"digits": "1\n2"}, "invalid_parameter"),
        ({"digits": 12}, "not_a_string"),
    ],
    ids=str,
)
def test_refused(call, params, code):
    assert refusal(call, "calling.send_digits", **params) == (422, code, "digits")


def test_only_an_answered_call(tmp_path):
    call = make_call(tmp_path, answered=False)

    assert refusal(call, "calling.send_digits", digits="1") == (422, "invalid_state", None)
