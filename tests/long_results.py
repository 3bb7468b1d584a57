"""What long tests found, kept with date and commit in docs/results/long.md when `script/test --long` passes."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

import pytest

import promises

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "long.md"
HEAD = """# Long tests

Written by `script/test --long` on {when}, commit {commit}: {passed} tests passed in {minutes:.0f} minutes.
Python {python}, {cores} cores.

| test | what it found |
|---|---|
"""


class Results:
    """Takes the figures of one test."""

    def __init__(self, name: str, kept: list[tuple[str, str]] | None) -> None:
        self._name = name
        self._kept = kept

    def note(self, found: str) -> None:
        """One sentence with the figures that were asserted."""
        if self._kept is not None:
            self._kept.append((self._name, found))


class LongRun:
    """Writes the page at the end of a session that ran everything and passed."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self._begun = time.monotonic()
        self._commit = _commit()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self._passed.add(test)
        elif not report.passed:
            self._failed.add(test)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus != 0 or not self.kept:
            return
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        self._note_promises(when)
        text = HEAD.format(
            when=when,
            commit=self._commit,
            passed=session.testscollected,
            minutes=(time.monotonic() - self._begun) / 60,
            python=platform.python_version(),
            cores=os.cpu_count(),
        )
        rows = "".join(f"| `{name}` | {found} |\n" for name, found in sorted(self.kept))
        PAGE.write_text(text + rows, encoding="utf-8")

    def _note_promises(self, when: str) -> None:
        found: dict[str, list[str]] = {}
        for name, said in self.kept:
            found.setdefault(name, []).append(said)
        last = promises.kept(promises.PAGE.read_text("utf-8")) if promises.PAGE.exists() else {}
        for promise in promises.promises(promises.THREAT_MODEL.read_text("utf-8")):
            said = promises.seen(promise, f"{when}, {self._commit}", self._passed - self._failed, found)
            if said is not None:
                last[promise.text] = said
        promises.write(last)


def _commit() -> str:
    said = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or "unknown"
