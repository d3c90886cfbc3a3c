"""The hub between a module and endpoints, both on a real WebSocket library."""

import audioop
import socket
import struct
from itertools import pairwise

import gevent
import pytest
from websockets.exceptions import InvalidStatus

from fsctl.streams.audio import Format
from fsctl.streams.hub import TooManyStreams
from tests.streams.peers import Module, States, certificate, spec, stereo, tone, until

SECOND = 8000


def start(hub, endpoint, *, rate=8000, **changes):
    """A call with one stream that is streaming, and its module."""
    attachment = hub.open("call-1", rate)
    module = Module(attachment.url)
    states = States()
    stream = attachment.add(spec(endpoint.url, **changes), states)
    states.wait("streaming")
    return attachment, module, stream, states


class TestMessages:
    def test_a_conversation_is_connected_start_media_stop(self, hub, endpoint):
        _, module, stream, states = start(hub, endpoint, parameters={"FirstName": "Jäne"})
        module.play(tone(440, 480), tone(1000, 480))
        until(lambda: len(endpoint.events("media")) == 3)
        stream.stop()
        assert states.wait("finished").reason == "stopped"
        until(lambda: endpoint.closed)
        assert endpoint.said[0] == {"event": "connected", "protocol": "Call", "version": "0.2.0"}
        assert endpoint.said[1] == {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "streamSid": "stream-1",
                "accountSid": "account-1",
                "callSid": "call-1",
                "tracks": ["inbound"],
                "customParameters": {"FirstName": "Jäne"},
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }
        found = [(m["sequenceNumber"], m["media"]["chunk"], m["media"]["timestamp"]) for m in endpoint.events("media")]
        assert found == [("2", "1", "0"), ("3", "2", "20"), ("4", "3", "40")]
        assert endpoint.said[-1] == {"event": "stop", "sequenceNumber": "5"}
        assert states.told == [("streaming", None), ("finished", "stopped")]
        assert endpoint.connections[0].protocol.close_rcvd.code == 1000
        module.close()

    def test_both_tracks_are_two_sequences(self, hub, endpoint):
        _, module, _, _ = start(hub, endpoint, tracks=("inbound", "outbound"))
        module.play(tone(440, 320), tone(1000, 320))
        until(lambda: len(endpoint.events("media")) == 4)
        found = [
            (m["sequenceNumber"], m["media"]["track"], m["media"]["chunk"], m["media"]["timestamp"])
            for m in endpoint.events("media")
        ]
        assert found == [
            ("2", "inbound", "1", "0"),
            ("3", "outbound", "1", "0"),
            ("4", "inbound", "2", "20"),
            ("5", "outbound", "2", "20"),
        ]
        module.close()

    def test_a_stream_that_starts_later_begins_at_zero(self, hub, endpoint, make_endpoint):
        attachment, module, _, _ = start(hub, endpoint)
        module.play(tone(440, 800), tone(1000, 800))
        until(lambda: len(endpoint.events("media")) == 5)
        other, states = make_endpoint(), States()
        attachment.add(spec(other.url, "stream-2"), states)
        states.wait("streaming")
        module.play(tone(440, 160), tone(1000, 160))
        until(lambda: other.events("media"))
        media = other.events("media")[0]["media"]
        assert (media["chunk"], media["timestamp"]) == ("1", "0")
        module.close()

    def test_digits_reach_every_stream(self, hub, endpoint, make_endpoint):
        attachment, module, _, _ = start(hub, endpoint)
        other, states = make_endpoint(), States()
        attachment.add(spec(other.url, "stream-2"), states)
        states.wait("streaming")
        attachment.dtmf("5")
        for one in (endpoint, other):
            until(lambda one=one: one.events("dtmf"))
            assert one.events("dtmf") == [
                {"event": "dtmf", "sequenceNumber": "2", "dtmf": {"digit": "5", "duration": 100}}
            ]
        module.close()


