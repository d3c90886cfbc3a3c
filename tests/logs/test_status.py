"""Our states and end reasons in the reference's words, one by one (calling-api.md 5.2, 6.1, 7)."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fsctl.call.states import CALL
from fsctl.freeswitch.causes import END_REASONS
from fsctl.logs.status import LEG_STATUSES, LOG_STATUSES, direction, leg_status, leg_type, log_status

SPEC = Path(__file__).parents[3] / "shared/spec/data/calling-api.openapi.yaml"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("", "queued"),
        ("queued", "queued"),
        ("initiated", "initiated"),
        ("created", "created"),
        ("ringing", "ringing"),
        ("answered", "answered"),
        ("ending", "ending"),
    ],
)
@pytest.mark.parametrize("answered", [True, False])
def test_a_live_call_is_told_by_its_state(state, status, answered):
    assert leg_status(state, None, None) == status
    assert log_status(state, None, None, answered=answered) == status


@pytest.mark.parametrize(
    ("end_reason", "ended_by", "status"),
    [
        pytest.param("hangup", None, "ended", id="hangup complete"),
        pytest.param("busy", None, "ended", id="the leg's own words know no busy"),
        pytest.param("no_answer", None, "ended", id="nor no-answer"),
        pytest.param("declined", None, "ended", id="declined"),
        pytest.param("abandoned", None, "ended", id="abandoned"),
        pytest.param("max_duration", None, "ended", id="max_duration"),
        pytest.param("not_found", None, "ended", id="not_found"),
        pytest.param("error", None, "ended", id="an error on a channel"),
        pytest.param("error", "failed", "failed", id="no channel was made"),
        pytest.param("cancel", None, "canceled", id="cancelled"),
        pytest.param("cancel", "canceled", "canceled", id="update canceled"),
        pytest.param("hangup", "completed", "completed", id="update completed"),
        pytest.param("error", "canceled", "canceled", id="what ended it says more than how"),
        pytest.param(None, None, "ended", id="nobody saw it"),
        pytest.param("hangup", "moon", "ended", id="an end we do not know"),
    ],
)
def test_the_end_of_a_leg(end_reason, ended_by, status):
    assert leg_status("ended", end_reason, ended_by) == status


@pytest.mark.parametrize(
    ("end_reason", "ended_by", "answered", "status"),
    [
        pytest.param("hangup", None, True, "completed", id="hangup"),
        pytest.param("max_duration", None, True, "completed", id="max_duration"),
        pytest.param("busy", None, True, "completed", id="a script's busy after the answer"),
        pytest.param("error", None, True, "failed", id="broken down"),
        pytest.param("busy", None, False, "busy", id="busy"),
        pytest.param("declined", None, False, "busy", id="declined"),
        pytest.param("no_answer", None, False, "no-answer", id="no answer"),
        pytest.param("cancel", None, False, "canceled", id="cancel"),
        pytest.param("abandoned", None, False, "canceled", id="abandoned"),
        pytest.param("not_found", None, False, "failed", id="not found"),
        pytest.param("error", None, False, "failed", id="error"),
        pytest.param("hangup", None, False, "ended", id="hung up before the answer"),
        pytest.param("hangup", "completed", True, "completed", id="update completed"),
        pytest.param("cancel", "canceled", False, "canceled", id="update canceled"),
        pytest.param(None, None, True, "ended", id="nobody saw it"),
        pytest.param(None, None, False, "ended", id="nobody saw it, not answered"),
    ],
)
def test_the_end_of_a_log(end_reason, ended_by, answered, status):
    assert log_status("ended", end_reason, ended_by, answered=answered) == status


def test_every_state_and_reason_has_a_word_of_the_reference():
    for state in CALL:
        for reason in (None, *END_REASONS, "something new"):
            for ended_by in (None, "failed", "canceled", "completed"):
                assert leg_status(state, reason, ended_by) in LEG_STATUSES
                for answered in (True, False):
                    assert log_status(state, reason, ended_by, answered=answered) in LOG_STATUSES


@pytest.mark.parametrize(("ours", "theirs"), [("inbound", "inbound"), ("outbound", "outbound-api")])
def test_directions(ours, theirs):
    assert direction(ours) == theirs


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("phone", "relay_pstn_call"),
        ("sip", "relay_sip_call"),
        ("webrtc", "relay_webrtc_call"),
        ("carrier pigeon", "relay_sip_call"),
    ],
)
def test_types(ours, theirs):
    assert leg_type(ours) == theirs


def test_the_sets_are_the_published_ones():
    if not SPEC.exists():
        pytest.skip("the published schemas are not beside the repository")
    schemas = yaml.safe_load(SPEC.read_text())["components"]["schemas"]

    assert set(schemas["Calling.CallResponseStatus"]["enum"]) == LEG_STATUSES
    assert set(schemas["Voice.VoiceLogStatus"]["enum"]) == LOG_STATUSES
    assert leg_type("sip") in schemas["Voice.RelayVoiceType"]["enum"]
    assert direction("outbound") in schemas["Voice.VoiceDirection"]["enum"]
