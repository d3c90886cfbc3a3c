"""tap, stop_tap, calling.tap: a copy of the audio, as RTP or to a WebSocket.

Reference: swml-calling 3.10, 3.11, calling-api 4.5, webhooks 3.8.

``speak`` is what the party says, ``listen`` what it hears. To ``rtp://`` goes one stream of packets, with ``both``
mixed into one. To ``ws://`` and ``wss://`` goes what the method ``stream`` sends, in the same protocol, since the
reference names no other; ``both`` is two tracks there. Either way the audio comes through the hub, so there may be
several taps and streams on a call, together as many as ``streams.max_per_call``; in direct mode there is no tap.

What is ours: OPUS, which the reference has for REST only, names and IPv6 in ``rtp://``, and for WebSockets the rate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.live import CONTROL_ID, ControlId, lifted, live_command
from fsctl.errors import ApiError, CommandFailed, FetchError, ScriptError
from fsctl.freeswitch import commands
from fsctl.methods.stream import SocketUrl
from fsctl.streams import rtp
from fsctl.streams.attachment import CallStreams
from fsctl.streams.audio import parse_format
from fsctl.streams.endpoint import StreamSpec
from fsctl.streams.rtp import CODECS, RtpSpec, RtpStream
from fsctl.swml.method import method
from fsctl.swml.parameters import INVALID_VALUE, ByType, Integer, Object, Record, Text, Url, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.streams.audio import Format
    from fsctl.streams.ended import Ended
    from fsctl.swml.document import Where

__all__ = ["Tapping", "begin", "stop_tap", "tap"]

log = structlog.get_logger(__name__)

DIRECTIONS = ("speak", "listen", "both")

_RTP_TRACK = {"speak": "inbound", "listen": "outbound", "both": "mixed"}
_TRACKS = {"speak": ("inbound",), "listen": ("outbound",), "both": ("inbound", "outbound")}
_PTIMES = {
    "PCMU": tuple(range(10, 121, 10)),
    "PCMA": tuple(range(10, 121, 10)),
    "OPUS": (10, 20, 40, 60, 80, 100, 120),  # the lengths OPUS has frames of
}
_RTP_URI = re.compile(r"rtp://(\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253}):([0-9]{1,5})/?", re.IGNORECASE | re.ASCII)
_VARIABLES = tuple(
    f"tap_{name}" for name in ("uri", "control_id", "rtp_src_addr", "rtp_src_port", "ptime", "codec", "rate")
)
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """``rtp_ptime`` is in milliseconds and for ``rtp://`` alone; WebSockets have ``streams.frame_ms``."""

    uri: str = parameter(Text(min_length=1))
    control_id: str | None = parameter(Text(min_length=1, max_length=255), default=None)
    direction: str = parameter(Text(choices=DIRECTIONS), default="speak")
    codec: str = parameter(Text(choices=tuple(CODECS)), default="PCMU")
    rtp_ptime: int = parameter(Integer(), default=20)
    status_url: str | None = parameter(Url(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTap:
    """Without ``control_id``, the tap that was started last."""

    control_id: str | None = parameter(Text(min_length=1), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tapping:
    """What to tap and where it goes; shared by every way in.

    ``kind`` is ``rtp``, with ``addr`` (an address or a name), ``port`` and ``ptime`` in milliseconds, or ``ws``, with
    ``uri``. ``direction`` is one of ``speak``, ``listen``, ``both``; ``codec`` PCMU, PCMA or OPUS, in any case.
    """

    method: str
    kind: str
    direction: str
    control_id: str | None = None
    addr: str = ""
    port: int = 0
    uri: str = ""
    codec: str = "PCMU"
    ptime: int = 20
    status_url: str | None = None

    @classmethod
    def of(cls, params: Tap) -> Tapping:
        """The tap that a method's parameters ask for. Raises CommandFailed for a URI that leads nowhere."""
        scheme = params.uri.partition("://")[0].lower()
        target: dict[str, Any] = {}
        if scheme == "rtp":
            found = _RTP_URI.fullmatch(params.uri)
            if found is None:
                raise CommandFailed(
                    "tap", "an rtp URI has an address and a port and nothing else: rtp://192.0.2.7:4000"
                )
            target = {"kind": "rtp", "addr": found[1], "port": int(found[2])}
        elif scheme in ("ws", "wss"):
            target = {"kind": "ws", "uri": params.uri}
        else:
            raise CommandFailed("tap", "the URI must begin with rtp://, wss:// or ws://")
        return cls(
            method="tap",
            direction=params.direction,
            control_id=params.control_id,
            codec=params.codec,
            ptime=params.rtp_ptime,
            status_url=params.status_url,
            **target,
        )


@method("tap", Tap, result="tap_result")
def tap(call: Call, params: Tap) -> None:
    """Start a tap; the script goes on once audio goes there, or cannot."""
    call.vars["tap_result"] = "failed"
    if not call.controls.running("tap"):  # else `stop_tap` goes on to mean the one that runs
        call.vars.update(dict.fromkeys(_VARIABLES, ""))
    try:
        control = begin(call, Tapping.of(params))
    except FetchError as problem:
        raise CommandFailed("tap", str(problem)) from problem
    call.vars.update(
        tap_result="success",
        tap_uri=params.uri,
        tap_control_id=control.id,
        **{f"tap_{name}": value for name, value in control.detail["format"].items()},
        **{f"tap_rtp_src_{name}": value for name, value in control.detail["source"].items()},
    )


@method("stop_tap", StopTap, result="stop_tap_result")
def stop_tap(call: Call, params: StopTap) -> None:
    """Stop a tap; when this returns, nothing more is sent."""
    call.stop("tap", params.control_id, latest="tap_control_id", method="stop_tap")
    call.vars["stop_tap_result"] = "success"


def begin(call: Call, wish: Tapping, *, wait: bool = True) -> Control:
    """Start a tap, answering the call first; when this returns, audio goes to where it shall.

    Without ``wait`` a WebSocket is connected in the background, and one that does not come up is told by the end of
    the control alone.

    The control's ``detail`` holds ``tap`` and ``device`` as events show them, ``format`` (``codec``, ``rate`` in Hz,
    ``ptime`` in ms) and ``source`` (``addr``, ``port``: where packets come from, empty for a WebSocket). Its ``stop``
    waits for the end. A tap that could not be started ends as ``finished`` without having been ``tapping``, so that
    its control id is free again.

    Raises CommandFailed, LegGone, and FetchError for an address of packets that is refused or not found.
    """
    codec = wish.codec.upper()
    form = _format(call, wish, codec)
    try:
        control = call.control("tap", wish.control_id, method=wish.method, status_url=wish.status_url)
    except KeyError as taken:
        raise CommandFailed(wish.method, f"the control id {taken.args[0][:80]!r} is already tapping") from None
    control.stop = control.abandon = lambda: None if control.over else control.to("finished")
    rate = int(form.media_format["sampleRate"])
    control.detail["tap"] = {"type": "audio", "params": {"direction": wish.direction}}
    control.detail["format"] = {"codec": codec, "rate": rate, "ptime": form.frame_ms}
    control.detail["source"] = {"addr": "", "port": ""}
    try:
        if wish.kind == "rtp":
            _show(control, "rtp", addr=wish.addr.strip("[]"), port=wish.port, codec=codec, ptime=form.frame_ms)
            addr = _admitted(call, wish)
            _show(control, "rtp", addr=addr, port=wish.port, codec=codec, ptime=form.frame_ms)
            _start(control, _packets(control, wish, addr, form))
        else:
            _show(control, "ws", uri=wish.uri, codec=codec, rate=rate)
            _check_scheme(call, wish)
            messages = _messages(control, wish, form)
            if wait:
                _start(control, messages)
            else:
                call.leg.background(lambda: _start_beside(control, messages))
    except (CommandFailed, FetchError) as problem:
        if not control.over:
            control.to("finished")
        if isinstance(problem, CommandFailed):
            raise CommandFailed(wish.method, problem.reply) from problem
        raise
    return control


def _format(call: Call, wish: Tapping, codec: str) -> Format:
    """What is sent. Raises CommandFailed for what cannot be."""
    settings = call.services.streams
    if settings.mode != "hub":
        problem = "a tap needs streams.mode hub; in direct mode the call's audio does not come through fsctl"
        raise CommandFailed(wish.method, problem)
    if codec not in CODECS:
        raise CommandFailed(wish.method, f"the codec {wish.codec[:20]!r} is not offered; {', '.join(CODECS)} are")
    packets = wish.kind == "rtp"
    if packets and wish.ptime not in _PTIMES[codec]:
        offered = ", ".join(map(str, _PTIMES[codec]))
        raise CommandFailed(wish.method, f"packets of {wish.ptime} ms are not offered; with {codec}, {offered} are")
    try:
        form = parse_format(codec, rate=settings.sample_rate, frame_ms=20 if packets else settings.frame_ms)
    except ValueError as problem:
        raise CommandFailed(wish.method, str(problem)) from None
    return replace(form, frame_ms=wish.ptime) if packets else form


def _show(control: Control, kind: str, **params: Any) -> None:
    control.detail["device"] = {"type": kind, "params": params}


def _admitted(call: Call, wish: Tapping) -> str:
    """The first address of the target that packets may go to. Raises CommandFailed, FetchError.

    A name is looked up once: what is asked about and sent to is an address. It may be where WebSockets may go.
    """
    if not 1 <= wish.port <= 65_535:
        raise CommandFailed(wish.method, f"the port must be from 1 to 65535; it is {wish.port}")
    refusal: FetchError | None = None
    for addr in rtp.addresses(wish.addr, wish.port):
        try:
            call.services.web.admit(f"ws://{rtp.authority(addr, wish.port)}/")
        except FetchError as problem:
            refusal = refusal or problem
        else:
            return addr
    where = f"rtp://{rtp.authority(wish.addr, wish.port)}"
    if refusal is None:
        raise FetchError(where, "dns", "has no address")
    raise FetchError(where, refusal.reason, refusal.detail)


def _check_scheme(call: Call, wish: Tapping) -> None:
    """Refuse what is no WebSocket, and plain text unless the operator allows it."""
    scheme = wish.uri.partition("://")[0].lower()
    if scheme not in ("ws", "wss"):
        raise CommandFailed(wish.method, "the URI must begin with wss:// or ws://")
    if scheme == "ws" and not call.services.streams.allow_plaintext:
        raise CommandFailed(wish.method, "ws:// is not encrypted; streams.allow_plaintext would allow it")


def _packets(control: Control, wish: Tapping, addr: str, form: Format) -> RtpSpec:
    return RtpSpec(
        stream_id=control.id,
        call_id=control.call.info.call_id,
        addr=addr,
        port=wish.port,
        track=_RTP_TRACK[wish.direction],
        form=form,
    )


def _messages(control: Control, wish: Tapping, form: Format) -> StreamSpec:
    call = control.call
    return StreamSpec(
        stream_id=control.id,
        call_id=call.info.call_id,
        account_id=call.info.project_id,
        url=wish.uri,
        tracks=_TRACKS[wish.direction],
        form=form,
        reconnects=call.services.streams.reconnects,
    )


def _start(control: Control, spec: RtpSpec | StreamSpec) -> None:
    """Let the hub send, and give the control its ``stop``. Raises CommandFailed, LegGone."""
    call = control.call
    call.answer()
    streams = CallStreams.of(call)

    def changed(state: str, _: Ended | None) -> None:
        # One that finishes without having streamed is the failed start, which is raised.
        if control.over:
            return
        if state == "streaming":
            control.to("tapping")
        elif control.state == "tapping":
            control.to("finished")

    started = streams.start(spec, changed)
    if control.over and started.ended is None:
        streams.stop(started)
        raise CommandFailed(control.method, "it was stopped before it had begun")
    if isinstance(started, RtpStream):
        control.detail["source"] = dict(zip(("addr", "port"), started.source, strict=True))

    def stop() -> None:
        streams.stop(started)
        control.wait(_STOP_SECONDS)

    control.stop = stop


def _start_beside(control: Control, spec: StreamSpec) -> None:
    try:
        _start(control, spec)
    except CommandFailed as problem:
        if not control.over:
            control.to("finished")
        call_id = control.call.info.call_id
        log.info("tap_not_started", call_id=call_id, control_id=control.id, problem=problem.reply)


# -- live commands -----------------------------------------------------------------------------------------------

_CODEC = Text(choices=(*CODECS, *(name.lower() for name in CODECS)))


class Addr(Text):
    """An IPv4 address; whether packets may go there is the operator's."""

    def exact(self, value: Any, where: Where) -> str:
        """Raise ScriptError for anything else."""
        text = super().exact(value, where)
        try:
            return str(IPv4Address(text))
        except ValueError:
            raise ScriptError(INVALID_VALUE, f"`{where.parameter}` must be an IPv4 address", where) from None

    def schema(self) -> dict[str, Any]:
        """An IPv4 address."""
        return {"type": "string", "format": "ipv4"}


class Ptime(Integer):
    """The milliseconds of a packet."""

    def exact(self, value: Any, where: Where) -> int:
        """Raise ScriptError for anything else."""
        number = super().exact(value, where)
        if number % 10 or not 10 <= number <= 120:
            raise ScriptError(INVALID_VALUE, f"`{where.parameter}` must be 10, 20 … 120; it is {number}", where)
        return number

    def schema(self) -> dict[str, Any]:
        """A multiple of ten."""
        return {"type": "integer", "minimum": 10, "maximum": 120, "multipleOf": 10}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapParams:
    """What is tapped of the audio."""

    direction: str = parameter(Text(choices=DIRECTIONS))


@dataclass(frozen=True, slots=True, kw_only=True)
class TapWhat:
    """What is tapped: audio is all there is."""

    type: str = parameter(Text(choices=("audio",)))
    params: TapParams = parameter(Record(TapParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpParams:
    """Without ``codec`` and ``ptime``, those of the call."""

    addr: str = parameter(Addr())
    port: int = parameter(Integer(low=1, high=65_535))
    codec: str | None = parameter(_CODEC, default=None)
    ptime: int | None = parameter(Ptime(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WsParams:
    """Without ``codec``, that of the call."""

    uri: str = parameter(SocketUrl())
    codec: str | None = parameter(_CODEC, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyDevice:
    """What all have; a type that does not exist is found out by it."""

    type: str = parameter(Text(choices=("rtp", "ws")))
    params: Any = parameter(Object())


@dataclass(frozen=True, slots=True, kw_only=True)
class RtpDevice(AnyDevice):
    """Somebody who takes packets."""

    params: RtpParams = parameter(Record(RtpParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class WsDevice(AnyDevice):
    """Somebody who takes WebSockets."""

    params: WsParams = parameter(Record(WsParams))


_DEVICES: dict[str, type[AnyDevice]] = {"rtp": RtpDevice, "ws": WsDevice}


@dataclass(frozen=True, slots=True, kw_only=True)
class TapCommand:
    """The parameters of ``calling.tap``."""

    control_id: str = parameter(CONTROL_ID)
    tap: TapWhat = parameter(Record(TapWhat))
    device: AnyDevice = parameter(ByType(_DEVICES, AnyDevice))
    status_url: str | None = parameter(Url(), default=None)


def _tidy(given: dict[str, Any]) -> dict[str, Any]:
    """The official client's examples leave out ``params``."""
    return {name: lifted(value) if name in ("tap", "device") else value for name, value in given.items()}


@live_command("calling.tap", TapCommand, opens="tap", tidy=_tidy)
def live_tap(call: Call, params: TapCommand) -> None:
    """Tap beside whatever goes on; whether a WebSocket is accepted is told by events."""
    device = params.device.params
    codec = (device.codec or _of_call(call, "rtp_use_codec_name", ("PCMU", "PCMA"))).upper()
    wish = Tapping(
        method="calling.tap",
        kind=params.device.type,
        direction=params.tap.params.direction,
        control_id=params.control_id,
        codec=codec,
        status_url=params.status_url,
    )
    if isinstance(device, RtpParams):
        offered = _PTIMES[codec]
        ptime = device.ptime or int(_of_call(call, "rtp_use_codec_ptime", ("20", *map(str, offered))))
        if ptime not in offered:
            raise _refused("invalid_parameter", f"there are no {codec} packets of {ptime} ms", "ptime")
        wish = replace(wish, addr=device.addr, port=device.port, ptime=ptime)
    else:
        if device.uri.lower().startswith("ws:") and not call.services.streams.allow_plaintext:
            problem = "ws:// is not encrypted; streams.allow_plaintext would allow it"
            raise _refused("invalid_parameter", problem, "uri")
        try:
            call.services.web.admit(device.uri)
        except FetchError as refusal:
            if refusal.reason == "address":
                raise _refused("url_is_unsafe", str(refusal), "uri") from refusal
            # One that is not found may be found by the time it is needed: then the tap ends at once.
        wish = replace(wish, uri=device.uri)
    try:
        begin(call, wish, wait=False)
    except FetchError as refusal:
        raise _refused("url_is_unsafe", str(refusal), "addr") from refusal


def _of_call(call: Call, variable: str, known: tuple[str, ...]) -> str:
    """What FreeSWITCH negotiated, if we have it, too; else the first of ``known``."""
    found = call.leg.ask(commands.variable(call.leg.uuid, variable)).strip().upper()
    return found if found in known else known[0]


def _refused(code: str, message: str, name: str) -> ApiError:
    return ApiError(422, code, message, attribute=f"device.params.{name}")


@live_command("calling.tap.stop", ControlId, on="tap")
def live_tap_stop(control: Control, _params: ControlId) -> None:
    """Stop; when this is answered, nothing more is sent."""
    control.halt()
