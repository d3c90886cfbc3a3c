"""Kinds of parameters: what is right when written, what is right when computed."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsctl.errors import ScriptError
from fsctl.swml.document import Where
from fsctl.swml.parameters import (
    REFUSED,
    Anything,
    Block_,
    Boolean,
    Integer,
    Kind,
    LabelName,
    Later,
    Number,
    Object,
    OneOf,
    Record,
    Records,
    Shape,
    Source,
    Text,
    TextList,
    Url,
    parameter,
    written,
)
from tests.swml.scripting import make_scope, refusal

TYPE = "relay_script_element_wrong_type"
VALUE = "relay_script_method_parameter_invalid_value"
MISSING = "relay_script_method_parameter_missing"
UNDEFINED = "relay_script_method_parameter_undefined"
CONFLICT = "relay_script_method_parameter_conflict"
WHERE = Where("main", (0, "play", "p"), None, "p")


class Checking:
    def __init__(self):
        self.found_all = []

    def found(self, code, message, where):
        self.found_all.append((code, message, where))
        return REFUSED

    def block(self, value, where):
        return ("block", value)

    def label(self, name, where):
        return None if name == "known" else self.found("no label", name, where)


def check(kind, value):
    """The checked value, or the codes of what is wrong."""
    checking = Checking()
    made = kind.check(value, WHERE, checking)
    if checking.found_all:
        assert made is REFUSED
        return [code for code, _, _ in checking.found_all]
    return made


def message(kind, value):
    checking = Checking()
    kind.check(value, WHERE, checking)
    return checking.found_all[0][1]


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (Text(), "a", "a"),
        (Text(), "", ""),
        (Text(), 5, [TYPE]),
        (Text(), True, [TYPE]),
        (Text(), None, [TYPE]),
        (Text(), ["a"], [TYPE]),
        (Text(choices=("a", "b")), "b", "b"),
        (Text(choices=("a", "b")), "c", [VALUE]),
        (Text(pattern="[0-9]+"), "12", "12"),
        (Text(pattern="[0-9]+"), "12x", [VALUE]),
        (Text(min_length=1), "", [VALUE]),
        (Text(min_length=2), "a", [VALUE]),
        (Text(max_length=2), "abc", [VALUE]),
        (Url(), "https://user:pw@example.test:8080/a?b=c#d", "https://user:pw@example.test:8080/a?b=c#d"),
        (Url(), "HTTP://EXAMPLE.TEST", "HTTP://EXAMPLE.TEST"),
        (Url(), "ftp://example.test", [VALUE]),
        (Url(schemes=("ws", "wss")), "wss://example.test", "wss://example.test"),
        (Url(), "example.test", [VALUE]),
        (Url(), "http://", [VALUE]),
        (Url(), "http:///path", [VALUE]),
        (Url(), "http://example.test/a b", [VALUE]),
        (Url(), "http://example.test/\nHost: x", [VALUE]),
        (Url(), "http://example.test:99999", [VALUE]),
        (Url(), "http://[::1", [VALUE]),
        (Url(), "", [VALUE]),
        (Url(), 5, [TYPE]),
        (Number(), 5, 5.0),
        (Number(), 2.5, 2.5),
        (Number(), "5", [TYPE]),
        (Number(), True, [TYPE]),
        (Number(low=0, high=1), 0, 0.0),
        (Number(low=0, high=1), 1, 1.0),
        (Number(low=0, high=1), -0.1, [VALUE]),
        (Number(low=0, high=1), 1.1, [VALUE]),
        (Number(low=0), -1, [VALUE]),
        (Number(high=0), 1, [VALUE]),
        (Number(), float("nan"), [TYPE]),
        (Number(), float("inf"), [TYPE]),
        (Number(), 10**400, [TYPE]),
        (Integer(), 5, 5),
        (Integer(), 5.0, 5),
        (Integer(), 5.5, [TYPE]),
        (Integer(), "5", [TYPE]),
        (Integer(), False, [TYPE]),
        (Integer(low=-1), -1, -1),
        (Integer(low=-1), -2, [VALUE]),
        (Boolean(), True, True),
        (Boolean(), "true", [TYPE]),
        (Boolean(), 1, [TYPE]),
        (TextList(), ["a", "b"], ("a", "b")),
        (TextList(), [], ()),
        (TextList(), "a", [TYPE]),
        (TextList(), ["a", 5, None], [TYPE, TYPE]),
        (TextList(one_or_many=True), "a", ("a",)),
        (TextList(one_or_many=True), 5, [TYPE]),
        (TextList(one_or_many=True), None, [TYPE]),
        (TextList(min_items=1), [], [VALUE]),
        (TextList(max_items=1), ["a", "b"], [VALUE]),
        (TextList(Integer()), [1, 2], (1, 2)),
        (Object(), {"a": [1]}, {"a": [1]}),
        (Object(), [], [TYPE]),
        (Object(), "a", [TYPE]),
        (Object(Text()), {"a": "b"}, {"a": "b"}),
        (Object(Text()), {"a": 1, "b": 2}, [TYPE, TYPE]),
        (Anything(), None, None),
        (Anything(), {"a": 1}, {"a": 1}),
        (OneOf({str: Url(), list: TextList()}), ["a"], ("a",)),
        (OneOf({str: Url(), list: TextList()}), "a", [VALUE]),
        (OneOf({str: Url(), list: TextList()}), 5, [TYPE]),
        (Block_(), [1], ("block", [1])),
        (Source(), "a == ${b}", "a == ${b}"),
        (Source(), True, "true"),
        (Source(), 1, "1"),
        (Source(), " ", [VALUE]),
        (Source(), None, [TYPE]),
        (Source(), ["a"], [TYPE]),
        (LabelName(), "known", "known"),
        (LabelName(), "other", ["no label"]),
        (LabelName(), "", [VALUE]),
        (LabelName(), 5, [TYPE]),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_written(kind, value, result):
    made = check(kind, value)
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (Text(), "${s}", "abc"),
        (Text(), "${n}", "5"),
        (Text(), "${one}", "1"),
        (Text(), "${t}", "true"),
        (Text(), "${nil}", ""),
        (Text(), "${missing}", ""),
        (Text(), "${list}", TYPE),
        (Text(min_length=1), "${missing}", VALUE),
        (Text(choices=("5", "abc")), "${n}", "5"),
        (Text(choices=("x",)), "${n}", VALUE),
        (Url(), "http://${s}.test", "http://abc.test"),
        (Url(), "${s}", VALUE),
        (Url(), "${missing}", VALUE),
        (Number(), "${n}", 5.0),
        (Number(), "${d}", 5.0),
        (Number(), "${d}.5", 5.5),
        (Number(), "-${n}e1", -50.0),
        (Number(), "${s}", TYPE),
        (Number(), "${missing}", TYPE),
        (Number(), "${t}", TYPE),
        (Number(high=4), "${d}", VALUE),
        (Integer(), "${d}", 5),
        (Integer(), "${one}", 1),
        (Integer(), "${half}", TYPE),
        (Boolean(), "${t}", True),
        (Boolean(), "${yes}", True),
        (Boolean(), "FALSE${missing}", False),
        (Boolean(), "${s}", TYPE),
        (TextList(), "${list}", ("a", "5")),
        (TextList(), ["x", "${n}"], ("x", "5")),
        (TextList(), ["x", "${list}"], TYPE),
        (TextList(), "${s}", TYPE),
        (TextList(one_or_many=True), "${s}", ("abc",)),
        (TextList(one_or_many=True), "${list}", ("a", "5")),
        (Object(), {"a": {"b": "${n}"}}, {"a": {"b": 5}}),
        (Object(), "${object}", {"k": "v"}),
        (Object(), "${s}", TYPE),
        (Object(Text()), {"a": "${n}"}, {"a": "5"}),
        (Anything(), ["${n}"], [5]),
        (OneOf({str: Url(), list: TextList()}), "${list}", ("a", "5")),
        (OneOf({str: Url(), list: TextList()}), "http://${s}", "http://abc"),
        (OneOf({str: Url(), list: TextList()}), "${n}", TYPE),
        (LabelName(), "${n}", "5"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_computed(kind, value, result):
    scope = make_scope(
        {
            "s": "abc",
            "n": 5,
            "d": "5",
            "one": 1.0,
            "half": 0.5,
            "t": True,
            "yes": "True",
            "nil": None,
            "list": ["a", 5],
            "object": {"k": "v"},
        }
    )
    later = check(kind, value)
    assert isinstance(later, Later)
    problem = refusal(later.read, scope)
    if problem is not None:
        assert problem.code == result
        assert problem.where.text.startswith("main[0].play.p")
        return
    made = later.read(scope)
    assert made == result
    assert type(made) is type(result)


@pytest.mark.parametrize("kind", [Block_(), Source()], ids=lambda kind: type(kind).__name__)
def test_parts_of_the_script_cannot_be_computed(kind):
    with pytest.raises(ScriptError) as caught:
        kind.read([], WHERE)
    assert caught.value.code == TYPE


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (Text(), 5, "`p` must be text, not a number"),
        (Text(), None, "`p` must be text, not null"),
        (Text(choices=("wav", "mp3")), "waw", "`p` must be one of wav, mp3; it is 'waw'; did you mean `wav`?"),
        (Number(low=-40, high=40), 50, "`p` must be from -40 to 40; it is 50"),
        (Integer(low=1), 0, "`p` must be at least 1; it is 0"),
        (Number(high=0.5), 1, "`p` must be at most 0.5; it is 1"),
        (TextList(), [5], "`p[0]` must be text, not a number"),
        (Boolean(), "yes", "`p` must be true or false, not text"),
        (OneOf({str: Url(), list: TextList()}), 5, "`p` must be a URL or a list, not a number"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_messages(kind, value, said):
    assert message(kind, value) == said


@pytest.mark.parametrize("kind", [Url(), Text(pattern="x"), Text(choices=("x",))], ids=lambda kind: type(kind).__name__)
def test_messages_never_show_credentials(kind):
    said = message(kind, "ftp://user:secret@example.test/path")
    assert "secret" not in said
    assert "example.test" in said


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    to: str = parameter(Text())
    timeout: int = parameter(Integer(low=1), default=60)
    from_: str | None = parameter(Text(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    need: str = parameter(Text())
    a: str | None = parameter(Text(), default=None)
    b: str | None = parameter(Text(), default=None)
    from_: str | None = parameter(Text(), default=None)
    renamed: int = parameter(Integer(), default=0, name="max-len")
    headers: dict = parameter(Object(), default={})
    inner: Inner | None = parameter(Record(Inner), default=None)
    inners: tuple = parameter(Records(Inner), default=())
    anything: object = parameter(Anything(), default="unset")
    wrote: frozenset = written()

    def __post_init__(self):
        if self.need == "never":
            raise ScriptError(CONFLICT, "never")


SHAPE = Shape(Outer)
CHOOSE = Shape(Outer, one_of=(("a", "b"),))


def fill(shape, value, scope=None):
    """The record, or what is wrong as (code, place)."""
    checking = Checking()
    made = shape.check(value, Where("main", (0, "m")), checking)
    if checking.found_all:
        assert made is REFUSED
        return [(code, where.text) for code, _, where in checking.found_all]
    return made.read(scope or make_scope()) if isinstance(made, Later) else made


def test_a_record_is_filled_and_has_its_defaults():
    record = fill(SHAPE, {"need": "x", "from": "+1", "max-len": 5})
    assert record == Outer(need="x", from_="+1", renamed=5, wrote=frozenset({"need", "from", "max-len"}))


def test_a_mutable_default_is_nobodys():
    assert fill(SHAPE, {"need": "x"}).headers is not fill(SHAPE, {"need": "x"}).headers


def test_null_is_as_good_as_not_written_unless_anything_goes():
    record = fill(SHAPE, {"need": "x", "a": None, "anything": None})
    assert (record.a, record.anything, record.wrote) == (None, None, {"need", "anything"})


def test_placeholders_are_filled_in_every_time():
    value = {"need": "${n}", "a": "x", "inners": [{"to": "${n}"}, {"to": "b", "timeout": "${t}"}]}
    for n, t in ((1, 5), (2, "6")):
        record = fill(SHAPE, value, make_scope({"n": n, "t": t}))
        assert record.need == str(n)
        assert record.inners == (Inner(to=str(n)), Inner(to="b", timeout=int(t)))
        assert record.wrote == {"need", "a", "inners"}


def test_a_whole_list_of_objects_may_be_computed():
    scope = make_scope({"legs": [{"to": "a"}, {"to": "b", "timeout": "3"}]})
    assert fill(SHAPE, {"need": "x", "inners": "${legs}"}, scope).inners == (Inner(to="a"), Inner(to="b", timeout=3))


@pytest.mark.parametrize(
    ("legs", "code", "place"),
    [
        ([{"too": "a"}], UNDEFINED, "main[0].m.inners[0].too"),
        ([{"to": "a"}, {}], MISSING, "main[0].m.inners[1].to"),
        ([{"to": "a", "timeout": 0}], VALUE, "main[0].m.inners[0].timeout"),
        (["a"], TYPE, "main[0].m.inners[0]"),
        ("a", TYPE, "main[0].m.inners"),
    ],
)
def test_what_is_computed_is_checked_again(legs, code, place):
    with pytest.raises(ScriptError) as caught:
        fill(SHAPE, {"need": "x", "inners": "${legs}"}, make_scope({"legs": legs}))
    assert (caught.value.code, caught.value.where.text) == (code, place)


@pytest.mark.parametrize(
    ("shape", "value", "wrong"),
    [
        (SHAPE, {}, [(MISSING, "main[0].m.need")]),
        (SHAPE, {"need": None}, [(MISSING, "main[0].m.need")]),
        (SHAPE, {"ned": "x"}, [(UNDEFINED, "main[0].m.ned"), (MISSING, "main[0].m.need")]),
        (SHAPE, {"need": 5, "a": 5}, [(TYPE, "main[0].m.need"), (TYPE, "main[0].m.a")]),
        (SHAPE, {"need": "x", "renamed": 5}, [(UNDEFINED, "main[0].m.renamed")]),
        (SHAPE, {"need": "x", "from_": "y"}, [(UNDEFINED, "main[0].m.from_")]),
        (SHAPE, {"need": "x", "wrote": []}, [(UNDEFINED, "main[0].m.wrote")]),
        (SHAPE, {"need": "x", "inner": {"to": 1}}, [(TYPE, "main[0].m.inner.to")]),
        (SHAPE, {"need": "x", "inner": []}, [(TYPE, "main[0].m.inner")]),
        (SHAPE, {"need": "x", "inners": [{"to": "${a}", "timeout": 0}]}, [(VALUE, "main[0].m.inners[0].timeout")]),
        (SHAPE, {"need": "never"}, [(CONFLICT, "main[0].m")]),
        (CHOOSE, {"need": "x"}, [(MISSING, "main[0].m.a")]),
        (CHOOSE, {"need": "x", "a": "1", "b": "2"}, [(CONFLICT, "main[0].m.b")]),
        (CHOOSE, {"need": "x", "b": "2", "a": None}, None),
    ],
)
def test_what_is_wrong_with_a_record(shape, value, wrong):
    made = fill(shape, value)
    if wrong is None:
        assert isinstance(made, Outer)
    else:
        assert made == wrong


def test_a_record_that_refuses_computed_values_says_where():
    with pytest.raises(ScriptError) as caught:
        fill(SHAPE, {"need": "${x}"}, make_scope({"x": "never"}))
    assert (caught.value.code, caught.value.where.text) == (CONFLICT, "main[0].m")


def test_a_close_name_is_suggested():
    checking = Checking()
    SHAPE.check({"need": "x", "header": {}}, WHERE, checking)
    assert checking.found_all[0][1] == "there is no parameter `header`; did you mean `headers`?"


def test_a_field_must_be_declared():
    @dataclass
    class Plain:
        a: int = 0

    with pytest.raises(TypeError, match="parameter"):
        Shape(Plain)
    with pytest.raises(TypeError, match="one_of"):
        Shape(Outer, one_of=(("a", "nobody"),))


def test_a_kind_of_ones_own_needs_one_rule():
    class Even(Kind):
        expects = "an even number"

        def exact(self, value, where):
            if value % 2:
                raise ScriptError(VALUE, "odd", where)
            return value

    assert check(Even(), 4) == 4
    assert check(Even(), 3) == [VALUE]
    assert check(Even(), "${n}").read(make_scope({"n": 6})) == 6


KINDS = [Text(), Url(), Number(), Integer(), Boolean(), TextList(one_or_many=True), Object(Number()), Anything()]
KINDS += [Records(Inner), OneOf({str: Url(), dict: Record(Inner)}), LabelName()]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["${a}", "x%{b}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("to"), inner, max_size=3),
    max_leaves=6,
)


@given(kind=st.sampled_from(KINDS), value=json_values, a=json_values, b=json_values)
def test_any_value_is_read_or_refused_with_a_code(kind, value, a, b):
    made = check(kind, value)
    if isinstance(made, Later):
        problem = refusal(made.read, make_scope({"a": a, "b": b}))
        assert problem is None or (problem.code.startswith("relay_script_") and problem.where is not None)
