"""The leg on a wire whose far end does what a FreeSWITCH does, and what it should not."""

import gc
import socket
import weakref
from contextlib import suppress

import gevent
import pytest

from fsctl.clock import Clock
from fsctl.errors import CommandFailed, LegGone, ProtocolError
from fsctl.esl.leg import EslLeg
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api, Application
from fsctl.tally import Traffic
from tests.fakes.freeswitch import OK, UUID, Peer, api, event, meanwhile, offer


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def leg(peer):
    gone = []
    leg = EslLeg(
        peer.ours, clock=Clock(), timeout=2.0, linger=10, on_gone=gone.append, variables={"a": "b"}, traffic=Traffic()
    )
    leg.heard_gone = gone
    yield leg
    leg.close()


@pytest.fixture
def opened(peer, leg):
    far = meanwhile(peer.handshake)
    leg.open(2.0)
    far.get(timeout=5)
    return leg


class TestOpen:
    def test_it_learns_who_calls(self, peer, leg):
        far = meanwhile(peer.handshake)

        found = leg.open(2.0)

        far.get(timeout=5)
        assert (found.uuid, found.caller_number, found.destination_number) == (UUID, "alice", "1000")
        assert not leg.answered

    def test_filters_come_before_the_subscription(self, peer, leg):
        """The other way round FreeSWITCH would flood us with every call's events."""
        opening = meanwhile(leg.open, 2.0)
        peer.expect("connect", offer())
        lines = [peer.command()[0] for _ in range(4)]
        peer.send(OK * 3, api("+OK"))
        opening.get(timeout=5)

        assert [line.split(" ")[0] for line in lines] == ["linger", "filter", "events", "api"]
        assert not any("myevents" in line for line in lines)

    def test_what_the_dialplan_set_is_not_set_again(self, peer, leg):
        leg._variables = {"playback_terminators": "none", "send_silence_when_idle": "-1"}
        opening = meanwhile(leg.open, 2.0)
        peer.expect("connect", offer(variable_playback_terminators="none"))
        peer.expect("linger", OK)
        peer.expect("filter", OK)
        peer.expect("events", OK)
        head, _ = peer.expect("api uuid_setvar_multi", api("+OK"))
        opening.get(timeout=5)

        assert head.endswith(" send_silence_when_idle=-1")

    def test_an_answered_call_is_known_to_be(self, peer, leg):
        far = meanwhile(lambda: peer.handshake(Answer_State="answered"))
        leg.open(2.0)
        far.get(timeout=5)

        assert leg.answered

    def test_without_full_control_the_operator_is_told(self, peer, leg):
        far = meanwhile(peer.expect, "connect", offer().replace(b"Control: full", b"Control: single-channel"))

        with pytest.raises(ProtocolError, match="async full"):
            leg.open(2.0)
        far.get(timeout=5)

    def test_no_answer_in_time(self, peer, leg):
        with pytest.raises(LegGone):
            leg.open(0.05)
        peer.command()

        assert peer.at_end()

    def test_a_peer_that_is_no_freeswitch(self, peer, leg):
        peer.send(b"HTTP/1.1 400 Bad Request\nServer: x\n\n")

        with pytest.raises(LegGone):
            leg.open(2.0)


