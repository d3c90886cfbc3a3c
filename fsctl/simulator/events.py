"""Events as FreeSWITCH fires them, and their two forms on the wire.

An event's header order is: subclass, name, the core's headers, headers of its own that come first, the channel's
data, the channel's variables, headers of its own that come last, the body. Channel data arrives prepared in both
forms, so that an event of 7 kB costs a few string joins. Who gets an event is not decided here.
"""

from __future__ import annotations

import json.encoder
import time
from typing import TYPE_CHECKING

from fsctl.simulator.text import encode_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsctl.clock import Clock
    from fsctl.simulator.identity import ChannelData

__all__ = ["Core", "Event", "Stamp", "quoted"]

quoted = json.encoder.encode_basestring
"""A string as JSON, non-ASCII characters as they are."""

ORIGINS: dict[str, tuple[str, str, str]] = {
    "CHANNEL_DATA": ("mod_event_socket.c", "parse_command", "2021"),
    "BACKGROUND_JOB": ("mod_event_socket.c", "api_exec", "1572"),
    "CHANNEL_CREATE": ("switch_core_state_machine.c", "switch_core_session_run", "626"),
    "CHANNEL_OUTGOING": ("switch_core_session.c", "switch_core_session_outgoing_channel", "768"),
    "CHANNEL_ORIGINATE": ("switch_core_state_machine.c", "switch_core_session_run", "632"),
    "CHANNEL_STATE": ("switch_channel.c", "switch_channel_perform_set_running_state", "2408"),
    "CHANNEL_CALLSTATE": ("switch_channel.c", "switch_channel_perform_set_callstate", "301"),
    "CHANNEL_PROGRESS": ("switch_channel.c", "switch_channel_perform_mark_ring_ready_value", "3505"),
    "CHANNEL_PROGRESS_MEDIA": ("switch_channel.c", "switch_channel_perform_mark_pre_answered", "3560"),
    "CHANNEL_ANSWER": ("switch_channel.c", "switch_channel_perform_mark_answered", "3846"),
    "CHANNEL_HANGUP": ("switch_channel.c", "switch_channel_perform_hangup", "3445"),
    "CHANNEL_HANGUP_COMPLETE": ("switch_core_state_machine.c", "switch_core_session_reporting_state", "943"),
    "CHANNEL_DESTROY": ("switch_core_session.c", "switch_core_session_perform_destroy", "1584"),
    "CHANNEL_EXECUTE": ("switch_core_session.c", "switch_core_session_exec", "2944"),
    "CHANNEL_EXECUTE_COMPLETE": ("switch_core_session.c", "switch_core_session_exec", "2967"),
    "CHANNEL_PARK": ("switch_ivr.c", "switch_ivr_park", "1002"),
    "CHANNEL_UNPARK": ("switch_ivr.c", "switch_ivr_park", "1213"),
    "CHANNEL_BRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", "1689"),
    "CHANNEL_UNBRIDGE": ("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", "1879"),
    "DTMF": ("switch_channel.c", "switch_channel_dequeue_dtmf", "677"),
    "PLAYBACK_START": ("switch_ivr_play_say.c", "switch_ivr_play_file", "1646"),
    "PLAYBACK_STOP": ("switch_ivr_play_say.c", "switch_ivr_play_file", "2020"),
    "RECORD_START": ("switch_ivr_async.c", "record_callback", "1481"),
    "RECORD_STOP": ("switch_ivr_async.c", "send_record_stop_event", "1240"),
    "RECORD_START record": ("switch_ivr_play_say.c", "switch_ivr_record_file_event", "767"),
    "RECORD_STOP record": ("switch_ivr_play_say.c", "switch_ivr_record_file_event", "1030"),
    "MEDIA_BUG_START": ("switch_core_media_bug.c", "switch_core_media_bug_add", "1014"),
    "MEDIA_BUG_STOP": ("switch_core_media_bug.c", "switch_core_media_bug_destroy", "84"),
    "CUSTOM mod_audio_stream": ("mod_audio_stream.c", "responseHandler", "16"),
    "CUSTOM filestring": ("switch_ivr_play_say.c", "switch_ivr_play_file", "0"),
    "CALL_UPDATE": ("switch_channel.c", "switch_channel_flip_cid", "3277"),
    "HEARTBEAT": ("switch_core.c", "send_heartbeat", "95"),
}
"""Which file, function and line of FreeSWITCH 1.10.12 fires what; line 0 where that was never seen."""

_ELSEWHERE = ("switch_event.c", "switch_event_fire", "0")

Headers = list[tuple[str, str]]


def json_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Headers as the middle of a JSON object: each ``,"name":"value"``."""
    return "".join([f',"{name}":{quoted(value)}' for name, value in headers])


def plain_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Headers as lines, values URL-encoded, an empty value as ``_undef_``."""
    return "".join([f"{name}: {encode_url(value) or '_undef_'}\n" for name, value in headers])


