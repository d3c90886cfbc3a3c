"""calling.play and its verbs, laid out by their reference page (calling-api 4.1, 9; webhooks 3.4)."""

import re

import pytest
from structlog.testing import capture_logs

from fsctl.call.live import RequestInvalid
from fsctl.errors import ApiError, CommandFailed, FetchError, LegGone
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Api, Application, Command
from fsctl.methods import COMMANDS
from fsctl.methods.play import play
from fsctl.simulator.media import tone_seconds
from tests.fakes.call import changes, make_call, states
from tests.methods.running import run

SOUND = {"type": "audio", "params": {"url": "https://a.example/x.wav"}}
HELLO = {"type": "tts", "params": {"text": "hello"}}
NOTHING = {"type": "silence", "params": {"duration": 1}}
RING = {"type": "ringtone", "params": {"name": "us"}}

PLAIN = "\nfile,tone_stream,mod_tone_stream\nfile,wav,mod_sndfile\n"
SPEAKING = f"{PLAIN}file,tts,mod_ssml\n"


class Mixing:
    """What is mixed in, as FreeSWITCH does it: each sound ends in its own time, or is stopped.

    ``heard`` are the sounds in the order they began: (seconds from the start of the test, sound, flags).
    """

    def __init__(self, call):
        self.heard = []
        self.lasted = []
        self.deaf = False  # FreeSWITCH tells no end
        self._call = call
        self._from = call.clock.now()
        self._running = {}
        call.leg.when("uuid_displace", then=self._displace)

    @property
    def sounds(self):
        return [sound for _, sound, _ in self.heard]

    def _displace(self, argument):
        uuid, verb, word, *rest = argument.split(" ")
        assert uuid == self._call.leg.uuid
        name = word.replace("\\s", " ")
        if verb == "stop":
            if name not in self._running:
                raise CommandFailed("uuid_displace", "-ERR Cannot stop displace session!")
            self._end(name)
            return
        assert name not in self._running, "FreeSWITCH takes one of a name"
        sound = re.fullmatch(r"\{fsctl=\d+\}(.*)", name)[1]
        self.heard.append((self._now(), sound, rest[1]))
        timer = self._call.clock.later(self._seconds(sound), self._end, name)
        self._running[name] = (timer, self._now(), sound)

    def _end(self, name):
        timer, began, sound = self._running.pop(name)
        timer.kill()
        self.lasted.append((sound, round(self._now() - began, 3)))
        if not self.deaf:
            self._call.leg.happen(facts.MixEnded(name))

    def _seconds(self, sound):
        if sound.startswith("tone_stream://"):
            return tone_seconds(sound)
        if sound.startswith("tts://"):
            return 3.0
        return self._call.services.files.seconds - float(sound.removesuffix(".wav").partition("@")[2] or 0)

    def _now(self):
        return round(self._call.clock.now() - self._from, 3)


@pytest.fixture
def call(tmp_path):
    call = make_call(tmp_path)
    call.mixing = Mixing(call)
    call.leg.when("uuid_getvar", reply="-1")
    call.leg.when("show", reply=SPEAKING)
    yield call
    assert call.services.files.held == []


@pytest.fixture
def quiet(call):
    """A call that is sent nothing while nothing plays."""
    call.leg.when("uuid_getvar", reply="_undef_")
    turns(call)
    return call


@pytest.fixture
def mute(call):
    """A call on a FreeSWITCH that cannot mix speech in."""
    call.leg.when("show", reply=PLAIN)
    turns(call)
    return call


def turns(call, *, after=0.0, lasts=3.0):
    """What takes its turn waits so long for it, and lasts so long with the waiting."""
    for name in ("speak", "playback"):

        def begins(argument, name=name):
            call.clock.later(after, call.leg.happen, facts.Began(name, argument))

        call.leg.when(name, then=begins, lasts=lasts)


def command(call, name, /, **params):
    """Run a command as REST does."""
    found = COMMANDS.get(name)
    record, _ = found.read(params, strict=False)
    return found.run(call, record)


def start(call, *items, **params):
    return command(call, "calling.play", **{"control_id": "p1", "play": list(items) or [SOUND], **params})


def at(call, seconds, name, /, **params):
    """Somebody asks for it, that much later."""
    params.setdefault("control_id", "p1")
    call.clock.later(seconds, lambda: command(call, name, **params))


def refused(name, /, **params):
    with pytest.raises(RequestInvalid) as caught:
        COMMANDS.get(name).read({"control_id": "p1", **params}, strict=False)
    return [(code, attribute) for code, _, attribute in caught.value.findings]


