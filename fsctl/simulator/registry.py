"""Where the simulated switch's applications and API commands are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel
    from fsctl.simulator.switch import Switch

__all__ = ["APIS", "APPLICATIONS", "Application", "api", "application"]

Run = Callable[["Channel", str], None]
Api = Callable[["Switch", "Channel | None", str], str]


@dataclass(frozen=True, slots=True)
class Application:
    """A dialplan application; one that ``needs_media`` makes an unanswered channel send early media first."""

    run: Run
    needs_media: bool = False


APPLICATIONS: dict[str, Application] = {}
APIS: dict[str, Api] = {}


def application(*names: str, needs_media: bool = False) -> Callable[[Run], Run]:
    """Register a function of channel and (expanded) argument as the application of these names."""

    def register(run: Run) -> Run:
        APPLICATIONS.update({name: Application(run, needs_media) for name in names})
        return run

    return register


def api(*names: str) -> Callable[[Api], Api]:
    """Register a function of switch, asking channel and argument as the API command of these names."""

    def register(run: Api) -> Api:
        APIS.update(dict.fromkeys(names, run))
        return run

    return register
