"""Who may use the REST API: credentials, scopes, rates, and what is told about refusals."""

from __future__ import annotations

import base64
import io
import json
from typing import Final

import gevent
import pytest
import requests
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fsctl import log as logs
from fsctl.api import access
from fsctl.api.access import REFUSALS, Access, Grant, basic_credentials
from fsctl.api.app import make_app
from fsctl.api.server import HttpServer
from fsctl.config.kinds import SCOPES, Token
from fsctl.config.sections import Api
from fsctl.errors import ApiError
from fsctl.metrics import Metrics

PROJECT = "aaaaaaaa-2222-4333-8444-555555555555"
SECRET = "a-token-of-the-crm-0001"
READER = "a-token-that-only-reads"
TOKENS = (Token("crm", SCOPES, SECRET), Token("board", ("read",), READER))


def basic(password=SECRET, user=PROJECT):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


class Probe:
    """A resource with one scope per method; remembers whose requests came."""

    scopes: Final = {"GET": "read", "POST": ("control", "dial")}

    def __init__(self):
        self.seen = []

    def on_get(self, req, resp):
        self.seen.append((req.context.token, req.context.project_id))
        resp.media = {}

    def on_post(self, req, resp):
        access.require(req, req.get_param("needs"))
        resp.media = {}

    def on_delete(self, req, resp):
        raise AssertionError("no scope opens this")


class Failing:
    """A resource that can only fail."""

    scopes: Final = {"GET": "read"}

    def __init__(self, error):
        self.error = error

    def on_get(self, req, resp):
        raise self.error


class Open:
    """A resource that is not below the API."""

    def on_get(self, req, resp):
        resp.media = {"token": "token" in req.context}


class Guarded:
    """The application with `tokens`, its clock, and what it told."""

    def __init__(self, directory, tokens, **settings):
        self.now = 1000.0
        self.refused = []
        self.probe = Probe()
        settings = Api(tokens=tuple(tokens), **settings)
        guard = Access(PROJECT, settings, on_refused=self.refused.append, clock=lambda: self.now)
        (directory / "d1c1d1c1-0000-4000-8000-000000000001.wav").write_bytes(b"sound")
        self.app = make_app(
            metrics=Metrics(CollectorRegistry(), live=dict),
            health=dict,
            recordings=directory,
            resources={"/api/probe": self.probe, "/api/laml/probe": self.probe, "/open": Open()},
            middleware=[guard],
        )
        self.client = testing.TestClient(self.app)

    def get(self, path="/api/probe", headers=None, address="192.0.2.1", method="GET", **options):
        extras = {"REMOTE_ADDR": address}
        return self.client.simulate_request(
            method, path, headers=basic() if headers is None else headers, extras=extras, **options
        )


@pytest.fixture
def build(tmp_path):
    def build(tokens=TOKENS, **settings):
        return Guarded(tmp_path, tokens, **settings)

    return build


# -- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "user", "grant"),
    [
        pytest.param(SECRET, PROJECT, Grant("crm", frozenset(SCOPES)), id="a token"),
        pytest.param(READER, PROJECT, Grant("board", frozenset({"read"})), id="another token"),
        pytest.param(SECRET, PROJECT.upper(), Grant("crm", frozenset(SCOPES)), id="the project in capitals"),
    ],
)
def test_project_and_token_open_the_api_and_tell_the_resource_who_asks(build, password, user, grant):
    api = build()

    assert api.get(headers=basic(password, user)).status_code == 200
    assert api.probe.seen == [(grant, PROJECT)]
    assert api.refused == []


@pytest.mark.parametrize("scheme", ["basic", "BASIC", "Basic  "])
def test_the_scheme_is_written_as_one_likes(build, scheme):
    header = basic()["Authorization"].removeprefix("Basic")

    assert build().get(headers={"Authorization": scheme + header}).status_code == 200


