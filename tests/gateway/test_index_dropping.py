"""Derived keys that are dropped leave nothing behind in a worker, and what is told again works again."""

from __future__ import annotations

from test_index import BASE, code_of, key_fact, policy_fact

from valetkey.decision.limits import Limits
from valetkey.decision.policy import Policy
from valetkey.decision.restrictions import Endpoints
from valetkey.gateway.facts import DroppedFact, Fact
from valetkey.gateway.index import KeyIndex

NOW_ONLY = Policy((Endpoints(("GET /now",)),))


def test_a_dropped_key_is_unknown_and_those_beside_it_are_not() -> None:
    index = KeyIndex()
    index.apply([*BASE, policy_fact("own", NOW_ONLY)])
    index.apply([key_fact(1), *(key_fact(n, parent_id="key_1", policy_id="pol_own") for n in (2, 3))])
    index.apply([key_fact(4, parent_id="key_2")])
    assert [code_of(index, f"key_{n}") for n in (1, 2, 3, 4)] == ["VALID"] * 4
    assert index.apply([DroppedFact("key_2"), DroppedFact("key_4"), DroppedFact("key_9")]) == [
        "key_2",
        "key_4",
    ]
    assert [code_of(index, f"key_{n}") for n in (1, 2, 3, 4)] == [
        "VALID",
        "UNKNOWN_KEY",
        "VALID",
        "UNKNOWN_KEY",
    ]
    assert index.find((2).to_bytes(32, "big")) is None
    assert (index.count, index.descendants("key_1")) == (2, ["key_1", "key_3"])


def test_a_policy_that_went_with_its_last_key_is_told_again_with_the_next() -> None:
    index = KeyIndex()
    index.apply([*BASE, policy_fact("own", NOW_ONLY), key_fact(1, policy_id="pol_own")])
    assert code_of(index, "key_1") == "VALID"
    index.apply([DroppedFact("key_1")])
    index.apply([policy_fact("own", NOW_ONLY), key_fact(2, policy_id="pol_own")])
    assert code_of(index, "key_2") == "VALID"


def test_nothing_grows_with_keys_that_came_and_went() -> None:
    index = KeyIndex()
    index.apply([*BASE, key_fact(0)])

    def sizes() -> dict[str, int]:
        held = {**vars(index), **vars(index._policies)}
        return {name: len(value) for name, value in held.items() if isinstance(value, dict | set)}

    assert code_of(index, "key_0") == "VALID"
    before = sizes()
    for number in range(1, 50):
        facts: list[Fact] = [
            policy_fact(f"{number}", Policy((Endpoints(("GET /now",)),), Limits(uses=number))),
            key_fact(number, parent_id="key_0", policy_id=f"pol_{number}"),
        ]
        index.apply(facts)
        assert code_of(index, f"key_{number}") == "VALID"
        assert sizes() != before
        index.apply([DroppedFact(f"key_{number}")])
        assert sizes() == before
