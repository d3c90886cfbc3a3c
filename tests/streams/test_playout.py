"""Audio into the call, through a pipe that a reader empties as FreeSWITCH does."""

import json
import os
from base64 import b64encode

import gevent
import pytest

from fsctl.streams.audio import Format
from fsctl.streams.playout import FLOOR_MS, LEAD_MS, PipePlayout
from tests.streams.peers import Endpoint, Module, States, spec, tone, until


class Switch:
    """Takes a frame from the pipe every 20 ms; ``heard`` is all it took."""

    def __init__(self, path, rate=8000):
        self.heard = b""
        self.waited = 0
        self.ended = False
        self._size = rate // 50 * 2
        self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._greenlet = gevent.spawn(self._run)

    def _run(self):
        while True:
            try:
                frame = os.read(self._pipe, self._size)
            except BlockingIOError:
                self.waited += 1
                gevent.sleep(0.001)
                continue
            if not frame:
                self.ended = True
                return
            self.heard += frame
            gevent.sleep(0.02)

    def close(self):
        self._greenlet.kill()
        os.close(self._pipe)


@pytest.fixture
def playing(tmp_path):
    """A playout, its marks, and the switch that hears it."""
    marks = []
    playout = PipePlayout(tmp_path / "call.r8", 8000, marks.append)
    switch = Switch(playout.path)
    yield playout, marks, switch
    playout.close()
    switch.close()


class TestPipe:
    def test_silence_flows_while_nobody_speaks(self, playing):
        playout, _, switch = playing
        until(lambda: len(switch.heard) >= 320 * 10)
        assert set(switch.heard) == {0}
        assert switch.waited == 0
        assert playout.starved == 0

    def test_audio_is_heard_whole_and_in_one_piece(self, playing):
        playout, _, switch = playing
        speech = tone(440, 4000, amplitude=9000, begin=7)
        assert playout.play(speech)
        until(lambda: len(switch.heard) >= len(speech) + 320 * 8)
        at = switch.heard.find(speech[:64])
        assert at >= 0
        assert switch.heard[at : at + len(speech)] == speech
        assert set(switch.heard[:at] + switch.heard[at + len(speech) :]) == {0}
        assert at / 16 <= FLOOR_MS + 60  # ms of silence before it

    def test_the_pipe_holds_no_more_than_the_lead(self, playing):
        playout, _, switch = playing
        playout.play(tone(440, 8000))
        until(lambda: len(switch.heard) > 3200)
        assert playout._in_pipe() <= LEAD_MS * 16

    def test_a_mark_comes_when_what_was_before_it_is_played(self, playing):
        playout, marks, switch = playing
        first, second = tone(440, 1600), tone(700, 800)
        playout.play(first)
        playout.mark("one")
        playout.play(second)
        playout.mark("two")
        until(lambda: marks)
        assert marks == ["one"]
        assert first in switch.heard
        assert second not in switch.heard
        until(lambda: len(marks) == 2)
        assert marks == ["one", "two"]
        assert second in switch.heard

    def test_a_mark_on_an_empty_queue_comes_at_once(self, playing):
        playout, marks, _ = playing
        playout.mark("now")
        assert marks == ["now"]

    def test_clear_silences_and_returns_the_marks(self, playing):
        playout, marks, switch = playing
        playout.play(tone(440, 16_000))
        playout.mark("a")
        playout.mark("b")
        until(lambda: any(switch.heard))
        playout.clear()
        assert marks == ["a", "b"]
        begin = len(switch.heard)
        until(lambda: len(switch.heard) > begin + 320 * 5)
        assert not any(switch.heard[begin + 320 :])
        assert switch.waited == 0
        playout.mark("c")
        assert marks == ["a", "b", "c"]

    def test_a_queue_of_two_minutes_takes_no_more(self, playing):
        playout, _, _ = playing
        assert playout.play(bytes(8000 * 2 * 119))
        assert not playout.play(bytes(8000 * 2 * 2))

    def test_the_end_of_the_pipe_is_seen(self, playing):
        playout, marks, switch = playing
        playout.play(tone(440, 800))
        playout.mark("never")
        playout.close()
        until(lambda: switch.ended)
        assert marks == []
        assert not playout.path.exists()
        playout.close()


class Line:
    """A call that plays into a pipe which a switch reads."""

    def __init__(self, folder):
        self.folder = folder
        self.pressed = []
        self.rates = []
        self.switch = None

    def playout(self, rate, marked):
        self.rates.append(rate)
        playout = PipePlayout(self.folder / f"call.r{rate // 1000}", rate, marked)
        self.switch = Switch(playout.path, rate)
        return playout

    def press(self, digit):
        self.pressed.append(digit)


