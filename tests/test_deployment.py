"""What is shipped beside the program: units, dialplan, FreeSWITCH fragments, example documents, README, Makefile.

Held against the program itself, so that none of it can say what is no longer true.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from prometheus_client import CollectorRegistry

from fsctl.cli import cli
from fsctl.config import Config, plain, settings
from fsctl.methods import METHODS
from fsctl.metrics import Metrics
from fsctl.swml.check import Compiler
from fsctl.swml.method import PUBLISHED
from fsctl.systemd import listening_sockets

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DIALPLANS = sorted((ROOT / "dialplan").rglob("*.xml"))
XML = [*DIALPLANS, *sorted((ROOT / "conf/freeswitch").rglob("*.xml"))]
EXAMPLES = sorted((ROOT / "conf/swml").glob("*.yaml"))
UNITS = sorted(path for path in (ROOT / "systemd").iterdir() if path.is_file())
EVENT_SOCKET = str(Config().event_socket.listen)


def name(path):
    return str(path.relative_to(ROOT))


# --- FreeSWITCH -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", XML, ids=name)
def test_xml_is_what_freeswitch_reads(path):
    """FreeSWITCH goes through files line by line before it parses them, comments included."""
    ElementTree.parse(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "x-pre-process" in line.lower()], "it would be obeyed inside a comment"
    assert not [line for line in lines if "include>" in line and line not in ("<include>", "</include>")]


def extensions(path):
    return list(ElementTree.parse(path).getroot().iter("extension"))


def actions(extension):
    return [(step.get("application"), step.get("data", "")) for step in extension.iter() if step.tag.endswith("action")]


CONTROLLED = [
    pytest.param(path, extension, id=f"{name(path)}-{extension.get('name')}")
    for path in DIALPLANS
    for extension in extensions(path)
    if "socket" in dict(actions(extension))
]


def test_each_context_has_a_number_pattern_and_a_named_document():
    documents = ["swml_url" in str(actions(row.values[1])) for row in CONTROLLED]
    assert documents == [False, True, False, True]


@pytest.mark.parametrize(("path", "extension"), CONTROLLED)
def test_a_call_is_handed_over_with_its_safety_nets(path, extension):
    steps = actions(extension)
    place = steps.index(("socket", f"{EVENT_SOCKET} async full"))
    before, after = steps[:place], steps[place + 1 :]
    assert ("set", "socket_resume=true") in before
    seconds, _, cause = dict(data.split("=", 1) for app, data in before if app == "set")["park_timeout"].partition(":")
    assert int(seconds) > Config().calls.max_duration
    assert cause == "ALLOTTED_TIMEOUT"
    ((application, data),) = after
    target, dialplan, context = data.split()
    assert (application, dialplan, context) == ("transfer", "XML", path.parent.name)
    assert target in [other.get("name") for other in extensions(path)]


@pytest.mark.parametrize("path", DIALPLANS, ids=name)
def test_no_action_holds_what_a_caller_may_choose(path):
    for extension in extensions(path):
        for application, data in actions(extension):
            assert "$" not in data, f"{extension.get('name')}: {application} {data}"


@pytest.mark.parametrize("path", DIALPLANS, ids=name)
def test_whoever_does_not_reach_fsctl_gets_503_or_an_announcement(path):
    (fallback,) = (extension for extension in extensions(path) if extension.get("name") == "fsctl_unavailable")
    answered = fallback.findall("condition")[-1]
    assert (answered.get("field"), answered.get("expression")) == ("${endpoint_disposition}", "^ANSWER$")
    assert [step.get("application") for step in answered.findall("action")] == ["playback", "hangup"]
    assert [step.get("data") for step in answered.findall("anti-action")] == ["503 Service Unavailable"]


@pytest.mark.parametrize("path", DIALPLANS, ids=name)
def test_numbers_are_named_as_a_whole(path):
    for extension in extensions(path):
        for condition in extension.iter("condition"):
            assert re.fullmatch(r"\^.+\$", condition.get("expression"))
            re.compile(condition.get("expression"))


def test_documents_the_dialplan_names_are_shipped():
    named = [
        data.removeprefix("swml_url=") for row in CONTROLLED for _, data in actions(row.values[1]) if "swml_" in data
    ]
    files = [document for document in named if "://" not in document]
    assert files
    assert all((ROOT / "conf/swml" / document).is_file() for document in files)


def test_the_event_socket_fragment_is_for_loopback_and_its_list_exists():
    folder = ROOT / "conf/freeswitch/autoload_configs"
    socket = {p.get("name"): p.get("value") for p in ElementTree.parse(folder / "event_socket.conf.xml").iter("param")}
    assert socket["listen-ip"] == "127.0.0.1"
    assert socket["password"] != "ClueCon"
    lists = {entry.get("name"): entry for entry in ElementTree.parse(folder / "acl.conf.xml").iter("list")}
    allowed = lists[socket["apply-inbound-acl"]]
    assert allowed.get("default") == "deny"
    assert {node.get("cidr") for node in allowed} == {"127.0.0.1/32", "::1/128"}


# --- systemd ----------------------------------------------------------------------------------------------------------


def unit(file):
    """The unit's settings; a key that is there twice has its last value."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(ROOT / "systemd" / file, encoding="utf-8")
    return parser


