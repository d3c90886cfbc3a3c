"""A whole document is checked before its first step."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.swml.check import Compiler, DocumentInvalid, compile_document, compile_inline
from fsctl.swml.document import Document
from tests.swml.scripting import METHODS, findings, main, refusal, sections

PARSE = "relay_script_parse_error"
TYPE = "relay_script_element_wrong_type"
ELEMENT = "relay_script_element_undefined"
UNDEFINED = "relay_script_method_undefined"
NO_NAME = "relay_script_method_missing_name"
NO_SECTION = "relay_script_section_parameter_undefined"
NO_CODE = "relay_script_section_code_missing"
VALUE = "relay_script_method_parameter_invalid_value"
MISSING = "relay_script_method_parameter_missing"
PARAMETER = "relay_script_method_parameter_undefined"
CONFLICT = "relay_script_method_parameter_conflict"
DEEP = "relay_script_nested_too_deep"


def compiled(document):
    return compile_document(document if isinstance(document, bytes | str) else json.dumps(document), METHODS)


@pytest.mark.parametrize(
    ("document", "values"),
    [
        (main(), []),
        ({"version": "1.0.0", **main({"note": 1})}, [("note", 1)]),
        ("version: 1.0.0\nsections:\n  main:\n  - note: 1\n", [("note", 1)]),
        (main({"press": {}}), [("press", {})]),
        (main("press"), [("press", {})]),
        (main({"press": None}), [("press", {})]),
        (main({"label": "a"}), [("label", "a")]),
        (main({"sing": "la"}), [("sing", {"text": "la"})]),
        (main({"sing": {"text": "la"}}), [("sing", {"text": "la"})]),
        (main({"unset": "a"}, {"unset": ["a", "b"]}), [("unset", "a"), ("unset", ["a", "b"])]),
        (main({"return": 5}, {"return": {}}, "return"), [("return", 5), ("return", {}), ("return", None)]),
        (main({"label": "a"}, {"goto": "a"}), [("label", "a"), ("goto", {"label": "a"})]),
        (
            main({"execute": "main"}, {"transfer": "main"}),
            [("execute", {"dest": "main"}), ("transfer", {"dest": "main"})],
        ),
        (sections(main={"execute": {"dest": "main"}}), [("execute", {"dest": "main"})]),
        (sections(main={"code": [{"note": 1}], "meta": {"any": "thing"}}), [("note", 1)]),
        (sections(main={"code": []}), []),
    ],
)
def test_accepted_spellings(document, values):
    block = compiled(document).main
    assert [(instruction.method.name, instruction.value) for instruction in block] == values


@pytest.mark.parametrize(
    ("document", "wrong"),
    [
        ("", [(PARSE, "document")]),
        ("<html>not found</html>", [(PARSE, "document")]),
        ("5", [(PARSE, "document")]),
        ("{", [(PARSE, "document")]),
        ("[]", [(TYPE, "document")]),
        ({}, [("relay_script_sections_missing", "document")]),
        ({"sections": None}, [("relay_script_sections_missing", "document")]),
        ({"sections": []}, [(TYPE, "sections")]),
        ({"sections": {}}, [("relay_script_main_section_missing", "sections")]),
        ({"sections": {"other": []}}, [("relay_script_main_section_missing", "sections")]),
        ({"version": "2.0.0", **main()}, [("relay_script_version_invalid", "version")]),
        ({"version": 1.0, **main()}, [("relay_script_version_invalid", "version")]),
        ({"version": None, **main()}, [("relay_script_version_invalid", "version")]),
        ({"title": "x", **main()}, [(ELEMENT, "title")]),
        (sections(other="x"), [(TYPE, "other")]),
        (sections(other=None), [(NO_CODE, "other")]),
        (sections(other={}), [(NO_CODE, "other")]),
        (sections(other={"meta": 1}), [(NO_CODE, "other")]),
        (sections(other={"code": [], "extra": 1}), [(NO_SECTION, "other.extra")]),
        (sections(other={"code": {}}), [(TYPE, "other")]),
        (
            sections(other={"note": 1, "press": {}}),
            [(NO_SECTION, "other.note"), (NO_SECTION, "other.press"), (NO_CODE, "other")],
        ),
        (sections(other={"pay": {}}), [(UNDEFINED, "other[0].pay")]),
        (main({}), [(NO_NAME, "main[0]")]),
        (main(""), [(NO_NAME, "main[0]")]),
        (main({"": 1}), [(NO_NAME, "main[0]")]),
        (main(None), [(TYPE, "main[0]")]),
        (main(5), [(TYPE, "main[0]")]),
        (main([{"note": 1}]), [(TYPE, "main[0]")]),
        (main("nothing"), [(UNDEFINED, "main[0].nothing")]),
        (main({"if": {}}), [(UNDEFINED, "main[0].if")]),
        (main({"pay": {}}), [(UNDEFINED, "main[0].pay")]),
        (main({"note": 1, "press": {}}), [(ELEMENT, "main[0].press")]),
        (main({"press": 5}), [(TYPE, "main[0].press")]),
        (main({"press": []}), [(TYPE, "main[0].press")]),
        (main({"press": {"hard": True}}), [(PARAMETER, "main[0].press.hard")]),
        (main({"sing": {}}), [(MISSING, "main[0].sing.url")]),
        (main({"sing": {"text": "la", "url": "http://a.test"}}), [(CONFLICT, "main[0].sing.url")]),
        (main({"sing": {"text": "la", "volume": 99}}), [(VALUE, "main[0].sing.volume")]),
        (main({"sing": {"text": 5, "times": "x"}}), [(TYPE, "main[0].sing.text"), (TYPE, "main[0].sing.times")]),
        (main({"transfer": [{"dest": "main"}, {"params": []}]}), [(TYPE, "main[0].transfer")]),
        (main({"transfer": {"dest": "nowhere"}}), [(NO_SECTION, "main[0].transfer.dest")]),
        (main({"execute": "nowhere"}), [(NO_SECTION, "main[0].execute.dest")]),
        (main({"execute": "relay:app"}), [(NO_SECTION, "main[0].execute.dest")]),
        (main({"execute": ""}), [(VALUE, "main[0].execute.dest")]),
        (main({"execute": "ftp://a.test/doc"}), [(VALUE, "main[0].execute.dest")]),
        (main({"execute": "http://"}), [(VALUE, "main[0].execute.dest")]),
        (main({"execute": '{"sections": {}}'}), [("relay_script_main_section_missing", "main[0].execute.dest")]),
        (main({"execute": '[{"pey": {}}]'}), [(UNDEFINED, "main[0].execute.dest")]),
        (main({"execute": "{nonsense"}), [(PARSE, "main[0].execute.dest")]),
        (main({"execute": {"dest": "main", "on_return": {}}}), [(TYPE, "main[0].execute.on_return")]),
        (main({"execute": {"dest": "main", "result": "x"}}), [(TYPE, "main[0].execute.result")]),
        (
            main({"execute": {"dest": "main", "result": {"cases": {}}}}),
            [(PARAMETER, "main[0].execute.result.cases"), (MISSING, "main[0].execute.result.case")],
        ),
        (main({"execute": {"dest": "main", "result": [{"when": "a"}]}}), [(MISSING, "main[0].execute.result[0].then")]),
        (main({"execute": {"dest": "main", "params": []}}), [(TYPE, "main[0].execute.params")]),
        (main({"label": ""}), [("relay_script_element_invalid_value", "main[0].label")]),
        (main({"label": 5}), [(TYPE, "main[0].label")]),
        (main("label"), [(TYPE, "main[0].label")]),
        (main({"goto": "a"}), [(VALUE, "main[0].goto.label")]),
        (main({"label": "a"}, {"goto": {"label": "a", "max": 0}}), [(VALUE, "main[1].goto.max")]),
        (main({"label": "a"}, {"goto": {"label": "a", "max": 101}}), [(VALUE, "main[1].goto.max")]),
        (main({"label": "a"}, {"goto": {"label": "a", "when": ""}}), [(VALUE, "main[1].goto.when")]),
        (main({"cond": {}}), [(TYPE, "main[0].cond")]),
        (main({"cond": "x"}), [(TYPE, "main[0].cond")]),
        (main({"cond": "${x}"}), [(TYPE, "main[0].cond")]),
        (main({"cond": [5]}), [(TYPE, "main[0].cond[0]")]),
        (main({"cond": [{}]}), [(MISSING, "main[0].cond[0].when"), (MISSING, "main[0].cond[0].then")]),
        (main({"cond": [{"when": "a"}]}), [(MISSING, "main[0].cond[0].then")]),
        (main({"cond": [{"then": []}]}), [(MISSING, "main[0].cond[0].when")]),
        (main({"cond": [{"when": [], "then": {}}]}), [(TYPE, "main[0].cond[0].when"), (TYPE, "main[0].cond[0].then")]),
        (main({"cond": [{"when": "a", "then": "${x}"}]}), [(TYPE, "main[0].cond[0].then")]),
        (main({"cond": [{"when": "a", "then": [], "otherwise": []}]}), [(PARAMETER, "main[0].cond[0].otherwise")]),
        (main({"cond": [{"else": []}, {"else": []}]}), [(CONFLICT, "main[0].cond[1].else")]),
        (main({"cond": [{"when": "a", "then": [{"bad": 1}]}]}), [(UNDEFINED, "main[0].cond[0].then[0].bad")]),
        (main({"switch": {}}), [(MISSING, "main[0].switch.variable"), (MISSING, "main[0].switch.case")]),
        (main({"switch": {"variable": "a", "case": []}}), [(TYPE, "main[0].switch.case")]),
        (main({"switch": {"variable": "a", "case": {"x": {}}}}), [(TYPE, "main[0].switch.case.x")]),
        (main({"switch": {"variable": 5, "case": {}, "default": 1}}), [(TYPE, "main[0].switch.default")]),
        (main({"set": []}), [(TYPE, "main[0].set")]),
        (main({"set": None}), [(TYPE, "main[0].set")]),
        (main({"unset": 5}), [(TYPE, "main[0].unset")]),
        (main({"unset": ["a", 5]}), [(TYPE, "main[0].unset[1]")]),
    ],
    ids=lambda value: json.dumps(value)[:70],
)
def test_what_is_wrong(document, wrong):
    assert findings(document) == wrong


def test_everything_wrong_is_found_in_document_order():
    text = "\n".join(
        [
            "version: 2",
            "sections:",
            "  main:",
            "    - goto: nowhere",
            "    - sing:",
            "        volume: 99",
            "        loud: yes",
            "    - cond:",
            "        - when: a",
            "          then:",
            "            - execute: nothing",
            "  other:",
            "    - pay: {}",
            "extra: 1",
        ]
    )
    with pytest.raises(DocumentInvalid) as caught:
        compile_document(text, METHODS)
    assert [(finding.where.line, finding.code) for finding in caught.value.findings] == [
        (1, "relay_script_version_invalid"),
        (4, VALUE),
        (5, MISSING),
        (6, VALUE),
        (7, PARAMETER),
        (11, NO_SECTION),
        (13, UNDEFINED),
        (14, ELEMENT),
    ]


def test_messages_tell_what_to_do():
    with pytest.raises(DocumentInvalid) as caught:
        compile_document(
            "sections:\n  main:\n    - snig: {}\n    - goto: strat\n    - label: start\nsectoins: 1\n", METHODS
        )
    assert [finding.message for finding in caught.value.findings] == [
        "there is no method `snig`; did you mean `sing`?",
        "there is no label `strat` to go to; did you mean `start`?",
        "a document has no element `sectoins`; did you mean `sections`?",
    ]


def test_parse_errors_have_their_line():
    with pytest.raises(DocumentInvalid) as caught:
        compile_document('{"sections": {"main": [],\n "main": []}}', METHODS)
    assert (caught.value.code, str(caught.value.where)) == ("relay_script_element_duplicated", "document (line 2)")


@pytest.mark.parametrize(
    ("steps", "reachable"),
    [
        ([{"label": "a"}, {"goto": "a"}], True),
        ([{"goto": "a"}, {"label": "a"}], True),
        ([{"label": "a"}, {"cond": [{"when": "1", "then": [{"goto": "a"}]}]}], True),
        ([{"cond": [{"when": "1", "then": [{"label": "a"}, {"goto": "a"}]}]}], True),
        ([{"label": "a"}, {"execute": {"dest": "main", "on_return": [{"goto": "a"}]}}], True),
        ([{"label": "a"}, {"execute": {"dest": "main", "result": {"case": {"x": [{"goto": "a"}]}}}}], True),
        ([{"goto": "${somewhere}"}], True),
        ([{"cond": [{"when": "1", "then": [{"label": "a"}]}]}, {"goto": "a"}], False),
        ([{"cond": [{"when": "1", "then": [{"label": "a"}]}, {"else": [{"goto": "a"}]}]}], False),
        ([{"goto": "elsewhere"}], False),
        ([{"label": "${a}"}, {"goto": "a"}], False),
    ],
)
def test_which_labels_a_goto_reaches(steps, reachable):
    wrong = findings(sections(main=steps, other=[{"label": "elsewhere"}]))
    assert (wrong == []) is reachable
    assert {code for code, _ in wrong} <= {VALUE}


def nested(levels):
    steps = [{"note": "deep"}]
    for _ in range(levels - 1):
        steps = [{"cond": [{"when": "1", "then": steps}]}]
    return main(*steps)


def test_blocks_may_be_nested_32_deep():
    assert findings(nested(32)) == []
    assert [code for code, _ in findings(nested(33))] == [DEEP]
    assert findings(nested(3), max_nesting=3) == []
    assert [code for code, _ in findings(nested(4), max_nesting=3)] == [DEEP]


def test_an_aliased_block_is_checked_where_it_is_used():
    step = "cond: [{when: '1', then: [{goto: here}]}]"
    text = f"sections:\n  main:\n    - &x\n      {step}\n    - label: here\n  other:\n    - *x\n"
    assert findings(text) == [(VALUE, "other[0].cond[0].then[0].goto.label")]


def nested_text(levels):
    """A document in a document, each as an indented block of YAML."""
    text = "sections:\n  main:\n  - note: deep\n"
    for _ in range(levels):
        indented = "".join(f"      {line}\n" for line in text.splitlines())
        text = f"sections:\n  main:\n  - execute:\n     dest: |\n{indented}"
    return text


def test_documents_written_into_documents_share_the_depth():
    assert findings(nested_text(31)) == []
    assert [code for code, _ in findings(nested_text(32))] == [DEEP]
    assert [code for code, _ in findings(nested_text(250), max_nesting=1000)] == [DEEP]


def test_the_findings_of_a_hopeless_document_are_counted_in_hundreds_not_thousands():
    assert len(findings(main(*[{}] * 5000))) == 100


def test_parameters_without_placeholders_are_read_once():
    document = compiled(main({"sing": {"text": "la", "volume": 5}}, {"sing": {"text": "${a}", "volume": 5}}))
    fixed, waiting = document.main
    assert (fixed.record.text, fixed.record.volume, fixed.record.written) == ("la", 5.0, {"text", "volume"})
    assert waiting.record is None
    assert waiting.later is not None


def test_what_a_placeholder_stands_for_is_not_judged_early():
    document = main(
        {"sing": {"url": "${a}", "volume": "%{b}", "times": "${c}", "options": "${d}"}},
        {"sing": {"text": "hi ${a}", "options": {"k": ["${v}"]}}},
        {"execute": {"dest": "${e}", "params": "${p}"}},
        {"label": "x"},
        {"goto": {"label": "x", "max": "${max}"}},
    )
    assert findings(document) == []


def test_a_document_written_into_a_destination_is_checked_and_kept():
    document = compiled(main({"execute": {"dest": json.dumps(main({"note": "${params.x}"}))}}))
    inner = document.main[0].record.dest
    assert isinstance(inner, Document)
    assert inner.main[0].method.name == "note"


@pytest.mark.parametrize(
    ("text", "options", "good"),
    [
        (json.dumps(main({"note": 1})), {}, True),
        ('[{"note": 1}]', {}, True),
        (' [{"note": 1}]', {"bare": True}, True),
        ('[{"note": 1}]', {"bare": False}, False),
        ("sections:\n  main:\n  - note: 1", {}, True),
        ("- note: 1\n- note: 2", {}, False),
    ],
)
def test_inline_documents(text, options, good):
    problem = refusal(compile_inline, text, METHODS, **options)
    if good:
        assert problem is None
        assert compile_inline(text, METHODS, **options).main[0].value == 1
    else:
        assert problem.code == TYPE


def test_a_line_of_a_bare_list():
    with pytest.raises(DocumentInvalid) as caught:
        compile_inline('[{"note": 1},\n{"nope": 1}]', METHODS)
    assert str(caught.value.where) == "main[1].nope (line 2)"


def test_the_same_text_is_compiled_once():
    compiler = Compiler(METHODS, documents=2)
    one = compiler.compile(json.dumps(main({"note": 1})), name="one")
    assert compiler.compile(json.dumps(main({"note": 1})).encode(), name="other") is one
    assert one.name == "one"
    two = compiler.compile(json.dumps(main({"note": 2})))
    assert compiler.compile(json.dumps(main({"note": 1}))) is one
    compiler.compile(json.dumps(main({"note": 3})))
    assert compiler.compile(json.dumps(main({"note": 1}))) is one
    assert compiler.compile(json.dumps(main({"note": 2}))) is not two


def test_what_is_remembered_is_bounded_by_size():
    texts = [json.dumps(main({"note": letter * 100})) for letter in "abc"]
    compiler = Compiler(METHODS, cache_bytes=2 * len(texts[0]))
    first, second, third = map(compiler.compile, texts)
    assert compiler.compile(texts[1]) is second
    assert compiler.compile(texts[2]) is third
    assert compiler.compile(texts[0]) is not first
    small = Compiler(METHODS, cache_bytes=10)
    assert small.compile(texts[0]) is not small.compile(texts[0])


@pytest.mark.parametrize("source", ["\ud800", b"\xff", "x" * 2000], ids=["surrogate", "bytes", "long"])
def test_a_compiler_refuses_as_compile_document_does(source):
    with pytest.raises(DocumentInvalid):
        Compiler(METHODS, max_bytes=1000).compile(source)


words = st.sampled_from(
    [
        "version",
        "sections",
        "main",
        "other",
        "note",
        "sing",
        "goto",
        "label",
        "cond",
        "switch",
        "execute",
        "transfer",
        "set",
        "unset",
        "return",
        "text",
        "url",
        "volume",
        "dest",
        "params",
        "on_return",
        "result",
        "case",
        "default",
        "when",
        "then",
        "else",
        "code",
        "meta",
        "variable",
        "max",
        "a",
        "${a}",
        "x%{b}",
        "",
        "1.0.0",
    ]
)
steps = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries({"sections": st.fixed_dictionaries({"main": st.lists(steps)}, optional={"other": steps})})
    | steps
)
def test_any_document_is_compiled_or_refused(tree):
    for code, place in findings(tree):
        assert code.startswith("relay_script_")
        assert place


@given(st.text() | st.binary())
def test_any_text_is_compiled_or_refused(text):
    assert findings(text)
