"""Settings: declared once, read from file, environment and credentials, checked together, never shown when secret."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import re
import socket
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fsctl.config import Address, Config, ConfigProblems, Route, load, plain, render_defaults, settings, shown
from fsctl.errors import ConfigError

ROOT = Path(__file__).parent.parent
SECRET = "PSK_never_to_be_seen"


@pytest.fixture
def file(tmp_path):
    """Writes a configuration file and returns its path."""

    def write(text):
        path = tmp_path / "fsctl.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path=None, environ=None):
    with pytest.raises(ConfigProblems) as caught:
        load(path, environ or {})
    return [str(problem) for problem in caught.value.problems]


# --- Declarations -----------------------------------------------------------------------------------------------------


def test_the_shipped_file_is_made_from_the_declarations():
    """After changing a declaration: ``fsctl config show --defaults > conf/fsctl.yaml``."""
    assert (ROOT / "conf/fsctl.yaml").read_text(encoding="utf-8") == render_defaults()


def test_the_shipped_file_read_back_is_all_defaults():
    assert load(ROOT / "conf/fsctl.yaml", {}) == Config() == load(None, {})


def test_the_shipped_file_shows_every_setting():
    shipped = yaml.safe_load(render_defaults())
    assert [f"{section}.{key}" for section, keys in shipped.items() for key in keys] == list(settings())


@pytest.mark.parametrize("setting", settings().values(), ids=lambda setting: setting.name)
def test_every_setting_is_documented_and_its_default_can_be_written(setting):
    assert setting.doc.endswith(".")
    assert setting.kind.accepts
    assert setting.kind.read(plain(setting.default)) == setting.default


def test_a_setting_has_one_environment_variable():
    variables = [setting.variable for setting in settings().values()]
    assert len(set(variables)) == len(variables)
    assert settings()["event_socket.max_calls"].variable == "FSCTL_EVENT_SOCKET_MAX_CALLS"


def test_nothing_of_the_configuration_can_be_changed():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.http.listen = Address("0.0.0.0", 80)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.http = None


def test_the_node_is_the_host_unless_it_is_named(file):
    assert Config().project.node_id == load(None, {}).project.node_id == socket.gethostname()
    assert load(file("project: {node_id: fs1}"), {}).project.node_id == "fs1"


# --- Values -----------------------------------------------------------------------------------------------------------


def test_a_file_gives_typed_values(file):
    config = load(
        file(r"""
