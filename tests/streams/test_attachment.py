"""mod_audio_stream under the hub: with the first stream, until the last, and back when it was lost."""

import time

import gevent
import pytest

from fsctl.errors import CommandFailed, LegGone
from fsctl.freeswitch import facts
from fsctl.freeswitch.commands import Api
from fsctl.streams.attachment import CallStreams
from tests.fakes.leg import FakeLeg
from tests.streams.peers import Module, States, spec, tone, until


class RealClock:
    """Lets a fake leg wait in real time, because the sockets here are real."""

    def run(self, condition, seconds=None):
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            if deadline is not None and time.monotonic() >= deadline:
                return condition()
            gevent.sleep(0.002)
        return True

    def later(self, seconds, function, *args):
        return gevent.spawn_later(seconds, function, *args)


class Switch:
    """A leg whose uuid_audio_stream does what the module does, quirks included."""

    def __init__(self):
        self.leg = FakeLeg(RealClock(), answered=True)
        self.leg.when("uuid_audio_stream", then=self._command)
        self.verbs = []
        self.starts = []
        self.module = None
        self.attached = False
        self.refuses = False

    def _command(self, argument):
        words = argument.split(" ")
        verb = words[1]
        self.verbs.append(verb)
        if verb == "start":
            if self.attached:
                raise CommandFailed("uuid_audio_stream", "-ERR Operation Failed")
            self.attached = True
            self.starts.append(words[2:])
            gevent.spawn(self._connect, words[2])
        elif not self.attached:
            raise CommandFailed("uuid_audio_stream", "-ERR Operation Failed")
        else:
            self.attached = False
            if self.module is not None:
                self.module.close()

    def _connect(self, url):
        if self.refuses:
            self.leg.happen(facts.StreamFailed(6, "Connection refused"))
            return
        self.module = Module(url)
        self.leg.happen(facts.StreamConnected())

    def play(self, samples=160):
        self.module.play(tone(440, samples), tone(1000, samples))


@pytest.fixture
def switch():
    return Switch()


@pytest.fixture
def streams(hub, switch, tmp_path):
    streams = CallStreams(
        hub, switch.leg, "call-1", rate=8000, frame_ms=20, heartbeat=15, connect_timeout=1.0, directory=tmp_path
    )
    yield streams
    streams.close()


def test_the_first_stream_attaches_the_module_and_the_last_detaches_it(streams, switch, hub, endpoint, make_endpoint):
    first, second = States(), States()
    one = streams.start(spec(endpoint.url, "one"), first)
    assert switch.verbs == ["start"]
    url, mix, rate = switch.starts[0]
    assert url.startswith("ws://127.0.0.1:")
    assert (mix, rate) == ("stereo", "8000")
    other = make_endpoint()
    two = streams.start(spec(other.url, "two", tracks=("outbound",)), second)
    assert switch.verbs == ["start"]
    switch.play()
    until(lambda: endpoint.audio() and other.audio("outbound"))
    streams.stop(one)
    first.wait("finished")
    assert switch.attached
    streams.stop(two)
    second.wait("finished")
    until(lambda: switch.verbs == ["start", "stop"])
    until(lambda: hub.counts()["feeds"] == 0)
    assert hub.counters.lost_feeds == 0


def test_the_channel_is_prepared_before_the_start(streams, switch, endpoint):
    streams.start(spec(endpoint.url), States())
    (variables,) = switch.leg.apis("uuid_setvar_multi")
    for pair in ("STREAM_MESSAGE_DEFLATE=true", "STREAM_HEART_BEAT=15", "STREAM_BUFFER_SIZE=20"):
        assert pair in variables.argument
    assert switch.leg.sent.index(variables) < switch.leg.sent.index(switch.leg.apis("uuid_audio_stream")[0])


def test_it_can_be_started_again_after_the_last(streams, switch, endpoint):
    for _ in range(2):
        states = States()
        stream = streams.start(spec(endpoint.url), states)
        switch.play()
        until(lambda stream=stream: stream.sequence > 1)
        streams.stop(stream)
        states.wait("finished")
        until(lambda: not switch.attached)
    assert switch.verbs == ["start", "stop", "start", "stop"]
    assert switch.starts[0][0] != switch.starts[1][0]


def test_a_module_that_cannot_connect_fails_the_stream(streams, switch, hub, endpoint):
    switch.refuses = True
    with pytest.raises(CommandFailed, match="did not reach the hub: Connection refused"):
        streams.start(spec(endpoint.url), States())
    assert switch.verbs == ["start", "stop"]
    until(lambda: hub.counts() == {"attachments": 0, "feeds": 0, "streams": 0})
    assert endpoint.said == []


