"""What fsctl is compared with: the same call, written straight down on greenswitch, doing nothing else.

``python -m tests.benchmarks.greenswitch_script PORT`` listens, prints ``listening``, and on a line of input prints the
CPU seconds it has used so far.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - after the patching
import logging  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402
from greenswitch import OutboundESLServer  # noqa: E402


class Call:
    """Answer, start recording, play, stop recording, hang up."""

    def __init__(self, session):
        self.session = session

    def run(self):
        session = self.session
        session.connect()
        session.linger(5)
        session.myevents()
        uuid = session.uuid
        self.answer()
        session.send(f"api uuid_record {uuid} start /tmp/greenswitch-{uuid}.wav")
        session.playback(sys.argv[2])
        session.send(f"api uuid_record {uuid} stop /tmp/greenswitch-{uuid}.wav")
        session.hangup()

    def answer(self):
        self.session.call_command("answer", block=True)


def usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main():
    logging.disable(logging.CRITICAL)
    server = OutboundESLServer(
        bind_address="127.0.0.1", bind_port=int(sys.argv[1]), application=Call, max_connections=5000
    )
    gevent.spawn(server.listen)
    commands = FileObject(sys.stdin.buffer, "rb")
    print("listening", flush=True)
    while commands.readline():
        print(json.dumps({"cpu": usage()}), flush=True)


if __name__ == "__main__":
    main()
