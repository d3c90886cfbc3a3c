"""A sound's URL as a local file that FreeSWITCH can play, fetched once and kept for the next caller.

Knows HTTP's rules about how long a copy is good, what the cache may take, and which URLs are our own recordings. Does
not connect (``fsctl.web``), does not decode (``media.convert``) and plays nothing. Reference: swml-calling, "play".

In the cache directory there are, for each URL, named after a hash of it and of its content:

* ``<url>.json``: which content it had, its validators, and when to ask again;
* ``<url>-<content>.wav`` (played as it is) or ``.src`` (what has to be decoded first);
* ``<url>-<content>.g<gain>.wav``: decoded, and louder or softer by so many hundredths of a dB;
* ``seg-<unique>.wav``: the rest of one of these for somebody who plays it now; the same file again, if that is all.

Files are written aside and renamed, never changed afterwards, and touched when used: the oldest touch goes first. A
file that is being played may go too, since FreeSWITCH has it open; one that was just handed out may not.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import struct
import time
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import gevent
import structlog

from fsctl.errors import ConfigError, FetchError
from fsctl.media.convert import ConversionFailed, Converter, Unplayable, read_wav, refuse_text
from fsctl.web import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fsctl.web import Client, Response

__all__ = ["Files", "Segment"]

log = structlog.get_logger(__name__)
T = TypeVar("T")

MAX_GAIN = 40.0
DEFAULT_FRESH = 60.0  # of a copy whose origin does not say how long it is good
MAX_FRESH = 7 * 86_400.0
MAX_STALE = 86_400.0  # after that a copy is not played even though its origin is down
RETRY = 10.0  # an origin that failed is left alone for this long while there is a copy
GRACE = 600.0  # a file handed out is not deleted for this long: others may be played before it
ABANDONED = 3600.0  # a file that is still being written is younger
_COPIED = 1 << 20
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")

_OK = frozenset((200, 203, 304))
_ORIGIN_FAILED = frozenset(("refused", "dns", "connect", "timeout", "tls", "content"))
_RAW_SUFFIXES = {
    **dict.fromkeys((".ulaw", ".ul", ".mulaw", ".pcmu"), "ulaw"),
    **dict.fromkeys((".alaw", ".al", ".pcma"), "alaw"),
}
_RAW_TYPES = {
    **dict.fromkeys(("audio/basic", "audio/pcmu", "audio/mulaw", "audio/x-mulaw"), "ulaw"),
    **dict.fromkeys(("audio/pcma", "audio/alaw", "audio/x-alaw"), "alaw"),
}


@dataclass(frozen=True, slots=True)
class _Copy:
    """What we know of a URL's content.

    ``source`` is the name of its file and ``size`` its bytes; it is fresh until ``until``, and its origin is asked from
    ``ask`` on; ``raw`` says what it is taken for if it has no header, ``problem`` why it cannot be played.
    """

    source: str
    size: int
    until: float
    ask: float
    etag: str = ""
    modified: str = ""
    raw: str = ""
    problem: str = ""

    def playable(self, gain: int) -> str:
        """Name the file to play at this gain (hundredths of a dB)."""
        stem, _, kind = self.source.rpartition(".")
        return self.source if kind == "wav" and gain == 0 else f"{stem}.g{gain}.wav"


@dataclass(frozen=True, slots=True)
class Segment:
    """A sound from some place on, as a file that stays until it is released. ``seconds`` 0.0: nothing is left of it."""

    path: Path
    seconds: float


class Files:
    """The cache of sounds in ``cache_directory``, of about ``max_bytes``; nobody else may write there.

    ``own_urls`` gives the file behind a URL of our own recordings (``Recordings.path_of_url``), None for others.
    ``timeout`` is for one fetch in all, in seconds. ``now`` is Unix time. Raises ConfigError when the directory
    cannot be used.
    """

    def __init__(
        self,
        client: Client,
        *,
        cache_directory: Path,
        max_bytes: int,
        max_file_bytes: int,
        timeout: float,
        own_urls: Callable[[str], Path | None],
        converter: Converter | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._directory = cache_directory
        self._max_bytes = max_bytes
        self._max_file_bytes = max_file_bytes
        self._timeout = timeout
        self._own_urls = own_urls
        self._converter = converter or Converter(max_bytes=max_bytes)
        self._now = now
        self._running: dict[str, gevent.Greenlet] = {}
        self._segments: set[str] = set()
        self._size = 0
        try:
            if not cache_directory.is_dir():
                cache_directory.mkdir(parents=True)
                cache_directory.chmod(0o755)
            if not os.access(cache_directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._make_room()
        except OSError as error:
            raise ConfigError("media.cache_directory", f"{cache_directory} cannot be used: {error.strerror}") from error

    def local(self, url: str, gain_db: float = 0.0) -> Path:
        """Give the file to play for ``url``, ``gain_db`` (-40 to 40) louder; other greenlets run while it is made.

        Raises FetchError: whatever the client raises, ``content`` when it is no sound, ``missing`` when it is a
        recording of ours that does not exist, or cannot be stored.
        """
        gain = round(max(-MAX_GAIN, min(MAX_GAIN, gain_db)) * 100)
        own = self._own_urls(url)
        if own is not None:
            return self._recording(url, own, gain)
        key = hashlib.sha256(url.partition("#")[0].encode("utf-8", "surrogatepass")).hexdigest()[:32]
        copy = self._known(key)
        if copy is None or copy.ask <= self._now():
            copy = self._once(url, key, lambda: self._refreshed(url, key))
        return self._playable(url, key, copy, gain)

    def length(self, path: Path) -> float | None:
        """Tell the seconds that a file which ``local`` gave lasts; None where its header does not say.

        That is so for recordings of ours that are no WAV files, or go on still.
        """
        if path.suffix != ".wav":
            return None
        try:
            with path.open("rb") as file:
                wav = read_wav(file)
        except OSError:
            return None
        return wav.duration if wav is not None and wav.complete else None

    def segment(self, path: Path, start: float = 0.0) -> Segment:
        """Give what a file that ``local`` gave holds from ``start`` seconds on, to be given back with ``release``.

        It stays as it is whatever becomes of the URL, and of the cache. Raises FetchError when it cannot be made.
        """
        name = f"seg-{uuid4().hex}.wav"
        aside, made = self._aside(), self._directory / name

        def undo(_: object = None) -> None:
            self._segments.discard(name)
            made.unlink(missing_ok=True)
            aside.unlink(missing_ok=True)

        self._segments.add(name)
        work = gevent.get_hub().threadpool.spawn(_take, path, made, aside, start)
        try:
            seconds = work.get()
            if aside.exists():  # it is shorter than the whole
                self._publish(aside, name)
        except (OSError, ValueError) as error:
            undo()
            raise FetchError(path.name, "missing", f"no part of it can be played: {error}") from error
        except BaseException:  # who wanted it is gone, and the thread may still be at work
            work.rawlink(undo)
            raise
        return Segment(made, seconds)

    def release(self, segment: Segment) -> None:
        """Take a segment back: nobody plays it any more. FreeSWITCH may have it open still."""
        self._segments.discard(segment.path.name)
        try:
            size = _own_size(segment.path.name, segment.path.lstat())
            segment.path.unlink()
        except OSError:
            return  # somebody cleaned up
        self._size -= size

    def forget_recording(self, recording_id: str) -> None:
        """Delete what was made of a recording of ours to be played. Touches the disk only; call it in a thread."""
        for path in self._directory.glob(f"own-{recording_id}-*"):
            path.unlink(missing_ok=True)

    # -- files to play -------------------------------------------------------------------------------------------

    def _playable(self, url: str, key: str, copy: _Copy, gain: int) -> Path:
        if copy.problem:
            raise FetchError(redact(url), "content", copy.problem)
        name = copy.playable(gain)
        for used in (f"{key}.json", copy.source):
            self._touch(used)
        if name != copy.source and not self._touch(name):
            self._once(url, name, lambda: self._rendered(url, key, copy, gain))
        return self._directory / name

    def _rendered(self, url: str, key: str, copy: _Copy, gain: int) -> None:
        try:
            self._convert(url, self._directory / copy.source, copy.playable(gain), gain, copy.raw)
        except FetchError as error:
            # Remembered, or every caller would have the same broken file decoded again.
            if isinstance(error.__cause__, Unplayable) and self._known(key) == copy:
                self._remember(key, replace(copy, problem=error.detail))
            raise

    def _recording(self, url: str, path: Path, gain: int) -> Path:
        try:
            written = path.stat().st_mtime_ns
        except OSError as error:
            raise FetchError(redact(url), "missing", f"there is no recording {path.name}") from error
        if gain == 0 and path.suffix == ".wav":
            return path
        name = f"own-{path.stem}-{written:x}.g{gain}.wav"
        if not self._touch(name):
            self._once(url, name, lambda: self._convert(url, path, name, gain))
        return self._directory / name

    def _convert(self, url: str, source: Path, name: str, gain: int, raw: str = "") -> None:
        aside = self._aside()
        try:
            self._converter.convert(source, aside, gain / 100, raw)
            self._publish(aside, name)
        except (Unplayable, ConversionFailed) as error:
            raise FetchError(redact(url), "content", str(error)) from error
        finally:
            aside.unlink(missing_ok=True)

    # -- copies of URLs ------------------------------------------------------------------------------------------

    def _known(self, key: str) -> _Copy | None:
        """Find the copy of a URL; None when there is none, or its file is gone or was cut short by a power failure."""
        try:
            copy = _Copy(**json.loads((self._directory / f"{key}.json").read_bytes()))
            return copy if self._is_whole(copy.source, copy.size) else None
        except (OSError, ValueError, TypeError):
            return None

    def _remember(self, key: str, copy: _Copy) -> None:
        aside = self._aside()
        aside.write_bytes(json.dumps(asdict(copy)).encode())
        self._publish(aside, f"{key}.json")

    def _refreshed(self, url: str, key: str) -> _Copy:
        old, now = self._known(key), self._now()
        try:
            return self._fetched(url, key, old)
        except FetchError as error:
            if old is None or old.problem or now > old.until + MAX_STALE or not _is_fault_of_origin(error):
                raise
            log.warning("audio_stale", url=error.url, reason=error.reason, detail=error.detail)
            # must-revalidate is not heeded here: frameworks send it by default, and the caller waits.
            copy = replace(old, ask=now + RETRY)
            self._remember(key, copy)
            return copy

    def _fetched(self, url: str, key: str, old: _Copy | None) -> _Copy:
        headers = {"Accept": "audio/*, */*;q=0.5"}
        if old is not None and old.etag:
            headers["If-None-Match"] = old.etag
        if old is not None and old.modified:
            headers["If-Modified-Since"] = old.modified
        response = self._client.fetch(
            "GET",
            url,
            headers=headers,
            connect_timeout=min(5.0, self._timeout),
            read_timeout=self._timeout,
            total_timeout=self._timeout,
            max_bytes=self._max_file_bytes,
            ok=_OK,
        )
        keep, fresh = _freshness(response.headers)
        until = self._now() + fresh
        if old is not None and response.status == 304:
            copy = replace(old, until=until, ask=until, etag=response.headers.get("etag", old.etag))
        else:
            copy = self._stored(url, key if keep else f"once-{uuid4().hex}", response, until)
        if keep:
            self._remember(key, copy)
        else:
            self._forget(f"{key}.json")
        return copy

    def _stored(self, url: str, stem: str, response: Response, until: float) -> _Copy:
        body, headers = response.body, response.headers
        try:
            refuse_text(body)
        except Unplayable as error:
            raise FetchError(redact(url), "content", str(error), status=response.status) from error
        wav = read_wav(io.BytesIO(body))
        kind = "wav" if wav is not None and wav.plain else "src"
        threads = gevent.get_hub().threadpool  # a large file would keep every call waiting
        name = f"{stem}-{threads.apply(_digest, (body,))}.{kind}"
        if not self._is_whole(name, len(body)):
            aside = self._aside()
            try:
                threads.apply(_write, (aside, body))
                self._publish(aside, name)
            finally:
                aside.unlink(missing_ok=True)
        log.info("audio_fetched", url=redact(url), bytes=len(body), seconds=round(response.elapsed, 3), kind=kind)
        raw = "" if kind == "wav" else _raw(url, headers)
        return _Copy(name, len(body), until, until, headers.get("etag", ""), headers.get("last-modified", ""), raw)

    # -- one at a time -------------------------------------------------------------------------------------------

    def _once(self, url: str, key: str, work: Callable[[], T]) -> T:
        """Do ``work`` once for all who ask meanwhile, and to its end even if they all hang up."""
        running = self._running.get(key)
        if running is None:
            # In the context of the first who asks, so that the log says for which call.
            running = self._running[key] = gevent.spawn(copy_context().run, self._outcome, url, key, work)
        outcome: Any = running.get()
        if isinstance(outcome, FetchError):
            # Each caller gets an error of its own, because a traceback can only grow in one place.
            raise FetchError(outcome.url, outcome.reason, outcome.detail, status=outcome.status) from outcome
        result: T = outcome
        return result

    def _outcome(self, url: str, key: str, work: Callable[[], T]) -> T | FetchError:
        try:
            return work()
        except FetchError as error:
            return error
        except OSError as error:
            problem = f"cannot be kept in {self._directory}: {error.strerror or error}"
            log.exception("audio_cache_failed", directory=str(self._directory))
            return FetchError(redact(url), "missing", problem)
        finally:
            del self._running[key]

    # -- the directory -------------------------------------------------------------------------------------------

    def _aside(self) -> Path:
        return self._directory / f"new-{uuid4().hex}"

    def _publish(self, aside: Path, name: str) -> None:
        aside.chmod(0o644)  # whatever our umask is, FreeSWITCH may be another user
        now = self._now()
        os.utime(aside, (now, now))
        self._size += aside.stat().st_size
        aside.replace(self._directory / name)
        if name.startswith("once-"):
            gevent.spawn_later(GRACE, self._forget, name)
        if self._size > self._max_bytes:
            self._make_room()

    def _touch(self, name: str) -> bool:
        """Note that the file is used; False when there is none."""
        now = self._now()
        try:
            os.utime(self._directory / name, (now, now))
        except OSError:
            return False
        return True

    def _is_whole(self, name: str, size: int) -> bool:
        try:
            return (self._directory / name).stat().st_size == size
        except OSError:
            return False

    def _forget(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Count what is there, delete what should not be, and what was used longest ago if that is too much."""
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                found.append((facts.st_mtime, _own_size(entry.name, facts), entry.name))
        found.sort()
        self._size = sum(size for _, size, _ in found)
        wanted = self._max_bytes * 0.9 if self._size > self._max_bytes else self._size
        for used, size, name in found:
            age = self._now() - used
            aside, once, segment = (name.startswith(kind) for kind in ("new-", "once-", "seg-"))
            outlived = age > ABANDONED if aside else once and age > GRACE
            if segment:  # one that is not ours was left by a process that died
                outlived = name not in self._segments
            if outlived or (self._size > wanted and age > GRACE and not (aside or segment)):
                self._forget(name)
                self._size -= size
        if self._size > self._max_bytes:
            log.warning("audio_cache_over_limit", bytes=self._size, limit=self._max_bytes, grace_seconds=GRACE)


