"""A FreeSWITCH that misbehaves, and servers that do not answer: the call ends cleanly, and no other call notices."""

from __future__ import annotations

import re
import shutil
import time
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from fsctl.call.events import CallRefused
from fsctl.simulator import Caller, Drop, Nasty
from tests.fakes import freeswitch
from tests.stories.stage import document, page, wait_for
from tests.stories.test_hangups import COMMANDS, CONFIG, LONG, PAGES

DIALPLAN = (
    ("set", "socket_resume=true"),
    ("socket", "@socket async full"),
    ("answer", ""),
    ("playback", "silence_stream://200"),
)
EVENTS = frozenset({"CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "RECORD_STOP", "CUSTOM"})
SHORT = [
    {"answer": {}},
    {"play": {"urls": ["silence:0.3", "say:hi"]}},
    {"set": {"n": "${[1, 2].map(x => x * 2)}"}},
    {"record_call": {"control_id": "r"}},
    {"sleep": 200},
    {"stop_record_call": {}},
]


# -- FreeSWITCH says everything, but not as usual ---------------------------------------------------------------


@pytest.mark.parametrize(
    "nasty",
    [
        Nasty(poison=True),
        Nasty(invalid_utf8=True),
        Nasty(fragment=1),
        Nasty(fragment=7),
        Nasty(fragment=1000),
        Nasty(events_first=True),
        Nasty(duplicated=EVENTS),
        Nasty(reply_delay=0.3),
        Nasty(event_delay=0.3),
        Nasty(park_at=3),
        Nasty(close_without_notice=True),
    ],
    ids=[
        "poison",
        "invalid UTF-8",
        "bytes one by one",
        "tiny packets",
        "packets",
        "events before replies",
        "events twice",
        "late replies",
        "late events",
        "late park",
        "no notice",
    ],
)
def test_the_long_call_goes_as_always(stage, nasty):
    # Byte by byte takes real time, of which there must not be too little.
    story = stage(config=CONFIG, pages=PAGES, speed=8 if nasty.fragment == 1 else 40).run(_here(LONG), nasty=nasty)
    said = [story._shown(raw) for raw in story.wire]
    assert len(said) == len(COMMANDS), said
    assert [line[: len(start)] for line, start in zip(said, COMMANDS, strict=True)] == COMMANDS
    assert story.warnings == []
    assert (story.script.outcome, story.ended.end_reason, story.ended.cause) == ("finished", "busy", "USER_BUSY")
    assert {"record_result": "success", "stream_result": "success", "sub": 1}.items() <= story.variables.items()
    assert story.ended.call.call_id == story.call.uuid


def _here(script):
    """The long script as text, so that the stage fills in its addresses."""
    return document(*script)


def test_what_a_caller_sends_forges_nothing(stage):
    story = stage().run([{"set": {"headers": "${call.headers}"}}], nasty=Nasty(poison=True))
    assert story.ended.call.call_id == story.call.uuid
    poison = {header["name"]: header["value"] for header in story.variables["headers"]}["X-Poison"]
    assert "forged" in poison
    assert story.ended.end_reason == "hangup"


# -- FreeSWITCH says no ------------------------------------------------------------------------------------------

REFUSABLE = {
    "linger": {},
    "api uuid_setvar_multi": {"stream_result": "failed"},
    "api uuid_pre_answer": {},
    "sendmsg playback": {"sub": 1},
    "api uuid_setvar": {"answer_result": "failed", "record_call_result": "success"},
    "api uuid_answer": {"answer_result": "failed"},
    "api uuid_record": {"record_call_result": "failed", "record_result": "failed"},
    "api uuid_audio_stream": {"stream_result": "failed"},
    "api uuid_audio": {"sub": 1},
    "sendmsg speak": {"sub": 1},
    "sendevent": {"sub": 1},
    "bgapi uuid_audio_stream": {"stop_stream_result": "failed"},
}


@pytest.mark.parametrize("command", REFUSABLE)
def test_a_refused_command_fails_its_method_and_nothing_else(stage, command):
    story = stage(config=CONFIG, pages=PAGES).run(_here(LONG), nasty=Nasty(refuse={command: "-ERR not today"}))
    assert story.script.outcome == "finished"
    assert REFUSABLE[command].items() <= story.variables.items()
    told = [line for line in story.stage.log() if "not today" in str(line)]
    assert told, "nobody would know"
    assert all(line["level"] in ("warning", "error") for line in told if line["event"] == "command_refused")


@pytest.mark.parametrize("command", ["filter", "events"])
def test_without_a_subscription_of_its_own_a_call_is_not_begun(stage, command):
    """Unfiltered, it would hear of every other call; without events, of nothing."""
    built = stage(config=CONFIG, pages=PAGES, dialplan=DIALPLAN)
    other = built.start(document({"answer": {}}, {"sleep": 3000}))
    story = built.run(_here(LONG), nasty=Nasty(refuse={command: "-ERR not today"}))
    assert [line for line in built.log() if line["event"] == "command_refused" and line["command"] == command]
    assert story.call.resumed
    assert story.states[-1:] == ["ended"]
    assert other.end().script.outcome == "finished"


# -- FreeSWITCH does not say it ----------------------------------------------------------------------------------


def test_an_end_that_is_never_told_fails_the_sound_in_time(stage):
    script = [{"play": {"urls": ["silence:1", "ring:1:us"]}}, {"set": {"after": 1}}]
    story = stage().run(script, nasty=Nasty(lost=frozenset({"playback"})))
    assert [warning.message for warning in story.warnings] == [
        "play: playback: did not end within 31 s",
        "play: playback: did not end within 31 s",
    ]
    assert story.variables["after"] == 1


def test_an_answer_that_takes_too_long_gives_the_call_back_to_its_dialplan(stage):
    """As on a profile in 3pcc-proxy mode, where FreeSWITCH waits for the ACK and takes no command meanwhile."""
    built = stage(config={"event_socket": {"command_timeout": 0.2}}, dialplan=DIALPLAN)
    built.switch.answer_takes = 60.0
    story = built.run([{"answer": {}}, {"set": {"after": 1}}])
    assert (story.script.outcome, story.ended.end_reason, story.ended.end_source) == ("hangup", "error", "none")
    assert "after" not in story.variables
    assert story.logged("no_reply")
    assert story.call.resumed


class Peer:
    """FreeSWITCH's end of one connection, in the test's hands."""

    def __init__(self, stage):
        self.sock = socket.create_connection(stage.server.listener.address)
        self.sock.settimeout(5)

    def closed(self):
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        self.sock.close()
        return True


SILENT = {"event_socket": {"connect_timeout": 0.2, "command_timeout": 0.2, "linger": 1}}


@pytest.mark.parametrize(
    "says",
    [b"", b"Content-", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\xff\xfe\0\0\n\n", freeswitch.OK, freeswitch.api("+OK")],
    ids=["nothing", "half a header", "HTTP", "bytes", "the reply to something else", "an API's answer"],
)
def test_whoever_connects_and_is_no_freeswitch_is_let_go(stage, says):
    built = stage(config=SILENT)
    peer = Peer(built)
    peer.sock.sendall(says)
    assert peer.closed()
    refused = wait_for(lambda: [event for event in built.events if isinstance(event, CallRefused)], "the refusal")
    assert [event.reason for event in refused] == ["handshake"]
    assert [line["event"] for line in built.log() if line["level"] == "error"][-1] == "handshake_failed"


def test_a_freeswitch_that_falls_silent_after_connect(stage):
    built = stage(config={**SILENT, "documents": {"default": "answer.yaml"}})
    built.write("answer.yaml", document({"answer": {}}))
    peer = Peer(built)
    peer.sock.sendall(freeswitch.offer())
    began = time.monotonic()
    assert peer.closed()
    assert time.monotonic() - began < 3
    wait_for(lambda: not len(built.server.calls), "the call to end")
    ended = [event for event in built.events if getattr(event, "state", "") == "ended"]
    assert [(event.end_reason, event.end_source) for event in ended] == [("error", "none")]
    assert [line for line in built.log() if line["event"] == "no_reply"]


def test_a_socket_that_may_not_do_everything_is_given_up_with_what_to_write(stage):
    built = stage(config=SILENT)
    peer = Peer(built)
    peer.sock.sendall(freeswitch.offer().replace(b"Control: full", b"Control: single-channel"))
    assert peer.closed()
    line = wait_for(lambda: [one for one in built.log() if one["event"] == "handshake_failed"], "the log")[0]
    assert "async full" in line["problem"]


@pytest.mark.parametrize("after", [1, 3, 5, 6, 9, 12])
def test_garbage_ends_the_connection_and_the_dialplan_goes_on(stage, after):
    story = stage(config=CONFIG, pages=PAGES, dialplan=DIALPLAN).run(_here(LONG), nasty=Nasty(garbage_after=after))
    assert (story.ended.end_reason, story.script.outcome) == ("error", "hangup")
    assert story.call.resumed
    assert [line for line in story.stage.log() if line["event"] == "event_socket_garbage"]


# -- many calls --------------------------------------------------------------------------------------------------

MISCHIEF = [
    Nasty(garbage_after=8),
    Nasty(drop=Drop("header", "CHANNEL_EXECUTE_COMPLETE")),
    Nasty(drop=Drop("reply", "api uuid_answer")),
    Nasty(fragment=1),
    Nasty(poison=True, invalid_utf8=True),
    Nasty(hang_up_during="playback", hang_up_after=0.1),
    Nasty(refuse={"api uuid_answer": "-ERR no"}),
    Nasty(duplicated=EVENTS, events_first=True),
    Nasty(lost=frozenset({"playback"})),
    Nasty(drop=Drop("body", "RECORD_STOP")),
]


def test_a_hundred_calls_do_not_notice_the_nasty_ones_among_them(stage):
    built = stage()
    built.write("short.yaml", document(*SHORT))
    variables = {"swml_url": "short.yaml", "socket_resume": "true"}
    alone = built.run(variables=variables)
    nasty = dict(zip(range(5, 100, 10), MISCHIEF, strict=True))
    stories = [built.start(variables=variables, nasty=nasty.get(number)) for number in range(100)]
    for number, story in enumerate(stories):
        story.end()
        if number in nasty:
            continue
        assert story.commands == alone.commands
        assert story.instructions == alone.instructions
        assert _plain(story.variables) == _plain(alone.variables)
        assert story.warnings == []
        assert (story.ended.end_reason, story.states) == ("hangup", alone.states)
        assert _heard(story) == _heard(alone)


def _plain(variables):
    return {name: re.sub(r"[0-9a-f-]{36}", "ID", str(value)) for name, value in variables.items()}


def _heard(story):
    """The events of a call, and how often it got a reply; which comes first is chance."""
    texts = [said.text for said in story.call.transcript if said.who == "freeswitch"]
    events = [re.search(r'"Event-Name":"(\w+)"', text) for text in texts]
    return [found.group(1) for found in events if found], sum(not found for found in events)


def test_calls_over_the_limit_go_on_in_the_dialplan(stage):
    built = stage(config={"event_socket": {"max_calls": 2}}, dialplan=DIALPLAN)
    script = document({"answer": {}}, {"sleep": -1})
    running = [built.start(script), built.start(script)]
    for story in running:
        story.waits("api uuid_answer")
    refused = [built.run(script) for _ in range(3)]
    for story in refused:
        assert story.call.resumed
        assert [one.application for one in story.call.applications] == ["set", "socket", "answer", "playback"]
        assert [story._shown(raw) for raw in story.wire] == ["connect", "resume"]
        assert story.events == []
    assert [event.reason for event in built.events if isinstance(event, CallRefused)] == ["capacity"] * 3
    for story in running:
        story.call.hangup()
        assert story.end().ended.end_reason == "hangup"
    assert built.run(document({"set": {"a": 1}})).variables == {"a": 1}


def test_a_drain_lets_calls_end_and_sends_new_ones_on(stage):
    built = stage(dialplan=DIALPLAN)
    running = built.start(document({"answer": {}}, {"sleep": 8000}, {"set": {"whole": 1}}))
    running.waits("api uuid_answer")
    draining = gevent.spawn(built.server.drain, 20.0)
    wait_for(lambda: not built.server.listener.accepting, "the drain")
    assert built.server.health()["event_socket"] == (False, "draining")
    refused = built.run(document({"answer": {}}))
    assert refused.call.resumed
    assert [event.reason for event in built.events if isinstance(event, CallRefused)] == ["draining"]
    assert running.end().variables["whole"] == 1
    assert draining.get(timeout=10) is True


def test_a_drain_that_takes_too_long_hangs_up_what_is_left(stage):
    built = stage()
    running = built.start(document({"answer": {}}, {"record_call": {}}, {"sleep": -1}))
    running.waits("api uuid_record")
    assert built.server.drain(0.1) is False
    story = running.end()
    assert (story.ended.end_reason, story.ended.cause, story.script.outcome) == ("hangup", "MANAGER_REQUEST", "hangup")
    assert [states[-1] for states in story.controls().values()] == ["finished"]


# -- servers that do not answer ----------------------------------------------------------------------------------

IMPATIENT = {
    "webhooks": {
        "call_state_url": "@web/hook/state",
        "connect_timeout": 0.2,
        "read_timeout": 0.2,
        "total_timeout": 0.5,
        "retries": 1,
    }
}


def _hangs(_request, _number):
    gevent.sleep(3600)


@pytest.mark.parametrize(
    ("answer", "outcome", "attempts"),
    [
        (_hangs, "failed", 2),
        (page("no", status=500), "failed", 2),
        (page("", status=410), "gone", 1),
        (page("", status=302, Location="http://10.0.0.1/"), "failed", 2),
        (b"garbage", "failed", 2),
    ],
    ids=["hangs", "fails", "does not want any", "redirects inward", "answers garbage"],
)
def test_a_receiver_that_fails_delays_no_call_and_no_other_webhook(stage, answer, outcome, attempts):
    built = stage(config=IMPATIENT, pages={"/hook/bad": answer})
    story = built.run(document({"answer": {}}, {"play": {"url": "silence:1", "status_url": f"{built.url}/hook/bad"}}))
    assert [hook.told for hook in story.webhooks("/hook/state")] == [
        "calling.call.state created",
        "calling.call.state answered",
        "calling.call.state ended",
    ]
    assert story.seconds < 1 + 0.2 * built.clock.speed, "the call waited for its webhook"
    given_up = [line for line in story.log if line["event"] == "webhook_given_up"]
    assert [(line["outcome"], line["attempts"]) for line in given_up] == [(outcome, attempts)] * 2


DOCUMENTS = {
    "hangs": (_hangs, "no whole answer|did not answer|timed out|no answer"),
    "redirects": (page("", status=307, Location="http://10.0.0.1/doc"), "307"),
    "is a page": (page("<!doctype html><p>hello"), "HTML"),
    "is huge": (page("#" * 5000), "longer than 2048 bytes|2048"),
    "is nothing": (page(""), "answered nothing"),
    "says no": (page("[]", status=403), "403"),
    "is compressed": (page("x", Content_Encoding="gzip"), "gzip|compress|encod"),
}


@pytest.mark.parametrize("how", DOCUMENTS)
def test_a_document_that_cannot_be_had_ends_its_call_in_time(stage, how):
    answer, says = DOCUMENTS[how]
    built = stage(config={"documents": {"timeout": 0.3, "max_bytes": 2048}}, pages={"/doc": answer})
    story = built.run(variables={"swml_url": "@web/doc"})
    assert story.commands == ["api uuid_kill NORMAL_TEMPORARY_FAILURE"]
    assert (story.script.outcome, story.ended.end_reason, story.call.answered) == ("error", "error", False)
    (warning,) = story.warnings
    assert (warning.code, warning.fatal) == ("relay_script_method_execute_failed", True)
    assert re.search(says, warning.message), warning.message


def test_a_document_at_a_private_address_is_not_fetched(stage):
    built = stage(config={"network": {"allow_private": []}}, pages={"/doc": page(document())})
    story = built.run(variables={"swml_url": "@web/doc"})
    assert built.requests == []
    assert re.search(r"127\.0\.0\.1", story.warnings[0].message)


def test_a_full_disk_fails_recordings_before_freeswitch_is_asked(stage, monkeypatch):
    built = stage(config={"recordings": {"min_free_bytes": 1_000_000}})
    usage = SimpleNamespace(total=10, used=10, free=5)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    hook = f"{built.url}/hook"
    story = built.run([{"record": {"status_url": hook}}, {"record_call": {}}, {"set": {"after": 1}}])
    assert story.commands == ["api uuid_answer", "api uuid_kill NORMAL_CLEARING"]
    assert {"record_result": "failed", "record_call_result": "failed", "after": 1}.items() <= story.variables.items()
    assert [hook.told for hook in story.webhooks()] == ["calling.call.record error"]
    assert all("only 0 MB are free" in warning.message for warning in story.warnings)


# -- scripts that misbehave --------------------------------------------------------------------------------------

EXPRESSIONS = {
    "loops": "(() => { for (;;) {} })()",
    "backtracks": "/^(a+)+$/.test('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab')",
    "eats memory": "(() => { let a = []; for (;;) a.push('x'.repeat(1000000)) })()",
    "recurses": "(function f() { return f() })()",
    "answers too much": "'x'.repeat(10000000)",
    "sorts for ever": "[3, 1, 2].sort(() => { for (;;) {} })",
    "throws": "(() => { throw new Error('mine') })()",
}


@pytest.mark.parametrize("how", EXPRESSIONS)
def test_an_expression_that_misbehaves_ends_its_script_only(stage, how):
    built = stage(config={"script": {"expression_memory_bytes": 8_388_608}})
    built.run([{"set": {"warm": "${'up'.length + 1}"}}])
    bad = built.start([{"answer": {}}, {"set": {"a": "${" + EXPRESSIONS[how] + "}"}}, {"set": {"never": 1}}])
    others = [built.start([{"answer": {}}, {"play": {"url": "silence:0.2"}}, {"set": {"b": "${'x'.repeat(2)}"}}])]
    others += [built.start([{"answer": {}}, {"play": {"url": "silence:0.2"}}]) for _ in range(5)]
    story = bad.end()
    assert story.script.outcome == "error"
    assert "never" not in story.variables
    assert [warning.code for warning in story.warnings] == ["relay_script_js_eval_error"]
    for other in others:
        assert other.end().script.outcome == "finished"
    assert others[0].variables["b"] == "xx"


def test_a_script_that_loops_for_ever_lets_others_run(stage):
    built = stage(config={"script": {"max_jumps": 100000, "max_jumps_without_input": 100000, "max_steps": 3000}})
    loops = [built.start([{"set": {"a": 1}}, {"transfer": "main"}]) for _ in range(3)]
    other = built.start([{"answer": {}}, {"play": {"url": "silence:0.5"}}])
    assert other.end().script.outcome == "finished"
    for story in loops:
        assert "more than 3000 instructions" in story.end().warnings[0].message


@pytest.mark.parametrize("nesting", [40, 5000])
def test_a_document_nested_too_deep(stage, nesting):
    text = '{"sections":{"main":[' + '{"cond":[{"when":"true","then":[' * nesting
    text += "]}]}" * nesting + "]}}"
    story = stage().run(text)
    assert story.warnings[0].fatal
    assert story.warnings[0].code in ("relay_script_nested_too_deep", "relay_script_parse_error")
    assert (story.script.outcome, story.call.answered) == ("error", False)


def test_the_caller_leaves_while_a_server_keeps_it_waiting(stage):
    """Whoever waits for a document, a request or a sound hears of the hangup at once."""
    asked = Event()

    def hangs(_request, _number):
        asked.set()
        gevent.sleep(3600)

    asks = {"request": {"url": "@web/slow", "method": "GET"}}
    for step in (asks, {"play": {"url": "@web/slow"}}, {"execute": "@web/slow"}):
        asked.clear()
        built = stage(pages={"/slow": hangs})
        story = built.start(document(step, {"set": {"never": 1}}), behaviour=Caller())
        assert asked.wait(5)
        began = time.monotonic()
        story.call.hangup()
        story.end()
        assert time.monotonic() - began < 2
        assert story.script.outcome == "hangup"
        assert "never" not in story.variables
