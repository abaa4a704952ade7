"""The replica of SQLite: rows, and beside them the baseline, the feed and the state.

Everything that syncd knows of a project lives in the project's own database, so that a row and
its baseline commit together, and a database that is deleted, restored or replaced brings its own
baseline along. Transactions that write are short `BEGIN IMMEDIATE` ones; parsing, rendering and
file work happen outside them.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from syncd.chronicle import Chronicle, now_text
from syncd.database import DROPPED_AT_ONCE, translated
from syncd.errors import DamagedBaseline, LostTransaction, MessageError, StaleReplica
from syncd.message import FIELDS, Message
from syncd.names import is_utf8
from syncd.record import (
    RECORD_COLUMNS,
    Record,
    RecordValues,
    Row,
    RowValues,
    record_from,
    record_values,
    row_digest,
)
from syncd.snapshot import Stamp, Version
from syncd.tables import COLUMNS

if TYPE_CHECKING:
    from syncd.journal import JournalEntry

T = TypeVar("T")

VERSION_MEMORY_S = 600.0
"""How long a replaced version is known as what an old client's late rewrite started from."""

_SELECT_ROW = ", ".join(COLUMNS)
_ROW_MARKS = ", ".join("?" * len(COLUMNS))
_INSERT_ROW = f"INSERT INTO messages ({_SELECT_ROW}) VALUES ({_ROW_MARKS})"
_ROW_SIZE = " + ".join(f"coalesce(length({column}), 0)" for column in COLUMNS)
_THE_ROW, _TO_DELETE = "the row", "to delete the row"
_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 50  # of 14 values each: older versions of SQLite take 999 in a statement


class FeedEntry(NamedTuple):
    """An id that a host touched; ``was`` is the status of a row that it deleted."""

    seq: int
    id: object
    was: str | None


