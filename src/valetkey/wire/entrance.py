"""Which version of HTTP a new connection speaks: what TLS agreed on, or, in plain text, what its first octets say."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from valetkey import syscalls
from valetkey.wire.bounds import HEAD_SECONDS
from valetkey.wire.http1 import Http1Connection
from valetkey.wire.http2 import Http2Connection
from valetkey.wire.http2_frames import PREFACE
from valetkey.wire.listening import Listening


class Entrance(asyncio.Protocol):
    """A connection until that is known; then another protocol has its transport."""

    __slots__ = ("_listener", "_loop", "_plain", "_seen", "_transport", "deadline")

    def __init__(self, listener: Listening, *, plain: bool = False) -> None:
        """`plain`: it came without TLS to a port that speaks it, so whatever it asks is refused."""
        self._listener = listener
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._seen = b""
        self._transport: Any = None
        self.deadline = self._loop.time() + HEAD_SECONDS
        """When the sweep closes it, in the loop's time."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._listener.enter(self)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._let_in(tls.selected_alpn_protocol() == "h2")

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._seen.startswith(PREFACE):
            self._let_in(True)
        elif not PREFACE.startswith(self._seen):
            self._let_in(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.leave(self)

    def _let_in(self, second: bool) -> None:
        if self._transport.is_closing():
            return
        self._listener.leave(self)
        speaking = (Http2Connection if second else Http1Connection)(self._listener, plain=self._plain)
        self._transport.set_protocol(speaking)
        speaking.connection_made(self._transport)
        if self._seen:
            speaking.data_received(self._seen)

    def close_if_idle(self, now: float) -> None:
        """Close it when its time is over."""
        if self.deadline < now:
            self._transport.close()

    def let_go(self) -> None:
        """It has asked nothing yet, so nothing is left to answer."""
        self._transport.close()

    def abort(self) -> None:
        """Reset it."""
        with suppress(OSError, AttributeError):  # it is closed already
            syscalls.reset(self._transport.get_extra_info("socket").fileno())
        self._transport.abort()
