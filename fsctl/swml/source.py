"""The text of a document: bytes in, a tree of plain values out, and the source line of anything in it.

Refuses what could hurt before it is built: too many bytes, too deep a tree, aliases that multiply, keys written
twice, numbers JSON does not know. Knows nothing of sections and methods. Pure.

YAML is read by its 1.1 rules with these exceptions, all in the caller's favour: a key is always the text that was
written (``on``, ``yes``, ``5``), a date or a time of day is text, and so is a number that begins with ``+`` or with
a needless zero (a telephone number, a PIN).
"""

from __future__ import annotations

import json
import math
import re
from hashlib import blake2b
from typing import Any

import yaml

from fsctl.errors import ScriptError
from fsctl.swml.values import quoted

__all__ = ["DEFAULT_MAX_BYTES", "MAX_TREE_DEPTH", "Source", "SourceError"]

DEFAULT_MAX_BYTES = 1_000_000
MAX_TREE_DEPTH = 200
MAX_ALIASED_VALUES = 10_000

_PARSE_ERROR = "relay_script_parse_error"
_DUPLICATED = "relay_script_element_duplicated"
_TOO_DEEP = "relay_script_nested_too_deep"

_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})")
_FLOAT = re.compile(r"-?(?:(?:0|[1-9][0-9]{0,99})\.[0-9]{0,99}|\.[0-9]{1,99})(?:[eE][-+]?[0-9]{1,3})?")
_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset(f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null"))


class SourceError(ScriptError):
    """The text is not a tree fsctl will take; ``line`` is where, when that is known."""

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        super().__init__(code, message)
        self.line = line


class _Twice(ValueError):
    """A JSON object names ``key`` twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Source:
    """One text, read once: ``tree`` is its value, ``digest`` its fingerprint, ``name`` where it came from.

    Raises :class:`SourceError`.
    """

    __slots__ = ("_root", "digest", "format", "name", "text", "tree")

    def __init__(self, source: bytes | str, *, max_bytes: int = DEFAULT_MAX_BYTES, name: str = "") -> None:
        self.name = name
        raw = _encoded(source)
        if len(raw) > max_bytes:
            raise SourceError(_PARSE_ERROR, f"the document has {len(raw)} bytes; at most {max_bytes} are read")
        self.digest = digest_of(raw)
        self.text = _decoded(raw)
        self.tree: Any = None
        self.format = "yaml"
        self._root: yaml.Node | None = None
        self._parse()

    def _parse(self) -> None:
        if not self.text.lstrip().startswith(("{", "[")):
            self.tree = _parse_yaml(self.text)
            return
        try:
            self.tree = _parse_json(self.text)
            self.format = "json"
        except json.JSONDecodeError as json_error:
            # A flow-style YAML document begins like JSON, but seldom with a quoted key. Broken JSON must not be
            # taken for YAML: a forgotten comma would give a value nobody wrote.
            if not self.text.lstrip("[{ \t\r\n").startswith('"'):
                self.tree = _parse_yaml(self.text)
                return
            problem = f"the document is not valid JSON: {json_error.msg} in column {json_error.colno}"
            raise SourceError(_PARSE_ERROR, problem, json_error.lineno) from None

    def line(self, section: str, path: tuple[str | int, ...]) -> int:
        """The line (from 1) of ``path`` in ``section``, or of what is nearest around it.

        ``section`` may be empty: ``path`` then begins at the top of the document.
        """
        if self._root is None:
            self._root = _compose_json(self.text) if self.format == "json" else _compose_yaml(self.text)
        node = self._root
        line = _line(node)
        at_section = ("sections", section) if section and isinstance(node, yaml.MappingNode) else ()
        for depth, key in enumerate((*at_section, *path)):
            if depth == len(at_section) and isinstance(key, int):
                node = _section_code(node)
            found = _child(node, key)
            if found is not None:
                line, node = found
            elif not (key == 0 and isinstance(node, yaml.MappingNode)):
                # A single method written without its list answers to index 0; anything else ends the search.
                break
        return line + 1


def digest_of(raw: bytes) -> str:
    """The fingerprint by which equal documents are known again."""
    return blake2b(raw, digest_size=16).hexdigest()


def _encoded(source: bytes | str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return source.encode()
    except UnicodeEncodeError:
        raise SourceError(_PARSE_ERROR, "the document holds half a character (a lone surrogate)") from None


def _decoded(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = raw.count(b"\n", 0, problem.start) + 1
        raise SourceError(_PARSE_ERROR, f"the document is not UTF-8 text (byte {problem.start})", line) from None
    if not text or text.isspace():
        raise SourceError(_PARSE_ERROR, "the document is empty")
    return text


# JSON


def _parse_json(text: str) -> Any:
    try:
        tree = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError:
        raise
    except _Twice as twice:
        raise SourceError(_DUPLICATED, f"the key {quoted(twice.key)} is written twice", _line_of_twice(text)) from None
    except RecursionError:
        raise SourceError(_TOO_DEEP, f"the document is nested more than {MAX_TREE_DEPTH} levels deep") from None
    except ValueError as problem:
        raise SourceError(_PARSE_ERROR, f"the document is not valid JSON: {problem}") from None
    if text.count("[") + text.count("{") > MAX_TREE_DEPTH and _deeper_than(tree, MAX_TREE_DEPTH):
        raise SourceError(_TOO_DEEP, f"the document is nested more than {MAX_TREE_DEPTH} levels deep")
    if "\\ud" in text.lower():
        _refuse_surrogates(tree)
    return tree


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(name for name, _ in pairs if name in seen or seen.add(name)))  # type: ignore[func-returns-value]
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _deeper_than(tree: Any, levels: int) -> bool:
    row = [tree]
    for _ in range(levels + 1):
        row = [
            child
            for value in row
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
        if not row:
            return False
    return True


def _refuse_surrogates(tree: Any) -> None:
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SourceError(_PARSE_ERROR, "the document holds half a character (a lone surrogate)") from None


# YAML


def _parse_yaml(text: str) -> Any:
    loader = None
    try:
        loader = _Loader(text)
        return _YamlTree(loader).build()
    except SourceError:
        raise
    except RecursionError:
        raise SourceError(_TOO_DEEP, "the document is nested too deep to be read") from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        said = problem.problem or problem.context or "it cannot be read"
        line = mark.line + 1 if mark else None
        raise SourceError(_PARSE_ERROR, f"the document is neither JSON nor YAML: {said}", line) from None
    except yaml.YAMLError as problem:
        said = str(getattr(problem, "reason", "")) or "it cannot be read"
        raise SourceError(_PARSE_ERROR, f"the document is neither JSON nor YAML: {said}") from None
    except Exception as problem:
        detail = type(problem).__name__
        raise SourceError("relay_script_parse_internal_error", f"the YAML parser failed ({detail})") from problem
    finally:
        if loader is not None:
            loader.dispose()


class _YamlTree:
    """Builds plain values from YAML's events, in one pass, bounded in depth and in what aliases add."""

    def __init__(self, loader: Any) -> None:
        self._next = loader.get_event
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._count = 0
        self._aliased = 0
        self._highest = 0

    def build(self) -> Any:
        self._next()  # the stream begins
        if not isinstance(self._next(), yaml.DocumentStartEvent):
            raise SourceError(_PARSE_ERROR, "the document is empty")
        value = self._value(self._next(), 0)
        self._next()  # the document ends
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise self._wrong(following, "there is a second YAML document after '---'; a call has one")
        return value

    def _value(self, event: Any, depth: int) -> Any:
        self._count += 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if depth > self._highest:
            self._highest = depth
            if depth > MAX_TREE_DEPTH:
                raise self._too_deep(event)
        if isinstance(event, yaml.ScalarEvent):
            value: Any = self._scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = (value, 1, 0)
            return value
        if event.tag not in (None, "!", _TAG + "map", _TAG + "seq"):
            raise self._wrong(event, f"the tag {event.tag} is not allowed")
        if event.anchor is None:
            return self._collection(event, depth)
        # How deep the anchored value reaches is measured apart from what came before it.
        outer, self._highest, before = self._highest, depth, self._count + self._aliased
        value = self._collection(event, depth)
        size = self._count + self._aliased - before + 1
        self._anchors[event.anchor] = (value, size, self._highest - depth)
        self._highest = max(outer, self._highest)
        return value

    def _collection(self, event: Any, depth: int) -> Any:
        return self._mapping(depth + 1) if isinstance(event, yaml.MappingStartEvent) else self._sequence(depth + 1)

    def _sequence(self, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._value(event, depth))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._wrong(event, "a key must be text")
            key = event.value
            if event.anchor is not None:
                self._anchors[event.anchor] = (key, 1, 0)
            value_event = self._next()
            value = self._value(value_event, depth)
            if key == "<<" and event.implicit[0]:
                merged += self._merged(value, value_event)
            elif key in made:
                raise SourceError(_DUPLICATED, f"the key {quoted(key)} is written twice", _line(event) + 1)
            else:
                made[key] = value
        for mapping in merged:
            for key, value in mapping.items():
                made.setdefault(key, value)
        return made

    def _merged(self, value: Any, event: Any) -> list[dict[str, Any]]:
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            raise self._wrong(event, "'<<' takes a mapping or a list of mappings")
        return mappings

    def _alias(self, event: Any, depth: int) -> Any:
        if event.anchor not in self._anchors:
            raise self._wrong(event, f"the alias *{event.anchor} has no anchor before it")
        value, size, height = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > MAX_ALIASED_VALUES:
            problem = f"its aliases stand for more than {MAX_ALIASED_VALUES} values"
            raise self._wrong(event, problem)
        self._highest = max(self._highest, depth + height)
        if self._highest > MAX_TREE_DEPTH:
            raise self._too_deep(event)
        return value

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is None:
            return _plain(text) if event.implicit[0] else text
        if event.tag == "!":
            return text
        if event.tag not in _TAGS:
            raise self._wrong(event, f"the tag {event.tag} is not allowed")
        kind = event.tag.removeprefix(_TAG)
        value = text if kind == "str" else _plain(text)
        if kind == "float" and type(value) is int:
            value = float(value)
        if type(value).__name__.removesuffix("Type") != kind.replace("null", "None"):
            raise self._wrong(event, f"the value is not what its tag !!{kind} says")
        return value

    @staticmethod
    def _wrong(event: Any, problem: str) -> SourceError:
        return SourceError(_PARSE_ERROR, f"the YAML cannot be used: {problem}", _line(event) + 1)

    @staticmethod
    def _too_deep(event: Any) -> SourceError:
        problem = f"the document is nested more than {MAX_TREE_DEPTH} levels deep"
        return SourceError(_TOO_DEEP, problem, _line(event) + 1)


def _plain(text: str) -> Any:
    """What an unquoted YAML scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else text
    return text


# Source lines, found only when somebody asks


_JSON_TOKEN = re.compile(r'[{}\[\],:]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+|\n', re.DOTALL)


def _mark(line: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, 0, None, 0)


def _line(place: yaml.Node | yaml.Event) -> int:
    mark = place.start_mark
    return 0 if mark is None else mark.line


def _compose_yaml(text: str) -> yaml.Node:
    loader = _Loader(text)
    try:
        node: yaml.Node = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def _compose_json(text: str, *, stop_at_twice: bool = False) -> yaml.Node:
    """The places of everything in a JSON text that has been parsed before."""
    line = 0
    holder = yaml.SequenceNode("", [], _mark(0))
    stack: list[Any] = [holder]
    keys: list[yaml.ScalarNode | None] = [None]
    names: list[set[str]] = [set()]
    for piece in _JSON_TOKEN.findall(text):
        if piece == "\n":
            line += 1
            continue
        if piece in ",:":
            continue
        if piece in "}]":
            stack.pop()
            keys.pop()
            names.pop()
            continue
        if piece == "{":
            node: Any = yaml.MappingNode("", [], _mark(line))
        elif piece == "[":
            node = yaml.SequenceNode("", [], _mark(line))
        else:
            node = yaml.ScalarNode("", json.loads(piece) if piece[0] == '"' else piece, _mark(line))
        parent, key = stack[-1], keys[-1]
        if isinstance(parent, yaml.SequenceNode):
            parent.value.append(node)
        elif key is None:
            if stop_at_twice and node.value in names[-1]:
                return node  # type: ignore[no-any-return]
            names[-1].add(node.value)
            keys[-1] = node
            continue
        else:
            parent.value.append((key, node))
            keys[-1] = None
        if piece in "{[":
            stack.append(node)
            keys.append(None)
            names.append(set())
    root: yaml.Node = holder.value[0]
    return root


def _line_of_twice(text: str) -> int:
    return _line(_compose_json(text, stop_at_twice=True)) + 1


def _child(node: yaml.Node, key: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return _line(name), value
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        value = node.value[key]
        return _line(value), value
    return None


def _section_code(node: yaml.Node) -> yaml.Node:
    """The list of a section written as ``{code: […]}``, or the node itself."""
    found = _child(node, "code")
    return node if found is None else found[1]
