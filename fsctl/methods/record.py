"""record: what the party says (or hears) into a file, while the script waits; calling.record: while anything goes on.

Reference: swml-calling 3.5, calling-api 4.2, webhooks 3.5.

Also the common part of ``record_call``: FreeSWITCH's session recording, which sees silence itself and stops beside
whatever else runs. Its own length limit counts in whole epoch seconds and may come a second early, so the exact limit
is ours and FreeSWITCH's only a net below it.

Any recording can be paused, whoever started it. A pause stops no clock: ``max_length`` is the time from the start to
the end, and silence that began before a pause has grown by it. FreeSWITCH measures both and cannot be told otherwise,
so a recording that shall survive its pauses has ``end_silence_timeout`` and ``initial_timeout`` 0.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.live import CONTROL_ID, ControlId, live_command
from fsctl.errors import ApiError, CommandFailed, Interrupted
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import Digit, RecordStopped
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Integer, Number, Text, Url, parameter
from fsctl.swml.parameters import Record as Nested
from fsctl.value import value

if TYPE_CHECKING:
    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.freeswitch.commands import Api
    from fsctl.media.recordings import Recording

__all__ = ["Capture", "beep", "begin", "record"]

log = structlog.get_logger(__name__)

_beeps = itertools.count(1)

FORMATS = ("wav", "mp3", "mp4")
TERMINATORS = r"[0-9A-Da-d*#]*"
BEEP = "tone_stream://%(250,0,1000)"
_BEEP_SECONDS = 5.0
_BEEP_LASTS = 0.25
_ITS_TURN_SECONDS = 14400.0  # as long as a sound may last
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


@value
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
        return cls(
            method_name,
            getattr(params, "control_id", None),
            params.stereo,
            params.format,
            params.direction,
            params.terminators,
            params.input_sensitivity,
            params.initial_timeout,
            params.end_silence_timeout,
            params.max_length,
            getattr(params, "status_url", None),
        )


@method("record", Record, result="record_result")
def record(call: Call, params: Record) -> None:
    """Record until a terminator, silence, the longest length or the hangup."""
    call.vars.update(record_url="", record_result="failed")
    call.answer()
    if params.beep:
        beep(call)
    control, recording = begin(call, Capture.of("record", params))
    try:
        control.wait()
    except Interrupted:
        call.leg.tell(commands.record_stop(call.leg.uuid, recording.file))
        raise
    if control.state == "finished":
        call.vars.update(record_url=recording.url, record_result="success")


def beep(call: Call) -> None:
    """Let the party hear that the recording begins."""
    call.leg.execute(commands.playback(BEEP), _BEEP_SECONDS)


def begin(call: Call, capture: Capture) -> tuple[Control, Recording]:
    """Start recording and return at once; everything that ends it is in place.

    Raises CommandFailed when FreeSWITCH cannot record (for mp3 it needs mod_shout, for mp4 mod_av) or the disk is full.
    """
    control = _open(call, capture)
    return control, _start(control, capture)


def _open(call: Call, capture: Capture) -> Control:
    """Take the control id. A recording that ends before it began, ends in ``error``: there is no file."""
    try:
        control = call.control("record", capture.control_id, method=capture.method, status_url=capture.status_url)
    except KeyError as taken:
        raise CommandFailed(capture.method, f"the control id {taken.args[0][:80]!r} is already recording") from None
    control.detail.update(format=capture.format, direction=capture.direction, stereo=capture.stereo)
    control.stop = control.abandon = lambda: control.to("error")
    return control


def _start(control: Control, capture: Capture) -> Recording:
    call, leg = control.call, control.call.leg
    started = call.clock.now()
    try:
        recording = call.services.recordings.new(capture.format)
        file = recording.file
        control.detail["recording_id"] = recording.id
        control.on_over(leg.react(RecordStopped, _Ending(call, control, recording, started)))
        leg.ask(commands.record_start(leg.uuid, file, _safety_limit(capture), _variables(capture)))
    except CommandFailed as refused:
        control.to("error")
        if capture.format != "wav":
            log.error("cannot_record", format=capture.format, hint="mp3 needs mod_shout loaded, mp4 needs mod_av")
        raise CommandFailed(capture.method, f"cannot record {capture.format}: {refused.reply}") from refused
    except OSError as problem:
        control.to("error")
        raise CommandFailed(capture.method, f"cannot write recordings: {problem}") from problem
    if control.over:  # it ended before we were told that it began
        leg.tell(commands.record_stop(leg.uuid, file))
        return recording
    control.stop = lambda: _stop(control, recording)
    control.abandon = lambda: _lost(control, recording, started)
    control.verbs = {
        "pause": lambda behavior="skip": _pause(control, recording, behavior),
        "resume": lambda: _resume(control, recording),
    }
    control.to("recording")
    if capture.terminators:
        terminators = frozenset(capture.terminators.upper())

        def pressed(fact: Digit) -> None:
            if fact.digit in terminators:
                leg.tell(commands.record_stop(leg.uuid, file))

        control.on_over(leg.react(Digit, pressed))
    if capture.max_length:
        timer = call.clock.alarm(capture.max_length, leg.tell, commands.record_stop(leg.uuid, file))
        control.on_over(timer.kill)
    return recording


def _stop(control: Control, recording: Recording) -> None:
    """Stop, and wait until the file is complete."""
    _ask(control, commands.record_stop(control.call.leg.uuid, recording.file))
    if not control.wait(_STOP_SECONDS):
        raise CommandFailed(control.method, f"the recording did not end within {_STOP_SECONDS:g} s")


def _pause(control: Control, recording: Recording, behavior: str) -> None:
    """Leave out what follows (``skip``), or record silence instead (``silence``); a paused one stays as it is."""
    if control.state == "recording":
        silence = behavior == "silence"
        _ask(control, commands.record_pause(control.call.leg.uuid, recording.file, silence=silence))
        if control.state == "recording":
            control.to("paused", pause_behavior=behavior)


def _resume(control: Control, recording: Recording) -> None:
    if control.state == "paused":
        silence = control.detail["pause_behavior"] == "silence"
        _ask(control, commands.record_resume(control.call.leg.uuid, recording.file, silence=silence))
        if control.state == "paused":
            del control.detail["pause_behavior"]
            control.to("recording")


def _ask(control: Control, api: Api) -> None:
    """Ask something of a recording; a refusal is none when it has just ended. Raises CommandFailed, LegGone."""
    try:
        control.call.leg.ask(api)
    except CommandFailed:
        if not control.over:
            raise


class _Ending:
    """What the control makes of FreeSWITCH's word that its file is complete."""

    def __init__(self, call: Call, control: Control, recording: Recording, started: float) -> None:
        self._call = call
        self._control = control
        self._recording = recording
        self._started = started

    def __call__(self, fact: RecordStopped) -> None:
        if fact.path != self._recording.file:
            return
        outcome = _OUTCOMES.get(fact.cause, "error")
        detail = _facts(self._call, self._recording, self._started, fact.milliseconds)
        if outcome != "finished":
            detail.pop("url", None)
        if not self._control.state:  # the answer to the start is still on its way to who asked
            self._control.to("recording")
        self._control.to(outcome, **detail)


