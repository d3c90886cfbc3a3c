"""Recordings: freeswitch 3.5, 4.1 and 4.2."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import pytest
import soundfile

from fsctl.simulator import Caller, Nasty

EVENTS = "RECORD_START RECORD_STOP MEDIA_BUG_START MEDIA_BUG_STOP CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP_COMPLETE"
ALWAYS = ((0.0, math.inf),)
TOLERANCE = 0.3  # call seconds the test's own slowness may cost at 20 times the speed


@pytest.fixture
def taken(desk, tmp_path):
    def take(behaviour=None, **settings):
        switch = desk.switch(**settings)
        call = switch.call(behaviour=behaviour or Caller(speaks=ALWAYS))
        application = desk.arrived()
        application.take(EVENTS)
        application.run("answer", uuid="op-answer")
        return switch, call, application, str(tmp_path / "made" / "rec.wav")

    return take


def frames(path):
    with wave.open(path) as opened:
        return opened.getnframes(), opened.getnchannels(), opened.readframes(opened.getnframes())


def test_start_and_stop(taken):
    switch, call, application, path = taken()
    assert application.api(f"uuid_record {call.uuid} start {path}") == "+OK Success\n"
    assert application.until("RECORD_START").event["Record-File-Path"] == path
    assert application.until("MEDIA_BUG_START").event["Media-Bug-Target"] == path
    switch.clock.sleep(2.0)
    assert application.api(f"uuid_record {call.uuid} stop {path}") == "+OK Success\n"
    stop = application.until("RECORD_STOP").event
    assert stop["Record-Completion-Cause"] == "success-maxtime"
    assert application.until("MEDIA_BUG_STOP").event["Media-Bug-Function"] == "session_record"
    count, channels, audio = frames(path)
    assert channels == 1
    assert count == int(stop["variable_record_samples"]) == int(stop["variable_record_ms"]) * 8
    assert count / 8000 == pytest.approx(1.5, abs=TOLERANCE)
    assert audio.strip(b"\0")
    assert application.api(f"uuid_record {call.uuid} stop {path}") == "-ERR Cannot stop record session!\n"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("nobody start /x.wav", "-ERR Cannot locate session!\n"),
        ("{uuid} mask {path}", "-ERR Cannot mask recording session!\n"),
        ("{uuid} pause {path}", "-ERR Cannot pause recording session!\n"),
        ("{uuid} start {path}.flac", "-ERR Cannot record session!\n"),
        ("{uuid} start /proc/1/no/rec.wav", "-ERR Cannot record session!\n"),
    ],
)
def test_refusals(taken, text, reply):
    _, call, application, path = taken()
    assert application.api("uuid_record " + text.format(uuid=call.uuid, path=path)) == reply


def test_the_limit_is_one_of_whole_clock_seconds(taken):
    _switch, call, application, path = taken()
    application.api(f"uuid_record {call.uuid} start {path} 3")
    stop = application.until("RECORD_STOP")
    recording = call.recordings[0]
    assert stop.event["Record-Completion-Cause"] == "success-maxtime"
    assert int(recording.ended) - int(recording.began) == 3
    assert 2.0 <= recording.ended - recording.began <= 3.0 + TOLERANCE


INITIAL, FINAL = "RECORD_INITIAL_TIMEOUT_MS=2000", "RECORD_FINAL_TIMEOUT_MS=1000"


@pytest.mark.parametrize(
    ("speaks", "settings", "cause"),
    [
        ((), INITIAL, "no-input-timeout"),
        (((0.5, 2.0),), f"{INITIAL},{FINAL}", "success-silence"),
        (((0.5, 2.0),), FINAL, "success-silence"),
    ],
    ids=["nobody speaks", "falls silent", "final alone"],
)
def test_silence_ends_a_recording(taken, speaks, settings, cause):
    _, call, application, path = taken(Caller(speaks=speaks))
    application.api(f"uuid_record {call.uuid} start {path} 0 {{{settings}}}")
    assert application.until("RECORD_STOP").event["Record-Completion-Cause"] == cause
    recording = call.recordings[0]
    assert recording.ended - recording.began == pytest.approx(2.0 if not speaks else 3.0, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("speaks", "settings", "cause"),
    [
        ((), "", "success-silence"),
        ((), INITIAL, "no-input-timeout"),
        (ALWAYS, f"{INITIAL},{FINAL}", "success-silence"),
    ],
)
def test_a_hangup_ends_a_recording(taken, speaks, settings, cause):
    switch, call, application, path = taken(Caller(speaks=speaks))
    application.api(f"uuid_record {call.uuid} start {path} 0 {{{settings}}}")
    switch.clock.sleep(1.0)
    call.hangup()
    assert application.until("RECORD_STOP").event["Record-Completion-Cause"] == cause
    over = application.until("CHANNEL_HANGUP_COMPLETE")
    assert over.event["variable_record_completion_cause"] == cause


@pytest.mark.parametrize(
    ("behaviour", "settings", "cause"),
    [
        (Caller(sends_rtp=False), "", "empty-file"),
        (Caller(speaks=ALWAYS), "RECORD_MIN_SEC=30", "input-too-short"),
    ],
)
def test_recordings_that_are_thrown_away(taken, tmp_path, behaviour, settings, cause):
    switch, call, application, path = taken(behaviour)
    application.api(f"uuid_record {call.uuid} start {path} 0 {{{settings}}}")
    switch.clock.sleep(1.0)
    application.api(f"uuid_record {call.uuid} stop all")
    stop = application.until("RECORD_STOP").event
    assert (stop["Record-Completion-Cause"], stop["variable_record_file_size"]) == (cause, "0")
    assert not (tmp_path / "made" / "rec.wav").exists()


@pytest.mark.parametrize(
    ("settings", "left", "right"),
    [
        ("RECORD_STEREO=true", True, False),
        ("RECORD_STEREO_SWAP=true", False, True),
        ("RECORD_READ_ONLY=true", True, None),
        ("RECORD_WRITE_ONLY=true", False, None),
    ],
)
def test_directions(taken, settings, left, right):
    switch, call, application, path = taken()
    application.api(f"uuid_record {call.uuid} start {path} 0 {{{settings}}}")
    switch.clock.sleep(1.0)
    application.api(f"uuid_record {call.uuid} stop {path}")
    _, channels, audio = frames(path)
    assert channels == (1 if right is None else 2)
    step = 2 * channels
    assert bool((audio[0::step] + audio[1::step]).strip(b"\0")) is left
    if right is not None:
        assert bool((audio[2::step] + audio[3::step]).strip(b"\0")) is right


def test_what_plays_is_on_the_other_side(taken):
    switch, call, application, path = taken(Caller())
    application.api(f"uuid_record {call.uuid} start {path} 0 {{RECORD_STEREO=true}}")
    application.execute("playback", "tone_stream://%(60000,0,440)", "op")
    switch.clock.sleep(1.5)
    application.api(f"uuid_record {call.uuid} stop {path}")
    _, _, audio = frames(path)
    assert not (audio[0::4] + audio[1::4]).strip(b"\0")
    assert (audio[2::4] + audio[3::4]).strip(b"\0")


def test_variables_of_a_recording_are_decoded_and_echoed(taken):
    _, call, application, path = taken()
    application.api(f"uuid_record {call.uuid} start {path} 0 {{control=a%20b%2Cc}}")
    assert application.until("RECORD_START").event["Recording-Variable-control"] == "a b,c"


def test_masked_is_silent_and_paused_is_missing(taken):
    switch, call, application, path = taken(Caller(speaks=ALWAYS))
    application.api(f"uuid_record {call.uuid} start {path}")
    for action, seconds in (("mask", 1.0), ("unmask", 0.5), ("pause", 2.0), ("resume", 1.5)):
        assert application.api(f"uuid_record {call.uuid} {action} {path}") == "+OK Success\n"
        switch.clock.sleep(seconds)
    application.api(f"uuid_record {call.uuid} stop {path}")
    count, _, audio = frames(path)
    assert count / 8000 == pytest.approx(3.0 - 0.5, abs=TOLERANCE)
    assert not audio[1600 : 1600 + 8000].strip(b"\0")
    assert audio[-8000:].strip(b"\0")


def test_a_limit_that_passes_during_a_pause_ends_it_afterwards(taken):
    switch, call, application, path = taken(Caller(speaks=ALWAYS))
    application.api(f"uuid_record {call.uuid} start {path} 3")
    application.api(f"uuid_record {call.uuid} pause {path}")
    switch.clock.sleep(6.0)
    assert call.recordings[0].cause == ""
    assert application.api(f"uuid_record {call.uuid} resume {path}") == "+OK Success\n"
    stop = application.until("RECORD_STOP").event
    assert stop["Record-File-Path"] == path
    assert call.recordings[0].ended


def test_mp3_needs_its_module(taken):
    _switch, call, application, path = taken(mod_shout=False)
    path = path.replace(".wav", ".mp3")
    assert application.api(f"uuid_record {call.uuid} start {path}") == "-ERR Cannot record session!\n"
    assert application.api("module_exists mod_shout") == "false"


def test_mp3(taken):
    switch, call, application, path = taken()
    path = path.replace(".wav", ".mp3")
    application.api(f"uuid_record {call.uuid} start {path}")
    switch.clock.sleep(2.0)
    application.api(f"uuid_record {call.uuid} stop {path}")
    assert soundfile.info(path).duration == pytest.approx(1.5, abs=TOLERANCE)


def test_the_application_forms(taken):
    _, call, application, path = taken()
    application.run("record_session", path, uuid="start")
    application.run("record_session_mask", path, uuid="mask")
    application.run("sleep", "1000", uuid="sleep")
    application.run("stop_record_session", path, uuid="stop")
    assert call.recordings[0].cause == "success-maxtime"


@pytest.mark.parametrize(
    ("behaviour", "argument", "seconds", "exhausted", "terminator"),
    [
        (Caller(speaks=ALWAYS, digits="5#", digits_after=1.0), "10", 1.1, "false", "#"),
        (Caller(speaks=((0.0, 1.0),)), "10 200 2", 3.0, "true", None),
        (Caller(speaks=ALWAYS), "2", 2.5, "false", None),
    ],
    ids=["key", "silence", "limit"],
)
def test_the_record_application(taken, behaviour, argument, seconds, exhausted, terminator):
    _, call, application, path = taken(behaviour)
    application.api(f"uuid_setvar {call.uuid} playback_terminators #")
    done = application.run("record", f"{path} {argument}").event
    assert done["Application-Response"] == "_none_"
    assert done["variable_silence_hits_exhausted"] == exhausted
    assert done.get("variable_playback_terminator_used") == terminator
    assert int(done["variable_record_ms"]) / 1000 == pytest.approx(seconds, abs=0.6)
    assert frames(path)[0] == int(done["variable_record_samples"])
    assert "Record-Completion-Cause" not in application.messages[-2].event


def test_the_record_application_ends_the_call_when_it_cannot_record(taken):
    _, call, application, _ = taken()
    application.execute("record", "/proc/1/no/rec.wav 5", "op")
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.hangup_cause == "DESTINATION_OUT_OF_ORDER"


def test_a_hangup_in_the_middle_of_record(desk, tmp_path):
    call = desk.switch().call(nasty=Nasty(hang_up_during="record", hang_up_after=1.0))
    application = desk.arrived()
    application.take(EVENTS)
    application.execute("record", f"{tmp_path}/rec.wav 10", "op")
    application.until("RECORD_STOP")
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.applications[1].ended - call.applications[1].started == pytest.approx(1.0, abs=TOLERANCE)


def test_a_raw_file_grows_while_the_call_goes_on(taken):
    switch, call, application, path = taken(Caller(speaks=((0.0, 1.0),)))
    raw = path.replace(".wav", ".r8")
    assert application.api(f"uuid_record {call.uuid} start {raw} 0 {{RECORD_READ_ONLY=true}}") == "+OK Success\n"
    with Path(raw).open("rb") as file:
        switch.clock.sleep(3.0)
        before = file.read()
        assert application.api(f"uuid_record {call.uuid} stop {raw}") == "+OK Success\n"
        application.until("RECORD_STOP")
        audio = before + file.read()
    assert len(before) / 16000 == pytest.approx(3.0, abs=TOLERANCE)
    assert not len(audio) % 320
    assert len(audio.rstrip(b"\0")) / 16000 == pytest.approx(1.0, abs=TOLERANCE)


def test_what_is_attached_is_listed(taken):
    _, call, application, path = taken()
    application.api(f"uuid_record {call.uuid} start {path}")
    listed = application.api(f"uuid_buglist {call.uuid}")
    assert "<function>session_record</function>" in listed
    assert f"<target>{path}</target>" in listed
