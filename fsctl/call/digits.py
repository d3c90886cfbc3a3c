"""Collecting what a caller types: which digit ends it, and when waiting is over. Pure.

Fed with digits and with the time, it says what came of it. It neither listens nor waits nor plays: the method that
collects does. Reference: swml-calling 3.4, calling-api 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DigitCollector", "DigitRules"]


@dataclass(frozen=True, slots=True)
class DigitRules:
    """When digits are enough. ``max_digits`` is at least 1; times in seconds; letters count in either case.

    A terminator is never part of the value, even where it is a digit.
    """

    max_digits: int = 1
    terminators: str = ""
    digit_timeout: float = 5.0


class DigitCollector:
    """Digits on their way to a value.

    ``digits`` and ``terminator`` are what was typed so far, ``over`` becomes True when the value is complete, and
    ``deadline`` is the time at which waiting for the next digit makes it complete (None before the first one).
    """

    __slots__ = ("_rules", "_terminators", "deadline", "digits", "over", "terminator")

    def __init__(self, rules: DigitRules) -> None:
        self._rules = rules
        self._terminators = frozenset(rules.terminators.upper())
        self.digits = ""
        self.terminator = ""
        self.over = False
        self.deadline: float | None = None

    def press(self, digit: str, now: float) -> bool:
        """Take a digit; whether the value is complete now. What is typed after that does not count."""
        if self.over:
            return True
        digit = digit.upper()
        if digit in self._terminators:
            self.terminator = digit
            self.over = True
        else:
            self.digits += digit
            self.over = len(self.digits) >= self._rules.max_digits
        self.deadline = None if self.over else now + self._rules.digit_timeout
        return self.over

    def wait(self, now: float) -> bool:
        """Let time pass; whether the value is complete by ``now``."""
        if self.deadline is not None and now >= self.deadline:
            self.over = True
            self.deadline = None
        return self.over
