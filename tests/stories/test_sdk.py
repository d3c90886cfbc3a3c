"""The published Python SDK against a whole fsctl: what customers' programs ask, and what they read of the answers.

The SDK is taken as it comes from PyPI. Every command of its calling namespace is asked for, the voice logs are read
with its paginator, its errors are looked at, and its validator has to accept each webhook and each document request
that fsctl sent meanwhile. What the SDK sends is described in calling-api 1.1, signatures in webhooks 2.2.
"""

from __future__ import annotations

import math

import pytest
import requests

from fsctl.simulator import Caller, Switch, WebSockets
from fsctl.simulator.caller import Party
from tests.stories.stage import PROJECT, REST, TOKEN, Hook, Story, document, page, wait_for, wav
from tests.streams.packets import Receiver
from tests.streams.peers import Endpoint

WHY = "the SDK is not here: pip install '.[test]'"
sdk = pytest.importorskip("signalwire.rest", reason=WHY)
shapes = pytest.importorskip("signalwire.rest.namespaces.calling_types_generated", reason=WHY)
logs = pytest.importorskip("signalwire.rest.namespaces.voice_types_generated", reason=WHY)
relay = pytest.importorskip("signalwire.relay.event", reason=WHY)
webhooks = pytest.importorskip("signalwire.core.security.webhook_validator", reason=WHY)

KEY = "PSK_nobody-else-has-this"
STAY = {"version": "1.0.0", "sections": {"main": [{"sleep": -1}]}}
STATES = ["answered", "queued", "initiated", "ringing", "ending", "ended"]  # those the SDK's type of dial knows
SIGNED = ("/hook", "/swml")

# What fsctl does not have, as the SDK asks for it; each with the method of SWML that the refusal has to name.
MISSING = {
    "disconnect": ("connect", {}),
    "refer": ("sip_refer", {"device": {"type": "sip", "params": {"to": "sip:agent@example.com"}}}),
    "transcribe": ("transcribe", {}),
    "transcribe_stop": ("transcribe", {"control_id": "t"}),
    "live_transcribe": ("live_transcribe", {"action": {"start": {"lang": "en", "direction": ["remote-caller"]}}}),
    "live_translate": ("live_translate", {"action": {"start": {"from_lang": "en", "to_lang": "es"}}}),
    "ai_hold": ("ai", {"timeout": 60, "prompt": "One moment."}),
    "ai_unhold": ("ai", {"prompt": "Back again."}),
    "ai_message": ("ai", {"role": "user", "message_text": "To billing."}),
    "ai_stop": ("ai", {"control_id": "a"}),
    "send_fax_stop": ("send_fax", {"control_id": "f"}),
    "receive_fax_stop": ("receive_fax", {"control_id": "f"}),
}


def asks(*methods):
    """The test uses these methods of the SDK's calling namespace; ``house`` sees to it that it does."""

    def note(test):
        test.asks = methods
        return test

    return note


class Calling:
    """The SDK's calling namespace. Every answer is a call leg as the SDK has it; ``asked`` are methods that were."""

    def __init__(self, namespace):
        self._namespace = namespace
        self.asked = set()

    def __getattr__(self, name):
        method = getattr(self._namespace, name)

        def ask(*args, **params):
            leg = method(*args, **params)
            self.asked.add(name)
            assert leg.keys() - {"control_id"} == {"from", *shapes.CallLeg.__annotations__}
            return leg

        return ask


