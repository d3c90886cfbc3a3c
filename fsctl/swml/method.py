"""Declaring a method and finding it by name.

::

    @method("play", Play, shorthand="url", one_of=(("url", "urls"),))
    def play(call: Call, params: Play) -> None: ...

    @flow_method("cond", Cond, whole=True)
    def cond(scope: Scope, params: Cond) -> Flow | None: ...

A method acts on the call; a flow method decides where the script goes on and sees only the scope. Either returns
a value of :mod:`fsctl.swml.flow` or None. Knows no method by heart but the published names. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from fsctl.swml.parameters import REFUSED, Later, NoParameters, Refused, Shape, similar
from fsctl.swml.values import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fsctl.swml.document import Where
    from fsctl.swml.flow import Flow
    from fsctl.swml.parameters import Checker, Expander, Kind

__all__ = ["PUBLISHED", "Method", "Methods", "flow_method", "method"]

Params = TypeVar("Params")

PUBLISHED = frozenset(
    """
    ai ai_sidecar amazon_bedrock answer cond connect denoise detect_machine enter_queue execute goto hangup
    join_conference join_room label live_transcribe live_translate pay play prompt receive_fax record record_call
    request return send_digits send_fax send_sms set sip_refer sleep stop_denoise stop_record_call stop_stream
    stop_tap stream switch tap transcribe transcribe_stop transfer unset user_event
    """.split()  # noqa: SIM905 - a paragraph, not a page
)
"""Every method of the published language, whether fsctl runs it or not."""


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A method as the language sees it. Calling it calls its function.

    ``shorthand`` is the parameter a bare value stands for (``play: "say:hi"``); ``one_of`` groups of parameters
    exactly one of which must be given; ``result`` the variable that tells how it went; ``flow`` whether
    its function takes the scope instead of the call; ``whole`` the kind of a method whose value is its one parameter;
    ``unexpanded`` that this value is left as written.
    """

    name: str
    function: Callable[[Any, Any], Flow | None]
    shape: Shape
    shorthand: str | None
    result: str | None
    flow: bool
    whole: Kind | None
    unexpanded: bool

    @property
    def record(self) -> type[Any]:
        """The class of its parameter record."""
        return self.shape.record

    @property
    def one_of(self) -> tuple[tuple[str, ...], ...]:
        """The groups of parameters exactly one of which must be given."""
        return self.shape.one_of

    def __call__(self, subject: Any, params: Any) -> Flow | None:
        """Run it: ``subject`` is the call, or the scope for a flow method."""
        return self.function(subject, params)

    def __repr__(self) -> str:
        return f"<method {self.name}>"

    def normalised(self, value: Any) -> Any:
        """``value`` in the object spelling."""
        if self.whole is not None:
            return value
        if value is None:
            return {}
        if self.shorthand is not None and isinstance(value, str | int | float):
            return {self.shorthand: value}
        return value

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        """The record of a normalised value, a :class:`Later` that makes it, or REFUSED after noting why."""
        if self.whole is not None:
            return self._check_whole(self.whole, value, where.named(self.name), checker)
        if not isinstance(value, dict):
            problem = f"`{self.name}` takes an object of parameters, not {_type_word(value)}"
            return checker.found("relay_script_element_wrong_type", problem, where)
        return self.shape.check(value, where, checker)

    def _check_whole(self, kind: Kind, value: Any, where: Where, checker: Checker) -> Any:
        made = kind.check(value, where, checker)
        if isinstance(made, Refused):
            return REFUSED
        (field,) = self.shape.fields.values()
        if isinstance(made, Later):
            if not self.unexpanded:
                return _Whole(self.shape, field.attribute, made, where)
            made = value
        return self.shape.make({field.attribute: made}, where)


@dataclass(frozen=True, slots=True)
class _Whole(Later):
    shape: Shape
    attribute: str
    later: Later
    where: Where

    def read(self, scope: Expander) -> Any:
        return self.shape.make({self.attribute: self.later.read(scope)}, self.where)


def _type_word(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "true or false" if isinstance(value, bool) else "a number"


def _declare(
    name: str,
    record: type[Any],
    *,
    shorthand: str | None,
    one_of: Sequence[Sequence[str]],
    result: str | None,
    flow: bool,
    whole: Kind | bool,
    unexpanded: bool,
) -> Callable[[Callable[[Any, Any], Flow | None]], Method]:
    shape = Shape(record, one_of)
    if whole and len(fields(record)) != 1:
        raise TypeError(f"{name}: a method taken whole has a record with one field")
    if shorthand is not None and shorthand not in shape.fields:
        raise TypeError(f"{name}: shorthand names {shorthand!r}, which {record.__name__} does not declare")
    if whole is True:
        (field,) = shape.fields.values()
        whole = field.kind
    kind = whole or None

    def declare(function: Callable[[Any, Any], Flow | None]) -> Method:
        return Method(name, function, shape, shorthand, result, flow, kind, unexpanded)

    return declare


def method(
    name: str,
    record: type[Params] = NoParameters,  # type: ignore[assignment]
    *,
    shorthand: str | None = None,
    one_of: Sequence[Sequence[str]] = (),
    result: str | None = None,
    whole: Kind | bool = False,
    unexpanded: bool = False,
) -> Callable[[Callable[[Any, Params], Flow | None]], Method]:
    """Make ``function(call, params)`` the method ``name``; see :class:`Method` for the rest."""
    return _declare(
        name,
        record,
        shorthand=shorthand,
        one_of=one_of,
        result=result,
        flow=False,
        whole=whole,
        unexpanded=unexpanded,
    )


def flow_method(
    name: str,
    record: type[Params] = NoParameters,  # type: ignore[assignment]
    *,
    shorthand: str | None = None,
    one_of: Sequence[Sequence[str]] = (),
    whole: Kind | bool = False,
    unexpanded: bool = False,
) -> Callable[[Callable[[Any, Params], Flow | None]], Method]:
    """Make ``function(scope, params)`` the flow method ``name``: what goes wrong in it ends the script."""
    return _declare(
        name,
        record,
        shorthand=shorthand,
        one_of=one_of,
        result=None,
        flow=True,
        whole=whole,
        unexpanded=unexpanded,
    )


class Methods:
    """The methods a script may use, by name."""

    def __init__(self, methods: Iterable[Method] = ()) -> None:
        self._methods: dict[str, Method] = {}
        for each in methods:
            if each.name in self._methods:
                raise ValueError(f"the method {each.name} is declared twice")
            self._methods[each.name] = each

    def get(self, name: str) -> Method | None:
        """The method called ``name``, or None."""
        return self._methods.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in alphabetical order."""
        return tuple(sorted(self._methods))

    def __iter__(self) -> Iterator[Method]:
        return iter(self._methods.values())

    def __len__(self) -> int:
        return len(self._methods)

    def __contains__(self, name: object) -> bool:
        return name in self._methods

    def undefined(self, name: str) -> str:
        """Why there is no method ``name``, in a sentence: not here yet, or a slip."""
        if name in PUBLISHED:
            return f"`{name}` is a method of SWML that fsctl does not run yet; remove it or do without it"
        return f"there is no method {quoted(name)}{similar(name, PUBLISHED | self._methods.keys())}"
