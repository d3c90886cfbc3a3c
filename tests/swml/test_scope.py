"""Look-up and expansion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import ExpressionError
from fsctl.swml.template import has_placeholder
from tests.swml.scripting import javascript, make_scope, no_javascript, refusal

ROOTS = {
    "vars": {
        "name": "Ann",
        "n": 5,
        "one": 1.0,
        "yes": True,
        "nothing": None,
        "empty": "",
        "items": [{"name": "a"}, {"name": "b"}],
        "request_response_headers": {"content-type": "text/html"},
        "both": "from vars",
        "params": "not the root",
        "text": "${name}",
    },
    "envs": {"host": "example.test", "both": "from envs", "either": "from envs"},
    "call": {"from": "+15550100", "either": "from call", "headers": [{"name": "X-T", "value": "42"}], "type": "phone"},
    "params": {"where": "sales", "hidden": "only by its root"},
}


@pytest.fixture
def scope():
    return make_scope(ROOTS["vars"], **{name: ROOTS[name] for name in ("call", "envs", "params")}, evaluator=javascript)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "Ann"),
        ("vars.name", "Ann"),
        ("host", "example.test"),
        ("envs.host", "example.test"),
        ("from", "+15550100"),
        ("call.from", "+15550100"),
        ("params.where", "sales"),
        ("hidden", None),
        ("both", "from vars"),
        ("either", "from envs"),
        ("call.either", "from call"),
        ("vars.either", None),
        ("items[1].name", "b"),
        ("items[2].name", None),
        ("items.1.name", "b"),
        ("items.length", None),
        ("call.headers[0].value", "42"),
        ("request_response_headers.content-type", "text/html"),
        ("name.first", None),
        ("vars", ROOTS["vars"]),
        ("params", ROOTS["params"]),
        ("vars.params", "not the root"),
        ("no such path at all", None),
        ("", None),
    ],
)
def test_lookup(scope, path, value):
    assert scope.lookup(path) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${name}", "Ann"),
        ("%{name}", "Ann"),
        ("${ vars.name }", "Ann"),
        ("say:Hello ${name}, %{name}!", "say:Hello Ann, Ann!"),
        ("${n}", 5),
        ("n=${n}", "n=5"),
        ("${one}", 1.0),
        ("is ${one}", "is 1"),
        ("${yes}", True),
        ("is ${yes}", "is true"),
        ("${nothing}", None),
        ("a${nothing}b", "ab"),
        ("${missing}", ""),
        ("a${missing}b", "ab"),
        ("${missing.deeper[3]}", ""),
        ("${items}", ROOTS["vars"]["items"]),
        ("x ${items}", 'x [{"name":"a"},{"name":"b"}]'),
        ("${items.length}", ""),
        ("${(items.length)}", 2),
        ("${n + 1}", 6),
        ("${n + 1}!", "6!"),
        ("${name.toLowerCase()}", "ann"),
        ("${n > 3 ? 'many' : 'few'}", "many"),
        ("${items.map(i => i.name).join('+')}", "a+b"),
        ("${[1, 2, 3].reduce((a, b) => a + b)}", 6),
        ("${ {a: n}.a }", 5),
        ("${'}'}", "}"),
        ("${`${name}!`}", "Ann!"),
        ("${request_response_headers.content-type}", "text/html"),
        ("${true}", True),
        ("${null}", None),
        ("${}", ""),
        ("${text}", "${name}"),
        (" ${n}", " 5"),
        ("${n", "${n"),
        (7, 7),
        (None, None),
        (["${n}", {"k": "${name}", "${n}": 1}], [5, {"k": "Ann", "${n}": 1}]),
    ],
    ids=repr,
)
def test_expand(scope, text, value):
    expanded = scope.expand(text)
    assert expanded == value
    assert type(expanded) is type(value)


def test_the_arithmetic_of_the_reference(scope):
    """Parameters are text, so a plus between them joins."""
    child = scope.child({"a": "1", "b": "2"})
    assert child.expand("${params.a+params.b}") == "12"
    assert child.expand("${parseInt(params.a)+parseInt(params.b)}") == 3


def test_a_child_has_its_own_params_and_shares_the_rest(scope):
    child = scope.child({"x": 1})
    child.vars["made"] = "below"
    assert child.lookup("params.where") is None
    assert scope.lookup("params.where") == "sales"
    assert scope.lookup("made") == "below"


def test_the_call_may_change_while_the_script_runs():
    state = {"call_state": "created"}
    scope = make_scope(call=lambda: dict(state))
    state["call_state"] = "answered"
    assert scope.expand("${call.call_state} %{call_state}") == "answered answered"


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("name == 'Ann'", True),
        ("'${name}' == 'Ann'", True),
        ("${n} == 5", True),
        ("%{n} + 1", 6),
        ("`${name}`", "Ann"),
        ("items.length", 2),
        ("vars.items[0].name === 'a' && call.type.toLowerCase() === 'phone'", True),
    ],
)
def test_a_raw_expression_is_filled_in_by_text_before_it_is_evaluated(scope, source, value):
    assert scope.evaluate(source) == value


def test_text_filled_in_without_quotes_is_code(scope):
    with pytest.raises(ExpressionError):
        scope.evaluate("${name} == 'Ann'")


def test_a_failing_expression_names_itself(scope):
    with pytest.raises(ExpressionError, match="nobody"):
        scope.expand("x ${nobody.home()}")


def test_expanding_what_a_document_holds_makes_new_lists_and_objects(scope):
    value = {"a": [1, {"b": 2}]}
    expanded = scope.expand(value)
    expanded["a"][1]["b"] = 3
    assert value == {"a": [1, {"b": 2}]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_a_value_without_placeholders_expands_to_itself(value):
    if not _anywhere(value):
        assert make_scope().expand(value) == value


def _anywhere(value):
    if isinstance(value, str):
        return has_placeholder(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_anywhere, items))


@given(st.text(st.sampled_from("ab.n[0]${}%'\"`/\\()=!&|<> -+1")))
def test_expanding_any_text_gives_a_value_or_an_expression_error(text):
    scope = make_scope({"a": 1, "b": [None, {"n": "x"}]}, evaluator=no_javascript)
    for problem in (refusal(scope.expand, text), refusal(scope.evaluate, text)):
        assert problem is None or problem.problem == "needs JavaScript"


@given(st.lists(st.sampled_from(["${a}", "%{b.c}", "x", " ", "${missing}"])))
def test_text_around_placeholders_is_kept(pieces):
    scope = make_scope({"a": "A", "b": {"c": 3}})
    filled = {"${a}": "A", "%{b.c}": "3", "${missing}": ""}
    text = "|" + "|".join(pieces)
    assert scope.expand(text) == "|" + "|".join(filled.get(piece, piece) for piece in pieces)
