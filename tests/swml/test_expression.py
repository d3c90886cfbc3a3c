"""Expressions answered without JavaScript are answered as JavaScript would."""

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fsctl.errors import ExpressionError
from fsctl.swml.expression import MAX_LENGTH, evaluate
from tests.swml.scripting import javascript, make_scope, no_javascript, refusal

VARS = {
    "n": 5,
    "zero": 0,
    "half": 0.5,
    "big": 2**60,
    "t": True,
    "f": False,
    "nil": None,
    "s": "abc",
    "d": "5",
    "e": "",
    "o": {"a": {"b": 1}, "list": [1, 2]},
    "l": ["x", 5],
    "x": "x",
}
CALL = {"type": "phone", "direction": "inbound"}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("vars.n == 5", True),
        ("n === 5", True),
        ("n === '5'", False),
        ("d == 5", True),
        ("n != 5", False),
        ("n !== '5'", True),
        ("n < 6 && n >= 5", True),
        ("d < 6", True),
        ("'10' < '9'", True),
        ("call.type == 'phone'", True),
        ("type == 'phone'", True),
        ("!f", True),
        ("!!s", True),
        ("!(n == 5 || t)", False),
        ("(n)", 5),
        ("s", "abc"),
        ("s || 'other'", "abc"),
        ("e || 'other'", "other"),
        ("nil && n", None),
        ("t === true", True),
        ("t == 1", True),
        ("nil == undefined", True),
        ("nil === undefined", False),
        ("nil == 0", False),
        ("nil >= 0", True),
        ("e == 0", True),
        ("s < 5", False),
        ("o.a.b === 1", True),
        ("o['a'].b === 1", True),
        ("l[0] == 'x'", True),
        ("l[7] === undefined", True),
        ("o.list[1] == 2", True),
        ("vars.missing", None),
        ("vars.missing == null", True),
        ("vars.missing > 1", False),
        ("-1 < zero", True),
        ("half < 1", True),
        ("1 < 2 < 3", True),
        ("3 > 2 > 1", False),
        ("1 == 1 == 1", True),
        ("null", None),
        ("'a'", "a"),
        ('"it\'s"', "it's"),
        ("  n == 5  ", True),
        ("true", True),
    ],
)
def test_answered_without_javascript(source, value):
    """…and exactly as JavaScript does."""
    assert evaluate(source, make_scope(VARS, call=CALL, evaluator=no_javascript)) == value
    assert javascript(source, make_scope(VARS, call=CALL).names) == value


@pytest.mark.parametrize(
    "source",
    [
        "n + 1",
        "n - 1",
        "n-1",
        "s.length",
        "l.length",
        "s.toUpperCase()",
        "o.toString",
        "o.constructor == 1",
        "o.__proto__",
        "o == '[object Object]'",
        "o == o",
        "l == 'x,5'",
        "missing",
        "missing == 1",
        "vars.missing.deeper",
        "nil.x",
        "NaN == NaN",
        "Infinity > 1",
        "this",
        "typeof n == 'number'",
        "n ? 1 : 2",
        "'a\\n' == s",
        "`a`",
        "/a/.test(s)",
        "010 == 8",
        "0x10 == 16",
        "5n == 5",
        "big == 1152921504606846976",
        "big == 1152921504606846977",
        "'0x10' == 16",
        "'Infinity' > 1",
        "'é' == 1",
        "n = 5",
        "n == 5;",
        "n == 5 // yes",
        "",
        "()",
        "(n",
        "n)",
        "n ==",
        "== n",
        "n &&",
        "- n",
        "!",
        "a b",
        "'a'.length",
        "5 .toFixed()",
        "(s).length",
        "new Date()",
        "x => x",
        "l[-1]",
        "l[0.5]",
        "n & 1",
        "n | 1",
        "n ?? 1",
        "o?.a",
        "function(){}",
    ],
)
def test_handed_over(source):
    asked = []

    def engine(source, names):
        asked.append((source, sorted(names)))
        return "its answer"

    assert evaluate(source, make_scope(VARS, call=CALL, evaluator=engine)) == "its answer"
    assert asked == [(source, ["call", "envs", "params", "vars"])]


def test_an_expression_must_be_shorter_than_the_limit():
    scope = make_scope({"n": 1})
    longest = "n".ljust(MAX_LENGTH - 1)
    assert evaluate(longest, scope) == 1
    with pytest.raises(ExpressionError, match="1024"):
        evaluate(longest + " ", scope)


def test_nesting_beyond_reason_is_handed_over():
    with pytest.raises(ExpressionError, match="needs JavaScript"):
        evaluate("(" * 400 + "1" + ")" * 400 + "+", make_scope())


def test_what_the_engine_answers_is_passed_on_unchanged():
    assert math.isnan(evaluate("0/0", make_scope(evaluator=lambda source, names: math.nan)))


NAMES = ["n", "zero", "half", "t", "f", "nil", "s", "d", "e", "vars.missing", "x", "o.a.b", "l[0]", "l[1]", "l[9]"]
LITERALS = ["1", "5", "0", "-1", "0.5", "'5'", "''", "'abc'", "' 5 '", "true", "false", "null", "undefined", "'x'"]
OPERATORS = ["==", "!=", "===", "!==", "<", ">", "<=", ">=", "&&", "||"]

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-20, 20),
    st.floats(-10, 10),
    st.sampled_from(
        ["", " ", "5", "-5", "05", "5.0", "5.", ".5", "1e1", "+5", "abc", "5a", "true", "null", "x", "é", "-", "."]
    ),
    st.text(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
)


def expressions():
    operand = st.sampled_from(NAMES + LITERALS + ["v", "w", "v", "w"])

    def combined(inner):
        pair = st.builds("{} {} {}".format, inner, st.sampled_from(OPERATORS), inner)
        return pair | st.builds("({})".format, pair) | st.builds("!{}".format, operand | st.builds("({})".format, pair))

    return st.recursive(operand, combined, max_leaves=4)


@settings(max_examples=300, deadline=None)
@given(source=expressions(), v=values, w=values)
def test_answers_agree_with_javascript(source, v, w):
    variables = {**VARS, "v": v, "w": w}
    try:
        mine = evaluate(source, make_scope(variables, evaluator=no_javascript))
    except ExpressionError:
        assume(False)
    theirs = javascript(source, make_scope(variables).names)
    assert (type(mine) in (int, float) and mine == theirs) or (type(mine), mine) == (type(theirs), theirs)


@given(st.text(st.sampled_from("nsdl.o[]()'\"!=<>&|-05a \n")))
def test_any_source_gives_a_value_or_an_expression_error(source):
    problem = refusal(evaluate, source, make_scope(VARS, evaluator=no_javascript))
    assert problem is None or problem.source == source
