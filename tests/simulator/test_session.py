"""The life of a session behind an outbound socket: freeswitch 1.6 to 1.12."""

from __future__ import annotations

import gevent
import pytest

from fsctl.simulator import Caller

LIFE = "CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_ANSWER CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_STATE"
PLAY = "PLAYBACK_START PLAYBACK_STOP CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE"
LONG = "silence_stream://60000"


def taken(desk, events=LIFE, answered=True, **settings):
    call_settings = {
        key: settings.pop(key) for key in ("behaviour", "variables", "dialplan", "nasty") if key in settings
    }
    switch = desk.switch(**settings)
    call = switch.call(**call_settings)
    application = desk.arrived()
    application.take(events)
    if answered:
        application.run("answer", uuid="op-answer")
    return switch, call, application


def names(messages):
    return [message.name for message in messages if message.name]


# -- connect and commands ----------------------------------------------------------------------------------------


def test_connect_tells_who_calls(desk):
    switch = desk.switch()
    switch.call(
        destination="1234",
        caller="+15550100",
        variables={"swml_url": "http://h/d?a=b&c=%41"},
        behaviour=Caller(headers={"X-Account": "seven & half"}),
    )
    application = desk.arrived()
    reply = application.ask("connect")
    assert reply.headers["Channel-Destination-Number"] == "1234"
    assert reply.headers["Caller-Caller-ID-Number"] == "+15550100"
    assert reply.headers["variable_swml_url"] == "http://h/d?a=b&c=A"
    assert reply.headers["variable_sip_h_X-Account"] == "seven & half"
    assert reply.headers["Answer-State"] == "ringing"
    assert reply.names[-4:] == ["Content-Type", "Reply-Text", "Socket-Mode", "Control"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("linger", "+OK will linger"),
        ("linger 7", "+OK will linger 7 seconds"),
        ("nolinger", "+OK will not linger"),
        ("events json", "-ERR no keywords supplied"),
        ("events plain DTMF", "+OK event listener enabled plain"),
        ("event json DTMF", "+OK event listener enabled json"),
        ("nixevent DTMF", "+OK events nixed"),
        ("noevents", "+OK no longer listening for events"),
        ("filter Unique-ID x", "+OK filter added. [Unique-ID]=[x]"),
        ("filter add Unique-ID x", "+OK filter added. [Unique-ID]=[x]"),
        ("filter Unique-ID", "-ERR invalid syntax"),
        ("filter delete Unique-ID x", "+OK filter deleted. [Unique-ID][x]"),
        ("getvar direction", "inbound"),
        ("getvar unset_one", "-ERR command not found"),
        ("resume", "+OK"),
        ("sendmsg not-a-call", "-ERR invalid session id [not-a-call]"),
        ("sendmsg", "+OK"),
        ("what is this", "-ERR command not found"),
    ],
)
def test_replies(desk, command, reply):
    desk.switch().call()
    application = desk.arrived()
    application.ask("connect")
    assert application.ask(command).reply == reply


def test_myevents_works_once_and_brings_no_playback_events(desk):
    _, _, application = taken(desk, "CHANNEL_EXECUTE_COMPLETE")
    assert application.ask("myevents").reply == "+OK Events Enabled"
    assert application.ask("myevents").reply == "-ERR aready enabled."
    application.run("playback", "silence_stream://20")
    assert "PLAYBACK_START" not in names(application.messages)
    assert "CHANNEL_EXECUTE" in names(application.messages)


def test_api_and_bgapi(desk):
    _, call, application = taken(desk, "BACKGROUND_JOB", answered=False)
    assert application.api("uuid_exists nobody") == "false"
    assert application.api("no_such_thing x") == "-ERR no_such_thing Command not found!\n"
    assert application.api(f"uuid_pause {call.uuid} on") == "-ERR no reply\n"
    reply = application.ask("bgapi create_uuid\nJob-UUID: job-7")
    assert (reply.reply, reply.headers["Job-UUID"]) == ("+OK Job-UUID: job-7", "job-7")
    job = application.until("BACKGROUND_JOB")
    assert (job.event["Job-UUID"], job.event["Job-Owner-UUID"], len(job.event["_body"])) == ("job-7", call.uuid, 36)
    assert call.apis[-1] == "create_uuid"


def test_an_event_can_be_sent(desk):
    _, call, application = taken(desk, "CUSTOM my::thing", answered=False)
    body = '{"a":1}'
    reply = application.ask(
        f"sendevent CUSTOM\nEvent-Subclass: my::thing\nUnique-ID: {call.uuid}\ncontent-length: {len(body)}\n\n{body}"
    )
    assert reply.reply.startswith("+OK ")
    assert application.until("CUSTOM").event["_body"] == body


