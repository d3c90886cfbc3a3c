"""What a checked document is made of: sections of instructions, and places that can be named to people.

The parts only. :mod:`fsctl.swml.source` reads the text, :mod:`fsctl.swml.check` makes a document of it.
Nothing here changes after it was made: a document is shared by every call that runs it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fsctl.errors import ScriptError
from fsctl.swml.values import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsctl.swml.method import Method
    from fsctl.swml.parameters import Expander, Later
    from fsctl.swml.source import Source

__all__ = ["Block", "Document", "DocumentInvalid", "Finding", "Instruction", "Where"]


class Where:
    """A place in a document: reads like ``main[3].cond[0].then[1].play.url (line 17)``.

    ``section`` is empty for places outside any section; ``path`` holds the keys and indexes from the section
    (or the top of the document) downward; ``parameter`` is the parameter meant, if one is; ``index`` is that of the
    section's own instruction this place is in or is, or -1. Never changed.
    """

    __slots__ = ("_line", "_source", "_text", "index", "parameter", "path", "section")

    def __init__(
        self,
        section: str,
        path: tuple[str | int, ...] = (),
        line: int | None = None,
        parameter: str | None = None,
        *,
        source: Source | None = None,
    ) -> None:
        self.section = section
        self.path = path
        self.parameter = parameter
        self._line = line
        self._source = source
        self._text = ""
        first = path[0] if section and path else -1
        self.index = first if isinstance(first, int) else -1

    @property
    def line(self) -> int | None:
        """The source line, from 1. Looked up when asked for: most places are never shown to anyone."""
        if self._line is None and self._source is not None:
            self._line = self._source.line(self.section, self.path)
        return self._line

    @property
    def document(self) -> str:
        """The name of the document this is a place in; empty where that is not known."""
        return self._source.name if self._source is not None else ""

    def child(self, key: str | int) -> Where:
        """The place ``key`` below this one."""
        return Where(self.section, (*self.path, key), None, self.parameter, source=self._source)

    def named(self, parameter: str) -> Where:
        """The same place, called ``parameter``."""
        return Where(self.section, self.path, None, parameter, source=self._source)

    def of_parameter(self, name: str) -> Where:
        """The place of the parameter ``name`` of the object at this place."""
        return Where(self.section, (*self.path, name), None, name, source=self._source)

    @property
    def text(self) -> str:
        """The place without its line: costs no look-up, and is written once."""
        if not self._text:
            self._text = self._written()
        return self._text

    def _written(self) -> str:
        text = self.section
        for key in self.path:
            if isinstance(key, int):
                text += f"[{key}]"
            elif len(key) <= 60 and key.replace("-", "_").isidentifier():
                text += f".{key}" if text else key
            else:
                text += f"[{short(key)!r}]"
        return text or "document"

    def __str__(self) -> str:
        return self.text if self.line is None else f"{self.text} (line {self.line})"

    def __repr__(self) -> str:
        return f"Where({self.text!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Where):
            return NotImplemented
        return (self.section, self.path, self.parameter) == (other.section, other.path, other.parameter)

    def __hash__(self) -> int:
        return hash((self.section, self.path, self.parameter))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a document: a ``relay_script_*`` code, a sentence, and the place."""

    code: str
    message: str
    where: Where


class DocumentInvalid(ScriptError):
    """A document cannot be run. ``findings`` is everything wrong with it; the first one names the error."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        first = findings[0]
        super().__init__(first.code, first.message, first.where)
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True, eq=False)
class Instruction:
    """One ``{method: parameters}``, checked.

    ``value`` is what was written, in the object spelling. ``record`` holds the typed parameters when nothing in
    them waits for the call; otherwise it is None and ``later`` makes one each time the instruction runs.
    """

    method: Method
    value: Any
    record: Any
    where: Where
    later: Later | None = None

    def read(self, scope: Expander) -> Any:
        """The typed parameters, placeholders expanded. Raises ScriptError or ExpressionError."""
        return self.record if self.later is None else self.later.read(scope)


Block: TypeAlias = tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A document every part of which was checked. ``name`` says where it came from, for people."""

    sections: Mapping[str, Block]
    source: Source
    name: str = ""

    @property
    def digest(self) -> str:
        """Equal for equal texts."""
        return self.source.digest

    @property
    def main(self) -> Block:
        """Where a run begins."""
        return self.sections["main"]

    def line(self, section: str, path: tuple[str | int, ...] = ()) -> int:
        """The source line of a place, found on demand."""
        return self.source.line(section, path)
