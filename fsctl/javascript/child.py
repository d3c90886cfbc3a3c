"""The process that runs expressions: QuickJS between two frames, nothing else.

Started by :mod:`fsctl.javascript.engine` as a plain file (``python -I -S child.py QUICKJS_DIR MEMORY_BYTES SECONDS``)
so that it loads neither fsctl nor site-packages: what it does not have it cannot leak, and it is up in a few
hundredths of a second. It speaks over file descriptor 0, a socket, and ends when that ends.

Both frames are a fixed head and a body. A request is two texts: the names as JSON and the source. An answer is a status
(``=`` a value as JSON, ``!`` a sentence saying why there is none) and its text. ``>`` alone says "started".

It does not keep its own time beyond the engine's time limit and an alarm clock: a built-in that never returns is the
parent's to kill, and the alarm's when there is no parent any more.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import struct
import sys
from typing import Any

__all__ = ["ANSWER", "FAILURE", "MAX_RESULT", "MEMORY", "REQUEST", "STARTED", "TIME", "VALUE"]

REQUEST = struct.Struct(">II")  # bytes of names, bytes of source
ANSWER = struct.Struct(">cI")  # status, bytes of text
STARTED, VALUE, FAILURE = b">", b"=", b"!"

TIME = "took too long"
MEMORY = "needs too much memory"
MAX_RESULT = 65_536
MAX_PROBLEM = 200
STACK = 1024 * 1024
SLACK = 64 * 1024 * 1024  # address space beyond what the process has at its start and QuickJS may take
ALARM_SECONDS = 5.0  # far beyond any deadline of the parent's

# Keeps what it needs of the built-ins before the expression can replace them, and answers the function that runs one.
# The source goes through an indirect eval as a string of its own, so that nothing in it can close a bracket of ours. A
# source that starts with a brace means an object, not a block.
PRELUDE = """
((global, evaluate, {parse, stringify}, {keys, defineProperty}, Deferred) => {
  const refuse = problem => { throw new TypeError(problem); };
  const show = scope => {
    for (const name of keys(scope)) {
      try {
        defineProperty(global, name, {value: scope[name], writable: true, enumerable: true, configurable: true});
      } catch {}  // undefined, NaN and Infinity stay what they are
    }
  };
  return (text, source) => {
    const names = parse(text);
    show(names.call);
    show(names.envs);
    show(names.vars);
    show(names);
    const value = evaluate(/^\\s*\\{/.test(source) ? `(${source}\\n)` : source);
    if (value === undefined) return "null";
    if (value instanceof Deferred) refuse("the result is a promise: an expression cannot wait");
    const result = stringify(value);
    if (typeof result !== "string") refuse("the result is a " + typeof value + ", not a value");
    return result;
  };
})(globalThis, eval, JSON, Object, Promise)
"""


def main(directory: str, memory: int, seconds: float) -> None:
    """Answer requests until the other end closes."""
    sys.path.append(directory)
    quickjs = importlib.import_module("_quickjs")
    sys.path.remove(directory)
    os.set_blocking(0, True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the service, which may still be draining its calls
    confine(memory)
    gc.disable()  # a context is freed when its last name goes; there are no cycles to look for

    incoming = open(0, "rb", closefd=False)  # noqa: SIM115 - for as long as the process lives
    os.write(0, STARTED)
    while True:
        run = prepare(quickjs, memory, seconds)
        head = incoming.read(REQUEST.size)
        if len(head) < REQUEST.size:
            return
        names, source = (incoming.read(size).decode() for size in REQUEST.unpack(head))
        signal.setitimer(signal.ITIMER_REAL, ALARM_SECONDS)
        status, text = answer(quickjs, run, names, source)
        signal.setitimer(signal.ITIMER_REAL, 0)
        write(ANSWER.pack(status, len(text)) + text)


def confine(memory: int) -> None:
    """Give up what an expression never needs: files, processes, core dumps, memory without end."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - pathlib costs more than the rest of the start
        have = int(statm.read().split()[0]) * resource.getpagesize()
    for limit, value in (
        (resource.RLIMIT_AS, have + memory + SLACK),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(limit, (value, value))


def prepare(quickjs: Any, memory: int, seconds: float) -> Any:
    """Make a fresh context; the answer evaluates one expression in it: ``(names, source) -> JSON``."""
    context = quickjs.Context()
    context.set_memory_limit(memory)
    context.set_max_stack_size(STACK)
    context.set_time_limit(seconds)
    return context.eval(PRELUDE)


def answer(quickjs: Any, run: Any, names: str, source: str) -> tuple[bytes, bytes]:
    """Evaluate one expression: the status and the text to send back."""
    try:
        text = run(names, source).encode()
    except quickjs.StackOverflow:
        return FAILURE, b"nests or recurses too deep"
    except quickjs.JSException as error:
        return FAILURE, problem(str(error)).encode(errors="replace")
    except MemoryError:
        return FAILURE, MEMORY.encode()
    except Exception as error:  # noqa: BLE001 - whatever the binding cannot take or give
        return FAILURE, f"cannot be evaluated: {error}"[:MAX_PROBLEM].encode(errors="replace")
    if len(text) > MAX_RESULT:
        return FAILURE, f"gives {len(text)} bytes of JSON, more than the {MAX_RESULT} allowed".encode()
    return VALUE, text


def problem(text: str) -> str:
    """One sentence from a JavaScript error, whose further lines are its stack."""
    line = text.partition("\n")[0].strip()
    if line == "InternalError: interrupted":
        return TIME
    if line == "InternalError: out of memory" or line.startswith("(Failed obtaining QuickJS error string"):
        return MEMORY
    return line[:MAX_PROBLEM] or "threw an error without a message"


def write(data: bytes) -> None:
    """Write all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(0, view) :]


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
    except (ConnectionResetError, BrokenPipeError):  # the other end closed, and had not read all we said
        sys.exit(0)
