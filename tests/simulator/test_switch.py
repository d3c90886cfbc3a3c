"""Several calls, inbound connections, and the switch's own commands."""

from __future__ import annotations

import time

import pytest


def test_calls_hear_only_of_themselves(desk):
    switch = desk.switch()
    calls = [switch.call(caller=f"+1555010{n}") for n in range(5)]
    applications = [desk.arrived() for _ in calls]
    for application in applications:
        application.take("CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP_COMPLETE")
    for application in applications:
        application.execute("set", "a=b", application.uuid)
    for application in applications:
        done = application.until("CHANNEL_EXECUTE_COMPLETE")
        assert done.event["Application-UUID"] == done.event["Unique-ID"] == application.uuid
    assert {call.uuid for call in calls} == {application.uuid for application in applications}
    assert switch.peak == 5
    for call in calls:
        call.hangup()
    for application in applications:
        application.until("CHANNEL_HANGUP_COMPLETE")
        application.send("exit\n\n")
    assert all(call.join(5) for call in calls)
    assert switch.live_count == 0
    assert not switch._owned
    assert not switch._broad


def test_one_call_may_act_on_another(desk):
    switch = desk.switch()
    first, second = switch.call(), switch.call()
    applications = {}
    for _ in range(2):
        application = desk.arrived()
        application.take()
        applications[application.uuid] = application
    assert applications[first.uuid].api(f"uuid_kill {second.uuid} USER_BUSY") == "+OK\n"
    applications[second.uuid].until("CHANNEL_HANGUP_COMPLETE")
    assert (first.hangup_cause, second.hangup_cause) == ("", "USER_BUSY")


def test_numbers_of_events_go_up(desk):
    desk.switch().call()
    application = desk.arrived()
    application.take("ALL")
    application.run("answer")
    numbers = [int(m.event["Event-Sequence"]) for m in application.messages if m.name]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("form", ["plain", "json"])
def test_events_with_variables_have_a_real_events_size(desk, form):
    desk.switch().call()
    application = desk.arrived()
    application.ask("connect")
    application.ask(f"events {form} CHANNEL_EXECUTE_COMPLETE CHANNEL_STATE")
    done = application.run("answer")
    assert 5000 < len(done.body) < 10000


def test_real_ticks_take_real_time(desk):
    switch = desk.switch(speed=1.0, tick=0.02)
    switch.call()
    application = desk.arrived()
    application.take()
    began = time.monotonic()
    application.run("answer")
    assert 0.01 < time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    ("command", "start"),
    [
        ("status", "UP 0 years, 0 days, "),
        ("version short", "1.10.12"),
        ("show channels count", "\n1 total.\n"),
        ("show channels as json", '{"row_count":1,"rows":[{"uuid":"'),
        ("module_exists mod_audio_stream", "true"),
        ("module_exists mod_nothing", "false"),
        ("global_getvar domain", "127.0.0.1"),
        ("hostname", "simulator"),
        ("expr 2*(3+4)", "14"),
        ("expr __import__('os')", "ERR"),
        ("uuid_dump {uuid} json", '{"Event-Name":"CHANNEL_DATA"'),
        ("uuid_dump {uuid}", "Event-Name: CHANNEL_DATA\n"),
        ("uuid_audio {uuid} start write level 2", "+OK Success\n"),
        ("uuid_audio {uuid} start write", "-USAGE: "),
        ("uuid_audio {uuid} stop", "+OK Success\n"),
        ("uuid_preprocess {uuid} r.agc=1", "+OK\n"),
        ("uuid_answer {uuid}", "+OK\n"),
        ("uuid_answer nobody", "-ERROR\n"),
        ("uuid_answer", "-ERROR\n"),
        ("uuid_pre_answer {uuid}", "+OK\n"),
        ("uuid_pre_answer nobody", "-ERROR\n"),
        ("uuid_displace {uuid} start /nowhere.wav", "-ERR Cannot displace session!\n"),
        ("uuid_displace {uuid} start tone_stream://%(100,0,440) 0 m", "+OK Success\n"),
        ("uuid_displace {uuid} start tts://flite|slt|hello 0 m", "-ERR Cannot displace session!\n"),
        ("uuid_displace {uuid} stop /nowhere.wav", "-ERR Cannot stop displace session!\n"),
        ("uuid_displace {uuid} pause /nowhere.wav", "-USAGE: "),
        ("uuid_displace {uuid} start", "-USAGE: "),
        ("uuid_displace nobody start /nowhere.wav", "-ERR Cannot locate session!\n"),
        ("show file", "type,name,ikey\nfile,"),
    ],
)
def test_api_commands(desk, command, start):
    call = desk.switch().call()
    application = desk.arrived()
    application.ask("connect")
    assert application.api(command.format(uuid=call.uuid)).startswith(start)


def test_a_customers_text_can_unload_the_event_socket(desk):
    switch = desk.switch()
    switch.call()
    application = desk.arrived()
    application.ask("connect")
    application.ask("filter X unload mod_event_socket")
    assert switch.unloaded == ["mod_event_socket"]


