"""A web server on loopback that answers as it is told and keeps what it was asked."""

from __future__ import annotations

from contextlib import contextmanager
from ipaddress import ip_network

from gevent.server import StreamServer

from fsctl.web import Policy

LOOPBACK = Policy(allow_private=(ip_network("127.0.0.0/8"),))


class Server:
    """Answers each request with what ``answer(request, number)`` gives: bytes, or a function of the connection.

    A connection stays open until the answer is None or closes it. ``requests`` holds (head, body) in order.
    """

    def __init__(self, answer, **options):
        self.answer = answer
        self.requests = []
        self.connections = 0
        self._server = StreamServer(("127.0.0.1", 0), self._serve, **options)
        self._server.start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def _serve(self, connection, _address):
        self.connections += 1
        received = b""
        try:
            while True:
                while b"\r\n\r\n" not in received:
                    data = connection.recv(65536)
                    if not data:
                        return
                    received += data
                head, _, rest = received.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
                length = int(headers.get("Content-Length", 0))
                while len(rest) < length:
                    rest += connection.recv(65536)
                body, received = rest[:length], rest[length:]
                self.requests.append((lines[0], headers, body))
                answer = self.answer
                if callable(answer):
                    answer = answer(self.requests[-1], len(self.requests))
                if callable(answer):
                    answer = answer(connection)
                if answer is None:
                    return
                connection.sendall(answer)
        except OSError:
            return
        finally:
            connection.close()

    def close(self):
        self._server.stop(timeout=0)


def reply(body=b"", status=200, **headers):
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@contextmanager
def servers():
    """A function that starts servers, all of which are closed in the end."""
    started = []

    def serve(answer, **options):
        started.append(Server(answer, **options))
        return started[-1]

    try:
        yield serve
    finally:
        for server in started:
            server.close()
