"""Everything wired together from the configuration: start, drain, stop.

The only module that knows all the others. ``Server`` is what ``fsctl serve`` runs, and, with a faster clock and other
addresses, what the demo, the simulation and the tests run.
"""

from __future__ import annotations

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
from fsctl.javascript.engine import Engine
from fsctl.media.files import Files
from fsctl.media.recordings import Recordings
from fsctl.media.voices import Voices
from fsctl.methods import METHODS
from fsctl.metrics import Metrics
from fsctl.session import House, Session
from fsctl.swml.check import Compiler
from fsctl.swml.interpreter import Limits
from fsctl.web import Client, Policy
from fsctl.webhooks.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent import socket

    from fsctl.call.events import CallEvent
    from fsctl.config import Config

__all__ = ["Server", "serve"]

log = structlog.get_logger(__name__)
