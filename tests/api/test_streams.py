"""Starting and stopping streams as the compatibility API has it, field by field (compat-streams.md 1 to 4, 8)."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest
import yaml
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fsctl.api.access import Grant
from fsctl.api.app import make_app
from fsctl.api.idempotency import Idempotency
from fsctl.api.streams import ConferenceStreams, StartStream, StopStream, stream_resources
from fsctl.call.calls import Calls
from fsctl.call.events import Callback
from fsctl.errors import CommandFailed, FetchError, LegGone
from fsctl.methods import COMMANDS
from fsctl.methods.stream import Streaming, begin, stop_stream
from fsctl.metrics import Metrics
from fsctl.streams.ended import Ended
from tests.fakes.call import CALL_ID, STREAMS, changes, make_call, states
from tests.methods.commanding import ask
from tests.methods.running import run

PROJECT = "00000000-0000-4000-8000-000000000001"
ACCOUNT = f"/api/laml/2010-04-01/Accounts/{PROJECT}"
STARTS = f"{ACCOUNT}/Calls/{CALL_ID}/Streams"
URL = "wss://asr.example/in"
STATUS = "https://hooks.example/s"
SECRET = "t0p-s3cret"
UNKNOWN = "ffffffff-0000-4000-8000-000000000000"
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SPEC = Path(__file__).parents[3] / "shared/spec/data/compat-streams.openapi.yaml"
FORM = "application/x-www-form-urlencoded"
HUB = SimpleNamespace(**{**vars(STREAMS), "mode": "hub", "reconnects": 0})


class FakeStreams:
    """The hub's side of a call: every endpoint accepts, except where told otherwise."""

    def __init__(self):
        self.specs = []
        self.refuses = None
        self._changed = {}

    def start(self, spec, changed):
        self.specs.append(spec)
        if self.refuses is not None:
            changed("finished", self.refuses)
            raise CommandFailed("stream", self.refuses.detail)
        self._changed[spec.stream_id] = changed
        return spec.stream_id

    def stop(self, started):
        self.ends(started, "stopped")

    def ends(self, sid, reason):
        self._changed[sid]("finished", Ended(reason))


class Bench:
    """An application with one live call, and what it did."""

    def __init__(self, tmp_path, *, strict=False, streams=HUB, **changes):
        self.call = make_call(tmp_path, streams=streams, **changes)
        self.call.streams = self.streams = FakeStreams()
        self.calls = Calls()
        self.calls.add(self.call)
        self.client = testing.TestClient(
            make_app(
                metrics=Metrics(CollectorRegistry(), live=dict),
                health=dict,
                recordings=tmp_path,
                resources=stream_resources(self.calls, strict=strict),
                middleware=[self, Idempotency(seconds=60, entries=10)],
            )
        )

    def process_request(self, req, _resp):
        req.context.token = Grant("crm", frozenset(("control",)))
        req.context.project_id = PROJECT

    def post(self, path=STARTS, fields=None, *, as_json=False, headers=None):
        body = json.dumps(fields or {}) if as_json else urlencode(fields or {})
        kind = "application/json" if as_json else FORM
        return self.client.simulate_post(quote(path), body=body, headers={"Content-Type": kind, **(headers or {})})

    def start(self, as_json=False, **fields):
        return self.post(STARTS, {"Url": URL, **fields}, as_json=as_json)

    def stop(self, sid, as_json=False, **fields):
        return self.post(f"{STARTS}/{sid}", fields, as_json=as_json)

    def hold(self):
        """Let endpoints answer only when the list that is given is run."""
        work = []
        self.call.leg.background = work.append
        return work

    @property
    def spec(self):
        (spec,) = self.streams.specs
        return spec

    @property
    def running(self):
        return [control.id for control in self.call.controls.running("stream")]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def refused(answer):
    """Status and code of a refusal that has the documented shape."""
    assert set(answer.json) == {"code", "message", "more_info", "status"}
    assert answer.json["status"] == answer.status_code
    assert answer.json["more_info"].startswith("https://")
    assert answer.json["message"]
    return answer.status_code, answer.json["code"]


