"""Every setting, declared once: section, type, default, limits and one sentence.

``conf/fsctl.yaml``, ``fsctl config show`` and the README's table are made from these declarations.
"""

# ruff: noqa: RUF009 - the calls in the records' defaults return dataclasses.field

from __future__ import annotations

import os
import socket
from collections.abc import Mapping  # noqa: TC003 - get_type_hints reads Config at run time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from fsctl.config import kinds
from fsctl.config.kinds import Address, DialRoute, Kind, Route, Token, plain, shown
from fsctl.errors import ConfigError

if TYPE_CHECKING:
    import ipaddress

__all__ = [
    "ENVIRONMENT_PREFIX",
    "SECTIONS",
    "Api",
    "Calls",
    "Config",
    "Dial",
    "Documents",
    "EventSocket",
    "FreeSwitch",
    "Http",
    "Log",
    "Logs",
    "Media",
    "Network",
    "Project",
    "Recordings",
    "Script",
    "Setting",
    "Shutdown",
    "Streams",
    "Webhooks",
    "render_defaults",
    "settings",
]

ENVIRONMENT_PREFIX = "FSCTL_"


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting: ``name`` is ``section.key``, ``doc`` its one sentence."""

    name: str
    default: Any
    kind: Kind
    doc: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return ENVIRONMENT_PREFIX + self.name.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class _Declared:
    kind: Kind
    doc: str
    secret: bool


def _setting(default: Any, kind: Kind, doc: str, *, secret: bool = False) -> Any:
    """Declare a setting. ``default`` is written as the operator would write it, and read the same way."""
    declared = {"setting": _Declared(kind, doc, secret)}
    value = kind.read(default)
    if isinstance(value, dict):
        return field(default_factory=lambda: dict(value), metadata=declared)
    return field(default=value, metadata=declared)


class _Section:
    """A repr that shows no secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        inside = ", ".join(
            f"{item.name}={shown(getattr(self, item.name), secret=item.metadata['setting'].secret)!r}"
            for item in fields(self)  # type: ignore[arg-type] # every section is a dataclass
        )
        return f"{type(self).__name__}({inside})"


@dataclass(frozen=True, slots=True, repr=False)
class EventSocket(_Section):
    """Where FreeSWITCH hands us calls."""

    listen: Address = _setting(
        "127.0.0.1:8084", kinds.address(), "Where FreeSWITCH's socket application reaches us; never open it to others."
    )
    max_calls: int = _setting(2000, kinds.whole(1, 100_000, "calls"), "Calls at the same time; one more is refused.")
    connect_timeout: float = _setting(
        5.0, kinds.seconds(0.1, 60), "How long FreeSWITCH may take to answer connect on a new call."
    )
    linger: int = _setting(
        10,
        kinds.whole(1, 600, "seconds"),
        "How long FreeSWITCH keeps the socket after the hangup, should we not close it.",
    )
    command_timeout: float = _setting(
        10.0, kinds.seconds(0.1, 300), "How long a reply to a command may take before the connection counts as broken."
    )
    backlog: int = _setting(1024, kinds.whole(1, 65_535, "connections"), "New connections the kernel holds for us.")