def test_an_endpoint_that_refuses_fails_the_stream_and_frees_the_module(streams, switch, make_endpoint):
    endpoint = make_endpoint()
    endpoint.close()
    states = States()
    with pytest.raises(CommandFailed, match="refused the connection"):
        streams.start(spec(endpoint.url), states)
    until(lambda: states.told == [("finished", "refused")])
    until(lambda: switch.verbs == ["start", "stop"])


def test_a_lost_module_is_brought_back_and_its_streams_go_on(streams, switch, endpoint):
    states = States()
    streams.start(spec(endpoint.url), states)
    switch.play()
    until(lambda: len(endpoint.events("media")) == 1)
    first = switch.module
    first.connection.socket.close()
    until(lambda: switch.module is not first)
    assert switch.verbs == ["start", "stop", "start"]
    until(lambda: streams._attachment.connected)
    switch.play()
    until(lambda: len(endpoint.events("media")) == 2)
    assert [m["media"]["chunk"] for m in endpoint.events("media")] == ["1", "2"]
    assert states.told == [("streaming", None)]


def test_a_module_that_stays_away_ends_the_streams(streams, switch, endpoint):
    states = States()
    streams.start(spec(endpoint.url), states)
    switch.refuses = True
    switch.module.connection.socket.close()
    assert states.wait("finished").reason == "lost"


def test_a_hangup_ends_the_streams_and_asks_nothing(streams, switch, endpoint):
    states = States()
    streams.start(spec(endpoint.url), states)
    asked = len(switch.leg.sent)
    switch.leg.happen(facts.HungUp("NORMAL_CLEARING"))
    streams.close("hangup")
    assert states.wait("finished").reason == "hangup"
    gevent.sleep(0.05)
    assert len(switch.leg.sent) == asked


def test_a_hangup_while_the_endpoint_is_slow_unwinds(streams, switch, hub):
    deaf = gevent.server.StreamServer(("127.0.0.1", 0), lambda *_: gevent.sleep(30))
    deaf.start()
    try:
        gevent.spawn_later(0.1, switch.leg.happen, facts.HungUp("NORMAL_CLEARING"))
        with pytest.raises(LegGone):
            streams.start(spec(f"ws://127.0.0.1:{deaf.server_port}/"), States())
        until(lambda: hub.counts()["streams"] == 0)
    finally:
        deaf.stop(timeout=0)


def test_digits_of_the_party_reach_the_endpoint(streams, switch, endpoint):
    streams.start(spec(endpoint.url), States())
    switch.leg.happen(facts.Digit("7"))
    until(lambda: endpoint.events("dtmf"))
    assert endpoint.events("dtmf")[0]["dtmf"] == {"digit": "7", "duration": 100}


def test_a_two_way_stream_displaces_with_a_pipe_and_presses_digits(streams, switch, endpoint, tmp_path):
    states = States()
    stream = streams.start(spec(endpoint.url, two_way=True), states)
    until(lambda: switch.leg.apis("uuid_displace"))
    (displace,) = switch.leg.apis("uuid_displace")
    (pipe,) = tmp_path.iterdir()
    assert displace.argument == f"{switch.leg.uuid} start {pipe} 0 mf"
    assert pipe.is_fifo()
    endpoint.connections[0].send('{"event":"dtmf","streamSid":"s","dtmf":{"digit":"9"}}')
    until(lambda: switch.leg.apis("uuid_send_dtmf"))
    assert switch.leg.apis("uuid_send_dtmf") == [Api("uuid_send_dtmf", f"{switch.leg.uuid} 9")]
    streams.stop(stream)
    states.wait("finished")
    assert list(tmp_path.iterdir()) == []


def test_without_a_directory_nothing_talks_back(hub, switch, endpoint):
    streams = CallStreams(hub, switch.leg, "call-1", rate=8000, frame_ms=20, heartbeat=15, connect_timeout=1.0)
    with pytest.raises(CommandFailed, match=r"streams\.directory"):
        streams.start(spec(endpoint.url, two_way=True), States())
    assert switch.verbs == []


def test_the_limit_is_a_refusal_and_the_others_go_on(make_hub, switch, endpoint):
    streams = CallStreams(
        make_hub(max_streams=1), switch.leg, "call-1", rate=8000, frame_ms=20, heartbeat=15, connect_timeout=1.0
    )
    states = States()
    streams.start(spec(endpoint.url, "one"), states)
    with pytest.raises(CommandFailed, match="may have 1 streams"):
        streams.start(spec(endpoint.url, "two"), States())
    assert states.told == [("streaming", None)]
    assert switch.attached
    streams.close()
