"""Name servers that lie: an upstream's name that means something else at the next look-up leads nowhere it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attack.name_server import NameServer, asking_it, why_not
from attack.target import SECRET
from running_server import RunningServer, ValetKey
from standins.raw_upstream import RawUpstream, Reply, head, with_length

pytestmark = [pytest.mark.real, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]

HANGS_UP = Reply((head("200 OK", "Content-Length: 2", "Connection: close") + b"ok",), then="close")


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer() as made:
        yield made


@pytest.fixture(scope="module")
def server(names: NameServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("names")
    with RunningServer(under=asking_it(folder)) as made:
        yield made


def named(server: RunningServer, name: str, port: int, *, private: bool = True) -> tuple[str, ValetKey]:
    """A service whose upstream has that name."""
    service = server.open_service(
        SECRET, base_url=f"http://{name}:{port}", allow_private=private, allow_plain_upstream=True
    )
    return f"/{service}/a", server.issue(service)


def test_each_look_up_is_checked_and_what_was_checked_is_dialled(
    server: RunningServer, names: NameServer
) -> None:
    """0.0.0.0 leads to this machine as 127.0.0.1 does, and is never allowed: a second look-up would be seen."""
    names.say("rebinds.test", ["127.0.0.1"], ["0.0.0.0"])
    with RawUpstream(HANGS_UP) as upstream:
        path, key = named(server, "rebinds.test", upstream.port)
        codes = [server.call("GET", path, key).code for _ in range(10)]
        assert codes == ["VALID", "UPSTREAM_FAILED"] * 5
        assert (upstream.connections, len(upstream.heads)) == (5, 5)
        assert names.asked["rebinds.test"] == 10


def test_a_kept_connection_leads_where_it_was_dialled_and_the_next_one_is_checked_anew(
    server: RunningServer, names: NameServer
) -> None:
    names.say("kept.test", ["127.0.0.1"])
    with RawUpstream(with_length(b"ok"), with_length(b"ok"), HANGS_UP) as upstream:
        path, key = named(server, "kept.test", upstream.port)
        assert server.call("GET", path, key).body == b"ok"
        names.say("kept.test", ["169.254.169.254"])
        assert [server.call("GET", path, key).code for _ in range(2)] == ["VALID", "VALID"]
        assert (upstream.connections, names.asked["kept.test"]) == (1, 0)
        assert server.call("GET", path, key).code == "UPSTREAM_FAILED"
        assert (upstream.connections, names.asked["kept.test"]) == (1, 1)


def test_a_service_that_loses_its_permission_loses_its_kept_connections(
    server: RunningServer, names: NameServer
) -> None:
    names.say("was-allowed.test", ["127.0.0.1"])
    with RawUpstream() as upstream:
        path, key = named(server, "was-allowed.test", upstream.port)
        assert server.call("GET", path, key).code == "VALID"
        server.manage("PATCH", f"/services/{path.split('/')[1]}", {"allow_private": False})
        assert server.call("GET", path, key).code == "UPSTREAM_FAILED"
        assert len(upstream.heads) == 1


MIXED = [
    ["127.0.0.1", "0.0.0.0"], ["0.0.0.0", "127.0.0.1"], ["127.0.0.1", "169.254.169.254"],
    ["127.0.0.1", "fd00:ec2::254"],
    ["127.0.0.1", "::ffff:169.254.169.254"], ["127.0.0.1", "64:ff9b::a9fe:a9fe"], ["127.0.0.1", "2002:a9fe:a9fe::1"],
    ["127.0.0.1", "::ffff:0:0"], ["127.0.0.1", "ff02::1"], ["127.0.0.1", "255.255.255.255"],
    ["127.0.0.1", "100.100.100.200"],
]  # fmt: skip


@pytest.mark.parametrize("addresses", MIXED, ids=" ".join)
def test_one_address_that_is_never_allowed_spoils_the_name(
    server: RunningServer, names: NameServer, addresses: list[str]
) -> None:
    names.say("mixed.test", addresses)
    with RawUpstream() as upstream:
        path, key = named(server, "mixed.test", upstream.port)
        assert server.call("GET", path, key).code == "UPSTREAM_FAILED"
        assert upstream.connections == 0


PRIVATE = [
    "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "10.0.0.1",
    "::ffff:10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.1.1", "fe80::1", "fc00::1", "fec0::1",
    "64:ff9b::c0a8:1", "2002:c0a8:1::", "64:ff9b:1::1", "2001:0:7f00:1::", "198.18.0.1", "192.0.2.1",
]  # fmt: skip


def test_a_public_services_name_never_leads_to_a_private_address_however_it_is_wrapped(
    server: RunningServer, names: NameServer
) -> None:
    names.say("public.test", *([one] for one in PRIVATE))
    with RawUpstream() as upstream:
        path, key = named(server, "public.test", upstream.port, private=False)
        for address in PRIVATE:
            assert server.call("GET", path, key).code == "UPSTREAM_FAILED", address
        assert upstream.connections == 0
        causes = {event["cause"] for event in server.closed_events(key, len(PRIVATE))}
        assert all("private address" in cause or "never sent to" in cause for cause in causes), causes


def test_no_name_leads_to_a_port_of_the_server_itself(server: RunningServer, names: NameServer) -> None:
    names.say("ourselves.test", ["127.0.0.1"], ["::ffff:127.0.0.1"], ["127.9.9.9"], ["::1"])
    for port in (server.gateway_port, server.control_port):
        path, key = named(server, "ourselves.test", port)
        assert {server.call("GET", path, key).code for _ in range(4)} == {"UPSTREAM_FAILED"}


def test_a_name_that_is_not_known_fails_its_own_calls_alone(server: RunningServer, names: NameServer) -> None:
    names.say("good.test", ["127.0.0.1"])
    with RawUpstream() as upstream:
        path, key = named(server, "good.test", upstream.port)
        lost, lost_key = named(server, "nobody.test", upstream.port)
        assert server.call("GET", lost, lost_key).code == "UPSTREAM_FAILED"
        assert server.call("GET", path, key).code == "VALID"
        assert upstream.heads[0].count(b"host: good.test:") == 1
