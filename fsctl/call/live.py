"""Live commands: what REST may ask of a call that is up. One registry, one declaration a command, in its method's file.

::

    @live_command("calling.play", PlayCommand, opens="play")
    def play(call: Call, params: PlayCommand) -> None: ...

    @live_command("calling.play.pause", ControlId, on="play")
    def pause(control: Control, params: ControlId) -> None: ...

A command that opens a control finds a free ``control_id`` in its parameters; one that acts ``on`` a control gets that
control. Functions return as soon as FreeSWITCH has taken what they ask; what comes of it is told by events. Knows no
command by heart, no HTTP server and no network. Implements calling-api, sections 1, 2 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from fsctl.errors import ApiError, CommandFailed, FetchError, LegGone, ScriptError
from fsctl.identity import new_id
from fsctl.swml.document import Where
from fsctl.swml.parameters import (
    CONFLICT,
    MISSING_PARAMETER,
    REFUSED,
    UNDEFINED_PARAMETER,
    WRONG_TYPE,
    Later,
    NoParameters,
    Shape,
    Text,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from fsctl.call.call import Call
    from fsctl.swml.parameters import Refused

__all__ = ["MISSING", "Command", "Commands", "ControlId", "RequestInvalid", "lifted", "live_command"]

Params = TypeVar("Params")

# A control id is a client's word for one operation; it comes back in every event of it.
CONTROL_ID = Text(min_length=1, max_length=255)

MISSING: Mapping[str, str] = {
    "calling.disconnect": "connect",
    "calling.refer": "sip_refer",
    "calling.transcribe": "transcribe",
    "calling.transcribe.stop": "transcribe",
    "calling.live_transcribe": "live_transcribe",
    "calling.live_translate": "live_translate",
    "calling.ai_hold": "ai",
    "calling.ai_unhold": "ai",
    "calling.ai_message": "ai",
    "calling.ai.stop": "ai",
    "calling.ai_sidecar": "ai_sidecar",
    "calling.ai_sidecar.poke": "ai_sidecar",
    "calling.ai_sidecar.ask": "ai_sidecar",
    "calling.ai_sidecar.stop": "ai_sidecar",
    "calling.ai_sidecar.status": "ai_sidecar",
    "calling.send_fax.stop": "send_fax",
    "calling.receive_fax.stop": "receive_fax",
}
"""Commands of the published API that fsctl does not have, each with the method it would need."""

_CODES = {
    MISSING_PARAMETER: "missing_required_parameter",
    CONFLICT: "incompatible_parameters",
    UNDEFINED_PARAMETER: "invalid_parameter",
}
_TYPES = {
    "text": "not_a_string",
    "a URL": "not_an_http_url",
    "true or false": "not_a_boolean",
    "an object": "not_a_hash",
    "a list": "not_an_array_of_strings",
    "a list of objects": "not_an_array_of_hashes",
}


class RequestInvalid(ApiError):
    """Well-formed, but wrong: every finding at once, each with its own code and attribute."""

    def __init__(self, findings: Sequence[tuple[str, str, str | None]]) -> None:
        code, message, attribute = findings[0]
        super().__init__(422, code, message, attribute=attribute)
        self.findings = tuple(findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlId:
    """The parameters of a command that needs nothing but to know which operation is meant."""

    control_id: str = parameter(CONTROL_ID)


@dataclass(frozen=True, slots=True, eq=False)
class Command:
    """A command as REST sees it.

    ``opens`` is the kind of control it starts, ``on`` the kind it acts on; ``states`` those of the call it is allowed
    in; ``tidy`` brings what real clients send into the documented form before it is checked.
    """

    name: str
    function: Callable[[Any, Any], Mapping[str, Any] | None]
    shape: Shape
    opens: str | None
    on: str | None
    states: frozenset[str]
    tidy: Callable[[dict[str, Any]], dict[str, Any]] | None

    def read(self, params: Mapping[str, Any], *, strict: bool) -> tuple[Any, tuple[str, ...]]:
        """The parameters as the command's record, and the names of those that nobody knows.

        ``strict`` makes unknown parameters errors. Raises RequestInvalid.
        """
        given = dict(params)
        if self.tidy is not None:
            given = self.tidy(given)
        if self.opens is not None and given.get("control_id") is None:
            given["control_id"] = new_id()
        return read(self.shape, given, strict=strict)

    def run(self, call: Call, params: Any) -> Mapping[str, Any]:
        """Do it. The answer is what the response says beyond the call. Raises ApiError."""
        if call.state not in self.states:
            raise ApiError(
                422,
                "invalid_state",
                f"{self.name} needs a call that is {_words(self.states)}; this one is {call.state or 'queued'}",
            )
        subject: Any = call
        if self.on is not None:
            subject = call.controls.find(self.on, params.control_id)
            if subject is None:
                if call.controls.knew(self.on, params.control_id):
                    return {}  # it ended by itself in the meantime
                raise ApiError(
                    422,
                    "provided_id_is_unrecognized",
                    f"no {self.on} with the control_id {params.control_id[:80]!r} runs on this call",
                    attribute="control_id",
                )
        elif self.opens is not None and call.controls.find(self.opens, params.control_id) is not None:
            raise ApiError(
                422,
                "value_not_unique",
                f"a {self.opens} with the control_id {params.control_id[:80]!r} is running on this call already",
                attribute="control_id",
            )
        try:
            extra = self.function(subject, params) or {}
        except LegGone:
            raise ApiError(422, "invalid_state", "the call has just ended") from None
        except ScriptError as problem:
            raise ApiError(422, "invalid_parameter", problem.message) from problem
        except FetchError as problem:
            code = "url_is_unsafe" if problem.reason == "address" else "url_failed_to_parse"
            raise ApiError(422, code, str(problem)) from problem
        except CommandFailed as problem:
            raise ApiError(422, "call_update_failed", problem.reply or str(problem)) from problem
        return {**({"control_id": params.control_id} if self.opens is not None else {}), **extra}


def live_command(
    name: str,
    record: type[Params] = NoParameters,  # type: ignore[assignment]
    *,
    opens: str | None = None,
    on: str | None = None,
    one_of: Sequence[Sequence[str]] = (),
    states: Iterable[str] = ("answered",),
    tidy: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> Callable[[Callable[[Any, Params], Mapping[str, Any] | None]], Command]:
    """Make ``function(call, params)``, or ``function(control, params)`` with ``on``, the command ``name``."""
    shape = Shape(record, one_of)
    if (opens or on) and "control_id" not in shape.fields:
        raise TypeError(f"{name}: {record.__name__} declares no control_id")

    def declare(function: Callable[[Any, Params], Mapping[str, Any] | None]) -> Command:
        return Command(name, function, shape, opens, on, frozenset(states), tidy)

    return declare


def lifted(value: Any) -> Any:
    """``{"type", "params"}`` as documented, where the official client's examples leave out ``params``.

    They write what belongs there beside the ``type``. Anything else is given back as it is, to be refused.
    """
    if not isinstance(value, dict):
        return value
    params = {} if value.get("params") is None else value["params"]
    if not isinstance(params, dict):
        return value
    beside = {name: each for name, each in value.items() if name not in ("type", "params")}
    return {**({"type": value["type"]} if "type" in value else {}), "params": {**beside, **params}}


class Commands:
    """The commands there are, by name."""

    def __init__(self, commands: Iterable[Command] = ()) -> None:
        self._commands: dict[str, Command] = {}
        for each in commands:
            if each.name in self._commands:
                raise ValueError(f"the command {each.name} is declared twice")
            self._commands[each.name] = each

    def get(self, name: str) -> Command | None:
        """The command called ``name``, or None."""
        return self._commands.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in alphabetical order."""
        return tuple(sorted(self._commands))

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())

    def __len__(self) -> int:
        return len(self._commands)


