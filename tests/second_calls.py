"""Calls in HTTP/2 as a test wants them, on a blocking socket: fields as they are, past all that a client minds."""

from __future__ import annotations

import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from plain_calls import Answer

Pairs = list[tuple[bytes, bytes]]
SECONDS = 20.0


class CutOff(ConnectionError):
    """The stream, or the connection, ended before the answer did."""


class SecondConnection:
    """One connection to a gateway; several calls may be open on it."""

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._end: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
            self._end = tls.wrap_socket(self._end, server_hostname="localhost")
        self.authority = f"127.0.0.1:{port}".encode()
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        self.heads: dict[int, list[tuple[bytes, bytes]]] = {}
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: int | None = None
        self._flush()

    def __enter__(self) -> SecondConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def open(
        self,
        method: str,
        path: str,
        *fields: tuple[bytes, bytes],
        body: bytes | None = None,
        end: bool = True,
    ) -> int:
        """Send a call, with a body that fits into the window; its stream."""
        host = [] if any(name == b":authority" for name, _ in fields) else [(b":authority", self.authority)]
        pseudo = [
            (b":method", method.encode("latin-1")),
            (b":scheme", b"http"),
            (b":path", path.encode("latin-1")),
        ]
        given = [pair for pair in fields if pair != (b":authority", b"")]
        mine = [*pseudo, *host, *sorted(given, key=lambda pair: not pair[0].startswith(b":"))]
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, mine, end_stream=end and body is None)
        if body is not None:
            for at in range(0, len(body), 16_384):
                self.h2.send_data(stream, body[at : at + 16_384])
            self.h2.end_stream(stream)
        self._flush()
        return stream

    def send(self, stream: int, piece: bytes, *, last: bool = False) -> None:
        """A piece of a body, as the window lets it through."""
        while piece:
            self.until(lambda: self.h2.local_flow_control_window(stream) > 0)
            size = min(len(piece), 16_384, self.h2.local_flow_control_window(stream))
            self.h2.send_data(stream, piece[:size])
            piece = piece[size:]
            self._flush()
        if last:
            self.h2.end_stream(stream)
            self._flush()

    def begin(self, method: str, path: str, *fields: tuple[bytes, bytes]) -> int:
        """Send the head of a call whose body follows."""
        return self.open(method, path, *fields, end=False)

    def take_back(self, stream: int) -> None:
        self.h2.reset_stream(stream, 8)
        self._flush()

    def answer(self, stream: int) -> Answer:
        """The whole answer. Raises `CutOff`."""
        self.until(lambda: stream in self.ended or stream in self.resets)
        if stream not in self.ended:
            raise CutOff(self.resets[stream])
        fields = dict(self.heads[stream])
        shown = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in self.heads[stream] if n[:1] != b":"]
        return Answer(int(fields[b":status"]), shown, self.bodies[stream])

    def ask(self, method: str, path: str, *fields: tuple[bytes, bytes], body: bytes | None = None) -> Answer:
        """A call and its answer."""
        return self.answer(self.open(method, path, *fields, body=body))

    def until(self, true: Callable[[], Any]) -> None:
        """Read until it is so. Raises `CutOff` when the connection ends before."""
        while not true():
            octets = self._end.recv(65_536)
            if not octets:
                raise CutOff
            for event in self.h2.receive_data(octets):
                self._note(event)
            self._flush()

    def _note(self, event: Any) -> None:
        if isinstance(event, ResponseReceived):
            assert event.headers is not None and event.stream_id is not None
            self.heads[event.stream_id] = [(bytes(n), bytes(v)) for n, v in event.headers]  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            assert event.stream_id is not None
            self.bodies[event.stream_id] += event.data or b""
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id or 0)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = int(event.error_code or 0)

    def _flush(self) -> None:
        if octets := self.h2.data_to_send():
            self._end.sendall(octets)
