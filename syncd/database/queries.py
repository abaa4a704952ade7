"""What all parts of a database need: its connection, and many values at once, in portions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")
Values = tuple[Any, ...]

_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 50  # of 14 values each: older versions of SQLite take 999 in a statement


def in_portions(
    items: Iterable[T], size_of: Callable[[T], int], most_bytes: int
) -> Iterator[list[T]]:
    """Yield items in portions of ``most_bytes`` at most; one that is larger is a portion alone."""
    portion: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if portion and total + size > most_bytes:
            yield portion
            portion, total = [], 0
        portion.append(item)
        total += size
    if portion:
        yield portion


class Queries:
    """A part of a database, read and written by its connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany

    def _select_in(self, sql: str, values: Iterable[str]) -> Iterator[Values]:
        wanted = list(values)
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            batch = wanted[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(batch))
            yield from self._all_of(f"{sql}({marks})", batch)

    def _all_of(self, sql: str, values: Sequence[str]) -> list[Values]:
        """Return all that a query finds."""
        return self._decoded(lambda: self._execute(sql, values).fetchall())

    def _decoded(self, read: Callable[[], T]) -> T:
        """Return what is read from the database; what is not UTF-8 is decoded with surrogates.

        That takes a call of ours for each value, so it is done only where it is needed.
        """
        decode, self._connection.text_factory = self._connection.text_factory, str
        try:
            return read()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) is not None:
                raise  # else these are bytes that Python's own decoder refuses
        finally:
            self._connection.text_factory = decode
        return read()

    def _insert_many(self, sql: str, marks: str, rows: Sequence[Values]) -> int:
        """Insert rows as ``sql`` inserts one, many with each statement; return how many went in.

        On a table with triggers, SQLite copies every page before a statement first changes it, to
        be able to undo that one alone: with a statement for each row, a fifth of the time.
        """
        many = sql + f", ({marks})" * (_ROWS_AT_ONCE - 1)
        rest = len(rows) % _ROWS_AT_ONCE
        inserted = 0
        for start in range(0, len(rows) - rest, _ROWS_AT_ONCE):
            values = chain.from_iterable(rows[start : start + _ROWS_AT_ONCE])
            inserted += self._execute(many, tuple(values)).rowcount
        if rest:
            inserted += self._executemany(sql, rows[-rest:]).rowcount
        return inserted
