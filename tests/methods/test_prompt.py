"""prompt, laid out by its reference page (swml-calling 3.4, webhooks 3.6)."""

import pytest

from fsctl.errors import FetchError, LegGone, ScriptError
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Application
from fsctl.freeswitch.speech import Recogniser
from fsctl.methods.prompt import Collection, prompt
from fsctl.swml.document import Where
from tests.fakes.call import changes, make_call, warnings
from tests.methods.running import make, run

ATTACHED = "<media-bugs>\n <media-bug>\n  <function>detect_speech</function>\n </media-bug>\n</media-bugs>\n"


@pytest.fixture
def call(tmp_path):
    """A call on which every sound lasts three seconds."""
    call = make_call(tmp_path)
    call.leg.when("playback", lasts=3.0)
    call.leg.when("speak", lasts=3.0)
    call.started = call.clock.now()
    return call


def press(call, keys, *, at=4.0, every=0.5):
    for index, key in enumerate(keys):
        call.leg.at(at + index * every, facts.Digit(key))


def took(call):
    return pytest.approx(call.clock.now() - call.started, abs=0.001)


def results(call):
    return [event.detail["result"] for event in changes(call, "collect")]


class TestPlay:
    def test_one_sound(self, call):
        run(call, prompt, play="say:Press one.")

        assert [Application("speak", "flite|slt|Press one.")] == call.leg.applications()

    def test_several_in_order(self, call):
        run(call, prompt, play=["say:Press one.", "silence:2"])

        assert [application.name for application in call.leg.applications()] == ["speak", "playback"]

    def test_it_is_required(self):
        with pytest.raises(ScriptError, match="`play` is missing"):
            make(prompt)

    @pytest.mark.parametrize("value", [[], "hello", ["say:a", "ftp://x/y"]], ids=["empty", "no-sound", "one-is-none"])
    def test_what_is_no_sound_is_refused(self, value):
        with pytest.raises(ScriptError, match="play"):
            make(prompt, play=value)

    def test_a_sound_that_cannot_be_had_is_skipped(self, call):
        url = "https://a.example/gone.wav"
        call.services.files.failing[url] = FetchError(url, "status", "HTTP 404")
        press(call, "7")

        run(call, prompt, play=[url, "say:hi"])

        assert warnings(call) == [f"prompt: {url}: HTTP 404"]
        assert call.vars["prompt_value"] == "7"

    def test_an_unanswered_call_is_answered(self, tmp_path):
        call = make_call(tmp_path, answered=False)

        run(call, prompt, play="silence:1")

        assert [command.name for command in call.leg.sent] == ["uuid_answer", "playback"]


class TestVolumeAndVoice:
    def test_they_are_those_of_play(self, call):
        run(call, prompt, play=["https://a.example/x.wav", "say:hi"], volume=-8, say_voice="Polly.Joey")

        assert call.services.files.asked == [("https://a.example/x.wav", -8.0)]
        assert call.services.voices.asked == ("Polly.Joey", "en-US", "female")
        levels = [api.argument.split(" ", 1)[1] for api in call.leg.apis("uuid_audio")]
        assert levels == ["start write level -3", "stop"]

    def test_the_scripts_own_defaults_count(self, call):
        call.vars.update(say_language="de-DE", say_gender="male")

        run(call, prompt, play="say:hallo")

        assert call.services.voices.asked == (None, "de-DE", "male")

    @pytest.mark.parametrize("volume", [-41, 41])
    def test_limits(self, volume):
        with pytest.raises(ScriptError, match="volume"):
            make(prompt, play="say:a", volume=volume)


class TestMaxDigits:
    def test_default_is_one(self, call):
        press(call, "12")

        run(call, prompt, play="silence:3")

        assert call.vars["prompt_value"] == "1"
        assert took(call) == 4.0

    def test_the_last_one_ends_it(self, call):
        press(call, "12345")

        run(call, prompt, play="silence:3", max_digits=4)

        assert call.vars["prompt_value"] == "1234"
        assert took(call) == 5.5

    def test_there_is_at_least_one(self):
        with pytest.raises(ScriptError, match="max_digits"):
            make(prompt, play="say:a", max_digits=0)

    def test_a_placeholder_may_give_it(self):
        params = prompt.shape.read({"play": "silence:3", "max_digits": "2"}, Where("main", (0,), None, None))

        assert params.max_digits == 2
        assert "max_digits" in params.written


