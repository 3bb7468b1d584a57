"""Of each derived key it is known in the end whether somebody received it, also when the server was started anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from doors_world import OWNER, open_frame
from valetkey.access.actor import SYSTEM, Actor, ActorKind
from valetkey.access.operation import Frame
from valetkey.errors import NotPermitted
from valetkey.journal.records import Closed, End, Opened
from valetkey.keys.derivation import DeriveKey, derive_key
from valetkey.keys.operations import IssueKey, KeyName, issue_key
from valetkey.keys.queries import get_key
from valetkey.keys.unreceived import abandon_key
from valetkey.server.received import Received
from valetkey.services.operations import AddService, add_service

CALL = "call-1"
OPENED = Opened(CALL, 1.0, "VALID", operation="derive")


@pytest.fixture
def frame(tmp_path: Path) -> Frame:
    return open_frame(tmp_path)


@pytest.fixture
def child(frame: Frame) -> str:
    """A key that the call asked for."""
    frame.perform(add_service, AddService("shop", own=True), OWNER)
    parent = frame.perform(issue_key, IssueKey("shop", holder="ana"), OWNER).answer
    holder = Actor(ActorKind.KEY, parent.id)
    return frame.perform(derive_key, DeriveKey(id=parent.id, call=CALL), holder).answer.id


def begun(frame: Frame, *open_calls: str) -> Received:
    """As the control process begins: it has accounted for the journal up to where these calls were open."""
    with frame.store.read() as connection:
        return Received(connection, frame.workspace, open_calls)


def unreceived(frame: Frame, received: Received) -> list[str]:
    with frame.store.write() as connection:
        received.store(connection)
    received.stored()
    with frame.store.read() as connection:
        waiting = received.waiting(connection)
    return [key for key, call in waiting.items() if not received.may_be(call)]


def test_a_key_whose_call_is_open_may_still_be_received(frame: Frame, child: str) -> None:
    received = begun(frame)
    received.add(OPENED)
    assert unreceived(frame, received) == []
    assert unreceived(frame, begun(frame, CALL)) == []


def test_a_key_whose_call_was_answered_has_been_received(frame: Frame, child: str) -> None:
    received = begun(frame)
    received.add(OPENED)
    received.add(Closed(CALL, 2.0, End.COMPLETE, status=201))
    assert unreceived(frame, received) == []
    assert unreceived(frame, begun(frame)) == [], "it is known from now on"


def test_an_answer_that_could_not_be_stored_yet_counts(frame: Frame, child: str) -> None:
    received = begun(frame)
    received.add(OPENED)
    received.add(Closed(CALL, 2.0, End.COMPLETE, status=201))
    assert received.may_be(CALL)


def test_a_call_that_was_open_when_the_server_ended_is_followed_on(frame: Frame, child: str) -> None:
    received = begun(frame, CALL)
    received.add(Closed(CALL, 2.0, End.COMPLETE, status=201))
    assert unreceived(frame, received) == []


@pytest.mark.parametrize(
    ("end", "status"),
    [(End.INTERRUPTED, None), (End.INTERRUPTED, 503), (End.CLIENT_GONE, None), (End.COMPLETE, 400)],
)
def test_a_key_whose_call_ended_otherwise_was_not(
    end: End, status: int | None, frame: Frame, child: str
) -> None:
    received = begun(frame)
    received.add(OPENED)
    received.add(Closed(CALL, 2.0, end, status=status))
    assert unreceived(frame, received) == [child]
    assert unreceived(frame, begun(frame)) == [child], "whoever comes next finds it"


def test_a_key_that_is_made_after_its_call_ended_was_not(frame: Frame, child: str) -> None:
    assert unreceived(frame, begun(frame)) == [child]


def test_it_ends_for_ever_and_the_audit_says_which_call_it_was(frame: Frame, child: str) -> None:
    entry = frame.perform(abandon_key, KeyName(child), SYSTEM).entry
    assert (entry.action, entry.details["call"]) == ("key:abandon", CALL)
    with frame.store.read() as connection:
        assert get_key(connection, frame.workspace, child).state == "revoked"
    assert unreceived(frame, begun(frame)) == []


def test_nobody_else_can_call_a_key_abandoned(frame: Frame, child: str) -> None:
    with pytest.raises(NotPermitted):
        frame.perform(abandon_key, KeyName(child), OWNER)
