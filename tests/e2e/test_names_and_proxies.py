"""Who the caller is and which host is meant: configured names, trusted proxies, services of several hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream

pytestmark = pytest.mark.real

SECRET = "secret-of-names-and-proxies"
PROXY = "127.0.0.2"


@pytest.fixture(scope="module")
def behind() -> Iterator[RunningServer]:
    """A server behind a proxy on 127.0.0.2, known as keys.example.com."""
    settings = {"trusted_proxy": [f"{PROXY}/32", "10.0.0.0/8"], "public_name": ["keys.example.com"]}
    with RunningServer(settings=settings) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def home_key(behind: RunningServer) -> Iterator[tuple[str, ValetKey]]:
    """A path that only 192.0.2.7 may call, and the key."""
    with RawUpstream() as upstream:
        service = behind.open_service(SECRET, base_url=upstream.url)
        yield f"/{service}/a", behind.issue(service, networks=["192.0.2.7/32"])


@pytest.mark.parametrize(
    ("source", "headers", "code"),
    [
        (PROXY, {"X-Forwarded-For": "192.0.2.7"}, "VALID"),
        (PROXY, {"X-Forwarded-For": "::ffff:192.0.2.7"}, "VALID"),
        (PROXY, {"Forwarded": 'for="192.0.2.7:4711";proto=https'}, "VALID"),
        (PROXY, {"X-Forwarded-For": "192.0.2.7, 10.1.2.3"}, "VALID"),
        (PROXY, {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}, "NETWORK_DENIED"),
        (PROXY, {"X-Forwarded-For": "192.0.2.7, 198.51.100.1, 10.1.2.3"}, "NETWORK_DENIED"),
        (PROXY, {}, "NETWORK_DENIED"),
        (PROXY, {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}, "MALFORMED"),
        (PROXY, {"X-Forwarded-For": "nobody"}, "MALFORMED"),
        ("127.0.0.3", {"X-Forwarded-For": "192.0.2.7"}, "NETWORK_DENIED"),
    ],
)
def test_the_caller_is_the_first_stranger_from_the_right(
    behind: RunningServer, home_key: tuple[str, ValetKey], source: str, headers: dict[str, str], code: str
) -> None:
    path, key = home_key
    assert behind.call("GET", path, key, source=source, headers=headers).code == code


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("keys.example.com", True), ("KEYS.Example.COM:8300", True), ("localhost", True), ("[::1]:8300", True),
        ("example.com", False), ("a.keys.example.com", False), ("keys.example.com.evil.example", False),
    ],
)  # fmt: skip
def test_the_gateway_answers_to_its_own_names_alone(
    behind: RunningServer, home_key: tuple[str, ValetKey], host: str, known: bool
) -> None:
    path, key = home_key
    headers = {"Host": host, "X-Forwarded-For": "192.0.2.7"}
    code = behind.call("GET", path, key, source=PROXY, headers=headers).code
    assert code == ("VALID" if known else "HOST_UNKNOWN")
    asked = behind.call("POST", "/v1/verify", "vk_svc_none", headers={"Host": host}, body="{}").code
    assert asked == ("MALFORMED" if known else "HOST_UNKNOWN")


def test_a_named_host_of_a_service_gets_the_calls_that_name_it(server: RunningServer) -> None:
    with RawUpstream() as api, RawUpstream() as files:
        service = server.open_service(SECRET, base_url=api.url, hosts={"files": files.url})
        key = server.issue(service)
        assert server.call("GET", f"/{service}/one", key).status == 200
        assert server.call("GET", f"/{service}:files/two", key).status == 200
        assert (api.targets, files.targets) == ([b"/one"], [b"/two"])
        narrow = server.issue(service, hosts=["files"])
        assert server.call("GET", f"/{service}/one", narrow).code == "HOST_DENIED"
        assert server.call("GET", f"/{service}:files/two", narrow).code == "VALID"


def test_a_fixed_prefix_of_the_upstream_cannot_be_left(server: RunningServer) -> None:
    with RawUpstream() as upstream:
        service = server.open_service(SECRET, base_url=f"{upstream.url}/tenant/7")
        key = server.issue(service)
        assert server.call("GET", f"/{service}/a", key).status == 200
        for path in ("/..", "/../8", "/%2e%2e/8", "/..%2f8", "/a/../../8"):
            assert server.call("GET", f"/{service}{path}", key).code == "PATH_REFUSED"
        assert upstream.targets == [b"/tenant/7/a"]


def test_an_upstream_that_is_the_gateway_itself_is_never_called(server: RunningServer) -> None:
    for port in (server.gateway_port, server.control_port):
        service = server.open_service(SECRET, base_url=f"http://127.0.0.1:{port}")
        key = server.issue(service)
        answer = server.call("GET", f"/{service}/api/v1/status", key)
        assert answer.code == "UPSTREAM_FAILED"
