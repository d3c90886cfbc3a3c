"""user_event, laid out by its reference page (swml-calling 3.31)."""

import json

import pytest

from fsctl.call.events import UserEvent
from fsctl.errors import ScriptError
from fsctl.methods.user_event import user_event
from tests.fakes.call import CALL_ID, make_call
from tests.methods.running import make, run

EVENT = {"kind": "order", "items": [1, {"a": None}], "text": "newline\n${x}"}


def test_it_reaches_observers_and_freeswitch(tmp_path):
    call = make_call(tmp_path)

    run(call, user_event, event=EVENT)

    assert [event.event for event in call.told if isinstance(event, UserEvent)] == [EVENT]
    (command,) = call.leg.sent
    assert command.line == "sendevent CUSTOM"
    assert dict(command.headers) == {
        "Event-Subclass": "fsctl::user_event",
        "Call-ID": CALL_ID,
        "content-type": "application/json",
    }
    assert json.loads(command.body) == EVENT


@pytest.mark.parametrize("event", ["text", [1], 7])
def test_only_objects(event):
    with pytest.raises(ScriptError, match="event"):
        make(user_event, event=event)


def test_it_sets_no_variable(tmp_path):
    call = make_call(tmp_path)

    run(call, user_event, event={})

    assert call.vars == {}
