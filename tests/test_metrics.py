"""Every metric: that events move the right one, that nobody outside can make a series, that Prometheus likes them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from fsctl.call.events import (
    CallInfo,
    CallRefused,
    CallStateChanged,
    ControlChanged,
    DocumentFetched,
    MethodFinished,
    ScriptEnded,
    ScriptWarning,
    UserEvent,
)
from fsctl.metrics import Metrics
from fsctl.tally import Traffic

AT = 1767323045.5
CALL = CallInfo(
    call_id="c1",
    node_id="n1",
    segment_id="c1",
    direction="inbound",
    type="phone",
    from_="+1",
    to="+2",
    from_number="+1",
    to_number="+2",
    project_id="p",
    space_id="s",
    session_id="c1",
)


class Bench:
    """Metrics with a registry of their own, and a way to read them as Prometheus would."""

    def __init__(self, live=dict, traffic=None):
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry, live=live, traffic=traffic, methods=("play", "answer", "request"))

    def samples(self):
        text = self.metrics.exposition()[0].decode()
        return {
            sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def moved_by(self, act):
        before = self.samples()
        act(self.metrics)
        after = self.samples()
        return {
            name: value - before.get(name, 0)
            for name, value in after.items()
            if name.startswith("fsctl_") and value != before.get(name) and "_bucket" not in name
        }


@pytest.fixture
def bench():
    return Bench()


def control(kind, state, control_id="x1", call=CALL, **detail):
    return ControlChanged(call, kind, kind, control_id, state, AT, detail)


@pytest.mark.parametrize(
    ("event", "moved"),
    [
        pytest.param(
            CallStateChanged(CALL, "created", AT), {"fsctl_calls_started_total direction=inbound": 1}, id="created"
        ),
        pytest.param(CallStateChanged(CALL, "ringing", AT), {}, id="ringing"),
        pytest.param(CallStateChanged(CALL, "answered", AT), {"fsctl_calls_answered_total": 1}, id="answered"),
        pytest.param(
            CallStateChanged(CALL, "ended", AT, start_time=AT - 61, end_time=AT, end_reason="busy", cause="USER_BUSY"),
            {
                "fsctl_calls_ended_total end_reason=busy": 1,
                "fsctl_call_duration_seconds_count": 1,
                "fsctl_call_duration_seconds_sum": 61,
            },
            id="ended",
        ),
        pytest.param(
            CallStateChanged(CALL, "ended", AT),
            {"fsctl_calls_ended_total end_reason=other": 1},
            id="ended, nothing known",
        ),
        pytest.param(CallRefused("capacity", AT), {"fsctl_calls_refused_total reason=capacity": 1}, id="refused"),
        pytest.param(CallRefused("moon", AT), {"fsctl_calls_refused_total reason=other": 1}, id="refused, unknown"),
        pytest.param(
            ScriptEnded(CALL, "error", 4, AT), {"fsctl_scripts_ended_total outcome=error": 1}, id="script ended"
        ),
        pytest.param(
            ScriptWarning(CALL, "relay_script_js_eval_error", "m", AT),
            {"fsctl_script_warnings_total code=relay_script_js_eval_error": 1},
            id="warning",
        ),
        pytest.param(
            ScriptWarning(CALL, "made_up", "m", AT), {"fsctl_script_warnings_total code=other": 1}, id="unknown warning"
        ),
        pytest.param(
            MethodFinished(CALL, "play", "main", "main[0]", "failed", 2.0, AT),
            {"fsctl_methods_run_total method=play outcome=failed": 1},
            id="a method that waits for audio is not timed",
        ),
        pytest.param(
            MethodFinished(CALL, "answer", "main", "main[0]", "ok", 0.5, AT),
            {
                "fsctl_methods_run_total method=answer outcome=ok": 1,
                "fsctl_method_duration_seconds_count method=answer": 1,
                "fsctl_method_duration_seconds_sum method=answer": 0.5,
            },
            id="a method that waits for the switch is timed",
        ),
        pytest.param(
            MethodFinished(CALL, "evil", "main", "main[0]", "ok", 0.5, AT),
            {"fsctl_methods_run_total method=other outcome=ok": 1},
            id="unknown method",
        ),
        pytest.param(
            MethodFinished(CALL, "play", "main", "main[0]", "weird", 0.5, AT),
            {"fsctl_methods_run_total method=play outcome=other": 1},
            id="unknown outcome of a known method",
        ),
        pytest.param(
            DocumentFetched(CALL, "url", "timeout", 2.0, AT),
            {
                "fsctl_documents_fetched_total outcome=timeout source=url": 1,
                "fsctl_document_fetch_duration_seconds_count source=url": 1,
                "fsctl_document_fetch_duration_seconds_sum source=url": 2,
            },
            id="document",
        ),
        pytest.param(
            control("record", "finished", size=1000, duration=2.5),
            {
                "fsctl_recordings_ended_total state=finished": 1,
                "fsctl_recording_bytes_total": 1000,
                "fsctl_recording_seconds_total": 2.5,
            },
            id="recording",
        ),
        pytest.param(control("record", "recording"), {}, id="recording under way"),
        pytest.param(
            control("record", "error", size=None),
            {"fsctl_recordings_ended_total state=error": 1},
            id="recording without result",
        ),
        pytest.param(control("play", "finished"), {}, id="play"),
        pytest.param(UserEvent(CALL, {}, AT), {}, id="user event"),
    ],
)
def test_an_event_moves_the_metrics_it_is_about_and_no_other(bench, event, moved):
    assert bench.moved_by(lambda metrics: metrics(event)) == moved


@pytest.mark.parametrize(
    ("states", "moved"),
    [
        pytest.param(["streaming"], {"started": 1}, id="running"),
        pytest.param(["streaming", "finished"], {"started": 1, "finished": 1}, id="ended"),
        pytest.param(["finished"], {"failed": 1}, id="never connected"),
        pytest.param(["streaming", "finished", "finished"], {"started": 1, "finished": 1, "failed": 1}, id="id reused"),
    ],
)
def test_a_stream_that_ends_without_streaming_has_failed(bench, states, moved):
    def act(metrics):
        for state in states:
            metrics(control("stream", state))

    assert bench.moved_by(act) == {f"fsctl_streams_{name}_total": value for name, value in moved.items()}


def test_streams_of_different_calls_and_ids_are_told_apart(bench):
    other = replace(CALL, call_id="c2")

    def act(metrics):
        metrics(control("stream", "streaming", "a"))
        metrics(control("stream", "finished", "b"))
        metrics(control("stream", "finished", "a", call=other))
        metrics(control("stream", "finished", "a"))

    assert bench.moved_by(act) == {
        "fsctl_streams_started_total": 1,
        "fsctl_streams_finished_total": 1,
        "fsctl_streams_failed_total": 2,
    }


def test_nothing_is_kept_of_streams_that_ended(bench):
    for state in ("streaming", "finished", "finished"):
        bench.metrics(control("stream", state))

    assert bench.metrics._streaming == {}


def test_nothing_is_kept_of_a_call_that_ended(bench):
    bench.metrics(control("stream", "streaming"))
    bench.metrics(CallStateChanged(CALL, "ended", AT, end_reason="hangup"))

    assert bench.metrics._streaming == {}


@pytest.mark.parametrize(
    ("act", "moved"),
    [
        pytest.param(
            lambda m: m.observe_webhook("calling.call.play", "delivered", 0.25),
            {
                "fsctl_webhooks_total event_type=calling.call.play outcome=delivered": 1,
                "fsctl_webhook_delivery_seconds_count": 1,
                "fsctl_webhook_delivery_seconds_sum": 0.25,
            },
            id="webhook delivered",
        ),
        pytest.param(
            lambda m: m.observe_webhook("calling.user_event", "dropped", 0.0),
            {"fsctl_webhooks_total event_type=calling.user_event outcome=dropped": 1},
            id="webhook dropped",
        ),
        pytest.param(
            lambda m: m.observe_webhook("calling.call.fax", "failed", 0.0),
            {"fsctl_webhooks_total event_type=other outcome=failed": 1},
            id="webhook of a kind without a row",
        ),
    ],
)
def test_what_is_no_event_of_a_call_is_counted_when_told(bench, act, moved):
    assert bench.moved_by(act) == moved


def test_the_event_sockets_traffic_is_read_at_the_moment_of_asking():
    traffic = Traffic()
    bench = Bench(traffic=traffic)
    traffic.connections, traffic.live, traffic.commands, traffic.refused, traffic.broken = 5, 2, 40, 3, 1
    traffic.reactions.observe(0.0004)
    traffic.reactions.observe(7.0)
    samples = bench.samples()

    assert samples["fsctl_event_socket_connections_total"] == 5
    assert samples["fsctl_event_sockets_live"] == 2
    assert samples["fsctl_event_socket_commands_total"] == 40
    assert samples["fsctl_event_socket_commands_refused_total"] == 3
    assert samples["fsctl_event_socket_protocol_errors_total"] == 1
    assert samples["fsctl_reaction_seconds_count"] == 2
    assert samples["fsctl_reaction_seconds_sum"] == 7.0004
    assert samples["fsctl_reaction_seconds_bucket le=0.00025"] == 0
    assert samples["fsctl_reaction_seconds_bucket le=0.0005"] == 1
    assert samples["fsctl_reaction_seconds_bucket le=0.5"] == 1
    assert samples["fsctl_reaction_seconds_bucket le=+Inf"] == 2


def test_what_lives_is_read_at_the_moment_of_asking():
    counts = {"calls": 2, "play": 1, "webhook_backlog": 7, "kills": 3, "evaluations": 9, "moon": 4}
    bench = Bench(lambda: counts)

    first = bench.samples()
    counts.update(calls=5, play=0)

    assert first["fsctl_calls_live"] == 2
    assert first["fsctl_controls_live kind=play"] == 1
    assert first["fsctl_controls_live kind=record"] == 0
    assert first["fsctl_controls_live kind=other"] == 4
    assert first["fsctl_webhook_backlog"] == 7
    assert first["fsctl_javascript_kills_total"] == 3
    assert first["fsctl_javascript_evaluations_total"] == 9
    assert first["fsctl_javascript_deaths_total"] == 0
    assert bench.samples()["fsctl_calls_live"] == 5
    assert bench.samples()["fsctl_controls_live kind=play"] == 0


def test_a_live_count_that_fails_takes_only_itself_away():
    def broken():
        raise RuntimeError("no")

    bench = Bench(broken)
    with capture_logs() as logs:
        samples = bench.samples()

    assert "fsctl_calls_live" not in samples
    assert samples["fsctl_calls_answered_total"] == 0
    assert [line["event"] for line in logs] == ["live_counts_failed"]


def test_the_exposition_tells_what_is_running_and_how_the_process_is(bench):
    from fsctl import __version__

    body, content_type = bench.metrics.exposition()

    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert f'version="{__version__}"' in body.decode()
    assert bench.samples()["process_resident_memory_bytes"] > 0
    assert "_created" not in body.decode()


def test_words_from_outside_make_no_series(bench):
    before = set(bench.samples())
    for number in range(50):
        word = f"word{number}"
        call = replace(CALL, direction=word, call_id=word)
        for event in (
            CallStateChanged(call, "created", AT),
            CallStateChanged(call, "ended", AT, end_reason=word, cause=word),
            CallRefused(word, AT),
            MethodFinished(call, word, word, word, word, 1.0, AT),
            DocumentFetched(call, word, word, 1.0, AT),
            ScriptWarning(call, word, word, AT),
            ScriptEnded(call, word, 1, AT),
            control(word, word, call=call),
            control("record", word, call=call),
        ):
            bench.metrics(event)
        bench.metrics.observe_webhook(word, word, 1.0)

    assert set(bench.samples()) == before


def test_every_metric_is_ours_or_the_processes_and_has_a_base_unit(bench):
    families = list(text_string_to_metric_families(bench.metrics.exposition()[0].decode()))

    assert len(families) > 25
    for family in families:
        assert re.match(r"(fsctl|process)_[a-z_]+$", family.name), family.name
        assert family.documentation
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_two_sets_of_metrics_live_side_by_side(bench):
    bench.metrics(CallStateChanged(CALL, "answered", AT))

    assert Bench().samples()["fsctl_calls_answered_total"] == 0


def test_promtool_has_nothing_to_say(bench):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")

    text = bench.metrics.exposition()[0]
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)

    assert (done.returncode, done.stdout.decode() + done.stderr.decode()) == (0, "")


def test_the_version_is_the_packages(bench):
    import tomllib
    from pathlib import Path

    from fsctl import __version__

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

    assert project["version"] == __version__
