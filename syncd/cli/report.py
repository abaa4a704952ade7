"""``syncd report``: how far the migration is, and which projects no longer need their files."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from stat import S_IMODE
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import typer

from syncd import config
from syncd.cli import output
from syncd.cli import progress_words as words
from syncd.cli.findings import local_time, number_of
from syncd.cli.options import Command, Json, Paths, Recursive
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_projects, done_for_each, worst
from syncd.core.sides import Side
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import ExitCode, SyncdError, UsageError, reason_of, trouble_of
from syncd.names import database_of
from syncd.progress import Figures, Progress, Survey, Window, Writer, progress_of

app = typer.Typer()

_MOST_DAYS = 3660
_MOST_WRITERS = 20


@app.command(cls=Command, epilog="Example: syncd report ~/work --recursive --html report.html")
def report(
    paths: Paths = None,
    recursive: Recursive = False,
    days: Annotated[
        int, typer.Option("--days", metavar="N", help="Tell the last N days apart.")
    ] = 30,
    ready_after: Annotated[
        int,
        typer.Option(
            "--ready-after",
            metavar="N",
            help="A project is ready to retire when for N days no file was changed, and rows were.",
        ),
    ] = 30,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page with plots, which needs nothing beside it.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Tell how far the migration is: who still changes files, who rows, and when last."""
    for name, number in (("--days", days), ("--ready-after", ready_after)):
        if not 1 <= number <= _MOST_DAYS:
            raise UsageError(f"{name} takes a number from 1 to {_MOST_DAYS:,}, not {number}")
    if html is not None:
        _check_page(html)
    projects = chosen_projects(paths, recursive=recursive)
    config.load()  # a wrong setting that concerns all is said once
    window = Window(datetime.now(UTC), days, ready_after)
    with done_for_each(projects, partial(_look, window)) as looks:
        found = list(output.with_progress(looks, len(projects), "Reading"))
    survey = Survey.of(window, [one for one, _ in found])
    if html is not None:
        # What matplotlib has to say of fonts and folders for its cache is nobody's concern here.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        from syncd.cli.report_page import page

        _write(html, page(survey))
    if json:
        output.print_json(**_as_json(survey))
    else:
        _print(survey)
    if html is not None:
        output.tell(f"the page stands in {html}")
    return worst(code for _, code in found)


def _check_page(html: Path) -> None:
    """Say before all the reading what would be in the way of the page."""
    if find_spec("matplotlib") is None:
        raise SyncdError(
            "the page's plots are drawn with matplotlib, which is not installed",
            hint="Install it beside syncd: pip install 'syncd[report]'",
        )
    if not html.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {html.absolute().parent} for the page")
    if html.is_dir():
        raise UsageError(f"{html} is a folder", hint="Name the file that the page is to stand in.")


def _write(html: Path, page: str) -> None:
    """Put the page in its place when it is whole: an earlier one stands until then."""
    try:
        target = html.resolve()
        may_replace = os.access(target.parent, os.W_OK)
        if html.exists() and not (html.is_file() and may_replace):  # a pipe, say, or a terminal
            html.write_text(page, encoding="utf-8")
            return
        with NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as draft:
            try:
                draft.write(page)
                draft.flush()
                os.fchmod(draft.fileno(), _mode_of(target))
                os.replace(draft.name, target)
            except BaseException:
                os.unlink(draft.name)
                raise
    except OSError as error:
        raise SyncdError(
            f"the page cannot be written to {html}: {reason_of(error)}",
            hint="Name another file, or make room.",
        ) from error


def _mode_of(file: Path) -> int:
    """Return the permissions of a file, or those that a new one gets."""
    with suppress(FileNotFoundError):
        return S_IMODE(file.stat().st_mode)
    os.umask(umask := os.umask(0o077))
    return 0o666 & ~umask


