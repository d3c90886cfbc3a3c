"""mod_audio_stream: freeswitch 5, and what the recordings show."""

from __future__ import annotations

import json
import math
import threading

import gevent
import pytest

from fsctl.simulator import Caller, Outcome, Scripted, WebSockets
from fsctl.simulator.connectors import StreamFailed
from fsctl.simulator.streamer import valid_url

EVENTS = (
    "MEDIA_BUG_START MEDIA_BUG_STOP CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CUSTOM "
    "mod_audio_stream::connect mod_audio_stream::error mod_audio_stream::disconnect mod_audio_stream::json"
)
FAILED = "-ERR Operation Failed\n"
OK = "+OK Success\n"


@pytest.fixture
def taken(desk):
    def take(streams=None, *, speaks=((0.0, math.inf),), **settings):
        switch = desk.switch(streams=streams or Scripted({}), **settings)
        call = switch.call(behaviour=Caller(speaks=speaks))
        application = desk.arrived()
        application.take(EVENTS)
        application.run("answer", uuid="op-answer")

        def ask(text):
            return application.api(f"uuid_audio_stream {call.uuid} {text}")

        return switch, call, application, ask

    return take


def subclass(application, what):
    message = application.until(lambda m: m.event.get("Event-Subclass") == f"mod_audio_stream::{what}")
    return json.loads(message.event["_body"])


def eventually(condition):
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.001)


def test_connect_metadata_audio_text_stop(taken):
    streams = Scripted({"/ok": Outcome(echo=True)})
    switch, call, application, ask = taken(streams)
    application.api(f'uuid_setvar {call.uuid} STREAM_EXTRA_HEADERS {{"Authorization":"Bearer t"}}')
    assert ask('start ws://h/ok stereo 8000 {"event":"start","tier":"gold level"}') == OK
    assert application.until("MEDIA_BUG_START").event["Media-Bug-Function"] == "audio_stream"
    assert subclass(application, "connect") == {"status": "connected"}
    assert subclass(application, "json") == {"echo": '{"event":"start","tier":"gold level"}'}
    (connection,) = streams.connections
    assert connection.headers == {"Authorization": "Bearer t"}
    eventually(lambda: len(connection.audio) >= 25)
    assert {len(frame) for frame in connection.audio} == {640}
    assert connection.audio[0][0::4].strip(b"\0")
    assert not connection.audio[0][2::4].strip(b"\0")
    assert ask("send_text 'two words'") == OK
    assert subclass(application, "json") == {"echo": "two words"}
    assert ask("stop 'good bye'") == OK
    application.until("MEDIA_BUG_STOP")
    assert connection.texts[-1] == "good bye"
    assert connection.closed.is_set()
    sent = len(connection.audio)
    switch.clock.sleep(1.0)
    assert len(connection.audio) == sent
    assert ask("stop") == FAILED


def test_there_is_one_stream_a_channel(taken):
    _, _, application, ask = taken()
    assert ask("start ws://h/a mono 8000") == OK
    subclass(application, "connect")
    assert ask("start ws://h/b mono 8000") == FAILED


def test_pause_and_resume(taken):
    streams = Scripted()
    switch, call, application, ask = taken(streams)
    ask("start ws://h/a mono 16k")
    subclass(application, "connect")
    assert ask("pause") == OK
    sent = call.streams[0].frames
    switch.clock.sleep(0.5)
    assert call.streams[0].frames == sent
    assert ask("resume") == OK
    eventually(lambda: call.streams[0].frames > sent)
    assert len(streams.connections[0].audio[0]) == 640


@pytest.mark.parametrize(
    ("outcome", "code"), [(Outcome.refuse(), 6), (Outcome.time_out(), 10)], ids=["refused", "no answer"]
)
def test_a_failed_start_is_an_event_and_detaches(taken, outcome, code):
    _, _, application, ask = taken(Scripted({"/bad": outcome}))
    assert ask("start ws://h/bad mono 8000") == OK
    body = subclass(application, "error")
    assert (body["status"], body["message"]["code"]) == ("error", code)
    application.until("MEDIA_BUG_STOP")
    assert ask("start ws://h/good mono 8000") == OK


def test_after_a_remote_close_the_stream_stays_until_stopped(taken):
    _, call, application, ask = taken(Scripted({"/close": Outcome(close=(1011, "boom"), close_after=0.01)}))
    ask("start ws://h/close mono 8000")
    assert subclass(application, "disconnect") == {
        "status": "disconnected",
        "message": {"code": 1011, "reason": "boom"},
    }
    assert ask("start ws://h/other mono 8000") == FAILED
    assert ask("stop") == OK
    assert ask("start ws://h/other mono 8000") == OK
    call.hangup()
    application.until("CHANNEL_HANGUP_COMPLETE")


