"""The caller leaves, or the socket breaks, at every single moment of a long call: the end comes once and complete."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import pytest

from fsctl.simulator import Caller, Drop, Nasty
from tests.stories.stage import Stage, document, left_behind, page, wav

LONG = [
    {"play": {"url": "silence:0.4", "auto_answer": False}},
    {"answer": {"codecs": "PCMU"}},
    {"record_call": {"control_id": "all", "beep": True, "status_url": "@web/hook"}},
    {
        "stream": {
            "url": "wss://127.0.0.1/ok",
            "control_id": "ears",
            "authorization_bearer_token": "token",
            "status_url": "@web/hook",
        }
    },
    {"play": {"urls": ["@web/sound.wav", "say:hi", "ring:1:us"], "volume": 5, "status_url": "@web/hook"}},
    {"user_event": {"event": {"a": 1}}},
    {"record": {"max_length": 0.4, "initial_timeout": 0, "end_silence_timeout": 0, "status_url": "@web/hook"}},
    {"request": {"url": "@web/api", "method": "GET"}},
    {"execute": {"dest": "@web/sub.json"}},
    {"sleep": 200},
    {"stop_stream": {}},
    {"stop_record_call": {}},
    {"hangup": {"reason": "busy"}},
]
COMMANDS = [
    "connect",
    "linger 60",
    "filter Unique-ID",
    "events json",
    "api uuid_setvar_multi",
    "api uuid_pre_answer",
    "playback silence_stream://400",
    "api uuid_setvar absolute_codec_string",
    "api uuid_answer",
    "playback tone_stream://%(250,0,1000)",
    "api uuid_record start",
    "api uuid_setvar_multi",
    "api uuid_setvar STREAM_EXTRA_HEADERS",
    "api uuid_audio_stream start",
    "api uuid_setvar STREAM_EXTRA_HEADERS",
    "playback CACHE500.wav",
    "api uuid_audio start write level",
    "speak flite|slt|hi",
    "api uuid_audio stop",
    "playback tone_stream://v=-2;",
    "sendevent fsctl::user_event",
    "api uuid_record start",
    "api uuid_record stop",
    "filter Job-Owner-UUID",
    "bgapi uuid_audio_stream stop",
    "api uuid_record stop",
    "api uuid_kill USER_BUSY",
]
APPLICATIONS = ["socket", "playback", "playback", "playback", "speak", "playback"]
CONFIG = {
    "event_socket": {"command_timeout": 2.0, "connect_timeout": 2.0},
    "streams": {"connect_timeout": 60.0},  # all calls connect in the same moment, at 40 times the speed
    "webhooks": {"call_state_url": "@web/hook", "script_warning_url": "@web/hook", "user_event_url": "@web/hook"},
}
PAGES = {
    "/sound.wav": page(wav(0.4), Content_Type="audio/wav"),
    "/api": page("{}"),
    "/sub.json": page(document({"set": {"sub": 1}})),
}


class Moment(Nasty):
    """The caller leaves when a command comes (``before``), or when it was executed and its reply is due (``after``)."""

    __slots__ = ("told",)

    def __init__(self, number, when, **ways):
        super().__init__(**ways)
        object.__setattr__(self, "told", SimpleNamespace(number=number, when=when, seen=0, leave=None))

    def refusal(self, names):
        told = self.told
        mine = told.seen == told.number
        told.seen += 1
        object.__setattr__(self, "reply_delay", 2.0 if mine and told.when == "after" else 0.0)
        if mine and told.when == "before":
            told.leave()
        elif mine:
            gevent.spawn_later(0.01, told.leave)


class Ending:
    """As ``Nasty.lost``: the caller leaves when an application has ended, before that is told."""

    def __init__(self, number):
        self.number, self.seen, self.leave = number, 0, None

    def __contains__(self, name):
        if self.seen == self.number:
            self.leave()
        self.seen += 1
        return False


def leaves_when(number):
    """A caller who leaves when the n-th application starts."""
    seen = []

    def leaves(name, argument):
        seen.append(name)
        return len(seen) == number + 1

    return leaves


def mischief(when, number):
    """What the switch and the caller do for one moment, and who has to be told how to leave."""
    if when in ("before", "after"):
        moment = Moment(number, when)
        return {"nasty": moment}, moment.told
    if when == "end":
        ending = Ending(number)
        return {"nasty": Nasty(lost=ending)}, ending
    seconds = 0.0 if when == "start" else 0.1
    return {"behaviour": Caller(hangs_up_on=leaves_when(number), hangs_up_on_after=seconds)}, None


MOMENTS = [
    *((when, number) for when in ("before", "after") for number in range(len(COMMANDS))),
    *((when, number) for when in ("start", "middle") for number in range(len(APPLICATIONS))),
    *(("end", number) for number in range(len(APPLICATIONS) - 1)),
]
BROKEN = [
    *(
        (where, at)
        for where in ("header", "body", "reply")
        for at in ("CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "RECORD_STOP", "CUSTOM")
    ),
    *(
        (where, at)
        for where in ("header", "reply")
        for at in (
            "connect",
            "linger",
            "filter",
            "events",
            "api uuid_setvar_multi",
            "api uuid_pre_answer",
            "sendmsg playback",
            "api uuid_setvar",
            "api uuid_answer",
            "api uuid_record",
            "api uuid_audio_stream",
            "api uuid_audio",
            "sendmsg speak",
            "sendevent",
            "bgapi uuid_audio_stream",
            "api uuid_kill",
            "notice",
        )
    ),
    ("body", "api uuid_record"),
    ("body", "api uuid_audio_stream"),
    ("body", "BACKGROUND_JOB"),
]


@pytest.fixture(scope="module")
def long_calls(tmp_path_factory):
    """Every call of this file, one for each moment, all at once on one stage."""
    stage = Stage(tmp_path_factory.mktemp("long"), config=CONFIG, pages=PAGES)
    stage.write("long.yaml", document(*LONG))
    try:
        stories = {}
        long = {"variables": {"swml_url": "long.yaml"}}
        stories["undisturbed"] = stage.run(**long)
        for when, number in MOMENTS:
            settings, told = mischief(when, number)
            stories[when, number] = story = stage.start(**long, **settings)
            if told is not None:
                told.leave = story.call.hangup
        for where, at in BROKEN:
            settings = {"swml_url": "long.yaml", "socket_resume": "true"}
            stories[where, at] = stage.start(variables=settings, nasty=Nasty(drop=Drop(where, at)))
        for story in stories.values():
            story.call.join(30)
        left_behind(stage)
        yield stories
    finally:
        stage.close()


def test_the_long_call_is_what_the_moments_are_taken_from(long_calls):
    story = long_calls["undisturbed"]
    said = [story._shown(raw) for raw in story.wire]
    assert len(said) == len(COMMANDS)
    assert [line[: len(start)] for line, start in zip(said, COMMANDS, strict=True)] == COMMANDS
    assert [one.application for one in story.call.applications] == APPLICATIONS
    assert story.warnings == []
    assert (story.script.outcome, story.ended.end_reason, story.ended.cause) == ("finished", "busy", "USER_BUSY")
    assert list(story.controls().values()) == [
        ["playing", "finished"],
        ["recording", "finished"],
        ["streaming", "finished"],
        ["playing", "finished"],
        ["recording", "finished"],
    ]


@pytest.mark.parametrize(("when", "number"), MOMENTS, ids=str)
def test_the_caller_leaves(long_calls, when, number):
    story = long_calls[when, number].end()
    said = story.commands
    answered = story.call.answered
    assert ("answered" in story.states) is answered
    if (when, number) == ("after", len(COMMANDS) - 1):  # too late: it is our hangup that counts
        assert (story.ended.end_reason, story.ended.end_source) == ("busy", "outbound")
    elif (when, number) == ("after", 0):  # FreeSWITCH closes before we could ask it to linger
        assert (story.ended.end_reason, story.ended.end_source) == ("error", "none")
    else:
        reason = "hangup" if answered else "abandoned"
        assert (story.ended.end_reason, story.ended.end_source) == (reason, "inbound"), said
    assert story.script.outcome in ("hangup", "finished")
    assert [warning.message for warning in story.warnings if "ERR" not in warning.message] == []
    assert len(story.wire) <= len(COMMANDS)


def test_an_answer_that_only_the_last_word_tells_of_was_one(stage):
    """The caller leaves before the reply is there, and FreeSWITCH says that it had answered."""
    moment = Moment(5, "after", events_first=True, drop=Drop("reply", "api uuid_answer"))
    story = stage().start([{"answer": {}}], nasty=moment)
    moment.told.leave = story.call.hangup
    story.end()
    assert story.commands == ["api uuid_answer"]
    assert "answer_result" not in story.variables
    assert story.states == ["created", "answered", "ended"]
    assert (story.script.outcome, story.ended.end_reason) == ("hangup", "hangup")
    assert story.ended.answer_time


@pytest.mark.parametrize(("where", "at"), BROKEN)
def test_the_socket_breaks(long_calls, where, at):
    story = long_calls[where, at].end()
    if at == "connect":
        assert story.events == []
        return
    assert story.states[-1] == "ended"
    assert story.script.outcome in ("hangup", "finished")
    if at not in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "notice", "api uuid_kill"):
        assert story.ended.end_reason == "error"
        assert story.ended.end_source == "none"
    told = [hook.event["params"].get("call_state") for hook in story.webhooks("/hook")]
    assert told[-1] == "ended"
    assert told.count("ended") == 1
