"""The contract every outbox keeps."""

from __future__ import annotations

import pytest

from fsctl.webhooks.outbox import Delivery, MemoryOutbox


@pytest.fixture(params=[MemoryOutbox], ids=["memory"])
def outbox(request):
    return request.param()


def delivery(name):
    return Delivery(name, "c1", "calling.call.play", "POST", "https://user:pw@a.example", "", b"{}", 1.0)


def test_what_is_put_is_pending_oldest_first(outbox):
    for name in ("one", "two", "three"):
        outbox.put(delivery(name))

    assert [kept.id for kept in outbox.pending()] == ["one", "two", "three"]


def test_what_arrived_or_was_given_up_is_pending_no_more(outbox):
    for name in ("one", "two", "three"):
        outbox.put(delivery(name))

    outbox.done("one")
    outbox.failed("three", "failed")
    outbox.done("never put")

    assert list(outbox.pending()) == [delivery("two")]


def test_a_delivery_shows_neither_url_nor_body():
    assert "pw" not in repr(delivery("one"))
    assert "{}" not in repr(delivery("one"))
