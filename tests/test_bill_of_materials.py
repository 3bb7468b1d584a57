"""The bill of materials is whole, valid, and the same each time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from test_repository import MACHINE_PATH, REGISTRY_ADDRESS, ROOT, entries, pins

pytestmark = pytest.mark.real  # it looks whether everything is installed, and runs beside the tests

SCRIPT = ROOT / "script" / "sbom"


def written(*arguments: str) -> str:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=True, cwd=Path("/"))
    return done.stdout


@pytest.fixture(scope="module")
def text() -> str:
    return written()


@pytest.fixture(scope="module")
def bill(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("chosen", ["base", "test"])
def test_it_obeys_the_schema_to_the_letter(chosen: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written(chosen)) is None


def test_the_schema_would_refuse_a_mistake(bill: dict[str, Any]) -> None:
    wrong = {**bill, "components": [{"type": "libary", "name": "x"}]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(wrong)) is not None


def test_every_pinned_package_stands_there_with_all_its_hashes(bill: dict[str, Any]) -> None:
    path = ROOT / "requirements" / "base.txt"
    assert {(one["name"], one["version"]) for one in bill["components"]} == {
        (name, version) for name, version, _ in pins(path)
    }
    hashes = {item["content"] for one in bill["components"] for item in one["hashes"]}
    assert hashes == set(re.findall(r"sha256:([0-9a-f]{64})", " ".join(entries(path))))
    for one in bill["components"]:
        parsed = PackageURL.from_string(one["purl"])
        assert (parsed.type, parsed.name, parsed.version) == ("pypi", one["name"], one["version"])


def test_licences_of_what_is_installed_are_known(bill: dict[str, Any]) -> None:
    unknown = {one["name"] for one in bill["components"] if not one.get("licenses")}
    foreign = {one["name"] for one in bill["components"] if one.get("properties")}
    assert unknown <= foreign, "a package says nothing of its licence"


def test_what_depends_on_what_is_told_and_closed(bill: dict[str, Any]) -> None:
    refs = {one["bom-ref"] for one in bill["components"]}
    own = bill["metadata"]["component"]["bom-ref"]
    graph = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert set(graph) == {own, *refs}
    assert {ref for needed in graph.values() for ref in needed} <= refs
    assert [ref for ref in graph[own] if ref.startswith("pkg:pypi/cryptography@")]


def test_the_same_requirements_give_the_same_bytes_and_nothing_of_this_machine(text: str) -> None:
    assert written() == text
    assert not REGISTRY_ADDRESS.search(text)
    assert not MACHINE_PATH.search(text)
    assert str(ROOT) not in text and "timestamp" not in text


def test_a_set_that_does_not_exist_is_refused() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "all"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "script/sbom: name one of base, test, bench.\n"
