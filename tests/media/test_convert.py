"""Any audio as PCM that FreeSWITCH plays, and nothing a file can do to us on the way."""

import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import gevent
import numpy as np
import pytest
import soundfile
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from fsctl.media import convert as module
from fsctl.media.convert import ConversionFailed, Converter, Unplayable, convert, read_wav, refuse_text

PLENTY = 1 << 30


def wav(
    data: bytes, *, tag=1, channels=1, rate=8000, bits=16, announced=None, before=(), byte_rate=None, block=None
) -> bytes:
    """A RIFF/WAVE file, right or wrong."""
    block = channels * bits // 8 if block is None else block
    byte_rate = rate * block if byte_rate is None else byte_rate
    form = struct.pack("<HHIIHH", tag, channels, rate, byte_rate, block, bits)
    chunks = b"".join(name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2) for name, body in before)
    body = chunks + b"fmt " + struct.pack("<I", 16) + form + b"data"
    body += struct.pack("<I", len(data) if announced is None else announced) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def header(data: bytes):
    return read_wav(io.BytesIO(data))


# -- reading headers -------------------------------------------------------------------------------------------------


@given(
    st.sampled_from([1, 2, 6]),
    st.integers(1, 200_000),
    st.sampled_from([8, 16, 24, 32]),
    st.binary(max_size=400),
    st.lists(st.tuples(st.sampled_from([b"LIST", b"fact", b"JUNK", b"bext"]), st.binary(max_size=50)), max_size=5),
)
def test_a_header_says_what_was_written(channels, rate, bits, data, before):
    found = header(wav(data, channels=channels, rate=rate, bits=bits, before=before))

    assert found is not None
    assert (found.encoding, found.channels, found.rate, found.bits) == (1, channels, rate, bits)
    assert found.data_bytes == len(data)
    assert found.complete
    assert found.duration == len(data) / (rate * channels * bits // 8)


@given(st.binary(max_size=300))
def test_any_bytes_have_a_header_or_none(data):
    for start in (b"", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0", wav(b"")[:40]):
        found = header(start + data)
        assert found is None or (found.duration >= 0 and found.data_bytes <= len(start + data))


@given(st.integers(0, 80))
def test_a_header_cut_anywhere_is_no_harm(length):
    whole = wav(b"\1\0" * 20, before=[(b"LIST", b"abc")])
    found = header(whole[:length])

    assert found is None or not found.complete or found.data_bytes == 0


@pytest.mark.parametrize("announced", [0, 0xFFFFFFFF, 1000])
def test_data_that_were_not_announced_rightly_reach_to_the_end(announced):
    found = header(wav(b"\1\0" * 80, announced=announced))

    assert found is not None
    assert (found.data_bytes, found.duration, found.complete, found.plain) == (160, 0.01, False, False)


def test_chunks_without_end_are_no_header():
    assert header(wav(b"\0\0", before=[(b"JUNK", b"")] * 100)) is None


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        pytest.param(wav(b"\0\0" * 8), True, id="PCM16"),
        pytest.param(wav(b"\0" * 8, channels=2), True, id="PCM16 stereo"),
        pytest.param(wav(b"\0" * 8, tag=7, bits=8), True, id="PCMU"),
        pytest.param(wav(b"\0" * 8, tag=6, bits=8, channels=2), True, id="PCMA stereo"),
        pytest.param(wav(b"\0\0" * 8, rate=48_000), True, id="48 kHz"),
        pytest.param(wav(b"\0\0" * 8, rate=96_000), False, id="96 kHz"),
        pytest.param(wav(b"\0\0" * 8, rate=4000), False, id="4 kHz"),
        pytest.param(wav(b"\0" * 8, bits=8), False, id="PCM8"),
        pytest.param(wav(b"\0" * 12, bits=24), False, id="PCM24"),
        pytest.param(wav(b"\0" * 16, tag=3, bits=32), False, id="float"),
        pytest.param(wav(b"\0\0" * 12, channels=6), False, id="six channels"),
        pytest.param(wav(b"\0" * 65, tag=0x31, bits=0, block=65, byte_rate=1625), False, id="GSM"),
        pytest.param(wav(b""), False, id="no sound"),
        pytest.param(wav(b"\0\0" * 8, block=4), False, id="wrong frame size"),
        pytest.param(wav(b"\0\0" * 8, byte_rate=8000), False, id="wrong byte rate"),
        pytest.param(wav(b"\0\0" * 8) + b"trailer", True, id="more after the data"),
    ],
)
def test_what_is_played_as_it_is(made, plain):
    found = header(made)

    assert found is not None
    assert found.plain is plain


