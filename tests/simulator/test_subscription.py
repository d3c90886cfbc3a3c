from __future__ import annotations

import pytest

from fsctl.clock import Clock
from fsctl.simulator.events import Core, Event
from fsctl.simulator.identity import ChannelData
from fsctl.simulator.subscription import Filter, Subscription

CORE = Core(Clock(), "core", "sim", "127.0.0.1")


def event(name="CHANNEL_ANSWER", subclass="", uuid="AB-1", **headers):
    data = ChannelData(uuid, caller="+1555", destination="7", context="c", host="h", created=1.0) if uuid else None
    return Event(name, CORE.stamp(), channel=data, subclass=subclass, before=list(headers.items()))


def wanted(one, *filters, names="ALL"):
    subscription = Subscription()
    subscription.add(names.split())
    subscription.filters = [Filter.parse(*one.split(" ", 1)) for one in filters]
    return subscription.wants(one)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ([], True),
        (["Unique-ID AB-1"], True),
        (["unique-id ab-1"], True),
        (["Unique-ID AB-2"], False),
        (["Unique-ID AB-2", "Answer-State ringing"], True),
        (["Unique-ID -AB-2"], False),
        (["Unique-ID AB-1", "Answer-State -ringing"], False),
        (["Unique-ID AB-1", "Answer-State -answered"], True),
        (["Caller-Caller-ID-Number +1555"], False),
        ([r"Caller-Caller-ID-Number /^\+1555$/"], True),
        (["Unique-ID /^AB/"], True),
        (["No-Such-Header /.*/"], False),
    ],
)
def test_filters(filters, passes):
    assert wanted(event(), *filters) is passes


@pytest.mark.parametrize(
    ("words", "name", "subclass", "passes"),
    [
        ("DTMF", "DTMF", "", True),
        ("dtmf", "DTMF", "", True),
        ("DTMF", "CHANNEL_HANGUP", "", False),
        ("DTMF CUSTOM a::b c::d", "CUSTOM", "c::d", True),
        ("DTMF CUSTOM a::b", "CUSTOM", "a::c", False),
        ("CUSTOM a::b DTMF", "DTMF", "", False),
        ("ALL", "CHANNEL_STATE", "", True),
    ],
)
def test_names_and_subclasses(words, name, subclass, passes):
    assert wanted(event(name, subclass), names=words) is passes


def test_no_word_is_no_subscription():
    assert Subscription().add([]) is False


def test_removing():
    subscription = Subscription()
    subscription.add(["DTMF", "CHANNEL_STATE", "CUSTOM", "a::b"])
    subscription.remove(["CHANNEL_STATE", "CUSTOM", "a::b"])
    assert subscription.wants(event("DTMF"))
    assert not subscription.wants(event("CHANNEL_STATE"))
    assert not subscription.wants(event("CUSTOM", "a::b"))


def test_the_pin_takes_the_sessions_own_events_and_its_jobs():
    subscription = Subscription()
    subscription.add(["ALL"])
    subscription.pin = "AB-1"
    assert subscription.wants(event())
    assert subscription.wants(event("BACKGROUND_JOB", uuid="", **{"Job-Owner-UUID": "AB-1"}))
    assert not subscription.wants(event(uuid="AB-2"))


def test_whom_events_must_belong_to():
    subscription = Subscription()
    assert subscription.owners() is None
    subscription.filters = [Filter("Unique-ID", "AB-1"), Filter("Job-Owner-UUID", "ab-2"), Filter("X", "y", False)]
    assert subscription.owners() == {"ab-1", "ab-2"}
    subscription.filters.append(Filter("Conference-Name", "room"))
    assert subscription.owners() is None
