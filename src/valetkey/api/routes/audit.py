"""Routes of the audit: what was done here, and the proof that the journal is whole."""

from __future__ import annotations

from typing import cast

from litestar import get, post

from valetkey.api.answers import AuditPage, JournalVerdict
from valetkey.api.parameters import Cursor, Limit, TheDesk


@get("/audit", summary="List management actions")
async def list_page(desk: TheDesk, limit: Limit = 50, cursor: Cursor = None) -> AuditPage:
    """Who did what, newest first."""
    return cast(AuditPage, await desk.audit_list(limit, cursor))


@post("/audit/verify", summary="Verify the journal", status_code=200)
async def verify(desk: TheDesk) -> JournalVerdict:
    """Make a checkpoint, then check every record."""
    return cast(JournalVerdict, await desk.verify_journal())


ROUTES = [list_page, verify]