# -- the resource ----------------------------------------------------------------------------------------------------


def test_a_start_is_answered_with_the_stream(bench):
    work = bench.hold()

    answer = bench.start(Name="my_first_stream")

    (sid,) = bench.running
    assert answer.status_code == 200
    assert answer.json == {
        "sid": sid,
        "account_sid": PROJECT,
        "call_sid": CALL_ID,
        "name": "my_first_stream",
        "status": "queued",
        "date_updated": answer.json["date_updated"],
        "uri": f"{STARTS}/{sid}.json",
    }
    assert UUID.fullmatch(sid)
    assert answer.json["date_updated"].endswith(" +0000")
    assert parsedate_to_datetime(answer.json["date_updated"]).timestamp() == int(bench.call.clock.now())
    assert bench.streams.specs == []
    work[0]()
    assert states(bench.call, "stream") == ["streaming"]


def test_every_answer_is_as_the_published_schema_has_it(bench):
    jsonschema = pytest.importorskip("jsonschema")
    if not SPEC.exists():
        pytest.skip(f"the published description is not at hand: {SPEC}")
    components = yaml.safe_load(SPEC.read_text())["components"]

    def check(answer, name):
        validator = jsonschema.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": components},
            format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        )
        validator.validate(answer.json)

    started = bench.start()
    check(started, "CallStreamResponse")
    check(bench.stop(started.json["sid"]), "CallStreamResponse")
    check(bench.stop("nothing"), "CompatibilityErrorResponse")
    check(bench.start(Track="all"), "CompatibilityErrorResponse")


@pytest.mark.parametrize("suffix", ["", ".json"])
@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
def test_forms_and_json_with_and_without_the_suffix(bench, as_json, suffix):
    fields = {"Url": URL, "Name": "a b&c=ü", "Parameter1.Name": "who", "Parameter1.Value": "Zoë & co"}

    started = bench.post(f"{STARTS}{suffix}", fields, as_json=as_json)
    stopped = bench.post(f"{STARTS}/{started.json['sid']}{suffix}", {"Status": "stopped"}, as_json=as_json)

    assert (started.status_code, started.json["status"], started.json["name"]) == (200, "in-progress", "a b&c=ü")
    assert bench.spec.parameters == {"who": "Zoë & co"}
    assert (stopped.status_code, stopped.json["status"]) == (200, "stopped")
    assert {**started.json, "status": "", "date_updated": ""} == {**stopped.json, "status": "", "date_updated": ""}
    assert started.json["uri"].endswith(f"{started.json['sid']}.json")


def test_a_stream_that_failed_at_once_is_stopped(bench):
    bench.streams.refuses = Ended("refused", "refused the connection")

    answer = bench.start()

    assert (answer.status_code, answer.json["status"]) == (200, "stopped")
    assert bench.running == []


# -- where -----------------------------------------------------------------------------------------------------------


def test_ids_in_capitals_are_the_same(bench):
    path = STARTS.replace(PROJECT, PROJECT.upper()).replace(CALL_ID, CALL_ID.upper())

    started = bench.post(path, {"Url": URL})
    stopped = bench.post(f"{path}/{started.json['sid'].upper()}")

    assert started.json["uri"].startswith(STARTS)
    assert (stopped.status_code, stopped.json["status"]) == (200, "stopped")


@pytest.mark.parametrize("tail", ["", ".json", "/x", "/x.json"])
@pytest.mark.parametrize(
    ("account", "call"),
    [
        pytest.param(UNKNOWN, CALL_ID, id="another account"),
        pytest.param("AC1", CALL_ID, id="an account that is no UUID"),
        pytest.param(PROJECT, UNKNOWN, id="no such call"),
        pytest.param(PROJECT, "CA1", id="a call that is no UUID"),
        pytest.param(PROJECT, f"{CALL_ID}0", id="more than a UUID"),
    ],
)
def test_what_is_not_there(bench, account, call, tail):
    path = f"/api/laml/2010-04-01/Accounts/{account}/Calls/{call}/Streams{tail}"

    assert refused(bench.post(path, {"Url": URL})) == (404, 20404)
    assert bench.running == []


