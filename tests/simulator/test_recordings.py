"""The simulator against recorded conversations: the application's side is replayed, what comes back is compared.

What is not imitated stands in the tables below, entry by entry with its reason; everything else has to be the same:
the order of messages, their form, reply texts, header names and their order, and the values of ``COMPARED``.
"""

from __future__ import annotations

import json
import math
import re
import wave
from pathlib import Path

import pytest

from fsctl.clock import Clock
from fsctl.simulator import Caller, Nasty, Outcome, Party, Scripted

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "recordings"
SPEED = 20.0
NAMES = (
    "answer_play_hangup",
    "bridge",
    "conference_queue",
    "digits",
    "json_events",
    "play",
    "record",
    "remote_hangup",
    "stream",
)

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not at ../shared/recordings")

QUEUES = "there are no conferences and no queues"
NOT_REPLAYED = {
    ("conference_queue", 16): f"application conference: {QUEUES}",
    ("conference_queue", 22): f"api conference list: {QUEUES}",
    ("conference_queue", 24): f"api conference kick: {QUEUES}",
    ("conference_queue", 29): f"application fifo: {QUEUES}",
    ("conference_queue", 33): f"uuid_break ends nothing where no fifo plays: {QUEUES}",
}
"""Commands left out: recording and line (from 0), and why."""

NOT_EXPECTED = {
    ("conference_queue", 17): "reply to a command left out",
    ("conference_queue", 18): "execution of a command left out",
    **{("conference_queue", line): "event of a conference" for line in (19, 20, 21, 26, 27)},
    ("conference_queue", 23): "reply to a command left out",
    ("conference_queue", 25): "reply to a command left out",
    ("conference_queue", 28): "execution of a command left out",
    ("conference_queue", 30): "reply to a command left out",
    ("conference_queue", 31): "execution of a command left out",
    ("conference_queue", 32): "event of a queue",
    ("conference_queue", 34): "reply to a command left out",
    ("conference_queue", 37): "event of a queue",
    ("conference_queue", 38): "execution of a command left out",
}
"""Messages of the switch that therefore do not come."""

NAMES_NOT_COMPARED = {
    "conference_queue": (
        (r"variable_(conference_|fifo_|app_session_uuid)", "left behind by a command left out"),
        (r"variable_read_(codec|rate)", "renewed by the conference"),
        (r"variable_current_application", "names a command left out, or is in its place"),
    ),
}
"""Header names that may be missing or elsewhere: a pattern and why."""

COMPARED = [
    "Event-Name",
    "Event-Subclass",
    "Event-Calling-File",
    "Event-Calling-Function",
    "Channel-State",
    "Channel-Call-State",
    "Channel-State-Number",
    "Answer-State",
    "Hangup-Cause",
    "Call-Direction",
    "Channel-Read-Codec-Name",
    "Caller-Direction",
    "Caller-Destination-Number",
    "Caller-Caller-ID-Number",
    "Application",
    "Application-Data",
    "Application-Response",
    "Playback-Status",
    "Playback-File-Path",
    "Playback-File-Type",
    "event_test",
    "Record-File-Path",
    "Record-Completion-Cause",
    "Media-Bug-Function",
    "Media-Bug-Target",
    "DTMF-Digit",
    "DTMF-Duration",
    "DTMF-Source",
    "Job-Command",
    "Job-Command-Arg",
    "_body",
    "Other-Type",
    "Other-Leg-Direction",
    "Other-Leg-Destination-Number",
    "Caller-Callee-ID-Number",
    "variable_direction",
    "variable_current_application",
    "variable_current_application_data",
    "variable_current_application_response",
    "variable_current_loop",
    "variable_total_loops",
    "variable_playback_ms",
    "variable_playback_seconds",
    "variable_playback_samples",
    "variable_playback_terminator_used",
    "variable_read_result",
    "variable_read_terminator_used",
    "variable_fsctl_digits",
    "variable_fsctl_digits2",
    "variable_fsctl_read",
    "variable_evil",
    "variable_record_completion_cause",
    "variable_silence_hits_exhausted",
    "variable_endpoint_disposition",
    "variable_hangup_cause",
    "variable_hangup_cause_q850",
    "variable_digits_dialed",
    "variable_last_app",
    "variable_last_arg",
    "variable_sip_hangup_disposition",
    "variable_originate_disposition",
    "variable_DIALSTATUS",
    "variable_originate_failed_cause",
    "variable_bridge_hangup_cause",
    "variable_last_bridge_hangup_cause",
]


VARIABLES_NOT_COMPARED = {
    ("conference_queue", 13): "here the party's ACK, and its variables, came before the end of answer, not after",
}
"""Messages of which the variables are not compared."""


def replaced(text, folder):
    """A recording's command with its paths below ``folder``."""
    text = re.sub(r"/srv/media|/dev/shm|/nonexistent", lambda found: f"{folder}{found.group()}", text)
    head, separator, body = text.partition("content-length: ")
    if separator:
        argument = body.partition("\n\n")[2].rstrip("\n")
        text = f"{head}content-length: {len(argument.encode())}\n\n{argument}"
    return text


