"""The control API's port when it speaks TLS: ended here, and handed on to the API's Unix socket as it is.

So both ports have one TLS, one way of taking a new certificate, and one answer to plain text; Granian's own TLS
reads its files once and drops connections when it is started anew.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from valetkey.decision.codes import Code
from valetkey.decision.decide import refuse
from valetkey.gateway.refusal import problem
from valetkey.wire.bounds import LINGER_SECONDS, WAITING_BYTES
from valetkey.wire.crowd import room
from valetkey.wire.door import Door
from valetkey.wire.flow import Paced
from valetkey.wire.listener import listening_socket

BACKLOG = 1024
MAX_CONNECTIONS = 2_000
SHARES = 8
"""A caller, both ends of what it is handed on by, and one more at the door: together half of all descriptors."""
_STATUS, _, _BODY = problem(refuse(Code.TLS_REQUIRED), None)
_IN_PLAIN = (
    b"HTTP/1.1 %d Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n"
    b"cache-control: no-store\r\nconnection: close\r\n\r\n%b" % (_STATUS, len(_BODY), _BODY)
)


class TlsPort:
    """Listens with TLS and relays to a Unix socket."""

    def __init__(self, behind: Path, *, address: str, port: int, tls: ssl.SSLContext) -> None:
        self._behind = behind
        self._address = address
        self._port = port
        self._tls = tls
        self._door: Door | None = None
        self._open: set[_Caller] = set()

    async def start(self) -> None:
        """Open the port. Raises OSError when it cannot be."""
        listening = listening_socket(self._address, self._port)
        listening.listen(BACKLOG)
        self._door = Door(
            listening,
            tls=self._tls,
            secure=lambda: _Caller(self._behind, self._open),
            plain=_Plain,
            undecided=room(MAX_CONNECTIONS, SHARES),
        )

    def renew(self, tls: ssl.SSLContext) -> None:
        """Use this for connections made from now on; the open ones go on as they are."""
        if self._door is not None:
            self._door.tls = tls

    async def stop(self, patience: float) -> None:
        """Stop accepting. What is open ends when the API behind ends; after `patience` seconds it is broken off."""
        if self._door is not None:
            self._door.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        while self._open and loop.time() < until:  # noqa: ASYNC110 - they end by themselves
            await asyncio.sleep(0.01)
        for caller in list(self._open):
            caller.abort()


class _End(Paced):
    """One end of a relayed connection: what comes goes to the other end, no faster than that takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: Any = None
        self.other: _End | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(high=WAITING_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            # A broken answer must not look like one that ended.
            other.transport.close() if exc is None else other.transport.abort()


class _Caller(_End):
    """The end that came in by TLS."""

    def __init__(self, behind: Path, opened: set[_Caller]) -> None:
        super().__init__()
        self._behind = behind
        self._opened = opened
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self._opened) >= room(MAX_CONNECTIONS, SHARES):
            transport.abort()
            return
        self._opened.add(self)
        transport.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            _, other = await asyncio.get_running_loop().create_unix_connection(_End, str(self._behind))
        except OSError:
            return self.abort()
        if self.transport.is_closing():
            other.transport.abort()
            return
        self.other, other.other = other, self
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)
        super().connection_lost(exc)

    def abort(self) -> None:
        """Break it off."""
        self.transport.abort()


class _Plain(asyncio.Protocol):
    """Somebody without TLS: told so, whatever they ask. Nothing of it is looked at."""

    def connection_made(self, transport: Any) -> None:
        transport.write(_IN_PLAIN)
        transport.write_eof()
        # More may come, and closing at once would let a reset overtake the answer.
        asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)