@pytest.mark.parametrize(
    ("format_", "subtype", "channels", "plain"),
    [("WAV", "PCM_16", 2, True), ("WAV", "ULAW", 1, True), ("WAVEX", "PCM_16", 1, True), ("WAV", "PCM_24", 1, False)],
)
def test_headers_that_libsndfile_writes(sound, format_, subtype, channels, plain):
    found = header(sound(format_, subtype, channels=channels, seconds=0.5))

    assert found is not None
    assert (found.channels, found.rate, found.plain) == (channels, 8000, plain)
    assert found.duration == 0.5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b" \r\n", "nothing but blanks"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xef\xbb\xbf\n <?xml version='1.0'?>", "web page or XML"),
        (b'{"error": "gone"}', "JSON"),
        (b"[1]", "JSON"),
    ],
)
def test_what_servers_send_instead_of_a_sound_is_refused_with_its_name(body, said):
    with pytest.raises(Unplayable, match=said):
        refuse_text(body)


@pytest.mark.parametrize("body", [b"RIFF", b"ID3", b"\xff\xfb\x90", b"OggS", b"\0" * 10, b"[\xff\xfe"])
def test_what_may_be_a_sound_is_not_refused_by_its_looks(body):
    refuse_text(body)


# -- converting ------------------------------------------------------------------------------------------------------


def converted(tmp_path, data: bytes, gain_db=0.0, *, raw="", max_bytes=PLENTY):
    source, target = tmp_path / "in.src", tmp_path / "out.wav"
    source.write_bytes(data)
    convert(source, target, gain_db, max_bytes, raw)
    found = header(target.read_bytes())
    assert found is not None
    assert found.plain
    samples, rate = soundfile.read(target, dtype="int16", always_2d=True)
    return samples, rate


EDGES = [0, 1, -1, 2, -2, 3, 99, -100, 1000, -1001, 8192, -16384, 23197, -23198, 32766, 32767, -32767, -32768]


@pytest.mark.parametrize("gain_db", [0, 0.5, -0.5, 3, -3, 6, -6, 6.02, 12.34, -12.34, 20, -20, 40, -40])
def test_the_gain_is_exact_for_every_sample_and_saturates(tmp_path, sound, gain_db):
    given_samples = np.array(EDGES, np.int16)
    expected = [max(-32768, min(32767, round(sample * 10 ** (gain_db / 20)))) for sample in EDGES]

    samples, _ = converted(tmp_path, sound(samples=given_samples), gain_db)

    assert samples[:, 0].tolist() == expected


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50), st.floats(-40, 40))
def test_no_gain_wraps_around(tmp_path_factory, samples, gain_db):
    folder = tmp_path_factory.mktemp("gain")
    soundfile.write(folder / "a.wav", np.array(samples, np.int16), 8000)

    louder, _ = converted(folder, (folder / "a.wav").read_bytes(), gain_db)

    factor = 10 ** (gain_db / 20)
    assert louder[:, 0].tolist() == [max(-32768, min(32767, round(sample * factor))) for sample in samples]