WRONG = [
    pytest.param({}, id="no credentials"),
    pytest.param({"Authorization": ""}, id="empty"),
    pytest.param({"Authorization": "Basic"}, id="nothing behind the scheme"),
    pytest.param({"Authorization": "Basic !!!"}, id="no base64"),
    pytest.param({"Authorization": "Basic é"}, id="no ASCII"),
    pytest.param({"Authorization": f"Bearer {SECRET}"}, id="another scheme"),
    pytest.param({"Authorization": SECRET}, id="the token alone"),
    pytest.param({"Authorization": "Basic " + base64.b64encode(SECRET.encode()).decode()}, id="no colon"),
    pytest.param({"Authorization": basic()["Authorization"] + "," + basic()["Authorization"]}, id="twice"),
    pytest.param(basic(SECRET[:-1]), id="a part of the token"),
    pytest.param(basic(SECRET + "x"), id="more than the token"),
    pytest.param(basic(SECRET.upper()), id="the token in capitals"),
    pytest.param(basic(""), id="no token"),
    pytest.param(basic("ä" * 20), id="no ASCII in the token"),
    pytest.param(basic(user=""), id="no project"),
    pytest.param(basic(user="bbbbbbbb-2222-4333-8444-555555555555"), id="another project"),
    pytest.param(basic(user=PROJECT.replace("-", "")), id="the project without dashes"),
    pytest.param(basic(PROJECT, SECRET), id="the wrong way round"),
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("path", ["/api/probe", "/api/nowhere", "//api/probe", "///api/probe"])
def test_nobody_else_learns_anything(build, headers, path):
    api = build()

    answer = api.get(path, headers=headers)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="fsctl", charset="UTF-8"'
    assert answer.json["error"] == "Unauthorized"
    assert [item["code"] for item in answer.json["errors"]] == ["unauthorized"]
    assert api.refused == ["unauthorized"]
    assert api.probe.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/metrics",
        "/health/live",
        "/health/ready",
        "/recordings/d1c1d1c1-0000-4000-8000-000000000001.wav",
        "/open",
    ],
)
def test_what_is_not_below_api_stays_open(build, path):
    assert build([]).get(path, headers={}).status_code == 200


def test_every_token_is_compared_whichever_it_is(build, monkeypatch):
    """Or the time an answer takes would tell about a token."""
    tokens = [Token(f"t{number}", ("read",), f"token-number-{number:05}") for number in range(5)]
    api = build(tokens)
    compared = []
    real = access.hmac.compare_digest
    monkeypatch.setattr(access.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))

    for password in ("token-number-00000", "token-number-00004", "token-number-00009", "x", ""):
        compared.clear()
        api.get(headers=basic(password))
        assert len(compared) == len(tokens) + 1  # and the project
        assert {len(part) for pair in compared for part in pair} == {32}


def test_without_a_token_the_api_is_closed_and_says_so(build):
    answer = build([]).get()

    assert answer.status_code == 401
    assert "no token is configured" in answer.json["errors"][0]["message"]


def test_the_usual_client_gets_in_over_a_real_socket(build):
    server = HttpServer(("127.0.0.1", 0), build().app)
    server.start()
    url = "http://{}:{}/api/probe".format(*server.address)
    try:
        assert requests.get(url, auth=(PROJECT, SECRET), timeout=10).status_code == 200
        assert requests.get(url, auth=(PROJECT, "wrong"), timeout=10).status_code == 401
        assert requests.get(url.replace("/api", "//api"), timeout=10).status_code == 401
    finally:
        server.stop(timeout=0)


@given(st.binary(max_size=60).filter(lambda user: b":" not in user), st.binary(max_size=60), st.sampled_from(["", " "]))
def test_credentials_are_read_as_they_were_written(user, password, blank):
    encoded = base64.b64encode(user + b":" + password).decode()

    assert basic_credentials(f"{blank}Basic {blank}{encoded}{blank}") == (user, password)


@given(st.none() | st.text(max_size=80) | st.text(max_size=80).map("Basic {}".format))
def test_any_header_is_credentials_or_none(header):
    found = basic_credentials(header)

    if found is not None:
        again = base64.b64encode(b":".join(found)).decode()
        assert header.strip().partition(" ")[2].strip(" ").rstrip("=") == again.rstrip("=")


