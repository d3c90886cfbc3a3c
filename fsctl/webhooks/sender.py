"""Brings events to customers' servers: in order per call and URL, bounded, retried, given up loudly.

::

    event ──▶ lane (call, URL) ──▶ host ──▶ one of at most ``concurrency`` workers ──▶ the customer's server

A lane holds what one call has to tell one URL; only its head is ever sent, so order is kept. Lanes with work queue at
their host, hosts with work queue for a worker, and a worker takes one attempt at a time: no call and no receiver,
however slow, keeps the others waiting. Between two attempts a lane holds no worker, only a timer.

When a bound is reached the *newest* webhook is dropped: the ones before it tell the receiver more about a call than a
gap in the middle would. Calls are never held up, whatever happens here.
"""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

import gevent
import structlog
from gevent.event import Event
from gevent.pool import Group

from fsctl import log as logs
from fsctl.call.events import Callback, CallStateChanged, ControlChanged, ScriptWarning, UserEvent
from fsctl.errors import FetchError
from fsctl.signature import sign, sign_form_body
from fsctl.web import Timeouts, redact, timeouts_of, with_query
from fsctl.webhooks.outbox import Delivery, MemoryOutbox
from fsctl.webhooks.payloads import compat, event_type, form_body, form_query, payload, query, serialise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.call.events import CallEvent, Form
    from fsctl.clock import Clock
    from fsctl.config import Webhooks
    from fsctl.webhooks.outbox import Outbox, Outcome

__all__ = ["Sender"]

log = structlog.get_logger(__name__)

# Reasons of a FetchError that no later attempt can change: we did not even try to reach the receiver.
FINAL_REASONS: Final = frozenset({"address", "scheme", "malformed"})
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0

CONTENT_TYPES: Final[Mapping[Form, str]] = {"json": "application/json", "compat": "application/x-www-form-urlencoded"}
QUERIES: Final[Mapping[Form, Callable[[Any], str]]] = {"json": query, "compat": form_query}
BODIES: Final[Mapping[Form, Callable[[Any], bytes]]] = {"json": serialise, "compat": form_body}
SCHEMES: Final[Mapping[Form, Callable[[str, str, bytes], dict[str, str]]]] = {"json": sign, "compat": sign_form_body}


class WebClient(Protocol):
    """The part of :class:`fsctl.web.Client` that webhooks need."""

    def wire_url(self, url: str) -> str:
        """The URL as its server sees it, which is what is signed. Raises FetchError."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
        *,
        received: Callable[[Mapping[str, str]], None] | None = None,
    ) -> int:
        """Send one request and return its status; ``received`` gets the answer's headers. Raises FetchError."""


def host_of(url: str) -> str:
    """Scheme, host and port of ``url``: what shares the bound on requests to one host."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}"
    except ValueError:  # the client will refuse it; until then it is a host of its own
        return redact(url)


def _way(default: Timeouts, url: str) -> tuple[str, Timeouts]:
    """What is the same for every webhook to ``url``: its host, and the timeouts, no step longer than the whole."""
    connect, read, total = timeouts_of(url, default)
    return host_of(url), Timeouts(min(connect, total), min(read, total), total)


def retry_after(header: str | None) -> float:
    """Seconds a ``Retry-After`` header asks for, as a number or a date; 0.0 when there is none that can be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def pause(attempt: int) -> float:
    """Seconds to wait after the ``attempt``-th failed one: doubling, and spread so that lanes do not move in step."""
    longest: float = min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE)
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 -- no secret


# -- lanes and hosts --------------------------------------------------------------------------------------------------


class _Lane:
    """What one call has to tell one URL, oldest first, and how far the head of it got."""

    __slots__ = ("attempts", "deadline", "host", "key", "queue", "timeouts")

    def __init__(self, key: tuple[str, str], host: _Host, timeouts: Timeouts) -> None:
        self.key = key
        self.host = host
        self.timeouts = timeouts
        self.queue: deque[Delivery] = deque()
        self.attempts = 0
        self.deadline = 0.0  # of the head, on the monotonic clock; set by its first attempt


class _Host:
    """The lanes of one server that have something to send now, and how many workers are at it."""

    __slots__ = ("active", "lanes", "name", "queued", "ready")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lanes = 0
        self.active = 0
        self.queued = False
        self.ready: deque[_Lane] = deque()


