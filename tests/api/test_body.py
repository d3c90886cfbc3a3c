"""Bodies of requests: JSON objects and forms, bounded in time and depth, refused with the place that is wrong."""

from __future__ import annotations

import json
import math
import socket
import time
from urllib.parse import urlencode

import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fsctl.api import body as bodies
from fsctl.api.app import make_app
from fsctl.api.body import DEEPEST, MOST_FIELDS, read_body, read_form_or_json, read_json
from fsctl.api.server import HttpServer
from fsctl.errors import ApiError
from fsctl.metrics import Metrics

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
LONG = 20.0


class Echo:
    """Answers with what was read."""

    def __init__(self, read):
        self.read = read

    def on_post(self, req, resp):
        resp.media = {"read": self.read(req)}


@pytest.fixture
def app(tmp_path):
    return make_app(
        metrics=Metrics(CollectorRegistry(), live=dict),
        health=dict,
        recordings=tmp_path,
        resources={"/json": Echo(read_json), "/api/laml/form": Echo(read_form_or_json)},
        max_body_bytes=200_000,
    )


@pytest.fixture
def post(app):
    client = testing.TestClient(app)

    def post(body, kind=JSON, path="/json", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {} if kind is None else {"Content-Type": kind}
        return client.simulate_post(path, body=body, headers=headers)

    return post


def request(body, kind=JSON):
    headers = {"Content-Type": kind}
    return testing.create_req(method="POST", body=body, headers=headers)


# -- JSON -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        JSON,
        "text/json",
        "application/json; charset=utf-8",
        'APPLICATION/JSON; Charset="UTF-8"',
        "application/json; charset=us-ascii",
        "application/json; version=1",
    ],
)
def test_json_is_taken_under_its_names(post, kind):
    assert post('{"command": "dial", "params": {"to": "ü"}}', kind).json == {
        "read": {"command": "dial", "params": {"to": "ü"}}
    }


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        pytest.param(None, {}, id="none"),
        pytest.param("", {}, id="empty"),
        pytest.param("text/plain", {}, id="text"),
        pytest.param(FORM, {}, id="a form"),
        pytest.param("application/jsonp", {}, id="nearly"),
        pytest.param("application/json; charset=latin-1", {}, id="other characters"),
        pytest.param(JSON, {"Content_Encoding": "gzip"}, id="compressed"),
    ],
)
def test_anything_else_is_refused_by_its_type(post, kind, headers):
    answer = post("{}", kind, **headers)

    assert answer.status_code == 415
    assert answer.json["errors"][0]["code"] == "unsupported_media_type"
    assert "application/json" in answer.json["errors"][0]["message"]


DEEP = DEEPEST - 1  # inside the object itself