class TestExecute:
    def test_it_ends_with_its_own_id(self, peer, opened):
        """Two of the same application at once each wake their own waiter."""
        first = meanwhile(opened.execute, Application("playback", "/a.wav"), 5.0)
        second_id = None
        first_id = peer.operation("playback")
        second = meanwhile(opened.execute, Application("playback", "/b.wav"), 5.0)
        second_id = peer.operation("playback")
        peer.send(
            event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=second_id, Application_Response="FILE PLAYED"),
            event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=first_id, Application_Response="FILE NOT FOUND"),
        )

        assert second.get(timeout=5).response == "FILE PLAYED"
        assert first.get(timeout=5).response == "FILE NOT FOUND"

    def test_an_event_before_the_reply(self, peer, opened):
        """FreeSWITCH may send the completion before it acknowledges the command."""
        running = meanwhile(opened.execute, Application("answer"), 5.0)
        head, _ = peer.command()
        identity = dict(line.split(": ", 1) for line in head.split("\n")[1:])["Event-UUID"]
        peer.send(event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=identity, Application_Response="_none_"), OK)

        assert running.get(timeout=5).response == "_none_"

    def test_somebody_elses_completion_wakes_nobody(self, peer, opened):
        running = meanwhile(opened.execute, Application("answer"), 5.0)
        identity = peer.operation("answer", event("CHANNEL_EXECUTE_COMPLETE", Application_UUID="other"))
        gevent.sleep(0)
        assert not running.ready()
        peer.send(event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=identity))

        assert identity == running.get(timeout=5).operation

    def test_an_argument_cannot_run_functions(self, peer, opened):
        meanwhile(opened.execute, commands.speak("flite", "slt", "${system id}"), 5.0)
        _, body = peer.expect("sendmsg", OK)

        assert body == "flite|slt|\\${system id}"

    def test_where_nothing_expands_nothing_is_escaped(self, peer, leg):
        far = meanwhile(lambda: peer.handshake(variable_app_disable_expand_variables="true"))
        leg.open(2.0)
        far.get(timeout=5)
        meanwhile(leg.execute, commands.speak("flite", "slt", "${system id}"), 5.0)
        _, body = peer.expect("sendmsg", OK)

        assert body == "flite|slt|${system id}"

    def test_a_refusal(self, peer, opened):
        running = meanwhile(opened.execute, Application("answer"), 5.0)
        peer.expect("sendmsg", b"Content-Type: command/reply\nReply-Text: -ERR invalid session id [x]\n\n")

        with pytest.raises(CommandFailed, match="invalid session id"):
            running.get(timeout=5)

    def test_one_that_never_completes(self, peer, opened):
        running = meanwhile(opened.execute, Application("answer"), 0.05)
        peer.operation("answer")

        with pytest.raises(CommandFailed, match="did not end within"):
            running.get(timeout=5)

    def test_a_reply_that_never_comes_closes_the_connection(self, peer):
        """The order of replies would be unknown from then on."""
        leg = EslLeg(
            peer.ours,
            clock=Clock(),
            timeout=0.05,
            linger=10,
            on_gone=lambda _: None,
            variables={"a": "b"},
            traffic=Traffic(),
        )
        far = meanwhile(peer.handshake)
        leg.open(2.0)
        far.get(timeout=5)

        with pytest.raises(LegGone):
            leg.ask(Api("status"))
        peer.command()
        assert peer.at_end()

    def test_acceptance_is_told_before_the_end(self, peer, opened):
        told = []
        running = meanwhile(opened.execute, Application("playback", "/a.wav"), 5.0, lambda: told.append(1))
        identity = peer.operation("playback")
        asking = meanwhile(opened.ask, Api("status"))
        peer.expect("api status", api("up"))
        asking.get(timeout=5)
        assert told == [1]
        assert not running.ready()
        peer.send(event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=identity))

        running.get(timeout=5)

    def test_a_refusal_is_no_acceptance(self, peer, opened):
        told = []
        running = meanwhile(opened.execute, Application("playback", "/a.wav"), 5.0, lambda: told.append(1))
        peer.expect("sendmsg", b"Content-Type: command/reply\nReply-Text: -ERR no\n\n")

        with pytest.raises(CommandFailed):
            running.get(timeout=5)
        assert told == []

    def test_a_second_hangup_is_not_sent(self, peer, opened):
        hanging = meanwhile(opened.hang_up, "NORMAL_CLEARING")
        peer.expect("api uuid_kill", api("+OK"))
        hanging.get(timeout=5)
        opened.hang_up("NORMAL_CLEARING")
        asking = meanwhile(opened.ask, Api("status"))
        peer.expect("api status", api("up"))

        asking.get(timeout=5)


