"""What REST plays into a live call beside its document, as the phone hears it."""

import numpy as np
import pytest

from fsctl.call.events import ControlChanged
from fsctl.methods import COMMANDS
from tests.live.media import read, wav
from tests.live.phone import loud_seconds, seconds_of, strength, tone, until

pytestmark = pytest.mark.live

SOUND, OTHER, STEPS = 1000, 2600, (600, 900, 1300)
WORDS = "It's \\n ${hangup_cause} {a=b} | 'quoted'"


class Playing:
    """A call and what REST asks of it."""

    def __init__(self, house, customer, phone):
        self.house = house
        self.customer = customer
        self.phone = phone.wait_answer()
        self.call = until(lambda: house.server.calls.get(house.call_id), 5.0, "the call")
        until(lambda: self.call.state == "answered", 5.0, "fsctl to hear of the answer")

    def ask(self, command, control_id="p1", **params):
        found = COMMANDS.get(command)
        record, _ = found.read({"control_id": control_id, **params}, strict=True)
        return found.run(self.call, record)

    def play(self, *items, **params):
        status_url = f"{self.customer.url}/played"
        return self.ask("calling.play", play=list(items), status_url=status_url, **params)

    def audio(self, path):
        return {"type": "audio", "url": self.customer.url + path}

    def states(self, control_id="p1"):
        return [event.state for event in self.house.of(ControlChanged, kind="play", control_id=control_id)]

    def reaches(self, state, control_id="p1", seconds=15.0):
        until(lambda: self.states(control_id)[-1:] == [state], seconds, f"{control_id} to be {state}")

    def hears(self, hertz, seconds):
        until(lambda: seconds_of(self.phone.heard(), hertz) >= seconds, seconds + 10.0, f"{seconds} s of {hertz} Hz")

    def catches_up(self):
        """What was sent until now has come."""
        come = len(self.phone.packets)
        until(lambda: len(self.phone.packets) > come + 10, 5.0, "packets")


@pytest.fixture
def playing(house, customer, new_phone):
    customer.files["/sound.wav"] = wav(tone(SOUND, 1.0))
    times = np.arange(2 * 44_100) / 44_100
    music = np.round(8000 * np.sin(2 * np.pi * OTHER * times)).astype(np.int16)
    customer.files["/other.wav"] = wav(np.stack([music, music], axis=1), 44_100)
    customer.files["/steps.wav"] = wav(np.concatenate([tone(hertz, 1.0) for hertz in STEPS]))

    def calling(*document):
        house.document({"answer": {}}, *(document or [{"sleep": 60_000}]))
        return Playing(house, customer, new_phone(call=True))

    return calling


def test_several_at_once_and_beside_the_document(playing, customer):
    playing = playing({"play": "ring:4:de"}, {"sleep": 60_000})
    playing.hears(425, 0.5)

    playing.play(playing.audio("/other.wav"))
    playing.play(playing.audio("/sound.wav"), {"type": "silence", "duration": 0.5}, loop=2, control_id="p2")
    playing.reaches("finished")
    playing.reaches("finished", "p2")
    playing.catches_up()

    heard = playing.phone.heard()
    assert seconds_of(heard, OTHER) == pytest.approx(2.0, abs=0.1)
    assert seconds_of(heard, SOUND) == pytest.approx(2.0, abs=0.1)
    assert seconds_of(heard, 425) == pytest.approx(1.0, abs=0.1)
    until(lambda: len(customer.said("calling.call.play")) == 4, 5.0, "the webhooks")
    for control_id in ("p1", "p2"):
        told = [params["state"] for params in customer.said("calling.call.play") if params["control_id"] == control_id]
        assert told == ["playing", "finished"]


def test_a_paused_file_goes_on_where_it_was(playing):
    playing = playing()
    playing.play(playing.audio("/steps.wav"))
    playing.hears(STEPS[1], 0.4)

    playing.ask("calling.play.pause")
    playing.reaches("paused")
    playing.catches_up()
    paused = len(playing.phone.packets)
    until(lambda: len(playing.phone.packets) > paused + 50, 5.0, "a second of silence")
    assert not loud_seconds(playing.phone.heard(playing.phone.packets[paused][0]))
    playing.ask("calling.play.resume")
    playing.reaches("finished")
    playing.catches_up()

    heard = playing.phone.heard()
    assert [seconds_of(heard, hertz) for hertz in STEPS] == pytest.approx([1.0, 1.0, 1.0], abs=0.1)
    assert playing.states() == ["playing", "paused", "playing", "finished"]


