"""The connection to FreeSWITCH itself: against the simulated one, and against peers that no FreeSWITCH would be."""

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from gevent.queue import Queue
from gevent.server import StreamServer
from structlog.testing import capture_logs

from fsctl.clock import Clock
from fsctl.errors import CommandFailed, SwitchDown
from fsctl.esl import switch as module
from fsctl.esl.switch import SwitchLink
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api
from fsctl.simulator import Party, Scripted, Switch
from fsctl.tally import Traffic
from tests.fakes.freeswitch import OK, Peer, api, meanwhile

U = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"
V = "1c9c7e0f-4a1b-4b62-8e6f-2a3b4c5d6e7f"
PARTIES = {"100": Party(after=1.0), "200": Party(cause="USER_BUSY"), "300": Party(cause="NO_ANSWER")}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A lost connection is made again at once."""
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def switch():
    made = Switch(("127.0.0.1", 1), clock=Clock(20.0), tick=0.0, streams=Scripted(), parties=PARTIES)
    made.where = made.listen()
    yield made
    made.close()


class Observed:
    """A link with what it told: ``up`` and ``down`` are queues."""

    def __init__(self, address, password="ClueCon", **settings):
        self.up, self.down = Queue(), Queue()
        self.link = SwitchLink(
            address, password, on_up=self.up.put, on_down=self.down.put, **{"timeout": 5.0, **settings}
        )

    def started(self):
        """The link, once it is connected."""
        self.link.start()
        self.up.get(timeout=5)
        return self.link


@pytest.fixture
def observe():
    made = []

    def observed(*args, **settings):
        made.append(Observed(*args, **settings))
        return made[-1]

    yield observed
    for one in made:
        one.link.stop()


@pytest.fixture
def link(switch, observe):
    return observe(switch.where).started()


def until(condition, seconds=5.0):
    with gevent.Timeout(seconds, AssertionError(f"not within {seconds} s")):
        while not condition():
            gevent.sleep(0.005)


class Server:
    """A peer whose every connection is handed to ``serve(peer)``."""

    def __init__(self, serve):
        self.connections = 0
        self._serve = serve
        self._server = StreamServer(("127.0.0.1", 0), self._accept)
        self._server.start()
        self.address = ("127.0.0.1", self._server.server_port)

    def _accept(self, sock, _):
        self.connections += 1
        peer = Peer.__new__(Peer)
        peer._sock, peer._read = sock, b""
        sock.settimeout(5)
        try:
            self._serve(peer)
        except (OSError, AssertionError):
            pass  # the other side closed
        finally:
            sock.close()

    def close(self):
        self._server.stop(timeout=1)


@pytest.fixture
def serve():
    made = []

    def served(script):
        made.append(Server(script))
        return made[-1]

    yield served
    for server in made:
        server.close()


GREETING = b"Content-Type: auth/request\n\n"
ACCEPTED = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"


def welcome(peer, core="core-1"):
    """Everything up to the moment FreeSWITCH can be asked; answers the subscription."""
    peer.send(GREETING)
    peer.expect("auth ClueCon", ACCEPTED)
    lines = []
    while not lines or not lines[-1].startswith("events"):
        lines.append(peer.expect("", OK)[0])
    peer.expect("api global_getvar core_uuid", api(core))
    return lines


class TestConnecting:
    def test_it_is_let_in(self, switch, observe):
        observed = observe(switch.where)
        assert not observed.link.connected
        assert "not started" in observed.link.problem
        link = observed.started()
        assert (link.connected, link.problem, link.reconnects) == (True, "", 0)
        assert observed.down.empty()

    def test_the_first_freeswitch_is_no_restarted_one(self, switch, observe):
        observed = observe(switch.where)
        observed.link.start()
        assert observed.up.get(timeout=5) is False

    def test_starting_twice_is_starting_once(self, switch, observe):
        link = observe(switch.where).started()
        link.start()
        assert link.ask(commands.exists(U)) == "false"
        assert len(switch.inbound) == 1

    def test_filters_come_before_the_subscription(self, serve, observe):
        """The other way round FreeSWITCH would send every call's events; and jobs of calls are none of ours."""
        subscribed = Queue()
        server = serve(lambda peer: (subscribed.put(welcome(peer)), peer.command()))
        observed = observe(server.address)
        observed.link.watch(U, lambda _: None)
        observed.started()
        heartbeats, jobs, channel, events = subscribed.get(timeout=5)
        assert heartbeats == "filter Event-Name HEARTBEAT"
        assert jobs.startswith("filter Job-UUID /^fsctl-")
        assert channel == f"filter Unique-ID {U}"
        assert events == (
            "events json BACKGROUND_JOB HEARTBEAT CHANNEL_CREATE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA "
            "CHANNEL_ANSWER CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE"
        )

    def test_a_wrong_password(self, switch, observe):
        traffic = Traffic()
        observed = observe(switch.where, "wrong", traffic=traffic)
        with capture_logs() as logged:
            observed.link.start()
            until(lambda: "password" in observed.link.problem)
            until(lambda: traffic.connections > 3)
        assert [(entry["event"], entry.get("reason")) for entry in logged] == [("switch_refused", "password")]
        assert "`password` in event_socket.conf.xml" in observed.link.problem
        assert "wrong" not in repr(logged)
        with pytest.raises(SwitchDown, match="does not take the event socket's password"):
            observed.link.ask(commands.exists(U))
        switch.password = "wrong"
        observed.up.get(timeout=5)
        assert observed.link.connected

    def test_an_access_list_that_turns_us_away(self, switch, observe):
        switch.turns_away = True
        observed = observe(switch.where)
        observed.link.start()
        until(lambda: "apply-inbound-acl" in observed.link.problem)
        switch.turns_away = False
        observed.up.get(timeout=5)

    def test_nobody_listens(self, switch, observe):
        switch.drop_inbound(listening=False)
        observed = observe(switch.where)
        with capture_logs() as logged:
            observed.link.start()
            until(lambda: "refused" in observed.link.problem)
            assert "is FreeSWITCH running" in observed.link.problem
            switch.listen(*switch.where)
            observed.up.get(timeout=5)
        assert [entry["event"] for entry in logged] == ["switch_unreachable", "switch_connected"]
        assert observed.link.reconnects == 0
        assert observed.down.empty()

    @pytest.mark.parametrize("address", [("no..host", 8021), ("127.0.0.1", 99999)])
    def test_what_is_no_address(self, observe, address):
        observed = observe(address)
        observed.link.start()
        until(lambda: "is FreeSWITCH running" in observed.link.problem)

    @pytest.mark.parametrize(
        ("said", "problem"),
        [
            pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\nServer: x\n\n", "content type 'none'", id="http"),
            pytest.param(b"", "it closed at once", id="nothing"),
            pytest.param(GREETING + b"\x00\x01\n\n", "content type", id="garbage-after-the-greeting"),
            pytest.param(GREETING + OK, "a reply to no command", id="unasked-reply"),
        ],
    )
    def test_what_is_no_freeswitch(self, serve, observe, said, problem):
        server = serve(lambda peer: peer.send(said))
        observed = observe(server.address)
        with capture_logs() as logged:
            observed.link.start()
            until(lambda: server.connections > 3)
        assert problem in observed.link.problem
        assert [entry["event"] for entry in logged] == ["switch_unreachable"]

    @pytest.mark.parametrize("said", [b"", GREETING], ids=["no-greeting", "no-reply"])
    def test_what_says_nothing(self, serve, observe, said):
        server = serve(lambda peer: (peer.send(said), peer._sock.recv(100), peer._sock.recv(100)))
        observed = observe(server.address, timeout=0.05)
        observed.link.start()
        until(lambda: server.connections > 1)
        assert not observed.link.connected

    def test_a_freeswitch_that_refuses_commands(self, serve, observe):
        def refuse(peer):
            peer.send(GREETING)
            peer.expect("auth", ACCEPTED)
            for _ in range(3):
                peer.expect("", OK)
            peer.expect("api", api("-ERR permission denied\n"))

        observed = observe(serve(refuse).address)
        observed.link.start()
        until(lambda: "refuses commands: global_getvar: -ERR permission denied" in observed.link.problem)

    def test_a_password_with_a_newline_is_an_error(self):
        with pytest.raises(ValueError, match="newline"):
            SwitchLink(("127.0.0.1", 1), "a\nb")


