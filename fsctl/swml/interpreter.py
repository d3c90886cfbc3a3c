"""Runs a checked document: the only mover of the pointer.

Knows frames, subroutines, budgets and what an error means for the script. Knows no method, no FreeSWITCH and no
network: documents behind a URL come from ``load``, what happens is told to an observer. Pure.

What is fatal: everything that goes wrong in a flow method or in following its answer. Anything else that fails
becomes the method's result variable, a warning, and the next instruction.
Implements swml-calling: execution, execute, transfer, goto, return.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from fsctl.errors import CommandFailed, ExpressionError, FetchError, FsctlError, Interrupted, LegGone, ScriptError
from fsctl.swml.check import compile_inline
from fsctl.swml.document import Document
from fsctl.swml.flow import Choose, Enter, Execute, Jump, Return, Stop, Transfer
from fsctl.swml.parameters import INVALID_VALUE, is_inline, is_url
from fsctl.swml.values import copied, quoted, to_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.document import Block, Instruction
    from fsctl.swml.flow import Choice, Flow
    from fsctl.swml.method import Methods
    from fsctl.swml.scope import Scope

__all__ = ["Interpreter", "Limits", "Load", "Observer"]

INTERNAL_ERROR = "relay_script_internal_error"
EXECUTE_FAILED = "relay_script_method_execute_failed"
JS_ERROR = "relay_script_js_eval_error"

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Limits:
    """What one script may use up.

    ``max_jumps`` counts transfers and gotos of a call together, ``max_jumps_without_input`` those since the caller
    last did something; ``max_execute_depth`` subroutines within subroutines; ``max_documents`` documents reached
    one from within the other; ``max_steps`` instructions in all. ``stringify_params`` makes the numbers and
    booleans given to ``execute`` and ``transfer`` text, as the reference's examples show.
    """

    max_jumps: int = 32
    max_jumps_without_input: int = 8
    max_execute_depth: int = 32
    max_documents: int = 32
    max_steps: int = 10_000
    stringify_params: bool = True


class Load(Protocol):
    """Fetches the document at a URL. ``kind`` is ``execute`` or ``transfer``."""

    def __call__(self, dest: str, params: Mapping[str, Any], kind: str) -> Document:
        """The checked document. Raises FetchError or ScriptError."""


class Observer(Protocol):
    """Is told what the script does, as it does it. Must not raise.

    A refused command (CommandFailed) is told by ``finished`` alone; every other failure the script survives also
    by ``warning``, before. What ends the script is raised.
    """

    def starting(self, instruction: Instruction) -> None:
        """``instruction`` is about to run."""

    def finished(self, instruction: Instruction, outcome: str, problem: BaseException | None) -> None:
        """It ended: ``ok``, ``failed`` (the script goes on), ``error`` (it does not) or ``hangup``."""

    def warning(self, code: str, message: str, instruction: Instruction) -> None:
        """Something in ``instruction`` is wrong and the script goes on."""


class _Activation:
    """One run of a section: what its instructions share."""

    __slots__ = ("caller", "depth", "document", "documents", "flow", "jumps", "returned_before", "scope")

    def __init__(self, document: Document, scope: Scope, documents: int) -> None:
        self.document = document
        self.scope = scope
        self.documents = documents
        self.depth = 0
        self.jumps: dict[tuple[int, int], int] = {}
        # Of a subroutine: the instruction that called it, what that asked for, and the return value until then.
        self.caller: Instruction | None = None
        self.flow: Execute | None = None
        self.returned_before: Any = _ABSENT


class _Frame:
    """A place in one block. ``choice`` is asked when the block is done."""

    __slots__ = ("activation", "block", "choice", "index", "instruction")

    def __init__(self, activation: _Activation, block: Block) -> None:
        self.activation = activation
        self.block = block
        self.index = 0
        self.choice: Choice | None = None
        self.instruction: Instruction | None = None


class Interpreter:
    """One script of one call. ``call`` is handed to methods; its ``interactions`` counts what the caller did."""

    def __init__(
        self,
        document: Document,
        methods: Methods,
        call: Any,
        *,
        scope: Scope,
        load: Load,
        limits: Limits | None = None,
        observer: Observer,
    ) -> None:
        self.steps = 0
        self._methods = methods
        self._call = call
        self._scope = scope
        self._load = load
        self._limits = limits or Limits()
        self._observer = observer
        self._frames = [_Frame(_Activation(document, scope, 1), document.main)]
        self._jumps = 0
        self._jumps_alone = 0
        self._interactions: int = call.interactions

    def run(self) -> None:
        """Run the script to its end.

        Raises ScriptError when it could not go on (``vars.script_error`` is set before); LegGone passes through.
        """
        try:
            self._run()
        except ScriptError as problem:
            self._set_error(problem.code, problem.message)
            raise

    def _run(self) -> None:
        frames = self._frames
        while frames:
            frame = frames[-1]
            if frame.index < len(frame.block):
                instruction = frame.block[frame.index]
                frame.index += 1
                self._step(instruction, frame.activation.scope)
            else:
                self._leave(frame)

    def _step(self, instruction: Instruction, scope: Scope) -> None:
        self.steps += 1
        if self.steps > self._limits.max_steps:
            message = f"the script ran more than {self._limits.max_steps} instructions"
            raise ScriptError(INTERNAL_ERROR, message, instruction.where)
        observer, method = self._observer, instruction.method
        fatal = method.flow
        observer.starting(instruction)
        try:
            try:
                record = instruction.record
                if record is None:
                    record = instruction.read(scope)
                flow = method.function(scope if method.flow else self._call, record)
            except Interrupted as interruption:
                fatal = True
                self._follow(interruption.flow, instruction, asked=False)
            else:
                if flow is not None:
                    fatal = True
                    self._follow(flow, instruction)
        except LegGone:
            observer.finished(instruction, "hangup", None)
            raise
        except Exception as problem:  # noqa: BLE001 - the border between a method and the script
            self._failed(instruction, problem, fatal=fatal)
        else:
            observer.finished(instruction, "ok", None)

    def _failed(self, instruction: Instruction, problem: Exception, *, fatal: bool) -> None:
        """Make what went wrong the method's result, or raise it when the script cannot go on."""
        error = _as_script_error(problem, instruction)
        if fatal or not isinstance(problem, FsctlError):
            self._observer.finished(instruction, "error", problem)
            raise error
        if instruction.method.result is not None:
            self._scope.vars[instruction.method.result] = "failed"
        self._set_error(error.code, error.message)
        if not isinstance(problem, CommandFailed):
            self._observer.warning(error.code, error.message, instruction)
        self._observer.finished(instruction, "failed", problem)

    def _set_error(self, code: str, message: str) -> None:
        self._scope.vars["script_error"] = f"{code}: {message}"

    # Flow

    def _follow(self, flow: Flow, instruction: Instruction, *, asked: bool = True) -> None:
        """Do what ``flow`` says; ``asked`` is whether the script did, rather than somebody outside."""
        following: Flow | None = flow
        while following is not None:
            try:
                following = self._apply(following, instruction, asked)
            except Interrupted as interruption:
                following, asked = interruption.flow, False

    def _apply(self, flow: Flow, instruction: Instruction, asked: bool) -> Flow | None:
        if isinstance(flow, Enter):
            self._frames.append(_Frame(self._frames[-1].activation, flow.block))
        elif isinstance(flow, Choose):
            return flow.choice.choose(self._frames[-1].activation.scope)
        elif isinstance(flow, Jump):
            self._jump(flow, asked)
        elif isinstance(flow, Execute):
            self._execute(flow, instruction)
        elif isinstance(flow, Transfer):
            self._transfer(flow, asked)
        elif isinstance(flow, Return):
            self._return(flow.value)
        elif isinstance(flow, Stop):
            self._frames.clear()
        else:
            raise ScriptError(INTERNAL_ERROR, f"the method answered {type(flow).__name__}, which is no flow")
        return None

    def _leave(self, frame: _Frame) -> None:
        """A block is done: go back to what is around it."""
        self._frames.pop()
        if frame.choice is not None and frame.instruction is not None:
            # Still the caller's section: the choice runs as if its block stood there.
            self._frames.append(_Frame(frame.activation, ()))
            try:
                self._follow(Choose(frame.choice), frame.instruction)
            except Exception as problem:  # noqa: BLE001 - as in a step
                raise _as_script_error(problem, frame.instruction)  # noqa: B904 - has its cause
            return
        activation = frame.activation
        if activation.flow is not None and not (self._frames and self._frames[-1].activation is activation):
            self._resume(activation, None)

    def _jump(self, jump: Jump, asked: bool) -> None:
        activation = self._frames[-1].activation
        for depth in range(len(self._frames) - 1, -1, -1):
            frame = self._frames[depth]
            if frame.activation is not activation:
                break
            position = _label(frame.block, jump.label)
            if position is not None:
                label = (id(frame.block), position)
                done = activation.jumps.get(label, 0)
                if done < jump.limit:
                    self._spend("goto", asked)
                    activation.jumps[label] = done + 1
                    del self._frames[depth + 1 :]
                    frame.index = position + 1
                return
        raise ScriptError(INVALID_VALUE, f"there is no label {quoted(jump.label)} to go to")

    def _execute(self, flow: Execute, instruction: Instruction) -> None:
        current = self._frames[-1].activation
        if current.depth >= self._limits.max_execute_depth:
            message = f"subroutines call subroutines more than {self._limits.max_execute_depth} deep"
            raise ScriptError("relay_script_nested_too_deep", message)
        activation, block = self._enter(flow.dest, flow.params, "execute")
        activation.depth = current.depth + 1
        activation.caller = instruction
        activation.flow = flow
        activation.returned_before = self._scope.vars.get("return_value", _ABSENT)
        self._frames.append(_Frame(activation, block))

    def _transfer(self, flow: Transfer, asked: bool) -> None:
        self._spend("transfer", asked)
        activation, block = self._enter(flow.dest, flow.params, "transfer")
        self._frames[:] = [_Frame(activation, block)]

    def _return(self, value: Any) -> None:
        activation = self._frames[-1].activation
        if activation.flow is None:
            self._frames.clear()
            return
        while self._frames[-1].activation is activation:
            self._frames.pop()
        self._resume(activation, value)

    def _resume(self, activation: _Activation, value: Any) -> None:
        """The subroutine is over and its frames are gone: what its caller wanted next."""
        flow = activation.flow
        assert flow is not None
        if value is not None:
            self._scope.vars["return_value"] = value
        caller = self._frames[-1].activation
        returned = value is not None or (
            self._scope.vars.get("return_value", _ABSENT) is not activation.returned_before
        )
        if flow.result is not None and returned:
            frame = _Frame(caller, ())
            frame.choice = flow.result
            frame.instruction = activation.caller
            self._frames.append(frame)
        if flow.on_return is not None:
            self._frames.append(_Frame(caller, flow.on_return))

    def _spend(self, what: str, asked: bool) -> None:
        """Count a jump of the script's own against its budget. Raises ScriptError when there is none left."""
        if not asked:
            return
        limits = self._limits
        if self._call.interactions != self._interactions:
            self._interactions = self._call.interactions
            self._jumps_alone = 0
        self._jumps += 1
        self._jumps_alone += 1
        if self._jumps > limits.max_jumps:
            message = f"this {what} is one more than the {limits.max_jumps} transfers and gotos a call may have"
        elif self._jumps_alone > limits.max_jumps_without_input:
            allowed = limits.max_jumps_without_input
            message = f"this {what} is one more than the {allowed} transfers and gotos a passive caller may have"
        else:
            return
        raise ScriptError("relay_script_too_many_transfers", message)

    # Destinations

    def _enter(self, dest: str | Document, params: Mapping[str, Any], kind: str) -> tuple[_Activation, Block]:
        """A new run of the section or document ``dest`` names."""
        current = self._frames[-1].activation
        bound = self._bound(params)
        scope = self._scope.child(bound)
        if isinstance(dest, str) and not is_url(dest) and not is_inline(dest):
            block = current.document.sections.get(dest)
            if block is None:
                known = ", ".join(map(quoted, sorted(current.document.sections)[:10]))
                message = f"there is no section {quoted(dest)}; there are {known}"
                raise ScriptError("relay_script_section_parameter_undefined", message)
            return _Activation(current.document, scope, current.documents), block
        if current.documents >= self._limits.max_documents:
            message = f"documents lead to documents more than {self._limits.max_documents} deep"
            raise ScriptError(INTERNAL_ERROR, message)
        if isinstance(dest, Document):
            document = dest
        elif is_url(dest):
            document = self._load(dest, bound, kind)
        else:
            document = compile_inline(dest, self._methods, bare=kind == "execute")
        return _Activation(document, scope, current.documents + 1), document.main

    def _bound(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not self._limits.stringify_params:
            return {name: copied(value) for name, value in params.items()}
        return {
            name: to_text(value) if isinstance(value, bool | int | float) else copied(value)
            for name, value in params.items()
        }


def _label(block: Block, name: str) -> int | None:
    for index, instruction in enumerate(block):
        if instruction.method.name == "label" and instruction.value == name:
            return index
    return None


def _as_script_error(problem: Exception, instruction: Instruction) -> ScriptError:
    """``problem`` with a code of the reference and a place; what it was before is its cause."""
    if isinstance(problem, ScriptError) and problem.where is not None:
        return problem
    code, message = _code_and_message(problem, instruction)
    error = ScriptError(code, message, instruction.where)
    error.__cause__ = problem
    return error


def _code_and_message(problem: Exception, instruction: Instruction) -> tuple[str, str]:
    if isinstance(problem, ScriptError):
        return problem.code, problem.message
    if isinstance(problem, ExpressionError):
        return JS_ERROR, str(problem)
    if isinstance(problem, FetchError) and problem.reason == "malformed":
        return "relay_script_parse_error", str(problem)
    if isinstance(problem, FsctlError):
        return EXECUTE_FAILED, str(problem)
    kind = type(problem).__name__
    return INTERNAL_ERROR, f"`{instruction.method.name}` broke ({kind}); this is a defect of fsctl"
