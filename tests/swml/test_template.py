"""Where placeholders begin and end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.swml.template import Placeholder, contains_placeholder, parse_path, parse_template


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("call.from", ("call", "from")),
        ("request_response_headers.content-type", ("request_response_headers", "content-type")),
        ("content-type", ("content-type",)),
        ("items[0].name", ("items", 0, "name")),
        ("rows[12][3]", ("rows", 12, 3)),
        ("items.0", ("items", "0")),
        ("items.length", ("items", "length")),
        ("$_a", ("$_a",)),
        ("größe", ("größe",)),
    ],
)
def test_a_plain_path(text, path):
    assert parse_path(text) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b",
        "a - b",
        "a+b",
        "(a)",
        "a()",
        "a.b()",
        "a[b]",
        "a['b']",
        "1",
        "5a",
        "a.",
        ".a",
        "a..b",
        "a[-1]",
        "!a",
        "'a'",
        "true",
        "false",
        "null",
        "undefined",
        "NaN",
        "this",
        "a[0",
        "a" * 5000,
    ],
)
def test_not_a_plain_path(text):
    assert parse_path(text) is None


def body(text):
    return Placeholder(text, parse_path(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hello", ("hello",)),
        ("", ("",)),
        ("${a}", (body("a"),)),
        ("%{a}", (body("a"),)),
        ("${ a.b }", (body("a.b"),)),
        ("say:${a}", ("say:", body("a"))),
        ("${a}${b} %{c}!", (body("a"), body("b"), " ", body("c"), "!")),
        ("${ {a: 1}.a }x", (body("{a: 1}.a"), "x")),
        ('${"}"}', (body('"}"'),)),
        ("${'\\'}'}", (body("'\\'}'"),)),
        ("${`}`}", (body("`}`"),)),
        ("${`a${ {b: 1}.b }c}`}d", (body("`a${ {b: 1}.b }c}`"), "d")),
        ("${a.replace(/}/g, '')}", (body("a.replace(/}/g, '')"),)),
        ("${a.replace(/[/}]/, '')}b", (body("a.replace(/[/}]/, '')"), "b")),
        ("${a / b}/}", (body("a / b"), "/}")),
        ("${1 /* } */ + 1}", (body("1 /* } */ + 1"),)),
        ("${1 // }\n + 1}", (body("1 // }\n + 1"),)),
        ("${}", (body(""),)),
        ("$ {a}", ("$ {a}",)),
        ("100% {a}", ("100% {a}",)),
        ("${a", ("${a",)),
        ("${'a}", ("${'a}",)),
        ("b ${a", ("b ${a",)),
        ("$${a}", ("$", body("a"))),
    ],
)
def test_parts(text, parts):
    assert parse_template(text) == parts


@given(st.text(st.sampled_from("ab${}%'\"`/\\[]()*\n .")))
def test_any_text_is_cut_without_losing_anything(text):
    rebuilt = 0
    for part in parse_template(text):
        piece = part if isinstance(part, str) else part.body
        found = text.find(piece, rebuilt)
        assert found >= rebuilt
        rebuilt = found + len(piece)
    assert all(part or text == "" for part in parse_template(text) if isinstance(part, str))


def test_an_endless_row_of_openings_takes_no_time():
    assert parse_template("${" * 200_000) == ("${" * 200_000,)


@pytest.mark.parametrize("value", ["${a}", ["x", {"k": "%{a}"}], {"a": [{"b": "${c}"}]}], ids=repr)
def test_a_placeholder_is_found_at_any_depth(value):
    assert contains_placeholder(value)


@pytest.mark.parametrize("value", ["a", "$a", 5, None, {"${a}": "b"}, [["x"]]], ids=repr)
def test_keys_and_plain_values_hold_no_placeholder(value):
    assert not contains_placeholder(value)