def test_a_hangup_with_a_dead_stream_does_not_come_to_its_end(taken):
    _, call, application, ask = taken(Scripted({"/close": Outcome(close=(1011, ""))}))
    ask("start ws://h/close mono 8000")
    subclass(application, "disconnect")
    call.hangup()
    assert "CHANNEL_HANGUP_COMPLETE" not in [message.name for message in application.closed()]
    assert call.join(5)


def test_a_hangup_closes_the_stream_without_an_event(taken):
    streams = Scripted()
    _, call, application, ask = taken(streams)
    ask("start ws://h/a mono 8000")
    subclass(application, "connect")
    call.hangup()
    application.until("CHANNEL_HANGUP_COMPLETE")
    assert [m.event["Event-Subclass"] for m in application.messages if m.name == "CUSTOM"] == [
        "mod_audio_stream::connect"
    ]
    assert streams.connections[0].closed.is_set()


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("start http://h/ mono 8000", FAILED),
        ("start ws://user:pw@h/ mono 8000", FAILED),
        ("start ws://h?x=1 mono 8000", FAILED),
        ("start ws://h/ mono 7000", FAILED),
        ("start ws://h/ mono 0", FAILED),
        ("start ws://h/ both 8000", "-ERR no reply\n"),
        ("send_text", FAILED),
        ("graceful-shutdown", FAILED),
        ("pause", FAILED),
    ],
)
def test_refusals(taken, text, reply):
    _, _, _, ask = taken()
    assert ask(text) == reply
    assert ask("start ws://h/").startswith("-USAGE: ")


@pytest.mark.parametrize(
    ("url", "valid"),
    [
        ("ws://127.0.0.1:9099/ok", True),
        ("wss://example.org", True),
        ("ws://h/?x=1", True),
        ("WS://h/", False),
        ("ws://h_x/", False),
        ("ws://[::1]/", False),
        ("ws://h:8o/", False),
    ],
)
def test_urls(url, valid):
    assert valid_url(url) is valid


def test_nothing_is_sent_before_the_callers_audio_arrives(desk):
    streams = Scripted()
    switch = desk.switch(streams=streams)
    call = switch.call(behaviour=Caller(sends_rtp=False))
    application = desk.arrived()
    application.take(EVENTS)
    application.api(f"uuid_audio_stream {call.uuid} start ws://h/a mono 8000")
    subclass(application, "connect")
    switch.clock.sleep(1.0)
    assert streams.connections[0].audio == []


@pytest.fixture
def websocket_server():
    server = pytest.importorskip("websockets.sync.server")
    seen = []

    def serve(connection):
        seen.append(dict(connection.request.headers.raw_items()))
        for message in connection:
            seen.append(message)
            if isinstance(message, str):
                connection.send(json.dumps({"echo": message}))
                if message == "close":
                    connection.close(1011, "boom")

    made = server.serve(serve, "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{made.socket.getsockname()[1]}", seen
    made.shutdown()
    thread.join()


def test_a_real_websocket(taken, websocket_server):
    url, seen = websocket_server
    _, call, application, ask = taken(WebSockets())
    application.api(f'uuid_setvar {call.uuid} STREAM_EXTRA_HEADERS {{"X-Token":"t"}}')
    assert ask(f"start {url}/media mono 8000 hello") == OK
    assert subclass(application, "connect") == {"status": "connected"}
    assert subclass(application, "json") == {"echo": "hello"}
    eventually(lambda: sum(isinstance(one, bytes) for one in seen) > 10)
    assert seen[0]["X-Token"] == "t"
    assert len(next(one for one in seen if isinstance(one, bytes))) == 320
    ask("send_text close")
    assert subclass(application, "disconnect")["message"] == {"code": 1011, "reason": "boom"}
    assert ask("stop") == OK


def test_a_real_refusal(taken):
    _, _, application, ask = taken(WebSockets())
    ask("start ws://127.0.0.1:9/ mono 8000")
    assert subclass(application, "error")["message"] == {"code": 6, "error": "Connection refused (system error 111)"}


def test_tls_is_refused():
    with pytest.raises(StreamFailed) as failed:
        WebSockets().open("wss://127.0.0.1/", {}, 1.0)
    assert failed.value.code == 7
