"""calling.record and its verbs, laid out by their reference page (calling-api 4.2, webhooks 3.5)."""

import re

import pytest

from fsctl.errors import ApiError, CommandFailed, LegGone
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Application
from fsctl.methods.record import BEEP, Audio
from fsctl.methods.record_call import record_call
from fsctl.webhooks.payloads import payload
from tests.fakes.call import changes, make_call, states
from tests.methods.commanding import ask, defaults, refusal
from tests.methods.running import run
from tests.methods.test_record import Recorder

URL = "https://hooks.example/r"


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def record(call, control_id="r-1", status_url=URL, **audio):
    return ask(call, "calling.record", control_id=control_id, record={"audio": audio}, status_url=status_url)


class TestStart:
    def test_it_is_answered_at_once_with_the_control_id(self, call):
        recorder = Recorder(call)
        before = call.clock.now()

        assert record(call) == {"control_id": "r-1"}

        assert call.clock.now() == before
        assert [verb for verb, _ in recorder.commands] == ["start"]
        assert states(call, "record") == ["recording"]

    def test_the_defaults_are_those_of_rest_and_not_of_the_method(self):
        audio = defaults("calling.record", control_id="r", record={"audio": {}}).record.audio

        assert audio == Audio(
            beep=False,
            format="mp3",
            stereo=False,
            direction="speak",
            initial_timeout=4.0,
            end_silence_timeout=0.5,
            max_length=0,
            terminators="#",
            input_sensitivity=44.0,
        )

    @pytest.mark.parametrize(
        "params",
        [
            pytest.param({"record": {"audio": {"format": "wav"}}}, id="documented"),
            pytest.param({"audio": {"format": "wav"}}, id="as-the-client-sends-it"),
            pytest.param({"audio": {"format": "wav"}, "record": None}, id="with-an-empty-record"),
        ],
    )
    def test_audio_is_taken_where_clients_put_it(self, params):
        assert defaults("calling.record", control_id="r", **params).record.audio.format == "wav"

    @pytest.mark.parametrize("params", [{}, {"audio": None}, {"record": {}}, {"record": {"audio": None}}], ids=str)
    def test_nothing_at_all_is_the_defaults(self, params):
        assert defaults("calling.record", control_id="r", **params).record.audio == Audio()

    def test_without_a_control_id_one_is_made(self, call):
        Recorder(call)

        answer = ask(call, "calling.record")

        assert answer["control_id"] == call.controls.running("record")[0].id

    def test_an_id_that_runs_is_taken(self, call):
        Recorder(call)
        record(call)

        assert refusal(call, "calling.record", control_id="r-1") == (422, "value_not_unique", "control_id")

    def test_an_id_may_be_used_again(self, call):
        Recorder(call)
        record(call)
        ask(call, "calling.record.stop", control_id="r-1")

        Recorder(call)
        record(call)

        assert states(call, "record") == ["recording", "finished", "recording"]

    def test_the_script_has_nothing_to_do_with_it(self, call):
        Recorder(call)
        record(call)

        assert call.vars == {}

    def test_what_freeswitch_cannot_record_is_refused(self, call):
        call.leg.when("uuid_record", reply="-ERR Cannot record session!")

        with pytest.raises(ApiError, match="Cannot record session") as refused:
            record(call)

        assert (refused.value.status, refused.value.code) == (422, "call_update_failed")
        assert states(call, "record") == ["error"]
        assert call.controls.running() == []

    @pytest.mark.parametrize("state", [None, "ringing"])
    def test_only_an_answered_call(self, tmp_path, state):
        call = make_call(tmp_path, answered=False)
        if state:
            call.to(state)

        assert refusal(call, "calling.record") == (422, "invalid_state", None)


