"""Documents by URL and by file, laid out by the reference (swml-calling 4, webhooks 2 and 4)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from types import MappingProxyType

import pytest

from fsctl.call.events import DocumentFetched
from fsctl.errors import FetchError, ScriptError
from fsctl.fetch import Documents, DocumentSettings, request_body
from fsctl.web import Client
from tests.fakes.call import info
from tests.fakes.web import LOOPBACK, reply, servers

KEY = "PSK_test"
DOCUMENT = b'{"version": "1.0.0", "sections": {"main": ["answer"]}}'
YAML = b"version: 1.0.0\nsections:\n  main:\n    - answer\n"
BODY = {"call": {"call_id": "c1", "headers": []}, "vars": {"a": "\u00e9"}, "envs": {}, "params": {"n": 1}}


class FakeCompiler:
    """Takes every text, except one that says it is wrong."""

    def __init__(self):
        self.compiled = []

    def compile(self, source, *, name=""):
        self.compiled.append((source, name))
        if b"wrong" in source:
            raise ScriptError("relay_script_parse_error", "it is wrong")
        return ("document", source)


@pytest.fixture
def serve():
    with servers() as start:
        yield start


class Bench:
    """Documents with everything around them in reach."""

    def __init__(self, client, directory, **settings):
        self.compiler = FakeCompiler()
        self.told = []
        self.asked = 0
        self.directory = directory
        settings = DocumentSettings(**settings)
        self.seconds = 0.0
        self.documents = Documents(
            client, self.compiler, settings, directory, now=lambda: 7.0, ticks=lambda: self.seconds
        )

    def payload(self):
        self.asked += 1
        return request_body(*BODY.values())

    def load(self, dest, fallback=""):
        document = self.documents.load(
            dest, payload=self.payload, call=info(), emit=self.told.append, fallback=fallback
        )
        return document[1]

    def fails(self, dest, fallback=""):
        with pytest.raises(FetchError) as caught:
            self.load(dest, fallback)
        return caught.value

    @property
    def outcomes(self):
        return [(event.source, event.outcome) for event in self.told]


@pytest.fixture
def make(tmp_path):
    """A bench on a directory, by default the test's own."""
    client = Client(LOOPBACK, user_agent="fsctl/test")
    yield lambda directory=tmp_path, **settings: Bench(client, directory, **settings)
    client.close()


@pytest.fixture
def bench(make):
    return make()


# The request


def test_the_request_is_a_post_of_the_four_scopes(bench, serve):
    server = serve(reply(DOCUMENT))
    assert bench.load(f"{server.url}/script?x=1") == DOCUMENT
    line, headers, body = server.requests[0]
    assert line == "POST /script?x=1 HTTP/1.1"
    assert headers["Content-Type"] == "application/json"
    assert "yaml" in headers["Accept"]
    assert json.loads(body) == BODY


@pytest.mark.parametrize(
    "scopes", [({}, {}, {}, {}), ({"a": MappingProxyType({"b": 1})}, {}, MappingProxyType({}), {})]
)
def test_all_four_scopes_are_always_there(scopes):
    body = json.loads(request_body(*scopes))
    assert list(body) == ["call", "vars", "envs", "params"]
    assert body["call"] == {key: dict(value) for key, value in scopes[0].items()}


def test_numbers_json_does_not_have_are_null():
    assert json.loads(request_body({}, {"x": [float("nan")]}, {}, {}))["vars"] == {"x": [None]}


def test_a_variable_that_is_no_json_is_not_sent_as_something_else():
    with pytest.raises(TypeError, match="object, which is not JSON"):
        request_body({}, {"x": object()}, {}, {})


def test_requests_are_signed_over_what_the_server_sees(make, serve):
    server = serve(reply(DOCUMENT))
    make(signing_key=KEY).load(f"{server.url}/a%2fb?x={{y}}#tt=5000".replace("//", "//user:p%40ss@", 1))
    line, headers, body = server.requests[0]
    seen = (server.url + line.split()[1]).encode() + body
    assert headers["X-SignalWire-Signature"] == hmac.new(KEY.encode(), seen, hashlib.sha1).hexdigest()
    assert headers["X-SignalWire-SHA256-Signature"] == hmac.new(KEY.encode(), seen, hashlib.sha256).hexdigest()
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()


def test_without_a_key_nothing_is_signed(bench, serve):
    server = serve(reply(DOCUMENT))
    bench.load(server.url)
    assert not [name for name in server.requests[0][1] if "signature" in name.lower()]


def test_the_key_is_not_shown():
    assert KEY not in repr(DocumentSettings(signing_key=KEY))