def test_variables(desk):
    _, call, application = taken(desk)
    ask = application.api
    assert ask(f"uuid_setvar {call.uuid} a it's 'x  y' \\n") == "+OK\n"
    assert ask(f"uuid_getvar {call.uuid} a") == "its x  y' \n"
    assert ask(f"uuid_setvar {call.uuid} b ${{uuid}}") == "+OK\n"
    assert ask(f"uuid_getvar {call.uuid} b") == "${uuid}"
    assert ask(f"uuid_setvar {call.uuid} b") == "+OK\n"
    assert ask(f"uuid_getvar {call.uuid} b") == "_undef_"
    assert ask(f"uuid_setvar_multi {call.uuid} c=1;d=${{uuid}};e=2") == "+OK\n"
    assert [ask(f"uuid_getvar {call.uuid} {name}") for name in "cde"] == ["1", "_undef_", "2"]
    assert call.expanded_apis == []


# -- executing ---------------------------------------------------------------------------------------------------


def test_text_in_an_argument_runs_functions_unless_escaped(desk):
    _, call, application = taken(desk)
    done = application.run("log", "INFO ${system ls} \\${uuid}", uuid="one")
    assert done.event["Application-Data"] == "INFO +OK\n ${uuid}"
    assert call.expanded_apis == ["system ls"]
    application.run("set", r"x=\${uuid}", uuid="two")
    assert call.variables["x"] == call.uuid
    application.run("set", "app_disable_expand_variables=true", uuid="three")
    assert application.run("log", "%[a=b]${system ls}", uuid="four").event["Application-Data"] == "%[a=b]${system ls}"
    assert call.expanded_apis == ["system ls"]


def test_without_lock_the_second_runs_inside_the_first(desk):
    _, call, application = taken(desk)
    application.execute("playback", "silence_stream://2000", "outer")
    application.until(lambda m: m.event.get("Application-UUID") == "outer")
    done = application.run("playback", "silence_stream://100", "inner")
    assert done.event["Application-UUID"] == "inner"
    application.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == "outer")
    outer, inner = call.applications[-2:]
    assert outer.started <= inner.started < inner.ended < outer.ended
    assert outer.ended - outer.started >= 2.0 + (inner.ended - inner.started)


def test_with_lock_one_runs_after_the_other(desk):
    _, call, application = taken(desk)
    for uuid in ("first", "second"):
        application.execute("playback", "silence_stream://300", uuid, event_lock="true")
    application.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == "second")
    first, second = call.applications[-2:]
    assert (first.uuid, second.uuid) == ("first", "second")
    assert first.ended <= second.started


def test_a_priority_lock_gets_in_ahead(desk):
    _, call, application = taken(desk)
    application.execute("playback", "silence_stream://500", "running", event_lock="true")
    application.execute("playback", "silence_stream://20", "waiting", event_lock="true")
    application.execute("set", "a=b", "urgent", event_lock_pri="true")
    application.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == "waiting")
    assert [one.uuid for one in call.applications[-3:]] == ["running", "urgent", "waiting"]


def test_loops_repeat_what_takes_long_enough(desk):
    _, call, application = taken(desk)
    application.execute("playback", "silence_stream://600", "op", loops="3")
    for _ in range(3):
        application.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == "op")
    application.execute("playback", "silence_stream://100", "short", loops="3")
    application.run("set", "a=b", "after")
    assert [one.uuid for one in call.applications[2:]] == ["op", "op", "op", "short", "after"]


def test_the_argument_may_travel_in_a_header(desk):
    _, _, application = taken(desk)
    application.send("sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=b c\nEvent-UUID: h\n\n")
    done = application.until(lambda m: m.name == "CHANNEL_EXECUTE_COMPLETE" and m.event["Application-UUID"] == "h")
    assert (done.event["Application-Data"], done.event["variable_a"]) == ("a=b c", "b c")


def test_an_unknown_application_ends_the_call(desk):
    _, call, application = taken(desk)
    application.execute("no_such_application", "x", "op")
    over = application.until("CHANNEL_HANGUP_COMPLETE")
    assert over.event["Hangup-Cause"] == call.hangup_cause == "DESTINATION_OUT_OF_ORDER"
    assert not [m for m in application.messages if m.event.get("Application-UUID") == "op"]


