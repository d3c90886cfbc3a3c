"""A control moves through its table, and each move is told once."""

import pytest

from fsctl.call.events import Callback
from fsctl.call.states import CALL, CONTROLS
from tests.fakes.call import changes, make_call


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


@pytest.mark.parametrize("kind", CONTROLS)
def test_every_state_can_be_reached_and_left_or_is_an_end(kind):
    table = CONTROLS[kind]
    reached, at = {""}, [""]
    while at:
        for state in table[at.pop()]:
            if state not in reached:
                reached.add(state)
                at.append(state)

    assert set(table) == reached
    assert any(not table[state] for state in reached)


def test_a_call_ends_from_every_state():
    for state in CALL:
        if state not in ("", "ended"):
            assert "ended" in CALL[state]


def test_a_move_that_does_not_exist_raises_and_tells_nobody(call):
    control = call.control("play", method="play")
    control.to("playing")
    control.to("finished")

    with pytest.raises(ValueError, match="no way from 'finished' to 'playing'"):
        control.to("playing")
    assert [event.state for event in changes(call, "play")] == ["playing", "finished"]


def test_an_event_is_complete(call):
    control = call.control("play", "p-1", method="play", status_url="https://hooks.example/p", status_url_method="GET")
    control.detail["a"] = 1
    control.to("playing", b=2)

    (event,) = changes(call, "play")
    assert (call.info, "p-1", "play") == (event.call, event.control_id, event.method)
    assert dict(event.detail) == {"a": 1, "b": 2}
    assert Callback("https://hooks.example/p", "GET") == event.callback


def test_later_changes_do_not_reach_an_event_that_was_told(call):
    control = call.control("play", method="play")
    control.to("playing")
    control.to("finished", late=True)

    assert "late" not in changes(call, "play")[0].detail


def test_an_id_is_free_again_after_the_end(call):
    first = call.control("play", "p-1", method="play")
    with pytest.raises(KeyError):
        call.control("play", "p-1", method="play")
    first.to("finished")

    call.control("play", "p-1", method="play")


def test_the_same_id_for_another_kind_is_another_control(call):
    call.control("play", "x", method="play")
    call.control("stream", "x", method="stream")

    assert call.controls.counts() == {"play": 1, "stream": 1}


def test_what_is_over_is_forgotten(call):
    control = call.control("play", "x", method="play")
    assert control is call.controls.find("play", "x")
    control.to("finished")

    assert call.controls.find("play", "x") is None
    assert call.controls.running() == []


def test_cleaning_up_happens_once_at_the_end(call):
    done = []
    control = call.control("play", method="play")
    control.on_over(lambda: done.append(1))
    control.to("playing")
    assert done == []
    control.to("finished")
    control.on_over(lambda: done.append(2))

    assert done == [1, 2]


def test_waiting_for_the_end(call):
    control = call.control("play", method="play")
    call.clock.later(1.0, control.to, "finished")

    assert not control.wait(0.5)
    assert control.wait(5)
    assert control.wait()
