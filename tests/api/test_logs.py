"""Voice logs over HTTP, parameter by parameter as calling-api.md 7 has them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import gevent
import pytest
import yaml
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fsctl.api.app import make_app
from fsctl.api.logs import log_entry, page_token, read_page_token, voice_logs
from fsctl.call.events import CallStateChanged, ControlChanged
from fsctl.logs.database import CallRow, Page
from fsctl.logs.entries import Entry
from fsctl.logs.store import CallLog
from fsctl.metrics import Metrics
from tests.fakes.call import info

PATH = "/api/voice/logs"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()
SPEC = Path(__file__).parents[3] / "shared/spec/data/calling-api.openapi.yaml"
PUBLIC = "https://calls.example"


def segment(number):
    return f"{number:08d}-0000-4000-8000-000000000000"


@pytest.fixture
def log(tmp_path):
    log = CallLog(tmp_path / "calls.db", retention_days=3650, max_calls=10_000, max_pending=100_000)
    log.start()
    yield log
    log.close()


def client_of(log):
    metrics = Metrics(CollectorRegistry(), live=dict)
    app = make_app(metrics=metrics, health=dict, recordings=Path("/nowhere"), resources=voice_logs(log, PUBLIC))
    return testing.TestClient(app)


@pytest.fixture
def client(log):
    return client_of(log)


def tell(log, *numbers, at=NOON, **changes):
    """Calls one second apart: a second until the answer, two and a half of talk."""
    for number in numbers:
        start = at + number
        call = info(call_id=segment(number), segment_id=segment(number), created_at=start, **changes)
        log(CallStateChanged(call, "created", start, start_time=start))
        log(CallStateChanged(call, "answered", start + 1, start_time=start, answer_time=start + 1))
        end = start + 3.5
        log(
            CallStateChanged(
                call, "ended", end, start_time=start, answer_time=start + 1, end_time=end, end_reason="hangup"
            )
        )


def get(client, path=PATH, headers=None, **query):
    return client.simulate_get(path, query_string=urlencode(query), headers=headers)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [int(log["id"][:8]) for log in answer.json["data"]]


def follow(client, answer, name="next"):
    """Follow a link as the official client does: only its query counts."""
    return get(client, **dict(parse_qsl(urlsplit(answer.json["links"][name]).query)))


# -- one log ----------------------------------------------------------------------------------------------------------


def test_a_log_has_the_fields_of_a_leg(log, client):
    tell(log, 1, type="phone", from_="+15550001111", to="+15550002222")

    answer = get(client, f"{PATH}/{segment(1)}")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json == {
        "id": segment(1),
        "from": "+15550001111",
        "to": "+15550002222",
        "direction": "inbound",
        "status": "completed",
        "duration": 2,
        "duration_ms": 2500,
        "billing_ms": 2500,
        "source": "realtime_api",
        "type": "relay_pstn_call",
        "url": None,
        "parent_id": None,
        "charge": 0,
        "charge_details": [],
        "created_at": "2026-01-02T12:00:01Z",
    }


def row(**changes):
    fields = {
        "segment_id": segment(1), "project_id": "p", "from_": "a", "to": "b", "direction": "inbound", "type": "sip",
        "state": "ended", "end_reason": "hangup", "created_at": NOON, "answered_at": NOON + 1, "ended_at": NOON + 3.5,
    }  # fmt: skip
    return CallRow(**(fields | changes))


LIVE = {"end_reason": None, "ended_at": None}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        pytest.param(
            {**LIVE, "state": "created", "answered_at": None}, {"status": "created", "duration": None}, id="created"
        ),
        pytest.param(
            {**LIVE, "state": "answered"},
            {"status": "answered", "duration": None, "duration_ms": None, "billing_ms": None},
            id="answered",
        ),
        pytest.param(
            {"end_reason": "busy", "answered_at": None},
            {"status": "busy", "duration": 0, "duration_ms": 0, "billing_ms": 0},
            id="busy",
        ),
        pytest.param({"end_reason": "no_answer", "answered_at": None}, {"status": "no-answer"}, id="no answer"),
        pytest.param({"end_reason": None, "ended_at": None}, {"status": "ended", "duration": None}, id="nobody saw it"),
        pytest.param({"ended_at": NOON - 5}, {"duration": 0}, id="a clock that was put back"),
        pytest.param({"direction": "outbound"}, {"direction": "outbound-api"}, id="dialled"),
        pytest.param({"type": "webrtc"}, {"type": "relay_webrtc_call"}, id="webrtc"),
        pytest.param({"created_at": NOON + 0.999}, {"created_at": "2026-01-02T12:00:00Z"}, id="whole seconds"),
    ],
)
def test_what_a_log_shows(changes, shown):
    entry = log_entry(row(**changes))

    assert {name: entry[name] for name in shown} == shown


@pytest.mark.parametrize("path", [f"{PATH}/{segment(9)}", f"{PATH}/{segment(9)}/events"])
def test_a_call_that_is_not_there_is_not_found(client, path):
    answer = get(client, path)

    assert answer.status_code == 404
    assert answer.json["error"] == "Not Found"
    assert answer.json["errors"][0]["code"] == "not_found"


@pytest.mark.parametrize("text", ["x", "%00", "1' OR '1'='1", "a" * 5000, "..", "%2e%2e%2fx"])
def test_what_is_no_id_is_not_found(log, client, text):
    tell(log, 1)

    assert get(client, f"{PATH}/{text}").status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/{segment(1)}", f"{PATH}/{segment(1)}/events"])
def test_logs_can_only_be_read(client, method, path):
    assert client.simulate_request(method, path, body="{}").status_code == 405


# -- its events -------------------------------------------------------------------------------------------------------


def test_events_come_in_order_with_the_log_they_belong_to(log, client):
    tell(log, 1, project_id="11111111-2222-4333-8444-555555555555")

    answer = get(client, f"{PATH}/{segment(1)}/events")

    assert answer.status_code == 200
    assert [event["name"] for event in answer.json["data"]] == [
        "calling_call_initiated",
        "calling_call_answered",
        "calling_call_ended",
    ]
    last = answer.json["data"][-1]
    assert last["details"]["end_reason"] == "hangup"
    assert {**last, "details": {}} == {
        "event_at": "2026-01-02T12:00:04.500Z",
        "level": "info",
        "name": "calling_call_ended",
        "details": {},
        "project_id": "11111111-2222-4333-8444-555555555555",
        "log_id": segment(1),
    }


def test_the_recordings_url_is_in_an_event(log, client):
    url = "https://calls.example/recordings/d1c1d1c1-0000-4000-8000-000000000001.mp3"
    call = info(call_id=segment(1), segment_id=segment(1))
    log(CallStateChanged(call, "created", NOON))
    log(ControlChanged(call, "record", "record", "r1", "finished", NOON, {"url": url, "duration": 1.0, "size": 9}))

    (event,) = [event for event in get(client, f"{PATH}/{segment(1)}/events").json["data"] if "record" in event["name"]]

    assert event["name"] == "calling_call_record_finished"
    assert event["details"]["url"] == url


# -- lists ------------------------------------------------------------------------------------------------------------


def test_an_empty_log_is_one_empty_page(client):
    answer = get(client)

    assert answer.json["data"] == []
    assert set(answer.json["links"]) == {"self", "first"}


def test_the_newest_come_first_fifty_a_page(log, client):
    tell(log, *range(60))

    answer = get(client)

    assert ids(answer) == list(range(59, 9, -1))
    assert parse_qs(urlsplit(answer.json["links"]["self"]).query) == {"page_number": ["0"], "page_size": ["50"]}


@pytest.mark.parametrize("size", [1, 3, 9, 10, 1000])
def test_following_next_gives_every_log_once(log, client, size):
    tell(log, *range(10))
    answer = get(client, page_size=size)
    seen, pages = ids(answer), 1
    while "next" in answer.json["links"]:
        tell(log, 1000 + pages)  # calls come while somebody reads
        answer = follow(client, answer)
        seen, pages = seen + ids(answer), pages + 1

    assert seen == list(range(9, -1, -1))
    assert pages == -(-10 // size)


def test_prev_goes_back_to_the_same_pages(log, client):
    tell(log, *range(7))
    first = get(client, page_size=3)
    second = follow(client, first)
    third = follow(client, second)
    tell(log, 100)

    assert "prev" not in first.json["links"]
    assert ids(follow(client, third, "prev")) == ids(second) == [3, 2, 1]
    assert ids(follow(client, second, "prev")) == ids(first) == [6, 5, 4]
    assert ids(follow(client, third, "self")) == ids(third) == [0]
    assert ids(follow(client, third, "first")) == [100, 6, 5]


def test_a_page_can_be_asked_for_by_its_number(log, client):
    tell(log, *range(10))
    token = parse_qs(urlsplit(get(client, page_size=2).json["links"]["next"]).query)["page_token"][0]

    assert ids(get(client, page_size=2, page_number=4, page_token=token)) == [1, 0]
    beyond = get(client, page_size=2, page_number=2_147_483_647, page_token=token)
    assert (ids(beyond), "next" in beyond.json["links"]) == ([], False)


DAY = 86_400


@pytest.mark.parametrize(
    ("query", "days"),
    [
        pytest.param({}, [3, 2, 1, 0], id="all"),
        pytest.param({"created_before": "2026-01-03"}, [0], id="before a date"),
        pytest.param({"created_on": "2026-01-03"}, [1], id="on a date"),
        pytest.param({"created_after": "2026-01-03"}, [3, 2], id="after a date"),
        pytest.param({"created_after": "2026-01-02", "created_before": "2026-01-05"}, [2, 1], id="between"),
        pytest.param({"created_before": "2026-01-03T12:00:00Z"}, [0], id="before a time"),
        pytest.param({"created_before": "2026-01-03T12:00:01Z"}, [1, 0], id="a moment later"),
        pytest.param({"created_after": "2026-01-03T12:00:00Z"}, [3, 2, 1], id="after a time"),
        pytest.param({"created_after": "2026-01-03T14:30:00.5+02:00"}, [3, 2], id="elsewhere on earth"),
        pytest.param({"created_after": "2026-01-03T12:01"}, [3, 2], id="no zone is UTC"),
        pytest.param({"created_on": "2026-01-04T01:00:00+02:00"}, [1], id="the day of a time, in UTC"),
        pytest.param({"created_on": "2020-02-29"}, [], id="nothing that day"),
        pytest.param({"include_deleted": "true"}, [3, 2, 1, 0], id="nothing is deleted"),
        pytest.param({"include_deleted": "false", "something": "else"}, [3, 2, 1, 0], id="the unknown is passed over"),
        pytest.param(
            {"page_number": "", "page_size": "", "page_token": "", "created_on": ""}, [3, 2, 1, 0], id="blank"
        ),
    ],
)
def test_filters(log, client, query, days):
    for day in range(4):
        tell(log, day, at=NOON + day * DAY - day)

    assert ids(get(client, **query)) == days


def test_links_repeat_the_filters(log, client):
    tell(log, *range(5))
    query = {"created_after": "2026-01-01", "created_before": "2026-01-03T00:00:00+00:00", "include_deleted": "false"}

    answer = follow(client, get(client, page_size=2, **query))

    assert ids(answer) == [2, 1]
    for link in answer.json["links"].values():
        assert query.items() <= dict(parse_qsl(urlsplit(link).query)).items()


@pytest.mark.parametrize(
    ("query", "attribute", "code"),
    [
        pytest.param("page_size=0", "page_size", "invalid_parameter", id="size 0"),
        pytest.param("page_size=1001", "page_size", "invalid_parameter", id="size too large"),
        pytest.param("page_size=-1", "page_size", "invalid_parameter", id="size negative"),
        pytest.param("page_size=ten", "page_size", "invalid_parameter", id="size in words"),
        pytest.param("page_size=%D9%A3", "page_size", "invalid_parameter", id="size in other digits"),
        pytest.param("page_size=1&page_size=2", "page_size", "invalid_parameter", id="size twice"),
        pytest.param("page_number=-1", "page_number", "invalid_parameter", id="number negative"),
        pytest.param("page_number=1.5", "page_number", "invalid_parameter", id="number not whole"),
        pytest.param("page_number=2147483648", "page_number", "invalid_parameter", id="number too large"),
        pytest.param("page_number=1", "page_token", "missing_required_parameter", id="no token"),
        pytest.param("page_number=1&page_token=x", "page_token", "invalid_parameter", id="no token of ours"),
        pytest.param("page_token=x", "page_token", "invalid_parameter", id="even on page 0"),
        pytest.param("include_deleted=maybe", "include_deleted", "not_a_boolean", id="no boolean"),
        pytest.param("created_on=yesterday", "created_on", "invalid_parameter", id="no date"),
        pytest.param("created_on=2026-02-30", "created_on", "invalid_parameter", id="no such day"),
        pytest.param("created_before=9999-12-31", "created_before", None, id="the last day there is"),
        pytest.param("created_after=9999-12-31", "created_after", None, id="after the last day"),
        pytest.param("created_after=2026-01-02T25:00", "created_after", "invalid_parameter", id="no such hour"),
        pytest.param("created_before=0001-01-01T00:00%2B14:00", "created_before", None, id="before the first"),
        pytest.param("created_before=1767323045", "created_before", "invalid_parameter", id="Unix seconds"),
        pytest.param("created_before=2026-W01-1", "created_before", "invalid_parameter", id="a week"),
    ],
)
def test_parameters_are_checked(client, query, attribute, code):
    answer = client.simulate_get(PATH, query_string=query)

    if code is None:
        assert answer.status_code == 200
        return
    (item,) = answer.json["errors"]
    assert answer.status_code == 422
    assert (item["type"], item["code"], item["attribute"]) == ("validation_error", code, attribute)
    assert attribute in item["message"]
    assert "error" not in answer.json


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        pytest.param({"Host": "10.0.0.7:8086"}, "http://10.0.0.7:8086", id="as it was asked"),
        pytest.param({"Host": "[::1]:8086"}, "http://[::1]:8086", id="IPv6"),
        pytest.param({"Host": "calls.example"}, "https://calls.example", id="our public name, behind a proxy with TLS"),
        pytest.param(
            {"Host": "10.0.0.7", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
            "http://10.0.0.7",
            id="what others say is not believed",
        ),
        pytest.param({"Host": "10.0.0.7", "Forwarded": "host=evil.example"}, "http://10.0.0.7", id="nor this"),
        pytest.param({"Host": "evil.example/x?"}, "https://calls.example", id="no host at all"),
        pytest.param({"Host": "a@evil.example"}, "https://calls.example", id="a user"),
    ],
)
def test_links_are_absolute_where_the_client_has_us(log, client, headers, base):
    tell(log, *range(3))

    for link in get(client, page_size=1, headers=headers).json["links"].values():
        assert link.startswith(f"{base}{PATH}?")


# -- tokens -----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**63 - 1))
def test_a_token_brings_back_its_moment(anchor):
    assert read_page_token(page_token(anchor)) == anchor


@given(st.integers(0, 2**63 - 1), st.integers(2, 37), st.sampled_from("0123456789abcdef-"))
def test_a_token_somebody_changed_is_none(anchor, place, character):
    token = page_token(anchor)
    changed = token[:place] + character + token[place + 1 :]

    assert read_page_token(changed) == (anchor if changed == token else None)


@given(st.text() | st.from_regex(r"PA[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", fullmatch=True))
def test_any_other_text_is_no_token(text):
    assert read_page_token(text) is None


DATES = st.text(max_size=30) | st.from_regex(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?([+-]\d\d:\d\d|Z)?)?", fullmatch=True)


@given(st.sampled_from(["created_before", "created_on", "created_after"]), DATES)
def test_whatever_a_date_is_it_is_a_page_or_a_refusal(name, text):
    class Empty:
        def page(self, *, since, before, **_):
            assert all(isinstance(limit, float | None) for limit in (since, before))
            return Page([], 0, more=False)

    assert get(client_of(Empty()), **{name: text}).status_code in (200, 422)


# -- load and trouble -------------------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_read_says_so_and_when_to_come_back(tmp_path):
    (tmp_path / "file").write_text("in the way")
    log = CallLog(tmp_path / "file" / "calls.db", retention_days=1, max_calls=10, max_pending=100)
    log.start()
    try:
        for path in (PATH, f"{PATH}/{segment(1)}", f"{PATH}/{segment(1)}/events"):
            answer = get(client_of(log), path)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert answer.json["errors"][0]["code"] == "call_log_unavailable"
            assert str(tmp_path) not in answer.text
    finally:
        log.close(timeout=0.1)


def test_a_long_answer_leaves_room_for_calls():
    class Long:
        def page(self, **_):
            return Page([row()] * 1000, 1, more=False)

        def events(self, _):
            return row(), [Entry(NOON, "info", "calling_call_ringing", "{}")] * 1000

    client, turns = client_of(Long()), []

    def others():
        while True:
            turns.append(1)
            gevent.sleep(0)

    beside = gevent.spawn(others)
    for path in (PATH, f"{PATH}/{segment(1)}/events"):
        turns.clear()
        assert len(client.simulate_get(path).json["data"]) == 1000
        assert len(turns) >= 40
    beside.kill()


# -- the published schema ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schemas():
    if not SPEC.exists():
        pytest.skip("the published schemas are not beside the repository")
    return yaml.safe_load(SPEC.read_text())


def problems(schemas, name, body):
    from jsonschema import Draft202012Validator

    return [
        error.message
        for error in Draft202012Validator({"$ref": f"#/components/schemas/{name}", **schemas}).iter_errors(body)
    ]


def test_answers_fit_the_published_schemas(log, client, schemas):
    tell(log, *range(3), project_id="11111111-2222-4333-8444-555555555555")
    one = get(client, f"{PATH}/{segment(1)}").json
    events = get(client, f"{PATH}/{segment(1)}/events").json
    for event in events["data"]:
        event["details"] = {}  # the schema closes what the prose calls free-form

    assert problems(schemas, "Voice.RelayVoiceLog", one) == []
    assert problems(schemas, "Voice.LogEventsListResponse", events) == []
    first = get(client, page_size=1)
    for page in (first, follow(client, first)):
        assert problems(schemas, "Voice.LogListResponse", page.json) == []
    assert problems(schemas, "Voice.VoiceLogsListStatusCode422", get(client, page_size=0).json) == []
    assert problems(schemas, "Voice.RelayVoiceLog", {**one, "status": "moon"})
