"""Run one instruction on a fake call, the way the interpreter would."""

from fsctl.errors import CommandFailed, ScriptError
from fsctl.swml.document import Where
from fsctl.swml.flow import Flow
from fsctl.swml.parameters import REFUSED, Later


def run(call, method, /, **params):
    """What ``method`` answers to these parameters; a failure sets the result variable, as the interpreter does."""
    try:
        return attempt(call, method, **params)
    except CommandFailed as failed:
        if method.result is None:
            raise
        call.vars[method.result] = "failed"
        call.failure = failed
        return None


def attempt(call, method, /, **params) -> Flow | None:
    """What ``method`` answers; raises what it raises."""
    record = make(method, **params)
    if isinstance(record, Later):  # the text holds a placeholder, which stands for itself here
        record = method.shape.read(method.normalised(params), Where("main", (0,), None, None))
    return method(call, record)


def make(method, /, **params):
    """The parameter record of an instruction. Raises ScriptError for the first thing wrong with it."""
    checker = _Checker()
    where = Where("main", (0,), None, None)
    record = method.check(method.normalised(params), where, checker)
    if checker.findings:
        code, message = checker.findings[0]
        raise ScriptError(code, message, where)
    return record


class _Checker:
    def __init__(self):
        self.findings = []

    def found(self, code, message, where):
        self.findings.append((code, message))
        return REFUSED
