"""``syncd repair``: files that syncd can read and the old client cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from syncd.cli import output
from syncd.cli.acts import code_of, print_state, project_and_settings
from syncd.cli.findings import deeds, number_of
from syncd.cli.options import Command, DryRun, Json, OnePath
from syncd.cli.output import Tone
from syncd.cycle import cycle
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass
from syncd.cycle.report import Counts
from syncd.database.store import Store
from syncd.errors import ExitCode
from syncd.files.replica import FileReplica
from syncd.repair import Repair, repair_files

app = typer.Typer()


@app.command(cls=Command, epilog="Example: syncd repair ~/work/shop --dry-run")
def repair(path: OnePath = None, dry_run: DryRun = False, json: Json = False) -> int:
    """Rewrite, value by value, the files that the old client cannot read.

    Their former bytes go to the history.
    """
    project, settings = project_and_settings(path)
    found: list[Repair] = []

    def mend(store: Store) -> None:
        if cycle.run(project, store, settings, Orders(dry_run=True)).halt is not None:
            return  # nothing is applied; the cycle that follows tells of it
        with FileReplica(project, max_bytes=settings.max_bytes) as files:
            found.extend(repair_files(project, store, files, dry_run=dry_run))

    report = run_pass(project, settings, Orders(dry_run=dry_run), before=mend)
    failed = [one for one in found if one.failure]
    if json:
        output.print_json(
            project=str(project),
            dry_run=dry_run,
            files=[_as_json(one) for one in found],
            cycle=report.as_json(),
        )
    else:
        for one in found:
            stays = f"; it stays: {one.failure}" if one.failure else ""
            tone = Tone.ATTENTION if one.failure else Tone.PLAIN
            output.say(f"  {one.path}: {one.problem}{stays}", tone)
        if report.error is None and report.halt is None:
            words = ", ".join(_words(found, len(failed), report.counts, dry_run=dry_run))
            output.say(f"{project}: {words}", Tone.ATTENTION if failed else Tone.GOOD)
        print_state(report, done=report.halt is None)
    code = code_of(report)
    return ExitCode.ATTENTION if failed and code == ExitCode.IN_SYNC else code


def _words(found: list[Repair], failed: int, counts: Counts, *, dry_run: bool) -> Iterator[str]:
    if len(found) > failed:
        verb = "would repair" if dry_run else "repaired"
        yield f"{verb} {number_of(len(found) - failed, 'file')}"
    if failed:
        yield f"{number_of(failed, 'file')} cannot be repaired"
    if not found:
        yield "nothing to repair"
    if counts.changes():
        yield deeds(counts, dry_run=dry_run)


def _as_json(one: Repair) -> dict[str, Any]:
    return {"path": one.path, "problem": one.problem, "failure": one.failure or None}
