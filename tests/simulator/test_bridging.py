"""``bridge`` against parties that answer, refuse or let it ring: freeswitch 4.10."""

from __future__ import annotations

import pytest

from fsctl.simulator import Party
from fsctl.simulator.bridging import dialled

EVENTS = "CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP_COMPLETE"
PARTIES = {
    "100": Party(after=0.5, talks=1.0),
    "200": Party(cause="USER_BUSY"),
    "300": Party(cause="NO_ANSWER"),
    "400": Party(after=2.0),
    "500": Party(cause="CALL_REJECTED", after=0.2),
}


def taken(desk, **variables):
    switch = desk.switch(parties=PARTIES)
    call = switch.call(variables=variables)
    application = desk.arrived()
    application.take(EVENTS)
    application.run("answer", uuid="op-answer")
    return call, application


@pytest.mark.parametrize(
    ("dialled", "disposition", "status"),
    [
        ("sofia/internal/100@h", "SUCCESS", "SUCCESS"),
        ("sofia/gateway/gw/100", "SUCCESS", "SUCCESS"),
        ("loopback/100/default", "SUCCESS", "SUCCESS"),
        ("user/200|user/100", "SUCCESS", "SUCCESS"),
        ("user/200,user/100,user/400", "SUCCESS", "SUCCESS"),
        ("sofia/internal/200@h", "USER_BUSY", "BUSY"),
        ("[leg_timeout=1]user/300", "NO_ANSWER", "NOANSWER"),
        ("{originate_timeout=1}user/400", "NO_ANSWER", "NOANSWER"),
        ("[leg_timeout=1]user/300|user/100", "NO_ANSWER", "NOANSWER"),
        ("error/UNALLOCATED_NUMBER", "UNALLOCATED_NUMBER", "INVALIDARGS"),
    ],
)
def test_dispositions(desk, dialled, disposition, status):
    _, application = taken(desk, continue_on_fail="true")
    done = application.run("bridge", dialled).event
    assert (done["variable_originate_disposition"], done["variable_DIALSTATUS"]) == (disposition, status)


def test_a_bridge_is_told_with_both_sides(desk):
    call, application = taken(desk)
    application.execute("bridge", "{origination_uuid=b-leg}sofia/internal/100@h", "op")
    bridged = application.until("CHANNEL_BRIDGE").event
    assert (bridged["Bridge-A-Unique-ID"], bridged["Bridge-B-Unique-ID"]) == (call.uuid, "b-leg")
    assert bridged["Other-Leg-Unique-ID"] == "b-leg"
    assert application.until("CHANNEL_UNBRIDGE").event["variable_bridge_hangup_cause"] == "NORMAL_CLEARING"
    application.until("CHANNEL_EXECUTE_COMPLETE")
    assert call.hangup_cause == ""


@pytest.mark.parametrize(
    ("wanted", "dialled", "cause"),
    [
        ({}, "user/200", "USER_BUSY"),
        ({}, "[leg_timeout=1]user/300", ""),
        ({"continue_on_fail": "true"}, "user/200", ""),
        ({"continue_on_fail": "USER_BUSY,NO_ANSWER"}, "user/200", ""),
        ({"continue_on_fail": "USER_BUSY"}, "user/500", "CALL_REJECTED"),
        ({"hangup_after_bridge": "true"}, "user/100", "NORMAL_CLEARING"),
    ],
)
def test_what_becomes_of_the_caller(desk, wanted, dialled, cause):
    call, application = taken(desk, **wanted)
    done = application.run("bridge", dialled).event
    assert call.hangup_cause == cause
    assert done.get("Hangup-Cause", "") == cause


def test_the_caller_may_leave_a_bridge(desk):
    call, application = taken(desk)
    application.execute("bridge", "user/anybody", "op")
    application.until("CHANNEL_BRIDGE")
    call.hangup()
    assert application.until("CHANNEL_UNBRIDGE").event["Answer-State"] == "hangup"


def test_dial_strings(desk):
    switch = desk.switch(parties=PARTIES)
    call = switch.call()
    channel = switch.live(call.uuid)
    text = (
        "{originate_timeout=9,a=b}[leg_timeout=3,c=d]sofia/gateway/gw/100,user/200@x|[leg_timeout=20]loopback/400/ctx"
    )
    groups = dialled(channel, text)
    assert [[(leg.number, leg.timeout) for leg in legs] for legs in groups] == [
        [("100", 3.0), ("200", 9.0)],
        [("400", 9.0)],
    ]
