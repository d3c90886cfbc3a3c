"""The client against servers that behave, servers that do not, and resolvers that lie."""

from __future__ import annotations

import base64
import gzip
import os
import shutil
import ssl
import subprocess
import time
from ipaddress import ip_network

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from fsctl import messages
from fsctl.errors import FetchError
from fsctl.web import Client, Policy, Timeouts, redact, strip_credentials, timeouts_of
from tests.fakes.web import LOOPBACK, reply, servers

TIMEOUTS = Timeouts(2.0, 5.0, 10.0)


@pytest.fixture
def serve():
    with servers() as start:
        yield start


@pytest.fixture
def connect():
    """Make clients, all of which are closed in the end."""
    clients = []

    def make(policy=LOOPBACK, **options):
        clients.append(Client(policy, user_agent="fsctl/test", **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    return connect(pool_size=4)


def no_such_host(_host, _port):
    raise socket.gaierror(-2, "Name or service not known")


def failure(call, *args, **options):
    with pytest.raises(FetchError) as caught:
        call(*args, **options)
    return caught.value


# Addresses

REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.255",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.255.255",
    "172.32.0.1",
    "192.0.1.1",
    "192.167.255.255",
    "198.20.0.1",
    "223.255.255.255",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_the_public_internet_is_refused(address):
    assert not Policy().allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_is_allowed(address):
    assert Policy().allows(address)


ALLOWED = {
    "itself": ("10.0.0.0/8", "10.1.2.3", True),
    "only itself": ("10.0.0.0/8", "192.168.0.1", False),
    "mapped": ("10.0.0.0/8", "::ffff:10.1.2.3", True),
    "nat64": ("10.0.0.0/8", "64:ff9b::a01:203", True),
    "6to4 does not count as what is inside": ("10.0.0.0/8", "2002:a01:203::1", False),
    "ipv6": ("fd00::/8", "fd12::1", True),
}


@pytest.mark.parametrize(("network", "address", "allowed"), ALLOWED.values(), ids=ALLOWED)
def test_the_operator_may_allow_networks(network, address, allowed):
    assert Policy(allow_private=(ip_network(network),)).allows(address) is allowed


SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "2130706433",
    "0x7f.1",
    "017700000001",
    "127.1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "0",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_loopback_gets_through(host, serve, connect):
    server = serve(reply())
    strict = connect(Policy())
    for error in (
        failure(strict.fetch, "GET", f"http://{host}:{server.port}/"),
        failure(strict.send, "POST", f"http://{host}:{server.port}/", {}, b"", TIMEOUTS),
    ):
        assert error.reason in {"address", "dns"}
    assert server.connections == 0


def test_the_resolver_is_asked_once_and_the_checked_address_is_used(serve, connect):
    """A name that changes its address between check and use (DNS rebinding) gains nothing."""
    server = serve(reply(b"inside"))
    asked = []

    def resolve(host, port):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port))]

    policy = Policy(allow_private=(ip_network("127.0.0.1/32"),))
    client = connect(policy, resolve=resolve)
    assert client.fetch("GET", f"http://rebind.example:{server.port}/").body == b"inside"
    assert asked == ["rebind.example"]
    assert server.requests[0][1]["Host"] == f"rebind.example:{server.port}"
    client.close()
    error = failure(client.fetch, "GET", f"http://rebind.example:{server.port}/")
    assert (error.reason, len(asked), server.connections) == ("address", 2, 1)
    assert "127.0.0.2" in error.detail


def test_only_the_allowed_of_several_addresses_is_used(serve, connect):
    server = serve(reply())
    reached = []

    def resolve(_host, port):
        reached.append(port)
        addresses = ("10.0.0.1", "127.0.0.1", "127.0.0.1", "169.254.169.254")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    client = connect(resolve=resolve)
    assert client.fetch("GET", f"http://mixed.example:{server.port}/").status == 200
    assert (len(reached), server.connections) == (1, 1)


def test_the_next_address_is_tried_when_one_is_dead(serve, connect):
    server = serve(reply(b"second"))

    def resolve(_host, port):
        return [(socket.AF_INET, 1, 6, "", (address, port)) for address in ("127.0.0.9", "127.0.0.1")]

    client = connect(resolve=resolve)
    assert client.fetch("GET", f"http://two.example:{server.port}/").body == b"second"


