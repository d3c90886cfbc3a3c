"""The ``socket`` application: hands a session to an application over TCP, and parks it meanwhile."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import gevent
import structlog

from fsctl.simulator.registry import application
from fsctl.simulator.wire import Listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsctl.simulator.channel import Channel

__all__ = ["DEFAULT_PORT", "connect_tcp"]

log = structlog.get_logger(__name__)

DEFAULT_PORT = 8084


@application("socket")
def hand_over(channel: Channel, argument: str) -> None:
    """Connect to the first target that accepts (``host[:port][/path][|...] [async] [full]``) and park.

    With none the application just returns: the next action of the dialplan is the fallback. Only ``async full`` is
    simulated.
    """
    words = argument.split(" ")
    for host, port, path in _targets(words[0]):
        try:
            connection = connect_tcp(host, port)
        except OSError as error:
            log.info("simulated_socket_refused", host=host, port=port, problem=str(error), call_id=channel.uuid)
            continue
        channel.variables.set("socket_host", host)
        if path:
            channel.variables.set("socket_path", path)
        _attend(channel, Listener(channel.switch, connection, channel))
        return


def connect_tcp(host: str, port: int) -> socket.socket:
    """A connection without Nagle's delay."""
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _targets(text: str) -> Iterator[tuple[str, int, str]]:
    port = DEFAULT_PORT
    for target in text.split("|"):
        address, _, path = target.partition("/")
        host, colon, number = address.partition(":")
        if colon and number.isdigit():
            port = int(number)
        yield host, port, path


def _attend(channel: Channel, listener: Listener) -> None:
    channel.listeners.append(listener)
    channel.attending = listener
    channel.switch.index(listener)
    gevent.spawn(listener.run)
    channel.wait(until=listener.settled.is_set, breakable=False)
    # An application that closes before the park has begun breaks no park: nobody is left to end it.
    channel.park(over=lambda: listener.finished.is_set() and not channel.stranded)
    channel.attending = None
