"""Shared counters with real processes: exact among all of them, whole after any kill, freed by the kernel."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from valetkey.decision.call import Now
from valetkey.decision.codes import Code
from valetkey.decision.counter_blocks import NotEnlisted
from valetkey.decision.counter_layout import BUDGETS, CELL, OPEN_CALLS, QUOTAS, RATE, USES
from valetkey.decision.limits import (
    AMOUNT_BITS,
    AMOUNT_MASK,
    WINDOWS,
    Limits,
    parse_budget,
    parse_quota,
    parse_rate,
    window_numbers,
)
from valetkey.decision.reservation import BeingCounted, Level, LimitRefusal, Plan, Reserved, counted_cells
from valetkey.gateway.counters_file import GROWTH_BLOCKS, Boot, CountersUnavailable, this_boot
from valetkey.gateway.counters_keeping import KeptCounters

NOON = 1_900_000_800.0
SPAWN = multiprocessing.get_context("spawn")
FORK = multiprocessing.get_context("fork")
"""Starts fast; the counters of the parent are closed in the child, which opens its own."""
LIMIT = 1000
PATIENCE = 60
"""Seconds until a test that hangs is a failure; none of them waits that long."""


def now() -> Now:
    return Now(NOON, time.monotonic_ns())


def plan_of(limits: Limits, *blocks: int) -> Plan:
    return Plan(tuple(Level.compile("key", block, limits) for block in blocks or (0,)))


@pytest.fixture
def counters(tmp_path: Path) -> Any:
    opened = KeptCounters.open(tmp_path / "counters", 0, 1)
    opened.enlist(0, 1)
    yield opened
    opened.close()


class Worker:
    """Another process with the same counters; it says "ready", does its work, and sends what came of it."""

    def __init__(self, work: Any, path: Path, slot: int, *arguments: Any, start: Any = SPAWN) -> None:
        self.pipe, far = start.Pipe()
        self.process = start.Process(target=work, args=(far, path, slot, *arguments), daemon=True)
        self.process.start()
        far.close()

    def hear(self) -> Any:
        assert self.pipe.poll(PATIENCE), "the other process says nothing"
        return self.pipe.recv()

    def kill(self) -> None:
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join(PATIENCE)
        assert self.process.exitcode == -signal.SIGKILL


# One process


def test_the_file_is_ours_alone_and_its_counts_outlive_the_process(tmp_path: Path) -> None:
    path, plan = tmp_path / "counters", plan_of(Limits(uses=2))
    for _ in range(2):
        counters = KeptCounters.open(path, 0, 1)
        assert isinstance(counters.reserve(plan, 0, now()), Reserved)
        counters.close()
        counters.close()
    counters = KeptCounters.open(path)
    assert isinstance(counters.peek(plan, 0, now()), LimitRefusal)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_foreign_file_a_link_and_another_version_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"important text")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    other = tmp_path / "other"
    KeptCounters.open(other).close()
    with other.open("r+b") as file:
        file.seek(CELL)
        file.write(b"\x09")
    for path in (foreign, link, other):
        with pytest.raises(CountersUnavailable):
            KeptCounters.open(path)
    assert foreign.read_bytes() == b"important text"
    assert not (tmp_path / "elsewhere").exists()


def test_the_disk_is_taken_when_the_file_grows_not_when_a_call_comes(
    counters: KeptCounters, tmp_path: Path
) -> None:
    assert isinstance(counters.reserve(plan_of(Limits(uses=1), 3 * GROWTH_BLOCKS), 0, now()), Reserved)
    stat = (tmp_path / "counters").stat()
    assert stat.st_blocks * 512 >= stat.st_size


def test_what_is_reserved_before_the_file_grew_is_settled_after(counters: KeptCounters) -> None:
    plan = plan_of(Limits(concurrency=1, budgets=(parse_budget("1/day"),)))
    reserved = counters.reserve(plan, 1_000_000, now())
    assert isinstance(reserved, Reserved)
    assert isinstance(counters.reserve(plan_of(Limits(uses=1), 2 * GROWTH_BLOCKS), 0, now()), Reserved)
    counters.settle(reserved, 5)
    cells = counters.read(0)
    assert (cells[OPEN_CALLS], cells[BUDGETS + 1] & AMOUNT_MASK) == (1 << 32, 5)


def test_an_accepted_clock_reaches_blocks_that_another_process_made(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    control, worker = KeptCounters.open(path), KeptCounters.open(path, 0, 1)
    control.enlist(0, 1)
    plan = plan_of(Limits(quotas=(parse_quota("2/day"),)), GROWTH_BLOCKS + 7)
    ahead, tomorrow = NOON + 40 * 86_400, NOON + 86_400
    for _ in range(2):
        assert isinstance(worker.reserve(plan, 0, Now(ahead, 1)), Reserved)
    assert isinstance(worker.reserve(plan, 0, Now(NOON, 2)), LimitRefusal)
    control.accept_clock(NOON, "clk_first")
    assert isinstance(worker.reserve(plan, 0, Now(NOON, 3)), LimitRefusal), "what was spent counts today"
    assert isinstance(worker.reserve(plan, 0, Now(tomorrow, 4)), Reserved)


def test_an_acceptance_moves_windows_once(counters: KeptCounters) -> None:
    plan = plan_of(Limits(quotas=(parse_quota("1/day"),)))
    tomorrow = NOON + 86_400
    counters.accept_clock(NOON, "clk_first")
    assert isinstance(counters.reserve(plan, 0, Now(tomorrow, 1)), Reserved)
    counters.accept_clock(NOON, "clk_first")
    assert counters.read(0)[QUOTAS + 1] >> AMOUNT_BITS == window_numbers(tomorrow)[1]
    counters.accept_clock(NOON, "clk_second")
    assert counters.read(0)[QUOTAS + 1] >> AMOUNT_BITS == window_numbers(NOON)[1]


HELD = (USES, QUOTAS, QUOTAS + 1, QUOTAS + 2, BUDGETS, BUDGETS + 1, BUDGETS + 2)


@pytest.mark.parametrize(
    ("limits", "cell"),
    [
        (Limits(uses=5), USES),
        *((Limits(quotas=(parse_quota(f"5/{w}"),)), QUOTAS + i) for i, w in enumerate(WINDOWS)),
        *((Limits(budgets=(parse_budget(f"5/{w}"),)), BUDGETS + i) for i, w in enumerate(WINDOWS)),
    ],
)
def test_a_held_counter_lets_nothing_pass_in_any_window_until_it_counts(
    counters: KeptCounters, limits: Limits, cell: int
) -> None:
    assert counted_cells(limits) == {cell}
    plan = plan_of(limits)
    before = counters.reserve(plan, 1_000_000, now())
    assert isinstance(before, Reserved)
    counters.hold(0, [cell], NOON)
    for later in (0, 3_600, 86_400, 40 * 86_400, 3_000 * 86_400, -86_400):
        with pytest.raises(BeingCounted):
            counters.reserve(plan, 1, Now(NOON + later, time.monotonic_ns()))
        with pytest.raises(BeingCounted):
            counters.peek(plan, 1, Now(NOON + later, time.monotonic_ns()))
    counters.give_back(before, now())
    counters.accept_clock(NOON, "clk_meanwhile")
    assert counters.held() == [0], "neither what is given back nor a clock lets it go"
    window = window_numbers(NOON)[(cell - QUOTAS) % 3]
    counters.raise_to(0, {cell: 0 if cell == USES else window << AMOUNT_BITS})
    assert counters.held() == []
    assert isinstance(counters.reserve(plan, 1, now()), Reserved)


def test_holding_touches_no_other_counter_and_is_seen_by_every_process(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    control, worker = KeptCounters.open(path), KeptCounters.open(path, 0, 1, make=False)
    assert isinstance(worker.reserve(plan_of(Limits(uses=2), 1), 0, now()), Reserved)
    control.hold(0, HELD, NOON)
    assert isinstance(worker.reserve(plan_of(Limits(uses=2), 1), 0, now()), Reserved)
    assert worker.held() == control.held() == [0]


def test_only_who_may_make_the_file_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    with pytest.raises(CountersUnavailable, match="cannot be opened"):
        KeptCounters.open(path, 0, 1, make=False)
    assert not path.exists()
    made = KeptCounters.open(path)
    assert made.stand_at(path)
    path.rename(tmp_path / "moved")
    assert not made.stand_at(path)
    path.write_bytes((tmp_path / "moved").read_bytes())
    assert not made.stand_at(path), "a copy in its place is another file"
    assert KeptCounters.open(path, make=False).identity != made.identity


def test_after_a_boot_no_worker_lives_and_rates_go_on(tmp_path: Path) -> None:
    path, boot = tmp_path / "counters", this_boot()
    limits = Limits(rate=parse_rate("1/hour"), concurrency=1)
    before = KeptCounters.open(path, 0, 1, boot=boot)
    before.enlist(0, 1)
    assert isinstance(before.reserve(plan_of(limits), 0, Now(NOON, 1000 * 10**9)), Reserved)
    before.close()
    after = KeptCounters.open(path, 0, 2, boot=Boot(bytes(16), boot.origin + 1600 * 10**9))
    with pytest.raises(NotEnlisted):
        after.reserve(plan_of(limits), 0, Now(NOON, 0))
    after.enlist(0, after.next_generation(0))
    refusal = after.reserve(plan_of(limits), 0, Now(NOON, 0))
    assert isinstance(refusal, LimitRefusal)
    assert refusal.retry_after == 3000.0
    assert isinstance(after.reserve(plan_of(limits), 0, Now(NOON, 3000 * 10**9)), Reserved)


def test_a_child_after_fork_must_open_its_own(counters: KeptCounters) -> None:
    plan = plan_of(Limits(uses=5))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            counters.reserve(plan, 0, now())
        except CountersUnavailable:
            os.write(writing, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"refused"
    assert isinstance(counters.reserve(plan, 0, now()), Reserved)


def test_closed_counters_judge_nothing(counters: KeptCounters) -> None:
    reserved = counters.reserve(plan_of(Limits(concurrency=1)), 0, now())
    assert isinstance(reserved, Reserved)
    counters.close()
    for limits in (Limits(uses=1), Limits(address_rate=parse_rate("1/s"))):
        with pytest.raises(CountersUnavailable, match="closed"):
            counters.reserve(plan_of(limits), 0, now())
    with pytest.raises(CountersUnavailable, match="closed"):
        counters.settle(reserved)


def test_recovery_lifts_a_block_beyond_the_end_of_the_file(counters: KeptCounters) -> None:
    counters.raise_to(GROWTH_BLOCKS + 5, {USES: 7})
    assert counters.read(GROWTH_BLOCKS + 5)[USES] == 7
    assert isinstance(counters.reserve(plan_of(Limits(uses=7), GROWTH_BLOCKS + 5), 0, now()), LimitRefusal)


# Several processes


def take_all(pipe: Connection, path: Path, slot: int, limits: Limits, way: str) -> None:
    counters, plan = KeptCounters.open(path, slot, 1), plan_of(limits, 0, 4, 9)
    admitted = []

    def take(calls: int) -> None:
        for _ in range(calls):
            if isinstance(counters.reserve(plan, 0, now(), b"here"), Reserved):
                admitted.append(1)

    async def take_kindly(calls: int) -> None:
        for _ in range(calls):
            take(1)
            await asyncio.sleep(0)

    async def all_tasks() -> None:
        await asyncio.gather(*(take_kindly(LIMIT // 8) for _ in range(16)))

    pipe.send("ready")
    pipe.recv()
    if way == "tasks":
        asyncio.run(all_tasks())
    else:
        threads = [threading.Thread(target=take, args=(LIMIT // 4,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    pipe.send(len(admitted))


@pytest.mark.real
@pytest.mark.parametrize("way", ["threads", "tasks"])
@pytest.mark.parametrize(
    "limits",
    [
        Limits(uses=LIMIT),
        Limits(quotas=(parse_quota(f"{LIMIT}/day"),)),
        Limits(rate=parse_rate("1/hour", burst=LIMIT)),
        Limits(address_rate=parse_rate("1/hour", burst=LIMIT)),
    ],
    ids=["uses", "quota", "rate", "address rate"],
)
def test_two_processes_admit_exactly_the_limit(tmp_path: Path, limits: Limits, way: str) -> None:
    workers = [Worker(take_all, tmp_path / "counters", slot, limits, way) for slot in (0, 1)]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.pipe.send("go")
    assert sum(worker.hear() for worker in workers) == LIMIT


def hold_open(pipe: Connection, path: Path, slot: int, most: int) -> None:
    """Open and end calls, say when each was surely open, and in the end hold as many as there may be."""
    counters, plan = KeptCounters.open(path, slot, 1), plan_of(Limits(concurrency=most))
    pipe.send("ready")
    pipe.recv()
    spans: list[tuple[int, int]] = []
    held: list[tuple[Reserved, int]] = []
    outcome: Reserved | LimitRefusal | None = None
    for step in range(3000):
        outcome = counters.reserve(plan, 0, now())
        if isinstance(outcome, Reserved):
            held.append((outcome, time.monotonic_ns()))
        if len(held) > step % most:
            ended, since = held.pop(0)
            spans.append((since, time.monotonic_ns()))
            counters.settle(ended)
    while not isinstance(outcome, LimitRefusal):
        outcome = counters.reserve(plan, 0, now())
        if isinstance(outcome, Reserved):
            held.append((outcome, time.monotonic_ns()))
    pipe.send((spans, len(held)))
    pipe.recv()


def most_at_once(spans: list[tuple[int, int]]) -> int:
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    highest = current = 0
    for _, change in changes:
        current += change
        highest = max(highest, current)
    return highest


@pytest.mark.real
def test_never_more_calls_are_open_than_may_be_and_a_killed_process_holds_none(
    counters: KeptCounters, tmp_path: Path
) -> None:
    most = 10
    counters.enlist(1, 1)
    counters.enlist(2, 1)
    workers = [Worker(hold_open, tmp_path / "counters", slot, most) for slot in (1, 2)]
    for worker in workers:
        assert worker.hear() == "ready"
    for worker in workers:
        worker.pipe.send("go")
    reports = [worker.hear() for worker in workers]
    kept = [report[1] for report in reports]
    assert sum(kept) == most
    assert 1 < most_at_once([span for report in reports for span in report[0]]) <= most
    plan = plan_of(Limits(concurrency=most))
    refusal = counters.reserve(plan, 0, now())
    assert isinstance(refusal, LimitRefusal)
    assert refusal.code is Code.CONCURRENCY_LIMITED
    workers[0].kill()
    counters.retire(1)
    freed = [counters.reserve(plan, 0, now()) for _ in range(most)]
    assert [type(outcome) for outcome in freed] == [Reserved] * kept[0] + [LimitRefusal] * kept[1]
    workers[1].kill()


def churn(pipe: Connection, path: Path, slot: int, limits: Limits, seed: int) -> None:
    counters, chance = KeptCounters.open(path, slot, 1), random.Random(seed)
    plans = [plan_of(limits, *chance.sample(range(12), 3)) for _ in range(20)]
    pipe.send("ready")
    while True:
        reserved = counters.reserve(chance.choice(plans), chance.randrange(2**20), now(), b"here")
        if isinstance(reserved, Reserved):
            if chance.random() < 0.5:
                counters.settle(reserved, chance.randrange(2**20))
            else:
                counters.give_back(reserved, now())


@pytest.mark.real
def test_no_kill_tears_a_value_or_leaves_a_lock(counters: KeptCounters, tmp_path: Path) -> None:
    limits = Limits(
        uses=10**9,
        rate=parse_rate("1000000/s"),
        address_rate=parse_rate("1000000/s"),
        concurrency=10**6,
        quotas=(
            parse_quota("1000000000/hour"),
            parse_quota("1000000000/day"),
            parse_quota("1000000000/month"),
        ),
        budgets=(parse_budget("9000000/hour"), parse_budget("9000000/day"), parse_budget("9000000/month")),
    )
    for slot in (1, 2):
        counters.enlist(slot, 1)
    everything = plan_of(limits, *range(12))
    chance = random.Random(20)
    started, origin = time.monotonic_ns(), this_boot().origin
    reserved = counters.reserve(everything, 0, now(), b"here")
    assert isinstance(reserved, Reserved)
    windows = [value >> AMOUNT_BITS for value in counters.read(0)[QUOTAS : QUOTAS + 3]] * 2
    for _ in range(50):
        worker = Worker(churn, tmp_path / "counters", 1, limits, chance.randrange(2**32), start=FORK)
        assert worker.hear() == "ready"
        for _ in range(chance.randrange(400)):  # meanwhile this process meets its locks
            counters.give_back(reserved, now())
            reserved = counters.reserve(everything, 0, now(), b"here")
            assert isinstance(reserved, Reserved)
        worker.kill()
        asked = time.monotonic()
        assert isinstance(counters.peek(everything, 0, now(), b"here"), LimitRefusal | None)
        assert time.monotonic() - asked < 5
        for block in range(12):
            cells = counters.read(block)
            tat = cells[RATE] - origin
            assert started - 10**9 < tat < time.monotonic_ns() + 2 * 10**9
            assert cells[USES] < 10**7
            packed = cells[QUOTAS : BUDGETS + 3]
            assert [value >> AMOUNT_BITS for value in packed] == windows
            assert all(value & AMOUNT_MASK < 10**7 for value in packed[:3])
            assert all(value & AMOUNT_MASK < 10**13 for value in packed[3:])
            assert cells[BUDGETS + 3 : OPEN_CALLS] == (0,) * 8
            assert cells[OPEN_CALLS + 1] >> 32 in (0, 1)
            assert cells[OPEN_CALLS + 1] & 0xFFFF_FFFF < 100
            assert cells[OPEN_CALLS + 2 :] == (0,) * 14


def test_a_cleaned_block_starts_at_nothing_for_whoever_has_it_next(counters: KeptCounters) -> None:
    limits = Limits(rate=parse_rate("2/hour"), concurrency=2, quotas=(parse_quota("2/day"),), uses=2)
    plan, beside = plan_of(limits, 7), plan_of(limits, 8)
    for used in (plan, plan, beside):
        assert isinstance(counters.reserve(used, None, now()), Reserved)
    assert isinstance(counters.reserve(plan, None, now()), LimitRefusal)
    kept = counters.read(8)
    counters.clean(7)
    assert not any(counters.read(7))
    assert counters.read(8) == kept
    assert [isinstance(counters.reserve(plan, None, now()), Reserved) for _ in range(3)] == [
        True,
        True,
        False,
    ]
