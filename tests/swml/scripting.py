"""Run a document on a call that is nothing but a notebook."""

import json
from dataclasses import dataclass, field

import quickjs

from fsctl.errors import CommandFailed, ExpressionError, FetchError, FsctlError, Interrupted, LegGone, ScriptError
from fsctl.javascript.child import PRELUDE
from fsctl.methods.cond import cond
from fsctl.methods.execute import execute
from fsctl.methods.goto import goto
from fsctl.methods.label import label
from fsctl.methods.return_ import return_
from fsctl.methods.set_ import set_
from fsctl.methods.switch import switch
from fsctl.methods.transfer import transfer
from fsctl.methods.unset import unset
from fsctl.swml.check import DocumentInvalid, compile_document
from fsctl.swml.flow import Stop, Transfer
from fsctl.swml.interpreter import Interpreter
from fsctl.swml.method import Methods, method
from fsctl.swml.parameters import Anything, Block_, Integer, Number, Object, Text, Url, parameter, written
from fsctl.swml.scope import Scope


def no_javascript(source, names):
    """An engine that is never there: what it is asked was not answered in Python."""
    raise ExpressionError(source, "needs JavaScript")


def javascript(source, names):
    """QuickJS in this process, given its names the way the real engine gives them."""
    try:
        answer = quickjs.Context().eval(PRELUDE)(
            json.dumps({root: dict(value) for root, value in names.items()}), source
        )
    except quickjs.JSException as problem:
        raise ExpressionError(source, str(problem)) from None
    return json.loads(answer)


def make_scope(variables=None, *, call=None, envs=None, params=None, evaluator=no_javascript):
    return Scope(
        {} if call is None else call,
        {} if variables is None else variables,
        {} if envs is None else envs,
        {} if params is None else params,
        evaluator,
    )


@dataclass(frozen=True, slots=True)
class Note:
    value: object = parameter(Anything(), default=None)


@method("note", Note, whole=True)
def note(call, params):
    call.notes.append(params.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sing:
    url: str | None = parameter(Url(), default=None)
    text: str | None = parameter(Text(min_length=1), default=None)
    volume: float = parameter(Number(low=-40, high=40), default=0.0)
    times: int = parameter(Integer(low=1), default=1)
    options: object = parameter(Object(), default={})
    then: object = parameter(Block_(), default=None)
    written: frozenset = written()


@method("sing", Sing, shorthand="text", one_of=(("url", "text"),), result="sing_result")
def sing(call, params):
    call.notes.append(params)


@dataclass(frozen=True, slots=True)
class Break:
    how: str = parameter(Text())


@method("break", Break, whole=True, result="break_result")
def break_(call, params):
    match params.how:
        case "command":
            raise CommandFailed("playback", "-ERR no such file\n")
        case "script":
            raise ScriptError("relay_script_method_parameter_invalid_value", "not like this")
        case "expression":
            raise ExpressionError("1+", "it throws")
        case "fetch":
            raise FetchError("http://example.test/a.wav", "timeout", "no answer")
        case "bug":
            raise ZeroDivisionError
        case "gone":
            raise LegGone("NORMAL_CLEARING")
        case "stop":
            raise Interrupted(Stop())
        case dest:
            raise Interrupted(Transfer(dest))


@method("press")
def press(call, params):
    """The caller does something."""
    call.interactions += 1


@method("end")
def end(call, params):
    return Stop()


METHODS = Methods([cond, execute, goto, label, return_, set_, switch, transfer, unset, note, sing, break_, press, end])


@dataclass
class Call:
    notes: list = field(default_factory=list)
    interactions: int = 0


@dataclass
class Run:
    """What came of a script: ``told`` is what the observer heard, ``loads`` what was fetched."""

    call: Call
    vars: dict
    told: list = field(default_factory=list)
    loads: list = field(default_factory=list)
    error: BaseException | None = None

    @property
    def notes(self):
        return self.call.notes

    @property
    def warnings(self):
        return [each[1:] for each in self.told if each[0] == "warning"]

    def starting(self, instruction):
        self.told.append(("starting", instruction.where.text))

    def finished(self, instruction, outcome, problem):
        self.told.append(("finished", instruction.where.text, outcome))

    def warning(self, code, message, instruction):
        self.told.append(("warning", code, instruction.where.text))


def run(
    sections, /, variables=None, *, web=None, limits=None, evaluator=javascript, catch=True, methods=METHODS, **roots
):
    """Run ``sections`` (a whole document as text, or its sections) and give the :class:`Run`.

    ``web`` maps URLs to documents, or to the error that comes instead.
    """
    text = sections if isinstance(sections, str) else json.dumps({"sections": sections})
    story = Run(Call(), {} if variables is None else variables)

    def load(dest, params, kind):
        story.loads.append((dest, dict(params), kind))
        answer = (web or {})[dest]
        if isinstance(answer, BaseException):
            raise answer
        return compile_document(answer, methods)

    interpreter = Interpreter(
        compile_document(text, methods),
        methods,
        story.call,
        scope=make_scope(story.vars, evaluator=evaluator, **roots),
        load=load,
        limits=limits,
        observer=story,
    )
    try:
        interpreter.run()
    except (ScriptError, LegGone) as problem:
        if not catch:
            raise
        story.error = problem
    story.steps = interpreter.steps
    return story


def findings(text, methods=METHODS, **options):
    """Everything wrong with a document, as (code, place)."""
    source = text if isinstance(text, bytes | str) else json.dumps(text)
    problem = refusal(compile_document, source, methods, **options)
    if problem is None:
        return []
    assert isinstance(problem, DocumentInvalid)
    assert (problem.findings[0].code, problem.findings[0].where) == (problem.code, problem.where)
    return [(finding.code, finding.where.text) for finding in problem.findings]


def refusal(function, *arguments, **options):
    """The error of ours ``function`` raises, or None; any other error fails the test."""
    try:
        function(*arguments, **options)
    except FsctlError as problem:
        return problem
    return None


def sections(**named):
    return {"sections": {"main": [], **named}}


def main(*steps):
    return {"sections": {"main": list(steps)}}
