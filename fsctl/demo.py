"""What ``fsctl demo`` does: one call through the whole service on loopback, told as it happens, and looked at closely.

The service is the real one, with real sockets, webhooks over HTTP and a recording on disk. FreeSWITCH, its caller and
the endpoint of the stream are simulated. That the call did everything it should is found out, not assumed.
"""

from __future__ import annotations

import json as jsonlib
import secrets
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fsctl import log as logs
from fsctl.api.server import HttpServer
from fsctl.clock import Clock
from fsctl.config import Config
from fsctl.config.sections import Documents, Http, Network, Project, Webhooks
from fsctl.errors import FetchError
from fsctl.media.recordings import Recordings
from fsctl.signature import sign
from fsctl.simulator import Caller, Scripted
from fsctl.stage import LOOPBACK, Stage, listening, on_loopback, scratch
from fsctl.story import Entry, Story
from fsctl.web import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from fsctl.simulator import SimulatedCall
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
_ENDPOINT = f"wss://{LOOPBACK}/audio"

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

_SHOWN_METRICS = (
    "fsctl_calls_ended_total",
    "fsctl_documents_fetched_total",
    "fsctl_methods_run_total",
    "fsctl_streams_finished_total",
    "fsctl_recording_seconds_total",
    "fsctl_webhooks_total",
    "fsctl_event_socket_commands_total",
)

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
    receiver, endpoint, web = _Receiver(secrets.token_hex(16)), _Endpoint(), listening()
    receiver.start()
    try:
        with (
            scratch() as directory,
            Stage(
                on_loopback(_settings(receiver, web.getsockname()[1]), directory, clock),
                clock=clock,
                streams=endpoint,
                limit=LIMIT,
                name=receiver.document,
                sockets={"http": web},
            ) as stage,
        ):
            receiver.note = endpoint.note = stage.note
            _say_where(story, stage, receiver)
            for entry in stage.run(
                document=receiver.document, to="+15550199", from_="+15550100", behaviour=Caller(dictates=2.0)
            ):
                story.tell(entry)
            return _conclude(story, stage, receiver, endpoint)
    finally:
        receiver.stop()


def _settings(receiver: _Receiver, port: int) -> Config:
    return replace(
        Config(),
        http=Http(public_url=f"http://{LOOPBACK}:{port}"),
        project=replace(Project(), node_id="demo", signing_key=receiver.key),
        documents=Documents(envs={"endpoint": _ENDPOINT, "webhooks": receiver.webhooks}),
        webhooks=Webhooks(call_state_url=receiver.webhooks),
        network=Network(allow_private=(ip_network("127.0.0.0/8"),)),
    )
