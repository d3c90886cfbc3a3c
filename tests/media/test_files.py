"""Sounds from URLs: fetched once, kept as long as HTTP allows, made playable, and never more than fits."""

import errno
import io
import json
import os
import shutil
import stat
import struct
import time
from contextlib import suppress
from ipaddress import ip_network

import gevent
import numpy as np
import pytest
import soundfile
from gevent.event import Event
from gevent.monkey import get_original
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fsctl import log as logs
from fsctl.errors import ConfigError, FetchError, LegGone
from fsctl.media import files as media_files
from fsctl.media.convert import ConversionFailed, Converter, read_wav
from fsctl.media.files import DEFAULT_FRESH, GRACE, MAX_STALE, RETRY, Files
from fsctl.media.recordings import Recordings
from fsctl.web import Client, Policy

PLENTY = 1 << 30


class Clock:
    """Unix time that goes on only when told to."""

    def __init__(self):
        self.time = time.time()

    def __call__(self):
        return self.time


class Counting(Converter):
    """The real converter, which counts; ``gate`` closed, conversions wait."""

    def __init__(self):
        super().__init__(max_bytes=PLENTY)
        self.runs = 0
        self.gate = Event()
        self.gate.set()

    def convert(self, *arguments):
        self.runs += 1
        self.gate.wait()
        super().convert(*arguments)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def converter():
    return Counting()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def recordings(tmp_path):
    return Recordings(tmp_path / "rec", "https://calls.example", min_free_bytes=0)


@pytest.fixture
def make(cache, clock, converter, recordings):
    def make(**settings):
        client = Client(Policy(allow_private=(ip_network("127.0.0.0/8"),)), user_agent="test")
        defaults = {
            "cache_directory": cache,
            "max_bytes": PLENTY,
            "max_file_bytes": 10_000_000,
            "timeout": 10.0,
            "own_urls": recordings.path_of_url,
            "converter": converter,
            "now": clock,
        }
        return Files(client, **(defaults | settings))

    return make


@pytest.fixture
def files(make):
    return make()


def names(cache):
    return sorted(path.name for path in cache.iterdir())


# -- what comes out --------------------------------------------------------------------------------------------------


def test_the_length_of_a_file_is_what_its_header_says(files, origin, sound, tmp_path):
    whole = files.local(origin.gives("/a.wav", sound(seconds=1.5)))
    short = tmp_path / "short.wav"  # or one that FreeSWITCH writes still
    short.write_bytes(whole.read_bytes()[:-100])
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no sound at all")

    assert files.length(whole) == 1.5
    for path in (short, noise, tmp_path / "gone.wav", tmp_path / "speech.mp3"):
        assert files.length(path) is None


def test_a_plain_wav_is_played_as_it_came(files, origin, sound, cache, converter):
    data = sound("WAV", "ULAW")
    path = files.local(origin.gives("/hello.wav", data) + "?x=1")

    assert path.read_bytes() == data
    assert path.parent == cache
    assert path.suffix == ".wav"
    assert converter.runs == 0


def test_freeswitch_can_read_the_files_whatever_our_umask(make, origin, sound, cache):
    before = os.umask(0o077)
    try:
        files = make()
        plain = files.local(origin.gives("/a.wav", sound()))
        decoded = files.local(origin.gives("/a.flac", sound("FLAC")), 3)
    finally:
        os.umask(before)

    assert stat.S_IMODE(cache.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in (plain, decoded)} == {0o644}


@pytest.mark.parametrize("path", ["/a b.wav", "/../../etc/x.wav", "/{opid=1}@@5!$.wav", "/ü.wav", "/a.wav'`;rm"])
@pytest.mark.parametrize("gain_db", [0, -40, 6.5])
def test_nothing_of_the_url_is_in_the_name(files, origin, sound, path, gain_db):
    origin.answers = {key: (200, {}, sound()) for key in (path, path.encode().decode("latin-1"), "/etc/x.wav")}

    name = files.local(origin.url(path.replace(" ", "%20")), gain_db).name

    assert set(name) <= set("0123456789abcdef-.gwv")
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("format_", ["MP3", "OGG", "FLAC", "AIFF", "AU"])
def test_other_formats_become_pcm(files, origin, sound, format_):
    # The server may call it what it likes: the bytes decide.
    path = files.local(origin.gives("/a", sound(format_, seconds=0.5), Content_Type="text/html"))

    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate) == ("WAV", "PCM_16", 8000)
    assert info.duration == pytest.approx(0.5, abs=0.2)


