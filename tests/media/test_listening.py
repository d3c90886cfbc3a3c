"""Audio that is only looked at: how loud, which tone, and gone afterwards."""

import math
import random
import sys
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.media.listening import FRAME_SECONDS, Listening, pure_tone


def sine(hertz, samples=160, *, size=8000, phase=0.3, noise=0.0, seed=1):
    chance = random.Random(seed)
    exact = (size * math.sin(math.tau * hertz * at / 8000 + phase) + chance.gauss(0, noise) for at in range(samples))
    return array("h", (max(-32768, min(32767, round(value))) for value in exact))


def raw(samples):
    samples = array("h", samples)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


class TestPureTone:
    @pytest.mark.parametrize("hertz", [425, 440, 850, 1000, 1100, 1400, 1950, 2000, 2050, 2100, 3000])
    @pytest.mark.parametrize("noise", [0, 250], ids=["clean", "noisy-line"])
    def test_its_frequency(self, hertz, noise):
        for seed in range(20):
            assert pure_tone(sine(hertz, phase=seed, noise=noise, seed=seed)) == pytest.approx(hertz, abs=5)

    @pytest.mark.parametrize(
        "samples",
        [
            pytest.param([0] * 160, id="silence"),
            pytest.param([100] * 160, id="direct-current"),
            pytest.param([8000, -8000] * 80, id="half-the-rate"),
            pytest.param([a + b for a, b in zip(sine(770), sine(1336), strict=True)], id="a-key"),
            pytest.param([a + b for a, b in zip(sine(440), sine(480), strict=True)], id="ringback"),
            pytest.param([a + b + c for a, b, c in zip(sine(220), sine(440), sine(660), strict=True)], id="harmonics"),
            pytest.param(sine(0, noise=4000), id="noise"),
            pytest.param([1], id="one-sample"),
            pytest.param([], id="none"),
        ],
    )
    def test_what_is_none(self, samples):
        assert pure_tone(array("h", [max(-32768, min(32767, sample)) for sample in samples])) == 0

    @given(st.lists(st.integers(-32768, 32767), max_size=200))
    def test_any_samples_have_one_answer(self, samples):
        assert 0 <= pure_tone(array("h", samples)) <= 4000


class TestListening:
    def test_the_file_is_gone_and_still_heard(self, tmp_path):
        path = tmp_path / "x.r8"
        with path.open("wb", buffering=0) as writer:
            audio = Listening(path)
            assert not path.exists()
            writer.write(raw(sine(1000)))
            (frame,) = audio.frames()
            audio.close()

        assert frame.hertz == pytest.approx(1000, abs=5)
        assert frame.level == pytest.approx(8000 * 2 / math.pi, rel=0.03)

    def test_frames_are_put_together_from_what_has_come(self, tmp_path):
        path = tmp_path / "x.r8"
        data = raw([*sine(1000, size=4000), *([0] * 160), *([7] * 160)])
        with path.open("wb", buffering=0) as writer:
            audio = Listening(path)
            heard = []
            for at in range(0, len(data), 100):
                writer.write(data[at : at + 100])
                heard += audio.frames()
            audio.close()

        assert [round(frame.level) for frame in heard] == [pytest.approx(2546, abs=80), 0, 7]
        assert [bool(frame.hertz) for frame in heard] == [True, False, False]

    def test_at_most_a_second_at_a_time(self, tmp_path):
        path = tmp_path / "x.r8"
        path.write_bytes(bytes(16000 * 3))
        audio = Listening(path)

        assert [len(list(audio.frames())) * FRAME_SECONDS for _ in range(4)] == [1.0, 1.0, 1.0, 0.0]
        audio.close()

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            Listening(tmp_path / "x.r8")

    def test_a_file_that_cannot_be_taken_away_is_not_listened_to(self, tmp_path, monkeypatch):
        path = tmp_path / "x.r8"
        path.write_bytes(b"")

        def refused(_):
            raise PermissionError

        monkeypatch.setattr(type(path), "unlink", refused)

        with pytest.raises(PermissionError):
            Listening(path)
