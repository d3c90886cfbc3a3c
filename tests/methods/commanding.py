"""Run one live command on a fake call, the way the HTTP resource would."""

import pytest

from fsctl.errors import ApiError
from fsctl.methods import COMMANDS


def ask(call, name, /, **params):
    """What the response says beyond the call. Raises ApiError."""
    command = COMMANDS.get(name)
    record, _ = command.read(params, strict=False)
    return command.run(call, record)


def refusal(call, name, /, **params):
    """The status, code and attribute with which a command is refused; nothing may have been said to FreeSWITCH."""
    said = len(call.leg.sent)
    with pytest.raises(ApiError) as refused:
        ask(call, name, **params)
    assert len(call.leg.sent) == said
    return refused.value.status, refused.value.code, refused.value.attribute


def defaults(name, /, **params):
    """The command's record, made of required parameters alone, in strict mode."""
    record, ignored = COMMANDS.get(name).read(params, strict=True)
    assert ignored == ()
    return record
