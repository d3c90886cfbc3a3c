"""calling.stream and its stop in direct mode, laid out by their reference page (calling-api 4.6, webhooks 3.9).

The hub's side of it is in tests/test_live_streaming.py.
"""

from types import SimpleNamespace

import pytest
import structlog

from fsctl.errors import ApiError, CommandFailed, FetchError
from fsctl.freeswitch import facts
from fsctl.methods.stream import Streaming, begin, named, stop_stream, stream
from fsctl.webhooks.payloads import payload
from tests.fakes.call import STREAMS, changes, make_call, states
from tests.methods.commanding import ask, defaults, refusal
from tests.methods.running import run
from tests.methods.test_stream import Module

URL = "wss://asr.example/in"
STATUS = "https://hooks.example/s"


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


@pytest.fixture
def held(call):
    """A call whose background work the test lets go on; it is done when the list is run."""
    work = []
    call.leg.background = work.append
    call.work = work
    return call


def start(call, control_id="s-1", **params):
    return ask(call, "calling.stream", control_id=control_id, **{"url": URL, **params})


class TestStart:
    def test_the_answer_does_not_wait_for_the_endpoint_but_the_id_is_taken(self, held):
        module = Module(held)
        before = held.clock.now()

        assert start(held) == {"control_id": "s-1"}

        assert (held.clock.now(), module.verbs) == (before, [])
        assert refusal(held, "calling.stream", control_id="s-1", url=URL) == (422, "value_not_unique", "control_id")
        held.work[0]()
        assert states(held, "stream") == ["streaming"]

    def test_the_script_has_nothing_to_do_with_it(self, call):
        Module(call)
        start(call)

        assert call.vars == {}

    def test_defaults(self):
        params = defaults("calling.stream", control_id="s", url=URL)

        assert (params.track, params.status_url_method) == ("inbound_track", "POST")
        optional = (params.name, params.codec, params.authorization_bearer_token, params.status_url)
        assert optional == (None, None, None, None)
        assert params.custom_parameters == {}

    @pytest.mark.parametrize(
        ("params", "code", "attribute"),
        [
            ({"url": None}, "missing_required_parameter", "url"),
            ({"url": 5}, "not_a_string", "url"),
            ({"url": "https://asr.example/in"}, "invalid_parameter", "url"),
            ({"url": "asr.example"}, "invalid_parameter", "url"),
            ({"url": "wss://"}, "invalid_parameter", "url"),
            ({"url": "wss://h/a b"}, "invalid_parameter", "url"),
            ({"url": "wss://h/\r\nX: y"}, "invalid_parameter", "url"),
            ({"url": "ws://asr.example/in"}, "invalid_parameter", "url"),
            ({"name": 1}, "not_a_string", "name"),
            ({"codec": []}, "not_a_string", "codec"),
            ({"track": "inbound"}, "invalid_parameter", "track"),
            ({"track": "all"}, "invalid_parameter", "track"),
            ({"authorization_bearer_token": 5}, "not_a_string", "authorization_bearer_token"),
            ({"authorization_bearer_token": ""}, "invalid_parameter", "authorization_bearer_token"),
            ({"authorization_bearer_token": "a b"}, "invalid_parameter", "authorization_bearer_token"),
            ({"authorization_bearer_token": "a\r\nX: y"}, "invalid_parameter", "authorization_bearer_token"),
            ({"custom_parameters": [1]}, "not_a_hash", "custom_parameters"),
            ({"status_url": "wss://x/"}, "not_an_http_url", "status_url"),
            ({"status_url_method": "PUT"}, "invalid_parameter", "status_url_method"),
        ],
        ids=str,
    )
    def test_refused(self, call, params, code, attribute):
        assert refusal(call, "calling.stream", **{"url": URL, **params}) == (422, code, attribute)

    def test_a_refused_token_is_not_repeated(self, call):
        with pytest.raises(ApiError) as refused:
            start(call, authorization_bearer_token="t0p s3cret")

        assert "s3cret" not in refused.value.message

    @pytest.mark.parametrize("url", ["ws://asr.example/in", "WS://asr.example/in"])
    def test_plain_text_where_the_operator_allows_it(self, tmp_path, url):
        call = make_call(tmp_path, streams=SimpleNamespace(**{**vars(STREAMS), "allow_plaintext": True}))
        Module(call)

        start(call, url=url)

        assert states(call, "stream") == ["streaming"]

    def test_a_private_address_is_unsafe(self, call):
        call.services.web.refuses = FetchError("wss://10.0.0.1/", "address", "is at 10.0.0.1")

        assert refusal(call, "calling.stream", url="wss://10.0.0.1/") == (422, "url_is_unsafe", "url")
        assert changes(call, "stream") == []

    def test_a_host_that_is_not_found_ends_the_stream_and_not_the_command(self, call):
        call.services.web.refuses = FetchError(URL, "dns", "cannot be found")

        assert start(call) == {"control_id": "s-1"}

        assert states(call, "stream") == ["finished"]

    @pytest.mark.parametrize(
        "params",
        [{"track": "outbound_track"}, {"codec": "PCMU"}, {"codec": "nonsense"}],
        ids=str,
    )
    def test_what_this_mode_cannot_do_is_refused(self, call, params):
        assert refusal(call, "calling.stream", url=URL, **params) == (422, "call_update_failed", None)

    def test_a_second_stream_needs_the_hub(self, call):
        Module(call)
        start(call)

        with pytest.raises(ApiError, match="hub"):
            start(call, "s-2")

        assert [control.id for control in call.controls.running("stream")] == ["s-1"]