class TestTerminators:
    @pytest.mark.parametrize(
        ("terminators", "keys", "value", "terminator"),
        [
            pytest.param("#", "12#", "12", "#", id="one"),
            pytest.param("*#5", "345", "34", "5", id="a-digit-is-one"),
            pytest.param("*#5", "34*", "34", "*", id="another"),
            pytest.param("#", "#", "", "#", id="at-once"),
            pytest.param("a", "1A", "1", "A", id="either-case"),
        ],
    )
    def test_each_ends_it_and_is_no_part_of_the_value(self, call, terminators, keys, value, terminator):
        press(call, keys)

        run(call, prompt, play="silence:3", max_digits=10, terminators=terminators)

        assert call.vars["prompt_result"] == "match_digits"
        assert (call.vars["prompt_value"], call.vars["prompt_digit_terminator"]) == (value, terminator)
        assert took(call) == 4.0 + 0.5 * (len(keys) - 1)

    def test_default_is_none(self, call):
        press(call, "1#*")

        run(call, prompt, play="silence:3", max_digits=3)

        assert (call.vars["prompt_value"], call.vars["prompt_digit_terminator"]) == ("1#*", "")

    def test_others_are_refused(self):
        with pytest.raises(ScriptError, match="terminators"):
            make(prompt, play="say:a", terminators="#x")


class TestDigitTimeout:
    @pytest.mark.parametrize(("given", "seconds"), [({}, 5.0), ({"digit_timeout": 1.5}, 1.5)], ids=["default", "given"])
    def test_it_counts_from_the_last_digit(self, call, given, seconds):
        press(call, "12", every=1.0)

        run(call, prompt, play="silence:3", max_digits=4, **given)

        assert (call.vars["prompt_result"], call.vars["prompt_value"]) == ("match_digits", "12")
        assert took(call) == 5.0 + seconds


class TestInitialTimeout:
    @pytest.mark.parametrize(("given", "seconds"), [({}, 5.0), ({"initial_timeout": 2}, 2.0)], ids=["default", "given"])
    def test_it_counts_from_the_end_of_the_playback(self, call, given, seconds):
        run(call, prompt, play="silence:3", **given)

        assert call.vars["prompt_result"] == "no_input"
        assert took(call) == 3.0 + seconds
        assert "prompt_value" not in call.vars

    def test_a_digit_in_time_ends_it(self, call):
        press(call, "1", at=4.9)

        run(call, prompt, play="silence:3", initial_timeout=2.0, max_digits=2, digit_timeout=3.0)

        assert call.vars["prompt_result"] == "match_digits"
        assert took(call) == 7.9

    @pytest.mark.parametrize("name", ["initial_timeout", "digit_timeout", "speech_timeout", "speech_end_timeout"])
    def test_negative_is_refused(self, name):
        with pytest.raises(ScriptError, match=name):
            make(prompt, play="say:a", **{name: -1})


class TestBargeIn:
    def test_the_first_digit_stops_the_playback_and_counts(self, call):
        press(call, "12", at=1.0)

        run(call, prompt, play=["silence:3", "say:never heard"], max_digits=2)

        assert call.vars["prompt_value"] == "12"
        assert [application.name for application in call.leg.applications()] == ["playback"]
        assert len(call.leg.apis("uuid_break")) == 1
        assert took(call) == 1.5

    def test_a_break_before_the_sound_has_begun_is_repeated(self, call):
        """FreeSWITCH answers +OK to a break that has nothing to break, and then plays."""
        call.leg.begins_after = 0.25
        call.leg.when("playback", lasts=30.0)
        press(call, "1", at=0.01)

        run(call, prompt, play="silence:30")

        assert call.vars["prompt_value"] == "1"
        assert len(call.leg.apis("uuid_break")) == 4
        assert took(call) == 0.31

    def test_between_two_sounds_the_second_is_not_played(self, call):
        call.leg.when("playback", then=lambda _: call.leg.happen(facts.Digit("1")))

        run(call, prompt, play=["silence:3", "silence:3"], max_digits=2, digit_timeout=1.0)

        assert len(call.leg.applications("playback")) == 1
        assert call.vars["prompt_value"] == "1"

    def test_the_time_for_the_first_digit_does_not_run_any_more(self, call):
        press(call, "1", at=1.0)

        run(call, prompt, play="silence:3", max_digits=2, initial_timeout=0.5, digit_timeout=4.0)

        assert call.vars["prompt_result"] == "match_digits"
        assert took(call) == 5.0

    def test_nothing_is_broken_off_without_a_digit(self, call):
        run(call, prompt, play="silence:3")

        assert call.leg.apis("uuid_break") == []

    def test_after_the_playback_there_is_nothing_to_break(self, call):
        press(call, "1", at=3.5)

        run(call, prompt, play="silence:3")

        assert call.leg.apis("uuid_break") == []


