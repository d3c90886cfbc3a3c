r"""Where text becomes code: ``${...}``, ``%[...]`` and backslashes, as freeswitch 2.1 to 2.3 describe them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.simulator.expansion import Expander, scoped

VARIABLES = {
    "name": "Ada",
    "number": "5551234",
    "evil": "${system rm -rf /}",
    "nested": "${name}",
    "which": "name",
    "loop": "${loop}",
    "list": "ARRAY::one|:two",
}


def expander(calls=None):
    calls = [] if calls is None else calls

    def api(command, argument):
        calls.append((command, argument))
        return {"upper": argument.upper(), "expr": "2"}.get(command)

    return Expander(VARIABLES.get, {"domain": "example.org", "name": "global"}.get, api)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no marks, a \\d and $5", "no marks, a \\d and $5"),
        ("hello ${name}!", "hello Ada!"),
        ("${unset}", ""),
        ("$${domain}", "example.org"),
        ("$${name}", "global"),
        ("${domain}", "example.org"),
        ("${number:3}", "1234"),
        ("${number:-4}", "1234"),
        ("${number:0:3}", "555"),
        ("${number:3:2}", "12"),
        ("${list[1]}", "two"),
        ("${nested}", "Ada"),
        ("${${which}}", "Ada"),
        ("${name", "Ada"),
        ("${expr(1+1)}", "2"),
        ("${expr 1+1}", "2"),
        ("${upper(x ${name})}", "X ADA"),
        (r"\${name}", "${name}"),
        (r"\\${name}", r"\Ada"),
        (r"\\\${name}", r"\${name}"),
        (r"it\'s ${name}", "its Ada"),
        (r"a\nb", r"a\nb"),
        (r"\d\\", "\\d\\"),
        ("$ {name} $name", "$ {name} $name"),
    ],
)
def test_expansion(text, expected):
    assert expander().expand(text) == expected


def test_apis_are_run_also_out_of_a_variables_value():
    calls = []
    expander(calls).expand("hello ${evil}")
    assert calls == [("system", "rm -rf /")]


def test_endless_references_end():
    assert expander().expand("${loop}") == "${loop}"


def escaped(text):
    if re.search(r"\$\\*\{|\\[\\nst']", text):
        return text.replace("\\", "\\\\").replace("$", "\\$")
    return text


HOSTILE = st.text(st.sampled_from(list("${}\\'nst %[]=(a)")), max_size=30)


@given(HOSTILE)
def test_escaped_text_arrives_as_it_was_and_runs_nothing(text):
    calls = []
    assert expander(calls).expand(escaped(text)) == text
    assert calls == []


@pytest.mark.parametrize(
    ("argument", "variables", "rest"),
    [
        ("%[a=b,c=d]/x.wav", {"a": "b", "c": "d"}, "/x.wav"),
        ("%[^^:a=b,1:c=d]x", {"a": "b,1", "c": "d"}, "x"),
        (" %[a=b]x", {}, " %[a=b]x"),
        ("%(100,100,440)", {}, "%(100,100,440)"),
    ],
)
def test_scoped_variables_are_taken_off_the_front(argument, variables, rest):
    assert scoped(argument) == (variables, rest)
