"""Hostile text stays text, in each place it can land in. ``expand`` and ``clean`` imitate what FreeSWITCH does."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.freeswitch.escape import api_text, application_argument, list_value, one_line

HOSTILE = [
    "${system rm -rf /}",
    "\\${uuid}",
    "\\\\${uuid}",
    "$${domain}",
    "${uuid",
    "${a${b}}",
    "$5 and $",
    "a\\nb",
    "it's",
    "it\\'s",
    "C:\\new\\table",
    "tail\\",
    "${",
    "$\\{uuid}",
    "%[a=b]x",
    "",
]


def expand(text):
    """What an application sees of an argument, with every expansion that happens shown as <RUN>."""
    if not re.search(r"\$\\*\{|\\[\\nst']", text):
        return text
    out, at = [], 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair == "\\$":
            out.append("$")
            at += 2
        elif pair == "\\\\":
            out.append("\\")
            at += 2
        elif pair == "\\'":
            at += 2
        elif pair == "${" or text[at:].startswith("$${"):
            out.append("<RUN>")
            at = text.find("}", at) + 1 or len(text)
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def clean(text):
    """What an API command sees of its last argument."""
    out, at = [], 0
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text) and text[at + 1] in "nrts'\\\"":
            out.append({"n": "\n", "r": "\r", "t": "\t", "s": " "}.get(text[at + 1], text[at + 1]))
            at += 2
        elif text[at] == "'":
            at += 1
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


@pytest.mark.parametrize("text", HOSTILE)
def test_an_application_sees_hostile_text_as_typed(text):
    assert text == expand(application_argument(text))


@given(st.text(alphabet="${}\\'ab5nst [%", max_size=30))
def test_an_application_sees_any_text_as_typed(text):
    assert text == expand(application_argument(text))


def test_text_that_is_not_processed_is_not_escaped():
    assert application_argument("$5 for C:\\x") == "$5 for C:\\x"


def test_nothing_is_escaped_where_nothing_expands():
    assert application_argument("${uuid}", expands=False) == "${uuid}"


@pytest.mark.parametrize("text", [text for text in HOSTILE if text])
def test_an_api_sees_hostile_text_as_typed(text):
    assert text == clean(api_text(text))


@given(st.text(alphabet="\\'\"nrts {}$,|ab", max_size=30))
def test_an_api_sees_any_text_as_typed(text):
    assert text == clean(api_text(text))


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_no_api_argument_holds_a_line_break(text):
    for function in (api_text, one_line):
        with pytest.raises(ValueError, match="newline"):
            function(text)


@pytest.mark.parametrize("text", ["a,b", "a=b", "a}b", "a b", "a'b", "a;b", "${x}", "a|b", "é", "a\n"])
def test_a_list_value_holds_nothing_that_splits(text):
    with pytest.raises(ValueError, match="variable list"):
        list_value(text)


def test_generated_values_pass():
    assert list_value("/var/lib/fsctl/a-1.wav") == "/var/lib/fsctl/a-1.wav"
