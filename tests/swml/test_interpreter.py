"""How a script runs: order, subroutines, jumps, budgets, and what an error means."""

from dataclasses import dataclass

import pytest

from fsctl.errors import ExpressionError, FetchError, Interrupted, LegGone, ScriptError
from fsctl.swml.check import DocumentInvalid, compile_document
from fsctl.swml.choice import Result
from fsctl.swml.flow import Choose, Transfer
from fsctl.swml.interpreter import Interpreter, Limits
from fsctl.swml.method import Methods, method
from fsctl.swml.parameters import LabelName, parameter
from tests.swml.scripting import METHODS, Call, Run, javascript, make_scope, no_javascript, run

INTERNAL = "relay_script_internal_error"
FAILED = "relay_script_method_execute_failed"
JS = "relay_script_js_eval_error"
TOO_MANY = "relay_script_too_many_transfers"
NO_SECTION = "relay_script_section_parameter_undefined"
VALUE = "relay_script_method_parameter_invalid_value"
URL = "https://example.test/doc"


def fatal(story, code, where):
    """The script ended with this error, said so in its variable, and told the observer."""
    assert isinstance(story.error, ScriptError)
    assert (story.error.code, story.error.where.text) == (code, where)
    assert story.vars["script_error"] == f"{code}: {story.error.message}"
    return True


def sub(*steps, **others):
    """A main section that calls ``sub`` and notes "after"."""
    return {"main": [{"execute": {"dest": "sub", **others}}, {"note": "after"}], "sub": list(steps)}


# Order


def test_instructions_run_in_order_and_the_script_ends_with_its_section():
    story = run({"main": [{"note": 1}, {"note": 2}], "other": [{"note": 3}]})
    assert story.notes == [1, 2]
    assert story.steps == 2
    assert story.error is None


def test_an_empty_script_ends_at_once():
    assert run({"main": []}).steps == 0


def test_a_nested_block_runs_and_the_script_goes_on_behind_it():
    inner = {"cond": [{"when": "true", "then": [{"note": "inner"}, {"cond": [{"else": [{"note": "innermost"}]}]}]}]}
    assert run({"main": [{"note": "before"}, inner, {"note": "after"}]}).notes == [
        "before",
        "inner",
        "innermost",
        "after",
    ]


def test_the_observer_hears_every_instruction():
    story = run({"main": [{"note": 1}, {"cond": [{"else": [{"note": 2}]}]}]})
    assert story.told == [
        ("starting", "main[0].note"),
        ("finished", "main[0].note", "ok"),
        ("starting", "main[1].cond"),
        ("finished", "main[1].cond", "ok"),
        ("starting", "main[1].cond[0].else[0].note"),
        ("finished", "main[1].cond[0].else[0].note", "ok"),
    ]


def test_stop_ends_the_script():
    story = run(sub("end", {"note": "never"}, on_return=[{"note": "never"}]))
    assert story.notes == []
    assert story.error is None


def test_placeholders_are_expanded_when_the_instruction_runs():
    story = run({"main": [{"set": {"a": 1}}, {"note": "${a}"}, {"set": {"a": "${a + 1}"}}, {"note": "${a}"}]})
    assert story.notes == [1, 2]


# execute and return


def test_a_subroutine_returns_at_its_end():
    assert run(sub({"note": "in"})).notes == ["in", "after"]


def test_a_subroutine_returns_a_value_from_anywhere_in_it():
    story = run(sub({"cond": [{"else": [{"cond": [{"else": [{"return": {"a": "${1 + 1}"}}]}]}]}]}, {"note": "never"}))
    assert story.notes == ["after"]
    assert story.vars == {"return_value": {"a": 2}}


@pytest.mark.parametrize("step", ["return", {"return": None}, {"return": {}}], ids=str)
def test_returning_nothing_sets_no_return_value(step):
    story = run(sub(step, result={"case": {}, "default": [{"note": "never"}]}))
    assert story.notes == ["after"]
    assert story.vars == {}


