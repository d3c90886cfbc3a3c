"""How a call's state is told over REST: the one place that turns our words into the reference's. Pure tables.

Inside there is one state (``fsctl.call.states``) and, at the end, one internal end reason
(``fsctl.freeswitch.causes``). The REST surfaces show both as a single word: a call leg with the words of calling-api.md
5.2, a log entry with the wider set of its section 7.
"""

from __future__ import annotations

from typing import Final

__all__ = ["DIRECTIONS", "LEG_STATUSES", "LOG_STATUSES", "TYPES", "direction", "leg_status", "leg_type", "log_status"]

LEG_STATUSES: Final = frozenset(
    ("queued", "initiated", "created", "ringing", "answered", "ending", "ended", "failed", "canceled", "completed")
)
LOG_STATUSES: Final = LEG_STATUSES | {"in-progress", "busy", "no-answer", "joined"}

# What ended a call that the channel itself does not tell: the additional end values of 5.2.
_ENDED_BY: Final = frozenset(("failed", "canceled", "completed"))

# A call that was never answered, by why; those that are not here are ``ended``.
_UNANSWERED: Final = {
    "busy": "busy",
    "declined": "busy",
    "no_answer": "no-answer",
    "cancel": "canceled",
    "abandoned": "canceled",
    "not_found": "failed",
    "error": "failed",
}

DIRECTIONS: Final = {"inbound": "inbound", "outbound": "outbound-api"}
TYPES: Final = {"phone": "relay_pstn_call", "sip": "relay_sip_call", "webrtc": "relay_webrtc_call"}


def leg_status(state: str, end_reason: str | None, ended_by: str | None) -> str:
    """The ``status`` of a call leg (calling-api.md 5.2).

    ``state`` is the call's, "" before its first. ``ended_by`` is ``canceled`` or ``completed`` when an ``update`` with
    that status ended the call, ``failed`` when FreeSWITCH never made a channel for it, None for every other end.
    """
    if state != "ended":
        return state or "queued"
    if ended_by in _ENDED_BY:
        return ended_by
    return "canceled" if end_reason == "cancel" else "ended"


def log_status(state: str, end_reason: str | None, ended_by: str | None, *, answered: bool) -> str:
    """The ``status`` of a log entry: as :func:`leg_status`, but an end says more (calling-api.md 7).

    An answered call is ``completed`` unless it broke down (``failed``); one that was not answered says why.
    """
    if state != "ended" or ended_by in _ENDED_BY:
        return leg_status(state, end_reason, ended_by)
    if end_reason is None:  # nobody was there to see the end
        return "ended"
    if answered:
        return "failed" if end_reason == "error" else "completed"
    return _UNANSWERED.get(end_reason, "ended")


def direction(word: str) -> str:
    """The ``direction`` of a leg: an outbound call of ours is one that somebody dialled through the API."""
    return DIRECTIONS.get(word, word)


def leg_type(word: str) -> str:
    """The ``type`` of a leg; a type we do not know counts as SIP, which every call of FreeSWITCH's can be."""
    return TYPES.get(word, TYPES["sip"])
