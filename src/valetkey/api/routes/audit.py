"""Routes of the audit: what was done here, and the proof that the journal is whole."""

from __future__ import annotations

from typing import Annotated, cast

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import AuditPage, JournalVerdict
from valetkey.api.bodies import Verification
from valetkey.api.parameters import Asking, Cursor, Limit, TheDesk

_VERIFY = Body(
    examples=[Example(summary="Against a witness", value={"witness": "/mnt/other-disk/valetkey-witness"})]
)


@get("/audit", summary="List management actions")
async def list_page(desk: TheDesk, limit: Limit = 50, cursor: Cursor = None) -> AuditPage:
    """Who did what, newest first."""
    return cast(AuditPage, await desk.audit_list(limit, cursor))


@post("/audit/verify", summary="Verify the journal", status_code=200)
async def verify(
    desk: TheDesk, actor: Asking, data: Annotated[Verification | None, _VERIFY] = None
) -> JournalVerdict:
    """Make a checkpoint, then check every record, also against what a witness outside holds."""
    return cast(JournalVerdict, await desk.verify_journal(actor, None if data is None else data.witness))


ROUTES = [list_page, verify]
