"""What a document may name as a playable sound, and what it may not."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsctl.errors import ScriptError
from fsctl.media.rings import CADENCES
from fsctl.media.sounds import MAX_SECONDS, MAX_TEXT, Audio, Ring, Silence, Speech, parse

INVALID = "relay_script_method_parameter_invalid_value"


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        pytest.param("https://h.example/a.wav", Audio("https://h.example/a.wav"), id="https"),
        pytest.param("http://u:p@h/a b.mp3 ", Audio("http://u:p@h/a b.mp3"), id="http with credentials"),
        pytest.param("HTTPS://h/A", Audio("https://h/A"), id="scheme in upper case"),
        pytest.param("say:Hello", Speech("Hello"), id="say"),
        pytest.param("say:   Hello  ", Speech("Hello"), id="blanks around the words"),
        pytest.param("Say: a:b", Speech("a:b"), id="colon in the words"),
        pytest.param("say: one \r\n\n two\nthree", Speech("one two three"), id="line breaks are single blanks"),
        pytest.param("say: two  blanks", Speech("two  blanks"), id="other blanks stay"),
        pytest.param("say:<speak>Hi</speak>", Speech("<speak>Hi</speak>"), id="SSML is left to the voice"),
        pytest.param("silence:2", Silence(2.0), id="silence"),
        pytest.param("silence: 3.0", Silence(3.0), id="silence after a blank"),
        pytest.param("silence:.5", Silence(0.5), id="no digit before the point"),
        pytest.param("silence:1.", Silence(1.0), id="no digit after the point"),
        pytest.param("silence:0", Silence(0.0), id="no silence at all"),
        pytest.param("ring:us", Ring(None, "us"), id="one ring"),
        pytest.param("ring: UK", Ring(None, "uk"), id="country in upper case"),
        pytest.param("ring:us-old", Ring(None, "us-old"), id="us-old"),
        pytest.param("ring:10:de", Ring(10.0, "de"), id="ring with a duration"),
        pytest.param("ring: 7.5: fr", Ring(7.5, "fr"), id="blanks after both colons"),
        pytest.param("ring::jp", Ring(None, "jp"), id="empty duration"),
    ],
)
def test_reads(text, sound):
    assert parse(text) == sound


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "accepted are http://", id="empty"),
        pytest.param("hello", "accepted are http://", id="no scheme"),
        pytest.param("ftp://h/a.wav", "accepted are http://", id="another scheme"),
        pytest.param("tone_stream://path=/etc/passwd", "accepted are http://", id="a path of FreeSWITCH's"),
        pytest.param("/etc/passwd", "accepted are http://", id="a file"),
        pytest.param("http:", "without a host", id="no host at all"),
        pytest.param("https:///", "without a host", id="empty host"),
        pytest.param("http:h/a.wav", "without a host", id="no slashes"),
        pytest.param("https://h/" + "a" * MAX_TEXT, "more than 4096", id="long URL"),
        pytest.param("https://h/a\nb", "control character", id="newline in a URL"),
        pytest.param("https://h/a\ud800", "control character", id="half a character in a URL"),
        pytest.param("say:" + "a" * (MAX_TEXT + 1), "4097 characters", id="long text"),
        pytest.param("silence:", "a number of seconds", id="no number"),
        pytest.param("silence:-1", "a number of seconds", id="negative"),
        pytest.param("silence:1e3", "a number of seconds", id="exponent"),
        pytest.param("silence:1.2.3", "a number of seconds", id="two points"),
        pytest.param("silence:.", "a number of seconds", id="only a point"),
        pytest.param("silence:٣", "a number of seconds", id="digits of another script"),
        pytest.param("silence:nan", "a number of seconds", id="nan"),
        pytest.param("silence:86400.1", "longer than 86400", id="more than a day"),
        pytest.param("silence:" + "9" * 10**6, "a number of seconds", id="a million digits"),
        pytest.param("ring:", "known are at au", id="no country"),
        pytest.param("ring:xx", "known are at au", id="unknown country"),
        pytest.param("ring:us:10", "known are at au", id="the wrong way round"),
        pytest.param("ring:x:us", "a number of seconds", id="duration is a word"),
        pytest.param("ring:0:us", "rings for no time", id="no time"),
        pytest.param("ring:90000:us", "longer than 86400", id="more than a day of ringing"),
    ],
)
def test_refuses_with_a_reason(text, said):
    with pytest.raises(ScriptError) as caught:
        parse(text)

    assert caught.value.code == INVALID
    assert said in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("text", ["say:", "say:   ", "SAY: \n "])
def test_nothing_to_say_is_a_failed_play_not_a_wrong_document(text):
    with pytest.raises(ScriptError, match="no words") as caught:
        parse(text)

    assert caught.value.code == "relay_script_method_execute_failed"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://bob:hunter2@h/a.wav",
        "http://bob:hun/hunter2@h\nx",
        "https://bob:hunter2@h/" + "a" * MAX_TEXT,
        "https://h/?token=hunter2\nx",
        "https://" + "a" * MAX_TEXT + ":hunter2@h/",
    ],
)
def test_errors_and_reprs_hold_no_secrets(text):
    with pytest.raises(ScriptError) as caught:
        parse(text)

    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(parse("https://bob:hunter2@h/a.wav"))


@given(st.text())
@example("ring:\n:us")
@example("silence:\x00")
@example("//@")
def test_any_text_is_a_sound_or_a_script_error(text):
    try:
        sound = parse(text)
    except ScriptError:
        return
    assert isinstance(sound, (Audio, Speech, Silence, Ring))


@given(st.sampled_from(["say:", "SAY: ", "silence:", "ring:", "ring: 5:", "https:", "http://"]), st.text(max_size=40))
def test_what_is_accepted_is_safe_to_use(scheme, rest):
    try:
        sound = parse(scheme + rest)
    except ScriptError:
        return
    if isinstance(sound, Speech):
        assert sound.text == sound.text.strip() != ""
        assert not set("\r\n\v\f") & set(sound.text)
    elif isinstance(sound, Silence):
        assert 0 <= sound.seconds <= MAX_SECONDS
    elif isinstance(sound, Ring):
        assert sound.country in CADENCES
        assert sound.seconds is None or 0 < sound.seconds <= MAX_SECONDS
    else:
        assert sound.url.startswith(("http://", "https://"))
        assert not any(ord(character) < 0x20 for character in sound.url)


@given(st.decimals(min_value=0, max_value=86_400, places=3))
def test_decimals_are_read_as_written(seconds):
    assert parse(f"silence:{seconds}") == Silence(float(seconds))
