"""A whole call read back over HTTP afterwards, by a customer who was told of its end."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
import requests

from fsctl.simulator import Caller
from tests.stories.stage import page, wait_for, wav

PROJECT = "11111111-2222-4333-8444-555555555555"
TOKEN = "a-token-nobody-guesses"
SCRIPT = [
    {"answer": {}},
    {"play": {"url": "@web/sound.wav"}},
    {"record": {"max_length": 0.4, "initial_timeout": 0, "end_silence_timeout": 0}},
    {"user_event": {"event": {"order": 7, "password": "s3cret", "see": "https://bob:s3cret@shop.example/?t=s3cret"}}},
    {"hangup": {}},
]


@pytest.fixture
def house(stage, tmp_path):
    """A stage that keeps a log, and a customer with a token."""

    def build(**logs):
        config = {
            "logs": {"database": str(tmp_path / "log" / "calls.db"), **logs},
            "project": {"project_id": PROJECT},
            "api": {"tokens": [{"name": "crm", "token": TOKEN, "scopes": ["read"]}]},
            "webhooks": {"call_state_url": "@web/hook", "call_state_events": ["ended"]},
        }
        built = stage(config=config, pages={"/sound.wav": page(wav(0.2), Content_Type="audio/wav")})
        built.read = lambda path, **query: requests.get(
            f"{built.public_url}/api/voice/logs{path}", params=query, auth=(PROJECT, TOKEN), timeout=10
        )
        return built

    return build


def test_a_call_is_read_back_over_http(house):
    stage = house()
    story = stage.run(SCRIPT)

    log = stage.read(f"/{story.call.uuid}").json()
    events = stage.read(f"/{story.call.uuid}/events").json()["data"]

    assert log["id"] == story.call.uuid
    assert (log["direction"], log["type"], log["status"]) == ("inbound", "relay_sip_call", "completed")
    assert log["duration_ms"] == round((story.ended.end_time - story.ended.answer_time) * 1000)
    assert [event["name"] for event in events] == [
        "calling_call_initiated",
        "calling_call_document_fetched",
        "calling_call_answered",
        "calling_call_play_playing",
        "calling_call_play_finished",
        "calling_call_record_recording",
        "calling_call_record_finished",
        "calling_call_user_event",
        "calling_call_ending",
        "calling_call_script_ended",
        "calling_call_ended",
    ]
    assert {(event["log_id"], event["project_id"]) for event in events} == {(story.call.uuid, PROJECT)}
    times = [event["event_at"] for event in events if "document" not in event["name"]]  # which is fetched in real time
    assert times == sorted(times)
    assert "s3cret" not in str(events)


def test_the_recording_can_be_fetched_from_where_the_log_says(house):
    stage = house()
    story = stage.run(SCRIPT)

    events = stage.read(f"/{story.call.uuid}/events").json()["data"]
    (recorded,) = [event["details"] for event in events if event["name"] == "calling_call_record_finished"]

    assert recorded["url"] == story.variables["record_url"]
    assert requests.get(recorded["url"], timeout=10).content


def test_whoever_hears_of_the_end_finds_it_at_once(house):
    stage, found = house(), []

    def hook(asked, _):
        found.append(stage.read(f"/{asked.params['call_id']}").json()["status"])
        return page("")

    stage.pages["/hook"] = hook
    stage.run([{"hangup": {"reason": "busy"}}])
    stage.run(SCRIPT)

    assert wait_for(lambda: len(found) == 2 and found, "both webhooks") == ["busy", "completed"]


def test_a_caller_who_gives_up_a_script_that_fails_and_a_document_that_is_none(house):
    stage = house()
    gave_up = stage.run([{"play": {"url": "silence:9", "auto_answer": False}}], behaviour=Caller(gives_up_after=0.5))
    failed = stage.run([{"answer": {}}, {"goto": {"label": "nowhere"}}])
    no_document = stage.run("this is : no : document")

    def read(story):
        events = stage.read(f"/{story.call.uuid}/events").json()["data"]
        status = stage.read(f"/{story.call.uuid}").json()["status"]
        return status, [event["name"] for event in events if event["level"] == "error"]

    assert read(gave_up) == ("canceled", [])
    assert read(failed) == (
        "failed",
        ["calling_call_script_error", "calling_call_script_ended", "calling_call_ended"],
    )
    assert read(no_document) == (
        "failed",
        ["calling_call_script_error", "calling_call_script_ended", "calling_call_ended"],
    )


def test_calls_are_listed_newest_first_page_by_page(house):
    stage = house()
    uuids = [stage.run([{"hangup": {}}]).call.uuid for _ in range(5)]
    answer = stage.read("", page_size=2).json()
    seen = [log["id"] for log in answer["data"]]
    while "next" in answer["links"]:
        stage.run([{"hangup": {}}])
        answer = requests.get(answer["links"]["next"], auth=(PROJECT, TOKEN), timeout=10).json()
        seen += [log["id"] for log in answer["data"]]

    assert seen == uuids[::-1]


def test_stopping_keeps_the_last_word(house, tmp_path):
    stage = house()
    story = stage.run(SCRIPT)
    stage.server.stop()

    with closing(sqlite3.connect(tmp_path / "log" / "calls.db")) as connection:
        assert connection.execute("SELECT segment_id, state FROM calls").fetchall() == [(story.call.uuid, "ended")]


def test_metrics_tell_how_the_log_does(house):
    stage = house()
    story = stage.run(SCRIPT)
    stage.read(f"/{story.call.uuid}")
    lines = requests.get(f"{stage.public_url}/metrics", timeout=10).text.splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if line.startswith("fsctl_call_log"))

    assert float(shown.pop("fsctl_call_log_rows_written_total")) > 10
    assert {name: float(value) for name, value in shown.items()} == {
        "fsctl_call_log_pending": 0,
        "fsctl_call_log_dropped_total": 0,
        "fsctl_call_log_errors_total": 0,
    }


def test_a_disk_that_takes_nothing_costs_no_call(house, tmp_path):
    (tmp_path / "log").write_text("in the way")
    stage = house()
    story = stage.run(SCRIPT)

    assert story.script.outcome == "finished"
    assert [line["level"] for line in stage.log() if line["event"] == "call_log_failed"] == ["error"]
    assert stage.read(f"/{story.call.uuid}").status_code == 503


def test_without_a_database_there_is_no_log(stage):
    built = stage()
    built.run([{"hangup": {}}])

    assert built.server.call_log is None


def test_who_has_no_token_reads_nothing(house):
    stage = house()

    assert requests.get(f"{stage.public_url}/api/voice/logs", timeout=10).status_code == 401
