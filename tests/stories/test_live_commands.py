"""Live commands on whole calls: HTTP, service, simulated switch, webhooks (calling-api 2 to 5)."""

from __future__ import annotations

import math
import wave

import pytest

from fsctl.simulator import Caller
from tests.stories.stage import document, page, wait_for

STAY = [{"answer": {}}, {"sleep": -1}]
SLOW = {"streams": {"/slow": {"after": 0.2}}, "speed": 4.0}  # the module gives up after a second of call time
TALKS = Caller(speaks=((0.0, math.inf),))


@pytest.fixture
def house(stage):
    return lambda **settings: stage(rest=True, **settings)


@pytest.fixture
def talking(house):
    """A call that is up, and does nothing by itself."""

    def begin(steps=STAY, *, behaviour=TALKS, **settings):
        stage = house(**settings)
        story = stage.start(steps, behaviour=behaviour)
        wait_for(lambda: "answered" in story.states, "the answer")
        return story

    return begin


def ask(story, command, /, status=200, **params):
    """What the answer says."""
    answer = story.stage.ask(command, story.call.uuid, **params)
    assert answer.status_code == status, answer.text
    return answer.json()


def hang_up(story, **params):
    ask(story, "calling.end", **params)
    return story.end()


def hooks(story, path, count):
    """The parameters of that many webhooks."""
    wait_for(lambda: len(story.webhooks(path)) >= count, f"{count} webhooks to {path}")
    return [hook.params for hook in story.webhooks(path)]


def of_recordings(story):
    return [line.split(" ")[2] for line in story.commands if line.startswith("api uuid_record ")]


class TestRecord:
    AUDIO = {"audio": {"format": "wav", "end_silence_timeout": 0, "initial_timeout": 0}}  # noqa: RUF012 - read only

    def test_its_whole_life(self, talking):
        story = talking()
        answer = ask(story, "calling.record", control_id="r", record=self.AUDIO, status_url="@web/hook/r")
        assert (answer["control_id"], answer["status"]) == ("r", "answered")
        clock = story.stage.clock
        for verb, params in (("pause", {"behavior": "silence"}), ("resume", {}), ("pause", {}), ("resume", {})):
            clock.sleep(10)
            ask(story, f"calling.record.{verb}", control_id="r", **params)
        clock.sleep(10)
        ask(story, "calling.record.stop", control_id="r")
        hang_up(story)

        assert of_recordings(story) == ["start", "mask", "unmask", "pause", "resume", "stop"]
        told = hooks(story, "/hook/r", 6)
        shown = [(params["state"], params.get("pause_behavior")) for params in told]
        assert shown == [
            ("recording", None),
            ("paused", "silence"),
            ("recording", None),
            ("paused", "skip"),
            ("recording", None),
            ("finished", None),
        ]
        # Of some 50 s the last pause is missing, and the first one is silent.
        assert told[-1]["duration"] == pytest.approx(told[-1]["end_time"] - told[-1]["start_time"] - 10, abs=5)
        (recording,) = story.call.recordings
        with wave.open(recording.path) as opened:
            audio = opened.readframes(opened.getnframes())
        assert len(audio) / 16000 == pytest.approx(told[-1]["duration"], abs=0.1)
        middle = len(audio) // 16000 * 15 * 16000 // (len(audio) // 16000)
        assert not audio[middle : middle + 1600].strip(b"\0")
        assert audio[:1600].strip(b"\0")

    def test_a_beep_comes_first_even_while_something_plays(self, talking):
        story = talking([{"play": "silence:3600"}])
        ask(story, "calling.record", control_id="r", record={"audio": {**self.AUDIO["audio"], "beep": True}})
        story.waits("api uuid_record start")
        ask(story, "calling.record.stop", control_id="r")
        hang_up(story)

        said = [line.split(" ")[1] for line in story.commands if line.startswith("api uuid_")]
        assert said.index("uuid_displace") < said.index("uuid_record")
        assert story.controls("record") == {("record", "r"): ["recording", "finished"]}

    def test_a_hangup_completes_the_file(self, talking):
        story = talking()
        ask(story, "calling.record", control_id="r", audio=self.AUDIO["audio"], status_url="@web/hook/r")
        story.stage.clock.sleep(3)
        story.call.hangup()
        story.end()

        assert [params["state"] for params in hooks(story, "/hook/r", 2)] == ["recording", "finished"]

    def test_mp3_without_its_module_is_refused(self, talking):
        story = talking(mod_shout=False)

        answer = ask(story, "calling.record", 422, control_id="r")

        assert answer["errors"][0]["code"] == "call_update_failed"
        hang_up(story)
        assert story.controls("record") == {("record", "r"): ["error"]}

    def test_a_limit_that_passes_while_it_is_paused(self, talking):
        story = talking()
        audio = {**self.AUDIO["audio"], "max_length": 20}
        ask(story, "calling.record", control_id="r", record={"audio": audio})
        ask(story, "calling.record.pause", control_id="r")

        wait_for(lambda: story.controls("record")["record", "r"][-1] == "finished", "the limit")

        assert ask(story, "calling.record.resume", control_id="r")["status"] == "answered"
        hang_up(story)


