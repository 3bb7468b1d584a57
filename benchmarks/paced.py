"""A caller that keeps a constant rate on raw sockets and times each call from the instant it was due.

wrk sends as fast as it is answered, so it cannot say what a call costs at a given rate. Two threads: one sends
when a call is due, one waits for answers. Both sides of a comparison are timed by this same code.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence

from benchmarks.processes import BenchmarkFailed

CONNECTIONS = 64
"""Used in turn; a call takes the one that has been free the longest."""
WARM_SECONDS = 0.5
"""What is sent in the beginning is not counted: connections are new then."""


class Pace:
    """Calls at a constant rate to one port."""

    def __init__(self, port: int, requests: Sequence[bytes]) -> None:
        """`requests` are whole HTTP/1.1 requests, used in turn."""
        self._port = port
        self._requests = requests
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._free: deque[int] = deque()
        self._due: dict[int, float] = {}
        self._taken: list[float] = []
        self._failed: str | None = None

    def run(self, rate: float, seconds: float) -> list[float]:
        """Milliseconds of each call, in the order of answers. Raises `BenchmarkFailed` at a bad answer."""
        self._taken = []
        warm = int(rate * WARM_SECONDS)
        count = warm + int(rate * seconds)
        self._open()
        reader = threading.Thread(target=self._read, args=(count,), daemon=True)
        reader.start()
        began = time.perf_counter() + 0.05
        for number in range(count):
            self._send(self._requests[number % len(self._requests)], began + number / rate)
            if self._failed:
                break
        reader.join(15)
        self._close()
        if self._failed or reader.is_alive():
            raise BenchmarkFailed(self._failed or "Some paced calls were never answered.")
        return self._taken[warm:]

    def _send(self, request: bytes, due: float) -> None:
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        while not self._free:
            if self._failed:
                return
            time.sleep(0.0002)
        at = self._free.popleft()
        self._due[at] = due
        self._sockets[at].sendall(request)

    def _open(self) -> None:
        # Anew each time: while others are measured a server may close what is idle.
        self._poll = select.epoll()
        for _ in range(CONNECTIONS):
            connection = socket.create_connection(("127.0.0.1", self._port), 5)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)
            self._free.append(connection.fileno())

    def _close(self) -> None:
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()
        self._free.clear()

    def _read(self, count: int) -> None:
        held: dict[int, bytes] = {}
        while len(self._taken) < count:
            ready = self._poll.poll(10)
            if not ready:
                self._failed = "A paced call was not answered within 10 s."
                return
            for descriptor, _ in ready:
                data = held.pop(descriptor, b"") + self._sockets[descriptor].recv(65536)
                if not data.startswith(b"HTTP/1.1 200"[: len(data)]) or not data:
                    self._failed = f"A paced call was answered {data[:60]!r}."
                    return
                if not _whole(data):
                    held[descriptor] = data
                    continue
                self._taken.append((time.perf_counter() - self._due[descriptor]) * 1000)
                self._free.append(descriptor)


def _whole(data: bytes) -> bool:
    head, mark, body = data.partition(b"\r\n\r\n")
    if not mark:
        return False
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(lower[at + 15 :].split(b"\r\n", 1)[0])
