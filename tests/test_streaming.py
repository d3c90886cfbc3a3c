"""Streams through the hub, whole: document, service, simulated module, and a real WebSocket server as the endpoint."""

import base64
import json
from dataclasses import replace
from ipaddress import ip_network

import gevent
import pytest
from gevent.event import Event
from websockets.sync.server import serve

from fsctl.call.events import CallStateChanged, ControlChanged, ScriptEnded
from fsctl.clock import Clock
from fsctl.config import Config
from fsctl.server import Server
from fsctl.simulator import Caller, Switch

SECONDS = 20


class Endpoint:
    """A customer's WebSocket server: keeps what it hears, by stream."""

    def __init__(self):
        self.heard = {}
        self.tokens = {}
        self.changed = Event()
        self._server = serve(self._talk, "127.0.0.1", 0)
        self._greenlet = gevent.spawn(self._server.serve_forever)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def _talk(self, connection):
        path = connection.request.path
        self.tokens[path] = connection.request.headers.get("Authorization")
        if path == "/close":
            return
        messages = self.heard.setdefault(path, [])
        for text in connection:
            messages.append(json.loads(text))
            self.changed.set()
            self.changed.clear()

    def close(self):
        self._server.shutdown()
        self._greenlet.join(timeout=5)


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def run(tmp_path):
    """Run a document to the end of its call; its variables, and the states of its streams by control id."""
    servers = []

    def run(document, **streams):
        (tmp_path / "main.yaml").write_text(document, encoding="utf-8")
        config = Config()
        config = replace(
            config,
            event_socket=replace(config.event_socket, listen=("127.0.0.1", 0)),
            http=replace(config.http, listen=("127.0.0.1", 0)),
            documents=replace(config.documents, default="main.yaml", directory=tmp_path),
            recordings=replace(config.recordings, directory=tmp_path / "recordings"),
            logs=replace(config.logs, database=""),
            media=replace(config.media, cache_directory=tmp_path / "cache"),
            network=replace(config.network, allow_private=(ip_network("127.0.0.0/8"),)),
            streams=replace(config.streams, mode="hub", allow_plaintext=True, **streams),
        )
        told = []
        clock = Clock()
        server = Server(config, clock=clock, observers=(told.append,))
        server.start()
        servers.append(server)
        with Switch(server.listener.address, clock=clock) as switch:
            call = switch.call(behaviour=Caller(speaks=((0.0, 60.0),)))
            call.join(SECONDS)
        states = {}
        for event in told:
            if isinstance(event, ControlChanged) and event.kind == "stream":
                states.setdefault(event.control_id, []).append(event.state)
        (ended,) = [event for event in told if isinstance(event, ScriptEnded)]
        assert [event for event in told if isinstance(event, CallStateChanged)][-1].state == "ended"
        assert len(server.calls) == 0
        return ended.variables, states, call

    yield run
    for server in servers:
        server.stop()


def audio(messages, track):
    """The bytes of a track, in the order they came."""
    return b"".join(
        base64.b64decode(message["media"]["payload"])
        for message in messages
        if message["event"] == "media" and message["media"]["track"] == track
    )


def test_several_streams_at_once_each_get_their_own(run, endpoint):
    variables, states, call = run(f"""
sections:
  main:
    - answer: {{}}
    - stream: {{url: "{endpoint.url}/in", control_id: a, authorization_bearer_token: secret,
               custom_parameters: {{tier: "it's gold"}}}}
    - stream: {{url: "{endpoint.url}/out", control_id: b, track: outbound_track, codec: PCMA}}
    - stream: {{url: "{endpoint.url}/both", control_id: c, track: both_tracks, codec: "L16@16000h"}}
    - sleep: 700
    - stop_stream: {{control_id: b}}
    - sleep: 200
    - hangup: {{}}
""")

    assert (variables["stream_result"], variables["stop_stream_result"]) == ("success", "success")
    assert states == {"a": ["streaming", "finished"], "b": ["streaming", "finished"], "c": ["streaming", "finished"]}
    assert endpoint.tokens == {"/in": "Bearer secret", "/out": None, "/both": None}
    starts = {path: messages[1]["start"] for path, messages in endpoint.heard.items()}
    assert [messages[0]["event"] for messages in endpoint.heard.values()] == ["connected"] * 3
    assert starts["/in"]["tracks"] == ["inbound"]
    assert starts["/in"]["customParameters"] == {"tier": "it's gold"}
    assert starts["/in"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert starts["/out"]["tracks"] == ["outbound"]
    assert starts["/both"]["mediaFormat"]["sampleRate"] == 16000
    # 20 ms of G.711 are 160 bytes; of 16 kHz L16, 640
    assert len(audio(endpoint.heard["/in"], "inbound")) >= 160 * 20
    assert audio(endpoint.heard["/in"], "outbound") == b""
    assert len(audio(endpoint.heard["/both"], "inbound")) >= 640 * 20
    assert len(audio(endpoint.heard["/both"], "outbound")) >= 640 * 20
    assert [messages[-1]["event"] for messages in endpoint.heard.values()] == ["stop"] * 3
    # the module was attached once, and told nothing of endpoints or tokens
    starts = [api for api in call.apis if api.startswith("uuid_audio_stream") and " start " in api]
    assert len(starts) == 1
    assert "secret" not in repr(call.apis)


def test_one_endpoint_that_fails_disturbs_no_other(run, endpoint):
    variables, states, _ = run(f"""
sections:
  main:
    - answer: {{}}
    - stream: {{url: "{endpoint.url}/good", control_id: good}}
    - stream: {{url: "{endpoint.url}/close", control_id: closed}}
    - set: {{closed: "${{stream_result}}"}}
    - stream: {{url: "ws://127.0.0.1:9/", control_id: refused}}
    - set: {{refused: "${{stream_result}}"}}
    - sleep: 500
    - hangup: {{}}
""")

    assert variables["refused"] == "failed"
    assert states["good"] == ["streaming", "finished"]
    assert states["refused"] == ["finished"]
    assert states["closed"][-1] == "finished"
    assert len(audio(endpoint.heard["/good"], "inbound")) >= 160 * 15


def test_more_streams_than_allowed(run, endpoint):
    variables, states, _ = run(
        f"""
sections:
  main:
    - answer: {{}}
    - stream: {{url: "{endpoint.url}/1", control_id: one}}
    - stream: {{url: "{endpoint.url}/2", control_id: two}}
    - hangup: {{}}
""",
        max_per_call=1,
    )

    assert variables["stream_result"] == "failed"
    assert states == {"one": ["streaming", "finished"], "two": ["finished"]}


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ("codec: G722", "codec"),
        ("track: both_tracks, bidirectional: true", "bidirectional"),
        ('url: "https://a.example/", codec: PCMU', "scheme"),
    ],
)
def test_what_the_hub_cannot_do_fails_softly(run, endpoint, parameters, why):
    del why
    url = "" if parameters.startswith("url") else f'url: "{endpoint.url}/x", '
    variables, _, call = run(f"""
sections:
  main:
    - answer: {{}}
    - stream: {{{url}{parameters}}}
    - hangup: {{}}
""")

    assert variables["stream_result"] == "failed"
    assert not [api for api in call.apis if api.startswith("uuid_audio_stream")]


def test_a_hangup_ends_the_streams(run, endpoint):
    _, states, _ = run(f"""
sections:
  main:
    - stream: {{url: "{endpoint.url}/x", control_id: a}}
    - sleep: 100
""")

    assert states == {"a": ["streaming", "finished"]}
    assert endpoint.heard["/x"][-1]["event"] == "stop"