@pytest.mark.parametrize("tail", ["", "/x"])
@pytest.mark.parametrize("gone", [True, False], ids=["gone", "just ended"])
def test_a_call_that_has_ended(bench, gone, tail):
    bench.call.to("ending")
    bench.call.to("ended")
    if gone:
        bench.calls.remove(bench.call)

    assert refused(bench.post(f"{STARTS}{tail}", {"Url": URL})) == (422, 21220)


@pytest.mark.parametrize("state", ["", "created", "ringing", "ending"])
def test_a_call_that_is_not_answered(tmp_path, state):
    bench = Bench(tmp_path, answered=False)
    bench.call.state = state

    assert refused(bench.start()) == (422, 21220)
    assert bench.running == []


def test_a_call_whose_party_goes_in_the_middle(bench):
    bench.call.leg.waiter = lambda: (_ for _ in ()).throw(LegGone)

    assert refused(bench.start()) == (422, 21220)


@pytest.mark.parametrize("tail", ["", ".json", "/x", "/x.json"])
def test_there_are_no_conferences(bench, tail):
    answer = bench.post(f"{ACCOUNT}/Conferences/{UNKNOWN}/Streams{tail}", {"Url": URL})

    assert refused(answer) == (404, 20404)
    assert "conference" in answer.json["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
@pytest.mark.parametrize("tail", ["", ".json", "/x"])
def test_no_other_methods(bench, tail, method):
    answer = bench.client.simulate_request(method, f"{STARTS}{tail}")

    assert refused(answer) == (405, 20001)
    assert answer.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("resource", [StartStream, StopStream, ConferenceStreams])
def test_it_takes_a_token_that_may_control(resource):
    assert resource.scopes == {"POST": "control"}


# -- what to stream --------------------------------------------------------------------------------------------------


def test_what_is_streamed_where_little_is_said(bench):
    answer = bench.start()

    spec = bench.spec
    assert (spec.stream_id, spec.call_id, spec.account_id) == (answer.json["sid"], CALL_ID, PROJECT)
    assert spec.url == URL
    assert spec.tracks == ("inbound", "outbound")
    assert (spec.form.codec, spec.form.rate) == ("PCMU", 8000)
    assert (spec.token, spec.parameters, spec.two_way) == (None, {}, False)
    assert answer.json["name"] == answer.json["sid"]
    assert changes(bench.call, "stream")[0].callback is None


@pytest.mark.parametrize(
    ("track", "tracks"),
    [
        ("inbound_track", ("inbound",)),
        ("outbound_track", ("outbound",)),
        ("both_tracks", ("inbound", "outbound")),
        ("", ("inbound", "outbound")),
    ],
)
def test_track(bench, track, tracks):
    bench.start(Track=track)

    assert bench.spec.tracks == tracks


def test_a_token_goes_to_the_endpoint_and_nowhere_else(bench):
    with capture_logs() as logs:
        answer = bench.start(AuthorizationBearerToken=SECRET, StatusCallback=STATUS)

    assert bench.spec.token == SECRET
    assert SECRET not in answer.text
    assert SECRET not in repr(logs)
    assert SECRET not in repr(bench.call.told)


@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
def test_ninety_nine_parameters(bench, as_json):
    fields = {}
    for number in range(1, 100):
        fields |= {f"Parameter{number}.Name": f"n{number}", f"Parameter{number}.Value": f"v{number}"}

    bench.start(as_json, **fields)

    assert bench.spec.parameters == {f"n{number}": f"v{number}" for number in range(1, 100)}


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        pytest.param({"Parameter7.Name": "a", "Parameter7.Value": "b"}, {"a": "b"}, id="any number"),
        pytest.param({"Parameter1.Name": "a"}, {"a": ""}, id="no value"),
        pytest.param({"Parameter1.Name": "a", "Parameter1.Value": None}, {"a": ""}, id="null"),
        pytest.param({"Parameter1.Name": "", "Parameter1.Value": ""}, {}, id="blank"),
        pytest.param({"Parameter1.Name": "a", "Parameter1.Value": 5}, {"a": "5"}, id="a number"),
        pytest.param({"Parameter1.Name": "a", "Parameter1.Value": True}, {"a": "true"}, id="true"),
        pytest.param({"Parameter1.Name": "a", "Parameter1.Value": "${x}"}, {"a": "${x}"}, id="a placeholder is text"),
    ],
)
def test_parameters(bench, fields, parameters):
    assert bench.start(as_json=True, **fields).status_code == 200
    assert bench.spec.parameters == parameters


