"""calling.collect and its verbs, laid out by their reference page (calling-api 4.3, webhooks 3.6)."""

import pytest
import structlog

from fsctl.errors import CommandFailed, LegGone
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Application
from fsctl.freeswitch.speech import Recogniser
from fsctl.methods import prompt as prompting
from fsctl.methods.prompt import prompt
from fsctl.webhooks.payloads import payload
from tests.fakes.call import changes, make_call
from tests.methods.commanding import ask, defaults, refusal
from tests.methods.running import run
from tests.methods.test_prompt import ATTACHED

URL = "https://hooks.example/c"


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


@pytest.fixture
def speaking(call):
    """A call of a FreeSWITCH that has a recogniser."""
    object.__setattr__(call.services, "recogniser", Recogniser("vosk", "default"))
    call.leg.when("uuid_buglist", reply=ATTACHED)
    return call


def collect(call, **params):
    return ask(call, "calling.collect", control_id="c-1", status_url=URL, **params)


def press(call, keys):
    for key in keys:
        call.leg.happen(facts.Digit(key))


def hear(call, kind, result=""):
    """FreeSWITCH says everything about speech twice."""
    call.leg.happen(facts.Speech(kind, result))
    call.clock.sleep(0.02)
    call.leg.happen(facts.Speech(kind, result))


def told(call):
    """What the webhooks show beyond the address: state, final, and the result in short."""
    rows = []
    for event in changes(call, "collect"):
        params = payload(event)["params"]
        result = params["result"]
        row = {key: params[key] for key in ("state", "final") if key in params}
        rows.append((result["type"], *result.get("params", {}).values(), row))
    return rows


class TestStart:
    def test_it_is_answered_at_once_and_nothing_plays_or_stops(self, call):
        before = call.clock.now()

        assert collect(call, digits={"max": 1}) == {"control_id": "c-1"}

        assert call.clock.now() == before
        assert call.leg.sent == []
        assert changes(call, "collect") == []

    def test_defaults(self):
        params = defaults("calling.collect", control_id="c", digits={"max": 4}, speech={})

        assert (params.initial_timeout, params.digits.digit_timeout, params.digits.terminators) == (5.0, 5.0, "")
        assert (params.speech.end_silence_timeout, params.speech.speech_timeout) == (1.0, 60.0)
        assert params.speech.language == "en-US"
        flags = (params.continuous, params.partial_results, params.send_start_of_input, params.start_input_timers)
        assert flags == (False, False, False, False)

    @pytest.mark.parametrize("params", [{}, {"digits": None}, {"digits": None, "speech": None}], ids=str)
    def test_nothing_to_collect_is_a_bad_request(self, call, params):
        assert refusal(call, "calling.collect", **params) == (400, "bad_request", None)

    @pytest.mark.parametrize(
        ("params", "code", "attribute"),
        [
            ({"digits": {}}, "missing_required_parameter", "digits.max"),
            ({"digits": {"max": 0}}, "invalid_parameter", "digits.max"),
            ({"digits": {"max": 1.5}}, "invalid_parameter", "digits.max"),
            ({"digits": {"max": "4"}}, "invalid_parameter", "digits.max"),
            ({"digits": [4]}, "not_a_hash", "digits"),
            ({"digits": {"max": 1, "terminators": "x"}}, "invalid_parameter", "digits.terminators"),
            ({"digits": {"max": 1, "terminators": 1}}, "not_a_string", "digits.terminators"),
            ({"digits": {"max": 1, "digit_timeout": 0}}, "invalid_parameter", "digits.digit_timeout"),
            ({"digits": {"max": 1, "digit_timeout": -1}}, "invalid_parameter", "digits.digit_timeout"),
            ({"digits": {"max": 1}, "initial_timeout": 0}, "invalid_parameter", "initial_timeout"),
            ({"digits": {"max": 1}, "initial_timeout": "5"}, "invalid_parameter", "initial_timeout"),
            ({"digits": {"max": 1}, "continuous": 1}, "not_a_boolean", "continuous"),
            ({"digits": {"max": 1}, "partial_results": "yes"}, "not_a_boolean", "partial_results"),
            ({"digits": {"max": 1}, "send_start_of_input": 0}, "not_a_boolean", "send_start_of_input"),
            ({"digits": {"max": 1}, "start_input_timers": []}, "not_a_boolean", "start_input_timers"),
            ({"digits": {"max": 1}, "status_url": "wss://x/"}, "not_an_http_url", "status_url"),
            ({"speech": "yes"}, "not_a_hash", "speech"),
            ({"speech": {"end_silence_timeout": 0}}, "invalid_parameter", "speech.end_silence_timeout"),
            ({"speech": {"speech_timeout": 0}}, "invalid_parameter", "speech.speech_timeout"),
            ({"speech": {"language": "a b"}}, "invalid_parameter", "speech.language"),
            ({"speech": {"language": "de,result=yes"}}, "invalid_parameter", "speech.language"),
            ({"speech": {"engine": "google"}}, "invalid_parameter", "speech.engine"),
            ({"speech": {"hints": [1]}}, "not_a_string", "speech.hints.0"),
            ({"speech": {"model": 3}}, "not_a_string", "speech.model"),
        ],
        ids=str,
    )
    def test_refused(self, speaking, params, code, attribute):
        assert refusal(speaking, "calling.collect", **params) == (422, code, attribute)

    def test_an_id_that_runs_is_taken(self, call):
        collect(call, digits={"max": 1})

        expected = (422, "value_not_unique", "control_id")
        assert expected == refusal(call, "calling.collect", control_id="c-1", digits={"max": 1})


