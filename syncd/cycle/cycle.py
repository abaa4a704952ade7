"""One cycle: look, reconcile, guard, apply, record.

`run` is the one way in for data: files and rows become snapshots, snapshots a plan, and the plan
is applied in batches whose order survives a crash at any point (`syncd.cycle.apply`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from syncd.config import Config
from syncd.core.journal import FIRST_SYNC, RESTORED
from syncd.core.message import in_order
from syncd.core.sides import Quarantined
from syncd.cycle.absence import Absence, Absent
from syncd.cycle.ahead import reading_ahead, rendering_ahead
from syncd.cycle.apply import Applier
from syncd.cycle.condition import (
    drop_decision,
    note_decision,
    record_condition,
    record_findings,
    with_decision,
)
from syncd.cycle.copies import Copies
from syncd.cycle.intake import Intake
from syncd.cycle.ledger import Ledger
from syncd.cycle.look import Look, look_at, look_fully
from syncd.cycle.orders import Orders
from syncd.cycle.reader import Reader
from syncd.cycle.report import Report
from syncd.cycle.strays import take_in
from syncd.database.store import Store
from syncd.errors import SyncdError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Scan
from syncd.names import id_in_row_key, in_utf8


def run(
    project: Path,
    store: Store,
    config: Config,
    orders: Orders,
    *,
    is_known: Callable[[Scan], bool] | None = None,
    has_news: Callable[[], bool] | None = None,
) -> Report:
    """Run one cycle over a project whose lock the caller holds; return what it did.

    ``is_known`` may tell of a scan that nothing was written since a pass left nothing to do.
    ``has_news`` tells, when all is ready for a look, whether there is a reason for one; it may wait
    for what is about to be committed.

    Raises `ReplicaError` or `BusyError` when a side as a whole cannot be used; what was applied
    by then is recorded. A single bad file or row never raises: it is quarantined.
    """
    orders = with_decision(store, orders)
    try:
        with FileReplica(project, max_bytes=config.max_bytes, database=store.identity) as files:
            return _Cycle(project, store, files, config, orders).run(is_known, has_news)
    except BaseException:
        if orders.is_decision and not orders.dry_run:
            with suppress(SyncdError):
                drop_decision(store)
        raise


class _Cycle:
    """What `run` works with, and the steps that it takes."""

    def __init__(
        self, project: Path, store: Store, files: FileReplica, config: Config, orders: Orders
    ) -> None:
        self.project = project
        self.store = store
        self.files = files
        self.config = config
        self.orders = orders
        self.report = Report(str(project))
        own_path = in_utf8(str(project))
        self.ledger = Ledger(store, files, self.report, own_path, orders.dry_run, self._cause())
        self.reader = Reader(
            files,
            own_path,
            self.report.unsettled,
            retry_s=config.retry_s,
            wait=orders.wait,
        )
        self.copies = Copies(self.ledger, self.reader, one_way=orders.one_way)

    def _cause(self) -> str:
        """Return what the journal says of all that this cycle does, where that needs saying."""
        if self.orders.restore:
            return RESTORED
        return self.orders.cause or ("" if self.store.folders() is not None else FIRST_SYNC)

    def run(
        self, is_known: Callable[[Scan], bool] | None, has_news: Callable[[], bool] | None
    ) -> Report:
        orders = self.orders
        absence = Absence(self.store, self.files, self.reader, self.config, orders, self.report)
        paths = orders.paths
        if paths is not None and absence.needs_full_look():
            paths = None
        if has_news is not None and not has_news():
            return self.report
        look = self._look(paths, is_known)
        absent = absence.judge(look, self.copies.twins)
        self.report.halt = absent.halt
        if absent.halt is None:
            self.copies.claimed |= absent.moved
            if absent.unknown:  # these files are to be known for theirs
                look.paths = in_order({*look.paths, *absent.unknown.values()})
            look.released += absent.gone.values()
            note_decision(self.store, orders, absent.lost)
            self._apply(look, absent)
        elif not orders.dry_run:
            self.store.thin_feed(look.feed)
        if not orders.dry_run:
            record_condition(self.store, self.files, self.report, orders, look, absent.lost)
            if look.folders:
                self.store.prune(self.config.history_days, self.config.journal_days)
        self._summarise(look)
        self.report.fresh = self.files.fresh
        return self.report

    def _look(self, paths: Iterable[str] | None, is_known: Callable[[Scan], bool] | None) -> Look:
        """Look at these paths and at what the feed tells of, or (None) at everything."""
        orders = self.orders
        if paths is None:
            look = look_fully(
                self.store,
                self.files,
                trust_stamps=orders.trust_stamps,
                fresh=orders.fresh,
                is_known=is_known,
            )
        else:
            # Rows that were gone at an earlier look: of some, no feed tells.
            ids = [key for path in orders.gone if (key := id_in_row_key(path)) is not None]
            look = look_at(self.store, self.files, paths, ids)
        if look.paths or look.vanished:
            twins = self.store.twins
            self.copies.twins = twins.all() if look.folders else twins.at(look.paths)
        return look

    def _apply(self, look: Look, absent: Absent) -> None:
        """Reconcile and apply all that the look found, in batches."""
        project, orders, prefer = self.project, self.orders, self.config.prefer
        applier = Applier(self.ledger)
        self._set_odd_aside(look)
        if not orders.one_way:
            for path in look.strays:
                take_in(applier, path, prefer)
            if self.ledger.awaited:
                look.paths = in_order({*look.paths, *self.ledger.awaited})
        intake = Intake(look, absent, orders, applier, self.reader, self.copies, prefer=prefer)
        with reading_ahead(project, self.files, look.paths, self.config.max_bytes) as ahead:
            intake.take_files(look.paths, ahead)
        left = intake.left()
        told = [] if orders.dry_run or orders.one_way else left
        with rendering_ahead(project, self.store, told) as ahead:
            intake.take_messages(left, ahead)
        intake.take_freed()
        self.copies.set_second_names_aside()
        if orders.one_way:
            look.feed.clear()  # what SQL changed is for a later cycle to hear
        record_findings(self.ledger, look)
        self._wait_for_late_writers(applier)

    def _wait_for_late_writers(self, applier: Applier) -> None:
        """Give those who still have a displaced file open a moment to finish."""
        deadline = time.monotonic() + self.config.retry_s
        while self.orders.wait and self.report.late and time.monotonic() < deadline:
            time.sleep(0.02)
            late, self.report.late = self.report.late, []
            for path in late:
                take_in(applier, path, self.config.prefer)

    def _set_odd_aside(self, look: Look) -> None:
        for path, problem in look.odd_paths.items():
            self.ledger.quarantine_file(path, None, problem, None)
        for key in look.odd_ids:
            kinds = {"NoneType": "NULL", "bytes": "a BLOB, not text", "str": "not UTF-8"}
            kind = kinds.get(type(key).__name__, "a number, not text")
            self.ledger.quarantine_row(
                key, Quarantined(f"the id is {kind}", hint="Give the row an id that is text.")
            )

    def _summarise(self, look: Look) -> None:
        report, set_aside = self.report, self.ledger.set_aside
        if not look.folders:
            report.quarantined = [set_aside[path] for path in sorted(set_aside)]
            return
        found = self.store.chronicle.quarantine()  # which a halt or a dry run has left as it was
        entries = found | set_aside
        report.quarantined = [entries[path] for path in sorted(entries.keys() - report.released)]
        report.conflicts = self.store.chronicle.conflicts()
        if self.orders.dry_run:
            report.conflicts += self.ledger.would_conflict
        counts, total = report.counts, self.store.rows.count()
        if self.orders.dry_run:
            total += counts.rows_inserted - counts.rows_deleted
        deleted = counts.rows_deleted + counts.files_deleted
        counts.unchanged = max(0, total - (len(self.ledger.touched) - deleted))
