"""tap and stop_tap, laid out by their reference pages (swml-calling 3.10, 3.11, 5.5, webhooks 3.8, calling-api 4.5)."""

import contextlib
import ipaddress
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import CommandFailed, FetchError, LegGone, ScriptError
from fsctl.freeswitch import facts
from fsctl.methods.tap import Tap, Tapping, begin, stop_tap, tap
from fsctl.streams import audio, rtp
from fsctl.streams.endpoint import Limits
from fsctl.streams.hub import Hub
from fsctl.swml.document import Where
from fsctl.webhooks.payloads import payload
from tests.fakes.call import STREAMS, changes, make_call, states
from tests.methods.running import make, run
from tests.streams import peers
from tests.streams.packets import Receiver
from tests.streams.peers import tone, until
from tests.streams.test_attachment import Switch

audioop = audio.audioop


class Bench:
    """A call whose FreeSWITCH has the module, a hub, and the door as the operator set it."""

    def __init__(self, folder, *, answered=True, max_streams=16, **settings):
        self.hub = Hub(peers.dial, limits=Limits(connect_timeout=2.0), max_streams=max_streams)
        self.hub.start()
        values = {"mode": "hub", "allow_plaintext": True, "connect_timeout": 1.0, "directory": folder, "reconnects": 0}
        streams = SimpleNamespace(**{**vars(STREAMS), **values, **settings})
        self.switch = Switch()
        self.call = make_call(folder, answered=answered, streams=streams, hub=self.hub)
        self.call.leg = self.leg = self.switch.leg
        self.leg.answered = answered
        self.vars = self.call.vars
        self.asked = []
        self.refused = ()
        self.call.services.web.admit = self._admit

    def _admit(self, url):
        self.asked.append(url)
        if any(addr in url for addr in self.refused):
            raise FetchError(url, "address", "is not on the public internet and not allowed here")

    def tap(self, uri, **params):
        run(self.call, tap, uri=uri, **params)

    def stop(self, **params):
        run(self.call, stop_tap, **params)

    @property
    def failure(self):
        return str(self.call.failure)

    @property
    def running(self):
        return [control.id for control in self.call.controls.running("tap")]

    def play(self, samples=1600):
        """The party says 440 Hz and hears 1000 Hz."""
        said, heard = tone(440, samples), tone(1000, samples)
        self.switch.module.play(said, heard)
        return said, heard

    def states(self):
        return states(self.call, "tap")

    def wait_states(self, *wanted):
        until(lambda: self.states() == list(wanted), what=f"{wanted}; it was {self.states()}")

    def close(self):
        if self.call.streams is not None:
            self.call.streams.close()
        self.hub.stop()


@pytest.fixture
def make_bench(tmp_path):
    benches = []

    def made(**options):
        benches.append(Bench(tmp_path, **options))
        return benches[-1]

    yield made
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def make_receiver():
    receivers = []

    def made(*args):
        receivers.append(Receiver(*args))
        return receivers[-1]

    yield made
    for receiver in receivers:
        receiver.close()


@pytest.fixture
def receiver(make_receiver):
    return make_receiver()


@pytest.fixture
def endpoint():
    endpoint = peers.Endpoint()
    yield endpoint
    endpoint.close()


def test_what_a_tap_leaves_in_the_variables(bench, receiver):
    bench.tap(receiver.uri)
    bench.play()
    receiver.wait(10)

    (control_id,) = bench.running
    assert {name: value for name, value in bench.vars.items() if name.startswith("tap_")} == {
        "tap_uri": receiver.uri,
        "tap_result": "success",
        "tap_control_id": control_id,
        "tap_rtp_src_addr": "127.0.0.1",
        "tap_rtp_src_port": receiver.senders[0][1],
        "tap_ptime": 20,
        "tap_codec": "PCMU",
        "tap_rate": 8000,
    }


def test_what_a_tap_to_a_websocket_leaves_there(bench, endpoint):
    bench.tap(endpoint.url, codec="PCMA")

    (control_id,) = bench.running
    assert {name: value for name, value in bench.vars.items() if name.startswith("tap_")} == {
        "tap_uri": endpoint.url,
        "tap_result": "success",
        "tap_control_id": control_id,
        "tap_rtp_src_addr": "",
        "tap_rtp_src_port": "",
        "tap_ptime": 20,
        "tap_codec": "PCMA",
        "tap_rate": 8000,
    }


