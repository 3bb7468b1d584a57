"""The gateway's listener: HTTP on our own loop, parsed and answered in the same turn.

A listener with a thread of its own costs four times as much a call, because every call crosses from its
thread to ours and back (docs/decisions/0004-http-on-our-own-loop.md).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from email.utils import formatdate

from valetkey.wire.bounds import STALL_MS
from valetkey.wire.crowd import make_room, room
from valetkey.wire.door import Door
from valetkey.wire.entrance import Entrance
from valetkey.wire.http2 import Http2Connection
from valetkey.wire.listening import Connected
from valetkey.wire.request import Request

MAX_CONNECTIONS = 20_000
"""More than the streams one worker can hold in memory; fewer where the system allows fewer open files."""
BACKLOG = 2048
UNSENT_BYTES = 65_536
"""So much of an answer may wait in the kernel unsent (TCP_NOTSENT_LOWAT): a killed worker's last bytes."""
SWEEP_SECONDS = 1.0
PROTOCOLS = ("h2", "http/1.1")
"""What is agreed to by ALPN, the first that the caller offers too."""
_TCP_NOTSENT_LOWAT = 25

Handler = Callable[[Request], None]


class Listener:
    """Listens on one port and hands requests to `handle`, which answers at once or keeps them to answer later."""

    def __init__(
        self,
        handle: Handler,
        *,
        address: str,
        port: int,
        note: Callable[[BaseException], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`note` is told of errors that `handle` let through; the caller's connection is reset then.

        With `tls` requests that come in plain text are handed over with `Fault.PLAIN`.
        """
        self.handle = handle
        self.note = note
        self.closing = False
        self.date = b""
        self._address = address
        self._port = port
        self._connections: set[Connected] = set()
        self._tls = tls
        # A caller, the upstream of its call, and at a door one more who has not come in yet.
        self._most = room(MAX_CONNECTIONS, 2 if tls is None else 3)
        self._door: Door | None = None
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._door is not None:
            return self._door.port
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    def renew(self, tls: ssl.SSLContext) -> None:
        """Use this for connections made from now on; the open ones go on as they are."""
        if self._door is not None:
            self._door.tls = tls

    async def start(self) -> None:
        """Open the port. Raises OSError when it cannot be."""
        loop = asyncio.get_running_loop()
        listening = listening_socket(self._address, self._port)
        try:
            self._sweep()
            if self._tls is None:
                self._server = await loop.create_server(
                    lambda: Entrance(self), sock=listening, backlog=BACKLOG
                )
            else:
                listening.listen(BACKLOG)
                self._door = Door(
                    listening,
                    tls=self._tls,
                    secure=lambda: Entrance(self),
                    plain=lambda: Entrance(self, plain=True),
                    undecided=self._most,
                )
        except BaseException:
            listening.close()
            raise

    def retire(self) -> None:
        """Have new requests go elsewhere, as far as a version of HTTP has a word for it; what is open goes on."""
        for connection in list(self._connections):
            if isinstance(connection, Http2Connection):
                connection.retire()

    async def stop(self, patience: float) -> None:
        """Stop accepting; wait at most `patience` seconds for open calls, then reset what is left."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        if self._door is not None:
            self._door.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        for connection in list(self._connections):
            connection.let_go()
        while self._connections and loop.time() < until:  # noqa: ASYNC110 - they end by themselves
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def enter(self, connection: Connected) -> None:
        """A connection has been made."""
        if len(self._connections) >= self._most:
            self._connections.difference_update(make_room(self._connections, self._most))
        if self.closing or len(self._connections) >= self._most:
            connection.abort()
        self._connections.add(connection)

    def leave(self, connection: Connected) -> None:
        """It has ended."""
        self._connections.discard(connection)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.date = b"date: " + formatdate(usegmt=True).encode()
        now = loop.time()
        for connection in list(self._connections):
            connection.close_if_idle(now)
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)


def listening_socket(address: str, port: int) -> socket.socket:
    """A bound socket that several processes may share the port of. Raises OSError."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Accepted sockets inherit them.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_MS)
        made.bind((address, port))
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
