"""The HTTP server on a real socket: limits on what clients may do, and how it stops."""

from __future__ import annotations

import socket
import time

import gevent
import pytest
from gevent.event import Event
from structlog.testing import capture_logs

from fsctl.api.server import MAX_HEADER_BYTES, HttpServer

LONG = 20.0


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


@pytest.fixture
def serve():
    running = []

    def build(application=app, **options):
        server = HttpServer(("127.0.0.1", 0), application, **options)
        server.start()
        running.append(server)
        return server

    yield build
    for server in running:
        server.stop(timeout=0)


class Connection:
    """A client that says exactly what it is told to."""

    def __init__(self, server):
        self.sock = socket.create_connection(server.address, timeout=LONG)

    def send(self, text):
        self.sock.sendall(text.encode())
        return self

    def get(self, path="/x", **headers):
        lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
        return self.send("\r\n".join(lines) + "\r\n\r\n")

    def answer(self):
        """One answer, head and body."""
        text = b""
        while b"\r\n\r\n" not in text:
            if not (more := self.sock.recv(4096)):
                return text.decode()
            text += more
        head, _, body = text.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
        while missing > 0:
            body += self.sock.recv(missing)
            missing = int(lengths[0].split(b":")[1]) - len(body)
        return (head + b"\r\n\r\n" + body).decode()

    def status(self):
        return self.answer().partition("\r\n")[0]

    def ended(self):
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def connect():
    opened = []

    def build(server):
        opened.append(Connection(server))
        return opened[-1]

    yield build
    for connection in opened:
        connection.sock.close()


def test_a_connection_serves_one_request_after_another(serve, connect):
    connection = connect(serve())

    for path in ("/one", "/two"):
        answer = connection.get(path).answer()
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        assert answer.endswith(path)
        assert "\r\nserver:" not in answer.lower()


def test_a_request_in_pieces_is_understood(serve, connect):
    connection = connect(serve())
    for piece in ("G", "ET /x HT", "TP/1.1\r\nHo", "st: x\r", "\n\r\n"):
        connection.send(piece)

    assert connection.status() == "HTTP/1.1 200 OK"


def test_a_listening_socket_can_be_handed_in(connect):
    from gevent import socket as gevent_socket

    listener = gevent_socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = HttpServer(listener, app)
    server.start()

    assert server.address == listener.getsockname()
    assert connect(server).get().status() == "HTTP/1.1 200 OK"
    server.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # gevent drops its socket unclosed
def test_a_port_that_is_taken_is_an_error(serve):
    with pytest.raises(OSError, match="in use"):
        HttpServer(serve().address, app).start()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param("GET / HTTP/1.1\r\nX: " + "a" * MAX_HEADER_BYTES + "\r\n\r\n", "400", id="one long header"),
        pytest.param(
            "GET / HTTP/1.1\r\n" + "X-Y: z\r\n" * 90 + "X: " + "a" * 40_000 + "\r\n\r\n", "400", id="long head"
        ),
        pytest.param("GET / HTTP/1.1\r\n" + "X-Y: z\r\n" * 200 + "\r\n", "400", id="many headers"),
        pytest.param("GET /" + "a" * 9000 + " HTTP/1.1\r\n\r\n", "414", id="long request line"),
        pytest.param("nonsense\r\n\r\n", "400", id="no request"),
        pytest.param("GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", "400", id="no length"),
    ],
)
def test_a_head_beyond_the_limits_is_refused_without_a_traceback(serve, connect, capfd, request_, status):
    with capture_logs() as logs:
        connection = connect(serve()).send(request_)
        assert connection.status().split(" ")[1] == status
        assert connection.ended()

    assert {line["event"] for line in logs} <= {"http_request_unreadable"}
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_head_that_dribbles_is_cut_off(serve, connect):
    connection = connect(serve(head_timeout=0.05))

    with capture_logs() as logs:
        assert connection.send("GET / HTTP/1.1\r\nX: ").status() == "HTTP/1.1 408 Request Timeout"
        assert connection.ended()

    assert [line["event"] for line in logs] == ["http_head_too_slow"]


def test_the_time_for_a_head_does_not_run_while_the_application_works(serve, connect):
    def slow(environ, start_response):
        Event().wait(0.05)
        return app(environ, start_response)

    connection = connect(serve(slow, head_timeout=0.01))

    assert connection.get().status() == "HTTP/1.1 200 OK"
    assert connection.get().status() == "HTTP/1.1 200 OK"


