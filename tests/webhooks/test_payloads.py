"""What customers' servers get, row by row of the reference (webhooks.md, sections 1 to 3)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

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
from fsctl.web import with_query
from fsctl.webhooks.payloads import END_REASONS, EVENT_TYPES, event_type, payload, query, serialise

AT = 1767323045.123456
ADDRESS = {
    "call_id": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11",
    "node_id": "0a1b2c3d-0000-4000-8000-000000000001",
}
SEGMENT = {"segment_id": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d12"}


def control(call, kind, state, **detail):
    return ControlChanged(call, kind, kind, f"{kind}-1", state, AT, detail, Callback("https://app.example/s"))


def test_the_envelope_names_the_session_the_time_and_the_owner(call):
    assert payload(control(call(), "play", "playing")) == {
        "event_type": "calling.call.play",
        "event_channel": "swml:7d3d3f8e-1111-4222-8333-444444444444",
        "timestamp": AT,
        "project_id": "11111111-2222-4333-8444-555555555555",
        "space_id": "99999999-8888-4777-8666-555555555555",
        "params": {**ADDRESS, "control_id": "play-1", "state": "playing"},
    }


@pytest.mark.parametrize("state", ["playing", "paused", "finished", "error"])
def test_play_shows_its_state_and_nothing_of_its_sounds(call, state):
    told = payload(control(call(tag="t"), "play", state, url="https://x/secret.mp3", duration=3))

    assert told["params"] == {**ADDRESS, "control_id": "play-1", "state": state}


# -- record -----------------------------------------------------------------------------------------------------------

RECORDED = {
    "url": "https://rec.example/r1.mp3",
    "duration": 15.5,
    "size": 248320,
    "recording_id": "d1c1d1c1-0000-4000-8000-000000000001",
    "start_time": 1767323000.10,
    "end_time": 1767323015.60,
    "format": "mp3",
    "direction": "speak",
    "stereo": False,
    "pause_behavior": "silence",
}
AUDIO = {"audio": {"format": "mp3", "direction": "speak", "stereo": False}}


def fields(*names):
    return {name: RECORDED[name] for name in names}


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        pytest.param("recording", {**fields("recording_id"), "record": AUDIO}, id="recording"),
        pytest.param("paused", {**fields("recording_id", "pause_behavior"), "record": AUDIO}, id="paused"),
        pytest.param(
            "no_input",
            {**fields("duration", "size", "recording_id", "start_time", "end_time"), "record": AUDIO},
            id="no_input has no url",
        ),
        pytest.param(
            "finished",
            {
                **fields("url", "duration", "size", "recording_id", "start_time", "end_time"),
                "record": {**AUDIO, **fields("url", "duration", "size", "format")},
            },
            id="finished is told in both documented forms",
        ),
        pytest.param(
            "error", {**fields("recording_id", "start_time", "end_time"), "record": AUDIO}, id="error has no result"
        ),
    ],
)
def test_record_shows_in_each_state_what_the_reference_lists(call, state, shown):
    told = payload(control(call(), "record", state, **RECORDED))

    assert told["event_type"] == "calling.call.record"
    assert told["params"] == {**ADDRESS, **SEGMENT, "control_id": "record-1", "state": state, **shown}


def test_record_leaves_out_what_is_not_known(call):
    told = payload(control(call(segment_id=""), "record", "finished", url="https://x/r.wav", duration=None))

    assert told["params"] == {
        **ADDRESS,
        "control_id": "record-1",
        "state": "finished",
        "url": "https://x/r.wav",
        "record": {"audio": {}, "url": "https://x/r.wav"},
    }


# -- collect and detect: a result instead of a state ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "result"),
    [
        ("finished", {"type": "digit", "params": {"digits": "4711", "terminator": "#"}}),
        ("finished", {"type": "speech", "params": {"text": "yes", "confidence": 0.95}}),
        ("finished", {"type": "no_input"}),
        ("error", {"type": "error"}),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else value,
)
def test_collect_shows_its_result_and_no_state(call, state, result):
    told = payload(control(call(), "collect", state, result=result, secret="x"))

    assert told["event_type"] == "calling.call.collect"
    assert told["params"] == {**ADDRESS, "control_id": "collect-1", "result": result}


@pytest.mark.parametrize(
    ("state", "detail", "shown"),
    [
        pytest.param("collecting", {"final": False}, {"final": False}, id="partial results tell whether it is final"),
        pytest.param("finished", {"final": True}, {"final": True}, id="which the last word is"),
        pytest.param("collecting", {"continuous": True}, {"state": "collecting"}, id="a continuous one has a state"),
        pytest.param("finished", {"continuous": True}, {"state": "finished"}, id="also at its end"),
        pytest.param(
            "collecting", {"continuous": True, "final": False}, {"state": "collecting", "final": False}, id="both"
        ),
    ],
)
def test_collect_shows_more_to_who_asked_for_more(call, state, detail, shown):
    result = {"type": "digit", "params": {"digits": "1", "terminator": ""}}
    told = payload(control(call(), "collect", state, result=result, **detail))

    assert told["params"] == {**ADDRESS, "control_id": "collect-1", "result": result, **shown}


@pytest.mark.parametrize(
    ("state", "detect"),
    [
        ("detected", {"type": "machine", "params": {"event": "READY", "beep": True}}),
        ("detected", {"type": "fax", "params": {"event": "CED"}}),
        ("finished", {"type": "machine", "params": {"event": "finished"}}),
    ],
    ids=["ready", "fax", "finished"],
)
def test_detect_shows_what_was_found_and_no_state(call, state, detect):
    told = payload(control(call(), "detect", state, detect=detect))

    assert told["event_type"] == "calling.call.detect"
    assert told["params"] == {**ADDRESS, **SEGMENT, "control_id": "detect-1", "detect": detect}


# -- stream -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("different", "detail", "shown"),
    [
        pytest.param({}, {}, {}, id="plain"),
        pytest.param({}, {"name": "live"}, {"name": "live"}, id="name only when set"),
        pytest.param({"tag": "t"}, {"name": None}, {"tag": "t"}, id="tag only when set"),
    ],
)
@pytest.mark.parametrize("state", ["streaming", "finished"])
def test_stream_shows_its_url_and_the_optional_fields_that_are_set(call, state, different, detail, shown):
    told = payload(control(call(**different), "stream", state, url="wss://app.example/audio", codec="L16", **detail))

    assert told["params"] == {
        **ADDRESS,
        **SEGMENT,
        "control_id": "stream-1",
        "state": state,
        "url": "wss://app.example/audio",
        **shown,
    }


@pytest.mark.parametrize("state", ["streaming", "finished"])
def test_stream_fits_the_published_schema(call, state):
    from jsonschema import Draft202012Validator, FormatChecker

    path = Path(__file__).parents[3] / "shared/spec/data/calling-api.openapi.yaml"
    if not path.exists():
        pytest.skip("the published schemas are not beside the repository")
    document = yaml.safe_load(path.read_text())
    reference = "#/components/schemas/Webhooks.Calling.StreamStatusCallbackPayload"
    validator = Draft202012Validator({"$ref": reference, **document}, format_checker=FormatChecker())

    told = payload(control(call(tag="t"), "stream", state, url="wss://app.example/audio", name="live"))

    assert list(validator.iter_errors(json.loads(serialise(told)))) == []
    assert list(validator.iter_errors({**told, "params": {**told["params"], "state": "broken"}}))


def test_a_kind_without_a_row_is_told_with_its_state_and_whole_detail(call):
    told = payload(control(call(), "tap", "tapping", tap={"type": "audio"}, device=None))

    assert told["event_type"] == "calling.call.tap"
    assert told["params"] == {
        **ADDRESS,
        **SEGMENT,
        "control_id": "tap-1",
        "state": "tapping",
        "tap": {"type": "audio"},
    }


# -- call state -------------------------------------------------------------------------------------------------------

TIMES = {"start_time": 0, "answer_time": 0, "end_time": 0}
PHONE = {"type": "phone", "params": {"from_number": "+15550001111", "to_number": "+15550002222"}}


def test_a_new_call_is_told_with_zeros_for_times_to_come(call):
    told = payload(CallStateChanged(call(), "created", AT, start_time=1767323044.5))

    assert told["event_type"] == "calling.call.state"
    assert told["params"] == {
        **ADDRESS,
        **SEGMENT,
        "call_state": "created",
        "direction": "inbound",
        "device": PHONE,
        **TIMES,
        "start_time": 1767323044500,
    }


def test_an_ended_call_is_told_with_reason_source_times_and_quality(call):
    told = payload(
        CallStateChanged(
            call(tag="t", direction="outbound"),
            "ended",
            AT,
            start_time=1767323040.0004,
            answer_time=1767323041.25,
            end_time=1767323045.1234,
            end_reason="no_answer",
            end_source="outbound",
            cause="NO_ANSWER",
            audio_in_mos=4.5,
        )
    )

    assert told["params"] == {
        **ADDRESS,
        **SEGMENT,
        "tag": "t",
        "call_state": "ended",
        "direction": "outbound",
        "device": PHONE,
        "start_time": 1767323040000,
        "answer_time": 1767323041250,
        "end_time": 1767323045123,
        "end_reason": "noAnswer",
        "end_source": "outbound",
        "audio_in_mos": 4.5,
    }


@pytest.mark.parametrize("state", ["created", "ringing", "answered", "ending"])
def test_only_an_ended_call_has_a_reason(call, state):
    told = payload(CallStateChanged(call(), state, AT, end_reason="busy", end_source="none"))

    assert {"end_reason", "end_source"}.isdisjoint(told["params"])


@pytest.mark.parametrize(
    ("reason", "rest", "swml"),
    [
        ("hangup", "hangup", "hangup"),
        ("cancel", "cancel", "cancel"),
        ("busy", "busy", "busy"),
        ("no_answer", "noAnswer", "no_answer"),
        ("declined", "decline", "declined"),
        ("error", "error", "error"),
        ("abandoned", "abandoned", "error"),
        ("max_duration", "max_duration", "error"),
        ("not_found", "not_found", "error"),
    ],
)
def test_each_surface_has_its_own_spelling_of_the_end_reason(call, reason, rest, swml):
    event = CallStateChanged(call(), "ended", AT, end_reason=reason)

    assert payload(event)["params"]["end_reason"] == rest
    assert payload(event, "swml")["params"]["end_reason"] == swml


def test_every_internal_end_reason_has_a_rest_spelling():
    from fsctl.freeswitch.causes import END_REASONS as INTERNAL

    assert set(END_REASONS["rest"]) == set(INTERNAL)
    assert set(END_REASONS["swml"]) < set(INTERNAL)


SIP = {"type": "sip", "from_": "alice@a.example", "to": "bob@b.example"}
HEADER = {"name": "X-Account", "value": "7"}


@pytest.mark.parametrize(
    ("different", "device"),
    [
        pytest.param({}, PHONE, id="phone"),
        pytest.param(
            SIP, {"type": "sip", "params": {"from": "alice@a.example", "to": "bob@b.example"}}, id="sip without headers"
        ),
        pytest.param(
            {**SIP, "headers": (HEADER,)},
            {"type": "sip", "params": {"from": "alice@a.example", "to": "bob@b.example", "headers": [HEADER]}},
            id="sip with headers",
        ),
        pytest.param(
            {**SIP, "type": "webrtc", "headers": (HEADER,)},
            {"type": "webrtc", "params": {"from": "alice@a.example", "to": "bob@b.example"}},
            id="webrtc",
        ),
        pytest.param({"type": ""}, {}, id="not known yet"),
    ],
)
def test_the_device_is_shown_by_the_type_of_the_call(call, different, device):
    assert payload(CallStateChanged(call(**different), "created", AT))["params"]["device"] == device


@pytest.mark.parametrize(
    ("different", "shown"),
    [
        pytest.param({**SIP, "sip_data": {"sip_from_user": "alice"}}, {"sip_from_user": "alice"}, id="sip"),
        pytest.param({**SIP, "sip_data": None}, None, id="sip without data"),
        pytest.param({"sip_data": {"sip_from_user": "alice"}}, None, id="phone"),
    ],
)
def test_sip_data_is_shown_for_sip_calls_only(call, different, shown):
    assert payload(CallStateChanged(call(**different), "created", AT))["params"].get("sip_data") == shown


# -- script -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        pytest.param({}, {}, id="nowhere"),
        pytest.param({"section": "main", "index": 0, "line": 7}, {"section": "main", "step": 0, "line": 7}, id="known"),
        pytest.param({"section": "main", "index": 3}, {"section": "main", "step": 3}, id="no line"),
    ],
)
def test_a_script_warning_says_where_as_far_as_that_is_known(call, where, shown):
    told = payload(ScriptWarning(call(), "relay_script_method_execute_failed", "play: cannot open", AT, **where))

    assert told["event_type"] == "calling.script.warning"
    assert told["params"] == {
        **ADDRESS,
        "code": "relay_script_method_execute_failed",
        "message": "play: cannot open",
        **shown,
    }


def test_a_user_event_is_the_senders_object_with_the_calls_own_address(call):
    told = payload(UserEvent(call(), {"action": "open", "call_id": "someone else's"}, AT))

    assert told["event_type"] == "calling.user_event"
    assert told["params"] == {"action": "open", **ADDRESS}


def test_what_is_none_of_the_customers_business_has_no_payload(call):
    for event in (
        CallRefused("capacity", AT),
        MethodFinished(call(), "play", "main", "main[0]", "ok", 1.0, AT),
        DocumentFetched(call(), "url", "ok", 0.1, AT),
        ScriptEnded(call(), "finished", 3, AT),
    ):
        assert payload(event) is None
        assert event_type(event) is None


def test_the_list_of_event_types_is_what_payloads_carry(call):
    events = [
        CallStateChanged(call(), "created", AT),
        ScriptWarning(call(), "c", "m", AT),
        UserEvent(call(), {}, AT),
        *(control(call(), kind, "finished") for kind in ("play", "record", "stream", "tap", "collect", "detect")),
    ]

    assert {payload(event)["event_type"] for event in events} == set(EVENT_TYPES)
    assert [event_type(event) for event in events] == [payload(event)["event_type"] for event in events]


# -- on the wire ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_a_body_survives_the_wire(body):
    assert json.loads(serialise(body).decode("ascii")) == body


class Name(str):
    """Text of a kind of its own."""


class Colour(IntEnum):
    RED = 1


@dataclass
class Record:
    a: int


class Pair(NamedTuple):
    a: int
    b: float


# What no document of ours holds, but an object of a customer's or a fault may bring: today's bytes are the contract.
ODD = (
    st.integers(-(2**70), 2**70)
    | st.text(st.characters())  # lone surrogates, too
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.uuids()
    | st.binary(max_size=3)
    | st.decimals(allow_nan=False)
    | st.builds(Name, st.text())
    | st.just(Colour.RED)
    | st.builds(Record, st.integers())
    | st.builds(Pair, st.integers(), st.floats(allow_nan=False, allow_infinity=False))
)
KEYS = st.text(st.characters()) | st.integers() | st.booleans() | st.none() | st.builds(Name, st.text())


@given(
    st.recursive(
        JSON | ODD,
        lambda inside: (
            st.lists(inside, max_size=3) | st.tuples(inside, inside) | st.dictionaries(KEYS, inside, max_size=3)
        ),
        max_leaves=10,
    )
)
def test_whatever_a_body_holds_is_what_the_standard_library_makes_of_it(body):
    assert json.loads(serialise(body).decode("ascii")) == json.loads(json.dumps(body, default=str))


@pytest.mark.parametrize("levels", [100, 253, 254, 255, 300])
def test_a_body_may_be_deep(levels):
    body = {}
    for _ in range(levels):
        body = {"in": body}

    assert json.loads(serialise(body)) == body


def test_numbers_json_has_no_form_for_become_null():
    assert serialise({"a": [math.nan, -math.inf, {"b": (math.inf, 1.5)}]}) == b'{"a":[null,null,{"b":[null,1.5]}]}'


def test_a_date_from_a_document_becomes_text():
    body = yaml.safe_load("due: 2026-01-02")

    assert serialise(body) == b'{"due":"2026-01-02"}'


def test_a_key_that_is_no_name_is_refused():
    with pytest.raises(TypeError, match="keys must be"):
        serialise({"params": {("a", "b"): 1}})


def test_a_body_that_contains_itself_is_refused():
    body = {}
    body["again"] = body

    with pytest.raises(RecursionError):
        serialise(body)


def test_the_get_form_carries_every_field_under_its_own_name(call):
    event = control(call(), "stream", "streaming", url="wss://app.example/a?b=c&d=é", name="a b")

    assert parse_qsl(query(payload(event)), strict_parsing=True) == [
        ("event_type", "calling.call.stream"),
        ("event_channel", "swml:7d3d3f8e-1111-4222-8333-444444444444"),
        ("timestamp", "1767323045.123456"),
        ("project_id", "11111111-2222-4333-8444-555555555555"),
        ("space_id", "99999999-8888-4777-8666-555555555555"),
        *ADDRESS.items(),
        *SEGMENT.items(),
        ("control_id", "stream-1"),
        ("state", "streaming"),
        ("url", "wss://app.example/a?b=c&d=é"),
        ("name", "a b"),
    ]


def test_in_the_get_form_objects_and_truth_values_are_json():
    body = {"event_type": "x", "params": {"deep": {"a": [1, "ü"]}, "yes": True, "event_type": "never mine"}}

    assert parse_qsl(query(body)) == [("event_type", "x"), ("deep", '{"a":[1,"\\u00fc"]}'), ("yes", "true")]


@pytest.mark.parametrize(
    ("url", "result"),
    [
        ("https://a.example/p", "https://a.example/p?q=1"),
        ("https://a.example/p?x=2", "https://a.example/p?x=2&q=1"),
        ("https://a.example/p?", "https://a.example/p?q=1"),
        ("https://a.example/p?x=2&", "https://a.example/p?x=2&q=1"),
        ("https://a.example/p?x=2#rt=100", "https://a.example/p?x=2&q=1"),
        ("https://u:p@a.example#f?not=a-query", "https://u:p@a.example?q=1"),
    ],
)
def test_the_get_form_goes_behind_the_urls_own_query_and_drops_the_fragment(url, result):
    assert with_query(url, "q=1") == result
