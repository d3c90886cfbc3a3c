"""Where a name is looked up, and what becomes of a value with placeholders.

Four roots: ``call`` and ``envs`` are given, ``params`` belong to one run of a section, ``vars`` to the whole call.
A name without a root is sought in vars, then envs, then call. What a placeholder gives is never expanded again.
Pure. Implements swml-calling: variables, placeholders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fsctl.swml.expression import evaluate
from fsctl.swml.template import has_placeholder, parse_path, parse_template
from fsctl.swml.values import to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsctl.swml.expression import Evaluator
    from fsctl.swml.template import Path, Placeholder

__all__ = ["MISSING", "Scope"]

MISSING: Final = object()
"""What :meth:`Scope.find` answers for a path that leads nowhere."""


class Scope:
    """The variables one section sees. ``call`` may be a function when its fields change during the call.

    ``vars`` is shared by everyone and changed in place; the other roots are never changed from here.
    ``evaluator`` answers what only JavaScript can (see :mod:`fsctl.swml.expression`).
    """

    __slots__ = ("_call", "envs", "evaluator", "params", "vars")

    def __init__(
        self,
        call: Callable[[], Mapping[str, Any]] | Mapping[str, Any],
        vars: dict[str, Any],  # noqa: A002 - the language's word
        envs: Mapping[str, Any],
        params: Mapping[str, Any],
        evaluator: Evaluator,
    ) -> None:
        self._call = call
        self.vars = vars
        self.envs = envs
        self.params = params
        self.evaluator = evaluator

    @property
    def call(self) -> Mapping[str, Any]:
        """The ``call`` object as it is now."""
        return self._call() if callable(self._call) else self._call

    @property
    def names(self) -> dict[str, Mapping[str, Any]]:
        """The four roots by name, as an expression sees them."""
        return {"call": self.call, "params": self.params, "vars": self.vars, "envs": self.envs}

    def child(self, params: Mapping[str, Any]) -> Scope:
        """The scope of a section run with ``params``: everything else is shared."""
        return Scope(self._call, self.vars, self.envs, params, self.evaluator)

    def root(self, name: str) -> Any:
        """What the first name of a path stands for, or :data:`MISSING`."""
        if name == "vars":
            return self.vars
        if name == "params":
            return self.params
        if name == "call":
            return self.call
        if name == "envs":
            return self.envs
        if name in self.vars:
            return self.vars[name]
        if name in self.envs:
            return self.envs[name]
        return self.call.get(name, MISSING)

    def find(self, path: Path) -> Any:
        """The value at ``path``, or :data:`MISSING`."""
        value = self.root(str(path[0]))
        for key in path[1:]:
            value = _member(value, key)
            if value is MISSING:
                break
        return value

    def lookup(self, path: str) -> Any:
        """The value at a plain path such as ``call.from`` or ``items[0].name``, or None."""
        keys = parse_path(path)
        value = MISSING if keys is None else self.find(keys)
        return None if value is MISSING else value

    def expand(self, value: Any) -> Any:
        """``value`` with every placeholder in its strings replaced, at any depth.

        A string that is one placeholder becomes the value itself, with its type (a path with no value: ``""``);
        in a longer string the value is converted to text. Lists and objects come back as new ones; keys stay.
        Raises :class:`fsctl.errors.ExpressionError`.
        """
        if isinstance(value, str):
            return self._expand_text(value) if has_placeholder(value) else value
        if isinstance(value, dict):
            return {key: self.expand(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.expand(item) for item in value]
        return value

    def evaluate(self, source: str) -> Any:
        """The value of a raw JavaScript expression such as the ``when`` of a ``cond``.

        Placeholders in it are replaced by text first, so a text value must be quoted around its placeholder.
        Raises :class:`fsctl.errors.ExpressionError`.
        """
        if has_placeholder(source):
            source = self._as_text(source)
        return evaluate(source, self)

    def _expand_text(self, text: str) -> Any:
        parts = parse_template(text)
        if len(parts) == 1 and not isinstance(parts[0], str):
            return self._fill(parts[0])
        return self._as_text(text)

    def _as_text(self, text: str) -> str:
        return "".join(part if isinstance(part, str) else to_text(self._fill(part)) for part in parse_template(text))

    def _fill(self, placeholder: Placeholder) -> Any:
        if placeholder.path is not None:
            value = self.find(placeholder.path)
            return "" if value is MISSING else value
        return evaluate(placeholder.body, self) if placeholder.body else ""


def _member(value: Any, key: str | int) -> Any:
    if isinstance(value, list | tuple):
        if isinstance(key, str) and key.isdecimal():
            key = int(key) if len(key) < 10 else -1
        return value[key] if isinstance(key, int) and 0 <= key < len(value) else MISSING
    if hasattr(value, "get"):
        return value.get(str(key), MISSING)
    return MISSING
