"""Facts are read from the few headers that matter, from a real FreeSWITCH's events and from hostile ones."""

import json
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import ProtocolError
from fsctl.esl.protocol import Protocol
from fsctl.freeswitch import facts
from tests.recordings import NAMES, conversation


def event(name, **headers):
    """A JSON event as FreeSWITCH writes it: no blanks, every value text."""
    values = {"Event-Name": name, "Core-UUID": "c", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (event("CHANNEL_HANGUP", Hangup_Cause="USER_BUSY"), facts.HungUp("USER_BUSY")),
        (
            event(
                "CHANNEL_HANGUP_COMPLETE",
                Hangup_Cause="NORMAL_CLEARING",
            )[:-1]
            + b',"variable_sip_hangup_disposition":"recv_bye","variable_rtp_audio_in_mos":"4.50"}',
            facts.Ended("NORMAL_CLEARING", "recv_bye", 4.5),
        ),
        (event("CHANNEL_HANGUP_COMPLETE"), facts.Ended("", "", None)),
        (
            event("CHANNEL_EXECUTE_COMPLETE", Application_UUID="op-1", Application_Response="FILE PLAYED"),
            facts.Completed("op-1", "FILE PLAYED"),
        ),
        (event("CHANNEL_EXECUTE_COMPLETE", Application_UUID="op-1"), facts.Completed("op-1", "")),
        (
            event(
                "CHANNEL_EXECUTE", Application="speak", Application_Data='flite|slt|say "x"', Application_UUID="op-1"
            ),
            facts.Began("speak", 'flite|slt|say "x"'),
        ),
        (event("CHANNEL_EXECUTE", Application="park"), facts.Began("park", "")),
        (
            event("MEDIA_BUG_STOP", Media_Bug_Function="displace", Media_Bug_Target="{fsctl=1}/c/a.wav"),
            facts.MixEnded("{fsctl=1}/c/a.wav"),
        ),
        (event("MEDIA_BUG_STOP", Media_Bug_Function="session_record", Media_Bug_Target="/r/a.wav"), None),
        (event("DTMF", DTMF_Digit="#"), facts.Digit("#")),
        (
            event(
                "DETECTED_SPEECH", Speech_Type="detected-speech", __body='{"text": "yes", "confidence": 87.3}'
            ).replace(b'"--body"', b'"_body"'),
            facts.Speech("detected-speech", '{"text": "yes", "confidence": 87.3}'),
        ),
        (event("DETECTED_SPEECH", Speech_Type="begin-speaking"), facts.Speech("begin-speaking", "")),
        (
            event("RECORD_STOP", Record_File_Path="/r/a.wav", Record_Completion_Cause="success-silence")[:-1]
            + b',"variable_record_ms":"1240"}',
            facts.RecordStopped("/r/a.wav", "success-silence", 1240),
        ),
        (event("RECORD_STOP", Record_File_Path="/r/a.wav"), facts.RecordStopped("/r/a.wav", "", 0)),
        (
            event("BACKGROUND_JOB", Job_UUID="j-1", _body="+OK\n").replace(b'"-body"', b'"_body"'),
            facts.JobDone("j-1", "+OK\n"),
        ),
        (event("CUSTOM", Event_Subclass="mod_audio_stream::connect"), facts.StreamConnected()),
        (event("CUSTOM", Event_Subclass="something::else"), None),
        (event("HEARTBEAT", Event_Info="System Ready"), facts.Heartbeat()),
        (event("CHANNEL_CREATE", Unique_ID="u-1"), facts.Created()),
        (event("CHANNEL_PROGRESS", Unique_ID="u-1"), facts.Ringing(early_media=False)),
        (event("CHANNEL_PROGRESS_MEDIA", Unique_ID="u-1"), facts.Ringing(early_media=True)),
        (event("CHANNEL_ANSWER", Unique_ID="u-1"), facts.Answered()),
        (event("CHANNEL_STATE"), None),
        (b"", None),
        (b"{}", None),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bytes) else None,
)
def test_an_event_is_its_fact(raw, fact):
    assert fact == facts.read(raw)


@pytest.mark.parametrize(
    ("raw", "uuid"),
    [
        (event("CHANNEL_ANSWER", Other_Leg_Unique_ID="u-2", Unique_ID="u-1", Caller_Unique_ID="u-3"), "u-1"),
        (event("HEARTBEAT"), ""),
        (b'{"Event-Name":"CHANNEL_ANSWER","variable_x":"\\",\\"Unique-ID\\":\\"u-9","Unique-ID":"u-1"}', "u-1"),
    ],
    ids=["other-legs", "none", "forged"],
)
def test_whose_event_it_is(raw, uuid):
    assert uuid == facts.channel_of(raw)