class TestItems:
    def test_an_audio_url_is_mixed_in_from_its_local_copy(self, call):
        start(call)

        assert call.services.files.asked == [("https://a.example/x.wav", 0.0)]
        assert call.mixing.heard == [(0.0, "/cache/sound.wav", "m")]
        assert states(call, "play") == ["playing", "finished"]

    def test_speech_is_mixed_in_where_freeswitch_can(self, call):
        start(call, {"type": "tts", "params": {"text": "Hello, it's ${me} | you"}})

        assert call.mixing.sounds == [r"tts://flite|slt|Hello,\ it\\\'s\ ${me}\ |\ you".replace("\\ ", " ")]
        assert states(call, "play") == ["playing", "finished"]

    def test_speech_that_cannot_be_mixed_in_takes_its_turn(self, mute):
        start(mute, HELLO)

        assert mute.mixing.heard == []
        assert [Application("speak", "flite|slt|hello")] == mute.leg.applications()
        assert states(mute, "play") == ["playing", "finished"]

    def test_silence_is_only_waited_for(self, call):
        start(call, {"type": "silence", "params": {"duration": 1.5}}, SOUND)

        assert call.mixing.heard == [(1.5, "/cache/sound.wav", "m")]

    def test_a_ringtone_for_its_duration(self, call):
        start(call, {"type": "ringtone", "params": {"name": "us", "duration": 2.5}})

        assert call.mixing.sounds == ["tone_stream://v=-7;%(2000,500,440,480);loops=1"]
        assert call.mixing.lasted[0][1] == 2.5

    def test_a_long_ringtone_is_ended_in_time(self, call):
        start(call, {"type": "ringtone", "params": {"name": "us", "duration": 61.5}})

        assert call.mixing.lasted[0][1] == 61.5
        assert states(call, "play") == ["playing", "finished"]

    def test_a_ringtone_without_duration_until_it_is_stopped(self, call):
        at(call, 5000.0, "calling.play.stop")

        start(call, RING, SOUND)

        assert call.mixing.lasted == [("tone_stream://v=-7;%(2000,4000,440,480);loops=14400", 5000.0)]

    @pytest.mark.parametrize("name", ["au", "ca", "no", "za", "bong"])
    def test_ringtones_have_the_names_of_the_page(self, call, name):
        start(call, {"type": "ringtone", "params": {"name": name, "duration": 1}})

        assert states(call, "play") == ["playing", "finished"]

    def test_they_are_played_in_order(self, call):
        start(call, SOUND, HELLO, NOTHING, {"type": "ringtone", "params": {"name": "de", "duration": 1}}, SOUND)

        assert [(when, sound.partition(":")[0]) for when, sound, _ in call.mixing.heard] == [
            (0.0, "/cache/sound.wav"),
            (2.0, "tts"),
            (6.0, "tone_stream"),
            (7.0, "/cache/sound.wav"),
        ]

    def test_two_of_the_same_at_once(self, call):
        call.clock.later(0.5, lambda: start(call, control_id="p2"))

        start(call)

        assert [when for when, _, _ in call.mixing.heard] == [0.0, 0.5]
        for control_id in ("p1", "p2"):
            told = [event.state for event in changes(call, "play") if event.control_id == control_id]
            assert told == ["playing", "finished"]


