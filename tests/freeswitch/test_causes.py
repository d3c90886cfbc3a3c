"""How a call ended, row by row of the reference's mapping."""

import pytest

from fsctl.freeswitch.causes import END_REASONS, end_reason, end_source


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("NORMAL_CLEARING", "hangup"),
        ("MANAGER_REQUEST", "hangup"),
        ("ORIGINATOR_CANCEL", "cancel"),
        ("LOSE_RACE", "cancel"),
        ("USER_BUSY", "busy"),
        ("NO_ANSWER", "no_answer"),
        ("NO_USER_RESPONSE", "no_answer"),
        ("PROGRESS_TIMEOUT", "no_answer"),
        ("CALL_REJECTED", "declined"),
        ("ALLOTTED_TIMEOUT", "max_duration"),
        ("UNALLOCATED_NUMBER", "not_found"),
        ("NO_ROUTE_DESTINATION", "not_found"),
        ("USER_NOT_REGISTERED", "not_found"),
        ("SUBSCRIBER_ABSENT", "not_found"),
        ("SOMETHING_NEW", "error"),
        ("", "error"),
    ],
)
def test_cause_to_reason(cause, reason):
    assert reason == end_reason(cause, direction="outbound", answered=True, disposition="")
    assert reason in END_REASONS


@pytest.mark.parametrize(
    ("direction", "answered", "disposition", "reason"),
    [
        ("inbound", False, "recv_cancel", "abandoned"),
        ("inbound", True, "recv_bye", "hangup"),
        ("inbound", False, "send_refuse", "hangup"),
        ("outbound", False, "recv_refuse", "hangup"),
    ],
)
def test_a_caller_that_gives_up_abandoned_the_call(direction, answered, disposition, reason):
    assert reason == end_reason("NORMAL_CLEARING", direction=direction, answered=answered, disposition=disposition)


@pytest.mark.parametrize(
    ("disposition", "direction", "source"),
    [
        ("recv_bye", "inbound", "inbound"),
        ("recv_cancel", "inbound", "inbound"),
        ("send_bye", "inbound", "outbound"),
        ("recv_bye", "outbound", "outbound"),
        ("", "inbound", "none"),
    ],
)
def test_which_side_ended_it(disposition, direction, source):
    assert source == end_source(disposition, direction=direction)