class TestLosing:
    def test_it_comes_back(self, switch, observe):
        observed = observe(switch.where)
        link = observed.started()
        with capture_logs() as logged:
            switch.drop_inbound()
            assert "was lost: FreeSWITCH closed it" in observed.down.get(timeout=5)
            assert observed.up.get(timeout=5) is False
        assert (link.connected, link.problem, link.reconnects) == (True, "", 1)
        assert [entry["event"] for entry in logged] == ["switch_lost", "switch_connected"]
        assert link.ask(commands.exists(U)) == "false"

    def test_a_restart_is_noticed(self, switch, observe):
        observed = observe(switch.where)
        observed.started()
        switch.restart()
        assert observed.up.get(timeout=5) is True
        switch.drop_inbound()
        assert observed.up.get(timeout=5) is False

    def test_while_it_is_away(self, switch, observe):
        observed = observe(switch.where)
        link = observed.started()
        switch.drop_inbound(listening=False)
        observed.down.get(timeout=5)
        until(lambda: "refused" in link.problem)
        assert not link.connected
        for ask in (lambda: link.ask(commands.exists(U)), lambda: link.job(commands.exists(U), 1.0)):
            with pytest.raises(SwitchDown, match="refused"):
                ask()
        with capture_logs() as logged:
            link.tell(commands.hang_up(U, "NORMAL_CLEARING"))
        assert [entry["commands"] for entry in logged if entry["event"] == "switch_not_told"] == [["uuid_kill"]]

    def test_whoever_waits_hears_of_it(self, switch, observe):
        observed = observe(switch.where)
        link = observed.started()
        job = meanwhile(link.job, commands.originate(U, "user/300@h", {}, ("127.0.0.1", 8084), 60), 60.0)
        until(lambda: switch.live_count)
        switch.drop_inbound()
        with pytest.raises(SwitchDown, match="was lost"):
            job.get(timeout=5)
        assert observed.down.qsize() == 0  # whoever waited heard first
        observed.down.get(timeout=5)

    def test_a_question_under_way(self, serve, observe):
        server = serve(lambda peer: (welcome(peer), peer.expect("api uuid_exists")))
        link = observe(server.address).started()
        with pytest.raises(SwitchDown, match="was lost"):
            link.ask(commands.exists(U))

    @pytest.mark.parametrize(
        "said", [b"garbage\n\n", OK, b"Content-Length: 999999999999\nContent-Type: api/response\n\n"]
    )
    def test_garbage_ends_it_and_nothing_else(self, serve, observe, said):
        broken = []

        def script(peer):
            welcome(peer)
            if not broken:
                broken.append(True)
                peer.send(said)
            peer.command()

        observed = observe(serve(script).address)
        observed.started()
        observed.down.get(timeout=5)
        assert observed.up.get(timeout=5) is False

    def test_a_reply_that_does_not_come(self, serve, observe):
        server = serve(lambda peer: (welcome(peer), peer.command(), peer.command()))
        observed = observe(server.address, timeout=0.1)
        link = observed.started()
        with pytest.raises(SwitchDown, match="overloaded or stuck"):
            link.ask(commands.exists(U))
        observed.down.get(timeout=5)

    def test_without_heartbeats_it_asks_for_a_sign_of_life(self, serve, observe):
        asked = Queue()

        def script(peer):
            welcome(peer)
            for _ in range(2):
                peer.expect("api global_getvar core_uuid", api("core-1"))
                asked.put(True)
            while not peer.at_end():  # and now it is dead
                pass

        observed = observe(serve(script).address, timeout=0.2, silence=0.05)
        link = observed.started()
        for _ in range(2):
            asked.get(timeout=5)
            assert link.connected
        assert "overloaded or stuck" in observed.down.get(timeout=5)

    def test_heartbeats_are_signs_enough(self, observe):
        with Switch(("127.0.0.1", 1), clock=Clock(20.0), tick=0.0, heartbeat=1.0) as switch:
            beats = []
            deliver, switch.deliver = switch.deliver, lambda event: (beats.append(event.name), deliver(event))
            link = observe(switch.listen(), silence=0.5).started()
            (listener,) = switch.inbound
            asked = listener.commands_seen
            until(lambda: len(beats) > 15)  # longer than it would wait
            assert (link.connected, listener.commands_seen) == (True, asked)

    def test_stop_ends_everything_and_says_nothing(self, switch, observe):
        observed = observe(switch.where)
        link = observed.started()
        job = meanwhile(link.job, commands.originate(U, "user/300@h", {}, ("127.0.0.1", 8084), 60), 60.0)
        until(lambda: switch.live_count)
        with capture_logs() as logged:
            link.stop()
            with pytest.raises(SwitchDown, match="fsctl stops"):
                job.get(timeout=5)
            until(lambda: not switch.inbound)
        assert (link.connected, link.problem.endswith("was stopped")) == (False, True)
        assert observed.down.empty()
        assert logged == []

    def test_it_may_be_stopped_by_whom_it_tells(self, switch):
        told = Queue()
        link = SwitchLink(switch.where, "ClueCon", on_up=lambda _: (link.stop(), told.put("up")), on_down=told.put)
        link.start()
        assert told.get(timeout=5) == "up"
        until(lambda: not switch.inbound)
        assert told.empty()

    @pytest.mark.parametrize("problem", [RuntimeError("x"), SwitchDown("y")])
    def test_an_observer_that_fails_costs_nothing(self, switch, problem):
        ups = Queue()

        def up(restarted):
            ups.put(restarted)
            raise problem

        link = SwitchLink(switch.where, "ClueCon", on_up=up)
        link.start()
        ups.get(timeout=5)
        switch.drop_inbound()
        ups.get(timeout=5)
        link.stop()

    def test_an_observer_may_wait_for_what_is_lost_meanwhile(self, switch):
        """The supervisor itself is among those who get SwitchDown."""
        ups = Queue()

        def up(_):
            ups.put(True)
            link.job(Api("originate", "user/300@h &park()"), 60.0)

        link = SwitchLink(switch.where, "ClueCon", on_up=up)
        link.start()
        ups.get(timeout=5)
        until(lambda: switch.live_count)
        switch.drop_inbound()
        ups.get(timeout=5)
        link.stop()


