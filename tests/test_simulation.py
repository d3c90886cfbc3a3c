"""`fsctl simulate`: documents run on a simulated call, told, and nothing sent that should not be."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
import yaml

from fsctl import cli, simulation
from tests.fakes.web import reply, servers
from tests.simulating import ROOT, Told, children, environment, program

SPEED = "25"  # a busy machine must not take longer over anything than a call may


@pytest.fixture(autouse=True)
def no_resolver(monkeypatch):
    """Names lead nowhere: what a test asks for is on loopback."""

    def resolve(host, port):
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr("fsctl.web._resolve", resolve)


@pytest.fixture(autouse=True)
def scratch(monkeypatch, tmp_path_factory):
    """Where temporary files go; nothing of ours may be there after a test, nor a process of ours run."""
    directory = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = children()
    yield directory
    assert list(directory.iterdir()) == []
    assert children() - before == {}


@pytest.fixture
def simulate(capsys, monkeypatch, tmp_path):
    """Simulates a document (a file, its text, or steps of its main section) in this process."""

    def run(document, *options, speed=SPEED):
        if isinstance(document, list):
            document = json.dumps({"sections": {"main": document}})
        if isinstance(document, str):
            path = tmp_path / "document.yaml"
            path.write_text(document, encoding="utf-8")
            document = path
        code = cli.run(["simulate", str(document), "--speed", speed, "--json", *map(str, options)])
        out, _ = capsys.readouterr()
        return Told(code, out)

    return run


@pytest.fixture
def server():
    """Starts web servers that a script may ask, and answers with them."""
    with servers() as serve:
        yield serve


@pytest.fixture
def loopback(tmp_path):
    """Options that let scripts reach this machine's own servers."""
    path = tmp_path / "fsctl.yaml"
    path.write_text("network: {allow_private: [127.0.0.0/8]}", encoding="utf-8")
    return "--config", path


# --- the documents of conf/swml ---------------------------------------------------------------------------------------


