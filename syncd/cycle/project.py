"""Taking turns on a project, and running a pass over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.config import Config
from syncd.cycle import cycle
from syncd.cycle.orders import Orders
from syncd.cycle.report import Report
from syncd.cycle.retirement import Retirement, left_files, refusal, retirement
from syncd.cycle.seen import Seen
from syncd.database.sqlite_errors import refuse_link, translated
from syncd.database.store import Store
from syncd.errors import (
    BusyError,
    DamagedBaseline,
    ReplicaError,
    StaleReplica,
    SyncdError,
    UsageError,
    limit_hint,
    reason_of,
)
from syncd.names import CLAUDE_DIR, database_of
from syncd.patience import lock

_LOOK_S = 0.005


@contextmanager
def turn(project: Path, wait_s: float) -> Iterator[None]:
    """Hold a project's lock for one pass; raises `BusyError` when it is not free in ``wait_s``.

    The lock is an flock(2) on the folder itself: it leaves no file, and the system drops it with
    the process.
    """
    folder = project / CLAUDE_DIR
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        refuse_link(folder)
        raise ReplicaError(
            f"{folder} cannot be opened: {reason_of(error)}",
            hint=limit_hint(error) or "Put a folder there that syncd's user may read and write.",
        ) from error
    try:
        if not lock(fd, wait_s, _LOOK_S):
            raise BusyError(
                f"another syncd is working on {project}", hint="Try again when it has finished."
            )
        yield
    finally:
        os.close(fd)


def run_pass(
    project: Path,
    config: Config,
    orders: Orders,
    *,
    store: Store | None = None,
    before: Callable[[Store], None] | None = None,
    has_news: Callable[[], bool] | None = None,
) -> Report:
    """Run one cycle over a project, with its lock held; return what it did.

    An open ``store`` is used and left open. ``before`` runs first, under the same lock;
    ``has_news`` is asked when all is ready for a look, may wait, and without it none is taken. What
    goes wrong with the project as a whole is in the report, not raised: other projects go on. Only
    a `UsageError` of ``before`` is raised; no cycle runs then. In a retired project nothing at all
    is done, and its database not even opened; the report says so.
    """
    report = Report(str(project))
    path = database_of(project)
    try:
        with turn(project, config.busy_wait_s), translated(path):
            retired = note_retirement(project, report)
            if retired is not None:
                if before is not None or orders.is_decision:
                    raise refusal(project, retired)
                return report
            if store is not None:
                return _run(project, store, config, orders, before, has_news=has_news)
            seen = Seen(project, config)
            with Store.open_readonly(path) if orders.dry_run else Store.open(path) as opened:
                report = _run(project, opened, config, orders, before, seen)
            if not orders.dry_run:
                seen.remember(report)
            return report
    except UsageError:
        raise
    except (SyncdError, OSError) as error:
        report.note_error(error)
        report.busy = isinstance(error, (BusyError, StaleReplica))
    return report


def note_retirement(project: Path, report: Report) -> Retirement | None:
    """Note in a report whether a project is retired, and what stands there all the same."""
    report.retired = retirement(project)
    if report.retired is not None:
        report.left = left_files(project)
    return report.retired


def _run(
    project: Path,
    store: Store,
    config: Config,
    orders: Orders,
    before: Callable[[Store], None] | None,
    seen: Seen | None = None,
    has_news: Callable[[], bool] | None = None,
) -> Report:
    if orders.dry_run:
        store.check_contract()
    else:
        store.refuse_shared()
        store.prepare(anew=orders.is_decision)
    if before is not None:
        before(store)
    knows = seen.knows if seen else None
    try:
        return cycle.run(project, store, config, orders, is_known=knows, has_news=has_news)
    except DamagedBaseline:
        if orders.dry_run:
            raise
        store.forget_damaged()
        return cycle.run(project, store, config, orders._replace(paths=None))
