"""stream, stop_stream, calling.stream: the call's audio to a WebSocket.

Reference: swml-calling 3.8, 3.9, calling-api 4.6, webhooks 3.9.

Two ways, chosen by ``streams.mode``. With the *hub*, mod_audio_stream connects once to fsctl, which serves every stream
of the call in the documented protocol: any track, G.711 or L16, reconnects. In *direct* mode the module connects to the
endpoint itself and sends binary L16; what it cannot do (a second stream, ``outbound_track``, G.711) ends in
``stream_result: failed`` with a warning that says why.

A stream has started when the endpoint accepted it, not when FreeSWITCH says ``+OK``. ``bidirectional`` is an extension
of fsctl's: the endpoint may send audio back (hub only).

Every way in comes to :func:`begin`, which knows no script: a :class:`Streaming` says what to stream, and its
``observer``, where there is one, hears how it goes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import structlog

from fsctl.call.control import Control
from fsctl.call.events import Callback
from fsctl.call.live import CONTROL_ID, ControlId, live_command
from fsctl.errors import ApiError, CommandFailed, FetchError, ScriptError
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import StreamConnected, StreamDisconnected, StreamFailed
from fsctl.identity import new_id
from fsctl.streams.attachment import CallStreams
from fsctl.streams.audio import parse_format
from fsctl.streams.ended import Ended
from fsctl.streams.endpoint import StreamSpec
from fsctl.swml.method import method
from fsctl.swml.parameters import INVALID_VALUE, Boolean, Object, Text, Url, parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fsctl.call.call import Call
    from fsctl.call.events import Form
    from fsctl.swml.document import Where

__all__ = ["BearerToken", "SocketUrl", "Streaming", "begin", "named", "stop_stream", "stream"]

log = structlog.get_logger(__name__)

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
_UNFIT = "the bearer token holds characters that no HTTP header can carry"
_STOPPED = "it was stopped before the endpoint had accepted"
_PLAIN_TEXT = "ws:// is not encrypted; streams.allow_plaintext would allow it"
# mod_audio_stream's error codes, in the words of Ended.
_FAILURES = {6: "refused", 7: "tls", 8: "tls", 9: "tls", 10: "timeout"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """What to stream, and where to; shared by every way in.

    ``track`` is one of TRACKS, ``custom_parameters`` hold text, ``status_form`` is how events look at ``status_url``.
    ``observer``, which must not wait, is called with ``streaming`` and None, and with ``finished`` and how that came
    about; a stream that never was is only ever ``finished``.
    """

    method: str
    url: str
    control_id: str | None = None
    name: str | None = None
    track: str = "inbound_track"
    codec: str | None = None
    status_url: str | None = None
    status_url_method: str = "POST"
    status_form: Form = "json"
    authorization_bearer_token: str | None = field(default=None, repr=False)
    custom_parameters: Mapping[str, str] | None = None
    bidirectional: bool = False
    observer: Callable[[str, Ended | None], None] | None = None


@method("stream", Stream, result="stream_result")
def stream(call: Call, params: Stream) -> None:
    """Start streaming; the script goes on once the endpoint has accepted the connection, or has not."""
    call.vars["stream_result"] = "failed"
    if not call.controls.running("stream"):  # else `stop_stream` goes on to mean the one that runs
        call.vars["stream_control_id"] = ""
    given = {each.name: getattr(params, each.name) for each in fields(params)}
    try:
        control = begin(call, Streaming(method="stream", **given), wait=True)
    except FetchError as problem:
        raise CommandFailed("stream", str(problem)) from problem
    call.vars.update(stream_result="success", stream_control_id=control.id)


@method("stop_stream", StopStream, result="stop_stream_result")
def stop_stream(call: Call, params: StopStream) -> None:
    """Stop a stream; when this returns, the endpoint has been told."""
    call.stop("stream", params.control_id, latest="stream_control_id", method="stop_stream")
    call.vars["stop_stream_result"] = "success"


def begin(call: Call, wish: Streaming, *, wait: bool = False) -> Control:
    """Open a stream's control and connect: with ``wait`` until the endpoint has accepted, else in the background.

    The control has the kind ``stream``; its ``detail`` has ``url`` and ``name``, for the compatibility form ``track``,
    and with ``finished`` the ``reason`` (:class:`fsctl.streams.ended.Ended`). Its ``stop`` waits for the end, and may
    come before the endpoint has answered. A stream that does not come up ends as ``finished``, so that its control id
    is free again.

    Raises CommandFailed for what cannot be streamed, FetchError for a URL that may not be reached, LegGone; without
    ``wait`` not for an endpoint that does not answer, or refuses.
    """
    start = _START[call.services.streams.mode](call, wish)
    token = wish.authorization_bearer_token
    if token is not None and not _TOKEN.fullmatch(token):
        raise CommandFailed(wish.method, _UNFIT)
    callback = Callback(wish.status_url, wish.status_url_method, wish.status_form) if wish.status_url else None
    control = Control(call, "stream", wish.control_id or new_id(), method=wish.method, callback=callback)
    try:
        call.controls.add(control)
    except KeyError as taken:
        raise CommandFailed(wish.method, f"the control id {taken.args[0][:80]!r} is already streaming") from None
    control.detail["url"] = wish.url
    if wish.name:
        control.detail["name"] = wish.name
    if wish.status_form == "compat":
        control.detail["track"] = TRACKS[wish.track]
    teller = _Teller(control, wish)
    control.stop = lambda: teller.over(Ended("stopped"))
    control.abandon = lambda: teller.over(Ended("hangup"))

    with teller:
        _check_scheme(call, wish)
        if len(call.controls.running("stream")) > 1 and call.services.streams.mode == "direct":
            problem = "a second stream on a call needs streams.mode hub; the module has one"
            raise CommandFailed(wish.method, problem)
    decided = call.leg.waiter()

    def connect() -> None:
        try:
            with teller:
                start(teller)
        except (CommandFailed, FetchError) as problem:
            teller.problem = problem
            if not wait:
                shown = getattr(problem, "reply", "") or str(problem)
                log.info("stream_not_started", call_id=call.info.call_id, control_id=control.id, problem=shown)
        finally:
            if not call.leg.gone:  # else that is the news
                decided.set()

    # Beside the script, too: one that is sent elsewhere meanwhile leaves nothing half done behind.
    call.leg.background(connect)
    if wait:
        decided.wait()
        if not teller.began:
            raise teller.problem or CommandFailed(wish.method, "the stream could not be started; fsctl's log says why")
    return control


def named(call: Call, name: str) -> Control | None:
    """The running stream of that name: the oldest, should there be several."""
    return next((control for control in call.controls.running("stream") if control.detail.get("name") == name), None)


class _Teller:
    """Tells a stream's control, and its observer, how it goes. As a context it ends the stream that fails inside."""

    def __init__(self, control: Control, wish: Streaming) -> None:
        self.control = control
        self.wish = wish
        self.began = False
        self.problem: CommandFailed | FetchError | None = None

    def streaming(self) -> None:
        """The endpoint has accepted."""
        if not self.control.state:
            self.began = True
            self.control.to("streaming")
            self._observe("streaming", None)

    def over(self, ended: Ended) -> None:
        """The stream is over, or was never."""
        if not self.control.over:
            self.control.to("finished", reason=ended.reason)
            self._observe("finished", ended)

    def _observe(self, state: str, ended: Ended | None) -> None:
        if self.wish.observer is not None:
            self.wish.observer(state, ended)

    def __enter__(self) -> None:
        """Begin something that may fail."""

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if isinstance(problem, FetchError):
            self.over(Ended(problem.reason, str(problem)))
        elif isinstance(problem, CommandFailed):
            self.over(Ended("internal", problem.reply))


