"""Every way fsctl can fail, as one tree.

Two questions decide the class: does the call go on, and does the connection go on?

::

    FsctlError
    ├── ConfigError       we do not start (exit 78; systemd leaves it down)
    ├── ProtocolError     the event socket cannot be trusted; this connection ends
    ├── CommandFailed     FreeSWITCH said no; becomes the method's result, the script goes on
    ├── SwitchDown        FreeSWITCH cannot be asked at all; whoever asked may try later
    ├── FetchError        a URL gave nothing usable; a fallback may be tried
    ├── ExpressionError   a JavaScript expression failed; the instruction fails
    ├── ScriptError       the script is wrong or cannot go on (``relay_script_*``)
    └── ApiError          an HTTP request is refused

    LegGone               the party left; unwinds the script, is not an error
    Interrupted           someone outside redirected or ended the call; carries the flow to apply

The last two derive from ``BaseException`` so that no ``except Exception`` between a method and the
interpreter, in our code or in a library, can swallow the end of a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsctl.swml.flow import Flow

__all__ = [
    "ApiError",
    "CommandFailed",
    "ConfigError",
    "ExpressionError",
    "FetchError",
    "FsctlError",
    "Interrupted",
    "LegGone",
    "ProtocolError",
    "ScriptError",
    "SwitchDown",
]


class FsctlError(Exception):
    """Base of everything fsctl raises on purpose."""


class ConfigError(FsctlError):
    """The configuration cannot be used: says which setting, what is wrong, and what to do."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}" if setting else problem)
        self.setting = setting
        self.problem = problem


class ProtocolError(FsctlError):
    """The peer on an event socket broke the framing; the connection is closed."""


class CommandFailed(FsctlError):
    """FreeSWITCH refused a command or an application ended badly.

    ``command`` is the command's name without its arguments (those may hold secrets);
    ``reply`` is what FreeSWITCH answered.
    """

    def __init__(self, command: str, reply: str) -> None:
        super().__init__(f"{command}: {reply.strip() or 'no reply'}")
        self.command = command
        self.reply = reply.strip()


class SwitchDown(FsctlError):
    """FreeSWITCH's event socket is not connected, or was lost before the answer came. Says why, with a hint.

    What was asked for may still have happened.
    """


class FetchError(FsctlError):
    """A URL could not be fetched. ``url`` never holds credentials.

    ``reason`` is one word of a closed list, fit for a metric label: ``refused``, ``dns``, ``connect``,
    ``timeout``, ``tls``, ``status``, ``redirect``, ``size``, ``address``, ``scheme``, ``malformed``,
    ``content``, ``missing``. ``status`` is the HTTP status when there was one.
    """

    def __init__(self, url: str, reason: str, detail: str, *, status: int | None = None) -> None:
        super().__init__(f"{url}: {detail}")
        self.url = url
        self.reason = reason
        self.detail = detail
        self.status = status


class ExpressionError(FsctlError):
    """A JavaScript expression was too long, too slow, or threw. ``source`` is the expression."""

    def __init__(self, source: str, problem: str) -> None:
        shown = source if len(source) <= 80 else source[:77] + "..."
        super().__init__(f"{problem} in {shown!r}")
        self.source = source
        self.problem = problem


class ScriptError(FsctlError):
    """The script cannot be run or cannot go on.

    ``code`` is one of the reference's ``relay_script_*`` codes; ``where`` a :class:`fsctl.swml.document.Where`
    (section, path, line) or None when the error belongs to no instruction.
    """

    def __init__(self, code: str, message: str, where: Any = None) -> None:
        super().__init__(f"{code}: {message}" + (f" (at {where})" if where is not None else ""))
        self.code = code
        self.message = message
        self.where = where


class ApiError(FsctlError):
    """An HTTP request is refused: ``status``, a stable ``code`` and a sentence for people.

    ``attribute`` is the parameter at fault, where it is one; ``headers`` are set on the answer (``Retry-After`` …).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        attribute: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.attribute = attribute
        self.headers = dict(headers or {})


class LegGone(BaseException):
    """The leg hung up or its event socket ended; ``cause`` is FreeSWITCH's hangup cause, if known."""

    def __init__(self, cause: str = "") -> None:
        super().__init__(cause)
        self.cause = cause


class Interrupted(BaseException):
    """The running method must stop at once and the interpreter apply ``flow``."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(repr(flow))
        self.flow = flow
