"""mod_audio_stream under the hub: attached with a call's first stream, detached with its last, brought back when lost.

This is the part that talks to FreeSWITCH. What the module cannot do or does oddly ends here: one stream a channel, a
``+OK`` that means "tried", a dead stream that stays attached until it is stopped, silence that is not sent (see
:meth:`CallStreams.start`). Reference: freeswitch, section 5.

Everything may be called from any greenlet; ``start`` and ``stop`` wait. The states of streams are told in greenlets, so
listeners may wait, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import gevent
import structlog
from gevent.lock import RLock

from fsctl.errors import CommandFailed, LegGone
from fsctl.freeswitch import commands
from fsctl.freeswitch.escape import list_value
from fsctl.freeswitch.facts import Digit, StreamConnected, StreamFailed
from fsctl.streams.hub import TooManyStreams
from fsctl.streams.playout import PipePlayout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fsctl.call.call import Call
    from fsctl.call.leg import Leg
    from fsctl.streams.ended import Ended
    from fsctl.streams.endpoint import Stream, StreamSpec
    from fsctl.streams.hub import Attachment, Hub
    from fsctl.streams.rtp import RtpSpec, RtpStream

__all__ = ["CallStreams"]

log = structlog.get_logger(__name__)

_STOP_SECONDS = 5.0
_SILENT_SECONDS = 2.0
_RESTORES = 3
_SUFFIX = {8000: "r8", 16_000: "r16"}


class CallStreams:
    """All streams of one call.

    ``rate`` and ``frame_ms`` are what the module sends, ``heartbeat`` its pings in seconds, ``connect_timeout`` how
    long its connection to the hub may take. Pipes for two-way streams are made in ``directory``, which FreeSWITCH must
    be able to read; without one, two-way streams are refused.
    """

    def __init__(
        self,
        hub: Hub,
        leg: Leg,
        call_id: str,
        *,
        rate: int,
        frame_ms: int,
        heartbeat: int,
        connect_timeout: float,
        directory: Path | None = None,
    ) -> None:
        self._hub = hub
        self._leg = leg
        self._call_id = call_id
        self._rate = rate
        self._frame_ms = frame_ms
        self._heartbeat = heartbeat
        self._connect_timeout = connect_timeout
        self._directory = directory
        self._attachment: Attachment | None = None
        self._forget_digits: Callable[[], None] | None = None
        self._lock = RLock()

    @classmethod
    def of(cls, call: Call) -> CallStreams:
        """The streams of a call, made by the first that needs them."""
        if call.streams is None:
            settings = call.services.streams
            call.streams = cls(
                call.services.hub,
                call.leg,
                call.info.call_id,
                rate=settings.sample_rate,
                frame_ms=settings.frame_ms,
                heartbeat=settings.heartbeat,
                connect_timeout=settings.connect_timeout,
                directory=settings.directory,
            )
        return call.streams

    def start(self, spec: StreamSpec | RtpSpec, changed: Callable[[str, Ended | None], None]) -> Stream | RtpStream:
        """Start a stream and wait until it is streaming or has failed.

        The party must be heard already (answered, or early media). For audio to flow while nothing plays, the channel
        variable ``send_silence_when_idle`` must have been -1 when FreeSWITCH first saw media: set it in the dialplan
        before ``socket``, or before the answer. Set later it does nothing, which is logged.

        ``changed`` is called with ``streaming`` and later with ``finished``, each in a greenlet. Raises CommandFailed,
        LegGone.
        """
        if spec.two_way and self._directory is None:
            raise CommandFailed("stream", "a stream that talks back needs streams.directory")
        decided = self._leg.waiter()

        def heard(state: str, ended: Ended | None) -> None:
            decided.set()
            gevent.spawn(self._tell, changed, state, ended)

        with self._lock:
            attachment = self._attached()
            try:
                stream = attachment.add(spec, heard, line=self if spec.two_way else None)
            except (TooManyStreams, ValueError) as problem:
                self._detach_if_idle()
                raise CommandFailed("stream", str(problem)) from None
        try:
            decided.wait(self._hub.limits.connect_timeout + 1.0)
        except LegGone:
            stream.stop("hangup")
            raise
        if stream.state == "connecting":  # its own deadline should have come first
            stream.stop("timeout")
        if not stream.started:
            assert stream.ended is not None
            raise CommandFailed("stream", stream.ended.detail or stream.ended.reason)
        return stream

    def stop(self, stream: Stream | RtpStream) -> None:
        """Ask a stream to end; ``finished`` follows within a second."""
        stream.stop("stopped")

    def close(self, reason: str = "hangup") -> None:
        """End all streams: the call is over. FreeSWITCH detaches the module by itself then. Waits for nothing."""
        attachment, self._attachment = self._attachment, None
        if self._forget_digits is not None:
            self._forget_digits()
            self._forget_digits = None
        if attachment is not None:
            attachment.close(reason)

    # -- what a two-way stream asks of its call (playout.Line) ----------------------------------------------------

    def playout(self, rate: int, marked: Callable[[str], None]) -> PipePlayout:
        """Make a pipe and let FreeSWITCH mix it into what the party hears. Raises OSError."""
        assert self._directory is not None
        playout = PipePlayout(self._directory / f"{uuid4()}.{_SUFFIX[rate]}", rate, marked)
        # "f" before other listeners, so that outbound_track holds it; no stop is needed: the end of the pipe is one.
        argument = f"{self._leg.uuid} start {list_value(str(playout.path))} 0 mf"
        gevent.spawn(self._say, commands.Api("uuid_displace", argument))
        return playout

    def press(self, digit: str) -> None:
        """Send a digit to the party."""
        gevent.spawn(self._say, commands.Api("uuid_send_dtmf", f"{self._leg.uuid} {digit}"))

    def _say(self, api: commands.Api) -> None:
        try:
            self._leg.tell(api)
        except LegGone:
            return

    # -- the module ----------------------------------------------------------------------------------------------

    def _attached(self) -> Attachment:
        if self._attachment is not None and self._attachment.connected:
            return self._attachment
        leg = self._leg
        variables = {
            "STREAM_MESSAGE_DEFLATE": "true",  # the module's word for "do not compress"
            "STREAM_HEART_BEAT": str(self._heartbeat),
            "STREAM_BUFFER_SIZE": str(self._frame_ms),
            "STREAM_SUPPRESS_LOG": "true",
        }
        leg.ask(commands.set_variables(leg.uuid, variables))
        attachment = self._attachment
        if attachment is None:
            attachment = self._hub.open(self._call_id, self._rate)
            attachment.on_lost = self._lost
        else:  # lost, and not yet back
            self._detach_module()
            attachment.renew()
        try:
            self._connect(attachment)
        except BaseException:
            if not attachment.fanout.streams:
                attachment.close("stopped")
            raise
        if self._attachment is None:
            self._attachment = attachment
            self._forget_digits = leg.react(Digit, lambda fact: attachment.dtmf(fact.digit))
        gevent.spawn_later(_SILENT_SECONDS, self._check_audio, attachment, attachment.frames)
        return attachment

    def _connect(self, attachment: Attachment) -> None:
        """Let the module connect to the hub, and wait for its word on that."""
        leg = self._leg
        with leg.listen(StreamConnected, StreamFailed) as heard:
            leg.ask(commands.stream_start(leg.uuid, attachment.url, "stereo", self._rate))
            fact = heard.next(self._connect_timeout)
        if not isinstance(fact, StreamConnected) or not attachment.connected:
            leg.tell(commands.stream_stop(leg.uuid))  # it may have stayed attached
            problem = f"{fact.problem} (code {fact.code})" if isinstance(fact, StreamFailed) else "no answer in time"
            raise CommandFailed("stream", f"mod_audio_stream did not reach the hub: {problem}")

    def _lost(self, reason: str) -> None:
        gevent.spawn(self._restore, reason)

    def _restore(self, reason: str) -> None:
        """Bring the module back; its streams wait for it, connected to their endpoints."""
        with self._lock:
            attachment = self._attachment
            if attachment is None or attachment.connected:
                return
            for _ in range(_RESTORES):
                try:
                    self._detach_module()
                    attachment.renew()
                    self._connect(attachment)
                except CommandFailed as problem:
                    log.warning("stream_module_not_back", call_id=self._call_id, problem=str(problem))
                except LegGone:
                    return  # the end of the call ends the streams
                else:
                    log.info("stream_module_back", call_id=self._call_id, reason=reason)
                    return
            self.close("lost")

    def _detach_if_idle(self) -> None:
        """Take the module off the call when nobody needs it any more."""
        with self._lock:
            attachment = self._attachment
            if attachment is None or attachment.fanout.streams:
                return
            attachment.dismiss()
            try:
                self._detach_module()
            except LegGone:
                log.debug("stream_module_went_with_the_call", call_id=self._call_id)
                return  # the session closes us; a link that is closed first would hold FreeSWITCH up
            self.close("stopped")

    def _detach_module(self) -> None:
        try:
            self._leg.job(commands.stream_stop(self._leg.uuid), _STOP_SECONDS)
        except CommandFailed:
            log.debug("stream_module_was_not_attached", call_id=self._call_id)

    def _check_audio(self, attachment: Attachment, frames: int) -> None:
        if attachment is self._attachment and attachment.connected and attachment.frames == frames:
            log.warning(
                "stream_without_audio",
                call_id=self._call_id,
                remedy="set send_silence_when_idle=-1 in the dialplan, before the socket application",
            )

    def _tell(self, changed: Callable[[str, Ended | None], None], state: str, ended: Ended | None) -> None:
        try:
            changed(state, ended)
        finally:
            if state == "finished":
                self._detach_if_idle()
