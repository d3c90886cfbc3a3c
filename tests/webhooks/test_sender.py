"""How events reach customers' servers: order, retries, bounds, fairness, and what happens when they do not."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import time
from collections import Counter, defaultdict
from email.utils import formatdate
from ipaddress import ip_network
from urllib.parse import parse_qsl

import gevent
import pytest
from gevent.event import Event
from gevent.server import StreamServer
from structlog.testing import capture_logs

from fsctl.call.events import Callback, CallRefused, CallStateChanged, ControlChanged, ScriptWarning, UserEvent
from fsctl.clock import Clock
from fsctl.config import Webhooks
from fsctl.errors import FetchError
from fsctl.web import Client, Policy
from fsctl.webhooks.outbox import Delivery, MemoryOutbox
from fsctl.webhooks.payloads import payload
from fsctl.webhooks.sender import FIRST_PAUSE, LONGEST_PAUSE, Sender, host_of, pause, retry_after

AT = 1767323045.5
LONG = 60.0  # nothing here takes as long; a test that waits for it hangs and fails


class Story:
    """A sender with everything around it, and what became of its webhooks."""

    def __init__(self, client, settings=None, **options):
        self.outcomes = []
        self.outbox = options.pop("outbox", None) or MemoryOutbox()
        self.sender = Sender(
            client,
            settings=settings or Webhooks(),
            signing_key=options.pop("signing_key", "PSK_test"),
            clock=Clock(),
            outbox=self.outbox,
            on_outcome=options.pop("on_outcome", lambda kind, outcome, _seconds: self.outcomes.append((kind, outcome))),
            pause=options.pop("pause", lambda _attempt: 0.0),
            **options,
        )

    @property
    def became(self):
        return [outcome for _, outcome in self.outcomes]

    def finish(self):
        """Wait until nothing is left, and see that nothing was kept."""
        assert self.sender.drain(LONG) == 0
        assert (self.sender._lanes, self.sender._hosts, self.sender._timers) == ({}, {}, set())
        assert list(self.outbox.pending()) == []


@pytest.fixture
def loopback():
    client = Client(Policy(allow_private=(ip_network("127.0.0.0/8"),)), user_agent="fsctl/test")
    yield client
    client.close()


@pytest.fixture
def story():
    made = []

    def build(client, settings=None, **options):
        made.append(Story(client, settings, **options))
        return made[-1]

    yield build
    for one in made:
        one.sender.close()


@pytest.fixture
def play(call):
    """An event of a play control: ``number`` is its control id, so that order can be seen."""

    def build(url, number=0, *, call_id="c1", method="POST"):
        callback = Callback(url, method)
        return ControlChanged(call(call_id=call_id), "play", "play", str(number), "playing", AT, {}, callback)

    return build


class FakeClient:
    """Answers without a network; ``answer(number, url)`` decides, counting requests from 1."""

    def __init__(self, answer=lambda _number, _url: 204):
        self.answer = answer
        self.sent = []
        self.active = Counter()
        self.most = Counter()

    def wire_url(self, url):
        return url

    def send(self, method, url, headers, body, timeouts, *, received=None):
        host = host_of(url)
        for name in (host, "all"):
            self.active[name] += 1
            self.most[name] = max(self.most[name], self.active[name])
        self.sent.append((url, json.loads(body)["params"]["control_id"], timeouts))
        number = len(self.sent)
        try:
            gevent.sleep(0)
            return self.answer(number, url)
        finally:
            for name in (host, "all"):
                self.active[name] -= 1


# -- one delivery -----------------------------------------------------------------------------------------------------


def test_a_webhook_arrives_as_signed_json_with_a_stable_identity(receiver, loopback, story, play):
    told = story(loopback)
    event = play(receiver.url("/hook?x=1", userinfo="user:p%40ss@") + "#rt=4000")

    told.sender(event)
    told.finish()

    (request,) = receiver.requests
    message = receiver.url("/hook?x=1").encode() + request.body
    assert (request.method, request.target) == ("POST", "/hook?x=1")
    assert request.json == payload(event)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "fsctl/test"
    assert request.headers["authorization"] == "Basic dXNlcjpwQHNz"
    assert request.headers["x-signalwire-signature"] == hmac.new(b"PSK_test", message, hashlib.sha1).hexdigest()
    assert request.headers["webhook-id"].startswith("evt_")
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert told.outcomes == [("calling.call.play", "delivered")]


def test_without_a_signing_key_nothing_is_signed(receiver, loopback, story, play):
    told = story(loopback, signing_key="")

    told.sender(play(receiver.url()))
    told.finish()

    assert not [name for name in receiver.requests[0].headers if "signature" in name]


def test_get_sends_the_fields_in_the_query_and_signs_the_url_alone(receiver, loopback, story, play):
    told = story(loopback)

    told.sender(play(receiver.url("/hook?own=1"), 7, method="GET"))
    told.finish()

    (request,) = receiver.requests
    fields = dict(parse_qsl(request.target.partition("?")[2]))
    signed = hmac.new(b"PSK_test", (receiver.url("") + request.target).encode(), hashlib.sha1).hexdigest()
    assert request.method == "GET"
    assert request.body == b""
    assert "content-type" not in request.headers
    assert request.target.startswith("/hook?own=1&event_type=calling.call.play&")
    assert (fields["control_id"], fields["state"]) == ("7", "playing")
    assert request.headers["x-signalwire-signature"] == signed


# -- which event goes where -------------------------------------------------------------------------------------------

PLACES = Webhooks(
    call_state_url="http://a.example/state",
    call_state_events=("answered", "ended"),
    script_warning_url="http://a.example/warning",
    user_event_url="http://a.example/user",
)


@pytest.mark.parametrize(
    ("make", "settings", "url"),
    [
        pytest.param(lambda c: CallStateChanged(c, "answered", AT), PLACES, "http://a.example/state", id="call state"),
        pytest.param(lambda c: CallStateChanged(c, "ringing", AT), PLACES, None, id="a state nobody asked for"),
        pytest.param(lambda c: CallStateChanged(c, "answered", AT), Webhooks(), None, id="no state URL"),
        pytest.param(lambda c: ScriptWarning(c, "code", "m", AT), PLACES, "http://a.example/warning", id="warning"),
        pytest.param(lambda c: ScriptWarning(c, "code", "m", AT), Webhooks(), None, id="no warning URL"),
        pytest.param(lambda c: UserEvent(c, {}, AT), PLACES, "http://a.example/user", id="user event"),
        pytest.param(lambda c: UserEvent(c, {}, AT), Webhooks(), None, id="no user event URL"),
        pytest.param(
            lambda c: ControlChanged(c, "play", "play", "p", "playing", AT, {}, Callback("http://a.example/own")),
            PLACES,
            "http://a.example/own",
            id="a control's own URL",
        ),
        pytest.param(
            lambda c: ControlChanged(c, "play", "play", "p", "playing", AT), PLACES, None, id="a control without URL"
        ),
        pytest.param(lambda _: CallRefused("capacity", AT), PLACES, None, id="not for customers"),
    ],
)
def test_each_event_goes_to_the_url_meant_for_it(call, story, make, settings, url):
    class Keeping(MemoryOutbox):
        def put(self, delivery):
            super().put(delivery)
            urls.append(delivery.url)

    urls = []
    told = story(FakeClient(), settings, outbox=Keeping())

    told.sender(make(call()))

    assert urls == ([url] if url else [])


# -- attempts ---------------------------------------------------------------------------------------------------------


def test_a_failed_attempt_is_repeated_with_the_same_identity_before_the_next_event(receiver, loopback, story, play):
    receiver.answers.extend([500, 503])
    told = story(loopback)

    for number in range(3):
        told.sender(play(receiver.url(), number))
    told.finish()

    assert [request.json["params"]["control_id"] for request in receiver.requests] == ["0", "0", "0", "1", "2"]
    ids = [(r.headers["webhook-id"], r.headers["webhook-timestamp"]) for r in receiver.requests]
    assert len(set(ids[:3])) == 1
    assert len({name for name, _ in ids}) == 3
    assert told.became == ["delivered"] * 3


@pytest.mark.parametrize(
    ("answer", "retries", "attempts", "outcome"),
    [
        pytest.param(200, 2, 1, "delivered", id="200"),
        pytest.param(299, 2, 1, "delivered", id="any 2xx"),
        pytest.param(500, 2, 3, "failed", id="500"),
        pytest.param(404, 1, 2, "failed", id="404"),
        pytest.param(503, 0, 1, "failed", id="no retries"),
        pytest.param(410, 2, 1, "gone", id="410 wants no more"),
        pytest.param((302, {"Location": "/elsewhere"}), 2, 3, "failed", id="a redirect is not followed"),
        pytest.param((503, {"Retry-After": "3600"}), 2, 1, "failed", id="asks for more time than there is"),
    ],
)
def test_the_answer_decides_what_becomes_of_a_webhook(
    receiver, loopback, story, play, answer, retries, attempts, outcome
):
    receiver.always = answer
    told = story(loopback, Webhooks(retries=retries))

    with capture_logs() as logs:
        told.sender(play(receiver.url()))
        told.finish()

    assert [request.target for request in receiver.requests] == ["/hook"] * attempts
    assert told.became == [outcome]
    given_up = [line for line in logs if line["event"] == "webhook_given_up"]
    assert [(line["outcome"], line["attempts"]) for line in given_up] == (
        [] if outcome == "delivered" else [(outcome, attempts)]
    )


def test_the_next_webhook_of_a_lane_starts_afresh_after_one_was_given_up(receiver, loopback, story, play):
    receiver.answers.extend([500, 500, 500, 500])
    told = story(loopback)

    told.sender(play(receiver.url(), 1))
    told.sender(play(receiver.url(), 2))
    told.finish()

    assert [request.json["params"]["control_id"] for request in receiver.requests] == ["1", "1", "1", "2", "2"]
    assert told.became == ["failed", "delivered"]


def test_a_server_that_hangs_up_counts_as_a_failed_attempt(loopback, story, play):
    server = StreamServer(("127.0.0.1", 0), lambda sock, _: (sock.recv(10), sock.close()))
    server.start()
    told = story(loopback)
    try:
        with capture_logs() as logs:
            told.sender(play(f"http://127.0.0.1:{server.server_port}/"))
            told.finish()
    finally:
        server.stop()

    (line,) = [line for line in logs if line["event"] == "webhook_given_up"]
    assert (line["outcome"], line["attempts"], line["status"]) == ("failed", 3, None)


def test_a_server_that_is_not_there_counts_as_a_failed_attempt(loopback, story, play):
    server = StreamServer(("127.0.0.1", 0), print)
    server.start()
    port = server.server_port
    server.stop()
    told = story(loopback)

    with capture_logs() as logs:
        told.sender(play(f"http://127.0.0.1:{port}/"))
        told.finish()

    (line,) = [line for line in logs if line["event"] == "webhook_given_up"]
    assert (line["outcome"], line["reason"], line["attempts"]) == ("failed", "refused", 3)


@pytest.mark.parametrize(
    "url", [pytest.param("http://127.0.0.1:1/", id="private"), pytest.param("http://[", id="malformed")]
)
def test_an_address_our_rules_forbid_is_tried_once_and_never_reached(story, play, url):
    told = story(Client(Policy(), user_agent="fsctl/test"))

    with capture_logs() as logs:
        told.sender(play(url))
        told.finish()

    (line,) = [line for line in logs if line["event"] == "webhook_given_up"]
    assert told.became == ["refused"]
    assert line["attempts"] == 1


def test_a_receiver_that_does_not_answer_in_time_is_given_up(receiver, loopback, story, play):
    never = Event()
    receiver.always = never
    told = story(loopback)

    with capture_logs() as logs:
        told.sender(play(receiver.url() + "#tt=100"))
        told.finish()
    never.set()

    (line,) = [line for line in logs if line["event"] == "webhook_given_up"]
    assert (line["reason"], line["attempts"]) == ("timeout", 1)


@pytest.mark.parametrize(
    ("fragment", "connect", "read", "total"),
    [
        pytest.param("", 2.0, 5.0, 15.0, id="settings"),
        pytest.param("#ot=150&rt=250", 0.15, 0.25, 15.0, id="fragment"),
        pytest.param("#tt=1000", 1.0, 1.0, 1.0, id="no step may take longer than the whole"),
        pytest.param("#ot=1&tt=99999", 0.1, 5.0, 15.0, id="held to the limits"),
    ],
)
def test_timeouts_come_from_the_settings_or_the_urls_fragment(story, play, fragment, connect, read, total):
    client = FakeClient()
    told = story(client)

    told.sender(play(f"http://a.example/{fragment}"))
    told.finish()

    ((_, _, timeouts),) = client.sent
    assert timeouts == pytest.approx((connect, read, total), abs=0.05)


def test_all_attempts_share_one_budget_of_time(story, play):
    told = story(FakeClient(lambda _n, _u: 500), pause=lambda _attempt: 9.0)

    told.sender(play("http://a.example/#tt=8000"))
    told.finish()

    assert told.became == ["failed"]
    assert len(told.sender._client.sent) == 1


def test_a_later_attempt_has_the_time_that_is_left(story, play):
    def answer(number, _url):
        if number == 1:
            Event().wait(0.2)
            return 500
        return 204

    client = FakeClient(answer)
    told = story(client)

    told.sender(play("http://a.example/#tt=900"))
    told.finish()

    assert told.became == ["delivered"]
    assert [timeouts for _, _, timeouts in client.sent] == [
        (0.9, 0.9, 0.9),
        pytest.approx((0.7, 0.7, 0.7), abs=0.1),
    ]


def test_an_attempt_whose_turn_comes_after_its_time_is_not_made(story, play):
    def answer(_number, url):
        if "slow" in url:
            Event().wait(0.15)  # holds the only worker beyond the other's whole time
            return 204
        return 500

    client = FakeClient(answer)
    told = story(client, Webhooks(concurrency=1))

    told.sender(play("http://a.example/#tt=100"))
    told.sender(play("http://a.example/slow"))
    told.finish()

    assert told.became == ["delivered", "failed"]
    assert [url for url, _, _ in client.sent] == ["http://a.example/#tt=100", "http://a.example/slow"]


def test_a_client_that_breaks_is_a_failed_attempt_and_not_the_end_of_the_lane(story, play):
    def answer(number, _url):
        if number == 1:
            raise RuntimeError("a fault of ours")
        return 204

    told = story(FakeClient(answer))
    with capture_logs() as logs:
        told.sender(play("http://a.example/"))
        told.finish()

    assert told.became == ["delivered"]
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["webhook_attempt_broke"]


def test_pauses_double_and_are_spread():
    for attempt in range(1, 12):
        longest = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
        drawn = {pause(attempt) for _ in range(20)}
        assert all(longest / 2 <= seconds <= longest for seconds in drawn)
        assert len(drawn) > 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0.0),
        ("", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("-3", 0.0),
        ("soon", 0.0),
        ("9" * 400, 999999999.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds(header, seconds):
    assert retry_after(header) == seconds


def test_retry_after_may_be_a_date():
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60


def test_the_receivers_wish_is_waited_for_and_then_followed(story, play):
    class Busy(FakeClient):
        def send(self, *request, received=None):
            received({"Retry-After": "7"})
            return super().send(*request)

    told = story(Busy(lambda number, _url: 429 if number == 1 else 204))
    waited = []
    told.sender._later = lambda lane, seconds: (waited.append(seconds), told.sender._ready(lane))

    told.sender(play("http://a.example/"))
    told.finish()

    assert waited == [7.0]
    assert told.became == ["delivered"]


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_beyond_the_bound_of_a_lane_the_newest_is_dropped_loudly(receiver, loopback, story, play):
    go = Event()
    receiver.answers.append(go)
    told = story(loopback, Webhooks(max_pending_per_lane=2))

    with capture_logs() as logs:
        for number in range(5):
            told.sender(play(receiver.url(), number))
        told.sender(play(receiver.url(), 9, call_id="c2"))
        receiver.wait_for(1)
        go.set()
        told.finish()

    numbers = [request.json["params"]["control_id"] for request in receiver.requests]
    assert sorted(numbers) == ["0", "1", "9"]
    assert Counter(told.became) == {"delivered": 3, "dropped": 3}
    (line,) = [line for line in logs if line["event"] == "webhook_dropped"]
    assert "webhooks.max_pending_per_lane" in line["why"]
    assert line["log_level"] == "error"


def test_beyond_the_bound_of_all_lanes_the_newest_is_dropped_loudly(story, play):
    client = FakeClient()
    told = story(client, Webhooks(max_pending=3))

    with capture_logs() as logs:
        for number in range(5):
            told.sender(play("http://a.example/", number, call_id=f"c{number}"))
        assert told.sender.backlog == 3
        told.finish()

    assert sorted(number for _, number, _ in client.sent) == ["0", "1", "2"]
    assert Counter(told.became) == {"delivered": 3, "dropped": 2}
    assert ["webhooks.max_pending" in line["why"] for line in logs if line["event"] == "webhook_dropped"] == [True]


def test_an_object_that_is_no_json_is_dropped_and_the_call_goes_on(call, story):
    told = story(FakeClient(), PLACES)

    with capture_logs() as logs:
        told.sender(UserEvent(call(), {("no", "name"): 1}, AT))
        told.finish()

    assert told.outcomes == [("calling.user_event", "dropped")]
    assert [line["event"] for line in logs] == ["webhook_dropped"]


# -- fairness ---------------------------------------------------------------------------------------------------------


def test_a_slow_receiver_holds_up_nobody_else(receiver, other_receiver, loopback, story, play):
    go = Event()
    receiver.always = go
    told = story(loopback, Webhooks(concurrency=4, concurrency_per_host=2))

    for number in range(6):
        told.sender(play(receiver.url(), number, call_id=f"slow{number}"))
    for number in range(6):
        told.sender(play(other_receiver.url(), number, call_id=f"c{number}"))
    other_receiver.wait_for(6)

    assert len(receiver.requests) == 2
    go.set()
    told.finish()
    assert told.became == ["delivered"] * 12


def test_a_lane_with_much_to_say_lets_the_others_speak(story, play):
    client = FakeClient()
    told = story(client, Webhooks(concurrency=1))

    told.sender(play("http://b.example/", 98, call_id="elsewhere"))
    for number in range(50):
        told.sender(play("http://a.example/", number, call_id="talker"))
    told.sender(play("http://a.example/", 99, call_id="quiet"))
    told.finish()

    first = [number for _, number, _ in client.sent[:4]]
    assert {"98", "99"} <= set(first)


def test_a_lane_between_two_attempts_holds_no_worker(story, play):
    told = story(
        FakeClient(lambda _number, url: 500 if "bad" in url else 204),
        Webhooks(concurrency=1, concurrency_per_host=1, total_timeout=LONG * 10),
        pause=lambda _attempt: LONG * 5,
    )
    delivered = Event()
    told.sender._on_outcome = lambda _kind, outcome, _seconds: delivered.set() if outcome == "delivered" else None

    told.sender(play("http://a.example/bad"))
    told.sender(play("http://a.example/good"))

    assert delivered.wait(LONG)
    assert told.sender.backlog == 1


@pytest.mark.parametrize("seed", range(5))
def test_whatever_fails_nothing_is_lost_reordered_or_crowded(story, play, seed):
    """Many calls, few hosts, an unreliable world: every webhook has one outcome, and each lane keeps its order."""
    chance = random.Random(seed)

    def answer(_number, url):
        for _ in range(chance.randrange(3)):
            gevent.sleep(0)
        if chance.random() < 0.1:
            raise FetchError(url, "connect", "refused")
        return chance.choice([204, 204, 204, 500, 410])

    client = FakeClient(answer)
    told = story(
        client,
        Webhooks(concurrency=7, concurrency_per_host=3),
        pause=lambda _attempt: chance.choice([0.0, 0.001]),
    )
    expected = defaultdict(list)
    for number in range(400):
        url = f"http://{chance.choice('abcd')}.example/{chance.randrange(12)}"
        expected[url].append(number)
        told.sender(play(url, number))
        if chance.random() < 0.2:
            gevent.sleep(0)
    told.finish()

    assert len(told.outcomes) == 400
    seen = defaultdict(list)
    for url, number, _ in client.sent:
        if int(number) not in seen[url]:
            seen[url].append(int(number))
    assert seen == expected
    assert client.most.pop("all") <= 7
    assert all(most <= 3 for most in client.most.values())


def test_a_worker_with_nothing_to_do_takes_what_comes_next(story, play):
    told = story(FakeClient())

    for number in range(5):
        told.sender(play("http://a.example/", number))
        told.finish()

    assert told.became == ["delivered"] * 5
    assert len(told.sender._workers) == 1


def test_resting_workers_are_as_many_at_work_as_new_ones(story, play):
    client = FakeClient()
    told = story(client, Webhooks(concurrency=4))

    for _ in range(3):
        client.most.clear()
        for number in range(12):
            told.sender(play("http://a.example/", number, call_id=f"c{number}"))
        told.finish()
        assert client.most["all"] == 4

    assert len(told.sender._workers) == 4


def test_webhooks_are_told_apart_over_processes(story, play):
    outboxes = [MemoryOutbox(), MemoryOutbox()]
    for outbox in outboxes:
        told = story(FakeClient(), outbox=outbox)
        for number in range(3):
            told.sender(play("http://a.example/", number))

    assert len({delivery.id for outbox in outboxes for delivery in outbox.pending()}) == 6


# -- shutdown and recovery --------------------------------------------------------------------------------------------


def test_draining_waits_for_what_is_under_way(receiver, loopback, story, play):
    go = Event()
    receiver.answers.append(go)
    told = story(loopback)
    told.sender(play(receiver.url(), 1))
    told.sender(play(receiver.url(), 2))
    receiver.wait_for(1)

    waiting = gevent.spawn(told.sender.drain, LONG)
    go.set()

    assert waiting.get(timeout=LONG) == 0
    assert len(receiver.requests) == 2


def test_draining_says_what_it_had_to_leave(receiver, loopback, story, play):
    never = Event()
    receiver.always = never
    told = story(loopback)
    for number in range(3):
        told.sender(play(receiver.url(userinfo="user:secret@"), number))
    receiver.wait_for(1)

    with capture_logs() as logs:
        left = told.sender.drain(0.01)

    assert left == 3
    assert [(line["event"], line["left"], line["hosts"]) for line in logs] == [
        ("webhooks_left", 3, {receiver.url("").rstrip("/"): 3})
    ]
    assert len(list(told.outbox.pending())) == 3
    never.set()


def test_an_idle_sender_drains_at_once(story):
    assert story(FakeClient()).sender.drain(LONG) == 0


def test_closing_ends_attempts_and_pauses_and_leaves_the_rest_in_the_outbox(receiver, loopback, story, play):
    never = Event()
    receiver.answers.extend([500, never])
    told = story(loopback, pause=lambda _attempt: LONG * 5, settings=Webhooks(total_timeout=LONG * 10))
    told.sender(play(receiver.url(), 1, call_id="pausing"))
    receiver.wait_for(1)
    told.sender(play(receiver.url(), 2, call_id="sending"))
    receiver.wait_for(2)

    told.sender.close()

    assert (len(told.sender._workers), len(told.sender._timers)) == (0, 0)
    assert len(list(told.outbox.pending())) == 2
    never.set()


def test_what_the_outbox_still_holds_is_sent_after_a_restart(receiver, loopback, story):
    outbox = MemoryOutbox()
    for number in range(3):
        body = b'{"params":{"control_id":"%d"}}' % number
        outbox.put(Delivery(f"evt_{number}", "c1", "calling.call.play", "POST", receiver.url(), "", body, AT))
    told = story(loopback, outbox=outbox)

    assert told.sender.recover() == 3
    told.finish()

    assert [request.headers["webhook-id"] for request in receiver.requests] == ["evt_0", "evt_1", "evt_2"]
    assert {request.headers["webhook-timestamp"] for request in receiver.requests} == {"1767323045"}


# -- what must never happen -------------------------------------------------------------------------------------------


def test_an_observer_of_outcomes_that_raises_stops_nothing(receiver, loopback, story, play):
    def broken(*_):
        raise RuntimeError("metrics are broken")

    told = story(loopback, on_outcome=broken)
    with capture_logs() as logs:
        told.sender(play(receiver.url(), 1))
        told.sender(play(receiver.url(), 2))
        told.finish()

    assert len(receiver.requests) == 2
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["webhook_observer_failed"] * 2


def test_credentials_and_tokens_of_a_url_reach_no_log_line(receiver, loopback, story, play):
    receiver.always = 500
    told = story(loopback, Webhooks(max_pending_per_lane=1))
    url = receiver.url("/hook?token=t0ken", userinfo="user:passw0rd@")

    with capture_logs() as logs:
        told.sender(play(url, 1))
        told.sender(play(url, 2))
        told.finish()

    assert {line["event"] for line in logs} >= {"webhook_dropped", "webhook_given_up"}
    assert "passw0rd" not in str(logs)
    assert "t0ken" not in str(logs)
