"""Calls that REST dials and steers, on a real FreeSWITCH: HTTP in, SIP and audio out, webhooks back.

fsctl dials phones of ours on loopback and tells FreeSWITCH where to bring the calls, so no dialplan takes part.
"""

from __future__ import annotations

import re
from time import monotonic

import gevent
import numpy as np
import pytest
import requests

from fsctl.call.events import ControlChanged
from tests.live.media import read, wav
from tests.live.phone import loud_seconds, seconds_of, tone, until

pytestmark = pytest.mark.live

PROJECT = "11111111-2222-4333-8444-555555555555"
TOKEN = "a-token-nobody-guesses"
PARTY, SOUND, OTHER, THERE = 1000, 2600, 1700, 600  # Hz: what the party says, and what it is played
STATES = ["queued", "initiated", "created", "ringing", "answered", "ending", "ended"]
STAY = {"sections": {"main": [{"sleep": -1}]}}


class Office:
    """fsctl with its REST API open, and ``phones`` by the number that is dialled to reach them."""

    def __init__(self, house, customer, phones):
        self.house = house
        self.customer = customer
        self.phones = phones
        self.url = f"{house.server.config.http.public_url}/api/calling/calls"

    def ask(self, command, call_id=None, /, *, answers=200, **params):
        """What the answer says."""
        body = {"command": command, "params": params, **({} if call_id is None else {"id": call_id})}
        answer = requests.post(self.url, json=body, auth=(PROJECT, TOKEN), timeout=10)
        assert answer.status_code == answers, answer.text
        return answer.json()

    def dial(self, to="2000", **params):
        """The id of a call whose states are told to ``/rest``."""
        params = {"from": "+15550100", "to": to, **({} if "url" in params else {"swml": STAY}), **params}
        answer = self.ask("dial", status_url=f"{self.customer.url}/rest", status_events=STATES, **params)
        assert (answer["direction"], answer["status"]) == ("outbound-api", "queued")
        return answer["id"]

    def talk(self, to="2000", **params):
        """A call that is up: its id, and the phone, which talks."""
        phone = self.phones[to]
        phone.say(tone(PARTY, 1.0))
        call_id = self.dial(to, **params)
        phone.wait_answer()
        call = until(lambda: self.house.server.calls.get(call_id), 5.0, "the call")
        until(lambda: call.instruction is not None, 5.0, "the document to run")
        return call_id, phone

    def told(self, path="/rest", call_id=None):
        """The ``params`` of the webhooks to ``path``, in the order they came."""
        found = [body["params"] for where, body in self.customer.posted if where == path]
        return [params for params in found if call_id in (None, params["call_id"])]

    def ends(self, call_id=None):
        """What is told of the end, and the states until then."""
        until(lambda: "ended" in self.states(call_id), 15.0, "the end of the call")
        return self.told(call_id=call_id)[-1], self.states(call_id)

    def reaches(self, state, kind, control_id):
        def states():
            return [event.state for event in self.house.of(ControlChanged, kind=kind, control_id=control_id)]

        until(lambda: states()[-1:] == [state], 15.0, f"{control_id} to be {state}")

    def states(self, call_id=None):
        return [params["call_state"] for params in self.told(call_id=call_id)]


@pytest.fixture
def office(open_house, customer, dial, new_phone, directory):
    """Opens an office; the phones are 2000, 2001 …, each with its options."""

    def opened(*options, **settings):
        phones = {str(2000 + number): new_phone(**each) for number, each in enumerate(options or ({},))}
        routes = [
            {"number": number, "endpoint": f"{dial[0]}/{{0}}@127.0.0.1:{phone.port}"}
            for number, phone in phones.items()
        ]
        house = open_house(
            listen="127.0.0.1:0",
            project={"project_id": PROJECT},
            api={"tokens": [{"name": "tests", "token": TOKEN, "scopes": ["read", "control", "dial"]}]},
            dial={
                "routes": routes,
                "calls_per_second": 100,
                "sip_profile": dial[0].removeprefix("sofia/"),
                "sip_hosts": ["127.0.0.1"],
            },
            logs={"database": str(directory / "calls.db")},
            **settings,
        )
        until(lambda: house.server.link.connected, 5.0, "fsctl to connect to FreeSWITCH")
        return Office(house, customer, phones)

    return opened


