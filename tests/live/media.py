"""Sound files of the customer's, and what is in the ones FreeSWITCH wrote."""

import io

import numpy as np
import soundfile


def wav(samples, rate=8000):
    """Samples as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def read(path):
    """A recording as (channels, rate); each channel is an array of samples."""
    samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    return np.ascontiguousarray(samples.T), rate