class TestAudio:
    def test_linear_audio_is_the_same_sample_by_sample_and_sides_are_not_swapped(self, hub, endpoint):
        _, module, _, _ = start(hub, endpoint, form=Format("L16", 8000, 20), tracks=("inbound", "outbound"))
        said, heard = tone(440, SECOND), tone(1000, SECOND)
        module.play(said, heard)
        until(lambda: len(endpoint.audio("outbound")) == len(heard))
        assert endpoint.audio("inbound") == said
        assert endpoint.audio("outbound") == heard
        module.close()

    @pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
    def test_g711_is_what_the_codec_makes_of_it(self, hub, endpoint, codec):
        _, module, _, _ = start(hub, endpoint, form=Format(codec, 8000, 20))
        said = tone(440, SECOND)
        module.play(said, tone(1000, SECOND))
        encode, decode = {
            "PCMU": (audioop.lin2ulaw, audioop.ulaw2lin),
            "PCMA": (audioop.lin2alaw, audioop.alaw2lin),
        }[codec]
        until(lambda: len(endpoint.audio()) == SECOND)
        assert endpoint.audio() == encode(said, 2)
        error = audioop.add(decode(endpoint.audio(), 2), audioop.mul(said, 2, -1), 2)
        assert audioop.rms(error, 2) < audioop.rms(said, 2) / 50
        module.close()

    @pytest.mark.parametrize("frame_ms", [40, 60])
    def test_frames_of_the_module_become_frames_of_the_stream(self, hub, endpoint, frame_ms):
        _, module, _, _ = start(hub, endpoint, form=Format("PCMU", 8000, frame_ms))
        said = tone(440, 480 * 4)
        module.play(said, said)
        until(lambda: len(endpoint.audio()) == 480 * 4)
        media = [m["media"] for m in endpoint.events("media")]
        assert [m["timestamp"] for m in media] == [str(n * frame_ms) for n in range(len(media))]
        assert endpoint.audio() == audioop.lin2ulaw(said, 2)
        module.close()

    def test_long_messages_of_the_module_are_cut(self, hub, endpoint):
        _, module, _, _ = start(hub, endpoint)
        said = tone(440, 1600)
        module.send(stereo(said, said))
        until(lambda: len(endpoint.events("media")) == 10)
        assert endpoint.audio() == audioop.lin2ulaw(said, 2)
        module.close()

    def test_eight_streams_on_one_call_each_get_their_own(self, hub, make_endpoint):
        attachment = hub.open("call-1", 8000)
        module = Module(attachment.url)
        wanted = [
            (("inbound",), Format("PCMU", 8000, 20)),
            (("outbound",), Format("PCMU", 8000, 20)),
            (("inbound", "outbound"), Format("PCMA", 8000, 20)),
            (("inbound",), Format("L16", 8000, 20)),
            (("outbound",), Format("L16", 16000, 20)),
            (("inbound", "outbound"), Format("L16", 24000, 20)),
            (("inbound",), Format("PCMU", 8000, 60)),
            (("inbound",), Format("PCMU", 8000, 20)),
        ]
        endpoints, streams = [], []
        for number, (tracks, form) in enumerate(wanted):
            endpoint, states = make_endpoint(), States()
            endpoints.append(endpoint)
            streams.append(attachment.add(spec(endpoint.url, f"stream-{number}", tracks=tracks, form=form), states))
            states.wait("streaming")
        said, heard = tone(440, 4800), tone(1000, 4800)
        module.play(said, heard)
        for endpoint, (tracks, form) in zip(endpoints, wanted, strict=True):
            for track in ("inbound", "outbound"):
                due = 4800 * form.rate // 8000 * (2 if form.codec == "L16" else 1) if track in tracks else 0
                until(lambda e=endpoint, t=track, d=due: len(e.audio(t)) == d, what=f"{track} of {form}")
                if track not in tracks:
                    continue
                audio = endpoint.audio(track)
                if form.codec != "L16":
                    audio = {"PCMU": audioop.ulaw2lin, "PCMA": audioop.alaw2lin}[form.codec](audio, 2)
                assert pitch(audio, form.rate) == pytest.approx(440 if track == "inbound" else 1000, rel=0.03)
        for stream in (streams[3], streams[0], streams[7]):
            stream.stop()
        until(lambda: len(attachment.fanout.streams) == 5)
        before = len(endpoints[1].audio("outbound"))
        module.play(said, heard)
        until(lambda: len(endpoints[1].audio("outbound")) == before + 4800)
        assert len(endpoints[0].audio()) == 4800
        module.close()

    def test_wideband_calls_are_brought_down_for_g711(self, hub, endpoint):
        _, module, _, _ = start(hub, endpoint, rate=16000)
        said = tone(440, 16000, rate=16000)
        module.play(said, said, frame=320)
        until(lambda: len(endpoint.audio()) == 8000)
        assert pitch(audioop.ulaw2lin(endpoint.audio(), 2), 8000) == pytest.approx(440, rel=0.02)
        module.close()


