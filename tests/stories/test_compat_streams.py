"""Streams that customers start over the compatibility API, whole: HTTP, hub, endpoint, callbacks (compat-streams.md).

The published clients of that API are asked to do it, too, as they are; each lives in a place of its own below the
Python that runs the tests, because the newest Python one has left the API out.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qsl

import gevent
import pytest
import requests
from gevent import socket
from gevent.server import StreamServer

from fsctl.simulator import Caller, Switch
from tests.stories.stage import PROJECT, REST, TOKEN, wait_for
from tests.streams.peers import Endpoint

KEY = "PSK_test"
READER = {"name": "reader", "token": "reads-and-does-nothing-else", "scopes": ["read"]}
CONFIG = {
    "streams": {"mode": "hub", "allow_plaintext": True, "endpoint_timeout": 1.0},
    "project": {**REST["project"], "signing_key": KEY},
    "api": {"tokens": [*REST["api"]["tokens"], READER]},
}
STAY = [{"answer": {}}, {"sleep": -1}]
UNREACHED = "connection_refused_timeout_or_ssl_error"
UNKNOWN = "ffffffff-0000-4000-8000-000000000000"


def _real_websockets(*args, streams, **settings):
    """The switch with its own WebSockets, in place of the scripted ones."""
    del streams
    return Switch(*args, **settings)


@pytest.fixture
def endpoint():
    made = []

    def make(**options):
        made.append(Endpoint(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def without_tls():
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: sock.sendall(b"here is no TLS\r\n"))
    server.start()
    yield server
    server.stop(timeout=0)


class Line:
    """A call that is up, and the compatibility API beside it."""

    def __init__(self, stage):
        self.stage = stage
        self.story = stage.start(STAY, behaviour=Caller(speaks=((0.0, 60.0),)))
        self.sid = self.story.call.uuid
        wait_for(lambda: "answered" in self.story.states, "the answer")

    @property
    def path(self):
        return f"/api/laml/2010-04-01/Accounts/{PROJECT}/Calls/{self.sid}/Streams"

    def post(self, tail="", *, as_json=False, auth=(PROJECT, TOKEN), **fields):
        body = {"json": fields} if as_json else {"data": fields}
        return requests.post(f"{self.stage.public_url}{self.path}{tail}", auth=auth, timeout=10, **body)

    def start(self, url, **fields):
        answer = self.post(Url=url, StatusCallback=self.stage.here("@web/hook"), **fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def callbacks(self, count):
        """What the first ``count`` callbacks said, each checked as a receiver does."""
        wait_for(lambda: len(self.story.webhooks()) >= count, f"{count} callbacks")
        return [self.checked(hook) for hook in self.story.webhooks()[:count]]

    def checked(self, hook):
        method, target, _ = hook.line.split()
        headers = {name.lower(): value for name, value in hook.headers.items()}
        pairs = parse_qsl(hook.body.decode() if method == "POST" else target.partition("?")[2], keep_blank_values=True)
        message = self.stage.url + target
        if method == "POST":
            assert headers["content-type"] == "application/x-www-form-urlencoded"
            message += "".join(name + value for name, value in sorted(pairs))
        signature = base64.b64encode(hmac.digest(KEY.encode(), message.encode(), "sha1")).decode()
        assert headers["x-signalwire-signature"] == signature
        return dict(pairs)

    def end(self):
        """Hang up, and hear everything the call had to tell."""
        assert self.stage.ask("calling.end", self.sid).status_code == 200
        self.story.end()
        return [self.checked(hook) for hook in self.story.webhooks()]


@pytest.fixture
def line(stage):
    return Line(stage(rest=True, config=CONFIG, speed=1.0, switch=_real_websockets))


def told(sid, name, event, track="both_tracks", **error):
    """A callback without what is of the call, which every one has."""
    return {"StreamSid": sid, "StreamName": name, "StreamEvent": event, "StreamTrack": track, **error}


def of_streams(callbacks, line):
    """The same of what came, after a look at the rest."""
    for fields in callbacks:
        assert fields.pop("AccountSid") == PROJECT
        assert fields.pop("CallSid") == fields.pop("Unique-ID") == line.sid
        assert len(fields.pop("Timestamp")) == len("2026-01-02T03:04:05Z")
    return callbacks


# -- from start to stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".json"])
@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
def test_a_stream_from_its_start_to_its_stop(line, endpoint, as_json, suffix):
    far = endpoint()

    started = line.post(
        suffix,
        as_json=as_json,
        Url=far.url,
        Name="my_first_stream",
        AuthorizationBearerToken="s3cret",
        StatusCallback=line.stage.here("@web/hook?shop=1"),
        **{"Parameter1.Name": "FirstName", "Parameter1.Value": "Zoë & co", "Parameter2.Name": "empty"},
    ).json()
    sid = started["sid"]
    wait_for(lambda: len(far.audio("inbound")) > 1600 and len(far.audio("outbound")) > 1600, "audio of both tracks")
    stopped = line.post(f"/{sid}{suffix}", as_json=as_json, Status="stopped").json()

    assert (started["status"], started["name"]) == ("queued", "my_first_stream")
    assert stopped == {**started, "status": "stopped", "date_updated": stopped["date_updated"]}
    assert far.connections[0].request.headers["Authorization"] == "Bearer s3cret"
    assert far.said[0]["event"] == "connected"
    assert far.said[1]["start"] == {
        "streamSid": sid,
        "accountSid": PROJECT,
        "callSid": line.sid,
        "tracks": ["inbound", "outbound"],
        "customParameters": {"FirstName": "Zoë & co", "empty": ""},
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
    }
    assert far.said[-1]["event"] == "stop"
    assert of_streams(line.callbacks(2), line) == [
        told(sid, "my_first_stream", "stream-started"),
        told(sid, "my_first_stream", "stream-stopped"),
    ]
    assert len(line.end()) == 2


def test_callbacks_by_get(line, endpoint):
    sid = line.start(endpoint().url, Track="inbound_track", StatusCallbackMethod="GET")["sid"]

    (fields,) = of_streams(line.callbacks(1), line)

    assert line.story.webhooks()[0].body == b""
    assert fields == told(sid, sid, "stream-started", "inbound_track")
    line.end()


def test_several_at_once_are_stopped_by_name_by_a_command_and_by_the_end(line, endpoint):
    ends = [endpoint() for _ in range(3)]
    sids = [line.start(far.url, Name=name)["sid"] for far, name in zip(ends, "abc", strict=True)]
    line.callbacks(3)
    assert line.post(Url=ends[0].url, Name="a").json()["code"] == 10000

    assert line.post("/a").json()["status"] == "stopped"
    assert line.stage.ask("calling.stream.stop", line.sid, control_id=sids[1]).status_code == 200

    stops = of_streams(line.end(), line)[3:]
    assert stops == [told(sid, name, "stream-stopped") for sid, name in zip(sids, "abc", strict=True)]
    assert [far.said[-1]["event"] for far in ends] == ["stop"] * 3


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "error"),
    [("closed port", "connection_refused"), ("a web server", "connection_refused"), ("no TLS", UNREACHED)],
)
def test_an_endpoint_that_is_none(line, without_tls, where, error):
    if where == "closed port":
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"ws://127.0.0.1:{server.getsockname()[1]}/"
    elif where == "a web server":
        url = line.stage.url.replace("http", "ws") + "/nothing"
    else:
        url = f"wss://127.0.0.1:{without_tls.server_port}/"

    sid = line.start(url)["sid"]

    line.callbacks(1)
    assert of_streams(line.end(), line) == [told(sid, sid, "stream-error", StreamError=error)]


def test_an_endpoint_that_says_nothing(line):
    with socket.create_server(("127.0.0.1", 0)) as server:
        sid = line.start(f"ws://127.0.0.1:{server.getsockname()[1]}/")["sid"]
        line.callbacks(1)

    assert of_streams(line.end(), line) == [told(sid, sid, "stream-error", StreamError=UNREACHED)]


def test_a_connection_that_breaks(line, endpoint):
    far = endpoint()
    sid = line.start(far.url)["sid"]
    line.callbacks(1)

    far.connections[0].cut()

    line.callbacks(2)
    assert of_streams(line.end(), line) == [
        told(sid, sid, "stream-started"),
        told(sid, sid, "stream-error", StreamError=UNREACHED),
    ]


def test_an_endpoint_that_closes_has_had_enough(line, endpoint):
    far = endpoint()
    sid = line.start(far.url)["sid"]
    line.callbacks(1)

    far.connections[0].close()

    line.callbacks(2)
    assert line.post(f"/{sid}").json()["status"] == "stopped"
    assert [fields["StreamEvent"] for fields in line.end()] == ["stream-started", "stream-stopped"]


def test_refusals_of_the_whole_service(line, endpoint):
    url = endpoint().url
    elsewhere = line.stage.public_url + line.path.replace(PROJECT, UNKNOWN)
    reader = (PROJECT, READER["token"])

    answers = {
        "nobody": line.post(Url=url, auth=None),
        "reader": line.post(Url=url, auth=reader),
        "account": requests.post(elsewhere, data={"Url": url}, auth=(PROJECT, TOKEN), timeout=10),
        "private": line.post(Url="wss://10.0.0.1/in"),
        "callback": line.post(Url=url, StatusCallback="http://10.0.0.1/s"),
        "stream": line.post(f"/{UNKNOWN}"),
        "route": line.post("/a/b"),
    }
    line.end()
    answers["ended"] = line.post(Url=url)

    assert {name: (answer.status_code, answer.json()["code"]) for name, answer in answers.items()} == {
        "nobody": (401, 20003),
        "reader": (403, 20003),
        "account": (404, 20404),
        "private": (400, 21402),
        "callback": (400, 21456),
        "stream": (404, 20404),
        "route": (404, 20404),
        "ended": (422, 21220),
    }
    assert line.story.webhooks() == []


def test_what_is_served_is_described(line):
    paths = requests.get(f"{line.stage.public_url}/openapi.json", timeout=10).json()["paths"]

    root = "/api/laml/2010-04-01/Accounts/{account_sid}"
    described = {path.removeprefix(root): item["post"] for path, item in paths.items() if path.startswith(root)}
    assert set(described) == {
        "/Calls/{call_sid}/Streams",
        "/Calls/{call_sid}/Streams/{sid}",
        "/Conferences/{conference_sid}/Streams",
        "/Conferences/{conference_sid}/Streams/{sid}",
    }
    start = described["/Calls/{call_sid}/Streams"]
    assert set(start["requestBody"]["content"]) == {"application/x-www-form-urlencoded", "application/json"}
    assert start["responses"]["422"] == {"$ref": "#/components/responses/CompatInvalid"}
    assert any(parameter.get("name") == "Idempotency-Key" for parameter in start["parameters"])
    line.end()


# -- the published clients -------------------------------------------------------------------------------------------

CLIENTS = Path(sys.prefix, "compat-clients")
SDK = CLIENTS / "python/bin/python"
API = CLIENTS / "node_modules/@signalwire/compatibility-api"

with_sdk = pytest.mark.skipif(
    not SDK.exists(),
    reason=f"the last SDK with this API is not there: python -m venv {CLIENTS}/python && "
    f"{CLIENTS}/python/bin/pip install 'signalwire-sdk~=3.0.2'",
)
with_api = pytest.mark.skipif(
    shutil.which("node") is None or not API.exists(),
    reason=f"the JavaScript client is not there: npm install --prefix {CLIENTS} @signalwire/compatibility-api",
)

IN_PYTHON = """
import json, sys
from signalwire.rest import RestClient, SignalWireRestError
asked = json.loads(sys.argv[1])
client = RestClient(project=asked["project"], token=asked["token"], host=asked["host"])
try:
    answer = getattr(client.compat.calls, asked["do"])(*asked["sids"], **asked["fields"])
