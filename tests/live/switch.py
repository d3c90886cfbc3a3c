"""The real FreeSWITCH, as an operator sees it: its API, and the ends of channels. And the port it hands calls to."""

from __future__ import annotations

import fcntl
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import gevent
from gevent import socket
from gevent.queue import Queue

from fsctl.esl.protocol import Protocol
from fsctl.freeswitch.facts import value_of


class Switch:
    """An inbound event socket. ``destroyed`` holds the UUIDs of channels that are gone for good, and when."""

    def __init__(self, address, password):
        self._sock = socket.create_connection(address, timeout=2.0)
        self._sock.settimeout(None)
        self._replies = Queue()
        self._welcome = Queue()
        self.hung_up = {}
        self.destroyed = {}
        self._reader = gevent.spawn(self._read)
        self._welcome.get(timeout=2.0)
        if not self._ask(f"auth {password}").startswith("+OK"):
            raise PermissionError("the password was refused")
        self._ask("events json CHANNEL_HANGUP_COMPLETE CHANNEL_DESTROY")

    def api(self, line):
        """What an API command prints."""
        return self._ask(f"api {line}").strip()

    def exists(self, uuid):
        """Whether a channel is there, alive or lingering."""
        return uuid in self.api("show channels") or self.api(f"uuid_exists {uuid}") == "true"

    def close(self):
        self._reader.kill()
        self._sock.close()

    def _ask(self, line):
        self._sock.sendall(f"{line}\n\n".encode())
        return self._replies.get(timeout=10.0).text

    def _read(self):
        protocol = Protocol()
        while data := self._sock.recv(65536):
            for message in protocol.receive(data):
                if message.kind == "event":
                    uuid = value_of(message.body, b'"Unique-ID":"')
                    destroyed = value_of(message.body, b'"Event-Name":"') == "CHANNEL_DESTROY"
                    (self.destroyed if destroyed else self.hung_up)[uuid] = monotonic()
                elif message.kind == "auth":
                    self._welcome.put(message)
                elif message.kind in ("reply", "api"):
                    self._replies.put(message)


@contextmanager
def to_ourselves(host, port, seconds):
    """Hold a port that nothing else listens on, and that no other of our runs uses meanwhile.

    OSError when it does not become free within ``seconds``.
    """
    with (Path(tempfile.gettempdir()) / f"port{port}.lock").open("a") as lock:
        deadline = monotonic() + seconds
        while not _taken(lock, host, port):
            if monotonic() > deadline:
                raise OSError(f"{host}:{port} was in use for {seconds:g} s")
            gevent.sleep(0.5)
        yield


def _taken(lock, host, port):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError:
        return False
    return True


def address(text):
    """``HOST:PORT`` as a pair."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def dial_string(text):
    """A FreeSWITCH dial string to a number of fsctl's as (profile, SIP address): ``sofia/PROFILE/USER@HOST:PORT``."""
    found = re.fullmatch(r"(sofia/[^/]+)/([^@/]+@[^@/]+)", text)
    if found is None:
        raise ValueError(f"FSCTL_LIVE_DIAL must be sofia/PROFILE/NUMBER@HOST:PORT, not {text!r}")
    return found[1], found[2]
