"""play: sounds for the party, one after the other. Reference: swml-calling 3.3, webhooks 3.4.

A sound that cannot be played is skipped with a warning; when none could, the control ends in ``error``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.errors import CommandFailed, FetchError, Interrupted, ScriptError
from fsctl.freeswitch import commands
from fsctl.media import rings, sounds, voices
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Number, Text, TextList, Url, parameter
from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.swml.document import Where

__all__ = ["Cut", "Voice", "level_of", "play", "play_sound", "spoken"]

log = structlog.get_logger(__name__)

# Nobody waits longer for one sound; a call may last four hours by default.
_LONGEST_SOUND = 14400.0
# FreeSWITCH does not tell the end of a sound that somebody threw out of the channel's queue; this much late is lost.
_LATE = 30.0
# A break that comes before FreeSWITCH has begun to play is lost, so it is repeated until the sound has ended.
_BREAK_AGAIN = 0.1
# FreeSWITCH's own volume steps, in dB as its tables have them: what speech can be set to.
_LEVELS = ((-4, -14.0), (-3, -8.0), (-2, -4.4), (-1, -1.9), (0, 0.0), (1, 2.3), (2, 7.2), (3, 10.4), (4, 12.7))


class SoundText(Text):
    """A playable sound. A written one must be of a known form; a computed one is judged when its turn comes."""

    def exact(self, value: Any, where: Where) -> str:
        """Raise ScriptError for text that is no sound (an empty ``say:`` is one: it may get its words later)."""
        text = super().exact(value, where)
        try:
            sounds.parse(text)
        except ScriptError as problem:
            if problem.code != "relay_script_method_execute_failed":
                raise ScriptError(problem.code, problem.message, where) from None
        return text

    def read(self, value: Any, where: Where) -> str:
        """Any text: the other sounds of the list are played even when this one cannot be."""
        return super().exact(self.convert(value), where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """``volume`` in dB; the ``say_`` parameters are for ``say:`` sounds."""

    url: str | None = parameter(SoundText(), default=None)
    urls: tuple[str, ...] | None = parameter(TextList(SoundText(), min_items=1), default=None)
    auto_answer: bool = parameter(Boolean(), default=True)
    volume: float = parameter(Number(low=-40, high=40), default=0.0)
    say_voice: str | None = parameter(Text(), default=None)
    say_language: str | None = parameter(Text(), default=None)
    say_gender: str | None = parameter(Text(), default=None)
    status_url: str | None = parameter(Url(), default=None)


@value
class Voice:
    """How ``say:`` sounds are spoken; without a name, by the operator's voice for the language and gender."""

    name: str | None
    language: str
    gender: str

    @classmethod
    def chosen(cls, call: Call, name: str | None, language: str | None, gender: str | None) -> Voice:
        """The instruction's wish, else the script's variables, else the language's defaults."""
        given = call.vars.get
        return cls(
            name or str(given("say_voice") or "") or None,
            language or str(given("say_language") or "") or "en-US",
            gender or str(given("say_gender") or "") or "female",
        )


@method("play", Play, shorthand="url", one_of=(("url", "urls"),))
def play(call: Call, params: Play) -> None:
    """Play every sound in order and return when the last one ended."""
    control = call.control("play", method="play", status_url=params.status_url)
    control.abandon = lambda: control.to("finished")
    if params.auto_answer:
        call.answer()
    else:
        call.early_media()
    voice = Voice.chosen(call, params.say_voice, params.say_language, params.say_gender)
    cut = Cut(call)
    control.stop = cut
    hold = _Hold(control)
    control.verbs = {"pause": hold.begin, "resume": hold.end}
    heard = 0

    def started() -> None:
        if not control.state:
            control.to("playing")

    try:
        for text in params.urls if params.urls is not None else (params.url or "",):
            try:
                with cut:
                    play_sound(call, text, voice=voice, volume=params.volume, started=started, held=hold.lately)
                heard += 1
            except (FetchError, CommandFailed, ScriptError) as problem:
                call.warn("relay_script_method_execute_failed", f"play: {getattr(problem, 'message', problem)}")
            if cut.made:
                break
    except Interrupted:
        call.leg.clear()
        control.to("finished")
        raise
    control.to("finished" if heard or cut.made else "error")


