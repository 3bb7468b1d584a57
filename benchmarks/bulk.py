"""A gigabyte down and a gigabyte up through the gateway, beside the same without it, and what the worker holds."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from benchmarks.bulk_origin import SIZE
from benchmarks.finding import Finding, Ratio, figure
from benchmarks.home import API, Loaded
from benchmarks.machine import memory
from benchmarks.processes import BenchmarkFailed, Processes
from benchmarks.product import serving

LOOK = 0.02
"""Seconds between two looks at the worker's memory."""


def bulk(processes: Processes, loaded: Loaded, place: Path, origin: int) -> Finding:
    """Each way once directly and once through the gateway; curl is the caller."""
    finding = Finding("bulk", "1 GB down and 1 GB up, one worker")
    sent = place / "gigabyte"
    with sent.open("wb") as file:
        file.truncate(SIZE)
    with serving(processes, loaded) as product:
        worker = product.workers()[0]
        ours = f"http://127.0.0.1:{product.gateway}/{API}:bulk/v1/files"
        _carry(ours, loaded.keys[API][0], None, worker)  # what is grown once stays
        for name, file_sent in (("down", None), ("up", sent)):
            before = memory(worker).resident
            direct, _ = _carry(f"http://127.0.0.1:{origin}/v1/files", "-", file_sent, worker)
            seconds, most = _carry(ours, loaded.keys[API][0], file_sent, worker)
            grown = max(0, most - before) / 2**20
            finding.ratios.append(
                Ratio(f"memory that 1 GB {name} adds to the worker", grown, 8, True, " MiB")
            )
            finding.lines.append(
                f"{name}: {figure(SIZE / seconds / 1e6)} MB/s through the gateway, {figure(SIZE / direct / 1e6)} MB/s "
                f"without it; the worker held {figure(before / 2**20)} MiB before and {figure(most / 2**20)} at most"
            )
            finding.bars |= {
                f"{name}, direct": SIZE / direct / 1e6,
                f"{name}, valetkey gateway": SIZE / seconds / 1e6,
            }
    finding.bars_unit = "MB a second"
    sent.unlink()
    return finding


def _carry(url: str, key: str, sent: Path | None, worker: int) -> tuple[float, int]:
    """Seconds it took, and the most that the worker held meanwhile."""
    command = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {key}", "-w", "%{size_download}", url]
    command += ["-o", "/dev/null"] if sent is None else ["-X", "POST", "-H", "Expect:", "-T", str(sent)]
    began, most = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            most = max(most, memory(worker).resident)
            time.sleep(LOOK)
        said = process.stdout.read() if process.stdout else ""
    wanted = str(SIZE) if sent is None else f"{SIZE}{len(str(SIZE))}"
    if process.returncode or said != wanted:
        raise BenchmarkFailed(
            f"1 GB was not carried: curl ended with {process.returncode} and {said[:80]!r}."
        )
    return time.monotonic() - began, most
