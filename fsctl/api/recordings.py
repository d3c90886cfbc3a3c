"""Recordings over HTTP: for who has a link, and for programs with a token of the REST API.

``GET`` and ``HEAD /recordings/{uuid}.{wav,mp3,mp4}`` give the sound, whole or one range. Knowing the name is the
permission; where links expire (:class:`fsctl.media.recordings.Links`), the link's signature is.

Below ``/api/recordings/`` the token is the permission: ``GET {uuid}`` tells about a recording and makes a new link,
``GET {uuid}.{wav,mp3,mp4}`` gives the sound, ``DELETE {uuid}`` deletes it.

A name is looked up only when it has exactly that form, so nothing else in the directory, and nothing outside it, can be
asked for. Which recordings there are cannot be asked.
"""

from __future__ import annotations

import os
import re
import stat
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

import structlog

from fsctl.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    import falcon

    from fsctl.media import recordings as media
    from fsctl.media.recordings import Links

__all__ = ["Recordings", "recording_resources", "requested_range"]

log = structlog.get_logger(__name__)

CONTENT_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "audio/mp4"}
CHUNK: Final = 64 * 1024

_NAME: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\.(wav|mp3|mp4)")
_NOT_KEPT: Final = {"Cache-Control": "no-store"}  # or a cache would say so of a link that is good, too
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Span(NamedTuple):
    """Bytes ``start`` up to but not including ``end``."""

    start: int
    end: int


class UnsatisfiableRange(ValueError):
    """No byte of the recording is in the range asked for."""


def requested_range(header: str | None, size: int) -> Span | None:
    """Read a ``Range`` header for a body of ``size`` bytes; None means the whole body.

    Several ranges, other units and what cannot be read are ignored, as RFC 9110 allows. Raises UnsatisfiableRange.
    """
    match = _RANGE.fullmatch((header or "").strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # the last so many bytes
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), int(match[2] or size) + 1
        if match[2] and end <= start:
            return None
    if start >= size:
        raise UnsatisfiableRange(header)
    return Span(start, min(end, size))


def recording_resources(
    recordings: media.Recordings,
    *,
    being_written: Callable[[], Collection[str]],
    on_deleted: Callable[[str], object] = lambda _id: None,
) -> dict[str, object]:
    """The resources by their routes, for :func:`fsctl.api.app.make_app`.

    ``being_written`` gives the ids of the recordings that live calls are making: those are not deleted. ``on_deleted``
    is called for each that was.
    """
    return {
        "/recordings/{name}": Recordings(recordings.directory, recordings.links),
        "/api/recordings/{name}": _Managed(recordings, being_written, on_deleted),
    }


# -- resources --------------------------------------------------------------------------------------------------------


class Recordings:
    """Serves ``directory``, where FreeSWITCH writes, to who has a link: a signed one, where there are ``links``."""

    def __init__(self, directory: Path, links: Links | None = None) -> None:
        self._directory = directory
        self._links = links

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with the recording, or the part of it that was asked for."""
        self._admit(req, name)
        _send(self._directory, req, resp, name)

    def on_head(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer as ``GET`` would, without the recording."""
        self._admit(req, name)
        _send_head(self._directory, req, resp, name)

    def _admit(self, req: falcon.Request, name: str) -> None:
        """Raise ApiError for a link that is not good, before anybody looks whether there is such a recording."""
        if self._links is None or not _NAME.fullmatch(name):
            return
        verdict = self._links.judge(name, req.query_string)
        if verdict == "wrong":
            message = "This is no link of ours: its signature is missing, or it was changed."
            raise ApiError(403, "forbidden", message, headers=_NOT_KEPT)
        if verdict == "expired":
            message = "This link has expired. GET /api/recordings/{id} gives a new one."
            raise ApiError(410, "link_expired", message, headers=_NOT_KEPT)