class TestInputMode:
    @pytest.mark.parametrize(
        ("written", "digits", "speech"),
        [
            pytest.param({}, True, False, id="default"),
            pytest.param({"max_digits": 1}, True, False, id="digits"),
            pytest.param({"speech_engine": "Deepgram"}, True, False, id="an-engine-enables-nothing"),
            pytest.param({"speech_timeout": 5}, False, True, id="speech_timeout"),
            pytest.param({"speech_end_timeout": 1}, False, True, id="speech_end_timeout"),
            pytest.param({"speech_language": "de-DE"}, False, True, id="speech_language"),
            pytest.param({"speech_hints": ["yes"]}, False, True, id="speech_hints"),
            pytest.param({"speech_hints": ["yes"], "max_digits": 1}, True, True, id="both-by-max_digits"),
            pytest.param({"speech_timeout": 5, "terminators": "#"}, True, True, id="both-by-terminators"),
            pytest.param({"speech_timeout": 5, "digit_timeout": 5}, True, True, id="both-by-digit_timeout"),
            pytest.param({"speech_timeout": 5, "initial_timeout": 5}, True, True, id="both-by-initial_timeout"),
            pytest.param({"speech_timeout": 5, "volume": 1}, False, True, id="others-enable-nothing"),
            pytest.param({"speech_timeout": None, "max_digits": 1}, True, False, id="null-is-not-written"),
        ],
    )
    def test_it_follows_from_what_is_written(self, written, digits, speech):
        wish = Collection.of(make(prompt, play="say:a", **written))

        assert (digits, speech) == (wish.digits is not None, wish.speech is not None)


class TestSpeech:
    @pytest.fixture
    def call(self, call):
        """With a recogniser that FreeSWITCH can start."""
        object.__setattr__(call.services, "recogniser", Recogniser("vosk", "default"))
        call.leg.when("uuid_buglist", reply=ATTACHED)
        return call

    def say(self, call, result, *, at=4.0, length=1.0):
        call.leg.at(at, facts.Speech("begin-speaking", ""))
        call.leg.at(at + 0.02, facts.Speech("begin-speaking", ""))
        call.leg.at(at + length, facts.Speech("detected-speech", result))
        call.leg.at(at + length + 0.02, facts.Speech("detected-speech", result))

    def test_it_is_understood(self, call):
        self.say(call, '{"text": "yes please", "confidence": 0.95}')

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "match_speech"
        assert call.vars["prompt_value"] == call.vars["prompt_value_raw"] == "yes please"
        assert call.vars["prompt_speech_confidence"] == 0.95
        assert "prompt_digit_terminator" not in call.vars
        assert results(call) == [{"type": "speech", "params": {"text": "yes please", "confidence": 0.95}}]
        assert call.interactions == 1

    def test_the_recogniser_runs_from_the_beginning_and_is_stopped(self, call):
        self.say(call, "yes")

        run(call, prompt, play="silence:3", speech_timeout=7, speech_end_timeout=0.5, speech_language="Deepgram:de-DE")

        start, _, stop = call.leg.applications()
        assert stop == Application("detect_speech", "stop")
        engine, settings = start.argument.split(" ", 1)
        assert engine == "vosk"
        assert settings.endswith("}default fsctl")
        assert {
            "start-input-timers=false",
            "speech-language=de-DE",
            "recognition-timeout=7000",
            "speech-timeout=7000",
            "speech-complete-timeout=500",
            "speech-incomplete-timeout=500",
        } == set(settings.partition("}")[0].removeprefix("{").split(","))
        assert "uuid_setvar_multi" in [api.name for api in call.leg.apis()]
        assert any("DETECTED_SPEECH" in getattr(command, "line", "") for command in call.leg.sent)

    def test_speaking_stops_the_playback(self, call):
        self.say(call, "yes", at=1.0)

        run(call, prompt, play=["silence:3", "silence:3"], speech_timeout=10)

        assert len(call.leg.applications("playback")) == 1
        assert took(call) == 2.0

    def test_no_speech_is_no_input(self, call):
        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "no_input"
        assert took(call) == 8.0

    def test_who_speaks_is_not_timed_out(self, call):
        self.say(call, "a long story", at=7.9, length=9.0)

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "match_speech"

    @pytest.mark.parametrize(
        ("result", "outcome"),
        [
            pytest.param('{"text": ""}', "no_match", id="not-understood"),
            pytest.param('{"text": "", "error": "no_input"}', "no_match", id="heard-but-nothing-said"),
        ],
    )
    def test_what_is_not_understood(self, call, result, outcome):
        self.say(call, result)

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert outcome == call.vars["prompt_result"]
        assert [{"type": outcome}] == results(call)

    def test_a_recogniser_that_takes_too_long_is_no_match(self, call):
        call.leg.at(4.0, facts.Speech("begin-speaking", ""))

        run(call, prompt, play="silence:3", speech_timeout=6)

        assert call.vars["prompt_result"] == "no_match"
        assert took(call) == 10.0

    def test_with_digits_too_the_first_input_decides(self, call):
        press(call, "12", at=4.0)
        self.say(call, "yes", at=4.2)

        run(call, prompt, play="silence:3", speech_timeout=10, max_digits=2, digit_timeout=2.0)

        assert (call.vars["prompt_result"], call.vars["prompt_value"]) == ("match_digits", "12")
        assert Application("detect_speech", "stop") == call.leg.applications()[-1]

    def test_digits_alone_do_not_count_when_only_speech_is_asked_for(self, call):
        press(call, "1")

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "no_input"

    def test_a_recogniser_that_gives_up_is_a_failure(self, call):
        call.leg.at(4.0, facts.Speech("closed", ""))

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "failed"
        assert results(call) == [{"type": "error"}]
        assert "gave up" in warnings(call)[0]

    def test_one_freeswitch_cannot_start_is_a_failure(self, call):
        call.leg.when("uuid_buglist", reply="<media-bugs>\n</media-bugs>\n")

        run(call, prompt, play="silence:3", speech_timeout=10)

        assert call.vars["prompt_result"] == "failed"
        assert "vosk" in str(call.failure)
        assert call.leg.applications("playback") == []

    @pytest.mark.parametrize("language", ["de,result=yes", "}x", "a b", ""])
    def test_a_language_cannot_smuggle_settings_in(self, call, language):
        run(call, prompt, play="silence:3", speech_language=language)

        assert call.vars["prompt_result"] == "failed"
        assert call.leg.applications("detect_speech") == []


