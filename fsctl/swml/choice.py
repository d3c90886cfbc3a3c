"""Choosing among blocks: ``cond`` by conditions, ``switch`` by a value.

The methods of these names, and the ``result`` of ``execute``, ``connect`` and ``join_conference``, which comes in
either form. Pure. Implements swml-calling: cond, switch, execute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fsctl.errors import ExpressionError, ScriptError
from fsctl.swml.flow import Enter
from fsctl.swml.parameters import REFUSED, Block_, Branch, Branches, Cases, Kind, Later, Record, Source, parameter
from fsctl.swml.template import has_placeholder, parse_path
from fsctl.swml.values import quoted, short, to_text, truthy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Block, Where
    from fsctl.swml.parameters import Checker
    from fsctl.swml.scope import Scope

__all__ = ["Cond", "Result", "ResultSwitch", "Switch", "Variable"]


class Variable(Source):
    """The name of a variable, without a wrapper."""

    expects: ClassVar[str] = "the name of a variable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cond:
    """Conditions in order, then what runs when none holds."""

    branches: tuple[Branch, ...] = parameter(Branches())

    def choose(self, scope: Scope) -> Enter | None:
        """The block of the first true condition, or of ``else``; None when there is none."""
        for branch in self.branches:
            if branch.when is None or self._holds(branch.when, branch.where, scope):
                return Enter(branch.then)
        return None

    @staticmethod
    def _holds(when: str, where: Where, scope: Scope) -> bool:
        try:
            return truthy(scope.evaluate(when))
        except ExpressionError as problem:
            raise ScriptError("relay_script_js_eval_error", str(problem), where) from problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """Blocks by the text of a variable's value."""

    variable: str = parameter(Variable())
    case: Mapping[str, Block] = parameter(Cases())
    default: Block | None = parameter(Block_(), default=None)

    def choose(self, scope: Scope) -> Enter:
        """The block of the matching case, or the default. Raises ScriptError when there is neither."""
        value = to_text(self._value(scope))
        block = self.case.get(value, self.default)
        if block is None:
            raise ScriptError(
                "relay_script_method_no_matching_condition",
                f"{quoted(self.variable)} is {short(value)!r}; no case matches and there is no default",
            )
        return Enter(block)

    def _value(self, scope: Scope) -> Any:
        if has_placeholder(self.variable):
            return scope.expand(self.variable)
        if parse_path(self.variable) is not None:
            return scope.lookup(self.variable)
        return scope.evaluate(self.variable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSwitch(Switch):
    """A switch that looks at ``return_value`` unless told otherwise."""

    variable: str = parameter(Variable(), default="return_value")
    case: Mapping[str, Block] = parameter(Cases())
    default: Block | None = parameter(Block_(), default=None)


@dataclass(frozen=True)
class Result(Kind):
    """What to do with a result: a list is a ``cond``, an object a ``switch``; read as what can ``choose``."""

    expects: ClassVar[str] = "a list of conditions or an object of cases"

    def check(self, value: Any, where: Where, checker: Checker) -> Any:
        if isinstance(value, dict):
            return Record(ResultSwitch).check(value, where, checker)
        made = Branches().check(value, where, checker)
        return made if made is REFUSED or isinstance(made, Later) else Cond(branches=made)
