"""What a caller gets of an upstream's answer: no redirect followed, no cookie, no secret, no word on our key."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import quote

import pytest

from e2e.flowing import Sink
from running_server import Answer, RunningServer, ValetKey
from standins.raw_upstream import RawUpstream, Reply, chunked, cut_short, gzipped, head, silent, with_length
from valetkey.demo.stage import free_port
from valetkey.demo.standin import OpenAIStandIn

pytestmark = pytest.mark.real

SECRET = 'sk-test-A1/b2+c3"d4=' + "Zy9" * 8


def answered(
    server: RunningServer, *script: Reply, calls: int = 1, method: str = "GET"
) -> tuple[list[Answer], RawUpstream]:
    """What callers got of a scripted upstream."""
    with RawUpstream(*script) as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        key = server.issue(service)
        return [server.call(method, f"/{service}/a/b", key) for _ in range(calls)], upstream


def forms(secret: str) -> dict[str, bytes]:
    """Every form that notes promise to catch."""
    raw = secret.encode()
    aligned = [b64encode(b"x" * shift + raw) for shift in range(3)]
    return {
        "raw": raw,
        "percent-encoded": quote(secret, safe="").encode(),
        "in JSON": json.dumps(secret).encode(),
        "hex": raw.hex().encode(),
        "base64 0": aligned[0],
        "base64 1": aligned[1],
        "base64 2": aligned[2],
    }


def traces(secret: str) -> dict[str, bytes]:
    """The parts of these forms that cannot be anything else; none of them may reach a caller."""
    middles = {name: form for name, form in forms(secret).items() if not name.startswith("base64")}
    middles["in JSON"] = json.dumps(secret)[1:-1].encode()
    for name, form in forms(secret).items():
        if name.startswith("base64"):
            middles[name] = form[4:-4]
    return middles


@pytest.mark.parametrize("form", forms(SECRET))
@pytest.mark.parametrize("carried", ["length", "chunked", "gzip", "header"])
def test_the_real_key_never_comes_back_in_any_form(server: RunningServer, form: str, carried: str) -> None:
    echoed = b"before " + forms(SECRET)[form] + b" after"
    reply = {
        "length": with_length(echoed),
        "chunked": chunked(*(echoed[place : place + 1] for place in range(len(echoed)))),
        "gzip": gzipped(echoed),
        "header": with_length(b"before  after", "X-Echo: " + echoed.decode()),
    }[carried]
    (answer,), _ = answered(server, reply)
    assert answer.status == 200
    for trace in traces(SECRET).values():
        assert trace not in answer.everything
    assert b"before " in answer.body and b" after" in answer.body
    if carried != "header":
        assert len(answer.body) == len(echoed)
        assert b"***" in answer.body


def test_an_answer_without_secrets_passes_unchanged(server: RunningServer) -> None:
    body = bytes(range(256)) * 50
    (answer,), _ = answered(
        server, with_length(body, "X-Odd: caf\xe9", "Content-Type: application/octet-stream")
    )
    assert answer.body == body
    assert answer.header("content-length") == str(len(body))


def test_a_compressed_answer_nobody_asked_for_is_sent_plain(server: RunningServer) -> None:
    (answer,), upstream = answered(server, gzipped(b"hello" * 1000, "Content-Type: text/plain"))
    assert answer.body == b"hello" * 1000
    assert answer.header("content-encoding") is None
    assert b"accept-encoding: identity" in upstream.heads[0].lower()


def test_a_coding_that_cannot_be_read_is_refused(server: RunningServer) -> None:
    (answer,), _ = answered(server, with_length(b"\x00\x01", "Content-Encoding: br"))
    assert answer.code == "UPSTREAM_FAILED"


def test_a_bomb_is_not_unpacked(server: RunningServer) -> None:
    bomb = gzip.compress(b"\0" * 50_000_000, mtime=0)
    with RawUpstream(with_length(bomb, "Content-Encoding: gzip")) as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        with server.open("GET", f"/{service}/a", server.issue(service)) as end:
            received = 0
            try:
                while piece := end.recv(1 << 20):
                    received += len(piece)
            except ConnectionError:
                pass
    assert received < 50_000_000


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_a_redirect_is_handed_on_and_never_followed(server: RunningServer, status: str) -> None:
    with RawUpstream(with_length(b"elsewhere")) as elsewhere:
        (answer,), _ = answered(server, with_length(b"", f"Location: {elsewhere.url}/x", status=status))
        assert answer.status == int(status.split()[0])
        assert answer.header("location") == f"{elsewhere.url}/x"
        assert elsewhere.connections == 0


def test_addresses_of_the_services_own_host_become_the_gateways(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        key = server.issue(service)
        upstream.script = (
            with_length(
                b"",
                f"Location: {upstream.url}/v2/a?b=c",
                f"Content-Location: {upstream.url}/v2",
                f'Link: <{upstream.url}/p?page=2>; rel="next", <https://other.example/>; rel="x"',
                status="302 Found",
            ),
        )
        answer = server.call("GET", f"/{service}/a", key)
    ours = f"{server.url}/{service}"
    assert answer.header("location") == f"{ours}/v2/a?b=c"
    assert answer.header("content-location") == f"{ours}/v2"
    assert answer.header("link") == f'<{ours}/p?page=2>; rel="next", <https://other.example/>; rel="x"'


def test_a_redirect_that_carries_the_key_is_scrubbed(server: RunningServer) -> None:
    location = f"Location: https://other.example/?key={quote(SECRET, safe='')}"
    (answer,), _ = answered(server, with_length(b"", location, status="302 Found"))
    assert quote(SECRET, safe="") not in (answer.header("location") or "")


def test_cookies_and_headers_that_speak_for_the_gateway_are_dropped(server: RunningServer) -> None:
    dropped = (
        "Set-Cookie: a=b",
        "Alt-Svc: h3=':1'",
        "Strict-Transport-Security: max-age=1",
        "Clear-Site-Data: *",
    )
    (answer,), _ = answered(
        server, with_length(b"ok", *dropped, "Connection: x-hop", "X-Hop: 1", "X-Kept: 1")
    )
    names = {name.lower() for name, _ in answer.headers}
    assert not names & {"set-cookie", "alt-svc", "strict-transport-security", "clear-site-data", "x-hop"}
    assert answer.header("x-kept") == "1"


def test_a_page_is_put_in_a_sandbox(server: RunningServer) -> None:
    page = with_length(b"<script>1</script>", "Content-Type: text/html; charset=utf-8")
    (answer,), _ = answered(server, page)
    assert answer.header("content-security-policy") == "sandbox"
    assert answer.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        ("401 Unauthorized", b"Incorrect API key provided: sk-test-A1****"),
        ("403 Forbidden", b'{"error": "Invalid API key"}'),
        ("401 Unauthorized", b""),
    ],
)
def test_a_vendors_words_about_our_key_are_answered_by_our_own(
    server: RunningServer, status: str, body: bytes
) -> None:
    (answer,), _ = answered(
        server, with_length(body, "WWW-Authenticate: Basic vendor", "X-Vendor: says", status=status)
    )
    assert (answer.code, answer.status) == ("UPSTREAM_REFUSED_SECRET", 502)
    assert b"sk-test" not in answer.everything and b"endor" not in answer.everything


def test_a_missing_right_is_the_callers_to_know(server: RunningServer) -> None:
    body = b'{"error": "You may not read project 7."}'
    (answer,), _ = answered(server, with_length(body, status="403 Forbidden"))
    assert (answer.status, answer.body) == (403, body)


@pytest.mark.parametrize(
    "status", ["400 Bad", "404 Not Found", "409 Conflict", "429 Slow", "500 Broken", "503 Busy"]
)
def test_other_errors_of_the_vendor_pass_as_they_are(server: RunningServer, status: str) -> None:
    reply = with_length(b'{"vendor": 1}', "Retry-After: 7", "Content-Type: application/json", status=status)
    (answer,), _ = answered(server, reply)
    assert (answer.status, answer.body) == (int(status.split()[0]), b'{"vendor": 1}')
    assert answer.header("retry-after") == "7"
    assert answer.header("x-valetkey-code") is None


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_body_ends_at_once(server: RunningServer, status: str) -> None:
    (answer,), _ = answered(server, Reply((head(status, "X-Kept: 1"),)))
    assert (answer.status, answer.body, answer.header("x-kept")) == (int(status.split()[0]), b"", "1")


def test_head_is_answered_with_length_and_without_body(server: RunningServer) -> None:
    answers, _ = answered(server, Reply((head("200 OK", "Content-Length: 1234"),)), method="HEAD", calls=2)
    assert [(a.status, a.body, a.header("content-length")) for a in answers] == [(200, b"", "1234")] * 2


@pytest.mark.parametrize("reset", [False, True])
def test_an_answer_that_breaks_off_looks_broken(server: RunningServer, reset: bool) -> None:
    with RawUpstream(cut_short(b"half", 8, reset=reset)) as upstream:
        service = server.open_service(SECRET, base_url=upstream.url)
        key = server.issue(service)
        received = b""
        with server.open("GET", f"/{service}/a", key) as end:
            try:
                while piece := end.recv(65536):
                    received += piece
            except ConnectionError:
                pass
        assert not received.endswith(b"0\r\n\r\n")
        assert b"Content-Length: 4\r\n" not in received
        (event,) = server.closed_events(key, 1)
        assert event["end"] == "upstream_failed"


@pytest.mark.parametrize(
    "reply",
    [
        silent(0.01),
        Reply((b"this is not HTTP\r\n\r\n",), then="close"),
        Reply((b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",), then="close"),
        Reply((b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",), then="close"),
        Reply((), then="reset"),
    ],
    ids=["nothing", "no HTTP", "negative length", "endless header", "reset"],
)
def test_an_upstream_that_does_not_speak_http_has_failed(server: RunningServer, reply: Reply) -> None:
    (answer,), _ = answered(server, reply)
    assert (answer.code, answer.status) == ("UPSTREAM_FAILED", 502)
    assert SECRET.encode() not in answer.everything


def test_a_secret_in_the_query_does_not_leak_through_an_error(server: RunningServer) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        service = server.open_service("weather-key-0123456789", base_url=url, auth="query:appid")
        key = server.issue(service)
        answer = server.call("GET", f"/{service}/a?appid={key.value}")
    assert answer.code == "UPSTREAM_FAILED"
    assert b"weather-key" not in answer.everything and key.value.encode() not in answer.everything
    assert "weather-key" not in server.errors and key.value not in server.errors


@pytest.fixture(scope="module")
def hasty() -> Iterator[RunningServer]:
    """A server that waits for nobody, with a proxy of nobody's in its environment."""
    nowhere = "http://127.0.0.1:9"
    names = ("http_proxy", "https_proxy", "all_proxy")
    proxies = dict.fromkeys((*names, *map(str.upper, names)), nowhere)
    settings = {"first_byte_timeout": 0.6, "idle_timeout": 0.6, "body_timeout": 0.6, "max_body_mb": 1}
    with RunningServer(settings=settings, environment=proxies) as running_server:
        yield running_server


