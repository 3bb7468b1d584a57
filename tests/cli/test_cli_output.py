"""What a person reads and what a program reads: sentences, tables, JSON, exit codes."""

from __future__ import annotations

import json
import re
from time import tzset
from typing import Any

import pytest
from cli_fake_api import FakeApi, Lines
from cli_world import Run

from valetkey.cli.figures import zone

NOW = 1_800_000_000.0
KEY: dict[str, Any] = {
    "id": "key_1", "kind": "private", "service": "openai", "holder": "ana", "environment": "production",
    "label": "ci", "state": "active", "last4": "aB3x", "created": NOW - 7200, "expires": NOW + 86_400,
    "review": NOW + 9e6, "ended": None, "secret": "default", "parent": None,
    "sentences": [
        "Only from office and 203.0.113.7", "Only GET /v1/models.", "At most 5 a second, in bursts of up to 10.",
    ],
}  # fmt: skip
EVENT: dict[str, Any] = {
    "call": "c1", "key_id": "key_1", "code": "ENDPOINT_DENIED", "time": NOW, "method": "GET", "path": "/v1/files",
    "endpoint": None, "address": "203.0.113.7", "user_agent": "x", "origin": None, "service": "openai",
    "holder": "ana", "workspace": "default", "environment": "production", "status": 403, "end": "refused",
    "bytes_in": 0, "bytes_out": 412, "first_byte_ms": None, "last_byte_ms": 1.0, "cost": 0, "count": 1,
}  # fmt: skip
ISSUED: dict[str, Any] = {
    "id": "key_1", "key": "vk_prv_" + "Zz9" * 12, "kind": "private", "service": "openai", "holder": "ana",
    "environment": "production", "label": "", "last4": "Zz9Z", "expires": None, "sentences": ["Only GET /v1/models"],
    "holder_made": True, "replayed": False,
}  # fmt: skip
STATUS: dict[str, Any] = {
    "version": "0.1.0", "home": "/srv/keys", "ready": False, "missing": ["no gateway worker is ready"],
    "workers": [{"slot": 0, "pid": 17, "generation": 4, "ready": False}], "gateway_port": 8300, "control_port": 8200,
    "keys": 12,
}  # fmt: skip
UPSTREAM: dict[str, Any] = {
    "name": "openai", "title": "OpenAI", "kind": "upstream", "preset": "openai", "hosts": {"api": "https://api.openai.com"},
    "auth": "bearer", "price": "0.000000", "locked": False, "created": NOW,
}  # fmt: skip


@pytest.fixture(autouse=True)
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


