"""The conversations recorded from a real FreeSWITCH, where they are at hand."""

import json
from pathlib import Path

import pytest

DIRECTORY = Path(__file__).parents[2] / "shared" / "recordings"


def conversation(name):
    """The messages of one recording: (who sent it, its bytes). Skips the test where recordings are not at hand."""
    path = DIRECTORY / f"{name}.jsonl"
    if not path.exists():
        pytest.skip("the recorded conversations are not beside this checkout")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["from"], line["data"].encode()) for line in lines]


NAMES = (
    "answer_play_hangup",
    "json_events",
    "stream",
    "record",
    "play",
    "digits",
    "bridge",
    "conference_queue",
    "remote_hangup",
)
