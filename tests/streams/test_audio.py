"""Formats, rates and frames."""

import importlib.util
import struct
from base64 import b64decode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.streams import audio
from fsctl.streams.audio import Encoder, Format, Regroup, Resampler, decoder, parse_format
from tests.streams.peers import stereo, tone

opus = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the package av is not installed")


class TestFormats:
    @pytest.mark.parametrize(
        ("text", "form"),
        [
            (None, Format("PCMU", 8000, 20)),
            ("PCMU", Format("PCMU", 8000, 20)),
            ("pcmu@8000h", Format("PCMU", 8000, 20)),
            ("PCMU@40i", Format("PCMU", 8000, 40)),
            ("PCMA@8000h@60i", Format("PCMA", 8000, 60)),
            ("L16", Format("L16", 16000, 20)),
            ("L16@24000h@40i", Format("L16", 24000, 40)),
            (" L16@8000h ", Format("L16", 8000, 20)),
        ],
    )
    def test_what_documents_write(self, text, form):
        assert parse_format(text, rate=16000, frame_ms=20) == form

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("G722", "not offered; PCMU, PCMA, L16 and OPUS are"),
            ("PCMU@16000h", "8000 Hz"),
            ("L16@11025h", "11025 Hz is not offered"),
            ("PCMU@30i", "30 ms"),
            ("PCMU@", "not offered"),
            ("", "PCMU"),
        ],
    )
    def test_what_is_not_offered_is_said(self, text, problem):
        if text == "":
            assert parse_format(text, rate=8000, frame_ms=20).codec == "PCMU"
            return
        with pytest.raises(ValueError, match=problem):
            parse_format(text, rate=8000, frame_ms=20)

    def test_opus_without_its_package_says_what_to_do(self, monkeypatch):
        monkeypatch.setattr(audio, "_opus", lambda: None)
        with pytest.raises(ValueError, match=r"fsctl\[opus\]"):
            parse_format("OPUS", rate=8000, frame_ms=20)

    def test_a_stream_that_talks_back_cannot_be_opus(self):
        with pytest.raises(ValueError, match="PCMU, PCMA and L16"):
            decoder(Format("OPUS", 8000, 20))

    @pytest.mark.parametrize(
        ("codec", "encoding"),
        [("PCMU", "audio/x-mulaw"), ("PCMA", "audio/x-alaw"), ("L16", "audio/x-L16")],
    )
    def test_the_media_format(self, codec, encoding):
        assert Format(codec, 8000, 20).media_format == {"encoding": encoding, "sampleRate": 8000, "channels": 1}


class TestTracks:
    def test_left_is_said_and_right_is_heard(self):
        left, right = struct.pack("<3h", 1, -2, 32767), struct.pack("<3h", -32768, 5, 6)
        both = stereo(left, right)
        assert audio.inbound(both) == left
        assert audio.outbound(both) == right


def distortion(samples, hertz, rate):
    """Signal over everything else in dB, and the tone's amplitude."""
    at = np.arange(len(samples)) / rate
    waves = np.stack([np.sin(2 * np.pi * hertz * at), np.cos(2 * np.pi * hertz * at)], 1)
    fit = np.linalg.lstsq(waves, samples, rcond=None)[0]
    rest = samples - waves @ fit
    return 10 * np.log10((samples @ samples) / (rest @ rest)), float(np.hypot(*fit))


RATES = [(8000, 16000), (8000, 24000), (16000, 8000), (24000, 8000), (16000, 24000), (24000, 16000)]


class TestRates:
    @pytest.mark.parametrize("hertz", [300, 1000, 3000])
    @pytest.mark.parametrize(("source", "target"), RATES)
    def test_a_tone_survives_with_little_distortion(self, source, target, hertz):
        resample = Resampler(source, target)
        linear = tone(hertz, source, rate=source)
        step = source // 50 * 2
        out = b"".join(resample(linear[at : at + step]) for at in range(0, len(linear), step))
        assert len(out) == target * 2
        samples = np.frombuffer(out, "<i2").astype(float)[target // 50 :]
        quality, amplitude = distortion(samples, hertz, target)
        assert quality > 70
        assert amplitude == pytest.approx(8000, rel=0.01)

    def test_what_the_lower_rate_cannot_hold_is_gone(self):
        resample = Resampler(16000, 8000)
        out = np.frombuffer(resample(tone(5500, 16000, rate=16000)), "<i2").astype(float)
        assert np.sqrt((out[400:] ** 2).mean()) < 3

    @given(
        st.sampled_from(RATES),
        st.lists(st.integers(0, 500), min_size=1, max_size=12),
        st.randoms(use_true_random=False),
    )
    def test_pieces_make_the_same_as_the_whole(self, rates, lengths, chance):
        linear = chance.randbytes(sum(lengths) * 2)
        whole, pieces = Resampler(*rates), Resampler(*rates)
        at, out = 0, b""
        for length in lengths:
            out += pieces(linear[at : at + length * 2])
            at += length * 2
        expected = np.frombuffer(whole(linear), "<i2").astype(int)
        found = np.frombuffer(out, "<i2").astype(int)
        assert len(found) == len(expected)
        assert abs(found - expected).max(initial=0) <= 1  # sums in another order round otherwise

    def test_loud_audio_is_cut_and_not_wrapped(self):
        loud = np.tile(np.repeat(np.array([32767, -32768], "<i2"), 8), 100).tobytes()
        out = np.frombuffer(Resampler(8000, 16000)(loud), "<i2").astype(int)
        steps = abs(np.diff(out[100:]))
        assert out.max() == 32767
        assert steps.max() < 50_000


class TestFrames:
    @given(st.lists(st.binary(max_size=50)), st.integers(1, 20))
    def test_nothing_is_lost_or_moved(self, pieces, size):
        regroup = Regroup(size)
        frames = [frame for piece in pieces for frame in regroup(piece)]
        whole = b"".join(pieces)
        assert all(len(frame) == size for frame in frames)
        assert b"".join(frames) == whole[: len(whole) // size * size]

    @pytest.mark.parametrize("frame_ms", [20, 40, 60])
    @pytest.mark.parametrize(("codec", "rate"), [("PCMU", 8000), ("PCMA", 8000), ("L16", 16000), ("L16", 24000)])
    def test_a_frame_is_as_long_as_it_says(self, codec, rate, frame_ms):
        encode = Encoder(Format(codec, rate, frame_ms), 8000)
        payloads = [p for n in range(12) for p in encode(tone(440, 160, begin=n * 160))]
        width = 2 if codec == "L16" else 1
        assert len(payloads) == 240 // frame_ms
        assert {len(b64decode(payload)) for payload in payloads} == {rate * frame_ms // 1000 * width}

    @opus
    def test_opus_is_one_packet_a_frame(self):
        form = parse_format("OPUS", rate=8000, frame_ms=20)
        encode = Encoder(form, 8000)
        packets = [b64decode(p) for n in range(50) for p in encode(tone(440, 160, begin=n * 160))]
        assert len(packets) == 50
        import av

        decode = av.CodecContext.create("libopus", "r")
        out = [frame.to_ndarray() for packet in packets for frame in decode.decode(av.Packet(packet))]
        assert sum(part.shape[-1] for part in out) > 40 * 960
