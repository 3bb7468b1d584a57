"""Upstreams for large bodies: one takes and digests, one sends; both say how far they came."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

MEGABYTE = 1_000_000
LARGE = 200 * MEGABYTE
PIECE = bytes(range(256)) * 1024


class Sink:
    """An upstream that counts and digests what is uploaded, and reads only as fast as it is let."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.reading = threading.Event()
        self.reading.set()
        self.received = 0
        self.digest = hashlib.sha256()
        self.chunked = False
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Sink:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                threading.Thread(target=self._take, args=(end,), daemon=True).start()

    def _take(self, end: socket.socket) -> None:
        with end, suppress(OSError, ValueError):
            stream = end.makefile("rb", buffering=1 << 18)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = stream.readline()
                if not line:
                    return
                head += line
            self.chunked = b"transfer-encoding: chunked" in head.lower()
            sizes = self._chunk_sizes(stream) if self.chunked else [self._length(head)]
            for size in sizes:
                while size:
                    self.reading.wait()
                    piece = stream.read1(min(size, 1 << 18))
                    if not piece:
                        self.hung_up.set()
                        return
                    size -= len(piece)
                    self.received += len(piece)
                    self.digest.update(piece)
            end.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    @staticmethod
    def _length(head: bytes) -> int:
        return int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])

    def _chunk_sizes(self, stream: BinaryIO) -> Iterator[int]:
        while line := stream.readline():
            size = int(line, 16)
            if size == 0:
                stream.readline()
                return
            yield size
            stream.readline()
        self.hung_up.set()
        raise ValueError("The upload broke off.")


class Source:
    """An upstream that sends as much as it is taken, and counts it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Source:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            end, _ = self._listener.accept()
            with end:
                end.recv(65536)
                end.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode())
                while self.sent < LARGE:
                    self.sent += end.send(PIECE)


class Told:
    """An upstream that answers every call with a stream, of which it sends what it is told to, when it is told."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._came = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Told:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                end, _ = self._listener.accept()
                head = b""
                while b"\r\n\r\n" not in head and (piece := end.recv(65536)):
                    head += piece
                with self._came:
                    self._ends.append(end)
                    self._came.notify_all()

    def begin(self, place: int, length: int | None = None) -> None:
        """The head of the answer to the call of that number, with a length or in chunks."""
        with self._came:
            assert self._came.wait_for(lambda: len(self._ends) > place, 20)
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        self._ends[place].sendall(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())

    def send(self, place: int, data: bytes, *, plain: bool = False) -> None:
        """So much more of it; `plain`: of an answer with a length."""
        with suppress(OSError):  # it was cut
            self._ends[place].sendall(data if plain else b"%x\r\n%s\r\n" % (len(data), data))

    def end(self, place: int) -> None:
        """All of a stream was sent."""
        self._ends[place].sendall(b"0\r\n\r\n")
