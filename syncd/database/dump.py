"""syncd's own tables as lines of JSON, and back: baseline, history, journal and all else.

A line is ``[table, {column: value}]``. Bytes stand as ``{"base64": …}``; so does a text that is not
UTF-8, as ``{"text": …}``. A person can search the lines, and nothing is lost on the way.
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Iterable
from itertools import islice
from typing import IO, Any

from syncd.database import tables
from syncd.database.database import Database
from syncd.database.sqlite_errors import translated
from syncd.names import is_utf8

_LEFT_OUT = {"syncd_mute"}
_AT_ONCE = 500


def write_tables(database: Database, into: IO[bytes]) -> dict[str, int]:
    """Write all rows of our tables, of one moment; return how many each has."""
    counts: dict[str, int] = {}
    with database.reading():
        for table in _tables(database.connection):
            cursor = database.connection.execute(f'SELECT * FROM "{table}" ORDER BY rowid')
            columns = [column[0] for column in cursor.description]
            counts[table] = 0
            for values in cursor:
                row = {name: _encoded(value) for name, value in zip(columns, values, strict=True)}
                into.write(json.dumps([table, row]).encode() + b"\n")
                counts[table] += 1
    return counts


def _tables(connection: sqlite3.Connection) -> list[str]:
    return sorted(set(tables.names(connection)) - _LEFT_OUT)


def read_tables(database: Database, lines: Iterable[bytes]) -> None:
    """Make our tables anew with these rows; the triggers come last.

    Several short transactions: one that is cut off leaves tables that are not ready, with which
    the next call begins again.
    """
    connection = database.connection
    with database.transaction():
        tables.drop(connection)
        tables.create(connection)
        tables.drop_triggers(connection)
    columns = {
        table: {name for _, name, *_ in connection.execute(f'PRAGMA table_info("{table}")')}
        for table in _tables(connection)
    }
    rows = map(_row_in, lines)
    while batch := list(islice(rows, _AT_ONCE)):
        with database.transaction():
            for table, row in batch:
                _insert(connection, table, row, columns.get(table, set()))
    with database.transaction():
        tables.create(connection)


def check(lines: Iterable[bytes]) -> None:
    """Raise `ValueError`, `KeyError` or `TypeError` for a line that is no row of a table."""
    for line in lines:
        _row_in(line)


Marked = tuple[str, Any]
"""How a value stands in a statement, and the value itself."""


def _row_in(line: bytes) -> tuple[str, dict[str, Marked]]:
    table, row = json.loads(line)
    if not (isinstance(table, str) and isinstance(row, dict)):
        raise ValueError("it is no row of a table")
    return table, {name: _decoded(value) for name, value in row.items()}


def _insert(
    connection: sqlite3.Connection, table: str, row: dict[str, Marked], known: set[str]
) -> None:
    """Insert one row; a table or column that this version does not know is passed over."""
    taken = {name: marked for name, marked in row.items() if name in known}
    if taken:
        names = ", ".join(f'"{name}"' for name in taken)
        marks = ", ".join(mark for mark, _ in taken.values())
        sql = f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({marks})'
        connection.execute(sql, [value for _, value in taken.values()])


def _encoded(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    if isinstance(value, str) and not is_utf8(value):
        return {"text": b64encode(value.encode("utf-8", "surrogateescape")).decode()}
    return value


def _decoded(value: Any) -> Marked:
    if isinstance(value, dict):
        if "text" in value:
            return "CAST(? AS TEXT)", b64decode(value["text"])
        return "?", b64decode(value["base64"])
    is_text = isinstance(value, str) and is_utf8(value)
    is_number = isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**63)
    if not (value is None or is_text or is_number):
        raise ValueError("a value is none that a database holds")
    return "?", value


def marks(database: Database) -> tuple[object, ...]:
    """Return what moves with every change that a host makes while no cycle runs."""
    with translated(database.path):
        sql = "SELECT count(*), max({0}) FROM {1}"
        return tuple(
            database.connection.execute(sql.format(column, table)).fetchone()
            for table, column in (("syncd_feed", "seq"), ("syncd_history", "version"))
        )
