"""From a YAML file, the environment and systemd's credentials to a checked Config, or to all that is wrong with them.

A wrong setting never stops the reading. Whether the files and programs that settings name exist is found out where
they are used.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import yaml

from fsctl.config.sections import ENVIRONMENT_PREFIX, SECTIONS, Config, settings
from fsctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_PATH", "ConfigProblems", "Problem", "load"]

DEFAULT_PATH = Path("/etc/fsctl/fsctl.yaml")

# Read by the command line to find the file: the only variable with our prefix that is no setting.
_PATH_VARIABLE = "FSCTL_CONFIG"
_SETTINGS = settings()
_VARIABLES = {setting.variable: setting for setting in _SETTINGS.values()}
_WRONG: Any = object()  # stands for a value that cannot be used; None is one that can
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration: which setting, from where (``file:line`` or variable), and what."""

    setting: str
    origin: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, self.setting, self.problem) if part)


class ConfigProblems(ConfigError):
    """Everything that is wrong with the configuration, found in one reading."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("", "\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class _Given:
    """A value somebody gave for a setting, and where."""

    value: Any
    origin: str
    rank: int  # 1 credential, 2 file, 3 environment: the highest wins


_GivenByName: TypeAlias = dict[str, _Given]


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file at ``path`` (None: no file) and the environment, and check everything.

    Raises :class:`ConfigProblems` naming all that is wrong.
    """
    problems: list[Problem] = []
    given = _from_credentials(environ, problems)
    for more in (_from_file(path, problems) if path else {}, _from_environment(environ, problems)):
        # An empty secret, as the commented file has it, takes no other one away.
        given |= {name: entry for name, entry in more.items() if entry.value != "" or not _SETTINGS[name].secret}
    values = {name: value for name, entry in given.items() if (value := _read(name, entry, problems)) is not _WRONG}
    _secrets_from_files(values, given, problems)
    _check_together(values, given, problems)
    if problems:
        raise ConfigProblems(problems)
    values["project.node_id"] = values.get("project.node_id") or socket.gethostname()
    config = Config(
        **{section: record(**_of_section(section, values)) for section, record in SECTIONS.items()},
        origins={name: entry.origin for name, entry in given.items()},
    )
    try:
        config.api.secrets(environ)
    except ConfigError as error:
        found = Problem(error.setting, config.origin(error.setting), error.problem)
        raise ConfigProblems([found]) from None
    return config


def _of_section(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in values.items() if name.partition(".")[0] == section}


def _read(name: str, entry: _Given, problems: list[Problem]) -> Any:
    kind = _SETTINGS[name].kind
    try:
        return kind.read(entry.value)
    except ValueError as error:
        what = "is not usable" if _SETTINGS[name].secret else str(error)
        problems.append(Problem(name, entry.origin, f"{what}; expected {kind.accepts}"))
        return _WRONG


def _unknown(word: str, what: str, known: list[str]) -> str:
    (nearest,) = get_close_matches(word, known, n=1, cutoff=0.0)
    return f"there is no such {what}; the nearest is {nearest}"


def _from_environment(environ: Mapping[str, str], problems: list[Problem]) -> _GivenByName:
    given = {}
    for variable in sorted(environ):
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == _PATH_VARIABLE:
            continue
        if (setting := _VARIABLES.get(variable)) is None:
            problems.append(Problem("", variable, _unknown(variable, "setting", list(_VARIABLES))))
            continue
        value: Any = environ[variable]
        if not setting.kind.raw:
            try:
                value = yaml.load(value, Loader=_SafeLoader)  # noqa: S506 - it is the safe loader
            except (yaml.YAMLError, ValueError):
                problems.append(Problem(setting.name, variable, f"is not YAML; expected {setting.kind.accepts}"))
                continue
        given[setting.name] = _Given(value, variable, 3)
    return given


def _from_credentials(environ: Mapping[str, str], problems: list[Problem]) -> _GivenByName:
    """Secrets that systemd hands over as files named ``section.key`` (LoadCredential=)."""
    if not (directory := environ.get("CREDENTIALS_DIRECTORY")):
        return {}
    given = {}
    for setting in _SETTINGS.values():
        if setting.secret and setting.kind.raw and (path := Path(directory, setting.name)).exists():
            text = _secret(setting.name, path, f"credential {setting.name}", problems)
            if text is not None:
                given[setting.name] = _Given(text, f"credential {setting.name}", 1)
    return given


