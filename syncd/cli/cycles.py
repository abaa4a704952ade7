"""``syncd sync``, ``migrate`` and ``resume``: one cycle per project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import config
from syncd.cli import output
from syncd.cli.acts import code_of, print_state
from syncd.cli.findings import deeds, number_of, retired
from syncd.cli.options import Command, DryRun, Json, OnePath, Paths, Prefer, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_project, chosen_projects, done_for_each, worst
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass
from syncd.cycle.report import Counts, Report, State
from syncd.errors import ConfigError, ExitCode, UsageError

app = typer.Typer()


@app.command(cls=Command, epilog="Example: syncd sync ~/work/shop --dry-run")
def sync(
    paths: Paths = None,
    recursive: Recursive = False,
    dry_run: DryRun = False,
    prefer: Prefer = None,
    json: Json = False,
) -> int:
    """Bring files and database in step: one full cycle, in both directions."""
    projects = chosen_projects(paths, recursive=recursive)
    return _cycles(projects, Orders(dry_run=dry_run), {"prefer": prefer}, "Syncing", json=json)


@app.command(cls=Command, epilog="Example: syncd migrate ~/work --recursive")
def migrate(
    paths: Paths = None,
    recursive: Recursive = False,
    force: Annotated[
        bool, typer.Option("--force", help="Read every file again, also where it looks unchanged.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Import the files into the database. No file is touched; it is safe to repeat."""
    projects = chosen_projects(paths, recursive=recursive)
    orders = Orders(one_way=True, trust_stamps=not force, dry_run=dry_run)
    return _cycles(projects, orders, {}, "Importing", json=json)


@app.command(cls=Command, epilog="Example: syncd resume ~/work/shop --restore")
def resume(
    path: OnePath = None,
    accept_deletes: Annotated[
        bool,
        typer.Option("--accept-deletes", help="Delete on the other side too what is gone on one."),
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring back what is gone on one side from the other.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> int:
    """Leave a halt, in one of two ways, with one full cycle."""
    if accept_deletes == restore:
        raise UsageError(
            "resume takes one of --accept-deletes and --restore",
            hint="'syncd status' tells what is gone; 'syncd resume --help' tells what they do.",
        )
    projects = [chosen_project(path)]
    orders = Orders(accept_deletes=accept_deletes, restore=restore, dry_run=dry_run)
    return _cycles(projects, orders, {}, "Resuming", json=json)


def _cycles(
    projects: list[Path], orders: Orders, flags: dict[str, Any], label: str, *, json: bool
) -> int:
    """Run one cycle over each project, print what they did; return the exit code over all."""
    config.load(flags=flags)  # a wrong setting that concerns all is said once, before anything
    reports: list[Report] = []
    codes: list[ExitCode] = []
    with done_for_each(projects, partial(_one, orders, flags)) as passes:
        for report, code in output.with_progress(passes, len(projects), label):
            reports.append(report)
            codes.append(code)
            if not json:
                _print(report, dry_run=orders.dry_run)
    if json:
        entries = [report.as_json() for report in reports]
        output.print_json(projects=entries)
    elif len(reports) > 1:
        _print_total(reports, dry_run=orders.dry_run)
    return worst(codes)


def _one(orders: Orders, flags: dict[str, Any], project: Path) -> tuple[Report, ExitCode]:
    try:
        settings = config.load(project, flags=flags)
    except ConfigError as error:  # one project's mistake never stops the rest
        report = Report(str(project))
        report.note_error(error)
        return report, error.exit_code
    report = run_pass(project, settings, orders)
    code = code_of(report)
    is_left = bool(report.unsettled or report.vanished)
    return report, ExitCode.BUSY if is_left and code is ExitCode.IN_SYNC else code


def _print(report: Report, *, dry_run: bool) -> None:
    is_halted = report.halt is not None
    if report.error is None and not is_halted:
        known = report.retired
        done = (
            f"{retired(known)}; it is left alone"
            if known
            else deeds(report.counts, dry_run=dry_run)
        )
        output.say(f"{report.path}: {done}")
    print_state(report, done=not is_halted)
    if report.error is not None:
        return
    for name in sorted(report.unsettled):
        output.say(f"  {name} was changing meanwhile; the next cycle takes it", Tone.ATTENTION)
    for name in report.late:
        output.say(f"  {name} is a replaced file that somebody still has open", Tone.ATTENTION)


def _print_total(reports: list[Report], *, dry_run: bool) -> None:
    columns = zip(*(astuple(report.counts) for report in reports), strict=True)
    total = Counts(*map(sum, columns))
    line = f"{number_of(len(reports), 'project')}: {deeds(total, dry_run=dry_run)}"
    output.say("; ".join([line, *_in_words(reports)]))


def _in_words(reports: list[Report]) -> Iterator[str]:
    for state, words in (
        (State.ATTENTION, "to look at"),
        (State.HALTED, "halted"),
        (State.ERROR, "failed"),
    ):
        number = sum(report.state is state for report in reports)
        if number:
            yield f"{number:,} {words}"