def test_calls_do_not_hear_what_only_the_switch_link_does():
    assert not {"CHANNEL_CREATE", "CHANNEL_PROGRESS", "CHANNEL_ANSWER", "HEARTBEAT"} & set(facts.EVENTS)
    assert {"BACKGROUND_JOB", "HEARTBEAT", "CHANNEL_HANGUP_COMPLETE"} <= set(facts.SWITCH_EVENTS)


def stream_event(subclass, body):
    return event("CUSTOM", Event_Subclass=subclass)[:-1] + b',"_body":' + json.dumps(body).encode() + b"}"


def test_a_failed_stream_says_why():
    body = '{"status":"error","message":{"code":6,"error":"Connection refused (system error 111)"}}'

    assert facts.StreamFailed(6, "Connection refused (system error 111)") == facts.read(
        stream_event("mod_audio_stream::error", body)
    )


def test_a_closed_stream_says_why():
    body = '{"status":"disconnected","message":{"code":1011,"reason":"bo\\"om"}}'

    assert facts.StreamDisconnected(1011, 'bo"om') == facts.read(stream_event("mod_audio_stream::disconnect", body))


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"message":7}', '{"message":{"code":"x"}}', "not json", "null"])
def test_a_strange_stream_body_is_still_a_fact(body):
    assert facts.StreamFailed(0, "") == facts.read(stream_event("mod_audio_stream::error", body))


@given(st.text())
def test_no_value_can_forge_a_header(value):
    """A variable that holds what looks like a header stays a value, whatever it is."""
    raw = json.dumps(
        {
            "Event-Name": "DTMF",
            "variable_evil": value + '","Event-Name":"CHANNEL_HANGUP","DTMF-Digit":"9',
            "DTMF-Digit": "1",
        },
        separators=(",", ":"),
    ).encode()

    assert facts.Digit("1") == facts.read(raw)


@given(st.text())
def test_any_value_is_read_as_it_was_written(value):
    raw = json.dumps({"Event-Name": "DTMF", "DTMF-Digit": value}, separators=(",", ":")).encode()

    assert facts.Digit(value.encode("utf-8", "replace").decode() if value.isascii() else value) == facts.read(raw)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    facts.read(b'{"Event-Name":"CHANNEL_HANGUP_COMPLETE","Hangup-Cause":"' + data)
    facts.read(b'{"Event-Name":"CUSTOM","Event-Subclass":"mod_audio_stream::error","_body":"' + data)


@given(st.binary(max_size=200), st.booleans())
def test_an_event_is_read_where_it_lies_and_no_further(data, whole):
    """What FreeSWITCH sent before and behind it is another's."""
    event = b'{"Event-Name":"CHANNEL_EXECUTE_COMPLETE","Application-UUID":"' + data + (b'"}' if whole else b"")
    other = b'","Event-Name":"DTMF","Application-UUID":"other","Application-Response":"other"}'
    arrived = bytearray(other + event + other)
    place = len(other), len(other) + len(event)

    assert facts.read(arrived, *place) == facts.read(event)
    assert facts.channel_of(arrived, *place) == facts.channel_of(event)


def test_recorded_events_are_read_as_a_json_parser_reads_them():
    """The quick look and a full parse agree on every event a real FreeSWITCH sent."""
    seen = set()
    for sender, data in conversation("json_events"):
        if sender != "freeswitch":
            continue
        for message in Protocol().receive(data):
            if message.kind != "event":
                continue
            parsed = json.loads(message.body)
            fact = facts.read(message.body)
            seen.add(type(fact))
            for key in ("Event-Name", "Application-UUID", "Unique-ID", "variable_evil", "variable_switch_r_sdp"):
                assert parsed.get(key, "") == facts.value_of(message.body, f'"{key}":"'.encode())
            if isinstance(fact, facts.Completed):
                assert parsed["Application-UUID"] == fact.operation
            if isinstance(fact, facts.Ended):
                assert facts.Ended("NORMAL_CLEARING", "send_bye", 4.5, True) == fact
            if isinstance(fact, facts.JobDone):
                assert facts.JobDone("job-1", "true") == fact
    assert {facts.Completed, facts.HungUp, facts.Ended, facts.JobDone, facts.StreamConnected} <= seen


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_offer_is_read(name):
    answers = [data for sender, data in conversation(name) if sender == "freeswitch"]
    (message,) = Protocol().receive(answers[0])

    offer = facts.offered(message.head)

    assert (offer.direction, offer.answer_state) == ("inbound", "ringing")
    assert offer.caller_number == "+15551230001"
    assert offer.from_uri == "+15551230001@127.0.0.1"
    assert offer.expands
    assert offer.full_control
    assert len(offer.uuid) == 36
    assert offer.sip_data["sip_req_host"] == "127.0.0.1"


