"""Headers that would carry a second key, take ours away, or change the call behind the judge's back."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from attack.target import SECRET, Target, answers, assert_ours, fields_of, request, target_of
from running_server import RunningServer

pytestmark = pytest.mark.real

GET = "GET /SERVICE/a HTTP/1.1"


@pytest.fixture(scope="module")
def target(attacked: RunningServer) -> Iterator[Target]:
    with target_of(attacked) as made:
        yield made


@pytest.fixture(scope="module")
def in_header(attacked: RunningServer) -> Iterator[Target]:
    """The key stands in a header of the vendor's own."""
    with target_of(attacked, auth="header:x-api-key") as made:
        made.placed = b"x-api-key: " + SECRET.encode()
        yield made


@pytest.fixture(scope="module")
def in_query(attacked: RunningServer) -> Iterator[Target]:
    """The key stands in the query."""
    with target_of(attacked, auth="query:api_key") as made:
        made.placed = b"api_key=" + SECRET.encode()
        yield made


@pytest.fixture(scope="module")
def in_basic(attacked: RunningServer) -> Iterator[Target]:
    """The key is the user's name."""
    with target_of(attacked, auth="basic") as made:
        yield made


# -- one key, in one place


def refused(target: Target, *headers: str, line: str = GET) -> None:
    """The call is refused as malformed and nothing of it leaves."""
    before = len(target.upstream.heads)
    said = target.send(request(line, *headers, key=False))
    assert (said[0].status, said[0].code) in ((401, "MALFORMED"), (400, "MALFORMED"))
    assert len(target.upstream.heads) == before


NOT_ONE_KEY = [
    (),
    ("Authorization:",),
    ("Authorization: Bearer",),
    ("Authorization: Bearer ",),
    ("Authorization: THEKEY",),
    ("Authorization: Bearer THEKEY", "Authorization: Bearer THEKEY"),
    ("Authorization: Bearer THEKEY", "authorization: Basic eDp5"),
    ("Authorization: Bearer THEKEY", "Authorization:"),
    ("Authorization: Bearer THEKEY, Bearer THEKEY",),
    ("Authorization: Bearer THEKEY,THEKEY",),
    ("Authorization: Bearer THEKEY THEKEY",),
    ("Authorization: Bearer,THEKEY",),
    ("Authorization: Bearer:THEKEY",),
    ("Authorization: BearerTHEKEY",),
    ("Authorization: Bearer\tTHEKEY",),
    ('Authorization: Bearer "THEKEY"; DROP',),
    ("Authorization: Bearer KÉY",),
    ("Authorization: Basic THEKEY",),
    ("Authorization: Token THEKEY",),
    ("Authorization : Bearer THEKEY",),
    ("Authorization\t: Bearer THEKEY",),
    ("Proxy-Authorization: Bearer THEKEY",),
    ("X-Authorization: Bearer THEKEY",),
    ("Authorization_: Bearer THEKEY",),
    ("X-Api-Key: THEKEY",),
    ("Cookie: Authorization=Bearer THEKEY",),
    ("Connection: authorization",),
    ("Authorization: Bearer " + "k" * 2000,),
]


@pytest.mark.parametrize("headers", NOT_ONE_KEY, ids=range(len(NOT_ONE_KEY)))
def test_what_is_not_exactly_one_key_where_it_belongs_is_malformed(
    target: Target, headers: tuple[str, ...]
) -> None:
    refused(target, *headers)


def test_a_key_in_a_header_of_the_vendors_own_is_one_too(in_header: Target) -> None:
    assert in_header.send(request(GET, "X-Api-Key: THEKEY", key=False))[0].status == 200
    for headers in (
        ("X-Api-Key: THEKEY", "X-Api-Key: THEKEY"), ("X-Api-Key: THEKEY", "x-api-key:"),
        ("X-Api-Key: THEKEY, THEKEY",),
        ("X_Api_Key: THEKEY",),
        ("Authorization: Bearer THEKEY",), ("X-Api-Key: Bearer THEKEY",), ("X-Api-Key:",),
    ):  # fmt: skip
        refused(in_header, *headers)
    # What else looks like that header to a server behind CGI is dropped.
    in_header.send(request(GET, "X-Api-Key: THEKEY", "X_API_KEY: evil", "x_Api-Key: evil", key=False))
    assert b"evil" not in in_header.upstream.heads[-1]
    in_header.assert_one_request_each()