@dataclass(slots=True)
class _Verdict:
    """What one attempt came to: an outcome, or None for "try again", not before ``after`` seconds."""

    outcome: Outcome | None
    reason: str
    status: int | None = None
    after: float = 0.0


_DELIVERED: Final = _Verdict("delivered", "status")


def _callback(url: str) -> Callback | None:
    return Callback(url) if url else None


class _Complaints:
    """Keeps a flood of dropped webhooks from becoming a flood of log lines: one a second for each cause."""

    def __init__(self) -> None:
        self._since: Counter[str] = Counter()
        self._last: dict[str, float] = {}

    def due(self, why: str) -> int:
        """Count one more; returns how many to report now, 0 for "not yet"."""
        self._since[why] += 1
        now = time.monotonic()
        if why in self._last and now - self._last[why] < 1.0:
            return 0
        self._last[why] = now
        return self._since.pop(why)


# -- the sender -------------------------------------------------------------------------------------------------------


def _nobody(_event_type: str, _outcome: Outcome, _seconds: float) -> None:
    """Stand in for an observer of outcomes where none is given."""


class Sender:
    """An observer that delivers what events have to tell customers.

    ``on_outcome(event_type, outcome, seconds)`` hears what became of each webhook and how long that took from the event
    on. ``pause`` gives the seconds between attempts. What an ``outbox`` still holds from before is taken up by
    :meth:`recover`. Retries and timeouts hold per webhook; its URL's fragment may override the timeouts.
    """

    def __init__(
        self,
        client: WebClient,
        *,
        settings: Webhooks,
        signing_key: str,
        clock: Clock,
        outbox: Outbox | None = None,
        on_outcome: Callable[[str, Outcome, float], None] = _nobody,
        pause: Callable[[int], float] = pause,
    ) -> None:
        self._client = client
        self._settings = settings
        self._signing_key = signing_key
        self._clock = clock
        self._outbox = MemoryOutbox() if outbox is None else outbox
        self._on_outcome = on_outcome
        self._pause = pause
        timeouts = Timeouts(settings.connect_timeout, settings.read_timeout, settings.total_timeout)
        self._way = lru_cache(maxsize=4096)(partial(_way, timeouts))
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._hosts: dict[str, _Host] = {}
        self._waiting: deque[_Host] = deque()  # hosts with a ready lane and a free place
        self._workers = Group()
        # Workers with nothing to do, by what wakes them; a new one costs more than a message.
        self._resting: list[Callable[[], Any]] = []
        self._hub = gevent.get_hub()
        self._timers: set[gevent.Greenlet] = set()
        self._backlog = 0
        self._idle = Event()
        self._idle.set()
        self._name = f"evt_{secrets.token_hex(8)}"  # of this process, so that a counter makes its ids unique
        self._numbers = itertools.count(1)
        self._complaints = _Complaints()
        self._state_callback = _callback(settings.call_state_url)
        self._states = frozenset(settings.call_state_events)
        # Most events are none of the customers' business: these are looked at.
        self.reactions: dict[type, Callable[[Any], None]] = {
            CallStateChanged: self._state_changed,
            ControlChanged: self._control_changed,
        }
        for kind, url in ((ScriptWarning, settings.script_warning_url), (UserEvent, settings.user_event_url)):
            if url:
                self.reactions[kind] = partial(self._tell_about, callback=Callback(url))

    @property
    def backlog(self) -> int:
        """Webhooks accepted and neither delivered nor given up."""
        return self._backlog

    def __call__(self, event: CallEvent) -> None:
        """Accept what ``event`` has to tell; returns at once and never raises."""
        teller = self.reactions.get(type(event))
        if teller is not None:
            teller(event)

    def recover(self) -> int:
        """Take up what the outbox holds from before; once, at the start. Returns how many webhooks that is."""
        return sum(self._accept(delivery) for delivery in self._outbox.pending())

    def drain(self, timeout: float) -> int:
        """Wait until everything is sent or ``timeout`` seconds have passed; returns how many are left, and says so."""
        self._idle.wait(timeout)
        if self._backlog:
            by_host = Counter({host.name: 0 for host in self._hosts.values()})
            for lane in self._lanes.values():
                by_host[lane.host.name] += len(lane.queue)
            log.warning("webhooks_left", left=self._backlog, hosts=dict(by_host.most_common(10)))
        return self._backlog

    def close(self) -> None:
        """Stop at once: attempts under way are cut off; what is left stays in the outbox."""
        gevent.killall([*self._timers])
        self._workers.kill()
        self._resting.clear()

    # -- in --

    def _control_changed(self, event: ControlChanged) -> None:
        callback = event.callback
        if callback is not None and callback.url:
            self._tell_about(event, callback)

    def _state_changed(self, event: CallStateChanged) -> None:
        callback = self._state_callback if event.state in self._states else None
        if callback is not None:
            self._tell_about(event, callback)
        for watcher in event.watchers:
            # The same URL twice hears it once.
            if event.state in watcher.states and watcher.callback != callback:
                self._tell_about(event, watcher.callback)

    def _tell_about(self, event: CallEvent, callback: Callback) -> None:
        try:
            delivery = self._delivery(event, callback)
        except Exception:
            # An object of a customer's that is no JSON (user_event), or a fault of ours; either way the call goes on.
            log.exception("webhook_dropped", why="it cannot be written as JSON", url=redact(callback.url))
            self._tell(event_type(event) or "", "dropped", 0.0)
            return
        if self._accept(delivery):
            self._outbox.put(delivery)

    def _delivery(self, event: Any, callback: Callback) -> Delivery:
        form = callback.form
        told: Any
        if form == "compat":
            told, kind = compat(event), event_type(event) or ""
        else:
            told = payload(event)
            kind = told["event_type"]
        get = callback.method.upper() == "GET"
        return Delivery(
            f"{self._name}{next(self._numbers):016x}",
            event.call.call_id,
            kind,
            "GET" if get else "POST",
            callback.url,
            QUERIES[form](told) if get else "",
            b"" if get else BODIES[form](told),
            self._clock.now(),
            form,
        )

    def _accept(self, delivery: Delivery) -> bool:
        """Put ``delivery`` in its lane; False when there is no room for it."""
        url = delivery.url
        key = (delivery.call_id, url)
        lane = self._lanes.get(key)
        if self._backlog >= self._settings.max_pending:
            return self._drop(delivery, "too many webhooks are waiting (webhooks.max_pending)")
        if lane is not None and len(lane.queue) >= self._settings.max_pending_per_lane:
            return self._drop(delivery, "its call and URL have too many waiting (webhooks.max_pending_per_lane)")
        self._backlog += 1
        self._idle.clear()
        if lane is not None:
            lane.queue.append(delivery)
            return True
        name, timeouts = self._way(url)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = _Host(name)
        host.lanes += 1
        lane = self._lanes[key] = _Lane(key, host, timeouts)
        lane.queue.append(delivery)
        self._ready(lane)
        return True

    def _drop(self, delivery: Delivery, why: str) -> bool:
        self._tell(delivery.event_type, "dropped", 0.0)
        if more := self._complaints.due(why):
            log.error(
                "webhook_dropped",
                why=why,
                dropped=more,
                call_id=delivery.call_id,
                event_type=delivery.event_type,
                url=redact(delivery.url),
                waiting=self._backlog,
            )
        return False

    # -- who is next --

    def _ready(self, lane: _Lane) -> None:
        """Queue ``lane`` at its host, and see to it that a worker comes by."""
        host = lane.host
        host.ready.append(lane)
        if host.active >= self._settings.concurrency_per_host:
            return  # who is at it now goes on
        self._offer(host)
        if self._resting:
            self._hub.loop.run_callback(self._resting.pop())
        elif len(self._workers) < self._settings.concurrency:
            self._workers.spawn(self._work)

    def _offer(self, host: _Host) -> None:
        """Queue ``host``, which has a ready lane, for a worker: once, and when it has a free place."""
        if not host.queued and host.active < self._settings.concurrency_per_host:
            host.queued = True
            self._waiting.append(host)

    def _work(self) -> None:
        """Take the next lane of the next host, in turn, and rest when there is none."""
        wake = gevent.getcurrent().switch
        while True:
            while self._waiting:
                host = self._waiting.popleft()
                lane = host.ready.popleft()
                host.queued = False
                host.active += 1
                if host.ready:
                    self._offer(host)
                try:
                    verdict = self._attempt(lane)
                finally:
                    host.active -= 1
                if verdict.outcome is None:
                    self._later(lane, verdict.after)
                else:
                    self._settle(lane, verdict)
                if host.ready:
                    self._offer(host)
            self._resting.append(wake)
            self._hub.switch()

    def _later(self, lane: _Lane, seconds: float) -> None:
        timer = gevent.spawn_later(seconds, self._ready, lane)
        self._timers.add(timer)
        timer.link(self._timers.discard)

    # -- out --

    def _attempt(self, lane: _Lane) -> _Verdict:
        """Send the head of ``lane`` once, within what is left of its time."""
        delivery, timeouts = lane.queue[0], lane.timeouts
        now = time.monotonic()
        if not lane.attempts:
            lane.deadline = now + timeouts.total
        elif (left := lane.deadline - now) > 0:
            timeouts = Timeouts(min(timeouts.connect, left), min(timeouts.read, left), left)
        else:
            return _Verdict("failed", "timeout")
        lane.attempts += 1
        url = with_query(delivery.url, delivery.query) if delivery.query else delivery.url
        answers: list[Mapping[str, str]] = []
        try:
            status = self._client.send(
                delivery.method,
                url,
                self._headers(delivery, url),
                delivery.body or None,
                timeouts,
                received=answers.append,
            )
        except FetchError as error:
            return self._judge(lane, error.reason, error.status)
        except Exception:
            log.exception("webhook_attempt_broke", event_id=delivery.id, call_id=delivery.call_id)
            return self._judge(lane, "error", None)
        if 200 <= status < 300:
            return _DELIVERED
        asked = answers[0].get("Retry-After") if answers else None
        return self._judge(lane, "status", status, retry_after(asked))

    def _judge(self, lane: _Lane, reason: str, status: int | None, asked: float = 0.0) -> _Verdict:
        """Tell what a failed attempt came to: not wanted, hopeless, or worth another in the time that is left."""
        if status == 410:
            return _Verdict("gone", reason, status)
        if reason in FINAL_REASONS:
            return _Verdict("refused", reason, status)
        after = max(self._pause(lane.attempts), asked)
        if lane.attempts > self._settings.retries or time.monotonic() + after >= lane.deadline:
            return _Verdict("failed", reason, status)
        return _Verdict(None, reason, status, after)

    def _headers(self, delivery: Delivery, url: str) -> dict[str, str]:
        headers = {"webhook-id": delivery.id, "webhook-timestamp": str(int(delivery.at))}
        if delivery.body:
            headers["Content-Type"] = CONTENT_TYPES[delivery.form]
        if self._signing_key:
            headers |= SCHEMES[delivery.form](self._signing_key, self._client.wire_url(url), delivery.body)
        return headers

    def _settle(self, lane: _Lane, verdict: _Verdict) -> None:
        """Report the head of ``lane`` and go on to the next, if there is one."""
        delivery, attempts = lane.queue.popleft(), lane.attempts
        lane.attempts = 0
        self._backlog -= 1
        if lane.queue:
            lane.host.ready.append(lane)
        else:
            self._forget(lane)
        if not self._backlog:
            self._idle.set()
        outcome = verdict.outcome or "failed"
        self._tell(delivery.event_type, outcome, max(0.0, self._clock.now() - delivery.at))
        if outcome == "delivered":
            self._outbox.done(delivery.id)
            if logs.debugging():
                kind = delivery.event_type
                log.debug("webhook_delivered", call_id=delivery.call_id, event_type=kind, attempts=attempts)
            return
        self._outbox.failed(delivery.id, outcome)
        log.warning(
            "webhook_given_up",
            outcome=outcome,
            call_id=delivery.call_id,
            event_id=delivery.id,
            event_type=delivery.event_type,
            url=redact(delivery.url),
            attempts=attempts,
            reason=verdict.reason,
            status=verdict.status,
        )

    def _tell(self, kind: str, outcome: Outcome, seconds: float) -> None:
        try:
            self._on_outcome(kind, outcome, seconds)
        except Exception:
            log.exception("webhook_observer_failed", event_type=kind, outcome=outcome)

    def _forget(self, lane: _Lane) -> None:
        del self._lanes[lane.key]
        lane.host.lanes -= 1
        if not lane.host.lanes:
            del self._hosts[lane.host.name]
