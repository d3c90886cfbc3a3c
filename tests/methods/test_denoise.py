"""denoise and stop_denoise, laid out by their reference page (swml-calling 3.12)."""

import pytest

from fsctl.errors import LegGone, ScriptError
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api
from fsctl.methods.denoise import denoise, stop_denoise
from tests.fakes.call import changes, make_call, states
from tests.methods.running import make, run


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def test_it_puts_the_filter_on(call):
    run(call, denoise)

    assert [Api("uuid_preprocess", f"{call.leg.uuid} r.noise_suppress=-25")] == call.leg.apis()
    assert call.vars == {"denoise_result": "on"}


def test_a_call_has_one_filter(call):
    run(call, denoise)
    run(call, denoise)

    assert len(call.leg.apis("uuid_preprocess")) == 1
    assert call.vars == {"denoise_result": "on"}


def test_stop_takes_it_off(call):
    run(call, denoise)
    run(call, stop_denoise)

    assert Api("uuid_preprocess", f"{call.leg.uuid} stop") == call.leg.apis()[-1]
    assert call.vars == {"denoise_result": "off"}
    assert states(call, "denoise") == ["denoising", "finished"]


def test_stop_without_a_filter_asks_freeswitch_nothing(call):
    """It would put a filter on that does nothing."""
    run(call, stop_denoise)

    assert call.leg.apis() == []
    assert call.vars == {"denoise_result": "off"}


def test_it_can_be_put_on_again(call):
    for method in (denoise, stop_denoise, denoise):
        run(call, method)

    assert len(call.leg.apis("uuid_preprocess")) == 3
    assert call.vars == {"denoise_result": "on"}


def test_a_refusal_is_a_failed_result(call):
    call.leg.when("uuid_preprocess", reply="-ERR no")

    run(call, denoise)

    assert call.vars == {"denoise_result": "failed"}
    assert call.controls.running() == []


@pytest.mark.parametrize("method", [denoise, stop_denoise], ids=["denoise", "stop_denoise"])
def test_there_are_no_parameters(method):
    with pytest.raises(ScriptError, match="no parameters"):
        make(method, level=3)


def test_there_is_no_callback(call):
    run(call, denoise)

    assert {None} == {event.callback for event in changes(call, "denoise")}


def test_denoise_answers_and_stop_does_not(tmp_path):
    call = make_call(tmp_path, answered=False)
    run(call, stop_denoise)
    assert call.leg.applications() == []
    run(call, denoise)

    assert [commands.answer(call.leg.uuid)] == call.leg.apis("uuid_answer")


def test_the_end_of_the_call_ends_it(call):
    run(call, denoise)
    call.leg.happen(facts.HungUp("NORMAL_CLEARING"))
    with pytest.raises(LegGone):
        run(call, stop_denoise)
    (control,) = call.controls.running()
    control.abandon()

    assert states(call, "denoise") == ["denoising", "finished"]
