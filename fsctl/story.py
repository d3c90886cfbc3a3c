"""What happened on a call, told on standard output: a line per thing for people, or an object per line for programs.

Only the telling. What there is to tell comes from ``fsctl.stage``; no entry is made up here, and none is left out.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Entry", "Story", "place", "short"]

_WIDTH = 120  # of lines that go into a file or a pipe
_NARROWEST = 40
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# Methods whose parameters are other instructions, or are repeated by what they set.
_UNSHOWN_PARAMETERS = frozenset({"cond", "set", "switch", "unset"})
_WHOLE = frozenset({"check", "end", "metric", "note", "warning"})  # never cut: they say what to do
_BAD = frozenset({"error", "failed", "invalid"})
_GOOD = frozenset({"ok", "finished"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened: ``at`` call seconds from the start, of a ``kind``, with what there is to say about it.

    Kinds: ``call`` (a state), ``document`` (asked for), ``method`` (an instruction begins), ``freeswitch`` (a command
    it caused), ``result`` (it ended), ``webhook``, ``warning``, ``user_event``, ``note``, ``script`` (it ended) and
    ``end`` (how it came out); the demonstration adds ``metric`` and ``check``.
    """

    at: float
    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """The entry on one line."""
        return json.dumps({"at": round(self.at, 3), "kind": self.kind, **self.fields}, default=str)


class Story:
    """Tells entries as they come. ``width`` is where lines for people are cut: by default the terminal's."""

    def __init__(self, *, json: bool, color: bool, width: int | None = None) -> None:
        self._json = json
        self._color = color
        self._width = max(_NARROWEST, width or shutil.get_terminal_size((_WIDTH, 0)).columns)

    def tell(self, entry: Entry) -> None:
        """Tell one entry. Raises OSError when nobody listens any more."""
        if self._json:
            click.echo(entry.as_json())
            return
        mark, rest, style = _LINES[entry.kind](entry.fields)
        room = self._width - 10 - len(mark) if entry.kind not in _WHOLE else len(rest)
        self._echo(f"{entry.at:8.2f}  {self.styled(mark, **style)}{_cut(rest, room)}")

    def say(self, text: str = "") -> None:
        """Tell people, and only people, something that is not an entry; as it is, without cutting it."""
        if not self._json:
            self._echo(text)

    def block(self, heading: str, rows: Mapping[str, str]) -> None:
        """For people: a heading and, in two columns, names and what belongs to them."""
        self.say()
        self.say(self.styled(heading, bold=True))
        widest = max(map(len, rows), default=0)
        for name, text in rows.items():
            self.say(f"  {name:<{widest}}  {_cut(text, self._width - widest - 4)}".rstrip())

    def end(self, at: float, *, ok: bool, why: str) -> None:
        """Tell how it came out."""
        self.say()
        self.tell(Entry(at, "end", {"ok": ok, "why": why}))

    def styled(self, text: str, **style: Any) -> str:
        """The text in colour, where colour is wanted."""
        return click.style(text, **style) if self._color and style else text

    def _echo(self, line: str) -> None:
        try:
            click.echo(line, color=self._color)
        except UnicodeEncodeError:
            click.echo(line.encode("ascii", "backslashreplace").decode(), color=self._color)


def short(value: Any) -> str:
    """A value on part of a line: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def place(fields: Mapping[str, Any]) -> str:
    """Where in which document, as ``menu.yaml:17: section main[3].play``, as far as that is known."""
    line = f":{fields['line']}" if fields.get("line") is not None else ""
    section = f" section {fields['path']}" if fields.get("section") else ""
    return f"{fields['file'] or 'document'}{line}:{section}".removesuffix(":")


# -- a line for each kind ---------------------------------------------------------------------------------------------

_Line = tuple[str, str, dict[str, Any]]  # what comes first, the rest, and the style of the first


def _cut(text: str, room: int) -> str:
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= room else text[: max(room - 3, 0)] + "..."


def _method(fields: Mapping[str, Any]) -> _Line:
    where = f"{fields['section']}:{fields['line']}"
    parameters = "" if fields["method"] in _UNSHOWN_PARAMETERS else _pairs(fields["parameters"])
    return f"{fields['method']:<17} ", f"{where:<10} {parameters}".rstrip(), {"bold": True}


def _pairs(values: Any) -> str:
    if not isinstance(values, Mapping):
        return short(values)
    return ", ".join(f"{name}={short(value)}" for name, value in values.items())


def _result(fields: Mapping[str, Any]) -> _Line:
    seconds = f"  {fields['seconds']:.2f} s" if fields["seconds"] >= 0.01 else ""
    changed = _pairs(fields["set"])
    gone = "".join(f", {name} is unset" for name in fields["unset"])
    rest = f"{seconds}  {changed}{gone}" if changed else f"{seconds}  {gone[2:]}"
    return f"  = {fields['outcome']}", rest.rstrip(), _of(fields["outcome"])


def _word(ok: bool) -> str:
    return "ok" if ok else "failed"


def _of(outcome: str) -> dict[str, Any]:
    return {"fg": "red"} if outcome in _BAD else {"fg": "green"} if outcome in _GOOD else {}


def _call(fields: Mapping[str, Any]) -> _Line:
    ended = f": {fields['end_reason']} ({fields['cause'] or 'no cause'})" if fields["state"] == "ended" else ""
    return f"{'call':<17} ", f"{fields['state']}{ended}", {"fg": "blue"}


def _webhook(fields: Mapping[str, Any]) -> _Line:
    body = fields["body"]
    told = body.get("params", body)
    what = next((str(told[name]) for name in ("state", "call_state", "code") if name in told), "")
    rest = f"{fields['method']:<4} {fields['url']}  {body.get('event_type', '')}  {what}"
    return f"{'webhook':<17} ", rest.rstrip(), {"fg": "cyan"}


def _warning(fields: Mapping[str, Any]) -> _Line:
    kind = "error" if fields["fatal"] else "warning"
    text = f"{place(fields)}: {fields['code']}: {fields['message']}"
    return f"{kind:<17} ", text, {"fg": "red" if fields["fatal"] else "yellow"}


def _script(fields: Mapping[str, Any]) -> _Line:
    outcome = fields["outcome"]
    return f"{'script':<17} ", f"{outcome} after {fields['steps']} instructions", _of(outcome)


_LINES: Mapping[str, Callable[[Mapping[str, Any]], _Line]] = {
    "call": _call,
    "document": lambda it: (f"{'document':<17} ", f"{it['name']}: {it['outcome']}", _of(it["outcome"])),
    "method": _method,
    "freeswitch": lambda it: ("  > ", it["command"], {"dim": True}),
    "result": _result,
    "webhook": _webhook,
    "warning": _warning,
    "user_event": lambda it: (f"{'user_event':<17} ", short(it["event"]), {"fg": "cyan"}),
    "note": lambda it: (f"{'note':<17} ", it["text"], {"fg": "yellow"}),
    "script": _script,
    "metric": lambda it: ("", f"{it['name']} {it['value']:g}", {}),
    "check": lambda it: (f"{_word(it['ok']):<7} ", f"{it['name']:<12} {it['detail']}", _of(_word(it["ok"]))),
    "end": lambda it: (f"{_word(it['ok']):<17} ", it["why"], _of(_word(it["ok"]))),
}
