"""What a method may ask of a leg. The real one is ``esl/leg.py``; tests have a fake with the same contract. Pure.

Everything that waits raises LegGone as soon as the party hangs up or the connection to FreeSWITCH ends.
Times are call seconds (``fsctl.clock``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from fsctl.freeswitch.commands import Api, Application, Command
    from fsctl.freeswitch.facts import Completed

__all__ = ["Facts", "Leg", "Waiter"]

F = TypeVar("F")


class Facts(Protocol):
    """The facts of the kinds somebody listens for, from the moment of listening."""

    def next(self, seconds: float | None = None) -> Any:
        """The next fact, or None when ``seconds`` pass first."""


class Waiter(Protocol):
    """Something one greenlet sets and another waits for."""

    def set(self) -> None:
        """Let everyone who waits go on."""

    def wait(self, seconds: float | None = None) -> bool:
        """True when it was set, False when ``seconds`` passed first."""


class Leg(Protocol):
    """One party's channel."""

    uuid: str
    answered: bool
    gone: bool

    def answer(self) -> None:
        """Answer the call. CommandFailed when FreeSWITCH cannot."""

    def pre_answer(self) -> None:
        """Open early media without answering. CommandFailed when FreeSWITCH cannot."""

    def hang_up(self, cause: str) -> None:
        """Hang up at once, whatever runs, without waiting for it. Does nothing on a leg that is gone."""

    def execute(
        self,
        application: Application,
        seconds: float,
        accepted: Callable[[], None] | None = None,
        longer: Callable[[], float] | None = None,
    ) -> Completed:
        """Run an application to its end. CommandFailed when FreeSWITCH refuses it or ``seconds`` pass.

        ``accepted`` is called, and must not wait, when FreeSWITCH has taken it. ``longer`` is asked when the time is
        over: for how many seconds more it may run, 0.0 for none.
        """

    def ask(self, api: Api) -> str:
        """Run an API command that is done at once. CommandFailed when it is refused."""

    def job(self, api: Api, seconds: float) -> str:
        """Run an API command that may take a while, beside everything else. CommandFailed when it is refused."""

    def tell(self, *apis: Api) -> None:
        """Run API commands without waiting; a refusal is logged."""

    def clear(self) -> None:
        """Stop what plays, and forget every application that waits; who waits for one of them gets CommandFailed."""

    def background(self, what: Callable[[], None]) -> None:
        """Do ``what`` beside everything else; LegGone ends it without a word."""

    def fire(self, command: Command) -> None:
        """Send a command of the connection without waiting."""

    def listen(self, *kinds: type) -> AbstractContextManager[Facts]:
        """Collect facts of these kinds while the context lasts."""

    def react(self, kind: type[F], reaction: Callable[[F], None]) -> Callable[[], None]:
        """Call ``reaction`` with every fact of ``kind``, at once and without waiting; call the answer to stop."""

    def waiter(self) -> Waiter:
        """A new waiter that raises LegGone when the leg goes."""
