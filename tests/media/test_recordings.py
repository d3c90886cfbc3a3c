"""Where recordings lie, what customers call them, which links open them, and how they go again."""

import errno
import hashlib
import hmac
import os
import stat
from urllib.parse import parse_qs, quote, urlsplit

import gevent
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from fsctl.config import ConfigProblems, load
from fsctl.errors import CommandFailed, ConfigError
from fsctl.media import recordings as module
from fsctl.media.recordings import FORMATS, Facts, Kept, Links, Recordings, Retention, link_key
from tests.stories.stage import wait_for

ID = "3f2a1c5e-0b7d-4c1e-9a55-2d2b6f0e8a11"
OTHER = "3f2a1c5e-0b7d-4c1e-9a55-2d2b6f0e8a12"
NAME = f"{ID}.wav"
KEY = b"a key for tests only"
NOW = 1_767_323_000.75
DAY = 86_400


@pytest.fixture
def recordings(tmp_path):
    return Recordings(tmp_path / "rec", "https://calls.example/base/", min_free_bytes=0)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_new_recording_has_its_url_before_it_has_a_file(recordings, format_):
    recording = recordings.new(format_)

    assert recording.url == f"https://calls.example/base/recordings/{recording.id}.{format_}"
    assert recording.path == recordings.directory / f"{recording.id}.{format_}"
    assert not recording.path.exists()
    assert recordings.path_of_url(recording.url) == recording.path


def test_no_two_recordings_share_a_name(recordings):
    assert len({recordings.new("wav").path for _ in range(100)}) == 100


def test_the_directory_is_made_for_freeswitch_to_write_and_nobody_else_to_read(recordings):
    recordings.new("wav")

    assert stat.S_IMODE(recordings.directory.stat().st_mode) == 0o2770


def test_a_directory_that_exists_keeps_its_mode(recordings):
    recordings.directory.mkdir(mode=0o700)

    recordings.new("wav")

    assert stat.S_IMODE(recordings.directory.stat().st_mode) == 0o700


def test_an_unknown_format_is_a_mistake_of_the_caller(recordings):
    with pytest.raises(ValueError, match="wav, mp3, mp4"):
        recordings.new("ogg")


def test_no_recording_starts_on_a_full_disk(tmp_path):
    recordings = Recordings(tmp_path, "http://h", min_free_bytes=1 << 60)

    with pytest.raises(CommandFailed, match=r"MB are free in .*min_free_bytes asks for 1099511627776 MB"):
        recordings.new("wav")


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(CommandFailed, match=r"recordings.directory .*file/rec cannot be used: Not a directory"):
        Recordings(tmp_path / "file" / "rec", "http://h").new("wav")


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://calls.example/base/recordings/{ID}.wav", id="as given out"),
        pytest.param(f"https://bob:secret@calls.example/base/recordings/{ID}.wav", id="with credentials"),
        pytest.param(f"HTTPS://CALLS.example:443/base/recordings/{ID}.wav?x=1#y", id="spelt otherwise"),
    ],
)
def test_our_own_urls_are_files(recordings, url):
    assert recordings.path_of_url(url) == recordings.directory / f"{ID}.wav"


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://other.example/base/recordings/{ID}.wav", id="another host"),
        pytest.param(f"http://calls.example/base/recordings/{ID}.wav", id="another scheme"),
        pytest.param(f"https://calls.example:444/base/recordings/{ID}.wav", id="another port"),
        pytest.param(f"https://calls.example/recordings/{ID}.wav", id="another path"),
        pytest.param(f"https://calls.example/base/recordings/x/{ID}.wav", id="deeper"),
        pytest.param(f"https://calls.example/base/recordings/{ID}", id="no format"),
        pytest.param(f"https://calls.example/base/recordings/{ID}.exe", id="another format"),
        pytest.param(f"https://calls.example/base/recordings/{ID.upper()}.wav", id="upper case"),
        pytest.param(f"https://calls.example/base/recordings/{ID}.wav\n", id="newline"),
        pytest.param("https://calls.example/base/recordings/../../etc/passwd", id="upwards"),
        pytest.param(f"https://calls.example/base/recordings/..%2f{ID}.wav", id="upwards, encoded"),
        pytest.param("https://calls.example/base/recordings/", id="no name"),
        pytest.param(f"https://calls.example@evil.example/base/recordings/{ID}.wav", id="our name as a user"),
        pytest.param("https://[calls.example/", id="broken"),
        pytest.param("https://calls.example:port/base/recordings/x", id="broken port"),
        pytest.param("", id="empty"),
    ],
)
def test_other_urls_are_not_ours(recordings, url):
    path = recordings.path_of_url(url)

    # urlsplit drops a newline at the end of a URL, as browsers do
    assert path is None or (url.endswith("\n") and path.name == f"{ID}.wav")


