"""One call: who it is, its leg, its variables, its controls, and the single way its state changes. Pure.

The session makes it, the interpreter and the methods work on it, and nobody else writes to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from fsctl.call.control import Control, Controls
from fsctl.call.events import Callback, CallStateChanged, ScriptWarning, UserEvent
from fsctl.call.states import CALL, no_way
from fsctl.errors import CommandFailed
from fsctl.identity import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.events import CallEvent, CallInfo, Watcher
    from fsctl.call.leg import Leg
    from fsctl.call.services import Services
    from fsctl.clock import Clock
    from fsctl.streams.attachment import CallStreams
    from fsctl.swml.document import Document

__all__ = ["Call", "Script"]

_NOUNS = {"record": "recording"}


class Script(Protocol):
    """The document that runs on a call, for whoever steers it from outside."""

    def compile(self, text: str | Mapping[str, Any]) -> Document:
        """Check a document. Raises ScriptError."""

    def redirect(self, dest: str | Document, *, method: str = "POST", fallback: str = "") -> None:
        """Leave what runs now for ``dest``, a URL, a file name or a checked document, and return at once.

        The document is fetched first; one that cannot be had, or is wrong, leaves the call where it is, with a warning.
        """


class Call:
    """What methods work with. ``vars`` are the script's variables; ``services`` what reaches beyond the call."""

    def __init__(
        self,
        info: CallInfo,
        leg: Leg,
        *,
        services: Services,
        emit: Callable[[CallEvent], None],
        envs: Mapping[str, Any],
    ) -> None:
        self.info = info
        self.leg = leg
        self.services = services
        self.clock: Clock = services.clock
        self.emit = emit
        self.envs = envs
        self.vars: dict[str, Any] = {}
        self.controls = Controls()
        self.state = ""
        self.start_time = info.created_at
        self.answer_time = 0.0
        self.end_time = 0.0
        self.end_reason: str | None = None
        self.ended_by: str | None = None  # ``canceled`` or ``completed``, when somebody asked for that
        self.known: dict[str, Any] = {}  # what methods have found out about the channel, by a word of theirs
        self.interactions = 0  # digits pressed and speech recognised so far
        self.streams: CallStreams | None = None  # made by the first stream
        self.instruction: Any = None  # what runs now, for warnings and logs
        self.script: Script | None = None  # while a document runs
        self.watchers: tuple[Watcher, ...] = ()  # who wants to hear of its states, besides the operator
        self._cancel_limit: Callable[[], None] | None = None
        self._scope: dict[str, Any] | None = None

    # -- state ---------------------------------------------------------------------------------------------------

    def to(self, state: str, **detail: Any) -> None:
        """Reach ``state`` and tell the world; a state that was reached already is left alone."""
        if state == self.state or (state == "ringing" and self.state == "answered"):
            return
        if state not in CALL[self.state]:
            raise no_way(self.state, state)
        self.state = state
        self._scope = None
        now = self.clock.now()
        if state == "answered":
            self.answer_time = now
        elif state == "ended":
            self.end_time = now
            self.end_reason = detail.get("end_reason")
        self.emit(
            CallStateChanged(
                self.info,
                state,
                now,
                start_time=self.start_time,
                answer_time=self.answer_time,
                end_time=self.end_time,
                watchers=self.watchers,
                **detail,
            )
        )

    def scope(self) -> Mapping[str, Any]:
        """The read-only ``call.*`` fields of scripts and fetch requests (reference: swml-calling 2.2)."""
        if self._scope is None:
            info = self.info
            scope: dict[str, Any] = {
                "call_id": info.call_id,
                "node_id": info.node_id,
                "segment_id": info.segment_id,
                "call_state": self.state,
                "direction": info.direction,
                "type": info.type,
                "from": info.from_,
                "to": info.to,
                "headers": list(info.headers),
                "project_id": info.project_id,
                "space_id": info.space_id,
            }
            if info.type == "phone":
                scope["from_number"] = info.from_number
                scope["to_number"] = info.to_number
            if info.type == "sip" and info.sip_data is not None:
                scope["sip_data"] = dict(info.sip_data)
            if info.tag is not None:
                scope["tag"] = info.tag
            self._scope = scope
        return self._scope

    # -- what methods ask for ------------------------------------------------------------------------------------

    def answer(self) -> None:
        """Answer, unless that has happened. Raises CommandFailed, LegGone."""
        if not self.leg.answered:
            self.leg.answer()
            if self.leg.answered:
                self.to("answered")
            if self._cancel_limit is None:
                self.limit(self.services.max_duration)

    def early_media(self) -> None:
        """Let the party hear us without answering, unless it can already."""
        if not self.leg.answered and self.state != "ringing":
            self.leg.pre_answer()
            self.to("ringing")

    def limit(self, seconds: float) -> None:
        """End the call ``seconds`` from now, in place of any earlier limit."""
        if self._cancel_limit is not None:
            self._cancel_limit()
        self._cancel_limit = self.clock.alarm(seconds, self.leg.hang_up, "ALLOTTED_TIMEOUT").kill

    def unlimit(self) -> None:
        """Take the limit back: the call is over."""
        if self._cancel_limit is not None:
            self._cancel_limit()

    def control(
        self,
        kind: str,
        control_id: str | None = None,
        *,
        method: str,
        status_url: str | None = None,
        status_url_method: str = "POST",
    ) -> Control:
        """Open a control. Raises KeyError when one of this kind with this id is running."""
        callback = Callback(status_url, status_url_method) if status_url else None
        control = Control(self, kind, control_id or new_id(), method=method, callback=callback)
        self.controls.add(control)
        return control

    def stop(self, kind: str, control_id: str | None, *, latest: str, method: str) -> None:
        """Stop the control with that id, else the one whose id the variable ``latest`` holds, and wait for its end.

        Raises CommandFailed when there is none, or FreeSWITCH refuses.
        """
        wanted = control_id or str(self.vars.get(latest) or "")
        control = self.controls.find(kind, wanted)
        if control is None or control.stop is None:
            raise CommandFailed(method, f"no {_NOUNS.get(kind, kind)} {wanted[:80]!r} is running on this call")
        control.stop()

    def warn(self, code: str, message: str, *, fatal: bool = False, where: Any = None) -> None:
        """Tell the world what went wrong in the script: at ``where``, else at the instruction that runs."""
        instruction = self.instruction
        where = where or getattr(instruction, "where", None)
        self.emit(
            ScriptWarning(
                self.info,
                code,
                message,
                self.clock.now(),
                section=getattr(where, "section", "") or "",
                index=getattr(where, "index", -1),
                path=where.text if where is not None else "",
                line=getattr(where, "line", None),
                method=getattr(getattr(instruction, "method", None), "name", ""),
                fatal=fatal,
                document=getattr(where, "document", ""),
            )
        )

    def user_event(self, event: Mapping[str, Any]) -> None:
        """Hand the script's event to whoever listens."""
        self.emit(UserEvent(self.info, event, self.clock.now()))