class TestWithoutRecogniser:
    def test_speech_alone_fails_and_says_what_is_missing(self, call):
        run(call, prompt, play="silence:3", speech_timeout=10, status_url="https://hooks.example/p")

        assert call.vars == {"prompt_result": "failed"}
        assert "media.asr_engine" in str(call.failure)
        assert call.leg.applications() == []
        assert results(call) == [{"type": "error"}]

    def test_with_digits_too_they_are_taken(self, call):
        press(call, "4")

        run(call, prompt, play="silence:3", speech_timeout=10, max_digits=1)

        assert (call.vars["prompt_result"], call.vars["prompt_value"]) == ("match_digits", "4")
        assert ["media.asr_engine" in message for message in warnings(call)] == [True]


class TestVariables:
    def test_those_of_an_earlier_prompt_do_not_survive(self, call):
        call.vars.update(
            prompt_value="1",
            prompt_value_raw="1",
            prompt_digit_terminator="#",
            prompt_speech_confidence=0.5,
            other="kept",
        )

        run(call, prompt, play="silence:3")

        assert call.vars == {"prompt_result": "no_input", "other": "kept"}

    def test_of_digits(self, call):
        press(call, "12#")

        run(call, prompt, play="silence:3", max_digits=5, terminators="#")

        assert call.vars == {
            "prompt_result": "match_digits",
            "prompt_value": "12",
            "prompt_value_raw": "12",
            "prompt_digit_terminator": "#",
        }


class TestEvents:
    @pytest.mark.parametrize(
        ("keys", "result"),
        [
            pytest.param("47#", {"type": "digit", "params": {"digits": "47", "terminator": "#"}}, id="terminator"),
            pytest.param("4711", {"type": "digit", "params": {"digits": "4711", "terminator": ""}}, id="none"),
            pytest.param("", {"type": "no_input"}, id="no-input"),
        ],
    )
    def test_one_with_the_result(self, call, keys, result):
        press(call, keys)

        run(call, prompt, play="silence:3", max_digits=4, terminators="#", status_url="https://hooks.example/p")

        (event,) = changes(call, "collect")
        assert result == event.detail["result"]
        assert event.callback.url == "https://hooks.example/p"
        assert event.method == "prompt"

    @pytest.mark.parametrize("at", [1.0, 4.0], ids=["while-playing", "while-waiting"])
    def test_a_hangup_ends_it(self, call, at):
        call.leg.at(at, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, prompt, play="silence:3")
        (control,) = call.controls.running()
        control.abandon()

        assert results(call) == [{"type": "finished"}]

    @pytest.mark.parametrize("at", [1.0, 4.0], ids=["while-playing", "while-waiting"])
    def test_a_stop_from_outside_ends_it(self, call, at):
        def stop():
            (control,) = call.controls.running("collect")
            control.stop()

        call.clock.later(at, stop)

        run(call, prompt, play=["silence:3", "silence:0.5"])

        assert results(call) == [{"type": "finished"}]
        assert took(call) == at
        assert call.vars["prompt_result"] == "failed"

    def test_nothing_reacts_after_the_end(self, call):
        run(call, prompt, play="silence:3")
        told = len(call.told)

        call.leg.happen(facts.Digit("1"))
        call.clock.sleep(60)

        assert told == len(call.told)
