"""The simulated FreeSWITCH as a load: ``python -m tests.benchmarks.load TARGET_PORT CALLS RATE MODE``.

``MODE`` ``run`` lets every call run to its end and prints how fast the application reacted; ``hold`` keeps the calls up
until a line of input comes. One JSON line each. Bounded in number and time.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402 - after the patching
import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from fsctl.clock import Clock  # noqa: E402
from fsctl.simulator import Caller, Switch  # noqa: E402
from fsctl.simulator.connectors import Scripted  # noqa: E402

LONGEST_CALL = 60.0
FACTS = (b'"CHANNEL_EXECUTE_COMPLETE"', b'"RECORD_STOP"')
# What the extension we ship sets before it hands the call over.
DIALPLAN = {"socket_resume": "true", "playback_terminators": "none", "send_silence_when_idle": "-1"}


def reactions(call):
    """Seconds from each fact the script waited for to the next command."""
    found = []
    waiting = None
    for said in call.transcript:
        if said.who == "freeswitch":
            if said.data.startswith(b"Content-Type: api/response") or any(fact in said.data[:120] for fact in FACTS):
                waiting = said.at
        elif waiting is not None:
            if not said.data.startswith(b"exit"):
                found.append(said.at - waiting)
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
        keeps_transcript=mode == "run" and rate <= 100,
    )
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
        times = sorted(second for call in calls for second in reactions(call))
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
