"""switch: the instructions that belong to a value. swml-calling: switch."""

import pytest

from tests.swml.scripting import run

VARS = {"n": 5, "one": 1.0, "t": True, "s": "five", "nil": None, "l": [1, "a"], "o": {"k": "v"}, "name": "s"}


@pytest.mark.parametrize(
    ("variable", "case"),
    [
        ("s", "five"),
        ("vars.s", "five"),
        ("n", "5"),
        ("one", "1"),
        ("t", "true"),
        ("nil", ""),
        ("unset", ""),
        ("l", '[1,"a"]'),
        ("l[1]", "a"),
        ("o.k", "v"),
        ("call.type", "sip"),
        ("type", "sip"),
        ("params.foo", "bar"),
        ("${s}", "five"),
        ("${n + 1}", "6"),
        ("call.type.toUpperCase()", "SIP"),
    ],
)
def test_variable_is_compared_as_text(variable, case):
    step = {"switch": {"variable": variable, "case": {"other": [{"note": "other"}], case: [{"note": case}]}}}
    story = run({"main": [step, {"note": "after"}]}, dict(VARS), call={"type": "sip"}, params={"foo": "bar"})
    assert story.notes == [case, "after"]


def test_keys_of_yaml_are_text():
    text = "sections: {main: [{switch: {variable: n, case: {5: [{note: five}], yes: [{note: word}]}}}]}"
    assert run(text, {"n": 5}).notes == ["five"]
    assert run(text, {"n": "yes"}).notes == ["word"]


def test_default_runs_when_nothing_matches():
    step = {"switch": {"variable": "n", "case": {"1": [{"note": 1}]}, "default": [{"note": "default"}]}}
    assert run({"main": [step]}, {"n": 5}).notes == ["default"]


@pytest.mark.parametrize("default", [[], None], ids=["empty", "none"])
def test_no_match_and_no_default_is_an_error(default):
    step = {"switch": {"variable": "n", "case": {"1": []}, "default": default}}
    story = run({"main": [step, {"note": "after"}]}, {"n": 5})
    if default == []:
        assert story.notes == ["after"]
    else:
        assert story.error.code == "relay_script_method_no_matching_condition"
        assert story.error.message == "`n` is '5'; no case matches and there is no default"
        assert story.error.where.text == "main[0].switch"
        assert story.notes == []