def test_a_sound_without_a_header_is_what_its_name_says(files, origin, sound):
    data = sound("RAW", "ULAW", seconds=0.5)

    path = files.local(origin.gives("/a.ulaw", data))

    assert soundfile.info(path).duration == 0.5
    assert soundfile.info(files.local(origin.gives("/b", data, Content_Type="audio/basic"))).duration == 0.5
    with pytest.raises(FetchError, match="in no format"):
        files.local(origin.gives("/c", data))


@pytest.mark.parametrize(("gain_db", "factor"), [(-6.0, 10**-0.3), (6.5, 10**0.325), (99, 100.0), (-99, 0.01)])
def test_the_gain_is_applied_within_40_db(files, origin, sound, gain_db, factor):
    samples = np.array([0, 100, -100, 12345, -32768], np.int16)

    played, _ = soundfile.read(files.local(origin.gives("/a.wav", sound(samples=samples)), gain_db), dtype="int16")

    assert played.tolist() == np.clip(np.rint(samples * factor), -32768, 32767).tolist()


def test_each_gain_is_a_file_of_one_download(files, origin, sound, converter):
    url = origin.gives("/a.wav", sound())

    paths = [files.local(url, gain_db) for gain_db in (0, 3, -3, 3.001, 0, 3)]

    assert len(set(paths)) == 3
    assert paths[1] == paths[3] == paths[5]
    assert converter.runs == 2
    assert len(origin.asked) == 1


# -- how long a copy is good -----------------------------------------------------------------------------------------


def test_a_copy_is_fresh_for_a_minute_then_the_origin_is_asked_whether_it_changed(files, origin, sound, clock):
    url = origin.gives("/a.wav", sound(), ETag='"v1"', Last_Modified="Fri, 01 Aug 2025 10:00:00 GMT")
    first = files.local(url)

    clock.time += DEFAULT_FRESH - 1
    assert files.local(url) == first
    assert len(origin.asked) == 1

    clock.time += 1
    assert files.local(url) == first
    _, headers = origin.asked[1]
    assert headers["if-none-match"] == '"v1"'
    assert headers["if-modified-since"] == "Fri, 01 Aug 2025 10:00:00 GMT"

    clock.time += DEFAULT_FRESH - 1
    assert files.local(url) == first
    assert len(origin.asked) == 2


def test_a_changed_sound_is_a_new_file_and_the_old_one_stays_for_who_plays_it(files, origin, sound, clock):
    url = origin.gives("/a.wav", sound(seconds=0.1), ETag='"v1"')
    first = files.local(url)
    origin.gives("/a.wav", sound(seconds=0.2), ETag='"v2"')
    clock.time += DEFAULT_FRESH

    second = files.local(url)

    assert second != first
    assert soundfile.info(first).duration == 0.1
    assert soundfile.info(second).duration == 0.2


def test_a_converted_sound_that_did_not_change_is_not_converted_again(files, origin, sound, clock, converter):
    url = origin.gives("/a.ogg", sound("OGG"), ETag='"v1"')
    first = files.local(url, 2)
    clock.time += DEFAULT_FRESH

    assert files.local(url, 2) == first
    assert len(origin.asked) == 2
    assert converter.runs == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({"Cache-Control": "max-age=3600"}, 3600, id="max-age"),
        pytest.param({"Cache-Control": 'public, MAX-AGE="90"'}, 90, id="among others"),
        pytest.param({"Cache-Control": "max-age=100", "Age": "60"}, 40, id="already aged"),
        pytest.param({"Cache-Control": "max-age=99999999999999"}, 7 * 86_400, id="at most a week"),
        pytest.param({"Cache-Control": "max-age=soon"}, DEFAULT_FRESH, id="unreadable"),
        pytest.param({"Cache-Control": "private, must-revalidate"}, DEFAULT_FRESH, id="no age"),
    ],
)
def test_the_origin_says_how_long(files, origin, sound, clock, headers, seconds):
    origin.answers["/a.wav"] = (200, headers, sound())
    url = origin.url("/a.wav")
    files.local(url)

    clock.time += seconds - 0.5
    files.local(url)
    assert len(origin.asked) == 1

    clock.time += 0.5
    files.local(url)
    assert len(origin.asked) == 2


