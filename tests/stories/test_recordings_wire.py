"""What fsctl says on the wire has the form in which a real FreeSWITCH was recorded to take it."""

from __future__ import annotations

import re

import pytest

from tests.recordings import NAMES, conversation
from tests.stories.stage import Stage, document
from tests.stories.test_hangups import CONFIG, LONG, PAGES

UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
EXECUTE = (
    rf"sendmsg( {UUID})?\ncall-command: execute\nexecute-app-name: %s\nEvent-UUID: [\w-]+\n"
    r"(event-lock: true\n)?(content-type: text/plain\ncontent-length: \d+\n)?\n"
)
EVENT = (
    r"sendevent CUSTOM\nEvent-Subclass: fsctl::user_event\nCall-ID: \S+\ncontent-type: application/json\n"
    r"content-length: \d+\n\n\{.*\}"
)

RECORDED = {
    "connect": r"connect\n\n",
    "linger": r"linger \d+\n\n",
    "events": r"events? json( [A-Z_]+)+ CUSTOM( mod_audio_stream::\w+)+\n\n",
    "an application with its argument in the body": EXECUTE % "playback" + r"/[^\n]+(\n\n)?",
    "a recording starts": rf"api uuid_record {UUID} start /[^ ]+\.wav( \d+( \{{.*\}})?)?\n\n",
    "a recording stops": rf"api uuid_record {UUID} stop /[^ ]+\.wav\n\n",
    "a variable is set": rf"api uuid_setvar {UUID} \w+ \S.*\n\n",
    "a stream starts": rf"api uuid_audio_stream {UUID} start wss?://[^ ]+ (mono|stereo) (8000|16000) \{{\".*\}}\n\n",
    "a stream stops": rf"(api|bgapi) uuid_audio_stream {UUID} stop\n(Job-UUID: [\w-]+\n)?\n",
    "a job has our id": rf"bgapi \w+ {UUID}( \w+)?\nJob-UUID: [\w-]+\n\n",
    "a sound is broken off": rf"api uuid_break {UUID}\n\n",
    "a hangup": rf"(bg)?api uuid_kill {UUID} [A-Z_]+\n\n",
}
"""Things both we and a recording do, in a form both have to have."""

ONLY_OURS = {
    "a filter": (rf"filter (Unique-ID|Job-Owner-UUID) {UUID}\n\n", "freeswitch 1.7"),
    "several variables": (
        rf"api uuid_setvar_multi {UUID} \w+=[\w-]+(;\w+=[\w-]+)*\n\n",
        "freeswitch 4, uuid_setvar_multi",
    ),
    "a variable is taken away": (rf"api uuid_setvar {UUID} STREAM_EXTRA_HEADERS\n\n", "freeswitch 4, uuid_setvar"),
    "a level": (rf"api uuid_audio {UUID} (start write level -?[1-4]|stop)\n\n", "freeswitch 4, uuid_audio"),
    "an event": (EVENT, "freeswitch 1.6, sendevent"),
    "a stream or tone is played": (EXECUTE % "playback" + r"(tone|silence)_stream://.*", "the argument is below"),
    "the answer": (rf"api uuid_answer {UUID}\n\n", "freeswitch 4.8, uuid_answer"),
    "early media": (rf"api uuid_pre_answer {UUID}\n\n", "freeswitch 4.8, uuid_pre_answer"),
    "speech": (EXECUTE % "speak" + r"\w+\|\w+\|.+", "the argument is below"),
}
"""What no recording has, and where its form comes from."""


@pytest.fixture(scope="module")
def recorded():
    """Every command of every recording, by the recording's name."""
    return {name: [data.decode() for who, data in conversation(name) if who == "application"] for name in NAMES}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Every command of the long call, and of one that breaks off a sound."""
    wire = []
    for script, speed in ((LONG, 40.0), ([{"play": {"url": "ring:61:us"}}], 400.0)):
        stage = Stage(tmp_path_factory.mktemp("wire") / "stage", config=CONFIG, pages=PAGES, speed=speed)
        try:
            wire += stage.run(document(*script)).wire
        finally:
            stage.close()
    return [raw.decode() for raw in wire]


def _like(form, commands):
    return [command for command in commands if re.fullmatch(form, command, re.DOTALL)]


@pytest.mark.parametrize("what", RECORDED)
def test_what_is_recorded_is_said_in_the_recorded_form(what, recorded, said):
    form = RECORDED[what]
    assert any(_like(form, commands) for commands in recorded.values()), "no recording shows this"
    assert _like(form, said), "we never say this"


def test_nothing_is_said_in_another_form(said):
    forms = [*RECORDED.values(), *(form for form, _ in ONLY_OURS.values())]
    odd = [command for command in said if not any(re.fullmatch(form, command, re.DOTALL) for form in forms)]
    assert odd == []


@pytest.mark.parametrize("what", ONLY_OURS)
def test_every_form_of_ours_is_used(what, said):
    assert _like(ONLY_OURS[what][0], said)


def test_every_body_is_as_long_as_it_says(said):
    for command in said:
        head, _, body = command.partition("\n\n")
        length = re.search(r"content-length: (\d+)", head)
        assert len(body.encode()) == (int(length.group(1)) if length else 0)


def test_every_application_is_locked_and_has_an_id_of_its_own(said):
    executed = [command for command in said if command.startswith("sendmsg")]
    ids = [re.search(r"Event-UUID: (\S+)", command).group(1) for command in executed]
    assert len(set(ids)) == len(ids)
    assert all("\nevent-lock: true\n" in command for command in executed)


ARGUMENTS = {
    "silence_stream://300": {"play": {"url": "silence:0.3"}},
    "flite|slt|hello world": {"play": {"url": "say:hello world"}},
    "\\${expr(1+1)}": {"play": {"url": "say:${envs.text}"}},
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_an_argument_is_the_recorded_one(argument, recorded, stage):
    """Down to the backslash that keeps ``${expr(1+1)}`` from being computed."""
    shown = [command for command in recorded["play"] if f"execute-app-arg: {argument}\n" in command]
    assert shown
    story = stage(config={"documents": {"envs": {"text": "${expr(1+1)}"}}}).run([ARGUMENTS[argument]])
    assert story.commands[1].endswith(argument)
    assert story.call.expanded_apis == []


def test_a_tone_has_the_recorded_grammar(recorded, said):
    grammar = r"tone_stream://(v=-?[\d.]+;)?(%\(\d+,\d+(,[\d.]+)+\);?)+(loops=\d+)?"
    theirs = re.findall(r"tone_stream://\S+", "".join(recorded["play"]))
    ours = [found for command in said for found in re.findall(r"tone_stream://\S+", command)]
    assert theirs
    assert ours
    for tone in (*theirs, *ours):
        assert re.fullmatch(grammar, tone), tone


def test_only_events_that_freeswitch_sends_are_asked_for(recorded, said):
    """Each was seen in a recording, and so was each subclass that is ours to ask for."""
    (asked,) = {command for command in said if command.startswith("events")}
    builtin, _, custom = asked.removeprefix("events json ").strip().partition(" CUSTOM ")
    heard = [data for name in NAMES for who, data in conversation(name) if who != "application"]
    text = b"".join(heard).decode("utf-8", "replace")
    seen = set(re.findall(r"Event-Name\"?: ?\"?([A-Z_]+)", text))
    assert set(builtin.split()) <= seen
    subclasses = set(re.findall(r"Event-Subclass\"?: ?\"?([\w:%]+)", text))
    assert set(custom.split()) <= {subclass.replace("%3A", ":") for subclass in subclasses}
