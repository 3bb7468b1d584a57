"""Block numbers begin at zero and follow one another."""

from __future__ import annotations

import pytest

from valetkey.store.blocks import next_block
from valetkey.store.engine import Store


def test_numbers_follow_one_another_from_zero(store: Store) -> None:
    with store.write() as connection:
        assert [next_block(connection), next_block(connection, 5), next_block(connection)] == [0, 1, 6]
    with store.write() as connection:
        assert next_block(connection) == 7


def test_numbers_of_an_action_that_failed_are_given_to_the_next(store: Store) -> None:
    def fail() -> None:
        with store.write() as connection:
            next_block(connection, 3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.write() as connection:
        assert next_block(connection) == 0


def test_none_cannot_be_taken(store: Store) -> None:
    with store.write() as connection, pytest.raises(ValueError, match="at least one"):
        next_block(connection, 0)
