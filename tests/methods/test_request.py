"""request, laid out by its reference page (swml-calling 3.25), against a real server on loopback."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import gevent
import pytest

from fsctl.errors import ScriptError
from fsctl.methods.request import request
from fsctl.web import Client
from tests.fakes.call import make_call, warnings
from tests.fakes.web import LOOPBACK, reply, servers
from tests.methods.running import attempt, make


@pytest.fixture
def serve():
    with servers() as start:
        yield start


@pytest.fixture
def call(tmp_path):
    call = make_call(tmp_path)
    web = Client(LOOPBACK, user_agent="fsctl/test")
    call.services = replace(call.services, web=web, request_timeout=10.0)
    yield call
    web.close()


# url


def test_a_url_and_a_method_are_required():
    for params in ({}, {"url": "https://example.com/"}, {"method": "GET"}):
        with pytest.raises(ScriptError):
            make(request, **params)


@pytest.mark.parametrize("url", ["example.com", "ftp://example.com/", "", 5])
def test_what_is_no_url_is_refused_with_the_document(url):
    with pytest.raises(ScriptError):
        make(request, url=url, method="GET")


def test_credentials_become_basic_auth_and_are_in_no_variable(call, serve):
    server = serve(reply(b"ok"))
    attempt(call, request, url=server.url.replace("//", "//user:hunter2@") + "/x", method="GET")
    assert server.requests[0][1]["Authorization"] == "Basic " + base64.b64encode(b"user:hunter2").decode()
    assert call.vars["request_url"] == f"{server.url}/x"
    assert "hunter2" not in str(call.vars)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://[::1]/"])
def test_private_addresses_are_not_reached(call, url):
    attempt(call, request, url=url, method="GET")
    assert call.vars == {"request_url": url, "request_result": "failed", "return_value": "failed"}
    assert "not on the public internet" in warnings(call)[0]


def test_requests_are_not_signed(call, serve):
    server = serve(reply())
    attempt(call, request, url=server.url, method="POST", body="x")
    assert not [name for name in server.requests[0][1] if "signature" in name.lower()]


# method


@pytest.mark.parametrize("name", ["GET", "POST", "PUT", "DELETE"])
def test_the_methods(call, serve, name):
    server = serve(reply(b"ok"))
    attempt(call, request, url=f"{server.url}/a?b=c", method=name)
    assert server.requests[0][0] == f"{name} /a?b=c HTTP/1.1"
    assert call.vars["request_result"] == "success"


@pytest.mark.parametrize("name", ["PATCH", "HEAD", "get", ""])
def test_other_methods_are_refused(name):
    with pytest.raises(ScriptError):
        make(request, url="https://example.com/", method=name)


@pytest.mark.parametrize("name", ["POST", "PUT", "DELETE"])
def test_what_changes_something_is_never_sent_twice(call, serve, name):
    server = serve(lambda _request, number: reply() if number == 1 else lambda connection: connection.close())
    attempt(call, request, url=server.url, method="GET")
    attempt(call, request, url=server.url, method=name)
    assert call.vars["request_result"] == "failed"
    assert len(server.requests) == 2


# headers


def test_the_headers_a_script_may_set(call, serve):
    server = serve(reply())
    headers = {
        "Accept": "text/plain",
        "authorization": "Bearer t",
        "CONTENT-TYPE": "text/x",
        "Range": "bytes=0-9",
        "X-Tenant": 42,
        "x-flag": True,
    }
    attempt(call, request, url=server.url, method="POST", headers=headers, body="b")
    sent = server.requests[0][1]
    assert {name: sent[name] for name in headers} == {**headers, "X-Tenant": "42", "x-flag": "true"}
    assert [name for name in sent if name.lower() == "content-type"] == ["CONTENT-TYPE"]
    assert warnings(call) == []


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Cookie",
        "User-Agent",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "X-",
        "X-A: b",
        "X-A\r\nB",
        "",
    ],
)
def test_other_headers_are_left_out_with_a_warning(call, serve, name):
    server = serve(reply())
    attempt(call, request, url=server.url, method="GET", headers={name: "evil", "X-Good": "1"})
    _, sent, _ = server.requests[0]
    assert "evil" not in sent.values()
    assert sent["X-Good"] == "1"
    assert "is not sent" in warnings(call)[0]
    assert call.vars["request_result"] == "success"


def test_a_header_cannot_hold_a_second_one(call, serve):
    server = serve(reply())
    attempt(call, request, url=server.url, method="GET", headers={"X-A": "1\r\nHost: evil"})
    assert (call.vars["request_result"], server.requests) == ("failed", [])


# body

BODIES = {
    "object": ({"a": [1, "é"]}, b'{"a":[1,"\xc3\xa9"]}', "application/json"),
    "json text": (' {"a": 1}', b' {"a": 1}', "application/json"),
    "json list": ("\n[1]", b"\n[1]", "application/json"),
    "xml": (" <a/>", b" <a/>", "application/xml"),
    "form": ("a=1&b=2", b"a=1&b=2", "application/x-www-form-urlencoded"),
    "text": ("héllo", "héllo".encode(), "text/plain; charset=utf-8"),
    "empty": ("", b"", "text/plain; charset=utf-8"),
}


@pytest.mark.parametrize(("body", "sent", "kind"), BODIES.values(), ids=BODIES)
def test_the_type_of_a_body_is_guessed(call, serve, body, sent, kind):
    server = serve(reply())
    attempt(call, request, url=server.url, method="POST", body=body)
    assert server.requests[0][2] == sent
    assert server.requests[0][1]["Content-Type"] == kind


@pytest.mark.parametrize("body", [5, True, [1], None], ids=str)
def test_bodies_are_text_or_objects(body):
    if body is None:
        assert make(request, url="https://example.com/", method="POST").body is None
    else:
        with pytest.raises(ScriptError):
            make(request, url="https://example.com/", method="POST", body=body)


def test_without_a_body_there_is_no_type(call, serve):
    server = serve(reply())
    attempt(call, request, url=server.url, method="GET")
    assert "Content-Type" not in server.requests[0][1]


# connect_timeout, timeout


def silent(_connection):
    gevent.sleep(30)


def test_a_timeout_is_a_failure(call, serve):
    server = serve(lambda *_: silent)
    with gevent.Timeout(5):
        attempt(call, request, url=server.url, method="GET", timeout=0.1)
    assert call.vars["request_result"] == "failed"
    assert "request_response_code" not in call.vars
    assert "within 0.1 s" in warnings(call)[0]


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 3600])
def test_the_operators_ceiling_holds_whatever_is_asked(call, serve, timeout):
    call.services = replace(call.services, request_timeout=0.15)
    server = serve(lambda *_: silent)
    with gevent.Timeout(5):
        attempt(call, request, url=server.url, method="GET", timeout=timeout)
    assert "within 0.15 s" in warnings(call)[0]


class FakeWeb:
    """Keeps how it was asked."""

    def fetch(self, _method, _url, **options):
        self.options = options
        raise AssertionError("asked")


TIMES = {
    "none": ({}, 10.0, 10.0),
    "both": ({"connect_timeout": 1, "timeout": 4}, 1.0, 4.0),
    "connect only": ({"connect_timeout": 2.5}, 2.5, 10.0),
    "connect longer than all": ({"connect_timeout": 9, "timeout": 4}, 4.0, 4.0),
    "beyond the ceiling": ({"connect_timeout": 99, "timeout": 99}, 10.0, 10.0),
}


@pytest.mark.parametrize(("params", "connect", "total"), TIMES.values(), ids=TIMES)
def test_what_the_timeouts_come_to(call, params, connect, total):
    web = FakeWeb()
    call.services = replace(call.services, web=web)
    with pytest.raises(AssertionError, match="asked"):
        attempt(call, request, url="https://example.com/", method="GET", **params)
    assert (web.options["connect_timeout"], web.options["total_timeout"]) == (connect, total)


# The variables


def test_the_variables_of_an_answer(call, serve):
    server = serve(reply(b"hello", status=201, X_Request_ID="7", Content_Type="text/plain"))
    attempt(call, request, url=server.url, method="GET")
    assert call.vars == {
        "request_url": server.url,
        "request_result": "success",
        "return_value": "success",
        "request_response_code": 201,
        "request_response_headers": {"content-length": "5", "x-request-id": "7", "content-type": "text/plain"},
        "request_response_body": "hello",
    }
    assert warnings(call) == []


@pytest.mark.parametrize("status", [302, 400, 404, 500, 503])
def test_other_statuses_fail_softly_and_keep_the_answer(call, serve, status):
    server = serve(reply(b'{"error": "no"}', status=status))
    attempt(call, request, url=server.url, method="POST", body={}, save_variables=True)
    assert call.vars["request_result"] == call.vars["return_value"] == "failed"
    assert call.vars["request_response_code"] == status
    assert call.vars["request_response"] == {"error": "no"}


def test_nothing_is_left_of_an_earlier_answer(call, serve):
    server = serve(reply(b'{"a": 1}'))
    attempt(call, request, url=server.url, method="GET", save_variables=True)
    assert call.vars["request_response"] == {"a": 1}
    attempt(call, request, url="http://127.0.0.1:1/", method="GET", save_variables=True)
    assert call.vars == {"request_url": "http://127.0.0.1:1/", "request_result": "failed", "return_value": "failed"}
    assert "refused" in warnings(call)[0]


def test_headers_are_bounded_and_in_lower_case(call, serve):
    server = serve(reply(b"", **{f"X_Header_{number}": number for number in range(90)}))
    attempt(call, request, url=server.url, method="GET")
    headers = call.vars["request_response_headers"]
    assert len(headers) == 64
    assert headers["x-header-5"] == "5"


def test_the_body_is_bounded(call, serve):
    server = serve(reply(b"[" + b"1," * 50_000 + b"1]"))
    attempt(call, request, url=server.url, method="GET", save_variables=True)
    assert len(call.vars["request_response_body"]) == 65_536
    assert "request_response" not in call.vars
    assert "longer than 65536 bytes" in warnings(call)[0]
    assert call.vars["request_result"] == "success"


def test_an_endless_answer_fails(call, serve):
    def endless(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    attempt(call, request, url=serve(lambda *_: endless).url, method="GET")
    assert call.vars["request_result"] == "failed"
    assert "longer than 1048576 bytes" in warnings(call)[0]


CHARSETS = {
    "utf-8": ("text/plain", "é".encode(), "é"),
    "bom": ("text/plain", b"\xef\xbb\xbfx", "x"),
    "latin": ("text/plain; charset=ISO-8859-1", b"\xe9", "é"),
    "wrong": ("text/plain", b"a\xe9b", "a\ufffdb"),
    "unknown": ('text/plain; charset="rot13"', b"abc", "abc"),
    "cut": ("text/plain", b"x" * 65_535 + "é".encode(), "x" * 65_535 + "\ufffd"),
}


@pytest.mark.parametrize(("kind", "body", "text"), CHARSETS.values(), ids=CHARSETS)
def test_the_body_is_text(call, serve, kind, body, text):
    attempt(call, request, url=serve(reply(body, Content_Type=kind)).url, method="GET")
    assert call.vars["request_response_body"] == text


# save_variables

JSON = {
    "object": (b'{"a": {"b": [1, 2.5, null]}}', {"a": {"b": [1, 2.5, None]}}),
    "list": (b" [1]", [1]),
    "text": (b'"x"', "x"),
    "half a pair": (rb'["\ud83d\ude00\ud800"]', ["😀\ufffd"]),
    "deep enough": (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
}


@pytest.mark.parametrize(("body", "value"), JSON.values(), ids=JSON)
def test_json_is_taken_apart_whatever_its_type_says(call, serve, body, value):
    attempt(call, request, url=serve(reply(body, Content_Type="text/html")).url, method="GET", save_variables=True)
    assert call.vars["request_response"] == value
    call.vars["request_response"] = None
    attempt(call, request, url=serve(reply(body)).url, method="GET")
    assert "request_response" not in call.vars


NOT_JSON = {
    "html": b"<html>",
    "empty": b"",
    "nan": b"[NaN]",
    "infinity": b"[-Infinity]",
    "too deep": b"[" * 66 + b"]" * 66,
    "far too deep": b"[" * 30_000 + b"]" * 30_000,
    "digits": b"1" * 10_000,
    "cut": b'{"a": ',
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_is_left_as_text(call, serve, body):
    attempt(call, request, url=serve(reply(body)).url, method="GET", save_variables=True)
    assert "request_response" not in call.vars
    assert call.vars["request_result"] == "success"
    assert "not JSON" in warnings(call)[0]


# Redirects


def test_get_follows_redirects_and_others_do_not(call, serve):
    server = serve(lambda asked, _: reply(b"there") if "/b" in asked[0] else reply(status=307, Location="/b"))
    attempt(call, request, url=server.url, method="GET")
    assert (call.vars["request_response_body"], call.vars["request_url"]) == ("there", server.url)
    for name, options in (("POST", {}), ("DELETE", {}), ("GET", {"body": "x"})):
        attempt(call, request, url=server.url, method=name, **options)
        assert (call.vars["request_result"], call.vars["request_response_code"]) == ("failed", 307)


def test_a_redirect_inside_is_refused(call, serve):
    server = serve(reply(status=302, Location="http://169.254.169.254/"))
    attempt(call, request, url=server.url, method="GET")
    assert call.vars["request_result"] == "failed"
    assert "169.254.169.254" in warnings(call)[0]


def test_warnings_hold_no_secrets(call, serve):
    server = serve(lambda *_: lambda connection: connection.close())
    url = f"{server.url}/x?token=s3cret".replace("//", "//user:hunter2@")
    attempt(call, request, url=url, method="GET")
    (warning,) = warnings(call)
    assert "s3cret" not in warning
    assert "hunter2" not in warning
    assert "/x" in warning