class Store(Chronicle):
    """One project's database, with all that syncd reads from it and writes into it."""

    # Rows

    def rows(self, ids: Iterable[str]) -> dict[str, Row]:
        """Return the rows of these ids that are there."""
        found: dict[str, Row] = {}
        sql = f"SELECT {_SELECT_ROW}, read_at FROM messages WHERE id IN "
        for values in self._select_in(sql, ids):
            found[values[0]] = Row(values[:-1], values[-1], values[0] in found)
        return found

    def doubled_ids(self) -> set[object]:
        """Return the ids that several rows have; a table that somebody rebuilt may permit that."""
        only_id = "(SELECT group_concat(name) FROM pragma_index_info(indexes.name)) = 'id'"
        sql = (
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list('messages') AS indexes "
            f'WHERE indexes."unique" AND NOT indexes.partial AND {only_id})'
        )
        if self.connection.execute(sql).fetchone()[0]:
            return set()
        sql = "SELECT id FROM messages GROUP BY id HAVING count(*) > 1"
        return {key for (key,) in self.connection.execute(sql)}

    def in_portions(self, ids: Sequence[str], most_bytes: int) -> Iterator[list[str]]:
        """Yield these ids in portions whose rows together are about ``most_bytes`` at most.

        Of those without a row, their files count.
        """
        if len(ids) == 1:
            yield list(ids)  # however large
            return
        sql = f"SELECT id, {_ROW_SIZE} FROM messages WHERE id IN "
        sizes: dict[str, int] = dict(self._select_in(sql, ids))
        gone = [key for key in ids if key not in sizes]
        sizes.update(self._select_in("SELECT id, size FROM syncd_baseline WHERE id IN ", gone))
        portion: list[str] = []
        total = 0
        for key in ids:
            size = sizes.get(key, 0)
            if portion and total + size > most_bytes:
                yield portion
                portion, total = [], 0
            portion.append(key)
            total += size
        if portion:
            yield portion

    def is_empty(self) -> bool:
        """Tell whether it knows of no message at all: no row, no baseline, and none intended."""
        return not self._has_any("messages", "syncd_baseline", "syncd_versions")

    def knows_files(self) -> bool:
        """Tell whether it holds the stamp of any file."""
        return self._has_any("syncd_baseline", "syncd_twins", "syncd_quarantine")

    def _has_any(self, *tables: str) -> bool:
        found = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables)
        return bool(self.connection.execute(f"SELECT {found}").fetchone()[0])

    def changed_rows(self) -> list[object]:
        """Return the ids of all rows that differ from the baseline; any type, also NULL."""
        columns = ", ".join(f"m.{column}" for column in COLUMNS)
        sql = (
            f"SELECT {columns}, b.row_digest FROM messages m LEFT JOIN syncd_baseline b USING (id)"
        )
        return self._decoded(
            lambda: [
                row[0] for row in self.connection.execute(sql) if row_digest(row[:-1]) != row[-1]
            ]
        )

    def all_rows(self) -> Iterator[RowValues]:
        """Yield every row, with one at a time in memory."""
        return self.connection.execute(f"SELECT {_SELECT_ROW} FROM messages")

    def all_row_ids(self) -> Iterator[object]:
        """Yield the id of every row."""
        return (found[0] for found in self.connection.execute("SELECT id FROM messages"))

    def gone_rows(self, ids: Iterable[str] | None = None) -> list[str]:
        """Return the ids, of these or of all, that the baseline knows and that have no row."""
        sql = (
            "SELECT id FROM syncd_baseline b "
            "WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = b.id)"
        )
        if ids is None:
            return [found[0] for found in self.connection.execute(sql)]
        return [found[0] for found in self._select_in(f"{sql} AND id IN ", ids)]

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of these ids that have a baseline, or are about to get one."""
        wanted = list(ids)
        with_baseline = self._select_in("SELECT id FROM syncd_baseline WHERE id IN ", wanted)
        noted = self._select_in("SELECT id FROM syncd_versions WHERE intent AND id IN ", wanted)
        return {key for found in (with_baseline, noted) for (key,) in found}

    def insert_row(self, message: Message) -> Row:
        """Insert a row; raises `StaleReplica` when one of that id came in between."""
        values = tuple(message)
        try:
            done = self.connection.execute(_INSERT_ROW, values)
        except sqlite3.IntegrityError as error:
            if message.id in self.rows([message.id]):
                raise StaleReplica(f"a row {message.id!r} exists already") from error
            raise _refusal(error) from error
        if done.rowcount != 1:
            raise _refusal("it was ignored")
        return Row(values)

    def insert_new(
        self,
        rows: Sequence[RowValues],
        records: Sequence[RecordValues],
        entry: JournalEntry,
    ) -> None:
        """Insert many rows with their first baselines; the journal gets ``entry`` for each.

        Raises `StaleReplica` when one of them exists already or is refused: the transaction must
        then be given up.
        """
        try:
            inserted = self._insert_many(_INSERT_ROW, _ROW_MARKS, rows)
        except sqlite3.IntegrityError as error:
            raise StaleReplica("one of the rows exists already, or is refused") from error
        if inserted != len(rows):
            raise StaleReplica("one of the rows was ignored by a trigger")
        self._save_first(records, entry)

    def _save_first(self, records: Sequence[RecordValues], entry: JournalEntry) -> None:
        """Save the first baselines of messages; the journal gets ``entry`` for each."""
        sql = "SELECT coalesce(max(rowid), 0) FROM syncd_baseline"
        last = self.connection.execute(sql).fetchone()[0]
        self._insert_many(_SAVE_RECORD, _RECORD_MARKS, records)
        told = (entry.at, entry.side, entry.step, entry.fields, entry.why, last)
        self.connection.execute(_TELL_OF_NEW, told)

    def _insert_many(self, sql: str, marks: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert rows as ``sql`` inserts one, many with each statement; return how many went in.

        On a table with triggers, SQLite copies every page before a statement first changes it, to
        be able to undo that one alone: with a statement for each row, a fifth of the time.
        """
        many = sql + f", ({marks})" * (_ROWS_AT_ONCE - 1)
        rest = len(rows) % _ROWS_AT_ONCE
        inserted = 0
        for start in range(0, len(rows) - rest, _ROWS_AT_ONCE):
            values = chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])
            inserted += self.connection.execute(many, tuple(values)).rowcount
        if rest:
            inserted += self.connection.executemany(sql, rows[-rest:]).rowcount
        return inserted

    def update_row(self, seen: Row, message: Message, fields: Iterable[str]) -> Row:
        """Set these fields where the row is still as seen, else raise `StaleReplica`.

        A row that becomes read and has no ``read_at`` gets one.
        """
        changes = {COLUMNS[1 + FIELDS.index(name)]: getattr(message, name) for name in fields}
        values = tuple(
            changes.get(column, old) for column, old in zip(COLUMNS, seen.values, strict=True)
        )
        if changes.get("status") == "read" and seen.read_at is None:
            changes["read_at"] = now_text()
        sets = ", ".join(f"{column} = ?" for column in changes)
        same, same_values = _same_row(seen.values)
        try:
            done = self.connection.execute(
                f"UPDATE messages SET {sets} WHERE {same}", (*changes.values(), *same_values)
            )
        except sqlite3.IntegrityError as error:
            raise _refusal(error) from error
        if done.rowcount != 1:
            raise self._unchanged(seen)
        return Row(values)

    def delete_row(self, seen: Row) -> None:
        """Delete the row where it is still as seen, else raise `StaleReplica`."""
        same, values = _same_row(seen.values)
        try:
            done = self.connection.execute(f"DELETE FROM messages WHERE {same}", values)
        except sqlite3.IntegrityError as error:
            raise _refusal(error, _TO_DELETE) from error
        if done.rowcount != 1:
            raise self._unchanged(seen, _TO_DELETE)

    def _unchanged(self, seen: Row, what: str = _THE_ROW) -> StaleReplica | MessageError:
        """Return why nothing came of a change to a row."""
        same, values = _same_row(seen.values)
        sql = f"SELECT EXISTS (SELECT 1 FROM messages WHERE {same})"
        if self.connection.execute(sql, values).fetchone()[0]:
            return _refusal("it was ignored", what)
        return StaleReplica(f"the row {seen.values[0]!r} changed meanwhile")

    def changed_by_host(self, written: Mapping[str, bytes]) -> set[str]:
        """Return the ids of rows that are not what was written, by digest, but a trigger's."""
        rows = self.rows(written)
        return {key for key, row in rows.items() if row.digest != written[key]}

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo what was written inside, within the transaction, when it raises.

        Raises `LostTransaction` when a host's trigger has rolled back the transaction itself.
        """
        self.connection.execute("SAVEPOINT message")
        try:
            yield
        except BaseException as error:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO message")
            elif isinstance(error, MessageError):
                raise LostTransaction(error.sentence, hint=error.hint) from error
            raise
        finally:
            if self.connection.in_transaction:
                self.connection.execute("RELEASE message")

    # Baseline

    def records(self, ids: Iterable[str]) -> dict[str, Record]:
        """Return the baselines of these ids that are known."""
        sql = f"SELECT {_RECORD} FROM syncd_baseline WHERE id IN "
        return {values[0]: record_from(values) for values in self._select_in(sql, ids)}

    def records_at(self, paths: Iterable[str]) -> list[Record]:
        """Return the baselines whose files stood at these paths.

        Two may name one path: two messages changed places, and only one end of that was seen.
        """
        sql = f"SELECT {_RECORD} FROM syncd_baseline WHERE path IN "
        return [record_from(values) for values in self._select_in(sql, paths)]

    def stamps(self) -> Iterator[tuple[str, str, Stamp]]:
        """Yield path, id and stamp of every file that the baseline knows."""
        sql = "SELECT path, id, size, mtime_ns, inode FROM syncd_baseline"
        for path, key, size, mtime_ns, inode in self.connection.execute(sql):
            yield path, key, Stamp(size, mtime_ns, inode)

    def count_by_folder(self) -> dict[str, int]:
        """Return how many messages the baseline has in each folder."""
        folder = "substr(path, 1, length(rtrim(path, replace(path, '/', ''))) - 1)"
        sql = f"SELECT {folder}, count(*) FROM syncd_baseline GROUP BY 1"
        return dict(self.connection.execute(sql).fetchall())

    def save_records(self, records: Iterable[Record]) -> None:
        """Make these the baselines of their messages."""
        self.connection.executemany(_SAVE_RECORD, map(record_values, records))

    def save_version(self, record: Record, *, intent: bool = False) -> None:
        """Remember, for a while, a file version that is being replaced, or about to be written."""
        self.connection.execute(_SAVE_VERSION, (time.time(), intent, *record_values(record)))

    def intend(self, records: Sequence[RecordValues]) -> None:
        """Remember many file versions that are about to be written."""
        noted = (time.time(), True)
        self._insert_many(_SAVE_VERSION, _VERSION_MARKS, [noted + values for values in records])

    def save_intended(self, records: Sequence[RecordValues], entry: JournalEntry) -> None:
        """Make what was intended, and is written by now, the first baselines of its messages.

        The journal gets ``entry`` for each.
        """
        self._save_first(records, entry)
        sql = "DELETE FROM syncd_versions WHERE id = ? AND intent"
        self.connection.executemany(sql, [(values[0],) for values in records])

    def settle_intents(self, message_id: str, *, drop: bool) -> None:
        """Note that what was about to be written is now the baseline, or (``drop``) forget it."""
        if drop:
            sql = "DELETE FROM syncd_versions WHERE id = ? AND intent"
        else:
            sql = "UPDATE syncd_versions SET intent = 0 WHERE id = ? AND intent"
        self.connection.execute(sql, (message_id,))

    def intended(self, ids: Iterable[str]) -> dict[tuple[str, bytes], Record]:
        """Return what syncd was about to write, by id and the file's digest: a crash's traces."""
        sql = f"SELECT {_RECORD} FROM syncd_versions WHERE intent AND id IN "
        found = map(record_from, self._select_in(sql, ids))
        return {(record.id, record.digest): record for record in found}

    def versions(self, message_id: str) -> list[tuple[float, Record]]:
        """Return the versions written or replaced lately, with the time of that, newest first."""
        sql = f"SELECT at, {_RECORD} FROM syncd_versions WHERE id = ? ORDER BY seq DESC"
        rows = self.connection.execute(sql, (message_id,)).fetchall()
        return [(values[0], record_from(values[1:])) for values in rows]

    def version_of(self, version: Version) -> Record | None:
        """Return what was lately written or replaced as the file that has these bytes or inode."""
        sql = (
            f"SELECT {_RECORD} FROM syncd_versions WHERE digest = ? OR (inode = ? AND NOT intent) "
            "ORDER BY digest = ? DESC, seq DESC LIMIT 1"
        )
        digest = version.digest
        found = self.connection.execute(sql, (digest, version.stamp.inode, digest)).fetchone()
        return record_from(found) if found is not None else None

    def prune_versions(self) -> None:
        """Drop the versions that no late writer can start from any more."""
        since = time.time() - VERSION_MEMORY_S
        oldest = self.connection.execute(
            "SELECT at FROM syncd_versions ORDER BY seq LIMIT 1"
        ).fetchone()
        if oldest is not None and oldest[0] < since:
            self.drop_rows("syncd_versions", "at < ?", [since])

    def forget_damaged(self) -> None:
        """Forget each baseline that makes no sense; its message is synced as in a first sync."""
        for table in ("syncd_baseline", "syncd_versions"):
            damaged = []
            for number, *values in self.connection.execute(f"SELECT rowid, {_RECORD} FROM {table}"):
                try:
                    record_from(values)
                except DamagedBaseline:
                    damaged.append((number,))
            for start in range(0, len(damaged), DROPPED_AT_ONCE):
                with self.writing():
                    some = damaged[start : start + DROPPED_AT_ONCE]
                    self.connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", some)

    def forget_record(self, message_id: str) -> None:
        self.connection.execute("DELETE FROM syncd_baseline WHERE id = ?", (message_id,))

    # Feed

    def feed(self) -> list[FeedEntry]:
        """Return what hosts touched since the feed was last consumed, oldest first."""
        sql = "SELECT seq, id, was FROM syncd_feed ORDER BY seq"
        return [FeedEntry(*values) for values in self.connection.execute(sql)]

    def consume_feed(self, entries: Iterable[FeedEntry]) -> None:
        self.connection.executemany(
            "DELETE FROM syncd_feed WHERE seq = ?", [(entry.seq,) for entry in entries]
        )

    def add_to_feed(self, message_id: str) -> None:
        """Have the next cycle look at a message whose row syncd itself changed."""
        self.connection.execute("INSERT INTO syncd_feed (id) VALUES (?)", (message_id,))

    # Twins

    def twins(self) -> dict[str, tuple[str, Stamp]]:
        """Return id and stamp of each recorded outbox copy of a message to oneself, by path."""
        sql = "SELECT path, id, size, mtime_ns, inode FROM syncd_twins"
        return {
            path: (key, Stamp(size, mtime_ns, inode))
            for path, key, size, mtime_ns, inode in self.connection.execute(sql)
        }

    def save_twin(self, path: str, message_id: str, stamp: Stamp) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO syncd_twins VALUES (?, ?, ?, ?, ?)",
            (path, message_id, stamp.size, stamp.mtime_ns, stamp.inode),
        )

    def forget_twin(self, path: str) -> None:
        self.connection.execute("DELETE FROM syncd_twins WHERE path = ?", (path,))

    # State

    def state(self, key: str) -> Any:
        """Return a JSON value kept for the project as a whole; None when there is none."""
        sql = "SELECT value FROM syncd_state WHERE key = ?"
        found = self.connection.execute(sql, (key,)).fetchone()
        if found is None or found[0] is None:
            return None
        try:
            return json.loads(found[0])
        except (TypeError, ValueError):
            return None  # somebody else wrote there: as if nothing were known

    def set_state(self, key: str, value: Any) -> None:
        text = json.dumps(value) if value is not None else None
        self.connection.execute("INSERT OR REPLACE INTO syncd_state VALUES (?, ?)", (key, text))

    def projects_addressed(self) -> set[str]:
        """Return every project that a row is from or to, as spelled there."""
        sql = (
            "SELECT DISTINCT to_project FROM messages WHERE status IS NOT 'sent' "
            "UNION SELECT DISTINCT from_project FROM messages WHERE status = 'sent'"
        )
        with translated(self.path):
            return {found[0] for found in self.connection.execute(sql)}

    def count_rows(self) -> int:
        found: int = self.connection.execute("SELECT count(*) FROM messages").fetchone()[0]
        return found

    def _select_in(self, sql: str, values: Iterable[str]) -> Iterator[RowValues]:
        wanted = list(values)
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            batch = wanted[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(batch))
            yield from self._all_of(f"{sql}({marks})", batch)

    def _all_of(self, sql: str, values: Sequence[str]) -> list[RowValues]:
        """Return all that a query finds."""
        return self._decoded(lambda: self.connection.execute(sql, values).fetchall())

    def _decoded(self, read: Callable[[], T]) -> T:
        """Return what is read from the database; what is not UTF-8 is decoded with surrogates.

        That takes a call of ours for each value, so it is done only where it is needed.
        """
        decode, self.connection.text_factory = self.connection.text_factory, str
        try:
            return read()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise  # else these are bytes that Python's own decoder refuses
        finally:
            self.connection.text_factory = decode
        return read()


_RECORD = ", ".join(RECORD_COLUMNS)
_RECORD_MARKS = ", ".join("?" * len(RECORD_COLUMNS))
_VERSION_MARKS = f"?, ?, {_RECORD_MARKS}"
_SAVE_VERSION = f"INSERT INTO syncd_versions (at, intent, {_RECORD}) VALUES ({_VERSION_MARKS})"
_SAVE_RECORD = f"INSERT OR REPLACE INTO syncd_baseline ({_RECORD}) VALUES ({_RECORD_MARKS})"
_TELL_OF_NEW = (
    "INSERT INTO syncd_journal (at, side, step, fields, why, id, path, agent, project) "
    "SELECT ?, ?, ?, ?, ?, b.id, b.path, m.from_agent, m.from_project "
    "FROM syncd_baseline b LEFT JOIN messages m USING (id) WHERE b.rowid > ? ORDER BY b.rowid"
)


def _same_row(seen: RowValues) -> tuple[str, RowValues]:
    """Return the condition for a row to be as seen, and its values; text may be no UTF-8."""
    marks, values = [], []
    for column, value in zip(COLUMNS, seen, strict=True):
        is_odd = isinstance(value, str) and not is_utf8(value)
        marks.append(f"{column} IS {'CAST(? AS TEXT)' if is_odd else '?'}")
        values.append(value.encode("utf-8", "surrogateescape") if is_odd else value)
    return " AND ".join(marks), tuple(values)


def _refusal(error: sqlite3.IntegrityError | str, what: str = _THE_ROW) -> MessageError:
    return MessageError(
        f"the database refuses {what}: {error}",
        hint="A constraint or trigger that a host added to messages forbids it.",
    )
