"""The audio of live calls at WebSocket servers, through the hub and in the language's protocol."""

import json
from base64 import b64encode

import pytest

from fsctl.call.events import ControlChanged
from tests.live.media import wav
from tests.live.phone import companded, seconds_of, tone, until

pytestmark = pytest.mark.live

CALLER, SOUND, ANSWER = 1000, 2600, 1800


@pytest.fixture
def hub(open_house, directory):
    return open_house(streams={"mode": "hub", "directory": str(directory)})


def test_each_stream_of_a_call_gets_its_tracks_and_parameters(hub, customer, new_phone, new_endpoint):
    customer.files["/sound.wav"] = wav(tone(SOUND, 1.0))
    inbound, outbound, both = new_endpoint(), new_endpoint(), new_endpoint()
    parameters = {"quoted": 'it\'s "so"', "odd": "{a,b}|${c}\n\\"}
    customer.files["/parameters"] = json.dumps(parameters).encode()
    taken = {name: f"%{{request_response.{name}}}" for name in parameters}
    hub.document(
        {"request": {"url": f"{customer.url}/parameters", "method": "GET", "save_variables": True}},
        {"stream": {"url": inbound.url, "authorization_bearer_token": "s3cr3t.token", "custom_parameters": taken}},
        {"stream": {"url": outbound.url, "track": "outbound_track"}},
        {"stream": {"url": both.url, "track": "both_tracks", "control_id": "both"}},
        {"play": f"{customer.url}/sound.wav"},
        {"stop_stream": {}},
        {"sleep": 300},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(hub.number).wait_answer().wait_hung_up()
    assert hub.warnings == []
    assert inbound.requests[0].headers["Authorization"] == "Bearer s3cr3t.token"
    (start,) = inbound.said("start")
    assert start["start"]["callSid"] == hub.call_id
    assert start["start"]["customParameters"] == parameters
    assert seconds_of(inbound.track("inbound"), CALLER) > 1.2
    assert seconds_of(outbound.track("outbound"), SOUND) == pytest.approx(1.0, abs=0.15)
    assert seconds_of(both.track("inbound"), CALLER) == pytest.approx(1.0, abs=0.2)
    assert seconds_of(both.track("outbound"), SOUND) == pytest.approx(1.0, abs=0.15)
    for endpoint, track in ((inbound, "outbound"), (outbound, "inbound")):
        assert len(endpoint.track(track)) == 0
    assert seconds_of(both.track("inbound"), SOUND) == 0
    assert seconds_of(both.track("outbound"), CALLER) == 0
    for endpoint in (inbound, outbound, both):
        until(lambda endpoint=endpoint: endpoint.closed, 5.0, "the hub to close")
        assert len(endpoint.said("stop")) == 1


@pytest.mark.parametrize("answered", [False, True], ids=["answered by fsctl", "answered before it came"])
def test_audio_flows_while_nothing_plays(hub, new_phone, new_endpoint, outgoing, answered):
    endpoint = new_endpoint()
    hub.document({"stream": {"url": endpoint.url}}, {"sleep": 1000}, {"stop_stream": {}})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    if answered:
        outgoing(phone)
    else:
        phone.call(hub.number)
    phone.wait_hung_up()
    assert seconds_of(endpoint.track("inbound"), CALLER) == pytest.approx(1.0, abs=0.25)


def test_a_server_that_closes_ends_its_stream_and_no_other(hub, new_phone, new_endpoint):
    first, second = new_endpoint(), new_endpoint()
    hub.document(
        {"stream": {"url": first.url, "control_id": "one"}},
        {"stream": {"url": second.url, "control_id": "two"}},
        {"sleep": -1},
    )
    phone = new_phone(call=True).wait_answer()
    until(lambda: len(first.said("media")) > 5 and len(second.said("media")) > 5, 5.0, "audio at both")
    first.connections[0].close(1011, "tired")
    until(lambda: hub.of(ControlChanged, control_id="one", state="finished"), 5.0, "the first stream's end")
    heard = len(second.said("media"))
    until(lambda: len(second.said("media")) > heard + 10, 5.0, "more audio at the second")
    assert not hub.of(ControlChanged, control_id="two", state="finished")
    phone.hang_up()
    until(lambda: second.closed, 5.0, "the end of the second")


def test_a_server_that_refuses_fails_its_stream_and_the_next_one_starts(hub, new_phone, new_endpoint):
    good, bad = new_endpoint(), new_endpoint(refuse=403)
    hub.document(
        {"stream": {"url": bad.url}},
        {"set": {"first": "${stream_result}"}},
        {"stream": {"url": good.url}},
        {"sleep": 400},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    assert (hub.variables["first"], hub.variables["stream_result"]) == ("failed", "success")
    assert len(hub.warnings) == 1
    assert len(good.track("inbound")) > 0


def test_keys_are_told_to_a_stream(hub, new_phone, new_endpoint):
    endpoint = new_endpoint()
    hub.document({"stream": {"url": endpoint.url}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    until(lambda: endpoint.said("media"), 5.0, "audio")
    phone.press("4#")
    until(lambda: len(endpoint.said("dtmf")) == 2, 5.0, "the keys")
    assert [message["dtmf"]["digit"] for message in endpoint.said("dtmf")] == ["4", "#"]
    phone.hang_up()


def test_a_server_talks_to_the_caller(hub, new_phone, new_endpoint):
    endpoint = new_endpoint()
    hub.document({"stream": {"url": endpoint.url, "bidirectional": True}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    until(lambda: endpoint.said("start"), 5.0, "the start")
    stream_sid = endpoint.said("start")[0]["start"]["streamSid"]
    payload = b64encode(companded(tone(ANSWER, 1.0))).decode()
    endpoint.connections[0].send(json.dumps({"event": "media", "streamSid": stream_sid, "media": {"payload": payload}}))
    endpoint.connections[0].send(json.dumps({"event": "mark", "streamSid": stream_sid, "mark": {"name": "said"}}))
    until(lambda: endpoint.said("mark"), 5.0, "the mark")
    assert endpoint.said("mark")[0]["mark"]["name"] == "said"
    until(lambda: seconds_of(phone.heard(), ANSWER) > 0.9, 3.0, "the answer at the caller's ear")
    assert seconds_of(phone.heard(), ANSWER) == pytest.approx(1.0, abs=0.1)
    phone.hang_up()