class TestUri:
    def test_missing(self):
        with pytest.raises(ScriptError, match="uri"):
            make(tap)

    @pytest.mark.parametrize(
        "uri",
        [
            *("http://192.0.2.7:4000", "192.0.2.7:4000", "udp://192.0.2.7:4000", "rtp", "//192.0.2.7:4000"),
            *("rtp://192.0.2.7", "rtp://:4000", "rtp://192.0.2.7:", "rtp://192.0.2.7:x", "rtp:192.0.2.7:4000"),
            *("rtp://192.0.2.7:4000/x", "rtp://192.0.2.7:4000?a=b", "rtp://192.0.2.7:4000#f", "rtp://u@192.0.2.7:4000"),
            *("rtp://192.0.2.7:0", "rtp://192.0.2.7:65536", "rtp://192.0.2.7:-1", "rtp://192.0.2.7:4000\n"),
            *("rtp://a b:4000", "rtp://${uuid}:4000", "rtp://[::1:4000", "rtp://\u0661.2.3.4:4000"),
        ],
    )
    def test_what_leads_nowhere_reaches_nothing(self, bench, uri):
        bench.tap(uri)

        assert bench.vars["tap_result"] == "failed"
        assert (bench.switch.verbs, bench.asked, bench.running) == ([], [], [])

    @given(st.text() | st.from_regex(r"rtp://[a-z0-9.:\[\]]{0,20}:?[0-9]{0,6}/?", fullmatch=True))
    def test_any_text_is_a_target_or_a_failure(self, uri):
        with contextlib.suppress(CommandFailed):
            wish = Tapping.of(Tap(uri=uri))
            assert wish.kind == "ws" or re.fullmatch(rf"{re.escape(wish.addr)}:0*{wish.port}/?", uri[6:])

    def test_a_trailing_slash_and_capitals_do_not_matter(self, bench, receiver):
        bench.tap(f"RTP://127.0.0.1:{receiver.port}/")

        assert bench.vars["tap_result"] == "success"

    def test_ipv6(self, bench, make_receiver):
        try:
            receiver = make_receiver(0, "::1")
        except OSError as problem:
            pytest.skip(f"no IPv6 on loopback here: {problem}")
        bench.tap(receiver.uri)
        bench.play()
        receiver.wait(10)

        assert bench.asked == [f"ws://[::1]:{receiver.port}/"]
        assert changes(bench.call, "tap")[0].detail["device"]["params"]["addr"] == "::1"

    def test_private_addresses_are_closed(self, bench, receiver):
        bench.refused = ("127.0.0.1",)

        bench.tap(receiver.uri)

        assert bench.vars["tap_result"] == "failed"
        assert bench.failure == (f"tap: {receiver.uri}: is not on the public internet and not allowed here")
        assert bench.switch.verbs == []
        assert bench.states() == ["finished"]

    def test_a_name_is_looked_up_once_and_its_first_address_that_is_open_taken(self, bench, receiver, monkeypatch):
        looked_up = []

        def look_up(host, port, **_):
            looked_up.append(host)
            return [(None, None, None, "", (addr, port)) for addr in ("10.0.0.7", "127.0.0.1")]

        monkeypatch.setattr(rtp, "getaddrinfo", look_up)
        bench.refused = ("10.0.0.7",)
        bench.tap(f"rtp://recorder.example:{receiver.port}")
        bench.play()
        receiver.wait(10)

        assert looked_up == ["recorder.example"]
        assert bench.asked == [f"ws://10.0.0.7:{receiver.port}/", f"ws://127.0.0.1:{receiver.port}/"]
        assert changes(bench.call, "tap")[0].detail["device"]["params"]["addr"] == "127.0.0.1"
        assert bench.vars["tap_uri"] == f"rtp://recorder.example:{receiver.port}"

    def test_a_name_with_private_addresses_alone_is_closed(self, bench, monkeypatch):
        found = [(None, None, None, "", (addr, 4000)) for addr in ("10.0.0.7", "10.0.0.8")]
        monkeypatch.setattr(rtp, "getaddrinfo", lambda *_, **__: found)
        bench.refused = ("10.0.0.",)
        bench.tap("rtp://recorder.example:4000")

        assert "rtp://recorder.example:4000: is not on the public internet" in bench.failure

    @pytest.mark.parametrize("url", ["ws://asr.example/in", "WS://asr.example/in"])
    def test_ws_needs_the_operators_leave(self, make_bench, url):
        bench = make_bench(allow_plaintext=False)

        bench.tap(url)

        assert bench.vars["tap_result"] == "failed"
        assert "streams.allow_plaintext" in bench.failure
        assert bench.switch.verbs == []

    def test_packets_need_no_such_leave(self, make_bench, receiver):
        bench = make_bench(allow_plaintext=False)

        bench.tap(receiver.uri)

        assert bench.vars["tap_result"] == "success"