class TestAsking:
    def test_what_an_api_prints(self, link):
        assert link.ask(Api("version", "short")) == "1.10.12"

    @pytest.mark.parametrize(
        ("asked", "reply"),
        [
            (commands.hang_up(U, "USER_BUSY"), "-ERR No such channel!"),
            (Api("originate"), "-USAGE"),
            (Api("nosuch"), "-ERR nosuch Command not found!"),
            (Api("version", "a\nb"), "newline"),
        ],
        ids=["refused", "usage", "unknown", "unsendable"],
    )
    def test_what_is_refused(self, link, asked, reply):
        for ask in (lambda: link.ask(asked), lambda: link.job(asked, 5.0)):
            with pytest.raises(CommandFailed, match=reply):
                ask()
        assert link.connected

    def test_many_at_once_get_their_own_answers(self, link):
        asked = [meanwhile(link.ask, Api("expr", f"{number}+1")) for number in range(50)]
        jobs = [meanwhile(link.job, Api("expr", f"{number}+2"), 5.0) for number in range(50)]
        assert [one.get(timeout=5) for one in asked] == [str(number + 1) for number in range(50)]
        assert [one.get(timeout=5) for one in jobs] == [str(number + 2) for number in range(50)]

    def test_an_answer_that_is_not_waited_for_any_longer(self, serve, observe):
        late = Event()

        def script(peer):
            welcome(peer)
            peer.command()
            late.wait(5)
            peer.send(api("late"))
            peer.expect("api uuid_exists", api("true"))
            peer.command()

        link = observe(serve(script).address).started()
        with pytest.raises(CommandFailed, match=r"no reply within 0\.05 s"):
            link.ask(Api("status"), 0.05)
        late.set()
        assert link.ask(commands.exists(U)) == "true"

    def test_telling(self, switch, link):
        call = switch.call(dialplan=[("park", "")])
        until(lambda: call.state == "CS_EXECUTE")
        link.tell(commands.set_variable(call.uuid, "a", "b"), commands.hang_up(call.uuid, "USER_BUSY"))
        assert call.wait_until_over(5)
        assert (call.hangup_cause, call.variables["a"]) == ("USER_BUSY", "b")

    def test_being_told_off(self, link):
        with capture_logs() as logged:
            link.tell(commands.hang_up(U, "USER_BUSY"))
            link.ask(commands.exists(U))
        assert [(entry["event"], entry["command"]) for entry in logged] == [("command_refused", "uuid_kill")]

    def test_a_job_that_takes_too_long(self, switch, link):
        with pytest.raises(CommandFailed, match=r"did not end within 0\.05 s"):
            link.job(commands.originate(U, "user/300@h", {}, ("127.0.0.1", 8084), 60), 0.05)
        assert link.ask(commands.exists(U)) == "true"

    def test_a_call(self, switch, link):
        heard = Queue()
        link.watch(U, heard.put)
        answered = link.job(commands.originate(U, commands.sip("internal", "100", "h"), {}, ("127.0.0.1", 1), 60), 10.0)
        assert answered == f"+OK {U}\n"
        expected = [facts.Created(), facts.Ringing(early_media=False), facts.Answered()]
        assert [heard.get(timeout=5) for _ in expected] == expected
        assert heard.get(timeout=5) == facts.HungUp("NORMAL_CLEARING")  # nobody listens at the socket
        assert heard.get(timeout=5).answered

    def test_a_call_that_fails(self, link):
        with pytest.raises(CommandFailed) as failed:
            link.job(commands.originate(U, commands.registered("200", "pbx.example"), {}, ("127.0.0.1", 1), 60), 10.0)
        assert failed.value.reply == "-ERR USER_BUSY"

    def test_the_traffic_is_counted_and_no_reactions_are(self, switch, observe):
        traffic = Traffic()
        link = observe(switch.where, traffic=traffic).started()
        before = traffic.commands
        for _ in range(3):
            link.ask(commands.exists(U))
        with pytest.raises(CommandFailed):
            link.ask(commands.hang_up(U, "USER_BUSY"))
        assert (traffic.commands - before, traffic.refused, traffic.live) == (4, 1, 1)
        assert sum(traffic.reactions.counts) == 0