class TestForms:
    @pytest.mark.parametrize(
        ("written", "meant"),
        [
            pytest.param({"type": "audio", "url": "https://a.example/x.wav"}, SOUND, id="audio"),
            pytest.param({"type": "tts", "text": "hello"}, HELLO, id="tts"),
            pytest.param({"type": "silence", "duration": 1}, NOTHING, id="silence"),
            pytest.param({"type": "ringtone", "name": "us"}, RING, id="ringtone"),
            pytest.param({"type": "ringtone", "name": "us", "params": None}, RING, id="params-null"),
            pytest.param({"type": "ringtone", "name": "de", "params": {"name": "us"}}, RING, id="params-win"),
        ],
    )
    def test_parameters_beside_the_type_are_lifted(self, written, meant):
        read = COMMANDS.get("calling.play").read

        assert (
            read({"control_id": "a", "play": [written]}, strict=True)[0]
            == (read({"control_id": "a", "play": [meant]}, strict=True))[0]
        )

    def test_unknown_parameters_are_overlooked(self):
        params = {"control_id": "a", "play": [{**SOUND, "fade": 1}], "mood": "gay"}

        _, ignored = COMMANDS.get("calling.play").read(params, strict=False)

        assert sorted(ignored) == ["mood", "play.0.params.fade"]

    def test_placeholders_are_text(self, call):
        start(call, {"type": "tts", "params": {"text": "say %{call.from} and ${vars.x}"}})

        assert call.mixing.sounds == ["tts://flite|slt|say %{call.from} and ${vars.x}"]

    @pytest.mark.parametrize(
        ("items", "finding"),
        [
            pytest.param(None, ("missing_required_parameter", "play"), id="missing"),
            pytest.param([], ("invalid_parameter", "play"), id="none"),
            pytest.param({}, ("not_an_array_of_hashes", "play"), id="no-list"),
            pytest.param(["say:hi"], ("not_a_hash", "play.0"), id="no-object"),
            pytest.param([{}], ("missing_required_parameter", "play.0.type"), id="no-type"),
            pytest.param([{"type": "video"}], ("invalid_parameter", "play.0.type"), id="unknown-type"),
            pytest.param([{"type": ["tts"]}], ("not_a_string", "play.0.type"), id="type-no-text"),
            pytest.param([{"type": "tts", "params": "hi"}], ("not_a_hash", "play.0.params"), id="params-no-object"),
            pytest.param([{"type": "audio"}], ("missing_required_parameter", "play.0.params.url"), id="no-url"),
            pytest.param([SOUND, {"type": "audio"}], ("missing_required_parameter", "play.1.params.url"), id="second"),
            pytest.param(
                [{"type": "audio", "url": "say:hi"}], ("not_an_http_url", "play.0.params.url"), id="swml-form"
            ),
            pytest.param(
                [{"type": "audio", "url": "ftp://a/x"}], ("not_an_http_url", "play.0.params.url"), id="scheme"
            ),
            pytest.param([{"type": "audio", "url": 7}], ("not_an_http_url", "play.0.params.url"), id="url-no-text"),
            pytest.param([{"type": "tts"}], ("missing_required_parameter", "play.0.params.text"), id="no-text"),
            pytest.param([{"type": "tts", "text": ""}], ("invalid_parameter", "play.0.params.text"), id="empty-text"),
            pytest.param(
                [{"type": "tts", "text": "x", "voice": "a|b"}],
                ("invalid_parameter", "play.0.params.voice"),
                id="voice-bar",
            ),
            pytest.param(
                [{"type": "tts", "text": "x", "voice": "a b"}],
                ("invalid_parameter", "play.0.params.voice"),
                id="voice-blank",
            ),
            pytest.param(
                [{"type": "tts", "text": "x", "gender": "robot"}],
                ("invalid_parameter", "play.0.params.gender"),
                id="gender",
            ),
            pytest.param(
                [{"type": "tts", "text": "x", "language": "Klingon!"}],
                ("invalid_parameter", "play.0.params.language"),
                id="language",
            ),
            pytest.param(
                [{"type": "silence"}], ("missing_required_parameter", "play.0.params.duration"), id="no-duration"
            ),
            pytest.param(
                [{"type": "silence", "duration": 0}], ("invalid_parameter", "play.0.params.duration"), id="zero"
            ),
            pytest.param(
                [{"type": "silence", "duration": -1}], ("invalid_parameter", "play.0.params.duration"), id="negative"
            ),
            pytest.param(
                [{"type": "silence", "duration": "1"}],
                ("invalid_parameter", "play.0.params.duration"),
                id="duration-text",
            ),
            pytest.param([{"type": "ringtone"}], ("missing_required_parameter", "play.0.params.name"), id="no-name"),
            pytest.param(
                [{"type": "ringtone", "name": "us-old"}], ("invalid_parameter", "play.0.params.name"), id="swmls-name"
            ),
            pytest.param(
                [{"type": "ringtone", "name": "us", "duration": 0}],
                ("invalid_parameter", "play.0.params.duration"),
                id="ring-zero",
            ),
        ],
    )
    def test_wrong_ones_are_refused_with_their_place(self, items, finding):
        assert refused("calling.play", play=items) == [finding]

    def test_every_finding_is_told_at_once(self):
        items = [{"type": "audio"}, {"type": "silence", "duration": 0}]

        assert refused("calling.play", play=items, volume=50, loop=-1) == [
            ("missing_required_parameter", "play.0.params.url"),
            ("invalid_parameter", "play.1.params.duration"),
            ("invalid_parameter", "volume"),
            ("invalid_parameter", "loop"),
        ]


class TestControlId:
    def test_it_comes_back(self, call):
        assert start(call, NOTHING, control_id="mine") == {"control_id": "mine"}
        assert {event.control_id for event in changes(call, "play")} == {"mine"}

    def test_one_is_made_where_none_is_given(self, call):
        answer = command(call, "calling.play", play=[NOTHING])

        assert {event.control_id for event in changes(call, "play")} == {answer["control_id"]}

    def test_it_is_free_again_after_the_end(self, call):
        start(call)
        start(call)

        assert states(call, "play") == ["playing", "finished"] * 2

    def test_it_is_taken_while_it_plays(self, call):
        caught = []

        def again():
            with pytest.raises(ApiError) as refusal:
                start(call)
            caught.append(refusal.value.code)

        call.clock.later(1.0, again)
        start(call)

        assert caught == ["value_not_unique"]

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop", "volume"])
    def test_one_nobody_knows(self, call, verb):
        with pytest.raises(ApiError) as caught:
            command(call, f"calling.play.{verb}", control_id="what", **({"volume": 0} if verb == "volume" else {}))

        assert (caught.value.status, caught.value.code, caught.value.attribute) == (
            422,
            "provided_id_is_unrecognized",
            "control_id",
        )

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop", "volume"])
    def test_one_that_ended_is_no_error(self, call, verb):
        start(call)

        assert (
            command(call, f"calling.play.{verb}", control_id="p1", **({"volume": 0} if verb == "volume" else {})) == {}
        )
        assert states(call, "play") == ["playing", "finished"]

    @pytest.mark.parametrize("verb", ["pause", "resume", "stop", "volume"])
    def test_it_is_required(self, verb):
        findings = refused(f"calling.play.{verb}", control_id=None, volume=0)

        assert findings == [("missing_required_parameter", "control_id")]


def test_only_on_an_answered_call(tmp_path):
    call = make_call(tmp_path, answered=False)

    with pytest.raises(ApiError) as caught:
        start(call)

    assert caught.value.code == "invalid_state"


