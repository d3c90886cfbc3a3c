"""Everything wired together from the configuration: start, drain, stop.

The only module that knows all the others. ``Server`` is what ``fsctl serve`` runs, and, with a faster clock and other
addresses, what the demo, the simulation and the tests run.
"""

from __future__ import annotations

import gc
import signal
from typing import TYPE_CHECKING, Any

import gevent
import structlog
from gevent.event import Event
from prometheus_client import CollectorRegistry

from fsctl import __version__, systemd
from fsctl import log as logs
from fsctl.api.app import make_app
from fsctl.api.server import HttpServer
from fsctl.bus import Bus
from fsctl.call.calls import Calls
from fsctl.call.services import Services
from fsctl.clock import Clock
from fsctl.esl.listener import Listener
from fsctl.fetch import Documents, DocumentSettings
from fsctl.freeswitch.speech import Recogniser
from fsctl.javascript.engine import Engine
from fsctl.journal import journal as write_journal
from fsctl.media.files import Files
from fsctl.media.recordings import Recordings
from fsctl.media.voices import Voices
from fsctl.methods import METHODS
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
    tells them otherwise. Raises OSError when an address cannot be had.
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
        self.web = web or Client(
            Policy(allow_private=config.network.allow_private),
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
        self.sender = Sender(
            messenger or self.web,
            settings=config.webhooks,
            signing_key=config.project.signing_key,
            clock=clock,
            on_outcome=lambda *outcome: self.metrics.observe_webhook(*outcome),  # noqa: PLW0108 - made below
        )
        self.traffic = Traffic()
        self.metrics = Metrics(CollectorRegistry(), live=self._live, methods=METHODS.names, traffic=self.traffic)
        self.bus = Bus(*([write_journal] if journal else []), self.metrics, self.sender, *observers)
        recordings = Recordings(
            config.recordings.directory, config.http.public_url, min_free_bytes=config.recordings.min_free_bytes
        )
        services = Services(
            clock=clock,
            web=self.web,
            files=files
            or Files(
                self.web,
                cache_directory=config.media.cache_directory,
                max_bytes=config.media.cache_max_bytes,
                max_file_bytes=config.media.max_file_bytes,
                timeout=config.media.timeout,
                own_urls=recordings.path_of_url,
            ),
            recordings=recordings,
            voices=Voices(config.media.tts_engine, config.media.tts_voice, config.media.voices),
            streams=config.streams,
            hub=self.hub,
            max_duration=config.calls.max_duration,
            request_timeout=config.script.request_timeout,
            recogniser=Recogniser(config.media.asr_engine, config.media.asr_grammar)
            if config.media.asr_engine
            else None,
        )
        house = House(
            config=config,
            calls=self.calls,
            services=services,
            documents=self._documents(),
            methods=METHODS,
            limits=_limits(config),
            evaluate=self.engine.evaluate,
            emit=self.bus.emit,
            traffic=self.traffic,
            vars=vars or {},
            params=params or {},
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
            make_app(metrics=self.metrics, health=self.health, recordings=config.recordings.directory),
        )

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
        self.http.start()
        if self.config.streams.mode == "hub":
            self.hub.start()
        self.listener.start()
        log.info("listening", version=__version__, event_socket=_address(self.listener.address))

    def health(self) -> dict[str, tuple[bool, str]]:
        """What makes us ready for calls, each with whether it is so and what there is to say."""
        backlog = self.sender.backlog
        most = self.config.webhooks.max_pending
        return {
            "event_socket": (self.listener.accepting, "accepting calls" if self.listener.accepting else "draining"),
            "webhooks": (backlog < most, f"{backlog} of at most {most} waiting"),
        }

    def drain(self, seconds: float) -> bool:
        """Take no more calls and let the running ones end; False when some had to be left."""
        self.listener.drain()
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
        self.listener.stop()
        if self.config.streams.mode == "hub":
            self.hub.stop()
        self.sender.drain(WEBHOOK_DRAIN_SECONDS)
        self.sender.close()
        self.http.stop()
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
            "evaluations": self.engine.evaluations,
            "kills": self.engine.kills,
            "deaths": self.engine.deaths,
        }


def _recogniser(config: Config) -> Recogniser | None:
    media = config.media
    return Recogniser(media.asr_engine, media.asr_grammar) if media.asr_engine else None


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


def _watch() -> None:
    """Tell systemd that the event loop turns, as often as it wants to hear it."""
    interval = systemd.watchdog_interval()
    while interval is not None:
        systemd.notify("WATCHDOG=1")
        gevent.sleep(interval)
