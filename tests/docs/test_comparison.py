"""What the README says of nginx, shown: after a reload with another key, an answer that is open goes on."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from running_server import eventually
from valetkey.demo.stage import free_port

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
CONFIGURATION = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            proxy_http_version 1.1;
            proxy_buffering off;
            proxy_set_header Authorization "Bearer {key}";
        }}
    }}
}}
"""


class Upstream(BaseHTTPRequestHandler):
    """``/stream`` sends a line every 10 ms until the caller leaves; anything else says which key came."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.headers['Authorization']}\n".encode())
        while self.path == "/stream":
            try:
                self.wfile.write(b"more\n")
            except OSError:
                break
            time.sleep(0.01)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def ask(port: int, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.real
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_answer_that_is_open_goes_on_after_nginx_was_told_another_key(tmp_path: Path, upstream: int) -> None:
    port = free_port()
    configuration = tmp_path / "nginx.conf"

    def nginx(*arguments: str) -> None:
        assert NGINX is not None
        subprocess.run(
            [NGINX, "-p", str(tmp_path), "-c", str(configuration), *arguments], check=True, timeout=20
        )

    def configure(key: str) -> None:
        values = {"folder": tmp_path, "port": port, "upstream": upstream, "key": key}
        configuration.write_text(CONFIGURATION.format(**values))

    configure("old")
    nginx()
    try:
        stream = ask(port, "/stream")
        assert stream.readline() == b"Bearer old\n"
        configure("new")
        nginx("-s", "reload")
        eventually(lambda: ask(port, "/").read() == b"Bearer new\n")
        after = [stream.readline() for _ in range(200)]
        assert after == [b"more\n"] * 200
        stream.close()
    finally:
        nginx("-s", "stop")
