"""The event socket's framing, against a real FreeSWITCH's bytes and against what no FreeSWITCH should send."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import ProtocolError
from fsctl.esl.protocol import Protocol, encode, encode_execute
from fsctl.freeswitch.commands import Command
from tests.recordings import NAMES, conversation

REPLY = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
EVENT = b'Content-Length: 21\nContent-Type: text/event-json\n\n{"Event-Name":"DTMF"}'
NOTICE = b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nContent-Length: 7\n\nbye\n\n\n\n"


def received(*chunks):
    protocol = Protocol()
    messages = [message for chunk in chunks for message in protocol.receive(chunk)]
    if protocol.problem:
        raise ProtocolError(protocol.problem)
    return messages, protocol


def said(message):
    return message.kind, message.head, message.text, message.body


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_message_is_one_message(name):
    """What FreeSWITCH wrote as one message comes out as one message, body and all."""
    for sender, data in conversation(name):
        if sender == "freeswitch":
            messages, protocol = received(data)

            assert len(messages) == 1
            assert protocol.idle
            assert data.endswith(messages[0].body)


@pytest.mark.parametrize("name", ["json_events", "record"])
def test_fragments_make_the_same_messages(name):
    """However the bytes are cut, the messages are the same."""
    stream = b"".join(data for sender, data in conversation(name) if sender == "freeswitch")
    whole = [said(message) for message in received(stream)[0]]
    for size in (1, 7, 1448):
        pieces, _ = received(*(stream[at : at + size] for at in range(0, len(stream), size)))

        assert whole == [said(message) for message in pieces]


def test_a_reply_says_its_text():
    (message,), _ = received(REPLY)

    assert (message.kind, message.text, message.body) == ("reply", "+OK accepted", b"")


def test_a_literal_percent_in_a_reply_stays():
    (message,), _ = received(b"Content-Type: command/reply\nReply-Text: -ERR 100%25 wrong\n\n")

    assert message.text == "-ERR 100%25 wrong"


def test_the_output_of_an_api_is_its_body():
    (message,), _ = received(b"Content-Type: api/response\nContent-Length: 10\n\n+OK a\nb \xff\n")

    assert message.text == "+OK a\nb \ufffd\n"


def test_every_content_type_consumes_its_body():
    """The farewell text of a disconnect notice is not read as the next message."""
    messages, protocol = received(NOTICE + REPLY)

    assert [message.kind for message in messages] == ["notice", "reply"]
    assert protocol.idle


def test_empty_lines_between_messages_are_ignored():
    messages, _ = received(b"\n\n\n" + REPLY + b"\n" + REPLY)

    assert len(messages) == 2


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"GET / HTTP/1.1\nHost: x\n\n", "content type 'none'", id="not-an-event-socket"),
        pytest.param(b"Content-Type: text/html\n\n", "text/html", id="unknown-type"),
        pytest.param(b"Content-Type: api/response\nContent-Length: -1\n\n", "length '-1'", id="negative"),
        pytest.param(b"Content-Type: api/response\nContent-Length: 99999999999\n\n", "length", id="too-long"),
        pytest.param(b"Content-Type: api/response\nContent-Length: 16777217\n\n", "length", id="over-the-limit"),
        pytest.param(b"Content-Type: api/response\nContent-Length: 1e3\n\n", "length '1e3'", id="not-digits"),
        pytest.param(b"x" * (1 << 20) + b"x", "header block", id="endless-headers"),
    ],
)
def test_garbage_ends_the_connection(data, problem):
    with pytest.raises(ProtocolError, match=problem):
        received(data)


def test_what_came_before_garbage_is_handed_out_and_nothing_after_it():
    protocol = Protocol()

    before = protocol.receive(REPLY + EVENT + b"GET / HTTP/1.1\n\n" + REPLY)

    assert [message.kind for message in before] == ["reply", "event"]
    assert protocol.problem == "a message with the content type 'none'"
    with pytest.raises(ProtocolError, match="content type 'none'"):
        protocol.receive(REPLY)


def test_replies_that_begin_alike_say_their_own():
    """The heads of short messages are remembered."""
    messages, _ = received(*(b"Content-Type: command/reply\nReply-Text: +OK %d\n\n" % n for n in (1, 2, 1)))

    assert [message.text for message in messages] == ["+OK 1", "+OK 2", "+OK 1"]


@given(st.binary(max_size=400))
def test_no_bytes_make_anything_but_messages_or_protocol_errors(data):
    with suppress(ProtocolError):
        received(data)


@given(st.lists(st.sampled_from([REPLY, EVENT, NOTICE, b"\n\n"]), max_size=8), st.lists(st.integers(0, 900)))
def test_messages_do_not_depend_on_how_they_are_cut(messages, cuts):
    stream = b"".join(messages)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges) if end > start]
    protocol = Protocol()
    arrived = bytearray(1000)  # one for all pieces, as a connection has it
    found = []
    for piece in pieces:
        arrived[: len(piece)] = piece
        found += map(said, protocol.receive(arrived, len(piece)))

    assert found == [said(one) for message in messages for one in received(message)[0]]
    assert protocol.idle


def test_a_cut_message_is_not_idle():
    for cut in (b"Content-Ty", EVENT[:-3]):
        messages, protocol = received(cut)

        assert not messages
        assert not protocol.idle


# -- outward -----------------------------------------------------------------------------------------------------


def test_an_application_carries_its_argument_in_the_body():
    frame = encode_execute("u-1", "op-1", "playback", "/tmp/a b\nc.wav")

    head, _, body = frame.partition(b"\n\n")
    assert body == b"/tmp/a b\nc.wav"
    assert head.split(b"\n") == [
        b"sendmsg u-1",
        b"call-command: execute",
        b"execute-app-name: playback",
        b"Event-UUID: op-1",
        b"event-lock: true",
        b"content-type: text/plain",
        b"content-length: 14",
    ]


def test_an_application_without_argument_has_no_body():
    assert encode_execute("u-1", "op-1", "answer", "").endswith(b"event-lock: true\n\n")


def test_the_length_is_in_bytes():
    frame = encode_execute("u-1", "op-1", "speak", "flite|slt|caf\u00e9")

    assert b"content-length: 15\n\n" in frame


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", "\r\n\r\nexit"])
def test_a_line_break_never_reaches_the_wire(bad):
    for command in (Command(f"api status{bad}"), Command("bgapi status", (("Job-UUID", f"x{bad}"),))):
        with pytest.raises(ValueError, match="newline or NUL"):
            encode(command)
    with pytest.raises(ValueError, match="newline or NUL"):
        encode_execute(f"u{bad}", "op", "answer", "")


def test_nul_in_a_body_is_refused():
    with pytest.raises(ValueError, match="NUL"):
        encode_execute("u-1", "op-1", "speak", "a\0b")


@pytest.mark.parametrize("text", ["please reload mod_event_socket", "UNLOAD Mod_Event_Socket"])
def test_the_words_that_unload_the_event_socket_are_refused(text):
    with pytest.raises(ValueError, match="mod_event_socket"):
        encode(Command(f"api uuid_setvar u x {text}"))


@given(st.text())
def test_any_argument_is_framed_by_its_length(argument):
    """Whatever the text, FreeSWITCH reads exactly the announced bytes and then the next command."""
    if "\0" in argument:
        return
    frame = encode_execute("u-1", "op-1", "playback", argument)
    head, _, body = frame.partition(b"\n\n")
    announced = [int(line[15:]) for line in head.split(b"\n") if line.startswith(b"content-length:")]

    assert announced == ([len(body)] if argument else [])
