"""The hub under the real mod_audio_stream: ``make live``.

The environment says where FreeSWITCH is, as for the other live tests (``FSCTL_LIVE_ESL``, ``FSCTL_LIVE_PASSWORD``), and

* ``FSCTL_LIVE_ECHO``: a dial string whose far end sends back what it hears (default ``sofia/internal/echo@…:5080``).

The channel we control is the calling one: what is played into it comes back as what its party says.
"""

import audioop
import contextlib
import json
import os
import statistics
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from time import monotonic

import gevent
import pytest
from gevent.queue import Queue
from gevent.server import StreamServer

from fsctl.clock import Clock
from fsctl.errors import LegGone
from fsctl.esl.leg import EslLeg
from fsctl.freeswitch.commands import Api, Application
from fsctl.streams.attachment import CallStreams
from fsctl.streams.audio import Format
from fsctl.tally import Traffic
from tests.live.switch import Switch
from tests.streams.peers import States, spec, tone, until

pytestmark = pytest.mark.live

ECHO = os.environ.get("FSCTL_LIVE_ECHO", "sofia/internal/echo@127.0.0.1:5080")


@pytest.fixture(scope="module")
def switch():
    host, _, port = os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021").rpartition(":")
    try:
        found = Switch((host, int(port)), os.environ.get("FSCTL_LIVE_PASSWORD", "ClueCon"))
    except (OSError, PermissionError, gevent.Timeout) as problem:
        pytest.skip(f"no FreeSWITCH at {host}:{port} (FSCTL_LIVE_ESL, FSCTL_LIVE_PASSWORD): {problem}")
    if found.api("module_exists mod_audio_stream") != "true":
        pytest.skip("that FreeSWITCH has no mod_audio_stream")
    yield found
    found.close()


@pytest.fixture
def leg(switch):
    """A call to the echo, parked at our socket."""
    legs, done = Queue(), gevent.event.Event()

    def take(sock, _):
        legs.put(
            EslLeg(sock, clock=Clock(), timeout=5.0, linger=5, on_gone=lambda _: None, variables={}, traffic=Traffic())
        )
        done.wait()

    server = StreamServer(("127.0.0.1", 0), take)
    server.start()
    target = f"{{send_silence_when_idle=-1}}{ECHO}"
    answer = switch.api(f"originate {target} '&socket(127.0.0.1:{server.server_port} async full)'")
    if not answer.startswith("+OK"):
        server.stop(timeout=0)
        pytest.skip(f"FreeSWITCH could not call {ECHO} (FSCTL_LIVE_ECHO): {answer}")
    leg = legs.get(timeout=5)
    leg.open(5.0)
    yield leg
    leg.hang_up("NORMAL_CLEARING")
    leg.close()
    done.set()
    server.stop(timeout=1)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="fsctl-live-", dir=os.environ.get("FSCTL_LIVE_DIRECTORY")) as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.fixture
def streams(hub, leg, folder):
    streams = CallStreams(
        hub, leg, "call-1", rate=8000, frame_ms=20, heartbeat=15, connect_timeout=3.0, directory=folder
    )
    yield streams
    streams.close()


def linear(endpoint, track="inbound"):
    return audioop.ulaw2lin(endpoint.audio(track), 2)


def loudness(endpoint, track="inbound", milliseconds=400):
    """Of the last of a track."""
    return audioop.rms(linear(endpoint, track)[-milliseconds * 16 :], 2)


def test_many_streams_over_the_one_attachment(streams, leg, hub, make_endpoint):
    """Sound into the call is outbound for all, and inbound when the echo returns it; the module attaches once."""
    endpoints, started = [], []
    for number, tracks in enumerate([("inbound",), ("outbound",), ("inbound", "outbound")]):
        endpoint, states = make_endpoint(), States()
        started.append((streams.start(spec(endpoint.url, f"s{number}", tracks=tracks), states), states))
        endpoints.append(endpoint)
    until(lambda: all(one.events("media") for one in endpoints), what="silence flows")
    assert leg.ask(Api("uuid_buglist", leg.uuid)).count("<function>audio_stream</function>") == 1
    leg.execute(Application("playback", "tone_stream://%(1500,0,440)"), 10.0)
    both = endpoints[2]
    assert max(audioop.rms(linear(both, "outbound")[at : at + 3200], 2) for at in range(0, 32_000, 1600)) > 3000
    assert audioop.rms(linear(endpoints[1], "outbound"), 2) > 1000
    assert audioop.rms(linear(endpoints[0]), 2) > 1000
    assert endpoints[0].audio("outbound") == endpoints[1].audio("inbound") == b""
    for endpoint in endpoints:
        for track in ("inbound", "outbound"):
            chunks = [int(m["media"]["chunk"]) for m in endpoint.events("media") if m["media"]["track"] == track]
            assert chunks == list(range(1, len(chunks) + 1))
    for stream, states in started:
        streams.stop(stream)
        assert states.wait("finished").reason == "stopped"
    until(lambda: "audio_stream" not in leg.ask(Api("uuid_buglist", leg.uuid)), what="detached")
    assert hub.counters.lost_feeds == 0


