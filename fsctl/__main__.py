"""The program's entry: make the standard library cooperate with gevent, then hand over to the command line.

The only file that patches. Commands that run no calls are not patched, so that they answer at once.
"""

from __future__ import annotations

import sys

# The commands that run calls.
PATCHED = frozenset({"serve", "demo", "simulate", "stream-sink"})


def main() -> None:
    """Run the command named on the command line and exit with its code."""
    if PATCHED.intersection(sys.argv[1:2]):
        from gevent import monkey  # noqa: PLC0415 - it must come before every other import, and only for these

        monkey.patch_all()
    from fsctl.cli import run  # noqa: PLC0415 - it must come after the patching

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