def test_the_257th_waiting_message_closes_the_socket(desk, closed):
    _, _, application = taken(desk)
    application.execute("playback", LONG, "running", event_lock="true")
    application.until(lambda m: m.event.get("Application-UUID") == "running")
    application.send("sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=b\n\n" * 256)
    for _ in range(256):
        assert application.next().reply == "+OK"
    application.send("sendmsg\ncall-command: execute\nexecute-app-name: set\nexecute-app-arg: a=b\n\n")
    with pytest.raises(closed):
        application.next()


@pytest.mark.parametrize(
    ("all_", "left"), [("", ["playing", "waiting"]), (" all", ["playing"])], ids=["what plays", "what waits too"]
)
def test_break(desk, all_, left):
    _, call, application = taken(desk, PLAY)
    application.execute("playback", LONG, "playing", event_lock="true")
    application.until("PLAYBACK_START")
    application.execute("set", "a=b", "waiting", event_lock="true")
    assert application.api(f"uuid_break {call.uuid}{all_}") == "+OK\n"
    stopped = application.until("PLAYBACK_STOP")
    assert stopped.event["Playback-Status"] == "break"
    application.run("set", "c=d", "last", event_lock="true")
    assert [one.uuid for one in call.applications[2:]] == [*left, "last"]


def test_a_break_before_anything_plays_is_forgotten(desk):
    _, call, application = taken(desk, PLAY)
    application.api(f"uuid_break {call.uuid}")
    application.execute("playback", "silence_stream://200", "op")
    assert application.until("PLAYBACK_STOP").event["Playback-Status"] == "done"


def test_broadcast_comes_after_its_lead_frames(desk):
    _, call, application = taken(desk)
    before = len(call.applications)
    assert application.api(f"uuid_broadcast {call.uuid} set::a=b aleg") == "+OK Message sent\n"
    application.until(lambda m: m.event.get("variable_a") == "b")
    assert call.applications[before].application == "set"
    assert application.api("uuid_broadcast nobody x") == "-ERR invalid uuid\n"


def test_playing_can_be_paused_and_moved(desk):
    switch, call, application = taken(desk, PLAY)
    ask = application.api
    assert ask(f"uuid_fileman {call.uuid} pause") == "-ERR No file handle!\n"
    application.execute("playback", "silence_stream://3000", "op")
    application.until("PLAYBACK_START")
    assert ask(f"uuid_fileman {call.uuid} pause") == "+OK\n"
    switch.clock.sleep(4)
    assert call.applications[-1].ended == 0.0
    assert ask(f"uuid_fileman {call.uuid} seek:2900") == "+OK\n"
    assert ask(f"uuid_fileman {call.uuid} pause") == "+OK\n"
    assert application.until("PLAYBACK_STOP").event["Playback-Status"] == "done"


def test_parameters_of_a_path_become_headers(desk):
    _, _, application = taken(desk, PLAY)
    application.execute("playback", "{opid=7f}silence_stream://20", "op")
    start = application.until("PLAYBACK_START")
    assert (start.event["opid"], start.event_names[-1]) == ("7f", "opid")


def test_a_file_that_is_not_there(desk):
    _, _, application = taken(desk, PLAY)
    done = application.run("playback", "/nowhere/a.wav")
    assert done.event["Application-Response"] == "FILE NOT FOUND"
    assert "PLAYBACK_START" not in names(application.messages)


def test_media_before_the_answer_is_early_media(desk):
    _, call, application = taken(desk, PLAY + " CHANNEL_PROGRESS_MEDIA", answered=False)
    application.execute("playback", "silence_stream://20", "op")
    assert application.until("CHANNEL_PROGRESS_MEDIA").event["Answer-State"] == "early"
    application.until("PLAYBACK_STOP")
    assert not call.answered


def test_speak_has_no_playback_events(desk):
    _, call, application = taken(desk, PLAY)
    done = application.run("speak", "flite|slt|hello world")
    assert done.event["Application-Response"] == "_none_"
    assert "PLAYBACK_START" not in names(application.messages)
    assert call.applications[-1].ended - call.applications[-1].started >= 1.0


def test_speak_without_a_voice_ends_the_call(desk):
    _, call, application = taken(desk)
    application.execute("speak", "flite", "op")
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.hangup_cause == "DESTINATION_OUT_OF_ORDER"


# -- the end -----------------------------------------------------------------------------------------------------


