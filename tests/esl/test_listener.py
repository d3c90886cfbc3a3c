"""Accepting calls: how many at once, who runs them, and what one leaves to the next."""

from __future__ import annotations

import contextlib

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from fsctl import log as logs
from fsctl.esl.listener import Listener
from tests.stories.stage import wait_for


class House:
    """Takes every call, and keeps it until it is let go."""

    def __init__(self, max_calls=2):
        self.taken, self.refused = [], []
        self.lets_go = Event()
        self.fails = False
        self.callers = contextlib.ExitStack()
        self.listener = Listener(
            ("127.0.0.1", 0), take=self._take, refuse=self._refuse, max_calls=max_calls, backlog=16
        )
        self.listener.start()

    def _take(self, sock):
        self.taken.append((gevent.getcurrent(), dict(logs.bind())))
        logs.bind(call_id=f"call {len(self.taken)}")
        try:
            self.lets_go.wait()
            if self.fails:
                raise RuntimeError("a bug of ours")
        finally:
            sock.close()

    def _refuse(self, sock, reason):
        self.refused.append(reason)
        sock.close()

    def call(self):
        """Call, and wait until somebody has seen it."""
        before = len(self.taken) + len(self.refused)
        self.callers.enter_context(socket.create_connection(self.listener.address))
        assert wait_for(lambda: len(self.taken) + len(self.refused) > before, "the call to be seen")

    def run(self):
        """A call from its beginning to its end."""
        self.lets_go.set()
        self.call()
        assert wait_for(lambda: not self.listener.calls, "the call to end")
        self.lets_go.clear()


@pytest.fixture
def house():
    house = House()
    yield house
    house.lets_go.set()
    house.listener.stop()
    house.callers.close()


def test_the_next_call_has_the_greenlet_of_one_that_is_over_and_nothing_else_of_it(house):
    house.run()
    house.run()

    (first, bound), (second, bound_later) = house.taken
    assert second is first
    assert bound == bound_later == {}


def test_calls_at_the_same_time_have_each_their_own(house):
    house.call()
    house.call()

    assert len({greenlet for greenlet, _ in house.taken}) == 2
    assert house.listener.calls == 2


def test_one_more_than_allowed_is_refused_until_another_is_over(house):
    house.call()
    house.call()
    house.call()
    assert house.refused == ["capacity"]

    house.lets_go.set()
    assert house.listener.wait_empty(5.0)
    house.call()
    assert len(house.taken) == 3


def test_a_call_that_breaks_leaves_its_place(house, monkeypatch):
    monkeypatch.setattr(gevent.get_hub(), "exception_stream", None)
    house.fails = True
    house.run()
    house.fails = False
    house.run()

    assert len(house.taken) == 2
    assert house.listener.wait_empty(0.0)


def test_who_drains_takes_nobody_and_waits_for_the_others(house):
    house.call()
    house.listener.drain()
    house.call()

    assert house.refused == ["draining"]
    assert not house.listener.accepting
    assert not house.listener.wait_empty(0.01)
    house.lets_go.set()
    assert house.listener.wait_empty(5.0)


def test_stopping_ends_what_runs_and_what_rests(house):
    house.run()
    house.call()
    (resting, _), *_ = house.taken

    house.listener.stop()

    assert house.listener.calls == 0
    assert resting.dead
