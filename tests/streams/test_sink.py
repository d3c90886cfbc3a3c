"""The recorder endpoint, against the hub."""

import json
import os
import signal
import subprocess
import sys
import wave

import pytest

from fsctl.streams.audio import Format
from fsctl.streams.sink import Sink
from tests.streams.peers import DIRECT, Module, States, spec, tone, until


@pytest.fixture
def sink(tmp_path):
    lines = []
    sink = Sink(tmp_path / "out", tell=lines.append)
    sink.start()
    sink.lines = lines
    yield sink
    sink.stop()


def read(path):
    with wave.open(str(path)) as file:
        return file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())


def stream_to(hub, sink, **changes):
    attachment, states = hub.open("call-1", 8000), States()
    module = Module(attachment.url)
    stream = attachment.add(spec(f"ws://127.0.0.1:{sink.port}/", **changes), states)
    states.wait("streaming")
    return attachment, module, stream, states


def test_each_track_is_a_wav_file(hub, sink):
    attachment, module, stream, states = stream_to(
        hub, sink, tracks=("inbound", "outbound"), form=Format("L16", 8000, 20), stream_id="../odd name"
    )
    said, heard = tone(440, 3200), tone(1000, 3200)
    module.play(said, heard)
    until(lambda: attachment.frames == 20)
    stream.stop()
    states.wait("finished")
    until(lambda: any("over:" in line for line in sink.lines))
    files = sorted(path.name for path in sink.directory.iterdir())
    assert files == ["001-.._odd_name-inbound.wav", "002-.._odd_name-outbound.wav"]
    assert read(sink.directory / files[0]) == (8000, 1, said)
    assert read(sink.directory / files[1]) == (8000, 1, heard)
    told = [json.loads(line.partition(" ")[2])["event"] for line in sink.lines if line.endswith("}")]
    assert told == ["connected", "start", "stop"]
    assert any("inbound: 20 messages, 0.40 s" in line for line in sink.lines)
    module.close()


def test_g711_is_written_as_linear_audio(hub, sink):
    attachment, module, stream, states = stream_to(hub, sink)
    module.play(tone(440, 1600), tone(440, 1600))
    until(lambda: attachment.frames == 10)
    stream.stop()
    states.wait("finished")
    until(lambda: any("over:" in line for line in sink.lines))
    rate, _, audio = read(next(sink.directory.iterdir()))
    assert (rate, len(audio)) == (8000, 3200)
    module.close()


def test_a_cut_stream_leaves_a_whole_file(hub, sink):
    attachment, module, stream, _ = stream_to(hub, sink, form=Format("L16", 8000, 20))
    module.play(tone(440, 1600), tone(440, 1600))
    until(lambda: attachment.frames == 10)
    stream.link.close()
    until(lambda: any("over:" in line for line in sink.lines))
    assert read(next(sink.directory.iterdir()))[2] == tone(440, 1600)
    module.close()


def test_what_is_no_stream_is_told(sink):
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{sink.port}/", **DIRECT) as stranger:
        stranger.send("nonsense")
        stranger.send('{"event":"media"}')
        until(lambda: sum("not understood" in line for line in sink.lines) == 2)


def test_it_ends_cleanly_on_sigint(tmp_path):
    script = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import sys; from pathlib import Path; from fsctl.streams.sink import run\n"
        "run(Path(sys.argv[1]), host='127.0.0.1', port=0, echo=False, tell=lambda line: print(line, flush=True))\n"
        "print('done', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline().startswith("listening on ws://127.0.0.1:")
        os.kill(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=10)
    finally:
        process.kill()
    assert (process.returncode, out, errors) == (0, "done\n", "")
