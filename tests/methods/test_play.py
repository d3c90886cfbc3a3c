"""play, laid out by its reference page (swml-calling 3.3, webhooks 3.4)."""

import pytest

from fsctl.errors import CommandFailed, FetchError, LegGone, ScriptError
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Api, Application
from fsctl.methods.play import play
from tests.fakes.call import changes, make_call, states, warnings
from tests.methods.running import make, run


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


class TestSounds:
    def test_an_audio_url_is_played_from_its_local_copy(self, call):
        run(call, play, url="https://a.example/x.mp3")

        assert call.services.files.asked == [("https://a.example/x.mp3", 0.0)]
        assert [Application("playback", "/cache/sound.wav")] == call.leg.applications()

    def test_speech_is_spoken(self, call):
        run(call, play, url="say: Hello, world")

        assert [Application("speak", "flite|slt|Hello, world")] == call.leg.applications()

    def test_hostile_speech_is_only_words(self, call):
        """Expansion is the leg's to prevent; here the words must arrive whole, as one argument after ours."""
        run(call, play, url="say:${system reboot} {a=b}|x, 'y'")

        (application,) = call.leg.applications()
        assert application.argument.startswith("flite|slt|")
        assert "${system reboot}" in application.argument

    def test_silence_lasts_as_long_as_asked(self, call):
        run(call, play, url="silence: 1.5")

        assert [Application("playback", "silence_stream://1500")] == call.leg.applications()

    def test_one_ring_is_one_cadence(self, call):
        run(call, play, url="ring:us")

        (application,) = call.leg.applications()
        assert application.argument.startswith("tone_stream://v=")
        assert application.argument.endswith("%(2000,4000,440,480);loops=1")

    def test_a_long_ring_is_broken_off_in_time(self, call):
        call.leg.when("playback", lasts=90.0, then=None)

        run(call, play, url="ring:62:us")

        assert [Api("uuid_break", call.leg.uuid)] == call.leg.apis("uuid_break")

    @pytest.mark.parametrize("url", ["ftp://a/x", "file:///etc/passwd", "/etc/passwd", "ring:zz", "silence:x", "hello"])
    def test_anything_else_is_refused_with_the_document(self, url):
        with pytest.raises(ScriptError, match="relay_script_method_parameter_invalid_value"):
            make(play, url=url)


class TestUrls:
    def test_they_are_played_in_order(self, call):
        run(call, play, urls=["silence:1", "say:hi", "silence:2"])

        assert [application.argument for application in call.leg.applications()] == [
            "silence_stream://1000",
            "flite|slt|hi",
            "silence_stream://2000",
        ]

    @pytest.mark.parametrize(
        ("params", "code"),
        [
            pytest.param({}, "relay_script_method_parameter_missing", id="neither"),
            pytest.param({"url": "say:a", "urls": ["say:b"]}, "relay_script_method_parameter_conflict", id="both"),
            pytest.param({"urls": []}, "relay_script_method_parameter_invalid_value", id="empty"),
            pytest.param({"urls": [7]}, "relay_script_", id="not-text"),
        ],
    )
    def test_exactly_one_of_url_and_urls(self, params, code):
        with pytest.raises(ScriptError, match=code):
            make(play, **params)

    def test_a_sound_that_cannot_be_had_is_skipped(self, call):
        call.services.files.failing["https://a.example/gone.wav"] = FetchError(
            "https://a.example/gone.wav", "status", "HTTP 404"
        )

        run(call, play, urls=["https://a.example/gone.wav", "say:hi"])

        assert [application.name for application in call.leg.applications()] == ["speak"]
        assert warnings(call) == ["play: https://a.example/gone.wav: HTTP 404"]
        assert states(call, "play") == ["playing", "finished"]

    def test_speech_without_words_is_skipped(self, call):
        """An unset variable leaves ``say:``; that is a warning and not the end."""
        run(call, play, urls=["say:", "silence:1"])

        assert len(warnings(call)) == 1
        assert states(call, "play") == ["playing", "finished"]


class TestAutoAnswer:
    def test_true_answers_first(self, tmp_path):
        call = make_call(tmp_path, answered=False)

        run(call, play, url="silence:1")

        assert [command.name for command in call.leg.sent] == ["uuid_answer", "playback"]
        assert call.state == "answered"

    def test_false_plays_as_early_media(self, tmp_path):
        call = make_call(tmp_path, answered=False)

        run(call, play, url="silence:1", auto_answer=False)

        assert [command.name for command in call.leg.sent] == ["uuid_pre_answer", "playback"]
        assert call.state == "ringing"

    def test_an_answered_call_is_left_alone(self, call):
        run(call, play, url="silence:1", auto_answer=False)

        assert [application.name for application in call.leg.applications()] == ["playback"]


class TestVolume:
    def test_audio_is_made_that_loud(self, call):
        run(call, play, url="https://a.example/x.wav", volume=-6.5)

        assert call.services.files.asked == [("https://a.example/x.wav", -6.5)]

    @pytest.mark.parametrize(("volume", "step"), [(-40, -4), (-8, -3), (-2, -1), (3, 1), (8, 2), (40, 4)])
    def test_speech_gets_the_nearest_step(self, call, volume, step):
        run(call, play, url="say:hi", volume=volume)

        uuid = call.leg.uuid
        assert [
            Api("uuid_audio", f"{uuid} start write level {step}"),
            Api("uuid_audio", f"{uuid} stop"),
        ] == call.leg.apis()

    def test_silence_about_0_db_costs_nothing(self, call):
        run(call, play, url="say:hi", volume=0.5)

        assert call.leg.apis() == []

    @pytest.mark.parametrize("volume", [-41, 40.5, "loud"])
    def test_limits(self, volume):
        with pytest.raises(ScriptError):
            make(play, url="say:hi", volume=volume)