# -- reading parameters ------------------------------------------------------------------------------------------


def read(shape: Shape, given: Mapping[str, Any], *, strict: bool) -> tuple[Any, tuple[str, ...]]:
    """``given`` as the record of ``shape``, and the names nobody knows. Raises RequestInvalid with all findings.

    The rules are those of a document's parameters, except that nothing is expanded: ``${…}`` is text.
    """
    findings = _Findings(strict=strict)
    made = shape.check(given, Where(""), findings)  # type: ignore[arg-type]  # nothing in a command is a script
    if isinstance(made, Later) and not findings.found_any:
        try:
            made = made.read(_AS_WRITTEN)
        except ScriptError as problem:
            findings.found(problem.code, problem.message, problem.where)
    if findings.found_any or made is REFUSED:
        raise RequestInvalid(findings.items)
    return made, tuple(findings.ignored)


class _AsWritten:
    """Expands nothing."""

    @staticmethod
    def expand(value: Any) -> Any:
        return value


_AS_WRITTEN = _AsWritten()


class _Findings:
    """Notes what is wrong; overlooks unknown parameters unless it is to be strict."""

    def __init__(self, *, strict: bool) -> None:
        self.items: list[tuple[str, str, str | None]] = []
        self.ignored: list[str] = []
        self._strict = strict

    @property
    def found_any(self) -> bool:
        return bool(self.items)

    def found(self, code: str, message: str, where: Where | None) -> Refused | None:
        attribute = ".".join(map(str, where.path)) or None if where is not None else None
        if code == UNDEFINED_PARAMETER and not self._strict:
            self.ignored.append((attribute or "")[:80])
            return None
        self.items.append((_code(code, message), message, attribute))
        return REFUSED


def _code(code: str, message: str) -> str:
    if code == WRONG_TYPE:
        wanted = message.partition(" must be ")[2].partition(", not ")[0]
        return _TYPES.get(wanted, "invalid_parameter")
    if " must be a URL " in message:
        return "not_an_http_url"
    return _CODES.get(code, "invalid_parameter")


def _words(states: Iterable[str]) -> str:
    return " or ".join(sorted(states))
