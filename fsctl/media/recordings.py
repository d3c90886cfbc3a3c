"""Where recordings lie, what they are called, who may follow a link to one, and how long they are kept.

FreeSWITCH writes the files and the HTTP side serves them; neither decides on a name. A name is 122 random bits, and
knowing it is the permission, unless :class:`Links` are signed: then a link is good for a time and not a byte of it can
be changed. :class:`Retention` deletes what is too old. What waits for the disk, other than a look at one file, happens
in a thread while calls go on. Nothing here records or serves. Reference: swml-calling, "record" and "record_call".
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import shutil
import stat
import time
from dataclasses import field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import gevent
import structlog

from fsctl.errors import CommandFailed, ConfigError
from fsctl.identity import new_id
from fsctl.media.convert import read_wav
from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

__all__ = ["FORMATS", "Facts", "Kept", "Links", "Recording", "Recordings", "Retention", "Verdict", "link_key"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

FORMATS = ("wav", "mp3", "mp4")

# Of retention: names looked at in one go, and the seconds until the next ones and until everything is looked at again.
BITE: Final = 100
PAUSE: Final = 0.02
SWEEP_SECONDS: Final = 3600.0

_ID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = re.compile(rf"({_ID})\.(?:{'|'.join(FORMATS)})")
_PORTS = {"http": 80, "https": 443}

_EXPIRES: Final = re.compile(r"[1-9][0-9]{0,10}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")
_MOST_PARAMETERS: Final = 32  # of a query; what others add to a link does no harm
_PURPOSE: Final = b"fsctl recording links"


# -- links ------------------------------------------------------------------------------------------------------------

Verdict: TypeAlias = Literal["good", "expired", "wrong"]


def link_key(own: str, signing_key: str) -> bytes:
    """The key of links: ``own``, else one made of the project's signing key, which signs nothing else.

    Raises ConfigError when there is neither.
    """
    if own:
        return own.encode()
    if not signing_key:
        problem = "links that expire need a key: set recordings.link_key, link_key_file or project.signing_key"
        raise ConfigError("recordings.link_seconds", problem)
    return hmac.digest(signing_key.encode(), _PURPOSE, "sha256")


class Links:
    """Links to recordings that are good for ``seconds``: ``NAME?expires=UNIX&signature=HEX``.

    The signature is the HMAC-SHA256 of everything before ``&signature`` with ``key``. ``now`` is Unix time.
    """

    def __init__(self, key: bytes, seconds: int, *, now: Callable[[], float] = time.time) -> None:
        self._keyed = hmac.new(key, digestmod=hashlib.sha256)
        self._seconds = seconds
        self._now = now

    def sign(self, name: str) -> str:
        """Give the name with the query that opens it from now on."""
        expires = str(int(self._now()) + self._seconds)
        return f"{name}?expires={expires}&signature={self._signature(name, expires)}"

    def judge(self, name: str, query: str) -> Verdict:
        """Whether ``query`` opens ``name``. Only who had a link learns that it has expired."""
        read = _read_link(query)
        if read is None:
            return "wrong"
        expires, signature = read
        if not hmac.compare_digest(self._signature(name, expires), signature):
            return "wrong"
        return "good" if self._now() < int(expires) else "expired"

    def _signature(self, name: str, expires: str) -> str:
        code = self._keyed.copy()
        code.update(f"{name}?expires={expires}".encode("utf-8", "surrogatepass"))
        return code.hexdigest()


def _read_link(query: str) -> tuple[str, str] | None:
    """The expiry and the signature in a query, as they were written; None unless each is there once and in form."""
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return None
    expires, signatures = ([value for name, value in given if name == wanted] for wanted in ("expires", "signature"))
    if len(expires) != 1 or len(signatures) != 1:
        return None
    if not _EXPIRES.fullmatch(expires[0]) or not _SIGNATURE.fullmatch(signatures[0]):
        return None
    return expires[0], signatures[0]


# -- recordings -------------------------------------------------------------------------------------------------------


@value
class Recording:
    """A recording that may begin: where FreeSWITCH shall write it and where customers will find it."""

    id: str
    file: str
    _url_of: Callable[[str], str] = field(repr=False, compare=False)

    @property
    def path(self) -> Path:
        """Its file, for who wants to look into it."""
        return Path(self.file)

    @property
    def url(self) -> str:
        """Where customers find it; a link that expires is good from now on, so ask when you hand it out."""
        return self._url_of(self.file.rpartition("/")[2])


class Facts(NamedTuple):
    """A finished recording: bytes, and seconds where the format tells. 0 bytes: there is no file."""

    size: int
    duration: float | None


class Kept(NamedTuple):
    """A recording that is there: ``size`` in bytes, ``duration`` in seconds where the format tells.

    ``written_at`` is the Unix time at which FreeSWITCH wrote to it last.
    """

    id: str
    path: Path
    size: int
    duration: float | None
    written_at: float


class Recordings:
    """The recordings in ``directory``, which customers see at ``public_url`` followed by ``/recordings/``.

    Without ``links`` that are signed, the plain URL is the link.
    """

    def __init__(
        self, directory: Path, public_url: str, *, min_free_bytes: int = 104_857_600, links: Links | None = None
    ) -> None:
        self.directory = directory
        self._folder = f"{directory}/"
        self.links = links
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
        name = new_id()
        return Recording(name, f"{self._folder}{name}.{format_}", self.url)

    def url(self, name: str) -> str:
        """What to hand out for the recording called ``name``; where links expire, its time begins now."""
        return self._base + (name if self.links is None else self.links.sign(name))

    def passing(self) -> Path:
        """Name a file for audio that is only looked at while it comes in: 16-bit samples at 8 kHz, at no URL.

        Raises CommandFailed as :meth:`new` does.
        """
        if monotonic() >= self._look_again:
            self._look()
        return self.directory / f"{new_id()}.r8"

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

        Credentials and a query in the URL do not matter, so neither does a link's age: what asks here is a call, and
        nothing leaves the host. A name that is not exactly one of ours does matter.
        """
        place = _place(url)
        if place is None or self._place is None or place[:3] != self._place[:3]:
            return None
        folder, _, name = place[3].rpartition("/")
        return self.directory / name if f"{folder}/" == self._place[3] and _NAME.fullmatch(name) else None

    def size(self, file: str) -> int:
        """The bytes of a finished recording; 0 when there is none."""
        try:
            return os.stat(file).st_size  # noqa: PTH116 - a path of its own costs more than the look
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

    # -- afterwards ----------------------------------------------------------------------------------------------

    def kept(self, id_: str) -> Kept | None:
        """Look at the recording with that id, in whatever format; None when there is none."""
        return _beside_calls(self._kept, id_)

    def delete(self, id_: str) -> bool:
        """Delete the recording with that id; False when there is none. Raises OSError when it cannot be deleted."""
        return _beside_calls(self._delete, id_)

    def _kept(self, id_: str) -> Kept | None:
        for path in self._paths(id_):
            if (found := _plain(path)) is not None:
                return Kept(id_, path, found.st_size, self.facts(path).duration, found.st_mtime)
        return None

    def _delete(self, id_: str) -> bool:
        deleted = False
        for path in self._paths(id_):
            if _plain(path) is not None:
                path.unlink(missing_ok=True)
                deleted = True
        return deleted

    def _paths(self, id_: str) -> list[Path]:
        """Where the recording may lie; nowhere, when that is no id of ours."""
        return [self.directory / f"{id_}.{format_}" for format_ in FORMATS] if re.fullmatch(_ID, id_) else []


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


