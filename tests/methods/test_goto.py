"""goto: on to a label of the section. swml-calling: goto. (Budgets and reach: tests/swml/test_interpreter.py.)"""

import pytest

from tests.swml.scripting import findings, main, run

VALUE = "relay_script_method_parameter_invalid_value"
TYPE = "relay_script_element_wrong_type"


@pytest.mark.parametrize("goto", ["end", {"label": "end"}, {"label": "e${n}d"}, "${'end'}"], ids=str)
def test_label(goto):
    assert run({"main": [{"goto": goto}, {"note": "never"}, {"label": "end"}, {"note": "end"}]}, {"n": "n"}).notes == [
        "end"
    ]


@pytest.mark.parametrize(
    ("when", "jumps"),
    [
        ("true", True),
        (True, True),
        (1, True),
        (0, False),
        ("vars.n == 5", True),
        ("n > 5", False),
        ("missing_name", None),
        ("vars.missing", False),
        ("''", False),
        ("[]", True),
        ("'${word}' == 'yes'", True),
        ("${n} + 1 == 6", True),
        ("${vars.missing}", False),
    ],
    ids=repr,
)
def test_when(when, jumps):
    story = run(
        {"main": [{"goto": {"label": "end", "when": when}}, {"note": 1}, {"label": "end"}]}, {"n": 5, "word": "yes"}
    )
    if jumps is None:
        assert story.error.code == "relay_script_js_eval_error"
    else:
        assert story.notes == ([] if jumps else [1])


@pytest.mark.parametrize(("limit", "times"), [(1, 2), (3, 4), ("${three}", 4), ("${text}", 4)])
def test_max_counts_jumps(limit, times):
    steps = [{"label": "a"}, {"note": 1}, {"goto": {"label": "a", "max": limit}}]
    assert len(run({"main": steps}, {"three": 3, "text": "3"}).notes) == times


@pytest.mark.parametrize(
    ("goto", "code", "where"),
    [
        ({}, "relay_script_method_parameter_missing", "main[1].goto.label"),
        (None, "relay_script_method_parameter_missing", "main[1].goto.label"),
        ({"label": "b"}, VALUE, "main[1].goto.label"),
        ({"label": ["a"]}, TYPE, "main[1].goto.label"),
        ({"label": "a", "max": 0}, VALUE, "main[1].goto.max"),
        ({"label": "a", "max": 101}, VALUE, "main[1].goto.max"),
        ({"label": "a", "max": 2.5}, TYPE, "main[1].goto.max"),
        ({"label": "a", "max": "3"}, TYPE, "main[1].goto.max"),
        ({"label": "a", "when": {}}, TYPE, "main[1].goto.when"),
        ({"label": "a", "times": 3}, "relay_script_method_parameter_undefined", "main[1].goto.times"),
    ],
    ids=str,
)
def test_what_is_refused(goto, code, where):
    assert findings(main({"label": "a"}, {"goto": goto})) == [(code, where)]
