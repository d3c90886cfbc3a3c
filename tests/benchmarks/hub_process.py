"""The hub as it is in service, for measuring: ``python -m tests.benchmarks.hub_process CPU [PROFILE]``."""

from gevent import monkey

monkey.patch_all()

import cProfile  # noqa: E402 - after the patching
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

from fsctl import log  # noqa: E402
from fsctl.streams.audio import parse_format  # noqa: E402
from fsctl.streams.endpoint import StreamSpec  # noqa: E402
from fsctl.streams.hub import Hub  # noqa: E402

_input = None


def say(**facts):
    print(json.dumps(facts), flush=True)


def order():
    return json.loads(_input.readline())


def dial(url, *, timeout):
    """Without the guard, which is asked once a stream and not once a message."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port), timeout)
    return SimpleNamespace(sock=sock, url=url, host=parts.hostname, authorization=None, shown=url)


@dataclass
class Usage:
    cpu: float
    resident: int

    @classmethod
    def now(cls):
        used = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return cls(used.ru_utime + used.ru_stime, pages * os.sysconf("SC_PAGE_SIZE"))


def main():
    global _input  # noqa: PLW0603 - one script
    os.sched_setaffinity(0, {int(sys.argv[1])})
    log.setup("error", "json", stream=sys.stderr)
    _input = FileObject(sys.stdin.buffer, "rb")
    setup = order()
    hub = Hub(dial)
    hub.start()
    gc.collect()
    before = Usage.now()
    attachments = [hub.open(f"call-{number}", 8000) for number in range(setup["streams"])]
    say(urls=[attachment.url for attachment in attachments])
    order()
    form = parse_format(setup["codec"], rate=8000, frame_ms=setup["frame_ms"])
    tracks = tuple(setup["tracks"])
    for number, attachment in enumerate(attachments):
        spec = StreamSpec(
            stream_id=f"3d0f9c1a-8a52-4a3e-9a58-1f2a44f0{number:04}",
            call_id=f"6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f{number:04}",
            account_id="11111111-2222-4333-8444-555555555555",
            url=f"ws://127.0.0.1:{setup['port']}/{number}",
            tracks=tracks,
            form=form,
        )
        attachment.add(spec, lambda *_: None)
        if number % 50 == 49:
            gevent.sleep(0.02)
    order()
    gc.collect()
    profile = cProfile.Profile() if len(sys.argv) > 2 else None
    begin = Usage.now()
    say(memory=(begin.resident - before.resident) // len(attachments))
    if profile is not None:
        profile.enable()
    order()
    if profile is not None:
        profile.disable()
        profile.dump_stats(sys.argv[2])
    end = Usage.now()
    say(cpu=end.cpu - begin.cpu, grown=(end.resident - before.resident) // len(attachments), **asdict(hub.counters))
    _input.readline()
    hub.stop()


if __name__ == "__main__":
    main()