class TestDigits:
    @pytest.mark.parametrize(
        ("digits", "keys", "result"),
        [
            pytest.param({"max": 4}, "12345", ("1234", ""), id="max"),
            pytest.param({"max": 9, "terminators": "#"}, "12#", ("12", "#"), id="terminator"),
            pytest.param({"max": 9, "terminators": "a"}, "1A", ("1", "A"), id="either-case"),
            pytest.param({"max": 9, "terminators": ""}, "1#*345678", ("1#*345678", ""), id="none"),
            pytest.param({"max": 9, "terminators": "#"}, "#", ("", "#"), id="at-once"),
        ],
    )
    def test_what_ends_them(self, call, digits, keys, result):
        collect(call, digits=digits)

        press(call, keys)

        assert told(call) == [("digit", *result, {})]
        assert call.controls.running() == []

    @pytest.mark.parametrize(("given", "seconds"), [({}, 5.0), ({"digit_timeout": 1.5}, 1.5)], ids=["default", "given"])
    def test_digit_timeout_counts_from_the_last_one(self, call, given, seconds):
        collect(call, digits={"max": 4, **given})
        press(call, "1")
        call.clock.sleep(1.0)
        press(call, "2")

        call.clock.sleep(seconds - 0.1)
        assert told(call) == []
        call.clock.sleep(0.2)

        assert told(call) == [("digit", "12", "", {})]

    def test_the_script_has_nothing_to_do_with_it(self, call):
        collect(call, digits={"max": 1})
        press(call, "1")

        assert call.vars == {}

    def test_a_prompt_and_two_collections_hear_the_same_keys(self, call):
        call.leg.when("playback", lasts=10.0)
        collect(call, digits={"max": 2})
        ask(call, "calling.collect", control_id="c-2", digits={"max": 1})
        for at, key in ((1.0, "4"), (1.5, "2")):
            call.leg.at(at, facts.Digit(key))

        run(call, prompt, play="silence:10", max_digits=2)

        assert call.vars["prompt_value"] == "42"
        results = {event.control_id: event.detail["result"]["params"]["digits"] for event in changes(call, "collect")}
        assert sorted(results.values()) == ["4", "42", "42"]
        assert (results["c-1"], results["c-2"]) == ("42", "4")


