"""Calls that REST clients ask for, from the order to their last word (calling-api 3.1, 3.2, 5)."""

from __future__ import annotations

import json

import pytest
import requests

from fsctl.esl.leg import EslLeg
from fsctl.simulator import Caller
from fsctl.simulator.caller import Party
from tests.stories.stage import PROJECT, TOKEN, document, page, wait_for

TALK = {"sections": {"main": [{"play": "silence:1"}, {"hangup": {}}]}}
STAY = {"sections": {"main": [{"sleep": -1}]}}
ALL = ["queued", "initiated", "created", "ringing", "answered", "ending", "ended"]


@pytest.fixture
def house(stage):
    def build(party=None, **settings):
        return stage(rest=True, parties={} if party is None else {"+15550199": party}, **settings)

    return build


def over(story):
    wait_for(lambda: "ended" in story.states, "the call to end")
    return story


def test_a_call_that_is_answered_runs_its_document(house):
    stage = house(Party(after=0.5))

    story = over(
        stage.dialled(
            swml=TALK,
            status_url="@web/hook",
            status_events=ALL,
            custom_variables={"order": "17"},
            caller_id="+15550177",
        )
    )

    assert story.states == ["queued", "initiated", "created", "ringing", "answered", "ending", "ended"]
    assert story.instructions == ["main[0].play play ok", "main[1].hangup hangup ok"]
    wait_for(lambda: len(story.webhooks()) == len(ALL), "the webhooks")
    told = [hook.params for hook in story.webhooks()]
    assert [params["call_state"] for params in told] == ALL
    assert {params["direction"] for params in told} == {"outbound"}
    assert told[-1]["end_reason"] == "hangup"
    assert told[-1]["device"] == {
        "type": "phone",
        "params": {"from_number": "+15550100", "to_number": "+15550199"},
    }
    (channel,) = stage.switch.originated
    assert channel.uuid == story.call.uuid


def test_only_the_end_is_told_where_nothing_else_was_asked_for(house):
    stage = house()

    story = over(stage.dialled(swml=TALK, status_url="@web/hook"))

    wait_for(story.webhooks, "the webhook")
    assert [hook.told for hook in story.webhooks()] == ["calling.call.state ended"]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_its_document_is_fetched_as_for_a_call_that_came_in(house, method):
    asked = []

    def answer(request, _):
        asked.append(request)
        return page(document({"hangup": {}}))

    stage = house(pages={"/swml": answer})

    story = over(stage.dialled(url="@web/swml?shop=1", url_method=method, custom_variables={"order": "17"}))

    (request,) = asked
    if method == "POST":
        body = json.loads(request.body)
        assert body["call"]["direction"] == "outbound"
        assert body["call"]["call_state"] == "answered"
        assert (body["call"]["from"], body["call"]["to"]) == ("+15550100", "+15550199")
        assert (body["vars"], body["envs"], body["params"]) == ({}, {"order": "17"}, {})
    else:
        query = request.event
        assert (query["shop"], query["call_id"], query["direction"]) == ("1", story.call.uuid, "outbound")
        assert (query["from"], query["to"], request.body) == ("+15550100", "+15550199", b"")


def test_the_fallback_of_a_document_that_cannot_be_had(house):
    stage = house(pages={"/other": page(document({"set": {"came": "yes"}}, {"hangup": {}}))})

    story = over(stage.dialled(url="@web/nothing", fallback_url="@web/other"))

    assert story.variables["came"] == "yes"


def test_digits_are_sent_once_it_is_answered(house):
    stage = house()

    story = over(stage.dialled(swml={"sections": {"main": [{"sleep": 3000}]}}, send_digits="1,2"))

    (channel,) = stage.switch.originated
    said = [said.data for said in channel.transcript if said.who == "application"]
    assert any(b"uuid_send_dtmf" in data and b"1w2" in data for data in said)
    assert story.script.outcome == "finished"


@pytest.mark.parametrize(
    ("party", "reason"),
    [
        (Party(cause="USER_BUSY", after=0.2), "busy"),
        (Party(cause="CALL_REJECTED", after=0.2), "decline"),
        (Party(cause="UNALLOCATED_NUMBER"), "not_found"),
        (Party(cause="NO_ANSWER"), "noAnswer"),
    ],
    ids=lambda value: getattr(value, "cause", value),
)
def test_a_call_that_is_not_answered(house, party, reason):
    stage = house(party)

    story = over(stage.dialled(swml=TALK, status_url="@web/hook", timeout=5))

    assert "answered" not in story.states
    wait_for(story.webhooks, "the webhook")
    assert [hook.params["end_reason"] for hook in story.webhooks()] == [reason]
    assert stage.ask("calling.end", story.call.uuid).json()["errors"][0]["code"] == "invalid_state"


