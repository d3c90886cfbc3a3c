"""prompt: play something and take what the caller types or says; calling.collect: take it, whatever goes on.

Reference: swml-calling 3.4, calling-api 4.3, webhooks 3.6.

Several may listen at once, a prompt and any number of collections: each hears every key, and none takes it from the
others; a key that ends a collection still breaks off a prompt that plays. Speech goes to one of them at a time.

Digits come from DTMF facts, not from FreeSWITCH's own collectors: those cannot wait for less than a second and cannot
do without a terminator. The first input ends the playback. Speech needs a recogniser in FreeSWITCH, which
``media.asr_engine`` names; without one a prompt for speech alone fails, and one for both takes digits, with a warning.
FreeSWITCH starts a recogniser when what plays is over and not before, so a collection hears keys at once, and speech
from then on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.digits import DigitCollector, DigitRules
from fsctl.call.live import CONTROL_ID, ControlId, live_command
from fsctl.errors import ApiError, CommandFailed, FetchError, Interrupted, ScriptError
from fsctl.freeswitch import commands, speech
from fsctl.freeswitch.facts import SPEECH_EVENTS, Digit, Speech
from fsctl.methods.play import Cut, SoundText, Voice, play_sound
from fsctl.swml.method import method
from fsctl.swml.parameters import (
    INVALID_VALUE,
    Boolean,
    Integer,
    Number,
    Record,
    Text,
    TextList,
    Url,
    parameter,
    written,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.freeswitch.commands import Application
    from fsctl.swml.document import Where

__all__ = ["Collection", "Collector", "SpeechRules", "collect", "prompt"]

log = structlog.get_logger(__name__)

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
_RECOGNISER_SECONDS = 10.0
_ITS_TURN_SECONDS = 14400.0  # as long as a sound may last
_SAME_NEWS_SECONDS = 0.5


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
    """What to listen for, and how long; shared by every way in. At least one of ``digits`` and ``speech``.

    ``continuous`` goes on after each result until it is stopped; ``partial_results`` tells what there is so far;
    ``start_of_input`` tells that there is something. ``beside`` is for a collection that no script waits for.
    """

    method: str
    control_id: str | None
    digits: DigitRules | None
    speech: SpeechRules | None
    initial_timeout: float
    status_url: str | None
    continuous: bool = False
    partial_results: bool = False
    start_of_input: bool = False
    beside: bool = False

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
    barge_in = Cut(call)
    collector = collect(call, Collection.of(params), barge_in)
    try:
        _play(call, params, barge_in)
        collector.start_timers()
        collector.control.wait()
    except Interrupted:
        call.leg.clear()
        raise
    finally:
        collector.close()
    _tell_script(call, collector.control.detail["result"])


def _play(call: Call, params: Prompt, barge_in: Cut) -> None:
    """Play sound by sound, until the caller begins."""
    voice = Voice.chosen(call, params.say_voice, params.say_language, params.say_gender)
    for text in params.play:
        if barge_in.made:
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
        self._timed = False
        self._announced = False
        self._speaking = False
        self._recognising = False
        self._waits_for_turn = False
        self._news: dict[str, tuple[str, float]] = {}  # the last of each kind, and when it came
        self._recogniser: Application | None = None
        self._deadline: Any = None

    def open(self) -> None:
        """Begin to listen. Raises CommandFailed when there is no way to."""
        control, leg = self.control, self._call.leg
        control.stop = self._stop
        control.abandon = lambda: self._end("finished")
        control.verbs = {"start_input_timers": self.start_timers}
        if self._wish.continuous:
            control.detail["continuous"] = True
        control.on_over(self._cancel)
        if self._digits is not None:
            control.on_over(leg.react(Digit, self._pressed))
        if self._wish.speech is not None:
            try:
                self._recognise(self._wish.speech)
            except CommandFailed as problem:
                control.detail.pop("speech", None)
                if self._digits is None:
                    raise
                self._note(f"{problem}; only digits are taken")

    def start_timers(self) -> None:
        """From now on the caller has ``initial_timeout`` to begin."""
        self._timed = True
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
            leg.execute(commands.detect_speech_stop(), self._patience)

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
            self._so_far("digit", digits=digits.digits, terminator="")
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
        call, control = self._call, self.control
        leg, recogniser = call.leg, call.services.recogniser
        if recogniser is None:
            raise CommandFailed(
                self._wish.method,
                "no speech recogniser: load one into FreeSWITCH and name it in media.asr_engine",
            )
        if any(other.detail.get("speech") for other in call.controls.running("collect")):
            raise CommandFailed(
                self._wish.method, "another collection on this call takes speech, and FreeSWITCH has one recogniser"
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
        control.detail["speech"] = True
        leg.fire(commands.subscribe(SPEECH_EVENTS))
        leg.ask(commands.set_variables(leg.uuid, {"fire_asr_events": "true"}))
        control.on_over(leg.react(Speech, self._said))
        self._recogniser = commands.detect_speech(recogniser.engine, recogniser.grammar, settings)
        if self._wish.beside:
            control.on_over(lambda: leg.background(self.close))
            leg.background(self._attach_in_turn)
        else:
            self._attach()

    def _attach(self) -> None:
        leg, start = self._call.leg, self._recogniser
        assert start is not None
        leg.execute(start, self._patience)
        # The application says nothing when it fails, but what it has not attached is not there.
        if "<function>detect_speech<" not in leg.ask(commands.attached(leg.uuid)):
            engine = start.argument.partition(" ")[0]
            raise CommandFailed(
                self._wish.method, f"FreeSWITCH could not start the speech recogniser {engine!r} (its log says why)"
            )
        self._recognising = True

    def _attach_in_turn(self) -> None:
        """Start the recogniser, or let it listen again, when what plays is over."""
        if self._waits_for_turn:
            return
        self._waits_for_turn = True
        try:
            self._attach()
        except CommandFailed as problem:
            self._deaf(str(problem))
        finally:
            self._waits_for_turn = False
        if self.control.over:
            self.close()

    def _deaf(self, problem: str) -> None:
        """No speech will be heard."""
        self.control.detail.pop("speech", None)
        if self._digits is None:
            self._note(problem)
            self._end("error")
        else:
            self._note(f"{problem}; only digits are taken")

    @property
    def _patience(self) -> float:
        return _ITS_TURN_SECONDS if self._wish.beside else _RECOGNISER_SECONDS

    def _said(self, fact: Speech) -> None:
        if not self._recognising or self._known(fact):
            return
        if fact.kind == "begin-speaking":
            self._speech_began()
        elif fact.kind == "detected-partial-speech" and not self._typing:
            said = speech.heard(fact.result)
            if said.text:
                self._speech_began()
                self._so_far("speech", text=said.text, confidence=said.confidence)
        elif fact.kind == "detected-speech" and not self._typing:
            self._understood(speech.heard(fact.result))
        elif fact.kind == "closed" and self._digits is None:
            self._note("the speech recogniser gave up; FreeSWITCH's log says why")
            self._end("error")

    def _known(self, fact: Speech) -> bool:
        """Whether this is news we just had: FreeSWITCH sends them twice."""
        now = self._call.clock.monotonic()
        last, at = self._news.get(fact.kind, (None, now))
        self._news[fact.kind] = fact.result, now
        return fact.result == last and now - at < _SAME_NEWS_SECONDS

    def _speech_began(self) -> None:
        if not self._heard:
            self._speaking = True
            self._begun()
            assert self._wish.speech is not None
            self._due(self._wish.speech.timeout, lambda: self._end("no_match"))

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
        if not self._announced:
            self._announced = True
            if self._wish.start_of_input:
                self._tell("collecting", {"type": "start_of_input"}, final=False)

    def _due(self, seconds: float, what: Callable[[], None]) -> None:
        self._cancel()
        self._deadline = self._call.clock.alarm(seconds, what)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.kill()
            self._deadline = None

    def _so_far(self, kind: str, **params: Any) -> None:
        if self._wish.partial_results:
            self._tell("collecting", {"type": kind, "params": params}, final=False)

    def _end(self, kind: str, **params: Any) -> None:
        if self.control.over:
            return
        result: dict[str, Any] = {"type": kind, "params": params} if params else {"type": kind}
        if kind == "error":
            self._tell("error", result)
        elif self._wish.continuous and kind != "finished":
            self._tell("collecting", result)
            self._again()
        else:
            self._tell("finished", result)

    def _tell(self, state: str, result: dict[str, Any], *, final: bool = True) -> None:
        self.control.to(state, result=result, **({"final": final} if self._wish.partial_results else {}))

    def _again(self) -> None:
        """Listen for the next input as for the first one."""
        self._cancel()
        self._announced = self._speaking = False
        if self._wish.digits is not None:
            self._digits = DigitCollector(self._wish.digits)
        if self._recognising:
            self._call.leg.background(self._attach_in_turn)
        if self._timed:
            self.start_timers()

    def _note(self, problem: str) -> None:
        """Say what went wrong to whoever wrote the prompt, or, where there is no script, to the operator."""
        if self._wish.beside:
            log.warning("collect_impaired", call_id=self._call.info.call_id, problem=problem)
        else:
            self._call.warn("relay_script_method_execute_failed", problem)


# -- live commands -----------------------------------------------------------------------------------------------

ENGINES = ("Google", "Google.V2", "Deepgram")


class Positive(Number):
    """A number above 0."""

    def exact(self, value: Any, where: Where) -> float:
        """Raise ScriptError for anything else."""
        number = super().exact(value, where)
        if number <= 0:
            raise ScriptError(INVALID_VALUE, f"`{where.parameter}` must be above 0", where)
        return number

    def schema(self) -> dict[str, Any]:
        """Any above 0."""
        return {**super().schema(), "exclusiveMinimum": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectDigits:
    """``digits``: at most ``max`` of them; each character of ``terminators`` ends them."""

    max: int = parameter(Integer(low=1))
    terminators: str = parameter(Text(pattern=TERMINATORS), default="")
    digit_timeout: float = parameter(Positive(), default=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSpeech:
    """``speech``. ``hints``, ``model`` and ``engine`` are for vendors' recognisers; FreeSWITCH has the one it has."""

    end_silence_timeout: float = parameter(Positive(), default=1.0)
    speech_timeout: float = parameter(Positive(), default=60.0)
    language: str = parameter(Text(pattern=_LANGUAGE), default="en-US")
    hints: tuple[str, ...] = parameter(TextList(), default=())
    model: str | None = parameter(Text(), default=None)
    engine: str | None = parameter(Text(choices=ENGINES), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectCommand:
    """The parameters of ``calling.collect``; times in seconds."""

    control_id: str = parameter(CONTROL_ID)
    initial_timeout: float = parameter(Positive(), default=5.0)
    digits: CollectDigits | None = parameter(Record(CollectDigits), default=None)
    speech: CollectSpeech | None = parameter(Record(CollectSpeech), default=None)
    continuous: bool = parameter(Boolean(), default=False)
    partial_results: bool = parameter(Boolean(), default=False)
    send_start_of_input: bool = parameter(Boolean(), default=False)
    start_input_timers: bool = parameter(Boolean(), default=False)
    status_url: str | None = parameter(Url(), default=None)


@live_command("calling.collect", CollectCommand, opens="collect")
def live_collect(call: Call, params: CollectCommand) -> None:
    """Listen beside whatever goes on; nothing that plays is broken off."""
    digits, spoken = params.digits, params.speech
    if digits is None and spoken is None:
        raise ApiError(400, "bad_request", "there is nothing to collect: `digits`, `speech` or both are needed")
    if digits is None and call.services.recogniser is None:
        problem = "speech needs a recogniser; none is loaded here, or media.asr_engine does not name it"
        raise ApiError(422, "feature_not_available", problem, attribute="speech")
    if spoken is not None and (spoken.hints or spoken.model or spoken.engine):
        _note_recogniser()
    collector = collect(
        call,
        Collection(
            method="calling.collect",
            control_id=params.control_id,
            digits=DigitRules(digits.max, digits.terminators, digits.digit_timeout) if digits else None,
            speech=SpeechRules(spoken.speech_timeout, spoken.end_silence_timeout, spoken.language) if spoken else None,
            initial_timeout=params.initial_timeout,
            status_url=params.status_url,
            continuous=params.continuous,
            partial_results=params.partial_results,
            start_of_input=params.send_start_of_input,
            beside=True,
        ),
        lambda: None,
    )
    if params.start_input_timers:
        collector.start_timers()


@cache
def _note_recogniser() -> None:
    """Say so once."""
    log.warning("recogniser_as_it_is", hint="hints, model and engine change nothing; media.asr_engine says who listens")


@live_command("calling.collect.stop", ControlId, on="collect")
def live_collect_stop(control: Control, _params: ControlId) -> None:
    """Listen no longer; the last event is ``finished``."""
    control.halt()


@live_command("calling.collect.start_input_timers", ControlId, on="collect")
def live_collect_start_input_timers(control: Control, _params: ControlId) -> None:
    """From now on the caller has ``initial_timeout`` to begin."""
    control.do("start_input_timers")
