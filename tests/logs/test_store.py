"""The call log: what it keeps, for how long, and that neither disk nor reader can hurt a call."""

from __future__ import annotations

import gc
import json
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import gevent
import pytest
from gevent.monkey import get_original
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fsctl.call.events import (
    CallRefused,
    CallStateChanged,
    ControlChanged,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
    UserEvent,
)
from fsctl.config import Config
from fsctl.logs import database, store
from fsctl.logs.entries import entry
from fsctl.logs.store import MAX_EVENTS, CallLog, Unreadable
from tests.fakes.call import info

AT = 1_767_000_000.0
DAY = 86_400.0


def wait_for(condition, what, seconds=10.0):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        gevent.sleep(0.002)
    return found


def written(log):
    wait_for(lambda: not log.pending, "everything to be written")
    return log


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "calls.db"


@pytest.fixture
def opened(path, monkeypatch):
    """Builds logs that have begun to work, and do not wait long for more; all are closed in the end."""
    monkeypatch.setattr("fsctl.logs.store.BATCH_SECONDS", 0.05)
    built = []

    def build(where=path, **settings):
        settings = {"retention_days": 30, "max_calls": 1000, "max_pending": 1000, "now": lambda: AT, **settings}
        built.append(CallLog(where, **settings))
        built[-1].start()
        return built[-1]

    yield build
    for log in built:
        log.close()


def segment(number):
    return f"{number:08d}-0000-4000-8000-000000000000"


def call_of(number=1, **changes):
    return info(call_id=segment(number), segment_id=segment(number), **{"created_at": AT + number, **changes})


def state(call, name, after=0.0, **detail):
    at = call.created_at + after
    return CallStateChanged(call, name, at, start_time=call.created_at, **detail)


def whole(call):
    """What one short call tells."""
    at = call.created_at
    yield state(call, "created")
    yield state(call, "answered", 1, answer_time=at + 1)
    yield ControlChanged(call, "play", "play", "p1", "finished", at + 2)
    yield state(call, "ended", 5, answer_time=at + 1, end_time=at + 5, end_reason="hangup", end_source="inbound")


def tell(log, *numbers, **changes):
    for number in numbers:
        for event in whole(call_of(number, **changes)):
            log(event)


def ids(page):
    return [call.segment_id for call in page.calls]


def everything(log, **changes):
    return log.page(**{"since": None, "before": None, "anchor": None, "size": 1000, "skip": 0, **changes})