def pitch(linear, rate):
    """The frequency of a tone, from its crossings of zero."""
    samples = struct.unpack(f"<{len(linear) // 2}h", linear)[rate // 20 :]
    return sum(a < 0 <= b for a, b in pairwise(samples)) * rate / len(samples)


class TestTheListener:
    def test_audio_before_metadata_is_taken(self, hub, endpoint):
        _, module, _, _ = start(hub, endpoint)
        said = tone(440, 160)
        module.send(stereo(said, said))
        module.connection.send('{"event":"metadata"}')
        module.send(stereo(said, said))
        until(lambda: len(endpoint.events("media")) == 2)
        module.close()

    @pytest.mark.parametrize("path", ["/", "/module/", "/module/wrong", "/other/{token}", "/module/{token}x"])
    def test_a_wrong_token_is_refused_and_nobody_notices(self, hub, endpoint, path):
        _, module, _, states = start(hub, endpoint)
        other = hub.open("call-2", 8000)
        host, port = hub.address
        with pytest.raises(InvalidStatus) as refused:
            Module(f"ws://{host}:{port}{path.format(token=other.token)}")
        assert refused.value.response.status_code == 403
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 1)
        assert states.told == [("streaming", None)]
        Module(other.url).close()
        module.close()

    def test_a_token_lets_in_once(self, hub, endpoint):
        attachment, module, _, _ = start(hub, endpoint)
        with pytest.raises(InvalidStatus):
            Module(attachment.url)
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 1)
        assert hub.counters.refused_clients == 1
        module.close()

    def test_a_lost_module_is_told_and_may_come_back_with_a_new_url(self, hub, endpoint):
        attachment, module, _, states = start(hub, endpoint)
        lost = []
        attachment.on_lost = lost.append
        old = attachment.url
        module.connection.socket.close()
        until(lambda: lost)
        assert attachment.renew() != old
        again = Module(attachment.url)
        again.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 1)
        assert states.told == [("streaming", None)]
        again.close()

    def test_odd_audio_is_passed_over(self, hub, endpoint):
        attachment, module, _, _ = start(hub, endpoint)
        module.send(b"abc")
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 1)
        assert attachment.fanout.odd_messages == 1
        module.close()

    def test_a_giant_frame_of_the_module_ends_its_connection_alone(self, hub, endpoint):
        attachment, module, _, states = start(hub, endpoint)
        lost = []
        attachment.on_lost = lost.append
        module.connection.socket.sendall(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"mask")
        until(lambda: lost)
        assert not attachment.connected
        assert states.told == [("streaming", None)]