class TestVolume:
    def test_audio_is_made_that_loud(self, call):
        start(call, volume=-6.5)

        assert call.services.files.asked == [("https://a.example/x.wav", -6.5)]

    def test_a_ringtone_is_generated_that_loud(self, call):
        start(call, {"type": "ringtone", "params": {"name": "us", "duration": 6}}, volume=-10)

        assert call.mixing.sounds == ["tone_stream://v=-17;%(2000,4000,440,480);loops=1"]

    @pytest.mark.parametrize(("volume", "step"), [(-40, -4), (-8, -3), (3, 1), (40, 4)])
    @pytest.mark.parametrize(
        ("direction", "sides"), [("listen", ["write"]), ("speak", ["read"]), ("both", ["write", "read"])]
    )
    def test_speech_gets_the_nearest_step_of_the_channel(self, call, volume, step, direction, sides):
        start(call, HELLO, volume=volume, direction=direction)

        uuid = call.leg.uuid
        assert [
            *(Api("uuid_audio", f"{uuid} start {side} level {step}") for side in sides),
            Api("uuid_audio", f"{uuid} stop"),
        ] == call.leg.apis("uuid_audio")

    def test_speech_in_its_turn_gets_it_when_its_turn_comes(self, mute):
        turns(mute, after=5.0, lasts=8.0)
        told = []
        mute.clock.later(4.9, lambda: told.extend(mute.leg.apis("uuid_audio")))

        start(mute, HELLO, volume=10)

        assert told == []
        assert [api.argument.partition(" ")[2] for api in mute.leg.apis("uuid_audio")] == [
            "start write level 3",
            "stop",
        ]

    @pytest.mark.parametrize("volume", [-41, 40.5, "loud", True])
    def test_limits(self, volume):
        assert refused("calling.play", play=[SOUND], volume=volume) == [("invalid_parameter", "volume")]


class TestDirection:
    @pytest.mark.parametrize(
        ("params", "flags"),
        [
            pytest.param({}, ["m"], id="default"),
            pytest.param({"direction": "listen"}, ["m"], id="listen"),
            pytest.param({"direction": "speak"}, ["mr"], id="speak"),
            pytest.param({"direction": "both"}, ["m", "mr"], id="both"),
        ],
    )
    def test_where_it_goes(self, call, params, flags):
        start(call, **params)

        assert [flag for _, _, flag in call.mixing.heard] == flags
        assert states(call, "play") == ["playing", "finished"]

    def test_both_are_stopped(self, call):
        at(call, 0.5, "calling.play.stop")

        start(call, direction="both")

        assert [lasted for _, lasted in call.mixing.lasted] == [0.5, 0.5]

    @pytest.mark.parametrize("direction", ["speak", "both"])
    def test_speech_that_cannot_be_mixed_in_cannot_go_there(self, mute, direction):
        start(mute, HELLO, direction=direction)

        assert mute.leg.applications() == []
        assert states(mute, "play") == ["error"]

    def test_others_are_refused(self):
        assert refused("calling.play", play=[SOUND], direction="up") == [("invalid_parameter", "direction")]


class TestLoop:
    def test_the_whole_sequence_so_often(self, call):
        start(call, SOUND, NOTHING, loop=3)

        assert [when for when, _, _ in call.mixing.heard] == [0.0, 3.0, 6.0]
        assert states(call, "play") == ["playing", "finished"]

    def test_zero_is_for_ever(self, call):
        at(call, 1000.0, "calling.play.stop")

        start(call, loop=0)

        assert len(call.mixing.heard) == 500
        assert states(call, "play") == ["playing", "finished"]

    @pytest.mark.parametrize("loop", [0, 1000])
    def test_nothing_that_can_be_played_is_tried_once(self, call, loop):
        call.services.files.failing["https://a.example/x.wav"] = FetchError("https://a.example/x.wav", "status", "404")

        start(call, loop=loop)

        assert len(call.services.files.asked) == 1
        assert states(call, "play") == ["error"]

    def test_what_takes_no_time_is_not_repeated_without_pause(self, call):
        at(call, 1.0, "calling.play.stop")

        start(call, {"type": "silence", "params": {"duration": 0.001}}, loop=0)

        assert call.clock.now() == pytest.approx(1_767_000_001.0, abs=0.1)

    @pytest.mark.parametrize("loop", [-1, 1.5, "2"])
    def test_limits(self, loop):
        assert refused("calling.play", play=[SOUND], loop=loop) == [("invalid_parameter", "loop")]


class TestVoice:
    @pytest.mark.parametrize(
        ("params", "own", "asked"),
        [
            pytest.param({}, {}, (None, "en-US", "female"), id="default"),
            pytest.param(
                {"voice": "Polly.Joey", "language": "de-DE", "gender": "male"},
                {},
                ("Polly.Joey", "de-DE", "male"),
                id="the-commands",
            ),
            pytest.param(
                {"voice": "Polly.Joey", "language": "de-DE", "gender": "male"},
                {"voice": "gcloud.en-US-Neural2-A", "language": "fr", "gender": "female"},
                ("gcloud.en-US-Neural2-A", "fr", "female"),
                id="the-items",
            ),
            pytest.param({"gender": "male"}, {"language": "es-MX"}, (None, "es-MX", "male"), id="some-of-each"),
        ],
    )
    def test_the_items_then_the_commands_then_the_default(self, call, params, own, asked):
        start(call, {"type": "tts", "params": {"text": "hi", **own}}, **params)

        assert asked == call.services.voices.asked

    @pytest.mark.parametrize(
        "params", [{"voice": "a/b"}, {"voice": ""}, {"gender": "x"}, {"language": ""}, {"language": 1}]
    )
    def test_limits(self, params):
        assert [attribute for _, attribute in refused("calling.play", play=[HELLO], **params)] == list(params)