# -- from the order to the answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", ["180 Ringing", "183 Session Progress"])
def test_a_call_that_is_answered(office, progress):
    office = office({"rings": 0.5, "progress": progress})
    swml = {"sections": {"main": [{"play": "silence:0.3"}, {"hangup": {}}]}}

    call_id = office.dial(swml=swml, caller_id="+15550177", codecs=["PCMA", "PCMU"])

    phone = office.phones["2000"].wait_answer().wait_hung_up()
    assert phone.answered_at - phone.invited_at >= 0.5
    assert re.search(r"^From: .*<sip:\+15550177@", phone.invite, re.MULTILINE)
    assert re.search(r"^m=audio \d+ RTP/AVP 8 0\b", phone.invite, re.MULTILINE)
    ended, states = office.ends()
    assert states == STATES
    assert (ended["end_reason"], ended["direction"], ended["call_id"]) == ("hangup", "outbound", call_id)
    assert ended["device"] == {"type": "phone", "params": {"from_number": "+15550100", "to_number": "2000"}}
    assert ended["answer_time"] - ended["start_time"] >= 500
    assert ended["end_time"] - ended["answer_time"] == pytest.approx(300, abs=300)


def test_its_document_is_fetched_when_it_is_answered(office, customer):
    office = office({"rings": None})
    customer.files["/swml"] = b"sections: {main: [{play: 'ring:0.4:us'}, {hangup: {}}]}"
    office.dial(url=f"{customer.url}/swml", custom_variables={"order": "17"})
    until(lambda: "ringing" in office.states(), 5.0, "the ringing")
    assert customer.asked("/swml") == []

    office.phones["2000"].pick_up()

    phone = office.phones["2000"].wait_hung_up()
    ((_, _, body),) = customer.asked("/swml")
    assert b'"order":"17"' in body
    assert b'"call_state":"answered"' in body
    assert seconds_of(phone.heard(), 440, least=1000) == pytest.approx(0.4, abs=0.1)


def test_a_sip_uri(office):
    office = office()
    uri = f"sip:bob@127.0.0.1:{office.phones['2000'].port};transport=udp"

    call_id = office.dial(uri)

    phone = office.phones["2000"].wait_answer()
    assert phone.invite.startswith(f"INVITE sip:bob@127.0.0.1:{phone.port};transport=udp SIP/2.0")
    until(lambda: "answered" in office.states(), 5.0, "the answer")
    phone.hang_up()
    ended, states = office.ends(call_id)
    assert states == [state for state in STATES if state not in ("ringing", "ending")]
    assert (ended["end_reason"], ended["end_source"], ended["device"]["type"]) == ("hangup", "outbound", "sip")


def test_digits_are_sent_once_it_is_answered(office):
    office = office()

    call_id, phone = office.talk(send_digits="1,2w#")

    until(lambda: phone.keys == "12#", 10.0, f"the keys; there are {phone.keys!r}")
    office.ask("calling.end", call_id)
    phone.wait_hung_up()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"refuses": "486 Busy Here"}, "busy"),
        ({"refuses": "603 Decline"}, "decline"),
        ({"refuses": "404 Not Found"}, "not_found"),
        ({"refuses": "480 Temporarily Unavailable"}, "noAnswer"),
        ({"refuses": "503 Service Unavailable"}, "error"),
        ({"rings": None}, "noAnswer"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values())) or "nobody",
)
def test_a_call_that_is_not_answered(office, options, reason):
    office = office(options)

    call_id = office.dial(timeout=2)

    ended, states = office.ends()
    assert ended["end_reason"] == reason
    assert states == [
        state for state in STATES if state not in ("answered", "ending") and (state != "ringing" or "rings" in options)
    ]
    assert office.phones["2000"].cancelled == ("rings" in options)
    refused = office.ask("update", answers=422, id=call_id, url=office.customer.url)
    assert refused["errors"][0]["code"] == "cannot_update_completed"


@pytest.mark.parametrize(
    ("command", "params", "told"),
    [
        ("update", {"status": "canceled"}, "cancel"),
        ("calling.end", {}, "hangup"),
        ("calling.end", {"reason": "noAnswer"}, "noAnswer"),
    ],
    ids=["cancel", "end", "end with a reason"],
)
def test_a_call_is_given_up_while_it_rings(office, command, params, told):
    office = office({"rings": None})
    call_id = office.dial()
    until(lambda: "ringing" in office.states(), 5.0, "the ringing")

    if command == "update":
        assert office.ask("update", id=call_id, **params)["status"] == "canceled"
    else:
        office.ask(command, call_id, **params)

    until(lambda: office.phones["2000"].cancelled, 5.0, "the CANCEL")
    ended, states = office.ends()
    assert ended["end_reason"] == told
    assert states == ["queued", "initiated", "created", "ringing", "ended"]