def test_a_key_in_the_query_is_one_however_its_name_is_written(in_query: Target) -> None:
    for query in (
        "api_key=THEKEY",
        "%61pi_key=THEKEY",
        "a=1&API_KEY=THEKEY&b=2",
        "api%5Fkey=THEKEY",
        "api.key=THEKEY",
        "api_key[]=THEKEY",
    ):
        assert in_query.send(request(f"GET /SERVICE/a?{query} HTTP/1.1", key=False))[0].status == 200, query
        assert in_query.upstream.targets[-1].endswith(b"api_key=" + SECRET.encode())
    for query in (
        "api_key=THEKEY&api_key=THEKEY", "api_key=THEKEY&ap%69_key=THEKEY", "api_key=THEKEY&API_KEY=x",
        "api_key=THEKEY;api_key=THEKEY",
        "api_key=",
        "api_key", "a=1;api_key=THEKEY", "api_key=THEKEY&api_key[]=x", "api_key=THEKEY&api+key=x",
        "api_key=THEKEY&api%20key=x",
        "api_key=THEKEY%00", "api_key=THEKEY%0d%0aX:1", "api_key=THEKEY%20x", "apikey=THEKEY",
    ):  # fmt: skip
        refused(in_query, line=f"GET /SERVICE/a?{query} HTTP/1.1")
    in_query.assert_one_request_each()


def test_a_basic_credential_holds_one_key(in_basic: Target) -> None:
    def basic(pair: str) -> str:
        return "Authorization: Basic " + base64.b64encode(in_basic.fill(pair.encode())).decode()

    for pair in ("THEKEY:", ":THEKEY", "x:THEKEY"):
        assert in_basic.send(request(GET, basic(pair), key=False))[0].status == 200, pair
        (line,) = [
            value for name, value in fields_of(in_basic.upstream.heads[-1]) if name == b"authorization"
        ]
        assert base64.b64decode(line.split()[1]) == SECRET.encode() + b":"
    for headers in (
        (basic("THEKEY"),), (basic(":"),), (basic("THEKEY\r\nX: y:"),), (basic("THEKEY:"), basic("THEKEY:")),
        ("Authorization: Basic %%%",), ("Authorization: Basic",), (basic("THEKEY:") + " x",),
        ("Authorization: Bearer THEKEY",),
    ):  # fmt: skip
        refused(in_basic, *headers)


# -- hop by hop, and whatever else would change the call


HOPS = [
    ("Connection: authorization",),
    ("Connection: close, Authorization",),
    ("Connection: keep-alive, host, content-length, transfer-encoding",),
    ("Connection: authorization", "Connection: x-api-key, accept-encoding"),
    ("Connection: upgrade, http2-settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    (
        "Proxy-Connection: authorization",
        "Keep-Alive: timeout=9999",
        "TE: trailers, chunked",
        "Trailer: authorization",
    ),
    ("Connection: ,,,  ,", "Upgrade: h2c, TLS/1.0"),
    ("Connection: \xfe",),
]


@pytest.mark.parametrize("headers", HOPS, ids=range(len(HOPS)))
def test_what_ends_at_the_next_hop_takes_nothing_of_ours_away(
    target: Target, headers: tuple[str, ...]
) -> None:
    before = len(target.upstream.heads)
    said = target.send(request("POST /SERVICE/a HTTP/1.1", *headers, "Content-Length: 2", body=b"{}"))
    assert said[0].status == 200
    assert len(target.upstream.heads) == before + 1
    assert_ours(target.upstream.heads[-1], target)
    assert target.upstream.bodies[-1] == b"{}"


def test_what_connection_names_is_not_handed_on(target: Target) -> None:
    target.send(request(GET, "Connection: x-mine, X-Other", "X-Mine: evil", "X-Other: evil", "X-Third: good"))
    assert b"evil" not in target.upstream.heads[-1] and b"x-third: good" in target.upstream.heads[-1]


OVERRIDES = [
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_METHOD_OVERRIDE",
    "X-Original-URL",
    "X-Rewrite-URL", "X_Original_URL", "X-Original-Method", "X-Forwarded-Method", "X-Forwarded-Uri",
    "X-Forwarded-Host",
    "X-Forwarded-For", "X_Forwarded_For", "X-Forwarded-Prefix", "Forwarded", "X-Real-IP", "True-Client-IP",
    "Via",
    "CF-Connecting-IP", "X-Client-IP", "Proxy", "Proxy-Authorization", "Proxy-Authenticate", "Cookie",
    "Accept-Encoding",
    "Range", "If-Range", "Expect_", "Keep-Alive", "TE",
]  # fmt: skip


@pytest.mark.parametrize("name", OVERRIDES)
def test_no_header_changes_the_call_behind_the_judges_back(target: Target, name: str) -> None:
    spelled = {name, name.lower(), name.upper()}
    said = target.send(request(GET, *(f"{one}: evil-value" for one in spelled)))
    assert said[0].status == 200
    head = target.upstream.heads[-1]
    assert head.startswith(b"GET /a HTTP/1.1\r\n")
    if name != "Expect_":  # no header that anyone knows
        assert b"evil-value" not in head.lower()