class TestCollect:
    def test_digits_reach_it_while_something_plays(self, talking):
        story = talking([{"play": "silence:3600"}])
        ask(
            story,
            "calling.collect",
            control_id="c",
            digits={"max": 4, "terminators": "#"},
            continuous=True,
            partial_results=True,
            send_start_of_input=True,
            status_url="@web/hook/c",
        )
        story.call.press("42#")
        told = hooks(story, "/hook/c", 4)
        ask(story, "calling.collect.stop", control_id="c")
        hang_up(story)

        results = [(params["result"]["type"], params["state"], params["final"]) for params in told]
        assert results == [
            ("start_of_input", "collecting", False),
            ("digit", "collecting", False),
            ("digit", "collecting", False),
            ("digit", "collecting", True),
        ]
        assert told[-1]["result"]["params"] == {"digits": "42", "terminator": "#"}
        assert hooks(story, "/hook/c", 5)[-1]["result"] == {"type": "finished"}
        assert not any(line.startswith("api uuid_break") for line in story.commands)

    def test_timers_start_when_they_are_told_to(self, talking):
        story = talking()
        params = {"control_id": "c", "digits": {"max": 1}, "initial_timeout": 3, "status_url": "@web/hook/c"}
        ask(story, "calling.collect", **params)
        story.stage.clock.sleep(20)
        assert story.webhooks("/hook/c") == []
        ask(story, "calling.collect.start_input_timers", control_id="c")

        assert [params["result"]["type"] for params in hooks(story, "/hook/c", 1)] == ["no_input"]
        hang_up(story)

    def test_nothing_to_collect(self, talking):
        story = talking()

        ask(story, "calling.collect", 400)
        hang_up(story)


class TestDetect:
    def test_a_person(self, house):
        stage = house()
        story = stage.start(STAY, behaviour=Caller(speaks=((1.0, 1.6),)))
        wait_for(lambda: "answered" in story.states, "the answer")
        params = {"detect": {"type": "machine"}, "status_url": "@web/hook/d"}
        ask(story, "calling.detect", control_id="d", **params)

        told = [params["detect"]["params"]["event"] for params in hooks(story, "/hook/d", 2)]
        assert told == ["HUMAN", "finished"]
        hang_up(story)

    def test_a_digit(self, talking):
        story = talking()
        ask(story, "calling.detect", control_id="d", detect={"type": "digit"}, status_url="@web/hook/d")
        story.call.press("5")

        told = [params["detect"]["params"]["event"] for params in hooks(story, "/hook/d", 2)]
        assert told == ["5", "finished"]
        hang_up(story)


class TestStream:
    def test_the_answer_comes_before_the_endpoint(self, talking):
        story = talking(**SLOW)
        params = {"url": "wss://127.0.0.1/slow", "name": "ears", "status_url": "@web/hook/s"}
        ask(story, "calling.stream", control_id="s", **params)
        assert story.webhooks("/hook/s") == []

        (told,) = hooks(story, "/hook/s", 1)
        assert (told["state"], told["name"], told["control_id"]) == ("streaming", "ears", "s")
        ask(story, "calling.stream.stop", control_id="s")
        assert [params["state"] for params in hooks(story, "/hook/s", 2)] == ["streaming", "finished"]
        hang_up(story)

    def test_one_that_never_connects_is_finished_once(self, talking):
        story = talking(streams={"/no": {"code": 6, "problem": "Connection refused"}})
        ask(story, "calling.stream", control_id="s", url="wss://127.0.0.1/no", status_url="@web/hook/s")

        assert [params["state"] for params in hooks(story, "/hook/s", 1)] == ["finished"]
        hang_up(story)
        assert story.controls("stream") == {("stream", "s"): ["finished"]}

    def test_a_script_sent_elsewhere_while_its_stream_connects_leaves_it_to_connect(self, talking):
        story = talking(
            [{"answer": {}}, {"stream": {"url": "wss://127.0.0.1/slow", "control_id": "s"}}, {"set": {"never": 1}}],
            **SLOW,
        )
        story.waits("api uuid_audio_stream start")
        ask(story, "calling.transfer", dest={"sections": {"main": [{"set": {"there": 1}}, {"sleep": -1}]}})

        wait_for(lambda: story.controls("stream").get(("stream", "s")) == ["streaming"], "the stream")
        ask(story, "calling.stream.stop", control_id="s")
        hang_up(story)

        assert story.controls("stream") == {("stream", "s"): ["streaming", "finished"]}
        assert "never" not in story.variables
        assert story.variables["there"] == 1

    def test_a_private_address(self, talking):
        story = talking()

        answer = ask(story, "calling.stream", 422, url="wss://10.1.2.3/")

        assert [(item["code"], item["attribute"]) for item in answer["errors"]] == [("url_is_unsafe", "url")]
        hang_up(story)


