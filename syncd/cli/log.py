"""``syncd log``: the journal, what was done to which message, in which direction, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from syncd import history
from syncd.cli import output
from syncd.cli.acts import SIDES, AnyMessageId, opened, project_and_settings
from syncd.cli.findings import Line, local_time, number_of
from syncd.cli.options import Command, OfProject
from syncd.cli.output import Tone
from syncd.cli.when import moment
from syncd.core.journal import COMMANDED, HALTED, QUARANTINED, RELEASED, RESUMED, JournalEntry
from syncd.core.reconcile import Step
from syncd.core.sides import Side
from syncd.database.sqlite_errors import translated
from syncd.errors import SyncdError
from syncd.follow import follow as follow_journal
from syncd.names import database_of

app = typer.Typer()


@app.command(cls=Command, epilog="Example: syncd log --since yesterday --follow")
def log(
    message_id: AnyMessageId = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="WHEN",
            help="Only what was done since then: 2026-02-20, 2026-02-20T20:15, 90m, 2h, 3d, 1w, "
            "today, yesterday.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until Ctrl-C.")
    ] = False,
    of_project: OfProject = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --follow, one a line.")
    ] = False,
) -> int:
    """Tell what was done to which message, in which direction and why, the newest last."""
    project, settings = project_and_settings(of_project)
    start = moment(since).isoformat() if since is not None else ""
    with opened(project) as store, translated(store.path):
        key = None
        if message_id is not None:
            key = history.find(store, message_id, also="syncd_journal")
        if follow:
            store.close()
            return _follow(project, key, start, json=json)
        # No snapshot is held: the entries may go to a pager, which takes its time.
        entries = store.chronicle.each_entry(message_id=key, since=start)
        if json:
            found = [_as_json(entry) for entry in entries]
            output.print_json(project=str(project), journal=found)
            return 0
        number = _print(entries)
    what = f"{number_of(number, 'entry', 'entries')} of {key or 'all messages'}"
    output.tell(f"{what}, kept for {settings.journal_days:g} days")
    return 0


def _follow(project: Path, key: str | None, start: str, *, json: bool) -> int:
    entries = follow_journal(
        database_of(project),
        message_id=key,
        since=start,
        on_trouble=_tell_trouble,
        pause=output.pause,
    )
    with suppress(KeyboardInterrupt):  # the way to end it
        for entry in entries:
            if json:
                output.print_object(indent=None, **_as_json(entry))
            else:
                _print([entry])
            sys.stdout.flush()
    return 0


def _tell_trouble(error: SyncdError) -> None:
    output.tell(f"{error.sentence}; waiting for it", Tone.ATTENTION)


def _print(entries: Iterable[JournalEntry]) -> int:
    """Print a line for each entry; return how many there were."""
    number = 0
    for entry in entries:
        number += 1
        output.say(*line_of(entry))
    return number


def line_of(entry: JournalEntry, where: str = "") -> Line:
    """Return an entry as a line for people; ``where`` names the project, among several."""
    what = entry.path if entry.side is None and entry.path else entry.id
    parts = (local_time(entry.at), where, f"{_direction(entry):14}", what, _words(entry))
    return "  ".join(str(part) for part in parts if part), _tone(entry)


def _direction(entry: JournalEntry) -> str:
    """Return from where to where a change went."""
    if entry.side is None:
        return str(entry.step)
    source = "command" if entry.why == COMMANDED else SIDES[_OTHER.get(entry.side, Side.DB)]
    return f"{source} → {SIDES.get(entry.side, entry.side)}"


_OTHER: dict[str, Side] = {Side.DB: Side.FILE, Side.FILE: Side.DB}
_DONE: dict[str, str] = {Step.CREATE: "created", Step.UPDATE: "updated", Step.DELETE: "deleted"}
_NOTED: dict[str, Tone] = {
    QUARANTINED: Tone.ATTENTION,
    RELEASED: Tone.GOOD,
    HALTED: Tone.BAD,
    RESUMED: Tone.GOOD,
}


def _words(entry: JournalEntry) -> str:
    if entry.side is None:
        return entry.why or ""
    fields = f" {entry.fields.replace(',', ', ')}" if entry.fields else ""
    path = entry.path or ""
    # A file that bears its message's id as its name needs no naming.
    where = "" if path.rpartition("/")[2] in ("", f"{entry.id}.md") else f" {path}"
    who = f", {entry.agent} in {entry.project}" if entry.agent and entry.project else ""
    return f"{_DONE.get(entry.step, entry.step)}{where}{fields}: {entry.why}{who}"


def _tone(entry: JournalEntry) -> Tone:
    if entry.side is None:
        return _NOTED.get(entry.step, Tone.PLAIN)
    if entry.step == Step.DELETE or len(entry.origins) > 1:
        return Tone.ATTENTION
    return Tone.PLAIN


def _as_json(entry: JournalEntry) -> dict[str, Any]:
    has_author = entry.agent is not None or entry.project is not None
    return {
        "number": entry.seq,
        "at": entry.at,
        "id": entry.id,
        "side": entry.side,
        "step": entry.step,
        "fields": entry.fields.split(",") if entry.fields else [],
        "why": entry.why,
        "path": entry.path,
        "origins": [str(side) for side in entry.origins],
        "by": {"agent": entry.agent, "project": entry.project} if has_author else None,
    }