def _check_scheme(call: Call, wish: Streaming) -> None:
    """Refuse what is no WebSocket, and plain text unless the operator allows it."""
    scheme = wish.url.partition("://")[0].lower()
    if scheme not in ("ws", "wss"):
        raise CommandFailed(wish.method, "the URL must begin with wss://")
    if scheme == "ws" and not call.services.streams.allow_plaintext:
        raise CommandFailed(wish.method, _PLAIN_TEXT)


# -- through the hub ---------------------------------------------------------------------------------------------


def _through_hub(call: Call, wish: Streaming) -> Callable[[_Teller], None]:
    """What starts the stream. Raises CommandFailed for what the hub cannot do."""
    settings = call.services.streams
    try:
        form = parse_format(wish.codec, rate=settings.sample_rate, frame_ms=settings.frame_ms)
    except ValueError as problem:
        raise CommandFailed(wish.method, str(problem)) from None
    track = TRACKS[wish.track]
    if wish.bidirectional and track != "inbound_track":
        raise CommandFailed(wish.method, "a bidirectional stream carries inbound_track only")

    def start(teller: _Teller) -> None:
        call.answer()
        control, streams = teller.control, CallStreams.of(call)
        spec = StreamSpec(
            stream_id=control.id,
            call_id=call.info.call_id,
            account_id=call.info.project_id,
            url=wish.url,
            tracks=_TRACK_NAMES[track],
            form=form,
            token=wish.authorization_bearer_token,
            parameters=wish.custom_parameters or {},
            two_way=wish.bidirectional,
            reconnects=settings.reconnects,
        )

        def changed(state: str, ended: Ended | None) -> None:
            if state == "streaming":
                teller.streaming()
            elif ended is not None:
                teller.over(ended)

        try:
            started = streams.start(spec, changed)
        except CommandFailed:
            call.clock.sleep(0)  # let `changed`, which is told beside us, say why
            raise
        if control.over and not teller.began:
            streams.stop(started)
            raise CommandFailed(wish.method, _STOPPED)
        teller.streaming()

        def stop() -> None:
            streams.stop(started)
            control.wait(_STOP_SECONDS)

        control.stop = stop

    return start


