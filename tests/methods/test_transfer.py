"""transfer: elsewhere, for good. swml-calling: transfer. (What is left behind: tests/swml/test_interpreter.py.)"""

import json

import pytest

from fsctl.methods.transfer import transfer
from fsctl.swml.flow import Transfer
from tests.swml.scripting import METHODS, compile_document, findings, main, make_scope, run


@pytest.mark.parametrize(
    ("value", "flow"),
    [
        ("sub", Transfer("sub", {})),
        ({"dest": "sub", "params": {"a": "${n}"}, "meta": 5}, Transfer("sub", {"a": 5})),
        ("https://example.test/${n}", Transfer("https://example.test/5", {})),
    ],
    ids=str,
)
def test_dest_and_params(value, flow):
    instruction = compile_document(json.dumps({"sections": {"main": [{"transfer": value}], "sub": []}}), METHODS).main[
        0
    ]
    scope = make_scope({"n": 5})
    assert transfer(scope, instruction.read(scope)) == flow


def test_dest_may_be_a_document():
    story = run({"main": [{"set": {"a": 1}}, {"transfer": json.dumps(main({"note": "${a}"}))}, {"note": "never"}]})
    assert story.notes == [1]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([{"dest": "main"}], "relay_script_element_wrong_type"),
        ({"dest": 5}, "relay_script_element_wrong_type"),
        ({"params": {}}, "relay_script_method_parameter_missing"),
        ({"dest": "main", "on_return": []}, "relay_script_method_parameter_undefined"),
        ("relay:app", "relay_script_section_parameter_undefined"),
    ],
    ids=str,
)
def test_what_is_refused(value, code):
    assert [found for found, _ in findings(main({"transfer": value}))] == [code]
