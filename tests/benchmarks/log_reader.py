"""Somebody who reads the log of calls all the time: ``python -m tests.benchmarks.log_reader HTTP_PORT``.

Prints a line when it has begun; a line of input is answered with how often it has read, and ends it.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patching
import sys  # noqa: E402

import gevent  # noqa: E402
import requests  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from tests.benchmarks.rest_load import PROJECT, TOKEN  # noqa: E402

PAUSE = 0.05
LONGEST = 120.0


def main():
    url = f"http://127.0.0.1:{sys.argv[1]}/api/voice/logs"
    reads = 0

    def read():
        nonlocal reads
        with requests.Session() as session:
            session.auth = (PROJECT, TOKEN)
            while True:
                answer = session.get(url, params={"page_size": 100}, timeout=10)
                answer.raise_for_status()
                for log in answer.json()["data"][:3]:
                    session.get(f"{url}/{log['id']}/events", timeout=10).raise_for_status()
                reads += 1
                gevent.sleep(PAUSE)

    reader = gevent.spawn(read)
    print(json.dumps({}), flush=True)
    with gevent.Timeout(LONGEST, False):
        FileObject(sys.stdin.buffer, "rb").readline()
    if reader.dead:
        reader.get()
    print(reads, flush=True)


if __name__ == "__main__":
    main()