def _examples():
    for path in sorted((ROOT / "conf" / "swml").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        commands = re.findall(r"^#.*?(fsctl simulate .*)$", text, re.MULTILINE)
        assert commands, f"{path.name} does not say how to try it"
        for command in commands:
            yield pytest.param(shlex.split(command)[2:], id=command.removeprefix("fsctl simulate conf/swml/"))


@pytest.mark.parametrize("arguments", list(_examples()))
def test_every_example_does_what_its_first_lines_say(simulate, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    document, *options = arguments
    told = simulate(ROOT / document, *options)
    assert (told.code, told.of("end")[0]["ok"]) == (0, True)
    assert told.of("script")[0]["outcome"] == "finished"
    assert not [line for line in told.of("warning") if line["fatal"]]
    assert told.methods[-1] == "hangup"


def test_voicemail_ends_by_key_where_the_caller_presses_one(simulate):
    document = ROOT / "conf/swml/voicemail.yaml"
    with_key, without = simulate(document, "--digits", "w#"), simulate(document)
    for told in (with_key, without):
        assert told.variables["record_result"] == "success"
    assert with_key.notes == ["the caller presses #"]
    assert without.notes == []
    stopped = [any("uuid_record stop" in said for said in told.commands()) for told in (with_key, without)]
    assert stopped == [True, False]


def test_the_welcome_example_says_in_the_callers_own_number(simulate):
    told = simulate(ROOT / "conf/swml/welcome.yaml", "--to", "+15550142")
    assert any("You called +15550142@" in command for command in told.commands("play"))


# --- each method's parameters, as the published reference has them ----------------------------------------------------

OTHER = {"sections": {"main": [{"set": {"there": "${params.a}"}}]}}

METHODS = {
    "answer": (
        [{"answer": {"max_duration": 60, "codecs": "PCMU,G722"}}],
        {"answer_result": "success"},
        ["uuid_answer", "uuid_setvar absolute_codec_string PCMU,G722"],
    ),
    "answer ends a call that is too long": ([{"answer": {"max_duration": 2}}, {"sleep": -1}], {}, []),
    "hangup, bare": (["hangup"], {}, ["uuid_kill NORMAL_CLEARING"]),
    "hangup with busy": ([{"hangup": {"reason": "busy"}}], {}, ["uuid_kill USER_BUSY"]),
    "hangup with decline": ([{"hangup": {"reason": "decline"}}], {}, ["uuid_kill CALL_REJECTED"]),
    "play, one sound": ([{"play": {"url": "say: One."}}], {}, ["uuid_answer", "speak flite|slt|One."]),
    "play, several, louder": (
        [{"play": {"urls": ["silence: 0.5", "ring: 1: us", "say:Two"], "volume": 7, "say_voice": "Polly.Salli",
                   "say_language": "en-US", "say_gender": "female"}}],
        {},
        ["playback silence_stream://500", r"playback tone_stream://v=0;%\(1000,0,440,480\);loops=1",
         "uuid_audio start write level 2", "uuid_audio stop"],
    ),
    "play before the answer": ([{"play": {"url": "ring: uk", "auto_answer": False}}], {}, ["uuid_pre_answer"]),
    "play tells its status_url": (
        [{"play": {"url": "silence: 1", "status_url": "https://hooks.invalid/p"}}], {}, []
    ),
    "record": (
        [{"record": {"stereo": True, "format": "mp3", "direction": "listen", "terminators": "*", "beep": True,
                     "input_sensitivity": 50, "initial_timeout": 3, "end_silence_timeout": 1, "max_length": 20}}],
        {"record_result": "success", "record_url": r"http://127\.0\.0\.1:8086/recordings/[-0-9a-f]{36}\.mp3"},
        ["playback tone_stream://.*", "uuid_record start /.*mp3 .*RECORD_STEREO=true.*"],
    ),
    "record with its longest length": (
        [{"record": {"max_length": 1, "end_silence_timeout": 0}}],
        {"record_result": "success"},
        ["uuid_record stop /.*wav"],
    ),
    "record_call and stop_record_call": (
        [{"record_call": {"control_id": "all", "direction": "both", "stereo": True, "format": "wav"}},
         {"sleep": 2000}, {"stop_record_call": {"control_id": "all"}}],
        {"record_call_result": "success", "record_control_id": "all", "stop_record_call_result": "success",
         "record_call_url": r"http://.*\.wav"},
        ["uuid_record start /.*", "uuid_record stop /.*"],
    ),
    "stop_record_call stops the last one": (
        [{"record_call": {}}, {"stop_record_call": {}}], {"stop_record_call_result": "success"}, []
    ),
    "a recording is played again": (
        [{"record_call": {}}, {"sleep": 2000}, {"stop_record_call": {}}, {"play": {"url": "${record_call_url}"}}],
        {},
        ["playback /.*/recordings/.*wav"],
    ),
    "prompt": (
        [{"prompt": {"play": "say: Two digits.", "max_digits": 2, "terminators": "*", "digit_timeout": 3,
                     "initial_timeout": 4, "volume": 0, "status_url": "https://hooks.invalid/c"}}],
        {"prompt_result": "match_digits", "prompt_value": "12"},
        ["speak .*"],
    ),
    "send_digits": ([{"send_digits": "1w2"}], {"send_digits_result": "success"}, ["uuid_send_dtmf 1w2"]),
    "denoise and stop_denoise": ([{"denoise": {}}, {"stop_denoise": {}}], {"denoise_result": "off"}, []),
    "stream and stop_stream": (
        [{"stream": {"url": "wss://asr.invalid/in", "control_id": "s", "name": "n", "track": "both_tracks",
                     "codec": "L16@16000h", "status_url": "https://hooks.invalid/s", "status_url_method": "POST",
                     "authorization_bearer_token": "very-secret-token", "custom_parameters": {"k": "v"}}},
         {"sleep": 500}, {"stop_stream": {"control_id": "s"}}],
        {"stream_result": "success", "stream_control_id": "s", "stop_stream_result": "success"},
        [r"uuid_audio_stream start ws://127\.0\.0\.1:\d+/module/\S+ stereo 8000", "uuid_audio_stream stop"],
    ),
    "stream of the other track": (
        [{"stream": {"url": "wss://asr.invalid/in", "track": "outbound_track"}}], {"stream_result": "success"}, []
    ),
    "stream that the hub cannot do": (
        [{"stream": {"url": "wss://asr.invalid/in", "codec": "G722"}}], {"stream_result": "failed"}, []
    ),
    "stop_stream without a stream": ([{"stop_stream": {}}], {"stop_stream_result": "failed"}, []),
    "execute a document that is written in place": (
        [{"execute": {"dest": json.dumps(OTHER), "params": {"a": "x"}, "on_return": [{"set": {"back": True}}]}}],
        {"there": "x", "back": True},
        [],
    ),
    "return outside of a subroutine": ([{"set": {"a": 1}}, {"return": {}}, {"set": {"a": 2}}], {"a": 1}, []),
    "execute, with what was returned": (
        [{"execute": {"dest": json.dumps({"sections": {"main": [{"return": 1}]}}),
                      "result": {"case": {"1": [{"set": {"was": "one"}}]}}}}],
        {"return_value": 1, "was": "one"},
        [],
    ),
    "transfer": (
        [{"transfer": {"dest": json.dumps(OTHER), "params": {"a": "x"}, "meta": {}}}, {"set": {"here": 1}}],
        {"there": "x"},
        [],
    ),
    "goto, three jumps": (
        [{"set": {"n": 0}}, {"label": "again"}, {"set": {"n": "${n + 1}"}}, {"goto": {"label": "again", "max": 3}}],
        {"n": 4},
        [],
    ),
    "goto, while": (
        [{"set": {"n": 0}}, {"label": "again"}, {"set": {"n": "${n + 1}"}},
         {"goto": {"label": "again", "when": "n < 2"}}],
        {"n": 2},
        [],
    ),
    "cond": (
        [{"cond": [{"when": "call.type == 'phone'", "then": [{"set": {"is": "phone"}}]},
                   {"when": "call.direction == 'inbound'", "then": [{"set": {"is": "inbound"}}]},
                   {"else": [{"set": {"is": "neither"}}]}]}],
        {"is": "inbound"},
        [],
    ),
    "switch": (
        [{"switch": {"variable": "call.type", "case": {"sip": [{"set": {"is": "sip"}}]},
                     "default": [{"set": {"is": "other"}}]}}],
        {"is": "sip"},
        [],
    ),
    "set keeps types and order": (
        [{"set": {"a": 20, "b": "${a * 2}", "c": [1, {"d": True}], "e": "${c[1].d}"}}],
        {"a": 20, "b": 40, "c": [1, {"d": True}], "e": True},
        [],
    ),
    "unset": ([{"set": {"a": 1, "b": 2, "c": 3}}, {"unset": "a"}, {"unset": ["b", "none"]}], {"c": 3}, []),
    "sleep, as a number": ([{"sleep": 100}], {}, []),
    "sleep, as an object": ([{"sleep": {"duration": 100}}], {}, []),
    "user_event": (
        [{"user_event": {"event": {"a": [1, 2]}}}], {}, [r'sendevent CUSTOM fsctl::user_event \{"a": \[1, 2\]\}']
    ),
    "request that nobody answers": (
        [{"request": {"url": "https://nobody.invalid/x", "method": "PUT", "headers": {"X-A": "1"}, "body": {"a": 1},
                      "connect_timeout": 1, "timeout": 2, "save_variables": True}}],
        {"request_result": "failed", "request_url": "https://nobody.invalid/x"},
        [],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "variables", "commands"), METHODS.values(), ids=METHODS)
def test_methods(simulate, steps, variables, commands):
    told = simulate(steps, "--digits", "12#")
    assert told.code == 0
    found = told.variables
    for name, expected in variables.items():
        if isinstance(expected, str):
            assert re.fullmatch(expected, str(found[name])), name
        else:
            assert (found[name], type(found[name])) == (expected, type(expected)), name
    for command in commands:
        pattern = command if re.search(r"\.\*|\\", command) else re.escape(command)
        assert any(re.fullmatch(pattern, said, re.DOTALL) for said in told.commands()), told.commands()


# --- what is told -----------------------------------------------------------------------------------------------------


def test_commands_are_told_with_the_instruction_that_made_them(simulate):
    """Also those that leave late, with the next instruction's, or after the last one."""
    told = simulate([
        {"answer": {}}, {"user_event": {"event": {"a": 1}}}, {"play": {"url": "say: Loud.", "volume": 7}},
        {"sleep": 10}, {"hangup": {}},
    ])  # fmt: skip
    assert told.commands("answer") == ["uuid_answer"]
    assert told.commands("user_event") == ['sendevent CUSTOM fsctl::user_event {"a": 1}']
    assert told.commands("play") == ["uuid_audio start write level 2", "speak flite|slt|Loud.", "uuid_audio stop"]
    assert told.commands("sleep") == []
    assert told.commands("hangup") == ["uuid_kill NORMAL_CLEARING"]
    assert all(line["step"] is None for line in told.of("freeswitch")[:3])


def test_everything_of_an_instruction_comes_between_its_beginning_and_its_result(simulate):
    told = simulate(ROOT / "conf/swml/stream-and-record.yaml")
    begun = ended = 0
    for line in told.lines:
        if line["kind"] == "method":
            assert (line["step"], ended) == (begun + 1, begun)
            begun = line["step"]
        elif line["kind"] == "result":
            ended = line["step"]
            assert ended == begun
        elif line["kind"] == "freeswitch" and line["step"] is not None:
            assert line["step"] == begun > ended
    assert begun == ended == told.of("script")[0]["steps"]
    times = [line["at"] for line in told.lines]
    assert times == sorted(times)


def test_results_say_what_changed(simulate):
    told = simulate([{"set": {"a": 1, "b": "x"}}, {"unset": "a"}, {"set": {"b": "x", "c": 2}}])
    first, last = told.results("set")
    assert (first["set"], last["set"]) == ({"a": 1, "b": "x"}, {"c": 2})
    assert told.results("unset")[0]["unset"] == ["a"]


def test_webhooks_are_shown_as_they_would_be_and_not_sent(simulate, server, tmp_path):
    receiver = server(reply())
    config = tmp_path / "fsctl.yaml"
    config.write_text(yaml.safe_dump({
        "network": {"allow_private": ["127.0.0.0/8"]},
        "webhooks": {"call_state_url": f"http://user:pass@127.0.0.1:{receiver.port}/state"},
        "project": {"signing_key": "a_key"},
    }), encoding="utf-8")  # fmt: skip
    told = simulate(
        [{"stream": {"url": "wss://asr.invalid/", "status_url": f"{receiver.url}/get?x=1", "status_url_method": "GET"}},
         {"record": {"status_url": f"{receiver.url}/record"}}],
        "--config", config,
    )  # fmt: skip
    assert receiver.requests == []
    shown = told.of("webhook")
    assert {hook["sent"] for hook in shown} == {False}
    states = [hook for hook in shown if hook["url"].endswith("/state")]
    assert [hook["body"]["params"]["call_state"] for hook in states] == ["created", "answered", "ended"]
    assert all("X-SignalWire-Signature" in hook["headers"] for hook in shown)
    records = [hook["body"] for hook in shown if hook["url"].endswith("/record")]
    assert [body["params"]["state"] for body in records] == ["recording", "finished"]
    gets = [hook for hook in shown if hook["method"] == "GET"]
    assert [hook["body"]["state"] for hook in gets] == ["streaming", "finished"]
    assert gets[0]["url"] == f"{receiver.url}/get"
    assert "pass" not in json.dumps(shown)


def test_sounds_behind_urls_are_not_fetched(simulate, server, loopback):
    sounds = server(reply(b"no sound"))
    told = simulate([{"play": {"url": f"{sounds.url}/music.mp3"}}], *loopback)
    assert sounds.requests == []
    assert told.notes == [f"{sounds.url}/music.mp3 is not fetched: a second of silence is played for it"]
    (command,) = told.commands("play")[1:]
    assert command.endswith("/silence.wav")
    assert told.results("play")[0]["seconds"] > 0.9
    assert told.of("warning") == []


def test_documents_and_requests_are_really_fetched_and_call_time_stands_still(simulate, server, loopback):
    def answer(request, number):
        gevent.sleep(0.6)
        if request[0].startswith("GET"):
            return reply(b'{"name": "Ada"}')
        return reply(json.dumps(OTHER).encode())

    asked = server(answer)
    told = simulate(
        [{"request": {"url": f"{asked.url}/q", "method": "GET", "save_variables": True}},
         {"execute": {"dest": f"{asked.url}/other", "params": {"a": "x"}}}],
        *loopback, speed="200",
    )  # fmt: skip
    assert told.code == 0
    assert told.variables["request_response"] == {"name": "Ada"}
    assert told.variables["there"] == "x"
    assert json.loads(asked.requests[1][2])["params"] == {"a": "x"}
    assert [document["name"] for document in told.of("document")][1] == f"{asked.url}/other"
    # Together they took 1.2 s, which would be 240 s of call time.
    assert max(line["at"] for line in told.lines) < 150


def test_private_addresses_are_refused_as_by_the_service(simulate, server):
    asked = server(reply(b"{}"))
    told = simulate([{"request": {"url": asked.url, "method": "GET"}}])
    assert (asked.requests, told.variables["request_result"]) == ([], "failed")
    assert "127.0.0.1, which is not" in told.of("warning")[0]["message"]


def test_secrets_are_not_told(simulate):
    told = simulate([
        {"stream": {"url": "wss://asr.invalid/", "authorization_bearer_token": "very-secret-token"}},
        {"play": {"url": "https://user:hidden@sounds.invalid/x.wav"}},
    ])  # fmt: skip
    text = json.dumps(told.lines)
    assert "very-secret-token" not in text
    assert "hidden" not in text
    assert told.variables["stream_result"] == "success"


def test_what_was_given_is_text_and_stays_as_it_is(simulate):
    steps = [{"set": {"both": "${vars.a} ${params.b}"}}, {"set": {"here": "${params.b}"}}]
    told = simulate(steps, "--vars", "a=${1+1}", "--params", "b=7")
    assert told.variables == {"a": "${1+1}", "both": "${1+1} 7", "here": "7"}


def test_keys_that_nothing_listens_to_are_not_pressed(simulate):
    steps = [{"record_call": {}}, {"play": {"url": "say: Press one."}}]
    told = simulate(steps, "--digits", "1")
    assert told.notes == ["nothing listened to keys, so the caller pressed none of 1"]
    listening = [{"record_call": {"terminators": "1"}}, {"sleep": 5000}]
    told = simulate(listening, "--digits", "1")
    assert told.notes == ["the caller presses 1"]
    assert any(command.startswith("uuid_record stop") for command in told.commands("sleep"))


def test_standard_input_is_a_document_too(simulate, capsys, monkeypatch):
    class Input:
        buffer = io.BytesIO(b"sections:\n  main:\n    - set: {a: 1}\n    - goto: {label: '${a}'}\n")

    monkeypatch.setattr(sys, "stdin", Input)
    assert cli.run(["simulate", "-", "--speed", SPEED]) == 1
    assert "-:4: section main[1].goto" in capsys.readouterr().out


# --- what goes wrong --------------------------------------------------------------------------------------------------

RUNTIME_ERRORS = {
    "a case that is missing": ("switch: {variable: call.type, case: {x: []}}", "method_no_matching_condition"),
    "JavaScript that throws": ("cond: [{when: 'nothing.at.all > 1', then: [hangup]}]", "js_eval_error"),
    "a section that is not there": ("execute: {dest: '${call.type}'}", "section_parameter_undefined"),
    "too many jumps": ("label: a\n    - goto: {label: a}", "too_many_transfers"),
    "a document nobody has": ("transfer: {dest: 'https://nobody.invalid/'}", "method_execute_failed"),
}  # fmt: skip


@pytest.mark.parametrize(("steps", "code"), RUNTIME_ERRORS.values(), ids=RUNTIME_ERRORS)
def test_a_script_error_exits_1_and_says_where(simulate, tmp_path, steps, code):
    told = simulate(f"sections:\n  main:\n    - answer: {{}}\n    - {steps}\n")
    (error,) = [line for line in told.of("warning") if line["fatal"]]
    line = 3 + steps.count("\n") + 1
    assert (told.code, told.of("end")[0]["ok"], told.of("script")[0]["outcome"]) == (1, False, "error")
    assert (error["file"], error["line"], error["section"]) == (str(tmp_path / "document.yaml"), line, "main")
    assert (error["code"], error["index"]) == (f"relay_script_{code}", steps.count("\n") + 1)
    assert told.variables["script_error"].startswith(f"relay_script_{code}: ")


def test_an_error_in_a_fetched_document_names_that_document(simulate, server, loopback):
    other = server(reply(b"sections:\n  main:\n    - answer: {}\n    - switch: {variable: call.to, case: {x: []}}\n"))
    told = simulate([{"execute": {"dest": f"{other.url}/other?token=secret"}}], *loopback)
    (error,) = told.of("warning")
    assert (told.code, error["line"]) == (1, 4)
    assert error["file"].startswith(f"{other.url}/other")
    assert [line["file"] == error["file"] for line in told.of("method")] == [False, True, True]


@pytest.mark.parametrize("text", ["sections:\n  main:\n    - ply: {url: x}\n", "sections: [", "", "a: 1"], ids=repr)
def test_a_document_that_cannot_be_run_is_not(simulate, tmp_path, text):
    told = simulate(text)
    finding, last = told.lines[0], told.lines[-1]
    assert told.code == 1
    assert (finding["file"], last) == (str(tmp_path / "document.yaml"), {"file": finding["file"], "ok": False})
    assert finding["code"].startswith("relay_script_")


def test_for_people_a_document_that_cannot_be_run_looks_as_in_check(capsys, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("sections:\n  main:\n    - answer: {}\n    - ply: {url: x}\n", encoding="utf-8")
    assert cli.run(["simulate", str(path)]) == 1
    simulated = capsys.readouterr().out
    assert cli.run(["check", str(path)]) == 1
    assert simulated == capsys.readouterr().out
    assert simulated.startswith(f"{path}:4: section main[1]")


def test_a_script_that_runs_for_ever_is_ended(simulate):
    told = simulate([{"answer": {}}, {"sleep": -1}], speed="500")
    assert told.code == 1
    assert told.notes == ["the caller leaves: 300 s of call time are over, and the script is not"]
    assert "300 s" in told.of("end")[0]["why"]
    assert told.of("result")[-1]["at"] >= simulation.LIMIT


def test_so_is_one_that_never_answers(simulate):
    told = simulate([{"sleep": -1}], speed="500")
    assert (told.code, told.of("script")[0]["outcome"]) == (1, "hangup")


# --- as people run it -------------------------------------------------------------------------------------------------

DOCUMENT = """\
sections:
  main:
    - set: {greeting: "Good ${new Date().getHours() < 12 ? 'morning' : 'day'}"}
    - play: {url: "say: ${greeting}", status_url: "https://hooks.invalid/play"}
    - record: {}
"""


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "hello.yaml"
    path.write_text(DOCUMENT, encoding="utf-8")
    return path


def test_people_get_a_line_for_each_thing(document, scratch):
    ran = program("simulate", document, "--speed", SPEED, scratch=scratch)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert max(map(len, lines[1:])) <= 120
    assert "\x1b" not in ran.stdout
    for pattern in (
        r" +\d+\.\d\d  set +main:3$",
        r" +\d+\.\d\d    = ok .*greeting=Good (morning|day)$",
        r" +\d+\.\d\d    > speak flite\|slt\|Good (morning|day)$",
        r" +\d+\.\d\d  webhook +POST https://hooks\.invalid/play  calling\.call\.play  finished$",
        r" +\d+\.\d\d  call +ended: hangup \(NORMAL_CLEARING\)$",
        r"  record_result +success$",
        r" +\d+\.\d\d  ok +the script ended without a script error$",
    ):
        assert any(re.match(pattern, line) for line in lines), pattern
    assert list(scratch.iterdir()) == []


def test_the_log_is_asked_for(document, scratch, tmp_path):
    config = tmp_path / "fsctl.yaml"
    config.write_text("log: {level: info}", encoding="utf-8")
    ran = program("simulate", document, "--speed", SPEED, "--json", "--config", config, scratch=scratch)
    assert "call_started" in ran.stderr
    assert all(json.loads(line) for line in ran.stdout.splitlines())


def test_a_reader_that_has_seen_enough_ends_it(document, scratch):
    shell = 'exec "$0" -m fsctl simulate "$1" | head -n 3'
    ran = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shell}", sys.executable, str(document)],
        capture_output=True, text=True, check=False, timeout=60, cwd=ROOT, env=environment(scratch),
    )  # fmt: skip
    assert (ran.returncode, ran.stderr, ran.stdout.count("\n")) == (1, "", 3)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_nothing_is_left_when_it_is_told_to_stop(tmp_path, scratch, number):
    document = tmp_path / "long.yaml"
    document.write_text("sections:\n  main:\n    - set: {a: '${[1].map(x => x)}'}\n    - sleep: -1\n", encoding="utf-8")
    running = subprocess.Popen(
        [sys.executable, "-m", "fsctl", "simulate", str(document), "--speed", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(scratch),
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        for line in running.stdout:
            if '"result"' in line:
                break
        own = [int(child) for child in _children_of(running.pid)]
        assert own  # the one that runs JavaScript
        running.send_signal(number)
        assert running.wait(30) in {128 + signal.SIGTERM, 130}
    assert list(scratch.iterdir()) == []
    with gevent.Timeout(10):
        while any(_runs(child) for child in own):
            gevent.sleep(0.01)


def _children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