def rows(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# -- what is kept -----------------------------------------------------------------------------------------------------


def test_a_call_is_kept_with_who_it_was_and_how_it_went(opened):
    log = opened()
    tell(log, 1, direction="outbound", type="phone", from_="+1", to="+2", project_id="p1")

    call = log.call(segment(1))

    assert call == database_row(
        direction="outbound", type="phone", from_="+1", to="+2", project_id="p1", state="ended", end_reason="hangup",
        created_at=AT + 1, answered_at=AT + 2, ended_at=AT + 6,
    )  # fmt: skip


def database_row(**fields):
    from fsctl.logs.database import CallRow

    return CallRow(segment_id=segment(1), **fields)


def test_its_events_come_in_the_order_they_happened(opened):
    log = opened()
    tell(log, 1, 2)

    call, events = log.events(segment(1))

    assert call.segment_id == segment(1)
    assert [(event.name, event.at) for event in events] == [
        ("calling_call_initiated", AT + 1),
        ("calling_call_answered", AT + 2),
        ("calling_call_play_finished", AT + 3),
        ("calling_call_ended", AT + 6),
    ]
    assert json.loads(events[2].details)["control_id"] == "p1"


def test_a_live_call_shows_its_latest_state(opened):
    log = opened()
    call = call_of()
    log(state(call, "created"))
    assert log.call(segment(1)).state == "created"
    log(state(call, "ringing"))
    log(state(call, "answered", 2, answer_time=AT + 3))

    found = log.call(segment(1))

    assert (found.state, found.answered_at, found.ended_at, found.end_reason) == ("answered", AT + 3, None, None)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_a_call_that_is_told_of_by_two_keeps_who_it_is_and_when_it_began(opened, together):
    """A dialled call is told of by who dials it, then by its session."""
    log = opened()
    call = call_of(direction="outbound", created_at=AT)
    for event in (
        CallStateChanged(call, "queued", AT),
        CallStateChanged(replace(call, created_at=AT + 9, to="other"), "answered", AT + 9, answer_time=AT + 9),
        CallStateChanged(replace(call, created_at=AT + 9), "ended", AT + 20, end_time=AT + 20, end_reason="hangup"),
    ):
        log(event)
        if not together:
            written(log)

    found = log.call(segment(1))

    assert (found.created_at, found.answered_at, found.ended_at) == (AT, AT + 9, AT + 20)
    assert found.to == call.to


def test_times_nobody_knows_come_from_the_event(opened):
    log = opened()
    log(CallStateChanged(call_of(created_at=0.0), "created", AT))
    log(CallStateChanged(call_of(created_at=0.0), "ended", AT + 3))

    found = log.call(segment(1))

    assert (found.created_at, found.answered_at, found.ended_at) == (AT, None, AT + 3)


def test_a_call_that_was_refused_leaves_nothing(opened):
    log = opened()
    log(CallRefused("capacity", AT))

    assert everything(log).calls == []
    assert (log.written, log.dropped) == (0, 0)


def test_who_is_not_there_is_not_found(opened):
    log = opened()

    assert log.call("nobody") is None
    assert log.events("nobody") is None


def test_odd_text_from_outside_is_kept_as_text(opened):
    log = opened()
    tell(log, 1, from_="\ud800'; DROP TABLE calls; --", to="x" * 10_000)

    found = log.call(segment(1))

    assert found.from_ == "?'; DROP TABLE calls; --"
    assert len(found.to) == 512


def test_what_is_written_is_counted(opened):
    log = opened()
    tell(log, 1)

    assert written(log).counts() == {
        "call_log_pending": 0,
        "call_log_written": 5,
        "call_log_dropped": 0,
        "call_log_errors": 0,
    }


def test_of_a_call_with_very_many_events_the_first_are_kept_and_how_it_ended(opened):
    log = opened(max_pending=10_000)
    call = call_of()
    log(state(call, "created"))
    for number in range(MAX_EVENTS + 50):
        log(MethodFinished(call, "play", "main", f"main[{number}]", "failed", 0.0, AT))
    log(state(call, "ended", end_reason="hangup"))
    log(MethodFinished(call_of(2), "play", "main", "main[0]", "failed", 0.0, AT))

    written(log)
    _, events = log.events(segment(1))

    assert len(events) == MAX_EVENTS + 3
    assert [event.name for event in events[-2:]] == ["calling_call_log_full", "calling_call_ended"]
    assert json.loads(events[-2].details) == {"events": MAX_EVENTS}
    assert log._kept == {}


def test_an_event_that_cannot_be_told_costs_only_itself(opened):
    log = opened()
    circle = {}
    circle["again"] = circle
    call = call_of()
    with capture_logs() as lines:
        log(state(call, "created"))
        log(UserEvent(call, {1: 10**5000}, AT))
        log(UserEvent(call, circle, AT))
        log(ScriptEnded(call, "finished", 1, AT))
        _, events = log.events(segment(1))

    assert [event.name for event in events] == [
        "calling_call_initiated",
        "calling_call_user_event",
        "calling_call_script_ended",
    ]
    assert [line["event_kind"] for line in lines if line["event"] == "call_log_event_refused"] == ["UserEvent"]
    assert log.errors == 1


def test_what_is_told_of_many_calls_at_many_times_is_all_there(opened):
    """More calls than one statement writes, each in several pieces, which belong together again when read."""
    log = opened()
    calls = [call_of(number) for number in range(75)]
    stories = [list(whole(call)) for call in calls]
    for events in zip(*stories, strict=True):
        for event in events:
            log(event)
        written(log)

    for call in calls:
        row, events = log.events(call.segment_id)
        assert (row.state, row.answered_at, row.ended_at) == ("ended", call.created_at + 1, call.created_at + 5)
        assert [(event.name.removeprefix("calling_call_"), event.at - call.created_at) for event in events] == [
            ("initiated", 0), ("answered", 1), ("play_finished", 2), ("ended", 5)
        ]  # fmt: skip
    assert log.written == 75 * (4 + 3)


@given(st.floats(0, 1e11), st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.floats() | st.integers()))
def test_what_is_read_is_what_was_written(at, details):
    """The database takes entries apart by its own rules; nothing of them is lost on the way."""
    call = call_of()
    log = CallLog(Path("/nowhere"), retention_days=1, max_calls=1, max_pending=10)
    log(state(call, "created"))
    log(UserEvent(call, {"details": details}, at))
    with TemporaryDirectory() as directory:
        path = Path(directory) / "calls.db"
        database.Writer(path).write(log._next())
        with closing(sqlite3.connect(path)) as connection:
            _, (_, event) = database.events(connection, segment(1), 10)

    assert [event.at, event.level, event.name, json.loads(event.details)] == json.loads(
        entry(UserEvent(call, {"details": details}, at))
    )


