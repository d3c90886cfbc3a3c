"""record: what the party says (or hears) into a file, while the script waits.

Reference: swml-calling 3.5, webhooks 3.5.

Also the common part of ``record_call``: FreeSWITCH's session recording, which sees silence itself and stops beside
whatever else runs. Its own length limit counts in whole epoch seconds and may come a second early, so the exact limit
is ours and FreeSWITCH's only a net below it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.errors import CommandFailed
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import Digit, RecordStopped
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Number, Text, Url, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.media.recordings import Recording

__all__ = ["Capture", "beep", "begin", "record"]

log = structlog.get_logger(__name__)

FORMATS = ("wav", "mp3", "mp4")
TERMINATORS = r"[0-9A-Da-d*#]*"
BEEP = "tone_stream://%(250,0,1000)"
_BEEP_SECONDS = 5.0
_STOP_SECONDS = 30.0
# FreeSWITCH's energy threshold at the language's default sensitivity, and the sensitivity it belongs to.
_DEFAULT_THRESHOLD = 200
_DEFAULT_SENSITIVITY = 44.0

# FreeSWITCH would hold back 25 frames to align both directions, and drop them, half a second, at the stop. And a
# recording with a thread of its own that begins within the 10 ms in which the party hangs up would leave that thread
# waiting, and the session with it, until FreeSWITCH is restarted.
PLAIN = {"RECORD_PRE_BUFFER_FRAMES": "0", "RECORD_USE_THREAD": "false"}

_OUTCOMES = {
    "success-maxtime": "finished",  # also a stop by command
    "success-silence": "finished",
    "": "finished",
    "no-input-timeout": "no_input",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Times in seconds; ``input_sensitivity`` from 0 to 100, larger hears quieter speech."""

    stereo: bool = parameter(Boolean(), default=False)
    format: str = parameter(Text(choices=FORMATS), default="wav")
    direction: str = parameter(Text(choices=("speak", "listen")), default="speak")
    terminators: str = parameter(Text(pattern=TERMINATORS), default="#")
    beep: bool = parameter(Boolean(), default=False)
    input_sensitivity: float = parameter(Number(low=0, high=100), default=_DEFAULT_SENSITIVITY)
    initial_timeout: float = parameter(Number(low=0), default=4.0)
    end_silence_timeout: float = parameter(Number(low=0), default=5.0)
    max_length: float | None = parameter(Number(low=0), default=None)
    status_url: str | None = parameter(Url(), default=None)


@dataclass(frozen=True, slots=True)
class Capture:
    """What to record and what ends it; shared by every way in. Zero and None mean "no limit"."""

    method: str
    control_id: str | None
    stereo: bool
    format: str
    direction: str
    terminators: str
    input_sensitivity: float
    initial_timeout: float
    end_silence_timeout: float
    max_length: float | None
    status_url: str | None

    @classmethod
    def of(cls, method_name: str, params: Any) -> Capture:
        """The capture that a method's parameters ask for."""
        named: dict[str, Any] = {name: getattr(params, name, None) for name in cls.__slots__ if name != "method"}
        return cls(method=method_name, **named)


@method("record", Record, result="record_result")
def record(call: Call, params: Record) -> None:
    """Record until a terminator, silence, the longest length or the hangup."""
    call.vars.update(record_url="", record_result="failed")
    call.answer()
    if params.beep:
        beep(call)
    control, recording = begin(call, Capture.of("record", params))
    control.wait()
    if control.state == "finished":
        call.vars.update(record_url=recording.url, record_result="success")


def beep(call: Call) -> None:
    """Let the party hear that the recording begins."""
    call.leg.execute(commands.playback(BEEP), _BEEP_SECONDS)


