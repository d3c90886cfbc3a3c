"""The short path beside the library: the same messages, the same refusals."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from fsctl.streams.framing import Framing, Masks, bare_text, masked_text

LIMIT = 1000


def server(wanted=Opcode.BINARY, limit=LIMIT):
    return Framing(ServerProtocol(state=OPEN, max_size=limit), wanted, limit)


def client(wanted=Opcode.TEXT, limit=LIMIT):
    return Framing(ClientProtocol(parse_uri("ws://h/"), state=OPEN, max_size=limit), wanted, limit)


def frame(opcode, data=b"", *, fin=True, mask=True, **bits):
    return Frame(opcode, data, fin, **bits).serialize(mask=mask)


def close_code(framing):
    return framing.protocol.close_sent.code


class TestWriting:
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 300, 65_535, 65_536, 70_000])
    def test_the_library_reads_what_we_write(self, size):
        payload = os.urandom(size).hex()[:size].encode()
        for far, text in (
            (ServerProtocol(state=OPEN), masked_text(payload)),
            (ClientProtocol(parse_uri("ws://h/"), state=OPEN), bare_text(payload)),
        ):
            far.receive_data(text)
            (event,) = far.events_received()
            assert (event.opcode, event.fin, bytes(event.data)) == (Opcode.TEXT, True, payload)

    def test_no_mask_comes_twice(self):
        masks = Masks()
        found = [masks.next() for _ in range(5000)]
        assert {len(mask) for mask in found} == {4}
        assert len(set(found)) > 4990


class TestReading:
    @given(
        st.lists(
            st.tuples(st.sampled_from(["plain", "text", "ping", "pong", "parts"]), st.binary(max_size=300)),
            max_size=12,
        ),
        st.lists(st.integers(1, 400), max_size=20),
    )
    def test_any_cut_of_any_mix_gives_the_messages_in_order(self, sent, cuts):
        """Whatever the reads look like, the audio is what was sent; pings are answered in order."""
        wire, wanted, pings = b"", [], []
        for kind, data in sent:
            if kind == "plain":
                wire += frame(Opcode.BINARY, data)
                wanted.append(data)
            elif kind == "text":
                wire += frame(Opcode.TEXT, data.hex().encode())
            elif kind == "parts":
                third = len(data) // 3
                wire += frame(Opcode.BINARY, data[:third], fin=False)
                wire += frame(Opcode.PING, b"amid")
                wire += frame(Opcode.CONT, data[third : 2 * third], fin=False)
                wire += frame(Opcode.CONT, data[2 * third :])
                wanted.append(data)
                pings.append(b"amid")
            else:
                wire += frame(Opcode.PING if kind == "ping" else Opcode.PONG, data[:125])
                if kind == "ping":
                    pings.append(data[:125])
        framing, found, answers, at = server(), [], b"", 0
        for cut in [*cuts, len(wire)]:
            found += framing.receive(wire[at : at + cut])
            answers += framing.answers()
            at += cut
        assert found == wanted
        assert answers == b"".join(frame(Opcode.PONG, ping, mask=False) for ping in pings)
        assert not framing.over

    @given(st.binary(max_size=400), st.lists(st.integers(1, 100), max_size=10))
    def test_garbage_ends_or_waits_and_never_raises(self, garbage, cuts):
        for framing in (server(), client()):
            at = 0
            for cut in [*cuts, len(garbage)]:
                framing.receive(garbage[at : at + cut])
                at += cut

    @pytest.mark.parametrize("length", [1001, 65_535, 1 << 20, 1 << 62, (1 << 64) - 1])
    def test_a_length_beyond_the_limit_is_refused_before_it_comes(self, length):
        framing = server()
        head = b"\x82\xfe" + struct.pack("!H", length) if length < 65_536 else b"\x82\xff" + struct.pack("!Q", length)
        assert framing.receive(head + b"mask" + bytes(10)) == []
        assert framing.over
        assert close_code(framing) == 1009

    def test_fragments_beyond_the_limit_are_refused(self):
        framing = server()
        framing.receive(frame(Opcode.BINARY, bytes(900), fin=False))
        assert not framing.over
        framing.receive(frame(Opcode.CONT, bytes(900), fin=False))
        assert close_code(framing) == 1009

    @pytest.mark.parametrize(
        "wire",
        [
            frame(Opcode.BINARY, b"x", mask=False),
            b"\x83\x80mask",
            b"\xc2\x81maskx",
            frame(Opcode.CONT, b"x"),
            frame(Opcode.BINARY, b"x", fin=False) + frame(Opcode.BINARY, b"y"),
            b"\x09\x80mask",
            b"\x89\xfe\x00\x7emask" + bytes(126),
        ],
        ids=["bare", "unknown kind", "compressed", "continues nothing", "nested", "ping in parts", "long ping"],
    )
    def test_broken_rules_end_the_connection(self, wire):
        framing = server()
        assert framing.receive(wire) == []
        assert framing.over
        assert close_code(framing) == 1002
        assert framing.receive(frame(Opcode.BINARY, b"late")) == []

    def test_a_masked_frame_from_a_server_is_refused(self):
        framing = client()
        framing.receive(frame(Opcode.TEXT, b"x"))
        assert close_code(framing) == 1002

    def test_a_close_is_answered_and_ends(self):
        framing = server()
        assert framing.receive(frame(Opcode.BINARY, b"last") + frame(Opcode.CLOSE, b"\x03\xe8")) == [b"last"]
        assert framing.over
        assert framing.answers() == frame(Opcode.CLOSE, b"\x03\xe8", mask=False)
        framing.end()
        assert framing.protocol.state is State.CLOSED

    def test_what_waits_is_at_most_one_frame(self):
        framing = server()
        framing.receive(frame(Opcode.BINARY, bytes(LIMIT))[:-1])
        assert len(framing._held) <= LIMIT + 14
