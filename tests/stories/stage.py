"""A whole fsctl, a switch that hands it calls and a web server for all that is beyond, for stories of whole calls.

A story is one call from its arrival to its last word. Whatever the story is about, ``Story`` holds it to what is true
of every call: it left nothing behind, told its end once and last, closed what it opened, and ran no code of others.
"""

from __future__ import annotations

import gc
import io
import json
import random
import re
import time
import wave
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import parse_qsl, unquote_plus

import gevent
import greenlet
import requests
import yaml
from gevent import socket

from fsctl import log as logs
from fsctl.call.events import CallRefused, CallStateChanged, ControlChanged, MethodFinished, ScriptEnded, ScriptWarning
from fsctl.call.states import CONTROLS
from fsctl.clock import Clock
from fsctl.config import load
from fsctl.server import Server
from fsctl.simulator import Outcome, Scripted, Switch
from tests.fakes import web

SPEED = 40.0
DEADLINE = 15.0
LINGER = 60  # what FreeSWITCH would hold us for if we did not close: told apart from what a busy machine takes
AT_ONCE = 40.0  # call seconds a busy machine may need to close a socket

PROJECT = "11111111-2222-4333-8444-555555555555"
TOKEN = "a-token-nobody-guesses"
REST = {
    "project": {"project_id": PROJECT, "node_id": "node-1"},
    "api": {"tokens": [{"name": "crm", "token": TOKEN, "scopes": ["read", "control", "dial"]}]},
    "dial": {
        "routes": [{"number": r"\+?\d+", "endpoint": "sofia/gateway/carrier/{0}"}],
        "user_domains": ["pbx.example"],
        "calls_per_second": 500,
    },
}

UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
HANDSHAKE = ("connect", "linger", "filter Unique-ID", "events json", "api uuid_setvar_multi")
BUGS = ("call_failed", "observer_failed", "reaction_failed", "event_socket_failed", "webhook_dropped")
OURS = tuple(
    f"/fsctl/{part}" for part in ("session.py", "esl/leg.py", "esl/connection.py", "methods/", "swml/", "call/")
)


