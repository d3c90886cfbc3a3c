"""What ``fsctl simulate`` does: run one document on a simulated call and tell what happens.

Real are the service, the event socket and what the script's logic needs from elsewhere: documents of ``execute`` and
``transfer``, and the ``request`` method. Stood in for are the caller, FreeSWITCH, sounds behind URLs and the endpoints
of streams; webhooks are shown, not sent.
"""

from __future__ import annotations

import json as jsonlib
import sys
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import click
from gevent.socket import create_connection

from fsctl import __version__
from fsctl import log as logs
from fsctl.checking import STANDARD_INPUT, check_documents
from fsctl.clock import Clock
from fsctl.media.files import Files
from fsctl.media.recordings import Recordings
from fsctl.simulator import Caller, Scripted, WebSockets
from fsctl.simulator.caller import keys
from fsctl.simulator.media import RATE, silence, write_wav
from fsctl.stage import Stage, on_loopback, scratch
from fsctl.story import Entry, Story, short
from fsctl.streams import rtp
from fsctl.streams.sink import Sink
from fsctl.web import Client, Dialled, Policy, Response, redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fsctl.config import Config
    from fsctl.swml.document import Instruction
    from fsctl.web import Timeouts

__all__ = ["LIMIT", "simulate"]

LIMIT = 300.0
"""Call seconds after which the caller leaves a script that is still running."""

DICTATES = 2.0
"""Seconds the caller talks when a recording begins."""

_FIRST_KEY = 1.0  # seconds from where the script listens to the first key
# For each method that listens to keys: what its command for that holds, and the keys if the document names none.
_LISTENS = {"prompt": ("", "any"), "record": ("uuid_record ", "#"), "record_call": ("uuid_record ", "")}


def simulate(
    path: str,
    *,
    digits: str,
    to: str,
    from_: str,
    vars: Mapping[str, str],  # noqa: A002 - the language's word
    params: Mapping[str, str],
    json: bool,
    color: bool,
    speed: float,
    config: Config,
) -> int:
    """Run the document at ``path`` (``-``: standard input) and tell it on standard output.

    Returns 0 when its script ended without a script error, 1 when it did not, could not be run, or did not end.
    """
    level = config.log.level if config.origin("log.level") != "default" else "warning"
    logs.setup(level, config.log.format, stream=sys.stderr)  # type: ignore[arg-type]  # the configuration checked it
    text = sys.stdin.buffer.read() if path == STANDARD_INPUT else b""
    if not _is_valid(path, text, config, json=json, color=color):
        return 1
    story = Story(json=json, color=color)
    clock = _Clock(speed)
    with scratch() as directory:
        document = Path(path).resolve()
        if path == STANDARD_INPUT:
            document = directory / "document" / "standard-input"
            document.parent.mkdir()
            document.write_bytes(text)
        settings = replace(config, documents=replace(config.documents, directory=document.parent))
        with _Simulation(on_loopback(settings, directory, clock), clock, path, digits, vars, params) as stage:
            story.say(f"{path}: {from_} calls {to}, at {speed:g} times real time; webhooks are shown, not sent")
            ended: Entry | None = None
            for entry in stage.run(document=document.name, to=to, from_=from_, behaviour=Caller(dictates=DICTATES)):
                story.tell(entry)
                if entry.kind == "script":
                    ended = entry
            return _conclude(story, stage, ended)


def _is_valid(path: str, text: bytes, config: Config, *, json: bool, color: bool) -> bool:
    """Whether the document can be run; says all that is wrong with it, as ``fsctl check`` does."""
    (checked,) = check_documents([path], config, BytesIO(text))
    if not checked.ok:
        for line in checked.as_json() if json else checked.as_text(color=color):
            click.echo(line, color=color)
    return checked.ok


def _conclude(story: Story, stage: _Simulation, ended: Entry | None) -> int:
    """Tell what was left at the end; the exit code."""
    if stage.unpressed:
        text = f"nothing listened to keys, so the caller pressed none of {stage.unpressed}"
        story.tell(Entry(stage.elapsed, "note", {"text": text}))
    outcome = ended.fields["outcome"] if ended is not None else "not run"
    variables = ended.fields["variables"] if ended is not None else {}
    ok = outcome in {"finished", "hangup"} and not stage.limited
    story.block("Variables at the end", {name: short(value) for name, value in variables.items()} or {"none": ""})
    story.end(stage.elapsed, ok=ok, why=_NOT_ENDED if stage.limited else _WHY.get(outcome, outcome))
    return 0 if ok else 1


_NOT_ENDED = f"the script had not ended after {LIMIT:g} s of call time"
_WHY = {
    "finished": "the script ended without a script error",
    "hangup": "the script ended with the call, without a script error",
    "error": "the script ended with a script error",
}


