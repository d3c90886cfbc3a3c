"""Applications that collect digits, and the one that sends them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.simulator.playing import play
from fsctl.simulator.registry import application
from fsctl.simulator.text import seconds_of, separate

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel

__all__ = ["send_digits"]

_DEFAULT_MS = 250
_GAP_MS = 250
_MOST = 99


@dataclass(frozen=True, slots=True)
class _Wanted:
    least: int
    most: int
    timeout: float
    between: float
    terminators: str


def _collect(channel: Channel, wanted: _Wanted, prompt: str) -> tuple[str, str]:
    """One try: the digits and ``success``, ``timeout`` or ``failure``. The first digit stops the prompt."""
    collected: list[str] = []
    ended: list[str] = []

    def take(digit: str) -> bool:
        if digit in wanted.terminators:
            ended.append(digit)
            return True
        collected.append(digit)
        return len(collected) >= wanted.most

    def first(digit: str) -> bool:
        return take(digit) or True

    how = play(channel, prompt, first) if prompt else None
    if how in {None, "done", "break"}:
        how = channel.wait(wanted.timeout, on_digit=first)
    while how == "digit" and not ended and len(collected) < wanted.most:
        how = channel.wait(wanted.between, on_digit=first)
    if ended:
        channel.variables.set("read_terminator_used", ended[0])
    if how == "gone":
        return "".join(collected), "failure"
    return "".join(collected), "success" if len(collected) >= wanted.least else "timeout"


@application("play_and_get_digits", needs_media=True)
def play_and_get_digits(channel: Channel, argument: str) -> None:
    """Ask for digits, several tries, until they match a regular expression."""
    words = separate(argument, 12)
    if len(words) < 9:
        return
    least, most, tries, timeout = (int(seconds_of(word)) for word in words[:4])
    terminators, prompt, invalid, variable, pattern = words[4:9]
    seconds = max(timeout, 1000) / 1000
    between = seconds_of(words[9]) / 1000 if len(words) > 9 else seconds
    wanted = _Wanted(least, most, seconds, between, "" if terminators == "none" else terminators)
    channel.variables.set(variable, None)
    channel.variables.set(f"{variable}_invalid", None)
    for _ in range(max(tries, 1)):
        digits, outcome = _collect(channel, wanted, prompt)
        fits = outcome == "success" and _fits(pattern, digits)
        channel.variables.set("read_result", "success" if fits else "failure")
        if fits:
            channel.variables.set(variable, digits)
        if fits or channel.gone:
            return
        if digits:
            channel.variables.set(f"{variable}_invalid", digits)
        if invalid and play(channel, invalid) == "gone":
            return


def _fits(pattern: str, digits: str) -> bool:
    try:
        return re.search(pattern, digits) is not None
    except re.error:
        return False


@application("read", needs_media=True)
def read(channel: Channel, argument: str) -> None:
    """Ask for digits once."""
    words = separate(argument, 7)
    if len(words) < 6:
        return
    least, most = (int(seconds_of(word)) for word in words[:2])
    seconds = max(seconds_of(words[4]), 1000) / 1000
    between = seconds_of(words[6]) / 1000 if len(words) > 6 else seconds
    wanted = _Wanted(least, most, seconds, between, "" if words[5] == "none" else words[5])
    digits, outcome = _collect(channel, wanted, words[2])
    channel.variables.set("read_result", outcome)
    channel.variables.set(words[3], digits)


def send_digits(channel: Channel, text: str) -> bool:
    """Queue digits for the party: groups separated by ``+``, each with its own ``@<ms>``; False when there are none.

    More than 99 characters are refused. ``last_dtmf_duration`` is what FreeSWITCH reckons they take, in milliseconds:
    pauses count as digits.
    """
    text = text.lstrip("~")
    if len(text) > _MOST:
        return False
    channel.pre_answer()
    total = 0
    for group in text.split("+"):
        digits, _, milliseconds = group.partition("@")
        kept = "".join(key for key in digits if key in "0123456789ABCDabcd*#wW")
        if not kept:
            continue
        channel.sent_digits += kept
        total += len(kept) * (int(seconds_of(milliseconds, _DEFAULT_MS)) + _GAP_MS)
        channel.variables.set("last_dtmf_duration", str(total))
    return total > 0


@application("send_dtmf", needs_media=True)
def send_dtmf(channel: Channel, argument: str) -> None:
    """Queue digits to be sent; returns at once."""
    send_digits(channel, argument)
