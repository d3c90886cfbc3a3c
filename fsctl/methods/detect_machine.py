"""detect_machine, calling.detect: tell people, answering machines and fax machines apart.

Reference: swml-calling 3.13, calling-api 4.4, webhooks 3.7.

By the timing of voice, as loud and quiet: who goes on for longer than ``machine_voice_threshold`` is a machine, who
says something short and waits is a person. Beeps and fax tones are pure tones. FreeSWITCH has none of this by itself,
so fsctl looks at the audio as it comes in (``fsctl.media.listening``). What is not there: words are not counted
(``machine_words_threshold`` needs a recogniser), and music or a noisy line count as voice. Digits, which REST can look
for, too, come as DTMF events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.detection import EITHER_TONE, FAX_TONES, Detector, Finding, MachineRules
from fsctl.call.live import CONTROL_ID, ControlId, live_command
from fsctl.errors import CommandFailed, Interrupted, ScriptError
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import Digit, RecordStopped
from fsctl.media.listening import FRAME_SECONDS, Listening
from fsctl.methods.record import PLAIN
from fsctl.swml.method import method
from fsctl.swml.parameters import (
    MISSING_PARAMETER,
    Boolean,
    ByType,
    Integer,
    Number,
    Object,
    Record,
    Text,
    Url,
    parameter,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fsctl.call.call import Call
    from fsctl.call.control import Control

__all__ = ["Detection", "detect", "detect_machine"]

log = structlog.get_logger(__name__)

_DETECTORS = r"\s*(amd|fax)\s*(,\s*(amd|fax)\s*)*"
_LOOK_EVERY = 0.05
_LOUD = 200.0  # FreeSWITCH's own threshold between voice and silence
_LATE = 0.5  # audio that has not come by then is silence: a party that sends nothing is quiet
_WITHOUT_BUFFER = {"RECORD_READ_ONLY": "true", **PLAIN, "enable_file_write_buffering": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectMachine:
    """Times in seconds. ``machine_ready_timeout`` is as long as ``end_silence_timeout`` where it is not given."""

    detectors: str = parameter(Text(pattern=_DETECTORS), default="amd,fax")
    timeout: float = parameter(Number(low=0), default=30.0)
    wait: bool = parameter(Boolean(), default=True)
    detect_message_end: bool = parameter(Boolean(), default=False)
    initial_timeout: float = parameter(Number(low=0), default=4.5)
    end_silence_timeout: float = parameter(Number(low=0), default=1.0)
    machine_ready_timeout: float | None = parameter(Number(low=0), default=None)
    machine_voice_threshold: float = parameter(Number(low=0), default=1.25)
    machine_words_threshold: int = parameter(Integer(low=0), default=6)
    tone: str = parameter(Text(choices=tuple(FAX_TONES)), default="CED")
    status_url: str | None = parameter(Url(), default=None)
    written: frozenset[str] = written()

    def __post_init__(self) -> None:
        """Refuse a detection whose result nobody could learn."""
        if not self.wait and self.status_url is None:
            problem = "`status_url` is missing; with `wait` false it is where the result goes"
            raise ScriptError(MISSING_PARAMETER, problem)


@dataclass(frozen=True, slots=True)
class Detection:
    """What to look for, and how long; shared by every way in. At least one of ``machine`` and ``fax_tone``.

    ``fax_tone`` is as :class:`fsctl.call.detection.Detector` has it, ``timeout`` in seconds.
    """

    method: str
    control_id: str | None
    machine: MachineRules | None
    fax_tone: str | None
    timeout: float
    status_url: str | None

    @classmethod
    def of(cls, params: DetectMachine) -> Detection:
        """The detection that a method's parameters ask for."""
        detectors = {name.strip() for name in params.detectors.split(",")}
        return cls(
            method="detect_machine",
            control_id=None,
            machine=_rules(params) if "amd" in detectors else None,
            fax_tone=params.tone if "fax" in detectors else None,
            timeout=params.timeout,
            status_url=params.status_url,
        )


@method("detect_machine", DetectMachine)
def detect_machine(call: Call, params: DetectMachine) -> None:
    """Find out who answered: wait for that, or let the script go on with ``detect_result`` still ``detecting``."""
    call.vars.update(detect_result="detecting", detect_machine_beep=False, detect_ms=0)
    _note_words(params.written)
    variables = _Variables(call)
    try:
        call.answer()
        control = detect(call, Detection.of(params), variables.heard)
        control.on_over(lambda: variables.over(control))
    except CommandFailed as problem:
        call.vars["detect_result"] = "error"
        call.warn("relay_script_method_execute_failed", str(problem))
        return
    if params.wait:
        try:
            control.wait()
        except Interrupted:
            control.halt()
            raise


