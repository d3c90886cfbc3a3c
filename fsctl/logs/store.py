"""The call log: an observer of the bus that keeps on disk what became of each call, and gives it back.

::

    event ──▶ memory (bounded) ──▶ a batch a second ──▶ one thread ──▶ SQLite ◀── another thread ◀── who asks

An event costs its call one append. A greenlet turns events into text between other work, many in a row because that is
when it costs least, and hands them to the writing thread in batches; questions have a thread and a time limit of their
own. Neither a full disk nor a slow question nor a file that is damaged can hold up a call: what finds no room in memory
is dropped, counted, and said in the log.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
import structlog
from gevent.event import Event
from gevent.threadpool import ThreadPool

from fsctl.call.events import CallStateChanged, MethodFinished
from fsctl.errors import FsctlError
from fsctl.logs import database
from fsctl.logs.database import Batch, CallRow, Page, Reader, UnknownVersion, Writer, is_damaged
from fsctl.logs.entries import TOLD, Entry, entry, full, is_quiet

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fsctl.call.events import CallEvent

__all__ = ["MAX_EVENTS", "CallLog", "Unreadable"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_EVENTS: Final = 2000
"""Events of one call that are kept; of a call with more, only its states are."""

BATCH_EVENTS: Final = 2000
BATCH_SECONDS: Final = 1.0  # whoever reads meanwhile does not wait for it
SLICE_EVENTS: Final = 40  # turned into text before everybody else has a turn

PURGE_SECONDS: Final = 60.0
PURGE_CALLS: Final = 100  # in one bite
PURGE_PAUSE: Final = 0.1  # between two bites

RETRY_SECONDS: Final = 1.0
SET_ASIDE_SECONDS: Final = 60.0  # a disk that damages everything does not get a new file every second
COMPLAINT_SECONDS: Final = 60.0  # between two log lines on the same trouble

READ_SECONDS: Final = 2.0
MAX_READERS: Final = 50
SETTLE_SECONDS: Final = 1.0

_LONGEST_NAME: Final = 512


class Unreadable(FsctlError):
    """The log cannot be read now; later it may be."""


class CallLog:
    """Keeps calls in the file ``path``: those of the last ``retention_days``, and at most ``max_calls``.

    ``max_pending`` events may wait for the disk. ``written`` counts the rows of ``calls`` and ``events``, ``dropped``
    events that were not kept, ``errors`` what went wrong with the file. ``now`` tells the time by which calls grow old.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention_days: int,
        max_calls: int,
        max_pending: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._retention = retention_days * 86_400.0
        self._max_calls = max_calls
        self._max_pending = max_pending
        self._now = now
        self.written = 0
        self.dropped = 0
        self.errors = 0
        self._events: deque[Any] = deque()
        self._batch: Batch | None = None  # on its way to the disk
        self._taken = self._settled = 0  # events ever: taken in, and written or given up
        self._kept: dict[str, int] = {}  # events of each live call
        self._some = Event()  # there are events, or we close
        self._many = Event()  # there are enough for a batch, or somebody wants to read
        self._opened = Event()
        self._settling = Event()  # replaced whenever a batch is settled
        self._hurried = self._failing = self._closing = False
        self._unsaid = 0  # events dropped since the last log line about them
        self._say_dropped_at = self._say_failed_at = self._set_aside_at = self._purge_at = 0.0
        self._writer, self._reader = Writer(path), Reader(path, seconds=READ_SECONDS)
        self._writing, self._reading = _Thread(), _Thread()
        self._readers = 0
        self._worker: gevent.Greenlet | None = None
        self.reactions: dict[type, Callable[[Any], None]] = dict.fromkeys(TOLD, self._take)
        self.reactions[MethodFinished] = self._method_finished

    # -- the observer --------------------------------------------------------------------------------------------

    def __call__(self, event: CallEvent) -> None:
        """Take ``event`` in; returns at once and never raises."""
        if (take := self.reactions.get(type(event))) is not None:
            take(event)

    def _method_finished(self, event: MethodFinished) -> None:
        if not is_quiet(event):
            self._take(event)

    def _take(self, event: CallEvent) -> None:
        if self._taken - self._settled >= self._max_pending or self._closing:
            self._drop(1)
            return
        self._taken += 1
        events = self._events
        events.append(event)
        if len(events) == 1:
            self._some.set()
        elif len(events) == BATCH_EVENTS:
            self._many.set()

    @property
    def pending(self) -> int:
        """Events that wait for the disk."""
        return self._taken - self._settled

    def counts(self) -> dict[str, int]:
        """What metrics show of it."""
        return {
            "call_log_pending": self.pending,
            "call_log_written": self.written,
            "call_log_dropped": self.dropped,
            "call_log_errors": self.errors,
        }

    def _drop(self, number: int) -> None:
        self.dropped += number
        self._unsaid += number
        if (now := time.monotonic()) < self._say_dropped_at:
            return
        self._say_dropped_at = now + (COMPLAINT_SECONDS if self._failing else 1.0)
        hint = "see call_log_failed" if self._failing else "the disk does not keep up; or raise logs.max_pending"
        log.error("call_log_dropped", events=self._unsaid, pending=self.pending, hint=hint)
        self._unsaid = 0

    # -- the worker ----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the file and write what comes, in the background."""
        self._worker = gevent.spawn(self._work)

    def close(self, timeout: float = 2.0) -> None:
        """Write what waits, for ``timeout`` seconds at most, and let go of the file. What comes now is dropped."""
        if self._closing:
            return
        self._closing = True
        self._some.set()
        self._many.set()
        if self._worker is not None:
            self._worker.join(timeout)
            self._worker.kill(block=False)
        if self.pending:
            self.dropped += self.pending
            log.error("call_log_unfinished", path=str(self._path), events=self.pending, hint="they are lost")
        with gevent.Timeout(timeout, False):  # a disk that does not answer keeps its thread
            self._reading.attempt(self._reader.close)
            self._writing.attempt(self._writer.close)  # who closes last tidies up, and only who writes can
        self._writing.close()
        self._reading.close()

    def _work(self) -> None:
        self._open()
        self._purge_at = time.monotonic() + PURGE_PAUSE
        while True:
            if not self.pending:
                if self._closing:
                    return
                self._some.clear()
                self._some.wait(max(0.0, self._purge_at - time.monotonic()))
            if self.pending:
                self._gather()
                self._write()
            if time.monotonic() >= self._purge_at and not self._closing:
                self._purge()

    def _open(self) -> None:
        """Say at the start, not at the first call, that the file cannot be had."""
        _, error = self._writing.attempt(self._writer.open)
        if error is not None:
            self._failed(error)
        self._opened.set()

    def _gather(self) -> None:
        """Let more events come for the next batch, for a moment."""
        if self._batch is not None or len(self._events) >= BATCH_EVENTS or self._hurried or self._closing:
            return
        self._many.clear()
        self._many.wait(BATCH_SECONDS)

    def _write(self) -> None:
        """Bring a batch to the disk; what the disk does not take now is tried again a little later."""
        if self._batch is None:
            self._hurried = False
            self._batch = self._next()
        batch = self._batch
        _, error = self._writing.attempt(lambda: self._writer.write(batch))
        if error is not None:
            again = self._failed(error)
            if again is not None:
                gevent.sleep(again)
                return
            self._drop(batch.taken)
        else:
            self.written += batch.rows
            if self._failing:
                self._failing = False
                log.info("call_log_works_again", path=str(self._path), pending=self.pending)
        self._batch = None
        self._settled += batch.taken
        settling, self._settling = self._settling, Event()
        settling.set()

    def _purge(self) -> None:
        """Delete what is too old or too much: a bite now, and the next one soon when there is more."""
        self._purge_at = time.monotonic() + PURGE_SECONDS
        if self._failing:
            return
        before = self._now() - self._retention
        deleted, error = self._writing.attempt(
            lambda: self._writer.purge(before=before, max_calls=self._max_calls, most=PURGE_CALLS)
        )
        if error is not None:
            self._failed(error)
        elif deleted == PURGE_CALLS:
            self._purge_at = time.monotonic() + PURGE_PAUSE

    # -- trouble -------------------------------------------------------------------------------------------------

    def _failed(self, error: Exception) -> float | None:
        """Count and tell; the seconds after which it should be tried again, None when that would not help."""
        self.errors += 1
        damaged = is_damaged(error)
        if not damaged and not isinstance(error, sqlite3.OperationalError | OSError | FsctlError):
            log.error("call_log_batch_refused", path=str(self._path), exc_info=error)
            return None
        if not self._failing or time.monotonic() >= self._say_failed_at:
            self._say_failed_at = time.monotonic() + COMPLAINT_SECONDS
            code = getattr(error, "sqlite_errorname", "")
            hint = "calls go on; events wait in memory until it works again, then are dropped"
            log.error("call_log_failed", path=str(self._path), problem=str(error), code=code, hint=hint)
        self._failing = True
        if damaged or isinstance(error, UnknownVersion):
            return self._set_aside("broken" if damaged else "other-version", str(error))
        return RETRY_SECONDS

    def _set_aside(self, word: str, problem: str) -> float:
        """Put a file nobody can use out of the way, so that a new one can be begun; the seconds until that may work."""
        if (now := time.monotonic()) < self._set_aside_at:
            return RETRY_SECONDS
        self._set_aside_at = now + SET_ASIDE_SECONDS
        aside, error = self._writing.attempt(lambda: self._writer.set_aside(word))
        if error is not None:
            log.error("call_log_stuck", path=str(self._path), problem=str(error), hint="move it out of the way by hand")
            return RETRY_SECONDS
        hint = "a new log is begun; `sqlite3 FILE .recover` may save what is in the old one"
        log.critical("call_log_set_aside", path=str(self._path), aside=str(aside), problem=problem, hint=hint)
        return 0.0

    # -- events to text ------------------------------------------------------------------------------------------

    def _next(self) -> Batch:
        """What the next events tell; lets others have their turn while it is made."""
        batch = Batch(taken=min(len(self._events), BATCH_EVENTS))
        for number in range(1, batch.taken + 1):
            event = self._events.popleft()
            try:
                self._add(event, batch)
            except Exception:  # what a script tells may be anything
                self.errors += 1
                log.exception("call_log_event_refused", event_kind=type(event).__name__)
            if number % SLICE_EVENTS == 0:
                gevent.sleep(0)
        return batch

    def _add(self, event: Any, batch: Batch) -> None:
        segment_id = event.call.segment_id
        kept = self._kept.get(segment_id)  # None before its first state and after its last
        if type(event) is CallStateChanged:
            _put_call(batch.calls, segment_id, event)
            if event.state == "ended":
                self._kept.pop(segment_id, None)
            elif kept is None:
                self._kept[segment_id] = 0
            told = entry(event)
        else:
            if kept is not None:
                if kept > MAX_EVENTS:
                    return
                self._kept[segment_id] = kept + 1
            told = full(event.at, kept) if kept == MAX_EVENTS else entry(event)
        batch.entries[segment_id].append(told)

    # -- questions -----------------------------------------------------------------------------------------------

    def page(self, *, since: float | None, before: float | None, anchor: int | None, size: int, skip: int) -> Page:
        """Calls, newest first: ``size`` of those that began in the time asked for, after the first ``skip``.

        With the ``anchor`` of an earlier page, calls that came since then are not seen, so that pages stay what they
        were. Raises Unreadable.
        """
        return self._ask(
            lambda connection: database.page(
                connection, since=since, before=before, anchor=anchor, size=size, skip=skip
            )
        )

    def call(self, segment_id: str) -> CallRow | None:
        """The call with that segment id. Raises Unreadable."""
        return self._ask(lambda connection: database.call(connection, segment_id))

    def events(self, segment_id: str) -> tuple[CallRow, list[Entry]] | None:
        """A call and its events, oldest first; None when there is no such call. Raises Unreadable."""
        return self._ask(lambda connection: database.events(connection, segment_id, 2 * MAX_EVENTS))

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing:
            raise Unreadable("fsctl is stopping")
        if self._readers >= MAX_READERS:
            raise Unreadable("too many questions at the same time")
        self._readers += 1
        try:
            self._settle()
            answer, error = self._reading.attempt(lambda: self._reader.ask(question))
        finally:
            self._readers -= 1
        if error is None:
            return answer  # type: ignore[return-value]  # there is one where there is no error
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise Unreadable(f"the answer took longer than {READ_SECONDS:g} s") from error
        if not isinstance(error, sqlite3.Error | OSError):
            raise error
        self._failed(error)
        raise Unreadable("its file cannot be read") from error

    def _settle(self) -> None:
        """Wait until what was told so far is in the file, so that who heard of a call's end finds it there."""
        if self._worker is None:
            return
        until = time.monotonic() + SETTLE_SECONDS
        self._opened.wait(SETTLE_SECONDS)
        taken = self._taken
        while self._settled < taken and not self._failing and (left := until - time.monotonic()) > 0:
            self._hurried = True
            self._many.set()
            self._settling.wait(left)


