"""A caller in HTTP/2 that is put together by hand: it can be as wrong as a test wants."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    PingAckReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes, Settings
from house import Peer
from hyperframe.frame import Frame

Pairs = list[tuple[bytes, bytes]]


def head(
    method: bytes = b"GET", path: bytes = b"/", *more: tuple[bytes, bytes], authority: bytes = b"a"
) -> Pairs:
    """The fields of a request."""
    return [
        (b":method", method), (b":scheme", b"http"), (b":authority", authority), (b":path", path), *more,
    ]  # fmt: skip


class Second:
    """One connection."""

    def __init__(self, peer: Peer, *, window: int | None = None) -> None:
        self.reader, self.writer = peer
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
            )
        )
        if window is not None:
            self.h2.local_settings = Settings(
                client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()
        self.flush()
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.continues: list[int] = []
        self.bodies: dict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goodbye: tuple[int, int] | None = None
        """Error code and last stream of a GOAWAY."""
        self.gone = False
        self.settled = False
        self.pongs = 0
        self.takes = True
        """Whether windows are opened again for what came."""

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def ask(self, fields: Pairs | None = None, body: bytes | None = None, *, end: bool = True) -> int:
        """Send a request's head, and a body that fits into the window."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, fields or head(), end_stream=end and body is None)
        if body is not None:
            for at in range(0, len(body), 16_384):
                self.h2.send_data(stream, body[at : at + 16_384])
            if end:
                self.h2.end_stream(stream)
        self.flush()
        return stream

    def send(self, *frames: Frame) -> None:
        """Frames as they are, past all that the library would say to them."""
        self.writer.write(b"".join(frame.serialize() for frame in frames))

    async def once(self, true: Callable[[], Any]) -> None:
        """Read until it is so. Raises ConnectionError when the connection ends before."""
        while not true():
            if self.gone:
                raise ConnectionError(f"{self.goodbye=} {self.resets=}")
            await self.hear()

    async def answer(self, stream: int) -> tuple[int, bytes]:
        """Status and body of an answer that ends as it should."""
        await self.once(lambda: stream in self.ended or stream in self.resets)
        assert stream not in self.resets, self.resets
        return int(self.heads[stream][b":status"]), self.bodies[stream]

    async def to_the_end(self) -> None:
        """Read until the connection has ended."""
        while not self.gone:
            await self.hear()

    async def hear(self) -> None:
        """What comes next."""
        try:
            octets = await self.reader.read(65_536)
        except ConnectionError:
            octets = b""
        if not octets:
            self.gone = True
            return
        for event in self.h2.receive_data(octets):
            self._note(event)
        if not self.writer.is_closing():
            self.flush()
            await asyncio.sleep(0)

    def _note(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            assert event.headers is not None
            self.heads[event.stream_id or 0] = dict(event.headers)  # type: ignore[arg-type]
        elif isinstance(event, InformationalResponseReceived):
            self.continues.append(event.stream_id or 0)
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id or 0] += event.data or b""
            if self.takes:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
        elif isinstance(event, StreamEnded):
            self.ended.add(event.stream_id or 0)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = (int(event.error_code or 0), event.last_stream_id or 0)
        elif isinstance(event, SettingsAcknowledged):
            self.settled = True
        elif isinstance(event, PingAckReceived):
            self.pongs += 1


CALM = int(ErrorCodes.ENHANCE_YOUR_CALM)
