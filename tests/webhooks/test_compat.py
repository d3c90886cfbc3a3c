"""Callbacks in the compatibility form, and how receivers check them (compat-streams.md 5, webhooks.md 2.2)."""

from __future__ import annotations

import base64
import hashlib
import hmac
from ipaddress import ip_network
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fsctl.call.events import Callback, CallStateChanged, ControlChanged, UserEvent
from fsctl.clock import Clock
from fsctl.config import Webhooks
from fsctl.signature import sign_form, sign_form_body
from fsctl.web import Client, Policy
from fsctl.webhooks.outbox import Delivery, MemoryOutbox
from fsctl.webhooks.payloads import compat, form_body, form_query, payload
from fsctl.webhooks.sender import Sender

KEY = "PSK_test"
AT = 1767323045.9
STARTED = {
    "AccountSid": "11111111-2222-4333-8444-555555555555",
    "CallSid": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11",
    "StreamSid": "3d0f",
    "StreamName": "my_first_stream",
    "StreamEvent": "stream-started",
    "StreamTrack": "both_tracks",
    "Timestamp": "2026-01-02T03:04:05Z",
    "Unique-ID": "6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11",
}
DETAIL = {"url": "wss://asr.example/in", "name": "my_first_stream", "track": "both_tracks"}


@pytest.fixture
def stream(call):
    """An event of a stream that is told in this form."""

    def build(state="streaming", url="https://app.example/s", method="POST", control_id="3d0f", **detail):
        callback = Callback(url, method, "compat")
        return ControlChanged(call(), "stream", "startStream", control_id, state, AT, {**DETAIL, **detail}, callback)

    return build


# -- what it says ----------------------------------------------------------------------------------------------------


def test_the_start_of_a_stream(stream):
    assert compat(stream()) == STARTED
    assert list(compat(stream())) == list(STARTED)


@pytest.mark.parametrize("track", ["inbound_track", "outbound_track", "both_tracks"])
def test_the_track(stream, track):
    assert compat(stream(track=track)) == {**STARTED, "StreamTrack": track}


def test_a_stream_without_a_name_has_its_sid(stream):
    event = stream()
    without = ControlChanged(event.call, "stream", "startStream", "3d0f", "streaming", AT, {"track": "both_tracks"})

    assert compat(without) == {**STARTED, "StreamName": "3d0f"}


@pytest.mark.parametrize("reason", ["stopped", "hangup", "closed"])
def test_the_end_of_a_stream(stream, reason):
    assert compat(stream("finished", reason=reason)) == {**STARTED, "StreamEvent": "stream-stopped"}


UNREACHED = "connection_refused_timeout_or_ssl_error"


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("scheme", "invalid_url"),
        ("malformed", "invalid_url"),
        ("address", "invalid_url"),
        ("refused", "connection_refused"),
        ("status", "connection_refused"),
        ("dns", UNREACHED),
        ("connect", UNREACHED),
        ("timeout", UNREACHED),
        ("tls", UNREACHED),
        ("content", UNREACHED),
        ("lost", UNREACHED),
        ("protocol", "general_error"),
        ("internal", "general_error"),
    ],
)
def test_a_stream_that_fails_or_breaks(stream, reason, error):
    told = compat(stream("finished", reason=reason))

    assert told == {**STARTED, "StreamEvent": "stream-error", "StreamError": error}


def test_other_events_have_no_such_form(call):
    for event in (
        CallStateChanged(call(), "answered", AT),
        UserEvent(call(), {}, AT),
        ControlChanged(call(), "play", "play", "p", "playing", AT),
    ):
        with pytest.raises(TypeError, match="compatibility form"):
            compat(event)


def test_json_tells_nothing_more_than_before(stream):
    told = payload(stream("finished", reason="tls"))["params"]

    assert {name: told[name] for name in ("state", "url", "name")} == {
        "state": "finished",
        "url": "wss://asr.example/in",
        "name": "my_first_stream",
    }
    assert {"reason", "track", "StreamError"}.isdisjoint(told)


