"""stream and stop_stream in direct mode, laid out by their reference pages (swml-calling 3.8, 3.9, webhooks 3.9)."""

import json
from types import SimpleNamespace

import pytest

from fsctl.errors import FetchError, LegGone, ScriptError
from fsctl.freeswitch import commands, facts
from fsctl.methods.stream import stop_stream, stream
from tests.fakes.call import STREAMS, changes, make_call, states
from tests.methods.running import make, run

URL = "wss://asr.example/in"


class Module:
    """What mod_audio_stream does: ``+OK``, and after a while its word on how the connection went."""

    def __init__(self, call, outcome=None, after=0.05):
        self.call = call
        self.verbs = []
        self.outcome = outcome if outcome is not None else facts.StreamConnected()
        self.after = after
        call.leg.when("uuid_audio_stream", then=self.command)

    def command(self, argument):
        verb = argument.split(" ")[1]
        self.verbs.append(verb)
        if verb == "start":
            self.start = argument
            if self.outcome != "nothing":
                self.call.leg.at(self.after, self.outcome)

    @property
    def metadata(self):
        text = self.start.split(" ", 5)[5]
        return json.loads(text.replace("\\'", "'").replace("\\\\", "\\"))


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def variables(call):
    """The channel variables set before the start."""
    pairs = {}
    for api in call.leg.apis("uuid_setvar_multi"):
        pairs.update(pair.split("=") for pair in api.argument.split(" ", 1)[1].split(";"))
    return pairs


def test_it_has_started_when_the_endpoint_accepted(call):
    Module(call)

    run(call, stream, url=URL)

    assert call.vars["stream_result"] == "success"
    (control,) = call.controls.running("stream")
    assert control.id == call.vars["stream_control_id"]
    assert states(call, "stream") == ["streaming"]


def test_plus_ok_alone_is_no_start(call):
    """``+OK Success`` only means that the module tries."""
    module = Module(call, "nothing")
    start = call.clock.now()

    run(call, stream, url=URL)

    assert pytest.approx(call.clock.now() - start) == 3.0
    assert call.vars["stream_result"] == "failed"
    assert module.verbs == ["start", "stop"]
    assert "did not accept the connection within 3 s" in str(call.failure)


class TestUrl:
    @pytest.mark.parametrize(
        "url", ["ws://asr.example/in", "https://asr.example/in", "asr.example", "WS://asr.example/"]
    )
    def test_only_wss(self, call, url):
        module = Module(call)

        run(call, stream, url=url)

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []

    def test_ws_where_the_operator_allows_it(self, tmp_path):
        streams = SimpleNamespace(**{**vars(STREAMS), "allow_plaintext": True})
        call = make_call(tmp_path, streams=streams)
        Module(call)

        run(call, stream, url="ws://asr.example/in")

        assert call.vars["stream_result"] == "success"

    def test_private_addresses_are_closed(self, call):
        module = Module(call)
        call.services.web.refuses = FetchError("wss://10.0.0.1/", "address", "10.0.0.1 is private")

        run(call, stream, url="wss://10.0.0.1/")

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []

    @pytest.mark.parametrize(
        "url", ["wss://h/a b", "wss://h/'x", "wss://h/\\r\\nX: y", "wss://h/\nX", "wss://h/" + "x" * 5000]
    )
    def test_hostile_urls_reach_nothing(self, call, url):
        module = Module(call)

        run(call, stream, url=url)

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []

    def test_missing(self):
        with pytest.raises(ScriptError, match="url"):
            make(stream)


class TestControlId:
    def test_given(self, call):
        Module(call)

        run(call, stream, url=URL, control_id="s-1")

        assert call.vars["stream_control_id"] == "s-1"
        assert {"s-1"} == {event.control_id for event in changes(call, "stream")}

    def test_taken(self, call):
        Module(call)
        run(call, stream, url=URL, control_id="s-1")

        run(call, stream, url=URL, control_id="s-1")

        assert call.vars["stream_result"] == "failed"
        assert "already streaming" in str(call.failure)

    def test_a_second_stream_needs_the_hub(self, call):
        module = Module(call)
        run(call, stream, url=URL, control_id="s-1")

        run(call, stream, url=URL, control_id="s-2")

        assert call.vars["stream_result"] == "failed"
        assert "hub" in str(call.failure)
        assert module.verbs == ["start"]
        assert states(call, "stream") == ["streaming", "finished"]
        assert [control.id for control in call.controls.running("stream")] == ["s-1"]


