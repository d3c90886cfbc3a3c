"""return: a value for who called, or the end. swml-calling: return."""

import pytest

from tests.swml.scripting import run


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (1, 1),
        ("text", "text"),
        (False, False),
        (0, 0),
        ([], []),
        ([1, "${n}"], [1, 5]),
        ({"a": "${n}", "b": {"c": "n=${n}"}}, {"a": 5, "b": {"c": "n=5"}}),
        ("${n}", 5),
        ("${missing}", ""),
    ],
    ids=repr,
)
def test_any_value_is_given_back(written, value):
    story = run({"main": [{"execute": "sub"}, {"note": "${return_value}"}], "sub": [{"return": written}]}, {"n": 5})
    assert story.notes == [value]
    assert type(story.notes[0]) is type(value)


@pytest.mark.parametrize("nothing", [None, {}], ids=repr)
def test_no_value_leaves_the_variable_alone(nothing):
    story = run({"main": [{"execute": "sub"}], "sub": [{"return": nothing}]}, {"return_value": "old"})
    assert story.vars == {"return_value": "old"}


def test_a_value_is_the_callers_to_keep():
    """What the script does to it does not reach the document."""
    sections = {"main": [{"execute": "sub"}], "sub": [{"return": {"list": [1]}}]}
    story = run(sections)
    assert story.vars["return_value"] == {"list": [1]}


@pytest.mark.parametrize("step", ["return", {"return": 5}, {"return": None}], ids=str)
def test_outside_a_subroutine_the_script_ends(step):
    story = run({"main": [step, {"note": "never"}]})
    assert story.notes == []
    assert story.vars == {}
    assert story.error is None