event_socket: {listen: "[::1]:9084", max_calls: 5, connect_timeout: 2}
http: {public_url: https://calls.example.com/fs/}
documents:
  routes:
    - {number: '\+1555\d+', document: menu.yaml}
    - {number: '100', document: 'https://x.example/swml'}
  envs: {api: https://api.example.com, retries: 3, beta: true}
network: {allow_private: [10.1.0.0/16, 'fd00::/8']}
media: {voices: {Polly.Salli: flite|slt}}
recordings: {directory: /srv/rec}
calls: {phone_gateways: [carrier]}
"""),
        {},
    )
    assert config.event_socket.listen == ("::1", 9084)
    assert str(config.event_socket.listen) == "[::1]:9084"
    assert config.event_socket.connect_timeout == 2.0
    assert config.http.public_url == "https://calls.example.com/fs"
    assert config.documents.routes == (
        Route(re.compile(r"\+1555\d+"), "menu.yaml"),
        Route(re.compile("100"), "https://x.example/swml"),
    )
    assert config.documents.envs == {"api": "https://api.example.com", "retries": 3, "beta": True}
    assert config.network.allow_private == (ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/8"))
    assert config.media.voices == {"Polly.Salli": "flite|slt"}
    assert config.recordings.directory == Path("/srv/rec")
    assert config.calls.phone_gateways == ("carrier",)


@pytest.mark.parametrize(
    ("number", "document"),
    [
        pytest.param("+15550100", "first.yaml", id="the first route that matches"),
        pytest.param("+15550199", "second.yaml", id="a later route"),
        pytest.param("15550100", "rest.yaml", id="the whole number must match"),
        pytest.param("", "rest.yaml", id="no number"),
    ],
)
def test_a_call_gets_the_document_of_its_number(file, number, document):
    config = load(
        file(r"""
documents:
  default: rest.yaml
  routes:
    - {number: '\+155501\d0', document: first.yaml}
    - {number: '\+1555.*', document: second.yaml}
"""),
        {},
    )
    assert config.documents.choose(number) == document


WRONG = [
    ("event_socket: {listen: nowhere}", "event_socket.listen", "'nowhere' is no address with a port", "host:port"),
    ("event_socket: {listen: '::1:80'}", "event_socket.listen", "brackets", "host:port"),
    ("event_socket: {listen: '[zz]:80'}", "event_socket.listen", "zz", "host:port"),
    ("event_socket: {listen: 'h:70000'}", "event_socket.listen", "no address", "host:port"),
    ("event_socket: {max_calls: 0}", "event_socket.max_calls", "0 is too small", "from 1 to 100000"),
    ("event_socket: {max_calls: 1e9}", "event_socket.max_calls", "is not a whole number", "calls from 1"),
    ("event_socket: {max_calls: true}", "event_socket.max_calls", "true is not a whole number", "calls from 1"),
    ("event_socket: {max_calls: }", "event_socket.max_calls", "an empty value", "calls from 1"),
    ("event_socket: {connect_timeout: soon}", "event_socket.connect_timeout", "'soon' is not a number", "seconds from"),
    ("event_socket: {connect_timeout: .nan}", "event_socket.connect_timeout", "nan is too small", "seconds from"),
    ("http: {public_url: 'http://h/?a=b'}", "http.public_url", "query", "URL without query"),
    ("http: {public_url: calls.example.com}", "http.public_url", "is no http or https URL", "URL without query"),
    ("project: {project_id: mine}", "project.project_id", "'mine' is no UUID", "a UUID"),
    ("project: {node_id: 5}", "project.node_id", "5 is not text; put it in quotes", "text"),
    ('project: {node_id: "a\\nb"}', "project.node_id", "line break", "text"),
    ("documents: {default: ../secrets.yaml}", "documents.default", "leaves documents.directory", "a file name below"),
    ("documents: {default: /etc/passwd}", "documents.default", "leaves documents.directory", "a file name below"),
    ("documents: {default: 'ftp://h/x'}", "documents.default", "is no http or https URL", "a file name below"),
    ("documents: {routes: {a: b}}", "documents.routes", "a mapping is not a list", "a list of {number"),
    ("documents: {routes: [{number: '('  , document: x}]}", "documents.routes", "no regular expression", "a list of"),
    ("documents: {routes: [{number: '1'}]}", "documents.routes", "exactly the keys", "a list of"),
    ("documents: {routes: [{number: '1', document: ''}]}", "documents.routes", "names no document", "a list of"),
    (
        "documents: {routes: [{number: 1, document: x}]}",
        "documents.routes",
        "1 is not text; put it in quotes",
        "a list",
    ),
    ("documents: {directory: swml}", "documents.directory", "'swml' is not an absolute path", "an absolute path"),
    ("documents: {stringify_params: 'yes'}", "documents.stringify_params", "neither true nor false", "true or false"),
    ("documents: {envs: [a]}", "documents.envs", "is not usable", "a mapping of names"),
    ("documents: {envs: {a: [1]}}", "documents.envs", "is not usable", "a mapping of names"),
    ("network: {allow_private: [10.1.2.3/16]}", "network.allow_private", "host bits set", "a list of networks"),
    ("network: {allow_private: 10.0.0.0/8}", "network.allow_private", "is not a list", "a list of networks"),
    ("webhooks: {call_state_events: [ended, dead]}", "webhooks.call_state_events", "'dead' is not known", "created"),
    ("webhooks: {call_state_url: 'http://:80/'}", "webhooks.call_state_url", "is no http or https URL", "for none"),
    ("webhooks: {call_state_url: 'http://h:x/'}", "webhooks.call_state_url", "is no http or https URL", "for none"),
    ("media: {tts_voice: 'a b'}", "media.tts_voice", "'a b' does not fit", "a voice's name"),
    ("media: {voices: {a: slt}}", "media.voices", "'slt' does not fit", "engine|voice"),
    ("media: {voices: {a: 'flite|${system id}'}}", "media.voices", "does not fit", "engine|voice"),
    ("streams: {mode: fast}", "streams.mode", "'fast' is not known", "direct, hub"),
    ("streams: {mode: hub, frame_ms: 80}", "streams.frame_ms", "the hub sends 20, 40 or 60", ""),
    ("streams: {mode: hub, sample_rate: 48000}", "streams.sample_rate", "the hub sends 8000, 16000 or 24000", ""),
    ("streams: {frame_ms: 30}", "streams.frame_ms", "30 is not a multiple of 20", "milliseconds from 20"),
    ("streams: {sample_rate: 64000}", "streams.sample_rate", "64000 is too large", "Hz from 8000"),
    ("log: {level: loud}", "log.level", "'loud' is not known", "debug, info"),
    ("log: {level: [info]}", "log.level", "a list is not known", "debug, info"),
]


@pytest.mark.parametrize(("text", "name", "wrong", "accepted"), WRONG, ids=[row[0] for row in WRONG])
def test_a_wrong_value_is_named_with_its_place_and_what_is_accepted(file, text, name, wrong, accepted):
    path = file("# a comment\n" + text)
    (message,) = problems(path)
    assert message.startswith(f"{path}:2: {name}: ")
    assert wrong in message
    assert accepted in message.partition("; expected ")[2]


# --- Structure of the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("htp: {}", ":1: htp: there is no such section; the nearest is http", id="section"),
        pytest.param(
            "\nhttp:\n  lisen: x", ":3: http.lisen: there is no such setting; the nearest is http.listen", id="key"
        ),
        pytest.param(
            "http:\n  listen: a:1\n  listen: a:2", ":3: http.listen: is there twice; keep one", id="key twice"
        ),
        pytest.param("http: {}\nhttp: {}", ":2: http: is there twice; keep one", id="section twice"),
        pytest.param("- http", ":1: expected a mapping of sections", id="a list"),
        pytest.param("http: 80", ":1: http: expected a mapping of settings", id="a section that is none"),
        pytest.param("http: [\n", ":2: is not YAML: ", id="not YAML"),
        pytest.param("http: {listen: !!python/object:os.system x}", ":1: http.listen: is not YAML", id="a tag"),
    ],
)
def test_a_wrong_file_is_said_with_its_line(file, text, message):
    path = file(text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}{message}")


@pytest.mark.parametrize("text", ["", "# nothing\n", "http:\nproject: {}\n", "---\n"])
def test_empty_files_and_sections_are_all_defaults(file, text):
    assert load(file(text), {}) == Config()


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path):
    assert problems(tmp_path / "none.yaml") == [f"{tmp_path}/none.yaml: cannot be read: No such file or directory"]
    assert problems(tmp_path) == [f"{tmp_path}: cannot be read: Is a directory"]


def test_bytes_that_are_no_text_are_a_problem(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe\x00\x00\x80")
    (problem,) = problems(path)
    assert "is not YAML" in problem


def test_all_problems_are_reported_together(file):
    path = file("htp: {}\nhttp: {listen: x}\nlog: {level: loud, format: xml}\n")
    found = problems(path, {"FSCTL_CALLS_MAX_DURATION": "-1", "FSCTL_NOPE": "1"})
    assert len(found) == 6
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value).count("\n") == 3


def test_a_cache_around_the_recordings_is_refused(file):
    """Making room in the cache would delete recordings."""
    (problem,) = problems(file("media: {cache_directory: /var/lib}"))
    assert problem.endswith("overlap: making room in the cache would delete recordings")
    assert problems(file("recordings: {directory: /var/cache/fsctl/rec}"))
    assert load(file("recordings: {directory: /var/cache/fsctl-rec}"), {})


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_list_of_problems(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any", numbered=True) / "fsctl.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(ConfigProblems):
        assert isinstance(load(path, {}), Config)


@given(
    st.sampled_from(list(settings())),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_any_value_is_refused_or_can_be_written_again(name, value):
    kind = settings()[name].kind
    with contextlib.suppress(ValueError):
        accepted = kind.read(value)
        assert kind.read(plain(accepted)) == accepted


# --- Environment ------------------------------------------------------------------------------------------------------


def test_the_environment_goes_before_the_file(file):
    path = file("http:\n  listen: 127.0.0.1:1\nlog: {level: debug}\n")
    config = load(path, {"FSCTL_HTTP_LISTEN": "127.0.0.1:2", "PATH": "/bin"})
    assert config.http.listen.port == 2
    assert config.origin("http.listen") == "FSCTL_HTTP_LISTEN"
    assert config.origin("log.level") == f"{path}:3"
    assert config.origin("log.format") == "default"


def test_values_of_variables_are_yaml_where_they_are_not_text():
    config = load(
        None,
        {
            "FSCTL_EVENT_SOCKET_MAX_CALLS": "7",
            "FSCTL_STREAMS_ALLOW_PLAINTEXT": "true",
            "FSCTL_WEBHOOKS_CALL_STATE_EVENTS": "[ended]",
            "FSCTL_DOCUMENTS_ROUTES": "[{number: '1', document: a.yaml}]",
            "FSCTL_PROJECT_NODE_ID": "007",
            "FSCTL_CONFIG": "/read/by/the/command/line",
        },
    )
    assert config.event_socket.max_calls == 7
    assert config.streams.allow_plaintext is True
    assert config.webhooks.call_state_events == ("ended",)
    assert config.documents.choose("1") == "a.yaml"
    assert config.project.node_id == "007"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FSCTL_HTTP_LISTN", "x", "FSCTL_HTTP_LISTN: there is no such setting; the nearest is FSCTL_HTTP_LISTEN"),
        ("FSCTL_CALLS_MAX_DURATION", "long", "FSCTL_CALLS_MAX_DURATION: calls.max_duration: 'long' is not a whole"),
        (
            "FSCTL_CALLS_MAX_DURATION",
            "[",
            "FSCTL_CALLS_MAX_DURATION: calls.max_duration: is not YAML; expected a whole",
        ),
    ],
)
def test_a_wrong_variable_is_named(variable, value, message):
    (problem,) = problems(None, {variable: value})
    assert problem.startswith(message)


# --- Secrets ----------------------------------------------------------------------------------------------------------


def given_as_value(path, _directory):
    return path(f"project: {{signing_key: {SECRET}}}"), {}


def given_as_variable(_path, _directory):
    return None, {"FSCTL_PROJECT_SIGNING_KEY": SECRET}


def given_as_file(path, directory):
    (directory / "key").write_text(SECRET + "\n", encoding="utf-8")
    return path(f"project: {{signing_key: '', signing_key_file: {directory}/key}}"), {}


def given_as_file_variable(_path, directory):
    (directory / "key").write_text(SECRET, encoding="utf-8")
    return None, {"FSCTL_PROJECT_SIGNING_KEY_FILE": str(directory / "key")}


def given_as_credential(path, directory):
    """The commented file with its empty key must not take systemd's away."""
    (directory / "project.signing_key").write_text(SECRET + "\n", encoding="utf-8")
    return path(render_defaults()), {"CREDENTIALS_DIRECTORY": str(directory)}


WAYS = [given_as_value, given_as_variable, given_as_file, given_as_file_variable, given_as_credential]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_signing_key_comes_from_where_it_was_put_and_is_never_shown(file, tmp_path, way):
    config = load(*way(file, tmp_path))
    assert config.project.signing_key == SECRET
    assert config.origin("project.signing_key") != "default"
    assert SECRET not in repr(config)
    assert shown(config.value("project.signing_key"), secret=True) == "(set)"
    assert settings()["project.signing_key"].secret


def test_the_stronger_place_gives_the_key(file, tmp_path):
    """Environment before file before credential, whichever way each says it."""
    (tmp_path / "project.signing_key").write_text("credential", encoding="utf-8")
    (tmp_path / "key").write_text("from_file", encoding="utf-8")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    path = file(f"project: {{signing_key_file: {tmp_path}/key}}")
    assert load(None, environ).project.signing_key == "credential"
    assert load(path, environ).project.signing_key == "from_file"
    assert load(path, {**environ, "FSCTL_PROJECT_SIGNING_KEY": "variable"}).project.signing_key == "variable"


def test_two_keys_in_one_place_are_a_problem(file, tmp_path):
    (problem,) = problems(file(f"project:\n  signing_key: a\n  signing_key_file: {tmp_path}/key"))
    assert problem.endswith("project.signing_key and project.signing_key_file are both set; keep one")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "one line"), (b"a\nb", "one line"), (b"\xff\xfe", "not UTF-8")],
    ids=["missing", "empty", "two lines", "binary"],
)
def test_a_key_file_that_cannot_be_used_is_a_problem(file, tmp_path, content, message):
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    (problem,) = problems(file(f"project: {{signing_key_file: {key}}}"))
    assert message in problem
    assert str(key) in problem


