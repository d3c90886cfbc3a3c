"""prompt: play something and take what the caller types or says. Reference: swml-calling 3.4, webhooks 3.6.

Digits come from DTMF facts, not from FreeSWITCH's own collectors: those cannot wait for less than a second and cannot
do without a terminator. The first input ends the playback. Speech needs a recogniser in FreeSWITCH, which
``media.asr_engine`` names; without one a prompt for speech alone fails, and one for both takes digits, with a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.call.digits import DigitCollector, DigitRules
from fsctl.errors import CommandFailed, FetchError, ScriptError
from fsctl.freeswitch import commands, speech
from fsctl.freeswitch.facts import SPEECH_EVENTS, Digit, Speech
from fsctl.methods.play import SoundText, Voice, play_sound
from fsctl.swml.method import method
from fsctl.swml.parameters import Integer, Number, Text, TextList, Url, parameter, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.call import Call
    from fsctl.call.control import Control

__all__ = ["Collection", "Collector", "SpeechRules", "collect", "prompt"]

TERMINATORS = r"[0-9A-Da-d*#]*"
_DIGIT_KEYS = frozenset({"max_digits", "terminators", "digit_timeout", "initial_timeout"})
_SPEECH_KEYS = frozenset({"speech_timeout", "speech_end_timeout", "speech_language", "speech_hints"})
_VARIABLES = (
    "prompt_result",
    "prompt_value",
    "prompt_value_raw",
    "prompt_digit_terminator",
    "prompt_speech_confidence",
)
_RESULTS = {"digit": "match_digits", "speech": "match_speech", "no_input": "no_input", "no_match": "no_match"}
_LANGUAGE = re.compile(r"(?:[A-Za-z0-9._-]+:)?([A-Za-z0-9-]{1,35})")
# A break that comes before FreeSWITCH has begun to play is lost, so it is repeated until the sound has ended.
_BREAK_AGAIN = 0.1
_RECOGNISER_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Times in seconds, ``volume`` in dB. Which of the parameters are written decides what is listened for."""

    play: tuple[str, ...] = parameter(TextList(SoundText(), one_or_many=True, min_items=1))
    volume: float = parameter(Number(low=-40, high=40), default=0.0)
    say_voice: str | None = parameter(Text(), default=None)
    say_language: str | None = parameter(Text(), default=None)
    say_gender: str | None = parameter(Text(), default=None)
    max_digits: int = parameter(Integer(low=1), default=1)
    terminators: str = parameter(Text(pattern=TERMINATORS), default="")
    digit_timeout: float = parameter(Number(low=0), default=5.0)
    initial_timeout: float = parameter(Number(low=0), default=5.0)
    speech_timeout: float = parameter(Number(low=0), default=60.0)
    speech_end_timeout: float = parameter(Number(low=0), default=1.0)
    speech_language: str = parameter(Text(), default="en-US")
    speech_hints: tuple[str, ...] = parameter(TextList(), default=())
    speech_engine: str | None = parameter(Text(), default=None)
    status_url: str | None = parameter(Url(), default=None)
    written: frozenset[str] = written()


@dataclass(frozen=True, slots=True)
class SpeechRules:
    """How long speech may take: ``timeout`` from its beginning, ``end_timeout`` the silence that ends it; seconds."""

    timeout: float = 60.0
    end_timeout: float = 1.0
    language: str = "en-US"


@dataclass(frozen=True, slots=True)
class Collection:
    """What to listen for, and how long; shared by every way in. At least one of ``digits`` and ``speech``."""

    method: str
    control_id: str | None
    digits: DigitRules | None
    speech: SpeechRules | None
    initial_timeout: float
    status_url: str | None

    @classmethod
    def of(cls, params: Prompt) -> Collection:
        """The collection that a prompt's parameters ask for, by the language's rule of written parameters."""
        listens = bool(params.written & _SPEECH_KEYS)
        types = not listens or bool(params.written & _DIGIT_KEYS)
        return cls(
            method="prompt",
            control_id=None,
            digits=DigitRules(params.max_digits, params.terminators, params.digit_timeout) if types else None,
            speech=SpeechRules(params.speech_timeout, params.speech_end_timeout, params.speech_language)
            if listens
            else None,
            initial_timeout=params.initial_timeout,
            status_url=params.status_url,
        )