def closed(end: socket.socket) -> bool:
    """Whether the other side hung up, politely or not, before the patience of the socket ran out."""
    try:
        return end.recv(1) == b""
    except ConnectionResetError:
        return True


def with_key(server: RunningServer, upstream: RawUpstream) -> tuple[str, ValetKey]:
    service = server.open_service(SECRET, base_url=upstream.url)
    return service, server.issue(service)


def test_proxies_of_the_environment_have_no_effect(hasty: RunningServer) -> None:
    (answer,), _ = answered(hasty, with_length(b"straight"))
    assert answer.body == b"straight"


def test_an_upstream_that_does_not_answer_in_time_is_given_up(hasty: RunningServer) -> None:
    with RawUpstream(silent(4.0)) as upstream:
        service, key = with_key(hasty, upstream)
        answer = hasty.call("GET", f"/{service}/a", key)
        assert (answer.code, answer.status) == ("UPSTREAM_TIMEOUT", 504)
        (event,) = hasty.closed_events(key, 1)
        assert (event["end"], event["code"]) == ("timeout", "UPSTREAM_TIMEOUT")


def test_an_answer_that_stalls_is_broken_off(hasty: RunningServer) -> None:
    stalling = Reply((head("200 OK", "Transfer-Encoding: chunked"), b"3\r\none\r\n", 4.0))
    with RawUpstream(stalling) as upstream:
        service, key = with_key(hasty, upstream)
        received = b""
        with hasty.open("GET", f"/{service}/a", key) as end:
            try:
                while piece := end.recv(65536):
                    received += piece
            except ConnectionError:
                pass
        assert not received.endswith(b"0\r\n\r\n")
        assert hasty.closed_events(key, 1)[0]["end"] == "timeout"