OFFER = (
    "Event-Name: CHANNEL_DATA\nUnique-ID: u-1\nCall-Direction: inbound\n"
    "{}Content-Type: command/reply\nReply-Text: %2BOK%0A"
)


def test_an_encoded_newline_in_an_offer_forges_nothing():
    offer = facts.offered(OFFER.format("variable_x: a%0AUnique-ID: evil%0ACall-Direction: outbound\n").encode())

    assert (offer.uuid, offer.direction) == ("u-1", "inbound")


def test_line_separators_of_unicode_split_nothing():
    offer = facts.offered(OFFER.format("variable_x: a\u2028Unique-ID: evil\x0bUnique-ID: evil\n").encode())

    assert offer.uuid == "u-1"


def test_a_doubled_header_keeps_the_first():
    assert facts.offered(OFFER.format("Unique-ID: u-2\n").encode()).uuid == "u-1"


def test_what_freeswitch_did_not_encode_is_read_all_the_same():
    offer = facts.offered(
        OFFER.format("variable_sip_from_uri: J\u00f6rg%40a.example\n").encode() + b"\nFreeSWITCH-Hostname: \xff"
    )

    assert (offer.from_uri, offer.node) == ("J\u00f6rg@a.example", "\ufffd")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["", "/,()!*", "%"]))
def test_any_value_of_an_offer_is_read_as_it_was_encoded(value, safe):
    encoded = quote(value, safe=safe)
    offer = facts.offered(OFFER.format(f"variable_swml_url: {encoded}\nvariable_sip_to_uri: {encoded}\n").encode())

    assert offer.swml_url == offer.to_uri == unquote(encoded, errors="replace").strip("\n")


def test_of_an_offer_the_state_alone():
    assert facts.answer_state(OFFER.format("Answer-State: early\n").encode()) == "early"
    assert facts.answer_state(OFFER.format("").encode()) == ""


def test_custom_sip_headers_keep_their_order_and_the_first_of_a_name():
    lines = "".join(f"variable_sip_h_{name}: {value}\n" for name, value in (("B", 1), ("A", 2), ("B", 3)))

    assert facts.offered(OFFER.format(lines).encode()).headers == (
        {"name": "B", "value": "1"},
        {"name": "A", "value": "2"},
    )


def test_custom_sip_headers_are_the_callers():
    offer = facts.offered(OFFER.format("variable_sip_h_X-Tenant: 42%25%20x\nvariable_swml_url: a.yaml\n").encode())

    assert offer.headers == ({"name": "X-Tenant", "value": "42% x"},)
    assert offer.swml_url == "a.yaml"


def test_the_caller_of_an_outbound_leg_is_who_it_was_dialled_for():
    """FreeSWITCH swaps caller and callee of a leg it dialled once that is up."""
    swapped = (
        "Event-Name: CHANNEL_DATA\nUnique-ID: u-1\nCall-Direction: outbound\nAnswer-State: answered\n"
        "Caller-Caller-ID-Number: 100\nCaller-Orig-Caller-ID-Number: %2B15550100\n"
        "Caller-Callee-ID-Number: %2B15550100\nCaller-Destination-Number: 100\n"
    )

    offer = facts.offered(swapped.encode())

    assert (offer.caller_number, offer.destination_number) == ("+15550100", "100")


def test_the_escape_state_of_the_channel_is_read():
    assert not facts.offered(OFFER.format("variable_app_disable_expand_variables: true\n").encode()).expands


@pytest.mark.parametrize(
    "block",
    [b"", b"Content-Type: command/reply\nReply-Text: +OK", b"Event-Name: CHANNEL_DATA\nUnique-ID: a b\n", b"\xff\xfe"],
)
def test_what_is_no_offer_is_refused(block):
    for read in (facts.offered, facts.answer_state):
        with pytest.raises(ProtocolError):
            read(block)