class _Hold:
    """Holds the sound that plays, and lets it go on. CommandFailed for speech, which FreeSWITCH cannot hold."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._lately = False

    def begin(self) -> None:
        """Hold it; one that is held stays so."""
        self._toggle("paused")

    def end(self) -> None:
        """Let it go on; nothing changes where nothing is held."""
        self._toggle("playing")

    def lately(self) -> bool:
        """Whether it is held, or was since somebody last asked."""
        lately, self._lately = self._lately, self._control.state == "paused"
        return lately

    def _toggle(self, state: str) -> None:
        control = self._control
        if control.state == state or not control.state:
            return
        leg = control.call.leg
        leg.ask(commands.pause_playback(leg.uuid))
        control.to(state)
        self._lately = True


class Cut:
    """Called, it ends the playback that runs inside it as a context, now and at once; ``made`` is whether it was."""

    def __init__(self, call: Call) -> None:
        self.made = False
        self._call = call
        self._playing = False

    def __enter__(self) -> None:
        self._playing = True

    def __exit__(self, *_: object) -> None:
        self._playing = False

    def __call__(self) -> None:
        """End it."""
        if not self.made:
            self.made = True
            self._break()

    def _break(self) -> None:
        leg = self._call.leg
        if self._playing and not leg.gone:
            leg.tell(commands.break_playback(leg.uuid))
            self._call.clock.alarm(_BREAK_AGAIN, self._break)


def play_sound(
    call: Call,
    text: str,
    *,
    voice: Voice,
    volume: float,
    started: Callable[[], None],
    held: Callable[[], bool] = lambda: False,
) -> None:
    """Play one sound to its end; ``started`` is called when FreeSWITCH has taken it.

    A sound whose end FreeSWITCH does not tell is given up half a minute late, where its length is known. ``held`` tells
    whether somebody has held it since it was last asked, so that it takes longer.

    Raises ScriptError for what is no sound, FetchError for audio that cannot be had, CommandFailed when FreeSWITCH
    cannot play it, LegGone.
    """
    sound = sounds.parse(text)
    step, cut, longest = 0, None, _LONGEST_SOUND
    match sound:
        case sounds.Audio(url):
            path = call.services.files.local(url, volume)
            application = commands.playback(str(path))
            seconds = call.services.files.length(path)
            longest = seconds + _LATE if seconds is not None else _LONGEST_SOUND
        case sounds.Silence(seconds):
            application = commands.silence(round(seconds * 1000))
            longest = seconds + _LATE
        case sounds.Ring():
            application = commands.playback(rings.tone_stream(sound, volume))
            cut = sound.seconds if sound.seconds is not None and rings.length(sound) > sound.seconds else None
            longest = rings.length(sound) + _LATE
        case sounds.Speech(words):
            application = commands.speak(*spoken(call, words, voice))
            step = level_of(volume)
    leg = call.leg
    if step:
        leg.ask(commands.write_level(leg.uuid, step))
    timer = call.clock.alarm(cut, leg.tell, commands.break_playback(leg.uuid)) if cut is not None else None
    try:
        response = leg.execute(application, longest, started, lambda: longest if held() else 0.0).response
    finally:
        if timer is not None:
            timer.kill()
        if step:
            leg.tell(commands.write_level_stop(leg.uuid))
    if response in ("FILE NOT FOUND", "PLAYBACK ERROR"):
        raise CommandFailed(application.name, f"FreeSWITCH could not play {text[:100]!r}: {response.lower()}")


def spoken(call: Call, text: str, voice: Voice) -> tuple[str, str, str]:
    """The engine, the name of its voice, and the words it shall say. Raises CommandFailed when there are none."""
    words = voices.spoken(text)
    if not words:
        raise CommandFailed("speak", "there is nothing to say")
    chosen = call.services.voices.choose(voice.name, voice.language, voice.gender)
    if chosen.note:
        log.info("voice_substituted", note=chosen.note)
    return chosen.engine, chosen.name, words


def level_of(volume: float) -> int:
    """FreeSWITCH's volume step that is nearest to ``volume`` in dB."""
    return min(_LEVELS, key=lambda level: abs(level[1] - volume))[0]
