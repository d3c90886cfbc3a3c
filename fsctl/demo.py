"""What ``fsctl demo`` does: one call through the whole service on loopback, told as it happens, and looked at closely.

The service is the real one, with real sockets, webhooks over HTTP and a recording on disk. FreeSWITCH, its caller and
the endpoint of the stream are simulated. That the call did everything it should is found out, not assumed.
"""

from __future__ import annotations

import hmac
import json as jsonlib
import secrets
import sys
from collections import Counter
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from fsctl import log as logs
from fsctl.api.server import HttpServer
from fsctl.clock import Clock
from fsctl.config import Config, Documents, Http, Network, Project, Streams, Webhooks
from fsctl.errors import FetchError
from fsctl.media.recordings import Recordings
from fsctl.signature import SHA256_HEADER, sign
from fsctl.simulator import Caller, Scripted
from fsctl.stage import LOOPBACK, Stage, listening, on_loopback, scratch
from fsctl.story import Entry, Story

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from fsctl.simulator.connectors import Connection

__all__ = ["DOCUMENT", "demo"]

DOCUMENT = """\
version: 1.0.0
sections:
  main:
    - answer: {}
    - stream:
        url: "${envs.endpoint}"
        name: demonstration
        track: both_tracks
        status_url: "${envs.webhooks}"
    - play:
        urls:
          - "say: Welcome to fsctl."
          - "ring: 1: us"
          - "say: Please leave a message."
        status_url: "${envs.webhooks}"
    - record:
        beep: true
        end_silence_timeout: 1.5
        status_url: "${envs.webhooks}"
    - play:
        url: "${record_url}"
        status_url: "${envs.webhooks}"
    - stop_stream: {}
    - hangup: {}
"""

SPEED = 4.0
LIMIT = 60.0
RATE = 8000
SAMPLE_BYTES = 4  # 16 bit, for each direction
WAV_HEADER = 44  # bytes
ENDPOINT = f"wss://{LOOPBACK}/audio"

# Each webhook there must be: its type, its state, how many.
EXPECTED: Mapping[tuple[str, str], int] = {
    ("calling.call.state", "created"): 1,
    ("calling.call.state", "answered"): 1,
    ("calling.call.state", "ended"): 1,
    ("calling.call.stream", "streaming"): 1,
    ("calling.call.stream", "finished"): 1,
    ("calling.call.play", "playing"): 2,
    ("calling.call.play", "finished"): 2,
    ("calling.call.record", "recording"): 1,
    ("calling.call.record", "finished"): 1,
}

SHOWN_METRICS = (
    "fsctl_calls_ended_total",
    "fsctl_documents_fetched_total",
    "fsctl_methods_run_total",
    "fsctl_streams_finished_total",
    "fsctl_recording_seconds_total",
    "fsctl_webhooks_total",
    "fsctl_event_socket_commands_total",
)

CALL_COUNTED = 'fsctl_calls_ended_total{end_reason="hangup"}'

NEXT = {
    "fsctl simulate DOC": "runs a document of yours like this",
    "fsctl check DOC": "says what is wrong with it",
    "fsctl config show --defaults": "prints a configuration file with every setting",
    "fsctl serve": "takes calls from a FreeSWITCH; README.md says how to set that up",
}


def demo(*, json: bool, color: bool) -> int:
    """Show the call on standard output. Returns 0 when it did all it should, 1 when anything was missing."""
    logs.setup("warning", stream=sys.stderr)
    story = Story(json=json, color=color)
    clock = Clock(SPEED)
    http = listening()
    receiver, endpoint = _Receiver(), _Endpoint()
    receiver.start()
    try:
        with (
            scratch() as directory,
            Stage(
                on_loopback(_settings(receiver, http.getsockname()[1]), directory, clock),
                clock=clock,
                streams=endpoint,
                limit=LIMIT,
                name=receiver.document,
                http=http,
            ) as stage,
        ):
            receiver.note = endpoint.note = stage.note
            return _show(story, stage, receiver, endpoint)
    finally:
        receiver.stop()


