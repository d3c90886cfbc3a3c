"""A call is sent elsewhere in the middle of whatever its document does (calling-api 3.2, 3.4, 5.1)."""

from __future__ import annotations

import gevent
import pytest

from fsctl.simulator import Caller
from tests.stories.stage import document, page, wait_for, wav

THERE = page(document({"set": {"came": "yes"}}, {"play": {"url": "silence:0.2"}}, {"hangup": {}}))


@pytest.fixture
def house(stage):
    return stage(
        rest=True,
        pages={
            "/there": THERE,
            "/sound.wav": page(wav(300), Content_Type="audio/wav"),
            "/slow": lambda *_: gevent.sleep(2.0) or page("{}"),
        },
    )


BUSY_WITH = {
    "play": {"play": {"url": "@web/sound.wav"}},
    "silence": {"play": {"url": "silence:300"}},
    "say": {"play": {"url": "say:" + "hello " * 500}},
    "list": {"play": {"urls": ["@web/sound.wav", "silence:300"]}},
    "record": {"record": {"initial_timeout": 0, "end_silence_timeout": 0}},
    "prompt": {"prompt": {"play": ["@web/sound.wav"], "max_digits": 4}},
    "prompt waiting": {"prompt": {"play": ["silence:0.1"], "max_digits": 4, "initial_timeout": 300}},
    "detect_machine": {"detect_machine": {"timeout": 300, "initial_timeout": 300}},
    "sleep": {"sleep": 300_000},
    "sleep for ever": {"sleep": -1},
    "request": {"request": {"url": "@web/slow", "method": "GET"}},
    "send_digits": {"send_digits": {"digits": "1" + "W" * 90}},
    "cond": {"cond": [{"when": "true", "then": [{"sleep": -1}]}]},
    "execute": {"execute": {"dest": "deep"}},
}


@pytest.mark.parametrize("busy_with", BUSY_WITH.values(), ids=BUSY_WITH)
def test_a_call_leaves_what_it_does(house, busy_with):
    script = document({"answer": {}}, busy_with, {"set": {"stayed": "yes"}}, deep=[{"sleep": -1}])
    story = house.start(script)
    wait_for(lambda: "answered" in story.states, "the answer")
    call = house.server.calls.get(story.call.uuid)
    wait_for(lambda: call.instruction.where.text.startswith(("main[1]", "deep")), "the second instruction")

    answer = house.ask("update", id=story.call.uuid, url="@web/there")
    story.end()

    assert answer.status_code == 200
    assert story.variables["came"] == "yes"
    assert "stayed" not in story.variables
    assert story.script.outcome == "finished"
    assert story.ended.end_reason == "hangup"


def test_what_runs_in_the_background_goes_on(house):
    story = house.start(document({"answer": {}}, {"record_call": {"control_id": "whole"}}, {"sleep": -1}))
    wait_for(lambda: story.controls("record"), "the recording")

    house.ask("update", id=story.call.uuid, url="@web/there")
    story.end()

    assert story.controls("record") == {("record", "whole"): ["recording", "finished"]}
    assert story.changes("record")[-1].at >= story.changes("play")[-1].at


def test_twice_in_a_row(house):
    story = house.start(document({"answer": {}}, {"sleep": -1}))
    wait_for(lambda: "answered" in story.states, "the answer")

    inline = {"sections": {"main": [{"set": {"first": "yes"}}, {"sleep": -1}]}}
    house.ask("update", id=story.call.uuid, swml=inline)
    house.ask("update", id=story.call.uuid, url="@web/there")
    story.end()

    assert story.variables["came"] == "yes"


def test_a_redirection_and_a_hangup_at_once(house):
    story = house.start(document({"answer": {}}, {"sleep": -1}), behaviour=Caller())
    wait_for(lambda: "answered" in story.states, "the answer")

    requests = [
        gevent.spawn(house.ask, "update", id=story.call.uuid, url="@web/there"),
        gevent.spawn(house.ask, "calling.end", story.call.uuid),
    ]
    gevent.joinall(requests, raise_error=True)
    story.end()

    assert story.states[-1] == "ended"


def test_a_transfer_by_rest_is_a_redirection(house):
    story = house.start(document({"answer": {}}, {"sleep": -1}))
    wait_for(lambda: "answered" in story.states, "the answer")

    assert house.ask("calling.transfer", story.call.uuid, dest="@web/there").status_code == 200
    story.end()

    assert story.variables["came"] == "yes"


def test_before_its_first_document_has_come(stage):
    house = stage(
        rest=True,
        pages={"/there": THERE, "/slow": lambda *_: gevent.sleep(1.0) or page(document({"set": {"stayed": "yes"}}))},
    )
    story = house.dialled(url="@web/slow")
    wait_for(lambda: "answered" in story.states, "the answer")

    house.ask("update", id=story.call.uuid, url="@web/there")
    wait_for(lambda: "ended" in story.states, "the end")

    assert story.variables["came"] == "yes"
    assert "stayed" not in story.variables
