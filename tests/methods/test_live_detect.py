"""calling.detect and its stop, laid out by their reference page (calling-api 4.4, webhooks 3.7)."""

import pytest

from fsctl.errors import ApiError
from fsctl.freeswitch import facts
from fsctl.methods.detect_machine import MachineParams
from fsctl.webhooks.payloads import payload
from tests.fakes.call import changes, make_call
from tests.methods.commanding import ask, defaults, refusal
from tests.methods.test_detect_machine import HUMAN, MACHINE, FarEnd

URL = "https://hooks.example/d"


@pytest.fixture
def call(tmp_path):
    call = make_call(tmp_path)
    call.far_ends = []
    yield call
    for far_end in call.far_ends:
        far_end.close()


def detect(call, type_, timeout=None, **params):
    given = {"detect": {"type": type_, "params": params}, "timeout": timeout}
    return ask(call, "calling.detect", control_id="d-1", status_url=URL, **given)


def told(call):
    """Type, event and whether there was a beep, of every webhook."""
    shown = [payload(event)["params"] for event in changes(call, "detect")]
    assert all("state" not in params and params["segment_id"] for params in shown)
    details = [params["detect"] for params in shown]
    return [(each["type"], *each["params"].values()) for each in details]


class TestStart:
    def test_it_is_answered_at_once(self, call):
        FarEnd(call, *HUMAN)
        before = call.clock.now()

        assert detect(call, "machine") == {"control_id": "d-1"}

        assert call.clock.now() == before
        assert [control.id for control in call.controls.running("detect")] == ["d-1"]

    def test_the_defaults_are_those_of_rest_and_not_of_the_method(self):
        params = defaults("calling.detect", control_id="d", detect={"type": "machine"})

        assert params.timeout == 30.0
        assert params.detect.params == MachineParams(
            initial_timeout=4.5,
            end_silence_timeout=1.0,
            machine_ready_timeout=None,
            machine_voice_threshold=1.25,
            machine_words_threshold=6,
            detect_interruptions=False,
            detect_message_end=True,
        )

    @pytest.mark.parametrize(
        ("params", "code", "attribute"),
        [
            ({}, "missing_required_parameter", "detect"),
            ({"detect": "machine"}, "not_a_hash", "detect"),
            ({"detect": {}}, "missing_required_parameter", "detect.type"),
            ({"detect": {"type": "human"}}, "invalid_parameter", "detect.type"),
            ({"detect": {"type": 5}}, "not_a_string", "detect.type"),
            ({"detect": {"type": "machine", "params": []}}, "not_a_hash", "detect.params"),
            ({"detect": {"type": "machine"}, "timeout": -1}, "invalid_parameter", "timeout"),
            ({"detect": {"type": "machine"}, "timeout": "30"}, "invalid_parameter", "timeout"),
            ({"detect": {"type": "machine"}, "status_url": "x"}, "not_an_http_url", "status_url"),
        ],
        ids=str,
    )
    def test_refused(self, call, params, code, attribute):
        assert refusal(call, "calling.detect", **params) == (422, code, attribute)

    @pytest.mark.parametrize(
        ("type_", "params", "code"),
        [
            ("machine", {"initial_timeout": -1}, "invalid_parameter"),
            ("machine", {"end_silence_timeout": "1"}, "invalid_parameter"),
            ("machine", {"machine_ready_timeout": -1}, "invalid_parameter"),
            ("machine", {"machine_voice_threshold": -1}, "invalid_parameter"),
            ("machine", {"machine_words_threshold": 1.5}, "invalid_parameter"),
            ("machine", {"detect_interruptions": 1}, "not_a_boolean"),
            ("machine", {"detect_message_end": "no"}, "not_a_boolean"),
            ("fax", {"tone": "Cng"}, "invalid_parameter"),
            ("fax", {"tone": 1100}, "not_a_string"),
            ("fax", {"tone": "either"}, "invalid_parameter"),
            ("digit", {"digits": "1x"}, "invalid_parameter"),
            ("digit", {"digits": 1}, "not_a_string"),
        ],
        ids=str,
    )
    def test_refused_by_type(self, call, type_, params, code):
        (name,) = params
        detect = {"type": type_, "params": params}

        assert refusal(call, "calling.detect", detect=detect) == (422, code, f"detect.params.{name}")

    def test_an_id_that_runs_is_taken(self, call):
        FarEnd(call, *HUMAN)
        detect(call, "machine")

        expected = (422, "value_not_unique", "control_id")
        assert expected == refusal(call, "calling.detect", control_id="d-1", detect={"type": "machine"})

    def test_what_freeswitch_refuses_is_told(self, call):
        call.leg.when("uuid_record", reply="-ERR Cannot record session!")

        with pytest.raises(ApiError, match="Cannot record session") as refused:
            detect(call, "machine")

        assert refused.value.code == "call_update_failed"
        assert told(call) == [("machine", "error")]


