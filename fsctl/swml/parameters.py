"""Declaring what a method takes: a frozen record whose fields say how each parameter is checked and read.

::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Play:
        url: str | None = parameter(Text(), default=None)
        volume: float = parameter(Number(low=-40, high=40), default=0.0)
        written: frozenset[str] = written()

A kind is asked twice. ``check`` sees the value as the document has it, before any call: types must be right, and
what holds a placeholder is put off. ``read`` sees the value after expansion, when text is all a placeholder may
have to offer: ``"5"`` is then a good number. Both end in the same rule, ``exact``; a new kind usually defines
only that. A field's name loses one trailing underscore (``from_`` is ``from``), or is given with ``name=``.

Knows kinds of values, never methods. Pure. Implements swml-calling: method parameters.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
from dataclasses import MISSING, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol
from urllib.parse import urlsplit

from fsctl.errors import ScriptError
from fsctl.swml.document import Where
from fsctl.swml.template import contains_placeholder, has_placeholder
from fsctl.swml.values import quoted, short, to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fsctl.swml.document import Block, Document

__all__ = [
    "CONFLICT",
    "INVALID_VALUE",
    "MISSING_PARAMETER",
    "UNDEFINED_PARAMETER",
    "WRONG_TYPE",
    "Anything",
    "Block_",
    "Boolean",
    "Branch",
    "Branches",
    "ByType",
    "Cases",
    "Checker",
    "Dest",
    "Expander",
    "Integer",
    "Kind",
    "LabelName",
    "Later",
    "NoParameters",
    "Number",
    "Object",
    "OneOf",
    "Record",
    "Records",
    "Refused",
    "Shape",
    "Source",
    "Text",
    "TextList",
    "Url",
    "parameter",
    "present",
    "similar",
    "written",
]

MISSING_PARAMETER = "relay_script_method_parameter_missing"
INVALID_VALUE = "relay_script_method_parameter_invalid_value"
UNDEFINED_PARAMETER = "relay_script_method_parameter_undefined"
CONFLICT = "relay_script_method_parameter_conflict"
WRONG_TYPE = "relay_script_element_wrong_type"

_CREDENTIALS = re.compile(r"//[^/\s]*@")
_NUMBER = re.compile(r"\s*[-+]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][-+]?\d{1,3})?\s*", re.ASCII)


class Expander(Protocol):
    """What a parameter that waits for the call needs then: a scope."""

    def expand(self, value: Any) -> Any:
        """``value`` with its placeholders replaced."""


class Checker(Protocol):
    """What a kind may ask while a document is checked: to note a finding, or to look at what it cannot judge."""

    def found(self, code: str, message: str, where: Where) -> Refused | None:
        """Note something wrong and go on; None for an unknown parameter that may be overlooked."""

    def block(self, value: Any, where: Where) -> Block | Refused:
        """Check a list of instructions."""

    def section(self, name: str, where: Where) -> Refused | None:
        """Check that the section ``name`` exists."""

    def label(self, name: str, where: Where) -> Refused | None:
        """Check that a goto at this place can reach the label ``name``."""

    def inline(self, text: str, where: Where) -> Document | Refused:
        """Check a document written inside a parameter."""


class Refused:
    """Stands for a value that was wrong; the finding about it has been noted."""

    __slots__ = ()


REFUSED = Refused()


class Later:
    """A value that needs the call to be known."""

    __slots__ = ()

    def read(self, scope: Expander) -> Any:
        """The typed value. Raises ScriptError or ExpressionError."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class _Expanded(Later):
    kind: Kind
    raw: Any
    where: Where

    def read(self, scope: Expander) -> Any:
        return self.kind.read(scope.expand(self.raw), self.where)


@dataclass(frozen=True, slots=True)
class _Together(Later):
    items: tuple[Any, ...]

    def read(self, scope: Expander) -> tuple[Any, ...]:
        return tuple(item.read(scope) if isinstance(item, Later) else item for item in self.items)


@dataclass(frozen=True, slots=True)
class _Filled(Later):
    shape: Shape
    known: Mapping[str, Any]
    later: tuple[tuple[str, Later], ...]
    where: Where

    def read(self, scope: Expander) -> Any:
        values = dict(self.known)
        for attribute, value in self.later:
            values[attribute] = value.read(scope)
        return self.shape.make(values, self.where)


