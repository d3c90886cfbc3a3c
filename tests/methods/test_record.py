"""record, laid out by its reference page (swml-calling 3.5, webhooks 3.5)."""

import wave
from types import SimpleNamespace

import pytest

from fsctl.errors import LegGone, ScriptError
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Application
from fsctl.methods.record import record
from tests.fakes.call import changes, make_call, states
from tests.methods.running import make, run

RATE = 8000


class Recorder:
    """Does with ``uuid_record`` what FreeSWITCH does: writes the file, and says so when it is complete."""

    def __init__(self, call, *, ends_after=None, cause="success-silence"):
        self.call = call
        self.commands = []
        self.started_at = None
        self.path = None
        self.over = False
        self._ends_after, self._cause = ends_after, cause
        call.leg.when("uuid_record", then=self.command)

    def command(self, argument):
        _, verb, rest = argument.split(" ", 2)
        self.commands.append((verb, rest))
        if verb == "start":
            self.path, self.started_at = rest.split(" ")[0], self.call.clock.now()
            if self._ends_after is not None:
                self.call.clock.later(self._ends_after, self.end, self._cause)
        elif verb == "stop" and not self.over:
            self.call.clock.later(0.02, self.end, "success-maxtime")

    def end(self, cause):
        if self.over:
            return
        self.over = True
        seconds = self.call.clock.now() - self.started_at
        with wave.open(self.path, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(bytes(2 * round(seconds * RATE)))
        self.call.leg.happen(facts.RecordStopped(self.path, cause, round(seconds * 1000)))

    @property
    def variables(self):
        text = self.commands[0][1].partition("{")[2].removesuffix("}")
        return dict(pair.split("=") for pair in text.split(",") if pair)


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def test_silence_ends_it(call):
    Recorder(call, ends_after=3.0)

    run(call, record)

    assert call.vars["record_result"] == "success"
    assert call.vars["record_url"].startswith("https://fsctl.example/recordings/")
    assert call.vars["record_url"].endswith(".wav")


def test_an_unanswered_call_is_answered(tmp_path):
    call = make_call(tmp_path, answered=False)
    Recorder(call, ends_after=1.0)

    run(call, record)

    assert [commands.answer(call.leg.uuid)] == call.leg.apis("uuid_answer")


class TestStereo:
    @pytest.mark.parametrize(("value", "variable"), [(True, "true"), (False, None)])
    def test_it_asks_for_two_channels(self, call, value, variable):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, stereo=value)

        assert variable == recorder.variables.get("RECORD_STEREO")


class TestFormat:
    @pytest.mark.parametrize("name", ["wav", "mp3", "mp4"])
    def test_the_file_has_its_ending(self, call, name):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, format=name)

        assert recorder.path.endswith(f".{name}")
        assert call.vars["record_url"].endswith(f".{name}")

    def test_others_are_refused(self):
        with pytest.raises(ScriptError, match="format"):
            make(record, format="ogg")

    def test_a_format_freeswitch_cannot_write_is_a_failed_result(self, call):
        call.leg.when("uuid_record", reply="-ERR Cannot record session!")

        run(call, record, format="mp3", status_url="https://hooks.example/r")

        assert call.vars["record_result"] == "failed"
        assert call.vars["record_url"] == ""
        assert states(call, "record") == ["error"]


class TestDirection:
    @pytest.mark.parametrize(
        ("direction", "set_variable"), [("speak", "RECORD_READ_ONLY"), ("listen", "RECORD_WRITE_ONLY")]
    )
    def test_one_side(self, call, direction, set_variable):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, direction=direction)

        assert {set_variable} == set(recorder.variables) & {"RECORD_READ_ONLY", "RECORD_WRITE_ONLY"}

    def test_both_is_not_for_record(self):
        with pytest.raises(ScriptError, match="direction"):
            make(record, direction="both")

    def test_nothing_is_held_back_at_the_end(self, call):
        """FreeSWITCH's alignment buffer would cost the last half second."""
        recorder = Recorder(call, ends_after=1.0)

        run(call, record)

        assert recorder.variables["RECORD_PRE_BUFFER_FRAMES"] == "0"

    def test_no_thread_is_left_behind_in_freeswitch(self, call):
        """A recording thread that starts while the party hangs up would hold the session for ever."""
        recorder = Recorder(call, ends_after=1.0)

        run(call, record)

        assert recorder.variables["RECORD_USE_THREAD"] == "false"


