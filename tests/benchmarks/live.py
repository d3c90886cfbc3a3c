"""``make bench-live``: calls over SIP on loopback through a real FreeSWITCH, to three ends in one run.

FreeSWITCH's own dialplan (what cannot be beaten), a bare greenswitch script, and fsctl with its document, webhooks and
metrics. Prints how long callers wait from INVITE to 200, what a call costs FreeSWITCH and the controller, and one JSON
line of it all. Bounded in number and time; FreeSWITCH is found as ``tests/live`` finds it, and ``FSCTL_LIVE_ECHO`` is a
number that FreeSWITCH answers by itself. Skips, and says why, without FreeSWITCH or sipp.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import gevent

from tests.benchmarks.__main__ import CALL, HERE, Process, free_port, say
from tests.live.switch import Switch, address, dial_string, to_ourselves

WARM_UP = 20
CALLS = 200
RATE = 20
ROUNDS = 2
SETTLE_SECONDS = 15.0

SCENARIO = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="caller">
  <send retrans="500" start_rtd="1"><![CDATA[
    INVITE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:15550100@[local_ip]:[local_port]>;tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>
    Call-ID: [call_id]
    CSeq: 1 INVITE
    Contact: <sip:15550100@[local_ip]:[local_port]>
    Max-Forwards: 70
    Content-Type: application/sdp
    Content-Length: [len]

    v=0
    o=caller 1 1 IN IP4 [local_ip]
    s=-
    c=IN IP4 [media_ip]
    t=0 0
    m=audio [media_port] RTP/AVP 0
    a=rtpmap:0 PCMU/8000
  ]]></send>
  <recv response="100" optional="true"/>
  <recv response="180" optional="true"/>
  <recv response="183" optional="true"/>
  <recv response="200" rtd="1" rrs="true"/>
  <send><![CDATA[
    ACK [next_url] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:15550100@[local_ip]:[local_port]>;tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 1 ACK
    Max-Forwards: 70
    Content-Length: 0
  ]]></send>
  {end}
</scenario>
"""
HANGS_UP = """<pause milliseconds="200"/>
  <send retrans="500"><![CDATA[
    BYE [next_url] SIP/2.0
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
    From: <sip:15550100@[local_ip]:[local_port]>;tag=[call_number]
    To: <sip:[service]@[remote_ip]:[remote_port]>[peer_tag_param]
    Call-ID: [call_id]
    CSeq: 2 BYE
    Max-Forwards: 70
    Content-Length: 0
  ]]></send>
  <recv response="200"/>"""
IS_HUNG_UP = """<recv request="BYE"/>
  <send><![CDATA[
    SIP/2.0 200 OK
    [last_Via:]
    [last_From:]
    [last_To:]
    [last_Call-ID:]
    [last_CSeq:]
    Content-Length: 0
  ]]></send>"""


class FreeSwitch:
    """The one under test, and what it uses of the processor."""

    def __init__(self):
        where = os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021")
        self.switch = Switch(address(where), os.environ.get("FSCTL_LIVE_PASSWORD", "ClueCon"))
        run = Path(self.switch.api("global_getvar run_dir"))
        self._stat = Path("/proc") / (run / "freeswitch.pid").read_text(encoding="ascii").strip() / "stat"
        self._before = self._sessions()

    def cpu(self):
        """Seconds used so far."""
        used = self._stat.read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self):
        """Wait until every session of the calls is gone, those that linger as well."""
        with gevent.Timeout(SETTLE_SECONDS, RuntimeError("FreeSWITCH still has sessions")):
            while self._sessions() > self._before:
                gevent.sleep(0.05)

    def _sessions(self):
        return next(int(line.split()[0]) for line in self.switch.api("status").splitlines() if "session(s) - " in line)


def calls(directory, number, count, *, hangs_up):
    """Let sipp call; the milliseconds from INVITE to 200 of every call."""
    scenario = directory / ("hangs_up.xml" if hangs_up else "is_hung_up.xml")
    scenario.write_text(SCENARIO.format(end=HANGS_UP if hangs_up else IS_HUNG_UP), encoding="utf-8")
    user, _, host = number.partition("@")
    port = free_port()
    command = [
        *("sipp", host, "-sf", scenario, "-s", user, "-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", port),
        *("-m", count, "-r", RATE, "-timeout", 60, "-timeout_error", "-nostdin", "-trace_rtt", "-rtt_freq", 1),
    ]
    done = subprocess.run(list(map(str, command)), cwd=directory, capture_output=True, text=True, timeout=90)
    found = list(directory.glob("*_rtt.csv"))
    times = []
    for path in found:
        with path.open(encoding="ascii", newline="") as file:
            times += [float(row[1]) for row in list(csv.reader(file, delimiter=";"))[1:]]
        path.unlink()
    if done.returncode or len(times) != count:
        raise RuntimeError(f"sipp ended with {done.returncode}, {len(times)} of {count} calls were answered")
    return times