@pytest.mark.parametrize("directive", ["no-cache", "max-age=0", "no-cache, max-age=100"])
def test_a_copy_that_must_always_be_asked_for_is(files, origin, sound, directive):
    url = origin.gives("/a.wav", sound(), Cache_Control=directive, ETag='"v1"')

    assert files.local(url) == files.local(url)
    assert [headers.get("if-none-match") for _, headers in origin.asked] == [None, '"v1"']


def test_what_must_not_be_stored_is_fetched_for_each_call_and_not_found_again(
    files, make, origin, sound, clock, cache, converter
):
    url = origin.gives("/a.wav", sound(), Cache_Control="no-store")

    paths = [files.local(url), files.local(url, 3)]

    assert len(origin.asked) == 2
    assert all(path.name.startswith("once-") for path in paths)
    assert not [name for name in names(cache) if name.endswith(".json")]

    clock.time += GRACE + 1
    make()
    assert names(cache) == []


def test_what_must_no_longer_be_stored_is_forgotten(files, origin, sound, clock, cache):
    url = origin.gives("/a.wav", sound(), ETag='"v1"')
    files.local(url)
    origin.gives("/a.wav", sound(), Cache_Control="no-store")
    clock.time += DEFAULT_FRESH

    assert files.local(url).name.startswith("once-")
    assert not [name for name in names(cache) if name.endswith(".json")]


def test_the_cache_outlives_the_process(make, origin, sound):
    url = origin.gives("/a.ogg", sound("OGG"))
    first = make().local(url)

    assert make().local(url) == first
    assert len(origin.asked) == 1


@pytest.mark.parametrize("harm", ["cut short", "gone", "no description", "broken description", "description of old"])
def test_what_a_crash_left_behind_is_fetched_again(files, origin, sound, cache, harm):
    url = origin.gives("/a.wav", sound(), ETag='"v1"')
    path = files.local(url)
    description = next(cache.glob("*.json"))
    match harm:
        case "cut short":
            os.truncate(path, 50)
        case "gone":
            path.unlink()
        case "no description":
            description.unlink()
        case "broken description":
            description.write_bytes(b'{"source"')
        case _:
            description.write_text('{"source": "x", "other": 1}')

    assert files.local(url).read_bytes() == sound()
    assert "if-none-match" not in origin.asked[1][1]


def test_credentials_make_a_copy_of_its_own_and_are_not_on_disk(files, origin, sound, cache):
    origin.gives("/a.wav", sound())
    mine, yours = (f"http://{user}:hunter2@127.0.0.1:{origin.port}/a.wav" for user in ("me", "you"))

    files.local(mine)
    files.local(yours)

    assert len(origin.asked) == 2
    assert origin.asked[0][1]["authorization"] != origin.asked[1][1]["authorization"]
    assert not [path for path in cache.iterdir() if b"hunter2" in path.read_bytes() or "hunter2" in path.name]


# -- at the same time ------------------------------------------------------------------------------------------------


def test_callers_at_the_same_time_share_one_download_and_one_conversion(files, origin, sound, converter):
    url = origin.gives("/a.ogg", sound("OGG"))
    origin.gate.clear()
    callers = [gevent.spawn(files.local, url, gain_db) for gain_db in [0, 0, 0, 3, 3]]
    with gevent.Timeout(10):
        while not origin.asked:
            gevent.sleep(0)
    converter.gate.clear()
    origin.gate.set()
    with gevent.Timeout(10):
        while converter.runs < 2:
            gevent.sleep(0)
    late = gevent.spawn(files.local, url)
    gevent.idle()
    converter.gate.set()

    gevent.joinall([*callers, late], timeout=20, raise_error=True)

    paths = [caller.get() for caller in [*callers, late]]
    assert len(set(paths)) == 2
    assert paths[0] == paths[1] == paths[2] == paths[5]
    assert (len(origin.asked), converter.runs) == (1, 2)


