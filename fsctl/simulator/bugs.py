"""Media bugs: what can be attached to a channel's audio and outlives the application that attached it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gevent

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel

__all__ = ["Bug", "Displace"]


class Bug:
    """One attached media bug; ``function`` and ``target`` are what MEDIA_BUG events call it.

    ``hangs`` is a bug whose clean-up at hangup does not come back.
    """

    def __init__(self, channel: Channel, function: str, target: str = "N/A") -> None:
        self.channel = channel
        self.function = function
        self.target = target
        self.hangs = False

    def hang_up(self) -> None:
        """The channel reached CS_HANGUP: finish what has to be finished before bugs are removed."""

    def drop(self) -> None:
        """The switch is closed: let go of everything that runs, without a word."""


class Displace(Bug):
    """``uuid_displace``: plays ``seconds`` of a file over the audio, and goes by itself at the file's end.

    What it plays is heard by the party, or (``said``) by whoever hears the party. While nothing is sent to the one, or
    comes from the other, there is nothing to play it over: it waits, here for ever.
    """

    def __init__(
        self, channel: Channel, target: str, seconds: float, *, said: bool = False, silent: bool = False
    ) -> None:
        super().__init__(channel, "displace", target)
        self._sounding = channel.mixed_in if said else channel.heard
        self._since = 0.0
        self._timer = None
        if not (channel.behaviour.sends_rtp if said else channel.sends):
            return
        if not silent:
            self._since = channel.clock.now()
            self._sounding.append((self._since, math.inf))
        if not math.isinf(seconds):
            self._timer = channel.clock.later(seconds, self.stop)

    def stop(self) -> None:
        """End it; MEDIA_BUG_STOP tells."""
        self.hang_up()
        self.channel.detach(self)

    def hang_up(self) -> None:
        """Stop the timer that would remove it at the file's end."""
        self.drop()
        if self._since:
            self._sounding[self._sounding.index((self._since, math.inf))] = (self._since, self.channel.clock.now())
            self._since = 0.0

    def drop(self) -> None:
        """Stop the timer."""
        if self._timer is not None and self._timer is not gevent.getcurrent():
            self._timer.kill(block=False)