def test_the_body_is_a_form(stream):
    assert form_body(compat(stream(name="a b&c=ü"))) == (
        b"AccountSid=11111111-2222-4333-8444-555555555555&CallSid=6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11&StreamSid=3d0f"
        b"&StreamName=a+b%26c%3D%C3%BC&StreamEvent=stream-started&StreamTrack=both_tracks"
        b"&Timestamp=2026-01-02T03%3A04%3A05Z&Unique-ID=6f0f6d0e-6a0b-4d7e-9b0b-5d0b2f6f7d11"
    )


text = st.text(st.characters(exclude_categories=["Cs"]))
FIELDS = st.dictionaries(text.filter(bool), text, max_size=6)


@given(fields=FIELDS)
def test_whatever_it_says_comes_back(fields):
    assert dict(parse_qsl(form_body(fields).decode("ascii"), keep_blank_values=True)) == fields
    assert dict(parse_qsl(form_query(fields), keep_blank_values=True)) == fields


# -- the signature ---------------------------------------------------------------------------------------------------


def expected_signature(url, fields):
    """What a validator computes."""
    message = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.new(KEY.encode(), message.encode(), hashlib.sha1).digest()).decode()


@given(url=text, fields=FIELDS)
def test_the_signature_of_a_form_is_that_of_its_fields(url, fields):
    assert sign_form_body(KEY, url, form_body(fields)) == sign_form(KEY, url, fields.items())
    assert sign_form_body(KEY, url, form_body(fields))["X-SignalWire-Signature"] == expected_signature(url, fields)


class KeepingClient:
    """Sends nowhere and keeps what it was given."""

    def __init__(self, *answers):
        self.sent = []
        self._answers = list(answers)

    def wire_url(self, url):
        return url.partition("#")[0]

    def send(self, method, url, headers, body, timeouts, *, received=None):
        self.sent.append((method, url, headers, body))
        return self._answers.pop(0) if self._answers else 204


@pytest.fixture
def sender():
    made = []

    def build(client, **options):
        settings = {"settings": Webhooks(), "signing_key": KEY, "clock": Clock(), "pause": lambda _attempt: 0.0}
        made.append(Sender(client, **{**settings, **options}))
        return made[-1]

    yield build
    for one in made:
        one.close()


