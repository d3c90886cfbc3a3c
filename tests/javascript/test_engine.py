"""Expressions as scripts use them, and as they try to hurt us."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsctl.errors import ExpressionError
from fsctl.javascript import Engine, child
from fsctl.javascript.engine import _quickjs_directory

MEMORY = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def engine():
    engine = Engine(memory_bytes=MEMORY)
    yield engine
    engine.close()


def problem(engine, source, names=None):
    with pytest.raises(ExpressionError) as caught:
        engine.evaluate(source, names or {})
    assert caught.value.source == source
    return caught.value.problem


def child_of(engine):
    return engine._quick.children[0].pid


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        gevent.sleep(0.005)


VALUES = {
    "int": ("40 + 2", 42),
    "integral float": ("4.5 * 2", 9),
    "float": ("1 / 4", 0.25),
    "large": ("1e20", 10**20),
    "negative zero": ("-0", 0),
    "nan": ("0 / 0", None),
    "infinity": ("1 / 0", None),
    "true": ("1 < 2", True),
    "null": ("null", None),
    "undefined": ("void 0", None),
    "nothing": ("", None),
    "text": ("'a' + \"b\"", "ab"),
    "unicode": ("'é€😀'", "é€😀"),
    "nul in text": (r"'a\0b'", "a\0b"),
    "half a pair": ("'😀'[0]", "\ufffd"),
    "half a pair inside": (r"({a: '\ud83d\ude00\ud800'})", {"a": "😀\ufffd"}),
    "backslash u d": (r"'\\ud800'", r"\ud800"),
    "array": ("[1, 'a', [null]]", [1, "a", [None]]),
    "holes": ("[1, , undefined]", [1, None, None]),
    "object": ("{a: 1, b: {c: 2}}", {"a": 1, "b": {"c": 2}}),
    "object member": ("{a: 1}.a", 1),
    "object with a comment": (" {a: 1} // {", {"a": 1}),
    "date": ("new Date(0)", "1970-01-01T00:00:00.000Z"),
    "boxed": ("new String('x')", "x"),
    "callbacks": ("[1, 2, 3].filter(n => n > 1).reduce((a, b) => a + b, 0)", 5),
    "trailing comment": ("1 // + 1", 1),
    "comma": ("1, 2", 2),
    "statements": ("var a = 1; a + 1", 2),
    "a loop that ends": ("let s = 0; for (const n of [1, 2]) s += n; s", 3),
    "regular expression": ("'+15550100'.match(/\\d+/)[0]", "15550100"),
    "json": ("JSON.parse('{\"a\": [1]}').a", [1]),
    "its own JSON": ("JSON.stringify = null, 1", 1),
}


@pytest.mark.parametrize(("source", "value"), VALUES.values(), ids=VALUES)
def test_values_come_back_as_json_types(engine, source, value):
    result = engine.evaluate(source, {})
    assert result == value
    assert type(result) is type(value)


REFUSED = {
    "syntax": ("1 +", "SyntaxError"),
    "unknown name": ("nobody", "ReferenceError: 'nobody' is not defined"),
    "closing bracket": ("1) + (2", "SyntaxError"),
    "closing brace": ("{a: 1}}) + ({", "SyntaxError"),
    "thrown text": ("throw 'no\\nway'", "no"),
    "thrown nothing": ("throw ''", "threw an error without a message"),
    "long message": ("throw 'x'.repeat(1e5)", "x" * 200),
    "function": ("() => 1", "the result is a function"),
    "symbol": ("Symbol('s')", "the result is a symbol"),
    "big integer": ("1n", "bigint"),
    "circular": ("const a = []; a.push(a); a", "circular"),
    "promise": ("(async () => 1)()", "the result is a promise"),
    "import": ("import('os')", "the result is a promise"),
    "await": ("await 1", "SyntaxError"),
    "no modules": ("std", "ReferenceError"),
    "no print": ("print('x')", "ReferenceError"),
    "recursion": ("(function f() { return f() + 1 })()", "too deep"),
    "nested source": ("[" * 20_000, "too deep"),
    "result too big": ("'x'.repeat(65536)", "65538 bytes of JSON, more than the 65536 allowed"),
    "nul in source": ("1\0 + 1", "NUL"),
    "half a pair in source": ("'\ud800'", "surrogates"),
}


@pytest.mark.parametrize(("source", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_value_fails_with_a_reason(engine, source, text):
    assert text in problem(engine, source)
    assert engine.evaluate("1", {}) == 1


def test_the_largest_result_allowed(engine):
    assert engine.evaluate("'x'.repeat(65534)", {}) == "x" * 65534


SCOPES = {
    "call": {"type": "phone", "a": "call", "b": "call", "c": "call"},
    "envs": {"a": "envs", "b": "envs", "api_host": "h"},
    "vars": {"a": "vars", "odd-name": 1, "vars": "mine", "if": 2},
    "params": {"a": "params", "only": "param"},
}

NAMES = {
    "vars win": ("a", "vars"),
    "then envs": ("b", "envs"),
    "then call": ("c", "call"),
    "call bare": ("type", "phone"),
    "root params": ("params.only", "param"),
    "params are not bare": ("typeof only", "undefined"),
    "roots": ("[call.a, envs.a, vars.a, params.a]", ["call", "envs", "vars", "params"]),
    "a root is never hidden": ("vars.vars", "mine"),
    "no identifier": ("vars['odd-name']", 1),
    "keyword": ("vars.if", 2),
    "computed": ("vars['a' + '']", "vars"),
    "escaped": (r"\u0061", "vars"),
    "through this": ("this['b']", "envs"),
    "through globalThis": ("globalThis['c']", "call"),
    "through eval": ("eval('b' + '')", "envs"),
    "through Function": ("Function('return ' + 'c')()", "call"),
    "keys": ("Object.keys(params)", ["a", "only"]),
    "in a template": ("`${a}-${b}`", "vars-envs"),
}


@pytest.mark.parametrize(("source", "value"), NAMES.values(), ids=NAMES)
def test_names_are_found_in_the_order_of_the_reference(engine, source, value):
    assert engine.evaluate(source, SCOPES) == value


HOSTILE_NAMES = {
    "undefined": 1,
    "NaN": 1,
    "__proto__": {"x": 1},
    "constructor": 1,
    "JSON": 1,
    "Promise": 1,
    "eval": 1,
    "TypeError": 1,
    "": 1,
    "globalThis": 1,
}


def test_a_variable_may_have_any_name(engine):
    assert engine.evaluate("this && vars.__proto__.x + 1", {"vars": HOSTILE_NAMES}) == 2
    assert engine.evaluate("this && undefined", {"vars": HOSTILE_NAMES}) is None
    assert engine.evaluate("JSON + 1", {"vars": HOSTILE_NAMES}) == 2


def test_missing_scopes_are_empty_objects(engine):
    assert engine.evaluate("[call, params, vars, envs]", {"vars": None}) == [{}, {}, {}, {}]


def test_mappings_need_not_be_dicts(engine):
    names = {"call": MappingProxyType({"headers": (MappingProxyType({"name": "X", "value": "1"}),)})}
    assert engine.evaluate("call.headers[0].value", names) == "1"


def test_expressions_work_on_copies(engine):
    variables = {"list": [3, 1, 2], "n": 1}
    assert engine.evaluate("vars.n = 5, n = 6, list.sort(), list", {"vars": variables}) == [1, 2, 3]
    assert variables == {"list": [3, 1, 2], "n": 1}
    assert engine.evaluate("n", {"vars": variables}) == 1


def test_nothing_is_left_for_the_next_expression(engine):
    engine.evaluate("globalThis.left = 1; Array.prototype.map = () => 'broken'; Object.freeze(globalThis); 1", {})
    assert engine.evaluate("typeof left + [1].map(x => x + 1)", {}) == "undefined2"


def test_numbers_json_does_not_have_are_null(engine):
    names = {"vars": {"nan": float("nan"), "deep": [{"inf": float("inf"), "one": 1.5}]}}
    assert engine.evaluate("[nan, deep]", names) == [None, [{"inf": None, "one": 1.5}]]


@pytest.mark.parametrize("value", [object(), {1, 2}], ids=["object", "set"])
def test_a_variable_that_is_no_json_fails_only_who_uses_it(engine, value):
    names = {"vars": {"bad": value, "good": 1}}
    assert "cannot be evaluated" in problem(engine, "bad", names)
    assert engine.evaluate("good", names) == 1


def test_a_variable_too_deep_for_json_is_an_error(engine):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert "cannot be evaluated" in problem(engine, "deep", {"vars": {"deep": deep}})


def test_more_variables_than_memory_are_refused_and_unused_ones_cost_nothing(engine):
    names = {"vars": {"huge": "x" * MEMORY, "small": 1}}
    assert "more than fit" in problem(engine, "huge.length", names)
    assert engine.evaluate("small", names) == 1


def test_a_large_variable_travels_whole(engine):
    assert engine.evaluate("body.length", {"vars": {"body": "é" * 300_000}}) == 300_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=json_values)
def test_any_json_comes_back_as_it_went_in(engine, value):
    assert engine.evaluate("x", {"vars": {"x": value}}) == value
    assert engine.evaluate("params.x", {"params": {"x": value}}) == value


@settings(max_examples=60, deadline=None)
@given(source=st.text(max_size=60))
def test_no_text_harms_the_engine(engine, source):
    with contextlib.suppress(ExpressionError):
        engine.evaluate(source, {"vars": {"x": 1}})
    assert engine.evaluate("x", {"vars": {"x": 1}}) == 1


BACKTRACKING = "/(a+)+$/.test('a'.repeat(50) + 'b')"
ENDLESS = {
    "loop": "while (true);",
    "loop that catches": "for (;;) { try { while (true); } catch {} finally { while (true); } }",
    "getter": "new Proxy({}, {get() { for (;;); }}).x",
    "comparator": "[2, 1].sort(() => { for (;;); })",
    "toJSON": "({toJSON() { for (;;); }})",
    "backtracking": BACKTRACKING,
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_is_ended(engine, source):
    started = time.monotonic()
    assert problem(engine, source) == "took longer than 150 ms"
    assert time.monotonic() - started < 5
    assert engine.evaluate("1", {}) == 1


def test_a_built_in_that_does_not_return_costs_the_child_its_life():
    engine = Engine(memory_bytes=MEMORY)
    engine.evaluate("1", {})
    before = child_of(engine)
    problem(engine, BACKTRACKING)
    assert (engine.evaluations, engine.kills, engine.deaths) == (2, 1, 0)
    wait_until(lambda: not alive(before))
    assert engine.evaluate("2", {}) == 2
    assert child_of(engine) != before
    engine.close()


HOGS = {
    "repeat": "'a'.repeat(1e9)",
    "pad": "''.padEnd(2e9).length",
    "array": "Array(1e9).fill('x').length",
    "growing": "let a = []; for (;;) a.push('x'.repeat(1000) + a.length)",
    "buffer": "new ArrayBuffer(1e9).byteLength",
    "doubling": "let s = 'x'; for (;;) s += s",
}


@pytest.mark.parametrize("source", HOGS.values(), ids=HOGS)
def test_memory_is_bounded(engine, source):
    assert problem(engine, source)
    if child_of(engine) is not None:
        status = Path(f"/proc/{child_of(engine)}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        assert peak < 6 * MEMORY
    assert engine.evaluate("1", {}) == 1


def test_a_child_that_died_is_replaced_without_anybody_noticing():
    engine = Engine(memory_bytes=MEMORY)
    engine.evaluate("1", {})
    before = child_of(engine)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: not alive(before))
    assert engine.evaluate("2", {}) == 2
    assert engine.deaths == 1
    assert child_of(engine) != before
    engine.close()


def test_a_child_that_dies_while_it_evaluates_is_tried_once_more_and_no_more():
    engine = Engine(memory_bytes=MEMORY, deadline_seconds=5.0)
    engine.evaluate("1", {})
    asked = gevent.spawn(problem, engine, BACKTRACKING)
    for _ in range(2):
        wait_until(lambda: child_of(engine) is not None and engine._quick.children[0]._socket is not None)
        victim = child_of(engine)
        gevent.sleep(0.1)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: child_of(engine) != victim)
    assert asked.get(timeout=10) == "ended the process that evaluated it"
    assert engine.deaths == 2
    engine.close()


def test_signals_for_the_service_do_not_end_the_child():
    engine = Engine(memory_bytes=MEMORY)
    engine.evaluate("1", {})
    before = child_of(engine)
    os.kill(before, signal.SIGTERM)
    os.kill(before, signal.SIGINT)
    assert engine.evaluate("2", {}) == 2
    assert child_of(engine) == before
    engine.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_expression_among_fifty_fails_alone(workers):
    engine = Engine(memory_bytes=MEMORY, workers=workers)

    def ask(number):
        if number == 10:
            return problem(engine, BACKTRACKING)
        return engine.evaluate("n * 2", {"vars": {"n": number}})

    greenlets = [gevent.spawn(ask, number) for number in range(50)]
    gevent.joinall(greenlets, timeout=30)
    results = [greenlet.get(block=False) for greenlet in greenlets]
    assert results == ["took longer than 150 ms" if n == 10 else n * 2 for n in range(50)]
    assert (engine.kills, engine.deaths) == (1, 0)
    engine.close()


def test_turns_are_taken_in_order_even_against_somebody_who_keeps_coming():
    engine = Engine(memory_bytes=MEMORY)
    engine.evaluate("1", {})
    served = []

    def ask(name, times):
        for _ in range(times):
            engine.evaluate("1", {})
            served.append(name)

    greenlets = [gevent.spawn(ask, "greedy", 20), gevent.spawn(ask, "modest", 1)]
    gevent.joinall(greenlets, timeout=10)
    assert served.index("modest") <= 2
    engine.close()


def test_a_greenlet_killed_while_it_evaluates_leaves_no_answer_behind():
    engine = Engine(memory_bytes=MEMORY, deadline_seconds=5.0)
    engine.evaluate("1", {})
    running = gevent.spawn(engine.evaluate, "let n = 0; while (n < 3e5) n++; 'stale'", {})
    waiting = gevent.spawn(engine.evaluate, "'never'", {})
    gevent.sleep(0)
    gevent.sleep(0)
    waiting.kill()
    running.kill()
    assert engine.evaluate("'fresh'", {}) == "fresh"
    assert engine.deaths == 0
    engine.close()


def test_an_answer_in_time_counts_even_when_we_were_too_busy_to_see_it(engine):
    engine.evaluate("1", {})
    asked = gevent.spawn(engine.evaluate, "42", {})
    gevent.sleep(0)
    busy_until = time.monotonic() + 0.4
    while time.monotonic() < busy_until:
        pass
    assert asked.get(timeout=5) == 42


def test_close_kills_the_child_and_fails_who_waits():
    engine = Engine(memory_bytes=MEMORY, deadline_seconds=5.0)
    engine.evaluate("1", {})
    pid = child_of(engine)
    running = gevent.spawn(problem, engine, BACKTRACKING)
    waiting = gevent.spawn(problem, engine, "1")
    gevent.sleep(0.05)
    engine.close()
    assert "closed" in running.get(timeout=5)
    assert "closed" in waiting.get(timeout=5)
    wait_until(lambda: not alive(pid))
    assert child_of(engine) is None
    assert "closed" in problem(engine, "1")


ORPHAN = f"""
from gevent import monkey; monkey.patch_all()
import os, sys, gevent
from fsctl.javascript import Engine
engine = Engine(memory_bytes={MEMORY}, deadline_seconds=60.0)
engine.evaluate("1", {{}})
print(engine._quick.children[0].pid, flush=True)
gevent.spawn(engine.evaluate, sys.argv[1], {{}})
gevent.sleep(0.2)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("source", ["1", BACKTRACKING], ids=["idle", "in an endless built-in"])
def test_a_child_does_not_outlive_its_parent(source):
    root = Path(__file__).parents[2]
    parent = subprocess.run(
        [sys.executable, "-c", ORPHAN, source], cwd=root, capture_output=True, text=True, check=False
    )
    pid = int(parent.stdout)
    try:
        wait_until(lambda: not alive(pid), seconds=20)
    finally:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("asked", [False, True], ids=["idle", "with an answer under way"])
