"""The stories of ``cases/*.yaml``: what a document asks for, what the caller and the switch do, and what comes of it.

A case has ``story`` (its name), ``script`` (a document as text, or a list of steps), and what differs from a patient
caller on a gentle switch: ``caller``, ``call`` (number, variables), ``config``, ``files``, ``pages``, ``streams``,
``switch``, ``nasty``. ``expects`` tells what must be seen. There, ``~text`` is a regular expression, an object has to
be found in what was seen (more may be there), a list has to fit item by item, and numbers may differ by 1 %.
``@web`` is the address of the story's web server, ``@recordings`` where fsctl serves recordings.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from fsctl.simulator import Caller, Drop, Nasty
from tests.stories.stage import page, wav

CASES = Path(__file__).parent / "cases"
SETTINGS = {
    "story", "script", "caller", "call", "config", "files", "pages", "streams", "switch", "nasty", "presses", "expects"
}  # fmt: skip


def cases():
    for path in sorted(CASES.glob("*.yaml")):
        for case in yaml.safe_load(path.read_text(encoding="utf-8")):
            yield pytest.param(case, id=f"{path.stem}: {case['story']}")


def fits(expected, found):
    """Whether what was found is what a case expects."""
    if isinstance(expected, str) and expected.startswith("~"):
        return re.fullmatch(expected[1:], str(found), re.DOTALL) is not None
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(name in found and fits(expected[name], found[name]) for name in expected)
    if isinstance(expected, list):
        return (
            isinstance(found, list)
            and len(found) == len(expected)
            and all(fits(one, other) for one, other in zip(expected, found, strict=True))
        )
    if isinstance(expected, bool) or expected is None or isinstance(expected, str):
        return type(found) is type(expected) and found == expected
    return isinstance(found, int | float) and found == pytest.approx(expected, rel=0.01)


def served(pages):
    """The pages of a case: text, ``{wav: seconds}``, or ``{body, status, headers}``."""
    for path, content in pages.items():
        if isinstance(content, str):
            yield path, page(content)
        elif "wav" in content:
            yield path, page(wav(content["wav"]), Content_Type="audio/wav")
        else:
            headers = {name.replace("-", "_"): value for name, value in content.get("headers", {}).items()}
            yield path, page(content.get("body", ""), status=content.get("status", 200), **headers)


def nasty(settings):
    drop = settings.pop("drop", None)
    settings |= {name: frozenset(settings[name]) for name in ("lost", "duplicated") if name in settings}
    return Nasty(drop=Drop(**drop) if drop else None, **settings)


def played(stage, case):
    """The story of a case, from beginning to end."""
    staged = stage(
        config=case.get("config"),
        pages=dict(served(case.get("pages", {}))),
        streams=case.get("streams"),
        **case.get("switch", {}),
    )
    for path, text in case.get("pages", {}).items():
        if isinstance(text, str):
            staged.pages[path] = page(staged.here(text))
    for name, text in case.get("files", {}).items():
        staged.write(name, text)
    script = case.get("script")
    if isinstance(script, list):
        script = yaml.safe_load(staged.here(yaml.safe_dump(script, sort_keys=False)))
    call = dict(case.get("call", {}))
    caller = dict(case.get("caller", {}))
    if "speaks" in caller:
        caller["speaks"] = tuple(tuple(interval) for interval in caller["speaks"])
    if "nasty" in case:
        call["nasty"] = nasty(dict(case["nasty"]))
    return staged.run(script, behaviour=Caller(**caller), **call)


@pytest.mark.parametrize("case", list(cases()))
def test_the_story_goes_as_told(case, stage):
    assert set(case) <= SETTINGS
    story = played(stage, case)
    expects = dict(case["expects"])
    seen = {
        "commands": lambda _: story.commands,
        "instructions": lambda _: story.instructions,
        "variables": lambda _: story.variables,
        "without": lambda names: [name for name in names if name not in story.variables],
        "states": lambda _: story.states,
        "controls": lambda _: list(story.controls().values()),
        "control_ids": lambda _: [control_id for _, control_id in story.controls()],
        "end": lambda _: {
            "reason": story.ended.end_reason,
            "source": story.ended.end_source,
            "cause": story.ended.cause,
            "script": story.script.outcome,
            "answered": story.call.answered,
        },
        "warnings": lambda _: [
            {
                "code": one.code.removeprefix("relay_script_"),
                "says": one.message,
                "at": one.path,
                "section": one.section,
                "index": one.index,
                "line": one.line,
                "method": one.method,
                "fatal": one.fatal,
            }
            for one in story.warnings
        ],
        "webhooks": lambda paths: {path: [hook.told for hook in story.webhooks(path)] for path in paths},
        "payloads": lambda paths: {path: [_flat(hook) for hook in story.webhooks(path)] for path in paths},
        "requests": lambda wanted: _requests(story, wanted),
        "log": lambda wanted: [_first(story.stage.log(), line) for line in wanted],
        "streamed": lambda _: [
            {"url": one.url, "headers": one.headers, "texts": one.texts} for one in story.stage.streams.connections
        ],
        "recorded": lambda _: [
            {"seconds": one.seconds, "stereo": one.stereo, "exists": Path(one.path).exists()}
            for one in story.call.recordings
        ],
        "lasts": lambda limits: limits if limits[0] <= story.seconds <= limits[1] else [story.seconds],
        "metrics": lambda wanted: _metrics(story, wanted),
    }
    for what, wanted in expects.items():
        found = seen[what](wanted)
        assert fits(_here(story, wanted), found), f"{what}: expected {wanted}\nfound {found}"


def _here(story, wanted):
    if isinstance(wanted, str):
        return story.stage.here(wanted)
    if isinstance(wanted, dict):
        return {name: _here(story, value) for name, value in wanted.items()}
    return [_here(story, value) for value in wanted] if isinstance(wanted, list) else wanted


def _flat(hook):
    event = hook.event
    return {"method": hook.line.split()[0], **hook.headers, **event, **event.get("params", {})}


def _requests(story, wanted):
    """The requests that were no webhooks, with their bodies read as far as a case looks into them."""
    found = [hook for hook in story.stage.requests if not hook.path.startswith("/hook")]
    shown = []
    for hook in found:
        method, target, _ = hook.line.split()
        body = hook.body.decode("utf-8", "replace")
        entry = {"asks": f"{method} {target}", "headers": hook.headers, "body": body}
        if body.startswith("{"):
            entry["json"] = hook.event
        shown.append(entry)
    return shown


def _first(lines, wanted):
    """The first line like ``wanted``, or all there are of its kind."""
    same = [line for line in lines if line["event"] == wanted["event"]]
    return next((line for line in same if fits(wanted, line)), same)


def _metrics(story, wanted):
    import requests

    text = requests.get(f"{story.stage.public_url}/metrics", timeout=5).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(values.get(name, "nan")) for name in wanted}
