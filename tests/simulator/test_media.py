from __future__ import annotations

import math
import wave

import pytest
import soundfile

from fsctl.simulator import media
from fsctl.simulator.caller import keys, silence_ends, talking


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("%(200,100,440);loops=2", 0.6),
        ("%(2000,4000,440,480)", 6.0),
        ("%(100,100,350);%(200,0,440)", 0.4),
        ("v=-7;%(500,500,480,620);loops=3", 3.0),
        ("L=3;%(100,100,640)", 0.6),
        ("%(400,200,400,450);%(400,2200,400,450);loops=-1", math.inf),
        ("nothing", None),
        ("path=/etc/passwd", None),
    ],
)
def test_tone_durations(text, seconds):
    assert media.tone_seconds(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("path", "seconds"),
    [
        ("silence_stream://250", 0.25),
        ("silence_stream://1500,1400", 1.5),
        ("silence_stream://-1", math.inf),
        ("{a=b}silence_stream://100", 0.1),
        ("local_stream://moh", math.inf),
    ],
)
def test_streams(path, seconds):
    assert media.open_playable(path).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere.wav",
        "relative.wav",
        "silence_stream://0",
        "https://example.org/a.mp3",
        "file_string:///a.wav!/b.wav",
        "",
    ],
)
def test_what_cannot_be_opened(path):
    assert media.open_playable(path) is None


def test_files_last_as_long_as_they_say(tmp_path):
    path = tmp_path / "a.wav"
    media.write_wav(path, media.tone(4000), 1)
    assert media.open_playable(str(path)).seconds == 0.5
    assert media.open_playable(f"{path}@@2000").seconds == 0.25
    opened = media.open_playable(f"{{opid=7,x=y}}{path}")
    assert (opened.seconds, opened.parameters) == (0.5, {"opid": "7", "x": "y"})


def test_a_file_string_is_its_files_and_the_joints_between_them(tmp_path):
    media.write_wav(tmp_path / "a.wav", media.tone(800), 1)
    opened = media.open_playable(f"file_string://{tmp_path}/a.wav!/missing.wav!silence_stream://100")
    assert opened.seconds == pytest.approx(0.1 + 0.1 + 0.25)
    assert [found for _, found in opened.parts] == [True, False, True]


def test_a_damaged_file_cannot_be_opened(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF....")
    (tmp_path / "a.mp3").write_bytes(b"not an mp3")
    assert media.open_playable(str(tmp_path / "a.wav")) is None
    assert media.open_playable(str(tmp_path / "a.mp3")) is None


@pytest.mark.parametrize("channels", [1, 2])
def test_written_mp3s_are_real_ones(tmp_path, channels):
    path = tmp_path / "a.mp3"
    size = media.write_mp3(path, 16000, channels)
    info = soundfile.info(str(path))
    assert (path.stat().st_size, info.samplerate, info.channels) == (size, 8000, channels)
    assert info.duration == pytest.approx(2.0, abs=0.1)
    assert media.open_playable(str(path)).seconds == pytest.approx(2.0, abs=0.1)


def test_stereo_keeps_sides_apart(tmp_path):
    path = tmp_path / "a.wav"
    media.write_wav(path, media.stereo(media.tone(160), media.silence(160)), 2)
    with wave.open(str(path)) as opened:
        audio = opened.readframes(160)
    assert audio[0::4] + audio[1::4] != bytes(320)
    assert audio[2::4] + audio[3::4] == bytes(320)


def test_keys():
    assert keys("1w23#") == [
        (0.0, "1"),
        (pytest.approx(0.6), "2"),
        (pytest.approx(0.7), "3"),
        (pytest.approx(0.8), "#"),
    ]
    assert keys("W5") == [(1.0, "5")]


@pytest.mark.parametrize(
    ("speaks", "initial", "final", "expected"),
    [
        ((), 2.0, 1.0, (12.0, False)),
        ((), None, 1.0, None),
        (((11.0, 13.0),), 2.0, 1.0, (14.0, True)),
        (((12.5, 13.0),), 2.0, 1.0, (12.0, False)),
        (((11.0, 12.0), (12.5, 14.0)), 2.0, 1.0, (15.0, True)),
        (((5.0, 11.0),), 2.0, 1.0, (12.0, True)),
        (((5.0, 9.0),), 2.0, 1.0, (12.0, False)),
        (((11.0, math.inf),), 2.0, 1.0, None),
        (((11.0, 12.0),), 2.0, None, None),
    ],
)
def test_when_silence_ends_a_recording_that_began_at_ten(speaks, initial, final, expected):
    assert silence_ends(speaks, 10.0, initial, final) == expected


def test_talking_is_cut_to_the_span():
    assert talking(((0.0, 2.0), (3.0, 9.0)), 1.0, 4.0) == [(1.0, 2.0), (3.0, 4.0)]
