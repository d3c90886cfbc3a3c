"""The end of a channel: what a hangup leaves in its variables and the events between CS_HANGUP and the last one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsctl.simulator.channel import Channel
    from fsctl.simulator.leg import Leg

__all__ = ["CAUSES", "farewell", "report"]

CAUSES: dict[str, int] = {
    "UNSPECIFIED": 0,
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_TRANSIT_NET": 2,
    "NO_ROUTE_DESTINATION": 3,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "NUMBER_CHANGED": 22,
    "DESTINATION_OUT_OF_ORDER": 27,
    "INVALID_NUMBER_FORMAT": 28,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NETWORK_OUT_OF_ORDER": 38,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SERVICE_UNAVAILABLE": 63,
    "INCOMPATIBLE_DESTINATION": 88,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "INTERWORKING": 127,
    "ORIGINATOR_CANCEL": 487,
    "SYSTEM_SHUTDOWN": 501,
    "LOSE_RACE": 502,
    "MANAGER_REQUEST": 503,
    "BLIND_TRANSFER": 600,
    "ATTENDED_TRANSFER": 601,
    "ALLOTTED_TIMEOUT": 602,
    "MEDIA_TIMEOUT": 604,
    "PICKED_OFF": 605,
    "USER_NOT_REGISTERED": 606,
    "PROGRESS_TIMEOUT": 607,
}
"""Hangup causes and their Q.850 (or FreeSWITCH's own) numbers."""

_STATUSES = {
    "USER_BUSY": "486",
    "UNALLOCATED_NUMBER": "404",
    "CALL_REJECTED": "603",
    "NO_USER_RESPONSE": "408",
    "NUMBER_CHANGED": "410",
    "NORMAL_TEMPORARY_FAILURE": "503",
}
"""The SIP status a party refuses with for a cause."""


def cause_named(text: str) -> str:
    """The cause a name or number stands for; NORMAL_CLEARING when there is none such."""
    if text.isdigit():
        return next((name for name, number in CAUSES.items() if number == int(text)), "NORMAL_CLEARING")
    return text.upper() if text.upper() in CAUSES else "NORMAL_CLEARING"


def farewell(channel: Leg, by: Literal["send", "recv"]) -> Iterator[tuple[str, str]]:
    """The variables SIP sets when the party ends the call, before the hangup is seen."""
    if by == "recv":
        if channel.answered:
            yield from (("sip_hangup_disposition", "recv_bye"), ("sip_term_status", "200"))
            yield from (("proto_specific_hangup_cause", "sip:200"), ("sip_term_cause", "16"))
        elif channel.outbound:
            status = _STATUSES.get(channel.hangup_cause, "503")
            yield from (("sip_hangup_disposition", "recv_refuse"), ("sip_invite_failure_status", status))
            yield from (("sip_term_status", status), ("proto_specific_hangup_cause", f"sip:{status}"))
            yield ("sip_term_cause", str(CAUSES.get(channel.hangup_cause, 0)))
        else:
            yield ("sip_hangup_disposition", "recv_cancel")


def report(channel: Channel) -> None:
    """Fire what follows the dialplan: CS_HANGUP, the ends of recordings and bugs, CS_REPORTING, HANGUP_COMPLETE.

    A stream whose far end had closed and that nobody stopped holds the session up here until the application lets
    go of it: the recording of 1.10.12 ends at CS_HANGUP.
    """
    ended = channel.clock.now()
    channel.data.change(Channel_State="CS_HANGUP")
    channel.fire("CHANNEL_STATE", variables=False)
    channel.data.at("Channel-Hangup-Time", ended)
    bugs = list(channel.bugs)
    for bug in bugs:
        bug.hang_up()
    if any(bug.hangs for bug in bugs):
        for listener in list(channel.listeners):
            listener.finished.wait()
    for bug in reversed(bugs):
        channel.detach(bug)
    channel.call_state("HANGUP")
    channel.data.change(Channel_State="CS_REPORTING", Channel_State_Number="11")
    channel.fire("CHANNEL_STATE", variables=False)
    for name, value in _record(channel, ended):
        channel.variables.set(name, value)
    channel.fire("CHANNEL_HANGUP_COMPLETE", before=[("Hangup-Cause", channel.hangup_cause)])


def _stamp(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(when))


def _record(channel: Channel, ended: float) -> Iterator[tuple[str, str]]:
    started, answered = channel.started, channel.answered_at
    profile = channel.data.caller
    bridged, progressed = (int(profile[f"Channel-{what}-Time"]) for what in ("Bridged", "Progress"))
    early = int(profile["Channel-Progress-Media-Time"])
    yield from (("hangup_cause", channel.hangup_cause), ("hangup_cause_q850", str(CAUSES[channel.hangup_cause])))
    yield ("digits_dialed", channel.dialed or "none")
    stamps = [("start", started), ("profile_start", started), ("answer", answered)]
    for name, when in (*stamps, ("bridge", bridged / 1e6), ("progress", progressed / 1e6), ("end", ended)):
        if when:
            yield f"{name}_stamp", _stamp(when)
    for name, when in stamps:
        yield from _epochs(name, when)
    yield from _epochs("bridge", bridged / 1e6)
    yield from _epochs("last_hold", 0)
    yield from (("hold_accum_seconds", "0"), ("hold_accum_usec", "0"), ("hold_accum_ms", "0"))
    yield from _epochs("resurrect", 0)
    yield from _epochs("progress", progressed / 1e6)
    yield from _epochs("progress_media", early / 1e6)
    yield from _epochs("end", ended)
    if last := next((done for done in reversed(channel.executed) if done.application != "socket"), None):
        yield from (("last_app", last.application), ("last_arg", last.argument))
    name, number = profile["Caller-ID-Name"], profile["Caller-ID-Number"]
    yield ("caller_id", f'"{name}" <{number}>' if name else number)
    yield from _durations(started, answered, ended)
    if not channel.variables.get("sip_hangup_disposition"):
        unanswered = "send_cancel" if channel.outbound else "send_refuse"
        yield ("sip_hangup_disposition", "send_bye" if channel.answered else unanswered)
    if channel.media_ready:
        yield from _statistics(round((ended - (answered or started)) / 0.02), hears=channel.behaviour.sends_rtp)


def _epochs(name: str, when: float) -> Iterator[tuple[str, str]]:
    yield f"{name}_epoch", str(int(when))
    yield f"{name}_uepoch", str(round(when * 1e6))


def _durations(started: float, answered: float, ended: float) -> Iterator[tuple[str, str]]:
    whole = ended - started
    billed = ended - answered if answered else 0.0
    until_answer = answered - started if answered else 0.0
    parts = (
        ("", whole, int(ended) - int(started)),
        ("bill", billed, int(ended) - int(answered) if answered else 0),
        ("progress", 0.0, 0),
        ("answer", until_answer, int(answered) - int(started) if answered else 0),
        ("wait", 0.0, 0),
        ("progress_media", 0.0, 0),
        ("flow_bill", whole, int(ended) - int(started)),
    )
    for unit, total, scale in (("sec", "duration", 0.0), ("msec", "mduration", 1e3), ("usec", "uduration", 1e6)):
        for name, seconds, clock_seconds in parts:
            yield name + unit if name else total, str(int(seconds * scale) if scale else clock_seconds)


def _statistics(packets: int, *, hears: bool) -> Iterator[tuple[str, str]]:
    heard = packets if hears else 0
    for way, count in (("in", heard), ("out", packets)):
        for what in ("raw_bytes", "media_bytes"):
            yield f"rtp_audio_{way}_{what}", str(count * 172)
        for what in ("packet_count", "media_packet_count"):
            yield f"rtp_audio_{way}_{what}", str(count)
        if way == "in":
            for what in ("skip", "jitter", "dtmf", "cng", "flush"):
                yield f"rtp_audio_in_{what}_packet_count", "0"
            yield ("rtp_audio_in_largest_jb_size", "0")
            for what in ("min_variance", "max_variance", "loss_rate", "burst_rate"):
                yield f"rtp_audio_in_jitter_{what}", "0.00"
            yield from (("rtp_audio_in_mean_interval", "20.00"), ("rtp_audio_in_flaw_total", "0"))
            yield from (("rtp_audio_in_quality_percentage", "100.00"), ("rtp_audio_in_mos", "4.50"))
        else:
            for what in ("skip", "dtmf", "cng"):
                yield f"rtp_audio_out_{what}_packet_count", "0"
    yield from (("rtp_audio_rtcp_packet_count", "0"), ("rtp_audio_rtcp_octet_count", "0"))
