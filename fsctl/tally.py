"""Numbers that grow, kept plainly: everything that counts runs in one thread, so no update needs a lock.

``metrics.py`` shows them to Prometheus when it asks. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

__all__ = ["Spread", "Tally", "Traffic"]


class Tally:
    """A number that only grows: who counts adds to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Spread:
    """How many observations fell below each of ``bounds``, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Take one in."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The counts up to each bound, as Prometheus wants them."""
        names = [str(float(bound)) for bound in self.bounds] + ["+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Traffic:
    """What goes over the event sockets. ``reactions`` are seconds from a fact to the next command on the wire."""

    __slots__ = ("broken", "commands", "connections", "live", "reactions", "refused")

    def __init__(self) -> None:
        self.connections = 0
        self.live = 0
        self.commands = 0
        self.refused = 0
        self.broken = 0
        self.reactions = Spread((0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5))