class TestControlId:
    def test_given(self, bench, receiver):
        bench.tap(receiver.uri, control_id="t-1")

        assert (bench.vars["tap_control_id"], bench.running) == ("t-1", ["t-1"])

    def test_taken(self, bench, receiver):
        bench.tap(receiver.uri, control_id="t-1")
        bench.tap(receiver.uri, control_id="t-1")

        assert bench.vars["tap_result"] == "failed"
        assert "'t-1' is already tapping" in bench.failure
        bench.wait_states("tapping")

    def test_a_stream_may_have_the_same(self, bench, receiver):
        bench.call.control("stream", "t-1", method="stream")

        bench.tap(receiver.uri, control_id="t-1")

        assert bench.vars["tap_result"] == "success"

    def test_free_again_after_the_end(self, bench, receiver):
        for _ in range(2):
            bench.tap(receiver.uri, control_id="t-1")
            bench.stop()

        bench.wait_states("tapping", "finished", "tapping", "finished")
        assert bench.vars["tap_result"] == "success"

    @pytest.mark.parametrize("control_id", ["", "x" * 256])
    def test_limits(self, control_id):
        with pytest.raises(ScriptError, match="control_id"):
            make(tap, uri="rtp://192.0.2.7:4000", control_id=control_id)


class TestDirection:
    @pytest.mark.parametrize("direction", [None, "speak", "listen", "both"])
    def test_packets(self, bench, receiver, direction):
        bench.tap(receiver.uri, **({"direction": direction} if direction else {}))
        said, heard = bench.play()
        receiver.wait(10)

        expected = {"listen": heard, "both": audioop.add(said, heard, 2)}.get(direction, said)
        assert receiver.audio == audioop.lin2ulaw(expected, 2)
        receiver.in_order()

    @pytest.mark.parametrize(
        ("direction", "tracks"),
        [(None, ["inbound"]), ("speak", ["inbound"]), ("listen", ["outbound"]), ("both", ["inbound", "outbound"])],
    )
    def test_websockets(self, bench, endpoint, direction, tracks):
        """The protocol of `stream`: with both, two tracks beside each other."""
        bench.tap(endpoint.url, **({"direction": direction} if direction else {}))
        bench.play()
        until(lambda: len(endpoint.events("media")) == 10 * len(tracks))

        (start,) = endpoint.events("start")
        assert start["start"]["tracks"] == tracks
        assert start["start"]["streamSid"] == bench.vars["tap_control_id"]
        sounds = dict(zip(("inbound", "outbound"), (tone(440, 1600), tone(1000, 1600)), strict=True))
        for track in tracks:
            assert endpoint.audio(track) == audioop.lin2ulaw(sounds[track], 2)

    @pytest.mark.parametrize("direction", ["hear", "inbound", "SPEAK", ""])
    def test_others_are_refused(self, direction):
        with pytest.raises(ScriptError, match="direction"):
            make(tap, uri="rtp://192.0.2.7:4000", direction=direction)


