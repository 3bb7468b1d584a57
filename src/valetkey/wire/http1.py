"""A caller's connection in HTTP/1.1: read by llhttp in its strict form, answered in the same turn of the loop."""

from __future__ import annotations

import sys
from typing import Any

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
)

from valetkey import syscalls
from valetkey.wire.bounds import (
    HEAD_SECONDS,
    KEEPALIVE_SECONDS,
    LINGER_SECONDS,
    MAX_AHEAD,
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    MAX_HELD,
    READ_BYTES,
    REQUESTS_A_TURN,
    STALL_MS,
)
from valetkey.wire.conversation import Conversation
from valetkey.wire.http1_head import Ambiguous, origin_form
from valetkey.wire.http1_request import Http1Request
from valetkey.wire.listening import Listening
from valetkey.wire.request import Fault

MAX_UNPARSED = 65_536
"""Bytes of which the parser may make nothing: a field, a trailer, the extension of a chunk."""
MAX_DIGITS = 1_000
"""Of a body's length, which the parser lets begin with any number of zeros."""
_NEVER = float("inf")
_VERSIONS = {"1.1": True, "1.0": False}


class _HeadTooLarge(Exception):
    """More than `MAX_HEAD_BYTES` or `MAX_FIELDS`."""


class Http1Connection(Conversation[Http1Request]):
    """One caller's connection: one request at a time, in order."""

    __slots__ = (
        "_again", "_current", "_going", "_head_bytes", "_headers", "_in_head", "_lingering", "_moved", "_parser",
        "_parsing", "_unparsed", "_url",
    )  # fmt: skip

    def __init__(self, listener: Listening, *, plain: bool = False) -> None:
        super().__init__(listener, plain=plain)
        self._parser: Any = HttpRequestParser(self)
        self._current: Http1Request | None = None
        self._parsing: Http1Request | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._url = b""
        self._head_bytes = 0
        self._in_head = False
        self._unparsed = 0
        """Bytes the parser has taken since it last made something of them."""
        self._moved = False
        self._going = False
        self._again = False
        """Whether the parser is being told once more about the request that is being read."""
        self._lingering = False

    # -- the transport's side

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

    # -- a turn: what is here is read and handed over in order, and not all of it at once

    def _go_on(self) -> None:
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
        # Whoever reads while an error is handled finds that one in the place of the parser's cause.
        around = sys.exception()
        try:
            self._parser.feed_data(piece)
        except HttpParserUpgrade as upgrade:
            self._stay(piece[upgrade.args[0] :])
        except HttpParserInvalidURLError:
            self._misread(Fault.TARGET)
        except HttpParserInvalidMethodError:
            self._misread(Fault.METHOD)
        except HttpParserError as error:
            cause = error.__context__
            if cause is not around and not isinstance(cause, _HeadTooLarge | Ambiguous | None):
                # An error of our own: the parser makes it look like one of the caller's.
                self._listener.note(cause)
                return self.abort()
            self._misread(Fault.SIZE if isinstance(cause, _HeadTooLarge) else Fault.FORM)
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
            request = Http1Request(self, "", b"", b"", [], length=None, keep_alive=False, fault=fault)
            self._queue.append(request)

    def _hand_over(self, request: Http1Request) -> None:
        self._current = request
        self.deadline = _NEVER
        try:
            self._listener.handle(request)
        except Exception as error:
            self._listener.note(error)
            self.abort()

    def _listen(self) -> None:
        self._take_more(
            len(self._held) < MAX_HELD and (self._parsing is None or not self._parsing.backlogged)
        )

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
            raise Ambiguous
        length: int | None = 0
        expects = False
        hosts: list[bytes] = []
        for name, value in self._headers:
            if name == b"content-length":
                if len(value) > MAX_DIGITS:
                    raise Ambiguous
                length = int(value)
            elif name == b"transfer-encoding":
                if not modern or value.lower() != b"chunked":
                    raise Ambiguous
                length = None
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    raise Ambiguous
                expects = modern
            elif name == b"host":
                hosts.append(value)
        method = parser.get_method().decode()
        target = self._url
        if target[:1] != b"/" or b"#" in target:
            target = origin_form(target, hosts, connect=method == "CONNECT")
        raw_path, _, query = target.partition(b"?")
        self._parsing = request = Http1Request(
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

    def ended(self, request: Http1Request) -> None:
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

    def let_go(self) -> None:
        self.close_if_idle(_NEVER)

    def close_if_idle(self, now: float) -> None:
        if self._current is None and self.deadline < now:
            self.abort() if self._deaf or self.paused else self._transport.close()
