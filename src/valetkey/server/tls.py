"""The certificate that settings name, as every process of ours uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from valetkey import log
from valetkey.settings import Settings
from valetkey.wire.certificate import WatchedPair

LOOK_SECONDS = 1.0
"""How often it is looked whether the files have changed."""


def watched_pair(settings: Settings, note: Callable[[str], None] = lambda _: None) -> WatchedPair | None:
    """The pair in use, None without TLS. Raises `CertificateRefused`."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return WatchedPair(Path(settings.tls_cert).expanduser(), Path(settings.tls_key).expanduser(), note)


def say(sentence: str) -> None:
    """A line for the operator."""
    log.warning("certificate", sentence)


async def every(seconds: float, do: Callable[[], None]) -> None:
    """Do it again and again."""
    while True:
        await asyncio.sleep(seconds)
        do()