class TestCodec:
    @pytest.mark.parametrize(
        ("codec", "number", "encode"),
        [(None, 0, audioop.lin2ulaw), ("PCMU", 0, audioop.lin2ulaw), ("PCMA", 8, audioop.lin2alaw)],
    )
    def test_packets(self, bench, receiver, codec, number, encode):
        bench.tap(receiver.uri, **({"codec": codec} if codec else {}))
        said, _ = bench.play()
        receiver.wait(10)

        assert receiver.audio == encode(said, 2)
        assert {packet.type for packet in receiver.packets} == {number}
        assert (bench.vars["tap_codec"], bench.vars["tap_rate"]) == (codec or "PCMU", 8000)

    def test_websockets(self, bench, endpoint):
        bench.tap(endpoint.url, codec="PCMA")
        until(lambda: endpoint.events("start"))

        assert endpoint.events("start")[0]["start"]["mediaFormat"]["encoding"] == "audio/x-alaw"

    @pytest.mark.parametrize("uri", ["rtp://192.0.2.7:4000", "wss://asr.example/"])
    def test_opus_without_its_package_fails_and_says_what_to_do(self, bench, monkeypatch, uri):
        monkeypatch.setattr(audio, "_opus", lambda: None)

        bench.tap(uri, codec="OPUS")

        assert bench.vars["tap_result"] == "failed"
        assert "fsctl[opus]" in bench.failure
        assert bench.switch.verbs == []

    def test_opus(self, bench, receiver):
        pytest.importorskip("av")
        bench.tap(receiver.uri, codec="OPUS", rtp_ptime=40)
        bench.play(3200)
        receiver.wait(10)

        assert {packet.type for packet in receiver.in_order(step=1920)} == {111}
        assert (bench.vars["tap_codec"], bench.vars["tap_rate"], bench.vars["tap_ptime"]) == ("OPUS", 48_000, 40)

    @pytest.mark.parametrize("codec", ["G722", "L16", "pcmu", "PCMU@40i", ""])
    def test_others_are_refused(self, codec):
        with pytest.raises(ScriptError, match="codec"):
            make(tap, uri="rtp://192.0.2.7:4000", codec=codec)