class TestAnswer:
    def test_answering_makes_it_answered(self, peer, opened):
        running = meanwhile(opened.answer)
        peer.expect(f"api uuid_answer {UUID}", api("+OK\n"))
        running.get(timeout=5)

        assert opened.answered

    def test_early_media_does_not(self, peer, opened):
        running = meanwhile(opened.pre_answer)
        peer.expect(f"api uuid_pre_answer {UUID}", api("+OK\n"))
        running.get(timeout=5)

        assert not opened.answered

    def test_a_refusal(self, peer, opened):
        running = meanwhile(opened.answer)
        peer.expect("api uuid_answer", api("-ERROR\n"))

        with pytest.raises(CommandFailed, match="uuid_answer: -ERROR"):
            running.get(timeout=5)
        assert not opened.answered

    @pytest.mark.parametrize("ask", ["answer", "pre_answer"])
    def test_a_refusal_because_of_a_hangup_that_is_told_after_it(self, peer, opened, ask):
        running = meanwhile(getattr(opened, ask))
        peer.expect("api uuid_", api("-ERROR\n"), event("CHANNEL_HANGUP", Hangup_Cause="ORIGINATOR_CANCEL"))

        with pytest.raises(LegGone, match="ORIGINATOR_CANCEL"):
            running.get(timeout=5)
        assert not opened.answered

    @pytest.mark.parametrize("state", ["early", "answered"])
    def test_an_outbound_channel_is_answered_by_its_far_end(self, peer, leg, state):
        """FreeSWITCH says +OK to that at any time, and does nothing."""
        far = meanwhile(lambda: peer.handshake(Call_Direction="outbound", Answer_State="early"))
        leg.open(2.0)
        far.get(timeout=5)
        running = meanwhile(leg.answer)
        peer.expect("api uuid_answer", api("+OK\n"))
        peer.expect("connect", offer(Call_Direction="outbound", Answer_State=state))
        running.get(timeout=5)

        assert leg.answered is (state == "answered")


class TestApi:
    def test_output(self, peer, opened):
        asking = meanwhile(opened.ask, Api("uuid_getvar", f"{UUID} x"))
        peer.expect(f"api uuid_getvar {UUID} x", api("a\nb % \u00e9"))

        assert asking.get(timeout=5) == "a\nb % \u00e9"

    @pytest.mark.parametrize("text", ["-ERR no such thing\n", "-USAGE: uuid_x\n"])
    def test_refusal(self, peer, opened, text):
        asking = meanwhile(opened.ask, Api("uuid_x"))
        peer.expect("api uuid_x", api(text))

        with pytest.raises(CommandFailed, match=text[1:5]):
            asking.get(timeout=5)

    def test_a_job_waits_for_its_own_event(self, peer, opened):
        working = meanwhile(opened.job, Api("uuid_audio_stream", "stop"), 5.0)
        peer.expect("filter Job-Owner-UUID", OK)
        head, _ = peer.expect(
            "bgapi uuid_audio_stream stop", b"Content-Type: command/reply\nReply-Text: +OK Job-UUID: x\n\n"
        )
        job = head.split("Job-UUID: ")[1]
        peer.send(
            event("BACKGROUND_JOB", Job_UUID="other", body="-ERR"), event("BACKGROUND_JOB", Job_UUID=job, body="+OK\n")
        )

        assert working.get(timeout=5) == "+OK\n"

    def test_a_job_that_fails(self, peer, opened):
        working = meanwhile(opened.job, Api("x"), 5.0)
        peer.expect("filter Job-Owner-UUID", OK)
        head, _ = peer.expect("bgapi x", OK)
        peer.send(event("BACKGROUND_JOB", Job_UUID=head.split("Job-UUID: ")[1], body="-ERR Operation Failed\n"))

        with pytest.raises(CommandFailed, match="Operation Failed"):
            working.get(timeout=5)

    def test_commands_of_two_greenlets_keep_their_own_replies(self, peer, opened):
        asking = [meanwhile(opened.ask, Api("echo", str(number))) for number in range(20)]
        for _ in asking:
            head, _body = peer.command()
            peer.send(api(head.removeprefix("api echo ")))

        assert [str(number) for number in range(20)] == [one.get(timeout=5) for one in asking]

    def test_text_that_must_not_reach_the_wire_is_a_refusal(self, opened):
        with pytest.raises(CommandFailed, match=r"uuid_setvar: .*mod_event_socket"):
            opened.ask(commands.set_variable(UUID, "x", "reload mod_event_socket"))

    def test_telling_waits_for_nothing_and_survives_a_refusal(self, peer, opened):
        opened.tell(Api("uuid_break", UUID), Api("uuid_x"))
        peer.expect("api uuid_break", api("-ERR no\n"))
        peer.expect("api uuid_x", api("+OK"))
        asking = meanwhile(opened.ask, Api("status"))
        peer.expect("api status", api("up"))

        assert asking.get(timeout=5) == "up"