def wav(seconds, rate=8000):
    """A sound file: so many seconds of next to nothing."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(b"\1\0" * round(seconds * rate))
    return made.getvalue()


def document(*steps, **sections):
    """A document of these steps, as a server would answer it."""
    return json.dumps({"version": "1.0.0", "sections": {"main": list(steps), **sections}})


def page(text, **headers):
    """The answer of a web server: text or bytes, as they are."""
    return web.reply(text.encode() if isinstance(text, str) else text, **headers)


@dataclass(frozen=True)
class Hook:
    """A request a web server got: of a webhook, ``event`` is what it told."""

    line: str
    headers: dict
    body: bytes

    @property
    def path(self):
        return self.line.split()[1].partition("?")[0]

    @property
    def event(self):
        if self.line.startswith("GET"):
            return dict(parse_qsl(self.line.split()[1].partition("?")[2]))
        return json.loads(self.body)

    @property
    def params(self):
        return self.event["params"]

    @property
    def told(self):
        """``calling.call.play playing``: what happened, in a line."""
        event = self.event
        params = event.get("params", event)
        state = params.get("state") or params.get("call_state") or params.get("code", "")
        return f"{event['event_type']} {state}".strip()


class Stage:
    """fsctl as ``Server``, its switch and its web. ``config`` is what the operator writes, section by section.

    ``pages`` are what the web server answers by path: bytes (:func:`page`), or a function of the request and how many
    came before; a path below ``/hook`` that is not there is a receiver of webhooks that is content with everything.
    ``streams`` are the outcomes of stream URLs by path; with ``rest`` calls can be dialled, and :meth:`ask` commands.
    Other settings are the switch's; ``@socket`` in its dialplan is
    where fsctl listens.
    """

    def __init__(
        self, folder, *, config=None, speed=SPEED, pages=None, streams=None, switch=Switch, rest=False, **settings
    ):
        self.folder = folder
        self.pages = dict(pages or {})
        self.requests = []
        self.out = io.StringIO()
        self._lines = []
        self._read = 0
        self.stray = io.StringIO()
        self._stories = 0
        self._web = web.Server(self._answer)
        self.url = self._web.url
        self.events = []
        (folder / "swml").mkdir(parents=True)
        self.clock = Clock(speed)
        self.streams = Scripted({path: Outcome(**outcome) for path, outcome in (streams or {}).items()})
        logs.setup("debug", "json", stream=self.out)
        self._hub_errors, gevent.get_hub().exception_stream = gevent.get_hub().exception_stream, self.stray
        http = _listening()
        self.public_url = f"http://127.0.0.1:{http.getsockname()[1]}"
        inbound = _free_port() if rest else None
        if rest:
            config = {**REST, "freeswitch": {"event_socket": f"127.0.0.1:{inbound}"}, **(config or {})}
        self.server = Server(
            self._config(config or {}),
            clock=self.clock,
            sockets={"event_socket": _listening(), "http": http},
            observers=(self.events.append,),
        )
        self.server.start()
        settings.setdefault("streams", self.streams)
        host, port = self.server.listener.address
        dialplan = settings.pop("dialplan", None)
        if dialplan is not None:
            dialplan = [(name, text.replace("@socket", f"{host}:{port}")) for name, text in dialplan]
        self.switch = switch((host, port), clock=self.clock, dialplan=dialplan, **settings)
        if inbound is not None:
            self.switch.listen(port=inbound)
            wait_for(lambda: self.server.link.connected, "fsctl to connect to the switch's event socket")

    def _config(self, changes):
        sections = {
            "streams": {"mode": "direct"},  # the hub has tests of its own, with a real WebSocket
            "event_socket": {"linger": LINGER},
            "http": {"public_url": self.public_url},
            "project": {"node_id": "node-1"},
            "documents": {"directory": str(self.folder / "swml")},
            "network": {"allow_private": ["127.0.0.1/32"]},
            "media": {"cache_directory": str(self.folder / "cache")},
            "recordings": {"directory": str(self.folder / "recordings"), "min_free_bytes": 0},
            "logs": {"database": ""},
            "freeswitch": {"event_socket": ""},
        }
        for section, values in changes.items():
            sections[section] = {**sections.get(section, {}), **values}
        path = self.folder / "fsctl.yaml"
        path.write_text(self.here(yaml.safe_dump(sections)))
        return load(path, {})

    def here(self, text):
        """``text`` with ``@web`` and ``@recordings`` as the addresses they have on this stage."""
        return text.replace("@web", self.url).replace("@recordings", f"{self.public_url}/recordings")

    def _answer(self, request, number):
        asked = Hook(*request)
        self.requests.append(asked)
        answer = self.pages.get(asked.path)
        if answer is None:
            return page("") if asked.path.startswith("/hook") else web.reply(b"there is nothing here", 404)
        if callable(answer):
            return answer(asked, sum(one.path == asked.path for one in self.requests) - 1)
        return answer

    def write(self, name, text):
        """Put a document where documents are kept."""
        (self.folder / "swml" / name).write_bytes(text if isinstance(text, bytes) else self.here(text).encode())

    def start(self, script=None, *, variables=None, **settings):
        """Let a call arrive that runs ``script`` (text, a list of steps, None: what the configuration says)."""
        variables = {name: self.here(value) for name, value in (variables or {}).items()}
        if script is not None:
            self._stories += 1
            name = f"story-{self._stories}.yaml"
            self.write(name, script if isinstance(script, (str, bytes)) else document(*script))
            variables.setdefault("swml_url", name)
        call = self.switch.call(variables=variables, **settings)
        return Story(self, call)

    def ask(self, command, call_id=None, /, **params):
        """What the calling API answers to a command."""
        body = {"command": command, "params": params, **({} if call_id is None else {"id": call_id})}
        url = f"{self.public_url}/api/calling/calls"
        return requests.post(url, json=json.loads(self.here(json.dumps(body))), auth=(PROJECT, TOKEN), timeout=10)

    def dialled(self, **params):
        """A call that the calling API was asked to make, as a story."""
        answer = self.ask("dial", **{"from": "+15550100", "to": "+15550199", **params})
        assert answer.status_code == 200, answer.text
        return Story(self, SimpleNamespace(uuid=answer.json()["id"]))

    def run(self, script=None, *, during=None, deadline=DEADLINE, **settings):
        """One whole call; ``during`` is called with the story while it runs."""
        story = self.start(script, **settings)
        if during is not None:
            during(story)
        return story.end(deadline)

    def log(self):
        """Every line fsctl logged, the switch's own left out."""
        self.out.seek(self._read)
        for text in self.out:
            line = json.loads(text)
            if not line["logger"].startswith("fsctl.simulator"):
                self._lines.append(line)
        self._read = self.out.tell()
        return self._lines

    def close(self):
        """End everything and see that nothing is left of any call."""
        self.switch.close()
        try:
            wait_for(lambda: not len(self.server.calls), "fsctl to let go of its calls")
            left_behind(self)
        finally:
            self.server.stop()
            self._web.close()
            gevent.get_hub().exception_stream = self._hub_errors
        assert self.stray.getvalue() == "", f"the event loop met an error:\n{self.stray.getvalue()}"


