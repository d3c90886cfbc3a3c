"""Sounds that REST plays into a call beside its document, from the command to the simulated party's ear."""

from __future__ import annotations

import math
import re

import pytest

from fsctl.methods import COMMANDS
from fsctl.simulator import Caller
from tests.stories.stage import page, wait_for, wav

SPEED = 20.0
SLOW = 0.8  # call seconds that a busy machine may be late at this speed
SOUND = {"type": "audio", "url": "@web/sound.wav"}
LONG = {"type": "audio", "url": "@web/long.wav"}


class Playing:
    """A call that sleeps, or runs ``steps``, and what REST asks of it."""

    def __init__(self, stage, *steps, **settings):
        self.stage = stage
        self.story = stage.start([{"answer": {}}, *(steps or [{"sleep": 60_000}])], **settings)
        self.call = wait_for(lambda: stage.server.calls.get(self.story.call.uuid), "the call")
        wait_for(lambda: self.call.state == "answered", "the answer")

    def ask(self, command, control_id="p1", **params):
        found = COMMANDS.get(command)
        if "play" in params:
            params = {"status_url": f"{self.stage.url}/hook", **params}
            params["play"] = [
                {name: self.stage.here(str(value)) if name == "url" else value for name, value in item.items()}
                for item in params["play"]
            ]
        record, ignored = found.read({"control_id": control_id, **params}, strict=True)
        assert not ignored
        return found.run(self.call, record)

    def play(self, *items, **params):
        return self.ask("calling.play", play=list(items), **params)

    def reaches(self, state, control_id="p1"):
        wait_for(lambda: self.states(control_id)[-1:] == [state], f"{control_id} to be {state}")

    def states(self, control_id="p1"):
        return self.story.controls("play").get(("play", control_id), [])

    def passes(self, seconds):
        """Call time goes on."""
        until = self.stage.clock.now() + seconds
        wait_for(lambda: self.stage.clock.now() >= until, f"{seconds} s to pass")

    @property
    def heard(self):
        """How long each sound was heard, in the order they began."""
        return [end - began for began, end in self.story.call.heard]

    @property
    def mixed(self):
        """Every sound that was mixed in: its file without the directory, or its text."""
        starts = [line for line in self.story.commands if line.startswith("api uuid_displace start")]
        return [re.sub(r".*uuid_displace start \{fsctl=\d+\}(?:/\S*/)?(\S*) 0 \S+$", r"\1", line) for line in starts]

    def ends(self):
        """The party leaves; nothing may be left, in memory or on disk."""
        self.story.call.hangup()
        self.story.end()
        cache = self.stage.folder / "cache"
        wait_for(lambda: not list(cache.glob("seg-*")), "the segments to go")
        return self.story


@pytest.fixture
def playing(stage):
    def build(*steps, call=None, **settings):
        pages = {
            "/sound.wav": page(wav(2.0), Content_Type="audio/wav"),
            "/long.wav": page(wav(6.0), Content_Type="audio/wav"),
        }
        return Playing(stage(speed=SPEED, pages=pages, **settings), *steps, **(call or {}))

    return build


def test_several_are_heard_together_each_with_its_own_states_and_webhooks(playing):
    playing = playing()

    assert playing.play(LONG) == {"control_id": "p1"}
    playing.reaches("playing")
    playing.play(SOUND, control_id="p2")
    playing.play(SOUND, control_id="p3")
    for control_id in ("p2", "p3", "p1"):
        playing.reaches("finished", control_id)

    for seconds, lasted in zip((6.0, 2.0, 2.0), playing.heard, strict=True):
        assert seconds - 0.1 <= lasted <= seconds + SLOW
    story = playing.ends()
    for control_id in ("p1", "p2", "p3"):
        hooks = [hook.event for hook in story.webhooks("/hook") if hook.params.get("control_id") == control_id]
        assert [hook["event_type"] for hook in hooks] == ["calling.call.play"] * 2
        assert [hook["params"]["state"] for hook in hooks] == ["playing", "finished"]
        assert hooks[0]["params"].keys() == {"call_id", "node_id", "control_id", "state"}


