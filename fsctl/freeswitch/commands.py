"""Everything fsctl can say to FreeSWITCH, as values: the only file that names applications and APIs.

A command knows no connection. Tests compare the values, logs print them, and ``esl/protocol.py`` turns them into
bytes. Text that comes from documents is escaped here, for the place it lands in (``escape.py``).
Reference: freeswitch, sections 1.6, 1.10 and 4. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from fsctl.freeswitch.escape import api_text, list_value, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Api",
    "Application",
    "Command",
    "answer",
    "attached",
    "break_playback",
    "connect",
    "denoise",
    "denoise_stop",
    "detect_speech",
    "detect_speech_stop",
    "exit_",
    "filter_",
    "hang_up",
    "linger",
    "playback",
    "pre_answer",
    "record_start",
    "record_stop",
    "resume",
    "send_digits",
    "send_event",
    "set_variable",
    "set_variables",
    "silence",
    "speak",
    "stream_start",
    "stream_stop",
    "subscribe",
    "variable",
    "write_level",
    "write_level_stop",
]

_DIGITS = re.compile(r"[0-9A-Da-d*#wW]{1,99}")


@dataclass(frozen=True, slots=True)
class Command:
    """One event-socket command: its line, its headers and its body."""

    line: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Application:
    """A dialplan application to execute on a channel. ``argument`` is what the application shall see."""

    name: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Api:
    """An API command: one line. ``argument`` is already fit for the wire; ``secret`` keeps it out of logs."""

    name: str
    argument: str = field(default="", repr=False)

    @property
    def command(self) -> Command:
        """As a command that is answered when the API is done; everything later on the connection waits for it."""
        return Command(f"api {self.name} {self.argument}".rstrip())

    def background(self, job: str) -> Command:
        """As a command answered at once; the output follows in an event that carries ``job``."""
        return Command(f"bgapi {self.name} {self.argument}".rstrip(), (("Job-UUID", job),))


# -- the connection ----------------------------------------------------------------------------------------------


def connect() -> Command:
    """Take the call; FreeSWITCH answers with everything it knows about the channel."""
    return Command("connect")


def linger(seconds: int) -> Command:
    """Keep the connection for ``seconds`` after the hangup, so that the end of the call is seen."""
    return Command(f"linger {seconds}")


def resume() -> Command:
    """When this connection closes, let the dialplan go on with its next action."""
    return Command("resume")


def exit_() -> Command:
    """Close the connection now; FreeSWITCH frees the thread it holds for it."""
    return Command("exit")


def filter_(header: str, value: str) -> Command:
    """Send only events whose ``header`` is ``value`` (several filters are alternatives)."""
    return Command(f"filter {header} {value}")


def subscribe(names: Iterable[str], custom: Iterable[str] = ()) -> Command:
    """Receive these events, and these CUSTOM subclasses, as JSON."""
    words = [*names]
    subclasses = [*custom]
    if subclasses:
        words += ["CUSTOM", *subclasses]
    return Command("events json " + " ".join(words))


def send_event(subclass: str, headers: Mapping[str, str], body: str) -> Command:
    """Fire a CUSTOM event inside FreeSWITCH, for whoever listens there."""
    pairs = (("Event-Subclass", subclass), *headers.items(), ("content-type", "application/json"))
    return Command("sendevent CUSTOM", pairs, body)


# -- the call ----------------------------------------------------------------------------------------------------


def answer() -> Application:
    """Answer the call."""
    return Application("answer")


def pre_answer() -> Application:
    """Open early media (183) without answering."""
    return Application("pre_answer")


def hang_up(uuid: str, cause: str) -> Api:
    """Hang up at once, whatever runs; before the answer ``cause`` chooses the SIP response."""
    return Api("uuid_kill", f"{uuid} {list_value(cause)}")


def set_variable(uuid: str, name: str, value: str) -> Api:
    """Set a channel variable to any text of one line; an empty value unsets it."""
    return Api("uuid_setvar", f"{uuid} {list_value(name)} {api_text(value)}".rstrip())


def set_variables(uuid: str, values: Mapping[str, str]) -> Api:
    """Set several channel variables to plain generated values."""
    pairs = ";".join(f"{list_value(name)}={list_value(value)}" for name, value in values.items())
    return Api("uuid_setvar_multi", f"{uuid} {pairs}")


def variable(uuid: str, name: str) -> Api:
    """The value of a channel variable; ``_undef_`` when it has none."""
    return Api("uuid_getvar", f"{uuid} {list_value(name)}")


def attached(uuid: str) -> Api:
    """What is attached to the channel's audio, as XML with a ``<function>`` each."""
    return Api("uuid_buglist", uuid)


# -- sounds ------------------------------------------------------------------------------------------------------