class TestParameters:
    @pytest.mark.parametrize(
        ("params", "mix"), [({}, "mono"), ({"track": "inbound_track"}, "mono"), ({"track": "both_tracks"}, "stereo")]
    )
    def test_track(self, call, params, mix):
        module = Module(call)
        start(call, **params)

        assert f" {URL} {mix} 8000 " in module.start

    def test_name_and_url_are_echoed(self, call):
        Module(call)
        start(call, name="live", status_url=STATUS)

        (event,) = changes(call, "stream")
        params = payload(event)["params"]
        assert (params["state"], params["name"], params["url"]) == ("streaming", "live", URL)

    @pytest.mark.parametrize("verb", ["POST", "GET"])
    def test_status_url(self, call, verb):
        Module(call)
        start(call, status_url=STATUS, status_url_method=verb)

        (event,) = changes(call, "stream")
        assert (STATUS, verb) == (event.callback.url, event.callback.method)

    def test_the_token_is_in_the_handshake_and_then_forgotten(self, call):
        Module(call)
        start(call, authorization_bearer_token="t0p-s3cret")

        setting, clearing = call.leg.apis("uuid_setvar")
        assert "Bearer t0p-s3cret" in setting.argument
        assert clearing.argument.endswith("STREAM_EXTRA_HEADERS")

    def test_custom_parameters_are_text_at_the_endpoint(self, call):
        module = Module(call)
        start(call, custom_parameters={"tier": "gold", "n": 5, "deep": {"a": [True, None]}})

        shown = module.metadata["start"]["customParameters"]
        assert shown == {"tier": "gold", "n": "5", "deep": '{"a": [true, null]}'}


class TestEvents:
    @pytest.mark.parametrize(
        "outcome", [facts.StreamFailed(6, "Connection refused"), "nothing"], ids=["refused", "silent"]
    )
    def test_a_stream_that_never_connects_is_finished_once(self, call, outcome):
        Module(call, outcome)
        with structlog.testing.capture_logs() as lines:
            start(call)

        assert states(call, "stream") == ["finished"]
        assert [line["event"] for line in lines] == ["stream_not_started"]

    def test_the_far_end_closes(self, call):
        Module(call)
        start(call)

        call.leg.happen(facts.StreamDisconnected(1000, ""))

        assert states(call, "stream") == ["streaming", "finished"]

    def test_a_hangup_while_it_connects(self, call):
        Module(call, "nothing")
        call.leg.at(0.5, facts.HungUp("NORMAL_CLEARING"))
        start(call)

        (control,) = call.controls.running("stream")
        control.abandon()

        assert states(call, "stream") == ["finished"]


