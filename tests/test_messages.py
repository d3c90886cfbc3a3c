"""Messages against servers that answer in odd ways, at odd times, or not at all."""

from __future__ import annotations

import time
from socket import SHUT_WR

import gevent
import pytest
from gevent.server import StreamServer
from hypothesis import example, given
from hypothesis import strategies as st

from fsctl.errors import FetchError
from fsctl.messages import Headers, Line
from fsctl.web import Client, Policy, Timeouts
from tests.fakes.web import LOOPBACK, reply, servers

TIMEOUTS = Timeouts(2.0, 5.0, 10.0)
QUICK = Timeouts(1.0, 0.3, 0.3)


@pytest.fixture
def serve():
    with servers() as start:
        yield start


@pytest.fixture
def client():
    made = Client(LOOPBACK, user_agent="fsctl/test", pool_size=1)
    yield made
    made.close()


@pytest.fixture
def post(client):
    """Send a message; gives the status and the headers of the answer, None where there was none."""

    def send(url, body=b"{}", *, method="POST", headers=None, timeouts=TIMEOUTS):
        seen = [None]
        status = client.send(method, url, headers or {}, body, timeouts, received=seen.append)
        return status, seen[-1]

    return send


def in_pieces(*pieces):
    return in_pieces_every(0.005, *pieces)


def in_pieces_every(seconds, *pieces):
    def answer(connection):
        for piece in pieces:
            connection.sendall(piece)
            gevent.sleep(seconds)

    return answer


def keeping(answer):
    """Say it and keep the connection open: the next request comes on the same one or on a new one."""

    def say(connection):
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)
        return b""

    return lambda *_: say


# What an answer may look like, and whether its connection is good for another message

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    "plain": (OK, 200, True),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True),
    "not modified, with the length it would have": (b"HTTP/1.1 304 X\r\nContent-Length: 99\r\n\r\n", 304, True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 200, True),
    "byte by byte": (in_pieces(*(OK[i : i + 1] for i in range(len(OK)))), 200, True),
    "head and body apart": (in_pieces(OK[:-2], OK[-2:]), 200, True),
    "interim answers first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
        200,
        True,
    ),
    "interim answer, then a pause": (in_pieces(b"HTTP/1.1 102 Processing\r\n\r\n", OK), 200, True),
    "chunked": (
        in_pieces(
            b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nab", b"c\r\n0\r\n", b"Trailer: x\r\n\r\n"
        ),
        500,
        True,
    ),
    "wants to close": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 200, False),
    "of old": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 200, False),
    "of old, kept open": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", 200, True),
    "switching protocols": (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 101, False),
    "a body where there can be none": (b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\nhello", 204, False),
    "one answer too many": (OK + b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", 200, False),
    "the beginning of another": (OK + b"HT", 200, False),
    "chunks that are none": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 200, False),
    "longer than we care to read": (reply(b"x" * 100_000), 200, False),
}


@pytest.mark.parametrize(("answer", "status", "kept"), ANSWERS.values(), ids=ANSWERS)
def test_the_status_of_an_answer_and_whether_the_connection_is_used_again(serve, post, answer, status, kept):
    server = serve(keeping(answer))
    assert post(server.url)[0] == status
    server.answer = reply(status=202)
    assert post(server.url)[0] == 202
    assert server.connections == (1 if kept else 2)


def test_head_is_answered_without_the_body_it_announces(serve, post):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
    started = time.monotonic()
    assert post(server.url, None, method="HEAD")[0] == 200
    assert time.monotonic() - started < TIMEOUTS.read
    server.answer = reply()
    assert post(server.url)[0] == 200


HOPELESS = {
    "no HTTP": (b"220 mail.example ESMTP\r\n\r\n", "content"),
    "another HTTP": (b"HTTP/1.2 200 OK\r\n\r\n", "content"),
    "no status": (b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "content"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "content"),
    "a head without end": (b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 10_000, "content"),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 70_000, "content"),
    "interim answers without end": (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "content"),
    "half a head": (b"HTTP/1.1 200 OK\r\nX-A", "timeout"),
    "only an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", "timeout"),
    "nothing": (b"", "timeout"),
}


