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
        ("uuid_answer nobody", "-ERROR No such channel!\n"),
        ("uuid_displace {uuid} start /nowhere.wav", "-ERR Cannot displace session!\n"),
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
    assert operator.ask("auth wrong").reply == "-ERR invalid"
    assert operator.ask("auth ClueCon").reply == "+OK accepted"
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
    assert [m.reply or m.headers["Content-Disposition"] for m in operator.closed()] == ["+OK bye", "disconnect"]


def test_closing_the_switch_ends_everything(desk, closed):
    switch = desk.switch()
    call = switch.call()
    application = desk.arrived()
    application.take()
    switch.close()
    with pytest.raises(closed):
        application.next()
    assert switch.channel(call.uuid, ended=True) is None
