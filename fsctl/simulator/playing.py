"""Applications that play: files and streams, speech, tones; and what acts on a file while it plays."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fsctl.simulator.events import Event
from fsctl.simulator.media import RATE, open_playable, speech_seconds, tone_seconds
from fsctl.simulator.registry import application
from fsctl.simulator.text import seconds_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.simulator.channel import Channel, Ended
    from fsctl.simulator.media import Playable

__all__ = ["Playing", "play", "terminator"]

_READ_AHEAD = 32768
"""Samples FreeSWITCH reads from a file ahead of what is heard; an interrupted short file counts as read whole."""


@dataclass(slots=True)
class Playing:
    """A file that is playing: ``position`` in seconds as of the last change.

    ``meddling`` is what ``uuid_fileman`` wants changed: it happens when the session looks.
    """

    playable: Playable
    position: float = 0.0
    speed: int = 0
    paused: bool = False
    meddling: list[Callable[[Playing], None]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Seconds of file a second of call takes."""
        return 0.0 if self.paused else float(2.0 ** (self.speed / 2))

    @property
    def left(self) -> float:
        """Call seconds until its end, infinite while paused."""
        return max(0.0, self.playable.seconds - self.position) / self.rate if self.rate else math.inf


def terminator(channel: Channel) -> Callable[[str], bool]:
    """A digit taker that ends on one of ``playback_terminators`` (default ``*``) and remembers which."""
    wanted = channel.variables.get("playback_terminators") or "*"

    def ends(digit: str) -> bool:
        if wanted == "none" or (wanted != "any" and digit not in wanted):
            return False
        channel.variables.set("playback_terminator_used", digit)
        return True

    return ends


def play(channel: Channel, path: str, on_digit: Callable[[str], bool] | None = None) -> Ended | None:
    """Play ``path`` with its events and variables; how it ended, or None when it cannot be opened."""
    playable = open_playable(path)
    if playable is None:
        return None
    _report_part(channel, playable, "open", 0)
    named = [("Playback-File-Type", playable.kind)] if playable.kind else []
    named.append(("Playback-File-Path", path))
    parameters = list(playable.parameters.items())
    channel.fire("PLAYBACK_START", after=[*named, *parameters])
    playing = Playing(playable)
    channel.playing.append(playing)
    with contextlib.nullcontext() if playable.silent else channel.sounding():
        ended = _run(channel, playing, on_digit)
    channel.playing.remove(playing)
    for index in range(len(playable.parts)):
        if index:
            _report_part(channel, playable, "open", index)
        _report_part(channel, playable, "close", index)
    _account(channel, playing, whole=ended == "done")
    status = "break" if ended in {"break", "digit"} else "done"
    channel.fire("PLAYBACK_STOP", after=[*named, ("Playback-Status", status), *parameters])
    return ended


def _run(channel: Channel, playing: Playing, on_digit: Callable[[str], bool] | None) -> Ended:
    limit = seconds_of(channel.variables.get("playback_timeout_sec")) or math.inf
    while True:
        ended = channel.wait(min(playing.left, limit), on_digit=on_digit, until=lambda: bool(playing.meddling))
        limit -= channel.waited
        playing.position = min(playing.playable.seconds, playing.position + channel.waited * playing.rate)
        if ended != "until":
            return ended
        playing.meddling.pop(0)(playing)


def _account(channel: Channel, playing: Playing, *, whole: bool) -> None:
    total = playing.playable.samples
    offset = total if whole and total else int(playing.position * RATE / 160) * 160
    read = total if whole and total else offset + _READ_AHEAD
    read = min(read, total) if total else offset
    for name, value in (
        ("playback_last_offset_pos", offset),
        ("playback_seconds", read // RATE),
        ("playback_ms", read * 1000 // RATE),
        ("playback_samples", read),
    ):
        channel.variables.set(name, str(value))


def _report_part(channel: Channel, playable: Playable, what: str, index: int) -> None:
    """``file_string`` reports each of its files, without saying whose they are."""
    if index >= len(playable.parts):
        return
    name, opened = playable.parts[index]
    if not opened:
        if what == "close":
            return
        what = "fail"
    switch = channel.switch
    event = Event(
        "CUSTOM",
        switch.core.stamp(),
        before=[("File", name)],
        subclass=f"filestring::{what}",
        origin="CUSTOM filestring",
    )
    switch.deliver(event)


@application("playback", needs_media=True)
def playback(channel: Channel, argument: str) -> None:
    """Play one file or stream."""
    ended = play(channel, argument, terminator(channel))
    if ended is None:
        channel.respond("FILE NOT FOUND")
    else:
        channel.respond("FILE PLAYED")


@application("endless_playback", needs_media=True)
def endless_playback(channel: Channel, argument: str) -> None:
    """Play a file again and again."""
    _loop(channel, argument, math.inf)


@application("loop_playback", needs_media=True)
def loop_playback(channel: Channel, argument: str) -> None:
    """Play a file ``+<n>`` times; a count below zero means for ever. A missing count or file ends the call."""
    count, _, path = argument.partition(" ")
    if not count.startswith("+") or not path.strip():
        channel.hang_up("DESTINATION_OUT_OF_ORDER")
        return
    times = seconds_of(count[1:])
    _loop(channel, path.strip(), math.inf if times < 0 else times)


def _loop(channel: Channel, path: str, times: float) -> None:
    played = 0
    while played < times:
        played += 1
        ended = play(channel, path, terminator(channel))
        if ended is None:
            channel.respond("FILE NOT FOUND")
            return
        channel.respond("FILE PLAYED")
        if ended != "done":
            return


@application("speak", needs_media=True)
def speak(channel: Channel, argument: str) -> None:
    """Say a text with flite, the one engine there is; a missing engine or voice ends the call."""
    engine, voice = channel.variables.get("tts_engine"), channel.variables.get("tts_voice")
    text = argument
    if not (engine and voice):
        engine, _, rest = argument.partition("|")
        voice, _, text = rest.partition("|")
    if not engine or not voice or not text:
        channel.hang_up("DESTINATION_OUT_OF_ORDER")
        return
    if engine != "flite":
        return
    with channel.sounding():
        channel.wait(speech_seconds(text), on_digit=terminator(channel))


@application("gentones", needs_media=True)
def gentones(channel: Channel, argument: str) -> None:
    """Play a tone script, ``<script>[|<loops>]``, without PLAYBACK events."""
    script, _, loops = argument.partition("|")
    seconds = tone_seconds(script)
    if seconds is not None:
        times = seconds_of(loops, 1)
        with channel.sounding():
            channel.wait(math.inf if times < 0 else seconds * max(times, 1), on_digit=terminator(channel))


@application("sleep")
def sleep(channel: Channel, argument: str) -> None:
    """Do nothing for some milliseconds; digits wait unless ``sleep_eat_digits`` is set."""
    eats = truth(channel.variables.get("sleep_eat_digits"))
    channel.wait(seconds_of(argument) / 1000, on_digit=(lambda _: False) if eats else None)