# -- directly from the module ------------------------------------------------------------------------------------


def _directly(call: Call, wish: Streaming) -> Callable[[_Teller], None]:
    """What starts the stream. Raises CommandFailed for what the module cannot do."""
    mix, tracks = _mix(wish)
    rate = _rate(wish, call.services.streams.sample_rate)
    if wish.bidirectional:
        raise CommandFailed(wish.method, "the module plays nothing back; streams.mode hub can")

    def start(teller: _Teller) -> None:
        call.services.web.admit(wish.url)
        call.answer()
        _connect(call, teller, mix, rate, _start_message(call, teller, tracks, rate))

    return start


def _connect(call: Call, teller: _Teller, mix: str, rate: int, message: str) -> None:
    """Let the module connect, and wait for its word on how that went."""
    leg, wish, control = call.leg, teller.wish, teller.control
    settings = call.services.streams
    variables = {
        "STREAM_MESSAGE_DEFLATE": "true",  # the module's word for "do not compress"
        "STREAM_HEART_BEAT": str(settings.heartbeat),
        "STREAM_BUFFER_SIZE": str(settings.frame_ms),
        "STREAM_SUPPRESS_LOG": "true",
    }
    leg.ask(commands.set_variables(leg.uuid, variables))
    token = wish.authorization_bearer_token
    if token is not None:
        headers = json.dumps({"Authorization": f"Bearer {token}"})
        leg.ask(commands.set_variable(leg.uuid, "STREAM_EXTRA_HEADERS", headers))
    try:
        command = commands.stream_start(leg.uuid, wish.url, mix, rate, message)
    except ValueError as problem:
        raise CommandFailed(wish.method, str(problem)) from problem
    early: list[StreamDisconnected | StreamFailed] = []

    def over(fact: StreamDisconnected | StreamFailed) -> None:
        if isinstance(fact, StreamDisconnected):
            leg.tell(commands.stream_stop(leg.uuid))  # a close by the far end leaves the module attached
        if control.state == "streaming":
            teller.over(_how(fact))
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
        late = f"the endpoint did not accept the connection within {settings.connect_timeout:g} s"
        teller.over(Ended("timeout", late) if fact is None else _how(fact))
        unreached = f"the endpoint could not be reached: {_how(fact).detail}" if fact is not None else late
        raise CommandFailed(wish.method, unreached)
    if control.over:
        leg.tell(commands.stream_stop(leg.uuid))
        raise CommandFailed(wish.method, _STOPPED)
    control.stop = lambda: _stop(teller)
    teller.streaming()
    if early:
        teller.over(_how(early[0]))


def _how(fact: StreamDisconnected | StreamFailed) -> Ended:
    if isinstance(fact, StreamDisconnected):
        return Ended("closed", f"the endpoint closed with {fact.code}")
    return Ended(_FAILURES.get(fact.code, "lost"), f"{fact.problem} (code {fact.code})")


def _stop(teller: _Teller) -> None:
    leg = teller.control.call.leg
    leg.job(commands.stream_stop(leg.uuid), _STOP_SECONDS)
    teller.over(Ended("stopped"))


