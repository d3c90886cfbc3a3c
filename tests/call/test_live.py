"""How live commands are declared, read and run (calling-api 1, 2, 9)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.call.live import MISSING, Commands, ControlId, RequestInvalid, lifted, live_command
from fsctl.errors import ApiError, CommandFailed, FetchError, LegGone, ScriptError
from fsctl.methods import COMMANDS
from fsctl.swml.parameters import (
    Boolean,
    Integer,
    Number,
    Object,
    Record,
    Records,
    Text,
    TextList,
    Url,
    parameter,
)
from tests.fakes.call import make_call


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str = parameter(Text(choices=("a", "b")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    control_id: str = parameter(Text(min_length=1))
    text: str | None = parameter(Text(), default=None)
    flag: bool = parameter(Boolean(), default=False)
    count: int = parameter(Integer(low=0, high=9), default=1)
    level: float = parameter(Number(low=-40, high=40), default=0.0)
    link: str | None = parameter(Url(), default=None)
    words: tuple[str, ...] = parameter(TextList(), default=())
    extra: dict | None = parameter(Object(values=Text()), default=None)
    inside: Item | None = parameter(Record(Item), default=None)
    items: tuple[Item, ...] = parameter(Records(Item), default=())


def command(function=lambda _call, _params: None, **options):
    return live_command("calling.test", Params, **options)(function)


def read(params, *, strict=False, **options):
    return command(opens="play", **options).read(params, strict=strict)


def findings(params, **options):
    with pytest.raises(RequestInvalid) as caught:
        read(params, **options)
    return [(code, attribute) for code, _, attribute in caught.value.findings]


def test_every_default():
    record, ignored = read({"control_id": "c"})

    assert record == Params(control_id="c")
    assert ignored == ()


def test_a_control_id_is_made_where_the_client_has_none():
    first, second = (read({})[0].control_id for _ in range(2))

    assert first != second
    assert len(first) == 36


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"text": 5}, ("not_a_string", "text")),
        ({"flag": "true"}, ("not_a_boolean", "flag")),
        ({"flag": 1}, ("not_a_boolean", "flag")),
        ({"count": "1"}, ("invalid_parameter", "count")),
        ({"count": 1.5}, ("invalid_parameter", "count")),
        ({"count": 10}, ("invalid_parameter", "count")),
        ({"count": True}, ("invalid_parameter", "count")),
        ({"level": -41}, ("invalid_parameter", "level")),
        ({"level": "loud"}, ("invalid_parameter", "level")),
        ({"link": "ftp://x/"}, ("not_an_http_url", "link")),
        ({"link": 5}, ("not_an_http_url", "link")),
        ({"words": "x"}, ("not_an_array_of_strings", "words")),
        ({"words": ["x", 5]}, ("not_a_string", "words.1")),
        ({"extra": []}, ("not_a_hash", "extra")),
        ({"extra": {"a": 5}}, ("not_a_string", "extra.a")),
        ({"inside": "x"}, ("not_a_hash", "inside")),
        ({"inside": {}}, ("missing_required_parameter", "inside.name")),
        ({"inside": {"name": "c"}}, ("invalid_parameter", "inside.name")),
        ({"items": [{"name": "a"}, {}]}, ("missing_required_parameter", "items.1.name")),
        ({"control_id": ""}, ("invalid_parameter", "control_id")),
        ({"control_id": 5}, ("not_a_string", "control_id")),
    ],
)
def test_what_is_wrong_is_named(params, expected):
    assert findings(params) == [expected]


def test_null_is_as_good_as_not_written():
    record, _ = read({"control_id": "c", "text": None, "count": None, "items": None})

    assert record == Params(control_id="c")


def test_everything_wrong_is_found_at_once():
    assert set(findings({"text": 5, "count": 99, "items": [{}]})) == {
        ("not_a_string", "text"),
        ("invalid_parameter", "count"),
        ("missing_required_parameter", "items.0.name"),
    }


def test_unknown_parameters_are_named_and_overlooked():
    record, ignored = read({"control_id": "c", "colour": 1, "inside": {"name": "a", "size": 2}})

    assert record == Params(control_id="c", inside=Item(name="a"))
    assert set(ignored) == {"colour", "inside.size"}


def test_unknown_parameters_are_wrong_where_that_is_wanted():
    assert findings({"colour": 1}, strict=True) == [("invalid_parameter", "colour")]


@given(st.text(max_size=40))
def test_text_is_text_whatever_it_looks_like(text):
    for value in (text, f"${{{text}}}", f"%{{{text}}}"):
        record, _ = read({"control_id": "c", "text": value, "words": [value], "extra": {"k": value}})

        assert (record.text, record.words, record.extra) == (value, (value,), {"k": value})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"type": "tts", "text": "x"}, {"type": "tts", "params": {"text": "x"}}),
        ({"type": "tts", "params": {"text": "x"}}, {"type": "tts", "params": {"text": "x"}}),
        ({"type": "tts", "params": None, "text": "x"}, {"type": "tts", "params": {"text": "x"}}),
        ({"type": "tts", "params": {"text": "x"}, "text": "y"}, {"type": "tts", "params": {"text": "x"}}),
        ({"type": "tts", "params": "x"}, {"type": "tts", "params": "x"}),
        ({"type": "tts", "params": "x", "text": "y"}, {"type": "tts", "params": "x", "text": "y"}),
        ({"type": "tts"}, {"type": "tts", "params": {}}),
        ({"text": "x"}, {"params": {"text": "x"}}),
        ("x", "x"),
        (None, None),
        ([1], [1]),
    ],
    ids=str,
)
def test_parameters_beside_a_type_are_parameters(written, meant):
    assert lifted(written) == meant


def test_a_client_of_another_generation_is_understood():
    record, _ = read({"label": "x"}, tidy=lambda params: {"text": params.pop("label"), **params})

    assert record.text == "x"


def test_a_record_without_a_control_id_can_open_nothing():
    with pytest.raises(TypeError, match="control_id"):
        live_command("calling.test", Item, opens="play")


def test_two_commands_of_one_name():
    with pytest.raises(ValueError, match="twice"):
        Commands([command(), command()])


# -- running ---------------------------------------------------------------------------------------------------------


def run(call, made, params):
    return made.run(call, made.read(params, strict=False)[0])


def refused(call, made, params):
    with pytest.raises(ApiError) as caught:
        run(call, made, params)
    return caught.value.status, caught.value.code, caught.value.attribute


@pytest.fixture
def call(tmp_path):
    return make_call(tmp_path)


def test_a_command_that_opens_a_control_answers_with_its_id(call):
    made = command(lambda call, params: call.control("play", params.control_id, method="test") and None, opens="play")

    assert run(call, made, {"control_id": "p1"}) == {"control_id": "p1"}
    assert refused(call, made, {"control_id": "p1"}) == (422, "value_not_unique", "control_id")


def test_an_id_is_free_again_when_its_operation_is_over(call):
    made = command(lambda call, params: call.control("play", params.control_id, method="test") and None, opens="play")
    run(call, made, {"control_id": "p1"})
    call.controls.find("play", "p1").to("finished")

    assert run(call, made, {"control_id": "p1"}) == {"control_id": "p1"}


def on_play(function=lambda _control, _params: None):
    return live_command("calling.play.test", ControlId, on="play")(function)


def test_a_command_on_a_control_gets_that_control(call):
    control = call.control("play", "p1", method="test")
    got = []

    assert run(call, on_play(lambda control, _: got.append(control)), {"control_id": "p1"}) == {}
    assert got == [control]


def test_a_control_that_never_was(call):
    assert refused(call, on_play(), {"control_id": "nobody"}) == (422, "provided_id_is_unrecognized", "control_id")


def test_a_control_of_another_kind_is_another(call):
    call.control("record", "p1", method="test")

    assert refused(call, on_play(), {"control_id": "p1"})[1] == "provided_id_is_unrecognized"


def test_stopping_what_has_ended_is_no_error(call):
    call.control("play", "p1", method="test").to("finished")

    assert run(call, on_play(), {"control_id": "p1"}) == {}


def test_a_call_in_another_state(tmp_path):
    call = make_call(tmp_path, answered=False)

    assert refused(call, command(), {"control_id": "c"})[:2] == (422, "invalid_state")
    assert run(call, command(states=("created",)), {"control_id": "c"}) == {}


def raising(problem):
    def function(_call, _params):
        raise problem

    return command(function)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (LegGone("NORMAL_CLEARING"), "invalid_state"),
        (CommandFailed("uuid_record", "-ERR no"), "call_update_failed"),
        (FetchError("https://x", "address", "is private"), "url_is_unsafe"),
        (FetchError("https://x", "malformed", "is none"), "url_failed_to_parse"),
        (ScriptError("relay_script_parse_error", "no"), "invalid_parameter"),
        (ApiError(422, "feature_not_available", "no"), "feature_not_available"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_goes_wrong_becomes_a_refusal(call, problem, code):
    assert refused(call, raising(problem), {"control_id": "c"})[:2] == (422, code)


def test_what_is_offered_is_not_said_to_be_missing():
    assert not set(MISSING) & set(COMMANDS.names)
    assert all(name.startswith("calling.") for name in COMMANDS.names)
