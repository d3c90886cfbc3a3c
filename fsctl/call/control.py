"""One running thing on a call: its id, its state, and what can be asked of it. Pure.

A method opens a control, gives it the facts it lives by, and moves it with :meth:`Control.to`; that move is the only
thing that emits. Stop methods and REST find it by kind and id and use what the method put into it, without knowing
what it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsctl.call.events import Callback, ControlChanged
from fsctl.call.states import CONTROLS, no_way
from fsctl.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.call import Call
    from fsctl.call.leg import Waiter

__all__ = ["Control", "Controls"]

_REMEMBERED = 256  # controls that ended, so that stopping one too late is no error


class Control:
    """Something that runs on a call until it is stopped or ends by itself.

    ``stop`` asks it to end (and may wait for that); ``abandon`` says how it ended when the call did, for controls
    that FreeSWITCH ends in silence. ``verbs`` holds what else can be asked of it (``pause``, ``resume``, ``volume`` …).
    All are set by the method that opens it.
    """

    def __init__(self, call: Call, kind: str, control_id: str, *, method: str, callback: Callback | None) -> None:
        self.call = call
        self.kind = kind
        self.id = control_id
        self.method = method
        self.state = ""
        self.over = False  # whether no further state can follow
        self.detail: dict[str, Any] = {}
        self.stop: Callable[[], None] | None = None
        self.abandon: Callable[[], None] | None = None
        self.verbs: dict[str, Callable[..., None]] = {}
        self._callback = callback
        self._table = CONTROLS[kind]
        self._ended: Waiter | None = None
        self._cleanups: list[Callable[[], None]] = []

    def to(self, state: str, **detail: Any) -> None:
        """Move to ``state`` and tell the world. Raises ValueError for a move that does not exist."""
        following = self._table.get(state)
        if following is None or state not in self._table[self.state]:
            raise no_way(self.state, state)
        self.state = state
        self.over = not following
        if detail:
            self.detail.update(detail)
        call = self.call
        call.emit(
            ControlChanged(
                call.info,
                self.kind,
                self.method,
                self.id,
                state,
                call.clock.now(),
                dict(self.detail),
                self._callback,
            )
        )
        if self.over:
            self._let_go()

    def _let_go(self) -> None:
        """It is over. What it was given knows it in turn, and would keep it in memory."""
        cleanups, self._cleanups = self._cleanups, []
        for cleanup in cleanups:
            cleanup()
        self.stop = self.abandon = None
        self.verbs = {}
        if self._ended is not None:
            self._ended.set()

    def do(self, verb: str, *arguments: Any) -> None:
        """Ask for one of the control's verbs. Raises CommandFailed when it has none of that name."""
        act = self.verbs.get(verb)
        if act is None:
            raise CommandFailed(self.method, f"a {self.kind} started by `{self.method}` cannot be asked to {verb}")
        act(*arguments)

    def halt(self) -> None:
        """Ask it to end, unless it has. Raises CommandFailed when that cannot be, LegGone."""
        if self.over:
            return
        if self.stop is None:
            raise CommandFailed(self.method, f"this {self.kind} cannot be stopped")
        self.stop()

    def on_over(self, cleanup: Callable[[], None]) -> None:
        """Run ``cleanup`` once the control is over: take back a timer, stop reacting to a fact."""
        if self.over:
            cleanup()
        else:
            self._cleanups.append(cleanup)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the control is over; False when ``seconds`` pass first, LegGone when the leg goes."""
        if self.over:
            return True
        if self._ended is None:
            self._ended = self.call.leg.waiter()
        return self._ended.wait(seconds)


class Controls:
    """The controls of one call, by kind and id."""

    def __init__(self) -> None:
        self._controls: dict[tuple[str, str], Control] = {}
        self._past: dict[tuple[str, str], None] | None = None  # the latest that ended, oldest first

    def add(self, control: Control) -> None:
        """Keep a control. Raises KeyError while another of its kind with the same id is running."""
        key = (control.kind, control.id)
        other = self._controls.get(key)
        if other is not None and not other.over:
            raise KeyError(control.id)
        self._controls[key] = control
        control.on_over(lambda: self._forget(key, control))

    def _forget(self, key: tuple[str, str], control: Control) -> None:
        if self._controls.get(key) is control:
            del self._controls[key]
        if self._past is None:
            self._past = {}
        self._past.pop(key, None)
        self._past[key] = None
        if len(self._past) > _REMEMBERED:
            del self._past[next(iter(self._past))]

    def knew(self, kind: str, control_id: str) -> bool:
        """Whether a control with that id ran on this call and ended, as far as memory goes."""
        return self._past is not None and (kind, control_id) in self._past

    def running(self, kind: str | None = None) -> list[Control]:
        """The controls that are not over, oldest first; of one kind, if named."""
        return [control for control in self._controls.values() if kind in (None, control.kind)]

    def find(self, kind: str, control_id: str) -> Control | None:
        """The running control with that id."""
        return self._controls.get((kind, control_id))

    def counts(self) -> Mapping[str, int]:
        """How many of each kind are running."""
        counts: dict[str, int] = {}
        for kind, _ in self._controls:
            counts[kind] = counts.get(kind, 0) + 1
        return counts
