"""How a stream ended, as a value. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Ended"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a stream ended.

    ``reason`` is one of a closed list: ``stopped`` (we were asked), ``hangup``, ``closed`` (by the endpoint), ``lost``
    (the connection, or no answer to a ping), ``protocol`` (the endpoint broke it), ``internal``; and when it could not
    be opened, the reason of a FetchError: ``refused``, ``dns``, ``connect``, ``timeout``, ``tls``, ``status``,
    ``address``, ``scheme``, ``malformed``, ``content``. ``detail`` is for people.
    """

    reason: str
    detail: str = ""
