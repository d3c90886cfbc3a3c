"""Expressions of a script: the simple ones answered here, the rest handed to a JavaScript engine.

Answered here are paths, literals, comparisons and ``! && ||`` between them, and only where the answer is exactly
JavaScript's: whatever needs a prototype, a rarer conversion or a name nobody defined is handed over, unevaluated.
Not here: the engine itself, its time and its memory. Pure.

Values cross as JSON: ``undefined`` and ``null`` are both None, NaN and the infinities are Python's floats.
Implements swml-calling: JavaScript.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from fsctl.errors import ExpressionError
from fsctl.swml.values import truthy

if TYPE_CHECKING:
    from fsctl.swml.scope import Scope

__all__ = ["MAX_LENGTH", "Evaluator", "evaluate", "truthy"]

MAX_LENGTH = 1024
"""An expression must be shorter than this many characters."""

Evaluator: TypeAlias = Callable[[str, Mapping[str, Any]], Any]
"""Evaluates JavaScript: the source, and the roots ``call``, ``params``, ``vars`` and ``envs``. Raises ExpressionError.

The engine adds the names without a root itself, in the order vars, envs, call.
"""


def evaluate(source: str, scope: Scope) -> Any:
    """The value of the JavaScript expression ``source``. Raises :class:`fsctl.errors.ExpressionError`."""
    if len(source) >= MAX_LENGTH:
        raise ExpressionError(source, f"an expression must be shorter than {MAX_LENGTH} characters")
    simple = _compiled(source)
    if simple is not None:
        try:
            value = simple(scope)
        except _HandOver:
            pass
        else:
            return None if value is _UNDEFINED else value
    return scope.evaluator(source, scope.names)


class _HandOver(Exception):
    """Only JavaScript knows."""


_UNDEFINED: Final = object()
_Node: TypeAlias = Callable[["Scope"], Any]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
      | (?P<number>(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?![A-Za-z0-9_$.]))
      | (?P<text>'[^'\\\n\r\u2028\u2029]*'|"[^"\\\n\r\u2028\u2029]*")
      | (?P<mark>===|!==|==|!=|<=|>=|&&|\|\||[<>!().\[\]-])
    )""",
    re.VERBOSE | re.ASCII,
)

_LITERALS: Final[Mapping[str, Any]] = {"true": True, "false": False, "null": None, "undefined": _UNDEFINED}

# Words that are not names in JavaScript, or mean something of their own there.
_RESERVED = frozenset(
    """
    arguments async await break case catch class const continue debugger default delete do else enum eval export
    extends finally for function globalThis if implements import in instanceof interface let new of package private
    protected public return static super switch this throw try typeof var void while with yield NaN Infinity
    """.split()  # noqa: SIM905 - a paragraph, not a page
)

# What every object has without having it.
_INHERITED = frozenset(
    """
    __defineGetter__ __defineSetter__ __lookupGetter__ __lookupSetter__ __proto__ constructor hasOwnProperty
    isPrototypeOf propertyIsEnumerable toLocaleString toString valueOf
    """.split()  # noqa: SIM905 - a paragraph, not a page
)

_EXACT = 2**53  # up to here an int and a double are the same number


@lru_cache(maxsize=2048)
def _compiled(source: str) -> _Node | None:
    """A function of the scope for a simple expression, or None."""
    tokens: list[tuple[str, str]] = []
    at = 0
    text = source.strip(" \t\r\n")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            return None
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    try:
        return _Parser(tokens).parse()
    except (_HandOver, RecursionError):
        return None


