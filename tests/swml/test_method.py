"""Declaring methods and finding them."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from fsctl.swml.flow import Stop
from fsctl.swml.method import PUBLISHED, Methods, flow_method, method
from fsctl.swml.parameters import Integer, Text, parameter
from tests.swml.scripting import METHODS, sing

SCHEMA = Path(__file__).parents[3] / "shared/spec/data/swml-calling.schema.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    text: str = parameter(Text())


@dataclass(frozen=True, slots=True, kw_only=True)
class Two:
    text: str = parameter(Text())
    n: int = parameter(Integer(), default=1)


def test_a_method_carries_what_was_declared():
    @method("hum", Two, shorthand="text", one_of=(("text", "n"),), result="hum_result")
    def hum(call, params):
        return (call, params)

    assert (hum.name, hum.record, hum.shorthand, hum.one_of) == ("hum", Two, "text", (("text", "n"),))
    assert (hum.result, hum.flow) == ("hum_result", False)
    assert hum("call", "params") == ("call", "params")
    assert repr(hum) == "<method hum>"


def test_a_method_without_parameters_needs_no_record():
    @flow_method("halt")
    def halt(scope, params):
        return Stop()

    assert halt.flow
    assert halt.shape.fields == {}


@pytest.mark.parametrize(
    ("options", "value", "normalised"),
    [
        ({}, {"text": "a"}, {"text": "a"}),
        ({}, None, {}),
        ({}, "a", "a"),
        ({"shorthand": "text"}, "a", {"text": "a"}),
        ({"shorthand": "text"}, 5, {"text": 5}),
        ({"shorthand": "text"}, None, {}),
        ({"shorthand": "text"}, ["a"], ["a"]),
        ({"shorthand": "text"}, {"text": "a"}, {"text": "a"}),
        ({"whole": True}, None, None),
        ({"whole": True}, {"a": 1}, {"a": 1}),
    ],
)
def test_spellings_become_one(options, value, normalised):
    assert method("hum", One, **options)(print).normalised(value) == normalised


@pytest.mark.parametrize(
    ("record", "options", "hint"),
    [
        (Two, {"whole": True}, "one field"),
        (Two, {"shorthand": "nobody"}, "nobody"),
        (Two, {"one_of": (("text", "nobody"),)}, "nobody"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(record, options, hint):
    with pytest.raises(TypeError, match=hint):
        method("hum", record, **options)(print)


def test_the_registry():
    methods = Methods([sing])
    assert methods.get("sing") is sing
    assert methods.get("play") is None
    assert "sing" in methods
    assert (list(methods), methods.names, len(methods)) == ([sing], ("sing",), 1)
    with pytest.raises(ValueError, match="twice"):
        Methods([sing, sing])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pay", "`pay` is a method of SWML that fsctl does not run yet; remove it or do without it"),
        ("sinng", "there is no method `sinng`; did you mean `sing`?"),
        ("plya", "there is no method `plya`; did you mean `play`?"),
        ("zzzzzz", "there is no method `zzzzzz`"),
        ("x" * 5000, f"there is no method `{'x' * 57}...`"),
    ],
    ids=lambda text: text[:20],
)
def test_why_a_method_is_not_there(name, said):
    assert METHODS.undefined(name) == said


def test_the_published_names_are_those_of_the_schema():
    if not SCHEMA.exists():
        pytest.skip("the published schema is not at hand")
    defined = json.loads(SCHEMA.read_text())["$defs"]
    references = [option["$ref"].rpartition("/")[2] for option in defined["SWMLMethod"]["anyOf"]]
    assert {next(iter(defined[name]["properties"])) for name in references} == PUBLISHED


def test_every_method_file_is_collected():
    import fsctl.methods

    files = {path.stem.rstrip("_") for path in Path(fsctl.methods.__file__).parent.glob("[a-z]*.py")}
    files -= {"live_play"}  # a command of REST's that shares no more than its sounds with the method
    assert {"label", "goto", "cond", "switch", "execute", "return", "transfer", "set", "unset"} <= files
    assert files <= set(fsctl.methods.METHODS.names)
    assert {name for name in fsctl.methods.METHODS.names if name not in PUBLISHED} == set()
