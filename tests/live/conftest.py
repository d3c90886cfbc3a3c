"""A stage for live calls: a real FreeSWITCH, fsctl in this process, a customer's servers, and phones on loopback.

Where FreeSWITCH is, the environment says:

* ``FSCTL_LIVE_ESL``: its event socket (default 127.0.0.1:8021), ``FSCTL_LIVE_PASSWORD`` its password;
* ``FSCTL_LIVE_DIAL``: ``sofia/PROFILE/NUMBER@HOST:PORT``, a number whose dialplan sets ``socket_resume=true``, says
  ``socket … async full`` and then ``respond 503``;
* ``FSCTL_LIVE_LISTEN``: the address that ``socket`` names (default 127.0.0.1:8084); nothing else may listen there;
* ``FSCTL_LIVE_DIRECTORY``: where both FreeSWITCH and the tests can write (default: a new one, open to all).

Without an answer everything here is skipped, and the reason says what was missing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from xml.etree import ElementTree

import gevent
import pytest
from gevent import socket

from fsctl.call.events import CallRefused, CallStateChanged, ControlChanged, ScriptEnded, ScriptWarning
from fsctl.config import load
from fsctl.server import Server
from tests.fakes import web
from tests.live.phone import Phone, until
from tests.live.streams import Endpoint
from tests.live.switch import Switch, address, dial_string, to_ourselves

DIALPLAN = Path(__file__).parents[2] / "dialplan" / "public" / "50_fsctl.xml"
ESL = os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021")
PASSWORD = os.environ.get("FSCTL_LIVE_PASSWORD", "ClueCon")
_LOCK_SECONDS = 60.0


@pytest.fixture(scope="session")
def switch():
    try:
        found = Switch(address(ESL), PASSWORD)
    except (OSError, PermissionError, gevent.Timeout) as problem:
        pytest.skip(f"no FreeSWITCH at {ESL} (FSCTL_LIVE_ESL, FSCTL_LIVE_PASSWORD): {problem}")
    yield found
    found.close()


@pytest.fixture(scope="session")
def listen(switch):
    """The address FreeSWITCH's dialplan hands calls to, ours alone as long as the tests run."""
    host, port = address(os.environ.get("FSCTL_LIVE_LISTEN", "127.0.0.1:8084"))
    with ExitStack() as stack:
        try:
            stack.enter_context(to_ourselves(host, port, _LOCK_SECONDS))
        except OSError as problem:
            pytest.skip(f"{problem} (FSCTL_LIVE_LISTEN); stop what listens there")
        yield f"{host}:{port}"


@pytest.fixture(scope="session")
def dial():
    """(FreeSWITCH's profile, the SIP address to call)."""
    return dial_string(os.environ.get("FSCTL_LIVE_DIAL", "sofia/internal/9123@127.0.0.1:5080"))


@pytest.fixture(scope="session")
def directory():
    given = os.environ.get("FSCTL_LIVE_DIRECTORY")
    path = Path(tempfile.mkdtemp(prefix="fsctl-live-", dir=given))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Customer:
    """A customer's web server: files, and whatever is posted to it. ``delay(path)`` makes it keep somebody waiting."""

    def __init__(self):
        self.files = {}
        self.posted = []  # (path, JSON body)
        self.held = {}
        self._server = web.Server(self._answer)
        self.url = self._server.url

    def hold(self, path):
        """Keep everyone who asks for ``path`` waiting; set the event to let them go."""
        return self.held.setdefault(path, gevent.event.Event())

    def asked(self, path):
        return [request for request in self._server.requests if request[0].split()[1] == path]

    def said(self, event_type):
        """The ``params`` of the webhooks of that type, in the order they came."""
        return [body["params"] for _, body in self.posted if body.get("event_type") == event_type]

    def _answer(self, request, _number):
        line, headers, body = request
        path = line.split()[1]
        if path in self.held:
            self.held[path].wait(30.0)
        if path in self.files:
            return web.reply(self.files[path], Content_Type="audio/wav" if path.endswith(".wav") else "text/plain")
        if headers.get("Content-Type", "").startswith("application/json"):
            self.posted.append((path, json.loads(body)))
        return web.reply(b"{}", Content_Type="application/json")

    def close(self):
        for event in self.held.values():
            event.set()
        self._server.close()