# The answer


@pytest.mark.parametrize("kind", ["application/json", "text/x-yaml", "text/html", "text/plain", ""])
@pytest.mark.parametrize("document", [DOCUMENT, YAML], ids=["json", "yaml"])
def test_the_body_decides_not_its_type(bench, serve, kind, document):
    server = serve(reply(document, Content_Type=kind))
    assert bench.load(server.url) == document


CONTENT = {
    "html": (b"<!DOCTYPE html><html><body>Login</body></html>", "answered HTML; is this the right URL?"),
    "html after blanks": (b"\xef\xbb\xbf\r\n  <HTML>", "answered HTML"),
    "cxml": (b'<?xml version="1.0"?><Response/>', "answered XML or HTML"),
    "nothing": (b"", "answered nothing"),
    "blanks": (b" \r\n\t", "answered nothing"),
}


@pytest.mark.parametrize(("body", "text"), CONTENT.values(), ids=CONTENT)
def test_what_is_plainly_no_document_is_named(bench, serve, body, text):
    server = serve(reply(body, Content_Type="application/json"))
    error = bench.fails(server.url)
    assert (error.reason, error.status) == ("content", 200)
    assert text in str(error)
    assert bench.compiler.compiled == []


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 308, 401, 404, 500, 503])
def test_a_document_comes_with_success_and_is_asked_for_once(bench, serve, status):
    server = serve(reply(DOCUMENT if status != 204 else b"", status=status, Location="/elsewhere"))
    if status == 201:
        assert bench.load(server.url) == DOCUMENT
    else:
        error = bench.fails(server.url)
        expected = {204: "content"}.get(status, "redirect" if status < 400 else "status")
        assert (error.reason, error.status) == (expected, status)
    assert len(server.requests) == 1


def test_a_document_too_large(make, tmp_path, serve):
    bench = make(max_bytes=len(DOCUMENT) - 1)
    assert bench.fails(serve(reply(DOCUMENT)).url).reason == "size"
    (tmp_path / "big.json").write_bytes(DOCUMENT)
    assert bench.fails("big.json").reason == "size"


def test_errors_and_names_hold_no_secrets(bench, serve):
    server = serve(lambda _request, number: reply(DOCUMENT) if number == 1 else reply(b"gone", status=404))
    url = f"{server.url}/x?token=s3cret".replace("//", "//user:hunter2@")
    bench.load(url)
    error = bench.fails(url)
    shown = f"{bench.compiler.compiled} {error} {error.url}"
    assert "s3cret" not in shown
    assert "hunter2" not in shown
    assert f"{server.url}/x" in shown


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://[::1]/"])
def test_documents_are_not_fetched_from_private_addresses(bench, url):
    assert bench.fails(url).reason == "address"


@pytest.mark.parametrize(
    ("url", "reason"), [("ftp://example.com/x", "scheme"), ("http://exa mple/", "malformed"), ("://x", "malformed")]
)
def test_other_urls_are_refused(bench, url, reason):
    assert bench.fails(url).reason == reason
    assert bench.asked == 0


