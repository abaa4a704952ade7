"""One project and one message in it: which, and changing something that then reaches both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from syncd import config
from syncd.cli import output
from syncd.cli.findings import problems
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_project
from syncd.config import Config
from syncd.core.journal import COMMANDED
from syncd.core.sides import Side
from syncd.cycle import cycle
from syncd.cycle.orders import Orders
from syncd.cycle.project import run_pass
from syncd.cycle.report import Report, number_of
from syncd.cycle.retirement import refusal, retirement
from syncd.database.store import Store
from syncd.errors import ExitCode, UsageError
from syncd.find import current_folder, project_around
from syncd.history import in_step
from syncd.names import database_of
from syncd.shell import joined

SIDES: dict[str, str] = {Side.FILE: "file", Side.DB: "row"}
"""What the sides are called towards people."""

AnyMessageId = Annotated[
    str | None,
    typer.Argument(
        metavar="ID",
        help="A message's id, or its beginning; it need not stand any more. "
        "Without one: all messages.",
    ),
]
VersionNumber = Annotated[
    int | None, typer.Option("--version", metavar="N", help="A version's number.")
]


def project_and_settings(path: Path | None) -> tuple[Path, Config]:
    """Return the one project that a call means, and its settings."""
    project = chosen_project(path)
    return project, config.load(project)


def opened(project: Path) -> Store:
    """Open a project's database for a look; raises `ReplicaError` where all is in an archive."""
    known = retirement(project)
    if known is not None:
        raise refusal(project, known)
    return Store.open_readonly(database_of(project))


def act(project: Path, settings: Config, action: Callable[[Store], None]) -> Report:
    """Bring a project in step, act, and bring that to both sides, all under one lock.

    What was changed before is thereby in the row, and an edit that no cycle has seen yet neither
    conflicts with the act nor is lost. A project that is halted or in trouble is not acted on.
    """

    troubled: list[Report] = []

    def before(store: Store) -> None:
        report = cycle.run(project, store, settings, Orders())
        if report.halt is None and report.error is None:
            action(store)
        else:
            troubled.append(report)

    report = run_pass(project, settings, Orders(cause=COMMANDED), before=before)
    if troubled and report.halt is None and report.error is None:
        return troubled[0]  # what was in the way went away, but only after that
    return report


def code_of(report: Report) -> ExitCode:
    """Return the exit code of a command that ran one cycle over one project."""
    return ExitCode.BUSY if report.busy else report.state.exit_code


def print_state(report: Report, *, done: bool) -> None:
    """Print what the cycle met that needs a person, and (not ``done``) that nothing was done."""
    if report.error is not None:
        more = number_of(report.more_errors, "more failure")
        told = f"{report.error} (and {more})" if report.more_errors else report.error
        output.complain(output.of_project(report.path, told), report.hint)
        return
    if not done:
        output.say(f"{report.path}: nothing was done", Tone.BAD)
    for text, tone in problems(report):
        output.say(text, tone)


def call(project: Path, verb: str, message_id: str | None = None, *options: str) -> str:
    """Return a command as a person can type it where they are now."""
    words = [*options, *([] if _is_here(project) else ["--project", str(project)])]
    if message_id is not None:
        is_option = message_id.startswith("-")
        words = [*words, "--", message_id] if is_option else [message_id, *words]
    return joined(["syncd", verb, *words])


def where_now(project: Path, ids: Iterable[str]) -> dict[str, str]:
    """Return in words, by id, where a change of these messages has come to."""
    with opened(project) as store, store.reading():
        return {key: "on both sides" if in_step(store, key) else "in the row only" for key in ids}


def _is_here(project: Path) -> bool:
    with suppress(UsageError, OSError):
        return project_around(current_folder()) == project
    return False