def test_return_outside_a_subroutine_ends_the_script():
    assert run({"main": [{"cond": [{"else": [{"return": 1}]}]}, {"note": "never"}]}).notes == []


def test_params_replace_the_callers_and_come_back():
    story = run(
        {
            "main": [{"execute": {"dest": "one", "params": {"a": "A", "b": "B"}}}, {"note": "main ${params.a}"}],
            "one": [
                {"note": "one ${params.a} ${params.b}"},
                {
                    "execute": {
                        "dest": "two",
                        "params": {"a": "${params.b}"},
                        "on_return": [{"note": "back ${params.a}"}],
                    }
                },
                {"note": "one ${params.a} ${params.b}"},
                {"execute": "two"},
            ],
            "two": [{"note": "two ${params.a} ${params.b}"}],
        }
    )
    assert story.notes == ["one A B", "two B ", "back A", "one A B", "two  ", "main "]


@pytest.mark.parametrize(
    ("stringify", "bound"),
    [
        (True, ["5", "1", "true", None, "x", [1, True], {"a": 1}]),
        (False, [5, 1.0, True, None, "x", [1, True], {"a": 1}]),
    ],
)
def test_scalar_params_become_text(stringify, bound):
    params = {"n": 5, "one": 1.0, "t": True, "nil": None, "s": "x", "l": [1, True], "o": {"a": 1}}
    story = run(
        sub({"note": [f"${{params.{name}}}" for name in params]}, params=params),
        limits=Limits(stringify_params=stringify),
    )
    assert story.notes == [bound, "after"]
    assert [type(value) for value in story.notes[0]] == [type(value) for value in bound]


def test_vars_are_shared_with_the_subroutine():
    story = run({"main": [{"set": {"a": 1}}, {"execute": "sub"}, {"note": "${b}"}], "sub": [{"set": {"b": "${a}"}}]})
    assert story.notes == [1]


def test_params_given_to_a_subroutine_share_nothing_with_the_document():
    story = run(sub({"set": {"kept": "${params.list}"}}, params={"list": [{"a": 1}]}), catch=False)
    story.vars["kept"][0]["a"] = 2
    document = compile_document('{"sections": {"main": [{"set": {"x": {"deep": [1]}}}]}}', METHODS)
    scope = make_scope({})
    for _ in range(2):
        Interpreter(document, METHODS, Call(), scope=scope, load=None, observer=Run(Call(), {})).run()
        assert scope.vars["x"] == {"deep": [1]}
        scope.vars["x"]["deep"].append(2)


def test_on_return_runs_before_the_result():
    story = run(
        sub(
            {"return": "x"},
            on_return=[{"note": "on_return ${return_value}"}],
            result={"case": {"x": [{"note": "result"}]}},
        )
    )
    assert story.notes == ["on_return x", "result", "after"]


@pytest.mark.parametrize(
    ("returned", "result", "notes"),
    [
        ("a", {"case": {"a": [{"note": 1}]}, "default": [{"note": 2}]}, [1]),
        ("b", {"case": {"a": [{"note": 1}]}, "default": [{"note": 2}]}, [2]),
        (5, {"case": {"5": [{"note": 1}]}}, [1]),
        ({"v": "q"}, {"variable": "return_value.v", "case": {"q": [{"note": 1}]}}, [1]),
        (5, [{"when": "return_value > 4", "then": [{"note": 1}]}, {"else": [{"note": 2}]}], [1]),
        (3, [{"when": "return_value > 4", "then": [{"note": 1}]}, {"else": [{"note": 2}]}], [2]),
        (3, [{"when": "return_value > 4", "then": [{"note": 1}]}], []),
    ],
)
def test_the_form_of_result_decides_how_it_chooses(returned, result, notes):
    assert run(sub({"return": returned}, result=result)).notes == [*notes, "after"]