def test_a_caller_that_does_not_send_its_body_is_given_up(hasty: RunningServer) -> None:
    with RawUpstream() as upstream:
        service, key = with_key(hasty, upstream)
        with hasty.open("POST", f"/{service}/a", key, headers={"Content-Length": "500000"}) as end:
            end.sendall(b"x" * 10)
            response = http.client.HTTPResponse(end)
            response.begin()
            assert response.headers["x-valetkey-code"] == "UPSTREAM_TIMEOUT"
            assert response.headers["connection"] == "close"
            response.read()
            assert closed(end)
        assert hasty.closed_events(key, 1)[0]["end"] == "timeout"
        assert not upstream.bodies


def test_a_body_that_comes_byte_by_byte_is_given_up_too(hasty: RunningServer) -> None:
    with RawUpstream() as upstream:
        service, key = with_key(hasty, upstream)
        with hasty.open("POST", f"/{service}/a", key, headers={"Content-Length": "500000"}) as end:
            end.settimeout(0.2)
            received = b""
            for _ in range(75):
                with contextlib.suppress(TimeoutError):
                    received = end.recv(65536)
                    break
                end.sendall(b"x")
        assert b"UPSTREAM_TIMEOUT" in received
        assert hasty.closed_events(key, 1)[0]["end"] == "timeout"
        assert not upstream.bodies


