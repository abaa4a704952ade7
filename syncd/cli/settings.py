"""``syncd config``: the settings, their values, and where each came from."""

from __future__ import annotations

import json as encoder
from pathlib import Path

import typer

from syncd.cli import output
from syncd.cli.options import Command, Group, Json, OnePath, Prefer
from syncd.cli.output import Tone
from syncd.config import ENVIRONMENT_PREFIX, Origin, load_with_origins
from syncd.errors import UsageError
from syncd.find import current_folder, named_project, project_around

_commands = typer.Typer()
app = typer.Typer()
app.add_typer(_commands, name="config", cls=Group, epilog="Example: syncd config show")


@_commands.callback()
def _config() -> None:
    """See the settings and where they come from."""


@_commands.command(cls=Command, epilog="Example: syncd config show ~/work/shop --json")
def show(path: OnePath = None, prefer: Prefer = None, json: Json = False) -> int:
    """Show every setting: its value, where that came from, and what it means."""
    project = named_project(path) if path else _project_here()
    _, origins = load_with_origins(project, flags={"prefer": prefer})
    if json:
        settings = [
            {
                "name": origin.name,
                "value": origin.value,
                "origin": origin.source,
                "meaning": origin.what,
            }
            for origin in origins
        ]
        where = str(project) if project else None
        output.print_json(project=where, settings=settings)
        return 0
    for origin in origins:
        changed = origin.source != "default"
        value = encoder.dumps(origin.value)
        line = f"{origin.name} = {value}  ({_source(origin)})"
        output.say(line, Tone.GOOD if changed else Tone.PLAIN)
        output.say(f"    {origin.what}")
    return 0


def _source(origin: Origin) -> str:
    if origin.source == "environment":
        return f"environment: {ENVIRONMENT_PREFIX}{origin.name.upper()}"
    return f"flag: --{origin.name}" if origin.source == "flag" else origin.source


def _project_here() -> Path | None:
    """Return the project around the current folder; None outside of any: the user's settings."""
    try:
        return project_around(current_folder())
    except UsageError:
        return None