def test_events_are_let_go_of_once_they_are_written(opened):
    log = opened()
    tell(log, 7)
    written(log)

    kinds = (CallStateChanged, ControlChanged)
    assert [one for one in gc.get_objects() if type(one) in kinds and one.call.segment_id == segment(7)] == []


def test_what_says_nothing_new_takes_no_room(opened, stuck):
    log = opened(max_pending=1)
    stuck(log)
    for _ in range(10):
        log(MethodFinished(call_of(), "play", "main", "main[0]", "ok", 0.0, AT))

    assert (log.pending, log.dropped) == (0, 0)


# -- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_is_ours_alone_and_says_what_it_is(opened, path):
    tell(log := opened(), 1)
    written(log)

    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_closing_writes_what_waits(opened, path):
    log = opened()
    log.call(segment(1))
    tell(log, *range(200))
    log.close()

    assert rows(path, "SELECT count(*) FROM calls") == [(200,)]
    assert log.pending == 0
    assert list(path.parent.iterdir()) == [path]


def test_what_comes_after_closing_is_dropped_and_reading_is_refused(opened):
    log = opened()
    log.close()
    tell(log, 1)

    assert log.dropped == 4
    with pytest.raises(Unreadable):
        log.call(segment(1))


def test_a_log_goes_on_where_the_last_one_stopped(opened):
    first = opened()
    tell(first, 1)
    first.close()
    second = opened()
    tell(second, 2)

    assert ids(everything(second)) == [segment(2), segment(1)]


def test_a_call_whose_end_nobody_saw_is_over_unless_it_comes_back(opened):
    first = opened()
    for number in (1, 2):
        first(state(call_of(number), "created"))
        first(state(call_of(number), "answered", 1, answer_time=AT + 2))
    first.close()
    second = opened()
    second(state(call_of(2, created_at=AT + 60), "created"))
    second(state(call_of(2, created_at=AT + 60), "answered", 1, answer_time=AT + 61))

    lost, back = second.call(segment(1)), second.call(segment(2))

    assert (lost.state, lost.end_reason, lost.ended_at) == ("ended", None, None)
    assert (back.state, back.created_at, back.answered_at) == ("answered", AT + 2, AT + 2)
    assert len(second.events(segment(2))[1]) == 4


def test_the_default_file_lies_where_the_service_may_write():
    unit = (Path(__file__).parents[2] / "systemd/fsctl.service").read_text()

    assert "\nStateDirectory=fsctl\n" in unit
    assert Config().logs.database == "/var/lib/fsctl/calls.db"


# -- how long ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def purges(monkeypatch):
    """Purging happens all the time, three calls at a bite."""
    monkeypatch.setattr(store, "PURGE_SECONDS", 0.01)
    monkeypatch.setattr(store, "PURGE_PAUSE", 0.001)
    monkeypatch.setattr(store, "PURGE_CALLS", 3)


def orphans(path):
    return rows(path, "SELECT count(*) FROM pieces WHERE log_id NOT IN (SELECT id FROM calls)")


