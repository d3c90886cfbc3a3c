"""What is mixed into a call beside everything else, as a FreeSWITCH 1.10.12 does it (``uuid_displace``)."""

from __future__ import annotations

import math
import wave

import pytest

from fsctl.simulator import Caller, media

DISPLACED = "CHANNEL_EXECUTE_COMPLETE MEDIA_BUG_START MEDIA_BUG_STOP CHANNEL_HANGUP_COMPLETE RECORD_STOP"


@pytest.fixture
def sound(tmp_path):
    """A file of that many seconds, as a path."""

    def make(seconds, name="a"):
        path = tmp_path / f"{name}.wav"
        media.write_wav(path, media.tone(round(seconds * 8000)), 1)
        return str(path)

    return make


@pytest.fixture
def arrive(desk):
    def arrive(*, silence="-1", behaviour=None, **settings):
        call = desk.switch(**settings).call(behaviour=behaviour or Caller())
        application = desk.arrived()
        application.take(DISPLACED)
        application.api(f"uuid_setvar {call.uuid} send_silence_when_idle {silence}")
        application.api(f"uuid_answer {call.uuid}")
        return call, application

    return arrive


def displaced(message):
    return message.event.get("Media-Bug-Function") == "displace" and message.name


@pytest.mark.parametrize(
    "name",
    ["{wav}", "{{fsctl=1}}{wav}", "{{fsctl=2}}tone_stream://v=-7;%(500,500,440);loops=1", "silence_stream://900"],
)
@pytest.mark.parametrize("flags", ["m", "mr"])
def test_it_ends_by_itself_and_says_so(arrive, sound, name, flags):
    call, application = arrive()
    name = name.format(wav=sound(1.0))

    assert application.api(f"uuid_displace {call.uuid} start {name} 0 {flags}") == "+OK Success\n"
    stop = application.until(lambda m: displaced(m) == "MEDIA_BUG_STOP")

    (start,) = (m for m in application.messages if displaced(m) == "MEDIA_BUG_START")
    assert {start.event["Media-Bug-Target"], stop.event["Media-Bug-Target"]} == {name}
    lasted = int(stop.event["Event-Date-Timestamp"]) - int(start.event["Event-Date-Timestamp"])
    assert lasted >= 900_000


def test_several_at_once_but_only_one_of_a_name(arrive, sound):
    call, application = arrive()
    path = sound(60)

    replies = [
        application.api(f"uuid_displace {call.uuid} start {name} 0 m")
        for name in (path, "{a=1}" + path, "{a=2}" + path, path)
    ]

    assert [reply.partition(" ")[0] for reply in replies] == ["+OK", "+OK", "+OK", "-ERR"]
    assert application.api(f"uuid_buglist {call.uuid}").count("<function>displace</function>") == 3


def test_a_stop_needs_the_same_name(arrive, sound):
    call, application = arrive()
    path = sound(60)
    application.api(f"uuid_displace {call.uuid} start {{a=1}}{path} 0 m")

    assert application.api(f"uuid_displace {call.uuid} stop {path}") == "-ERR Cannot stop displace session!\n"
    assert application.api(f"uuid_displace {call.uuid} stop {{a=1}}{path}") == "+OK Success\n"
    stop = application.until(lambda m: displaced(m) == "MEDIA_BUG_STOP")
    assert stop.event["Media-Bug-Target"] == "{a=1}" + path


def test_blanks_and_quotes_reach_the_name_as_they_are_meant(arrive):
    call, application = arrive(mod_ssml=True)

    application.api(rf"uuid_displace {call.uuid} start tts://flite|slt|it\\\'s\sme 0 m")

    assert application.until(lambda m: displaced(m) == "MEDIA_BUG_START").event["Media-Bug-Target"] == (
        r"tts://flite|slt|it\'s me"
    )


@pytest.mark.parametrize(
    ("silence", "flags", "rtp", "ends"),
    [
        pytest.param("-1", "m", True, True, id="silence-flows"),
        pytest.param("0", "m", True, False, id="nothing-to-play-over"),
        pytest.param("0", "mr", True, True, id="over-what-the-party-says"),
        pytest.param("-1", "mr", False, False, id="the-party-is-not-heard"),
    ],
)
def test_there_must_be_something_to_mix_with(arrive, sound, silence, flags, rtp, ends):
    call, application = arrive(silence=silence, behaviour=Caller(sends_rtp=rtp))
    application.api(f"uuid_displace {call.uuid} start {sound(0.1)} 0 {flags}")

    application.run("sleep", "2000")

    assert ("displace" in application.api(f"uuid_buglist {call.uuid}")) is not ends


@pytest.mark.parametrize(
    ("flags", "variable", "left", "right"),
    [("m", "RECORD_WRITE_ONLY", 0.5, 1.5), ("mr", "RECORD_READ_ONLY", 0.5, 1.5)],
    ids=["heard", "said"],
)
def test_a_recording_holds_what_is_mixed_in(arrive, sound, tmp_path, flags, variable, left, right):
    call, application = arrive()
    recorded = tmp_path / "rec.wav"
    application.api(f"uuid_record {call.uuid} start {recorded} 0 {{{variable}=true,RECORD_PRE_BUFFER_FRAMES=0}}")
    application.run("sleep", str(round(left * 1000)))
    application.api(f"uuid_displace {call.uuid} start {sound(right - left)} 0 {flags}")
    application.run("sleep", "2000")
    application.api(f"uuid_record {call.uuid} stop {recorded}")

    with wave.open(str(recorded)) as file:
        audio = file.readframes(file.getnframes())
    loud = [sample for sample in range(0, len(audio), 2) if audio[sample : sample + 2] != b"\0\0"]
    assert math.isclose(len(loud) / 8000, right - left, rel_tol=0.5)


def test_a_hangup_takes_it_away(arrive, sound):
    call, application = arrive()
    application.api(f"uuid_displace {call.uuid} start {sound(60)} 0 m")

    application.api(f"uuid_kill {call.uuid}")

    assert application.until(lambda m: displaced(m) == "MEDIA_BUG_STOP")
