"""An endpoint to try streams with: writes each track to a WAV file and tells what it was sent.

``fsctl stream-sink --port N --out DIR`` is this. It speaks the documented protocol as a customer's server would, takes
any stream that comes, and with ``echo`` says everything it hears back, for two-way streams. It checks no token, so it
listens on loopback unless told otherwise. OPUS is counted and not written.
"""

from __future__ import annotations

import json
import re
import signal
import wave
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from websockets.frames import Opcode

from fsctl.streams import handshake
from fsctl.streams.audio import Format, decoder
from fsctl.streams.framing import Framing, bare_text
from fsctl.streams.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fsctl.streams.handshake import Opened

__all__ = ["Sink", "run"]

_CODECS = {"audio/x-mulaw": "PCMU", "audio/x-alaw": "PCMA", "audio/x-L16": "L16"}
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
_LIMIT = 262_144
_UNSENT = 1_048_576


class Sink:
    """The listener. ``tell`` is given one line of text for everything that happens but audio."""

    def __init__(
        self,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        echo: bool = False,
        tell: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.echo = echo
        self.tell = tell
        self._recordings: set[Recording] = set()
        self._numbers = 0
        self._server = StreamServer((host, port), self._accept)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Listen. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._server.start()

    def stop(self) -> None:
        """Listen no more, finish the files, close the connections."""
        self._server.stop()
        for recording in tuple(self._recordings):
            recording.end("the sink was stopped")

    def forget(self, recording: Recording) -> None:
        """A connection ended."""
        self._recordings.discard(recording)

    def file_name(self, stream: str, track: str) -> Path:
        """A name nobody has yet, of characters that no file system minds."""
        while True:
            self._numbers += 1
            path = self.directory / f"{self._numbers:03}-{_UNFIT.sub('_', stream)[:64]}-{track}.wav"
            if not path.exists():
                return path

    def _accept(self, sock: Any, address: tuple[str, int]) -> None:
        opened = handshake.accept(sock, lambda _: True, timeout=5.0, limit=_LIMIT)
        if opened is None:
            self.tell(f"{address[0]}:{address[1]} is no WebSocket client")
        else:
            self._recordings.add(Recording(self, opened, f"{address[0]}:{address[1]}"))


class Recording:
    """One connection."""

    def __init__(self, sink: Sink, opened: Opened, name: str) -> None:
        self._sink = sink
        self._name = name
        self._files: dict[str, wave.Wave_write] = {}
        self._frames: dict[str, int] = {}
        self._decode: Callable[[bytes], bytes] | None = None
        self._stream = ""
        self._rate = 8000
        self._over = False
        self._framing = Framing(opened.protocol, Opcode.TEXT, _LIMIT)
        self._link = Link(opened.sock, receive=self._receive, gone=self.end, limit=_UNSENT)
        if opened.rest:
            self._receive(opened.rest)

    def end(self, reason: str) -> None:
        """Finish the files."""
        if self._over:
            return
        self._over = True
        self._link.close()
        for track, file in self._files.items():
            seconds = file.getnframes() / self._rate
            file.close()
            self._tell(f"{track}: {self._frames[track]} messages, {seconds:.2f} s")
        self._tell(f"over: {reason}")
        self._sink.forget(self)

    def _tell(self, text: str) -> None:
        self._sink.tell(f"{self._name} {text}")

    def _receive(self, data: bytes) -> None:
        for text in self._framing.receive(data):
            try:
                self._message(json.loads(text.decode()))
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                self._tell(f"not understood: {problem!r} in {text[:120]!r}")
        if self._framing.spoke and not self._over:
            self._link.send(self._framing.answers())
            if self._framing.over:
                close = self._framing.protocol.close_rcvd
                self.end(f"closed with {close.code}" if close is not None else "the protocol was broken")

    def _message(self, message: Mapping[str, Any]) -> None:
        event = message["event"]
        if event == "media":
            self._media(message["media"])
            return
        self._tell(json.dumps(message, ensure_ascii=False))
        if event == "start":
            self._start(message["start"])

    def _start(self, start: Mapping[str, Any]) -> None:
        form = start["mediaFormat"]
        self._stream = str(start["streamSid"])
        self._rate = int(form["sampleRate"])
        codec = _CODECS.get(form["encoding"])
        self._decode = decoder(Format(codec, self._rate, 20)) if codec is not None else None
        if self._decode is None:
            self._tell(f"{form['encoding']} is counted, not written")

    def _media(self, media: Mapping[str, Any]) -> None:
        track = "outbound" if media["track"] == "outbound" else "inbound"
        self._frames[track] = self._frames.get(track, 0) + 1
        payload = b64decode(media["payload"], validate=True)
        if self._decode is not None:
            self._file(track).writeframes(self._decode(payload))
        if self._sink.echo and track == "inbound":
            said = {"event": "media", "streamSid": self._stream, "media": {"payload": b64encode(payload).decode()}}
            if not self._link.full(len(payload) * 2):
                self._link.send(bare_text(json.dumps(said).encode()))

    def _file(self, track: str) -> wave.Wave_write:
        file = self._files.get(track)
        if file is None:
            path = self._sink.file_name(self._stream, track)
            file = self._files[track] = wave.open(str(path), "wb")  # noqa: SIM115 - closed at the end of the stream
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self._rate)
            self._tell(f"{track} goes to {path}")
        return file


def run(directory: Path, *, host: str, port: int, echo: bool, tell: Callable[[str], None]) -> None:
    """Be an endpoint until SIGINT or SIGTERM. Raises OSError when the port is taken."""
    sink = Sink(directory, host=host, port=port, echo=echo, tell=tell)
    sink.start()
    asked = Event()
    watchers = [gevent.signal_handler(number, asked.set) for number in (signal.SIGINT, signal.SIGTERM)]
    tell(f"listening on ws://{host}:{sink.port}/")
    try:
        asked.wait()
    finally:
        for watcher in watchers:
            watcher.cancel()
        sink.stop()