def test_old_calls_go_with_their_events_bite_by_bite(opened, path, purges):
    now = AT
    log = opened(retention_days=2, now=lambda: now)
    tell(log, *range(10))
    tell(log, 99, created_at=AT + 3 * DAY)
    written(log)
    now = AT + 3 * DAY

    wait_for(lambda: len(everything(log).calls) == 1, "old calls to go")

    assert ids(everything(log)) == [segment(99)]
    assert orphans(path) == [(0,)]
    assert len(log.events(segment(99))[1]) == 4


def test_beyond_the_number_the_oldest_go(opened, path, purges):
    log = opened(max_calls=4)
    tell(log, *range(20))
    written(log)

    wait_for(lambda: len(everything(log).calls) == 4, "the oldest to go")
    gevent.sleep(0.05)

    assert ids(everything(log)) == [segment(19), segment(18), segment(17), segment(16)]
    assert orphans(path) == [(0,)]


def test_live_calls_stay(opened, purges):
    now = AT
    log = opened(retention_days=1, max_calls=1, now=lambda: now)
    for number in range(3):
        log(state(call_of(number), "created"))
    tell(log, 3)
    now = AT + 5 * DAY

    wait_for(lambda: len(everything(log).calls) == 3, "the call that ended to go")
    gevent.sleep(0.05)

    assert ids(everything(log)) == [segment(2), segment(1), segment(0)]


# -- nothing waits ----------------------------------------------------------------------------------------------------


def held_lock():
    """A lock that stops a thread of the operating system, and not a greenlet."""
    lock = get_original("threading", "Lock")()
    lock.acquire()
    return lock


class Stuck:
    """A disk that does not answer until it is told to."""

    def __init__(self, log, monkeypatch):
        self.lock = held_lock()
        self.waiting = []
        self.write = log._writer.write
        monkeypatch.setattr(log._writer, "write", self)

    def __call__(self, batch):
        self.waiting.append(batch)
        with self.lock:
            return self.write(batch)

    def release(self):
        self.lock.release()


@pytest.fixture
def stuck(monkeypatch):
    made = []

    def make(log):
        wait_for(log._opened.is_set, "the file to be opened")
        made.append(Stuck(log, monkeypatch))
        return made[-1]

    yield make
    for one in made:
        if one.lock.locked():
            one.release()


def test_a_disk_that_hangs_holds_nobody_up(opened, stuck):
    log = opened(max_pending=20)
    disk = stuck(log)
    tell(log, 1)
    wait_for(lambda: disk.waiting, "the disk to be asked")

    began = time.monotonic()
    with capture_logs() as lines:
        for number in range(100):
            tell(log, number)
        turns = 0
        while time.monotonic() < began + 0.1:
            gevent.sleep(0)
            turns += 1
    disk.release()
    written(log)

    assert turns > 100
    assert log.dropped == 400 - 16
    assert log.pending == 0
    (line,) = [line for line in lines if line["event"] == "call_log_dropped"]
    assert (line["log_level"], line["events"]) == ("error", 1)


def test_what_was_dropped_is_said_once_a_second_and_all_of_it(opened, stuck, monkeypatch):
    log = opened(max_pending=4)
    disk = stuck(log)
    tell(log, 1)
    wait_for(lambda: disk.waiting, "the disk to be asked")
    clock = [1000.0]
    monkeypatch.setattr(store.time, "monotonic", lambda: clock[0])
    said = []
    for _ in range(20):
        with capture_logs() as lines:
            tell(log, 2)
        said += [(clock[0], line["events"]) for line in lines]
        clock[0] += 0.25
    monkeypatch.undo()

    assert said == [(1000.0, 1), (1001.0, 16), (1002.0, 16), (1003.0, 16), (1004.0, 16)]


def test_the_hub_goes_on_while_a_question_takes_long(opened, monkeypatch):
    monkeypatch.setattr(store, "BATCH_SECONDS", 0.01)
    log = opened()
    log._reader._seconds = 60.0
    count = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5000000) SELECT count(*) FROM c"
    tell(log, 1)
    before = written(log).written
    slow = gevent.spawn(log._ask, lambda connection: connection.execute(count).fetchone()[0])

    turns = 0
    while not slow.ready() and log.written == before:  # calls are told and written while the question is answered
        if turns == 10:
            tell(log, 2)
        gevent.sleep(0.001)
        turns += 1

    assert not slow.ready()
    assert turns > 10
    assert written(log).written == before + 5
    assert slow.get() == 5_000_000


