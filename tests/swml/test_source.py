"""The text of a document: what is read, what is refused, and where things stand."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsctl.swml.source import MAX_ALIASED_VALUES, MAX_TREE_DEPTH, Source, SourceError
from tests.swml.scripting import refusal

PARSE = "relay_script_parse_error"
TWICE = "relay_script_element_duplicated"
DEEP = "relay_script_nested_too_deep"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('{"a": [1, 2.5, "x", true, null]}', {"a": [1, 2.5, "x", True, None]}),
        ("\ufeff{}", {}),
        ("  \n [1]", [1]),
        ("a: 1", {"a": 1}),
        ("--- \na: 1\n", {"a": 1}),
        ("# only\na: b # comment", {"a": "b"}),
        ("{a: b, c: [d, 'e',],}", {"a": "b", "c": ["d", "e"]}),
        ("version: 1.0.0", {"version": "1.0.0"}),
        ("text", "text"),
        ('{"emoji": "\\ud83d\\ude00"}', {"emoji": "😀"}),
    ],
)
def test_what_is_read(text, tree):
    assert Source(text).tree == tree
    assert Source(text.encode()).tree == tree


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", True),
        ("No", False),
        ("on", True),
        ("OFF", False),
        ("true", True),
        ("~", None),
        ("", None),
        ("null", None),
        ("5", 5),
        ("-5", -5),
        ("0", 0),
        ("2.5", 2.5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1.5e+3", 1500.0),
        ("'5'", "5"),
        ('"yes"', "yes"),
        ("!!str 5", "5"),
        ("!!int '5'", 5),
        ("!!float 5", 5.0),
        ("!!bool yes", True),
        ("!!null ''", None),
        ("! 5", "5"),
        ("y", "y"),
        ("+15550100", "+15550100"),
        ("0042", "0042"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("1.0.0", "1.0.0"),
        ("1e5", "1e5"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("1.5e999", "1.5e999"),
        ("9" * 200, "9" * 200),
        ("${a}", "${a}"),
        ("=", "="),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_what_a_yaml_value_means(written, value):
    tree = Source(f"key: {written}").tree
    assert tree == {"key": value}
    assert type(tree["key"]) is type(value)


def test_yaml_keys_are_the_text_that_was_written():
    text = "{on: 1, yes: 2, 5: 3, 1.0: 4, null: 5, 'q': 6, 2024-01-31: 7}\n"
    assert Source("case: " + text).tree == {
        "case": {"on": 1, "yes": 2, "5": 3, "1.0": 4, "null": 5, "q": 6, "2024-01-31": 7}
    }


def test_anchors_aliases_and_merges():
    text = (
        "base: &base {a: 1, b: 2}\nmore: &more {c: 3, a: 0}\nuse: {<<: [*base, *more], b: 4}\nlist: [*base, &t x, *t]\n"
    )
    assert Source(text).tree == {
        "base": {"a": 1, "b": 2},
        "more": {"c": 3, "a": 0},
        "use": {"a": 1, "b": 4, "c": 3},
        "list": [{"a": 1, "b": 2}, "x", "x"],
    }


def test_a_quoted_merge_key_is_a_key():
    assert Source("a: {'<<': 5}").tree == {"a": {"<<": 5}}


def bomb(levels, width=10):
    first = "a0: &a0 [" + ", ".join("x" * width) + "]"
    return "\n".join(
        [first, *(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]" for level in range(1, levels))]
    )


def deep_alias(levels, times):
    """Each anchor ``levels`` lists around the one before."""
    opening, closing = "[" * levels, "]" * levels
    lines = [f"a{n}: &a{n} {opening}*a{n - 1}{closing}" for n in range(1, times + 1)]
    return "\n".join([f"a0: &a0 {opening}x{closing}", *lines])


@pytest.mark.parametrize(
    ("text", "code", "line", "hint"),
    [
        (b"", PARSE, None, "empty"),
        (b" \n\t", PARSE, None, "empty"),
        (b"# nothing\n", PARSE, None, "empty"),
        (b"a: \xff", PARSE, 1, "UTF-8"),
        (b"a: 1\nb: \xc3\x28", PARSE, 2, "UTF-8"),
        ("a: \ud800", PARSE, None, "surrogate"),
        ('{"a": "\\ud800"}', PARSE, None, "surrogate"),
        ('{"\\udc00": 1}', PARSE, None, "surrogate"),
        ('{\n"a": 1 "b"}', PARSE, 2, "JSON"),
        ('{"a": 1', PARSE, 1, "JSON"),
        ('[{"a": 1},]', PARSE, 1, "JSON"),
        ('{"a": 1,\n}', PARSE, 2, "JSON"),
        ('{"a": NaN}', PARSE, None, "NaN"),
        ('{"a": -Infinity}', PARSE, None, "Infinity"),
        ('{"a": 1e999}', PARSE, None, "large"),
        ('{"a": ' + "9" * 5000 + "}", PARSE, None, "JSON"),
        ('{"a": 1,\n "b": {"c": 2,\n "c": 3}}', TWICE, 3, "`c`"),
        ('{"a": 1,\n "a": 3}', TWICE, 2, "`a`"),
        ("a: 1\nb: 2\na: 3", TWICE, 3, "`a`"),
        ("{a: 1, a: 2}", TWICE, 1, "`a`"),
        ("1: a\n'1': b", TWICE, 2, "`1`"),
        ("[" * 100_000, DEEP, None, "deep"),
        ("[" * 300 + "]" * 300, DEEP, None, "deep"),
        ("a: " + "[" * 300 + "]" * 300, DEEP, 1, "deep"),
        ("a: " + "{a: " * 300 + "1" + "}" * 300, DEEP, 1, "deep"),
        (deep_alias(90, 2), DEEP, 3, "deep"),
        (bomb(9), PARSE, 4, "aliases"),
        ("a: &a [*a]", PARSE, 1, "alias"),
        ("a: *nobody", PARSE, 1, "nobody"),
        ("a: b\n c: d: e", PARSE, 2, "YAML"),
        ("a: [1, 2", PARSE, 2, "YAML"),
        ("a: \t- b\n\t- c", PARSE, 1, "YAML"),
        ("a: \x00", PARSE, None, "YAML"),
        ("a: 1\n---\nb: 2", PARSE, 2, "second"),
        ("? {a: 1}\n: b", PARSE, 1, "key"),
        ("? [a]\n: b", PARSE, 1, "key"),
        ("a: &x k\n*x : 1", PARSE, 2, "key"),
        ("a: !!python/object/apply:os.system ['true']", PARSE, 1, "tag"),
        ("a: !!set {b}", PARSE, 1, "tag"),
        ("a: !custom b", PARSE, 1, "tag"),
        ("a: !!binary aGVsbG8=", PARSE, 1, "tag"),
        ("a: !!int five", PARSE, 1, "tag"),
        ("a: {<<: 5}", PARSE, 1, "<<"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_refused(text, code, line, hint):
    with pytest.raises(SourceError) as caught:
        Source(text)
    assert (caught.value.code, caught.value.line) == (code, line)
    assert hint in caught.value.message
    assert len(caught.value.message) < 200


def test_a_parser_that_breaks_is_reported_as_such(monkeypatch):
    class Broken:
        def __init__(self, text):
            pass

        def get_event(self):
            raise MemoryError

        def dispose(self):
            pass

    monkeypatch.setattr("fsctl.swml.source._Loader", Broken)
    with pytest.raises(SourceError) as caught:
        Source("a: b")
    assert caught.value.code == "relay_script_parse_internal_error"


def test_the_python_loader_reads_what_the_c_loader_reads(monkeypatch):
    text = "a: &x [1, yes, '5', +1555]\nb: *x\nc: {<<: {d: 1.5}}\n"
    fast = Source(text).tree
    monkeypatch.setattr("fsctl.swml.source._Loader", yaml.SafeLoader)
    assert Source(text).tree == fast


def test_size_is_counted_in_bytes():
    text = 'a: "üü"'
    assert Source(text, max_bytes=len(text.encode())).tree == {"a": "üü"}
    with pytest.raises(SourceError, match="bytes"):
        Source(text, max_bytes=len(text.encode()) - 1)


def test_as_many_aliases_as_are_allowed():
    items = ", ".join(["*a"] * MAX_ALIASED_VALUES)
    assert len(Source(f"a: &a x\nb: [{items}]").tree["b"]) == MAX_ALIASED_VALUES
    with pytest.raises(SourceError, match="aliases"):
        Source(f"a: &a x\nb: [{items}, *a]")


def test_as_deep_as_is_allowed():
    for text in ("[" * MAX_TREE_DEPTH + "]" * MAX_TREE_DEPTH, "- " * MAX_TREE_DEPTH + "x"):
        assert Source(text).tree
    with pytest.raises(SourceError):
        Source("[" * (MAX_TREE_DEPTH + 2) + "]" * (MAX_TREE_DEPTH + 2))


def test_equal_texts_have_equal_digests():
    assert Source("a: 1").digest == Source(b"a: 1").digest != Source("a: 2").digest


JSON_LINES = """{
  "version": "1.0.0",
  "sections": {
    "main": [
      {"answer": {}},
      {
        "play": {
          "url": "say:\\"}{,[]:\\n",
          "volume": 5
        }
      }
    ],
    "object": {
      "code": [
        {"hangup": {}}
      ]
    }, "single":
    {"execute":
     {"dest": "main"}}
  }
}"""

YAML_LINES = """version: 1.0.0
sections:
  main:
    - answer
    - &play
      play:
        urls:
          - say:a
          - >
            say:b
            and more
          - say:c
    - *play
    - sleep: 5
  on:
    - hangup:
