"""The simulated FreeSWITCH as a load: ``python -m tests.benchmarks.load TARGET_PORT CALLS RATE MODE``.

``MODE`` ``run`` lets every call run to its end and prints how fast the application reacted; ``hold`` keeps the calls up
until a line of input comes. One JSON line each. Bounded in number and time.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402 - after the patching
import json  # noqa: E402
import resource  # noqa: E402
import struct  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from fsctl.clock import Clock  # noqa: E402
from fsctl.simulator import Caller, Switch, sockets  # noqa: E402
from fsctl.simulator.connectors import Scripted  # noqa: E402

LONGEST_CALL = 60.0
# In JSON or not: the greenswitch script has its events as plain text.
FACTS = (b"Content-Type: api/response", b"CHANNEL_EXECUTE_COMPLETE", b"RECORD_STOP")
# What the extension we ship sets before it hands the call over.
DIALPLAN = {"socket_resume": "true", "playback_terminators": "none", "send_silence_when_idle": "-1"}
SO_TIMESTAMPNS = 35  # Linux's; Python has no name for it


class Wire(socket.socket):
    """One connection to the application, which notes what is said on it, and when: ``(who, seconds, bytes)``.

    What the application says counts from when it arrived in the kernel. This process plays FreeSWITCH for all calls
    and may be busy with another one then, which is not the application's doing.
    """

    def __init__(self, *kind):
        super().__init__(*kind)
        self.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.said = []

    def sendall(self, data, *flags):
        self.said.append(("freeswitch", time.time(), data))
        return super().sendall(data, *flags)

    def recv(self, size, *flags):
        data, notes, _, _ = self.recvmsg(size, socket.CMSG_SPACE(16), *flags)
        for level, kind, value in notes:
            if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
                seconds, nanoseconds = struct.unpack("@ll", value)
                self.said.append(("application", seconds + nanoseconds / 1e9, data))
        return data


def reactions(said):
    """Seconds from each fact the script waited for to the next command."""
    found = []
    waiting = None
    for who, at, data in said:
        if who == "freeswitch":
            if any(fact in data for fact in FACTS):
                waiting = at
        elif waiting is not None:
            if not data.startswith(b"exit"):
                found.append(at - waiting)
            waiting = None
    return found


def main():
    gc.disable()  # a pause of the instrument would look like one of what it measures
    port, number, rate, mode = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    switch = Switch(
        ("127.0.0.1", port),
        clock=Clock(),
        streams=Scripted(),
        writes_files=False,
        keeps_transcript=False,
    )
    wires = []
    if mode == "run" and rate <= 100:  # faster, this process would be what is measured

        def connect(host, port):
            wire = Wire(socket.AF_INET, socket.SOCK_STREAM)
            wire.connect((host, port))
            wires.append(wire)
            return wire

        sockets.connect_tcp = connect
    calls = []
    started = time.monotonic()
    for index in range(number):
        due = started + index / rate
        gevent.sleep(max(due - time.monotonic(), 0))
        calls.append(switch.call(destination="1000", caller="+15550100", variables=DIALPLAN, behaviour=Caller()))
    if mode == "hold":
        gevent.sleep(2.0)
        print(json.dumps({"up": sum(not call.hangup_cause for call in calls)}), flush=True)
        FileObject(sys.stdin.buffer, "rb").readline()
    else:
        for call in calls:
            call.join(LONGEST_CALL)
        used = resource.getrusage(resource.RUSAGE_SELF)
        times = sorted(second for wire in wires for second in reactions(wire.said))
        print(
            json.dumps(
                {
                    "ended": sum(bool(call.hangup_cause) for call in calls),
                    "answered": sum(call.answered for call in calls),
                    "reactions": len(times),
                    "p50": times[len(times) // 2] if times else None,
                    "p99": times[int(len(times) * 0.99)] if times else None,
                    "cpu": used.ru_utime + used.ru_stime,
                }
            ),
            flush=True,
        )
    switch.close()


if __name__ == "__main__":
    main()
