"""What ``fsctl check`` does: read documents as the service would, and list what is wrong, file by file.

Where the documents are and how results are written is here; what is right or wrong is :mod:`fsctl.swml.check`'s.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from fsctl.methods import METHODS
from fsctl.swml.check import Compiler, DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsctl.config import Config
    from fsctl.swml import document as swml

__all__ = ["CheckedFile", "Finding", "check_documents"]

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, as ``--json`` shows it.

    ``line`` counts from 1, ``index`` is the instruction's in its section; None where there is no such place. ``code``
    is one of ``relay_script_*``, or ``unreadable`` for a file that cannot be read at all. ``place`` is for people.
    """

    file: str
    line: int | None
    section: str
    index: int | None
    code: str
    message: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file and everything wrong with it."""

    file: str
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a call could run it."""
        return not self.findings

    def as_json(self) -> Iterator[str]:
        """Write an object per finding, then one for the file."""
        for finding in self.findings:
            values = asdict(finding)
            del values["place"]
            yield json.dumps(values)
        yield json.dumps({"file": self.file, "ok": self.ok})

    def as_text(self, *, color: bool) -> Iterator[str]:
        """Write a line per finding, or that the file is fine."""
        for finding in self.findings:
            line = f":{finding.line}" if finding.line is not None else ""
            place = f"{finding.place}: " if finding.place else ""
            code = click.style(finding.code, fg="red") if color else finding.code
            yield f"{self.file}{line}: {place}{code}: {finding.message}"
        if self.ok:
            yield f"{self.file}: {click.style('ok', fg='green') if color else 'ok'}"


def check_documents(names: Iterable[str], config: Config, standard_input: BinaryIO) -> Iterator[CheckedFile]:
    """Check each document, in order: files, ``-`` for ``standard_input``, and whatever lies below directories."""
    compiler = Compiler(METHODS, max_bytes=config.documents.max_bytes, max_nesting=config.script.max_nesting)
    for name in names:
        if name == STANDARD_INPUT:
            yield _check(name, standard_input.read, compiler)
        elif Path(name).is_dir():
            yield from _check_directory(Path(name), compiler)
        else:
            yield _check(name, Path(name).read_bytes, compiler)


def _check_directory(directory: Path, compiler: Compiler) -> Iterator[CheckedFile]:
    files = sorted(path for path in directory.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    for path in files:
        yield _check(str(path), path.read_bytes, compiler)
    if not files:
        yield _unreadable(str(directory), "holds no .yaml, .yml or .json file")


def _check(name: str, read: Callable[[], bytes], compiler: Compiler) -> CheckedFile:
    try:
        compiler.compile(read(), name=name)
    except OSError as error:
        return _unreadable(name, f"cannot be read: {error.strerror or error}")
    except DocumentInvalid as invalid:
        return CheckedFile(name, tuple(_finding(name, found) for found in invalid.findings))
    return CheckedFile(name)


def _unreadable(name: str, message: str) -> CheckedFile:
    return CheckedFile(name, (Finding(name, None, "", None, "unreadable", message),))


def _finding(name: str, found: swml.Finding) -> Finding:
    where = found.where
    place = f"section {where.text}" if where.section else ""
    index = where.index if where.index >= 0 else None
    return Finding(name, where.line, where.section, index, found.code, found.message, place)
