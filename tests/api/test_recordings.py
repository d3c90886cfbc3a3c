"""Recordings over HTTP: who may ask for what, whole or in part."""

from __future__ import annotations

import os

import gevent
import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fsctl.api.app import make_app
from fsctl.api.recordings import UnsatisfiableRange, requested_range
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
