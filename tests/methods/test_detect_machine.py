"""detect_machine, laid out by its reference page (swml-calling 3.13, webhooks 3.7)."""

import math
import sys
from array import array
from pathlib import Path

import pytest

from fsctl.errors import LegGone, ScriptError
from fsctl.freeswitch import commands, facts
from fsctl.methods.detect_machine import detect_machine
from tests.fakes.call import changes, make_call, warnings
from tests.methods.running import make, run

URL = "https://hooks.example/d"
FRAME = 0.02


class FarEnd:
    """Does with ``uuid_record`` what FreeSWITCH does: writes what the party sends into the file, 20 ms at a time.

    ``sounds`` are seconds, and what is heard then: True for a voice, hertz for a pure tone, otherwise silence.
    """

    def __init__(self, call, *sounds, sends=True):
        self.call = call
        self.commands = []
        self.path = None
        self._sounds = sounds
        self._sends = sends
        self._file = None
        call.far_ends.append(self)
        call.leg.when("uuid_record", then=self.command)

    def command(self, argument):
        _, verb, rest = argument.split(" ", 2)
        self.commands.append((verb, rest))
        if verb == "start":
            self.path = Path(rest.split(" ")[0])
            self._file = self.path.open("wb", buffering=0)
            self._frame(0)
        else:
            self.close()

    def close(self):
        if self._file is not None:
            self._file.close()

    def _frame(self, index):
        if not self._file.closed:
            if self._sends and index:
                self._file.write(samples(self._at((index - 1) * FRAME)))
            self.call.clock.later(FRAME, self._frame, index + 1)

    def _at(self, seconds):
        for length, sound in self._sounds:
            if seconds < length - 1e-6:
                return sound
            seconds -= length
        return None


def samples(sound):
    """20 ms of a sound."""
    if sound is None or sound is False:
        return bytes(320)
    parts = [(8000, sound)] if sound is not True else [(3000, 210), (3000, 630), (2000, 1470)]
    audio = array("h", (round(sum(a * math.sin(math.tau * f * n / 8000) for a, f in parts)) for n in range(160)))
    if sys.byteorder == "big":
        audio.byteswap()
    return audio.tobytes()


HUMAN = ((1.0, None), (0.6, True))
MACHINE = ((1.0, None), (4.0, True))


@pytest.fixture
def new_call(tmp_path):
    far_ends = []

    def made(**changes):
        call = make_call(tmp_path, **changes)
        call.started = call.clock.now()
        call.far_ends = far_ends
        return call

    yield made
    for far_end in far_ends:
        far_end.close()


@pytest.fixture
def call(new_call):
    return new_call()


def took(call):
    return pytest.approx(call.clock.now() - call.started, abs=0.11)


def told(call):
    return [(event.detail["detect"]["type"], event.detail["detect"]["params"]) for event in changes(call, "detect")]


class TestResult:
    @pytest.mark.parametrize(
        ("sounds", "result", "ms"),
        [
            pytest.param(HUMAN, "human", 2600, id="human"),
            pytest.param(MACHINE, "machine", 2250, id="machine"),
            pytest.param(((1.0, None), (2.6, 2100.0)), "fax", 1300, id="fax"),
            pytest.param((), "unknown", 4500, id="nobody"),
        ],
    )
    def test_it_is_a_variable(self, call, sounds, result, ms):
        FarEnd(call, *sounds)

        run(call, detect_machine)

        assert result == call.vars["detect_result"]
        assert call.vars["detect_ms"] == pytest.approx(ms, abs=110)
        assert isinstance(call.vars["detect_ms"], int)
        assert call.vars["detect_machine_beep"] is False
        assert took(call) == ms / 1000

    def test_a_party_that_sends_no_audio_is_unknown(self, call):
        FarEnd(call, sends=False)

        run(call, detect_machine)

        assert call.vars["detect_result"] == "unknown"
        assert took(call) == 5.0  # what has not come within half a second is silence

    def test_it_answers_first(self, new_call):
        call = new_call(answered=False)
        FarEnd(call, *HUMAN)

        run(call, detect_machine)

        assert [commands.answer(call.leg.uuid)] == call.leg.apis("uuid_answer")

    def test_it_plays_nothing_and_holds_up_nothing(self, call):
        FarEnd(call, *HUMAN)

        run(call, detect_machine)

        assert call.leg.applications() == []


class TestDetectors:
    @pytest.mark.parametrize("value", ["amd,fax", "fax,amd", " amd , fax "])
    def test_both(self, call, value):
        FarEnd(call, (1.0, None), (2.6, 2100.0))

        run(call, detect_machine, detectors=value)

        assert call.vars["detect_result"] == "fax"

    def test_amd_alone_hears_a_machine_in_a_fax(self, call):
        FarEnd(call, (1.0, None), (2.6, 2100.0))

        run(call, detect_machine, detectors="amd")

        assert call.vars["detect_result"] == "machine"

    def test_fax_alone_hears_no_machine(self, call):
        FarEnd(call, *MACHINE)

        run(call, detect_machine, detectors="fax", timeout=6)

        assert call.vars["detect_result"] == "unknown"
        assert told(call) == [("fax", {"event": "finished"})]
        assert took(call) == 6.0

    @pytest.mark.parametrize("value", ["", "voice", "amd;fax", "amd,", "AMD"])
    def test_others_are_refused(self, value):
        with pytest.raises(ScriptError, match="detectors"):
            make(detect_machine, detectors=value)


