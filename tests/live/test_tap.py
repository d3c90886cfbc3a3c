"""The audio of live calls as RTP at a recorder, through the hub."""

import numpy as np
import pytest

from fsctl.call.events import ControlChanged
from tests.live.media import wav
from tests.live.phone import linear, seconds_of, tone, until
from tests.streams.packets import Receiver

pytestmark = pytest.mark.live

CALLER, SOUND = 1000, 2600


@pytest.fixture
def hub(open_house, directory):
    return open_house(streams={"mode": "hub", "directory": str(directory)})


@pytest.fixture
def new_recorder():
    recorders = []

    def made():
        recorders.append(Receiver())
        return recorders[-1]

    yield made
    for recorder in recorders:
        recorder.close()


def heard(recorder):
    """What it was sent, as samples; nothing may be missing, and nothing out of its place."""
    return linear(b"".join(packet.payload for packet in recorder.in_order()))


def test_each_direction_of_a_call_at_its_own_recorder(hub, customer, new_phone, new_recorder):
    customer.files["/sound.wav"] = wav(tone(SOUND, 1.0))
    recorders = {direction: new_recorder() for direction in ("speak", "listen", "both")}
    hub.document(
        *(
            {
                "tap": {
                    "uri": recorder.uri,
                    "direction": direction,
                    "control_id": direction,
                    "status_url": f"{customer.url}/tap",
                }
            }
            for direction, recorder in recorders.items()
        ),
        {"play": f"{customer.url}/sound.wav"},
        {"stop_tap": {"control_id": "listen"}},
        {"sleep": 300},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(hub.number).wait_answer().wait_hung_up()
    assert hub.warnings == []
    assert (hub.variables["tap_result"], hub.variables["stop_tap_result"]) == ("success", "success")
    speak, listen, both = (heard(recorders[name]) for name in ("speak", "listen", "both"))
    assert seconds_of(speak, CALLER) > 1.0
    assert seconds_of(listen, SOUND) == pytest.approx(1.0, abs=0.15)
    assert seconds_of(both, SOUND) == pytest.approx(1.0, abs=0.15)
    assert seconds_of(both, CALLER) > 1.0
    assert seconds_of(speak, SOUND) == 0
    assert seconds_of(listen, CALLER) == 0
    assert len(listen) < len(speak)
    assert set(recorders["both"].senders) == {("127.0.0.1", hub.variables["tap_rtp_src_port"])}
    until(lambda: len(customer.said("calling.call.tap")) == 6, 5.0, "the webhooks")
    for direction, recorder in recorders.items():
        told = [params for params in customer.said("calling.call.tap") if params["control_id"] == direction]
        assert [params["state"] for params in told] == ["tapping", "finished"]
        device = {"addr": "127.0.0.1", "port": recorder.port, "codec": "PCMU", "ptime": 20}
        assert {str(params["device"]) for params in told} == {str({"type": "rtp", "params": device})}


@pytest.mark.parametrize("ptime", [10, 60])
def test_the_pace_is_that_of_the_call(hub, new_phone, new_recorder, ptime):
    recorder = new_recorder()
    hub.document({"tap": {"uri": recorder.uri, "rtp_ptime": ptime}}, {"sleep": 1500}, {"stop_tap": {}}, {"sleep": 200})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(hub.number).wait_answer().wait_hung_up()
    assert len(recorder.packets) == pytest.approx(1500 / ptime, rel=0.15)
    assert {len(packet.payload) for packet in recorder.packets} == {8 * ptime}
    assert seconds_of(heard(recorder), CALLER) == pytest.approx(1.5, abs=0.25)


def test_a_party_that_hangs_up_ends_its_taps(hub, new_phone, new_recorder):
    recorder = new_recorder()
    hub.document({"tap": {"uri": recorder.uri, "control_id": "t"}}, {"sleep": -1})
    phone = new_phone(call=True).wait_answer()
    recorder.wait(10)
    phone.hang_up()
    until(lambda: hub.of(ControlChanged, control_id="t", state="finished"), 5.0, "the tap's end")
    assert hub.ended.end_reason == "hangup"


def test_a_recorder_that_is_not_there_is_sent_to_and_may_come_later(hub, new_phone, new_recorder):
    gone = new_recorder()
    gone.close()
    hub.document({"tap": {"uri": gone.uri, "control_id": "t"}}, {"sleep": -1})
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(hub.number).wait_answer()
    until(lambda: hub.of(ControlChanged, control_id="t", state="tapping"), 5.0, "the tap")
    late = Receiver(gone.port)
    try:
        late.wait(25)
        samples = np.concatenate([linear(packet.payload) for packet in late.packets])
    finally:
        late.close()
    assert seconds_of(samples, CALLER) > 0.3
    assert not hub.of(ControlChanged, control_id="t", state="finished")
    phone.hang_up()


def test_taps_and_streams_live_side_by_side(hub, new_phone, new_endpoint, new_recorder):
    endpoint, recorder = new_endpoint(), new_recorder()
    hub.document(
        {"stream": {"url": endpoint.url, "control_id": "same"}},
        {"tap": {"uri": recorder.uri, "control_id": "same"}},
        {"tap": {"uri": endpoint.url, "control_id": "other", "direction": "both"}},
        {"sleep": 500},
        {"stop_stream": {}},
        {"sleep": 500},
    )
    phone = new_phone()
    phone.say(tone(CALLER, 1.0))
    phone.call(hub.number).wait_answer().wait_hung_up()
    assert hub.warnings == []
    assert seconds_of(heard(recorder), CALLER) > 0.7  # it goes on after the stream
    starts = {start["start"]["streamSid"]: start["start"]["tracks"] for start in endpoint.said("start")}
    assert starts == {"same": ["inbound"], "other": ["inbound", "outbound"]}