def test_a_wrong_secret_is_not_quoted(file):
    (problem,) = problems(file(f'project: {{signing_key: "{SECRET}\\n"}}'))
    assert SECRET not in problem


def test_envs_show_their_names_only(file):
    config = load(file(f"documents: {{envs: {{token: {SECRET}}}}}"), {})
    assert SECRET not in repr(config)
    assert shown(config.documents.envs, secret=True) == {"token": "(set)"}


def test_passwords_in_urls_are_not_shown(file):
    config = load(
        file("""
webhooks: {call_state_url: 'https://me:hunter2@h.example/x'}
documents: {default: 'https://me:hunter2@h.example/y', routes: [{number: '1', document: 'https://me:hunter2@h.example/z'}]}
"""),
        {},
    )
    assert "hunter2" in config.webhooks.call_state_url
    assert "hunter2" not in repr(config)
    assert "hunter2" not in str([shown(config.value(name)) for name in settings()])
    (problem,) = problems(file("webhooks: {call_state_url: 'ftp://me:hunter2@h.example/x'}"))
    assert "hunter2" not in problem


# --- Tokens of the API ------------------------------------------------------------------------------------------------

TOKEN = "0123456789abcdef-never-to-be-seen"


def test_without_settings_the_api_has_no_token():
    assert Config().api.tokens == ()
    assert Config().api.secrets({}) == {}


