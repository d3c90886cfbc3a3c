from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.simulator.text import clean, decode_url, encode_url, seconds_of, separate, split_parameters, truth


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("+15550100", "%2B15550100"),
        ("a b,c/d.e(f)!~$'*", "a%20b,c/d.e(f)!~$'*"),
        ("100%", "100%25"),
        ("x%0Ay", "x%0Ay"),
        ("x%0ay", "x%250ay"),
        ("é", "%C3%A9"),
        ('"<sip:a@b>;c=d#e&f?"', "%22%3Csip%3Aa%40b%3E%3Bc%3Dd%23e%26f%3F%22"),
        ("a\r\nb\\{}[]^`|", "a%0D%0Ab%5C%7B%7D%5B%5D%5E%60%7C"),
        ("\udcff", "%FF"),
    ],
)
def test_url_encoding(text, encoded):
    assert encode_url(text) == encoded


@given(st.text().filter(lambda text: "%" not in text))
def test_url_encoding_can_be_undone_where_there_is_no_percent_sign(text):
    assert decode_url(encode_url(text)) == text
    assert "\n" not in encode_url(text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("  lead and trail  ", "lead and trail"),
        ("'quoted  '", "quoted  "),
        ("it's", "it's"),
        ("it's a 'pair'", "its a pair'"),
        (r"a\sb\nc\td", "a b\nc\td"),
        (r"\'\"\\", "'\"\\"),
        (r"\d+\w", r"\d+\w"),
        ('{"a":"b c"}', '{"a":"b c"}'),
        ("", ""),
    ],
)
def test_cleaning_of_a_separated_piece(text, cleaned):
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "limit", "pieces"),
    [
        ("u name the rest of it", 3, ["u", "name", "the rest of it"]),
        ("u  name   x ", 3, ["u", "name", "x"]),
        ("u send_text 'two words' more", 6, ["u", "send_text", "two words", "more"]),
        (r"u a\ b c", 5, ["u", r"a\ b", "c"]),
        ("u", 3, ["u"]),
        ("", 3, []),
    ],
)
def test_separating_at_spaces(text, limit, pieces):
    assert separate(text, limit) == pieces


def test_separating_at_another_character_keeps_empty_pieces():
    assert separate("a||b", 5, "|") == ["a", "", "b"]


@pytest.mark.parametrize(
    ("text", "parameters", "rest"),
    [
        ("{a=1,b=2}/x.wav", {"a": "1", "b": "2"}, "/x.wav"),
        ("{^^;a=1,5;b=2}x", {"a": "1,5", "b": "2"}, "x"),
        ("{a=1}{b=2}x", {"a": "1", "b": "2"}, "x"),
        ("{unclosed", {}, "{unclosed"),
        ("/x.wav", {}, "/x.wav"),
    ],
)
def test_leading_parameters(text, parameters, rest):
    assert split_parameters(text) == (parameters, rest)


def test_truth_and_numbers():
    assert [truth(text) for text in ("true", "YES", "1", "-1", "0", "false", "", None)] == [True] * 4 + [False] * 4
    assert [seconds_of(text) for text in ("12", " -3x", "x", None)] == [12, -3, 0, 0]