@pytest.fixture
def analyze(tmp_path):
    """Runs systemd-analyze on copies of the units whose program exists."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    for path in UNITS:
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(encoding="utf-8"))
        (tmp_path / path.name).write_text(text, encoding="utf-8")

    def run(*arguments):
        files = [str(tmp_path / path.name) for path in UNITS if arguments[0] == "verify" or path.suffix == ".service"]
        return subprocess.run([program, *arguments, *files], capture_output=True, text=True, check=False, timeout=60)

    return run


def test_systemd_finds_nothing_wrong_with_the_units(analyze):
    ran = analyze("verify")
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_the_service_may_do_next_to_nothing(analyze):
    """Exposure of at most 1.5; systemd-analyze takes it as a tenth of its threshold."""
    ran = analyze("security", "--offline=true", "--no-pager", "--threshold=15")
    assert ran.returncode == 0, ran.stdout
    assert "Overall exposure level" in ran.stdout


def test_the_service_and_the_program_agree():
    service = unit("fsctl.service")["Service"]
    assert service["Type"] == "notify"
    assert "78" in service["RestartPreventExitStatus"].split()
    assert service["ExecStart"].split(maxsplit=1)[1] == "serve --config /etc/fsctl/fsctl.yaml"
    assert float(service["TimeoutStopSec"]) > Config().shutdown.drain + 10  # ten seconds for waiting webhooks
    assert float(service["WatchdogSec"]) > 0
    assert Config().recordings.directory.is_relative_to(Path("/var/lib") / service["StateDirectory"])
    assert Config().media.cache_directory == Path("/var/cache") / service["CacheDirectory"]
    assert Config().documents.directory.is_relative_to(Path("/etc") / service["ConfigurationDirectory"])


def test_the_credentials_in_the_unit_have_settings_names():
    text = (ROOT / "systemd/fsctl.service").read_text(encoding="utf-8")
    credentials = re.findall(r"LoadCredential=([^:]+):", text)
    assert credentials == ["project.signing_key", "freeswitch.password", "api.tokens.crm"]
    assert all(".".join(name.split(".")[:2]) in settings() for name in credentials)


def test_sockets_have_the_names_and_addresses_the_program_knows():
    sockets = [file.name for file in UNITS if file.suffix == ".socket"]
    assert sorted(unit("fsctl.service")["Service"]["Sockets"].split()) == sorted(sockets)
    passed = {unit(file)["Socket"]["FileDescriptorName"]: unit(file)["Socket"]["ListenStream"] for file in sockets}
    assert passed == {"event_socket": EVENT_SOCKET, "http": str(Config().http.listen)}
    assert set(passed) == set(listening_sockets.__defaults__[0])


def test_recordings_can_be_written_by_freeswitch_and_read_by_fsctl():
    service = unit("fsctl.service")["Service"]
    rows = [
        line.split() for line in (ROOT / "systemd/tmpfiles.d/fsctl.conf").read_text().splitlines() if line[0] != "#"
    ]
    directories = {row[1]: row[2:5] for row in rows}
    owner = [service["User"], service["Group"]]
    assert directories[str(Config().recordings.directory)] == ["0770", *owner]
    assert directories[f"/var/lib/{service['StateDirectory']}"] == [service["StateDirectoryMode"], *owner]
    users = (ROOT / "systemd/sysusers.d/fsctl.conf").read_text(encoding="utf-8")
    assert f"\nu {owner[0]} " in users
    assert f"\ng {owner[1]} " in users


# --- Examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=name)
def test_an_example_can_be_run_and_says_what_it_shows(path):
    Compiler(METHODS).compile(path.read_bytes(), name=path.name)
    header = path.read_text(encoding="utf-8").partition("version:")[0]
    assert "# Shows: " in header
    assert f"fsctl simulate {name(path)}" in header


def used(value):
    """Every method in a document, at any depth."""
    if isinstance(value, dict):
        return {key for key in value if key in PUBLISHED}.union(*map(used, value.values()))
    return set().union(*map(used, value)) if isinstance(value, list) else set()


def test_the_examples_show_every_method_there_is():
    shown = set().union(*(used(yaml.safe_load(path.read_bytes())) for path in EXAMPLES))
    assert shown >= set(METHODS.names)


SIMULATED = [
    pytest.param(command, id=command)
    for path in EXAMPLES
    for command in re.findall(r"(?m)^#\s+(?:Try it:\s+)?(fsctl simulate .*)$", path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("command", SIMULATED)
def test_an_example_runs_as_its_header_says(command):
    pytest.importorskip("fsctl.simulation", reason="fsctl.simulation is not there")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("FSCTL_")}
    shell = command.replace("fsctl", f"{sys.executable} -m fsctl", 1)
    ran = subprocess.run(
        shell, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=100
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


# --- README -----------------------------------------------------------------------------------------------------------


def rows(heading):
    """The first cells of the tables in the README's section, each with its whole row."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return {row.split("|")[1].strip().strip("`"): row for row in section.splitlines() if row.startswith("| `")}


