"""``Idempotency-Key``: a request that is sent again, because its answer was lost, is not done again.

Falcon middleware, behind :class:`fsctl.api.access.Access`. A resource says that its POSTs take the header with
``idempotent = True`` and does nothing else about it. The first answer, a success or a refusal, is kept for the token,
the path and the key; answers that say "try again" (429 and all from 500 on) are not. Kept in memory: a restart of
fsctl forgets them, and what is sent again after one is done again.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import falcon

from fsctl.api.body import read_body
from fsctl.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Idempotency"]

HEADER: Final = "Idempotency-Key"

# No command takes this long. One that does was torn away with its greenlet, and will never give its key back.
LONGEST_REQUEST: Final = 60.0


_Place: TypeAlias = tuple[str, str, str, str]  # token, method, path, key


class _Answer(NamedTuple):
    status: int
    body: bytes | None
    content_type: str | None


@dataclass(slots=True)
class _Entry:
    """A request with a key: the ``answer`` is None while it runs, ``until`` is when it counts no more."""

    digest: bytes
    until: float
    answer: _Answer | None = None


class Idempotency:
    """Keeps up to ``entries`` answers, each for ``seconds``; the one longest unasked for makes room."""

    def __init__(self, *, seconds: float, entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._most = entries
        self._clock = clock
        self._entries: OrderedDict[_Place, _Entry] = OrderedDict()

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Answer at once what was answered before.

        Raises ApiError: 422 for a key that is none or was used for something else, 409 while the first request runs.
        """
        if req.method != "POST" or not getattr(resource, "idempotent", False):
            return
        if (key := req.get_header(HEADER)) is None:
            return
        if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            problem = f"{HEADER} must have 1 to 255 printable ASCII characters."
            raise ApiError(422, "invalid_parameter", problem, attribute=HEADER)
        digest = hashlib.sha256(read_body(req)).digest()
        place = (req.context.token.name, req.method, req.path, key)
        entry = self._entries.get(place)
        if entry is None or self._clock() >= entry.until:
            first = _Entry(digest, self._clock() + LONGEST_REQUEST)
            self._enter(place, first)
            req.context.idempotency = place, first
            return
        if entry.digest != digest:
            problem = f"This {HEADER} was used for a request with another body; make a new key."
            raise ApiError(422, "value_not_unique", problem, attribute=HEADER)
        if entry.answer is None:
            problem = f"The first request with this {HEADER} is still running."
            raise ApiError(409, "invalid_state", problem, attribute=HEADER, headers={"Retry-After": "1"})
        self._entries.move_to_end(place)
        resp.status, resp.data, content_type = entry.answer
        if content_type:
            resp.content_type = content_type
        resp.set_header("Idempotent-Replayed", "true")
        resp.complete = True

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _req_succeeded: bool
    ) -> None:
        """Keep the answer of a request that came first."""
        first: tuple[_Place, _Entry] | None = req.context.get("idempotency")
        if first is None:
            return
        place, entry = first
        if self._entries.get(place) is not entry:
            return
        del self._entries[place]
        status = int(falcon.code_to_http_status(resp.status)[:3])
        if status == 429 or status >= 500:
            return
        entry.answer = _Answer(status, resp.render_body(), resp.content_type)
        entry.until = self._clock() + self._seconds
        self._enter(place, entry)

    def _enter(self, place: _Place, entry: _Entry) -> None:
        self._entries[place] = entry
        self._entries.move_to_end(place)
        if len(self._entries) > self._most:
            # What runs stays, or it could be done twice; so much are no more than there are connections.
            over = (known for known, other in self._entries.items() if other.answer or self._clock() >= other.until)
            oldest = next(over, None)
            if oldest is not None:
                del self._entries[oldest]
