"""``valetkey completion``: the script that lets a shell complete commands and flags."""

from __future__ import annotations

import click

from valetkey.cli.grammar import Command

VARIABLE = "_VALETKEY_COMPLETE"
"""How the script asks for completions: Click's convention for a program of this name."""


@click.command(
    "completion",
    cls=Command,
    examples=(
        'eval "$(valetkey completion bash)"',
        'eval "$(valetkey completion zsh)"',
        "valetkey completion fish > ~/.config/fish/completions/valetkey.fish",
    ),
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    print(script(context.find_root().command, {}, "valetkey", VARIABLE).source())
