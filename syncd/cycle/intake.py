"""What a look found, taken in: files, rows and baselines brought together, message by message.

Files come first, then the messages whose rows or whose file's absence gave the reason to look. Of
each message all three are at hand when it is decided what happens (`syncd.core.reconcile`); what is
new on one side and unknown on the other goes the short way (`syncd.cycle.bulk`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from syncd.core.message import Message, file_name, in_order, lost_field
from syncd.core.reconcile import NOTHING, Step, reconcile
from syncd.core.sides import Quarantined, Side
from syncd.cycle.absence import Absent
from syncd.cycle.apply import Applier
from syncd.cycle.beside import keep_beside
from syncd.cycle.bulk import Bulk
from syncd.cycle.copies import Copies
from syncd.cycle.departure import Departure
from syncd.cycle.divided import Divided
from syncd.cycle.found import Arrival, Found, arrival_of
from syncd.cycle.look import Look
from syncd.cycle.orders import Orders
from syncd.cycle.reader import Reader
from syncd.cycle.strays import other_copy_of, rewritten_version
from syncd.cycle.task import Task
from syncd.database.record import Record, Row
from syncd.errors import MessageError
from syncd.files.snapshot import Stamp
from syncd.names import is_hidden, is_row_key, row_key

_BATCH = 250
_PATHS_AT_ONCE = 1000
_BATCH_BYTES = 1024 * 1024  # of texts, each of which may be written three times in a transaction
"""How much of files or rows is in memory at once; a single one may be larger."""


class _NotNow(Exception):
    """A message is left as it is: it is as it was, or what its file says cannot be told now."""


class Intake:
    """Takes in what one look found, and has the ``applier`` do what that asks for."""

    def __init__(
        self,
        look: Look,
        absent: Absent,
        orders: Orders,
        applier: Applier,
        reader: Reader,
        copies: Copies,
        *,
        prefer: Side,
    ) -> None:
        self._look = look
        self._orders = orders
        self._applier = applier
        self._ledger = ledger = applier.ledger
        self._store = ledger.store
        self._files = ledger.files
        self._report = ledger.report
        self._reader = reader
        self._copies = copies
        self._prefer = prefer
        self._bulk = Bulk(ledger)
        self._unknown = absent.unknown
        self._fileless = set(absent.gone)
        """Ids whose file is known to be gone."""
        self._done: set[str] = set()
        self._was_empty = False
        """Whether the database knew of no message when files began to be read ahead."""

    def take_files(self, paths: Sequence[str], ahead: Divided | None) -> None:
        """Take in files, of which some may have been read ahead."""
        self._was_empty = ahead is not None and self._store.is_empty()
        for start in range(0, len(paths), _PATHS_AT_ONCE):
            portion = paths[start : start + _PATHS_AT_ONCE]
            if ahead is not None:
                portion = self._take_ahead(ahead, portion)
            self._take_paths(portion)

    def left(self) -> list[str]:
        """Return the messages that are to be compared, and whose files did not come in."""
        return sorted((self._look.ids | self._fileless) - self._done - self._unknown.keys())

    def take_messages(self, ids: Sequence[str], ahead: Divided | None) -> None:
        """Take in messages, of which some may have been rendered ahead as files."""
        with self._bulk.recording():
            for start in range(0, len(ids), _BATCH):
                self._files.reopen()  # others may stand in their places since they were looked at
                new, left = self._bulk.rendered(ahead, ids[start : start + _BATCH])
                for portion in self._store.rows.in_portions(left, _BATCH_BYTES):
                    self._bulk.send([*new, *self._take_ids(portion)])
                    new = []
                self._bulk.send(new)

    def take_freed(self) -> None:
        """Read the files that were set aside because their id was taken, and is free by now."""
        freed, set_aside = self._ledger.freed, self._ledger.set_aside
        if freed:
            before = self._store.chronicle.quarantined_for(freed)
            waiting = before.keys() - self._ledger.released
            waiting |= {path for path, entry in set_aside.items() if entry.id in freed}
            paths = in_order(path for path in waiting if not is_row_key(path))
            for path in paths:
                set_aside.pop(path, None)
            for key in freed:
                self._copies.claimed.pop(key, None)
            self._take_paths(paths)

    # Files

    def _take_ahead(self, ahead: Divided, paths: Sequence[str]) -> list[str]:
        """Insert what is new in these files, as read ahead; return those that are left to read."""
        arrivals = self._bulk.read(ahead, paths)
        known: set[str] = set()
        if not self._was_empty:
            ids = {arrival.id for arrival in arrivals}
            known = self._store.known(ids) | self._store.rows.of(ids).keys()
        new: dict[str, Arrival] = {}
        for arrival in arrivals:
            key = arrival.id
            is_seen = key in known or key in new or key in self._copies.claimed
            if not (is_seen or arrival.path in self._copies.twins):
                new[key] = arrival
        if 2 * len(new) < len(arrivals):
            ahead.give_up()  # what is not new is read once more
        inserted = self._bulk.insert(list(new.values()))
        if len(inserted) < len(new):
            self._was_empty = False  # somebody else inserts too
        taken = {key: new[key].path for key in inserted}
        self._copies.claimed |= taken
        self._fileless -= inserted
        self._done |= inserted
        self._ledger.released.update(taken.values())
        left = set(paths).difference(taken.values())
        return [path for path in paths if path in left]

    def _take_paths(self, paths: Sequence[str]) -> None:
        """Read these files and carry out what they and their rows ask for."""
        at = {record.path: record for record in self._store.records.at(paths)}
        founds: list[Found] = []
        size = 0
        for path in paths:
            read = self._reader.read(path)
            if isinstance(read, Quarantined):
                self._set_file_aside(path, at.get(path), read)
            elif read is not None:
                founds.append(read)
                self._ledger.released.add(path)
                size += len(read.version.data)
                if size > _BATCH_BYTES:
                    self._take_founds(founds)
                    founds, size = [], 0
            elif path in at:
                self._report.unsettled.add(path)
                self._done.add(at[path].id)
        self._take_founds(founds)

    def _take_founds(self, founds: Sequence[Found]) -> None:
        # Small files may have large rows.
        ids = list(dict.fromkeys(found.state.message.id for found in founds))
        for portion in self._store.rows.in_portions(ids, _BATCH_BYTES):
            some = set(portion)
            of_some = [found for found in founds if found.state.message.id in some]
            self._take_portion(of_some if len(some) < len(ids) else founds)

    def _take_portion(self, founds: Sequence[Found]) -> None:
        ids = {found.state.message.id for found in founds}
        standing = ids - self._ledger.freed if self._orders.dry_run else ids
        records, rows = self._store.records.of(standing), self._store.rows.of(standing)
        intended = self._store.versions.intended(ids)
        tasks: list[Task | None] = []
        new: list[tuple[Found, Arrival]] = []
        for found in founds:
            key = found.state.message.id
            if self._copies.claim(found, records.get(key)):
                self._copies.claimed[key] = found.path
                self._fileless.discard(key)
                self._done.add(key)
                record, row = records.get(key), rows.get(key)
                intent = intended.get((key, found.version.digest))
                if record is None and row is None and intent is None:
                    arrival = arrival_of(found)
                    if arrival is not None:
                        new.append((found, arrival))
                        continue
                tasks.append(self._task(key, found, row, record, intent))
            elif self._copies.twins.get(found.path) != (key, found.version.stamp):
                self._ledger.beside.append(found)
        inserted = self._bulk.insert([arrival for _, arrival in new])
        left = [found for found, arrival in new if arrival.id not in inserted]
        tasks += [self._task(found.state.message.id, found, None, None, None) for found in left]
        wanted = [task for task in tasks if task is not None]
        for start in range(0, len(wanted), _BATCH):
            self._applier.apply(wanted[start : start + _BATCH])
        keep_beside(self._ledger)

    def _set_file_aside(self, path: str, record: Record | None, problem: Quarantined) -> None:
        may_be_known = record is not None or path in self._unknown.values()
        if is_hidden(path) and not may_be_known:
            return  # an editor's or file manager's own file, not a message
        stamp = self._files.look(path) if problem.in_bytes else None
        key = record.id if record else self._id_of_unreadable(path)
        self._ledger.quarantine_file(
            path, key, problem, stamp if isinstance(stamp, Stamp) else None
        )
        if record is not None:  # else the message of that id may stand elsewhere
            self._done.add(key)

    def _id_of_unreadable(self, path: str) -> str:
        """Return the id of the message whose file this may be: as it was known, else its name's."""
        for key, other in self._unknown.items():
            if other == path:
                return key
        known = self._store.chronicle.quarantined([path]).get(path)
        was = known.id if known is not None else None
        return was or path.rpartition("/")[2].removesuffix(".md")

    # Messages whose rows gave the reason, or the absence of their files

    def _take_ids(self, ids: Sequence[str]) -> list[Departure]:
        """Compare these messages, whose rows or whose files' absence gave the reason to look.

        Returns what becomes of those that are new in rows; of the others, all is done.
        """
        records, rows = self._store.records.of(ids), self._store.rows.of(ids)
        intended = self._store.versions.intended(ids)
        with_intent = {key for key, _ in intended}
        known = records.keys() | with_intent
        new_rows = [row for key, row in rows.items() if key not in known]
        new = [] if self._orders.one_way else self._bulk.departures(new_rows)
        done = {departure.id for departure in new}
        tasks, gone = [], []
        for key in ids:
            record, row = records.get(key), rows.get(key)
            if row is None and record is None:
                self._ledger.released.add(row_key(key))
                if key in with_intent:
                    gone.append(key)
            elif key not in done:
                with suppress(_NotNow):
                    found = self._file_of(key, record, row)
                    intent = intended.get((key, found.version.digest)) if found else None
                    tasks.append(self._task(key, found, row, record, intent))
        self._applier.apply([task for task in tasks if task is not None])
        if gone:
            self._forget_intents(gone)
        return new

    def _forget_intents(self, ids: Sequence[str]) -> None:
        """Forget what was to be written for rows that are gone, where a crash came before it was.

        Where such a file stands, wherever it was moved, it goes as its row went; so all files have
        to be known.
        """
        is_known = self._look.folders and not self._report.unsettled
        if is_known and not (self._orders.dry_run or self._orders.one_way):
            with self._store.writing(durable=False, mute=False):
                self._store.versions.drop_intents(ids)

    def _file_of(self, key: str, record: Record | None, row: Row | None) -> Found | None:
        """Return a message's file, None when it has none; raises `_NotNow`."""
        if key in self._fileless:
            return None
        path = record.path if record else self._files.standing(file_name(key))
        if path is None or (record is None and isinstance(self._files.look(path), str)):
            return None  # or what is no file at all, and so no message's
        is_plain = row is not None and not row.is_one_of_many and key not in self._look.vanished
        is_same = is_plain and record and row and row.digest == record.row_digest
        # What befell the file while its row could not be read was heard, and not carried over.
        if is_same and not self._store.chronicle.quarantined([row_key(key)]):
            self._ledger.released.add(row_key(key))
            raise _NotNow
        if path not in self._ledger.released:
            entry = self._store.chronicle.quarantined([path]).get(path)
            if entry is not None and entry.stamp is not None:
                raise _NotNow
        read = self._reader.read(path)
        if isinstance(read, Quarantined):
            self._set_file_aside(path, record, read)
            raise _NotNow
        if read is None:
            is_gone = self._files.look(path) is None
            if is_gone and self._orders.one_way:
                self._report.is_partial = True
                raise _NotNow
            if is_gone:
                self._report.vanished.add(path)
            self._report.unsettled.add(row_key(key))
            raise _NotNow
        if read.state.message.id != key:
            if record is None:
                return None
            # Another message stands there: this one's new place is not seen yet.
            self._report.vanished.add(path)
            self._report.unsettled.add(row_key(key))
            raise _NotNow
        self._ledger.released.add(path)
        return read

    # One message

    def _task(
        self,
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
            self._ledger.quarantine_row(key, error)
            if found is not None:
                self._ledger.beside.append(found)
            return None
        if row is not None:
            self._ledger.released.add(row_key(key))
        agreed, rewritten = self._versions_behind(found, record, intended)
        outcome = reconcile(
            agreed.baseline if agreed else None,
            found.state if found else None,
            message,
            prefer=self._prefer,
            restore=self._orders.restore,
            rewrite_of=rewritten.baseline if rewritten else None,
        )
        if self._orders.one_way:
            self._report.is_partial |= outcome.file is not Step.NONE or outcome.row is Step.DELETE
            if outcome.row is Step.DELETE or outcome.file in (Step.CREATE, Step.DELETE):
                return None
            if outcome.file is Step.UPDATE:
                # The file would have to change: it stays without a baseline for a later cycle.
                rows_only = replace(outcome, file=Step.NONE, file_fields=frozenset())
                done = outcome.row is Step.NONE
                return None if done else Task(key, rows_only, found, row, record, partial=True)
        if outcome is NOTHING:
            return None
        if outcome.file is Step.DELETE and key not in self._look.gone_rows:
            # Its row went after the look, or unheard of: the guard has not seen that.
            self._report.vanished.add(row_key(key))
            return None
        return Task(key, outcome, found, row, record, was_intended=intended is not None)

    def _versions_behind(
        self, found: Found | None, record: Record | None, intended: Record | None
    ) -> tuple[Record | None, Record | None]:
        """Return the version that both sides agreed on, and the one that a file is a rewrite of."""
        if found is None or (record is not None and record.digest == found.version.digest):
            return record, None
        if intended is not None:
            base, mailbox = intended.baseline, found.state.mailbox
            if record is not None and record.baseline.mailbox is mailbox:
                # Where the bytes came to be but not the move, it is still to be done; where the
                # file stands elsewhere, somebody moved it since.
                base = replace(base, mailbox=mailbox)
            return replace(intended, baseline=base), None
        agreed = other_copy_of(self._store, found, record) or record
        return agreed, rewritten_version(self._store, found, record)


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
