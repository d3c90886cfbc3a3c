"""answer: answer the call. Reference: swml-calling 3.1.

``username`` and ``password`` have no meaning the reference explains and no counterpart in FreeSWITCH: they are accepted
and a warning says that they do nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsctl.errors import CommandFailed
from fsctl.freeswitch import commands
from fsctl.swml.method import method
from fsctl.swml.parameters import Integer, Text, parameter

if TYPE_CHECKING:
    from fsctl.call.call import Call

__all__ = ["answer"]

# The codecs of the reference as FreeSWITCH names them.
CODECS = {
    "PCMU": "PCMU",
    "PCMA": "PCMA",
    "G722": "G722",
    "G729": "G729",
    "AMR-WB": "AMR-WB",
    "OPUS": "OPUS",
    "VP8": "VP8",
    "H264": "H264",
}
PHONE_CODECS = frozenset({"PCMU", "PCMA", "G722", "G729", "AMR-WB"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``max_duration`` in seconds; ``codecs`` as a comma list."""

    max_duration: int | None = parameter(Integer(low=1), default=None)
    codecs: str = parameter(Text(), default="")
    username: str = parameter(Text(), default="")
    password: str = parameter(Text(), default="")


@method("answer", Answer, result="answer_result")
def answer(call: Call, params: Answer) -> None:
    """Answer the call; on an answered one only the longest duration is set anew."""
    if params.username or params.password:
        call.warn("relay_script_method_parameter_invalid_value", "answer: username and password do nothing here")
    if not call.leg.answered:
        codecs = chosen_codecs(params.codecs, call.info.type)
        if codecs:
            call.leg.ask(commands.set_variable(call.leg.uuid, "absolute_codec_string", ",".join(codecs)))
        call.answer()
    if params.max_duration is not None:
        call.limit(min(params.max_duration, call.services.max_duration))
    call.vars["answer_result"] = "success"


def chosen_codecs(text: str, call_type: str) -> list[str]:
    """The codecs of a comma list, in FreeSWITCH's names. CommandFailed for one that does not exist or fit the call."""
    wanted = [name for name in (part.strip().upper() for part in text.split(",")) if name]
    for name in wanted:
        if name not in CODECS:
            raise CommandFailed("answer", f"unknown codec {name[:20]!r}; known: {', '.join(CODECS)}")
        if call_type == "phone" and name not in PHONE_CODECS:
            raise CommandFailed(
                "answer", f"{name} is not for phone calls; those take {', '.join(sorted(PHONE_CODECS))}"
            )
    return [CODECS[name] for name in wanted]
