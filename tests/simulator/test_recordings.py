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

pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="the recordings are not at ../shared/recordings")

NOT_REPLAYED = {
    "conference_queue": (r"execute-app-name: (conference|fifo)\b|^api conference |^api uuid_break ",),
}
"""Commands left out, with everything they caused: there are no conferences and no queues."""

NOT_EXPECTED = {
    "conference_queue": (
        "execute-app-name: conference",
        "execute-app-name: fifo",
        "api conference",
        "api uuid_break",
    ),
}

COMPARED = (
    "Event-Name Event-Subclass Event-Calling-File Event-Calling-Function Channel-State Channel-Call-State "
    "Channel-State-Number Answer-State Hangup-Cause Call-Direction Channel-Read-Codec-Name Caller-Direction "
    "Caller-Destination-Number Caller-Caller-ID-Number Application Application-Data Application-Response "
    "Playback-Status Playback-File-Path Playback-File-Type event_test Record-File-Path Record-Completion-Cause "
    "Media-Bug-Function Media-Bug-Target DTMF-Digit DTMF-Duration DTMF-Source Job-Command Job-Command-Arg _body "
    "Other-Type Other-Leg-Direction Other-Leg-Destination-Number Caller-Callee-ID-Number "
    "variable_direction variable_current_application variable_current_application_data "
    "variable_current_application_response variable_current_loop variable_total_loops variable_playback_ms "
    "variable_playback_seconds variable_playback_samples variable_playback_terminator_used variable_read_result "
    "variable_read_terminator_used variable_fsctl_digits variable_fsctl_digits2 variable_fsctl_read variable_evil "
    "variable_record_completion_cause variable_silence_hits_exhausted variable_endpoint_disposition "
    "variable_hangup_cause variable_hangup_cause_q850 variable_digits_dialed variable_last_app variable_last_arg "
    "variable_sip_hangup_disposition variable_originate_disposition variable_DIALSTATUS "
    "variable_originate_failed_cause variable_bridge_hangup_cause variable_last_bridge_hangup_cause"
).split()


def replaced(text, folder):
    """A recording's paths as paths below ``folder``."""
    text = re.sub(r"/srv/media|/dev/shm|/nonexistent", lambda found: f"{folder}{found.group()}", text)
    head, separator, body = text.partition("content-length: ")
    if separator:
        argument = body.partition("\n\n")[2].rstrip("\n")
        text = f"{head}content-length: {len(argument.encode())}\n\n{argument}"
    return text


def replay(desk, name, folder, read_message, closed):
    """Replay one recording; what the recorded and what the simulated switch said, as messages."""
    lines = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    recorded = [read_message(line["data"].encode()) for line in lines if line["from"] == "freeswitch"]
    uuid = recorded[0].headers["Unique-ID"]
    clock = Clock(SPEED)
    clock._origin += int(recorded[0].headers["Event-Date-Timestamp"]) / 1e6 - clock.now()
    switch = desk.switch(
        clock=clock,
        streams=Scripted(
            {
                "/ok": Outcome(echo=True),
                "/close": Outcome(close=(1011, "boom"), close_after=0.5 / SPEED),
                "/refused": Outcome.refuse(),
            }
        ),
        parties={
            "2003": Party(cause="USER_BUSY"),
            "2000": Party(talks=2.0),
            "2001": Party(),
            "2004": Party(after=5.0),
        },
        extensions={"2002": [("answer", ""), ("park", "")]},
    )
    before_park = next(
        (sum(one["from"] == "application" for one in lines[:at]) for at, one in enumerate(lines)
         if "Event-Name: CHANNEL_PARK" in one["data"] or '"CHANNEL_PARK"' in one["data"]), 1
    )
    switch.call(
        uuid=uuid,
        caller="+15551230001",
        destination="1000",
        behaviour=Caller(speaks=((0.0, math.inf),)),
        nasty=Nasty(park_at=before_park - 1 if before_park < 9 else 0),
        dialplan=[("socket", f"{desk.address[0]}:{desk.address[1]} async full")],
    )
    application = desk.arrived()
    began = clock.monotonic()
    late = 0.0
    awaited = 0
    for line in lines:
        if line["from"] == "freeswitch":
            awaited += 1
            continue
        while len(application.messages) < awaited:
            application.next()
        late = max(late, clock.monotonic() - began - line["t"])
        clock.sleep(max(0.0, line["t"] + late - (clock.monotonic() - began)))
        application.send(replaced(line["data"], folder))
    application.closed()
    return recorded, application.messages


def described(message, folder):
    """What is compared of a message, as lines."""
    lines = [f"{message.kind} {' '.join(message.names if message.kind != 'connect' else [])}"]
    if message.kind == "connect":
        lines.extend(message.names)
    elif message.event:
        lines.extend(message.event_names)
        for name in COMPARED:
            if name in message.event:
                lines.append(f"  {name}: {message.event[name]}".replace(str(folder), ""))
        if "op-" in str(message.event.get("Application-UUID", "")):
            lines.append(f"  Application-UUID: {message.event['Application-UUID']}")
    else:
        lines.append(message.reply + message.text)
    return lines

IGNORED=()

@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "srv/media/sounds").mkdir(parents=True)
    (tmp_path / "dev/shm").mkdir(parents=True)
    for name, seconds in (("short", 0.2), ("tone", 2.0)):
        with wave.open(str(tmp_path / f"srv/media/sounds/{name}.wav"), "wb") as made:
            made.setparams((1, 2, 8000, 0, "NONE", ""))
            made.writeframes(bytes(round(seconds * 16000)))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_the_switch_says_what_was_recorded(name, desk, sounds, read_message, closed):
    recorded, simulated = replay(desk, name, sounds, read_message, closed)
    import difflib
    a=[l for m in recorded for l in described(m, sounds)]
    b=[l for m in simulated for l in described(m, sounds)]
    Path(f'/tmp/rec_{name}.diff').write_text('\n'.join(difflib.unified_diff(a,b,lineterm='',n=1)))
    Path(f'/tmp/rec_{name}.a').write_text('\n'.join(a)); Path(f'/tmp/rec_{name}.b').write_text('\n'.join(b))
    assert a==b