except SignalWireRestError as error:
    answer = {"refused": error.status_code, **error.body}
print(json.dumps(answer))
"""

IN_JAVASCRIPT = """
const { RestClient } = require("@signalwire/compatibility-api")
const asked = JSON.parse(process.argv[1])
const client = RestClient(asked.project, asked.token, { signalwireSpaceUrl: asked.host + "/api/laml" })
const say = (answer) => console.log(JSON.stringify(answer))
const refused = (error) => say({ refused: error.status, code: error.code, message: error.message })
const [call, stream] = asked.sids
if (asked.do === "start") client.calls(call).streams.create(asked.fields).then(say, refused)
if (asked.do === "stop") client.calls(call).streams(stream).update(asked.fields).then(say, refused)
if (asked.do === "check") say(RestClient.validateRequest(asked.key, asked.signature, asked.url, asked.fields))
"""


@pytest.fixture(scope="module")
def trust(tmp_path_factory):
    """A certificate for 127.0.0.1: the file, and the side of it that serves."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("front")
    cert, key = folder / "front.crt", folder / "front.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


class Client:
    """A published client, run as a program of its own. These know TLS only, as a proxy before fsctl speaks it."""

    def __init__(self, line, trust, *command, **environment):
        self.line = line
        cert, context = trust
        self._command = command
        self._environment = {"PATH": os.environ["PATH"], **dict.fromkeys(environment, str(cert))}
        self._front = StreamServer(("127.0.0.1", 0), self._forward, ssl_context=context)
        self._front.start()

    def _forward(self, near, _):
        host, _, port = self.line.stage.public_url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            gevent.joinall([gevent.spawn(_pump, near, far), gevent.spawn(_pump, far, near)], count=1)

    def __call__(self, do, *sids, **more):
        asked = {
            "project": PROJECT,
            "token": TOKEN,
            "host": f"127.0.0.1:{self._front.server_port}",
            "do": do,
            "sids": sids,
            "fields": more.pop("fields", {}),
            **more,
        }
        ran = subprocess.run(
            [*self._command, json.dumps(asked)],
            check=False, capture_output=True, text=True, timeout=60, env=self._environment, cwd=CLIENTS,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.strip().splitlines()[-1])

    def close(self):
        self._front.stop(timeout=0)


