"""What FreeSWITCH can play and how long it lasts; the audio and the files recordings are made of.

Durations come from the real file where there is one (its header), from the text of a stream otherwise.
Nothing here waits or knows a channel.
"""

from __future__ import annotations

import math
import re
import struct
import wave
from dataclasses import dataclass, field
from pathlib import Path

from fsctl.simulator.text import seconds_of, split_parameters

__all__ = ["RATE", "Playable", "open_playable", "speech_seconds", "tone", "write_mp3", "write_wav"]

RATE = 8000
"""Samples a second of every simulated call."""

_ENDLESS = math.inf
_JOINT = 0.25
"""What a ``file_string`` takes from one file to the next, as recorded."""
_MP3_SAMPLES = 576
_MP3_FRAME = 72


@dataclass(frozen=True, slots=True)
class Playable:
    """A sound as the ``playback`` family sees it.

    ``seconds`` is its length (infinite for endless streams); ``kind`` is what ``Playback-File-Type`` says, empty for
    files; ``parameters`` are the ``{k=v}`` of its path, which show up as headers of the PLAYBACK events.
    """

    path: str
    seconds: float
    kind: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    parts: tuple[tuple[str, bool], ...] = ()
    silent: bool = False

    @property
    def samples(self) -> int:
        """Its length in samples; 0 for endless streams."""
        return 0 if math.isinf(self.seconds) else round(self.seconds * RATE)


def open_playable(path: str, *, speech: bool = False) -> Playable | None:
    """What ``path`` plays, or None when FreeSWITCH would answer ``FILE NOT FOUND``; ``tts://`` only with ``speech``."""
    parameters, name = split_parameters(path)
    scheme, separator, rest = name.partition("://")
    if not separator:
        seconds = _file_seconds(name)
        return None if seconds is None else Playable(path, seconds, parameters=parameters)
    if scheme == "silence_stream":
        milliseconds = seconds_of(rest)
        if not milliseconds:
            return None
        seconds = _ENDLESS if milliseconds < 0 else milliseconds / 1000
        return Playable(path, seconds, parameters=parameters, silent=True)
    if scheme == "tone_stream":
        seconds = tone_seconds(rest)
        return None if seconds is None else Playable(path, seconds, "tone_stream", parameters)
    if scheme == "local_stream":
        return Playable(path, _ENDLESS, "local_stream", parameters)
    if scheme == "tts" and speech:
        engine, _, words = rest.partition("|")
        return (
            Playable(path, speech_seconds(words.partition("|")[2]), parameters=parameters)
            if engine == "flite"
            else None
        )
    if scheme == "file_string":
        return _joined(path, rest, parameters)
    return None


def _joined(path: str, rest: str, parameters: dict[str, str]) -> Playable | None:
    names = [name for name in rest.split("!") if name][:128]
    opened = [(name, open_playable(name)) for name in names]
    if not any(playable for _, playable in opened):
        return None
    lengths = [playable.seconds for _, playable in opened if playable]
    seconds = sum(lengths) + _JOINT * (len(lengths) - 1)
    return Playable(path, seconds, "", parameters, tuple((name, playable is not None) for name, playable in opened))


def _file_seconds(name: str) -> float | None:
    name, _, offset = name.partition("@@")
    path = Path(name)
    if not path.is_absolute() or not path.is_file():
        return None
    skipped = seconds_of(offset) / RATE
    try:
        return max(0.0, _seconds_in(path) - skipped)
    except (OSError, EOFError, wave.Error, struct.error, ValueError):
        return None


def _seconds_in(path: Path) -> float:
    if path.suffix == ".wav":
        with wave.open(str(path), "rb") as opened:
            return opened.getnframes() / (opened.getframerate() or RATE)
    if raw := re.fullmatch(r"\.r(8|16)|\.(ul|al|pcmu|pcma)|\.(sln|raw)", path.suffix):
        width, rate = (1, 8000) if raw.group(2) else (2, int(raw.group(1) or 8) * 1000)
        return path.stat().st_size / width / rate
    return _decoded_seconds(path)


def _decoded_seconds(path: Path) -> float:
    import soundfile  # noqa: PLC0415 - slow to import, and only for what the standard library cannot read

    try:
        return float(soundfile.info(str(path)).duration)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


_LOOPS = re.compile(r"loops=(-?\d+)")


def tone_seconds(text: str) -> float | None:
    """How long ``tone_stream://<text>`` lasts: its cadences, each ``L=n`` times, all ``loops`` times; None if none."""
    if text.startswith("path="):
        return None
    once = 0.0
    times = 1
    found = False
    for part in text.split(";"):
        if loops := re.match(r"\s*L=(\d+)", part):
            times = int(loops.group(1))
        for cadence in re.finditer(r"%\(([^)]*)\)", part):
            numbers = [seconds_of(number) for number in cadence.group(1).split(",")]
            if len(numbers) < 2:
                return None
            once += times * (numbers[0] + numbers[1]) / 1000
            found = True
    if not found:
        return None
    loops = _LOOPS.search(text)
    count = int(loops.group(1)) if loops else 1
    return _ENDLESS if count < 0 else once * max(count, 1)


def speech_seconds(text: str) -> float:
    """About how long a synthesiser needs for ``text``."""
    return 0.11 * max(len(text), 1)


def _cycle(frequency: int) -> bytes:
    period = RATE // frequency
    return b"".join(
        struct.pack("<h", round(8000 * math.sin(2 * math.pi * position / period))) for position in range(period)
    )


_CYCLE = _cycle(400)
_PERIOD = len(_CYCLE)


def tone(samples: int) -> bytes:
    """``samples`` of a 400 Hz tone, signed 16 bit: what a simulated caller sounds like."""
    return (_CYCLE * (samples * 2 // _PERIOD + 1))[: samples * 2]


def silence(samples: int) -> bytes:
    """``samples`` of nothing."""
    return bytes(samples * 2)


def stereo(left: bytes, right: bytes) -> bytes:
    """Interleave two mono blocks of the same length."""
    out = bytearray(len(left) * 2)
    out[0::4], out[1::4] = left[0::2], left[1::2]
    out[2::4], out[3::4] = right[0::2], right[1::2]
    return bytes(out)


def write_wav(path: Path, audio: bytes, channels: int) -> int:
    """Write ``audio`` (16 bit, interleaved) as a wav file; answers the file's size in bytes."""
    with wave.open(str(path), "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(2)
        opened.setframerate(RATE)
        opened.writeframes(audio)
    return path.stat().st_size


def write_mp3(path: Path, samples: int, channels: int) -> int:
    """Write a silent MPEG 2.5 layer III file that lasts ``samples``; answers its size in bytes."""
    mode = 0xC0 if channels == 1 else 0x00
    frame = bytes((0xFF, 0xE3, 0x18, mode)).ljust(_MP3_FRAME, b"\0")
    path.write_bytes(frame * max(1, math.ceil(samples / _MP3_SAMPLES)))
    return path.stat().st_size