@given(st.text(max_size=60))
def test_no_url_leads_out_of_the_directory(tmp_path_factory, name):
    recordings = Recordings(tmp_path_factory.getbasetemp() / "rec", "https://h")
    path = recordings.path_of_url(f"https://h/recordings/{name}")

    assert path is None or path.parent == recordings.directory


@pytest.mark.parametrize(("channels", "rate"), [(1, 8000), (2, 16_000)])
def test_the_facts_of_a_wav(recordings, channels, rate):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.zeros((rate * 3 // 2, channels)), rate)

    assert recordings.facts(recording.path) == Facts(44 + rate * 3 * channels, 1.5)


def test_the_facts_of_a_wav_that_was_not_closed(recordings):
    recording = recordings.new("wav")
    soundfile.write(recording.path, np.zeros(8000), 8000)
    data = bytearray(recording.path.read_bytes())
    data[40:44] = bytes(4)
    recording.path.write_bytes(data)

    assert recordings.facts(recording.path).duration == 1.0


def test_the_facts_of_an_mp3(recordings):
    recording = recordings.new("mp3")
    soundfile.write(recording.path, np.zeros(8000 * 3), 8000, format="MP3")

    size, duration = recordings.facts(recording.path)

    assert size == recording.path.stat().st_size
    assert duration == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_is_no_sound_has_a_size_and_no_duration(recordings, format_):
    recording = recordings.new(format_)
    recording.path.write_bytes(b"garbage")

    assert recordings.facts(recording.path) == Facts(7, None)


def test_a_recording_that_was_never_written_has_no_bytes(recordings):
    assert recordings.facts(recordings.directory / f"{ID}.wav") == Facts(0, None)


def test_an_empty_recording_has_no_duration(recordings):
    recording = recordings.new("wav")
    recording.path.write_bytes(b"")

    assert recordings.facts(recording.path) == Facts(0, None)


def test_audio_that_is_only_looked_at_has_a_file_and_no_url(tmp_path):
    recordings = Recordings(tmp_path / "rec", "https://x.example", min_free_bytes=0)
    path, other = recordings.passing(), recordings.passing()
    assert path.parent == other.parent == tmp_path / "rec"
    assert path.parent.is_dir()
    assert path != other
    assert path.suffix == ".r8"
    assert recordings.path_of_url(f"https://x.example/recordings/{path.name}") is None


def test_audio_is_not_looked_at_on_a_full_disk(tmp_path):
    with pytest.raises(CommandFailed, match="free"):
        Recordings(tmp_path, "https://x.example", min_free_bytes=1 << 62).passing()


# -- links that expire ------------------------------------------------------------------------------------------------


def links(seconds=60, key=KEY, at=NOW):
    """Links whose clock stands, or says what ``at`` does."""
    return Links(key, seconds, now=at if callable(at) else lambda: at)


def query_of(link):
    return link.partition("?")[2]


def test_a_link_is_the_name_its_expiry_and_a_signature_of_both():
    head = f"{NAME}?expires=1767323060"
    code = hmac.new(KEY, head.encode(), hashlib.sha256).hexdigest()

    assert links().sign(NAME) == f"{head}&signature={code}"


@pytest.mark.parametrize(
    ("later", "verdict"),
    [
        pytest.param(0, "good", id="at once"),
        pytest.param(59, "good", id="in its last second"),
        pytest.param(60, "expired", id="when it is over"),
        pytest.param(10**9, "expired", id="long after"),
        pytest.param(-(10**6), "good", id="by a clock that was put back"),
    ],
)
def test_a_link_is_good_for_so_many_seconds(later, verdict):
    query = query_of(links().sign(NAME))

    assert links(at=NOW + later).judge(NAME, query) == verdict


GOOD = query_of(links().sign(NAME))
CODE = GOOD.rpartition("=")[2]


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("", id="none"),
        pytest.param("expires=1767323060", id="no signature"),
        pytest.param(f"signature={CODE}", id="no expiry"),
        pytest.param(f"expires=1767323061&signature={CODE}", id="another expiry"),
        pytest.param(f"expires=01767323060&signature={CODE}", id="the same expiry, written otherwise"),
        pytest.param(f"expires=+1767323060&signature={CODE}", id="a sign"),
        pytest.param(f"expires=1767323060.0&signature={CODE}", id="a fraction"),
        pytest.param(f"expires=%D9%A1767323060&signature={CODE}", id="a digit of another script"),
        pytest.param(f"expires={'9' * 400}&signature={CODE}", id="no time"),
        pytest.param(f"expires=&signature={CODE}", id="an empty expiry"),
        pytest.param(f"expires=0&signature={CODE}", id="expiry 0"),
        pytest.param("expires=1767323060&signature=", id="an empty signature"),
        pytest.param(f"expires=1767323060&signature={CODE[:-1]}", id="a short signature"),
        pytest.param(f"expires=1767323060&signature={CODE}0", id="a long signature"),
        pytest.param(f"expires=1767323060&signature={CODE.upper()}", id="a signature in capitals"),
        pytest.param(f"expires=1767323060&signature={CODE}%0a", id="a newline"),
        pytest.param(f"{GOOD}&expires=1767323060", id="two expiries"),
        pytest.param(f"{GOOD}&signature={CODE}", id="two signatures"),
        pytest.param(f"expires=9999999999&{GOOD}", id="another expiry before it"),
        pytest.param(GOOD.replace("signature", "Signature"), id="another parameter"),
        pytest.param("&".join([GOOD, *["x=1"] * 100]), id="too many parameters"),
        pytest.param("%ff%fe&\x00", id="garbage"),
    ],
)
def test_no_other_query_opens_a_recording(query):
    assert links().judge(NAME, query) == "wrong"


