"""Who a simulated call is: the channel's headers, its caller profile and the variables of a SIP call, in or out.

Header names and their order are FreeSWITCH's; the values are made up from the caller, the called number and the
call's UUID. Both wire forms are prepared here once per change and reused by every event of the channel.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from fsctl.simulator.events import json_headers, plain_headers, quoted
from fsctl.simulator.text import encode_url

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Address", "ChannelData", "Variables", "sip_variables"]

Value = str | list[str]
Pairs = Iterable[tuple[str, str]]


class Variables:
    """A channel's variables in the order they were last set, with their wire forms."""

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._fragments: dict[str, str] = {}
        self._json: str | None = None

    def set(self, name: str, value: Value | None) -> None:
        """Set ``name``; it moves to the end. None or an empty value removes it."""
        self._fragments.pop(name, None)
        self._values.pop(name, None)
        self._json = None
        if value:
            self._values[name] = value

    def push(self, name: str, value: str) -> None:
        """Append to an array variable, where it stands."""
        held = self._values.get(name)
        values = [*(held if isinstance(held, list) else [held] if held else []), value]
        self._fragments.pop(name, None)
        self._json = None
        self._values[name] = values

    def get(self, name: str) -> str | None:
        """The value of ``name``, an array as ``ARRAY::a|:b``."""
        value = self._values.get(name)
        return "ARRAY::" + "|:".join(value) if isinstance(value, list) else value

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, self.get(name) or "") for name in self._values)

    def __len__(self) -> int:
        return len(self._values)

    def json(self) -> str:
        """Every variable as ``,"variable_name":"value"``."""
        if self._json is None:
            fragments = self._fragments
            for name, value in self._values.items():
                if name not in fragments:
                    text = quoted(value) if isinstance(value, str) else "[" + ",".join(map(quoted, value)) + "]"
                    fragments[name] = f",{quoted('variable_' + name)}:{text}"
            self._json = "".join([fragments[name] for name in self._values])
        return self._json

    def plain(self) -> str:
        """Every variable as a header line."""
        return "".join(f"variable_{name}: {encode_url(value) or '_undef_'}\n" for name, value in self)


_TIMES = (
    "Profile-Created-Time",
    "Channel-Created-Time",
    "Channel-Answered-Time",
    "Channel-Progress-Time",
    "Channel-Progress-Media-Time",
    "Channel-Hangup-Time",
    "Channel-Transfer-Time",
    "Channel-Resurrect-Time",
    "Channel-Bridged-Time",
    "Channel-Last-Hold",
    "Channel-Hold-Accum",
)


