"""Which events a listener gets: names, CUSTOM subclasses, the pin of ``myevents``, and filters. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsctl.simulator.events import Event

__all__ = ["MY_EVENTS", "Filter", "Subscription"]

MY_EVENTS = frozenset(
    [
        "CHANNEL_ANSWER",
        "CHANNEL_APPLICATION",
        "CHANNEL_BRIDGE",
        "CHANNEL_CREATE",
        "CHANNEL_DATA",
        "CHANNEL_DESTROY",
        "CHANNEL_EXECUTE",
        "CHANNEL_EXECUTE_COMPLETE",
        "CHANNEL_HANGUP",
        "CHANNEL_HANGUP_COMPLETE",
        "CHANNEL_ORIGINATE",
        "CHANNEL_UUID",
        "CHANNEL_OUTGOING",
        "CHANNEL_PARK",
        "CHANNEL_PROGRESS",
        "CHANNEL_PROGRESS_MEDIA",
        "CHANNEL_STATE",
        "CHANNEL_UNBRIDGE",
        "CHANNEL_UNPARK",
        "DETECTED_SPEECH",
        "DTMF",
        "NOTALK",
        "TALK",
    ]
)
"""What ``myevents`` subscribes to: no playback, recording, media bug, job or CUSTOM events."""

_OWNERS = frozenset({"unique-id", "channel-call-uuid", "job-owner-uuid"})


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter: ``header`` has to match ``value`` (equality in any case, or ``/regex/``); negative ones exclude."""

    header: str
    value: str
    positive: bool = True

    @classmethod
    def parse(cls, header: str, value: str) -> Filter:
        """Read a filter's value: leading signs and spaces are taken off it, the last sign counts."""
        positive = True
        while value[:1] in {"+", "-", " "} and value:
            positive = positive if value[0] == " " else value[0] == "+"
            value = value[1:]
        return cls(header, value, positive)

    def matches(self, event: Event) -> bool:
        """Whether ``event`` has the header and its value is this one."""
        actual = event.header(self.header)
        if actual is None:
            return False
        if self.value.startswith("/"):
            pattern = self.value[1:].removesuffix("/")
            try:
                return re.search(pattern, actual) is not None
            except re.error:
                return False
        return actual.lower() == self.value.lower()


class Subscription:
    """Everything one listener asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.subclasses: set[str] = set()
        self.all = False
        self.pin = ""
        self.filters: list[Filter] = []

    def add(self, words: Iterable[str]) -> bool:
        """Subscribe to ``words``; every one after ``CUSTOM`` is a subclass. False when there was no word."""
        custom = False
        given = False
        for word in words:
            given = True
            if custom:
                self.subclasses.add(word)
            elif word.upper() == "CUSTOM":
                custom = True
            elif word.upper() == "ALL":
                self.all = True
            else:
                self.names.add(word.upper())
        return given

    def remove(self, words: Iterable[str]) -> None:
        """Unsubscribe from ``words``, written as for :meth:`add`."""
        custom = False
        for word in words:
            if custom:
                self.subclasses.discard(word)
            elif word.upper() == "CUSTOM":
                custom = True
            elif word.upper() == "ALL":
                self.clear()
            else:
                self.names.discard(word.upper())

    def clear(self) -> None:
        """Unsubscribe from everything; filters stay."""
        self.names.clear()
        self.subclasses.clear()
        self.all = False

    def filter_out(self, header: str, value: str | None) -> None:
        """Delete the filters on ``header`` (``all``: every one), only those of ``value`` when that is given."""
        if header.lower() == "all":
            self.filters.clear()
            return
        gone = Filter.parse(header, value or "")
        self.filters[:] = [
            kept
            for kept in self.filters
            if kept.header.lower() != header.lower() or (value is not None and kept.value != gone.value)
        ]

    def wants(self, event: Event) -> bool:
        """Whether this listener gets ``event``: with any filter the default is no, a negative match wins."""
        if event.name == "CUSTOM":
            if event.subclass not in self.subclasses and not self.all:
                return False
        elif event.name not in self.names and not self.all:
            return False
        if self.pin and self.pin not in {event.header("Unique-ID"), event.header("Job-Owner-UUID")}:
            return False
        if not self.filters:
            return True
        if any(not one.positive and one.matches(event) for one in self.filters):
            return False
        return any(one.positive and one.matches(event) for one in self.filters)

    def owners(self) -> frozenset[str] | None:
        """The UUIDs (lower case) an event must belong to, one of them, to be wanted; None when any may be."""
        if self.pin:
            return frozenset({self.pin.lower()})
        positives = [one for one in self.filters if one.positive]
        if not positives or any(one.header.lower() not in _OWNERS or one.value[:1] == "/" for one in positives):
            return None
        return frozenset(one.value.lower() for one in positives)