class TestVoice:
    @pytest.mark.parametrize(
        ("variables", "params", "asked"),
        [
            pytest.param({}, {}, (None, "en-US", "female"), id="default"),
            pytest.param({"say_voice": "Polly.Joey"}, {}, ("Polly.Joey", "en-US", "female"), id="variable"),
            pytest.param(
                {"say_voice": "Polly.Joey"}, {"say_voice": "gcloud.x"}, ("gcloud.x", "en-US", "female"), id="parameter"
            ),
            pytest.param(
                {"say_language": "de-DE", "say_gender": "male"}, {}, (None, "de-DE", "male"), id="all-variables"
            ),
        ],
    )
    def test_parameter_then_variable_then_default(self, call, variables, params, asked):
        call.vars.update(variables)

        run(call, play, url="say:hi", **params)

        assert asked == call.services.voices.asked


class TestEvents:
    def test_playing_then_finished(self, call):
        run(call, play, urls=["silence:1", "silence:1"], status_url="https://hooks.example/p")

        events = changes(call, "play")
        assert [event.state for event in events] == ["playing", "finished"]
        assert {"https://hooks.example/p"} == {event.callback.url for event in events}
        assert len({event.control_id for event in events}) == 1

    def test_nobody_asked(self, call):
        run(call, play, url="silence:1")

        assert {None} == {event.callback for event in changes(call, "play")}

    @pytest.mark.parametrize("response", ["FILE NOT FOUND", "PLAYBACK ERROR"])
    def test_error_when_nothing_could_be_played(self, call, response):
        call.leg.when("playback", response=response)

        run(call, play, url="https://a.example/x.wav")

        assert states(call, "play")[-1] == "error"
        assert len(warnings(call)) == 1

    def test_a_bad_status_url_is_refused(self):
        with pytest.raises(ScriptError, match="status_url"):
            make(play, url="say:hi", status_url="hooks.example")

    def test_a_hangup_ends_it(self, call):
        call.leg.when("playback", lasts=60.0)
        call.leg.at(1.0, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, play, url="silence:60")
        (control,) = call.controls.running()
        control.abandon()
        assert states(call, "play") == ["playing", "finished"]

    def test_a_refusal_of_freeswitch_is_an_error_not_a_crash(self, call):
        call.leg.when("speak", reply="-ERR no such engine")

        run(call, play, url="say:hi")

        assert states(call, "play") == ["error"]


class TestAnEndThatIsNotTold:
    """Somebody may throw a sound out of the channel's queue, and FreeSWITCH says nothing."""

    @pytest.mark.parametrize(
        ("url", "seconds", "given_up_after"),
        [
            ("https://a.example/x.wav", 2.0, 32.0),
            ("https://a.example/written-still.wav", None, 14400.0),
            ("silence:5", None, 35.0),
            ("ring:us", None, 36.0),
            ("say:hello", None, 14400.0),
        ],
        ids=["audio", "audio-of-unknown-length", "silence", "ring", "speech"],
    )
    def test_a_sound_is_given_up_half_a_minute_late(self, call, url, seconds, given_up_after):
        call.services.files.seconds = seconds
        for name in ("playback", "speak"):
            call.leg.when(name, lasts=1e9)
        began = call.clock.now()

        run(call, play, url=url)

        assert call.clock.now() - began == given_up_after
        assert [f"did not end within {given_up_after:g} s" in warning for warning in warnings(call)] == [True]
        assert states(call, "play") == ["playing", "error"]

    def test_a_sound_that_is_held_lasts_longer(self, call):
        call.leg.when("playback", lasts=1005.0)
        call.clock.later(1.0, lambda: held(call, "pause"))
        call.clock.later(1001.0, lambda: held(call, "resume"))

        run(call, play, url="silence:5")

        assert states(call, "play") == ["playing", "paused", "playing", "finished"]
        assert warnings(call) == []

    def test_one_that_was_held_is_given_up_as_well(self, call):
        call.leg.when("playback", lasts=1e9)
        call.clock.later(1.0, lambda: held(call, "pause"))
        call.clock.later(2.0, lambda: held(call, "resume"))
        began = call.clock.now()

        run(call, play, url="silence:5")

        assert call.clock.now() - began == 70.0
        assert states(call, "play") == ["playing", "paused", "playing", "error"]


def held(call, verb):
    (control,) = call.controls.running("play")
    control.do(verb)


def test_there_is_no_result_variable(call):
    run(call, play, url="silence:1")

    assert call.vars == {}
    assert play.result is None


def test_the_bare_spelling(call):
    assert play.normalised("say:hi") == {"url": "say:hi"}


def test_answer_refused_is_the_instructions_failure(tmp_path):
    call = make_call(tmp_path, answered=False)
    call.leg.when("uuid_answer", reply="-ERROR")

    with pytest.raises(CommandFailed):
        run(call, play, url="silence:1")