def test_a_key_is_shown_as_sentences(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/keys/key_1", KEY)
    done = run("key", "show", "key_1")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "key_1 (ci), private, ending in aB3x: active"
    assert lines[1] == "Opens openai for ana, in production."
    assert lines[3:6] == [
        "  Only from office and 203.0.113.7.", "  Only GET /v1/models.", "  At most 5 a second, in bursts of up to 10.",
    ]  # fmt: skip
    assert lines[7].startswith("  Made 2 h ago, ")
    assert lines[8].startswith("  Expires in 1 d, ")


def test_a_key_past_its_end_is_called_expired(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/keys", {"items": [{**KEY, "expires": NOW - 1}], "next": None})
    assert re.search(
        r"key_1 +openai +ana +ci +private +aB3x +expired +2027-01-1\d \d\d:59 UTC\S*$",
        run("key", "list").out,
        re.MULTILINE,
    )


def test_an_issued_key_is_shown_once_with_what_it_may_do_and_how_to_use_it(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys", ISSUED)
    api.answer("GET", "/services/openai", UPSTREAM)
    api.answer("GET", "/status", STATUS)
    done = run("key", "issue", "openai")
    assert (done.code, done.err) == (0, "")
    assert done.out.count(ISSUED["key"]) == 1
    lines = done.out.splitlines()
    assert lines[0] == "ana was not known and is made, as an application."
    assert lines[2] == ISSUED["key"]
    assert "shown this once" in lines[4]
    assert "  Only GET /v1/models." in lines
    assert lines[-3:] == [
        "Use it:",
        "  export OPENAI_BASE_URL=http://127.0.0.1:8300/openai/v1",
        "  read -rs OPENAI_API_KEY && export OPENAI_API_KEY   # paste the key; nothing is shown",
    ]


def test_what_a_key_is_held_to_stands_beside_its_own_sentences(run: Run, api: FakeApi) -> None:
    within = [
        {"what": "key", "name": "key_0", "sentences": ["Only GET /v1/**."]},
        {"what": "agreement", "name": "acme", "sentences": ["Until 2027-12-31.", "At most 5 a day."]},
    ]
    api.answer("GET", "/keys/key_1", {**KEY, "within": within})
    lines = run("key", "show", "key_1").out.splitlines()
    assert "  Within key_0: Only GET /v1/**." in lines
    assert "  Within the agreement with acme: Until 2027-12-31. At most 5 a day." in lines


def test_a_second_revoke_says_when_the_first_was_with_its_day(run: Run, api: FakeApi) -> None:
    body = {"id": "key_1", "state": "revoked", "acknowledged": 1, "fenced": 0, "cut": 0, "ended": NOW - 2}
    api.answer("POST", "/keys/key_1/revoke", {**body, "already": True})
    out = run("key", "revoke", "key_1").out
    assert re.fullmatch(r"Dead everywhere already, since \d{4}-\d\d-\d\d \d\d:\d\d .*\.\n", out), out


def test_a_root_key_that_moved_is_to_be_named_from_now_on(run: Run, api: FakeApi) -> None:
    answer = {"root_key": "a" * 16, "former": "b" * 16, "file": "/etc/new.key", "kept": "/etc/old.key"}
    api.answer("POST", "/vault/rewrap", answer)
    done = run("vault", "rewrap", "--to", "/etc/new.key")
    assert "The former one still lies in /etc/old.key" in done.out
    assert "VALETKEY_ROOT_KEY_FILE=/etc/new.key" in done.out


@pytest.mark.parametrize("state", ["revoked", "expired"])
def test_a_key_that_is_dead_by_what_it_hangs_on_has_no_end_before_it(
    run: Run, api: FakeApi, state: str
) -> None:
    because = "The agreement with acme was ended."
    api.answer("GET", "/keys/key_1", {**KEY, "state": state, "because": because, "session": "process 7"})
    out = run("key", "show", "key_1").out
    assert because in out
    assert "Expires" not in out
    assert "To be reviewed" not in out
    assert "Ends with" not in out


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (
            "bearer",
            """printf 'Authorization: Bearer %s' "$VALETKEY_KEY" | curl -sS -H @- http://127.0.0.1:8300/wx/""",
        ),
        ("basic", """printf 'user = "%s:"' "$VALETKEY_KEY" | curl -sS -K - http://127.0.0.1:8300/wx/"""),
        ("header:X-Key", """printf 'X-Key: %s' "$VALETKEY_KEY" | curl -sS -H @- http://127.0.0.1:8300/wx/"""),
        (
            "query:appid",
            """printf 'url = "http://127.0.0.1:8300/wx/?appid=%s"' "$VALETKEY_KEY" | curl -sS -K -""",
        ),
        ("header:NAME", "# base URL: http://127.0.0.1:8300/wx/"),
    ],
)
def test_a_service_of_no_preset_gets_a_call_with_curl(
    run: Run, api: FakeApi, auth: str, expected: str
) -> None:
    api.answer("POST", "/keys", {**ISSUED, "service": "wx", "holder_made": False})
    api.answer("GET", "/services/wx", {**UPSTREAM, "name": "wx", "preset": None, "auth": auth})
    api.answer("GET", "/status", STATUS)
    out = run("key", "issue", "wx").out
    assert expected in out
    assert out.count(ISSUED["key"]) == 1


def test_a_key_is_issued_even_where_nothing_more_can_be_told(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys", ISSUED)
    done = run("key", "issue", "openai")
    assert done.code == 0
    assert ISSUED["key"] in done.out


def test_a_replayed_issue_shows_no_key(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys", {**ISSUED, "key": None, "replayed": True})
    done = run("key", "issue", "openai", "--idempotency-key", "word")
    assert done.out == "Key key_1 was issued before, with the same idempotency key.\n"
    assert json.loads(run("key", "issue", "openai", "--idempotency-key", "word", "--json").out)["key"] is None


@pytest.mark.parametrize(
    ("cut", "fenced", "flags", "expected"),
    [
        (0, 0, (), "No open answers were cut."),
        (1, 0, (), "1 open answer was cut."),
        (2, 1, (), "2 open answers were cut.\n1 worker did not answer and was replaced."),
        (0, 0, ("--let-finish",), "Open answers may finish."),
    ],
)
def test_a_revoke_says_since_when_and_what_was_cut(
    run: Run, api: FakeApi, cut: int, fenced: int, flags: tuple[str, ...], expected: str
) -> None:
    api.answer(
        "POST",
        "/keys/key_1/revoke",
        {"id": "key_1", "state": "revoked", "acknowledged": 1, "fenced": fenced, "cut": cut},
    )
    done = run("key", "revoke", "key_1", *flags)
    assert re.fullmatch(rf"Dead everywhere since \d\d:\d\d:\d\d\.\d\d\d\. {re.escape(expected)}\n", done.out)
    answer = json.loads(run("key", "revoke", "key_1", *flags, "--json").out)
    assert (answer["acknowledged"], answer["fenced"], answer["cut"]) == (1, fenced, cut)


def test_a_check_that_refuses_is_done_and_says_why(run: Run, api: FakeApi) -> None:
    api.answer(
        "POST", "/keys/key_1/check",
        {"code": "RATE_LIMITED", "sentence": "Too fast.", "next_step": "Wait.", "limit": "5 a second"},
    )  # fmt: skip
    done = run("key", "check", "key_1", "--method", "GET", "--path", "/")
    assert (done.code, done.out) == (0, "RATE_LIMITED\nToo fast.\nWhat stops it: 5 a second\nWait.\n")


def test_calls_are_an_aligned_table(run: Run, api: FakeApi) -> None:
    late = {**EVENT, "code": "VALID", "end": None, "status": None, "bytes_out": None, "path": "/" + "p" * 200}
    api.answer("GET", "/events", {"items": [EVENT, late], "next": None})
    heading, first, second = run("events").out.splitlines()
    assert heading.split() == [
        "TIME",
        f"({zone(NOW)})",
        "CODE",
        "METHOD",
        "PATH",
        "STATUS",
        "SERVICE",
        "HOLDER",
        "KEY",
        "ADDRESS",
        "SENT",
        "END",
        "CALL",
    ]
    assert first.index("ENDPOINT_DENIED") == second.index("VALID") == heading.index("CODE")
    assert first.endswith("412 B  refused  c1")
    assert second.endswith("open     c1")
    assert "/" + "p" * 200 in second


def test_the_use_of_one_key_shows_from_where_and_by_what(run: Run, api: FakeApi) -> None:
    item = {
        "key_id": "key_1", "label": "ci", "holder": "ana", "service": "openai", "calls": 9, "allowed": 7, "refused": 2,
        "bytes_in": 10, "bytes_out": 2000, "cost": 1_500_000, "hours": [0] * 23 + [9], "codes": {"RATE_LIMITED": 2},
    }  # fmt: skip
    seen = [{"value": "203.0.113.7", "first": NOW - 7200, "last": NOW - 60, "calls": 9}]
    agents = [{"value": "evil\x1b[2J", "first": NOW, "last": NOW, "calls": 9}]
    api.answer("GET", "/usage", {"items": [item], "next": None, "addresses": seen, "agents": agents})
    out = run("usage", "--key", "key_1").out
    assert re.search(r"key_1 +ci +ana +openai +9 +2 +10 B +2\.0 kB +1\.50 +▁{23}█$", out, re.MULTILINE)
    assert re.search(r"RATE_LIMITED +2$", out, re.MULTILINE)
    assert re.search(r"203\.0\.113\.7 +9 +2 h ago +1 min ago$", out, re.MULTILINE)
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("integrity", "completeness", "code"),
    [("ok", "ok", 0), ("ok", "unproven", 0), ("broken", "unproven", 1), ("ok", "broken", 1)],
)
def test_a_broken_journal_fails_and_names_the_record(
    run: Run, api: FakeApi, integrity: str, completeness: str, code: int
) -> None:
    problem = {"segment": "w0-17", "seq": 4, "what": "changed", "detail": "Its hash differs."}
    report = {
        "integrity": integrity,
        "completeness": completeness,
        "records": 9,
        "problems": [problem],
        "more_problems": 3,
    }
    api.answer("POST", "/audit/verify", report)
    done = run("audit", "verify")
    assert done.code == code
    assert f"integrity     {integrity}\ncompleteness  {completeness}\nrecords       9\n" in done.out
    assert (
        "  w0-17, record 4: a record was changed after it was written. Its hash differs.\n  and 3 more\n"
        in done.out
    )
    as_json = run("audit", "verify", "--json")
    assert (as_json.code, json.loads(as_json.out)) == (code, report)


def test_the_status_says_what_is_missing(run: Run, api: FakeApi) -> None:
    api.answer("GET", "/status", STATUS)
    out = run("status").out
    assert out.startswith("Valetkey 0.1.0: not ready\n  no gateway worker is ready\n")
    assert re.search(r"^ +0 +17 +4 +starting$", out, re.MULTILINE)


EMPTY = [
    "service list",
    "secret list",
    "network list",
    "party list",
    "key list",
    "token list",
    "events",
    "audit list",
]


@pytest.mark.parametrize("line", EMPTY)
def test_an_empty_list_teaches_the_command_that_makes_the_first(run: Run, api: FakeApi, line: str) -> None:
    paths = {"party list": "/parties", "events": "/events", "audit list": "/audit"}
    api.answer("GET", paths.get(line, f"/{line.split()[0]}s"), {"items": [], "next": None})
    done = run(*line.split())
    sentence, command = done.out.splitlines()
    assert sentence.endswith(".")
    assert ": valetkey " in command
    assert json.loads(run(*line.split(), "--json").out) == {"items": [], "next": None}


def everywhere(evil: str) -> list[tuple[list[str], str, str, Any]]:
    """Every human answer that carries text of others, with `evil` in each field that is text."""

    def soiled(answer: dict[str, Any]) -> dict[str, Any]:
        kept = ("state", "kind", "preset", "integrity", "completeness", "id", "risk")
        return {
            name: value + evil if isinstance(value, str) and name not in kept
            else [v + evil if isinstance(v, str) else v for v in value] if isinstance(value, list)
            else value
            for name, value in answer.items()
        }  # fmt: skip

    def page(answer: dict[str, Any]) -> dict[str, Any]:
        return {"items": [soiled(answer)], "next": "x" + evil}

    secret = {
        "service": "s", "name": "n", "environment": "e", "version": 1, "risk": "low", "created": NOW, "expires": None,
        "warnings": ["weak"],
    }  # fmt: skip
    version = {"version": 1, "state": f"in use{evil}", "created": NOW, "expires": None, "retired": None}
    network = {"id": "n", "name": "office", "blocks": ["10.0.0.0/8"]}
    party = {"id": "p", "name": "ana", "kind": "person"}
    token = {"id": "t", "party": "bot", "label": "l", "last4": "abcd", "created": NOW, "revoked": None}
    audit = {"time": NOW, "action": "key:issue", "subject": "key:1", "actor": "token:bot", "outcome": "done"}
    use = {
        "key_id": "k",
        "label": "l",
        "holder": "h",
        "service": "s",
        "hours": [1],
        "codes": {"VALID" + evil: 1},
    }
    report = {"integrity": "ok", "completeness": "ok", "records": 1, "problems": ["bad"]}
    return [
        (["service", "list"], "GET", "/services", page(UPSTREAM)),
        (["service", "show", "x"], "GET", "/services/x", {**soiled(UPSTREAM), "hosts": {"a" + evil: "b" + evil}}),
        (["secret", "list"], "GET", "/secrets", page(secret)),
        (["secret", "versions", "x"], "GET", "/secrets/x/default/versions", {"items": [version], "next": None}),
        (["secret", "set", "x"], "POST", "/secrets", soiled(secret)),
        (["network", "list"], "GET", "/networks", page(network)),
        (["network", "add", "x", "10.0.0.0/8"], "POST", "/networks", soiled(network)),
        (["party", "list"], "GET", "/parties", page(party)),
        (["key", "list"], "GET", "/keys", page(KEY)),
        (["key", "show", "x"], "GET", "/keys/x", soiled(KEY)),
        (["key", "issue", "x"], "POST", "/keys", soiled(ISSUED)),
        (["key", "change", "x", "--uses", "1"], "PATCH", "/keys/x", soiled(KEY)),
        (["key", "check", "x", "--method", "GET", "--path", "/"], "POST", "/keys/x/check",
         soiled({"code": "X", "sentence": "s", "next_step": "n", "limit": "l", "endpoint": "e"})),
        (["events"], "GET", "/events", page(EVENT)),
        (["events", "--follow"], "GET", "/events/stream", Lines([soiled(EVENT)])),
        (["usage", "--key", "x"], "GET", "/usage",
         {**page(use), "addresses": [{"value": evil, "calls": 1}], "agents": [{"value": evil, "calls": 1}]}),
        (["audit", "list"], "GET", "/audit", page(audit)),
        (["audit", "verify"], "POST", "/audit/verify", soiled(report)),
        (["token", "list"], "GET", "/tokens", page(token)),
        (["key", "find"], "POST", "/keys/find", soiled(KEY)),
        (["service", "credentials", "x"], "GET", "/services/x/credentials",
         page({"id": "c", "service": "x", "last4": "abcd", "created": NOW, "revoked": None})),
        (["token", "issue", "x"], "POST", "/tokens", soiled({"id": "t", "party": "p", "token": "v"})),
        (["token", "revoke", "x"], "POST", "/tokens/x/revoke", soiled(token)),
        (["status"], "GET", "/status", soiled(STATUS)),
    ]  # fmt: skip


EVIL = "\x1b]0;owned\x07\x1b[2J\r\u202e\x9b31m"
CASES = everywhere(EVIL)


@pytest.mark.parametrize("case", CASES, ids=[" ".join(case[0]) for case in CASES])
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_no_answer_lets_text_of_strangers_steer_the_terminal(
    run: Run, api: FakeApi, case: tuple[list[str], str, str, Any], flags: list[str]
) -> None:
    line, method, path, body = case
    api.answer(method, path, body)
    done = run(*line, *flags, stdin=b"a value")
    assert done.code == (3 if "--follow" in line else 0), done.err
    assert "owned" in done.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.out + done.err)


def test_errors_of_a_server_cannot_steer_the_terminal_either(run: Run, api: FakeApi) -> None:
    api.refuse("GET", "/keys", 400, "INVALID", f"Bad {EVIL}", f"Do {EVIL}")
    done = run("key", "list")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.err)