@pytest.mark.parametrize(
    ("format_", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAV", "PCM_U8"),
        ("WAV", "ULAW"),
        ("WAV", "ALAW"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
        ("AIFF", "PCM_16"),
        ("AU", "ULAW"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("CAF", "PCM_16"),
    ],
)
def test_formats_that_are_decoded(tmp_path, sound, format_, subtype):
    samples, rate = converted(tmp_path, sound(format_, subtype, seconds=0.5))

    assert rate == 8000
    assert samples.shape[1] == 1
    assert 0.45 <= len(samples) / rate <= 0.8  # codecs pad to whole frames
    middle = samples[1000:3000, 0].astype(float)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.25 * 32768 / np.sqrt(2), rel=0.1)
    assert np.abs(np.fft.rfft(middle)).argmax() * rate / len(middle) == pytest.approx(440, abs=8)


@pytest.mark.parametrize("subtype", ["GSM610", "ULAW", "ALAW"])
def test_sounds_without_a_header(tmp_path, sound, subtype):
    expected, _ = converted(tmp_path, sound("WAV", "PCM_16", seconds=0.48))
    raw = {"ULAW": "ulaw", "ALAW": "alaw"}.get(subtype, "")

    samples, rate = converted(tmp_path, sound("RAW", subtype, seconds=0.48), raw=raw)

    assert (rate, len(samples)) == (8000, len(expected))
    assert np.abs(samples[400:].astype(int) - expected[400:]).max() < 3000


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (2, 2), (3, 1), (6, 1)])
def test_more_than_two_channels_become_one(tmp_path, sound, channels, kept):
    levels = np.arange(1, channels + 1) * 1000
    data = sound("FLAC", samples=np.tile(levels.astype(np.int16), (100, 1)))

    samples, _ = converted(tmp_path, data)

    assert samples.shape == (100, kept)
    assert samples[50].tolist() == (levels.tolist() if kept == channels else [levels.mean()])


@pytest.mark.parametrize(
    ("rate", "becomes"),
    [
        (8000, 8000),
        (11_025, 11_025),
        (44_100, 44_100),
        (48_000, 48_000),
        (88_200, 44_100),
        (96_000, 48_000),
        (192_000, 48_000),
    ],
)
def test_rates_above_48_khz_come_down(tmp_path, sound, rate, becomes):
    samples, found = converted(tmp_path, sound("WAV", "PCM_24", rate=rate, channels=2, seconds=1))

    assert found == becomes
    assert len(samples) == pytest.approx(becomes, abs=1)
    middle = samples[1000:-1000].astype(float)
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.25 * 32768 / np.sqrt(2), rel=0.01)


def test_what_the_lower_rate_cannot_carry_is_taken_out_not_folded_down(tmp_path, sound):
    time = np.arange(96_000) / 96_000

    samples, _ = converted(
        tmp_path, sound("WAV", "PCM_24", rate=96_000, samples=0.5 * np.sin(2 * np.pi * 30_000 * time))
    )

    assert np.abs(samples[1000:-1000]).max() < 20


def test_blocks_leave_no_seam(tmp_path, sound, monkeypatch):
    data = sound("WAV", "PCM_24", rate=144_000, channels=2, seconds=0.1)
    whole, _ = converted(tmp_path, data)
    monkeypatch.setattr(module, "_BLOCK", 997)

    pieces, _ = converted(tmp_path, data)

    assert np.array_equal(whole, pieces)


def test_an_mp3_is_decoded_without_seams(tmp_path, sound, monkeypatch):
    data = sound("MP3", seconds=20)
    whole, _ = converted(tmp_path, data)
    monkeypatch.setattr(module, "_BLOCK", 997)

    pieces, _ = converted(tmp_path, data)

    assert np.abs(whole.astype(int) - pieces).max() <= 1