class TestAudio:
    """``record.audio.*``: what is asked of FreeSWITCH, and what is refused."""

    @pytest.mark.parametrize(
        ("audio", "expected"),
        [
            pytest.param({"stereo": True}, {"RECORD_STEREO": "true"}, id="stereo"),
            pytest.param({"direction": "speak"}, {"RECORD_READ_ONLY": "true"}, id="speak"),
            pytest.param({"direction": "listen"}, {"RECORD_WRITE_ONLY": "true", "RECORD_READ_ONLY": None}, id="listen"),
            pytest.param({"direction": "both"}, {"RECORD_WRITE_ONLY": None, "RECORD_READ_ONLY": None}, id="both"),
            pytest.param({"initial_timeout": 2.5}, {"RECORD_INITIAL_TIMEOUT_MS": "2500"}, id="initial_timeout"),
            pytest.param({"initial_timeout": 0}, {"RECORD_INITIAL_TIMEOUT_MS": None}, id="no-initial_timeout"),
            pytest.param({}, {"RECORD_FINAL_TIMEOUT_MS": "500"}, id="end_silence_timeout-default"),
            pytest.param({"end_silence_timeout": 3}, {"RECORD_FINAL_TIMEOUT_MS": "3000"}, id="end_silence_timeout"),
            pytest.param({"input_sensitivity": 100}, {"RECORD_SILENCE_THRESHOLD": "1"}, id="input_sensitivity"),
        ],
    )
    def test_on_the_wire(self, call, audio, expected):
        recorder = Recorder(call)

        record(call, **audio)

        assert expected == {name: recorder.variables.get(name) for name in expected}

    @pytest.mark.parametrize("format_", ["mp3", "wav", "mp4"])
    def test_format(self, call, format_):
        recorder = Recorder(call)

        record(call, format=format_)

        assert recorder.path.endswith(f".{format_}")

    @pytest.mark.parametrize(
        ("audio", "code", "attribute"),
        [
            pytest.param({"beep": "yes"}, "not_a_boolean", "beep", id="beep"),
            pytest.param({"stereo": 1}, "not_a_boolean", "stereo", id="stereo"),
            pytest.param({"format": "ogg"}, "invalid_parameter", "format", id="format"),
            pytest.param({"format": 3}, "not_a_string", "format", id="format-type"),
            pytest.param({"direction": "in"}, "invalid_parameter", "direction", id="direction"),
            pytest.param({"initial_timeout": -0.1}, "invalid_parameter", "initial_timeout", id="initial_timeout"),
            pytest.param({"initial_timeout": "4"}, "invalid_parameter", "initial_timeout", id="initial_timeout-type"),
            pytest.param(
                {"end_silence_timeout": -1}, "invalid_parameter", "end_silence_timeout", id="end_silence_timeout"
            ),
            pytest.param({"max_length": -1}, "invalid_parameter", "max_length", id="max_length"),
            pytest.param({"max_length": 1.5}, "invalid_parameter", "max_length", id="max_length-whole"),
            pytest.param({"terminators": "x"}, "invalid_parameter", "terminators", id="terminators"),
            pytest.param({"terminators": 5}, "not_a_string", "terminators", id="terminators-type"),
            pytest.param({"input_sensitivity": 101}, "invalid_parameter", "input_sensitivity", id="sensitivity-high"),
            pytest.param({"input_sensitivity": -1}, "invalid_parameter", "input_sensitivity", id="sensitivity-low"),
        ],
    )
    def test_refused(self, call, audio, code, attribute):
        assert refusal(call, "calling.record", record={"audio": audio}) == (422, code, f"record.audio.{attribute}")

    @pytest.mark.parametrize(
        ("params", "code", "attribute"),
        [
            ({"record": "mp3"}, "not_a_hash", "record"),
            ({"record": {"audio": []}}, "not_a_hash", "record.audio"),
            ({"audio": []}, "not_a_hash", "record.audio"),
            ({"status_url": "ftp://x/"}, "not_an_http_url", "status_url"),
            ({"control_id": 7}, "not_a_string", "control_id"),
            ({"control_id": ""}, "invalid_parameter", "control_id"),
        ],
        ids=str,
    )
    def test_around_it(self, call, params, code, attribute):
        assert refusal(call, "calling.record", **params) == (422, code, attribute)

    @pytest.mark.parametrize(
        ("terminators", "digit", "ends"), [("#", "#", True), ("#", "*", False), ("ab", "B", True), ("", "#", False)]
    )
    def test_terminators(self, call, terminators, digit, ends):
        recorder = Recorder(call)
        record(call, terminators=terminators)

        call.leg.happen(facts.Digit(digit))

        assert ends == (recorder.commands[-1][0] == "stop")

    def test_max_length(self, call):
        recorder = Recorder(call)
        record(call, max_length=3)

        call.clock.sleep(3.1)

        assert recorder.commands[-1][0] == "stop"
        assert states(call, "record") == ["recording", "finished"]


