"""Ringing tones: every country's, as text that FreeSWITCH's tone generator reads the way we mean it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.media.rings import CADENCES, EXACT_SECONDS, RINGTONES, Ring, length, tone_stream

LISTED = """
at au bg br be ch cl cn cz de dk ee es fi fr gr hu il in it lt jp mx my nl no nz ph pl pt ru se sg th uk us us-old tw ve
za
"""
REFERENCE = LISTED.split()

PULSE = re.compile(r"%\((\d+),(\d+),(\d+(?:\.\d+)?(?:,\d+(?:\.\d+)?)*)\)")


def heard(path: str) -> tuple[float, list[tuple[int, int, tuple[float, ...]]], int]:
    """Read a tone_stream as mod_tone_stream and libteletone do: the level, the pulses, how often they are played."""
    body = re.fullmatch(r"tone_stream://(.+);loops=(\d+)", path)
    assert body is not None
    level, *pulses = body[1].split(";")
    assert re.fullmatch(r"v=-?\d+(\.\d+)?", level)
    read = [PULSE.fullmatch(pulse) for pulse in pulses]
    assert all(read)
    return (
        float(level[2:]),
        [(int(m[1]), int(m[2]), tuple(float(f) for f in m[3].split(","))) for m in read if m],
        int(body[2]),
    )


def milliseconds(path: str) -> int:
    _, pulses, loops = heard(path)
    return loops * sum(on + off for on, off, _ in pulses)


def test_every_country_of_the_reference_rings():
    assert list(CADENCES) == REFERENCE


@pytest.mark.parametrize("country", REFERENCE)
def test_one_ring_is_one_cycle_of_the_cadence(country):
    cadence = CADENCES[country]
    _, pulses, loops = heard(tone_stream(Ring(None, country)))

    assert loops == 1
    assert [(on, off) for on, off, _ in pulses] == list(cadence.pulses)
    assert {frequencies for _, _, frequencies in pulses} == {cadence.frequencies}
    assert length(Ring(None, country)) == cadence.milliseconds / 1000


@pytest.mark.parametrize("country", REFERENCE)
def test_cadences_are_what_networks_send(country):
    cadence = CADENCES[country]

    assert 3000 <= cadence.milliseconds <= 6000
    assert all(300 <= frequency <= 500 for frequency in cadence.frequencies)
    assert all(on >= 400 and off >= 200 for on, off in cadence.pulses)
    assert cadence.pulses[-1][1] >= 2000


@pytest.mark.parametrize(
    ("country", "path"),
    [
        ("us", "tone_stream://v=-7;%(2000,4000,440,480);loops=1"),
        ("uk", "tone_stream://v=-7;%(400,200,400,450);%(400,2000,400,450);loops=1"),
        ("de", "tone_stream://v=-7;%(1000,4000,425);loops=1"),
        ("fr", "tone_stream://v=-7;%(1500,3500,440);loops=1"),
        ("jp", "tone_stream://v=-7;%(1000,2000,400,400,384,416);loops=1"),
        ("us-old", "tone_stream://v=-7;%(2000,4000,420,420,380,460);loops=1"),
    ],
)
def test_what_freeswitch_is_told(country, path):
    assert tone_stream(Ring(None, country)) == path


@pytest.mark.parametrize("country", ["in", "jp", "sg", "us-old", "za"])
def test_a_modulated_tone_is_a_doubled_carrier_between_its_side_tones(country):
    carrier, again, low, high = CADENCES[country].frequencies

    assert carrier == again
    assert carrier - low == high - carrier > 0


@pytest.mark.parametrize("country", REFERENCE)
@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.5, 1, 2.5, 5, 7.3, 30, 59.999, 60])
def test_a_short_ring_lasts_exactly_as_long_as_asked(country, seconds):
    ring = Ring(seconds, country)

    assert milliseconds(tone_stream(ring)) == round(seconds * 1000)
    assert length(ring) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("ring", "pulses"),
    [
        pytest.param(Ring(0.3, "uk"), [(300, 0)], id="within the first sound"),
        pytest.param(Ring(0.5, "uk"), [(400, 100)], id="within the first silence"),
        pytest.param(Ring(0.6, "uk"), [(400, 200)], id="after the first pulse"),
        pytest.param(Ring(0.9, "uk"), [(400, 200), (300, 0)], id="within the second sound"),
        pytest.param(Ring(3.1, "uk"), [(400, 200), (400, 2000), (100, 0)], id="a ring and a bit"),
    ],
)
def test_where_a_ring_is_cut(ring, pulses):
    assert [(on, off) for on, off, _ in heard(tone_stream(ring))[1]] == pulses


def test_whole_rings_are_loops_however_many():
    assert tone_stream(Ring(15, "de")) == "tone_stream://v=-7;%(1000,4000,425);loops=3"
    assert tone_stream(Ring(86_400, "de")) == "tone_stream://v=-7;%(1000,4000,425);loops=17280"


@given(st.sampled_from(REFERENCE), st.floats(0.001, 86_400))
def test_the_length_is_what_is_played_and_the_text_stays_short(country, seconds):
    ring = Ring(seconds, country)
    path = tone_stream(ring)

    assert length(ring) == milliseconds(path) / 1000
    assert length(ring) >= seconds - 0.0005
    assert length(ring) <= seconds + (0.0005 if seconds <= EXACT_SECONDS else CADENCES[country].milliseconds / 1000)
    assert len(path) < 2000


@pytest.mark.parametrize(
    ("volume", "level"),
    [(0, -7.0), (3, -4.0), (7, 0.0), (40, 0.0), (-6.5, -13.5), (-40, -47.0), (-56, -63.0), (-90, -63.0)],
)
def test_the_volume_moves_the_level_within_what_the_generator_does(volume, level):
    assert heard(tone_stream(Ring(None, "us"), volume))[0] == level


# -- what the calling API names besides (calling-api 4.1) --------------------------------------------------------------

ITS_NAMES = """
au be ca cn cy cz de dk dz eg es fi fr hu il in jp ko pk pl ro rs ru sa tr uk us at bg br ch cl ee gr it lt mx my nl no
nz ph pt se sg th za tw ve bong
"""


def test_every_ringtone_of_the_calling_api_is_known():
    assert list(RINGTONES) == ITS_NAMES.split()


@pytest.mark.parametrize("name", sorted(set(RINGTONES) - {"bong"}))
def test_a_ringtone_is_heard_over_and_over(name):
    _, pulses, loops = heard(tone_stream(Ring(86_400, name)))

    assert loops > 10_000
    assert all(300 <= frequency <= 500 for _, _, frequencies in pulses for frequency in frequencies)
    assert pulses[-1][1] >= 1000


def test_a_bong_is_a_key_and_a_dial_tone_that_dies_away():
    script, _, loops = tone_stream(Ring(None, "bong"), 2.0).removeprefix("tone_stream://").rpartition(";loops=")
    pulses = [(on, off, frequencies) for on, off, frequencies in PULSE.findall(script)]
    levels = [float(level) for level in re.findall(r"v=(-?[0-9.]+)", script)]

    assert script.startswith("v=-5;%(60,0,941,1477);%(94,0,350,440);v=")
    assert {frequencies for _, _, frequencies in pulses[1:]} == {"350,440"}
    assert levels == sorted(levels, reverse=True)
    assert levels[0] - levels[-1] > 30
    assert (sum(int(on) + int(off) for on, off, _ in pulses), loops) == (3000, "1")


def test_a_short_bong_is_cut_like_any_other():
    assert tone_stream(Ring(0.1, "bong")) == "tone_stream://v=-7;%(60,0,941,1477);%(40,0,350,440);loops=1"
