"""Every way a switch can be made to misbehave does what it says."""

from __future__ import annotations

import json

import pytest

from fsctl.simulator import Drop, Nasty

EVENTS = "CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE PLAYBACK_STOP CHANNEL_ANSWER CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE"


def taken(desk, nasty, **settings):
    switch = desk.switch(**settings)
    call = switch.call(nasty=nasty)
    application = desk.arrived()
    application.take(EVENTS)
    return switch, call, application


@pytest.mark.parametrize("where", ["header", "body", "reply"])
def test_the_connection_is_cut_in_an_event(desk, where):
    _, call, application = taken(desk, Nasty(drop=Drop(where, "CHANNEL_ANSWER")))
    application.execute("answer", uuid="op")
    rest = application.closed()
    assert "CHANNEL_ANSWER" not in [message.name for message in rest]
    assert call.answered
    assert call.wait_until_over(5)


@pytest.mark.parametrize("at", ["connect", "linger", "sendmsg answer", "sendmsg", "api uuid_exists", "api"])
def test_the_connection_is_cut_before_a_reply(desk, closed, at):
    call = desk.switch().call(nasty=Nasty(drop=Drop("reply", at)))
    application = desk.arrived()

    def talk():
        application.take(EVENTS)
        application.execute("answer", uuid="op")
        application.api(f"uuid_exists {call.uuid}")

    with pytest.raises(closed):
        talk()


@pytest.mark.parametrize("at", ["linger", "api uuid_record", "sendmsg playback"])
def test_a_command_is_refused(desk, at):
    _, call, application = taken(desk, Nasty(refuse={at: "-ERR not today"}))
    before = len(call.applications)
    replies = [
        application.ask("linger 3").reply,
        application.ask(f"api uuid_record {call.uuid} start /nowhere/x.wav").reply,
        application.ask("sendmsg\ncall-command: execute\nexecute-app-name: playback").reply,
    ]
    assert [reply == "-ERR not today" for reply in replies] == [
        at == one for one in ("linger", "api uuid_record", "sendmsg playback")
    ]
    assert len(call.applications) - before <= 1


def test_replies_come_late(desk):
    switch, _, application = taken(desk, Nasty(reply_delay=2.0))
    began = switch.clock.monotonic()
    application.ask("linger 3")
    assert switch.clock.monotonic() - began >= 2.0


def test_events_come_late(desk):
    switch, call, application = taken(desk, Nasty(event_delay=2.0))
    application.execute("answer", uuid="op")
    application.until("CHANNEL_ANSWER")
    assert switch.clock.now() - switch.live(call.uuid).answered_at >= 2.0


def test_events_come_before_the_reply(desk):
    _, _, application = taken(desk, Nasty(events_first=True))
    application.send("sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=b\n\n")
    assert [application.next().name or "reply" for _ in range(3)] == [
        "CHANNEL_EXECUTE",
        "CHANNEL_EXECUTE_COMPLETE",
        "reply",
    ]


def test_the_park_begins_between_a_command_and_its_reply(desk):
    desk.switch().call(nasty=Nasty(park_at=2))
    application = desk.arrived()
    application.ask("connect")
    application.ask("events plain CHANNEL_PARK")
    application.send("linger 3\n\n")
    assert [application.next().name or "reply" for _ in range(2)] == ["CHANNEL_PARK", "reply"]


def test_the_caller_leaves_in_the_middle_of_an_application(desk):
    _, call, application = taken(desk, Nasty(hang_up_during="playback", hang_up_after=0.5))
    application.execute("playback", "silence_stream://60000", "op")
    assert application.until("PLAYBACK_STOP").event["Answer-State"] == "hangup"
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.applications[1].ended - call.applications[1].started < 5


def test_poison_forges_nothing_in_what_is_decoded_by_the_rules(desk):
    call = desk.switch().call(nasty=Nasty(poison=True))
    application = desk.arrived()
    application.take(EVENTS)
    connect = application.messages[0]
    assert connect.headers["Unique-ID"] == call.uuid
    assert "forged" in connect.headers["Caller-Caller-ID-Name"]
    assert "\nUnique-ID: forged" in connect.headers["Caller-Caller-ID-Name"]
    assert "Unique-ID: forged" in connect.headers["variable_sip_h_X-Poison"]
    done = application.run("answer")
    assert (done.event["Unique-ID"], done.event["variable_sip_h_X-Poison"].count("%0A")) == (call.uuid, 2)


def test_bytes_that_are_no_utf8(desk):
    _, _, application = taken(desk, Nasty(invalid_utf8=True))
    done = application.run("answer")
    with pytest.raises(UnicodeDecodeError):
        done.body.decode()
    assert json.loads(done.body.decode("utf-8", "replace"))["Application"] == "answer"
    assert b"variable_sip_h_X-Broken: caf%E9%20%FF\n" in application_raw(desk)


def application_raw(desk):
    channel = next(iter(desk._switches[0]._channels.values()))
    return b"".join(said.data for said in channel.transcript if said.who == "freeswitch")


def test_garbage(desk):
    call = desk.switch().call(nasty=Nasty(garbage_after=2))
    application = desk.arrived()
    application.ask("connect")
    application.ask("linger 2")
    application.send("noevents\n\n")
    assert application.next().kind == ""
    assert application.next().reply == "+OK no longer listening for events"
    assert call.hangup_cause == ""


@pytest.mark.parametrize("size", [1, 7])
def test_tiny_packets(desk, size):
    _, _, application = taken(desk, Nasty(fragment=size))
    assert application.run("answer").event["Application-Response"] == "_none_"


def test_an_application_whose_end_is_never_told(desk):
    _, call, application = taken(desk, Nasty(lost=frozenset({"playback"})))
    application.execute("playback", "silence_stream://20", "op", event_lock="true")
    application.run("set", "a=b", "after", event_lock="true")
    ended = [m.event["Application-UUID"] for m in application.messages if m.name == "CHANNEL_EXECUTE_COMPLETE"]
    assert ended == ["after"]
    assert call.applications[1].ended


def test_events_that_come_twice(desk):
    _, _, application = taken(desk, Nasty(duplicated=frozenset({"CHANNEL_ANSWER"})))
    application.run("answer")
    answers = [m.event["Event-Sequence"] for m in application.messages if m.name == "CHANNEL_ANSWER"]
    assert len(answers) == 2
    assert len(set(answers)) == 1


def test_no_notice_at_the_end(desk):
    _, call, application = taken(desk, Nasty(close_without_notice=True))
    application.ask("nolinger")
    call.hangup()
    assert "text/disconnect-notice" not in [message.kind for message in application.closed()]
