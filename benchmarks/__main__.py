"""`python -m benchmarks`: everything in one run, ratios printed, text and plots written to docs/results.

It is a measurement, never a test: it ends with 0 whatever the figures are, as long as it could measure.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import rates, report
from benchmarks.added import latency
from benchmarks.bulk import bulk
from benchmarks.finding import Finding
from benchmarks.home import load
from benchmarks.machine import OUT, describe
from benchmarks.million import million
from benchmarks.origin import start_upstream
from benchmarks.processes import BenchmarkFailed, Processes, answers
from benchmarks.revokes import revokes
from benchmarks.rounds import Settings
from benchmarks.stages import profile
from benchmarks.starting import starting
from benchmarks.streams import EVERY, revoke_of_many, streams
from valetkey.demo.stage import free_port

PARTS = (
    "verify", "gateway", "latency", "litellm", "start", "streams", "bulk", "million", "profile", "revoke", "cut",
)  # fmt: skip
"""In this order, however they are named: the last two take the keys away that the others use."""


def main() -> int:
    """Run what was asked for."""
    given = _arguments()
    # What was started is ended also when the run is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = Settings(
        rounds=2 if given.quick else 5,
        seconds=2 if given.quick else 6,
        subject_cores={0} if given.pin else None,
        other_cores={1} if given.pin else None,
    )
    OUT.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="valetkey-bench-"))
    folder.chmod(0o700)
    machine = describe()
    print("\n".join(machine), f"\n{settings.pinning()}\n", sep="\n", flush=True)
    try:
        with Processes(folder / "logs") as processes:
            written: list[Path] = []
            for findings in _run(processes, folder, settings, given):
                if given.write:
                    # After each part: a run that is ended keeps what it has.
                    written = report.write(findings, machine, settings, keys=given.keys, quick=given.quick)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for path in written:
        print(f"written: {path}")
    return 0


def _start(processes: Processes, name: str, *arguments: str) -> int:
    """One of our own upstreams; returns its port."""
    port = free_port()
    process = processes.start(name, [sys.executable, "-m", f"benchmarks.{name}", str(port), *arguments])
    processes.wait_for(process, lambda: answers(port), f"the upstream {name}")
    return port


def _run(
    processes: Processes, folder: Path, settings: Settings, given: argparse.Namespace
) -> Iterator[list[Finding]]:
    """All that was found so far, after each part."""
    upstream = start_upstream(processes, folder)
    hosts = {
        "stream": _start(processes, "ticker"),
        "slow": _start(processes, "ticker", str(EVERY)),
        "bulk": _start(processes, "bulk_origin"),
    }
    loaded = load(folder / "all", given.keys, upstream.port, hosts)
    print(f"{given.keys:,} keys loaded in {loaded.seconds:.1f} s\n", flush=True)
    free = replace(settings, subject_cores=None, other_cores=None)
    count, most = (100, 45.0) if given.quick else (1000, 600.0)
    findings: list[Finding] = []
    parts: dict[str, Callable[[], Finding]] = {
        "verify": lambda: rates.verify(processes, loaded, folder, settings),
        "gateway": lambda: rates.gateway(processes, loaded, upstream, folder, settings),
        "latency": lambda: latency(processes, loaded, upstream, folder, free),
        "litellm": lambda: rates.beside_litellm(processes, loaded, upstream, folder, settings),
        "start": lambda: starting(processes, loaded, folder, upstream.port, quick=given.quick),
        "revoke": lambda: revokes(processes, loaded, folder, free, count=count, most=most),
        "cut": lambda: revoke_of_many(processes, loaded, count=10 if given.quick else 100),
        "streams": lambda: streams(
            processes,
            loaded,
            folder,
            hosts["slow"],
            count=300 if given.quick else 3000,
            seconds=5 if given.quick else 20,
            rounds=1 if given.quick else 3,
        ),
        "bulk": lambda: bulk(processes, loaded, folder, hosts["bulk"]),
        "million": lambda: million(
            processes, folder, upstream.port, settings, count=20_000 if given.quick else 1_000_000
        ),
        "profile": lambda: profile(loaded, folder, upstream.port, findings, quick=given.quick),
    }
    for name in [part for part in PARTS if part in (given.parts or PARTS)]:
        began = time.monotonic()
        try:
            finding = parts[name]()
        except (BenchmarkFailed, OSError, TimeoutError) as failure:
            # The other parts still stand; the text says which one is missing.
            finding = Finding(
                name, f"{name}: could not be measured", lines=[str(failure) or type(failure).__name__]
            )
            print(_last_words(folder / "logs"), file=sys.stderr)
        findings.append(finding)
        print(finding.text(), f"  [{time.monotonic() - began:.0f} s]\n", sep="\n", flush=True)
        yield findings


def _last_words(logs: Path) -> str:
    """What the processes said last: why a part failed."""
    pieces = []
    for path in sorted(logs.glob("*.log")):
        said = path.read_text(errors="replace")[-1500:].strip()
        if said:
            pieces.append(f"--- {path.name}\n{said}")
    return "\n".join(pieces)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"which of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="short rounds: for trying the suite, not for figures"
    )
    parser.add_argument(
        "--no-pin",
        dest="pin",
        action="store_false",
        help="leave rates unpinned: see the text for what is pinned",
    )
    parser.add_argument("--keys", type=int, default=100_000, help="keys that are loaded (100000)")
    parser.add_argument("--no-write", dest="write", action="store_false", help="print only")
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
