"""send_digits: press keys on the far end's behalf. Reference: swml-calling 3.26.

``calling.send_digits`` is ours: the published REST API has no such command.

FreeSWITCH queues digits and answers at once, and no event tells that they are out. So the method waits for as long as
they take: what FreeSWITCH reckons for each (its ``default-dtmf-duration`` and a gap), and the pauses that were asked
for. It refuses more than 99 characters at a time, so long strings go in parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from fsctl.call.live import live_command
from fsctl.errors import CommandFailed
from fsctl.freeswitch import commands
from fsctl.swml.method import method
from fsctl.swml.parameters import Text, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call
    from fsctl.swml.document import Where

__all__ = ["send_digits", "transmit"]

log = structlog.get_logger(__name__)

_GOOD = re.compile(r"[0-9A-Da-d*#Ww]+")
_PART = 99
_PAUSES = {"w": 0.5, "W": 1.0}
_DIGIT_SECONDS = 0.5  # FreeSWITCH's default: 250 ms of tone, 250 ms of silence


class DigitText(Text):
    """Digits and pauses. What is written is checked with the document; a computed text when its turn comes."""

    def read(self, value: Any, where: Where) -> str:
        """Any text: a bad one is the method's result and not the script's end."""
        return Text().exact(self.convert(value), where)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDigits:
    """``digits`` of ``0-9 A-D * #``; ``w`` is a pause of half a second, ``W`` of a whole one."""

    digits: str = parameter(DigitText(pattern=_GOOD))


@method("send_digits", SendDigits, shorthand="digits", result="send_digits_result")
def send_digits(call: Call, params: SendDigits) -> None:
    """Send the digits and return when the last one is out."""
    if not _GOOD.fullmatch(params.digits):
        bad = next((character for character in params.digits if not _GOOD.fullmatch(character)), "")
        problem = f"{bad!r} is no digit" if bad else "there are no digits"
        raise CommandFailed(
            "send_digits", f"{problem}; nothing was sent (0-9, A-D, *, # and the pauses w and W can be)"
        )
    call.answer()
    transmit(call, params.digits)
    call.vars["send_digits_result"] = "success"


def transmit(call: Call, digits: str) -> None:
    """Send digits and pauses, of which all must be good, and wait until they are out. Raises CommandFailed, LegGone."""
    for start in range(0, len(digits), _PART):
        part = digits[start : start + _PART]
        call.leg.ask(commands.send_digits(call.leg.uuid, part))
        call.leg.waiter().wait(_seconds(call, part))


def _seconds(call: Call, part: str) -> float:
    """How long FreeSWITCH sends at these digits. Its own sum is the same for every character, pauses included."""
    total = call.leg.ask(commands.variable(call.leg.uuid, "last_dtmf_duration"))
    each = int(total) / 1000 / len(part) if total.isdecimal() else _DIGIT_SECONDS
    return sum(_PAUSES.get(character, each) for character in part)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendDigitsCommand:
    """``digits`` of ``0-9 A-D * #``; ``w`` is a pause of half a second, ``W`` of a whole one."""

    digits: str = parameter(Text(pattern=_GOOD))


@live_command("calling.send_digits", SendDigitsCommand)
def live_send_digits(call: Call, params: SendDigitsCommand) -> None:
    """Send the digits beside whatever goes on; the answer does not wait for them."""

    def send() -> None:
        try:
            transmit(call, params.digits)
        except CommandFailed as problem:
            log.warning("digits_not_sent", call_id=call.info.call_id, problem=problem.reply)

    call.leg.background(send)
