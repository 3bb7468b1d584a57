"""Names that rows go by: a short prefix that says what it is, and 80 random bits that say nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable

RandomBytes = Callable[[int], bytes]


def new_id(prefix: str, random: RandomBytes) -> str:
    """A fresh identifier such as ``key_7r2c5m4o3q6xktfa``. It identifies, it never authorises."""
    return f"{prefix}_{base64.b32encode(random(10)).decode('ascii').lower()}"
