"""One call on a service and a simulated switch, both in this process and on loopback, with everything overheard.

What ``fsctl demo`` and ``fsctl simulate`` stand on: it wires the two together, lets a call arrive, and notes in order
what happens, each command beside the instruction that caused it. Does not print, and judges nothing.
"""

from __future__ import annotations

import math
import re
import signal
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

import gevent
from gevent import socket
from gevent.queue import SimpleQueue

from fsctl.call.events import (
    CallRefused,
    CallStateChanged,
    DocumentFetched,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
    UserEvent,
)
from fsctl.config import Address
from fsctl.log import redact
from fsctl.server import Server
from fsctl.simulator import Switch
from fsctl.simulator.framing import Reader
from fsctl.story import Entry, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsctl.call.call import Call
    from fsctl.call.events import CallEvent
    from fsctl.clock import Clock
    from fsctl.config import Config
    from fsctl.simulator import Caller, Said, SimulatedCall
    from fsctl.simulator.connectors import Connector
    from fsctl.swml.document import Instruction

__all__ = ["Stage", "listening", "on_loopback", "scratch"]

LOOPBACK = "127.0.0.1"
_FAREWELL_SECONDS = 30.0  # real ones, for a call that was told to end
_WEBHOOK_SECONDS = 10.0
_UUID = re.compile(r"(?<= )[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?: |$)")


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for everything a call leaves, which is gone afterwards, also when we are told to terminate."""
    before = {number: signal.signal(number, _exit) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with tempfile.TemporaryDirectory(prefix="fsctl-", ignore_cleanup_errors=True) as name:
            yield Path(name).resolve()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _exit(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def listening() -> socket.socket:
    """A listening socket on loopback, on a port nobody else has."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((LOOPBACK, 0))
    sock.listen(64)
    return sock


def on_loopback(config: Config, directory: Path, clock: Clock) -> Config:
    """The settings with everything that is written going below ``directory``, for a call at the clock's speed.

    No log of the call is kept: what is told of it is all there is to know.
    Streams are connected in real time, which is no less for a call that runs fast.
    """
    streams = replace(
        config.streams,
        connect_timeout=config.streams.connect_timeout * clock.speed,
        endpoint_timeout=config.streams.endpoint_timeout * clock.speed,
        hub_listen=Address(LOOPBACK, 0),
        directory=directory,
    )
    return replace(
        config,
        recordings=replace(config.recordings, directory=directory / "recordings", min_free_bytes=0),
        media=replace(config.media, cache_directory=directory / "sounds"),
        streams=streams,
        logs=replace(config.logs, database=""),
        freeswitch=replace(config.freeswitch, event_socket=None),
    )


@dataclass(slots=True)
class _Step:
    """One run of an instruction."""

    number: int
    instruction: Instruction
    began: float
    told: bool = False


