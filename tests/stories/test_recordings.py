"""What becomes of a recording after its call: whole calls, the links their webhooks carry, deleting, retention."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from fsctl.simulator import Caller
from tests.stories.stage import wait_for

PROJECT = "00000000-0000-4000-8000-000000000001"
TOKEN = "a-token-for-tests-only"
KEY = "a key for tests only"
LINKS = {"link_seconds": 3600, "link_key": KEY}
API = {"tokens": [{"name": "crm", "token": TOKEN, "scopes": ["read", "control"]}]}
SCRIPT = [
    {"record": {"status_url": "@web/hook", "end_silence_timeout": 0, "initial_timeout": 0}},
    {"play": {"url": "${record_url}"}},
]


@pytest.fixture
def recorded(stage):
    """Lets a call record with these settings of recordings; the stage, the call and the webhook of its end."""

    def record(**settings):
        place = stage(config={"recordings": settings, "api": API})
        story = place.run(SCRIPT, behaviour=caller())
        (told,) = [hook.params for hook in story.webhooks("/hook") if hook.params["state"] == "finished"]
        return place, story, told

    return record


def caller():
    return Caller(speaks=((0, 100),), digits="5#", digits_after=3)


def ask(place, id_, method="GET", auth=(PROJECT, TOKEN)):
    return requests.request(method, f"{place.public_url}/api/recordings/{id_}", auth=auth, timeout=10)


def get(url, **headers):
    return requests.get(url, headers=headers, timeout=10)


def signed(url, expires):
    """A link as the README has it made, without fsctl."""
    plain = url.partition("?")[0]
    head = f"{plain.rpartition('/')[2]}?expires={expires}"
    code = hmac.new(KEY.encode(), head.encode(), hashlib.sha256).hexdigest()
    return f"{plain}?expires={expires}&signature={code}"


def metric(place, name):
    lines = get(f"{place.public_url}/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_a_webhooks_link_opens_the_recording_until_it_expires_is_changed_or_the_recording_is_deleted(recorded):
    place, _, told = recorded(**LINKS)
    url = told["url"]
    (path,) = (place.folder / "recordings").iterdir()
    sound = path.read_bytes()

    assert told["record"]["url"] == url
    assert 3500 < int(parse_qs(urlsplit(url).query)["expires"][0]) - time.time() <= 3600
    assert (get(url).status_code, get(url).content) == (200, sound)
    part = get(url, Range="bytes=0-43")
    assert (part.status_code, part.content) == (206, sound[:44])
    assert get(signed(url, int(time.time()) + 60)).content == sound

    expired = get(signed(url, int(time.time()) - 1))
    assert (expired.status_code, expired.json()["errors"][0]["code"]) == (410, "link_expired")
    for link in (
        url.partition("?")[0],
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("expires=", "expires=9"),
    ):
        refused = get(link)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (403, "forbidden")

    known = ask(place, told["recording_id"]).json()
    assert (known["id"], known["format"], known["size"]) == (told["recording_id"], "wav", told["size"])
    assert get(known["url"]).content == sound
    assert requests.delete(url, timeout=10).status_code == 405
    assert ask(place, told["recording_id"], "DELETE", auth=None).status_code == 401
    assert ask(place, told["recording_id"], "DELETE").status_code == 204
    assert not path.exists()
    assert get(url).status_code == 404
    assert ask(place, told["recording_id"]).status_code == 404
    assert ask(place, told["recording_id"], "DELETE").status_code == 404
    assert metric(place, 'fsctl_recordings_deleted_total{by="api"}') == 1
    assert metric(place, 'fsctl_recordings_deleted_total{by="retention"}') == 0


def test_a_call_plays_its_own_recording_from_the_disk_though_the_link_is_signed(recorded):
    _, story, _ = recorded(**LINKS)

    assert "signature=" in story.variables["record_url"]
    assert story.commands[-2:] == ["playback REC/ID.wav", "api uuid_kill NORMAL_CLEARING"]
    assert story.instructions == ["main[0].record record ok", "main[1].play play ok"]
    assert get(story.variables["record_url"]).status_code == 200


def test_the_signature_is_in_no_log(recorded):
    place, _, told = recorded(**LINKS)
    get(told["url"])
    get(told["url"] + "0")

    code = parse_qs(urlsplit(told["url"]).query)["signature"][0]
    assert any(line["event"] == "http_request" and line["path"].startswith("/recordings/") for line in place.log())
    assert code not in place.out.getvalue()
    assert KEY not in place.out.getvalue()


def test_a_key_is_made_of_the_projects_where_there_is_none(stage):
    place = stage(config={"recordings": {"link_seconds": 60}, "project": {"signing_key": "PSK_for_tests"}})
    story = place.run([{"record_call": {}}, {"play": {"url": "silence:1"}}], behaviour=caller())

    url = story.variables["record_call_url"]
    assert get(url).status_code == 200
    assert get(url.partition("?")[0]).status_code == 403


def test_links_are_plain_unless_they_shall_expire(recorded):
    place, story, told = recorded()

    assert told["url"] == story.variables["record_url"]
    assert told["url"] == f"{place.public_url}/recordings/{told['recording_id']}.wav"
    assert get(told["url"]).status_code == 200
    assert ask(place, told["recording_id"]).json()["url"] == told["url"]


def test_a_recording_cannot_be_deleted_while_its_call_records(stage):
    place = stage(config={"api": API})
    answers = []

    def during(story):
        (changed,) = wait_for(lambda: story.changes("record"), "the recording")
        wait_for(lambda: any((place.folder / "recordings").iterdir()), "its file")
        answers.append(ask(place, changed.detail["recording_id"], "DELETE"))
        story.call.hangup()

    story = place.run([{"record_call": {}}, {"play": {"url": "silence:600"}}], during=during, behaviour=caller())

    (answer,) = answers
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "recording_in_progress")
    (path,) = (place.folder / "recordings").iterdir()
    assert story.controls("record") != {}
    assert ask(place, path.stem, "DELETE").status_code == 204
    assert not path.exists()


def test_old_recordings_go_and_new_ones_stay(stage, tmp_path):
    folder = tmp_path / "stage-0" / "recordings"
    folder.mkdir(parents=True)
    old, new = (folder / f"00000000-0000-4000-8000-00000000000{number}.wav" for number in (1, 2))
    for path, days in ((old, 31), (new, 29)):
        path.write_bytes(b"sound")
        os.utime(path, (time.time() - days * 86_400,) * 2)

    place = stage(config={"recordings": {"retention_days": 30}})

    wait_for(lambda: not old.exists(), "the old recording to go")
    name = 'fsctl_recordings_deleted_total{by="retention"}'
    wait_for(lambda: metric(place, name) == 1, "it to be counted")
    wait_for(lambda: [line for line in place.log() if line["event"] == "recordings_deleted"], "it to be told")
    assert new.exists()