class TestTimeout:
    @pytest.mark.parametrize(("given", "seconds"), [({}, 30.0), ({"timeout": 2.5}, 2.5), ({"timeout": 0}, 0.05)])
    def test_it_ends_everything(self, call, given, seconds):
        FarEnd(call)

        run(call, detect_machine, initial_timeout=60, **given)

        assert call.vars["detect_result"] == "unknown"
        assert took(call) == seconds

    def test_a_machine_that_never_stops_talking_stays_one(self, call):
        FarEnd(call, (60.0, True))

        run(call, detect_machine, detect_message_end=True, timeout=8)

        assert call.vars["detect_result"] == "machine"
        assert told(call) == [("machine", {"event": "MACHINE"}), ("machine", {"event": "finished"})]
        assert took(call) == 8.0


class TestWait:
    def test_false_goes_on_and_tells_the_url(self, call):
        FarEnd(call, *MACHINE)

        run(call, detect_machine, wait=False, status_url=URL)

        assert call.vars["detect_result"] == "detecting"
        assert took(call) == 0.0
        call.clock.sleep(4.0)
        assert call.vars["detect_result"] == "machine"
        assert {URL} == {event.callback.url for event in changes(call, "detect")}

    def test_false_needs_a_url(self):
        with pytest.raises(ScriptError, match="status_url") as refused:
            make(detect_machine, wait=False)
        assert refused.value.code == "relay_script_method_parameter_missing"

    def test_one_after_the_other_on_one_call(self, call):
        for sounds, result in ((HUMAN, "human"), (MACHINE, "machine")):
            FarEnd(call, *sounds)
            run(call, detect_machine)
            assert result == call.vars["detect_result"]

    def test_two_at_a_time(self, call):
        FarEnd(call, *MACHINE)
        run(call, detect_machine, wait=False, status_url=URL)
        FarEnd(call, *HUMAN)
        run(call, detect_machine, wait=False, status_url=URL)

        assert len(call.controls.running("detect")) == 2


class TestDetectMessageEnd:
    def test_default_ends_with_the_machine(self, call):
        FarEnd(call, *MACHINE)

        run(call, detect_machine)

        assert told(call) == [("machine", {"event": "MACHINE"}), ("machine", {"event": "finished"})]

    def test_the_end_of_the_greeting_is_ready(self, call):
        FarEnd(call, *MACHINE)

        run(call, detect_machine, detect_message_end=True)

        assert told(call) == [
            ("machine", {"event": "MACHINE"}),
            ("machine", {"event": "READY"}),
            ("machine", {"event": "finished"}),
        ]
        assert call.vars["detect_result"] == "machine"
        assert call.vars["detect_ms"] == pytest.approx(2250, abs=110)
        assert took(call) == 6.0

    def test_a_beep_is_ready_at_its_end(self, call):
        FarEnd(call, *MACHINE, (0.5, None), (0.4, 1000.0))

        run(call, detect_machine, detect_message_end=True, machine_ready_timeout=5)

        assert told(call) == [
            ("machine", {"event": "MACHINE"}),
            ("machine", {"event": "READY", "beep": True}),
            ("machine", {"event": "finished"}),
        ]
        assert call.vars["detect_machine_beep"] is True
        assert call.vars["detect_result"] == "machine"
        assert took(call) == 5.95

    def test_a_person_is_not_waited_for(self, call):
        FarEnd(call, *HUMAN)

        run(call, detect_machine, detect_message_end=True)

        assert call.vars["detect_result"] == "human"
        assert took(call) == 2.6


class TestThresholds:
    @pytest.mark.parametrize(
        ("given", "sounds", "result", "seconds"),
        [
            pytest.param({"initial_timeout": 2}, (), "unknown", 2.0, id="initial_timeout"),
            pytest.param({"end_silence_timeout": 2}, HUMAN, "human", 3.6, id="end_silence_timeout"),
            pytest.param({"machine_voice_threshold": 5}, MACHINE, "human", 6.0, id="machine_voice_threshold"),
            pytest.param({"machine_ready_timeout": 2, "detect_message_end": True}, MACHINE, "machine", 7.0, id="ready"),
            pytest.param(
                {"end_silence_timeout": 2, "detect_message_end": True}, MACHINE, "machine", 7.0, id="ready-by-default"
            ),
        ],
    )
    def test_each(self, call, given, sounds, result, seconds):
        FarEnd(call, *sounds)

        run(call, detect_machine, **given)

        assert result == call.vars["detect_result"]
        assert took(call) == seconds

    @pytest.mark.parametrize(
        "name",
        [
            "timeout",
            "initial_timeout",
            "end_silence_timeout",
            "machine_ready_timeout",
            "machine_voice_threshold",
            "machine_words_threshold",
        ],
    )
    def test_negative_is_refused(self, name):
        with pytest.raises(ScriptError, match=name):
            make(detect_machine, **{name: -1})

    def test_words_are_not_counted(self, call):
        FarEnd(call, *HUMAN)

        run(call, detect_machine, machine_words_threshold=1)

        assert call.vars["detect_result"] == "human"


