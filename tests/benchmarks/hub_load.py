"""The other sides of the hub, for measuring: modules that send, endpoints that receive. No gevent, no fsctl.

``python -m tests.benchmarks.hub_load source|sink FILE CPU`` talks JSON lines over its standard streams; FILE is shared
memory where the source writes when each frame was sent, so that the sink knows how long it took.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import select
import socket
import struct
import sys
import time
from array import array
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

HEADER = struct.Struct("!H")
GRAIN = 0.0005
"""Seconds the source sleeps at least, and the sink between two looks: or they would spend their core on waking up."""


def say(**facts):
    print(json.dumps(facts), flush=True)


def order():
    return json.loads(sys.stdin.readline())


def shared(path, count):
    with Path(path).open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), count * 8)).cast("d")


# -- modules -----------------------------------------------------------------------------------------------------


def module(url):
    uri = parse_uri(url)
    sock = socket.create_connection((uri.host, uri.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    protocol = ClientProtocol(uri)
    protocol.send_request(protocol.connect())
    sock.sendall(b"".join(protocol.data_to_send()))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    if b" 101 " not in answer:
        raise SystemExit(f"refused: {answer[:80]!r}")
    return sock


def frame(size, seed):
    """A masked binary message of speech-like noise."""
    mask = os.urandom(4)
    audio = random.Random(seed).randbytes(size)
    return b"\x82\xfe" + HEADER.pack(size) + mask + audio


def source(path):
    setup = order()
    period, frames, urls = setup["frame_ms"] / 1000, setup["frames"], setup["urls"]
    times = shared(path, len(urls) * frames)
    sockets = [module(url) for url in urls]
    message = frame(setup["frame_ms"] * 32, 1)
    chance = random.Random(7)
    phases = sorted(0.0 if setup["lockstep"] else chance.uniform(0, period) for _ in urls)
    say(connected=len(sockets))
    order()
    spent = time.process_time()
    begin = time.monotonic() + 0.1
    clock, sleep = time.monotonic, time.sleep
    late = 0.0
    for number in range(frames):
        base = begin + number * period
        for index, sock in enumerate(sockets):
            due = base + phases[index]
            now = clock()
            if now < due:
                sleep(max(due - now, GRAIN))
                now = clock()
            late = max(late, now - due)
            times[index * frames + number] = now
            sock.send(message)
    say(sent=frames * len(urls), cpu=time.process_time() - spent, latest=late)
    sys.stdin.readline()


# -- endpoints ---------------------------------------------------------------------------------------------------


class Endpoint:
    """Counts whole messages without reading them, but for the chunk number of the last one."""

    def __init__(self, sock):
        self.sock = sock
        self.held = b""
        self.messages = 0
        self.last = b""
        self.open = False


def sink(path):
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    say(port=listener.getsockname()[1])
    setup = order()
    count, frames = setup["streams"], setup["frames"]
    endpoints, poll, numbers = {}, select.epoll(), {}
    listener.setblocking(False)
    poll.register(listener.fileno(), select.EPOLLIN)
    while len(numbers) < count:
        for handle, _ in poll.poll(10):
            if handle == listener.fileno():
                sock = listener.accept()[0]
                endpoints[sock.fileno()] = Endpoint(sock)
                poll.register(sock.fileno(), select.EPOLLIN)
            else:
                greet(endpoints[handle], numbers)
    say(streaming=count)
    times = shared(path, count * frames)
    delays = array("d")
    stamps = array("d")
    clock = time.monotonic
    due = count * frames
    quiet = clock() + 30
    spent = time.process_time()
    while len(delays) < due and clock() < quiet:
        time.sleep(GRAIN)
        for handle, _ in poll.poll(1, 4096):
            endpoint = endpoints[handle]
            data = endpoint.sock.recv(65_536)
            now = clock()
            quiet = now + 3
            if endpoint.held:
                data = endpoint.held + data
            at, end = 0, len(data)
            base = numbers[handle] * frames - 2  # connected and start were first
            while end - at >= 4:
                length = data[at + 1] & 0x7F
                begin = at + 6
                if length == 126:
                    length = HEADER.unpack_from(data, at + 2)[0]
                    begin = at + 8
                if begin + length > end:
                    break
                if data[at] == 0x81:
                    if endpoint.messages >= 2:
                        delays.append(now - times[base + endpoint.messages])
                        stamps.append(now)
                    endpoint.messages += 1
                    endpoint.last = data[at : begin + length]
                at = begin + length
            endpoint.held = data[at:]
    spent = time.process_time() - spent
    gaps = sum(last_chunk(endpoint) != endpoint.messages - 2 for endpoint in endpoints.values())
    say(**report(delays, stamps), received=len(delays), due=due, gaps=gaps, cpu=spent)
    sys.stdin.readline()


def greet(endpoint, numbers):
    """Accept a stream; its path holds its number."""
    if endpoint.open:
        return
    endpoint.held += endpoint.sock.recv(4096)
    if b"\r\n\r\n" not in endpoint.held:
        return
    head, _, rest = endpoint.held.partition(b"\r\n\r\n")
    protocol = ServerProtocol()
    protocol.receive_data(head + b"\r\n\r\n")
    (request,) = protocol.events_received()
    protocol.send_response(protocol.accept(request))
    endpoint.sock.sendall(b"".join(protocol.data_to_send()))
    endpoint.held, endpoint.open = rest, True
    numbers[endpoint.sock.fileno()] = int(request.path.rpartition("/")[2])


def last_chunk(endpoint):
    data = endpoint.last
    if not data:
        return 0
    begin = 8 if data[1] & 0x7F == 126 else 6
    mask = data[begin - 4 : begin]
    text = bytes(byte ^ mask[place & 3] for place, byte in enumerate(data[begin:]))
    message = json.loads(text)
    assert message["event"] == "media", message
    return int(message["media"]["chunk"])


def report(delays, stamps):
    """Raw percentiles, and the median of those of each quarter of a second: what a stall of the machine cannot tilt."""
    if not delays:
        return {"p50": None, "p99": None, "raw_p99": None, "worst": None}
    begin = stamps[0] + 0.5
    windows = {}
    for delay, stamp in zip(delays, stamps, strict=True):
        if stamp >= begin:
            windows.setdefault(int((stamp - begin) * 4), []).append(delay)
    of_windows = sorted(percentile(sorted(window), 99) for window in windows.values())
    every = sorted(delays)
    return {
        "p50": round(percentile(every, 50) * 1000, 2),
        "p99": round(percentile(of_windows, 50) * 1000, 2),
        "raw_p99": round(percentile(every, 99) * 1000, 2),
        "worst": round(every[-1] * 1000, 1),
        "windows": len(of_windows),
    }


def percentile(ordered, percent):
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[3])})
    {"source": source, "sink": sink}[sys.argv[1]](sys.argv[2])