def test_result_runs_only_for_a_return_value_the_subroutine_set():
    result = {"case": {}, "default": [{"note": "result"}]}
    assert run(sub({"note": "in"}, result=result), {"return_value": "old"}).notes == ["in", "after"]
    assert run(sub({"set": {"return_value": "new"}}, result=result)).notes == ["result", "after"]


def test_a_result_without_a_match_ends_the_script():
    story = run(sub({"return": "x"}, result={"case": {}}))
    assert fatal(story, "relay_script_method_no_matching_condition", "main[0].execute")
    assert story.notes == []


def test_a_goto_in_on_return_leaves_the_rest_of_the_execute():
    story = run(
        {
            "main": [
                {
                    "execute": {
                        "dest": "sub",
                        "on_return": [{"goto": "out"}],
                        "result": {"case": {}, "default": [{"note": "no"}]},
                    }
                },
                {"note": "no"},
                {"label": "out"},
                {"note": "out"},
            ],
            "sub": [{"return": 1}],
        }
    )
    assert story.notes == ["out"]


def test_subroutines_within_subroutines_are_bounded():
    story = run({"main": [{"execute": "main"}]}, limits=Limits(max_execute_depth=5))
    assert fatal(story, "relay_script_nested_too_deep", "main[0].execute")
    assert story.steps == 6


# transfer


def test_a_transfer_never_comes_back():
    story = run(
        {
            "main": [{"execute": {"dest": "sub", "on_return": [{"note": "never"}]}}, {"note": "never"}],
            "sub": [{"cond": [{"else": [{"transfer": {"dest": "end", "params": {"a": 1}}}]}]}, {"note": "never"}],
            "end": [{"note": "${params.a}"}, {"return": 5}, {"note": "never"}],
        }
    )
    assert story.notes == ["1"]
    assert story.vars == {}


# Documents


def test_a_document_behind_a_url_is_a_subroutine():
    web = {URL: '{"sections": {"main": [{"note": "${params.a}"}, {"execute": "sub"}], "sub": [{"note": "in"}]}}'}
    document = {"main": [{"execute": {"dest": URL, "params": {"a": 1}}}, {"execute": "own"}], "own": [{"note": "own"}]}
    story = run(document, web=web)
    assert story.notes == ["1", "in", "own"]
    assert story.loads == [(URL, {"a": "1"}, "execute")]
    assert story.vars == {}


def test_a_document_behind_a_url_may_be_transferred_to():
    story = run(
        {"main": [{"transfer": "${url}"}, {"note": "never"}]},
        {"url": URL},
        web={URL: '{"sections": {"main": [{"note": 1}]}}'},
    )
    assert story.notes == [1]
    assert story.loads == [(URL, {}, "transfer")]


@pytest.mark.parametrize("method", ["execute", "transfer"])
def test_a_document_may_be_written_into_the_destination(method):
    inline = '{"sections": {"main": [{"note": "${params.a} ${b}"}]}}'
    assert run({"main": [{method: {"dest": inline, "params": {"a": 1}}}]}, {"b": 2}).notes == ["1 2"]


def test_a_variable_cannot_add_instructions_to_an_inline_document():
    inline = '[{"note": "${from}"}]'
    assert run({"main": [{"execute": inline}]}, {"from": '"}, {"note": "injected'}).notes == ['"}, {"note": "injected']


@pytest.mark.parametrize(
    ("dest", "notes"),
    [
        ('[{"note": 1}]', [1]),
        ("sections:\n  main:\n  - note: 1", [1]),
        ("other", ["other"]),
    ],
)
def test_a_computed_destination_is_looked_at_when_it_is_known(dest, notes):
    assert run({"main": [{"execute": "${dest}"}], "other": [{"note": "other"}]}, {"dest": dest}).notes == notes


