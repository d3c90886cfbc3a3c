"""Who answered, by when they speak and which tones they send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.call.detection import EITHER_TONE, Detector, Finding, MachineRules

FRAME = 0.02
RULES = MachineRules()
TO_THE_END = MachineRules(message_end=True)


def voice(seconds):
    return [(True, 0.0)] * round(seconds / FRAME)


def quiet(seconds):
    return [(False, 0.0)] * round(seconds / FRAME)


def tone(hertz, seconds):
    return [(True, hertz)] * round(seconds / FRAME)


def listen(detector, *parts):
    """The findings, and the seconds at which the detector was through."""
    found, at = [], 0.0
    for loud, hertz in [frame for part in parts for frame in part]:
        if detector.over:
            break
        found += detector.hear(FRAME, loud=loud, hertz=hertz)
        at += FRAME
    return found, pytest.approx(at, abs=FRAME / 2)


def events(found):
    return [finding.event for finding in found]


class TestPeopleAndMachines:
    @pytest.mark.parametrize(
        ("heard", "event", "at"),
        [
            pytest.param([quiet(10)], "UNKNOWN", 4.5, id="nothing"),
            pytest.param([quiet(1), voice(0.5), quiet(9)], "HUMAN", 2.5, id="hello"),
            pytest.param([quiet(1), voice(0.4), quiet(0.3), voice(0.4), quiet(9)], "HUMAN", 3.1, id="hello-who-is-it"),
            pytest.param([quiet(1), voice(9)], "MACHINE", 2.26, id="talks-on"),
            pytest.param([quiet(1), voice(0.5), quiet(0.6), voice(9)], "MACHINE", 2.26, id="a-pause-does-not-end-it"),
            pytest.param([quiet(4.4), voice(0.5), quiet(9)], "HUMAN", 5.9, id="late-but-in-time"),
            pytest.param([voice(0.5), quiet(9)], "HUMAN", 1.5, id="at-once"),
        ],
    )
    def test_by_the_timing_of_voice(self, heard, event, at):
        found, when = listen(Detector(RULES, None), *heard)

        assert [Finding("machine", event)] == found
        assert at == when

    def test_a_click_is_no_voice(self):
        found, at = listen(Detector(RULES, None), quiet(1), voice(0.04), quiet(9))

        assert events(found) == ["UNKNOWN"]
        assert at == 4.5

    @pytest.mark.parametrize(
        ("rules", "heard", "event", "at"),
        [
            (MachineRules(initial_timeout=2), [quiet(9)], "UNKNOWN", 2.0),
            (MachineRules(end_silence_timeout=0.3), [voice(0.5), quiet(9)], "HUMAN", 0.8),
            (MachineRules(end_silence_timeout=0.3), [voice(0.5), quiet(0.4), voice(2)], "HUMAN", 0.8),
            (MachineRules(machine_voice_threshold=3), [voice(2.5), quiet(9)], "HUMAN", 3.5),
            (MachineRules(machine_voice_threshold=0.5), [voice(2)], "MACHINE", 0.5),
            (MachineRules(initial_timeout=0), [quiet(9)], "UNKNOWN", 0.02),
            (MachineRules(end_silence_timeout=0), [voice(0.5), quiet(9)], "HUMAN", 0.52),
        ],
        ids=["initial", "end-silence", "end-silence-parts", "threshold-up", "threshold-down", "no-initial", "no-end"],
    )
    def test_each_rule(self, rules, heard, event, at):
        found, when = listen(Detector(rules, None), *heard)

        assert events(found) == [event]
        assert at == when


class TestMessageEnd:
    def test_silence_after_the_greeting_is_ready(self):
        detector = Detector(TO_THE_END, None)
        found, at = listen(detector, voice(4), quiet(0.8), voice(1), quiet(9))

        assert events(found) == ["MACHINE", "READY"]
        assert at == 6.8
        assert not detector.beep
        assert detector.outcome == Finding("machine", "MACHINE")

    def test_how_long_silence_is_ready(self):
        found, at = listen(Detector(MachineRules(message_end=True, machine_ready_timeout=3), None), voice(4), quiet(9))

        assert events(found) == ["MACHINE", "READY"]
        assert at == 7.0

    @pytest.mark.parametrize("hertz", [425.0, 1000.0, 2000.0])
    def test_a_beep_is_ready_when_it_is_over(self, hertz):
        detector = Detector(TO_THE_END, None)
        found, at = listen(detector, voice(4), quiet(0.5), tone(hertz, 0.6), quiet(9))

        assert [Finding("machine", "MACHINE"), Finding("machine", "READY", beep=True)] == found
        assert at == 4.0 + 0.5 + 0.6 + 2 * FRAME
        assert detector.beep

    def test_a_person_is_not_waited_for(self):
        found, at = listen(Detector(TO_THE_END, None), voice(0.5), quiet(9))

        assert events(found) == ["HUMAN"]
        assert at == 1.5

    def test_without_it_the_machine_is_the_end(self):
        detector = Detector(RULES, None)
        found, _ = listen(detector, voice(4))

        assert events(found) == ["MACHINE"]
        assert detector.over


class TestInterruptions:
    RULES = MachineRules(message_end=True, interruptions=True, machine_ready_timeout=0.5)

    def test_a_greeting_that_goes_on_is_not_ready(self):
        detector = Detector(self.RULES, None)
        found, _ = listen(detector, voice(4), quiet(1), voice(1), quiet(1))

        assert events(found) == ["MACHINE", "READY", "NOT_READY", "READY"]
        assert not detector.over

    def test_a_click_is_no_greeting(self):
        found, _ = listen(Detector(self.RULES, None), voice(4), quiet(1), voice(0.04), quiet(9))

        assert events(found) == ["MACHINE", "READY"]

    def test_a_beep_is_the_end(self):
        detector = Detector(self.RULES, None)
        found, _ = listen(detector, voice(4), quiet(1), tone(1000.0, 0.5), quiet(1))

        assert [Finding("machine", "READY", beep=True)] == found[2:]
        assert detector.over

    def test_without_message_end_they_change_nothing(self):
        detector = Detector(MachineRules(interruptions=True), None)
        found, _ = listen(detector, voice(4), quiet(9))

        assert events(found) == ["MACHINE"]
        assert detector.over


class TestBeep:
    def test_one_that_comes_first_is_a_machines(self):
        detector = Detector(RULES, None)
        found, at = listen(detector, quiet(0.5), tone(1000.0, 1.0))

        assert [Finding("machine", "MACHINE", beep=True)] == found
        assert at == 0.62

    @pytest.mark.parametrize(
        "sound",
        [
            pytest.param(tone(1000.0, 0.1), id="too-short"),
            pytest.param(tone(300.0, 0.4), id="too-low"),
            pytest.param(tone(2600.0, 0.4), id="too-high"),
            pytest.param([frame for hertz in range(600, 1400, 40) for frame in tone(float(hertz), 0.02)], id="glides"),
        ],
    )
    def test_other_sounds_are_voice(self, sound):
        detector = Detector(RULES, None)
        found, _ = listen(detector, sound, quiet(9))

        assert events(found) == ["HUMAN"]
        assert not detector.beep

    def test_one_frame_of_noise_does_not_hide_it(self):
        detector = Detector(RULES, None)
        listen(detector, tone(1000.0, 0.08), voice(0.02), tone(1010.0, 0.08))

        assert detector.beep


class TestFax:
    @pytest.mark.parametrize(("name", "hertz"), [("CED", 2100.0), ("CED", 2110.0), ("CNG", 1100.0), ("CNG", 1065.0)])
    def test_its_tone_is_heard(self, name, hertz):
        found, at = listen(Detector(RULES, name), quiet(1), tone(hertz, 2.6))

        assert [Finding("fax", name)] == found
        assert at == 1.3

    @pytest.mark.parametrize(("name", "hertz"), [("CED", 2100.0), ("CNG", 1100.0)])
    def test_either_tone_will_do(self, name, hertz):
        found, _ = listen(Detector(RULES, EITHER_TONE), quiet(1), tone(hertz, 2.6))

        assert [Finding("fax", name)] == found

    def test_a_ced_that_turns_its_phase_is_heard(self):
        turns = [*tone(2100.0, 0.2), *voice(0.02), *tone(2100.0, 0.2), *voice(0.02)]
        found, _ = listen(Detector(None, "CED"), turns)

        assert events(found) == ["CED"]

    def test_the_other_tone_is_a_machines_beep(self):
        found, _ = listen(Detector(RULES, "CED"), tone(1100.0, 0.5), quiet(9))

        assert [Finding("machine", "MACHINE", beep=True)] == found

    def test_alone_it_hears_no_machine(self):
        detector = Detector(None, "CED")
        found, _ = listen(detector, voice(9), quiet(9), tone(1000.0, 1))

        assert found == []
        assert not detector.over

    def test_without_it_a_fax_is_a_machine(self):
        found, _ = listen(Detector(RULES, None), tone(2100.0, 2.6))

        assert events(found) == ["MACHINE"]


class TestGivingUp:
    def test_nobody_was_told_apart(self):
        detector = Detector(RULES, "CED")
        listen(detector, quiet(1))

        assert [Finding("machine", "UNKNOWN")] == detector.give_up()
        assert detector.over

    def test_after_an_outcome_there_is_nothing_to_add(self):
        detector = Detector(TO_THE_END, None)
        listen(detector, voice(4))

        assert detector.give_up() == []
        assert detector.over

    def test_a_fax_that_did_not_come_is_not_told(self):
        assert Detector(None, "CED").give_up() == []

    def test_after_the_end_nothing_is_heard(self):
        detector = Detector(RULES, None)
        detector.give_up()

        assert detector.hear(1.0, loud=False) == []
        assert detector.give_up() == []


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 440.0, 1100.0, 2100.0])), max_size=400),
    st.booleans(),
    st.sampled_from([None, "CED", "CNG"]),
)
def test_it_says_one_outcome_then_perhaps_ready_and_then_nothing(frames, message_end, fax):
    detector = Detector(MachineRules(message_end=message_end), fax)
    found = []
    for loud, hertz in frames:
        was_over = detector.over
        new = detector.hear(FRAME, loud=loud or bool(hertz), hertz=hertz)
        assert not (was_over and new)
        found += new
    found += detector.give_up()

    names = events(found)
    assert names[0] in {"HUMAN", "MACHINE", "UNKNOWN", "CED", "CNG"}
    assert names[1:] in ([], ["READY"]) or names == ["MACHINE", fax]
    assert detector.outcome == found[0]
    assert detector.over
