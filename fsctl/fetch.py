"""From the name of a document to the checked document: asks its server or reads its file, and tries the fallback.

Responsible for the request a document's server sees (body, signature, limits), for file names that stay in their
directory, and for telling how it went. Does not read the language (``fsctl.swml``), find sections, or keep fetched
documents: their server is asked for every call, and the compiler knows a text again that it has seen.

The fallback is for a document that did not come. One that came and is wrong is its author's to mend: it is reported and
not hidden behind another. There are no retries, and a POST is not redirected.

Implements "swml-calling: Fetching SWML documents over HTTP" and "webhooks: Inbound call webhook".
"""

from __future__ import annotations

import json
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

import structlog

from fsctl.call.events import DocumentFetched
from fsctl.errors import FetchError, ScriptError
from fsctl.signature import sign
from fsctl.swml.values import to_text
from fsctl.web import Timeouts, redact, timeouts_of, with_query

if TYPE_CHECKING:
    import os

    from fsctl.call.events import CallInfo
    from fsctl.swml.document import Document
    from fsctl.web import Response

__all__ = ["Compiler", "DocumentSettings", "Documents", "request_body"]

log = structlog.get_logger(__name__)

MAX_FILES = 1024  # remembered; far more than a directory of documents holds
FRESH_SECONDS = 1.0  # how long a file that was looked at counts as unchanged
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, application/yaml, text/x-yaml"}
_BLANK = b"\xef\xbb\xbf \t\r\n"


class Compiler(Protocol):
    """What makes a document of a text."""

    def compile(self, source: bytes | str, *, name: str = "") -> Document:
        """Check ``source`` (JSON or YAML). Raises ScriptError."""


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """How documents are fetched: seconds, bytes, and the project's signing key, if requests are to be signed."""

    connect_timeout: float = 5.0
    timeout: float = 10.0
    max_bytes: int = 1_048_576
    signing_key: str | None = field(default=None, repr=False)


