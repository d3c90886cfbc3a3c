"""A recorder of RTP on loopback: reads every packet with eyes of its own, not with the sender's code."""

import socket as modern
import struct
from itertools import pairwise
from typing import NamedTuple

import gevent
from gevent import socket

from tests.streams.peers import until


class Packet(NamedTuple):
    """What a packet of RTP says (RFC 3550, 5.1); one that says more is refused."""

    marker: bool
    type: int
    sequence: int
    timestamp: int
    source: int
    payload: bytes

    @classmethod
    def read(cls, data):
        first, second, sequence, timestamp, source = struct.unpack("!BBHII", data[:12])
        assert first == 0x80, f"version 2 and nothing else: {first:#x}"
        return cls(bool(second & 0x80), second & 0x7F, sequence, timestamp, source, data[12:])


class Receiver:
    """Keeps what comes. ``senders`` are the addresses it came from."""

    def __init__(self, port=0, host="127.0.0.1"):
        self.packets = []
        self.senders = []
        self._sock = socket.socket(modern.AF_INET6 if ":" in host else modern.AF_INET, modern.SOCK_DGRAM)
        self._sock.setsockopt(modern.SOL_SOCKET, modern.SO_RCVBUF, 1 << 20)
        self._sock.bind((host, port))
        self.port = self._sock.getsockname()[1]
        self.uri = f"rtp://[{host}]:{self.port}" if ":" in host else f"rtp://{host}:{self.port}"
        self._greenlet = gevent.spawn(self._listen)

    def _listen(self):
        while True:
            data, sender = self._sock.recvfrom(65_536)
            self.packets.append(Packet.read(data))
            self.senders.append(sender[:2])

    @property
    def audio(self):
        """The payloads, in the order they came."""
        return b"".join(packet.payload for packet in self.packets)

    def wait(self, packets, seconds=5.0):
        """Wait for so many packets, and give them."""
        until(lambda: len(self.packets) >= packets, seconds, f"{packets} packets; there are {len(self.packets)}")
        return self.packets

    def answer(self, data):
        """Say something to whoever sent the last packet."""
        self._sock.sendto(data, self.senders[-1])

    def in_order(self, step=None):
        """Assert that all is there: one source, one after the other, the time in even steps."""
        packets = self.packets
        assert len({packet.source for packet in packets}) == 1
        assert [packet.marker for packet in packets] == [True] + [False] * (len(packets) - 1)
        for before, after in pairwise(packets):
            assert after.sequence == (before.sequence + 1) & 0xFFFF
            assert after.timestamp == (before.timestamp + (step or len(before.payload))) & 0xFFFFFFFF
        return packets

    def close(self):
        self._greenlet.kill()
        self._sock.close()