def _settings(receiver: _Receiver, port: int) -> Config:
    return Config(
        http=Http(public_url=f"http://{LOOPBACK}:{port}"),
        project=Project(node_id="demo", signing_key=receiver.key),
        documents=Documents(envs={"endpoint": ENDPOINT, "webhooks": receiver.webhooks}),
        webhooks=Webhooks(call_state_url=receiver.webhooks),
        streams=Streams(mode="direct"),  # the endpoint is the switch's own
        network=Network(allow_private=(ip_network(f"{LOOPBACK}/32"),)),
    )


def _show(story: Story, stage: Stage, receiver: _Receiver, endpoint: _Endpoint) -> int:
    config = stage.server.config
    host, port = stage.server.listener.address
    story.block(
        f"A call at {SPEED:g} times real time, on this machine only",
        {
            "fsctl": f"event socket {host}:{port}, HTTP {config.http.public_url}",
            "FreeSWITCH": "simulated, with the caller; it speaks the event socket's protocol over TCP",
            "your servers": f"document and webhooks at {receiver.base}; the stream's endpoint is simulated",
        },
    )
    story.say()
    variables: Mapping[str, Any] = {}
    script = "not run"
    for entry in stage.run(
        document=receiver.document, to="+15550199", from_="+15550100", behaviour=Caller(dictates=2.0)
    ):
        story.tell(entry)
        if entry.kind == "script":
            variables, script = entry.fields["variables"], entry.fields["outcome"]
    metrics = _metrics(stage)
    story.say()
    story.say(story.styled(f"Some of {config.http.public_url}/metrics", bold=True))
    for name, value in metrics.items():
        story.tell(Entry(stage.elapsed, "metric", {"name": name, "value": value}))
    story.say()
    story.say(story.styled("What the call did", bold=True))
    checks = [
        Check("script", script == "finished", f"the document's script: {script}"),
        *_webhook_checks(receiver),
        _stream_check(endpoint),
        *_recording_checks(stage, str(variables.get("record_url", ""))),
        Check("metrics", metrics.get(CALL_COUNTED) == 1, f"{CALL_COUNTED} is {metrics.get(CALL_COUNTED, 0):g}"),
    ]
    for check in checks:
        story.tell(Entry(stage.elapsed, "check", {"name": check.name, "ok": check.ok, "detail": check.detail}))
    failed = [check.name for check in checks if not check.ok]
    story.end(
        stage.elapsed,
        ok=not failed,
        why=f"missing or wrong: {', '.join(failed)}" if failed else "the call did all it should",
    )
    if not failed:
        story.block("Where to go from here", NEXT)
    return 1 if failed else 0


def _metrics(stage: Stage) -> dict[str, float]:
    """The chosen metrics that are not 0, as Prometheus would get them; none when it would not."""
    try:
        text = stage.server.web.fetch("GET", f"{stage.server.config.http.public_url}/metrics").body.decode()
    except FetchError:
        return {}
    pairs = (line.rpartition(" ")[::2] for line in text.splitlines())
    return {name: float(value) for name, value in pairs if name.partition("{")[0] in SHOWN_METRICS and float(value)}


# -- what the call should have done -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """Whether one thing came out as it should, and what was found."""

    name: str
    ok: bool
    detail: str


def _webhook_checks(receiver: _Receiver) -> Iterator[Check]:
    missing = Counter(EXPECTED) - Counter(receiver.arrived)
    said = ", ".join(f"{count} x {name} {state}" for (name, state), count in missing.items())
    found = f"{len(receiver.arrived)} arrived" + (f", but not {said}" if said else "")
    yield Check("webhooks", not missing, found)
    signed = f"{receiver.requests - receiver.unsigned} of {receiver.requests} requests carry the right one"
    yield Check("signatures", receiver.requests > receiver.unsigned == 0, signed)


