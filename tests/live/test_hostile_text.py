"""Text that would be commands, did it reach FreeSWITCH as such."""

import json
from uuid import uuid4

import pytest

from tests.live.phone import loud_seconds, until
from tests.live.streams import Endpoint

pytestmark = pytest.mark.live

SHAPES = [
    "${{system touch {file}}}",
    "$\\{{system touch {file}}}",
    "\\${{system touch {file}}}",
    "\\\\${{system touch {file}}}",
    "$${{system touch {file}}}",
    "${{${{a}}system touch {file}}}",
    "${{expr(1+1)}}${{system(touch {file})}}",
    "'${{system touch {file}}}'",
    "x\n\nsendmsg\ncall-command: execute\nexecute-app-name: system\nexecute-app-arg: touch {file}\n\n",
    "x\r\n\r\napi system touch {file}\r\n\r\n",
    "a|b|c,{{d=e}}[f=g]<h>\"i\"'j'\\k;`touch {file}`$(touch {file})",
    "{{api_hangup_hook=system touch {file}}}hello",
    "%{{x}}&&system touch {file}",
]


@pytest.fixture
def marker(directory, switch):
    """A file that FreeSWITCH could make, and that nobody makes."""
    path = directory / f"executed-{uuid4()}"
    assert switch.api("expr 1+1") == "2"
    yield path
    assert not path.exists(), "text of a document was executed"


@pytest.mark.parametrize("shape", SHAPES)
def test_hostile_text_is_said_and_not_executed(house, new_phone, marker, shape):
    text = shape.format(file=marker)
    # As a value, so that fsctl's own placeholders leave it alone: what `request` brings is such text.
    house.customer.files["/text"] = json.dumps({"text": text}).encode()
    house.document(
        {"request": {"url": f"{house.customer.url}/text", "method": "GET", "save_variables": True}},
        {"answer": {}},
        {"play": "say:%{request_response.text}"},
    )
    phone = new_phone(call=True).wait_answer()
    until(lambda: loud_seconds(phone.heard()) > 0.1, 5.0, "speech")
    phone.hang_up()
    assert house.ended.end_reason == "hangup"
    assert house.variables["request_response"] == {"text": text}
    assert house.controls("play") == ["playing", "finished"]
    assert house.warnings == []


def test_hostile_parameters_reach_a_stream_and_events_as_they_are(house, new_phone, marker):
    endpoint = Endpoint()
    values = {f"p{number}": shape.format(file=marker) for number, shape in enumerate(SHAPES)}
    house.customer.files["/texts"] = json.dumps(values).encode()
    taken = {name: f"%{{request_response.{name}}}" for name in values}
    house.document(
        {"request": {"url": f"{house.customer.url}/texts", "method": "GET", "save_variables": True}},
        {"answer": {}},
        {"stream": {"url": endpoint.url, "name": taken["p0"], "custom_parameters": taken}},
        {"user_event": {"event": taken}},
        {"sleep": 300},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    try:
        assert house.warnings == []
        assert json.loads(endpoint.texts[0])["start"]["customParameters"] == values
        until(lambda: house.customer.said("calling.user_event"), 5.0, "the event")
        told = house.customer.said("calling.user_event")[0]
        assert {name: told[name] for name in values} == values
    finally:
        endpoint.close()


def test_hostile_codecs_ids_and_reasons_are_refused_or_plain_text(house, new_phone, marker):
    text = SHAPES[0].format(file=marker)
    house.customer.files["/texts"] = json.dumps({"text": text}).encode()
    house.document(
        {"request": {"url": f"{house.customer.url}/texts", "method": "GET", "save_variables": True}},
        {"answer": {"codecs": "%{request_response.text}"}},
        {"set": {"answered_with": "%{answer_result}"}},
        {"answer": {}},
        {"record_call": {"control_id": "%{request_response.text}"}},
        {"sleep": 300},
        {"stop_record_call": {}},
        {"stream": {"url": "ws://127.0.0.1:9/%{request_response.text}"}},
        {"play": "http://127.0.0.1:9/%{request_response.text}"},
        {"set": {"reached": "yes"}},
    )
    phone = new_phone(call=True).wait_answer()
    phone.wait_hung_up()
    assert house.variables["record_call_result"] == "success"
    assert house.variables["stream_result"] == "failed"
    assert house.variables["reached"] == "yes"
