"""What long tests that passed found, each kept with its date and commit in docs/results/long.md."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

import pytest

import promises

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results" / "long.md"
HEAD = """# Long tests

Written by `script/test --long`, last on {when}, commit {commit}: {passed} of {asked} tests passed in {minutes:.0f}
minutes. Python {python}, {cores} cores. A row is of the last time that its test passed.

| test | when, and the commit | what it found |
|---|---|---|
"""
_ROW = re.compile(r"^\| `(?P<test>\w+)` \| (?P<run>[^|]+) \| (?P<found>.*) \|$", re.MULTILINE)


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
    """Writes the page at the end of a session: of what did not pass the rows stay as they were."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self._calls = 0
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self._begun = time.monotonic()
        self._commit = _commit()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        if report.when == "call" and report.passed:
            self._passed.add(test)
            self._calls += 1
        elif not report.passed:
            self._failed.add(test)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if not self.kept:
            return
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        self._note_promises(when)
        before = PAGE.read_text("utf-8") if PAGE.exists() else ""
        text = HEAD.format(
            when=when,
            commit=self._commit,
            passed=self._calls,
            asked=session.testscollected,
            minutes=(time.monotonic() - self._begun) / 60,
            python=platform.python_version(),
            cores=os.cpu_count(),
        )
        PAGE.write_text(text + rows(before, self.kept, f"{when}, {self._commit}"), encoding="utf-8")

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


def rows(before: str, kept: list[tuple[str, str]], run: str) -> str:
    """The page's rows: what was found now in the place of what the page says of the same tests, by name."""
    now = {name for name, _ in kept}
    old = [(row["test"], row["run"], row["found"]) for row in _ROW.finditer(before) if row["test"] not in now]
    new = [(name, run, found.replace("|", "\\|")) for name, found in kept]
    return "".join(f"| `{name}` | {when} | {found} |\n" for name, when, found in sorted(old + new))


def _commit() -> str:
    said = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
    )
    return said.stdout.strip() or "unknown"
