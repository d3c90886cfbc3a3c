"""Endpoints that do wrong: one stream fails with its result, and its neighbour on the same call hears every frame."""

import contextlib
import json
from ipaddress import IPv4Network
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.server import StreamServer
from websockets.frames import Frame, Opcode

from fsctl import web
from fsctl.errors import FetchError
from tests.streams.peers import Connection, Module, States, spec, tone, until

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def answer(text):
    def handle(sock):
        sock.recv(4096)
        sock.sendall(text)
        gevent.sleep(0.05)

    return handle


def hang(sock):
    gevent.sleep(60)


def hang_up(sock):
    sock.recv(4096)


def dribble(sock):
    with contextlib.suppress(OSError):
        for _ in range(10_000):
            sock.sendall(b"X: y\r\n")
            gevent.sleep(0.01)


def flood_of_headers(sock):
    with contextlib.suppress(OSError):
        sock.sendall(b"HTTP/1.1 101 OK\r\n" + b"X: y\r\n" * 100_000)


def after_opening(*wire):
    """Open as one should, and then send this."""

    def handle(sock):
        connection = Connection(sock)
        sent = False
        with contextlib.suppress(OSError):
            for _ in connection.serve():
                if not sent:
                    sent = True
                    for data in wire:
                        sock.sendall(data)

    return handle


def bare(opcode, data=b"", **bits):
    return Frame(opcode, data, **bits).serialize(mask=False)