def test_a_new_volume_from_where_it_was(playing):
    playing = playing()
    playing.play(playing.audio("/steps.wav"), volume=-6)
    playing.hears(STEPS[0], 0.5)

    playing.ask("calling.play.volume", volume=-12)
    playing.reaches("finished")
    playing.catches_up()

    heard = playing.phone.heard()
    assert [seconds_of(heard, hertz, least=1000) for hertz in STEPS] == pytest.approx([1.0, 1.0, 1.0], abs=0.15)
    begins = next(at for at in range(0, len(heard), 160) if strength(heard[at : at + 160], STEPS[0]) > 1000)
    first = strength(heard[begins + 800 : begins + 2400], STEPS[0])
    ends = max(at for at in range(0, len(heard), 160) if strength(heard[at : at + 160], STEPS[2]) > 500)
    last = strength(heard[ends - 2400 : ends - 800], STEPS[2])
    assert first == pytest.approx(8000 * 10 ** (-6 / 20), rel=0.05)
    assert last == pytest.approx(8000 * 10 ** (-12 / 20), rel=0.05)
    assert playing.states() == ["playing", "finished"]


def test_a_ringtone_until_it_is_stopped(playing):
    playing = playing()
    playing.play({"type": "ringtone", "name": "uk"})
    playing.hears(400, 1.0)

    playing.ask("calling.play.stop")
    playing.reaches("finished")
    playing.catches_up()

    silent_from = playing.phone.packets[-5][0]
    playing.catches_up()
    assert not loud_seconds(playing.phone.heard(silent_from))
    assert playing.states() == ["playing", "finished"]


def test_into_what_the_party_says(playing):
    playing = playing({"record_call": {"direction": "speak", "beep": False}}, {"sleep": 60_000})
    playing.play(playing.audio("/other.wav"), direction="speak")
    playing.play(playing.audio("/sound.wav"), direction="both", control_id="p2")
    playing.reaches("finished")
    playing.reaches("finished", "p2")
    playing.catches_up()

    playing.phone.hang_up()
    assert playing.house.ended
    url = playing.house.variables["record_call_url"]

    heard = playing.phone.heard()
    assert seconds_of(heard, OTHER) == 0
    assert seconds_of(heard, SOUND) == pytest.approx(1.0, abs=0.1)
    (said,), rate = read(playing.house.recording(url))
    assert seconds_of(said, OTHER, rate) == pytest.approx(2.0, abs=0.15)
    assert seconds_of(said, SOUND, rate) == pytest.approx(1.0, abs=0.15)


def test_speech_is_heard_beside_the_document_or_after_what_it_plays(playing, switch):
    mixes = "\nfile,tts," in switch.api("show file")
    playing = playing({"play": "ring:2:ru"}, {"sleep": 60_000})
    playing.hears(425, 0.3)

    playing.play({"type": "tts", "text": WORDS})
    playing.reaches("playing")
    playing.catches_up()
    rung = seconds_of(playing.phone.heard(), 425)
    playing.reaches("finished", seconds=30.0)
    playing.catches_up()

    assert (rung < 0.79) is mixes
    assert loud_seconds(playing.phone.heard()) > 2.0
    assert playing.states() == ["playing", "finished"]


def test_speech_begins_again_after_a_pause(playing):
    playing = playing()
    playing.play({"type": "tts", "text": "one two three four five six seven eight nine ten"})
    until(lambda: loud_seconds(playing.phone.heard()) > 0.5, 10.0, "the first words")
    playing.ask("calling.play.pause")
    playing.reaches("paused")
    playing.catches_up()
    before = loud_seconds(playing.phone.heard())

    playing.ask("calling.play.resume")
    playing.reaches("finished", seconds=30.0)
    playing.catches_up()

    whole = loud_seconds(playing.phone.heard()) - before
    assert whole > 1.5 > before > 0.4
    assert playing.states() == ["playing", "paused", "playing", "finished"]


def test_speech_is_softer_or_louder_while_it_lasts(playing):
    playing = playing()
    playing.catches_up()
    loudness = []
    for number, volume in enumerate((-14, 0, 7)):
        since = playing.phone.packets[-1][0]
        playing.play({"type": "tts", "text": "one two three"}, volume=volume, control_id=f"p{number}")
        playing.reaches("finished", f"p{number}")
        playing.catches_up()
        heard = playing.phone.heard(since).astype(np.float64)
        loudness.append(10 * np.log10((heard**2).sum()))

    assert np.diff(loudness) == pytest.approx([14.0, 7.2], abs=3.0)


def test_the_party_hangs_up_in_the_middle_of_everything(playing):
    playing = playing({"play": "ring:20:us"})
    playing.play(playing.audio("/steps.wav"), loop=0)
    playing.play({"type": "ringtone", "name": "us"}, control_id="p2")
    playing.play({"type": "tts", "text": "never mind"}, control_id="p3")
    playing.reaches("playing")
    playing.reaches("playing", "p2")
    playing.ask("calling.play.pause", "p2")
    playing.reaches("paused", "p2")

    playing.phone.hang_up()

    assert playing.house.ended.end_reason == "hangup"
    assert [playing.states(control_id)[-1] for control_id in ("p1", "p2", "p3")] == ["finished"] * 3
    until(lambda: not list((playing.house.directory / "cache").glob("seg-*")), 5.0, "the segments to go")