class TestTransfer:
    def test_to_a_document(self, talking):
        story = talking([{"play": "silence:3600"}, {"set": {"never": 1}}])
        ask(story, "calling.transfer", dest=document({"set": {"there": 1}}))
        story.end()

        assert story.variables["there"] == 1
        assert "never" not in story.variables

    def test_to_a_url(self, talking):
        asked = []

        def answer(request, _):
            asked.append(request)
            return page(document({"set": {"there": 1}}))

        story = talking(pages={"/next": answer})
        ask(story, "calling.transfer", dest="@web/next")
        story.end()

        (request,) = asked
        assert request.event["call"]["call_id"] == story.call.uuid
        assert story.variables["there"] == 1

    def test_to_a_url_that_gives_nothing_leaves_the_call_where_it_is(self, talking):
        story = talking()
        ask(story, "calling.transfer", dest="@web/missing")

        wait_for(lambda: story.warnings, "the warning")
        assert "goes on" in story.warnings[0].message
        hang_up(story)

    @pytest.mark.parametrize(
        ("dest", "code"),
        [
            ("sip:a@pbx.example", "feature_not_available"),
            ("http://10.0.0.1/", "url_is_unsafe"),
            ("x", "not_json_or_yaml"),
        ],
    )
    def test_refused(self, talking, dest, code):
        story = talking()

        answer = ask(story, "calling.transfer", 422, dest=dest)

        assert [(item["code"], item["attribute"]) for item in answer["errors"]] == [(code, "dest")]
        hang_up(story)


class TestSmallOnes:
    def test_denoise(self, talking):
        story = talking()
        for _ in range(2):
            ask(story, "calling.denoise")
        for _ in range(2):
            ask(story, "calling.denoise.stop")
        hang_up(story)

        said = [line for line in story.commands if line.startswith("api uuid_preprocess")]
        assert said == ["api uuid_preprocess r.noise_suppress=-25", "api uuid_preprocess stop"]

    def test_user_event(self, talking):
        story = talking(config={"webhooks": {"user_event_url": "@web/hook/u"}})
        ask(story, "calling.user_event", event={"action": "open"})

        assert hooks(story, "/hook/u", 1)[0]["action"] == "open"
        hang_up(story)

    def test_send_digits(self, talking):
        story = talking([{"play": "silence:3600"}])
        ask(story, "calling.send_digits", digits="12w3#")

        wait_for(lambda: story.call.sent_digits, "the digits")
        hang_up(story)
        assert story.call.sent_digits.replace("w", "") == "123#"


class TestEnd:
    @pytest.mark.parametrize(
        ("reason", "told"),
        [
            (None, "hangup"),
            ("hangup", "hangup"),
            ("cancel", "cancel"),
            ("busy", "busy"),
            ("noAnswer", "noAnswer"),
            ("decline", "decline"),
            ("error", "error"),
        ],
    )
    @pytest.mark.parametrize("answered", [True, False], ids=["answered", "ringing"])
    def test_the_reason_is_what_the_world_hears(self, house, answered, reason, told):
        stage = house(config={"webhooks": {"call_state_url": "@web/hook/state"}})
        story = stage.start(STAY if answered else [{"play": {"url": "silence:3600", "auto_answer": False}}])
        wait_for(lambda: ("answered" if answered else "ringing") in story.states, "the call")

        assert ask(story, "calling.end", reason=reason)["status"] == "ending"
        story.end()

        last = story.webhooks("/hook/state")[-1].params
        assert (last["call_state"], last["end_reason"]) == ("ended", told)

    def test_a_command_that_comes_too_late(self, talking):
        story = hang_up(talking())

        for command in ("calling.end", "calling.denoise"):
            answer = ask(story, command, 422)
            assert answer["errors"][0]["code"] == "invalid_state"
