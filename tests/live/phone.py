"""A SIP phone on loopback, that calls and is called: signalling over UDP, G.711 audio in both directions, and keys.

Knows as much of SIP as one call needs. What it hears it keeps, so that tests can say which tone was there and how long.
"""

from __future__ import annotations

import re
import secrets
import struct
from contextlib import suppress
from time import monotonic

import gevent
import numpy as np
from gevent import socket

RATE = 8000
FRAME = 160  # samples in 20 ms
_PCMU, _KEYS = 0, 101
_KEY_CODES = {key: code for code, key in enumerate("0123456789*#ABCD")}


def until(condition, seconds=5.0, what=""):
    """Wait until ``condition()`` is true and return what it gave; AssertionError after ``seconds``."""
    deadline = monotonic() + seconds
    while not (found := condition()):
        assert monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        gevent.sleep(0.005)
    return found


# -- audio ------------------------------------------------------------------------------------------------------------


def _expand(code):
    """One mu-law code as a linear sample (G.711)."""
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)
    return 0x84 - size if code & 0x80 else size - 0x84


_LINEAR = np.array([_expand(code) for code in range(256)], dtype=np.int16)
_ORDER = np.argsort(_LINEAR, kind="stable")


def linear(payload):
    """Mu-law as samples."""
    return _LINEAR[np.frombuffer(payload, np.uint8)]


def companded(samples):
    """Samples as mu-law: of all codes the nearest."""
    levels = _LINEAR[_ORDER].astype(np.int32)
    at = np.clip(np.searchsorted(levels, samples), 1, len(levels) - 1)
    nearer = np.where(samples - levels[at - 1] < levels[at] - samples, at - 1, at)
    return _ORDER[nearer].astype(np.uint8).tobytes()


def tone(hertz, seconds, amplitude=8000):
    """A sine at the phone's rate."""
    times = np.arange(round(seconds * RATE)) / RATE
    return np.round(amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def strength(samples, hertz, rate=RATE):
    """The amplitude of one frequency in ``samples``."""
    if not len(samples):
        return 0.0
    phases = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / rate)
    return 2 * abs(np.dot(np.asarray(samples, np.float64), phases)) / len(samples)


def seconds_of(samples, hertz, rate=RATE, least=3000):
    """How long the frequency is there, in whole frames of 20 ms."""
    frame = rate // 50
    whole = len(samples) // frame * frame
    frames = np.asarray(samples[:whole]).reshape(-1, frame)
    return sum(bool(strength(part, hertz, rate) > least) for part in frames) / 50


def loud_seconds(samples, rate=RATE, least=500):
    """How long anything is there."""
    frame = rate // 50
    whole = len(samples) // frame * frame
    frames = np.asarray(samples[:whole], np.float64).reshape(-1, frame)
    return int((np.sqrt((frames**2).mean(axis=1)) > least).sum()) / 50


# -- the phone --------------------------------------------------------------------------------------------------------


