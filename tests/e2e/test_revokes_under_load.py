"""A thousand keys are taken back under load with two workers: nothing passes once a revoke has returned.

The benchmark makes the load and counts, from its callers and from the journal; here its counts are held to 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from benchmarks.home import load
from benchmarks.origin import start_upstream
from benchmarks.processes import Processes, answers
from benchmarks.revokes import revokes
from benchmarks.rounds import Settings

from long_results import Results
from valetkey.demo.stage import free_port

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(900)]

REVOKES = 1000


def test_nothing_passes_after_any_of_a_thousand_revokes(tmp_path: Path, results: Results) -> None:
    with Processes(tmp_path / "logs") as processes:
        upstream, ticker = start_upstream(processes, tmp_path), free_port()
        streams = processes.start("ticker", [sys.executable, "-m", "benchmarks.ticker", str(ticker)])
        processes.wait_for(streams, lambda: answers(ticker), "the upstream of streams")
        loaded = load(tmp_path / "all", 3 * REVOKES, upstream.port, {"stream": ticker})
        found = revokes(processes, loaded, tmp_path, Settings(1, 1), count=REVOKES, most=600)
    assert len(found.curves["revoke"]) == REVOKES
    counts = [ratio for ratio in found.ratios if ratio.target == 0]
    assert [(ratio.what, ratio.value) for ratio in counts] == [(ratio.what, 0) for ratio in counts]
    assert len(counts) == 3
    results.note("; ".join(found.lines))
