"""``originate`` against parties that answer, refuse or let it ring: freeswitch 4.10, checked with a real 1.10.12."""

from __future__ import annotations

import pytest

from fsctl.simulator import Caller, Party

U = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"
EVENTS = (
    "BACKGROUND_JOB CHANNEL_OUTGOING CHANNEL_CREATE CHANNEL_ORIGINATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA "
    "CHANNEL_ANSWER CALL_UPDATE CHANNEL_EXECUTE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_DESTROY"
)
PARTIES = {
    "100": Party(),
    "200": Party(cause="USER_BUSY"),
    "201": Party(cause="CALL_REJECTED", after=1.0),
    "300": Party(cause="NO_ANSWER"),
    "400": Party(after=2.0),
    "500": Party(after=2.0, early_media=True),
    "600": Party(cause="USER_BUSY", after=1.0, early_media=True),
    "700": Party(talks=1.0),
    "701": Party(behaviour=Caller(digits="12", hangs_up_after=3.0)),
}


@pytest.fixture
def operator(desk, connect_to):
    """An inbound connection that hears of everything, and its switch."""
    switch = desk.switch(parties=PARTIES)
    operator = connect_to(switch.listen())
    operator.switch = switch
    operator.next()
    operator.ask("auth ClueCon")
    operator.ask(f"events json {EVENTS}")
    return operator


def originate(operator, endpoint, rest="&park()", **variables):
    pairs = ",".join(f"{name}={value}" for name, value in {"origination_uuid": U, **variables}.items())
    operator.ask(f"bgapi originate {{{pairs}}}{endpoint} {rest}\nJob-UUID: j")


def heard(operator, last):
    """The names of the events up to ``last``."""
    operator.until(last)
    return [message.name for message in operator.messages if message.name]


def result(operator):
    return operator.until("BACKGROUND_JOB").event["_body"]


def all_of(operator, *names):
    """These events, which may come in any order."""
    found = {message.name: message.event for message in operator.messages}
    while not found.keys() >= set(names):
        message = operator.next()
        found[message.name] = message.event
    return [found[name] for name in names]


@pytest.mark.parametrize(
    ("endpoint", "names"),
    [
        pytest.param("sofia/internal/100@h", ["CHANNEL_ANSWER"], id="at-once"),
        pytest.param("sofia/internal/400@h", ["CHANNEL_PROGRESS", "CHANNEL_ANSWER"], id="after-ringing"),
        pytest.param("sofia/gateway/gw/400", ["CHANNEL_PROGRESS", "CHANNEL_ANSWER"], id="gateway"),
        pytest.param("user/400@h", ["CHANNEL_PROGRESS", "CHANNEL_ANSWER"], id="user"),
        pytest.param("[x=y]sofia/internal/100@h;transport=tls", ["CHANNEL_ANSWER"], id="leg-variables"),
    ],
)
def test_a_call_that_is_answered(operator, endpoint, names):
    originate(operator, endpoint)
    assert heard(operator, "CHANNEL_EXECUTE") == [
        "CHANNEL_OUTGOING",
        "CHANNEL_CREATE",
        "CHANNEL_ORIGINATE",
        *names,
        "CALL_UPDATE",
        "BACKGROUND_JOB",
        "CHANNEL_EXECUTE",
    ]
    job = next(message.event for message in operator.messages if message.name == "BACKGROUND_JOB")
    assert (job["Job-UUID"], job["Job-Command"], job["_body"]) == ("j", "originate", f"+OK {U}\n")
    assert {message.event["Call-Direction"] for message in operator.messages if "Unique-ID" in message.event} == {
        "outbound"
    }
    assert operator.api(f"uuid_exists {U}") == "true"


@pytest.mark.parametrize(
    ("endpoint", "variables", "cause", "disposition"),
    [
        pytest.param("sofia/internal/200@h", {}, "USER_BUSY", "recv_refuse", id="busy"),
        pytest.param("sofia/internal/201@h", {}, "CALL_REJECTED", "recv_refuse", id="declined"),
        pytest.param("user/300@h", {"originate_timeout": "2"}, "NO_ANSWER", "send_cancel", id="nobody-picks-up"),
        pytest.param("user/400@h", {"originate_timeout": "1"}, "NO_ANSWER", "send_cancel", id="picks-up-too-late"),
        pytest.param(
            "user/500@h",
            {"originate_timeout": "1", "ignore_early_media": "true"},
            "NO_ANSWER",
            "send_cancel",
            id="early-media-is-no-answer",
        ),
    ],
)
def test_a_call_that_fails(operator, endpoint, variables, cause, disposition):
    originate(operator, endpoint, **variables)
    job, ended = all_of(operator, "BACKGROUND_JOB", "CHANNEL_HANGUP_COMPLETE")
    assert job["_body"] == f"-ERR {cause}\n"
    assert (ended["Hangup-Cause"], ended["variable_sip_hangup_disposition"]) == (cause, disposition)
    assert ended["Caller-Channel-Answered-Time"] == "0"
    assert operator.api(f"uuid_exists {U}") == "false"


