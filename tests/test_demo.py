"""`fsctl demo`: what it shows, that it leaves nothing, and that it notices what is missing."""

from __future__ import annotations

import re
import time

import pytest

from fsctl import cli, demo
from fsctl.config import Project
from fsctl.simulator.connectors import StreamFailed
from tests.simulating import Told, children, program

CHECKS = ["script", "webhooks", "signatures", "stream", "recording", "download", "playback", "metrics"]


@pytest.fixture
def scratch(monkeypatch, tmp_path):
    """Where temporary files go; nothing of ours may be there after a test, nor a process of ours run."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = children()
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert children() - before == {}


@pytest.fixture
def failed(capsys, monkeypatch, scratch):
    """Runs the demonstration, fast and in this process, and gives the names of the checks that did not come out."""
    monkeypatch.setattr(demo, "SPEED", 25.0)

    def run():
        code = cli.run(["demo", "--json"])
        told = Told(code, capsys.readouterr().out)
        checks = {line["name"]: line for line in told.of("check")}
        names = [name for name, line in checks.items() if not line["ok"]]
        assert code == bool(names) == (not told.of("end")[0]["ok"])
        assert all(name in told.of("end")[0]["why"] for name in names)
        return names, {name: line["detail"] for name, line in checks.items()}

    return run


def test_the_call_does_everything_and_programs_can_read_it(scratch):
    began = time.monotonic()
    ran = program("demo", "--json", scratch=scratch)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert time.monotonic() - began < 20
    told = Told(ran.returncode, ran.stdout)
    assert [(line["name"], line["ok"]) for line in told.of("check")] == [(name, True) for name in CHECKS]
    assert all({"at", "kind"} <= set(line) for line in told.lines)
    assert told.lines[-1]["kind"] == "end"
    assert told.lines[-1]["ok"]
    assert told.methods == ["answer", "stream", "play", "record", "play", "stop_stream", "hangup"]
    assert [line["outcome"] for line in told.of("result")] == ["ok"] * 7
    arrived = [line["body"] for line in told.of("webhook")]
    assert len(arrived) == sum(demo.EXPECTED.values())
    assert all(line["signed"] for line in told.of("webhook"))
    recorded = next(
        body["params"] for body in arrived if body["params"].get("state") == "finished" and "url" in body["params"]
    )
    assert recorded["url"] == told.variables["record_url"]
    assert any(command.startswith("playback /") for command in told.commands("play"))
    assert {line["name"] for line in told.of("metric")} >= {demo.CALL_COUNTED}


def test_people_get_the_story_and_where_to_go(scratch):
    ran = program("demo", scratch=scratch)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "\x1b" not in ran.stdout
    lines = ran.stdout.splitlines()
    patterns = (
        r"  FreeSWITCH +simulated",
        r" +0\.\d\d  document +http://127\.0\.0\.1:\d+/document: ok$",
        r" +0\.\d\d  answer +main:4$",
        r" +0\.\d\d    > uuid_answer$",
        r" +\d+\.\d\d    = ok .*stream_result=success",
        r" +\d+\.\d\d  webhook +POST http://127\.0\.0\.1:\d+/webhooks  calling\.call\.stream  streaming$",
        r" +\d+\.\d\d    > uuid_record start /",
        r" +\d+\.\d\d  webhook +POST .* calling\.call\.record  recording$",
        r" +\d+\.\d\d    > playback /",
        r" +\d+\.\d\d  call +ended: hangup \(NORMAL_CLEARING\)$",
        r" +\d+\.\d\d  webhook +POST .* calling\.call\.state  ended$",
        r" +\d+\.\d\d  fsctl_calls_ended_total\{end_reason=\"hangup\"\} 1$",
        r" +\d+\.\d\d  ok +playback ",
        r"  fsctl simulate DOC ",
    )
    found = [next((index for index, line in enumerate(lines) if re.match(one, line)), -1) for one in patterns]
    assert -1 not in found, dict(zip(patterns, found, strict=True))
    assert found == sorted(found)


WITHOUT_STREAM = re.sub(r"    - stream:\n(        .*\n)+", "", demo.DOCUMENT).replace("    - stop_stream: {}\n", "")
WITHOUT_RECORD = re.sub(r"    - record:\n(        .*\n)+    - play:\n(        .*\n)+", "", demo.DOCUMENT)
WITHOUT_PLAYBACK = demo.DOCUMENT.replace("${record_url}", "silence: 1")
MUTE = demo.DOCUMENT.replace("status_url", "say_voice")

MISSING = {
    "nothing is": (demo.DOCUMENT, []),
    "no stream": (WITHOUT_STREAM, ["webhooks", "stream"]),
    "no recording": (WITHOUT_RECORD, ["webhooks", "recording"]),
    "the recording is not played": (WITHOUT_PLAYBACK, ["playback"]),
    "a document that cannot be run": (
        "sections: {main: [{ply: {}}]}", ["script", "webhooks", "stream", "recording", "metrics"]
    ),
    "a stream that nothing stops is closed by the hangup": (demo.DOCUMENT.replace("    - stop_stream: {}\n", ""), []),
}  # fmt: skip


@pytest.mark.parametrize(("document", "missing"), MISSING.values(), ids=MISSING)
def test_it_notices_what_is_missing(failed, monkeypatch, document, missing):
    monkeypatch.setattr(demo, "DOCUMENT", document)
    assert failed()[0] == missing


def test_it_notices_a_webhook_that_does_not_arrive(failed, monkeypatch):
    changed = demo.DOCUMENT.replace('        status_url: "${envs.webhooks}"\n', "", 1)
    assert changed != demo.DOCUMENT
    monkeypatch.setattr(demo, "DOCUMENT", changed)
    names, details = failed()
    assert names == ["webhooks"]
    assert "1 x calling.call.stream streaming" in details["webhooks"]


def test_it_notices_a_wrong_signature(failed, monkeypatch):
    monkeypatch.setattr(demo, "Project", lambda **given: Project(**{**given, "signing_key": "another"}))
    names, details = failed()
    assert names == ["signatures"]
    assert details["signatures"].startswith("0 of 12 ")


def test_it_notices_a_caller_that_cannot_be_heard(failed, monkeypatch):
    caller = demo.Caller
    monkeypatch.setattr(demo, "Caller", lambda **_: caller())
    names, details = failed()
    assert "recording" in names
    assert "webhooks" in names  # no_input, and nothing to play
    assert "1 x calling.call.record finished" in details["webhooks"]


def test_it_notices_an_endpoint_that_refuses(failed, monkeypatch):
    def refuse(self, url, headers, timeout):
        raise StreamFailed(6, "Connection refused")

    monkeypatch.setattr(demo._Endpoint, "open", refuse)
    names, details = failed()
    assert names == ["webhooks", "stream"]
    assert details["stream"] == "nobody connected to the endpoint"
