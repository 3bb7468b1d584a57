"""From exec to the first decision, and what a loaded key costs in a worker's memory."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from benchmarks.finding import Finding, Ratio, figure, spread
from benchmarks.home import OWN, Loaded, load
from benchmarks.load import Question, shoot, write_script
from benchmarks.machine import Memory, memory
from benchmarks.processes import Processes
from benchmarks.product import ASKED, start

STARTS = 3


def starting(processes: Processes, loaded: Loaded, place: Path, upstream: int, *, quick: bool) -> Finding:
    """Starts with few keys, with a tenth and with all; the differences are what keys cost."""
    finding = Finding("start", "Start to the first VALID decision, and memory of a worker")
    few = load(place / "few", 40, upstream)
    tenth = load(place / "tenth", loaded.count // 10, upstream)
    held: dict[int, Memory] = {}
    for home in (few, tenth, loaded):
        taken = []
        for _ in range(1 if quick else STARTS):
            product, seconds = start(processes, home)
            taken.append(seconds)
            held[home.count] = memory(product.workers()[0])
            control = memory(product.control_pid())
            if home is loaded and len(taken) == 1:
                used = _memory_after_use(product.gateway, product.workers()[0], loaded, place)
            processes.end(product.process)
        finding.lines.append(
            f"{home.count:,} keys: first decision after {spread(taken)} s; worker {_megabytes(held[home.count])}, "
            f"control process {_megabytes(control)}"
        )
        finding.bars[f"{home.count:,} keys"] = median(taken)
    finding.bars_unit = "seconds to the first decision"
    finding.ratios.append(Ratio(f"start with {loaded.count:,} keys", median(taken), 2, True, " s"))
    for smaller, larger in ((few, tenth), (tenth, loaded)):
        keys = larger.count - smaller.count
        difference = _bytes(held[larger.count]) - _bytes(held[smaller.count])
        finding.lines.append(
            f"memory a key, from {smaller.count:,} to {larger.count:,}: {figure(difference / keys)} bytes"
        )
    finding.lines.append(used)
    finding.lines.append(f"loading {loaded.count:,} keys into the store took {figure(loaded.seconds)} s")
    return finding


def _memory_after_use(gateway: int, worker: int, loaded: Loaded, place: Path) -> str:
    """A key is compiled at its first use; until then it is only known."""
    headers = {"Authorization": f"Bearer {loaded.credential}", "Content-Type": "application/json"}
    question = Question("POST", "/v1/verify", headers, ASKED)
    shoot(gateway, write_script(place / "warm.lua", question, loaded.keys[OWN][:1]), 2)
    before = _bytes(memory(worker))
    shoot(gateway, write_script(place / "use.lua", question, loaded.keys[OWN]), 2)
    grown = _bytes(memory(worker)) - before
    count = len(loaded.keys[OWN])
    return f"a key that has been used once takes {figure(max(0, grown) / count)} bytes more (over {count:,} keys)"


def _bytes(held: Memory) -> int:
    return held.resident if held.own is None else held.own


def _megabytes(held: Memory) -> str:
    own = "" if held.own is None else f" ({figure(held.own / 2**20)} its own)"
    return f"{figure(held.resident / 2**20)} MiB{own}"
