"""Reference pages say what the code says, and nothing that a user can meet is left out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import click
import msgspec
import pytest
from pages import DOCS

from valetkey.api.document import describe
from valetkey.cli.main import root
from valetkey.decision.codes import CODES, Code
from valetkey.decision.restrictions import RESTRICTIONS
from valetkey.doctor.findings import ABOUT, Kind
from valetkey.journal.actions import AuditAction
from valetkey.keys.kinds import KeyKind
from valetkey.services.catalogue import load_preset, preset_names
from valetkey.settings import Settings

REFERENCE = DOCS / "reference"


def written(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("valetkey_docs_generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path[:] = [*before, str(DOCS)]


def test_every_page_is_what_the_code_gives(generate: ModuleType) -> None:
    assert generate.stale() == [], "run: python docs/generate.py"


def test_no_page_is_left_that_nothing_makes(generate: ModuleType) -> None:
    assert {path.name for path in REFERENCE.iterdir()} == set(generate.PAGES)


def test_every_decision_code_stands_there_with_status_sentence_and_next_step() -> None:
    text = written("codes.md")
    for code in Code:
        info = CODES[code]
        line = next(line for line in text.splitlines() if f"`{code}`" in line and line.startswith("| <a"))
        for fact in (str(info.status), info.sentence, info.next_step, "yes" if info.waiting_helps else "no"):
            assert fact in line


def test_every_audit_action_stands_there() -> None:
    text = written("audit-actions.md")
    assert [action for action in AuditAction if f"| `{action.value}` |" not in text] == []


def test_every_finding_of_the_doctor_stands_there() -> None:
    text = written("doctor.md")
    assert [kind for kind in Kind if f"| `{kind}` | {ABOUT[kind].severity} |" not in text] == []


def test_every_setting_stands_there_with_its_flag() -> None:
    text = written("settings.md")
    for field in msgspec.structs.fields(Settings):
        assert f"| `{field.name}` | `--{field.name.replace('_', '-')}` |" in text


def commands(group: click.Group = root, before: str = "valetkey") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}", command


def test_every_command_stands_there_with_every_option() -> None:
    sections = dict(part.split("\n", 1) for part in written("commands.md").split("\n## ")[1:])
    for name, command in commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(flag in sections[name] for flag in parameter.opts), f"{name} {parameter.opts}"


def test_every_operation_of_the_api_stands_there() -> None:
    text = written("api.md")
    for path, item in msgspec.json.decode(describe())["paths"].items():
        for method, operation in item.items():
            assert f"| `{method.upper()} {path}` | `{operation['operationId']}` |" in text


def test_every_preset_stands_there_with_every_endpoint_name() -> None:
    sections = dict(part.split(":", 1) for part in written("presets.md").split("\n## ")[1:])
    assert set(sections) == set(preset_names())
    for name, text in sections.items():
        assert [label for label in load_preset(name).endpoints if f"| `{label}` |" not in text] == []


def test_every_kind_and_every_restriction_stands_there() -> None:
    assert [kind for kind in KeyKind if kind.value not in written("defaults.md")] == []
    text = written("restrictions-and-limits.md")
    for restriction in RESTRICTIONS:
        assert f"`{restriction.code}`" in text
        assert [option for option in restriction.options if f"`{option}`" not in text] == []
