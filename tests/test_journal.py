"""What of a call's events reaches the log."""

import pytest
from structlog.testing import capture_logs

from fsctl.call.events import CallStateChanged, ControlChanged, MethodFinished, ScriptWarning
from fsctl.journal import journal
from tests.fakes.call import CALL_ID, info


@pytest.mark.parametrize(
    ("event", "line"),
    [
        pytest.param(
            ScriptWarning(
                info(), "relay_script_x", "it is", 1.0, section="main", index=2, path="main[2]", method="play"
            ),
            {
                "event": "script_warning",
                "log_level": "warning",
                "code": "relay_script_x",
                "problem": "it is",
                "section": "main",
                "index": 2,
                "at": "main[2]",
                "method": "play",
            },
            id="warning",
        ),
        pytest.param(
            ScriptWarning(info(), "relay_script_x", "it is", 1.0, fatal=True),
            {"event": "script_error", "log_level": "error"},
            id="fatal",
        ),
        pytest.param(
            ControlChanged(info(), "record", "record_call", "r-1", "finished", 1.0),
            {
                "event": "control",
                "log_level": "debug",
                "control_id": "r-1",
                "kind": "record",
                "state": "finished",
                "method": "record_call",
            },
            id="control",
        ),
        pytest.param(
            MethodFinished(info(), "play", "main", "main[0]", "failed", 0.25, 1.0),
            {"event": "method", "log_level": "debug", "method": "play", "outcome": "failed", "seconds": 0.25},
            id="method",
        ),
    ],
)
def test_a_line_says_whose_it_is_and_what_happened(event, line):
    with capture_logs() as lines:
        journal(event)

    assert len(lines) == 1
    assert {"call_id": CALL_ID, **line}.items() <= lines[0].items()


def test_states_are_the_sessions_to_tell():
    with capture_logs() as lines:
        journal(CallStateChanged(info(), "created", 1.0))

    assert lines == []
