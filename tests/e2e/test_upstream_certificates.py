"""No upstream that cannot show who it is gets one octet of a real key, whatever the environment says."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority, Files
from running_server import Answer, Refused, RunningServer
from standins.tls_upstream import TlsUpstream

pytestmark = pytest.mark.real

REAL = "Real-Key-" + "aB3dE" * 5
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Place:
    """A server whose environment does all it can to have strangers trusted."""

    def __init__(self, folder: Path) -> None:
        self.ours = Authority(folder / "ours", "ours")
        self.other = Authority(folder / "other", "other")
        self.keylog = folder / "keylog"
        self.proxy = socket.create_server(("127.0.0.1", 0))
        self.proxy.setblocking(False)
        by_hash = folder / "by-hash"
        by_hash.mkdir()
        proxy = f"http://127.0.0.1:{self.proxy.getsockname()[1]}"
        self.server = RunningServer(
            environment={
                "SSL_CERT_FILE": str(self.other.file),
                "SSL_CERT_DIR": str(by_hash),
                "REQUESTS_CA_BUNDLE": str(self.other.file),
                "CURL_CA_BUNDLE": str(self.other.file),
                "PYTHONHTTPSVERIFY": "0",
                "SSLKEYLOGFILE": str(self.keylog),
                "NO_PROXY": "",
                "no_proxy": "",
                **dict.fromkeys(PROXIES, proxy),
            }
        )

    def proxied(self) -> bool:
        """Whether anybody came to the proxy."""
        try:
            self.proxy.accept()
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("certificates"))
    with made.server, made.proxy:
        yield made


def ask(place: Place, upstream: TlsUpstream, *, host: str = "localhost", ca_file: Path | None) -> Answer:
    """One call to an upstream under this name, trusted by `ca_file`."""
    server = place.server
    pinned = {} if ca_file is None else {"ca_file": str(ca_file)}
    service = server.open_service(REAL, base_url=f"https://{host}:{upstream.port}", **pinned)
    return server.call("GET", f"/{service}/a", server.issue(service))


def refused(answer: Answer, upstream: TlsUpstream) -> None:
    assert (answer.status, answer.code) == (502, "UPSTREAM_FAILED")
    assert upstream.connections >= 1 and upstream.raw[:1] in (b"", b"\x16")
    assert upstream.opened == b""
    assert REAL.encode() not in upstream.raw


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_whoever_shows_a_certificate_of_the_pinned_authority_for_its_name_is_called(
    place: Place, host: str
) -> None:
    with TlsUpstream(place.ours.sign()) as upstream:
        answer = ask(place, upstream, host=host, ca_file=place.ours.file)
    assert (answer.code, answer.body) == ("VALID", b"ok")
    assert REAL.encode() in upstream.opened and REAL.encode() not in upstream.raw


def test_its_name_may_stand_in_the_list_of_names_alone(place: Place) -> None:
    with TlsUpstream(place.ours.sign(names=("localhost",), called="somebody else")) as upstream:
        assert ask(place, upstream, ca_file=place.ours.file).code == "VALID"


Make = Callable[[Place], Files]
WRONG: dict[str, Make] = {
    "another host": lambda place: place.ours.sign(names=("example.com",)),
    "a part of the host": lambda place: place.ours.sign(names=("local",)),
    "the host as the start of another": lambda place: place.ours.sign(names=("localhost.example.com",)),
    "a star for everything": lambda place: place.ours.sign(names=("*",)),
    "the name of nobody but in its common name": lambda place: place.ours.sign(names=(), called="localhost"),
    "another name beside the right common name": lambda place: place.ours.sign(
        names=("example.com",), called="localhost"
    ),
    "over since yesterday": lambda place: place.ours.sign(begins=-30, ends=-1),
    "good from tomorrow": lambda place: place.ours.sign(begins=1, ends=30),
    "signed by itself": lambda place: place.ours.sign(alone=True),
    "signed by an authority that nobody pinned": lambda place: place.other.sign(),
}


@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG.keys())
def test_who_cannot_show_who_it_is_gets_nothing(place: Place, make: Make) -> None:
    with TlsUpstream(make(place)) as upstream:
        refused(ask(place, upstream, ca_file=place.ours.file), upstream)


def test_an_address_must_stand_in_the_certificate_as_an_address(place: Place) -> None:
    with TlsUpstream(place.ours.sign(names=("localhost",), called="127.0.0.1")) as upstream:
        refused(ask(place, upstream, host="127.0.0.1", ca_file=place.ours.file), upstream)


def test_an_old_version_of_tls_is_not_spoken(place: Place) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old = TlsUpstream(place.ours.sign(), most=ssl.TLSVersion.TLSv1_1)
    with old as upstream:
        refused(ask(place, upstream, ca_file=place.ours.file), upstream)


@pytest.mark.parametrize("by", ["other", "ours"])
def test_the_environment_makes_nobody_trusted(place: Place, by: str) -> None:
    authority: Authority = getattr(place, by)
    with TlsUpstream(authority.sign()) as upstream:
        refused(ask(place, upstream, ca_file=None), upstream)


def test_plain_text_is_not_spoken_to_an_upstream_with_tls_in_its_address(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:
        service = place.server.open_service(
            REAL, base_url=f"https://localhost:{plain.getsockname()[1]}", ca_file=str(place.ours.file)
        )
        key = place.server.issue(service)
        plain.settimeout(20)
        received: list[bytes] = []

        def answer() -> None:
            end, _ = plain.accept()
            with end:
                received.append(end.recv(65_536))
                end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        there = threading.Thread(target=answer)
        there.start()
        assert place.server.call("GET", f"/{service}/a", key).code == "UPSTREAM_FAILED"
        there.join(20)
    assert received[0][:1] == b"\x16" and REAL.encode() not in received[0]


def test_another_pin_is_in_force_at_the_next_call_on_kept_connections_too(place: Place) -> None:
    server = place.server
    with TlsUpstream(place.ours.sign()) as upstream:
        service = server.open_service(
            REAL, base_url=f"https://localhost:{upstream.port}", ca_file=str(place.ours.file)
        )
        key = server.issue(service)
        assert server.call("GET", f"/{service}/a", key).code == "VALID"
        # The authority is no longer believed: what it signed is refused.
        server.manage("PATCH", f"/services/{service}", {"ca_file": str(place.other.file)})
        before = upstream.opened
        assert server.call("GET", f"/{service}/b", key).code == "UPSTREAM_FAILED"
        assert upstream.opened == before
        upstream.use(place.other.sign())
        assert server.call("GET", f"/{service}/c", key).code == "VALID"
        # And a certificate of the earlier one is not taken any more.
        assert b"GET /c" in upstream.opened and b"GET /b" not in upstream.opened


def test_nothing_goes_by_a_proxy_and_no_secret_of_a_connection_is_written_down(place: Place) -> None:
    with TlsUpstream(place.ours.sign()) as upstream:
        assert ask(place, upstream, ca_file=place.ours.file).code == "VALID"
    assert not place.proxied()
    assert not place.keylog.exists()


@pytest.mark.parametrize(
    "wish",
    [
        {"verify": False}, {"insecure": True}, {"ca_file": ""}, {"ca_file": "/dev/null"}, {"ca_file": False},
        {"tls_verify": "off"}, {"allow_plain_upstream": "yes"},
    ],
)  # fmt: skip
def test_verification_cannot_be_switched_off(place: Place, wish: dict[str, Any]) -> None:
    made = {
        "name": "wished",
        "auth": "bearer",
        "base_url": "https://localhost:1",
        "allow_private": True,
        **wish,
    }
    with pytest.raises(Refused):
        place.server.manage("POST", "/services", made)


def test_a_pin_that_has_become_unreadable_refuses(place: Place, tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    gone.write_bytes(place.ours.file.read_bytes())
    with TlsUpstream(place.ours.sign()) as upstream:
        service = place.server.open_service(
            REAL, base_url=f"https://localhost:{upstream.port}", ca_file=str(gone)
        )
        key = place.server.issue(service)
        os.unlink(gone)
        assert place.server.call("GET", f"/{service}/a", key).code == "UPSTREAM_FAILED"
        assert (upstream.opened, upstream.raw) == (b"", b"")
