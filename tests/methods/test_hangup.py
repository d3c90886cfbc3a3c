"""hangup, laid out by its reference page (swml-calling 3.2)."""

import pytest

from fsctl.errors import ScriptError
from fsctl.methods.hangup import hangup
from fsctl.swml.flow import Stop
from tests.fakes.call import make_call
from tests.methods.running import attempt, make


@pytest.mark.parametrize(
    ("params", "cause"),
    [
        ({}, "NORMAL_CLEARING"),
        ({"reason": "hangup"}, "NORMAL_CLEARING"),
        ({"reason": "busy"}, "USER_BUSY"),
        ({"reason": "decline"}, "CALL_REJECTED"),
    ],
)
def test_the_reason_is_a_hangup_cause(tmp_path, params, cause):
    call = make_call(tmp_path, answered=False)

    assert Stop() == attempt(call, hangup, **params)
    assert cause == call.leg.cause
    assert call.state == "ending"


@pytest.mark.parametrize("reason", ["cancel", "noAnswer", "error", "", 7])
def test_other_reasons_are_refused(reason):
    with pytest.raises(ScriptError, match="reason"):
        make(hangup, reason=reason)


def test_the_null_spelling():
    assert hangup.normalised(None) == {}
