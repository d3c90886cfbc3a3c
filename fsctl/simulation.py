"""What ``fsctl simulate`` does: run one document on a simulated call and tell what happens.

Real are the service, the event socket and what the script's logic needs from elsewhere: documents of ``execute`` and
``transfer``, and the ``request`` method. Stood in for are the caller, FreeSWITCH, sounds behind URLs and the endpoints
of streams; webhooks are shown, not sent.
"""

from __future__ import annotations

import json as jsonlib
import sys
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsctl import __version__
from fsctl import log as logs
from fsctl.call.events import ControlChanged
from fsctl.checking import STANDARD_INPUT, check_documents
from fsctl.clock import Clock
from fsctl.media.files import Files
from fsctl.media.recordings import Recordings
from fsctl.simulator import Caller, Scripted
from fsctl.simulator.caller import keys
from fsctl.simulator.media import RATE, silence, write_wav
from fsctl.stage import Stage, on_loopback, scratch
from fsctl.story import Story, short
from fsctl.web import Client, Policy, Response, redact, strip_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fsctl.call.events import CallEvent
    from fsctl.config import Config
    from fsctl.story import Entry
    from fsctl.web import Timeouts

__all__ = ["LIMIT", "simulate"]

LIMIT = 300.0
"""Call seconds after which the caller leaves a script that is still running."""

DICTATES = 2.0
"""Seconds the caller talks when a recording begins."""

_FIRST_KEY = 1.0  # seconds from where the script listens to the first key
_TERMINATORS = {"record": "#", "record_call": ""}  # the keys that a method listens to if the document names none


def simulate(
    path: str,
    *,
    digits: str,
    to: str,
    from_: str,
    vars: Mapping[str, str],  # noqa: A002 - the language's word
    params: Mapping[str, str],
    json: bool,
    color: bool,
    speed: float,
    config: Config,
) -> int:
    """Run the document at ``path`` (``-``: standard input) and tell it on standard output.

    Returns 0 when its script ended without a script error, 1 when it did not, could not be run, or did not end.
    """
    level = config.log.level if config.origin("log.level") != "default" else "warning"
    logs.setup(level, config.log.format, stream=sys.stderr)  # type: ignore[arg-type]  # the configuration checked it
    text = sys.stdin.buffer.read() if path == STANDARD_INPUT else b""
    if not _is_valid(path, text, config, json=json, color=color):
        return 1
    story = Story(json=json, color=color)
    clock = _Clock(speed)
    with scratch() as directory:
        document = Path(path).resolve()
        if path == STANDARD_INPUT:
            document = directory / "document" / "standard-input"
            document.parent.mkdir()
            document.write_bytes(text)
        settings = replace(config, documents=replace(config.documents, directory=document.parent, fallback=""))
        with _Simulation(on_loopback(settings, directory, clock), clock, path, digits, vars, params) as stage:
            story.say(f"{path}: {from_} calls {to}, at {speed:g} times real time. {_HONESTLY}")
            ended: Entry | None = None
            for entry in stage.run(document=document.name, to=to, from_=from_, behaviour=Caller(dictates=DICTATES)):
                story.tell(entry)
                if entry.kind == "script":
                    ended = entry
            return _conclude(story, stage, ended)


_HONESTLY = "Webhooks are shown, not sent."


def _is_valid(path: str, text: bytes, config: Config, *, json: bool, color: bool) -> bool:
    """Whether the document can be run; says all that is wrong with it, as ``fsctl check`` does."""
    (checked,) = check_documents([path], config, BytesIO(text))
    if not checked.ok:
        for line in checked.as_json() if json else checked.as_text(color=color):
            click.echo(line, color=color)
    return checked.ok


def _conclude(story: Story, stage: _Simulation, ended: Entry | None) -> int:
    outcome = ended.fields["outcome"] if ended is not None else "error"
    variables = ended.fields["variables"] if ended is not None else {}
    ok = outcome != "error" and not stage.limited
    if stage.unpressed:
        stage.note("note", text="")
    story.block("Variables at the end", {name: short(value) for name, value in variables.items()} or {"none": ""})
    return 0 if ok else 1


class _Clock(Clock):
    """Call time that stands still while a web server is asked: that takes no less time for being simulated."""

    def __init__(self, speed: float) -> None:
        super().__init__(speed)
        self._lost = 0.0
        self._since: float | None = None

    def monotonic(self) -> float:
        """Call seconds, without those that were spent waiting."""
        return (super().monotonic() if self._since is None else self._since) - self._lost

    def now(self) -> float:
        """The Unix time of the call."""
        return self._origin + self.monotonic()

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Stand still."""
        self._since = super().monotonic()
        try:
            yield
        finally:
            self._lost += super().monotonic() - self._since
            self._since = None