class TestPtime:
    @pytest.mark.parametrize("ptime", [10, 20, 30, 120, 60.0])
    def test_a_packet_holds_so_much(self, bench, receiver, ptime):
        bench.tap(receiver.uri, rtp_ptime=ptime)
        bench.play(9600)
        receiver.wait(1200 // int(ptime))

        assert {len(packet.payload) for packet in receiver.in_order()} == {8 * int(ptime)}
        assert bench.vars["tap_ptime"] == int(ptime)

    @pytest.mark.parametrize("ptime", [0, -20, 5, 25, 130, 10**9])
    def test_others_fail(self, bench, receiver, ptime):
        bench.tap(receiver.uri, rtp_ptime=ptime)

        assert bench.vars["tap_result"] == "failed"
        assert f"packets of {ptime} ms are not offered; with PCMU, 10, 20, 30" in bench.failure
        assert bench.switch.verbs == []

    @pytest.mark.parametrize("ptime", [30, 50])
    def test_opus_has_fewer(self, bench, receiver, ptime):
        bench.tap(receiver.uri, codec="OPUS", rtp_ptime=ptime)

        assert "with OPUS, 10, 20, 40, 60, 80, 100, 120 are" in bench.failure

    def test_a_placeholder_may_give_it_as_text(self):
        record = tap.shape.read({"uri": "rtp://192.0.2.7:4000", "rtp_ptime": "40"}, Where("main", (0,), None, None))

        assert record.rtp_ptime == 40

    @pytest.mark.parametrize("ptime", [20.5, True, [], "long"])
    def test_only_whole_numbers(self, ptime):
        with pytest.raises(ScriptError, match="rtp_ptime"):
            make(tap, uri="rtp://192.0.2.7:4000", rtp_ptime=ptime)

    @pytest.mark.parametrize("frame_ms", [20, 60])
    def test_websockets_have_the_operators_instead(self, make_bench, endpoint, frame_ms):
        bench = make_bench(frame_ms=frame_ms)
        bench.tap(endpoint.url, rtp_ptime=7)
        bench.play(9600)
        until(lambda: len(endpoint.events("media")) == 1200 // frame_ms)

        assert bench.vars["tap_ptime"] == frame_ms


class TestStatusUrl:
    def test_events_go_there(self, bench, receiver):
        bench.tap(receiver.uri, status_url="https://hooks.example/t")
        bench.stop()
        bench.wait_states("tapping", "finished")

        assert {event.callback for event in changes(bench.call, "tap")} == {changes(bench.call, "tap")[0].callback}
        callback = changes(bench.call, "tap")[0].callback
        assert (callback.url, callback.method) == ("https://hooks.example/t", "POST")

    def test_without_one_nobody_is_told(self, bench, receiver):
        bench.tap(receiver.uri)
        bench.wait_states("tapping")

        assert changes(bench.call, "tap")[0].callback is None

    def test_only_the_web(self):
        with pytest.raises(ScriptError, match="status_url"):
            make(tap, uri="rtp://192.0.2.7:4000", status_url="rtp://192.0.2.7:4000")


class TestEvents:
    def test_packets(self, bench, receiver):
        bench.tap(receiver.uri, control_id="tap-1", direction="both", codec="PCMA", rtp_ptime=30)
        bench.stop()
        bench.wait_states("tapping", "finished")

        told = [payload(event) for event in changes(bench.call, "tap")]
        assert [each["event_type"] for each in told] == ["calling.call.tap"] * 2
        info = bench.call.info
        for each, state in zip(told, ("tapping", "finished"), strict=True):
            assert each["params"] == {
                "call_id": info.call_id,
                "node_id": info.node_id,
                "segment_id": info.segment_id,
                "control_id": "tap-1",
                "state": state,
                "tap": {"type": "audio", "params": {"direction": "both"}},
                "device": {
                    "type": "rtp",
                    "params": {"addr": "127.0.0.1", "port": receiver.port, "codec": "PCMA", "ptime": 30},
                },
            }

    def test_websockets(self, bench, endpoint):
        bench.tap(endpoint.url, control_id="tap-1")
        bench.wait_states("tapping")

        params = payload(changes(bench.call, "tap")[0])["params"]
        assert params["tap"] == {"type": "audio", "params": {"direction": "speak"}}
        assert params["device"] == {"type": "ws", "params": {"uri": endpoint.url, "codec": "PCMU", "rate": 8000}}


class TestFailure:
    @pytest.fixture
    def deaf(self, endpoint):
        endpoint.close()
        return endpoint

    def test_an_endpoint_that_refuses(self, bench, deaf):
        """A tap that never was still frees its control id (webhooks, 8.7)."""
        bench.tap(deaf.url, control_id="t-1", status_url="https://hooks.example/t")

        assert (bench.vars["tap_result"], bench.vars["tap_control_id"], bench.running) == ("failed", "", [])
        assert "refused the connection" in bench.failure
        assert bench.states() == ["finished"]
        until(lambda: bench.switch.verbs == ["start", "stop"])

    def test_a_module_that_does_not_connect(self, bench, receiver):
        bench.switch.refuses = True

        bench.tap(receiver.uri)

        assert bench.vars["tap_result"] == "failed"
        assert bench.failure == "tap: mod_audio_stream did not reach the hub: Connection refused (code 6)"
        assert bench.states() == ["finished"]

    def test_no_way_there(self, bench):
        def connect(addr, port):
            raise OSError(101, "Network is unreachable")

        bench.hub.packets = connect
        bench.tap("rtp://192.0.2.7:4000")

        assert bench.failure == "tap: nothing can be sent to 192.0.2.7:4000: Network is unreachable"
        assert bench.states() == ["finished"]
        until(lambda: bench.switch.verbs == ["start", "stop"])

    def test_as_many_as_streams_may_be(self, make_bench, receiver):
        bench = make_bench(max_streams=1)
        bench.tap(receiver.uri, control_id="one")
        bench.tap(receiver.uri, control_id="two")

        assert "a call may have 1 streams" in bench.failure
        assert bench.running == ["one"]

    def test_a_failure_leaves_the_variables_of_the_tap_that_runs(self, bench, receiver):
        bench.tap(receiver.uri, control_id="one")
        bench.tap("rtp://nowhere", control_id="two")

        assert (bench.vars["tap_result"], bench.vars["tap_control_id"]) == ("failed", "one")
        bench.stop()
        assert bench.vars["stop_tap_result"] == "success"

    def test_a_hangup_while_connecting(self, bench, monkeypatch):
        bench.switch._connect = lambda _url: bench.leg.happen(facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            bench.tap("rtp://192.0.2.7:4000")
        (control,) = bench.call.controls.running("tap")
        control.abandon()

        assert bench.states() == ["finished"]

    def test_direct_mode_has_no_audio_for_it(self, make_bench, receiver):
        bench = make_bench(mode="direct")

        bench.tap(receiver.uri)

        assert bench.vars["tap_result"] == "failed"
        assert "a tap needs streams.mode hub" in bench.failure
        assert (bench.switch.verbs, bench.states()) == ([], [])


class TestSeveral:
    def test_each_gets_its_own_and_stopping_one_leaves_the_others(self, bench, make_receiver, endpoint):
        receivers = {direction: make_receiver() for direction in ("speak", "listen", "both")}
        for direction, receiver in receivers.items():
            bench.tap(receiver.uri, control_id=direction, direction=direction)
        bench.tap(endpoint.url, control_id="ws")
        bench.play()
        for receiver in receivers.values():
            receiver.wait(10)
        bench.stop(control_id="listen")
        bench.play()
        for direction in ("speak", "both"):
            receivers[direction].wait(20)
            receivers[direction].in_order()
        until(lambda: len(endpoint.events("media")) == 20)

        assert len(receivers["listen"].packets) == 10
        assert bench.running == ["speak", "both", "ws"]
        assert bench.switch.verbs == ["start"]

    def test_the_last_one_to_end_takes_the_module_along(self, bench, make_receiver):
        for name in ("one", "two"):
            bench.tap(make_receiver().uri, control_id=name)
        bench.stop(control_id="two")
        assert bench.switch.verbs == ["start"]
        bench.stop(control_id="one")

        until(lambda: bench.switch.verbs == ["start", "stop"])


class TestEnd:
    def test_an_endpoint_that_closes(self, bench, endpoint):
        bench.tap(endpoint.url)
        until(lambda: endpoint.events("start"))
        endpoint.connections[0].close()

        bench.wait_states("tapping", "finished")
        assert bench.running == []

    def test_the_end_of_the_call(self, bench, receiver):
        bench.tap(receiver.uri)
        bench.wait_states("tapping")
        bench.leg.happen(facts.HungUp("NORMAL_CLEARING"))
        for control in bench.call.controls.running():
            control.abandon()
        bench.call.streams.close("hangup")

        bench.wait_states("tapping", "finished")
        assert bench.hub.counts()["streams"] == 0

    def test_a_module_that_is_lost_and_comes_back(self, bench, receiver):
        bench.tap(receiver.uri)
        bench.play(160)
        receiver.wait(1)
        first = bench.switch.module
        first.connection.socket.close()
        until(lambda: bench.switch.module is not first and bench.call.streams._attachment.connected)
        bench.play(160)
        receiver.wait(2)

        assert bench.states() == ["tapping"]


class TestStop:
    def test_without_id_the_last_one(self, bench, make_receiver):
        bench.tap(make_receiver().uri, control_id="one")
        bench.tap(make_receiver().uri, control_id="two")
        bench.stop()

        assert (bench.vars["stop_tap_result"], bench.running) == ("success", ["one"])

    def test_the_script_may_say_which_is_the_last(self, bench, make_receiver):
        bench.tap(make_receiver().uri, control_id="one")
        bench.tap(make_receiver().uri, control_id="two")
        bench.vars["tap_control_id"] = "one"
        bench.stop()

        assert bench.running == ["two"]

    def test_when_it_returns_the_tap_is_over(self, bench, receiver):
        bench.tap(receiver.uri)
        bench.stop()

        assert bench.states() == ["tapping", "finished"]

    @pytest.mark.parametrize("params", [{}, {"control_id": "nobody"}])
    def test_nothing_to_stop(self, bench, params):
        bench.stop(**params)

        assert bench.vars["stop_tap_result"] == "failed"

    def test_a_stream_is_no_tap(self, bench):
        bench.call.control("stream", "s-1", method="stream")
        bench.stop(control_id="s-1")

        assert bench.vars["stop_tap_result"] == "failed"

    def test_empty_id(self):
        with pytest.raises(ScriptError, match="control_id"):
            make(stop_tap, control_id="")


class TestAnswer:
    def test_an_unanswered_call_is_answered(self, make_bench, receiver):
        bench = make_bench(answered=False)
        bench.tap(receiver.uri)

        assert (bench.leg.answered, bench.call.state) == (True, "answered")
        assert bench.vars["tap_result"] == "success"

    def test_not_for_a_tap_that_cannot_be(self, make_bench):
        bench = make_bench(answered=False)
        bench.tap("rtp://nowhere")

        assert (bench.leg.answered, bench.leg.sent) == (False, [])


# -- the other way in ----------------------------------------------------------------------------------------------


def wish(receiver, **changes):
    values = {"kind": "rtp", "addr": "127.0.0.1", "port": receiver.port, "direction": "listen", **changes}
    return Tapping(method="calling.tap", **values)


class TestBegin:
    def test_the_control_is_what_stops_it(self, bench, receiver):
        control = begin(bench.call, wish(receiver, control_id="r-1", codec="pcma", ptime=40))
        _, heard = bench.play()
        receiver.wait(5)
        control.stop()

        assert control.over
        assert receiver.audio == audioop.lin2alaw(heard, 2)
        assert control.detail["device"]["params"]["codec"] == "PCMA"
        assert control.detail["format"] == {"codec": "PCMA", "rate": 8000, "ptime": 40}
        assert control.detail["source"] == {"addr": "127.0.0.1", "port": receiver.senders[0][1]}
        assert {(event.method, event.control_id) for event in changes(bench.call, "tap")} == {("calling.tap", "r-1")}
        assert not [name for name in bench.vars if name.startswith("tap_")]  # those are the script's

    def test_a_websocket(self, bench, endpoint):
        control = begin(bench.call, Tapping(method="calling.tap", kind="ws", uri=endpoint.url, direction="both"))
        control.stop()

        assert endpoint.events("start")[0]["start"]["tracks"] == ["inbound", "outbound"]
        assert control.detail["source"] == {"addr": "", "port": ""}

    @pytest.mark.parametrize("addr", ["127.0.0.1", "127.1", "localhost"])
    def test_a_refused_address_is_a_fetch_error(self, bench, receiver, addr):
        bench.refused = ("127.0.0.1", "[::1]")
        with pytest.raises(FetchError) as refused:
            begin(bench.call, wish(receiver, addr=addr))

        assert (refused.value.reason, refused.value.url) == ("address", f"rtp://{addr}:{receiver.port}")

    def test_only_addresses_get_to_the_door_and_beyond(self, bench, monkeypatch):
        """Whatever the text is, what is asked about and sent to is what the resolver made of it."""
        found = [(None, None, None, "", ("192.0.2.9", 4000))]
        monkeypatch.setattr(rtp, "getaddrinfo", lambda *_, **__: found)
        sent_to = []

        def connect(addr, port):
            sent_to.append((str(ipaddress.ip_address(addr)), port))
            raise OSError(1, "no")

        bench.hub.packets = connect
        with pytest.raises(CommandFailed):
            begin(bench.call, Tapping(method="x", kind="rtp", addr="a/../b@c", port=4000, direction="speak"))

        assert bench.asked == ["ws://192.0.2.9:4000/"]
        assert sent_to == [("192.0.2.9", 4000)]

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"codec": "L16"}, "the codec 'L16' is not offered; PCMU, PCMA, OPUS are"),
            ({"ptime": 25}, "packets of 25 ms are not offered"),
            ({"port": 0}, "the port must be from 1 to 65535; it is 0"),
            ({"port": 65_536}, "the port must be from 1 to 65535; it is 65536"),
            ({"kind": "ws", "uri": "https://asr.example/"}, "must begin with wss:// or ws://"),
        ],
        ids=["codec", "ptime", "port 0", "port 65536", "scheme"],
    )
    def test_what_cannot_be_is_said_in_the_callers_name(self, bench, receiver, changes, problem):
        with pytest.raises(CommandFailed, match=problem) as failed:
            begin(bench.call, wish(receiver, **changes))

        assert failed.value.command == "calling.tap"
        assert bench.switch.verbs == []

    def test_a_taken_id(self, bench, receiver):
        begin(bench.call, wish(receiver, control_id="r-1"))
        with pytest.raises(CommandFailed, match="already tapping"):
            begin(bench.call, wish(receiver, control_id="r-1"))

    def test_the_script_and_rest_share_a_call(self, bench, make_receiver):
        begin(bench.call, wish(make_receiver(), control_id="r-1"))
        bench.tap(make_receiver().uri, control_id="s-1")
        bench.stop()

        assert bench.running == ["r-1"]
