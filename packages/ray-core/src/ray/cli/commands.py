"""What the commands of ``ray`` have in common: help that ends with the exit codes, and data as a table or as JSON."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from ray.cli.exits import MEANINGS

F = TypeVar("F", bound=Callable[..., Any])
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class RayCommand(click.Command):
    """A command that returns its exit code, and lists the exit codes in its help."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_exit_codes(formatter)


class Commands(click.Group):
    """The ``ray`` command: each of its own commands is a module that is imported only when it is asked for."""

    def __init__(self, own: dict[str, tuple[str, str]], **attributes: Any) -> None:
        """Import nothing.

        Args:
            own: ``{name: (module:attribute, one line of help)}``.
            attributes: of the group.
        """
        super().__init__(**attributes)
        self._own = own
        self._brought: dict[str, click.Command] | None = None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self._own, *self._of_plugins()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._own:
            module, _, attribute = self._own[cmd_name][0].partition(":")
            command: click.Command = getattr(importlib.import_module(module), attribute)
            return command
        return self._of_plugins().get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None:
            if name.startswith("-"):
                self.parse_args(ctx, args)  # says that there is no such option
            from ray.config import did_you_mean
            from ray.later_names import sentence

            hint = sentence("the command 'ray'", name) or did_you_mean(name, self.list_commands(ctx))
            ctx.fail(f"there is no command {name!r}.{hint}")
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        summaries = {name: summary for name, (_, summary) in self._own.items()}
        summaries.update({name: command.short_help or "" for name, command in self._of_plugins().items()})
        with formatter.section("Commands"):
            formatter.write_dl(sorted(summaries.items()), col_spacing=2)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        write_exit_codes(formatter)

    def _of_plugins(self) -> dict[str, click.Command]:
        """They cost a resolved plan, so they are asked for only when they may be needed."""
        if self._brought is None:
            self._brought = contributed()
        return self._brought


def contributed() -> dict[str, click.Command]:
    """Commands of plugins. Whatever a plugin does wrong must not take the help away."""
    from ray.plugins import Composition, resolve_plan

    try:
        return {entry.name: _wrapped(entry) for entry in Composition(resolve_plan()).commands()}
    except Exception as error:
        click.echo(f"ray: commands of plugins are not available: {type(error).__name__}: {error}", err=True)
        return {}


def _wrapped(entry: Any) -> click.Command:
    """A command of a plugin, which gets all that comes after its name, ``--help`` included."""

    def run(arguments: Sequence[str]) -> int:
        code: int = entry.run(list(arguments))
        return code

    return click.Command(
        entry.name,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        callback=run,
        short_help=entry.summary,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )


def write_exit_codes(formatter: click.HelpFormatter) -> None:
    """The last part of every help text."""
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code), meaning) for code, meaning in MEANINGS.items()])


def command(name: str) -> Callable[[Callable[..., int]], RayCommand]:
    """Decorator: a command whose help is the docstring's first paragraph, and whose result is its exit code."""
    return click.command(name, cls=RayCommand, context_settings=HELP_OPTIONS)


def with_format(function: F) -> F:
    """Decorator: the ``--format`` that every reading command has."""
    choice = click.Choice(("table", "json"))
    return click.option("--format", "form", type=choice, default="table", show_default=True, help="How to print.")(
        function
    )
