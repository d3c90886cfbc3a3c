"""unset: variables are forgotten. swml-calling: unset."""

import pytest

from tests.swml.scripting import findings, main, run


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ("a", {"b", "play_result"}),
        (["a", "b"], {"play_result"}),
        (["play_result", "nobody"], {"a", "b"}),
        ([], {"a", "b", "play_result"}),
        ("${b}", {"b", "play_result"}),
        (["${b}"], {"b", "play_result"}),
        ("vars.a", {"a", "b", "play_result"}),
    ],
    ids=str,
)
def test_names(names, left):
    assert set(run({"main": [{"unset": names}]}, {"a": 1, "b": "a", "play_result": "x"}).vars) == left


@pytest.mark.parametrize("names", [None, 5, {"a": 1}, "", ["a", ""]], ids=repr)
def test_what_is_refused(names):
    assert findings(main({"unset": names})) != []