def _rules(params: DetectMachine | MachineParams) -> MachineRules:
    ready = params.machine_ready_timeout
    return MachineRules(
        initial_timeout=params.initial_timeout,
        end_silence_timeout=params.end_silence_timeout,
        machine_ready_timeout=params.end_silence_timeout if ready is None else ready,
        machine_voice_threshold=params.machine_voice_threshold,
        message_end=params.detect_message_end,
        interruptions=isinstance(params, MachineParams) and params.detect_interruptions,
    )


def _note_words(given: frozenset[str]) -> None:
    if "machine_words_threshold" in given:
        log.warning("words_are_not_counted", hint="machine_words_threshold needs a speech recogniser; voice is timed")


class _Variables:
    """What a script learns of its detection."""

    def __init__(self, call: Call) -> None:
        self._vars = call.vars
        self._known = False

    def heard(self, finding: Finding, seconds: float) -> None:
        """Something was found, after so many seconds."""
        if finding.event != "READY":
            self._known = True
            self._vars["detect_result"] = finding.event.lower() if finding.kind == "machine" else "fax"
            self._vars["detect_ms"] = round(1000 * seconds)
        if finding.beep:
            self._vars["detect_machine_beep"] = True

    def over(self, control: Control) -> None:
        """Nothing more will be."""
        if control.state == "error":
            self._vars["detect_result"] = "error"
        elif not self._known:
            self._vars["detect_result"] = "unknown"


def detect(call: Call, wish: Detection, heard: Callable[[Finding, float], None] | None = None) -> Control:
    """Start looking; the control ends when something was found or the time is up.

    ``heard`` is called with each finding and the seconds since the start. Raises CommandFailed, LegGone.
    """
    try:
        control = call.control("detect", wish.control_id, method=wish.method, status_url=wish.status_url)
    except KeyError as taken:
        raise CommandFailed(wish.method, f"the control id {taken.args[0][:80]!r} is already detecting") from None
    looking = _Looking(control, wish, heard)
    try:
        looking.start()
    except CommandFailed:
        looking.end("error")
        raise
    return control