@pytest.mark.parametrize(("answer", "reason"), HOPELESS.values(), ids=HOPELESS)
def test_what_is_no_answer_costs_the_message_and_the_connection(serve, post, answer, reason):
    server = serve(keeping(answer))
    with pytest.raises(FetchError) as caught:
        post(server.url, timeouts=QUICK)
    assert caught.value.reason == reason
    server.answer = reply()
    assert post(server.url)[0] == 200
    assert server.connections == 2


def test_headers_are_those_of_the_final_answer_however_its_body_ends(serve, post):
    head = b"HTTP/1.1 103 X\r\nRetry-After: 1\r\n\r\nHTTP/1.1 503 X\r\nRETRY-AFTER: 7\r\nContent-Length: 9\r\n\r\n"
    server = serve(lambda *_: lambda connection: connection.sendall(head))
    status, headers = post(server.url)
    assert (status, headers["retry-after"], headers.get("Retry-After"), headers.get("X-None")) == (503, "7", "7", None)


def test_headers_can_be_asked_for_in_any_spelling():
    headers = Headers([(b"X-A", b"1"), (b"x-b", b"\xe4"), (b"x-a", b"2")])
    assert dict(headers) == {"x-a": "1, 2", "x-b": "ä"}
    assert (len(headers), headers["X-a"], "X-B" in headers, "€" in headers) == (2, "1, 2", True, False)


# What leaves


@given(st.text(max_size=30))
@example("1\r\nX-Evil: 2")
@example("1\nX-Evil: 2")
@example("1\rX-Evil: 2")
@example("\x00")
@example("%s %d %%")
def test_a_header_value_is_one_header_or_refused(value):
    client = Client(Policy(), user_agent="fsctl/test")
    target = client._target("http://example.com/%41?b=%25s")
    try:
        message = client._message(target, "POST", {"X-A": value, "X-B": "2"}, b"body")
    except ValueError:
        return
    head, _, body = message.partition(b"\r\n\r\n")
    assert body == b"body"
    assert head.decode("latin-1").split("\r\n") == [
        "POST /%41?b=%25s HTTP/1.1",
        "Host: example.com",
        "Accept-Encoding: identity",
        "User-Agent: fsctl/test",
        f"X-A: {value}",
        "X-B: 2",
        "Content-Length: 4",
    ]


def test_headers_that_are_given_replace_ours(serve, post):
    server = serve(reply())
    post(server.url.replace("//", "//u:p@"), headers={"user-agent": "mine", "AUTHORIZATION": "t", "host": "h"})
    _, sent, _ = server.requests[0]
    assert sent == {
        "Accept-Encoding": "identity",
        "user-agent": "mine",
        "AUTHORIZATION": "t",
        "host": "h",
        "Content-Length": "2",
    }


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection"])
def test_how_a_message_is_framed_is_not_the_callers_to_say(serve, post, name):
    server = serve(reply())
    with pytest.raises(FetchError) as caught:
        post(server.url, headers={name: "1"})
    assert (caught.value.reason, name.lower() in caught.value.detail) == ("malformed", True)
    assert server.connections == 0


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [("POST", None, "0"), ("POST", b"", "0"), ("GET", None, None), ("GET", b"", "0"), ("PUT", b"abc", "3")],
)
def test_the_length_of_a_body(serve, post, method, body, length):
    server = serve(reply())
    post(server.url, body, method=method)
    assert server.requests[0][1].get("Content-Length") == length


def test_a_message_larger_than_any_buffer(serve, post):
    server = serve(reply())
    body = bytes(range(256)) * 40_000
    assert post(server.url, body)[0] == 200
    assert server.requests[0][2] == body


