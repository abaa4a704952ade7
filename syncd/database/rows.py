"""The table ``messages``: reading rows, and changing them only where they still are as seen."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType

from syncd.core.message import FIELDS, Message
from syncd.database.chronicle import now_text
from syncd.database.queries import Queries, in_portions
from syncd.database.record import Row, RowValues, row_digest
from syncd.database.tables import COLUMNS, NUMBERS_HINT
from syncd.errors import MessageError, StaleReplica
from syncd.names import is_utf8

_SELECT_ROW = ", ".join(COLUMNS)
_ROW_MARKS = ", ".join("?" * len(COLUMNS))
_INTO = f"INTO messages ({_SELECT_ROW}) VALUES ({_ROW_MARKS})"
# Of a text, `length` counts characters, and none behind a NUL.
_ROW_SIZE = " + ".join(f"coalesce(length(CAST({column} AS BLOB)), 0)" for column in COLUMNS)
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.I)
_THE_ROW, _TO_DELETE = "the row", "to delete the row"


class Rows(Queries):
    """The rows of the table ``messages``."""

    has_host_triggers = False
    number_columns: Mapping[str, str] = MappingProxyType({})
    """Those in which SQLite makes numbers of texts that look like them (see `tables`)."""

    resolution = ""
    """What of a statement keeps it from removing rows where a constraint would have it do so."""

    def of(self, ids: Iterable[str]) -> dict[str, Row]:
        """Return the rows of these ids that are there."""
        found: dict[str, Row] = {}
        sql = f"SELECT {_SELECT_ROW}, read_at FROM messages WHERE id IN "
        wanted = list(ids)
        for values in self._select_in(sql, wanted):
            found[values[0]] = Row(values[:-1], values[-1], values[0] in found)
        if not found.keys() <= set(wanted):
            # A host's column may take what differs in case for the same.
            return {key: found[key] for key in wanted if key in found}
        return found

    def each(self) -> Iterator[RowValues]:
        """Yield every row, with one at a time in memory."""
        return self._execute(f"SELECT {_SELECT_ROW} FROM messages")

    def each_id(self) -> Iterator[object]:
        """Yield the id of every row."""
        return (found[0] for found in self._execute("SELECT id FROM messages"))

    def has(self, key: object) -> bool:
        """Tell whether there is a row of an id of any type, also NULL."""
        return self._is_there(*_same([("id", key)]))

    def _is_there(self, condition: str, values: RowValues) -> bool:
        sql = f"SELECT EXISTS (SELECT 1 FROM messages WHERE {condition})"
        return bool(self._execute(sql, values).fetchone()[0])

    def count(self) -> int:
        found: int = self._execute("SELECT count(*) FROM messages").fetchone()[0]
        return found

    def doubled_ids(self) -> set[object]:
        """Return the ids that several rows have; a table that somebody rebuilt may permit that."""
        only_id = "(SELECT group_concat(name) FROM pragma_index_info(indexes.name)) LIKE 'id'"
        sql = (
            "SELECT EXISTS (SELECT 1 FROM pragma_index_list('messages') AS indexes "
            f'WHERE indexes."unique" AND NOT indexes.partial AND {only_id})'
        )
        if self._execute(sql).fetchone()[0]:
            return set()
        sql = "SELECT id FROM messages GROUP BY id HAVING count(*) > 1"
        return {key for (key,) in self._execute(sql)}

    def changed_ids(self) -> list[object]:
        """Return the ids of all rows that differ from the baseline; any type, also NULL."""
        columns = ", ".join(f"m.{column}" for column in COLUMNS)
        sql = (
            f"SELECT {columns}, b.row_digest FROM messages m "
            "LEFT JOIN syncd_baseline b ON b.id = m.id COLLATE BINARY"
        )
        return self._decoded(
            lambda: [row[0] for row in self._execute(sql) if row_digest(row[:-1]) != row[-1]]
        )

    def gone_ids(self, ids: Iterable[str] | None = None) -> list[str]:
        """Return the ids, of these or of all, that are known and have no row.

        Known are those of baselines, and of files that a crash may have left without one.
        """
        # The first condition alone can go by the table's own index, whatever its collation is.
        is_there = "m.id = b.id AND m.id = b.id COLLATE BINARY"
        is_gone = f"NOT EXISTS (SELECT 1 FROM messages m WHERE {is_there})"
        sql = (
            f"SELECT id FROM syncd_baseline b WHERE {is_gone}",
            f"SELECT id FROM syncd_versions b WHERE intent AND {is_gone}",
        )
        if ids is None:
            return [found[0] for found in self._execute(" UNION ".join(sql))]
        wanted = list(ids)
        found = [self._select_in(f"{one} AND id IN ", wanted) for one in sql]
        return list({key for (key,) in chain(*found)})

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
        yield from in_portions(ids, lambda key: sizes.get(key, 0), most_bytes)

    def insert(self, message: Message) -> Row:
        """Insert a row; raises `StaleReplica` when one of that id came in between."""
        values = tuple(message)
        self._refuse_numbers(values)
        try:
            done = self._execute(f"INSERT{self.resolution} {_INTO}", values)
        except sqlite3.DatabaseError as error:
            _raise_unless_refused(error)
            if message.id in self.of([message.id]):
                raise StaleReplica(f"a row {message.id!r} exists already") from error
            raise _refusal(error) from error
        if done.rowcount != 1:
            raise _refusal("it was ignored")
        return Row(values)

    def insert_all(self, rows: Sequence[RowValues]) -> None:
        """Insert many rows.

        Raises `StaleReplica` when one of them exists already or is refused: the transaction must
        then be given up.
        """
        try:
            for values in rows if self.number_columns else ():
                self._refuse_numbers(values)
            inserted = self._insert_many(f"INSERT{self.resolution} {_INTO}", _ROW_MARKS, rows)
        except (sqlite3.DatabaseError, MessageError) as error:
            _raise_unless_refused(error)
            raise StaleReplica("one of the rows exists already, or is refused") from error
        if inserted != len(rows):
            raise StaleReplica("one of the rows was ignored by a trigger")

    def update(self, seen: Row, message: Message, fields: Iterable[str]) -> Row:
        """Set these fields where the row is still as seen, else raise `StaleReplica`.

        A row that becomes read and has no ``read_at`` gets one.
        """
        changes = {COLUMNS[1 + FIELDS.index(name)]: getattr(message, name) for name in fields}
        values = tuple(
            changes.get(column, old) for column, old in zip(COLUMNS, seen.values, strict=True)
        )
        self._refuse_numbers(changes.get(column) for column in COLUMNS)
        if changes.get("status") == "read" and not seen.read_at:
            changes["read_at"] = now_text()
        sets = ", ".join(f"{column} = ?" for column in changes)
        same, same_values = _same_row(seen.values)
        try:
            done = self._change(
                seen,
                f"UPDATE{self.resolution} messages SET {sets} WHERE {same}",
                (*changes.values(), *same_values),
            )
        except sqlite3.DatabaseError as error:
            _raise_unless_refused(error)
            raise _refusal(error) from error
        if done.rowcount != 1:
            raise self._unchanged(seen)
        return Row(values)

    def delete(self, seen: Row) -> None:
        """Delete the row where it is still as seen, else raise `StaleReplica`."""
        same, values = _same_row(seen.values)
        try:
            done = self._change(seen, f"DELETE FROM messages WHERE {same}", values)
        except sqlite3.DatabaseError as error:
            _raise_unless_refused(error)
            raise _refusal(error, _TO_DELETE) from error
        if done.rowcount != 1:
            raise self._unchanged(seen, _TO_DELETE)

    def _change(self, seen: Row, sql: str, values: RowValues) -> sqlite3.Cursor:
        """Change one row. The history has of it what it needs; of others, triggers keep it."""
        if not self.has_host_triggers:
            return self._execute(sql, values)
        self._execute("INSERT INTO syncd_mute VALUES (?)", seen.values[:1])
        done = self._execute(sql, values)
        self._execute("DELETE FROM syncd_mute")
        return done

    def _unchanged(self, seen: Row, what: str = _THE_ROW) -> StaleReplica | MessageError:
        """Return why nothing came of a change to a row."""
        if self._is_there(*_same_row(seen.values)):
            return _refusal("it was ignored", what)
        return StaleReplica(f"the row {seen.values[0]!r} changed meanwhile")

    def _refuse_numbers(self, values: Iterable[object]) -> None:
        """Raise `MessageError` where SQLite would make another text of one of a row's.

        An id may be no number at all.
        """
        if not self.number_columns:
            return
        for column, value in zip(COLUMNS, values, strict=True):
            cast = self.number_columns.get(column)
            if cast is None or not _NUMBER.fullmatch(str(value)):
                continue
            kept = self._execute(f"SELECT CAST(CAST(? AS {cast}) AS TEXT)", (value,)).fetchone()
            if column == "id" or kept[0] != value:
                raise MessageError(
                    f"the column {column} is of a type in which SQLite makes a number of {value!r}",
                    hint=NUMBERS_HINT,
                )

    def left_as_written(self, written: Mapping[str, bytes | None]) -> list[str]:
        """Return the ids of rows that are what was written, by digest; None is for no row."""
        rows = self.of(written)
        return [
            key
            for key, digest in written.items()
            if (rows[key].digest if key in rows else None) == digest
        ]


def _same_row(seen: RowValues) -> tuple[str, RowValues]:
    """Return the condition for a row to be as seen, and its values."""
    return _same(zip(COLUMNS, seen, strict=True))


def _same(columns: Iterable[tuple[str, object]]) -> tuple[str, RowValues]:
    """Return the condition for columns to have these values, and these; text may be no UTF-8."""
    marks: list[str] = []
    values: list[object] = []
    for column, value in columns:
        is_odd = isinstance(value, str) and not is_utf8(value)
        same = f"{column} IS {'CAST(? AS TEXT)' if is_odd else '?'}"
        bound = str(value).encode("utf-8", "surrogateescape") if is_odd else value
        if column == "id":  # alone it can go by the table's own index, whatever its collation is
            marks.append(same)
            values.append(bound)
        marks.append(f"{same} COLLATE BINARY")
        values.append(bound)
    return " AND ".join(marks), tuple(values)


def _raise_unless_refused(error: sqlite3.DatabaseError | MessageError) -> None:
    """Raise an error again that is not about one row: no constraint's, nor a host's trigger's.

    What goes wrong in a trigger, as a function that only its host has, is SQLite's plain error; in
    one of ours it is that a table of ours went.
    """
    if isinstance(error, sqlite3.IntegrityError | MessageError):
        return
    is_plain = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
    if not is_plain or "syncd_" in str(error):
        raise error


def _refusal(error: sqlite3.DatabaseError | str, what: str = _THE_ROW) -> MessageError:
    return MessageError(
        f"the database refuses {what}: {error}",
        hint="A constraint or trigger that a host added to messages forbids it."
        + (" To have its file again, change the row." if what == _TO_DELETE else ""),
    )