def test_a_caller_who_hangs_up_does_not_stop_the_others(files, origin, sound):
    url = origin.gives("/a.wav", sound())
    origin.gate.clear()
    first, second = (gevent.spawn(files.local, url) for _ in range(2))
    with gevent.Timeout(10):
        while not origin.asked:
            gevent.sleep(0)

    first.kill()
    origin.gate.set()

    assert second.get(timeout=10).read_bytes() == sound()
    assert len(origin.asked) == 1


def test_an_error_reaches_everyone_who_waited_and_is_not_kept(files, origin, sound):
    origin.gives("/a.wav", b"busy", status=500)
    origin.gate.clear()
    callers = [gevent.spawn(files.local, origin.url("/a.wav")) for _ in range(3)]
    with gevent.Timeout(10):
        while not origin.asked:
            gevent.sleep(0)
    origin.gate.set()
    gevent.joinall(callers, timeout=10)

    errors = [caller.exception for caller in callers]
    assert [(type(error), error.reason, error.status) for error in errors] == [(FetchError, "status", 500)] * 3
    assert len({id(error) for error in errors}) == 3

    origin.gives("/a.wav", sound())
    assert files.local(origin.url("/a.wav")).exists()


# -- what is no sound ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the answer is empty"),
        (b"<html>Log in</html>", "the answer is a web page"),
        (b'{"error": 1}', "the answer is JSON"),
    ],
)
def test_an_answer_that_is_no_sound_is_named_and_not_kept(files, origin, cache, body, said):
    url = origin.gives("/a.mp3", body, Content_Type="audio/mpeg")

    with pytest.raises(FetchError, match=said) as caught:
        files.local(url + "?token=hunter2")

    assert caught.value.reason == "content"
    assert "hunter2" not in str(caught.value)
    assert names(cache) == []


def test_the_log_says_for_which_call(files, origin, sound):
    url = origin.gives("/a.wav", sound())
    out = io.StringIO()
    logs.setup("info", "json", stream=out)

    def call():
        logs.bind(call_id="c-1")
        files.local(url)

    gevent.spawn(call).get(timeout=10)

    (line,) = [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == "audio_fetched"]
    assert line["call_id"] == "c-1"


def test_a_file_nobody_can_decode_is_tried_once_while_it_is_fresh(files, origin, sound, clock, converter):
    url = origin.gives("/a.mp3", b"\1\2\3" * 100)
    for gain_db in (0, 0, 3):
        with pytest.raises(FetchError, match="in no format that can be decoded") as caught:
            files.local(url, gain_db)
        assert caught.value.reason == "content"
    assert (converter.runs, len(origin.asked)) == (1, 1)

    origin.gives("/a.mp3", sound("MP3"))
    clock.time += DEFAULT_FRESH
    assert files.local(url).exists()


def test_a_conversion_that_failed_for_another_reason_is_tried_again(make, origin, sound):
    class Full(Converter):
        full = True

        def convert(self, *arguments):
            if self.full:
                raise ConversionFailed("too many are waiting")
            super().convert(*arguments)

    converter = Full(max_bytes=PLENTY)
    files = make(converter=converter)
    url = origin.gives("/a.ogg", sound("OGG"))
    with pytest.raises(FetchError, match="too many are waiting"):
        files.local(url)

    converter.full = False
    assert files.local(url).exists()


def test_a_file_that_is_too_large_is_refused(make, origin, sound, cache):
    with pytest.raises(FetchError) as caught:
        make(max_file_bytes=1000).local(origin.gives("/a.wav", sound()))

    assert caught.value.reason == "size"
    assert names(cache) == []


def test_a_missing_sound_is_missing(files, origin):
    with pytest.raises(FetchError) as caught:
        files.local(origin.url("/nowhere.wav"))

    assert (caught.value.reason, caught.value.status) == ("status", 404)


# -- when the origin fails -------------------------------------------------------------------------------------------


def test_a_stale_copy_is_played_when_the_origin_fails_and_the_origin_is_left_alone(files, origin, sound, clock):
    url = origin.gives("/a.ogg", sound("OGG"), Cache_Control="max-age=60, must-revalidate")
    first = files.local(url, 3)
    origin.gives("/a.ogg", b"oops", status=503)
    clock.time += DEFAULT_FRESH

    with capture_logs() as logs:
        assert files.local(url, 3) == first
        clock.time += RETRY - 1
        assert files.local(url, 3) == first
    assert len(origin.asked) == 2
    assert [(line["event"], line["log_level"], line["reason"]) for line in logs] == [
        ("audio_stale", "warning", "status")
    ]

    clock.time += 1
    origin.gives("/a.ogg", sound("OGG", seconds=0.5))
    assert files.local(url, 3) != first


