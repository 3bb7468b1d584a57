"""Names that scripts rely on, help with examples for every command, and how little `--help` imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import msgspec
import pytest
from cli_world import Run

from valetkey.cli.commands.key_terms import CLEARABLE
from valetkey.cli.commands.server import HELP
from valetkey.cli.grammar import Command, Group
from valetkey.cli.main import root
from valetkey.keys.drafting import Terms
from valetkey.settings import Settings

VERBS = {
    "init": "", "serve": "", "demo": "", "status": "", "doctor": "", "events": "", "usage": "", "completion": "",
    "help": "",
    "service": "add list show change lock unlock remove credential credentials", "secret": "set list versions retire",
    "network": "add list remove", "party": "add list",
    "key": "issue derive list find show check change suspend resume revoke unpin",
    "audit": "list verify proof erase", "token": "issue list revoke", "limit": "change list", "clock": "accept",
    "vault": "rewrap",
    "partner": "add list show change end",
}  # fmt: skip
FLAGS = {
    "serve": "--workers --listen --public-name --allow-plain --trusted-proxy --control-port --gateway-port",
    "demo": "--keep",
    "service add": "--preset --own --base-url --auth --allow-private --host --price --ca-file --allow-plain-upstream",
    "service credential": "--revoke --json",
    "secret list": "--service --json",
    "key list": "--service --holder --state --last4 --limit --cursor --json",
    "secret set": "--name --environment --key-file --strict",
    "network add": "--interface --listener",
    "limit change": "--holder --service --rate --burst --concurrency --quota --bytes --budget --clear --json",
    "key issue": "--kind --holder --label --environment --network --origin --endpoint --deny-endpoint --rate --burst"
    " --concurrency --quota --budget --bytes --uses --expires --schedule --sticky --with-session --session-pid --json",
    "key revoke": "--let-finish --json",
    "key suspend": "--let-finish --json",
    "key resume": "--let-finish --json",
    "key check": "--method --path --address --origin --at --json",
    "events": "--key --service --code --since --limit --cursor --follow --json",
    "audit verify": "--json",
    "audit proof": "--check --key --json",
    "audit erase": "--party --older-than --yes --json",
    "doctor": "--json",
}
HEAVY = (
    "rich",
    "litestar",
    "sqlalchemy",
    "granian",
    "aiohttp",
    "msgspec",
    "cryptography",
    "ssl",
    "http.client",
)


def commands(group: click.Group = root, before: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{before}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")


ALL = dict(commands())


def flags_of(name: str) -> set[str]:
    return {flag for parameter in ALL[name].params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_the_verbs_are_those_that_were_promised() -> None:
    expected = set(VERBS) | {f"{noun} {verb}" for noun, verbs in VERBS.items() for verb in verbs.split()}
    assert set(ALL) == expected


@pytest.mark.parametrize("name", FLAGS)
def test_the_flags_are_those_that_were_promised(name: str) -> None:
    assert set(FLAGS[name].split()) <= flags_of(name)


def test_every_command_that_answers_can_answer_in_json() -> None:
    groups = {name for name, command in ALL.items() if isinstance(command, click.Group)}
    assert {name for name in ALL if "--json" not in flags_of(name)} - groups == {
        "serve",
        "completion",
        "help",
    }


@pytest.mark.parametrize("name", ALL)
def test_help_has_a_summary_and_examples_that_parse(run: Run, name: str) -> None:
    command = ALL[name]
    assert isinstance(command, (Command, Group))
    assert command.help
    assert command.examples
    done = run(*name.split(), "--help")
    assert done.code == 0
    assert "Examples:" in done.out
    for example in command.examples:
        assert example in done.out
        assert name.split()[0] in example


@pytest.mark.parametrize(
    "name", [name for name, command in ALL.items() if not isinstance(command, click.Group)]
)
def test_every_flag_and_argument_is_explained(name: str) -> None:
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_the_list_of_commands_says_what_their_modules_say() -> None:
    for name, entry in root.entries.items():  # type: ignore[attr-defined]
        text = " ".join((ALL[name].help or "").split())
        assert text.startswith(entry.summary), name


def test_every_restriction_and_limit_has_its_flag() -> None:
    names = {parameter.name for parameter in ALL["key issue"].params}
    assert set(Terms.__struct_fields__) - {"clear"} <= names
    assert set(Terms.__struct_fields__) <= {parameter.name for parameter in ALL["key change"].params}
    assert {f"--{flag}" for flag in CLEARABLE} <= flags_of("key change")


def test_every_setting_is_a_flag_of_serve_with_its_own_words() -> None:
    fields = set(Settings.__struct_fields__)
    assert {f"--{name.replace('_', '-')}" for name in fields} <= flags_of("serve")
    assert set(HELP) == fields


def test_serve_hands_on_only_what_was_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from valetkey.server import main

    asked = []
    monkeypatch.setattr(main, "serve", lambda home, flags: asked.append((home.folder, flags)))
    assert run("serve").code == 0
    done = run(
        "serve", "--workers", "2", "--public-name", "a.example", "--public-name", "b.example", "--allow-plain",
        "--control-port", "0", "--idle-timeout", "1.5",
    )  # fmt: skip
    assert done.code == 0
    assert [flags for _, flags in asked] == [
        {},
        {
            "workers": 2, "public_name": ("a.example", "b.example"), "allow_plain": True, "control_port": 0,
            "idle_timeout": 1.5,
        },
    ]  # fmt: skip
    msgspec.convert(asked[1][1], Settings)
    assert done.err == "Stopped.\n"


def test_init_and_demo_are_run_where_they_stand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from valetkey.demo import story
    from valetkey.server import main

    asked = []
    monkeypatch.setattr(main, "init", lambda home: asked.append(home.folder))
    monkeypatch.setattr(story, "run", lambda *, keep, json: asked.append((keep, json)))
    done = run("init", "--json")
    assert done.out == f'{{"home": "{asked[0]}"}}\n'
    run("demo", "--keep")
    assert asked[1] == (True, False)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from valetkey.cli.main import main\n"
        "code = main(['--help'])\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], code, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[] 0\n"


def test_a_client_command_imports_neither_server_nor_store() -> None:
    program = (
        "import sys\n"
        "from valetkey.cli.main import main\n"
        "for command in (['key', 'list'], ['secret', 'list'], ['events'], ['service', 'show', 'x']): main(command)\n"
        "rooms = ('valetkey.store', 'valetkey.gateway', 'valetkey.vault', 'valetkey.api', 'sqlalchemy', 'msgspec')\n"
        "print([m for m in rooms if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, env={"VALETKEY_HOME": "/nonexistent/valetkey"},
    )  # fmt: skip
    assert done.stdout == "[]\n"
    assert done.stderr.count("There is no data folder at /nonexistent/valetkey.") == 4


@pytest.mark.parametrize(
    ("typed", "meant"), [("kye", "key"), ("servce", "service"), ("key isue", "key issue")]
)
def test_a_mistyped_command_gets_a_suggestion(run: Run, typed: str, meant: str) -> None:
    done = run(*typed.split())
    assert done.code == 2
    assert f"Did you mean 'valetkey {meant}'?\n" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(run: Run, shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_VALETKEY_COMPLETE" in done.out


def test_the_completion_script_finds_commands_and_flags(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_VALETKEY_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "valetkey key iss")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run().out == "plain,issue\n"


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").out.startswith("valetkey ")
