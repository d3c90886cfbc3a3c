"""Who comes to the hub's listener without being invited."""

import gevent
import pytest
from gevent import socket

from tests.streams.peers import Module, States, spec, tone, until

GARBAGE = {
    "nothing": b"",
    "noise": b"\x00\xff" * 50 + b"\r\n\r\n",
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a POST": b"POST /module/x HTTP/1.1\r\nHost: h\r\n\r\n",
    "endless headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    "an endless line": b"GET /" + b"a" * 100_000,
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
def test_strangers_are_refused_and_the_call_goes_on(hub, endpoint, data):
    attachment = hub.open("call-1", 8000)
    module, states = Module(attachment.url), States()
    attachment.add(spec(endpoint.url), states)
    states.wait("streaming")
    with socket.create_connection(hub.address) as stranger:
        try:
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            answer = stranger.recv(4096)
        except OSError:
            answer = b""
        assert b" 101 " not in answer
        until(lambda: hub.counters.refused_clients == 1)
    module.play(tone(440, 160), tone(440, 160))
    until(lambda: len(endpoint.events("media")) == 1)
    module.close()


def test_a_hundred_silent_strangers_keep_no_module_out(hub, endpoint):
    strangers = [socket.create_connection(hub.address) for _ in range(100)]
    try:
        attachment, states = hub.open("call-1", 8000), States()
        with gevent.Timeout(1.0):  # the module's own limit
            module = Module(attachment.url)
        attachment.add(spec(endpoint.url), states)
        states.wait("streaming")
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 1)
        module.close()
    finally:
        for stranger in strangers:
            stranger.close()


def test_a_url_of_a_call_that_is_over_lets_nobody_in(hub):
    attachment = hub.open("call-1", 8000)
    attachment.close()
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus):
        Module(attachment.url)