class _Thread:
    """A thread of the operating system beside the event loop, for one thing at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPool(1)

    def attempt(self, act: Callable[[], T]) -> tuple[T | None, Exception | None]:
        """Let it do ``act`` and wait, while others have their turn; the answer, or the error it came to."""
        outcome: tuple[T | None, Exception | None] = self._pool.apply(_attempt, (act,))
        return outcome

    def close(self) -> None:
        """Let the thread go once it has finished what it does."""
        self._pool.kill()


def _attempt(act: Callable[[], T]) -> tuple[T | None, Exception | None]:
    try:
        return act(), None
    except Exception as error:  # noqa: BLE001 - handed over: gevent would print it
        return None, error


def _put_call(calls: dict[str, list[Any]], segment_id: str, event: CallStateChanged) -> None:
    """Put the call as it is now among ``calls``; of one that is there already, change what the database would."""
    call = event.call
    state = event.state
    created_at = call.created_at or event.start_time or event.at
    answered_at = event.answer_time or None
    ended_at = (event.end_time or event.at) if state == "ended" else None
    row = calls.get(segment_id)
    if row is None:
        who = (_name(segment_id), _name(call.project_id), _name(call.from_), _name(call.to), call.direction, call.type)
        calls[segment_id] = [*who, state, event.end_reason, created_at, answered_at, ended_at]
    else:
        row[6:] = state, event.end_reason, min(row[8], created_at), row[9] or answered_at, ended_at


def _name(text: str) -> str:
    """Text from outside as a database takes it: not too long, and with every character one that exists."""
    if len(text) <= _LONGEST_NAME and text.isascii():
        return text
    return text[:_LONGEST_NAME].encode("utf-8", "replace").decode()
