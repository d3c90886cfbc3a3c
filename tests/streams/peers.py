"""The other sides of the hub: endpoints on a real WebSocket server library, a module on its client."""

import contextlib
import inspect
import json
import math
import ssl
import struct
import subprocess
from base64 import b64decode
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.sync.client import connect

from fsctl.streams.audio import Format
from fsctl.streams.endpoint import StreamSpec

PCMU = Format("PCMU", 8000, 20)
DIRECT = {"proxy": None} if "proxy" in inspect.signature(connect).parameters else {}  # older ones know no proxies


def until(condition, seconds=5.0, what=""):
    """Wait for a condition, with a deadline."""
    with gevent.Timeout(seconds, AssertionError(f"did not happen: {what or condition}")):
        while not condition():
            gevent.sleep(0.005)


def dial(url, *, timeout):
    """A door without a guard."""
    _, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    try:
        sock = socket.create_connection((host, int(port)), timeout)
    except OSError as problem:
        from fsctl.errors import FetchError

        raise FetchError(url, "refused", f"refused the connection ({problem.strerror})") from None
    return SimpleNamespace(sock=sock, url=url, host=host, authorization=None, shown=url)


def tone(hertz, samples, rate=8000, amplitude=8000, begin=0):
    """Linear audio."""
    return struct.pack(
        f"<{samples}h",
        *(round(amplitude * math.sin(2 * math.pi * hertz * (begin + n) / rate)) for n in range(samples)),
    )


def stereo(left, right):
    """Two tracks in one."""
    pairs = zip(struct.unpack(f"<{len(left) // 2}h", left), struct.unpack(f"<{len(right) // 2}h", right), strict=True)
    return b"".join(struct.pack("<2h", *pair) for pair in pairs)


class Connection:
    """The library's server side of one WebSocket, on a socket."""

    def __init__(self, sock):
        self.socket = sock
        self.protocol = ServerProtocol(max_size=None)
        self.request = None

    def serve(self):
        """Give each text that comes, until the end."""
        while data := self.socket.recv(65_536):
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if isinstance(event, Request):
                    self.request = event
                    self.protocol.send_response(self.protocol.accept(event))
                elif event.opcode is Opcode.TEXT:
                    assert event.fin
                    yield bytes(event.data)
                else:
                    assert event.opcode in (Opcode.CLOSE, Opcode.PING, Opcode.PONG), event
            self.flush()

    def send(self, text):
        self.protocol.send_text(text if isinstance(text, bytes) else text.encode())
        self.flush()

    def close(self, code=1000):
        self.protocol.send_close(code)
        self.flush()

    def cut(self):
        """No more of it, without a word."""
        self.socket.shutdown(socket.SHUT_RDWR)

    def flush(self):
        for data in self.protocol.data_to_send():
            if data:
                self.socket.sendall(data)
            else:
                self.socket.shutdown(socket.SHUT_WR)


class Endpoint:
    """A customer's server. ``said`` are the messages of all connections; ``talk`` may answer."""

    def __init__(self, *, tls=None, talk=None):
        self.said = []
        self.connections = []
        self.closed = []
        self._talk = talk
        self._server = StreamServer(("127.0.0.1", 0), self._handle, **({} if tls is None else {"ssl_context": tls}))
        self._server.start()
        self.scheme = "ws" if tls is None else "wss"
        self.host = "127.0.0.1" if tls is None else "localhost"

    @property
    def url(self):
        return f"{self.scheme}://{self.host}:{self._server.server_port}/in"

    def _handle(self, sock, _):
        connection = Connection(sock)
        self.connections.append(connection)
        try:
            for text in connection.serve():
                message = json.loads(text)
                self.said.append(message)
                if self._talk is not None:
                    self._talk(connection, message)
        except OSError:
            pass
        finally:
            self.closed.append(connection)

    def events(self, name):
        return [message for message in self.said if message["event"] == name]

    def audio(self, track="inbound"):
        return b"".join(
            b64decode(message["media"]["payload"])
            for message in self.events("media")
            if message["media"]["track"] == track
        )

    def close(self):
        self._server.stop(timeout=0)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.cut()


class Module:
    """What mod_audio_stream does on its WebSocket."""

    def __init__(self, url, *, metadata=None):
        self._context = connect(url, compression=None, max_size=None, **DIRECT)
        self.connection = self._context.__enter__()
        if metadata is not None:
            self.connection.send(metadata)

    def send(self, audio):
        self.connection.send(audio)

    def play(self, left, right, frame=160):
        """Two tracks, in frames of ``frame`` samples."""
        for at in range(0, len(left), frame * 2):
            self.send(stereo(left[at : at + frame * 2], right[at : at + frame * 2]))

    def close(self):
        self._context.__exit__(None, None, None)


def spec(url, name="stream-1", **changes):
    values = {
        "stream_id": name,
        "call_id": "call-1",
        "account_id": "account-1",
        "url": url,
        "tracks": ("inbound",),
        "form": PCMU,
        **changes,
    }
    return StreamSpec(**values)


class States:
    """What a stream told of itself."""

    def __init__(self):
        self.told = []
        self.ended = None

    def __call__(self, state, ended):
        self.told.append((state, ended.reason if ended else None))
        self.ended = ended

    def wait(self, state, seconds=5.0):
        until(lambda: any(word in (state, "finished") for word, _ in self.told), seconds, what=state)
        assert state in [word for word, _ in self.told], f"never {state}: {self.ended}"
        return self.ended


def certificate(folder, name="localhost"):
    """A certificate of our own for a name, and the context that trusts it."""
    key, cert = folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName=DNS:{name}"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        pytest.skip(f"no openssl to make a certificate with: {problem}")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))
