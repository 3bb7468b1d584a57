"""The ends of keys and agreements are noted for good, however many are reached at once."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import insert

from doors_world import WALL, WORKSPACE, open_frame
from valetkey.server.ending import latch
from valetkey.store import tables


def test_agreements_that_end_all_at_once_are_noted_a_thousand_at_a_time(tmp_path: Path) -> None:
    frame = open_frame(tmp_path)
    own = {"workspace_id": WORKSPACE, "created": WALL}
    numbers = range(1_100)
    with frame.store.write() as connection:
        connection.execute(
            insert(tables.parties),
            [
                own | {"id": f"pty_{n}", "name": f"p{n}", "folded": f"p{n}", "kind": "partner", "block": n}
                for n in numbers
            ],
        )
        terms = own | {"document": "", "policies": "{}", "limits": "{}", "ends": WALL}
        connection.execute(
            insert(tables.agreements),
            [terms | {"id": f"agr_{n}", "party_id": f"pty_{n}", "block": 2_000 + n} for n in numbers],
        )
    noted = []
    for _ in range(3):
        with frame.store.write() as connection:
            noted.append(latch(connection, WORKSPACE, WALL))
    assert [len(some) for some in noted] == [1_000, 100, 0]
    assert {one for some in noted for one in some} == {("agreement", f"agr_{n}") for n in numbers}
    frame.store.close()
