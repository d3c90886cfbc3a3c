"""Values as JavaScript sees them."""

import json

import pytest
import quickjs
from hypothesis import given
from hypothesis import strategies as st

from fsctl.swml.values import copied, quoted, short, to_text, truthy

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text", "text"),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (-0.0, "0"),
        (1.5, "1.5"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (1e16, "10000000000000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.25e21, "1.25e+21"),
        (12345678901234567890, "12345678901234567890"),
        (NAN, "NaN"),
        (INFINITY, "Infinity"),
        (-INFINITY, "-Infinity"),
        ([], "[]"),
        ([1.0, "a", None], '[1,"a",null]'),
        ({"a": {"b": [True]}}, '{"a":{"b":[true]}}'),
        ({"a": NAN}, '{"a":null}'),
        ({"é": "ü"}, '{"é":"ü"}'),
    ],
    ids=repr,
)
def test_to_text(value, text):
    assert to_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_read_as_javascript_writes_them(number):
    ours, theirs = to_text(number), quickjs.Context().eval(f"String({number!r})")
    # The language wants the shortest text that reads back as the number; QuickJS writes a digit too many now and then.
    assert ours == theirs or (float(ours) == float(theirs) == number and len(ours) < len(theirs))


@pytest.mark.parametrize("value", [True, 1, -1, 0.5, "0", "false", [], {}, INFINITY], ids=repr)
def test_truthy(value):
    assert truthy(value)


@pytest.mark.parametrize("value", [False, 0, 0.0, -0.0, NAN, "", None], ids=repr)
def test_not_truthy(value):
    assert not truthy(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values) | st.dictionaries(st.text(max_size=5), json_values))
def test_lists_and_objects_read_as_json(value):
    assert json.loads(to_text(value)) == value


def test_a_copy_shares_nothing_that_can_change():
    value = {"a": [{"b": 1}]}
    other = copied(value)
    other["a"][0]["b"] = 2
    other["a"].append(3)
    assert value == {"a": [{"b": 1}]}


def test_short_text_is_left_alone_and_long_text_cut():
    assert short("a" * 60) == "a" * 60
    assert short("a" * 61) == "a" * 57 + "..."


def test_a_quoted_name_cannot_bring_control_characters():
    assert quoted("play") == "`play`"
    assert "\x1b" not in quoted("\x1b[31mplay")
