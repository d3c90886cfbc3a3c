"""``make bench``: fsctl beside a bare greenswitch script, same calls, same simulated FreeSWITCH, same run.

Prints what it measures as it goes, and one JSON line of all figures at the end. Everything stays on loopback and is
bounded in number and time.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.rest_load import PROJECT, TOKEN

HERE = "tests.benchmarks"
WARM_UP = 100
WARM_UP_RATE = 200.0
# The script accepts calls every 100 ms, so the more come, the more of them it does side by side: a sweep tells more.
RATES = (100, 200, 300)
SECONDS = 5
REACTION_CALLS = 600
REACTION_RATE = 100.0
IDLE_CALLS = 2000
IDLE_RATE = 150.0
COMMANDS = 2000
COMMAND_RATE = 200.0
COMMANDS_AT_ONCE = 4000
CONNECTIONS = 8
ROUNDS = 3

CALL = """
version: 1.0.0
sections:
  main:
    - answer: {{}}
    - record_call: {{control_id: r, status_url: "http://127.0.0.1:{hook}/record"}}
    - play: {{url: "silence:0.2"}}
    - stop_record_call: {{control_id: r}}
    - hangup: {{}}
"""
IDLE = """
version: 1.0.0
sections:
  main:
    - answer: {}
    - sleep: -1