class Customer:
    """A customer: a program with the SDK, and a web server (the stage's), whose addresses are ``at(path)``."""

    def __init__(self, stage, project=PROJECT, token=TOKEN, **settings):
        self.stage = stage
        self.client = sdk.RestClient(project, token, stage.public_url.removeprefix("http://"), **settings)
        self.calling = Calling(self.client.calling)

    def at(self, path):
        return f"{self.stage.url}{path}"

    def call(self, **params):
        """A call that is up; what ran on it is in the story."""
        params = {"from_": "+15550100", "to": "+15550199", **({} if "url" in params else {"swml": STAY}), **params}
        return self.answered(self.calling.dial(**params))

    def answered(self, leg):
        channels = self.stage.switch.originated
        wait_for(lambda: any(channel.uuid == leg["id"] for channel in channels), "the call to be dialled")
        story = Story(self.stage, next(channel for channel in channels if channel.uuid == leg["id"]))
        call = self.stage.server.calls.get(leg["id"])
        wait_for(lambda: call.instruction is not None, "the first instruction")
        return story

    def hang_up(self, story):
        self.calling.end(story.call.uuid)
        return story.end()

    def told(self, story, path, count):
        """So many webhooks to ``path``, as the SDK's own reader of events has them."""
        wait_for(lambda: len(story.webhooks(path)) >= count, f"{count} webhooks to {path}")
        hooks = story.webhooks(path)
        assert len(hooks) == count, [hook.told for hook in hooks]
        return [relay.parse_event(hook.event) for hook in hooks]


def accepted(stage, hook, *, key=KEY, body=None, query=""):
    """Whether the SDK's validator takes the request as fsctl's; both signatures have to be of one mind."""
    headers = requests.structures.CaseInsensitiveDict(hook.headers)
    url = stage.url + hook.line.split()[1] + query
    text = (hook.body if body is None else body).decode()
    verdicts = {
        webhooks.validate_webhook_signature(key, headers.get("x-signalwire-signature"), url, text),
        webhooks.validate_webhook_signature_sha256(key, headers.get("x-signalwire-sha256-signature"), url, text),
    }
    assert len(verdicts) == 1
    return verdicts.pop()


def signed(stage):
    """The requests that have to be signed: webhooks, and those for documents."""
    return [hook for hook in stage.requests if hook.path.startswith(SIGNED)]


@pytest.fixture
def house(stage, tmp_path, request):
    """Builds stages with a customer who has the SDK. In the end all that was to be signed was, and `asks` was so."""
    customers = []

    def build(party=None, *, config=None, client=None, **settings):
        config = {
            "project": {**REST["project"], "signing_key": KEY},
            "logs": {"database": str(tmp_path / "logs" / "calls.db")},
            "webhooks": {"user_event_url": "@web/hook/user"},
            **(config or {}),
        }
        pages = {
            "/sound.wav": page(wav(20.0), Content_Type="audio/wav"),
            "/swml": page(document({"set": {"came": "there"}}, {"sleep": -1})),
            **settings.pop("pages", {}),
        }
        parties = {} if party is None else {"+15550199": party}
        built = stage(rest=True, config=config, pages=pages, parties=parties, **settings)
        customers.append(Customer(built, **(client or {})))
        return customers[-1]

    yield build
    assert {name for customer in customers for name in customer.calling.asked} >= {
        *getattr(request.function, "asks", ())
    }
    for customer in customers:
        for hook in signed(customer.stage):
            assert accepted(customer.stage, hook), f"not accepted: {hook.line}"


def refusal(status, method, /, *args, **params):
    """How the SDK tells a program that its request was refused."""
    with pytest.raises(sdk.SignalWireRestError) as refused:
        method(*args, **params)
    error = refused.value
    assert error.status_code == status
    assert error.request_id == headers(error)["x-request-id"]
    assert error.request_id in str(error)
    return error


def headers(error):
    return requests.structures.CaseInsensitiveDict(error.headers)


def refused_for(method, /, *args, **params):
    """The code and the attribute of each thing that was wrong."""
    items = refusal(422, method, *args, **params).body["errors"]
    assert all(item.keys() == shapes.Types_StatusCodes_RestApiErrorItem.__annotations__.keys() for item in items)
    return [(item["code"], item["attribute"]) for item in items]


# -- the life of a call ------------------------------------------------------------------------------------------


