"""Checks a whole document before its first step: what comes out can be run, or everything wrong is listed.

Names, parameters, labels, sections, depth. Values with placeholders are checked as far as they are known, and
again when they are read. Pure. Implements swml-calling: document model, script error codes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from fsctl.swml.document import Document, DocumentInvalid, Finding, Instruction, Where
from fsctl.swml.method import PUBLISHED
from fsctl.swml.parameters import REFUSED, WRONG_TYPE, Later, Refused, similar
from fsctl.swml.source import DEFAULT_MAX_BYTES, Source, SourceError, digest_of
from fsctl.swml.values import quoted

if TYPE_CHECKING:
    from fsctl.swml.document import Block
    from fsctl.swml.method import Methods

__all__ = [
    "MAX_NESTING",
    "VERSION",
    "Compiler",
    "DocumentInvalid",
    "Finding",
    "compile_document",
    "compile_inline",
]

VERSION = "1.0.0"
MAX_NESTING = 32
MAX_FINDINGS = 100

_SECTIONS = ("version", "sections")
_NO_SECTION = "relay_script_section_parameter_undefined"
_NO_CODE = "relay_script_section_code_missing"
_TOO_DEEP = "relay_script_nested_too_deep"
_NO_ELEMENT = "relay_script_element_undefined"


def compile_document(
    source: bytes | str,
    methods: Methods,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_nesting: int = MAX_NESTING,
    name: str = "",
) -> Document:
    """The document in ``source`` (JSON or YAML), checked. ``name`` says where it came from.

    Raises :class:`DocumentInvalid` with every finding, in document order.
    """
    return _compile(source, methods, max_bytes, max_nesting, name, bare=False)


def compile_inline(
    text: str,
    methods: Methods,
    *,
    bare: bool = True,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_nesting: int = MAX_NESTING,
    name: str = "inline",
) -> Document:
    """A document written as text inside another one; with ``bare`` it may be a JSON list of instructions.

    Raises :class:`DocumentInvalid`.
    """
    return _compile(text, methods, max_bytes, max_nesting, name, bare=bare and text.lstrip().startswith("["))


class Compiler:
    """Compiles documents for one set of methods and remembers the last ones: the same text comes with every call.

    ``documents`` and ``cache_bytes`` bound what is remembered, by count and by the size of the texts.
    """

    def __init__(
        self,
        methods: Methods,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_nesting: int = MAX_NESTING,
        documents: int = 256,
        cache_bytes: int = 16_000_000,
    ) -> None:
        self.methods = methods
        self.max_bytes = max_bytes
        self.max_nesting = max_nesting
        self._documents = documents
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[str, tuple[Document, int]] = OrderedDict()
        self._bytes = 0

    def compile(self, source: bytes | str, *, name: str = "") -> Document:
        """As :func:`compile_document`."""
        raw = source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")
        digest = digest_of(raw)
        known = self._cache.get(digest)
        if known is not None:
            self._cache.move_to_end(digest)
            return known[0]
        document = compile_document(
            source, self.methods, max_bytes=self.max_bytes, max_nesting=self.max_nesting, name=name
        )
        if len(raw) <= self._cache_bytes:
            self._cache[digest] = (document, len(raw))
            self._bytes += len(raw)
        while len(self._cache) > self._documents or self._bytes > self._cache_bytes:
            _, (_, size) = self._cache.popitem(last=False)
            self._bytes -= size
        return document


def _compile(
    source: bytes | str, methods: Methods, max_bytes: int, max_nesting: int, name: str, *, bare: bool
) -> Document:
    try:
        parsed = Source(source, max_bytes=max_bytes, name=name)
    except SourceError as problem:
        where = Where("", (), problem.line)
        raise DocumentInvalid([Finding(problem.code, problem.message, where)]) from None
    check = _Check(parsed, methods, max_nesting)
    sections: dict[str, Block] = {}
    try:
        sections = check.document({"sections": {"main": parsed.tree}} if bare else parsed.tree)
    except _Enough:
        pass
    except RecursionError:
        where = Where("", (), source=parsed)
        check.findings.append(Finding(_TOO_DEEP, "the document is nested too deep to be checked", where))
    if check.findings:
        # Stable: findings of one line stay in the order they were met.
        raise DocumentInvalid(sorted(check.findings, key=lambda finding: finding.where.line or 0))
    return Document(sections, parsed, name)


class _Enough(Exception):
    """Nobody reads more findings than there are."""


class _Check:
    """One pass over one document; also what the kinds of parameters ask (``fsctl.swml.parameters.Checker``)."""

    def __init__(self, source: Source, methods: Methods, max_nesting: int) -> None:
        self.findings: list[Finding] = []
        self._source = source
        self._methods = methods
        self._max_nesting = max_nesting
        self._sections: frozenset[str] = frozenset()
        self._labels: list[frozenset[str]] = []

    def found(self, code: str, message: str, where: Where) -> Refused:
        self.findings.append(Finding(code, message, where))
        if len(self.findings) >= MAX_FINDINGS:
            raise _Enough
        return REFUSED

    # From the top down

    def document(self, tree: Any) -> dict[str, Block]:
        """Every section's instructions; what could not be made is missing or empty, and there is a finding."""
        top = Where("", (), source=self._source)
        if not isinstance(tree, dict):
            if isinstance(tree, list):
                self.found(WRONG_TYPE, "a document is an object with `sections`, not a list", top)
            else:
                self.found("relay_script_parse_error", "the text is neither a JSON nor a YAML document", top)
            return {}
        for key in tree:
            if key not in _SECTIONS:
                hint = similar(key, _SECTIONS) or "; there are `version` and `sections`"
                self.found(_NO_ELEMENT, f"a document has no element {quoted(key)}{hint}", top.child(key))
        if tree.get("version", VERSION) != VERSION:
            message = f'`version` must be "{VERSION}", or left out'
            self.found("relay_script_version_invalid", message, top.of_parameter("version"))
        return self._all_sections(tree.get("sections"), top)

    def _all_sections(self, sections: Any, top: Where) -> dict[str, Block]:
        if sections is None:
            self.found("relay_script_sections_missing", "the document has no `sections`", top)
            return {}
        where = top.child("sections")
        if not isinstance(sections, dict):
            self.found(WRONG_TYPE, "`sections` must be an object of sections", where)
            return {}
        if "main" not in sections:
            hint = similar("main", sections)
            self.found("relay_script_main_section_missing", f"there is no section `main`{hint}", where)
        self._sections = frozenset(sections)
        made: dict[str, Block] = {}
        for name, steps in sections.items():
            self._labels = []
            block = self._section(steps, Where(name, (), source=self._source))
            made[name] = () if isinstance(block, Refused) else block
        return made

    def _section(self, steps: Any, where: Where) -> Block | Refused:
        if isinstance(steps, list):
            return self.block(steps, where)
        if steps is None:
            return self.found(_NO_CODE, f"the section {quoted(where.section)} is empty", where)
        if not isinstance(steps, dict):
            return self.found(WRONG_TYPE, f"the section {quoted(where.section)} must be a list of instructions", where)
        if "code" not in steps and len(steps) == 1 and self._is_method(next(iter(steps))):
            return self.block([steps], where)
        for key in steps:
            if key not in ("code", "meta"):
                message = f"a section has no parameter {quoted(key)}: it is a list of instructions"
                self.found(_NO_SECTION, message, where.of_parameter(key))
        if "code" not in steps:
            return self.found(_NO_CODE, f"the section {quoted(where.section)} has no `code`", where)
        return self.block(steps["code"], where)

    def _is_method(self, name: str) -> bool:
        return name in self._methods or name in PUBLISHED

    def block(self, value: Any, where: Where) -> Block | Refused:
        if not isinstance(value, list):
            name = f"`{where.parameter}`" if where.parameter else "this"
            return self.found(WRONG_TYPE, f"{name} must be a list of instructions", where)
        if len(self._labels) >= self._max_nesting:
            message = f"instructions are nested more than {self._max_nesting} deep"
            return self.found(_TOO_DEEP, message, where)
        self._labels.append(_labels_of(value))
        instructions = [self._instruction(step, where.child(index)) for index, step in enumerate(value)]
        self._labels.pop()
        return tuple(each for each in instructions if each is not None)

    def _instruction(self, step: Any, where: Where) -> Instruction | None:
        if isinstance(step, str):
            step = {step: None}
        if not isinstance(step, dict):
            self.found(WRONG_TYPE, "an instruction is an object with one method", where)
            return None
        name, value = next(iter(step.items()), ("", None))
        if not name:
            self.found("relay_script_method_missing_name", "an instruction has no method", where)
            return None
        if len(step) > 1:
            others = ", ".join(map(quoted, list(step)[1:4]))
            message = f"an instruction has one method; beside {quoted(name)} there is {others}"
            self.found(_NO_ELEMENT, message, where.child(list(step)[1]))
        method = self._methods.get(name)
        if method is None:
            self.found("relay_script_method_undefined", self._methods.undefined(name), where.child(name))
            return None
        where = Where(where.section, (*where.path, name), source=self._source)
        value = method.normalised(value)
        made = method.check(value, where, self)
        if isinstance(made, Refused):
            return None
        if isinstance(made, Later):
            return Instruction(method, value, None, where, made)
        return Instruction(method, value, made, where)

    # What kinds ask

    def section(self, name: str, where: Where) -> Refused | None:
        if name in self._sections:
            return None
        hint = similar(name, self._sections) or f"; there are {', '.join(map(quoted, sorted(self._sections)[:10]))}"
        if name.startswith("relay:"):
            hint = "; Relay applications are not run by fsctl"
        return self.found(_NO_SECTION, f"there is no section {quoted(name)}{hint}", where)

    def label(self, name: str, where: Where) -> Refused | None:
        if any(name in labels for labels in self._labels):
            return None
        known = {label for labels in self._labels for label in labels}
        hint = similar(name, known) or "; a goto reaches the labels of its own list and of those around it"
        message = f"there is no label {quoted(name)} to go to{hint}"
        return self.found("relay_script_method_parameter_invalid_value", message, where)

    def inline(self, text: str, where: Where) -> Document | Refused:
        try:
            return compile_inline(text, self._methods, max_nesting=self._max_nesting - len(self._labels))
        except DocumentInvalid as problem:
            for finding in problem.findings:
                self.found(finding.code, f"in the document given here, at {finding.where}: {finding.message}", where)
            return REFUSED


def _labels_of(steps: list[Any]) -> frozenset[str]:
    return frozenset(step["label"] for step in steps if isinstance(step, dict) and isinstance(step.get("label"), str))