def test_a_cancel_that_crosses_the_answer(office):
    """Whoever is first: what the answer to the request says is what happens, and the phone hears of it."""
    office = office(*({"rings": 0.05} for _ in range(20)))
    canceled = {}

    def cancel(call_id, phone, seconds):
        until(lambda: phone.answered_at, 5.0, "the answer")
        gevent.sleep(seconds)
        body = {"command": "update", "params": {"id": call_id, "status": "canceled"}}
        answer = requests.post(office.url, json=body, auth=(PROJECT, TOKEN), timeout=10)
        canceled[call_id] = answer.status_code == 200
        if not canceled[call_id]:
            assert answer.json()["errors"][0]["code"] == "cannot_cancel_in_progress"
            office.ask("update", id=call_id, status="completed")

    waiting = [
        gevent.spawn(cancel, office.dial(number), phone, index * 0.0005)
        for index, (number, phone) in enumerate(office.phones.items())
    ]
    gevent.joinall(waiting, raise_error=True)

    for call_id, was_canceled in canceled.items():
        ended, states = office.ends(call_id)
        assert ended["end_reason"] == ("cancel" if was_canceled else "hangup")
        assert ("answered" in states) is not was_canceled
    for phone in office.phones.values():
        until(lambda phone=phone: phone.cancelled or phone.hung_up, 5.0, "the phone's end")


def test_a_party_that_hangs_up_at_once(office):
    """While the call is on its way to fsctl: it is one call all the same, it was answered, and the party ended it."""
    office = office(*({"rings": 0.05} for _ in range(20)))

    def leave(phone, seconds):
        until(lambda: phone.answered_at, 5.0, "the answer")
        gevent.sleep(seconds)
        phone.hang_up()

    call_ids = []
    for index, (number, phone) in enumerate(office.phones.items()):
        call_ids.append(office.dial(number))
        gevent.spawn(leave, phone, index * 0.0005)

    for call_id in call_ids:
        ended, states = office.ends(call_id)
        assert (ended["end_reason"], ended["end_source"]) == ("hangup", "outbound")
        assert states == ["queued", "initiated", "created", "ringing", "answered", "ended"]


def test_what_rings_when_fsctl_stops_is_given_up(office):
    office = office({"rings": None})
    office.dial()
    until(lambda: "ringing" in office.states(), 5.0, "the ringing")

    office.house.server.stop()

    until(lambda: office.phones["2000"].cancelled, 5.0, "the CANCEL")
    assert office.ends()[0]["end_reason"] == "cancel"


# -- steered while it is up ----------------------------------------------------------------------------------------


def test_it_is_played_to_and_paused(office, customer):
    office = office()
    customer.files["/sound.wav"] = wav(np.concatenate([tone(SOUND, 1.0), tone(OTHER, 1.0)]))
    call_id, phone = office.talk()
    item = {"type": "audio", "url": f"{customer.url}/sound.wav"}
    answer = office.ask("calling.play", call_id, play=[item], status_url=f"{customer.url}/play")
    control_id = answer["control_id"]
    until(lambda: seconds_of(phone.heard(), SOUND) > 0.4, 5.0, "the sound")

    office.ask("calling.play.pause", call_id, control_id=control_id)
    office.reaches("paused", "play", control_id)
    since = monotonic() + 0.2
    until(lambda: monotonic() > since + 0.8, 5.0, "some silence")
    assert loud_seconds(phone.heard(since)) == 0
    office.ask("calling.play.resume", call_id, control_id=control_id)
    office.reaches("finished", "play", control_id)

    until(lambda: seconds_of(phone.heard(), OTHER) >= 0.9, 5.0, "the end of the sound")
    assert seconds_of(phone.heard(), SOUND) == pytest.approx(1.0, abs=0.1)
    until(lambda: len(office.told("/play")) == 4, 5.0, "the webhooks")
    assert [params["state"] for params in office.told("/play")] == ["playing", "paused", "playing", "finished"]
    assert office.ask("update", id=call_id, status="completed")["status"] == "completed"
    phone.wait_hung_up()
    assert office.ends()[1] == [state for state in STATES if state != "ringing"]