class TestTimers:
    def test_initial_timeout_does_not_run_by_itself(self, call):
        collect(call, digits={"max": 1}, initial_timeout=2)

        call.clock.sleep(3600)

        assert told(call) == []

    @pytest.mark.parametrize(("given", "seconds"), [({}, 5.0), ({"initial_timeout": 2}, 2.0)], ids=["default", "given"])
    @pytest.mark.parametrize("how", ["flag", "command"])
    def test_it_runs_from_the_flag_or_the_command(self, call, how, given, seconds):
        collect(call, digits={"max": 1}, start_input_timers=how == "flag", **given)
        if how == "command":
            call.clock.sleep(100)
            assert ask(call, "calling.collect.start_input_timers", control_id="c-1") == {}

        call.clock.sleep(seconds - 0.1)
        assert told(call) == []
        call.clock.sleep(0.2)

        assert told(call) == [("no_input", {})]

    def test_input_in_time_ends_it(self, call):
        collect(call, digits={"max": 2}, initial_timeout=2, start_input_timers=True)
        press(call, "1")

        call.clock.sleep(3)
        press(call, "2")

        assert told(call) == [("digit", "12", "", {})]

    def test_the_command_changes_nothing_once_there_is_input(self, call):
        collect(call, digits={"max": 2}, initial_timeout=1)
        press(call, "1")

        ask(call, "calling.collect.start_input_timers", control_id="c-1")
        call.clock.sleep(2)

        assert told(call) == []

    def test_unknown_and_missing_ids(self, call):
        name = "calling.collect.start_input_timers"

        assert refusal(call, name, control_id="x") == (422, "provided_id_is_unrecognized", "control_id")
        assert refusal(call, name) == (422, "missing_required_parameter", "control_id")


class TestEvents:
    """``state`` with continuous, ``final`` with partial_results, neither otherwise."""

    def test_partial_results_tell_every_key(self, call):
        collect(call, digits={"max": 3}, partial_results=True)

        press(call, "123")

        assert told(call) == [
            ("digit", "1", "", {"final": False}),
            ("digit", "12", "", {"final": False}),
            ("digit", "123", "", {"final": True}),
        ]

    def test_start_of_input_comes_once_and_first(self, call):
        collect(call, digits={"max": 2}, send_start_of_input=True)

        press(call, "12")

        assert told(call) == [("start_of_input", {}), ("digit", "12", "", {})]

    def test_continuous_goes_on_until_it_is_stopped(self, call):
        collect(call, digits={"max": 2, "terminators": "#"}, continuous=True, send_start_of_input=True)

        press(call, "12")
        press(call, "3#")
        assert ask(call, "calling.collect.stop", control_id="c-1") == {}
        press(call, "4")

        collecting = {"state": "collecting"}
        assert told(call) == [
            ("start_of_input", collecting),
            ("digit", "12", "", collecting),
            ("start_of_input", collecting),
            ("digit", "3", "#", collecting),
            ("finished", {"state": "finished"}),
        ]

    def test_continuous_with_partial_results(self, call):
        collect(call, digits={"max": 2}, continuous=True, partial_results=True)

        press(call, "12")
        ask(call, "calling.collect.stop", control_id="c-1")

        assert told(call) == [
            ("digit", "1", "", {"state": "collecting", "final": False}),
            ("digit", "12", "", {"state": "collecting", "final": True}),
            ("finished", {"state": "finished", "final": True}),
        ]

    def test_continuous_times_every_round(self, call):
        collect(call, digits={"max": 1}, continuous=True, start_input_timers=True, initial_timeout=2)

        call.clock.sleep(1)
        press(call, "1")
        call.clock.sleep(4.1)

        assert [row[0] for row in told(call)] == ["digit", "no_input", "no_input"]

    def test_continuous_without_timers_waits_for_ever(self, call):
        collect(call, digits={"max": 1}, continuous=True)
        press(call, "1")

        call.clock.sleep(3600)

        assert [row[0] for row in told(call)] == ["digit"]

    def test_they_go_to_the_url(self, call):
        collect(call, digits={"max": 1})
        press(call, "1")

        assert {URL} == {event.callback.url for event in changes(call, "collect")}


class TestStop:
    def test_before_any_input(self, call):
        collect(call, digits={"max": 1})

        ask(call, "calling.collect.stop", control_id="c-1")
        press(call, "1")

        assert told(call) == [("finished", {})]

    def test_too_late_is_no_error(self, call):
        collect(call, digits={"max": 1})
        press(call, "1")

        assert ask(call, "calling.collect.stop", control_id="c-1") == {}
        assert len(told(call)) == 1

    def test_of_a_scripts_prompt(self, call):
        call.leg.when("playback", lasts=30.0)
        call.clock.later(
            2.0, lambda: ask(call, "calling.collect.stop", control_id=call.controls.running("collect")[0].id)
        )
        start = call.clock.now()

        run(call, prompt, play="silence:30")

        assert call.clock.now() == start + 2.0
        assert call.vars["prompt_result"] == "failed"

    def test_unknown_and_missing_ids(self, call):
        name = "calling.collect.stop"

        assert refusal(call, name, control_id="x") == (422, "provided_id_is_unrecognized", "control_id")
        assert refusal(call, name) == (422, "missing_required_parameter", "control_id")

    def test_a_hangup_is_an_end(self, call):
        collect(call, digits={"max": 1}, continuous=True)
        call.leg.happen(facts.HungUp("NORMAL_CLEARING"))

        (control,) = call.controls.running()
        control.abandon()

        assert told(call) == [("finished", {"state": "finished"})]


