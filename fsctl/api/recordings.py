"""Recordings over HTTP: ``GET`` and ``HEAD /recordings/{uuid}.{wav,mp3,mp4}``, whole or one range.

A name is looked up only when it has exactly that form, so nothing else in the directory, and nothing outside it, can be
asked for. Knowing the name is the permission; who listed recordings, and when they are deleted, is not known here.
"""

from __future__ import annotations

import os
import re
import stat
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from fsctl.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import falcon

__all__ = ["Recordings", "requested_range"]

CONTENT_TYPES: Final = {"wav": "audio/wav", "mp3": "audio/mpeg", "mp4": "audio/mp4"}
CHUNK: Final = 64 * 1024

_NAME: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\.(wav|mp3|mp4)")
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


class Recordings:
    """Serves ``directory``; FreeSWITCH writes there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer with the recording, or the part of it that was asked for."""
        file = self._open(name)
        try:
            span = self._describe(req, resp, name, os.fstat(file.fileno()))
        except BaseException:
            file.close()
            raise
        if span is None:
            file.close()
        else:
            resp.stream = _Chunks(file, span)

    def on_head(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Answer as ``GET`` would, without the recording."""
        with self._open(name) as file:
            self._describe(req, resp, name, os.fstat(file.fileno()))

    def _open(self, name: str) -> BinaryIO:
        missing = ApiError(404, "not_found", "There is no such recording.")
        if not _NAME.fullmatch(name):
            raise missing
        try:
            number = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise missing from None
        if not stat.S_ISREG(os.fstat(number).st_mode):
            os.close(number)
            raise missing
        return os.fdopen(number, "rb", buffering=0)

    def _describe(self, req: falcon.Request, resp: falcon.Response, name: str, found: os.stat_result) -> Span | None:
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