@pytest.mark.parametrize(
    ("dest", "code"),
    [
        ("nowhere", NO_SECTION),
        ("", VALUE),
        ("ftp://example.test", VALUE),
        ("{nonsense", "relay_script_parse_error"),
        ('{"sections": {"main": [{"nothing": {}}]}}', "relay_script_method_undefined"),
        (["main"], "relay_script_element_wrong_type"),
    ],
    ids=repr,
)
def test_a_computed_destination_that_is_none_ends_the_script(dest, code):
    story = run({"main": [{"transfer": "${dest}"}, {"note": "never"}]}, {"dest": dest})
    assert story.error.code == code
    assert story.vars["script_error"].startswith(code)
    assert story.notes == []


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (FetchError(URL, "timeout", "no answer in 10 s"), FAILED),
        (FetchError(URL, "malformed", "no host"), "relay_script_parse_error"),
        (ScriptError("relay_script_version_invalid", "too new"), "relay_script_version_invalid"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["execute", "transfer"])
def test_a_document_that_does_not_come_ends_the_script(problem, code, method):
    story = run({"main": [{method: URL}, {"note": "never"}]}, web={URL: problem})
    assert fatal(story, code, f"main[0].{method}")
    assert story.told[-1] == ("finished", f"main[0].{method}", "error")


def test_a_fetched_document_that_is_wrong_is_reported_at_its_own_place():
    story = run({"main": [{"execute": URL}]}, web={URL: '{"sections": {"main": [\n{"nothing": 1}]}}'})
    assert isinstance(story.error, DocumentInvalid)
    assert str(story.error.where) == "main[0].nothing (line 2)"


def test_documents_that_lead_to_documents_are_bounded():
    web = {URL: f'{{"sections": {{"main": [{{"note": 1}}, {{"execute": "{URL}"}}]}}}}'}
    story = run({"main": [{"execute": URL}]}, web=web, limits=Limits(max_documents=5))
    assert fatal(story, INTERNAL, "main[1].execute")
    assert story.notes == [1] * 4


def test_a_document_that_came_back_does_not_count():
    web = {URL: '{"sections": {"main": [{"note": 1}]}}'}
    assert run({"main": [{"execute": URL}] * 10}, web=web, limits=Limits(max_documents=2)).notes == [1] * 10


# goto


def test_a_loop_of_max_3_runs_its_body_four_times():
    story = run({"main": [{"label": "a"}, {"note": 1}, {"goto": {"label": "a", "max": 3}}, {"note": "end"}]})
    assert story.notes == [1, 1, 1, 1, "end"]


def test_gotos_to_one_label_share_its_count():
    steps = [{"label": "a"}, {"note": 1}, {"goto": {"label": "a", "max": 2}}, {"goto": {"label": "a", "max": 3}}]
    assert run({"main": steps}).notes == [1, 1, 1, 1]


def test_labels_count_apart():
    steps = [
        {"label": "a"},
        {"label": "b"},
        {"note": 1},
        {"goto": {"label": "b", "max": 1}},
        {"goto": {"label": "a", "max": 1}},
    ]
    assert run({"main": steps}).notes == [1, 1, 1]


def test_a_subroutine_counts_anew_each_time():
    steps = [{"label": "a"}, {"note": 1}, {"goto": {"label": "a", "max": 1}}]
    assert run({"main": [{"execute": "sub"}, {"execute": "sub"}], "sub": steps}).notes == [1, 1, 1, 1]


@pytest.mark.parametrize(("when", "notes"), [("n < 3", [1, 2, 3]), ("false", [1]), ("${n} < 2", [1, 2])])
def test_a_goto_with_a_condition(when, notes):
    steps = [
        {"set": {"n": 0}},
        {"label": "a"},
        {"set": {"n": "${n + 1}"}},
        {"note": "${n}"},
        {"goto": {"label": "a", "when": when}},
    ]
    assert run({"main": steps}).notes == notes


def test_a_goto_leaves_the_blocks_it_is_in():
    steps = [
        {"label": "a"},
        {"note": "a"},
        {
            "cond": [
                {
                    "when": "true",
                    "then": [{"cond": [{"else": [{"goto": {"label": "a", "max": 1}}]}]}, {"note": "inner"}],
                }
            ]
        },
        {"note": "end"},
    ]
    assert run({"main": steps}).notes == ["a", "a", "inner", "end"]


