"""Callers that hang up when it is inconvenient; that nothing is left of them is checked after every test here."""

from time import monotonic

import gevent
import pytest

from fsctl.call.events import CallStateChanged, ScriptEnded
from fsctl.esl.connection import Connection
from tests.live.media import wav
from tests.live.phone import tone, until
from tests.live.streams import Endpoint

pytestmark = pytest.mark.live


def test_a_caller_who_gives_up_before_the_answer(house, customer, new_phone):
    customer.hold("/wait")
    house.document({"request": {"url": f"{customer.url}/wait", "method": "GET"}}, {"answer": {}})
    phone = new_phone(call=True)
    until(lambda: customer.asked("/wait"), 5.0, "the request")
    phone.hang_up()
    until(lambda: phone.final, 5.0, "a final response")
    assert phone.final == 487
    assert house.ended.end_reason == "abandoned"
    assert house.of(ScriptEnded)[0].outcome == "hangup"
    assert "answered" not in house.states()


def test_a_caller_who_gives_up_while_the_document_is_fetched(open_house, customer, new_phone):
    house = open_house(documents={"default": f"{customer.url}/document"})
    customer.hold("/document")
    phone = new_phone(call=True)
    until(lambda: customer.asked("/document"), 5.0, "the fetch")
    phone.hang_up()
    until(lambda: phone.final, 5.0, "a final response")
    assert house.ended.end_reason == "abandoned"


def test_a_caller_who_gives_up_at_once(house, new_phone):
    house.document({"answer": {}}, {"play": "say: hello"})
    phone = new_phone(call=True)
    until(lambda: phone.statuses, 5.0, "a first response")
    phone.hang_up()
    until(lambda: phone.final, 5.0, "a final response")
    if phone.final == 200:  # the answer was faster
        phone.hang_up()
    if house.of(CallStateChanged):
        assert house.ended.end_reason in ("abandoned", "cancel", "hangup")  # "cancel" when it crosses the answer


MOMENTS = {
    "early media": ({"play": {"url": "ring:20.0:us", "auto_answer": False}}, "play"),
    "speech": ({"play": "say: " + "This goes on for a good while. " * 10}, "play"),
    "a sound": ({"play": "{url}/sound.wav"}, "play"),
    "silence": ({"play": "silence:30"}, "play"),
    "a recording": ({"record": {"initial_timeout": 0}}, "record"),
    "a recorded play": ([{"record_call": {"format": "mp3"}}, {"play": "silence:30"}], "play"),
    "a stream": ([{"stream": {"url": "{stream}"}}, {"sleep": -1}], "stream"),
    "a stream that connects": ({"stream": {"url": "{nobody}", "control_id": "x"}}, ""),
    "a request": ({"request": {"url": "{url}/wait", "method": "GET"}}, ""),
    "a fetch of a sound": ({"play": "{url}/wait"}, ""),
    "a sleep": ([{"answer": {}}, {"sleep": -1}], ""),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_caller_who_hangs_up_during(house, customer, new_phone, moment):
    steps, kind = MOMENTS[moment]
    customer.files["/sound.wav"] = wav(tone(600, 20.0))
    customer.hold("/wait")
    endpoint = Endpoint()
    urls = {"url": customer.url, "stream": endpoint.url, "nobody": customer.url.replace("http", "ws") + "/wait"}
    house.document(*(_filled(step, urls) for step in (steps if isinstance(steps, list) else [steps])))
    try:
        phone = new_phone(call=True)
        if moment == "early media":
            until(lambda: phone.packets, 5.0, "early media")
        elif moment in ("a request", "a fetch of a sound", "a stream that connects"):
            until(lambda: customer.asked("/wait"), 5.0, "the request")
        elif kind:
            until(lambda: house.controls(kind), 5.0, kind)
        else:
            phone.wait_answer()
        phone.hang_up()
        assert house.ended.end_reason in ("hangup", "abandoned")
        assert house.of(ScriptEnded)[0].outcome == "hangup"
        assert len(house.of(ScriptEnded)) == 1
        assert house.warnings == []
    finally:
        endpoint.close()


STARTS = {
    "a recording": ("uuid_record", {"record_call": {"stereo": True}}),
    "a machine detection": ("uuid_record", {"detect_machine": {"timeout": 5.0}}),
    "a stream": ("uuid_audio_stream", {"stream": {"url": "{stream}"}}),
}


@pytest.mark.parametrize("start", STARTS)
def test_callers_who_hang_up_at_the_very_start_of(house, new_phone, new_endpoint, monkeypatch, start):
    """What FreeSWITCH attaches to a channel that is just ending must not hold its session for ever."""
    name, step = STARTS[start]
    ask = Connection.api

    delays = [number * 0.002 for number in range(11)]
    phones = []

    def late(connection, api):
        if api.name == name and " start " in api.argument:
            phones[-1].hang_up()
            gevent.sleep(delays[len(phones) - 1])
        return ask(connection, api)

    monkeypatch.setattr(Connection, "api", late)
    house.document({"answer": {}}, {"sleep": 60}, _filled(step, {"stream": new_endpoint().url}), {"sleep": -1})
    for _ in delays:
        phones.append(new_phone(call=True))
        phones[-1].wait_hung_up()
    until(lambda: house.states().count("ended") == len(delays), 5.0, "all ends")


def _filled(step, urls):
    if isinstance(step, dict):
        return {name: _filled(value, urls) for name, value in step.items()}
    if isinstance(step, str) and step.startswith("{"):
        return step.format(**urls)
    return step


def test_many_callers_who_hang_up_at_every_moment_of_a_call(house, customer, new_phone):
    """Moments 12 ms apart, over the fetch, the answer, the speech and the recording of one call."""
    house.document({"answer": {}}, {"record_call": {}}, {"play": "say: one two three"}, {"stop_record_call": {}})
    for moment in range(20):
        phone = new_phone(call=True)
        until(lambda phone=phone, moment=moment: _since(phone) > moment * 0.012, 5.0)
        phone.hang_up()
        until(
            lambda phone=phone: phone.final in (200, 487) and (phone.final == 487 or phone.hang_up() or phone.hung_up)
        )
    calls = {event.call.call_id for event in house.of(CallStateChanged)}
    until(lambda: len(house.of(CallStateChanged, state="ended")) == len(calls), 10.0, "all ends")
    assert len(house.of(ScriptEnded)) == len(calls)


def _since(phone):
    return monotonic() - phone.invited_at