def test_the_document_goes_on_meanwhile(playing):
    playing = playing({"play": "silence:1"}, {"play": "ring:2:us"}, {"sleep": 60_000})

    playing.play(LONG)
    playing.reaches("finished")

    assert [
        one.argument.partition(":")[0] for one in playing.story.call.applications if one.application == "playback"
    ] == [
        "silence_stream",
        "tone_stream",
    ]
    playing.ends()


def test_a_paused_file_goes_on_where_it_was(playing):
    playing = playing()
    playing.play(LONG)
    playing.reaches("playing")
    playing.passes(2.0)

    playing.ask("calling.play.pause")
    playing.reaches("paused")
    assert not [end for _, end in playing.story.call.heard if math.isinf(end)]
    playing.passes(3.0)
    playing.ask("calling.play.resume")
    playing.reaches("finished")

    assert playing.states() == ["playing", "paused", "playing", "finished"]
    first, second = playing.heard
    assert 2.0 <= first <= 2.0 + SLOW
    assert first + second == pytest.approx(6.0, abs=SLOW)
    playing.ends()


def test_a_louder_file_goes_on_where_it_was(playing):
    playing = playing()
    for path in ("/long.wav", "/sound.wav"):  # to make them takes real time, in which the call would be over
        playing.call.services.files.local(playing.stage.url + path, -6.5)
    playing.play(LONG, SOUND)
    playing.reaches("playing")
    playing.passes(2.0)

    playing.ask("calling.play.volume", volume=-6.5)
    playing.reaches("finished")

    before, after, following = playing.heard
    assert before + after == pytest.approx(6.0, abs=SLOW)
    assert following == pytest.approx(2.0, abs=SLOW)
    assert playing.states() == ["playing", "finished"]
    assert len(list((playing.stage.folder / "cache").glob("*.g-650.wav"))) == 2
    playing.ends()


def test_items_one_after_the_other_and_again(playing):
    playing = playing()

    playing.play(
        SOUND,
        {"type": "silence", "duration": 1},
        {"type": "ringtone", "name": "no", "duration": 1.5},
        loop=2,
    )
    playing.reaches("finished")

    assert [sound.partition("://")[0] for sound in playing.mixed if "://" in sound] == ["tone_stream", "tone_stream"]
    assert len(playing.mixed) == 4
    for seconds, lasted in zip((2.0, 1.5) * 2, playing.heard, strict=True):
        assert seconds - 0.1 <= lasted <= seconds + SLOW
    began = [began for began, _ in playing.story.call.heard]
    assert 3.0 <= began[1] - began[0] <= 3.0 + 2 * SLOW
    assert playing.states() == ["playing", "finished"]
    playing.ends()


def test_stop_ends_what_has_no_end(playing):
    playing = playing()
    playing.play({"type": "ringtone", "name": "us"}, loop=0)
    playing.reaches("playing")

    playing.ask("calling.play.stop")
    playing.reaches("finished")

    assert not [end for _, end in playing.story.call.heard if math.isinf(end)]
    assert playing.ask("calling.play.stop") == {}
    playing.ends()


def test_a_hangup_ends_everything_before_the_call_is_told_to_be_over(playing):
    playing = playing()
    playing.play(LONG, loop=0)
    playing.play({"type": "ringtone", "name": "us"}, control_id="p2")
    playing.play({"type": "silence", "duration": 50}, control_id="p3")
    playing.play({"type": "tts", "text": "hello " * 50}, control_id="p4")
    for control_id in ("p1", "p2", "p3"):
        playing.reaches("playing", control_id)
    playing.ask("calling.play.pause", control_id="p2")
    playing.reaches("paused", "p2")

    playing.ends()

    for control_id in ("p1", "p2", "p3", "p4"):
        assert playing.states(control_id)[-1] == "finished"


def test_a_caller_who_sends_nothing_cannot_be_spoken_over_and_it_ends_at_the_hangup(playing):
    playing = playing(call={"behaviour": Caller(sends_rtp=False)})
    playing.play(SOUND, direction="speak")
    playing.reaches("playing")

    playing.ends()

    assert playing.states() == ["playing", "finished"]


