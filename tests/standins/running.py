"""A stand-in on a thread of its own, for tests whose clients block."""

from __future__ import annotations

import asyncio
import secrets
import string
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from valetkey.demo.standin import StandIn

AnyStandIn = TypeVar("AnyStandIn", bound=StandIn)


@contextmanager
def running(standin: AnyStandIn) -> Iterator[AnyStandIn]:
    """Serve `standin` until the block ends; its `url` says where."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(standin.start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(standin.stop())
        loop.close()

    thread = threading.Thread(target=serve, name="stand-in", daemon=True)
    thread.start()
    if not ready.wait(10):
        raise TimeoutError("The stand-in did not start.")
    try:
        yield standin
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def made_up_key(prefix: str, length: int = 40) -> str:
    """A key of a vendor's form, made now: none stands in the repository."""
    letters = string.ascii_letters + string.digits
    return prefix + "".join(secrets.choice(letters) for _ in range(length))