def watch(link, *reactions):
    """Watch one channel, and return when FreeSWITCH knows."""
    unwatches = [link.watch(U, reaction) for reaction in reactions]
    link.ask(commands.exists(U))
    return unwatches


class TestWatching:
    def test_nothing_of_other_calls(self, switch, link):
        heard = Queue()
        watch(link, heard.put)
        other = switch.call(uuid=V, dialplan=[("answer", "")])
        assert other.join(5)
        call = switch.call(uuid=U, dialplan=[("answer", "")])
        assert call.join(5)
        kinds = [type(heard.get(timeout=5)) for _ in range(4)]
        assert kinds == [facts.Created, facts.Answered, facts.HungUp, facts.Ended]
        (listener,) = switch.inbound
        assert {one.value for one in listener.subscription.filters if one.header == "Unique-ID"} == {U}

    def test_jobs_of_others_are_not_sent(self, switch, link):
        (listener,) = switch.inbound
        posted = []
        post = listener.post
        listener.post = lambda event: (posted.append(event.header("Job-UUID")), post(event))
        with socket.create_connection(switch.where) as other:
            other.sendall(b"auth ClueCon\n\nbgapi status\nJob-UUID: theirs\n\nbgapi status\nJob-UUID: fsctl-0-1\n\n")
            received = b""
            while b"fsctl-0-1" not in received:
                received += other.recv(4096)
            link.job(Api("status"), 5.0)
        assert len(posted) == 1

    def test_until_it_is_taken_back(self, switch, link):
        first, second = Queue(), Queue()
        unwatch = watch(link, first.put, second.put)
        unwatch[0]()
        unwatch[0]()  # once more does nothing
        switch.call(uuid=U, dialplan=[("answer", "")]).join(5)
        assert second.get(timeout=5) == facts.Created()
        assert first.empty()
        unwatch[1]()
        link.ask(commands.exists(U))
        (listener,) = switch.inbound
        assert [one.header for one in listener.subscription.filters] == ["Event-Name", "Job-UUID"]

    def test_the_same_reaction_twice(self, switch, link):
        heard = Queue()
        once, _ = watch(link, heard.put, heard.put)
        once()
        once()
        switch.call(uuid=U, dialplan=[("answer", "")]).join(5)
        assert heard.get(timeout=5) == facts.Created()
        assert heard.get(timeout=5) == facts.Answered()

    def test_a_reaction_that_fails_and_one_that_leaves(self, switch, link):
        heard, wrongly = Queue(), Queue()

        def fails(_):
            unwatch[1]()
            raise RuntimeError

        unwatch = watch(link, fails, wrongly.put, heard.put)
        with capture_logs() as logged:
            switch.call(uuid=U, dialplan=[("answer", "")]).join(5)
            assert heard.get(timeout=5) == facts.Created()
        assert wrongly.empty()
        assert "reaction_failed" in {entry["event"] for entry in logged}

    def test_after_a_reconnect(self, switch, observe):
        observed = observe(switch.where)
        link = observed.started()
        heard, gone = Queue(), Queue()
        link.watch(U, heard.put)
        unwatch = link.watch(V, gone.put)
        switch.drop_inbound(listening=False)
        observed.down.get(timeout=5)
        unwatch()
        switch.listen(*switch.where)
        observed.up.get(timeout=5)
        switch.call(uuid=U, dialplan=[("answer", "")]).join(5)
        assert heard.get(timeout=5) == facts.Created()
        (listener,) = switch.inbound
        assert [one.value for one in listener.subscription.filters][2:] == [U]

    def test_while_it_is_being_let_in(self, serve, observe):
        """A filter before the password would be refused, and cost the connection."""
        asked, go_on, seen = Event(), Event(), Queue()

        def script(peer):
            peer.send(GREETING)
            peer.expect("auth")
            asked.set()
            go_on.wait(5)
            peer.send(ACCEPTED)
            while True:
                line = peer.command()[0]
                seen.put(line)
                peer.send(api("core") if line.startswith("api") else OK)

        observed = observe(serve(script).address)
        observed.link.start()
        assert asked.wait(5)
        observed.link.watch(U, lambda _: None)
        go_on.set()
        observed.up.get(timeout=5)
        assert [seen.get(timeout=5).split(" ")[0] for _ in range(5)] == ["filter", "filter", "filter", "events", "api"]

    @pytest.mark.parametrize("uuid", ["", "a b", "a\n", "/.*/", "-ERR ", "ä", "x" * 65])
    def test_what_is_no_uuid(self, link, uuid):
        with pytest.raises(ValueError, match="not a UUID"):
            link.watch(uuid, lambda _: None)


def test_pauses_grow_and_are_never_the_same(monkeypatch, observe):
    monkeypatch.undo()
    slept = []

    class Enough(Exception):
        pass

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 12:
            raise Enough

    link = observe(("127.0.0.1", 1)).link
    monkeypatch.setattr(module.gevent, "sleep", sleep)
    monkeypatch.setattr(link, "_open", lambda: (_ for _ in ()).throw(SwitchDown("no")))
    link._supervisor = gevent.getcurrent()
    with pytest.raises(Enough):
        link._supervise()
    link._supervisor = None
    assert all(0.25 * 2**n <= pause or pause == 30.0 for n, pause in enumerate(slept))
    assert all(pause <= 0.25 * 2**n * 1.5 for n, pause in enumerate(slept))
    assert slept[-3:] == [30.0] * 3
    assert len(set(slept[:6])) == 6
