"""calling.play and what goes with it: sounds beside whatever the call's document does. Reference: calling-api 4.1.

Several at once are heard together: FreeSWITCH mixes each into what the party hears, or says (``uuid_displace``). It can
neither hold what it mixes in nor begin in the middle, so a pause takes the sound out, and what is left of it goes on as
a file of its own; a new volume is a new file from that place on.

Two things cannot be mixed in and take their turn with the document's own sounds instead: speech, on a FreeSWITCH that
cannot play it like a file (see ``file_formats``), and every sound on a call that is sent nothing while nothing plays
(``calls.send_silence`` off), where there is nothing to mix it with.

A sound that cannot be played is skipped with a line in the log; when none could, the control ends in ``error``.
"""

from __future__ import annotations

import itertools
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.live import CONTROL_ID, ControlId, lifted, live_command
from fsctl.errors import CommandFailed, FetchError
from fsctl.freeswitch import commands
from fsctl.freeswitch.facts import MIX_EVENTS, TURN_EVENTS, Began, MixEnded
from fsctl.media import rings, sounds
from fsctl.methods.play import Cut, Voice, level_of, spoken
from fsctl.swml.parameters import Anything, ByType, Integer, Number, Record, Text, TextList, Url, parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.call import Call
    from fsctl.call.control import Control
    from fsctl.freeswitch.commands import Application
    from fsctl.media.files import Segment

__all__ = ["live_play", "live_play_pause", "live_play_resume", "live_play_stop", "live_play_volume"]

log = structlog.get_logger(__name__)

