"""The recipe of the docs for a web page that uses a public key, played by nginx itself."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.conftest import StandIns
from running_server import RunningServer, ValetKey, eventually
from valetkey.demo.stage import free_ports

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "restrict-a-key.md"
SITE = "app.example.com"

pytestmark = [pytest.mark.real, pytest.mark.skipif(NGINX is None, reason="there is no nginx here")]


@pytest.fixture
def gateway(standins: StandIns) -> Iterator[RunningServer]:
    with RunningServer(settings={"public_name": SITE, "trusted_proxy": "127.0.0.1/32"}) as running_server:
        standins.connect(running_server)
        yield running_server


@pytest.fixture
def site(gateway: RunningServer, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx with the page's own lines."""
    assert NGINX is not None
    (block,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    port = free_ports()[0]
    lines = block.replace("127.0.0.1:8300", f"127.0.0.1:{gateway.gateway_port}").replace(
        "server {", f"server {{\n    listen 127.0.0.1:{port};"
    )
    paths = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/errors;\n"
        f"events {{}} http {{ access_log off; {paths}\n{lines} }}\n"
    )
    running = subprocess.Popen([NGINX, "-e", f"{tmp_path}/errors", "-c", str(configuration)])
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        running.terminate()
        running.wait(10)


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def _code(port: int, key: ValetKey, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(
            "GET",
            "/openai/v1/models",
            headers={"Host": SITE, "Authorization": f"Bearer {key.value}", **headers},
        )
        answer = connection.getresponse()
        answer.read()
        return "VALID" if answer.status == 200 else str(answer.headers["x-valetkey-code"])
    finally:
        connection.close()


def test_only_a_page_of_the_site_itself_gets_through(gateway: RunningServer, site: int) -> None:
    key = gateway.issue("openai", kind="public", origins=[f"https://{SITE}"])
    # What browsers send with a GET from the site's own page, and from pages elsewhere.
    assert _code(site, key, {"Sec-Fetch-Site": "same-origin"}) == "VALID"
    assert (
        _code(site, key, {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"})
        == "ORIGIN_DENIED"
    )
    assert _code(site, key, {"Sec-Fetch-Site": "cross-site"}) == "ORIGIN_DENIED"
    assert _code(site, key, {}) == "ORIGIN_DENIED"
