from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.simulator.framing import Reader, api_response, notice, reply


def read_all(*pieces: bytes):
    reader = Reader()
    found = []
    for piece in pieces:
        reader.feed(piece)
        while command := reader.next():
            found.append(command)
    return found


CONVERSATION = (
    b"\n\nconnect\n\n"
    b"linger 5\r\n\r\n"
    b"sendmsg\ncall-command: execute\nexecute-app-name: playback\nEvent-UUID:   op-1\n"
    b"content-type: text/plain\ncontent-length: 9\n\n/a\n\nb\nc.w"
    b"\n\nbgapi status\nJob-UUID: job\n\n"
)


def check(commands):
    assert [command.line for command in commands] == ["connect", "linger 5", "sendmsg", "bgapi status"]
    assert commands[2].headers["event-uuid"] == "op-1"
    assert commands[2].body == "/a\n\nb\nc.w"
    assert (commands[3].verb, commands[3].rest, commands[3].headers) == ("bgapi", "status", {"job-uuid": "job"})


def test_commands_are_cut_at_empty_lines_and_bodies_by_their_length():
    check(read_all(CONVERSATION))


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=8))
def test_where_packets_end_makes_no_difference(cuts):
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    check(read_all(*(CONVERSATION[a:b] for a, b in itertools.pairwise(edges))))


def test_the_first_of_two_headers_wins():
    (command,) = read_all(b"sendmsg\nloops: 2\nLoops: 9\n\n")
    assert command.headers == {"loops": "2"}


def test_a_bare_carriage_return_hides_the_headers_before_it():
    (command,) = read_all(b"sendmsg\ncall-command: execute\nexecute-app-arg: a\rb\nEvent-UUID: x\n\n")
    assert command.headers == {"event-uuid": "x"}


@pytest.mark.parametrize(("word", "where"), [("unload", "execute-app-arg"), ("RELOAD", "X")])
def test_a_header_that_names_unloading_the_event_socket_replaces_the_command(word, where):
    (command,) = read_all(f"sendmsg\n{where}: please {word} Mod_Event_Socket now\n\n".encode())
    assert command.line == f"api bgapi {word.lower()} mod_event_socket"


def test_a_body_that_names_it_does_not():
    body = b"unload mod_event_socket"
    (command,) = read_all(b"sendmsg\ncontent-length: %d\n\n%b" % (len(body), body))
    assert (command.line, command.body) == ("sendmsg", body.decode())


def test_replies():
    assert reply("+OK") == b"Content-Type: command/reply\nReply-Text: +OK\n\n"
    assert reply("+OK Job-UUID: j", ("Job-UUID", "j")).endswith(b"Reply-Text: +OK Job-UUID: j\nJob-UUID: j\n\n")
    assert api_response("é\n") == b"Content-Type: api/response\nContent-Length: 3\n\n\xc3\xa9\n"


def test_long_replies_are_cut():
    assert len(reply("x" * 2000)) < 600


def test_notices():
    lingering = notice("linger", uuid="u", channel_name="sofia/a", linger=5)
    assert lingering == (
        b"Content-Type: text/disconnect-notice\nControlled-Session-UUID: u\nContent-Disposition: linger\n"
        b"Channel-Name: sofia/a\nLinger-Time: 5\nContent-Length: 0\n\n"
    )
    assert b"Content-Disposition: disconnect\nContent-Length: 67\n\n" in notice("disconnect", uuid="u")
    assert len(notice("disconnect").partition(b"\n\n")[2]) == 67
