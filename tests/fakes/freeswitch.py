"""The far end of an event socket, under the test's hand: what it reads and what it writes, byte by byte."""

import json
from urllib.parse import quote

import gevent
from gevent import socket

UUID = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"
OK = b"Content-Type: command/reply\nReply-Text: +OK\n\n"


def offer(**changes):
    """The answer to ``connect``."""
    headers = {
        "Event-Name": "CHANNEL_DATA",
        "FreeSWITCH-Switchname": "fs1",
        "Unique-ID": UUID,
        "Call-Direction": "inbound",
        "Answer-State": "ringing",
        "Caller-Caller-ID-Number": "alice",
        "Caller-Destination-Number": "1000",
        "variable_sip_from_uri": "alice@pbx.example",
        "variable_sip_to_uri": "1000@pbx.example",
        **{name.replace("_", "-") if name[0].isupper() else name: value for name, value in changes.items()},
        "Content-Type": "command/reply",
        "Reply-Text": "+OK\n",
        "Socket-Mode": "async",
        "Control": "full",
    }
    lines = [
        f"{name}: {value if name == 'Content-Type' else quote(value, safe='/,()!*')}" for name, value in headers.items()
    ]
    return ("\n".join(lines) + "\n\n").encode()


def event(name, **headers):
    """A JSON event as a message."""
    values = {
        "Event-Name": name,
        "Unique-ID": UUID,
        **{k.replace("_", "-"): v for k, v in headers.items() if k != "body"},
    }
    if "body" in headers:
        values["_body"] = headers["body"]
    body = json.dumps(values, separators=(",", ":")).encode()
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body) + body


def api(text):
    """The answer to an API command."""
    raw = text.encode()
    return b"Content-Type: api/response\nContent-Length: %d\n\n" % len(raw) + raw


class Peer:
    """``peer.ours`` goes to the code under test, the rest is FreeSWITCH's side of the wire."""

    def __init__(self):
        self.ours, self._sock = socket.socketpair()
        self._sock.settimeout(5)
        self._read = b""

    def send(self, *data):
        self._sock.sendall(b"".join(data))

    def command(self):
        """The next command: its head as text, its body if it has one."""
        while b"\n\n" not in self._read:
            self._more()
        head, _, self._read = self._read.partition(b"\n\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\n") if line.startswith(b"content-length")), 0
        )
        while len(self._read) < length:
            self._more()
        body, self._read = self._read[:length], self._read[length:]
        return head.decode(), body.decode()

    def expect(self, start, *answers):
        """The next command must begin like this; then these answers are sent."""
        head, body = self.command()
        assert head.startswith(start), f"expected {start!r}, got {head!r}"
        self.send(*answers)
        return head, body

    def operation(self, name, *answers):
        """The next command must run this application; answers its id."""
        head, _ = self.expect("sendmsg", OK, *answers)
        headers = dict(line.split(": ", 1) for line in head.split("\n")[1:])
        assert name == headers["execute-app-name"]
        return headers["Event-UUID"]

    def handshake(self, **changes):
        """Everything up to the moment the call may begin."""
        self.expect("connect", offer(**changes))
        self.expect("linger", OK)
        self.expect("filter Unique-ID", OK)
        self.expect("events json", OK)
        self.expect("api uuid_setvar_multi", api("+OK"))

    def at_end(self):
        """True once the code under test closed its side."""
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            return True
        self._read += data
        return not data

    def close(self):
        self._sock.close()

    def _more(self):
        data = self._sock.recv(65536)
        assert data, f"the other side closed; read so far: {self._read!r}"
        self._read += data


def meanwhile(function, *args):
    """Run FreeSWITCH's side, or ours, in a greenlet of its own; its failure is the test's when it is asked for."""
    return gevent.spawn(function, *args)
