"""Media bugs: what can be attached to a channel's audio and outlives the application that attached it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    """``uuid_displace``: plays a file over or instead of the audio, and goes by itself at the file's end."""

    def __init__(self, channel: Channel, target: str, seconds: float) -> None:
        super().__init__(channel, "displace", target)
        self._timer = channel.clock.later(seconds, channel.detach, self) if seconds != float("inf") else None

    def hang_up(self) -> None:
        """Stop the timer that would remove it at the file's end."""
        self.drop()

    def drop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.kill(block=False)
