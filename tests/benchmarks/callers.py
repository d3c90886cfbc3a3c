"""Callers over SIP: ``python -m tests.benchmarks.callers NUMBER CALLS RATE SECONDS``.

Each calls, and hangs up SECONDS after the answer, or (0) waits until it is hung up. Prints one JSON line: of
every call the milliseconds from INVITE to 200 and to its end. Bounded in number and time.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402 - after the patching
import json  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402

from tests.live.phone import Phone  # noqa: E402

LONGEST_CALL = 20.0


def call(number, seconds):
    """One call; the milliseconds to its answer and to its end."""
    phone = Phone(mute=True)
    try:
        phone.call(number).wait_answer(LONGEST_CALL)
        if seconds:
            gevent.sleep(seconds)
            phone.hang_up()
        phone.wait_hung_up(LONGEST_CALL)
        return [1000 * (at - phone.invited_at) for at in (phone.answered_at, phone.hung_up_at)]
    finally:
        phone.close()


def main():
    number, count, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    gc.disable()
    started = time.monotonic()
    callers = []
    for index in range(count):
        gevent.sleep(max(started + index / rate - time.monotonic(), 0))
        callers.append(gevent.spawn(call, number, seconds))
    gevent.joinall(callers, raise_error=True)
    print(json.dumps([caller.value for caller in callers]), flush=True)


if __name__ == "__main__":
    main()
