"""What recognisers say is read in each of their forms, and never breaks the call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.freeswitch.speech import Heard, heard

NLSML = """<?xml version="1.0"?>
<result>
 <interpretation grammar="session:x" confidence="{confidence}">
  <instance>sales</instance>
  <input mode="speech">{text}</input>
 </interpretation>
</result>"""


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param('{"text": "yes please", "confidence": 0.5}', Heard("yes please", 0.5), id="json"),
        pytest.param('{"text":"agent","confidence":87.300000}', Heard("agent", 0.873), id="json-of-a-hundred"),
        pytest.param('{"text": " yes "}', Heard("yes", 0.0), id="json-without-confidence"),
        pytest.param(
            '{"alternatives": [{"transcript": "one", "confidence": 0.9}, {"transcript": "won"}]}',
            Heard("one", 0.9),
            id="json-alternatives",
        ),
        pytest.param(
            '{"grammar": "default", "text": "", "confidence": 0, "error": "no_input"}',
            Heard("", 0.0, silent=True),
            id="json-no-input",
        ),
        pytest.param('{"text": "", "error": "no_match"}', Heard(""), id="json-no-match"),
        pytest.param('{"text": ["yes"]}', Heard(""), id="json-of-another-kind"),
        pytest.param(NLSML.format(text="sales &amp; more", confidence="0.9"), Heard("sales & more", 0.9), id="nlsml"),
        pytest.param(NLSML.format(text="yes", confidence="90"), Heard("yes", 0.9), id="nlsml-of-a-hundred"),
        pytest.param(
            "<result><interpretation><input><nomatch/></input></interpretation></result>", Heard(""), id="nomatch"
        ),
        pytest.param(
            "<result><interpretation><input><noinput/></input></interpretation></result>",
            Heard("", silent=True),
            id="noinput",
        ),
        pytest.param("hello world\n", Heard("hello world"), id="words"),
        pytest.param("", Heard(""), id="nothing"),
        pytest.param('{"text": "ye', Heard(""), id="cut-off"),
        pytest.param("[" * 10_000, Heard("[" * 10_000), id="not-an-object"),
        pytest.param("{" * 10_000, Heard(""), id="deep"),
        pytest.param('{"text": "x", "confidence": NaN}', Heard("x", 0.0), id="no-number"),
        pytest.param('{"text": "x", "confidence": -3}', Heard("x", 0.0), id="out-of-range"),
    ],
)
def test_forms(result, expected):
    said = heard(result)

    assert (said.text, said.silent) == (expected.text, expected.silent)
    assert said.confidence == pytest.approx(expected.confidence)


@given(st.one_of(st.text(), st.text().map("{".__add__), st.text().map("<input>".__add__)))
def test_any_text_is_read(result):
    said = heard(result)

    assert isinstance(said.text, str)
    assert 0 <= said.confidence <= 1
