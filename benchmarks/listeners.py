"""Many listeners to event streams. A process: says how many are open, then the sorted delays of their events."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from pathlib import Path

import uvloop

from benchmarks.victims import Stream

AT_ONCE = 100
"""So many are being opened at any time."""


async def _listen(port: int, path: str, keys: list[str], count: int, seconds: float) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    streams = [Stream(port, path, keys[number % len(keys)]) for number in range(count)]

    async def open_one(stream: Stream) -> None:
        async with room:
            await stream.open()

    await asyncio.gather(*(open_one(stream) for stream in streams))
    print(sum(stream.flowing.is_set() for stream in streams), flush=True)
    listening = [asyncio.create_task(stream.listen()) for stream in streams]
    await asyncio.sleep(1)
    for stream in streams:  # what came while others were being opened does not count
        stream.events.clear()
    await asyncio.sleep(seconds)
    delays = sorted((arrived - made) * 1000 for stream in streams for made, arrived in stream.events)
    print(json.dumps([round(delay, 3) for delay in delays]), flush=True)
    for task in listening:
        task.cancel()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(_listen(**json.loads(Path(sys.argv[1]).read_text())))