def test_an_answer_given_before_the_message_was_read(post):
    def refuse(connection, _address):
        connection.recv(10)
        connection.sendall(reply(status=413))
        connection.close()

    server = StreamServer(("127.0.0.1", 0), refuse)
    server.start()
    try:
        assert post(f"http://127.0.0.1:{server.server_port}/", b"x" * 20_000_000)[0] == 413
    finally:
        server.stop()


def test_a_receiver_that_does_not_read_in_time(post):
    server = StreamServer(("127.0.0.1", 0), lambda _connection, _address: gevent.sleep(30))
    server.start()
    try:
        with pytest.raises(FetchError) as caught:
            post(f"http://127.0.0.1:{server.server_port}/", b"x" * 20_000_000, timeouts=QUICK)
    finally:
        server.stop()
    assert caught.value.reason == "timeout"


# Connections


def hang_up(connection):
    connection.close()


def answering_once(ending=hang_up):
    """Answers the first question of each connection; what ``ending`` does meets the second."""
    answered = set()

    def answer(connection):
        if connection in answered:
            return ending(connection)
        answered.add(connection)
        return reply()

    return lambda *_: answer


def test_a_message_is_sent_again_once(serve, post):
    server = serve(answering_once())
    assert post(server.url)[0] == 200
    server.answer = lambda *_: hang_up
    with pytest.raises(FetchError) as caught:
        post(server.url)
    assert (caught.value.reason, server.connections, len(server.requests)) == ("connect", 2, 3)


def test_a_message_its_server_began_to_answer_is_not_sent_again(serve, post):
    def break_off(connection):
        connection.sendall(b"HTTP/1.1 2")
        connection.close()

    server = serve(answering_once(break_off))
    assert post(server.url)[0] == 200
    with pytest.raises(FetchError) as caught:
        post(server.url)
    assert (caught.value.reason, len(server.requests)) == ("connect", 2)


