"""Why a server is not ready, as few coarse words: all that a stranger may learn of it, and what probes look for."""

from __future__ import annotations

from enum import StrEnum


class Missing(StrEnum):
    """What `/readyz` lists. Stable; only ever added. No name, path or number stands in any of them."""

    KEYS = "keys not loaded"
    CONTROL = "control process out of reach"
    JOURNAL = "journal cannot be written"
    STOPPING = "shutting down"
    DISK = "disk nearly full"
    CLOCK = "clock behind"
