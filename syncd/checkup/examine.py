"""All checks of a machine, and of a project, in the order in which they explain each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from syncd import config
from syncd.agent.heartbeat import agents
from syncd.checkup.agents import agent_checks
from syncd.checkup.check import Check, Verdict, failed, good, note, problem, some, warning, worst
from syncd.checkup.database import DatabaseChecks
from syncd.checkup.disk import disk_checks
from syncd.checkup.machine import machine_checks, settings
from syncd.checkup.messages import MessageChecks
from syncd.config import Config
from syncd.cycle.retirement import Retirement, Stage, left_files, retirement, undoing
from syncd.database.sqlite_errors import translated
from syncd.database.store import Store
from syncd.errors import ConfigError, SyncdError
from syncd.files.replica import FileReplica
from syncd.names import CLAUDE_DIR, database_of
from syncd.retire.trees import digest
from syncd.shell import quoted
from syncd.verify import patience_beside, verify


def examine_machine(projects: Sequence[Path]) -> list[Check]:
    """Make the checks that no single project is about."""
    living = [agent for agent in agents() if agent.alive]
    works = any(agent.covers(project) for agent in living for project in projects)
    return machine_checks(projects, agent_works=works)


def examine(project: Path) -> Iterator[Check]:
    """Make all checks of one project, as they are made."""
    yield settings(project)
    try:
        retired = retirement(project)
    except SyncdError as error:
        yield failed("retirement", error)
        return
    if retired is not None:
        yield retirement_check(project, retired)  # of the rest there is nothing to be in order
        return
    known = agents()
    yield from agent_checks(project, known)
    database = database_of(project)
    works = any(agent.alive and agent.covers(project) for agent in known)
    try:
        yield from disk_checks(project)
        with translated(database), Store.open_readonly(database) as store:
            store.refuse_shared()
            yield from _examine_inside(project, store, _settings_of(project), agent_works=works)
    except (SyncdError, OSError) as error:
        yield failed("database", error)


def retirement_check(project: Path, known: Retirement) -> Check:
    """Tell whether a project's retirement came to its end, and nobody has written files since."""
    undo = undoing(project, known)
    if not known.is_done:
        retiring = known.stage is Stage.RETIRING
        mend = f"syncd retire {quoted(project)}" if retiring else undo
        found = f"{known.stage} it was cut off"
        return warning("retirement", found, f"Finish it: {mend}")
    archive = project / CLAUDE_DIR / known.archive
    if not archive.exists():
        found = f"the archive {known.archive} is not here"
        mend = "Keep it where it is: it has the files, the history and the journal."
        return note("retirement", found, mend)
    try:
        is_whole = digest(archive) == known.sha256
    except (SyncdError, OSError) as error:
        return failed("retirement", error)
    if not is_whole:
        found = f"the archive {known.archive} is not as it was written"
        return problem("retirement", found, "Bring it back from a backup.")
    left = left_files(project)
    if left:
        found = "an old client is at work still: files came after it was retired"
        return warning("retirement", found, f"Bring all back: {undo}", some(left))
    return good("retirement", f"it was retired on {known.at[:10]}, archive {known.archive}")


def _examine_inside(
    project: Path, store: Store, settings: Config, *, agent_works: bool
) -> Iterator[Check]:
    checks = DatabaseChecks(project, store, agent_works=agent_works)
    yield from checks.lasting()
    wait_s = patience_beside(settings, agent_works=agent_works)
    fed = checks.last_in_feed() if agent_works else None
    found = verify(project, store, max_bytes=settings.max_bytes, patience_s=wait_s)
    with FileReplica(project, max_bytes=settings.max_bytes) as files:
        passing = list(checks.passing(files.scan(), found, fed))
        if agent_works and worst(passing) is not Verdict.GOOD:
            time.sleep(wait_s)  # an agent at work clears away by itself what is passing
            passing = list(checks.passing(files.scan(), found, fed))
        yield from passing
        yield from MessageChecks(project, store, files, found).all()


def _settings_of(project: Path) -> Config:
    """Return a project's settings; the defaults where they are wrong, which is told elsewhere."""
    try:
        return config.load(project)
    except ConfigError:
        return Config()
