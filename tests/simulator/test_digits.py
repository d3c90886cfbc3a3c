"""Digits: freeswitch 3.3 and 4.5."""

from __future__ import annotations

import pytest

from fsctl.simulator import Caller

EVENTS = "DTMF CHANNEL_EXECUTE_COMPLETE PLAYBACK_START PLAYBACK_STOP CHANNEL_HANGUP_COMPLETE"


def taken(desk, behaviour=None):
    call = desk.switch().call(behaviour=behaviour)
    application = desk.arrived()
    application.take(EVENTS)
    application.run("answer", uuid="op-answer")
    return call, application


def pressed(application):
    return "".join(m.event["DTMF-Digit"] for m in application.messages if m.name == "DTMF")


def test_a_scripted_caller_presses_keys_while_parked(desk):
    _, application = taken(desk, Caller(digits="1w2#", digits_after=0.5))
    application.until(lambda m: m.event.get("DTMF-Digit") == "#")
    assert pressed(application) == "12#"
    assert application.messages[-1].event["DTMF-Source"] == "RTP"


def test_the_keys_can_wait_for_an_application(desk):
    _call, application = taken(desk, Caller(digits="7", digits_after=0.2, digits_on="playback"))
    application.execute("playback", "silence_stream://1000", "op")
    application.until("PLAYBACK_START")
    application.until("DTMF")
    application.until("PLAYBACK_STOP")
    assert pressed(application) == "7"


@pytest.mark.parametrize(
    ("terminators", "digits", "status", "used"),
    [
        (None, "1*", "break", "*"),
        ("none", "1*", "done", None),
        ("any", "1", "break", "1"),
        ("#", "*#", "break", "#"),
    ],
)
def test_terminators_of_a_playback(desk, terminators, digits, status, used):
    call, application = taken(desk)
    if terminators:
        application.api(f"uuid_setvar {call.uuid} playback_terminators {terminators}")
    application.execute("playback", "silence_stream://1000", "op")
    application.until("PLAYBACK_START")
    call.press(digits)
    stop = application.until("PLAYBACK_STOP").event
    assert (stop["Playback-Status"], stop.get("variable_playback_terminator_used")) == (status, used)
    assert pressed(application) == digits


def test_digits_wait_where_nobody_reads_them(desk):
    call, application = taken(desk)
    application.execute("sleep", "500", "op")
    call.press("5")
    application.until(lambda m: m.event.get("Application-UUID") == "op")
    assert pressed(application) == ""
    application.until("DTMF")


def test_sensitive_digits_are_not_told(desk):
    call, application = taken(desk)
    application.api(f"uuid_setvar {call.uuid} sensitive_dtmf true")
    application.execute("playback", "silence_stream://500", "op")
    call.press("5")
    application.until("PLAYBACK_STOP")
    assert pressed(application) == ""


ASK = "{least} {most} {tries} 1500 # silence_stream://100 silence_stream://50 got \\d+ 500"


@pytest.mark.parametrize(
    ("digits", "least", "most", "tries", "result", "got", "invalid"),
    [
        ("12#", 1, 4, 1, "success", "12", None),
        ("1234", 1, 4, 1, "success", "1234", None),
        ("12", 1, 4, 1, "success", "12", None),
        ("", 1, 4, 2, "failure", None, None),
        ("*#", 1, 4, 1, "failure", None, "*"),
        ("1", 2, 4, 1, "failure", None, "1"),
    ],
    ids=["terminator", "full", "pause", "nothing", "no match", "too few"],
)
def test_play_and_get_digits(desk, digits, least, most, tries, result, got, invalid):
    _, application = taken(desk, Caller(digits=digits, digits_after=0.05, digits_on="play_and_get_digits"))
    argument = ASK.format(least=least, most=most, tries=tries)
    done = application.run("play_and_get_digits", argument.replace("\\", "\\\\")).event
    assert done["variable_read_result"] == result
    assert done.get("variable_got") == got
    assert done.get("variable_got_invalid") == invalid
    assert done["Application-Response"] == "_none_"


@pytest.mark.parametrize(("digits", "result", "got"), [("45#", "success", "45"), ("", "timeout", None)])
def test_read(desk, digits, result, got):
    _, application = taken(desk, Caller(digits=digits, digits_after=0.05, digits_on="read"))
    done = application.run("read", "1 4 silence_stream://100 got 1000 #").event
    assert (done["variable_read_result"], done.get("variable_got")) == (result, got)


def test_received_digits_can_be_injected_and_dropped(desk):
    call, application = taken(desk)
    assert application.api(f"uuid_recv_dtmf {call.uuid} 1@300") == f"+OK {call.uuid} received DTMF 1@300.\n"
    event = application.until("DTMF").event
    assert (event["DTMF-Source"], event["DTMF-Duration"]) == ("APP", "2400")
    application.execute("sleep", "300", "op")
    call.press("9")
    assert application.api(f"uuid_flush_dtmf {call.uuid}") == "+OK\n"
    application.until(lambda m: m.event.get("Application-UUID") == "op")
    application.run("playback", "silence_stream://100", "after")
    assert pressed(application) == "1"


def test_digits_can_be_sent(desk):
    call, application = taken(desk)
    application.run("send_dtmf", "12w@100+3@500")
    assert application.api(f"uuid_send_dtmf {call.uuid} 9w8@200") == f"+OK {call.uuid} sent DTMF 9w8@200.\n"
    assert application.api(f"uuid_getvar {call.uuid} last_dtmf_duration") == str(3 * (200 + 250))
    application.run("send_dtmf", "1" * 100, uuid="too-many")
    assert application.api(f"uuid_send_dtmf {call.uuid} {'1' * 100}") == "-ERR Operation failed\n"
    assert call.sent_digits == "12w39w8"
