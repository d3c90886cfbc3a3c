"""A customer's WebSocket server on loopback."""

import json
from base64 import b64decode

import gevent
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

from tests.live.phone import linear


class Endpoint:
    """Keeps what each connection said: ``texts``, ``audio``, the ``requests`` (headers), and how it was ``closed``.

    ``refuse`` is an HTTP status to answer with instead of taking the connection.
    """

    def __init__(self, *, refuse=0):
        self.requests = []
        self.texts = []
        self.audio = []
        self.connections = []
        self.closed = []
        self._refuse = refuse
        self._server = serve(self._talk, "127.0.0.1", 0, process_request=self._asked, compression=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/audio"
        self._greenlet = gevent.spawn(self._server.serve_forever)

    def samples(self):
        """All the audio so far, as bytes."""
        return b"".join(self.audio)

    def said(self, event):
        """The messages of that name, in the language's protocol."""
        return [message for message in map(json.loads, self.texts) if message["event"] == event]

    def track(self, name):
        """The G.711 audio of a track so far, as samples."""
        frames = (message["media"] for message in self.said("media"))
        return linear(b"".join(b64decode(media["payload"]) for media in frames if media["track"] == name))

    def close(self):
        for connection in self.connections:
            connection.close()
        self._server.shutdown()
        self._greenlet.join(2.0)

    def _asked(self, connection, request):
        self.requests.append(request)
        gevent.sleep(0.05)  # as far away as a server is: the module forgets its first message when one answers at once
        return connection.respond(self._refuse, "no\n") if self._refuse else None

    def _talk(self, connection):
        self.connections.append(connection)
        try:
            for message in connection:
                (self.texts if isinstance(message, str) else self.audio).append(message)
        except ConnectionClosed:
            pass
        self.closed.append(connection.protocol.close_code)
