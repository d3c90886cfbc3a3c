"""Call time that passes only when somebody waits, and then at once."""

import heapq
import itertools


class FakeClock:
    """The contract of ``fsctl.clock.Clock``; waiting runs what is due in the meantime."""

    speed = 1.0

    def __init__(self, now=1_767_000_000.0):
        self._now = now
        self._timers = []
        self._order = itertools.count()

    def now(self):
        return self._now

    def monotonic(self):
        return self._now

    def real(self, seconds):
        return seconds

    def later(self, seconds, function, *args):
        timer = _Timer(function, args)
        heapq.heappush(self._timers, (self._now + seconds, next(self._order), timer))
        return timer

    def alarm(self, seconds, function, *args):
        return self.later(seconds, function, *args)

    def sleep(self, seconds):
        self.run(lambda: False, seconds)

    def run(self, until, seconds=None):
        """Let time pass until ``until()`` holds or ``seconds`` are over; whether it holds."""
        deadline = None if seconds is None else self._now + seconds
        while not until():
            while self._timers and self._timers[0][2].dead:
                heapq.heappop(self._timers)
            if not self._timers or (deadline is not None and self._timers[0][0] > deadline):
                if deadline is None:
                    raise AssertionError("this would wait for ever: nothing is going to happen any more")
                self._now = deadline
                return until()
            self._now, _, timer = heapq.heappop(self._timers)
            timer.dead = True
            timer.function(*timer.args)
        return True


class _Timer:
    def __init__(self, function, args):
        self.function, self.args, self.dead = function, args, False

    def kill(self, block=True):
        self.dead = True
