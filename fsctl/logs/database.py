"""The file behind the call log: SQLite, its tables, and every statement there is.

Everything here waits for the disk, so everything here runs in threads of its own (:mod:`fsctl.logs.store`): one
:class:`Writer` in one thread, one :class:`Reader` in another. No gevent, and no log lines: what goes wrong is raised.

The file says whose it is (``application_id``) and of which version its tables are (``user_version``). It can be looked
at with ``sqlite3`` while fsctl runs: ``calls`` and ``events`` have a row for each. What is written of a call at one
time is one row of ``pieces``, because rows and their place in an index are what writing costs; ``events`` is a view
that takes them apart.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from fsctl.errors import FsctlError
from fsctl.logs.entries import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

__all__ = [
    "VERSION",
    "Batch",
    "CallRow",
    "ForeignFile",
    "Page",
    "Reader",
    "UnknownVersion",
    "Writer",
    "call",
    "events",
    "is_damaged",
    "page",
]

T = TypeVar("T")

APPLICATION: Final = 0x66736374  # "fsct", in the file's header
VERSION: Final = 2

_TABLES: Final = f"""
BEGIN;
CREATE TABLE calls (
  id INTEGER PRIMARY KEY,
  segment_id TEXT NOT NULL UNIQUE,
  project_id TEXT NOT NULL,
  "from" TEXT NOT NULL,
  "to" TEXT NOT NULL,
  direction TEXT NOT NULL,
  type TEXT NOT NULL,
  state TEXT NOT NULL,
  end_reason TEXT,
  created_at REAL NOT NULL,
  answered_at REAL,
  ended_at REAL
);
CREATE INDEX calls_by_time ON calls (created_at);
CREATE TABLE pieces (
  id INTEGER PRIMARY KEY,
  log_id INTEGER NOT NULL REFERENCES calls (id),
  entries TEXT NOT NULL
);
CREATE INDEX pieces_by_log ON pieces (log_id);
CREATE VIEW events (log_id, piece, place, event_at, level, name, details) AS
  SELECT pieces.log_id, pieces.id, entry.key, json_extract(entry.value, '$[0]'), json_extract(entry.value, '$[1]'),
    json_extract(entry.value, '$[2]'), json_extract(entry.value, '$[3]')
  FROM pieces, json_each(pieces.entries) AS entry;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
COMMIT;
"""  # noqa: S608 - two numbers of ours

# A call that is told of again (its next state; its next life after our restart) keeps who it is and when it began.
_CALL_COLUMNS: Final = """
segment_id, project_id, "from", "to", direction, type, state, end_reason, created_at, answered_at, ended_at
"""
_PUT_CALLS: Final = f"""
INSERT INTO calls ({_CALL_COLUMNS}) VALUES %s
ON CONFLICT (segment_id) DO UPDATE SET state = excluded.state, end_reason = excluded.end_reason,
  created_at = min(created_at, excluded.created_at), answered_at = coalesce(answered_at, excluded.answered_at),
  ended_at = excluded.ended_at
"""  # noqa: S608 - names
_PUT_PIECES: Final = """
INSERT INTO pieces (log_id, entries)
SELECT calls.id, told.column2 FROM (VALUES %s) AS told CROSS JOIN calls ON calls.segment_id = told.column1
"""
# Nobody told us how these ended, because we were not there.
_ABANDON: Final = "UPDATE calls SET state = 'ended' WHERE state <> 'ended'"

_TOO_OLD: Final = "SELECT id FROM calls WHERE created_at < ? AND state = 'ended' ORDER BY created_at, id LIMIT ?"
_TOO_MANY: Final = "SELECT id FROM calls WHERE state = 'ended' ORDER BY created_at, id LIMIT min(?, ?)"

# Written with one statement. After each of them the thread waits until the event loop lets go of the interpreter, and
# the loop then waits for the thread.
_ROWS: Final = 32
_BUSY_SECONDS: Final = 1.0  # somebody with a `sqlite3` of his own may hold the file for a moment
_WAL_BYTES: Final = 64 * 1024 * 1024
_LOOK_EVERY: Final = 500_000  # steps of SQLite's machine, some milliseconds, between two looks at the clock
_DAMAGE: Final = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))


class ForeignFile(FsctlError):
    """The file is some other program's database; it is left alone."""


