"""The listener with TLS: what it agrees to, what it tells plain text, how it takes a new certificate, how it cuts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from house import House, all_of, knock, run, send_cut

from certificates import Authority, Files
from valetkey.wire import door
from valetkey.wire.certificate import read_pair
from valetkey.wire.listener import PROTOCOLS, Listener
from valetkey.wire.request import Fault, Request

ASK = b"GET /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Place:
    """An authority, a pair it signed, and callers that trust it."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.files = self.authority.sign()

    def server(self, files: Files | None = None) -> ssl.SSLContext:
        files = files or self.files
        return read_pair(files.certificate, files.key).context(PROTOCOLS)

    def caller(self) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(self.authority.file))
        made.set_alpn_protocols(["http/1.1"])
        return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def serial(writer: asyncio.StreamWriter) -> int:
    return int(writer.get_extra_info("peercert")["serialNumber"], 16)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_a_call_comes_through_tls_however_it_is_cut(place: Place, version: ssl.TLSVersion, size: int) -> None:
    house = House()

    async def visit(listener: Listener) -> bytes:
        caller = place.caller()
        caller.minimum_version = caller.maximum_version = version
        reader, writer = await knock(listener, caller)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert "GCM" in (suite := writer.get_extra_info("cipher")[0]) or "CHACHA" in suite
        await send_cut(writer, ASK, size)
        return await all_of(reader)

    assert run(house, visit, place.server()).endswith(b"hi")
    assert [(r.raw_path, r.query, r.peer, r.fault) for r in house.asked] == [(b"/a", b"b", "127.0.0.1", None)]


@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AES128-SHA256:AES256-GCM-SHA384"),
    ],
)
def test_what_is_older_or_weaker_is_not_agreed_to(
    place: Place, version: ssl.TLSVersion, ciphers: str
) -> None:
    async def visit(listener: Listener) -> None:
        caller = place.caller()
        caller.set_ciphers(ciphers)
        caller.minimum_version, caller.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await knock(listener, caller)

    with (
        pytest.warns(DeprecationWarning, match="TLSv1_1")
        if version is ssl.TLSVersion.TLSv1_1
        else contextlib.nullcontext()
    ):
        run(House(), visit, place.server())


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x80\x2e\x01\x03\x01",
    ],
)
def test_plain_text_is_told_once_and_the_connection_ends(place: Place, octets: bytes) -> None:
    house = House()

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(octets)
        return await all_of(reader)

    answer = run(house, visit, place.server())
    assert (house.asked, house.faults) == ([], [Fault.PLAIN])
    assert answer.count(b"HTTP/1.1") == 1 and b"connection: close" in answer and b"speaks TLS" in answer


def test_the_head_of_a_plain_request_is_bounded(place: Place) -> None:
    house = House()

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener)
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 200_000)
        return await all_of(reader)

    assert b"speaks TLS" in run(house, visit, place.server())
    assert house.faults == [Fault.PLAIN]


def test_who_says_nothing_or_never_ends_the_handshake_is_hung_up_on(place: Place) -> None:
    async def visit(listener: Listener) -> list[bytes]:
        silent, _ = await knock(listener)
        halfway, writer = await knock(listener)
        writer.write(b"\x16\x03\x01\x02\x00")
        _, other = await knock(listener)
        other.close()
        said = await asyncio.gather(all_of(silent), all_of(halfway))
        assert listener._door is not None
        assert not listener._door._silent and not listener._door._entering
        return said

    with mock.patch.object(door, "HANDSHAKE_SECONDS", 0.2):
        assert [said.removesuffix(b"RESET") for said in run(House(), visit, place.server())] == [b"", b""]


def test_whoever_is_undecided_for_longest_is_hung_up_on_when_one_more_comes(place: Place) -> None:
    async def visit(listener: Listener) -> bytes:
        silent = [await knock(listener) for _ in range(3)]
        reader, writer = await knock(listener, place.caller())
        assert (await all_of(silent[0][0])).removesuffix(b"RESET") == b""
        assert not silent[1][0].at_eof() and not silent[2][0].at_eof()
        writer.write(ASK)
        return await all_of(reader)

    with mock.patch.object(door, "MAX_UNDECIDED", 3):
        assert run(House(), visit, place.server()).endswith(b"hi")


def test_new_connections_get_the_new_certificate_and_open_ones_go_on(place: Place) -> None:
    house = House()

    async def visit(listener: Listener) -> list[Any]:
        reader, writer = await knock(listener, place.caller())
        first = serial(writer)
        renewed = place.authority.sign()
        listener.renew(place.server(renewed))
        _, later = await knock(listener, place.caller())
        writer.write(ASK)
        return [first, serial(later), renewed.serial, await all_of(reader)]

    before = place.files.serial
    first, later, renewed, answer = run(house, visit, place.server())
    assert (first, later) == (before, renewed)
    assert answer.endswith(b"hi")


def test_a_cut_hands_nothing_more_on(place: Place) -> None:
    """A caller that has not read: what waits in buffers of ours and of the kernel is dropped with the connection."""

    poured = threading.Event()

    async def pour(request: Request) -> None:
        request.start(200, [], None)
        while not request.blocked:
            request.write(b"x" * 16_384)
            await asyncio.sleep(0)
        request.abort()
        poured.set()

    def read_late(port: int) -> int:
        bare = socket.socket()
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        bare.connect(("127.0.0.1", port))
        with place.caller().wrap_socket(bare, server_hostname="localhost") as end:
            end.sendall(ASK)
            assert poured.wait(5)
            received = b""
            with contextlib.suppress(OSError):
                while piece := end.recv(65_536):
                    received += piece
            assert not received.endswith(b"0\r\n\r\n")
        return len(received)

    async def visit(listener: Listener) -> int:
        return await asyncio.to_thread(read_late, listener.port)

    # What its own kernel holds; about 200 KB more had been handed over.
    assert run(House(pour), visit, place.server()) < 100_000


def test_a_large_body_goes_both_ways(place: Place) -> None:
    async def echo(request: Request) -> None:
        request.start(200, [], request.length)
        while piece := await request.read():
            request.write(piece)
            if request.blocked:
                await request.drain()
        request.end()

    async def visit(listener: Listener) -> bytes:
        reader, writer = await knock(listener, place.caller())
        body = bytes(range(256)) * 20_000
        writer.write(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        writer.write(body)
        answer = await all_of(reader)
        assert answer.partition(b"\r\n\r\n")[2] == body
        return answer

    assert run(House(echo), visit, place.server()).startswith(b"HTTP/1.1 200")