class TestSpeech:
    WORDS = "It's \\n ${system reboot} {a=b} | 'x'"

    def test_it_is_mixed_in_where_freeswitch_can(self, playing):
        playing = playing(mod_ssml=True)
        playing.play({"type": "tts", "text": self.WORDS}, LONG)
        playing.reaches("playing")
        playing.reaches("finished")

        (speech, _) = playing.heard
        assert speech == pytest.approx(0.11 * len(self.WORDS), abs=2.0)
        assert not [one for one in playing.story.call.applications if one.application == "speak"]
        playing.ends()

    def test_else_it_waits_for_its_turn(self, playing):
        playing = playing({"play": "ring:4:us"}, {"sleep": 60_000})
        playing.story.waits("playback")
        playing.play({"type": "tts", "text": self.WORDS})
        playing.story.waits("speak")
        assert playing.states() == []

        playing.reaches("playing")
        ring, speech = playing.story.call.applications[-2:]
        assert (ring.application, speech.application) == ("playback", "speak")
        assert speech.started >= ring.ended
        playing.reaches("finished")
        assert speech.argument == f"flite|slt|{self.WORDS}"
        playing.ends()

    def test_stopped_before_its_turn_it_is_finished_at_once_and_not_heard(self, playing):
        playing = playing({"play": "ring:8:us"}, {"play": "silence:1"}, {"sleep": 60_000})
        playing.story.waits("playback")
        playing.play({"type": "tts", "text": "hello " * 100})
        playing.story.waits("speak")

        playing.ask("calling.play.stop")
        assert playing.states() == ["finished"]

        def spoken():
            return [one for one in playing.story.call.applications if one.application == "speak" and one.ended]

        (speech,) = wait_for(spoken, "the speech's turn")
        assert speech.ended - speech.started < 66.0 / 2
        playing.ends()

    def test_paused_it_begins_again(self, playing):
        playing = playing()
        playing.play({"type": "tts", "text": "hello " * 10})
        playing.reaches("playing")
        playing.ask("calling.play.pause")
        playing.reaches("paused")
        playing.ask("calling.play.resume")
        playing.reaches("finished")

        first, second = (one for one in playing.story.call.applications if one.application == "speak")
        assert first.ended - first.started < second.ended - second.started
        assert playing.states() == ["playing", "paused", "playing", "finished"]
        playing.ends()


def test_on_a_call_that_is_sent_nothing_a_sound_takes_its_turn(playing):
    playing = playing(config={"calls": {"send_silence": False}})
    playing.play(LONG)
    playing.reaches("playing")
    playing.passes(2.0)
    playing.ask("calling.play.pause")
    playing.reaches("paused")
    playing.ask("calling.play.resume")
    playing.reaches("finished")

    assert playing.mixed == []
    assert sum(playing.heard) == pytest.approx(6.0, abs=SLOW)
    playing.ends()


def test_a_redirect_leaves_it_alone(playing):
    playing = playing()
    playing.play(LONG)
    playing.reaches("playing")

    script = playing.call.script
    script.redirect(
        script.compile({"version": "1.0.0", "sections": {"main": [{"play": "silence:1"}, {"sleep": 60_000}]}})
    )
    playing.reaches("finished")

    (lasted,) = playing.heard
    assert lasted == pytest.approx(6.0, abs=SLOW)
    playing.ends()


def test_a_recording_of_what_the_party_hears_holds_it(playing):
    playing = playing({"record_call": {"control_id": "all", "direction": "listen", "beep": False}}, {"sleep": 60_000})
    playing.story.waits("api uuid_record start")
    playing.play(SOUND)
    playing.reaches("finished")

    story = playing.ends()

    (recording,) = story.call.recordings
    assert recording.seconds > 2.0
    audio = (playing.stage.folder / "recordings").glob("*.wav")
    assert any(byte for path in audio for byte in path.read_bytes()[44:])
