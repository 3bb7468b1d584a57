"""The listener in HTTP/2, over real sockets: many requests at a time, each answered, slowed and cut by itself."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings
from house import House, all_of, knock, patched, run, send_cut
from second import Pairs, Second, head

from certificates import Authority
from valetkey.wire.bounds import WAITING_BYTES
from valetkey.wire.certificate import read_pair
from valetkey.wire.entrance import Entrance
from valetkey.wire.http2 import Http2Connection
from valetkey.wire.http2_frames import MAX_STREAMS, PREFACE, Frames
from valetkey.wire.http2_request import Http2Request
from valetkey.wire.listener import PROTOCOLS, Listener
from valetkey.wire.request import MAX_WAITING_BYTES, CallerGone, Fault, Request


async def echo(request: Request) -> None:
    body = b""
    while piece := await request.read():
        body += piece
    request.answer((200, [(b"x", b"y")], request.raw_path + body))


async def collect(request: Request) -> None:
    while await request.read():
        pass
    request.answer((200, [], b"%d" % request.received))


def talk(
    house: House, visit: Callable[[Second], Awaitable[Any]], *, window: int | None = None, **more: float
) -> Any:
    """One connection in plain text, by prior knowledge."""

    async def main(listener: Listener) -> Any:
        return await visit(Second(await knock(listener), window=window))

    with patched(**more):
        return run(house, main)


def only(listener: Listener) -> Http2Connection:
    (connection,) = listener._connections
    assert isinstance(connection, Http2Connection)
    return connection


def test_many_requests_are_answered_on_one_connection_in_any_order() -> None:
    async def slow_first(request: Request) -> None:
        if request.raw_path == b"/0":
            await asyncio.sleep(0.1)
        await echo(request)

    house = House(slow_first)

    async def visit(caller: Second) -> None:
        streams = [caller.ask(head(b"POST", b"/%d" % n), b"body%d" % n) for n in range(MAX_STREAMS)]
        assert [await caller.answer(stream) for stream in streams] == [
            (200, b"/%dbody%d" % (n, n)) for n in range(MAX_STREAMS)
        ]
        assert caller.heads[1][b"x"] == b"y" and caller.heads[1][b"date"]

    talk(house, visit)
    assert len(house.asked) == MAX_STREAMS


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_it_does_not_matter_how_octets_are_cut(size: int) -> None:
    house = House(echo)

    async def visit(listener: Listener) -> tuple[int, bytes]:
        caller = Second(await knock(listener))
        stream = caller.h2.get_next_available_stream_id()
        caller.h2.send_headers(stream, head(b"POST", b"/a?b", (b"x", b"y" * 2000)))
        caller.h2.send_data(stream, b"z" * 3000, end_stream=True)
        await send_cut(caller.writer, caller.h2.data_to_send(), size)
        return await caller.answer(stream)

    assert run(house, visit) == (200, b"/a" + b"z" * 3000)
    assert [(request.method, request.raw_path, request.query) for request in house.asked] == [
        ("POST", b"/a", b"b")
    ]


@pytest.mark.parametrize("offered", [["h2", "http/1.1"], ["h2"], ["http/1.1", "h2"]])
def test_tls_agrees_on_it_where_the_caller_offers_it(tmp_path: Path, offered: list[str]) -> None:
    authority = Authority(tmp_path)
    files = authority.sign()
    tls = ssl.create_default_context(cafile=str(authority.file))
    tls.set_alpn_protocols(offered)

    async def visit(listener: Listener) -> tuple[int, bytes]:
        caller = Second(await knock(listener, tls))
        assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        return await caller.answer(caller.ask(head(b"POST", b"/a"), b"x" * 50_000))

    server = read_pair(files.certificate, files.key).context(PROTOCOLS)
    assert run(House(collect), visit, server) == (200, b"50000")


def test_http1_goes_on_beside_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.sign()
    asks = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

    async def visit(listener: Listener) -> list[bytes]:
        answers = []
        for offered in (["http/1.1"], []):
            tls = ssl.create_default_context(cafile=str(authority.file))
            tls.set_alpn_protocols(offered)
            reader, writer = await knock(listener, tls)
            writer.write(asks)
            answers.append(await all_of(reader))
        return answers

    for answer in run(House(), visit, read_pair(files.certificate, files.key).context(PROTOCOLS)):
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_in_plain_text_at_a_port_with_tls_it_is_refused_and_may_not_go_on(tmp_path: Path) -> None:
    files = Authority(tmp_path).sign()
    house = House()
    keys: list[Pairs] = []

    def refuse(request: Request) -> None:
        keys.append(request.headers)
        House.handle(house, request)

    async def visit(listener: Listener) -> Second:
        listener.handle = refuse
        caller = Second(await knock(listener))
        status, body = await caller.answer(caller.ask(head(b"GET", b"/", (b"authorization", b"Bearer x"))))
        assert status == 400 and b"speaks TLS" in body
        await caller.to_the_end()
        return caller

    caller = run(house, visit, read_pair(files.certificate, files.key).context(PROTOCOLS))
    assert caller.goodbye == (ErrorCodes.NO_ERROR, 1)
    assert house.faults == [Fault.PLAIN] and (b"authorization", b"Bearer x") in keys[0]


def test_an_upgrade_in_plain_text_is_not_taken() -> None:
    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        )
        return await all_of(reader)

    assert run(House(), visit).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("beginning", [b"PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n", b"PRI", PREFACE[:-1]])
def test_what_only_begins_like_it_is_no_request(beginning: bytes) -> None:
    house = House()

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(beginning)
        return await all_of(reader)

    with patched(HEAD_SECONDS=0.2, SWEEP_SECONDS=0.05, KEEPALIVE_SECONDS=0.0):
        assert run(house, visit)[:12] in (b"", b"HTTP/1.1 400")
    assert house.asked == []


# -- bodies


def test_head_and_answers_without_a_body_end_with_their_head() -> None:
    def then(request: Request) -> None:
        status = 200 if request.method == "HEAD" else int(request.raw_path[1:])
        request.start(status, [], 5, b"hello")

    async def visit(caller: Second) -> None:
        asked = caller.ask(head(b"HEAD", b"/"))
        assert await caller.answer(asked) == (200, b"")
        assert caller.heads[asked][b"content-length"] == b"5"
        for status in (204, 304):
            assert await caller.answer(caller.ask(head(b"GET", b"/%d" % status))) == (status, b"")

    talk(House(then), visit)


def test_a_large_body_comes_whole_and_waits_nowhere() -> None:
    most = 0

    async def slowly(request: Request) -> None:
        nonlocal most
        while await request.read():
            most = max(most, request._waiting)
            await asyncio.sleep(0)
        request.answer((200, [], b"%d" % request.received))

    async def visit(caller: Second) -> tuple[int, bytes]:
        stream = caller.ask(head(b"POST", b"/", (b"content-length", b"5000000")), end=False)
        left = 5_000_000
        while left:
            await caller.once(lambda: caller.h2.local_flow_control_window(stream) > 0)
            size = min(left, 16_384, caller.h2.local_flow_control_window(stream))
            left -= size
            caller.h2.send_data(stream, b"x" * size, end_stream=not left)
            caller.flush()
            await caller.writer.drain()
        return await caller.answer(stream)

    assert talk(House(slowly), visit) == (200, b"5000000")
    assert most <= MAX_WAITING_BYTES


def test_an_upload_that_nobody_reads_stops_at_its_window_and_holds_up_no_other() -> None:
    async def reads_no_big_one(request: Request) -> None:
        if request.raw_path == b"/big":
            await asyncio.Event().wait()
        await collect(request)

    async def visit(caller: Second) -> None:
        await caller.once(lambda: caller.settled)
        streams = [caller.ask(head(b"POST", b"/big"), end=False) for _ in range(5)]
        for stream in streams:
            while window := caller.h2.local_flow_control_window(stream):
                caller.h2.send_data(stream, b"x" * min(16_384, window))
                caller.flush()
                await asyncio.sleep(0)
        assert await caller.answer(caller.ask(head(b"POST", b"/"), b"y" * 60_000)) == (200, b"60000")
        assert all(caller.h2.local_flow_control_window(stream) == 0 for stream in streams)

    house = House(reads_no_big_one)
    talk(house, visit)
    assert [request._waiting for request in house.asked[:5]] == [MAX_WAITING_BYTES] * 5


def test_padding_is_no_body_and_its_room_is_given_back() -> None:
    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/"), end=False)
        for _ in range(3000):  # more padding than all windows together
            await caller.once(lambda: caller.h2.local_flow_control_window(stream) > 257)
            caller.h2.send_data(stream, b"x", pad_length=255)
            caller.flush()
        caller.h2.end_stream(stream)
        caller.flush()
        assert await caller.answer(stream) == (200, b"3000")

    talk(House(collect), visit)


def test_a_caller_is_told_to_go_on_when_its_body_is_wanted() -> None:
    async def visit(caller: Second) -> None:
        asks = head(b"POST", b"/", (b"expect", b"100-continue"), (b"content-length", b"2"))
        stream = caller.ask(asks, end=False)
        await caller.once(lambda: caller.continues == [stream])
        caller.h2.send_data(stream, b"ok", end_stream=True)
        caller.flush()
        assert await caller.answer(stream) == (200, b"/ok")

    talk(House(echo), visit)


def test_a_refused_caller_is_not_told_to_go_on() -> None:
    async def visit(caller: Second) -> None:
        asks = head(b"POST", b"/", (b"expect", b"100-continue"), (b"content-length", b"2"))
        assert await caller.answer(caller.ask(asks, end=False)) == (200, b"hi")
        assert caller.continues == []

    talk(House(), visit)


@pytest.mark.parametrize("length", [b"4", b"6"])
def test_a_body_of_another_length_than_was_said_is_never_whole(length: bytes) -> None:
    ends: list[str] = []

    async def note(request: Request) -> None:
        try:
            await collect(request)
        except CallerGone:
            ends.append("gone")

    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/", (b"content-length", length)), end=False)
        while not house.asked:
            await asyncio.sleep(0.001)
        caller.h2.send_data(stream, b"hello", end_stream=True)
        caller.flush()
        await caller.once(lambda: stream in caller.resets)
        assert caller.resets[stream] == ErrorCodes.PROTOCOL_ERROR
        assert await caller.answer(caller.ask(head(b"POST", b"/"), b"x")) == (200, b"1")

    house = House(note)
    talk(house, visit)
    assert ends == ["gone"]


@pytest.mark.parametrize(
    "trailers", [[(b"x-checksum", b"1")], [(b"content-length", b"7")], [(b"authorization", b"Bearer x")]]
)
def test_trailers_are_dropped(trailers: Pairs) -> None:
    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/a"), b"hello", end=False)
        caller.h2.send_headers(stream, trailers, end_stream=True)
        caller.flush()
        assert await caller.answer(stream) == (200, b"/ahello")

    house = House(echo)
    talk(house, visit)
    assert house.asked[0].headers == [(b"host", b"a")]


@pytest.mark.parametrize("trailers", [[(b":path", b"/b")], [(b"X", b"y")], [(b"connection", b"close")]])
def test_unsound_trailers_break_the_body_off(trailers: Pairs) -> None:
    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/a"), b"hello", end=False)
        caller.h2.send_headers(stream, trailers, end_stream=True)
        caller.flush()
        await caller.once(lambda: stream in caller.resets)
        assert stream not in caller.heads

    talk(House(echo), visit)


def test_an_answer_of_unknown_length_comes_as_it_is_made() -> None:
    step = asyncio.Event()

    async def events(request: Request) -> None:
        request.start(200, [(b"content-type", b"text/event-stream")], None)
        for number in range(3):
            request.write(b"data: %d\n\n" % number)
            await step.wait()
            step.clear()
        request.end()

    async def visit(caller: Second) -> None:
        stream = caller.ask()
        for number in range(3):
            await caller.once(lambda: caller.bodies[stream].count(b"\n\n") == number + 1)  # noqa: B023
            assert stream not in caller.ended
            step.set()
        await caller.answer(stream)
        assert b"content-length" not in caller.heads[stream]

    talk(House(events), visit)


def test_a_caller_that_does_not_open_its_window_fills_no_memory_and_slows_no_other() -> None:
    sizes: list[int] = []

    async def fill(request: Request) -> None:
        if request.raw_path == b"/small":
            return request.answer((200, [], b"hi"))
        request.start(200, [], None)
        while not request.answered:
            request.write(b"x" * 10_000)
            sizes.append(request.unsent)  # type: ignore[attr-defined]
            if request.blocked:
                await request.drain()

    async def visit(caller: Second) -> None:
        caller.takes = False
        stream = caller.ask()
        await caller.once(lambda: len(caller.bodies[stream]) == 65_535)
        # The window of the connection is used up too, so there is room for others first.
        caller.h2.increment_flow_control_window(10_000)
        caller.flush()
        assert await caller.answer(caller.ask(head(b"GET", b"/small"))) == (200, b"hi")
        assert len(caller.bodies[stream]) == 65_535

    talk(House(fill), visit)
    assert max(sizes) < WAITING_BYTES + 10_000


def test_answers_share_a_connection_frame_by_frame() -> None:
    async def fill(request: Request) -> None:
        request.start(200, [], 400_000)
        for _ in range(40):
            request.write(b"x" * 10_000)
            if request.blocked:
                await request.drain()
        request.end()

    async def visit(caller: Second) -> None:
        first, second = caller.ask(), caller.ask()
        await caller.once(lambda: first in caller.ended or second in caller.ended)
        # Neither waited for the other to end.
        assert min(len(caller.bodies[first]), len(caller.bodies[second])) > 100_000
        assert await caller.answer(first) == await caller.answer(second) == (200, b"x" * 400_000)

    talk(House(fill), visit)


@pytest.mark.parametrize("window", [1, 100, 1_000_000])
def test_an_answer_fits_into_any_window(window: int) -> None:
    body = bytes(range(256)) * (1000 if window > 100 else window)
    house = House(lambda request: request.answer((200, [], body)))

    async def visit(caller: Second) -> None:
        assert await caller.answer(caller.ask()) == (200, body)

    talk(house, visit, window=window)


# -- ends


def stream_of(*pieces: bytes, length: int | None) -> House:
    def then(request: Request) -> None:
        request.start(200, [], length)
        for piece in pieces:
            request.write(piece)
        request.end()

    return House(then)


@pytest.mark.parametrize("pieces", [(b"four", b"and"), (b"one",)])
def test_an_answer_of_another_length_than_was_said_ends_in_a_reset(pieces: tuple[bytes, ...]) -> None:
    async def visit(caller: Second) -> None:
        stream = caller.ask()
        await caller.once(lambda: stream in caller.resets)
        assert stream not in caller.ended

    talk(stream_of(*pieces, length=5), visit)


def test_a_cut_resets_one_stream_and_hands_nothing_more_on_there() -> None:
    async def pour(request: Request) -> None:
        request.start(200, [], None)
        while not request.answered:
            request.write(b"x" * 10_000)
            if request.blocked:
                await request.drain()
            await asyncio.sleep(0)

    house = House(pour)

    async def visit(caller: Second) -> None:
        cut, other = caller.ask(), caller.ask()
        await caller.once(lambda: min(len(caller.bodies[cut]), len(caller.bodies[other])) > 100_000)
        request = house.asked[0]
        request.abort()
        request.write(b"late")
        request.end(b"later")
        await caller.once(lambda: cut in caller.resets)
        assert caller.resets == {cut: ErrorCodes.INTERNAL_ERROR} and cut not in caller.ended
        # Nothing follows a reset, and the other one goes on.
        before, there = len(caller.bodies[other]), len(caller.bodies[cut])
        await caller.once(lambda: len(caller.bodies[other]) > before + 300_000)
        assert len(caller.bodies[cut]) == there and b"late" not in caller.bodies[cut]

    talk(house, visit)
    assert house.errors == []


def test_a_cut_takes_back_what_waits_for_the_callers_window() -> None:
    house = House(lambda request: request.start(200, [], None, b"x" * 65_000))

    async def visit(caller: Second) -> None:
        stream = caller.ask()
        await caller.once(lambda: len(caller.bodies[stream]) == 1000)
        house.asked[0].abort()
        caller.h2.increment_flow_control_window(50_000, stream)
        caller.flush()
        await caller.once(lambda: stream in caller.resets)
        assert len(caller.bodies[stream]) == 1000

    async def main(listener: Listener) -> None:
        caller = Second(await knock(listener), window=1000)
        caller.takes = False
        await visit(caller)

    run(house, main)


def test_a_cut_takes_back_what_a_caller_that_is_alone_has_not_read() -> None:
    async def fill(request: Request) -> None:
        request.start(200, [], None)
        while not request.blocked:
            request.write(b"x" * 16_384)
            await asyncio.sleep(0)
        request.abort()

    async def main(listener: Listener) -> bytes:
        with socket.socket() as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            end.connect(("127.0.0.1", listener.port))
            caller = H2Connection(H2Configuration(client_side=True))
            caller.local_settings = Settings(initial_values={SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
            caller.initiate_connection()
            caller.increment_flow_control_window(2**30)
            caller.send_headers(1, head(), end_stream=True)
            end.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(end, caller.data_to_send())
            await asyncio.sleep(0.5)
            taken = b""
            try:
                while piece := end.recv(65_536):
                    taken += piece
            except ConnectionResetError:
                return taken + b"RESET"
            return taken

    taken = run(House(fill), main)
    # What its own kernel holds; some 200 KB more had been handed over.
    assert taken.endswith(b"RESET") and len(taken) < 100_000


def test_an_error_of_the_handler_resets_its_stream_alone() -> None:
    def then(request: Request) -> None:
        if request.raw_path == b"/bad":
            raise KeyError("secret")
        request.answer((200, [], b"hi"))

    house = House(then)

    async def visit(caller: Second) -> None:
        bad = caller.ask(head(b"GET", b"/bad"))
        assert await caller.answer(caller.ask()) == (200, b"hi")
        await caller.once(lambda: bad in caller.resets)

    talk(house, visit)
    assert len(house.errors) == 1


@pytest.mark.parametrize(
    ("name", "value"), [(b"x", b"a\r\nb: c"), (b"x\nb", b"c"), (b"x", b"a\rb"), (b"x", b"\0")]
)
def test_a_header_that_would_be_two_is_never_written(name: bytes, value: bytes) -> None:
    house = House(lambda request: request.answer((200, [(name, value)], b"hi")))

    async def visit(caller: Second) -> None:
        stream = caller.ask()
        await caller.once(lambda: stream in caller.resets)
        assert stream not in caller.heads

    talk(house, visit)
    assert [type(error) for error in house.errors] == [ValueError]


class Told:
    def __init__(self) -> None:
        self.told: list[str] = []

    def caller_gone(self) -> None:
        self.told.append("gone")

    def body_came(self, whole: bool) -> None:
        self.told.append("whole" if whole else "body")


@pytest.mark.parametrize("how", ["reset", "close"])
def test_whoever_carries_a_call_is_told_that_its_caller_is_gone(how: str) -> None:
    told = Told()
    house = House(lambda request: request.watch(told))

    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/"), end=False)
        while not house.asked:
            await asyncio.sleep(0.001)
        caller.h2.send_data(stream, b"x")
        caller.flush()
        while "body" not in told.told:
            await asyncio.sleep(0.001)
        if how == "reset":
            caller.h2.reset_stream(stream, ErrorCodes.CANCEL)
            caller.flush()
        else:
            caller.writer.close()
        while told.told[-1] != "gone":
            await asyncio.sleep(0.001)

    talk(house, visit)
    assert told.told == ["body", "gone"]


def test_a_caller_that_was_answered_early_reads_why_and_then_is_told_to_stop() -> None:
    async def visit(caller: Second) -> None:
        stream = caller.ask(head(b"POST", b"/", (b"content-length", b"900000")), b"x" * 60_000, end=False)
        assert await caller.answer(stream) == (200, b"hi")
        await caller.once(lambda: stream in caller.resets)
        assert caller.resets[stream] == ErrorCodes.NO_ERROR
        assert await caller.answer(caller.ask()) == (200, b"hi")

    talk(House(), visit, LINGER_SECONDS=0.2, SWEEP_SECONDS=0.05)


def test_what_follows_an_early_answer_gets_no_more_room() -> None:
    async def visit(caller: Second) -> None:
        await caller.once(lambda: caller.settled)
        stream = caller.ask(head(b"POST", b"/"), end=False)
        await caller.once(lambda: stream in caller.ended)
        while window := caller.h2.local_flow_control_window(stream):
            caller.h2.send_data(stream, b"x" * min(16_384, window))
            caller.flush()
            await asyncio.sleep(0)
        await caller.once(lambda: stream in caller.resets)

    talk(House(), visit, LINGER_SECONDS=0.2, SWEEP_SECONDS=0.05)


# -- time


@pytest.mark.parametrize("octets", [b"", PREFACE[:10], PREFACE])
def test_who_asks_nothing_is_let_go(octets: bytes) -> None:
    async def visit(listener: Listener) -> None:
        reader, writer = await knock(listener)
        writer.write(octets)
        await all_of(reader)
        assert not listener._connections

    with patched(HEAD_SECONDS=0.2, SWEEP_SECONDS=0.05):
        run(House(), visit)


def test_a_connection_is_kept_for_the_next_request_and_no_longer() -> None:
    async def visit(caller: Second) -> None:
        for _ in range(3):
            assert await caller.answer(caller.ask()) == (200, b"hi")
            await asyncio.sleep(0.1)
        await caller.to_the_end()
        assert caller.goodbye == (ErrorCodes.NO_ERROR, 5)

    talk(House(), visit, HEAD_SECONDS=0.05, KEEPALIVE_SECONDS=0.5, SWEEP_SECONDS=0.05)


def test_an_open_call_is_not_idle_and_pings_keep_nothing_open() -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.5)
        request.answer((200, [], b"late"))

    async def visit(caller: Second) -> None:
        assert await caller.answer(caller.ask()) == (200, b"late")
        while not caller.goodbye:
            caller.h2.ping(b"12345678")
            caller.flush()
            await caller.hear()
            await asyncio.sleep(0.02)

    talk(House(later), visit, HEAD_SECONDS=0.1, KEEPALIVE_SECONDS=0.2, SWEEP_SECONDS=0.05)


def test_an_answer_that_is_not_taken_is_dropped_in_the_end() -> None:
    house = House(lambda request: request.answer((200, [], b"x" * 60_000)))

    async def visit(caller: Second) -> None:
        caller.takes = False
        stream = caller.ask()
        await caller.once(lambda: stream in caller.resets)
        assert caller.resets[stream] == ErrorCodes.CANCEL and len(caller.bodies[stream]) == 100

    talk(house, visit, window=100, STALL_MS=200, SWEEP_SECONDS=0.05)


@pytest.mark.parametrize("end", ["close", "error"])
def test_a_connection_that_has_ended_leaves_nothing_for_the_collector(end: str) -> None:
    kinds = (Http2Connection, Http2Request, Frames, Entrance)

    def there() -> list[str]:
        return [type(one).__name__ for one in gc.get_objects() if type(one) in kinds]

    async def main(listener: Listener) -> list[str]:
        caller = Second(await knock(listener))
        assert await caller.answer(caller.ask(head(b"POST", b"/a"), b"x")) == (200, b"/ax")
        house.asked.clear()
        assert "Frames" in there()
        if end == "error":
            caller.writer.write(b"x" * 100)
            await caller.to_the_end()
        caller.writer.close()
        while listener._connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        return there()

    house = House(echo)
    gc.collect()
    gc.disable()
    try:
        with patched(LINGER_SECONDS=0.05):
            assert run(house, main) == []
    finally:
        gc.enable()


@pytest.mark.parametrize("open_call", [True, False])
def test_stopping_says_goodbye_answers_what_is_open_and_refuses_the_rest(open_call: bool) -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.2)
        request.answer((200, [], b"late"))

    house = House(later)

    async def visit(listener: Listener) -> None:
        caller = Second(await knock(listener))
        first = caller.ask() if open_call else 0
        while (open_call and not house.asked) or not listener._connections:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        listener.retire()
        if open_call:
            refused = caller.ask()
            await caller.once(lambda: refused in caller.resets)
            assert caller.resets[refused] == ErrorCodes.REFUSED_STREAM
            assert await caller.answer(first) == (200, b"late")
        await caller.to_the_end()
        assert caller.goodbye == (ErrorCodes.NO_ERROR, 3 if open_call else 0)

    run(house, visit)
    assert len(house.asked) == int(open_call)


def test_a_caller_that_says_goodbye_is_answered_what_it_asked() -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.1)
        request.answer((200, [], b"late"))

    async def visit(caller: Second) -> None:
        stream = caller.ask()
        caller.writer.write(bytes.fromhex("00000807000000000000000000") + bytes(4))
        assert await caller.answer(stream) == (200, b"late")

    talk(House(later), visit)
