"""What systemd and the service say to each other, over real sockets and real file descriptors."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest
from gevent import socket

from fsctl import systemd
from fsctl.errors import ConfigError


@pytest.fixture(params=["file", "abstract"])
def heard(request, tmp_path):
    """A datagram socket as systemd has it; gives its address for NOTIFY_SOCKET and what arrived."""
    name = str(tmp_path / "notify") if request.param == "file" else f"@fsctl-{uuid.uuid4()}"
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("\0" + name[1:] if name[0] == "@" else name)
    receiver.settimeout(5)
    with receiver:
        yield name, lambda: receiver.recv(4096).decode()


def test_systemd_hears_what_it_is_told(heard):
    name, next_datagram = heard
    assert systemd.notify("READY=1", "STATUS=taking calls", environ={"NOTIFY_SOCKET": name})
    assert next_datagram() == "READY=1\nSTATUS=taking calls"
    assert systemd.notify("STOPPING=1", environ={"NOTIFY_SOCKET": name})
    assert next_datagram() == "STOPPING=1"


@pytest.mark.parametrize(
    "environ",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/notify"}, {"NOTIFY_SOCKET": "vsock:2:1"}],
    ids=["not under systemd", "empty", "nobody there", "no local address"],
)
def test_nobody_is_told_where_nobody_listens(environ):
    assert systemd.notify("READY=1", environ=environ) is False


def test_a_full_queue_does_not_hold_the_service_up(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        told = [systemd.notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": path}) for _ in range(2000)]
    assert told[0] is True
    assert told[-1] is False


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        pytest.param({}, None, id="not under systemd"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half of what is allowed"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0, id="meant for us"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="meant for another process"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="off"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no number"),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(environ, interval):
    assert systemd.watchdog_interval(environ) == interval


# --- Passed sockets ---------------------------------------------------------------------------------------------------


class Passed:
    """Sockets as systemd hands them over: descriptors in a row, and the variables that describe them."""

    def __init__(self, *sockets, names):
        # Behind all there are: a lower one could be somebody's.
        self.first = 1 + max(int(each.name) for each in Path("/proc/self/fd").iterdir())
        for offset, source in enumerate(sockets):
            os.dup2(source.fileno(), self.first + offset, inheritable=True)
        self.environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
        self.count = len(sockets)

    def take(self):
        return systemd.listening_sockets(environ=self.environ, first=self.first)

    def close(self):
        for offset in range(self.count):
            try:
                os.close(self.first + offset)
            except OSError:  # taken and closed by the test
                continue


@pytest.fixture
def passed():
    made = []

    def make(*sockets, names):
        made.append(Passed(*sockets, names=names))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def listener():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def test_sockets_come_by_their_units_names_and_take_connections(passed, listener):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        sockets = passed(other, listener, names="http:event_socket").take()
        assert sorted(sockets) == ["event_socket", "http"]
        with socket.create_connection(listener.getsockname(), timeout=5) as caller:
            accepted, _ = sockets["event_socket"].accept()
            with accepted:
                caller.sendall(b"hello")
                assert accepted.recv(5) == b"hello"
        assert not os.get_inheritable(sockets["http"].fileno())
        for sock in sockets.values():
            sock.detach()


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}], ids=["none", "another process's"]
)
def test_without_sockets_for_us_there_are_none(environ):
    assert systemd.listening_sockets(environ=environ) == {}


@pytest.mark.parametrize("names", ["fsctl.socket", "", "unknown", "http:http"])
def test_a_socket_nobody_knows_is_refused_with_what_to_do(passed, listener, names):
    sockets = [listener] * (names.count(":") + 1)
    with pytest.raises(ConfigError, match="FileDescriptorName must be event_socket and http"):
        passed(*sockets, names=names).take()


def test_a_socket_that_does_not_listen_is_refused(passed):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="does not listen"):
            passed(sock, names="http").take()