def test_making_rows_of_many_events_leaves_room_for_calls(path):
    log, turns = CallLog(path, retention_days=1, max_calls=10, max_pending=1000), []
    tell(log, *range(100))

    def others():
        while True:
            turns.append(1)
            gevent.sleep(0)

    beside = gevent.spawn(others)
    batch = log._next()
    beside.kill()

    assert batch.taken == 400
    assert len(turns) >= 400 // store.SLICE_EVENTS


def test_a_question_that_takes_too_long_is_given_up(path, monkeypatch):
    monkeypatch.setattr(store, "READ_SECONDS", 0.05)
    log = CallLog(path, retention_days=1, max_calls=10, max_pending=100)
    log.start()
    try:
        endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"
        with pytest.raises(Unreadable, match=r"longer than 0\.05 s"):
            log._ask(lambda connection: connection.execute(endless).fetchone())
        assert everything(log).calls == []
        assert log.errors == 0
    finally:
        log.close()


def test_too_many_questions_are_turned_away(opened, monkeypatch):
    monkeypatch.setattr(store, "MAX_READERS", 2)
    log = opened()
    written(log)
    lock = held_lock()
    asking = [gevent.spawn(log._ask, lambda connection: lock.acquire()) for _ in range(2)]
    wait_for(lambda: log._readers == 2, "both to ask")

    with pytest.raises(Unreadable, match="too many"):
        log.call(segment(1))

    lock.release()
    asking[0].join()
    lock.release()
    gevent.joinall(asking)
    assert log.call(segment(1)) is None


def test_who_heard_of_the_end_finds_it(opened, monkeypatch):
    """A customer reads the log as soon as the last webhook came, not a batch later."""
    monkeypatch.setattr(store, "BATCH_SECONDS", 5.0)
    log = opened()
    began = time.monotonic()
    for number in range(5):
        tell(log, number)
        assert log.call(segment(number)).state == "ended"

    assert time.monotonic() < began + 4.0


def test_reading_does_not_wait_for_a_disk_that_hangs(opened, stuck, monkeypatch):
    monkeypatch.setattr(store, "SETTLE_SECONDS", 0.05)
    log = opened()
    tell(log, 1)
    written(log)
    stuck(log)
    tell(log, 2)

    assert ids(everything(log)) == [segment(1)]


# -- trouble with the file --------------------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)


def failing(monkeypatch, log, *errors):
    """The next writes fail with these, one after the other."""
    left, write = list(errors), log._writer.write

    def fail(batch):
        log._writer.open()
        if left:
            raise left.pop(0)
        return write(batch)

    monkeypatch.setattr(log._writer, "write", fail)
    return left


def sqlite_error(kind, code):
    error = kind("the disk is against us")
    error.sqlite_errorcode = code
    error.sqlite_errorname = "SQLITE_SOMETHING"
    return error


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL), id="full"),
        pytest.param(sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_READONLY), id="readonly"),
        pytest.param(sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_IOERR), id="input/output error"),
        pytest.param(sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_BUSY), id="busy"),
        pytest.param(OSError(28, "No space left on device"), id="no space"),
    ],
)
def test_what_the_disk_does_not_take_is_written_later(opened, monkeypatch, impatient, error):
    log = opened()
    wait_for(log._opened.is_set, "the file to be opened")
    failing(monkeypatch, log, error, error, error)
    with capture_logs() as lines:
        tell(log, 1)
        written(log)

    assert len(log.events(segment(1))[1]) == 4
    assert (log.errors, log.dropped) == (3, 0)
    told = [(line["event"], line["log_level"]) for line in lines]
    assert told == [("call_log_failed", "error"), ("call_log_works_again", "info")]


