"""``valetkey help``: what ``--help`` says, for those who ask first and name the command after."""

from __future__ import annotations

import click

from valetkey.cli.grammar import Command


@click.command("help", cls=Command, examples=("valetkey help", "valetkey help key issue"))
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def helping(context: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    at = context.find_root()
    for word in words:
        command = at.command
        if not isinstance(command, click.Group):
            raise click.UsageError(f"{at.command_path} has no commands of its own.")
        _, child, _ = command.resolve_command(at, [word])
        assert child is not None
        at = click.Context(child, info_name=word, parent=at)
    click.echo(at.get_help())
