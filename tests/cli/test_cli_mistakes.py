"""What a person is told who made a mistake: keys given for ids, names that nobody has, flags that are none."""

from __future__ import annotations

import json

import pytest
from cli_fake_api import FakeApi
from cli_world import Run
from test_cli_output import KEY

PLAIN = "vk_prv_" + "A1b2" * 12 + "YsVd"
CREDENTIAL = "vk_svc_" + "A1b2" * 12 + "YsVd"
TOKEN = "vk_api_" + "A1b2" * 12 + "YsVd"


@pytest.fixture
def hints(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every hint, as a person at a terminal gets it."""
    said: list[str] = []
    for module in ("events", "key_list", "audit"):
        monkeypatch.setattr(f"valetkey.cli.commands.{module}.hint", said.append)
    return said


@pytest.mark.parametrize(
    ("line", "plain", "way"),
    [
        ("key revoke", PLAIN, "valetkey key list --last4 YsVd"),
        ("key show", PLAIN, "valetkey key find"),
        ("key check --method GET --path /", PLAIN, "valetkey key find"),
        ("key change --rate 1/s", PLAIN, "valetkey key find"),
        ("events --key", PLAIN, "valetkey key find"),
        ("usage --key", PLAIN, "valetkey key find"),
        ("token revoke", TOKEN, "valetkey token list"),
        ("service credential x --revoke", CREDENTIAL, "valetkey service credentials"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_key_given_for_its_id_is_recognised_and_not_sent(
    run: Run, api: FakeApi, line: str, plain: str, way: str, flags: list[str]
) -> None:
    done = run(*line.split(), plain, *flags)
    assert (done.code, done.out, api.requests) == (2, "", [])
    assert "shell's history" in done.err
    assert way in done.err
    assert plain not in done.err


def test_a_key_is_found_by_its_value_which_is_no_argument(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys/find", KEY)
    done = run("key", "find", stdin=PLAIN.encode() + b"\n")
    assert done.code == 0
    assert api.last.body == {"key": PLAIN}
    assert "key_1 (ci), private, ending in aB3x: active" in done.out
    assert PLAIN not in done.out + done.err
    wrong = run("key", "find", PLAIN)
    assert (wrong.code, PLAIN in wrong.err) == (2, False)
    assert run("key", "find", stdin=b"").code == 1
    assert run("key", "find", stdin=b"\xff\xfe").code == 1


def test_an_error_is_one_object_for_a_program(run: Run, api: FakeApi) -> None:
    api.refuse("GET", "/keys", 400, "INVALID", "It cannot be.", "Do another thing.")
    done = run("key", "list", "--json")
    assert (done.code, done.out) == (1, "")
    assert json.loads(done.err) == {
        "code": "INVALID", "sentence": "It cannot be.", "next_step": "Do another thing.",
    }  # fmt: skip
    usage = run("key", "list", "--limit", "0", "--json")
    assert (usage.code, json.loads(usage.err)["code"]) == (2, "USAGE")
    api.refuse("GET", "/keys", 403, "NOT_PERMITTED", "No.", "Ask.")
    denied = run("key", "list", "--json")
    assert (denied.code, json.loads(denied.err)["code"]) == (4, "NOT_PERMITTED")


def test_without_a_server_a_program_is_told_so(run: Run) -> None:
    done = run("status", "--json")
    assert (done.code, json.loads(done.err)["code"]) == (3, "NO_SERVER")


def test_where_the_server_knows_no_step_the_command_gives_an_example(run: Run, api: FakeApi) -> None:
    see = "See what the request should be at /api/v1/openapi.json."
    api.refuse("POST", "/keys", 400, "INVALID", "That is no budget.", see)
    done = run("key", "issue", "openai", "--budget", "5")
    assert "openapi" not in done.err
    assert "See: valetkey key issue --help. For example: valetkey key issue openai" in done.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("events --key", "See: valetkey events --help"),
        ("key issue openai --rate", "See: valetkey key issue --help"),
        ("key issue openai --rat 5/s", "There is no option --rat. Did you mean '--rate'?"),
        ("key issue openai --budgt 5", "Did you mean '--budget'?"),
        ("key list --nonsense", "There is no option --nonsense.\nSee: valetkey key list --help"),
        ("events --code NOTHING", "See: valetkey events --help"),
    ],
)
def test_a_wrong_flag_names_the_command_and_the_flag_that_was_meant(
    run: Run, api: FakeApi, line: str, expected: str
) -> None:
    done = run(*line.split())
    assert (done.code, api.requests) == (2, [])
    assert expected in done.err


def test_an_option_that_may_be_a_key_is_not_repeated(run: Run) -> None:
    assert "Zz9" not in run("key", "list", "--Zz9Zz9Zz9Zz9Zz9Zz9").err


def test_the_next_page_is_asked_for_with_the_same_flags(run: Run, api: FakeApi, hints: list[str]) -> None:
    page = {"items": [KEY], "next": "c="}
    event = {"call": "c", "time": 1.0, "code": "VALID", "end": None}
    entry = {"time": 1.0, "action": "key:issue"}
    api.answer("GET", "/keys", page)
    api.answer("GET", "/events", {"items": [event, event], "next": "c="})
    api.answer("GET", "/audit", {"items": [entry], "next": "c="})
    run("events", "--key", "key_1", "--code", "VALID", "--since", "1h", "--limit", "2")
    run("key", "list", "--holder", "ana b", "--state", "active", "--limit", "1")
    run("audit", "list", "--limit", "1")
    assert hints == [
        "Older ones: valetkey events --key key_1 --code VALID --since 1h --limit 2 --cursor c=",
        "More: valetkey key list --holder 'ana b' --state active --limit 1 --cursor c=",
        "Older ones: valetkey audit list --limit 1 --cursor c=",
    ]


@pytest.mark.parametrize(
    "line",
    ["events --key nope", "events --service nope", "events --follow --key nope", "usage --key nope",
     "key list --service nope", "key list --holder nope"],
)  # fmt: skip
def test_a_name_that_nobody_has_is_told_instead_of_an_empty_list(run: Run, api: FakeApi, line: str) -> None:
    for path in ("/keys", "/events", "/usage", "/parties"):
        api.answer("GET", path, {"items": [], "next": None})
    done = run(*line.split())
    assert done.code == 1
    assert done.err.startswith("error: There is no ")


def test_an_empty_list_of_something_known_is_no_error(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/events", {"items": [], "next": None})
    api.answer("GET", "/keys/key_1", KEY)
    done = run("events", "--key", "key_1")
    assert (done.code, done.out) == (0, "No call is like that.\n")


def test_a_revoked_key_expires_no_more(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/keys", {"items": [{**KEY, "state": "revoked", "ended": 1.0}], "next": None})
    assert run("key", "list").out.splitlines()[1].endswith("revoked  -")


def test_a_token_for_a_new_party_says_so_and_what_it_may_do(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/tokens", {"id": "tok_1", "party": "nobody2", "token": "value", "party_made": True})
    done = run("token", "issue", "nobody2")
    assert done.out.startswith("nobody2 was not known and is made, as an application.\n\nvalue\n")
    assert "may do everything here but make and revoke tokens" in done.out
    assert "everything here but make and revoke tokens" in run("token", "issue", "--help").out


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"records": 0, "checkpoints": 0}, "Nothing was recorded yet"),
        ({"records": 4, "checkpoints": 0}, "No signed checkpoint covers these records yet."),
        ({"records": 9, "checkpoints": 2}, "The newest records are not covered"),
    ],
)
def test_what_is_unproven_has_a_reason(run: Run, api: FakeApi, report: dict[str, int], reason: str) -> None:
    api.answer(
        "POST", "/audit/verify", {"integrity": "ok", "completeness": "unproven", "problems": [], **report}
    )
    assert reason in run("audit", "verify").out


def test_help_is_grouped_and_sentences_are_whole(run: Run) -> None:
    text = run("key", "issue", "--help").out
    places = [
        text.index(f"\n{heading}:")
        for heading in ("Whose", "From where", "What", "When", "How much", "Other")
    ]
    assert places == sorted(places)
    assert "..." not in run("secret", "--help").out.partition("Commands:")[2]
    assert run("help", "key", "issue").out == text
    assert run("help").out == run("--help").out
    assert run("help", "key", "nothing").code == 2
    assert "SERVICE" not in text.partition("Other:")[2].partition("Examples:")[0]
    assert " X " not in run("serve", "--help").out
    assert "--let-finish" not in run("key", "resume", "--help").out


def test_a_holder_that_is_misspelt_is_guessed(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/keys", {"items": [], "next": None})
    api.answer("GET", "/parties", {"items": [{"id": "pty_1", "name": "johanna", "kind": "person"}]})
    assert "Did you mean 'johanna'?" in run("key", "list", "--holder", "johana").err
