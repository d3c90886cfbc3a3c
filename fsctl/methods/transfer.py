"""``transfer``, ``calling.transfer``: go on elsewhere and never come back.

Implements swml-calling: transfer, calling-api 3.4. A document given as text is accepted, although the vendor's own
platform is said not to. A SIP URI or a number needs the method ``connect``, which fsctl does not have.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fsctl.call.live import live_command
from fsctl.errors import ApiError, FetchError, ScriptError
from fsctl.swml.flow import Transfer as TransferFlow
from fsctl.swml.method import flow_method
from fsctl.swml.parameters import Anything, Dest, Object, OneOf, Text, is_url, parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.call.call import Call, Script
    from fsctl.swml.document import Document
    from fsctl.swml.scope import Scope

__all__ = ["transfer"]

_PARTY = re.compile(r"sips?:.*|\+?[0-9][0-9 ().-]{1,30}|[^\s@:{}\[\]]+@[^\s@{}]+", re.IGNORECASE)
_DEVICES = ("phone", "sip", "webrtc")  # whom the pages of the SDK write as an object


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Where to, and with what. ``meta`` is the author's own."""

    dest: str | Document = parameter(Dest())
    params: Mapping[str, Any] = parameter(Object(), default={})
    meta: Any = parameter(Anything(), default=None)


@flow_method("transfer", Transfer, shorthand="dest")
def transfer(scope: Scope, params: Transfer) -> TransferFlow:  # noqa: ARG001 - the interpreter binds the params
    """Leave."""
    return TransferFlow(params.dest, params.params)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferCommand:
    """``dest``: an ``http(s)`` URL, or a document as an object or as text."""

    dest: Any = parameter(OneOf({str: Text(min_length=1), dict: Object()}))


@live_command("calling.transfer", TransferCommand)
def live_transfer(call: Call, params: TransferCommand) -> None:
    """Leave the document that runs; the next one is fetched first, and the call stays where it is until it is there."""
    script = call.script
    if script is None:
        raise ApiError(422, "invalid_state", "no document runs on this call any more: it is about to end")
    script.redirect(_destination(call, script, params.dest))


def _destination(call: Call, script: Script, dest: str | dict[str, Any]) -> str | Document:
    """Where to. Raises ApiError for what cannot be."""
    if isinstance(dest, str) and is_url(dest):
        try:
            call.services.web.admit(dest)
        except FetchError as problem:
            code = {"address": "url_is_unsafe", "malformed": "url_failed_to_parse"}.get(problem.reason)
            if code is not None:
                raise _refused(code, str(problem)) from problem
            # One that is not found now is looked for again; what comes of that is told as a warning.
        return dest
    if _PARTY.fullmatch(dest.strip()) if isinstance(dest, str) else dest.get("type") in _DEVICES:
        raise _refused("feature_not_available", "a SIP URI or a number needs `connect`, which fsctl does not have yet")
    try:
        return script.compile(dest)
    except ScriptError as problem:
        code = "not_json_or_yaml" if problem.code == "relay_script_parse_error" else "invalid_parameter"
        raise _refused(code, f"dest: {problem}") from problem


def _refused(code: str, message: str) -> ApiError:
    return ApiError(422, code, message, attribute="dest")