class TestStatusUrl:
    def test_every_state_is_told_there_once(self, call):
        start(call, SOUND, SOUND, status_url="https://hooks.example/p")

        events = changes(call, "play")
        assert [event.state for event in events] == ["playing", "finished"]
        assert {"https://hooks.example/p"} == {event.callback.url for event in events}

    def test_a_bad_one_is_refused(self):
        assert refused("calling.play", play=[SOUND], status_url="x") == [("not_an_http_url", "status_url")]


class TestPauseAndResume:
    def test_a_file_goes_on_where_it_was(self, call):
        at(call, 0.75, "calling.play.pause")
        at(call, 10.0, "calling.play.resume")

        start(call)

        assert [(when, sound) for when, sound, _ in call.mixing.heard] == [
            (0.0, "/cache/sound.wav"),
            (10.0, "/cache/sound@0.75.wav"),
        ]
        assert [lasted for _, lasted in call.mixing.lasted] == [0.75, 1.25]
        assert states(call, "play") == ["playing", "paused", "playing", "finished"]
        assert [event.at - 1_767_000_000.0 for event in changes(call, "play")] == [0.0, 0.75, 10.0, 11.25]

    def test_again_and_again(self, call):
        for seconds in (0.5, 2.0, 3.0):
            at(call, seconds, "calling.play.pause")
            at(call, seconds + 0.5, "calling.play.resume")

        start(call)

        assert [sound for _, sound, _ in call.mixing.heard] == [
            "/cache/sound.wav",
            "/cache/sound@0.5.wav",
            "/cache/sound@1.5.wav",
        ]
        assert sum(lasted for _, lasted in call.mixing.lasted) == pytest.approx(2.0)

    def test_twice_is_once(self, call):
        for seconds in (0.5, 0.6):
            at(call, seconds, "calling.play.pause")
        for seconds in (1.0, 1.1):
            at(call, seconds, "calling.play.resume")

        start(call)

        assert states(call, "play") == ["playing", "paused", "playing", "finished"]
        assert len(call.mixing.heard) == 2

    def test_silence_goes_on_for_what_is_left(self, call):
        at(call, 0.25, "calling.play.pause")
        at(call, 5.0, "calling.play.resume")

        start(call, NOTHING, SOUND)

        assert [when for when, _, _ in call.mixing.heard] == [5.75]
        assert states(call, "play") == ["playing", "paused", "playing", "finished"]

    def test_a_ringtone_goes_on_for_what_is_left(self, call):
        at(call, 4.0, "calling.play.pause")
        at(call, 5.0, "calling.play.resume")

        start(call, {"type": "ringtone", "params": {"name": "us", "duration": 10}})

        assert [lasted for _, lasted in call.mixing.lasted] == [4.0, 6.0]

    def test_speech_begins_again(self, call):
        at(call, 1.0, "calling.play.pause")
        at(call, 5.0, "calling.play.resume")

        start(call, HELLO)

        assert [(when, sound) for when, sound, _ in call.mixing.heard] == [
            (0.0, "tts://flite|slt|hello"),
            (5.0, "tts://flite|slt|hello"),
        ]

    def test_speech_in_its_turn_begins_again(self, mute):
        at(mute, 1.0, "calling.play.pause")
        at(mute, 5.0, "calling.play.resume")

        start(mute, HELLO)

        assert [Application("speak", "flite|slt|hello")] * 2 == mute.leg.applications()
        assert [Api("uuid_break", mute.leg.uuid)] == mute.leg.apis("uuid_break")
        assert states(mute, "play") == ["playing", "paused", "playing", "finished"]

    def test_speech_whose_turn_has_not_come_is_not_heard_while_paused(self, mute):
        turns(mute, after=2.0, lasts=5.0)
        told = []
        at(mute, 1.0, "calling.play.pause")
        mute.clock.later(1.5, lambda: told.append((states(mute, "play"), mute.leg.apis("uuid_break"))))
        at(mute, 8.0, "calling.play.resume")

        start(mute, NOTHING | {"params": {"duration": 0.5}}, HELLO)

        assert told == [(["playing", "paused"], [])]
        assert len(mute.leg.apis("uuid_break")) == 1
        assert len(mute.leg.applications("speak")) == 2
        assert states(mute, "play") == ["playing", "paused", "playing", "finished"]

    def test_before_anything_was_heard(self, call):
        call.services.files.local = waiting(call, call.services.files.local, 2.0)
        at(call, 1.0, "calling.play.pause")
        at(call, 5.0, "calling.play.resume")

        start(call)

        assert call.mixing.heard == [(5.0, "/cache/sound.wav", "m")]
        assert states(call, "play") == ["playing", "paused", "playing", "finished"]

    def test_a_pause_while_the_next_is_fetched_is_told_at_once(self, call):
        call.services.files.local = waiting(call, call.services.files.local, 3.0)
        at(call, 2.0, "calling.play.pause")
        at(call, 2.5, "calling.play.resume")

        start(call, NOTHING, SOUND)

        assert [round(event.at - 1_767_000_000.0, 3) for event in changes(call, "play")] == [0.0, 2.0, 4.0, 6.0]

    def test_the_next_item_waits_too(self, call):
        at(call, 1.0, "calling.play.pause")
        at(call, 9.0, "calling.play.resume")

        start(call, NOTHING, SOUND)

        assert [when for when, _, _ in call.mixing.heard] == [9.0]