def test_what_others_add_to_a_link_does_no_harm():
    assert links().judge(NAME, f"utm_source=mail&{GOOD}&x=") == "good"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        pytest.param(f"{OTHER}.wav", KEY, id="another recording"),
        pytest.param(f"{ID}.mp3", KEY, id="another format"),
        pytest.param(NAME, b"another key, also for tests", id="another key"),
    ],
)
def test_a_link_opens_one_recording_of_one_fsctl(name, key):
    assert links(key=key).judge(name, GOOD) == "wrong"


def test_an_expiry_that_nobody_signed_is_wrong_and_not_expired():
    assert links().judge(NAME, f"expires=1&signature={CODE}") == "wrong"


@given(
    name=st.uuids().map(str) | st.text(max_size=30),
    at=st.floats(1, 9e9),
    seconds=st.integers(1, 10**8),
    later=st.floats(0, 1e9),
)
def test_what_was_signed_is_good_until_it_expires_and_never_wrong(name, at, seconds, later):
    query = query_of(links(seconds, at=at).sign(name.replace("?", "")))
    verdict = links(seconds, at=at + later).judge(name.replace("?", ""), query)

    assert verdict == ("good" if at + later < int(at) + seconds else "expired")


@given(
    st.text(max_size=200)
    | st.builds(
        "expires={}&signature={}".format,
        st.integers() | st.text(max_size=12),
        st.from_regex(r"[0-9a-f]{60,66}", fullmatch=True) | st.text(max_size=70).map(quote),
    )
)
def test_nobody_guesses_a_link(query):
    assert links().judge(NAME, query) == "wrong" or query == GOOD


@given(at=st.integers(0, len(GOOD) - 1), put=st.characters() | st.sampled_from("0123456789abcdef&=%+"))
def test_no_character_of_a_link_can_be_changed(at, put):
    changed = GOOD[:at] + put + GOOD[at + 1 :]

    assert links().judge(NAME, changed) == ("good" if changed == GOOD else "wrong")


def test_the_key_of_links_is_their_own_where_there_is_one():
    assert link_key("a key of their own", "PSK") == b"a key of their own"


def test_a_key_made_of_the_projects_signs_nothing_else():
    made = link_key("", "PSK")

    assert made == link_key("", "PSK")
    assert made != link_key("", "PSK2")
    assert b"PSK" not in made
    assert len(made) == 32