def test_the_time_for_everything_is_bounded(make, serve):
    def dribble(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        while connection.recv(1):
            pass

    server = serve(lambda *_: dribble)
    error = make(timeout=0.2).fails(server.url)
    assert error.reason == "timeout"
    error = make(timeout=30).fails(f"{server.url}#tt=150")
    assert (error.reason, "0.15 s" in error.detail) == ("timeout", True)


# Telling


def test_every_attempt_is_told(bench, serve):
    good, bad, wrong = serve(reply(DOCUMENT)), serve(reply(status=500)), serve(reply(b"wrong"))
    bench.load(good.url)
    bench.fails(bad.url)
    with pytest.raises(ScriptError, match="it is wrong"):
        bench.load(wrong.url)
    bench.fails("nothing.yaml")
    assert bench.outcomes == [("url", "ok"), ("url", "status"), ("url", "invalid"), ("file", "missing")]
    event = bench.told[0]
    assert isinstance(event, DocumentFetched)
    assert (event.call, event.at) == (info(), 7.0)
    assert 0 < event.seconds < 5


# The fallback


def test_the_fallback_is_asked_the_same_when_the_first_fails(bench, serve):
    bad, good = serve(reply(status=503)), serve(reply(DOCUMENT))
    assert bench.load(bad.url, good.url) == DOCUMENT
    assert bench.outcomes == [("url", "status"), ("fallback", "ok")]
    assert json.loads(good.requests[0][2]) == json.loads(bad.requests[0][2]) == BODY


def test_the_fallback_may_be_a_file(bench, serve):
    (bench.directory / "sorry.yaml").write_bytes(YAML)
    assert bench.load("http://127.0.0.1:1/", "sorry.yaml") == YAML
    assert bench.outcomes == [("url", "refused"), ("fallback", "ok")]


def test_html_is_a_failed_fetch(bench, serve):
    (bench.directory / "sorry.yaml").write_bytes(YAML)
    assert bench.load(serve(reply(b"<html>maintenance</html>")).url, "sorry.yaml") == YAML


def test_an_invalid_document_is_not_hidden_behind_the_fallback(bench, serve):
    spare = serve(reply(DOCUMENT))
    with pytest.raises(ScriptError):
        bench.load(serve(reply(b"wrong")).url, spare.url)
    assert spare.requests == []


def test_when_both_fail_both_are_known(bench, serve):
    error = bench.fails(serve(reply(status=500)).url, "nothing.yaml")
    assert error.reason == "missing"
    assert isinstance(error.__cause__, FetchError)
    assert error.__cause__.reason == "status"


# Files


def test_files_are_read_from_the_directory_and_below(bench):
    (bench.directory / "sub").mkdir()
    (bench.directory / "sub" / "a.json").write_bytes(DOCUMENT)
    (bench.directory / "link.json").symlink_to("sub/a.json")
    assert bench.load("sub/a.json") == DOCUMENT
    assert bench.load("./sub//a.json") == DOCUMENT
    assert bench.load("link.json") == DOCUMENT
    assert bench.compiler.compiled == [(DOCUMENT, "sub/a.json")]
    assert bench.asked == 0


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret", "a/../../secret", "..", "", "a\0b", "a\nb", "/", "sub/../a.json"]
)
def test_names_that_are_not_below_the_directory(bench, name):
    assert bench.fails(name).reason == "malformed"


def test_links_do_not_lead_out(make, tmp_path):
    inside = tmp_path / "documents"
    inside.mkdir()
    (tmp_path / "secret.json").write_bytes(DOCUMENT)
    (tmp_path / "documents-too").mkdir()
    (tmp_path / "documents-too" / "x.json").write_bytes(DOCUMENT)
    (inside / "file").symlink_to(tmp_path / "secret.json")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "twin").symlink_to(tmp_path / "documents-too")
    (inside / "circle").symlink_to("circle")
    bench = make(inside)
    for name in ("file", "folder/secret.json", "twin/x.json", "circle"):
        assert bench.fails(name).reason == "missing"
    assert bench.compiler.compiled == []


def test_the_directory_itself_may_be_a_link(make, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.json").write_bytes(DOCUMENT)
    (tmp_path / "link").symlink_to("real")
    assert make(tmp_path / "link").load("a.json") == DOCUMENT


def test_only_files_are_read(bench):
    (bench.directory / "folder").mkdir()
    os.mkfifo(bench.directory / "pipe")
    for name in ("folder", "pipe", "nothing", "folder/nothing", "x" * 300):
        assert bench.fails(name).reason == "missing"


def test_a_file_is_looked_at_once_a_second(bench):
    path = bench.directory / "a.json"
    path.write_bytes(DOCUMENT)
    bench.load("a.json")
    path.unlink()
    bench.seconds += 0.9
    assert bench.load("a.json") == DOCUMENT
    bench.seconds += 0.2
    assert bench.fails("a.json").reason == "missing"


def test_a_missing_directory_is_a_missing_document(make, tmp_path):
    error = make(tmp_path / "nowhere").fails("a.json")
    assert error.reason == "missing"
    assert "documents.directory" in error.detail


def test_a_file_is_compiled_again_only_when_it_changed(bench):
    path = bench.directory / "a.json"
    path.write_bytes(DOCUMENT)
    for _ in range(3):
        bench.load("a.json")
        bench.seconds += 2
    assert len(bench.compiler.compiled) == 1
    changed = DOCUMENT.replace(b"answer", b"hangup")
    before = path.stat()
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert bench.load("a.json") == changed
    bench.seconds += 2
    replacement = bench.directory / "new.json"
    replacement.write_bytes(DOCUMENT)
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    replacement.replace(path)
    assert bench.load("a.json") == DOCUMENT


def test_a_wrong_file_is_read_again(bench):
    path = bench.directory / "a.json"
    path.write_bytes(b"wrong")
    for _ in range(2):
        with pytest.raises(ScriptError):
            bench.load("a.json")
    assert len(bench.compiler.compiled) == 2
    assert bench.outcomes == [("file", "invalid")] * 2
