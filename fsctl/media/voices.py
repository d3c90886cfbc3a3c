"""Which FreeSWITCH voice speaks for the one a document names, and the text as a speech engine can take it.

SWML names voices of clouds (``Polly.Salli``, ``gcloud.en-US-Neural2-A``) that a plain FreeSWITCH does not have, so the
operator maps them. Out of the box everything is spoken by mod_flite, whose voices ``slt``, ``rms``, ``awb`` and ``kal``
know English only. Speaks nothing itself. Pure. Reference: swml-calling, "play"; freeswitch, sections 2.4 and 4.6.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Voice", "Voices", "spoken"]

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]+)*(?:/(?:male|female))?")
_ENGLISH_ONLY = frozenset(("flite",))

_FLITE_LANGUAGES = {"en/female": "flite|slt", "en/male": "flite|rms", "en-gb/male": "flite|awb"}
_FLITE_NAMES = {
    "flite|slt": "aditi amy aria ayanda danielle emma ivy jasmine joanna kajal kendra kimberly niamh nicole olivia "
    "raveena ruth salli",
    "flite|rms": "gregory joey justin kevin matthew patrick russell stephen",
    "flite|awb": "arthur brian geraint",
}
"""Amazon Polly's English voices by the sex they have there, so that ``say_voice`` alone tells a man from a woman."""

_TAG = re.compile(r"<!--.*?-->|<[^<>]*>", re.DOTALL)
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\ufeff]")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Voice:
    """What FreeSWITCH speaks with. ``note`` says, for the log, what the listener will miss; None when nothing."""

    engine: str
    name: str
    note: str | None = None


class Voices:
    """The voice table: ``mapped`` first, then ``engine`` and ``voice``.

    While those two are flite's ``slt``, as shipped, English men and women speak with flite's other voices as well.

    A key of ``mapped`` is a voice's name (``Polly.Salli``), the beginning of one (``Polly.*``; the longest wins), or a
    language with or without a gender (``en-GB/male``, ``es``); upper and lower case are the same. The values are
    ``engine|voice``.
    """

    def __init__(self, engine: str = "flite", voice: str = "slt", mapped: Mapping[str, str] | None = None) -> None:
        self._default = f"{engine}|{voice}"
        self._names: dict[str, str] = {}
        self._prefixes: list[tuple[str, str]] = []
        self._languages: dict[str, str] = {}
        if self._default == "flite|slt":
            self._names = {f"polly.{name}": target for target, names in _FLITE_NAMES.items() for name in names.split()}
            self._languages = dict(_FLITE_LANGUAGES)
        for key, target in (mapped or {}).items():
            self._map(key.strip().lower(), target)
        self._prefixes.sort(key=lambda entry: -len(entry[0]))

    def _map(self, key: str, target: str) -> None:
        engine, bar, voice = target.partition("|")
        if not (engine and bar and voice):
            raise ValueError(f"{key} is mapped to {target!r}; it has to be engine|voice")
        if key.endswith("*"):
            self._prefixes.append((key[:-1], target))
            return
        self._names[key] = target
        if _LANGUAGE.fullmatch(key):  # a voice may be called amy
            self._languages[key] = target

    def choose(self, name: str | None, language: str = "en-US", gender: str = "female") -> Voice:
        """Choose the voice for what a document asks for; ``name`` is None when it names none.

        A mapped name decides alone. Else language and gender do, then the default, and the note says so.
        """
        target, note = (self._by_name(name.strip().lower()) if name else None), None
        if target is None:
            target = self._by_language(language.strip().lower(), gender.strip().lower())
            wanted = f"voice {name}" if name else f"language {language}"
            if name or target is None:
                note = f"no {wanted} is mapped; {target or self._default} speaks"
        engine, _, voice = (target or self._default).partition("|")
        if engine in _ENGLISH_ONLY and not language.strip().lower().startswith("en"):
            note = f"{engine} speaks English only; {language} will sound wrong" + (f"; {note}" if note else "")
        return Voice(engine, voice, note)

    def _by_name(self, name: str) -> str | None:
        # engine.voice[:model] or engine.voice-Neural: the model of a voice does not change who it is
        plain = name.partition(":")[0].removesuffix("-neural")
        for known in (name, plain):
            if known in self._names:
                return self._names[known]
        return next((target for prefix, target in self._prefixes if name.startswith(prefix)), None)

    def _by_language(self, language: str, gender: str) -> str | None:
        base = language.partition("-")[0]
        keys = (f"{language}/{gender}", language, f"{base}/{gender}", base)
        return next((self._languages[key] for key in keys if key in self._languages), None)


def spoken(text: str, *, ssml: bool = False, star: str = "star", pound: str = "pound") -> str:
    """Make ``text`` fit for FreeSWITCH's ``speak``; what comes back empty must not be spoken, it ends the call.

    It becomes one line without control characters. SSML loses its tags unless the engine understands ``ssml``.
    Braces at the start would be parameters of the engine, so they go. ``*`` and ``#`` become words here, because
    FreeSWITCH would glue its own to the neighbours.
    """
    if text.lstrip()[:6].lower() == "<speak":
        if ssml:
            return _BLANKS.sub(" ", text).strip()
        text = html.unescape(_TAG.sub(" ", text))
    text = text.replace("*", f" {star} ").replace("#", f" {pound} ")
    return _BLANKS.sub(" ", _INVISIBLE.sub("", text)).lstrip(" {").rstrip()
