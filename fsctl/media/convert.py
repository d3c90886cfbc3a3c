"""Any audio file as one that every FreeSWITCH plays: 16-bit PCM in a RIFF/WAVE file, louder or softer if wanted.

Decoding strangers' files is the most dangerous thing the controller does, so it never happens inside it: the file is
decoded by ``python -m fsctl.media.convert IN OUT GAIN_DB MAX_BYTES [ulaw|alaw]``, a process with little memory, little
time, low priority and none of our environment. This module is both that program and what starts it.

It does not fetch, name or keep files (``media.files``). Reference: swml-calling, 6.1, "play audio" and "play volume".
"""

from __future__ import annotations

import io
import os
import resource
import struct
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MAX_SECONDS", "ConversionFailed", "Converter", "Unplayable", "Wav", "convert", "read_wav", "refuse_text"]

MAX_SECONDS = 4 * 3600
"""The longest sound that is decoded."""

MAX_RATE = 48_000  # FreeSWITCH resamples what is below by itself
_BLOCK = 65_536  # frames decoded at a time
_MEMORY = 1 << 30
_CPU_SECONDS = 120
_NICENESS = 10
_DATA_ERROR = 65  # EX_DATAERR
_SAYS = "unplayable: "

_PCM, _PCMA, _PCMU, _EXTENSIBLE = 0x0001, 0x0006, 0x0007, 0xFFFE
_PLAIN_BITS = {_PCM: 16, _PCMA: 8, _PCMU: 8}
_GSM_FRAME, _GSM_MAGIC = 33, 0xD


class Unplayable(ValueError):
    """The bytes are no sound we can play; the text says why, for the person who put them there."""


class ConversionFailed(RuntimeError):
    """The conversion could not be done, for a reason that does not lie in the file; it may work another time."""


@dataclass(frozen=True, slots=True)
class Wav:
    """What the header of a RIFF/WAVE file says. ``data_bytes`` are those that are there, not those announced.

    ``data_start`` is the place of the first of them in the file.
    """

    encoding: int
    channels: int
    rate: int
    bits: int
    frame_bytes: int
    byte_rate: int
    data_bytes: int
    complete: bool
    data_start: int

    @property
    def duration(self) -> float:
        """Seconds of sound."""
        return self.data_bytes / self.byte_rate

    @property
    def plain(self) -> bool:
        """Whether FreeSWITCH plays the file as it is: PCM of 16 bits, µ-law or A-law, one or two channels."""
        return (
            self.complete
            and self.data_bytes > 0
            and _PLAIN_BITS.get(self.encoding) == self.bits
            and self.channels in (1, 2)
            and 8000 <= self.rate <= MAX_RATE
            and self.frame_bytes * 8 == self.channels * self.bits
            and self.byte_rate == self.rate * self.frame_bytes
            and self.duration <= MAX_SECONDS
        )


