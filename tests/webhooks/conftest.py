from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, replace
from threading import Condition

import pytest
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from fsctl.call.events import CallInfo

CALL = CallInfo(
    call_id="6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11",
    node_id="0a1b2c3d-0000-4000-8000-000000000001",
    segment_id="6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d12",
    direction="inbound",
    type="phone",
    from_="+15550001111",
    to="+15550002222",
    from_number="+15550001111",
    to_number="+15550002222",
    project_id="11111111-2222-4333-8444-555555555555",
    space_id="99999999-8888-4777-8666-555555555555",
    session_id="7d3d3f8e-1111-4222-8333-444444444444",
)


@pytest.fixture
def call():
    """A builder of calls: says only what differs from a plain inbound phone call."""
    return lambda **different: replace(CALL, **different)


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Receiver:
    """A customer's server on loopback: keeps what it gets, answers what it was told to, 204 otherwise.

    An answer is a status, a ``(status, headers)`` pair, or an Event: answer only once it is set.
    """

    def __init__(self):
        self.requests: list[Request] = []
        self.answers: deque = deque()
        self.always = 204
        self._arrived = Condition()
        self._server = WSGIServer(("127.0.0.1", 0), self._answer, log=None, error_log=None)
        self._server.start()

    def url(self, path="/hook", *, userinfo=""):
        return f"http://{userinfo}127.0.0.1:{self._server.server_port}{path}"

    def _answer(self, environ, start_response):
        self.requests.append(
            Request(
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"] + (f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""),
                {
                    name.removeprefix("HTTP_").replace("_", "-").lower(): value
                    for name, value in environ.items()
                    if name.startswith("HTTP_") or name == "CONTENT_TYPE"
                },
                environ["wsgi.input"].read(),
            )
        )
        with self._arrived:
            self._arrived.notify_all()
        answer = self.answers.popleft() if self.answers else self.always
        if isinstance(answer, Event):
            answer.wait()
            answer = 204
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        start_response(f"{status} Answered", list(headers.items()))
        return []

    def wait_for(self, count, seconds=10):
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, seconds), self.requests
        return self.requests

    def stop(self):
        self._server.stop(timeout=0)


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture
def other_receiver():
    made = Receiver()
    yield made
    made.stop()
