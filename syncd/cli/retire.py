"""``syncd retire``: the end of a migration, and undoing it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import config
from syncd.cli import output
from syncd.cli.acts import project_and_settings
from syncd.cli.findings import Line, number_of
from syncd.cli.options import Command, DryRun, Json, OnePath
from syncd.cli.output import Tone
from syncd.cycle.retirement import undoing
from syncd.errors import ExitCode, UsageError
from syncd.find import is_project
from syncd.names import CLAUDE_DIR
from syncd.retire import retire as engine
from syncd.retire.archive import Manifest
from syncd.retire.reinstate import Reinstating, reinstate
from syncd.retire.retire import Reason, Retiring
from syncd.shell import quoted

app = typer.Typer()


@app.command(cls=Command, epilog="Example: syncd retire ~/work/shop --dry-run")
def retire(
    path: OnePath = None,
    dry_run: DryRun = False,
    undo: Annotated[
        Path | None,
        typer.Option(
            "--undo",
            metavar="ARCHIVE",
            help="Bring the folders back from this archive, and syncd with them.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """End a migration: pack the message folders away, and remove syncd from the database.

    Only where both sides are equal and nothing waits for a person. The rows stay; files, history
    and journal go into one archive beside the database. It is safe to break off and to repeat.
    """
    if undo is not None:
        return _undo(path, undo, dry_run=dry_run, json=json)
    project, settings = project_and_settings(path)
    found = engine.retire(project, settings, dry_run=dry_run)
    if json:
        output.print_json(**_as_json(found, dry_run=dry_run))
    else:
        _print(found, dry_run=dry_run)
    if found.reasons:
        return ExitCode.HALTED if found.halted else ExitCode.ATTENTION
    return ExitCode.ATTENTION if found.left else ExitCode.IN_SYNC


def _as_json(found: Retiring, *, dry_run: bool) -> dict[str, Any]:
    known = found.known
    return {
        "project": str(found.project),
        "dry_run": dry_run,
        "retired": known.as_json() if known is not None else None,
        **_counts(found.manifest),
        "archive": str(_archive(found)) if found.archive else None,
        "archive_bytes": found.archive_bytes,
        "reasons": [{"text": one.text, "hint": one.hint} for one in found.reasons],
        "left": found.left,
    }


def _counts(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {"files": None, "bytes": None, "tables": None}
    return {"files": len(manifest.files), "bytes": manifest.bytes, "tables": manifest.tables}


def _archive(found: Retiring) -> Path:
    return found.project / CLAUDE_DIR / found.archive


def _print(found: Retiring, *, dry_run: bool) -> None:
    project = str(found.project)
    if found.reasons:
        output.say(f"{project}: cannot be retired, nothing was done", Tone.BAD)
        _print_reasons(found.reasons)
        return
    if found.known is None:
        output.say(f"{project}: would be retired")
    elif dry_run:
        done = found.known.is_done and not found.left
        output.say(f"{project}: is retired{'' if done else '; would remove what is left of it'}")
    else:
        words = "is retired already" if found.was_retired else "retired"
        output.say(f"{project}: {words}", Tone.GOOD)
    for text, tone in _details(found, dry_run=dry_run and found.known is None):
        output.say(text, tone)


def _details(found: Retiring, *, dry_run: bool) -> Iterator[Line]:
    manifest = found.manifest
    if manifest is not None:
        size = f" ({found.archive_bytes:,} bytes)" if found.archive_bytes is not None else ""
        files = f"{number_of(len(manifest.files), 'file')} ({manifest.bytes:,} bytes)"
        verb = "would pack" if dry_run else "packed"
        yield f"  {verb} {files} into {_archive(found)}{size}", Tone.PLAIN
        kept = ", ".join(
            number_of(manifest.tables.get(f"syncd_{name}", 0), *nouns)
            for name, *nouns in (
                ("history", "version"),
                ("journal", "journal entry", "journal entries"),
            )
        )
        verb = "would remove" if dry_run else "removed"
        yield f"  {verb} syncd's tables and triggers; the archive has their {kept}", Tone.PLAIN
    for path in found.left:
        yield f"  {path} stays: it is not in the archive, or open somewhere", Tone.ATTENTION
    if found.known is not None and not dry_run:
        yield f"  → Bring it all back: {undoing(found.project, found.known)}", Tone.HINT


def _print_reasons(reasons: list[Reason]) -> None:
    for reason in reasons:
        output.say(f"  {reason.text}", Tone.ATTENTION)
        if reason.hint:
            output.say(f"  → {reason.hint}", Tone.HINT)


# Undoing it


def _undo(path: Path | None, archive: Path, *, dry_run: bool, json: bool) -> int:
    if not archive.is_file():
        what = "it is no regular file" if archive.exists() else "there is no such file"
        raise UsageError(
            f"{archive} is no archive: {what}",
            hint="'syncd status PROJECT' names the archive of a project that is retired.",
        )
    archive = archive.resolve()
    around = archive.parent.parent
    if path is None and archive.parent.name == CLAUDE_DIR and is_project(around):
        project, settings = around, config.load(around)
    else:
        project, settings = project_and_settings(path)
    found = reinstate(project, archive, settings, dry_run=dry_run)
    if json:
        output.print_json(
            project=str(project),
            dry_run=dry_run,
            archive=str(archive),
            restored=not (dry_run or found.reasons or found.was_undone),
            **_counts(found.manifest),
            reasons=[{"text": one.text, "hint": one.hint} for one in found.reasons],
        )
    else:
        _print_undone(found, dry_run=dry_run)
    return ExitCode.ATTENTION if found.reasons else ExitCode.IN_SYNC


def _print_undone(found: Reinstating, *, dry_run: bool) -> None:
    project = str(found.project)
    files = number_of(len(found.manifest.files), "file")
    if found.reasons:
        output.say(f"{project}: cannot be restored, nothing was done", Tone.BAD)
        _print_reasons(found.reasons)
    elif found.was_undone:
        output.say(f"{project}: is not retired; there is nothing to undo")
    elif dry_run:
        output.say(f"{project}: would bring back {files} from {found.archive}")
    else:
        output.say(f"{project}: {files} brought back from {found.archive}", Tone.GOOD)
        call = f"syncd sync {quoted(project)}"
        output.say(f"  → Bring both sides in step: {call}, or let the agent do it", Tone.HINT)
