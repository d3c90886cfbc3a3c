"""WebSocket messages out of bytes and into bytes: a short path for the frames of live audio beside the library. Pure.

The library (``websockets``, without I/O) does the handshake, control frames, fragments, refusals and the close. It is
given whole frames only, so between two of them it holds nothing back, and a whole unfragmented data frame of the kind
we wait for need not go through it. That halves what a message costs.

A frame longer than ``limit``, masked where it must not be or bare where it must be masked, compressed, of an unknown
kind: all of these go to the library, which closes with the right code. What waits for its end is at most one frame.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode
from websockets.protocol import Side, State

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without the compiled part
    from websockets.utils import apply_mask

if TYPE_CHECKING:
    from websockets.protocol import Protocol

__all__ = ["Framing", "bare_text", "masked_text"]

_MEDIUM = Struct("!BBH")
_LONG = Struct("!BBQ")
_MASKED = 0x80
_POOL = 8192


class Masks:
    """Masking keys from the system's generator, fetched many at a time: nobody outside can foretell them."""

    __slots__ = ("_at", "_pool")

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        """Four bytes that were used for nothing else."""
        at = self._at
        if at == len(self._pool):
            self._pool = os.urandom(_POOL)
            at = 0
        self._at = at + 4
        return self._pool[at : at + 4]


_next_mask = Masks().next


def masked_text(payload: bytes) -> bytes:
    """A whole text frame as a client sends it."""
    mask = _next_mask()
    length = len(payload)
    if 126 <= length < 65_536:
        head = _MEDIUM.pack(0x81, 0xFE, length)
    elif length < 126:
        head = bytes((0x81, _MASKED | length))
    else:
        head = _LONG.pack(0x81, 0xFF, length)
    return head + mask + apply_mask(payload, mask)


def bare_text(payload: bytes) -> bytes:
    """A whole text frame as a server sends it."""
    length = len(payload)
    if 126 <= length < 65_536:
        return _MEDIUM.pack(0x81, 126, length) + payload
    if length < 126:
        return bytes((0x81, length)) + payload
    return _LONG.pack(0x81, 127, length) + payload


class Framing:
    """One side of an open WebSocket, after its handshake.

    ``wanted`` is the kind of message we wait for; messages of the other kind are passed over. ``limit`` bounds a
    message in bytes and must be the library's ``max_size`` too.
    """

    __slots__ = ("_fragmented", "_held", "_masked", "_parts", "_plain", "_wanted", "limit", "protocol", "spoke")

    def __init__(self, protocol: Protocol, wanted: Opcode, limit: int) -> None:
        self.protocol = protocol
        self.limit = limit
        self.spoke = False
        self._wanted = wanted
        self._plain = 0x80 | wanted
        self._masked = _MASKED if protocol.side is Side.SERVER else 0
        self._held = b""
        self._parts: list[bytes] | None = None
        self._fragmented = False

    @property
    def over(self) -> bool:
        """True once a close frame was sent or received, or the framing was broken: no more messages come."""
        return self.protocol.state is not State.OPEN

    def receive(self, data: bytes) -> list[bytes]:
        """The wanted messages that are complete now. Afterwards, when ``spoke`` is set, send :meth:`answers`."""
        messages: list[bytes] = []
        if self.over:
            return messages
        if self._held:
            data = self._held + data
            self._held = b""
        at, end = 0, len(data)
        while end - at >= 2:
            second = data[at + 1]
            length = second & 0x7F
            begin = at + 2
            if length >= 126:
                begin += 2 if length == 126 else 8
                if begin > end:
                    break
                length = int.from_bytes(data[at + 2 : begin], "big")
            if (second & _MASKED) != self._masked or length > self.limit:
                self._through_library(data[at:], messages)
                return messages
            if self._masked:
                begin += 4
            stop = begin + length
            if stop > end:
                break
            if data[at] == self._plain and not self._fragmented:
                payload = data[begin:stop]
                messages.append(apply_mask(payload, data[begin - 4 : begin]) if self._masked else payload)
            else:
                self._through_library(data[at:stop], messages)
                if self.over:
                    return messages
            at = stop
        self._held = data[at:]
        return messages

    def end(self) -> None:
        """The far end will send nothing more."""
        self.protocol.receive_eof()
        self.protocol.events_received()

    def answers(self) -> bytes:
        """What the library wants sent: pongs, a close, or nothing."""
        self.spoke = False
        return b"".join(self.protocol.data_to_send())

    def _through_library(self, frame: bytes, messages: list[bytes]) -> None:
        self.spoke = True
        self.protocol.receive_data(frame)
        for event in self.protocol.events_received():
            if isinstance(event, Frame):
                self._take(event, messages)

    def _take(self, frame: Frame, messages: list[bytes]) -> None:
        """Put the fragments of a message together; the library has counted their size."""
        opcode = frame.opcode
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._parts = [] if opcode is self._wanted else None
        elif opcode is not Opcode.CONT:
            return
        self._fragmented = not frame.fin
        if self._parts is not None:
            self._parts.append(bytes(frame.data))
            if frame.fin:
                messages.append(b"".join(self._parts))
                self._parts = None