@asks("dial", "end")
@pytest.mark.parametrize("codecs", [["PCMU", "OPUS@16000H@20I"], "PCMU,PCMA"], ids=["list", "text"])
def test_a_call_is_dialled_and_ended(house, codecs):
    customer = house(Party(after=0.5))
    leg = customer.calling.dial(
        from_="+15550100",
        to="+15550199",
        caller_id="+15550177",
        url=customer.at("/swml?order=17"),
        url_method="POST",
        fallback_url=customer.at("/swml/other"),
        status_url=customer.at("/hook/state"),
        status_events=STATES,
        codecs=codecs,
    )
    assert (leg["direction"], leg["status"], leg["type"]) == ("outbound-api", "queued", "relay_pstn_call")
    assert (leg["from"], leg["to"]) == ("+15550100", "+15550199")
    story = customer.answered(leg)

    assert customer.calling.end(leg["id"], reason="busy")["status"] == "ending"
    story.end()

    assert story.variables["came"] == "there"
    told = customer.told(story, "/hook/state", len(STATES))
    assert [event.call_state for event in told] == ["queued", "initiated", "ringing", "answered", "ending", "ended"]
    assert (told[-1].call_id, told[-1].direction, told[-1].end_reason) == (leg["id"], "outbound", "busy")
    assert told[-1].device["type"] == "phone"
    (asked,) = [hook for hook in customer.stage.requests if hook.path == "/swml"]
    assert asked.line.split()[1] == "/swml?order=17"


@asks("dial")
def test_what_the_sdk_has_no_word_for_goes_as_extras(house):
    customer = house()
    more = {"custom_variables": {"order": "17"}, "send_digits": "1w2", "timeout": 30}

    story = customer.call(
        swml={"sections": {"main": [{"set": {"order": "${envs.order}"}}, {"sleep": -1}]}}, extras=more
    )

    wait_for(lambda: story.call.sent_digits, "the digits")
    customer.hang_up(story)
    assert story.variables["order"] == "17"


@asks("update")
@pytest.mark.parametrize("where", ["url", "swml"])
def test_a_call_is_sent_elsewhere(house, where):
    customer = house()
    story = customer.call(swml={"sections": {"main": [{"play": "silence:3600"}]}})
    wait_for(lambda: story.controls("play"), "the sound")
    there = {"url": customer.at("/swml"), "swml": {"sections": {"main": [{"set": {"came": "there"}}, {"sleep": -1}]}}}
    params = {where: there[where], "fallback_url": customer.at("/swml"), "status_url": customer.at("/hook/later")}

    assert customer.calling.update(id=story.call.uuid, **params)["status"] == "answered"

    wait_for(lambda: any(line.startswith("main[0].set") for line in story.instructions), "the other document")
    customer.hang_up(story)
    assert story.variables["came"] == "there"
    assert [event.call_state for event in customer.told(story, "/hook/later", 1)] == ["ended"]


@asks("update")
def test_a_call_is_completed(house):
    customer = house()
    story = customer.call()

    assert customer.calling.update(id=story.call.uuid, status="completed")["status"] == "completed"

    assert story.end().ended.end_reason == "hangup"
    assert refused_for(customer.calling.update, id=story.call.uuid, status="completed") == [
        ("cannot_update_completed", "id")
    ]


@asks("update")
def test_a_call_is_cancelled_while_it_rings(house):
    customer = house(Party(after=600))
    leg = customer.calling.dial(from_="+15550100", to="+15550199", swml=STAY, status_url=customer.at("/hook/state"))
    wait_for(lambda: any(state == "ringing" for state in _states(customer, leg)), "the ringing")

    assert customer.calling.update(id=leg["id"], status="canceled")["status"] == "canceled"

    wait_for(lambda: any(state == "ended" for state in _states(customer, leg)), "the end")
    wait_for(lambda: signed(customer.stage), "the webhook")
    (told,) = [relay.parse_event(hook.event) for hook in signed(customer.stage)]
    assert (told.call_state, told.end_reason) == ("ended", "cancel")


def _states(customer, leg):
    events = [event for event in customer.stage.events if getattr(event, "call", None) and hasattr(event, "state")]
    return [event.state for event in events if event.call.call_id == leg["id"]]


