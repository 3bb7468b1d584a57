"""The gateway's listener: HTTP/1.1 on our own loop, parsed by llhttp in its strict form, answered in the same turn.

A listener with a thread of its own costs four times as much a call, because every call crosses from its
thread to ours and back (docs/decisions/0004-http-on-our-own-loop.md).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from typing import Any

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from valetkey import syscalls
from valetkey.wire.door import Door
from valetkey.wire.flow import Paced
from valetkey.wire.request import Fault, Request

HEAD_SECONDS = 10.0
"""A caller has so long to send a request head; silent connections are closed after it."""
KEEPALIVE_SECONDS = 75.0
"""A connection is kept so long after an answer."""
LINGER_SECONDS = 1.0
"""A caller that was answered before it had sent everything has so long to read why."""
MAX_HEAD_BYTES = 32_768
"""Request line and headers together."""
MAX_AHEAD = 8
"""So many requests may wait behind the one that is open, and those that stand in one piece with the last."""
MAX_HELD = 65_536
"""Bytes that may wait unparsed; more stays in the kernel."""
MAX_UNPARSED = 65_536
"""Bytes of which the parser may make nothing: a field, a trailer, the extension of a chunk."""
READ_BYTES = 16_384
"""Bytes that are parsed in one go: so many requests as stand in them are made at once."""
REQUESTS_A_TURN = 16
"""Requests of one connection that are answered before the others have their turn."""
MAX_DROPPED = 1_000_000
"""So many bytes are read and dropped on a connection that is about to end."""
MAX_FIELDS = 128
"""Header fields of a request."""
MAX_CONNECTIONS = 20_000
"""More than the streams one worker can hold in memory."""
BACKLOG = 2048
STALL_MS = 60_000
"""A caller that takes nothing for so long is dropped by the kernel (TCP_USER_TIMEOUT)."""
UNSENT_BYTES = 65_536
"""So much of an answer may wait in the kernel unsent (TCP_NOTSENT_LOWAT): a killed worker's last bytes."""
WAITING_BYTES = 65_536
"""So much of an answer may wait in the worker before its sender is made to wait."""
SWEEP_SECONDS = 1.0
PROTOCOLS = ("http/1.1",)
"""What is offered by ALPN."""
_TCP_NOTSENT_LOWAT = 25
_NEVER = float("inf")
_VERSIONS = {"1.1": True, "1.0": False}

Handler = Callable[[Request], None]


class _HeadTooLarge(Exception):
    """More than `MAX_HEAD_BYTES` or `MAX_FIELDS`."""


class _Ambiguous(Exception):
    """A request that could be read in two ways, beyond what llhttp refuses."""