class Stage:
    """A service and a switch for one call. A context manager; nothing of it is left behind.

    ``streams`` opens the call's streams. After ``limit`` seconds of call time the caller leaves (``limited`` is then
    true). ``name`` is what the call's document is called in what is told. ``http`` is a listening socket for the
    service's HTTP side; ``parts`` are given to the service.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        streams: Connector,
        limit: float,
        name: str,
        http: socket.socket | None = None,
        **parts: Any,
    ) -> None:
        self.clock = clock
        self.limited = False
        self.simulated: SimulatedCall | None = None
        self._limit = limit
        self._name = name
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        self._greenlets: list[gevent.Greenlet] = []
        self._document = ""
        self._began = self._turned = 0.0  # of the call, and of what runs now
        # Commands are counted as they are made and read a moment later by the switch, several at a time. So an entry
        # waits until the commands made before it were read, and a command finds the step that had it made.
        self._read = 0
        self._waiting: deque[tuple[int, _Step | None, Entry]] = deque()
        self._borders: deque[tuple[int, _Step | None]] = deque()
        self._running: _Step | None = None
        self._script = False  # whether it runs
        self._steps = 0
        self._vars: dict[str, Any] = dict(parts.get("vars") or {})
        self._told = 0.0  # the time of what was told last
        self._tells: Mapping[type, Callable[[Any], None]] = {
            CallStateChanged: self._state,
            CallRefused: self._refused,
            DocumentFetched: self._fetched,
            MethodFinished: self._finished,
            ScriptEnded: self._ended,
            ScriptWarning: self._warned,
            UserEvent: self._event,
        }
        self.server = Server(
            config,
            clock=clock,
            sockets={"event_socket": listening(), "http": http or listening()},
            observers=(self._happened,),
            journal=False,
            **parts,
        )
        self.server.start()
        self.switch = Switch(self.server.listener.address, clock=clock, streams=streams, overhears=self._overheard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        gevent.killall(self._greenlets)
        self.switch.close()
        self.server.stop()

    @property
    def call(self) -> Call | None:
        """The service's call, while it lives."""
        return self.server.calls.get(self.simulated.uuid) if self.simulated is not None else None

    @property
    def elapsed(self) -> float:
        """Call seconds since the call arrived."""
        return self.clock.monotonic() - self._began

    def later(self, seconds: float, function: Callable[..., object], *arguments: object) -> None:
        """Call a function after ``seconds`` of call time, unless the stage is gone by then."""
        self._greenlets.append(self.clock.later(seconds, function, *arguments))

    def run(
        self, *, document: str, to: str, from_: str, behaviour: Caller, variables: Mapping[str, str] | None = None
    ) -> Iterator[Entry]:
        """Let the call arrive, and give what happens as it happens, until the last webhook has gone.

        ``document`` and ``variables`` are what the dialplan says.
        """
        self._document = document
        self._began = self._turned = self.clock.monotonic()
        self.simulated = self.switch.call(
            destination=to,
            caller=from_,
            variables={"swml_url": document, **(variables or {})},
            behaviour=behaviour,
        )
        self._greenlets += [gevent.spawn(task, self.simulated) for task in (self._watch, self._attend)]
        while (entry := self._entries.get()) is not None:
            yield entry

    def note(self, kind: str, **fields: Any) -> None:
        """Put an entry into what is told, now."""
        self._note(None, kind, fields)

    def commanded(self, instruction: Instruction, command: str) -> None:
        """``instruction`` had FreeSWITCH told ``command``: for simulated callers, who react to what they hear."""

    # -- the end --

    def _watch(self, simulated: SimulatedCall) -> None:
        """Let the caller leave at the limit. Looks again after waking: call time may have stood still."""
        while (left := self._began + self._limit - self.clock.monotonic()) > 0:
            self.clock.sleep(left)
        self.limited = True
        self.note("note", text=f"the caller leaves: {self._limit:g} s of call time are over, and the script is not")
        simulated.hangup("ALLOTTED_TIMEOUT")

    def _attend(self, simulated: SimulatedCall) -> None:
        """Wait for the call's end, for the webhooks it left, and for what the switch has not read."""
        overdue = math.inf
        while not simulated.join(1.0) and monotonic() < overdue:
            if self.limited and overdue == math.inf:
                overdue = monotonic() + _FAREWELL_SECONDS
        self.server.sender.drain(_WEBHOOK_SECONDS)
        for _, step, entry in self._waiting:
            self._put(step, entry)
        self._entries.put(None)

    # -- order --

    def _note(self, step: _Step | None, kind: str, fields: Mapping[str, Any]) -> None:
        entry = Entry(self.elapsed, kind, fields)
        made = self.server.traffic.commands
        if self._waiting or made > self._read:
            self._waiting.append((made, step, entry))
        else:
            self._put(step, entry)

    def _put(self, step: _Step | None, entry: Entry) -> None:
        """Hand an entry out, after the beginning of its step."""
        if step is not None and not step.told:
            step.told = True
            self._tell(Entry(step.began - self._began, "method", self._described(step)))
        self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        """Hand an entry out; one that had to wait is as late as what it waited for."""
        self._told = max(self._told, entry.at)
        self._entries.put(replace(entry, at=self._told))

    def _described(self, step: _Step) -> dict[str, Any]:
        instruction = step.instruction
        where = instruction.where
        return {
            "step": step.number,
            "method": instruction.method.name,
            "file": self._file(where.document),
            "line": where.line,
            "section": where.section,
            "index": where.index,
            "path": where.text,
            "parameters": redact(instruction.value),
        }

    def _file(self, document: str) -> str:
        """What people know a document as."""
        return self._name if document == self._document else document

    def _current(self) -> _Step | None:
        """What runs now. Between two instructions nobody asks: the script gives way only inside of one."""
        call = self.call
        if self._running is None and self._script and call is not None and call.instruction is not None:
            self._steps += 1
            self._running = _Step(self._steps, call.instruction, self._turned)
        return self._running

    # -- what the switch reads --

    def _overheard(self, said: Said) -> None:
        self._read += 1
        step = self._maker(self._read)
        number, method = (step.number, step.instruction.method.name) if step is not None else (None, None)
        command = _command(said.data)
        fields = {"step": number, "method": method, "command": redact(command)}
        self._put(step, Entry(self.elapsed, "freeswitch", fields))
        if step is not None:
            self.commanded(step.instruction, command)
        while self._waiting and self._waiting[0][0] <= self._read:
            self._put(*self._waiting.popleft()[1:])

    def _maker(self, number: int) -> _Step | None:
        """The step that made the command of that number; None for what belongs to no instruction."""
        while self._borders and self._borders[0][0] < number:
            self._borders.popleft()
        return self._borders[0][1] if self._borders else self._current()

    def _turn(self, step: _Step | None) -> None:
        """What was made until now is this step's, what comes is the next one's."""
        self._borders.append((self.server.traffic.commands, step))
        self._running = None
        self._turned = self.clock.monotonic()

    # -- what the service tells --

    def _happened(self, event: CallEvent) -> None:
        tell = self._tells.get(type(event))
        if tell is not None:
            tell(event)

    def _state(self, event: CallStateChanged) -> None:
        fields: dict[str, Any] = {"state": event.state}
        if event.state == "ended":
            fields |= {"end_reason": event.end_reason, "end_source": event.end_source, "cause": event.cause}
        self._note(self._current(), "call", fields)

    def _fetched(self, event: DocumentFetched) -> None:
        step = self._current()
        name = self._name if step is None else short(_destination(step.instruction.value))
        self._note(step, "document", {"name": redact(name), "source": event.source, "outcome": event.outcome})
        if step is None and event.outcome == "ok":
            self._turn(None)
            self._script = True

    def _warned(self, event: ScriptWarning) -> None:
        fields = {
            "file": self._file(event.document),
            "line": event.line,
            "section": event.section,
            "index": event.index if event.index >= 0 else None,
            "path": event.path,
            "code": event.code,
            "message": event.message,
            "fatal": event.fatal,
        }
        # A fatal one is told when its instruction has ended.
        self._note(None if event.fatal else self._current(), "warning", fields)

    def _event(self, event: UserEvent) -> None:
        self._note(self._current(), "user_event", {"event": dict(event.event)})

    def _finished(self, event: MethodFinished) -> None:
        step, call = self._current(), self.call
        if step is None or call is None:
            return
        before, now = self._vars, dict(call.vars)
        self._vars = now
        fields = {
            "step": step.number,
            "method": event.method,
            "outcome": event.outcome,
            "seconds": round(self.clock.monotonic() - step.began, 3),
            "set": {name: value for name, value in now.items() if name not in before or before[name] != value},
            "unset": [name for name in before if name not in now],
        }
        self._note(step, "result", fields)
        self._turn(step)

    def _ended(self, event: ScriptEnded) -> None:
        self._script = False
        fields = {"outcome": event.outcome, "steps": event.steps, "variables": dict(event.variables)}
        self._note(None, "script", fields)

    def _refused(self, event: CallRefused) -> None:
        self.note("note", text=f"the call was not taken: {event.reason}")


def _destination(value: Any) -> Any:
    return value.get("dest", value) if isinstance(value, Mapping) else value


def _command(data: bytes) -> str:
    """What was said to FreeSWITCH, on one line and without what is only the event socket's or the channel's name."""
    reader = Reader()
    reader.feed(data)
    command = reader.next()
    if command is None:
        return repr(data)
    headers = command.headers
    if command.verb == "sendmsg" and "execute-app-name" in headers:
        return f"{headers['execute-app-name']} {headers.get('execute-app-arg') or command.body}".rstrip()
    words = command.line.removeprefix("api ").removeprefix("bgapi ")
    return _UUID.sub("", " ".join(filter(None, (words, headers.get("event-subclass"), command.body)))).rstrip()