def tokens_as_value(path, _directory):
    return path(f"api: {{tokens: [{{name: crm, token: {TOKEN}, scopes: [control, read]}}]}}"), {}


def tokens_as_variable(_path, _directory):
    return None, {"FSCTL_API_TOKENS": f"[{{name: crm, token: '{TOKEN}', scopes: [control, read]}}]"}


def tokens_as_file(path, directory):
    (directory / "token").write_text(TOKEN + "\n", encoding="utf-8")
    return path(f"api: {{tokens: [{{name: crm, token_file: {directory}/token, scopes: [control, read]}}]}}"), {}


def tokens_as_credential(path, directory):
    (directory / "api.tokens.crm").write_text(TOKEN + "\n", encoding="utf-8")
    return path("api: {tokens: [{name: crm, scopes: [control, read]}]}"), {"CREDENTIALS_DIRECTORY": str(directory)}


@pytest.mark.parametrize(
    "way", [tokens_as_value, tokens_as_variable, tokens_as_file, tokens_as_credential], ids=lambda way: way.__name__
)
def test_a_token_comes_from_where_it_was_put_and_is_never_shown(file, tmp_path, way):
    path, environ = way(file, tmp_path)
    config = load(path, environ)

    (token,) = config.api.tokens
    assert (token.name, token.scopes) == ("crm", ("read", "control"))
    assert config.api.secrets(environ) == {"crm": TOKEN}
    for text in (
        repr(config),
        repr(token),
        str(shown(config.api.tokens)),
        str([shown(config.value(n)) for n in settings()]),
    ):
        assert TOKEN not in text
    (entry,) = shown(config.api.tokens)
    assert (entry["name"], entry["scopes"]) == ("crm", ["read", "control"])
    assert entry.get("token") == ("(set)" if token.token else None)
    assert entry.get("token_file") == (str(tmp_path / "token") if token.token_file else None)