def test_links_without_a_key_are_a_mistake_of_the_configuration():
    with pytest.raises(ConfigError, match=r"recordings\.link_seconds: .* set recordings\.link_key"):
        link_key("", "")


@pytest.fixture
def configured(tmp_path):
    """Reads a configuration file of this text, with ``@here`` as the directory of a key file that holds KEY."""
    (tmp_path / "key").write_bytes(KEY + b"\n")
    (tmp_path / "short").write_text("short")

    def read(text, **environ):
        path = tmp_path / "fsctl.yaml"
        path.write_text(text.replace("@here", str(tmp_path)))
        return load(path, environ)

    return read


@pytest.mark.parametrize(
    ("text", "key"),
    [
        pytest.param("recordings: {link_seconds: 60, link_key: a key in the file}", "a key in the file", id="key"),
        pytest.param("recordings: {link_seconds: 60, link_key_file: @here/key}", KEY.decode(), id="key file"),
        pytest.param("recordings: {link_seconds: 60}\nproject: {signing_key: PSK}", "", id="the project's"),
        pytest.param(
            "recordings: {link_seconds: 60}\nproject: {signing_key_file: @here/key}", "", id="the project's file"
        ),
        pytest.param("recordings: {link_seconds: 0}", "", id="no links that expire"),
        pytest.param("", "", id="nothing said"),
    ],
)
def test_the_settings_of_links(configured, text, key):
    assert configured(text).recordings.link_key == key
    assert KEY.decode() not in repr(configured(text))


@pytest.mark.parametrize(
    ("keys", "line", "problem"),
    [
        pytest.param("link_seconds: 60", 2, "link_seconds: .* need a key: set recordings.link_key", id="no key"),
        pytest.param("link_seconds: 60\n  link_key: ''", 2, "link_seconds: .* need a key", id="an empty key"),
        pytest.param("link_key: short\n  link_seconds: 60", 2, "link_key: is not usable; .* 16", id="short"),
        pytest.param("link_seconds: 60\n  link_key_file: @here/short", 3, "link_key: .* 16", id="short file"),
        pytest.param("link_seconds: 60\n  link_key_file: @here/none", 3, "link_key_file: cannot read", id="no file"),
        pytest.param("link_seconds: -1", 2, "link_seconds: -1 is too small", id="seconds"),
        pytest.param("retention_days: 0.5", 2, "retention_days: 0.5 is not a whole number", id="days"),
    ],
)
def test_settings_that_give_no_links_are_said_once_with_their_line(configured, keys, line, problem):
    with pytest.raises(ConfigProblems, match=rf"fsctl\.yaml:{line}: recordings\.{problem}") as caught:
        configured(f"recordings:\n  {keys}")
    (only,) = caught.value.problems
    assert "short" not in only.problem


def test_a_recordings_url_expires_so_long_after_it_was_asked_for(tmp_path):
    now = [NOW]
    recordings = Recordings(tmp_path, "https://x.example", min_free_bytes=0, links=links(at=lambda: now[0]))
    recording = recordings.new("mp3")

    first = recording.url
    now[0] += 3600
    second = recording.url

    for url, expires in ((first, int(NOW) + 60), (second, int(NOW) + 3660)):
        parts = urlsplit(url)
        assert parts.path == f"/recordings/{recording.id}.mp3"
        assert parse_qs(parts.query)["expires"] == [str(expires)]
    assert recordings.links.judge(recording.path.name, urlsplit(second).query) == "good"
    assert recordings.links.judge(recording.path.name, urlsplit(first).query) == "expired"


@pytest.mark.parametrize("query", ["", GOOD, "expires=1&signature=0", f"{GOOD}&x"])
def test_a_call_plays_our_own_url_however_old_its_link_is(tmp_path, query):
    recordings = Recordings(tmp_path, "https://x.example", min_free_bytes=0, links=links(at=NOW + DAY))

    assert recordings.path_of_url(f"https://x.example/recordings/{NAME}?{query}") == tmp_path / NAME


# -- afterwards -------------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path):
    """Recordings in a directory that is there, with something outside of it."""
    inside = tmp_path / "rec"
    inside.mkdir()
    (tmp_path / NAME).write_bytes(b"outside")
    return Recordings(inside, "https://x.example", min_free_bytes=0)