class _Parser:
    """Precedence climbing over the few operators answered here; anything else raises _HandOver."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    def parse(self) -> _Node:
        node = self._either()
        if self._at < len(self._tokens):
            raise _HandOver
        return node

    def _peek(self) -> str:
        """The next operator, or an empty string."""
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        return text if kind == "mark" else ""

    def _took(self, mark: str) -> bool:
        if self._peek() != mark:
            return False
        self._at += 1
        return True

    def _either(self) -> _Node:
        left = self._both()
        while self._took("||"):
            left = _or(left, self._both())
        return left

    def _both(self) -> _Node:
        left = self._binary(_EQUALITIES, lambda: self._binary(_RELATIONS, self._unary))
        while self._took("&&"):
            left = _and(left, self._binary(_EQUALITIES, lambda: self._binary(_RELATIONS, self._unary)))
        return left

    def _binary(self, operators: Mapping[str, Callable[[Any, Any], bool]], operand: Callable[[], _Node]) -> _Node:
        left = operand()
        while (compare := operators.get(self._peek())) is not None:
            self._at += 1
            left = _comparison(compare, left, operand())
        return left

    def _unary(self) -> _Node:
        if self._took("!"):
            return _not(self._unary())
        if self._took("("):
            node = self._either()
            if not self._took(")"):
                raise _HandOver
            if self._peek() in (".", "["):
                raise _HandOver
            return node
        return self._operand()

    def _operand(self) -> _Node:
        negative = self._took("-")
        kind, text = self._take()
        if kind == "number":
            number = float(text) if "." in text else int(text)
            value: Any = -number if negative and number else -0.0 if negative else number
            return self._alone(lambda _: value)
        if negative:
            raise _HandOver
        if kind == "text":
            content = text[1:-1]
            return self._alone(lambda _: content)
        if kind != "name" or text in _RESERVED:
            raise _HandOver
        if text in _LITERALS:
            literal = _LITERALS[text]
            return self._alone(lambda _: literal)
        return _path(text, self._keys())

    def _take(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise _HandOver
        self._at += 1
        return self._tokens[self._at - 1]

    def _alone(self, node: _Node) -> _Node:
        """A literal, which must not be followed by a member access."""
        if self._peek() in (".", "["):
            raise _HandOver
        return node

    def _keys(self) -> tuple[str | int, ...]:
        keys: list[str | int] = []
        while True:
            if self._took("."):
                kind, text = self._take()
                if kind != "name":
                    raise _HandOver
                keys.append(text)
            elif self._took("["):
                kind, text = self._take()
                if kind == "number" and "." not in text:
                    keys.append(int(text))
                elif kind == "text":
                    keys.append(text[1:-1])
                else:
                    raise _HandOver
                if not self._took("]"):
                    raise _HandOver
            else:
                return tuple(keys)


def _or(left: _Node, right: _Node) -> _Node:
    def node(scope: Scope) -> Any:
        value = left(scope)
        return value if _true(value) else right(scope)

    return node


def _and(left: _Node, right: _Node) -> _Node:
    def node(scope: Scope) -> Any:
        value = left(scope)
        return right(scope) if _true(value) else value

    return node


def _not(operand: _Node) -> _Node:
    return lambda scope: not _true(operand(scope))


def _comparison(compare: Callable[[Any, Any], bool], left: _Node, right: _Node) -> _Node:
    return lambda scope: compare(left(scope), right(scope))


def _path(root: str, keys: tuple[str | int, ...]) -> _Node:
    def node(scope: Scope) -> Any:
        value = _root(root, scope)
        for key in keys:
            value = _member(value, key)
        return value

    return node


def _root(name: str, scope: Scope) -> Any:
    value = scope.root(name)
    # Anything but JSON is either the scope's mark for "no such name" or nothing we can vouch for.
    if value is None or isinstance(value, str | bool | int | float | list | Mapping):
        return value
    raise _HandOver


def _member(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        name = str(key)
        if name in value:
            if name == "__proto__":
                raise _HandOver
            return value[name]
        if name in _INHERITED:
            raise _HandOver
        return _UNDEFINED
    if isinstance(value, list) and isinstance(key, int):
        return value[key] if key < len(value) else _UNDEFINED
    raise _HandOver


def _true(value: Any) -> bool:
    return value is not _UNDEFINED and truthy(value)


# Comparing as JavaScript does


def _type(value: Any) -> str:
    if value is _UNDEFINED:
        return "undefined"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return "string" if isinstance(value, str) else "object"


def _number(value: Any) -> float:
    """JavaScript's ToNumber of a value that is not an object, where it is certain."""
    if isinstance(value, str):
        return _number_in(value)
    if value is None:
        return 0
    if value is _UNDEFINED:
        return math.nan
    if isinstance(value, int) and abs(value) > _EXACT:
        raise _HandOver
    return float(value)


_DECIMAL = re.compile(r"[-+]?(?:[0-9]{1,15}\.?[0-9]{0,15}|\.[0-9]{1,15})(?:[eE][-+]?[0-9]{1,2})?", re.ASCII)
_NOT_A_NUMBER = re.compile(r"[A-HJ-Za-z#*?!,;/_ ][ -~]*", re.ASCII)


def _number_in(text: str) -> float:
    if not text.isascii():
        raise _HandOver
    text = text.strip(" \t\r\n\f\v")
    if not text:
        return 0
    if _DECIMAL.fullmatch(text):
        return float(text)
    if _NOT_A_NUMBER.fullmatch(text):
        return math.nan
    raise _HandOver


def _strictly_equal(left: Any, right: Any) -> bool:
    kind = _type(left)
    if kind != _type(right):
        return False
    if kind == "object":
        raise _HandOver
    if kind == "number":
        return _number(left) == _number(right)
    return kind in ("null", "undefined") or bool(left == right)


def _loosely_equal(left: Any, right: Any) -> bool:
    kinds = {_type(left), _type(right)}
    if len(kinds) == 1:
        return _strictly_equal(left, right)
    if kinds & {"null", "undefined"}:
        return kinds == {"null", "undefined"}
    if "object" in kinds:
        raise _HandOver
    return _number(left) == _number(right)


def _related(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def related(left: Any, right: Any) -> bool:
        kinds = {_type(left), _type(right)}
        if "object" in kinds:
            raise _HandOver
        if kinds == {"string"}:
            # JavaScript orders by UTF-16 units, Python by characters: the same below the surrogates.
            if max(left + right, default="") >= "\ud800":
                raise _HandOver
            return compare(left, right)
        return compare(_number(left), _number(right))

    return related


_EQUALITIES: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "===": _strictly_equal,
    "!==": lambda left, right: not _strictly_equal(left, right),
    "==": _loosely_equal,
    "!=": lambda left, right: not _loosely_equal(left, right),
}
_RELATIONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": _related(operator.lt),
    ">": _related(operator.gt),
    "<=": _related(operator.le),
    ">=": _related(operator.ge),
}
