"""Keys pressed on a live call, by the phone and by FreeSWITCH."""

import pytest

from tests.live.media import wav
from tests.live.phone import seconds_of, tone, until

pytestmark = pytest.mark.live


def test_keys_of_the_phone_and_of_freeswitch_end_a_recording_alike(house, new_phone, switch):
    house.document(
        {"answer": {}},
        {"record": {"terminators": "#", "initial_timeout": 0, "end_silence_timeout": 0}},
        {"record": {"terminators": "5", "initial_timeout": 0, "end_silence_timeout": 0}},
        {"record": {"terminators": "D", "initial_timeout": 0, "end_silence_timeout": 0}},
        {"hangup": {}},
    )
    phone = new_phone(call=True).wait_answer()
    until(lambda: house.controls("record").count("recording") == 1, 5.0, "the first recording")
    phone.press("#")
    until(lambda: house.controls("record").count("recording") == 2, 5.0, "the second recording")
    assert switch.api(f"uuid_recv_dtmf {house.call_id} 5").startswith("+OK")
    until(lambda: house.controls("record").count("recording") == 3, 5.0, "the third recording")
    phone.press("D")
    phone.wait_hung_up()
    assert house.controls("record") == ["recording", "finished"] * 3


def test_keys_do_not_end_a_play(house, customer, new_phone):
    customer.files["/sound.wav"] = wav(tone(2600, 1.2))
    house.document({"answer": {}}, {"play": f"{customer.url}/sound.wav"}, {"hangup": {}})
    phone = new_phone(call=True).wait_answer()
    until(lambda: house.controls("play"), 5.0, "the play")
    phone.press("*#1")
    phone.wait_hung_up()
    assert seconds_of(phone.heard(), 2600) == pytest.approx(1.2, abs=0.1)


def test_every_key_counts_as_something_from_the_caller(house, new_phone):
    house.document({"answer": {}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    (call,) = house.server.calls
    phone.press("0123456789*#ABCD")
    until(lambda: call.interactions == 16, 10.0, "all keys")
    phone.hang_up()
