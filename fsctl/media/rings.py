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
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CADENCES", "RINGTONES", "Cadence", "Ring", "length", "tone_stream"]

EXACT_SECONDS = 60.0
"""Up to this long a ring is cut exactly, which costs 16 kB of FreeSWITCH's memory a second at 8 kHz."""

LEVEL = -7.0  # what FreeSWITCH plays a tone at when nobody says otherwise
LOUDEST, SOFTEST = 0.0, -63.0


@dataclass(frozen=True, slots=True)
class Ring:
    """A ringing tone: for ``seconds``, or one ring of the cadence when None.

    ``country`` is a key of ``CADENCES`` or one of ``RINGTONES``.
    """

    seconds: float | None
    country: str


@dataclass(frozen=True, slots=True)
class Cadence:
    """One ring: the frequencies in Hz, and the milliseconds of sound and of silence of each pulse in it.

    Where its pulses differ, ``notes`` has for each how much louder it is, in dB, and its own frequencies.
    """

    frequencies: tuple[float, ...]
    pulses: tuple[tuple[int, int], ...]
    notes: tuple[tuple[float, tuple[float, ...]], ...] = ()

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
"""The cadence of each country that documents can name, in the order of their reference."""


def _bong() -> Cadence:
    """The gong that asks for a calling card: the key #, then a dial tone that dies away to 1/e every 200 ms."""
    steps, milliseconds = 10, 94
    fading = tuple((-4.1 * step, (350.0, 440.0)) for step in range(steps))
    pulses = (*((milliseconds, 0) for _ in range(steps - 1)), (milliseconds, 2000))
    return Cadence((350, 440), ((60, 0), *pulses), ((0.0, (941.0, 1477.0)), *fading))


_MORE = {
    "ca": Cadence((440, 480), ((2000, 4000),)),
    "cy": Cadence((425,), ((1500, 3000),)),
    "dz": Cadence((425,), ((1500, 3500),)),
    "eg": Cadence(_modulated(425, 50), ((2000, 1000),)),
    "ko": Cadence((440, 480), ((1000, 2000),)),
    "pk": Cadence((400,), ((1000, 2000),)),
    "ro": Cadence(_modulated(450, 25), ((1850, 4150),)),
    "rs": _EUROPEAN,
    "sa": Cadence((425,), ((1200, 4600),)),
    "tr": Cadence((450,), ((2000, 4000),)),
    "bong": _bong(),
}
_ALL = CADENCES | _MORE

_NAMES = """
au be ca cn cy cz de dk dz eg es fi fr hu il in jp ko pk pl ro rs ru sa tr uk us at bg br ch cl ee gr it lt mx my nl no
nz ph pt se sg th za tw ve bong
"""
RINGTONES = tuple(_NAMES.split())
"""What the calling API can name, in its order."""


def tone_stream(ring: Ring, volume_db: float = 0.0) -> str:
    """``ring`` as a path for FreeSWITCH's ``playback``, ``volume_db`` louder than its usual tones.

    The generator's range limits the volume to between 56 dB softer and 7 dB louder. A ring of more than
    ``EXACT_SECONDS`` is rounded up to whole rings: :func:`length` tells what is played, so that the caller can
    stop it in time.
    """
    cadence = _ALL[ring.country]
    loops = _loops(ring)
    pulses = cadence.pulses if loops else _cut(cadence, _milliseconds(ring))
    script: list[str] = []
    level = ""
    for (on, off), (louder, frequencies) in zip(pulses, _notes(cadence), strict=False):
        wanted = f"v={min(LOUDEST, max(SOFTEST, LEVEL + volume_db + louder)):.6g}"
        if wanted != level:
            script.append(wanted)
            level = wanted
        tones = ",".join(f"{frequency:g}" for frequency in frequencies)
        script.append(f"%({on},{off},{tones})")
    return "tone_stream://" + ";".join([*script, f"loops={loops or 1}"])


def length(ring: Ring) -> float:
    """How many seconds :func:`tone_stream` plays for ``ring``: what it asks for, or more."""
    return (_loops(ring) * _ALL[ring.country].milliseconds or _milliseconds(ring)) / 1000


def _notes(cadence: Cadence) -> Iterator[tuple[float, tuple[float, ...]]]:
    return cycle(cadence.notes or ((0.0, cadence.frequencies),))


def _milliseconds(ring: Ring) -> int:
    return _ALL[ring.country].milliseconds if ring.seconds is None else max(1, round(ring.seconds * 1000))


def _loops(ring: Ring) -> int:
    """Whole rings to play; 0 when the ring has to be cut."""
    rings, rest = divmod(_milliseconds(ring), _ALL[ring.country].milliseconds)
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