@asks("transfer")
@pytest.mark.parametrize("dest", ["url", "object", "text"])
def test_a_call_is_transferred(house, dest):
    customer = house()
    story = customer.call(swml={"sections": {"main": [{"play": "silence:3600"}, {"set": {"never": 1}}]}})
    steps = {"sections": {"main": [{"set": {"came": "there"}}, {"sleep": -1}]}}
    dests = {"url": customer.at("/swml"), "object": steps, "text": document(*steps["sections"]["main"])}

    customer.calling.transfer(story.call.uuid, dest=dests[dest])

    wait_for(lambda: any(line.startswith("main[0].set") for line in story.instructions), "the other document")
    customer.hang_up(story)
    assert story.variables["came"] == "there"
    assert "never" not in story.variables


@pytest.mark.parametrize(
    "dest",
    ["sip:agent@example.com", "+15559999999", {"type": "phone", "params": {"to_number": "+15559876543"}}],
    ids=["sip", "number", "device"],
)
def test_a_transfer_to_a_party_needs_connect(house, dest):
    customer = house()
    story = customer.call()

    assert refused_for(customer.calling.transfer, story.call.uuid, dest=dest) == [("feature_not_available", "dest")]
    customer.hang_up(story)


# -- on a call that is up ----------------------------------------------------------------------------------------


@asks("play", "play_pause", "play_resume", "play_volume", "play_stop")
def test_play(house):
    customer = house(speed=20.0)
    story, calling = customer.call(), customer.calling
    leg = calling.play(
        story.call.uuid,
        play=[{"type": "audio", "url": customer.at("/sound.wav")}, {"type": "silence", "duration": 1}],
        volume=5.0,
        direction="listen",
        loop=0,
        status_url=customer.at("/hook/play"),
    )
    control_id = leg["control_id"]
    customer.told(story, "/hook/play", 1)

    calling.play_pause(story.call.uuid, control_id=control_id)
    customer.told(story, "/hook/play", 2)
    calling.play_resume(story.call.uuid, control_id=control_id)
    customer.told(story, "/hook/play", 3)
    calling.play_volume(story.call.uuid, control_id=control_id, volume=-3.0)
    wait_for(lambda: len(story.call.heard) >= 3, "the softer sound")
    calling.play_stop(story.call.uuid, control_id=control_id)

    told = customer.told(story, "/hook/play", 4)
    assert [event.state for event in told] == ["playing", "paused", "playing", "finished"]
    assert {(event.control_id, event.call_id) for event in told} == {(control_id, story.call.uuid)}
    assert calling.play_stop(story.call.uuid, control_id=control_id)["id"] == story.call.uuid
    customer.hang_up(story)


@asks("play")
@pytest.mark.parametrize(
    "item",
    [
        {"type": "tts", "text": "Hello from the REST API!"},
        {"type": "tts", "params": {"text": "Welcome.", "language": "en-US", "gender": "male"}},
        {"type": "silence", "duration": 1},
        {"type": "ringtone", "name": "us", "duration": 1},
    ],
    ids=lambda item: f"{item['type']}-{'params' if 'params' in item else 'flat'}",
)
def test_everything_the_pages_of_the_sdk_play(house, item):
    customer = house(speed=20.0)
    story = customer.call()

    customer.calling.play(story.call.uuid, control_id="p", play=[item], status_url=customer.at("/hook/play"))

    assert [event.state for event in customer.told(story, "/hook/play", 2)] == ["playing", "finished"]
    customer.hang_up(story)