class Phone:
    """One call. ``statuses`` are the (code, when) of the INVITE's responses.

    It says ``voice`` (mu-law, repeated) from the moment it knows where to: silence unless told, and nothing at all
    when it is ``mute``. What it hears is in ``packets`` and ``keys``.

    Called, it picks up after ``rings`` seconds, with None when somebody says :meth:`pick_up`; until then it says
    ``progress``, a 183 with sound. Or it ``refuses``, with a status such as ``486 Busy Here``. ``invite`` is what came,
    and ``cancelled`` whether the caller has given up.
    """

    def __init__(self, *, mute=False, rings=0.0, progress="180 Ringing", refuses=""):
        self._mute = mute
        self._rings = rings
        self._progress = progress
        self._refuses = refuses
        self._sip = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sip.bind(("127.0.0.1", 0))
        self._rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._rtp.bind(("127.0.0.1", 0))
        self.port = self._sip.getsockname()[1]
        self.media_port = self._rtp.getsockname()[1]
        self.statuses = []
        self.hung_up_at = 0.0
        self.answered_at = 0.0
        self.invited_at = 0.0
        self.packets = []  # (when, payload) of every audio packet that came
        self.keys = ""
        self.invite = ""
        self.cancelled = False
        self.voice = companded(np.zeros(FRAME, np.int16))
        self._keys = []
        self._key_at = None  # the timestamp of the key that was heard last
        self._media = None
        self._invited = None  # what a response to the INVITE that came has to repeat
        self._peer = None
        self._target = ""
        self._tag = secrets.token_hex(4)
        self._call_id = secrets.token_hex(8)
        self._branch = ""
        self._to = ""
        self._sequence = 1
        self._bye = ""
        self._greenlets = [gevent.spawn(self._listen), gevent.spawn(self._hear)]

    # -- what a caller does ---------------------------------------------------------------------------------------

    def call(self, number):
        """Invite ``user@host:port``; the responses come by themselves."""
        host, _, port = number.partition("@")[2].partition(":")
        self._peer = (host, int(port or 5060))
        self._target = f"sip:{number}"
        self._to = f"<{self._target}>"
        self._branch = _branch()
        self.invited_at = monotonic()
        self._request("INVITE", self._branch, self._offer())
        return self

    @property
    def hung_up(self):
        """Whether either side has hung up."""
        return bool(self.hung_up_at)

    @property
    def final(self):
        """The INVITE's final response, 0 before."""
        return next((code for code, _ in self.statuses if code >= 200), 0)

    def wait_answer(self, seconds=5.0):
        until(lambda: self.final, seconds, "a final response")
        assert self.final == 200, self.statuses
        return self

    def wait_hung_up(self, seconds=10.0):
        until(lambda: self.hung_up, seconds, "the other side hangs up")
        return self

    def pick_up(self):
        """Answer the call that rings."""
        self._respond("200 OK", self._offer())

    def hang_up(self):
        """BYE; before the answer CANCEL, or, called, a refusal."""
        if self.final == 200:
            self._sequence += 1
            self._bye = f"{self._sequence} BYE"
            self._request("BYE", _branch())
        elif self.invite and not self.final:
            self._respond("480 Temporarily Unavailable")
        elif not self.final:
            self._request("CANCEL", self._branch)

    def say(self, samples):
        """Say this from now on, again and again."""
        self.voice = companded(samples)

    def press(self, keys):
        """Press keys, one after the other, as telephone events of 100 ms with 60 ms between them (RFC 4733)."""
        self._keys.extend(keys)

    def heard(self, since=0.0):
        """What came, as samples in the order it came."""
        payload = b"".join(data for when, data in self.packets if when >= since)
        return linear(payload)

    def close(self):
        self.hang_up() if not self.hung_up and self.invited_at and self.final in (0, 200) else None
        gevent.killall(self._greenlets)
        self._sip.close()
        self._rtp.close()

    # -- signalling -----------------------------------------------------------------------------------------------

    def _offer(self):
        return "\r\n".join(
            [
                "v=0",
                "o=phone 1 1 IN IP4 127.0.0.1",
                "s=-",
                "c=IN IP4 127.0.0.1",
                "t=0 0",
                f"m=audio {self.media_port} RTP/AVP {_PCMU} {_KEYS}",
                f"a=rtpmap:{_PCMU} PCMU/8000",
                f"a=rtpmap:{_KEYS} telephone-event/8000",
                f"a=fmtp:{_KEYS} 0-15",
                "a=ptime:20",
                "",
            ]
        )

    def _request(self, method, branch, body=""):
        lines = [
            f"{method} {self._target} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch={branch}",
            f"From: <sip:15550100@127.0.0.1:{self.port}>;tag={self._tag}",
            f"To: {self._to}",
            f"Call-ID: {self._call_id}",
            f"CSeq: {1 if method in ('ACK', 'CANCEL') else self._sequence} {method}",
            self._contact,
            "Max-Forwards: 70",
        ]
        self._send(lines, body, self._peer)

    def _send(self, lines, body, peer):
        if body:
            lines = [*lines, "Content-Type: application/sdp"]
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self._sip.sendto(text.encode(), peer)

    def _listen(self):
        while True:
            data, peer = self._sip.recvfrom(65535)
            head, _, body = data.decode("utf-8", "replace").partition("\r\n\r\n")
            lines = head.split("\r\n")
            if lines[0].startswith("SIP/2.0 "):
                self._response(int(lines[0].split()[1]), lines, body)
            elif not lines[0].startswith("ACK "):
                self._asked(lines[0].split()[0], lines, body, peer)

    def _response(self, code, lines, body):
        method = _header(lines, "CSeq").split()[1]
        if method == "BYE":
            self.hung_up_at = self.hung_up_at or monotonic()
        if method != "INVITE":
            return
        if not self.final:
            self.statuses.append((code, monotonic()))
        if body:
            self._negotiated(body)
        if code < 200:
            return
        self._to = _header(lines, "To")
        if code == 200:
            self.answered_at = self.answered_at or monotonic()
            contact = re.search(r"<?(sip:[^>;]+)", _header(lines, "Contact"))
            self._target = contact[1]
            self._request("ACK", _branch())
        else:
            self._request("ACK", self._branch)

    def _asked(self, method, lines, body, peer):
        """The other side asks; what is neither for a new call nor the end of one is welcome."""
        copied = [line for line in lines[1:] if line.split(":")[0] in ("Via", "From", "Call-ID", "CSeq")]
        to = _header(lines, "To")
        if method == "INVITE" and "tag=" not in to:
            if not self.invite:  # else it is one that we are thinking about, sent again
                self.invite = "\r\n".join([*lines, "", body])
                self.invited_at = monotonic()
                self._invited = [*copied, f"To: {to};tag={self._tag}"]
                self._peer, self._call_id, self._to = peer, _header(lines, "Call-ID"), _header(lines, "From")
                self._target = re.search(r"<?(sip:[^>;]+)", _header(lines, "Contact"))[1]
                self._greenlets.append(gevent.spawn(self._be_called))
            return
        if method == "INVITE":
            self._negotiated(body)
        answer = self._offer() if method == "INVITE" else ""
        self._send(["SIP/2.0 200 OK", *copied, f"To: {to}", self._contact], answer, peer)
        if method == "BYE":
            self.hung_up_at = self.hung_up_at or monotonic()
        elif method == "CANCEL" and not self.final:
            self.cancelled = True
            self._respond("487 Request Terminated")

    def _be_called(self):
        if self._refuses:
            self._respond(self._refuses)
            return
        if self._rings != 0:
            self._respond(self._progress, self._offer() if self._progress.startswith("183") else "")
        if self._rings is not None:
            gevent.sleep(self._rings)
            if not self.final:
                self.pick_up()

    def _respond(self, status, body=""):
        """To the INVITE that came; a ``body`` is our side of the media, which begins now."""
        code = int(status.split()[0])
        self.statuses.append((code, monotonic()))
        if code == 200:
            self.answered_at = monotonic()
        if body:
            self._negotiated(self.invite)
        self._send([f"SIP/2.0 {status}", *self._invited, self._contact], body, self._peer)

    @property
    def _contact(self):
        return f"Contact: <sip:15550100@127.0.0.1:{self.port}>"

    # -- media ----------------------------------------------------------------------------------------------------

    def _negotiated(self, body):
        port = re.search(r"^m=audio (\d+)", body, re.MULTILINE)
        host = re.search(r"^c=IN IP4 (\S+)", body, re.MULTILINE)
        first = self._media is None
        self._media = (host[1], int(port[1]))
        if first and not self._mute:
            self._greenlets.append(gevent.spawn(self._speak))

    def _speak(self):
        source, started, number = secrets.randbits(32), monotonic(), 0
        at = 0
        key = None  # (code, first frame's number)
        while True:
            if key is None and self._keys and (number % 3) == 0:
                key = (_KEY_CODES[self._keys.pop(0)], number)
            stamp = number * FRAME
            if key is not None and number - key[1] < 8:
                code, first = key
                step = number - first
                ends = step >= 5
                if step < 8 - 1:
                    event = struct.pack("!BBH", code, (0x80 if ends else 0) | 10, min(step + 1, 5) * FRAME)
                    self._packet(_KEYS | (0x80 if step == 0 else 0), number, first * FRAME, source, event)
                else:
                    key = None
            else:
                frame = (self.voice * (2 + FRAME // len(self.voice)))[at : at + FRAME]
                at = (at + FRAME) % len(self.voice)
                self._packet(_PCMU, number, stamp, source, frame)
            number += 1
            gevent.sleep(max(started + number * 0.02 - monotonic(), 0))

    def _packet(self, kind, number, stamp, source, payload):
        head = struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, stamp & 0xFFFFFFFF, source)
        with suppress(OSError):  # the other side's port is gone: its BYE is under way
            self._rtp.sendto(head + payload, self._media)

    def _hear(self):
        while True:
            data, _ = self._rtp.recvfrom(2048)
            if len(data) > 12 and data[1] & 0x7F == _PCMU:
                self.packets.append((monotonic(), data[12:]))
            elif len(data) > 12 and data[1] & 0x7F == _KEYS and data[4:8] != self._key_at:
                self._key_at = data[4:8]  # every packet of a key has the timestamp of its first
                self.keys += "0123456789*#ABCD"[data[12]]


def _header(lines, name):
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith(name.lower() + ":")), "")


def _branch():
    return "z9hG4bK" + secrets.token_hex(8)
