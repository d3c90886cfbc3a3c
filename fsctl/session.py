"""One accepted call, from FreeSWITCH's first word to its last.

Makes the call from what FreeSWITCH says of the channel, finds its document, runs it, and sees to it that the end comes
once and complete: no waiter left, every control closed, one final state, the socket closed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import structlog

from fsctl import log as logs
from fsctl.call.call import Call
from fsctl.call.events import CallInfo, CallRefused, MethodFinished, ScriptEnded
from fsctl.errors import CommandFailed, FetchError, FsctlError, Interrupted, LegGone, ProtocolError, ScriptError
from fsctl.esl.leg import EslLeg
from fsctl.fetch import request_body
from fsctl.freeswitch import causes, commands, facts
from fsctl.methods.send_digits import transmit
from fsctl.swml.flow import Transfer
from fsctl.swml.interpreter import Interpreter
from fsctl.swml.scope import Scope
from fsctl.web import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gevent import socket

    from fsctl.call.calls import Calls
    from fsctl.call.events import CallEvent
    from fsctl.call.services import Services
    from fsctl.config import Config
    from fsctl.dialling import Order
    from fsctl.fetch import Documents
    from fsctl.freeswitch.facts import Offered
    from fsctl.swml.document import Document, Instruction
    from fsctl.swml.expression import Evaluator
    from fsctl.swml.interpreter import Limits
    from fsctl.swml.method import Methods
    from fsctl.tally import Traffic

__all__ = ["House", "Session", "call_info"]

log = structlog.get_logger(__name__)

# What a caller hears of our own failures before the answer: 404 and 503, so that a carrier tries its next route.
_NO_DOCUMENT = "NO_ROUTE_DESTINATION"
_FAILED = "NORMAL_TEMPORARY_FAILURE"
_DONE = "NORMAL_CLEARING"

# Methods decide for themselves which digit ends what; left alone, FreeSWITCH would end every playback at a "*".
_QUIET_VARIABLES = {"playback_terminators": "none"}
# FreeSWITCH looks at this one when media begins and never again: it has to be there before the answer.
_CHANNEL_VARIABLES = {**_QUIET_VARIABLES, "send_silence_when_idle": "-1"}


@dataclass(frozen=True, slots=True)
class House:
    """What every call of this process shares. ``vars`` and ``params`` are what its first document begins with.

    ``adopt`` gives the call that fsctl dialled under an id, and what it was dialled for. It raises LegGone for one that
    is nobody's to run any more.
    """

    config: Config
    calls: Calls
    services: Services
    documents: Documents
    methods: Methods
    limits: Limits
    evaluate: Evaluator
    emit: Callable[[CallEvent], None]
    traffic: Traffic
    vars: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    adopt: Callable[[str], tuple[Call, Order] | None] = lambda _call_id: None


class Session:
    """Runs one call; lives in that call's greenlet."""

    def __init__(self, house: House, sock: socket.socket) -> None:
        self._house = house
        self._clock = house.services.clock
        settings = house.config.event_socket
        self._context: dict[str, Any] = {}
        self._script: Any = None  # the greenlet to unwind when the party hangs up
        self._call: Call | None = None
        self._leg = EslLeg(
            sock,
            clock=self._clock,
            timeout=settings.command_timeout,
            linger=settings.linger,
            on_gone=self._gone,
            traffic=house.traffic,
            variables=_CHANNEL_VARIABLES if house.config.calls.send_silence else _QUIET_VARIABLES,
        )

    def refuse(self, reason: str) -> None:
        """Turn the call away: FreeSWITCH goes on with the dialplan action after `socket`."""
        self._house.emit(CallRefused(reason, self._clock.now()))
        log.warning("call_refused", reason=reason)
        try:
            self._leg.give_back()
        except LegGone:
            self._leg.close()

    def run(self) -> None:
        """Take the call and stay with it to its end."""
        try:
            offer = self._leg.open(self._house.config.event_socket.connect_timeout)
            if offer.direction == "outbound" and not self._leg.gone:  # from this reply on we hear of its end
                self._leg.ask(commands.exists(offer.uuid))
        except (LegGone, ProtocolError) as problem:
            self._house.emit(CallRefused("handshake", self._clock.now()))
            log.error("handshake_failed", problem=str(problem) or "FreeSWITCH closed the connection")
            self._leg.close()
            return
        try:
            call, order = self._house.adopt(offer.uuid) or (self._arrived(offer), None)
        except LegGone:
            self._leg.close()
            return
        if order is not None:
            self._take_over(call, offer)
        self._call = call
        call.vars.update(self._house.vars)
        self._context = logs.bind(call_id=call.info.call_id)
        self._house.calls.add(call)
        try:
            self._begin(call, order)
            self._converse(call, offer, order)
        finally:
            self._finish(call)
            self._house.calls.remove(call)

    # -- the middle ----------------------------------------------------------------------------------------------

    def _arrived(self, offer: Offered) -> Call:
        """A call that the dialplan handed us."""
        return Call(
            call_info(offer, self._house.config, self._clock.now()),
            self._leg,
            services=self._house.services,
            emit=self._house.emit,
            envs=self._house.config.documents.envs,
        )

    def _take_over(self, call: Call, offer: Offered) -> None:
        """A call that we dialled, and that is ours to run now that it was answered."""
        sip_data = offer.sip_data if call.info.type == "sip" else None
        call.info = replace(call.info, headers=offer.headers, sip_data=sip_data)
        call.leg = self._leg

    def _begin(self, call: Call, order: Order | None) -> None:
        leg = self._leg
        if order is None:
            call.to("created")
        if leg.answered:
            call.to("answered")
            call.limit(call.services.max_duration)
            if order is not None and order.send_digits:
                digits = order.send_digits
                leg.background(lambda: transmit(call, digits))

        def pressed(_: facts.Digit) -> None:
            call.interactions += 1

        leg.react(facts.Digit, pressed)

    def _converse(self, call: Call, offer: Offered, order: Order | None) -> None:
        """Find the document and run it; whatever happens, say how it ended and hang up."""
        outcome, cause = "error", _FAILED
        progress = _Progress(call, self._context)
        self._script = gevent.getcurrent()
        try:
            if self._leg.gone:
                raise LegGone
            if order is not None:
                source = order.document
            else:
                source = offer.swml_url or self._house.config.documents.choose(offer.destination_number)
            log.info("call_started", sender=call.info.from_, to=call.info.to, document=_shown(source))
            if not source:
                cause = _NO_DOCUMENT
                self._house.emit(CallRefused("no_document", self._clock.now()))
                log.error(
                    "no_document",
                    number=offer.destination_number,
                    hint="set swml_url in the dialplan, or documents.routes or documents.default",
                )
                return
            call.script = self
            self._follow(call, source, progress, order)
            outcome, cause = "finished", _DONE
        except LegGone:
            outcome = "hangup"
        except ScriptError as error:
            broken = error.code == "relay_script_internal_error" and error.__cause__
            if broken and not isinstance(broken, FsctlError):  # a bug of ours
                log.error("method_failed", exc_info=broken)
            call.warn(error.code, error.message, fatal=True, where=error.where)
        except FetchError as error:
            call.warn("relay_script_method_execute_failed", f"no document: {error}", fatal=True)
        except Exception:  # a bug of ours ends this call, and no other
            log.exception("call_failed")
            call.warn("relay_script_internal_error", "fsctl failed; its log says how", fatal=True)
        finally:
            self._script = call.script = None
            for name in ("method", "section", "index"):
                self._context.pop(name, None)
            self._house.emit(ScriptEnded(call.info, outcome, progress.steps, self._clock.now(), dict(call.vars)))
            if not self._leg.gone:
                call.to("ending")
                self._leg.hang_up(cause)

    def _follow(self, call: Call, source: str | Document, progress: _Progress, order: Order | None) -> None:
        """Run a document, and whatever somebody outside sends the call to before its first instruction."""
        method = order.method if order is not None else "POST"
        fallback = (order.fallback if order is not None else "") or self._house.config.documents.fallback
        while True:
            try:
                if isinstance(source, str):
                    source = self._load(call, source, self._house.params, method=method, fallback=fallback)
                self._interpret(call, source, progress)
                return
            except Interrupted as interruption:
                if not isinstance(interruption.flow, Transfer):
                    return
                source = interruption.flow.dest

    def _interpret(self, call: Call, document: Document, progress: _Progress) -> None:
        scope = Scope(call.scope, call.vars, call.envs, self._house.params, self._house.evaluate)
        Interpreter(
            document,
            self._house.methods,
            call,
            scope=scope,
            load=lambda dest, params, _kind: self._load(call, dest, params),
            limits=self._house.limits,
            observer=progress,
        ).run()

    def _load(
        self, call: Call, source: str, params: Mapping[str, Any], *, method: str = "POST", fallback: str = ""
    ) -> Document:
        return self._house.documents.load(
            source,
            payload=lambda: request_body(call.scope(), call.vars, call.envs, params),
            call=call.info,
            emit=self._house.emit,
            method=method,
            fallback=fallback,
        )

    # -- steered from outside ------------------------------------------------------------------------------------

    def compile(self, text: str | Mapping[str, Any]) -> Document:
        """Check a document (see ``fsctl.call.call.Script``)."""
        written = text if isinstance(text, str) else json.dumps(text)
        return self._house.documents.compile(written, name="inline")

    def redirect(self, dest: str | Document, *, method: str = "POST", fallback: str = "") -> None:
        """Leave what runs now (see ``fsctl.call.call.Script``)."""
        script, call = self._script, self._call
        if script is None or call is None or self._leg.gone:
            raise LegGone(self._leg.cause)
        if isinstance(dest, str):
            # Not here: who asks may be the very server that is to answer, and have one hand only.
            self._leg.background(lambda: self._fetch_and_go(script, call, dest, method, fallback))
        else:
            self._interrupt(script, dest)

    def _fetch_and_go(self, script: Any, call: Call, dest: str, method: str, fallback: str) -> None:
        try:
            document = self._load(call, dest, self._house.params, method=method, fallback=fallback)
        except (FetchError, ScriptError) as problem:
            message = f"the call was not redirected and goes on: {getattr(problem, 'message', problem)}"
            call.warn("relay_script_method_execute_failed", message, where=getattr(problem, "where", None))
            return
        self._interrupt(script, document)

    def _interrupt(self, script: Any, document: Document) -> None:
        gevent.get_hub().loop.run_callback(self._throw, script, Interrupted(Transfer(document)))

    def _throw(self, script: Any, interruption: Interrupted) -> None:
        # As in _unwind: in the hub, so the script is waiting somewhere, if it has not ended.
        if self._script is script and not self._leg.gone:
            script.throw(interruption)

    # -- the end -------------------------------------------------------------------------------------------------

    def _gone(self, cause: str) -> None:
        """Called by the leg's reader the moment the party or the socket is gone."""
        script = self._script
        if script is not None:
            gevent.get_hub().loop.run_callback(self._unwind, script, cause)

    def _unwind(self, script: Any, cause: str) -> None:
        # Runs in the hub, so the script is waiting somewhere; unless it ended in the meantime, that wait ends now.
        if self._script is script:
            script.throw(LegGone(cause))

    def _finish(self, call: Call) -> None:
        """Wait for FreeSWITCH's last word, close what is open, tell the end, and leave."""
        leg = self._leg
        call.unlimit()
        if not leg.wait_ended(self._house.config.event_socket.linger):
            log.warning("no_last_word", hint="FreeSWITCH did not report the end of the channel in time")
        for control in call.controls.running():
            if control.abandon is not None:
                control.abandon()
        if call.streams is not None:
            call.streams.close("hangup")
        ended = leg.ended or facts.Ended(leg.cause, "", None)
        if ended.answered and call.state in ("created", "ringing"):  # the party was gone before we heard of the answer
            call.to("answered")
        answered = bool(call.answer_time) or ended.answered
        direction = call.info.direction
        reason = causes.end_reason(ended.cause, direction=direction, answered=answered, disposition=ended.disposition)
        call.to(
            "ended",
            end_reason=reason,
            end_source=causes.end_source(ended.disposition, direction=direction),
            cause=ended.cause or None,
            audio_in_mos=ended.mos,
        )
        leg.close()
        log.info(
            "call_ended",
            reason=reason,
            cause=ended.cause or "unknown",
            seconds=round(self._clock.now() - call.start_time, 3),
        )


