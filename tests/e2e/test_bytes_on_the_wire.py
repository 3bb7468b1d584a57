"""What is judged is what is sent: request targets, queries, hosts, methods and credentials at the upstream's socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

SECRET = "upstream-secret-0123456789"


@dataclass(frozen=True)
class Door:
    """One service whose upstream records everything byte for byte."""

    server: RunningServer
    upstream: RawUpstream
    service: str
    key: ValetKey

    def send(self, line: str, *headers: str, host: str | None = "127.0.0.1", key: bool = True) -> bytes:
        """A request from its request line (with SERVICE in it) and headers, answered."""
        lines = [line.replace("SERVICE", self.service), *headers, "Connection: close"]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"Authorization: Bearer {self.key.value}"] if key else []
        return self.server.raw("\r\n".join([*lines, "", ""]).encode("utf-8"))

    def code(self, line: str, *headers: str, host: str | None = "127.0.0.1", key: bool = True) -> str:
        """Valetkey's code; VALID when the upstream answered; the status when the listener itself refused."""
        answer = self.send(line, *headers, host=host, key=key)
        for name, _, value in (field.partition(b": ") for field in answer.split(b"\r\n")):
            if name.lower() == b"x-valetkey-code":
                return value.decode()
        if answer.endswith(b"\r\n\r\nok"):
            return "VALID"
        return answer.split()[1].decode() if answer else "closed"

    def never_reached(
        self, code: str, line: str, *headers: str, host: str | None = "127.0.0.1", key: bool = True
    ) -> None:
        seen = len(self.upstream.heads)
        assert self.code(line, *headers, host=host, key=key) == code
        assert len(self.upstream.heads) == seen

    def last_head(self) -> list[bytes]:
        return self.upstream.heads[-1].split(b"\r\n")


@pytest.fixture(scope="module")
def door(server: RunningServer) -> Iterator[Door]:
    with RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        yield Door(server, upstream, service, server.issue(service))


def test_the_key_repeated_where_the_service_takes_none_is_not_sent(door: Door) -> None:
    key = door.key.value
    line = f"GET /SERVICE/a?again={key}&b=1 HTTP/1.1"
    assert door.code(line, f"x-api-key: {key}", f"x-again: Bearer {key}", "x-other: stays") == "VALID"
    assert key.encode() not in door.upstream.heads[-1]
    assert door.upstream.targets[-1] == b"/a?b=1"
    assert b"x-other: stays" in door.last_head()


@pytest.fixture(scope="module")
def query_door(server: RunningServer) -> Iterator[Door]:
    with RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url, auth="query:key")
        yield Door(server, upstream, service, server.issue(service))


ACCEPTED_PATHS = {
    "/": "/",
    "/a": "/a",
    "/a/": "/a/",
    "/%61": "/a",
    "/%7Euser/%2d": "/~user/-",
    "/a%20b": "/a%20b",
    "/caf%c3%a9": "/caf%C3%A9",
    "/caf%C3%A9/%E6%97%A5%E6%9C%AC": "/caf%C3%A9/%E6%97%A5%E6%9C%AC",
    "/a:b@c,d=e+f!$&'()*": "/a:b@c,d=e+f!$&'()*",
    "/%3Bv": "/%3Bv",
    "/a%3Fb%23c": "/a%3Fb%23c",
    '/"{|}': "/%22%7B%7C%7D",
    "/...": "/...",
    "/.well-known/x": "/.well-known/x",
    "/100%25": "/100%25",
}


@pytest.mark.parametrize("sent", ACCEPTED_PATHS)
def test_the_target_at_the_upstream_is_the_judged_path(door: Door, sent: str) -> None:
    before = len(door.server.events(door.key))
    assert door.code(f"GET /SERVICE{sent} HTTP/1.1") == "VALID"
    judged = door.server.events(door.key)[: -before or None]
    assert [event["path"] for event in judged] == [ACCEPTED_PATHS[sent]]
    assert door.upstream.targets[-1] == judged[0]["path"].encode()


@pytest.mark.parametrize(
    "query",
    [
        "a=b&&c",
        "a=%61&b=%2F%5c",
        "q=caf%C3%A9",
        "a=b?c=d",
        "=&=",
        "&",
        "a=1&a=2",
        "path=../..",
        "x=%00%0d%0a",
        "a=;b",
        "a=b+c%20d",
        "[]=1&%5B%5D=2",
        "'=|{}^`",
        "a=%zz%",
        "redirect=http://example.com//x",
    ],
)
def test_the_query_passes_byte_for_byte(door: Door, query: str) -> None:
    assert door.code(f"GET /SERVICE/q?{query} HTTP/1.1") == "VALID"
    assert door.upstream.targets[-1] == b"/q?" + query.encode()


