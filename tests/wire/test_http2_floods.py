"""Frames that move nothing on are counted; what callers need is never too much."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from valetkey.wire import http2_floods as floods
from valetkey.wire.http2_floods import Flood, FrameMeter


def ping() -> Frame:
    return PingFrame(0, opaque_data=b"12345678")


def settings(**values: int) -> Frame:
    return SettingsFrame(0, settings={int(name[1:]): value for name, value in values.items()})


def update(stream: int = 1) -> Frame:
    return WindowUpdateFrame(stream, window_increment=1)


def begun(stream: int = 1) -> Frame:
    return HeadersFrame(stream, b"x" * 20)


def unknown() -> bytes:
    return b"\0\0\0\xfa\0" + bytes(4)


IDLE = {
    "ping": ping().serialize(),
    "settings": settings(_4=1).serialize(),
    "empty data": DataFrame(1, b"").serialize(),
    "unknown": unknown(),
    "priority": bytes.fromhex("0000050200000000030000000010"),
}


def take(meter: FrameMeter, octets: bytes, now: float = 0.0, size: int = 4096) -> None:
    for at in range(0, len(octets), size):
        assert meter.take(octets[at : at + size], now, 10**6) == len(octets[at : at + size])


@pytest.mark.parametrize("frame", IDLE.values(), ids=IDLE.keys())
@pytest.mark.parametrize("size", [7, 16_384])
def test_frames_that_carry_nothing_are_bounded(frame: bytes, size: int) -> None:
    meter = FrameMeter(0.0)
    take(meter, frame * floods.IDLE_BURST, size=size)
    with pytest.raises(Flood):
        take(meter, frame, size=size)


def test_time_gives_the_allowance_back() -> None:
    meter = FrameMeter(0.0)
    for second in range(1, 100):
        take(meter, IDLE["ping"] * int(floods.IDLE_A_SECOND), float(second))
    take(meter, IDLE["ping"] * floods.IDLE_BURST, 200.0)
    with pytest.raises(Flood):
        take(meter, IDLE["ping"] * 2, 200.0)


@pytest.mark.parametrize("size", [5, 100_000])
def test_so_many_frames_are_read_in_a_turn_and_cut_where_they_end(size: int) -> None:
    meter = FrameMeter(0.0)
    frames = DataFrame(1, b"hello").serialize() * floods.FRAMES_A_TURN + ping().serialize()
    taken, turns = b"", 0
    while len(taken) < len(frames):
        here = frames[len(taken) : len(taken) + size]
        read = meter.take(here, 0.0)
        turns += 1
        taken += here[:read]
    assert taken == frames
    assert size == 5 or turns == 2


def test_each_request_may_have_a_priority() -> None:
    meter = FrameMeter(0.0)
    for _ in range(10_000):
        take(meter, HeadersFrame(1, b"x", flags=["END_HEADERS"]).serialize() + IDLE["priority"])


def test_requests_that_are_taken_back_are_bounded() -> None:
    meter = FrameMeter(0.0)
    pair = begun().serialize() + RstStreamFrame(1).serialize()
    take(meter, pair * floods.RESET_BURST)
    with pytest.raises(Flood):
        take(meter, pair)


def test_a_head_in_pieces_without_end_is_bounded_in_number_and_size() -> None:
    first = begun()
    for piece in (b"", b"x" * 16_384):
        meter = FrameMeter(0.0)
        take(meter, first.serialize())
        on_and_on = ContinuationFrame(1, piece).serialize() * (floods.MAX_CONTINUATIONS + 1)
        with pytest.raises(Flood):
            take(meter, on_and_on)


def test_when_a_head_began_that_has_not_ended_is_known() -> None:
    meter = FrameMeter(0.0)
    take(meter, begun().serialize(), 3.0)
    assert meter.block_since == 3.0
    take(meter, ContinuationFrame(1, b"", flags=["END_HEADERS"]).serialize(), 4.0)
    assert meter.block_since is None
    take(meter, HeadersFrame(3, b"", flags=["END_HEADERS"]).serialize(), 5.0)
    assert meter.block_since is None


def test_windows_are_opened_for_what_was_sent_and_not_much_more() -> None:
    meter = FrameMeter(0.0)
    for _ in range(20_000):  # as a caller does that takes an answer of 320 MB
        meter.sent(16_384, cut_short=False)
        take(meter, update().serialize() + update(0).serialize())
    spare = floods.MAX_UPDATES_AHEAD + floods.IDLE_BURST
    with pytest.raises(Flood):
        take(meter, update().serialize() * (spare + 1))


def test_a_window_that_lets_an_answer_out_by_the_octet_earns_nothing() -> None:
    meter = FrameMeter(0.0)
    for _ in range(floods.IDLE_BURST + floods.UPDATES_A_FRAME):
        meter.sent(1, cut_short=True)
        take(meter, update().serialize())
    with pytest.raises(Flood):
        take(meter, update().serialize())


def test_small_events_that_are_taken_one_by_one_are_no_flood() -> None:
    meter = FrameMeter(0.0)
    for _ in range(50_000):
        meter.sent(40, cut_short=False)
        take(meter, update().serialize() + update(0).serialize())


def test_requests_and_bodies_are_no_flood() -> None:
    meter = FrameMeter(0.0)
    request = HeadersFrame(1, b"x" * 40, flags=["END_HEADERS"]).serialize() + DataFrame(1, b"y").serialize()
    take(meter, request * 50_000)


def test_frames_and_settings_have_a_size() -> None:
    with pytest.raises(Flood):
        take(FrameMeter(0.0), DataFrame(1, b"x" * (floods.MAX_FRAME_BYTES + 1)).serialize())
    with pytest.raises(Flood):
        take(FrameMeter(0.0), SettingsFrame(0, settings=dict.fromkeys(range(100, 140), 1)).serialize())