class _Progress:
    """Watches the interpreter for one call: what runs now, how it ended, how long it took."""

    def __init__(self, call: Call, context: dict[str, Any]) -> None:
        self._call = call
        self._context = context  # what the log puts on every line of this call
        self._started = 0.0
        self.steps = 0

    def starting(self, instruction: Instruction) -> None:
        """An instruction begins."""
        self._call.instruction = instruction
        where = instruction.where
        self._context.update(method=instruction.method.name, section=where.section, index=where.index)
        self.steps += 1
        self._started = monotonic()

    def finished(self, instruction: Instruction, outcome: str, problem: BaseException | None) -> None:
        """An instruction ended."""
        call = self._call
        where = instruction.where
        if isinstance(problem, CommandFailed):
            call.warn("relay_script_method_execute_failed", str(problem), where=where)
        call.emit(
            MethodFinished(
                call.info,
                instruction.method.name,
                where.section,
                where.text,
                outcome,
                monotonic() - self._started,
                call.clock.now(),
            )
        )

    def warning(self, code: str, message: str, instruction: Instruction) -> None:
        """An instruction went wrong without ending the script."""
        self._call.warn(code, message, where=instruction.where)


def _shown(source: str | Document) -> str:
    """A document's name without its credentials and its query, which may hold a token."""
    if not isinstance(source, str):
        return "inline"
    return redact(source) if "://" in source else source


def call_info(offer: Offered, config: Config, now: float) -> CallInfo:
    """Who the call is (reference: swml-calling 2.2, 6.3)."""
    call_type = offer.call_type
    if call_type not in ("sip", "phone", "webrtc"):
        if offer.transport in ("ws", "wss") or offer.profile.startswith("verto"):
            call_type = "webrtc"
        elif {offer.gateway, offer.profile} & set(config.calls.phone_gateways):
            call_type = "phone"
        else:
            call_type = "sip"
    phone = call_type == "phone"
    return CallInfo(
        call_id=offer.uuid,
        node_id=config.project.node_id or offer.node,
        segment_id=offer.uuid,
        direction=offer.direction,
        type=call_type,
        from_=offer.caller_number if phone else offer.from_uri or offer.caller_number,
        to=offer.destination_number if phone else offer.to_uri or offer.destination_number,
        from_number=offer.caller_number,
        to_number=offer.destination_number,
        project_id=config.project.project_id,
        space_id=config.project.space_id,
        session_id=offer.uuid,
        headers=offer.headers,
        sip_data=offer.sip_data if call_type == "sip" else None,
        created_at=now,
    )
