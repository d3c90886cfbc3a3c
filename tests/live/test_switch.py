"""The connection to FreeSWITCH itself, and what the simulated one says that a real one would: freeswitch 1.14, 4.10."""

import hashlib
import os
import re
import uuid as uuids
from contextlib import ExitStack

import gevent
import pytest
from gevent import socket
from gevent.queue import Queue
from gevent.server import StreamServer

from fsctl.clock import Clock
from fsctl.errors import CommandFailed, SwitchDown
from fsctl.esl.leg import EslLeg
from fsctl.esl.switch import SwitchLink
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api
from fsctl.freeswitch.facts import channel_of
from fsctl.tally import Traffic
from tests.live.phone import until
from tests.live.switch import address

pytestmark = pytest.mark.live

HOSTILE = {
    "fsctl_quotes": "it's \"x\" and 'y'",
    "fsctl_escapes": "C:\\new\\table\\",
    "fsctl_lists": "a,b=c|d;e^^f",
    "fsctl_braces": "{x{y}} [z] <w>",
    "fsctl_dial_strings": "a:_:b,user/1 &park()",
    "fsctl_dollars": "$5 and $",
    "fsctl_blanks": "  two  ",
    "fsctl_check": "origination_nested_vars=true",
    "fsctl_names": "Zoë 日本",
}

CHALLENGE = 'Digest realm="carrier", nonce="n-1", algorithm=MD5'


def md5(*parts):
    return hashlib.md5(":".join(parts).encode()).hexdigest()


class Callee:
    """Somebody who answers an INVITE with nothing but this: a 180, or a refusal; asks for a password with ``asks``.

    ``credentials`` is what it was told then.
    """

    def __init__(self, status, *, asks=False):
        self._status = status
        self._asks = asks
        self.credentials = ""
        self._sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sip.bind(("127.0.0.1", 0))
        self.port = self._sip.getsockname()[1]
        self.cancelled = False
        self._greenlet = gevent.spawn(self._listen)

    def _listen(self):
        invite = []
        while True:
            data, peer = self._sip.recvfrom(65536)
            lines = data.decode().split("\r\n")
            if lines[0].startswith("INVITE"):
                invite = lines
                self.credentials = next((line for line in lines if line.startswith("Proxy-Authorization")), "")
                if self._asks and not self.credentials:
                    self._answer(f"407 Authenticate\r\nProxy-Authenticate: {CHALLENGE}", lines, peer)
                else:
                    self._answer(self._status, lines, peer)
            elif lines[0].startswith("CANCEL"):
                self.cancelled = True
                self._answer("200 OK", lines, peer)
                self._answer("487 Request Terminated", invite, peer)

    def _answer(self, status, lines, peer):
        copied = [line for line in lines if re.match(r"Via|From|To|Call-ID|CSeq", line)]
        copied = [f"{line};tag=x" if line.startswith("To") and "tag=" not in line else line for line in copied]
        text = "\r\n".join([f"SIP/2.0 {status}", *copied, "Content-Length: 0", "", ""])
        self._sip.sendto(text.encode(), peer)

    def close(self):
        self._greenlet.kill()
        self._sip.close()


@pytest.fixture
def profile(dial):
    """The name of FreeSWITCH's SIP profile."""
    return dial[0].removeprefix("sofia/")


@pytest.fixture
def link(switch):
    """A link that is up; ``link.sent`` are the events it was sent, and nothing of them may be another's."""
    where = address(os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021"))
    up = Queue()
    made = SwitchLink(where, os.environ.get("FSCTL_LIVE_PASSWORD", "ClueCon"), on_up=up.put)
    made.sent = []
    event, made._event = made._event, lambda data, *place: (made.sent.append(data[slice(*place)]), event(data, *place))
    made.start()
    assert up.get(timeout=5) is False
    yield made
    made.stop()


@pytest.fixture
def uuid(switch):
    chosen = str(uuids.uuid4())
    yield chosen
    switch.api(f"uuid_kill {chosen}")


@pytest.fixture
def arrivals():
    """Calls that are handed to us: where they are to come, and a queue of their legs."""
    legs = Queue()

    def take(sock, _):
        over = gevent.event.Event()
        leg = EslLeg(
            sock,
            clock=Clock(),
            timeout=5.0,
            linger=2,
            on_gone=lambda _: over.set(),
            variables={},
            traffic=Traffic(),
        )
        leg.offer = leg.open(5.0)
        legs.put(leg)
        over.wait(20)
        leg.wait_ended(2.0)
        leg.close()

    server = StreamServer(("127.0.0.1", 0), take)
    server.start()
    yield ("127.0.0.1", server.server_port), legs
    server.stop(timeout=2)


@pytest.fixture
def callee():
    with ExitStack() as stack:

        def made(status, **settings):
            found = Callee(status, **settings)
            stack.callback(found.close)
            return found

        yield made


def test_it_is_let_in_and_answered(link):
    assert link.connected
    assert "FreeSWITCH Version" in link.ask(Api("version"))
    assert link.job(Api("msleep", "10"), 5.0) == "+OK"
    assert link.job(Api("global_getvar", "no_such_thing"), 5.0) == ""
    with pytest.raises(CommandFailed, match="Command not found"):
        link.ask(Api("no_such_api"))


def test_a_wrong_password():
    where = address(os.environ.get("FSCTL_LIVE_ESL", "127.0.0.1:8021"))
    link = SwitchLink(where, "certainly wrong")
    link.start()
    until(lambda: "does not take the event socket's password" in link.problem, 5.0, "the refusal")
    with pytest.raises(SwitchDown):
        link.ask(Api("status"))
    link.stop()


def test_a_call_is_dialled_and_handed_over(link, uuid, profile, new_phone, arrivals):
    phone = new_phone()
    heard = Queue()
    link.watch(uuid, heard.put)
    variables = {
        "ignore_early_media": "true",
        "origination_caller_id_number": "+15550100",
        "origination_caller_id_name": "Bob O'Neil, x",
        **HOSTILE,
    }
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=phone.port, transport="udp")
    target, legs = arrivals
    assert link.job(commands.originate(uuid, endpoint, variables, target, 20), 20.0) == f"+OK {uuid}\n"
    leg = legs.get(timeout=5)
    offer = leg.offer
    assert (offer.uuid, offer.direction, offer.answer_state) == (uuid, "outbound", "answered")
    assert (offer.caller_number, offer.destination_number) == ("+15550100", "phone")
    assert {name: leg.ask(commands.variable(uuid, name)) for name in HOSTILE} == HOSTILE
    assert leg.ask(commands.variable(uuid, "origination_caller_id_name")) == "Bob O'Neil, x"
    assert link.ask(commands.exists(uuid)) == "true"
    link.tell(commands.hang_up(uuid, "NORMAL_CLEARING"))
    phone.wait_hung_up()
    kinds = [type(heard.get(timeout=5)) for _ in range(4)]
    assert kinds == [facts.Created, facts.Answered, facts.HungUp, facts.Ended]
    assert link.ask(commands.exists(uuid)) == "false"


