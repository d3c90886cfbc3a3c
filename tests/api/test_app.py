"""The HTTP side for operators: routes, health, one shape of refusals, careful headers."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from falcon import testing
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from fsctl.api.app import error_body, make_app
from fsctl.errors import ApiError
from fsctl.metrics import Metrics


class Probe:
    """A resource that does what a test needs."""

    def __init__(self, act):
        self.act = act

    def on_get(self, req, resp):
        self.act(req, resp)

    on_post = on_get


def fail(error):
    def act(_req, _resp):
        raise error

    return act


@pytest.fixture
def build(tmp_path):
    def build(health=dict, **options):
        metrics = Metrics(CollectorRegistry(), live=lambda: {"calls": 3})
        return testing.TestClient(make_app(metrics=metrics, health=health, recordings=tmp_path, **options))

    return build


def test_metrics_come_in_prometheus_form(build):
    answer = build().simulate_get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\nfsctl_calls_live 3.0\n" in answer.text


def test_a_process_that_answers_is_alive_whatever_its_health(build):
    def broken():
        raise RuntimeError("no")

    answer = build(broken).simulate_get("/health/live")

    assert (answer.status_code, answer.json) == (200, {"live": True})


@pytest.mark.parametrize(
    ("checks", "status", "ready"),
    [
        pytest.param({}, 200, True, id="nothing to check"),
        pytest.param({"listening": (True, "127.0.0.1:8084"), "draining": (True, "")}, 200, True, id="all fine"),
        pytest.param({"listening": (True, ""), "draining": (False, "3 calls left")}, 503, False, id="one is not"),
    ],
)
def test_readiness_tells_each_check_with_its_reason(build, checks, status, ready):
    answer = build(lambda: checks).simulate_get("/health/ready")

    assert answer.status_code == status
    assert answer.json == {
        "ready": ready,
        "checks": {name: {"ok": ok, "detail": detail} for name, (ok, detail) in checks.items()},
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(("fine", "status"), [(True, 200), (False, 503)])
def test_health_can_be_asked_for_without_a_body(build, fine, status):
    client = build(lambda: {"listening": (fine, "")})

    for path, expected in (("/health/live", 200), ("/health/ready", status)):
        answer = client.simulate_head(path)
        assert (answer.status_code, answer.content) == (expected, b"")


@pytest.mark.parametrize(
    ("method", "path", "act", "status", "code"),
    [
        pytest.param("GET", "/nowhere", None, 404, "not_found", id="no such route"),
        pytest.param("GET", "/metrics/", None, 404, "not_found", id="another route"),
        pytest.param("DELETE", "/metrics", None, 405, "method_not_allowed", id="no such method"),
        pytest.param("GET", "/x", fail(ApiError(422, "not_e164", "to is no number")), 422, "not_e164", id="refused"),
        pytest.param("GET", "/x", fail(ApiError(401, "unauthorized", "who?")), 401, "unauthorized", id="not known"),
        pytest.param("GET", "/x", fail(RuntimeError("s3cret inside")), 500, "internal_error", id="broken"),
        pytest.param("POST", "/x", lambda req, _: req.get_media(), 400, "bad_request", id="no JSON"),
    ],
)
def test_every_refusal_has_the_documented_shape(build, method, path, act, status, code):
    client = build(resources={"/x": Probe(act)})

    with capture_logs() as logs:
        answer = client.simulate_request(method, path, body="{", headers={"Content-Type": "application/json"})

    (item,) = answer.json["errors"]
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert item["code"] == code
    assert item["message"]
    assert set(item) == {"type", "code", "message", "attribute", "url"}
    assert "s3cret" not in answer.text
    assert [line["log_level"] for line in logs if line["event"] == "http_request_failed"] == ["error"] * (status == 500)


@pytest.mark.parametrize(
    ("status", "bare"),
    [(400, "Bad Request"), (404, "Not Found"), (500, "Internal Server Error"), (422, None), (503, None)],
)
def test_the_documented_bare_error_stands_beside_the_list(status, bare):
    assert error_body(status, "code", "message").get("error") == bare


def test_an_error_item_fits_the_published_schema():
    from jsonschema import Draft202012Validator

    path = Path(__file__).parents[3] / "shared/spec/data/calling-api.openapi.yaml"
    if not path.exists():
        pytest.skip("the published schemas are not beside the repository")
    document = yaml.safe_load(path.read_text())
    validator = Draft202012Validator({"$ref": "#/components/schemas/Calling.CallCreate422Error", **document})

    assert list(validator.iter_errors(error_body(422, "missing_required_parameter", "url is missing"))) == []
    assert list(validator.iter_errors(error_body(422, "x", "y", attribute="url"))) == []
    assert list(validator.iter_errors({"errors": [{"code": "x"}]}))


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/nowhere", "/broken"])
def test_every_answer_carries_the_careful_headers_and_no_banner(build, path):
    answer = build(resources={"/broken": Probe(fail(RuntimeError("no")))}).simulate_get(path)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, "x" * 10, 200, id="within the bound"),
        pytest.param({}, "x" * 11, 413, id="too large"),
        pytest.param({"Content-Length": "99999999999"}, "", 413, id="says it is too large"),
        pytest.param({"Transfer-Encoding": "chunked"}, "", 411, id="does not say"),
    ],
)
def test_bodies_are_bounded(build, headers, body, status):
    client = build(resources={"/x": Probe(lambda _req, _resp: None)}, max_body_bytes=10)

    assert client.simulate_post("/x", body=body, headers=headers).status_code == status


def test_each_request_leaves_one_debug_line_without_its_query(build):
    with capture_logs() as logs:
        build().simulate_get("/health/live", query_string="token=s3cret")

    (line,) = logs
    assert (line["event"], line["log_level"]) == ("http_request", "debug")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/health/live", "200")
    assert "s3cret" not in str(line)


def test_further_resources_and_middleware_are_taken_in(build):
    class Guard:
        def process_request(self, req, resp):
            if req.path == "/guarded":
                raise ApiError(401, "unauthorized", "who are you?")

    answer = Probe(lambda _req, resp: setattr(resp, "media", {"here": True}))
    client = build(resources={"/guarded": answer, "/open": answer}, middleware=[Guard()])

    assert client.simulate_get("/open").json == {"here": True}
    assert client.simulate_get("/guarded").status_code == 401
