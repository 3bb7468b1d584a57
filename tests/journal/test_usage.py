"""Rollups count each call once, wherever the cuts between two takings lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from valetkey.journal.records import AnyRecord, Closed, Flood, Opened, Personal
from valetkey.journal.usage import MOST_SEEN, HourUse, Rollups, SeenSet, Use

CALLS = st.lists(
    st.tuples(
        st.sampled_from(["key_1", "key_2", None]),
        st.sampled_from(["VALID", "VALID", "EXPIRED", "RATE_LIMITED"]),
        st.integers(0, 10_000),
        st.integers(0, 100),
        st.integers(0, 3),
    ),
    max_size=20,
)


@given(calls=CALLS, cuts=st.sets(st.integers(0, 40)), restart=st.booleans())
def test_the_sum_of_all_takings_is_what_the_calls_were(
    calls: list[tuple[str | None, str, int, int, int]], cuts: set[int], restart: bool
) -> None:
    opened: list[tuple[AnyRecord, Personal | None]] = [
        (Opened(f"call-{number}", float(time), code, key_id=key), Personal(f"192.0.2.{host}", "curl"))
        for number, (key, code, time, _, host) in enumerate(calls)
    ]
    closed: list[tuple[AnyRecord, Personal | None]] = [
        (Closed(f"call-{number}", 20_000.0, "complete", bytes_in=size, bytes_out=2 * size, cost=size), None)
        for number, (_, code, _, size, _) in enumerate(calls)
        if code == "VALID"
    ]
    rollups, total = Rollups(), Use()
    for number, (record, personal) in enumerate([*opened, *closed]):
        rollups.add(record, personal)
        if number in cuts:
            total.merge(rollups.take())
            if restart:
                rollups = Rollups(rollups.open_calls)
    total.merge(rollups.take())
    assert rollups.open_calls == {}
    for (key, hour), use in total.hours.items():
        mine = [call for call in calls if call[0] == key and call[2] // 3600 * 3600 == hour]
        assert use.calls == len(mine)
        assert use.allowed == sum(call[1] == "VALID" for call in mine)
        assert use.refused == dict(Counter(call[1] for call in mine if call[1] != "VALID"))
        assert use.bytes_in == use.cost == sum(call[3] for call in mine if call[1] == "VALID")
        assert use.bytes_out == 2 * use.bytes_in
        assert use.ends.get("complete", 0) == use.allowed
    assert sum(use.calls for use in total.hours.values()) == len(calls)
    for key, seen in total.addresses.items():
        mine = [call for call in calls if call[0] == key]
        assert set(seen.values) == {f"192.0.2.{call[4]}" for call in mine}
        for address, found in seen.values.items():
            times = [call[2] for call in mine if f"192.0.2.{call[4]}" == address]
            assert (found.first, found.last, found.calls) == (min(times), max(times), len(times))
    assert None not in total.addresses


def test_a_flood_counts_as_many_calls_as_it_stands_for() -> None:
    rollups = Rollups()
    rollups.add(Flood("call", 3700.0, "MALFORMED", 40, 3650.0))
    rollups.add(Flood("other", 3701.0, "RATE_LIMITED", 7, 3650.0, key_id="key_a"))
    assert rollups.take().hours == {
        (None, 3600): HourUse(calls=40, refused={"MALFORMED": 40}),
        ("key_a", 3600): HourUse(calls=7, refused={"RATE_LIMITED": 7}),
    }
    assert rollups.take() == Use()


def test_addresses_of_a_key_are_bounded_and_the_longest_unused_is_forgotten() -> None:
    seen = SeenSet()
    for number in range(MOST_SEEN + 10):
        seen.see(f"a{number}", float(number), float(number))
    assert len(seen.values) == MOST_SEEN
    assert seen.forgotten == 10
    assert "a9" not in seen.values
    assert f"a{MOST_SEEN + 9}" in seen.values
    seen.see("old", 1.0, 1.0)
    assert "old" not in seen.values


def test_a_closed_record_of_an_unknown_call_changes_nothing(tmp_path: Path) -> None:
    rollups = Rollups()
    rollups.add(Closed("never", 1.0, "complete", bytes_out=5))
    assert rollups.take() == Use()