RESOLVERS = {
    "unknown": (no_such_host, "dns", "Name or service not known"),
    "no address": (lambda _host, _port: [], "dns", "has no address"),
    "too slow": (lambda _host, _port: gevent.sleep(30), "timeout", "no address in time"),
}


@pytest.mark.parametrize(("resolve", "reason", "text"), RESOLVERS.values(), ids=RESOLVERS)
def test_names_that_do_not_resolve(resolve, reason, text, connect):
    client = connect(resolve=resolve)
    error = failure(client.fetch, "GET", "http://nowhere.example/", connect_timeout=0.2)
    assert (error.reason, error.url) == (reason, "http://nowhere.example/")
    assert text in error.detail


def test_a_label_no_resolver_takes(client):
    assert failure(client.fetch, "GET", f"http://{'a' * 64}.example/").reason in {"dns", "malformed"}


def two_addresses(first, second):
    return lambda _host, port: [(socket.AF_INET, 1, 6, "", (address, port)) for address in (first, second)]


ADMITTED = {
    "public": (two_addresses("1.1.1.1", "8.8.8.8"), "wss://media.example/x", None),
    "allowed": (two_addresses("127.0.0.1", "127.0.0.2"), "ws://u:p@media.example:8080/x", None),
    "one inside": (two_addresses("1.1.1.1", "10.0.0.1"), "wss://media.example/x?token=t", "address"),
    "unknown": (no_such_host, "https://media.example/", "dns"),
    "literal": (None, "wss://[::1]:8080/", "address"),
    "scheme": (two_addresses("1.1.1.1", "1.1.1.1"), "file://media.example/", "scheme"),
    "malformed": (two_addresses("1.1.1.1", "1.1.1.1"), "wss://media example/", "malformed"),
}


@pytest.mark.parametrize(("resolve", "url", "reason"), ADMITTED.values(), ids=ADMITTED)
def test_urls_for_freeswitch_are_checked_without_connecting(resolve, url, reason, connect):
    client = connect(resolve=resolve)
    if reason is None:
        client.admit(url)
    else:
        error = failure(client.admit, url)
        assert error.reason == reason
        assert "token" not in str(error)


# URLs

MALFORMED = {
    "empty": "",
    "no scheme": "example.com/x",
    "relative": "/x",
    "no host": "http:///x",
    "space": "http://exa mple.com/",
    "space in path": "http://example.com/a b",
    "newline": "http://example.com/\r\nX-Evil: 1",
    "tab": "http://exam\tple.com/",
    "nul": "http://example.com/\0",
    "delete": "http://example.com/\x7f",
    "backslash": "http://example.com\\@evil.example/",
    "port 0": "http://example.com:0/",
    "port too high": "http://example.com:65536/",
    "port of letters": "http://example.com:http/",
    "zone": "http://[fe80::1%25eth0]/",
    "escaped host": "http://exam%2fple.com/",
    "half an address": "http://[::1/",
    "too long": "http://example.com/" + "x" * 9000,
}


@pytest.mark.parametrize("url", MALFORMED.values(), ids=MALFORMED)
def test_malformed_urls_are_refused_before_anything_is_resolved(url, connect):
    client = connect(resolve=lambda *_: pytest.fail("resolved"))
    assert failure(client.fetch, "GET", url).reason == "malformed"
    assert failure(client.send, "POST", url, {}, b"", TIMEOUTS).reason == "malformed"


@pytest.mark.parametrize("url", ["ftp://h/", "file:///etc/passwd", "gopher://h/", "mailto:a@example.com", "ws://h/"])
def test_other_schemes_are_refused(client, url):
    assert failure(client.fetch, "GET", url).reason == "scheme"


def test_a_policy_may_want_https_only(serve, connect):
    server = serve(reply())
    secure = connect(Policy(LOOPBACK.allow_private, schemes=("https",)))
    assert failure(secure.fetch, "GET", server.url).reason == "scheme"
    assert server.connections == 0


STRIPPED = {
    "both": ("https://user:pass@example.com/x?y=1#z", "https://example.com/x?y=1#z"),
    "user": ("https://user@example.com", "https://example.com"),
    "at signs": ("https://a@b:c@example.com/@d", "https://example.com/@d"),
    "none": ("https://example.com/a@b", "https://example.com/a@b"),
    "at in query": ("https://example.com?a@b", "https://example.com?a@b"),
    "no scheme": ("//user:pass@example.com/", "//example.com/"),
    "other scheme": ("sip:user@example.com", "sip:user@example.com"),
    "empty": ("", ""),
}