class House:
    """fsctl, as it is in service; ``document`` is what the next call runs."""

    def __init__(self, listen, number, directory, customer, settings):
        self.events = []
        self.number = number
        self.customer = customer
        self.directory = directory
        for name in ("swml", "recordings", "cache"):
            (directory / name).mkdir(exist_ok=True)
            (directory / name).chmod(0o777)
        self._http = _listening()
        values = {
            "event_socket": {"listen": listen},
            "freeswitch": {"event_socket": ESL, "password": PASSWORD},
            "http": {"public_url": f"http://127.0.0.1:{self._http.getsockname()[1]}"},
            "documents": {"default": "main.yaml", "directory": str(directory / "swml")},
            "recordings": {"directory": str(directory / "recordings"), "min_free_bytes": 0},
            "logs": {"database": ""},
            "media": {"cache_directory": str(directory / "cache")},
            "network": {"allow_private": ["127.0.0.0/8"]},
            "streams": {"mode": "direct", "allow_plaintext": True},
            "webhooks": {
                "call_state_url": f"{customer.url}/state",
                "user_event_url": f"{customer.url}/event",
                "script_warning_url": f"{customer.url}/warning",
            },
        }
        for section, changes in settings.items():
            values[section] = values.get(section, {}) | changes
        path = directory / "fsctl.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")
        self.server = Server(load(path, {}), sockets={"http": self._http}, observers=(self.events.append,))
        self.server.start()

    def document(self, *main, **sections):
        """Let the next call run this: JSON is YAML, too."""
        document = {"version": "1.0.0", "sections": {"main": list(main), **sections}}
        (self.directory / "swml" / "main.yaml").write_text(json.dumps(document), encoding="utf-8")

    def of(self, kind, /, **values):
        """The events of a kind whose attributes have these values."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in values.items())
        ]

    def states(self, call_id=None):
        return [event.state for event in self.of(CallStateChanged) if call_id in (None, event.call.call_id)]

    def controls(self, kind):
        return [event.state for event in self.of(ControlChanged, kind=kind)]

    @property
    def call_id(self):
        """The first call's."""
        return until(lambda: self.of(CallStateChanged), 5.0, "a call at fsctl")[0].call.call_id

    @property
    def ended(self):
        """The last word on the first call."""
        return until(lambda: self.of(CallStateChanged, state="ended"), 15.0, "the call's end at fsctl")[0]

    @property
    def variables(self):
        """The script's variables at its end."""
        return until(lambda: self.of(ScriptEnded), 15.0, "the script's end")[0].variables

    @property
    def warnings(self):
        return [event.message for event in self.of(ScriptWarning)]

    @property
    def refusals(self):
        return [event.reason for event in self.of(CallRefused)]

    def recording(self, url):
        """The file behind a recording's URL."""
        return self.directory / "recordings" / url.rpartition("/")[2]

    def close(self):
        self.server.stop()


def _listening():
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(16)
    return sock


@pytest.fixture
def customer():
    server = Customer()
    yield server
    server.close()


@pytest.fixture
def open_house(request, dial, directory, customer, switch):
    """Open fsctl with these settings; in the end, nothing may be left of any call it had, here or in FreeSWITCH.

    Without ``listen`` it is where FreeSWITCH's dialplan looks for it.
    """
    with ExitStack() as stack:

        def opened(*, listen="", **settings):
            house = House(listen or request.getfixturevalue("listen"), dial[1], directory, customer, settings)
            stack.callback(house.close)
            stack.callback(nothing_left, house, switch)
            return house

        yield opened


def nothing_left(house, switch):
    """Every call has said its one last word, and FreeSWITCH has let go of its channel."""
    call_ids = {event.call.call_id for event in house.of(CallStateChanged)}
    until(lambda: not len(house.server.calls), 10.0, "fsctl's calls to end")
    for call_id in call_ids:
        assert house.states(call_id).count("ended") == 1
        until(lambda call_id=call_id: call_id in switch.destroyed, 3.0, "FreeSWITCH to let go of the channel")
        until(lambda call_id=call_id: not switch.exists(call_id), 5.0, "FreeSWITCH to forget the channel")
        lingered = switch.destroyed[call_id] - switch.hung_up[call_id]
        assert lingered < 1.0, f"the session stayed for {lingered:.1f} s after the hangup"
    unfinished = {event.control_id for event in house.of(ControlChanged)}
    for event in house.of(ControlChanged):
        if event.state in ("finished", "error", "no_input"):
            unfinished.discard(event.control_id)
    assert not unfinished


@pytest.fixture
def house(open_house):
    return open_house()


@pytest.fixture
def new_endpoint():
    endpoints = []

    def made(**options):
        endpoints.append(Endpoint(**options))
        return endpoints[-1]

    yield made
    for endpoint in endpoints:
        endpoint.close()


@pytest.fixture
def new_phone(dial, switch):
    """Phones, hung up in the end; ``call=True`` calls fsctl's number."""
    phones = []

    def made(*, call=False, **options):
        phones.append(Phone(**options))
        return phones[-1].call(dial[1]) if call else phones[-1]

    yield made
    for phone in phones:
        phone.close()


@pytest.fixture
def outgoing(dial, listen, switch):
    """Let FreeSWITCH call a phone and, once it has answered, run what our dialplan does before and with `socket`."""

    def call(phone):
        extension = ElementTree.parse(DIALPLAN).find(".//extension[@name='fsctl']")
        actions = [(action.get("application"), action.get("data")) for action in extension.iter("action")]
        wanted = [*(f"set:{data}" for name, data in actions if name == "set"), f"socket:{listen} async full"]
        said = switch.api(f"bgapi originate {dial[0]}/phone@127.0.0.1:{phone.port} '{','.join(wanted)}' inline")
        assert said.startswith("+OK"), said
        until(lambda: phone.answered_at, 5.0, "FreeSWITCH to call the phone")

    return call
