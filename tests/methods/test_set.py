"""set: variables get values. swml-calling: set."""

import pytest

from tests.swml.scripting import run


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (5, 5),
        (True, True),
        (None, None),
        ("text", "text"),
        (["${n}", [True]], [5, [True]]),
        ({"deep": {"n": "${n}"}}, {"deep": {"n": 5}}),
        ("${n}", 5),
        ("${n + 0.5}", 5.5),
        ("%{missing}", ""),
        ("say ${n}", "say 5"),
    ],
    ids=repr,
)
def test_values_keep_their_types(written, value):
    story = run({"main": [{"set": {"x": written}}]}, {"n": 5})
    assert story.vars == {"n": 5, "x": value}
    assert type(story.vars["x"]) is type(value)


def test_later_names_see_the_earlier_ones_of_the_same_set():
    story = run({"main": [{"set": {"subtotal": 40, "tax": "${subtotal * 0.25}", "total": "${subtotal + tax}"}}]})
    assert story.vars == {"subtotal": 40, "tax": 10, "total": 50}


def test_names_are_merged_and_overwritten():
    story = run({"main": [{"set": {"a": 2, "c": 3}}]}, {"a": 1, "b": 1})
    assert story.vars == {"a": 2, "b": 1, "c": 3}


def test_yaml_order_is_the_order_of_evaluation():
    assert run("sections: {main: [set: {z: 1, a: '${z + 1}', m: '${a + 1}'}]}").vars == {"z": 1, "a": 2, "m": 3}


def test_what_was_set_before_an_error_stays():
    story = run({"main": [{"set": {"a": 1, "b": "${nobody()}", "c": 3}}]})
    assert story.error.code == "relay_script_js_eval_error"
    assert story.vars["a"] == 1
    assert "c" not in story.vars