@given(
    parameters=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.text(st.characters(exclude_categories=["Cs"])),
        max_size=5,
    )
)
@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
def test_parameters_reach_the_endpoint_as_they_are(tmp_path_factory, as_json, parameters):
    bench = Bench(tmp_path_factory.getbasetemp())
    fields = {}
    for number, (name, value) in enumerate(parameters.items(), 1):
        fields |= {f"Parameter{number}.Name": name, f"Parameter{number}.Value": value}

    bench.start(as_json, **fields)

    assert bench.spec.parameters == parameters


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"Url": None}, (400, 10000), id="no URL"),
        pytest.param({"Url": ""}, (400, 10000), id="a blank URL"),
        pytest.param({"Url": 5}, (400, 21402), id="a number for a URL"),
        pytest.param({"Url": "ws://asr.example/in"}, (400, 21402), id="ws"),
        pytest.param({"Url": "WS://asr.example/in"}, (400, 21402), id="WS"),
        pytest.param({"Url": "https://asr.example/in"}, (400, 21402), id="https"),
        pytest.param({"Url": "asr.example"}, (400, 21402), id="no scheme"),
        pytest.param({"Url": "/in"}, (400, 21402), id="relative"),
        pytest.param({"Url": "wss://"}, (400, 21402), id="no host"),
        pytest.param({"Url": "wss://h:0/"}, (400, 21402), id="port 0"),
        pytest.param({"Url": "wss://h:x/"}, (400, 21402), id="no port"),
        pytest.param({"Url": "wss://h/a b"}, (400, 21402), id="a space"),
        pytest.param({"Url": "wss://h/\r\nX: y"}, (400, 21402), id="a line"),
        pytest.param({"Url": "wss://h/in?token=1"}, (400, 21402), id="a query"),
        pytest.param({"Name": 5}, (400, 10000), id="a number for a name"),
        pytest.param({"Name": "n" * 256}, (400, 10000), id="a long name"),
        pytest.param({"Track": "inbound"}, (400, 10000), id="track inbound"),
        pytest.param({"Track": "BOTH_TRACKS"}, (400, 10000), id="track in capitals"),
        pytest.param({"Track": ["both_tracks"]}, (400, 10000), id="a list of tracks"),
        pytest.param({"StatusCallback": "hooks.example"}, (400, 21456), id="callback without scheme"),
        pytest.param({"StatusCallback": "/s"}, (400, 21456), id="relative callback"),
        pytest.param({"StatusCallback": "wss://hooks.example/s"}, (400, 21456), id="wss for a callback"),
        pytest.param({"StatusCallback": 5}, (400, 21456), id="a number for a callback"),
        pytest.param({"StatusCallback": STATUS, "StatusCallbackMethod": "PUT"}, (400, 13221), id="callback by PUT"),
        pytest.param({"StatusCallbackMethod": "post"}, (400, 13221), id="method in small letters"),
        pytest.param({"AuthorizationBearerToken": "a b"}, (400, 10000), id="a space in the token"),
        pytest.param({"AuthorizationBearerToken": "a\r\nX: y"}, (400, 10000), id="a line in the token"),
        pytest.param({"AuthorizationBearerToken": 5}, (400, 10000), id="a number for a token"),
        pytest.param({"Parameter1.Value": "v"}, (400, 10000), id="a value without a name"),
        pytest.param({"Parameter1.Name": 5}, (400, 10000), id="a number for a parameter's name"),
        pytest.param({"Parameter1.Name": "a", "Parameter1.Value": {}}, (400, 10000), id="an object for a value"),
        pytest.param({"Parameter1.Name": "a", "Parameter2.Name": "a"}, (400, 10000), id="a parameter twice"),
        pytest.param({"Parameter0.Name": "a"}, (400, 10000), id="parameter 0"),
        pytest.param({"Parameter100.Name": "a"}, (400, 10000), id="parameter 100"),
        pytest.param({"Parameter01.Name": "a"}, (400, 10000), id="parameter 01"),
    ],
)
def test_a_field_that_is_wrong(bench, fields, expected):
    assert refused(bench.start(as_json=True, **fields)) == expected
    assert (bench.running, bench.streams.specs) == ([], [])
    if not any(isinstance(value, int | list | dict | None) for value in fields.values()):
        assert refused(bench.start(**fields)) == expected  # and so in a form


