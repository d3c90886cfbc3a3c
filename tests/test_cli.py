"""The command line: what each command is handed, what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fsctl import __version__, cli
from fsctl.config import Config, render_defaults, settings

ROOT = Path(__file__).parent.parent
GOOD = "version: 1.0.0\nsections:\n  main:\n    - answer: {}\n    - hangup: {}\n"
BAD = "version: 1.0.0\nsections:\n  main:\n    - answer: {}\n    - ply: {url: 'say:x'}\n"


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch):
    for variable in [name for name in os.environ if name.startswith("FSCTL_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setattr(cli, "DEFAULT_PATH", Path("/nonexistent/fsctl.yaml"))


@pytest.fixture
def fsctl(capsys):
    """Runs a command in this process; gives its exit code, standard output and standard error."""

    def run(*arguments):
        code = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def command(monkeypatch):
    """Puts a function in place of a module the command line imports when it is needed."""

    def put(module, name, function):
        fake = ModuleType(module)
        setattr(fake, name, function)
        monkeypatch.setitem(sys.modules, module, fake)

    return put


# --- The program ------------------------------------------------------------------------------------------------------


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fsctl", *arguments], capture_output=True, text=True, check=False, timeout=60, **options
    )


def test_the_program_runs_and_exits_with_the_commands_code(tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(BAD, encoding="utf-8")
    assert program("--version").stdout == f"fsctl {__version__}\n"
    assert program("check", str(wrong)).returncode == 1
    assert program("nonsense").returncode == 2
    assert program("config", "check", "--config", "/nonexistent").returncode == 78


PROBE = """
import sys
from fsctl import __main__
sys.argv[1:] = {arguments!r}
import fsctl.cli
def run(arguments):
    import gevent.monkey
    print(gevent.monkey.is_module_patched("socket"))
    return 0