class UnknownVersion(FsctlError):
    """The file's tables are of a version that this fsctl does not know."""


class CallRow(NamedTuple):
    """A call as it is kept. ``state`` and ``end_reason`` are our own words; times are Unix seconds."""

    segment_id: str
    project_id: str
    from_: str
    to: str
    direction: str
    type: str
    state: str
    end_reason: str | None
    created_at: float
    answered_at: float | None
    ended_at: float | None


@dataclass(slots=True)
class Batch:
    """What is written together, by the segment ids of its calls.

    ``calls`` has the latest of each call as the columns of CallRow, ``entries`` what
    :func:`fsctl.logs.entries.entry` made; ``taken`` is how many events of the bus it comes from.
    """

    calls: dict[str, list[Any]] = field(default_factory=dict)
    entries: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    taken: int = 0

    @property
    def rows(self) -> int:
        """How many rows of ``calls`` and ``events`` it makes."""
        return len(self.calls) + sum(map(len, self.entries.values()))


class Page(NamedTuple):
    """Calls, newest first. ``anchor`` stands for the moment the first page was read; ``more`` that others follow."""

    calls: Sequence[CallRow]
    anchor: int
    more: bool


@lru_cache(maxsize=2 * _ROWS)
def _statement(statement: str, rows: int, columns: int) -> str:
    """The statement for so many rows."""
    row = f"({','.join('?' * columns)})"
    return statement % ",".join([row] * rows)


def _portions(rows: Collection[T]) -> Iterator[list[T]]:
    """A few rows, and a few more."""
    left = iter(rows)
    while some := list(islice(left, _ROWS)):
        yield some