"""


@pytest.mark.parametrize(
    ("text", "section", "path", "line"),
    [
        (JSON_LINES, "", (), 1),
        (JSON_LINES, "", ("version",), 2),
        (JSON_LINES, "main", (), 4),
        (JSON_LINES, "main", (0,), 5),
        (JSON_LINES, "main", (1,), 6),
        (JSON_LINES, "main", (1, "play"), 7),
        (JSON_LINES, "main", (1, "play", "volume"), 9),
        (JSON_LINES, "main", (1, "play", "missing"), 7),
        (JSON_LINES, "main", (7, "play"), 4),
        (JSON_LINES, "object", (0, "hangup"), 15),
        (JSON_LINES, "single", (0, "execute", "dest"), 19),
        (JSON_LINES, "nowhere", (0,), 3),
        (YAML_LINES, "main", (0, "answer"), 4),
        (YAML_LINES, "main", (1, "play", "urls", 1), 9),
        (YAML_LINES, "main", (1, "play", "urls", 2), 12),
        (YAML_LINES, "main", (2, "play", "urls", 0), 8),
        (YAML_LINES, "main", (3, "sleep", "duration"), 14),
        (YAML_LINES, "on", (0, "hangup"), 16),
        ('\n[{"answer": {}},\n{"play": {}}]', "main", (1, "play"), 3),
    ],
)
def test_lines(text, section, path, line):
    assert Source(text).line(section, path) == line


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(json_values) | st.dictionaries(st.text(), json_values), st.sampled_from([None, 1]))
def test_json_comes_back_as_it_was(value, indent):
    assert Source(json.dumps(value, indent=indent)).tree == value


@given(st.lists(json_values) | st.dictionaries(st.text(), json_values), st.sampled_from([None, 1]))
def test_every_value_of_a_json_text_has_its_line(value, indent):
    text = json.dumps(value, indent=indent)
    source = Source(text)
    lines = text.splitlines()

    def walk(value, path):
        line = lines[source.line("", path) - 1]
        if path and isinstance(path[-1], str):
            assert json.dumps(path[-1]) in line
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(item, (*path, key))

    if len(text.split("\n")) == len(lines):
        walk(value, ())


yaml_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from("abcyes5.on ")), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.text(st.sampled_from("abcyes5.on "), min_size=1), yaml_values, min_size=1),
    st.sampled_from([True, False]),
)
def test_yaml_comes_back_as_it_was(value, flow):
    assert Source("---\n" + yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)).tree == value


@given(st.text() | st.text(st.sampled_from("ab:-[]{},'\"&*<!|>?#%@ \n\t0.")) | st.binary())
def test_any_text_is_read_or_refused(text):
    problem = refusal(Source, text)
    if problem is not None:
        assert problem.code.startswith("relay_script_")
        assert problem.line is None or problem.line >= 1
