"""Calls decided in one turn are recorded in one write, and none is answered before its record stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from valetkey import syscalls
from valetkey.gateway.turn import Turn
from valetkey.journal.chain import SegmentName, segment_path
from valetkey.journal.errors import JournalFailed
from valetkey.journal.randomness import RandomPool
from valetkey.journal.records import Closed, Opened, Personal
from valetkey.journal.segment import SegmentWriter

NAME = SegmentName(1, "w0", 1)


class Book:
    """A turn over a real segment, and what was done, in order."""

    def __init__(self, folder: Path, *, may_accept: bool = True) -> None:
        self.folder = folder
        self.journal = SegmentWriter(folder, NAME, time=1.0, random=RandomPool())
        self.may_accept = may_accept
        self.turn = Turn(self.journal, lambda: self.may_accept)
        self.done: list[tuple[str, str, int]] = []

    def note(self, call: str, step: str) -> Callable[[], None]:
        """Notes the step with the number of records that stand by then in the file."""

        def step_taken() -> None:
            self.done.append((call, step, len(self.calls())))

        return step_taken

    def decide(self, call: str, *, accepts: bool = False) -> None:
        self.turn.record(
            Opened(call, 1.0, "VALID"),
            Closed(call, 1.0, "complete"),
            personal=Personal("203.0.113.7"),
            then=self.note(call, "then"),
            otherwise=self.note(call, "otherwise"),
            accepts=accepts,
        )

    def calls(self) -> list[bytes]:
        return segment_path(self.folder, NAME).read_bytes().splitlines()[1:]


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


def test_all_of_a_turn_stand_in_the_journal_before_the_first_is_answered(tmp_path: Path) -> None:
    book = Book(tmp_path)

    async def story() -> None:
        for call in "abc":
            book.decide(call)
        assert book.calls() == [] and book.done == []
        await asyncio.sleep(0)
        book.decide("d")
        await asyncio.sleep(0)

    with mock.patch("valetkey.journal.segment._write", wraps=syscalls.write) as write:
        run(story)
    assert book.done == [("a", "then", 6), ("b", "then", 6), ("c", "then", 6), ("d", "then", 8)]
    assert write.call_count == 4, "one for the records and one for what stands beside them, a turn"


def test_a_change_can_have_it_recorded_at_once(tmp_path: Path) -> None:
    book = Book(tmp_path)

    async def story() -> None:
        book.decide("a")
        book.turn.flush()
        assert book.done == [("a", "then", 2)]
        await asyncio.sleep(0)

    run(story)
    assert book.done == [("a", "then", 2)]


def test_nothing_of_a_turn_that_cannot_be_written_is_done(tmp_path: Path) -> None:
    book = Book(tmp_path)

    async def story() -> None:
        book.decide("a")
        book.decide("b")
        await asyncio.sleep(0)

    with mock.patch.object(SegmentWriter, "append_all", side_effect=JournalFailed("full")):
        run(story)
    assert book.done == [("a", "otherwise", 0), ("b", "otherwise", 0)]


def test_a_node_that_may_not_accept_any_more_records_refusals_only(tmp_path: Path) -> None:
    book = Book(tmp_path)

    async def story() -> None:
        book.decide("allowed", accepts=True)
        book.decide("refused")
        book.may_accept = False
        await asyncio.sleep(0)

    run(story)
    assert book.done == [("allowed", "otherwise", 2), ("refused", "then", 2)]
    assert all(b'"refused"' in line for line in book.calls())


def test_a_record_that_cannot_be_encoded_leaves_nobody_waiting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book(tmp_path)
    odd: Any = object()

    async def story() -> None:
        book.decide("a")
        book.turn.record(odd, then=book.note("odd", "then"), otherwise=book.note("odd", "otherwise"))
        await asyncio.sleep(0)
        book.decide("b")
        await asyncio.sleep(0)

    run(story)
    assert book.done == [("a", "otherwise", 0), ("odd", "otherwise", 0), ("b", "then", 2)]
    assert "TypeError" in capsys.readouterr().err


def test_a_turn_in_which_nothing_may_be_recorded_writes_nothing(tmp_path: Path) -> None:
    book = Book(tmp_path, may_accept=False)

    async def story() -> None:
        book.turn.flush()
        book.decide("a", accepts=True)
        await asyncio.sleep(0)

    with mock.patch.object(SegmentWriter, "append_all", side_effect=AssertionError("nothing to write")):
        run(story)
    assert book.done == [("a", "otherwise", 0)]


def test_one_calls_failure_does_not_keep_the_others_from_their_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = Book(tmp_path)

    def fails() -> None:
        raise KeyError("a secret")

    async def story() -> None:
        book.turn.record(Opened("bad", 1.0, "VALID"), then=fails, failed=book.note("bad", "failed"))
        book.turn.record(Opened("worse", 1.0, "VALID"), then=fails, failed=fails)
        book.decide("good")
        await asyncio.sleep(0)

    run(story)
    assert [entry[:2] for entry in book.done] == [("bad", "failed"), ("good", "then")]
    said = capsys.readouterr().err
    assert "KeyError" in said and "secret" not in said


def test_what_a_step_decides_belongs_to_the_next_turn(tmp_path: Path) -> None:
    book = Book(tmp_path)

    async def story() -> None:
        book.turn.record(Opened("a", 1.0, "VALID"), then=lambda: book.decide("b"))
        await asyncio.sleep(0)
        assert book.done == []
        await asyncio.sleep(0)

    run(story)
    assert book.done == [("b", "then", 3)]