def test_a_token_that_is_refused_is_not_repeated(bench):
    assert SECRET not in bench.start(AuthorizationBearerToken=f"{SECRET} x").text


def test_no_fields_at_all(bench):
    assert refused(bench.client.simulate_post(STARTS)) == (400, 10000)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        pytest.param("Url=wss://h/", "text/plain", id="plain text"),
        pytest.param("<Url/>", "application/xml", id="XML"),
        pytest.param("{", "application/json", id="half JSON"),
        pytest.param("[]", "application/json", id="a list"),
        pytest.param('{"Url": "wss://h/", "Url": "wss://i/"}', "application/json", id="a key twice"),
        pytest.param("Url=wss%3A%2F%2Fh%2F&Url=wss%3A%2F%2Fi%2F", FORM, id="a field twice"),
        pytest.param("Url=%ff", FORM, id="no UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read(bench, body, kind):
    answer = bench.client.simulate_post(STARTS, body=body, headers={"Content-Type": kind})

    assert refused(answer) == (400, 10000)


def test_fields_nobody_knows_are_passed_over_with_a_word(bench):
    with capture_logs() as logs:
        assert bench.start(StreamCodec="PCMA", url="wss://other.example/").status_code == 200

    (line,) = [line for line in logs if line["event"] == "parameters_ignored"]
    assert sorted(line["parameters"]) == ["StreamCodec", "url"]


def test_fields_nobody_knows_are_refused_where_the_operator_says_so(tmp_path):
    bench = Bench(tmp_path, strict=True)

    assert refused(bench.start(StreamCodec="PCMA")) == (400, 10000)
    assert bench.start(**{"Parameter1.Name": "a"}).status_code == 200


def test_plain_text_where_the_operator_allows_it(tmp_path):
    bench = Bench(tmp_path, streams=SimpleNamespace(**{**vars(HUB), "allow_plaintext": True}))

    assert bench.start(Url="ws://asr.example/in").status_code == 200
    assert bench.spec.url == "ws://asr.example/in"


@pytest.mark.parametrize(
    ("fields", "reason", "expected"),
    [
        pytest.param({}, "address", (400, 21402), id="a private endpoint"),
        pytest.param({}, "malformed", (400, 21402), id="no URL to the client"),
        pytest.param({"StatusCallback": STATUS}, "address", (400, 21456), id="a private callback"),
    ],
)
def test_where_customers_may_not_go(bench, fields, reason, expected):
    about = fields.get("StatusCallback", URL)

    def admit(url):
        if url == about:
            raise FetchError(url, reason, "is not for you")

    bench.call.services.web.admit = admit

    assert refused(bench.start(**fields)) == expected
    assert bench.running == []


def test_a_host_that_is_not_found_is_told_by_the_stream(bench):
    bench.call.services.web.refuses = FetchError(URL, "dns", "cannot be found")

    assert bench.start(StatusCallback=STATUS).status_code == 200


def test_without_the_hub_there_is_nothing_to_start(tmp_path):
    bench = Bench(tmp_path, streams=STREAMS)

    answer = bench.start(StatusCallback=STATUS)

    assert refused(answer) == (422, 21220)
    assert "streams.mode hub" in answer.json["message"]
    assert changes(bench.call, "stream") == []


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_unique_among_the_streams_that_run(bench):
    first = bench.start(Name="a").json

    assert refused(bench.start(Name="a")) == (422, 10000)
    assert refused(bench.start(Name=first["sid"])) == (422, 10000)
    assert bench.start(Name="A").status_code == 200

    bench.stop("a")
    assert bench.start(Name="a").status_code == 200


def test_a_name_that_a_document_took(bench):
    begin(bench.call, Streaming(method="stream", url=URL, control_id="s-1", name="a"))

    assert refused(bench.start(Name="a")) == (422, 10000)
    assert refused(bench.start(Name="s-1")) == (422, 10000)


def test_several_at_once(bench):
    sids = [bench.start().json["sid"] for _ in range(3)]

    assert bench.running == sids


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"Status": "stopped"}, {"Status": ""}], ids=["absent", "stopped", "blank"])
@pytest.mark.parametrize("as_json", [False, True], ids=["form", "json"])
@pytest.mark.parametrize("by", ["sid", "name"])
def test_a_stop_by_sid_or_name(bench, by, as_json, fields):
    other = bench.start(Name="other").json["sid"]
    started = bench.start(Name="my stream").json

    answer = bench.stop(started[by], as_json, **fields)

    assert answer.status_code == 200
    assert answer.json == {**started, "status": "stopped", "date_updated": answer.json["date_updated"]}
    assert bench.running == [other]