class _Simulation(Stage):
    """A stage with stand-ins for what lies beyond this machine, and a caller who presses keys."""

    def __init__(
        self,
        config: Config,
        clock: _Clock,
        name: str,
        digits: str,
        vars: Mapping[str, str],  # noqa: A002 - the language's word
        params: Mapping[str, str],
    ) -> None:
        self.unpressed = digits
        web = _Web(clock, Policy(allow_private=config.network.allow_private), user_agent=f"fsctl/{__version__}")
        self._endpoint = Sink(config.streams.directory / "streams", tell=lambda _: None)
        self._endpoint.start()
        web.endpoint = self._endpoint.port
        super().__init__(
            config,
            clock=clock,
            streams=WebSockets() if config.streams.mode == "hub" else Scripted(),
            limit=LIMIT,
            name=name,
            web=web,
            messenger=_Shown(web, self.note),
            files=_Sounds(web, config, self.note),
            vars=vars,
            params=params,
        )
        self.server.engine.evaluate("0", {})  # its child starts now, not in the middle of an instruction
        self.server.hub.packets = lambda _addr, _port: rtp.connected("127.0.0.1", 9)  # nobody's address is sent to

    def __exit__(self, *why: object) -> None:
        super().__exit__(*why)
        self._endpoint.stop()

    def commanded(self, instruction: Instruction, command: str) -> None:
        """Begin to press the keys where the script first listens to any."""
        begins, keys_by_default = _LISTENS.get(instruction.method.name, ("", ""))
        if self.unpressed and begins in command and instruction.value.get("terminators", keys_by_default):
            for at, key in keys(self.unpressed):
                self.later(_FIRST_KEY + at, self._press, key)
            self.unpressed = ""

    def _press(self, key: str) -> None:
        if self.simulated is not None:
            self.note("note", text=f"the caller presses {key}")
            self.simulated.press(key)


class _Clock(Clock):
    """Call time that stands still while a web server is asked: that takes no less time for being simulated."""

    def __init__(self, speed: float) -> None:
        super().__init__(speed)
        self.now = self._now
        self._lost = 0.0
        self._since: float | None = None

    def monotonic(self) -> float:
        """Call seconds, without those that were spent waiting."""
        return (super().monotonic() if self._since is None else self._since) - self._lost

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Stand still."""
        self._since = super().monotonic()
        try:
            yield
        finally:
            self._lost += super().monotonic() - self._since
            self._since = None


class _Web(Client):
    """Asks web servers for scripts. Streams go to an endpoint of ours, so nobody's address is looked up for one."""

    endpoint = 0  # its port

    def __init__(self, clock: _Clock, policy: Policy, **options: Any) -> None:
        super().__init__(policy, **options)
        self._clock = clock

    def fetch(self, method: str, url: str, **options: Any) -> Response:
        """Ask; call time stands still."""
        with self._clock.standing():
            return super().fetch(method, url, **options)

    def admit(self, url: str, *, timeout: float = 5.0) -> None:  # noqa: ARG002 - nothing is waited for
        """Look at the form of the URL. Raises FetchError."""
        self.wire_url(f"http{url[2:]}" if url[:2].lower() == "ws" else url)

    def dial(self, url: str, *, timeout: float) -> Dialled:
        """Connect to the endpoint of ours, whatever the URL. Raises FetchError."""
        self.admit(url)
        sock = create_connection(("127.0.0.1", self.endpoint), timeout=timeout)
        return Dialled(sock, f"ws://127.0.0.1:{self.endpoint}/", "127.0.0.1", None, redact(url))


class _Shown:
    """Carries webhooks no further than the story."""

    def __init__(self, web: Client, note: Callable[..., None]) -> None:
        self._web = web
        self._note = note

    def wire_url(self, url: str) -> str:
        """The URL as its server would see it. Raises FetchError."""
        return self._web.wire_url(url)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,  # noqa: ARG002 - nothing is waited for
        *,
        received: Callable[[Mapping[str, str]], None] | None = None,  # noqa: ARG002 - nobody answers
    ) -> int:
        """Show a webhook, and say that it arrived. Raises FetchError for what is no URL."""
        wire = self.wire_url(url)
        told = jsonlib.loads(body) if body else dict(parse_qsl(urlsplit(wire).query))
        shown = wire if body else wire.partition("?")[0]
        self._note("webhook", method=method, url=redact(shown), sent=False, headers=dict(headers), body=told)
        return 200


class _Sounds(Files):
    """Plays a second of silence for every sound behind a URL, except for the call's own recordings."""

    def __init__(self, web: Client, config: Config, note: Callable[..., None]) -> None:
        self._web = web
        self._note = note
        self._is_own = Recordings(config.recordings.directory, config.http.public_url).path_of_url
        super().__init__(
            web,
            cache_directory=config.media.cache_directory,
            max_bytes=config.media.cache_max_bytes,
            max_file_bytes=config.media.max_file_bytes,
            timeout=config.media.timeout,
            own_urls=self._is_own,
        )
        self._silence = config.media.cache_directory / "silence.wav"
        write_wav(self._silence, silence(RATE), 1)

    def local(self, url: str, gain_db: float = 0.0) -> Path:
        """The stand-in, or the recording. Raises FetchError."""
        if self._is_own(url) is not None:
            return super().local(url, gain_db)
        shown = redact(self._web.wire_url(url))
        self._note("note", text=f"{shown} is not fetched: a second of silence is played for it")
        return self._silence
