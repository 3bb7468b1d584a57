"""What has brought servers down in HTTP/2: each ends the stream or the connection that does it, and nothing else."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from house import House, knock, patched, run
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from second import CALM, Pairs, Second, head

from valetkey.wire.http2 import Http2Connection
from valetkey.wire.http2_floods import RESET_BURST
from valetkey.wire.http2_frames import MAX_STREAMS, MAX_TABLE_BYTES, PREFACE
from valetkey.wire.listener import Listener
from valetkey.wire.request import Fault, Request

ENOUGH = 20_000
"""Frames of a flood: many times what is let through, and parsed in a second where nothing stopped them."""


def visited(house: House, visit: Callable[[Second], Awaitable[Any]], **more: float) -> Any:
    """A caller does what it wants; meanwhile another is answered as ever."""

    async def main(listener: Listener) -> Any:
        other = Second(await knock(listener))
        assert await other.answer(other.ask(head(b"GET", b"/other"))) == (200, b"hi")
        caller = Second(await knock(listener))
        told = await visit(caller)
        assert await other.answer(other.ask(head(b"GET", b"/other"))) == (200, b"hi")
        return told

    with patched(**more):
        told = run(house, main)
    assert house.errors == []
    return told


async def hang(request: Request) -> None:
    if request.raw_path == b"/other":
        return request.answer((200, [], b"hi"))
    await asyncio.Event().wait()


def block(fields: Pairs) -> bytes:
    return Encoder().encode(fields)


def headers(
    stream: int, fields: Pairs | None = None, flags: tuple[str, ...] = ("END_HEADERS", "END_STREAM")
) -> Frame:
    return HeadersFrame(stream, block(fields or head()), flags=list(flags))


async def pour(caller: Second, frames: list[bytes]) -> None:
    """Send them for as long as they are taken, then read to the end."""
    for at in range(0, len(frames), 100):
        caller.writer.write(b"".join(frames[at : at + 100]))
        try:
            await caller.writer.drain()
        except ConnectionError:
            break
        if caller.reader.at_eof():
            break
        await asyncio.sleep(0)
    await caller.to_the_end()


SHORT = head(b"POST", b"/", (b"content-length", b"1"))

FLOODS: dict[str, Callable[[int], bytes]] = {
    "pings": lambda n: PingFrame(0, opaque_data=b"12345678").serialize(),
    "answers to no ping": lambda n: PingFrame(0, opaque_data=b"12345678", flags=["ACK"]).serialize(),
    "settings": lambda n: SettingsFrame(0, settings={4: 65_535 + n % 2}).serialize(),
    "settings that nobody knows": lambda n: struct.pack(">HBBBIHI", 0, 6, 4, 0, 0, 1000 + n, n),
    "empty data": lambda n: DataFrame(1, b"").serialize(),
    "windows of the connection": lambda n: WindowUpdateFrame(0, window_increment=1).serialize(),
    "windows of a stream": lambda n: WindowUpdateFrame(1, window_increment=1).serialize(),
    "unknown frames": lambda n: b"\0\0\0\xfa\0" + bytes(4),
    "priorities": lambda n: bytes.fromhex("0000050200000000070000000010"),
    "goodbyes": lambda n: bytes.fromhex("0000080700000000000000000000000000"),
    "rapid reset": lambda n: headers(2 * n + 3).serialize() + RstStreamFrame(2 * n + 3, 8).serialize(),
    "made you reset": lambda n: headers(2 * n + 3).serialize()
    + WindowUpdateFrame(2 * n + 3, window_increment=2**31 - 1).serialize(),
    "made you reset by a length": lambda n: headers(2 * n + 3, SHORT, ("END_HEADERS",)).serialize()
    + DataFrame(2 * n + 3, b"more").serialize(),
    "made you reset by trailers": lambda n: headers(2 * n + 3, head(b"POST"), ("END_HEADERS",)).serialize()
    + headers(2 * n + 3, [(b":path", b"/")]).serialize(),
}  # fmt: skip


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_ends_its_connection_and_holds_up_no_other(flood: Callable[[int], bytes]) -> None:
    house = House(hang)

    async def visit(caller: Second) -> None:
        caller.ask(head(b"POST", b"/"), end=False)
        await caller.once(lambda: caller.settled)
        await pour(caller, [flood(number) for number in range(ENOUGH)])
        assert caller.goodbye is None or caller.goodbye[0] == CALM

    visited(house, visit)
    assert len(house.asked) < RESET_BURST + 10


def test_what_is_taken_back_at_once_is_never_handed_over() -> None:
    house = House(hang)

    async def visit(caller: Second) -> None:
        await caller.once(lambda: caller.settled)
        caller.writer.write(b"".join(FLOODS["rapid reset"](number) for number in range(500)))
        caller.h2.ping(b"12345678")
        caller.flush()
        await caller.once(lambda: caller.pongs)

    visited(house, visit)
    # A pair that two readings cut in half has been seen for a moment.
    assert len(house.asked) < 30


@pytest.mark.parametrize("size", [0, 1, 16_384])
def test_a_head_in_pieces_without_end_is_not_kept(size: int) -> None:
    house = House(hang)

    async def visit(caller: Second) -> None:
        piece = ContinuationFrame(1, b"x" * size).serialize()
        await pour(caller, [headers(1, flags=()).serialize(), *[piece] * 2000])
        assert caller.goodbye is None or caller.goodbye[0] == CALM

    visited(house, visit)
    assert len(house.asked) == 2


def test_a_head_that_is_not_ended_in_time_ends_the_connection_even_beside_an_open_call() -> None:
    async def visit(caller: Second) -> None:
        caller.ask()
        await caller.once(lambda: caller.settled)
        caller.send(headers(3, flags=()))
        await caller.to_the_end()
        assert caller.goodbye == (CALM, 1)

    visited(House(hang), visit, HEAD_SECONDS=0.2, SWEEP_SECONDS=0.05)


@pytest.mark.parametrize(("repeated", "goodbye"), [(9, None), (15, None), (1000, CALM)])
def test_a_head_that_is_small_packed_and_large_unpacked_is_refused(
    repeated: int, goodbye: int | None
) -> None:
    house = House()

    async def visit(caller: Second) -> None:
        caller.h2.encoder = Encoder()
        bomb = head(b"GET", b"/", *[(b"x", b"a" * 4000)] * repeated)
        stream = caller.ask(bomb)
        assert len(block(bomb)) < 5000
        if goodbye is None:
            assert await caller.answer(stream) == (400, Fault.SIZE.value.encode())
            assert await caller.answer(caller.ask()) == (200, b"hi")
        else:
            await caller.to_the_end()
            assert caller.goodbye is not None and caller.goodbye[0] == goodbye

    visited(house, visit)


def test_large_heads_in_a_row_are_a_flood() -> None:
    async def visit(caller: Second) -> None:
        for _ in range(100):
            if caller.goodbye:
                break
            caller.ask(head(b"GET", b"/", *[(b"x", b"a" * 4000)] * 10))
            await caller.hear()
        await caller.to_the_end()
        assert caller.goodbye is None or caller.goodbye[0] == CALM

    house = House()
    visited(house, visit)
    assert len(house.faults) < 30


def test_nothing_is_remembered_for_a_callers_sake_beyond_a_bound() -> None:
    numbers = iter(range(10**6))

    def then(request: Request) -> None:
        request.answer((200, [(b"x-%d" % next(numbers), b"y" * 500) for _ in range(20)], b"hi"))

    async def main(listener: Listener) -> None:
        caller = Second(await knock(listener))
        codes = {SettingCodes.HEADER_TABLE_SIZE: 2**31 - 1, **dict.fromkeys(range(1000, 1020), 7)}
        caller.send(SettingsFrame(0, settings={int(code): value for code, value in codes.items()}))
        caller.h2.decoder.max_allowed_table_size = 2**31 - 1
        for _ in range(20):
            assert (await caller.answer(caller.ask()))[0] == 200
        (connection,) = listener._connections
        assert isinstance(connection, Http2Connection)
        assert connection._frames.encoder.header_table.maxsize == MAX_TABLE_BYTES
        assert all(isinstance(code, SettingCodes) for code in connection._frames.remote_settings)
        assert not connection._requests and not connection._lingering
        assert len(connection._frames.streams) + len(connection._frames._closed_streams) < 30

    house = House(then)
    run(house, main)
    assert house.errors == []


def test_ends_of_streams_are_not_remembered_for_ever() -> None:
    async def main(listener: Listener) -> None:
        caller = Second(await knock(listener))
        for _ in range(1200):
            await caller.answer(caller.ask())
        (connection,) = listener._connections
        assert isinstance(connection, Http2Connection)
        assert len(connection._frames._closed_streams) <= 1000

    run(House(), main)


def test_more_requests_at_once_than_are_allowed_end_the_connection() -> None:
    house = House(hang)

    async def visit(caller: Second) -> None:
        caller.send(*(headers(2 * number + 1) for number in range(MAX_STREAMS + 1)))
        await caller.to_the_end()
        assert caller.goodbye is not None and caller.goodbye[0] != ErrorCodes.NO_ERROR

    visited(house, visit)
    assert len(house.asked) <= MAX_STREAMS + 2


def test_a_caller_that_asks_and_never_reads_is_not_answered_on() -> None:
    body = b"x" * 5000
    house = House(lambda request: request.answer((200, [], b"hi" if request.raw_path == b"/other" else body)))

    async def main(listener: Listener) -> None:
        caller = Second(await knock(listener), window=2**31 - 1)
        caller.h2.increment_flow_control_window(2**31 - 1 - 65_535)
        caller.flush()
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(4000):
            caller.ask()
            await asyncio.sleep(0)
            (connection,) = listener._connections
            assert isinstance(connection, Http2Connection) or not house.asked
            if connection._transport.is_closing():
                break
        waits = sum(request.unsent for request in getattr(connection, "_requests", {}).values())
        waits += connection._transport.get_write_buffer_size()
        assert waits < 2_000_000

    run(house, main)
    assert len(house.asked) < 2500


BROKEN: dict[str, bytes] = {
    "data on no stream": DataFrame(1, b"x").serialize().replace(b"\0\0\0\1x", b"\0\0\0\0x"),
    "data of a stream that was never opened": DataFrame(9, b"x").serialize(),
    "a stream of the server": headers(2).serialize(),
    "a stream that goes back": headers(9).serialize() + headers(5).serialize(),
    "a continuation of nothing": ContinuationFrame(1, b"x", flags=["END_HEADERS"]).serialize(),
    "another frame within a head": headers(1, flags=()).serialize() + PingFrame(0, b"12345678").serialize(),
    "a head that cannot be unpacked": HeadersFrame(1, b"\xff\xff\xff\xff\xff\xff", flags=["END_HEADERS"]).serialize(),
    "an index beyond the table": HeadersFrame(1, b"\xfe", flags=["END_HEADERS"]).serialize(),
    "a table larger than agreed": HeadersFrame(1, b"\x3f\xe1\xff\x03", flags=["END_HEADERS"]).serialize(),
    "a frame longer than agreed": b"\0\x40\x01\0\0\0\0\0\1" + b"x" * 16_385,
    "a promise": PushPromiseFrame(1, 2, block(head()), flags=["END_HEADERS"]).serialize(),
    "a window opened by nothing": bytes.fromhex("00000408000000000000000000"),
    "a window too large": WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
    "a setting that must not be": SettingsFrame(0, settings={4: 2**31}).serialize(),
    "a ping of nine": bytes.fromhex("000009060000000000") + b"123456789",
    "padding longer than its frame": bytes.fromhex("000002000800000001ff78"),
}  # fmt: skip


@pytest.mark.parametrize("octets", BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_the_protocol_ends_the_connection_and_nothing_is_asked(octets: bytes) -> None:
    house = House()

    async def visit(caller: Second) -> None:
        await caller.once(lambda: caller.settled)
        caller.writer.write(octets)
        await caller.to_the_end()
        assert caller.goodbye is not None and caller.goodbye[0] != ErrorCodes.NO_ERROR

    visited(house, visit)
    assert [request.raw_path for request in house.asked[:2]] == [b"/other", b"/other"][: len(house.asked)]


MALFORMED: dict[str, tuple[Pairs, Fault]] = {
    "a smuggled line": (head(b"GET", b"/", (b"x", b"a\r\nhost: b")), Fault.FORM),
    "a smuggled request line": (head(b"GET", b"/ HTTP/1.1\r\nhost: b\r\n\r\nGET /b"), Fault.TARGET),
    "a method with a space": (head(b"GET /b", b"/"), Fault.METHOD),
    "chunks": (head(b"POST", b"/", (b"transfer-encoding", b"chunked")), Fault.FORM),
    "upper case": (head(b"GET", b"/", (b"Host", b"b")), Fault.FORM),
    "another host": (head(b"GET", b"/", (b"host", b"b")), Fault.FORM),
    "two lengths": (head(b"POST", b"/", (b"content-length", b"0"), (b"content-length", b"5")), Fault.FORM),
    "no number": (head(b"POST", b"/", (b"content-length", b"5;")), Fault.FORM),
    "web sockets": ([(b":protocol", b"websocket"), *head(b"CONNECT")], Fault.FORM),
    "a large head": (head(b"GET", b"/", (b"x", b"a" * 35_000)), Fault.SIZE),
}


@pytest.mark.parametrize(("fields", "fault"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request_is_told_so_and_its_neighbours_are_answered(fields: Pairs, fault: Fault) -> None:
    house = House()

    async def visit(caller: Second) -> None:
        good = caller.ask()
        bad = caller.ask(fields)
        later = caller.ask()
        assert await caller.answer(bad) == (400, fault.value.encode())
        assert await caller.answer(good) == await caller.answer(later) == (200, b"hi")

    visited(house, visit)
    assert house.faults == [fault]


def frames() -> st.SearchStrategy[bytes]:
    """Frames of all kinds on few streams, some as they should be, some not."""
    stream = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 2**31 - 1])
    fields = st.sampled_from(
        [block(head()), block(head(b"POST", b"/", (b"content-length", b"3"))), b"\x82", b"\xff"]
    )
    loose = st.tuples(st.integers(0, 12), st.integers(0, 255), stream, st.binary(max_size=24)).map(
        lambda f: len(f[3]).to_bytes(3, "big") + bytes(f[:2]) + f[2].to_bytes(4, "big") + f[3]
    )
    asked = st.tuples(stream, fields, st.sampled_from([0x4, 0x5, 0x0])).map(
        lambda f: len(f[1]).to_bytes(3, "big") + bytes((1, f[2])) + f[0].to_bytes(4, "big") + f[1]
    )
    data = st.tuples(stream, st.binary(max_size=4), st.sampled_from([0, 1])).map(
        lambda f: len(f[1]).to_bytes(3, "big") + bytes((0, f[2])) + f[0].to_bytes(4, "big") + f[1]
    )
    return loose | asked | data


@given(st.lists(st.lists(frames(), max_size=12), min_size=1, max_size=40))
@settings(max_examples=40, deadline=None)
def test_no_frames_in_any_order_bring_it_out_of_step(conversations: list[list[bytes]]) -> None:
    async def echo(request: Request) -> None:
        while piece := await request.read():
            request.start(200, [], None)
            request.write(piece)
        request.answer((200, [], b"hi")) if not request.started else request.end()

    house = House(echo)

    async def main(listener: Listener) -> None:
        for conversation in conversations:
            _, writer = await knock(listener)
            writer.write(PREFACE + SettingsFrame(0).serialize())
            for frame in conversation:
                writer.write(frame)
                await asyncio.sleep(0)
        # Whoever asks properly is answered as ever.
        caller = Second(await knock(listener))
        assert (await caller.answer(caller.ask(head(b"POST", b"/"), b"x")))[0] == 200

    run(house, main)
    assert house.errors == []