class ChannelData:
    """What every event of a channel tells about it.

    ``state`` and ``caller`` hold headers by name; :meth:`touch` after changing a caller's. ``other`` is the partner's
    profile while there is one. Times are microseconds as text.
    """

    def __init__(self, uuid: str, *, caller: str, destination: str, context: str, host: str, created: float) -> None:
        self.uuid = uuid
        self.name = f"sofia/internal/{caller}@{host}"
        self.variables = Variables()
        micro = str(round(created * 1e6))
        self.state: dict[str, str] = {
            "Channel-State": "CS_INIT",
            "Channel-Call-State": "RINGING",
            "Channel-State-Number": "4",
            "Channel-Name": self.name,
            "Unique-ID": uuid,
            "Call-Direction": "inbound",
            "Presence-Call-Direction": "inbound",
            "Channel-HIT-Dialplan": "true",
            "Channel-Call-UUID": uuid,
            "Answer-State": "ringing",
            "Hangup-Cause": "",
            "Channel-Read-Codec-Name": "PCMU",
            "Channel-Read-Codec-Rate": "8000",
            "Channel-Read-Codec-Bit-Rate": "64000",
            "Channel-Write-Codec-Name": "PCMU",
            "Channel-Write-Codec-Rate": "8000",
            "Channel-Write-Codec-Bit-Rate": "64000",
        }
        self.caller: dict[str, str] = {
            "Direction": "inbound",
            "Logical-Direction": "inbound",
            "Username": caller,
            "Dialplan": "XML",
            "Caller-ID-Name": caller,
            "Caller-ID-Number": caller,
            "Orig-Caller-ID-Name": caller,
            "Orig-Caller-ID-Number": caller,
            "Callee-ID-Name": "",
            "Callee-ID-Number": "",
            "Network-Addr": host,
            "ANI": caller,
            "Destination-Number": destination,
            "Unique-ID": uuid,
            "Source": "mod_sofia",
            "Transfer-Source": "",
            "Context": context,
            "RDNIS": "",
            "Channel-Name": self.name,
            "Profile-Index": "1",
            **dict.fromkeys(_TIMES, "0"),
            "Profile-Created-Time": micro,
            "Channel-Created-Time": micro,
            "Screen-Bit": "true",
            "Privacy-Hide-Name": "false",
            "Privacy-Hide-Number": "false",
        }
        self.other: dict[str, str] = {}
        self._json_state = self._json_people = ""
        self._plain = ""

    def touch(self) -> None:
        """Forget the prepared forms: something in ``caller`` or ``other`` changed."""
        self._json_people = self._plain = ""

    def change(self, **state: str) -> None:
        """Set state headers, written ``Answer_State="answered"``."""
        for name, value in state.items():
            self.state[name.replace("_", "-")] = value
        self._json_state = self._plain = ""

    def at(self, what: str, when: float) -> None:
        """Set the profile's time ``what`` (``Channel-Answered-Time``) to ``when``."""
        self.caller[what] = str(round(when * 1e6))
        self.touch()

    def header(self, name: str, *, variables: bool) -> str | None:
        """One header's value by its name in any case, or None."""
        wanted = name.lower()
        if wanted == "unique-id":
            return self.uuid
        if variables and wanted.startswith("variable_"):
            return self.variables.get(name[len("variable_") :])
        return next((value for own, value in self.headers() if own.lower() == wanted), None)

    def headers(self, *, with_profile: bool = False) -> list[tuple[str, str]]:
        """The channel's headers in order; the caller's profile a second time in front for ``connect``."""
        leading = self._profile("Channel-") if with_profile else []
        return [*leading, *self._of_state(), *self._profile("Caller-"), *self.other.items()]

    def _of_state(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.state.items() if value]

    def _profile(self, prefix: str) -> list[tuple[str, str]]:
        return [(prefix + name, value) for name, value in self.caller.items() if value]

    def json(self) -> str:
        """:meth:`headers` in the JSON form."""
        self._json_state = self._json_state or json_headers(self._of_state())
        self._json_people = self._json_people or json_headers([*self._profile("Caller-"), *self.other.items()])
        return self._json_state + self._json_people

    def plain(self) -> str:
        """:meth:`headers` in the plain form."""
        self._plain = self._plain or plain_headers(self.headers())
        return self._plain


