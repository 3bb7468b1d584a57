"""An upstream on a bare socket: records the exact bytes it got, answers with scripted bytes.

For what an HTTP server would tidy away: odd targets, short bodies, trailers, broken framing, early closes.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

Step: TypeAlias = bytes | float
"""Bytes to send, or seconds to wait."""


@dataclass(frozen=True)
class Reply:
    """What is sent for one request."""

    steps: tuple[Step, ...]
    then: Literal["keep", "close", "reset"] = "keep"
    """What happens to the connection: stays for the next request, ends with FIN, ends with RST."""
    read_body: bool = True
    """Whether the request's body is read first; without it the reply comes after the head."""


def head(status: str, *headers: str) -> bytes:
    """A status line and headers, in bytes, with the empty line."""
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode("latin-1")


def with_length(body: bytes, *headers: str, status: str = "200 OK") -> Reply:
    """A whole answer with Content-Length."""
    return Reply((head(status, f"Content-Length: {len(body)}", *headers) + body,))


def chunked(
    *chunks: bytes, trailers: tuple[str, ...] = (), pause: float = 0.0, headers: tuple[str, ...] = ()
) -> Reply:
    """Chunked, each chunk in a send of its own, with `pause` seconds before each."""
    steps: list[Step] = [head("200 OK", "Transfer-Encoding: chunked", *headers)]
    for chunk in chunks:
        steps += [pause, f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"]
    steps.append("\r\n".join(("0", *trailers, "", "")).encode("latin-1"))
    return Reply(tuple(steps))


def gzipped(body: bytes, *headers: str) -> Reply:
    """A whole answer that is compressed, asked or not."""
    return with_length(gzip.compress(body, mtime=0), "Content-Encoding: gzip", *headers)


def cut_short(sent: bytes, promised: int, *, reset: bool = False) -> Reply:
    """Promises more than it sends, then hangs up."""
    start = head("200 OK", f"Content-Length: {promised}") + sent
    return Reply((start,), then="reset" if reset else "close")


def silent(seconds: float) -> Reply:
    """Nothing for a while, then an end without an answer."""
    return Reply((seconds,), then="close")


class RawUpstream:
    """A listening socket with a script: one reply a request, the last one over and over."""

    def __init__(self, *script: Reply) -> None:
        self.script = script or (with_length(b"ok"),)
        self.heads: list[bytes] = []
        """Request line and headers as they came, up to and with the empty line."""
        self.bodies: list[bytes] = []
        """Bodies as they came, framing included."""
        self.connections = 0
        self.cut = 0
        """Connections that the other side ended in the middle of an exchange."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[bytes]:
        """The request targets, byte for byte."""
        return [sent.split(b"\r\n", 1)[0].split(b" ")[1] for sent in self.heads]

    def __enter__(self) -> RawUpstream:
        threading.Thread(target=self._accept, name="raw-upstream", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._lock:
            ends = list(self._open)
        for end in (self._listener, *ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(end)
                self.connections += 1
            threading.Thread(target=self._serve, args=(end,), daemon=True).start()

    def _serve(self, end: socket.socket) -> None:
        try:
            while self._exchange(end):
                pass
        except OSError:
            self.cut += 1
        finally:
            with self._lock:
                self._open.discard(end)
            end.close()

    def _exchange(self, end: socket.socket) -> bool:
        read = _Reader(end)
        received = read.until(b"\r\n\r\n")
        if received is None:
            return False
        with self._lock:
            reply = self.script[min(len(self.heads), len(self.script) - 1)]
            self.heads.append(received)
        if reply.read_body:
            body = read.body(received)
            with self._lock:
                self.bodies.append(body)
        for step in reply.steps:
            if isinstance(step, bytes):
                end.sendall(step)
            elif step:
                time.sleep(step)
        if reply.then == "reset":
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return reply.then == "keep"


class _Reader:
    """Reads one request at a time: callers here do not pipeline."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._rest = b""

    def until(self, mark: bytes) -> bytes | None:
        """All up to and with `mark`; None when the connection ended cleanly before a byte came."""
        while mark not in self._rest:
            more = self._end.recv(65536)
            if not more:
                if self._rest:
                    raise ConnectionError("cut in the middle")
                return None
            self._rest += more
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            more = self._end.recv(65536)
            if not more:
                raise ConnectionError("cut in the middle")
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        return found

    def body(self, received: bytes) -> bytes:
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in received.split(b"\r\n")[1:])
        }
        if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            return self._chunked()
        return self.exactly(int(fields.get(b"content-length", b"0")))

    def _chunked(self) -> bytes:
        whole = b""
        while True:
            line = self.until(b"\r\n")
            if line is None:
                raise ConnectionError("cut in the middle")
            size = int(line.split(b";")[0], 16)
            whole += line
            if size == 0:
                while line != b"\r\n":  # trailers, then the empty line
                    line = self.until(b"\r\n") or b"\r\n"
                    whole += line
                return whole
            whole += self.exactly(size + 2)
