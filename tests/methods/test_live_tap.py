"""calling.tap and its stop, laid out by their reference page (calling-api 4.5, webhooks 3.8)."""

import gevent
import pytest
from gevent import socket

from fsctl.errors import ApiError
from fsctl.methods.tap import tap
from fsctl.webhooks.payloads import payload
from tests.fakes.call import changes, make_call
from tests.methods.commanding import ask, refusal
from tests.methods.running import run
from tests.methods.test_tap import Bench
from tests.streams.packets import Receiver
from tests.streams.peers import Endpoint, until

BOTH = {"type": "audio", "params": {"direction": "both"}}
SPEAK = {"type": "audio", "params": {"direction": "speak"}}
STATUS = "https://hooks.example/t"


@pytest.fixture
def make_bench(tmp_path):
    benches = []

    def made(**settings):
        benches.append(Bench(tmp_path, **settings))
        return benches[-1]

    yield made
    for bench in benches:
        bench.close()


@pytest.fixture
def bench(make_bench):
    return make_bench()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


def packets(receiver, **params):
    return {"type": "rtp", "params": {"addr": "127.0.0.1", "port": receiver.port, **params}}


def messages(uri, **params):
    return {"type": "ws", "params": {"uri": uri, **params}}


def start(bench, device, control_id="t-1", what=SPEAK, **params):
    return ask(bench.call, "calling.tap", control_id=control_id, tap=what, device=device, **params)


def told(bench):
    return [payload(event)["params"] for event in changes(bench.call, "tap")]


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "code", "attribute"),
        [
            ({"tap": None}, "missing_required_parameter", "tap"),
            ({"tap": "audio"}, "not_a_hash", "tap"),
            ({"tap": {"type": "video", "params": {"direction": "both"}}}, "invalid_parameter", "tap.type"),
            ({"tap": {"type": "audio"}}, "missing_required_parameter", "tap.params.direction"),
            ({"tap": {"type": "audio", "params": {}}}, "missing_required_parameter", "tap.params.direction"),
            ({"tap": {"type": "audio", "params": {"direction": "x"}}}, "invalid_parameter", "tap.params.direction"),
            ({"device": None}, "missing_required_parameter", "device"),
            ({"device": []}, "not_a_hash", "device"),
            ({"device": {}}, "missing_required_parameter", "device.type"),
            ({"device": {"type": "sip", "params": {}}}, "invalid_parameter", "device.type"),
            ({"device": {"type": "rtp"}}, "missing_required_parameter", "device.params.addr"),
            ({"status_url": "ws://x/"}, "not_an_http_url", "status_url"),
        ],
        ids=str,
    )
    def test_around_it(self, bench, params, code, attribute):
        good = {"tap": BOTH, "device": messages("wss://a.example/")}

        assert refusal(bench.call, "calling.tap", **{**good, **params}) == (422, code, attribute)

    @pytest.mark.parametrize(
        ("params", "code", "name"),
        [
            ({"addr": None}, "missing_required_parameter", "addr"),
            ({"addr": "localhost"}, "invalid_parameter", "addr"),
            ({"addr": "::1"}, "invalid_parameter", "addr"),
            ({"addr": "127.1"}, "invalid_parameter", "addr"),
            ({"addr": 2130706433}, "not_a_string", "addr"),
            ({"port": None}, "missing_required_parameter", "port"),
            ({"port": 0}, "invalid_parameter", "port"),
            ({"port": 65536}, "invalid_parameter", "port"),
            ({"port": "5000"}, "invalid_parameter", "port"),
            ({"codec": "G722"}, "invalid_parameter", "codec"),
            ({"codec": "Pcmu"}, "invalid_parameter", "codec"),
            ({"ptime": 0}, "invalid_parameter", "ptime"),
            ({"ptime": 15}, "invalid_parameter", "ptime"),
            ({"ptime": 130}, "invalid_parameter", "ptime"),
            ({"ptime": "20"}, "invalid_parameter", "ptime"),
            ({"codec": "OPUS", "ptime": 30}, "invalid_parameter", "ptime"),
        ],
        ids=str,
    )
    def test_rtp(self, bench, params, code, name):
        device = {"type": "rtp", "params": {"addr": "127.0.0.1", "port": 5000, **params}}

        assert refusal(bench.call, "calling.tap", tap=BOTH, device=device) == (422, code, f"device.params.{name}")

    @pytest.mark.parametrize(
        ("params", "code", "name"),
        [
            ({"uri": None}, "missing_required_parameter", "uri"),
            ({"uri": "https://a.example/"}, "invalid_parameter", "uri"),
            ({"uri": "rtp://127.0.0.1:5000"}, "invalid_parameter", "uri"),
            ({"uri": 5}, "not_a_string", "uri"),
            ({"codec": "L16"}, "invalid_parameter", "codec"),
        ],
        ids=str,
    )
    def test_ws(self, bench, params, code, name):
        device = messages(**{"uri": "wss://a.example/", **params})

        assert refusal(bench.call, "calling.tap", tap=BOTH, device=device) == (422, code, f"device.params.{name}")

    def test_plain_text_is_the_operators(self, make_bench):
        bench = make_bench(allow_plaintext=False)

        with pytest.raises(ApiError) as refused:
            start(bench, messages("ws://a.example/"))

        assert (refused.value.code, refused.value.attribute) == ("invalid_parameter", "device.params.uri")

    @pytest.mark.parametrize(
        ("device", "name"),
        [
            ({"type": "rtp", "params": {"addr": "10.0.0.1", "port": 5000}}, "addr"),
            ({"type": "ws", "params": {"uri": "wss://10.0.0.1/"}}, "uri"),
        ],
        ids=["rtp", "ws"],
    )
    def test_private_addresses_are_unsafe(self, bench, device, name):
        bench.refused = ("10.0.0.1",)

        with pytest.raises(ApiError) as refused:
            start(bench, device)

        assert (refused.value.code, refused.value.attribute) == ("url_is_unsafe", f"device.params.{name}")
        assert bench.running == []

    def test_a_tap_needs_the_hub(self, make_bench):
        bench = make_bench(mode="direct")

        with pytest.raises(ApiError, match=r"streams\.mode hub") as refused:
            start(bench, messages("wss://a.example/"))

        assert refused.value.code == "call_update_failed"

    def test_only_an_answered_call(self, tmp_path):
        call = make_call(tmp_path, answered=False)

        expected = (422, "invalid_state", None)
        assert expected == refusal(call, "calling.tap", tap=BOTH, device=messages("wss://a.example/"))


