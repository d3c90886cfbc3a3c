"""Time as fsctl's calls see it, so that the simulator can let it run faster than the wall clock.

Everything that waits for call time (``sleep``, recording timeouts, the longest call) asks the clock.
Network deadlines do not: a web server is not made faster by simulating a call.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Alarm", "Clock"]


class Alarm:
    """A call that is due; ``kill`` takes it back."""

    __slots__ = ("_timer",)

    def __init__(self, seconds: float, function: Callable[..., object], args: tuple[object, ...]) -> None:
        self._timer = gevent.get_hub().loop.timer(seconds)
        self._timer.start(function, *args)

    def kill(self) -> None:
        """Take it back; does nothing once it went off."""
        self._timer.stop()
        self._timer.close()


class Clock:
    """Call time: ``speed`` call seconds pass in each second of the wall clock."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed = speed
        self._origin = time.time()
        self._started = time.monotonic()
        self.now: Callable[[], float] = time.time if speed == 1.0 else self._now
        """The Unix time of the call, in seconds. Asked two dozen times a call."""

    def _now(self) -> float:
        return self._origin + self.monotonic()

    def monotonic(self) -> float:
        """Call seconds since an arbitrary point; never goes back."""
        return (time.monotonic() - self._started) * self.speed

    def real(self, seconds: float | None) -> float | None:
        """The wall-clock seconds that ``seconds`` of call time take; None stays None."""
        return None if seconds is None else seconds / self.speed

    def sleep(self, seconds: float) -> None:
        """Let ``seconds`` of call time pass in this greenlet."""
        gevent.sleep(seconds / self.speed)

    def alarm(self, seconds: float, function: Callable[..., object], *args: object) -> Alarm:
        """Call ``function(*args)`` after ``seconds`` of call time, in the event loop: it must not wait for anything."""
        return Alarm(seconds / self.speed, function, args)

    def later(self, seconds: float, function: object, *args: object) -> gevent.Greenlet:
        """Run ``function(*args)`` in a greenlet after ``seconds`` of call time; ``kill()`` takes it back."""
        return gevent.spawn_later(seconds / self.speed, function, *args)