def _secret(name: str, path: Path, origin: str, problems: list[Problem]) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        problems.append(Problem(name, origin, f"cannot read {path}: {reason}"))
        return None
    if not text or not text.isprintable():
        problems.append(Problem(name, origin, f"{path} does not hold one line of text"))
        return None
    return text


def _secrets_from_files(values: dict[str, Any], given: _GivenByName, problems: list[Problem]) -> None:
    """Let ``key_file`` fill ``key``; the one given in the stronger place (environment, file, credential) wins."""
    for name in (setting.name for setting in _SETTINGS.values() if setting.secret):
        if not (path := values.get(f"{name}_file")):
            continue
        file_given, direct = given[f"{name}_file"], given.get(name)
        if direct and direct.rank == file_given.rank:
            problems.append(Problem(name, direct.origin, f"{name} and {name}_file are both set; keep one"))
            continue
        if direct is None or direct.rank < file_given.rank:
            text = _secret(f"{name}_file", path, file_given.origin, problems)
            values[name] = None if text is None else _read(name, replace(file_given, value=text), problems)
            given[name] = file_given


def _check_together(values: Mapping[str, Any], given: _GivenByName, problems: list[Problem]) -> None:
    """Find what no setting can say alone."""
    name, other = "media.cache_directory", "recordings.directory"
    cache, recordings = (values.get(key, _SETTINGS[key].default) for key in (name, other))
    if cache == recordings or cache in recordings.parents or recordings in cache.parents:
        origin = given[name].origin if name in given else given[other].origin
        problems.append(Problem(name, origin, f"and {other} overlap: making room in the cache would delete recordings"))
    keys = ("recordings.link_key", "project.signing_key")
    if values.get("recordings.link_seconds") and not any(key in given for key in keys):
        problem = "URLs that expire need a key: set recordings.link_key, link_key_file or project.signing_key"
        problems.append(Problem("recordings.link_seconds", given["recordings.link_seconds"].origin, problem))
    if values.get("streams.mode", _SETTINGS["streams.mode"].default) == "hub":
        for name, allowed in (("streams.frame_ms", (20, 40, 60)), ("streams.sample_rate", (8000, 16000, 24000))):
            if values.get(name, _SETTINGS[name].default) not in allowed:
                words = ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"
                problems.append(Problem(name, given[name].origin, f"the hub sends {words}"))


def _from_file(path: Path, problems: list[Problem]) -> _GivenByName:
    try:
        loader = _SafeLoader(path.read_bytes())
        node = loader.get_single_node()
    except OSError as error:
        problems.append(Problem("", str(path), f"cannot be read: {error.strerror}"))
        return {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        origin = f"{path}:{mark.line + 1}" if mark else str(path)
        problems.append(Problem("", origin, f"is not YAML: {getattr(error, 'problem', None) or error}"))
        return {}
    return _FileReader(path, loader, problems).read(node)


class _FileReader:
    """Walks the file's YAML nodes, because only they know their lines."""

    def __init__(self, path: Path, loader: Any, problems: list[Problem]) -> None:
        self._path = path
        self._loader = loader
        self._problems = problems

    def read(self, root: yaml.Node | None) -> _GivenByName:
        given: _GivenByName = {}
        for section, section_node, value_node in self._entries(root, ""):
            if section not in SECTIONS:
                self._problem(section_node, section, _unknown(section, "section", list(SECTIONS)))
                continue
            for key, key_node, node in self._entries(value_node, section):
                name = f"{section}.{key}"
                if name not in _SETTINGS:
                    known = [other for other in _SETTINGS if other.startswith(f"{section}.")]
                    self._problem(key_node, name, _unknown(name, "setting", known))
                    continue
                try:
                    value = self._loader.construct_object(node, deep=True)
                except (yaml.YAMLError, ValueError):
                    self._problem(node, name, f"is not YAML; expected {_SETTINGS[name].kind.accepts}")
                    continue
                given[name] = _Given(value, self._origin(key_node), 2)
        return given

    def _entries(self, node: yaml.Node | None, name: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """List the keys of a mapping with both nodes; an empty section is an empty mapping."""
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
            return []
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, name, "expected a mapping of " + ("settings" if name else "sections"))
            return []
        entries: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in entries:
                self._problem(key_node, f"{name}.{key}" if name else key, "is there twice; keep one")
            entries[key] = (key, key_node, value_node)
        return list(entries.values())

    def _origin(self, node: yaml.Node) -> str:
        return f"{self._path}:{node.start_mark.line + 1}"

    def _problem(self, node: yaml.Node, name: str, problem: str) -> None:
        self._problems.append(Problem(name, self._origin(node), problem))