def test_after_a_hangup_the_connection_lingers_and_answers(desk, closed):
    _, call, application = taken(desk)
    call.hangup("NORMAL_CLEARING")
    over = application.until("CHANNEL_HANGUP_COMPLETE")
    assert over.event["variable_sip_hangup_disposition"] == "recv_bye"
    assert application.api(f"uuid_kill {call.uuid}") == "-ERR No such channel!\n"
    assert application.api(f"uuid_exists {call.uuid}") == "false"
    application.execute("playback", "silence_stream://20", "after")
    assert application.ask("connect").headers["Answer-State"] == "hangup"
    assert not call.join(0)
    application.send("exit\n\n")
    rest = application.closed()
    assert rest[0].reply == "+OK bye"
    assert rest[1].headers["Content-Disposition"] == "disconnect"
    assert call.join(5)
    assert "after" not in [one.uuid for one in call.applications]


def test_lingering_ends_by_itself_and_is_measured(desk):
    _, call, application = taken(desk)
    call.hangup()
    messages = application.closed()
    dispositions = [m.headers["Content-Disposition"] for m in messages if m.kind == "text/disconnect-notice"]
    assert dispositions == ["linger", "disconnect"]
    assert call.join(5)
    assert 1.0 < call.lingered < 4.0


def test_without_linger_the_end_is_not_seen(desk):
    call = desk.switch().call()
    application = desk.arrived()
    application.ask("connect")
    application.ask(f"events json {LIFE}")
    call.hangup()
    messages = application.closed()
    assert [m.name or m.headers.get("Content-Disposition") for m in messages] == ["CHANNEL_HANGUP", "disconnect"]


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("api uuid_kill {uuid} USER_BUSY", "USER_BUSY"),
        ("api uuid_kill {uuid} 21", "CALL_REJECTED"),
        ("api uuid_kill {uuid}", "NORMAL_CLEARING"),
        ("sendmsg\ncall-command: hangup\nhangup-cause: CALL_REJECTED", "CALL_REJECTED"),
        ("sendmsg\ncall-command: execute\nexecute-app-name: hangup\nexecute-app-arg: USER_BUSY", "USER_BUSY"),
        ("sendmsg\ncall-command: execute\nexecute-app-name: respond\nexecute-app-arg: 486 Busy Here", "USER_BUSY"),
        ("api sched_hangup +1 {uuid}", "ALLOTTED_TIMEOUT"),
    ],
)
def test_ways_to_end_a_call(desk, command, cause):
    _, call, application = taken(desk, answered=False)
    application.ask(command.format(uuid=call.uuid))
    over = application.until("CHANNEL_HANGUP_COMPLETE")
    assert over.event["Hangup-Cause"] == over.event["variable_hangup_cause"] == call.hangup_cause == cause
    assert over.event["variable_sip_hangup_disposition"] == "send_refuse"
    assert over.event["variable_billsec"] == "0"


def test_a_caller_who_leaves_before_the_answer_is_out(desk):
    switch, call, application = taken(desk, answered=False, behaviour=Caller(gives_up_after=1.0))
    switch.answer_takes = 2.0
    assert application.api(f"uuid_answer {call.uuid}") == "-ERROR\n"
    assert (call.answered, call.hangup_cause) == (False, "ORIGINATOR_CANCEL")


def test_early_media_and_the_answer_by_api(desk):
    _, call, application = taken(desk, "CHANNEL_PROGRESS_MEDIA CHANNEL_ANSWER", answered=False)
    assert application.api(f"uuid_pre_answer {call.uuid}") == "+OK\n"
    assert application.until("CHANNEL_PROGRESS_MEDIA").event["Answer-State"] == "early"
    assert not call.answered
    for _ in range(2):
        assert application.api(f"uuid_answer {call.uuid}") == "+OK\n"
    assert [message.name for message in application.messages].count("CHANNEL_ANSWER") == 1
    assert call.answered


def test_a_scheduled_hangup_can_be_taken_back(desk):
    switch, call, application = taken(desk)
    application.api(f"sched_hangup +1 {call.uuid}")
    assert application.api(f"sched_del {call.uuid}") == "+OK Deleted: 1\n"
    switch.clock.sleep(1.5)
    assert call.hangup_cause == ""


def test_a_caller_who_gives_up(desk):
    _, call, application = taken(desk, answered=False, behaviour=Caller(gives_up_after=2.0))
    over = application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.hangup_cause == "ORIGINATOR_CANCEL"
    assert over.event["variable_sip_hangup_disposition"] == "recv_cancel"