def test_an_idle_connection_is_closed(serve, connect):
    connection = connect(serve(idle_timeout=0.05, head_timeout=LONG))

    assert connection.get().status() == "HTTP/1.1 200 OK"
    assert connection.ended()


def test_a_client_that_does_not_read_is_cut_off(serve, connect):
    over = Event()

    def endless(_environ, start_response):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        try:
            while True:
                yield b"x" * 65536
        finally:
            over.set()

    connection = connect(serve(endless, idle_timeout=0.05))
    with capture_logs() as logs:
        connection.get()
        assert over.wait(LONG)

    assert [(line["event"], line["log_level"]) for line in logs] == [("http_connection_lost", "info")]


def test_more_connections_than_allowed_wait_their_turn(serve, connect):
    go, inside = Event(), []

    def slow(environ, start_response):
        inside.append(environ["PATH_INFO"])
        go.wait(LONG)
        return app(environ, start_response)

    server = serve(slow, connections=1)
    first, second = connect(server), connect(server)
    first.get("/first", Connection="close")
    second.get("/second", Connection="close")
    deadline = time.monotonic() + LONG
    while not inside and time.monotonic() < deadline:
        gevent.idle()
    assert inside == ["/first"]
    go.set()

    assert first.answer().endswith("/first")
    assert second.answer().endswith("/second")


def test_an_application_that_breaks_answers_500_and_is_logged(serve, connect, capfd):
    def broken(_environ, _start_response):
        raise RuntimeError("no")

    connection = connect(serve(broken))
    with capture_logs() as logs:
        assert connection.get().status() == "HTTP/1.1 500 Internal Server Error"

    (line,) = [line for line in logs if line["event"] == "http_response_failed"]
    assert line["log_level"] == "error"
    assert "Traceback" not in "".join(capfd.readouterr())


def test_what_an_application_says_to_wsgi_errors_is_logged(serve, connect):
    def talking(environ, start_response):
        environ["wsgi.errors"].write("look here\n")
        environ["wsgi.errors"].flush()
        return app(environ, start_response)

    with capture_logs() as logs:
        connect(serve(talking)).get().answer()

    assert [(line["event"], line["text"]) for line in logs] == [("http_application_said", "look here")]


def test_stopping_lets_requests_under_way_finish_and_hangs_up_on_the_idle(serve, connect):
    go, inside = Event(), Event()

    def slow(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            inside.set()
            go.wait(LONG)
        return app(environ, start_response)

    server = serve(slow)
    idle, busy = connect(server), connect(server)
    assert idle.get("/quick").answer().endswith("/quick")
    busy.get("/slow")
    assert inside.wait(LONG)

    stopping = gevent.spawn(server.stop, LONG)
    assert idle.ended()
    go.set()
    assert busy.answer().endswith("/slow")
    assert busy.ended()
    stopping.get(timeout=LONG)
    with pytest.raises(ConnectionRefusedError):
        connect(server)


def test_stopping_cuts_off_what_does_not_finish(serve, connect):
    never, inside = Event(), Event()

    def stuck(_environ, _start_response):
        inside.set()
        never.wait()

    server = serve(stuck)
    connection = connect(server).get()
    assert inside.wait(LONG)

    server.stop(timeout=0.05)

    assert "200 OK" not in connection.answer()


def test_a_recording_is_served_over_a_real_socket(serve, connect, tmp_path):
    from prometheus_client import CollectorRegistry

    from fsctl.api.app import make_app
    from fsctl.metrics import Metrics

    name = "d1c1d1c1-0000-4000-8000-000000000001.wav"
    (tmp_path / name).write_bytes(b"a" * 200_000)
    made = make_app(metrics=Metrics(CollectorRegistry(), live=dict), health=dict, recordings=tmp_path)
    connection = connect(serve(made))

    whole = connection.get(f"/recordings/{name}").answer()
    part = connection.get(f"/recordings/{name}", Range="bytes=-3").answer()
    head = connection.send(f"HEAD /recordings/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    text = b""
    while more := head.sock.recv(4096):
        text += more

    assert whole.startswith("HTTP/1.1 200 OK")
    assert whole.endswith("\r\n\r\n" + "a" * 200_000)
    assert part.startswith("HTTP/1.1 206 Partial Content")
    assert part.endswith("\r\n\r\naaa")
    assert b"\r\ncontent-length: 200000\r\n" in text.lower()
    assert text.endswith(b"\r\n\r\n")
