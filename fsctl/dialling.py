"""Calls that fsctl dials: from the order to the moment the answered call's document runs.

Responsible for the queue and its pace, for who a destination is, for what FreeSWITCH is asked to originate, and for the
states of a call until it is answered: then FreeSWITCH connects to us as for any call, and the session goes on with the
same :class:`~fsctl.call.call.Call`. Knows no HTTP. Implements calling-api, sections 3.1, 5.1 and 5.2.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.event import Event

from fsctl.call.call import Call
from fsctl.call.events import CallInfo
from fsctl.errors import ApiError, CommandFailed, LegGone, SwitchDown
from fsctl.freeswitch import causes, commands, facts
from fsctl.identity import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.calls import Calls
    from fsctl.call.events import CallEvent, Watcher
    from fsctl.call.services import Services
    from fsctl.config import Config
    from fsctl.esl.switch import SwitchLink
    from fsctl.freeswitch.commands import Api
    from fsctl.swml.document import Document
    from fsctl.web import Policy

__all__ = ["Destination", "Dialler", "Order", "destination"]

log = structlog.get_logger(__name__)

_NUMBER = re.compile(r"\+?[0-9A-D*#]{1,32}")
_SIP = re.compile(r"(sips?):(?:([^@;?\s]{1,128})@)?([^@;?\s]{1,255})((?:;[^?\s]{1,512})?)", re.IGNORECASE)
_PARAMETERS = {"transport": re.compile(r"udp|tcp|tls|ws|wss", re.IGNORECASE), "codecs": re.compile(r"[A-Za-z0-9@,.]+")}
_GRACE = 10.0  # FreeSWITCH counts the ringing in whole seconds, and tells a little later
_CONNECT_SECONDS = 10.0  # from the answer until FreeSWITCH has handed the call to us
_LAST_WORD_SECONDS = 1.0  # from FreeSWITCH's giving up until the channel's end, which is due in the same moment


@dataclass(frozen=True, slots=True)
class Destination:
    """Who to dial: FreeSWITCH's endpoint, what the customer calls it, and the codecs its URI asks for."""

    endpoint: str = field(repr=False)
    type: str
    to: str
    number: str
    caller_id: str = ""
    codecs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call to make. ``document`` is a URL or a checked document; ``ring_seconds`` how long it may ring."""

    to: str
    from_: str
    document: str | Document = field(repr=False)
    method: str = "POST"
    fallback: str = field(default="", repr=False)
    ring_seconds: int | None = None
    caller_id: str = ""
    codecs: str = ""
    send_digits: str = ""
    envs: Mapping[str, str] = field(default_factory=dict, repr=False)
    watchers: tuple[Watcher, ...] = ()
    username: str = ""
    password: str = field(default="", repr=False)
    max_price: float | None = None


def destination(to: str, config: Config, policy: Policy, max_price: float | None = None) -> Destination:
    """Find out where ``to`` is: a number by the routes, a SIP URI, a registered user. Raises ApiError."""
    if match := _SIP.fullmatch(to):
        return _sip(to, match, config, policy)
    if to.lower().startswith(("verto:", "client:")) or "/" in to:
        raise _wrong("feature_not_available", f"{to[:80]!r}: fsctl dials numbers, SIP URIs and registered users")
    if not _NUMBER.fullmatch(to):
        raise _wrong("invalid_destination_number", f"{to[:80]!r} is neither a number nor a SIP URI")
    dear = False
    for route in config.dial.routes:
        if found := route.number.fullmatch(to):
            if max_price is not None and route.price > max_price:
                dear = True
                continue
            return Destination(route.fill(found), "phone", to, to, route.caller_id)
    if dear:
        raise _wrong("billing_route_not_found", f"every route to {to} costs more than max_price_per_minute")
    raise _wrong("not_routable", f"no route of dial.routes takes {to}")


def _sip(to: str, match: re.Match[str], config: Config, policy: Policy) -> Destination:
    scheme, user, place, rest = match.groups()
    parameters = _parameters(rest)
    host, _, port = place.rpartition(":") if re.search(r":\d{1,5}$", place) else (place, "", "")
    try:
        if host.lower() in {domain.lower() for domain in config.dial.user_domains}:
            return Destination(
                commands.registered(user or "", host), "sip", to, user or "", codecs=parameters.get("codecs", "")
            )
        _admit(host.strip("[]"), config, policy)
        transport = parameters.get("transport", "tls" if scheme.lower() == "sips" else "")
        endpoint = commands.sip(
            config.dial.sip_profile, user or "", host, port=int(port) if port else None, transport=transport.lower()
        )
    except ValueError as problem:
        raise _wrong("invalid_sip_destination", f"{to[:80]!r} cannot be dialled: {problem}") from None
    return Destination(endpoint, "sip", to, user or host, codecs=parameters.get("codecs", ""))


def _parameters(rest: str) -> dict[str, str]:
    """The URI parameters that mean something to us. Raises ApiError for one that does not fit."""
    found = {}
    for part in rest.split(";")[1:]:
        name, _, value = part.partition("=")
        pattern = _PARAMETERS.get(name.lower())
        if pattern is None:
            continue
        if not pattern.fullmatch(value):
            raise _wrong("invalid_sip_destination", f"the URI's {name.lower()} is not one")
        found[name.lower()] = value
    return found


def _admit(host: str, config: Config, policy: Policy) -> None:
    """Refuse hosts that are not for customers. FreeSWITCH resolves names itself, so only addresses are judged."""
    allowed = {name.lower() for name in config.dial.sip_hosts}
    if host.lower() in allowed:
        return
    if allowed:
        raise _wrong("uri_does_not_resolve_to_address", f"{host[:80]} is not among dial.sip_hosts")
    try:
        private = not policy.allows(str(ipaddress.ip_address(host)))
    except ValueError:
        private = host.lower() == "localhost" or host.lower().endswith((".local", ".localhost", ".internal"))
    if private:
        problem = f"{host[:80]} is a private address; name it in dial.sip_hosts or network.allow_private to allow it"
        raise _wrong("uri_does_not_resolve_to_address", problem)


def _wrong(code: str, message: str, attribute: str = "to") -> ApiError:
    return ApiError(422, code, message, attribute=attribute)


class _Ringing:
    """The leg of a call that nobody has answered yet: it can be given up, and nothing else."""

    answered = False

    def __init__(self, uuid: str, give_up: Callable[[str], None]) -> None:
        self.uuid = uuid
        self.gone = False
        self._give_up = give_up

    def hang_up(self, cause: str) -> None:
        """Dial no longer."""
        if not self.gone:
            self._give_up(cause)

    def __getattr__(self, name: str) -> Any:
        raise CommandFailed(name, "the call is not answered yet")


@dataclass(slots=True, eq=False)
class _Dialled:
    """An order on its way."""

    call: Call
    order: Order
    destination: Destination
    leg: _Ringing
    api: Api
    queued: bool = True
    cause: str = ""  # why it is being given up
    unwatch: Callable[[], None] | None = None
    over: Event = field(default_factory=Event)


class Dialler:
    """Makes calls, ``calls_per_second`` of them, over ``link``; answered ones arrive at ``target`` (host, port)."""

    def __init__(
        self,
        link: SwitchLink | None,
        *,
        config: Config,
        policy: Policy,
        calls: Calls,
        services: Services,
        emit: Callable[[CallEvent], None],
        target: Callable[[], tuple[str, int]],
    ) -> None:
        self._link = link
        self._config = config
        self._policy = policy
        self._calls = calls
        self._services = services
        self._emit = emit
        self._target = target
        self._queue: deque[_Dialled] = deque()
        self._dialled: dict[str, _Dialled] = {}
        self._missed: dict[str, float] = {}  # calls that were over before they were handed to us, and when
        self._more = Event()
        self._pacer: gevent.Greenlet | None = None
        self._open = True

    # -- orders ----------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Calls in the queue."""
        return len(self._queue)

    def __len__(self) -> int:
        return len(self._dialled)

    def dial(self, order: Order) -> Call:
        """Take an order; the call is ``queued`` now and dialled when its turn comes. Raises ApiError."""
        if self._link is None:
            raise ApiError(422, "feature_not_available", "this fsctl dials no calls: freeswitch.event_socket is empty")
        if not self._open:
            raise ApiError(503, "service_unavailable", "fsctl is stopping", headers={"Retry-After": "30"})
        if not self._link.connected:
            raise ApiError(
                503,
                "service_unavailable",
                f"FreeSWITCH cannot be reached: {self._link.problem or 'not connected yet'}",
                headers={"Retry-After": "5"},
            )
        where = destination(order.to, self._config, self._policy, order.max_price)
        if len(self._queue) >= self._config.dial.max_queued:
            raise ApiError(
                422, "max_queued_calls_exceeded", f"{len(self._queue)} calls are waiting already (dial.max_queued)"
            )
        call_id = new_id()
        dialled = self._new(call_id, order, where)
        self._dialled[call_id] = dialled
        self._calls.add(dialled.call)
        dialled.call.to("queued")
        self._queue.append(dialled)
        if self._pacer is None:
            self._pacer = gevent.spawn(self._pace)
        self._more.set()
        return dialled.call

    def _new(self, call_id: str, order: Order, where: Destination) -> _Dialled:
        project = self._config.project
        leg = _Ringing(call_id, lambda cause: self._give_up(call_id, cause))
        seconds = order.ring_seconds or self._config.dial.timeout
        try:
            api = commands.originate(call_id, where.endpoint, self._variables(order, where), self._target(), seconds)
        except ValueError as problem:
            raise _wrong("invalid_parameter", f"the call cannot be dialled: {problem}") from None
        call = Call(
            CallInfo(
                call_id=call_id,
                node_id=project.node_id,
                segment_id=call_id,
                direction="outbound",
                type=where.type,
                from_=order.from_,
                to=where.to,
                from_number=order.from_,
                to_number=where.number,
                project_id=project.project_id,
                space_id=project.space_id,
                session_id=call_id,
                created_at=self._services.clock.now(),
            ),
            leg,
            services=self._services,
            emit=self._emit,
            envs={**self._config.documents.envs, **order.envs},
        )
        call.watchers = order.watchers
        return _Dialled(call, order, where, leg, api)

    def adopt(self, call_id: str) -> tuple[Call, Order] | None:
        """Hand the answered call over to its session: from now on that sees to its end.

        Raises LegGone for one that ended, or was given up, in this very moment: its end is told from here.
        """
        dialled = self._dialled.get(call_id)
        if dialled is None:
            if call_id in self._missed:
                raise LegGone
            return None
        if dialled.cause:
            raise LegGone(dialled.cause)
        del self._dialled[call_id]
        dialled.leg.gone = True
        if dialled.unwatch is not None:
            dialled.unwatch()
        dialled.over.set()
        return dialled.call, dialled.order

    # -- dialling --------------------------------------------------------------------------------------------------

    def _pace(self) -> None:
        """Begin the calls of the queue, no faster than allowed."""
        pause = 1.0 / self._config.dial.calls_per_second
        due = monotonic()
        while True:
            while not self._queue:
                self._more.clear()
                self._more.wait()
            now = monotonic()
            if now < due:
                gevent.sleep(due - now)
                continue
            if self._queue:
                due = max(due, now - 1.0) + pause  # what was not used lately may be caught up with, for a second
                dialled = self._queue.popleft()
                dialled.queued = False
                gevent.spawn(self._originate, dialled)

    def _originate(self, dialled: _Dialled) -> None:
        call, order, link = dialled.call, dialled.order, self._link
        assert link is not None
        if dialled.leg.gone:
            return
        seconds = order.ring_seconds or self._config.dial.timeout
        try:
            call.to("initiated")
            dialled.unwatch = link.watch(call.info.call_id, lambda fact: self._heard(dialled, fact))
            link.job(dialled.api, seconds + _GRACE)
        except CommandFailed as refused:
            self._failed(dialled, refused.reply)
        except SwitchDown as problem:
            # FreeSWITCH may be dialling all the same: the next connection finds out, or the call comes to us.
            log.warning("dialling_out_of_sight", call_id=call.info.call_id, problem=str(problem))
            self._await(dialled, seconds + _GRACE, "dialling_lost")
        except Exception:  # a bug of ours ends this call, and no other
            log.exception("dialling_failed", call_id=call.info.call_id)
            self._end(dialled, facts.Ended("NORMAL_TEMPORARY_FAILURE", "", None))
        else:
            self._await(dialled, _CONNECT_SECONDS, "answered_call_not_handed_over")

    def _await(self, dialled: _Dialled, seconds: float, complaint: str) -> None:
        """Wait until the call is somebody else's, or over; not for ever."""
        if dialled.over.wait(seconds):
            return
        call_id = dialled.call.info.call_id
        log.error(complaint, call_id=call_id, hint="can FreeSWITCH reach event_socket.listen?")
        self._look_for(dialled, restarted=False)
        if dialled.over.is_set():
            return
        self._kill(call_id, "NORMAL_TEMPORARY_FAILURE")
        if not dialled.over.wait(_GRACE):
            self._end(dialled, facts.Ended("NORMAL_TEMPORARY_FAILURE", "", None))

    def _variables(self, order: Order, where: Destination) -> dict[str, str]:
        caller = order.caller_id or where.caller_id or order.from_
        variables = {
            "origination_caller_id_number": _caller_number(caller),
            "origination_caller_id_name": _caller_number(caller),
            "ignore_early_media": "true",
            "playback_terminators": "none",
        }
        if self._config.calls.send_silence:
            variables["send_silence_when_idle"] = "-1"
        if codecs := where.codecs or order.codecs:
            variables["absolute_codec_string"] = codecs
        if order.username:
            variables |= commands.credentials(order.username, order.password)
        return variables

    # -- what becomes of it ----------------------------------------------------------------------------------------

    def _heard(self, dialled: _Dialled, fact: facts.Fact) -> None:
        call = dialled.call
        if dialled.leg.gone:
            return
        if isinstance(fact, facts.Created):
            if call.state == "initiated":
                call.to("created")
        elif isinstance(fact, facts.Ringing):
            if call.state in ("initiated", "created"):
                call.to("ringing")
        elif isinstance(fact, facts.Ended):
            self._end(dialled, fact)

    def _failed(self, dialled: _Dialled, reply: str) -> None:
        """FreeSWITCH could not originate. Its word is the cause; if there was a channel, the end of that says more."""
        if dialled.call.state != "initiated" and dialled.over.wait(_LAST_WORD_SECONDS):
            return
        cause = reply.removeprefix("-ERR").strip().split(" ", 1)[0]
        call_id = dialled.call.info.call_id
        if re.fullmatch(r"[A-Z0-9_]+", cause):
            log.info("call_not_answered", call_id=call_id, cause=cause)
        else:
            log.error("cannot_dial", call_id=call_id, reply=reply[:200])
            cause = "NORMAL_TEMPORARY_FAILURE"
        self._end(dialled, facts.Ended(cause, "", None))

    def _give_up(self, call_id: str, cause: str) -> None:
        dialled = self._dialled.get(call_id)
        if dialled is None:
            return
        dialled.cause = cause
        if dialled.queued:
            self._queue.remove(dialled)
            self._end(dialled, facts.Ended(cause, "", None))
        else:
            self._kill(call_id, cause)

    def _kill(self, call_id: str, cause: str) -> None:
        assert self._link is not None
        self._link.tell(commands.hang_up(call_id, cause))

    def _end(self, dialled: _Dialled, ended: facts.Ended) -> None:
        """The call is over without ever having been ours to run."""
        call_id = dialled.call.info.call_id
        if self._dialled.get(call_id) is not dialled:
            return
        del self._dialled[call_id]
        self._miss(call_id)
        dialled.leg.gone = True
        if dialled.unwatch is not None:
            dialled.unwatch()
        cause = dialled.cause or ended.cause
        reason = causes.end_reason(cause, direction="outbound", answered=ended.answered, disposition=ended.disposition)
        call = dialled.call
        if ended.answered and not dialled.cause:  # and hung up before we were handed it
            call.to("answered")
        call.to(
            "ended",
            end_reason=reason,
            end_source=causes.end_source(ended.disposition, direction="outbound"),
            cause=cause or None,
        )
        self._calls.remove(call)
        dialled.over.set()

    def _miss(self, call_id: str) -> None:
        """Note a call that may still be handed to us although it is over, and forget those that no longer can."""
        now = monotonic()
        self._missed[call_id] = now
        while (oldest := next(iter(self._missed))) and self._missed[oldest] < now - _CONNECT_SECONDS:
            del self._missed[oldest]

    # -- FreeSWITCH comes and goes -----------------------------------------------------------------------------------

    def reconnected(self, restarted: bool) -> None:
        """The link is up again: calls that FreeSWITCH lost in the meantime are over."""
        for dialled in [each for each in self._dialled.values() if not each.queued]:
            gevent.spawn(self._look_for, dialled, restarted=restarted)

    def _look_for(self, dialled: _Dialled, *, restarted: bool) -> None:
        """End a call that FreeSWITCH does not have."""
        assert self._link is not None
        try:
            lost = restarted or self._link.ask(commands.exists(dialled.call.info.call_id)).strip() == "false"
        except (CommandFailed, SwitchDown, LegGone):
            return  # the next connection asks again
        if lost:
            self._end(dialled, facts.Ended("NORMAL_TEMPORARY_FAILURE", "", None))

    def drain(self) -> None:
        """Take no more orders; what waits in the queue is cancelled."""
        self._open = False
        for dialled in list(self._queue):
            dialled.leg.hang_up("ORIGINATOR_CANCEL")

    def close(self) -> None:
        """Give up what rings, and stop."""
        self.drain()
        for dialled in list(self._dialled.values()):
            dialled.leg.hang_up("ORIGINATOR_CANCEL")
            self._end(dialled, facts.Ended("ORIGINATOR_CANCEL", "", None))
        if self._pacer is not None:
            self._pacer.kill()


def _caller_number(text: str) -> str:
    """What of a caller id FreeSWITCH shall show as the number: the user of a URI."""
    match = _SIP.fullmatch(text)
    return (match[2] or match[3]) if match else text
