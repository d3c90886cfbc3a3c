"""Calls over SIP: answered, played to, ended, refused."""

import pytest

from tests.live.media import wav
from tests.live.phone import loud_seconds, seconds_of, tone, until

pytestmark = pytest.mark.live


def test_a_call_is_answered_played_to_and_hung_up(house, customer, new_phone):
    customer.files["/sound.wav"] = wav(tone(2600, 1.0))
    status = f"{customer.url}/play"
    house.document(
        {"answer": {}},
        {"play": {"url": "say:Good morning, and welcome to this call.", "status_url": status}},
        {"play": {"urls": ["silence:0.4", "ring:2.0:us", f"{customer.url}/sound.wav"], "status_url": status}},
        {"hangup": {}},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up(20.0)
    heard = phone.heard()
    assert seconds_of(heard, 2600) == pytest.approx(1.0, abs=0.08)
    assert seconds_of(heard, 440) == pytest.approx(2.0, abs=0.15)
    speech = loud_seconds(heard) - seconds_of(heard, 2600) - seconds_of(heard, 440)
    assert speech > 0.8
    assert house.ended.end_reason == "hangup"
    assert house.states() == ["created", "answered", "ending", "ended"]
    until(lambda: len(customer.said("calling.call.play")) == 4, 5.0, "the webhooks of two plays")
    assert [params["state"] for params in customer.said("calling.call.play")] == ["playing", "finished"] * 2
    until(lambda: len(customer.said("calling.call.state")) == 3, 5.0, "the webhooks of the call")
    assert house.warnings == []


@pytest.mark.parametrize(
    ("reason", "status", "told"), [("busy", 486, "busy"), ("decline", 603, "declined"), ("hangup", 480, "hangup")]
)
def test_a_hangup_before_the_answer_is_a_sip_response(house, new_phone, reason, status, told):
    house.document({"hangup": {"reason": reason}})
    phone = new_phone(call=True)
    until(lambda: phone.final, 5.0, "a final response")
    assert phone.final == status
    assert house.ended.end_reason == told
    assert "answered" not in house.states()


def test_early_media_is_heard_without_an_answer(house, customer, new_phone):
    customer.files["/sound.wav"] = wav(tone(2600, 0.8))
    house.document({"play": {"url": f"{customer.url}/sound.wav", "auto_answer": False}}, {"hangup": {"reason": "busy"}})
    phone = new_phone(call=True)
    until(lambda: phone.final, 10.0, "a final response")
    assert [code for code, _ in phone.statuses if code > 100] == [183, 486]
    assert seconds_of(phone.heard(), 2600) == pytest.approx(0.8, abs=0.08)
    assert house.ended.end_reason == "busy"
    assert house.states() == ["created", "ringing", "ending", "ended"]


def test_a_call_without_a_document_gets_404(open_house, new_phone):
    house = open_house(documents={"default": ""})
    phone = new_phone(call=True)
    until(lambda: phone.final, 5.0, "a final response")
    assert phone.final == 404
    assert house.refusals == ["no_document"]


def test_a_call_that_is_one_too_many_goes_on_in_the_dialplan(open_house, new_phone):
    house = open_house(event_socket={"max_calls": 1})
    house.document({"answer": {}}, {"sleep": -1})
    first = new_phone(call=True).wait_answer()
    second = new_phone(call=True)
    until(lambda: second.final, 5.0, "a final response")
    assert second.final == 503
    assert house.refusals == ["capacity"]
    first.hang_up()
    until(lambda: "ended" in house.states(), 5.0, "the first call's end")
    until(lambda: not len(house.server.calls), 5.0)
    third = new_phone(call=True).wait_answer()
    third.hang_up()


def test_while_draining_new_calls_go_on_in_the_dialplan_and_running_ones_end_in_peace(house, new_phone):
    house.document({"answer": {}}, {"sleep": 1500}, {"set": {"reached": "yes"}})
    first = new_phone(call=True).wait_answer()
    house.server.listener.drain()
    second = new_phone(call=True)
    until(lambda: second.final, 5.0, "a final response")
    assert second.final == 503
    first.wait_hung_up()
    assert house.variables["reached"] == "yes"
    assert house.refusals == ["draining"]


def test_a_call_whose_fsctl_is_lost_ends_by_the_dialplan(house, new_phone):
    house.document({"answer": {}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    (call,) = house.server.calls
    call.leg.close()
    phone.wait_hung_up()
    assert house.ended.cause is None


def test_the_longest_duration_ends_a_call(house, new_phone):
    house.document({"answer": {"max_duration": 1}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    assert house.ended.end_reason == "max_duration"
    assert house.ended.end_time - house.ended.answer_time == pytest.approx(1.0, abs=0.15)


def test_a_call_that_was_answered_before_it_came_to_fsctl(house, customer, new_phone, outgoing):
    customer.files["/sound.wav"] = wav(tone(2600, 0.6))
    house.document({"answer": {}}, {"play": f"{customer.url}/sound.wav"})
    phone = new_phone()
    outgoing(phone)
    phone.wait_hung_up()
    assert seconds_of(phone.heard(), 2600) == pytest.approx(0.6, abs=0.08)
    assert house.ended.end_reason == "hangup"
    assert house.states() == ["created", "answered", "ending", "ended"]
    assert house.variables["answer_result"] == "success"


def test_a_loud_play_is_louder(house, customer, new_phone):
    customer.files["/sound.wav"] = wav(tone(2600, 0.4, amplitude=4000))
    house.document(
        {"play": {"url": f"{customer.url}/sound.wav", "volume": -6}},
        {"play": {"url": f"{customer.url}/sound.wav", "volume": 6}},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    heard = phone.heard()
    assert seconds_of(heard, 2600, least=1000) == pytest.approx(0.8, abs=0.1)
    assert seconds_of(heard, 2600, least=6000) == pytest.approx(0.4, abs=0.1)
