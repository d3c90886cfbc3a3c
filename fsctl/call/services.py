"""What methods need from beyond the call, as one frozen record that the server fills and tests fake. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsctl.clock import Clock
    from fsctl.config.sections import Streams
    from fsctl.freeswitch.speech import Recogniser
    from fsctl.media.files import Files
    from fsctl.media.recordings import Recordings
    from fsctl.media.voices import Voices
    from fsctl.streams.hub import Hub
    from fsctl.web import Client

__all__ = ["Services"]


@dataclass(frozen=True, slots=True)
class Services:
    """``max_duration`` is the longest a call may last, in seconds, unless its script says otherwise.

    Without a ``recogniser`` no speech is understood.
    """

    clock: Clock
    web: Client
    files: Files
    recordings: Recordings
    voices: Voices
    streams: Streams
    hub: Hub
    max_duration: float
    request_timeout: float
    recogniser: Recogniser | None = None