class Core:
    """The switch's own headers, the event counter and the dates, prepared once a second."""

    def __init__(self, clock: Clock, uuid: str, hostname: str, address: str) -> None:
        self.uuid = uuid
        self._clock = clock
        self._headers: Headers = [
            ("Core-UUID", uuid),
            ("FreeSWITCH-Hostname", hostname),
            ("FreeSWITCH-Switchname", hostname),
            ("FreeSWITCH-IPv4", address),
            ("FreeSWITCH-IPv6", "::1"),
        ]
        self._sequence = 0
        self._second = -1
        self._json = self._plain = ""

    def stamp(self) -> Stamp:
        """The next event's number, the time now and the headers both stand in."""
        self._sequence += 1
        now = self._clock.now()
        if int(now) != self._second:
            self._second = int(now)
            self._prepare()
        return Stamp(now, self._sequence, self._json, self._plain)

    def _prepare(self) -> None:
        moment = time.gmtime(self._second)
        headers = [
            *self._headers,
            ("Event-Date-Local", time.strftime("%Y-%m-%d %H:%M:%S", moment)),
            ("Event-Date-GMT", time.strftime("%a, %d %b %Y %H:%M:%S GMT", moment)),
        ]
        self._json, self._plain = json_headers(headers), plain_headers(headers)


class Stamp:
    """When an event was fired, its number, and the core's headers of that moment."""

    __slots__ = ("json", "now", "plain", "sequence")

    def __init__(self, now: float, sequence: int, json: str, plain: str) -> None:
        self.now = now
        self.sequence = sequence
        self.json = json
        self.plain = plain


class Event:
    """One event: what sets it apart, and how it is written.

    ``before`` and ``after`` are its own headers on either side of the channel's data; ``variables`` tells whether the
    channel's variables are included; ``origin`` is a key of :data:`ORIGINS` when that is not the name.
    Serialise at once: the channel's data is read when :meth:`frame` runs.
    """

    __slots__ = ("_frames", "after", "before", "body", "channel", "name", "origin", "stamp", "subclass", "variables")

    def __init__(
        self,
        name: str,
        stamp: Stamp,
        *,
        channel: ChannelData | None = None,
        before: Headers | None = None,
        after: Headers | None = None,
        variables: bool = True,
        subclass: str = "",
        body: str | None = None,
        origin: str = "",
    ) -> None:
        self.name = name
        self.stamp = stamp
        self.channel = channel
        self.before = before or []
        self.after = after or []
        self.variables = variables
        self.subclass = subclass
        self.body = body
        self.origin = ORIGINS.get(origin or name, _ELSEWHERE)
        self._frames: dict[str, bytes] = {}

    def header(self, name: str) -> str | None:
        """The value of the header ``name`` (any case), or None: what filters look at."""
        wanted = name.lower()
        for headers in (self.before, self.after):
            for own, value in headers:
                if own.lower() == wanted:
                    return value
        if wanted == "event-name":
            return self.name
        if wanted == "event-subclass":
            return self.subclass or None
        return self.channel.header(name, variables=self.variables) if self.channel else None

    def frame(self, form: str) -> bytes:
        """The whole message, ``form`` being ``json`` or ``plain``."""
        framed = self._frames.get(form)
        if framed is None:
            text = self._json() if form == "json" else self.plain()
            encoded = text.encode("utf-8", "surrogateescape")
            framed = f"Content-Length: {len(encoded)}\nContent-Type: text/event-{form}\n\n".encode() + encoded
            self._frames[form] = framed
        return framed

    def _json(self) -> str:
        stamp, channel = self.stamp, self.channel
        file, function, line = self.origin
        parts = [
            f'{{"Event-Subclass":{quoted(self.subclass)},' if self.subclass else "{",
            f'"Event-Name":"{self.name}"',
            stamp.json,
            f',"Event-Date-Timestamp":"{round(stamp.now * 1e6)}","Event-Calling-File":"{file}"',
            f',"Event-Calling-Function":"{function}","Event-Calling-Line-Number":"{line}"',
            f',"Event-Sequence":"{stamp.sequence}"',
            json_headers(self.before),
        ]
        if channel:
            parts.append(channel.json())
            if self.variables:
                parts.append(channel.variables.json())
        parts.append(json_headers(self.after))
        if self.body is not None:
            size = len(self.body.encode("utf-8", "surrogateescape"))
            parts.append(f',"Content-Length":"{size}","_body":{quoted(self.body)}')
        parts.append("}")
        return "".join(parts)

    def plain(self) -> str:
        """The plain form without its outer header: header lines, an empty line, the body."""
        stamp, channel = self.stamp, self.channel
        file, function, line = self.origin
        parts = [
            f"Event-Subclass: {encode_url(self.subclass)}\n" if self.subclass else "",
            f"Event-Name: {self.name}\n",
            stamp.plain,
            f"Event-Date-Timestamp: {round(stamp.now * 1e6)}\nEvent-Calling-File: {file}\n",
            f"Event-Calling-Function: {function}\nEvent-Calling-Line-Number: {line}\n",
            f"Event-Sequence: {stamp.sequence}\n",
            plain_headers(self.before),
        ]
        if channel:
            parts.append(channel.plain())
            if self.variables:
                parts.append(channel.variables.plain())
        parts.append(plain_headers(self.after))
        if self.body is not None:
            size = len(self.body.encode("utf-8", "surrogateescape"))
            parts.append(f"Content-Length: {size}\n")
        parts.append("\n")
        parts.append(self.body or "")
        return "".join(parts)
