"""What only the control process does to counters: limits begin and are lifted, workers come and go, clocks change."""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from valetkey.decision import counter_keeping, counter_slots
from valetkey.decision.address import Place
from valetkey.decision.counter_layout import CELL, OPEN_CALLS, QUOTAS
from valetkey.decision.counter_pins import pin_to
from valetkey.gateway.counters import SharedCounters
from valetkey.gateway.counters_file import ACCEPTED, BLOCK_BYTES, FIRST_BYTE, HEADER_LOCK, LIFTED, byte_range

BLOCKS_AT_ONCE: Final = 1000
"""So many are gone through before other threads of the process have their turn."""


class KeptCounters(SharedCounters):
    """The counters as the control process holds them."""

    def pin(self, block: int, place: Place | None) -> None:
        """For whoever keeps pins: see `counter_pins.pin_to`."""
        with self._alone(block):
            pin_to(self._cells, block, place)

    def raise_to(self, block: int, values: dict[int, int]) -> None:
        """For recovery: see `counter_keeping.raise_to`."""
        with self._alone(block):
            counter_keeping.raise_to(self._cells, block, values)

    def hold(self, block: int, offsets: Iterable[int], wall: float) -> None:
        """For limits that begin to count: see `counter_keeping.hold`."""
        with self._alone(block):
            counter_keeping.hold(self._cells, block, offsets, wall)

    def held(self) -> list[int]:
        """Blocks with cells that are held."""
        with self._threads:
            self._look_anew()
            return counter_keeping.held(self._cells, self._capacity)

    def clean(self, block: int) -> None:
        """For the control process: see `counter_keeping.clean`."""
        with self._alone(block):
            counter_keeping.clean(self._cells, block)

    def next_generation(self, slot: int) -> int:
        """A generation that this slot has never had, also before the last boot."""
        with self._threads, self._held(HEADER_LOCK):
            return counter_slots.next_generation(self._cells, slot)

    def enlist(self, slot: int, generation: int) -> None:
        """For whoever starts workers, before it starts one. See `counter_slots.enlist`."""
        with self._threads, self._held(HEADER_LOCK):
            counter_slots.enlist(self._cells, slot, generation)

    def retire(self, slot: int) -> None:
        """For whoever starts workers, after one is dead. See `counter_slots.retire`."""
        with self._threads, self._held(HEADER_LOCK):
            counter_slots.retire(self._cells, slot)

    @property
    def lifted(self) -> int:
        """As which they were last lifted to what the journal proves; 0: never since the machine was started."""
        with self._threads:
            self._usable()
            return self._cells[LIFTED]

    @lifted.setter
    def lifted(self, value: int) -> None:
        with self._threads, self._held(HEADER_LOCK):
            self._cells[LIFTED] = value

    def accept_clock(self, wall: float, acceptance: str) -> None:
        """An administrator takes the clock as right: windows that lie in its future go on in the one of now.

        Each acceptance, named by its id, does so once.
        """
        mark = int.from_bytes(blake2b(acceptance.encode(), digest_size=CELL).digest(), "little")
        done = 0
        while True:
            with self._threads:
                self._look_anew()
                if self._cells[ACCEPTED] == mark:
                    return
                first, done = done, min(done + BLOCKS_AT_ONCE, self._capacity)
                for block in range(first, done):
                    if any(counter_keeping.read(self._cells, block)[QUOTAS:OPEN_CALLS]):
                        with self._held(byte_range(FIRST_BYTE + block * BLOCK_BYTES, BLOCK_BYTES)):
                            counter_keeping.accept_clock(self._cells, block, wall)
                if done == self._capacity:
                    self._cells[ACCEPTED] = mark
                    return
            time.sleep(0)  # a million blocks take seconds: other threads have their turn