def test_what_the_party_says_is_recorded(office, customer):
    office = office()
    call_id, phone = office.talk()
    audio = {"format": "wav", "initial_timeout": 0, "end_silence_timeout": 0}
    answer = office.ask("calling.record", call_id, record={"audio": audio}, status_url=f"{customer.url}/record")
    control_id = answer["control_id"]
    since = monotonic()
    until(lambda: monotonic() > since + 1.0, 5.0, "a second")
    office.ask("calling.record.pause", call_id, control_id=control_id)
    until(lambda: monotonic() > since + 2.0, 5.0, "another second")
    office.ask("calling.record.resume", call_id, control_id=control_id)
    until(lambda: monotonic() > since + 3.0, 5.0, "a third")

    office.ask("calling.record.stop", call_id, control_id=control_id)

    until(lambda: len(office.told("/record")) == 4, 5.0, "the webhooks")
    told = office.told("/record")
    assert [params["state"] for params in told] == ["recording", "paused", "recording", "finished"]
    fetched = requests.get(told[-1]["url"], timeout=10).content
    assert len(fetched) == told[-1]["size"]
    channels, rate = read(office.house.recording(told[-1]["url"]))
    assert seconds_of(channels[0], PARTY, rate) == pytest.approx(2.0, abs=0.3)
    office.ask("calling.end", call_id)
    phone.wait_hung_up()


def test_keys_of_the_party_are_collected(office, customer):
    office = office()
    call_id, phone = office.talk()
    digits = {"max": 4, "terminators": "#"}
    office.ask("calling.collect", call_id, control_id="c", digits=digits, status_url=f"{customer.url}/collect")

    phone.press("42#")

    until(lambda: office.told("/collect"), 5.0, "the result")
    (told,) = office.told("/collect")
    assert (told["control_id"], told["result"]["type"]) == ("c", "digit")
    assert told["result"]["params"] == {"digits": "42", "terminator": "#"}
    office.ask("calling.end", call_id, reason="busy")
    phone.wait_hung_up()
    ended, states = office.ends()
    assert (ended["end_reason"], states[-2:]) == ("busy", ["ending", "ended"])


@pytest.mark.parametrize("how", ["update", "calling.transfer"])
def test_it_is_sent_elsewhere(office, customer, how):
    office = office()
    customer.files["/sound.wav"] = wav(tone(THERE, 1.0))
    there = {"sections": {"main": [{"play": f"{customer.url}/sound.wav"}, {"hangup": {}}]}}
    call_id, phone = office.talk(swml={"sections": {"main": [{"play": "ring:60:us"}]}})
    until(lambda: seconds_of(phone.heard(), 440, least=1000) > 0.3, 5.0, "the first document")

    if how == "update":
        assert office.ask("update", id=call_id, swml=there)["status"] == "answered"
    else:
        office.ask("calling.transfer", call_id, dest=there)

    phone.wait_hung_up()
    heard = phone.heard()
    assert seconds_of(heard, THERE) == pytest.approx(1.0, abs=0.1)
    assert seconds_of(heard[-4000:], 440, least=1000) == 0
    assert office.ends()[0]["end_reason"] == "hangup"


def test_two_calls_do_not_mix(office, customer):
    office = office({}, {"rings": 0.3})
    calls = {}
    for number, hertz in (("2000", SOUND), ("2001", OTHER)):
        customer.files[f"/{number}.wav"] = wav(tone(hertz, 0.8))
        script = [{"play": f"{customer.url}/{number}.wav"}, {"hangup": {}}]
        calls[number] = office.dial(number, swml={"sections": {"main": script}}), hertz
    for number, (call_id, hertz) in calls.items():
        heard = office.phones[number].wait_answer().wait_hung_up().heard()
        assert seconds_of(heard, hertz) == pytest.approx(0.8, abs=0.1)
        assert loud_seconds(heard) == pytest.approx(0.8, abs=0.1)
        assert office.ends(call_id)[0]["device"]["params"]["to_number"] == number


def test_the_call_is_read_up_afterwards(office):
    office = office({"rings": 0.2})
    call_id = office.dial(swml={"sections": {"main": [{"play": "silence:0.2"}, {"hangup": {}}]}})
    office.ends()
    logs = office.url.replace("/calling/calls", "/voice/logs")

    log = requests.get(f"{logs}/{call_id}", auth=(PROJECT, TOKEN), timeout=10).json()
    events = requests.get(f"{logs}/{call_id}/events", auth=(PROJECT, TOKEN), timeout=10).json()["data"]

    assert (log["direction"], log["type"], log["status"]) == ("outbound-api", "relay_pstn_call", "completed")
    names = [event["name"].removeprefix("calling_call_") for event in events if event["level"] == "info"]
    assert [name for name in names if name in STATES] == STATES