def test_a_stop_without_a_body(bench):
    sid = bench.start().json["sid"]

    assert bench.client.simulate_post(f"{STARTS}/{sid}").json["status"] == "stopped"


@pytest.mark.parametrize("status", ["paused", "STOPPED", "in-progress", 5, ["stopped"]], ids=str)
def test_any_other_status(bench, status):
    sid = bench.start().json["sid"]

    assert refused(bench.stop(sid, True, Status=status)) == (400, 10000)
    assert bench.running == [sid]


def test_a_sid_goes_before_a_name(bench):
    first = begin(bench.call, Streaming(method="stream", url=URL, control_id="s-1")).id
    begin(bench.call, Streaming(method="stream", url=URL, control_id="s-2", name="s-1"))

    assert bench.stop("s-1").json["sid"] == first
    assert bench.running == ["s-2"]


def test_a_name_that_ends_in_json(bench):
    bench.start(Name="a.json")

    assert bench.stop("a.json").json["name"] == "a.json"


def test_a_stop_before_the_endpoint_has_answered(bench):
    work = bench.hold()
    sid = bench.start(StatusCallback=STATUS).json["sid"]

    assert bench.stop(sid).json["status"] == "stopped"

    work[0]()
    assert states(bench.call, "stream") == ["finished"]


def test_a_stream_that_ended_by_itself_is_stopped_already(bench):
    started = bench.start(Name="a").json
    ended = bench.call.clock.now()
    bench.streams.ends(started["sid"], "closed")
    bench.call.clock.sleep(60)

    answer = bench.stop(started["sid"])

    assert (answer.status_code, answer.json["status"], answer.json["name"]) == (200, "stopped", "a")
    assert parsedate_to_datetime(answer.json["date_updated"]).timestamp() == int(ended)
    assert bench.stop(f"{started['sid'].upper()}.json").json == answer.json
    assert refused(bench.stop("a")) == (404, 20404)


@pytest.mark.parametrize("sid", [UNKNOWN, "ST1", "no such name", ".json"])
def test_a_stream_that_never_was(bench, sid):
    bench.start(Name="a")

    assert refused(bench.stop(sid)) == (404, 20404)
    assert len(bench.running) == 1