def test_inbound_connections(desk, connect_to):
    switch = desk.switch()
    operator = connect_to(switch.listen())
    assert operator.next().kind == "auth/request"
    assert operator.ask("api status").reply == "-ERR command not found"
    assert operator.ask("auth ClueCon").reply == "+OK accepted"
    assert operator.ask("auth ClueCon").reply == "-ERR command not found"
    operator.ask("events json CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_EXECUTE_COMPLETE BACKGROUND_JOB")
    call = switch.call()
    desk.arrived().take()
    assert operator.until("CHANNEL_CREATE").event["Unique-ID"] == call.uuid
    operator.ask(f"sendmsg {call.uuid}\ncall-command: execute\nexecute-app-name: answer\nEvent-UUID: op")
    assert operator.until("CHANNEL_EXECUTE_COMPLETE").event["Application-UUID"] == "op"
    operator.ask(f"bgapi uuid_kill {call.uuid}\nJob-UUID: j")
    assert operator.until("BACKGROUND_JOB").event["_body"] == "+OK\n"
    operator.until("CHANNEL_DESTROY")
    operator.send("exit\n\n")
    replied, notice = operator.closed()
    assert replied.reply == "+OK bye"
    assert (notice.kind, "Content-Disposition" in notice.headers) == ("text/disconnect-notice", False)
    assert notice.body.startswith(b"Disconnected, goodbye.\n")


def test_a_wrong_password_ends_an_inbound_connection(desk, connect_to):
    operator = connect_to(desk.switch().listen())
    operator.next()
    assert operator.ask("auth wrong").reply == "-ERR invalid"
    assert [m.kind for m in operator.closed()] == ["text/disconnect-notice"]


def test_the_access_control_list_turns_inbound_connections_away(desk, connect_to):
    operator = connect_to(desk.switch(turns_away=True).listen())
    (rejection,) = operator.closed()
    assert (rejection.kind, rejection.body) == ("text/rude-rejection", b"Access Denied, go away.\n")


def inbound(connect_to, address, *commands):
    operator = connect_to(address)
    operator.next()
    for command in ("auth ClueCon", *commands):
        assert operator.ask(command).reply.startswith("+OK")
    return operator


def test_heartbeats(desk, connect_to):
    switch = desk.switch(heartbeat=2.0)
    operator = inbound(connect_to, switch.listen(), "events json HEARTBEAT")
    switch.call()
    desk.arrived()
    first, second = (operator.until("HEARTBEAT").event for _ in range(2))
    assert (first["Event-Info"], first["Core-UUID"]) == ("System Ready", operator.api("global_getvar core_uuid"))
    assert int(second["Uptime-msec"]) - int(first["Uptime-msec"]) >= 1900
    assert second["Session-Count"] == "1"


def test_inbound_connections_can_be_dropped(desk, connect_to):
    switch = desk.switch()
    call = switch.call()
    application = desk.arrived()
    application.take()
    address = switch.listen()
    operator = inbound(connect_to, address)
    switch.drop_inbound()
    assert operator.closed() == []
    operator = inbound(connect_to, address)
    switch.drop_inbound(listening=False)
    assert operator.closed() == []
    with pytest.raises(ConnectionRefusedError):
        connect_to(address)
    assert switch.listen(*address) == address
    inbound(connect_to, address)
    assert application.api(f"uuid_exists {call.uuid}") == "true"
    assert not switch.inbound - {one for one in switch.inbound if not one.finished.is_set()}


def test_a_restart_loses_the_calls_and_changes_the_core_uuid(desk, connect_to, closed):
    switch = desk.switch()
    call = switch.call()
    application = desk.arrived()
    application.take()
    address = switch.listen()
    operator = inbound(connect_to, address)
    before = operator.api("global_getvar core_uuid")
    switch.restart()
    assert operator.closed() == []
    with pytest.raises(closed):
        application.next()
    operator = inbound(connect_to, address)
    assert operator.api("global_getvar core_uuid") not in ("", before)
    assert operator.api(f"uuid_exists {call.uuid}") == "false"


def test_the_end_of_a_job_without_output_has_no_body(desk, connect_to):
    operator = inbound(connect_to, desk.switch().listen(), "events json BACKGROUND_JOB")
    operator.ask("bgapi global_getvar nothing\nJob-UUID: j")
    done = operator.until("BACKGROUND_JOB").event
    assert (done["Job-UUID"], done["_body"], "Job-Owner-UUID" in done) == ("j", "", False)
    assert operator.api("global_getvar nothing") == "-ERR no reply\n"


def test_closing_the_switch_ends_everything(desk, closed):
    switch = desk.switch()
    call = switch.call()
    application = desk.arrived()
    application.take()
    switch.close()
    with pytest.raises(closed):
        application.next()
    assert switch.channel(call.uuid, ended=True) is None
