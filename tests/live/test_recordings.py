"""Recordings of live calls: what ends them, how long they are, and what is in them."""

import numpy as np
import pytest
import requests

from fsctl.call.events import ControlChanged
from tests.live.media import read, wav
from tests.live.phone import seconds_of, strength, tone, until

pytestmark = pytest.mark.live

CALLER, SOUND = 1000, 2600


def recorded(house, url):
    """The channels of a recording, its seconds, and what the control said of it at its end."""
    channels, rate = read(house.recording(url))
    (finished,) = house.of(ControlChanged, kind="record", state="finished")
    return channels, len(channels[0]) / rate, finished.detail


def both_talk(phone, customer, seconds):
    """The caller's tone and a sound of another."""
    phone.say(tone(CALLER, 1.0))
    customer.files["/sound.wav"] = wav(tone(SOUND, seconds))


@pytest.mark.parametrize("format_", ["wav", "mp3"])
def test_the_longest_length_is_exact_and_nothing_is_lost_at_the_end(house, new_phone, format_):
    house.document(
        {"record": {"max_length": 2.0, "format": format_, "initial_timeout": 0, "end_silence_timeout": 0}},
        {"hangup": {}},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer().wait_hung_up()
    (samples, *more), seconds, detail = recorded(house, house.variables["record_url"])
    rate = len(samples) / seconds
    assert not more
    assert house.variables["record_result"] == "success"
    assert detail["duration"] == pytest.approx(2.0, abs=0.1)
    assert seconds_of(samples, CALLER, round(rate)) == pytest.approx(2.0, abs=0.1)
    if format_ == "wav":
        assert seconds == pytest.approx(2.0, abs=0.1)
        assert strength(samples[-round(rate * 0.04) :], CALLER, rate) > 3000
    else:  # FreeSWITCH's encoder puts up to half a second of silence around what was said
        assert 2.0 <= seconds < 2.6


def test_a_terminator_ends_a_recording(house, new_phone):
    house.document({"answer": {}}, {"record": {"terminators": "*#", "beep": True}}, {"set": {"reached": "yes"}})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer()
    until(lambda: house.controls("record") == ["recording"], 5.0, "the recording")
    assert seconds_of(phone.heard(), 1000) == pytest.approx(0.25, abs=0.08)
    phone.press("1")
    (call,) = house.server.calls
    until(lambda: call.interactions == 1, 3.0, "the first key")
    assert house.controls("record") == ["recording"]
    phone.press("*")
    phone.wait_hung_up()
    assert house.controls("record") == ["recording", "finished"]
    assert house.variables["reached"] == "yes"
    assert call.interactions == 2


def test_silence_after_speech_ends_a_recording(house, new_phone):
    house.document({"answer": {}}, {"record": {"end_silence_timeout": 1.0, "initial_timeout": 3.0}})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer()
    until(lambda: house.controls("record") == ["recording"], 5.0, "the recording")
    until(lambda: len(phone.packets) > 50, 5.0, "a second")
    phone.say(np.zeros(160, np.int16))
    phone.wait_hung_up()
    (samples,), seconds, _ = recorded(house, house.variables["record_url"])
    spoken = seconds_of(samples, CALLER)
    assert spoken > 0.7
    assert seconds - spoken == pytest.approx(1.0, abs=0.3)


def test_a_caller_who_says_nothing_ends_a_recording_as_no_input(house, customer, new_phone):
    house.document({"answer": {}}, {"record": {"initial_timeout": 1.0, "status_url": f"{customer.url}/record"}})
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    assert house.controls("record") == ["recording", "no_input"]
    assert house.variables["record_result"] == "failed"
    assert house.variables["record_url"] == ""
    until(lambda: len(customer.said("calling.call.record")) == 2, 5.0, "webhooks")
    duration = customer.said("calling.call.record")[-1]["duration"]
    assert duration == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("format_", ["wav", "mp3"])
def test_stereo_has_the_caller_left_and_the_sounds_right(house, customer, new_phone, format_):
    house.document(
        {"answer": {}},
        {"record_call": {"stereo": True, "format": format_}},
        {"play": f"{customer.url}/sound.wav"},
        {"stop_record_call": {}},
    )
    phone = new_phone()
    both_talk(phone, customer, 1.5)
    phone.call(house.number).wait_answer().wait_hung_up()
    channels, seconds, _ = recorded(house, house.variables["record_call_url"])
    left, right = channels
    rate = round(len(left) / seconds)
    assert seconds_of(left, CALLER, rate) == pytest.approx(1.5, abs=0.15)
    assert seconds_of(right, SOUND, rate) == pytest.approx(1.5, abs=0.15)
    assert seconds_of(left, SOUND, rate) == 0
    assert seconds_of(right, CALLER, rate) == 0
    assert seconds == pytest.approx(1.5, abs=0.15 if format_ == "wav" else 0.6)


@pytest.mark.parametrize(
    ("direction", "caller", "sound"), [("speak", True, False), ("listen", False, True), ("both", True, True)]
)
def test_a_direction_is_recorded_and_the_other_is_not(house, customer, new_phone, direction, caller, sound):
    house.document(
        {"answer": {}},
        {"record_call": {"direction": direction}},
        {"play": f"{customer.url}/sound.wav"},
        {"stop_record_call": {}},
    )
    phone = new_phone()
    both_talk(phone, customer, 1.0)
    phone.call(house.number).wait_answer().wait_hung_up()
    (samples,), seconds, _ = recorded(house, house.variables["record_call_url"])
    assert seconds == pytest.approx(1.0, abs=0.2)
    assert (seconds_of(samples, CALLER) > 0.7) is caller
    assert (seconds_of(samples, SOUND) > 0.7) is sound
    assert (seconds_of(samples, CALLER) == 0) is not caller
    assert (seconds_of(samples, SOUND) == 0) is not sound


@pytest.mark.parametrize("format_", ["wav", "mp3"])
def test_a_recording_is_played_and_fetched_by_its_url(house, new_phone, format_):
    house.document(
        {"answer": {}},
        {"record_call": {"format": format_, "direction": "speak"}},
        {"sleep": 1000},
        {"stop_record_call": {}},
        {"play": "${record_call_url}"},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer().wait_hung_up()
    assert house.warnings == []
    assert seconds_of(phone.heard(), CALLER) == pytest.approx(1.0, abs=0.2)
    url = house.variables["record_call_url"]
    answer = requests.get(url, timeout=5)
    assert answer.content == house.recording(url).read_bytes()
    assert answer.headers["Content-Type"] == {"wav": "audio/wav", "mp3": "audio/mpeg"}[format_]


def test_the_hangup_of_the_caller_completes_a_recording(house, customer, new_phone):
    house.document(
        {"answer": {}}, {"record_call": {"status_url": f"{customer.url}/record", "stereo": True}}, {"sleep": -1}
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer()
    until(lambda: len(phone.packets) > 50, 5.0, "a second")
    phone.hang_up()
    assert house.ended.end_reason == "hangup"
    url = house.variables["record_call_url"]
    (left, right), seconds, detail = recorded(house, url)
    assert seconds_of(left, CALLER) == pytest.approx(seconds, abs=0.1)
    assert strength(right, CALLER) < 100
    assert detail["duration"] == pytest.approx(seconds, abs=0.05)
    until(lambda: len(customer.said("calling.call.record")) == 2, 5.0, "webhooks")
    assert customer.said("calling.call.record")[-1]["size"] == house.recording(url).stat().st_size


def test_two_recordings_at_once_end_each_on_its_own(house, new_phone):
    house.document(
        {"answer": {}},
        {"record_call": {"control_id": "one", "max_length": 0.6}},
        {"record_call": {"control_id": "two"}},
        {"sleep": 1200},
        {"stop_record_call": {"control_id": "two"}},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    durations = {
        event.control_id: event.detail["duration"]
        for event in house.of(ControlChanged, kind="record", state="finished")
    }
    assert durations == {"one": pytest.approx(0.6, abs=0.1), "two": pytest.approx(1.2, abs=0.1)}
