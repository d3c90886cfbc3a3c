"""Everything fsctl can say to FreeSWITCH, as values: the only file that names applications and APIs.

A command knows no connection. Tests compare the values, logs print them, and ``esl/protocol.py`` turns them into
bytes. Text that comes from documents is escaped here, for the place it lands in (``escape.py``).
Reference: freeswitch, sections 1.6, 1.10 and 4. Pure.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote

from fsctl.freeswitch.dialstring import variable_list
from fsctl.freeswitch.escape import api_text, list_value, one_line
from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "Api",
    "Application",
    "Command",
    "answer",
    "attached",
    "auth",
    "break_everything",
    "break_playback",
    "connect",
    "core_uuid",
    "credentials",
    "denoise",
    "denoise_stop",
    "detect_speech",
    "detect_speech_stop",
    "exists",
    "exit_",
    "file_formats",
    "filter_",
    "filter_delete",
    "hang_up",
    "linger",
    "mix_name",
    "mix_start",
    "mix_stop",
    "originate",
    "pause_playback",
    "playback",
    "pre_answer",
    "read_level",
    "record_pause",
    "record_resume",
    "record_start",
    "record_stop",
    "registered",
    "resume",
    "send_digits",
    "send_event",
    "set_variable",
    "set_variables",
    "silence",
    "sip",
    "speak",
    "speech_file",
    "stream_start",
    "stream_stop",
    "subscribe",
    "variable",
    "write_level",
    "write_level_stop",
]

_DIGITS = re.compile(r"[0-9A-Da-d*#wW]{1,99}")
# What may stand in an endpoint: of the characters FreeSWITCH gives a meaning in dial strings and Sofia in addresses,
# none but those we write ourselves.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_USER = re.compile(r"[A-Za-z0-9_.+*#-]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_ENDPOINT = re.compile(r"[a-z]+/[A-Za-z0-9_.+*#@/-]+(?::[0-9]+)?(?:;transport=[a-z]+)?")
_UUID = re.compile(r"[A-Za-z0-9-]{1,64}")
_PATH = re.compile(r"/[A-Za-z0-9_.:@+/%-]*")
_TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss")
_MAX_CREDENTIALS = 128  # Sofia puts them, the server's realm and more into 256 bytes


@value
class Command:
    """One event-socket command: its line, its headers and its body."""

    line: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None

    def __repr__(self) -> str:
        line = "auth ..." if self.line.startswith("auth ") else self.line
        return f"Command(line={line!r}, headers={self.headers!r}, body={self.body!r})"


@value
class Application:
    """A dialplan application to execute on a channel. ``argument`` is what the application shall see."""

    name: str
    argument: str = ""


@value
class Api:
    """An API command: one line. ``argument`` is already fit for the wire; ``secret`` keeps it out of logs."""

    name: str
    argument: str = field(default="", repr=False)

    @property
    def line(self) -> str:
        """As the line of a command answered when the API is done; everything later on the connection waits for it."""
        return f"api {self.name} {self.argument}".rstrip()

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


def filter_delete(header: str, value: str) -> Command:
    """Take such a filter away again. Without the last one FreeSWITCH sends every call's events of the names in use."""
    return Command(f"filter delete {header} {value}")


def auth(password: str) -> Command:
    """Say who we are, on a connection that we opened. The command's ``repr`` does not show the password."""
    return Command(f"auth {password}")


def core_uuid() -> Api:
    """Which run of FreeSWITCH this is: another one after each start."""
    return Api("global_getvar", "core_uuid")


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


def answer(uuid: str) -> Api:
    """Answer at once, where the application would wait for its turn. On an outbound channel: ``+OK``, and nothing."""
    return Api("uuid_answer", uuid)


def pre_answer(uuid: str) -> Api:
    """Open early media (183) at once, without answering."""
    return Api("uuid_pre_answer", uuid)


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


def exists(uuid: str) -> Api:
    """``true`` while the channel is there, ``false`` from its hangup on."""
    return Api("uuid_exists", uuid)


# -- new calls ---------------------------------------------------------------------------------------------------


def originate(uuid: str, endpoint: str, variables: Mapping[str, str], target: tuple[str, int], timeout: int) -> Api:
    """Call somebody and hand the call, once it is answered, to the event socket application at ``target``.

    The channel gets the UUID and the variables given (``origination_caller_id_number``, ``absolute_codec_string`` …),
    whose values are any text but what ``dialstring.py`` refuses. It is given up after ``timeout`` seconds, or up to one
    second before: FreeSWITCH looks at the wall clock's whole seconds.
    With ``ignore_early_media=true`` only the answer counts; without, early media hands the call over already.
    The API ends with ``+OK <uuid>`` or ``-ERR <cause>``, so run it in the background. Raises ValueError for what
    cannot be said in a dial string.
    """
    if not _UUID.fullmatch(uuid):
        raise ValueError(f"not a UUID: {uuid!r}")
    if not _ENDPOINT.fullmatch(endpoint):
        raise ValueError(f"not an endpoint: {endpoint!r}")
    host, port = target
    if not _HOST.fullmatch(host) or not 0 < port < 65536:
        raise ValueError(f"not an address FreeSWITCH's `socket` can connect to: {host!r}, port {port}")
    values = {"origination_uuid": uuid, "originate_timeout": str(max(timeout, 1))}
    values |= {name: value for name, value in variables.items() if name.lower() not in values}
    return Api("originate", f"{variable_list(values)}{endpoint} '&socket({host}:{port} async full)'")


