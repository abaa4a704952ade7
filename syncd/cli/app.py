"""The commands by name. Only the one that is asked for is imported: none pays for another."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException
from typer.main import get_command, get_group

from syncd import __version__
from syncd.cli.options import Group
from syncd.cli.output import say
from syncd.errors import ExitCode, UsageError

_MODULES = {
    "run": "run",
    "sync": "cycles",
    "migrate": "cycles",
    "status": "status",
    "log": "log",
    "report": "report",
    "conflicts": "conflicts",
    "resolve": "conflicts",
    "history": "undo",
    "show": "undo",
    "restore": "undo",
    "resume": "cycles",
    "repair": "repair",
    "doctor": "doctor",
    "verify": "verify",
    "retire": "retire",
    "service": "service",
    "config": "settings",
    "message": "messages",
}
"""The module of each command, in the order of the help."""


class _Commands(Group):
    """A group whose commands stand in modules of their own, each with a typer app ``app``."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _MODULES:
            return None
        if cmd_name not in self.commands:
            module = import_module(f"syncd.cli.{_MODULES[cmd_name]}")
            self.commands.update(get_group(module.app).commands)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in _MODULES:  # a typing error: all names are needed to find the nearest
            for name in _MODULES:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"syncd {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands,
    epilog="Example: syncd sync ~/work --recursive --dry-run",
    pretty_exceptions_enable=False,
)


@app.callback()
def _top(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep legacy markdown message folders and a SQLite database in two-way sync."""


def run(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code. Raises `UsageError` for what typer does not take."""
    command = get_command(app)
    if not arguments:
        command.main(args=["--help"], prog_name="syncd", standalone_mode=False)
        return ExitCode.USAGE
    try:
        code = command.main(args=list(arguments), prog_name="syncd", standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        name = context.command_path if context is not None else "syncd"
        sentence = " ".join(error.format_message().split())  # it lists choices in lines
        raise UsageError(sentence, hint=f"'{name} --help' tells what it takes.") from error
    return int(code or 0)