class TestFacts:
    def test_listening(self, peer, opened):
        with opened.listen(facts.Digit) as heard:
            peer.send(event("DTMF", DTMF_Digit="1"), event("CHANNEL_ANSWER"), event("DTMF", DTMF_Digit="2"))

            assert [facts.Digit("1"), facts.Digit("2")] == [heard.next(5), heard.next(5)]
            assert heard.next(0.01) is None

    def test_reacting_until_told_not_to(self, peer, opened):
        heard = []
        stop = opened.react(facts.Digit, heard.append)
        with opened.listen(facts.Digit) as waiting:
            peer.send(event("DTMF", DTMF_Digit="1"))
            waiting.next(5)
            stop()
            peer.send(event("DTMF", DTMF_Digit="2"))
            waiting.next(5)

        assert [facts.Digit("1")] == heard

    def test_a_reaction_that_fails_costs_the_others_nothing(self, peer, opened):
        def fails(_):
            raise RuntimeError("a bug")

        opened.react(facts.Digit, fails)
        with opened.listen(facts.Digit) as heard:
            peer.send(event("DTMF", DTMF_Digit="1"))

            assert facts.Digit("1") == heard.next(5)

    def test_duplicates_and_nonsense_are_harmless(self, peer, opened):
        peer.send(
            event("CHANNEL_EXECUTE_COMPLETE", Application_UUID="x"),
            event("CHANNEL_EXECUTE_COMPLETE", Application_UUID="x"),
            event("BACKGROUND_JOB"),
            b"Content-Length: 2\nContent-Type: text/event-json\n\n\xff\xfe",
            b"Content-Length: 2\nContent-Type: log/data\n\nhi",
        )
        asking = meanwhile(opened.ask, Api("status"))
        peer.expect("api status", api("up"))

        assert asking.get(timeout=5) == "up"