class TestTerminators:
    @pytest.mark.parametrize(
        ("params", "digit", "ends"),
        [
            pytest.param({}, "#", True, id="default"),
            pytest.param({}, "1", False, id="other-digit"),
            pytest.param({"terminators": "12"}, "2", True, id="one-of"),
            pytest.param({"terminators": "a"}, "A", True, id="letter"),
            pytest.param({"terminators": ""}, "#", False, id="none"),
        ],
    )
    def test_a_terminator_ends_it(self, call, params, digit, ends):
        Recorder(call, ends_after=10.0)
        call.leg.at(2.0, facts.Digit(digit))
        start = call.clock.now()

        run(call, record, **params)

        assert (2.02 if ends else 10.0) == pytest.approx(call.clock.now() - start)
        assert call.vars["record_result"] == "success"

    def test_only_digits(self):
        with pytest.raises(ScriptError, match="terminators"):
            make(record, terminators="x")


class TestBeep:
    def test_true_beeps_before(self, call):
        recorder = Recorder(call, ends_after=1.0)
        call.leg.when("playback", lasts=0.25)
        start = call.clock.now()

        run(call, record, beep=True)

        assert [Application("playback", "tone_stream://%(250,0,1000)")] == call.leg.applications()
        assert pytest.approx(recorder.started_at - start) == 0.25

    def test_default_does_not(self, call):
        Recorder(call, ends_after=1.0)

        run(call, record)

        assert call.leg.applications() == []


class TestTimeouts:
    def test_defaults(self, call):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record)

        assert recorder.variables["RECORD_INITIAL_TIMEOUT_MS"] == "4000"
        assert recorder.variables["RECORD_FINAL_TIMEOUT_MS"] == "5000"
        assert recorder.variables["RECORD_SILENCE_THRESHOLD"] == "200"

    def test_values(self, call):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, initial_timeout=1.5, end_silence_timeout=0.25)

        assert recorder.variables["RECORD_INITIAL_TIMEOUT_MS"] == "1500"
        assert recorder.variables["RECORD_FINAL_TIMEOUT_MS"] == "250"

    def test_zero_is_no_limit(self, call):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, initial_timeout=0, end_silence_timeout=0)

        assert {"RECORD_PRE_BUFFER_FRAMES", "RECORD_USE_THREAD", "RECORD_READ_ONLY"} == set(recorder.variables)

    def test_no_speech_is_no_input(self, call):
        Recorder(call, ends_after=4.0, cause="no-input-timeout")

        run(call, record, status_url="https://hooks.example/r")

        assert call.vars["record_result"] == "failed"
        assert call.vars["record_url"] == ""
        assert states(call, "record") == ["recording", "no_input"]
        last = changes(call, "record")[-1].detail
        assert "url" not in last
        assert pytest.approx(last["duration"]) == 4.0

    @pytest.mark.parametrize("name", ["initial_timeout", "end_silence_timeout", "max_length"])
    def test_negative_is_refused(self, name):
        with pytest.raises(ScriptError, match=name):
            make(record, **{name: -1})


