"""sleep: let call time pass. Reference: swml-calling 3.30."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.swml.method import method
from fsctl.swml.parameters import Integer, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call

__all__ = ["sleep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """``duration`` in milliseconds; -1 waits until the call ends or somebody redirects it."""

    duration: int = parameter(Integer(low=-1))


@method("sleep", Sleep, shorthand="duration")
def sleep(call: Call, params: Sleep) -> None:
    """Wait. A hangup ends the wait at once."""
    call.leg.waiter().wait(None if params.duration < 0 else params.duration / 1000)
