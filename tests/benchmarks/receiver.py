"""A customer's webhook server that answers at once: ``python -m tests.benchmarks.receiver`` prints its port."""

import socket
import sys

import gevent
from gevent.server import StreamServer

ANSWER = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


class Receiver:
    """Counts requests; reads no more of them than their length."""

    def __init__(self):
        self.received = 0

    def handle(self, sock, _address):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = sock.recv(65536)
                if not data:
                    return
                buffer += data
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
            while len(buffer) < length:
                buffer += sock.recv(65536)
            buffer = buffer[length:]
            self.received += 1
            sock.sendall(ANSWER)


def main():
    receiver = Receiver()
    server = StreamServer(("127.0.0.1", 0), receiver.handle, backlog=1024)
    server.start()
    print(server.server_port, flush=True)
    from gevent.fileobject import FileObject

    commands = FileObject(sys.stdin.buffer, "rb")
    while commands.readline():
        print(receiver.received, flush=True)
    gevent.sleep(0)


if __name__ == "__main__":
    main()