@pytest.mark.parametrize(
    ("endpoint", "cause"), [("error/USER_BUSY", "USER_BUSY"), ("error/subscriber_absent", "SUBSCRIBER_ABSENT")]
)
def test_a_call_that_never_becomes_a_channel(operator, endpoint, cause):
    originate(operator, endpoint)
    assert result(operator) == f"-ERR {cause}\n"
    assert [message.name for message in operator.messages if message.name] == ["BACKGROUND_JOB"]


@pytest.mark.parametrize(("given", "cause"), [("", "NORMAL_CLEARING"), (" ORIGINATOR_CANCEL", "ORIGINATOR_CANCEL")])
def test_a_call_that_is_taken_back_while_it_rings(operator, given, cause):
    originate(operator, "user/300@h")
    operator.until("CHANNEL_PROGRESS")
    assert operator.api(f"uuid_exists {U}") == "true"
    assert operator.api(f"uuid_kill {U}{given}") == "+OK\n"
    job, ended, _ = all_of(operator, "BACKGROUND_JOB", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY")
    assert (job["_body"], ended["variable_sip_hangup_disposition"]) == (f"-ERR {cause}\n", "send_cancel")
    assert operator.api(f"uuid_kill {U}") == "-ERR No such channel!\n"


def test_early_media_is_as_good_as_an_answer_unless_it_is_ignored(operator):
    originate(operator, "user/500@h")
    assert result(operator) == f"+OK {U}\n"
    assert operator.until("CHANNEL_EXECUTE").event["Answer-State"] == "early"
    assert operator.until("CHANNEL_ANSWER").event["Answer-State"] == "answered"


def test_a_party_that_refuses_after_early_media(operator):
    originate(operator, "user/600@h")
    assert result(operator) == f"+OK {U}\n"
    assert operator.until("CHANNEL_HANGUP").event["Hangup-Cause"] == "USER_BUSY"


def test_ignored_early_media_is_told_all_the_same(operator):
    originate(operator, "user/500@h", ignore_early_media="true")
    names = heard(operator, "CHANNEL_EXECUTE")
    assert names[3:6] == ["CHANNEL_PROGRESS_MEDIA", "CHANNEL_ANSWER", "CALL_UPDATE"]


def test_who_calls_whom(operator):
    originate(
        operator,
        "sofia/gateway/carrier/400",
        origination_caller_id_number="+15550100",
        origination_caller_id_name="Bob",
    )
    created = operator.until("CHANNEL_CREATE").event
    assert (created["Caller-Caller-ID-Name"], created["Caller-Caller-ID-Number"]) == ("Bob", "+15550100")
    assert (created["Caller-Callee-ID-Number"], created["Caller-Destination-Number"]) == ("400", "400")
    assert (created["variable_sip_gateway_name"], created["variable_sip_profile_name"]) == ("carrier", "gateway")
    assert (created["variable_origination_uuid"], created["Answer-State"]) == (U, "ringing")
    assert "Channel-Read-Codec-Name" not in created
    executed = operator.until("CHANNEL_EXECUTE").event
    assert executed["Caller-Caller-ID-Number"] == executed["Caller-Destination-Number"] == "400"
    assert (executed["Caller-Callee-ID-Number"], executed["Caller-Orig-Caller-ID-Number"]) == ("+15550100",) * 2
    assert executed["variable_sip_from_uri"] == "+15550100@127.0.0.1"
    assert executed["Channel-Read-Codec-Name"] == "PCMU"


def test_values_are_unquoted_three_times(operator):
    originate(operator, "user/100", a=r"x\\,y", b=r"it\\\\\\\'s", c="{x}", d=r"a\\\\sb", e="1=2")
    created = operator.until("CHANNEL_CREATE").event
    assert [created[f"variable_{name}"] for name in "abcde"] == ["x,y", "it's", "{x}", "a b", "1=2"]


def test_it_is_handed_to_the_application_that_was_named(desk, operator):
    originate(operator, "user/100@h", f"'&socket(127.0.0.1:{desk.address[1]} async full)'", swml_url="a.yaml")
    application = desk.arrived()
    offer = application.ask("connect").headers
    assert (offer["Unique-ID"], offer["Call-Direction"], offer["Answer-State"]) == (U, "outbound", "answered")
    assert (offer["Control"], offer["variable_swml_url"]) == ("full", "a.yaml")
    application.ask("events json CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP")
    assert application.run("set", "a=b").event["Unique-ID"] == U
    (call,) = operator.switch.originated
    assert (call.uuid, call.answered, call.applications[0].application) == (U, True, "socket")
    call.hangup()
    assert application.until("CHANNEL_HANGUP").event["variable_sip_hangup_disposition"] == "recv_bye"


def test_when_the_application_is_not_there_the_call_ends(operator):
    originate(operator, "user/100@h", "'&socket(127.0.0.1:1 async full)'")
    assert result(operator) == f"+OK {U}\n"
    assert operator.until("CHANNEL_HANGUP").event["Hangup-Cause"] == "NORMAL_CLEARING"


@pytest.mark.parametrize("rest", ["park inline", "sleep:10,park inline", "'m:^:sleep:10^park' inline"])
def test_the_inline_dialplan(operator, rest):
    originate(operator, "user/100@h", rest)
    operator.until(lambda message: message.name == "CHANNEL_EXECUTE" and message.event["Application"] == "park")


def test_the_last_argument_is_a_timeout(operator):
    originate(operator, "user/400@h", "&park() XML default undef undef 1")
    assert result(operator) == "-ERR NO_ANSWER\n"


def test_whoever_answered_leaves_when_they_have_talked(operator):
    originate(operator, "user/700@h")
    assert operator.until("CHANNEL_HANGUP").event["variable_sip_hangup_disposition"] == "recv_bye"


def test_whoever_answered_behaves_like_a_caller(operator):
    operator.ask("events json DTMF")
    originate(operator, "user/701@h")
    assert [operator.until("DTMF").event["DTMF-Digit"] for _ in "12"] == ["1", "2"]
    operator.until("CHANNEL_HANGUP")


def test_an_answer_of_ours_answers_nothing(operator):
    originate(operator, "user/500@h")
    operator.until("CHANNEL_EXECUTE")
    assert operator.api(f"uuid_answer {U}") == "+OK\n"
    assert not operator.switch.originated[0].answered


def test_a_uuid_is_given_once(operator):
    originate(operator, "user/100@h")
    assert result(operator) == f"+OK {U}\n"
    originate(operator, "user/100@h")
    assert result(operator) == "-ERR DESTINATION_OUT_OF_ORDER\n"


@pytest.mark.parametrize(
    ("endpoint", "winner", "losers"),
    [
        pytest.param("user/200|user/100", "user/100", ["USER_BUSY"], id="one-after-the-other"),
        pytest.param("user/300,user/100", "user/100", ["LOSE_RACE"], id="together"),
    ],
)
def test_several_endpoints(operator, endpoint, winner, losers):
    operator.ask(f"bgapi originate {endpoint} &park()")
    uuid = result(operator).removeprefix("+OK ").strip()
    calls = operator.switch.originated
    for call in calls:
        assert call.uuid == uuid or call.wait_until_over(5)
    assert [call.hangup_cause for call in calls if call.uuid != uuid] == losers
    assert next(call for call in calls if call.uuid == uuid).answered


@pytest.mark.parametrize("arguments", ["", "user/1", "user/1 &park() XML default name number 5 more"])
def test_its_usage(operator, arguments):
    assert operator.api(f"originate {arguments}").startswith("-USAGE: <call url> <exten>|&<application_name>(")


def test_what_is_not_simulated_is_said_to_be(operator):
    assert operator.api("originate user/1:_:user/2 &park()") == "-ERR FACILITY_NOT_IMPLEMENTED\n"


def test_a_restart_while_it_rings_leaves_nothing(operator):
    originate(operator, "user/300@h")
    operator.until("CHANNEL_PROGRESS")
    (call,) = operator.switch.originated
    operator.switch.restart()
    assert not any(message.name == "BACKGROUND_JOB" for message in operator.closed())
    assert operator.switch.live_count == 0
    assert call.wait_until_over(1)
