"""The way to one service's upstream: the judged bytes, one attempt, checked addresses only, no proxies."""

from __future__ import annotations

from collections.abc import Iterable

from valetkey.gateway.connections import ConnectionPool, NoConnection
from valetkey.services.dialling import OwnListeners
from valetkey.services.origin import Origin
from valetkey.services.service import Service
from valetkey.wire.upstream import Answer, AnswerBroken, Body

_WITH_BODY = frozenset(("POST", "PUT", "PATCH"))


class UpstreamFailed(Exception):
    """The upstream could not be reached or broke off. `sent` tells whether bytes of the call may have left."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Upstream:
    """One service's upstream."""

    def __init__(self, service: Service, own: OwnListeners, *, connect_timeout: float) -> None:
        self._pool = ConnectionPool(service, own, connect_timeout=connect_timeout)

    async def send(
        self,
        method: str,
        origin: Origin,
        target: bytes,
        headers: Iterable[tuple[str, str]],
        body: Body = None,
        length: int | None = 0,
    ) -> Answer:
        """Send one call once and return when the answer's head is there. Raises `UpstreamFailed`.

        `target` is the judged path and query without the origin's prefix; `length` the bytes of the body, None
        for one that is sent in chunks.
        """
        head = _head(method, origin, target, headers, length)
        connection = self._pool.kept(origin)
        if connection is None:
            try:
                connection = await self._pool.dial(origin)
            except NoConnection as none:
                raise UpstreamFailed(str(none), sent=False) from None
            if not connection.usable:
                raise UpstreamFailed("the connection closed", sent=False)
        answer = connection.ask(method, head, body, chunked=length is None)
        try:
            await answer.head()
        except AnswerBroken as broken:
            raise UpstreamFailed(str(broken), sent=True) from None
        except BaseException:
            answer.close()
            raise
        return answer

    def close(self) -> None:
        """Close all connections, those in use when their call ends."""
        self._pool.close()


def _head(
    method: str, origin: Origin, target: bytes, headers: Iterable[tuple[str, str]], length: int | None
) -> bytes:
    """Request line and headers. Raises `UpstreamFailed` for a header that would be two."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    lines.append(f"host: {origin.authority}\r\n")
    if length is None:
        lines.append("transfer-encoding: chunked\r\n")
    elif length or method in _WITH_BODY:
        lines.append(f"content-length: {length}\r\n")
    fields = "".join(lines)
    if fields.count("\n") != len(lines) or fields.count("\r") != len(lines):
        raise UpstreamFailed("a header holds a line break", sent=False)
    return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (method.encode(), origin.prefix.encode(), target, fields.encode())
