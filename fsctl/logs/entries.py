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
from fsctl.webhooks.payloads import ENVELOPED, serialise

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsctl.call.events import CallEvent

__all__ = ["MAX_DETAILS", "TOLD", "Entry", "entry", "full", "is_quiet"]

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

# A first state as JSON text of these characters, without these words (which are those that `fsctl.log` looks for), not
# longer than this: nothing of it has to be masked or left out, whichever of its strings is a name and which a value.
# There is no backslash, so that every character stands for itself, and no "?", "&" and ";", so that no address has
# parameters; and there is no room for more headers than are kept.
_PLAIN: Final = b'abcdefghijklmnopqrstuvwxyz0123456789@.+_:/{}[]," -'
_TELLTALES: Final = (b"://", b"token", b"passw", b"secret", b"authorization", b"credential", b"key", b"bearer")
_LONGEST_PLAIN: Final = 2048

# What these kinds show comes from us and from FreeSWITCH, as with all states but the first. Of the others, all that
# callers, documents and servers had a word in is looked through, member by member, for what must not be kept.
_OUR_KINDS: Final = frozenset(("play", "record", "collect", "detect"))
_FIRST_STATES: Final = frozenset(("queued", "created"))


class Entry(NamedTuple):
    """One event of a log, as it is read; ``at`` is Unix seconds, ``details`` the JSON text of an object."""

    at: float
    level: str
    name: str
    details: str


def is_quiet(event: CallEvent) -> bool:
    """Whether ``event`` belongs to no call, or says nothing new, so that :func:`entry` has none for it."""
    kind = type(event)
    if kind is MethodFinished:
        return event.outcome not in _METHOD_LEVELS  # type: ignore[union-attr]  # as its type says
    return kind not in TOLD


def entry(event: CallEvent) -> str:
    """Describe ``event`` for the log of its call: the fields of Entry as a JSON array, in ASCII.

    Raises KeyError for an event that is quiet.
    """
    return TOLD[type(event)](event)


def full(at: float, kept: int) -> str:
    """The entry that says that of this call no more events are kept."""
    return _entry(at, "warn", "calling_call_log_full", {"events": kept})


def _entry(at: float, level: str, name: str, details: dict[str, Any]) -> str:
    """Details of ours: they may be too large, but nothing has to be masked."""
    text = _text([at, level, name, details])
    return text if len(text) <= MAX_DETAILS else _text([at, level, name, _fitting(details)])


def _looked_through(at: float, level: str, name: str, details: dict[str, Any]) -> str:
    """Details that callers, documents or servers had a word in."""
    keep = _Keeper()
    kept = {keep.name(name): keep.member(name, value, 0) for name, value in islice(details.items(), _MOST_ITEMS)}
    return _entry(at, level, name, kept)


# -- each kind of event -----------------------------------------------------------------------------------------------


def _state(event: CallStateChanged) -> str:
    state = event.state
    details = _params(event)
    details.pop("sip_data", None)  # most of what a log would weigh, and hardly more than who called whom says already
    if state in _FIRST_STATES:
        # A log begins with `calling_call_initiated`: dialled calls have that state, one that comes to us does not.
        first = state == "created" and event.call.direction == "inbound"
        name = "calling_call_initiated" if first else f"calling_call_{state}"
        text = _text([event.at, "info", name, details])
        return text if _is_plain(text) else _looked_through(event.at, "info", name, details)
    details.pop("device", None)  # the same through the whole call
    level = "error" if state == "ended" and event.end_reason == "error" else "info"
    return _entry(event.at, level, f"calling_call_{state}", details)


def _control(event: ControlChanged) -> str:
    details = _params(event)
    kind = event.kind
    if kind == "record" and "url" in details:
        details["url"] = details["record"]["url"] = redact(details["url"])  # it may be a signed link
    level = "error" if event.state == "error" else "info"
    tell = _entry if kind in _OUR_KINDS else _looked_through
    return tell(event.at, level, f"calling_call_{kind}_{event.state}", details)


def _warning(event: ScriptWarning) -> str:
    details = _params(event)
    if event.method:
        details["method"] = event.method
    level, name = ("error", "calling_call_script_error") if event.fatal else ("warn", "calling_call_script_warning")
    return _looked_through(event.at, level, name, details)


def _user_event(event: UserEvent) -> str:
    details = {**_address(event), **_params(event)}  # whatever is left out below, not whose it is
    return _looked_through(event.at, "info", "calling_call_user_event", details)


# What went well is told by what came of it; half of all events would say so once more.
_METHOD_LEVELS: Final = {"failed": "warn", "error": "error"}


def _method(event: MethodFinished) -> str:
    details = {
        **_address(event),
        "method": event.method,
        "section": event.section,
        "path": event.path,
        "outcome": event.outcome,
        "seconds": round(event.seconds, 4),
    }
    return _entry(event.at, _METHOD_LEVELS[event.outcome], "calling_call_method_finished", details)


def _document(event: DocumentFetched) -> str:
    details = {
        **_address(event),
        "source": event.source,
        "outcome": event.outcome,
        "seconds": round(event.seconds, 4),
    }
    level = "info" if event.outcome == "ok" else "warn"
    return _entry(event.at, level, "calling_call_document_fetched", details)


def _script(event: ScriptEnded) -> str:
    # Its variables stay out: they hold whatever callers and servers said.
    details = {**_address(event), "outcome": event.outcome, "steps": event.steps}
    level = "error" if event.outcome == "error" else "info"
    return _entry(event.at, level, "calling_call_script_ended", details)


TOLD: Final[Mapping[type, Callable[[Any], str]]] = {
    CallStateChanged: _state,
    ControlChanged: _control,
    ScriptWarning: _warning,
    UserEvent: _user_event,
    MethodFinished: _method,
    DocumentFetched: _document,
    ScriptEnded: _script,
}


def _params(event: CallEvent) -> dict[str, Any]:
    """What a webhook would show, without its envelope."""
    return ENVELOPED[type(event)][1](event, "rest")


def _address(event: Any) -> dict[str, Any]:
    return {"call_id": event.call.call_id, "node_id": event.call.node_id}


# -- fit to be kept ---------------------------------------------------------------------------------------------------


def _is_plain(text: str) -> bool:
    """Whether the JSON text of a first state, whose members we know, would be looked through for nothing."""
    folded = text.encode("ascii").lower()
    if len(folded) > _LONGEST_PLAIN or folded.translate(None, _PLAIN):
        return False
    return not any(word in folded for word in _TELLTALES)


def _fitting(details: dict[str, Any]) -> dict[str, Any]:
    """Details that are too large, if they are, without their largest members, which are named."""
    sizes = {name: len(_text({name: value})) for name, value in details.items()}
    total = sum(sizes.values())
    if total <= MAX_DETAILS:
        return details
    kept = dict(details)
    left_out: list[str] = []
    for name in sorted(sizes, key=lambda name: sizes[name], reverse=True):
        if total <= MAX_DETAILS // 2:
            break
        total -= sizes[name]
        del kept[name]
        if len(left_out) < _MOST_NAMED:
            left_out.append(name[:_LONGEST_NAMED])
    return {**kept, "left_out": left_out}


def _text(value: Any) -> str:
    return serialise(value).decode()


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
