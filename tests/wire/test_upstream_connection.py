"""A connection to an upstream, over real sockets: every answer in one reading, every call sent once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from standins.raw_upstream import RawUpstream, Reply, chunked, cut_short, head, with_length
from valetkey.wire.upstream import MAX_WAITING_BYTES, Answer, AnswerBroken, Body, UpstreamConnection

OK = with_length(b"ok")
HEAD = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"


class Line:
    """One connection, and how often it was free again."""

    def __init__(self) -> None:
        self.free = 0
        self.connection = UpstreamConnection(self._released)

    def _released(self, connection: UpstreamConnection) -> None:
        assert connection is self.connection
        self.free += 1

    async def open(self, upstream: RawUpstream) -> None:
        await asyncio.get_running_loop().create_connection(
            lambda: self.connection, "127.0.0.1", upstream.port
        )

    def ask(self, method: str = "GET", body: Body = None, *, head: bytes = HEAD) -> Answer:
        return self.connection.ask(method, head.replace(b"GET", method.encode()), body, chunked=True)


def visit(upstream: RawUpstream, story: Callable[[Line], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        line = Line()
        async with asyncio.timeout(20):
            await line.open(upstream)
            try:
                return await story(line)
            finally:
                line.connection.abort()

    return uvloop.run(main())


async def everything(answer: Answer) -> bytes:
    await answer.head()
    taken = b""
    while piece := await answer.read():
        taken += piece
    return taken


async def eventually(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_one_connection_carries_one_call_after_the_other() -> None:
    async def story(line: Line) -> list[bytes]:
        bodies = [await everything(line.ask()) for _ in range(3)]
        assert line.free == 3 and line.connection.usable
        return bodies

    with RawUpstream(OK, chunked(b"a", b"bc", trailers=("X: y",)), with_length(b"")) as upstream:
        assert visit(upstream, story) == [b"ok", b"abc", b""]
        assert upstream.connections == 1


def test_the_bytes_that_are_given_are_the_bytes_that_leave() -> None:
    odd = b"GET /a%2F//..;x?%61&&= HTTP/1.1\r\nX-Odd:  two \r\nx-odd: \xe9\r\nhost: h\r\n\r\n"

    async def story(line: Line) -> None:
        await everything(line.ask(head=odd))

    with RawUpstream(OK) as upstream:
        visit(upstream, story)
        assert upstream.heads == [odd]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_is_whole_with_its_head(status: str) -> None:
    async def story(line: Line) -> tuple[bytes, int | None, bytes]:
        first = line.ask()
        body = await everything(first)
        return body, first.length, await everything(line.ask())

    with RawUpstream(Reply((head(status, "Content-Length: 5"),)), OK) as upstream:
        assert visit(upstream, story) == (b"", 5, b"ok")


@pytest.mark.parametrize("body", [b"", b"evil!", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_an_answer_to_head_is_whole_with_its_head_and_what_follows_is_nobodys(
    body: bytes, pause: float
) -> None:
    async def story(line: Line) -> tuple[bytes, int | None, int]:
        first = line.ask("HEAD")
        taken = await everything(first)
        await asyncio.sleep(0)
        assert not line.connection.usable
        return taken, first.length, line.free

    with RawUpstream(Reply((head("200 OK", "Content-Length: 5"), pause, body))) as upstream:
        assert visit(upstream, story) == (b"", 5, 0)


def test_names_keep_their_case_and_repetition_and_trailers_are_dropped() -> None:
    async def story(line: Line) -> Any:
        answer = line.ask()
        await everything(answer)
        return [pair for pair in answer.headers if pair[0] != b"Transfer-Encoding"]

    with RawUpstream(
        chunked(b"a", headers=("X-B: 1", "x-a: \xe9", "X-B: 2"), trailers=("X-T: 3",))
    ) as upstream:
        assert visit(upstream, story) == [(b"X-B", b"1"), (b"x-a", b"\xe9"), (b"X-B", b"2")]


def test_a_body_without_a_length_ends_with_the_connection_and_that_is_its_end() -> None:
    until = Reply((head("200 OK"), b"all ", b"of it"), then="close")

    async def story(line: Line) -> bytes:
        body = await everything(line.ask())
        assert line.free == 0 and not line.connection.usable
        return body

    with RawUpstream(until) as upstream:
        assert visit(upstream, story) == b"all of it"


BROKEN = {
    "too short": cut_short(b"abc", 10),
    "reset": cut_short(b"abc", 10, reset=True),
    "chunks that end early": Reply(
        (head("200 OK", "Transfer-Encoding: chunked") + b"5\r\nab",), then="close"
    ),
    "a chunk's size that is none": Reply((head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\n",)),
    "no head at all": Reply((), then="close"),
    "half a head": Reply((b"HTTP/1.1 200 OK\r\nContent-",), then="close"),
    "no HTTP": Reply((b"SSH-2.0-x\r\n",)),
    "length and chunks": Reply(
        (head("200 OK", "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",)
    ),
    "two lengths": Reply((head("200 OK", "Content-Length: 2", "Content-Length: 3") + b"abc",)),
    "gzip as transfer coding": Reply((head("200 OK", "Transfer-Encoding: gzip") + b"x",), then="close"),
    "two codings": Reply(
        (head("200 OK", "Content-Encoding: gzip", "content-encoding: x", "Content-Length: 0"),)
    ),
    "another protocol": Reply((head("101 Switching", "Upgrade: x", "Connection: upgrade"),)),
    "a status below 100": Reply((head("099 x", "Content-Length: 0"),)),
    "a version of its own": Reply((b"HTTP/3.7 200 OK\r\nContent-Length: 0\r\n\r\n",)),
    "a head of a megabyte": Reply((head("200 OK", *[f"X-{n}: {'a' * 1000}" for n in range(1000)]),)),
    "a header of 70 kB": Reply((head("200 OK", f"X: {'a' * 70_000}"),)),
}
CHUNKS = head("200 OK", "Transfer-Encoding: chunked")
BROKEN |= {
    "a trailer without end": Reply(
        (head("200 OK", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\nT: ", b"a" * 3_000_000)
    ),
    "an extension without end": Reply(
        (head("200 OK", "Transfer-Encoding: chunked") + b"1;", b"a" * 3_000_000)
    ),
    "a header without end": Reply((b"HTTP/1.1 200 OK\r\nX: ", b"a" * 3_000_000)),
    "interim answers without end": Reply((head("103 Early Hints") * 200,)),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_off_or_is_unclear_is_no_answer(reply: Reply) -> None:
    async def story(line: Line) -> None:
        with pytest.raises(AnswerBroken) as caught:
            await everything(line.ask())
        assert "\r" not in str(caught.value) and len(str(caught.value)) < 80
        await eventually(lambda: not line.connection.usable)
        assert line.free == 0

    with RawUpstream(reply) as upstream:
        visit(upstream, story)


@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"x", b"\r\nHTTP/1.1 "]
)
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_what_comes_unasked_is_nobodys_answer(more: bytes, pause: float) -> None:
    first = head("200 OK", "Content-Length: 2") + b"ok"
    reply = Reply((first + more,)) if not pause else Reply((first, pause, more))

    async def story(line: Line) -> bytes:
        body = await everything(line.ask())
        await eventually(lambda: not line.connection.usable)
        return body

    with RawUpstream(reply) as upstream:
        assert visit(upstream, story) == b"ok"


def test_interim_answers_are_passed_over() -> None:
    interim = head("103 Early Hints", "Link: </x>") + head("100 Continue")

    async def story(line: Line) -> tuple[bytes, int, int]:
        answer = line.ask()
        return await everything(answer), answer.status, len(answer.headers)

    with RawUpstream(Reply((interim + head("201 Made", "Content-Length: 2") + b"ok",))) as upstream:
        assert visit(upstream, story) == (b"ok", 201, 1)


@pytest.mark.parametrize("wanted", ["Connection: close", "HTTP/1.0"])
def test_a_connection_that_ends_is_not_kept(wanted: str) -> None:
    answer = head("200 OK", "Content-Length: 2", wanted if ":" in wanted else "X: y") + b"ok"
    if wanted == "HTTP/1.0":
        answer = answer.replace(b"HTTP/1.1", b"HTTP/1.0")

    async def story(line: Line) -> int:
        assert await everything(line.ask()) == b"ok"
        return line.free

    with RawUpstream(Reply((answer,))) as upstream:
        assert visit(upstream, story) == 0


def test_an_answer_that_nobody_reads_waits_at_the_upstream() -> None:
    large = with_length(b"x" * 20_000_000)

    async def story(line: Line) -> int:
        answer = line.ask()
        await answer.head()
        await asyncio.sleep(0.2)
        assert answer._waiting < MAX_WAITING_BYTES + 300_000
        return len(await everything(answer))

    with RawUpstream(large) as upstream:
        assert visit(upstream, story) == 20_000_000


def test_a_given_up_answer_ends_the_connection_at_once() -> None:
    async def story(line: Line) -> None:
        answer = line.ask()
        await answer.head()
        answer.close()
        assert not line.connection.usable
        with pytest.raises(AnswerBroken):
            await answer.read()

    with RawUpstream(chunked(*[b"tick"] * 100, pause=0.02)) as upstream:
        visit(upstream, story)


# -- bodies


async def pieces(*parts: bytes, then: BaseException | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part
    if then is not None:
        raise then


CHUNKED = b"GET /a HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_body_goes_out_in_chunks_as_it_comes() -> None:
    async def story(line: Line) -> bytes:
        return await everything(line.ask("POST", pieces(b"one", b"two"), head=CHUNKED))

    with RawUpstream(OK) as upstream:
        assert visit(upstream, story) == b"ok"
        assert upstream.bodies == [b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"]


def test_a_body_that_breaks_off_is_never_ended() -> None:
    async def story(line: Line) -> None:
        with pytest.raises(AnswerBroken):
            await everything(line.ask("POST", pieces(b"one", then=KeyError()), head=CHUNKED))
        assert not line.connection.usable

    with RawUpstream(OK) as upstream:
        visit(upstream, story)
        assert upstream.bodies == []


def test_an_answer_before_the_body_has_ended_is_the_last_on_its_connection() -> None:
    early = Reply((head("413 Too Large", "Content-Length: 2") + b"no",), read_body=False)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b"more"

    async def story(line: Line) -> bytes:
        body = await everything(line.ask("POST", endless(), head=CHUNKED))
        assert line.free == 0 and not line.connection.usable
        return body

    with RawUpstream(early) as upstream:
        assert visit(upstream, story) == b"no"


def test_a_body_waits_for_an_upstream_that_does_not_read() -> None:
    given = 0

    async def much() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(1000):
            given += 65536
            yield b"x" * 65536

    async def story(line: Line) -> None:
        answer = line.ask("POST", much(), head=CHUNKED)
        await asyncio.sleep(0.3)
        assert not answer.status and given < 20_000_000

    with RawUpstream(Reply((5.0, b""), read_body=False)) as upstream:
        visit(upstream, story)
