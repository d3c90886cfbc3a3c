"""The real FreeSWITCH, as an operator sees it: its API, and the ends of channels."""

from __future__ import annotations

import re
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


def dial_string(text):
    """A FreeSWITCH dial string to a number of fsctl's as (profile, SIP address): ``sofia/PROFILE/USER@HOST:PORT``."""
    found = re.fullmatch(r"(sofia/[^/]+)/([^@/]+@[^@/]+)", text)
    if found is None:
        raise ValueError(f"FSCTL_LIVE_DIAL must be sofia/PROFILE/NUMBER@HOST:PORT, not {text!r}")
    return found[1], found[2]
