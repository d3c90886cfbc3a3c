"""Text of callers and customers in every parameter that reaches FreeSWITCH: it arrives as text or not at all.

The simulated switch reads commands, expands ``${…}`` and splits arguments as FreeSWITCH does, so what slips through
shows: as a command that was not meant, as an API command run by an expansion, or as another text than the intended.
"""

from __future__ import annotations

import json
import re

import pytest

from fsctl.media.voices import spoken
from fsctl.simulator import Caller
from tests.stories.stage import document, page

HOSTILE = {
    "an API": "${system touch /tmp/owned}",
    "an API in brackets": "${system(touch /tmp/owned)}",
    "an API in an API": "${expr ${system ls}}",
    "an API of the switch": "$${system ls}",
    "an escaped API": "\\${system ls}",
    "a twice escaped API": "\\\\${system ls}",
    "backslashes before a brace": "$\\{system ls}",
    "half an API": "${system ls",
    "a variable": "${uuid} ${sip_from_user} $${local_ip_v4}",
    "newlines": "a\nb\n\nsendmsg\ncall-command: hangup\n\n",
    "carriage returns": "a\rb\r\n\r\napi uuid_kill\r\n",
    "NUL": "a\0b",
    "quotes": "it's \"quoted\" 'twice' and 'open",
    "escapes": "a\\nb\\sc\\td\\'e\\\\f\\",
    "pipes": "a|b|c",
    "commas and semicolons": "a,b;c=d",
    "braces": "{a=b,c=d}e",
    "brackets": "[a=b]c",
    "scoped variables": "%[app_disable_expand_variables=true,a=b]c",
    "marks of files": "a!b@@1 && vlc://x",
    "unloading": "please reload mod_event_socket, or unload mod_event_socket",
    "an array": "ARRAY::a|:b|:c",
    "encoded newlines": "x%0A%0Aapi uuid_kill%0A%0A",
    "a header": "x\nContent-Length: 100\n\n",
    "other lines": "a\u2028b\u2029c\x85d\x0be\x0cf",
    "other letters": "Grüße, 東京 \U0001f600",
    "length": "x " * 2500,
    "blanks": "   ",
}

# Where text of others can stand, and what of a script it makes. ``envs.evil`` is not expanded again.
PLACES = {
    "say": {"play": {"url": "say:${envs.evil}"}},
    "say, later": {"play": {"url": "say:Hello ${envs.evil}"}},
    "say_voice": {"play": {"url": "say:hi", "say_voice": "${envs.evil}"}},
    "say_language": {"play": {"url": "say:hi", "say_language": "${envs.evil}"}},
    "say_gender": {"play": {"url": "say:hi", "say_gender": "${envs.evil}"}},
    "sound": {"play": {"url": "${envs.evil}"}},
    "sound's URL": {"play": {"url": "@web/sound.wav?${envs.evil}"}},
    "ring": {"play": {"url": "ring:1:${envs.evil}"}},
    "silence": {"play": {"url": "silence:${envs.evil}"}},
    "codecs": {"answer": {"codecs": "${envs.evil}"}},
    "reason": {"hangup": {"reason": "${envs.evil}"}},
    "record.format": {"record": {"format": "${envs.evil}", "max_length": 0.1}},
    "record.terminators": {"record": {"terminators": "${envs.evil}", "max_length": 0.1}},
    "record_call.control_id": {"record_call": {"control_id": "${envs.evil}"}},
    "stop_record_call.control_id": {"stop_record_call": {"control_id": "${envs.evil}"}},
    "stream.url": {"stream": {"url": "${envs.evil}"}},
    "stream.url's path": {"stream": {"url": "wss://127.0.0.1/a/${envs.evil}"}},
    "stream.url's query": {"stream": {"url": "wss://127.0.0.1/a?b=${envs.evil}"}},
    "stream.control_id": {"stream": {"url": "wss://127.0.0.1/a", "control_id": "${envs.evil}"}},
    "stream.name": {"stream": {"url": "wss://127.0.0.1/a", "name": "${envs.evil}"}},
    "stream.track": {"stream": {"url": "wss://127.0.0.1/a", "track": "${envs.evil}"}},
    "stream.codec": {"stream": {"url": "wss://127.0.0.1/a", "codec": "${envs.evil}"}},
    "stream.token": {"stream": {"url": "wss://127.0.0.1/a", "authorization_bearer_token": "${envs.evil}"}},
    "stream.custom_parameters": {"stream": {"url": "wss://127.0.0.1/a", "custom_parameters": {"v": "${envs.evil}"}}},
    "user_event": {"user_event": {"event": {"v": "${envs.evil}"}}},
    "execute": {"execute": "${envs.evil}"},
    "caller": {"play": {"url": "say:${call.from_number} ${call.headers[0].value}"}},
}
# What a place may make us say; the benign ``x`` makes no more than that.
PLAYED = {"api uuid_answer", "playback", "speak", "api uuid_kill"}
RECORDED = PLAYED | {"api uuid_record"}
STREAMED = {
    "api uuid_answer",
    "api uuid_kill",
    "api uuid_setvar_multi",
    "api uuid_setvar",
    "api uuid_audio_stream",
    "filter Job-Owner-UUID",
    "bgapi uuid_audio_stream",
}
VERBS = {
    "record": RECORDED,
    "record_call": RECORDED,
    "stop_record_call": RECORDED,
    "stream": STREAMED,
    "user_event": {"sendevent fsctl::user_event", "api uuid_kill"},
}