def test_while_the_disk_is_full_memory_does_not_grow(opened, monkeypatch, impatient):
    log = opened(max_pending=10)
    wait_for(log._opened.is_set, "the file to be opened")
    full = sqlite_error(sqlite3.OperationalError, sqlite3.SQLITE_FULL)
    left = failing(monkeypatch, log, *[full] * 1_000_000)
    with capture_logs() as lines:
        for number in range(50):
            tell(log, number)
            gevent.sleep(0.001)
        wait_for(lambda: log.errors > 3, "some attempts")
        assert (log.pending, log.dropped) == (10, 190)
        left.clear()
        written(log)

    assert [line["event"] for line in lines].count("call_log_failed") == 1
    assert len(everything(log).calls) == 3


def test_rows_the_database_refuses_do_not_block_the_others(opened, monkeypatch, impatient):
    log = opened()
    wait_for(log._opened.is_set, "the file to be opened")
    failing(monkeypatch, log, sqlite_error(sqlite3.IntegrityError, sqlite3.SQLITE_CONSTRAINT))
    with capture_logs() as lines:
        tell(log, 1)
        written(log)
        tell(log, 2)
        written(log)

    assert ids(everything(log)) == [segment(2)]
    assert (log.errors, log.dropped) == (1, 4)
    assert "call_log_batch_refused" in [line["event"] for line in lines]


def test_a_directory_that_cannot_be_made_costs_the_log_and_nothing_else(opened, tmp_path, impatient):
    (tmp_path / "file").write_text("in the way")
    with capture_logs() as lines:
        log = opened(tmp_path / "file" / "calls.db")
        tell(log, 1)
        with pytest.raises(Unreadable):
            log.call(segment(1))
    log.close(timeout=0.1)

    (line,) = [line for line in lines if line["event"] == "call_log_failed"]
    assert (line["log_level"], line["path"]) == ("error", str(tmp_path / "file" / "calls.db"))
    assert log.dropped == 4


def test_a_disk_that_is_mounted_late_is_used(opened, tmp_path, impatient):
    place = tmp_path / "mount"
    place.write_text("not yet")
    log = opened(place / "calls.db")
    tell(log, 1)
    wait_for(lambda: log.errors > 2, "some attempts")
    place.unlink()

    assert len(written(log).events(segment(1))[1]) == 4


@pytest.fixture
def kept(opened, path):
    """A file with a hundred calls in it, closed."""
    log = opened()
    tell(log, *range(100))
    log.close()
    return path


def spoil_header(path):
    path.write_bytes(b"this is no database" * 100)


def spoil_pages(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [spoil_header, spoil_pages])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(opened, kept, spoil):
    spoil(kept)
    content = kept.read_bytes()
    with capture_logs() as lines:
        log = opened()
        tell(log, 1000)
        written(log)

    assert ids(everything(log)) == [segment(1000)]
    (aside,) = kept.parent.glob("calls.db.broken-*[0-9Z]")
    assert aside.read_bytes() == content
    (line,) = [line for line in lines if line["event"] == "call_log_set_aside"]
    assert (line["log_level"], line["aside"]) == ("critical", str(aside))


def test_damage_that_a_reader_finds_is_enough(opened, kept):
    log = opened()
    wait_for(log._opened.is_set, "the file to be opened")
    assert log.call(segment(1)).state == "ended"
    log._reader.close()
    spoil_pages(kept)

    with pytest.raises(Unreadable):
        everything(log)
    assert list(kept.parent.glob("calls.db.broken-*"))
    tell(log, 1000)
    written(log)

    assert ids(everything(log)) == [segment(1000)]


def test_a_disk_that_damages_everything_gets_no_new_file_every_moment(opened, path, monkeypatch, impatient):
    log = opened()
    wait_for(log._opened.is_set, "the file to be opened")
    failing(monkeypatch, log, *[sqlite_error(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT)] * 10)
    with capture_logs() as lines:
        tell(log, 1)
        written(log)

    assert log.errors == 10
    assert [line["event"] for line in lines].count("call_log_set_aside") == 1