def written(recordings, name=NAME, age=0.0, data=b"sound"):
    """A file of that name, last written to so many seconds before now."""
    path = recordings.directory / name
    path.write_bytes(data)
    os.utime(path, (NOW - age, NOW - age))
    return path


@pytest.mark.parametrize("format_", FORMATS)
def test_a_recording_is_found_by_its_id(kept, format_):
    path = written(kept, f"{ID}.{format_}")

    assert kept.kept(ID) == Kept(ID, path, 5, None, NOW)


def test_the_duration_of_a_recording_that_is_kept_is_known(kept):
    soundfile.write(kept.directory / NAME, np.zeros(12_000), 8000)

    assert kept.kept(ID).duration == 1.5


def test_deleting_takes_the_one_recording(kept):
    path, other = written(kept), written(kept, f"{OTHER}.wav")

    assert kept.delete(ID)
    assert not path.exists()
    assert other.exists()
    assert kept.kept(ID) is None
    assert not kept.delete(ID)


@pytest.mark.parametrize(
    "id_",
    [
        ID.upper(),
        NAME,
        f"../{ID}",
        f"rec/../{ID}",
        f"{ID}\n",
        f"{ID}\0",
        "",
        ".",
        "..",
        "*",
        ID[:-1],
        "notes",
        "\udcff",
    ],
)
def test_what_is_no_id_of_ours_is_neither_found_nor_deleted(kept, id_):
    written(kept)
    (kept.directory / "notes.wav").write_bytes(b"not ours")

    assert kept.kept(id_) is None
    assert not kept.delete(id_)
    assert (kept.directory / "notes.wav").exists()
    assert (kept.directory / NAME).exists()
    assert (kept.directory.parent / NAME).exists()


def test_a_link_or_a_directory_is_no_recording(kept):
    (kept.directory / NAME).symlink_to(kept.directory.parent / NAME)
    (kept.directory / f"{OTHER}.wav").mkdir()

    for id_ in (ID, OTHER):
        assert kept.kept(id_) is None
        assert not kept.delete(id_)
    assert (kept.directory / NAME).is_symlink()
    assert (kept.directory.parent / NAME).read_bytes() == b"outside"


def test_there_is_no_recording_before_there_is_a_directory(tmp_path):
    recordings = Recordings(tmp_path / "none", "https://x.example")

    assert recordings.kept(ID) is None
    assert not recordings.delete(ID)


def test_a_recording_that_cannot_be_deleted_is_an_error(kept, monkeypatch):
    path = written(kept)
    monkeypatch.setattr(type(path), "unlink", refused)

    with pytest.raises(PermissionError):
        kept.delete(ID)


def refused(*_arguments, **_options):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


# -- retention --------------------------------------------------------------------------------------------------------


def retention(recordings, days=2, spared=(), on_deleted=lambda _number: None):
    return Retention(
        recordings.directory, days, being_written=lambda: frozenset(spared), on_deleted=on_deleted, now=lambda: NOW
    )


def names(recordings):
    return {path.name for path in recordings.directory.iterdir()}


def test_what_is_older_than_so_many_days_goes(kept):
    for number, age in enumerate((0, DAY, 2 * DAY, 2 * DAY + 1, 900 * DAY, -DAY)):
        written(kept, f"3f2a1c5e-0b7d-4c1e-9a55-{number:012}.{FORMATS[number % 3]}", age)
    counted = []

    with capture_logs() as lines:
        retention(kept, on_deleted=counted.append).sweep()

    assert {name[35] for name in names(kept)} == {"0", "1", "2", "5"}
    assert counted == [2]
    (line,) = lines
    assert line == {
        "event": "recordings_deleted",
        "log_level": "info",
        "by": "retention",
        "recordings": 2,
        "bytes": 10,
        "days": 2,
    }


def test_a_recording_that_goes_on_stays_however_long_it_has_been_paused(kept):
    written(kept, age=9 * DAY)
    written(kept, f"{OTHER}.mp3", age=9 * DAY)

    retention(kept, spared={ID}).sweep()

    assert names(kept) == {NAME}


