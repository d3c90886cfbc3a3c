"""A call with sensible defaults, so that a test says only what it is about."""

from pathlib import Path
from types import SimpleNamespace

from fsctl.call.call import Call
from fsctl.call.events import CallInfo, ControlChanged, ScriptWarning
from fsctl.call.services import Services
from fsctl.media.files import Segment
from fsctl.media.recordings import Recordings
from tests.fakes.clock import FakeClock
from tests.fakes.leg import FakeLeg

CALL_ID = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"


def info(**changes):
    values = {
        "call_id": CALL_ID,
        "node_id": "fs1",
        "segment_id": CALL_ID,
        "direction": "inbound",
        "type": "sip",
        "from_": "alice@pbx.example",
        "to": "1000@pbx.example",
        "from_number": "alice",
        "to_number": "1000",
        "project_id": "00000000-0000-4000-8000-000000000001",
        "space_id": "00000000-0000-4000-8000-000000000002",
        "session_id": CALL_ID,
        "created_at": 1_767_000_000.0,
        **changes,
    }
    return CallInfo(**values)


class FakeFiles:
    """Every URL is a file, except those told to fail. Each is ``seconds`` long; ``held`` are the segments in use.

    A segment's name tells its file and, after an ``@``, where it begins.
    """

    def __init__(self):
        self.asked = []
        self.failing = {}
        self.seconds = 2.0
        self.held = []

    def local(self, url, gain_db=0.0):
        self.asked.append((url, gain_db))
        if url in self.failing:
            raise self.failing[url]
        return Path("/cache/sound.wav")

    def length(self, path):
        return self.seconds

    def segment(self, path, start=0.0):
        name = path.stem.partition("@")[0] + (f"@{start:g}" if start else "")
        segment = Segment(path.with_name(f"{name}.wav"), max(0.0, self.seconds - start))
        self.held.append(segment)
        return segment

    def release(self, segment):
        self.held.remove(segment)


class FakeVoices:
    def choose(self, name, language, gender):
        self.asked = (name, language, gender)
        return SimpleNamespace(engine="flite", name="slt", note=None)


class FakeWeb:
    def __init__(self):
        self.refuses = None

    def admit(self, url):
        if self.refuses:
            raise self.refuses


STREAMS = SimpleNamespace(
    mode="direct", allow_plaintext=False, connect_timeout=3.0, sample_rate=8000, frame_ms=20, heartbeat=15
)


def make_call(tmp_path, *, answered=True, streams=STREAMS, hub=None, **changes):
    """A call, its leg at ``call.leg`` and everything it told the world in ``call.told``."""
    clock = FakeClock()
    leg = FakeLeg(clock, answered=answered)
    told = []
    services = Services(
        clock=clock,
        web=FakeWeb(),
        files=FakeFiles(),
        recordings=Recordings(tmp_path / "recordings", "https://fsctl.example", min_free_bytes=0),
        voices=FakeVoices(),
        streams=streams,
        hub=hub,
        max_duration=14400.0,
        request_timeout=30.0,
    )
    call = Call(info(**changes), leg, services=services, emit=told.append, envs={})
    call.told = told
    call.to("created")
    if answered:
        call.to("answered")
    return call


def states(call, kind):
    """The states a kind of control went through, in order."""
    return [event.state for event in call.told if isinstance(event, ControlChanged) and event.kind == kind]


def changes(call, kind):
    return [event for event in call.told if isinstance(event, ControlChanged) and event.kind == kind]


def warnings(call):
    return [event.message for event in call.told if isinstance(event, ScriptWarning)]
