"""A leg that remembers what it is asked and answers with the facts it was given.

Keeps the contract of ``fsctl.call.leg.Leg``; ``tests/esl/test_leg.py`` holds both to it.
"""

from collections import deque
from contextlib import contextmanager, suppress

from fsctl.errors import CommandFailed, LegGone
from fsctl.freeswitch import commands, facts
from fsctl.freeswitch.commands import Api, Application


class FakeLeg:
    """``leg.when("playback", response="FILE NOT FOUND")`` and ``leg.when("uuid_record", reply="-ERR no")`` set answers;
    ``then=`` runs with the command's argument once it was given; ``lasts=`` is how long an application takes.
    A break ends a sound, unless it comes within ``begins_after`` seconds of the command: then there is none yet.
    """

    def __init__(self, clock, *, answered=False):
        self.uuid = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"
        self.clock = clock
        self.answered = answered
        self.gone = False
        self.cause = ""
        self.sent = []
        self.begins_after = 0.0
        self._breakable_from = None
        self._broken = False
        self._answers = {}
        self._listeners = {}

    # -- what the test arranges and looks at ------------------------------------------------------------------------

    def when(self, name, *, response="FILE PLAYED", reply="+OK", lasts=0.0, then=None):
        self._answers[name] = (response, reply, lasts, then)

    def happen(self, fact):
        """FreeSWITCH says this, now."""
        for listener in list(self._listeners.get(type(fact), ())):
            listener(fact)
        if isinstance(fact, facts.HungUp | facts.Ended):
            self.gone = True
            self.cause = fact.cause

    def at(self, seconds, fact):
        """FreeSWITCH says this, ``seconds`` from now."""
        self.clock.later(seconds, self.happen, fact)

    def applications(self, *names):
        return [c for c in self.sent if isinstance(c, Application) and (not names or c.name in names)]

    def apis(self, *names):
        return [c for c in self.sent if isinstance(c, Api) and (not names or c.name in names)]

    # -- the contract -----------------------------------------------------------------------------------------------

    def answer(self):
        self.ask(commands.answer(self.uuid))
        self.answered = True

    def pre_answer(self):
        self.ask(commands.pre_answer(self.uuid))

    def hang_up(self, cause):
        if not self.gone:
            self.sent.append(Api("uuid_kill", cause))
            self.happen(facts.HungUp(cause))

    def execute(self, application, seconds, accepted=None, longer=None):
        self._check()
        self.sent.append(application)
        response, reply, lasts, then = self._answers.get(application.name, ("FILE PLAYED", "+OK", 0.0, None))
        if reply.startswith("-"):
            raise CommandFailed(application.name, reply)
        if then is not None:
            then(application.argument)
        if accepted is not None:
            accepted()
        if application.name in ("playback", "speak"):
            self._broken, self._breakable_from = False, self.clock.now() + self.begins_after
        allowed = seconds
        self.clock.run(lambda: self.gone or self._broken, min(lasts, allowed))
        while lasts > allowed and not (self.gone or self._broken) and longer is not None and (more := longer()):
            self.clock.run(lambda: self.gone or self._broken, min(lasts - allowed, more))
            allowed += more
        self._breakable_from = None
        self._check()
        if self._broken:
            self._broken = False
            return facts.Completed("op", response)
        if lasts > allowed:
            raise CommandFailed(application.name, f"did not end within {allowed:g} s")
        return facts.Completed("op", response)

    def ask(self, api):
        self._check()
        self.sent.append(api)
        _, reply, _, then = self._answers.get(api.name, ("", "+OK", 0.0, None))
        if reply.startswith(("-ERR", "-USAGE")):
            raise CommandFailed(api.name, reply)
        if then is not None:
            then(api.argument)
        if api.name == "uuid_break" and self._breakable_from is not None:
            self._broken = self.clock.now() >= self._breakable_from
        return reply

    def job(self, api, seconds):
        return self.ask(api)

    def tell(self, *apis):
        for api in apis:
            if not self.gone:
                with suppress(CommandFailed):
                    self.ask(api)

    def clear(self):
        self.tell(commands.break_everything(self.uuid))
        self._broken = True

    def background(self, what):
        with suppress(LegGone):
            what()

    def fire(self, command):
        self.sent.append(command)

    @contextmanager
    def listen(self, *kinds):
        heard = _Facts(self)
        for kind in kinds:
            self._listeners.setdefault(kind, []).append(heard.queue.append)
        yield heard
        for kind in kinds:
            self._listeners[kind].remove(heard.queue.append)

    def react(self, kind, reaction):
        reactions = self._listeners.setdefault(kind, [])
        reactions.append(reaction)
        return lambda: reactions.remove(reaction) if reaction in reactions else None

    def waiter(self):
        return _Waiter(self)

    def _check(self):
        if self.gone:
            raise LegGone(self.cause)


class _Facts:
    def __init__(self, leg):
        self.leg = leg
        self.queue = deque()

    def next(self, seconds=None):
        self.leg.clock.run(lambda: self.queue or self.leg.gone, seconds)
        if self.queue:
            return self.queue.popleft()
        self.leg._check()
        return None


class _Waiter:
    def __init__(self, leg):
        self.leg = leg
        self.is_set = False

    def set(self):
        self.is_set = True

    def wait(self, seconds=None):
        self.leg.clock.run(lambda: self.is_set or self.leg.gone, seconds)
        if not self.is_set:
            self.leg._check()
        return self.is_set