def test_an_empty_query_is_no_query(door: Door) -> None:
    assert door.code("GET /SERVICE/a? HTTP/1.1") == "VALID"
    assert door.upstream.targets[-1] in (b"/a", b"/a?")


def test_neither_a_fragment_nor_the_authority_of_an_absolute_form_reaches_the_upstream(door: Door) -> None:
    seen = len(door.upstream.heads)
    door.code("GET http://elsewhere.example/SERVICE/abs HTTP/1.1")
    door.code("GET /SERVICE/frag#secret HTTP/1.1")
    for head in door.upstream.heads[seen:]:
        assert b"elsewhere" not in head and b"#" not in head and b"secret#" not in head
        assert head.split(b"\r\n")[0].split(b" ")[1] in (b"/abs", b"/frag")


def test_the_upstream_is_named_by_the_service_alone(door: Door) -> None:
    assert door.code("GET /SERVICE/a HTTP/1.1", host="localhost:1234") == "VALID"
    hosts = [line for line in door.last_head() if line.lower().startswith(b"host:")]
    assert hosts == [f"host: 127.0.0.1:{door.upstream.port}".encode()]


@pytest.mark.parametrize(
    "path",
    [
        "/a%2Fb", "/a%2fb", "/a%5Cb", "/a%5cb", "/a%00b", "/%2561", "/a%252Fb", "/..", "/.", "/a/../b", "/a/./b",
        "/a/%2e%2e/b", "/a/%2E./b", "/a/.%2e", "//", "/a//b", "/a\\b", "/a;x=1", "/a;/b", "/a%0Ab", "/a%0d%0ab",
        "/a%7Fb", "/a%1fb", "/%ff", "/%c3%28", "/a%", "/a%2", "/a%zz", "/a%25%36%31",
    ],
)  # fmt: skip
def test_a_path_that_can_be_read_in_two_ways_never_reaches_the_upstream(door: Door, path: str) -> None:
    door.never_reached("PATH_REFUSED", f"GET /SERVICE{path} HTTP/1.1")


@pytest.mark.parametrize(
    "octets", [b"/a\x01b", b"/a b", b"/\xff", b"/a\x7fb", b"/\xc3\x28", b"/a\x00b", "/é".encode()]
)
def test_raw_control_bytes_spaces_and_broken_utf_8_never_reach_the_upstream(
    door: Door, octets: bytes
) -> None:
    seen = len(door.upstream.heads)
    head = b"GET /%b%b HTTP/1.1\r\nHost: 127.0.0.1\r\n" % (door.service.encode(), octets)
    answer = door.server.raw(head + f"Authorization: Bearer {door.key.value}\r\n\r\n".encode())
    assert not answer or answer.startswith(b"HTTP/1.1 400")
    assert len(door.upstream.heads) == seen


def test_a_dot_segment_does_not_lead_out_of_the_service(door: Door) -> None:
    seen = len(door.upstream.heads)
    for line in (
        "GET /SERVICE/../SERVICE/a HTTP/1.1",
        "GET /./SERVICE/a HTTP/1.1",
        "GET //SERVICE/a HTTP/1.1",
    ):
        assert door.code(line) in ("PATH_REFUSED", "UNKNOWN_KEY")
    assert len(door.upstream.heads) == seen


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8300", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.1@evil"]
)
def test_an_unknown_host_is_refused(door: Door, host: str) -> None:
    door.never_reached("HOST_UNKNOWN", "GET /SERVICE/a HTTP/1.1", host=host)


def test_two_hosts_or_none_are_refused(door: Door) -> None:
    seen = len(door.upstream.heads)
    assert door.code("GET /SERVICE/a HTTP/1.1", "Host: 127.0.0.1") in ("HOST_UNKNOWN", "400")
    assert door.code("GET /SERVICE/a HTTP/1.1", host=None) in ("HOST_UNKNOWN", "400")
    assert len(door.upstream.heads) == seen


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "get", "Post", "PROPFIND", "CONNECT", "DEBUG"])
def test_a_method_that_is_not_known_is_refused(door: Door, method: str) -> None:
    door.never_reached("METHOD_REFUSED", f"{method} /SERVICE/a HTTP/1.1")


def test_connect_to_an_authority_is_refused(door: Door) -> None:
    seen = len(door.upstream.heads)
    assert door.code(f"CONNECT 127.0.0.1:{door.upstream.port} HTTP/1.1") not in ("VALID", "200")
    assert len(door.upstream.heads) == seen


def test_a_query_that_changes_the_method_is_refused(door: Door) -> None:
    for query in ("_method=DELETE", "a=1&%5fmethod=PUT", "_METHOD=put", "_method[]=x"):
        door.never_reached("METHOD_REFUSED", f"POST /SERVICE/a?{query} HTTP/1.1", "Content-Length: 0")


