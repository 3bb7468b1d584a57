"""An answer that cannot be read in one way only is no answer: the call fails, nothing else does."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from gateway_world import upstream_service
from standins.raw_upstream import RawUpstream, Reply, chunked, head, with_length
from valetkey.gateway.upstream import Upstream, UpstreamFailed
from valetkey.services.dialling import OwnListeners
from valetkey.services.origin import Origin

OK = with_length(b"ok")


def status_after(reply: Reply) -> tuple[int | None, int | None]:
    """Statuses of a call that is answered so and of the next one; None for one that failed once it was sent."""

    async def call(upstream: Upstream, origin: Origin) -> int | None:
        try:
            async with asyncio.timeout(5):
                answer = await upstream.send("GET", origin, b"/now", [])
        except UpstreamFailed as failure:
            return None if failure.sent else 0
        while await answer.read():
            pass
        return answer.status

    async def both(url: str) -> tuple[int | None, int | None]:
        origin = Origin.parse(url, allow_private=True)
        service = upstream_service(hosts={"api": origin}, allow_private=True)
        upstream = Upstream(service, OwnListeners(frozenset(), frozenset()), connect_timeout=5)
        try:
            return await call(upstream, origin), await call(upstream, origin)
        finally:
            upstream.close()

    with RawUpstream(reply, OK) as raw:
        return asyncio.run(both(raw.url))


@pytest.mark.parametrize(
    "status", ["000 x", "001 x", "099 x", "20 x", "1000 x", "99999 x", "abc x", "-200 x"]
)
def test_a_status_that_is_none_fails_the_call_and_not_the_next(status: str) -> None:
    assert status_after(with_length(b"ok", status=status)) == (None, 200)


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_of_three_digits_passes(status: int) -> None:
    assert status_after(with_length(b"ok", status=f"{status} x")) == (status, 200)


def test_a_change_of_protocol_fails_the_call() -> None:
    switched = head("101 Switching", "Upgrade: x", "Connection: upgrade") + b"anything"
    assert status_after(Reply((switched,), then="close")) == (None, 200)


def test_interim_answers_are_passed_over() -> None:
    interim = head("103 Early Hints", "Link: </x>")
    assert status_after(Reply((interim + head("200 OK", "Content-Length: 2") + b"ok",))) == (200, 200)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Encoding: identity", "Content-Encoding: gzip"),
        ("Content-Encoding:", "Content-Encoding: gzip"),
        ("content-encoding: gzip", "CONTENT-ENCODING: identity"),
    ],
)
def test_two_codings_of_the_body_fail_the_call(headers: tuple[str, ...]) -> None:
    assert status_after(with_length(gzip.compress(b"{}"), *headers)) == (None, 200)


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip", "identity", "deflate, chunked"])
def test_a_transfer_coding_other_than_chunked_fails_the_call(coding: str) -> None:
    body = gzip.compress(b"{}")
    if "chunked" in coding:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    reply = Reply((head("200 OK", f"Transfer-Encoding: {coding}") + body,), then="close")
    assert status_after(reply) == (None, 200)


@pytest.mark.parametrize("character", [*"\x01\x08\x0b\x1f\x7f"])
def test_a_control_character_in_a_header_fails_the_call(character: str) -> None:
    assert status_after(with_length(b"ok", f"X-Odd: a{character}b")) == (None, 200)


def test_ordinary_framing_passes() -> None:
    assert status_after(chunked(b"ok", headers=("X-Tab: a\tb",))) == (200, 200)
    assert status_after(with_length(b"ok", "Content-Encoding: identity")) == (200, 200)
