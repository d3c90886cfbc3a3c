"""The live calls, by id: what metrics count, what REST looks for, what a drain waits for. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsctl.call.call import Call

__all__ = ["Calls"]

_REMEMBERED = 10_000  # calls that ended, so that a command that comes too late is told so


class Calls:
    """Who is on the line now."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._past: OrderedDict[str, None] = OrderedDict()  # the ids of those that ended last

    def add(self, call: Call) -> None:
        """Keep a call while it lives."""
        self._calls[call.info.call_id] = call

    def remove(self, call: Call) -> None:
        """Forget a call that ended; one that came back under the same id in the meantime stays."""
        call_id = call.info.call_id
        if self._calls.get(call_id) is call:
            del self._calls[call_id]
            self._past[call_id] = None
            if len(self._past) > _REMEMBERED:
                self._past.popitem(last=False)

    def knew(self, call_id: str) -> bool:
        """Whether a call with that id ended here not long ago."""
        return call_id in self._past

    def get(self, call_id: str) -> Call | None:
        """The live call with that id."""
        return self._calls.get(call_id)

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls.values()))

    def counts(self) -> Mapping[str, int]:
        """Live calls, and live controls of each kind."""
        counts = {"calls": len(self._calls)}
        for call in self._calls.values():
            for kind, number in call.controls.counts().items():
                counts[kind] = counts.get(kind, 0) + number
        return counts
