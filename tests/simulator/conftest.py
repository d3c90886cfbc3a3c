"""The application side of an event socket, as small as can be, for testing what the simulator says to it."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass, field
from urllib.parse import unquote

import gevent
import pytest
from gevent.event import AsyncResult
from gevent.queue import Empty, Queue
from gevent.server import StreamServer

from fsctl.clock import Clock
from fsctl.simulator import Scripted, Switch

DEADLINE = 10.0


@dataclass
class Heard:
    """One message from the switch: outer headers, their names in order, the raw body, and the event in it."""

    headers: dict[str, str]
    names: list[str]
    body: bytes
    event: dict[str, object] = field(default_factory=dict)
    event_names: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return "connect" if "Event-Name" in self.headers else self.headers.get("Content-Type", "")

    @property
    def reply(self) -> str:
        return self.headers.get("Reply-Text", "")

    @property
    def name(self) -> str:
        return str(self.event.get("Event-Name", ""))

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


def pairs(text: str, *, decode: bool) -> list[tuple[str, str]]:
    found = []
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.append((name, unquote(value.lstrip(" ")) if decode else value.lstrip(" ")))
    return found


def heard(header: bytes, body: bytes) -> Heard:
    """A message from its two halves, both event forms understood."""
    text = header.decode("utf-8", "replace")
    headers = pairs(text, decode=text.startswith("Event-Name"))
    message = Heard(dict(headers), [name for name, _ in headers], body)
    if message.kind == "text/event-json":
        items = json.loads(body.decode("utf-8", "replace"), object_pairs_hook=list)
        message.event, message.event_names = dict(items), [name for name, _ in items]
    elif message.kind == "text/event-plain":
        inner, _, inner_body = body.decode("utf-8", "replace").partition("\n\n")
        items = pairs(inner, decode=True)
        message.event, message.event_names = dict(items), [name for name, _ in items]
        if inner_body:
            message.event["_body"] = inner_body
            message.event_names.append("_body")
    return message


class Closed(Exception):
    """The switch closed the connection."""


class Connected:
    """The application side of one call's connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox: Queue[Heard | None] = Queue()
        self.messages: list[Heard] = []
        self.uuid = ""
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        stream = self.sock.makefile("rb")
        try:
            while header := self._header(stream):
                length = next(
                    (int(v) for k, v in pairs(header.decode("latin-1"), decode=False) if k == "Content-Length"), 0
                )
                size = 0 if header.startswith(b"Event-Name") else length
                body = stream.read(size)
                if len(body) < size:
                    break
                self.inbox.put(heard(header, body))
        except OSError:
            pass
        finally:
            self.inbox.put(None)

    @staticmethod
    def _header(stream: object) -> bytes:
        lines = []
        while (line := stream.readline()) not in {b"", b"\n"}:  # type: ignore[attr-defined]
            lines.append(line)
        return b"".join(lines)

    def send(self, text: str | bytes) -> None:
        self.sock.sendall(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text)

    def next(self, timeout: float = DEADLINE) -> Heard:
        """The next message; raises Closed at the end, fails at the deadline."""
        try:
            message = self.inbox.get(timeout=timeout)
        except Empty:
            raise AssertionError(f"nothing came within {timeout} s after {self.messages[-3:]}") from None
        if message is None:
            self.inbox.put(None)
            raise Closed
        self.messages.append(message)
        return message

    def until(self, found: object, timeout: float = DEADLINE) -> Heard:
        """Messages up to the first that is ``found``: an event's name, or a predicate."""
        wanted = found if callable(found) else (lambda message: message.name == found)
        while True:
            message = self.next(timeout)
            if wanted(message):
                return message

    def closed(self) -> list[Heard]:
        """Everything until the connection is closed."""
        rest = []
        while True:
            try:
                rest.append(self.next())
            except Closed:
                return rest

    def ask(self, command: str) -> Heard:
        """Send one command; its reply, events in between skipped (they stay in ``messages``)."""
        self.send(command + "\n\n")
        return self.until(lambda m: m.kind in {"command/reply", "api/response", "connect"})

    def api(self, command: str) -> str:
        return self.ask(f"api {command}").text

    def execute(self, application: str, argument: str = "", uuid: str = "", **headers: str) -> None:
        lines = [f"sendmsg\ncall-command: execute\nexecute-app-name: {application}"]
        lines += [f"Event-UUID: {uuid}"] if uuid else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        body = argument.encode()
        if body:
            lines += ["content-type: text/plain", f"content-length: {len(body)}"]
        reply = self.ask("\n".join(lines) + ("\n\n" + argument if body else ""))
        assert reply.reply == "+OK", reply

    def run(self, application: str, argument: str = "", uuid: str = "op", **headers: str) -> Heard:
        """Execute and wait for the CHANNEL_EXECUTE_COMPLETE."""
        self.execute(application, argument, uuid, **headers)
        return self.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == uuid)

    def take(self, events: str = "CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP_COMPLETE") -> None:
        """What an application does first: connect, linger, filter, events."""
        self.uuid = self.ask("connect").headers["Unique-ID"]
        self.ask("linger 2")
        self.ask(f"filter Unique-ID {self.uuid}")
        self.ask(f"filter Job-Owner-UUID {self.uuid}")
        self.ask(f"events json {events}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self.sock.close()


class Desk:
    """Where simulated calls arrive: a listening socket that hands out connections, and a switch that calls it."""

    def __init__(self) -> None:
        self._arrived: Queue[Connected] = Queue()
        self._connections: list[Connected] = []
        self._switches: list[Switch] = []
        self._server = StreamServer(("127.0.0.1", 0), self._accept)
        self._server.start()
        self.address = ("127.0.0.1", self._server.server_port)

    def _accept(self, sock: socket.socket, _: object) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected = Connected(sock)
        self._connections.append(connected)
        self._arrived.put(connected)
        released: AsyncResult[None] = AsyncResult()
        connected._reader.link(lambda _: released.set(None))
        released.get()

    def switch(self, *, speed: float = 20.0, tick: float = 0.0, **settings: object) -> Switch:
        settings.setdefault("streams", Scripted())
        made = Switch(self.address, clock=settings.pop("clock", None) or Clock(speed), tick=tick, **settings)  # type: ignore[arg-type]
        self._switches.append(made)
        return made

    def arrived(self) -> Connected:
        return self._arrived.get(timeout=DEADLINE)

    def close(self) -> None:
        for switch in self._switches:
            switch.close()
        for connected in self._connections:
            connected.close()
        self._server.stop(timeout=1)


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.close()


@pytest.fixture
def read_message():
    """A raw message (header block, empty line, body) as :class:`Heard`."""

    def read(raw: bytes) -> Heard:
        header, _, body = raw.partition(b"\n\n")
        return heard(header + b"\n", body)

    return read


@pytest.fixture
def closed():
    return Closed


@pytest.fixture
def connect_to():
    """Connects to an address, as an operator would to port 8021."""
    made: list[Connected] = []

    def connect(address: tuple[str, int]) -> Connected:
        made.append(Connected(socket.create_connection(address)))
        return made[-1]

    yield connect
    for connected in made:
        connected.close()