def one(**changes):
    entry = {"name": "crm", "token": TOKEN, "scopes": ["read"], **changes}
    entry = {key: value for key, value in entry.items() if value is not ...}
    return yaml.safe_dump({"api": {"tokens": [entry]}}, default_flow_style=True)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        pytest.param(f"api: {{tokens: {TOKEN}}}", "is not a list", id="no list"),
        pytest.param(f"api: {{tokens: [{TOKEN}]}}", "has the keys name, scopes", id="no mapping"),
        pytest.param(f"api: {{tokens: [{{crm: {TOKEN}}}]}}", "has the keys name, scopes", id="other keys"),
        pytest.param(one(secret=TOKEN), "has the keys name, scopes", id="a key too many"),
        pytest.param(one(name=...), "has the keys name, scopes", id="no name"),
        pytest.param(one(scopes=...), "has the keys name, scopes", id="no scopes"),
        pytest.param(one(name=TOKEN * 3), "the name of a token has", id="a long name"),
        pytest.param(one(name="../crm"), "the name of a token has", id="a name that leaves the directory"),
        pytest.param(one(name=5), "the name of a token has", id="a number as the name"),
        pytest.param(one(token="a" * 15), "'crm': a token has 16 to 512", id="too short"),
        pytest.param(one(token="a" * 513), "'crm': a token has 16 to 512", id="too long"),
        pytest.param(one(token="1234567890 abcdefg"), "no spaces", id="with a space"),
        pytest.param(one(token="ä" * 20), "ASCII", id="no ASCII"),
        pytest.param(one(token=f"{TOKEN}\n"), "16 to 512", id="with a line break"),
        pytest.param(one(token=12345678901234567890), "put it in quotes", id="a number"),
        pytest.param(one(token=None), "16 to 512", id="an empty value"),
        pytest.param(one(token=""), "16 to 512", id="empty"),
        pytest.param(one(token_file="/x"), "has both token and token_file", id="in two places"),
        pytest.param(one(token=..., token_file="x"), "not an absolute path", id="a relative path"),
        pytest.param(one(token=..., token_file=""), "not an absolute path", id="no path"),
        pytest.param(one(token=..., token_file="/a\nb"), "not an absolute path", id="a path that cannot be shown"),
        pytest.param(one(scopes=[]), "the scopes of 'crm'", id="empty scopes"),
        pytest.param(one(scopes="read"), "the scopes of 'crm'", id="scopes that are no list"),
        pytest.param(one(scopes=["read", "write"]), "read, control, dial", id="an unknown scope"),
        pytest.param(one(scopes=[["read"]]), "read, control, dial", id="a scope that is a list"),
    ],
)
def test_a_wrong_token_is_said_without_being_quoted(file, text, wrong):
    (problem,) = problems(file(text))

    assert "api.tokens" in problem
    assert wrong in problem
    assert "; expected a list of {name, token or token_file, scopes: [read, control, dial]}" in problem
    for secret in (TOKEN, "a" * 15, "1234567890", "ä" * 20):
        assert secret not in problem


