"""cond: the first condition that holds. swml-calling: cond."""

import pytest

from tests.swml.scripting import javascript, no_javascript, run


def branch(when, note):
    return {"when": when, "then": [{"note": note}]}


@pytest.mark.parametrize(
    ("branches", "notes"),
    [
        ([branch("n == 5", "a"), branch("true", "b"), {"else": [{"note": "c"}]}], ["a"]),
        ([branch("n == 6", "a"), branch("true", "b"), {"else": [{"note": "c"}]}], ["b"]),
        ([branch("n == 6", "a"), branch("false", "b"), {"else": [{"note": "c"}]}], ["c"]),
        ([branch("n == 6", "a")], []),
        ([{"else": [{"note": "c"}]}, branch("n == 5", "a")], ["a"]),
        ([{**branch("n == 6", "a"), "else": [{"note": "c"}]}], ["c"]),
        ([{**branch("n == 5", "a"), "else": [{"note": "c"}]}], ["a"]),
        ([{**branch("n == 6", "a"), "else": [{"note": "c"}]}, branch("n == 5", "b")], ["b"]),
        ([{"else": [{"note": "c"}]}], ["c"]),
        ([{"when": "true", "then": []}, {"else": [{"note": "c"}]}], []),
        ([], []),
    ],
)
def test_which_block_runs(branches, notes):
    story = run({"main": [{"cond": branches}, {"note": "after"}]}, {"n": 5}, evaluator=no_javascript)
    assert story.notes == [*notes, "after"]


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("prompt_value == '1'", True),
        ("${prompt_value} == 1", True),
        ("%{prompt_value} === 1", True),
        ("vars.prompt_value === 1", False),
        ("call.type.toLowerCase() == 'sip'", True),
        ("call.to.match(/555/) && true", True),
        ("vars.unset", False),
        ("[1, 2].includes(parseInt(prompt_value))", True),
        (True, True),
        (False, False),
        (0, False),
    ],
    ids=repr,
)
def test_when_is_javascript(when, holds):
    call = {"type": "SIP", "to": "+15550100"}
    story = run({"main": [{"cond": [branch(when, "yes")]}]}, {"prompt_value": "1"}, call=call, evaluator=javascript)
    assert story.notes == (["yes"] if holds else [])


def test_later_conditions_are_not_evaluated():
    story = run({"main": [{"cond": [branch("true", "yes"), branch("nobody.home()", "no")]}]})
    assert story.notes == ["yes"]


def test_a_condition_that_throws_ends_the_script_and_is_named():
    story = run({"main": [{"cond": [branch("false", 1), branch("nobody.home()", 2)]}]})
    assert story.error.code == "relay_script_js_eval_error"
    assert story.error.where.text == "main[0].cond[1].when"
    assert "nobody.home()" in story.vars["script_error"]
