"""What is asked of keys that end, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, update

from valetkey.agreements.operations import latch_ended
from valetkey.keys.dropping import KEPT_SECONDS, counters_to_give_up, drop_dead, give_up_counters
from valetkey.keys.life import KeyState
from valetkey.keys.queries import get_key, list_keys, show_key
from valetkey.parties.erasure import Erasure, erasure_is_done, forget_sightings, pending_erasures
from valetkey.store import tables
from valetkey.store.blocks import blocks_are_clean, spare_block, unclean_blocks
from valetkey.store.engine import Store

NOW = 1_000_000.0


@pytest.fixture
def filled(store: Store) -> Store:
    """A partner's key, one that comes from it, and one that comes from that."""
    own = {"workspace_id": "w", "created": NOW}
    with store.write() as connection:
        connection.execute(
            insert(tables.workspaces).values(id="w", name="w", root_key_id="r", sealed_key=b"", created=NOW)
        )
        connection.execute(insert(tables.environments).values(id="e", workspace_id="w", name="production"))
        service = {"id": "svc_a", "name": "a", "definition": "{}", "locked": 0, "block": 1, **own}
        connection.execute(insert(tables.services).values(service))
        connection.execute(
            insert(tables.parties).values(id="p", name="acme", folded="acme", kind="partner", block=2, **own)
        )
        document = '{"restrictions":[],"limits":{}}'
        connection.execute(
            insert(tables.policies).values(id="pol", workspace_id="w", digest=b"d", document=document)
        )
        agreement = {
            "document": '{"ends":"2027-12-31","services":[]}',
            "policies": '{"svc_a":"pol"}',
            "limits": "{}",
            "block": 3,
            "ends": NOW + 100,
        }
        connection.execute(insert(tables.agreements).values(id="agr", party_id="p", **agreement, **own))
        for number, parent in enumerate((None, "key_0", "key_1")):
            connection.execute(
                insert(tables.keys).values(
                    id=f"key_{number}", environment_id="e", service_id="svc_a", kind="partner",
                    fingerprint=b"%d" % number, last4="aaaa", label=str(number), holder_id="p", policy_id="pol",
                    secret_name="default", state="active", block=10 + number, parent_id=parent, **own,
                )
            )  # fmt: skip
    return store


def states(store: Store, now: float) -> dict[str, list[str]]:
    with store.read() as connection:
        found = {
            str(state): sorted(key.id for key in list_keys(connection, "w", state=state, now=now).items)
            for state in (KeyState.ACTIVE, KeyState.SUSPENDED, KeyState.REVOKED, KeyState.EXPIRED)
        }
        for state, ids in found.items():
            assert all(get_key(connection, "w", one, now).state == state for one in ids)
    return {state: ids for state, ids in found.items() if ids}


def test_states_are_those_of_all_that_a_key_hangs_on(filled: Store) -> None:
    everyone = ["key_0", "key_1", "key_2"]
    assert states(filled, NOW) == {"active": everyone}
    assert states(filled, NOW + 100) == {"expired": everyone}
    with filled.write() as connection:
        assert latch_ended(connection, "w", NOW + 100) == ["agr"]
    assert states(filled, NOW) == {"expired": everyone}
    with filled.write() as connection:
        connection.execute(update(tables.agreements).values(latched=None, begins=NOW + 5))
    assert states(filled, NOW) == {"suspended": everyone}
    with filled.write() as connection:
        connection.execute(update(tables.agreements).values(begins=None, policies="{}"))
    assert states(filled, NOW) == {"revoked": everyone}
    with filled.write() as connection:
        connection.execute(update(tables.agreements).values(policies='{"svc_a":"pol"}'))
        connection.execute(update(tables.keys).where(tables.keys.c.id == "key_1").values(state="suspended"))
    assert states(filled, NOW) == {"active": ["key_0"], "suspended": ["key_1", "key_2"]}
    with filled.read() as connection:
        assert show_key(connection, "w", "key_0", NOW).derived_count == 1


def test_dead_keys_are_dropped_and_their_counters_go_to_others(filled: Store) -> None:
    later = NOW + 2 * KEPT_SECONDS
    with filled.write() as connection:
        dead = update(tables.keys).where(tables.keys.c.id == "key_1")
        connection.execute(dead.values(state="revoked", ended=NOW))
        assert sorted(drop_dead(connection, "w", NOW + KEPT_SECONDS)) == ["key_1", "key_2"]
        over = counters_to_give_up(connection, later)
        assert over == {"key_1": 11, "key_2": 12}
        give_up_counters(connection, over, later)
        assert sorted(unclean_blocks(connection, later, 10)) == [11, 12]
        blocks_are_clean(connection, [11])
        assert [spare_block(connection) for _ in range(2)] == [11, 0]


def test_an_erasure_is_pending_until_it_is_done(filled: Store) -> None:
    erasure = Erasure("era_1", "acme", None)
    with filled.write() as connection:
        row = {"workspace_id": "w", "kind": "agent", "value": "v", "first": NOW, "last": NOW, "calls": 1}
        connection.execute(insert(tables.sightings), [{**row, "key_id": one} for one in ("key_1", "-")])
        connection.execute(
            insert(tables.erasures).values(id="era_1", workspace_id="w", party="acme", asked=NOW)
        )
        assert pending_erasures(connection, "w") == [erasure]
        assert forget_sightings(connection, "w", "acme", None) == 1
        assert forget_sightings(connection, "w", None, NOW) == 0
        assert forget_sightings(connection, "w", None, NOW + 1) == 1
        erasure_is_done(connection, erasure, 5, NOW)
        assert pending_erasures(connection, "w") == []
