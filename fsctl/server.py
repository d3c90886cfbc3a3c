"""Everything wired together from the configuration: start, drain, stop.

The only module that knows all the others. ``Server`` is what ``fsctl serve`` runs, and, with a faster clock and other
addresses, what the demo, the simulation and the tests run.
"""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.event import Event
from prometheus_client import CollectorRegistry

from fsctl import __version__, systemd
from fsctl import log as logs
from fsctl.api.access import Access
from fsctl.api.app import make_app
from fsctl.api.calls import CallCommands
from fsctl.api.idempotency import Idempotency
from fsctl.api.logs import voice_logs
from fsctl.api.openapi import OpenApi, document
from fsctl.api.recordings import recording_resources
from fsctl.api.server import HttpServer
from fsctl.api.streams import stream_resources
from fsctl.bus import Bus
from fsctl.call.calls import Calls
from fsctl.call.services import Services
from fsctl.clock import Clock
from fsctl.dialling import Dialler
from fsctl.esl.listener import Listener
from fsctl.esl.switch import SwitchLink
from fsctl.fetch import Documents, DocumentSettings
from fsctl.freeswitch.speech import Recogniser
from fsctl.javascript.engine import Engine
from fsctl.journal import journal as write_journal
from fsctl.logs.store import CallLog
from fsctl.media.files import Files
from fsctl.media.recordings import Links, Recordings, Retention, link_key
from fsctl.media.voices import Voices
from fsctl.methods import COMMANDS, METHODS
from fsctl.metrics import Metrics
from fsctl.session import House, Session
from fsctl.streams.endpoint import Limits as StreamLimits
from fsctl.streams.hub import Hub
from fsctl.swml.check import Compiler
from fsctl.swml.interpreter import Limits
from fsctl.tally import Traffic
from fsctl.web import Client, Policy
from fsctl.webhooks.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gevent import socket

    from fsctl.call.events import CallEvent
    from fsctl.config import Config
    from fsctl.webhooks.sender import WebClient

__all__ = ["Server", "serve"]

log = structlog.get_logger(__name__)

WEBHOOK_DRAIN_SECONDS = 10.0


