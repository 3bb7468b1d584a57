"""Routes of the audit: what was done here, and the proof that the journal is whole."""

from __future__ import annotations

from typing import Annotated, cast

from litestar import get, post
from litestar.openapi.spec import Example
from litestar.params import Body

from valetkey.api.answers import AuditPage, FieldsErased, JournalVerdict
from valetkey.api.bodies import Verification, WhichRecord
from valetkey.api.parameters import Asking, Cursor, Limit, TheDesk, performs
from valetkey.journal.proof import Proof
from valetkey.parties.erasure import EraseFields, ask_erasure

_VERIFY = Body(
    examples=[Example(summary="Against a witness", value={"witness": "/mnt/other-disk/valetkey-witness"})]
)
_PROVE = Body(examples=[Example(summary="A call", value={"record": "01997f3a-5c00-7abc-8def-0123456789ab"})])
_ERASE = Body(examples=[Example(summary="Of one party's calls", value={"party": "ana"})])


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


@post("/audit/proof", summary="Prove a record", status_code=200)
async def prove(desk: TheDesk, data: Annotated[WhichRecord, _PROVE]) -> Proof:
    """What anyone can check without this server, and without learning of any other record."""
    return cast(Proof, await desk.prove_record(data.record, personal=data.personal))


@post("/audit/erase", summary="Erase personal fields", status_code=200, opt=performs(ask_erasure))
async def erase(desk: TheDesk, actor: Asking, data: Annotated[EraseFields, _ERASE]) -> FieldsErased:
    """Address, user agent and the like, of a party's calls or of old ones. For the local owner only."""
    return cast(FieldsErased, await desk.erase_personal(actor, data))


ROUTES = [list_page, verify, prove, erase]
