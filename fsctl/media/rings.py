"""The ringing tones of the world as data, and as text that FreeSWITCH's tone generator plays.

Frequencies and cadences are facts of the national networks: ITU-T E.180 supplement 2 ("Various tones used in
national networks"), and for what it leaves out the tables that Asterisk and FreeSWITCH ship. Where those disagree, the
ITU's or the majority's value stands. Pure. Reference: swml-calling, "play", ``ring:``; freeswitch, section 4.3.

What the tone generator (libteletone) gives us to work with:

* ``%(on,off,f1,f2,…)`` is a pulse in milliseconds; pulses follow each other separated by ``;``.
* Frequencies of a pulse are added at equal amplitude and divided by their number. It cannot modulate, but a carrier
  named twice between its two side tones *is* the carrier, fully modulated.
* ``v=`` is the level in dB of what follows, from -63 to 0; FreeSWITCH starts at -7.
* ``;loops=N`` plays everything N times. Everything before it is generated at once, into memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CADENCES", "Cadence", "Ring", "length", "tone_stream"]

EXACT_SECONDS = 60.0
"""Up to this long a ring is cut exactly, which costs 16 kB of FreeSWITCH's memory a second at 8 kHz."""

LEVEL = -7.0  # what FreeSWITCH plays a tone at when nobody says otherwise
LOUDEST, SOFTEST = 0.0, -63.0


@dataclass(frozen=True, slots=True)
class Ring:
    """A ringing tone: for ``seconds``, or one ring of the cadence when None. ``country`` is a key of ``CADENCES``."""

    seconds: float | None
    country: str


@dataclass(frozen=True, slots=True)
class Cadence:
    """One ring: the frequencies in Hz, and the milliseconds of sound and of silence of each pulse in it."""

    frequencies: tuple[float, ...]
    pulses: tuple[tuple[int, int], ...]

    @property
    def milliseconds(self) -> int:
        """How long one ring takes, with the silence that belongs to it."""
        return sum(on + off for on, off in self.pulses)


def _modulated(carrier: float, by: float) -> tuple[float, ...]:
    return (carrier, carrier, carrier - by, carrier + by)


_DOUBLE = ((400, 200), (400, 2000))
_EUROPEAN = Cadence((425,), ((1000, 4000),))

CADENCES: dict[str, Cadence] = {
    "at": Cadence((420,), ((1000, 5000),)),
    "au": Cadence((383, 417), _DOUBLE),
    "bg": _EUROPEAN,
    "br": _EUROPEAN,
    "be": Cadence((425,), ((1000, 3000),)),
    "ch": _EUROPEAN,
    "cl": Cadence((400,), ((1000, 3000),)),
    "cn": Cadence((450,), ((1000, 4000),)),
    "cz": _EUROPEAN,
    "de": _EUROPEAN,
    "dk": _EUROPEAN,
    "ee": _EUROPEAN,
    "es": Cadence((425,), ((1500, 3000),)),
    "fi": _EUROPEAN,
    "fr": Cadence((440,), ((1500, 3500),)),
    "gr": _EUROPEAN,
    "hu": Cadence((425,), ((1250, 3750),)),
    "il": Cadence((400,), ((1000, 3000),)),
    "in": Cadence(_modulated(400, 25), _DOUBLE),
    "it": _EUROPEAN,
    "lt": _EUROPEAN,
    "jp": Cadence(_modulated(400, 16), ((1000, 2000),)),
    "mx": _EUROPEAN,
    "my": Cadence((425,), _DOUBLE),
    "nl": _EUROPEAN,
    "no": _EUROPEAN,
    "nz": Cadence((400, 450), _DOUBLE),
    "ph": Cadence((425, 480), ((1000, 4000),)),
    "pl": _EUROPEAN,
    "pt": Cadence((425,), ((1000, 5000),)),
    "ru": Cadence((425,), ((800, 3200),)),
    "se": Cadence((425,), ((1000, 5000),)),
    "sg": Cadence(_modulated(425, 24), _DOUBLE),
    "th": Cadence((400,), ((1000, 4000),)),
    "uk": Cadence((400, 450), _DOUBLE),
    "us": Cadence((440, 480), ((2000, 4000),)),
    "us-old": Cadence(_modulated(420, 40), ((2000, 4000),)),
    "tw": Cadence((440, 480), ((1000, 2000),)),
    "ve": _EUROPEAN,
    "za": Cadence(_modulated(400, 33), _DOUBLE),
}
"""The cadence of each country the reference names, in its order."""


def tone_stream(ring: Ring, volume_db: float = 0.0) -> str:
    """``ring`` as a path for FreeSWITCH's ``playback``, ``volume_db`` louder than its usual tones.

    The generator's range limits the volume to between 56 dB softer and 7 dB louder. A ring of more than
    ``EXACT_SECONDS`` is rounded up to whole rings: :func:`length` tells what is played, so that the caller can
    stop it in time.
    """
    cadence = CADENCES[ring.country]
    loops = _loops(ring)
    pulses = cadence.pulses if loops else _cut(cadence, _milliseconds(ring))
    tones = ",".join(f"{frequency:g}" for frequency in cadence.frequencies)
    level = min(LOUDEST, max(SOFTEST, LEVEL + volume_db))
    return "tone_stream://" + ";".join(
        [f"v={level:.6g}", *(f"%({on},{off},{tones})" for on, off in pulses), f"loops={loops or 1}"]
    )


def length(ring: Ring) -> float:
    """How many seconds :func:`tone_stream` plays for ``ring``: what it asks for, or more."""
    return (_loops(ring) * CADENCES[ring.country].milliseconds or _milliseconds(ring)) / 1000


def _milliseconds(ring: Ring) -> int:
    return CADENCES[ring.country].milliseconds if ring.seconds is None else max(1, round(ring.seconds * 1000))


def _loops(ring: Ring) -> int:
    """Whole rings to play; 0 when the ring has to be cut."""
    rings, rest = divmod(_milliseconds(ring), CADENCES[ring.country].milliseconds)
    if rest == 0:
        return rings
    return 0 if _milliseconds(ring) <= EXACT_SECONDS * 1000 else rings + 1


def _cut(cadence: Cadence, milliseconds: int) -> Iterator[tuple[int, int]]:
    while True:
        for on, off in cadence.pulses:
            if milliseconds <= 0:
                return
            sound = min(on, milliseconds)
            yield sound, min(off, milliseconds - sound)
            milliseconds -= on + off
