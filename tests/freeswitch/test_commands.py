"""Every command fsctl says, as the text FreeSWITCH reads."""

import pytest

from fsctl.freeswitch import commands
from fsctl.freeswitch.commands import Api, Application, Command

U = "0b8b6d9e-3f0a-4a51-9d5e-1f2a3b4c5d6e"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        pytest.param(commands.connect(), "connect", id="connect"),
        pytest.param(commands.linger(10), "linger 10", id="linger"),
        pytest.param(commands.resume(), "resume", id="resume"),
        pytest.param(commands.exit_(), "exit", id="exit"),
        pytest.param(commands.filter_("Unique-ID", U), f"filter Unique-ID {U}", id="filter"),
        pytest.param(
            commands.subscribe(["DTMF"], ["a::b", "a::c"]), "events json DTMF CUSTOM a::b a::c", id="subscribe"
        ),
        pytest.param(commands.subscribe(["DTMF"]), "events json DTMF", id="subscribe-plain"),
    ],
)
def test_connection_commands(command, line):
    assert Command(line) == command


@pytest.mark.parametrize(
    ("api", "text"),
    [
        (commands.hang_up(U, "USER_BUSY"), f"uuid_kill {U} USER_BUSY"),
        (commands.set_variable(U, "a", "it's \\ ${x}"), f"uuid_setvar {U} a it\\'s \\\\ ${{x}}"),
        (commands.set_variable(U, "a", ""), f"uuid_setvar {U} a"),
        (commands.set_variables(U, {"a": "1", "b": "2"}), f"uuid_setvar_multi {U} a=1;b=2"),
        (commands.break_playback(U), f"uuid_break {U}"),
        (commands.write_level(U, -2), f"uuid_audio {U} start write level -2"),
        (commands.write_level_stop(U), f"uuid_audio {U} stop"),
        (commands.record_start(U, "/r/a.wav", 0, {}), f"uuid_record {U} start /r/a.wav 0"),
        (
            commands.record_start(U, "/r/a.wav", 7, {"RECORD_STEREO": "true", "X": "a b"}),
            f"uuid_record {U} start /r/a.wav 7 {{RECORD_STEREO=true,X=a%20b}}",
        ),
        (commands.record_stop(U, "/r/a.wav"), f"uuid_record {U} stop /r/a.wav"),
        (
            commands.stream_start(U, "wss://a.example/x?y=1", "mono", 8000, '{"a":"it\'s"}'),
            f'uuid_audio_stream {U} start wss://a.example/x?y=1 mono 8000 {{"a":"it\\\'s"}}',
        ),
        (commands.stream_stop(U), f"uuid_audio_stream {U} stop"),
        (commands.variable(U, "last_dtmf_duration"), f"uuid_getvar {U} last_dtmf_duration"),
        (commands.attached(U), f"uuid_buglist {U}"),
        (commands.denoise(U, 25), f"uuid_preprocess {U} r.noise_suppress=-25"),
        (commands.denoise_stop(U), f"uuid_preprocess {U} stop"),
        (commands.send_digits(U, "09*#ADadwW"), f"uuid_send_dtmf {U} 09*#ADadwW"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_api_commands(api, text):
    assert Command(f"api {text}") == api.command


def test_a_background_job_has_our_id():
    assert Command("bgapi status", (("Job-UUID", "j-1"),)) == Api("status").background("j-1")


def test_arguments_stay_out_of_reprs():
    """A token in an argument must not reach a log by way of a repr."""
    assert "secret" not in repr(commands.set_variable(U, "STREAM_EXTRA_HEADERS", "Bearer secret"))


@pytest.mark.parametrize(
    "path", ["relative.wav", "http://x/y", "{a=b}/x.wav", "say:hello", "tone_stream://path=/etc/passwd"]
)
def test_playback_takes_only_sounds_of_our_own_making(path):
    with pytest.raises(ValueError, match="own making"):
        commands.playback(path)


def test_playback_of_a_file():
    assert Application("playback", "/var/cache/fsctl/a.wav") == commands.playback("/var/cache/fsctl/a.wav")


@pytest.mark.parametrize("text", ["{a=b}hello", "  {a=b}hello"])
def test_speech_that_would_be_parameters_is_refused(text):
    with pytest.raises(ValueError, match="brace"):
        commands.speak("flite", "slt", text)


def test_speech_keeps_bars():
    assert Application("speak", "flite|slt|a|b") == commands.speak("flite", "slt", "a|b")


@pytest.mark.parametrize("path", ["/r/a b.wav", "/r/a,b.wav", "/r/{x}.wav", "/r/it's.wav", "r/a.wav"])
def test_recordings_have_paths_that_nothing_splits(path):
    with pytest.raises(ValueError, match=r"variable list|absolute"):
        commands.record_start(U, path, 0, {})


@pytest.mark.parametrize(
    ("url", "metadata"),
    [
        pytest.param("wss://h/" + "x" * 4096, "", id="long-url"),
        pytest.param("wss://h/x", "x" * 8192, id="long-metadata"),
        pytest.param("wss://h/a b", "", id="blank"),
        pytest.param("wss://h/'", "", id="quote"),
        pytest.param("wss://h/\\r\\n", "", id="escape-that-becomes-a-line-break"),
        pytest.param("wss://h/é", "", id="not-ascii"),
        pytest.param("wss://h/x", "a\nb", id="line-break-in-metadata"),
    ],
)
def test_streams_refuse_what_the_module_cannot_take(url, metadata):
    with pytest.raises(ValueError, match=r"."):
        commands.stream_start(U, url, "mono", 8000, metadata)


def test_an_event_carries_its_body():
    command = commands.send_event("fsctl::user_event", {"Call-ID": U}, '{"a":1}')

    assert command.line == "sendevent CUSTOM"
    assert ("Event-Subclass", "fsctl::user_event") in command.headers
    assert command.body == '{"a":1}'


@pytest.mark.parametrize("digits", ["", "1" * 100, "1 2", "12x", "1@9", "1+2", "~1", "1\n"])
def test_digits_to_send_are_all_good(digits):
    with pytest.raises(ValueError, match="not digits"):
        commands.send_digits(U, digits)


def test_a_recogniser_gets_its_settings_and_its_grammar():
    assert Application("detect_speech", "vosk {a=1,b=de-DE}default fsctl") == commands.detect_speech(
        "vosk", "default", {"a": "1", "b": "de-DE"}
    )
    assert Application("detect_speech", "stop") == commands.detect_speech_stop()


@pytest.mark.parametrize(
    ("engine", "grammar", "language"), [("a b", "g", "x"), ("a", "g h", "x"), ("a", "g", "x,y=z"), ("a", "g", "x}y")]
)
def test_a_recognisers_settings_cannot_hold_others(engine, grammar, language):
    with pytest.raises(ValueError, match="not fit"):
        commands.detect_speech(engine, grammar, {"speech-language": language})