class Documents:
    """Finds documents by URL or by file name below ``directory``. ``now`` is Unix time for what it tells."""

    def __init__(
        self,
        client: Web,
        compiler: Compiler,
        settings: DocumentSettings,
        directory: Path | str,
        *,
        now: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._compiler = compiler
        self._settings = settings
        self._directory = Path(directory)
        self._now = now
        self._ticks = ticks
        self._files: OrderedDict[Path, tuple[tuple[int, ...], Document]] = OrderedDict()
        self._recent: dict[str, tuple[float, Document]] = {}

    def compile(self, text: str, *, name: str) -> Document:
        """Check a document that came with a request. Raises ScriptError."""
        return self._compiler.compile(text, name=name)

    def load(
        self,
        dest: str,
        *,
        payload: Callable[[], bytes],
        call: CallInfo,
        emit: Callable[[DocumentFetched], Any],
        method: str = "POST",
        fallback: str = "",
    ) -> Document:
        """Give the document ``dest`` names, or the one ``fallback`` names when the first cannot be had.

        ``payload`` makes the body of the request (:func:`request_body`); a file needs none, and neither does a ``GET``,
        whose query names the call. ``emit`` gets one DocumentFetched for each attempt.

        Raises FetchError (of the fallback, when that was tried and failed, too) and ScriptError.
        """
        recent = self._recent.get(dest)
        if recent is not None and self._ticks() < recent[0]:  # a file, and just looked at: most calls
            emit(DocumentFetched(call, "file", "ok", 0.0, self._now()))
            return recent[1]
        kind = "url" if _is_url(dest) else "file"
        try:
            return self._attempt(dest, kind, payload, call, emit, method)
        except FetchError as error:
            if not fallback:
                raise
            log.warning("document_fallback", document=error.url, reason=error.reason, problem=error.detail)
            try:
                return self._attempt(fallback, "fallback", payload, call, emit, method)
            except FetchError as second:
                raise second from error

    def _attempt(
        self,
        dest: str,
        kind: str,
        payload: Callable[[], bytes],
        call: CallInfo,
        emit: Callable[[DocumentFetched], Any],
        method: str,
    ) -> Document:
        started = time.monotonic()

        def tell(outcome: str) -> None:
            emit(DocumentFetched(call, kind, outcome, time.monotonic() - started, self._now()))

        try:
            if not _is_url(dest):
                document = self._read(dest)
            elif method == "GET":
                document = self._fetch("GET", _asking(dest, call), lambda: b"")
            else:
                document = self._fetch("POST", dest, payload)
        except FetchError as error:
            tell(error.reason)
            raise
        except ScriptError:
            tell("invalid")
            raise
        tell("ok")
        return document

    def _fetch(self, method: str, url: str, payload: Callable[[], bytes]) -> Document:
        settings, headers, wire_url = self._settings, dict(_HEADERS), self._client.wire_url(url)
        body = payload()
        if settings.signing_key:
            headers.update(sign(settings.signing_key, wire_url, body))
        default = Timeouts(settings.connect_timeout, settings.timeout, settings.timeout)
        connect, read, total = timeouts_of(url, default)
        response = self._client.fetch(
            method,
            url,
            headers=headers,
            body=body,
            connect_timeout=connect,
            read_timeout=read,
            total_timeout=total,
            max_bytes=settings.max_bytes,
        )
        name = redact(wire_url)
        _look(response, name)
        return self._compiler.compile(response.body, name=name)

    def _read(self, name: str) -> Document:
        """Read a file, and remember for a second that it was looked at."""
        now = self._ticks()
        document = self._look_at(name)
        if len(self._recent) > MAX_FILES:
            self._recent.clear()
        self._recent[name] = now + FRESH_SECONDS, document
        return document

    def _look_at(self, name: str) -> Document:
        path = self._path(name)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise FetchError(name, "missing", "is not a file")
            if status.st_size > self._settings.max_bytes:
                raise FetchError(name, "size", f"is longer than {self._settings.max_bytes} bytes")
            version = _version(status)
            known = self._files.get(path)
            if known is not None and known[0] == version:
                self._files.move_to_end(path)
                return known[1]
            text = path.read_bytes()
        except OSError as error:
            raise FetchError(name, "missing", f"cannot be read: {error.strerror}") from error
        document = self._compiler.compile(text, name=name)
        self._files[path] = version, document
        if len(self._files) > MAX_FILES:
            self._files.popitem(last=False)
        return document

    def _path(self, name: str) -> Path:
        """Give the real path of a file name, which must lie below the directory even when links are followed."""
        relative = PurePosixPath(name)
        if not name or not name.isprintable() or relative.is_absolute() or ".." in relative.parts:
            raise FetchError(redact(name), "malformed", "is neither a URL nor a file name below documents.directory")
        try:
            path = (self._directory / relative).resolve(strict=True)
            inside = path.is_relative_to(self._directory.resolve(strict=True))
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            problem = getattr(error, "strerror", None) or "its links lead in a circle"
            raise FetchError(name, "missing", f"is not in documents.directory: {problem}") from error
        if not inside:
            raise FetchError(name, "missing", "is a link that leads out of documents.directory")
        return path


class Web(Protocol):
    """The part of :class:`fsctl.web.Client` that documents need."""

    def wire_url(self, url: str) -> str:
        """The URL as its server sees it. Raises FetchError."""

    def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes,
        connect_timeout: float,
        read_timeout: float,
        total_timeout: float,
        max_bytes: int,
    ) -> Response:
        """Ask and read the answer. Raises FetchError."""


def request_body(
    call: Mapping[str, Any], variables: Mapping[str, Any], envs: Mapping[str, Any], params: Mapping[str, Any]
) -> bytes:
    """Give the body of a document request: the four scopes, all present even when empty."""
    scopes = {"call": call, "vars": variables, "envs": envs, "params": params}
    try:
        return _encode(scopes).encode()
    except ValueError:  # NaN or an infinity: null, as everywhere
        return to_text({name: dict(scope) for name, scope in scopes.items()}).encode("utf-8", "replace")


def _asking(url: str, call: CallInfo) -> str:
    """``url`` with the call in its query, for a request that has no body (webhooks, section 4)."""
    pairs = {
        "call_id": call.call_id,
        "node_id": call.node_id,
        "segment_id": call.segment_id,
        "direction": call.direction,
        "type": call.type,
        "from": call.from_,
        "to": call.to,
        "project_id": call.project_id,
        "space_id": call.space_id,
    }
    fragment = url.partition("#")[2]  # our own: it says how long to wait
    asking = with_query(url, urlencode(pairs, quote_via=quote))
    return f"{asking}#{fragment}" if fragment else asking


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a variable holds a {type(value).__name__}, which is not JSON")


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def _is_url(dest: str) -> bool:
    return "://" in dest


def _version(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_size, status.st_ino


def _look(response: Response, name: str) -> None:
    """Refuse what a server says when it was not meant to be asked; the body decides, not the type it claims."""
    start = response.body[:1024].lstrip(_BLANK).lower()
    if not start:
        raise FetchError(name, "content", "answered nothing; is this the right URL?", status=response.status)
    if start.startswith(b"<"):
        kind = "HTML" if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) else "XML or HTML"
        raise FetchError(name, "content", f"answered {kind}; is this the right URL?", status=response.status)
