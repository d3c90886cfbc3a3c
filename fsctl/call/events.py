"""What fsctl tells the world, frozen: the only place that names an event of a call.

A state transition makes one of these and hands it to the bus; webhooks, metrics, logs and the simulator's
transcript read them. Every event is complete: it carries the call's identity and, for operations, where its
callback goes, so an observer needs no look-ups. Pure.

Times are Unix seconds as floats. Implements the event side of the reference's pages on status callbacks.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CallEvent",
    "CallInfo",
    "CallRefused",
    "CallStateChanged",
    "Callback",
    "ControlChanged",
    "DocumentFetched",
    "Form",
    "MethodFinished",
    "ScriptEnded",
    "ScriptWarning",
    "UserEvent",
    "Watcher",
]


@value
class CallInfo:
    """Who the call is: made once from FreeSWITCH's answer to ``connect``, never changed.

    ``type`` is ``sip``, ``phone`` or ``webrtc``; ``from_`` and ``to`` are numbers (phone) or URIs;
    ``headers`` holds ``{"name", "value"}`` objects; ``sip_data`` the reference's ``call.sip_data`` or None.
    """

    call_id: str
    node_id: str
    segment_id: str
    direction: str
    type: str
    from_: str
    to: str
    from_number: str
    to_number: str
    project_id: str
    space_id: str
    session_id: str
    headers: tuple[Mapping[str, str], ...] = ()
    sip_data: Mapping[str, Any] | None = None
    tag: str | None = None
    created_at: float = 0.0


Form: TypeAlias = Literal["json", "compat"]


@value
class Callback:
    """Where an operation's events go: the customer's URL and the HTTP method (``POST`` or ``GET``).

    ``form`` is how they look there: enveloped JSON, or the fields of the compatibility API.
    """

    url: str
    method: str = "POST"
    form: Form = "json"


@value
class Watcher:
    """Somebody who wants to hear of the call's states named in ``states``."""

    callback: Callback
    states: frozenset[str]


@value
class CallStateChanged:
    """The call reached ``state``: ``created``, ``ringing``, ``answered``, ``ending`` or ``ended``.

    A call that fsctl dials is ``queued`` and ``initiated`` before. ``watchers`` asked to be told of this call's states.

    ``end_reason`` is the internal reason (``fsctl.freeswitch.causes``), ``end_source`` ``inbound``, ``outbound`` or
    ``none``, ``cause`` FreeSWITCH's hangup cause; all three only with ``ended``. Times are 0.0 while unknown.
    """

    call: CallInfo
    state: str
    at: float
    start_time: float = 0.0
    answer_time: float = 0.0
    end_time: float = 0.0
    end_reason: str | None = None
    end_source: str | None = None
    cause: str | None = None
    audio_in_mos: float | None = None
    watchers: tuple[Watcher, ...] = ()


@value
class ControlChanged:
    """A control (``kind`` is ``play``, ``record``, ``stream`` …) reached ``state``.

    ``detail`` holds what the kind's callback shows beyond the common fields, under the reference's names
    (``url``, ``duration``, ``name`` …). ``callback`` is None when nobody asked to be told.
    ``method`` is the SWML method that opened it (``record`` and ``record_call`` share a kind).
    """

    call: CallInfo
    kind: str
    method: str
    control_id: str
    state: str
    at: float
    detail: Mapping[str, Any] = field(default_factory=dict)
    callback: Callback | None = None


@value
class ScriptWarning:
    """Something in the script went wrong; ``fatal`` tells whether it ended the script.

    ``document`` is the name of the document that ``section``, ``index``, ``path`` and ``line`` are places in.
    """

    call: CallInfo
    code: str
    message: str
    at: float
    section: str = ""
    index: int = -1
    path: str = ""
    line: int | None = None
    method: str = ""
    fatal: bool = False
    document: str = ""


@value
class UserEvent:
    """The script's ``user_event``: ``event`` is any JSON object."""

    call: CallInfo
    event: Mapping[str, Any]
    at: float


@value
class MethodFinished:
    """An instruction ended: ``outcome`` is ``ok``, ``failed``, ``error`` or ``hangup``; ``seconds`` it took."""

    call: CallInfo
    method: str
    section: str
    path: str
    outcome: str
    seconds: float
    at: float


@value
class DocumentFetched:
    """A document was asked for: ``source`` is ``url``, ``file``, ``inline`` or ``fallback``.

    ``outcome`` is ``ok``, ``invalid`` or a :class:`fsctl.errors.FetchError` reason.
    """

    call: CallInfo
    source: str
    outcome: str
    seconds: float
    at: float


@value
class ScriptEnded:
    """The interpreter stopped: ``outcome`` is ``finished``, ``error``, ``hangup`` or ``stopped``."""

    call: CallInfo
    outcome: str
    steps: int
    at: float
    variables: Mapping[str, Any] = field(default_factory=dict)


@value
class CallRefused:
    """A call was not taken: ``reason`` is ``capacity``, ``draining``, ``handshake`` or ``no_document``."""

    reason: str
    at: float


CallEvent: TypeAlias = (
    CallStateChanged
    | ControlChanged
    | ScriptWarning
    | UserEvent
    | MethodFinished
    | DocumentFetched
    | ScriptEnded
    | CallRefused
)
