"""Every metric of the program: definitions, updates from events, live gauges, exposition.

:class:`Metrics` is an observer of the bus; what is no event of a call is told through the ``observe_…`` methods. Label
values come from closed sets only: a word outside its set counts as ``other``, so no customer, caller or document can
make a new series. All series exist from the start, so that a first failure is an increase and not an appearance.

Nothing else in the program names a metric. Names are ``fsctl_*`` with base units; how many of something live right now
is read when somebody asks, never counted up and down.
"""

from __future__ import annotations

import platform
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from fsctl import __version__
from fsctl.call.events import (
    CallRefused,
    CallStateChanged,
    ControlChanged,
    DocumentFetched,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
)
from fsctl.call.states import CONTROLS
from fsctl.freeswitch.causes import END_REASONS
from fsctl.tally import Spread, Tally, Traffic
from fsctl.webhooks.outbox import OUTCOMES
from fsctl.webhooks.payloads import EVENT_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from fsctl.call.events import CallEvent

__all__ = ["Metrics"]

log = structlog.get_logger(__name__)

OTHER: Final = "other"

DIRECTIONS: Final = ("inbound", "outbound")
REFUSALS: Final = ("capacity", "draining", "handshake", "no_document")
SCRIPT_OUTCOMES: Final = ("finished", "error", "hangup", "stopped")
METHOD_OUTCOMES: Final = ("ok", "failed", "error", "hangup")
DOCUMENT_SOURCES: Final = ("url", "file", "inline", "fallback")
FETCH_OUTCOMES: Final = (
    *("ok", "invalid", "refused", "dns", "connect", "timeout", "tls", "status"),
    *("redirect", "size", "address", "scheme", "malformed", "content", "missing"),
)
RECORDING_STATES: Final = ("finished", "no_input", "error")
WARNING_CODES: Final = tuple(
    f"relay_script_{code}"
    for code in (
        *("parse_error", "parse_internal_error", "version_invalid", "sections_missing", "main_section_missing"),
        *("section_code_missing", "section_parameter_undefined", "element_undefined", "element_wrong_type"),
        *("element_invalid_value", "element_duplicated", "method_missing_name", "method_undefined"),
        *("method_parameter_missing", "method_parameter_invalid_value", "method_parameter_undefined"),
        *("method_parameter_conflict", "method_no_matching_condition", "method_execute_failed", "js_eval_error"),
        *("nested_too_deep", "too_many_transfers", "internal_error"),
    )
)

COMMAND_OUTCOMES: Final = ("accepted", "refused")
RECORDING_DELETERS: Final = ("api", "retention")
API_REFUSALS: Final = ("unauthorized", "guessing", "rate_limit", "forbidden")

# Methods whose time tells about a switch or a server; the others last as long as a sound, a recording or a caller.
TIMED_METHODS: Final = ("answer", "execute", "hangup", "record_call", "request", "stream", "transfer")