def test_headers_that_change_method_or_path_are_dropped(door: Door) -> None:
    tricks = (
        "X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE",
        "X-Original-URL: /admin", "X-Rewrite-URL: /admin", "X_HTTP_Method_Override: DELETE",
    )  # fmt: skip
    assert door.code("GET /SERVICE/a HTTP/1.1", *tricks) == "VALID"
    assert b"DELETE" not in door.upstream.heads[-1] and b"admin" not in door.upstream.heads[-1]


def test_an_upgrade_is_not_supported(door: Door) -> None:
    door.never_reached("NOT_SUPPORTED", "GET /SERVICE/a HTTP/1.1", "Upgrade: websocket")


def test_more_than_one_key_is_malformed(door: Door) -> None:
    other = f"Authorization: Bearer {door.key.value}"
    door.never_reached("MALFORMED", "GET /SERVICE/a HTTP/1.1", other)
    door.never_reached("MALFORMED", "GET /SERVICE/a HTTP/1.1", key=False)
    door.never_reached("MALFORMED", "GET /SERVICE/a HTTP/1.1", "Authorization: Basic dXNlcjpwYXNz", key=False)


def test_a_key_in_two_places_is_malformed(query_door: Door) -> None:
    door, value = query_door, query_door.key.value
    for query in (f"key={value}&key={value}", f"key={value}&ke%79={value}", f"key={value}&KEY={value}"):
        door.never_reached("MALFORMED", f"GET /SERVICE/a?{query} HTTP/1.1", key=False)


@pytest.mark.parametrize("spelling", ["key", "ke%79", "%6bey", "KEY", "Key"])
def test_a_key_in_the_query_is_replaced_however_its_name_is_spelled(query_door: Door, spelling: str) -> None:
    door = query_door
    assert door.code(f"GET /SERVICE/a?x=1&{spelling}={door.key.value}&y=2 HTTP/1.1", key=False) == "VALID"
    assert door.upstream.targets[-1] == b"/a?x=1&y=2&key=" + SECRET.encode()
    assert door.key.value.encode() not in door.upstream.heads[-1]


def test_connection_cannot_take_our_key_away(door: Door) -> None:
    assert door.code("GET /SERVICE/a HTTP/1.1", "Connection: authorization, x-mine", "X-Mine: 1") == "VALID"
    assert f"authorization: Bearer {SECRET}".encode().lower() in door.upstream.heads[-1].lower()
    assert b"x-mine" not in door.upstream.heads[-1].lower()


def test_credentials_cookies_and_forwarding_headers_of_the_caller_do_not_pass(door: Door) -> None:
    private = (
        "Cookie: session=private", "Proxy-Authorization: Basic private", "X-Forwarded-For: 192.0.2.private",
        "Forwarded: for=private", "X-Real-IP: private", "Via: private", "TE: private", "Keep-Alive: private",
        "X-Forwarded-Host: private",
    )  # fmt: skip
    assert door.code("GET /SERVICE/a HTTP/1.1", *private) == "VALID"
    assert b"private" not in door.upstream.heads[-1]


def test_forwarding_headers_say_nothing_about_the_caller(door: Door) -> None:
    key = door.server.issue(door.service, networks=["203.0.113.7/32"])
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        value = "for=203.0.113.7" if header == "Forwarded" else "203.0.113.7"
        answer = door.server.call("GET", f"/{door.service}/a", key, headers={header: value})
        assert answer.code == "NETWORK_DENIED"
    assert {event["address"] for event in door.server.events(key)} == {"127.0.0.1"}


def test_a_header_sent_twice_arrives_twice_in_order_and_ours_once(door: Door) -> None:
    assert door.code("GET /SERVICE/a HTTP/1.1", "X-One: 1", "X-Two: a", "X-One: 2") == "VALID"
    ours = [line.lower() for line in door.last_head() if line.lower().startswith(b"x-")]
    assert sorted(ours) == [b"x-one: 1", b"x-one: 2", b"x-two: a"]
    assert ours.index(b"x-one: 1") < ours.index(b"x-one: 2")
    assert sum(line.lower().startswith(b"authorization:") for line in door.last_head()) == 1


def test_smuggled_framing_never_makes_two_requests(door: Door) -> None:
    seen = len(door.upstream.heads)
    inner = f"GET /{door.service}/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    door.code(
        "POST /SERVICE/a HTTP/1.1", "Content-Length: 4", "Transfer-Encoding: chunked", f"\r\n0\r\n\r\n{inner}"
    )
    door.code("POST /SERVICE/a HTTP/1.1", "Content-Length: 1", "Content-Length: 2")
    assert not any(b"smuggled" in target for target in door.upstream.targets[seen:])