def waiting(call, fetch, seconds):
    """Every URL takes so long."""

    def fetched(*arguments):
        call.clock.sleep(seconds)
        return fetch(*arguments)

    return fetched


class TestStop:
    @pytest.mark.parametrize("item", [SOUND, HELLO, NOTHING, RING], ids=["audio", "tts", "silence", "ringtone"])
    def test_it_ends_there(self, call, item):
        at(call, 0.5, "calling.play.stop")

        start(call, item, SOUND, loop=0)

        assert [lasted for _, lasted in call.mixing.lasted] == ([] if item is NOTHING else [0.5])
        assert states(call, "play") == ["playing", "finished"]
        assert changes(call, "play")[-1].at == 1_767_000_000.5

    def test_while_paused(self, call):
        at(call, 0.5, "calling.play.pause")
        at(call, 1.0, "calling.play.stop")

        start(call)

        assert states(call, "play") == ["playing", "paused", "finished"]

    def test_before_anything_was_heard(self, call):
        call.services.files.local = waiting(call, call.services.files.local, 2.0)
        at(call, 1.0, "calling.play.stop")

        start(call)

        assert call.mixing.heard == []
        assert [(event.state, event.at) for event in changes(call, "play")] == [("finished", 1_767_000_001.0)]

    def test_speech_whose_turn_has_not_come_is_never_heard(self, mute):
        turns(mute, after=2.0, lasts=5.0)
        at(mute, 1.0, "calling.play.stop")

        start(mute, HELLO)

        assert [(event.state, event.at) for event in changes(mute, "play")] == [("finished", 1_767_000_001.0)]
        assert [Api("uuid_break", mute.leg.uuid)] == mute.leg.apis("uuid_break")

    def test_only_the_one_that_is_meant(self, call):
        call.clock.later(0.5, lambda: start(call, control_id="p2"))
        at(call, 1.0, "calling.play.stop", control_id="p2")

        start(call)

        assert sorted(lasted for _, lasted in call.mixing.lasted) == [0.5, 2.0]


class TestVolumeOfWhatPlays:
    def test_a_file_goes_on_that_loud_where_it_was(self, call):
        at(call, 0.5, "calling.play.volume", volume=6)

        start(call)

        assert call.services.files.asked[0] == ("https://a.example/x.wav", 0.0)
        assert set(call.services.files.asked[1:]) == {("https://a.example/x.wav", 6.0)}
        assert [(when, sound) for when, sound, _ in call.mixing.heard] == [
            (0.0, "/cache/sound.wav"),
            (0.5, "/cache/sound@0.5.wav"),
        ]
        assert states(call, "play") == ["playing", "finished"]

    def test_the_louder_file_is_made_while_the_other_goes_on(self, call):
        def slowly(url, volume):
            if volume and (url, volume) not in call.services.files.asked:
                call.clock.sleep(1.0)
            return fetch(url, volume)

        fetch = call.services.files.local
        call.services.files.local = slowly
        at(call, 0.5, "calling.play.volume", volume=6)

        start(call)

        assert [when for when, _, _ in call.mixing.heard] == [0.0, 1.5]

    def test_the_last_word_counts(self, call):
        at(call, 0.5, "calling.play.volume", volume=6)
        at(call, 0.6, "calling.play.volume", volume=-6)

        start(call)

        assert call.services.files.asked[-1] == ("https://a.example/x.wav", -6.0)
        assert [when for when, _, _ in call.mixing.heard] == [0.0, 0.5, 0.6]

    def test_a_ringtone(self, call):
        at(call, 6.0, "calling.play.volume", volume=-3)

        start(call, {"type": "ringtone", "params": {"name": "us", "duration": 12}})

        assert [(when, sound) for when, sound, _ in call.mixing.heard] == [
            (0.0, "tone_stream://v=-7;%(2000,4000,440,480);loops=2"),
            (6.0, "tone_stream://v=-10;%(2000,4000,440,480);loops=1"),
        ]

    @pytest.mark.parametrize("kind", ["mixed", "in-turn"])
    def test_speech_is_not_interrupted(self, call, kind):
        if kind == "in-turn":
            call.leg.when("show", reply=PLAIN)
            turns(call)
        for seconds, volume in ((0.5, 10), (1.0, -14), (1.5, 0)):
            at(call, seconds, "calling.play.volume", volume=volume)

        start(call, HELLO)

        assert len(call.mixing.heard) + len(call.leg.applications("speak")) == 1
        assert [api.argument.partition(" ")[2] for api in call.leg.apis("uuid_audio")] == [
            "start write level 3",
            "start write level -4",
            "stop",
        ]

    def test_the_items_that_follow_have_it_too(self, call):
        at(call, 0.5, "calling.play.volume", volume=-3)

        start(call, NOTHING, SOUND)

        assert call.services.files.asked == [("https://a.example/x.wav", -3.0)]

    def test_while_paused_it_shows_afterwards(self, call):
        at(call, 0.5, "calling.play.pause")
        at(call, 1.0, "calling.play.volume", volume=-3)
        at(call, 2.0, "calling.play.resume")

        start(call)

        assert states(call, "play") == ["playing", "paused", "playing", "finished"]
        assert call.services.files.asked[-1] == ("https://a.example/x.wav", -3.0)
        assert [when for when, _, _ in call.mixing.heard] == [0.0, 2.0]

    def test_a_file_that_cannot_be_had_that_loud_stays_as_it_is(self, call):
        def fails(url, volume):
            if volume:
                raise FetchError(url, "content", "cannot be decoded")
            return fetch(url, volume)

        fetch = call.services.files.local
        call.services.files.local = fails
        at(call, 0.5, "calling.play.volume", volume=6)

        with capture_logs() as logs:
            start(call)

        assert [lasted for _, lasted in call.mixing.lasted] == [0.5, 1.5]
        assert [line["event"] for line in logs] == ["volume_unchanged"]

    @pytest.mark.parametrize(
        ("params", "finding"),
        [
            pytest.param({}, ("missing_required_parameter", "volume"), id="missing"),
            pytest.param({"volume": 41}, ("invalid_parameter", "volume"), id="too-loud"),
            pytest.param({"volume": -40.5}, ("invalid_parameter", "volume"), id="too-soft"),
            pytest.param({"volume": "3"}, ("invalid_parameter", "volume"), id="text"),
        ],
    )
    def test_limits(self, params, finding):
        assert refused("calling.play.volume", **params) == [finding]


