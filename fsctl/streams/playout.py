"""An endpoint's audio into a call, on a FreeSWITCH as everybody has it.

The open mod_audio_stream plays nothing. What does, with everything else going on as before, is ``uuid_displace`` in
mixing mode on a named pipe of raw audio: FreeSWITCH takes a frame from the pipe for each frame it sends the party, adds
it to whatever plays, through bridges too, and what the party hears (``outbound_track``) holds it. The other ways were
tried: ``unicast`` (5 to 15 ms) runs only while the call is parked, collides with every sound and with the silence that
mod_audio_stream needs, and cannot be stopped; ``playback`` of a pipe reads a second ahead.

The price: FreeSWITCH waits for the pipe when it is empty, and the call's audio with it. So the pipe is never empty:
a timer keeps ``FLOOR_MS`` of it filled, with silence if need be. That is the added delay (60 ms; measured from our
write to the party's RTP: 44 to 76, median 57), and the longest stall of this process that nobody hears. When the
process dies the pipe ends and FreeSWITCH goes on without it.

The number of bytes in the pipe is known exactly, so a mark comes back when what was before it has been taken.
"""

from __future__ import annotations

import array
import fcntl
import os
import termios
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import gevent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Line", "PipePlayout", "Playout"]

FLOOR_MS = 60
LEAST_MS = 40
LEAD_MS = 100
FRAME_MS = 20
MAX_QUEUED_SECONDS = 120


class Playout(Protocol):
    """Plays to the party. Nothing here waits."""

    rate: int
    """Hz; linear audio, 16-bit, one channel."""

    def play(self, linear: bytes) -> bool:
        """Queue audio; False when the queue is full and nothing was taken."""

    def mark(self, name: str) -> None:
        """Say ``name`` once everything before it was played, or cleared."""

    def clear(self) -> None:
        """Forget what was not played; its marks are said now."""

    def close(self) -> None:
        """Play no more, and say no more marks."""


class Line(Protocol):
    """What a two-way stream asks of its call. Nothing here waits."""

    def playout(self, rate: int, marked: Callable[[str], None]) -> Playout:
        """Start to play; ``marked`` is called with each mark, in the loop. Raises OSError."""

    def press(self, digit: str) -> None:
        """Send a digit to the party."""


class PipePlayout:
    """A pipe at ``path`` (ending in ``.r8`` for 8 kHz, ``.r16`` for 16 kHz) that FreeSWITCH is told to displace with.

    The pipe is made, filled and fed from the start; ``close`` removes it. ``starved`` counts how often FreeSWITCH found
    it empty.
    """

    def __init__(self, path: Path, rate: int, marked: Callable[[str], None]) -> None:
        self.path = path
        self.rate = rate
        self.starved = 0
        self._marked = marked
        self._floor = rate * FLOOR_MS // 1000 * 2
        self._least = rate * LEAST_MS // 1000 * 2
        self._lead = rate * LEAD_MS // 1000 * 2
        self._most = rate * MAX_QUEUED_SECONDS * 2
        self._queue = bytearray()
        self._taken = 0  # of everything ever queued, in bytes
        self._written = 0  # into the pipe, silence included
        self._speaking = False
        self._spoken = 0  # of that, up to the last byte that was not our silence
        self._queued_marks: deque[tuple[int, str]] = deque()  # at a place of the queue
        self._due_marks: deque[tuple[int, str]] = deque()  # at a place of the pipe
        self._level = array.array("i", [0])
        os.mkfifo(path, 0o640)
        # Both ends are ours: opening waits for nobody, and the pipe does not break while FreeSWITCH comes or goes.
        self._pipe: int = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._timer: Any = gevent.get_hub().loop.timer(FRAME_MS / 1000, FRAME_MS / 1000)
        self._pump()
        self._timer.start(self._pump)

    def play(self, linear: bytes) -> bool:
        """Queue audio; False when two minutes are waiting already."""
        if len(self._queue) + len(linear) > self._most:
            return False
        self._queue += linear
        return True

    def mark(self, name: str) -> None:
        """Say ``name`` once everything before it left the pipe; at once if it has."""
        self._queued_marks.append((self._taken + len(self._queue), name))
        self._pass_marks(self._written - self._in_pipe())

    def clear(self) -> None:
        """Forget the queue and what is in the pipe, and say all marks."""
        self._taken += len(self._queue)
        self._queue.clear()
        if level := self._in_pipe():
            try:
                level = len(os.read(self._pipe, level))
                os.write(self._pipe, bytes(level))  # at once, so that FreeSWITCH never finds it empty
            except BlockingIOError:  # FreeSWITCH took the last of it in between
                self._pump()
        self._spoken = 0
        names = [name for _, name in (*self._due_marks, *self._queued_marks)]
        self._due_marks.clear()
        self._queued_marks.clear()
        for name in names:
            self._marked(name)

    def close(self) -> None:
        """End the pipe; FreeSWITCH reads its end and goes on without."""
        if self._pipe >= 0:
            self._timer.stop()
            self._timer.close()
            os.close(self._pipe)
            self._pipe = -1
            self.path.unlink(missing_ok=True)
            self._queue.clear()
            self._due_marks.clear()
            self._queued_marks.clear()

    def _in_pipe(self) -> int:
        fcntl.ioctl(self._pipe, termios.FIONREAD, self._level)
        return self._level[0]

    def _pump(self) -> None:
        """Fill up: speech as far as ``LEAD_MS``, silence as far as ``FLOOR_MS``.

        Amid speech silence waits until ``LEAST_MS``: the next words may be late by a frame and still follow at once.
        """
        level = self._in_pipe()
        if not level and self._written:
            self.starved += 1
        self._pass_marks(self._written - level)
        speech = bytes(self._queue[: max(self._lead - level, 0)])
        filled = level + len(speech)
        enough = self._least if speech or self._speaking else self._floor
        silence = bytes(self._floor - filled) if filled < enough else b""
        self._speaking = bool(speech)
        if not (speech or silence):
            return
        try:
            written = os.write(self._pipe, speech + silence)
        except BlockingIOError:
            return
        taken = min(written, len(speech))
        del self._queue[:taken]
        self._taken += taken
        if taken:
            self._spoken = self._written + taken
        self._written += written

    def _pass_marks(self, played: int) -> None:
        while self._queued_marks and self._queued_marks[0][0] <= self._taken:
            self._due_marks.append((self._spoken, self._queued_marks.popleft()[1]))
        while self._due_marks and self._due_marks[0][0] <= played:
            self._marked(self._due_marks.popleft()[1])
