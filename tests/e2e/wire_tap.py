"""Stands on the wire between a client and the gateway and counts the requests that go over it."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress

_REQUEST_LINE = re.compile(rb"(?:^|\n)[A-Z]+ \S+ HTTP/1\.1\r\n")


class WireTap:
    """Hands bytes on unchanged, both ways. For clients that send one request head in one piece."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> WireTap:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            gateway = socket.create_connection(("127.0.0.1", self._to))
            threading.Thread(target=self._carry, args=(caller, gateway, True), daemon=True).start()
            threading.Thread(target=self._carry, args=(gateway, caller, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if counted:
                    self.requests += len(_REQUEST_LINE.findall(piece))
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
