"""Applying a plan in batches, in an order that survives a crash at any point.

1. What a step would destroy is committed to the history, together with the row steps of messages
   whose file changes too.
2. Files change, each re-checked against the version that was read; the folders are synced.
3. The other row steps and all baselines are committed.

A crash between two of these leaves both sides "changed to the same", which the next cycle agrees
on. A target that is no longer as planned is dropped and comes back in the next cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count

from syncd.core.edit import edit
from syncd.core.journal import JournalEntry, entries_of
from syncd.core.markdown import render
from syncd.core.message import Mailbox, file_name
from syncd.core.reconcile import Step
from syncd.core.sides import Quarantined, Side
from syncd.cycle.beside import keep_beside
from syncd.cycle.found import Found, place_of
from syncd.cycle.ledger import Ledger
from syncd.cycle.task import Task
from syncd.database.chronicle import OpenConflict, now_text
from syncd.digest import blake2b
from syncd.errors import LostTransaction, MessageError, ReplicaError, StaleReplica
from syncd.files.snapshot import NO_STAMP, Stamp
from syncd.names import row_key

_LONGEST_NAME = 255


class Applier:
    """Carries out the outcomes of one cycle on both replicas, and counts them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._store = ledger.store
        self._files = ledger.files
        self._report = ledger.report

    def apply(self, tasks: Sequence[Task]) -> None:
        """Carry out one batch."""
        ready = [task for task in tasks if self._prepare(task)]
        if not self.ledger.dry_run:
            self._in_one_transaction(self._keep_and_merge, ready)
            self._files.stage([one for task in ready if (one := task.writes) is not None])
            for task in ready:
                if not task.dropped:
                    self._change_file(task)
            self._report.late += self._files.settle()
            self._in_one_transaction(self._record, ready)
        keep_beside(self.ledger)
        for task in ready:
            if not task.dropped:
                self._count(task)

    def _in_one_transaction(
        self, do: Callable[[Sequence[Task]], None], tasks: Sequence[Task]
    ) -> None:
        """Do a step for all tasks, or one after another where a host's trigger rolls it back."""
        try:
            do(tasks)
        except LostTransaction as error:
            if len(tasks) == 1 and isinstance(error.__cause__, StaleReplica):
                self._drop(tasks[0])
            elif len(tasks) == 1:
                self._refuse(tasks[0], error)
            else:
                for task in tasks:
                    self._in_one_transaction(do, [task])

    # 0. Bytes and paths, before anything is touched

    def _prepare(self, task: Task) -> bool:
        outcome, found = task.outcome, task.found
        try:
            if outcome.file is Step.CREATE:
                assert outcome.message is not None
                assert outcome.mailbox is not None
                task.path = self._free_path(outcome.mailbox, file_name(task.id), task.id)
                task.data = render(outcome.message, place_of(task.path, self.ledger.own_path))
            elif found is not None:
                task.path = found.path
                task.stamp = found.version.stamp
                if outcome.file is Step.UPDATE:
                    self._prepare_update(task, found)
            if task.data is not None and len(task.data) > self._files.max_bytes:
                raise MessageError(
                    f"its file would have {len(task.data):,} bytes; the limit is "
                    f"{self._files.max_bytes:,}",
                    hint="Raise max_bytes in syncd.toml, or shorten the row.",
                )
        except MessageError as error:
            self._refuse(task, error, of_a_row="cannot be written as a file: ")
            return False
        is_held = found is not None and found.version.is_held
        if is_held and (task.writes or outcome.file is Step.DELETE):
            # Whoever has it open would go on writing to what is displaced, and nobody would see it.
            self._drop(task)
            return False
        # What only a file is to get need not be tried, and noted, thousands of times.
        if self.ledger.closed & task.folders and not task.changes_both:
            self._report.more_errors += 1
            return False
        return True

    def _prepare_update(self, task: Task, found: Found) -> None:
        outcome = task.outcome
        assert outcome.message is not None
        assert outcome.mailbox is not None
        if outcome.mailbox is not found.state.mailbox:
            name = found.path.rpartition("/")[2]
            task.path = self._free_path(outcome.mailbox, name, task.id, found.version.stamp)
        renamed = task.path.rpartition("/")[2] != found.path.rpartition("/")[2]
        loses_id = renamed and "id" not in found.state.said
        if outcome.file_fields != {"status"} or outcome.status_said is not None or loses_id:
            task.data = edit(
                found.version.data,
                outcome.message,
                place_of(task.path, self.ledger.own_path, found.version.stamp.mtime_ns),
                status_said=outcome.status_said,
                says_date="created_at" in outcome.file_fields,
            )

    def _refuse(self, task: Task, error: MessageError, of_a_row: str = "") -> None:
        """Quarantine what cannot be written: the file that cannot be edited, or else the row."""
        problem = Quarantined(error.sentence, error.line, error.hint)
        if task.found is not None:
            self.ledger.beside.append(task.found)
            hint = problem.hint or "Bring the value over by hand, in the file or with SQL."
            self.ledger.quarantine_file(task.found.path, task.id, replace(problem, hint=hint), None)
        else:
            # A line would be one of a file that there is not.
            reason = f"{of_a_row}{problem.reason}"
            self.ledger.quarantine_row(task.id, replace(problem, reason=reason, line=None))
        task.dropped = True

    def _free_path(
        self, mailbox: Mailbox, name: str, message_id: str, stamp: Stamp | None = None
    ) -> str:
        """Return a path where nothing stands: the name itself, else with a digest, and a number.

        A file of that ``stamp`` counts as nothing: it is the one that is to move there.
        """
        path = f"{mailbox}/{name}"
        digest = blake2b(message_id.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
        for number in count(1):
            if path not in self.ledger.taken and self._standing(path) in (None, stamp):
                break
            end = f"%_{digest}{f'-{number}' if number > 1 else ''}.md"
            stem = name.removesuffix(".md").encode()[: _LONGEST_NAME - len(end)]
            path = f"{mailbox}/{stem.decode(errors='ignore')}{end}"
        self.ledger.taken.add(path)
        return path

    def _standing(self, path: str) -> Stamp | str | None:
        try:
            return self._files.look(path)
        except ReplicaError:
            return None

    # 1. History, and rows of messages whose file changes too

    def _keep_and_merge(self, tasks: Sequence[Task]) -> None:
        writes = [task for task in tasks if task.outcome.file in (Step.CREATE, Step.UPDATE)]
        first = [task for task in tasks if task.changes_both or self._kept_file(task)]
        if not (first or writes):
            return
        # What is about to be written need not survive the machine, only this process: it tells
        # the next cycle that a file without a baseline is syncd's own work.
        changes_rows = any(task.changes_both for task in first)
        with self._store.writing(durable=bool(first), mute=changes_rows):
            for task in first:
                if task.changes_both:
                    self._change_row(task)
                else:
                    self._keep(task, Side.FILE)
            for task in writes:
                if task.dropped:
                    continue  # its row never held this, so no rewrite may be measured by it
                if task.record is not None:
                    self._store.versions.save(task.record)
                if task.changes_both and task.outcome.heard is not None:
                    # The row has what the file said. Whatever the file says next, to this very
                    # exchange already, is news against that, and the row's words are no one else's.
                    as_found = task.record_as_found()
                    self._store.versions.save(as_found)
                    self._store.records.save([as_found])
                intended = replace(task.new_record(), stamp=NO_STAMP)
                self._store.versions.save(intended, intent=True)
            if changes_rows:
                self._note_rows(task for task in first if task.changes_both)
            self._store.end_if_vain()

    def _kept_file(self, task: Task) -> bool:
        return task.found is not None and any(keep.side is Side.FILE for keep in task.outcome.kept)

    def _keep(self, task: Task, side: Side) -> None:
        """Take a side's version into the history, and list the conflicts that it lost."""
        for keep in task.outcome.kept:
            if keep.side is not side:
                continue
            if side is Side.DB:
                version = self._store.chronicle.keep_row(task.id, keep.reason)
            else:
                assert task.found is not None
                found = task.found
                version = self._store.chronicle.keep_file(
                    task.id, found.path, found.version.data, keep.reason
                )
            for conflict in task.outcome.conflicts:
                if conflict.winner is not side:
                    self._store.chronicle.save_conflict(task.id, conflict, version)

    def _change_row(self, task: Task) -> None:
        outcome = task.outcome
        try:
            with self._store.all_or_nothing():
                if task.changes_both:
                    self._keep(task, Side.FILE)
                if outcome.row is Step.CREATE:
                    assert outcome.message is not None
                    task.written_row = self._store.rows.insert(outcome.message)
                elif outcome.row is not Step.NONE:
                    assert task.row is not None
                    self._keep(task, Side.DB)
                    if outcome.row is Step.DELETE:
                        self._store.rows.delete(task.row)
                    else:
                        assert outcome.message is not None
                        task.written_row = self._store.rows.update(
                            task.row, outcome.message, outcome.row_fields
                        )
        except StaleReplica:
            self._drop(task)
        except LostTransaction:
            raise
        except MessageError as error:
            self._refuse(task, error)

    def _note_rows(self, tasks: Iterable[Task]) -> None:
        self.ledger.note_written(
            (task.id, task.written_row.digest if task.written_row is not None else None)
            for task in tasks
            if task.outcome.row is not Step.NONE and not task.dropped
        )

    def _drop(self, task: Task) -> None:
        task.dropped = True
        by_row = task.outcome.file is Step.CREATE or not task.path
        self._report.unsettled.add(row_key(task.id) if by_row else task.path)

    # 2. Files

    def _change_file(self, task: Task) -> None:
        outcome, found = task.outcome, task.found
        written = task.writes
        try:
            if outcome.file is Step.CREATE:
                assert written is not None
                task.stamp = self._files.create(written[0], written[1])
            elif outcome.file is Step.DELETE:
                assert found is not None
                self._files.delete(found.path, seen=found.version)
            elif outcome.file is Step.UPDATE:
                assert found is not None
                if written is not None:
                    task.stamp = self._files.replace(written[0], written[1], seen=found.version)
                if task.path != found.path:
                    assert task.stamp is not None
                    task.stamp = self._files.move(found.path, task.path, seen=task.stamp)
                    if task.stamp == NO_STAMP:
                        self._report.unsettled.add(task.path)
        except StaleReplica:
            self._drop(task)
            self._note_taken_back(task)
        except ReplicaError as error:
            # One folder or file that cannot be written must not hold up the others.
            task.dropped = True
            self.ledger.note_failure(error, task.folders)

    def _note_taken_back(self, task: Task) -> None:
        """Have it known from which version a late writer started: an inode alone may be reused."""
        stamp = self._files.taken_back.pop(task.found.path, None) if task.found else None
        if stamp is not None:
            with self._store.writing(durable=False, mute=False):
                self._store.versions.save(replace(task.new_record(), stamp=stamp))

    # 3. Rows, and the baseline

    def _record(self, tasks: Sequence[Task]) -> None:
        work = [task for task in tasks if not task.dropped and task.changes_anything()]
        if not work:
            return
        # Where only files changed, a baseline that dies with the machine is no loss: then both
        # sides changed to the same.
        changes_rows = any(task.outcome.row is not Step.NONE for task in work)
        with self._store.writing(durable=changes_rows, mute=changes_rows):
            for task in work:
                if not task.changes_both:
                    self._change_row(task)
            done = [task for task in work if not task.dropped]
            self._store.records.save(
                task.new_record() for task in done if not (task.partial or task.outcome.forget)
            )
            for task in done:
                self._settle(task)
            self._store.chronicle.add_to_journal(self._told(done))
            if changes_rows:
                self._note_rows(task for task in done if not task.changes_both)
            self._store.end_if_vain()

    def _told(self, tasks: Iterable[Task]) -> Iterator[JournalEntry]:
        """Yield what was done to these messages as entries of the journal."""
        at = now_text()
        for task in tasks:
            yield from entries_of(
                task.id,
                task.outcome,
                task.found.state if task.found else None,
                task.row.values if task.row else None,
                at=at,
                was_known=task.record is not None,
                path=task.path or (task.record.path if task.record else ""),
                cause=self.ledger.cause,
            )

    def _settle(self, task: Task) -> None:
        outcome = task.outcome
        if outcome.forget:
            self._store.records.forget(task.id)
        if outcome.file in (Step.CREATE, Step.UPDATE) or task.was_intended:
            if outcome.file is Step.UPDATE:
                self._store.versions.settle_intent(task.id)
            else:
                self._store.versions.drop_intents([task.id])

    def _count(self, task: Task) -> None:
        counts, outcome = self._report.counts, task.outcome
        self.ledger.would_conflict += [
            OpenConflict(task.id, conflict.field, "", conflict.winner, 0)
            for conflict in outcome.conflicts
        ]
        counts.rows_inserted += outcome.row is Step.CREATE
        counts.rows_updated += outcome.row is Step.UPDATE
        counts.rows_deleted += outcome.row is Step.DELETE
        counts.files_created += outcome.file is Step.CREATE
        counts.files_deleted += outcome.file is Step.DELETE
        if outcome.file is Step.UPDATE and task.found is not None:
            counts.files_moved += task.path != task.found.path
            counts.files_updated += task.data is not None and task.data != task.found.version.data
        if outcome.row is not Step.NONE or outcome.file is not Step.NONE:
            self.ledger.touched.add(task.id)
        if outcome.forget:
            self.ledger.freed.add(task.id)
            self.ledger.released.add(row_key(task.id))
