"""``make bench-live``: calls over SIP on loopback through a real FreeSWITCH, to three ends in one run.

FreeSWITCH's own dialplan (what cannot be beaten), a bare greenswitch script, and fsctl with its document, webhooks and
metrics. Prints how long callers wait from INVITE to 200, what a call costs FreeSWITCH and the controller, and one JSON
line of it all. Bounded in number and time; FreeSWITCH is found as ``tests/live`` finds it, and ``FSCTL_LIVE_ECHO`` is a
number that FreeSWITCH answers by itself. Skips, and says why, without FreeSWITCH.
"""

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import gevent

from tests.benchmarks.__main__ import CALL, HERE, Process, say
from tests.live.switch import Switch, address, dial_string, to_ourselves

WARM_UP = 20
CALLS = 200
RATE = 20
ROUNDS = 2
SETTLE_SECONDS = 15.0
TALK_SECONDS = 0.2


class FreeSwitch:
    """The one under test, and what it uses of the processor."""

    def __init__(self):
        where = os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021")
        self.switch = Switch(address(where), os.environ.get("FSCTL_LIVE_PASSWORD", "ClueCon"))
        run = Path(self.switch.api("global_getvar run_dir"))
        self.pid = int((run / "freeswitch.pid").read_text(encoding="ascii"))
        self._before = self._sessions()

    def settle(self):
        """Wait until every session of the calls is gone, those that linger as well."""
        with gevent.Timeout(SETTLE_SECONDS, RuntimeError("FreeSWITCH still has sessions")):
            while self._sessions() > self._before:
                gevent.sleep(0.05)

    def _sessions(self):
        return next(int(line.split()[0]) for line in self.switch.api("status").splitlines() if "session(s) - " in line)


def cpu_of(pid):
    """The seconds of processor a process has used, all its threads together."""
    used = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def calls(number, count, *, hang_up):
    """Let callers call; of every call the milliseconds from INVITE to 200 and to its end."""
    process = Process(f"{HERE}.callers", number, count, RATE, TALK_SECONDS if hang_up else 0)
    times = process.line()
    process.stop()
    return times


class Figures:
    """What one end did, over all rounds."""

    def __init__(self):
        self.times = []
        self.freeswitch = []
        self.controller = []

    def add(self, times, freeswitch, controller=0.0):
        self.times += times
        self.freeswitch.append(freeswitch)
        self.controller.append(controller)

    def named(self, name):
        """As fields of the JSON line; all in milliseconds."""
        answered, ended = (sorted(column) for column in zip(*self.times, strict=True))
        fields = {f"invite_ms_p{share}_{name}": answered[int(len(answered) * share / 100)] for share in (50, 95, 99)}
        fields[f"call_ms_p50_{name}"] = ended[len(ended) // 2]
        fields[f"freeswitch_cpu_ms_{name}"] = sum(self.freeswitch) / len(self.freeswitch)
        if any(self.controller):
            fields[f"controller_cpu_ms_{name}"] = sum(self.controller) / len(self.controller)
        return {field: round(value, 2) for field, value in fields.items()}


@contextmanager
def dialplan():
    """FreeSWITCH alone: no controller."""
    yield None


@contextmanager
def greenswitch(port):
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("greenswitch-*.wav"))
    process = Process(f"{HERE}.greenswitch_script", port, "silence_stream://200")
    process.line()
    try:
        yield process.pid
    finally:
        process.stop()
        for path in set(temporary.glob("greenswitch-*.wav")) - before:
            path.unlink()


@contextmanager
def fsctl(directory, listen, hook):
    for name in ("recordings", "cache"):
        (directory / name).mkdir(exist_ok=True)
        (directory / name).chmod(0o777)
    (directory / "main.yaml").write_text(CALL.format(hook=hook), encoding="utf-8")
    config = {
        "event_socket": {"listen": listen},
        "http": {"listen": "127.0.0.1:0"},
        "documents": {"default": "main.yaml", "directory": str(directory)},
        "recordings": {"directory": str(directory / "recordings"), "min_free_bytes": 0},
        "logs": {"database": str(directory / "calls.db")},
        "media": {"cache_directory": str(directory / "cache")},
        "network": {"allow_private": ["127.0.0.0/8"]},
        "webhooks": {"call_state_url": f"http://127.0.0.1:{hook}/state", "call_state_events": ["ended"]},
    }
    path = directory / "fsctl.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    process = Process(f"{HERE}.fsctl_process", path)
    process.line()
    try:
        yield process.pid
    finally:
        process.stop()


def measure(freeswitch, number, end, figures, *, hang_up=False):
    """A warm-up and a round of calls to one end."""
    with end as controller:
        pids = [freeswitch.pid, *([controller] if controller else [])]
        calls(number, WARM_UP, hang_up=hang_up)
        freeswitch.settle()
        before = [cpu_of(pid) for pid in pids]
        times = calls(number, CALLS, hang_up=hang_up)
        freeswitch.settle()
        used = [1000 * (cpu_of(pid) - spent) / CALLS for pid, spent in zip(pids, before, strict=True)]
    figures.add(times, *used)


def run(freeswitch, directory):
    _, number = dial_string(os.environ.get("FSCTL_LIVE_DIAL", "sofia/internal/9123@127.0.0.1:5080"))
    echo = f"{os.environ.get('FSCTL_LIVE_ECHO', 'echo')}@{number.partition('@')[2]}"
    listen = os.environ.get("FSCTL_LIVE_LISTEN", "127.0.0.1:8084")
    host, port = address(listen)
    receiver = Process(f"{HERE}.receiver")
    hook = receiver.line()
    found = {name: Figures() for name in ("dialplan", "greenswitch", "fsctl")}
    with to_ourselves(host, port, 60.0):
        say(f"{ROUNDS} rounds of {CALLS} calls at {RATE} a second to each end")
        for _ in range(ROUNDS):
            measure(freeswitch, echo, dialplan(), found["dialplan"], hang_up=True)
            measure(freeswitch, number, greenswitch(port), found["greenswitch"])
            measure(freeswitch, number, fsctl(directory, listen, hook), found["fsctl"])
    figures = {}
    for name, end in found.items():
        fields = end.named(name)
        figures |= fields
        say(f"  {name}: " + ", ".join(f"{field.removesuffix('_' + name)} {value:g}" for field, value in fields.items()))
    figures["webhooks_received"] = receiver.ask()
    receiver.stop()
    for what in ("invite_ms_p50_{}", "freeswitch_cpu_ms_{}", "controller_cpu_ms_{}"):
        name = what.format("ratio")
        figures[name] = round(figures[what.format("fsctl")] / figures[what.format("greenswitch")], 2)
        say(f"  fsctl / greenswitch: {name} {figures[name]:g}")
    return figures


def main():
    try:
        freeswitch = FreeSwitch()
    except (OSError, PermissionError, gevent.Timeout) as problem:
        say(f"skipped: no FreeSWITCH on this host's event socket (FSCTL_LIVE_ESL, FSCTL_LIVE_PASSWORD): {problem}")
        return 0
    with tempfile.TemporaryDirectory(prefix="fsctl-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        figures = run(freeswitch, directory)
    freeswitch.switch.close()
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
