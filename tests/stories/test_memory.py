"""What a call leaves in memory: nothing for the garbage collector to find, so that its memory is free at once.

Were a call part of a circle, some hundred calls would lie about until the collector runs, and stop everybody for it.
"""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from fsctl.simulator import Caller

SCRIPTS = {
    "benchmark": [
        {"answer": {}},
        {"record_call": {"control_id": "r", "status_url": "@web/record"}},
        {"play": {"url": "silence:0.2"}},
        {"stop_record_call": {"control_id": "r"}},
        {"hangup": {}},
    ],
    "hangup_by_the_party": [{"play": {"url": "silence:60"}}],
    "timers_and_digits": [
        {"answer": {"max_duration": 600}},
        {"record_call": {"terminators": "#", "max_length": 60}},
        {"prompt": {"play": "silence:1", "max_digits": 1, "initial_timeout": 1}},
        {"send_digits": {"digits": "12"}},
        {"sleep": 0.1},
    ],
    "a_record_that_fails": [{"record_call": {"format": "mp4"}}, {"stop_record_call": {"control_id": "nobody"}}],
    "stream": [{"stream": {"url": "ws://127.0.0.1:9/", "status_url": "@web/stream"}}, {"stop_stream": {}}],
    "broken": [{"goto": {"label": "nowhere"}}],
}


def left_behind():
    """The classes of fsctl, and how many of their objects only the collector can free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        names = [f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.garbage]
        return Counter(filter(ours, names))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


def ours(name):
    """Not the simulated FreeSWITCH's, nor the clock it is given."""
    return name.startswith("fsctl.") and not name.startswith(("fsctl.simulator.", "fsctl.clock.Clock"))


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_call_leaves_nothing_to_the_garbage_collector(stage, script):
    place = stage()
    behaviour = Caller(hangs_up_after=1) if "60" in str(script) else Caller()
    place.run(script, behaviour=behaviour)  # what is made once and kept is made by now
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            place.run(script, behaviour=behaviour)
        left = left_behind()
    finally:
        gc.enable()
    assert not left
