"""The unmodified Twilio-framing serializer of pipecat-ai reads what we send, and we read what it writes.

It brings far more than a test needs, so it is not among the dependencies: ``pip install pipecat-ai`` to run this.
"""

import asyncio
import audioop
import json

import pytest

from fsctl.streams import messages
from fsctl.streams.audio import Encoder, Format, decoder
from tests.streams.peers import tone

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def serializer():
    twilio = pytest.importorskip("pipecat.serializers.twilio", reason="pipecat-ai is not installed")
    params = twilio.TwilioFrameSerializer.InputParams(auto_hang_up=False)
    return twilio.TwilioFrameSerializer(stream_sid="stream-1", params=params)


def run(serializer, *texts):
    """Set the serializer up as a pipeline does, and let it read messages."""
    from pipecat.frames.frames import StartFrame

    async def work():
        await serializer.setup(StartFrame(audio_in_sample_rate=8000, audio_out_sample_rate=8000))
        return [await serializer.deserialize(text.decode()) for text in texts]

    return asyncio.run(work())


def test_it_reads_our_audio(serializer):
    linear = tone(440, 160)
    (payload,) = Encoder(Format("PCMU", 8000, 20), 8000)(linear)
    (frame,) = run(serializer, messages.MEDIA["inbound"] % (2, 1, 0, payload))
    assert type(frame).__name__ == "InputAudioRawFrame"
    assert (frame.sample_rate, frame.num_channels) == (8000, 1)
    assert frame.audio == audioop.ulaw2lin(audioop.lin2ulaw(linear, 2), 2)


def test_it_reads_our_digits_and_passes_over_the_rest(serializer):
    form = Format("PCMU", 8000, 20)
    found = run(
        serializer,
        messages.CONNECTED,
        messages.start("stream-1", "a", "c", ("inbound",), form, {"k": "v"}),
        messages.dtmf(2, "5", 100, "stream-1"),
        messages.mark("m", "stream-1"),
        messages.stop(3),
    )
    assert [type(frame).__name__ for frame in found] == [
        "NoneType",
        "NoneType",
        "InputDTMFFrame",
        "NoneType",
        "NoneType",
    ]
    assert found[2].button.value == "5"


def test_we_read_what_it_says(serializer):
    from pipecat.frames.frames import AudioRawFrame, OutputAudioRawFrame, StartFrame

    try:
        from pipecat.frames.frames import InterruptionFrame
    except ImportError:
        from pipecat.frames.frames import StartInterruptionFrame as InterruptionFrame

    linear = tone(440, 160)

    async def work():
        await serializer.setup(StartFrame(audio_in_sample_rate=8000, audio_out_sample_rate=8000))
        audio = await serializer.serialize(OutputAudioRawFrame(audio=linear, sample_rate=8000, num_channels=1))
        return audio, await serializer.serialize(InterruptionFrame())

    assert issubclass(OutputAudioRawFrame, AudioRawFrame)
    audio, clear = asyncio.run(work())
    said = messages.read(audio.encode())
    assert decoder(Format("PCMU", 8000, 20))(said.audio) == audioop.ulaw2lin(audioop.lin2ulaw(linear, 2), 2)
    assert messages.read(clear.encode()) == messages.Clear()
    assert json.loads(audio)["streamSid"] == "stream-1"
