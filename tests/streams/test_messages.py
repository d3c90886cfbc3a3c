"""The documented messages, both ways."""

import contextlib
import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.streams import messages
from fsctl.streams.audio import Format
from fsctl.streams.messages import Clear, Dtmf, Gap, Mark, Media, Refused, read

PCMU = Format("PCMU", 8000, 20)
ANY_TEXT = st.text(st.characters())  # halves of characters included: documents can hold them


class TestOurs:
    def test_connected(self):
        assert json.loads(messages.CONNECTED) == {"event": "connected", "protocol": "Call", "version": "0.2.0"}

    @pytest.mark.parametrize("track", ["inbound", "outbound"])
    def test_media_has_its_numbers_as_texts(self, track):
        text = messages.MEDIA[track] % (7, 3, 120, b"//79")
        assert json.loads(text) == {
            "event": "media",
            "sequenceNumber": "7",
            "media": {"track": track, "chunk": "3", "timestamp": "120", "payload": "//79"},
        }

    @given(st.dictionaries(ANY_TEXT, ANY_TEXT), ANY_TEXT)
    def test_start_carries_any_text(self, parameters, name):
        message = json.loads(messages.start(name, "account", "call", ("inbound",), PCMU, parameters))
        assert message["start"]["streamSid"] == name
        assert message["start"]["customParameters"] == parameters
        assert "gap" not in message["start"]

    def test_start_after_a_reconnect_tells_the_gap(self):
        text = messages.start("s", "a", "c", ("inbound", "outbound"), PCMU, {}, Gap(2, 5020, 7240))
        assert json.loads(text)["start"]["gap"] == {"connection": 2, "begin": "5020", "end": "7240"}

    def test_dtmf_names_the_stream_on_two_way_streams_only(self):
        assert json.loads(messages.dtmf(4, "#", 100)) == {
            "event": "dtmf",
            "sequenceNumber": "4",
            "dtmf": {"digit": "#", "duration": 100},
        }
        assert json.loads(messages.dtmf(4, "#", 100, "s"))["streamSid"] == "s"

    def test_mark_and_stop(self):
        assert json.loads(messages.mark('a"b', "s")) == {"event": "mark", "streamSid": "s", "mark": {"name": 'a"b'}}
        assert json.loads(messages.stop(9)) == {"event": "stop", "sequenceNumber": "9"}


def said(**message):
    return json.dumps(message).encode()


class TestTheirs:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (said(event="media", streamSid="s", media={"payload": "AAEC"}), Media(b"\0\1\2")),
            (said(event="media", media={"payload": "", "more": 1}), Media(b"")),
            (said(event="mark", streamSid="s", mark={"name": "l-1"}), Mark("l-1")),
            (said(event="clear", streamSid="s"), Clear()),
            (said(event="dtmf", dtmf={"digit": "D"}), Dtmf("D")),
        ],
    )
    def test_the_four_messages(self, text, value):
        assert read(text) == value

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            ("{}".encode("utf-16"), "not JSON"),
            (b"[" * 100_000, "not JSON"),
            (b"[]", "no event"),
            (b"null", "no event"),
            (b"{}", "no event"),
            (said(event=["media"]), "no event"),
            (said(event="start"), "no event"),
            (said(event="media"), "media.payload"),
            (said(event="media", media=[]), "media.payload"),
            (said(event="media", media={"payload": 1}), "media.payload"),
            (said(event="media", media={"payload": "%%%%"}), "base64"),
            (said(event="media", media={"payload": "é"}), "base64"),
            (said(event="media", media={"payload": "AAA"}), "base64"),
            (said(event="mark", mark={"name": "x" * 256}), "longer"),
            (b'{"event":"mark","mark":{"name":"\\ud800"}}', "half a character"),
            (said(event="dtmf", dtmf={"digit": "12"}), "digit"),
            (said(event="dtmf", dtmf={"digit": "\r\n"}), "digit"),
            (said(event="dtmf", dtmf={"digit": ""}), "digit"),
        ],
        ids=lambda value: value[:40] if isinstance(value, str) else None,
    )
    def test_anything_else_is_refused_with_a_reason(self, text, problem):
        with pytest.raises(Refused, match=problem):
            read(text)

    @given(st.binary(max_size=200))
    def test_bytes_are_read_or_refused(self, text):
        with contextlib.suppress(Refused):
            read(text)

    @given(st.binary(max_size=400))
    def test_audio_comes_through(self, audio):
        assert read(said(event="media", media={"payload": b64encode(audio).decode()})) == Media(audio)
