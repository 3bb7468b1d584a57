"""What a key may be used for: one small frozen type a file, each the judge of itself.

A restriction is plain data that exists only if valid (its constructor raises `InvalidRestriction`), is stored
as tagged JSON, and compiles once to a function that judges a call in well under a microsecond.
"""

from __future__ import annotations

from typing import TypeAlias

from valetkey.decision.restrictions.base import CompileContext, InvalidRestriction, Judge, Restriction
from valetkey.decision.restrictions.endpoints import CompiledEndpoints, Endpoints
from valetkey.decision.restrictions.hosts import Hosts
from valetkey.decision.restrictions.networks import Networks
from valetkey.decision.restrictions.origins import Origins
from valetkey.decision.restrictions.patterns import EndpointPattern
from valetkey.decision.restrictions.schedule import Schedule
from valetkey.decision.restrictions.sticky import Sticky

AnyRestriction: TypeAlias = Networks | Sticky | Origins | Hosts | Endpoints | Schedule
"""What stored JSON is decoded to; the field ``type`` says which."""

RESTRICTIONS: tuple[type[Restriction], ...] = (Networks, Sticky, Origins, Hosts, Endpoints, Schedule)
"""All restrictions in the order in which they are checked, which is the order of their codes."""

__all__ = [
    "RESTRICTIONS",
    "AnyRestriction",
    "CompileContext",
    "CompiledEndpoints",
    "EndpointPattern",
    "Endpoints",
    "Hosts",
    "InvalidRestriction",
    "Judge",
    "Networks",
    "Origins",
    "Restriction",
    "Schedule",
    "Sticky",
]
