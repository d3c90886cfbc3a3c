"""How a call's story looks."""

from __future__ import annotations

import io
import json
import sys

import pytest

from fsctl.story import Entry, Story

COMMAND = Entry(1.5, "freeswitch", {"step": 1, "method": "play", "command": "playback " + "x" * 200})
ERROR = Entry(
    2.0,
    "warning",
    {"file": "a.yaml", "line": 3, "section": "main", "index": 0, "path": "main[0].play",
     "code": "relay_script_internal_error", "message": "y" * 200, "fatal": True},
)  # fmt: skip


def told(capsys, *entries, **options):
    story = Story(**{"json": False, "color": False, "width": 80, **options})
    for entry in entries:
        story.tell(entry)
    return capsys.readouterr().out


def test_lines_are_cut_at_the_width(capsys):
    line = told(capsys, COMMAND).rstrip("\n")
    assert line.startswith("    1.50    > playback xxx")
    assert line.endswith("xxx...")
    assert len(line) == 80


def test_but_never_what_went_wrong(capsys):
    line = told(capsys, ERROR)
    assert f"a.yaml:3: section main[0].play: relay_script_internal_error: {'y' * 200}\n" in line


def test_text_of_others_starts_no_line_and_drives_no_terminal(capsys):
    out = told(capsys, Entry(0, "freeswitch", {"command": "speak a\nb\x1b[31m\u2028c"}))
    assert out == "    0.00    > speak a b [31m c\n"


@pytest.mark.parametrize("color", [True, False])
def test_color_is_for_those_who_want_it(capsys, color):
    assert ("\x1b[" in told(capsys, COMMAND, ERROR, color=color)) is color


def test_programs_get_everything_and_nothing_else(capsys):
    story = Story(json=True, color=False)
    story.say("for people")
    story.block("for people", {"a": "b"})
    story.tell(COMMAND)
    story.end(3.0, ok=False, why="it had to")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        {"at": 1.5, "kind": "freeswitch", **COMMAND.fields},
        {"at": 3.0, "kind": "end", "ok": False, "why": "it had to"},
    ]


def test_an_output_that_cannot_have_every_character_gets_the_others(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="latin-1"))
    Story(json=False, color=False, width=80).tell(Entry(0, "note", {"text": "café, 咖啡"}))
    sys.stdout.flush()
    assert raw.getvalue().endswith(b"caf\\xe9, \\u5496\\u5561\n")


def test_a_block_has_two_columns(capsys):
    Story(json=False, color=False, width=40).block("Variables", {"a": "1", "longer": "x" * 80})
    assert capsys.readouterr().out.splitlines() == ["", "Variables", "  a       1", "  longer  " + "x" * 27 + "..."]
