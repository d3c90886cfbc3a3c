"""Evaluates expressions in supervised child processes.

Responsible for the children's lives, for taking turns at them and for the deadline that really kills: QuickJS
interrupts a loop by itself, but not a built-in (a backtracking regular expression, a huge sort). Does not decide what
needs JavaScript; :mod:`fsctl.swml` answers plain paths and literal comparisons without it.

Implements "swml-calling: JavaScript". What is allowed is what the limits allow. The reference forbids function
definitions, loops and ``async``, yet its own examples pass arrow functions to ``reduce``; nothing is refused by its
spelling here, because a refused word says less about a script than its run time does. A loop that ends in time is
harmless, and a function or a promise cannot be a result, so ``async``, ``await`` and ``import()`` lead nowhere.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import structlog
from gevent import socket, subprocess
from gevent.event import AsyncResult

from fsctl.errors import ExpressionError
from fsctl.javascript import child
from fsctl.swml.values import to_text

__all__ = ["Engine"]

log = structlog.get_logger(__name__)

ROOTS = ("call", "params", "vars", "envs")
START_SECONDS = 10.0
OFFENCE_SECONDS = 60.0
MAX_OFFENDERS = 1024
MARGIN_SECONDS = 0.02  # beyond the deadline: a loop is interrupted by QuickJS itself, which spares the child
INHERITED = ("LD_LIBRARY_PATH", "TZ")  # all a child may know of our environment


class Engine:
    """JavaScript with a memory limit and a deadline.

    ``memory_bytes`` is what one expression may use, ``deadline_seconds`` how long it may run, ``workers`` how many
    run at once. An expression that was late is evaluated apart for a minute, so that a script that asks for it again
    and again makes nobody wait but its like. Children start with the first expression. ``evaluations`` counts
    expressions asked for, ``kills`` children killed because they missed the deadline, ``deaths`` children that ended
    unasked.
    """

    def __init__(self, *, memory_bytes: int, deadline_seconds: float = 0.150, workers: int = 1) -> None:
        self.evaluations = 0
        self.kills = 0
        self.deaths = 0
        self._memory = memory_bytes
        self._deadline = deadline_seconds
        self._limits = {
            child.TIME.encode(): f"took longer than {deadline_seconds * 1000:.0f} ms",
            child.MEMORY.encode(): f"needs more than {memory_bytes / 2**20:g} MiB of memory",
        }
        self._closed = False
        self._quick = _Line([_Child(memory_bytes, deadline_seconds) for _ in range(workers)])
        self._slow = _Line([_Child(memory_bytes, deadline_seconds)])
        self._offenders: OrderedDict[str, float] = OrderedDict()  # sources that ran late, and until when that counts

    def evaluate(self, source: str, names: Mapping[str, Any]) -> Any:
        """Evaluate ``source`` and give its value as JSON types.

        ``names`` holds the mappings ``call``, ``params``, ``vars`` and ``envs``. Each is visible under its own name;
        the names in ``vars``, ``envs`` and ``call`` also bare, in this order of precedence. The expression works on
        copies and starts from nothing: what it changes is gone with it.

        The value is what ``JSON.stringify`` makes of it: ``undefined``, ``NaN`` and infinities are None, whole
        numbers below 1e21 are ints, dates are text; half a surrogate pair becomes U+FFFD. A source that starts with
        ``{`` is an object.

        Raises ExpressionError: syntax, an exception, time, memory, depth, a result that is a function, symbol,
        promise or big integer, or that takes more than 64 KiB.
        """
        request = self._request(source, names)
        line = self._slow if self._is_offender(source) else self._quick
        runner = line.take()
        try:
            self.evaluations += 1
            status, text = self._ask(runner, request)
        finally:
            line.give(runner)
        if text == child.TIME.encode() and status != child.VALUE:
            self._offenders[source] = monotonic() + OFFENCE_SECONDS
            self._offenders.move_to_end(source)
            if len(self._offenders) > MAX_OFFENDERS:
                self._offenders.popitem(last=False)
        if status != child.VALUE:
            raise ExpressionError(source, self._limits.get(text, text.decode(errors="replace")))
        return _value(text.decode())

    def close(self) -> None:
        """Kill the children; what is being evaluated, and whatever comes later, fails with ExpressionError."""
        self._closed = True
        for line in (self._quick, self._slow):
            for runner in line.children:
                runner.stop()

    def _is_offender(self, source: str) -> bool:
        """Whether ``source`` ran late a short while ago: it waits with its like, and nobody else for it."""
        until = self._offenders.get(source)
        return until is not None and monotonic() < until

    def _request(self, source: str, names: Mapping[str, Any]) -> bytes:
        if "\0" in source:
            raise ExpressionError(source, "cannot be evaluated: holds a NUL character")
        try:
            text = _json(_needed(source, names)).encode()
            code = source.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ExpressionError(source, f"cannot be evaluated: {error}") from error
        if len(text) + len(code) > self._memory // 2:
            raise ExpressionError(source, f"uses {len(text)} bytes of variables, more than fit its memory")
        return child.REQUEST.pack(len(text), len(code)) + text + code

    def _ask(self, runner: _Child, request: bytes) -> tuple[bytes, bytes]:
        for _ in range(2):  # a child that died may have died of something else: once more, on a new one
            if self._closed:
                return child.FAILURE, b"cannot be evaluated: the engine is closed"
            try:
                return runner.ask(request)
            except _Late:
                self.kills += 1
                log.warning("javascript_child_killed", deadline_seconds=self._deadline)
                return child.FAILURE, child.TIME.encode()
            except _Died as error:
                if not self._closed:
                    self.deaths += 1
                    log.warning("javascript_child_died", status=error.status)
        return child.FAILURE, b"ended the process that evaluated it"


class _Line:
    """Children, and who waits for one."""

    def __init__(self, children: list[_Child]) -> None:
        self.children = children
        self._idle = list(children)
        self._waiting: deque[AsyncResult] = deque()

    def take(self) -> _Child:
        """Wait for this greenlet's turn; first come, first served, however fast somebody comes again."""
        if self._idle and not self._waiting:
            return self._idle.pop()
        turn = AsyncResult()
        self._waiting.append(turn)
        try:
            runner: _Child = turn.get()
        except BaseException:
            if turn.ready():
                self.give(turn.value)
            else:
                self._waiting.remove(turn)
            raise
        return runner

    def give(self, runner: _Child) -> None:
        if self._waiting:
            self._waiting.popleft().set(runner)
        else:
            self._idle.append(runner)


class _Late(Exception):
    """The child missed the deadline and was killed."""


class _Died(Exception):
    """The child ended before it answered; ``status`` is its exit status, a signal as a negative number."""

    def __init__(self, status: int | None) -> None:
        super().__init__(status)
        self.status = status


class _Child:
    """One child process and our end of its socket; started when first asked, and again after it ended."""

    def __init__(self, memory: int, deadline: float) -> None:
        self._arguments = (_quickjs_directory(), str(memory), str(deadline))
        self._seconds = deadline + MARGIN_SECONDS
        self._process: Any = None
        self._socket: Any = None

    @property
    def pid(self) -> int | None:
        """The process id while there is a process."""
        return None if self._process is None else self._process.pid

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Have one expression evaluated: its status and text. Raises _Late or _Died, and then there is no process."""
        try:
            if self._process is None:
                self._start()
            self._socket.sendall(request)
            return self._answer()
        except OSError as error:
            raise _Died(self.stop()) from error
        except BaseException:  # also when our greenlet is killed: the answer to come would be taken for the next one's
            self.stop()
            raise

    def stop(self) -> int | None:
        """Kill the process, if there is one, and give its exit status."""
        process, ours = self._process, self._socket
        self._process = self._socket = None
        if ours is not None:
            ours.close()
        if process is None:
            return None
        process.kill()
        status: int | None = process.wait()
        return status

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._socket = ours
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(child.__file__)), *self._arguments],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                env={name: os.environ[name] for name in INHERITED if name in os.environ},
                cwd="/",
                start_new_session=True,
            )
        with gevent.Timeout(START_SECONDS, TimeoutError("the expression engine does not start")):
            if ours.recv(1) != child.STARTED:
                raise ConnectionError("the expression engine ended while it started")

    def _answer(self) -> tuple[bytes, bytes]:
        received = bytearray()
        with gevent.Timeout(self._seconds, False):
            return self._receive(received)
        self._socket.settimeout(0.0)  # it may have answered in time, and our own process been too busy to look
        try:
            answer = self._receive(received)
        except BlockingIOError as error:
            raise _Late from error
        self._socket.settimeout(None)
        return answer

    def _receive(self, received: bytearray) -> tuple[bytes, bytes]:
        head = child.ANSWER.size
        while True:
            if len(received) >= head:
                status, size = child.ANSWER.unpack_from(received)
                if len(received) == head + size:
                    return status, bytes(received[head:])
                if size > child.MAX_RESULT or len(received) > head + size:
                    raise ConnectionError("the expression engine breaks its protocol")
            data = self._socket.recv(65_536)
            if not data:
                raise ConnectionError("the expression engine ended")
            received += data


def _quickjs_directory() -> str:
    found = importlib.util.find_spec("_quickjs")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("quickjs is not installed: pip install quickjs", name="_quickjs")
    return str(Path(found.origin).parent)


_WORDS = re.compile(r"[\w$]+")
_REFLECTION = frozenset(("globalThis", "this", "eval", "Function", "constructor"))


def _needed(source: str, names: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Leave out the variables the source cannot reach: a script may hold a large web answer in one of them.

    A root that is named goes whole, as do all where a name may be spelt in a way not seen here.
    """
    words = set(_WORDS.findall(source))
    whole = not source.isascii() or "\\" in source or not words.isdisjoint(_REFLECTION)
    needed = {}
    for root in ROOTS:
        scope = names.get(root) or {}
        needed[root] = scope if whole or root in words else {name: scope[name] for name in words if name in scope}
    return needed


def _json(names: dict[str, Mapping[str, Any]]) -> str:
    try:
        return _encode(names)
    except ValueError:  # NaN or an infinity, which JSON.stringify makes null
        return to_text(names)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a variable holds a {type(value).__name__}, which is not JSON")


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def _value(text: str) -> Any:
    value = json.loads(text)
    if "\\ud" in text:  # half a surrogate pair is a JavaScript string, but no text
        whole = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        value = json.loads(whole)
    return value
