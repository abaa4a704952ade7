"""One cycle: look, reconcile, guard, apply, record.

`run` is the one way in for data: files and rows become snapshots, snapshots a plan, and the plan
is applied in batches whose order survives a crash at any point (`syncd.apply`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from syncd.absence import Absence
from syncd.ahead import Ahead, reading_ahead, rendering_ahead
from syncd.apply import Applier
from syncd.bulk import Bulk
from syncd.condition import (
    drop_decision,
    note_decision,
    record_condition,
    record_findings,
    with_decision,
)
from syncd.config import Config
from syncd.copies import Copies
from syncd.departure import Departure
from syncd.errors import MessageError, SyncdError
from syncd.files import FileReplica
from syncd.found import Arrival, Found, arrival_of
from syncd.journal import FIRST_SYNC, RESTORED
from syncd.look import Look, look_at, look_fully
from syncd.message import Message, file_name, in_order, lost_field
from syncd.names import id_in_row_key, is_row_key, row_key
from syncd.orders import Orders
from syncd.reader import Reader
from syncd.reconcile import NOTHING, Step, reconcile
from syncd.record import Record, Row
from syncd.report import Report
from syncd.sides import Quarantined
from syncd.snapshot import Scan, Stamp
from syncd.store import Store
from syncd.strays import other_copy_of, rewritten_version, take_in
from syncd.task import Task

_BATCH = 250
_PATHS_AT_ONCE = 1000
_BATCH_BYTES = 1024 * 1024  # of texts, each of which may be written three times in a transaction
"""How much of files or rows is in memory at once; a single one may be larger."""


@dataclass(slots=True)
class _Notes:
    """What one cycle knows while it runs.

    ``fileless`` are ids whose file is known to be gone, ``unknown`` has by id the path of a file
    that cannot be read and may be its own, ``done`` are ids that were dealt with. ``was_empty``
    says that the database knew of no message when files began to be read ahead.
    """

    look: Look
    was_empty: bool = False
    fileless: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


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
        with FileReplica(project, max_bytes=config.max_bytes) as files:
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
        self.applier = Applier(
            project, store, files, self.report, dry_run=orders.dry_run, cause=self._cause()
        )
        self.bulk = Bulk(store, files, self.applier)
        self.reader = Reader(
            files,
            self.applier.own_path,
            self.report.unsettled,
            retry_s=config.retry_s,
            wait=orders.wait,
        )
        self.copies = Copies(self.applier, self.reader, one_way=orders.one_way)

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
        notes = _Notes(look)
        if look.paths or look.vanished:
            self.copies.twins = (
                self.store.twins.all() if look.folders else self.store.twins.at(look.paths)
            )
        absent = absence.judge(look, self.copies.twins)
        self.report.halt = absent.halt
        if absent.halt is None:
            self.copies.claimed |= absent.moved
            notes.unknown = absent.unknown
            if absent.unknown:  # these files are to be known for theirs
                look.paths = in_order({*look.paths, *absent.unknown.values()})
            notes.fileless |= absent.gone.keys()
            look.released += absent.gone.values()
            note_decision(self.store, orders, absent.lost)
            self._apply(notes)
        elif not orders.dry_run:
            self.store.thin_feed(look.feed)
        if not orders.dry_run:
            record_condition(self.store, self.files, self.report, orders, look, absent.lost)
            if look.folders:
                self.store.prune(self.config.history_days, self.config.journal_days)
        self._summarise(look)
        self.report.fresh = self.files.fresh
        return self.report

    def _apply(self, notes: _Notes) -> None:
        """Reconcile and apply all that the look found, in batches."""
        look = notes.look
        self._set_odd_aside(look)
        if not self.orders.one_way:
            for path in look.strays:
                take_in(self.store, self.files, self.applier, path, self.config.prefer)
        with reading_ahead(self.project, self.files, look.paths, self.config.max_bytes) as ahead:
            notes.was_empty = ahead is not None and self.store.is_empty()
            for start in range(0, len(look.paths), _PATHS_AT_ONCE):
                paths = look.paths[start : start + _PATHS_AT_ONCE]
                if ahead is not None:
                    paths = self._take_ahead(notes, ahead, paths)
                self._take_paths(notes, paths)
        rest = sorted((look.ids | notes.fileless) - notes.done - notes.unknown.keys())
        told = [] if self.orders.dry_run or self.orders.one_way else rest
        with rendering_ahead(self.project, self.store, told) as ahead, self.bulk.recording():
            for start in range(0, len(rest), _BATCH):
                self.files.reopen()  # others may stand in their places since they were looked at
                new, left = self.bulk.rendered(ahead, rest[start : start + _BATCH])
                for ids in self.store.rows.in_portions(left, _BATCH_BYTES):
                    self.bulk.send([*new, *self._take_ids(notes, ids)])
                    new = []
                self.bulk.send(new)
        self._take_freed(notes)
        self.copies.set_second_names_aside()
        if self.orders.one_way:
            look.feed.clear()  # what SQL changed is for a later cycle to hear
        record_findings(self.applier, look)
        self._wait_for_late_writers()

    def _wait_for_late_writers(self) -> None:
        """Give those who still have a displaced file open a moment to finish."""
        deadline = time.monotonic() + self.config.retry_s
        while self.orders.wait and self.report.late and time.monotonic() < deadline:
            time.sleep(0.02)
            late, self.report.late = self.report.late, []
            for path in late:
                take_in(self.store, self.files, self.applier, path, self.config.prefer)

    def _set_odd_aside(self, look: Look) -> None:
        for path, problem in look.odd_paths.items():
            self.applier.quarantine_file(path, None, problem, None)
        for key in look.odd_ids:
            kinds = {"NoneType": "NULL", "bytes": "a BLOB, not text", "str": "not UTF-8"}
            kind = kinds.get(type(key).__name__, "a number, not text")
            self.applier.quarantine_row(
                key, Quarantined(f"the id is {kind}", hint="Give the row an id that is text.")
            )

    def _take_ahead(self, notes: _Notes, ahead: Ahead, paths: list[str]) -> list[str]:
        """Insert what is new in these files, as read ahead; return those that are left to read."""
        arrivals = self.bulk.read(ahead, paths)
        known: set[str] = set()
        if not notes.was_empty:
            ids = {arrival.id for arrival in arrivals}
            known = self.store.known(ids) | self.store.rows.of(ids).keys()
        new: dict[str, Arrival] = {}
        for arrival in arrivals:
            key = arrival.id
            is_seen = key in known or key in new or key in self.copies.claimed
            if not (is_seen or arrival.path in self.copies.twins):
                new[key] = arrival
        if 2 * len(new) < len(arrivals):
            ahead.give_up()  # what is not new is read once more
        inserted = self.bulk.insert(list(new.values()))
        if len(inserted) < len(new):
            notes.was_empty = False  # somebody else inserts too
        taken = {key: new[key].path for key in inserted}
        self.copies.claimed |= taken
        notes.fileless -= inserted
        notes.done |= inserted
        self.applier.released.update(taken.values())
        left = set(paths).difference(taken.values())
        return [path for path in paths if path in left]

    def _take_paths(self, notes: _Notes, paths: Sequence[str]) -> None:
        """Read these files and carry out what they and their rows ask for."""
        at = {record.path: record for record in self.store.records.at(paths)}
        founds: list[Found] = []
        size = 0
        for path in paths:
            read = self.reader.read(path)
            if isinstance(read, Quarantined):
                self._set_file_aside(notes, path, at.get(path), read)
            elif read is not None:
                founds.append(read)
                self.applier.released.add(path)
                size += len(read.version.data)
                if size > _BATCH_BYTES:
                    self._take_founds(notes, founds)
                    founds, size = [], 0
            elif path in at:
                self.report.unsettled.add(path)
                notes.done.add(at[path].id)
        self._take_founds(notes, founds)

    def _take_freed(self, notes: _Notes) -> None:
        """Read the files that were set aside because their id was taken, and is free by now."""
        freed, set_aside = self.applier.freed, self.applier.set_aside
        if freed:
            before = self.store.chronicle.quarantined_for(freed)
            waiting = before.keys() - self.applier.released
            waiting |= {path for path, entry in set_aside.items() if entry.id in freed}
            paths = in_order(path for path in waiting if not is_row_key(path))
            for path in paths:
                set_aside.pop(path, None)
            for key in freed:
                self.copies.claimed.pop(key, None)
            self._take_paths(notes, paths)

    def _take_founds(self, notes: _Notes, founds: Sequence[Found]) -> None:
        # Small files may have large rows.
        ids = list(dict.fromkeys(found.state.message.id for found in founds))
        for portion in self.store.rows.in_portions(ids, _BATCH_BYTES):
            some = set(portion)
            of_some = [found for found in founds if found.state.message.id in some]
            self._take_portion(notes, of_some if len(some) < len(ids) else founds)

    def _take_portion(self, notes: _Notes, founds: Sequence[Found]) -> None:
        ids = {found.state.message.id for found in founds}
        standing = ids - self.applier.freed if self.orders.dry_run else ids
        records, rows = self.store.records.of(standing), self.store.rows.of(standing)
        intended = self.store.versions.intended(ids)
        tasks: list[Task | None] = []
        new: list[tuple[Found, Arrival]] = []
        for found in founds:
            key = found.state.message.id
            if self.copies.claim(found, records.get(key)):
                self.copies.claimed[key] = found.path
                notes.fileless.discard(key)
                notes.done.add(key)
                record, row = records.get(key), rows.get(key)
                intent = intended.get((key, found.version.digest))
                if record is None and row is None and intent is None:
                    arrival = arrival_of(found)
                    if arrival is not None:
                        new.append((found, arrival))
                        continue
                tasks.append(self._task(notes, key, found, row, record, intent))
            elif self.copies.twins.get(found.path) != (key, found.version.stamp):
                self.applier.beside.append(found)
        inserted = self.bulk.insert([arrival for _, arrival in new])
        left = [found for found, arrival in new if arrival.id not in inserted]
        tasks += [
            self._task(notes, found.state.message.id, found, None, None, None) for found in left
        ]
        wanted = [task for task in tasks if task is not None]
        for start in range(0, len(wanted), _BATCH):
            self.applier.apply(wanted[start : start + _BATCH])
        self.applier.keep_beside()

    def _set_file_aside(
        self, notes: _Notes, path: str, record: Record | None, problem: Quarantined
    ) -> None:
        if path.rpartition("/")[2].startswith(".") and record is None:
            return  # an editor's or file manager's own file, not a message
        stamp = self.files.look(path) if problem.in_bytes else None
        key = record.id if record else self._id_of_unreadable(notes, path)
        self.applier.quarantine_file(
            path, key, problem, stamp if isinstance(stamp, Stamp) else None
        )
        if record is not None:  # else the message of that id may stand elsewhere
            notes.done.add(key)

    def _id_of_unreadable(self, notes: _Notes, path: str) -> str:
        """Return the id of the message whose file this may be: as it was known, else its name's."""
        for key, other in notes.unknown.items():
            if other == path:
                return key
        known = self.store.chronicle.quarantined([path]).get(path)
        was = known.id if known is not None else None
        return was or path.rpartition("/")[2].removesuffix(".md")

    def _take_ids(self, notes: _Notes, ids: Sequence[str]) -> list[Departure]:
        """Compare these messages, whose rows or whose files' absence gave the reason to look.

        Returns what becomes of those that are new in rows; of the others, all is done.
        """
        records, rows = self.store.records.of(ids), self.store.rows.of(ids)
        intended = self.store.versions.intended(ids)
        known = records.keys() | {key for key, _ in intended}
        new_rows = [row for key, row in rows.items() if key not in known]
        new = [] if self.orders.one_way else self.bulk.departures(new_rows)
        done = {departure.id for departure in new}
        tasks = []
        for key in ids:
            record, row = records.get(key), rows.get(key)
            if row is None and record is None:
                self.applier.released.add(row_key(key))
            elif key not in done:
                found = self._file_of(notes, key, record, row)
                if found is not False:
                    intent = intended.get((key, found.version.digest)) if found else None
                    tasks.append(self._task(notes, key, found, row, record, intent))
        self.applier.apply([task for task in tasks if task is not None])
        return new

    def _file_of(
        self, notes: _Notes, key: str, record: Record | None, row: Row | None
    ) -> Found | Literal[False] | None:
        """Return a message's file; None when it has none, False when that cannot be said now."""
        if key in notes.fileless:
            return None
        path = record.path if record else self.files.standing(file_name(key))
        if path is None:
            return None
        is_plain = row is not None and not row.is_one_of_many and key not in notes.look.vanished
        is_same = is_plain and record and row and row.digest == record.row_digest
        # What befell the file while its row could not be read was heard, and not carried over.
        if is_same and not self.store.chronicle.quarantined([row_key(key)]):
            self.applier.released.add(row_key(key))
            return False
        if path not in self.applier.released:
            entry = self.store.chronicle.quarantined([path]).get(path)
            if entry is not None and entry.stamp is not None:
                return False
        read = self.reader.read(path)
        if isinstance(read, Quarantined):
            self._set_file_aside(notes, path, record, read)
            return False
        if read is None:
            is_gone = self.files.look(path) is None
            if is_gone and self.orders.one_way:
                self.report.is_partial = True
                return False
            if is_gone:
                self.report.vanished.add(path)
            self.report.unsettled.add(row_key(key))
            return False
        if read.state.message.id != key:
            if record is None:
                return None
            # Another message stands there: this one's new place is not seen yet.
            self.report.vanished.add(path)
            self.report.unsettled.add(row_key(key))
            return False
        self.applier.released.add(path)
        return read

    def _task(
        self,
        notes: _Notes,
        key: str,
        found: Found | None,
        row: Row | None,
        record: Record | None,
        intended: Record | None,
    ) -> Task | None:
        """Return what is to be done with a message; None for nothing.

        ``intended`` is the version that was to be written when its file's bytes are those of it,
        and a crash may have come in between.
        """
        try:
            message = _message_in(row, record)
        except MessageError as error:
            self.applier.quarantine_row(key, error)
            if found is not None:
                self.applier.beside.append(found)
            return None
        if row is not None:
            self.applier.released.add(row_key(key))
        agreed, rewritten = self._versions_behind(found, record, intended)
        outcome = reconcile(
            agreed.baseline if agreed else None,
            found.state if found else None,
            message,
            prefer=self.config.prefer,
            restore=self.orders.restore,
            rewrite_of=rewritten.baseline if rewritten else None,
        )
        if self.orders.one_way:
            self.report.is_partial |= outcome.file is not Step.NONE or outcome.row is Step.DELETE
            if outcome.row is Step.DELETE or outcome.file in (Step.CREATE, Step.DELETE):
                return None
            if outcome.file is Step.UPDATE:
                # The file would have to change: it stays without a baseline for a later cycle.
                rows_only = replace(outcome, file=Step.NONE, file_fields=frozenset())
                done = outcome.row is Step.NONE
                return None if done else Task(key, rows_only, found, row, record, partial=True)
        if outcome is NOTHING:
            return None
        if outcome.file is Step.DELETE and key not in notes.look.gone_rows:
            # Its row went after the look, or unheard of: the guard has not seen that.
            self.report.vanished.add(row_key(key))
            return None
        return Task(key, outcome, found, row, record, was_intended=intended is not None)

    def _versions_behind(
        self, found: Found | None, record: Record | None, intended: Record | None
    ) -> tuple[Record | None, Record | None]:
        """Return the version that both sides agreed on, and the one that a file is a rewrite of."""
        if found is None or (record is not None and record.digest == found.version.digest):
            return record, None
        if intended is not None:
            # Where the bytes came to be but not the move, it is still to be done.
            base = replace(intended.baseline, mailbox=found.state.mailbox)
            return replace(intended, baseline=base), None
        agreed = other_copy_of(self.store, found, record) or record
        return agreed, rewritten_version(self.store, found, record)

    def _summarise(self, look: Look) -> None:
        report, set_aside = self.report, self.applier.set_aside
        if not look.folders:
            report.quarantined = [set_aside[path] for path in sorted(set_aside)]
            return
        found = self.store.chronicle.quarantine()  # which a halt or a dry run has left as it was
        entries = found | set_aside
        report.quarantined = [entries[path] for path in sorted(entries.keys() - report.released)]
        report.conflicts = self.store.chronicle.conflicts()
        if self.orders.dry_run:
            report.conflicts += self.applier.would_conflict
        counts, total = report.counts, self.store.rows.count()
        if self.orders.dry_run:
            total += counts.rows_inserted - counts.rows_deleted
        deleted = counts.rows_deleted + counts.files_deleted
        counts.unchanged = max(0, total - (len(self.applier.touched) - deleted))


def _message_in(row: Row | None, record: Record | None) -> Message | None:
    """Return the message that a row holds; raises `MessageError` where that cannot be said."""
    if row is None:
        return None
    lost = lost_field(row.values, record.baseline.fields) if record is not None else None
    if lost is not None:
        raise MessageError(
            f"its {lost} is NULL, and was not", hint="Set it again with SQL; the file has it still."
        )
    return row.message()
