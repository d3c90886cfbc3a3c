"""What systemd and the service say to each other: ready, alive, stopping, and which sockets are already open.

Everything here does nothing, or answers "none", when systemd did not start us. The units are in ``systemd/``.
Implements the environment of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3); deciding when to say what,
and for how long to wait, is the server's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gevent import socket

from fsctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["listening_sockets", "notify", "watchdog_interval"]

_FIRST_PASSED = 3  # file descriptors 0 to 2 are the standard ones


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell systemd ``READY=1``, ``STOPPING=1``, ``WATCHDOG=1`` or ``STATUS=…``; says whether somebody was told.

    Never raises and never waits: a service that cannot be heard goes on.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address[0] == "@":  # the abstract namespace, which has no file
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            datagrams.sendto("\n".join(lines).encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between two ``WATCHDOG=1`` (half of what systemd allows), or None when it does not watch us."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed = environ.get("WATCHDOG_USEC", "")
    return int(allowed) / 2_000_000 if allowed.isdecimal() and int(allowed) else None


def listening_sockets(
    known: Sequence[str] = ("event_socket", "http"),
    environ: Mapping[str, str] = os.environ,
    first: int = _FIRST_PASSED,
) -> dict[str, socket.socket]:
    """Take over the sockets systemd opened for us, by the name their unit gives them (``FileDescriptorName=``).

    They replace the addresses of the configuration, and stay open in systemd while we restart. Raises
    :class:`ConfigError` for a name not in ``known``, one passed twice, or one that does not listen.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environ.get("LISTEN_FDS", "0"))
    names = (environ.get("LISTEN_FDNAMES", "").split(":") + [""] * count)[:count]
    for name in names:
        if name in known and names.count(name) == 1:
            continue
        wanted = " and ".join(known)
        problem = f"is named {name!r}; the socket units' FileDescriptorName must be {wanted}, one socket each"
        raise ConfigError("a socket from systemd", problem)
    sockets = {name: socket.socket(fileno=first + index) for index, name in enumerate(names)}
    for name, passed in sockets.items():
        passed.set_inheritable(False)
        if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            for each in sockets.values():
                each.close()
            raise ConfigError(f"the socket {name} from systemd", "does not listen; its unit needs ListenStream=")
    return sockets