class TestBeep:
    def test_it_is_mixed_in_at_once_and_the_recording_begins_when_it_is_over(self, call):
        recorder = Recorder(call)
        later = []
        call.leg.background = later.append
        before = call.clock.now()

        assert record(call, beep=True) == {"control_id": "r-1"}

        (beep,) = call.leg.apis("uuid_displace")
        assert re.fullmatch(rf"{call.leg.uuid} start {{fsctl=\d+}}{re.escape(BEEP)} 0 m", beep.argument)
        assert call.clock.now() == before
        assert [control.id for control in call.controls.running("record")] == ["r-1"]
        later[0]()
        assert recorder.started_at == before + 0.25
        assert states(call, "record") == ["recording"]

    def test_two_at_a_time_have_names_of_their_own(self, call):
        Recorder(call)
        record(call, beep=True)
        record(call, "r-2", beep=True)

        first, second = call.leg.apis("uuid_displace")
        assert first != second

    def test_where_it_cannot_be_mixed_in_it_takes_its_turn(self, call):
        """Nothing is sent to the party while nothing plays (``calls.send_silence`` off)."""
        recorder = Recorder(call)
        call.leg.when("uuid_getvar", reply="_undef_")
        call.leg.when("playback", lasts=60.25)
        before = call.clock.now()

        record(call, beep=True)

        assert call.leg.apis("uuid_displace") == []
        assert [Application("playback", BEEP)] == call.leg.applications()
        assert recorder.started_at == before + 60.25

    def test_its_refusal_is_the_commands(self, call):
        call.leg.when("uuid_displace", reply="-ERR Cannot displace session!")

        with pytest.raises(ApiError, match="Cannot displace"):
            record(call, beep=True)

        assert states(call, "record") == ["error"]

    def test_a_recording_that_fails_after_it_is_an_error(self, call):
        call.leg.when("uuid_record", reply="-ERR Cannot record session!")

        record(call, beep=True)

        assert states(call, "record") == ["error"]

    def test_a_stop_meanwhile_leaves_no_recording(self, call):
        recorder = Recorder(call)
        later = []
        call.leg.background = later.append
        record(call, beep=True)

        ask(call, "calling.record.stop", control_id="r-1")
        later[0]()

        assert recorder.commands == []
        assert states(call, "record") == ["error"]

    def test_it_cannot_be_paused_meanwhile(self, call):
        call.leg.background = lambda _: None
        record(call, beep=True)

        assert refusal(call, "calling.record.pause", control_id="r-1") == (422, "invalid_state", "control_id")

    def test_a_hangup_meanwhile_is_an_error(self, call):
        call.leg.background = lambda _: None
        record(call, beep=True)

        (control,) = call.controls.running()
        control.abandon()

        assert states(call, "record") == ["error"]


class TestPause:
    @pytest.mark.parametrize(
        ("given", "behavior", "verbs"),
        [
            pytest.param({}, "skip", ["start", "pause", "resume"], id="default"),
            pytest.param({"behavior": "skip"}, "skip", ["start", "pause", "resume"], id="skip"),
            pytest.param({"behavior": "silence"}, "silence", ["start", "mask", "unmask"], id="silence"),
        ],
    )
    def test_and_resume(self, call, given, behavior, verbs):
        recorder = Recorder(call)
        record(call)

        assert ask(call, "calling.record.pause", control_id="r-1", **given) == {}
        assert ask(call, "calling.record.resume", control_id="r-1") == {}

        assert [verb for verb, _ in recorder.commands] == verbs
        assert {recorder.path} == {rest.split(" ")[0] for _, rest in recorder.commands}
        first, paused, resumed = (payload(event)["params"] for event in changes(call, "record"))
        assert (first["state"], paused["state"], resumed["state"]) == ("recording", "paused", "recording")
        assert behavior == paused["pause_behavior"]
        assert "pause_behavior" not in resumed

    def test_a_second_pause_changes_nothing(self, call):
        recorder = Recorder(call)
        record(call)
        ask(call, "calling.record.pause", control_id="r-1")

        ask(call, "calling.record.pause", control_id="r-1", behavior="silence")

        assert [verb for verb, _ in recorder.commands] == ["start", "pause"]
        assert states(call, "record") == ["recording", "paused"]

    def test_a_resume_without_a_pause_changes_nothing(self, call):
        recorder = Recorder(call)
        record(call)

        ask(call, "calling.record.resume", control_id="r-1")

        assert [verb for verb, _ in recorder.commands] == ["start"]

    def test_a_paused_recording_is_stopped(self, call):
        Recorder(call)
        record(call)
        ask(call, "calling.record.pause", control_id="r-1")

        ask(call, "calling.record.stop", control_id="r-1")

        assert states(call, "record") == ["recording", "paused", "finished"]

    def test_max_length_is_the_time_from_the_start(self, call):
        """FreeSWITCH's limit, the net below ours, cannot be moved either."""
        recorder = Recorder(call)
        record(call, max_length=4)
        call.clock.sleep(1)
        ask(call, "calling.record.pause", control_id="r-1")

        call.clock.sleep(3.5)

        assert states(call, "record") == ["recording", "paused", "finished"]
        assert recorder.commands[-1][0] == "stop"

    def test_one_that_ended_in_the_same_moment_is_left_alone(self, call):
        recorder = Recorder(call)
        record(call)

        def too_late(api):
            recorder.end("success-silence")
            raise CommandFailed(api.name, "-ERR Cannot pause recording session!")

        call.leg.ask = too_late

        assert ask(call, "calling.record.pause", control_id="r-1") == {}

        assert states(call, "record") == ["recording", "finished"]

    def test_a_refusal_is_told(self, call):
        Recorder(call)
        record(call)
        call.leg.when("uuid_record", reply="-ERR Cannot pause recording session!")

        with pytest.raises(ApiError, match="Cannot pause") as refused:
            ask(call, "calling.record.pause", control_id="r-1")

        assert refused.value.code == "call_update_failed"
        assert states(call, "record") == ["recording"]

    def test_recordings_of_a_script_can_be_paused(self, call):
        recorder = Recorder(call)
        run(call, record_call, control_id="mine")

        ask(call, "calling.record.pause", control_id="mine")
        ask(call, "calling.record.resume", control_id="mine")

        assert [verb for verb, _ in recorder.commands] == ["start", "pause", "resume"]
        assert states(call, "record") == ["recording", "paused", "recording"]

    @pytest.mark.parametrize(
        ("behavior", "code"), [("cut", "invalid_parameter"), ("", "invalid_parameter"), (1, "not_a_string")]
    )
    def test_other_behaviors(self, call, behavior, code):
        Recorder(call)
        record(call)

        assert refusal(call, "calling.record.pause", control_id="r-1", behavior=behavior) == (422, code, "behavior")