class TestWhatCannotBePlayed:
    def test_it_is_skipped_with_a_line_in_the_log(self, call):
        gone = {"type": "audio", "params": {"url": "https://a.example/gone.wav"}}
        call.services.files.failing["https://a.example/gone.wav"] = FetchError(
            "https://a.example/gone.wav", "status", "404"
        )

        with capture_logs() as logs:
            start(call, gone, SOUND)

        assert call.mixing.sounds == ["/cache/sound.wav"]
        assert states(call, "play") == ["playing", "finished"]
        (line,) = logs
        assert (line["event"], line["control_id"], line["problem"]) == (
            "sound_skipped",
            "p1",
            "https://a.example/gone.wav: 404",
        )

    def test_speech_without_words(self, call):
        start(call, {"type": "tts", "params": {"text": "<speak></speak>"}}, SOUND)

        assert call.mixing.sounds == ["/cache/sound.wav"]

    @pytest.mark.parametrize("direction", ["listen", "both"])
    def test_freeswitch_refuses(self, call, direction):
        call.leg.when("uuid_displace", reply="-ERR Cannot displace session!")

        start(call, SOUND, RING, direction=direction)

        assert states(call, "play") == ["error"]

    def test_freeswitch_refuses_the_second_half_and_the_first_is_taken_out(self, call):
        displace = call.mixing._displace

        def once(argument):
            if argument.endswith(" mr"):
                raise CommandFailed("uuid_displace", "-ERR Cannot displace session!")
            displace(argument)

        call.leg.when("uuid_displace", then=once)
        start(call, direction="both")

        assert call.mixing.lasted == [("/cache/sound.wav", 0.0)]
        assert states(call, "play") == ["error"]

    def test_a_file_without_sound(self, call):
        call.services.files.seconds = 0.0

        start(call)

        assert call.mixing.heard == []
        assert states(call, "play") == ["error"]


class TestEnds:
    def test_its_events_are_subscribed_to_when_they_are_needed(self, call):
        start(call)

        (subscription,) = [sent for sent in call.leg.sent if isinstance(sent, Command)]
        assert subscription.line == "events json MEDIA_BUG_STOP"

    def test_an_end_that_is_not_told_does_not_hold_it_up(self, call):
        call.mixing.deaf = True

        with capture_logs() as logs:
            start(call, SOUND, NOTHING)

        assert states(call, "play") == ["playing", "finished"]
        assert [line["event"] for line in logs] == ["mix_end_unheard"]

    def test_the_end_of_another_is_not_its_own(self, call):
        call.leg.at(0.5, facts.MixEnded("/cache/sound.wav"))

        start(call)

        assert call.mixing.lasted == [("/cache/sound.wav", 2.0)]

    @pytest.mark.parametrize("item", [SOUND, HELLO, NOTHING, RING], ids=["audio", "tts", "silence", "ringtone"])
    def test_a_hangup_finishes_it(self, call, item):
        call.leg.at(0.5, facts.HungUp("NORMAL_CLEARING"))

        start(call, item)
        (control,) = call.controls.running()
        control.abandon()

        assert states(call, "play") == ["playing", "finished"]

    def test_a_hangup_finishes_a_paused_one(self, call):
        at(call, 0.5, "calling.play.pause")
        call.leg.at(1.0, facts.HungUp("NORMAL_CLEARING"))

        start(call)
        (control,) = call.controls.running()
        control.abandon()

        assert states(call, "play") == ["playing", "paused", "finished"]

    def test_after_the_hangup_nothing_can_be_started(self, call):
        call.leg.happen(facts.HungUp("NORMAL_CLEARING"))
        call.to("ending")

        with pytest.raises(ApiError, match="needs a call that is answered"):
            start(call)

    def test_a_redirect_that_throws_waiting_speech_out_does_not_lose_it(self, mute):
        """Somebody else cleared the channel's queue before its turn came."""
        turns(mute, after=1.0)
        execute, thrown = mute.leg.execute, []

        def first(application, seconds, accepted=None):
            if not thrown:
                thrown.append(application)
                raise CommandFailed("execute", "it was thrown out of the channel's queue")
            return execute(application, seconds, accepted)

        mute.leg.execute = first
        start(mute, HELLO)

        assert [Application("speak", "flite|slt|hello")] == mute.leg.applications()
        assert states(mute, "play") == ["playing", "finished"]


