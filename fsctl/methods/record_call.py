"""record_call, stop_record_call: record in the background. Reference: swml-calling 3.6, 3.7, webhooks 3.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.methods import record as recording_method
from fsctl.methods.record import FORMATS, TERMINATORS, Capture
from fsctl.swml.method import method
from fsctl.swml.parameters import Boolean, Number, Text, Url, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call

__all__ = ["record_call", "stop_record_call"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordCall:
    """As ``record``, but for the defaults: both directions, no terminators, no timeouts."""

    control_id: str | None = parameter(Text(min_length=1, max_length=255), default=None)
    stereo: bool = parameter(Boolean(), default=False)
    format: str = parameter(Text(choices=FORMATS), default="wav")
    direction: str = parameter(Text(choices=("speak", "listen", "both")), default="both")
    terminators: str = parameter(Text(pattern=TERMINATORS), default="")
    beep: bool = parameter(Boolean(), default=False)
    input_sensitivity: float = parameter(Number(low=0, high=100), default=44.0)
    initial_timeout: float = parameter(Number(low=0), default=0.0)
    end_silence_timeout: float = parameter(Number(low=0), default=0.0)
    max_length: float | None = parameter(Number(low=0), default=None)
    status_url: str | None = parameter(Url(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRecordCall:
    """Without ``control_id``, the recording that was started last."""

    control_id: str | None = parameter(Text(min_length=1), default=None)


@method("record_call", RecordCall, result="record_call_result")
def record_call(call: Call, params: RecordCall) -> None:
    """Start recording; the script goes on. The URL is known from the start."""
    call.vars.update(record_call_url="", record_call_result="failed")
    call.answer()
    if params.beep:
        recording_method.beep(call)
    control, recording = recording_method.begin(call, Capture.of("record_call", params))
    call.vars.update(record_call_url=recording.url, record_call_result="success", record_control_id=control.id)


@method("stop_record_call", StopRecordCall, result="stop_record_call_result")
def stop_record_call(call: Call, params: StopRecordCall) -> None:
    """Stop a recording; when this returns, its file is complete."""
    call.stop("record", params.control_id, latest="record_control_id", method="stop_record_call")
    call.vars["stop_record_call_result"] = "success"
