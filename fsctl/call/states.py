"""Every state a call and its controls can be in, as one table. A move that is not in it is a bug and raises. Pure.

Reference: webhooks, section 7. The empty state is "not started": a control announces nothing before its first fact.
"""

from __future__ import annotations

__all__ = ["CALL", "CONTROLS", "no_way"]

CALL: dict[str, frozenset[str]] = {
    "": frozenset({"queued", "created"}),
    "queued": frozenset({"initiated", "ending", "ended"}),
    "initiated": frozenset({"created", "ringing", "answered", "ending", "ended"}),
    "created": frozenset({"ringing", "answered", "ending", "ended"}),
    "ringing": frozenset({"answered", "ending", "ended"}),
    "answered": frozenset({"ending", "ended"}),
    "ending": frozenset({"ended"}),
    "ended": frozenset(),
}

CONTROLS: dict[str, dict[str, frozenset[str]]] = {
    "play": {
        "": frozenset({"playing", "finished", "error"}),
        "playing": frozenset({"paused", "finished", "error"}),
        "paused": frozenset({"playing", "finished", "error"}),
        "finished": frozenset(),
        "error": frozenset(),
    },
    "record": {
        "": frozenset({"recording", "error"}),
        "recording": frozenset({"paused", "finished", "no_input", "error"}),
        "paused": frozenset({"recording", "finished", "no_input", "error"}),
        "finished": frozenset(),
        "no_input": frozenset(),
        "error": frozenset(),
    },
    "denoise": {
        "": frozenset({"denoising"}),
        "denoising": frozenset({"finished"}),
        "finished": frozenset(),
    },
    # These two tell results, not states: the first word of a collection may be its last.
    "collect": {
        "": frozenset({"collecting", "finished", "error"}),
        "collecting": frozenset({"collecting", "finished", "error"}),
        "finished": frozenset(),
        "error": frozenset(),
    },
    "detect": {
        "": frozenset({"detected", "finished", "error"}),
        "detected": frozenset({"detected", "finished", "error"}),
        "finished": frozenset(),
        "error": frozenset(),
    },
    # A stream that never connects ends without having streamed, so that its control id is free again.
    "stream": {
        "": frozenset({"streaming", "finished"}),
        "streaming": frozenset({"finished"}),
        "finished": frozenset(),
    },
    "tap": {
        "": frozenset({"tapping", "finished"}),
        "tapping": frozenset({"finished"}),
        "finished": frozenset(),
    },
}


def no_way(state: str, to: str) -> ValueError:
    """What is raised for a move that is in no table."""
    return ValueError(f"no way from {state or 'not started'!r} to {to!r}")