class TestStop:
    def test_the_file_is_complete_when_it_is_answered(self, call):
        recorder = Recorder(call)
        record(call, format="wav")
        call.clock.sleep(2)

        assert ask(call, "calling.record.stop", control_id="r-1") == {}

        assert recorder.over
        last = payload(changes(call, "record")[-1])["params"]
        assert last["state"] == "finished"
        assert last["url"].endswith(".wav")
        assert last["duration"] == pytest.approx(2.02)
        assert last["record"]["audio"] == {"format": "wav", "direction": "speak", "stereo": False}

    def test_a_second_stop_changes_nothing(self, call):
        Recorder(call)
        record(call)
        ask(call, "calling.record.stop", control_id="r-1")

        assert ask(call, "calling.record.stop", control_id="r-1") == {}
        assert states(call, "record") == ["recording", "finished"]

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop"])
    def test_an_unknown_id(self, call, verb):
        expected = (422, "provided_id_is_unrecognized", "control_id")

        assert expected == refusal(call, f"calling.record.{verb}", control_id="nobody")

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop"])
    def test_the_id_is_required(self, call, verb):
        assert refusal(call, f"calling.record.{verb}") == (422, "missing_required_parameter", "control_id")


class TestEvents:
    @pytest.mark.parametrize(
        ("cause", "state"),
        [("success-silence", "finished"), ("no-input-timeout", "no_input"), ("uri-failure", "error")],
    )
    def test_how_it_ends(self, call, cause, state):
        Recorder(call, ends_after=3.0, cause=cause)
        record(call)

        call.clock.sleep(3.1)

        assert states(call, "record") == ["recording", state]
        assert {URL} == {event.callback.url for event in changes(call, "record")}

    def test_the_end_may_be_told_before_the_start_was_answered(self, call):
        """The answer and the event come in one breath; the event is heard by the reader, the answer by who asked."""
        recorder = Recorder(call)
        command = recorder.command

        def start_and_end(argument):
            command(argument)
            if recorder.commands[-1][0] == "start":
                recorder.end("success-silence")

        call.leg.when("uuid_record", then=start_and_end)

        record(call)

        assert states(call, "record") == ["recording", "finished"]

    def test_a_hangup_ends_it_with_its_file(self, call):
        recorder = Recorder(call)
        record(call)
        call.clock.sleep(1)

        call.leg.happen(facts.HungUp("NORMAL_CLEARING"))
        recorder.end("success-silence")

        assert states(call, "record") == ["recording", "finished"]

    def test_a_hangup_while_it_is_asked_for(self, call):
        def hang_up(_):
            call.leg.happen(facts.HungUp("NORMAL_CLEARING"))
            raise LegGone("NORMAL_CLEARING")

        call.leg.when("uuid_record", then=hang_up)

        with pytest.raises(ApiError) as refused:
            record(call)
        (control,) = call.controls.running()
        control.abandon()

        assert refused.value.code == "invalid_state"
        assert states(call, "record") == ["error"]