@method("prompt", Prompt, result="prompt_result")
def prompt(call: Call, params: Prompt) -> None:
    """Play, listen, and return with the caller's answer or without one."""
    for name in _VARIABLES:
        call.vars.pop(name, None)
    call.answer()
    barge_in = _BargeIn(call)
    collector = collect(call, Collection.of(params), barge_in)
    try:
        _play(call, params, barge_in)
        collector.start_timers()
        collector.control.wait()
    finally:
        collector.close()
    _tell_script(call, collector.control.detail["result"])


def _play(call: Call, params: Prompt, barge_in: _BargeIn) -> None:
    """Play sound by sound, until the caller begins."""
    voice = Voice.chosen(call, params.say_voice, params.say_language, params.say_gender)
    for text in params.play:
        if barge_in.heard:
            return
        try:
            with barge_in:
                play_sound(call, text, voice=voice, volume=params.volume, started=lambda: None)
        except (FetchError, CommandFailed, ScriptError) as problem:
            call.warn("relay_script_method_execute_failed", f"prompt: {getattr(problem, 'message', problem)}")


def _tell_script(call: Call, result: dict[str, Any]) -> None:
    """The result as the script's variables."""
    details = result.get("params", {})
    call.vars["prompt_result"] = _RESULTS.get(result["type"], "failed")
    if result["type"] == "digit":
        value = details["digits"]
        call.vars.update(prompt_value=value, prompt_value_raw=value, prompt_digit_terminator=details["terminator"])
    elif result["type"] == "speech":
        value = details["text"]
        call.vars.update(prompt_value=value, prompt_value_raw=value, prompt_speech_confidence=details["confidence"])


def collect(call: Call, wish: Collection, started: Callable[[], None]) -> Collector:
    """Listen from now on; ``started`` is called, and must not wait, when the caller begins to type or speak.

    Nothing times out before :meth:`Collector.start_timers`. Raises CommandFailed when there is no way to listen.
    """
    try:
        control = call.control("collect", wish.control_id, method=wish.method, status_url=wish.status_url)
    except KeyError as taken:
        raise CommandFailed(wish.method, f"the control id {taken.args[0][:80]!r} is already collecting") from None
    collector = Collector(control, wish, started)
    try:
        collector.open()
    except CommandFailed:
        control.to("error", result={"type": "error"})
        raise
    return collector


