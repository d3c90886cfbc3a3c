"""Recordings over HTTP: who may ask for what, whole or in part, and who may delete it."""

from __future__ import annotations

import base64
import os
from urllib.parse import urlsplit

import gevent
import numpy as np
import pytest
import soundfile
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fsctl.api.access import Access
from fsctl.api.app import make_app
from fsctl.api.recordings import UnsatisfiableRange, recording_resources, requested_range
from fsctl.config import Api, Token
from fsctl.media.recordings import Links, Recordings
from fsctl.metrics import Metrics

NAME = "d1c1d1c1-0000-4000-8000-000000000001"
SOUND = bytes(range(256)) * 700  # more than one chunk


@pytest.fixture
def directory(tmp_path):
    inside = tmp_path / "recordings"
    inside.mkdir()
    for ending in ("wav", "mp3", "mp4"):
        (inside / f"{NAME}.{ending}").write_bytes(SOUND)
    (inside / "notes.txt").write_text("not for customers")
    (tmp_path / f"{NAME}.wav").write_bytes(b"outside")
    return inside


@pytest.fixture
def client(directory):
    metrics = Metrics(CollectorRegistry(), live=dict)
    return testing.TestClient(make_app(metrics=metrics, health=dict, recordings=directory))


def get(client, name=f"{NAME}.wav", method="GET", **headers):
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.simulate_request(method, f"/recordings/{name}", headers=headers)


@pytest.mark.parametrize(("ending", "kind"), [("wav", "audio/wav"), ("mp3", "audio/mpeg"), ("mp4", "audio/mp4")])
def test_a_recording_comes_whole_with_its_type_and_length(client, ending, kind):
    answer = get(client, f"{NAME}.{ending}")

    assert answer.status_code == 200
    assert answer.content == SOUND
    assert answer.headers["content-type"] == kind
    assert answer.headers["content-length"] == str(len(SOUND))
    assert answer.headers["accept-ranges"] == "bytes"


def test_head_tells_the_same_without_the_recording(client):
    whole, head = get(client), get(client, method="HEAD")

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers == whole.headers