# -- scopes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "method", "needs", "status"),
    [
        pytest.param(["read"], "GET", "", 200, id="read reads"),
        pytest.param(["control", "dial"], "GET", "", 403, id="the others do not"),
        pytest.param(["control"], "POST", "control", 200, id="control controls"),
        pytest.param(["control"], "POST", "dial", 403, id="control does not dial"),
        pytest.param(["dial"], "POST", "dial", 200, id="dial dials"),
        pytest.param(["dial"], "POST", "control", 403, id="dial does not control"),
        pytest.param(["read"], "POST", "read", 403, id="the method's scope comes first"),
    ],
)
def test_a_token_does_what_its_scopes_say(build, scopes, method, needs, status):
    api = build([Token("crm", tuple(scopes), SECRET)])

    answer = api.get(method=method, query_string=f"needs={needs}")

    assert answer.status_code == status
    assert api.refused == ["forbidden"] * (status == 403)
    if status == 403:
        assert answer.json["error"] == "Forbidden"
        assert answer.json["errors"][0]["code"] == "forbidden"
        assert "'crm' lacks the scope" in answer.json["errors"][0]["message"]


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS"])
def test_a_method_without_a_scope_is_not_offered(build, method):
    answer = build().get(method=method)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, POST"


def test_a_resource_without_scopes_is_closed(build):
    class Forgetful:
        def on_get(self, req, resp):
            raise AssertionError("nobody said who may")

    api = build()
    api.app.add_route("/api/forgetful", Forgetful())

    assert api.get("/api/forgetful").status_code == 405


def test_a_path_nobody_serves_is_not_found_for_who_may_ask(build):
    assert build().get("/api/nowhere").status_code == 404


# -- the compatibility API's shape ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        pytest.param({"headers": {}}, 401, 20003, id="who are you"),
        pytest.param({"headers": basic(READER), "method": "POST"}, 403, 20003, id="not you"),
        pytest.param({"path": "/api/laml/nowhere"}, 404, 20404, id="nothing there"),
        pytest.param({"method": "DELETE"}, 405, 20001, id="not that way"),
    ],
)
@pytest.mark.parametrize("slashes", ["", "/"])
def test_refusals_below_laml_have_its_shape(build, options, status, code, slashes):
    options = {"path": "/api/laml/probe", **options}
    answer = build().get(slashes + options.pop("path"), **options)

    assert answer.status_code == status
    assert answer.json["code"] == code
    assert answer.json["status"] == status
    assert answer.json["message"]
    assert set(answer.json) == {"code", "message", "more_info", "status"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(ApiError(422, "21220", "not in this state"), 422, 21220, id="its own number"),
        pytest.param(ApiError(422, "not_e164", "no number"), 422, 10000, id="a word of the calling API"),
        pytest.param(ApiError(413, "body_too_large", "large"), 413, 10000, id="any other fault of a request"),
        pytest.param(ApiError(503, "not_connected", "later"), 503, 20504, id="not now"),
        pytest.param(RuntimeError("s3cret inside"), 500, 20504, id="broken"),
    ],
)
def test_a_resource_below_laml_refuses_with_a_number(build, error, status, code):
    api = build()
    api.app.add_route("/api/laml/failing", Failing(error))

    answer = api.get("/api/laml/failing")

    assert (answer.status_code, answer.json["status"], answer.json["code"]) == (status, status, code)
    assert "s3cret" not in answer.text


def test_too_many_requests_below_laml(build):
    api = build(requests_per_second=1, burst=1)
    api.get("/api/laml/probe")

    answer = api.get("/api/laml/probe")

    assert (answer.status_code, answer.json["code"], answer.headers["retry-after"]) == (429, 20429, "1")


# -- how often --------------------------------------------------------------------------------------------------------


def test_a_token_may_make_a_burst_and_then_so_many_a_second(build):
    api = build(requests_per_second=2, burst=5)

    assert [api.get().status_code for _ in range(7)] == [200] * 5 + [429] * 2
    assert api.refused == ["rate_limit"] * 2
    api.now += 1
    assert [api.get().status_code for _ in range(3)] == [200, 200, 429]
    api.now += 1000
    assert [api.get().status_code for _ in range(6)] == [200] * 5 + [429]


