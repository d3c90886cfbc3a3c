"""Taps, whole: document, service, simulated module, and a real UDP socket that hears what the caller says."""

from dataclasses import replace
from ipaddress import ip_network

import numpy as np
import pytest

from fsctl.call.events import CallStateChanged, ControlChanged, ScriptEnded, ScriptWarning
from fsctl.clock import Clock
from fsctl.config import Config
from fsctl.server import Server
from fsctl.simulator import Caller, Switch
from fsctl.streams import audio
from fsctl.webhooks.payloads import payload
from tests.streams.packets import Receiver
from tests.streams.peers import Endpoint, until

SECONDS = 20
HERTZ = 400  # of the simulated caller, and of whatever the switch plays


class Story:
    """One call, from its beginning to its end."""

    def __init__(self, call, told):
        self.call = call
        (ended,) = [event for event in told if isinstance(event, ScriptEnded)]
        self.variables = ended.variables
        self.warnings = [event.message for event in told if isinstance(event, ScriptWarning)]
        self.taps = [event for event in told if isinstance(event, ControlChanged) and event.kind == "tap"]
        self.last = [event for event in told if isinstance(event, CallStateChanged)][-1].state

    @property
    def states(self):
        states = {}
        for event in self.taps:
            states.setdefault(event.control_id, []).append(event.state)
        return states


@pytest.fixture
def run(tmp_path):
    """Run a document to the end of its call."""
    servers = []

    def run(document, *, allowed="127.0.0.0/8", speaks=((0.0, 60.0),), leaves=None, **streams):
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
            network=replace(config.network, allow_private=(ip_network(allowed),)),
            streams=replace(config.streams, **{"mode": "hub", "allow_plaintext": True, **streams}),
        )
        told = []
        clock = Clock()
        server = Server(config, clock=clock, observers=(told.append,))
        server.start()
        servers.append(server)
        with Switch(server.listener.address, clock=clock) as switch:
            call = switch.call(behaviour=Caller(speaks=speaks, hangs_up_after=leaves))
            call.join(SECONDS)
        story = Story(call, told)
        assert story.last == "ended"
        assert len(server.calls) == 0
        until(lambda: server.hub.counts() == {"attachments": 0, "feeds": 0, "streams": 0}, what="the hub to let go")
        return story

    yield run
    for server in servers:
        server.stop()


@pytest.fixture
def make_receiver():
    receivers = []

    def made():
        receivers.append(Receiver())
        return receivers[-1]

    yield made
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver()


def sounding(receiver, decode=audio.audioop.ulaw2lin, ptime=20):
    """For each 20 ms, which is what the switch sends at once, whether the tone is there; anything else may not be."""
    assert {len(packet.payload) for packet in receiver.in_order()} == {8 * ptime}
    samples = np.frombuffer(decode(receiver.audio, 2), "<i2").astype(float).reshape(-1, 160)
    strength = 2 * abs(samples @ np.exp(-2j * np.pi * HERTZ * np.arange(160) / 8000)) / 160
    loudness = np.sqrt((samples**2).mean(axis=1))
    assert loudness == pytest.approx(strength / np.sqrt(2), rel=0.05, abs=20), "the tone and nothing but the tone"
    return list(strength > 1000)


def test_the_caller_is_heard_until_the_tap_is_stopped(run, receiver):
    story = run(f"""
sections:
  main:
    - answer: {{}}
    - tap: {{uri: "{receiver.uri}", control_id: t}}
    - sleep: 500
    - stop_tap: {{}}
    - sleep: 400
    - hangup: {{}}
""")

    assert (story.variables["tap_result"], story.variables["stop_tap_result"]) == ("success", "success")
    assert story.states == {"t": ["tapping", "finished"]}
    heard = sounding(receiver)
    assert 15 <= len(heard) <= 30  # for half a second, and for no longer
    assert all(heard)
    assert {("127.0.0.1", story.variables["tap_rtp_src_port"])} == set(receiver.senders)


