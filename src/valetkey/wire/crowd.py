"""How many callers a process has room for, and who has to go when one more comes.

Without it a flood of connections takes all descriptors, and then no upstream can be reached and no file opened.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable
from heapq import nsmallest
from typing import Protocol, TypeVar

RESERVED_DESCRIPTORS = 64
"""For the journal, the links between processes, libraries, and name look-ups."""
FEWEST = 16
"""Room for so many there is whatever the system allows."""
AT_ONCE = 64
"""Who is let go is looked for among all: one look makes room for a sixty-fourth of them."""
_NEVER = float("inf")


class Guest(Protocol):
    """A connection that can be asked to go."""

    deadline: float
    """When it is closed anyway; never, while a call is open on it."""

    def close_if_idle(self, now: float) -> None: ...


AnyGuest = TypeVar("AnyGuest", bound=Guest)


def room(most: int, shares: int) -> int:
    """How many connections fit, at most `most`, where each may come to need `shares` descriptors."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return most
    return min(most, max(FEWEST, (allowed - RESERVED_DESCRIPTORS) // shares))


def make_room(connections: Iterable[AnyGuest], most: int) -> list[AnyGuest]:
    """Let those go that have no call open and would be closed soonest, and return them.

    Whoever has said nothing for long goes before whoever has just been answered; whoever has a call open stays.
    """
    idle = [one for one in connections if one.deadline < _NEVER]
    going = nsmallest(max(1, most // AT_ONCE), idle, key=lambda one: one.deadline)
    for one in going:
        one.close_if_idle(_NEVER)
    return going