def steps(lines):
    """The application's side: when to send what, after how many messages.

    Two ``sendmsg`` in a row go out together: the real switch took them at one tick, a fast one would run the first.
    """
    found = []
    awaited = 0
    for line in lines:
        if line["from"] == "freeswitch":
            awaited += 1
            continue
        text = line["data"]
        last = found[-1] if found else None
        if last and line["t"] - last[0] < 0.001 and text.startswith("sendmsg") and last[2].startswith("sendmsg"):
            found[-1] = (last[0], last[1], last[2] + text)
        else:
            found.append((line["t"], awaited, text))
    return found


def made_switch(desk, clock):
    return desk.switch(
        clock=clock,
        streams=Scripted(
            {
                "/ok": Outcome(echo=True),
                "/close": Outcome(close=(1011, "boom"), close_after=0.5 / SPEED),
                "/refused": Outcome.refuse(),
            }
        ),
        parties={"2003": Party(cause="USER_BUSY"), "2000": Party(talks=2.0), "2004": Party(after=5.0)},
        extensions={"2002": [("answer", ""), ("park", "")]},
    )


def replay(desk, name, folder, read_message):
    """Replay one recording; what the recorded (with line numbers) and the simulated switch said."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    kept = [
        (at, line) for at, line in enumerate(lines) if (name, at) not in NOT_REPLAYED and (name, at) not in NOT_EXPECTED
    ]
    recorded = [(at, read_message(line["data"].encode())) for at, line in kept if line["from"] == "freeswitch"]
    connect = recorded[0][1].headers
    clock = Clock(SPEED)
    # The second's fraction decides when a recording's limit comes: let it be the recorded one.
    clock._origin += int(connect["Event-Date-Timestamp"]) / 1e6 - clock.now()
    parked = next((at for at, (_, message) in enumerate(recorded) if message.name == "CHANNEL_PARK"), 99)
    switch = made_switch(desk, clock)
    switch.call(
        uuid=connect["Unique-ID"],
        caller="+15551230001",
        destination="1000",
        behaviour=Caller(speaks=((0.0, math.inf),)),
        nasty=Nasty(park_at=parked - 1 if parked < 7 else 0),
    )
    application = desk.arrived()
    began = clock.monotonic()
    late = 0.0
    for at, awaited, text in steps([line for _, line in kept]):
        while len(application.messages) < awaited:
            application.next()
        late = max(late, clock.monotonic() - began - at)
        clock.sleep(max(0.0, at + late - (clock.monotonic() - began)))
        application.send(replaced(text, folder))
    application.closed()
    return recorded, application.messages


def without_early_park(messages):
    """The park begins by itself while the first commands come in: its place among their replies is chance."""
    early = [message for message in messages[:8] if message.name == "CHANNEL_PARK"]
    return early + [message for message in messages if message not in early]


def described(name, message, paths, *, variables=True):
    """What is compared of a message, as lines."""
    skipped = [pattern for pattern, _ in NAMES_NOT_COMPARED.get(name, ())]
    skipped += [] if variables else ["variable_"]
    names = [*message.names, *message.event_names]
    lines = [f"{message.kind} {message.name}"]
    lines += [one for one in names if not any(re.match(pattern, one) for pattern in skipped)]
    if not message.event and message.kind != "connect":
        lines.append(UUID.sub("<uuid>", message.reply + message.text))
    values = {key: str(value) for key, value in message.event.items() if key in COMPARED and key in lines}
    if str(message.event.get("Application-UUID", "")).startswith("op-"):
        values["Application-UUID"] = str(message.event["Application-UUID"])
    compared = "\n".join(f"{key}: {value}" for key, value in sorted(values.items()))
    for text, instead in paths.items():
        compared = compared.replace(text, instead)
    return [*lines, *compared.split("\n")]


@pytest.fixture
def sounds(tmp_path):
    """A folder with the sounds the recordings play."""
    (tmp_path / "srv/media/sounds").mkdir(parents=True)
    (tmp_path / "dev/shm").mkdir(parents=True)
    for name, seconds in (("short", 0.2), ("tone", 2.0)):
        with wave.open(str(tmp_path / f"srv/media/sounds/{name}.wav"), "wb") as made:
            made.setparams((1, 2, 8000, 0, "NONE", ""))
            made.writeframes(bytes(round(seconds * 16000)))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_switch_says_what_was_recorded(name, desk, sounds, read_message):
    recorded, simulated = replay(desk, name, sounds, read_message)
    excused = {id(message) for line, message in recorded if (name, line) in VARIABLES_NOT_COMPARED}
    expected = without_early_park([message for _, message in recorded])
    said = without_early_park(simulated)
    assert [kind(message) for message in said] == [kind(message) for message in expected]
    paths = {str(sounds): "", f":{desk.address[1]} ": ":8084 "}
    for ours, theirs in zip(said, expected, strict=True):
        variables = id(theirs) not in excused
        assert described(name, ours, paths, variables=variables) == described(name, theirs, {}, variables=variables)


def kind(message):
    return f"{message.kind} {message.name} {message.event.get('Application', '')}"


def test_nothing_is_excused_that_no_recording_has():
    for name, line in (*NOT_REPLAYED, *NOT_EXPECTED, *VARIABLES_NOT_COMPARED):
        who = json.loads((RECORDINGS / f"{name}.jsonl").read_text().splitlines()[line])["from"]
        assert who == ("application" if (name, line) in NOT_REPLAYED else "freeswitch")