@pytest.mark.parametrize(
    "query", ["_method=DELETE", "%5Fmethod=PUT", "a&_METHOD=x", "_method[]=x", "a;_method=x"]
)
def test_no_field_of_a_query_changes_the_method(target: Target, query: str) -> None:
    before = len(target.upstream.heads)
    said = target.send(request(f"GET /SERVICE/a?{query} HTTP/1.1"))
    assert said[0].code in ("METHOD_REFUSED", "MALFORMED")
    assert len(target.upstream.heads) == before


METHODS = [
    "TRACE",
    "TRACK",
    "CONNECT",
    "DEBUG",
    "PROPFIND",
    "get",
    "GeT",
    "GET\0",
    "G E T",
    "POSTT",
    "LINK",
    "PURGE",
    "SOURCE",
]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_not_known_goes_nowhere(target: Target, method: str) -> None:
    before = len(target.upstream.heads)
    said = target.send(request(f"{method} /SERVICE/a HTTP/1.1"))
    assert said[0].code in ("METHOD_REFUSED", "MALFORMED", "PATH_REFUSED")
    assert len(target.upstream.heads) == before


def test_another_protocol_is_offered_in_vain(target: Target) -> None:
    before = len(target.upstream.heads)
    for offer in ("websocket", "WebSocket", "h2c, websocket"):
        said = target.send(
            request(GET, "Connection: Upgrade", f"Upgrade: {offer}", "Sec-WebSocket-Version: 13")
        )
        assert said[0].code == "NOT_SUPPORTED"
    assert len(target.upstream.heads) == before


# -- behind a refusal


BEHIND = request("GET /SERVICE/behind HTTP/1.1")
UNREAD = b"GET /behind HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
REFUSALS = {
    "a path": (request("GET /SERVICE/.. HTTP/1.1"), 3),
    "a method": (request("TRACE /SERVICE/a HTTP/1.1"), 3),
    "a host": (request(host="evil"), 3),
    "no key": (request(key=False), 3),
    "an unknown key": (request("GET /SERVICE/a HTTP/1.1", "Authorization: Bearer vk_prv_x", key=False), 3),
    "an offer": (request(GET, "Connection: upgrade", "Upgrade: websocket"), 3),
    "a body": (request("POST /SERVICE/.. HTTP/1.1", "Content-Length: 5", body=b"hello"), 3),
    "chunks": (
        request("POST /SERVICE/.. HTTP/1.1", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), 3
    ),
    "a request as body": (
        request("POST /SERVICE/.. HTTP/1.1", f"Content-Length: {len(UNREAD)}", "Expect: 100-continue",
        body=UNREAD), 3
    ),
    "a body that is too large": (request("POST /SERVICE/a HTTP/1.1", "Content-Length: 999999999999"), 1),
    "no form": (request("GET /SERVICE/a HTTP/9.9"), 1),
    "a tunnel": (request("CONNECT 127.0.0.1:PORT HTTP/1.1"), 1),
    "an end": (request("GET /SERVICE/.. HTTP/1.1", "Connection: close"), 1),
    "an older form": (request("GET /SERVICE/.. HTTP/1.0"), 1),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "answered"), REFUSALS.values(), ids=REFUSALS.keys())
def test_behind_a_refused_call_the_next_is_judged_by_itself_or_not_at_all(
    target: Target, attack: bytes, answered: int
) -> None:
    before = len(target.upstream.heads)
    said = target.send(attack + BEHIND)
    assert said[0].status >= 400 and said[0].code is not None
    assert len(said) == answered
    assert target.upstream.targets[before:] == ([b"/behind"] if answered == 3 else [])


def test_hundreds_of_calls_ahead_are_answered_in_order_and_sent_once_each(target: Target) -> None:
    before = len(target.upstream.heads)
    calls = [request(f"GET /SERVICE/{'..' if number % 3 == 0 else number} HTTP/1.1") for number in range(200)]
    said = target.send(b"".join(calls))
    assert [one.status for one in said] == [400 if number % 3 == 0 else 200 for number in range(200)] + [200]
    assert target.upstream.targets[before:] == [b"/%d" % number for number in range(200) if number % 3]


def test_a_flood_of_headers_is_refused_whole(target: Target) -> None:
    before = len(target.upstream.heads)
    for head in (
        request(GET, *(f"X-{number}: x" for number in range(400))),
        request(GET, "X: " + "x" * 40_000),
        request(
            GET, *(f"{'x' * 200}{number}: " for number in range(120)), *("y: " + "z" * 400 for _ in range(60))
        ),
        request("GET /SERVICE/" + "a" * 40_000 + " HTTP/1.1"),
        request("GET /SERVICE/a?" + "a=b&" * 20_000 + " HTTP/1.1"),
    ):
        said = answers(target.raw(target.fill(head)))
        assert [one.code for one in said] == ["TOO_LARGE"]
    assert len(target.upstream.heads) == before


def test_all_that_arrived_is_ours_and_recorded_once(target: Target) -> None:
    target.send(request())
    target.assert_one_request_each()
