"""Settings: a YAML file and ``FSCTL_SECTION_KEY`` variables in, one frozen, checked :class:`Config` out.

``kinds`` knows how values are read, ``sections`` declares every setting once, ``reading`` finds the values and all
that is wrong with them. The environment overrides the file, which overrides systemd's credentials.

Not here: files, sockets or programs that settings name. Whether they exist is found out where they are used.
"""

from __future__ import annotations

from fsctl.config.kinds import Address, DialRoute, Kind, Route, Token, plain, shown
from fsctl.config.reading import DEFAULT_PATH, ConfigProblems, Problem, load
from fsctl.config.sections import (
    Api,
    Calls,
    Config,
    Dial,
    Documents,
    EventSocket,
    FreeSwitch,
    Http,
    Log,
    Logs,
    Media,
    Network,
    Project,
    Recordings,
    Script,
    Setting,
    Shutdown,
    Streams,
    Webhooks,
    render_defaults,
    settings,
)

__all__ = [
    "DEFAULT_PATH",
    "Address",
    "Api",
    "Calls",
    "Config",
    "ConfigProblems",
    "Dial",
    "DialRoute",
    "Documents",
    "EventSocket",
    "FreeSwitch",
    "Http",
    "Kind",
    "Log",
    "Logs",
    "Media",
    "Network",
    "Problem",
    "Project",
    "Recordings",
    "Route",
    "Script",
    "Setting",
    "Shutdown",
    "Streams",
    "Token",
    "Webhooks",
    "load",
    "plain",
    "render_defaults",
    "settings",
    "shown",
]