class TestMachine:
    @pytest.mark.parametrize(
        ("params", "sounds", "events"),
        [
            pytest.param({}, HUMAN, ["HUMAN", "finished"], id="a-person"),
            pytest.param({}, MACHINE, ["MACHINE", "READY", "finished"], id="a-machine-and-the-end-of-its-greeting"),
            pytest.param({"detect_message_end": False}, MACHINE, ["MACHINE", "finished"], id="a-machine"),
            pytest.param({"initial_timeout": 1}, (), ["UNKNOWN", "finished"], id="nobody"),
            pytest.param(
                {"machine_voice_threshold": 5}, MACHINE, ["HUMAN", "finished"], id="somebody-who-takes-his-time"
            ),
            pytest.param(
                {"machine_ready_timeout": 0.4},
                (*MACHINE, (0.6, None), (2.0, True)),
                ["MACHINE", "READY", "finished"],
                id="ready-is-final",
            ),
            pytest.param(
                {"detect_interruptions": True, "machine_ready_timeout": 0.4},
                (*MACHINE, (0.6, None), (2.0, True)),
                ["MACHINE", "READY", "NOT_READY", "READY", "finished"],
                id="unless-the-greeting-may-go-on",
            ),
        ],
    )
    def test_what_is_told(self, call, params, sounds, events):
        FarEnd(call, *sounds)
        detect(call, "machine", **params)

        call.clock.sleep(31)

        assert told(call) == [("machine", event) for event in events]
        assert {URL} == {event.callback.url for event in changes(call, "detect")}

    def test_a_beep_is_final(self, call):
        FarEnd(call, *MACHINE, (0.6, None), (0.4, 1000.0))
        detect(call, "machine", detect_interruptions=True, machine_ready_timeout=0.4)

        call.clock.sleep(7)

        assert told(call) == [
            ("machine", "MACHINE"),
            ("machine", "READY"),
            ("machine", "READY", True),
            ("machine", "finished"),
        ]

    def test_timeout(self, call):
        FarEnd(call, (60.0, True))
        detect(call, "machine", timeout=5)

        call.clock.sleep(5.2)

        assert told(call) == [("machine", "MACHINE"), ("machine", "finished")]

    def test_the_script_has_nothing_to_do_with_it(self, call):
        FarEnd(call, *HUMAN)
        detect(call, "machine")

        call.clock.sleep(5)

        assert call.vars == {}


class TestFax:
    @pytest.mark.parametrize(
        ("params", "hertz", "events"),
        [
            ({}, 1100.0, ["CNG", "finished"]),
            ({}, 2100.0, ["CED", "finished"]),
            ({"tone": "CNG"}, 1100.0, ["CNG", "finished"]),
            ({"tone": "cng"}, 1100.0, ["CNG", "finished"]),
            ({"tone": "CED"}, 2100.0, ["CED", "finished"]),
            ({"tone": "ced"}, 2100.0, ["CED", "finished"]),
            ({"tone": "CED"}, 1100.0, ["finished"]),
            ({"tone": "CNG"}, 2100.0, ["finished"]),
            ({}, 1000.0, ["finished"]),
        ],
        ids=str,
    )
    def test_tone(self, call, params, hertz, events):
        FarEnd(call, (1.0, None), (0.6, hertz))
        detect(call, "fax", timeout=3, **params)

        call.clock.sleep(4)

        assert told(call) == [("fax", event) for event in events]


class TestDigit:
    @pytest.mark.parametrize(
        ("params", "pressed", "events"),
        [
            ({}, "7", ["7", "finished"]),
            ({"digits": ""}, "*", ["*", "finished"]),
            ({"digits": "12"}, "32", ["2", "finished"]),
            ({"digits": "a"}, "A", ["A", "finished"]),
            ({"digits": "#*"}, "12", []),
        ],
        ids=str,
    )
    def test_the_first_that_counts_is_the_end(self, call, params, pressed, events):
        detect(call, "digit", **params)

        for digit in pressed:
            call.leg.happen(facts.Digit(digit))

        assert told(call) == [("digit", event) for event in events]

    def test_nothing_is_recorded_for_it(self, call):
        detect(call, "digit")

        assert call.leg.sent == []

    @pytest.mark.parametrize(("given", "seconds"), [({}, 30.0), ({"timeout": 2}, 2.0)], ids=["default", "given"])
    def test_timeout(self, call, given, seconds):
        detect(call, "digit", **given)

        call.clock.sleep(seconds - 0.1)
        assert told(call) == []
        call.clock.sleep(0.2)

        assert told(call) == [("digit", "finished")]

    def test_after_the_end_nothing_counts(self, call):
        detect(call, "digit")
        ask(call, "calling.detect.stop", control_id="d-1")

        call.leg.happen(facts.Digit("1"))

        assert told(call) == [("digit", "finished")]


class TestStop:
    @pytest.mark.parametrize("type_", ["machine", "fax", "digit"])
    def test_it_is_finished(self, call, type_):
        FarEnd(call, (60.0, False))
        detect(call, type_)

        assert ask(call, "calling.detect.stop", control_id="d-1") == {}
        assert ask(call, "calling.detect.stop", control_id="d-1") == {}

        assert told(call) == [(type_, "finished")]
        assert call.controls.running() == []

    @pytest.mark.parametrize("type_", ["machine", "fax", "digit"])
    def test_so_it_is_by_the_end_of_the_call(self, call, type_):
        FarEnd(call, (60.0, False))
        detect(call, type_)
        call.leg.happen(facts.HungUp("NORMAL_CLEARING"))

        (control,) = call.controls.running()
        control.abandon()

        assert told(call) == [(type_, "finished")]

    def test_unknown_and_missing_ids(self, call):
        name = "calling.detect.stop"

        assert refusal(call, name, control_id="x") == (422, "provided_id_is_unrecognized", "control_id")
        assert refusal(call, name) == (422, "missing_required_parameter", "control_id")