CASES = {
    "hangs in the handshake": (hang, "timeout"),
    "dribbles in the handshake": (dribble, "timeout"),
    "closes at once": (hang_up, "content"),
    "answers in HTTP": (answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope"), "status"),
    "redirects": (answer(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1/\r\n\r\n"), "status"),
    "answers an endless body": (answer(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000), "status"),
    "answers garbage": (answer(b"\x00\xff\x80 hello\r\n\r\n"), "content"),
    "answers with the wrong key": (answer(UPGRADE + b"Sec-WebSocket-Accept: AAAA\r\n\r\n"), "content"),
    "answers with no key": (answer(UPGRADE + b"\r\n"), "content"),
    "answers with endless headers": (flood_of_headers, "content"),
    "sends a giant frame": (after_opening(b"\x81\x7f" + (1 << 40).to_bytes(8, "big") + b"x"), "protocol"),
    "sends a masked frame": (after_opening(b"\x81\x81maskx"), "protocol"),
    "sends a compressed bomb": (after_opening(b"\xc1\x64" + bytes(100)), "protocol"),
    "sends an unknown kind": (after_opening(b"\x83\x00"), "protocol"),
    "sends endless fragments": (
        after_opening(bare(Opcode.TEXT, b"a", fin=False), *[bare(Opcode.CONT, bytes(65_000), fin=False)] * 8),
        "protocol",
    ),
    "closes with an impossible code": (after_opening(b"\x88\x02\x03\xed"), "protocol"),
    "closes with an error": (after_opening(bare(Opcode.CLOSE, b"\x03\xf3")), "closed"),
}
BEFORE = {"timeout", "content", "status"}


@pytest.fixture
def call(make_hub, endpoint):
    """A call with a good stream, and a way to hear that it goes on."""
    hub = make_hub(limits={"connect_timeout": 0.5})
    attachment = hub.open("call-1", 8000)
    module, states = Module(attachment.url), States()
    attachment.add(spec(endpoint.url, "good"), states)
    states.wait("streaming")
    sent = 0

    def goes_on():
        nonlocal sent
        module.play(tone(440, 160), tone(440, 160))
        sent += 1
        until(lambda: len(endpoint.events("media")) == sent)
        assert [int(m["media"]["chunk"]) for m in endpoint.events("media")] == list(range(1, sent + 1))
        assert states.told == [("streaming", None)]

    yield hub, attachment, goes_on
    module.close()


@pytest.mark.parametrize("case", CASES)
def test_one_stream_fails_with_its_reason_and_nobody_notices(call, case):
    hub, attachment, goes_on = call
    handle, reason = CASES[case]
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: handle(sock))
    server.start()
    try:
        states = States()
        attachment.add(spec(f"ws://127.0.0.1:{server.server_port}/in", "bad"), states)
        for _ in range(3):
            goes_on()
        ended = states.wait("finished")
        assert ended.reason == reason, ended
        assert [state for state, _ in states.told] == (["finished"] if reason in BEFORE else ["streaming", "finished"])
        assert ended.detail
        goes_on()
        assert hub.counts()["streams"] == 1
        assert hub.counters.failed == (1 if reason in BEFORE else 0)
    finally:
        server.stop(timeout=0)


def test_a_refused_connection(call):
    _, attachment, goes_on = call
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    states = States()
    attachment.add(spec(f"ws://127.0.0.1:{port}/in"), states)
    assert states.wait("finished").reason == "refused"
    goes_on()


def test_a_flood_is_read_slowly_and_pings_are_answered(make_hub, endpoint):
    """An endpoint that sends as fast as it can is read at a bounded rate; the neighbour hears every frame."""
    hub = make_hub(limits={"read_per_second": 65_536})
    attachment = hub.open("call-1", 8000)
    module, states, flooding = Module(attachment.url), States(), States()
    attachment.add(spec(endpoint.url, "good"), states)
    states.wait("streaming")
    sent = [0]

    def flood(sock):
        connection = Connection(sock)
        text = bare(Opcode.TEXT, json.dumps({"event": "media", "media": {"payload": "A" * 4000}}).encode())
        with contextlib.suppress(OSError):
            for _ in connection.serve():
                while True:
                    sock.sendall(text)
                    sent[0] += len(text)

    server = StreamServer(("127.0.0.1", 0), lambda sock, _: flood(sock))
    server.start()
    try:
        attachment.add(spec(f"ws://127.0.0.1:{server.server_port}/in", "flood"), flooding)
        flooding.wait("streaming")
        gevent.sleep(0.3)
        begin = sent[0]
        for number in range(1, 26):
            module.play(tone(440, 160), tone(440, 160))
            until(lambda number=number: len(endpoint.events("media")) == number)
            gevent.sleep(0.02)
        assert sent[0] - begin < 65_536 * 6
        assert flooding.told == [("streaming", None)]
    finally:
        server.stop(timeout=0)
        module.close()


class TestTheGuard:
    """The real door: resolves once, checks, and connects to what it checked."""

    @pytest.mark.parametrize("url", ["ws://127.0.0.1:{port}/in", "ws://localhost:{port}/in", "ws://[::1]:{port}/in"])
    def test_an_inward_address_is_refused(self, make_hub, endpoint, url):
        states = States()
        attachment = make_hub(dial=Door(web.Policy()).dial).open("call-1", 8000)
        attachment.add(spec(url.format(port=port_of(endpoint))), states)
        assert states.wait("finished").reason == "address"
        assert endpoint.connections == []

    def test_a_name_is_resolved_once_and_the_checked_address_is_used(self, make_hub, endpoint):
        asked = []

        def resolve(host, port):
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "10.0.0.1", port))]

        policy = web.Policy(allow_private=(IPv4Network("127.0.0.0/8"),))
        states = States()
        attachment = make_hub(dial=Door(policy, resolve=resolve).dial).open("call-1", 8000)
        attachment.add(spec(f"ws://user:secret@asr.example:{port_of(endpoint)}/in?x=1"), states)
        states.wait("streaming")
        assert asked == ["asr.example"]
        request = endpoint.connections[0].request
        assert request.path == "/in?x=1"
        assert request.headers["Host"] == f"asr.example:{port_of(endpoint)}"
        assert request.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="

    @pytest.mark.parametrize(
        "url", ["wss://", "wss:///in", "wss://h:99999/", "http://h/", "wss://h/\r\nX: y", "nonsense"]
    )
    def test_what_is_no_websocket_url_is_refused(self, make_hub, url):
        states = States()
        make_hub(dial=Door(web.Policy()).dial).open("call-1", 8000).add(spec(url), states)
        assert states.wait("finished").reason in ("malformed", "scheme")

    def test_a_door_that_refuses_is_the_end(self, make_hub):
        def refuse(url, *, timeout):
            raise FetchError("wss://inside/", "address", "is at 10.0.0.1, which is not allowed here")

        states = States()
        make_hub(dial=refuse).open("call-1", 8000).add(spec("wss://user:secret@inside/", reconnects=3), states)
        ended = states.wait("finished")
        assert ended.reason == "address"
        assert "secret" not in ended.detail


def port_of(endpoint):
    return endpoint.url.rpartition(":")[2].partition("/")[0]


class Door:
    """``web.Client``'s way to the outside, for WebSocket URLs."""

    def __init__(self, policy, **options):
        self._client = web.Client(policy, user_agent="fsctl", **options)

    def dial(self, url, *, timeout):
        client = self._client
        if hasattr(client, "dial"):
            return client.dial(url, timeout=timeout)
        target = client._elsewhere(url)
        if target.scheme not in ("ws", "wss"):
            raise FetchError(target.shown, "scheme", f"is {target.scheme}, not ws or wss")
        try:
            sock = client._door.open(target.host, target.port, timeout, ())
        except web.FAILURES as error:
            raise web._explain(target, error) from error
        return SimpleNamespace(
            sock=sock,
            url=target.url,
            host=target.host.strip("[]"),
            authorization=target.authorization,
            shown=target.shown,
        )