def test_markup_of_the_table_library_is_plain_text_in_a_name(run: Run, api: FakeApi) -> None:
    api.answer(
        "GET",
        "/parties",
        {"items": [{"id": "p", "name": "[red]ana[/red] :smile:", "kind": "person"}], "next": None},
    )
    assert "[red]ana[/red] :smile:" in run("party", "list").out


@pytest.mark.parametrize("error", [KeyboardInterrupt, EOFError])
def test_an_interrupt_ends_with_130_and_no_traceback(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    from valetkey.cli.client import Client

    def interrupted(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Client, "get", interrupted)
    done = run("status")
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("zone_name", "spelled"),
    [("UTC", "2027-01-16 08:00 UTC"), ("Asia/Kolkata", "2027-01-16 13:30 UTC+05:30")],
)
def test_an_end_is_spelled_alike_wherever_it_is_shown_and_with_its_zone(
    run: Run, api: FakeApi, monkeypatch: pytest.MonkeyPatch, zone_name: str, spelled: str
) -> None:
    monkeypatch.setenv("TZ", zone_name)
    tzset()
    try:
        api.answer("POST", "/keys", {**ISSUED, "expires": KEY["expires"]})
        api.answer("GET", "/keys/key_1", KEY)
        api.answer("GET", "/keys", {"items": [KEY], "next": None})
        assert f"  Until {spelled}.\n" in run("key", "issue", "openai").out
        assert f"  Expires in 1 d, {spelled}.\n" in run("key", "show", "key_1").out
        assert spelled in run("key", "list").out
    finally:
        monkeypatch.undo()
        tzset()


