"""A simulated call as a test or a demonstration holds it: what it did, and what its caller may still do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsctl.simulator.channel import Channel, Executed
    from fsctl.simulator.recorder import Recording
    from fsctl.simulator.streamer import Stream

__all__ = ["Said", "SimulatedCall"]


@dataclass(frozen=True, slots=True)
class Said:
    """One message on the wire: call seconds since the call's start, ``freeswitch`` or ``application``, the bytes."""

    at: float
    who: str
    data: bytes

    @property
    def text(self) -> str:
        """The message as text."""
        return self.data.decode("utf-8", "replace")


class SimulatedCall:
    """One call. Everything it tells is live: read it while the call runs or after :meth:`join`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __repr__(self) -> str:
        return f"<SimulatedCall {self.uuid} {self.state} {self.hangup_cause}>"

    @property
    def uuid(self) -> str:
        """Its ``Unique-ID``."""
        return self._channel.uuid

    @property
    def state(self) -> str:
        """The channel's state, ``CS_EXECUTE`` for most of its life."""
        return self._channel.state

    @property
    def answered(self) -> bool:
        """Whether it was answered."""
        return self._channel.answered

    @property
    def hangup_cause(self) -> str:
        """Why it ended; empty while it goes on."""
        return self._channel.hangup_cause

    @property
    def refused_with(self) -> str:
        """The SIP status ``respond`` refused it with, as ``486 Busy Here``."""
        return self._channel.refused_with

    @property
    def resumed(self) -> bool:
        """Whether it went on in the dialplan because its socket closed and ``socket_resume`` was set."""
        return self._channel.resumed

    @property
    def stranded(self) -> bool:
        """Whether it is parked with nobody to end that: the application left before the park had begun."""
        return self._channel.stranded

    @property
    def lingered(self) -> float:
        """Call seconds the session thread was held after the call's last event."""
        return self._channel.lingered

    @property
    def transcript(self) -> Sequence[Said]:
        """What was said on its connections, when the switch keeps transcripts."""
        return self._channel.transcript

    @property
    def applications(self) -> Sequence[Executed]:
        """Every application it executed, in the order they started."""
        return self._channel.executed

    @property
    def apis(self) -> Sequence[str]:
        """Every ``api`` and ``bgapi`` line its connections asked for."""
        return self._channel.apis

    @property
    def expanded_apis(self) -> Sequence[str]:
        """Every API command an expansion of ``${...}`` ran: empty unless text became code."""
        return self._channel.expanded_apis

    @property
    def variables(self) -> Mapping[str, str]:
        """Its channel variables now."""
        return dict(self._channel.variables)

    @property
    def recordings(self) -> Sequence[Recording]:
        """Its session recordings, running or done."""
        return self._channel.recordings

    @property
    def streams(self) -> Sequence[Stream]:
        """Its audio streams, running or done."""
        return self._channel.streams

    @property
    def sent_digits(self) -> str:
        """The digits that were sent to the party."""
        return self._channel.sent_digits

    @property
    def levels(self) -> Mapping[tuple[str, str], int]:
        """What ``uuid_audio`` set: ``("write", "level")`` to its step."""
        return self._channel.levels

    @property
    def heard(self) -> Sequence[tuple[float, float]]:
        """When something was played to the party, as Unix times of call time; an end may be infinite."""
        return self._channel.heard

    def press(self, digits: str) -> None:
        """The caller presses keys now."""
        self._channel.press(digits)

    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """The caller leaves now."""
        self._channel.hang_up(cause, "recv")

    def wait_until_over(self, timeout: float | None = None) -> bool:
        """Wait, ``timeout`` real seconds at most, for the call's last event; whether it came."""
        return bool(self._channel.ended.wait(timeout))

    def join(self, timeout: float | None = None) -> bool:
        """Wait, ``timeout`` real seconds at most, until the session is freed, lingering included; whether it was."""
        return bool(self._channel.released.wait(timeout))