def test_two_tokens_have_two_names(file):
    (problem,) = problems(
        file(f"""
api:
  tokens:
    - {{name: crm, token: {TOKEN}, scopes: [read]}}
    - {{name: crm, token: {TOKEN}-2, scopes: [dial]}}
""")
    )
    assert "two tokens are named 'crm'; rename one" in problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param(b"", "16 to 512", id="empty"),
        pytest.param(b"too-short", "16 to 512", id="short"),
        pytest.param(b"0123456789abcdef\n0123456789abcdef", "no spaces", id="two lines"),
        pytest.param(b"\xff" * 20, "is not text", id="binary"),
    ],
)
@pytest.mark.parametrize("way", ["token_file", "credential"])
def test_a_token_that_cannot_be_read_is_said_with_its_file(file, tmp_path, way, content, message):
    source = tmp_path / "api.tokens.crm"
    if content is not None:
        source.write_bytes(content)
    entry = f"token_file: {source}, " if way == "token_file" else ""
    path = file(f"api: {{tokens: [{{name: crm, {entry}scopes: [read]}}]}}")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    with pytest.raises(ConfigError) as caught:
        load(path, environ).api.secrets(environ)

    for part in ("api.tokens", "'crm'", str(source), message):
        assert part in str(caught.value)
    assert "too-short" not in str(caught.value)