CALL_BUCKETS: Final = (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
DELIVERY_BUCKETS: Final = (*REQUEST_BUCKETS, 60, 300, 3600)


class _Children(dict[Any, Any]):
    """The cells of a metric by their label values, all made at the start; unknown words go to ``other``.

    Looked up by the value itself when there is one label, by a tuple when there are more.
    """

    def __init__(self, make: Callable[[], Any], *words: Iterable[str]) -> None:
        self._known = [frozenset(known) for known in words]
        closed = [(*dict.fromkeys(known), OTHER) for known in self._known]
        for values in product(*map(sorted, closed)):
            self[values if len(values) > 1 else values[0]] = make()

    def __missing__(self, values: Any) -> Any:
        if len(self._known) == 1:
            return self[OTHER]
        return self[tuple(w if w in known else OTHER for w, known in zip(values, self._known, strict=True))]


class _Shown:
    """A metric kept in cells of :mod:`fsctl.tally`, shown to Prometheus when it asks."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], cells: Any) -> None:
        self._name, self._text, self._labels = name, text, labels
        single = not labels
        self._cells = {(): cells} if single else {k if isinstance(k, tuple) else (k,): v for k, v in cells.items()}

    def collect(self) -> Iterator[Metric]:
        """Yield the one family."""
        if isinstance(next(iter(self._cells.values())), Tally):
            counter = CounterMetricFamily(self._name, self._text, labels=self._labels)
            for values, cell in self._cells.items():
                counter.add_metric(values, cell.value)
            yield counter
            return
        histogram = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, cell in self._cells.items():
            histogram.add_metric(values, buckets=cell.buckets(), sum_value=cell.total)
        yield histogram


class Metrics:
    """Counts what happens. ``methods`` and ``commands`` are the names of those there are.

    ``live`` is asked at every exposition: the number of ``calls``, of each kind of control (``play`` …), and what
    ``LIVE`` lists; what it leaves out is 0.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        live: Callable[[], Mapping[str, int]],
        methods: Iterable[str] = (),
        commands: Iterable[str] = (),
        traffic: Traffic | None = None,
    ) -> None:
        traffic = traffic or Traffic()
        self._registry = registry
        self._streaming: dict[str, set[str]] = {}
        methods = frozenset(methods)

        def counter(name: str, text: str, **labels: Iterable[str]) -> Any:
            made = _Children(Tally, *labels.values()) if labels else Tally()
            registry.register(_Shown(f"fsctl_{name}", text, tuple(labels), made))
            return made

        def histogram(name: str, text: str, buckets: tuple[float, ...], **labels: Iterable[str]) -> Any:
            made = _Children(lambda: Spread(buckets), *labels.values()) if labels else Spread(buckets)
            registry.register(_Shown(f"fsctl_{name}_seconds", text, tuple(labels), made))
            return made

        self._calls_started = counter("calls_started", "Calls taken.", direction=DIRECTIONS)
        self._calls_answered = counter("calls_answered", "Calls that were answered.")
        self._calls_ended = counter("calls_ended", "Calls that ended, by why.", end_reason=END_REASONS)
        self._calls_refused = counter("calls_refused", "Calls not taken, by why.", reason=REFUSALS)
        self._call_duration = histogram("call_duration", "From a call's start to its end.", CALL_BUCKETS)
        self._scripts_ended = counter("scripts_ended", "Scripts that ended, by how.", outcome=SCRIPT_OUTCOMES)
        self._methods_run = counter(
            "methods_run", "Instructions run, by method and outcome.", method=methods, outcome=METHOD_OUTCOMES
        )
        self._method_duration = histogram(
            "method_duration", "How long a method took, for those that wait for no audio.", REQUEST_BUCKETS,
            method=TIMED_METHODS,
        )  # fmt: skip
        self._warnings = counter("script_warnings", "Faults in scripts, by code.", code=WARNING_CODES)
        self._documents = counter(
            "documents_fetched", "Documents asked for, by where and what came.",
            source=DOCUMENT_SOURCES, outcome=FETCH_OUTCOMES,
        )  # fmt: skip
        self._document_duration = histogram(
            "document_fetch_duration", "From asking for a document to having it.", REQUEST_BUCKETS,
            source=DOCUMENT_SOURCES,
        )  # fmt: skip
        self._webhooks = counter(
            "webhooks", "Webhooks, by what became of them.", event_type=EVENT_TYPES, outcome=OUTCOMES
        )
        self._webhook_delivery = histogram(
            "webhook_delivery", "From an event to its delivery, of delivered webhooks.", DELIVERY_BUCKETS
        )
        self._streams_started = counter("streams_started", "Streams that began to send audio.")
        self._streams_finished = counter("streams_finished", "Streams that ended after they had sent audio.")
        self._streams_failed = counter("streams_failed", "Streams that never connected.")
        self._recordings = counter("recordings_ended", "Recordings, by how they ended.", state=RECORDING_STATES)
        self._recording_bytes = counter("recording_bytes", "Size of the recordings that ended.")
        self._recording_seconds = counter("recording_seconds", "Length of the recordings that ended.")
        self._recordings_deleted = counter("recordings_deleted", "Recordings deleted, by whom.", by=RECORDING_DELETERS)
        self._commands = counter(
            "api_commands", "Commands of the calling API, by name and outcome.",
            command=commands, outcome=COMMAND_OUTCOMES,
        )  # fmt: skip
        self._api_refused = counter("api_requests_refused", "Requests turned away, by why.", reason=API_REFUSALS)
        reactions = "From a fact FreeSWITCH told to the next command on the wire."
        registry.register(_Shown("fsctl_reaction_seconds", reactions, (), traffic.reactions))

        build = Gauge("fsctl_build_info", "Always 1; what is running.", ("version", "python"), registry=registry)
        build.labels(__version__, platform.python_version()).set(1)
        ProcessCollector(registry=registry)
        registry.register(_Live(live, traffic))

        self.reactions: dict[type, Callable[[Any], None]] = {
            CallStateChanged: self._state_changed,
            CallRefused: self._refused,
            ControlChanged: self._control_changed,
            ScriptEnded: self._script_ended,
            ScriptWarning: self._warned,
            MethodFinished: self._method_finished,
            DocumentFetched: self._document_fetched,
        }

    def __call__(self, event: CallEvent) -> None:
        """Count ``event``."""
        if update := self.reactions.get(type(event)):
            update(event)

    # -- what is no event of a call --

    def observe_webhook(self, event_type: str, outcome: str, seconds: float) -> None:
        """Count what became of a webhook, ``seconds`` after its event."""
        self._webhooks[event_type, outcome].value += 1
        if outcome == "delivered":
            self._webhook_delivery.observe(seconds)

    def observe_command(self, command: str, outcome: str) -> None:
        """Count a command of the calling API: ``accepted`` or ``refused``."""
        self._commands[command, outcome].value += 1

    def observe_api_refusal(self, reason: str) -> None:
        """Count a request that was turned away before anybody looked at what it wants."""
        self._api_refused[reason].value += 1

    def observe_recordings_deleted(self, by: str, number: int = 1) -> None:
        """Count recordings that were deleted: by a program through the ``api``, or by ``retention``."""
        self._recordings_deleted[by].value += number

    def exposition(self) -> tuple[bytes, str]:
        """Return everything in Prometheus's text format, and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    # -- events --

    def _state_changed(self, event: CallStateChanged) -> None:
        if event.state == "created":
            self._calls_started[event.call.direction].value += 1
        elif event.state == "answered":
            self._calls_answered.value += 1
        elif event.state == "ended":
            self._calls_ended[event.end_reason].value += 1
            self._streaming.pop(event.call.call_id, None)
            if event.start_time and event.end_time >= event.start_time:
                self._call_duration.observe(event.end_time - event.start_time)

    def _refused(self, event: CallRefused) -> None:
        self._calls_refused[event.reason].value += 1

    def _control_changed(self, event: ControlChanged) -> None:
        if event.kind == "stream":
            self._stream_changed(event)
        elif event.kind == "record" and event.state in RECORDING_STATES:
            self._recordings[event.state].value += 1
            self._recording_bytes.value += max(0, event.detail.get("size") or 0)
            self._recording_seconds.value += max(0, event.detail.get("duration") or 0)

    def _stream_changed(self, event: ControlChanged) -> None:
        """A stream that ends without having streamed never connected; it has no state of its own for that."""
        streaming = self._streaming.setdefault(event.call.call_id, set())
        if event.state == "streaming":
            streaming.add(event.control_id)
            self._streams_started.value += 1
        elif event.control_id in streaming:
            streaming.discard(event.control_id)
            self._streams_finished.value += 1
        else:
            self._streams_failed.value += 1
        if not streaming:
            del self._streaming[event.call.call_id]

    def _script_ended(self, event: ScriptEnded) -> None:
        self._scripts_ended[event.outcome].value += 1

    def _warned(self, event: ScriptWarning) -> None:
        self._warnings[event.code].value += 1

    def _method_finished(self, event: MethodFinished) -> None:
        self._methods_run[event.method, event.outcome].value += 1
        if event.method in TIMED_METHODS:
            self._method_duration[event.method].observe(event.seconds)

    def _document_fetched(self, event: DocumentFetched) -> None:
        self._documents[event.source, event.outcome].value += 1
        self._document_duration[event.source].observe(event.seconds)


LIVE: Final[Mapping[str, tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str]]] = {
    "calls": (GaugeMetricFamily, "fsctl_calls_live", "Calls right now."),
    "webhook_backlog": (GaugeMetricFamily, "fsctl_webhook_backlog", "Webhooks neither delivered nor given up."),
    "live": (GaugeMetricFamily, "fsctl_event_sockets_live", "Connections with FreeSWITCH right now."),
    "connections": (CounterMetricFamily, "fsctl_event_socket_connections", "Connections FreeSWITCH opened to us."),
    "commands": (CounterMetricFamily, "fsctl_event_socket_commands", "Commands sent to FreeSWITCH."),
    "refused": (CounterMetricFamily, "fsctl_event_socket_commands_refused", "Commands FreeSWITCH refused."),
    "broken": (CounterMetricFamily, "fsctl_event_socket_protocol_errors", "Connections ended for broken framing."),
    "streams_dropped": (
        CounterMetricFamily,
        "fsctl_stream_messages_dropped",
        "Messages not sent because the endpoint was too slow.",
    ),
    "streams_reconnected": (
        CounterMetricFamily,
        "fsctl_streams_reconnected",
        "Lost streams that were connected again.",
    ),
    "streams_refused": (
        CounterMetricFamily,
        "fsctl_stream_clients_refused",
        "Clients of the hub's listener without a valid token.",
    ),
    "streams_feeds_lost": (
        CounterMetricFamily,
        "fsctl_stream_feeds_lost",
        "Connections of mod_audio_stream that were lost while streams needed them.",
    ),
    "call_log_pending": (GaugeMetricFamily, "fsctl_call_log_pending", "Events that wait to be put into the call log."),
    "call_log_written": (CounterMetricFamily, "fsctl_call_log_rows_written", "Rows written into the call log."),
    "call_log_dropped": (CounterMetricFamily, "fsctl_call_log_dropped", "Events that the call log did not keep."),
    "call_log_errors": (CounterMetricFamily, "fsctl_call_log_errors", "Times the call log's file failed."),
    "dial_queue": (GaugeMetricFamily, "fsctl_dial_queue", "Calls that wait to be dialled."),
    "dialling": (GaugeMetricFamily, "fsctl_calls_dialling", "Calls being dialled and not answered yet."),
    "switch_connected": (
        GaugeMetricFamily,
        "fsctl_switch_connected",
        "1 while the standing connection to FreeSWITCH's event socket is up.",
    ),
    "switch_reconnects": (
        CounterMetricFamily,
        "fsctl_switch_reconnects",
        "Times that connection was made again after it was lost.",
    ),
    "evaluations": (CounterMetricFamily, "fsctl_javascript_evaluations", "Expressions that went to JavaScript."),
    "kills": (CounterMetricFamily, "fsctl_javascript_kills", "JavaScript processes killed at the deadline."),
    "deaths": (CounterMetricFamily, "fsctl_javascript_deaths", "JavaScript processes that ended unasked."),
}


class _Live:
    """What is read when somebody asks: gauges, and counters that others keep."""

    def __init__(self, live: Callable[[], Mapping[str, int]], traffic: Traffic) -> None:
        self._live = live
        self._traffic = traffic

    def describe(self) -> Iterator[Metric]:
        """Name the families without asking for their values."""
        return self._families({})

    def collect(self) -> Iterator[Metric]:
        """Yield the families; none when the count itself fails, so that the other metrics still come."""
        try:
            names = ("live", "connections", "commands", "refused", "broken")
            counts = {**{name: getattr(self._traffic, name) for name in names}, **self._live()}
        except Exception:
            log.exception("live_counts_failed")
            return
        yield from self._families(counts)

    def _families(self, counts: Mapping[str, int]) -> Iterator[Metric]:
        for key, (family, name, text) in LIVE.items():
            yield family(name, text, value=counts.get(key, 0))
        controls = GaugeMetricFamily("fsctl_controls_live", "Things running on calls right now.", labels=("kind",))
        for kind in CONTROLS:
            controls.add_metric((kind,), counts.get(kind, 0))
        unknown = (count for key, count in counts.items() if key not in LIVE and key not in CONTROLS)
        controls.add_metric((OTHER,), sum(unknown))
        yield controls
