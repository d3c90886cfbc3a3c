"""record_call and stop_record_call, laid out by their reference pages (swml-calling 3.6, 3.7)."""

import pytest

from fsctl.errors import ScriptError
from fsctl.freeswitch import facts
from fsctl.methods.record_call import record_call, stop_record_call
from tests.fakes.call import changes, make_call, states
from tests.methods.running import make, run
from tests.methods.test_record import Recorder


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


class TestDefaults:
    """Only what differs from record."""

    def test_both_directions_no_timeouts_no_terminators(self, call):
        recorder = Recorder(call)

        run(call, record_call)
        call.leg.happen(facts.Digit("#"))

        assert recorder.variables == {"RECORD_PRE_BUFFER_FRAMES": "0", "RECORD_USE_THREAD": "false"}
        assert [verb for verb, _ in recorder.commands] == ["start"]

    def test_the_script_goes_on_at_once(self, call):
        Recorder(call)
        start = call.clock.now()

        run(call, record_call)

        assert start == call.clock.now()
        assert states(call, "record") == ["recording"]

    def test_the_variables_are_known_from_the_start(self, call):
        Recorder(call)

        run(call, record_call)

        assert call.vars["record_call_result"] == "success"
        assert call.vars["record_call_url"].startswith("https://fsctl.example/recordings/")
        (control,) = call.controls.running("record")
        assert control.id == call.vars["record_control_id"]


class TestControlId:
    def test_given(self, call):
        Recorder(call)

        run(call, record_call, control_id="rec-1")

        assert call.vars["record_control_id"] == "rec-1"
        assert {"rec-1"} == {event.control_id for event in changes(call, "record")}

    def test_taken(self, call):
        Recorder(call)
        run(call, record_call, control_id="rec-1")

        run(call, record_call, control_id="rec-1")

        assert call.vars["record_call_result"] == "failed"
        assert "already recording" in str(call.failure)
        assert states(call, "record") == ["recording"]

    def test_free_again_after_its_end(self, call):
        Recorder(call)
        run(call, record_call, control_id="rec-1")
        run(call, stop_record_call)
        Recorder(call)

        run(call, record_call, control_id="rec-1")

        assert call.vars["record_call_result"] == "success"

    def test_empty_is_refused(self):
        with pytest.raises(ScriptError, match="control_id"):
            make(record_call, control_id="")


class TestSharedParameters:
    """They mean what they mean for record."""

    def test_all_reach_freeswitch(self, call):
        recorder = Recorder(call)

        run(
            call,
            record_call,
            stereo=True,
            direction="listen",
            input_sensitivity=72,
            initial_timeout=2,
            end_silence_timeout=3,
            format="mp3",
        )

        assert recorder.variables == {
            "RECORD_PRE_BUFFER_FRAMES": "0",
            "RECORD_USE_THREAD": "false",
            "RECORD_STEREO": "true",
            "RECORD_WRITE_ONLY": "true",
            "RECORD_INITIAL_TIMEOUT_MS": "2000",
            "RECORD_FINAL_TIMEOUT_MS": "3000",
            "RECORD_SILENCE_THRESHOLD": "100",
        }
        assert recorder.path.endswith(".mp3")

    def test_terminators_stop_it_in_the_background(self, call):
        Recorder(call)

        run(call, record_call, terminators="*")
        call.leg.happen(facts.Digit("*"))
        call.clock.sleep(0.1)

        assert states(call, "record") == ["recording", "finished"]

    def test_max_length_stops_it_in_the_background(self, call):
        Recorder(call)

        run(call, record_call, max_length=5)
        call.clock.sleep(5.1)

        assert states(call, "record") == ["recording", "finished"]

    def test_beep_comes_first(self, call):
        Recorder(call)

        run(call, record_call, beep=True)

        assert [application.name for application in call.leg.applications()] == ["playback"]

    def test_both_is_allowed_here(self):
        make(record_call, direction="both")


class TestStop:
    def test_without_id_the_last_one(self, call):
        Recorder(call)
        run(call, record_call, status_url="https://hooks.example/r")

        run(call, stop_record_call)

        assert call.vars["stop_record_call_result"] == "success"
        assert states(call, "record") == ["recording", "finished"]
        assert call.controls.running("record") == []

    def test_the_file_is_complete_when_it_returns(self, call):
        recorder = Recorder(call)
        run(call, record_call)

        run(call, stop_record_call)

        assert recorder.over

    def test_the_named_one_of_two(self, call):
        first = Recorder(call)
        run(call, record_call, control_id="a")
        second = Recorder(call)
        run(call, record_call, control_id="b")
        call.leg.when(
            "uuid_record", then=lambda text: first.command(text) if first.path in text else second.command(text)
        )

        run(call, stop_record_call, control_id="a")

        assert (first.over, second.over) == (True, False)
        assert [control.id for control in call.controls.running("record")] == ["b"]

    @pytest.mark.parametrize("params", [{}, {"control_id": "nobody"}])
    def test_nothing_to_stop_is_a_failed_result(self, call, params):
        run(call, stop_record_call, **params)

        assert call.vars["stop_record_call_result"] == "failed"

    def test_twice_is_a_failed_result(self, call):
        Recorder(call)
        run(call, record_call)
        run(call, stop_record_call)

        run(call, stop_record_call)

        assert call.vars["stop_record_call_result"] == "failed"
        assert states(call, "record") == ["recording", "finished"]

    def test_a_refusal_is_a_failed_result(self, call):
        Recorder(call)
        run(call, record_call)
        call.leg.when("uuid_record", reply="-ERR Cannot stop record session!")

        run(call, stop_record_call)

        assert call.vars["stop_record_call_result"] == "failed"