def written(value):
    return yaml.safe_dump(plain(value), default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def test_the_readme_lists_every_setting_as_it_is_declared():
    expected = {s.name: f"| `{s.name}` | `{written(s.default)}` | {s.doc} |" for s in settings().values()}
    assert rows("Settings") == expected


def test_the_readme_lists_every_method_and_those_that_are_missing():
    listed = set(rows("Methods"))
    missing = set(re.findall(r"`(\w+)`", README.partition("\nNot there yet: ")[2].partition(". A document")[0]))
    assert listed == set(METHODS.names)
    assert missing == PUBLISHED - listed


def families():
    registry = CollectorRegistry()
    Metrics(registry, live=dict, methods=METHODS.names)
    for family in registry.collect():
        if family.name.startswith("fsctl_"):
            yield family.name + ("_total" if family.type == "counter" else ""), family


def test_the_readme_lists_every_metric_with_its_labels():
    listed = {key: row for key, row in rows("Metrics").items() if key.startswith("fsctl_")}
    expected = {}
    for key, family in families():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        cells = [f"`{key}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation]
        expected[key] = f"| {' | '.join(cells)} |"
    assert listed == expected


def test_every_metric_the_readme_names_exists():
    metrics = dict(families())
    named = set(re.findall(r"\bfsctl_[a-z_]+", README)) - {"fsctl_modules"}
    assert named <= set(metrics)


def test_every_setting_the_readme_names_exists():
    sections = {name.partition(".")[0] for name in settings()}
    named = {word for word in re.findall(r"`([a-z_]+\.[a-z_]+)[`=]", README) if word.partition(".")[0] in sections}
    assert named - {"log.py", "call.state"} <= set(settings())


def test_every_command_the_readme_names_exists():
    named = set(re.findall(r"fsctl (serve|demo|simulate|check|config|stream-sink|doctor|webhooks)\b", README))
    assert named == set(cli.commands)


def test_every_place_in_this_repository_the_readme_links_to_exists():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists()
        headings = [line.lstrip("# ").lower().replace(" ", "-") for line in README.splitlines() if line.startswith("#")]
        assert not anchor or anchor in headings


# --- Workflow ---------------------------------------------------------------------------------------------------------


def test_everything_the_readme_makes_can_be_made():
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    for target in set(re.findall(r"(?m)^make (\w+)", README)):
        subprocess.run([make, "--dry-run", target], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=60)
    *_, last = script.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"exec make (--\S+ )*check", last)
    assert "\nmake check\n" in README