def _own_size(name: str, facts: os.stat_result) -> int:
    """The bytes a file takes: none, when it is a segment that is all of another file."""
    return 0 if name.startswith("seg-") and facts.st_nlink > 1 else facts.st_size


def _take(source: Path, whole: Path, aside: Path, start: float) -> float:
    """Give ``source`` the name ``whole``, or write what is left of it at ``start`` to ``aside``; say how long it lasts.

    Where nothing is left, there is no file.
    """
    with source.open("rb") as file:
        wav = read_wav(file)
        if wav is None:
            raise ValueError("it is no WAV file")
        skipped = max(0, round(start * wav.rate)) * wav.frame_bytes
        left = max(0, wav.data_bytes - skipped) // wav.frame_bytes * wav.frame_bytes
        if not skipped:
            _link(source, whole)
        elif left:
            form = (wav.encoding, wav.channels, wav.rate, wav.byte_rate, wav.frame_bytes, wav.bits)
            with aside.open("wb") as out:
                size = 36 + left + left % 2
                out.write(_HEADER.pack(b"RIFF", size, b"WAVE", b"fmt ", 16, *form, b"data", left))
                file.seek(wav.data_start + skipped)
                for part in [_COPIED] * (left // _COPIED) + [left % _COPIED]:
                    out.write(file.read(part))
                out.write(bytes(left % 2))
    return left / wav.byte_rate


def _link(source: Path, name: Path) -> None:
    try:
        os.link(source, name)
    except OSError:  # a recording on another disk, or one that FreeSWITCH owns
        name.symlink_to(source.absolute())


def _freshness(headers: Mapping[str, str]) -> tuple[bool, float]:
    """Tell whether an answer may be kept, and for how many seconds it is good."""
    said = {}
    for directive in headers.get("cache-control", "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        said[name] = value.strip('" ')
    if "no-store" in said:
        return False, 0.0
    if "no-cache" in said:
        return True, 0.0
    lifetime = _number(said.get("max-age", ""))
    if lifetime is None:
        return True, DEFAULT_FRESH
    return True, min(MAX_FRESH, max(0.0, lifetime - (_number(headers.get("age", "")) or 0.0)))


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _is_fault_of_origin(error: FetchError) -> bool:
    """Whether the origin is broken, rather than telling us that the sound is gone or not for us."""
    return error.reason in _ORIGIN_FAILED or (error.status is not None and (error.status >= 500 or error.status == 429))


def _raw(url: str, headers: Mapping[str, str]) -> str:
    """Say what bytes without any header are; only the name and the server can tell."""
    suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return _RAW_SUFFIXES.get(suffix) or _RAW_TYPES.get(kind, "")


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]


def _write(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())  # a rename may survive a power failure that its content does not
