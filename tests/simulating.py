"""Running `fsctl demo` and `fsctl simulate`, and what to look for afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(scratch):
    """Ours without fsctl's variables, with temporary files below ``scratch``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FSCTL_")}
    return {**kept, "TMPDIR": str(scratch)}


def program(*arguments, scratch, **options):
    """Run fsctl as people do; the working directory is the repository's."""
    return subprocess.run(
        [sys.executable, "-m", "fsctl", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env=environment(scratch), **options,
    )  # fmt: skip


def children():
    """The processes this one has started and not yet buried."""
    return Counter(
        child for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    )


class Told:
    """The JSON lines of a run."""

    def __init__(self, code, out):
        self.code = code
        self.lines = [json.loads(line) for line in out.splitlines()]

    def of(self, kind):
        return [line for line in self.lines if line.get("kind") == kind]

    def commands(self, method=None):
        return [line["command"] for line in self.of("freeswitch") if method in (None, line["method"])]

    def results(self, method):
        return [line for line in self.of("result") if line["method"] == method]

    @property
    def notes(self):
        return [line["text"] for line in self.of("note")]

    @property
    def variables(self):
        (script,) = self.of("script")
        return script["variables"]

    @property
    def methods(self):
        return [line["method"] for line in self.of("method")]