class TestTheEnd:
    def test_a_hangup_stops_every_stream(self, hub, endpoint):
        attachment, _, _, states = start(hub, endpoint)
        attachment.close()
        assert states.wait("finished").reason == "hangup"
        until(lambda: endpoint.events("stop"))
        assert states.told == [("streaming", None), ("finished", "hangup")]
        until(lambda: hub.counts() == {"attachments": 0, "feeds": 0, "streams": 0})

    def test_stopping_twice_finishes_once(self, hub, endpoint):
        _, module, stream, states = start(hub, endpoint)
        stream.stop()
        stream.stop()
        states.wait("finished")
        stream.stop()
        assert states.told == [("streaming", None), ("finished", "stopped")]
        module.close()

    @pytest.mark.parametrize("code", [1000, 1011])
    def test_a_remote_close_finishes(self, hub, endpoint, code):
        _, module, _, states = start(hub, endpoint)
        endpoint.connections[0].close(code)
        ended = states.wait("finished")
        assert (ended.reason, ended.detail) == ("closed", f"the endpoint closed with {code}")
        module.close()

    def test_a_cut_connection_finishes(self, hub, endpoint):
        _, module, _, states = start(hub, endpoint)
        endpoint.connections[0].cut()
        assert states.wait("finished").reason == "lost"
        module.close()

    def test_a_listener_that_raises_hurts_nobody(self, hub, endpoint):
        attachment = hub.open("call-1", 8000)

        def bad(*_):
            raise RuntimeError("listener")

        attachment.add(spec(endpoint.url), bad)
        until(lambda: endpoint.events("start"))
        module = Module(attachment.url)
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: endpoint.events("media"))
        module.close()

    def test_a_call_has_a_bounded_number_of_streams(self, make_hub, endpoint):
        hub = make_hub(max_streams=2)
        attachment = hub.open("call-1", 8000)
        for name in ("a", "b"):
            attachment.add(spec(endpoint.url, name), States())
        with pytest.raises(TooManyStreams, match="2 streams"):
            attachment.add(spec(endpoint.url, "c"), States())


class TestReconnecting:
    def test_a_lost_endpoint_is_connected_again_and_told_the_gap(self, make_hub, endpoint):
        hub = make_hub(limits={"backoff": 0.05})
        attachment, module, stream, states = start(hub, endpoint, reconnects=3)
        module.play(tone(440, 480), tone(440, 480))
        until(lambda: len(endpoint.events("media")) == 3)
        endpoint.connections[0].cut()
        until(lambda: stream.link is None)
        module.play(tone(440, 320), tone(440, 320))
        until(lambda: attachment.frames == 5)
        until(lambda: len(endpoint.events("start")) == 2)
        module.play(tone(440, 160), tone(440, 160))
        until(lambda: len(endpoint.events("media")) == 4)
        again = endpoint.events("start")[1]
        assert again["sequenceNumber"] == "1"
        assert again["start"]["gap"] == {"connection": 2, "begin": "60", "end": "100"}
        media = endpoint.events("media")[3]
        assert (media["sequenceNumber"], media["media"]["chunk"], media["media"]["timestamp"]) == ("2", "1", "100")
        assert states.told == [("streaming", None)]
        assert hub.counters.reconnected == 1
        stream.stop()
        assert states.wait("finished").reason == "stopped"
        module.close()

    def test_an_endpoint_that_stays_away_finishes_the_stream(self, make_hub, make_endpoint):
        hub = make_hub(limits={"backoff": 0.01})
        endpoint = make_endpoint()
        _, module, _, states = start(hub, endpoint, reconnects=2)
        endpoint.close()
        assert states.wait("finished").reason == "refused"
        assert states.told == [("streaming", None), ("finished", "refused")]
        module.close()

    def test_an_endpoint_that_accepts_and_leaves_again_is_not_tried_for_ever(self, make_hub, make_endpoint):
        def leave(connection, message):
            if message["event"] == "start":
                connection.close(1011)

        hub, endpoint = make_hub(limits={"backoff": 0.01}), make_endpoint(talk=leave)
        _, module, _, states = start(hub, endpoint, reconnects=2)
        assert states.wait("finished").detail == "the endpoint closed with 1011"
        assert len(endpoint.connections) == 3
        module.close()

    def test_a_close_that_was_meant_is_an_end(self, hub, endpoint):
        _, module, _, states = start(hub, endpoint, reconnects=3)
        endpoint.connections[0].close(1000)
        assert states.wait("finished").reason == "closed"
        module.close()

    def test_stop_ends_the_waiting_for_a_reconnect(self, make_hub, endpoint):
        hub = make_hub(limits={"backoff": 30.0})
        _, module, stream, states = start(hub, endpoint, reconnects=3)
        endpoint.connections[0].cut()
        until(lambda: stream.link is None)
        stream.stop()
        assert states.wait("finished").reason == "stopped"
        module.close()


