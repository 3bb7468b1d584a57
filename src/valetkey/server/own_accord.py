"""What the control process does by itself to many: one that fails keeps none behind it waiting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from valetkey.access.actor import SYSTEM
from valetkey.access.operation import Operation
from valetkey.errors import ValetkeyError
from valetkey.log import note_failure
from valetkey.server.desk import Desk
from valetkey.store.engine import StoreError


async def perform_each(desk: Desk, operation: Operation[Any, Any], requests: Iterable[Any]) -> None:
    """Do it to each. What fails is noted; whoever asked looks again."""
    for request in requests:
        try:
            await desk.perform(operation, request, SYSTEM)
        except (ValetkeyError, StoreError) as error:
            note_failure(error)
