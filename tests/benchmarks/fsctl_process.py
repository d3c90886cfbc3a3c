"""fsctl as it is in service, for measuring: documents from files, webhooks and metrics on.

``python -m tests.benchmarks.fsctl_process CONFIG`` prints its address; each line of input is answered with the CPU
seconds used and the memory resident so far.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402 - after the patching
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from gevent.fileobject import FileObject  # noqa: E402

from fsctl import log  # noqa: E402
from fsctl.config import load  # noqa: E402
from fsctl.server import Server, settle  # noqa: E402


def usage(server):
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return {
        "cpu": used.ru_utime + used.ru_stime,
        "resident": pages * os.sysconf("SC_PAGE_SIZE"),
        "calls": len(server.calls),
        "reactions": server.traffic.reactions.buckets(),
    }


def main():
    config = load(Path(sys.argv[1]))
    log.setup("warning", "json", stream=sys.stderr)
    server = Server(config)
    server.start()
    settle()
    commands = FileObject(sys.stdin.buffer, "rb")
    print(json.dumps({"address": server.listener.address, "http": server.http.address}), flush=True)
    while commands.readline():
        gc.collect()
        print(json.dumps(usage(server)), flush=True)
    server.stop()


if __name__ == "__main__":
    main()