class TestNothingIsSentWhileNothingPlays:
    """calls.send_silence is off, so there may be nothing to mix a sound with."""

    def test_a_sound_takes_its_turn(self, quiet):
        turns(quiet, lasts=2.0)

        start(quiet, SOUND, {"type": "ringtone", "params": {"name": "us", "duration": 6}})

        assert quiet.mixing.heard == []
        assert [
            Application("playback", "/cache/sound.wav"),
            Application("playback", "tone_stream://v=-7;%(2000,4000,440,480);loops=1"),
        ] == quiet.leg.applications()
        assert states(quiet, "play") == ["playing", "finished"]

    def test_and_goes_on_where_it_was(self, quiet):
        turns(quiet, after=1.0, lasts=3.0)
        at(quiet, 1.75, "calling.play.pause")
        at(quiet, 5.0, "calling.play.resume")

        start(quiet)

        assert [application.argument for application in quiet.leg.applications()] == [
            "/cache/sound.wav",
            "/cache/sound@0.75.wav",
        ]
        assert states(quiet, "play") == ["playing", "paused", "playing", "finished"]

    def test_a_long_ringtone_is_ended_in_time(self, quiet):
        turns(quiet, after=1.0, lasts=90.0)

        start(quiet, {"type": "ringtone", "params": {"name": "us", "duration": 62}})

        assert [Api("uuid_break", quiet.leg.uuid)] == quiet.leg.apis("uuid_break")
        assert changes(quiet, "play")[-1].at - 1_767_000_000.0 == pytest.approx(63.0)
        assert states(quiet, "play") == ["playing", "finished"]

    @pytest.mark.parametrize("response", ["FILE NOT FOUND", "PLAYBACK ERROR"])
    def test_freeswitch_cannot_play_it(self, quiet, response):
        quiet.leg.when("playback", response=response)

        start(quiet)

        assert states(quiet, "play") == ["error"]

    def test_its_beginning_is_told_late_if_that_event_is_lost(self, quiet):
        quiet.leg.when("playback", lasts=2.0)

        start(quiet)

        assert states(quiet, "play") == ["playing", "finished"]

    def test_what_the_other_party_hears_is_mixed_in_all_the_same(self, quiet):
        start(quiet, direction="speak")

        assert quiet.mixing.heard == [(0.0, "/cache/sound.wav", "mr")]

    def test_both_is_not_possible(self, quiet):
        start(quiet, direction="both")

        assert states(quiet, "play") == ["error"]


class TestAPlayOfTheDocument:
    """``play`` opens a control of the same kind; what it can do, REST can ask for."""

    @pytest.fixture
    def document(self, call):
        """Run a document's ``play`` of ten seconds; its id, once it plays."""
        call.leg.when("playback", lasts=10.0)

        def playing(*wishes):
            for seconds, name, params in wishes:
                call.clock.later(
                    seconds,
                    lambda name=name, params=params: command(
                        call, name, control_id=call.controls.running("play")[0].id, **params
                    ),
                )
            run(call, play, url="https://a.example/x.wav")
            return states(call, "play")

        return playing

    def test_pause_and_resume(self, call, document):
        assert document((1.0, "calling.play.pause", {}), (2.0, "calling.play.resume", {})) == [
            "playing",
            "paused",
            "playing",
            "finished",
        ]
        assert [Api("uuid_fileman", f"{call.leg.uuid} pause")] * 2 == call.leg.apis("uuid_fileman")

    def test_stop(self, call, document):
        assert document((1.0, "calling.play.stop", {})) == ["playing", "finished"]
        assert [Api("uuid_break", call.leg.uuid)] == call.leg.apis("uuid_break")

    def test_its_volume_is_fixed(self, call, document):
        with pytest.raises(ApiError, match="a play that a document started is fixed") as caught:
            document((1.0, "calling.play.volume", {"volume": 3}))

        assert (caught.value.status, caught.value.code) == (422, "call_update_failed")


def test_the_document_does_not_notice(call):
    """A play beside it touches neither its variables nor its playback."""
    call.leg.when("playback", lasts=5.0)
    call.clock.later(1.0, lambda: start(call))

    run(call, play, url="https://a.example/long.wav")

    assert call.vars == {}
    assert [Application("playback", "/cache/sound.wav")] == call.leg.applications()
    assert call.mixing.heard == [(1.0, "/cache/sound.wav", "m")]


def test_a_party_that_has_just_gone_is_an_ended_call(call):
    def gone(*_args, **_params):
        raise LegGone("NORMAL_CLEARING")

    call.control = gone

    with pytest.raises(ApiError, match="just ended"):
        start(call)
