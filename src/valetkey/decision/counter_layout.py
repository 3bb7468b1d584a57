"""Where each counter stands in the buffer that all workers of a machine share.

An array of cells of 8 bytes in the machine's own byte order: a header, the rates by client address, then one
block for each subject with limits. A cell is always stored whole, so that a process killed at any instant
leaves the old value or the new one; what belongs together (window and amount) shares a cell.
"""

from __future__ import annotations

from typing import Final

CELL: Final = 8
LIVE: Final = 16
"""In the header: one cell a worker slot, its latest generation << 32 | 1 while that worker is alive."""
SLOTS: Final = 16
HEADER_CELLS: Final = 512
"""One page."""
ADDRESS_CELLS: Final = 1 << 18
"""Rates by client address, 2 MiB: at 10,000 addresses in use some 4 % share a rate with another."""
FIRST_BLOCK: Final = HEADER_CELLS + ADDRESS_CELLS
BLOCK_CELLS: Final = 32
MAX_BLOCKS: Final = 1 << 24
"""Subjects with limits: 4 GiB of counters; a larger number is a mistake somewhere."""

# Cells of a block: one block a subject.
RATE: Final = 0
"""GCRA's theoretical arrival time: nanoseconds of the monotonic clock + the boot's origin."""
USES: Final = 1
QUOTAS: Final = 2
"""Hour, day, month: window number << 44 | calls."""
BUDGETS: Final = 5
"""Hour, day, month: window number << 44 | micros."""
BYTES: Final = 8
"""Hour, day, month: window number << 44 | bytes."""
PIN: Final = 11
"""Version of the address that a key is pinned to, 4 or 6; 0: to none."""
PIN_PLACE: Final = 12
"""Its first 32 or 64 bits, written before the version is."""
OF_OPEN_CALLS: Final = 13
"""Hour, day, month: while that counter of bytes is held, what calls that were open have moved; no window."""
OPEN_CALLS: Final = 16
"""One cell a worker slot: generation << 32 | open calls. Counts only while that generation is alive."""
COUNT_MASK: Final = 0xFFFF_FFFF
