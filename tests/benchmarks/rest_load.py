"""REST commands as a load: ``python -m tests.benchmarks.rest_load SOCKET_PORT HTTP_PORT COMMANDS RATE CONNECTIONS``.

The simulated FreeSWITCH and the REST client in one process, so that one clock sees a request leave and its command
arrive on the event socket. ``RATE`` is commands a second, 0 for as fast as the ``CONNECTIONS`` are answered. Prints one
JSON line. Bounded in number and time.
"""

from gevent import monkey

monkey.patch_all()

import base64  # noqa: E402 - after the patching
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from collections import defaultdict, deque  # noqa: E402

import gevent  # noqa: E402
from gevent import socket  # noqa: E402

from fsctl.clock import Clock  # noqa: E402
from fsctl.simulator import Caller, Switch  # noqa: E402
from tests.benchmarks.load import DIALPLAN  # noqa: E402

CALLS = 20
PROJECT = "11111111-2222-4333-8444-555555555555"
TOKEN = "a-token-for-the-benchmark"
LONGEST = 60.0
MARK = b"uuid_displace "


def request(call_id):
    """A play of a short tone: the shortest way from HTTP to a command on the event socket."""
    item = {"type": "ringtone", "params": {"name": "us", "duration": 0.05}}
    body = json.dumps({"command": "calling.play", "params": {"play": [item]}, "id": call_id}).encode()
    credentials = base64.b64encode(f"{PROJECT}:{TOKEN}".encode()).decode()
    head = (
        "POST /api/calling/calls HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {credentials}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client:
    """One connection that is kept."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._got = b""

    def ask(self, data):
        self._socket.sendall(data)
        while b"\r\n\r\n" not in self._got:
            self._read()
        head, _, rest = self._got.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(rest) < length:
            self._read()
            rest = self._got.partition(b"\r\n\r\n")[2]
        self._got = rest[length:]
        return int(head.split(b" ", 2)[1])

    def _read(self):
        data = self._socket.recv(65536)
        if not data:
            raise RuntimeError("fsctl closed the connection")
        self._got += data


def until(holds, seconds=5.0):
    """Wait for it, not for ever: what is missing then shows in the figures."""
    with gevent.Timeout(seconds, False):
        while not holds():
            gevent.sleep(0.01)


def main():
    socket_port, http_port, number, rate, connections = (
        int(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
        int(sys.argv[5]),
    )
    sent = defaultdict(deque)
    arrived = []

    def overhears(said):
        at = said.data.find(MARK)
        if said.who == "application" and at >= 0 and b" start " in said.data:
            uuid = said.data[at + len(MARK) :].split(b" ", 1)[0].decode()
            if sent[uuid]:
                arrived.append(time.monotonic() - sent[uuid].popleft())

    switch = Switch(
        ("127.0.0.1", socket_port), clock=Clock(), tick=0.2, writes_files=False, overhears=overhears if rate else None,
        keeps_transcript=bool(rate),
    )  # fmt: skip
    calls = [switch.call(variables=DIALPLAN, behaviour=Caller()) for _ in range(CALLS)]
    until(lambda: all(call.answered for call in calls))
    uuids = [call.uuid for call in calls if call.answered]
    if len(uuids) != CALLS:
        raise RuntimeError(f"only {len(uuids)} of {CALLS} calls were answered")
    requests = {uuid: request(uuid) for uuid in uuids}
    clients = [Client(http_port) for _ in range(connections)]
    statuses = defaultdict(int)
    answers = []
    todo = deque(range(number))
    began = time.monotonic()

    def work(client):
        while todo:
            index = todo.popleft()
            if rate:
                gevent.sleep(max(began + index / rate - time.monotonic(), 0))
            uuid = uuids[index % CALLS]
            at = time.monotonic()
            sent[uuid].append(at)
            statuses[client.ask(requests[uuid])] += 1
            answers.append(time.monotonic() - at)

    gevent.joinall([gevent.spawn(work, client) for client in clients], timeout=LONGEST, raise_error=True)
    took = time.monotonic() - began
    if rate:
        until(lambda: len(arrived) == number)
    for times in (arrived, answers):
        times.sort()
    print(
        json.dumps(
            {
                "accepted": statuses[200],
                "others": {status: count for status, count in statuses.items() if status != 200},
                "per_second": len(answers) / took,
                "answer_p99": answers[int(len(answers) * 0.99)],
                "arrived": len(arrived),
                "p50": arrived[len(arrived) // 2] if arrived else None,
                "p99": arrived[int(len(arrived) * 0.99)] if arrived else None,
            }
        ),
        flush=True,
    )
    switch.close()


if __name__ == "__main__":
    main()
