"""Raw requests by the thousand at a real server: it stays up, and what leaves it is ours, whole, recorded one for one.

`FUZZ_SEED=N python -m pytest tests/fuzz/test_raw_fuzz.py` begins with another request; each has its own seed,
which a failure names. ``python tests/fuzz/raw_requests.py SEED`` prints the request that a seed makes.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest

from attack.target import Target, assert_ours, request, target_of
from fuzz.raw_requests import corpus_requests, request_of
from long_results import Results
from running_server import RunningServer, eventually

pytestmark = pytest.mark.real

SEED = int(os.environ.get("FUZZ_SEED", "1"))
A_ROUND = 250
"""Requests between two looks at the record."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """A call that waits for the rest of its body is soon given up."""
    with RunningServer(settings={"body_timeout": 1}) as server, target_of(server) as made:
        yield made


def shoot(target: Target, attack: bytes, number: int, cut_at: int | None) -> bytes:
    """Send it, in two pieces where `cut_at` says so, and nothing more; what was said until nothing more comes."""
    source = (f"127.{100 + number % 100}.{number // 100 % 250}.3", 0)
    with socket.create_connection(("127.0.0.1", target.server.gateway_port), 20, source) as end:
        said = b""
        with suppress(ConnectionError):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.sendall(attack[:cut_at])
            if cut_at is not None:
                end.sendall(attack[cut_at:])
            # An end behind it: whatever is whole is answered first.
            end.settimeout(0.02)
            with suppress(TimeoutError):
                while more := end.recv(65536):
                    said += more
                    end.settimeout(0.01)
        with suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return said


def fuzz(target: Target, seeds: range) -> Counter[str]:
    """Send all of them; what was answered."""
    statuses: Counter[str] = Counter()
    pids = [target.server.control_pid, *target.server.worker_pids()]
    for begin in range(seeds.start, seeds.stop, A_ROUND):
        heads, known = len(target.upstream.heads), len(target.accepted())
        these = range(begin, min(begin + A_ROUND, seeds.stop))
        for seed in these:
            attack = target.fill(request_of(seed))
            said = shoot(
                target, attack, seed, seed * 7919 % len(attack) if seed % 3 == 0 and attack else None
            )
            for status in _STATUS.findall(said):
                statuses[status.decode()] += 1
                assert status not in (b"500", b"503"), f"seed {seed}: {said!r}"
            assert target.secret.encode() not in said, f"seed {seed}"
        if why := wrong(target, heads, known):
            raise AssertionError(f"{why}; one of the seeds {these}")
    assert [target.server.control_pid, *target.server.worker_pids()] == pids, "nobody died"
    assert "failure" not in target.server.errors and "Traceback" not in target.server.errors
    return statuses


def wrong(target: Target, heads: int, known: int) -> str | None:
    """What is wrong about what reached the upstream since then."""

    def all_closed() -> bool:
        return all(event["end"] is not None for event in target.accepted())

    assert target.send(request())[0].status == 200
    eventually(all_closed, 15)
    for head in target.upstream.heads[heads:]:
        try:
            assert_ours(head, target, strays=True)
        except AssertionError:
            return f"that left the server: {head!r}"
        if b"smuggled" in head.split(b"\r\n")[0] and b"smuggled" not in b"".join(target.upstream.bodies):
            return "a body became a request"
    accepted = target.accepted()[: -known or None]
    # Of calls that were given up before their body was there nothing has left.
    sent = [event for event in accepted if event["end"] == "complete"]
    reached = len(target.upstream.heads) - heads
    if not len(sent) <= reached <= len(accepted):
        return f"{reached} requests upstream for {len(accepted)} accepted calls, {len(sent)} of them complete"
    return None


def test_every_request_of_the_corpus_leaves_the_server_as_it_was(target: Target) -> None:
    heads, known = len(target.upstream.heads), len(target.accepted())
    requests = corpus_requests()
    assert len(requests) > 30
    for number, attack in enumerate(requests):
        said = shoot(target, target.fill(attack), number, None)
        assert not {b"500", b"503"} & set(_STATUS.findall(said)), attack
    assert wrong(target, heads, known) is None


def test_a_seed_makes_the_same_request_again_and_another_one_another() -> None:
    made = [request_of(seed) for seed in range(300)]
    assert made == [request_of(seed) for seed in range(300)]
    assert len(set(made)) > 280


def test_no_raw_request_gets_through_as_anything_but_one_of_ours(target: Target) -> None:
    statuses = fuzz(target, range(SEED * 1_000_000, SEED * 1_000_000 + 500))
    assert statuses["200"] > 20 and statuses["400"] > 50, statuses


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_raw_request_among_very_many_gets_through(target: Target, results: Results) -> None:
    first, last = SEED * 1_000_000, SEED * 1_000_000 + 40_000
    statuses = fuzz(target, range(first, last))
    shown = ", ".join(f"{count:,} times {status}" for status, count in sorted(statuses.items()))
    results.note(
        f"{last - first:,} raw requests (seeds {first:,} to {last - 1:,}): {shown}; {len(target.upstream.heads):,} "
        "requests upstream, each ours and whole, none without its record"
    )
