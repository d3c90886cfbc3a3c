"""Places in a document."""

import pytest

from fsctl.swml.check import compile_document
from fsctl.swml.document import DocumentInvalid, Finding, Where
from fsctl.swml.source import Source
from tests.swml.scripting import METHODS


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (
            Where("main", (3, "cond", 0, "then", 1, "play", "url"), 17, "url"),
            "main[3].cond[0].then[1].play.url (line 17)",
        ),
        (Where("main", (3,), 17), "main[3] (line 17)"),
        (Where("main"), "main"),
        (Where("", ("version",), 2), "version (line 2)"),
        (Where("", ()), "document"),
        (Where("main", (0, "switch", "case", "5")), "main[0].switch.case['5']"),
        (Where("main", (0, "request", "headers", "X-Id")), "main[0].request.headers.X-Id"),
        (Where("main", (0, "a" * 99)), f"main[0]['{'a' * 57}...']"),
    ],
)
def test_a_place_reads_like_a_path(where, text):
    assert str(where) == text


@pytest.mark.parametrize(
    ("where", "index"), [(Where("main", (3, "play")), 3), (Where("main"), -1), (Where("", ("sections",)), -1)]
)
def test_the_index_is_that_of_the_sections_own_instruction(where, index):
    assert where.index == index


def test_a_place_below_another():
    where = Where("main", (0, "play"), 5)
    assert where.of_parameter("urls").child(2) == Where("main", (0, "play", "urls", 2), None, "urls")
    assert where.named("play").parameter == "play"
    assert len({where, Where("main", (0, "play"))}) == 1


def test_a_line_is_looked_up_when_it_is_asked_for(monkeypatch):
    asked = []
    line = Source.line
    monkeypatch.setattr(Source, "line", lambda self, *place: asked.append(place) or line(self, *place))
    document = compile_document("sections:\n  main:\n    - note: a\n    - note: b\n", METHODS)
    where = document.main[1].where
    assert where.text == "main[1].note"
    assert asked == []
    assert (where.line, str(where)) == (4, "main[1].note (line 4)")
    assert document.line("main", (0,)) == 3
    assert len(asked) == 2


def test_an_invalid_document_is_named_after_its_first_finding():
    where = Where("main", (0,), 3)
    problem = DocumentInvalid([Finding("relay_script_a", "first", where), Finding("relay_script_b", "second", where)])
    assert (problem.code, problem.message, problem.where) == ("relay_script_a", "first", where)
    assert str(problem) == "relay_script_a: first (at main[0] (line 3))"
    assert len(problem.findings) == 2