class Server:
    """fsctl, ready to start. ``clock`` is call time; ``sockets`` are listening sockets to use instead of addresses.

    ``observers`` hear every event besides webhooks and metrics. ``web`` asks for documents and for scripts,
    ``messenger`` carries webhooks and ``files`` gives sounds from URLs, where these are not the real ones; ``vars`` and
    ``params`` are what each call's first document begins with; ``journal`` off leaves events out of the log, for who
    tells them otherwise. Raises OSError when an address cannot be had, ConfigError when a token of the API or a
    key for links cannot.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        sockets: dict[str, socket.socket] | None = None,
        observers: tuple[Callable[[CallEvent], Any], ...] = (),
        web: Client | None = None,
        messenger: WebClient | None = None,
        files: Files | None = None,
        vars: Mapping[str, Any] | None = None,  # noqa: A002 - the language's word
        params: Mapping[str, Any] | None = None,
        journal: bool = True,
    ) -> None:
        clock = clock or Clock()
        sockets = sockets or {}
        self.config = config
        self.calls = Calls()
        self.engine = Engine(
            memory_bytes=config.script.expression_memory_bytes, deadline_seconds=config.script.expression_timeout
        )
        policy = Policy(allow_private=config.network.allow_private)
        self.web = web or Client(
            policy,
            user_agent=f"fsctl/{__version__}",
            pool_size=config.webhooks.concurrency_per_host,
        )
        self.hub = Hub(
            self.web.dial,
            address=config.streams.hub_listen,
            limits=StreamLimits(
                connect_timeout=config.streams.endpoint_timeout, heartbeat=float(config.streams.heartbeat)
            ),
            max_streams=config.streams.max_per_call,
        )
        self.traffic = Traffic()
        self.metrics = Metrics(
            CollectorRegistry(),
            live=self._live,
            methods=METHODS.names,
            commands=("dial", "update", *COMMANDS.names),
            traffic=self.traffic,
        )
        self.sender = Sender(
            messenger or self.web,
            settings=config.webhooks,
            signing_key=config.project.signing_key,
            clock=clock,
            on_outcome=self.metrics.observe_webhook,
        )
        self.call_log = _call_log(config)
        kept = [] if self.call_log is None else [self.call_log]
        self.bus = Bus(*([write_journal] if journal else []), self.metrics, self.sender, *kept, *observers)
        self.recordings = Recordings(
            config.recordings.directory,
            config.http.public_url,
            min_free_bytes=config.recordings.min_free_bytes,
            links=_links(config),
        )
        self.retention = self._retention()
        self.files = files or Files(
            self.web,
            cache_directory=config.media.cache_directory,
            max_bytes=config.media.cache_max_bytes,
            max_file_bytes=config.media.max_file_bytes,
            timeout=config.media.timeout,
            own_urls=self.recordings.path_of_url,
        )
        services = Services(
            clock=clock,
            web=self.web,
            files=self.files,
            recordings=self.recordings,
            voices=Voices(config.media.tts_engine, config.media.tts_voice, config.media.voices),
            streams=config.streams,
            hub=self.hub,
            max_duration=config.calls.max_duration,
            request_timeout=config.script.request_timeout,
            recogniser=Recogniser(config.media.asr_engine, config.media.asr_grammar)
            if config.media.asr_engine
            else None,
        )
        self.link = self._link()
        self.dialler = Dialler(
            self.link,
            config=config,
            policy=policy,
            calls=self.calls,
            services=services,
            emit=self.bus.emit,
            target=self._handed_over_at,
        )
        self.documents = self._documents()
        house = House(
            config=config,
            calls=self.calls,
            services=services,
            documents=self.documents,
            methods=METHODS,
            limits=_limits(config),
            evaluate=self.engine.evaluate,
            emit=self.bus.emit,
            traffic=self.traffic,
            vars=vars or {},
            params=params or {},
            adopt=self.dialler.adopt,
        )
        listen = config.event_socket
        self.listener = Listener(
            sockets.get("event_socket") or tuple(listen.listen),
            take=lambda sock: Session(house, sock).run(),
            refuse=lambda sock, reason: Session(house, sock).refuse(reason),
            max_calls=listen.max_calls,
            backlog=listen.backlog,
        )
        self.http = HttpServer(
            sockets.get("http") or tuple(config.http.listen),
            make_app(
                metrics=self.metrics,
                health=self.health,
                recordings=config.recordings.directory,
                resources=self._resources(),
                middleware=(
                    Access(config.project.project_id, config.api, on_refused=self.metrics.observe_api_refusal),
                    Idempotency(seconds=config.api.idempotency_seconds, entries=config.api.idempotency_entries),
                ),
            ),
        )

    def _link(self) -> SwitchLink | None:
        switch = self.config.freeswitch
        if switch.event_socket is None:
            return None
        return SwitchLink(
            switch.event_socket,
            switch.password,
            on_up=lambda restarted: self.dialler.reconnected(restarted=restarted),
            timeout=self.config.event_socket.command_timeout,
        )

    def _handed_over_at(self) -> tuple[str, int]:
        """Where FreeSWITCH reaches us with a call that we dialled."""
        host, port = self.listener.address
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port  # noqa: S104 - what we listen on

    def _resources(self) -> dict[str, object]:
        config = self.config
        resources: dict[str, object] = (
            {} if self.call_log is None else voice_logs(self.call_log, config.http.public_url)
        )
        resources["/api/calling/calls"] = CallCommands(
            self.calls,
            COMMANDS,
            self.dialler,
            compile_document=lambda text: self.documents.compile(text, name="inline"),
            admit=self.web.admit,
            strict=config.api.strict_parameters,
            on_command=self.metrics.observe_command,
        )
        resources |= stream_resources(self.calls, strict=config.api.strict_parameters)
        # Also what links open: the application's own resource knows of no links that expire.
        resources |= recording_resources(
            self.recordings,
            being_written=self._being_recorded,
            on_deleted=self._recording_deleted,
        )
        resources["/openapi.json"] = OpenApi(
            lambda: document(
                resources, COMMANDS, public_url=config.http.public_url, strict=config.api.strict_parameters
            )
        )
        return resources

    def _retention(self) -> Retention | None:
        settings = self.config.recordings
        if not settings.retention_days:
            return None
        return Retention(
            settings.directory,
            settings.retention_days,
            being_written=self._being_recorded,
            on_deleted=lambda number: self.metrics.observe_recordings_deleted("retention", number),
        )

    def _recording_deleted(self, recording_id: str) -> None:
        self.metrics.observe_recordings_deleted("api")
        gevent.get_hub().threadpool.apply(self.files.forget_recording, (recording_id,))

    def _being_recorded(self) -> frozenset[str]:
        """The ids of the recordings that go on now."""
        controls = (control for call in self.calls for control in call.controls.running("record"))
        return frozenset(control.detail["recording_id"] for control in controls if "recording_id" in control.detail)

    def _documents(self) -> Documents:
        config = self.config
        return Documents(
            self.web,
            Compiler(
                METHODS,
                max_bytes=config.documents.max_bytes,
                max_nesting=config.script.max_nesting,
                documents=config.documents.cache_entries,
            ),
            DocumentSettings(
                connect_timeout=config.documents.connect_timeout,
                timeout=config.documents.timeout,
                max_bytes=config.documents.max_bytes,
                signing_key=config.project.signing_key or None,
            ),
            config.documents.directory,
        )

    def start(self) -> None:
        """Listen. Raises OSError, naming the address, when one is taken."""
        if self.call_log is not None:
            self.call_log.start()
        if self.retention is not None:
            self.retention.start()
        self.http.start()
        if self.config.streams.mode == "hub":
            self.hub.start()
        self.listener.start()
        if self.link is not None:
            self.link.start()
        log.info("listening", version=__version__, event_socket=_address(self.listener.address))
        if not self.config.api.tokens:
            log.info("api_closed", hint="to open the REST API, put {name, token_file, scopes} into api.tokens")

    def health(self) -> dict[str, tuple[bool, str]]:
        """What makes us ready for calls, each with whether it is so and what there is to say."""
        backlog = self.sender.backlog
        most = self.config.webhooks.max_pending
        return {
            "event_socket": (self.listener.accepting, "accepting calls" if self.listener.accepting else "draining"),
            "webhooks": (backlog < most, f"{backlog} of at most {most} waiting"),
            **({} if self.link is None else {"freeswitch": (self.link.connected, self.link.problem or "connected")}),
        }

    def drain(self, seconds: float) -> bool:
        """Take no more calls and let the running ones end; False when some had to be left."""
        self.listener.drain()
        self.dialler.drain()
        log.info("draining", calls=len(self.calls), seconds=seconds)
        done = self.listener.wait_empty(seconds)
        if not done:
            log.warning("drain_over", calls=len(self.calls), hint="they are hung up now")
            for call in self.calls:
                call.leg.hang_up("MANAGER_REQUEST")
            self.listener.wait_empty(5.0)
        return done

    def stop(self) -> None:
        """Send what webhooks are waiting, and close everything."""
        self.dialler.close()
        self.listener.stop()
        if self.link is not None:
            self.link.stop()
        if self.config.streams.mode == "hub":
            self.hub.stop()
        self.sender.drain(WEBHOOK_DRAIN_SECONDS)
        self.sender.close()
        self.http.stop()
        if self.retention is not None:
            self.retention.stop()
        if self.call_log is not None:
            self.call_log.close()
        self.engine.close()
        self.web.close()

    def _live(self) -> dict[str, int]:
        return {
            **self.calls.counts(),
            "webhook_backlog": self.sender.backlog,
            "streams_dropped": self.hub.counters.dropped_messages,
            "streams_reconnected": self.hub.counters.reconnected,
            "streams_refused": self.hub.counters.refused_clients,
            "streams_feeds_lost": self.hub.counters.lost_feeds,
            "dial_queue": self.dialler.waiting,
            "dialling": len(self.dialler) - self.dialler.waiting,
            "switch_connected": int(self.link is not None and self.link.connected),
            "switch_reconnects": 0 if self.link is None else self.link.reconnects,
            "evaluations": self.engine.evaluations,
            "kills": self.engine.kills,
            "deaths": self.engine.deaths,
            **({} if self.call_log is None else self.call_log.counts()),
        }


def _call_log(config: Config) -> CallLog | None:
    kept = config.logs
    if not kept.database:
        return None
    return CallLog(
        Path(kept.database), retention_days=kept.retention_days, max_calls=kept.max_calls, max_pending=kept.max_pending
    )


def _links(config: Config) -> Links | None:
    settings = config.recordings
    if not settings.link_seconds:
        return None
    return Links(link_key(settings.link_key, config.project.signing_key), settings.link_seconds)


def _limits(config: Config) -> Limits:
    script = config.script
    return Limits(
        max_jumps=script.max_jumps,
        max_jumps_without_input=script.max_jumps_without_input,
        max_steps=script.max_steps,
        max_documents=script.max_documents,
        stringify_params=config.documents.stringify_params,
    )


def _address(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def serve(config: Config) -> int:
    """Run the service until SIGTERM or SIGINT, then drain; a second signal stops at once. Returns the exit code."""
    logs.setup(config.log.level, config.log.format)  # type: ignore[arg-type]  # the configuration checked it
    try:
        server = Server(config, sockets=systemd.listening_sockets())
        server.start()
    except OSError as error:
        log.critical("cannot_listen", problem=str(error), hint="is another fsctl running, or the port taken?")
        return 1
    settle()
    asked = Event()
    again = Event()

    def signalled() -> None:
        (again if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        gevent.signal_handler(number, signalled)
    watchdog = gevent.spawn(_watch)
    systemd.notify("READY=1", "STATUS=taking calls")
    asked.wait()
    systemd.notify("STOPPING=1", "STATUS=draining")
    draining = gevent.spawn(server.drain, config.shutdown.drain)
    gevent.wait([draining, again], count=1)
    draining.kill()
    server.stop()
    watchdog.kill()
    log.info("stopped")
    return 0


def settle() -> None:
    """Leave out what only costs: what is here now stays, and a call leaves hardly a cycle to collect."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gevent.config.track_greenlet_tree = False  # who spawned whom, with a stack for each: a debugging aid
    sys.setswitchinterval(0.0005)  # the threads of the call's log give way to calls ten times as soon


def _watch() -> None:
    """Tell systemd that the event loop turns, as often as it wants to hear it."""
    interval = systemd.watchdog_interval()
    while interval is not None:
        systemd.notify("WATCHDOG=1")
        gevent.sleep(interval)
