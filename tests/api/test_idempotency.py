"""A request that is sent again with its Idempotency-Key: answered again, not done again."""

from __future__ import annotations

import base64
from typing import Final

import gevent
import pytest
from falcon import testing
from gevent.event import Event
from prometheus_client import CollectorRegistry

from fsctl.api.access import Access
from fsctl.api.app import make_app
from fsctl.api.idempotency import LONGEST_REQUEST, Idempotency
from fsctl.config.kinds import Token
from fsctl.config.sections import Api
from fsctl.errors import ApiError
from fsctl.metrics import Metrics

PROJECT = "aaaaaaaa-2222-4333-8444-555555555555"
SECRETS = {"crm": "a-token-of-the-crm-0001", "board": "a-token-of-the-board-01"}
SECONDS = 100.0
LONG = 20.0


class Probe:
    """Does what it is told, and counts how often."""

    scopes: Final = {"POST": "control", "PUT": "control"}
    idempotent = True

    def __init__(self):
        self.done = 0
        self.act = lambda _req, resp: setattr(resp, "media", {"number": self.done})

    def on_post(self, req, resp):
        self.done += 1
        self.act(req, resp)

    on_put = on_post


class Forgetful(Probe):
    idempotent = False


class Service:
    def __init__(self, directory, entries=100):
        self.now = 1000.0
        self.probe, self.other, self.forgetful = Probe(), Probe(), Forgetful()
        tokens = tuple(Token(name, ("control",), secret) for name, secret in SECRETS.items())
        app = make_app(
            metrics=Metrics(CollectorRegistry(), live=dict),
            health=dict,
            recordings=directory,
            resources={
                "/api/probe": self.probe,
                "/api/other": self.other,
                "/api/forgetful": self.forgetful,
                "/api/laml/probe": self.probe,
            },
            middleware=[
                Access(PROJECT, Api(tokens=tokens)),
                Idempotency(seconds=SECONDS, entries=entries, clock=lambda: self.now),
            ],
        )
        self.client = testing.TestClient(app)

    def post(self, key="k1", path="/api/probe", body='{"a": 1}', token="crm", method="POST"):
        credentials = base64.b64encode(f"{PROJECT}:{SECRETS[token]}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        return self.client.simulate_request(method, path, headers=headers, body=body)


@pytest.fixture
def build(tmp_path):
    return lambda **options: Service(tmp_path, **options)


def replayed(answer):
    return answer.headers.get("idempotent-replayed") == "true"


def fail(error):
    def act(_req, _resp):
        raise error

    return act


def test_the_same_request_is_answered_as_the_first_time_and_done_once(build):
    service = build()

    first, again, once_more = service.post(), service.post(), service.post()

    assert service.probe.done == 1
    assert [replayed(answer) for answer in (first, again, once_more)] == [False, True, True]
    for answer in (again, once_more):
        assert (answer.status_code, answer.content) == (first.status_code, first.content)
        assert answer.headers["content-type"] == first.headers["content-type"]
        assert answer.headers["x-request-id"] != first.headers["x-request-id"]


def answer_with(**fields):
    def act(_req, resp):
        for name, value in fields.items():
            setattr(resp, name, value)

    return act


@pytest.mark.parametrize(
    ("act", "status"),
    [
        pytest.param(answer_with(media={"a": "ü"}), 200, id="media"),
        pytest.param(answer_with(data=b"bytes", content_type="audio/wav"), 200, id="bytes of another type"),
        pytest.param(answer_with(text="text", content_type="text/plain"), 200, id="text"),
        pytest.param(answer_with(status=204), 204, id="nothing"),
        pytest.param(answer_with(status="201 Created", media={}), 201, id="another status"),
        pytest.param(fail(ApiError(422, "not_e164", "to is no number", attribute="to")), 422, id="refused"),
        pytest.param(fail(ApiError(404, "not_found", "no such call")), 404, id="no such call"),
        pytest.param(fail(ApiError(409, "invalid_state", "one runs already")), 409, id="a conflict of its own"),
    ],
)
def test_successes_and_refusals_are_kept(build, act, status):
    service = build()
    service.probe.act = act

    first = service.post()
    service.probe.act = fail(RuntimeError("not again"))
    again = service.post()

    assert first.status_code == again.status_code == status
    assert first.content == again.content
    assert first.headers.get("content-type") == again.headers.get("content-type")
    assert (replayed(first), replayed(again)) == (False, True)
    assert service.probe.done == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(ApiError(429, "rate_limit_exceeded", "later"), 429, id="too many"),
        pytest.param(ApiError(503, "not_connected", "later"), 503, id="not now"),
        pytest.param(RuntimeError("broken"), 500, id="broken"),
        pytest.param(TypeError("cannot be written"), 500, id="an answer that cannot be written"),
    ],
)
def test_what_failed_here_is_tried_again(build, error, status):
    service = build()
    service.probe.act = fail(error)
    if isinstance(error, TypeError):
        service.probe.act = answer_with(media={"a": object()})

    assert service.post().status_code == status
    service.probe.act = answer_with(media={"done": True})
    again = service.post()

    assert (again.json, replayed(again), service.probe.done) == ({"done": True}, False, 2)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"key": "k2"}, id="another key"),
        pytest.param({"key": "K1"}, id="a key in capitals"),
        pytest.param({"token": "board"}, id="another token"),
        pytest.param({"path": "/api/other"}, id="another path"),
    ],
)
def test_another_request_is_another_request(build, changed):
    service = build()
    service.post()

    assert not replayed(service.post(**changed))
    assert service.probe.done + service.other.done == 2


