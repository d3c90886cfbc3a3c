"""answer, laid out by its reference page (swml-calling 3.1)."""

import pytest

from fsctl.errors import ScriptError
from fsctl.freeswitch import commands
from fsctl.freeswitch.commands import Api
from fsctl.methods.answer import answer
from tests.fakes.call import make_call, warnings
from tests.methods.running import make, run


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path, answered=False)


def test_it_answers(call):
    run(call, answer)

    assert [commands.answer(call.leg.uuid)] == call.leg.sent
    assert call.state == "answered"
    assert call.vars["answer_result"] == "success"


def test_an_answered_call_is_not_answered_again(tmp_path):
    call = make_call(tmp_path, answered=True)

    run(call, answer)

    assert call.leg.sent == []
    assert call.vars["answer_result"] == "success"


class TestMaxDuration:
    def test_the_call_ends_after_it(self, call):
        run(call, answer, max_duration=30)
        call.clock.sleep(29.9)
        assert not call.leg.gone
        call.clock.sleep(0.2)

        assert call.leg.cause == "ALLOTTED_TIMEOUT"

    def test_by_default_after_four_hours(self, call):
        run(call, answer)
        call.clock.sleep(14399)
        assert not call.leg.gone
        call.clock.sleep(2)

        assert call.leg.cause == "ALLOTTED_TIMEOUT"

    def test_a_second_answer_sets_it_anew(self, call):
        run(call, answer, max_duration=10)
        run(call, answer, max_duration=100)
        call.clock.sleep(50)

        assert not call.leg.gone

    def test_it_can_only_shorten_the_operators_limit(self, call):
        run(call, answer, max_duration=999_999)
        call.clock.sleep(14401)

        assert call.leg.gone

    @pytest.mark.parametrize("value", [0, -1, 1.5, "soon", []])
    def test_limits(self, value):
        with pytest.raises(ScriptError, match="max_duration"):
            make(answer, max_duration=value)


class TestCodecs:
    def test_they_are_offered_in_order(self, call):
        run(call, answer, codecs="OPUS, pcmu,PCMA")

        setting = Api("uuid_setvar", f"{call.leg.uuid} absolute_codec_string OPUS,PCMU,PCMA")
        assert call.leg.sent == [setting, commands.answer(call.leg.uuid)]

    def test_none_leaves_freeswitchs_own(self, call):
        run(call, answer)

        assert call.leg.apis("uuid_setvar") == []

    def test_an_unknown_codec_is_an_error(self, call):
        run(call, answer, codecs="PCMU,SPEEX")

        assert call.vars["answer_result"] == "failed"
        assert "unknown codec 'SPEEX'" in str(call.failure)
        assert call.leg.sent == []

    def test_a_codec_not_for_phones_is_an_error(self, tmp_path):
        call = make_call(tmp_path, answered=False, type="phone")
        run(call, answer, codecs="OPUS")

        assert "not for phone calls" in str(call.failure)


def test_username_and_password_say_that_they_do_nothing(call):
    run(call, answer, username="u", password="p")

    assert warnings(call) == ["answer: username and password do nothing here"]
    assert call.vars["answer_result"] == "success"


def test_a_refusal_is_a_failed_result(call):
    call.leg.when("uuid_answer", reply="-ERROR")

    run(call, answer)

    assert call.vars["answer_result"] == "failed"