@pytest.mark.parametrize(
    "leaves", ["playback", lambda name, argument: name == "playback" and "60000" in argument], ids=["name", "predicate"]
)
def test_a_caller_who_leaves_when_something_starts(desk, leaves):
    behaviour = Caller(hangs_up_on=leaves, hangs_up_on_after=0.5, hangs_up_cause="NORMAL_UNSPECIFIED")
    _, call, application = taken(desk, PLAY, behaviour=behaviour)
    application.execute("playback", LONG, "op")
    stop = application.until("PLAYBACK_STOP")
    assert (stop.event["Playback-Status"], stop.event["Answer-State"]) == ("done", "hangup")
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.hangup_cause == "NORMAL_UNSPECIFIED"


# -- the socket goes away ----------------------------------------------------------------------------------------


def test_closing_ends_the_call_when_nothing_follows_in_the_dialplan(desk):
    _, call, application = taken(desk)
    application.close()
    assert call.wait_until_over(5)
    assert (call.hangup_cause, call.resumed, call.stranded) == ("NORMAL_CLEARING", False, False)


def test_closing_lets_the_running_application_end_first(desk):
    _, call, application = taken(desk, PLAY)
    application.execute("playback", "silence_stream://3000", "op")
    application.until("PLAYBACK_START")
    application.close()
    assert call.wait_until_over(5)
    assert call.applications[2].ended - call.applications[2].started >= 3.0


def test_with_socket_resume_the_dialplan_goes_on_at_once(desk):
    dialplan = [("socket", f"127.0.0.1:{desk.address[1]} async full"), ("set", "fallback=reached"), ("park", "")]
    _, call, application = taken(desk, PLAY, dialplan=dialplan, variables={"socket_resume": "true"})
    application.execute("playback", LONG, "op")
    application.until("PLAYBACK_START")
    application.close()
    with gevent.Timeout(5):
        while call.variables.get("fallback") != "reached":
            gevent.sleep(0.001)
    assert call.resumed
    assert call.answered
    assert call.hangup_cause == ""


def test_the_dialplan_can_come_back_to_the_socket(desk):
    dialplan = [("socket", f"127.0.0.1:{desk.address[1]} async full"), ("transfer", "again")]
    switch, call, application = taken(desk, dialplan=dialplan, extensions={"again": dialplan})
    application.ask("resume")
    application.close()
    second = desk.arrived()
    second.take()
    assert second.uuid == call.uuid
    assert second.ask("connect").headers["Answer-State"] == "answered"
    assert switch.sessions == 1


def test_a_refused_socket_is_followed_by_the_next_target_and_action(desk):
    dead = "127.0.0.1:9"
    switch = desk.switch(dialplan=[("socket", f"{dead} async full"), ("respond", "503 Try Later")])
    call = switch.call()
    assert call.wait_until_over(5)
    assert call.refused_with == "503 Try Later"
    other = switch.call(dialplan=[("socket", f"{dead}|127.0.0.1:{desk.address[1]}/path async full")])
    headers = desk.arrived().ask("connect").headers
    assert (headers["Unique-ID"], headers["variable_socket_path"]) == (other.uuid, "path")


@pytest.mark.parametrize("resume", [False, True])
def test_an_application_that_says_nothing_for_too_long(desk, resume):
    variables = {"socket_resume": "true"} if resume else {}
    call = desk.switch(handshake=0.05).call(variables=variables)
    application = desk.arrived()
    application.closed()
    if resume:
        assert call.wait_until_over(5)
        return
    with gevent.Timeout(5):
        while not call.stranded:
            gevent.sleep(0.001)
    assert not call.wait_until_over(0.05)
    call.hangup()
    assert call.wait_until_over(5)


def test_a_transfer_leaves_the_socket_connected(desk):
    _, call, application = taken(desk, LIFE, extensions={"2002": [("set", "a=b"), ("park", "")]})
    assert application.api(f"uuid_transfer {call.uuid} 2002 XML default") == "+OK\n"
    application.until(lambda m: m.event.get("Application") == "park")
    application.run("set", "c=d", "op")
    assert (call.variables["a"], call.variables["c"]) == ("b", "d")


def test_a_transfer_to_inline_actions(desk):
    _, call, application = taken(desk)
    application.api(f"uuid_transfer {call.uuid} 'm:^:set:a=b^hangup:USER_BUSY' inline")
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert (call.variables["a"], call.hangup_cause) == ("b", "USER_BUSY")


def test_the_park_can_time_out(desk):
    _, call, application = taken(desk, variables={"park_timeout": "2:ALLOTTED_TIMEOUT"})
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert call.hangup_cause == "ALLOTTED_TIMEOUT"
