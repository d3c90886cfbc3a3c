"""Everything fsctl hears from FreeSWITCH, as facts: the only file that names events and headers.

An event is 5 to 10 kB of JSON, of which one or two values matter. ``read`` looks for just those in the raw bytes and
decodes nothing else. That is safe because a quote inside a JSON string is always preceded by a backslash, so
``"Event-Name":"`` can only be a key. Reference: freeswitch, sections 1.3, 3 and 5.5. Pure.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fsctl.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "CUSTOM_EVENTS",
    "EVENTS",
    "MIX_EVENTS",
    "SPEECH_EVENTS",
    "SWITCH_EVENTS",
    "TURN_EVENTS",
    "Answered",
    "Began",
    "Completed",
    "Created",
    "Digit",
    "Ended",
    "Fact",
    "Heartbeat",
    "HungUp",
    "JobDone",
    "MixEnded",
    "Offered",
    "RecordStopped",
    "Ringing",
    "Speech",
    "StreamConnected",
    "StreamDisconnected",
    "StreamFailed",
    "channel_of",
    "offered",
    "read",
    "value_of",
]

# What every call subscribes to: each costs FreeSWITCH and us 6 kB, so nothing is here that nobody reads.
EVENTS = (
    "CHANNEL_EXECUTE_COMPLETE",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
    "DTMF",
    "RECORD_STOP",
    "BACKGROUND_JOB",
)
# What a method subscribes to when it needs it.
SPEECH_EVENTS = ("DETECTED_SPEECH",)
MIX_EVENTS = ("MEDIA_BUG_STOP",)
TURN_EVENTS = ("CHANNEL_EXECUTE",)
CUSTOM_EVENTS = ("mod_audio_stream::connect", "mod_audio_stream::disconnect", "mod_audio_stream::error")
# What the connection to the switch itself subscribes to: the life of a channel from outside.
SWITCH_EVENTS = (
    "BACKGROUND_JOB",
    "HEARTBEAT",
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_HANGUP",
    "CHANNEL_HANGUP_COMPLETE",
)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """FreeSWITCH is alive; it says so every 20 seconds."""


@dataclass(frozen=True, slots=True)
class Created:
    """The leg exists: it is being dialled, or has just arrived."""


@dataclass(frozen=True, slots=True)
class Ringing:
    """It rings at the other end; with ``early_media``, what is heard there comes from the other end (183)."""

    early_media: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The other end picked up."""


@dataclass(frozen=True, slots=True)
class HungUp:
    """The leg is being hung up; nothing more can be asked of it."""

    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The leg is gone, with the last word on why.

    ``mos`` is the quality of the received audio, if measured; ``answered`` tells whether the leg ever was.
    """

    cause: str
    disposition: str
    mos: float | None
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Began:
    """It is an application's turn: FreeSWITCH runs it now, and ``argument`` is what it sees."""

    application: str
    argument: str


@dataclass(frozen=True, slots=True)
class Completed:
    """An application ended. ``operation`` is the id we gave it; ``response`` its own word (``FILE PLAYED`` …)."""

    operation: str
    response: str


@dataclass(frozen=True, slots=True)
class Digit:
    """The party pressed ``digit``."""

    digit: str


@dataclass(frozen=True, slots=True)
class RecordStopped:
    """The recording to ``path`` is complete; ``cause`` is FreeSWITCH's, ``milliseconds`` its length (0: unknown)."""

    path: str
    cause: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class MixEnded:
    """The sound of that name is no longer mixed in: it came to its end, or was stopped."""

    name: str


@dataclass(frozen=True, slots=True)
class JobDone:
    """A ``bgapi`` job ended; ``output`` is what the API printed."""

    job: str
    output: str


@dataclass(frozen=True, slots=True)
class Speech:
    """News of the recogniser. ``kind`` is ``begin-speaking``, ``detected-speech`` (``result`` is its word), ``closed``.

    The same news may come twice.
    """

    kind: str
    result: str


@dataclass(frozen=True, slots=True)
class StreamConnected:
    """mod_audio_stream's WebSocket is up."""


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """mod_audio_stream could not connect, or lost the protocol; it detached itself."""

    code: int
    problem: str


@dataclass(frozen=True, slots=True)
class StreamDisconnected:
    """The far end closed the WebSocket; the module stays attached until it is told to stop."""

    code: int
    reason: str


Fact: TypeAlias = (
    Heartbeat
    | Created
    | Ringing
    | Answered
    | HungUp
    | Ended
    | Began
    | Completed
    | Digit
    | RecordStopped
    | MixEnded
    | JobDone
    | Speech
    | StreamConnected
    | StreamFailed
    | StreamDisconnected
)


