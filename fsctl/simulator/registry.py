"""Where the simulated switch's applications and API commands are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.simulator.text import separate

if TYPE_CHECKING:
    from fsctl.simulator.channel import Channel
    from fsctl.simulator.switch import Switch

__all__ = ["APIS", "APPLICATIONS", "NO_CHANNEL", "OK", "SUCCESS", "Application", "api", "application", "channel_api"]

OK = "+OK\n"
SUCCESS = "+OK Success\n"
NO_CHANNEL = "-ERR No such channel!\n"

Run = Callable[["Channel", str], None]
OfChannel = Callable[["Channel", list[str]], str]
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


def channel_api(
    name: str, *, usage: str = "<uuid>", least: int = 1, pieces: int = 10, missing: str = NO_CHANNEL
) -> Callable[[OfChannel], OfChannel]:
    """Register a function of a live channel and the words after its UUID as an API command.

    The argument is split into at most ``pieces``, the last keeping the remainder; with fewer than ``least`` the answer
    is the usage, and without such a channel ``missing``.
    """

    def register(run: OfChannel) -> OfChannel:
        def find(switch: Switch, _: Channel | None, argument: str) -> str:
            words = separate(argument, pieces)
            if len(words) < least:
                return f"-USAGE: {usage}\n"
            channel = switch.live(words[0])
            return missing if channel is None else run(channel, words[1:])

        APIS[name] = find
        return run

    return register
