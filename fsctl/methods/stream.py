"""stream, stop_stream: the call's audio to a WebSocket. Reference: swml-calling 3.8, 3.9, webhooks 3.9.

Two ways, chosen by ``streams.mode``. With the *hub*, mod_audio_stream connects once to fsctl, which serves every stream
of the call in the documented protocol: any track, G.711 or L16, reconnects. In *direct* mode the module connects to the
endpoint itself and sends binary L16; what it cannot do (a second stream, ``outbound_track``, G.711) ends in
``stream_result: failed`` with a warning that says why.

A stream has started when the endpoint accepted it, not when FreeSWITCH says ``+OK``. ``bidirectional`` is an extension
of fsctl's: the endpoint may send audio back (hub only).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.errors import CommandFailed, FetchError
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import StreamConnected, StreamDisconnected, StreamFailed
from fsctl.streams.attachment import CallStreams
from fsctl.streams.audio import parse_format
from fsctl.streams.endpoint import StreamSpec
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Object, Text, Url, parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.streams.ended import Ended

__all__ = ["stop_stream", "stream"]

TRACKS = {
    "inbound_track": "inbound_track",
    "outbound_track": "outbound_track",
    "both_tracks": "both_tracks",
    "inbound": "inbound_track",
    "outbound": "outbound_track",
    "both": "both_tracks",
}
_TRACK_NAMES = {
    "inbound_track": ("inbound",),
    "outbound_track": ("outbound",),
    "both_tracks": ("inbound", "outbound"),
}
_MIXES = {"inbound_track": ("mono", ["inbound"]), "both_tracks": ("stereo", ["inbound", "outbound"])}
_CODEC = re.compile(r"L16(?:@(\d+)h)?", re.IGNORECASE)
_RATES = (8000, 16000, 24000)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """``custom_parameters`` go into the first message, ``authorization_bearer_token`` into the handshake."""

    url: str = parameter(Text(min_length=1))
    control_id: str | None = parameter(Text(min_length=1, max_length=255), default=None)
    name: str | None = parameter(Text(), default=None)
    track: str = parameter(Text(choices=tuple(TRACKS)), default="inbound_track")
    codec: str | None = parameter(Text(), default=None)
    status_url: str | None = parameter(Url(), default=None)
    status_url_method: str = parameter(Text(choices=("POST", "GET")), default="POST")
    authorization_bearer_token: str | None = parameter(Text(min_length=1), default=None)
    custom_parameters: Mapping[str, Any] = parameter(Object(values=Text()), default=None)
    bidirectional: bool = parameter(Boolean(), default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopStream:
    """Without ``control_id``, the stream that was started last."""

    control_id: str | None = parameter(Text(min_length=1), default=None)


@method("stream", Stream, result="stream_result")
def stream(call: Call, params: Stream) -> None:
    """Start streaming; the script goes on once the endpoint has accepted the connection, or has not."""
    call.vars["stream_result"] = "failed"
    if not call.controls.running("stream"):  # else `stop_stream` goes on to mean the one that runs
        call.vars["stream_control_id"] = ""
    start = _START[call.services.streams.mode](call, params)
    token = params.authorization_bearer_token
    if token is not None and not _TOKEN.fullmatch(token):
        raise CommandFailed("stream", "the bearer token holds characters that no HTTP header can carry")
    try:
        control = call.control(
            "stream",
            params.control_id,
            method="stream",
            status_url=params.status_url,
            status_url_method=params.status_url_method,
        )
    except KeyError as taken:
        raise CommandFailed("stream", f"the control id {taken.args[0][:80]!r} is already streaming") from None
    control.detail["url"] = params.url
    if params.name:
        control.detail["name"] = params.name
    control.abandon = lambda: None if control.over else control.to("finished")
    try:
        _check_scheme(call, params.url)
        start(control)
    except (CommandFailed, FetchError) as problem:
        if not control.over:
            control.to("finished")
        raise CommandFailed("stream", getattr(problem, "reply", "") or str(problem)) from problem
    call.vars.update(stream_result="success", stream_control_id=control.id)


@method("stop_stream", StopStream, result="stop_stream_result")
def stop_stream(call: Call, params: StopStream) -> None:
    """Stop a stream; when this returns, the endpoint has been told."""
    call.stop("stream", params.control_id, latest="stream_control_id", method="stop_stream")
    call.vars["stop_stream_result"] = "success"


def _check_scheme(call: Call, url: str) -> None:
    """Refuse what is no WebSocket, and plain text unless the operator allows it."""
    plain = url.lower().startswith("ws://")
    if not plain and not url.lower().startswith("wss://"):
        raise CommandFailed("stream", "the URL must begin with wss://")
    if plain and not call.services.streams.allow_plaintext:
        raise CommandFailed("stream", "ws:// is not encrypted; streams.allow_plaintext would allow it")


# -- through the hub ---------------------------------------------------------------------------------------------


def _through_hub(call: Call, params: Stream) -> Callable[[Control], None]:
    """What starts the stream. Raises CommandFailed for what the hub cannot do."""
    settings = call.services.streams
    try:
        form = parse_format(params.codec, rate=settings.sample_rate, frame_ms=settings.frame_ms)
    except ValueError as problem:
        raise CommandFailed("stream", str(problem)) from None
    track = TRACKS[params.track]
    if params.bidirectional and track != "inbound_track":
        raise CommandFailed("stream", "a bidirectional stream carries inbound_track only")

    def start(control: Control) -> None:
        call.answer()
        if call.streams is None:
            call.streams = CallStreams(
                call.services.hub,
                call.leg,
                call.info.call_id,
                rate=settings.sample_rate,
                frame_ms=settings.frame_ms,
                heartbeat=settings.heartbeat,
                connect_timeout=settings.connect_timeout,
                directory=settings.directory,
            )
        streams = call.streams
        spec = StreamSpec(
            stream_id=control.id,
            call_id=call.info.call_id,
            account_id=call.info.project_id,
            url=params.url,
            tracks=_TRACK_NAMES[track],
            form=form,
            token=params.authorization_bearer_token,
            parameters=params.custom_parameters or {},
            two_way=params.bidirectional,
            reconnects=settings.reconnects,
        )

        def changed(state: str, _: Ended | None) -> None:
            # A stream that finishes without having streamed is the failed start, which start() raises.
            if not control.over and (state == "streaming" or control.state == "streaming"):
                control.to(state)

        started = streams.start(spec, changed)

        def stop() -> None:
            streams.stop(started)
            control.wait(_STOP_SECONDS)

        control.stop = stop

    return start


# -- directly from the module ------------------------------------------------------------------------------------


def _directly(call: Call, params: Stream) -> Callable[[Control], None]:
    """What starts the stream. Raises CommandFailed for what the module cannot do."""
    mix, tracks = _mix(params.track)
    rate = _rate(params.codec, call.services.streams.sample_rate)
    if params.bidirectional:
        raise CommandFailed("stream", "the module plays nothing back; streams.mode hub can")

    def start(control: Control) -> None:
        call.services.web.admit(params.url)
        if len(call.controls.running("stream")) > 1:
            raise CommandFailed("stream", "a second stream on a call needs streams.mode hub; the module has one")
        call.answer()
        _connect(call, control, params, mix, rate, _start_message(call, control, params, tracks, rate))

    return start


def _connect(call: Call, control: Control, params: Stream, mix: str, rate: int, message: str) -> None:
    """Let the module connect, and wait for its word on how that went."""
    leg = call.leg
    settings = call.services.streams
    variables = {
        "STREAM_MESSAGE_DEFLATE": "true",  # the module's word for "do not compress"
        "STREAM_HEART_BEAT": str(settings.heartbeat),
        "STREAM_BUFFER_SIZE": str(settings.frame_ms),
        "STREAM_SUPPRESS_LOG": "true",
    }
    leg.ask(commands.set_variables(leg.uuid, variables))
    token = params.authorization_bearer_token
    if token is not None:
        headers = json.dumps({"Authorization": f"Bearer {token}"})
        leg.ask(commands.set_variable(leg.uuid, "STREAM_EXTRA_HEADERS", headers))
    try:
        command = commands.stream_start(leg.uuid, params.url, mix, rate, message)
    except ValueError as problem:
        raise CommandFailed("stream", str(problem)) from problem
    early: list[StreamDisconnected | StreamFailed] = []

    def over(fact: StreamDisconnected | StreamFailed) -> None:
        if isinstance(fact, StreamDisconnected):
            leg.tell(commands.stream_stop(leg.uuid))  # a close by the far end leaves the module attached
        if control.state == "streaming":
            control.to("finished")
        else:  # an endpoint that accepts and closes: both facts come in one breath
            early.append(fact)

    control.on_over(leg.react(StreamDisconnected, over))
    control.on_over(leg.react(StreamFailed, over))
    with leg.listen(StreamConnected, StreamFailed) as heard:
        leg.ask(command)
        fact = heard.next(settings.connect_timeout)
    if token is not None:  # not into the call's detail record
        leg.tell(commands.set_variable(leg.uuid, "STREAM_EXTRA_HEADERS", ""))
    if not isinstance(fact, StreamConnected):
        leg.tell(commands.stream_stop(leg.uuid))  # it may have stayed attached
        raise CommandFailed(
            "stream",
            f"the endpoint could not be reached: {fact.problem} (code {fact.code})"
            if fact is not None
            else f"the endpoint did not accept the connection within {settings.connect_timeout:g} s",
        )

    control.stop = lambda: _stop(control)
    control.to("streaming")
    if early:
        control.to("finished")


def _stop(control: Control) -> None:
    leg = control.call.leg
    leg.job(commands.stream_stop(leg.uuid), _STOP_SECONDS)
    if not control.over:
        control.to("finished")


def _mix(track: str) -> tuple[str, list[str]]:
    mix = _MIXES.get(TRACKS[track])
    if mix is None:
        raise CommandFailed("stream", "mod_audio_stream cannot send outbound_track alone; streams.mode hub can")
    return mix


def _rate(codec: str | None, default: int) -> int:
    if codec is None:
        return default
    found = _CODEC.fullmatch(codec.strip())
    if found is None:
        raise CommandFailed("stream", f"direct mode sends L16 only, not {codec[:20]!r}; streams.mode hub has others")
    rate = int(found.group(1) or default)
    if rate not in _RATES:
        raise CommandFailed("stream", f"L16 at {rate} Hz is not offered; 8000, 16000 and 24000 are")
    return rate


def _start_message(call: Call, control: Control, params: Stream, tracks: list[str], rate: int) -> str:
    """The first message, in the documented form, and in characters that survive FreeSWITCH's argument cleaning."""
    start: dict[str, Any] = {
        "streamSid": control.id,
        "accountSid": call.info.project_id,
        "callSid": call.info.call_id,
        "tracks": tracks,
        "mediaFormat": {"encoding": "audio/x-L16", "sampleRate": rate, "channels": len(tracks)},
    }
    if params.custom_parameters:
        start["customParameters"] = dict(params.custom_parameters)
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": start}, separators=(",", ":"))


_START = {"hub": _through_hub, "direct": _directly}