def test_a_stale_copy_is_played_when_nobody_listens(files, origin, sound, clock):
    url = origin.gives("/a.wav", sound(), Connection="close")
    path = files.local(url)
    origin.stop()
    clock.time += DEFAULT_FRESH

    with capture_logs() as logs:
        assert files.local(url) == path
    assert [line["event"] for line in logs] == ["audio_stale"]
    assert logs[0]["reason"] in {"connect", "refused"}


def test_a_web_page_in_place_of_a_sound_is_a_failing_origin_too(files, origin, sound, clock):
    url = origin.gives("/a.wav", sound())
    path = files.local(url)
    origin.gives("/a.wav", b"<html>Under construction</html>")
    clock.time += DEFAULT_FRESH

    assert files.local(url) == path


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_sound_that_was_taken_away_is_not_played_any_more(files, origin, sound, clock, status):
    url = origin.gives("/a.wav", sound())
    files.local(url)
    origin.gives("/a.wav", b"no", status=status)
    clock.time += DEFAULT_FRESH

    with pytest.raises(FetchError) as caught:
        files.local(url)

    assert caught.value.status == status


def test_a_copy_gets_too_old_however_often_it_was_played(files, origin, sound, clock):
    url = origin.gives("/a.wav", sound())
    files.local(url)
    origin.gives("/a.wav", b"oops", status=500)
    clock.time += DEFAULT_FRESH
    for _ in range(4):
        clock.time += MAX_STALE / 4
        files.local(url)

    clock.time += RETRY
    with pytest.raises(FetchError):
        files.local(url)


# -- how much is kept ------------------------------------------------------------------------------------------------


def test_what_was_used_longest_ago_goes_first(make, origin, sound, clock, cache):
    data = sound(seconds=1)  # 16 kB
    files = make(max_bytes=70_000)
    urls = [
        origin.gives(f"/{number}.wav", data[:-2] + bytes([number, 0]), Cache_Control="max-age=86400")
        for number in range(4)
    ]
    for url in urls:
        files.local(url)
        clock.time += 10
    clock.time += GRACE
    files.local(urls[0])

    files.local(origin.gives("/new.wav", sound(seconds=1.1)))

    asked = len(origin.asked)
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 70_000
    files.local(urls[0])
    files.local(urls[3])
    assert len(origin.asked) == asked
    files.local(urls[1])
    assert len(origin.asked) == asked + 1


def test_a_file_that_was_just_handed_out_stays_even_if_it_is_too_much(make, origin, sound, clock):
    files = make(max_bytes=20_000)
    with capture_logs() as logs:
        paths = [files.local(origin.gives(f"/{number}.wav", sound(seconds=1 + number / 10))) for number in range(3)]

    assert all(path.exists() for path in paths)
    assert "audio_cache_over_limit" in {line["event"] for line in logs}

    clock.time += GRACE + 1
    last = files.local(origin.gives("/last.wav", sound(seconds=0.1)))
    assert last.exists()
    assert not any(path.exists() for path in paths)


def test_decoded_copies_count_too(make, origin, sound, clock, cache):
    files = make(max_bytes=100_000)
    url = origin.gives("/a.flac", sound("FLAC", seconds=1))
    for gain in range(12):
        files.local(url, gain)
        clock.time += GRACE + 1

    assert sum(path.stat().st_size for path in cache.iterdir()) <= 100_000


def test_what_a_crash_left_half_written_goes(make, cache, clock):
    make()
    for name, age in (("new-old", 7200), ("new-young", 60), ("once-old", 7200)):
        (cache / name).write_bytes(b"x")
        os.utime(cache / name, (clock.time - age, clock.time - age))

    make()

    assert names(cache) == ["new-young"]


# -- segments --------------------------------------------------------------------------------------------------------


@pytest.fixture
def segments(make):
    return make()