@pytest.mark.parametrize(("url", "bare"), STRIPPED.values(), ids=STRIPPED)
def test_credentials_are_stripped(url, bare):
    assert strip_credentials(url) == bare


def test_redacted_urls_hold_no_credentials_query_or_fragment():
    assert redact("https://user:pass@example.com/a/b?token=t#rt=1") == "https://example.com/a/b?…"
    assert redact("https://example.com/a#rt=1") == "https://example.com/a"


secrets = st.text("abcdefgh1234-._~%25", min_size=6, max_size=12).map(lambda text: "Z" + text.replace("%", "") + "Z")


@given(secret=secrets, tail=st.text(max_size=20), port=st.sampled_from(["", ":80", ":x", ":0", ":99999"]))
def test_no_error_ever_shows_a_password(secret, tail, port):
    client = Client(Policy(), user_agent="fsctl/test", resolve=no_such_host)
    error = failure(client.fetch, "GET", f"http://user:{secret}@example.com{port}/{tail}")
    assert secret not in str(error)
    assert secret not in error.url


WIRE = {
    "credentials and fragment": ("https://u:p@example.com/x?y=1#rt=1", "https://example.com/x?y=1"),
    "case": ("HTTPS://Example.COM/Path", "https://example.com/Path"),
    "root": ("https://example.com", "https://example.com/"),
    "query without path": ("https://example.com?x=1", "https://example.com/?x=1"),
    "port": ("https://example.com:8443/", "https://example.com:8443/"),
    "braces and umlauts": ("https://example.com/{a}?q=ü", "https://example.com/%7Ba%7D?q=%C3%BC"),
    "escapes": ("https://example.com/%2f", "https://example.com/%2F"),
    "ipv6": ("http://[2001:DB8::1]/", "http://[2001:db8::1]/"),
}


@pytest.mark.parametrize(("url", "wire"), WIRE.values(), ids=WIRE)
def test_the_url_to_sign_is_the_one_the_server_sees(client, url, wire):
    assert client.wire_url(url) == wire


def test_what_is_signed_is_what_is_sent(client, serve):
    server = serve(reply())
    url = f"{server.url}/a%2fb/{{c}}/../d?x=ü&y=%7e#rt=100"
    client.fetch("GET", url)
    client.send("POST", url, {}, b"x", TIMEOUTS)
    path = client.wire_url(url).removeprefix(server.url)
    assert [request[0] for request in server.requests] == [f"GET {path} HTTP/1.1", f"POST {path} HTTP/1.1"]
    assert "#" not in path


DEFAULT = Timeouts(2.0, 5.0, 15.0)
OVERRIDES = {
    "none": ("https://h/", DEFAULT),
    "empty": ("https://h/#", DEFAULT),
    "all": ("https://h/#ot=500&rt=1000&tt=3000", Timeouts(0.5, 1.0, 3.0)),
    "one": ("https://h/x?y#rt=100", Timeouts(2.0, 0.1, 15.0)),
    "too small": ("https://h/#ot=1&rt=0&tt=99", Timeouts(0.1, 0.1, 0.1)),
    "too large": ("https://h/#ot=99999&rt=99999&tt=9999999999999", Timeouts(10.0, 15.0, 15.0)),
    "nonsense": ("https://h/#ot=x&rt=-5&tt=&zz=1&&=", DEFAULT),
    "other digits": ("https://h/#rt=٣٠٠", DEFAULT),
}


@pytest.mark.parametrize(("url", "timeouts"), OVERRIDES.values(), ids=OVERRIDES)
def test_the_fragment_sets_timeouts_within_the_documented_limits(url, timeouts):
    assert timeouts_of(url, DEFAULT) == timeouts


# Asking and answering