def read_wav(file: BinaryIO) -> Wav | None:
    """What the header of a seekable ``file`` says; None when it is no RIFF/WAVE file or has no usable header.

    A data chunk that announces nothing or more than there is (a recorder that was not closed, a file cut short)
    is taken to reach to the end of the file, and ``complete`` is False.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    form: tuple[int, ...] | None = None
    for name, start, announced in _chunks(file, end):
        if name == b"fmt ":
            form = _format(file.read(min(announced, 40)))
        elif name == b"data" and form is not None:
            encoding, channels, rate, byte_rate, frame_bytes, bits = form
            complete = 0 < announced <= end - start or announced == end - start == 0
            there = announced if complete else end - start
            return Wav(encoding, channels, rate, bits, frame_bytes, byte_rate, there, complete, start)
    return None


def _chunks(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int, int]]:
    start = 12
    for _ in range(64):  # more chunks than that before the data are no header but an attack
        file.seek(start)
        head = file.read(8)
        if len(head) < 8 or start > end:
            return
        name, size = struct.unpack("<4sI", head)
        yield name, start + 8, size
        start += 8 + size + size % 2


def _format(chunk: bytes) -> tuple[int, ...] | None:
    if len(chunk) < 16:
        return None
    encoding, channels, rate, byte_rate, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if encoding == _EXTENSIBLE and len(chunk) >= 26:
        encoding = struct.unpack_from("<H", chunk, 24)[0]
    usable = channels and rate and byte_rate and frame_bytes
    return (encoding, channels, rate, byte_rate, frame_bytes, bits) if usable else None


def refuse_text(body: bytes) -> None:
    """Raise Unplayable for what servers send instead of a sound: nothing, a web page, JSON."""
    if not body:
        raise Unplayable("the answer is empty")
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        raise Unplayable("the answer holds nothing but blanks")
    if start[:1] == b"<":
        raise Unplayable("the answer is a web page or XML, not a sound")
    if start[:1] in (b"{", b"[") and start.isascii():
        raise Unplayable("the answer is JSON, not a sound")


class Converter:
    """Runs conversions, at most ``at_once`` at a time, each in a process of its own for at most ``deadline`` seconds.

    No file that comes out has more than ``max_bytes``.
    """

    def __init__(self, *, max_bytes: int, at_once: int = 2, deadline: float = 60.0) -> None:
        from gevent.lock import BoundedSemaphore  # noqa: PLC0415 (the program needs no gevent and starts faster)

        self._max_bytes = max_bytes
        self._deadline = deadline
        self._places = BoundedSemaphore(at_once)

    def convert(self, source: Path, target: Path, gain_db: float = 0.0, raw: str = "") -> None:
        """Write ``source``, ``gain_db`` louder, to ``target`` as PCM.

        ``raw`` (``ulaw`` or ``alaw``) is what the bytes are taken for when they have no header that says so.
        Other greenlets run meanwhile. Raises Unplayable and ConversionFailed; ``target`` is worth nothing then.
        """
        if not self._places.acquire(timeout=self._deadline):
            raise ConversionFailed(f"no conversion could be started within {self._deadline:g} s; too many are waiting")
        try:
            self._run([str(source), str(target), repr(gain_db), str(self._max_bytes), *([raw] if raw else [])])
        finally:
            self._places.release()

    def _run(self, arguments: list[str]) -> None:
        from gevent import Timeout, subprocess  # noqa: PLC0415

        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fsctl.media.convert", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # a Ctrl-C on a terminal is for us, not for it
        )
        try:
            with Timeout(self._deadline, False):
                _, errors = process.communicate()
                self._judge(process.returncode, errors)
                return
            raise Unplayable(f"decoding it took longer than {self._deadline:g} seconds")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    @staticmethod
    def _judge(code: int, errors: bytes) -> None:
        said = errors.decode("utf-8", "replace")
        _, mark, reason = said.rpartition(_SAYS)
        if code == _DATA_ERROR and mark:
            raise Unplayable(reason.strip())
        if code < 0:
            raise Unplayable(f"its decoder died of signal {-code}; the file is damaged, hostile or far too big")
        if code:
            last = (said.strip().splitlines() or ["it said nothing"])[-1]
            raise ConversionFailed(f"the conversion failed with exit code {code}: {last[:200]}")


def _environment() -> dict[str, str]:
    """What the decoder may know of our environment, where secrets live: how to find libraries, and nothing else."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "LANG") if name in os.environ}
    package = str(Path(__file__).resolve().parents[2])
    return kept | {"PYTHONPATH": package, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


# -- the program ---------------------------------------------------------------------------------------------------


def convert(source: Path, target: Path, gain_db: float, max_bytes: int, raw: str = "") -> None:
    """Decode ``source`` here and now and write it to ``target``; use :class:`Converter` for files of strangers.

    Two channels stay two, more become one. What is sampled faster than 48 kHz is brought down to it. Samples that
    the gain drives out of range saturate. Raises Unplayable.
    """
    import numpy as np  # noqa: PLC0415 (the controller never pays for it)
    import soundfile  # noqa: PLC0415

    with _open(source, raw) as sound:
        if not (1000 <= sound.samplerate <= 16 * MAX_RATE and sound.channels <= 64):
            raise Unplayable(f"it has {sound.channels} channels of {sound.samplerate} Hz, which nobody can hear")
        step = -(-sound.samplerate // MAX_RATE)
        rate, channels = round(sound.samplerate / step), sound.channels if sound.channels <= 2 else 1
        room = min(MAX_SECONDS * rate, (max_bytes - 1024) // (2 * channels))
        factor = 32768 * 10 ** (gain_db / 20)
        thinner = _Thinner(step, channels)
        with soundfile.SoundFile(target, "w", rate, channels, "PCM_16", format="WAV") as out:
            for block in _blocks(sound):
                if channels != sound.channels:
                    block = block.mean(axis=1, keepdims=True)  # noqa: PLW2901
                thinned = thinner.feed(np.nan_to_num(block))
                out.write(np.clip(np.rint(thinned * factor), -32768, 32767).astype(np.int16))
                if out.frames > room:
                    raise Unplayable(f"it is longer than {room / rate:.0f} seconds, the most that is played")
            if not out.frames:
                raise Unplayable("it holds no sound")


@contextmanager
def _open(source: Path, raw: str) -> Iterator[Any]:
    import soundfile  # noqa: PLC0415

    with ExitStack() as opened:
        try:
            sound = opened.enter_context(soundfile.SoundFile(source))
        except soundfile.SoundFileError:
            subtype = "GSM610" if _is_gsm(source) else {"ulaw": "ULAW", "alaw": "ALAW"}.get(raw)
            if subtype is None:
                raise Unplayable(f"it is in no format that can be decoded; it begins with {_first(source)}") from None
            sound = opened.enter_context(soundfile.SoundFile(source, "r", 8000, 1, subtype, format="RAW"))
        if sound.format == "MP3":
            sound = opened.enter_context(soundfile.SoundFile(opened.enter_context(_Longer(source))))
        # Else it seeks to where it is after each block, which an MP3 decoder answers with a click.
        sound.seekable = lambda: False
        yield sound


class _Longer(io.FileIO):
    """A file that tells whoever looks for its end that it is far away.

    For an MP3 without an index libsndfile guesses the duration from the first frame and the file's length, and
    stops there although sound follows. It also stops at the real end.
    """

    _far = False

    def seek(self, position: int, whence: int = os.SEEK_SET, /) -> int:
        self._far = whence == os.SEEK_END
        return super().seek(position, whence)

    def tell(self) -> int:
        return super().tell() * (64 if self._far else 1)


def _first(source: Path) -> str:
    with source.open("rb") as file:
        return file.read(8).hex(" ")


def _is_gsm(source: Path) -> bool:
    """Whether every 33rd byte begins with the mark of a GSM 06.10 frame, all that such files have for a header."""
    data = source.read_bytes()
    marks = data[::_GSM_FRAME]
    return len(data) % _GSM_FRAME == 0 and len(marks) > 1 and all(mark >> 4 == _GSM_MAGIC for mark in marks)


def _blocks(sound: Any) -> Iterator[Any]:
    import numpy as np  # noqa: PLC0415
    import soundfile  # noqa: PLC0415

    buffer = np.empty((_BLOCK, sound.channels), np.float64)
    try:
        while frames := sound.buffer_read_into(buffer, "float64"):
            yield buffer[:frames]
    except soundfile.SoundFileError as error:
        raise Unplayable(f"it is damaged: {error}") from error


class _Thinner:
    """Keeps every ``step``-th frame, after taking out what the new rate cannot carry."""

    def __init__(self, step: int, channels: int) -> None:
        import numpy as np  # noqa: PLC0415

        self._step = step
        self._skip = 0
        reach = 16 * step
        grid = np.arange(-reach, reach + 1)
        taps = np.sinc(0.9 * grid / step) * np.blackman(len(grid))
        self._taps = taps / taps.sum()
        self._tail = np.zeros((2 * reach, channels))

    def feed(self, block: Any) -> Any:
        import numpy as np  # noqa: PLC0415

        if self._step == 1:
            return block
        block = np.concatenate((self._tail, block))
        self._tail = block[len(block) - len(self._tail) :]
        smooth = np.stack([np.convolve(channel, self._taps, "valid") for channel in block.T], axis=1)
        kept = smooth[self._skip :: self._step]
        self._skip = (self._skip - len(smooth)) % self._step
        return kept


def _limit() -> None:
    os.nice(_NICENESS)
    for what, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CPU, _CPU_SECONDS), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)  # noqa: PLW2901
        resource.setrlimit(what, (most, most))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the decoders' own complaints, a line for each bad frame of a hostile file, from who waits for ours."""
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)


def main(arguments: list[str]) -> int:
    """Convert as the arguments say; exit code 65 and a line on stderr when the file is the reason for a failure."""
    source, target, gain_db, max_bytes, *raw = arguments
    _limit()
    try:
        with _quiet():
            convert(Path(source), Path(target), float(gain_db), int(max_bytes), *raw)
        with Path(target).open("rb") as written:
            os.fsync(written.fileno())
    except Unplayable as error:
        sys.stderr.write(f"{_SAYS}{error}\n")
        return _DATA_ERROR
    except MemoryError:
        sys.stderr.write(f"{_SAYS}decoding it takes more than {_MEMORY >> 20} MB of memory\n")
        return _DATA_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