def test_an_mp3_without_an_index_is_played_to_its_end(tmp_path, sound):
    """Its first frame says little about the rest, which is where libsndfile's guess of the duration comes from."""
    loud = np.random.default_rng(1).normal(0, 0.2, 8000 * 20)
    data = sound("MP3", samples=loud)
    index = data.index(b"Xing")
    data = data[data.index(data[:2], index) :]
    (tmp_path / "guess.mp3").write_bytes(data)
    assert soundfile.info(tmp_path / "guess.mp3").duration < 15  # else this tests nothing

    samples, rate = converted(tmp_path, data)

    assert len(samples) / rate == pytest.approx(20, abs=0.5)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(b"garbage" * 100, "begins with 67 61 72 62", id="no format"),
        pytest.param(b"\xda", "begins with da", id="a byte like a GSM frame"),
        pytest.param(wav(b""), "holds no sound", id="no samples"),
        pytest.param(b"OggS" + b"\0" * 200, "no format", id="broken Ogg"),
        pytest.param(b"fLaC" + b"\0" * 200, "no format", id="broken FLAC"),
    ],
)
def test_why_a_file_cannot_be_played(tmp_path, data, said):
    with pytest.raises(Unplayable, match=said):
        converted(tmp_path, data)


def test_what_nobody_can_hear_is_refused(tmp_path):
    with pytest.raises(Unplayable, match="500 Hz"):
        converted(tmp_path, wav(b"\0\0" * 10, rate=500))


def test_a_sound_of_more_than_the_longest_time_is_refused(tmp_path, sound, monkeypatch):
    monkeypatch.setattr(module, "MAX_SECONDS", 1)

    assert len(converted(tmp_path, sound("FLAC", seconds=1))[0]) == 8000
    with pytest.raises(Unplayable, match="longer than 1 seconds"):
        converted(tmp_path, sound("FLAC", seconds=1.01))


def test_a_small_file_cannot_become_a_huge_one(tmp_path, sound):
    data = sound("FLAC", samples=np.zeros(800_000, np.int16))
    assert len(data) < 10_000

    with pytest.raises(Unplayable, match="longer than 62 seconds"):
        converted(tmp_path, data, max_bytes=1_000_000)


def test_a_damaged_flac_is_the_files_fault(tmp_path, sound):
    data = bytearray(sound("FLAC", samples=np.random.default_rng(1).integers(-9000, 9000, 80_000, np.int16)))
    data[5000:9000] = b"\xff" * 4000
    try:
        samples, _ = converted(tmp_path, bytes(data))
    except Unplayable:
        return
    assert len(samples) <= 80_000


# -- the program -----------------------------------------------------------------------------------------------------


def test_the_program_converts(tmp_path, sound):
    (tmp_path / "in").write_bytes(sound("OGG", seconds=0.5))

    Converter(max_bytes=PLENTY).convert(tmp_path / "in", tmp_path / "out", -6.0)

    found = header((tmp_path / "out").read_bytes())
    assert found is not None
    assert (found.plain, found.duration) == (True, pytest.approx(0.5, abs=0.05))


def test_the_program_takes_headerless_sounds_for_what_it_is_told(tmp_path, sound):
    (tmp_path / "in").write_bytes(sound("RAW", "ULAW", seconds=0.5))

    Converter(max_bytes=PLENTY).convert(tmp_path / "in", tmp_path / "out", raw="ulaw")

    assert soundfile.info(tmp_path / "out").duration == 0.5


def test_the_programs_reason_reaches_the_caller(tmp_path):
    (tmp_path / "in").write_bytes(b"garbage")

    with pytest.raises(Unplayable, match=r"^it is in no format that can be decoded; it begins with 67 61"):
        Converter(max_bytes=PLENTY).convert(tmp_path / "in", tmp_path / "out")


def test_the_decoders_own_complaints_are_not_heard(tmp_path, sound):
    noise = bytearray(sound("MP3", seconds=5))
    noise[2000:2500] = bytes(500)
    (tmp_path / "in").write_bytes(noise)
    command = [sys.executable, "-m", "fsctl.media.convert", str(tmp_path / "in"), str(tmp_path / "out"), "0", "1000000"]

    done = subprocess.run(command, capture_output=True, check=True, env=module._environment())

    assert done.stderr == b""
    assert soundfile.info(tmp_path / "out").duration > 4