fsctl.cli.run = run
__main__.main()
"""


@pytest.mark.parametrize(
    ("arguments", "patched"),
    [(["serve"], True), (["demo"], True), (["simulate", "x"], True), (["check", "serve"], False), ([], False)],
    ids=str,
)
def test_only_what_runs_calls_is_patched(arguments, patched):
    ran = subprocess.run(
        [sys.executable, "-c", PROBE.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ran.stdout.strip() == str(patched)


def test_looking_does_not_load_what_runs_calls():
    """`fsctl --help` and `fsctl config` answer at once."""
    loaded = "import sys, fsctl.cli; print([m for m in ('gevent', 'numpy', 'falcon', 'quickjs') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[]"


COMMANDS = [[], ["serve"], ["demo"], ["simulate"], ["check"], ["config"], ["config", "show"], ["config", "check"]]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_is_there_and_teaches_by_example(fsctl, names):
    code, out, err = fsctl(*names, "--help")
    assert (code, err) == (0, "")
    assert "fsctl " + " ".join(names) in out
    if names and names != ["config"]:
        assert "Examples:" in out


def test_help_lists_what_there_is(fsctl):
    _, out, _ = fsctl("--help")
    listed = [line.split()[0] for line in out.partition("Commands:\n")[2].splitlines()]
    assert listed == ["check", "config", "demo", "serve", "simulate", "stream-sink"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--nonsense"],
        ["check"],
        ["simulate"],
        ["simulate", "/nonexistent.yaml"],
        ["simulate", "-", "--digits", "12x"],
        ["simulate", "-", "--vars", "name"],
        ["simulate", "-", "--vars", "=value"],
        ["simulate", "-", "--speed", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_says_so_on_standard_error(fsctl, arguments):
    code, out, err = fsctl(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err


def test_a_reader_that_leaves_is_no_error_message():
    """As in `fsctl config show | head -1`; the shell makes sure that the reader is gone first."""
    script = 'exec > >(exec true); wait $!; exec "$0" -m fsctl config show'
    ran = subprocess.run(
        ["bash", "-c", script, sys.executable], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stderr) == (1, "")


# --- serve, demo, simulate --------------------------------------------------------------------------------------------


def test_serve_gets_the_settings_and_its_code_is_ours(fsctl, command, tmp_path, monkeypatch):
    file = tmp_path / "fsctl.yaml"
    file.write_text("event_socket: {max_calls: 7}", encoding="utf-8")
    given = []
    command("fsctl.server", "serve", lambda config: given.append(config) or 5)
    assert fsctl("serve", "--config", file)[0] == 5
    monkeypatch.setenv("FSCTL_CONFIG", str(file))
    assert fsctl("serve")[0] == 5
    assert [config.event_socket.max_calls for config in given] == [7, 7]


def test_serve_reads_the_usual_file_where_there_is_one(fsctl, command, tmp_path, monkeypatch):
    given = []
    command("fsctl.server", "serve", lambda config: given.append(config) or 0)
    assert fsctl("serve")[0] == 0
    usual = tmp_path / "fsctl.yaml"
    usual.write_text("event_socket: {max_calls: 7}", encoding="utf-8")
    monkeypatch.setattr(cli, "DEFAULT_PATH", usual)
    assert fsctl("serve")[0] == 0
    assert [config.event_socket.max_calls for config in given] == [Config().event_socket.max_calls, 7]


@pytest.mark.parametrize("name", ["serve", "check", "simulate"])
def test_settings_that_cannot_be_used_exit_78_before_anything_starts(fsctl, command, tmp_path, name):
    file = tmp_path / "fsctl.yaml"
    file.write_text("log: {level: loud}", encoding="utf-8")
    document = tmp_path / "good.yaml"
    document.write_text(GOOD, encoding="utf-8")
    command("fsctl.server", "serve", lambda _config: pytest.fail("started"))
    command("fsctl.simulation", "simulate", lambda *_args, **_kwargs: pytest.fail("started"))
    code, out, err = fsctl(name, *([] if name == "serve" else [document]), "--config", file)
    assert (code, out) == (78, "")
    assert err.startswith(f"{file}:1: log.level: 'loud' is not known; expected one of debug")


@pytest.mark.parametrize("json_lines", [False, True])
def test_demo_is_told_how_to_print(fsctl, command, json_lines):
    given = []
    command("fsctl.demo", "demo", lambda **options: given.append(options) or 0)
    assert fsctl("demo", *(["--json"] if json_lines else []))[0] == 0
    assert given == [{"json": json_lines, "color": False}]


def test_simulate_hands_everything_on(fsctl, command, tmp_path):
    document = tmp_path / "menu.yaml"
    document.write_text(GOOD, encoding="utf-8")
    given = []
    command("fsctl.simulation", "simulate", lambda path, **options: given.append((path, options)) or 1)
    code, _, _ = fsctl(
        "simulate", document, "--digits", "1w23#", "--to", "100", "--from", "200", "--vars", "a=1", "--vars", "b=x=y",
        "--params", "p=", "--speed", "50", "--json",
    )  # fmt: skip
    assert code == 1
    ((path, options),) = given
    assert path == str(document)
    assert options == {
        "digits": "1w23#",
        "to": "100",
        "from_": "200",
        "vars": {"a": "1", "b": "x=y"},
        "params": {"p": ""},
        "json": True,
        "color": False,
        "speed": 50.0,
        "config": Config(),
    }


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("environ", "color"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["a terminal", "NO_COLOR", "a dumb terminal"],
)
def test_color_is_for_terminals_that_want_it(fsctl, command, monkeypatch, environ, color):
    given = []
    command("fsctl.demo", "demo", lambda **options: given.append(options["color"]) or 0)
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patched:  # given back before the output is captured no longer
        patched.setattr(sys, "stdout", Terminal())
        assert cli.run(["demo"]) == 0
        assert given == [color]
        assert cli.run(["demo", "--json"]) == 0
        assert given[1:] == [False]


# --- check ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def documents(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "good.yaml").write_text(GOOD, encoding="utf-8")
    (tmp_path / "bad.yaml").write_text(BAD, encoding="utf-8")
    (tmp_path / "deep" / "good.json").write_text('{"sections": {"main": [{"answer": {}}]}}', encoding="utf-8")
    (tmp_path / "deep" / "notes.txt").write_text("not a document", encoding="utf-8")
    return tmp_path


def test_a_good_document_is_ok(fsctl, documents):
    assert fsctl("check", documents / "good.yaml") == (0, f"{documents}/good.yaml: ok\n", "")


def test_a_finding_names_file_line_section_place_and_code(fsctl, documents):
    code, out, _ = fsctl("check", documents / "good.yaml", documents / "bad.yaml")
    assert code == 1
    good, finding = out.splitlines()
    assert good.endswith("good.yaml: ok")
    assert finding.startswith(f"{documents}/bad.yaml:5: section main[1]")
    assert ": relay_script_method_undefined: " in finding


def test_json_has_an_object_per_finding_then_one_per_file(fsctl, documents):
    code, out, _ = fsctl("check", "--json", documents / "bad.yaml", documents / "good.yaml")
    finding, bad, good = map(json.loads, out.splitlines())
    assert code == 1
    assert list(finding) == ["file", "line", "section", "index", "code", "message"]
    assert finding["line"] == 5
    assert (finding["section"], finding["index"]) == ("main", 1)
    assert finding["code"] == "relay_script_method_undefined"
    assert bad == {"file": f"{documents}/bad.yaml", "ok": False}
    assert good == {"file": f"{documents}/good.yaml", "ok": True}


def test_a_finding_without_a_place_has_null_for_it(fsctl, tmp_path):
    (tmp_path / "empty.yaml").write_text("sections: {}", encoding="utf-8")
    _, out, _ = fsctl("check", "--json", tmp_path / "empty.yaml")
    finding = json.loads(out.splitlines()[0])
    assert (finding["section"], finding["index"]) == ("", None)
    assert finding["code"] == "relay_script_main_section_missing"


def test_directories_are_searched_to_their_depth(fsctl, documents):
    code, out, _ = fsctl("check", "--json", documents)
    files = [row["file"] for row in map(json.loads, out.splitlines()) if "ok" in row]
    assert code == 1
    assert files == [f"{documents}/bad.yaml", f"{documents}/deep/good.json", f"{documents}/good.yaml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.yaml", "cannot be read: No such file or directory"), ("nothing", "holds no .yaml, .yml or .json file")],
)
def test_what_cannot_be_read_is_wrong(fsctl, tmp_path, name, message):
    (tmp_path / "nothing").mkdir()
    code, out, _ = fsctl("check", tmp_path / name)
    assert (code, out) == (1, f"{tmp_path}/{name}: unreadable: {message}\n")


def test_standard_input_is_a_document_too():
    ran = program("check", "-", "--json", input=BAD)
    assert ran.returncode == 1
    assert json.loads(ran.stdout.splitlines()[0])["file"] == "-"
    assert program("check", "-", input=GOOD).stdout == "-: ok\n"


def test_a_document_larger_than_the_service_takes_is_wrong(fsctl, tmp_path):
    config = tmp_path / "fsctl.yaml"
    config.write_text("documents: {max_bytes: 1024}", encoding="utf-8")
    (tmp_path / "large.yaml").write_text(GOOD + "#" * 1024, encoding="utf-8")
    assert fsctl("check", tmp_path / "large.yaml")[0] == 0
    assert fsctl("check", tmp_path / "large.yaml", "--config", config)[0] == 1


# --- config -----------------------------------------------------------------------------------------------------------


def test_config_show_prints_every_setting_with_its_origin(fsctl, tmp_path, monkeypatch):
    file = tmp_path / "fsctl.yaml"
    file.write_text("http: {listen: '127.0.0.1:9'}\nproject: {signing_key: hidden_key}", encoding="utf-8")
    monkeypatch.setenv("FSCTL_LOG_LEVEL", "debug")
    code, out, _ = fsctl("config", "show", "--json", "--config", file)
    rows = {row["name"]: (row["value"], row["origin"]) for row in map(json.loads, out.splitlines())}
    assert code == 0
    assert list(rows) == list(settings())
    assert rows["http.listen"] == ("127.0.0.1:9", f"{file}:1")
    assert rows["log.level"] == ("debug", "FSCTL_LOG_LEVEL")
    assert rows["calls.max_duration"] == (14400, "default")
    assert rows["project.signing_key"] == ("(set)", f"{file}:2")
    _, text, _ = fsctl("config", "show", "--config", file)
    assert len(text.splitlines()) == len(rows)
    assert "hidden_key" not in out + text


def test_config_show_defaults_is_a_whole_file(fsctl):
    assert fsctl("config", "show", "--defaults") == (0, render_defaults(), "")


def test_config_check_says_whether_the_settings_can_be_used(fsctl, tmp_path):
    file = tmp_path / "fsctl.yaml"
    file.write_text("log: {level: debug}", encoding="utf-8")
    assert fsctl("config", "check", "--config", file) == (0, f"ok: {len(settings())} settings, 1 of them given\n", "")
    file.write_text("log: {level: loud, colour: red}", encoding="utf-8")
    code, out, err = fsctl("config", "check", "--config", file)
    assert (code, out) == (78, "")
    assert err.count(f"{file}:1: ") == 2
    code, out, _ = fsctl("config", "check", "--json", "--config", file)
    assert code == 78
    assert [json.loads(line)["setting"] for line in out.splitlines()] == ["log.colour", "log.level"]
