"""What each command asks the API: method, path, query and body, from its flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cli_fake_api import FakeApi
from cli_world import Run

from valetkey.processes import running_process

SERVICE = {"name": "openai", "kind": "upstream", "hosts": {}, "locked": False}
KEY = {
    "id": "key_1", "kind": "private", "service": "openai", "holder": "ana", "environment": "production",
    "label": "", "state": "active", "last4": "aB3x", "created": 1.0, "expires": None, "review": None,
    "ended": None, "secret": "default", "parent": None, "sentences": ["Only GET /v1/models"],
}  # fmt: skip
ENDED = {"id": "key_1", "state": "revoked", "acknowledged": 1, "fenced": 0, "cut": 0}
PAGE: dict[str, Any] = {"items": [], "next": None}

ASKED = [
    ("service add openai --preset openai", "POST", "/services", {"name": "openai", "preset": "openai"}),
    ("service add billing --own --price 0.01", "POST", "/services", {"name": "billing", "own": True, "price": "0.01"}),
    (
        "service add up --preset openai --max-body-mb 5",
        "POST",
        "/services",
        {"name": "up", "preset": "openai", "max_body_mb": 5},
    ),
    (
        "service add wx --base-url http://10.0.0.5 --auth query:appid --allow-private --allow-plain-upstream"
        " --host files=https://f.example.com",
        "POST",
        "/services",
        {
            "name": "wx",
            "base_url": "http://10.0.0.5",
            "auth": "query:appid",
            "allow_private": True,
            "allow_plain_upstream": True,
            "hosts": {"files": "https://f.example.com"},
        },
    ),
    (
        "service change wx --no-allow-private --auth bearer --base-url https://a.example.com --price 1",
        "PATCH",
        "/services/wx",
        {"allow_private": False, "auth": "bearer", "base_url": "https://a.example.com", "price": "1"},
    ),
    ("service change wx --max-body-mb 2000", "PATCH", "/services/wx", {"max_body_mb": 2000}),
    ("service list", "GET", "/services", None),
    ("service show openai", "GET", "/services/openai", None),
    ("service lock openai", "POST", "/services/openai/lock", {}),
    ("service unlock openai", "POST", "/services/openai/unlock", {}),
    ("service remove openai", "DELETE", "/services/openai", None),
    ("service credential billing", "POST", "/services/billing/credential", {}),
    ("service credential billing --revoke crd_1", "POST", "/services/billing/credentials/crd_1/revoke", {}),
    ("service credentials billing", "GET", "/services/billing/credentials", None),
    ("secret list", "GET", "/secrets", None),
    ("secret versions openai", "GET", "/secrets/openai/default/versions", None),
    ("secret versions openai/batch", "GET", "/secrets/openai/batch/versions", None),
    ("secret retire openai/batch --version 2", "POST", "/secrets/openai/batch/retire", {"version": 2}),
    ("secret retire openai --all --environment e", "POST", "/secrets/openai/default/retire", {"environment": "e"}),
    ("network add office 203.0.113.0/24 2001:db8::/48", "POST", "/networks",
     {"name": "office", "blocks": ["203.0.113.0/24", "2001:db8::/48"]}),
    ("network add here --interface lo", "POST", "/networks", None),
    ("network list", "GET", "/networks", None),
    ("network remove office", "DELETE", "/networks/office", None),
    ("party add ana", "POST", "/parties", {"name": "ana", "kind": "person"}),
    ("party add ci --kind machine", "POST", "/parties", {"name": "ci", "kind": "machine"}),
    ("party list", "GET", "/parties", None),
    ("key issue openai", "POST", "/keys", {"service": "openai"}),
    ("key list", "GET", "/keys", None),
    ("key show key_1", "GET", "/keys/key_1", None),
    ("key show key_1 --value", "POST", "/keys/key_1/value", {}),
    ("key check key_1 --method GET --path /p", "POST", "/keys/key_1/check", {"method": "GET", "path": "/p"}),
    (
        "key check key_1 --method GET --path /p --address 1.2.3.4 --origin https://a.example --host api"
        " --at 2026-12-31T18:00:00Z",
        "POST",
        "/keys/key_1/check",
        {
            "method": "GET", "path": "/p", "address": "1.2.3.4", "origin": "https://a.example", "host": "api",
            "at": "2026-12-31T18:00:00Z",
        },
    ),
    ("key change key_1 --label ci --expires never --rate 2/s", "PATCH", "/keys/key_1",
     {"label": "ci", "expires": "never", "terms": {"rate": "2/s"}}),
    ("key change key_1 --clear sticky", "PATCH", "/keys/key_1", {"terms": {"sticky": False}}),
    ("key unpin key_1", "POST", "/keys/key_1/unpin", None),
    ("key change key_1 --clear network --clear rate --uses 3", "PATCH", "/keys/key_1",
     {"terms": {"uses": 3, "networks": [], "rate": ""}}),
    ("key change key_1 --clear concurrency --clear uses", "PATCH", "/keys/key_1",
     {"terms": {"clear": ["concurrency", "uses"]}}),
    ("key suspend key_1", "POST", "/keys/key_1/suspend", {"let_finish": False}),
    ("key resume key_1", "POST", "/keys/key_1/resume", {"let_finish": False}),
    ("key revoke key_1 --let-finish", "POST", "/keys/key_1/revoke", {"let_finish": True}),
    ("events", "GET", "/events", None),
    ("usage", "GET", "/usage", None),
    ("audit list", "GET", "/audit", None),
    ("audit verify", "POST", "/audit/verify", {}),
    ("token issue bot --label nightly", "POST", "/tokens", {"party": "bot", "label": "nightly"}),
    ("token list", "GET", "/tokens", None),
    ("token revoke tok_1", "POST", "/tokens/tok_1/revoke", {}),
    ("vault rewrap", "POST", "/vault/rewrap", {}),
    ("vault rewrap --to /etc/valetkey/new.key", "POST", "/vault/rewrap", {"file": "/etc/valetkey/new.key"}),
    ("status", "GET", "/status", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "method", "path", "body"), ASKED, ids=[asked[0][:60] for asked in ASKED])
def test_a_command_asks_the_api_for_what_its_flags_say(
    run: Run, api: FakeApi, line: str, method: str, path: str, body: Any
) -> None:
    api.answer(method, path, {"any": "thing", **PAGE, "integrity": "ok", "completeness": "ok"})
    done = run(*line.split(" "), "--json")
    assert (done.code, done.err) == (0, "")
    asked = api.last
    assert (asked.method, asked.path) == (method, path)
    if body is not None:
        assert asked.body == body
    elif method in ("GET", "DELETE"):
        assert asked.body is None


def test_every_flag_of_key_issue_becomes_a_field(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys", {"id": "key_1", "key": "value"})
    done = run(
        "key", "issue", "openai", "--kind", "temporary", "--holder", "ana", "--label", "ci", "--environment", "test",
        "--secret", "batch", "--expires", "1h", "--network", "office", "--network", "10.0.0.0/8", "--origin",
        "https://a.example", "--host", "api", "--endpoint", "GET /v1/models", "--endpoint", "chat",
        "--deny-endpoint", "POST /v1/files", "--rate", "5/s", "--burst", "10", "--concurrency", "8", "--quota",
        "1000/day", "--quota", "10/hour", "--budget", "5.00/month", "--bytes", "1GB/day", "--uses", "3", "--schedule",
        "mon-fri 08:00-18:00 Europe/Berlin", "--sticky", "--idempotency-key", "a-b-c", "--json",
    )  # fmt: skip
    assert done.code == 0
    assert api.last.headers["idempotency-key"] == "a-b-c"
    assert api.last.body == {
        "service": "openai", "kind": "temporary", "holder": "ana", "label": "ci", "environment": "test",
        "secret": "batch", "expires": "1h",
        "terms": {
            "networks": ["office", "10.0.0.0/8"], "origins": ["https://a.example"], "hosts": ["api"],
            "endpoints": ["GET /v1/models", "chat"], "deny_endpoints": ["POST /v1/files"], "rate": "5/s",
            "burst": 10, "concurrency": 8, "quotas": ["1000/day", "10/hour"], "budgets": ["5.00/month"],
            "bytes": ["1GB/day"], "uses": 3, "schedule": "mon-fri 08:00-18:00 Europe/Berlin", "sticky": True,
        },
    }  # fmt: skip


def test_a_key_is_tied_to_the_process_that_is_named(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/keys", {"id": "key_1", "key": "value"})
    api.answer("POST", "/keys/key_1/derive", {"id": "key_2", "key": "value"})
    own = running_process(os.getpid())
    assert own is not None
    tied = {"with_session": True, "session_process": {"pid": own.pid, "started": own.started}}
    for asked, body in (
        (("issue", "openai", "--kind", "temporary"), {"service": "openai", "kind": "temporary"}),
        (("derive", "key_1"), {}),
    ):
        run("key", *asked, "--with-session", "--session-pid", str(own.pid), "--json")
        assert api.last.body == {**body, **tied}
    before = len(api.requests)
    assert run("key", "issue", "openai", "--session-pid", "1").code == 2
    assert run("key", "issue", "openai", "--with-session", "--session-pid", str(2**22 - 1)).code == 1
    assert len(api.requests) == before


def test_the_bodies_are_what_the_operations_take(run: Run, api: FakeApi) -> None:
    """The command line does not import the operations; the test does, and decodes what was sent."""
    import msgspec

    from valetkey.api.bodies import KeyChanges, SecretRetirement, ServiceChanges
    from valetkey.keys.checking import CallToCheck
    from valetkey.keys.operations import IssueKey
    from valetkey.networks.operations import AddNetwork
    from valetkey.parties.operations import AddParty
    from valetkey.services.operations import AddService

    types = {
        ("POST", "/services"): AddService, ("PATCH", "/services/wx"): ServiceChanges, ("POST", "/keys"): IssueKey,
        ("PATCH", "/keys/key_1"): KeyChanges, ("POST", "/keys/key_1/check"): CallToCheck,
        ("POST", "/networks"): AddNetwork, ("POST", "/parties"): AddParty,
        ("POST", "/secrets/openai/batch/retire"): SecretRetirement,
    }  # fmt: skip
    seen = set()
    for line, method, path, _ in ASKED:
        kind = types.get((method, path))
        if kind is not None:
            api.answer(method, path, {})
            run(*line.split(" "), "--json")
            msgspec.convert(api.last.body, kind)
            seen.add((method, path))
    assert seen == set(types)


def test_a_certificate_file_is_named_by_its_whole_path(run: Run, api: FakeApi) -> None:
    api.answer("PATCH", "/services/wx", SERVICE)
    run("service", "change", "wx", "--ca-file", "ca.pem", "--json")
    assert api.last.body == {"ca_file": str(Path.cwd() / "ca.pem")}


def test_a_root_key_in_another_file_is_named_at_the_next_start(run: Run, api: FakeApi) -> None:
    answer = {"root_key": "b" * 16, "former": "a" * 16, "file": "/keys/new.key", "kept": None}
    api.answer("POST", "/vault/rewrap", answer, {**answer, "kept": "/keys/root.key.former"})
    assert "serve --root-key-file" in run("vault", "rewrap", "--to", "/keys/new.key").out
    said = run("vault", "rewrap").out
    assert "/keys/root.key.former" in said and "serve" not in said


def test_the_interface_gives_its_networks(run: Run, api: FakeApi) -> None:
    api.answer("POST", "/networks", {"name": "here", "blocks": []})
    run("network", "add", "here", "--interface", "lo", "--json")
    assert api.last.body == {"name": "here", "interface": "lo"}, (
        "the server reads its own machine's interface"
    )
    run("network", "add", "here", "--listener", "10.0.0.1:8300", "--json")
    assert api.last.body == {"name": "here", "listener": "10.0.0.1:8300"}


def test_filters_go_into_the_query(run: Run, api: FakeApi) -> None:
    # Something is found: nothing more is asked.
    api.answer("GET", "/keys", {**PAGE, "items": [KEY]})
    api.answer("GET", "/events", PAGE)
    api.answer("GET", "/usage", PAGE)
    api.answer("GET", "/secrets", PAGE)
    run(
        "key",
        "list",
        "--service",
        "a",
        "--holder",
        "b c",
        "--state",
        "active",
        "--last4",
        "YsVd",
        "--limit",
        "3",
        "--cursor",
        "x=",
    )
    assert api.last.query == {
        "service": "a",
        "holder": "b c",
        "state": "active",
        "last4": "YsVd",
        "limit": "3",
        "cursor": "x=",
    }
    run("events", "--key", "k", "--service", "s", "--code", "valid", "--since", "2026-01-01", "--json")
    assert api.last.query == {"key": "k", "service": "s", "code": "VALID", "since": "1767225600.0"}
    run("usage", "--key", "k", "--hours", "48", "--json")
    assert api.last.query == {"key": "k", "hours": "48"}
    run("secret", "list", "--service", "s")
    assert api.last.query == {"service": "s"}


def test_a_name_is_one_segment_of_the_path(run: Run, api: FakeApi) -> None:
    run("key", "show", "a/../b?c#d e")
    assert api.last.path == "/keys/a%2F..%2Fb%3Fc%23d%20e"
    assert run("key", "show", "..").code == 2


def test_a_limit_above_one_page_is_put_together(run: Run, api: FakeApi) -> None:
    event = {"call": "c", "end": None}
    api.answer(
        "GET", "/events", {"items": [event] * 200, "next": "two"}, {"items": [event] * 50, "next": "three"}
    )
    done = run("events", "--limit", "250", "--json")
    assert [request.query for request in api.requests] == [{"limit": "200"}, {"limit": "50", "cursor": "two"}]
    assert done.out.count('"call"') == 250
    assert done.out.endswith('"next": "three"}\n')


WRONG = [
    "service add openai", "service add openai --preset a --own", "service add openai --own --base-url http://x",
    "service add wx --base-url https://a.example --auth bearer --host nothing", "service change wx",
    "secret retire openai", "secret retire openai --all --version 1", "secret versions a/b/c", "secret versions /x",
    "secret versions x/", "network add office", "network add office 10.0.0.0/8 --interface lo", "key change key_1",
    "key change key_1 --rate 1/s --clear rate", "key issue openai --uses 0", "key issue openai --kind secret",
    "key check key_1 --method GET --path / --at tomorrow", "key issue openai --idempotency-key", "events --since x",
    "events --follow --limit 3", "party add ana --kind team", "nothing", "key nothing", "key issue --nothing openai",
    "usage --hours 0", "completion tcsh", "serve --workers 99", "serve --nothing", "",
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("network add both 1.2.3.0/24 --interface lo", "Too many kinds of addresses were given."),
        (
            "network add both --listener 10.0.0.1 --interface lo",
            "Too many kinds of addresses were given.",
        ),
        ("network add none", "It is not said which addresses."),
    ],
)
def test_too_many_kinds_of_addresses_are_told_from_none(run: Run, line: str, said: str) -> None:
    assert said in run(*line.split()).err


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("partner change", "--agreement acme-2028.toml --revive"),
        ("network add", "--listener 10.0.0.1:8300"),
        ("service add", "--max-body-mb 2000"),
        ("service add", "--base-url http://127.0.0.1:8080 --allow-private"),
    ],
)
def test_help_has_an_example_of_what_is_seldom_said(run: Run, line: str, option: str) -> None:
    assert option in run(*line.split(), "--help").out


@pytest.mark.parametrize("command", ["add wx --preset openai", "change wx"])
def test_what_the_server_notes_of_a_service_is_told(run: Run, api: FakeApi, command: str) -> None:
    verb, path = ("POST", "/services") if command.startswith("add") else ("PATCH", "/services/wx")
    api.answer(verb, path, {"name": "wx", "kind": "preset", "notes": ["That is too much."]})
    assert "That is too much." in run("service", *command.split(), "--max-body-mb", "9000").err


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_ends_with_2_and_asks_nobody(run: Run, api: FakeApi, line: str) -> None:
    done = run(*line.split())
    assert (done.code, done.out, api.requests) == (2, "", [])
    assert "Traceback" not in done.err
    assert done.err