def test_an_answer_is_read_whole(client, serve):
    server = serve(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A: 1\r\nx-a: 2\r\nSet-Cookie: a=b\r\n\r\nok")
    response = client.fetch("POST", f"{server.url}/x?y=1", headers={"content-type": "text/plain"}, body=b"hello")
    assert (response.status, response.body, response.url) == (201, b"ok", f"{server.url}/x?y=1")
    assert response.headers == {"content-length": "2", "x-a": "1, 2", "set-cookie": "a=b"}
    assert 0 < response.elapsed < 5
    line, headers, body = server.requests[0]
    assert (line, body) == ("POST /x?y=1 HTTP/1.1", b"hello")
    assert headers["User-Agent"] == "fsctl/test"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["content-type"] == "text/plain"
    client.fetch("POST", server.url, body=b"")
    assert "Cookie" not in server.requests[1][1]
    assert server.connections == 1


BODIES = {
    "chunked": (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n", b"abcde"),
    "until close": (b"Connection: close\r\n\r\nabcde", b"abcde"),
    "empty": (b"Content-Length: 0\r\n\r\n", b""),
    "identity": (b"Content-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "no body, yet an encoding": (b"Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n", b""),
}


@pytest.mark.parametrize(("rest", "body"), BODIES.values(), ids=BODIES)
def test_bodies_end_in_different_ways(client, serve, rest, body):
    def answer(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + rest)
        if b"close" in rest:
            connection.close()

    server = serve(lambda *_: answer)
    assert client.fetch("GET", server.url).body == body


def test_head_has_no_body(client, serve):
    server = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Encoding: gzip\r\n\r\n")
    response = client.fetch("HEAD", server.url, max_bytes=10)
    assert (response.body, response.headers["content-length"]) == (b"", "99999999")
    client.fetch("HEAD", server.url)
    assert server.connections == 1


@pytest.mark.parametrize("status", [199, 304, 400, 404, 500, 503])
def test_other_statuses_raise_unless_any_is_wanted(client, serve, status):
    server = serve(reply(b"sorry", status=status) if status != 199 else reply(b"sorry", status=600))
    status = 600 if status == 199 else status
    error = failure(client.fetch, "POST", server.url, body=b"{}")
    assert (error.reason, error.status) == ("status", status)
    assert client.fetch("POST", server.url, body=b"{}", ok=None).status == status
    assert client.send("POST", server.url, {}, b"", TIMEOUTS) == status


def test_send_gives_the_status_and_keeps_the_connection(client, serve):
    server = serve(lambda _request, number: reply(b"x" * 100, status=200 + number))
    headers = {"Content-Type": "application/json"}
    assert [client.send("POST", server.url, headers, b"{}", TIMEOUTS) for _ in range(3)] == [201, 202, 203]
    assert server.connections == 1
    _, sent, body = server.requests[0]
    assert (sent["Content-Type"], sent["User-Agent"], body) == ("application/json", "fsctl/test", b"{}")
    assert headers == {"Content-Type": "application/json"}


def test_send_shows_the_headers_of_the_answer(client, serve):
    server = serve(reply(status=429, retry_after="7"))
    seen = []
    got = client.send("POST", server.url, {}, b"{}", TIMEOUTS, received=seen.append)
    assert (got, seen[0].get("Retry-After"), seen[0].get("x-none")) == (429, "7", None)


def test_send_without_a_body(client, serve):
    server = serve(reply())
    assert client.send("GET", f"{server.url}/?state=x", {}, None, TIMEOUTS) == 200
    assert server.requests[0][0] == "GET /?state=x HTTP/1.1"
    assert "Content-Length" not in server.requests[0][1]


def test_head_and_body_leave_in_one_piece(client, serve, monkeypatch):
    pieces = []
    server = serve(reply())

    class Spy(messages._Plain):
        def send(self, data, *options):
            pieces.append(bytes(data))
            return super().send(data, *options)

    monkeypatch.setattr(messages, "_Plain", Spy)
    client.send("POST", server.url, {}, b"{}", TIMEOUTS)
    assert len(pieces) == 1
    assert pieces[0].endswith(b"\r\n\r\n{}")


def test_fetch_and_send_do_not_share_connections(serve, connect):
    hold = gevent.event.Event()

    def answer(request, _number):
        if request[0].startswith("POST"):
            hold.wait(10)
        return reply()

    server = serve(answer)
    client = connect(pool_size=1)
    slow = gevent.spawn(client.send, "POST", server.url, {}, b"", TIMEOUTS)
    gevent.sleep(0)
    assert client.fetch("GET", server.url, total_timeout=5).status == 200
    hold.set()
    assert slow.get(timeout=5) == 200


def test_no_more_connections_to_a_host_than_the_pool_holds(serve, connect):
    server = serve(reply())
    client = connect(pool_size=3)
    greenlets = [gevent.spawn(client.send, "POST", server.url, {}, b"", TIMEOUTS) for _ in range(30)]
    gevent.joinall(greenlets, timeout=10)
    assert [greenlet.value for greenlet in greenlets] == [200] * 30
    assert server.connections <= 3


def test_user_and_password_of_the_url_become_basic_auth(client, serve):
    server = serve(reply())
    url = server.url.replace("//", "//us%40er:p%3Ass%C3%BC@")
    client.fetch("GET", url)
    client.send("POST", url, {}, b"", TIMEOUTS)
    client.fetch("GET", url, headers={"authorization": "Bearer t"})
    client.fetch("GET", server.url)
    sent = [headers.get("Authorization", headers.get("authorization")) for _, headers, _ in server.requests]
    basic = "Basic " + base64.b64encode("us@er:p:ssü".encode()).decode()
    assert sent == [basic, basic, "Bearer t", None]
    assert "@" not in server.requests[0][0] + server.requests[0][1]["Host"]


def test_the_environment_names_no_proxy(client, serve, monkeypatch):
    trap = serve(reply(b"trap"))
    server = serve(reply(b"right"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, trap.url)
    assert client.fetch("GET", server.url).body == b"right"
    assert trap.connections == 0


HEADERS = {
    "newline": ({"X-A": "1\r\nX-B: 2"}, "GET"),
    "newline in name": ({"X-A\r\nX-B": "2"}, "GET"),
    "not latin": ({"X-A": "€"}, "GET"),
    "method": ({}, "GET / HTTP/1.1\r\nX:"),
}


@pytest.mark.parametrize(("headers", "method"), HEADERS.values(), ids=HEADERS)
def test_headers_cannot_be_smuggled(client, serve, headers, method):
    server = serve(reply())
    assert failure(client.fetch, method, server.url, headers=headers).reason == "malformed"
    assert failure(client.send, method, server.url, headers, b"", TIMEOUTS).reason == "malformed"
    assert server.requests == []
    assert client.send("POST", server.url, {}, b"", TIMEOUTS) == 200


# Redirects


def redirecting(*locations):
    """Redirect request n to locations[n], then answer."""

    def answer(_request, number):
        if number <= len(locations):
            return reply(b"moved", status=302, Location=locations[number - 1])
        return reply(b"here")

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_get_follows_redirects(client, serve, status, method):
    server = serve(lambda _request, number: reply(b"", status=status, Location="../b?c") if number == 1 else reply())
    assert client.fetch(method, f"{server.url}/a/x").url == f"{server.url}/b?c"
    assert [request[0].split()[:2] for request in server.requests] == [[method, "/a/x"], [method, "/b?c"]]


def test_only_so_many_redirects(client, serve):
    server = serve(redirecting("/1", "/2", "/3", "/4"))
    error = failure(client.fetch, "GET", server.url)
    assert (error.reason, error.status, len(server.requests)) == ("redirect", 302, 4)
    server.requests.clear()
    server.answer = redirecting("/1", "/2", "/3")
    assert client.fetch("GET", server.url).body == b"here"
    server.requests.clear()
    assert failure(client.fetch, "GET", server.url, redirects=0).reason == "redirect"
    assert client.fetch("GET", server.url, redirects=0, ok=None).status == 302


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_body_is_not_sent_on(client, serve, method):
    server = serve(redirecting("/elsewhere"))
    error = failure(client.fetch, method, server.url, body=b"{}")
    assert (error.reason, error.status, len(server.requests)) == ("redirect", 302, 1)
    server.answer = reply(status=308, Location="/elsewhere")
    assert client.fetch(method, server.url, body=b"{}", ok=None).status == 308
    assert client.send(method, server.url, {}, b"{}", TIMEOUTS) == 308


INWARD = {
    "metadata": ("http://169.254.169.254/latest/meta-data/", "address"),
    "private": ("http://10.0.0.1/", "address"),
    "ipv6 loopback": ("http://[::1]/", "address"),
    "file": ("file:///etc/passwd", "scheme"),
    "nonsense": ("http://exa mple/", "malformed"),
    "port 0": ("//127.0.0.1:0/", "malformed"),
}


@pytest.mark.parametrize(("location", "reason"), INWARD.values(), ids=INWARD)
def test_a_redirect_is_checked_like_the_first_url(client, serve, location, reason):
    server = serve(redirecting(location))
    assert failure(client.fetch, "GET", server.url).reason == reason


def test_credentials_stay_with_their_origin(client, serve):
    other = serve(reply())
    server = serve(lambda _request, number: reply(status=302, Location="/b" if number == 1 else other.url))
    client.fetch("GET", server.url.replace("//", "//u:p@"), headers={"cookie": "c=1", "X-Mine": "1"})
    first, second = (headers for _, headers, _ in server.requests)
    assert first["Authorization"] == second["Authorization"]
    assert "cookie" in second
    _, third, _ = other.requests[0]
    assert not {"Authorization", "authorization", "cookie", "Cookie"} & set(third)
    assert third["X-Mine"] == "1"


def test_a_redirect_may_bring_its_own_credentials(client, serve):
    other = serve(reply())
    server = serve(redirecting(other.url.replace("//", "//new:pw@")))
    client.fetch("GET", server.url.replace("//", "//old:pw@"))
    assert other.requests[0][1]["Authorization"] == "Basic " + base64.b64encode(b"new:pw").decode()


def test_the_body_of_a_redirect_is_not_read(client, serve):
    def endless(connection):
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x" * 100_000)

    server = serve(lambda _request, number: endless if number == 1 else reply(b"here"))
    assert client.fetch("GET", server.url, total_timeout=5).body == b"here"


# Servers that misbehave


def dribbling(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
    while True:
        connection.sendall(b"x")
        gevent.sleep(0.02)


def slow_head(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-More: 1\r\n"[:1])
        gevent.sleep(0.02)


def endless_interim(connection):
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        gevent.sleep(0.02)


def endless_body(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65536)


def endless_chunks(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"ffff\r\n" + b"x" * 65535 + b"\r\n")


def silent(_connection):
    gevent.sleep(30)


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def reset_halfway(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    gevent.sleep(0.01)
    reset(connection)


def cut_short(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
    connection.close()


def cut_chunk(connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nabc")
    connection.close()


NASTY = {
    "dribbling body": (dribbling, "timeout"),
    "dribbling head": (slow_head, "timeout"),
    "interim answers": (endless_interim, "timeout"),
    "silence": (silent, "timeout"),
    "endless body": (endless_body, "size"),
    "endless chunks": (endless_chunks, "size"),
    "declared too long": (reply(b"x" * 1001), "size"),
    "reset": (reset, "connect"),
    "reset halfway": (reset_halfway, "connect"),
    "closed": (lambda connection: connection.close(), "connect"),
    "cut short": (cut_short, "connect"),
    "cut in a chunk": (cut_chunk, "connect"),
    "not HTTP": (b"220 mail.example ESMTP\r\n\r\n", "content"),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X-A: 1\r\n" * 200 + b"\r\n", "content"),
    "header line too long": (b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 70_000 + b"\r\n\r\n", "content"),
    "gzip": (reply(gzip.compress(b"0" * 10_000_000)[:900], Content_Encoding="gzip"), "content"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "content"),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "connect"),
}


@pytest.mark.parametrize(("answer", "reason"), NASTY.values(), ids=NASTY)
def test_nasty_answers_fail_in_time_and_leave_the_pool_usable(serve, answer, reason, connect):
    server = serve((lambda *_: answer) if callable(answer) else answer)
    client = connect(pool_size=1)
    started = time.monotonic()
    error = failure(client.fetch, "GET", f"{server.url}/a?secret=1", total_timeout=0.6, max_bytes=1000)
    assert error.reason == reason
    assert time.monotonic() - started < 3
    assert error.url == f"{server.url}/a?…"
    assert "secret" not in str(error)
    server.answer = reply(b"fine")
    assert client.fetch("GET", server.url, total_timeout=5).body == b"fine"
    client.close()


def test_the_read_timeout_counts_between_pieces(client, serve):
    server = serve(lambda *_: silent)
    started = time.monotonic()
    error = failure(client.fetch, "GET", server.url, read_timeout=0.1, total_timeout=20)
    assert (error.reason, time.monotonic() - started < 5) == ("timeout", True)
    assert failure(client.send, "POST", server.url, {}, b"", Timeouts(1, 0.1, 20)).reason == "timeout"


def test_the_largest_body_allowed(client, serve):
    server = serve(reply(b"x" * 1000))
    assert len(client.fetch("GET", server.url, max_bytes=1000).body) == 1000
    assert failure(client.fetch, "GET", server.url, max_bytes=999).reason == "size"


DELIVERED = {
    "dribbling": dribbling,
    "endless": endless_body,
    "cut short": cut_short,
    "reset halfway": reset_halfway,
    "long": reply(b"x" * 200_000),
}


@pytest.mark.parametrize("answer", DELIVERED.values(), ids=DELIVERED)
def test_a_message_whose_status_came_is_delivered_whatever_follows(serve, answer, connect):
    server = serve((lambda *_: answer) if callable(answer) else answer)
    client = connect(pool_size=1)
    assert client.send("POST", server.url, {}, b"{}", Timeouts(1, 1, 0.5)) == 200
    server.answer = reply(status=204)
    assert client.send("POST", server.url, {}, b"{}", TIMEOUTS) == 204
    client.close()


UNDELIVERED = {
    "silence": (silent, "timeout"),
    "dribbling head": (slow_head, "timeout"),
    "reset": (reset, "connect"),
    "closed": (lambda connection: connection.close(), "connect"),
    "not HTTP": (b"hello\r\n\r\n", "content"),
}


@pytest.mark.parametrize(("answer", "reason"), UNDELIVERED.values(), ids=UNDELIVERED)
def test_a_message_without_status_is_not_delivered(serve, answer, reason, connect):
    server = serve((lambda *_: answer) if callable(answer) else answer)
    client = connect(pool_size=1)
    error = failure(client.send, "POST", f"{server.url}/?secret=1", {}, b"{}", Timeouts(1, 1, 0.3))
    assert (error.reason, error.url) == (reason, f"{server.url}/?…")
    server.answer = reply()
    assert client.send("POST", server.url, {}, b"{}", TIMEOUTS) == 200
    client.close()


def test_nobody_listens(client):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert failure(client.fetch, "GET", url).reason == "refused"
        assert failure(client.send, "POST", url, {}, b"", TIMEOUTS).reason == "refused"


def test_nobody_accepts(client):
    with socket.socket() as deaf, socket.socket() as filler:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filler.connect(deaf.getsockname())
        error = failure(client.fetch, "GET", f"http://127.0.0.1:{deaf.getsockname()[1]}/", connect_timeout=0.2)
        assert error.reason == "timeout"


# Connections kept open


def test_a_connection_closed_while_idle_is_not_used_again(client, serve):
    closed = gevent.event.Event()

    def once(connection):
        connection.sendall(reply())
        connection.close()
        closed.set()

    server = serve(lambda *_: once)
    for _ in range(3):
        closed.clear()
        assert client.send("POST", server.url, {}, b"{}", TIMEOUTS) == 200
        assert closed.wait(5)
    assert server.connections == 3


@pytest.mark.parametrize("ending", [reset, lambda connection: connection.close()], ids=["reset", "closed"])
@pytest.mark.parametrize("way", ["fetch", "send"])
def test_a_question_that_crosses_the_closing_of_an_idle_connection_is_asked_again(client, serve, ending, way):
    """The server answers once per connection and closes when the second question comes: as with any idle timeout."""
    served = {}

    def answer(connection):
        if served.setdefault(connection, 0):
            ending(connection)
            return None
        served[connection] += 1
        return reply()

    server = serve(lambda *_: answer)
    for _ in range(3):
        if way == "send":
            assert client.send("POST", server.url, {}, b"{}", TIMEOUTS) == 200
        else:
            assert client.fetch("POST", server.url, body=b"{}").status == 200
    assert server.connections == 3


def test_what_must_happen_once_has_a_connection_of_its_own(client, serve):
    def answer(_request, number):
        return reply() if number < 3 else lambda connection: connection.close()

    server = serve(answer)
    client.fetch("GET", server.url)
    client.fetch("POST", server.url, body=b"{}", once=True)
    assert server.connections == 2
    assert failure(client.fetch, "POST", server.url, body=b"{}", once=True).reason == "connect"
    assert (server.connections, len(server.requests)) == (3, 3)


def test_a_connection_idle_for_long_is_not_used_again(client, serve, monkeypatch):
    server = serve(reply())
    client.fetch("GET", server.url)
    client.fetch("GET", server.url)
    assert server.connections == 1
    monkeypatch.setattr("fsctl.web.MAX_IDLE", -1)
    client.fetch("GET", server.url)
    assert server.connections == 2


def test_a_new_connection_that_is_closed_is_not_tried_again(client, serve):
    server = serve(lambda *_: lambda connection: connection.close())
    assert failure(client.send, "POST", server.url, {}, b"{}", TIMEOUTS).reason == "connect"
    assert server.connections == 1


def test_the_callers_own_timeout_is_not_mistaken_for_ours(client, serve):
    server = serve(lambda *_: silent)
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.1) as theirs:
        client.fetch("GET", server.url)
    assert caught.value is theirs
    with gevent.Timeout(0.1, False):
        client.send("POST", server.url, {}, b"", TIMEOUTS)
        pytest.fail("swallowed")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", cert, "-days", "30", "-subj", "/CN=good.example"]
    command += ["-addext", "subjectAltName=DNS:good.example"]
    subprocess.run(command, check=True, capture_output=True)
    return os.fspath(cert), os.fspath(key)


def everyone_is_here(_host, port):
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


def secure(server, connect, trust=None):
    return connect(tls=trust, resolve=everyone_is_here), f":{server.port}/"


def test_the_certificate_is_checked_on_the_name(certificate, serve, connect):
    cert, key = certificate
    names = []
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = serve(reply(b"secret"), ssl_context=context)
    trust = ssl.create_default_context(cafile=cert)
    client, tail = secure(server, connect, trust)
    assert client.fetch("GET", "https://good.example" + tail).body == b"secret"
    assert client.send("POST", "https://good.example" + tail, {}, b"{}", TIMEOUTS) == 200
    assert client.send("POST", "https://good.example" + tail, {}, b"{}", TIMEOUTS) == 200
    assert names == ["good.example", "good.example"]
    error = failure(client.fetch, "GET", "https://bad.example" + tail)
    assert error.reason == "tls"
    assert "bad.example" in error.detail
    stranger, tail = secure(server, connect)
    assert failure(stranger.fetch, "GET", "https://good.example" + tail).reason == "tls"
    assert failure(stranger.send, "POST", "https://good.example" + tail, {}, b"{}", TIMEOUTS).reason == "tls"
    assert len(server.requests) == 3


def test_a_handshake_nobody_answers_counts_as_connecting(serve, connect):
    client, tail = secure(serve(lambda *_: None), connect)
    assert failure(client.fetch, "GET", "https://good.example" + tail, connect_timeout=0.3).reason == "timeout"
    hasty = Timeouts(0.3, 5, 10)
    assert failure(client.send, "POST", "https://good.example" + tail, {}, b"", hasty).reason == "timeout"


def test_messages_over_tls_are_as_good_as_others(certificate, serve, connect):
    """Larger than any buffer, answered in pieces and in one record, closed while idle."""
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = serve(reply(b"x" * 30_000), ssl_context=context)
    client, tail = secure(server, connect, ssl.create_default_context(cafile=cert))
    url = "https://good.example" + tail
    body = bytes(range(256)) * 20_000
    assert client.send("POST", url, {}, body, TIMEOUTS) == 200
    assert server.requests[0][2] == body

    def in_pieces(connection):
        for piece in (b"HTTP/1.1 202 X\r\nTransfer-Enc", b"oding: chunked\r\n\r\n", b"1\r\na", b"\r\n0\r\n\r\n"):
            connection.sendall(piece)
            gevent.sleep(0.002)
        return b""

    server.answer = lambda *_: in_pieces
    assert client.send("POST", url, {}, b"{}", TIMEOUTS) == 202
    assert server.connections == 1
    server.answer = lambda *_: lambda connection: connection.close()
    assert failure(client.send, "POST", url, {}, b"{}", TIMEOUTS).reason == "connect"
    assert server.connections == 2


def test_a_context_of_ones_own_still_checks_the_name(certificate, serve, connect):
    cert, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    lax = ssl.create_default_context(cafile=cert)
    lax.check_hostname = False
    client, tail = secure(serve(reply(), ssl_context=context), connect, lax)
    assert failure(client.send, "POST", "https://bad.example" + tail, {}, b"", TIMEOUTS).reason == "tls"
    assert client.send("POST", "https://good.example" + tail, {}, b"", TIMEOUTS) == 200
