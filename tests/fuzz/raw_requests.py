"""Makes raw requests from a seed: out of a grammar whose every rule has bad branches, or by spoiling those of a corpus.

One seed makes one request, always the same, so that a seed that was printed is all that is needed to send it again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
"""A file a request, with SERVICE and THEKEY in it. What once found a mistake is put there."""

METHODS = [
    b"GET",
    b"POST",
    b"PUT",
    b"PATCH",
    b"DELETE",
    b"HEAD",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"get",
    b"PROPFIND",
    b"G\0T",
    b"",
]
PATHS = [
    b"/SERVICE/a", b"/SERVICE/a?b=c", b"/SERVICE", b"/SERVICE/", b"/SERVICE/a%20b", b"/SERVICE/%2e%2e/b",
    b"/SERVICE/a//b",
    b"/SERVICE/%00", b"/SERVICE/a;b", b"//SERVICE/a", b"*", b"/", b"/nowhere/a",
    b"http://127.0.0.1/SERVICE/a",
    b"http://evil/SERVICE/a", b"/SERVICE/a#b", b"/SERVICE/\xff", b"/v1/verify", b"/v1/derive", b"/healthz",
    b"/SERVICE:api/a",
    b"/SERVICE/a?key=THEKEY", b"/SERVICE/a?_method=PUT", b"",
]  # fmt: skip
VERSIONS = [
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"http/1.1",
    b"RTSP/1.1",
    b"",
    b"HTTP/1.1 ",
]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\0\r\n", b" \r\n"]
COLONS = [b": ", b":", b" : ", b"\t:", b":\t", b"", b":\r\n ", b"\0:"]
KEYS = [b"Authorization: Bearer THEKEY",
    b"", b"Authorization: Bearer vk_prv_x", b"authorization: bearer THEKEY",
    b"Authorization: Basic VEhFS0VZOg==",
    b"Authorization: Bearer THEKEY\r\nAuthorization: Bearer THEKEY", b"X-Api-Key: THEKEY",
    b"Proxy-Authorization: Bearer THEKEY",
]  # fmt: skip
HOSTS = [
    b"Host: 127.0.0.1",
    b"",
    b"Host: evil",
    b"Host: 127.0.0.1\r\nHost: 127.0.0.1",
    b"Host:",
    b"Host: localhost:1",
]
FIELDS = [
    (b"X-One", b"1"), (b"Connection", b"close"), (b"Connection", b"keep-alive"), (b"Connection",
    b"authorization, host"),
    (b"Connection", b"upgrade"), (b"Upgrade", b"h2c"), (b"Upgrade", b"websocket"), (b"Expect",
    b"100-continue"),
    (b"Content-Type", b"application/json"), (b"Accept-Encoding", b"gzip"), (b"TE", b"trailers"),
    (b"Trailer", b"X"),
    (b"X-HTTP-Method-Override", b"DELETE"), (b"X-Forwarded-For", b"9.9.9.9"), (b"Cookie", b"a=b"),
    (b"Range", b"bytes=0-1"),
    (b"Upgrade", b"websocket"), (b"X-Odd", b"a\x01b"), (b"X-High", b"\xc3\xa9"), (b"X-Broken", b"\xff"),
    (b"X-Empty", b""), (b"X Y",
    b"z"), (b"", b"z"),
    (b"Content_Length", b"5"), (b"Transfer_Encoding", b"chunked"), (b"X-Long", b"x" * 3000),
    (b"Keep-Alive", b"timeout=1"),
]  # fmt: skip
FINE = 16
"""So many of these are well-formed, and none keeps a call from being allowed."""
LENGTHS = [b"%d", b"+%d", b"0%d", b"%d, %d", b"0x%x", b"-%d", b"%d\0", b"", b"9%d", b" %d ", b"%d;a"]
CODINGS = [
    b"chunked",
    b"Chunked",
    b"gzip, chunked",
    b"chunked, chunked",
    b"identity",
    b"xchunked",
    b"chunked;a",
    b"",
]
SIZES = [
    b"%x",
    b"0%x",
    b"%X",
    b" %x",
    b"%x ",
    b"+%x",
    b"0x%x",
    b"%x;a=b",
    b'%x;a="\r\n"',
    b"%x;\n",
    b"",
    b"fffffffff%x",
]
BODIES = [
    b"",
    b"a",
    b"hello",
    b"{}",
    b'{"key":"THEKEY"}',
    b"0\r\n\r\n",
    b"GET /SERVICE/smuggled HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
]
BITS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"0", b"\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Host: evil\r\n", b"Connection: close\r\n",
    b"%2e", b"/", b"\xff", b"HTTP/1.1",
]  # fmt: skip


class Draw(random.Random):
    """Takes the first of several ways, which is the good one, and now and then another."""

    spoils = 0.0
    """How often it is another one."""

    def way(self, ways: Sequence[bytes]) -> bytes:
        """One of them."""
        return self.choice(ways) if self.random() < self.spoils else ways[0]


def request_of(seed: int) -> bytes:
    """The request that this seed makes, with SERVICE and THEKEY to be filled in."""
    draw = Draw(seed)
    draw.spoils = draw.choice((0.0, 0.01, 0.03, 0.1, 0.3))
    kind = draw.random()
    if kind < 0.5:
        return b"".join(_grown(draw) for _ in range(draw.choice((1, 1, 2, 3))))
    corpus = corpus_requests()
    whole = draw.choice(corpus)
    if kind < 0.6:
        return _grown(draw) + whole
    if kind < 0.7:
        other = draw.choice(corpus)
        return whole[: draw.randrange(len(whole))] + other[draw.randrange(len(other)) :]
    for _ in range(draw.choice((1, 1, 2, 4))):
        whole = draw.choice(SPOILING)(draw, whole)
    return whole


def corpus_requests() -> list[bytes]:
    """All requests of the corpus, in order of their names."""
    return [file.read_bytes() for file in sorted(CORPUS.iterdir())]


def _grown(draw: Draw) -> bytes:
    body = draw.choice(BODIES)
    lines = [draw.way(HOSTS), draw.way(KEYS)]
    for _ in range(draw.choice((0, 0, 1, 2, 5))):
        name, value = draw.choice(FIELDS if draw.random() < draw.spoils else FIELDS[:FINE])
        lines.append(name + draw.way(COLONS) + value)
    wire = b""
    for _ in range(2 if draw.random() < draw.spoils else draw.choice((0, 1))):
        if draw.random() < 0.5:
            lines.append(b"Content-Length" + draw.way(COLONS) + _number(draw.way(LENGTHS), len(body)))
            wire = body
        else:
            lines.append(b"Transfer-Encoding" + draw.way(COLONS) + draw.way(CODINGS))
            wire = _chunks(draw, body)
    draw.shuffle(lines)
    spaces = (b" ", b"  ", b"\t")
    line = draw.way((b"", b"\r\n", b"\n")) + draw.choice(
        METHODS if draw.random() < draw.spoils else METHODS[:5]
    )
    line += (
        draw.way(spaces)
        + draw.choice(PATHS if draw.random() < 0.05 + draw.spoils else PATHS[:5])
        + draw.way(spaces)
        + draw.way(VERSIONS)
    )
    return b"".join(part + draw.way(ENDS) for part in (line, *filter(None, lines), b"")) + wire


def _number(form: bytes, number: int) -> bytes:
    return form % ((number,) * form.replace(b"%%", b"").count(b"%"))


def _chunks(draw: Draw, body: bytes) -> bytes:
    wire = b""
    pieces = [body] if len(body) < 2 or draw.random() < 0.5 else [body[:1], body[1:]]
    for piece in pieces:
        if piece:
            wire += _number(draw.way(SIZES), len(piece)) + draw.way(ENDS) + piece + draw.way(ENDS)
    trailer = draw.choice(
        (b"",) * 6 + (b"X: y\r\n", b"Authorization: Bearer evil\r\n", b"Content-Length: 9\r\n", b"X : y\r\n")
    )
    return wire + b"0" + draw.way(ENDS) + trailer + draw.way(ENDS)


# -- spoiling


def _flip(draw: Draw, whole: bytes) -> bytes:
    at = draw.randrange(len(whole))
    return whole[:at] + bytes((draw.randrange(256),)) + whole[at + 1 :]


def _insert(draw: Draw, whole: bytes) -> bytes:
    at = draw.randrange(len(whole) + 1)
    return whole[:at] + draw.choice(BITS) + whole[at:]


def _remove(draw: Draw, whole: bytes) -> bytes:
    at = draw.randrange(len(whole))
    return whole[:at] + whole[at + draw.choice((1, 1, 2, 8)) :] or b"\r\n"


def _twice(draw: Draw, whole: bytes) -> bytes:
    at = draw.randrange(len(whole))
    end = at + draw.choice((1, 4, 30))
    return whole[:end] + whole[at:end] + whole[end:]


def _swap_lines(draw: Draw, whole: bytes) -> bytes:
    lines = whole.split(b"\r\n")
    draw.shuffle(lines)
    return b"\r\n".join(lines)


def _cut(draw: Draw, whole: bytes) -> bytes:
    return whole[: draw.randrange(1, len(whole) + 1)]


SPOILING: Sequence[Callable[[Draw, bytes], bytes]] = (
    _flip,
    _insert,
    _remove,
    _twice,
    _swap_lines,
    _cut,
)


if __name__ == "__main__":
    import sys

    for given in sys.argv[1:]:
        print(request_of(int(given)))