def test_a_segment_from_the_start_is_the_whole_under_a_name_of_its_own(files, origin, sound, cache):
    path = files.local(origin.gives("/a.wav", sound(seconds=0.5)))

    first, second = files.segment(path), files.segment(path)

    assert first.path.parent == cache
    assert len({path, first.path, second.path}) == 3
    assert {one.path.read_bytes() for one in (first, second)} == {path.read_bytes()}
    assert (first.seconds, second.seconds) == (0.5, 0.5)
    assert first.path.stat().st_mode & 0o444 == 0o444


def test_a_segment_stays_when_the_cache_forgets_its_source(files, origin, sound):
    path = files.local(origin.gives("/a.wav", sound()))
    content = path.read_bytes()
    segment = files.segment(path)

    path.unlink()

    assert segment.path.read_bytes() == content


def test_a_segment_that_was_released_is_gone(files, origin, sound, cache):
    path = files.local(origin.gives("/a.wav", sound()))
    before = names(cache)
    whole, cut = files.segment(path), files.segment(path, 0.1)
    assert len(names(cache)) == len(before) + 2

    for segment in (whole, cut, cut):
        files.release(segment)

    assert names(cache) == before


WAVS = pytest.mark.parametrize(
    ("subtype", "rate", "channels"),
    [
        pytest.param("PCM_16", 8000, 1, id="linear"),
        pytest.param("PCM_16", 44_100, 2, id="linear-stereo"),
        pytest.param("ULAW", 8000, 1, id="mu-law"),
        pytest.param("ALAW", 16_000, 2, id="a-law-stereo"),
    ],
)


