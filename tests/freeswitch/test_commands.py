"""Every command fsctl says, as the text FreeSWITCH reads."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fsctl.freeswitch import commands
from fsctl.freeswitch.commands import Api, Application, Command
from fsctl.simulator.text import separate

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
        pytest.param(commands.filter_delete("Unique-ID", U), f"filter delete Unique-ID {U}", id="filter-delete"),
        pytest.param(commands.auth("ClueCon"), "auth ClueCon", id="auth"),
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
        (commands.read_level(U, 3), f"uuid_audio {U} start read level 3"),
        (commands.write_level_stop(U), f"uuid_audio {U} stop"),
        (commands.file_formats(), "show file"),
        (commands.mix_start(U, "{fsctl=1}/c/a.wav"), f"uuid_displace {U} start {{fsctl=1}}/c/a.wav 0 m"),
        (commands.mix_start(U, "{fsctl=1}/c/a.wav", said=True), f"uuid_displace {U} start {{fsctl=1}}/c/a.wav 0 mr"),
        (commands.mix_stop(U, "{fsctl=1}/c/a.wav"), f"uuid_displace {U} stop {{fsctl=1}}/c/a.wav"),
        (commands.record_start(U, "/r/a.wav", 0, {}), f"uuid_record {U} start /r/a.wav 0"),
        (
            commands.record_start(U, "/r/a.wav", 7, {"RECORD_STEREO": "true", "X": "a b"}),
            f"uuid_record {U} start /r/a.wav 7 {{RECORD_STEREO=true,X=a%20b}}",
        ),
        (commands.record_stop(U, "/r/a.wav"), f"uuid_record {U} stop /r/a.wav"),
        (commands.record_pause(U, "/r/a.wav", silence=False), f"uuid_record {U} pause /r/a.wav"),
        (commands.record_pause(U, "/r/a.wav", silence=True), f"uuid_record {U} mask /r/a.wav"),
        (commands.record_resume(U, "/r/a.wav", silence=False), f"uuid_record {U} resume /r/a.wav"),
        (commands.record_resume(U, "/r/a.wav", silence=True), f"uuid_record {U} unmask /r/a.wav"),
        (
            commands.stream_start(U, "wss://a.example/x?y=1", "mono", 8000, '{"a":"it\'s"}'),
            f'uuid_audio_stream {U} start wss://a.example/x?y=1 mono 8000 {{"a":"it\\\'s"}}',
        ),
        (commands.stream_stop(U), f"uuid_audio_stream {U} stop"),
        (commands.variable(U, "last_dtmf_duration"), f"uuid_getvar {U} last_dtmf_duration"),
        (commands.answer(U), f"uuid_answer {U}"),
        (commands.pre_answer(U), f"uuid_pre_answer {U}"),
        (commands.attached(U), f"uuid_buglist {U}"),
        (commands.exists(U), f"uuid_exists {U}"),
        (commands.core_uuid(), "global_getvar core_uuid"),
        (commands.denoise(U, 25), f"uuid_preprocess {U} r.noise_suppress=-25"),
        (commands.denoise_stop(U), f"uuid_preprocess {U} stop"),
        (commands.send_digits(U, "09*#ADadwW"), f"uuid_send_dtmf {U} 09*#ADadwW"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_api_commands(api, text):
    assert f"api {text}" == api.line


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


class TestMixing:
    @pytest.mark.parametrize("sound", ["/c/a.wav", "tone_stream://v=-7;%(1,2,3);loops=1", "tts://flite|slt|it's me"])
    def test_the_same_sound_twice_has_two_names(self, sound):
        assert commands.mix_name(1, sound) == f"{{fsctl=1}}{sound}"
        assert commands.mix_name(1, sound) != commands.mix_name(2, sound)

    @pytest.mark.parametrize(
        "sound",
        ["a.wav", "say:hi", "{a=b}/c/a.wav", "http://a/x.wav", "tone_stream://path=/etc/passwd", "/c/a.wav\n", ""],
    )
    def test_only_sounds_of_our_own_making(self, sound):
        with pytest.raises(ValueError, match=r"own making|newline"):
            commands.mix_name(1, sound)

    @pytest.mark.parametrize("text", ["{voice=x}hi", " {voice=x}hi", "two\nlines"])
    def test_speech_that_would_be_something_else_is_refused(self, text):
        with pytest.raises(ValueError, match=r"brace|newline"):
            commands.speech_file("flite", "slt", text)

    @given(st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda text: text.strip(" {") == text != ""))
    @example(r"it's \n a back\\slash | 'and' \"so\" ${uuid} {a=b} %[x=y] \\")
    def test_all_words_arrive_and_nothing_else(self, text):
        """FreeSWITCH takes the argument apart at its blanks, and mod_ssml what it gets at its bars."""
        name = commands.mix_name(7, commands.speech_file("flite", "slt", text))

        words = separate(commands.mix_start(U, name).argument, 5)

        assert words == [U, "start", name, "0", "m"]
        assert separate(words[2].removeprefix("{fsctl=7}tts://"), 3, "|") == ["flite", "slt", text.strip(" ")]


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


def test_the_password_stays_out_of_reprs():
    assert "hunter2" not in repr(commands.auth("hunter2"))
    assert "exit" in repr(commands.exit_())


class TestOriginate:
    TARGET = ("127.0.0.1", 8084)

    def test_it_is_one_dial_string_and_the_socket(self):
        variables = {"ignore_early_media": "true", "empty": "", "origination_caller_id_number": "+15550100"}
        assert commands.originate(U, "sofia/gateway/gw/+1555", variables, self.TARGET, 30) == Api(
            "originate",
            f"{{origination_uuid={U},originate_timeout=30,ignore_early_media=true,"
            "origination_caller_id_number=+15550100}sofia/gateway/gw/+1555 '&socket(127.0.0.1:8084 async full)'",
        )

    def test_text_in_a_variable_is_escaped_for_each_pass(self):
        api = commands.originate(U, "user/1@h", {"origination_caller_id_name": "O'Neil, B"}, self.TARGET, 1)
        assert r"origination_caller_id_name=O\\\\\\\'Neil\\,\\\\sB}" in api.argument

    def test_what_it_is_given_by_name_cannot_be_given_again(self):
        """FreeSWITCH does not look at the case of a variable's name; the last one would count."""
        variables = {"Origination_UUID": "x", "originate_timeout": "3600"}
        argument = commands.originate(U, "user/1@h", variables, self.TARGET, 30).argument
        assert argument.startswith(f"{{origination_uuid={U},originate_timeout=30}}user/1@h ")

    @pytest.mark.parametrize(
        ("uuid", "endpoint", "variables", "target", "problem"),
        [
            pytest.param("a b", "user/1@h", {}, TARGET, "UUID", id="uuid"),
            pytest.param("a,b=c", "user/1@h", {}, TARGET, "UUID", id="uuid-list"),
            pytest.param(U, "user/1@h,user/2@h", {}, TARGET, "endpoint", id="two-endpoints"),
            pytest.param(U, "user/1@h|user/2@h", {}, TARGET, "endpoint", id="alternatives"),
            pytest.param(U, "[a=b]user/1@h", {}, TARGET, "endpoint", id="leg-variables"),
            pytest.param(U, "user/1@h:_:user/2@h", {}, TARGET, "endpoint", id="enterprise"),
            pytest.param(U, "user/1@h &park()", {}, TARGET, "endpoint", id="application"),
            pytest.param(U, "user/1@h\n", {}, TARGET, "endpoint", id="newline"),
            pytest.param(U, "", {}, TARGET, "endpoint", id="no-endpoint"),
            pytest.param(U, "user/1@h", {}, ("127.0.0.1 async", 1), "connect", id="target-with-a-blank"),
            pytest.param(U, "user/1@h", {}, ("::1", 8084), "connect", id="target-with-colons"),
            pytest.param(U, "user/1@h", {}, ("a)", 8084), "connect", id="target-with-a-bracket"),
            pytest.param(U, "user/1@h", {}, ("h", 0), "connect", id="no-port"),
            pytest.param(U, "user/1@h", {"a,b": "c"}, TARGET, "channel variable", id="name"),
            pytest.param(U, "user/1@h", {"a": "${b}"}, TARGET, "a: FreeSWITCH", id="expansion"),
        ],
    )
    def test_what_cannot_be_said(self, uuid, endpoint, variables, target, problem):
        with pytest.raises(ValueError, match=problem):
            commands.originate(uuid, endpoint, variables, target, 30)

    @pytest.mark.parametrize("endpoint", ["error/USER_BUSY", "loopback/100/default", "sofia/p/a@h:5080;transport=tls"])
    def test_other_endpoints(self, endpoint):
        assert f"}}{endpoint} '&socket(" in commands.originate(U, endpoint, {}, self.TARGET, 30).argument

    def test_a_password_for_one_leg(self):
        api = commands.originate(U, "user/1@h", commands.credentials("bob", "hunter2"), self.TARGET, 30)
        assert "sip_auth_username=bob,sip_auth_password=hunter2}" in api.argument
        assert "hunter2" not in repr(api)

    @pytest.mark.parametrize(("user", "password"), [("a:b", "hunter2"), ("a", "hunter:2"), ("a" * 65, "b" * 64)])
    def test_credentials_that_sofia_would_cut_off(self, user, password):
        with pytest.raises(ValueError, match="no colon") as refused:
            commands.credentials(user, password)
        assert password not in str(refused.value)


