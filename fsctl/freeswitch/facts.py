"""Everything fsctl hears from FreeSWITCH, as facts: the only file that names events and headers.

An event is 5 to 10 kB of JSON, of which one or two values matter. ``read`` looks for just those in the raw bytes and
decodes nothing else. That is safe because a quote inside a JSON string is always preceded by a backslash, so
``"Event-Name":"`` can only be a key. What is an event's own, FreeSWITCH puts behind the channel's 6 kB: such a header
is looked for from the end. Reference: freeswitch, sections 1.3, 3 and 5.5. Pure.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from fsctl.errors import ProtocolError
from fsctl.value import value

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
    "answer_state",
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


@value
class Heartbeat:
    """FreeSWITCH is alive; it says so every 20 seconds."""


@value
class Created:
    """The leg exists: it is being dialled, or has just arrived."""


@value
class Ringing:
    """It rings at the other end; with ``early_media``, what is heard there comes from the other end (183)."""

    early_media: bool


@value
class Answered:
    """The other end picked up."""


@value
class HungUp:
    """The leg is being hung up; nothing more can be asked of it."""

    cause: str


@value
class Ended:
    """The leg is gone, with the last word on why.

    ``mos`` is the quality of the received audio, if measured; ``answered`` tells whether the leg ever was.
    """

    cause: str
    disposition: str
    mos: float | None
    answered: bool = False


@value
class Began:
    """It is an application's turn: FreeSWITCH runs it now, and ``argument`` is what it sees."""

    application: str
    argument: str


@value
class Completed:
    """An application ended. ``operation`` is the id we gave it; ``response`` its own word (``FILE PLAYED`` …)."""

    operation: str
    response: str


@value
class Digit:
    """The party pressed ``digit``."""

    digit: str


@value
class RecordStopped:
    """The recording to ``path`` is complete; ``cause`` is FreeSWITCH's, ``milliseconds`` its length (0: unknown)."""

    path: str
    cause: str
    milliseconds: int


@value
class MixEnded:
    """The sound of that name is no longer mixed in: it came to its end, or was stopped."""

    name: str


@value
class JobDone:
    """A ``bgapi`` job ended; ``output`` is what the API printed."""

    job: str
    output: str


@value
class Speech:
    """News of the recogniser. ``kind`` is ``begin-speaking``, ``detected-speech`` (``result`` is its word), ``closed``.

    The same news may come twice.
    """

    kind: str
    result: str


@value
class StreamConnected:
    """mod_audio_stream's WebSocket is up."""


@value
class StreamFailed:
    """mod_audio_stream could not connect, or lost the protocol; it detached itself."""

    code: int
    problem: str


@value
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


_Bytes: TypeAlias = "bytes | bytearray"
_Place: TypeAlias = tuple[bool, bytes]  # whether a header stands near the end of an event, and its key


def _early(name: str) -> _Place:
    """A header that stands near the beginning of an event."""
    return False, f'"{name}":"'.encode()


def _late(name: str) -> _Place:
    """A header that stands near the end."""
    return True, f'"{name}":"'.encode()


def value_of(data: _Bytes, key: bytes, start: int = 0, end: int | None = None) -> str:
    """The text of header ``key`` (as ``b'"Name":"'``) of the JSON event ``data[start:end]``; empty when it has none."""
    return _texts(data, start, len(data) if end is None else end, ((False, key),))[0]


def _texts(data: _Bytes, begin: int, over: int, places: tuple[_Place, ...]) -> list[str]:
    """The texts of several headers of the event there, each empty when it has no such header."""
    texts = []
    for late, key in places:
        text = ""
        start = data.rfind(key, begin, over) if late else data.find(key, begin, over)
        if start >= 0:
            start += len(key)
            end = data.find(b'"', start, over)
            raw = data[start:end]
            text = _escaped(data, start, over) if end < 0 or b"\\" in raw else str(raw, "utf-8", "replace")
        texts.append(text)
    return texts


def _escaped(data: _Bytes, start: int, over: int) -> str:
    """The JSON string that begins there, behind its quote, whatever it holds; empty when it does not end."""
    end = data.find(b'"', start, over)
    while end > 0 and data[end - 1] == 0x5C:  # a backslash: escaped, unless it is itself escaped
        backslashes = end - 1
        while data[backslashes] == 0x5C:
            backslashes -= 1
        if (end - 1 - backslashes) % 2 == 0:
            break
        end = data.find(b'"', end + 1, over)
    if end < 0:
        return ""
    try:
        return str(json.loads(b'"' + data[start:end] + b'"', strict=False))
    except ValueError:
        return ""