def _facts(call: Call, recording: Recording, started: float, milliseconds: int) -> dict[str, Any]:
    size = call.services.recordings.size(recording.file)
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


# -- live commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """``record.audio``: as ``record``, but for the defaults and for ``both``. ``max_length`` 0 is no limit."""

    beep: bool = parameter(Boolean(), default=False)
    format: str = parameter(Text(choices=FORMATS), default="mp3")
    stereo: bool = parameter(Boolean(), default=False)
    direction: str = parameter(Text(choices=("listen", "speak", "both")), default="speak")
    initial_timeout: float = parameter(Number(low=0), default=4.0)
    end_silence_timeout: float = parameter(Number(low=0), default=0.5)
    max_length: int = parameter(Integer(low=0), default=0)
    terminators: str = parameter(Text(pattern=TERMINATORS), default="#")
    input_sensitivity: float = parameter(Number(low=0, high=100), default=_DEFAULT_SENSITIVITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a recording holds: audio is all there is."""

    audio: Audio = parameter(Nested(Audio), default=Audio())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCommand:
    """The parameters of ``calling.record``."""

    control_id: str = parameter(CONTROL_ID)
    record: Wanted = parameter(Nested(Wanted))
    status_url: str | None = parameter(Url(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRecord:
    """``skip`` cuts out what is said meanwhile, ``silence`` keeps its time."""

    control_id: str = parameter(CONTROL_ID)
    behavior: str = parameter(Text(choices=("skip", "silence")), default="skip")


def _tidy(given: dict[str, Any]) -> dict[str, Any]:
    """The official client sends ``audio`` beside ``record``, or neither."""
    if given.get("record") is None:
        audio = given.pop("audio", None)
        given["record"] = {} if audio is None else {"audio": audio}
    return given


@live_command("calling.record", RecordCommand, opens="record", tidy=_tidy)
def live_record(call: Call, params: RecordCommand) -> None:
    """Record beside whatever goes on. With ``beep`` the recording begins when the beep is over."""
    audio = params.record.audio
    wish = Capture.of("calling.record", audio)
    capture = replace(wish, control_id=params.control_id, status_url=params.status_url)
    if not audio.beep:
        begin(call, capture)
        return
    control = _open(call, capture)
    leg = call.leg
    try:
        mixes = leg.ask(commands.variable(leg.uuid, "send_silence_when_idle")).strip() not in ("", "0", "_undef_")
        if mixes:  # else it has to wait for its turn behind what plays
            leg.ask(commands.mix_start(leg.uuid, commands.mix_name(next(_beeps), BEEP)))
    except CommandFailed:
        control.to("error")
        raise
    leg.background(lambda: _after_beep(control, capture, mixed=mixes))


def _after_beep(control: Control, capture: Capture, *, mixed: bool) -> None:
    try:
        if mixed:
            control.wait(_BEEP_LASTS)
        else:
            control.call.leg.execute(commands.playback(BEEP), _ITS_TURN_SECONDS)
        if not control.over:  # it may have been stopped
            _start(control, capture)
    except CommandFailed as problem:
        if not control.over:
            control.to("error")
        log.warning("recording_not_started", call_id=control.call.info.call_id, problem=problem.reply)


@live_command("calling.record.pause", PauseRecord, on="record")
def live_record_pause(control: Control, params: PauseRecord) -> None:
    """Pause; a recording that is paused stays as it is."""
    if not control.state:
        raise ApiError(422, "invalid_state", "the recording has not begun yet", attribute="control_id")
    control.do("pause", params.behavior)


@live_command("calling.record.resume", ControlId, on="record")
def live_record_resume(control: Control, _params: ControlId) -> None:
    """Go on; nothing changes where nothing is paused."""
    control.do("resume")


@live_command("calling.record.stop", ControlId, on="record")
def live_record_stop(control: Control, _params: ControlId) -> None:
    """Stop; when this is answered, the file is complete."""
    control.halt()