_VOLUME = Number(low=-40, high=40)
_SHORTEST = 0.001  # seconds: FreeSWITCH counts milliseconds
_DURATION = Number(low=_SHORTEST, high=sounds.MAX_SECONDS)
_LANGUAGE = Text(pattern=r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*")
_GENDER = Text(choices=("male", "female"))
_VOICE = Text(pattern=r"[A-Za-z0-9.-]{1,128}")

# Whether a sound goes into what the party says, for each place it goes to.
_PLACES = {"listen": (False,), "speak": (True,), "both": (False, True)}

_LATE = 30.0  # FreeSWITCH tells the end of what it mixes in; so much later that was lost
_LONGEST_TURN = 14_400.0  # until a sound's turn has come and gone: a call may last four hours by default
_SYNTHESIS = 30.0  # FreeSWITCH turns all of a text into sound before it mixes in the first of it
_LEAST_PASS = 0.02  # a sequence shorter than a frame is not repeated faster than that
_SECONDS_A_LETTER = 0.3  # nobody speaks more slowly

_PLAY, _PAUSE, _STOP = "play", "pause", "stop"
_names = itertools.count(1)


# -- parameters --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioParams:
    """A file from the web."""

    url: str = parameter(Url())


@dataclass(frozen=True, slots=True, kw_only=True)
class TtsParams:
    """Words to say; what is not given is the command's."""

    text: str = parameter(Text(min_length=1, max_length=sounds.MAX_TEXT))
    language: str | None = parameter(_LANGUAGE, default=None)
    gender: str | None = parameter(_GENDER, default=None)
    voice: str | None = parameter(_VOICE, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceParams:
    """Seconds of nothing."""

    duration: float = parameter(_DURATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingtoneParams:
    """A ringing tone, for ``duration`` seconds or until it is stopped."""

    name: str = parameter(Text(choices=rings.RINGTONES))
    duration: float | None = parameter(_DURATION, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to play. This one is of a type that there is not."""

    type: str = parameter(Text(choices=("audio", "tts", "silence", "ringtone")))
    params: Any = parameter(Anything(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioItem(Item):
    """A file from the web."""

    params: AudioParams = parameter(Record(AudioParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class TtsItem(Item):
    """Words to say."""

    params: TtsParams = parameter(Record(TtsParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceItem(Item):
    """Nothing, for a while."""

    params: SilenceParams = parameter(Record(SilenceParams))


@dataclass(frozen=True, slots=True, kw_only=True)
class RingtoneItem(Item):
    """A ringing tone."""

    params: RingtoneParams = parameter(Record(RingtoneParams))


_TYPES: dict[str, type[Item]] = {"audio": AudioItem, "tts": TtsItem, "silence": SilenceItem, "ringtone": RingtoneItem}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayCommand:
    """The parameters of ``calling.play``; ``volume`` in dB, ``loop`` 0 is for ever."""

    control_id: str = parameter(CONTROL_ID)
    play: tuple[Item, ...] = parameter(TextList(ByType(_TYPES, Item), min_items=1))
    volume: float = parameter(_VOLUME, default=0.0)
    direction: str = parameter(Text(choices=tuple(_PLACES)), default="listen")
    loop: int = parameter(Integer(low=0), default=1)
    language: str = parameter(_LANGUAGE, default="en-US")
    voice: str | None = parameter(_VOICE, default=None)
    gender: str = parameter(_GENDER, default="female")
    status_url: str | None = parameter(Url(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeCommand:
    """The parameters of ``calling.play.volume``, in dB."""

    control_id: str = parameter(CONTROL_ID)
    volume: float = parameter(_VOLUME)


def _tidy(given: dict[str, Any]) -> dict[str, Any]:
    """The official client writes an item's parameters beside its ``type``, and not into its ``params``."""
    items = given.get("play")
    if isinstance(items, list):
        given["play"] = [lifted(item) for item in items]
    return given


# -- commands ----------------------------------------------------------------------------------------------------


@live_command("calling.play", PlayCommand, opens="play", tidy=_tidy)
def live_play(call: Call, params: PlayCommand) -> None:
    """Play beside whatever goes on."""
    control = call.control("play", params.control_id, method="calling.play", status_url=params.status_url)
    player = _Player(control, params)
    control.abandon = lambda: control.to("finished")
    control.stop = player.stop
    control.verbs = {"pause": player.pause, "resume": player.resume, "volume": player.volume}
    call.leg.background(player.run)


@live_command("calling.play.pause", ControlId, on="play")
def live_play_pause(control: Control, _params: ControlId) -> None:
    """Pause; ``paused`` tells when it is silent."""
    control.do("pause")


@live_command("calling.play.resume", ControlId, on="play")
def live_play_resume(control: Control, _params: ControlId) -> None:
    """Go on from there, speech from its beginning."""
    control.do("resume")


@live_command("calling.play.stop", ControlId, on="play")
def live_play_stop(control: Control, _params: ControlId) -> None:
    """Stop; ``finished`` tells when it is silent."""
    control.halt()


@live_command("calling.play.volume", VolumeCommand, on="play")
def live_play_volume(control: Control, params: VolumeCommand) -> None:
    """Make it louder or softer from now on."""
    if "volume" not in control.verbs:
        problem = f"the volume of a play that a document started is fixed (its method is `{control.method}`)"
        raise CommandFailed("calling.play.volume", problem)
    control.do("volume", params.volume)


# -- playing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Take:
    """Something to hear without a break, at most ``seconds`` long.

    ``sound`` is what can be mixed in, empty when it cannot; ``application`` what plays it when its turn comes. With
    ``cut`` it has to be ended in time. ``volume`` is how loud it was made; None: the channel's level makes it louder.
    """

    sound: str
    application: Application
    seconds: float
    cut: bool = False
    volume: float | None = None


class _Player:
    """One play. ``run`` is its greenlet's; what is asked of it meanwhile is a wish, and ``run`` sees to it.

    Whatever ``run`` waits for, ``self._nudge`` gets its attention.
    """

    def __init__(self, control: Control, params: PlayCommand) -> None:
        self._control = control
        self._params = params
        self._call = control.call
        self._leg = control.call.leg
        self._clock = control.call.clock
        self._places = _PLACES[params.direction]
        self._wish = _PLAY
        self._wanted_volume = params.volume
        self._volume = params.volume  # what plays now, once there is a file as loud as wanted
        self._url = ""  # of the file that plays now
        self._begun = 0  # how often something began to be heard
        self._mixes = True
        self._mixes_speech: bool | None = None
        self._nudge: Callable[[], None] = self._settle

    # -- wishes --------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Be silent until further notice."""
        if self._wish == _PLAY:
            self._wish = _PAUSE
            self._nudge()

    def resume(self) -> None:
        """Go on."""
        if self._wish == _PAUSE:
            self._wish = _PLAY
            self._nudge()

    def stop(self) -> None:
        """End."""
        self._wish = _STOP
        self._nudge()

    def volume(self, decibels: float) -> None:
        """Go on that loud."""
        self._wanted_volume = decibels
        url = self._url
        if url:
            self._leg.background(lambda: self._change_volume(url, decibels))
        else:
            self._change_volume("", decibels)

    def _change_volume(self, url: str, decibels: float) -> None:
        """Have the file ready before what plays now is interrupted for it."""
        if url:
            with suppress(FetchError):  # which shows, and is told, when it is asked for again
                self._call.services.files.local(url, decibels)
        if decibels == self._wanted_volume:
            self._volume = decibels
            self._nudge()

    # -- states --------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Now that nothing is heard, let the control say what was wished."""
        control = self._control
        if control.over:
            return
        if self._wish == _STOP:
            control.to("finished")
        elif self._wish == _PAUSE and control.state == "playing":
            control.to("paused")

    def _hold(self) -> bool:
        """Something is ready to be heard: wait until that is wished. False when it never will be."""
        while self._wish == _PAUSE:
            if not self._control.state:  # it cannot be paused without having played
                self._control.to("playing")
            self._settle()
            self._wait()
        return self._wish == _PLAY

    def _began(self) -> None:
        """Something is heard."""
        self._begun += 1
        control = self._control
        if self._wish == _PLAY and not control.over and control.state != "playing":
            control.to("playing")

    def _wait(self, seconds: float | None = None) -> None:
        """Wait for a nudge."""
        waiter = self._leg.waiter()
        before, self._nudge = self._nudge, waiter.set
        try:
            waiter.wait(seconds)
        finally:
            self._nudge = before

    # -- the sequence --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Play everything, until it has ended or is to stop. LegGone when the party goes."""
        state = "error"
        try:
            self._perform()
            if self._begun or self._wish == _STOP:
                state = "finished"
        finally:
            if not (self._control.over or self._leg.gone):  # the end of the call ends it otherwise
                self._control.to(state)

    def _perform(self) -> None:
        known = self._call.known
        if "mixes" not in known:  # FreeSWITCH reads the variable once, when media begins
            leg = self._leg
            leg.fire(commands.subscribe(MIX_EVENTS))
            silence = leg.ask(commands.variable(leg.uuid, "send_silence_when_idle")).strip()
            known["mixes"] = silence not in ("", "0", "_undef_")
        self._mixes = known["mixes"]
        for _ in range(self._params.loop) if self._params.loop else itertools.count():
            begun, began_at = self._begun, self._clock.monotonic()
            for item in self._params.play:
                if self._wish == _STOP:
                    return
                self._play(item)
            if self._begun == begun:  # nothing could be heard, and trying again takes no time
                return
            rest = began_at + _LEAST_PASS - self._clock.monotonic()
            if rest > 0:
                self._wait(rest)

    def _play(self, item: Item) -> None:
        params = item.params
        try:
            match params:
                case AudioParams():
                    self._play_audio(params.url)
                case TtsParams():
                    self._play_speech(params)
                case SilenceParams():
                    self._play_nothing(params.duration)
                case RingtoneParams():
                    self._play_ringtone(params.name, params.duration)
        except (FetchError, CommandFailed) as problem:
            self._log("sound_skipped", type=item.type, problem=str(problem))
        finally:
            self._url = ""

    def _log(self, event: str, **facts: Any) -> None:
        log.warning(event, call_id=self._call.info.call_id, control_id=self._control.id, **facts)

    # -- items ---------------------------------------------------------------------------------------------------

    def _play_nothing(self, seconds: float) -> None:
        until_over = seconds
        while until_over >= _SHORTEST and self._hold():
            began = self._clock.monotonic()
            self._began()
            self._wait(until_over)
            until_over -= self._clock.monotonic() - began

    def _play_ringtone(self, name: str, seconds: float | None) -> None:
        left = math.inf if seconds is None else seconds
        while left >= _SHORTEST and self._hold():
            ring = rings.Ring(min(left, sounds.MAX_SECONDS), name)
            assert ring.seconds is not None
            tone = rings.tone_stream(ring, self._volume)
            cut = rings.length(ring) > ring.seconds
            over, heard = self._hear(_Take(tone, commands.playback(tone), ring.seconds, cut, self._volume))
            left -= ring.seconds if over else heard

    def _play_speech(self, params: TtsParams) -> None:
        wish = self._params
        voice = Voice(params.voice or wish.voice, params.language or wish.language, params.gender or wish.gender)
        engine, name, words = spoken(self._call, params.text, voice)
        sound = commands.speech_file(engine, name, words) if self._can_mix_speech() else ""
        take = _Take(sound, commands.speak(engine, name, words), len(words) * _SECONDS_A_LETTER)
        while self._hold() and not self._hear(take)[0]:
            pass  # from its beginning: nobody knows how far it was

    def _can_mix_speech(self) -> bool:
        if not self._mixes and self._places == (False,):
            return False
        if self._mixes_speech is None:
            try:
                formats = self._leg.ask(commands.file_formats())
            except CommandFailed:
                formats = ""
            self._mixes_speech = "\nfile,tts," in formats
        return self._mixes_speech

    def _play_audio(self, url: str) -> None:
        files = self._call.services.files
        self._url = url
        volume = self._volume
        whole = files.segment(files.local(url, volume))
        offset = 0.0
        try:
            while self._hold():
                if volume != self._volume:
                    volume = self._volume
                    whole = self._remade(whole, url, volume)
                rest = files.segment(whole.path, offset) if offset else whole
                try:
                    if not rest.seconds:
                        return
                    path = str(rest.path)
                    over, heard = self._hear(_Take(path, commands.playback(path), rest.seconds, volume=volume))
                finally:
                    if rest is not whole:
                        files.release(rest)
                if over:
                    return
                offset += heard
        finally:
            files.release(whole)

    def _remade(self, whole: Segment, url: str, volume: float) -> Segment:
        """The file at its new volume; the one there is, when that cannot be had."""
        files = self._call.services.files
        try:
            made = files.segment(files.local(url, volume))
        except FetchError as problem:
            self._log("volume_unchanged", problem=str(problem))
            return whole
        files.release(whole)
        return made

    # -- what is heard -------------------------------------------------------------------------------------------

    def _hear(self, take: _Take) -> tuple[bool, float]:
        """Let it be heard: whether to its end, and for how many seconds. Raises CommandFailed, LegGone."""
        if take.sound and (self._mixes or self._places == (True,)):
            return self._mix(take)
        if self._places != (False,):
            reason = "it has no speech like a file" if not take.sound else "nothing is sent while nothing plays"
            raise CommandFailed("uuid_displace", f"FreeSWITCH cannot mix this into the call: {reason}")
        return self._take_turn(take)

    def _interrupted(self, take: _Take) -> bool:
        return self._wish != _PLAY or (take.volume is not None and take.volume != self._volume)

    def _mix(self, take: _Take) -> tuple[bool, float]:
        """Mix it in."""
        leg, clock = self._leg, self._clock
        running: set[str] = set()

        def ended(fact: MixEnded) -> None:
            if fact.name in running:
                running.discard(fact.name)
                self._nudge()

        forget = leg.react(MixEnded, ended)
        self._nudge = lambda: None  # it is looked at before each wait
        step = 0
        try:
            for said in self._places:
                name = commands.mix_name(next(_names), take.sound)
                running.add(name)
                start = commands.mix_start(leg.uuid, name, said=said)
                try:
                    leg.ask(start) if take.volume is not None else leg.job(start, _SYNTHESIS)
                except CommandFailed:
                    running.discard(name)
                    raise
            began = clock.monotonic()
            until = began + take.seconds + (0.0 if take.cut else _LATE)
            self._began()
            while running and not self._interrupted(take) and clock.monotonic() < until:
                step = self._level(take, step)
                self._wait(until - clock.monotonic())
            heard = clock.monotonic() - began
            over = not running or heard >= until - began
            if running and over and not take.cut:
                self._log("mix_end_unheard", hint="was anything sent to the party? see calls.send_silence")
            for name in tuple(running):
                with suppress(CommandFailed):  # it has just ended
                    leg.ask(commands.mix_stop(leg.uuid, name))
                running.discard(name)
            return over, heard
        finally:
            forget()
            if running:
                leg.tell(*(commands.mix_stop(leg.uuid, name) for name in running))
            self._level_off(step)
            self._nudge = self._settle

    def _take_turn(self, take: _Take) -> tuple[bool, float]:
        """Play it like the document's own sounds: after what the document plays now, and before what it plays next."""
        leg, clock, application = self._leg, self._clock, take.application
        leg.fire(commands.subscribe(TURN_EVENTS))
        cut = Cut(self._call)
        began: float | None = None
        in_time = False
        timer: Any = None
        step = 0

        def look() -> None:
            nonlocal step
            if began is None:
                self._settle()
            elif self._interrupted(take):
                cut()
            else:
                step = self._level(take, step)

        def end() -> None:
            nonlocal in_time
            in_time = True
            cut()

        def turn(fact: Began) -> None:
            nonlocal began, timer
            if began is None and fact == Began(application.name, application.argument):
                began = clock.monotonic()
                self._began()
                if take.cut:
                    timer = clock.alarm(take.seconds, end)
                look()

        forget = leg.react(Began, turn)
        self._nudge = look
        try:
            with cut:
                response = leg.execute(application, _LONGEST_TURN).response
        except CommandFailed as problem:
            if began is not None or problem.command == application.name:
                raise
            return False, 0.0  # whoever redirected the document threw this out with what waited; so once more
        finally:
            forget()
            if timer is not None:
                timer.kill()
            self._level_off(step)
            self._nudge = self._settle
        if response in ("FILE NOT FOUND", "PLAYBACK ERROR"):
            raise CommandFailed(application.name, f"FreeSWITCH could not play it: {response.lower()}")
        if began is None:  # that event was lost
            self._began()
        return in_time or not cut.made, 0.0 if began is None else clock.monotonic() - began

    def _level(self, take: _Take, step: int) -> int:
        """Set the channel's level for what has no volume of its own; ``step`` is what it was set to."""
        wanted = level_of(self._volume) if take.volume is None else 0
        if wanted != step:
            if not wanted:
                self._level_off(step)
            else:
                leg = self._leg
                levels = [commands.read_level if said else commands.write_level for said in self._places]
                leg.tell(*(level(leg.uuid, wanted) for level in levels))
        return wanted

    def _level_off(self, step: int) -> None:
        if step:
            self._leg.tell(commands.write_level_stop(self._leg.uuid))