def left_behind(stage):
    """Fail when a call that is over has left a greenlet, a connection, a place or a running control."""
    server = stage.server
    assert wait_for(lambda: not server.listener.calls, "the calls to end")
    assert wait_for(lambda: not len(server.listener._refusals), "the refusals' greenlets to end")
    assert server._live()["calls"] == 0
    # By type: to ask `isinstance` of somebody's weak reference to what is gone is an error.
    greenlets = [one for one in gc.get_objects() if issubclass(type(one), greenlet.greenlet)]
    running = [one for one in greenlets if one.gr_frame is not None]
    stuck = [frames for frames in map(_frames, running) if any(ours in frame for frame in frames for ours in OURS)]
    assert not stuck, f"a greenlet still runs a call: {stuck}"


def _frames(one):
    frame, names = one.gr_frame, []
    while frame is not None:
        names.append(frame.f_code.co_filename)
        frame = frame.f_back
    return names


def _free_port():
    """A port nobody has, from below those that the kernel gives to connections."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


def _listening():
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    return sock


def wait_for(condition, what, seconds=DEADLINE):
    """Wait until ``condition()`` holds and answer what it answers; fail at the deadline."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        gevent.sleep(0.002)
    return found


@dataclass
class Story:
    """One call and everything that can be seen of it."""

    stage: Stage
    call: object

    # -- what was seen ------------------------------------------------------------------------------------------

    @property
    def wire(self):
        """Everything fsctl wrote on the call's socket, command by command."""
        return [said.data for said in self.call.transcript if said.who == "application"]

    @property
    def commands(self):
        """The commands after the handshake, one line each, without what is different every time."""
        shown = [self._shown(raw) for raw in self.wire]
        return shown[sum(command.startswith(HANDSHAKE) for command in shown[: len(HANDSHAKE)]) :]

    def _shown(self, raw):
        head, _, body = raw.decode("utf-8", "replace").strip("\n").partition("\n\n")
        first, *rest = head.split("\n")
        headers = dict(line.split(": ", 1) for line in rest)
        verb = first.split(" ")[0]
        if verb == "sendmsg":
            line = f"{headers.get('execute-app-name', headers['call-command'])} {body}"
        elif verb == "sendevent":
            line = f"sendevent {headers['Event-Subclass']} {body}"
        else:
            line = first
        line = line.replace(f" {self.call.uuid}", "").replace(self.call.uuid, "CALL")
        folder = str(self.stage.folder)
        line = re.sub(rf"{folder}/cache/[0-9a-f-]+(?:\.g)?(-?\d*)\.wav", r"CACHE\1.wav", line)
        line = line.replace(f"{folder}/recordings", "REC").replace(self.stage.url, "@web")
        return UUID.sub("ID", line).strip()

    @property
    def events(self):
        """What the call told, in order."""
        return [event for event in self.stage.events if self._is_ours(event)]

    def _is_ours(self, event):
        return not isinstance(event, CallRefused) and event.call.call_id == self.call.uuid

    def _only(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def states(self):
        return [event.state for event in self._only(CallStateChanged)]

    @property
    def ended(self):
        return self._only(CallStateChanged)[-1]

    @property
    def script(self):
        """How the script ended."""
        return self._only(ScriptEnded)[0]

    @property
    def variables(self):
        return dict(self.script.variables)

    @property
    def instructions(self):
        """What ran and how it ended: ``main[0] answer ok``."""
        return [f"{event.path} {event.method} {event.outcome}" for event in self._only(MethodFinished)]

    @property
    def warnings(self):
        return self._only(ScriptWarning)

    def controls(self, kind=None):
        """The states of each control, by id, in the order the controls appeared."""
        found = {}
        for event in self._only(ControlChanged):
            if kind in (None, event.kind):
                found.setdefault((event.kind, event.control_id), []).append(event.state)
        return found

    def changes(self, kind):
        return [event for event in self._only(ControlChanged) if event.kind == kind]

    def webhooks(self, path=None):
        """The webhooks of this call, in the order they came; those to ``path``."""
        return [
            hook
            for hook in self.stage.requests
            if hook.path.startswith("/hook") and path in (None, hook.path) and self.call.uuid in _told_in(hook)
        ]

    @property
    def log(self):
        """The call's lines."""
        return [line for line in self.stage.log() if line.get("call_id") == self.call.uuid]

    def logged(self, event):
        return [line for line in self.stage.log() if line["event"] == event]

    @property
    def seconds(self):
        """How long it lasted, in call time."""
        return self.ended.end_time - self.ended.start_time

    def waits(self, start):
        """Wait until fsctl says a command that begins with this."""
        wait_for(lambda: any(line.startswith(start) for line in self.commands), start)

    # -- what is true of every call -----------------------------------------------------------------------------

    def end(self, deadline=DEADLINE):
        """Wait for the end of the call and hold it to what is true of every call."""
        call, server = self.call, self.stage.server
        assert call.join(deadline), f"{call} did not end; fsctl said {self.commands}"
        wait_for(lambda: server.calls.get(call.uuid) is None, "the call to leave")
        wait_for(lambda: not server.sender.backlog, "the webhooks")
        assert call.lingered < AT_ONCE, f"FreeSWITCH was held for {call.lingered:.1f} s"
        assert not call.expanded_apis, f"text became code: {call.expanded_apis}"
        self._told_its_end_once()
        self._closed_its_controls()
        self._left_no_trace_of_a_bug()
        return self

    def _told_its_end_once(self):
        events = self.events
        if not events:  # refused, or never properly offered
            return
        assert [event.state for event in events if isinstance(event, CallStateChanged)].count("ended") == 1
        assert isinstance(events[-1], CallStateChanged), f"told after the end: {events[-1]}"
        assert events[-1].state == "ended"
        assert sum(isinstance(event, ScriptEnded) for event in events) == 1

    def _closed_its_controls(self):
        for (kind, control_id), states in self.controls().items():
            table, state = CONTROLS[kind], ""
            for following in states:  # the id of one that is over may be used again
                state = following if following in (table[state] or table[""]) else ""
                assert state, f"{kind} {control_id} went through {states}"
            assert not table[state], f"{kind} {control_id} was left {state}"

    def _left_no_trace_of_a_bug(self):
        bugs = [line for line in self.stage.log() if "exception" in line or line["event"] in BUGS]
        assert not bugs, "\n".join(str(line.get("exception", line)) for line in bugs)


def _told_in(hook):
    return unquote_plus(hook.line) if hook.line.startswith("GET") else hook.body.decode("utf-8", "replace")
