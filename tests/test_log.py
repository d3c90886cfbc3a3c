"""What a log line looks like, what may not be in it, and whose context it carries."""

from __future__ import annotations

import io
import json
import logging

import gevent
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fsctl import log as logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def fresh():
    """Each test starts unbound and leaves the handlers as they were."""
    root = logging.getLogger()
    handlers = [*root.handlers]
    logs.unbound()
    yield
    root.handlers[:] = handlers
    logs.unbound()


@pytest.fixture
def lines():
    """Set up JSON at debug, and answer with what was written so far."""
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def logger(name="fsctl.test"):
    return structlog.get_logger(name)


# -- form -------------------------------------------------------------------------------------------------------------


def test_a_line_is_one_json_object_with_the_fields_in_reading_order(lines):
    logs.bind(call_id="c1")
    logger().info("play_started", control_id="p1", seconds=1.5)

    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "logger", "call_id", "control_id", "seconds"]
    assert (line["level"], line["event"], line["logger"]) == ("info", "play_started", "fsctl.test")
    assert (line["call_id"], line["control_id"], line["seconds"]) == ("c1", "p1", 1.5)
    assert line["timestamp"].endswith("Z")
    assert line["timestamp"][10] == "T"


def test_fields_of_a_line_cannot_pose_as_its_level_or_time(lines):
    logger().info("said", level="critical", timestamp="never", logger="other")

    (line,) = lines()
    assert (line["level"], line["logger"]) == ("info", "fsctl.test")
    assert line["timestamp"] != "never"


@pytest.mark.parametrize("method", ["debug", "info", "warning", "error", "critical"])
def test_each_method_writes_its_level(lines, method):
    getattr(logger(), method)("said")

    assert [line["level"] for line in lines()] == [method]


