"""Rules of the repository itself: what is pinned, what never stands in a file, what every script does.

Works in a checkout with or without git: files are found by walking, what .gitignore names is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SETS = ("base", "test", "bench")
SCRIPTS = sorted(path for folder in ("script", ".ci") for path in (ROOT / folder).iterdir() if path.is_file())
REQUIREMENTS = [ROOT / "requirements" / f"{name}.txt" for name in SETS]

# The brackets keep each pattern from finding itself in this file.
REGISTRY_ADDRESS = re.compile(
    r"py[p]i\.org|python[h]osted\.org|registry\.np[m]js|registry\.yar[n]pkg|pk[g]\.dev|proxy\.gol[a]ng"
    r"|(?<!emit-)inde[x]-url|--find-link[s]|trusted-hos[t]|deb\.debia[n]\.org",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(
    r"(?<![\w.*}{/-])/(?:wor[k]|roo[t]|far[m]|tmp/v[k]|opt/wheel[s])/|(?<![\w.*}{/-])/(?:hom[e]|User[s])/[a-z]|\.pyen[v]"
)
SHEBANGS = ("#!/usr/bin/env bash", "#!/usr/bin/env python3", "#!/bin/sh")
SETTINGS_LINE = re.compile(r"^set -eu(o pipefail)?$", re.MULTILINE)
PINNED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9-]*)(\[[a-z0-9,-]+\])?==(?P<version>[0-9][0-9A-Za-z.+!]*)"
    r"(?P<marker> ; [^\\]+?)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)"
)


def ignored_patterns() -> list[str]:
    lines = (ROOT / ".gitignore").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_ignored(path: Path, patterns: list[str]) -> bool:
    relative = path.relative_to(ROOT).as_posix()
    if path.name == ".git":
        return True
    for pattern in patterns:
        bare = pattern.rstrip("/")
        if bare.startswith("/"):
            if fnmatch(relative, bare[1:]):
                return True
        elif fnmatch(path.name, bare) or fnmatch(relative, bare):
            return True
    return False


def repository_files() -> Iterator[Path]:
    patterns = ignored_patterns()
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not is_ignored(here / name, patterns))
        yield from (here / name for name in sorted(files) if not is_ignored(here / name, patterns))


def lines_matching(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in repository_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    return found


def entries(path: Path) -> list[str]:
    """One string for each requirement of the file, its continued lines joined by one space."""
    joined = path.read_text().replace("\\\n", " ")
    return [re.sub(r" +", " ", line).strip() for line in joined.splitlines() if line.strip()]


def pins(path: Path) -> set[tuple[str, str, str]]:
    """Name, version and marker of each requirement of the file."""
    matches = [PINNED.fullmatch(entry) for entry in entries(path)]
    return {(match["name"], match["version"], match["marker"] or "") for match in matches if match}


def pinned_here(path: Path) -> dict[str, str]:
    """Name and version of what the file pins for the machine that runs this test."""
    chosen = {}
    for name, version, marker in pins(path):
        requirement = Requirement(f"{name}=={version}{marker}")
        if requirement.marker is None or requirement.marker.evaluate():
            chosen[name] = version
    return chosen


def declared(set_name: str) -> list[Requirement]:
    """What pyproject.toml asks for directly, for this set."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    if set_name != "base":
        texts += project["project"]["optional-dependencies"]["postgres"]
        texts += project["dependency-groups"]["test"]
    if set_name == "bench":
        texts += project["dependency-groups"]["bench"]
    return [Requirement(text) for text in texts]


def test_no_file_holds_the_address_of_a_package_registry() -> None:
    assert lines_matching(REGISTRY_ADDRESS) == []


def test_no_file_holds_a_path_of_one_machine() -> None:
    assert lines_matching(MACHINE_PATH) == []


@pytest.mark.parametrize("path", REQUIREMENTS, ids=SETS)
def test_every_requirement_is_one_exact_version_with_hashes_and_nothing_else(path: Path) -> None:
    unpinned = [entry for entry in entries(path) if not PINNED.fullmatch(entry)]
    assert unpinned == []
    assert "://" not in path.read_text()


@pytest.mark.parametrize("set_name", SETS)
def test_requirements_hold_what_the_project_declares_at_a_version_it_allows(set_name: str) -> None:
    pinned = pinned_here(ROOT / "requirements" / f"{set_name}.txt")
    wrong = [
        str(requirement)
        for requirement in declared(set_name)
        if not requirement.specifier.contains(
            pinned.get(canonicalize_name(requirement.name), "0.dev0"), prereleases=True
        )
    ]
    assert wrong == [], "script/lock writes the requirements anew"


@pytest.mark.parametrize("set_name", SETS)
def test_requirements_are_closed_under_dependency(set_name: str) -> None:
    pinned = pinned_here(ROOT / "requirements" / f"{set_name}.txt")
    wanted: list[tuple[str, Requirement]] = [
        ("pyproject.toml", requirement) for requirement in declared(set_name)
    ]
    seen: set[tuple[str, frozenset[str]]] = set()
    missing = []
    while wanted:
        asked_by, requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in pinned:
            missing.append(f"{name}, for {asked_by}")
            continue
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            dependencies = requires(name) or []
        except PackageNotFoundError:
            continue  # of a larger set than the one installed here
        for dependency in map(Requirement, dependencies):
            extras = requirement.extras or {""}
            if dependency.marker is None or any(
                dependency.marker.evaluate({"extra": extra}) for extra in extras
            ):
                wanted.append((name, dependency))
    assert missing == [], "script/lock writes the requirements anew"


def test_smaller_sets_pin_the_versions_of_the_larger_ones() -> None:
    base, test, bench = map(pins, REQUIREMENTS)
    assert base <= test <= bench


def test_there_are_scripts_to_judge() -> None:
    assert {path.name for path in SCRIPTS} >= {"setup", "demo", "test", "bench", "lint", "lock", "run"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_is_executable_says_what_it_is_for_and_stops_at_the_first_error(path: Path) -> None:
    text = path.read_text()
    first, second = text.splitlines()[:2]
    assert first in SHEBANGS
    assert second.startswith(("# ", '"""'))
    assert os.access(path, os.X_OK)
    if "python" not in first:
        assert SETTINGS_LINE.search(text)
        subprocess.run(["bash", "-n", path], check=True)


def test_each_make_target_is_declared_phony_and_described() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony
    targets = re.findall(r"^([a-z]+):", text, re.MULTILINE)
    assert targets == phony[1].split()
    assert targets == re.findall(r"^([a-z]+): ## \S", text, re.MULTILINE)


def test_licence_text_is_the_one_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "LICENSE").read_text()
    assert project["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