@pytest.mark.parametrize(
    "name",
    [
        "00000000-0000-4000-8000-000000000000.wav",
        "notes.txt",
        f"{NAME}.txt",
        f"{NAME}.WAV",
        f"{NAME}",
        f"{NAME}.wav.wav",
        f"x{NAME}.wav",
        f"{NAME}.wav%00",
        f"{NAME}.wav%0a",
        f"..%2f{NAME}.wav",
        f"%2e%2e%2f{NAME}.wav",
        f"../{NAME}.wav",
        f"sub/{NAME}.wav",
        f"%252e%252e/{NAME}.wav",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_no_recording_is_not_found(client, name, method):
    answer = get(client, name, method)

    assert answer.status_code == 404
    if method == "GET":
        assert answer.json["errors"][0]["code"] == "not_found"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_only_plain_files_are_recordings(client, directory, make):
    make(directory / "00000000-0000-4000-8000-000000000009.wav")

    assert get(client, "00000000-0000-4000-8000-000000000009.wav").status_code == 404


def test_a_link_out_of_the_directory_is_not_followed(client, directory):
    (directory / "00000000-0000-4000-8000-000000000009.wav").symlink_to(directory.parent / f"{NAME}.wav")

    assert get(client, "00000000-0000-4000-8000-000000000009.wav").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_recordings_can_only_be_read(client, method):
    answer = get(client, method=method)

    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


SIZE = len(SOUND)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        pytest.param("bytes=0-0", 0, 1, id="one byte"),
        pytest.param("bytes=100-199", 100, 200, id="middle"),
        pytest.param("bytes=70000-", 70000, SIZE, id="to the end"),
        pytest.param("bytes=-10", SIZE - 10, SIZE, id="the last bytes"),
        pytest.param(f"bytes=0-{SIZE * 2}", 0, SIZE, id="beyond the end"),
        pytest.param(f"bytes=-{SIZE * 2}", 0, SIZE, id="more than there is"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_range_comes_as_that_part(client, header, start, end, method):
    answer = get(client, method=method, Range=header)

    assert answer.status_code == 206
    assert answer.content == (SOUND[start:end] if method == "GET" else b"")
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", "bytes=-0", f"bytes={SIZE}-{SIZE + 5}"])
def test_a_range_without_a_byte_is_refused_with_the_size(client, header):
    answer = get(client, Range=header)

    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.json["errors"][0]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=1-2", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "0-5"])
def test_a_range_we_do_not_know_is_ignored(client, header):
    answer = get(client, Range=header)

    assert (answer.status_code, answer.content) == (200, SOUND)


def test_who_has_the_recording_already_gets_304(client):
    first = get(client)

    for condition in (
        {"If_None_Match": first.headers["etag"]},
        {"If_None_Match": f'"x", {first.headers["etag"]}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": first.headers["last-modified"]},
    ):
        answer = get(client, **condition)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    "condition",
    [
        {"If_None_Match": '"something-else"'},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "yesterday"},
        {"If_None_Match": '"something-else"', "If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ],
)
def test_who_has_another_recording_gets_this_one(client, condition):
    assert get(client, **condition).content == SOUND


def test_a_range_of_a_recording_that_changed_comes_whole(client):
    etag = get(client).headers["etag"]

    assert get(client, Range="bytes=0-9", If_Range=etag).status_code == 206
    assert get(client, Range="bytes=0-9", If_Range='"old"').content == SOUND


def test_a_recording_still_being_written_comes_as_long_as_was_promised(client, directory):
    environ = testing.create_environ(f"/recordings/{NAME}.wav")
    start = testing.StartResponseMock()

    answer = client.app(environ, start)
    pieces = iter(answer)
    first = next(pieces)
    with (directory / f"{NAME}.wav").open("ab") as file:
        file.write(b"more")
    rest = b"".join(pieces)
    answer.close()

    assert len(first) < SIZE
    assert first + rest == SOUND
    assert start.headers_dict["content-length"] == str(SIZE)


def test_an_empty_recording_is_empty(client, directory):
    (directory / f"{NAME}.wav").write_bytes(b"")

    answer = get(client)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert get(client, Range="bytes=0-").status_code == 416


def inode(number):
    try:
        return os.fstat(number).st_ino
    except OSError:  # not open
        return None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_file_stays_open(client, directory, method):
    folder = "00000000-0000-4000-8000-000000000009.wav"
    (directory / folder).mkdir()
    for headers in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999999-"}, {"If_None_Match": "*"}):
        get(client, method=method, **headers)
    get(client, folder, method)

    gevent.idle()  # gevent closes what is no plain file in the next turn of its loop

    kept = {path.stat().st_ino for path in directory.iterdir()}
    assert [number for number in range(1024) if inode(number) in kept] == []


@given(header=st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), size=st.integers(0, 10**6))
def test_a_range_is_always_inside_the_recording(header, size):
    try:
        span = requested_range(header, size)
    except UnsatisfiableRange:
        return
    assert span is None or 0 <= span.start < span.end <= size


# -- links that expire ------------------------------------------------------------------------------------------------

KEY = b"a key for tests only"
PROJECT = "6f1d0f0e-0000-4000-8000-000000000001"
TOKENS = {scope: f"token-of-scope-{scope}" for scope in ("read", "control", "dial")}
ABSENT = "00000000-0000-4000-8000-000000000000"


class Service:
    """Everything that is said of recordings, with links that expire after ``seconds`` (0: never) and a clock."""

    def __init__(self, directory, seconds=60):
        self.now = 1_767_323_000.0
        self.open = set()
        self.deleted = 0
        links = Links(KEY, seconds, now=lambda: self.now) if seconds else None
        self.recordings = Recordings(directory, "https://x.example/base", min_free_bytes=0, links=links)
        tokens = tuple(Token(scope, (scope,), token) for scope, token in TOKENS.items())
        app = make_app(
            metrics=Metrics(CollectorRegistry(), live=dict),
            health=dict,
            recordings=directory,
            resources=recording_resources(self.recordings, being_written=lambda: self.open, on_deleted=self._count),
            middleware=[Access(PROJECT, Api(tokens=tokens))],
        )
        self.client = testing.TestClient(app)

    def _count(self, _recording_id):
        self.deleted += 1

    def link(self, name=f"{NAME}.wav"):
        """The path and query of a link."""
        return self.recordings.url(name).removeprefix("https://x.example/base")

    def ask(self, path, method="GET", scope=None, **headers):
        if scope is not None:
            secret = base64.b64encode(f"{PROJECT}:{TOKENS[scope]}".encode()).decode()
            headers["Authorization"] = f"Basic {secret}"
        headers["X-Request-Id"] = "the-same"
        path, _, query = path.partition("?")
        return self.client.simulate_request(method, path, query_string=query, headers=headers)


@pytest.fixture
def service(directory):
    return Service(directory)


def test_a_signed_link_gives_the_recording_and_parts_of_it(service):
    link = service.link()
    whole, part = service.ask(link), service.ask(link, Range="bytes=100-199")
    head = service.ask(link, "HEAD")

    assert (whole.status_code, whole.content) == (200, SOUND)
    assert (part.status_code, part.content) == (206, SOUND[100:200])
    assert (head.status_code, head.content, head.headers) == (200, b"", whole.headers)
    assert service.ask(link, **{"If-None-Match": whole.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_that_has_expired_is_gone(service, method):
    link = service.link()
    service.now += 60
    answer = service.ask(link, method)

    assert answer.status_code == 410
    assert answer.headers["cache-control"] == "no-store"
    if method == "GET":
        (error,) = answer.json["errors"]
        assert (error["type"], error["code"], error["attribute"]) == ("request_error", "link_expired", None)
        assert error["url"]


def changed(link, **parts):
    for part, value in parts.items():
        before = link.partition(f"{part}=")[2].partition("&")[0]
        link = link.replace(f"{part}={before}", f"{part}={value}")
    return link


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda link: link.partition("?")[0], id="no signature"),
        pytest.param(lambda link: changed(link, expires=9_999_999_999), id="a later expiry"),
        pytest.param(lambda link: changed(link, signature="0" * 64), id="another signature"),
        pytest.param(lambda link: changed(link, signature=""), id="an empty one"),
        pytest.param(lambda link: link.replace(".wav", ".mp3"), id="another recording"),
        pytest.param(lambda link: f"{link}&{link.partition('?')[2]}", id="everything twice"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_nobody_signed_is_forbidden(service, change, method):
    answer = service.ask(change(service.link()), method)

    assert answer.status_code == 403
    assert answer.headers["cache-control"] == "no-store"
    if method == "GET":
        assert answer.json["error"] == "Forbidden"
        assert answer.json["errors"][0]["code"] == "forbidden"


def test_without_a_link_nobody_learns_which_recordings_there_are(service):
    there, not_there = (service.ask(f"/recordings/{id_}.wav") for id_ in (NAME, ABSENT))

    assert (there.status_code, there.json) == (not_there.status_code, not_there.json)


def test_a_link_to_a_recording_that_is_gone_finds_nothing(service, directory):
    link = service.link()
    (directory / f"{NAME}.wav").unlink()

    assert service.ask(link).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["notes.txt", f"{NAME}.WAV", NAME, f"..%2f{NAME}.wav", f"%2e%2e%2f{NAME}.wav", f"x{NAME}.wav", f"{NAME}.wav%00"],
)
def test_what_is_no_name_is_not_found_even_when_it_is_signed(service, name):
    assert service.ask(f"/recordings/{name}?{service.link().partition('?')[2]}").status_code == 404
    assert service.ask(f"/recordings/{service.recordings.links.sign(name)}").status_code == 404


def test_credentials_of_the_api_are_none_for_links(service):
    assert service.ask(f"/recordings/{NAME}.wav", scope="read").status_code == 403


def test_links_that_never_expire_are_plain(directory):
    service = Service(directory, seconds=0)

    assert service.link() == f"/recordings/{NAME}.wav"
    assert service.ask(service.link()).content == SOUND
    assert service.ask(f"{service.link()}?expires=1&signature=0").content == SOUND


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("method", ["DELETE", "POST", "PUT", "PATCH"])
def test_a_link_is_for_reading(directory, method, seconds):
    service = Service(directory, seconds)

    assert service.ask(service.link(), method).status_code == 405
    assert service.ask(service.link(), method, scope="control").status_code == 405
    assert (directory / f"{NAME}.wav").exists()


# -- for programs with a token ----------------------------------------------------------------------------------------


def only(directory, ending):
    """Leave the one recording there, in one format."""
    for path in directory.glob(f"{NAME}.*"):
        if path.suffix != f".{ending}":
            path.unlink()
    return directory / f"{NAME}.{ending}"


@pytest.mark.parametrize(
    ("ending", "duration"), [pytest.param("wav", 1.5, id="wav"), pytest.param("mp3", 1.5, id="mp3")]
)
def test_a_recording_is_told_with_a_new_link(service, directory, ending, duration):
    path = only(directory, ending)
    soundfile.write(path, np.zeros(12_000), 8000)
    os.utime(path, (1_767_323_045, 1_767_323_045))

    answer = service.ask(f"/api/recordings/{NAME}", scope="read")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json
    assert told.pop("duration") == pytest.approx(duration, abs=0.2)
    assert told == {
        "id": NAME,
        "url": f"https://x.example/base{service.link(path.name)}",
        "format": ending,
        "size": path.stat().st_size,
        "created_at": "2026-01-02T03:04:05Z",
    }
    assert service.ask(f"/recordings/{urlsplit(told['url']).path.rpartition('/')[2]}").status_code == 403
    assert service.ask(told["url"].removeprefix("https://x.example/base")).status_code == 200


def test_a_format_that_tells_no_duration_has_none(service, directory):
    only(directory, "mp4")

    told = service.ask(f"/api/recordings/{NAME}", scope="read").json

    assert (told["format"], told["size"], told["duration"]) == ("mp4", SIZE, None)


def test_a_recording_that_goes_on_is_told_as_far_as_it_is(service, directory):
    only(directory, "wav")
    service.open.add(NAME)

    assert service.ask(f"/api/recordings/{NAME}", scope="read").json["size"] == SIZE


def test_where_links_never_expire_the_url_told_is_plain(directory):
    only(directory, "wav")

    told = Service(directory, seconds=0).ask(f"/api/recordings/{NAME}", scope="read").json

    assert told["url"] == f"https://x.example/base/recordings/{NAME}.wav"


def test_a_token_reads_without_a_link(service):
    path = f"/api/recordings/{NAME}.mp3"
    whole, head = service.ask(path, scope="read"), service.ask(path, "HEAD", scope="read")

    assert (whole.status_code, whole.content) == (200, SOUND)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(SIZE))
    assert service.ask(path, scope="read", Range="bytes=-10").content == SOUND[-10:]
    assert service.ask(path, scope="read", Range=f"bytes={SIZE}-").status_code == 416


def test_head_tells_whether_there_is_such_a_recording(service):
    assert service.ask(f"/api/recordings/{NAME}", "HEAD", scope="read").status_code == 200
    assert service.ask(f"/api/recordings/{ABSENT}", "HEAD", scope="read").status_code == 404


@pytest.mark.parametrize(
    ("method", "scope", "status"),
    [
        pytest.param("GET", None, 401, id="read by nobody"),
        pytest.param("GET", "control", 403, id="read with control"),
        pytest.param("GET", "dial", 403, id="read with dial"),
        pytest.param("HEAD", "control", 403, id="asked for with control"),
        pytest.param("DELETE", None, 401, id="deleted by nobody"),
        pytest.param("DELETE", "read", 403, id="deleted with read"),
        pytest.param("DELETE", "dial", 403, id="deleted with dial"),
        pytest.param("POST", "control", 405, id="posted to"),
        pytest.param("PUT", "control", 405, id="written"),
    ],
)
@pytest.mark.parametrize("name", [NAME, f"{NAME}.wav", ABSENT])
def test_each_method_needs_its_scope(service, directory, method, scope, status, name):
    before = sorted(directory.iterdir())

    assert service.ask(f"/api/recordings/{name}", method, scope).status_code == status
    assert sorted(directory.iterdir()) == before


def test_a_recording_is_deleted_once(service, directory):
    path, link = only(directory, "wav"), service.link()

    with capture_logs() as lines:
        answer = service.ask(f"/api/recordings/{NAME}", "DELETE", "control")

    assert (answer.status_code, answer.content) == (204, b"")
    assert not path.exists()
    assert service.deleted == 1
    assert [line for line in lines if line["event"] == "recording_deleted"] == [
        {"event": "recording_deleted", "log_level": "info", "by": "api", "recording_id": NAME}
    ]
    again = service.ask(f"/api/recordings/{NAME}", "DELETE", "control")
    assert (again.status_code, again.json["errors"][0]["code"]) == (404, "not_found")
    assert service.ask(f"/api/recordings/{NAME}", scope="read").status_code == 404
    assert service.ask(link).status_code == 404
    assert service.deleted == 1


def test_a_recording_that_goes_on_cannot_be_deleted_before_its_end(service, directory):
    path = only(directory, "wav")
    service.open.add(NAME)

    answer = service.ask(f"/api/recordings/{NAME}", "DELETE", "control")

    assert answer.status_code == 409
    (error,) = answer.json["errors"]
    assert (error["type"], error["code"]) == ("conflict_error", "recording_in_progress")
    assert path.exists()
    service.open.clear()
    assert service.ask(f"/api/recordings/{NAME}", "DELETE", "control").status_code == 204


@pytest.mark.parametrize(
    "name",
    [
        ABSENT,
        "notes.txt",
        "notes",
        f"{NAME}.txt",
        f"{NAME}.WAV",
        NAME.upper(),
        f"x{NAME}",
        f"{NAME}%00",
        f"{NAME}%0a",
        f"..%2f{NAME}",
        f"..%2f{NAME}.wav",
        f"%2e%2e%2f{NAME}",
        f"%252e%252e%2f{NAME}",
        "..",
        ".",
        "*",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_what_is_no_recording_is_not_found_by_a_token_either(service, directory, name, method):
    before = sorted(directory.parent.rglob("*"))
    answer = service.ask(f"/api/recordings/{name}", method, "control" if method == "DELETE" else "read")

    assert answer.status_code == 404
    assert sorted(directory.parent.rglob("*")) == before


def test_deleting_is_by_id_and_not_by_name(service, directory):
    assert service.ask(f"/api/recordings/{NAME}.wav", "DELETE", "control").status_code == 404
    assert (directory / f"{NAME}.wav").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("notes.txt")])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_token_reaches_only_plain_files(service, directory, make, method):
    path = directory / f"{ABSENT}.wav"
    make(path)

    for name in (ABSENT, f"{ABSENT}.wav"):
        scope = "control" if method == "DELETE" else "read"
        assert service.ask(f"/api/recordings/{name}", method, scope).status_code == 404
    assert path.is_symlink() or path.exists()
    assert (directory / "notes.txt").read_text() == "not for customers"
