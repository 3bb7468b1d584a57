"""No management action without permission check and audit entry: all in one transaction, whoever asks."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from sqlalchemy import func, select

from doors_world import OWNER, open_frame
from valetkey.access import operation
from valetkey.access.actor import Actor, ActorKind
from valetkey.access.operation import OPERATIONS, Frame
from valetkey.errors import Conflict, NotPermitted
from valetkey.journal.actions import AuditAction
from valetkey.keys.tokens import IssueToken, issue_token
from valetkey.parties.erasure import EraseFields, ask_erasure
from valetkey.parties.operations import AddParty, add_party
from valetkey.store import tables

PROGRAM = Actor(ActorKind.TOKEN, "ci-runner")


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    return open_frame(tmp_path)


def rows(frame: Frame) -> tuple[int, list[tuple[str, str, str]]]:
    """How many parties there are, and the audit entries."""
    with frame.store.read() as connection:
        parties = connection.execute(select(func.count()).select_from(tables.parties)).scalar_one()
        audit = tables.audit.c
        entries = connection.execute(select(audit.action, audit.actor, audit.outcome).order_by(audit.seq))
        return parties, [tuple(row) for row in entries]  # type: ignore[misc]


def test_an_action_leaves_its_entry(frame: Frame) -> None:
    frame.perform(add_party, AddParty("ana"), OWNER)
    assert rows(frame) == (1, [("party:add", OWNER.label, "done")])


def test_an_action_whose_entry_cannot_be_made_has_not_happened(frame: Frame) -> None:
    with (
        mock.patch.object(operation, "_enter", side_effect=OSError("the disk is full")),
        pytest.raises(OSError, match="full"),
    ):
        frame.perform(add_party, AddParty("ana"), OWNER)
    assert rows(frame) == (0, [])


def test_an_action_that_fails_leaves_neither_rows_nor_entry(frame: Frame) -> None:
    frame.perform(add_party, AddParty("ana"), OWNER)
    with pytest.raises(Conflict):
        frame.perform(add_party, AddParty("ana"), OWNER)
    assert rows(frame) == (1, [("party:add", OWNER.label, "done")])


def test_who_may_not_is_refused_before_anything_is_touched_and_that_is_entered(frame: Frame) -> None:
    with pytest.raises(NotPermitted):
        frame.perform(issue_token, IssueToken(party="bot"), PROGRAM)
    assert rows(frame) == (0, [("token:issue", PROGRAM.label, "refused")])


def test_a_leaked_token_wipes_away_no_traces(frame: Frame) -> None:
    frame.perform(add_party, AddParty("ana"), OWNER)
    with pytest.raises(NotPermitted):
        frame.perform(ask_erasure, EraseFields(party="ana"), PROGRAM)
    frame.perform(ask_erasure, EraseFields(party="ana"), OWNER)
    assert rows(frame)[1][1:] == [
        ("audit:erase", PROGRAM.label, "refused"),
        ("audit:erase", OWNER.label, "done"),
    ]


@pytest.mark.parametrize("action", sorted(OPERATIONS))
def test_every_action_asks_for_permission_first(frame: Frame, action: AuditAction) -> None:
    with (
        mock.patch.object(operation, "require_permission", side_effect=NotPermitted("No.")) as asked,
        pytest.raises(NotPermitted),
    ):
        # What is asked for is never looked at: the refusal comes before.
        frame.perform(OPERATIONS[action], object(), PROGRAM)
    asked.assert_called_once_with(PROGRAM, action)
    assert rows(frame) == (0, [(action.value, PROGRAM.label, "refused")])