def playback(path: str) -> Application:
    """Play a local file or a ``tone_stream://`` of our own making (never text of a customer's)."""
    if not path.startswith(("/", "tone_stream://%(", "tone_stream://v=", "silence_stream://")):
        raise ValueError(f"not a sound of our own making: {path!r}")
    return Application("playback", one_line(path))


def silence(milliseconds: int) -> Application:
    """Play nothing, for that long."""
    return Application("playback", f"silence_stream://{max(milliseconds, 1)}")


def speak(engine: str, voice: str, text: str) -> Application:
    """Say ``text``. Raises ValueError for one that begins with ``{``: it would be read as parameters of the engine."""
    if text.lstrip().startswith("{"):
        raise ValueError("a text to say begins with a brace")
    return Application("speak", f"{list_value(engine)}|{list_value(voice)}|{one_line(text)}")


def break_playback(uuid: str) -> Api:
    """Stop what plays now. What waits behind it in the channel's queue stays."""
    return Api("uuid_break", uuid)


def write_level(uuid: str, step: int) -> Api:
    """Make what the party hears louder or softer, in FreeSWITCH's steps from -4 to 4."""
    return Api("uuid_audio", f"{uuid} start write level {step}")


def write_level_stop(uuid: str) -> Api:
    """Take the level change back."""
    return Api("uuid_audio", f"{uuid} stop")


def denoise(uuid: str, decibels: int) -> Api:
    """Suppress noise by up to that much in what the party says, with Speex's pre-processor."""
    return Api("uuid_preprocess", f"{uuid} r.noise_suppress=-{decibels}")


def denoise_stop(uuid: str) -> Api:
    """Take the pre-processor off again; on a channel without one FreeSWITCH would attach one that does nothing."""
    return Api("uuid_preprocess", f"{uuid} stop")


# -- digits and speech -------------------------------------------------------------------------------------------


def send_digits(uuid: str, digits: str) -> Api:
    """Send up to 99 digits and pauses; FreeSWITCH answers at once, long before they are sent.

    Raises ValueError for anything else: FreeSWITCH would leave out what it does not know, and say nothing.
    """
    if not _DIGITS.fullmatch(digits):
        raise ValueError(f"not digits to send: {digits!r}")
    return Api("uuid_send_dtmf", f"{uuid} {digits}")


def detect_speech(engine: str, grammar: str, settings: Mapping[str, str]) -> Application:
    """Start the recogniser ``engine`` beside whatever runs. One that is not there is FreeSWITCH's log's secret."""
    pairs = ",".join(f"{list_value(name)}={list_value(value)}" for name, value in settings.items())
    return Application("detect_speech", f"{list_value(engine)} {{{pairs}}}{list_value(grammar)} fsctl")


def detect_speech_stop() -> Application:
    """Stop the recogniser."""
    return Application("detect_speech", "stop")


# -- recording ---------------------------------------------------------------------------------------------------


def record_start(uuid: str, path: str, limit: int, variables: Mapping[str, str]) -> Api:
    """Record to ``path``; ``limit`` is a safety net in whole seconds (0 = none: it may come up to 1 s early).

    ``variables`` (``RECORD_STEREO`` …) hold for this recording alone.
    """
    pairs = ",".join(f"{name}={quote(value, safe='')}" for name, value in variables.items())
    return Api(
        "uuid_record",
        f"{uuid} start {_path(path)} {limit} {{{pairs}}}" if pairs else f"{uuid} start {_path(path)} {limit}",
    )


def record_stop(uuid: str, path: str) -> Api:
    """Stop the recording to ``path``; ``RECORD_STOP`` follows when the file is complete."""
    return Api("uuid_record", f"{uuid} stop {_path(path)}")


# -- mod_audio_stream --------------------------------------------------------------------------------------------


def stream_start(uuid: str, url: str, mix: str, rate: int, metadata: str = "") -> Api:
    r"""Let mod_audio_stream connect to ``url`` and send ``mix`` (``mono``, ``mixed``, ``stereo``) at ``rate`` Hz.

    ``metadata`` is sent as the first text message. The module copies both into fixed buffers, so the sizes are
    checked here. Raises ValueError for what it cannot take.
    """
    if len(url.encode()) >= 4096 or len(metadata.encode()) >= 8192:
        raise ValueError("the URL must be under 4096 bytes and the parameters under 8192")
    if any(c in url for c in " '\\\"") or not url.isascii():
        raise ValueError("the URL holds a character that must be percent-encoded")
    text = f"{uuid} start {one_line(url)} {mix} {rate}"
    return Api("uuid_audio_stream", f"{text} {api_text(metadata)}" if metadata else text)


def stream_stop(uuid: str) -> Api:
    """End the channel's stream, also one whose far end closed."""
    return Api("uuid_audio_stream", f"{uuid} stop")


def _path(path: str) -> str:
    """A path of our own making: absolute, and of characters no argument splitting touches."""
    if not path.startswith("/"):
        raise ValueError(f"not an absolute path: {path!r}")
    return list_value(path)