class TestSpeech:
    def test_it_is_understood(self, speaking):
        collect(speaking, speech={})

        hear(speaking, "begin-speaking")
        hear(speaking, "detected-speech", '{"text": "yes please", "confidence": 0.95}')

        assert told(speaking) == [("speech", "yes please", 0.95, {})]
        start, stop = speaking.leg.applications()
        assert start.argument.startswith("vosk {")
        assert stop == Application("detect_speech", "stop")
        assert speaking.interactions == 1

    @pytest.mark.parametrize(
        ("rules", "setting"),
        [
            ({"end_silence_timeout": 0.5}, "speech-complete-timeout=500"),
            ({"speech_timeout": 7}, "recognition-timeout=7000"),
            ({"language": "de-DE"}, "speech-language=de-DE"),
            ({"language": "Deepgram:en-GB"}, "speech-language=en-GB"),
            ({}, "speech-language=en-US"),
        ],
        ids=str,
    )
    def test_what_the_recogniser_is_told(self, speaking, rules, setting):
        collect(speaking, speech=rules)

        (start,) = speaking.leg.applications("detect_speech")
        assert setting in start.argument.partition("{")[2].partition("}")[0].split(",")

    @pytest.mark.parametrize("engine", ["Google", "Google.V2", "Deepgram"])
    def test_engines_hints_and_models_are_taken_and_said_to_be_of_no_use_once(self, speaking, engine):
        prompting._note_recogniser.cache_clear()
        with structlog.testing.capture_logs() as lines:
            for number in range(2):
                ask(
                    speaking,
                    "calling.collect",
                    control_id=f"c-{number}",
                    speech={"engine": engine, "hints": ["yes"], "model": "nova-3"},
                    digits={"max": 1},
                )

        assert [line["event"] for line in lines].count("recogniser_as_it_is") == 1
        assert speaking.leg.applications("detect_speech")[0].argument.startswith("vosk ")

    def test_the_answer_does_not_wait_for_the_recogniser(self, speaking):
        """FreeSWITCH starts it when what plays is over."""
        later = []
        speaking.leg.background = later.append

        collect(speaking, speech={})

        assert speaking.leg.applications() == []
        speaking.leg.when("detect_speech", lasts=600.0)
        later[0]()
        hear(speaking, "detected-speech", "yes")
        assert told(speaking) == [("speech", "yes", 0.0, {})]

    def test_one_that_is_stopped_before_the_recogniser_listens_stops_it_afterwards(self, speaking):
        later = []
        speaking.leg.background = later.append
        collect(speaking, speech={})
        ask(speaking, "calling.collect.stop", control_id="c-1")

        for what in later:
            what()

        assert [application.argument[:5] for application in speaking.leg.applications()] == ["vosk ", "stop"]
        assert told(speaking) == [("finished", {})]

    def test_no_match(self, speaking):
        collect(speaking, speech={})
        hear(speaking, "begin-speaking")
        hear(speaking, "detected-speech", '{"text": ""}')

        assert told(speaking) == [("no_match", {})]

    def test_speech_timeout_is_no_match(self, speaking):
        collect(speaking, speech={"speech_timeout": 6})
        hear(speaking, "begin-speaking")

        speaking.clock.sleep(6.1)

        assert told(speaking) == [("no_match", {})]

    def test_who_speaks_is_not_timed_out(self, speaking):
        collect(speaking, speech={}, initial_timeout=1, start_input_timers=True)
        hear(speaking, "begin-speaking")
        speaking.clock.sleep(3)

        hear(speaking, "detected-speech", "a long story")

        assert told(speaking) == [("speech", "a long story", 0.0, {})]

    def test_partial_speech_is_told_where_there_is_any(self, speaking):
        collect(speaking, speech={}, partial_results=True, send_start_of_input=True)

        hear(speaking, "detected-partial-speech", '{"text": "one"}')
        hear(speaking, "detected-partial-speech", '{"text": ""}')
        hear(speaking, "detected-partial-speech", '{"text": "one two"}')
        hear(speaking, "detected-speech", '{"text": "one two"}')

        assert told(speaking) == [
            ("start_of_input", {"final": False}),
            ("speech", "one", 0.0, {"final": False}),
            ("speech", "one two", 0.0, {"final": False}),
            ("speech", "one two", 0.0, {"final": True}),
        ]

    def test_without_partial_results_none_is_told(self, speaking):
        collect(speaking, speech={})

        hear(speaking, "detected-partial-speech", '{"text": "one"}')

        assert told(speaking) == []

    def test_continuous_listens_again_after_each_result(self, speaking):
        collect(speaking, speech={}, continuous=True)

        for words in ("one", "two"):
            hear(speaking, "begin-speaking")
            hear(speaking, "detected-speech", words)
            speaking.clock.sleep(1)

        assert [row[:2] for row in told(speaking)] == [("speech", "one"), ("speech", "two")]
        assert len(speaking.leg.applications("detect_speech")) == 3

    def test_the_same_words_may_be_said_again(self, speaking):
        collect(speaking, speech={}, continuous=True)

        for _ in range(2):
            hear(speaking, "detected-speech", "next")
            speaking.clock.sleep(1)

        assert [row[:2] for row in told(speaking)] == [("speech", "next")] * 2

    def test_digits_or_speech_whatever_comes_first(self, speaking):
        collect(speaking, digits={"max": 2}, speech={})

        press(speaking, "1")
        hear(speaking, "detected-speech", "never")
        press(speaking, "2")

        assert told(speaking) == [("digit", "12", "", {})]

    def test_a_second_one_finds_the_recogniser_taken(self, speaking):
        collect(speaking, speech={})

        refused = refusal(speaking, "calling.collect", control_id="c-2", speech={})

        assert refused == (422, "call_update_failed", None)
        assert [row[0] for row in told(speaking)] == ["error"]

    def test_it_is_free_again_afterwards(self, speaking):
        collect(speaking, speech={})
        hear(speaking, "detected-speech", "one")

        collect(speaking, speech={})
        hear(speaking, "detected-speech", "two")

        assert [row[:2] for row in told(speaking)] == [("speech", "one"), ("speech", "two")]

    @pytest.mark.parametrize(
        "breaks",
        [
            pytest.param(lambda call: call.leg.when("detect_speech", reply="-ERR no"), id="refused"),
            pytest.param(lambda call: call.leg.when("uuid_buglist", reply="<media-bugs/>"), id="not-attached"),
        ],
    )
    def test_a_recogniser_that_does_not_start_is_an_error(self, speaking, breaks):
        breaks(speaking)

        collect(speaking, speech={})

        assert told(speaking) == [("error", {})]

    def test_with_digits_too_they_are_taken_all_the_same(self, speaking):
        speaking.leg.when("uuid_buglist", reply="<media-bugs/>")

        collect(speaking, speech={}, digits={"max": 1})
        press(speaking, "4")

        assert told(speaking) == [("digit", "4", "", {})]

    def test_a_recogniser_that_gives_up_is_an_error(self, speaking):
        collect(speaking, speech={}, continuous=True)

        hear(speaking, "closed")

        assert told(speaking) == [("error", {"state": "error"})]

    def test_a_hangup_while_it_waits_for_its_turn_is_no_error(self, speaking):
        def background(what):
            with pytest.raises(LegGone):
                what()

        speaking.leg.background = background
        speaking.leg.when("detect_speech", then=lambda _: speaking.leg.happen(facts.HungUp("NORMAL_CLEARING")))

        collect(speaking, speech={})

        assert told(speaking) == []
        assert len(speaking.controls.running("collect")) == 1


class TestWithoutRecogniser:
    def test_speech_alone_is_refused(self, call):
        assert refusal(call, "calling.collect", speech={}) == (422, "feature_not_available", "speech")

    def test_with_digits_too_they_are_taken(self, call):
        collect(call, speech={}, digits={"max": 1})
        press(call, "4")

        assert told(call) == [("digit", "4", "", {})]

    def test_a_thrown_out_start_is_an_error(self, speaking):
        """Somebody sent the call elsewhere, which empties the channel's queue."""

        def thrown_out(*_):
            raise CommandFailed("execute", "it was thrown out of the channel's queue")

        speaking.leg.execute = thrown_out

        collect(speaking, speech={})

        assert told(speaking) == [("error", {})]
