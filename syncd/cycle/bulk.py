"""Messages that are new on one side and unknown on the other, taken over many at a time.

In a first sync nearly all are such, and afterwards most. There is nothing to reconcile: a file
becomes a row, a row becomes a file, and both get their first baseline. What is in any way odd is
left to the way of single messages (`syncd.cycle.apply`), whose order of writing is kept here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from syncd.core.journal import first_entry
from syncd.core.message import file_name
from syncd.core.sides import Side
from syncd.cycle.departure import Departure, departures_of
from syncd.cycle.divided import Divided
from syncd.cycle.found import Arrival
from syncd.cycle.ledger import Ledger
from syncd.database.chronicle import now_text
from syncd.database.queries import in_portions
from syncd.database.record import Row
from syncd.errors import ReplicaError, StaleReplica, SyncdError
from syncd.files.folders import split_path
from syncd.names import row_key

_AT_ONCE_BYTES = 2 * 1024 * 1024  # of files, whose rows go in within some 50 ms


class Bulk:
    """Takes over what is new; counts and notes it in the cycle's ``ledger``."""

    def __init__(self, ledger: Ledger) -> None:
        self._store = ledger.store
        self._files = ledger.files
        self._ledger = ledger
        self._report = ledger.report
        self._unrecorded: Sequence[Departure] = []

    # Files that become rows

    @staticmethod
    def read(ahead: Divided, paths: Sequence[str]) -> list[Arrival]:
        """Return what is new in these files, if nothing is known of it, as read ahead."""
        return [Arrival(*flat) for path in paths if (flat := ahead.take(path)) is not None]

    def insert(self, arrivals: Sequence[Arrival]) -> set[str]:
        """Insert messages that are new in files; return the ids of those that went in.

        They go in portions, each in one transaction. Where one of a portion does not go in, the
        rest of it does not either, nor what comes after.
        """
        inserted: set[str] = set()
        for portion in in_portions(arrivals, lambda one: one.size, _AT_ONCE_BYTES):
            if not self._insert(portion):
                break
            inserted.update(one.id for one in portion)
        self._report.counts.rows_inserted += len(inserted)
        self._ledger.touched |= inserted
        return inserted

    def _insert(self, arrivals: Sequence[Arrival]) -> bool:
        if self._ledger.dry_run:
            return True
        rows, records = [one.row for one in arrivals], [one.record for one in arrivals]
        entry = first_entry(Side.DB, at=now_text(), cause=self._ledger.cause)
        try:
            with self._store.writing():
                self._store.rows.insert_all(rows)
                self._store.records.save_first(records, entry)
                self._ledger.note_written((one.id, one.row_digest) for one in arrivals)
        except StaleReplica:
            return False
        return True

    # Rows that become files

    def departures(self, rows: Sequence[Row]) -> list[Departure]:
        """Return what becomes of rows of which nothing is known, where that is plain."""
        found = departures_of(rows, self._ledger.own_path)
        return [one for one in found if one is not None and self._is_plain(one)]

    def rendered(
        self, ahead: Divided | None, ids: Sequence[str]
    ) -> tuple[list[Departure], Sequence[str]]:
        """Return what was rendered ahead, where no file stands in its way, and the ids left."""
        if ahead is None:
            return [], ids
        told = [Departure(*flat) for key in ids if (flat := ahead.take(key)) is not None]
        new = [one for one in told if self._is_plain(one)]
        done = {one.id for one in new}
        return new, [key for key in ids if key not in done]

    def _is_plain(self, departure: Departure) -> bool:
        """Tell whether no file stands for a new row or in its way, and its own is not too large."""
        if departure.path in self._ledger.taken or len(departure.data) > self._files.max_bytes:
            return False
        return self._files.standing(file_name(departure.id)) is None

    def send(self, departures: Sequence[Departure]) -> None:
        """Write messages that are new in rows as files, inside of `recording`.

        To one that cannot be written now, a later cycle comes back.
        """
        closed = self._ledger.closed
        if closed:
            total = len(departures)
            departures = [one for one in departures if split_path(one.path)[0] not in closed]
            self._report.more_errors += total - len(departures)
        if not departures:
            return
        self._ledger.released.update(row_key(one.id) for one in departures)
        sent = departures
        if not self._ledger.dry_run:
            self._record(departures)
            self._files.stage([(one.path, one.data, False) for one in departures])
            sent = [one for one in map(self._sent, departures) if one is not None]
            self._report.late += self._files.settle()
            self._unrecorded = sent
        self._report.counts.files_created += len(sent)
        self._ledger.touched.update(one.id for one in sent)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Have all that is sent inside recorded in the end, also where something goes wrong."""
        try:
            yield
        except SyncdError:
            with suppress(SyncdError):
                self._record([])
            raise
        self._record([])

    def _record(self, intended: Sequence[Departure]) -> None:
        """Record the baselines of what was sent last, and what is about to be written.

        Both at once, as each transaction may have to wait for other writers. Of what was written
        the intents tell until then.
        """
        sent = self._unrecorded
        if sent or intended:
            entry = first_entry(Side.FILE, at=now_text(), cause=self._ledger.cause)
            with self._store.writing(durable=False, mute=False):
                if sent:
                    self._store.records.save_first([one.record for one in sent], entry)
                    self._store.versions.drop_intents(one.id for one in sent)
                self._store.versions.intend([one.record for one in intended])
            self._unrecorded = []

    def _sent(self, departure: Departure) -> Departure | None:
        """Write one file; return the departure with the file's stamp, or None."""
        self._ledger.taken.add(departure.path)
        try:
            stamp = self._files.create(departure.path, departure.data)
        except StaleReplica:
            self._report.unsettled.add(row_key(departure.id))
            return None
        except ReplicaError as error:
            self._ledger.note_failure(error, {split_path(departure.path)[0]})
            return None
        return departure.stamped(stamp)
