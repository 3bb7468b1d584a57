"""A caller's connection in HTTP/2: many requests at a time, each a stream that is answered and cut by itself."""

from __future__ import annotations

from contextlib import suppress

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from valetkey import syscalls
from valetkey.wire.bounds import (
    HEAD_SECONDS,
    KEEPALIVE_SECONDS,
    LINGER_SECONDS,
    MAX_HELD,
    REQUESTS_A_TURN,
)
from valetkey.wire.conversation import Conversation
from valetkey.wire.http2_floods import COST_OF_A_LARGE_HEAD, Flood, FrameMeter
from valetkey.wire.http2_frames import PREFACE, Frames, fields_of
from valetkey.wire.http2_head import Head, read_head, trailers_are_sound
from valetkey.wire.http2_request import Http2Request
from valetkey.wire.http2_sending import Sending
from valetkey.wire.listening import Listening
from valetkey.wire.request import Fault, HeaderPairs

_NEVER = float("inf")


class Http2Connection(Conversation[Http2Request]):
    """One caller's connection."""

    __slots__ = ("_begun", "_due", "_frames", "_lingering", "_meter", "_requests", "_retired", "_sending")

    def __init__(self, listener: Listening, *, plain: bool = False) -> None:
        super().__init__(listener, plain=plain)
        self._frames = Frames()
        self._begun = False
        """Whether the caller has begun as HTTP/2 begins."""
        self._meter = FrameMeter(self._loop.time())
        self._sending = Sending(self._frames, self._meter, self)
        self._requests: dict[int, Http2Request] = {}
        """Streams that are open on either side."""
        self._lingering: dict[int, float] = {}
        """Those that were answered before they had come whole, and until when they may go on."""
        self._due = False
        """Whether a further turn is planned."""
        self._retired = False
        """Whether no new requests are taken."""

    # -- the transport's side

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.leave(self)
        self._deaf = True
        super().resume_writing()
        self._lose_all()
        # What refers to itself stays until the collector comes by, which is made to come seldom.
        self._frames.release()
        self._sending.release()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._sending.pump_all()
        self._go_on()

    def _begin(self) -> bool:
        """Whether all of the preface is here, and ours is on its way."""
        if self._held.startswith(PREFACE):
            self._held = self._held[len(PREFACE) :]
            self._begun = True
            self.flush()
            return True
        if not PREFACE.startswith(self._held):
            self._give_up(ErrorCodes.PROTOCOL_ERROR)
        return False

    # -- a turn: what is here is read and handed over, and not all of it at once

    def _go_on(self) -> None:
        left, fresh = REQUESTS_A_TURN, True
        while True:
            if self._queue:
                if not left:
                    self._go_on_later()
                    break
                left -= 1
                self._hand_over(self._queue.popleft())
            elif not self._begun and not self._begin():
                break
            elif self._held and not self.paused and not self._deaf:  # who takes no answers asks no more
                if not fresh:
                    self._go_on_later()
                    break
                fresh = False
                self._read()
            else:
                break
        self._listen()

    def _go_on_later(self) -> None:
        if not self._due:
            self._due = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._due = False
        self._go_on()

    def _hand_over(self, request: Http2Request) -> None:
        if request.answered:
            return  # it was taken back before anybody saw it
        try:
            self._listener.handle(request)
        except Exception as error:
            self._listener.note(error)
            self.reset(request, ErrorCodes.INTERNAL_ERROR)

    def _listen(self) -> None:
        self._take_more(self._deaf or len(self._held) < MAX_HELD)

    def _read(self) -> None:
        """Parse some of what is held."""
        try:
            size = self._meter.take(self._held, self._loop.time())
            piece, self._held = self._held[:size], self._held[size:]
            room = False
            for event in self._frames.receive_data(piece):
                room = self._meet(event) or room
            if room:
                self._sending.pump_all()
        except Flood:
            return self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
        except ProtocolError:  # never shown: it may quote what came. The caller is told its number
            return self._give_up(None)
        except Exception as error:
            self._listener.note(error)
            return self.abort()
        self.flush()

    def _meet(self, event: Event) -> bool:
        """Do what it asks; whether there may be room for more of the answers."""
        if isinstance(event, RequestReceived):
            self._open(event)
        elif isinstance(event, DataReceived):
            self._body_came(event)
        elif isinstance(event, TrailersReceived):
            request = self._requests.get(event.stream_id or 0)
            if request is not None and not trailers_are_sound(fields_of(event)):
                self._break(request)
        elif isinstance(event, StreamEnded):
            self._body_is_whole(event.stream_id)
        elif isinstance(event, StreamReset):
            # What it sends to take back is counted as it comes; this is an error that it made.
            if not event.remote_reset:
                self._meter.reset(self._loop.time())
            request = self._requests.get(event.stream_id)
            if request is not None:
                self._lose(request)
        elif isinstance(event, RemoteSettingsChanged):
            self._frames.forget_settings()
            return True
        return isinstance(event, WindowUpdated)

    # -- requests

    def _open(self, event: RequestReceived) -> None:
        stream = event.stream_id or 0
        if self._retired:
            # Whoever is refused so may ask again, on another connection (RFC 9113, section 8.7).
            self._meter.reset(self._loop.time())
            return self._frames.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
        read = read_head(fields_of(event), ended=event.stream_ended is not None)
        if read is Fault.SIZE:
            self._meter.idle(COST_OF_A_LARGE_HEAD, self._loop.time())
        head, fault = (read, None) if isinstance(read, Head) else (None, read)
        request = Http2Request(self, stream, head, Fault.PLAIN if self._plain else fault)
        self._requests[stream] = request
        self._queue.append(request)
        self.deadline = _NEVER
        if self._plain:
            self.retire()

    def _body_came(self, event: DataReceived) -> None:
        stream, size = event.stream_id or 0, event.flow_controlled_length or 0
        data = event.data or b""
        request = self._requests.get(stream)
        if request is None:
            return self._frames.acknowledge_received_data(size, stream)
        request.uncredited += size
        if request.answered:
            return  # what nobody reads gets no more room than it had
        if request.length is not None and request.received + len(data) > request.length:
            # A body that is longer than was said must not look whole to anyone.
            return self._break(request)
        if len(data) < size:
            self.credit(request, size - len(data))
        if data:
            request.came(data)

    def _body_is_whole(self, stream: int | None) -> None:
        request = self._requests.get(stream or 0)
        if request is None:
            return
        if request.length is not None and request.received < request.length and not request.answered:
            return self._break(request)
        self.credit(request, request.uncredited)
        request.came_whole()
        self._forget_if_over(request)

    def _break(self, request: Http2Request) -> None:
        """Its body is none. Raises `Flood`: whoever makes us reset streams takes requests back."""
        self._meter.reset(self._loop.time())
        self.reset(request, ErrorCodes.PROTOCOL_ERROR)

    def _lose(self, request: Http2Request) -> None:
        """Its stream is over, whoever ended it."""
        self._forget(request)
        request.drop_out()
        # Not in this moment: who cut it is told afterwards, as when a connection is lost.
        self._loop.call_soon(request.lost)

    def _lose_all(self) -> None:
        self._queue.clear()
        for request in list(self._requests.values()):
            self._lose(request)

    def _forget(self, request: Http2Request) -> None:
        stream = request.stream
        self._requests.pop(stream, None)
        self._sending.drop(stream)
        self._lingering.pop(stream, None)
        self.credit(request, request.uncredited)
        if not self._requests:
            self.deadline = self._loop.time() + KEEPALIVE_SECONDS
            if self._retired and not self._deaf:
                self._leave()

    def _forget_if_over(self, request: Http2Request) -> None:
        if request.answered and not request.unsent and not request.ending and request.complete:
            self._forget(request)

    # -- a request's side

    def send_head(self, request: Http2Request, fields: HeaderPairs, *, last: bool) -> None:
        """Hand the head of an answer on; `last`: it is all of it."""
        if request.stream not in self._requests:
            return
        self._frames.send_headers(request.stream, fields, end_stream=last)
        self.flush()

    def pump(self, request: Http2Request) -> None:
        """Send what waits of one answer."""
        if request.stream in self._requests:
            self._sending.pump(request)

    def credit(self, request: Http2Request, size: int) -> None:
        """So much of the body was read: the caller may send as much again."""
        size = min(size, request.uncredited)
        if size and not self._transport.is_closing():
            request.uncredited -= size
            self._frames.acknowledge_received_data(size, request.stream)
            self.flush()

    def ended(self, request: Http2Request) -> None:
        """The answer was handed on whole; perhaps some of it waits here still."""
        if request.unsent or request.ending or request.stream not in self._requests:
            return
        if request.complete:
            self._forget(request)
        else:
            # A caller that is still sending reads why it was refused, if it is not reset at once.
            self._lingering[request.stream] = self._loop.time() + LINGER_SECONDS

    def cut(self, request: Http2Request) -> None:
        """End one stream visibly broken, in this moment; the others go on.

        What the transport and the kernel hold for a caller that does not take it can be taken back with the whole
        connection only: that is done where nobody else is on it. Else it is bounded, `WAITING_BYTES` and
        `UNSENT_BYTES`.
        """
        alone = self._requests.keys() == {request.stream}
        self.reset(request, ErrorCodes.INTERNAL_ERROR)
        if alone and not self._transport.is_closing():
            socket = self._transport.get_extra_info("socket")
            if self.paused or syscalls.untaken(socket.fileno()):
                self.abort()

    def reset(self, request: Http2Request, why: ErrorCodes) -> None:
        """End one stream visibly broken, in this moment; the others go on."""
        if request.stream not in self._requests:
            return
        if not self._transport.is_closing():
            with suppress(ProtocolError):  # it is over already
                self._frames.reset_stream(request.stream, why)
                self.flush()
        self._lose(request)

    # -- the end

    def flush(self) -> None:
        """Hand on what is to be sent."""
        octets = self._frames.data_to_send()
        if octets and not self._transport.is_closing():
            self._transport.write(octets)

    def _give_up(self, why: ErrorCodes | None) -> None:
        """What came cannot be read, or is too much: all ends. `why` is None where the library has said it."""
        self.flush()
        if why is not None:
            self._say_goodbye(why)
        self._deaf = True
        self._held = b""
        self._lose_all()
        if not self._transport.is_closing():
            # More may come, and a reset would overtake what was said.
            self._listen()
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._loop.call_later(LINGER_SECONDS, self.abort)

    def _say_goodbye(self, why: ErrorCodes) -> None:
        self._retired = True
        if not self._transport.is_closing():
            self._frames.close_connection(why)
            self.flush()

    def retire(self) -> None:
        """Refuse new requests as unseen, answer those that are open, then say goodbye and close.

        To say it at once would be as right, but callers that are made with h2, as those in Python are, read no
        answer behind it.
        """
        self._retired = True
        if not self._requests and not self._deaf:
            self._leave()

    def _leave(self) -> None:
        self._say_goodbye(ErrorCodes.NO_ERROR)
        self._transport.close()

    def let_go(self) -> None:
        self.retire()

    def close_if_idle(self, now: float) -> None:
        if self._deaf:
            return
        since = self._meter.block_since
        if since is not None and since + HEAD_SECONDS < now:
            return self._give_up(ErrorCodes.ENHANCE_YOUR_CALM)
        for request in self._sending.stalled(now):
            self.reset(request, ErrorCodes.CANCEL)
        for stream, until in list(self._lingering.items()):
            if until < now:
                # The answer is whole; what is left of the request is not wanted (RFC 9113, section 8.1).
                self.reset(self._requests[stream], ErrorCodes.NO_ERROR)
        if not self._requests and self.deadline < now:
            self.abort() if self.paused else self.retire()
