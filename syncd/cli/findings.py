"""What a cycle did and what a look found, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.cli.output import Tone
from syncd.core.sides import Side
from syncd.cycle.report import Counts, Report
from syncd.cycle.report import number_of as number_of

if TYPE_CHECKING:
    from syncd.cycle.retirement import Retirement
    from syncd.database.chronicle import QuarantineEntry

Line = tuple[str, Tone]

_VERBS = {
    "inserted": "insert",
    "updated": "update",
    "deleted": "delete",
    "created": "create",
    "moved": "move",
}


def by_local_clock(moment: str) -> datetime | None:
    """Return a time by the clock here; None for a text that is none, or a year that it lacks."""
    try:
        return datetime.fromisoformat(moment).astimezone()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def local_time(moment: str) -> str:
    """Return a time as a person reads it; as it is where it is none."""
    found = by_local_clock(moment)
    return found.isoformat(" ", "seconds") if found is not None else str(moment)


def ago(moment: str) -> str:
    """Return how long ago a time was; the time itself where it is to come, or is none."""
    found = by_local_clock(moment)
    if found is None:
        return str(moment)
    seconds = int((datetime.now().astimezone() - found).total_seconds())
    if seconds < 0:
        return local_time(moment)
    for unit, name, most in ((1, "s", 120), (60, "min", 120), (3600, "h", 48)):
        if seconds < unit * most:
            return f"{seconds // unit} {name} ago"
    return f"{number_of(seconds // 86_400, 'day')} ago"


def deeds(counts: Counts, *, dry_run: bool) -> str:
    """Return what was done, or in a dry run what would be."""
    if not dry_run:
        return str(counts)
    steps = [f"{_VERBS[done]} {things}" for things, done in counts.steps()]
    return f"would {', '.join(steps)}" if steps else "would change nothing"


def retired(known: Retirement) -> str:
    """Return in a few words since when a project is retired, and where its files are."""
    words = {"retiring": "being retired since", "restoring": "being restored; retired on"}
    return f"{words.get(known.stage, 'retired on')} {known.at[:10]}, archive {known.archive}"


def _retirement(report: Report, known: Retirement) -> Iterator[Line]:
    """Yield what is left to do in a retired project."""
    from syncd.cycle.retirement import undoing
    from syncd.shell import quoted  # few projects are retired

    undo = undoing(Path(report.path), known)
    if known.stage == "retiring":
        yield "  retiring it was cut off: not all that is packed is removed", Tone.ATTENTION
        yield f"  → Finish it: syncd retire {quoted(report.path)}", Tone.HINT
    elif known.stage == "restoring":
        yield "  restoring it was cut off: not all is back", Tone.ATTENTION
        yield f"  → Finish it: {undo}", Tone.HINT
    elif report.left:
        for path in report.left:
            yield f"  {path} stands there, and no new client sees it", Tone.ATTENTION
        project = quoted(report.path)
        yield (
            "  → If an old client wrote it, bring the folders back and all in step: "
            f"{undo} && syncd sync {project}",
            Tone.HINT,
        )
        yield f"  → If it was only open somewhere, remove it: syncd retire {project}", Tone.HINT


def problems(report: Report) -> Iterator[Line]:
    """Yield what a person should know of or decide: halt, quarantine, conflicts, retirement."""
    if report.retired is not None:
        yield from _retirement(report, report.retired)
    if report.halt is not None:
        yield f"  halted, nothing is applied: {report.halt.cause}", Tone.BAD
        for way in report.halt.ways_out(report.path):
            yield f"  → {way}", Tone.HINT
    for entry in report.quarantined:
        yield f"  {quarantined(entry)}", Tone.ATTENTION
    for conflict in report.conflicts:
        winner, loser = ("file", "row") if conflict.winner == Side.FILE else ("row", "file")
        kept = f"is version {conflict.version} in" if conflict.version else "would go to"
        yield (
            f"  conflict in {conflict.id}, {conflict.field}: the {winner}'s value stands, "
            f"the {loser}'s {kept} the history",
            Tone.ATTENTION,
        )


def quarantined(entry: QuarantineEntry) -> str:
    """Return in one line what is left alone, why, and the way out."""
    problem = entry.problem
    place = f"{entry.path}:{problem.line}" if problem.line is not None else entry.path
    hint = f" → {problem.hint}" if problem.hint else ""
    return f"{place}: {problem.reason}{hint}"
