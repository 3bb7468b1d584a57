"""What `valetkey doctor` says to a person, to a program, and by its exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cli_fake_api import FakeApi
from cli_world import Run


def report(*severities: str) -> dict[str, Any]:
    items = [
        {
            "id": f"finding-{severity}", "severity": severity, "area": "keys", "sentence": f"It is {severity}.",
            "mend": "valetkey key revoke key_a", "subjects": [f"key_{n}" for n in range(8)], "count": 12,
        }
        for severity in severities
    ]  # fmt: skip
    return {
        "items": items, "severity": severities[0] if severities else "ok", "server": "running",
        "looked_at": ["root key", "keys"], "not_seen": [{"what": "record", "why": "It is away."}], "next": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("severities", "code"), [((), 0), (("info",), 0), (("weak",), 1), (("serious", "weak"), 1)]
)
def test_what_is_weak_or_serious_makes_it_fail(
    run: Run, api: FakeApi, severities: tuple[str, ...], code: int
) -> None:
    api.answer("GET", "/doctor", report(*severities))
    assert run("doctor").code == code
    as_json = run("doctor", "--json")
    assert (as_json.code, json.loads(as_json.out)) == (code, report(*severities))


def test_where_all_is_well_it_says_so_and_what_it_looked_at(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/doctor", report())
    assert run("doctor").out == (
        "All is ok.\n\nLooked at: root key, keys.\nNot looked at: record. It is away.\n"
    )


def test_each_finding_says_what_it_is_about_and_what_mends_it(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/doctor", report("serious", "weak"))
    assert run("doctor").out.startswith(
        "1 serious, 1 weak, 0 info.\n"
        "\n"
        "keys\n"
        "  serious  It is serious.\n"
        "           key_0, key_1, key_2, key_3, key_4 and 7 more\n"
        "           mend: valetkey key revoke key_a\n"
        "  weak     It is weak.\n"
    )


def test_where_there_is_no_home_there_is_nobody_to_ask(run: Run) -> None:
    done = run("doctor")
    assert done.code == 3
    assert "No valetkey server is running" in done.err
