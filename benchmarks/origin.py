"""nginx in three parts: the upstream that answers at once, the same behind `proxy_pass`, a chat completion."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from benchmarks.machine import children
from benchmarks.processes import Processes, answers
from valetkey.demo.stage import free_port

SMALL = "hello world"
"""The small body: 11 bytes."""
CHAT = {
    "id": "chatcmpl-standin",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "gpt-4o-mini",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop", "logprobs": None}
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
}  # fmt: skip

_COMMON = """
daemon off;
{user}
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
"""
_ANSWERS = """
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location / {{ default_type text/plain; return 200 '{small}'; }}
    location = /v1/chat/completions {{ return 200 '{chat}'; }}
  }}
}}
"""
_PASSES = """
  upstream origin {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


class Nginx(NamedTuple):
    """A running nginx with one worker."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def worker(self) -> int:
        """The process that serves."""
        return children(self.process.pid)[0]


def start_upstream(processes: Processes, folder: Path) -> Nginx:
    """The upstream of all parts."""
    return _start(processes, folder / "upstream", _ANSWERS, small=SMALL, chat=json.dumps(CHAT))


def start_proxy(processes: Processes, folder: Path, upstream: int) -> Nginx:
    """nginx as the reference gateway: keep-alive to the upstream, one worker, no log."""
    return _start(processes, folder / "nginx", _PASSES, upstream=upstream)


def _start(processes: Processes, folder: Path, text: str, **values: object) -> Nginx:
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        _COMMON.format(folder=folder, user=user) + text.format(folder=folder, port=port, **values)
    )
    process = processes.start(folder.name, ["nginx", "-c", str(config), "-e", str(folder / "error.log")])
    processes.wait_for(process, lambda: answers(port), "nginx")
    return Nginx(process, port)