def test_a_call_is_cancelled_while_it_rings(house):
    stage = house(Party(after=600))
    story = stage.dialled(swml=TALK, status_url="@web/hook")
    wait_for(lambda: "ringing" in story.states, "the ringing")

    answer = stage.ask("update", id=story.call.uuid, status="canceled").json()

    over(story)
    assert answer["status"] == "canceled"
    wait_for(story.webhooks, "the webhook")
    assert [hook.params["end_reason"] for hook in story.webhooks()] == ["cancel"]
    wait_for(lambda: not stage.switch.live_count, "the channel to go")


def test_a_call_is_cancelled_while_it_waits(house):
    stage = house(config={"dial": {"calls_per_second": 0.1, "routes": [{"number": ".*", "endpoint": "user/{0}"}]}})
    stage.dialled(swml=TALK)
    story = stage.dialled(swml=TALK)

    assert stage.ask("update", id=story.call.uuid, status="canceled").status_code == 200

    assert story.states == ["queued", "ended"]
    assert story.ended.end_reason == "cancel"
    assert stage.ask("update", id=story.call.uuid, status="canceled").json()["errors"][0]["code"] == (
        "cannot_update_completed"
    )


def test_a_call_that_is_cancelled_while_it_is_answered_runs_nothing(house, monkeypatch):
    opened, asked = EslLeg.open, []

    def open_and_cancel(leg, seconds):
        offer = opened(leg, seconds)
        asked.append(stage.ask("update", id=offer.uuid, status="canceled").json())
        return offer

    monkeypatch.setattr(EslLeg, "open", open_and_cancel)
    stage = house(Party(after=0.5), pages={"/swml": page(document({"hangup": {}}))})

    story = over(stage.dialled(url="@web/swml", status_url="@web/hook"))

    assert [answer["status"] for answer in asked] == ["canceled"]
    assert story.states == ["queued", "initiated", "created", "ringing", "ended"]
    wait_for(story.webhooks, "the webhook")
    assert [hook.params["end_reason"] for hook in story.webhooks()] == ["cancel"]
    assert [hook.path for hook in stage.requests] == ["/hook"]


def test_a_party_that_hangs_up_before_the_call_is_handed_over_has_had_one_call(house, monkeypatch):
    opened = EslLeg.open

    def open_too_late(leg, seconds):
        offer = opened(leg, seconds)
        stage.switch.originated[0].hangup()
        wait_for(lambda: not len(stage.server.dialler), "whoever dialled it to hear of its end")
        return offer

    monkeypatch.setattr(EslLeg, "open", open_too_late)
    stage = house(Party(after=0.5))

    story = over(stage.dialled(swml=TALK, status_url="@web/hook", status_events=ALL))

    wait_for(lambda: not stage.server.listener.calls, "its session to end")
    assert story.states == ["queued", "initiated", "created", "ringing", "answered", "ended"]
    assert (story.ended.end_reason, story.ended.end_source) == ("hangup", "outbound")
    assert stage.server.calls.get(story.call.uuid) is None


def test_the_queue_is_bounded(house):
    stage = house(
        config={
            "dial": {
                "calls_per_second": 0.1,
                "max_queued": 1,
                "routes": [{"number": ".*", "endpoint": "sofia/gateway/carrier/{0}"}],
            }
        }
    )
    first = stage.dialled(swml=TALK)
    wait_for(lambda: "initiated" in first.states, "the first to be dialled")
    stage.dialled(swml=TALK)

    answer = stage.ask("dial", **{"from": "1", "to": "2"}, swml=TALK)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "max_queued_calls_exceeded")


@pytest.mark.parametrize(
    ("to", "code"),
    [
        ("abc", "invalid_destination_number"),
        ("2{origination_uuid=x}", "invalid_destination_number"),
        ("sip:a@10.0.0.1", "uri_does_not_resolve_to_address"),
        ("sip:a@localhost", "uri_does_not_resolve_to_address"),
        ("sip:a,b@host.example", "invalid_sip_destination"),
        ("sip:a|error/x@host.example", "invalid_sip_destination"),
        ("sip:a@host.example;transport=smoke", "invalid_sip_destination"),
        ("verto:alice@example", "feature_not_available"),
        ("/public/alice", "feature_not_available"),
    ],
)
def test_a_destination_that_cannot_be(house, to, code):
    stage = house()

    answer = stage.ask("dial", **{"from": "1", "to": to}, swml=TALK)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code)
    assert stage.switch.originated == []