def test_audio_flows_at_the_pace_of_the_call(streams, endpoint):
    streams.start(spec(endpoint.url), States())
    until(lambda: endpoint.events("media"))
    begin, first = monotonic(), len(endpoint.events("media"))
    gevent.sleep(2.0)
    frames = len(endpoint.events("media")) - first
    assert frames == pytest.approx((monotonic() - begin) / 0.02, abs=5)


def test_tracks_stay_right_through_a_bridge(streams, leg, endpoint):
    """Bridged to a tone: what the party hears is outbound, and the echo of it inbound."""
    streams.start(spec(endpoint.url, tracks=("inbound", "outbound")), States())
    tone_number = ECHO.replace("echo@", "tone@")

    def bridge():
        with contextlib.suppress(LegGone):
            leg.execute(Application("bridge", tone_number), 10.0)

    gevent.spawn(bridge)
    until(lambda: loudness(endpoint, "outbound") > 3000, what="the far side is heard")
    until(lambda: loudness(endpoint, "inbound") > 3000, what="and comes back")
    leg.tell(Api("uuid_break", leg.uuid))


def test_an_endpoint_is_heard_in_the_call_and_by_other_streams(streams, leg, folder, make_endpoint):
    """Two ways: the delay from the endpoint's message to the echo in its own inbound track, marks, and clear."""
    talker, listener, states = make_endpoint(), make_endpoint(), States()
    stream = streams.start(spec(talker.url, "two", two_way=True, form=Format("PCMU", 8000, 20)), states)
    streams.start(spec(listener.url, "ear", tracks=("outbound",)), States())
    until(lambda: talker.events("media") and listener.events("media"))
    connection, delays = talker.connections[0], []
    for _ in range(10):
        gevent.sleep(0.25)
        heard = len(talker.events("media"))
        listened = len(listener.events("media"))
        begin = monotonic()
        connection.send(said(audioop.lin2ulaw(tone(1000, 640, amplitude=20_000), 2)))
        until(lambda listened=listened: loud(listener.events("media")[listened:]))
        outward = monotonic() - begin
        until(lambda heard=heard: loud(talker.events("media")[heard:]))
        delays.append((outward * 1000, (monotonic() - begin) * 1000))
    outward, around = (statistics.median(each) for each in zip(*delays, strict=True))
    print(f"\nendpoint to outbound track: median {outward:.0f} ms; back from the echo: median {around:.0f} ms")
    assert outward < 200
    connection.send(said(audioop.lin2ulaw(tone(1000, 4000), 2)))
    connection.send('{"event":"mark","streamSid":"two","mark":{"name":"half a second"}}')
    begin = monotonic()
    until(lambda: talker.events("mark"))
    assert 0.4 < monotonic() - begin < 0.9
    connection.send(said(audioop.lin2ulaw(tone(1000, 80_000), 2)))
    connection.send('{"event":"mark","streamSid":"two","mark":{"name":"long"}}')
    connection.send('{"event":"clear","streamSid":"two"}')
    until(lambda: len(talker.events("mark")) == 2, 1.0)
    until(lambda: len(linear(listener, "outbound")) > 16_000 and loudness(listener, "outbound", 200) < 100)
    streams.stop(stream)
    states.wait("finished")
    until(lambda: "displace" not in leg.ask(Api("uuid_buglist", leg.uuid)), what="the pipe's end is seen")
    assert list(folder.iterdir()) == []


def said(encoded):
    return json.dumps({"event": "media", "streamSid": "two", "media": {"payload": b64encode(encoded).decode()}})


def loud(media):
    return any(audioop.rms(audioop.ulaw2lin(b64decode(m["media"]["payload"]), 2), 2) > 4000 for m in media)


def test_a_lost_hub_connection_is_restored_by_the_real_module(streams, hub, endpoint):
    states = States()
    streams.start(spec(endpoint.url), states)
    until(lambda: endpoint.events("media"))
    attachment = streams._attachment
    attachment._link.fail("cut by the test")
    until(lambda: attachment.connected, what="attached again")
    before = len(endpoint.events("media"))
    until(lambda: len(endpoint.events("media")) > before + 10)
    assert states.told == [("streaming", None)]
    assert hub.counters.lost_feeds == 1