def begin(call: Call, capture: Capture) -> tuple[Control, Recording]:
    """Start recording and return at once; everything that ends it is in place.

    Raises CommandFailed when FreeSWITCH cannot record (for mp3 it needs mod_shout, for mp4 mod_av) or the disk is full.
    """
    leg = call.leg
    try:
        control = call.control("record", capture.control_id, method=capture.method, status_url=capture.status_url)
    except KeyError as taken:
        raise CommandFailed(capture.method, f"the control id {taken.args[0][:80]!r} is already recording") from None
    detail: dict[str, Any] = {
        "format": capture.format,
        "direction": capture.direction,
        "stereo": capture.stereo,
    }
    started = call.clock.now()
    try:
        recording = call.services.recordings.new(capture.format)
        detail["recording_id"] = recording.id
        control.on_over(leg.react(RecordStopped, _Ending(call, control, recording, started)))
        leg.ask(commands.record_start(leg.uuid, str(recording.path), _safety_limit(capture), _variables(capture)))
    except CommandFailed as refused:
        control.to("error", **detail)
        if capture.format != "wav":
            log.error("cannot_record", format=capture.format, hint="mp3 needs mod_shout loaded, mp4 needs mod_av")
        raise CommandFailed(capture.method, f"cannot record {capture.format}: {refused.reply}") from refused
    except OSError as problem:
        control.to("error", **detail)
        raise CommandFailed(capture.method, f"cannot write recordings: {problem}") from problem
    control.stop = lambda: _stop(control, recording)
    control.abandon = lambda: _lost(control, recording, started)
    control.to("recording", **detail)
    if capture.terminators:
        terminators = frozenset(capture.terminators.upper())

        def pressed(fact: Digit) -> None:
            if fact.digit in terminators:
                leg.tell(commands.record_stop(leg.uuid, str(recording.path)))

        control.on_over(leg.react(Digit, pressed))
    if capture.max_length:
        timer = call.clock.alarm(capture.max_length, leg.tell, commands.record_stop(leg.uuid, str(recording.path)))
        control.on_over(timer.kill)
    return control, recording


def _stop(control: Control, recording: Recording) -> None:
    """Stop, and wait until the file is complete."""
    leg = control.call.leg
    leg.ask(commands.record_stop(leg.uuid, str(recording.path)))
    if not control.wait(_STOP_SECONDS):
        raise CommandFailed(control.method, f"the recording did not end within {_STOP_SECONDS:g} s")


class _Ending:
    """What the control makes of FreeSWITCH's word that its file is complete."""

    def __init__(self, call: Call, control: Control, recording: Recording, started: float) -> None:
        self._call = call
        self._control = control
        self._recording = recording
        self._started = started

    def __call__(self, fact: RecordStopped) -> None:
        if fact.path != str(self._recording.path):
            return
        outcome = _OUTCOMES.get(fact.cause, "error")
        detail = _facts(self._call, self._recording, self._started, fact.milliseconds)
        if outcome != "finished":
            detail.pop("url", None)
        self._control.to(outcome, **detail)


def _facts(call: Call, recording: Recording, started: float, milliseconds: int) -> dict[str, Any]:
    size = call.services.recordings.size(recording.path)
    return {
        "url": recording.url,
        "duration": milliseconds / 1000,
        "size": size,
        "start_time": started,
        "end_time": call.clock.now(),
    }


def _lost(control: Control, recording: Recording, started: float) -> None:
    """The call is over and FreeSWITCH never said that the file was complete: say what there is."""
    size, seconds = control.call.services.recordings.facts(recording.path)
    if size:
        control.to("finished", **_facts(control.call, recording, started, round(1000 * (seconds or 0))))
    else:
        control.to("error")


def _safety_limit(capture: Capture) -> int:
    return math.ceil(capture.max_length) + 2 if capture.max_length else 0


def _variables(capture: Capture) -> dict[str, str]:
    """FreeSWITCH's words for what the capture asks for."""
    variables = dict(PLAIN)
    if capture.stereo:
        variables["RECORD_STEREO"] = "true"
    if capture.direction == "speak":
        variables["RECORD_READ_ONLY"] = "true"
    if capture.direction == "listen":
        variables["RECORD_WRITE_ONLY"] = "true"
    if capture.initial_timeout:
        variables["RECORD_INITIAL_TIMEOUT_MS"] = str(round(capture.initial_timeout * 1000))
    if capture.end_silence_timeout:
        variables["RECORD_FINAL_TIMEOUT_MS"] = str(round(capture.end_silence_timeout * 1000))
    if capture.initial_timeout or capture.end_silence_timeout:
        variables["RECORD_SILENCE_THRESHOLD"] = str(_threshold(capture.input_sensitivity))
    return variables


def _threshold(sensitivity: float) -> int:
    """FreeSWITCH's energy threshold: 200 at the default of 44, falling to 1 as the sensitivity rises to 100."""
    return max(round(_DEFAULT_THRESHOLD * (100 - sensitivity) / (100 - _DEFAULT_SENSITIVITY)), 1)