class TestGone:
    def waiters(self, leg):
        """One of everything that can wait."""

        def listening():
            with leg.listen(facts.Digit) as heard:
                heard.next()

        return [
            meanwhile(leg.execute, Application("playback", "/a.wav"), 60.0),
            meanwhile(leg.job, Api("x"), 60.0),
            meanwhile(listening),
            meanwhile(leg.waiter().wait),
        ]

    def test_a_hangup_ends_every_wait(self, peer, opened):
        waiting = self.waiters(opened)
        peer.operation("playback")
        peer.expect("filter Job-Owner-UUID", OK)
        peer.expect("bgapi x", OK)
        peer.send(event("CHANNEL_HANGUP", Hangup_Cause="USER_BUSY"))

        for one in waiting:
            with pytest.raises(LegGone, match="USER_BUSY"):
                one.get(timeout=5)
        assert opened.heard_gone == ["USER_BUSY"]

    @pytest.mark.parametrize(
        "last",
        [
            pytest.param(b"", id="between-messages"),
            pytest.param(b"Content-Type: comm", id="in-a-header"),
            pytest.param(b"Content-Length: 100\nContent-Type: text/event-json\n\n{", id="in-a-body"),
            pytest.param(b"Content-Type: text/html\n\n", id="after-garbage"),
            pytest.param(OK, id="after-a-reply-to-nothing"),
        ],
    )
    def test_the_end_of_the_socket_ends_every_wait(self, peer, opened, last):
        waiting = self.waiters(opened)
        peer.operation("playback")
        peer.expect("filter Job-Owner-UUID", OK)
        peer.expect("bgapi x", OK)
        peer.send(last)
        peer.close()

        for one in waiting:
            with pytest.raises(LegGone):
                one.get(timeout=5)
        assert len(opened.heard_gone) == 1
        assert opened.wait_ended(5)

    def test_the_end_before_a_reply(self, peer, opened):
        asking = meanwhile(opened.ask, Api("status"))
        peer.command()
        peer.close()

        with pytest.raises(LegGone):
            asking.get(timeout=5)

    def test_afterwards_nothing_is_sent(self, peer, opened):
        peer.send(event("CHANNEL_HANGUP", Hangup_Cause="NORMAL_CLEARING"), event("CHANNEL_HANGUP_COMPLETE"))
        assert opened.wait_ended(5)

        for attempt in (
            lambda: opened.ask(Api("status")),
            lambda: opened.execute(Application("answer"), 1),
            lambda: opened.waiter().wait(),
        ):
            with pytest.raises(LegGone):
                attempt()
        opened.hang_up("NORMAL_CLEARING")
        opened.tell(Api("status"))

    def test_facts_after_the_hangup_still_come(self, peer, opened):
        """The recording is completed while the channel is torn down."""
        heard = []
        opened.react(facts.RecordStopped, heard.append)
        peer.send(
            event("CHANNEL_HANGUP", Hangup_Cause="NORMAL_CLEARING"),
            b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nLinger-Time: 5\nContent-Length: 0\n\n",
            event("RECORD_STOP", Record_File_Path="/a.wav"),
            event("CHANNEL_HANGUP_COMPLETE", Hangup_Cause="NORMAL_CLEARING"),
        )

        assert opened.wait_ended(5)
        assert [facts.RecordStopped("/a.wav", "", 0)] == heard
        assert len(opened.heard_gone) == 1

    def test_a_party_that_was_faster_is_gone_at_once(self, peer, leg):
        opening = meanwhile(leg.open, 2.0)
        peer.expect("connect", offer(Answer_State="hangup", Hangup_Cause="ORIGINATOR_CANCEL"))
        opening.get(timeout=5)

        assert leg.gone
        assert leg.wait_ended(0)
        assert leg.ended == facts.Ended("ORIGINATOR_CANCEL", "", None)

    def test_a_hangup_before_the_subscription_is_asked_for(self, peer, opened):
        """Neither of its events came: only the notice that the socket lingers."""
        waiting = meanwhile(opened.waiter().wait)
        peer.send(b"Content-Type: text/disconnect-notice\nContent-Disposition: linger\nContent-Length: 0\n\n")
        with pytest.raises(LegGone):
            waiting.get(timeout=5)
        ending = meanwhile(opened.wait_ended, 5)
        gone = {"Answer_State": "hangup", "Hangup_Cause": "USER_BUSY", "Caller_Channel_Answered_Time": "17"}
        peer.expect("connect", offer(**gone, variable_sip_hangup_disposition="recv_bye"))

        assert ending.get(timeout=5)
        assert opened.ended == facts.Ended("USER_BUSY", "recv_bye", None, True)
        assert len(opened.heard_gone) == 1

    @pytest.mark.parametrize("refused", ["filter", "events"])
    def test_without_its_own_events_it_is_given_up(self, peer, leg, refused):
        opening = meanwhile(leg.open, 2.0)
        peer.expect("connect", offer())
        for command in ("linger", "filter", "events"):
            no = b"Content-Type: command/reply\nReply-Text: -ERR no\n\n"
            peer.expect(command, no if command == refused else OK)
            if command == refused:
                break
        opening.get(timeout=5)

        assert peer.at_end()
        assert leg.wait_ended(5)

    def test_leaving_frees_freeswitchs_thread(self, peer, opened):
        opened.close()

        assert peer.at_end()


class Owner:
    """Has a leg, and is known to it, as a call's session."""

    def __init__(self, peer):
        self.peer = peer
        self.leg = EslLeg(
            peer.ours, clock=Clock(), timeout=2.0, linger=10, on_gone=self.hear, variables={"a": "b"}, traffic=Traffic()
        )
        self.heard = []
        far = meanwhile(peer.handshake)
        self.leg.open(2.0)
        far.get(timeout=5)
        self.leg.react(facts.Digit, self.hear)

    def hear(self, news):
        self.heard.append(news)

    def talk(self):
        """An application that ends, one that is refused, and a question."""
        for outcome in ("played", "refused"):
            running = meanwhile(self.execute)
            if outcome == "played":
                done = event("CHANNEL_EXECUTE_COMPLETE", Application_UUID=self.peer.operation("playback"))
                self.peer.send(event("DTMF", DTMF_Digit="1"), done)
            else:
                self.peer.expect("sendmsg", b"Content-Type: command/reply\nReply-Text: -ERR no\n\n")
            running.get(timeout=5)
        asking = meanwhile(self.ask)
        self.peer.expect("api status", api("-ERR no"))
        asking.get(timeout=5)
        with self.leg.listen(facts.Digit) as heard:
            assert heard.next(0.001) is None

    def execute(self):
        with suppress(CommandFailed):
            self.leg.execute(Application("playback", "/a.wav"), 5.0)

    def ask(self):
        with suppress(CommandFailed):
            self.leg.ask(Api("status"))

    def leave(self):
        self.leg.close()

    def lose_the_socket(self):
        waiting = meanwhile(self.wait)
        gevent.sleep(0)
        self.peer.close()
        waiting.get(timeout=5)

    def hang_up(self):
        waiting = meanwhile(self.wait)
        gevent.sleep(0)
        self.peer.send(event("CHANNEL_HANGUP", Hangup_Cause="USER_BUSY"), event("CHANNEL_HANGUP_COMPLETE"))
        waiting.get(timeout=5)
        assert self.leg.wait_ended(5)
        self.leg.close()

    def come_too_late(self):
        self.leg.close()
        for late in (self.ask, self.execute, self.wait):
            with suppress(LegGone):
                late()
        self.leg.tell(Api("status"))
        self.leg.fire(commands.linger(1))

    def wait(self):
        with suppress(LegGone):
            self.leg.waiter().wait(5)


