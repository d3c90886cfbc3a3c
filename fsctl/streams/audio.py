"""Audio of streams: formats, G.711, OPUS, rates, frames, and the two tracks inside stereo. Pure.

Linear audio is signed 16-bit little-endian everywhere in here, one channel unless it says stereo. G.711 comes from
``audioop``: part of Python up to 3.12, ``audioop-lts`` from 3.13 on. Rates are changed by a polyphase filter on numpy:
``audioop.ratecv`` interpolates in straight lines, which leaves an image 8 dB below a tone of 3 kHz, and the streaming
libraries give their output in lumps. This one costs about 10 µs a frame, 2 ms of delay, keeps every image 78 dB down,
and turns a frame of 20 ms into exactly 20 ms.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from binascii import b2a_base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # gone from Python 3.13; audioop-lts has the same name there
    import audioop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["RATES", "Encoder", "Format", "Regroup", "Resampler", "decoder", "inbound", "outbound", "parse_format"]

RATES: Final = (8000, 16000, 24000)
_CODEC = re.compile(r"(PCMU|PCMA|L16|OPUS)((?:@\d{1,6}[hi])*)", re.IGNORECASE)
_MODIFIER = re.compile(r"@(\d+)([hi])")
_FRAMES = (20, 40, 60)
_ENCODINGS = {"PCMU": "audio/x-mulaw", "PCMA": "audio/x-alaw", "L16": "audio/x-L16", "OPUS": "audio/opus"}
_OPUS_RATES = (8000, 16000, 24000, 48000)


@dataclass(frozen=True, slots=True)
class Format:
    """What a stream carries: ``codec`` at ``rate`` Hz, ``frame_ms`` a message."""

    codec: str
    rate: int
    frame_ms: int

    @property
    def media_format(self) -> dict[str, str | int]:
        """The ``mediaFormat`` of a ``start`` message; OPUS is 48 kHz there whatever went in, as in RFC 7587."""
        rate = 48_000 if self.codec == "OPUS" else self.rate
        return {"encoding": _ENCODINGS[self.codec], "sampleRate": rate, "channels": 1}


def parse_format(text: str | None, *, rate: int, frame_ms: int) -> Format:
    """Read a codec as documents write it (``PCMU``, ``L16@16000h``, ``PCMU@40i``); None means PCMU.

    ``rate`` is the call's, taken by L16 and OPUS where none is written; ``frame_ms`` holds where no ``i`` is written.
    Raises ValueError, which says what is offered. Reference: swml-calling 3.8 and 3.14, compat-streams 6.2.
    """
    found = _CODEC.fullmatch((text or "PCMU").strip())
    if found is None:
        raise ValueError(f"the codec {(text or '')[:20]!r} is not offered; PCMU, PCMA, L16 and OPUS are")
    codec = found[1].upper()
    given = {unit.lower(): int(number) for number, unit in _MODIFIER.findall(found[2])}
    frame_ms = given.get("i", frame_ms)
    if frame_ms not in _FRAMES:
        raise ValueError(f"frames of {frame_ms} ms are not offered; 20, 40 and 60 are")
    if codec in ("PCMU", "PCMA"):
        if given.get("h", 8000) != 8000:
            raise ValueError(f"{codec} is 8000 Hz, not {given['h']}")
        return Format(codec, 8000, frame_ms)
    if codec == "OPUS":
        if _opus() is None:
            raise ValueError("OPUS needs the package av, which is not installed: pip install 'fsctl[opus]'")
        return Format(codec, rate if rate in _OPUS_RATES else 24_000, frame_ms)
    rate = given.get("h", rate)
    if rate not in RATES:
        raise ValueError(f"L16 at {rate} Hz is not offered; 8000, 16000 and 24000 are")
    return Format(codec, rate, frame_ms)


def inbound(stereo: bytes) -> bytes:
    """What the party says: the left channel."""
    return audioop.tomono(stereo, 2, 1, 0)


def outbound(stereo: bytes) -> bytes:
    """What the party hears: the right channel."""
    return audioop.tomono(stereo, 2, 0, 1)


def _ulaw(linear: bytes) -> bytes:
    return audioop.lin2ulaw(linear, 2)


def _alaw(linear: bytes) -> bytes:
    return audioop.lin2alaw(linear, 2)


def _from_ulaw(encoded: bytes) -> bytes:
    return audioop.ulaw2lin(encoded, 2)


def _from_alaw(encoded: bytes) -> bytes:
    return audioop.alaw2lin(encoded, 2)


def _whole(linear: bytes) -> bytes:
    return linear[: len(linear) & ~1]


def decoder(form: Format) -> Callable[[bytes], bytes]:
    """How to make linear audio of what an endpoint sends. Raises ValueError for OPUS, which goes one way only."""
    try:
        return {"PCMU": _from_ulaw, "PCMA": _from_alaw, "L16": _whole}[form.codec]
    except KeyError:
        raise ValueError("a stream that talks back cannot be OPUS; PCMU, PCMA and L16 can") from None


# -- rates -------------------------------------------------------------------------------------------------------


class Resampler:
    """Changes the rate of one piece of audio after the other, as if it were all one.

    Gives ``target / source`` times as many samples, exactly; samples that do not fill a step wait for the next piece.
    """

    __slots__ = ("_buffer", "_down", "_history", "_length", "_phases", "_rest", "_up", "_windows")

    _SIDE = 16
    """Taps on each side of a sample, at the lower of both rates."""

    def __init__(self, source: int, target: int) -> None:
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common
        self._phases = _phases(self._up, self._down, self._SIDE)
        self._history = self._phases.shape[0] - self._down
        self._buffer = np.zeros(self._history, np.float32)
        self._windows = np.zeros((0, 0), np.float32)
        self._length = 0
        self._rest = b""

    def __call__(self, linear: bytes) -> bytes:
        """The audio at the new rate."""
        if self._rest:
            linear = self._rest + linear
            self._rest = b""
        if uneven := len(linear) % (2 * self._down):
            linear, self._rest = linear[:-uneven], linear[-uneven:]
        length = len(linear) // 2
        if not length:
            return b""
        if length != self._length:
            self._prepare(length)
        buffer, history = self._buffer, self._history
        buffer[:history] = buffer[length:].copy()
        buffer[history:] = np.frombuffer(linear, "<i2")
        out = self._windows @ self._phases
        np.rint(out, out=out)
        np.clip(out, -32768, 32767, out=out)
        return out.astype("<i2").tobytes()

    def _prepare(self, length: int) -> None:
        """Make room for pieces of this length; the windows are views, made once."""
        buffer = np.zeros(self._history + length, np.float32)
        buffer[length:] = self._buffer[-self._history :]
        self._buffer, self._length = buffer, length
        step = buffer.strides[0]
        self._windows = np.lib.stride_tricks.as_strided(
            buffer, (length // self._down, self._phases.shape[0]), (step * self._down, step)
        )


def _phases(up: int, down: int, side: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The low-pass filter, one column for each of the ``up`` samples that ``down`` samples become."""
    slower = max(up, down)
    length = 2 * side * slower + 1
    at = (np.arange(length) - (length - 1) / 2) * 0.92 / slower
    taps = np.sinc(at) * np.kaiser(length, 8.0)
    taps *= up / taps.sum()
    reach = -(-length // up)
    columns = np.zeros((reach + down - 1, up), np.float32)
    for phase in range(up):
        for row in range(columns.shape[0]):
            tap = phase * down - (row - reach + 1) * up
            if 0 <= tap < length:
                columns[row, phase] = taps[tap]
    return columns


# -- frames ------------------------------------------------------------------------------------------------------


class Regroup:
    """Cuts audio that comes in any lengths into frames of ``size`` bytes; what is left over waits."""

    __slots__ = ("_held", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._held = b""

    def __call__(self, audio: bytes) -> Iterable[bytes]:
        """The frames that are complete now, oldest first."""
        size = self.size
        if len(audio) == size and not self._held:
            return (audio,)
        if self._held:
            audio = self._held + audio
        whole = len(audio) - len(audio) % size
        self._held = audio[whole:]
        return [audio[at : at + size] for at in range(0, whole, size)]


class Encoder:
    """Frames of one track at one rate, as the base64 text that every stream with this format gets."""

    __slots__ = ("_encode", "_regroup", "_resample")

    def __init__(self, form: Format, source_rate: int) -> None:
        self._regroup = Regroup(source_rate * form.frame_ms // 1000 * 2)
        self._resample = None if form.rate == source_rate else Resampler(source_rate, form.rate)
        self._encode = _encode(form)

    def __call__(self, linear: bytes) -> list[bytes]:
        """The payloads that are complete now, oldest first."""
        encode, resample = self._encode, self._resample
        payloads = []
        for frame in self._regroup(linear):
            whole = frame if resample is None else resample(frame)
            payloads.append(b2a_base64(whole if encode is None else encode(whole), newline=False))
        return payloads


def _encode(form: Format) -> Callable[[bytes], bytes] | None:
    if form.codec == "OPUS":
        return _Opus(form)
    return {"PCMU": _ulaw, "PCMA": _alaw, "L16": None}[form.codec]


# -- OPUS --------------------------------------------------------------------------------------------------------


def _opus() -> Any:
    """The library, if there is one: PyAV, which brings libopus in its wheels but is too large to be needed by all."""
    try:
        return importlib.import_module("av")
    except ImportError:
        return None


class _Opus:
    """One packet a frame."""

    __slots__ = ("_at", "_av", "_context", "_rate")

    def __init__(self, form: Format) -> None:
        self._av = _opus()
        self._rate = form.rate
        self._at = 0
        self._context = context = self._av.CodecContext.create("libopus", "w")
        context.sample_rate = form.rate
        context.layout = "mono"
        context.format = "s16"
        context.options = {"application": "voip", "frame_duration": str(form.frame_ms)}

    def __call__(self, linear: bytes) -> bytes:
        samples = np.frombuffer(linear, "<i2").reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = self._rate
        frame.pts = self._at
        self._at += samples.shape[1]
        return b"".join(bytes(packet) for packet in self._context.encode(frame))