@asks("record", "record_pause", "record_resume", "record_stop")
@pytest.mark.parametrize("settings", [{"format": "mp3", "stereo": True}, {"format": "wav", "beep": True}], ids=str)
def test_record(house, settings):
    customer = house(Party(behaviour=Caller(speaks=((0.0, math.inf),))))
    story, calling = customer.call(), customer.calling
    leg = calling.record(story.call.uuid, audio=settings, status_url=customer.at("/hook/record"))
    control_id = leg["control_id"]
    customer.told(story, "/hook/record", 1)

    calling.record_pause(story.call.uuid, control_id=control_id)
    calling.record_resume(story.call.uuid, control_id=control_id)
    calling.record_pause(story.call.uuid, control_id=control_id, extras={"behavior": "silence"})
    calling.record_resume(story.call.uuid, control_id=control_id)
    calling.record_stop(story.call.uuid, control_id=control_id)

    told = customer.told(story, "/hook/record", 6)
    assert [event.state for event in told] == ["recording", "paused", "recording", "paused", "recording", "finished"]
    assert told[-1].control_id == control_id
    assert told[-1].url.endswith(settings["format"])
    assert len(requests.get(told[-1].url, timeout=10).content) == told[-1].size
    assert told[-1].duration > 0
    customer.hang_up(story)


@asks("collect", "collect_start_input_timers", "collect_stop")
def test_collect(house):
    customer = house()
    story, calling, hook = customer.call(), customer.calling, customer.at("/hook/collect")
    digits = {"max": 4, "terminators": "#", "digit_timeout": 50.0}
    leg = calling.collect(story.call.uuid, digits=digits, initial_timeout=10.0, extras={"status_url": hook})
    story.call.press("42#")
    (told,) = customer.told(story, "/hook/collect", 1)
    assert (told.control_id, told.result["type"]) == (leg["control_id"], "digit")
    assert told.result["params"] == {"digits": "42", "terminator": "#"}

    params = {"control_id": "second", "digits": {"max": 1}, "initial_timeout": 5.0, "extras": {"status_url": hook}}
    calling.collect(story.call.uuid, **params)
    calling.collect_start_input_timers(story.call.uuid, control_id="second")
    assert customer.told(story, "/hook/collect", 2)[-1].result == {"type": "no_input"}

    params = {"continuous": True, "partial_results": True, "extras": {"status_url": hook}}
    calling.collect(story.call.uuid, control_id="third", digits={"max": 2}, **params)
    story.call.press("17")
    told = customer.told(story, "/hook/collect", 4)[2:]
    assert [(event.final, event.result["params"]["digits"]) for event in told] == [(False, "1"), (True, "17")]
    calling.collect_stop(story.call.uuid, control_id="third")
    assert customer.told(story, "/hook/collect", 5)[-1].result == {"type": "finished"}
    customer.hang_up(story)


@asks("detect", "detect_stop")
@pytest.mark.parametrize(
    ("detect", "event"),
    [
        ({"type": "machine", "params": {"initial_timeout": 4.5, "end_silence_timeout": 1.0}}, "HUMAN"),
        ({"type": "digit", "params": {"digits": "0123456789#*"}}, "5"),
        ({"type": "fax", "params": {"tone": "CED"}}, None),
    ],
    ids=["machine", "digit", "fax"],
)
def test_detect(house, detect, event):
    customer = house(Party(behaviour=Caller(speaks=((3.0, 3.6),))), speed=10.0)
    story, calling = customer.call(), customer.calling
    params = {"detect": detect, "timeout": 500.0, "extras": {"status_url": customer.at("/hook/detect")}}

    leg = calling.detect(story.call.uuid, **params)

    if event == "5":
        story.call.press("5")
    if event is None:
        calling.detect_stop(story.call.uuid, control_id=leg["control_id"])
        assert [one.detect["params"]["event"] for one in customer.told(story, "/hook/detect", 1)] == ["finished"]
    else:
        told = customer.told(story, "/hook/detect", 2)
        assert [one.detect["params"]["event"] for one in told] == [event, "finished"]
        assert {(one.detect["type"], one.control_id) for one in told} == {(detect["type"], leg["control_id"])}
        calling.detect_stop(story.call.uuid, control_id=leg["control_id"])  # it is over: nothing to do, and no error
    customer.hang_up(story)


