"""Parameters that several routes share, each bounded and described once."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.params import HeaderParameter, PathParameter, QueryParameter, SkipValidation

from valetkey.access.actor import Actor
from valetkey.access.operation import Operation
from valetkey.api.desk import Desk
from valetkey.keys.queries import MAX_PAGE

TheDesk = NamedDependency[SkipValidation[Desk]]
"""The desk behind the door."""
Asking = NamedDependency[SkipValidation[Actor]]
"""Who asks."""

ReplayToken = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="A random word of the caller's: the same request with the same word is done once.",
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_PAGE, description="Most items of one page.")]
Cursor = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=500, description="`next` of the page before; left out: the first page."
    ),
]
Named = Annotated[str | None, QueryParameter(min_length=1, max_length=120)]
"""A filter by name."""
ServiceInPath = Annotated[str, PathParameter(description="Name of a service.")]
NameInPath = Annotated[str, PathParameter(description="Name, as lists show it.")]
IdInPath = Annotated[str, PathParameter(description="Identifier, as lists show it.")]


def performs(operation: Operation[Any, Any]) -> dict[str, Any]:
    """Mark a route with the operation it performs, for the document and for the tests."""
    return {"action": operation.action}
