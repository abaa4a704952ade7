"""The options and arguments that commands share, and how they are read."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from syncd.cli import output


class Command(TyperCommand):
    """A command whose parameters are read quickly."""

    def get_params(self, ctx: Any) -> Any:
        return _read_quickly(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        # What a pass makes is freed by its count; what it still holds need not be looked through
        # each time that a few hundred more are made, which doubles the time of a large import.
        gc.freeze()
        gc.set_threshold(100_000, 20, 20)
        gc.enable()
        output.begin()
        return super().invoke(ctx)


class Group(TyperGroup):
    """A group of commands whose own parameters are read quickly."""

    def get_params(self, ctx: Any) -> Any:
        return _read_quickly(super().get_params(ctx))


def _read_quickly(parameters: Any) -> Any:
    """Have these parameters read without pydantic, where that is possible.

    typer 0.29 converts every value with it, also that of a flag that is not given, and its import
    takes longer than all the rest of a start. Where a typer has no such step, the parameters are
    read as it does.
    """
    for parameter in parameters:
        if hasattr(parameter, "_runtime_param"):
            parameter._runtime_param = _QuickReader()
    return parameters


class _QuickReader:
    """Reads what is not given, texts, paths and choices; leaves all else to typer."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        wanted = param.type_descriptor.annotation
        if value is None or value == ():
            return value
        if wanted is str and isinstance(value, str):
            return value
        if wanted in (Path, list[Path]):
            texts = [value] if wanted is Path else value
            if "" in texts:  # which `Path` takes for the current folder
                raise typer.BadParameter("the path is empty.", ctx=ctx, param=param)
            paths = [Path(one) for one in texts]
            return paths[0] if wanted is Path else paths
        if get_origin(wanted) is Literal:
            if value in get_args(wanted):
                return value
            choices = ", ".join(map(repr, get_args(wanted)))
            raise typer.BadParameter(f"{value!r} is not one of {choices}.", ctx=ctx, param=param)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH",
        help="Projects; with --recursive, folders of projects. "
        "Without one: the project around the current folder.",
    ),
]
OnePath = Annotated[
    Path | None,
    typer.Argument(
        metavar="PATH", help="A project. Without one: the project around the current folder."
    ),
]
OfProject = Annotated[
    Path | None,
    typer.Option(
        "--project",
        metavar="PATH",
        help="The project. Without it: the project around the current folder.",
    ),
]
MessageId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="A message's id, or as much of its beginning as no other has."
    ),
]
Recursive = Annotated[
    bool,
    typer.Option(
        "--recursive",
        help="Take every project at or below PATH; without PATH, below the current folder.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Change nothing; tell what would be done.")
]
Poll = Annotated[
    bool, typer.Option("--poll", help="Look at the folders at intervals, where events do not work.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Prefer = Annotated[
    Literal["file", "db"] | None,
    typer.Option(
        "--prefer",
        metavar="file|db",
        help="The side that wins a conflict, in place of the setting.",
    ),
]