def _look(window: Window, project: Path) -> tuple[Progress, ExitCode]:
    try:
        settings = config.load(project)
        database = database_of(project)
        with translated(database), Store.open_readonly(database) as store:
            store.check_contract()
            return progress_of(project, store, window, settings), ExitCode.IN_SYNC
    except (SyncdError, OSError) as error:
        result = Progress(project, Figures.empty(window))
        result.error, result.hint, code = trouble_of(error)
        return result, code


# For people


def _print(survey: Survey) -> None:
    if output.on_terminal(sys.stdout):
        from syncd.cli.report_table import print_table

        print_table(survey)
    else:
        for one in survey.projects:
            output.say(_line(one, survey.window), words.stage_tone(one))
    output.say(words.summary(survey))
    total = survey.total
    output.say(words.changes(total.total(Side.FILE), total.total(Side.DB), survey.window))
    for line, tone in _writers(survey):
        output.say(line, tone)
    for one in survey.ready:
        output.say(f"  → To retire it: {words.retire_call(one)}", Tone.HINT)
    for one in survey.projects:
        if one.hint:
            output.complain(f"{one.project}: {one.error}", one.hint)


def _line(one: Progress, window: Window) -> str:
    why = words.explanation(one, window)
    parts = [f"{one.project}: {words.stage_words(one)}" + (f": {why}" if why else "")]
    if one.since is not None:
        parts.append(words.changes(*words.counts_of(one), window))
        last = one.figures.last.get(Side.FILE)
        if last is not None:
            parts.append(f"last from a file {local_time(last.at)}, {words.whose(last)}")
    return "; ".join(parts)


def _writers(survey: Survey) -> Iterator[tuple[str, Tone]]:
    late = survey.file_writers
    yield words.writers(survey), Tone.ATTENTION if late else Tone.PLAIN
    for one in late[:_MOST_WRITERS]:
        number = number_of(one.counts[Side.FILE], "change")
        last = local_time(one.last[Side.FILE])
        yield f"  {one.agent} in {one.project}: {number} from files, last {last}", Tone.PLAIN
    if len(late) > _MOST_WRITERS:
        yield f"  and {len(late) - _MOST_WRITERS:,} more (--json lists all)", Tone.PLAIN


# For programs


def _as_json(survey: Survey) -> dict[str, Any]:
    window = survey.window
    return {
        "at": window.now.isoformat(),
        "days": window.days,
        "ready_after": window.ready_after,
        "total": {
            "projects": len(survey.projects),
            "ready": len(survey.ready),
            "stages": {str(stage): number for stage, number in survey.stages().items()},
            **_figures_as_json(survey.total, window),
        },
        "projects": [_project_as_json(one, window) for one in survey.projects],
    }


def _project_as_json(one: Progress, window: Window) -> dict[str, Any]:
    return {
        "path": str(one.project),
        "stage": str(one.stage),
        "ready": one.is_ready,
        "reasons": one.reasons,
        "retire": words.retire_call(one) if one.is_ready else None,
        "journal_since": one.since,
        "days_without_files": one.days_without_files(window),
        **_figures_as_json(one.figures, window),
        "error": one.error,
        "hint": one.hint or None,
    }


def _figures_as_json(figures: Figures, window: Window) -> dict[str, Any]:
    return {
        "changes": {str(origin): figures.total(origin) for origin in Side},
        "last": dict.fromkeys(map(str, Side))
        | {str(origin): asdict(change) for origin, change in figures.last.items()},
        "per_day": [
            {"day": day, **{str(origin): number for origin, number in counts.items()}}
            for day, counts in figures.days.items()
        ],
        "agents": [_writer_as_json(one, window) for one in figures.by_last_file()],
    }


def _writer_as_json(one: Writer, window: Window) -> dict[str, Any]:
    return {
        "agent": one.agent,
        "project": one.project,
        "changes": {str(origin): one.counts[origin] for origin in Side},
        "last": {str(origin): one.last.get(origin) for origin in Side},
        "still_writes_files": window.is_late(one),
    }
