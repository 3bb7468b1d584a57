"""Where a call goes is judged once: no spelling of a path, a target or a host name leads anywhere else."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from attack.target import LAST, Target, answers, assert_ours, request, target_of
from running_server import RunningServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def target(attacked: RunningServer) -> Iterator[Target]:
    """The upstream has a fixed prefix that no call may leave."""
    with target_of(attacked) as made:
        made.server.manage(
            "PATCH", f"/services/{made.service}", {"base_url": f"{made.upstream.url}/tenant/7"}
        )
        yield made


REFUSED_PATHS = [
    b"/%2e%2e/8", b"/%2E%2E/8", b"/.%2e/8", b"/%2e./8", b"/..%2f8", b"/..%5c8", b"/..\\8", b"/..;/8", b"/..;x=1/8",
    b"/a/..", b"/a/.", b"/./a", b"/a/%2e/b", b"/%252e%252e/8", b"/%25%32%65/8", b"/%c0%ae%c0%ae/8", b"/%c0%af8",
    b"/%e0%80%af8", b"/%f8%80%80%80%af", b"/%ed%a0%80", b"/%u002e%u002e/8", b"/%2", b"/%", b"/%%32%65", b"/%0d%0aX:1",
    b"/%0D%0ATransfer-Encoding:%20chunked", b"/%00", b"/a%00.json", b"/a;jsessionid=1", b"/a;", b"//8", b"/a//b",
    b"/a/", b"/\\\\evil", b"/%5c%5cevil", b"/%1b[31m", b"/%7f", b"/%c2%85", b"/\xe2\x80\xae", b"/\xc0\xaf", b"/a\x0bb",
    b"/a\x00b", b"/a b",
]  # fmt: skip
FINE = {b"/a/": b"/tenant/7/a/", b"/%c2%85": b"/tenant/7/%C2%85"}
"""One of them ends in a slash, one holds a control character beyond ASCII: said as it was judged."""


@pytest.mark.parametrize("path", [path for path in REFUSED_PATHS if path not in FINE])
def test_a_path_with_two_readings_never_leaves_the_gateway(target: Target, path: bytes) -> None:
    before = len(target.upstream.heads)
    said = target.send(request().replace(b"/SERVICE/a", b"/SERVICE" + path))
    assert (said[0].status, said[0].code) in ((400, "PATH_REFUSED"), (400, "MALFORMED"))
    assert len(target.upstream.heads) == before


REFUSED_TARGETS = [
    b"/SERVICE%2fa", b"/SERVICE%2f..%2fa", b"/%2fSERVICE/a", b"//SERVICE/a", b"///SERVICE/a", b"/./SERVICE/a",
    b"/../SERVICE/a", b"/SERVICE;x/a", b"/SERVICE%00/a", b"/SERVICE%20/a", b"/SERVICE./a", b"/SERVICE:/../a",
    b"/SERVICE:other/a", b"/SERVICE:api:api/a", b"/SERVICE@evil/a", b"/~default/../SERVICE/a", b"SERVICE/a", b"*",
    b"http:/SERVICE/a", b"http:SERVICE/a", b"http:///SERVICE/a", b"http://evil.example/SERVICE/a",
    b"http://127.0.0.1@evil.example/SERVICE/a", b"http://evil.example@127.0.0.1/SERVICE/a",
    b"http://127.0.0.1:80/SERVICE/a", b"http://127.0.0.1\\@evil/SERVICE/a", b"http://127.0.0.1#@evil/SERVICE/a",
    b"http://127.0.0.1/SERVICE/../a", b"http://127.0.0.1//SERVICE/a", b"ftp://127.0.0.1/SERVICE/a",
    b"file:///etc/passwd", b"127.0.0.1:PORT", b"/SERVICE/a#b", b"/SERVICE/a#@evil", b"?/SERVICE/a", b"",
]  # fmt: skip


@pytest.mark.parametrize("aim", REFUSED_TARGETS)
def test_no_form_of_a_target_finds_the_service_by_another_name(target: Target, aim: bytes) -> None:
    before = len(target.upstream.heads)
    said = target.send(request().replace(b"/SERVICE/a", aim))
    assert said[0].status >= 400 and said[0].code in (
        "PATH_REFUSED", "MALFORMED", "UNKNOWN_KEY", "HOST_UNKNOWN", "METHOD_REFUSED"
    )  # fmt: skip
    assert len(target.upstream.heads) == before


UNTOUCHED = {
    b"/SERVICE/a": b"/tenant/7/a",
    b"/SERVICE/a/": b"/tenant/7/a/",
    b"/SERVICE": b"/tenant/7/",
    b"/SERVICE?x": b"/tenant/7/?x",
    b"/SERVICE/a?/../../8": b"/tenant/7/a?/../../8",
    b"/SERVICE/a?b=%2e%2e%2f": b"/tenant/7/a?b=%2e%2e%2f",
    b"/SERVICE/a%3f/b%23": b"/tenant/7/a%3F/b%23",
    b"/SERVICE/%EF%BC%8E%EF%BC%8E/8": b"/tenant/7/%EF%BC%8E%EF%BC%8E/8",
    b"/SERVICE/%e2%88%95": b"/tenant/7/%E2%88%95",
    b"/SERVICE/http://evil.example": None,
    b"/SERVICE/@evil.example": b"/tenant/7/@evil.example",
    b"/SERVICE/:80": b"/tenant/7/:80",
    b"http://127.0.0.1/SERVICE/a": b"/tenant/7/a",
    b"HTTPS://127.0.0.1/SERVICE/a?b": b"/tenant/7/a?b",
}


@pytest.mark.parametrize(("aim", "arrives"), UNTOUCHED.items())
def test_what_has_one_reading_arrives_below_the_fixed_prefix_byte_for_byte(
    target: Target, aim: bytes, arrives: bytes | None
) -> None:
    before = len(target.upstream.heads)
    target.send(request().replace(b"/SERVICE/a", aim, 1))
    assert target.upstream.targets[before:] == ([] if arrives is None else [arrives])


UNKNOWN_HOSTS = [
    "evil.example", "127.0.0.1.evil.example", "evil.example:PORT", "127.0.0.1@evil.example", "evil.example@127.0.0.1",
    "127.0.0.1,evil.example", "127.0.0.1 evil.example", "127.0.0.1/evil", "127.0.0.1?", "127.0.0.1#", "127.0.0.1\\",
    "127.0.0.1:PORT:PORT", "127.0.0.1:evil", "[127.0.0.1]", "[::ffff:127.0.0.1]", "[::1%25lo]", "[::1", "::1", "[]",
    ":", ":PORT", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "127.0.0.2", "0.0.0.0", "[::]", "localhost.evil",
    "localhost%00", "local\u200bhost", "", "*", "%6cocalhost", "169.254.169.254",
]  # fmt: skip


@pytest.mark.parametrize("host", UNKNOWN_HOSTS)
def test_a_name_that_is_not_this_servers_is_unknown_on_both_ports(target: Target, host: str) -> None:
    before = len(target.upstream.heads)
    for line in (
        "GET /SERVICE/a HTTP/1.1",
        "POST /v1/verify HTTP/1.1",
        "POST /v1/derive HTTP/1.1",
        "GET /readyz HTTP/1.1",
    ):
        assert target.send(request(line, host=host))[0].code == "HOST_UNKNOWN", line
    assert len(target.upstream.heads) == before
    assert control(target, host) in (400, 421)


def test_a_name_that_is_not_this_servers_is_unknown_in_all_other_headers_too(target: Target) -> None:
    said = target.send(request("GET /SERVICE/a HTTP/1.1", "X-Forwarded-Host: evil", "Forwarded: host=evil"))
    assert said[0].status == 200 and b"evil" not in target.upstream.heads[-1]
    doubled = ("Host: 127.0.0.1", "Host: evil.example", "host: localhost")
    for other in doubled:
        assert target.send(request("GET /SERVICE/a HTTP/1.1", other))[0].code == "HOST_UNKNOWN"
    assert target.send(request(host=None))[0].code == "HOST_UNKNOWN"
    assert target.send(request("GET /SERVICE/a HTTP/1.0", host=None))[0].code == "HOST_UNKNOWN"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:PORT", "LOCALHOST", "[::1]:1", "localhost:80"])
def test_its_own_names_are_known_on_both_ports(target: Target, host: str) -> None:
    assert target.send(request(host=host))[0].status == 200
    assert control(target, host) == 401


def control(target: Target, host: str) -> int:
    """The status that the control port answers to a request under that name."""
    asked = target.fill(request("GET /api/v1/keys HTTP/1.1", "Connection: close", host=host, key=False))
    with socket.create_connection(("127.0.0.1", target.server.control_port), timeout=20) as end:
        end.sendall(asked)
        received = b""
        while more := end.recv(65536):
            received += more
    return int(received.split()[1])


def test_all_that_arrived_is_ours_and_recorded(target: Target) -> None:
    assert answers(target.raw(LAST))[0].status == 200
    target.send(request())
    for head in target.upstream.heads:
        assert_ours(head, target)
        assert head.split(b" ")[1].startswith(b"/tenant/7/")
    target.assert_one_request_each()