def test_an_exception_brings_its_traceback_as_text(lines):
    try:
        raise ValueError("the switch said no")
    except ValueError:
        logger().exception("failed")

    (line,) = lines()
    assert line["level"] == "error"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: the switch said no")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "critical"]),
        ("info", ["info", "warning", "error", "critical"]),
        ("warning", ["warning", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_lines_below_the_level_are_not_written(level, written):
    stream = io.StringIO()
    logs.setup(level, "json", stream=stream)
    for method in ("debug", "info", "warning", "error", "critical"):
        getattr(logger(), method)("said")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


def test_a_line_below_the_level_costs_no_work():
    class Costly:
        def __str__(self):
            raise AssertionError("rendered for nobody")

    logs.setup("info", "json", stream=io.StringIO())
    logger().debug("said", value=Costly())


def test_a_level_nobody_knows_is_an_error():
    with pytest.raises(KeyError):
        logs.setup("loud")


def test_a_second_setup_holds_for_loggers_already_in_use():
    first, second = io.StringIO(), io.StringIO()
    used = logger()
    logs.setup("info", "json", stream=first)
    used.info("one")
    logs.setup("error", "json", stream=second)
    used.info("two")
    used.error("three")

    assert "one" in first.getvalue()
    assert "two" not in first.getvalue() + second.getvalue()
    assert "three" in second.getvalue()


@pytest.mark.parametrize(
    ("format_", "stream", "is_json"),
    [
        pytest.param("auto", io.StringIO, True, id="auto, no terminal"),
        pytest.param("auto", Terminal, False, id="auto, terminal"),
        pytest.param("json", Terminal, True, id="json"),
        pytest.param("text", io.StringIO, False, id="text"),
        pytest.param("console", io.StringIO, False, id="console"),
    ],
)
def test_the_format_is_chosen_by_the_setting_and_the_stream(format_, stream, is_json):
    out = stream()
    logs.setup("info", format_, stream=out)
    logger().info("said", call_id="c1")

    assert out.getvalue().startswith("{") is is_json
    assert ("\x1b[" in out.getvalue()) is (format_ == "auto" and not is_json)
    assert "c1" in out.getvalue()


def test_without_a_stream_lines_go_to_standard_output(capsys):
    logs.setup("info", "json")
    logger().info("said")

    out, err = capsys.readouterr()
    assert json.loads(out)["event"] == "said"
    assert err == ""


def test_text_from_outside_starts_no_line_and_drives_no_terminal():
    stream = Terminal()
    logs.setup("info", "text", stream=stream)
    logger().info("said", name="x\n2026-01-01 [info] forged\x1b[2J\x9b2J")
    logging.getLogger("lib").warning("x\n2026-01-01 [info] forged\x1b[2J\x9b2J")

    assert stream.getvalue().count("\n") == 2
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x9b" not in stream.getvalue()


@pytest.mark.parametrize("format_", ["json", "text"])
def test_text_a_stream_cannot_encode_is_escaped(format_):
    raw = io.BytesIO()
    logs.setup("info", format_, stream=io.TextIOWrapper(raw, encoding="ascii"))
    logger().info("said", name="Zoë \ud800")

    assert b"Zo\\" in raw.getvalue()


def test_a_stream_that_fails_ends_nothing():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("No space left on device")

    logs.setup("info", "json", stream=Full())
    logger().info("said")


# -- context ----------------------------------------------------------------------------------------------------------


def test_what_is_bound_is_on_every_line_until_it_is_forgotten(lines):
    logs.bind(call_id="c1")
    logs.bind(section="main")
    logger().info("one")
    logs.unbound()
    logger().info("two")

    one, two = lines()
    assert (one["call_id"], one["section"]) == ("c1", "main")
    assert {"call_id", "section"}.isdisjoint(two)


def test_the_bound_mapping_is_read_when_a_line_is_written(lines):
    where = logs.bind(call_id="c1")
    for method in ("answer", "play"):
        where["method"] = method
        logger().info("said")

    assert [line["method"] for line in lines()] == ["answer", "play"]


def test_a_line_may_say_better_than_what_is_bound(lines):
    logs.bind(control_id="old")
    logger().info("said", control_id="new")

    assert lines()[0]["control_id"] == "new"


def test_greenlets_do_not_see_each_others_context(lines):
    def call(name):
        logs.bind(call_id=name)
        gevent.sleep(0)
        logger().info("said", expected=name)

    logs.bind(call_id="parent")
    gevent.joinall([gevent.spawn(call, f"c{number}") for number in range(5)], raise_error=True)
    logger().info("said", expected="parent")

    assert len(lines()) == 6
    assert all(line["call_id"] == line["expected"] for line in lines())


def test_a_greenlet_may_share_the_mapping_of_its_call(lines):
    where = logs.bind(call_id="c1")

    def control():
        logs.bind(where)
        logger().info("said")

    where["method"] = "play"
    gevent.spawn(control).get()

    assert (lines()[0]["call_id"], lines()[0]["method"]) == ("c1", "play")


def test_binding_more_does_not_show_in_a_shared_mapping():
    where = logs.bind(call_id="c1")
    logs.bind(control_id="p1")

    assert where == {"call_id": "c1"}


# -- the standard library ---------------------------------------------------------------------------------------------


def test_lines_of_the_standard_library_take_the_same_form(lines):
    logs.bind(call_id="c1")
    logging.getLogger("urllib3").warning("retrying %s", "https://user:pw@a.example/")

    (line,) = lines()
    assert list(line) == ["timestamp", "level", "event", "logger", "call_id"]
    assert (line["level"], line["logger"]) == ("warning", "urllib3")
    assert line["event"] == "retrying https://***@a.example/"


def test_an_exception_of_the_standard_library_brings_its_traceback(lines):
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("lib").exception("broke")

    assert lines()[0]["exception"].endswith("ValueError: no")


def test_setting_up_twice_writes_lines_of_the_standard_library_once(lines):
    first = lines
    stream = io.StringIO()
    logs.setup("debug", "json", stream=stream)
    logging.getLogger("lib").warning("said")

    assert first() == []
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("level", "written"), [("debug", ["debug", "info", "warning", "error"]), ("error", ["error"])])
def test_the_level_holds_for_the_standard_library_too(level, written):
    stream = io.StringIO()
    logs.setup(level, "json", stream=stream)
    for method in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("lib"), method)("said")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


