"""What can go wrong between FreeSWITCH and an application, on request.

A :class:`Nasty` only describes; the listener and the channel ask it at the places it names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Drop", "Nasty"]


@dataclass(frozen=True, slots=True)
class Drop:
    """Where the connection is cut.

    ``where``: ``header`` and ``body`` cut in the middle of the first message of kind ``at``, ``reply`` before it is
    written at all. ``at`` names an event (``PLAYBACK_STOP``), a command (``sendmsg``, ``api uuid_record``,
    ``connect``) or ``notice``.
    """

    where: Literal["header", "body", "reply"]
    at: str


@dataclass(frozen=True, slots=True)
class Nasty:
    """Ways to misbehave, all off by default. Times are seconds of call time.

    ``reply_delay``, ``event_delay``: everything of that sort comes this much later, its order kept.
    ``drop``: the connection is cut there. ``close_without_notice``: no disconnect notice before the end.
    ``refuse``: command (``linger``, ``api uuid_record``, ``sendmsg answer``) to the ``-ERR`` it gets, unexecuted.
    ``events_first``: events a command causes at once are written before its reply.
    ``park_at``: CHANNEL_PARK is fired while the n-th command after ``connect`` is executed, not at the first moment.
    ``hang_up_during``: the caller leaves ``hang_up_after`` seconds into the first execution of this application.
    ``poison``: caller name and a SIP header carry ``%0A`` sequences and a real newline that try to forge headers.
    ``garbage_after``: after so many messages comes one that is no message. ``invalid_utf8``: a variable holds bytes
    that are no UTF-8. ``fragment``: bytes a write, each in a packet of its own.
    ``lost``: applications whose CHANNEL_EXECUTE_COMPLETE never comes. ``duplicated``: events that come twice.
    """

    reply_delay: float = 0.0
    event_delay: float = 0.0
    drop: Drop | None = None
    close_without_notice: bool = False
    refuse: Mapping[str, str] = field(default_factory=dict)
    events_first: bool = False
    park_at: int = 0
    hang_up_during: str = ""
    hang_up_after: float = 0.0
    poison: bool = False
    garbage_after: int = 0
    invalid_utf8: bool = False
    fragment: int = 0
    lost: frozenset[str] = frozenset()
    duplicated: frozenset[str] = frozenset()

    def refusal(self, names: tuple[str, ...]) -> str | None:
        """What the command known by these names is refused with, or None."""
        return next((self.refuse[name] for name in names if name in self.refuse), None)


GENTLE = Nasty()
"""Misbehaves in no way."""

GARBAGE = b"\x00\x01HTTP/1.1 200 OK\r\nno colon here\n: empty name\n\n"
"""What ``garbage_after`` sends."""

POISON = "x%0AUnique-ID: forged%0AEvent-Name: CHANNEL_HANGUP"
"""What ``poison`` puts into the caller's name and a SIP header."""