class TestStop:
    def test_it_is_stopped_when_it_is_answered(self, call):
        module = Module(call)
        start(call)

        assert ask(call, "calling.stream.stop", control_id="s-1") == {}
        assert ask(call, "calling.stream.stop", control_id="s-1") == {}

        assert module.verbs == ["start", "stop"]
        assert states(call, "stream") == ["streaming", "finished"]

    def test_before_the_endpoint_has_accepted(self, held):
        module = Module(held)
        start(held)

        ask(held, "calling.stream.stop", control_id="s-1")
        held.work[0]()

        assert module.verbs == ["start", "stop"]
        assert states(held, "stream") == ["finished"]

    def test_of_a_scripts_stream(self, call):
        Module(call)
        run(call, stream, url=URL, control_id="mine")

        ask(call, "calling.stream.stop", control_id="mine")

        assert states(call, "stream") == ["streaming", "finished"]

    def test_a_script_stops_one_of_ours(self, call):
        Module(call)
        start(call)

        run(call, stop_stream, control_id="s-1")

        assert call.vars["stop_stream_result"] == "success"

    def test_a_script_that_waits_for_its_stream_hears_of_the_stop(self, call):
        Module(call, after=2.0)
        call.clock.later(1.0, lambda: ask(call, "calling.stream.stop", control_id="mine"))

        run(call, stream, url=URL, control_id="mine")

        assert call.vars["stream_result"] == "failed"
        assert "stopped before" in str(call.failure)

    def test_unknown_and_missing_ids(self, call):
        name = "calling.stream.stop"

        assert refusal(call, name, control_id="x") == (422, "provided_id_is_unrecognized", "control_id")
        assert refusal(call, name) == (422, "missing_required_parameter", "control_id")


class TestObserver:
    """What other ways in hear: how it goes, and why it ended."""

    def watch(self, call, **wish):
        heard = []

        def observe(state, ended):
            heard.append((state, ended and ended.reason))

        control = begin(call, Streaming(method="compat", url=URL, observer=observe, **wish))
        return control, heard

    def test_a_stream_that_is_stopped(self, call):
        Module(call)
        control, heard = self.watch(call)

        control.halt()

        assert heard == [("streaming", None), ("finished", "stopped")]

    @pytest.mark.parametrize(
        ("fact", "reason"),
        [(facts.StreamDisconnected(1011, "boom"), "closed"), (facts.StreamFailed(1, "I/O"), "lost")],
        ids=["closed", "lost"],
    )
    def test_a_stream_that_breaks(self, call, fact, reason):
        Module(call)
        _, heard = self.watch(call)

        call.leg.happen(fact)

        assert heard == [("streaming", None), ("finished", reason)]

    @pytest.mark.parametrize(
        ("outcome", "reason"),
        [
            (facts.StreamFailed(6, "Connection refused"), "refused"),
            (facts.StreamFailed(8, "certificate"), "tls"),
            (facts.StreamFailed(10, "timeout"), "timeout"),
            ("nothing", "timeout"),
        ],
        ids=["refused", "tls", "timeout", "silent"],
    )
    def test_a_stream_that_never_was(self, call, outcome, reason):
        Module(call, outcome)

        control, heard = self.watch(call)

        assert heard == [("finished", reason)]
        assert control.over

    def test_a_name_that_is_not_found(self, call):
        call.services.web.refuses = FetchError(URL, "dns", "cannot be found")

        assert self.watch(call)[1] == [("finished", "dns")]

    def test_a_module_that_is_not_there(self, call):
        call.leg.when("uuid_audio_stream", reply="-ERR uuid_audio_stream Command not found!")

        assert self.watch(call)[1] == [("finished", "internal")]

    def test_the_end_of_the_call(self, call):
        Module(call)
        control, heard = self.watch(call)

        control.abandon()

        assert heard == [("streaming", None), ("finished", "hangup")]

    def test_what_cannot_be_streamed_is_raised(self, call):
        with pytest.raises(CommandFailed, match="outbound_track"):
            self.watch(call, track="outbound_track")


def test_a_stream_is_found_by_its_name(call):
    Module(call)
    start(call, name="live")

    assert named(call, "live").id == "s-1"
    assert named(call, "other") is None
    ask(call, "calling.stream.stop", control_id="s-1")
    assert named(call, "live") is None