def test_a_body_announced_over_the_limit_is_refused_before_it_is_read(hasty: RunningServer) -> None:
    with RawUpstream() as upstream:
        service, key = with_key(hasty, upstream)
        answer = hasty.call("POST", f"/{service}/a", key, body=b"x" * 1_100_000)
        assert (answer.code, answer.status) == ("TOO_LARGE", 413)
        assert upstream.connections == 0


def test_a_service_may_take_less_and_its_change_counts_at_once(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=upstream.url, max_body_mb=1)
        key = server.issue(service)
        body = b"x" * 1_100_000
        assert server.call("POST", f"/{service}/a", key, body=body).code == "TOO_LARGE"
        changed = server.manage("PATCH", f"/services/{service}", {"max_body_mb": 2})
        assert changed["max_body"] == 2_000_000
        assert server.manage("PATCH", f"/services/{service}", {"price": "1"})["max_body"] == 2_000_000
        assert server.call("POST", f"/{service}/a", key, body=body).code == "VALID"
        assert len(upstream.bodies) == 1


def test_a_chunked_body_over_the_limit_is_refused_when_it_is_reached(hasty: RunningServer) -> None:
    with Sink() as sink:
        service = hasty.open_service(SECRET, base_url=sink.url)
        key = hasty.issue(service)
        connection = hasty.connect()
        body = (b"x" * 100_000 for _ in range(11))
        connection.request("POST", f"/{service}/a", body=body, headers=key.bearer, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, response.headers["x-valetkey-code"]) == (413, "TOO_LARGE")
        connection.close()
        assert sink.hung_up.wait(1.0)
        assert sink.received <= 1_000_000
        assert hasty.closed_events(key, 1)[0]["code"] == "TOO_LARGE"


def test_why_an_upstream_failed_stands_in_the_record(hasty: RunningServer, openai_api: OpenAIStandIn) -> None:
    closing = Reply((head("200 OK", "Content-Length: 9"), b"abc"), then="close")
    with RawUpstream(closing) as upstream:
        gone = free_port()
        causes = {
            upstream.url: "it closed the connection",
            f"http://127.0.0.1:{gone}": "it refused the connection",
            f"https://127.0.0.1:{openai_api.port}": "TLS could not be agreed on with it",
        }
        for url, cause in causes.items():
            service = hasty.open_service(SECRET, base_url=url)
            key = hasty.issue(service)
            with suppress(http.client.HTTPException, OSError):
                hasty.call("GET", f"/{service}/a", key)
            assert hasty.closed_events(key, 1)[0]["cause"] == cause
