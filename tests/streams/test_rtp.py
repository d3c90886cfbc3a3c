"""Packets of RTP: their numbers, their audio, and what the network does to them."""

import audioop
import contextlib
import importlib.util
import os
import struct
from itertools import pairwise
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import FetchError
from fsctl.streams import audio, rtp
from fsctl.streams.audio import Format
from fsctl.streams.endpoint import Counters
from fsctl.streams.fanout import Fanout
from fsctl.streams.hub import TooManyStreams
from fsctl.streams.rtp import Packetiser, RtpSpec, RtpStream
from tests.streams.packets import Packet, Receiver
from tests.streams.peers import Module, States, spec, stereo, tone, until

opus = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the package av is not installed")

PCMU = Format("PCMU", 8000, 20)


@pytest.fixture
def make_receiver():
    receivers = []

    def make(*args):
        receivers.append(Receiver(*args))
        return receivers[-1]

    yield make
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver()


def packets_to(port, name="tap-1", **changes):
    values = {"addr": "127.0.0.1", "port": port, "track": "inbound", "form": PCMU, **changes}
    return RtpSpec(stream_id=name, call_id="call-1", **values)


class Call:
    """A call's audio and one stream of it, without the hub around them."""

    def __init__(self, port, *, connect=rtp.connected, rate=8000, **changes):
        self.fanout = Fanout(rate)
        self.states = States()
        self.counters = Counters()
        self.stream = RtpStream(
            packets_to(port, **changes), self.fanout, connect=connect, counters=self.counters, changed=self.states
        )
        self.fanout.streams.add(self.stream)
        self.stream.open()

    def play(self, samples=160, hertz=(440, 1000), begin=0):
        left, right = (tone(each, samples, begin=begin) for each in hertz)
        self.fanout.feed(stereo(left, right))
        return left, right

    def close(self):
        self.stream.stop()


@pytest.fixture
def make_call():
    calls = []

    def make(*args, **options):
        calls.append(Call(*args, **options))
        return calls[-1]

    yield make
    for call in calls:
        call.close()


# -- the packetiser ------------------------------------------------------------------------------------------------


STEPS = st.integers(1, 5760)
BEGINNINGS = st.binary(min_size=10, max_size=10) | st.just(b"\xff" * 10)
ACTS = st.lists(st.binary(max_size=200) | st.integers(1, 100_000))


@given(st.integers(0, 127), STEPS, BEGINNINGS, ACTS)
def test_whatever_is_sent_the_numbers_go_on(payload_type, step, beginning, acts):
    """Bytes are audio, numbers are pauses."""
    source, timestamp, sequence = struct.unpack("!IIH", beginning)
    packetiser = Packetiser(payload_type, step, random=lambda _: beginning)
    marker = True
    for act in acts:
        if isinstance(act, int):
            packetiser.pause(act)
            timestamp, marker = timestamp + act * step, True
            continue
        expected = Packet(marker, payload_type, sequence % 2**16, timestamp % 2**32, source, act)
        assert Packet.read(packetiser.packet(act)) == expected
        sequence, timestamp, marker = sequence + 1, timestamp + step, False


def test_nobody_can_tell_where_the_numbers_begin():
    first = [Packet.read(Packetiser(0, 160).packet(b"")) for _ in range(20)]
    for numbers in ("source", "timestamp", "sequence"):
        assert len({getattr(packet, numbers) for packet in first}) > 15


# -- what is in them -----------------------------------------------------------------------------------------------


def test_a_tap_through_the_hub_is_the_partys_voice_packet_by_packet(hub, receiver):
    attachment = hub.open("call-1", 8000)
    module = Module(attachment.url)
    states = States()
    stream = attachment.add(packets_to(receiver.port), states)
    assert states.told == [("streaming", None)]
    said, heard = tone(440, 8000), tone(1000, 8000)
    module.play(said, heard)
    receiver.wait(50)
    assert receiver.audio == audioop.lin2ulaw(said, 2)
    assert {(packet.type, len(packet.payload)) for packet in receiver.in_order()} == {(0, 160)}
    assert set(receiver.senders) == {stream.source}
    stream.stop()
    assert states.told == [("streaming", None), ("finished", "stopped")]
    module.play(said, heard)
    until(lambda: attachment.frames == 100)
    assert len(receiver.packets) == 50
    assert hub.counts()["streams"] == 0
    module.close()


