"""Telling people, answering machines and fax machines apart by when they speak and which tones they send. Pure.

Fed with what was heard, 20 ms at a time, it says what it found. It knows loud from quiet and the frequency of pure
tones; it understands no words. Reference: swml-calling 3.13, webhooks 3.7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["EITHER_TONE", "FAX_TONES", "Detector", "Finding", "MachineRules"]

FAX_TONES = {"CED": 2100.0, "CNG": 1100.0}
"""Hz of the tone a fax machine answers with (CED) and calls with (CNG)."""
EITHER_TONE = "either"
"""In place of a tone's name: whichever comes."""

_FAX_SECONDS = 0.3  # CNG lasts 0.5 s; CED is 2.6 s long, but may turn its phase every 0.45 s
_FAX_WIDTH = 45.0
_BEEP_SECONDS = 0.12
_BEEPS = (415.0, 2050.0)
_SAME_TONE = 20.0
_ONSET = 0.06  # shorter noises are clicks
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class MachineRules:
    """When voice is a person's and when a machine's; times in seconds, names as the reference has them.

    With ``message_end`` a machine is followed to the end of its greeting, or to its beep; with ``interruptions``, too,
    silence is not the end: the greeting may go on.
    """

    initial_timeout: float = 4.5
    end_silence_timeout: float = 1.0
    machine_ready_timeout: float = 1.0
    machine_voice_threshold: float = 1.25
    message_end: bool = False
    interruptions: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` is ``machine`` or ``fax``; ``event`` one of the reference's; ``beep`` whether one was heard before."""

    kind: str
    event: str
    beep: bool = False


class Detector:
    """``over`` is True when nothing more is to be found; ``outcome`` is the first finding, ``beep`` that one came.

    ``fax_tone`` is a name in :data:`FAX_TONES`, :data:`EITHER_TONE`, or None.
    """

    def __init__(self, machine: MachineRules | None, fax_tone: str | None) -> None:
        self.over = False
        self.outcome: Finding | None = None
        self.beep = False
        self._machine = machine
        self._fax_tones = tuple(FAX_TONES) if fax_tone == EITHER_TONE else (fax_tone,) if fax_tone else ()
        self._silence = 0.0  # since the last voice, or since the beginning
        self._burst = 0.0  # the sound that goes on now
        self._voice = 0.0  # from the first voice of this utterance to its last
        self._tone = 0.0
        self._tone_seconds = 0.0
        self._missed = False
        self._beeping = False
        self._ready = False

    def hear(self, seconds: float, *, loud: bool, hertz: float = 0.0) -> list[Finding]:
        """What ``seconds`` of audio let us find: ``loud`` or not, and a pure tone of ``hertz`` (0 = none)."""
        if self.over:
            return []
        self._follow(hertz, seconds)
        fax = self._fax()
        if fax is not None and self._tone_seconds >= _FAX_SECONDS - _EPSILON:
            return self._found(Finding("fax", fax), over=True)
        if self._machine is None:
            return []
        found = self._beeped(self._machine)
        if found or self._beeping:
            return found
        return self._voiced(self._machine, seconds, loud)

    def give_up(self) -> list[Finding]:
        """Time is up: what there is to say now."""
        if self.over:
            return []
        self.over = True
        if self.outcome is None and self._machine is not None:
            return self._found(Finding("machine", "UNKNOWN"), over=True)
        return []

    # -- tones ---------------------------------------------------------------------------------------------------

    def _follow(self, hertz: float, seconds: float) -> None:
        """Keep to a tone; one frame without it may be noise, or the tone that turns its phase."""
        if hertz and abs(hertz - self._tone) <= _SAME_TONE:
            self._tone_seconds += seconds
            self._missed = False
        elif self._tone and not self._missed:
            self._missed = True
        else:
            self._tone, self._tone_seconds, self._missed = hertz, seconds if hertz else 0.0, False

    def _fax(self) -> str | None:
        """The fax tone we are looking for and that this one is, if it lasts."""
        return next((name for name in self._fax_tones if abs(self._tone - FAX_TONES[name]) <= _FAX_WIDTH), None)

    def _beeped(self, rules: MachineRules) -> list[Finding]:
        """A beep is a machine's; the message may begin when the beep is over."""
        if self._beeping:
            if self._tone:
                return []
            self._beeping = False
            return self._found(Finding("machine", "READY", beep=True), over=True) if rules.message_end else []
        low, high = _BEEPS
        long_enough = self._tone_seconds >= _BEEP_SECONDS - _EPSILON
        if not long_enough or not low <= self._tone <= high or self._fax() is not None:
            return []
        self.beep = True
        self._beeping = rules.message_end
        if self.outcome is not None:
            return []
        return self._found(Finding("machine", "MACHINE", beep=True), over=not rules.message_end)

    # -- voice ---------------------------------------------------------------------------------------------------

    def _voiced(self, rules: MachineRules, seconds: float, loud: bool) -> list[Finding]:
        self._burst = self._burst + seconds if loud else 0.0
        self._silence += seconds
        if self._burst >= _ONSET - _EPSILON:
            self._voice = self._voice + self._silence if self._voice else self._burst
            self._silence = 0.0
        return self._judged(rules)

    def _judged(self, rules: MachineRules) -> list[Finding]:
        silence = self._silence + _EPSILON
        if self.outcome is not None:
            return self._greeted(rules, silence)
        if not self._voice:
            unheard = silence >= rules.initial_timeout
            return self._found(Finding("machine", "UNKNOWN"), over=True) if unheard else []
        if self._voice + _EPSILON >= rules.machine_voice_threshold:
            return self._found(Finding("machine", "MACHINE"), over=not rules.message_end)
        done = self._quiet(silence, rules.end_silence_timeout)
        return self._found(Finding("machine", "HUMAN"), over=True) if done else []

    def _greeted(self, rules: MachineRules, silence: float) -> list[Finding]:
        """The greeting is over, or goes on after all."""
        if not self._ready and self._quiet(silence, rules.machine_ready_timeout):
            self._ready = True
            return self._found(Finding("machine", "READY"), over=not rules.interruptions)
        if self._ready and not self._silence and not self._tone:  # a pure tone may be the beep
            self._ready = False
            return self._found(Finding("machine", "NOT_READY"), over=False)
        return []

    def _quiet(self, silence: float, limit: float) -> bool:
        return self._silence > 0 and silence >= limit

    def _found(self, finding: Finding, *, over: bool) -> list[Finding]:
        self.over = over
        if self.outcome is None:
            self.outcome = finding
        return [replace(finding, beep=self.beep)]