def _together(items: Iterable[Any]) -> Any:
    """The checked items as one value: refused if one is, waiting if one waits."""
    made = tuple(items)
    if any(item is REFUSED for item in made):
        return REFUSED
    return _Together(made) if any(isinstance(item, Later) for item in made) else made


def wrong(code: str, message: str, where: Where) -> NoReturn:
    """Refuse a value."""
    raise ScriptError(code, message, where)


def _wrong_type(expects: str, value: Any, where: Where) -> NoReturn:
    wrong(WRONG_TYPE, f"{_name(where)} must be {expects}, not {_type_name(value)}", where)


def _name(where: Where) -> str:
    if where.path and isinstance(where.path[-1], int):
        return f"`{where.parameter}[{where.path[-1]}]`" if where.parameter else "the element"
    return f"`{where.parameter}`" if where.parameter else "the value"


def _type_name(value: Any) -> str:
    if isinstance(value, float):  # a number, perhaps where a whole one is wanted
        return to_text(value)
    names = {str: "text", bool: "true or false", int: "a number", dict: "an object", list: "a list"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _shown(value: Any) -> str:
    """``value`` fit for a message: short, and without the credentials a URL may hold."""
    text = _CREDENTIALS.sub("//…@", value if isinstance(value, str) else to_text(value))
    return repr(short(text))


def similar(name: str, known: Iterable[str]) -> str:
    """A hint at the known name somebody may have meant, to end a sentence with; empty when none is close."""
    names = list(known)
    if len(name) > 64 or len(names) > 200:  # a hint is not worth seconds
        return ""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"; did you mean `{matches[0]}`?" if matches else ""


class Kind:
    """How one parameter is checked and read. ``expects`` says in a few words what it must be."""

    expects: ClassVar[str] = "a value"
    takes_null: ClassVar[bool] = False

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        """``value`` as written: the typed value, a :class:`Later`, or REFUSED after noting why."""
        if isinstance(value, str) and has_placeholder(value):
            return _Expanded(self, value, where)
        try:
            return self.exact(value, where)
        except ScriptError as problem:
            return checker.found(problem.code, problem.message, problem.where or where)

    def read(self, value: Any, where: Where) -> Any:
        """``value`` as expanded: the typed value. Raises :class:`fsctl.errors.ScriptError`."""
        return self.exact(self.convert(value), where)

    def convert(self, value: Any) -> Any:
        """What a placeholder gave, brought nearer to the type; unchanged when there is no honest way."""
        return value

    def exact(self, value: Any, where: Where) -> Any:
        """The typed value of ``value``, which must already have the right type. Raises ScriptError."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """What ``exact`` takes, as JSON Schema 2020-12. Kinds that only scripts have need none."""
        raise NotImplementedError(f"{type(self).__qualname__} does not say its JSON Schema")


@dataclass(frozen=True)
class Text(Kind):
    """A string. ``choices`` are the allowed words; ``pattern`` must match the whole of it."""

    expects: ClassVar[str] = "text"

    choices: Sequence[str] | None = None
    pattern: str | re.Pattern[str] | None = None
    min_length: int = 0
    max_length: int | None = None

    def convert(self, value: Any) -> Any:
        return to_text(value) if value is None or isinstance(value, bool | int | float) else value

    def exact(self, value: Any, where: Where) -> str:
        if not isinstance(value, str):
            _wrong_type(self.expects, value, where)
        if self.choices is not None and value not in self.choices:
            words = ", ".join(self.choices)
            hint = similar(value, self.choices)
            wrong(INVALID_VALUE, f"{_name(where)} must be one of {words}; it is {_shown(value)}{hint}", where)
        if len(value) < self.min_length:
            least = "must not be empty" if self.min_length == 1 else f"must have at least {self.min_length} characters"
            wrong(INVALID_VALUE, f"{_name(where)} {least}", where)
        if self.max_length is not None and len(value) > self.max_length:
            wrong(INVALID_VALUE, f"{_name(where)} may have at most {self.max_length} characters", where)
        if self.pattern is not None and re.compile(self.pattern).fullmatch(value) is None:
            wrong(INVALID_VALUE, f"{_name(where)} has not the form it must have; it is {_shown(value)}", where)
        return value

    def schema(self) -> dict[str, Any]:
        return _given(
            type="string",
            enum=None if self.choices is None else list(self.choices),
            minLength=self.min_length or None,
            maxLength=self.max_length,
            pattern=None if self.pattern is None else _whole_pattern(self.pattern),
        )


def _given(**keywords: Any) -> dict[str, Any]:
    """The keywords of a schema that have a value."""
    return {name: value for name, value in keywords.items() if value is not None}


def _whole_pattern(pattern: str | re.Pattern[str]) -> str:
    """A pattern as JSON Schema has it, which looks for it anywhere in the text and knows no flags."""
    compiled = re.compile(pattern)
    if compiled.flags & ~(re.ASCII | re.UNICODE):
        raise ValueError(f"{compiled.pattern!r} has flags, which JSON Schema has not; write it without")
    return f"^(?:{compiled.pattern})$"


@dataclass(frozen=True)
class Url(Kind):
    """An absolute URL, which may hold credentials (messages never show them)."""

    expects: ClassVar[str] = "a URL"

    schemes: Sequence[str] = ("http", "https")

    def exact(self, value: Any, where: Where) -> str:
        if not isinstance(value, str):
            _wrong_type(self.expects, value, where)
        try:
            parts = urlsplit(value)
            good = parts.scheme in self.schemes and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good or any(char <= " " or char == "\x7f" for char in value):
            forms = " or ".join(f"{scheme}://" for scheme in self.schemes)
            wrong(INVALID_VALUE, f"{_name(where)} must be a URL beginning with {forms}; it is {_shown(value)}", where)
        return value

    def schema(self) -> dict[str, Any]:
        pattern = rf"^(?:{'|'.join(self.schemes)})://[^\u0000-\u0020\u007f/?#][^\u0000-\u0020\u007f]*$"
        return {"type": "string", "format": "uri", "pattern": pattern}


@dataclass(frozen=True)
class Number(Kind):
    """A number within bounds that belong to it; read as a float."""

    expects: ClassVar[str] = "a number"

    low: float | None = None
    high: float | None = None

    def convert(self, value: Any) -> Any:
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
        return value

    def exact(self, value: Any, where: Where) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            _wrong_type(self.expects, value, where)
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            wrong(INVALID_VALUE, f"{_name(where)} must be {self._bounds()}; it is {to_text(value)}", where)
        return self.typed(value)

    def typed(self, value: float) -> float:
        """The number in the Python type the kind promises."""
        return float(value)

    def schema(self) -> dict[str, Any]:
        return _given(type="number", minimum=self.low, maximum=self.high)

    def _bounds(self) -> str:
        if self.low is None:
            return f"at most {to_text(self.high)}"
        if self.high is None:
            return f"at least {to_text(self.low)}"
        return f"from {to_text(self.low)} to {to_text(self.high)}"


@dataclass(frozen=True)
class Integer(Number):
    """A whole number within bounds that belong to it; read as an int (``5.0`` is one, ``5.5`` is not)."""

    expects: ClassVar[str] = "a whole number"

    def exact(self, value: Any, where: Where) -> int:
        if isinstance(value, float) and not value.is_integer():
            _wrong_type(self.expects, value, where)
        return int(super().exact(value, where))

    def typed(self, value: float) -> float:
        return value

    def schema(self) -> dict[str, Any]:
        return {**super().schema(), "type": "integer"}


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


@dataclass(frozen=True)
class Boolean(Kind):
    """True or false; after expansion also the words."""

    expects: ClassVar[str] = "true or false"

    def convert(self, value: Any) -> Any:
        return {"true": True, "false": False}.get(value.strip().lower(), value) if isinstance(value, str) else value

    def exact(self, value: Any, where: Where) -> bool:
        if not isinstance(value, bool):
            _wrong_type(self.expects, value, where)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True)
class TextList(Kind):
    """A list read as a tuple, each item by ``item``. With ``one_or_many`` a single item needs no list."""

    expects: ClassVar[str] = "a list"

    item: Kind = Text()
    one_or_many: bool = False
    min_items: int = 0
    max_items: int | None = None

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if isinstance(value, str) and has_placeholder(value):
            return _Expanded(self, value, where)
        try:
            items = self._items(value, where)
        except ScriptError as problem:
            return checker.found(problem.code, problem.message, problem.where)
        return _together(self.item.check(item, place, checker) for item, place in items)

    def read(self, value: Any, where: Where) -> tuple[Any, ...]:
        return tuple(self.item.read(item, place) for item, place in self._items(value, where))

    def schema(self) -> dict[str, Any]:
        items = self.item.schema()
        many = _given(type="array", items=items, minItems=self.min_items or None, maxItems=self.max_items)
        return {"anyOf": [items, many]} if self.one_or_many else many

    def _items(self, value: Any, where: Where) -> list[tuple[Any, Where]]:
        if self.one_or_many and value is not None and not isinstance(value, list):
            return [(value, where)]
        if not isinstance(value, list):
            _wrong_type("a list of objects" if self.item.expects == "an object" else self.expects, value, where)
        if len(value) < self.min_items:
            few = "must not be empty" if self.min_items == 1 else f"needs at least {self.min_items} items"
            wrong(INVALID_VALUE, f"{_name(where)} {few}", where)
        if self.max_items is not None and len(value) > self.max_items:
            wrong(INVALID_VALUE, f"{_name(where)} may have at most {self.max_items} items", where)
        return [(item, where.child(index)) for index, item in enumerate(value)]


@dataclass(frozen=True)
class Object(Kind):
    """An object with any keys; with ``values`` each value is read by that kind, else taken as it is."""

    expects: ClassVar[str] = "an object"

    values: Kind | None = None

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if isinstance(value, str) and has_placeholder(value):
            return _Expanded(self, value, where)
        if not isinstance(value, dict):
            return super().check(value, where, checker)
        if self.values is None:
            return _Expanded(self, value, where) if contains_placeholder(value) else value
        made = {key: self.values.check(item, where.child(key), checker) for key, item in value.items()}
        if any(item is REFUSED for item in made.values()):
            return REFUSED
        return _Expanded(self, value, where) if any(isinstance(item, Later) for item in made.values()) else made

    def read(self, value: Any, where: Where) -> dict[str, Any]:
        items = self.exact(value, where)
        if self.values is None:
            return items
        return {key: self.values.read(item, where.child(key)) for key, item in items.items()}

    def exact(self, value: Any, where: Where) -> dict[str, Any]:
        if not isinstance(value, dict):
            _wrong_type(self.expects, value, where)
        return value

    def schema(self) -> dict[str, Any]:
        return _given(type="object", additionalProperties=None if self.values is None else self.values.schema())


@dataclass(frozen=True)
class Anything(Kind):
    """Any JSON value, null included."""

    expects: ClassVar[str] = "any value"
    takes_null: ClassVar[bool] = True

    def check(self, value: Any, where: Where, checker: Checker) -> Any:  # noqa: ARG002 - nothing to refuse
        return _Expanded(self, value, where) if contains_placeholder(value) else value

    def exact(self, value: Any, where: Where) -> Any:  # noqa: ARG002
        return value

    def schema(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class OneOf(Kind):
    """A value for which the first kind that takes its JSON type answers (``OneOf({list: Block_(), str: Url()})``).

    ``kinds`` maps Python's ``str``, ``bool``, ``int``, ``float``, ``dict`` and ``list`` to kinds.
    A string that holds a placeholder waits, whatever the kinds are.
    """

    kinds: Mapping[type, Kind]

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        kind = self.kinds.get(type(value))
        if kind is None:
            return super().check(value, where, checker)
        made = kind.check(value, where, checker)
        # What a placeholder gives may have any of the types, not only text.
        return _Expanded(self, value, where) if isinstance(value, str) and isinstance(made, _Expanded) else made

    def read(self, value: Any, where: Where) -> Any:
        kind = self.kinds.get(type(value))
        return self.exact(value, where) if kind is None else kind.read(value, where)

    def exact(self, value: Any, where: Where) -> Any:
        _wrong_type(" or ".join(kind.expects for kind in self.kinds.values()), value, where)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [kind.schema() for kind in self.kinds.values()]}


# Kinds that are never expanded


class _Fixed(Kind):
    """A part of the script itself: known before the call, never computed."""

    def read(self, value: Any, where: Where) -> Any:  # noqa: ARG002 - whatever it is
        wrong(WRONG_TYPE, f"{_name(where)} must be {self.expects} written in the document, not computed", where)


@dataclass(frozen=True)
class Block_(_Fixed):  # noqa: N801 - Block is the value, this is its kind
    """Nested instructions; read as a :data:`fsctl.swml.document.Block`."""

    expects: ClassVar[str] = "a list of instructions"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        return checker.block(value, where)


@dataclass(frozen=True)
class Cases(_Fixed):
    """An object of values, each with its instructions; read as a dict of blocks."""

    expects: ClassVar[str] = "an object of values and their instructions"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if not isinstance(value, dict):
            return checker.found(WRONG_TYPE, f"{_name(where)} must be {self.expects}, not {_type_name(value)}", where)
        made = {
            key: checker.block(block, where.child(key).named(f"{where.parameter}.{short(key)}"))
            for key, block in value.items()
        }
        return REFUSED if any(block is REFUSED for block in made.values()) else made


@dataclass(frozen=True)
class Source(_Fixed):
    """JavaScript without a wrapper; read as its text. A bare boolean or number counts as the literal it is."""

    expects: ClassVar[str] = "a JavaScript expression"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if isinstance(value, bool | int | float):
            return to_text(value)
        if not isinstance(value, str):
            return checker.found(WRONG_TYPE, f"{_name(where)} must be {self.expects}, not {_type_name(value)}", where)
        if not value.strip():
            return checker.found(INVALID_VALUE, f"{_name(where)} must not be empty", where)
        return value


@dataclass(frozen=True)
class LabelName(Kind):
    """The name of a label a goto at this place can reach."""

    expects: ClassVar[str] = "the name of a label"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        made = super().check(value, where, checker)
        if isinstance(made, str) and checker.label(made, where) is not None:
            return REFUSED
        return made

    def convert(self, value: Any) -> Any:
        return to_text(value) if isinstance(value, bool | int | float) else value

    def exact(self, value: Any, where: Where) -> str:
        return Text(min_length=1).exact(value, where)


@dataclass(frozen=True)
class Dest(Kind):
    """Where a script goes on: a section's name, a URL, or a document as text (read as a checked Document).

    A document written out in the parameter is checked with the rest and not expanded, so that a variable's
    value can never add instructions to it; its placeholders are expanded when they are reached.
    """

    expects: ClassVar[str] = "a section, a URL or a document as text"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if isinstance(value, str) and is_inline(value):
            return checker.inline(value, where)
        made = super().check(value, where, checker)
        if isinstance(made, str) and not is_url(made) and checker.section(made, where) is not None:
            return REFUSED
        return made

    def convert(self, value: Any) -> Any:
        return to_text(value) if isinstance(value, bool | int | float) else value

    def exact(self, value: Any, where: Where) -> str:
        text = Text(min_length=1).exact(value, where)
        if _SCHEME.match(text):
            Url().exact(text, where)
        return text


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(dest: str) -> bool:
    """Whether a destination is to be fetched."""
    return dest[:8].lower().startswith(("http://", "https://"))


def is_inline(dest: str) -> bool:
    """Whether a destination is itself a document: JSON, or YAML that shows by having several lines."""
    return not is_url(dest) and (dest.lstrip()[:1] in ("{", "[") or "\n" in dest.strip())


# Records


@dataclass(frozen=True)
class Record(Kind):
    """An object with known keys, read as ``type``; ``one_of`` as for a method."""

    expects: ClassVar[str] = "an object"

    type: type[Any]
    one_of: Sequence[Sequence[str]] = ()

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if not isinstance(value, dict):
            return super().check(value, where, checker)
        return self.shape.check(value, where, checker)

    def exact(self, value: Any, where: Where) -> Any:
        if not isinstance(value, dict):
            _wrong_type(self.expects, value, where)
        return self.shape.read(value, where)

    def schema(self) -> dict[str, Any]:
        return self.shape.schema()

    @property
    def shape(self) -> Shape:
        """The declared fields."""
        record: Any = self.type
        return _shape(record, tuple(map(tuple, self.one_of)))


@dataclass(frozen=True)
class Records(Kind):
    """A list of objects, each read as ``type``; read as a tuple."""

    expects: ClassVar[str] = "a list of objects"

    type: type[Any]
    one_of: Sequence[Sequence[str]] = ()
    min_items: int = 0
    max_items: int | None = None

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        return self._list.check(value, where, checker)

    def read(self, value: Any, where: Where) -> Any:
        return self._list.read(value, where)

    def schema(self) -> dict[str, Any]:
        return self._list.schema()

    @property
    def _list(self) -> TextList:
        return TextList(Record(self.type, self.one_of), min_items=self.min_items, max_items=self.max_items)


@dataclass(frozen=True)
class ByType(Kind):
    """An object whose ``type`` says as which record it is read; as ``unknown``, which refuses it, for any other."""

    expects: ClassVar[str] = "an object"

    types: Mapping[str, type[Any]]
    unknown: type[Any]

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        word = value.get("type") if isinstance(value, dict) else None
        return Record(self.types.get(word if isinstance(word, str) else "", self.unknown)).check(value, where, checker)

    def schema(self) -> dict[str, Any]:
        schemas = {name: Record(record).schema() for name, record in self.types.items()}
        for name, schema in schemas.items():
            schema["properties"] = {**schema["properties"], "type": {"const": name}}
        return {"oneOf": list(schemas.values())}


def parameter(kind: Kind, *, default: Any = MISSING, name: str | None = None) -> Any:
    """A field of a parameter record. Without ``default`` the parameter is required."""
    metadata = {"kind": kind, "name": name}
    if isinstance(default, dict | list):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def written() -> Any:
    """A field that holds the names of the parameters the document really wrote (a ``frozenset[str]``)."""
    return dataclasses.field(default=frozenset(), metadata={"written": True})


@dataclass(frozen=True, slots=True)
class NoParameters:
    """The record of a method that takes none."""


@dataclass(frozen=True, slots=True)
class _Field:
    attribute: str
    kind: Kind
    required: bool


class Shape:
    """The parameters a record declares: reads an object into the record, or says what is wrong with it."""

    __slots__ = ("_written", "fields", "one_of", "record")

    def __init__(self, record: type[Any], one_of: Sequence[Sequence[str]] = ()) -> None:
        self.record = record
        self.one_of = tuple(tuple(group) for group in one_of)
        self.fields: dict[str, _Field] = {}
        self._written: str | None = None
        for field in dataclasses.fields(record):
            if field.metadata.get("written"):
                self._written = field.name
            elif "kind" in field.metadata:
                name = field.metadata["name"] or field.name.removesuffix("_")
                required = field.default is MISSING and field.default_factory is MISSING
                self.fields[name] = _Field(field.name, field.metadata["kind"], required)
            else:
                raise TypeError(f"{record.__name__}.{field.name} is not declared with parameter()")
        unknown = {name for group in self.one_of for name in group} - set(self.fields)
        if unknown:
            raise TypeError(f"{record.__name__}: one_of names {sorted(unknown)}, which it does not declare")

    def check(self, value: Mapping[str, Any], where: Where, checker: Checker) -> Any:
        """The record, a :class:`Later` that makes it, or REFUSED after noting everything wrong."""
        known: dict[str, Any] = {}
        later: list[tuple[str, Later]] = []
        refused = False
        given = self._given(value)
        for name, item in value.items():
            place = where.of_parameter(name)
            field = self.fields.get(name)
            if field is None:
                refused |= checker.found(UNDEFINED_PARAMETER, self._undefined(name), place) is REFUSED
                continue
            if name not in given:
                continue
            made = field.kind.check(item, place, checker)
            if made is REFUSED:
                refused = True
            elif isinstance(made, Later):
                later.append((field.attribute, made))
            else:
                known[field.attribute] = made
        for code, problem, name in self._incomplete(given):
            checker.found(code, problem, where.of_parameter(name))
            refused = True
        if refused:
            return REFUSED
        if self._written is not None:
            known[self._written] = frozenset(given)
        if later:
            return _Filled(self, known, tuple(later), where)
        try:
            return self.make(known, where)
        except ScriptError as problem:
            return checker.found(problem.code, problem.message, problem.where)

    def read(self, value: Mapping[str, Any], where: Where) -> Any:
        """The record of an expanded object. Raises ScriptError."""
        known: dict[str, Any] = {}
        given = self._given(value)
        for name in value:
            if name not in self.fields:
                wrong(UNDEFINED_PARAMETER, self._undefined(name), where.of_parameter(name))
        for code, problem, name in self._incomplete(given):
            wrong(code, problem, where.of_parameter(name))
        for name in given:
            field = self.fields[name]
            known[field.attribute] = field.kind.read(value[name], where.of_parameter(name))
        if self._written is not None:
            known[self._written] = frozenset(given)
        return self.make(known, where)

    def make(self, values: dict[str, Any], where: Where) -> Any:
        """The record itself; a check the record makes of its own gets its place here."""
        try:
            return self.record(**values)
        except ScriptError as problem:
            raise ScriptError(problem.code, problem.message, problem.where or where) from None

    def schema(self) -> dict[str, Any]:
        """The object as JSON Schema, in which unknown parameters are nothing wrong."""
        defaults = {field.name: field.default for field in dataclasses.fields(self.record)}
        properties = {
            name: field.kind.schema()
            if field.required
            else _given(**_or_null(field.kind.schema()), default=_default(field.kind, defaults[field.attribute]))
            for name, field in self.fields.items()
        }
        groups = [{"oneOf": [present(name) for name in group]} for group in self.one_of]
        return _given(
            type="object",
            description=inspect.getdoc(self.record),
            properties=properties or None,
            required=[name for name, field in self.fields.items() if field.required] or None,
            allOf=groups or None,
        )

    def _given(self, value: Mapping[str, Any]) -> list[str]:
        """The names that have a value: an optional parameter written as null is as good as not written."""
        fields = self.fields
        return [
            name
            for name, item in value.items()
            if name in fields and (item is not None or fields[name].kind.takes_null)
        ]

    def _incomplete(self, given: list[str]) -> list[tuple[str, str, str]]:
        """What is missing or too much, each as code, sentence and parameter."""
        wrongs = [
            (MISSING_PARAMETER, f"`{name}` is missing", name)
            for name, field in self.fields.items()
            if field.required and name not in given
        ]
        for group in self.one_of:
            present = [name for name in given if name in group]
            names = " or ".join(f"`{name}`" for name in group)
            if not present:
                wrongs.append((MISSING_PARAMETER, f"one of {names} is missing", group[0]))
            elif len(present) > 1:
                both = " and ".join(f"`{name}`" for name in present)
                wrongs.append((CONFLICT, f"{both} exclude each other; give one of {names}", present[1]))
        return wrongs

    def _undefined(self, name: str) -> str:
        if not self.fields:
            return f"there is no parameter {quoted(name)}: no parameters are taken here"
        hint = similar(name, self.fields) or f"; there are {', '.join(self.fields)}"
        return f"there is no parameter {quoted(name)}{hint}"


def present(name: str) -> dict[str, Any]:
    """JSON Schema of an object in which the optional parameter ``name`` is given."""
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of an optional parameter."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]} if schema else {}
    words = [*schema["enum"], None] if "enum" in schema else None
    return _given(**{**schema, "type": [schema["type"], "null"], "enum": words})


def _default(kind: Kind, default: Any) -> Any:
    """The default as a document could have it; None where nothing that can be written is as good as leaving it out."""
    written = list(default) if isinstance(default, tuple) else default
    if not isinstance(written, bool | int | float | str | list):
        return None
    try:
        kind.read(written, Where(""))
    except ScriptError:
        return None
    return written


@cache
def _shape(record: type, one_of: tuple[tuple[str, ...], ...]) -> Shape:
    return Shape(record, one_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One object of ``cond``: ``when`` with its ``then``, or an ``else``. ``where`` is the place of ``when``."""

    when: str | None
    then: Block
    where: Where


@dataclass(frozen=True, slots=True, kw_only=True)
class _WhenThen:
    when: str = parameter(Source())
    then: Block = parameter(Block_())
    else_: Block | None = parameter(Block_(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Else:
    else_: Block = parameter(Block_())


@dataclass(frozen=True)
class Branches(_Fixed):
    """The list ``cond`` takes; read as a tuple of :class:`Branch`, the ``else`` (if any) last."""

    expects: ClassVar[str] = "a list of conditions"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if not isinstance(value, list):
            return checker.found(WRONG_TYPE, f"{_name(where)} must be {self.expects}, not {_type_name(value)}", where)
        branches: list[Branch] = []
        otherwise: list[Branch] = []
        refused = False
        for index, item in enumerate(value):
            place = where.child(index)
            only_else = isinstance(item, dict) and "else" in item and not item.keys() & {"when", "then"}
            made = Record(_Else if only_else else _WhenThen).check(item, place, checker)
            if made is REFUSED or isinstance(made, Later):
                refused = True
                continue
            if not only_else:
                branches.append(Branch(when=made.when, then=made.then, where=place.of_parameter("when")))
            if made.else_ is not None:
                otherwise.append(Branch(when=None, then=made.else_, where=place.of_parameter("else")))
        if len(otherwise) > 1:
            return checker.found(CONFLICT, "there is more than one `else`", otherwise[1].where)
        return REFUSED if refused else (*branches, *otherwise)
