"""A caller who talks to recordings, and a switch whose application is overheard."""

from __future__ import annotations

import wave

import pytest

from fsctl.simulator import Caller

TIMEOUTS = "{RECORD_INITIAL_TIMEOUT_MS=3000,RECORD_FINAL_TIMEOUT_MS=1000}"


@pytest.fixture
def record(desk, tmp_path):
    """Records a caller until they are silent; gives why it ended and the audio."""

    def run(behaviour, times=1):
        switch = desk.switch()
        call = switch.call(behaviour=behaviour)
        application = desk.arrived()
        application.take("CHANNEL_EXECUTE_COMPLETE RECORD_STOP")
        application.run("answer", uuid="op-answer")
        ended = []
        for number in range(times):
            path = str(tmp_path / f"{number}.wav")
            assert application.api(f"uuid_record {call.uuid} start {path} 0 {TIMEOUTS}") == "+OK Success\n"
            cause = application.until("RECORD_STOP").event["Record-Completion-Cause"]
            with wave.open(path) as opened:
                ended.append((cause, any(opened.readframes(opened.getnframes()))))
        return ended

    return run


def test_a_caller_who_dictates_talks_to_every_recording(record):
    assert record(Caller(dictates=1.0), times=2) == [("success-silence", True)] * 2


def test_one_who_does_not_is_silent(record):
    assert record(Caller()) == [("no-input-timeout", False)]


def test_what_the_application_says_is_overheard_in_order(desk):
    heard = []
    switch = desk.switch(overhears=heard.append)
    call = switch.call()
    application = desk.arrived()
    application.take("CHANNEL_ANSWER")
    application.api(f"uuid_exists {call.uuid}")
    assert [said.text.split()[0] for said in heard][-1] == "api"
    assert [said for said in call.transcript if said.who == "application"] == heard
    assert heard[0].text.startswith("connect")