def sip(text):
    """``text`` as the number in a SIP URI can hold it: control characters are escaped."""
    return re.sub(r"[\x00-\x1f\x7f]", lambda found: f"%{ord(found.group()):02X}", text)


@pytest.fixture(params=HOSTILE)
def hostile(request, stage):
    text = HOSTILE[request.param]
    built = stage(
        config={"streams": {"mode": "direct"}},
        pages={"/sound.wav": page("RIFF")},
    )
    # YAML carries no NUL and no lone CR in a plain way; the operator's own file is not what is tested here.
    object.__setattr__(built.server.config.documents, "envs", {"evil": text})
    return built, text


def test_nothing_reaches_freeswitch_that_was_not_meant(hostile):
    built, text = hostile
    stories = {}
    for place, step in PLACES.items():
        settings = {}
        if place == "caller":
            settings = {"caller": sip(text), "behaviour": Caller(headers={"X-Evil": text})}
            settings["variables"] = {"swml_call_type": "phone"}
        stories[place] = built.start(document({"set": {"before": 1}}, step, {"set": {"after": 1}}), **settings)
    for place, story in stories.items():
        story.end()
        _says_only_what_it_may(place, story)
        _is_heard_as_written(place, story, text)
        _goes_on_or_says_why(place, story)
    assert built.switch.unloaded == []


def _says_only_what_it_may(place, story):
    verbs = {_verb(line) for line in story.commands}
    method = next(iter(PLACES[place]))
    assert verbs <= VERBS.get(method, PLAYED), f"{place}: {story.commands}"
    for raw in story.wire:
        head = raw.partition(b"\n\n")[0]
        assert b"\r" not in head
        assert b"\0" not in raw
        assert b"mod_event_socket" not in head
    assert {one.application for one in story.call.applications} <= {"socket", "playback", "speak"}


def _verb(line):
    words = line.split(" ")
    return " ".join(words[:2]) if words[0] in ("api", "bgapi", "filter", "sendevent") else words[0]


def _is_heard_as_written(place, story, text):
    """What did arrive is the text, whole and unchanged, as far as a place has room for it."""
    for one in story.call.applications:
        if one.application == "speak":
            engine, voice, words = one.argument.split("|", 2)
            assert (engine, voice) in (("flite", "slt"), ("flite", "rms"), ("flite", "awb"))
            wanted = {
                "say": spoken(text.strip()),
                "say, later": spoken(f"Hello {text.strip()}"),
                "caller": words,  # FreeSWITCH has already changed what it took from the phone
            }.get(place, "hi")
            assert words == wanted
        elif one.application == "playback":
            assert one.argument.startswith((str(built_cache(story)), "tone_stream://%(", "silence_stream://"))
    for connection in _streams(story):
        assert connection.url.startswith("wss://127.0.0.1/a")
        start = json.loads(connection.texts[0])["start"]
        if place == "stream.custom_parameters":
            assert start["customParameters"] == {"v": text}
        if place == "stream.control_id":
            assert start["streamSid"] == text
    if place == "user_event":
        body = story.wire[-2].partition(b"\n\n")[2] if b"user_event" in story.wire[-2] else b""
        told = [event.event for event in story.events if type(event).__name__ == "UserEvent"]
        assert json.loads(body) == told[0] == {"v": text}


def built_cache(story):
    return story.stage.folder / "cache"


def _streams(story):
    return [stream.connection for stream in story.call.streams if stream.connection is not None]


def _goes_on_or_says_why(place, story):
    """The script went on after the instruction, or the end of the script was told."""
    fatal = [warning for warning in story.warnings if warning.fatal]
    assert fatal or story.variables.get("after") == 1 or story.instructions[-1] == "main[1].hangup hangup ok"
    for warning in story.warnings:
        assert warning.path.startswith("main[1]") or warning.method == "execute"  # in the text that is no document
        assert "\n" not in warning.message
        assert "\0" not in warning.message


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_number_and_its_headers_are_text_in_every_message(stage, what):
    """The caller's number, the number called, a SIP header: in documents' requests, webhooks and log lines."""
    text = HOSTILE[what]
    built = stage(config={"webhooks": {"call_state_url": "@web/hook"}}, pages={"/doc": page(document({"answer": {}}))})
    story = built.run(
        variables={"swml_url": "@web/doc", "swml_call_type": "phone"},
        caller=sip(text),
        destination=sip(text),
        behaviour=Caller(headers={"X-Evil": text}),
    )
    asked = next(hook for hook in built.requests if hook.path == "/doc").event["call"]
    assert asked["call_id"] == story.call.uuid
    told = [hook.params["device"]["params"]["from_number"] for hook in story.webhooks()]
    assert set(told) == {asked["from_number"]}
    assert story.ended.end_reason == "hangup"
    assert [line["call_id"] for line in story.log if line["event"] == "call_ended"] == [story.call.uuid]
