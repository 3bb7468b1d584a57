"""Connections to one service's upstream, kept alive: aiohttp's protocol and parser under a pool of our own.

The client session above them would cost three times as much a call, send some calls a second time and add
headers; here the bytes that were judged are the bytes that leave, once (docs/results/profile.md).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import TypeAlias

from aiohttp import ClientError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

from valetkey.services.dialling import AddressRefused, OwnListeners, address_allowed, addresses_allowed
from valetkey.services.origin import Origin
from valetkey.services.service import Service

KEEPALIVE_SECONDS = 15.0
"""Idle connections are closed before common servers close theirs, so that few calls meet a closed one."""
MAX_IDLE = 256
"""Idle connections kept to one origin; more are closed when their call ends."""
READ_CHUNK = 65_536
"""Bytes of an answer that may wait in memory before the upstream is made to wait."""
MAX_FIELD_BYTES = 65_536
"""Longest header of an answer."""

Body: TypeAlias = bytes | AsyncIterator[bytes] | None


class UpstreamFailed(Exception):
    """The upstream could not be reached or broke off. `sent` tells whether bytes of the call may have left."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent


class UpstreamAnswer:
    """An answer whose head is there. Its connection goes back to the pool by itself when its body has ended."""

    __slots__ = ("_connection", "content", "headers", "raw_headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage, content: StreamReader) -> None:
        self._connection = connection
        self.status = message.code
        self.raw_headers = message.raw_headers
        self.headers: Mapping[str, str] = message.headers
        self.content = content

    def close(self) -> None:
        """Hand nothing more on in either direction."""
        self._connection.abort()


class Connection:
    """One connection while a call uses it."""

    __slots__ = ("_done", "_pool", "_sending", "origin", "protocol")

    def __init__(self, pool: ConnectionPool, origin: Origin, protocol: ResponseHandler) -> None:
        self._pool = pool
        self.origin = origin
        self.protocol = protocol
        self._sending: asyncio.Task[None] | None = None
        self._done = False

    def abort(self) -> None:
        """End it at once, in both directions."""
        if not self._done:
            self._done = True
            self._stop_sending()
            self.protocol.abort()

    def ended(self) -> None:
        """The answer is whole: keep the connection if nothing speaks against it."""
        if self._done:
            return
        self._done = True
        if self._sending is not None and not self._sending.done():
            # It answered before it had the whole body: what follows on this connection would be that body.
            self._stop_sending()
            self.protocol.abort()
        else:
            self._pool.keep(self.origin, self.protocol)

    def send(self, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Write the body beside whatever comes back meanwhile."""
        self._sending = asyncio.get_running_loop().create_task(self._send(pieces, chunked=chunked))
        # Its failure shows as a broken connection; nobody awaits it.
        self._sending.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _send(self, pieces: AsyncIterator[bytes], *, chunked: bool) -> None:
        """As it comes, no faster than the upstream takes it."""
        protocol = self.protocol
        try:
            async for piece in pieces:
                transport = protocol.transport
                if transport is None:
                    return
                transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                if protocol.writing_paused:
                    await protocol._drain_helper()
            if chunked and protocol.transport is not None:
                protocol.transport.write(b"0\r\n\r\n")
        except (OSError, ClientError):
            return  # whoever waits for the answer learns it
        except Exception:
            # The body cannot be sent whole: the upstream must see it broken, not ended.
            protocol.abort()
            raise

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()


class ConnectionPool:
    """Connections to the hosts of one service, each dialled to an address that was checked."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self._service = service
        self._own = own
        self._connect_timeout = connect_timeout
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[Origin, deque[tuple[ResponseHandler, float]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self, origin: Origin) -> Connection:
        """A connection to `origin`, kept or new. Raises `UpstreamFailed`; nothing was sent then."""
        kept = self._idle.get(origin)
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        while kept:
            protocol, since = kept.pop()
            # What came in unasked since would be read as the answer to the next call.
            if since > oldest and protocol.is_connected() and not protocol.should_close:
                return Connection(self, origin, protocol)
            protocol.close()
        return Connection(self, origin, await self._dial(origin))

    def keep(self, origin: Origin, protocol: ResponseHandler) -> None:
        """Take a connection back whose answer has ended."""
        kept = self._idle.setdefault(origin, deque())
        if self._closed or protocol.should_close or len(kept) >= MAX_IDLE:
            protocol.close()
            return
        kept.append((protocol, time.monotonic()))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._drop_old)

    def close(self) -> None:
        """Close what is idle now, and the rest when its call ends."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for kept in self._idle.values():
            for protocol, _ in kept:
                protocol.close()
        self._idle.clear()

    def _drop_old(self) -> None:
        self._timer = None
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        for kept in self._idle.values():
            while kept and kept[0][1] <= oldest:
                kept.popleft()[0].close()
        if any(self._idle.values()):
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._drop_old)

    async def _dial(self, origin: Origin) -> ResponseHandler:
        loop = asyncio.get_running_loop()
        why = "no connection"
        try:
            tls = self._context() if origin.scheme == "https" else None
        except (OSError, ValueError):
            raise UpstreamFailed(
                "the file with its certificate authorities cannot be read", sent=False
            ) from None
        try:
            async with asyncio.timeout(self._connect_timeout):
                for address in await self._addresses(origin):
                    try:
                        _, protocol = await loop.create_connection(
                            lambda: ResponseHandler(loop),
                            address,
                            origin.port,
                            ssl=tls,
                            server_hostname=origin.host if tls is not None else None,
                        )
                    except ssl.SSLCertVerificationError:
                        why = "the upstream's certificate is not trusted"
                    except OSError:
                        continue
                    else:
                        return protocol
        except TimeoutError:
            why = "no connection in time"
        except AddressRefused as error:
            why = str(error)
        except OSError:
            why = "its name is not known"
        raise UpstreamFailed(why, sent=False)

    async def _addresses(self, origin: Origin) -> list[str]:
        """Every address of an origin, all checked: one that may not be called refuses them all."""
        if origin.literal is not None:
            address_allowed(origin.literal, origin.port, self._service, self._own)
            return [str(origin.literal)]
        found = await asyncio.get_running_loop().getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM
        )
        addresses = list(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))
        addresses_allowed(addresses, origin.port, self._service, self._own)
        return addresses

    def _context(self) -> ssl.SSLContext:
        """Verification is always on; a service may only narrow it to authorities of its own."""
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=self._service.ca_file)
            self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        return self._tls
