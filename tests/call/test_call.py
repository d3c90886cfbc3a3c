"""A call's states, its scope and its limit."""

import pytest

from fsctl.call.calls import Calls
from fsctl.call.events import CallStateChanged, ScriptWarning
from tests.fakes.call import CALL_ID, make_call


def call_states(call):
    return [event.state for event in call.told if isinstance(event, CallStateChanged)]


def test_states_are_told_once_and_with_their_times(tmp_path):
    call = make_call(tmp_path, answered=False)
    call.clock.sleep(2)
    call.to("answered")
    call.to("answered")
    call.clock.sleep(3)
    call.to("ended", end_reason="hangup", end_source="none", cause="NORMAL_CLEARING")
    call.to("ended")

    assert call_states(call) == ["created", "answered", "ended"]
    last = call.told[-1]
    assert (last.answer_time - last.start_time, last.end_time - last.start_time) == (2.0, 5.0)
    assert (last.end_reason, last.cause) == ("hangup", "NORMAL_CLEARING")


def test_ringing_after_the_answer_is_no_step_back(tmp_path):
    call = make_call(tmp_path)
    call.to("ringing")

    assert call_states(call) == ["created", "answered"]


def test_nothing_follows_the_end(tmp_path):
    call = make_call(tmp_path)
    call.to("ended")

    with pytest.raises(ValueError, match="no way"):
        call.to("answered")


class TestScope:
    def test_common_fields(self, tmp_path):
        scope = make_call(tmp_path, answered=False).scope()

        assert scope == {
            "call_id": CALL_ID,
            "node_id": "fs1",
            "segment_id": CALL_ID,
            "call_state": "created",
            "direction": "inbound",
            "type": "sip",
            "from": "alice@pbx.example",
            "to": "1000@pbx.example",
            "headers": [],
            "project_id": "00000000-0000-4000-8000-000000000001",
            "space_id": "00000000-0000-4000-8000-000000000002",
        }

    def test_it_follows_the_state(self, tmp_path):
        call = make_call(tmp_path, answered=False)
        assert call.scope()["call_state"] == "created"
        call.to("answered")

        assert call.scope()["call_state"] == "answered"

    def test_numbers_only_for_phones(self, tmp_path):
        assert "from_number" not in make_call(tmp_path).scope()
        scope = make_call(tmp_path, type="phone", from_number="+15550100", to_number="+15550199").scope()

        assert (scope["from_number"], scope["to_number"]) == ("+15550100", "+15550199")

    def test_sip_data_only_for_sip(self, tmp_path):
        data = {"sip_req_user": "1000"}

        assert data == make_call(tmp_path, sip_data=data).scope()["sip_data"]
        assert "sip_data" not in make_call(tmp_path, type="webrtc", sip_data=data).scope()

    def test_a_tag_only_when_set(self, tmp_path):
        assert "tag" not in make_call(tmp_path).scope()
        assert make_call(tmp_path, tag="t").scope()["tag"] == "t"


def test_the_limit_is_taken_back_with_the_call(tmp_path):
    call = make_call(tmp_path)
    call.limit(10)
    call.unlimit()
    call.clock.sleep(20)

    assert not call.leg.gone


def test_a_warning_says_where(tmp_path):
    call = make_call(tmp_path)
    call.warn("relay_script_internal_error", "something", fatal=True)

    (warning,) = [event for event in call.told if isinstance(event, ScriptWarning)]
    assert (warning.code, warning.message, warning.fatal) == ("relay_script_internal_error", "something", True)


class TestCalls:
    def test_by_id(self, tmp_path):
        calls, call = Calls(), make_call(tmp_path)
        calls.add(call)

        assert call is calls.get(CALL_ID)
        assert calls.counts() == {"calls": 1}
        calls.remove(call)
        assert calls.get(CALL_ID) is None
        assert len(calls) == 0

    def test_controls_are_counted(self, tmp_path):
        calls, call = Calls(), make_call(tmp_path)
        calls.add(call)
        call.control("record", method="record").to("recording")

        assert calls.counts() == {"calls": 1, "record": 1}

    def test_an_old_call_does_not_remove_its_successor(self, tmp_path):
        calls, old, new = Calls(), make_call(tmp_path), make_call(tmp_path)
        calls.add(old)
        calls.add(new)
        calls.remove(old)

        assert new is calls.get(CALL_ID)