@pytest.mark.parametrize(
    ("status", "cause"),
    [("486 Busy Here", "USER_BUSY"), ("603 Decline", "CALL_REJECTED"), ("404 Not Found", "UNALLOCATED_NUMBER")],
)
def test_a_call_that_is_refused(link, uuid, profile, callee, status, cause):
    heard = Queue()
    link.watch(uuid, heard.put)
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=callee(status).port)
    with pytest.raises(CommandFailed) as failed:
        link.job(commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    assert failed.value.reply == f"-ERR {cause}"
    assert [heard.get(timeout=5) for _ in range(2)] == [facts.Created(), facts.HungUp(cause)]
    ended = heard.get(timeout=5)
    assert (ended.cause, ended.disposition, ended.answered) == (cause, "recv_refuse", False)


def test_a_password_for_one_leg(link, uuid, profile, callee):
    there = callee("486 Busy Here", asks=True)
    password = "p'a,s=s \\{w}$"
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=there.port)
    variables = commands.credentials("bob", password)
    with pytest.raises(CommandFailed, match="-ERR USER_BUSY"):
        link.job(commands.originate(uuid, endpoint, variables, ("127.0.0.1", 1), 20), 20.0)
    told = dict(re.findall(r'(\w+)="([^"]*)"', there.credentials))
    expected = md5(md5("bob", "carrier", password), "n-1", md5("INVITE", told["uri"]))
    assert (told["username"], told["response"]) == ("bob", expected)


def test_a_call_that_nobody_answers(link, uuid, profile, callee):
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=callee("180 Ringing").port)
    with pytest.raises(CommandFailed, match="-ERR NO_ANSWER"):
        link.job(commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 1), 20.0)


def test_a_call_that_is_taken_back(link, uuid, profile, callee):
    there = callee("180 Ringing")
    heard = Queue()
    link.watch(uuid, heard.put)
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=there.port)
    job = gevent.spawn(link.job, commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    assert [heard.get(timeout=5) for _ in range(2)] == [facts.Created(), facts.Ringing(early_media=False)]
    link.tell(commands.hang_up(uuid, "ORIGINATOR_CANCEL"))
    with pytest.raises(CommandFailed, match="-ERR ORIGINATOR_CANCEL"):
        job.get(timeout=5)
    assert heard.get(timeout=5) == facts.HungUp("ORIGINATOR_CANCEL")
    assert heard.get(timeout=5).disposition == "send_cancel"
    assert there.cancelled


def test_a_uuid_is_given_once(link, uuid, profile, callee):
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=callee("180 Ringing").port)
    heard = Queue()
    link.watch(uuid, heard.put)
    first = gevent.spawn(link.job, commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    heard.get(timeout=5)
    with pytest.raises(CommandFailed, match="-ERR DESTINATION_OUT_OF_ORDER"):
        link.job(commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    link.tell(commands.hang_up(uuid, "ORIGINATOR_CANCEL"))
    with pytest.raises(CommandFailed):
        first.get(timeout=5)


def test_nothing_of_others_is_sent(link, switch, uuid, profile, callee):
    other = str(uuids.uuid4())
    endpoint = commands.sip(profile, "phone", "127.0.0.1", port=callee("486 Busy Here").port)
    heard = Queue()
    unwatch = link.watch(uuid, heard.put)
    for number in (other, uuid):
        with pytest.raises(CommandFailed):
            link.job(commands.originate(number, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    assert switch.api("bgapi status").startswith("+OK Job-UUID")
    until(lambda: heard.qsize() == 3, 5.0, "the watched call's facts")
    assert {channel_of(raw) for raw in link.sent} == {"", uuid}
    jobs = [raw for raw in link.sent if b'"Event-Name":"BACKGROUND_JOB"' in raw]
    assert len(jobs) == 2
    unwatch()
    count = len(link.sent)
    with pytest.raises(CommandFailed):
        link.job(commands.originate(uuid, endpoint, {}, ("127.0.0.1", 1), 20), 20.0)
    assert link.ask(commands.exists(uuid)) == "false"
    assert [channel_of(raw) for raw in link.sent[count:] if b"HEARTBEAT" not in raw] == [""]