class TestName:
    def test_it_is_echoed(self, call):
        Module(call)

        run(call, stream, url=URL, name="live")

        assert changes(call, "stream")[0].detail["name"] == "live"

    def test_none_is_left_out(self, call):
        Module(call)

        run(call, stream, url=URL)

        assert dict(changes(call, "stream")[0].detail) == {"url": URL}


class TestTrack:
    @pytest.mark.parametrize(
        ("track", "mix", "tracks"),
        [
            (None, "mono", ["inbound"]),
            ("inbound_track", "mono", ["inbound"]),
            ("both_tracks", "stereo", ["inbound", "outbound"]),
            ("inbound", "mono", ["inbound"]),
            ("both", "stereo", ["inbound", "outbound"]),
        ],
    )
    def test_mix(self, call, track, mix, tracks):
        module = Module(call)

        run(call, stream, url=URL, **({"track": track} if track else {}))

        assert f" {URL} {mix} 8000 " in module.start
        assert tracks == module.metadata["start"]["tracks"]
        assert len(tracks) == module.metadata["start"]["mediaFormat"]["channels"]

    @pytest.mark.parametrize("track", ["outbound_track", "outbound"])
    def test_outbound_needs_the_hub(self, call, track):
        module = Module(call)

        run(call, stream, url=URL, track=track)

        assert call.vars["stream_result"] == "failed"
        assert "hub" in str(call.failure)
        assert module.verbs == []

    def test_others_are_refused(self):
        with pytest.raises(ScriptError, match="track"):
            make(stream, url=URL, track="left")


class TestCodec:
    @pytest.mark.parametrize(
        ("codec", "rate"), [(None, 8000), ("L16", 8000), ("l16@16000h", 16000), ("L16@24000h", 24000)]
    )
    def test_l16(self, call, codec, rate):
        module = Module(call)

        run(call, stream, url=URL, **({"codec": codec} if codec else {}))

        assert f" mono {rate} " in module.start
        assert rate == module.metadata["start"]["mediaFormat"]["sampleRate"]

    @pytest.mark.parametrize("codec", ["PCMU", "OPUS", "L16@11025h", "L16@0h", "nonsense"])
    def test_others_need_the_hub_or_do_not_exist(self, call, codec):
        module = Module(call)

        run(call, stream, url=URL, codec=codec)

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []


class TestStatusUrl:
    @pytest.mark.parametrize("verb", ["POST", "GET"])
    def test_events_go_there(self, call, verb):
        Module(call)

        run(call, stream, url=URL, status_url="https://hooks.example/s", status_url_method=verb)

        (event,) = changes(call, "stream")
        assert ("https://hooks.example/s", verb) == (event.callback.url, event.callback.method)

    def test_other_methods_are_refused(self):
        with pytest.raises(ScriptError, match="status_url_method"):
            make(stream, url=URL, status_url_method="PUT")


class TestToken:
    def test_it_is_sent_in_the_handshake_and_then_forgotten(self, call):
        """The channel variable would end up in the call's detail record."""
        Module(call)

        run(call, stream, url=URL, authorization_bearer_token="t0p-s3cret")

        setting, clearing = call.leg.apis("uuid_setvar")
        assert 'STREAM_EXTRA_HEADERS {"Authorization": "Bearer t0p-s3cret"}' in setting.argument
        assert clearing.argument.endswith("STREAM_EXTRA_HEADERS")

    @pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "é", "a\0"])
    def test_hostile_tokens_reach_nothing(self, call, token):
        module = Module(call)

        run(call, stream, url=URL, authorization_bearer_token=token)

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []
        assert token not in str(call.failure)