@pytest.mark.parametrize(("track", "side"), [("inbound", 0), ("outbound", 1)])
def test_a_track_is_one_side_of_the_call(make_call, receiver, track, side):
    call = make_call(receiver.port, track=track)
    sides = call.play(1600)
    receiver.wait(10)
    assert receiver.audio == audioop.lin2ulaw(sides[side], 2)


def test_mixed_is_the_sum_of_both_sides_cut_off_where_it_is_too_loud(make_call, receiver):
    call = make_call(receiver.port, track="mixed", form=Format("PCMA", 8000, 20))
    loud, quiet = struct.pack("<160h", *[32_000, -32_000] * 80), struct.pack("<160h", *[9_000, -9_000] * 80)
    call.fanout.feed(stereo(loud, quiet))
    call.fanout.feed(stereo(quiet, bytes(320)))
    receiver.wait(2)
    assert receiver.audio == audioop.lin2alaw(struct.pack("<160h", *[32_767, -32_768] * 80) + quiet, 2)


@given(st.binary(max_size=400).map(lambda data: data[: len(data) & ~3]))
def test_mixing_never_wraps_around(data):
    from fsctl.streams.fanout import TRACKS

    assert TRACKS["mixed"](data) == audioop.tomono(data, 2, 1, 1)


@pytest.mark.parametrize(("codec", "number", "encode"), [("PCMU", 0, audioop.lin2ulaw), ("PCMA", 8, audioop.lin2alaw)])
@pytest.mark.parametrize("ptime", range(10, 121, 10))
def test_a_packet_holds_its_ptime(make_call, receiver, codec, number, encode, ptime):
    call = make_call(receiver.port, form=Format(codec, 8000, ptime))
    said = b"".join(call.play(160, begin=at)[0] for at in range(0, 19_200, 160))
    receiver.wait(2400 // ptime)
    assert {(packet.type, len(packet.payload)) for packet in receiver.in_order()} == {(number, 8 * ptime)}
    assert receiver.audio == encode(said, 2)[: 2400 // ptime * ptime * 8]  # the rest waits for more


def test_wideband_calls_are_brought_down(make_call, receiver):
    call = make_call(receiver.port, rate=16_000)
    call.play(16_000)
    receiver.wait(50)
    assert {len(packet.payload) for packet in receiver.in_order()} == {160}


@opus
@pytest.mark.parametrize("ptime", [10, 20, 40, 60, 80, 100, 120])
def test_opus_has_a_clock_of_48_khz_whatever_the_call_has(make_call, receiver, ptime):
    import av

    call = make_call(receiver.port, form=Format("OPUS", 8000, ptime))
    call.play(19_200)
    receiver.wait(2400 // ptime)
    assert {packet.type for packet in receiver.in_order(step=48 * ptime)} == {111}
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"
    frames = [frame for packet in receiver.packets for frame in decoder.decode(av.Packet(packet.payload))]
    assert sum(frame.samples for frame in frames) == pytest.approx(48 * 2400, abs=960)


def test_streams_and_taps_of_one_call_are_side_by_side(hub, endpoint, make_receiver):
    attachment = hub.open("call-1", 8000)
    module = Module(attachment.url)
    states = States()
    attachment.add(spec(endpoint.url, "stream-1", tracks=("inbound", "outbound")), states)
    states.wait("streaming")
    receivers = [make_receiver() for _ in range(3)]
    for number, (track, receiver) in enumerate(zip(("inbound", "outbound", "mixed"), receivers, strict=True)):
        attachment.add(packets_to(receiver.port, f"tap-{number}", track=track), States())
    said, heard = tone(440, 1600), tone(1000, 1600)
    module.play(said, heard)
    attachment.dtmf("5")
    for receiver in receivers:
        receiver.wait(10)
    until(lambda: len(endpoint.events("media")) == 20)
    assert receivers[0].audio == endpoint.audio("inbound")
    assert receivers[1].audio == endpoint.audio("outbound")
    assert receivers[2].audio == audioop.lin2ulaw(audioop.add(said, heard, 2), 2)
    assert len({receiver.packets[0].source for receiver in receivers}) == 3
    module.close()


def test_a_tap_counts_as_a_stream_of_the_call(make_hub, receiver):
    attachment = make_hub(max_streams=1).open("call-1", 8000)
    attachment.add(packets_to(receiver.port, "a"), States())
    with pytest.raises(TooManyStreams, match="1 streams"):
        attachment.add(packets_to(receiver.port, "b"), States())
    attachment.close()


def test_the_end_of_the_call_is_the_end_of_its_taps(hub, receiver):
    attachment = hub.open("call-1", 8000)
    states = States()
    attachment.add(packets_to(receiver.port), states)
    attachment.close("hangup")
    assert states.told == [("streaming", None), ("finished", "hangup")]
    assert hub.counts() == {"attachments": 0, "feeds": 0, "streams": 0}


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(rtp, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.mark.parametrize("ptime", [10, 20, 60])
def test_after_a_pause_the_time_has_gone_on_and_the_marker_says_so(make_call, receiver, clock, ptime):
    call = make_call(receiver.port, form=Format("PCMU", 8000, ptime))
    samples = 8 * ptime
    for _ in range(3):
        clock.now += ptime / 1000
        call.play(samples)
    clock.now += ptime / 1000 + 3.0
    call.play(samples)
    clock.now += ptime / 1000
    call.play(samples)
    packets = receiver.wait(5)
    assert [packet.marker for packet in packets] == [True, False, False, True, False]
    steps = [(b.timestamp - a.timestamp) % 2**32 for a, b in pairwise(packets)]
    assert steps == [samples, samples, samples + 24_000, samples]
    assert [(packet.sequence - packets[0].sequence) % 2**16 for packet in packets] == [0, 1, 2, 3, 4]


def test_packets_that_come_late_or_all_at_once_are_no_pause(make_call, receiver, clock):
    call = make_call(receiver.port)
    for late in (0.02, 0.9, 0.0, 0.0, 0.0, 0.5):
        clock.now += late
        call.play()
    receiver.wait(6)
    receiver.in_order()


# -- the network ---------------------------------------------------------------------------------------------------


def free_port():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.close()
    return port


def test_a_receiver_that_is_not_there_yet_is_sent_to_all_the_same(make_call, make_receiver):
    """The answer of its system, ICMP, neither ends the tap nor costs a packet once somebody listens."""
    port = free_port()
    call = make_call(port)
    for at in range(10):
        call.play(begin=160 * at)
    assert (call.stream.state, call.stream.dropped) == ("streaming", 0)
    receiver = make_receiver(port)
    for at in range(10):
        call.play(begin=160 * at)
    receiver.wait(10)
    assert receiver.audio == audioop.lin2ulaw(tone(440, 1600), 2)
    assert call.states.told == [("streaming", None)]


class Socket:
    """A socket that takes what the test lets it."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.sent = []
        self.closed = False

    def send(self, packet):
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.sent.append(Packet.read(packet))
        return len(packet)

    def getsockname(self):
        return ("192.0.2.1", 40_000)

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    "problems",
    [
        pytest.param([BlockingIOError()], id="no room"),
        pytest.param([OSError(101, "Network is unreachable")], id="no route"),
        pytest.param([OSError(105, "No buffer space available")], id="no buffers"),
        pytest.param([ConnectionRefusedError(), ConnectionRefusedError()], id="refused twice"),
    ],
)
def test_what_the_system_does_not_take_is_dropped_and_seen_as_a_gap(make_call, problems):
    sock = Socket(None, *problems)
    call = make_call(4000, connect=lambda *_: sock)
    for _ in range(3):
        call.play()
    first, last = sock.sent
    assert ((last.sequence - first.sequence) % 2**16, (last.timestamp - first.timestamp) % 2**32) == (2, 320)
    assert (call.stream.dropped, call.counters.dropped_messages) == (1, 1)
    assert call.stream.state == "streaming"


def test_no_way_there_is_a_failed_start(make_call):
    def connect(addr, port):
        raise OSError(101, "Network is unreachable")

    call = make_call(4000, connect=connect, addr="2001:db8::1")
    assert call.states.told == [("finished", "connect")]
    assert call.states.ended.detail == "nothing can be sent to [2001:db8::1]:4000: Network is unreachable"
    assert call.fanout.streams == set()
    assert not call.stream.started
    assert (call.counters.streaming, call.counters.failed) == (0, 1)


def test_an_encoder_that_cannot_be_had_is_a_failed_start(make_call, monkeypatch):
    monkeypatch.setattr(audio, "_opus", lambda: None)
    sock = Socket()
    call = make_call(4000, connect=lambda *_: sock, form=Format("OPUS", 8000, 20))
    assert call.states.told == [("finished", "internal")]
    assert sock.closed
    assert call.fanout.streams == set()


def test_a_real_socket_without_a_way_there_is_closed_again():
    with pytest.raises(OSError):
        rtp.connected("255.255.255.255", 4000)  # broadcast, which a plain socket may not


def test_stopping_closes_the_socket_and_finishes_once(make_call):
    sock = Socket()
    call = make_call(4000, connect=lambda *_: sock)
    call.play()
    call.stream.stop()
    call.stream.stop("hangup")
    call.play()
    assert sock.closed
    assert len(sock.sent) == 1
    assert call.states.told == [("streaming", None), ("finished", "stopped")]
    assert (call.counters.streaming, call.counters.finished) == (1, 1)


def test_what_the_receiver_says_is_never_read(make_call, receiver):
    """The system throws it away when a few packets wait."""
    call = make_call(receiver.port)
    call.play()
    receiver.wait(1)
    for _ in range(2000):
        receiver.answer(b"x" * 1000)
    call.play()
    receiver.wait(2)
    waiting = 0
    with contextlib.suppress(BlockingIOError):
        while call.stream._sock.recv(2048):
            waiting += 1
    assert waiting < 20


def test_a_listener_that_raises_hurts_nobody(receiver):
    def bad(*_):
        raise RuntimeError("listener")

    fanout = Fanout(8000)
    stream = RtpStream(packets_to(receiver.port), fanout, connect=rtp.connected, counters=Counters(), changed=bad)
    stream.open()
    fanout.feed(os.urandom(640))
    receiver.wait(1)
    stream.stop()


def test_ipv6(make_call, make_receiver):
    try:
        receiver = make_receiver(0, "::1")
    except OSError as problem:
        pytest.skip(f"no IPv6 on loopback here: {problem}")
    call = make_call(receiver.port, addr="::1")
    call.play()
    receiver.wait(1)
    assert call.stream.source[0] == "::1"


# -- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "found"),
    [("127.0.0.1", ["127.0.0.1"]), ("[::1]", ["::1"]), ("::1", ["::1"]), ("192.0.2.7", ["192.0.2.7"])],
)
def test_an_address_is_itself(host, found):
    assert rtp.addresses(host, 4000) == found


def answers(*found):
    return lambda *_, **__: [(None, None, None, "", (each, 4000)) for each in found]


def test_a_name_has_its_addresses_each_once(monkeypatch):
    monkeypatch.setattr(rtp, "getaddrinfo", answers("192.0.2.7", "192.0.2.8", "192.0.2.7", "fe80::1%eth0"))
    assert rtp.addresses("recorder.example", 4000) == ["192.0.2.7", "192.0.2.8", "fe80::1"]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (socket.gaierror(-2, "Name or service not known"), "cannot be found: Name or service not known"),
        (UnicodeError("label empty or too long"), "cannot be found: not a host name"),
        (ValueError("embedded null character"), "cannot be found: not a host name"),
    ],
    ids=["unknown", "no name", "no text"],
)
def test_a_name_nobody_knows(monkeypatch, problem, said):
    def fail(*_, **__):
        raise problem

    monkeypatch.setattr(rtp, "getaddrinfo", fail)
    with pytest.raises(FetchError) as failed:
        rtp.addresses("recorder.example", 4000)
    assert (failed.value.reason, failed.value.detail) == ("dns", said)
    assert failed.value.url == "rtp://recorder.example:4000"


def test_a_resolver_that_says_nothing(monkeypatch):
    monkeypatch.setattr(rtp, "getaddrinfo", lambda *_, **__: gevent.sleep(30))
    with pytest.raises(FetchError, match="no address in time") as failed:
        rtp.addresses("recorder.example", 4000, timeout=0.01)
    assert failed.value.reason == "timeout"