def media(audio):
    return json.dumps({"event": "media", "streamSid": "s", "media": {"payload": b64encode(audio).decode()}})


@pytest.fixture
def two_way(hub, tmp_path):
    """Start a two-way stream of a format: gives its endpoint, its line, its states, its module."""
    opened = []

    def make(form):
        endpoint, line, states = Endpoint(), Line(tmp_path), States()
        attachment = hub.open("call-1", 8000)
        module = Module(attachment.url)
        stream = attachment.add(spec(endpoint.url, "s", form=form, two_way=True), states, line=line)
        states.wait("streaming")
        opened.append((endpoint, line, module))
        return endpoint.connections[0], endpoint, line, stream, states

    yield make
    for endpoint, line, module in opened:
        module.close()
        line.switch.close()
        endpoint.close()


class TestTwoWayStreams:
    def test_what_the_endpoint_says_is_heard_sample_by_sample(self, two_way):
        connection, _, line, _, _ = two_way(Format("L16", 8000, 20))
        speech = tone(440, 1600, begin=5)
        for at in range(0, len(speech), 500):  # any lengths
            connection.send(media(speech[at : at + 500]))
        until(lambda: speech in line.switch.heard)

    @pytest.mark.parametrize(
        ("form", "rate"),
        [(Format("PCMU", 8000, 20), 8000), (Format("L16", 16000, 20), 16_000), (Format("L16", 24000, 20), 16_000)],
    )
    def test_the_pipe_has_a_rate_that_freeswitch_reads(self, two_way, form, rate):
        connection, _, line, _, _ = two_way(form)
        connection.send(media(b"\x55" * 2000))
        until(lambda: any(line.switch.heard))
        assert line.rates == [rate]

    def test_marks_come_back_and_clear_returns_the_rest(self, two_way):
        connection, endpoint, line, _, _ = two_way(Format("L16", 8000, 20))
        connection.send(media(tone(440, 800)))
        connection.send('{"event":"mark","streamSid":"s","mark":{"name":"one"}}')
        until(lambda: endpoint.events("mark"))
        assert endpoint.events("mark") == [{"event": "mark", "streamSid": "s", "mark": {"name": "one"}}]
        assert tone(440, 800) in line.switch.heard
        connection.send(media(tone(440, 80_000)))
        connection.send('{"event":"mark","streamSid":"s","mark":{"name":"two"}}')
        connection.send('{"event":"clear","streamSid":"s"}')
        until(lambda: len(endpoint.events("mark")) == 2)
        assert endpoint.events("mark")[1]["mark"] == {"name": "two"}

    def test_digits_go_into_the_call(self, two_way):
        connection, _, line, _, _ = two_way(Format("PCMU", 8000, 20))
        for digit in "1#D":
            connection.send(json.dumps({"event": "dtmf", "streamSid": "s", "dtmf": {"digit": digit}}))
        until(lambda: line.pressed == ["1", "#", "D"])

    def test_garbage_is_passed_over_and_counted(self, hub, two_way):
        connection, _, line, _, states = two_way(Format("L16", 8000, 20))
        for text in (b"nonsense", b"{}", b'{"event":"media","media":{"payload":"?"}}', b'{"event":"dtmf"}'):
            connection.send(text)
        connection.send(media(tone(440, 160)))
        until(lambda: tone(440, 160) in line.switch.heard)
        assert hub.counters.refused_messages == 4
        assert states.told == [("streaming", None)]

    def test_a_one_way_stream_takes_nothing(self, hub, endpoint, tmp_path):
        attachment, states, line = hub.open("call-1", 8000), States(), Line(tmp_path)
        attachment.add(spec(endpoint.url, "s"), states, line=line)
        states.wait("streaming")
        endpoint.connections[0].send(media(tone(440, 160)))
        endpoint.connections[0].send("nonsense")
        attachment.dtmf("1")
        until(lambda: endpoint.events("dtmf"))
        assert line.rates == []
        assert hub.counters.refused_messages == 0

    def test_the_end_of_the_stream_is_the_end_of_the_pipe(self, two_way):
        _, _, line, stream, states = two_way(Format("PCMU", 8000, 20))
        stream.stop()
        states.wait("finished")
        until(lambda: line.switch.ended)
        assert list(line.folder.iterdir()) == []

    def test_a_pipe_that_cannot_be_made_fails_the_stream_alone(self, hub, endpoint, tmp_path):
        attachment, states = hub.open("call-1", 8000), States()
        attachment.add(spec(endpoint.url, "s", two_way=True), states, line=Line(tmp_path / "missing"))
        ended = states.wait("finished")
        assert ended.reason == "internal"
        assert "No such file" in ended.detail
        assert states.told == [("finished", "internal")]