@pytest.mark.parametrize(
    ("text", "where"),
    [
        pytest.param("", "line 1, column 1", id="empty"),
        pytest.param("{", "line 1, column 2", id="unfinished"),
        pytest.param('{"a": 1,\n "b" 2}', "line 2, column 6", id="no colon"),
        pytest.param('{"a": 1} x', "line 1, column 10", id="something behind it"),
        pytest.param("{'a': 1}", "line 1, column 2", id="single quotes"),
        pytest.param('{"a": "x\ny"}', "line 1, column 9", id="a line break in text"),
        pytest.param(b'{"a": "\xff"}', "not UTF-8 at byte 8", id="no UTF-8"),
        pytest.param('{"a": 1}'.encode("utf-16"), "not UTF-8 at byte 1", id="UTF-16"),
        pytest.param('\ufeff{"a": 1}', "BOM", id="a byte order mark"),
        pytest.param("[]", "not a JSON object", id="a list"),
        pytest.param('"text"', "not a JSON object", id="text"),
        pytest.param("null", "not a JSON object", id="null"),
        pytest.param("NaN", "NaN is no number", id="NaN alone"),
        pytest.param('{"params": {"volume": NaN}}', "params.volume: NaN is no number", id="NaN"),
        pytest.param('{"a": [1, -Infinity]}', "a[1]: -Infinity is no number", id="infinity"),
        pytest.param('{"a": 1e999}', "a: a number is too large", id="a number beyond all"),
        pytest.param('{"a": ' + "9" * 5000 + "}", "too many digits", id="a very long number"),
        pytest.param('{"id": 1, "id": 2}', "id is there twice", id="a key twice"),
        pytest.param('{"p": [{"id": 1, "x": 0, "id": 2}]}', "p[0]: id is there twice", id="a key twice, deeper"),
        pytest.param('{"a\\nb": 1, "a\\nb": 2}', "'a\\nb' is there twice", id="a key that cannot be shown"),
        pytest.param('{"a": ["\\ud800"]}', "a[0]: half a surrogate pair", id="half a pair"),
        pytest.param('{"a": {"\\uDFFF": 1}}', "a: half a surrogate pair", id="half a pair in a key"),
        pytest.param('{"a": ' + "[" * (DEEP + 1) + "]" * (DEEP + 1) + "}", "nested deeper than 64", id="too deep"),
        pytest.param("[" * 50_000 + "]" * 50_000, "nested deeper than 64", id="far too deep"),
        pytest.param('{"a":' * 20_000, "nested deeper than 64", id="far too deep and unfinished"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_its_place(post, text, where):
    answer = post(text)

    assert answer.status_code == 400
    assert answer.json["error"] == "Bad Request"
    assert answer.json["errors"][0]["code"] == "bad_request"
    assert where in answer.json["errors"][0]["message"]
    assert len(answer.json["errors"][0]["message"]) < 300


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a": ' + "[" * DEEP + "]" * DEEP + "}", id="as deep as may be"),
        pytest.param(json.dumps({"a": [[]] * 5000}), id="wide"),
        pytest.param('{"a": "\\ud83d\\ude00"}', id="a whole pair"),
        pytest.param('{"a": "' + "[{" * 100 + '"}', id="brackets in text"),
        pytest.param('{"a": {"id": 1}, "b": {"id": 1}}', id="a key in two objects"),
        pytest.param('{"NaN": "NaN"}', id="NaN as text"),
    ],
)
def test_what_only_looks_like_it_is_taken(post, text):
    assert post(text).json == {"read": json.loads(text)}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES), st.booleans())
def test_any_object_comes_as_it_was_sent(value, ascii_only):
    assert read_json(request(json.dumps(value, ensure_ascii=ascii_only).encode())) == value


def clean(value):
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        return value.encode() is not None
    return all(map(clean, value)) if isinstance(value, list) else True


