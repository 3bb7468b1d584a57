"""`script/mutations`: makes each fault of mutations.toml in a copy of the source; the tests named must turn red.

Ends with 1 when a fault was not noticed, or when the tests are red without one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 600


def main() -> int:
    """Try them all, or those whose names hold a word."""
    parser = argparse.ArgumentParser(prog="script/mutations", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutations whose name or part holds one of these")
    given = parser.parse_args()
    chosen = [
        mutation
        for mutation in MUTATIONS
        if not given.words or any(word in f"{mutation.part} {mutation.name}" for word in given.words)
    ]
    tests = sorted({test for mutation in chosen for test in mutation.tests})
    print(f"The tests without a fault: {len(tests)} files ...", flush=True)
    if not _green(None, tests):
        print("They are red already: mend that first.")
        return 1
    unnoticed = []
    for number, mutation in enumerate(chosen, 1):
        began = time.monotonic()
        noticed = not _green(mutation, mutation.tests)
        print(
            f"{number:2}/{len(chosen)} {'red  ' if noticed else 'GREEN'} {mutation.part}: {mutation.name} "
            f"({time.monotonic() - began:.0f} s)",
            flush=True,
        )
        if not noticed:
            unnoticed.append(mutation)
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} faults turned a test red.")
    return 1 if unnoticed else 0


def _green(mutation: Mutation | None, tests: list[str]) -> bool:
    """Whether the tests pass with this fault. Raises `CalledProcessError` when they could not be run at all."""
    with tempfile.TemporaryDirectory(prefix="valetkey-mutation-") as place:
        source = Path(place) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            file = source / "valetkey" / mutation.file
            file.write_text(mutation.applied_to(file.read_text()))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-m",
            "not long",
            "-p",
            "no:cacheprovider",
            *tests,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            timeout=MOST_SECONDS,
            text=True,
        )
    if done.returncode not in (0, 1):
        print(done.stdout[-2000:], done.stderr[-2000:])
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