def test_the_innermost_label_of_a_name_is_meant():
    steps = [
        {"label": "a"},
        {"note": "outer"},
        {"cond": [{"else": [{"label": "a"}, {"note": "inner"}, {"goto": {"label": "a", "max": 1}}]}]},
    ]
    assert run({"main": steps}).notes == ["outer", "inner", "inner"]


def test_a_goto_may_go_forward():
    assert run({"main": [{"goto": "b"}, {"note": "never"}, {"label": "b"}, {"note": "b"}]}).notes == ["b"]


def test_a_computed_label_that_is_not_there_ends_the_script():
    story = run({"main": [{"goto": "${where}"}], "sub": [{"label": "b"}]}, {"where": "b"})
    assert fatal(story, VALUE, "main[0].goto")


def test_a_label_of_the_caller_is_out_of_reach():
    story = run({"main": [{"label": "a"}, {"execute": "sub"}], "sub": [{"goto": "${where}"}]}, {"where": "a"})
    assert fatal(story, VALUE, "sub[0].goto")


# Budgets


def test_eight_jumps_without_the_caller_are_too_few_for_a_ninth():
    story = run({"main": [{"label": "a"}, {"note": 1}, {"goto": "a"}]})
    assert fatal(story, TOO_MANY, "main[2].goto")
    assert len(story.notes) == 9


def test_a_caller_who_acts_gets_32_jumps():
    story = run({"main": [{"label": "a"}, {"note": 1}, "press", {"goto": "a"}]})
    assert fatal(story, TOO_MANY, "main[3].goto")
    assert len(story.notes) == 33


def test_transfers_and_gotos_share_the_budget():
    steps = [{"label": "a"}, {"note": 1}, {"goto": {"label": "a", "max": 1}}, {"transfer": "main"}]
    story = run({"main": steps}, limits=Limits(max_jumps_without_input=5))
    assert fatal(story, TOO_MANY, "main[3].transfer")
    assert len(story.notes) == 6


def test_jumps_that_were_not_made_cost_nothing():
    steps = [{"label": "a"}, *[{"goto": {"label": "a", "when": "false"}}] * 50, {"note": "end"}]
    assert run({"main": steps}).notes == ["end"]


def test_subroutines_cost_no_jumps():
    assert run({"main": [{"execute": "sub"}] * 50, "sub": [{"note": 1}]}).notes == [1] * 50


def test_a_script_may_take_only_so_many_steps():
    sections = {"main": [{"execute": "s1"}] * 10, "s1": [{"execute": "s2"}] * 10, "s2": [{"note": 1}] * 10}
    story = run(sections, limits=Limits(max_steps=100))
    assert story.error.code == INTERNAL
    assert story.steps == 101
    assert "100" in story.error.message


# What goes wrong


def test_a_refused_command_becomes_the_result_and_the_script_goes_on():
    story = run({"main": [{"break": "command"}, {"note": "${break_result}"}]})
    assert story.notes == ["failed"]
    assert story.vars["script_error"] == f"{FAILED}: playback: -ERR no such file"
    assert story.told[:2] == [("starting", "main[0].break"), ("finished", "main[0].break", "failed")]
    assert story.warnings == []


@pytest.mark.parametrize(("how", "code"), [("script", VALUE), ("expression", JS), ("fetch", FAILED)])
def test_other_failures_of_a_method_are_also_warned_of(how, code):
    story = run({"main": [{"break": how}, {"note": "${break_result}"}]})
    assert story.notes == ["failed"]
    assert story.vars["script_error"].startswith(code + ": ")
    assert story.warnings == [(code, "main[0].break")]
    assert ("finished", "main[0].break", "failed") in story.told


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ({"sing": {"text": "${nobody.home()}"}}, JS),
        ({"sing": {"text": "${missing}"}}, VALUE),
        ({"sing": {"text": "x", "volume": "${loud}"}}, VALUE),
        ({"sing": {"text": "x", "times": "${word}"}}, "relay_script_element_wrong_type"),
    ],
)
def test_parameters_that_cannot_be_read_fail_the_method(step, code):
    story = run({"main": [step, {"note": "${sing_result}"}]}, {"loud": 99, "word": "three"})
    assert story.notes == ["failed"]
    assert story.warnings == [(code, "main[0].sing")]