def test_a_refusal_for_the_rate_says_when_to_come_again(build):
    api = build(requests_per_second=1, burst=1)
    api.get()

    answer = api.get()

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert answer.json["errors"][0]["code"] == "rate_limit_exceeded"


def test_one_token_does_not_use_up_another_ones(build):
    api = build(requests_per_second=1, burst=1)

    assert [api.get().status_code for _ in range(2)] == [200, 429]
    assert api.get(headers=basic(READER)).status_code == 200


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.floats(0, 3), max_size=60),
)
def test_no_rhythm_gets_more_than_the_burst_and_the_rate(rate, burst, pauses):
    bucket, now, taken = access._Bucket(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        wait = bucket.take(now)
        taken += not wait
        assert wait <= 1 / rate
    assert taken <= burst + now * rate + 1e-6


# -- guessing ---------------------------------------------------------------------------------------------------------


def guesses(api, count, **options):
    return [api.get(headers=basic(f"guess-number-{number:06}"), **options).status_code for number in range(count)]


def test_guessing_is_slow(build):
    api = build()

    assert guesses(api, access.GUESSES + 5) == [401] * access.GUESSES + [429] * 5
    assert api.refused == ["unauthorized"] * access.GUESSES + ["guessing"] * 5
    api.now += 2
    assert guesses(api, 4) == [401, 401, 429, 429]


def test_even_the_right_guess_is_not_told_while_there_were_too_many(build):
    api = build()
    guesses(api, access.GUESSES)

    answer = api.get()

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "www-authenticate" not in answer.headers
    assert api.probe.seen == []
    api.now += 1
    assert api.get().status_code == 200


def test_who_guesses_does_not_lock_out_who_was_let_in_before_nor_other_addresses(build):
    """Behind a proxy all have one address."""
    api = build()
    assert api.get().status_code == 200
    guesses(api, access.GUESSES + 5)

    assert api.get().status_code == 200
    assert api.get(headers=basic(READER)).status_code == 429
    assert api.get(headers=basic(READER), address="192.0.2.2").status_code == 200


def test_a_request_without_credentials_is_no_guess(build):
    """Many clients ask without first."""
    api = build()

    assert {api.get(headers={}).status_code for _ in range(access.GUESSES * 2)} == {401}
    assert api.get().status_code == 200


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param("2001:db8::1", "2001:db8::ffff:2", True, id="one customer's IPv6"),
        pytest.param("2001:db8::1", "2001:db8:0:1::1", False, id="two customers' IPv6"),
        pytest.param("::ffff:192.0.2.1", "192.0.2.1", True, id="IPv4 either way"),
        pytest.param("::ffff:192.0.2.1", "::ffff:192.0.2.2", False, id="two IPv4 in IPv6"),
        pytest.param("fe80::1%eth0", "fe80::2%eth0", True, id="with a zone"),
        pytest.param("strange:address", "strange:address", True, id="unreadable"),
    ],
)
def test_an_address_is_what_one_customer_has(build, one, other, same):
    api = build()
    guesses(api, access.GUESSES, address=one)

    assert api.get(address=other).status_code == (429 if same else 200)


def test_no_number_of_addresses_fills_the_memory(monkeypatch):
    monkeypatch.setattr(access, "ADDRESSES", 3)
    addresses = access._Addresses()
    kept = addresses.at("192.0.2.0")

    for number in range(10):
        addresses.at(f"192.0.2.{number}")
        assert addresses.at("192.0.2.0") is kept  # asked for all the time

    assert len(addresses._seen) == 3


# -- what is told -----------------------------------------------------------------------------------------------------


def warnings(lines):
    return [line for line in lines if line["event"] == "api_credentials_wrong"]


def test_wrong_credentials_are_logged_once_a_second_with_the_address(build):
    api = build()
    with capture_logs() as lines:
        guesses(api, 3)
        api.now += 1.5
        guesses(api, 2, address="192.0.2.9")
        api.get(headers={})

    first, second = warnings(lines)
    assert first["log_level"] == "warning"
    assert (first["client"], first["requests"]) == ("192.0.2.1", 1)
    assert (second["client"], second["requests"]) == ("192.0.2.9", 3)


