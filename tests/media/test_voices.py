"""Which voice speaks, and what it is given to say."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsctl.media.voices import Voice, Voices, spoken


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        pytest.param(("Polly.Salli",), "slt", id="the reference's default"),
        pytest.param(("polly.MATTHEW",), "rms", id="a man, in any case"),
        pytest.param(("Polly.Matthew-Neural",), "rms", id="a man's neural model"),
        pytest.param(("Polly.Brian:neural",), "awb", id="a model after a colon"),
        pytest.param((None, "en-US", "male"), "rms", id="any American man"),
        pytest.param((None, "en-GB", "male"), "awb", id="any British man"),
        pytest.param((None, "en-AU", "Female"), "slt", id="any Australian woman"),
        pytest.param((None,), "slt", id="nothing asked for"),
    ],
)
def test_english_needs_no_configuration(asked, name):
    assert Voices().choose(*asked) == Voice("flite", name, None)


def test_a_voice_nobody_mapped_is_replaced_by_one_of_its_language_and_gender_and_said_so():
    assert Voices().choose("gcloud.en-US-Neural2-D", "en-US", "male") == Voice(
        "flite", "rms", "no voice gcloud.en-US-Neural2-D is mapped; flite|rms speaks"
    )


def test_a_language_flite_does_not_know_is_said_so():
    voice = Voices().choose("Polly.Salli", "es-ES")

    assert (voice.engine, voice.name) == ("flite", "slt")
    assert voice.note == "flite speaks English only; es-ES will sound wrong"


def test_a_language_nobody_mapped_falls_to_the_default_and_is_said_so():
    voice = Voices("piper", "amy").choose(None, "de-DE")

    assert voice == Voice("piper", "amy", "no language de-DE is mapped; piper|amy speaks")


MAPPED = {
    "Polly.Vicki": "piper|eva",
    "Polly.*": "piper|any",
    "Polly.Jo*": "piper|jo",
    "es": "piper|carla",
    "es-MX/male": "piper|pedro",
    "es-MX": "piper|ana",
    "amy": "piper|amy",
}


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        pytest.param(("polly.vicki", "de-DE"), "eva", id="name before prefix"),
        pytest.param(("Polly.Joanna", "en-US"), "jo", id="the longest prefix"),
        pytest.param(("Polly.Hans", "de-DE"), "any", id="prefix"),
        pytest.param(("Amy", "en-GB"), "amy", id="a name that looks like a language"),
        pytest.param((None, "es-MX", "male"), "pedro", id="language and gender"),
        pytest.param((None, "es-MX", "female"), "ana", id="language"),
        pytest.param((None, "es-AR", "female"), "carla", id="language without its region"),
    ],
)
def test_what_the_operator_mapped_decides(asked, name):
    assert Voices("piper", "default", MAPPED).choose(*asked) == Voice("piper", name, None)


def test_the_operators_entries_win_over_the_shipped_ones():
    assert Voices(mapped={"polly.salli": "flite|kal"}).choose("Polly.Salli").name == "kal"


def test_another_default_voice_speaks_for_everyone_who_is_not_mapped():
    voices = Voices("flite", "kal")

    assert voices.choose("Polly.Matthew").name == "kal"
    assert voices.choose(None, "en-US", "male").name == "kal"


@pytest.mark.parametrize("target", ["flite", "|slt", "flite|", ""])
def test_a_mapping_that_would_hang_up_the_call_is_refused(target):
    with pytest.raises(ValueError, match=r"engine\|voice"):
        Voices(mapped={"x": target})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("Hello, world!", "Hello, world!", id="plain"),
        pytest.param("a|b", "a|b", id="bars stay"),
        pytest.param("it's", "it's", id="apostrophes stay"),
        pytest.param("{rate=9}Hello", "rate=9}Hello", id="parameters of the engine"),
        pytest.param(" { {x", "x", id="braces after blanks, which the engine skips"),
        pytest.param("press *1#", "press star 1 pound", id="keys are words of their own"),
        pytest.param("a\r\nb\tc\x00d\x1be", "a b c d e", id="control characters"),
        pytest.param("a\ud800b", "a b", id="half a character"),
        pytest.param("a\u200bb\ufeff", "ab", id="invisible characters"),
        pytest.param("<speak>Tom &amp; <b>Jerry</b></speak>", "Tom & Jerry", id="SSML"),
        pytest.param(' <SPEAK version="1.0">Hi<break time="1s"/>you<!-- < no --></SPEAK>', "Hi you", id="SSML tags"),
        pytest.param("<speak>{a=b}x</speak>", "a=b}x", id="parameters within SSML"),
        pytest.param("<speak></speak>", "", id="SSML without words"),
        pytest.param("1 < 2 and 3 > 2", "1 < 2 and 3 > 2", id="not SSML"),
        pytest.param(" \n ", "", id="blanks"),
        pytest.param("*{", "star {", id="a brace that is not at the start"),
    ],
)
def test_text_as_the_engine_gets_it(text, said):
    assert spoken(text) == said


def test_an_engine_that_understands_ssml_gets_it():
    assert spoken("<speak>\n Hi * <break/></speak>", ssml=True) == "<speak> Hi * <break/></speak>"


def test_the_words_for_star_and_pound_can_be_another_languages():
    assert spoken("*#", star="Stern", pound="Raute") == "Stern Raute"


@given(st.text())
@example("<speak>\ud800&#0;&#10;")
@example("<speak>&lcub;x")
def test_no_text_breaks_the_line_or_becomes_parameters(text):
    said = spoken(text)

    assert not said.startswith(("{", " "))
    assert not set(said) & set("*#\r\n\0")
    said.encode()
