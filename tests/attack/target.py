"""What attacks are aimed at: one real server, an upstream that keeps every byte it got, and one key."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from running_server import RunningServer, ValetKey, eventually
from standins.raw_upstream import RawUpstream, Reply

SECRET = "Real-Secret-" + "aB3dE5" * 5
LAST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
"""Sent behind every attack: the end of the connection tells that everything before it has been dealt with."""

_ATTACKS = count(1)
_LINE = re.compile(rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS) (/[\x21-\x7e]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([\t\x20-\x7e\x80-\xff]*)")


class Said(NamedTuple):
    """One answer."""

    status: int
    code: str | None
    """Valetkey's own; None where the service answered."""
    body: bytes


@dataclass
class Target:
    """One service of one server, and a key for it."""

    server: RunningServer
    upstream: RawUpstream
    service: str
    key: ValetKey
    secret: str = SECRET
    placed: bytes = field(default=b"authorization: Bearer " + SECRET.encode())
    """The line of a request upstream that carries the real key."""

    def fill(self, attack: bytes) -> bytes:
        """SERVICE, THEKEY and PORT in an attack are this target's."""
        port = str(self.server.gateway_port).encode()
        named = attack.replace(b"SERVICE", self.service.encode()).replace(b"PORT", port)
        return named.replace(b"THEKEY", self.key.value.encode())

    def send(self, attack: bytes, *, last: bytes = LAST, seconds: float = 20.0) -> list[Said]:
        """All answers to the attack and to what follows it, up to the end of the connection."""
        return answers(self.raw(self.fill(attack) + last, seconds=seconds))

    def raw(self, octets: bytes, *, seconds: float = 20.0) -> bytes:
        """What is said on a connection of its own until it ends."""
        place = ("127.0.0.1", self.server.gateway_port)
        # Each from an address of its own, so that no attack is refused for the ones before it.
        number = next(_ATTACKS)
        source = (f"127.{number >> 8 & 127}.{number & 255}.9", 0)
        with socket.create_connection(place, timeout=seconds, source_address=source) as end:
            received = b""
            with suppress(ConnectionError):
                end.sendall(octets)
            with suppress(ConnectionError):
                while more := end.recv(65536):
                    received += more
        return received

    def accepted(self) -> list[dict[str, Any]]:
        """Every recorded call that was let through to the upstream; a derivation goes to none."""
        events = self.server.events(self.key)
        return [event for event in events if event["code"] == "VALID" and event["operation"] != "derive"]

    def assert_one_request_each(self) -> None:
        """The upstream got exactly one request for each accepted call, each one ours, whole and well-formed."""
        eventually(lambda: len(self.accepted()) >= len(self.upstream.heads))
        assert len(self.upstream.heads) == len(self.accepted())
        for head in self.upstream.heads:
            assert_ours(head, self)


def request(
    line: str = "GET /SERVICE/a HTTP/1.1",
    *headers: str,
    body: bytes = b"",
    host: str | None = "127.0.0.1",
    key: bool = True,
) -> bytes:
    """A request with the key in it, from its line, more headers, and a body."""
    lines = [line]
    lines += [f"Host: {host}"] if host is not None else []
    lines += ["Authorization: Bearer THEKEY"] if key else []
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def answers(received: bytes) -> list[Said]:
    """The answers in a stream of bytes. Raises AssertionError for bytes that are none."""
    found: list[Said] = []
    while received:
        head, mark, received = received.partition(b"\r\n\r\n")
        assert mark and head.startswith(b"HTTP/1.1 "), head[:200]
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            continue
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:])
        code = fields.get(b"x-valetkey-code")
        length = int(fields.get(b"content-length", b"0"))
        body, received = received[:length], received[length:]
        found.append(Said(status, None if code is None else code.decode().upper(), body))
    return found


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a request's head. Raises AssertionError where it is not well-formed."""
    line, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert _LINE.fullmatch(line), line
    fields = [_FIELD.fullmatch(one) for one in lines]
    assert all(fields), head
    return [(one[1], one[2]) for one in fields if one is not None]


def assert_ours(head: bytes, target: Target, *, strays: bool = False) -> None:
    """A request as we write it: one host, one framing, the real key once, the caller's nowhere.

    `strays`: the caller may have written its key into a field that is no place for keys, which goes on as it came.
    """
    fields = fields_of(head)
    names = [name for name, _ in fields]
    assert names.count(b"host") == 1 and (b"host", f"127.0.0.1:{target.upstream.port}".encode()) in fields
    assert names.count(b"content-length") + names.count(b"transfer-encoding") <= 1
    assert names.count(b"authorization") <= 1
    assert head.count(target.secret.encode()) == 1 and target.placed in head
    keys = [value for name, value in fields if name in (b"authorization", b"proxy-authorization", b"cookie")]
    assert not any(target.key.value.encode() in value for value in keys)
    assert strays or target.key.value.encode() not in head
    for hop in (b"connection", b"upgrade", b"te", b"trailer", b"keep-alive", b"proxy-connection", b"expect"):
        assert hop not in names


@contextmanager
def target_of(server: RunningServer, *script: Reply, **definition: Any) -> Iterator[Target]:
    """A service of its own at that server, with an upstream that follows a script."""
    with RawUpstream(*script) as upstream:
        service = server.open_service(SECRET, base_url=upstream.url, **definition)
        yield Target(server, upstream, service, server.issue(service))
