"""Log lines: one JSON object per line for machines, aligned text for a terminal, secrets masked last.

What is bound in a greenlet (``call_id`` and the like) lives in one mutable mapping in a context variable and is
read only when a line is really written, so telling the log where a script is costs one dictionary update per
instruction. gevent starts every greenlet with an empty context: a greenlet that belongs to a call binds for itself.

Lines of the standard library's ``logging`` (urllib3, gevent) leave through the same processors. This module does
not decide what is worth a line, and does not rotate files: it writes to one stream, the service's journal keeps it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog
from structlog.processors import format_exc_info

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["bind", "debugging", "redact", "setup", "unbound"]

MASK = "***"
DEEPEST = 6

_bound: ContextVar[dict[str, Any] | None] = ContextVar("fsctl_log", default=None)


# -- context ----------------------------------------------------------------------------------------------------------


def bind(shared: dict[str, Any] | None = None, /, **context: Any) -> dict[str, Any]:
    """Put ``context`` on every line this greenlet writes from now on, and return the mapping that holds it.

    The mapping stays live: ``where = bind(call_id=…)`` once, then ``where["method"] = "play"`` per instruction.
    Another greenlet of the same call shares it with ``bind(where)``; without an argument the new mapping starts as
    a copy of what is bound here, so binding more never shows in anybody else's lines.
    """
    bound = dict(_bound.get() or ()) if shared is None else shared
    bound.update(context)
    _bound.set(bound)
    return bound


def unbound() -> None:
    """Forget everything bound in this greenlet; a shared mapping itself is left as it is."""
    _bound.set(None)


# -- secrets ----------------------------------------------------------------------------------------------------------

_SECRET_KEY = re.compile(
    r"token|password|passwd|secret|authorization|credential|signing[_-]?key|api[_-]?key", re.IGNORECASE
)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s\"'<>]+@")
_SECRET_PARAMETER = re.compile(
    r"([?&;][\w.-]*(?:token|passw|secret|auth|signature|api[_-]?key)[\w.-]*=)[^&;#\s\"'<>]+", re.IGNORECASE
)
_AUTHORIZATION = re.compile(
    r"(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:\w+\s+)?|\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE
)


@lru_cache(maxsize=1024)
def is_secret(key: str) -> bool:
    """Whether a value of that name is to be masked."""
    return _SECRET_KEY.search(key) is not None


def _scrub(text: str) -> str:
    if "://" in text:
        text = _URL_CREDENTIALS.sub(MASK + "@", text)
    if "=" in text:
        text = _SECRET_PARAMETER.sub(rf"\1{MASK}", text)
    if len(text) > 12:
        folded = text.lower()  # a look that costs little, before the search that costs much
        if "bearer" in folded or "authorization" in folded:
            text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    return text


def redact(value: Any, depth: int = 0) -> Any:
    """Return a copy of ``value`` fit for a log: plain JSON values, with credentials and secrets masked.

    Masks the values of keys that name a secret, credentials and secret parameters in URLs, and authorization
    values inside text. The last line of defence: callers still leave secrets out.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _scrub(value)
    if isinstance(value, bytes | bytearray):
        return _scrub(bytes(value).decode("utf-8", "backslashreplace"))
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {
            (name := str(key)): MASK if item and is_secret(name) else redact(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, depth + 1) for item in value]
    return _scrub(str(value))


# -- processors -------------------------------------------------------------------------------------------------------


class _Output:
    """Where lines go and from which level on; one for the process, so that loggers made earlier follow a new setup."""

    def __init__(self) -> None:
        self.level = logging.NOTSET
        self.stream: TextIO | None = None
        self.processors: list[Callable[[Any, str, Any], Any]] = []

    def write(self, line: str) -> None:
        try:
            stream = self.stream or sys.stdout
            stream.write(line + "\n")
            stream.flush()
        except UnicodeEncodeError:
            self.write(line.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):  # a full disk or a closed pipe must not end a call
            pass


_output = _Output()


