"""label: marks a place. swml-calling: label."""

import pytest

from tests.swml.scripting import findings, main, run


def test_a_label_does_nothing_by_itself():
    story = run({"main": [{"label": "a"}, {"note": 1}, {"label": "a"}]})
    assert story.notes == [1]
    assert story.vars == {}


def test_the_first_of_two_labels_of_a_name_is_meant():
    steps = [{"goto": "a"}, {"label": "a"}, {"note": 1}, {"label": "a"}, {"note": 2}]
    assert run({"main": steps}).notes == [1, 2]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "relay_script_element_invalid_value"),
        (5, "relay_script_element_wrong_type"),
        (None, "relay_script_element_wrong_type"),
        ({"name": "a"}, "relay_script_element_wrong_type"),
        (["a"], "relay_script_element_wrong_type"),
    ],
    ids=repr,
)
def test_a_label_is_text(value, code):
    assert findings(main({"label": value})) == [(code, "main[0].label")]


def test_a_label_is_never_expanded():
    assert run(
        {"main": [{"goto": "${name}"}, {"note": 1}, {"label": "${a}"}, {"note": 2}]}, {"name": "${a}"}
    ).notes == [2]