class TestEndpoints:
    @pytest.mark.parametrize(
        ("endpoint", "text"),
        [
            ("sofia/gateway/carrier_1.eu/+15550100", "sofia/gateway/carrier_1.eu/+15550100"),  # of an operator's route
            (commands.sip("internal", "alice.b-c_d", "pbx.example"), "sofia/internal/alice.b-c_d@pbx.example"),
            (commands.sip("p", "a", "10.0.0.1", port=5080), "sofia/p/a@10.0.0.1:5080"),
            (commands.sip("p", "a", "h", transport="tls"), "sofia/p/a@h;transport=tls"),
            (commands.sip("p", "a", "h", port=5061, transport="tcp"), "sofia/p/a@h:5061;transport=tcp"),
            (commands.registered("1000", "pbx.example"), "user/1000@pbx.example"),
        ],
    )
    def test_they_are_what_freeswitch_calls_them(self, endpoint, text):
        assert endpoint == text
        assert text in commands.originate(U, endpoint, {}, ("h", 1), 1).argument

    HOSTILE = (*",|[]{}<>'\"\\ $&()=;:^%@/~!?\n\r\0\t", "", ":_:", "1,user/2", "${x}", "1 &park()", "é", "1\n2")

    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_part_brings_dial_string_syntax(self, text):
        for build in (
            lambda: commands.registered(f"1{text}" if text else "", "h"),
            lambda: commands.sip(text, "1", "h"),
            lambda: commands.sip("p", text, "h"),
            lambda: commands.sip("p", "1", text),
            lambda: commands.sip("p", "1", f"h{text}2" if text else ""),
            lambda: commands.registered(text, "h"),
            lambda: commands.registered("1", text),
        ):
            with pytest.raises(ValueError, match="that can be called"):
                build()

    @pytest.mark.parametrize(
        ("port", "transport"), [(0, ""), (65536, ""), (None, "sctp"), (None, "tls;x=y"), (None, "TLS")]
    )
    def test_ports_and_transports(self, port, transport):
        with pytest.raises(ValueError, match="not "):
            commands.sip("p", "1", "h", port=port, transport=transport)

    @given(st.text(), st.text())
    def test_whatever_they_are_given_nothing_else_reaches_the_wire(self, first, second):
        for build in (commands.registered, lambda a, b: commands.sip("p", a, b)):
            try:
                endpoint = build(first, second)
            except ValueError:
                continue
            assert re.fullmatch(r"[A-Za-z0-9_.+*#@/-]+", endpoint)
