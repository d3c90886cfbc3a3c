"""API commands, as ``api``, ``bgapi`` and ``${...}`` run them: each answers its output, as FreeSWITCH words it."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING

from fsctl.simulator import apis_media  # noqa: F401 - registers itself
from fsctl.simulator.events import Event
from fsctl.simulator.registry import OK, api, channel_api
from fsctl.simulator.reporting import cause_named
from fsctl.simulator.text import decode_url, inline, seconds_of, separate

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.simulator.channel import Channel
    from fsctl.simulator.switch import Switch

__all__: list[str] = []

# -- calls -------------------------------------------------------------------------------------------------------


_NOT_OPENED = "-ERROR\n"  # of the next two, whatever the reason


@api("uuid_answer")
def _answer(switch: Switch, _: Channel | None, uuid: str) -> str:
    channel = switch.live(uuid)
    if channel is None:
        return _NOT_OPENED
    channel.answer()
    return _NOT_OPENED if channel.hung_up else OK


@api("uuid_pre_answer")
def _pre_answer(switch: Switch, _: Channel | None, uuid: str) -> str:
    channel = switch.live(uuid)
    if channel is None:
        return _NOT_OPENED
    channel.pre_answer()
    return OK


@channel_api("uuid_kill", usage="<uuid> [cause]")
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


@channel_api("uuid_transfer", usage="<uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]", least=2)
def _transfer(channel: Channel, words: list[str]) -> str:
    if words[0].startswith("-"):
        words = words[1:]
    if "inline" in words[1:]:
        channel.transfer("inline", inline(words[0]))
    else:
        channel.transfer(words[0])
    return OK


@channel_api("uuid_deflect", usage="<uuid> <uri>", least=2)
def _deflect(channel: Channel, words: list[str]) -> str:
    channel.switch.applications["deflect"].run(channel, words[0])
    return "+OK:SIP/2.0 202 Accepted\n"


@channel_api("uuid_pause", least=2)
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


@channel_api("uuid_setvar", pieces=3, usage="<uuid> <var> [value]", least=2)
def _setvar(channel: Channel, words: list[str]) -> str:
    channel.variables.set(words[0], words[1] if len(words) > 1 else None)
    return OK


@channel_api("uuid_setvar_multi", pieces=2, usage="<uuid> <var>=<value>;<var>=<value>...", least=2)
def _setvar_multi(channel: Channel, words: list[str]) -> str:
    for pair in words[0].split(";")[:64]:
        name, equals, value = pair.partition("=")
        if equals and name and "${" not in value:
            channel.variables.set(name, value)
    return OK


@channel_api("uuid_getvar", usage="<uuid> <var>", least=2)
def _getvar(channel: Channel, words: list[str]) -> str:
    value = channel.variables.get(words[0])
    return "_undef_" if value is None else value


@channel_api("uuid_dump", usage="<uuid> [format]")
def _dump(channel: Channel, words: list[str]) -> str:
    event = Event("CHANNEL_DATA", channel.switch.core.stamp(), channel=channel.data)
    form = words[0] if words else "txt"
    if form == "json":
        return event.frame("json").partition(b"\n\n")[2].decode("utf-8", "surrogateescape") + "\n"
    return event.plain() if form == "plain" else decode_url(event.plain())


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


_FORMATS = (
    ("file_string", "mod_dptools"),
    ("mp3", "mod_shout"),
    ("r8", "mod_sndfile"),
    ("silence_stream", "mod_tone_stream"),
    ("tone_stream", "mod_tone_stream"),
    ("tts", "mod_ssml"),
    ("wav", "mod_sndfile"),
)


@api("show")
def _show(switch: Switch, _: Channel | None, argument: str) -> str:
    words = argument.split()
    if words == ["file"]:
        formats = [f"file,{form},{module}" for form, module in _FORMATS if module in switch.modules]
        return "\n".join(["type,name,ikey", *formats, "", f"{len(formats)} total.", ""])
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
