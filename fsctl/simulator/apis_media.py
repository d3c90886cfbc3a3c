"""API commands that touch a call's audio: sounds, digits, recordings and streams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fsctl.simulator import recorder
from fsctl.simulator.bugs import Bug, Displace
from fsctl.simulator.channel import Message
from fsctl.simulator.digits import send_digits
from fsctl.simulator.media import open_playable
from fsctl.simulator.registry import OK, SUCCESS, channel_api
from fsctl.simulator.reporting import cause_named
from fsctl.simulator.streamer import Stream, valid_url
from fsctl.simulator.text import seconds_of

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel
    from fsctl.simulator.playing import Playing

__all__: list[str] = []

FAILED = "-ERR Operation Failed\n"


# -- sounds and digits -------------------------------------------------------------------------------------------


@channel_api("uuid_broadcast", pieces=3, usage="<uuid> <path> [aleg|bleg|both]", least=2, missing="-ERR invalid uuid\n")
def _broadcast(channel: Channel, words: list[str]) -> str:
    name, separator, argument = words[0].partition("::")
    if not separator:
        name, argument = "playback", words[0]
    name, _, cause = name.partition("!")
    channel.queue(Message(name, argument, lock=True, lead_frames=5))
    if cause:
        channel.queue(Message("hangup", hangup_cause=cause_named(cause)))
    return "+OK Message sent\n"


@channel_api("uuid_fileman", usage="<uuid> <cmd>[:<val>]", least=2)
def _fileman(channel: Channel, words: list[str]) -> str:
    if not channel.playing:
        return "-ERR No file handle!\n"
    command, _, value = words[0].partition(":")
    change = _FILE_COMMANDS.get(command)
    if change is not None:
        channel.playing[-1].meddling.append(lambda playing: change(playing, value))
        channel.wake()
    return OK


def _file_pause(playing: Playing, _: str) -> None:
    playing.paused = not playing.paused


def _file_restart(playing: Playing, _: str) -> None:
    playing.position = 0.0


def _file_seek(playing: Playing, value: str) -> None:
    base = playing.position if value[:1] in {"+", "-"} else 0.0
    playing.position = max(0.0, base + seconds_of(value) / 1000)


def _file_speed(playing: Playing, value: str) -> None:
    base = playing.speed if value[:1] in {"+", "-"} else 0
    playing.speed = max(-2, min(2, base + int(seconds_of(value))))


_FILE_COMMANDS = {"pause": _file_pause, "restart": _file_restart, "seek": _file_seek, "speed": _file_speed}
"""What ``uuid_fileman`` really changes: ``stop`` answers ``+OK`` and does nothing, as recorded."""


_DISPLACE_USAGE = "<uuid> [start|stop] <path> [<limit>] [mux]"


@channel_api("uuid_displace", pieces=5, usage=_DISPLACE_USAGE, least=3, missing="-ERR Cannot locate session!\n")
def _displace(channel: Channel, words: list[str]) -> str:
    action, path, limit, flags = (*words, "", "")[:4]
    running = next((bug for bug in channel.bugs if isinstance(bug, Displace) and bug.target == path), None)
    if action == "stop":
        if running is None:
            return "-ERR Cannot stop displace session!\n"
        running.stop()
        return SUCCESS
    if action != "start":
        return f"-USAGE: {_DISPLACE_USAGE}\n"
    channel.pre_answer()
    playable = open_playable(path, speech="mod_ssml" in channel.switch.modules)
    if playable is None or running is not None:
        return "-ERR Cannot displace session!\n"
    seconds = min(math.inf if "l" in flags else playable.seconds, seconds_of(limit) or math.inf)
    channel.attach(Displace(channel, path, seconds, said="r" in flags, silent=playable.silent))
    return SUCCESS


def _single_bug(channel: Channel, function: str, *, wanted: bool) -> None:
    running = next((bug for bug in channel.bugs if bug.function == function), None)
    if wanted and running is None:
        channel.attach(Bug(channel, function))
    elif not wanted and running is not None:
        channel.detach(running)


@channel_api("uuid_audio", usage="<uuid> [start [read|write] [mute|level <level>]|stop]", least=2)
def _audio(channel: Channel, words: list[str]) -> str:
    if words[0] == "stop":
        _single_bug(channel, "audio", wanted=False)
        return SUCCESS
    if len(words) < 4 or words[0] != "start" or words[1] not in {"read", "write"} or words[2] not in {"mute", "level"}:
        return "-USAGE: <uuid> [start [read|write] [mute|level <level>]|stop]\n"
    _single_bug(channel, "audio", wanted=True)
    channel.levels[words[1], words[2]] = int(seconds_of(words[3]))
    return SUCCESS


@channel_api("uuid_buglist")
def _buglist(channel: Channel, _: list[str]) -> str:
    bugs = "".join(
        f" <media-bug>\n  <function>{bug.function}</function>\n  <target>{bug.target}</target>\n"
        "  <thread-locked>0</thread-locked>\n </media-bug>\n"
        for bug in channel.bugs
    )
    return f"<media-bugs>\n{bugs}</media-bugs>\n"


@channel_api("uuid_preprocess", usage="<uuid> <cmds>", least=2)
def _preprocess(channel: Channel, words: list[str]) -> str:
    running = any(bug.function == "preprocess" for bug in channel.bugs)
    # A stop with nothing to stop attaches a filter that does nothing.
    _single_bug(channel, "preprocess", wanted=words[0] != "stop" or not running)
    return OK


@channel_api("uuid_send_dtmf", usage="<uuid> <dtmf_data>", least=2)
def _send_dtmf(channel: Channel, words: list[str]) -> str:
    sent = send_digits(channel, words[0])
    return f"+OK {channel.uuid} sent DTMF {words[0]}.\n" if sent else "-ERR Operation failed\n"


@channel_api("uuid_recv_dtmf", usage="<uuid> <dtmf_data>", least=2)
def _recv_dtmf(channel: Channel, words: list[str]) -> str:
    digits, _, milliseconds = words[0].partition("@")
    channel.press(digits, source="APP", duration=int(seconds_of(milliseconds, 250) * 8))
    return f"+OK {channel.uuid} received DTMF {words[0]}.\n"


@channel_api("uuid_flush_dtmf")
def _flush_dtmf(channel: Channel, _: list[str]) -> str:
    channel.digits.clear()
    return OK


# -- recordings and streams --------------------------------------------------------------------------------------

_RECORD_USAGE = "<uuid> [start|stop|mask|unmask|pause|resume] <path> [<limit>] [<recording_vars>]"


@channel_api("uuid_record", pieces=5, usage=_RECORD_USAGE, least=3, missing="-ERR Cannot locate session!\n")
def _record(channel: Channel, words: list[str]) -> str:
    action, path, *more = words
    if action == "start":
        limit = seconds_of(more[0]) if more else 0.0
        parameters = next((word for word in more if word.startswith("{")), "")
        done = recorder.start(channel, path, limit, parameters)
        return SUCCESS if done else "-ERR Cannot record session!\n"
    if action == "stop":
        return SUCCESS if recorder.stop(channel, path) else "-ERR Cannot stop record session!\n"
    if action in {"mask", "unmask", "pause", "resume"}:
        done = recorder.control(channel, action, path)
        return SUCCESS if done else f"-ERR Cannot {action} recording session!\n"
    return f"-USAGE: {_RECORD_USAGE}\n"


_STREAM_USAGE = (
    "<uuid> [start | stop | send_text | pause | resume | graceful-shutdown ] [wss-url | path] "
    "[mono | mixed | stereo] [8000 | 16000] [metadata]"
)


@channel_api("uuid_audio_stream", pieces=6, usage=_STREAM_USAGE, least=2, missing=FAILED)
def _audio_stream(channel: Channel, words: list[str]) -> str:
    verb, *more = words
    running = next((bug for bug in channel.bugs if isinstance(bug, Stream)), None)
    if verb == "start":
        return _start_stream(channel, running, more)
    if running is None:
        return FAILED
    if verb == "send_text":
        if not more:
            return ""
        running.send_text(more[0])
    elif verb in {"pause", "resume"}:
        running.paused = verb == "pause"
    elif verb == "stop":
        running.stop(more[0] if more else "")
    else:
        return FAILED
    return SUCCESS


def _start_stream(channel: Channel, running: Stream | None, words: list[str]) -> str:
    if len(words) < 2:
        return f"-USAGE: {_STREAM_USAGE}\n"
    url, mix = words[:2]
    rate = words[2].lower().replace("k", "000") if len(words) > 2 else "8000"
    if mix not in {"mono", "mixed", "stereo"}:
        return ""
    if running is not None or not valid_url(url) or not rate.isdigit() or int(rate) % 8000 or not int(rate):
        return FAILED
    channel.pre_answer()
    stream = Stream(channel, url, mix, int(rate), words[3] if len(words) > 3 else "")
    channel.streams.append(stream)
    channel.attach(stream)
    return SUCCESS
