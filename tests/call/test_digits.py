"""Digits become a value: by their number, by a terminator, or by waiting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.call.digits import DigitCollector, DigitRules


def typed(rules, digits, *, every=0.5, start=0.0):
    """A collector that was given these digits, one after the other."""
    collector = DigitCollector(rules)
    for index, digit in enumerate(digits):
        collector.press(digit, start + index * every)
    return collector


@pytest.mark.parametrize(
    ("rules", "digits", "value", "terminator", "over"),
    [
        pytest.param(DigitRules(), "7", "7", "", True, id="one-is-the-default"),
        pytest.param(DigitRules(max_digits=4), "471", "471", "", False, id="not-enough-yet"),
        pytest.param(DigitRules(max_digits=4), "4711", "4711", "", True, id="enough"),
        pytest.param(DigitRules(max_digits=2), "12345", "12", "", True, id="what-follows-does-not-count"),
        pytest.param(DigitRules(max_digits=10, terminators="#"), "12#", "12", "#", True, id="terminator"),
        pytest.param(DigitRules(max_digits=10, terminators="#"), "12*", "12*", "", False, id="another-key-is-a-digit"),
        pytest.param(DigitRules(max_digits=10, terminators="*#5"), "345", "34", "5", True, id="a-digit-as-terminator"),
        pytest.param(DigitRules(max_digits=10, terminators="*#5"), "46*", "46", "*", True, id="the-first-of-several"),
        pytest.param(DigitRules(max_digits=10, terminators="#"), "#", "", "#", True, id="terminator-alone"),
        pytest.param(DigitRules(max_digits=2, terminators="#"), "1#", "1", "#", True, id="terminator-before-the-last"),
        pytest.param(DigitRules(max_digits=9, terminators="a"), "1A", "1", "A", True, id="letters-in-either-case"),
        pytest.param(DigitRules(max_digits=9, terminators="D"), "cd", "C", "D", True, id="small-letters-pressed"),
        pytest.param(DigitRules(max_digits=3), "", "", "", False, id="nothing"),
    ],
)
def test_what_was_typed(rules, digits, value, terminator, over):
    collector = typed(rules, digits)

    assert (value, terminator, over) == (collector.digits, collector.terminator, collector.over)


class TestWaiting:
    def test_nothing_ends_before_the_first_digit(self):
        collector = DigitCollector(DigitRules(digit_timeout=1.0))

        assert collector.deadline is None
        assert not collector.wait(1e9)

    def test_each_digit_starts_it_again(self):
        collector = typed(DigitRules(max_digits=9, digit_timeout=2.0), "12", every=1.5, start=10.0)

        assert collector.deadline == 13.5
        assert not collector.wait(13.4)
        assert collector.wait(13.5)
        assert (collector.digits, collector.terminator) == ("12", "")

    def test_a_digit_after_the_end_is_too_late(self):
        collector = typed(DigitRules(max_digits=9, digit_timeout=2.0), "12")
        collector.wait(100.0)

        assert collector.press("3", 100.1)
        assert collector.digits == "12"

    def test_a_complete_value_waits_for_nothing(self):
        assert typed(DigitRules(max_digits=1), "1").deadline is None
        assert typed(DigitRules(max_digits=3, terminators="#"), "1#").deadline is None


KEYS = "0123456789ABCD*#"


@given(
    keys=st.text(KEYS, max_size=30),
    terminators=st.text(KEYS, max_size=4),
    most=st.integers(1, 12),
    gaps=st.lists(st.floats(0, 10), min_size=30, max_size=30),
    limit=st.floats(0, 10),
)
def test_it_is_the_same_as_reading_the_keys_from_the_left(keys, terminators, most, gaps, limit):
    """An independent account: a value is the longest start of the keys that nothing has ended."""
    collector = DigitCollector(DigitRules(most, terminators, limit))
    now, before, value, end, over = 0.0, 0.0, "", "", False
    for index, (key, gap) in enumerate(zip(keys, gaps, strict=False)):
        now += gap
        if not over and index and now >= before + limit:
            over = True
        if not over:
            if key in terminators:
                end, over = key, True
            else:
                value += key
                over = len(value) == most
        before = now
        collector.wait(now)
        assert collector.press(key, now) == over

    assert (value, end, over) == (collector.digits, collector.terminator, collector.over)
    assert (collector.deadline is None) == (over or not keys)