class TestTls:
    def test_a_trusted_certificate_carries_audio(self, make_hub, make_endpoint, tmp_path):
        server, client = certificate(tmp_path)
        hub, endpoint = make_hub(tls=client), make_endpoint(tls=server)
        _, module, stream, states = start(hub, endpoint, form=Format("L16", 8000, 20))
        said = tone(440, SECOND)
        module.play(said, said)
        until(lambda: len(endpoint.audio()) == len(said))
        assert endpoint.audio() == said
        stream.stop()
        assert states.wait("finished").reason == "stopped"
        module.close()

    @pytest.mark.parametrize("case", ["unknown", "name"])
    def test_an_untrusted_certificate_is_refused(self, make_hub, make_endpoint, tmp_path, case):
        server, client = certificate(tmp_path, "localhost" if case == "unknown" else "other.example")
        hub = make_hub(tls=None if case == "unknown" else client)
        endpoint = make_endpoint(tls=server)
        states = States()
        hub.open("call-1", 8000).add(spec(endpoint.url), states)
        ended = states.wait("finished")
        assert ended.reason == "tls"
        assert "cannot be trusted" in ended.detail
        assert states.told == [("finished", "tls")]

    def test_the_token_travels_in_the_handshake(self, hub, make_endpoint):
        endpoint = make_endpoint()
        _, module, stream, _ = start(hub, endpoint, token="s3cret-token")
        assert endpoint.connections[0].request.headers.get_all("Authorization") == ["Bearer s3cret-token"]
        assert "s3cret-token" not in repr(stream.spec)
        module.close()


class TestSlowEndpoints:
    def test_whole_messages_are_dropped_and_the_neighbour_gets_all(self, make_hub, endpoint):
        hub = make_hub(limits={"unsent": 8192})
        attachment, module, neighbour, _ = start(hub, endpoint)
        deaf = gevent.server.StreamServer(("127.0.0.1", 0), deafen)
        deaf.init_socket()
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        deaf.start()
        try:
            states = States()
            slow = attachment.add(
                spec(f"ws://127.0.0.1:{deaf.server_port}/in", "slow", form=Format("L16", 24000, 20)), states
            )
            states.wait("streaming")
            said = tone(440, SECOND)
            for seconds in range(1, 20):
                module.play(said, said)
                until(lambda seconds=seconds: attachment.frames == seconds * 50)
                if slow.dropped > 20:
                    break
            assert slow.dropped > 20
            assert hub.counters.dropped_messages == slow.dropped
            sent = attachment.frames
            until(lambda: len(endpoint.events("media")) >= sent)
            assert neighbour.dropped == 0
            chunks = [int(m["media"]["chunk"]) for m in endpoint.events("media")]
            assert chunks == list(range(1, len(chunks) + 1))
            assert states.told == [("streaming", None)]
        finally:
            deaf.stop()
            module.close()

    def test_an_endpoint_that_never_answers_a_ping_is_lost(self, make_hub):
        hub = make_hub(limits={"heartbeat": 0.2})
        deaf = gevent.server.StreamServer(("127.0.0.1", 0), deafen)
        deaf.start()
        try:
            states = States()
            hub.open("call-1", 8000).add(spec(f"ws://127.0.0.1:{deaf.server_port}/in"), states)
            states.wait("streaming")
            ended = states.wait("finished")
            assert (ended.reason, "ping" in ended.detail) == ("lost", True)
        finally:
            deaf.stop()

    def test_one_that_answers_pings_stays(self, make_hub, endpoint):
        hub = make_hub(limits={"heartbeat": 0.2})
        _, module, _, states = start(hub, endpoint)
        gevent.sleep(1.2)
        assert states.told == [("streaming", None)]
        module.close()


def deafen(sock, _):
    """Accept a WebSocket and never read again."""
    from websockets.server import ServerProtocol

    protocol = ServerProtocol()
    received = b""
    while b"\r\n\r\n" not in received:
        received += sock.recv(4096)
    protocol.receive_data(received)
    protocol.send_response(protocol.accept(protocol.events_received()[0]))
    sock.sendall(b"".join(protocol.data_to_send()))
    gevent.sleep(60)