def test_a_method_without_a_result_variable_only_warns():
    story = run({"main": [{"note": "${nobody.home()}"}, {"note": "on"}]})
    assert story.notes == ["on"]
    assert list(story.vars) == ["script_error"]
    assert story.warnings == [(JS, "main[0].note")]


@pytest.mark.parametrize(
    ("step", "code", "where"),
    [
        ({"cond": [{"when": "nobody.home()", "then": []}]}, JS, "main[0].cond[0].when"),
        ({"cond": [{"when": "x" * 1024, "then": []}]}, JS, "main[0].cond[0].when"),
        ({"switch": {"variable": "nobody()", "case": {}}}, JS, "main[0].switch"),
        ({"switch": {"variable": "x", "case": {}}}, "relay_script_method_no_matching_condition", "main[0].switch"),
        ({"goto": {"label": "end", "when": "nobody()"}}, JS, "main[0].goto"),
        ({"goto": {"label": "end", "max": "${x}"}}, "relay_script_element_wrong_type", "main[0].goto.max"),
        ({"set": {"a": "${nobody()}"}}, JS, "main[0].set"),
        ({"return": "${nobody()}"}, JS, "main[0].return"),
        ({"execute": {"dest": "main", "params": {"a": "${nobody()}"}}}, JS, "main[0].execute"),
        ({"unset": "${o}"}, "relay_script_element_wrong_type", "main[0].unset"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_fails_in_a_flow_method_ends_the_script(step, code, where):
    story = run({"main": [step, {"label": "end"}, {"note": "never"}]}, {"x": "y", "o": {}})
    assert fatal(story, code, where)
    assert story.notes == []
    assert story.warnings == []
    assert story.told[-1][-1] == "error"


def test_a_defect_ends_the_script_and_keeps_its_cause():
    story = run({"main": [{"break": "bug"}, {"note": "never"}]})
    assert fatal(story, INTERNAL, "main[0].break")
    assert isinstance(story.error.__cause__, ZeroDivisionError)
    assert story.told[-1] == ("finished", "main[0].break", "error")


def test_an_error_keeps_what_it_came_from():
    story = run({"main": [{"cond": [{"when": "nobody()", "then": []}]}]})
    assert isinstance(story.error.__cause__, ExpressionError)


def test_an_error_has_its_line():
    story = run("sections:\n  main:\n  - note: 1\n  - cond:\n    - when: nobody()\n      then: []\n")
    assert str(story.error.where) == "main[1].cond[0].when (line 5)"


def test_hangup_unwinds_the_script():
    story = run(sub({"break": "gone"}, on_return=[{"note": "never"}]))
    assert isinstance(story.error, LegGone)
    assert story.error.cause == "NORMAL_CLEARING"
    assert story.notes == []
    assert story.vars == {}
    assert story.told[-1] == ("finished", "sub[0].break", "hangup")


# From outside


def test_an_interruption_is_followed_like_an_answer():
    story = run({"main": [{"break": "other"}, {"note": "never"}], "other": [{"note": "other"}]})
    assert story.notes == ["other"]
    assert ("finished", "main[0].break", "ok") in story.told
    assert "break_result" not in story.vars


def test_an_interruption_may_end_the_script():
    assert run({"main": [{"break": "stop"}, {"note": "never"}]}).notes == []


def test_being_redirected_from_outside_costs_no_jump():
    story = run({"main": [{"note": 1}, {"break": "main"}]}, limits=Limits(max_jumps=2, max_steps=100))
    assert story.error.code == INTERNAL
    assert len(story.notes) == 50


def test_an_interruption_to_a_section_that_is_not_there_ends_the_script():
    assert fatal(run({"main": [{"break": "nowhere"}]}), NO_SECTION, "main[0].break")


def test_an_interruption_while_a_document_is_fetched():
    story = run(
        {"main": [{"execute": URL}, {"note": "never"}], "b": [{"note": "b"}]}, web={URL: Interrupted(Transfer("b"))}
    )
    assert story.notes == ["b"]


def test_hangup_while_a_document_is_fetched():
    story = run({"main": [{"execute": URL}]}, web={URL: LegGone("ORIGINATOR_CANCEL")})
    assert isinstance(story.error, LegGone)
    assert story.told[-1] == ("finished", "main[0].execute", "hangup")


# Methods that answer flow


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    result: object = parameter(Result())


@dataclass(frozen=True, slots=True, kw_only=True)
class Leap:
    to: str = parameter(LabelName())


@pytest.mark.parametrize(("value", "notes"), [("a", ["chosen"]), ("b", [])])
def test_a_method_may_answer_a_choice(value, notes):
    @method("ask", Ask)
    def ask(call, params):
        return Choose(params.result)

    story = run(
        {"main": [{"ask": {"result": [{"when": "v == 'a'", "then": [{"note": "chosen"}]}]}}]},
        {"v": value},
        methods=Methods([*METHODS, ask]),
        evaluator=no_javascript,
    )
    assert story.notes == notes


def test_what_goes_wrong_in_following_a_methods_answer_is_fatal():
    @method("leap", Leap)
    def leap(call, params):
        return Transfer(params.to)

    story = run({"main": [{"leap": {"to": "here"}}, {"label": "here"}]}, methods=Methods([*METHODS, leap]))
    assert fatal(story, NO_SECTION, "main[0].leap")


def test_an_answer_that_is_no_flow_is_a_defect():
    @method("odd")
    def odd(call, params):
        return "main"

    assert fatal(run({"main": ["odd"]}, methods=Methods([*METHODS, odd])), INTERNAL, "main[0].odd")


# The reference's own kind of script


def test_a_menu_like_the_references():
    """A prompt is retried while its answer is no choice, then the call goes to a department."""
    text = """
version: 1.0.0
sections:
  main:
    - set: {tries: 0, department: ''}
    - label: menu
    - set: {tries: "${tries + 1}"}
    - press
    - execute:
        dest: ask
        params: {attempt: "${tries}"}
        result:
          case:
            '1': [{set: {department: sales}}, {goto: connect}]
            '2': [{set: {department: support}}, {goto: connect}]
          default:
            - cond:
                - when: vars.tries >= 3
                  then: [{transfer: {dest: goodbye, params: {why: "too many tries"}}}]
                - else: [{goto: {label: menu}}]
    - label: connect
    - note: "to ${department} after ${tries}"
  ask:
    - switch:
        variable: params.attempt
        case:
          '1': [{return: 7}]
          '2': [{return: "%{second}"}]
        default: [{return: 9}]
  goodbye:
    - note: "bye: ${params.why}"
"""
    assert run(text, {"second": 2}).notes == ["to support after 2"]
    assert run(text, {"second": 8}).notes == ["bye: too many tries"]


def test_javascript_sees_what_the_reference_says_it_sees():
    steps = [
        {"set": {"subtotal": 10, "tax": "${subtotal * 0.5}", "total": "${subtotal + tax}"}},
        {"note": "${total.toFixed(2)}"},
        {"note": "${[1, 2, 3].map(n => n * subtotal).reduce((a, b) => a + b)}"},
        {"note": "${call.type.toLowerCase()} ${type} %{host}"},
        {"cond": [{"when": "envs.host.startsWith('ex') && vars.tax === 5", "then": [{"note": True}]}]},
    ]
    story = run({"main": steps}, call={"type": "Phone"}, envs={"host": "example"}, evaluator=javascript)
    assert story.notes == ["15.00", 60, "phone Phone example", True]