@asks("denoise", "denoise_stop")
def test_denoise(house):
    customer = house()
    story = customer.call()

    customer.calling.denoise(story.call.uuid, extras={"ignored": True})
    customer.calling.denoise_stop(story.call.uuid)

    customer.hang_up(story)
    assert story.controls("denoise").popitem()[1] == ["denoising", "finished"]


@asks("user_event")
def test_user_event(house):
    customer = house()
    story = customer.call()

    customer.calling.user_event(story.call.uuid, event={"action": "order.confirmed", "amount": 49.99})

    (told,) = customer.told(story, "/hook/user", 1)
    assert (told.params["action"], told.params["amount"]) == ("order.confirmed", 49.99)
    customer.hang_up(story)


# -- audio beside the call ---------------------------------------------------------------------------------------


@pytest.fixture
def listening(house):
    """A customer whose calls' audio goes through the hub, over real sockets; the party never stops talking."""

    def switch(target, **settings):
        return Switch(target, **{**settings, "streams": WebSockets()})

    party = Party(behaviour=Caller(speaks=((0.0, math.inf),)))
    return house(party, speed=1.0, switch=switch, config={"streams": {"mode": "hub", "allow_plaintext": True}})


@pytest.fixture
def endpoint():
    made = Endpoint()
    yield made
    made.close()


@pytest.fixture
def recorder():
    made = Receiver()
    yield made
    made.close()


@asks("stream", "stream_stop")
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_stream(listening, endpoint, method):
    customer, calling = listening, listening.calling
    story = customer.call()
    leg = calling.stream(
        story.call.uuid,
        url=endpoint.url,
        codec="PCMU",
        track="both_tracks",
        authorization_bearer_token="t0ken",
        custom_parameters={"order": "17"},
        extras={"name": "ears", "status_url": customer.at("/hook/stream?shop=1"), "status_url_method": method},
    )
    wait_for(lambda: len(endpoint.events("media")) > 10, "audio")
    calling.stream_stop(story.call.uuid, control_id=leg["control_id"])
    wait_for(lambda: len(story.webhooks("/hook/stream")) == 2, "the webhooks")

    (start,) = [message["start"] for message in endpoint.events("start")]
    assert (start["callSid"], start["tracks"]) == (story.call.uuid, ["inbound", "outbound"])
    assert start["customParameters"] == {"order": "17"}
    (connection,) = endpoint.connections
    assert connection.request.headers["Authorization"] == "Bearer t0ken"
    hooks = story.webhooks("/hook/stream")
    assert {hook.line.split()[0] for hook in hooks} == {method}
    said = [hook.params if method == "POST" else hook.event for hook in hooks]
    assert [(one["state"], one["name"], one["control_id"]) for one in said] == [
        ("streaming", "ears", leg["control_id"]),
        ("finished", "ears", leg["control_id"]),
    ]
    customer.hang_up(story)


@asks("tap", "tap_stop")
@pytest.mark.parametrize("flat", [False, True], ids=["params", "flat"])
def test_tap(listening, recorder, flat):
    customer, calling = listening, listening.calling
    story = customer.call()
    where = {"addr": "127.0.0.1", "port": recorder.port}
    leg = calling.tap(
        story.call.uuid,
        tap={"type": "audio", **({"direction": "speak"} if flat else {"params": {"direction": "speak"}})},
        device={"type": "rtp", **(where if flat else {"params": where})},
        extras={"status_url": customer.at("/hook/tap")},
    )
    recorder.wait(10)
    calling.tap_stop(story.call.uuid, control_id=leg["control_id"])

    told = customer.told(story, "/hook/tap", 2)
    assert [(event.state, event.control_id) for event in told] == [
        ("tapping", leg["control_id"]),
        ("finished", leg["control_id"]),
    ]
    assert told[0].tap == {"type": "audio", "params": {"direction": "speak"}}
    assert told[0].device == {"type": "rtp", "params": {**where, "codec": "PCMU", "ptime": 20}}
    customer.hang_up(story)