@pytest.mark.parametrize("version", [1, 99])
def test_a_file_of_another_version_is_moved_aside(opened, kept, version):
    with closing(sqlite3.connect(kept)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    log = opened()
    tell(log, 1000)
    written(log)

    assert ids(everything(log)) == [segment(1000)]
    (aside,) = kept.parent.glob("calls.db.other-version-*[0-9Z]")
    assert rows(aside, "SELECT count(*) FROM calls") == [(100,)]


def test_somebody_elses_database_is_left_alone(opened, path, impatient):
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    with capture_logs() as lines:
        log = opened()
        tell(log, 1)
        wait_for(lambda: log.errors > 2, "some attempts")

    assert rows(path, "SELECT name FROM sqlite_schema") == [("theirs",)]
    assert [file.name for file in path.parent.iterdir() if "broken" in file.name] == []
    assert "another program's" in next(line for line in lines if line["event"] == "call_log_failed")["problem"]
    log.close(timeout=0.1)


def test_a_file_that_was_deleted_is_made_again(opened, path):
    log = opened()
    tell(log, 1)
    written(log)
    assert log.call(segment(1))
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(Unreadable):
        log.call(segment(1))
    tell(log, 2)
    written(log)

    assert ids(everything(log)) == [segment(2)]


# -- pages ------------------------------------------------------------------------------------------------------------


def test_pages_stay_what_they_were_while_calls_come(opened):
    log = opened()
    tell(log, *range(10))
    first = everything(log, size=4)
    tell(log, *range(10, 15))
    tell(log, 100, created_at=AT + 5.5)  # written late, begun early
    second = everything(log, size=4, skip=4, anchor=first.anchor)
    third = everything(log, size=4, skip=8, anchor=first.anchor)

    assert ids(first) + ids(second) + ids(third) == [segment(number) for number in range(9, -1, -1)]
    assert (first.more, second.more, third.more) == (True, True, False)
    assert len(everything(log).calls) == 16


def test_pages_stay_what_they_were_while_old_calls_go(opened, purges):
    now = AT
    log = opened(retention_days=1, now=lambda: now)
    tell(log, *range(6), created_at=AT - DAY / 2)
    tell(log, *range(6, 12))
    first = everything(log, size=4)
    now = AT + DAY * 3 / 4
    wait_for(lambda: len(everything(log).calls) == 6, "old calls to go")
    second = everything(log, size=4, skip=4, anchor=first.anchor)

    assert ids(first) + ids(second) == [segment(number) for number in range(11, 5, -1)]
    assert not second.more


@pytest.mark.parametrize(
    ("span", "numbers"),
    [
        pytest.param({}, [4, 3, 2, 1, 0], id="all"),
        pytest.param({"since": AT + 3}, [4, 3], id="since"),
        pytest.param({"before": AT + 3}, [2, 1, 0], id="before"),
        pytest.param({"since": AT + 1, "before": AT + 3}, [2, 1], id="both"),
        pytest.param({"since": AT + 3, "before": AT + 1}, [], id="nothing"),
    ],
)
def test_calls_of_a_time(opened, span, numbers):
    log = opened()
    tell(log, *range(5))

    assert ids(everything(log, **span)) == [segment(number) for number in numbers]


def test_far_pages_are_empty(opened):
    log = opened()
    tell(log, 1)

    page = everything(log, size=1000, skip=2**31 * 1000)

    assert (page.calls, page.more) == ([], False)


def test_an_event_of_a_warning_is_found(opened):
    log = opened()
    call = call_of()
    log(state(call, "created"))
    log(ScriptWarning(call, "relay_script_js_eval_error", "no", AT, fatal=True))

    (_, event) = log.events(segment(1))[1]

    assert (event.level, event.name) == ("error", "calling_call_script_error")


def test_nothing_is_left_open(path):
    def descriptors():
        links = map(target, Path("/proc/self/fd").iterdir())
        return [file for file in links if file.startswith(str(path))]

    def target(link):
        try:
            return str(link.readlink())
        except OSError:  # the directory's own, by now
            return ""

    log = CallLog(path, retention_days=1, max_calls=10, max_pending=100)
    log.start()
    tell(log, 1)
    assert log.call(segment(1))
    assert descriptors()
    log.close()

    assert descriptors() == []
