"""The audio of live calls at a WebSocket server, straight from the module (``streams.mode: direct``)."""

import json

import numpy as np
import pytest

from fsctl.call.events import ControlChanged
from tests.live.media import wav
from tests.live.phone import seconds_of, strength, tone, until

pytestmark = pytest.mark.live

CALLER, SOUND = 1000, 2600


def test_the_callers_audio_arrives_with_a_start_message_and_a_token(house, customer, new_phone, new_endpoint):
    endpoint = new_endpoint()
    parameters = {"plain": "text", "quoted": 'it\'s "so"', "slashed": "a\\b\\n", "unicode": "héllo ☎", "odd": "{a,b}|c"}
    house.document(
        {"answer": {}},
        {
            "stream": {
                "url": endpoint.url,
                "name": "ears",
                "control_id": "s1",
                "authorization_bearer_token": "s3cr3t.token",
                "custom_parameters": parameters,
                "status_url": f"{customer.url}/stream",
            }
        },
        {"sleep": 1000},
        {"stop_stream": {}},
        {"set": {"reached": "yes"}},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer().wait_hung_up()
    assert house.variables["stream_result"] == "success"
    assert house.variables["stream_control_id"] == "s1"
    assert house.variables["stop_stream_result"] == "success"
    (request,) = endpoint.requests
    assert request.headers["Authorization"] == "Bearer s3cr3t.token"
    assert request.path == "/audio"
    (text,) = endpoint.texts
    message = json.loads(text)
    assert message["event"] == "start"
    assert message["start"]["callSid"] == house.call_id
    assert message["start"]["customParameters"] == parameters
    assert message["start"]["mediaFormat"] == {"encoding": "audio/x-L16", "sampleRate": 8000, "channels": 1}
    assert {len(frame) for frame in endpoint.audio} == {320}
    samples = np.frombuffer(endpoint.samples(), "<i2")
    assert seconds_of(samples, CALLER) == pytest.approx(1.0, abs=0.2)
    assert len(samples) / 8000 == pytest.approx(1.0, abs=0.2)
    until(lambda: endpoint.closed, 5.0, "the module to close")
    until(lambda: len(customer.said("calling.call.stream")) == 2, 5.0, "webhooks")
    assert [params["state"] for params in customer.said("calling.call.stream")] == ["streaming", "finished"]


@pytest.mark.parametrize("play", [True, False], ids=["while something plays", "while nothing plays"])
def test_both_tracks_arrive_apart(house, customer, new_phone, new_endpoint, play):
    customer.files["/sound.wav"] = wav(tone(SOUND, 1.0))
    endpoint = new_endpoint()
    house.document(
        {"answer": {}},
        {"stream": {"url": endpoint.url, "track": "both_tracks", "codec": "L16@16000h"}},
        {"play": f"{customer.url}/sound.wav"} if play else {"sleep": 1000},
        {"stop_stream": {}},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer().wait_hung_up()
    assert house.variables["stream_result"] == "success"
    assert json.loads(endpoint.texts[0])["start"]["tracks"] == ["inbound", "outbound"]
    assert {len(frame) for frame in endpoint.audio} == {1280}
    left, right = np.frombuffer(endpoint.samples(), "<i2").reshape(-1, 2).T
    assert len(left) / 16000 == pytest.approx(1.0, abs=0.25)
    assert seconds_of(left, CALLER, 16000) == pytest.approx(1.0, abs=0.25)
    assert seconds_of(right, SOUND, 16000) == pytest.approx(1.0 if play else 0.0, abs=0.15)
    assert strength(left, SOUND, 16000) < 100
    assert strength(right, CALLER, 16000) < 100


def test_both_tracks_of_a_call_answered_before_it_came_flow(house, new_phone, new_endpoint, outgoing):
    endpoint = new_endpoint()
    house.document({"stream": {"url": endpoint.url, "track": "both_tracks"}}, {"sleep": 1000}, {"stop_stream": {}})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    outgoing(phone)
    phone.wait_hung_up()
    left, right = np.frombuffer(endpoint.samples(), "<i2").reshape(-1, 2).T
    assert seconds_of(left, CALLER) == pytest.approx(1.0, abs=0.25)
    assert strength(right, CALLER) < 100


def test_a_server_that_closes_ends_the_stream_and_another_may_begin(house, new_phone, new_endpoint):
    first, second = new_endpoint(), new_endpoint()
    house.document(
        {"answer": {}},
        {"stream": {"url": first.url, "control_id": "one"}},
        {"request": {"url": f"{house.customer.url}/over", "method": "GET"}},
        {"stream": {"url": second.url, "control_id": "two"}},
        {"sleep": 400},
    )
    over = house.customer.hold("/over")
    phone = new_phone(call=True).wait_answer()
    until(lambda: first.audio, 5.0, "audio")
    first.connections[0].close(1011, "tired")
    until(lambda: house.of(ControlChanged, control_id="one", state="finished"), 5.0, "the first stream's end")
    over.set()
    until(lambda: second.audio, 5.0, "audio at the second")
    phone.wait_hung_up()
    assert house.variables["stream_result"] == "success"
    assert house.ended.end_reason == "hangup"
    until(lambda: second.closed, 5.0, "the end of the second")
    states = [(event.control_id, event.state) for event in house.of(ControlChanged, kind="stream")]
    assert states == [("one", "streaming"), ("one", "finished"), ("two", "streaming"), ("two", "finished")]


@pytest.mark.parametrize("how", ["403", "nobody listens", "nobody answers"])
def test_a_server_that_does_not_take_the_stream_fails_it_and_the_call_goes_on(house, new_phone, new_endpoint, how):
    endpoint = new_endpoint(refuse=403)
    url = endpoint.url
    if how == "nobody listens":
        url = "ws://127.0.0.1:9/audio"
    elif how == "nobody answers":
        house.customer.hold("/audio")
        url = house.customer.url.replace("http", "ws") + "/audio"
    house.document(
        {"answer": {}}, {"stream": {"url": url, "control_id": "s"}}, {"set": {"first": "${stream_result}"}},
        {"stream": {"url": url, "control_id": "s"}}, {"set": {"reached": "yes"}},
    )  # fmt: skip
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up(15.0)
    assert house.variables["first"] == house.variables["stream_result"] == "failed"
    assert house.variables["reached"] == "yes"
    assert len(house.warnings) == 2


def test_a_second_stream_at_once_fails_and_the_first_goes_on(house, new_phone, new_endpoint):
    endpoint = new_endpoint()
    house.document(
        {"answer": {}},
        {"stream": {"url": endpoint.url, "control_id": "one"}},
        {"stream": {"url": endpoint.url, "control_id": "two"}},
        {"sleep": 600},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    assert house.variables["stream_result"] == "failed"
    assert len(endpoint.connections) == 1
    assert len(endpoint.audio) > 20


def test_the_callers_hangup_ends_a_stream(house, new_phone, new_endpoint):
    endpoint = new_endpoint()
    house.document({"answer": {}}, {"stream": {"url": endpoint.url}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    until(lambda: len(endpoint.audio) > 10, 5.0, "audio")
    phone.hang_up()
    assert house.ended.end_reason == "hangup"
    assert house.controls("stream") == ["streaming", "finished"]
    until(lambda: endpoint.closed, 5.0, "the module to close")
