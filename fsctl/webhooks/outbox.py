"""Where webhooks wait until they are delivered or given up.

The sender puts every delivery here before it sends it and reports what became of it. This outbox lives in memory and
is gone with the process; one that survives it keeps the same contract and is handed to the sender instead.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from fsctl.value import value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsctl.call.events import Form

__all__ = ["OUTCOMES", "Delivery", "MemoryOutbox", "Outbox", "Outcome"]

# What can become of a webhook. ``gone``: the receiver answered 410; ``refused``: our own rules forbid the address.
Outcome: TypeAlias = Literal["delivered", "failed", "refused", "dropped", "gone"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("delivered", "failed", "refused", "dropped", "gone")


@value
class Delivery:
    """One event on its way to one URL, ready to be sent any number of times.

    ``url`` is the customer's, credentials and fragment included; ``query`` what a GET adds to it. ``id`` and ``at``
    (Unix seconds) stay the same over all attempts, so that a receiver can tell a repetition. ``form`` decides how the
    body is typed and signed.
    """

    id: str
    call_id: str
    event_type: str
    method: str
    url: str = field(repr=False)
    query: str = field(repr=False)
    body: bytes = field(repr=False)
    at: float
    form: Form = "json"


class Outbox(Protocol):
    """What the sender asks of an outbox. No method may block or raise: each is called in the middle of a call."""

    def put(self, delivery: Delivery) -> None:
        """Keep ``delivery`` until one of the next two says what became of it."""

    def done(self, delivery_id: str) -> None:
        """Forget a delivery that arrived."""

    def failed(self, delivery_id: str, outcome: Outcome) -> None:
        """End a delivery that was given up."""

    def pending(self) -> Iterable[Delivery]:
        """Deliveries that are neither done nor failed, oldest first."""


class MemoryOutbox:
    """An outbox that keeps nothing over the end of the process."""

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}

    def put(self, delivery: Delivery) -> None:
        """Keep ``delivery``."""
        self._deliveries[delivery.id] = delivery

    def done(self, delivery_id: str) -> None:
        """Forget a delivery that arrived."""
        self._deliveries.pop(delivery_id, None)

    def failed(self, delivery_id: str, outcome: Outcome) -> None:  # noqa: ARG002 -- memory keeps no dead letters
        """Forget a delivery that was given up."""
        self._deliveries.pop(delivery_id, None)

    def pending(self) -> tuple[Delivery, ...]:
        """Everything still waiting, oldest first."""
        return tuple(self._deliveries.values())
