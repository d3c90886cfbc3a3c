"""calling.stream through the hub, whole: a live call, the command, the simulated module, and real WebSocket servers."""

from dataclasses import replace
from ipaddress import ip_network

import gevent
import pytest
from gevent import socket

from fsctl.call.events import ControlChanged
from fsctl.clock import Clock
from fsctl.config import Config
from fsctl.methods.stream import Streaming, begin, named
from fsctl.server import Server
from fsctl.simulator import Caller, Switch
from tests.methods.commanding import ask
from tests.streams.peers import Endpoint, until

DOCUMENT = "sections: {main: [{answer: {}}, {sleep: -1}]}"


class House:
    """A service with one live call, and what it told of its streams."""

    def __init__(self, server, call, told):
        self.server, self.call, self._told = server, call, told

    @property
    def states(self):
        states = {}
        for event in self._told:
            if isinstance(event, ControlChanged) and event.kind == "stream":
                states.setdefault(event.control_id, []).append(event.state)
        return states

    def reaches(self, control_id, *states):
        until(lambda: self.states.get(control_id) == [*states], what=f"{control_id} {states}: {self.states}")


@pytest.fixture
def house(tmp_path):
    (tmp_path / "main.yaml").write_text(DOCUMENT, encoding="utf-8")
    config = Config()
    config = replace(
        config,
        event_socket=replace(config.event_socket, listen=("127.0.0.1", 0)),
        http=replace(config.http, listen=("127.0.0.1", 0)),
        documents=replace(config.documents, default="main.yaml", directory=tmp_path),
        recordings=replace(config.recordings, directory=tmp_path / "recordings"),
        freeswitch=replace(config.freeswitch, event_socket=None),
        logs=replace(config.logs, database=""),
        media=replace(config.media, cache_directory=tmp_path / "cache"),
        network=replace(config.network, allow_private=(ip_network("127.0.0.0/8"),)),
        streams=replace(config.streams, mode="hub", allow_plaintext=True, endpoint_timeout=1.0),
    )
    told = []
    clock = Clock()
    server = Server(config, clock=clock, observers=(told.append,))
    server.start()
    try:
        with Switch(server.listener.address, clock=clock) as switch:
            simulated = switch.call(behaviour=Caller(speaks=((0.0, 60.0),)))
            until(lambda: any(call.state == "answered" for call in server.calls), what="the answer")
            (call,) = server.calls
            yield House(server, call, told)
            # Not in the moment in which the last stream's module is taken off.
            until(lambda: call.controls.running("stream") or not server.hub.counts()["attachments"], what="the hub")
            simulated.hangup()
            assert simulated.join(10)
        until(lambda: server.hub.counts() == {"attachments": 0, "feeds": 0, "streams": 0}, what="the hub to let go")
    finally:
        server.stop()


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def deaf():
    """A server that takes connections and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    listener.close()


def test_several_streams_at_once(endpoint, house):
    for control_id, params in (("a", {"name": "ears"}), ("b", {"track": "both_tracks", "codec": "PCMA"})):
        assert ask(house.call, "calling.stream", control_id=control_id, url=endpoint.url, **params) == {
            "control_id": control_id
        }
    house.reaches("a", "streaming")
    house.reaches("b", "streaming")
    until(lambda: len(endpoint.audio("inbound")) > 1600 and endpoint.audio("outbound"), what="audio")

    assert named(house.call, "ears").id == "a"
    ask(house.call, "calling.stream.stop", control_id="a")

    house.reaches("a", "streaming", "finished")
    assert house.states["b"] == ["streaming"]
    formats = {
        tuple(message["start"]["tracks"]): message["start"]["mediaFormat"] for message in endpoint.events("start")
    }
    assert formats["inbound",]["encoding"] == "audio/x-mulaw"
    assert formats["inbound", "outbound"]["encoding"] == "audio/x-alaw"


def test_custom_parameters_and_the_token_arrive(endpoint, house):
    ask(
        house.call,
        "calling.stream",
        url=endpoint.url,
        authorization_bearer_token="secret",
        custom_parameters={"tier": "gold", "n": 5},
    )
    until(lambda: endpoint.events("start"), what="the start")

    assert endpoint.events("start")[0]["start"]["customParameters"] == {"tier": "gold", "n": "5"}
    assert endpoint.connections[0].request.headers["Authorization"] == "Bearer secret"


def test_the_answer_does_not_wait_for_the_endpoint(deaf, house):
    with gevent.Timeout(0.5):
        ask(house.call, "calling.stream", control_id="a", url=deaf)
    assert [control.id for control in house.call.controls.running("stream")] == ["a"]
    assert house.states == {}

    house.reaches("a", "finished")


def test_one_that_is_stopped_before_it_is_up(deaf, house):
    ask(house.call, "calling.stream", control_id="a", url=deaf)

    ask(house.call, "calling.stream.stop", control_id="a")

    assert house.states == {"a": ["finished"]}


class TestWhy:
    """What an observer is told of the end."""

    def watch(self, house, url):
        heard = []
        begin(
            house.call,
            Streaming(method="compat", url=url, control_id="a", observer=lambda *news: heard.append(news)),
        )
        return heard

    def ended(self, heard):
        until(lambda: heard and heard[-1][0] == "finished", what=f"the end, after {heard}")
        return [state for state, _ in heard], heard[-1][1].reason

    def test_refused(self, house):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        assert self.ended(self.watch(house, f"ws://127.0.0.1:{port}/")) == (["finished"], "refused")

    def test_silent(self, deaf, house):
        assert self.ended(self.watch(house, deaf)) == (["finished"], "timeout")

    def test_not_allowed(self, house):
        assert self.ended(self.watch(house, "ws://10.0.0.1/")) == (["finished"], "address")

    def test_closed_by_the_endpoint(self, endpoint, house):
        heard = self.watch(house, endpoint.url)
        until(lambda: heard, what="the start")
        endpoint.connections[0].close(1000)

        assert self.ended(heard) == (["streaming", "finished"], "closed")

    def test_stopped(self, endpoint, house):
        heard = self.watch(house, endpoint.url)
        until(lambda: heard, what="the start")
        house.call.controls.find("stream", "a").halt()

        assert self.ended(heard) == (["streaming", "finished"], "stopped")