class TestCustomParameters:
    @pytest.mark.parametrize(
        "values",
        [
            {"tier": "gold"},
            {"text": 'it\'s \\ "quoted" é 日本 ${uuid} {a=b},|;\n\t'},
            {"a": "", "b": " leading"},
        ],
    )
    def test_they_arrive_as_they_were_written(self, call, values):
        module = Module(call)

        run(call, stream, url=URL, custom_parameters=values)

        assert values == module.metadata["start"]["customParameters"]

    def test_only_text_values(self):
        with pytest.raises(ScriptError, match="custom_parameters"):
            make(stream, url=URL, custom_parameters={"a": {"b": 1}})

    def test_too_much_is_a_failed_result(self, call):
        module = Module(call)

        run(call, stream, url=URL, custom_parameters={"a": "x" * 9000})

        assert call.vars["stream_result"] == "failed"
        assert module.verbs == []


class TestFailure:
    def test_a_refused_connection(self, call):
        module = Module(call, facts.StreamFailed(6, "Connection refused"))

        run(call, stream, url=URL, status_url="https://hooks.example/s")

        assert call.vars["stream_result"] == "failed"
        assert call.vars["stream_control_id"] == ""
        assert "Connection refused (code 6)" in str(call.failure)
        # A stream that never was still frees its control id.
        assert states(call, "stream") == ["finished"]
        assert module.verbs == ["start", "stop"]

    def test_the_module_is_not_there(self, call):
        call.leg.when("uuid_audio_stream", reply="-ERR uuid_audio_stream Command not found!")

        run(call, stream, url=URL)

        assert call.vars["stream_result"] == "failed"
        assert "Command not found" in str(call.failure)

    def test_a_hangup_while_connecting(self, call):
        Module(call, "nothing")
        call.leg.at(0.5, facts.HungUp("NORMAL_CLEARING"))

        with pytest.raises(LegGone):
            run(call, stream, url=URL)
        (control,) = call.controls.running("stream")
        control.abandon()

        assert states(call, "stream") == ["finished"]


class TestEnd:
    def test_the_far_end_closes(self, call):
        """The module stays attached then, and would refuse every later start."""
        module = Module(call)
        run(call, stream, url=URL)

        call.leg.happen(facts.StreamDisconnected(1011, "boom"))

        assert states(call, "stream") == ["streaming", "finished"]
        assert module.verbs == ["start", "stop"]

    def test_the_endpoint_accepts_and_closes_in_one_breath(self, call):
        module = Module(call)
        call.leg.at(0.05, facts.StreamDisconnected(1000, ""))

        run(call, stream, url=URL)

        assert states(call, "stream") == ["streaming", "finished"]
        assert module.verbs == ["start", "stop"]
        assert call.vars["stream_result"] == "success"

    def test_a_stream_can_follow_another(self, call):
        Module(call)
        run(call, stream, url=URL)
        call.leg.happen(facts.StreamDisconnected(1000, ""))

        run(call, stream, url=URL)

        assert call.vars["stream_result"] == "success"

    def test_the_protocol_is_lost(self, call):
        Module(call)
        run(call, stream, url=URL)

        call.leg.happen(facts.StreamFailed(1, "I/O"))

        assert states(call, "stream") == ["streaming", "finished"]


class TestStop:
    def test_without_id_the_last_one(self, call):
        module = Module(call)
        run(call, stream, url=URL)

        run(call, stop_stream)

        assert call.vars["stop_stream_result"] == "success"
        assert module.verbs == ["start", "stop"]
        assert states(call, "stream") == ["streaming", "finished"]

    def test_by_id(self, call):
        Module(call)
        run(call, stream, url=URL, control_id="s-1")

        run(call, stop_stream, control_id="s-1")

        assert call.vars["stop_stream_result"] == "success"

    @pytest.mark.parametrize("params", [{}, {"control_id": "nobody"}])
    def test_nothing_to_stop(self, call, params):
        run(call, stop_stream, **params)

        assert call.vars["stop_stream_result"] == "failed"

    def test_a_refusal_is_a_failed_result(self, call):
        Module(call)
        run(call, stream, url=URL)
        call.leg.when("uuid_audio_stream", reply="-ERR Operation Failed")

        run(call, stop_stream)

        assert call.vars["stop_stream_result"] == "failed"


def test_an_unanswered_call_is_answered(tmp_path):
    call = make_call(tmp_path, answered=False)
    Module(call)

    run(call, stream, url=URL)

    assert [commands.answer(call.leg.uuid)] == call.leg.apis("uuid_answer")