@WAVS
def test_a_segment_is_cut_at_its_place(segments, tmp_path, subtype, rate, channels):
    generator = np.random.default_rng(5)
    path = tmp_path / "noise.wav"
    soundfile.write(path, generator.uniform(-0.5, 0.5, (rate // 2 + 1, channels)), rate, subtype=subtype)
    whole, _ = soundfile.read(path, dtype="int16", always_2d=True)

    segment = segments.segment(path, 0.125)

    info = soundfile.info(segment.path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", subtype, rate, channels)
    left, _ = soundfile.read(segment.path, dtype="int16", always_2d=True)
    np.testing.assert_array_equal(left, whole[round(0.125 * rate) :])
    assert segment.seconds == len(left) / rate


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    frames=st.integers(1, 700),
    channels=st.sampled_from([1, 2]),
    encoding=st.sampled_from([(1, 16), (6, 8), (7, 8)]),
    at=st.floats(0.0, 0.1),
    data=st.randoms(use_true_random=False),
)
def test_what_is_cut_and_what_was_before_are_the_whole(segments, tmp_path, frames, channels, encoding, at, data):
    form, bits = encoding
    width = channels * bits // 8
    body = data.randbytes(frames * width)
    head = struct.pack("<HHIIHH", form, channels, 8000, 8000 * width, width, bits)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + b"note" + struct.pack("<I", 3) + b"odd\0"
    chunks += b"data" + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    path = tmp_path / "whole.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks)
    before = round(at * 8000) * width

    segment = segments.segment(path, at)

    try:
        assert segment.seconds == pytest.approx(max(0, len(body) - before) / width / 8000)
        if segment.seconds:
            with segment.path.open("rb") as cut:
                wav = read_wav(cut)
                assert wav.plain
                cut.seek(wav.data_start)
                assert body[:before] + cut.read(wav.data_bytes) == body
        else:
            assert before >= len(body)
    finally:
        segments.release(segment)


def test_a_recording_that_cannot_be_linked_is_pointed_to(segments, tmp_path, monkeypatch):
    path = tmp_path / "recording.wav"
    soundfile.write(path, np.zeros(800), 8000)

    def refused(*_):
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(os, "link", refused)
    segment = segments.segment(path)

    assert segment.path.is_symlink()
    assert segment.path.read_bytes() == path.read_bytes()
    segments.release(segment)
    assert not segment.path.is_symlink()
    assert path.exists()


@pytest.mark.parametrize("content", [None, b"", b"no sound at all"], ids=["gone", "empty", "text"])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_segment_of_what_is_no_sound_is_an_error_and_leaves_nothing(segments, tmp_path, cache, content, start):
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(FetchError, match=r"x\.wav: no part of it can be played"):
        segments.segment(path, start)

    assert names(cache) == []


@pytest.mark.parametrize("start", [0.0, 0.1])
def test_a_segment_nobody_waits_for_any_more_is_not_left_behind(segments, tmp_path, cache, monkeypatch, start):
    path = tmp_path / "x.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    take, may_end = media_files._take, get_original("threading", "Event")()

    def slowly(*arguments):
        seconds = take(*arguments)
        may_end.wait(10)
        return seconds

    def ask():
        with suppress(LegGone):
            segments.segment(path, start)

    monkeypatch.setattr(media_files, "_take", slowly)
    asking = gevent.spawn(ask)
    with gevent.Timeout(5):
        while not names(cache):
            gevent.sleep(0.001)
        asking.kill(LegGone())
        may_end.set()
        while names(cache):
            gevent.sleep(0.001)


def test_segments_in_use_are_not_cleaned_up_and_those_of_the_dead_are(make, origin, sound, clock, cache):
    files = make(max_bytes=20_000)
    path = files.local(origin.gives("/a.wav", sound(seconds=0.5)))
    held = files.segment(path, 0.1)
    clock.time += GRACE + 1
    (cache / "seg-of-the-dead.wav").write_bytes(b"x")

    for number in range(3):
        files.local(origin.gives(f"/{number}.wav", sound(seconds=1 + number / 10)))

    assert held.path.exists()
    assert not path.exists()
    assert not (cache / "seg-of-the-dead.wav").exists()

    make()
    assert not held.path.exists()


# -- our own recordings ----------------------------------------------------------------------------------------------


def test_a_recording_of_ours_is_played_from_where_it_lies(files, recordings, cache):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.zeros(800), 8000)

    assert files.local(recording.url) == recording.path
    assert names(cache) == []


def test_a_recording_of_ours_can_be_louder_and_is_made_again_when_it_changed(files, recordings, cache, converter):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.full(800, 100, np.int16), 8000)

    louder = files.local(recording.url, 20)
    assert files.local(recording.url, 20) == louder
    assert converter.runs == 1
    assert soundfile.read(louder, dtype="int16")[0].tolist() == [1000] * 800

    soundfile.write(recording.path, np.full(900, 100, np.int16), 8000)
    assert len(soundfile.read(files.local(recording.url, 20))[0]) == 900


def test_an_mp3_recording_of_ours_is_decoded(files, recordings, cache):
    recording = recordings.new("mp3")
    soundfile.write(recording.path, np.zeros(8000), 8000, format="MP3")

    path = files.local(recording.url)

    assert path.parent == cache
    assert soundfile.info(path).subtype == "PCM_16"


def test_what_was_made_of_a_recording_goes_with_it(files, recordings, sound, cache):
    recording, other = recordings.new("wav"), recordings.new("wav")
    for each in (recording, other):
        each.path.write_bytes(sound())
        files.local(each.url, 6.0)

    files.forget_recording(recording.id)

    assert [path.name.startswith(f"own-{other.id}") for path in cache.glob("own-*")] == [True]


def test_a_recording_that_is_not_there_is_missing(files, recordings):
    with pytest.raises(FetchError, match="there is no recording") as caught:
        files.local(recordings.new("wav").url)

    assert caught.value.reason == "missing"


def test_a_recording_that_cannot_be_decoded_says_so(files, recordings):
    recording = recordings.new("mp4")
    recording.path.write_bytes(b"\0\0\0\x20ftypisom")

    with pytest.raises(FetchError, match="in no format") as caught:
        files.local(recording.url)

    assert caught.value.reason == "content"


# -- when the disk fails ---------------------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_used_is_a_wrong_configuration(make, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"media.cache_directory: .*file/cache cannot be used: Not a directory"):
        make(cache_directory=tmp_path / "file" / "cache")


def test_a_disk_that_fails_fails_the_sound_and_not_the_call(files, origin, sound, cache):
    url = origin.gives("/a.wav", sound())
    shutil.rmtree(cache)

    with capture_logs() as logs, pytest.raises(FetchError, match=r"cannot be kept in .*: No such file") as caught:
        files.local(url)

    assert caught.value.reason == "missing"
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["audio_cache_failed"]
