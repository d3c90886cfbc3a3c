"""What an application may say on an event socket, one function a command; each answers the bytes of its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from fsctl.simulator.channel import Message
from fsctl.simulator.events import Event, plain_headers
from fsctl.simulator.framing import api_response, reply
from fsctl.simulator.reporting import cause_named
from fsctl.simulator.subscription import MY_EVENTS, Filter
from fsctl.simulator.text import seconds_of, truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.simulator.framing import Command
    from fsctl.simulator.wire import Listener

__all__ = ["names_of", "run"]

log = structlog.get_logger(__name__)

Answer = bytes | None
"""A reply, or None: the connection is closed instead."""

_NOT_FOUND = "-ERR command not found"
_FORMATS = {"plain": "plain", "json": "json", "xml": "plain"}


def names_of(command: Command) -> tuple[str, ...]:
    """What a :class:`~fsctl.simulator.nasty.Nasty` may call a command, the most telling first."""
    second = ""
    if command.verb in {"api", "bgapi"}:
        second = command.rest.partition(" ")[0]
    elif command.verb == "sendmsg":
        second = command.headers.get("execute-app-name") or command.headers.get("call-command", "")
    return (f"{command.verb} {second}", command.verb) if second else (command.verb,)


def run(listener: Listener, command: Command) -> Answer:
    """Execute ``command`` and answer its reply."""
    verb = command.verb
    if not listener.authenticated and verb not in {"auth", "userauth", "exit"}:
        return reply("-ERR command not found")
    function = _COMMANDS.get(verb) or next(
        (_COMMANDS[prefix] for prefix in ("exit", "linger", "event", "log") if verb.startswith(prefix)), None
    )
    return reply(_NOT_FOUND) if function is None else function(listener, command)


def _connect(listener: Listener, _: Command) -> Answer:
    channel = listener.channel
    if channel is None:
        return reply(_NOT_FOUND)
    head = Event("CHANNEL_DATA", listener.switch.core.stamp()).plain().removesuffix("\n")
    data = plain_headers(channel.data.headers(with_profile=True)) + channel.variables.plain()
    tail = "Content-Type: command/reply\nReply-Text: %2BOK%0A\nSocket-Mode: async\nControl: full\n\n"
    listener.connected = True
    listener.settled.set()
    channel.wake()
    return (head + data + tail).encode("utf-8", "surrogateescape")


def _auth(listener: Listener, command: Command) -> Answer:
    if listener.authenticated:
        return reply(_NOT_FOUND)
    listener.authenticated = command.rest.rpartition(":")[2] == listener.switch.password
    return reply("+OK accepted" if listener.authenticated else "-ERR invalid")


def _linger(listener: Listener, command: Command) -> Answer:
    listener.lingers = True
    if not command.rest:
        listener.linger_seconds = None
        return reply("+OK will linger")
    listener.linger_seconds = int(seconds_of(command.rest))
    return reply(f"+OK will linger {listener.linger_seconds} seconds")


def _nolinger(listener: Listener, _: Command) -> Answer:
    listener.lingers = False
    return reply("+OK will not linger")


def _events(listener: Listener, command: Command) -> Answer:
    words = command.rest.split()
    form = listener.format
    if words and words[0].lower() in _FORMATS:
        form = _FORMATS[words.pop(0).lower()]
    if not listener.subscription.add(words):
        return reply("-ERR no keywords supplied")
    listener.format = form
    return reply(f"+OK event listener enabled {form}")


def _myevents(listener: Listener, command: Command) -> Answer:
    subscription = listener.subscription
    if subscription.pin:
        return reply("-ERR aready enabled.")
    words = command.rest.split()
    wanted = listener.channel.uuid if listener.channel else next(iter(words), "")
    if not wanted or (listener.channel is None and listener.switch.channel(wanted) is None):
        return reply(f"-ERR invalid uuid {wanted}".rstrip())
    subscription.pin = wanted
    subscription.names |= MY_EVENTS
    listener.switch.index(listener)
    return reply("+OK Events Enabled")


def _nixevent(listener: Listener, command: Command) -> Answer:
    listener.subscription.remove(command.rest.split())
    return reply("+OK events nixed")


def _noevents(listener: Listener, _: Command) -> Answer:
    listener.subscription.clear()
    return reply("+OK no longer listening for events")


def _filter(listener: Listener, command: Command) -> Answer:
    subscription = listener.subscription
    words = command.rest.split(" ", 1)
    action = words[0].lower()
    if action in {"add", "delete"}:
        words = (words[1] if len(words) > 1 else "").split(" ", 1)
    if not words[0] or (action != "delete" and len(words) < 2):
        return reply("-ERR invalid syntax")
    header, value = words[0], words[1] if len(words) > 1 else None
    if action == "delete":
        subscription.filter_out(header, value)
    else:
        subscription.filters.append(Filter.parse(header, value or ""))
    listener.switch.index(listener)
    if action == "delete":
        return reply(f"+OK filter deleted. [{header}][{value or ''}]")
    return reply(f"+OK filter added. [{header}]=[{value}]")


def _divert(_: Listener, command: Command) -> Answer:
    return reply("+OK events diverted" if truth(command.rest) else "+OK events undiverted")


def _resume(listener: Listener, _: Command) -> Answer:
    if listener.channel is None:
        return reply(_NOT_FOUND)
    listener.channel.variables.set("socket_resume", "true")
    return reply("+OK")


def _getvar(listener: Listener, command: Command) -> Answer:
    value = listener.channel.variables.get(command.rest) if listener.channel else None
    return reply(_NOT_FOUND if value is None else value)


def _exit(_: Listener, __: Command) -> Answer:
    return reply("+OK bye")


def _log(_: Listener, command: Command) -> Answer:
    return reply(f"+OK log level {command.rest or 'DEBUG'} [7]")


def _nolog(_: Listener, __: Command) -> Answer:
    return reply("+OK no longer logging")


def _sendevent(listener: Listener, command: Command) -> Answer:
    name = command.rest.split(" ")[0] or "CUSTOM"
    headers = {key: value for key, value in command.headers.items() if key != "content-length"}
    subclass = headers.pop("event-subclass", "")
    uuid = headers.setdefault("event-uuid", listener.switch.new_uuid())
    listener.switch.deliver(
        Event(
            name.upper(),
            listener.switch.core.stamp(),
            before=[(command.spelled.get(key, "Event-UUID"), value) for key, value in headers.items()],
            subclass=subclass,
            body=command.body or None,
        )
    )
    return reply(f"+OK {uuid}")


def _output(listener: Listener, text: str) -> str:
    output = listener.switch.api(text, listener.channel)
    return f"-ERR {text.partition(' ')[0]} Command not found!\n" if output is None else output


def _api(listener: Listener, command: Command) -> Answer:
    if listener.channel is not None:
        listener.channel.apis.append(command.rest)
    return api_response(_output(listener, command.rest) or "-ERR no reply\n")


def _bgapi(listener: Listener, command: Command) -> Answer:
    switch, channel = listener.switch, listener.channel
    job = command.headers.get("job-uuid") or switch.new_uuid()
    name, _, argument = command.rest.partition(" ")
    if channel is not None:
        channel.apis.append(command.rest)

    def work() -> None:
        output = _output(listener, command.rest)
        headers = [("Job-UUID", job)]
        if channel is not None:
            headers.append(("Job-Owner-UUID", channel.uuid))
        headers.append(("Job-Command", name))
        if argument:
            headers.append(("Job-Command-Arg", argument))
        switch.deliver(Event("BACKGROUND_JOB", switch.core.stamp(), before=headers, body=output))

    switch.spawn(work)
    return reply(f"+OK Job-UUID: {job}", ("Job-UUID", job))


def _sendmsg(listener: Listener, command: Command) -> Answer:
    wanted = command.rest
    channel = listener.channel if not wanted else listener.switch.channel(wanted, ended=True)
    if channel is None:
        return reply(f"-ERR invalid session id [{wanted}]")
    message = _message(command)
    if message is None:
        return reply("+OK")
    if not channel.queue(message):
        return None
    return reply("+OK")


def _message(command: Command) -> Message | None:
    headers = command.headers
    if headers.get("call-command") == "hangup":
        return Message("hangup", hangup_cause=cause_named(headers.get("hangup-cause", "")))
    if headers.get("call-command") != "execute":
        log.debug("simulated_call_command_ignored", command=headers.get("call-command"))
        return None
    argument = headers.get("execute-app-arg")
    if argument is None:
        argument = command.body if headers.get("content-type") == "text/plain" else ""
    first = truth(headers.get("event-lock-pri"))
    return Message(
        headers.get("execute-app-name", ""),
        argument.partition("\0")[0],
        headers.get("event-uuid", ""),
        headers.get("event-uuid-name", ""),
        loops=int(seconds_of(headers.get("loops"), 1)),
        lock=first or truth(headers.get("event-lock")),
        first=first,
        lead_frames=int(seconds_of(headers.get("lead-frames"))),
    )


_COMMANDS: dict[str, Callable[[Listener, Command], Answer]] = {
    "connect": _connect,
    "auth": _auth,
    "userauth": _auth,
    "linger": _linger,
    "nolinger": _nolinger,
    "event": _events,
    "events": _events,
    "myevents": _myevents,
    "nixevent": _nixevent,
    "noevents": _noevents,
    "filter": _filter,
    "divert_events": _divert,
    "resume": _resume,
    "getvar": _getvar,
    "exit": _exit,
    "log": _log,
    "nolog": _nolog,
    "sendevent": _sendevent,
    "api": _api,
    "bgapi": _bgapi,
    "sendmsg": _sendmsg,
}
