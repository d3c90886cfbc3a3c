"""detect_machine: a person, an answering machine or a fax? Reference: swml-calling 3.13, webhooks 3.7.

By the timing of voice, as loud and quiet: who goes on for longer than ``machine_voice_threshold`` is a machine, who
says something short and waits is a person. Beeps and fax tones are pure tones. FreeSWITCH has none of this by itself,
so fsctl looks at the audio as it comes in (``fsctl.media.listening``). What is not there: words are not counted
(``machine_words_threshold`` needs a recogniser), and music or a noisy line count as voice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.detection import FAX_TONES, Detector, Finding, MachineRules
from fsctl.errors import CommandFailed, ScriptError
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import RecordStopped
from fsctl.media.listening import FRAME_SECONDS, Listening
from fsctl.methods.record import PLAIN
from fsctl.swml.method import method
from fsctl.swml.parameters import MISSING_PARAMETER, Boolean, Integer, Number, Text, Url, parameter, written

if TYPE_CHECKING:
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
    """What to look for, and how long; shared by every way in. At least one of ``machine`` and ``fax_tone``."""

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
        ready = params.machine_ready_timeout
        rules = MachineRules(
            initial_timeout=params.initial_timeout,
            end_silence_timeout=params.end_silence_timeout,
            machine_ready_timeout=params.end_silence_timeout if ready is None else ready,
            machine_voice_threshold=params.machine_voice_threshold,
            message_end=params.detect_message_end,
        )
        return cls(
            method="detect_machine",
            control_id=None,
            machine=rules if "amd" in detectors else None,
            fax_tone=params.tone if "fax" in detectors else None,
            timeout=params.timeout,
            status_url=params.status_url,
        )


@method("detect_machine", DetectMachine)
def detect_machine(call: Call, params: DetectMachine) -> None:
    """Find out who answered: wait for that, or let the script go on with ``detect_result`` still ``detecting``."""
    call.vars.update(detect_result="detecting", detect_machine_beep=False, detect_ms=0)
    if "machine_words_threshold" in params.written:
        log.warning("words_are_not_counted", hint="machine_words_threshold needs a speech recogniser; voice is timed")
    try:
        call.answer()
        control = detect(call, Detection.of(params))
    except CommandFailed as problem:
        call.vars["detect_result"] = "error"
        call.warn("relay_script_method_execute_failed", str(problem))
        return
    if params.wait:
        control.wait()


def detect(call: Call, wish: Detection) -> Control:
    """Start looking; the control ends when something was found or the time is up. Raises CommandFailed, LegGone."""
    try:
        control = call.control("detect", wish.control_id, method=wish.method, status_url=wish.status_url)
    except KeyError as taken:
        raise CommandFailed(wish.method, f"the control id {taken.args[0][:80]!r} is already detecting") from None
    looking = _Looking(control, wish)
    try:
        looking.start()
    except CommandFailed:
        looking.end("error")
        raise
    return control


class _Looking:
    """One detection while it runs: takes the audio to the detector, and what it finds to the control."""

    def __init__(self, control: Control, wish: Detection) -> None:
        self._control = control
        self._call = control.call
        self._detector = Detector(wish.machine, wish.fax_tone)
        self._kind = "machine" if wish.machine is not None else "fax"
        self._timeout = wish.timeout
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
        if how == "error" or found is None:
            self._call.vars["detect_result"] = "error" if how == "error" else "unknown"
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
            if finding is self._detector.outcome or finding.event != "READY":
                self._call.vars["detect_result"] = finding.event.lower() if finding.kind == "machine" else "fax"
                self._call.vars["detect_ms"] = round(1000 * (self._call.clock.monotonic() - self._began))
            if finding.beep:
                self._call.vars["detect_machine_beep"] = True
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