def read(data: _Bytes, start: int = 0, end: int | None = None) -> Fact | None:
    """The fact in the JSON event ``data[start:end]``, or None for one nobody needs."""
    if end is None:
        end = len(data)
    (name,) = _texts(data, start, end, _NAME)
    if name == "CUSTOM":
        (name,) = _texts(data, start, end, _SUBCLASS)
    reader = _READERS.get(name)
    if reader is None:
        return None
    make, places = reader
    return make(*_texts(data, start, end, places))


def channel_of(data: _Bytes, start: int = 0, end: int | None = None) -> str:
    """The UUID of the channel that the JSON event ``data[start:end]`` is about; empty when it is about none."""
    return value_of(data, b'"Unique-ID":"', start, end)


def _ended(cause: str, disposition: str, mos: str, answered: str) -> Ended:
    return Ended(cause, disposition, _number(mos), answered not in ("", "0"))


def _mix_ended(function: str, name: str) -> MixEnded | None:
    return MixEnded(name) if function == "displace" else None  # recordings and streams are told of otherwise


def _record_stopped(path: str, cause: str, milliseconds: str) -> RecordStopped:
    return RecordStopped(path, cause, int(_number(milliseconds) or 0))


def _stream_failed(body: str) -> StreamFailed:
    message = _message(body)
    return StreamFailed(int(_number(str(message.get("code", ""))) or 0), str(message.get("error", "")))


def _stream_disconnected(body: str) -> StreamDisconnected:
    message = _message(body)
    return StreamDisconnected(int(_number(str(message.get("code", ""))) or 0), str(message.get("reason", "")))


def _message(body: str) -> Mapping[str, Any]:
    """The ``message`` object of a mod_audio_stream event's body; empty when it has none."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return {}
    return message if isinstance(message, dict) else {}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_NAME = (_early("Event-Name"),)
_SUBCLASS = (_early("Event-Subclass"),)
# What makes a fact of an event, and the headers it is given.
_READERS: dict[str, tuple[Callable[..., Fact | None], tuple[_Place, ...]]] = {
    "CHANNEL_EXECUTE": (Began, (_late("Application"), _late("Application-Data"))),
    "CHANNEL_EXECUTE_COMPLETE": (Completed, (_late("Application-UUID"), _late("Application-Response"))),
    "CHANNEL_HANGUP": (HungUp, (_early("Hangup-Cause"),)),
    "CHANNEL_HANGUP_COMPLETE": (
        _ended,
        (
            _early("Hangup-Cause"),
            _late("variable_sip_hangup_disposition"),
            _late("variable_rtp_audio_in_mos"),
            _early("Caller-Channel-Answered-Time"),
        ),
    ),
    "DTMF": (Digit, (_late("DTMF-Digit"),)),
    "RECORD_STOP": (
        _record_stopped,
        (_late("Record-File-Path"), _late("Record-Completion-Cause"), _late("variable_record_ms")),
    ),
    "MEDIA_BUG_STOP": (_mix_ended, (_late("Media-Bug-Function"), _late("Media-Bug-Target"))),
    "BACKGROUND_JOB": (JobDone, (_late("Job-UUID"), _late("_body"))),
    "DETECTED_SPEECH": (Speech, (_late("Speech-Type"), _late("_body"))),
    "HEARTBEAT": (Heartbeat, ()),
    "CHANNEL_CREATE": (Created, ()),
    "CHANNEL_PROGRESS": (partial(Ringing, early_media=False), ()),
    "CHANNEL_PROGRESS_MEDIA": (partial(Ringing, early_media=True), ()),
    "CHANNEL_ANSWER": (Answered, ()),
    "mod_audio_stream::connect": (StreamConnected, ()),
    "mod_audio_stream::error": (_stream_failed, (_early("_body"),)),
    "mod_audio_stream::disconnect": (_stream_disconnected, (_early("_body"),)),
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
_VARIABLES = {
    name: f"variable_{name}"
    for name in (
        *_SIP_DATA,
        *_SETTINGS,
        "sip_via_protocol",
        "sip_gateway_name",
        "sip_gateway",
        "sip_hangup_disposition",
        "sofia_profile_name",
        "swml_url",
        "swml_call_type",
        "app_disable_expand_variables",
        "rtp_audio_in_mos",
    )
}
_CUSTOM_HEADER = "variable_sip_h_"
_HEADERS = (
    "Unique-ID",
    "Call-Direction",
    "Answer-State",
    "FreeSWITCH-Switchname",
    "FreeSWITCH-Hostname",
    "Caller-Caller-ID-Number",
    "Caller-Orig-Caller-ID-Number",
    "Caller-Destination-Number",
    "Caller-Channel-Answered-Time",
    "Hangup-Cause",
    "Control",
)
# Of 160 headers the 30 that matter are found in one go; the others cost no memory.
_WANTED = re.compile(
    r"\n(variable_(?:sip_(?:{}|h_[^\n:]*)|{})|{}): ([^\n]*)".format(
        "|".join(name.removeprefix("sip_") for name in _VARIABLES if name.startswith("sip_")),
        "|".join(name for name in _VARIABLES if not name.startswith("sip_")),
        "|".join(_HEADERS),
    )
)


@value
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
    """Read the answer to ``connect``: of its URL-encoded values those that matter.

    Of two headers of one name the first counts: what follows cannot replace it.
    Raises ProtocolError when it is not one, or names no usable channel.
    """
    found = _channel_data(block)
    told = found.get
    direction = "outbound" if told("Call-Direction") == "outbound" else "inbound"
    caller_number = told("Caller-Caller-ID-Number", "")
    if direction == "outbound":  # once a leg that it dialled is up, FreeSWITCH makes the callee the caller
        caller_number = told("Caller-Orig-Caller-ID-Number") or caller_number
    variables = {name: told(key, "") for name, key in _VARIABLES.items()}
    state = told("Answer-State", "")
    ended = None
    if state == "hangup":
        ended = _ended(
            told("Hangup-Cause", ""),
            variables["sip_hangup_disposition"],
            variables["rtp_audio_in_mos"],
            told("Caller-Channel-Answered-Time", ""),
        )
    return Offered(
        uuid=found["Unique-ID"],
        node=told("FreeSWITCH-Switchname") or told("FreeSWITCH-Hostname", ""),
        direction=direction,
        answer_state=state,
        caller_number=caller_number,
        destination_number=told("Caller-Destination-Number", ""),
        from_uri=variables["sip_from_uri"],
        to_uri=variables["sip_to_uri"],
        transport=variables["sip_via_protocol"],
        gateway=variables["sip_gateway_name"] or variables["sip_gateway"],
        profile=variables["sofia_profile_name"],
        swml_url=variables["swml_url"],
        call_type=variables["swml_call_type"],
        expands=variables["app_disable_expand_variables"] != "true",
        full_control=told("Control") != "single-channel",
        settings={name: variables[name] for name in _SETTINGS},
        headers=_custom_headers(found),
        sip_data={name: value for name in _SIP_DATA if (value := variables[name])},
        ended=ended,
    )


def answer_state(block: bytes) -> str:
    """Of the answer to ``connect``, only the channel's state (see ``Offered``). Raises as ``offered``."""
    return _channel_data(block).get("Answer-State", "")


