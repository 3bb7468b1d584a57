"""Both ports over TLS with real clients: calls, streams, cuts, management, plain text, new certificates under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from certificates import Authority, write_key
from e2e.conftest import StandIns
from e2e.test_taking_back import MODELS, assert_cut, listening, load
from running_server import Answer, RunningServer, ValetKey, ask, eventually

pytestmark = pytest.mark.real


class Secured:
    """A server with two workers that speaks TLS."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.files = self.authority.sign(names=("localhost", "127.0.0.1"))
        self.server = RunningServer(workers=2, settings=self.files.flags, authority=self.authority.file)

    def serial(self, port: int) -> int:
        """Of the certificate that a new connection gets."""
        context = self.server.trust()
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as bare,
            context.wrap_socket(bare, server_hostname="localhost") as end,
        ):
            certificate = end.getpeercert()
            assert certificate is not None
            return int(str(certificate["serialNumber"]), 16)

    def everywhere(self, serial: int) -> bool:
        """Whether both ports, and both workers behind one of them, show this certificate."""
        gateway = {self.serial(self.server.gateway_port) for _ in range(10)}
        return gateway | {self.serial(self.server.control_port)} == {serial}


@pytest.fixture(scope="module")
def secured(standins: StandIns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("tls"))
    with made.server as server:
        standins.connect(server)
        yield made