def test_a_token_that_is_nowhere_is_said_with_what_to_do(file):
    path = file("api: {tokens: [{name: crm, scopes: [read]}]}")

    with pytest.raises(ConfigError, match=r"'crm' has no token; set token or token_file, .* api\.tokens\.crm"):
        load(path, {}).api.secrets({})


def test_two_names_for_one_token_are_refused(file, tmp_path):
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    path = file(f"""
api:
  tokens:
    - {{name: crm, token: {TOKEN}, scopes: [read]}}
    - {{name: board, token_file: {tmp_path}/token, scopes: [dial]}}
""")

    with pytest.raises(ConfigError, match="'crm' and 'board' are the same token") as caught:
        load(path, {}).api.secrets({})
    assert TOKEN not in str(caught.value)


# --- Dialling ---------------------------------------------------------------------------------------------------------


def test_no_event_socket_is_none_and_not_the_default(file):
    assert load(file("freeswitch: {event_socket: ''}"), {}).freeswitch.event_socket is None
    assert load(None, {"FSCTL_FREESWITCH_EVENT_SOCKET": ""}).freeswitch.event_socket is None
    assert str(load(None, {}).freeswitch.event_socket) == "127.0.0.1:8021"


def test_the_password_of_the_event_socket_is_shown_nowhere(file, tmp_path):
    (tmp_path / "password").write_text("s3cret-word\n")
    config = load(file(f"freeswitch: {{password_file: {tmp_path}/password}}"), {})

    assert config.freeswitch.password == "s3cret-word"
    assert "s3cret" not in repr(config)


def test_a_route_fills_its_endpoint(file):
    config = load(file(r"dial: {routes: [{number: '\+1(\d{3})(\d+)?', endpoint: 'sofia/gateway/c/{1}-{2}-{0}'}]}"), {})
    (route,) = config.dial.routes

    assert route.fill(route.number.fullmatch("+12345")) == "sofia/gateway/c/234-5-+12345"
    assert route.fill(route.number.fullmatch("+1234")) == "sofia/gateway/c/234--+1234"


@pytest.mark.parametrize(
    ("route", "problem"),
    [
        ("{number: '1'}", "keys number and endpoint"),
        ("{number: '1', endpoint: 'user/1', colour: red}", "keys number and endpoint"),
        ("{number: '(', endpoint: 'user/1'}", "no regular expression"),
        ("{number: '1', endpoint: 'nowhere'}", "no single FreeSWITCH endpoint"),
        ("{number: '1', endpoint: 'user/1,user/2'}", "no single FreeSWITCH endpoint"),
        ("{number: '1', endpoint: 'user/1|user/2'}", "no single FreeSWITCH endpoint"),
        ("{number: '1', endpoint: 'a/1:_:b/2'}", "no single FreeSWITCH endpoint"),
        ("{number: '1', endpoint: '{x=y}user/1'}", "no single FreeSWITCH endpoint"),
        ("{number: '1', endpoint: 'user/{1}'}", "a group that the number"),
        ("{number: '1', endpoint: 'user/1', price_per_minute: -1}", "price_per_minute"),
        ("{number: '1', endpoint: 'user/1', caller_id: 'a b'}", "caller id"),
    ],
)
def test_a_route_that_is_wrong(file, route, problem):
    assert any(problem in found for found in problems(file(f"dial: {{routes: [{route}]}}")))
