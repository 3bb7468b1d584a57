"""The API's server: the one place that touches Granian's embedded one (called experimental by its makers)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from valetkey.wire.crowd import room
from valetkey.wire.listener import listening_socket

HEADER_READ_TIMEOUT_MS = 10_000
"""A caller has so long to send its request head; silent connections are closed after it."""
MAX_HEAD_BYTES = 32_768
"""Request line and headers together; a larger head is answered 431 by the server itself."""
MAX_CONNECTIONS = 20_000
"""More than are ever open at once; fewer where the system allows fewer open files, and more wait at the door."""
SHARES = 4
"""The port and the Unix socket take a quarter of all descriptors each; the rest is for files and workers."""
OPENING_SECONDS = 0.005


class _Server(Server):  # its private parts are untyped: the price of the listening socket being ours
    """Granian's embedded server on a listening socket of our own, whose options accepted sockets inherit."""

    def _init_shared_socket(self) -> None:
        if self.bind_uds is not None:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]
            return
        listening = listening_socket(self.bind_addr, self.bind_port)
        holder: Any = SocketHolder
        shared: Any = self
        shared._shd = holder(listening.detach(), False, self.backlog)
        shared._sfd = shared._shd.get_fd()


class Listener:
    """An HTTP/1.1 server on our own event loop, on a TCP port or a Unix socket."""

    def __init__(
        self,
        app: Any,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        socket: Path | None = None,
        backlog: int = 2048,
    ) -> None:
        self._server = _Server(
            app,
            address=address,
            port=port,
            uds=socket,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            backlog=backlog,
            backpressure=room(MAX_CONNECTIONS, SHARES),
            http1_settings=HTTP1Settings(
                header_read_timeout=HEADER_READ_TIMEOUT_MS, max_buffer_size=MAX_HEAD_BYTES, keep_alive=True
            ),
            log_enabled=False,
            log_access=False,
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the port, and return when it is open. Raises OSError when it cannot be."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve())
        while getattr(self._server, "_shd", None) is None:
            await asyncio.wait((self._task,), timeout=OPENING_SECONDS)
            if self._task.done():
                self._task.result()
                raise OSError("the listener ended before its port was open")

    async def served(self) -> None:
        """Wait until it has ended, which only `stop` should make it do."""
        assert self._task is not None
        await asyncio.wait((self._task,))

    async def stop(self, patience: float) -> None:
        """Stop accepting; wait at most `patience` seconds for what is open."""
        self._server.stop()  # type: ignore[no-untyped-call]
        if self._task is not None:
            await asyncio.wait([self._task], timeout=patience)