def sip(profile: str, user: str, host: str, *, port: int | None = None, transport: str = "") -> str:
    """The endpoint ``user@host``, called from a SIP profile of Sofia's; ``transport`` is ``udp``, ``tcp``, ``tls`` ….

    Raises ValueError for what is none of these, IPv6 addresses among them: their brackets are dial-string syntax.
    """
    address = f"{_part('user', _USER, user)}@{_part('host', _HOST, host)}"
    if port is not None:
        if not 0 < port < 65536:
            raise ValueError(f"not a port: {port}")
        address += f":{port}"
    if transport:
        if transport not in _TRANSPORTS:
            raise ValueError(f"not one of {', '.join(_TRANSPORTS)}: {transport!r}")
        address += f";transport={transport}"
    return f"sofia/{_part('profile', _NAME, profile)}/{address}"


def registered(user: str, domain: str) -> str:
    """The endpoint of a user of the directory, wherever its phones have registered. Raises ValueError as above."""
    return f"user/{_part('user', _USER, user)}@{_part('domain', _HOST, domain)}"


def credentials(username: str, password: str) -> Mapping[str, str]:
    """The variables with which one channel answers a SIP server that asks who calls, instead of its gateway's.

    Every event of the channel carries them, as do FreeSWITCH's debug log and ``uuid_dump``. Raises ValueError for what
    Sofia would cut off: ``:``, and more than 128 bytes together.
    """
    if ":" in username or ":" in password or len((username + password).encode()) > _MAX_CREDENTIALS:
        raise ValueError(f"a SIP user name and password hold no colon, and {_MAX_CREDENTIALS} bytes at most")
    return {"sip_auth_username": username, "sip_auth_password": password}


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


def speech_file(engine: str, voice: str, text: str) -> str:
    """Words to say as something that can be mixed in, on a FreeSWITCH whose ``file_formats`` have ``tts``."""
    if text.lstrip().startswith("{"):
        raise ValueError("a text to say begins with a brace")
    return f"tts://{list_value(engine)}|{list_value(voice)}|{api_text(text)}"


def file_formats() -> Api:
    """What can be played, a line ``file,<format>,<module>`` each."""
    return Api("show", "file")


def mix_name(number: int, sound: str) -> str:
    """What ``sound`` is called while it is mixed in: FreeSWITCH takes one of a name into a channel at a time.

    ``sound`` is a local file, a ``tone_stream://`` of our own making or a ``speech_file``; ValueError for others.
    """
    if not sound.startswith(("/", "tone_stream://%(", "tone_stream://v=", "tts://")):
        raise ValueError(f"not a sound of our own making: {sound[:80]!r}")
    return f"{{fsctl={number}}}{one_line(sound)}"


def mix_start(uuid: str, name: str, *, said: bool = False) -> Api:
    """Mix a sound into what the party hears, or (``said``) into what it says, beside all that plays; answered at once.

    Its end is told in an event. Nothing is heard, and it does not end, while nothing else is sent to the party.
    """
    return Api("uuid_displace", f"{uuid} start {_word(name)} 0 {'mr' if said else 'm'}")


def mix_stop(uuid: str, name: str) -> Api:
    """Take a sound that is mixed in out again; refused when it has ended."""
    return Api("uuid_displace", f"{uuid} stop {_word(name)}")


def break_playback(uuid: str) -> Api:
    """Stop what plays now. What waits behind it in the channel's queue stays."""
    return Api("uuid_break", uuid)


def break_everything(uuid: str) -> Api:
    """Stop what plays now, and throw away what waits behind it without a word about that."""
    return Api("uuid_break", f"{uuid} all")


def pause_playback(uuid: str) -> Api:
    """Hold the file that plays, or let it go on; speech cannot be held. FreeSWITCH does not say which it did."""
    return Api("uuid_fileman", f"{uuid} pause")


def write_level(uuid: str, step: int) -> Api:
    """Make what the party hears louder or softer, in FreeSWITCH's steps from -4 to 4."""
    return Api("uuid_audio", f"{uuid} start write level {step}")


def read_level(uuid: str, step: int) -> Api:
    """Make what the party says louder or softer, in the same steps."""
    return Api("uuid_audio", f"{uuid} start read level {step}")


def write_level_stop(uuid: str) -> Api:
    """Take the level changes back."""
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
    pairs = ""
    for name, text in variables.items():
        pairs += f",{name}={text if text.isascii() and text.isalnum() else quote(text, safe='')}"
    argument = f"{uuid} start {_path(path)} {limit}"
    return Api("uuid_record", f"{argument} {{{pairs[1:]}}}" if pairs else argument)


def record_stop(uuid: str, path: str) -> Api:
    """Stop the recording to ``path``; ``RECORD_STOP`` follows when the file is complete."""
    return Api("uuid_record", f"{uuid} stop {_path(path)}")


def record_pause(uuid: str, path: str, *, silence: bool) -> Api:
    """Leave out what comes from now on, or, with ``silence``, write silence in its place.

    Neither stops FreeSWITCH's clocks: the limit and the time without speech count on.
    """
    return Api("uuid_record", f"{uuid} {'mask' if silence else 'pause'} {_path(path)}")


def record_resume(uuid: str, path: str, *, silence: bool) -> Api:
    """Take back :func:`record_pause`. A limit that passed meanwhile ends the recording now."""
    return Api("uuid_record", f"{uuid} {'unmask' if silence else 'resume'} {_path(path)}")


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
    if not _PATH.fullmatch(path):
        raise ValueError(f"not an absolute path of plain characters: {path!r}")
    return path


def _word(text: str) -> str:
    """``text`` as one of an API's arguments, blanks included."""
    return api_text(text).replace(" ", "\\s")


def _part(what: str, pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"not a {what} that can be called: {text!r}")
    return text