def is_damaged(error: BaseException) -> bool:
    """Whether the error says that the file itself cannot be trusted any more."""
    return isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGE


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file has that name now; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Writer:
    """The one connection that writes. Every method may raise sqlite3.Error or OSError; the next one begins anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._was_open = False

    def open(self) -> sqlite3.Connection:
        """Open the file unless it is open, and make it if there is none. Raises ForeignFile, UnknownVersion, too."""
        if self._connection is not None and _identity(self._path) != self._file:  # deleted, or moved away
            self.close()
        if self._connection is None:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            # Who called whom is nobody else's business; SQLite gives its two other files the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
            self._file = _identity(self._path)
            self._was_open = True
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        def ask(name: str) -> Any:
            return connection.execute(f"PRAGMA {name}").fetchone()[0]

        used = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if used and ask("application_id") != APPLICATION:
            raise ForeignFile(f"{self._path} is another program's database")
        if used and (version := ask("user_version")) != VERSION:
            raise UnknownVersion(f"{self._path} is of version {version}, this fsctl writes {VERSION}")
        ask("journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # what is lost with the power is a moment of the log
        ask(f"journal_size_limit = {_WAL_BYTES}")
        if not used:
            connection.executescript(_TABLES)
        if not self._was_open:
            connection.execute(_ABANDON)

    def write(self, batch: Batch) -> None:
        """Write all of it, or nothing."""
        connection = self.open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            for rows in _portions(batch.calls.values()):
                connection.execute(
                    _statement(_PUT_CALLS, len(rows), len(CallRow._fields)), [*chain.from_iterable(rows)]
                )
            for told in _portions(batch.entries.items()):
                pieces = [(segment_id, f"[{','.join(entries)}]") for segment_id, entries in told]
                connection.execute(_statement(_PUT_PIECES, len(pieces), 2), [*chain.from_iterable(pieces)])
            connection.execute("COMMIT")
        except BaseException:
            self.close()  # and with it the transaction
            raise

    def purge(self, *, before: float, max_calls: int, most: int) -> int:
        """Delete at most ``most`` calls that began before that time or are too many, oldest first; say how many."""
        connection = self.open()
        try:
            connection.execute("BEGIN IMMEDIATE")
            ids = [row[0] for row in connection.execute(_TOO_OLD, (before, most))]
            if len(ids) < most:
                excess = connection.execute("SELECT count(*) FROM calls").fetchone()[0] - max_calls
                if excess > len(ids):  # the oldest are among them
                    ids = [row[0] for row in connection.execute(_TOO_MANY, (excess, most))]
            marks = ",".join("?" * len(ids))
            connection.execute(f"DELETE FROM pieces WHERE log_id IN ({marks})", ids)  # noqa: S608 - question marks
            connection.execute(f"DELETE FROM calls WHERE id IN ({marks})", ids)  # noqa: S608 - question marks
            connection.execute("COMMIT")
        except BaseException:
            self.close()
            raise
        return len(ids)

    def set_aside(self, word: str) -> Path:
        """Give the file another name, ``….broken-<time>`` for the word ``broken``, and answer with it."""
        self.close()
        aside = self._path.with_name(f"{self._path.name}.{word}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}")
        os.replace(self._path, aside)  # noqa: PTH105 - the three of them alike
        for ending in ("-wal", "-shm"):  # under these names they still belong to it
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{ending}", f"{aside}{ending}")  # noqa: PTH105
        return aside

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()


class Reader:
    """The one connection that reads. A question that takes longer than ``seconds`` is given up with sqlite3.Error."""

    def __init__(self, path: Path, *, seconds: float) -> None:
        self._path = path
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def ask(self, question: Callable[[sqlite3.Connection], Any]) -> Any:
        """Answer ``question(connection)``, all of it from one moment. Raises sqlite3.Error, OSError."""
        connection = self._open()
        until = time.monotonic() + self._seconds
        connection.set_progress_handler(lambda: time.monotonic() > until, _LOOK_EVERY)
        try:
            connection.execute("BEGIN")
            answer = question(connection)
            connection.execute("COMMIT")
        except BaseException:
            self.close()
            raise
        return answer

    def _open(self) -> sqlite3.Connection:
        """Open the file unless it is open, and again when another has its name."""
        found = _identity(self._path)
        if found is None:
            raise FileNotFoundError(f"{self._path} is not there")
        if self._file != found:
            self.close()
        if self._connection is None:
            self._connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=ro",
                uri=True,
                timeout=_BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
            self._file = found
        return self._connection

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):
                connection.close()


# -- questions --------------------------------------------------------------------------------------------------------


def page(
    connection: sqlite3.Connection,
    *,
    since: float | None,
    before: float | None,
    anchor: int | None,
    size: int,
    skip: int,
) -> Page:
    """The calls that began at ``since`` or later and before ``before``: ``size`` of them after the first ``skip``.

    With the ``anchor`` of an earlier page, what came to the log since then is not seen.
    """
    if anchor is None:
        anchor = connection.execute("SELECT coalesce(max(id), 0) FROM calls").fetchone()[0]
    rows = connection.execute(
        f"SELECT {_CALL_COLUMNS} FROM calls WHERE id <= ? AND created_at >= ? AND created_at < ?"  # noqa: S608 - names
        " ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?",
        (anchor, since if since is not None else -1e300, before if before is not None else 1e300, size + 1, skip),
    ).fetchall()
    return Page([CallRow(*row) for row in rows[:size]], anchor, len(rows) > size)


def call(connection: sqlite3.Connection, segment_id: str) -> CallRow | None:
    """The call with that segment id."""
    row = connection.execute(f"SELECT {_CALL_COLUMNS} FROM calls WHERE segment_id = ?", (segment_id,)).fetchone()  # noqa: S608
    return None if row is None else CallRow(*row)


def events(connection: sqlite3.Connection, segment_id: str, most: int) -> tuple[CallRow, list[Entry]] | None:
    """The call with that segment id and its first ``most`` events, oldest first."""
    found = call(connection, segment_id)
    if found is None:
        return None
    rows = connection.execute(
        "SELECT event_at, level, name, details FROM events"
        " WHERE log_id = (SELECT id FROM calls WHERE segment_id = ?) ORDER BY piece, place LIMIT ?",
        (segment_id, most),
    )
    return found, [Entry(*row) for row in rows]