@given(st.binary(max_size=60) | st.text('{}[]":,0123456789.eE+-\\udtrfNaI \n', max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_refused(text):
    try:
        found, status = read_json(request(text)), 200
    except ApiError as error:
        found, status = {}, error.status

    assert status in {200, 400}
    assert isinstance(found, dict)
    assert status == 400 or found == json.loads(text)
    assert all(map(clean, found.values()))


# -- forms ------------------------------------------------------------------------------------------------------------


def form(post, body, kind=FORM, **headers):
    return post(body, kind, "/api/laml/form", **headers)


@pytest.mark.parametrize(
    ("body", "kind", "fields"),
    [
        pytest.param("Url=wss%3A%2F%2Fa%2Fb&Track=x", FORM, {"Url": "wss://a/b", "Track": "x"}, id="a form"),
        pytest.param("Name=a+b%20c", FORM, {"Name": "a b c"}, id="blanks"),
        pytest.param("Name=%C3%BC&X=ü".encode(), f"{FORM}; charset=UTF-8", {"Name": "ü", "X": "ü"}, id="UTF-8"),
        pytest.param("Name=&Track", FORM, {"Name": "", "Track": ""}, id="without a value"),
        pytest.param("P1.Name=a&P1.Value=b%26c%3D", FORM, {"P1.Name": "a", "P1.Value": "b&c="}, id="signs in a value"),
        pytest.param("", FORM, {}, id="an empty form"),
        pytest.param("", None, {}, id="no body"),
        pytest.param('{"Url": "wss://a/b", "N": 1}', JSON, {"Url": "wss://a/b", "N": 1}, id="JSON"),
    ],
)
def test_forms_and_json_give_the_same_fields(post, body, kind, fields):
    assert form(post, body, kind).json == {"read": fields}


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        pytest.param("a=1", None, FORM, id="no type"),
        pytest.param("a=1", "multipart/form-data; boundary=x", FORM, id="another form"),
        pytest.param("a=1", f"{FORM}; charset=latin-1", FORM, id="other characters"),
        pytest.param("a=1&b=2&a=3", FORM, "a is there twice", id="a field twice"),
        pytest.param("a=%ff", FORM, "not UTF-8", id="no UTF-8 in a value"),
        pytest.param(b"a=\xff", FORM, "not UTF-8 at byte 3", id="no UTF-8"),
        pytest.param("a=1&" * (MOST_FIELDS + 1), FORM, "more than 1000 fields", id="too many"),
        pytest.param("[]", JSON, "not a JSON object", id="a list"),
        pytest.param("{", JSON, "line 1", id="no JSON"),
    ],
)
def test_other_bodies_are_refused_in_the_compatibility_api_s_shape(post, body, kind, message):
    answer = form(post, body, kind)

    assert answer.status_code == 400
    assert (answer.json["code"], answer.json["status"]) == (10000, 400)
    assert message in answer.json["message"]


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.text(st.characters(codec="utf-8"))))
def test_any_form_comes_as_it_was_sent(fields):
    assert read_form_or_json(request(urlencode(fields), FORM)) == fields


# -- size and time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/json", "/api/laml/form"])
def test_a_body_that_is_too_large_is_refused(post, path):
    answer = post(json.dumps({"a": "x" * 200_000}), path=path)

    assert answer.status_code == 413


def test_a_body_can_be_asked_for_twice():
    req = request('{"a": 1}')

    assert read_body(req) == read_body(req) == b'{"a": 1}'
    assert read_json(req) == {"a": 1}


@pytest.fixture
def connect(app, monkeypatch):
    monkeypatch.setattr(bodies, "SECONDS", 0.1)
    server = HttpServer(("127.0.0.1", 0), app)
    server.start()
    opened = []

    def connect(head, path="/json"):
        sock = socket.create_connection(server.address, timeout=LONG)
        opened.append(sock)
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n{head}\r\n\r\n".encode())
        return sock

    yield connect
    for sock in opened:
        sock.close()
    server.stop(timeout=0)


def everything(sock):
    text = b""
    while more := sock.recv(4096):
        text += more
    return text.decode()


@pytest.mark.parametrize(
    ("path", "code"), [("/json", '"code": "request_timeout"'), ("/api/laml/form", '"code": 10000')]
)
def test_a_body_that_does_not_come_is_answered_and_the_connection_closed(connect, path, code):
    sock = connect("Content-Length: 100", path)
    sock.sendall(b'{"a": ')

    answer = everything(sock)

    assert answer.startswith("HTTP/1.1 408 ")
    assert "connection: close" in answer.lower()
    assert code in answer


def test_a_body_that_dribbles_has_no_more_time(connect):
    """Each piece comes well within the server's patience for one read."""
    sock = connect("Content-Length: 100000")
    sock.settimeout(0.01)
    answer = b""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline and b"\r\n\r\n" not in answer:
        try:
            sock.sendall(b" ")
            answer += sock.recv(4096)
        except TimeoutError:
            continue

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_stops_in_the_middle_is_told(connect):
    sock = connect("Content-Length: 100")
    sock.sendall(b'{"a": ')
    sock.shutdown(socket.SHUT_WR)

    answer = everything(sock)

    assert answer.startswith("HTTP/1.1 400 ")
    assert "ended before its Content-Length" in answer


def test_a_client_that_waits_to_be_asked_is_asked(connect):
    sock = connect("Content-Length: 8\r\nExpect: 100-continue\r\nConnection: close")

    assert sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b'{"a": 1}')
    assert everything(sock).endswith('{"read": {"a": 1}}')
