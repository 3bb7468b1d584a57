"""The way to one service's upstream: checked addresses only, the judged bytes, one attempt, no proxies."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from valetkey.services.dialling import AddressRefused, OwnListeners, address_allowed, addresses_allowed
from valetkey.services.origin import Origin
from valetkey.services.service import Service

KEEPALIVE_SECONDS = 15.0
"""Idle connections are closed before common servers close theirs, so that few calls meet a closed one."""
READ_CHUNK = 65_536
"""Bytes of an answer that may wait in memory before the upstream is made to wait."""
MAX_FIELD_BYTES = 65_536
"""Longest header of an answer."""

_SKIPPED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class UpstreamFailed(Exception):
    """The upstream could not be reached or broke off. `sent` tells whether bytes of the call may have left."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.why = why
        self.sent = sent


class CheckedResolver(AbstractResolver):
    """Resolves a name, checks every address, hands out only what was checked: that is what is dialled."""

    def __init__(self, service: Service, own: OwnListeners) -> None:
        self._service = service
        self._own = own

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of a host. Raises OSError where one of them may not be called."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket.SOCK_STREAM
        )
        addresses = [(kind, str(where[0])) for kind, _, _, _, where in found]
        try:
            addresses_allowed((address for _, address in addresses), port, self._service, self._own)
        except AddressRefused as error:
            raise OSError(str(error)) from None
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
            for kind, address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Upstream:
    """A pool of connections to one service's hosts."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self._service = service
        self._own = own
        self._session = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
            connector=aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=KEEPALIVE_SECONDS,
                resolver=CheckedResolver(service, own),
                use_dns_cache=False,
                ssl=_tls(service),
            ),
            trust_env=False,
            skip_auto_headers=_SKIPPED,
            read_bufsize=READ_CHUNK,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
        )
        # aiohttp would send idempotent calls a second time when a kept connection closes under them; one call
        # goes upstream at most once. The session has no public switch for it.
        self._session._retry_connection = False

        # An address in the place of a name never reaches the resolver, so it is judged here, once.
        self._refused = {
            origin: why
            for origin in service.hosts.values()
            if (why := _refusal(origin, service, own)) is not None
        }

    def url(self, origin: Origin, target: str, query: bytes) -> URL:
        """The URL of a judged target; yarl takes it as it is."""
        address = f"{origin.scheme}://{origin.authority}{origin.prefix}{target}"
        if query:
            address += "?" + query.decode("latin-1")
        return URL(address, encoded=True)

    async def send(
        self, method: str, origin: Origin, url: URL, headers: list[tuple[str, str]], body: Any
    ) -> aiohttp.ClientResponse:
        """Send one call once and return when the answer's head is there. Raises `UpstreamFailed`.

        The text of the client library's own errors is dropped: it may carry the URL with the key.
        """
        refusal = self._refused.get(origin)
        if refusal is not None:
            raise UpstreamFailed(refusal, sent=False)
        failure: UpstreamFailed
        try:
            return await self._session.request(method, url, headers=headers, data=body, allow_redirects=False)
        except aiohttp.ClientConnectorCertificateError:
            failure = UpstreamFailed("the upstream's certificate is not trusted", sent=False)
        except aiohttp.ClientConnectorError as error:
            reason = str(error.os_error) if isinstance(error.os_error, OSError) else ""
            said = reason if "--allow-private" in reason or "never sent" in reason else "no connection"
            failure = UpstreamFailed(said, sent=False)
        except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError):
            failure = UpstreamFailed("no connection in time", sent=False)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = UpstreamFailed(type(error).__name__, sent=True)
        raise failure

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


def _refusal(origin: Origin, service: Service, own: OwnListeners) -> str | None:
    """Why calls may not be sent to an origin whose host is an address, or None."""
    literal = origin.literal
    if literal is None:
        return None
    try:
        address_allowed(literal, origin.port, service, own)
    except AddressRefused as error:
        return str(error)
    return None


def _tls(service: Service) -> ssl.SSLContext | bool:
    """Verification is always on; a service may only narrow it to authorities of its own."""
    if service.ca_file is None:
        return True
    return ssl.create_default_context(cafile=str(Path(service.ca_file)))
