"""Proofs and erasures at the command line: what is asked of the server, and what is told of a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_fake_api import FakeApi
from cli_world import Run

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "proof-vectors.json"
CALL = "01997f3a-5c00-7abc-8def-0123456789ab"


@pytest.mark.parametrize(
    "line",
    [
        "proof",
        f"proof {CALL}",
        f"proof {CALL} --check x.proof",
        f"proof {CALL} --key 00",
        "proof --check x.proof --out y",
        "erase",
        "erase --party ana --older-than 1d",
    ],
)
def test_what_is_unclear_is_not_asked_for(run: Run, api: FakeApi, line: str) -> None:
    done = run("audit", *line.split())
    assert (done.code, done.out, api.requests) == (2, "", [])
    assert "error:" in done.err


def test_a_proof_is_written_once_and_for_its_owner_alone(run: Run, api: FakeApi, tmp_path: Path) -> None:
    (case, *_) = json.loads(VECTORS.read_text())["cases"]
    api.answer("POST", "/audit/proof", case["proof"])
    out = tmp_path / "call.proof"
    done = run("audit", "proof", CALL, "--out", str(out), "--personal")
    assert (done.code, api.last.body) == (0, {"record": CALL, "personal": True})
    assert case["proof"]["public_key"] in done.out
    assert json.loads(out.read_text()) == case["proof"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert run("audit", "proof", CALL, "--out", str(out)).code == 1
    assert json.loads(run("audit", "proof", CALL, "--json").out) == case["proof"]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["cases"], ids=lambda case: case["about"])
def test_a_file_is_checked_as_the_vectors_say(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: dict[str, str]
) -> None:
    file = tmp_path / "a.proof"
    file.write_text(json.dumps(case["proof"]))
    monkeypatch.setitem(os.environ, "VALETKEY_HOME", "/nonexistent/valetkey")
    key = json.loads(VECTORS.read_text())["public_key"]
    done = run("audit", "proof", "--check", str(file), "--key", key)
    assert (done.code, case["verdict"] in done.out) == (0 if case["verdict"] == "ok" else 1, True)
    assert key in done.out


def test_a_proof_under_its_own_key_alone_fails_and_warns_before_it_shows_the_record(
    run: Run, tmp_path: Path
) -> None:
    (case, *_) = json.loads(VECTORS.read_text())["cases"]
    file = tmp_path / "a.proof"
    file.write_text(json.dumps(case["proof"]))
    done = run("audit", "proof", "--check", str(file))
    assert done.code == 1
    verdict, warning, record = (
        done.out.index(one) for one in ("unproven", "Anyone could", "flood, record 6")
    )
    assert verdict < warning < record
    told = run("audit", "proof", "--check", str(file), "--json")
    assert (told.code, json.loads(told.out)["verdict"]) == (1, "unproven")


def test_a_checked_proof_shows_times_to_people_and_numbers_to_programs(run: Run, tmp_path: Path) -> None:
    (case, *_) = json.loads(VECTORS.read_text())["cases"]
    key = json.loads(VECTORS.read_text())["public_key"]
    file = tmp_path / "a.proof"
    file.write_text(json.dumps(case["proof"]))
    shown = run("audit", "proof", "--check", str(file), "--key", key).out
    assert "  time: 2025-11-24T16:01:03.000Z\n" in shown
    assert "  since: 2025-11-24T16:00:03.000Z\n" in shown
    (one,) = json.loads(run("audit", "proof", "--check", str(file), "--key", key, "--json").out)["records"]
    assert one["record"]["time"] == 1764000063.0


@pytest.mark.parametrize("content", [b"", b"no", b"[" * 100_000, b"{}", b"\xff\xfe"])
def test_a_file_that_is_no_proof_is_told_so(run: Run, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.proof"
    file.write_bytes(content)
    done = run("audit", "proof", "--check", str(file))
    assert (done.code, done.out) == (1, "")
    assert "is no proof" in done.err
    assert run("audit", "proof", "--check", str(tmp_path / "missing")).code == 1
    assert run("audit", "proof", "--check", str(file), "--key", "xyz").code != 0


def test_an_erasure_says_how_much_it_was(run: Run, api: FakeApi) -> None:
    answer = {"id": "era_1", "party": "ana", "before": None, "erased": 1}
    api.answer("POST", "/audit/erase", answer)
    assert run("audit", "erase", "--party", "ana").out == "Erased at 1 call.\n"
    answer = {"id": "era_1", "party": "ana", "before": None, "erased": 1, "pinned": ["key_7"]}
    api.answer("POST", "/audit/erase", answer)
    assert "valetkey key unpin key_7" in run("audit", "erase", "--party", "ana").err
    assert api.last.body == {"party": "ana"}
    api.answer("POST", "/audit/erase", {**answer, "erased": 0})
    assert run("audit", "erase", "--older-than", "400d").out == "There was nothing to erase.\n"
    assert api.last.body == {"older_than": "400d"}


@pytest.mark.parametrize("kept", ["0d", "23h", "59min"])
def test_an_erasure_that_keeps_less_than_a_day_is_asked_about(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    api.answer("POST", "/audit/erase", {"id": "era_1", "party": None, "before": 1.0, "erased": 3})
    for flags in ([], ["--json"]):
        unasked = run("audit", "erase", "--older-than", kept, *flags)
        assert (unasked.code, unasked.out, api.requests) == (2, "", [])
        assert "--yes" in unasked.err
    monkeypatch.setattr("valetkey.cli.commands.audit_record.is_terminal", lambda _: True)
    for no in (b"n\n", b"\n"):
        refused = run("audit", "erase", "--older-than", kept, stdin=no)
        assert (refused.code, refused.out, api.requests) == (1, "", [])
        assert "Nothing was erased." in refused.err
    assert run("audit", "erase", "--older-than", kept, stdin=b"y\n").out == "Erased at 3 calls.\n"
    assert run("audit", "erase", "--older-than", kept, "--yes").out == "Erased at 3 calls.\n"


def test_an_erasure_that_keeps_a_day_is_not_asked_about(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/audit/erase", {"id": "era_1", "party": None, "before": 1.0, "erased": 3})
    assert run("audit", "erase", "--older-than", "24h").code == 0
    api.refuse("POST", "/audit/erase", 400, "INVALID", "'soon' is no span of time.")
    assert "no span" in run("audit", "erase", "--older-than", "soon").err


def test_a_proof_says_that_the_personal_fields_were_erased_or_left_out(
    run: Run, api: FakeApi, tmp_path: Path
) -> None:
    vectors = json.loads(VECTORS.read_text())
    said = {}
    for number, about in enumerate(("a flood of refused calls", "the same, erased", "an audit entry")):
        (proof,) = (case["proof"] for case in vectors["cases"] if case["about"] == about)
        api.answer("POST", "/audit/proof", proof)
        file = tmp_path / f"{number}.proof"
        made = run("audit", "proof", CALL, "--out", str(file)).out
        checked = run("audit", "proof", "--check", str(file), "--key", vectors["public_key"])
        program = run("audit", "proof", "--check", str(file), "--key", vectors["public_key"], "--json")
        (record,) = json.loads(program.out)["records"]
        said[about] = ("erased" in made, "were erased" in checked.out, record["erased"])
        assert ("were left out" in checked.out) == (about == "a flood of refused calls")
    assert said == {
        "a flood of refused calls": (False, False, False),
        "the same, erased": (True, True, True),
        "an audit entry": (False, False, False),
    }