class _Managed:
    """A recording for programs with a token, by its id; by its name it is the sound itself."""

    scopes: Final = {"GET": "read", "HEAD": "read", "DELETE": "control"}

    def __init__(
        self,
        recordings: media.Recordings,
        being_written: Callable[[], Collection[str]],
        on_deleted: Callable[[str], object],
    ) -> None:
        self._recordings = recordings
        self._being_written = being_written
        self._on_deleted = on_deleted

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """What is known of the recording, with a link to it; or the sound."""
        if "." in name:
            _send(self._recordings.directory, req, resp, name)
        else:
            self._tell(resp, name)

    def on_head(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer as ``GET`` would, without the body."""
        if "." in name:
            _send_head(self._recordings.directory, req, resp, name)
        else:
            self._tell(resp, name)

    def on_delete(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Delete the recording with that id."""
        if name in self._being_written():
            message = "The recording is still being made; stop it, or wait for its end."
            raise ApiError(409, "recording_in_progress", message)
        if not self._recordings.delete(name):
            raise _missing()
        log.info("recording_deleted", by="api", recording_id=name)
        self._on_deleted(name)
        resp.status = 204

    def _tell(self, resp: falcon.Response, name: str) -> None:
        found = self._recordings.kept(name)
        if found is None:
            raise _missing()
        created = datetime.fromtimestamp(found.written_at, UTC).isoformat(timespec="seconds")
        resp.cache_control = ["no-store"]
        resp.media = {
            "id": found.id,
            "url": self._recordings.url(found.path.name),
            "format": found.path.suffix[1:],
            "size": found.size,
            "duration": found.duration,
            "created_at": created.replace("+00:00", "Z"),
        }


def _missing() -> ApiError:
    return ApiError(404, "not_found", "There is no such recording.")


# -- the sound --------------------------------------------------------------------------------------------------------


def _send(directory: Path, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    file = _open(directory, name)
    try:
        span = _describe(req, resp, name, os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    if span is None:
        file.close()
    else:
        resp.stream = _Chunks(file, span)


def _send_head(directory: Path, req: falcon.Request, resp: falcon.Response, name: str) -> None:
    with _open(directory, name) as file:
        _describe(req, resp, name, os.fstat(file.fileno()))


def _open(directory: Path, name: str) -> BinaryIO:
    if not _NAME.fullmatch(name):
        raise _missing()
    try:
        number = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise _missing() from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _missing()
    return os.fdopen(number, "rb", buffering=0)


def _describe(req: falcon.Request, resp: falcon.Response, name: str, found: os.stat_result) -> Span | None:
    """Set status and headers; answers with the part to send, None when there is nothing to send."""
    etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
    modified = formatdate(found.st_mtime, usegmt=True)
    resp.set_headers(
        {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private",
            "Etag": etag,
            "Last-Modified": modified,
        }
    )
    if _unchanged(req, etag, int(found.st_mtime)):
        resp.status = 304
        return None
    resp.content_type = CONTENT_TYPES[name.rpartition(".")[2]]
    condition = req.get_header("If-Range")
    try:
        wanted = None if condition not in (None, etag, modified) else req.get_header("Range")
        span = requested_range(wanted, found.st_size)
    except UnsatisfiableRange:
        resp.set_header("Content-Range", f"bytes */{found.st_size}")
        raise ApiError(416, "range_not_satisfiable", f"The recording has {found.st_size} bytes.") from None
    if span is not None:
        resp.status = 206
        resp.set_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{found.st_size}")
    span = span or Span(0, found.st_size)
    resp.content_length = span.end - span.start
    return span


def _unchanged(req: falcon.Request, etag: str, modified: int) -> bool:
    if tags := req.get_header("If-None-Match"):
        return etag in tags or tags.strip() == "*"
    try:
        return modified <= parsedate_to_datetime(req.get_header("If-Modified-Since") or "").timestamp()
    except (ValueError, OverflowError):
        return False


class _Chunks:
    """A file's bytes in pieces; never more than was promised, though FreeSWITCH may still be writing."""

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self._file = file
        self._span = span

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(self._span.start)
        left = self._span.end - self._span.start
        while left > 0 and (chunk := self._file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        """Close the file; the server calls this however the answer ends."""
        self._file.close()