def test_lists_of_the_record_show_the_ids_that_a_proof_is_asked_for_by(run: Run, api: FakeApi) -> None:
    call = "01997f3a-5c00-7abc-8def-0123456789ab"
    api.answer("GET", "/events", {"items": [{**EVENT, "call": call}], "next": None})
    entry = {"id": "aud_5snyvg35qdtqk76r", "time": NOW, "actor": "local-owner:x", "action": "key:issue",
             "subject": "key:key_1", "outcome": "done", "details": {}}  # fmt: skip
    api.answer("GET", "/audit", {"items": [entry], "next": None})
    api.answer("GET", "/events/stream", Lines([{**EVENT, "call": call}]))
    heading, row = run("events").out.splitlines()
    assert heading.endswith("CALL")
    assert row.endswith(call)
    assert run("events", "--follow").out.splitlines()[-1].endswith(call)
    assert entry["id"] in run("audit", "list").out


def test_why_an_upstream_failed_stands_beside_how_the_call_ended(run: Run, api: FakeApi) -> None:
    failed = {**EVENT, "end": "upstream_failed", "cause": "it refused the connection"}
    api.answer("GET", "/events", {"items": [failed], "next": None})
    api.answer("GET", "/events/stream", Lines([failed]))
    for command in (["events"], ["events", "--follow"]):
        assert "upstream_failed: it refused the connection " in run(*command).out.splitlines()[1]