class Figures:
    """What one end did, over all rounds."""

    def __init__(self):
        self.times = []
        self.freeswitch = []
        self.controller = []

    def add(self, times, freeswitch, controller):
        self.times += times
        self.freeswitch.append(freeswitch)
        self.controller.append(controller)

    def percentile(self, share):
        return sorted(self.times)[min(int(len(self.times) * share), len(self.times) - 1)]

    def named(self, name):
        """As fields of the JSON line; times in milliseconds."""
        fields = {f"invite_ms_{name}_p{share}": round(self.percentile(share / 100), 1) for share in (50, 95, 99)}
        fields[f"freeswitch_cpu_ms_{name}"] = round(sum(self.freeswitch) / len(self.freeswitch), 2)
        if any(self.controller):
            fields[f"controller_cpu_ms_{name}"] = round(sum(self.controller) / len(self.controller), 2)
        return fields


class Dialplan:
    """FreeSWITCH alone."""

    def ask(self):
        return {"cpu": 0.0}

    def stop(self):
        pass


@contextmanager
def greenswitch(port):
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("greenswitch-*.wav"))
    process = Process(f"{HERE}.greenswitch_script", port, "silence_stream://200")
    process.line()
    try:
        yield process
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
    states = ["created", "answered", "ended"]
    config = {
        "event_socket": {"listen": listen},
        "http": {"listen": "127.0.0.1:0"},
        "documents": {"default": "main.yaml", "directory": str(directory)},
        "recordings": {"directory": str(directory / "recordings"), "min_free_bytes": 0},
        "media": {"cache_directory": str(directory / "cache")},
        "network": {"allow_private": ["127.0.0.0/8"]},
        "webhooks": {"call_state_url": f"http://127.0.0.1:{hook}/state", "call_state_events": states},
    }
    path = directory / "fsctl.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    process = Process(f"{HERE}.fsctl_process", path)
    process.line()
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def dialplan():
    yield Dialplan()


def measure(freeswitch, directory, number, end, figures, *, hangs_up):
    """A warm-up and a round of calls to one end."""
    with end as controller:
        calls(directory, number, WARM_UP, hangs_up=hangs_up)
        freeswitch.settle()
        before, before_controller = freeswitch.cpu(), controller.ask()["cpu"]
        times = calls(directory, number, CALLS, hangs_up=hangs_up)
        freeswitch.settle()
        used, used_controller = freeswitch.cpu() - before, controller.ask()["cpu"] - before_controller
    figures.add(times, 1000 * used / CALLS, 1000 * used_controller / CALLS)


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
            measure(freeswitch, directory, echo, dialplan(), found["dialplan"], hangs_up=True)
            measure(freeswitch, directory, number, greenswitch(port), found["greenswitch"], hangs_up=False)
            measure(freeswitch, directory, number, fsctl(directory, listen, hook), found["fsctl"], hangs_up=False)
    figures = {}
    for name, end in found.items():
        fields = end.named(name)
        figures |= fields
        text = ", ".join(f"p{share} {fields[f'invite_ms_{name}_p{share}']:g}" for share in (50, 95, 99))
        say(f"  {name:12} INVITE to 200 in ms: {text}; CPU per call in ms: FreeSWITCH "
            f"{fields[f'freeswitch_cpu_ms_{name}']:g}, controller {fields.get(f'controller_cpu_ms_{name}', 0):g}")  # fmt: skip
    figures["webhooks_received"] = receiver.ask()
    receiver.stop()
    for what in ("invite_ms_{}_p50", "freeswitch_cpu_ms_{}", "controller_cpu_ms_{}"):
        name = what.format("ratio")
        figures[name] = round(figures[what.format("fsctl")] / figures[what.format("greenswitch")], 2)
        say(f"  fsctl / greenswitch: {name} {figures[name]:g}")
    return figures


def main():
    if shutil.which("sipp") is None:
        say("skipped: there is no sipp (Debian: apt-get install sip-tester)")
        return 0
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