class TestTone:
    @pytest.mark.parametrize(("name", "hertz"), [("CED", 2100.0), ("CNG", 1100.0)])
    def test_it_is_heard(self, call, name, hertz):
        FarEnd(call, (1.0, None), (0.5, hertz))

        run(call, detect_machine, tone=name)

        assert told(call) == [("fax", {"event": name}), ("fax", {"event": "finished"})]

    def test_only_the_one_asked_for(self, call):
        FarEnd(call, (1.0, None), (0.5, 1100.0))

        run(call, detect_machine, detectors="fax", timeout=3)

        assert call.vars["detect_result"] == "unknown"

    def test_others_are_refused(self):
        with pytest.raises(ScriptError, match="tone"):
            make(detect_machine, tone="ced2")


class TestFreeswitch:
    def test_it_writes_what_the_party_says_at_once(self, call):
        far_end = FarEnd(call, *HUMAN)

        run(call, detect_machine)

        (start, arguments), (stop, path) = far_end.commands
        assert (start, stop) == ("start", "stop")
        assert arguments.startswith(f"{path} 0 ")
        assert path.endswith(".r8")
        variables = set(arguments.partition("{")[2].removesuffix("}").split(","))
        assert {"RECORD_READ_ONLY=true", "enable_file_write_buffering=false"} <= variables

    def test_nothing_stays_on_disk(self, call):
        far_end = FarEnd(call, *HUMAN)

        run(call, detect_machine, wait=False, status_url=URL)

        assert not far_end.path.exists()
        assert list(far_end.path.parent.iterdir()) == []

    def test_a_refusal_is_an_error_and_not_the_end(self, call):
        call.leg.when("uuid_record", reply="-ERR Cannot record session!")

        run(call, detect_machine, status_url=URL)

        assert call.vars["detect_result"] == "error"
        assert told(call) == [("machine", {"event": "error"})]
        assert "Cannot record session" in warnings(call)[0]

    def test_audio_that_cannot_be_read_is_an_error(self, call):
        run(call, detect_machine)  # FreeSWITCH says +OK and makes no file

        assert call.vars["detect_result"] == "error"
        assert "No such file" in warnings(call)[0]

    def test_a_full_disk_is_an_error(self, call):
        call.services.recordings._min_free_bytes = 1 << 62

        run(call, detect_machine)

        assert call.vars["detect_result"] == "error"
        assert "free" in warnings(call)[0]

    def test_audio_that_breaks_off_is_an_error(self, call):
        far_end = FarEnd(call)
        call.clock.later(2.0, lambda: call.leg.happen(facts.RecordStopped(str(far_end.path), "uri-failure", 2000)))

        run(call, detect_machine)

        assert call.vars["detect_result"] == "error"
        assert took(call) == 2.0

    def test_the_end_of_a_recording_is_not_ours(self, call):
        FarEnd(call, *HUMAN)
        call.leg.at(1.0, facts.RecordStopped("/recordings/x.wav", "success-silence", 1000))

        run(call, detect_machine)

        assert call.vars["detect_result"] == "human"


class TestEnd:
    def test_a_hangup_ends_it(self, call):
        far_end = FarEnd(call, *HUMAN)
        call.leg.at(0.5, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, detect_machine)
        call.leg.happen(facts.RecordStopped(str(far_end.path), "success-silence", 500))
        (control,) = call.controls.running()
        control.abandon()

        assert told(call) == [("machine", {"event": "finished"})]
        assert call.vars["detect_result"] == "unknown"

    def test_a_stop_from_outside_ends_it(self, call):
        FarEnd(call, *HUMAN)

        def stop():
            (control,) = call.controls.running("detect")
            control.stop()

        call.clock.later(0.5, stop)

        run(call, detect_machine)

        assert told(call) == [("machine", {"event": "finished"})]
        assert took(call) == 0.5

    def test_nothing_is_listened_to_after_it(self, call):
        far_end = FarEnd(call, *HUMAN)

        run(call, detect_machine)
        events, asked = len(call.told), len(call.leg.sent)
        call.clock.sleep(10)

        assert (events, asked) == (len(call.told), len(call.leg.sent))
        assert far_end.commands[-1][0] == "stop"


def test_the_empty_spelling():
    assert detect_machine.normalised(None) == {}