@asks("tap", "tap_stop")
def test_tap_to_a_websocket(listening, endpoint):
    customer, calling = listening, listening.calling
    story = customer.call()

    leg = calling.tap(
        story.call.uuid,
        tap={"type": "audio", "params": {"direction": "both"}},
        device={"type": "ws", "params": {"uri": endpoint.url}},
    )
    wait_for(lambda: len(endpoint.events("media")) > 10, "audio")
    calling.tap_stop(story.call.uuid, control_id=leg["control_id"])

    (start,) = [message["start"] for message in endpoint.events("start")]
    assert start["tracks"] == ["inbound", "outbound"]
    customer.hang_up(story)


# -- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MISSING)
def test_what_there_is_not(house, name):
    customer = house()
    story = customer.call()
    method, params = MISSING[name]

    error = refusal(422, getattr(customer.calling, name), story.call.uuid, **params)

    (item,) = error.body["errors"]
    assert (item["code"], item["attribute"]) == ("feature_not_available", "command")
    assert f"`{method}`" in item["message"]
    assert (error.method, error.url) == ("POST", f"{customer.stage.public_url}/api/calling/calls")
    customer.hang_up(story)


def test_no_command_of_the_sdk_was_forgotten():
    offered = {name for name in vars(type(sdk.RestClient("p", "t", "127.0.0.1").calling)) if not name.startswith("_")}
    asked = {name for test in globals().values() for name in getattr(test, "asks", ())}

    assert asked | MISSING.keys() == offered
    assert not asked & MISSING.keys()


@pytest.mark.parametrize("wrong", [{"token": "a-token-of-somebody-else"}, {"project": PROJECT[::-1]}], ids=str)
def test_somebody_else(house, wrong):
    customer = house(client=wrong)

    error = refusal(401, customer.calling.dial, from_="1", to="2", swml=STAY)
    assert error.body["error"] == "Unauthorized"
    assert headers(error)["WWW-Authenticate"].startswith("Basic ")
    assert refusal(401, customer.client.logs.voice.list).method == "GET"


def test_a_token_without_the_scope(house):
    tokens = [{"name": "looks", "token": TOKEN, "scopes": ["read"]}]
    customer = house(config={"api": {"tokens": tokens}})

    error = refusal(403, customer.calling.dial, from_="1", to="2", swml=STAY)

    assert error.body["error"] == "Forbidden"
    assert customer.client.logs.voice.list()["data"] == []


def test_a_call_and_a_log_that_there_are_not(house):
    customer, nobody = house(), "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11"

    for method, params in (
        (customer.calling.denoise, {"call_id": nobody}),
        (customer.calling.update, {"id": nobody, "status": "completed"}),
        (customer.client.logs.voice.get, {"resource_id": nobody}),
        (customer.client.logs.voice.list_events, {"id": nobody}),
    ):
        assert refusal(404, method, **params).body["error"] == "Not Found"


def test_what_is_wrong_is_told_with_its_place(house):
    customer = house()
    story, calling = customer.call(), customer.calling
    call_id = story.call.uuid

    assert refused_for(calling.play_stop, call_id, control_id="none") == [("provided_id_is_unrecognized", "control_id")]
    assert refused_for(calling.play, call_id, play=[{"type": "audio", "url": "ftp://x"}]) == [
        ("not_an_http_url", "play.0.params.url")
    ]
    assert refused_for(calling.dial, from_="1", to="2") == [("inline_swml_or_swml_webhook_required", "url")]
    assert refused_for(calling.update, id=call_id) == [("missing_required_parameter", "status")]
    assert refused_for(calling.update, id=call_id, status="canceled") == [("cannot_cancel_in_progress", "status")]
    assert refusal(400, calling.collect, call_id).body["error"] == "Bad Request"
    customer.hang_up(story)
    assert refused_for(calling.play, call_id, play=[{"type": "silence", "duration": 1}]) == [("invalid_state", "id")]