def test_only_recordings_are_deleted(kept):
    outside = kept.directory.parent / NAME
    os.utime(outside, (0, 0))
    (kept.directory / NAME).symlink_to(outside)
    os.utime(kept.directory / NAME, (0, 0), follow_symlinks=False)
    (kept.directory / f"{OTHER}.wav").mkdir()
    os.utime(kept.directory / f"{OTHER}.wav", (0, 0))
    for name in ("notes.txt", "music.wav", f"{ID.upper()}.wav", f"{ID}.wav.bak", f"x{ID}.mp3", f"{ID}.r8"):
        written(kept, name, age=900 * DAY)
    before = names(kept)

    with capture_logs() as lines:
        retention(kept).sweep()

    assert names(kept) == before
    assert outside.exists()
    assert lines == []


def test_many_recordings_go_in_bites(kept, monkeypatch):
    monkeypatch.setattr(module, "BITE", 3)
    for number in range(10):
        written(kept, f"3f2a1c5e-0b7d-4c1e-9a55-{number:012}.wav", 3 * DAY)
    counted = []

    with capture_logs() as lines:
        retention(kept, on_deleted=counted.append).sweep()

    assert names(kept) == set()
    assert counted == [3, 3, 3, 1]
    assert [line["recordings"] for line in lines] == [10]


def test_calls_go_on_while_the_disk_is_slow(kept, monkeypatch):
    written(kept, age=3 * DAY)
    listening, ready = os.pipe()
    delete, began = module._delete, []

    def slow(*arguments):
        began.append(True)
        os.read(listening, 1)  # until another greenlet has had its turn: on the event loop, for ever
        return delete(*arguments)

    monkeypatch.setattr(module, "_delete", slow)
    sweep = gevent.spawn(retention(kept).sweep)
    wait_for(lambda: began, "the disk to be slow")
    os.write(ready, b"x")
    sweep.get(timeout=10)

    assert names(kept) == set()
    os.close(listening)
    os.close(ready)


def test_trouble_with_the_disk_is_said_once_until_it_is_over(kept, monkeypatch):
    path = written(kept, age=3 * DAY)
    written(kept, f"{OTHER}.wav", age=3 * DAY)
    unlink, counted = type(path).unlink, []
    keeper = retention(kept, on_deleted=counted.append)

    monkeypatch.setattr(type(path), "unlink", lambda one: refused() if one.name == NAME else unlink(one))
    with capture_logs() as lines:
        keeper.sweep()
        keeper.sweep()
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("info", "recordings_deleted"),
        ("error", "recordings_not_deleted"),
    ]
    assert lines[1]["directory"] == str(kept.directory)
    assert lines[1]["problem"] == "Permission denied"
    assert "recordings.retention_days" in lines[1]["hint"]
    assert names(kept) == {NAME}
    assert counted == [1]

    monkeypatch.undo()
    with capture_logs() as lines:
        keeper.sweep()
        keeper.sweep()
    assert [line["event"] for line in lines] == ["recordings_deleted", "recordings_deleted_again"]
    assert names(kept) == set()


def test_a_directory_that_cannot_be_read_is_trouble(kept, monkeypatch):
    keeper = retention(kept)
    monkeypatch.setattr(os, "listdir", refused)

    with capture_logs() as lines:
        keeper.sweep()
        keeper.sweep()

    assert [line["event"] for line in lines] == ["recordings_not_deleted"]


def test_a_directory_that_is_not_there_yet_is_none(tmp_path):
    with capture_logs() as lines:
        retention(Recordings(tmp_path / "none", "https://x.example")).sweep()

    assert lines == []


def test_a_recording_that_somebody_else_deletes_meanwhile_is_not_counted(kept):
    written(kept, age=3 * DAY)
    counted = []

    def being_written():
        kept.delete(ID)
        return ()

    keeper = Retention(kept.directory, 2, being_written=being_written, on_deleted=counted.append, now=lambda: NOW)
    with capture_logs() as lines:
        keeper.sweep()

    assert (counted, lines) == ([], [])


def test_retention_works_in_the_background_until_it_is_stopped(kept, monkeypatch):
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.001)
    keeper = retention(kept)
    written(kept, age=3 * DAY)
    keeper.start()
    wait_for(lambda: not names(kept), "the first recording to go")
    written(kept, age=3 * DAY)
    wait_for(lambda: not names(kept), "the next one to go")

    keeper.stop()

    assert keeper._worker.dead