def _mix(wish: Streaming) -> tuple[str, list[str]]:
    mix = _MIXES.get(TRACKS[wish.track])
    if mix is None:
        problem = "mod_audio_stream cannot send outbound_track alone; streams.mode hub can"
        raise CommandFailed(wish.method, problem)
    return mix


def _rate(wish: Streaming, default: int) -> int:
    codec = wish.codec
    if codec is None:
        return default
    found = _CODEC.fullmatch(codec.strip())
    if found is None:
        problem = f"direct mode sends L16 only, not {codec[:20]!r}; streams.mode hub has others"
        raise CommandFailed(wish.method, problem)
    rate = int(found.group(1) or default)
    if rate not in _RATES:
        raise CommandFailed(wish.method, f"L16 at {rate} Hz is not offered; 8000, 16000 and 24000 are")
    return rate


def _start_message(call: Call, teller: _Teller, tracks: list[str], rate: int) -> str:
    """The first message, in the documented form, and in characters that survive FreeSWITCH's argument cleaning."""
    start: dict[str, Any] = {
        "streamSid": teller.control.id,
        "accountSid": call.info.project_id,
        "callSid": call.info.call_id,
        "tracks": tracks,
        "mediaFormat": {"encoding": "audio/x-L16", "sampleRate": rate, "channels": len(tracks)},
    }
    if teller.wish.custom_parameters:
        start["customParameters"] = dict(teller.wish.custom_parameters)
    return json.dumps({"event": "start", "sequenceNumber": "1", "start": start}, separators=(",", ":"))


_START = {"hub": _through_hub, "direct": _directly}


# -- live commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SocketUrl(Url):
    """The URL of a WebSocket."""

    expects: ClassVar[str] = "text"

    schemes: Sequence[str] = ("wss", "ws")

    def exact(self, value: Any, where: Where) -> str:
        """Raise ScriptError for anything else."""
        try:
            return super().exact(Text().exact(value, where), where)
        except ScriptError as problem:
            if problem.code != INVALID_VALUE:
                raise
            message = f"`{where.parameter}` must be a WebSocket's URL, beginning with wss://"
            raise ScriptError(INVALID_VALUE, message, where) from None


@dataclass(frozen=True)
class BearerToken(Text):
    """What an ``Authorization`` header can carry. Messages never show it."""

    def exact(self, value: Any, where: Where) -> str:
        """Raise ScriptError for anything else."""
        token = super().exact(value, where)
        if not _TOKEN.fullmatch(token):
            raise ScriptError(INVALID_VALUE, _UNFIT, where)
        return token

    def schema(self) -> dict[str, Any]:
        """As any text, but for the characters."""
        return {**super().schema(), "pattern": "^[!-~]+$"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCommand:
    """The parameters of ``calling.stream``; what is no text in ``custom_parameters`` reaches the endpoint as JSON."""

    control_id: str = parameter(CONTROL_ID)
    url: str = parameter(SocketUrl())
    name: str | None = parameter(Text(), default=None)
    codec: str | None = parameter(Text(), default=None)
    track: str = parameter(Text(choices=tuple(_TRACK_NAMES)), default="inbound_track")
    authorization_bearer_token: str | None = parameter(BearerToken(), default=None)
    custom_parameters: Mapping[str, Any] = parameter(Object(), default={})
    status_url: str | None = parameter(Url(), default=None)
    status_url_method: str = parameter(Text(choices=("POST", "GET")), default="POST")


@live_command("calling.stream", StreamCommand, opens="stream")
def live_stream(call: Call, params: StreamCommand) -> None:
    """Stream beside whatever goes on; whether the endpoint accepts is told by events."""
    if params.url.lower().startswith("ws:") and not call.services.streams.allow_plaintext:
        raise ApiError(422, "invalid_parameter", _PLAIN_TEXT, attribute="url")
    try:
        call.services.web.admit(params.url)
    except FetchError as problem:
        if problem.reason == "address":
            raise ApiError(422, "url_is_unsafe", str(problem), attribute="url") from problem
        # One that is not found may be found by the time it is needed: then the stream ends at once.
    given = {each.name: getattr(params, each.name) for each in fields(params)}
    given["custom_parameters"] = {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in params.custom_parameters.items()
    }
    begin(call, Streaming(method="calling.stream", **given))


@live_command("calling.stream.stop", ControlId, on="stream")
def live_stream_stop(control: Control, _params: ControlId) -> None:
    """Stop; when this is answered, the endpoint has been told."""
    control.halt()