"""


class Process:
    """One of the benchmark's processes, spoken to line by line. ``under`` is a command that runs it."""

    def __init__(self, *arguments, core=None, under=()):
        preexec = (lambda: os.sched_setaffinity(0, {core})) if core is not None and os.cpu_count() > 1 else None
        self._process = subprocess.Popen(
            [*under, sys.executable, "-m", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=preexec,  # noqa: PLW1509 - there are no threads here
        )

    @property
    def pid(self):
        return self._process.pid

    def line(self):
        """The next line it prints, as JSON where it is."""
        text = self._process.stdout.readline().strip()
        if not text:
            raise RuntimeError(f"{' '.join(self._process.args)} ended with {self._process.wait()}")
        try:
            return json.loads(text)
        except ValueError:
            return text

    def ask(self):
        """What it says to a line of input."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.line()

    def stop(self, seconds=15):
        self._process.stdin.close()
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()


def fsctl(directory, document, hook, under=()):
    """fsctl in service with that document; its process and the ports of its event socket and of its HTTP side."""
    (directory / "main.yaml").write_text(document, encoding="utf-8")
    config = {
        "event_socket": {"listen": "127.0.0.1:0", "max_calls": 5000},
        "http": {"listen": "127.0.0.1:0"},
        "documents": {"default": "main.yaml", "directory": str(directory)},
        "recordings": {"directory": str(directory / "recordings"), "min_free_bytes": 0},
        "logs": {"database": str(directory / "calls.db")},
        "media": {"cache_directory": str(directory / "cache")},
        "network": {"allow_private": ["127.0.0.0/8"]},
        "webhooks": {"call_state_url": f"http://127.0.0.1:{hook}/state", "call_state_events": ["ended"]},
        "freeswitch": {"event_socket": ""},
        "project": {"project_id": PROJECT},
        "api": {
            "tokens": [{"name": "benchmark", "token": TOKEN, "scopes": ["read", "control"]}],
            "requests_per_second": 100_000,
            "burst": 100_000,
        },
    }
    path = directory / "fsctl.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    process = Process(f"{HERE}.fsctl_process", path, core=0, under=under)
    where = process.line()
    return process, where["address"][1], where["http"][1]


def greenswitch(under=()):
    """The bare script; its process and port."""
    port = free_port()
    process = Process(f"{HERE}.greenswitch_script", port, "silence_stream://200", core=0, under=under)
    process.line()
    return process, port


def free_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def load(port, calls, rate, mode="run"):
    """Let the simulated FreeSWITCH call; the process that does."""
    return Process(f"{HERE}.load", port, calls, rate, mode, core=1)


def run(port, calls, rate):
    process = load(port, calls, rate)
    seen = process.line()
    process.stop()
    if seen["ended"] != calls:
        raise RuntimeError(f"only {seen['ended']} of {calls} calls ended")
    return seen


def command(port, http, number, rate):
    """REST commands on calls that are up; how fast they arrived."""
    process = Process(f"{HERE}.rest_load", port, http, number, rate, CONNECTIONS, core=1)
    seen = process.line()
    process.stop()
    if seen["accepted"] != number or (rate and seen["arrived"] != number):
        raise RuntimeError(f"of {number} commands not all were accepted and arrived: {seen}")
    return seen


def cpu_per_call(process, port):
    """Milliseconds of the controller's CPU for each call, at each of the rates, after a warm-up."""
    run(port, WARM_UP, WARM_UP_RATE)
    used = {}
    for rate in RATES:
        before = process.ask()["cpu"]
        run(port, rate * SECONDS, rate)
        used[rate] = 1000 * (process.ask()["cpu"] - before) / (rate * SECONDS)
    return used


def median(values):
    return round(sorted(values)[len(values) // 2], 3)


def share(before, after, bound):
    """The share of the observations between two looks at a histogram that are within ``bound``."""
    grown = {name: count - dict(before)[name] for name, count in after}
    return round(grown[bound] / grown["+Inf"], 4)


def say(text):
    print(text, flush=True)


def main():
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        receiver = Process(f"{HERE}.receiver", core=1)
        hook = receiver.line()

        say(f"controller CPU per call ({ROUNDS} rounds of {SECONDS} seconds at each rate)")
        ours, theirs = [], []
        for number in range(1, ROUNDS + 1):
            process, port = greenswitch()
            theirs.append(cpu_per_call(process, port))
            process.stop()
            process, port, http = fsctl(directory, CALL.format(hook=hook), hook)
            ours.append(cpu_per_call(process, port))
            process.stop()
            for rate in RATES:
                mine, other = ours[-1][rate], theirs[-1][rate]
                say(
                    f"  round {number}, {rate} calls a second: greenswitch {other:.2f} ms, fsctl {mine:.2f} ms,"
                    f" ratio {mine / other:.2f}"
                )
        for rate in RATES:
            pairs = [(mine[rate], other[rate]) for mine, other in zip(ours, theirs, strict=True)]
            figures[f"cpu_ms_fsctl_at_{rate}"] = median([mine for mine, _ in pairs])
            figures[f"cpu_ms_greenswitch_at_{rate}"] = median([other for _, other in pairs])
            figures[f"cpu_ratio_at_{rate}"] = median([mine / other for mine, other in pairs])
        figures["webhooks_per_call"] = round(receiver.ask() / (ROUNDS * (SECONDS * sum(RATES) + WARM_UP)), 2)

        say(f"from a fact to the next command ({REACTION_CALLS} calls at {REACTION_RATE:g} a second)")
        process, port = greenswitch()
        run(port, WARM_UP, WARM_UP_RATE)
        other = run(port, REACTION_CALLS, REACTION_RATE)
        process.stop()
        figures["reaction_ms_p50_greenswitch"] = round(1000 * other["p50"], 3)
        figures["reaction_ms_p99_greenswitch"] = round(1000 * other["p99"], 3)
        process, port, http = fsctl(directory, CALL.format(hook=hook), hook)
        run(port, WARM_UP, WARM_UP_RATE)
        before = process.ask()["reactions"]
        seen = run(port, REACTION_CALLS, REACTION_RATE)
        figures["reaction_inside_under_2_ms"] = share(before, process.ask()["reactions"], "0.002")
        reader = Process(f"{HERE}.log_reader", http, core=1)
        reader.line()
        before = process.ask()["reactions"]
        read = run(port, REACTION_CALLS, REACTION_RATE)
        figures["reaction_inside_under_2_ms_while_the_log_is_read"] = share(before, process.ask()["reactions"], "0.002")
        figures["log_reads"] = reader.ask()
        figures["reaction_ms_p99_while_the_log_is_read"] = round(1000 * read["p99"], 3)
        reader.stop()
        process.stop()
        figures["reaction_ms_p50"] = round(1000 * seen["p50"], 3)
        figures["reaction_ms_p99"] = round(1000 * seen["p99"], 3)
        say(
            f"  on the wire, until the command has arrived: p50 {figures['reaction_ms_p50']:.2f} ms,"
            f" p99 {figures['reaction_ms_p99']:.2f} ms; greenswitch {figures['reaction_ms_p50_greenswitch']:.2f} and"
            f" {figures['reaction_ms_p99_greenswitch']:.2f}"
        )
        say(f"  inside fsctl: {100 * figures['reaction_inside_under_2_ms']:.1f} % within 2 ms")
        say(
            f"  while the log is read {figures['log_reads']} times: p99"
            f" {figures['reaction_ms_p99_while_the_log_is_read']:.2f} ms, inside"
            f" {100 * figures['reaction_inside_under_2_ms_while_the_log_is_read']:.1f} % within 2 ms"
        )

        say(f"REST commands ({COMMANDS} at {COMMAND_RATE:g} a second, then {COMMANDS_AT_ONCE} as fast as they go)")
        process, port, http = fsctl(directory, IDLE, hook)
        command(port, http, COMMANDS // 4, COMMAND_RATE)
        paced = command(port, http, COMMANDS, COMMAND_RATE)
        before = process.ask()["cpu"]
        flood = command(port, http, COMMANDS_AT_ONCE, 0)
        figures["command_cpu_ms"] = round(1000 * (process.ask()["cpu"] - before) / COMMANDS_AT_ONCE, 3)
        process.stop()
        figures["command_ms_p50"] = round(1000 * paced["p50"], 3)
        figures["command_ms_p99"] = round(1000 * paced["p99"], 3)
        figures["commands_per_second"] = round(flood["per_second"])
        say(
            f"  from the request to the command on the event socket: p50 {figures['command_ms_p50']:.2f} ms,"
            f" p99 {figures['command_ms_p99']:.2f} ms"
        )
        say(f"  at most {figures['commands_per_second']} a second, {figures['command_cpu_ms']:.2f} ms of CPU each")

        say(f"memory of an idle call ({IDLE_CALLS} calls)")
        process, port, http = fsctl(directory, IDLE, hook)
        run_idle = load(port, 50, 50.0, "hold")
        run_idle.line()
        before = process.ask()
        more = load(port, IDLE_CALLS, IDLE_RATE, "hold")
        up = more.line()["up"]
        after = process.ask()
        figures["idle_calls"] = after["calls"] - before["calls"]
        figures["idle_call_kb"] = round((after["resident"] - before["resident"]) / 1024 / figures["idle_calls"], 1)
        say(f"  {up} calls up, {figures['idle_call_kb']} kB each")
        more.stop()
        run_idle.stop()
        process.stop()
        receiver.stop()

    say("streams through the hub (each the median of 3 runs)")
    hub = subprocess.run([sys.executable, "-m", f"{HERE}.hub"], stdout=subprocess.PIPE, text=True, check=True)
    figures["hub"] = json.loads(hub.stdout.splitlines()[-1])["runs"]
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