def _pump(source, drain):
    try:
        while data := source.recv(65_536):
            drain.sendall(data)
    except OSError:
        return


@pytest.fixture
def client(line, trust):
    made = []

    def make(*command, **environment):
        made.append(Client(line, trust, *command, **environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


@with_sdk
def test_the_python_client(line, endpoint, client):
    ask = client(str(SDK), "-c", IN_PYTHON, REQUESTS_CA_BUNDLE=True)
    far = endpoint()

    started = ask(
        "start_stream",
        line.sid,
        fields={
            "Url": far.url,
            "Name": "from python",
            "Track": "inbound_track",
            "StatusCallback": line.stage.here("@web/hook"),
            "Parameter1.Name": "FirstName",
            "Parameter1.Value": "Jane",
        },
    )
    line.callbacks(1)
    stopped = ask("stop_stream", line.sid, started["sid"])
    refused = ask("stop_stream", line.sid, UNKNOWN, fields={"Status": "stopped"})

    assert (started["name"], started["status"]) == ("from python", "queued")
    assert stopped == {**started, "status": "stopped", "date_updated": stopped["date_updated"]}
    assert (refused["refused"], refused["code"]) == (404, 20404)
    assert far.said[1]["start"]["customParameters"] == {"FirstName": "Jane"}
    assert of_streams(line.end(), line) == [
        told(started["sid"], "from python", event, "inbound_track") for event in ("stream-started", "stream-stopped")
    ]


@with_api
def test_the_javascript_client_which_checks_the_callbacks(line, endpoint, client):
    ask = client("node", "-e", IN_JAVASCRIPT, NODE_EXTRA_CA_CERTS=True)
    far = endpoint()

    started = ask(
        "start",
        line.sid,
        fields={
            "url": far.url,
            "name": "from javascript",
            "statusCallback": line.stage.here("@web/hook?shop=1"),
            "parameter1.name": "FirstName",
            "parameter1.value": "Zoë",
        },
    )
    line.callbacks(1)
    stopped = ask("stop", line.sid, started["sid"], fields={"status": "stopped"})
    refused = ask("start", line.sid, fields={"url": "https://no.websocket.example/"})

    assert (started["name"], started["status"], started["callSid"]) == ("from javascript", "queued", line.sid)
    assert (stopped["sid"], stopped["status"]) == (started["sid"], "stopped")
    assert (refused["refused"], refused["code"]) == (400, 21402)
    assert far.said[1]["start"]["customParameters"] == {"FirstName": "Zoë"}
    for hook in line.story.webhooks():
        headers = {name.lower(): value for name, value in hook.headers.items()}
        given = {
            "key": KEY,
            "signature": headers["x-signalwire-signature"],
            "url": line.stage.url + hook.line.split()[1],
            "fields": dict(parse_qsl(hook.body.decode())),
        }
        assert ask("check", **given) is True
        assert ask("check", **{**given, "key": "PSK_other"}) is False
    assert [fields["StreamEvent"] for fields in line.end()] == ["stream-started", "stream-stopped"]
