"""A channel gets exactly the variables it was to get: read back by a model of how FreeSWITCH reads a dial string.

The model follows freeswitch, 2.4 and 4.10, and shares nothing with the code that builds them; a real 1.10.12 read
thousands of them as it does.
"""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsctl.freeswitch.dialstring import variable_list
from fsctl.simulator.bridging import endpoints
from fsctl.simulator.text import separate

ENDPOINT = "sofia/gateway/gw/1"
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


def unquoted(piece, delimiter):
    """One piece after the pass that cut it out."""
    out, kept, quoted, at = "", 0, False, 0
    piece = piece.lstrip(" ")
    while at < len(piece):
        following = piece[at + 1 : at + 2]
        if piece[at] == "\\" and following and following in f"nrts'\"\\{delimiter}":
            out += ESCAPES.get(following, following)
            kept = len(out)
            at += 2
        elif piece[at] == "'" and (quoted or "'" in piece[at + 1 :]):
            quoted = not quoted
            kept = len(out) if quoted else kept
            at += 1
        else:
            out += piece[at]
            if piece[at] != " " or quoted:
                kept = len(out)
            at += 1
    return out[:kept]


def cut(text, delimiter, most):
    """``text`` cut at the delimiters that are neither quoted nor escaped."""
    pieces, piece, quoted, at = [], "", False, 0
    while at < len(text):
        if len(pieces) == most - 1:
            piece += text[at:]
            break
        if text[at] == "\\":
            piece += text[at : at + 2]
            at += 2
            continue
        if text[at] == "'" and (quoted or delimiter == " " or "'" in text[at + 1 :]):
            quoted = not quoted
        if text[at] == delimiter and not quoted:
            pieces.append(piece)
            piece = ""
            while delimiter == " " and text[at + 1 : at + 2] == " ":
                at += 1
        else:
            piece += text[at]
        at += 1
    return [unquoted(one, "" if delimiter == " " else delimiter) for one in [*pieces, piece] if one]


def originated(argument):
    """What `originate` makes of its argument: the channel's variables, the endpoint, the rest of its arguments."""
    dial_string, *rest = cut(argument, " ", 10)
    assert ":_:" not in dial_string, "several dial strings"
    assert "origination_nested_vars=true" not in dial_string.lower(), "no check of variables"
    depth, end = 0, -1
    for position, character in enumerate(dial_string):
        depth += (character == "{") - (character == "}")
        if not depth:
            end = position
            break
    assert end > 0, "no list of variables"
    variables = {}
    for pair in cut(dial_string[1:end], ",", 1024):
        name, *value = cut(pair, "=", 2)
        if value and not re.search(r"\$\\*\{", value[0]):
            variables[name] = value[0]
    endpoint = dial_string[end + 1 :]
    assert not set(endpoint) & set(",|[]{}'\\ "), "more than an endpoint"
    return variables, endpoint, rest


def argument(values):
    return f"{variable_list(values)}{ENDPOINT} '&socket(127.0.0.1:8084 async full)'"


HOSTILE = [
    "a,b",
    "it's",
    "'",
    "''",
    "a'b'c",
    "\\'",
    '"quoted"',
    "x\\ny",
    "C:\\new\\table",
    "tail\\",
    "\\\\",
    "a\\,b",
    " lead and trail ",
    "   ",
    "\\s",
    "{x}",
    "a{b{c}}d{}",
    "^^;a=b;c=d",
    "^^",
    ":_:",
    "a:_:_:b",
    "x=y=z",
    "=",
    "$5 and $",
    "$$",
    "<a=b>",
    "[leg_timeout=1]",
    "|user/2",
    "user/2 &park()",
    "origination_nested_vars=true",
    "Origination_Nested_Vars=TRUE",
    "%[a=b]",
    "undef",
    "tab\there",
    "Zoë 日本",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_text_is_a_value(value):
    values = {"origination_uuid": "u-1", "x": value, "last": "z"}
    assert originated(argument(values)) == (values, ENDPOINT, ["&socket(127.0.0.1:8084 async full)"])


PIECES = [
    "\\",
    "'",
    '"',
    ",",
    "=",
    "{",
    "}",
    "$",
    "^^",
    ":",
    "_",
    ":_:",
    "|",
    "[",
    "]",
    " ",
    "n",
    "s",
    "a",
    "&",
    "<",
    ">",
]
PIECES += ["origination_nested_vars=true", "${", "\t", "é"]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=10).map("".join), max_size=5))
@example(["a:", "_:"])
@example(["{", "}"])
def test_any_text_is_a_value_or_refused(texts):
    values = {}
    for number, text in enumerate(texts):
        try:
            variable_list({"x": text})
        except ValueError:
            continue
        values[f"v{number}"] = text
    values["last"] = "z"
    kept = {name: value for name, value in values.items() if value}
    assert originated(argument(values)) == (kept, ENDPOINT, ["&socket(127.0.0.1:8084 async full)"])


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=20)))
def test_the_simulated_switch_reads_it_the_same_way(values):
    try:
        text = argument({**values, "last": "z"})
    except ValueError:
        return
    dial_string, application = separate(text, 10)
    assert endpoints(dial_string) == [[(originated(text)[0], ENDPOINT)]]
    assert application == "&socket(127.0.0.1:8084 async full)"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("a\nb", "newline", id="newline"),
        pytest.param("a\rb", "newline", id="return"),
        pytest.param("a\0b", "NUL", id="nul"),
        pytest.param("${uuid}", "takes no variable", id="expansion"),
        pytest.param("$\\\\{uuid}", "takes no variable", id="escaped-expansion"),
        pytest.param("{", "other half", id="open-brace"),
        pytest.param("}", "other half", id="closing-brace"),
        pytest.param("}{", "other half", id="braces-the-wrong-way-round"),
        pytest.param("ARRAY::a|:b", "makes a list", id="array"),
    ],
)
def test_what_has_no_spelling_is_refused(value, problem):
    with pytest.raises(ValueError, match=f"secret_name: .*{problem}") as refused:
        variable_list({"secret_name": value})
    assert value not in str(refused.value) or len(value) == 1


@pytest.mark.parametrize("name", ["", "a b", "a,b", "a=b", "a}", "1a", "a[0]", "a'", "a\n", "é", "^^a"])
def test_names_are_names(name):
    with pytest.raises(ValueError, match="not the name"):
        variable_list({name: "x"})


@pytest.mark.parametrize("name", ["sip_h_X-Account", "sip_auth_password", "absolute_codec_string", "_x", "a.b"])
def test_names_freeswitch_uses(name):
    assert variable_list({name: "x"}) == f"{{{name}=x}}"


def test_generated_values_stay_readable():
    assert variable_list({"a": "+1555@h:5060/x.y-z", "b": "PCMU@20i"}) == "{a=+1555@h:5060/x.y-z,b=PCMU@20i}"


def test_an_empty_value_is_none():
    assert variable_list({"a": "", "b": "1"}) == "{b=1}"