class Collector:
    """Input on its way to a result, which its control is told in ``detail["result"]``."""

    def __init__(self, control: Control, wish: Collection, started: Callable[[], None]) -> None:
        self.control = control
        self._call = control.call
        self._wish = wish
        self._started = started
        self._digits = DigitCollector(wish.digits) if wish.digits is not None else None
        self._speaking = False
        self._recognising = False
        self._deadline: Any = None

    def open(self) -> None:
        """Begin to listen. Raises CommandFailed when there is no way to."""
        control, leg = self.control, self._call.leg
        control.stop = self._stop
        control.abandon = lambda: self._end("finished")
        control.on_over(self._cancel)
        if self._digits is not None:
            control.on_over(leg.react(Digit, self._pressed))
        if self._wish.speech is not None:
            try:
                self._recognise(self._wish.speech)
            except CommandFailed as problem:
                if self._digits is None:
                    raise
                self._call.warn("relay_script_method_execute_failed", f"{problem}; only digits are taken")

    def start_timers(self) -> None:
        """From now on the caller has ``initial_timeout`` to begin."""
        if not self._heard:
            self._due(self._wish.initial_timeout, lambda: self._end("no_input"))

    def close(self) -> None:
        """Listen no longer, whether there is a result or not. On a leg that is gone, the end of the call does it."""
        leg = self._call.leg
        if leg.gone:
            return
        self._end("finished")
        if self._recognising:
            self._recognising = False
            leg.execute(commands.detect_speech_stop(), _RECOGNISER_SECONDS)

    @property
    def _heard(self) -> bool:
        typed = self._digits is not None and (self._digits.over or self._digits.deadline is not None)
        return typed or self._speaking or self.control.over

    # -- digits --------------------------------------------------------------------------------------------------

    def _pressed(self, fact: Digit) -> None:
        digits = self._digits
        assert digits is not None
        now = self._call.clock.monotonic()
        over = digits.press(fact.digit, now)
        self._begun()
        if over:
            self._typed()
        elif digits.deadline is not None:
            self._due(digits.deadline - now, self._waited)

    def _waited(self) -> None:
        assert self._digits is not None
        self._digits.wait(float("inf"))
        self._typed()

    def _typed(self) -> None:
        digits = self._digits
        assert digits is not None
        self._end("digit", digits=digits.digits, terminator=digits.terminator)

    # -- speech --------------------------------------------------------------------------------------------------

    def _recognise(self, rules: SpeechRules) -> None:
        leg, recogniser = self._call.leg, self._call.services.recogniser
        if recogniser is None:
            raise CommandFailed(
                self._wish.method,
                "no speech recogniser: load one into FreeSWITCH and name it in media.asr_engine",
            )
        language = _LANGUAGE.fullmatch(rules.language)
        if language is None:
            raise CommandFailed(self._wish.method, f"{rules.language[:40]!r} is no language")
        milliseconds = {"recognition-timeout": rules.timeout, "speech-timeout": rules.timeout}
        milliseconds |= {"speech-complete-timeout": rules.end_timeout, "speech-incomplete-timeout": rules.end_timeout}
        settings = {
            "start-input-timers": "false",
            "speech-language": language[1],
            **{name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()},
        }
        leg.fire(commands.subscribe(SPEECH_EVENTS))
        leg.ask(commands.set_variables(leg.uuid, {"fire_asr_events": "true"}))
        self.control.on_over(leg.react(Speech, self._said))
        leg.execute(commands.detect_speech(recogniser.engine, recogniser.grammar, settings), _RECOGNISER_SECONDS)
        # The application says nothing when it fails, but what it has not attached is not there.
        if "<function>detect_speech<" not in leg.ask(commands.attached(leg.uuid)):
            raise CommandFailed(
                self._wish.method,
                f"FreeSWITCH could not start the speech recogniser {recogniser.engine!r} (its log says why)",
            )
        self._recognising = True

    def _said(self, fact: Speech) -> None:
        if not self._recognising:
            return
        if fact.kind == "begin-speaking" and not self._speaking and not self._heard:
            self._speaking = True
            self._begun()
            assert self._wish.speech is not None
            self._due(self._wish.speech.timeout, lambda: self._end("no_match"))
        elif fact.kind == "detected-speech" and not self._typing:
            self._understood(speech.heard(fact.result))
        elif fact.kind == "closed" and self._digits is None:
            self._call.warn(
                "relay_script_method_execute_failed", "the speech recogniser gave up; FreeSWITCH's log says why"
            )
            self._end("error")

    @property
    def _typing(self) -> bool:
        return self._digits is not None and self._digits.deadline is not None

    def _understood(self, said: speech.Heard) -> None:
        if said.text:
            self._call.interactions += 1
            self._begun()
            self._end("speech", text=said.text, confidence=said.confidence)
        elif not said.silent:
            self._end("no_match")

    # -- the end -------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        self._started()
        self._end("finished")

    def _begun(self) -> None:
        self._cancel()
        self._started()

    def _due(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel()
        self._deadline = self._call.clock.alarm(seconds, what)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.kill()
            self._deadline = None

    def _end(self, kind: str, **params: Any) -> None:
        if not self.control.over:
            result: dict[str, Any] = {"type": kind, "params": params} if params else {"type": kind}
            self.control.to("error" if kind == "error" else "finished", result=result)


class _BargeIn:
    """Called when the caller begins, it ends the playback that runs inside it as a context."""

    def __init__(self, call: Call) -> None:
        self.heard = False
        self._call = call
        self._playing = False

    def __enter__(self) -> None:
        self._playing = True

    def __exit__(self, *_: object) -> None:
        self._playing = False

    def __call__(self) -> None:
        if not self.heard:
            self.heard = True
            self._break()

    def _break(self) -> None:
        leg = self._call.leg
        if self._playing and not leg.gone:
            leg.tell(commands.break_playback(leg.uuid))
            self._call.clock.alarm(_BREAK_AGAIN, self._break)
