"""Where recordings lie and what they are called: a new one's name and URL, and the facts of a finished one.

FreeSWITCH writes the files, the HTTP side serves them, and neither decides on a name. Nothing here records, serves or
deletes. Reference: swml-calling, "record" and "record_call".
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

from fsctl.errors import CommandFailed
from fsctl.media.convert import read_wav

if TYPE_CHECKING:
    from pathlib import Path
from time import monotonic

__all__ = ["FORMATS", "Facts", "Recording", "Recordings"]

FORMATS = ("wav", "mp3", "mp4")

_NAME = re.compile(rf"[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}\.(?:{'|'.join(FORMATS)})")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that may begin: where FreeSWITCH shall write it and where customers will find it."""

    id: str
    path: Path
    url: str


class Facts(NamedTuple):
    """A finished recording: bytes, and seconds where the format tells. 0 bytes: there is no file."""

    size: int
    duration: float | None


class Recordings:
    """The recordings in ``directory``, which customers see at ``public_url`` followed by ``/recordings/``."""

    def __init__(self, directory: Path, public_url: str, *, min_free_bytes: int = 104_857_600) -> None:
        self.directory = directory
        self._base = f"{public_url.rstrip('/')}/recordings/"
        self._place = _place(self._base)
        self._min_free_bytes = min_free_bytes
        self._look_again = 0.0

    def new(self, format_: str) -> Recording:
        """Name a new recording of format ``wav``, ``mp3`` or ``mp4``; the file does not exist yet.

        Raises CommandFailed when the directory cannot be made or its disk is nearly full: FreeSWITCH would hang
        up on the caller or write half a file.
        """
        if format_ not in FORMATS:
            raise ValueError(f"no recording format {format_!r}; there are {', '.join(FORMATS)}")
        if monotonic() >= self._look_again:
            self._look()
        name = str(uuid4())
        return Recording(name, self.directory / f"{name}.{format_}", f"{self._base}{name}.{format_}")

    def passing(self) -> Path:
        """Name a file for audio that is only looked at while it comes in: 16-bit samples at 8 kHz, at no URL.

        Raises CommandFailed as :meth:`new` does.
        """
        if monotonic() >= self._look_again:
            self._look()
        return self.directory / f"{uuid4()}.r8"

    def _look(self) -> None:
        """Raise CommandFailed when nothing can be recorded now; good news holds for a second."""
        try:
            # Group-writable, and the group sticks: FreeSWITCH and we may be different users of one group.
            if not self.directory.is_dir():
                self.directory.mkdir(parents=True, exist_ok=True)
                self.directory.chmod(0o2770)
            free = shutil.disk_usage(self.directory).free
        except OSError as error:
            problem = f"recordings.directory {self.directory} cannot be used: {error.strerror}"
            raise CommandFailed("record", problem) from error
        if free < self._min_free_bytes:
            raise CommandFailed(
                "record",
                f"only {free >> 20} MB are free in {self.directory}, recordings.min_free_bytes asks for "
                f"{self._min_free_bytes >> 20} MB; delete old recordings or add disk",
            )
        self._look_again = monotonic() + 1.0

    def path_of_url(self, url: str) -> Path | None:
        """The file behind one of our own recording URLs, which need not exist; None for every other URL.

        Credentials and a query in the URL do not matter; a name that is not exactly one of ours does.
        """
        place = _place(url)
        if place is None or self._place is None or place[:3] != self._place[:3]:
            return None
        folder, _, name = place[3].rpartition("/")
        return self.directory / name if f"{folder}/" == self._place[3] and _NAME.fullmatch(name) else None

    def size(self, path: Path) -> int:
        """The bytes of a finished recording; 0 when there is none."""
        try:
            return path.stat().st_size
        except OSError:
            return 0

    def facts(self, path: Path) -> Facts:
        """The size and duration of a finished recording; the duration is None for ``mp4`` and damaged files."""
        try:
            size = path.stat().st_size
            duration = _DURATIONS.get(path.suffix, _unknown)(path) if size else None
        except OSError:
            return Facts(0, None)
        return Facts(size, duration)


def _place(url: str) -> tuple[str, str, int | None, str] | None:
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        return scheme, parts.hostname or "", parts.port or _PORTS.get(scheme), parts.path
    except ValueError:
        return None


def _wav_duration(path: Path) -> float | None:
    with path.open("rb") as file:
        wav = read_wav(file)
    return None if wav is None else wav.duration


def _mp3_duration(path: Path) -> float | None:
    import soundfile  # noqa: PLC0415 (20 MB of memory that only mp3 recordings need)

    try:
        # Exact, and without reading the file, because FreeSWITCH writes a constant bit rate.
        return float(soundfile.info(path).duration)
    except soundfile.SoundFileError:
        return None


def _unknown(_path: Path) -> float | None:
    return None


_DURATIONS = {".wav": _wav_duration, ".mp3": _mp3_duration}
