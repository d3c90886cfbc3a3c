"""Listening to a call without keeping it: FreeSWITCH writes raw audio into a file that nobody else can open any more.

Gives how loud each 20 ms are and which pure tone they hold. What that means is not decided here. It is a session
recording because that is the one thing a stock FreeSWITCH offers for what a party says while anything else goes on:
its TALK events are about the audio it sends itself, ``detect_audio`` and ``detect_silence`` stop everything else and
cannot be stopped, tones of ``tone_detect`` are not told while something plays, and avmd needs 37 threads a call and
hears outbound legs only. A second of audio takes a few milliseconds of CPU.
"""

from __future__ import annotations

import math
import os
import sys
from array import array
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["FRAME_SECONDS", "Frame", "Listening", "pure_tone"]

RATE = 8000
_SAMPLES = 160
FRAME_SECONDS = _SAMPLES / RATE
_BYTES = 2 * _SAMPLES
_MOST = 50 * _BYTES
# How much of a frame's energy has to lie at one frequency.
_PURE = 0.85
_LOWEST_LEVEL = 50.0


class Frame(NamedTuple):
    """20 ms: ``level`` is the mean of the samples' sizes, up to 32767; ``hertz`` their pure tone, 0 for none."""

    level: float
    hertz: float


class Listening:
    """The audio of one call as it comes in. Raises OSError when the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._left = b""
        try:
            path.unlink()  # it lives on for the two that have it open, and is gone with them
        except OSError:
            os.close(self._file)
            raise

    def frames(self) -> Iterator[Frame]:
        """What came in since the last time, at most a second of it."""
        data = self._left + os.read(self._file, _MOST)
        whole = len(data) - len(data) % _BYTES
        self._left = data[whole:]
        samples = array("h", data[:whole])
        if sys.byteorder == "big":
            samples.byteswap()
        for start in range(0, len(samples), _SAMPLES):
            piece = samples[start : start + _SAMPLES]
            level = sum(map(abs, piece)) / _SAMPLES
            yield Frame(level, pure_tone(piece) if level >= _LOWEST_LEVEL else 0.0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


def pure_tone(samples: Sequence[int]) -> float:
    """The frequency, in Hz, that makes up all of ``samples`` at 8 kHz; 0 when there is no such frequency."""
    # The frequency of one sine in noise, from how alike each sample is to its neighbours and to theirs (Pisarenko).
    middle = samples[2:-2]
    once = sum(map(mul, middle, samples[1:])) + sum(map(mul, middle, samples[3:]))
    twice = sum(map(mul, middle, samples)) + sum(map(mul, middle, samples[4:]))
    divisor = math.sqrt(twice * twice + 8.0 * once * once) - twice
    cosine = 2 * once / divisor if divisor else 1.0
    if not -1 < cosine < 1 or _share(samples, cosine) < _PURE:
        return 0.0
    return math.acos(cosine) * RATE / math.tau


def _share(samples: Sequence[int], cosine: float) -> float:
    """How much of the energy lies at the frequency with that cosine (Goertzel's recurrence)."""
    twice = 2 * cosine
    last = before = 0.0
    for sample in samples:
        last, before = sample + twice * last - before, last
    power = last * last + before * before - twice * last * before
    return float(2 * power / (len(samples) * sum(map(mul, samples, samples))))