def test_a_program_that_asks_too_often_is_told_when_to_come_back(house):
    patient = {"request_options": sdk.RequestOptions(retries=3)}
    limits = {**REST["api"], "requests_per_second": 1, "burst": 1}
    customer = house(config={"api": limits}, client=patient)
    once = sdk.RequestOptions(retries=0)

    customer.client.logs.voice.list()
    error = refusal(429, customer.client.logs.voice.list, request_options=once)

    assert error.body["errors"][0]["code"] == "rate_limit_exceeded"
    assert headers(error)["Retry-After"] == "1"
    assert customer.client.logs.voice.list()["data"] == []


def test_freeswitch_is_not_there(house):
    customer = house()
    customer.stage.switch.drop_inbound(listening=False)
    wait_for(lambda: not customer.stage.server.link.connected, "the connection to go")

    error = refusal(503, customer.calling.dial, from_="1", to="2", swml=STAY)

    assert error.body["errors"][0]["code"] == "service_unavailable"


def test_fsctl_is_not_there(house):
    customer = house()
    customer.stage.server.http.stop()

    with pytest.raises(sdk.SignalWireRestTransportError) as failed:
        customer.calling.denoise("6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11")

    assert (failed.value.status_code, failed.value.request_id) == (None, None)


# -- reading it up afterwards ------------------------------------------------------------------------------------


def test_voice_logs(house):
    customer = house()
    voice = customer.client.logs.voice
    stories = [customer.hang_up(customer.call(url=customer.at("/swml"))) for _ in range(5)]
    wait_for(lambda: all(log["status"] == "completed" for log in voice.list()["data"]), "the last words")

    found = list(voice.paginate(page_size=2))

    assert [log["id"] for log in found] == [story.call.uuid for story in reversed(stories)]
    assert all(log.keys() == {"from", *logs.RelayVoiceLog.__annotations__} for log in found)
    assert len(voice.list(page_size=2)["data"]) == 2
    assert voice.list(created_before="2020-01-01")["data"] == []
    log = voice.get(stories[0].call.uuid)
    assert log == found[-1]
    assert (log["direction"], log["type"], log["status"]) == ("outbound-api", "relay_pstn_call", "completed")
    events = voice.list_events(stories[0].call.uuid)["data"]
    assert all(event.keys() == logs.LogEvent.__annotations__.keys() for event in events)
    names = [event["name"] for event in events]
    assert names[0] == "calling_call_queued"
    assert {"calling_call_answered", "calling_call_document_fetched", "calling_call_ended"} <= set(names)
    assert {event["log_id"] for event in events} == {log["id"]}


# -- signatures --------------------------------------------------------------------------------------------------


def test_a_webhook_that_was_tampered_with_is_not_accepted(house):
    customer = house()
    story = customer.call(url=customer.at("/swml?order=17"), status_url=customer.at("/hook/state"))
    customer.hang_up(story)
    wait_for(lambda: story.webhooks("/hook/state"), "the webhook")

    stage = customer.stage
    document_request, webhook = signed(stage)
    assert (document_request.path, webhook.path) == ("/swml", "/hook/state")
    for hook in (document_request, webhook):
        assert accepted(stage, hook)
        assert not accepted(stage, hook, body=hook.body.replace(b"+15550199", b"+15550198"))
        assert not accepted(stage, hook, body=hook.body + b" ")
        assert not accepted(stage, hook, query="&paid=1")
        assert not accepted(stage, hook, key=KEY + "x")
        assert not accepted(stage, Hook(hook.line, {}, hook.body))


def test_credentials_in_a_url_are_not_part_of_what_is_signed(house):
    customer = house()
    url = customer.at("/hook/state?shop=1#ot=500").replace("//", "//bob:s3cret@")

    story = customer.call(status_url=url)
    customer.hang_up(story)

    wait_for(lambda: story.webhooks("/hook/state"), "the webhook")
    (hook,) = signed(customer.stage)
    assert hook.line.split()[1] == "/hook/state?shop=1"
    assert hook.headers["Authorization"].startswith("Basic ")
    assert accepted(customer.stage, hook)
