"""What an entry of a call's log is called, how grave it is, what it tells, and what it must never tell."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl import log
from fsctl.call.events import (
    Callback,
    CallRefused,
    CallStateChanged,
    ControlChanged,
    DocumentFetched,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
    UserEvent,
)
from fsctl.call.states import CONTROLS
from fsctl.logs import entries
from fsctl.logs.entries import MAX_DETAILS, Entry, entry, is_quiet
from fsctl.webhooks.payloads import payload
from tests.fakes.call import CALL_ID, info

AT = 1_767_323_045.25
CALL = info()
SECRET = "s3cret-never-to-be-seen"
RECORDING = "https://calls.example/recordings/d1c1d1c1-0000-4000-8000-000000000001.mp3"


def control(kind, state, **detail):
    return ControlChanged(CALL, kind, kind, "x1", state, AT, detail, Callback("https://u:pw@hooks.example/x"))


def told(event):
    """The entry as it is read back."""
    at, level, name, details = json.loads(entry(event))
    return Entry(at, level, name, json.dumps(details, separators=(",", ":")))


def warning(**changes):
    return ScriptWarning(CALL, "relay_script_js_eval_error", "no", AT, section="main", index=2, **changes)


NAMED = [
    pytest.param(CallStateChanged(CALL, "created", AT), "calling_call_initiated", "info", id="comes to us"),
    pytest.param(
        CallStateChanged(info(direction="outbound"), "queued", AT), "calling_call_queued", "info", id="queued"
    ),
    pytest.param(
        CallStateChanged(info(direction="outbound"), "initiated", AT), "calling_call_initiated", "info", id="dialled"
    ),
    pytest.param(
        CallStateChanged(info(direction="outbound"), "created", AT),
        "calling_call_created",
        "info",
        id="dialled, created",
    ),
    pytest.param(CallStateChanged(CALL, "ringing", AT), "calling_call_ringing", "info", id="ringing"),
    pytest.param(CallStateChanged(CALL, "answered", AT), "calling_call_answered", "info", id="answered"),
    pytest.param(CallStateChanged(CALL, "ending", AT), "calling_call_ending", "info", id="ending"),
    pytest.param(CallStateChanged(CALL, "ended", AT, end_reason="busy"), "calling_call_ended", "info", id="ended"),
    pytest.param(
        CallStateChanged(CALL, "ended", AT, end_reason="error"), "calling_call_ended", "error", id="broken down"
    ),
    pytest.param(control("play", "finished"), "calling_call_play_finished", "info", id="play"),
    pytest.param(control("play", "error"), "calling_call_play_error", "error", id="play failed"),
    pytest.param(control("record", "no_input"), "calling_call_record_no_input", "info", id="record"),
    pytest.param(control("stream", "streaming"), "calling_call_stream_streaming", "info", id="stream"),
    pytest.param(warning(), "calling_call_script_warning", "warn", id="warning"),
    pytest.param(warning(fatal=True), "calling_call_script_error", "error", id="script error"),
    pytest.param(UserEvent(CALL, {"a": 1}, AT), "calling_call_user_event", "info", id="user event"),
    *(
        pytest.param(
            MethodFinished(CALL, "play", "main", "main[0]", outcome, 0.5, AT),
            "calling_call_method_finished",
            level,
            id=f"method {outcome}",
        )
        for outcome, level in [("failed", "warn"), ("error", "error")]
    ),
    pytest.param(DocumentFetched(CALL, "url", "ok", 0.1, AT), "calling_call_document_fetched", "info", id="document"),
    pytest.param(
        DocumentFetched(CALL, "url", "timeout", 0.1, AT), "calling_call_document_fetched", "warn", id="no document"
    ),
    pytest.param(ScriptEnded(CALL, "finished", 3, AT), "calling_call_script_ended", "info", id="script ended"),
    pytest.param(ScriptEnded(CALL, "error", 3, AT), "calling_call_script_ended", "error", id="script failed"),
]


@pytest.mark.parametrize(("event", "name", "level"), NAMED)
def test_each_event_has_a_name_a_level_and_a_time(event, name, level):
    found = told(event)

    assert (found.name, found.level, found.at) == (name, level, AT)
    assert json.loads(found.details)["call_id"] == CALL_ID
    assert not is_quiet(event)


@pytest.mark.parametrize("outcome", ["ok", "hangup"])
def test_a_method_that_went_well_is_told_by_what_came_of_it(outcome):
    assert is_quiet(MethodFinished(CALL, "play", "main", "main[0]", outcome, 0.5, AT))


def test_a_call_that_was_refused_has_no_log():
    assert is_quiet(CallRefused("capacity", AT))


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(CallStateChanged(CALL, "created", AT, start_time=AT), id="state"),
        pytest.param(
            control("record", "finished", url=RECORDING, duration=1.5, size=10, recording_id="r1", format="mp3"),
            id="record",
        ),
        pytest.param(control("play", "playing"), id="play"),
        pytest.param(
            control("collect", "finished", result={"type": "digit", "params": {"digits": "12"}}), id="collect"
        ),
        pytest.param(control("stream", "streaming", url="wss://a.example/audio", name="ears"), id="stream"),
        pytest.param(UserEvent(CALL, {"order": {"id": 7, "lines": [1, 2.5, None, True]}}, AT), id="user event"),
        pytest.param(warning(line=4), id="warning"),
    ],
)
def test_details_are_what_a_webhook_would_hold(event):
    assert json.loads(told(event).details) == payload(event)["params"]


def test_the_recordings_url_can_be_read_from_its_event():
    details = json.loads(told(control("record", "finished", url=RECORDING, duration=1.0)).details)

    assert details["url"] == details["record"]["url"] == RECORDING


def test_who_the_device_is_comes_with_the_first_state_only():
    call = info(sip_data={"sip_from_uri": "alice@pbx.example"}, headers=({"name": "X-Customer", "value": "7"},))
    first = json.loads(told(CallStateChanged(call, "created", AT)).details)
    last = json.loads(told(CallStateChanged(call, "ended", AT, end_reason="hangup")).details)

    assert first["device"]["params"]["headers"] == [{"name": "X-Customer", "value": "7"}]
    assert "sip_data" not in first
    assert not {"device", "sip_data"} & set(last)
    assert last["end_reason"] == "hangup"


def test_a_method_tells_where_it_stood_and_what_came_of_it():
    details = json.loads(told(MethodFinished(CALL, "play", "main", "main[0]", "failed", 0.123456, AT)).details)

    assert details == {
        "call_id": CALL_ID,
        "node_id": "fs1",
        "method": "play",
        "section": "main",
        "path": "main[0]",
        "outcome": "failed",
        "seconds": 0.1235,
    }


def test_the_warning_names_its_method():
    assert json.loads(told(warning(method="play")).details)["method"] == "play"


# -- what must not be kept --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(ScriptEnded(CALL, "finished", 3, AT, {"pin": SECRET}), id="variables"),
        pytest.param(UserEvent(CALL, {"api_key": SECRET}, AT), id="a secret's name"),
        pytest.param(UserEvent(CALL, {"a": [{"b": {"Password": SECRET}}]}, AT), id="deep inside"),
        pytest.param(UserEvent(CALL, {"token": 12345678901, "x": SECRET[:0]}, AT), id="a number"),
        pytest.param(UserEvent(CALL, {"url": f"https://user:{SECRET}@h.example/"}, AT), id="credentials in a URL"),
        pytest.param(UserEvent(CALL, {"url": f"https://h.example/?k={SECRET}"}, AT), id="a query"),
        pytest.param(UserEvent(CALL, {"state": f"https://h.example/?k={SECRET}"}, AT), id="under a name of ours"),
        pytest.param(UserEvent(CALL, {"text": f"see wss://h.example/#{SECRET} there"}, AT), id="inside text"),
        pytest.param(UserEvent(CALL, {"text": f"Authorization: Bearer {SECRET}"}, AT), id="a header's text"),
        pytest.param(UserEvent(CALL, {f"https://u:{SECRET}@h.example": {"b": 1}}, AT), id="the name of a member"),
        pytest.param(control("stream", "streaming", url=f"wss://u:{SECRET}@h.example/a?t={SECRET}"), id="stream"),
        pytest.param(control("tap", "tapping", device={"uri": f"wss://h.example/?t={SECRET}"}), id="another kind"),
        pytest.param(warning(method=f"https://u:{SECRET}@h.example/"), id="warning"),
        pytest.param(
            CallStateChanged(info(headers=({"name": "X-Auth-Token", "value": SECRET},)), "created", AT), id="SIP header"
        ),
        pytest.param(
            CallStateChanged(info(sip_data={"sip_contact_uri": f"sip://u:{SECRET}@h.example"}), "created", AT),
            id="SIP URI",
        ),
    ],
)
def test_secrets_are_not_kept(event):
    details = told(event).details

    assert SECRET not in details
    assert "12345678901" not in details


def test_kinds_that_are_not_looked_through_show_nothing_a_document_says():
    from fsctl.logs.entries import _OUR_KINDS

    for kind in _OUR_KINDS:
        for state in filter(None, CONTROLS[kind]):
            shown = payload(control(kind, state, url="OURS", name=SECRET, device=SECRET, uri=SECRET))
            assert SECRET not in json.dumps(shown), (kind, state)
            assert kind == "record" or "OURS" not in json.dumps(shown), (kind, state)


PLAIN = st.text(alphabet="abXY019@.:/ -+_[]{},", max_size=20) | st.sampled_from(
    ["+49301234", "alice@pbx.example", "x" * 2000]
)
DANGERS = [
    "token",
    "X-Auth-Token",
    "PASSWORD",
    "passwd",
    "client-secret",
    "Authorization",
    "credential",
    "signing-key",
    "apikey",
    "api-\u212aey",  # the sign of the kelvin, which is a k to who does not care for case
    "\u017fecret",
    "Bearer abcdef123",
    "authorization:abcdef123",
    f"https://u:{SECRET}@h.example/",
    f"a wss://{SECRET}@h.example",
    f"https://h.example/?k={SECRET}",
    f"a?auth={SECRET}",
    f"Digest a=b;token={SECRET}",
    "x" * 2049,
]
WORDS = st.one_of(
    PLAIN,
    st.sampled_from(DANGERS),
    *(st.from_regex(rule, fullmatch=True) for rule in (log._SECRET_KEY, log._SECRET_PARAMETER, log._AUTHORIZATION)),
    st.text(max_size=20),
)
HEADERS = st.lists(st.fixed_dictionaries({"name": WORDS | PLAIN, "value": WORDS | PLAIN}), max_size=3)


def check_the_short_way(caller, headers, tag="", kind="sip"):
    """Whatever a first state shows, it is what looking through all of it leaves."""
    call = info(type=kind, from_=caller, from_number=caller, tag=tag or None, headers=tuple(headers))
    event = CallStateChanged(call, "created", AT, start_time=AT)
    with patch.object(entries, "_is_plain", return_value=False):
        looked_through = told(event)
    assert json.loads(told(event).details) == json.loads(looked_through.details)
    assert told(event)[:3] == looked_through[:3]


@given(WORDS | PLAIN, HEADERS, PLAIN, st.sampled_from(["sip", "phone", "webrtc", ""]), st.sampled_from([1, 1, 50]))
def test_a_first_state_that_is_plain_is_what_looking_through_it_leaves(caller, headers, tag, kind, times):
    check_the_short_way(caller, headers * times, tag, kind)


@pytest.mark.parametrize("text", DANGERS)
def test_the_short_way_is_not_for_what_may_be_a_secret(text):
    check_the_short_way(text, [])
    check_the_short_way("alice", [{"name": "X-Data", "value": text}])
    check_the_short_way("alice", [{"name": text, "value": "x"}])


def test_the_short_way_is_not_for_more_headers_than_are_kept():
    check_the_short_way("", [{"name": "", "value": ""}] * 101)


def test_an_ordinary_call_takes_the_short_way():
    call = info(headers=({"name": "X-Customer-Id", "value": "4711"}, {"name": "X-Name", "value": "Alice Doe"}))
    with patch.object(entries, "_Keeper", side_effect=AssertionError):
        assert told(CallStateChanged(call, "created", AT)).name == "calling_call_initiated"


# -- what must not grow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "left_out"),
    [
        pytest.param({"note": "x" * 100_000, "small": 1}, None, id="a long text is left out"),
        pytest.param({"note": "é" * 2000, "small": 1}, ["note"], id="and one that is long when written"),
        pytest.param({"many": ["word"] * 5000, "small": 1}, None, id="a long list"),
        pytest.param({"deep": [[[[[[[["x"]]]]]]]], "small": 1}, None, id="a deep list"),
        pytest.param({**dict.fromkeys("abce", "x" * 2000), "d": "w" * 2500, "small": 1}, ["a", "b", "d"], id="several"),
        pytest.param(
            {"tree": {str(n): {str(m): "x" * 20 for m in range(90)} for n in range(90)}, "small": 1},
            ["tree"],
            id="tree",
        ),
    ],
)
def test_details_are_bounded_and_say_what_is_missing(event, left_out):
    details = json.loads(told(UserEvent(CALL, event, AT)).details)

    assert len(told(UserEvent(CALL, event, AT)).details) <= MAX_DETAILS
    assert details["small"] == 1
    assert details["call_id"] == CALL_ID
    assert sorted(details.get("left_out", [])) == sorted(left_out or [])


def test_what_json_does_not_know_becomes_text():
    event = {"when": datetime(2026, 1, 2, tzinfo=UTC), "never": float("nan"), 3: "three"}

    details = json.loads(told(UserEvent(CALL, event, AT)).details)

    assert details["when"].startswith("2026-01-02")
    assert details["never"] is None
    assert details["3"] == "three"


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=40),
    lambda inside: st.lists(inside, max_size=8) | st.dictionaries(st.text(max_size=20), inside, max_size=8),
    max_leaves=40,
)


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=8))
def test_whatever_a_script_tells_becomes_bounded_json(event):
    details = told(UserEvent(CALL, event, AT)).details

    assert json.loads(details)["call_id"] == CALL_ID
    assert len(details) <= MAX_DETAILS
    assert entry(UserEvent(CALL, event, AT)).isascii()


@given(st.text(max_size=200), st.text(alphabet="abc/.-", max_size=30))
def test_no_credentials_come_through_whatever_stands_around_them(before, path):
    text = f"{before} https://user:{SECRET}@h.example/{path}"

    assert SECRET not in told(UserEvent(CALL, {"text": text}, AT)).details


def test_what_is_left_out_is_named_even_where_a_script_uses_the_name():
    event = {"left_out": "\u00e9" * 2000, "small": 1}

    assert json.loads(told(UserEvent(CALL, event, AT)).details)["left_out"] == ["left_out"]


def test_even_names_are_bounded():
    event = {f"{'é' * 200}{number}": "é" * 300 for number in range(90)}

    assert len(told(UserEvent(CALL, event, AT)).details) <= MAX_DETAILS
