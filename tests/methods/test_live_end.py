"""calling.end, laid out by its reference page (calling-api 3.3)."""

import pytest

from fsctl.freeswitch.causes import END_REASONS, end_reason
from fsctl.webhooks.payloads import END_REASONS as SPELLINGS
from tests.fakes.call import make_call
from tests.methods.commanding import ask, defaults, refusal

CAUSES = {
    "hangup": "NORMAL_CLEARING",
    "cancel": "ORIGINATOR_CANCEL",
    "busy": "USER_BUSY",
    "noAnswer": "NO_ANSWER",
    "decline": "CALL_REJECTED",
    "error": "NORMAL_TEMPORARY_FAILURE",
}


@pytest.mark.parametrize(("reason", "cause"), CAUSES.items(), ids=CAUSES)
def test_the_reason_is_a_hangup_cause(tmp_path, reason, cause):
    call = make_call(tmp_path)

    assert ask(call, "calling.end", reason=reason) == {"status": "ending"}

    assert cause == call.leg.cause


@pytest.mark.parametrize("answered", [True, False])
def test_the_world_hears_of_it_at_once_where_it_cannot_be_answered_any_more(tmp_path, answered):
    call = make_call(tmp_path, answered=answered)

    ask(call, "calling.end")

    assert [event.state for event in call.told] == ["created", *(["answered", "ending"] if answered else [])]


@pytest.mark.parametrize("direction", ["inbound", "outbound"])
@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize(("reason", "cause"), CAUSES.items(), ids=CAUSES)
def test_it_is_the_reason_the_world_hears(reason, cause, answered, direction):
    disposition = "send_bye" if answered else "send_refuse" if direction == "inbound" else "send_cancel"

    told = end_reason(cause, direction=direction, answered=answered, disposition=disposition)

    assert told in END_REASONS
    assert reason == SPELLINGS["rest"][told]


@pytest.mark.parametrize("disposition", ["recv_cancel", ""])
def test_a_caller_that_gives_up_has_still_abandoned_the_call(disposition):
    told = end_reason("ORIGINATOR_CANCEL", direction="inbound", answered=False, disposition=disposition)

    assert told == "abandoned"


def test_default():
    assert defaults("calling.end").reason == "hangup"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("no_answer", "invalid_parameter"),
        ("", "invalid_parameter"),
        ("Hangup", "invalid_parameter"),
        (5, "not_a_string"),
    ],
)
def test_other_reasons(tmp_path, reason, code):
    assert refusal(make_call(tmp_path), "calling.end", reason=reason) == (422, code, "reason")


@pytest.mark.parametrize("state", ["queued", "initiated", "created", "ringing", "answered", "ending"])
def test_in_every_state_but_the_last(tmp_path, state):
    call = make_call(tmp_path)
    call.state = state

    ask(call, "calling.end")

    assert call.leg.gone


def test_not_after_the_end(tmp_path):
    call = make_call(tmp_path)
    call.state = "ended"

    assert refusal(call, "calling.end") == (422, "invalid_state", None)


def test_the_state_changes_when_it_has_happened_and_not_before(tmp_path):
    """Between the two the call may be answered, or its script may find out by itself."""
    call = make_call(tmp_path, answered=False)

    ask(call, "calling.end")
    call.to("answered")

    assert call.state == "answered"


def test_twice_hangs_up_once(tmp_path):
    call = make_call(tmp_path)

    ask(call, "calling.end")
    ask(call, "calling.end", reason="busy")

    assert [api.argument for api in call.leg.apis("uuid_kill")] == ["NORMAL_CLEARING"]
