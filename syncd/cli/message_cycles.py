"""What ``syncd message`` does so that old clients take part, with an agent running or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from syncd.cli import output
from syncd.cli.output import Tone
from syncd.cli.projects import chosen_project
from syncd.errors import BusyError, ReplicaError, SyncdError
from syncd.names import CLAUDE_DIR, database_of

if TYPE_CHECKING:
    from syncd.cycle.orders import Orders
    from syncd.cycle.report import Report

_WAYS_OUT = "'syncd status' tells the ways out."


def taken_in(path: Path | None) -> Path:
    """Return the project that a call means, with what old clients wrote imported.

    Where an agent runs, that is left to it, except in a project that was never synced. Raises what
    stands in the way. The engine is imported only when there is something for it to look at.
    """
    project = chosen_project(path)
    if _has_agent(project):
        from syncd.database.database import is_set_up

        if is_set_up(database_of(project)):
            return project
    from syncd.core.message import FOLDERS

    if any((project / CLAUDE_DIR / folder).is_dir() for folder in FOLDERS):
        from syncd.cycle.orders import Orders

        halt = _cycle(project, Orders(one_way=True)).halt
        if halt is not None:
            what = f"what old clients write in {project} is not imported"
            output.complain(f"syncd: {what}: {halt.cause}", _WAYS_OUT, Tone.ATTENTION)
    return project


def bring_in_step(*projects: Path) -> None:
    """Bring projects in step, where no agent does it, so that old clients see what was done.

    It is done by then, so nothing that goes wrong here is the command's error: it is told.
    """
    for project in dict.fromkeys(projects):
        if _has_agent(project):
            continue
        from syncd.cycle.orders import Orders

        try:
            halt = _cycle(project, Orders()).halt
        except SyncdError as error:
            problem, hint = error.sentence, error.hint
        else:
            if halt is None:
                continue
            problem, hint = halt.cause, _WAYS_OUT
        what = f"old clients do not see it yet in {project}"
        output.complain(f"syncd: {what}: {problem}", hint, Tone.ATTENTION)


def _cycle(project: Path, orders: Orders) -> Report:
    """Run one cycle; raises `SyncdError` when the project as a whole could not be worked on."""
    from syncd import config
    from syncd.cycle.project import run_pass

    report = run_pass(project, config.load(project), orders)
    if report.error is not None:
        kind = BusyError if report.busy else ReplicaError
        raise kind(report.error, hint=report.hint)
    return report


def _has_agent(project: Path) -> bool:
    from syncd.agent.heartbeat import agent_for

    agent = agent_for(project)
    return agent is not None and agent.alive
