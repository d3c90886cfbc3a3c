"""How a call ended: FreeSWITCH's hangup cause as the internal end reason. Pure tables.

Internal reasons: ``hangup``, ``cancel``, ``busy``, ``no_answer``, ``declined``, ``error``, ``abandoned``,
``max_duration``, ``not_found``. How they are spelled outside depends on the surface (``webhooks/payloads.py``).
Reference: webhooks, ``calling.call.state``.
"""

from __future__ import annotations

__all__ = ["COMMAND_CAUSES", "END_REASONS", "HANGUP_CAUSES", "end_reason", "end_source"]

_REASONS = {
    "NORMAL_CLEARING": "hangup",
    "MANAGER_REQUEST": "hangup",
    "NORMAL_UNSPECIFIED": "hangup",
    "BLIND_TRANSFER": "hangup",
    "ATTENDED_TRANSFER": "hangup",
    "ORIGINATOR_CANCEL": "cancel",
    "LOSE_RACE": "cancel",
    "PICKED_OFF": "cancel",
    "USER_BUSY": "busy",
    "NO_ANSWER": "no_answer",
    "NO_USER_RESPONSE": "no_answer",
    "PROGRESS_TIMEOUT": "no_answer",
    "CALL_REJECTED": "declined",
    "ALLOTTED_TIMEOUT": "max_duration",
    "UNALLOCATED_NUMBER": "not_found",
    "NO_ROUTE_DESTINATION": "not_found",
    "USER_NOT_REGISTERED": "not_found",
    "SUBSCRIBER_ABSENT": "not_found",
}

END_REASONS = frozenset({*_REASONS.values(), "abandoned", "error"})

# What the `hangup` method's `reason` asks FreeSWITCH for; before answer these choose the SIP response.
HANGUP_CAUSES = {"hangup": "NORMAL_CLEARING", "busy": "USER_BUSY", "decline": "CALL_REJECTED"}

# The same for the command `calling.end`, which knows more reasons.
COMMAND_CAUSES = {
    **HANGUP_CAUSES,
    "cancel": "ORIGINATOR_CANCEL",
    "noAnswer": "NO_ANSWER",
    "error": "NORMAL_TEMPORARY_FAILURE",
}


def end_reason(cause: str, *, direction: str, answered: bool, disposition: str) -> str:
    """The internal end reason.

    ``disposition`` is FreeSWITCH's ``sip_hangup_disposition`` (``recv_cancel``, ``send_bye`` …), empty when unknown.
    An inbound caller that gives up before the answer has ``abandoned`` the call; when we did, it has not.
    """
    theirs = disposition.startswith("recv_") or (cause == "ORIGINATOR_CANCEL" and not disposition.startswith("send_"))
    if direction == "inbound" and not answered and theirs:
        return "abandoned"
    return _REASONS.get(cause, "error")


def end_source(disposition: str, *, direction: str) -> str:
    """Which side ended the call: the leg's own direction when its party did, ``none`` when nobody is known to have."""
    if disposition.startswith("recv_"):
        return direction
    if disposition.startswith("send_"):
        return "outbound" if direction == "inbound" else "inbound"
    return "none"
