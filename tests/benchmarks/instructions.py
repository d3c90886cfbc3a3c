"""``make bench-instructions``: how many instructions of the processor a call costs the controller, under valgrind.

Unlike times these are the same on a busy machine and on a quiet one, at any rate of calls, so they tell whether a
change made something cheaper. They say nothing of the kernel's work, nor of how cold the caches are when a step of a
call comes. fsctl beside the bare greenswitch script, each the difference between a long run and a short one, so that
starting up does not count. Takes two minutes; without valgrind it says so.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.__main__ import CALL, HERE, Process, fsctl, greenswitch, run, say

RATE = 10.0  # valgrind is slow
FEW, MANY = 50, 250
ENDING_SECONDS = 60


def counted(directory, calls, start):
    """The instructions of a process's whole life, with so many calls in it."""
    notes = directory / f"instructions-{calls}"
    under = ("valgrind", "--quiet", "--tool=cachegrind", "--cache-sim=no", f"--cachegrind-out-file={notes}")
    process, port, *_ = start((*under, f"--log-file={directory / 'valgrind.log'}"))
    run(port, calls, RATE)
    process.stop(ENDING_SECONDS)
    return int(re.search(r"^summary: (\d+)", notes.read_text(encoding="ascii"), re.MULTILINE)[1])


def main():
    if shutil.which("valgrind") is None:
        say("skipped: there is no valgrind here (on Debian: apt install valgrind)")
        return 0
    receiver = Process(f"{HERE}.receiver", core=1)
    hook = receiver.line()
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ends = {
            "greenswitch": greenswitch,
            "fsctl": lambda under: fsctl(directory, CALL.format(hook=hook), hook, under),
        }
        for end, start in ends.items():
            few, many = (counted(directory, calls, start) for calls in (FEW, MANY))
            figures[f"instructions_{end}"] = round((many - few) / (MANY - FEW))
            say(f"  {end}: {figures[f'instructions_{end}'] / 1e6:.2f} million instructions a call")
    receiver.stop()
    figures["instructions_ratio"] = round(figures["instructions_fsctl"] / figures["instructions_greenswitch"], 2)
    say(f"  fsctl / greenswitch: {figures['instructions_ratio']}")
    print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
