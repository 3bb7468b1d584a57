"""Connections to one service's upstream, kept alive, each dialled to an address that was checked."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque

from valetkey.services.dialling import AddressRefused, OwnListeners, address_allowed, addresses_allowed
from valetkey.services.origin import Origin
from valetkey.services.service import Service
from valetkey.services.trust import trusting
from valetkey.wire.upstream import UpstreamConnection

KEEPALIVE_SECONDS = 15.0
"""Idle connections are closed before common servers close theirs, so that few calls meet a closed one."""
MAX_IDLE = 256
"""Idle connections kept to one origin; more are closed when their call ends."""


class NoConnection(Exception):
    """The upstream could not be reached; nothing was sent. Says why."""


class ConnectionPool:
    """Connections to the hosts of one service, each dialled to an address that was checked."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self._service = service
        self._own = own
        self._connect_timeout = connect_timeout
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[Origin, deque[tuple[UpstreamConnection, float]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def kept(self, origin: Origin) -> UpstreamConnection | None:
        """A connection to `origin` that is idle and usable."""
        idle = self._idle.get(origin)
        if not idle:
            return None
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        while idle:
            connection, since = idle.pop()
            if since > oldest and connection.usable:
                return connection
            connection.close()
        return None

    def keep(self, origin: Origin, connection: UpstreamConnection) -> None:
        """Take a connection back whose answer has ended."""
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = deque()
        if self._closed or len(idle) >= MAX_IDLE:
            connection.close()
            return
        idle.append((connection, time.monotonic()))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._drop_old)

    def close(self) -> None:
        """Close what is idle now, and the rest when its call ends."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for kept in self._idle.values():
            for connection, _ in kept:
                connection.close()
        self._idle.clear()

    def _drop_old(self) -> None:
        self._timer = None
        oldest = time.monotonic() - KEEPALIVE_SECONDS
        for kept in self._idle.values():
            while kept and kept[0][1] <= oldest:
                kept.popleft()[0].close()
        if any(self._idle.values()):
            self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS, self._drop_old)

    async def dial(self, origin: Origin) -> UpstreamConnection:
        """A new connection. Raises `NoConnection`."""
        loop = asyncio.get_running_loop()
        why = "no connection"
        try:
            tls = self._context() if origin.scheme == "https" else None
        except (OSError, ValueError):
            raise NoConnection("the file with its certificate authorities cannot be read") from None
        try:
            async with asyncio.timeout(self._connect_timeout):
                for address in await self._addresses(origin):
                    try:
                        _, connection = await loop.create_connection(
                            lambda: UpstreamConnection(lambda whole: self.keep(origin, whole)),
                            address,
                            origin.port,
                            ssl=tls,
                            server_hostname=origin.host if tls is not None else None,
                        )
                    except ssl.SSLCertVerificationError:
                        why = "the upstream's certificate is not trusted"
                    except ssl.SSLError:
                        why = "TLS could not be agreed on with it"
                    except ConnectionRefusedError:
                        why = "it refused the connection"
                    except OSError:
                        continue
                    else:
                        return connection
        except TimeoutError:
            why = "no connection in time"
        except AddressRefused as error:
            why = str(error)
        except OSError:
            why = "its name is not known"
        raise NoConnection(why)

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
            self._tls = trusting(self._service.ca_file)
        return self._tls
