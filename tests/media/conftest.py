"""What the media tests share: sounds made on the spot, and a web server that counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import gevent
import numpy as np
import pytest
import soundfile
from gevent.event import Event
from gevent.pywsgi import WSGIServer


@dataclass
class Origin:
    """A real web server on loopback: gives what ``answers`` says, remembers what it was asked.

    ``gate`` is open; closed, every answer waits for it.
    """

    port: int = 0
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    gate: Event = field(default_factory=Event)
    server: WSGIServer | None = None

    def start(self) -> None:
        self.gate.set()
        self.server = WSGIServer(("127.0.0.1", 0), self, log=None)
        self.server.start()
        self.port = self.server.server_port

    def stop(self) -> None:
        self.gate.set()
        self.server.stop(timeout=1)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def gives(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
        return self.url(path)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        headers = {
            name[5:].lower().replace("_", "-"): text for name, text in environ.items() if name.startswith("HTTP_")
        }
        self.asked.append((path, headers))
        with gevent.Timeout(30):
            self.gate.wait()
        status, extra, body = self.answers.get(path, (404, {}, b"not here"))
        tag = extra.get("ETag")
        if status == 200 and tag and headers.get("if-none-match") == tag:
            status, body = 304, b""
        start_response(f"{status} Something", list(extra.items()))
        return [body] if body else []


@pytest.fixture
def origin():
    origin = Origin()
    origin.start()
    yield origin
    origin.stop()


@pytest.fixture
def sound(tmp_path):
    """Make the bytes of an audio file: ``sound("FLAC", "PCM_24", rate=44100, channels=2, seconds=0.5)``."""

    def make(format_="WAV", subtype=None, *, rate=8000, channels=1, seconds=0.25, samples=None):
        if samples is None:
            time = np.arange(int(rate * seconds)) / rate
            tone = 0.25 * np.sin(2 * np.pi * 440 * time)
            samples = np.stack([tone] * channels, axis=1)
        path = tmp_path / f"made-{format_}-{subtype}-{rate}-{channels}"
        soundfile.write(path, samples, rate, subtype=subtype, format=format_)
        return path.read_bytes()

    return make
