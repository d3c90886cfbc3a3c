"""What REST asks of live calls, on a real FreeSWITCH: pauses, beeps, keys, and how a call ends."""

import pytest

from fsctl.call.events import ControlChanged
from tests.live.media import read
from tests.live.phone import seconds_of, strength, tone, until
from tests.methods.commanding import ask

pytestmark = pytest.mark.live

CALLER = 1300
AUDIO = {"format": "wav", "initial_timeout": 0, "end_silence_timeout": 0}


@pytest.fixture
def talking(house, new_phone):
    """A phone that talks, and its call, which does ``steps`` and no more."""

    def begin(*steps):
        house.document({"answer": {}}, *steps, {"sleep": -1})
        phone = new_phone()
        phone.say(tone(CALLER, 1.0))
        phone.call(house.number).wait_answer()
        until(lambda: "answered" in house.states(), 5.0, "the answer")
        (call,) = house.server.calls
        return phone, call

    return begin


def recorded(house):
    (finished,) = house.of(ControlChanged, kind="record", state="finished")
    channels, rate = read(house.recording(finished.detail["url"]))
    return channels[0], rate, finished.detail


@pytest.mark.parametrize("behavior", ["skip", "silence"])
def test_a_pause_is_missing_or_silent(house, talking, behavior):
    phone, call = talking()
    ask(call, "calling.record", control_id="r", record={"audio": AUDIO})
    call.clock.sleep(1.0)
    ask(call, "calling.record.pause", control_id="r", behavior=behavior)
    call.clock.sleep(1.5)
    ask(call, "calling.record.resume", control_id="r")
    call.clock.sleep(1.0)
    ask(call, "calling.record.stop", control_id="r")
    phone.hang_up()

    samples, rate, detail = recorded(house)
    whole = 2.0 if behavior == "skip" else 3.5
    assert len(samples) / rate == pytest.approx(whole, abs=0.2)
    assert detail["duration"] == pytest.approx(whole, abs=0.2)
    assert seconds_of(samples, CALLER, rate) == pytest.approx(2.0, abs=0.2)
    assert house.controls("record") == ["recording", "paused", "recording", "finished"]


def test_silence_that_began_before_a_pause_ends_the_recording_after_it(house, new_phone):
    """As the module says: FreeSWITCH measures through the pause."""
    house.document({"answer": {}}, {"sleep": -1})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(house.number).wait_answer()
    until(lambda: "answered" in house.states(), 5.0, "the answer")
    (call,) = house.server.calls
    ask(call, "calling.record", control_id="r", record={"audio": {**AUDIO, "end_silence_timeout": 1.5}})
    call.clock.sleep(0.5)
    phone.say(tone(CALLER, 0.02, amplitude=0))
    call.clock.sleep(0.5)
    ask(call, "calling.record.pause", control_id="r")
    call.clock.sleep(2.5)
    assert house.controls("record") == ["recording", "paused"]
    ask(call, "calling.record.resume", control_id="r")

    until(lambda: house.controls("record")[-1] == "finished", 1.0, "the end of the recording")
    phone.hang_up()


def test_the_beep_is_heard_at_once_while_something_plays(house, talking):
    phone, call = talking({"play": "silence:30"})
    until(lambda: house.controls("play") == ["playing"], 5.0, "the play")
    before = call.clock.now()

    ask(call, "calling.record", control_id="r", record={"audio": {**AUDIO, "beep": True}})

    until(lambda: house.controls("record") == ["recording"], 2.0, "the recording")
    assert call.clock.now() - before < 1.0
    call.clock.sleep(0.5)
    ask(call, "calling.record.stop", control_id="r")
    assert seconds_of(phone.heard(), 1000) == pytest.approx(0.25, abs=0.1)
    phone.hang_up()
    samples, rate, _ = recorded(house)
    assert strength(samples, CALLER, rate) > 3000


def test_keys_are_collected_while_something_plays(house, customer, talking):
    phone, call = talking({"play": "silence:30"})
    until(lambda: house.controls("play") == ["playing"], 5.0, "the play")
    ask(
        call,
        "calling.collect",
        control_id="c",
        digits={"max": 2},
        continuous=True,
        status_url=f"{customer.url}/collect",
    )
    phone.press("1234")
    until(lambda: len(customer.said("calling.call.collect")) == 2, 5.0, "both results")
    ask(call, "calling.collect.stop", control_id="c")
    until(lambda: len(customer.said("calling.call.collect")) == 3, 5.0, "the end")

    results = [params["result"] for params in customer.said("calling.call.collect")]
    assert [result.get("params", {}).get("digits") for result in results] == ["12", "34", None]
    assert house.controls("play") == ["playing"]
    phone.hang_up()


@pytest.mark.parametrize("type_", ["machine", "fax"])
def test_detection_listens_while_something_plays(house, customer, talking, type_):
    phone, call = talking({"play": "silence:30"})
    phone.say(tone(1100, 1.0))
    ask(
        call,
        "calling.detect",
        control_id="d",
        detect={"type": type_, "params": {"detect_message_end": False} if type_ == "machine" else {}},
        status_url=f"{customer.url}/detect",
    )

    until(lambda: len(customer.said("calling.call.detect")) == 2, 8.0, "the outcome")
    events = [params["detect"]["params"]["event"] for params in customer.said("calling.call.detect")]
    assert events == ["MACHINE" if type_ == "machine" else "CNG", "finished"]
    phone.hang_up()


@pytest.mark.parametrize(
    ("reason", "told"), [("hangup", "hangup"), ("busy", "busy"), ("decline", "declined"), ("error", "error")]
)
def test_the_reason_a_call_is_ended_for_is_what_is_told(house, talking, reason, told):
    phone, call = talking()

    ask(call, "calling.end", reason=reason)

    phone.wait_hung_up()
    assert house.ended.end_reason == told


@pytest.mark.parametrize(
    ("reason", "told", "status"),
    [("busy", "busy", 486), ("decline", "declined", 603), ("cancel", "cancel", 487), ("noAnswer", "no_answer", 480)],
)
def test_a_call_that_rings_is_refused_with_the_reasons_status(house, new_phone, reason, told, status):
    house.document({"play": {"url": "silence:30", "auto_answer": False}})
    phone = new_phone(call=True)
    until(lambda: "ringing" in house.states(), 5.0, "the call")
    (call,) = house.server.calls

    ask(call, "calling.end", reason=reason)

    until(lambda: phone.final, 5.0, "the answer")
    assert phone.final == status
    assert house.ended.end_reason == told


def test_a_transfer_leaves_what_plays(house, talking):
    phone, call = talking({"play": "silence:30"}, {"set": {"never": 1}})
    until(lambda: house.controls("play") == ["playing"], 5.0, "the play")

    ask(call, "calling.transfer", dest={"sections": {"main": [{"set": {"there": 1}}, {"hangup": {}}]}})

    phone.wait_hung_up()
    assert house.variables["there"] == 1
    assert "never" not in house.variables
