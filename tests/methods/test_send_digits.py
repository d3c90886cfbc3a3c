"""send_digits, laid out by its reference page (swml-calling 3.26)."""

import pytest

from fsctl.errors import CommandFailed, LegGone, ScriptError
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api
from fsctl.methods.send_digits import send_digits
from fsctl.swml.document import Where
from tests.fakes.call import make_call
from tests.methods.running import make, run


class Sender:
    """FreeSWITCH's side: takes digits, and says what it reckons they take (pauses count as digits)."""

    def __init__(self, call, each=500):
        self.call, self.each = call, each
        self.parts = []
        call.leg.when("uuid_send_dtmf", then=self.send)

    def send(self, argument):
        part = argument.split(" ")[1]
        self.parts.append((self.call.clock.now() - START, part))
        self.call.leg.when("uuid_getvar", reply=str(len(part) * self.each))


START = 1_767_000_000.0


@pytest.fixture
def call(tmp_path):
    call = make_call(tmp_path)
    assert call.clock.now() == START
    return call


class TestDigits:
    def test_they_are_sent(self, call):
        sender = Sender(call)

        run(call, send_digits, digits="0123456789*#ABCDabcd")

        assert sender.parts == [(0.0, "0123456789*#ABCDabcd")]
        assert call.vars == {"send_digits_result": "success"}

    @pytest.mark.parametrize(
        ("digits", "seconds"),
        [
            pytest.param("1", 0.5, id="one"),
            pytest.param("123", 1.5, id="three"),
            pytest.param("1w2", 1.5, id="half-a-second-of-pause"),
            pytest.param("1W2", 2.0, id="a-second-of-pause"),
            pytest.param("wW", 1.5, id="pauses-alone"),
        ],
    )
    def test_it_waits_until_they_are_out(self, call, digits, seconds):
        Sender(call)

        run(call, send_digits, digits=digits)

        assert call.clock.now() - START == pytest.approx(seconds)

    def test_an_operators_own_tone_length_is_heeded(self, call):
        Sender(call, each=350)

        run(call, send_digits, digits="12w")

        assert call.clock.now() - START == pytest.approx(2 * 0.35 + 0.5)

    def test_without_freeswitchs_word_its_default_is_assumed(self, call):
        call.leg.when("uuid_getvar", reply="_undef_")

        run(call, send_digits, digits="12")

        assert call.clock.now() - START == pytest.approx(1.0)

    def test_more_than_99_go_in_parts_one_after_the_other(self, call):
        sender = Sender(call)

        run(call, send_digits, digits="1" * 100)

        assert [(0.0, "1" * 99), (pytest.approx(49.5), "1")] == sender.parts
        assert call.vars["send_digits_result"] == "success"

    def test_it_is_required(self):
        with pytest.raises(ScriptError, match="`digits` is missing"):
            make(send_digits)

    @pytest.mark.parametrize("digits", ["12x", "1 2", "", "1,2", "+49", "1@500", "~1", "1\n"])
    def test_a_bad_one_written_is_refused_with_the_document(self, digits):
        with pytest.raises(ScriptError, match="digits"):
            make(send_digits, digits=digits)

    @pytest.mark.parametrize("digits", ["12x", "1 2", "", "1@500", "1\n2", "１"])
    def test_a_bad_one_computed_sends_nothing(self, call, digits):
        """The whole string is rejected, not only what is wrong in it."""
        params = send_digits.shape.read({"digits": digits}, Where("main", (0,), None, None))

        assert run_read(call, params) == "failed"
        assert call.leg.apis() == []

    def test_a_computed_number_is_good(self, call):
        sender = Sender(call)
        params = send_digits.shape.read({"digits": 1234}, Where("main", (0,), None, None))

        assert run_read(call, params) == "success"
        assert sender.parts == [(0.0, "1234")]


def run_read(call, params):
    """Run with parameters as they come out of placeholders; the result variable."""
    try:
        send_digits(call, params)
    except CommandFailed:
        return "failed"
    return call.vars["send_digits_result"]


def test_a_refusal_of_freeswitch_is_a_failed_result(call):
    call.leg.when("uuid_send_dtmf", reply="-ERR Operation failed")

    run(call, send_digits, digits="1")

    assert call.vars == {"send_digits_result": "failed"}


def test_an_unanswered_call_is_answered(tmp_path):
    call = make_call(tmp_path, answered=False)
    Sender(call)

    run(call, send_digits, digits="1")

    assert [commands.answer(call.leg.uuid)] == call.leg.apis("uuid_answer")


def test_a_hangup_ends_the_wait(call):
    Sender(call)
    call.leg.at(1.0, facts.HungUp("NORMAL_CLEARING"))

    with pytest.raises(LegGone):
        run(call, send_digits, digits="1234567890")
    assert call.clock.now() - START == pytest.approx(1.0)


def test_the_bare_spelling(call):
    Sender(call)

    run(call, send_digits, **send_digits.normalised("12#"))

    assert Api("uuid_send_dtmf", f"{call.leg.uuid} 12#") == call.leg.apis()[0]