def value_of(event: bytes, key: bytes) -> str:
    """The text of header ``key`` (as ``b'"Name":"'``) in a JSON event; empty when the event has no such header."""
    start = event.find(key)
    if start < 0:
        return ""
    start += len(key)
    end = event.find(b'"', start)
    while end > 0 and event[end - 1] == 0x5C:  # a backslash: escaped, unless it is itself escaped
        backslashes = end - 1
        while event[backslashes] == 0x5C:
            backslashes -= 1
        if (end - 1 - backslashes) % 2 == 0:
            break
        end = event.find(b'"', end + 1)
    if end < 0:
        return ""
    raw = event[start:end]
    if b"\\" in raw:
        try:
            return str(json.loads(b'"' + raw + b'"', strict=False))
        except ValueError:
            return ""
    return raw.decode("utf-8", "replace")


def read(event: bytes) -> Fact | None:
    """The fact in a JSON event, or None for one nobody needs."""
    name = value_of(event, b'"Event-Name":"')
    if name == "CUSTOM":
        name = value_of(event, b'"Event-Subclass":"')
    reader = _READERS.get(name)
    return reader(event) if reader else None


def channel_of(event: bytes) -> str:
    """The UUID of the channel a JSON event is about; empty when it is about none."""
    return value_of(event, b'"Unique-ID":"')


def _ended(event: bytes) -> Ended:
    mos = value_of(event, b'"variable_rtp_audio_in_mos":"')
    return Ended(
        value_of(event, b'"Hangup-Cause":"'),
        value_of(event, b'"variable_sip_hangup_disposition":"'),
        _number(mos),
        value_of(event, b'"Caller-Channel-Answered-Time":"') not in ("", "0"),
    )


def _completed(event: bytes) -> Completed:
    return Completed(value_of(event, b'"Application-UUID":"'), value_of(event, b'"Application-Response":"'))


def _mix_ended(event: bytes) -> MixEnded | None:
    if value_of(event, b'"Media-Bug-Function":"') != "displace":  # recordings and streams are told of otherwise
        return None
    return MixEnded(value_of(event, b'"Media-Bug-Target":"'))


def _record_stopped(event: bytes) -> RecordStopped:
    return RecordStopped(
        value_of(event, b'"Record-File-Path":"'),
        value_of(event, b'"Record-Completion-Cause":"'),
        int(_number(value_of(event, b'"variable_record_ms":"')) or 0),
    )


def _job_done(event: bytes) -> JobDone:
    return JobDone(value_of(event, b'"Job-UUID":"'), value_of(event, b'"_body":"'))


def _stream_failed(event: bytes) -> StreamFailed:
    message = _message(event)
    return StreamFailed(int(_number(str(message.get("code", ""))) or 0), str(message.get("error", "")))


def _stream_disconnected(event: bytes) -> StreamDisconnected:
    message = _message(event)
    return StreamDisconnected(int(_number(str(message.get("code", ""))) or 0), str(message.get("reason", "")))