@pytest.mark.parametrize(
    ("options", "times"),
    [
        pytest.param({"key": None}, 2, id="no key"),
        pytest.param({"path": "/api/forgetful"}, 2, id="a resource that does not take it"),
        pytest.param({"method": "PUT"}, 2, id="another method"),
    ],
)
def test_other_requests_are_done_each_time(build, options, times):
    service = build()

    answers = [service.post(**options) for _ in range(times)]

    assert [answer.status_code for answer in answers] == [200] * times
    assert not any(map(replayed, answers))
    assert service.probe.done + service.forgetful.done == times


def test_a_key_used_for_another_body_is_refused_and_changes_nothing(build):
    service = build()
    first = service.post()

    answer = service.post(body='{"a": 2}')

    (item,) = answer.json["errors"]
    assert answer.status_code == 422
    assert (item["type"], item["code"]) == ("validation_error", "value_not_unique")
    assert item["attribute"] == "Idempotency-Key"
    assert "another body" in item["message"]
    assert service.post().content == first.content
    assert service.probe.done == 1


@pytest.mark.parametrize(
    ("key", "fine"),
    [
        pytest.param("a", True, id="one character"),
        pytest.param("x" * 255, True, id="as long as may be"),
        pytest.param('"8e03978e-40d5 ~!"', True, id="punctuation and blanks"),
        pytest.param("", False, id="empty"),
        pytest.param("x" * 256, False, id="too long"),
        pytest.param("clé", False, id="no ASCII"),
        pytest.param("a\tb", False, id="a tab"),
        pytest.param("a\x00b", False, id="a control character"),
    ],
)
def test_a_key_is_printable_text_of_bounded_length(build, key, fine):
    service = build()

    answer = service.post(key=key)

    assert answer.status_code == (200 if fine else 422)
    assert service.probe.done == fine
    if not fine:
        (item,) = answer.json["errors"]
        assert (item["code"], item["attribute"]) == ("invalid_parameter", "Idempotency-Key")


def test_while_the_first_is_running_the_same_request_is_told_to_wait(build):
    service, inside, go = build(), Event(), Event()

    def slow(_req, resp):
        inside.set()
        assert go.wait(LONG)
        resp.media = {"done": True}

    service.probe.act = slow
    first = gevent.spawn(service.post)
    assert inside.wait(LONG)

    early = service.post()
    other = service.post(body="{}")
    go.set()

    (item,) = early.json["errors"]
    assert (early.status_code, early.headers["retry-after"]) == (409, "1")
    assert (item["type"], item["code"], item["attribute"]) == ("conflict_error", "invalid_state", "Idempotency-Key")
    assert other.status_code == 422
    assert first.get(timeout=LONG).json == {"done": True}
    assert replayed(service.post())
    assert service.probe.done == 1


def test_a_request_torn_away_gives_its_key_back_in_the_end(build):
    """Its greenlet was killed: nothing told how it ended."""
    service = build()
    service.probe.act = fail(gevent.GreenletExit())
    with pytest.raises(gevent.GreenletExit):
        service.post()
    service.probe.act = answer_with(media={"done": True})

    assert service.post().status_code == 409
    service.now += LONGEST_REQUEST
    assert service.post().json == {"done": True}


def test_an_answer_that_comes_after_its_key_was_given_away_takes_nothing_back(build):
    service, inside, go = build(), Event(), Event()

    def slow(_req, resp):
        inside.set()
        assert go.wait(LONG)
        resp.media = {"late": True}

    service.probe.act = slow
    late = gevent.spawn(service.post)
    assert inside.wait(LONG)
    service.now += LONGEST_REQUEST
    service.probe.act = answer_with(media={"late": False})
    service.post()
    go.set()

    assert late.get(timeout=LONG).json == {"late": True}
    assert service.post().json == {"late": False}


def test_an_answer_is_kept_for_its_time(build):
    service = build()
    service.post()

    service.now += SECONDS - 1
    assert replayed(service.post())
    service.now += 1
    assert not replayed(service.post())
    assert service.probe.done == 2


def test_the_answer_longest_unasked_for_makes_room(build):
    service = build(entries=3)
    for key in ("a", "b", "c"):
        service.post(key)
    service.post("a")
    service.post("d")

    assert replayed(service.post("a"))
    assert not replayed(service.post("b"))


def test_what_runs_makes_no_room_but_what_was_torn_away_does(build):
    service, inside, go = build(entries=1), Event(), Event()

    def slow(_req, resp):
        inside.set()
        assert go.wait(LONG)
        resp.media = {}

    service.probe.act = slow
    first = gevent.spawn(service.post, "running")
    assert inside.wait(LONG)
    service.probe.act = answer_with(media={})
    service.post("a")
    service.post("b")
    assert service.post("running").status_code == 409
    go.set()
    first.get(timeout=LONG)
    assert replayed(service.post("running"))

    service.probe.act = fail(gevent.GreenletExit())
    with pytest.raises(gevent.GreenletExit):
        service.post("torn")
    service.now += LONGEST_REQUEST
    service.probe.act = answer_with(media={})
    service.post("c")
    assert replayed(service.post("c"))


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [("k1", '{"a": 2}', 422), ("", "{}", 422)],
    ids=["used", "no key"],
)
def test_the_compatibility_api_refuses_in_its_shape(build, key, body, status):
    service = build()
    service.post(path="/api/laml/probe")

    answer = service.post(key, path="/api/laml/probe", body=body)

    assert answer.status_code == status
    assert (answer.json["code"], answer.json["status"]) == (10000, status)
    assert "Idempotency-Key" in answer.json["message"]