def _channel_data(block: bytes) -> dict[str, str]:
    """The headers that matter, in their order. ProtocolError when no channel is named."""
    if not block.isascii():  # FreeSWITCH encodes what is not; whatever comes, values are decoded in one place
        block = _BEYOND_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), block)
    text = str(block, "ascii")
    found: dict[str, str] = {}
    if text.startswith("Event-Name: CHANNEL_DATA\n"):
        for name, value in _WANTED.findall(text):
            if name not in found:
                found[name] = _decoded(value) if "%" in value else value
    if not found.get("Unique-ID", "").replace("-", "").isalnum():
        raise ProtocolError("the answer to `connect` names no channel")
    return found


def _custom_headers(found: Mapping[str, str]) -> tuple[Mapping[str, str], ...]:
    """The caller's own SIP headers."""
    named = [name for name in found if name.startswith(_CUSTOM_HEADER)]
    return tuple([{"name": _decoded(name[len(_CUSTOM_HEADER) :]), "value": found[name]} for name in named])


_BEYOND_ASCII = re.compile(rb"[^\x00-\x7f]")
_ESCAPES = {digits % number: chr(number) for number in range(256) for digits in ("%02X", "%02x")}


def _decoded(text: str) -> str:
    """A URL-encoded value as text; a percent sign that begins no escape stays. Newlines around it go."""
    if "%" not in text:
        return text
    text = text.replace("%40", "@").replace("%2B", "+").replace("%3A", ":")  # most addresses are done then
    if "%" not in text:
        return text
    first, *rest = text.split("%")
    parts = [_ESCAPES[part[:2]] + part[2:] if part[:2] in _ESCAPES else "%" + part for part in rest]
    decoded = (first + "".join(parts)).strip("\n")  # a character is a byte here
    return decoded if decoded.isascii() else decoded.encode("latin-1").decode("utf-8", "replace")