def _plain(path: Path) -> os.stat_result | None:
    """What is known of a file; None when there is none, or a link or something else in its place."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


# -- retention --------------------------------------------------------------------------------------------------------


class Retention:
    """Deletes recordings that nobody has written to for ``days``, a few at a time, while calls go on.

    ``being_written`` gives the ids of those that live calls are recording, which stay however long they have been
    paused. ``on_deleted`` is told how many went. ``now`` is Unix time, as files have it.
    """

    def __init__(
        self,
        directory: Path,
        days: int,
        *,
        being_written: Callable[[], Collection[str]],
        on_deleted: Callable[[int], object] = lambda _number: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._directory = directory
        self._days = days
        self._being_written = being_written
        self._on_deleted = on_deleted
        self._now = now
        self._failing = False
        self._worker: gevent.Greenlet | None = None

    def start(self) -> None:
        """Look through the directory now, and every hour from now on."""
        self._worker = gevent.spawn(self._work)

    def stop(self) -> None:
        """Delete nothing more."""
        if self._worker is not None:
            self._worker.kill()

    def _work(self) -> None:
        while True:
            self.sweep()
            gevent.sleep(SWEEP_SECONDS)

    def sweep(self) -> None:
        """Delete what is too old. Trouble with the disk is in the log, once until it is over."""
        before = self._now() - self._days * 86_400.0
        deleted, freed, problem = 0, 0, None
        try:
            names = _beside_calls(_listed, self._directory)
            for start in range(0, len(names), BITE):
                bite = names[start : start + BITE]
                old = _beside_calls(_older, self._directory, bite, before)
                if old:
                    gone = self._delete(old)
                    deleted, freed, problem = deleted + gone.number, freed + gone.size, problem or gone.problem
                gevent.sleep(PAUSE)
        except OSError as error:
            problem = error
        if deleted:
            log.info("recordings_deleted", by="retention", recordings=deleted, bytes=freed, days=self._days)
        self._tell(problem)

    def _delete(self, old: dict[str, int]) -> _Gone:
        spared = self._being_written()
        doomed = {name: size for name, size in old.items() if name.partition(".")[0] not in spared}
        gone = _beside_calls(_delete, self._directory, doomed)
        if gone.number:
            self._on_deleted(gone.number)
        return gone

    def _tell(self, problem: OSError | None) -> None:
        if problem is not None and not self._failing:
            hint = "recordings.retention_days cannot be kept, and the disk may fill; may fsctl write in that directory?"
            reason = problem.strerror or str(problem)
            log.error("recordings_not_deleted", directory=str(self._directory), problem=reason, hint=hint)
        if problem is None and self._failing:
            log.info("recordings_deleted_again", directory=str(self._directory))
        self._failing = problem is not None


class _Gone(NamedTuple):
    number: int
    size: int
    problem: OSError | None


def _listed(directory: Path) -> list[str]:
    """The names of what is there; nothing is, before the directory is made for the first recording."""
    try:
        return os.listdir(directory)  # noqa: PTH208 - without a line of Python for each: there may be very many
    except FileNotFoundError:
        return []


def _older(directory: Path, names: Iterable[str], before: float) -> dict[str, int]:
    """The recordings among the names that were written to last before ``before``, with their sizes."""
    found = {name: _plain(directory / name) for name in names if _NAME.fullmatch(name)}
    return {name: facts.st_size for name, facts in found.items() if facts is not None and facts.st_mtime < before}


def _delete(directory: Path, doomed: dict[str, int]) -> _Gone:
    number, size, problem = 0, 0, None
    for name, bytes_ in doomed.items():
        try:
            (directory / name).unlink()
        except FileNotFoundError:  # somebody else was faster
            continue
        except OSError as error:
            problem = problem or error
            continue
        number, size = number + 1, size + bytes_
    return _Gone(number, size, problem)


# -- beside the event loop --------------------------------------------------------------------------------------------


def _beside_calls(act: Callable[..., T], *arguments: Any) -> T:
    """Do ``act`` in a thread while other greenlets have their turn; what it raises is raised here."""
    result, error = gevent.get_hub().threadpool.apply(_attempt, (act, arguments))
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def _attempt(act: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return act(*arguments), None
    except Exception as error:  # noqa: BLE001 - handed over: gevent would print it
        return None, error