def test_each_direction_has_its_side_and_both_have_both(run, make_receiver):
    """The caller talks in the first half second; then something is played."""
    speak, listen, both = (make_receiver() for _ in range(3))
    story = run(
        f"""
sections:
  main:
    - answer: {{}}
    - tap: {{uri: "{speak.uri}", control_id: speak, direction: speak}}
    - tap: {{uri: "{listen.uri}", control_id: listen, direction: listen, codec: PCMA}}
    - tap: {{uri: "{both.uri}", control_id: both, direction: both, rtp_ptime: 40}}
    - sleep: 700
    - play: {{url: "ring:0.4:us"}}
    - hangup: {{}}
""",
        speaks=((0.0, 0.5),),
    )

    assert story.states == {name: ["tapping", "finished"] for name in ("speak", "listen", "both")}
    said = sounding(speak)
    heard = sounding(listen, audio.audioop.alaw2lin)
    mixed = sounding(both, ptime=40)
    first, second = slice(0, len(said) // 2), slice(len(said) // 2, None)
    assert (any(said[first]), any(said[second])) == (True, False)
    assert (any(heard[first]), any(heard[second])) == (False, True)
    assert sum(mixed) == pytest.approx(sum(said) + sum(heard), abs=5)


def test_a_name_leads_there_too(run, receiver):
    story = run(f"""
sections:
  main:
    - tap: {{uri: "rtp://localhost:{receiver.port}"}}
    - sleep: 300
""")

    if story.variables["tap_rtp_src_addr"] == "::1":
        pytest.skip("localhost is ::1 first, on this host")
    assert all(sounding(receiver))


def test_a_control_id_is_free_again_once_its_tap_ended(run, make_receiver):
    first, second = make_receiver(), make_receiver()
    story = run(f"""
sections:
  main:
    - answer: {{}}
    - tap: {{uri: "{first.uri}", control_id: t}}
    - sleep: 200
    - tap: {{uri: "{second.uri}", control_id: t}}
    - set: {{meanwhile: "${{tap_result}}"}}
    - stop_tap: {{control_id: t}}
    - tap: {{uri: "{second.uri}", control_id: t}}
    - sleep: 200
    - hangup: {{}}
""")

    assert (story.variables["meanwhile"], story.variables["tap_result"]) == ("failed", "success")
    assert story.states == {"t": ["tapping", "finished", "tapping", "finished"]}
    assert len(story.warnings) == 1
    assert all(sounding(first))
    assert all(sounding(second))
    assert first.packets[0].source != second.packets[0].source


def test_a_hangup_ends_the_tap_and_says_so(run, receiver):
    story = run(
        f"""
sections:
  main:
    - tap: {{uri: "{receiver.uri}", control_id: t, direction: both, status_url: "http://127.0.0.1:9/t"}}
    - sleep: -1
""",
        leaves=0.6,
    )

    assert story.states == {"t": ["tapping", "finished"]}
    assert payload(story.taps[-1])["params"]["device"] == {
        "type": "rtp",
        "params": {"addr": "127.0.0.1", "port": receiver.port, "codec": "PCMU", "ptime": 20},
    }
    assert len(sounding(receiver)) <= 35


def test_to_a_websocket_it_is_a_stream(run):
    endpoint = Endpoint()
    try:
        story = run(f"""
sections:
  main:
    - tap: {{uri: "{endpoint.url}", control_id: t, direction: both}}
    - sleep: 400
""")
    finally:
        endpoint.close()

    assert story.states == {"t": ["tapping", "finished"]}
    assert [message["event"] for message in endpoint.said[:2]] == ["connected", "start"]
    assert endpoint.said[1]["start"]["tracks"] == ["inbound", "outbound"]
    assert len(endpoint.audio("inbound")) >= 160 * 10


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"allowed": "10.0.0.0/8"}, "is at 127.0.0.1, which is not on the public internet and not allowed here"),
        ({"mode": "direct"}, "a tap needs streams.mode hub"),
    ],
    ids=["a private address", "direct mode"],
)
def test_what_cannot_be_fails_softly_and_says_why(run, receiver, settings, why):
    story = run(
        f"""
sections:
  main:
    - tap: {{uri: "{receiver.uri}"}}
    - set: {{after: 1}}
    - hangup: {{}}
""",
        **settings,
    )

    assert (story.variables["tap_result"], story.variables["after"]) == ("failed", 1)
    assert len(story.warnings) == 1
    assert why in story.warnings[0]
    assert receiver.packets == []