class Connection(Paced):
    """One caller's connection: one request at a time, in order."""

    __slots__ = (
        "_again", "_current", "_deaf", "_dropped", "_going", "_head_bytes", "_headers", "_held", "_in_head",
        "_lingering", "_listener", "_local", "_loop", "_moved", "_parser", "_parsing", "_plain", "_queue", "_reading",
        "_transport", "_unparsed", "_url",
        "deadline", "peer",
    )  # fmt: skip

    def __init__(self, listener: Listener, *, plain: bool = False) -> None:
        """`plain`: it came without TLS to a port that speaks it, so whatever it asks is refused."""
        super().__init__()
        self._listener = listener
        self._plain = plain
        self._loop = asyncio.get_running_loop()
        self._parser: Any = HttpRequestParser(self)
        self._transport: Any = None
        self._queue: deque[Request] = deque()
        self._current: Request | None = None
        self._parsing: Request | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._head_bytes = 0
        self._in_head = False
        self._reading = True
        self._deaf = False
        self._held = b""
        """What came and is not parsed yet."""
        self._unparsed = 0
        """Bytes the parser has taken since it last made something of them."""
        self._moved = False
        self._dropped = 0
        self._going = False
        self._again = False
        """Whether the parser is being told once more about the request that is being read."""
        self._lingering = False
        self._local: tuple[str, int] | None = None
        self.peer = ""
        self.deadline = self._loop.time() + HEAD_SECONDS
        """When the sweep closes it, in the loop's time: only while no call is open on it."""

    @property
    def date(self) -> bytes:
        """The Date header of now."""
        return self._listener.date

    @property
    def local(self) -> tuple[str, int] | None:
        """Address and port of ours that the caller reached."""
        if self._local is None and self._transport is not None:
            name = self._transport.get_extra_info("sockname")
            self._local = name[:2] if isinstance(name, tuple) else None
        return self._local

    # -- the transport's side

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        peer = transport.get_extra_info("peername")
        self._listener.enter(self)
        if isinstance(peer, tuple):
            self.peer = peer[0]
        else:
            self.abort()  # it was gone before it was accepted, so nobody knows who it was

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.leave(self)
        self._deaf = True
        super().resume_writing()
        current, self._current = self._current, None
        if current is not None:
            current.lost()
        self._queue.clear()
        self._parser = self._parsing = None

    def resume_writing(self) -> None:
        super().resume_writing()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED:
                self.abort()
            return
        self._held = self._held + data if self._held else data
        self._go_on()

    # -- a turn: what is here is read and handed over in order, and not all of it at once

    def _go_on(self) -> None:
        """Hand requests over and read on, as far as this turn of the loop goes."""
        if self._going:
            return
        self._going = True
        left = REQUESTS_A_TURN
        while True:
            if self._current is None and self._queue and not self.paused:
                if not left:
                    self._loop.call_soon(self._go_on)
                    break
                left -= 1
                self._hand_over(self._queue.popleft())
            elif self._held and self._may_read():
                self._read()
            else:
                break
        self._going = False
        if self._held or not self._reading or (self._parsing is not None and self._parsing.backlogged):
            self._listen()

    def _may_read(self) -> bool:
        """Whether what is held may be parsed: what is asked far ahead, or never read, waits as it came."""
        if self._deaf or len(self._queue) >= MAX_AHEAD:
            return False
        if self._parsing is not None and not self._parsing.complete:
            return not self._parsing.backlogged
        return not self.paused

    def _read(self) -> None:
        """Feed the parser one piece of what is held."""
        held, size = self._held, READ_BYTES
        parsing = self._parsing
        if parsing is not None and parsing.length is not None:
            # Nothing but the body is in so much of it.
            size = max(size, parsing.length - parsing.received)
        if len(held) > size:
            piece, self._held = held[:size], held[size:]
        else:
            piece, self._held = held, b""
        self._moved = False
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._stay(piece[upgrade.args[0] :])
        except HttpParserInvalidURLError:
            self._misread(Fault.TARGET)
        except HttpParserInvalidMethodError:
            self._misread(Fault.METHOD)
        except HttpParserError as error:
            self._misread(Fault.SIZE if isinstance(error.__context__, _HeadTooLarge) else Fault.FORM)
        # Fields, trailers and extensions of chunks that are not whole yet wait inside the parser, uncounted.
        self._unparsed = 0 if self._moved else self._unparsed + len(piece)
        if self._unparsed > MAX_UNPARSED and not self._deaf:
            self._misread(Fault.SIZE)

    def _stay(self, rest: bytes) -> None:
        """Go on in HTTP/1.1: the offer of another protocol is not taken (RFC 9110, section 7.8)."""
        request = self._parsing
        if request is None or request.method == "CONNECT" or not request.modern:
            # What follows is no request.
            self._deaf = True
            if request is not None:
                request.keep_alive = False
            return
        self._parser = HttpRequestParser(self)
        self._held = rest + self._held
        if not request.complete:
            # llhttp left the body for the other protocol: it is told once more how the body comes.
            framing = (
                b"transfer-encoding: chunked"
                if request.length is None
                else b"content-length: %d" % request.length
            )
            self._again = True
            self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
            self._again = False

    def _misread(self, fault: Fault) -> None:
        """What came cannot be read, and nothing after it can."""
        self._deaf = True
        self._held = b""
        if self._parsing is not None and not self._parsing.complete:
            # A body that broke off must not look whole to anyone.
            self.abort()
        elif self._parsing is None or self._parsing.keep_alive:
            if self._plain:
                fault = Fault.PLAIN
            request = Request(self, "", b"", b"", [], length=None, keep_alive=False, fault=fault)
            self._queue.append(request)

    def _hand_over(self, request: Request) -> None:
        self._current = request
        self.deadline = _NEVER
        try:
            self._listener.handle(request)
        except Exception as error:
            self._listener.note(error)
            self.abort()

    def _listen(self) -> None:
        """Take more from the kernel, or leave it there. A caller that leaves is noticed while we take more."""
        wanted = len(self._held) < MAX_HELD and (self._parsing is None or not self._parsing.backlogged)
        if wanted != self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- the parser's side

    def on_message_begin(self) -> None:
        self._moved = True
        if self._again:
            return
        self._headers, self._url, self._head_bytes, self._in_head = [], b"", 0, True
        self._parsing = None
        if self._current is None:
            self.deadline = self._loop.time() + HEAD_SECONDS

    def on_url(self, url: bytes) -> None:
        if self._again:
            return
        self._url = self._url + url if self._url else url
        self._head_bytes += len(url)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _HeadTooLarge

    def on_header(self, name: bytes, value: bytes) -> None:
        self._moved = True
        if self._again:
            return
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES or len(self._headers) >= MAX_FIELDS:
            raise _HeadTooLarge
        if self._in_head:  # trailers are counted and dropped
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._again:
            return
        parser = self._parser
        modern = _VERSIONS.get(parser.get_http_version())
        if modern is None:
            raise _Ambiguous
        length: int | None = 0
        expects = False
        hosts: list[bytes] = []
        for name, value in self._headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if not modern or value.lower() != b"chunked":
                    raise _Ambiguous
                length = None
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise _Ambiguous
                expects = modern
            elif name == b"host":
                hosts.append(value)
        method = parser.get_method().decode()
        target = self._url
        if target[:1] != b"/" or b"#" in target:
            target = _origin_form(target, hosts, connect=method == "CONNECT")
        raw_path, _, query = target.partition(b"?")
        self._parsing = request = Request(
            self,
            method,
            raw_path,
            query,
            self._headers,
            length=length,
            keep_alive=not self._plain and parser.should_keep_alive(),
            modern=modern,
            expects=expects,
            fault=Fault.PLAIN if self._plain else None,
        )
        self._in_head = False
        self._head_bytes = 0
        self._queue.append(request)

    def on_body(self, body: bytes) -> None:
        self._moved = True
        if self._parsing is not None:
            self._parsing.came(body)

    def on_message_complete(self) -> None:
        self._moved = True
        # Of a body behind an offer of another protocol nothing has been read yet.
        if self._parsing is not None and not (self._parsing.length != 0 and self._parser.should_upgrade()):
            self._parsing.came_whole()

    def ended(self, request: Request) -> None:
        """The answer has been handed on whole."""
        if request is not self._current:
            return
        self._current = None
        if self._listener.closing:
            request.keep_alive = False
        if request.keep_alive:
            self.deadline = self._loop.time() + (HEAD_SECONDS if self._in_head else KEEPALIVE_SECONDS)
            self._go_on()
            return
        self._deaf = True
        self._held = b""
        self._queue.clear()
        if request.complete:
            self._transport.close()
        else:
            # More may come, and a reset would overtake the answer.
            self._reading or self._transport.resume_reading()
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._linger(STALL_MS / 1000)

    def _linger(self, left: float) -> None:
        """Reset what is left when the caller has the answer and has had its time to read it."""
        if self._transport.is_closing():
            return
        waits = self._transport.get_write_buffer_size() or syscalls.unsent(
            self._transport.get_extra_info("socket").fileno()
        )
        if left <= 0 or (self._lingering and not waits):
            self.abort()
            return
        self._lingering = not waits
        self._loop.call_later(LINGER_SECONDS, self._linger, left - LINGER_SECONDS)

    # -- the request's side

    def write(self, data: bytes) -> None:
        """Hand bytes to the caller."""
        self._transport.write(data)

    def read_on(self) -> None:
        """Some of the body was read: there is room for more."""
        if self._held:
            self._go_on()
        else:
            self._listen()

    def abort(self) -> None:
        """Reset the connection in this moment, with what waits in its buffers.

        Closing would let what the kernel has accepted, up to some MB, reach a caller that reads later, even
        after the process is dead (measured, docs/results/cutting.md).
        """
        self._deaf = True
        self._held = b""
        self._queue.clear()
        transport = self._transport
        if transport is None:
            return
        with suppress(OSError, AttributeError):  # it is closed already
            syscalls.reset(transport.get_extra_info("socket").fileno())
        transport.abort()

    def close_if_idle(self, now: float) -> None:
        """Close it when its time is over and no call is open on it."""
        if self._current is None and self.deadline < now:
            self.abort() if self._deaf or self.paused else self._transport.close()


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
        self._connections: set[Connection] = set()
        self._tls = tls
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
                    lambda: Connection(self), sock=listening, backlog=BACKLOG
                )
            else:
                listening.listen(BACKLOG)
                self._door = Door(
                    listening,
                    tls=self._tls,
                    secure=lambda: Connection(self),
                    plain=lambda: Connection(self, plain=True),
                )
        except BaseException:
            listening.close()
            raise

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
            connection.close_if_idle(_NEVER)
        while self._connections and loop.time() < until:  # noqa: ASYNC110 - they end by themselves
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def enter(self, connection: Connection) -> None:
        """A connection has been made."""
        if self.closing or len(self._connections) >= MAX_CONNECTIONS:
            connection.abort()
        self._connections.add(connection)

    def leave(self, connection: Connection) -> None:
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


def _origin_form(target: bytes, hosts: list[bytes], *, connect: bool) -> bytes:
    """Path and query of a target. Raises `_Ambiguous` for what could be meant for somebody else.

    The authority of an absolute form must be the Host header's (RFC 9112, section 3.2.2, lets it win), and a
    fragment is no part of a request.
    """
    if b"#" in target:
        raise _Ambiguous
    if target == b"*" or connect:
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise _Ambiguous
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if [authority.lower()] != [host.lower() for host in hosts]:
        raise _Ambiguous
    return path if path.startswith(b"/") else b"/" + path