def test_a_connection_that_was_sent_what_nobody_asked_for_is_not_used_again(serve, post):
    told = gevent.event.Event()

    def answer(connection):
        connection.sendall(reply())
        gevent.sleep(0.01)
        connection.sendall(b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n")
        told.set()
        return b""

    server = serve(lambda *_: answer)
    assert post(server.url)[0] == 200
    assert told.wait(5)
    server.answer = reply(status=202)
    assert post(server.url)[0] == 202
    assert server.connections == 2


def test_a_good_bye_that_crosses_a_message_is_no_answer_to_it(serve, post):
    def say_good_bye(connection):
        connection.sendall(reply(status=408))
        return b""

    server = serve(answering_once(say_good_bye))
    assert [post(server.url)[0] for _ in range(3)] == [200, 200, 200]
    assert server.connections == 3


def test_to_a_new_connection_it_is_an_answer(serve, post):
    server = serve(reply(status=408))
    assert post(server.url)[0] == 408
    server.answer = reply()
    assert post(server.url)[0] == 200
    assert server.connections == 2


def test_an_idle_connection_is_closed_when_its_server_goes(serve, client, post):
    go = gevent.event.Event()
    ended = gevent.event.Event()

    def answer(connection):
        connection.sendall(reply())
        go.wait(5)
        connection.shutdown(SHUT_WR)
        if connection.recv(1) == b"":
            ended.set()

    server = serve(lambda *_: answer)
    assert post(server.url)[0] == 200
    go.set()
    assert ended.wait(5)
    server.answer = reply(status=202)
    assert post(server.url)[0] == 202
    assert server.connections == 2


def test_each_message_has_its_own_time_whatever_the_one_before_had(serve, post):
    server = serve(reply())

    def later(connection):
        gevent.sleep(0.3)
        connection.sendall(reply(status=202))
        return b""

    assert post(server.url, timeouts=Timeouts(1.0, 0.1, 0.1))[0] == 200
    server.answer = lambda *_: later
    assert post(server.url)[0] == 202
    with pytest.raises(FetchError) as caught:
        post(server.url, timeouts=Timeouts(1.0, 0.1, 0.1))
    assert (caught.value.reason, server.connections) == ("timeout", 1)


def test_an_answer_may_take_longer_than_any_piece_of_it(serve, post):
    pieces = in_pieces_every(0.04, *(OK[i : i + 8] for i in range(0, len(OK), 8)))
    assert post(serve(keeping(pieces)).url, timeouts=Timeouts(1.0, 0.12, 5.0))[0] == 200


def test_an_early_answer_wakes_nobody_while_the_message_is_still_leaving(post, monkeypatch):
    woken = []
    stirred = Line._stirred
    monkeypatch.setattr(Line, "_stirred", lambda line: woken.append(line) or stirred(line))

    def answer_first(connection, _address):
        connection.sendall(reply(status=202))
        gevent.sleep(0.2)
        left = 20_000_000
        while left > 0 and (data := connection.recv(1_000_000)):
            left -= len(data)
        connection.recv(1)

    server = StreamServer(("127.0.0.1", 0), answer_first)
    server.start()
    try:
        assert post(f"http://127.0.0.1:{server.server_port}/", b"x" * 20_000_000)[0] == 202
    finally:
        server.stop()
    assert len(woken) < 500


def test_a_connection_idle_for_long_is_not_used_again(serve, post, monkeypatch):
    server = serve(reply())
    post(server.url)
    post(server.url)
    assert server.connections == 1
    monkeypatch.setattr("fsctl.messages.MAX_IDLE", -1)
    post(server.url)
    assert server.connections == 2


def test_only_so_many_hosts_keep_connections(serve, post, monkeypatch):
    monkeypatch.setattr("fsctl.messages.MAX_HOSTS", 2)
    first, second, third = (serve(reply()) for _ in range(3))
    for server in (first, second, first, third, first, second):
        post(server.url)
    assert [server.connections for server in (first, second, third)] == [1, 2, 1]


def test_waiting_for_a_free_connection_counts(serve, client, post):
    server = serve(keeping(b""))
    busy = gevent.spawn(client.send, "POST", server.url, {}, b"", TIMEOUTS)
    gevent.sleep(0)
    started = time.monotonic()
    with pytest.raises(FetchError) as caught:
        post(server.url, timeouts=QUICK)
    assert (caught.value.reason, time.monotonic() - started < 3) == ("timeout", True)
    busy.kill()


def test_a_sender_that_is_killed_leaves_its_place_to_others(serve, client, post):
    asked = gevent.event.Event()
    server = serve(lambda *_: lambda _connection: asked.set() or b"")
    killed = gevent.spawn(client.send, "POST", server.url, {}, b"", TIMEOUTS)
    assert asked.wait(5)
    killed.kill()
    server.answer = reply()
    assert post(server.url)[0] == 200
    assert server.connections == 2


def test_connections_lent_while_the_client_closes_are_closed_when_they_come_back(serve, client):
    go = gevent.event.Event()
    ended = gevent.event.Event()

    def answer(connection):
        if go.wait(5):
            connection.sendall(reply())
        if connection.recv(1) == b"":
            ended.set()

    server = serve(lambda *_: answer)
    sending = gevent.spawn(client.send, "POST", server.url, {}, b"", TIMEOUTS)
    gevent.sleep(0.01)
    client.close()
    go.set()
    assert sending.get(timeout=5) == 200
    assert ended.wait(5)


def test_a_slow_answer_does_not_hold_up_messages_to_others(serve, client, post):
    slow = serve(keeping(b""))
    waiting = gevent.spawn(client.send, "POST", slow.url, {}, b"", TIMEOUTS)
    gevent.sleep(0)
    assert post(serve(reply()).url)[0] == 200
    assert not waiting.dead
    waiting.kill()