def test_a_child_whose_parent_leaves_without_listening_has_nothing_to_say(asked):
    """What it prints would be in the service's log whenever that stops."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-I", "-S", child.__file__, _quickjs_directory(), str(2**24), "1"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        theirs.close()
        if asked:
            assert ours.recv(1) == child.STARTED
            names, source = b"[]", b"'x'.repeat(100)"
            ours.sendall(child.REQUEST.pack(len(names), len(source)) + names + source)
        assert select.select([ours], [], [], 10)[0]  # it has said something
        ours.close()
        assert process.wait(10) == 0
        assert process.stderr.read() == b""


def test_the_child_inherits_nothing(monkeypatch):
    monkeypatch.setenv("FSCTL_SECRET", "hunter2")
    with open(__file__, "rb") as held:  # noqa: PTH123
        os.set_inheritable(held.fileno(), True)
        engine = Engine(memory_bytes=MEMORY)
        engine.evaluate("1", {})
        pid = child_of(engine)
        assert b"hunter2" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")} == {0, 1, 2}  # noqa: PTH208
        assert os.getpgid(pid) == pid
        modules = Path(f"/proc/{pid}/maps").read_text()
        assert "_quickjs" in modules
        assert "gevent" not in modules
    engine.close()


def test_an_expression_that_is_always_late_makes_only_its_like_wait():
    """A script that loops in an expression, and asks for it again and again, is kept apart after the first time."""
    engine = Engine(memory_bytes=32 << 20, deadline_seconds=0.15)
    loops = "(() => { while (true) {} })()"
    try:
        with pytest.raises(ExpressionError, match="longer than"):
            engine.evaluate(loops, {})
        late = [gevent.spawn(_fails, engine, loops) for _ in range(8)]
        gevent.sleep(0)

        assert engine.evaluate("1 + 1", {}) == 2
        assert not late[-1].ready()  # while its like still wait for each other
        assert gevent.joinall(late, timeout=20, raise_error=True)
    finally:
        engine.close()


def _fails(engine, source):
    with pytest.raises(ExpressionError):
        engine.evaluate(source, {})
