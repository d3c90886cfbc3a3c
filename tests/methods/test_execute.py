"""execute: a subroutine. swml-calling: execute. (How it returns: tests/swml/test_interpreter.py.)"""

import json

import pytest

from fsctl.methods.execute import execute
from fsctl.swml.check import DocumentInvalid
from fsctl.swml.flow import Execute
from tests.swml.scripting import METHODS, compile_document, main, make_scope, run

URL = "https://user:secret@example.test/doc"


def flow(value, variables=None):
    instruction = compile_document(json.dumps({"sections": {"main": [{"execute": value}], "sub": []}}), METHODS).main[0]
    scope = make_scope(variables)
    return execute(scope, instruction.read(scope))


@pytest.mark.parametrize(
    ("value", "dest", "params"),
    [
        ("sub", "sub", {}),
        ({"dest": "sub"}, "sub", {}),
        ({"dest": "sub", "params": {"a": {"b": "${n}"}}, "meta": {"any": "thing"}}, "sub", {"a": {"b": 5}}),
        ({"dest": "${name}", "params": "${given}"}, "sub", {"c": 1}),
        (URL, URL, {}),
        ({"dest": "HTTPS://example.test/${n}"}, "HTTPS://example.test/5", {}),
    ],
    ids=str,
)
def test_dest_and_params(value, dest, params):
    assert flow(value, {"n": 5, "name": "sub", "given": {"c": 1}}) == Execute(dest, params)


@pytest.mark.parametrize(
    "dest",
    [json.dumps(main({"note": 1})), json.dumps([{"note": 1}]), "version: 1.0.0\nsections:\n  main:\n    - note: 1\n"],
    ids=["json", "steps", "yaml"],
)
def test_dest_may_be_a_document(dest):
    assert run({"main": [{"execute": dest}, {"note": 2}]}).notes == [1, 2]


def test_on_return_and_result():
    answer = flow({"dest": "sub", "on_return": [{"note": 1}], "result": [{"when": "true", "then": [{"note": 2}]}]})
    assert answer.on_return[0].value == 1
    assert answer.result.choose(make_scope()).block[0].value == 2


def test_an_unknown_section_is_found_before_the_call_and_named():
    with pytest.raises(DocumentInvalid) as caught:
        flow("subb")
    assert caught.value.code == "relay_script_section_parameter_undefined"
    assert caught.value.message == "there is no section `subb`; did you mean `sub`?"
