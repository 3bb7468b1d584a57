"""Partners at the command line: agreements as files, and what is said of them and of keys that come from others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_fake_api import FakeApi
from cli_world import Run
from test_cli_output import KEY

VIEW: dict[str, Any] = {
    "id": "agr_1",
    "name": "acme",
    "agreement": {
        "title": "Weather",
        "ends": "2027-12-31",
        "services": [{"name": "weather"}],
        "contact": {"name": "Ada", "email": "ada@acme.example", "phone": ""},
    },
    "begins": None,
    "ends": 1_830_000_000.0,
    "ended": None,
    "state": "upcoming",
    "sentences": ["Until 2027-12-31."],
    "notes": [],
}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ends = nan", "nan and inf"),
        ("ends = -inf", "nan and inf"),
        ("a = " + "[" * 4_000 + "]" * 4_000, "nested too deeply"),
        ("a." * 2_000 + "b = 1", "nested too deeply"),
        ("ends = ", "no TOML"),
        ("\xff".join("ab"), "no TOML"),
        ("# " + "x" * 262_144, "too long"),
    ],
)
def test_a_file_that_is_no_agreement_is_told_why(
    run: Run, api: FakeApi, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "acme.toml"
    file.write_bytes(text.encode("latin-1"))
    done = run("partner", "add", "acme", "--agreement", str(file))
    assert (done.code, done.out, api.requests) == (1, "", [])
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_partner_is_shown_with_state_and_contact(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/partners/acme", VIEW)
    api.answer("GET", "/partners", {"items": [VIEW], "next": None})
    shown = run("partner", "show", "acme").out
    assert "acme, Weather: upcoming" in shown
    assert "Contact: Ada, ada@acme.example." in shown
    assert "upcoming" in run("partner", "list").out


def test_an_ended_agreement_is_revived_by_a_flag_and_what_surprises_is_said(
    run: Run, api: FakeApi, tmp_path: Path
) -> None:
    file = tmp_path / "acme.toml"
    file.write_text("ends = 2027-12-31\n")
    note = "key_1 (ci) ends before the agreement, on 2027-01-01."
    api.answer("PUT", "/partners/acme/agreement", {"partner": {**VIEW, "notes": [note]}, "cut": 0})
    done = run("partner", "change", "acme", "--agreement", str(file))
    assert (done.code, api.last.query, api.last.body) == (0, {}, {"ends": "2027-12-31"})
    assert f"warning: {note}" in done.err
    run("partner", "change", "acme", "--agreement", str(file), "--revive")
    assert api.last.query == {"revive": "true"}


def test_a_key_says_why_it_stands_so_and_what_comes_from_it(run: Run, api: FakeApi) -> None:
    child = {"id": "key_2", "holder": "agent", "label": "night", "expires": 1_830_000_000.0}
    api.answer("GET", "/keys/key_1", {**KEY, "derived": [child], "derived_count": 7})
    shown = run("key", "show", "key_1").out
    assert "key_2 (night) for agent, until " in shown
    assert "and 6 more" in shown
    api.answer(
        "GET", "/keys/key_1", {**KEY, "state": "revoked", "because": "The agreement with acme was ended."}
    )
    shown = run("key", "show", "key_1").out
    assert "revoked" in shown and "The agreement with acme was ended." in shown


def test_the_list_of_keys_says_what_they_come_from(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/keys", {"items": [KEY], "next": None})
    assert "DERIVED FROM" not in run("key", "list").out
    api.answer("GET", "/keys", {"items": [KEY, {**KEY, "id": "key_2", "parent": "key_1"}], "next": None})
    listed = run("key", "list").out.splitlines()
    assert listed[0].endswith("DERIVED FROM")
    assert listed[1].endswith("-") and listed[2].endswith("key_1")


def test_what_a_service_loses_is_said(run: Run, api: FakeApi) -> None:
    gone = {"name": "weather", "kind": "own", "notes": ["Its shared limit is gone with it: At most 5 a day."]}
    api.answer("DELETE", "/services/weather", gone)
    api.answer("POST", "/services", {**gone, "notes": ["This one has none."]})
    assert "warning: Its shared limit is gone" in run("service", "remove", "weather").err
    assert "warning: This one has none." in run("service", "add", "weather", "--own").err


def test_agreed_limits_are_told_as_agreed(run: Run, api: FakeApi) -> None:
    agreed = {"level": "agreement", "name": "acme", "limits": {}, "sentences": ["At most 100 a day."]}
    api.answer("GET", "/limits", {"items": [agreed], "next": None})
    assert "All keys of acme, as agreed" in run("limit", "list").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('titel = "x"', ("titel is not known", "'title'")),
        ("", ("ends is missing", "ends = 2027-12-31")),
        ("ends = 2027-12-31", ("services is missing", "[[services]]")),
        ('[limits]\nquotas = "5/day"', ("limits.quotas is no list", 'quotas = ["5/day"]')),
        ("[limits]\nquotas = [5]", ("limits.quotas holds something that is no text", "quotes")),
        ("[limits]\nrate = 5", ("limits.rate is no text", 'rate = "5"')),
        ('[limits]\nburst = "5"', ("limits.burst is no whole number", "burst = 5")),
        ("limits = 5", ("limits is no table", "[limits]")),
        ('services = ["weather"]', ("services is no list of tables", "[[services]]")),
        ('[[services]]\nnam = "x"', ("services.nam is not known", "'name'")),
        ("[[services]]", ("services.name is missing",)),
    ],
)
def test_what_is_wrong_with_an_agreement_is_said_in_the_words_of_its_file(
    run: Run, api: FakeApi, tmp_path: Path, text: str, said: tuple[str, ...]
) -> None:
    file = tmp_path / "acme.toml"
    whole = "" if "missing" in said[0] and "name" not in said[0] else "ends = 2027-12-31\n"
    if "services" not in text and "services" not in said[0] and whole:
        text = f'{text}\n[[services]]\nname = "weather"\n' if "[" in text else f"services = []\n{text}"
    file.write_text(whole + text)
    problem = {"code": "INVALID", "detail": "The request is wrong.", "next_step": ""}
    for method, path in (("POST", "/partners"), ("PUT", "/partners/acme/agreement")):
        api.answer(method, path, problem, status=400)
        done = run("partner", "add" if method == "POST" else "change", "acme", "--agreement", str(file))
        assert [part in done.err for part in (*said, str(file), "docs/formats/agreement.md")] == [True] * (
            len(said) + 2
        ), done.err


def test_what_the_server_has_against_a_whole_agreement_is_left_as_it_says_it(
    run: Run, api: FakeApi, tmp_path: Path
) -> None:
    file = tmp_path / "acme.toml"
    file.write_text('ends = 2027-12-31\n[[services]]\nname = "weather"\n')
    problem = {"code": "INVALID", "detail": "There is no such network.", "next_step": "Add it."}
    api.answer("POST", "/partners", problem, status=400)
    assert "There is no such network." in run("partner", "add", "acme", "--agreement", str(file)).err
