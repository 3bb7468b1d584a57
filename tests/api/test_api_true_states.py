"""Keys and partners are shown as a call would find them, and what will surprise is said before it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_world import WALL, Caller, FrameDesk, open_frame
from sqlalchemy import func, insert, select, update

from valetkey.api.app import build_api
from valetkey.keys import derivation
from valetkey.keys.dropping import (
    COUNTED_SECONDS,
    KEPT_SECONDS,
    counters_to_give_up,
    drop_dead,
    give_up_counters,
)
from valetkey.keys.life import KeyState
from valetkey.keys.operations import latch_expired
from valetkey.server.ending import latch
from valetkey.server.facts import LATCHED, FactLoader
from valetkey.store import tables
from valetkey.store.blocks import blocks_are_clean, unclean_blocks

DAY = 86_400.0
KEY_OF_A_VENDOR = "sk-ant-" + "a1B2" * 8
KEY_OF_OURS = "vk_prv_" + "A1b2" * 12


class Owner:
    """The local owner of a real home, whose clock can be moved."""

    def __init__(self, folder: Path) -> None:
        self.now = WALL
        self.frame = open_frame(folder)
        self.frame.wall = lambda: self.now
        self.desk = FrameDesk(self.frame)
        self.ask = Caller(build_api(self.desk, local=True, wall=lambda: self.now))

    def __call__(self, method: str, path: str, body: Any = None, status: int | None = None) -> Any:
        answer = self.ask(method, f"/api/v1{path}", body)
        assert answer.status == status if status else answer.status < 300, answer.body
        return answer.json

    def issue(self, holder: str, **asked: Any) -> dict[str, Any]:
        return dict(self("POST", "/keys", {"service": "orders", "holder": holder, **asked}))

    def derive(self, key: str, status: int | None = None, **asked: Any) -> Any:
        return self("POST", f"/keys/{key}/derive", asked, status)

    def partner(self, name: str, **changed: Any) -> dict[str, Any]:
        return dict(self("POST", "/partners", {"name": name, "agreement": agreement(**changed)}))

    def states(self) -> dict[str, list[str]]:
        """Labels of the keys that each filter by state gives, in the order of their making."""
        found = {}
        for state in KeyState:
            items = self("GET", f"/keys?state={state}&limit=200")["items"]
            assert all(key["state"] == state for key in items if state is not KeyState.EXPOSED)
            found[str(state)] = sorted(key["label"] for key in items)
        return {state: labels for state, labels in found.items() if labels}


def agreement(**changed: Any) -> dict[str, Any]:
    return {"ends": "2027-12-31", "services": [{"name": "orders", "endpoints": ["GET /a"]}], **changed}


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path)
    made("POST", "/services", {"name": "orders", "own": True})
    yield made
    made.frame.store.close()


def test_a_key_is_shown_as_a_call_would_find_it(owner: Owner) -> None:
    owner.partner("acme")
    owner.partner("later", begins="2026-12-01")
    root = owner.issue("acme", kind="partner", label="root")["id"]
    child = owner.derive(root, label="child", expires="30d")["id"]
    early = owner.issue("later", kind="partner", label="early")["id"]
    owner.issue("ben", label="free", kind="private")
    assert owner.states() == {"active": ["child", "free", "root"], "suspended": ["early"]}
    shown = owner("GET", f"/keys/{early}")
    assert (shown["state"], shown["because"]) == (
        "suspended",
        "The agreement with later begins on 2026-12-01.",
    )
    owner("POST", f"/keys/{root}/suspend")
    assert owner("GET", f"/keys/{child}")["because"] == f"{root}, which it comes from, is suspended."
    assert owner.derive(child, 409)["detail"].startswith(
        f"{child} is suspended, so nothing is derived from it: {root}"
    )
    owner("POST", f"/keys/{root}/resume")
    owner("POST", "/partners/acme/end")
    assert owner.states() == {"active": ["free"], "suspended": ["early"], "revoked": ["child", "root"]}
    shown = owner("GET", f"/keys/{child}")
    assert (shown["state"], shown["because"]) == ("revoked", "The agreement with acme was ended.")
    assert "The agreement with acme was ended." not in str(owner.derive(root, 409)["next_step"])
    assert "the agreement with acme was ended" in owner.derive(root, 409)["detail"]
    owner("PUT", "/partners/acme/agreement?revive=true", agreement(services=[{"name": "orders"}]))
    owner.now = WALL + 500 * DAY
    assert owner.states() == {"expired": ["child", "early", "root"], "active": ["free"]}
    with owner.frame.store.write() as connection:
        latch_expired(connection, owner.frame.workspace, owner.now)
    assert owner.states() == {"expired": ["child", "early", "root"], "active": ["free"]}


def test_a_partner_is_shown_as_the_agreement_stands(owner: Owner) -> None:
    owner.partner("acme")
    owner.partner("bolt", ends="30d")
    owner.partner("coil", begins="2026-12-01")
    owner.partner("dusk")
    owner("POST", "/partners/dusk/end")

    def states() -> list[str]:
        return [partner["state"] for partner in owner("GET", "/partners")["items"]]

    assert states() == ["active", "active", "upcoming", "ended"]
    owner.now = WALL + 31 * DAY
    assert states() == ["active", "expired", "upcoming", "ended"]
    owner.now = WALL + 100 * DAY
    assert states() == ["active", "expired", "active", "ended"]
    assert owner("GET", "/partners/bolt")["state"] == "expired"


def test_the_end_of_an_agreement_is_latched_so_that_a_clock_set_back_revives_nothing(owner: Owner) -> None:
    owner.partner("bolt", ends="30d")
    key = owner.issue("bolt", kind="partner", expires="10d")["id"]
    owner("PATCH", f"/keys/{key}", {"expires": "90d"})
    loader = FactLoader(owner.frame.workspace, owner.frame.keyring)
    with owner.frame.store.write() as connection:
        assert latch(connection, owner.frame.workspace, owner.now + 29 * DAY) == []
        (latched,) = latch(connection, owner.frame.workspace, owner.now + 31 * DAY)
        assert latched[0] == "agreement"
        (fact,) = (one for one in loader.changed(connection, [latched]) if hasattr(one, "ends"))
        assert fact.ends == LATCHED
    assert owner("GET", "/partners/bolt")["state"] == "expired"
    assert owner("GET", f"/keys/{key}")["state"] == "expired"
    assert owner(
        "POST", "/keys", {"service": "orders", "kind": "partner", "holder": "bolt", "label": "b"}, 400
    )
    owner("PUT", "/partners/bolt/agreement", agreement(ends="30d"))
    assert owner("GET", f"/keys/{key}")["state"] == "active"


def test_a_span_is_kept_as_the_time_that_it_means(owner: Owner) -> None:
    told = owner.partner("acme", ends="30d")
    assert told["agreement"]["ends"] == "2026-10-21T14:13:20Z"
    assert told["sentences"][0] == "Until 2026-10-21T14:13:20Z."
    assert told["ends"] == int(WALL) + 30 * DAY
    owner.now += DAY
    owner("PUT", "/partners/acme/agreement", agreement(ends="1d"))
    assert owner("GET", "/partners/acme")["agreement"]["ends"] == "2026-09-23T14:13:20Z"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"ends": "2027-12-31\x1b"}, "ends"),
        ({"begins": "2026-12-01\n"}, "begins"),
        ({"contact": {"email": "a\x07@b.example"}}, "contact.email"),
        ({"contact": {"name": KEY_OF_OURS}}, "contact.name"),
        ({"title": f"the key is {KEY_OF_A_VENDOR}"}, "title"),
        ({"ends": KEY_OF_A_VENDOR}, "ends"),
        ({"services": [{"name": "orders", "endpoints": [f"GET /{KEY_OF_OURS}"]}]}, "services.endpoints"),
    ],
)
def test_an_agreement_holds_no_control_characters_and_no_keys(
    owner: Owner, wrong: dict[str, Any], field: str
) -> None:
    refused = owner("POST", "/partners", {"name": "acme", "agreement": agreement(**wrong)}, 400)
    assert refused["field"] == field
    assert KEY_OF_OURS not in str(refused) and KEY_OF_A_VENDOR not in str(refused)


@pytest.mark.parametrize("key", [KEY_OF_OURS, KEY_OF_OURS[:30], KEY_OF_A_VENDOR, "0123456789abcdef" * 2])
def test_a_key_pasted_where_text_is_kept_is_refused_and_not_repeated(owner: Owner, key: str) -> None:
    made = owner.issue("ana")["id"]
    owner("POST", "/services", {"name": "weather", "base_url": "https://api.example.com", "auth": "bearer"})
    for method, path, body, field in (
        ("POST", "/keys", {"service": "orders", "label": f"my {key}"}, "label"),
        ("POST", "/keys", {"service": "orders", "holder": key}, "name"),
        ("PATCH", f"/keys/{made}", {"label": key}, "label"),
        ("POST", f"/keys/{made}/derive", {"label": key}, "label"),
        ("POST", f"/keys/{made}/derive", {"holder": key}, "name"),
        ("POST", "/tokens", {"party": "bot", "label": key}, "label"),
        ("POST", "/parties", {"name": key}, "name"),
        ("POST", "/partners", {"name": key, "agreement": agreement()}, "name"),
        ("POST", "/networks", {"name": key, "blocks": ["10.0.0.0/8"]}, "name"),
        ("POST", "/secrets", {"service": "weather", "name": key, "value": "x"}, "name"),
    ):
        refused = owner(method, path, body, 400)
        assert refused["field"] == field, path
        assert key not in str(refused), path
    assert key not in str(owner("GET", "/parties"))


def test_keys_that_end_before_a_prolonged_agreement_are_named(owner: Owner) -> None:
    owner.partner("acme", ends="30d")
    first = owner.issue("acme", kind="partner", label="first")["id"]
    owner.derive(first, label="child")
    owner.issue("acme", kind="partner", label="gone", expires="1h")
    owner.now += 2 * 3600
    notes = owner("PUT", "/partners/acme/agreement", agreement())["partner"]["notes"]
    assert notes == [
        f"{first} (first) ends before the agreement, on 2026-10-21.",
        "To prolong one: valetkey key change ID --expires WHEN",
    ]
    for place in range(6):
        owner.issue("acme", kind="partner", label=str(place), expires=f"{place + 1}d")
    notes = owner("PUT", "/partners/acme/agreement", agreement())["partner"]["notes"]
    assert len(notes) == 7 and "So do 2 more of its keys." in notes
    assert owner("GET", "/partners/acme")["notes"] == []


def test_an_agreement_that_was_ended_lives_again_only_when_it_is_said(owner: Owner) -> None:
    owner.partner("acme")
    key = owner.issue("acme", kind="partner")["id"]
    owner("POST", "/partners/acme/end")
    refused = owner("PUT", "/partners/acme/agreement", agreement(), 409)
    assert "bring 1 key back to life" in refused["detail"]
    assert "--revive" in refused["next_step"]
    assert owner("GET", f"/keys/{key}")["state"] == "revoked"
    told = owner("PUT", "/partners/acme/agreement?revive=true", agreement())
    assert told["partner"]["notes"][0] == "It had been ended and lives again, with 1 key."
    assert owner("GET", f"/keys/{key}")["state"] == "active"
    with owner.frame.store.read() as connection:
        details = select(tables.audit.c.details).where(tables.audit.c.action == "partner:change")
        (entry,) = connection.execute(details).scalars()
    assert '"revived":true' in entry


def test_a_partner_key_that_says_more_than_was_agreed_is_warned_of(owner: Owner) -> None:
    limits = {"rate": "5/s", "quotas": ["100/day"]}
    owner.partner("acme", networks=["203.0.113.0/24"], limits=limits)
    wide = owner.issue("acme", kind="partner", terms={"endpoints": ["GET /**"], "quotas": ["500/day"]})
    (warning,) = wide["warnings"]
    assert warning.startswith("The agreement with acme allows less than this key alone would: ")
    for sentence in ("Only from 203.0.113.0/24.", "Only GET /a.", "At most 100 a day.", "At most 5 a second"):
        assert sentence in warning
    within = {
        "endpoints": ["GET /a"],
        "networks": ["203.0.113.0/24"],
        "rate": "2/s",
        "burst": 5,
        "quotas": ["100/day"],
    }
    assert owner.issue("acme", kind="partner", label="within", terms=within)["warnings"] == []


def test_a_service_added_anew_is_said_to_have_lost_its_limit_and_its_agreements(owner: Owner) -> None:
    assert owner("POST", "/services", {"name": "other", "own": True})["notes"] == []
    owner("PATCH", "/limits", {"service": "other", "terms": {"quotas": ["50/day"]}})
    owner.partner("acme", services=[{"name": "other"}])
    assert owner("DELETE", "/services/other")["notes"] == [
        "Its shared limit is gone with it: At most 50 a day."
    ]
    notes = owner("POST", "/services", {"name": "other", "own": True})["notes"]
    assert "had a shared limit; this one has none: At most 50 a day." in notes[0]
    assert notes[1].startswith("The agreement with acme names the service of that name that was removed")
    assert [limit["name"] for limit in owner("GET", "/limits")["items"]] == []


def test_agreed_limits_are_listed_while_the_agreement_stands(owner: Owner) -> None:
    owner.partner("acme", limits={"quotas": ["100/day"]})
    owner.partner("bare")
    owner("PATCH", "/limits", {"holder": "acme", "terms": {"rate": "9/s"}})

    def listed() -> list[tuple[str, str]]:
        return [(one["level"], one["name"]) for one in owner("GET", "/limits")["items"]]

    assert listed() == [("holder", "acme"), ("agreement", "acme")]
    owner("POST", "/partners/acme/end")
    assert listed() == [("holder", "acme")]


def test_a_key_shows_the_living_ones_that_come_from_it(owner: Owner) -> None:
    root = owner.issue("ana")["id"]
    first = owner.derive(root, label="first", expires="1h")["id"]
    dead = owner.derive(root, label="dead")["id"]
    owner("POST", f"/keys/{dead}/revoke")
    second = owner.derive(root, label="second", holder="agent", expires="2h")["id"]
    shown = owner("GET", f"/keys/{root}")
    assert {one["id"] for one in shown["derived"]} == {first, second}
    assert shown["derived_count"] == 2
    assert {one["holder"] for one in shown["derived"]} == {"ana", "agent"}
    owner.now += 5_000
    assert [one["label"] for one in owner("GET", f"/keys/{root}")["derived"]] == ["second"]


def test_a_derived_key_lives_a_minute_at_least(owner: Owner) -> None:
    root = owner.issue("ana", expires="10min")["id"]
    assert owner.derive(root, 400, expires="59s")["field"] == "expires"
    assert owner.derive(root, expires="60s")["expires"] == WALL + 60
    owner.now += 541
    assert "ends in less than 60 seconds" in owner.derive(root, 409, expires="5min")["detail"]


def test_only_so_many_keys_are_derived_from_one_within_a_day(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derivation, "MAX_A_DAY", 3)
    root = owner.issue("ana")["id"]
    for place in range(3):
        made = owner.derive(root, label=str(place))["id"]
        owner("POST", f"/keys/{made}/revoke")
    assert "within a day" in owner.derive(root, 409)["detail"]
    owner.now += DAY + 1
    owner.derive(root)


@pytest.mark.parametrize(("most", "said"), [("MAX_CHILDREN", "live already"), ("MAX_A_DAY", "within a day")])
def test_all_that_comes_from_a_key_counts_together(
    owner: Owner, monkeypatch: pytest.MonkeyPatch, most: str, said: str
) -> None:
    monkeypatch.setattr(derivation, most, 3)
    root = owner.issue("ana")["id"]
    first, _ = (owner.derive(root, label=label)["id"] for label in "ab")
    owner.derive(first, label="c")
    for parent in (first, root):
        refused = owner.derive(parent, 409, label="d")["detail"]
        assert said in refused and root in refused


def test_long_dead_derived_keys_are_dropped_with_what_comes_from_them(owner: Owner) -> None:
    frame = owner.frame
    root = owner.issue("ana", label="root", terms={"uses": 9})["id"]
    child = owner.derive(root, label="child", expires="30d")["id"]
    grandchild = owner.derive(child, label="grandchild", expires="30d", terms={"uses": 7})["id"]
    living = owner.derive(root, label="living", expires="30d")["id"]
    loader = FactLoader(frame.workspace, frame.keyring, lambda: owner.now)
    owner("POST", f"/keys/{child}/revoke")

    def dropped() -> set[str]:
        with frame.store.write() as connection:
            return set(drop_dead(connection, frame.workspace, owner.now))

    def told() -> tuple[set[str], int]:
        with frame.store.read() as connection:
            facts = list(loader.all(connection))
        keys = {one.id for one in facts if type(one).__name__ == "KeyFact"}
        return keys, sum(type(one).__name__ == "PolicyFact" for one in facts)

    owner.now += KEPT_SECONDS - 1
    assert dropped() == set()
    assert told() == ({root, child, grandchild, living}, 3)
    owner.now += 1
    assert dropped() == {child, grandchild}
    assert dropped() == set()
    assert told() == ({root, living}, 2)
    with frame.store.read() as connection:
        changed = loader.changed(connection, [("key", grandchild)])
        assert [one.id for one in changed if type(one).__name__ == "DroppedFact"] == [grandchild]
    assert owner("GET", f"/keys/{child}")["dropped"] == owner.now
    for path, body in ((f"/keys/{grandchild}", {"expires": "30d"}), (f"/keys/{grandchild}", {"label": "x"})):
        assert "ended long ago" in owner("PATCH", path, body, 409)["detail"]
    owner("POST", f"/keys/{root}/revoke")
    owner.now += KEPT_SECONDS
    assert dropped() == {living}, "dead with what it comes from"
    assert told()[0] == {root}


def test_what_may_live_again_is_not_dropped(owner: Owner) -> None:
    owner.partner("acme")
    root = owner.issue("acme", kind="partner", expires="30d")["id"]
    owner("PATCH", f"/keys/{root}", {"expires": "never"})
    child = owner.derive(root, terms={"uses": 5})["id"]
    owner("PATCH", f"/keys/{root}", {"expires": "1h"})
    owner("POST", "/partners/acme/end")
    owner.now += 10 * 3600
    with owner.frame.store.write() as connection:
        latch_expired(connection, owner.frame.workspace, owner.now)
        assert drop_dead(connection, owner.frame.workspace, owner.now) == []
    owner("PATCH", f"/keys/{root}", {"expires": "30d"})
    owner("PUT", "/partners/acme/agreement?revive=true", agreement())
    assert owner("GET", f"/keys/{child}")["state"] == "active"


def test_counters_of_dropped_keys_are_given_to_others_once_they_are_clean(owner: Owner) -> None:
    frame = owner.frame
    root = owner.issue("ana")["id"]
    child = owner.derive(root)["id"]

    def block(key: str) -> int | None:
        with frame.store.read() as connection:
            return connection.execute(select(tables.keys.c.block).where(tables.keys.c.id == key)).scalar()

    had = block(child)
    owner("POST", f"/keys/{child}/revoke")
    owner.now += KEPT_SECONDS
    with frame.store.write() as connection:
        drop_dead(connection, frame.workspace, owner.now)
        assert counters_to_give_up(connection, owner.now) == {}
    owner.now += COUNTED_SECONDS
    with frame.store.write() as connection:
        over = counters_to_give_up(connection, owner.now)
        assert over == {child: had}
        give_up_counters(connection, over, owner.now)
        assert unclean_blocks(connection, owner.now - 1, 10) == []
    assert block(child) is None
    before = owner.derive(root, label="before")["id"]
    assert block(before) != had, "its counters are not clean"
    with frame.store.write() as connection:
        assert unclean_blocks(connection, owner.now, 10) == [had]
        blocks_are_clean(connection, [had or 0])
    assert block(owner.issue("ben")["id"]) != had, "only derived keys get what others had"
    assert block(owner.derive(root, label="after")["id"]) == had
    assert block(owner.derive(root, label="next")["id"]) not in (had, block(before))


def test_looking_for_dead_derived_keys_reads_no_others(owner: Owner) -> None:
    """Each minute, also with a million keys."""
    frame = owner.frame
    root = owner.issue("ana")["id"]
    with frame.store.write() as connection:
        row = dict(connection.execute(select(tables.keys).where(tables.keys.c.id == root)).one()._mapping)
        copies = [{**row, "id": f"key_{n}", "fingerprint": b"%d" % n, "block": 1000 + n} for n in range(3000)]
        connection.execute(insert(tables.keys), copies)
        connection.execute(
            update(tables.keys).values(ended=1.0, state="revoked").where(tables.keys.c.id != root)
        )
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.set_progress_handler(count, 100)  # type: ignore[attr-defined]
        drop_dead(connection, frame.workspace, owner.now)
        counters_to_give_up(connection, owner.now)
        raw.set_progress_handler(None, 0)  # type: ignore[attr-defined]
        assert connection.execute(select(func.count()).select_from(tables.keys)).scalar() == 3001
    assert steps < 50, "hundreds of instructions, not tens of thousands"


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ({"endpoints": ["GET /a"]}, "terms.endpoints"),
        ({"endpoint": "GET /a"}, "terms.endpoints"),
        ({"deny-endpoint": "GET /a"}, "terms.deny_endpoints"),
        ({"terms": {"quota": "5/day"}}, "terms.quotas"),
        ({"terms": {"label": "x"}}, "label"),
        ({"until": "1h"}, None),
    ],
)
def test_a_field_in_a_wrong_place_is_told_its_right_one(owner: Owner, body: Any, meant: str | None) -> None:
    root = owner.issue("ana")["id"]
    detail = owner("POST", f"/keys/{root}/derive", body, 400)["detail"]
    assert (f"Did you mean {meant!r}?" in detail) if meant else "mean" not in detail


def test_a_key_that_was_over_is_in_nobodys_way_also_when_the_clock_is_set_back(owner: Owner) -> None:
    over = owner.issue("ana", expires="1h")["id"]
    owner.now += 2 * 3600
    with owner.frame.store.write() as connection:
        latch_expired(connection, owner.frame.workspace, owner.now)
    owner.now -= 2 * 3600
    assert owner("GET", f"/keys/{over}")["state"] == "expired"
    assert owner.issue("ana")["id"] != over
