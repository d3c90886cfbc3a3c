"""API commands, as ``api``, ``bgapi`` and ``${...}`` run them: each answers its output, as FreeSWITCH words it."""

from __future__ import annotations

import ast
import math
import operator
from typing import TYPE_CHECKING

from fsctl.simulator import recorder
from fsctl.simulator.bugs import Bug, Displace
from fsctl.simulator.channel import Message
from fsctl.simulator.digits import send_digits
from fsctl.simulator.events import Event
from fsctl.simulator.media import open_playable
from fsctl.simulator.registry import api
from fsctl.simulator.reporting import cause_named
from fsctl.simulator.streamer import Stream, valid_url
from fsctl.simulator.text import decode_url, seconds_of, separate

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.simulator.channel import Channel
    from fsctl.simulator.playing import Playing
    from fsctl.simulator.switch import Switch

__all__: list[str] = []

OK = "+OK\n"
SUCCESS = "+OK Success\n"
FAILED = "-ERR Operation Failed\n"
NO_CHANNEL = "-ERR No such channel!\n"


def _on_channel(*names: str, usage: str = "<uuid>", least: int = 1, missing: str = NO_CHANNEL) -> Callable[..., object]:
    """Register a function of a live channel and the words after its UUID."""

    def register(run: Callable[[Channel, list[str]], str]) -> Callable[[Channel, list[str]], str]:
        def find(switch: Switch, _: Channel | None, argument: str) -> str:
            words = separate(argument, _WORDS.get(names[0], 10))
            if len(words) < least:
                return f"-USAGE: {usage}\n"
            channel = switch.live(words[0])
            return missing if channel is None else run(channel, words[1:])

        api(*names)(find)
        return run

    return register


_WORDS = {"uuid_setvar": 3, "uuid_setvar_multi": 2, "uuid_record": 5, "uuid_audio_stream": 6, "uuid_broadcast": 3}
"""Into how many pieces a command splits its arguments; the last keeps the remainder."""


# -- calls -------------------------------------------------------------------------------------------------------


@_on_channel("uuid_answer", missing="-ERROR No such channel!\n")
def _answer(channel: Channel, _: list[str]) -> str:
    channel.answer()
    return OK


@_on_channel("uuid_pre_answer", missing="-ERROR No such channel!\n")
def _pre_answer(channel: Channel, _: list[str]) -> str:
    channel.pre_answer()
    return OK


@_on_channel("uuid_kill", usage="<uuid> [cause]")
def _kill(channel: Channel, words: list[str]) -> str:
    channel.hang_up(cause_named(words[0]) if words else "NORMAL_CLEARING")
    return OK


@api("uuid_break")
def _break(switch: Switch, _: Channel | None, argument: str) -> str:
    words = separate(argument, 3)
    if not words:
        return "-USAGE: <uuid> [all] [both]\n"
    channel = switch.live(words[0])
    if channel is None:
        return f"-ERR No such channel {words[0]}!\n"
    channel.interrupt(flush="all" in words[1:])
    return OK


@api("uuid_exists")
def _exists(switch: Switch, _: Channel | None, argument: str) -> str:
    return "true" if switch.live(argument.strip()) else "false"


@_on_channel("uuid_transfer", usage="<uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]", least=2)
def _transfer(channel: Channel, words: list[str]) -> str:
    if words[0].startswith("-"):
        words = words[1:]
    if "inline" in words[1:]:
        text, delimiter = words[0], ","
        if text.startswith("m:") and len(text) > 4:
            delimiter, text = text[2], text[4:]
        actions = [one.partition(":") for one in text.split(delimiter) if one]
        channel.transfer("inline", [(name, argument) for name, _, argument in actions])
    else:
        channel.transfer(words[0])
    return OK


@_on_channel("uuid_deflect", usage="<uuid> <uri>", least=2)
def _deflect(channel: Channel, words: list[str]) -> str:
    channel.execute("deflect", words[0])
    return "+OK:SIP/2.0 202 Accepted\n"


@_on_channel("uuid_pause", least=2)
def _pause(_: Channel, __: list[str]) -> str:
    return ""


@api("sched_hangup")
def _sched_hangup(switch: Switch, _: Channel | None, argument: str) -> str:
    words = argument.split()
    if len(words) < 2:
        return "-USAGE: [+]<time> <uuid> [<cause>]\n"
    channel = switch.live(words[1])
    if channel is not None:
        at = seconds_of(words[0].lstrip("+"))
        seconds = at if words[0].startswith("+") else max(0.0, at - switch.clock.now())
        switch.schedule_hangup(channel, seconds, cause_named(words[2]) if len(words) > 2 else "ALLOTTED_TIMEOUT")
    return OK