class TestInputSensitivity:
    @pytest.mark.parametrize(("sensitivity", "threshold"), [(0, 357), (44, 200), (72, 100), (100, 1)])
    def test_more_hears_quieter_speech(self, call, sensitivity, threshold):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record, input_sensitivity=sensitivity)

        assert str(threshold) == recorder.variables["RECORD_SILENCE_THRESHOLD"]

    @pytest.mark.parametrize("value", [-1, 101])
    def test_limits(self, value):
        with pytest.raises(ScriptError, match="input_sensitivity"):
            make(record, input_sensitivity=value)


class TestMaxLength:
    def test_it_ends_exactly_then(self, call):
        recorder = Recorder(call)
        start = call.clock.now()

        run(call, record, max_length=2.5)

        assert pytest.approx(call.clock.now() - start) == 2.52
        assert call.vars["record_result"] == "success"
        # FreeSWITCH's own limit is only a net below ours.
        assert " 5 {" in recorder.commands[0][1]

    def test_default_is_unlimited(self, call):
        recorder = Recorder(call, ends_after=1.0)

        run(call, record)

        assert " 0 {" in recorder.commands[0][1]


class TestEvents:
    def test_recording_then_finished(self, call):
        Recorder(call, ends_after=3.0)

        run(call, record, status_url="https://hooks.example/r", stereo=True)

        first, last = changes(call, "record")
        assert (first.state, last.state) == ("recording", "finished")
        assert last.callback.url == "https://hooks.example/r"
        assert "url" not in first.detail
        assert call.vars["record_url"] == last.detail["url"]
        assert pytest.approx(last.detail["duration"]) == 3.0
        assert last.detail["size"] == 2 * 3 * RATE + 44
        assert pytest.approx(last.detail["end_time"] - last.detail["start_time"]) == 3.0
        assert tuple(last.detail[key] for key in ("format", "direction", "stereo")) == ("wav", "speak", True)
        assert last.detail["recording_id"] in last.detail["url"]

    @pytest.mark.parametrize("cause", ["uri-failure", "empty-file", "input-too-short"])
    def test_a_failed_recording_is_an_error(self, call, cause):
        Recorder(call, ends_after=1.0, cause=cause)

        run(call, record)

        assert states(call, "record") == ["recording", "error"]
        assert call.vars["record_result"] == "failed"

    def test_another_recordings_end_is_not_ours(self, call):
        Recorder(call, ends_after=5.0)
        call.leg.at(1.0, facts.RecordStopped("/somewhere/else.wav", "success-silence", 1000))
        start = call.clock.now()

        run(call, record)

        assert pytest.approx(call.clock.now() - start) == 5.0


class TestHangup:
    def test_the_file_is_reported_after_it(self, call):
        """FreeSWITCH completes the file while the channel is torn down."""
        recorder = Recorder(call)
        call.leg.at(2.0, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, record)
        recorder.end("success-silence")

        assert states(call, "record") == ["recording", "finished"]
        assert pytest.approx(changes(call, "record")[-1].detail["duration"]) == 2.0

    def test_a_file_nobody_completed_is_an_error(self, call):
        Recorder(call)
        call.leg.at(2.0, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, record)
        (control,) = call.controls.running()
        control.abandon()

        assert states(call, "record") == ["recording", "error"]


def test_a_full_disk_is_a_failed_result(call):
    recordings = call.services.recordings
    recordings._min_free_bytes = 1 << 62

    run(call, record)

    assert call.vars["record_result"] == "failed"
    assert "free" in str(call.failure)
    assert states(call, "record") == ["error"]


def test_the_variables_of_an_earlier_record_do_not_survive(call):
    call.vars.update(record_url="https://old", record_result="success")
    call.leg.when("uuid_record", reply="-ERR Cannot record session!")

    run(call, record)

    assert (call.vars["record_url"], call.vars["record_result"]) == ("", "failed")


def test_nothing_reacts_after_the_end(call):
    Recorder(call, ends_after=1.0)

    run(call, record)
    before = SimpleNamespace(sent=len(call.leg.sent))
    call.leg.happen(facts.Digit("#"))

    assert before.sent == len(call.leg.sent)
