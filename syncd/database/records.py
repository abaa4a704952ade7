"""The baselines of a project's messages, versions of files that were written lately, and twins."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from syncd.database.queries import Queries
from syncd.database.record import RECORD_COLUMNS, Record, RecordValues, record_from, record_values
from syncd.errors import DamagedBaseline
from syncd.files.snapshot import Stamp, Version

if TYPE_CHECKING:
    from syncd.core.journal import JournalEntry

_RECORD = ", ".join(RECORD_COLUMNS)
_RECORD_MARKS = ", ".join("?" * len(RECORD_COLUMNS))
_VERSION_MARKS = f"?, ?, {_RECORD_MARKS}"
_SAVE_VERSION = f"INSERT INTO syncd_versions (at, intent, {_RECORD}) VALUES ({_VERSION_MARKS})"
_SAVE_SEEN = (
    f"INSERT INTO syncd_versions (seen, at, intent, {_RECORD}) VALUES (?, {_VERSION_MARKS})"
)
_IS_TIME = "typeof(at) IN ('real', 'integer')"  # somebody else may write there
_SAVE_RECORD = f"INSERT OR REPLACE INTO syncd_baseline ({_RECORD}) VALUES ({_RECORD_MARKS})"
_TELL_OF_NEW = (
    "INSERT INTO syncd_journal (at, side, step, fields, why, id, path, agent, project) "
    "SELECT ?, ?, ?, ?, ?, b.id, b.path, m.from_agent, m.from_project "
    "FROM syncd_baseline b LEFT JOIN messages m USING (id) WHERE b.rowid > ? ORDER BY b.rowid"
)


class _OfRecords(Queries):
    """A table of records."""

    table: str

    def damaged(self) -> list[int]:
        """Return the numbers of the records that make no sense: somebody else wrote there."""
        found = []
        for number, *values in self._execute(f"SELECT rowid, {_RECORD} FROM {self.table}"):
            try:
                record_from(values)
            except DamagedBaseline:
                found.append(number)
        return found

    def drop(self, numbers: Iterable[int]) -> None:
        """Drop the records that have these numbers."""
        sql = f"DELETE FROM {self.table} WHERE rowid = ?"
        self._executemany(sql, [(number,) for number in numbers])


class Records(_OfRecords):
    """The baselines: what both sides last agreed on, a record for each message."""

    table = "syncd_baseline"

    def of(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the baselines of these ids that are known."""
        sql = f"SELECT {_RECORD} FROM syncd_baseline WHERE id IN "
        return {values[0]: record_from(values) for values in self._select_in(sql, ids)}

    def at(self, paths: Iterable[str]) -> list[Record]:
        """Return the baselines whose files stood at these paths.

        Two may name one path: two messages changed places, and only one end of that was seen.
        """
        sql = f"SELECT {_RECORD} FROM syncd_baseline WHERE path IN "
        return [record_from(values) for values in self._select_in(sql, paths)]

    def stamps(self) -> Iterator[tuple[str, str, Stamp]]:
        """Yield path, id and stamp of every file that the baseline knows."""
        sql = "SELECT path, id, size, mtime_ns, inode FROM syncd_baseline"
        for path, key, size, mtime_ns, inode in self._execute(sql):
            yield path, key, Stamp(size, mtime_ns, inode)

    def count_by_folder(self) -> dict[str, int]:
        """Return how many messages the baseline has in each folder."""
        folder = "substr(path, 1, length(rtrim(path, replace(path, '/', ''))) - 1)"
        sql = f"SELECT {folder}, count(*) FROM syncd_baseline GROUP BY 1"
        return dict(self._execute(sql).fetchall())

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of these ids that have a baseline."""
        found = self._select_in("SELECT id FROM syncd_baseline WHERE id IN ", ids)
        return {key for (key,) in found}

    def save(self, records: Iterable[Record]) -> None:
        """Make these the baselines of their messages."""
        self._executemany(_SAVE_RECORD, map(record_values, records))

    def save_first(self, records: Sequence[RecordValues], entry: JournalEntry) -> None:
        """Save the first baselines of messages; the journal gets ``entry`` for each."""
        sql = "SELECT coalesce(max(rowid), 0) FROM syncd_baseline"
        last = self._execute(sql).fetchone()[0]
        self._insert_many(_SAVE_RECORD, _RECORD_MARKS, records)
        told = (entry.at, entry.side, entry.step, entry.fields, entry.why, last)
        self._execute(_TELL_OF_NEW, told)

    def forget(self, message_id: str) -> None:
        self._execute("DELETE FROM syncd_baseline WHERE id = ?", (message_id,))


class Versions(_OfRecords):
    """File versions that syncd replaced lately, or (an intent) was about to write.

    A late writer starts from one of them, and a cycle that was cut off left others behind.
    """

    table = "syncd_versions"

    def save(self, record: Record, *, intent: bool = False) -> None:
        """Remember, for a while, a file version that is being replaced, or about to be written."""
        self._execute(_SAVE_SEEN, (record.seen, time.time(), intent, *record_values(record)))

    def intend(self, records: Sequence[RecordValues]) -> None:
        """Remember many first versions that are about to be written; they are no rewrite's base."""
        noted = (time.time(), True)
        self._insert_many(_SAVE_VERSION, _VERSION_MARKS, [noted + values for values in records])

    def settle_intent(self, message_id: str) -> None:
        """Note that what was about to be written has replaced what stood there."""
        sql = "UPDATE syncd_versions SET intent = 0 WHERE id = ? AND intent"
        self._execute(sql, (message_id,))

    def drop_intents(self, ids: Iterable[str]) -> None:
        """Note that what was about to be written is now the baseline, or never will be."""
        sql = "DELETE FROM syncd_versions WHERE id = ? AND intent"
        self._executemany(sql, [(key,) for key in ids])

    def with_intent(self, ids: Iterable[str]) -> set[str]:
        """Return those of these ids for which something was about to be written."""
        sql = "SELECT id FROM syncd_versions WHERE intent AND id IN "
        return {key for (key,) in self._select_in(sql, ids)}

    def intended(self, ids: Iterable[str]) -> dict[tuple[str, bytes], Record]:
        """Return what syncd was about to write, by id and the file's digest: a crash's traces."""
        sql = f"SELECT {_RECORD} FROM syncd_versions WHERE intent AND id IN "
        found = map(record_from, self._select_in(sql, ids))
        return {(record.id, record.digest): record for record in found}

    def of(self, message_id: str) -> Iterator[Record]:
        """Yield the versions written or replaced lately, newest first."""
        sql = f"SELECT {_RECORD} FROM syncd_versions WHERE id = ? ORDER BY seq DESC"
        return map(record_from, self._execute(sql, (message_id,)).fetchall())

    def seen_as(
        self, message_id: str, sights: Iterable[bytes], since: float
    ) -> tuple[float, Record] | None:
        """Return the newest version in which the old client sees one of these, with its time."""
        sql = (
            f"SELECT seq, at, {_RECORD} FROM syncd_versions "
            f"WHERE id = ? AND seen = ? AND at >= ? AND {_IS_TIME} ORDER BY seq DESC LIMIT 1"
        )
        # One by one: in the order of the index none but the newest is read.
        rows = [self._execute(sql, (message_id, seen, since)).fetchone() for seen in sights]
        found = max((row for row in rows if row is not None), key=itemgetter(0), default=None)
        return (found[1], record_from(found[2:])) if found is not None else None

    def stood_at(self, message_id: str, path: str, since: float) -> bool:
        """Tell whether a version of the message was at this path lately."""
        sql = f"SELECT 1 FROM syncd_versions WHERE id = ? AND path = ? AND at >= ? AND {_IS_TIME}"
        return self._execute(f"{sql} LIMIT 1", (message_id, path, since)).fetchone() is not None

    def of_file(self, version: Version) -> Record | None:
        """Return what was lately written or replaced as the file that has these bytes or inode."""
        sql = (
            f"SELECT {_RECORD} FROM syncd_versions WHERE digest = ? OR (inode = ? AND NOT intent) "
            "ORDER BY digest = ? DESC, seq DESC LIMIT 1"
        )
        digest = version.digest
        found = self._execute(sql, (digest, version.stamp.inode, digest)).fetchone()
        return record_from(found) if found is not None else None


class TwinRecords(Queries):
    """The outbox copies of messages to oneself that a cycle left alone: path, and id and stamp."""

    def all(self) -> dict[str, tuple[str, Stamp]]:
        return _twins(self._execute(_SELECT_TWIN))

    def at(self, paths: Iterable[str]) -> dict[str, tuple[str, Stamp]]:
        """Return those at these paths."""
        return _twins(self._select_in(f"{_SELECT_TWIN} WHERE path IN ", paths))

    def save(self, path: str, message_id: str, stamp: Stamp) -> None:
        self._execute(
            "INSERT OR REPLACE INTO syncd_twins VALUES (?, ?, ?, ?, ?)", (path, message_id, *stamp)
        )

    def forget(self, path: str) -> None:
        self._execute("DELETE FROM syncd_twins WHERE path = ?", (path,))


_SELECT_TWIN = "SELECT path, id, size, mtime_ns, inode FROM syncd_twins"


def _twins(found: Iterable[tuple[Any, ...]]) -> dict[str, tuple[str, Stamp]]:
    return {path: (key, Stamp(*stamp)) for path, key, *stamp in found}