VECTORS = {
    "form": (
        Delivery(
            "1", "c1", "e", "POST", "https://example.com/hook?x=1", "",
            b"AccountSid=p1&CallSid=c1&StreamEvent=stream-started", AT, "compat",
        ),
        "c7zT+ROSRZlVdPJ+wt64+umwL8c=",
    ),
    "form in another order": (
        Delivery(
            "1", "c1", "e", "POST", "https://example.com/hook?x=1#rt=100", "",
            b"StreamEvent=stream-started&CallSid=c1&AccountSid=p1", AT, "compat",
        ),
        "c7zT+ROSRZlVdPJ+wt64+umwL8c=",
    ),
    "get": (
        Delivery("1", "c1", "e", "GET", "https://example.com/hook", "x=1", b"", AT, "compat"),
        "3PUoePIQ07bPDVTcBq+fNiIpgM0=",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("delivery", "signature"), VECTORS.values(), ids=VECTORS)
def test_published_signatures(sender, delivery, signature):
    client, outbox = KeepingClient(), MemoryOutbox()
    outbox.put(delivery)
    made = sender(client, outbox=outbox)

    made.recover()

    assert made.drain(10) == 0
    ((method, _, headers, body),) = client.sent
    assert headers["X-SignalWire-Signature"] == signature
    assert "X-SignalWire-SHA256-Signature" not in headers
    assert (method, body) == (delivery.method, delivery.body or None)


# -- on its way ------------------------------------------------------------------------------------------------------


@pytest.fixture
def loopback():
    client = Client(Policy(allow_private=(ip_network("127.0.0.0/8"),)), user_agent="fsctl/test")
    yield client
    client.close()


def test_a_form_that_a_receiver_can_check(receiver, loopback, sender, stream):
    outcomes = []
    made = sender(loopback, on_outcome=lambda kind, outcome, _seconds: outcomes.append((kind, outcome)))

    made(stream(url=receiver.url("/hook?x=1", userinfo="user:p%40ss@") + "#rt=4000", name="Zoë & co"))

    assert made.drain(10) == 0
    (request,) = receiver.requests
    fields = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    assert (request.method, request.target) == ("POST", "/hook?x=1")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"] == "Basic dXNlcjpwQHNz"
    assert fields == {**STARTED, "StreamName": "Zoë & co"}
    assert request.headers["x-signalwire-signature"] == expected_signature(receiver.url("/hook?x=1"), fields)
    assert "x-signalwire-sha256-signature" not in request.headers
    assert outcomes == [("calling.call.stream", "delivered")]


def test_a_query_that_a_receiver_can_check(receiver, loopback, sender, stream):
    made = sender(loopback)

    made(stream("finished", receiver.url("/hook?own=1"), "GET", name="Zoë & co", reason="timeout"))

    assert made.drain(10) == 0
    (request,) = receiver.requests
    query = request.target.partition("?")[2]
    assert (request.method, request.body) == ("GET", b"")
    assert "content-type" not in request.headers
    assert query.startswith("own=1&AccountSid=")
    assert dict(parse_qsl(query)) == {
        "own": "1",
        **STARTED,
        "StreamName": "Zoë & co",
        "StreamEvent": "stream-error",
        "StreamError": UNREACHED,
    }
    assert request.headers["x-signalwire-signature"] == expected_signature(receiver.url("") + request.target, {})


def test_without_a_key_nothing_is_signed(receiver, loopback, sender, stream):
    made = sender(loopback, signing_key="")

    made(stream(url=receiver.url()))

    assert made.drain(10) == 0
    assert "x-signalwire-signature" not in receiver.requests[0].headers


def test_they_are_repeated_and_kept_in_order_as_all_others(sender, stream):
    client = KeepingClient(500, 503)
    made = sender(client)

    made(stream())
    made(stream("finished", reason="stopped"))

    assert made.drain(10) == 0
    told = [dict(parse_qsl(body.decode()))["StreamEvent"] for _, _, _, body in client.sent]
    assert told == ["stream-started"] * 3 + ["stream-stopped"]
    assert len({headers["X-SignalWire-Signature"] for _, _, headers, _ in client.sent}) == 2
    assert len({headers["webhook-id"] for _, _, headers, _ in client.sent}) == 2


def test_both_forms_at_one_address_keep_their_order(sender, stream, call):
    client = KeepingClient()
    made = sender(client)
    url = "https://app.example/s"

    made(stream(url=url))
    made(ControlChanged(call(), "play", "play", "p", "playing", AT, {}, Callback(url)))
    made(stream("finished", url, reason="hangup"))

    assert made.drain(10) == 0
    kinds = [headers["Content-Type"] for _, _, headers, _ in client.sent]
    assert kinds == ["application/x-www-form-urlencoded", "application/json", "application/x-www-form-urlencoded"]


def test_what_has_no_such_form_is_dropped_aloud(sender, call):
    client, outcomes = KeepingClient(), []
    made = sender(client, on_outcome=lambda kind, outcome, _seconds: outcomes.append((kind, outcome)))

    with capture_logs() as logs:
        made(ControlChanged(call(), "play", "play", "p", "playing", AT, {}, Callback("https://h/", "POST", "compat")))

    assert made.drain(10) == 0
    assert (client.sent, outcomes) == ([], [("calling.call.play", "dropped")])
    assert [line["event"] for line in logs] == ["webhook_dropped"]
