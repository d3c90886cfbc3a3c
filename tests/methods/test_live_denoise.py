"""calling.denoise and its stop, laid out by their reference page (calling-api 4.7)."""

import pytest

from fsctl.errors import ApiError
from fsctl.methods.denoise import denoise
from tests.fakes.call import make_call, states
from tests.methods.commanding import ask, refusal
from tests.methods.running import run


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def filtered(call):
    return [api.argument.split(" ")[1] for api in call.leg.apis("uuid_preprocess")]


def test_on_and_off(call):
    assert ask(call, "calling.denoise") == {}
    assert ask(call, "calling.denoise.stop") == {}

    assert filtered(call) == ["r.noise_suppress=-25", "stop"]
    assert states(call, "denoise") == ["denoising", "finished"]


def test_the_script_has_nothing_to_do_with_it(call):
    ask(call, "calling.denoise")

    assert call.vars == {}


def test_a_second_one_changes_nothing(call):
    ask(call, "calling.denoise")
    ask(call, "calling.denoise")

    assert len(filtered(call)) == 1


def test_neither_does_one_that_the_script_has_started(call):
    run(call, denoise)

    ask(call, "calling.denoise")
    ask(call, "calling.denoise.stop")

    assert states(call, "denoise") == ["denoising", "finished"]


def test_two_who_ask_at_once_make_one(call):
    """The first waits for FreeSWITCH's answer while the second comes."""
    asked = []

    def meanwhile(_):
        if not asked:
            asked.append(True)
            ask(call, "calling.denoise")

    call.leg.when("uuid_preprocess", then=meanwhile)

    ask(call, "calling.denoise")

    assert len(call.controls.running("denoise")) == 1


def test_a_stop_without_a_filter_changes_nothing(call):
    assert ask(call, "calling.denoise.stop") == {}

    assert filtered(call) == []


def test_a_refusal_is_told(call):
    call.leg.when("uuid_preprocess", reply="-ERR no")

    with pytest.raises(ApiError) as refused:
        ask(call, "calling.denoise")

    assert (refused.value.status, refused.value.code) == (422, "call_update_failed")
    assert call.controls.running() == []


@pytest.mark.parametrize("name", ["calling.denoise", "calling.denoise.stop"])
def test_only_an_answered_call(tmp_path, name):
    assert refusal(make_call(tmp_path, answered=False), name) == (422, "invalid_state", None)
