"""sleep, laid out by its reference page (swml-calling 3.30)."""

import pytest

from fsctl.errors import LegGone, ScriptError
from fsctl.freeswitch import facts
from fsctl.methods.sleep import sleep
from tests.fakes.call import make_call
from tests.methods.running import make, run


@pytest.mark.parametrize("milliseconds", [0, 1, 5000])
def test_it_sleeps_milliseconds(tmp_path, milliseconds):
    call = make_call(tmp_path)
    start = call.clock.now()

    run(call, sleep, duration=milliseconds)

    assert milliseconds / 1000 == pytest.approx(call.clock.now() - start, abs=1e-5)


def test_minus_one_sleeps_until_the_hangup(tmp_path):
    call = make_call(tmp_path)
    call.leg.at(1e6, facts.HungUp("NORMAL_CLEARING"))

    with pytest.raises(LegGone):
        run(call, sleep, duration=-1)


def test_a_hangup_wakes_the_sleeper(tmp_path):
    call = make_call(tmp_path)
    start = call.clock.now()
    call.leg.at(2.0, facts.HungUp("NORMAL_CLEARING"))

    with pytest.raises(LegGone):
        run(call, sleep, duration=60_000)
    assert pytest.approx(call.clock.now() - start) == 2.0


@pytest.mark.parametrize("duration", [-2, 1.5, "long", None])
def test_limits(duration):
    with pytest.raises(ScriptError, match="duration"):
        make(sleep, duration=duration)


@pytest.mark.parametrize("spelling", [5000, -1, "${ms}"])
def test_the_bare_spelling(spelling):
    assert {"duration": spelling} == sleep.normalised(spelling)