def test_no_credentials_are_in_the_log_or_the_answer(build):
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream)
    api = build()

    texts = [api.get(headers=headers).text for headers in (basic(), basic(user="somebody"), basic("not-the-token"))]

    assert "api_credentials_wrong" in stream.getvalue()
    for text in (stream.getvalue(), *texts):
        assert SECRET not in text
        assert "somebody" not in text
        assert "not-the-token" not in text


def test_reasons_come_from_a_closed_set(build):
    api = build(requests_per_second=1, burst=1)
    guesses(api, access.GUESSES + 1)
    api.get(address="192.0.2.2", method="POST", headers=basic(READER))
    api.get(address="192.0.2.2", headers=basic(READER))

    assert set(api.refused) == set(REFUSALS)


@pytest.mark.parametrize("path", ["/metrics", "/api/probe", "/api/nowhere", "/nowhere"])
@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        pytest.param(None, False, id="none"),
        pytest.param("a1b2-c3", True, id="a word"),
        pytest.param("Root=1-67891233-abcdef012345678912345678", True, id="a trace"),
        pytest.param("x" * 64, True, id="as long as may be"),
        pytest.param("x" * 65, False, id="too long"),
        pytest.param("", False, id="empty"),
        pytest.param("a b", False, id="two words"),
        pytest.param('{"a"}', False, id="punctuation"),
        pytest.param("a\x1b[31m", False, id="control characters"),
    ],
)
def test_every_answer_has_the_request_s_id(build, path, given_, kept):
    headers = basic() | ({} if given_ is None else {"X-Request-Id": given_})

    answer = build().get(path, headers=headers)

    if kept:
        assert answer.headers["x-request-id"] == given_
    else:
        assert len(answer.headers["x-request-id"]) == 36


def test_two_requests_have_two_ids_and_a_body_too_large_has_one(build):
    api = build()

    ids = [api.get().headers["x-request-id"], api.get().headers["x-request-id"]]
    large = api.get(method="POST", headers={"Content-Length": "99999999"})

    assert ids[0] != ids[1]
    assert large.status_code == 413
    assert len(large.headers["x-request-id"]) == 36


def test_a_request_s_lines_carry_its_id_and_whose_it_is_and_no_other_ones(build):
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream)
    api = build()

    def requests_of_one_connection():
        api.get(headers=basic() | {"X-Request-Id": "one"})
        api.get("/metrics", headers={"X-Request-Id": "two"})
        logs.structlog.get_logger("test").info("between")

    gevent.spawn(requests_of_one_connection).get()

    one, two, between = map(json.loads, stream.getvalue().splitlines())
    assert (one["event"], one["request_id"], one["api_client"]) == ("http_request", "one", "crm")
    assert (two["event"], two["request_id"]) == ("http_request", "two")
    assert "api_client" not in two
    assert "request_id" not in between


# -- wired ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "right", "hints"),
    [
        pytest.param("", 401, 1, id="closed"),
        pytest.param(f"api: {{tokens: [{{name: crm, token: {SECRET}, scopes: [read]}}]}}", 404, 0, id="open"),
    ],
)
def test_the_service_guards_its_api_and_says_at_the_start_when_it_is_closed(tmp_path, text, right, hints):
    from fsctl.config import load
    from fsctl.server import Server

    path = tmp_path / "fsctl.yaml"
    path.write_text(f"event_socket: {{listen: '127.0.0.1:0'}}\nhttp: {{listen: '127.0.0.1:0'}}\n{text}")
    with capture_logs() as lines:
        server = Server(load(path, {"FSCTL_PROJECT_PROJECT_ID": PROJECT, "FSCTL_LOGS_DATABASE": ""}))
        server.start()
    url = "http://{}:{}".format(*server.http.address)
    try:
        assert requests.get(f"{url}/api/nowhere", auth=(PROJECT, SECRET), timeout=10).status_code == right
        assert requests.get(f"{url}/api/nowhere", timeout=10).status_code == 401
        assert requests.get(f"{url}/health/live", timeout=10).status_code == 200
    finally:
        server.stop()

    assert [line["log_level"] for line in lines if line["event"] == "api_closed"] == ["info"] * hints
