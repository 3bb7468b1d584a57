"""How commands are written: each has examples in its help, mistakes get a suggestion, modules load on use."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from valetkey.cli.failure import ExitCode, Failure
from valetkey.nearest import did_you_mean

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_COMMAND_NAME = re.compile(r"[a-z][a-z-]{0,19}")
"""A word that may be repeated in an error. Anything else could be a key that was pasted by mistake."""
_OPTION_NAME = re.compile(r"--?[a-z][a-z0-9-]{0,29}")
"""The same for options."""
_SUMMARY = 200
"""Characters of a command's line in its group's help: whole sentences, which the page wraps."""


class _Spoken(click.Command):
    """A command whose help ends in examples and whose errors never repeat stray arguments."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[str] = (),
        stray: str = "",
        sections: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.option_sections = sections or {}
        """Headings of the help with the names of the options below each; what is in none stands under Other."""
        self.stray = stray
        """What to do about arguments too many, where that is special."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  {example}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.option_sections:
            super().format_options(ctx, formatter)
            return
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
        }
        sections = {
            heading: [records.pop(name) for name in names if name in records]
            for heading, names in self.option_sections.items()
        }
        for heading, rows in {**sections, "Other": list(records.values())}.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(self._no_such_option(ctx, error.option_name), ctx) from None
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            # A stray argument may be a key: it is not repeated on the terminal or in a log.
            if type(error) is click.UsageError and "extra argument" in error.message:
                raise Failure(
                    "There are more arguments than this command takes.",
                    self.stray or f"See: {ctx.command_path} --help",
                    ExitCode.USAGE,
                ) from None
            raise

    def _no_such_option(self, ctx: click.Context, typed: str) -> str:
        if not _OPTION_NAME.fullmatch(typed):
            return "There is no such option."
        names = {
            name
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and not parameter.hidden
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        return f"There is no option {typed}. {did_you_mean(typed, names)}".rstrip()


class Command(_Spoken):
    """One command."""


class Group(_Spoken, click.Group):
    """A noun with its verbs."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, command.get_short_help_str(_SUMMARY))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            named = _COMMAND_NAME.fullmatch(error.command_name) is not None
            raise Failure(
                f"There is no command {ctx.command_path} {error.command_name}."
                if named
                else f"That is no command of {ctx.command_path}.",
                self._suggestion(ctx, error.command_name),
                ExitCode.USAGE,
            ) from None

    def _suggestion(self, ctx: click.Context, name: str) -> str:
        meant = did_you_mean(name, self.list_commands(ctx), f"{ctx.command_path} ")
        return meant or f"See: {ctx.command_path} --help"


class Entry(NamedTuple):
    """A command that is imported when it is used."""

    where: str
    """``module:attribute``."""
    summary: str
    """Its line in the list of commands."""


class LazyGroup(Group):
    """The root: its help is written from `sections` alone, without importing a command."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()], col_max=14)


def group(name: str, *, examples: Sequence[str]) -> Callable[[Callable[..., Any]], Group]:
    """Decorator: a noun."""
    return click.group(name, cls=Group, examples=examples)


def json_flag(function: Decorated) -> Decorated:
    """Adds ``--json``, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")(function)


def paging(function: Decorated) -> Decorated:
    """Adds ``--limit`` and ``--cursor``."""
    function = click.option("--cursor", metavar="C", help="Go on where a page ended (its `next`).")(function)
    return click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")(function)


def repeated(command: str, **flags: Any) -> str:
    """The command with the flags that were given, as a shell takes it: for the next page of the same list."""
    words = [command]
    for name, value in flags.items():
        if value is not None:
            words += [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)


def given(**values: Any) -> dict[str, Any]:
    """What was said on the command line: without what is None or empty."""
    return {name: value for name, value in values.items() if value is not None and value != ()}