def _stream_check(endpoint: _Endpoint) -> Check:
    if not endpoint.connections:
        return Check("stream", False, "nobody connected to the endpoint")
    connection = endpoint.connections[0]
    begins = connection.texts[0] if connection.texts else ""
    seconds = sum(map(len, connection.audio)) / SAMPLE_BYTES / RATE
    closed = connection.closed.is_set()
    detail = f"{seconds:.1f} s of audio in {len(connection.audio)} messages, {'closed' if closed else 'never closed'}"
    return Check("stream", '"event":"start"' in begins and seconds > 1 and closed, detail)


def _recording_checks(stage: Stage, url: str) -> Iterator[Check]:
    config = stage.server.config
    recordings = Recordings(config.recordings.directory, config.http.public_url)
    path = recordings.path_of_url(url)
    if path is None or not path.is_file():
        yield Check("recording", False, f"record_url is {url or 'empty'}: there is no such recording")
        return
    facts = recordings.facts(path)
    heard = any(path.read_bytes()[WAV_HEADER:])
    detail = f"{facts.duration or 0:.1f} s, {facts.size} bytes, {'with' if heard else 'without'} the caller's voice"
    yield Check("recording", heard and bool(facts.duration), detail)
    yield _served(stage, url, facts.size)
    yield _played_back(stage, path)


def _served(stage: Stage, url: str, size: int) -> Check:
    try:
        found = len(stage.server.web.fetch("GET", url).body)
    except FetchError as error:
        return Check("download", False, str(error))
    return Check("download", found == size, f"{found} bytes from {url}")


def _played_back(stage: Stage, path: Path) -> Check:
    applications = stage.simulated.applications if stage.simulated is not None else ()
    played = [one for one in applications if one.application == "playback" and one.argument == str(path)]
    response = played[0].response if played else "it was not played"
    return Check("playback", response == "FILE PLAYED", f"the recording to its caller: {response}")


# -- what a customer has ----------------------------------------------------------------------------------------------


def _nobody(_kind: str, **_fields: Any) -> None:
    """Hear nothing: no call has begun."""


class _Endpoint(Scripted):
    """A stream's endpoint: accepts, and keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.note: Callable[..., None] = _nobody

    def open(self, url: str, headers: Mapping[str, str], timeout: float) -> Connection:
        """Accept."""
        connection = super().open(url, headers, timeout)
        self.note("note", text=f"the endpoint {url} has a stream")
        return connection


class _Receiver:
    """A web server that has the document, and takes webhooks.

    ``arrived`` are their types and states; of all ``requests``, ``unsigned`` carried no signature, or a wrong one.
    """

    def __init__(self) -> None:
        self.key = secrets.token_hex(16)
        self.note: Callable[..., None] = _nobody
        self.arrived: list[tuple[str, str]] = []
        self.requests = 0
        self.unsigned = 0
        self._server = HttpServer((LOOPBACK, 0), self._answer)

    def start(self) -> None:
        """Listen. Raises OSError."""
        self._server.start()

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop(timeout=0)

    @property
    def base(self) -> str:
        """Where it is."""
        return "http://{}:{}".format(*self._server.address)

    @property
    def document(self) -> str:
        """The URL of the document."""
        return f"{self.base}/document"

    @property
    def webhooks(self) -> str:
        """Where webhooks go."""
        return f"{self.base}/webhooks"

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body: bytes = environ["wsgi.input"].read()
        url = f"{self.base}{environ['PATH_INFO']}"
        signed = hmac.compare_digest(
            sign(self.key, url, body)[SHA256_HEADER], environ.get(f"HTTP_{SHA256_HEADER.upper().replace('-', '_')}", "")
        )
        self.requests += 1
        self.unsigned += not signed
        if url == self.document:
            start_response("200 OK", [("Content-Type", "application/yaml")])
            return [DOCUMENT.encode()]
        told = jsonlib.loads(body)
        params = told["params"]
        self.arrived.append((told["event_type"], params.get("state") or params.get("call_state") or ""))
        self.note("webhook", method=environ["REQUEST_METHOD"], url=url, signed=signed, body=told)
        start_response("204 No Content", [])
        return []