@api("sched_del")
def _sched_del(switch: Switch, _: Channel | None, argument: str) -> str:
    return f"+OK Deleted: {switch.unschedule(argument.strip())}\n"


# -- variables ---------------------------------------------------------------------------------------------------


@_on_channel("uuid_setvar", usage="<uuid> <var> [value]", least=2)
def _setvar(channel: Channel, words: list[str]) -> str:
    channel.variables.set(words[0], words[1] if len(words) > 1 else None)
    return OK


@_on_channel("uuid_setvar_multi", usage="<uuid> <var>=<value>;<var>=<value>...", least=2)
def _setvar_multi(channel: Channel, words: list[str]) -> str:
    for pair in words[0].split(";")[:64]:
        name, equals, value = pair.partition("=")
        if equals and name and "${" not in value:
            channel.variables.set(name, value)
    return OK


@_on_channel("uuid_getvar", usage="<uuid> <var>", least=2)
def _getvar(channel: Channel, words: list[str]) -> str:
    value = channel.variables.get(words[0])
    return "_undef_" if value is None else value


@_on_channel("uuid_dump", usage="<uuid> [format]")
def _dump(channel: Channel, words: list[str]) -> str:
    event = Event("CHANNEL_DATA", channel.switch.core.stamp(), channel=channel.data)
    form = words[0] if words else "txt"
    if form == "json":
        return event.frame("json").partition(b"\n\n")[2].decode("utf-8", "surrogateescape") + "\n"
    return event.plain() if form == "plain" else decode_url(event.plain())


# -- sounds and digits -------------------------------------------------------------------------------------------


@_on_channel("uuid_broadcast", usage="<uuid> <path> [aleg|bleg|both]", least=2, missing="-ERR invalid uuid\n")
def _broadcast(channel: Channel, words: list[str]) -> str:
    name, separator, argument = words[0].partition("::")
    if not separator:
        name, argument = "playback", words[0]
    name, _, cause = name.partition("!")
    channel.queue(Message(name, argument, lock=True, lead_frames=5))
    if cause:
        channel.queue(Message("hangup", hangup_cause=cause_named(cause)))
    return "+OK Message sent\n"


@_on_channel("uuid_fileman", usage="<uuid> <cmd>[:<val>]", least=2)
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


@_on_channel("uuid_displace", usage="<uuid> [start|stop] <path> [<limit>] [mux]", least=3)
def _displace(channel: Channel, words: list[str]) -> str:
    running = next((bug for bug in channel.bugs if isinstance(bug, Displace) and bug.target == words[1]), None)
    if words[0] == "stop":
        if running is None:
            return "-ERR Cannot stop displace session!\n"
        running.hang_up()
        channel.detach(running)
        return SUCCESS
    playable = open_playable(words[1])
    if words[0] != "start" or playable is None:
        return "-ERR Cannot displace session!\n"
    if running is None:
        loops = "l" in words[3] if len(words) > 3 and words[3] != "mux" else False
        limit = seconds_of(words[2]) if len(words) > 2 else 0
        seconds = math.inf if loops else playable.seconds
        channel.attach(Displace(channel, words[1], min(seconds, limit or math.inf)))
    return SUCCESS


def _single_bug(channel: Channel, function: str, *, wanted: bool) -> None:
    running = next((bug for bug in channel.bugs if bug.function == function), None)
    if wanted and running is None:
        channel.attach(Bug(channel, function))
    elif not wanted and running is not None:
        channel.detach(running)


@_on_channel("uuid_audio", usage="<uuid> [start [read|write] [mute|level <level>]|stop]", least=2)
def _audio(channel: Channel, words: list[str]) -> str:
    if words[0] == "stop":
        _single_bug(channel, "audio", wanted=False)
        return SUCCESS
    if len(words) < 4 or words[0] != "start" or words[1] not in {"read", "write"} or words[2] not in {"mute", "level"}:
        return "-USAGE: <uuid> [start [read|write] [mute|level <level>]|stop]\n"
    _single_bug(channel, "audio", wanted=True)
    channel.levels[words[1], words[2]] = int(seconds_of(words[3]))
    return SUCCESS


@_on_channel("uuid_preprocess", usage="<uuid> <cmds>", least=2)
def _preprocess(channel: Channel, words: list[str]) -> str:
    _single_bug(channel, "preprocess", wanted=words[0] != "stop")
    return SUCCESS


@_on_channel("uuid_send_dtmf", usage="<uuid> <dtmf_data>", least=2)
def _send_dtmf(channel: Channel, words: list[str]) -> str:
    send_digits(channel, words[0])
    return f"+OK {channel.uuid} sent DTMF {words[0]}.\n"


