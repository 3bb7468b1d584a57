"""A limit that begins in use is shut until what was used before is counted: calls that meet it are judged again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from valetkey.decision.codes import Code
from valetkey.decision.decide import refuse
from valetkey.decision.reservation import BeingCounted

COUNTING_PAUSE: Final = 0.01
"""Seconds until it is asked again: counting what was used takes some 20 ms."""
COUNTING_TRIES: Final = 200
STILL_COUNTING: Final = refuse(
    Code.NOT_READY, "What was used before a new limit is still being counted. Try again in a moment."
)


Found = TypeVar("Found")


async def when_counted(judge: Callable[[], Found]) -> Found:
    """What `judge` finds, asked anew while it raises `BeingCounted`. Raises that when it takes too long."""
    for _ in range(COUNTING_TRIES):
        try:
            return judge()
        except BeingCounted:
            await asyncio.sleep(COUNTING_PAUSE)
    return judge()
