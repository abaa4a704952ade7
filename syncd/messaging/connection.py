"""One connection to a database of the contract, ready to use, and which file it is of."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from syncd.errors import BusyError, MessageError, ReplicaError, reason_of
from syncd.messaging.schema import CONTRACT_DDL, create_contract

BUSY_TIMEOUT_S = 10.0
"""How long a lock is waited for: ten times what the neighbours wait, so they are served first."""

_WAL_RETRY_S = 0.01

_CONTRACT_NAMES = tuple(statement.split()[5] for statement in CONTRACT_DDL)

_log = logging.getLogger("syncd.messaging")


class Connection(sqlite3.Connection):
    """A connection that knows its living cursors, whichever way they were made."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        cursor = super().cursor(factory)
        self.cursors.add(cursor)
        return cursor

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.execute(*arguments)

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        cursor: sqlite3.Cursor = self.cursor()
        return cursor.executemany(*arguments)


def connect(path: Path, *, busy_timeout_s: float) -> Connection:
    """Open the database at ``path``, made if it is missing, in WAL mode and with its schema.

    It waits ``busy_timeout_s`` for a lock, and begins a write transaction with BEGIN IMMEDIATE, so
    that the wait is honoured: a read transaction that becomes a write fails at once instead. It may
    be handed from thread to thread. Raises what `explained` says.
    """
    with explained(path):
        connection = sqlite3.connect(
            path,
            timeout=busy_timeout_s,
            isolation_level="IMMEDIATE",
            check_same_thread=False,
            factory=Connection,
        )
        try:
            connection.row_factory = sqlite3.Row
            _switch_to_wal(connection, path, busy_timeout_s)
            _complete_schema(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def identity(path: Path) -> tuple[int, int] | None:
    """Return which file has the name ``path`` now, or None; a pipe or a device is refused."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReplicaError(f"the database {path} cannot be reached: {reason_of(error)}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ReplicaError(
            f"{path} is not a file, so it cannot be the database",
            hint="Move it away; the database is made anew.",
        )
    return found.st_dev, found.st_ino


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says about ``path`` into errors that a person can act on.

    A lock that stays held becomes `BusyError`, any other trouble with the file `ReplicaError`, and
    text that is not valid Unicode `MessageError`. `sqlite3.IntegrityError` (an id that is taken)
    and `sqlite3.ProgrammingError` (a mistake in the caller's SQL) pass as they are.
    """
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(
                f"the database {path} is in use by another program and stayed locked",
                hint="Try again; if it stays locked, look for a program that hangs.",
            ) from error
        raise ReplicaError(
            f"the database {path} cannot be used: {error}",
            hint="Check that it is a SQLite file that you may write, and that the disk has room.",
        ) from error
    except UnicodeEncodeError as error:
        raise MessageError(
            f"a text for {path} is not valid Unicode: {error.reason}",
            hint="Decode the text with errors='replace' before it is sent.",
        ) from error


def _switch_to_wal(connection: sqlite3.Connection, path: Path, patience_s: float) -> None:
    """Set WAL mode, which stays with the file.

    The switch needs the file for itself and does not honour the busy timeout when two
    processes create the file at the same time, so the wait is made here.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_S)
            continue
        if mode != "wal":
            _log.warning("%s stays in journal mode %s: readers will block", path, mode)
        return


def _complete_schema(connection: sqlite3.Connection) -> None:
    """Create the contract's tables and indexes; take the write lock only if one is missing."""
    marks = ", ".join("?" * len(_CONTRACT_NAMES))
    (present,) = connection.execute(
        f"SELECT count(*) FROM sqlite_master WHERE lower(name) IN ({marks})", _CONTRACT_NAMES
    ).fetchone()
    if present < len(_CONTRACT_NAMES):
        connection.execute("BEGIN IMMEDIATE")
        create_contract(connection)
        connection.commit()