def test_urllib3_does_not_repeat_urls_with_their_queries(lines):
    logging.getLogger("urllib3.connectionpool").debug("GET /hook?pin=1234")
    logging.getLogger("urllib3.connectionpool").info("starting")

    assert [line["event"] for line in lines()] == ["starting"]


def test_a_message_that_cannot_be_formatted_ends_nothing(lines, capsys):
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if isinstance(one, logs._StandardLibrary)]  # pytest's would raise
    logging.getLogger("lib").warning("%d calls", "many")
    logging.getLogger("lib").warning("%d calls", 2)

    assert [line["event"] for line in lines()] == ["2 calls"]
    assert "Logging error" in capsys.readouterr().err


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("token", "password", "authorization", "secret", "signing_key", "authorization_bearer_token", "api_key"),
        *("Authorization", "db_password", "client-secret", "X-Auth-Token"),
    ],
)
def test_values_of_telling_names_are_masked_however_deep(lines, name):
    logger().info("said", **{name: "s3cret"}, deep={"list": [{name: "s3cret"}], "tuple": ({name: "s3cret"},)})

    (line,) = lines()
    assert line[name] == "***"
    assert line["deep"] == {"list": [{name: "***"}], "tuple": [{name: "***"}]}


def test_a_secret_that_is_not_set_may_be_seen(lines):
    logger().info("said", token=None, password="")

    assert (lines()[0]["token"], lines()[0]["password"]) == (None, "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pw@a.example/x", "https://***@a.example/x"),
        ("https://user:p@w@a.example/x", "https://***@a.example/x"),
        ("see https://t0ken@a.example, and ftp://u:p@b", "see https://***@a.example, and ftp://***@b"),
        ("https://a.example/x?to=bob@b.example", "https://a.example/x?to=bob@b.example"),
        ("wss://a.example/?access_token=abc&x=1", "wss://a.example/?access_token=***&x=1"),
        ("http://a/?x=1&Signature=abc#f", "http://a/?x=1&Signature=***#f"),
        ("GET /hook?token=abc&x=1 HTTP/1.1", "GET /hook?token=***&x=1 HTTP/1.1"),
        ("Authorization: Basic dXNlcjpwdw==", "Authorization: Basic ***"),
        ('{"authorization": "Bearer abc.def-ghi"}', '{"authorization": "Bearer ***"}'),
        ("sent Bearer abcdefgh", "sent Bearer ***"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_credentials_inside_text_are_masked(lines, text, shown):
    logger().info("said", text=text, raw=text.encode(), thing=ValueError(text))
    logger().info(text)

    first, second = lines()
    assert (first["text"], first["raw"], first["thing"], second["event"]) == (shown,) * 4


def test_a_traceback_is_masked_too(lines):
    try:
        raise ValueError("https://user:pw@a.example/")
    except ValueError:
        logger().exception("failed")

    assert "user:pw" not in json.dumps(lines())


def test_a_bound_secret_is_masked_too(lines):
    logs.bind(url="https://user:pw@a.example/")
    logger().info("said")

    assert lines()[0]["url"] == "https://***@a.example/"


def test_what_contains_itself_ends_somewhere(lines):
    loop = {}
    loop["again"] = loop
    logger().info("said", loop=loop)

    assert "…" in json.dumps(lines(), ensure_ascii=False)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inside: st.lists(inside) | st.tuples(inside) | st.dictionaries(st.text() | st.integers(), inside),
)


@given(ANYTHING)
def test_anything_can_be_logged_as_one_line(value):
    stream = io.StringIO()
    logs.setup("info", "json", stream=stream)
    logger().info("said", value=value)

    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["event"] == "said"


@given(
    user=st.text("abcXYZ019._~%-", min_size=1),
    password=st.text("abcXYZ019._~%!$&*+,;=:@-", min_size=1).map(lambda text: "s3cr3t" + text),
    before=st.text("ab c:,(", max_size=5),
)
def test_no_password_of_a_url_survives(user, password, before):
    assert "s3cr3t" not in logs.redact(f"{before}https://{user}:{password}@a.example/path")