_CODECS = {
    f"Channel-{way}-Codec-{what}": value
    for way in ("Read", "Write")
    for what, value in (("Name", "PCMU"), ("Rate", "8000"), ("Bit-Rate", "64000"))
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint of a dial string leads. ``profile`` is ``gateway`` for one, whose name is ``gateway`` then."""

    number: str
    uri: str
    channel_name: str
    profile: str = "internal"
    gateway: str = ""
    user: str = ""

    @classmethod
    def of(cls, endpoint: str, host: str) -> Address:
        """Read ``sofia/PROFILE/USER@HOST``, ``sofia/gateway/NAME/NUMBER``, ``user/ID@DOMAIN``, ``loopback/NUMBER``."""
        kind, _, rest = endpoint.partition("/")
        pieces = rest.split("/")
        if kind == "sofia" and pieces[0] == "gateway" and len(pieces) > 2:
            return cls(pieces[2], f"{pieces[2]}@{host}", f"sofia/external/{pieces[2]}", "gateway", pieces[1])
        if kind == "sofia" and len(pieces) > 1:
            uri = pieces[-1].partition(";")[0]
            return cls(uri.partition("@")[0], uri, f"sofia/{pieces[0]}/{uri}", pieces[0])
        number = re.split(r"[@;]", pieces[0])[0]
        if kind == "user":
            return cls(number, pieces[0], f"sofia/internal/{pieces[0]}", user=pieces[0])
        return cls(number, f"{number}@{host}", f"{kind}/{number}-a")


def outgoing(uuid: str, address: Address, *, name: str, number: str, host: str, created: float) -> ChannelData:
    """The data of a leg that is to be dialled, its caller being ``name`` and ``number``."""
    data = ChannelData(uuid, caller=number, destination=address.number, context="default", host=host, created=created)
    data.name = address.channel_name
    directions = dict.fromkeys(("Call_Direction", "Presence_Call_Direction"), "outbound")
    data.change(
        Channel_State="CS_NONE",
        Channel_Call_State="DOWN",
        Channel_State_Number="1",
        Channel_Name=data.name,
        Channel_HIT_Dialplan="false",
        **directions,
        **{header.replace("-", "_"): "" for header in _CODECS},
    )
    data.caller.update(
        {
            "Direction": "outbound",
            "Logical-Direction": "outbound",
            "Username": "",
            "Dialplan": "",
            "Caller-ID-Name": name,
            "Orig-Caller-ID-Name": name,
            "Callee-ID-Name": "Outbound Call",
            "Callee-ID-Number": address.number,
            "Network-Addr": "",
            "Source": "src/switch_ivr_originate.c",
            "Channel-Name": data.name,
        }
    )
    data.touch()
    return data


def dialled_variables(
    data: ChannelData, address: Address, *, host: str, session: int, given: Mapping[str, str], early: bool
) -> Iterator[tuple[str, str]]:
    """The variables of a leg that is being dialled; ``given`` are those of the dial string."""
    port = _port(data.uuid, "local")
    yield from (("direction", "outbound"), ("is_outbound", "true"), ("uuid", data.uuid), ("call_uuid", data.uuid))
    yield from (("session_id", str(session)), ("sip_gateway_name", address.gateway))
    yield from (("sip_local_network_addr", host), ("sip_profile_name", address.profile))
    yield from (("video_media_flow", "disabled"), ("text_media_flow", "disabled"), ("channel_name", data.name))
    yield ("sip_destination_url", f"sip:{address.uri}")
    yield from given.items()
    if address.user:
        dialed, _, domain = address.user.partition("@")
        yield from (("dialed_user", dialed), ("dialed_domain", domain), ("presence_id", address.user))
    yield from (("originate_early_media", "true" if early else "false"), ("originate_endpoint", "sofia"))
    yield from (("rtp_use_codec_string", "PCMU,PCMA"), ("local_media_ip", host), ("local_media_port", str(port)))
    yield from (("advertised_media_ip", host), ("audio_media_flow", "sendrecv"))
    lines = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    yield ("rtp_local_sdp_str", _offer(host, port, payloads="0 8 101", lines=lines))
    yield from (("sip_outgoing_contact_uri", f"<sip:mod_sofia@{host}:5060>"), ("sip_req_uri", address.uri))
    yield from (("sip_to_host", address.uri.partition("@")[2]), ("sip_from_host", host))
    profile = "external" if address.gateway else address.profile
    yield from (("sofia_profile_name", profile), ("recovery_profile_name", profile))
    yield ("sofia_profile_url", f"sip:mod_sofia@{host}:5060")


def responded_variables(data: ChannelData, address: Address, *, host: str) -> Iterator[tuple[str, str]]:
    """The variables that the party's first word adds, a 180, a 183 or a 200."""
    uuid, number = data.uuid, data.caller["Orig-Caller-ID-Number"]
    user, uri = quote(number, safe="+"), f"{quote(number, safe='+')}@{host}"
    yield from (("sip_reply_host", host), ("sip_reply_port", "5060"), ("sip_network_ip", host))
    yield from (("sip_network_port", "5060"), ("sip_user_agent", "simulated phone 1.0"))
    yield ("sip_full_via", f"SIP/2.0/UDP {host}:5060;rport=5060;branch=z9hG4bK{_token(uuid, 'invite', 13)}")
    yield ("sip_full_from", f"<sip:{uri}>;tag={_token(uuid, 'from', 13)}")
    yield ("sip_full_to", f"<sip:{address.uri}>;tag={_token(uuid, 'to', 13)}")
    yield from (("sip_from_user", user), ("sip_from_uri", uri), ("sip_from_host", host))
    to_host = address.uri.partition("@")[2].partition(":")[0]
    yield from (("sip_to_user", address.number), ("sip_to_uri", address.uri), ("sip_to_host", to_host))
    yield from (("sip_contact_user", address.number), ("sip_contact_uri", address.uri), ("sip_contact_host", to_host))
    yield from (("sip_to_tag", _token(uuid, "to", 13)), ("sip_from_tag", _token(uuid, "from", 13)))
    yield from (("sip_cseq", str(_port(uuid, "cseq"))), ("sip_call_id", f"{_token(uuid, 'call', 24)}@{host}"))


def accepted_variables(data: ChannelData, *, host: str) -> Iterator[tuple[str, str]]:
    """The variables that the party's SDP adds, and the codecs it makes the channel's."""
    uuid, port = data.uuid, _port(data.uuid, "remote")
    data.change(**{header.replace("-", "_"): value for header, value in _CODECS.items()})
    lines = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    yield ("switch_r_sdp", _offer(host, port, payloads="0 101", lines=lines))
    yield ("ep_codec_string", "CORE_PCM_MODULE.PCMU@8000h@20i@64000b")
    yield from _codec_variables()
    yield from (("rtp_use_timer_name", "soft"), ("rtp_use_pt", "0"), ("rtp_use_ssrc", str(_port(uuid, "ssrc"))))
    yield from (("rtp_2833_send_payload", "101"), ("rtp_2833_recv_payload", "101"))
    yield from (("remote_media_ip", host), ("remote_media_port", str(port)))


def flip(data: ChannelData) -> Iterator[tuple[str, str]]:
    """Who was called becomes the caller: FreeSWITCH does that to a leg it dialled, once that is up."""
    caller = data.caller
    for what, held in (("Name", caller["Caller-ID-Name"]), ("Number", caller["Caller-ID-Number"])):
        yield (f"pre_transfer_caller_id_{what.lower()}", held)
        caller[f"Caller-ID-{what}"], caller[f"Callee-ID-{what}"] = caller[f"Callee-ID-{what}"], held
    data.touch()
    yield ("channel_cid_flipped", "yes")


def _codec_variables() -> Iterator[tuple[str, str]]:
    yield from (("remote_video_media_flow", "inactive"), ("remote_text_media_flow", "inactive"))
    yield from (("remote_audio_media_flow", "sendrecv"), ("rtp_audio_recv_pt", "0"))
    yield from (("rtp_use_codec_name", "PCMU"), ("rtp_use_codec_rate", "8000"), ("rtp_use_codec_ptime", "20"))
    yield from (("rtp_use_codec_channels", "1"), ("rtp_last_audio_codec_string", "PCMU@8000h@20i@1c"))
    yield from (("read_codec", "PCMU"), ("original_read_codec", "PCMU"), ("read_rate", "8000"))
    yield from (("original_read_rate", "8000"), ("write_codec", "PCMU"), ("write_rate", "8000"))
    yield ("dtmf_type", "rfc2833")


def partner(uuid: str, name: str, number: str, data: ChannelData, when: float) -> dict[str, str]:
    """The ``Other-Leg-*`` headers of a leg named ``name`` that was dialled at ``number``."""
    micro = str(round(when * 1e6))
    caller = data.caller
    profile = {
        "Direction": "outbound",
        "Logical-Direction": "inbound",
        **{key: caller[key] for key in ("Username", "Dialplan", "Caller-ID-Name", "Caller-ID-Number")},
        **{key: caller[key] for key in ("Orig-Caller-ID-Name", "Orig-Caller-ID-Number")},
        "Callee-ID-Name": caller["Callee-ID-Name"],
        "Callee-ID-Number": caller["Callee-ID-Number"],
        "Network-Addr": caller["Network-Addr"],
        "ANI": caller["ANI"],
        "Destination-Number": number,
        "Unique-ID": uuid,
        "Source": "mod_loopback" if name.startswith("loopback/") else "mod_sofia",
        "Context": caller["Context"],
        "Channel-Name": name,
        **dict.fromkeys(_TIMES, "0"),
        "Profile-Created-Time": micro,
        "Channel-Created-Time": micro,
        "Channel-Answered-Time": micro,
        "Screen-Bit": "true",
        "Privacy-Hide-Name": "false",
        "Privacy-Hide-Number": "false",
    }
    return {"Other-Type": "originatee", **{f"Other-Leg-{key}": value for key, value in profile.items()}}


def _token(uuid: str, what: str, length: int) -> str:
    return hashlib.blake2s(f"{what}:{uuid}".encode(), digest_size=16).hexdigest()[:length]


def _port(uuid: str, what: str) -> int:
    return 16384 + int(_token(uuid, what, 4), 16) % 8192 * 2


def _offer(host: str, port: int, *, payloads: str, lines: tuple[str, ...]) -> str:
    fixed = ("v=0", f"o=simulator {port} {port + 1} IN IP4 {host}", "s=simulated", f"c=IN IP4 {host}", "t=0 0")
    return "\r\n".join((*fixed, f"m=audio {port} RTP/AVP {payloads}", *lines, "a=ptime:20", ""))


def sip_variables(
    data: ChannelData, *, host: str, session: int, caller: str, destination: str, headers: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """The variables of a SIP call that just arrived, in mod_sofia's order; ``headers`` are custom SIP headers."""
    uuid = data.uuid
    user, uri = quote(caller, safe="+"), f"{quote(caller, safe='+')}@{host}"
    target = f"{quote(destination, safe='+*#')}@{host}:5060"
    yield from (("direction", "inbound"), ("uuid", uuid), ("session_id", str(session)))
    yield from (("sip_from_user", user), ("sip_from_uri", uri), ("sip_from_host", host))
    yield from (("video_media_flow", "disabled"), ("text_media_flow", "disabled"), ("channel_name", data.name))
    yield from (("sip_call_id", f"{_token(uuid, 'call', 24)}@{host}"), ("sip_local_network_addr", host))
    yield from (("sip_network_ip", host), ("sip_network_port", "5060"))
    yield ("sip_invite_stamp", data.caller["Channel-Created-Time"])
    yield from (("sip_received_ip", host), ("sip_received_port", "5060"), ("sip_via_protocol", "udp"))
    yield from (("sip_from_user_stripped", user.lstrip("+")), ("sip_from_tag", _token(uuid, "from", 13)))
    yield from (("sofia_profile_name", "internal"), ("sofia_profile_url", f"sip:mod_sofia@{host}:5060"))
    yield ("recovery_profile_name", "internal")
    yield ("sip_Remote-Party-ID", f"<sip:{uri}>;party=calling;screen=yes;privacy=off")
    yield ("sip_cid_type", "rpid")
    yield ("sip_full_via", f"SIP/2.0/UDP {host};rport=5060;branch=z9hG4bK{_token(uuid, 'invite', 13)}")
    yield ("sip_full_from", f"<sip:{uri}>;tag={_token(uuid, 'from', 13)}")
    yield from (("sip_full_to", f"<sip:{target}>"), ("sip_allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE"))
    number = target.partition("@")[0]
    yield from (("sip_req_user", number), ("sip_req_port", "5060"), ("sip_req_uri", target), ("sip_req_host", host))
    yield from (("sip_to_user", number), ("sip_to_port", "5060"), ("sip_to_uri", target), ("sip_to_host", host))
    contact = f"{user}@{host}:5060"
    yield from (("sip_contact_user", user), ("sip_contact_port", "5060"), ("sip_contact_uri", contact))
    yield from (("sip_contact_host", host), ("sip_user_agent", "simulated phone 1.0"), ("sip_via_host", host))
    yield from (("sip_via_rport", "5060"), ("max_forwards", "70"))
    yield from ((f"sip_h_{name}", value) for name, value in headers.items())
    port = _port(uuid, "remote")
    lines = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    yield ("switch_r_sdp", _offer(host, port, payloads="0 8 101", lines=lines))
    codecs = ",".join(f"CORE_PCM_MODULE.{name}@8000h@20i@64000b" for name in ("PCMU", "PCMA"))
    yield from (("ep_codec_string", codecs), ("rtp_use_codec_string", "PCMU,PCMA"))
    yield from (("remote_video_media_flow", "inactive"), ("remote_text_media_flow", "inactive"))
    yield from (("remote_audio_media_flow", "sendrecv"), ("audio_media_flow", "sendrecv"))
    yield from (("remote_media_ip", host), ("remote_media_port", str(port)), ("rtp_audio_recv_pt", "0"))
    yield from (("rtp_use_codec_name", "PCMU"), ("rtp_use_codec_rate", "8000"), ("rtp_use_codec_ptime", "20"))
    yield from (("rtp_use_codec_channels", "1"), ("rtp_last_audio_codec_string", "PCMU@8000h@20i@1c"))
    yield from (("read_codec", "PCMU"), ("original_read_codec", "PCMU"), ("read_rate", "8000"))
    yield from (("original_read_rate", "8000"), ("write_codec", "PCMU"), ("write_rate", "8000"))
    yield from (("dtmf_type", "rfc2833"), ("endpoint_disposition", "RECEIVED"), ("call_uuid", uuid))


def answer_variables(uuid: str, host: str) -> Iterator[tuple[str, str]]:
    """The variables that sending the 200 OK adds."""
    port = _port(uuid, "local")
    lines = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    yield ("rtp_local_sdp_str", _offer(host, port, payloads="0 101", lines=lines))
    yield from (("local_media_ip", host), ("local_media_port", str(port)), ("advertised_media_ip", host))
    yield from (("rtp_use_timer_name", "soft"), ("rtp_use_pt", "0"), ("rtp_use_ssrc", str(_port(uuid, "ssrc"))))
    yield from (("rtp_2833_send_payload", "101"), ("rtp_2833_recv_payload", "101"))


def acknowledged_variables(data: ChannelData, host: str) -> Iterator[tuple[str, str]]:
    """The variables the party's ACK adds or renews, a moment after the answer."""
    uuid, variables = data.uuid, data.variables
    yield ("sip_to_tag", _token(uuid, "to", 13))
    yield ("sip_from_tag", variables.get("sip_from_tag") or "")
    yield ("sip_cseq", str(_port(uuid, "cseq")))
    yield ("sip_call_id", variables.get("sip_call_id") or "")
    yield ("sip_full_via", f"SIP/2.0/UDP {host};rport=5060;branch=z9hG4bK{_token(uuid, 'ack', 13)}")
    yield ("sip_full_from", variables.get("sip_full_from") or "")
    yield ("sip_full_to", f"<sip:{variables.get('sip_to_uri')}>;tag={_token(uuid, 'to', 13)}")


def sip_media(uuid: str, host: str) -> Iterator[tuple[str, str]]:
    """What a SIP leg that answers leaves on the leg that called it; ``uuid`` is the answering leg's."""
    lines = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15")
    yield ("switch_m_sdp", _offer(host, _port(uuid, "remote"), payloads="0 101", lines=lines))
    yield from (("video_media_flow", "inactive"), ("text_media_flow", "inactive"), ("audio_media_flow", "sendrecv"))
