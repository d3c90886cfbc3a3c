"""Where recordings lie, what customers call them, and what a finished one was."""

import stat

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import CommandFailed
from fsctl.media.recordings import FORMATS, Facts, Recordings

ID = "3f2a1c5e-0b7d-4c1e-9a55-2d2b6f0e8a11"


@pytest.fixture
def recordings(tmp_path):
    return Recordings(tmp_path / "rec", "https://calls.example/base/", min_free_bytes=0)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_new_recording_has_its_url_before_it_has_a_file(recordings, format_):
    recording = recordings.new(format_)

    assert recording.url == f"https://calls.example/base/recordings/{recording.id}.{format_}"
    assert recording.path == recordings.directory / f"{recording.id}.{format_}"
    assert not recording.path.exists()
    assert recordings.path_of_url(recording.url) == recording.path


def test_no_two_recordings_share_a_name(recordings):
    assert len({recordings.new("wav").path for _ in range(100)}) == 100


def test_the_directory_is_made_for_freeswitch_to_write_and_nobody_else_to_read(recordings):
    recordings.new("wav")

    assert stat.S_IMODE(recordings.directory.stat().st_mode) == 0o2770


def test_a_directory_that_exists_keeps_its_mode(recordings):
    recordings.directory.mkdir(mode=0o700)

    recordings.new("wav")

    assert stat.S_IMODE(recordings.directory.stat().st_mode) == 0o700


def test_an_unknown_format_is_a_mistake_of_the_caller(recordings):
    with pytest.raises(ValueError, match="wav, mp3, mp4"):
        recordings.new("ogg")


def test_no_recording_starts_on_a_full_disk(tmp_path):
    recordings = Recordings(tmp_path, "http://h", min_free_bytes=1 << 60)

    with pytest.raises(CommandFailed, match=r"MB are free in .*min_free_bytes asks for 1099511627776 MB"):
        recordings.new("wav")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandFailed, match=r"recordings.directory .*file/rec cannot be used: Not a directory"):
        Recordings(tmp_path / "file" / "rec", "http://h").new("wav")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://calls.example/base/recordings/{ID}.wav", id="as given out"),
        pytest.param(f"https://bob:secret@calls.example/base/recordings/{ID}.wav", id="with credentials"),
        pytest.param(f"HTTPS://CALLS.example:443/base/recordings/{ID}.wav?x=1#y", id="spelt otherwise"),
    ],
)
def test_our_own_urls_are_files(recordings, url):
    assert recordings.path_of_url(url) == recordings.directory / f"{ID}.wav"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://other.example/base/recordings/{ID}.wav", id="another host"),
        pytest.param(f"http://calls.example/base/recordings/{ID}.wav", id="another scheme"),
        pytest.param(f"https://calls.example:444/base/recordings/{ID}.wav", id="another port"),
        pytest.param(f"https://calls.example/recordings/{ID}.wav", id="another path"),
        pytest.param(f"https://calls.example/base/recordings/x/{ID}.wav", id="deeper"),
        pytest.param(f"https://calls.example/base/recordings/{ID}", id="no format"),
        pytest.param(f"https://calls.example/base/recordings/{ID}.exe", id="another format"),
        pytest.param(f"https://calls.example/base/recordings/{ID.upper()}.wav", id="upper case"),
        pytest.param(f"https://calls.example/base/recordings/{ID}.wav\n", id="newline"),
        pytest.param("https://calls.example/base/recordings/../../etc/passwd", id="upwards"),
        pytest.param(f"https://calls.example/base/recordings/..%2f{ID}.wav", id="upwards, encoded"),
        pytest.param("https://calls.example/base/recordings/", id="no name"),
        pytest.param(f"https://calls.example@evil.example/base/recordings/{ID}.wav", id="our name as a user"),
        pytest.param("https://[calls.example/", id="broken"),
        pytest.param("https://calls.example:port/base/recordings/x", id="broken port"),
        pytest.param("", id="empty"),
    ],
)
def test_other_urls_are_not_ours(recordings, url):
    path = recordings.path_of_url(url)

    # urlsplit drops a newline at the end of a URL, as browsers do
    assert path is None or (url.endswith("\n") and path.name == f"{ID}.wav")


@given(st.text(max_size=60))
def test_no_url_leads_out_of_the_directory(tmp_path_factory, name):
    recordings = Recordings(tmp_path_factory.getbasetemp() / "rec", "https://h")
    path = recordings.path_of_url(f"https://h/recordings/{name}")

    assert path is None or path.parent == recordings.directory


@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 16_000)])
def test_the_facts_of_a_wav(recordings, channels, rate):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.zeros((rate * 3 // 2, channels)), rate)

    assert recordings.facts(recording.path) == Facts(44 + rate * 3 * channels, 1.5)


def test_the_facts_of_a_wav_that_was_not_closed(recordings):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.zeros(8000), 8000)
    data = bytearray(recording.path.read_bytes())
    data[40:44] = bytes(4)
    recording.path.write_bytes(data)

    assert recordings.facts(recording.path).duration == 1.0


def test_the_facts_of_an_mp3(recordings):
    recording = recordings.new("mp3")
    soundfile.write(recording.path, np.zeros(8000 * 3), 8000, format="MP3")

    size, duration = recordings.facts(recording.path)

    assert size == recording.path.stat().st_size
    assert duration == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_is_no_sound_has_a_size_and_no_duration(recordings, format_):
    recording = recordings.new(format_)
    recording.path.write_bytes(b"garbage")

    assert recordings.facts(recording.path) == Facts(7, None)


def test_a_recording_that_was_never_written_has_no_bytes(recordings):
    assert recordings.facts(recordings.directory / f"{ID}.wav") == Facts(0, None)


def test_an_empty_recording_has_no_duration(recordings):
    recording = recordings.new("wav")
    recording.path.write_bytes(b"")

    assert recordings.facts(recording.path) == Facts(0, None)


def test_audio_that_is_only_looked_at_has_a_file_and_no_url(tmp_path):
    recordings = Recordings(tmp_path / "rec", "https://x.example", min_free_bytes=0)
    path, other = recordings.passing(), recordings.passing()
    assert path.parent == other.parent == tmp_path / "rec"
    assert path.parent.is_dir()
    assert path != other
    assert path.suffix == ".r8"
    assert recordings.path_of_url(f"https://x.example/recordings/{path.name}") is None


def test_audio_is_not_looked_at_on_a_full_disk(tmp_path):
    with pytest.raises(CommandFailed, match="free"):
        Recordings(tmp_path, "https://x.example", min_free_bytes=1 << 62).passing()
