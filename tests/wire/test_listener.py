"""The listener, spoken to over real sockets: one reading of every request, one whole answer or a visible break."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import struct
from unittest import mock

import pytest
from house import House, all_of, knock, patched, run, said, send_cut

from valetkey.wire import http1
from valetkey.wire.bounds import REQUESTS_A_TURN
from valetkey.wire.crowd import room
from valetkey.wire.http1 import Http1Connection
from valetkey.wire.listener import Listener
from valetkey.wire.request import MAX_WAITING_BYTES, CallerGone, Fault, Request

HOST = b"Host: a\r\n"

TWO_READINGS = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": b"Content-Length: +5\r\n\r\nhello",
    "spaced length": b"Content-Length: 1 2\r\n\r\nhello",
    "hex length": b"Content-Length: 0x5\r\n\r\nhello",
    "negative length": b"Content-Length: -1\r\n\r\n",
    "length of zeros": b"Content-Length: " + b"0" * 5000 + b"5\r\n\r\nhello",
    "length over 64 bits": b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "gzip alone": b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "identity and chunked": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "tab before chunked": b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"Content-Length : 5\r\n\r\nhello",
    "tab before the colon": b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"X: a\r\n b\r\n\r\n",
    "bare LF": b"X: a\nY: b\r\n\r\n",
    "bare CR": b"X: a\rY: b\r\n\r\n",
    "NUL": b"X: a\x00b\r\n\r\n",
    "control byte": b"X: a\x01b\r\n\r\n",
    "no name": b": b\r\n\r\n",
    "no colon": b"X\r\n\r\n",
    "an expectation that nobody knows": b"Expect: 200-ok\r\n\r\n",
}


@pytest.mark.parametrize("head", TWO_READINGS.values(), ids=TWO_READINGS.keys())
def test_what_could_be_read_in_two_ways_is_read_in_none(head: bytes) -> None:
    house = House()
    answer = said(b"POST /a HTTP/1.1\r\n" + HOST + head + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", house)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1
    assert (house.asked, house.faults, house.errors) == ([], [Fault.FORM], [])


@pytest.mark.parametrize(
    "line",
    [
        b"GET /a HTTP/1.2", b"GET /a HTTP/2.0", b"GET /a HTTP/3.0", b"GET /a http/1.1", b"GET /a b HTTP/1.1",
        b"GET /a\tb HTTP/1.1", b"GET /a\x01 HTTP/1.1", b"GET /\xff HTTP/1.1", "GET /é HTTP/1.1".encode(),
        b"GET /a#b HTTP/1.1", b"GET a HTTP/1.1", b"GET a:80 HTTP/1.1", b"GET ftp://a/b HTTP/1.1",
        b"GET http://b/c HTTP/1.1", b"GET http://a@b/c HTTP/1.1", b"PRI * HTTP/2.0",
    ],
)  # fmt: skip
def test_a_request_line_that_is_none_is_refused(line: bytes) -> None:
    house = House()
    assert said(line + b"\r\n" + HOST + b"\r\n", house).startswith(b"HTTP/1.1 400 ")
    assert house.asked == []


@pytest.mark.parametrize("method", [b"get", b"TRACK", b"DEBUG", b"X-Y"])
def test_a_method_that_http_does_not_know_is_named_so(method: bytes) -> None:
    house = House()
    said(method + b" /a HTTP/1.1\r\n" + HOST + b"\r\n", house)
    assert (house.asked, house.faults) == ([], [Fault.METHOD])


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/a%2Fb//..;x", b"/a%2Fb//..;x", b""),
        (b"/a?b=%61&c?d", b"/a", b"b=%61&c?d"),
        (b"http://a/b?c", b"/b", b"c"),
        (b"http://A?c", b"/", b"c"),
        (b"*", b"*", b""),
        (b'/"<>^`{|}\\', b'/"<>^`{|}\\', b""),
    ],
)
def test_the_octets_of_a_target_are_handed_over_as_they_came(
    target: bytes, path: bytes, query: bytes
) -> None:
    house = House()
    method = b"OPTIONS" if target == b"*" else b"GET"
    assert said(method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n", house).endswith(b"hi")
    assert [(request.raw_path, request.query) for request in house.asked] == [(path, query)]


def test_headers_keep_order_octets_and_repetition() -> None:
    house = House()
    said(b"GET / HTTP/1.1\r\nHOST: a\r\nx-B: \xe9 \t \r\nX-A:\r\nx-b: 2\r\n\r\n", house)
    assert house.asked[0].headers == [(b"host", b"a"), (b"x-b", b"\xe9"), (b"x-a", b""), (b"x-b", b"2")]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_requests_in_a_row_are_answered_in_order_however_they_are_cut(size: int) -> None:
    async def echo(request: Request) -> None:
        body = b""
        while piece := await request.read():
            body += piece
        request.answer((200, [], request.raw_path + body))

    house = House(echo)

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        octets = (
            b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none"
            b"\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
            b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nT: r\r\n\r\n"
            b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        await send_cut(writer, octets, size)
        return await all_of(reader)

    answer = run(house, visit)
    paths = [request.raw_path for request in house.asked]
    assert paths == [b"/1", b"/2", b"/3", b"/4"]
    assert [name for request in house.asked for name, _ in request.headers if name == b"t"] == []
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [
        b"/1one", b"/2", b"/3abc", b"/4",
    ]  # fmt: skip


def test_thousands_of_requests_at_once_do_not_nest() -> None:
    house = House()

    async def visit(listener: Listener) -> int:
        reader, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 5000 + b"GET / HTTP/1.0\r\n\r\n")
        return (await all_of(reader)).count(b"HTTP/1.1 200")

    assert run(house, visit) == 5001
    assert house.errors == []


@pytest.mark.parametrize(
    ("line", "headers", "kept"),
    [
        (b"GET / HTTP/1.1", b"", True),
        (b"GET / HTTP/1.1", b"Connection: close\r\n", False),
        (b"GET / HTTP/1.0", b"", False),
        (b"GET / HTTP/1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_a_connection_is_kept_as_long_as_both_want(line: bytes, headers: bytes, kept: bool) -> None:
    async def visit(listener: Listener) -> int:
        reader, writer = await knock(listener)
        answers = 0
        for last in (False, False, True):
            more = b"Connection: close\r\n" if last and not headers else headers
            writer.write(line + b"\r\n" + HOST + more + b"\r\n")
            try:
                await reader.readuntil(b"hi")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            answers += 1
        return answers

    assert run(House(), visit) == (3 if kept else 1)


def stream(*pieces: bytes, length: int | None = None) -> House:
    def then(request: Request) -> None:
        request.start(200, [(b"x", b"y")], length)
        for piece in pieces:
            request.write(piece)
        request.end()

    return House(then)


def test_a_body_of_unknown_length_goes_in_chunks_and_to_an_old_caller_until_the_end() -> None:
    new = said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", stream(b"one", b"two"))
    assert new.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n") and b"transfer-encoding: chunked" in new
    old = said(b"GET / HTTP/1.0\r\n\r\n", stream(b"one", b"two"))
    assert old.endswith(b"\r\n\r\nonetwo") and b"transfer-encoding" not in old and b"connection: close" in old


@pytest.mark.parametrize("pieces", [(b"four", b"and"), (b"one",)])
def test_a_body_of_another_length_than_was_said_ends_in_a_reset(pieces: tuple[bytes, ...]) -> None:
    answer = said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", stream(*pieces, length=5))
    assert answer.endswith(b"RESET")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(status: int) -> None:
    house = House(lambda request: request.answer((status, [], b"")))
    answer = said(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", house)
    assert answer.endswith(b"\r\n\r\n") and b"content-length" not in answer and b"chunked" not in answer


def test_head_is_told_the_length_and_nothing_else() -> None:
    answer = said(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert b"content-length: 2\r\n" in answer and answer.endswith(b"\r\n\r\n")


def test_every_answer_has_one_date() -> None:
    assert said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").count(b"date: ") == 1
    theirs = House(lambda request: request.answer((200, [(b"date", b"then")], b"")))
    assert said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", theirs).count(b"date: ") == 1


@pytest.mark.parametrize(("name", "value"), [(b"x", b"a\r\nb: c"), (b"x\nb", b"c"), (b"x", b"a\rb")])
def test_a_header_that_would_be_two_is_never_written(name: bytes, value: bytes) -> None:
    house = House(lambda request: request.answer((200, [(name, value)], b"hi")))
    assert b"200" not in said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", house)
    assert [type(error) for error in house.errors] == [ValueError]


def test_an_error_of_the_handler_resets_its_connection_alone() -> None:
    def then(request: Request) -> None:
        if request.raw_path == b"/bad":
            raise KeyError("secret")
        request.answer((200, [], b"hi"))

    house = House(then)

    async def visit(listener: Listener) -> tuple[bytes, bytes]:
        bad, writer = await knock(listener)
        good, other = await knock(listener)
        writer.write(b"GET /bad HTTP/1.1\r\nHost: a\r\n\r\n")
        first = await all_of(bad)
        other.write(b"GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return first, await all_of(good)

    bad, good = run(house, visit)
    assert (bad, good[-2:], len(house.errors)) == (b"RESET", b"hi", 1)


# -- bodies


async def collect(request: Request) -> None:
    taken = b""
    while piece := await request.read():
        taken += piece
    request.answer((200, [], b"%d" % len(taken)))


def test_a_large_body_comes_whole_and_never_waits_in_memory() -> None:
    most = 0

    async def slowly(request: Request) -> None:
        nonlocal most
        taken = 0
        while piece := await request.read():
            taken += len(piece)
            most = max(most, request._waiting)
            await asyncio.sleep(0)
        request.answer((200, [], b"%d" % taken))

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(20):
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        return await all_of(reader)

    assert run(House(slowly), visit).endswith(b"20000000")
    assert most < 1_000_000


def test_a_caller_is_told_to_go_on_when_its_body_is_wanted() -> None:
    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        return await reader.readuntil(b"\r\n\r\n")

    assert run(House(collect), visit).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("wrong", [b"zz\r\nab\r\n", b"2\r\nabX\r\n", b"2\nab\n", b"ffffffffffffffffff\r\n"])
def test_a_body_that_breaks_off_is_never_whole(wrong: bytes) -> None:
    ends: list[str] = []

    async def note(request: Request) -> None:
        try:
            await collect(request)
        except CallerGone:
            ends.append("gone")

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await asyncio.sleep(0.05)
        writer.write(wrong)
        return await all_of(reader)

    assert run(House(note), visit) == b"RESET"
    assert ends == ["gone"]


def test_a_small_body_that_nobody_wants_is_dropped_and_the_connection_kept() -> None:
    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        await reader.readuntil(b"hi")
        writer.write(b"lloGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await all_of(reader)

    assert run(House(), visit).endswith(b"hi")


@pytest.mark.parametrize("size", [100_000, 262_144, 270_000, 320_000])
def test_a_body_of_any_size_that_is_refused_late_does_not_stop_its_connection(size: int) -> None:
    async def late(request: Request) -> None:
        while request.length and request.received < min(size - 10_000, MAX_WAITING_BYTES):
            await asyncio.sleep(0.001)
        request.answer((403, [], b"no"))

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await reader.readuntil(b"no")
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return await all_of(reader)

    assert run(House(late), visit).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("framing", [b"Content-Length: 900000", b"Transfer-Encoding: chunked"])
def test_a_large_body_that_nobody_wants_ends_the_connection_once_the_answer_was_read(framing: bytes) -> None:
    async def visit(listener: Listener) -> tuple[bytes, bytes]:
        reader, writer = await knock(listener)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        head = await reader.readuntil(b"hi")
        return head, await all_of(reader)

    with patched(LINGER_SECONDS=0.1):
        head, rest = run(House(), visit)
    assert b"connection: close" in head and rest in (b"", b"RESET")


def test_an_error_of_our_own_in_reading_is_noted_and_not_the_callers() -> None:
    house, ours = House(), TypeError("ours")
    with mock.patch.object(http1, "origin_form", side_effect=ours):
        assert said(b"GET http://a/ HTTP/1.1\r\n" + HOST + b"\r\n", house) == b"RESET"
    assert (house.asked, house.faults, house.errors) == ([], [], [ours])


def test_what_is_misread_while_an_error_is_handled_is_the_callers_fault_as_ever() -> None:
    async def handling(request: Request) -> None:
        try:
            raise LookupError("handled")
        except LookupError:
            while await request.read():
                pass

    house, size = House(handling), 8 * MAX_WAITING_BYTES
    body = b"%x\r\n%b\r\nno size\r\n" % (size, b"b" * size)
    assert (
        said(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + body, house) == b"RESET"
    )
    assert house.errors == []


# -- what callers do


def test_whoever_carries_a_call_is_told_that_its_caller_is_gone() -> None:
    told: list[str] = []

    class Told:
        def caller_gone(self) -> None:
            told.append("gone")

        def body_came(self, whole: bool) -> None:
            told.append("body")

    async def visit(listener: Listener) -> None:
        _, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not house.asked:
            await asyncio.sleep(0.001)
        writer.close()
        while not told:
            await asyncio.sleep(0.001)

    house = House(lambda request: request.watch(Told()))
    run(house, visit)
    assert told == ["gone"]


def test_a_reset_takes_back_what_a_slow_reader_has_not_read() -> None:
    async def fill(request: Request) -> None:
        request.start(200, [], None)
        while not request.blocked:
            request.write(b"x" * 65536)
            await asyncio.sleep(0)
        request.abort()
        request.write(b"late")

    async def visit(listener: Listener) -> bytes:
        with socket.create_connection(("127.0.0.1", listener.port)) as end:
            end.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(end, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(0.3)
            taken = b""
            try:
                while piece := end.recv(65536):
                    taken += piece
            except ConnectionResetError:
                taken += b"RESET"
            return taken

    taken = run(House(fill), visit)
    assert taken.endswith(b"RESET") and b"late" not in taken


def test_a_reset_is_in_force_when_abort_returns() -> None:
    seen: list[int] = []

    async def visit(listener: Listener) -> None:
        with socket.create_connection(("127.0.0.1", listener.port)) as end:
            end.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(end, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            while not house.asked:
                await asyncio.sleep(0.001)
            house.asked[0].abort()
            # Nothing else has run since, on this loop or another.
            seen.append(end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    house = House(lambda request: request.start(200, [], None, b"x" * 1000))
    run(house, visit)
    assert seen == [errno.ECONNRESET]


def test_a_sender_waits_for_a_slow_reader() -> None:
    sizes: list[int] = []

    async def fill(request: Request) -> None:
        request.start(200, [], 30_000_000)
        for _ in range(30):
            request.write(b"x" * 1_000_000)
            if request.blocked:
                await request.drain()
            sizes.append(request._line._transport.get_write_buffer_size())  # type: ignore[attr-defined]
        request.end()

    async def visit(listener: Listener) -> int:
        reader, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return len(await all_of(reader))

    assert run(House(fill), visit) > 30_000_000
    assert max(sizes) < 2_000_000


@pytest.mark.parametrize("head", [b"X: " + b"a" * 40_000, b"".join(b"X%d: a\r\n" % n for n in range(200))])
def test_a_head_that_is_too_large_is_refused(head: bytes) -> None:
    house = House()
    said(b"GET / HTTP/1.1\r\n" + head + b"\r\n\r\n", house)
    assert (house.asked, house.faults) == ([], [Fault.SIZE])


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
def test_a_head_that_never_ends_is_refused_before_it_fills_the_memory(start: bytes) -> None:
    async def visit(listener: Listener) -> int:
        reader, writer = await knock(listener)
        writer.write(start)
        sent = 0
        while sent < 50_000_000 and not reader.at_eof() and not writer.is_closing():
            writer.write(b"a" * 10_000)
            sent += 10_000
            try:
                await writer.drain()
            except ConnectionError:
                break
            await asyncio.sleep(0)
        return sent

    assert run(House(), visit) < 10_000_000


@pytest.mark.parametrize("ahead", [3, 300, 9000])
def test_a_caller_that_asks_ahead_and_leaves_is_noticed_up_to_a_bound(ahead: int) -> None:
    gone = asyncio.Event()

    class Told:
        def caller_gone(self) -> None:
            gone.set()

        def body_came(self, whole: bool) -> None:
            """No matter."""

    house = House(lambda request: request.watch(Told()))

    async def visit(listener: Listener) -> None:
        _, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (1 + ahead))
        while not house.asked:
            await asyncio.sleep(0.001)
        (connection,) = listener._connections
        assert len(house.asked) == 1
        if ahead == 9000:
            while connection._reading:
                await asyncio.sleep(0.001)
            assert len(connection._queue) < 1000 and len(connection._held) < 400_000
            return
        writer.close()
        await gone.wait()

    run(house, visit)


def test_what_is_dropped_before_an_end_is_bounded() -> None:
    async def visit(listener: Listener) -> int:
        reader, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nBad\r\n\r\n")
        await reader.readuntil(b"ways.")
        sent = 0
        while sent < 100_000_000 and not writer.is_closing():
            writer.write(b"x" * 100_000)
            sent += 100_000
            try:
                await writer.drain()
            except ConnectionError:
                break
        return sent

    with patched(LINGER_SECONDS=15.0):
        assert run(House(), visit) < 30_000_000


ENDLESS = {
    "a header's value": b"GET / HTTP/1.1\r\nX: ",
    "a header's name": b"GET / HTTP/1.1\r\nX",
    "a target": b"GET /",
    "a trailer's value": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: ",
    "a chunk's extension": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
    "a chunk's size": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0000",
}


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS.keys())
def test_what_never_ends_is_not_kept_in_memory(start: bytes) -> None:
    taken = 0

    async def visit(listener: Listener) -> None:
        nonlocal taken
        _, writer = await knock(listener)
        writer.write(start)
        while not any(isinstance(connection, Http1Connection) for connection in listener._connections):
            await asyncio.sleep(0.001)
        while taken < 20_000_000 and not writer.is_closing():
            writer.write(b"0" * 50_000)
            taken += 50_000
            try:
                await writer.drain()
            except ConnectionError:
                break
            for connection in listener._connections:
                assert isinstance(connection, Http1Connection)
                assert connection._unparsed + len(connection._held) < 700_000

    with patched(MAX_DROPPED=100_000):
        run(House(collect), visit)
    assert taken < 10_000_000


def test_a_caller_that_asks_and_never_reads_is_not_answered_on() -> None:
    body = b"x" * 10_000
    house = House(lambda request: request.answer((200, [], body)))

    async def visit(listener: Listener) -> tuple[int, int]:
        end = socket.create_connection(("127.0.0.1", listener.port))
        with end:
            end.setblocking(False)
            sent = 0
            for _ in range(400):
                try:
                    sent += end.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 500)
                except BlockingIOError:
                    pass
                await asyncio.sleep(0.001)
            (connection,) = listener._connections
            assert connection.paused and not connection._reading
            waits = connection._transport.get_write_buffer_size() + len(connection._held)
            answered = len(house.asked)
            # And goes on where it stopped, in order, for a caller that reads after all.
            read = 0
            while read < answered * len(body) + 5_000_000:
                read += len(await asyncio.get_running_loop().sock_recv(end, 1 << 20))
            assert len(house.asked) > answered
            return answered, waits

    answered, waits = run(house, visit)
    assert answered < 2000 and waits < 1_000_000


def test_a_caller_that_asks_thousands_of_times_at_once_does_not_keep_others_waiting() -> None:
    house = House()
    turns = 0

    async def visit(listener: Listener) -> None:
        nonlocal turns
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(count)

        reader, writer = await knock(listener)
        loop.call_soon(count)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3000 + b"GET / HTTP/1.0\r\n\r\n")
        assert (await all_of(reader)).count(b"HTTP/1.1 200") == 3001

    run(house, visit)
    assert turns > 3000 / REQUESTS_A_TURN


def test_a_caller_that_was_not_told_to_go_on_need_not_send_its_body() -> None:
    refusing = House(lambda request: request.answer((403, [], b"no")))
    asks = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n"
    answer = said(asks + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", refusing)
    assert answer.count(b"HTTP/1.1 ") == 1 and b"connection: close" in answer


@pytest.mark.parametrize("size", [700, 1400, 20_000])
def test_a_head_is_taken_or_not_wherever_packets_end(size: int) -> None:
    house = House(collect)
    large = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(25))
    first = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n" + large + b"\r\n" + b"b" * 100_000
    octets = first + b"GET /2 HTTP/1.1\r\nConnection: close\r\nHost: a\r\n" + large + b"\r\n"

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        await send_cut(writer, octets, size)
        return await all_of(reader)

    assert run(house, visit).count(b"200 OK") == 2
    assert house.faults == []


def test_an_early_answer_is_waited_for_as_long_as_it_is_being_read() -> None:
    body = b"x" * 600_000
    house = House(lambda request: request.answer((200, [], body)))

    async def visit(listener: Listener) -> int:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", listener.port)) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
            end.setblocking(False)
            await loop.sock_sendall(end, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\nabc")
            taken = 0
            while taken < len(body) and (piece := await loop.sock_recv(end, 20_000)):
                taken += len(piece)
                await asyncio.sleep(0.01)
            return taken

    with patched(LINGER_SECONDS=0.05):
        assert run(house, visit) >= len(body)


@pytest.mark.parametrize("octets", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n", b"\r\n\r\n"])
def test_a_caller_that_does_not_finish_its_head_is_let_go(octets: bytes) -> None:
    assert said(octets) == b""


def test_an_open_call_is_not_idle() -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.5)
        request.answer((200, [], b"late"))

    assert said(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", House(later)).endswith(b"late")


@pytest.mark.parametrize("size", [1, 60, 4096])
@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.0"])
def test_another_protocol_is_not_spoken_and_the_call_goes_on_in_this_one(offer: bytes, size: int) -> None:
    async def echo(request: Request) -> None:
        body = b""
        while piece := await request.read():
            body += piece
        request.answer((200, [], request.raw_path + body))

    house = House(echo)
    offers = (
        b"Host: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
        + offer
        + b"\r\nHTTP2-Settings: AAMA\r\n"
    )
    octets = (
        b"GET /1 HTTP/1.1\r\n" + offers + b"\r\n"
        b"POST /2 HTTP/1.1\r\n" + offers + b"Content-Length: 3\r\n\r\nabc"
        b"POST /3 HTTP/1.1\r\n" + offers + b"Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        await send_cut(writer, octets, size)
        return await all_of(reader)

    answer = run(house, visit)
    assert [part.rpartition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [
        b"/1", b"/2abc", b"/3de", b"/4",
    ]  # fmt: skip
    assert house.faults == []


def test_what_follows_connect_is_not_read() -> None:
    house = House()
    answer = said(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", house)
    assert b"connection: close" in answer and len(house.asked) == 1


def test_stopping_lets_open_calls_end_and_takes_no_new_ones() -> None:
    async def later(request: Request) -> None:
        await asyncio.sleep(0.2)
        request.answer((200, [], b"late"))

    house = House(later)

    async def visit(listener: Listener) -> tuple[bytes, bytes]:
        idle, _ = await knock(listener)
        busy, writer = await knock(listener)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        while not house.asked:
            await asyncio.sleep(0.001)
        port = listener.port
        await listener.stop(5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        return await all_of(idle), await all_of(busy)

    idle, busy = run(house, visit)
    assert idle == b"" and busy.endswith(b"late")


def test_whoever_has_said_nothing_for_longest_makes_room_for_one_more() -> None:
    async def visit(listener: Listener) -> list[bytes]:
        first = await knock(listener)
        answered = await knock(listener)
        answered[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await answered[0].readexactly(12)) == b"HTTP/1.1 200"
        newest = await knock(listener)
        newest[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await newest[0].readexactly(12)) == b"HTTP/1.1 200"
        answered[1].write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return [await all_of(first[0]), await all_of(answered[0])]

    with patched(MAX_CONNECTIONS=2):
        gone, kept = run(House(), visit)
    assert gone == b"" and kept.endswith(b"hi")


def test_nobody_who_has_a_call_open_makes_room() -> None:
    async def never(request: Request) -> None:
        await asyncio.Event().wait()

    async def visit(listener: Listener) -> bytes:
        first = await knock(listener)
        first[1].write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.05)
        reader, _ = await knock(listener)
        rest = await all_of(reader)
        assert not first[0].at_eof()
        return rest

    with patched(MAX_CONNECTIONS=1):
        assert run(House(never), visit) == b"RESET"


def test_there_is_room_for_as_many_as_the_system_lets_files_be_open() -> None:
    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (264, hard))
    try:
        assert [room(20_000, shares) for shares in (2, 3, 100)] == [100, 66, 16]
        assert room(50, 2) == 50
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def test_a_caller_that_resets_leaves_nothing_behind() -> None:
    house = House(collect)

    async def visit(listener: Listener) -> int:
        for _ in range(50):
            end = socket.create_connection(("127.0.0.1", listener.port))
            end.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0.005)
            if not listener._connections:
                break
        return len(listener._connections)

    assert run(house, visit) == 0
