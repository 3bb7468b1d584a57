"""Bytes that wait for what was used before their limit: when that is never told, they do not pass, and it is said."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway_world import FrozenClock
from valetkey.decision.codes import Code
from valetkey.decision.limits import Limits, parse_bytes
from valetkey.decision.reservation import BeingCounted, Level, Plan, Reserved
from valetkey.gateway import counted
from valetkey.gateway.metering import Meter
from valetkey.journal.records import End

TRIES = 3


class NeverCounted:
    """Counters whose limits of bytes are always still being counted."""

    def __init__(self, after: int | None = None) -> None:
        self.asked = 0
        self.after = after

    def meter(self, *_: Any) -> None:
        self.asked += 1
        if self.after is None or self.asked <= self.after:
            raise BeingCounted


def meter_of(counters: NeverCounted) -> Meter:
    plan = Plan((Level.compile("key", 0, Limits(bytes=(parse_bytes("2KB/day"),))),))
    reserved = Reserved(plan, 0, time.monotonic_ns(), (), [])
    meter = Meter.of(cast(Any, SimpleNamespace(counters=counters, clock=FrozenClock())), reserved)
    assert meter is not None
    return meter


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "COUNTING_TRIES", TRIES)
    monkeypatch.setattr(counted, "COUNTING_PAUSE", 0)


def test_bytes_that_are_never_counted_do_not_pass_and_the_call_ends_as_interrupted() -> None:
    counters = NeverCounted()
    meter = meter_of(counters)
    assert not asyncio.run(meter.reach(10))
    assert (meter.refusal.code, meter.end) == (Code.NOT_READY, End.INTERRUPTED)
    assert "still being counted" in meter.refusal.sentence
    assert counters.asked == TRIES + 1


def test_bytes_that_are_counted_in_time_pass() -> None:
    assert asyncio.run(meter_of(NeverCounted(after=TRIES)).reach(10))