def test_the_stream_of_another_call(bench, tmp_path):
    sid = bench.start(Name="a").json["sid"]
    other = make_call(tmp_path, call_id=UNKNOWN)
    bench.calls.add(other)

    for wanted in (sid, "a"):
        assert refused(bench.post(STARTS.replace(CALL_ID, UNKNOWN) + f"/{wanted}")) == (404, 20404)
    assert bench.running == [sid]


def test_a_stream_that_a_document_started(bench):
    begin(bench.call, Streaming(method="stream", url=URL, control_id="s/1", name="live"))

    answer = bench.stop("live")

    assert answer.json["status"] == "stopped"
    assert (answer.json["sid"], answer.json["name"]) == ("s/1", "live")
    assert answer.json["uri"].endswith("/Streams/s%2F1.json")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        pytest.param(CommandFailed("uuid_audio_stream", "-ERR no"), (503, 20504), id="FreeSWITCH refuses"),
        pytest.param(LegGone(), (422, 21220), id="the call ends"),
    ],
)
def test_a_stop_that_fails(bench, problem, expected):
    def stop():
        raise problem

    sid = bench.start().json["sid"]
    bench.call.controls.find("stream", sid).stop = stop

    answer = bench.stop(sid)

    assert refused(answer) == expected
    assert ("retry-after" in answer.headers) == (expected[0] == 503)


def test_the_calling_api_and_a_document_can_stop_it(bench):
    first, second = (bench.start().json["sid"] for _ in range(2))

    ask(bench.call, "calling.stream.stop", control_id=first)
    run(bench.call, stop_stream, control_id=second)

    assert bench.running == []
    assert "calling.stream.stop" in COMMANDS.names
    assert bench.call.vars["stop_stream_result"] == "success"


# -- the callback ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "method"),
    [({}, "POST"), ({"StatusCallbackMethod": "GET"}, "GET"), ({"StatusCallbackMethod": ""}, "POST")],
)
def test_who_is_told(bench, fields, method):
    sid = bench.start(Name="a", Track="inbound_track", StatusCallback=STATUS, **fields).json["sid"]
    bench.stop(sid)

    events = changes(bench.call, "stream")
    assert [(event.state, event.control_id) for event in events] == [("streaming", sid), ("finished", sid)]
    assert {event.callback for event in events} == {Callback(STATUS, method, "compat")}
    assert [dict(event.detail) for event in events] == [
        {"url": URL, "name": "a", "track": "inbound_track"},
        {"url": URL, "name": "a", "track": "inbound_track", "reason": "stopped"},
    ]


@pytest.mark.parametrize("reason", ["refused", "timeout", "tls", "dns", "status", "address", "internal"])
def test_why_it_did_not_come_up_is_told(bench, reason):
    bench.streams.refuses = Ended(reason, "no")

    bench.start(StatusCallback=STATUS)

    (event,) = changes(bench.call, "stream")
    assert (event.state, event.detail["reason"]) == ("finished", reason)


def test_the_end_of_the_call_ends_it(bench):
    sid = bench.start(StatusCallback=STATUS).json["sid"]

    bench.call.controls.find("stream", sid).abandon()

    assert changes(bench.call, "stream")[-1].detail["reason"] == "hangup"


# -- once ------------------------------------------------------------------------------------------------------------


def test_a_start_that_is_sent_twice_is_done_once(bench):
    key = {"Idempotency-Key": "once"}
    first, second = (bench.post(STARTS, {"Url": URL}, headers=key) for _ in range(2))

    assert first.json == second.json
    assert bench.running == [first.json["sid"]]
    assert second.headers["idempotent-replayed"] == "true"


# -- how much is remembered ------------------------------------------------------------------------------------------


def test_streams_that_ended_are_forgotten_in_the_end(bench, monkeypatch):
    monkeypatch.setattr("fsctl.api.streams._REMEMBERED", 2)
    sids = [bench.start().json["sid"] for _ in range(3)]
    for sid in sids:
        bench.streams.ends(sid, "closed")

    assert [bench.stop(sid).status_code for sid in sids] == [404, 200, 200]