class _Looking:
    """One detection while it runs: takes the audio to the detector, and what it finds to the control."""

    def __init__(
        self, control: Control, wish: Detection, heard: Callable[[Finding, float], None] | None = None
    ) -> None:
        self._control = control
        self._call = control.call
        self._detector = Detector(wish.machine, wish.fax_tone)
        self._kind = "machine" if wish.machine is not None else "fax"
        self._timeout = wish.timeout
        self._tell_too = heard
        self._began = self._call.clock.monotonic()
        self._heard = 0.0
        self._path: Path | None = None
        self._audio: Listening | None = None
        self._next: Any = None

    def start(self) -> None:
        """Have FreeSWITCH write what the party says. Raises CommandFailed when that cannot be."""
        control, leg = self._control, self._call.leg
        control.on_over(self._close)
        control.stop = lambda: self.end("finished")
        control.abandon = lambda: self.end("finished")
        self._path = path = self._call.services.recordings.passing()
        control.on_over(leg.react(RecordStopped, self._stopped))
        leg.ask(commands.record_start(leg.uuid, str(path), 0, _WITHOUT_BUFFER))
        try:
            self._audio = Listening(path)
        except OSError as problem:
            raise CommandFailed(control.method, f"cannot listen in {path.parent}: {problem.strerror}") from problem
        self._began = self._call.clock.monotonic()
        self._look_again()

    def end(self, how: str) -> None:
        """Tell the last word, ``finished`` or ``error``."""
        if self._control.over:
            return
        found = self._detector.outcome
        self._control.to(how, detect={"type": found.kind if found else self._kind, "params": {"event": how}})

    def _look_again(self) -> None:
        self._next = self._call.clock.alarm(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        assert self._audio is not None
        if self._control.over or self._call.leg.gone:
            return
        detector = self._detector
        for frame in self._audio.frames():
            self._heard += FRAME_SECONDS
            self._tell(detector.hear(FRAME_SECONDS, loud=frame.level >= _LOUD, hertz=frame.hertz))
        passed = self._call.clock.monotonic() - self._began
        if passed - self._heard > _LATE:
            missing = passed - self._heard - _LATE
            self._heard += missing
            self._tell(detector.hear(missing, loud=False))
        if passed >= self._timeout:
            self._tell(detector.give_up())
        if detector.over or passed >= self._timeout:
            self.end("finished")
        else:
            self._look_again()

    def _tell(self, findings: list[Finding]) -> None:
        for finding in findings:
            if self._tell_too is not None:
                self._tell_too(finding, self._call.clock.monotonic() - self._began)
            params: dict[str, Any] = {"event": finding.event}
            if finding.beep:
                params["beep"] = True
            self._control.to("detected", detect={"type": finding.kind, "params": params})

    def _stopped(self, fact: RecordStopped) -> None:
        if fact.path == str(self._path) and not self._call.leg.gone:
            log.error("listening_ended", cause=fact.cause, hint="FreeSWITCH could not write the call's audio")
            self.end("error")

    def _close(self) -> None:
        if self._next is not None:
            self._next.kill()
        if self._path is not None:
            self._call.leg.tell(commands.record_stop(self._call.leg.uuid, str(self._path)))
        if self._audio is not None:
            self._audio.close()
            self._audio = None


# -- live commands -----------------------------------------------------------------------------------------------

DIGITS = r"[0-9A-Da-d*#]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineParams:
    """As ``detect_machine``, but for ``detect_message_end``. With ``detect_interruptions`` a greeting may go on."""

    initial_timeout: float = parameter(Number(low=0), default=4.5)
    end_silence_timeout: float = parameter(Number(low=0), default=1.0)
    machine_ready_timeout: float | None = parameter(Number(low=0), default=None)
    machine_voice_threshold: float = parameter(Number(low=0), default=1.25)
    machine_words_threshold: int = parameter(Integer(low=0), default=6)
    detect_interruptions: bool = parameter(Boolean(), default=False)
    detect_message_end: bool = parameter(Boolean(), default=True)
    written: frozenset[str] = written()


@dataclass(frozen=True, slots=True, kw_only=True)
class FaxParams:
    """Without ``tone``, either."""

    tone: str = parameter(Text(choices=(*FAX_TONES, *(name.lower() for name in FAX_TONES))), default=EITHER_TONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitParams:
    """Without ``digits``, any."""

    digits: str = parameter(Text(pattern=DIGITS), default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectAnything:
    """What all have; a type that does not exist is found out by it."""

    type: str = parameter(Text(choices=("machine", "fax", "digit")))
    params: Any = parameter(Object(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectAMachine(DetectAnything):
    """A person or a machine."""

    params: MachineParams = parameter(Record(MachineParams), default=MachineParams())


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectAFax(DetectAnything):
    """A fax machine."""

    params: FaxParams = parameter(Record(FaxParams), default=FaxParams())


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectADigit(DetectAnything):
    """A key the party presses."""

    params: DigitParams = parameter(Record(DigitParams), default=DigitParams())


_TYPES: dict[str, type[DetectAnything]] = {"machine": DetectAMachine, "fax": DetectAFax, "digit": DetectADigit}


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectCommand:
    """The parameters of ``calling.detect``; ``timeout`` in seconds."""

    control_id: str = parameter(CONTROL_ID)
    detect: DetectAnything = parameter(ByType(_TYPES, DetectAnything))
    timeout: float = parameter(Number(low=0), default=30.0)
    status_url: str | None = parameter(Url(), default=None)


@live_command("calling.detect", DetectCommand, opens="detect")
def live_detect(call: Call, params: DetectCommand) -> None:
    """Start looking, beside whatever goes on. The script's variables know nothing of it."""
    wanted = params.detect
    if isinstance(wanted, DetectADigit):
        _await_digit(call, params, wanted.params.digits)
        return
    machine: MachineRules | None = None
    tone: str | None = None
    if isinstance(wanted, DetectAFax):
        tone = wanted.params.tone
        tone = tone if tone == EITHER_TONE else tone.upper()
    elif isinstance(wanted, DetectAMachine):
        _note_words(wanted.params.written)
        machine = _rules(wanted.params)
    detect(
        call,
        Detection(
            method="calling.detect",
            control_id=params.control_id,
            machine=machine,
            fax_tone=tone,
            timeout=params.timeout,
            status_url=params.status_url,
        ),
    )


def _await_digit(call: Call, params: DetectCommand, digits: str) -> None:
    """Wait for the first of ``digits``, or for any."""
    control = call.control("detect", params.control_id, method="calling.detect", status_url=params.status_url)
    wanted = frozenset(digits.upper())

    def tell(state: str, event: str) -> None:
        if not control.over:
            control.to(state, detect={"type": "digit", "params": {"event": event}})

    def over() -> None:
        tell("finished", "finished")

    def pressed(fact: Digit) -> None:
        digit = fact.digit.upper()
        if not wanted or digit in wanted:
            tell("detected", digit)
            over()

    control.stop = control.abandon = over
    control.on_over(call.leg.react(Digit, pressed))
    control.on_over(call.clock.alarm(params.timeout, over).kill)


@live_command("calling.detect.stop", ControlId, on="detect")
def live_detect_stop(control: Control, _params: ControlId) -> None:
    """Look no longer."""
    control.halt()