class _Sink:
    """What structlog calls with the finished line; carries the logger's name."""

    __slots__ = ("name",)

    def __init__(self, name: str = "") -> None:
        self.name = name

    def line(self, text: str) -> None:
        _output.write(text)

    debug = info = warning = error = critical = line


class _Logger(structlog.BoundLoggerBase):
    """Methods per level that return before any work when the level is off."""

    def debug(self, event: str, **context: Any) -> Any:
        return self._proxy_to_logger("debug", event, **context) if _output.level <= logging.DEBUG else None

    def info(self, event: str, **context: Any) -> Any:
        return self._proxy_to_logger("info", event, **context) if _output.level <= logging.INFO else None

    def warning(self, event: str, **context: Any) -> Any:
        return self._proxy_to_logger("warning", event, **context) if _output.level <= logging.WARNING else None

    def error(self, event: str, **context: Any) -> Any:
        return self._proxy_to_logger("error", event, **context) if _output.level <= logging.ERROR else None

    def critical(self, event: str, **context: Any) -> Any:
        return self._proxy_to_logger("critical", event, **context)

    def exception(self, event: str, **context: Any) -> Any:
        return self.error(event, **{"exc_info": True, **context})

    warn = warning
    fatal = critical


def _assemble(sink: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
    """Order the fields as people read them; what is bound comes before what the line says."""
    head = {
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level,
        "event": event.pop("event", ""),
        "logger": sink.name,
    }
    return {**head, **(_bound.get() or {}), **event, **head}


def _mask(_sink: Any, _level: str, event: dict[str, Any]) -> Any:
    return redact(event)


def _one_line(_sink: Any, _level: str, event: dict[str, Any]) -> dict[str, Any]:
    """Text from callers must not start a line of its own or drive the terminal."""
    return {key: value if key == "exception" else _printable(value) for key, value in event.items()}


_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}


def _printable(value: Any) -> Any:
    return value.translate(_CONTROL) if isinstance(value, str) else value


def _json(_sink: Any, _level: str, event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(", ", ": "))


class _StandardLibrary(logging.Handler):
    """Takes the records of ``logging`` through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line: Any = {"event": record.getMessage()}
            if record.exc_info:
                line["exc_info"] = record.exc_info
            sink = _Sink(record.name)
            for processor in _output.processors:
                line = processor(sink, record.levelname.lower(), line)
            _output.write(line)
        except structlog.DropEvent:
            pass
        except Exception:  # noqa: BLE001 -- as every handler of logging: somebody's bad format string ends nothing
            self.handleError(record)


def debugging() -> bool:
    """Whether lines of level ``debug`` are shown: worth asking where making one costs more than this."""
    return _output.level <= logging.DEBUG


def setup(
    level: str = "info",
    format: Literal["auto", "json", "text", "console"] = "auto",  # noqa: A002 -- the setting's name
    *,
    stream: TextIO | None = None,
) -> None:
    """Write lines of ``level`` and above to ``stream`` (standard output when None).

    ``auto`` is text when the stream is a terminal and JSON otherwise; ``console`` is another word for ``text``.
    May be called again: every logger follows.
    Raises KeyError for a level ``logging`` does not know.
    """
    _output.level = logging.getLevelNamesMapping()[level.upper()]
    _output.stream = stream
    terminal = (stream or sys.stdout).isatty()
    text = format in {"text", "console"} or (format == "auto" and terminal)
    last: list[Callable[[Any, str, Any], Any]] = [_json]
    if text:
        plain = structlog.dev.plain_traceback
        last = [_one_line, structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=plain)]
    _output.processors[:] = [_assemble, format_exc_info, _mask, *last]
    structlog.configure(
        processors=_output.processors,
        wrapper_class=_Logger,
        logger_factory=_Sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, _StandardLibrary):
            root.removeHandler(handler)
    root.addHandler(_StandardLibrary())
    root.setLevel(_output.level)
    # Below this it repeats every URL with its query, where customers keep tokens under any name.
    logging.getLogger("urllib3").setLevel(max(_output.level, logging.INFO))