@dataclass(frozen=True, slots=True, repr=False)
class Http(_Section):
    """The HTTP side: metrics, health, recordings and the REST API."""

    listen: Address = _setting(
        "127.0.0.1:8086",
        kinds.address(),
        "Where metrics, health, recordings and the REST API are served, in plain HTTP.",
    )
    public_url: str = _setting(
        "http://127.0.0.1:8086", kinds.base_url(), "How customers reach that server; recording URLs begin with it."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Api(_Section):
    """Who may use the REST API, and how much."""

    tokens: tuple[Token, ...] = _setting(
        [],
        kinds.tokens(),
        "Who may use the API, with HTTP Basic (project.project_id : token); without a token it is closed to everybody.",
    )
    requests_per_second: int = _setting(
        200, kinds.whole(1, 100_000, "requests"), "How many requests a second a token may make in the long run."
    )
    burst: int = _setting(
        400, kinds.whole(1, 1_000_000, "requests"), "How many requests a token may make at once after a quiet time."
    )
    strict_parameters: bool = _setting(
        False, kinds.flag(), "Whether a command with unknown parameters is refused; otherwise they go into the log."
    )
    idempotency_seconds: int = _setting(
        86_400,
        kinds.whole(1, 604_800, "seconds"),
        "How long the answer to a request with an Idempotency-Key is repeated; a restart forgets it.",
    )
    idempotency_entries: int = _setting(
        10_000, kinds.whole(1, 1_000_000, "answers"), "Answers kept for that; the one longest unasked for goes first."
    )

    def secrets(self, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return what each token's program sends, by the token's name, from where it is kept.

        Raises ConfigError for a file or credential that cannot be read or holds no token, and for two that are the
        same.
        """
        found: dict[str, str] = {}
        for entry in self.tokens:
            text = entry.token or _kept(entry, environ.get("CREDENTIALS_DIRECTORY", ""))
            if other := next((name for name, known in found.items() if known == text), None):
                raise ConfigError("api.tokens", f"{other!r} and {entry.name!r} are the same token; make another one")
            found[entry.name] = text
        return found


def _kept(entry: Token, credentials: str) -> str:
    """Read a token from its file, or from the file systemd made of its credential."""
    credential = f"api.tokens.{entry.name}"
    path = entry.token_file or (Path(credentials, credential) if credentials else None)
    if path is None:
        hint = f"set token or token_file, or hand it over as systemd's credential {credential}"
        raise ConfigError("api.tokens", f"{entry.name!r} has no token; {hint}")
    try:
        return kinds.token_text(path.read_text(encoding="utf-8").strip())
    except OSError as error:
        raise ConfigError("api.tokens", f"{entry.name!r}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError("api.tokens", f"{entry.name!r}: {path} is not text") from None
    except kinds.Unusable as error:
        raise ConfigError("api.tokens", f"{entry.name!r}: {path}: {error}") from None


@dataclass(frozen=True, slots=True, repr=False)
class Project(_Section):
    """Who we are in documents' requests and in webhooks."""

    project_id: str = _setting(
        "00000000-0000-4000-8000-000000000001", kinds.uuid_text(), "The project_id of every call and webhook."
    )
    space_id: str = _setting(
        "00000000-0000-4000-8000-000000000002", kinds.uuid_text(), "The space_id of every call and webhook."
    )
    node_id: str = _setting("", kinds.text(), "The node_id of every call and webhook; empty means the host's name.")
    signing_key: str = _setting(
        "",
        kinds.text(),
        "The key that signs document requests and webhooks; without one they go unsigned.",
        secret=True,
    )
    signing_key_file: Path | None = _setting(
        "", kinds.optional_path(), "A file that holds the signing key, so that the key is in no configuration file."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Documents(_Section):
    """Which document a call runs, and how it is fetched."""

    default: str = _setting("", kinds.document(), "The document of a call that names none and matches no route.")
    fallback: str = _setting("", kinds.document(), "The document tried when fetching a call's first one fails.")
    routes: tuple[Route, ...] = _setting(
        [],
        kinds.list_of(kinds.route, "a list of {number: regular expression, document: file name or URL}"),
        "Documents by called number; the first route whose expression matches the whole number wins.",
    )
    directory: Path = _setting("/etc/fsctl/swml", kinds.path(), "Where documents that are file names lie.")
    connect_timeout: float = _setting(
        5.0, kinds.seconds(0.1, 60), "How long connecting to a document's server may take."
    )
    timeout: float = _setting(10.0, kinds.seconds(0.1, 120), "How long fetching a document may take in all.")
    max_bytes: int = _setting(1_048_576, kinds.whole(1024, 67_108_864, "bytes"), "The largest document.")
    cache_entries: int = _setting(
        256,
        kinds.whole(0, 100_000, "documents"),
        "Compiled documents kept, so that the same text is not checked twice.",
    )
    envs: Mapping[str, str | int | float | bool] = _setting(
        {},
        kinds.mapping_of(kinds.scalar, "a mapping of names to text, numbers or true and false"),
        "The envs scope of every document.",
        secret=True,
    )
    stringify_params: bool = _setting(
        True,
        kinds.flag(),
        "Whether numbers and true and false in params become text, as the language's examples have it.",
    )

    def choose(self, number: str) -> str:
        """Return the document for a call to ``number``: the first matching route's, else the default; "" for none."""
        for route in self.routes:
            if route.number.fullmatch(number):
                return route.document
        return self.default


@dataclass(frozen=True, slots=True, repr=False)
class Script(_Section):
    """How far one call's script may go."""

    max_jumps: int = _setting(32, kinds.whole(1, 100_000, "jumps"), "Transfers and gotos in one call.")
    max_jumps_without_input: int = _setting(
        8, kinds.whole(1, 100_000, "jumps"), "Transfers and gotos in a row without anything from the caller."
    )
    max_steps: int = _setting(10_000, kinds.whole(1, 10_000_000, "instructions"), "Instructions in one call.")
    max_nesting: int = _setting(32, kinds.whole(1, 256, "levels"), "How deep instructions may stand inside each other.")
    max_documents: int = _setting(
        16, kinds.whole(1, 1000, "documents"), "Documents that may call each other in a chain."
    )
    expression_timeout: float = _setting(0.15, kinds.seconds(0.01, 10), "How long one JavaScript expression may run.")
    expression_memory_bytes: int = _setting(
        33_554_432, kinds.whole(1_048_576, 1_073_741_824, "bytes"), "The memory JavaScript expressions may use."
    )
    request_timeout: float = _setting(
        30.0, kinds.seconds(0.1, 600), "The longest a request method may take, whatever the document asks for."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Calls(_Section):
    """What a call is allowed and what it is called."""

    max_duration: int = _setting(
        14_400, kinds.whole(1, 604_800, "seconds"), "The longest call; answer's max_duration can only shorten it."
    )
    phone_gateways: tuple[str, ...] = _setting(
        [],
        kinds.list_of(kinds.printable, "a list of sofia gateway or profile names"),
        "Sofia gateways and profiles whose calls have the type phone; all others are sip.",
    )
    send_silence: bool = _setting(
        True,
        kinds.flag(),
        "Whether a call with nothing to say still sends audio, as streams of both tracks and many carriers need.",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Webhooks(_Section):
    """Where events go that no document asked for, and how all of them are delivered."""

    call_state_url: str = _setting("", kinds.url(), "Where every call's calling.call.state events go.")
    call_state_events: tuple[str, ...] = _setting(
        ["created", "ringing", "answered", "ended"],
        kinds.list_of(
            kinds.choice("created", "ringing", "answered", "ending", "ended").read,
            "a list of created, ringing, answered, ending, ended",
        ),
        "The states that are told there.",
    )
    script_warning_url: str = _setting("", kinds.url(), "Where calling.script.warning events (script errors) go.")
    user_event_url: str = _setting("", kinds.url(), "Where the user_event method's events go.")
    connect_timeout: float = _setting(
        2.0, kinds.seconds(0.1, 60), "How long connecting to a webhook's server may take."
    )
    read_timeout: float = _setting(5.0, kinds.seconds(0.1, 60), "How long its answer may take.")
    total_timeout: float = _setting(15.0, kinds.seconds(0.1, 300), "How long all attempts of one webhook may take.")
    retries: int = _setting(2, kinds.whole(0, 20, "retries"), "Attempts after the first one.")
    max_pending: int = _setting(
        20_000,
        kinds.whole(1, 1_000_000, "webhooks"),
        "Webhooks waiting in all; beyond it new ones are dropped and counted.",
    )
    max_pending_per_lane: int = _setting(
        1000, kinds.whole(1, 1_000_000, "webhooks"), "Webhooks waiting for one call and URL."
    )
    concurrency: int = _setting(100, kinds.whole(1, 10_000, "requests"), "Webhooks being sent at the same time.")
    concurrency_per_host: int = _setting(20, kinds.whole(1, 10_000, "requests"), "Of these, to one host.")


@dataclass(frozen=True, slots=True, repr=False)
class Network(_Section):
    """What documents may reach."""

    allow_private: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = _setting(
        [],
        kinds.list_of(kinds.network, "a list of networks such as 10.1.0.0/16"),
        "Private, loopback and link-local networks that documents' URLs may reach; the others are refused.",
    )


_VOICE = kinds.text("engine|voice", r"[A-Za-z0-9_.-]+\|[A-Za-z0-9_.:-]+")


@dataclass(frozen=True, slots=True, repr=False)
class Media(_Section):
    """Sounds from URLs, and speech."""

    cache_directory: Path = _setting(
        "/var/cache/fsctl", kinds.path(), "Where sounds from URLs are kept; FreeSWITCH must be able to read there."
    )
    cache_max_bytes: int = _setting(
        1_073_741_824, kinds.whole(0, 1_099_511_627_776, "bytes"), "How much is kept; the longest unused goes first."
    )
    max_file_bytes: int = _setting(52_428_800, kinds.whole(1024, 1_073_741_824, "bytes"), "The largest sound file.")
    timeout: float = _setting(30.0, kinds.seconds(0.1, 300), "How long fetching a sound may take in all.")
    tts_engine: str = _setting(
        "flite", kinds.text("a module's name", r"[A-Za-z0-9_.-]+"), "FreeSWITCH's speech engine."
    )
    tts_voice: str = _setting(
        "slt", kinds.text("a voice's name", r"[A-Za-z0-9_.:-]+"), "Its voice, where no other is mapped."
    )
    voices: Mapping[str, str] = _setting(
        {},
        kinds.mapping_of(_VOICE.read, "a mapping of voices to engine|voice, such as {Polly.Salli: flite|slt}"),
        "FreeSWITCH's engine and voice for each voice that documents name.",
    )
    asr_engine: str = _setting(
        "",
        kinds.text("a recogniser's name", r"[A-Za-z0-9_.-]*"),
        "FreeSWITCH's speech recogniser, such as vosk or unimrcp; empty means that prompt understands no speech.",
    )
    asr_grammar: str = _setting(
        "default",
        kinds.text("a grammar's name, path or URI", r"[A-Za-z0-9_.:@/%-]+"),
        "The recogniser's grammar for free speech.",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Recordings(_Section):
    """Where FreeSWITCH writes recordings, whom their links let in, and how long they are kept."""

    directory: Path = _setting(
        "/var/lib/fsctl/recordings",
        kinds.path(),
        "Where recordings lie; FreeSWITCH writes there and we serve them from there.",
    )
    min_free_bytes: int = _setting(
        104_857_600,
        kinds.whole(0, 1_099_511_627_776, "bytes"),
        "With less free space than this, no recording is started.",
    )
    link_seconds: int = _setting(
        0,
        kinds.whole(0, 315_360_000, "seconds"),
        "How long a recording's URL works once it was handed out; 0 is for ever: its name alone is the permission.",
    )
    link_key: str = _setting(
        "",
        kinds.text("a key of at least 16 characters, or '' for none", r"(.{16,})?"),
        "The key that signs URLs which expire; without one it is made from project.signing_key.",
        secret=True,
    )
    link_key_file: Path | None = _setting(
        "", kinds.optional_path(), "A file that holds that key, so that it is in no configuration file."
    )
    retention_days: int = _setting(
        0, kinds.whole(0, 3650, "days"), "After how many days a recording is deleted; 0 keeps all for ever."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Logs(_Section):
    """What is kept of each call, for GET /api/voice/logs."""

    database: str = _setting(
        "/var/lib/fsctl/calls.db",
        kinds.text("an absolute path, or '' for none", r"(/.*)?"),
        "The file that calls and their events are kept in, on a local disk; empty means that nothing is kept.",
    )
    retention_days: int = _setting(30, kinds.whole(1, 3650, "days"), "How long a call is kept.")
    max_calls: int = _setting(
        100_000, kinds.whole(1, 100_000_000, "calls"), "How many calls are kept; the oldest go first."
    )
    max_pending: int = _setting(
        20_000,
        kinds.whole(100, 1_000_000, "events"),
        "Events waiting for the disk; beyond it new ones are dropped and counted.",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Streams(_Section):
    """Audio to WebSocket endpoints, through mod_audio_stream."""

    mode: str = _setting(
        "hub",
        kinds.stream_mode(),
        "How audio gets there: hub for everything the language promises, direct lets the module connect by itself.",
    )
    allow_plaintext: bool = _setting(
        False,
        kinds.flag(),
        "Whether ws:// endpoints are allowed besides wss://; audio and token then travel in the clear.",
    )
    connect_timeout: float = _setting(3.0, kinds.seconds(0.1, 60), "How long a stream may take to connect.")
    sample_rate: int = _setting(8000, kinds.multiple(8000, 8000, 48_000, "Hz"), "The rate of the audio, 16-bit linear.")
    frame_ms: int = _setting(20, kinds.multiple(20, 20, 1000, "milliseconds"), "The audio in one WebSocket message.")
    heartbeat: int = _setting(15, kinds.whole(1, 3600, "seconds"), "How often the endpoint is pinged.")
    hub_listen: Address = _setting(
        "127.0.0.1:0", kinds.address(), "Where the module reaches the hub; port 0 takes any. Never open it to others."
    )
    max_per_call: int = _setting(16, kinds.whole(1, 1000, "streams"), "Streams of one call at the same time.")
    endpoint_timeout: float = _setting(
        5.0, kinds.seconds(0.1, 60), "How long the hub may take to connect to an endpoint, TLS and handshake included."
    )
    reconnects: int = _setting(
        0, kinds.whole(0, 1000, "attempts"), "How often a stream whose connection was lost is connected again."
    )
    directory: Path = _setting(
        "/run/fsctl",
        kinds.path(),
        "Where pipes for streams that talk back are made; FreeSWITCH must be able to read it.",
    )


@dataclass(frozen=True, slots=True, repr=False)
class FreeSwitch(_Section):
    """The standing connection to FreeSWITCH's own event socket, which dialled calls need."""

    event_socket: Address | None = _setting(
        "127.0.0.1:8021", kinds.optional_address(), "FreeSWITCH's event socket; empty means that fsctl dials no calls."
    )
    password: str = _setting("ClueCon", kinds.text(), "Its password.", secret=True)
    password_file: Path | None = _setting(
        "", kinds.optional_path(), "A file that holds the password, so that it is in no configuration file."
    )


@dataclass(frozen=True, slots=True, repr=False)
class Dial(_Section):
    """Calls that REST clients ask for."""

    routes: tuple[DialRoute, ...] = _setting(
        [],
        kinds.list_of(kinds.dial_route, "a list of {number: regular expression, endpoint: sofia/gateway/NAME/{0}, …}"),
        "Where numbers are dialled; the first route whose expression matches the whole number wins.",
    )
    sip_profile: str = _setting(
        "external", kinds.text("a profile's name", r"[A-Za-z0-9_.-]+"), "The sofia profile that dials SIP URIs."
    )
    user_domains: tuple[str, ...] = _setting(
        [],
        kinds.list_of(kinds.printable, "a list of domains"),
        "Domains whose SIP URIs mean users registered at this FreeSWITCH.",
    )
    sip_hosts: tuple[str, ...] = _setting(
        [],
        kinds.list_of(kinds.printable, "a list of hosts"),
        "The only hosts that SIP URIs may name; without any, every host on the public internet.",
    )
    calls_per_second: float = _setting(
        10.0, kinds.seconds(0.1, 1000, "calls a second"), "How fast calls are begun; more wait in the queue."
    )
    max_queued: int = _setting(10_000, kinds.whole(0, 1_000_000, "calls"), "Calls waiting; one more is refused.")
    timeout: int = _setting(60, kinds.whole(1, 600, "seconds"), "How long it rings where the request does not say.")


@dataclass(frozen=True, slots=True, repr=False)
class Shutdown(_Section):
    """How we stop."""

    drain: float = _setting(
        30.0,
        kinds.seconds(0, 86_400),
        "How long calls may go on after a stop was asked for; keep TimeoutStopSec above it.",
    )


@dataclass(frozen=True, slots=True, repr=False)
class Log(_Section):
    """What is logged, to standard output."""

    level: str = _setting("info", kinds.choice("debug", "info", "warning", "error"), "The least important lines shown.")
    format: str = _setting(
        "auto", kinds.choice("auto", "json", "text"), "How lines look; auto is text on a terminal and json elsewhere."
    )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings. ``Config()`` is all defaults; :func:`load` reads the operator's."""

    event_socket: EventSocket = field(default_factory=EventSocket)
    http: Http = field(default_factory=Http)
    api: Api = field(default_factory=Api)
    project: Project = field(default_factory=lambda: Project(node_id=socket.gethostname()))
    documents: Documents = field(default_factory=Documents)
    script: Script = field(default_factory=Script)
    calls: Calls = field(default_factory=Calls)
    webhooks: Webhooks = field(default_factory=Webhooks)
    network: Network = field(default_factory=Network)
    media: Media = field(default_factory=Media)
    recordings: Recordings = field(default_factory=Recordings)
    logs: Logs = field(default_factory=Logs)
    streams: Streams = field(default_factory=Streams)
    freeswitch: FreeSwitch = field(default_factory=FreeSwitch)
    dial: Dial = field(default_factory=Dial)
    shutdown: Shutdown = field(default_factory=Shutdown)
    log: Log = field(default_factory=Log)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def origin(self, name: str) -> str:
        """Say where ``section.key`` came from: ``default``, ``file:line``, a variable's name or ``credential …``."""
        return self.origins.get(name, "default")

    def value(self, name: str) -> Any:
        """Return the value of ``section.key``."""
        section, _, key = name.partition(".")
        return getattr(getattr(self, section), key)


SECTIONS: dict[str, type[Any]] = {name: kind for name, kind in get_type_hints(Config).items() if name != "origins"}


def _declare() -> dict[str, Setting]:
    found = {}
    for section, record in SECTIONS.items():
        blank = record()
        for item in fields(record):
            name, declared = f"{section}.{item.name}", item.metadata["setting"]
            found[name] = Setting(name, getattr(blank, item.name), declared.kind, declared.doc, declared.secret)
    return found


_SETTINGS = _declare()


def settings() -> Mapping[str, Setting]:
    """Return every declared setting by ``section.key``, in the order of the file."""
    return _SETTINGS


_HEADER = """\
# fsctl: every setting with its default, what it does and (what it accepts).
#
# A setting left out has the value shown here. FSCTL_SECTION_KEY in the environment overrides the file:
# FSCTL_HTTP_LISTEN=127.0.0.1:9000. Look at the outcome with: fsctl config show --config FILE
"""


def render_defaults() -> str:
    """Write the whole configuration file with every default: what ``conf/fsctl.yaml`` holds."""
    lines, section = [_HEADER.rstrip("\n")], ""
    for setting in _SETTINGS.values():
        if (current := setting.name.partition(".")[0]) != section:
            section = current
            lines += ["", f"# {SECTIONS[section].__doc__}", f"{section}:"]
        value = yaml.safe_dump(plain(setting.default), default_flow_style=True, width=1_000_000)
        lines += [
            f"  # {setting.doc}",
            f"  # ({setting.kind.accepts})",
            f"  {setting.name.partition('.')[2]}: {value.removesuffix('...' + chr(10)).strip()}",
        ]
    return "\n".join(lines) + "\n"
