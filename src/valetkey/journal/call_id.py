"""The id of a call: a UUIDv7 (RFC 9562, section 5.7), so that ids sort by the millisecond."""

from __future__ import annotations

RANDOM_BYTES = 10
"""Random bytes an id needs: 74 bits of the 80 are used."""

_VARIANT = "89ab"


def call_id(time_ms: int, random: bytes) -> str:
    """Return the id of a call that came at `time_ms` (milliseconds since the epoch, UTC).

    `random` are `RANDOM_BYTES` fresh random bytes. Within one millisecond ids are in no order.
    """
    stamp = f"{time_ms:012x}"
    noise = random.hex()
    return f"{stamp[:8]}-{stamp[8:]}-7{noise[:3]}-{_VARIANT[random[9] & 3]}{noise[3:6]}-{noise[6:18]}"


def time_of(call: str) -> int:
    """Return the milliseconds since the epoch that stand in a call id. Raises ValueError when it is none."""
    if len(call) != 36 or call[8] != "-" or call[14] != "7":
        raise ValueError("not the id of a call")
    return int(call[:8] + call[9:13], 16)
