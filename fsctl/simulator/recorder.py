"""Recordings: ``uuid_record`` / ``record_session``, which run beside everything else, and the ``record`` application.

Files are real: a wav (8 kHz, 16 bit) that holds a tone where somebody spoke, or an mp3 of that length. What a
recording listens to is the caller's script, so its silence timeouts come out as they would. A raw file (``.r8``) grows
while the call goes on, as it does without FreeSWITCH's write buffer.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import gevent

from fsctl.simulator import media
from fsctl.simulator.bugs import Bug
from fsctl.simulator.caller import silence_ends, talking
from fsctl.simulator.playing import terminator
from fsctl.simulator.registry import application
from fsctl.simulator.text import decode_url, seconds_of, split_parameters, truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsctl.simulator.channel import Channel

__all__ = ["Recording", "control", "start", "stop"]

Interval = tuple[float, float]

_FRAME = 0.02
_GROWS_EVERY = 0.04
_PRE_BUFFER = 25


class Recording(Bug):
    """A session recording. ``variables`` are the ``{k=v}`` of its start: RECORD_* overrides and event headers.

    Attributes after its end: ``cause`` (``Record-Completion-Cause``), ``seconds`` of audio in the file, ``size``.
    """

    def __init__(self, channel: Channel, path: str, variables: dict[str, str]) -> None:
        super().__init__(channel, "session_record", path)
        self.path = path
        self.variables = variables
        self.began = channel.clock.now()
        channel.dictate()
        self.ended = 0.0
        self.cause = ""
        self.seconds = 0.0
        self.size = 0
        self._masked: list[Interval] = []
        self._cut: list[Interval] = []
        self._overdue = ""
        self._timer = None if (due := self._due()) is None else gevent.spawn(self._finish_at, *due)
        raw = path.lower().endswith(".r8") and channel.switch.writes_files
        self._raw = Path(path).open("wb", buffering=0) if raw else None  # noqa: SIM115 - open as long as it records
        self._written = 0
        self._growth = gevent.spawn(self._grow) if raw else None

    def option(self, name: str) -> str | None:
        """A RECORD_* setting: the recording's own, else the channel's."""
        return self.variables.get(name) or self.channel.variables.get(name)

    @property
    def stereo(self) -> bool:
        """Whether each direction gets a channel of the file."""
        return truth(self.option("RECORD_STEREO")) or truth(self.option("RECORD_STEREO_SWAP"))

    def _due(self) -> tuple[float, str] | None:
        """When it will stop by itself, and why."""
        ends: list[tuple[float, str]] = []
        limit = seconds_of(self.variables.get("limit"))
        if limit > 0:
            # The limit is compared in whole seconds of the wall clock, so it may come up to a second early.
            ends.append((int(self.began) + limit, "success-maxtime"))
        initial, final = (
            seconds_of(self.option(f"RECORD_{which}_TIMEOUT_MS")) / 1000 or None for which in ("INITIAL", "FINAL")
        )
        quiet = silence_ends(self.channel.speech(), self.began, initial, final)
        if quiet is not None:
            ends.append((quiet[0], "success-silence" if quiet[1] else "no-input-timeout"))
        if not ends:
            return None
        return min(ends)

    def _finish_at(self, when: float, cause: str) -> None:
        while (left := when - self.channel.clock.now()) > 0:
            self.channel.clock.sleep(left)
        if self._cut and math.isinf(self._cut[-1][1]):  # a paused recording is not looked at
            self._overdue = cause
        else:
            self.finish(cause)

    def _grow(self) -> None:
        while not self.ended:
            self.channel.clock.sleep(_GROWS_EVERY)
            self._append()

    def _append(self) -> None:
        """Write what was said since the last time, in whole frames."""
        if self._raw is None or self._raw.closed or not self.channel.behaviour.sends_rtp:
            return
        frames = int((self.channel.clock.now() - self.began) / _FRAME)
        first, last = self._written, frames * round(_FRAME * media.RATE)
        audio = bytearray((last - first) * 2)
        start, end = (self.began + sample / media.RATE for sample in (first, last))
        for begin, stop in talking(self.channel.speech(), start, end):
            at, to = (min(last - first, round((when - start) * media.RATE)) for when in (begin, stop))
            audio[at * 2 : to * 2] = media.tone(to - at)
        self._raw.write(audio)
        self._written = last

    def mask(self, on: bool) -> None:
        """Write silence from now on, or the audio again."""
        _toggle(self._masked, on, self.channel.clock.now())

    def pause(self, on: bool) -> None:
        """Leave out what comes from now on, or take it in again, which is too late for a limit that passed."""
        _toggle(self._cut, on, self.channel.clock.now())
        if self._overdue and not on:
            self.finish(self._overdue)

    def hang_up(self) -> None:
        """End with the call."""
        listens = self.option("RECORD_INITIAL_TIMEOUT_MS") or self.option("RECORD_FINAL_TIMEOUT_MS")
        heard = talking(self.channel.speech(), self.began, self.channel.clock.now())
        self.finish("success-silence" if heard or not listens else "no-input-timeout", hung_up=True)

    def drop(self) -> None:
        """Stop waiting for the end; no file, no event."""
        if self._timer is not None and self._timer is not gevent.getcurrent():
            self._timer.kill(block=False)
        if self._growth is not None and self._raw is not None:
            self._growth.kill(block=False)
            self._raw.close()

    def finish(self, cause: str, *, hung_up: bool = False) -> None:
        """Stop, write the file and tell; ``cause`` gives way when the file is empty or too short."""
        if self.ended:
            return
        channel = self.channel
        self._append()
        self.ended = channel.clock.now()
        self.drop()
        frames = self._frames()
        self.seconds = frames * _FRAME
        discarded = ""
        if not frames:
            discarded = "empty-file"
        elif self.seconds < seconds_of(self.option("RECORD_MIN_SEC")):
            discarded = "input-too-short"
        self.cause = discarded or cause
        self.size = self._write(frames) if not discarded else 0
        if discarded:
            Path(self.path).unlink(missing_ok=True)
            channel.variables.set("RECORD_DISCARDED", "true")
        samples = round(self.seconds * media.RATE)
        for name, value in (
            ("record_file_size", str(self.size)),
            ("record_samples", str(samples)),
            ("record_seconds", str(samples // media.RATE)),
            ("record_ms", str(samples * 1000 // media.RATE)),
            ("record_completion_cause", self.cause),
        ):
            channel.variables.set(name, value)
        channel.fire("RECORD_STOP", after=[*self.headers(), ("Record-Completion-Cause", self.cause)])
        if not hung_up:
            channel.detach(self)

    def headers(self) -> list[tuple[str, str]]:
        """What RECORD_START and RECORD_STOP say about it."""
        own = ((f"Recording-Variable-{name}", value) for name, value in self.variables.items() if name != "limit")
        return [("Record-File-Path", self.path), *own]

    def _frames(self) -> int:
        if not self.channel.behaviour.sends_rtp:
            return 0
        passed = self.ended - self.began - sum(end - begin for begin, end in self._spans(self._cut))
        whole = int(passed / _FRAME + 1e-6)
        ahead = self.option("RECORD_PRE_BUFFER_FRAMES")
        lost = int(seconds_of(ahead)) if ahead else _PRE_BUFFER
        return max(whole - lost, 1) if whole else 0

    def _spans(self, intervals: Sequence[Interval]) -> list[Interval]:
        return [(begin, min(end, self.ended)) for begin, end in intervals if begin < self.ended]

    def _write(self, frames: int) -> int:
        samples = round(frames * _FRAME * media.RATE)
        channels = 2 if self.stereo else 1
        if not self.channel.switch.writes_files:
            return samples * 2 * channels + 44
        if self._raw is not None:
            return self._written * 2
        if self.path.lower().endswith(".mp3"):
            return media.write_mp3(Path(self.path), samples, channels)
        return media.write_wav(Path(self.path), self._audio(samples), channels)

    def _audio(self, samples: int) -> bytes:
        said, heard = self.channel.speech(), tuple(self.channel.heard)
        if self.stereo:
            sides = [self._painted(said, samples), self._painted(heard, samples)]
            if truth(self.option("RECORD_STEREO_SWAP")):
                sides.reverse()
            return media.stereo(*sides)
        if truth(self.option("RECORD_READ_ONLY")):
            heard = ()
        elif truth(self.option("RECORD_WRITE_ONLY")):
            said = ()
        return self._painted((*said, *heard), samples)

    def _painted(self, sounding: tuple[Interval, ...], samples: int) -> bytes:
        """A mono block of that many samples: a tone in the intervals, silence elsewhere and where masked."""
        audio = bytearray(samples * 2)
        for begin, end in talking(sounding, self.began, self.ended):
            first, last = self._sample(begin, samples), self._sample(end, samples)
            audio[first * 2 : last * 2] = media.tone(last - first)
        for begin, end in self._spans(self._masked):
            first, last = self._sample(begin, samples), self._sample(end, samples)
            audio[first * 2 : last * 2] = bytes((last - first) * 2)
        return bytes(audio)

    def _sample(self, when: float, samples: int) -> int:
        left_out = sum(max(0.0, min(end, when) - begin) for begin, end in self._spans(self._cut))
        return min(samples, max(0, round((when - self.began - left_out) * media.RATE)))


def _toggle(intervals: list[Interval], on: bool, now: float) -> None:
    if intervals and math.isinf(intervals[-1][1]):
        if not on:
            intervals[-1] = (intervals[-1][0], now)
    elif on:
        intervals.append((now, math.inf))


def start(channel: Channel, path: str, limit: float = 0, parameters: str = "") -> bool:
    """Start a session recording; False when its file cannot be made."""
    given, _ = split_parameters(parameters)
    variables = {name: decode_url(value) for name, value in given.items()}
    channel.pre_answer()
    running = find(channel, path)
    if running is not None:
        if truth(variables.get("RECORD_TOGGLE_ON_REPEAT") or channel.variables.get("RECORD_TOGGLE_ON_REPEAT")):
            running.finish("success-maxtime")
        return True
    if not can_record(channel, path):
        return False
    if limit > 0:
        variables["limit"] = str(int(limit))
    recording = Recording(channel, path, variables)
    channel.recordings.append(recording)
    channel.fire("RECORD_START", after=recording.headers())
    channel.attach(recording)
    return True


def can_record(channel: Channel, path: str) -> bool:
    """Whether there is a format for ``path`` and its folder exists or can be made."""
    known = {".wav", ".r8", ".mp3"} if channel.switch.mod_shout else {".wav", ".r8"}
    file = Path(path)
    if file.suffix.lower() not in known:
        return False
    if not channel.switch.writes_files:
        return True
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError:
        return False
    return True


def find(channel: Channel, path: str) -> Recording | None:
    """The running recording started with exactly this path."""
    return next((bug for bug in channel.bugs if isinstance(bug, Recording) and bug.path == path), None)


def stop(channel: Channel, path: str) -> bool:
    """Stop one recording, or ``all``; False when there was none."""
    running = [bug for bug in channel.bugs if isinstance(bug, Recording) and path in {bug.path, "all"}]
    for recording in running:
        recording.finish("success-maxtime")
    return bool(running)


def control(channel: Channel, action: str, path: str) -> bool:
    """``mask``, ``unmask``, ``pause`` or ``resume`` a recording; False when there is none of this path."""
    recording = find(channel, path)
    if recording is None:
        return False
    if action.endswith("mask"):
        recording.mask(action == "mask")
    else:
        recording.pause(action == "pause")
    return True


@application("record_session", needs_media=True)
def record_session(channel: Channel, argument: str) -> None:
    """Start a recording, as ``<path> [+<limit>] [{k=v}]``; returns at once."""
    head, brace, parameters = argument.partition("{")
    path, *words = head.split()
    start(channel, path, seconds_of(words[0].lstrip("+")) if words else 0, brace + parameters)


@application("stop_record_session")
def stop_record_session(channel: Channel, argument: str) -> None:
    """Stop the recording with this path."""
    stop(channel, argument)


def _controlled(action: str) -> None:
    def run(channel: Channel, argument: str) -> None:
        control(channel, action, argument)

    application(f"record_session_{action}")(run)


for _action in ("mask", "unmask", "pause", "resume"):
    _controlled(_action)


@application("record", needs_media=True)
def record(channel: Channel, argument: str) -> None:
    """Record the caller until a key, silence or the limit, as ``<path> [+]<limit> [<threshold>] [<hits>]``."""
    path, *words = argument.split(" ")
    if not path or not can_record(channel, path):
        channel.hang_up("DESTINATION_OUT_OF_ORDER")
        return
    limit, threshold, hits = (seconds_of(word.lstrip("+")) for word in [*words, "", "", ""][:3])
    quiet = (hits or 3.0) if threshold else None
    variables = channel.variables
    variables.set("silence_hits_exhausted", "false")
    _read_codec(channel, "L16", "128000")
    origin = [("Record-File-Path", path)]
    channel.fire("RECORD_START", after=origin, origin="RECORD_START record")
    began = channel.clock.now()
    channel.dictate()
    ends = [int(began) + limit + 1] if limit else []
    silent = silence_ends(channel.speech(), began, quiet, quiet)
    if silent:
        ends.append(silent[0])
    ended = channel.wait(min(ends, default=math.inf) - began, on_digit=terminator(channel), one_digit_a_frame=True)
    if ended == "done" and silent and silent[0] == min(ends):
        variables.set("silence_hits_exhausted", "true")
    samples = int((channel.clock.now() - began) / _FRAME) * 160 if channel.behaviour.sends_rtp else 0
    size = samples * 2 + 44
    if channel.switch.writes_files:
        size = _written(channel, path, samples, began)
    for name, value in (
        ("record_record_file_size", size),
        ("record_file_size", size),
        ("record_seconds", samples // media.RATE),
        ("record_ms", samples * 1000 // media.RATE),
        ("record_samples", samples),
    ):
        variables.set(name, str(value))
    channel.fire("RECORD_STOP", after=origin, origin="RECORD_STOP record")
    _read_codec(channel, "PCMU", "64000")


def _written(channel: Channel, path: str, samples: int, began: float) -> int:
    if path.lower().endswith(".mp3"):
        return media.write_mp3(Path(path), samples, 1)
    audio = bytearray(samples * 2)
    for begin, end in talking(channel.speech(), began, began + samples / media.RATE):
        first, last = (min(samples, round((when - began) * media.RATE)) for when in (begin, end))
        audio[first * 2 : last * 2] = media.tone(last - first)
    return media.write_wav(Path(path), bytes(audio), 1)


def _read_codec(channel: Channel, name: str, bits: str) -> None:
    channel.data.change(Channel_Read_Codec_Name=name, Channel_Read_Codec_Bit_Rate=bits)
    channel.variables.set("read_codec", name)
    channel.variables.set("read_rate", "8000")