def curl(secured: Secured, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["curl", "-sS", "--max-time", "10", "--cacert", str(secured.authority.file), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_curl_calls_by_https_and_trusts_nothing_else(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    bearer = f"Authorization: Bearer {key.value}"
    answer = curl(secured, "-H", bearer, f"https://localhost:{server.gateway_port}{MODELS}")
    assert "gpt-4o-mini" in answer.stdout
    stranger = subprocess.run(
        ["curl", "-sS", f"https://localhost:{server.gateway_port}{MODELS}"], capture_output=True, check=False
    )
    assert stranger.returncode == 60


def test_the_openai_package_and_httpx_call_by_https(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    with httpx.Client(verify=server.trust()) as carrier:
        client = openai.OpenAI(
            api_key=key.value, base_url=f"{server.url}/openai/v1", http_client=carrier, max_retries=0
        )
        assert next(model.id for model in client.models.list()) == "gpt-4o-mini"
        stream = client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "good morning"}], stream=True
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert said == "You said: good morning "


def test_the_command_line_manages_by_https(secured: Secured) -> None:
    server = secured.server
    server.manage("POST", "/parties", {"name": "ana", "kind": "person"})
    token = server.manage("POST", "/tokens", {"party": "ana"})["token"]
    file = server.folder / "token"
    file.write_text(token)
    file.chmod(0o600)
    environment = {
        **os.environ, "VALETKEY_URL": f"https://localhost:{server.control_port}", "VALETKEY_TOKEN_FILE": str(file),
        "SSL_CERT_FILE": str(secured.authority.file), "VALETKEY_HOME": str(server.folder / "elsewhere"),
    }  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-m", "valetkey", "service", "list", "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "openai" in {service["name"] for service in json.loads(shown.stdout)["items"]}


@pytest.mark.parametrize("port", ["gateway_port", "control_port"])
def test_plain_text_is_told_that_the_port_speaks_tls(secured: Secured, port: str) -> None:
    address = ("127.0.0.1", getattr(secured.server, port))
    with socket.create_connection(address, timeout=5) as end:
        end.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := end.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1
    assert b"This port speaks TLS" in answer and b"TLS_REQUIRED" in answer


def test_a_revoke_cuts_streams_over_tls(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    with listening(server, key, 12) as listeners, load(server, key) as calls:
        eventually(lambda: len(calls) > 20)
        assert server.stop_key(key)["cut"] >= 12
        returned = time.time()
        eventually(lambda: calls[-1][0] > returned + 0.2)
        assert_cut(listeners, returned)
    assert {code for sent, code in calls if sent > returned} == {"REVOKED"}


def test_new_certificates_are_taken_under_load_and_nothing_breaks(secured: Secured) -> None:
    server = secured.server
    key = server.issue("openai")
    done, codes = threading.Event(), []

    def knock_again_and_again() -> None:
        while not done.is_set():
            codes.append(server.call("GET", MODELS, key).code)

    knocking = [threading.Thread(target=knock_again_and_again) for _ in range(3)]
    with listening(server, key, 3) as listeners:
        for thread in knocking:
            thread.start()
        try:
            for _ in range(2):
                renewed = secured.authority.sign()
                eventually(lambda: secured.everywhere(renewed.serial), 10.0)  # noqa: B023
            changed = time.time()
            eventually(lambda: all(max(listener.stamps) > changed for listener in listeners))
        finally:
            done.set()
            for thread in knocking:
                thread.join(10)
        assert not any(listener.over.is_set() for listener in listeners)
    assert len(codes) > 20 and set(codes) == {"VALID"}


def test_a_bad_pair_keeps_the_old_one_and_says_so_once_and_sighup_looks_at_once(secured: Secured) -> None:
    server, files = secured.server, secured.authority.sign()
    server.send_signal(signal.SIGHUP)
    eventually(lambda: secured.everywhere(files.serial))
    from cryptography.hazmat.primitives.asymmetric import ec

    write_key(files.key, ec.generate_private_key(ec.SECP256R1()))
    eventually(lambda: "does not belong" in server.errors)
    assert secured.everywhere(files.serial)
    later = secured.authority.sign()
    server.send_signal(signal.SIGHUP)
    eventually(lambda: secured.everywhere(later.serial))
    assert server.errors.count("does not belong") == 1
    assert files.key.read_text().splitlines()[1] not in server.errors


def serve(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "VALETKEY_HOME": str(folder / "home"), "VALETKEY_ROOT_KEY_FILE": str(folder / "root.key")
    }  # fmt: skip
    command = [sys.executable, "-m", "valetkey", "serve", "--control-port", "1", *flags]
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize("how", ["another key", "no file", "half", "both ways", "beyond loopback"])
def test_a_start_that_cannot_be_secure_is_refused_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one"), authority.sign("other")
    flags, said, code = {
        "another key": (("--tls-cert", one.certificate, "--tls-key", other.key), "does not belong", 1),
        "no file": (("--tls-cert", one.certificate, "--tls-key", tmp_path / "none"), "cannot be read", 1),
        "half": (("--tls-cert", one.certificate), "tls_cert and tls_key go together", 2),
        "both ways": (("--tls-dev", "--tls-cert", one.certificate, "--tls-key", one.key), "tls_dev", 2),
        "beyond loopback": (("--listen", "0.0.0.0"), "would send keys in the clear", 1),
    }[how]
    refused = serve(tmp_path, *map(str, flags))
    assert refused.returncode == code and said in refused.stderr and "Traceback" not in refused.stderr
    assert not (tmp_path / "home").exists()


def test_a_development_server_says_what_to_trust_and_the_openai_package_trusts_it(standins: StandIns) -> None:
    made = RunningServer(
        settings={"tls_dev": True, "public_name": "keys.example.com"}, authority=Path("later")
    )
    made._authority = made.home / "tls" / "ca.pem"
    with made as server:
        standins.connect(server)
        said = f"callers trust it with {made._authority}"
        assert said in server.errors
        key = server.issue("openai")
        with httpx.Client(verify=server.trust()) as carrier:
            client = openai.OpenAI(api_key=key.value, base_url=f"{server.url}/openai/v1", http_client=carrier)
            assert next(model.id for model in client.models.list()) == "gpt-4o-mini"


def own_address() -> str | None:
    """An address of this machine that is not loopback. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        address = str(probe.getsockname()[0])
        return None if address.startswith(("127.", "0.")) else address
    return None


def test_a_key_that_came_in_plain_text_over_a_network_is_exposed_once_and_audited(
    standins: StandIns, tmp_path: Path
) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    authority = Authority(tmp_path)
    settings = {**authority.sign().flags, "listen": "0.0.0.0"}
    with RunningServer(settings=settings, authority=authority.file, workers=2) as server:
        standins.connect(server)
        key, other = server.issue("openai"), server.issue("openai")

        def in_plain(host: str, which: ValetKey) -> Answer:
            connection = http.client.HTTPConnection(host, server.gateway_port, timeout=10)
            try:
                return ask(connection, "GET", MODELS, which, headers={"Host": "localhost"})
            finally:
                connection.close()

        def shown(which: ValetKey) -> Any:
            return server.manage("GET", f"/keys/{which.id}")

        assert in_plain("127.0.0.1", other).code == "TLS_REQUIRED"
        answers = [in_plain(address, key) for _ in range(6)]
        assert {answer.code for answer in answers} == {"TLS_REQUIRED"}
        since = eventually(lambda: shown(key)["exposed"])
        assert shown(key)["state"] == "active" and shown(other)["exposed"] is None
        listed = server.manage("GET", "/keys?state=exposed")["items"]
        assert [item["id"] for item in listed] == [key.id]
        # The other worker says it too, and so does one that is started anew.
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        server.wait_ready(10)
        eventually(lambda: len(server.worker_pids()) == 2, 10)
        for _ in range(6):
            in_plain(address, key)
        server.events(key)
        entries = [e for e in server.manage("GET", "/audit")["items"] if e["action"] == "key:expose"]
        assert [(e["actor"], e["subject"]) for e in entries] == [("system:valetkey", f"key:{key.id}")]
        assert shown(key)["exposed"] == since
        assert server.call("GET", MODELS, key).code == "VALID", "whoever gave it out decides"
        record = [e["code"] for e in server.events(key)]
        assert record.count("TLS_REQUIRED") == 12
        assert key.value not in server.errors
        table = subprocess.run(
            [sys.executable, "-m", "valetkey", "key", "list", "--state", "exposed"],
            env={**os.environ, **server.environment}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert key.id in table and "exposed" in table
        page = subprocess.run(
            [sys.executable, "-m", "valetkey", "key", "show", key.id],
            env={**os.environ, **server.environment}, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "it came in plain text" in page