def test_a_number_without_a_route(house):
    stage = house(config={"dial": {"routes": []}})

    assert stage.ask("dial", **{"from": "1", "to": "2"}, swml=TALK).json()["errors"][0]["code"] == "not_routable"


def test_a_route_that_costs_too_much(house):
    dear = {"number": ".*", "endpoint": "sofia/gateway/dear/{0}", "price_per_minute": 2}
    cheap = {"number": ".*", "endpoint": "sofia/gateway/cheap/{0}", "price_per_minute": 0.1}
    stage = house(config={"dial": {"routes": [dear, cheap], "calls_per_second": 100}})

    story = over(stage.dialled(swml=TALK, max_price_per_minute=1))
    refused = stage.ask("dial", **{"from": "1", "to": "2"}, swml=TALK, max_price_per_minute=0.01)

    assert story.script.outcome == "finished"
    assert refused.json()["errors"][0]["code"] == "billing_route_not_found"


def test_a_call_is_completed(house):
    stage = house()
    story = stage.dialled(swml=STAY)
    wait_for(lambda: "answered" in story.states, "the answer")

    assert stage.ask("update", id=story.call.uuid, status="completed").json()["status"] == "completed"

    assert over(story).ended.end_reason == "hangup"


def test_a_call_is_sent_elsewhere(house):
    stage = house(pages={"/next": page(document({"set": {"came": "yes"}}, {"hangup": {}}))})
    story = stage.dialled(swml={"sections": {"main": [{"play": "silence:600"}]}})
    wait_for(lambda: "answered" in story.states, "the answer")
    wait_for(lambda: story.controls("play"), "the sound")

    assert stage.ask("update", id=story.call.uuid, url="@web/next").status_code == 200

    over(story)
    assert story.variables["came"] == "yes"
    assert list(story.controls("play").values()) == [["playing", "finished"]]


def test_a_document_that_cannot_be_had_leaves_the_call_where_it_is(house):
    stage = house()
    story = stage.dialled(swml=STAY)
    wait_for(lambda: "answered" in story.states, "the answer")

    assert stage.ask("update", id=story.call.uuid, url="@web/nothing").status_code == 200

    wait_for(lambda: story.warnings, "the warning")
    assert "goes on" in story.warnings[0].message
    assert story.states[-1] == "answered"
    stage.ask("calling.end", story.call.uuid)
    over(story)


def test_the_party_hangs_up(house):
    stage = house(Party(behaviour=Caller(hangs_up_after=1.0)))

    story = over(stage.dialled(swml=STAY))

    assert story.script.outcome == "hangup"
    assert story.ended.end_source == "outbound"


def test_freeswitch_restarts_while_it_rings(house):
    stage = house(Party(after=600))
    story = stage.dialled(swml=TALK, status_url="@web/hook")
    wait_for(lambda: "ringing" in story.states, "the ringing")

    stage.switch.restart()

    assert over(story).ended.end_reason == "error"
    wait_for(lambda: stage.server.link.connected, "the connection")


def test_the_connection_is_lost_while_it_rings_and_the_call_goes_on(house):
    stage = house(Party(after=20))
    story = stage.dialled(swml=TALK)
    wait_for(lambda: "ringing" in story.states, "the ringing")

    stage.switch.drop_inbound()

    over(story)
    assert story.script.outcome == "finished"


def test_without_a_connection_nothing_is_dialled(stage):
    house = stage(rest=True)
    house.switch.drop_inbound(listening=False)
    wait_for(lambda: not house.server.link.connected, "the connection to go")

    answer = house.ask("dial", **{"from": "1", "to": "2"}, swml=TALK)

    assert answer.status_code == 503
    assert "retry-after" in answer.headers


def test_a_request_that_is_sent_twice_dials_once(house):
    stage = house()
    body = {"command": "dial", "params": {"from": "1", "to": "2", "swml": TALK}}
    answers = [
        requests.post(
            f"{stage.public_url}/api/calling/calls",
            json=body,
            auth=(PROJECT, TOKEN),
            headers={"Idempotency-Key": "once"},
            timeout=10,
        ).json()
        for _ in range(2)
    ]

    assert answers[0]["id"] == answers[1]["id"]
    wait_for(lambda: stage.switch.originated and not len(stage.server.calls), "the call")
    assert len(stage.switch.originated) == 1