class TestMemory:
    @pytest.fixture(autouse=True)
    def uncollected(self):
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("end", [Owner.leave, Owner.lose_the_socket, Owner.hang_up, Owner.come_too_late])
    def test_a_leg_that_ended_is_not_left_to_the_garbage_collector(self, peer, end):
        """Nor is what it told of its end, and of facts, although that knows the leg."""
        owner = Owner(peer)
        known = {"owner": owner, "leg": owner.leg, "connection": owner.leg._connection}
        left = {name: weakref.ref(known.pop(name)) for name in list(known)}
        owner.talk()
        end(owner)
        del owner
        with gevent.Timeout(2, False):
            while any(one() for one in left.values()):
                gevent.sleep(0)

        assert [name for name, one in left.items() if one() is not None] == []


def test_who_waits_together_goes_on_together(opened):
    waiter = opened.waiter()
    waiting = [meanwhile(waiter.wait, 5) for _ in range(3)]
    gevent.sleep(0)
    waiter.set()
    waiter.set()

    assert [one.get(timeout=5) for one in waiting] == [True, True, True]
    assert waiter.wait(0.001)


def test_a_waiter_of_which_nothing_is_heard(opened):
    assert opened.waiter().wait(0.001) is False


def test_what_the_socket_does_not_take_at_once_is_sent_later(peer, opened):
    """In one piece and in order, and what comes meanwhile is heard."""
    asked = [f"{number} {'x' * 2000}" for number in range(500)]
    for text in asked:
        opened.tell(Api("echo", text))
    gevent.sleep(0)
    assert opened._connection._writable is not None
    with opened.listen(facts.Digit) as heard:
        peer.send(event("DTMF", DTMF_Digit="1"))
        assert heard.next(5) == facts.Digit("1")

    assert [peer.command()[0] for _ in asked] == [f"api echo {text}" for text in asked]
    peer.send(api("+OK") * len(asked))
    asking = meanwhile(opened.ask, Api("status"))
    peer.expect("api status", api("up"))
    assert asking.get(timeout=5) == "up"
    assert opened._connection._writable is None


def test_a_command_too_big_for_the_socket_is_sent_in_one_piece(peer, opened):
    """Also when others are told before the rest of it has left."""
    text = "x" * 1_000_000
    asking = meanwhile(opened.ask, Api("echo", text))
    gevent.sleep(0)
    assert opened._connection._writable is not None
    opened.tell(Api("status"))

    peer.expect(f"api echo {text}", api("heard"))
    assert asking.get(timeout=5) == "heard"
    peer.expect("api status", api("up"))


def test_a_socket_that_takes_no_more_ends_the_leg(opened):
    opened._connection.sock.shutdown(socket.SHUT_WR)

    with pytest.raises(LegGone):
        opened.ask(Api("status"))
    gevent.sleep(0)
    assert opened.gone


def test_a_refused_call_goes_on_in_its_dialplan(peer, leg):
    refusing = meanwhile(leg.give_back)
    peer.expect("connect", offer())
    peer.expect("resume", OK)

    refusing.get(timeout=5)
    assert peer.at_end()