class TestPackets:
    @pytest.mark.parametrize(
        ("given", "call_has", "codec", "ptime"),
        [
            pytest.param({}, {}, "PCMU", 20, id="nothing-known"),
            pytest.param({}, {"rtp_use_codec_name": "PCMA"}, "PCMA", 20, id="codec-of-the-call"),
            pytest.param({}, {"rtp_use_codec_name": "opus"}, "PCMU", 20, id="one-we-do-not-send"),
            pytest.param({}, {"rtp_use_codec_ptime": "30"}, "PCMU", 30, id="ptime-of-the-call"),
            pytest.param({"codec": "PCMA"}, {}, "PCMA", 20, id="codec"),
            pytest.param({"codec": "pcma"}, {}, "PCMA", 20, id="codec-in-lower-case"),
            pytest.param({"ptime": 120}, {"rtp_use_codec_ptime": "30"}, "PCMU", 120, id="ptime"),
        ],
    )
    def test_they_arrive(self, bench, receiver, given, call_has, codec, ptime):
        said = bench.leg.ask
        bench.leg.ask = lambda api: (
            call_has.get(api.argument.split(" ")[1], "_undef_") if api.name == "uuid_getvar" else said(api)
        )

        assert start(bench, packets(receiver, **given), status_url=STATUS) == {"control_id": "t-1"}
        until(lambda: told(bench), what="the event")
        bench.play()
        receiver.wait(1)

        (event,) = told(bench)
        assert (event["state"], event["tap"]) == ("tapping", SPEAK)
        assert event["device"] == {
            "type": "rtp",
            "params": {"addr": "127.0.0.1", "port": receiver.port, "codec": codec, "ptime": ptime},
        }
        assert bench.vars == {}

    def test_parameters_beside_the_type_as_the_official_client_has_them(self, bench, receiver):
        device = {"type": "rtp", **packets(receiver)["params"]}
        start(bench, device, what={"type": "audio", "direction": "speak"}, status_url=STATUS)
        until(lambda: told(bench), what="the event")

        (event,) = told(bench)
        assert (event["state"], event["tap"]) == ("tapping", SPEAK)
        assert event["device"]["params"]["port"] == receiver.port

    def test_they_end(self, bench, receiver):
        start(bench, packets(receiver))

        assert ask(bench.call, "calling.tap.stop", control_id="t-1") == {}
        assert ask(bench.call, "calling.tap.stop", control_id="t-1") == {}

        bench.wait_states("tapping", "finished")


class TestMessages:
    def test_they_arrive(self, bench, endpoint):
        start(bench, messages(endpoint.url, codec="pcma"), what=BOTH)
        bench.wait_states("tapping")
        bench.play()
        until(lambda: endpoint.audio("outbound"), what="audio")

        (event,) = told(bench)
        assert event["device"] == {"type": "ws", "params": {"uri": endpoint.url, "codec": "PCMA", "rate": 8000}}

    def test_the_answer_does_not_wait_for_the_endpoint(self, bench):
        """Neither does it fail with it: the tap ends."""
        bench.leg.background = gevent.spawn
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            with gevent.Timeout(1.0):
                start(bench, messages(f"ws://127.0.0.1:{deaf.getsockname()[1]}/"))
            assert bench.running == ["t-1"]
            assert bench.states() == []

            bench.wait_states("finished")

    def test_one_that_is_stopped_before_it_is_up(self, bench, endpoint):
        work = []
        bench.leg.background = work.append
        start(bench, messages(endpoint.url))

        ask(bench.call, "calling.tap.stop", control_id="t-1")
        work[0]()

        assert bench.states() == ["finished"]
        until(lambda: bench.hub.counts()["streams"] == 0, what="the stream to end")

    def test_the_id_is_taken_meanwhile(self, bench):
        bench.leg.background = lambda _: None
        start(bench, messages("wss://a.example/"))

        with pytest.raises(ApiError) as refused:
            start(bench, messages("wss://a.example/"))

        assert (refused.value.code, refused.value.attribute) == ("value_not_unique", "control_id")


class TestStop:
    def test_of_a_scripts_tap(self, bench, receiver):
        run(bench.call, tap, uri=receiver.uri, control_id="mine")

        ask(bench.call, "calling.tap.stop", control_id="mine")

        bench.wait_states("tapping", "finished")

    def test_unknown_and_missing_ids(self, bench):
        name = "calling.tap.stop"

        assert refusal(bench.call, name, control_id="x") == (422, "provided_id_is_unrecognized", "control_id")
        assert refusal(bench.call, name) == (422, "missing_required_parameter", "control_id")
