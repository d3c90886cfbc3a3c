"""What the hub carries on one core: ``python -m tests.benchmarks.hub [--streams N] [--frame-ms 20|40|60] …``.

Fake modules and endpoints run in processes of their own on another core; the hub has one to itself. Every stream is of
a call of its own, with one track of PCMU, at a phase of its own. Added delay is from the module's ``send`` to the
moment the endpoint has the whole message, so it holds what the other processes cost; ``p99`` is the median of the 99th
percentiles of windows of 250 ms, ``raw_p99`` that of everything. Without ``--streams``, 100 streams to compare the cost
with and the two goals, each as often as ``--repeat`` says; the run in the middle by ``p99`` counts. The last line is a
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOALS = ((100, 20), (400, 20), (1000, 60))
STRETCH = ((600, 20), (1500, 60))


class Peer:
    """A process that answers JSON lines."""

    def __init__(self, module, *arguments):
        command = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, **facts):
        self.process.stdin.write(json.dumps(facts) + "\n")
        self.process.stdin.flush()

    def hear(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[4]} ended early")
        return json.loads(line)

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(streams, frame_ms, seconds, *, profile=None, lockstep=False, codec="PCMU", tracks=("inbound",)):
    """One measurement."""
    cores = sorted(os.sched_getaffinity(0))
    ours, theirs = cores[0], cores[-1]
    frames = int(seconds * 1000 / frame_ms)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as memory:
        memory.truncate(streams * frames * 8)
        sink = Peer("hub_load", "sink", memory.name, theirs)
        source = Peer("hub_load", "source", memory.name, theirs if len(cores) < 3 else cores[1])
        hub = Peer("hub_process", ours, *([profile] if profile else []))
        try:
            port = sink.hear()["port"]
            hub.tell(streams=streams, frame_ms=frame_ms, port=port, codec=codec, tracks=tracks)
            urls = hub.hear()["urls"]
            source.tell(urls=urls, frame_ms=frame_ms, frames=frames, lockstep=lockstep)
            source.hear()
            sink.tell(streams=streams, frames=frames)
            hub.tell(go=True)
            sink.hear()
            hub.tell(settled=True)
            memory_each = hub.hear()["memory"]
            begin = time.monotonic()
            source.tell(go=True)
            sent = source.hear()
            took = time.monotonic() - begin
            hub.tell(done=True)
            used = hub.hear()
            received = sink.hear()
        finally:
            for peer in (source, sink, hub):
                peer.end()
    messages = max(received["received"], 1)
    return {
        "streams": streams,
        "frame_ms": frame_ms,
        **{name: received[name] for name in ("p50", "p99", "raw_p99", "worst")},
        "cpu_percent": round(100 * used["cpu"] / took, 1),
        "us_per_message": round(1e6 * used["cpu"] / messages, 1),
        "missing": received["due"] - received["received"],
        "gaps": received["gaps"],
        "dropped": used["dropped_messages"],
        "memory_per_stream": memory_each,
        "memory_per_stream_after": used["grown"],
        "others_cpu_percent": round(100 * (sent["cpu"] + received["cpu"]) / took, 1),
        "source_late_ms": round(sent["latest"] * 1000, 1),
    }


def measure(streams, frame_ms, given):
    """One run, and its profile if that is wanted."""
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder, "profile") if given.profile else None
        tracks = ("inbound", "outbound") if given.both else ("inbound",)
        found = run(
            streams,
            frame_ms,
            given.seconds,
            profile=profile,
            lockstep=given.lockstep,
            codec=given.codec,
            tracks=tracks,
        )
        if profile is not None:
            pstats.Stats(str(profile), stream=sys.stderr).sort_stats("tottime").print_stats(16)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, help="how many; without it, the goals")
    parser.add_argument("--frame-ms", type=int, default=20, choices=(20, 40, 60))
    parser.add_argument("--stretch", action="store_true", help="more than the goals")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--both", action="store_true", help="both tracks")
    parser.add_argument("--lockstep", action="store_true", help="all streams at the same moment: a burst, not a load")
    parser.add_argument("--profile", action="store_true", help="say where the time goes (and take more of it)")
    given = parser.parse_args()
    cases = [(given.streams, given.frame_ms)] if given.streams else [*GOALS, *(STRETCH if given.stretch else ())]
    chosen = []
    for streams, frame_ms in cases:
        runs = []
        for _ in range(1 if given.profile else given.repeat):
            runs.append(measure(streams, frame_ms, given))
            print("  ".join(f"{name} {value}" for name, value in runs[-1].items()), file=sys.stderr)
        chosen.append(sorted(runs, key=lambda run: run["p99"])[len(runs) // 2])
    print(json.dumps({"benchmark": "hub", "runs": chosen}))


if __name__ == "__main__":
    main()
