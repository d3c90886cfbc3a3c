"""The person at the other end of a simulated call, as a script: what they press, when they talk, when they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Caller", "HangsUpWhen", "Party", "keys", "silence_ends", "talking"]

HangsUpWhen = Callable[[str, str], bool]
"""Asked with each application that starts (its name and argument): does the caller leave now?"""


@dataclass(frozen=True, slots=True)
class Caller:
    """A scripted caller. All times are seconds of call time, counted from the answer.

    ``digits`` are pressed one after the other, ``w`` waiting half a second and ``W`` a whole one, from
    ``digits_after`` seconds on; with ``digits_on`` the count starts when that application starts for the first time.
    ``speaks`` are the intervals in which the caller talks (silent otherwise; an end may be ``math.inf``); besides, they
    talk for ``dictates`` seconds from half a second after the beginning of each recording.
    The caller leaves ``hangs_up_after`` seconds, or when ``hangs_up_on`` says so for an application that starts
    (a name, or a predicate of name and argument), ``hangs_up_on_after`` seconds into it, with ``hangs_up_cause``;
    unanswered, they give up ``gives_up_after`` seconds from the start of the call.
    ``sends_rtp`` False is a caller whose audio never arrives: digits still do, recordings stay empty.
    ``headers`` are custom SIP headers of the INVITE, ``{"X-Account": "7"}``.
    """

    digits: str = ""
    digits_after: float = 1.0
    digits_on: str = ""
    speaks: tuple[tuple[float, float], ...] = ()
    dictates: float = 0.0
    hangs_up_after: float | None = None
    hangs_up_on: str | HangsUpWhen | None = None
    hangs_up_on_after: float = 0.0
    hangs_up_cause: str = "NORMAL_CLEARING"
    gives_up_after: float | None = None
    sends_rtp: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    def leaves_on(self, application: str, argument: str) -> bool:
        """Whether the start of ``application`` makes the caller leave."""
        if callable(self.hangs_up_on):
            return self.hangs_up_on(application, argument)
        return self.hangs_up_on == application


@dataclass(frozen=True, slots=True)
class Party:
    """Someone a simulated call can be connected to, by ``bridge``, or who can be called, by ``originate``.

    ``cause`` empty: answers after ``after`` seconds and talks for ``talks`` seconds, or until the caller leaves.
    Otherwise refuses with that hangup cause after ``after`` seconds; ``NO_ANSWER`` rings until the attempt is given up.
    What follows is for ``originate`` alone. Whoever takes their time rings meanwhile, and with ``early_media`` is heard
    (183 instead of 180); once they have answered they behave as ``behaviour``.
    """

    cause: str = ""
    after: float = 0.0
    talks: float = math.inf
    early_media: bool = False
    behaviour: Caller = Caller()

    @property
    def rings(self) -> bool:
        """Whether anything is heard of them before they answer or refuse."""
        return self.after > 0 or self.early_media or self.cause == "NO_ANSWER"


_PAUSES = {"w": 0.5, "W": 1.0, ",": 1.0}


def keys(script: str) -> list[tuple[float, str]]:
    """``1w23#`` as ``(seconds, digit)`` from its start, 0.1 s between neighbouring digits."""
    at = 0.0
    pressed: list[tuple[float, str]] = []
    for character in script:
        if character in _PAUSES:
            at += _PAUSES[character]
        else:
            pressed.append((at, character))
            at += 0.1
    return pressed


def talking(speaks: tuple[tuple[float, float], ...], start: float, end: float) -> list[tuple[float, float]]:
    """The parts of ``start..end`` in which somebody with these intervals talks."""
    return [(max(begin, start), min(stop, end)) for begin, stop in sorted(speaks) if begin < end and stop > start]


def silence_ends(
    speaks: tuple[tuple[float, float], ...], start: float, initial: float | None, final: float | None
) -> tuple[float, bool] | None:
    """When a recording that listens for silence stops by itself, and whether it had heard speech.

    ``initial`` and ``final`` are the seconds of silence that end it before and after speech; None means never.
    """
    heard = False
    quiet_since = start
    for begin, stop in talking(speaks, start, math.inf):
        limit = final if heard else initial
        if limit is not None and begin - quiet_since >= limit:
            return quiet_since + limit, heard
        heard, quiet_since = True, stop
    limit = final if heard else initial
    if limit is None or math.isinf(quiet_since):
        return None
    return quiet_since + limit, heard