def test_a_fault_of_ours_is_not_the_files(tmp_path, sound):
    (tmp_path / "in").write_bytes(sound("OGG"))

    with pytest.raises(ConversionFailed, match=r"exit code 1: .*no/such"):
        Converter(max_bytes=PLENTY).convert(tmp_path / "in", tmp_path / "no/such/out")


def program(folder: Path, script: str) -> str:
    """Something to run in Python's place."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_decoder_that_takes_too_long_is_killed_and_reaped(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "exec sleep 60"))

    with gevent.Timeout(20), pytest.raises(Unplayable, match=r"longer than 0.05 seconds"):
        Converter(max_bytes=PLENTY, deadline=0.05).convert(tmp_path / "in", tmp_path / "out")

    assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def test_a_caller_who_hangs_up_leaves_no_process(tmp_path, sound):
    (tmp_path / "in").write_bytes(sound("FLAC", samples=np.zeros(8000 * 600, np.int16)))
    caller = gevent.spawn(Converter(max_bytes=PLENTY).convert, tmp_path / "in", tmp_path / "out")
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    with gevent.Timeout(10):
        while not (tmp_path / "out").exists():
            gevent.sleep(0)
    assert children.read_text().split()

    caller.kill()

    assert not children.read_text().split()


def test_a_decoder_that_dies_is_told_from_one_that_refuses(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", program(tmp_path, "kill -SEGV $$"))

    with pytest.raises(Unplayable, match="died of signal 11"):
        Converter(max_bytes=PLENTY).convert(tmp_path / "in", tmp_path / "out")


def test_the_program_has_little_memory_and_low_priority():
    code = (
        "import os, resource; from fsctl.media import convert; convert._limit()\n"
        "print(os.nice(0), resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_CORE))\n"
        "try: bytearray(2 << 30); print('plenty')\n"
        "except MemoryError: print('refused')\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=module._environment()
    )

    priority = min(19, os.nice(0) + 10)
    assert said.stdout.splitlines() == [f"{priority} (120, 120) (0, 0)", "refused"]


def test_the_program_knows_nothing_of_our_secrets(monkeypatch):
    monkeypatch.setenv("FSCTL_API_PASSWORD", "hunter2")

    assert "hunter2" not in str(module._environment())
    assert set(module._environment()) <= {"PATH", "LD_LIBRARY_PATH", "LANG", "PYTHONPATH"} | {
        "OPENBLAS_NUM_THREADS",
        "OMP_NUM_THREADS",
    }


def test_calls_go_on_while_a_sound_is_converted(tmp_path, sound):
    (tmp_path / "in").write_bytes(sound("OGG"))
    work = gevent.spawn(Converter(max_bytes=PLENTY).convert, tmp_path / "in", tmp_path / "out")
    turns = 0
    with gevent.Timeout(30):
        while not work.ready():
            gevent.sleep(0)
            turns += 1

    work.get()
    assert turns > 100


class Held(Converter):
    """A converter whose conversions last until they are let go."""

    def __init__(self, **settings):
        super().__init__(max_bytes=PLENTY, **settings)
        self.go = Event()
        self.at_work = 0
        self.most = 0

    def _run(self, arguments):
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.go.wait()
        self.at_work -= 1


def test_no_more_conversions_run_at_once_than_allowed():
    converter = Held(at_once=2)
    calls = [gevent.spawn(converter.convert, Path("a"), Path("b")) for _ in range(5)]
    gevent.idle()
    assert converter.at_work == 2

    converter.go.set()
    gevent.joinall(calls, timeout=10, raise_error=True)

    assert all(call.successful() for call in calls)
    assert converter.most == 2


def test_who_waits_too_long_for_a_place_is_told():
    converter = Held(at_once=1, deadline=0.01)
    first = gevent.spawn(converter.convert, Path("a"), Path("b"))
    gevent.idle()

    with pytest.raises(ConversionFailed, match="too many are waiting"):
        converter.convert(Path("a"), Path("b"))

    converter.go.set()
    first.get(timeout=10)