def _message(event: bytes) -> Mapping[str, Any]:
    """The ``message`` object of a mod_audio_stream event's body; empty when it has none."""
    try:
        message = json.loads(value_of(event, b'"_body":"'))["message"]
    except (ValueError, KeyError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_READERS: dict[str, Callable[[bytes], Fact | None]] = {
    "CHANNEL_EXECUTE": lambda event: Began(
        value_of(event, b'"Application":"'), value_of(event, b'"Application-Data":"')
    ),
    "CHANNEL_EXECUTE_COMPLETE": _completed,
    "CHANNEL_HANGUP": lambda event: HungUp(value_of(event, b'"Hangup-Cause":"')),
    "CHANNEL_HANGUP_COMPLETE": _ended,
    "DTMF": lambda event: Digit(value_of(event, b'"DTMF-Digit":"')),
    "RECORD_STOP": _record_stopped,
    "MEDIA_BUG_STOP": _mix_ended,
    "BACKGROUND_JOB": _job_done,
    "DETECTED_SPEECH": lambda event: Speech(value_of(event, b'"Speech-Type":"'), value_of(event, b'"_body":"')),
    "HEARTBEAT": lambda _: Heartbeat(),
    "CHANNEL_CREATE": lambda _: Created(),
    "CHANNEL_PROGRESS": lambda _: Ringing(early_media=False),
    "CHANNEL_PROGRESS_MEDIA": lambda _: Ringing(early_media=True),
    "CHANNEL_ANSWER": lambda _: Answered(),
    "mod_audio_stream::connect": lambda _: StreamConnected(),
    "mod_audio_stream::error": _stream_failed,
    "mod_audio_stream::disconnect": _stream_disconnected,
}


# -- the answer to `connect` -------------------------------------------------------------------------------------

_SIP_DATA = (
    "sip_req_user",
    "sip_req_host",
    "sip_req_uri",
    "sip_from_user",
    "sip_from_host",
    "sip_from_uri",
    "sip_to_user",
    "sip_to_host",
    "sip_to_uri",
    "sip_contact_user",
    "sip_contact_host",
    "sip_contact_uri",
    "sip_contact_port",
)
_SETTINGS = ("playback_terminators", "send_silence_when_idle")
_CUSTOM_HEADER = b"variable_sip_h_"


@dataclass(frozen=True, slots=True)
class Offered:
    """The channel FreeSWITCH offers us, read once. Nobody reads a header of it afterwards.

    ``expands`` tells whether application arguments are expanded on this channel (they are, unless the dialplan
    set ``app_disable_expand_variables``). ``answer_state`` is FreeSWITCH's (``ringing``, ``early``, ``answered``,
    ``hangup``); ``swml_url`` and ``call_type`` the dialplan's wishes, empty when it has none; ``settings`` what it
    set of the channel variables that fsctl wants set. ``ended`` is how a channel ended that is already gone.
    """

    uuid: str
    node: str
    direction: str
    answer_state: str
    caller_number: str
    destination_number: str
    from_uri: str
    to_uri: str
    transport: str
    gateway: str
    profile: str
    swml_url: str
    call_type: str
    expands: bool
    full_control: bool
    settings: Mapping[str, str]
    headers: tuple[Mapping[str, str], ...]
    sip_data: Mapping[str, str]
    ended: Ended | None = None


def offered(block: bytes) -> Offered:
    """Read the answer to ``connect``: URL-encoded values, decoded one by one after the lines were split.

    Raises ProtocolError when it is not one, or names no usable channel.
    """
    raw: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b": ")
        if name not in raw:  # of two headers of one name the first counts: what follows cannot replace it
            raw[name] = value

    def get(name: str) -> str:
        value = raw.get(name.encode())
        return "" if value is None else _decoded(value)

    uuid = get("Unique-ID")
    if get("Event-Name") != "CHANNEL_DATA" or not uuid or not uuid.replace("-", "").isalnum():
        raise ProtocolError("the answer to `connect` names no channel")
    sip_data = ((name, get(f"variable_{name}")) for name in _SIP_DATA)
    direction = "outbound" if get("Call-Direction") == "outbound" else "inbound"
    # Once a leg that it dialled is up, FreeSWITCH makes the callee the caller.
    caller_number = get("Caller-Orig-Caller-ID-Number") if direction == "outbound" else ""
    return Offered(
        uuid=uuid,
        node=get("FreeSWITCH-Switchname") or get("FreeSWITCH-Hostname"),
        direction=direction,
        answer_state=get("Answer-State"),
        caller_number=caller_number or get("Caller-Caller-ID-Number"),
        destination_number=get("Caller-Destination-Number"),
        from_uri=get("variable_sip_from_uri"),
        to_uri=get("variable_sip_to_uri"),
        transport=get("variable_sip_via_protocol"),
        gateway=get("variable_sip_gateway_name") or get("variable_sip_gateway"),
        profile=get("variable_sofia_profile_name"),
        swml_url=get("variable_swml_url"),
        call_type=get("variable_swml_call_type"),
        expands=get("variable_app_disable_expand_variables") != "true",
        full_control=get("Control") != "single-channel",
        settings={name: get(f"variable_{name}") for name in _SETTINGS},
        headers=tuple(
            {"name": _decoded(name.removeprefix(_CUSTOM_HEADER)), "value": _decoded(value)}
            for name, value in (raw.items() if _CUSTOM_HEADER in block else ())
            if name.startswith(_CUSTOM_HEADER)
        ),
        sip_data={name: value for name, value in sip_data if value},
        ended=Ended(
            get("Hangup-Cause"),
            get("variable_sip_hangup_disposition"),
            _number(get("variable_rtp_audio_in_mos")),
            get("Caller-Channel-Answered-Time") not in ("", "0"),
        )
        if get("Answer-State") == "hangup"
        else None,
    )


_ESCAPES = {digits % number: bytes([number]) for number in range(256) for digits in (b"%02X", b"%02x")}


def _decoded(raw: bytes) -> str:
    """A URL-encoded value as text; a percent sign that begins no escape stays. One trailing newline goes."""
    if b"%" in raw:
        first, *rest = raw.split(b"%")
        raw = first + b"".join(
            [_ESCAPES[part[:2]] + part[2:] if part[:2] in _ESCAPES else b"%" + part for part in rest]
        )
        raw = raw.strip(b"\n")
    return raw.decode("utf-8", "replace")
