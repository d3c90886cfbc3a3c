"""Events of a call as entries of its log: a name, a level and details that are fit to be kept. Pure.

Names are ``calling_call_<what>`` as in the reference's example (calling-api.md 7). Details are what a webhook would
show in ``params``; what webhooks do not tell has a few words of its own. Nobody signs in with what stands here:
addresses lose credentials and queries, values named like secrets are masked, and all of it is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fsctl import log as logs
from fsctl.call.events import (
    CallStateChanged,
    ControlChanged,
    DocumentFetched,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
    UserEvent,
)
from fsctl.web import redact
from fsctl.webhooks.payloads import payload, serialise

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.events import CallEvent

__all__ = ["MAX_DETAILS", "Entry", "entry"]

MAX_DETAILS: Final = 8192
"""Bytes of JSON that the details of one event may have."""

_LONGEST_TEXT: Final = 2048
_LONGEST_READ: Final = 8192  # a longer text is left out as a whole: cut open, a secret might no longer look like one
_LONGEST_KEY: Final = 256
_MOST_ITEMS: Final = 100  # of one list or object
_MOST_VALUES: Final = 500  # in all
_MOST_CHARACTERS: Final = 32_768  # in all
_DEEPEST: Final = 5
_MOST_NAMED: Final = 10
_LONGEST_NAMED: Final = 48

# Bounded, so that a long word costs no more than its length.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,15}://[^\s\"'<>]+")

# Most text there is: a number, a user, a host, a word. Nothing in it can be a secret's place.
_HARMLESS: Final = re.compile(r"[A-Za-z0-9@.+_:-]{0,128}")

# What these events show comes from us and from FreeSWITCH. All others are looked through, member by member, for what
# must not be kept.
_OURS: Final = frozenset((MethodFinished, DocumentFetched, ScriptEnded))
_OUR_KINDS: Final = frozenset(("play", "record", "collect", "detect"))
# The same through the whole call, so told with its first state only.
_TOLD_ONCE: Final = ("device",)
# Most of what a call's log would weigh, and hardly more than who called whom says already.
_LEFT_OUT: Final = ("sip_data",)
_FIRST_STATES: Final = ("queued", "created")


class Entry(NamedTuple):
    """One event of a log; ``at`` is Unix seconds, ``details`` the JSON text of an object."""

    at: float
    level: str
    name: str
    details: str


def entry(event: CallEvent) -> Entry | None:
    """Describe ``event`` for the log of its call; None for what belongs to no call, or says nothing new."""
    told = _TOLD.get(type(event))
    if told is None:
        return None
    described = told(event)
    if described is None:
        return None
    what, level, details = described
    shown: Any = event
    return Entry(shown.at, level, f"calling_call_{what}", _fitting(details, looked_through=not _is_ours(event)))


def _is_ours(event: CallEvent) -> bool:
    if isinstance(event, CallStateChanged):
        return event.state not in _FIRST_STATES
    return type(event) in _OURS or (isinstance(event, ControlChanged) and event.kind in _OUR_KINDS)


# -- each kind of event -----------------------------------------------------------------------------------------------


def _state(event: CallStateChanged) -> tuple[str, str, dict[str, Any]]:
    details = _params(event)
    for name in _LEFT_OUT if event.state in _FIRST_STATES else (*_LEFT_OUT, *_TOLD_ONCE):
        details.pop(name, None)
    # A log begins with `calling_call_initiated`: dialled calls have that state, one that comes to us begins as created.
    first = event.state == "created" and event.call.direction == "inbound"
    broken = event.state == "ended" and event.end_reason == "error"
    return "initiated" if first else event.state, "error" if broken else "info", details


def _control(event: ControlChanged) -> tuple[str, str, dict[str, Any]]:
    details = _params(event)
    if event.kind == "record":
        for told in (details, details.get("record", {})):
            if "url" in told:
                told["url"] = redact(told["url"])  # it may be a signed link
    return f"{event.kind}_{event.state}", "error" if event.state == "error" else "info", details


def _warning(event: ScriptWarning) -> tuple[str, str, dict[str, Any]]:
    details = _params(event)
    if event.method:
        details["method"] = event.method
    return ("script_error", "error", details) if event.fatal else ("script_warning", "warn", details)


def _user_event(event: UserEvent) -> tuple[str, str, dict[str, Any]]:
    return "user_event", "info", {**_address(event), **_params(event)}  # whatever is left out below, not whose it is


# What went well is told by what came of it; half of all events would say so once more.
_METHOD_LEVELS: Final = {"failed": "warn", "error": "error"}


def _method(event: MethodFinished) -> tuple[str, str, dict[str, Any]] | None:
    if event.outcome not in _METHOD_LEVELS:
        return None
    details = {
        **_address(event),
        "method": event.method,
        "section": event.section,
        "path": event.path,
        "outcome": event.outcome,
        "seconds": round(event.seconds, 4),
    }
    return "method_finished", _METHOD_LEVELS[event.outcome], details


def _document(event: DocumentFetched) -> tuple[str, str, dict[str, Any]]:
    details = {
        **_address(event),
        "source": event.source,
        "outcome": event.outcome,
        "seconds": round(event.seconds, 4),
    }
    return "document_fetched", "info" if event.outcome == "ok" else "warn", details


def _script(event: ScriptEnded) -> tuple[str, str, dict[str, Any]]:
    # Its variables stay out: they hold whatever callers and servers said.
    details = {**_address(event), "outcome": event.outcome, "steps": event.steps}
    return "script_ended", "error" if event.outcome == "error" else "info", details


_TOLD: Final[Mapping[type, Callable[[Any], tuple[str, str, dict[str, Any]] | None]]] = {
    CallStateChanged: _state,
    ControlChanged: _control,
    ScriptWarning: _warning,
    UserEvent: _user_event,
    MethodFinished: _method,
    DocumentFetched: _document,
    ScriptEnded: _script,
}


def _params(event: CallEvent) -> dict[str, Any]:
    body = payload(event)
    return {} if body is None else body["params"]


def _address(event: Any) -> dict[str, Any]:
    return {"call_id": event.call.call_id, "node_id": event.call.node_id}


# -- fit to be kept ---------------------------------------------------------------------------------------------------


def _fitting(details: dict[str, Any], *, looked_through: bool) -> str:
    """The details as JSON text; of details that are too large, the largest members are named and left out."""
    kept = details
    if looked_through:
        keep = _Keeper()
        kept = {keep.name(name): keep.member(name, value, 0) for name, value in islice(details.items(), _MOST_ITEMS)}
    text = _text(kept)
    if len(text) <= MAX_DETAILS:
        return text
    sizes = {name: len(_text({name: value})) for name, value in kept.items()}
    total = sum(sizes.values())
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= MAX_DETAILS // 2:
            break
        total -= sizes[name]
        del kept[name]
        if len(left_out) < _MOST_NAMED:
            left_out.append(name[:_LONGEST_NAMED])
    return _text({**kept, "left_out": left_out})


def _text(value: Any) -> str:
    return serialise(value).decode("ascii")


class _Keeper:
    """Copies what may be kept of one event: plain JSON values, no secrets, and never more than so much work."""

    def __init__(self) -> None:
        self._values = _MOST_VALUES
        self._characters = _MOST_CHARACTERS

    def member(self, name: Any, value: Any, depth: int) -> Any:
        """A member of an object; one whose name speaks of a secret is masked by the log's own rules."""
        if value and logs.is_secret(str(name)):
            return logs.MASK
        return self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return self._words(value)
        if isinstance(value, Mapping | list | tuple):
            if depth >= _DEEPEST or self._values < 0:
                return "…"
            if isinstance(value, Mapping):
                return self._object(value, depth)
            return [self._value(item, depth + 1) for item in value[:_MOST_ITEMS]]
        return self._words(str(value))

    def _object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        if len(value) == 2 and isinstance(name := value.get("name"), str) and "value" in value:  # a header
            return {"name": self._words(name), "value": self.member(name, value["value"], depth + 1)}
        return {
            self.name(name): self.member(name, item, depth + 1) for name, item in islice(value.items(), _MOST_ITEMS)
        }

    def name(self, name: Any) -> str:
        """The name of a member."""
        text = str(name)
        if _HARMLESS.fullmatch(text):
            return text
        return _scrubbed(text) if len(text) <= _LONGEST_KEY else "…"

    def _words(self, text: str) -> str:
        if len(text) <= self._characters and _HARMLESS.fullmatch(text):
            self._characters -= len(text)
            return text
        if len(text) > min(_LONGEST_READ, self._characters):
            return "…"
        self._characters -= len(text)
        text = _scrubbed(text)
        return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


def _scrubbed(text: str) -> str:
    """Text without credentials and queries of addresses, and without what the log masks."""
    return str(logs.redact(_URL.sub(_redacted, text) if "://" in text else text))


def _redacted(url: re.Match[str]) -> str:
    return redact(url[0])
