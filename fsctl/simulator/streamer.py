"""mod_audio_stream: one WebSocket a channel that carries its audio, with the replies and events of build 1.0.0.

How the WebSocket is opened is a connector's business: :class:`WebSockets` really connects, :class:`Scripted` plays
outcomes for tests. As in the module there is one stream a channel, no event when we stop it, and a stream whose far
end closed stays attached until it is stopped.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING

import gevent
import structlog

from fsctl.simulator import media
from fsctl.simulator.bugs import Bug
from fsctl.simulator.caller import talking
from fsctl.simulator.connectors import StreamClosed, StreamFailed
from fsctl.simulator.text import seconds_of

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel
    from fsctl.simulator.connectors import Connection

__all__ = ["Stream", "valid_url"]

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 1.0
_FRAME = 0.02
_BURST = 0.005
"""Real seconds between bursts of frames when the clock runs faster than they could be sent one by one."""

_URL = re.compile(r"wss?://[A-Za-z0-9.-]+(:\d+)?(/.*)?", re.DOTALL)


def valid_url(url: str) -> bool:
    """Whether the module takes ``url``: lower-case scheme, plain host, optional port and path."""
    return _URL.fullmatch(url) is not None


class Stream(Bug):
    """The one stream of a channel. ``frames`` counts the audio messages sent."""

    def __init__(self, channel: Channel, url: str, mix: str, rate: int, metadata: str) -> None:
        super().__init__(channel, "audio_stream")
        self.url = url
        self.mix = mix
        self.rate = rate
        self.metadata = metadata
        self.paused = False
        self.frames = 0
        self.connection: Connection | None = None
        self._closed = False
        self._greenlets = [gevent.spawn(self._run)]

    def send_text(self, text: str) -> None:
        """Send a text message, if connected."""
        if self.connection is not None and not self._closed:
            try:
                self.connection.send_text(text)
            except StreamClosed as closed:
                log.debug("simulated_stream_text_lost", reason=closed.reason)

    def stop(self, text: str = "") -> None:
        """Say ``text``, close, and detach; no event but MEDIA_BUG_STOP."""
        if text:
            self.send_text(text)
        self._let_go()
        self.channel.detach(self)

    def hang_up(self) -> None:
        """The call ended: close the WebSocket."""
        self._let_go()

    def drop(self) -> None:
        """Let go of everything that runs."""
        self._let_go()

    def _let_go(self) -> None:
        self._closed = True
        gevent.killall([one for one in self._greenlets if one is not gevent.getcurrent()], block=False)
        if self.connection is not None:
            self.connection.close()

    def _run(self) -> None:
        switch, channel = self.channel.switch, self.channel
        try:
            headers = json.loads(channel.variables.get("STREAM_EXTRA_HEADERS") or "{}")
        except ValueError:
            headers = {}
        try:
            timeout = channel.clock.real(CONNECT_SECONDS) if switch.streams.simulated else CONNECT_SECONDS
            self.connection = switch.streams.open(self.url, headers, timeout or 0.0)
        except StreamFailed as failed:
            self._tell("error", status="error", message={"code": failed.code, "error": failed.problem})
            channel.detach(self)
            return
        self._tell("connect", status="connected")
        if self.metadata:
            self.send_text(self.metadata)
        self._greenlets.append(gevent.spawn(self._send_audio))
        self._receive(self.connection)

    def _receive(self, connection: Connection) -> None:
        while True:
            try:
                text = connection.receive()
            except StreamClosed as closed:
                if not self._closed:
                    self._closed = True
                    # The channel keeps this dead stream, and a hangup that meets it does not come to its end.
                    self.hangs = True
                    self._tell(
                        "disconnect", status="disconnected", message={"code": closed.code, "reason": closed.reason}
                    )
                return
            if self._closed:
                return
            self._tell_raw("json", text)

    def _tell(self, what: str, **body: object) -> None:
        self._tell_raw(what, json.dumps(body, separators=(",", ":")))

    def _tell_raw(self, what: str, body: str) -> None:
        if not self.channel.hung_up:
            self.channel.fire(
                "CUSTOM", subclass=f"mod_audio_stream::{what}", body=body, origin="CUSTOM mod_audio_stream"
            )

    def _send_audio(self) -> None:
        clock = self.channel.clock
        size = max(_FRAME, seconds_of(self.channel.variables.get("STREAM_BUFFER_SIZE"), 20) / 1000)
        pause = max(size, _BURST * clock.speed)
        sent = 0.0
        began = clock.now()
        while not self._closed and self.connection is not None:
            clock.sleep(pause)
            now = clock.now()
            while began + sent + size <= now and not self._closed:
                at = began + sent
                sent += size
                if self.paused or not self.channel.behaviour.sends_rtp:
                    continue
                try:
                    self.connection.send_audio(self._audio(at, size))
                except StreamClosed:
                    return
                self.frames += 1

    def _audio(self, at: float, seconds: float) -> bytes:
        channel, end = self.channel, at + seconds
        said = bool(talking(channel.speech(), at, end))
        heard = bool(talking(tuple(channel.heard[-4:]), at, end))
        return _frame(round(self.rate * seconds), self.mix, said, heard)


@lru_cache(maxsize=64)
def _frame(samples: int, mix: str, said: bool, heard: bool) -> bytes:
    read, written = (media.tone(samples) if sounds else media.silence(samples) for sounds in (said, heard))
    if mix == "stereo":
        return media.stereo(read, written)
    return written if mix == "mixed" and heard else read