@_on_channel("uuid_recv_dtmf", usage="<uuid> <dtmf_data>", least=2)
def _recv_dtmf(channel: Channel, words: list[str]) -> str:
    digits, _, milliseconds = words[0].partition("@")
    channel.press(digits, source="APP", duration=int(seconds_of(milliseconds, 250) * 8))
    return f"+OK {channel.uuid} received DTMF {words[0]}.\n"


@_on_channel("uuid_flush_dtmf")
def _flush_dtmf(channel: Channel, _: list[str]) -> str:
    channel.digits.clear()
    return OK


# -- recordings and streams --------------------------------------------------------------------------------------

_RECORD_USAGE = "<uuid> [start|stop|mask|unmask|pause|resume] <path> [<limit>] [<recording_vars>]"


@_on_channel("uuid_record", usage=_RECORD_USAGE, least=3, missing="-ERR Cannot locate session!\n")
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
    "-USAGE: <uuid> [start | stop | send_text | pause | resume | graceful-shutdown ] [wss-url | path] "
    "[mono | mixed | stereo] [8000 | 16000] [metadata]\n"
)


@_on_channel("uuid_audio_stream", usage=_STREAM_USAGE.removeprefix("-USAGE: ").rstrip(), least=2, missing=FAILED)
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
        return _STREAM_USAGE
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


# -- the switch --------------------------------------------------------------------------------------------------


@api("status")
def _status(switch: Switch, _: Channel | None, __: str) -> str:
    seconds = int(switch.clock.now() - switch.started)
    hours, minutes = divmod(seconds // 60, 60)
    return (
        f"UP 0 years, {hours // 24} days, {hours % 24} hours, {minutes} minutes, {seconds % 60} seconds\n"
        f"FreeSWITCH (Version {switch.version} 64bit) is ready\n"
        f"{switch.sessions} session(s) since startup\n"
        f"{switch.live_count} session(s) - peak {switch.peak}\n"
        "0 session(s) per Sec out of max 30\n1000 session(s) max\nmin idle cpu 0.00/99.00\n"
    )


@api("version")
def _version(switch: Switch, _: Channel | None, argument: str) -> str:
    short = switch.version.partition("-")[0]
    return short if argument.strip() == "short" else f"FreeSWITCH Version {switch.version}~64bit (simulated)\n"


@api("create_uuid")
def _create_uuid(switch: Switch, _: Channel | None, __: str) -> str:
    return switch.new_uuid()


@api("hostname", "switchname")
def _hostname(switch: Switch, _: Channel | None, __: str) -> str:
    return switch.hostname


@api("module_exists")
def _module_exists(switch: Switch, _: Channel | None, argument: str) -> str:
    return "true" if argument.strip() in switch.modules else "false"


@api("global_getvar")
def _global_getvar(switch: Switch, _: Channel | None, argument: str) -> str:
    return switch.variables.get(argument.strip(), "")


@api("global_setvar")
def _global_setvar(switch: Switch, _: Channel | None, argument: str) -> str:
    name, value = [*argument.split("=", 1), ""][:2]
    switch.variables[name.strip()] = value
    return OK


@api("show")
def _show(switch: Switch, _: Channel | None, argument: str) -> str:
    words = argument.split()
    if words[:1] not in (["channels"], ["calls"]):
        return "-ERR Invalid show command\n"
    count = switch.live_count
    if "json" in words:
        rows = ",".join(f'{{"uuid":"{uuid}"}}' for uuid in switch.live_uuids())
        listed = f',"rows":[{rows}]' if rows and "count" not in words else ""
        return f'{{"row_count":{count}{listed}}}\n'
    return f"\n{count} total.\n"


@api("eval", "expand")
def _expand(_: Switch, channel: Channel | None, argument: str) -> str:
    return channel.expand(argument) if channel else argument


_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
}


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("not arithmetic")


@api("expr")
def _expr(_: Switch, __: Channel | None, argument: str) -> str:
    try:
        return f"{_value(ast.parse(argument.strip(), mode='eval').body):g}"
    except (SyntaxError, ValueError, ZeroDivisionError):
        return "ERR"


@api("system", "bgsystem")
def _system(_: Switch, __: Channel | None, ___: str) -> str:
    # The real one runs a shell. That it was asked to is what a test wants to know; nothing is run here.
    return "+OK\n"


@api("bgapi")
def _background(switch: Switch, _: Channel | None, argument: str) -> str:
    switch.api(argument, None)
    return f"+OK Job-UUID: {switch.new_uuid()}\n"


@api("unload", "reload")
def _unload(switch: Switch, _: Channel | None, argument: str) -> str:
    switch.unloaded.append(argument.strip())
    return OK
