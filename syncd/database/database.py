"""A project's database as a file: opening it, and transactions."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

from syncd.database import tables
from syncd.database.sqlite_errors import BUSY_TIMEOUT_S, refuse_link, translated, unwritable
from syncd.errors import LostTransaction, MessageError, ReplicaError, StaleReplica, replaced
from syncd.files.attributes import give_to_owner_of
from syncd.files.syscalls import no_checkpoint
from syncd.patience import Courtesy, patience

DROPPED_AT_ONCE = 2000
DROPPING_S = 0.02
_LOOK_S = 0.001  # some 15 µs are spent on a look


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


class Database:
    """One project's database, open (a context manager)."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, identity: tuple[int, int] | None
    ) -> None:
        self.path = path
        self.connection = connection
        self.identity = identity
        self._beside: tuple[object, object] | None = None
        self.ready_schema: int | None = None
        """SQLite's counter of schema changes when tables and triggers were ready (`prepare`)."""
        self.opened_schema: int | None = None
        """That counter when a database that is only looked at was opened (`open_readonly`)."""
        self.has_host_triggers = False
        self.fed_before = 0
        """How far the feed went before the transaction, where hosts have triggers."""
        self._courtesy = Courtesy()
        self._vain = 0
        """How many changes there were before the transaction, and were taken back within it."""
        self._has_ended = False
        """Whether the transaction at hand was ended before its commit."""
        connection.text_factory = _decode

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """Open a database for reading and writing; it is created with ``create``.

        Raises `ReplicaError` when it cannot be opened or is no database, `BusyError` when somebody
        holds its lock longer than 5 s.
        """
        mode = "rwc" if create else "rw"
        refuse_link(path.parent)
        if path.exists() and not os.access(path, os.W_OK):
            # Opened all the same, SQLite would make its -wal and -shm as unwritable as the file
            # is, and leave them so.
            raise unwritable(path)
        if create and os.geteuid() == 0:
            _create_for_owner(path)
        with translated(path):
            connection = _connect(path, mode)
            try:
                _patiently(connection, lambda: _make_ready(connection))
                opened = cls(path, connection, _identity_of_opened(path, "-wal", "-shm"))
                opened._beside = opened._files_beside()
                return opened
            except StaleReplica:
                with no_checkpoint(path):  # of a -wal that may be another database's
                    connection.close()
                raise
            except BaseException:
                connection.close()
                raise

    @classmethod
    def open_readonly(cls, path: Path) -> Self:
        """Open a database that is only looked at; nothing in it changes.

        What it lacks, or all of it where there is no file, stands in temporary tables.
        """
        refuse_link(path.parent)
        # RACE: a database, or our tables in it, may come while this one is opened. Whoever has it
        # open for long has to see that (`is_current`, `opened_schema`): what stands in for them
        # would hide them.
        identity = identity_of(path)
        with translated(path):
            if path.exists() or path.is_symlink():
                # A read-only connection makes the -wal and -shm files where there are none, and
                # may not remove them; one that may write does, when it closes.
                # A file that may not be written is read as it is, without either.
                if Path(f"{path}-wal").exists():
                    mode = "ro"
                elif os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
                    mode = "rw"
                else:
                    mode = "ro&immutable=1"
                connection = _connect(path, mode)
            else:
                connection = sqlite3.connect(
                    ":memory:", isolation_level=None, check_same_thread=False
                )
            try:
                schema = connection.execute("PRAGMA schema_version").fetchone()[0]
                if identity is not None:
                    identity = _identity_of_opened(path)
                tables.create_temporary(connection)
                connection.execute("PRAGMA query_only = ON")
                opened = cls(path, connection, identity)
                opened.opened_schema = schema
                return opened
            except BaseException:
                connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, without a last checkpoint into one that took its place."""
        with nullcontext() if self.is_current() else no_checkpoint(self.path):
            self.connection.close()

    def is_current(self) -> bool:
        """Tell whether the open database is still the one that stands at its path.

        Writes to a database that was replaced succeed and vanish. One that was copied over keeps
        its inode, but its -wal was removed, as SQLite asks of those who bring a backup back; and
        who has another -shm than others have knows nothing of their locks.
        """
        if self.identity != identity_of(self.path):
            return False
        beside = self._files_beside()
        if self._beside is None:  # it is only read, and has neither before somebody writes
            self._beside = beside if None not in beside else None
            return True
        return beside == self._beside and None not in beside

    def _files_beside(self) -> tuple[object, object]:
        return identity_of(f"{self.path}-wal"), identity_of(f"{self.path}-shm")

    def prepare(self, *, anew: bool = False) -> bool:
        """Make tables and triggers ready where they are not; tell whether that changed anything.

        With ``anew`` also a table ``messages`` of which the baseline knows, and that is gone.
        """
        with translated(self.path):
            version = self.schema_version()
            if version == self.ready_schema:
                return False
            self._learn()
            if tables.is_ready(self.connection):
                self.ready_schema = version
                return False
            try:
                tables.refuse_taken(self.connection)
            except ReplicaError:
                with self._immediate():  # else they would fail the writes of hosts
                    tables.drop_triggers(self.connection)
                raise
            with self._immediate():
                tables.create(self.connection, anew=anew)
                version = self.schema_version()
            self.ready_schema = version
            return True

    def _learn(self) -> None:
        """Note what hosts made of the table ``messages``."""
        self.has_host_triggers = tables.has_host_triggers(self.connection)

    def check_contract(self) -> None:
        """Raise `ReplicaError` where the table ``messages`` is gone, or not the contract's."""
        with translated(self.path):
            tables.check_contract(self.connection)
            tables.refuse_taken(self.connection)

    def schema_version(self) -> int:
        """Return SQLite's own counter of schema changes, by any connection."""
        with translated(self.path):
            found: int = self.connection.execute("PRAGMA schema_version").fetchone()[0]
            return found

    def data_version(self) -> int:
        """Return a number that moves when another connection commits (4 µs)."""
        with translated(self.path):
            found: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
            return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read everything inside from one snapshot of the database."""
        with translated(self.path):
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    @contextmanager
    def writing(self, *, durable: bool = True, mute: bool = True) -> Iterator[None]:
        """Write everything inside in one transaction of which our triggers hear nothing.

        Where hosts have triggers too, they feed all the same: what these change beside what is
        written is a host's change (`Store.changed_by_hosts`). A transaction that is not ``durable``
        survives the death of the process, not of the machine. One that leaves ``messages`` alone
        need not ``mute`` the triggers.
        """
        with translated(self.path):
            self._refuse_replaced()
            self._courtesy.give_way(self.data_version())
            if not durable:
                self.connection.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._immediate():
                    if mute:
                        self._mute()
                    began = time.monotonic()
                    self._vain = self.connection.total_changes
                    yield
                    if mute and not self._has_ended:
                        self.connection.execute("DELETE FROM syncd_mute")
                self._courtesy.note_held(time.monotonic() - began)
            finally:
                if not durable:
                    self.connection.execute("PRAGMA synchronous = FULL")

    def _mute(self) -> None:
        if self.has_host_triggers:
            sql = "SELECT coalesce(max(seq), 0) FROM syncd_feed"
            self.fed_before = self.connection.execute(sql).fetchone()[0]
        else:
            self.connection.execute("INSERT INTO syncd_mute VALUES (NULL)")

    def _refuse_replaced(self) -> None:
        if not self.is_current():
            raise replaced(self.path)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo what was written inside, within the transaction, when it raises.

        Raises `LostTransaction` when a host's trigger has rolled back the transaction itself.
        """
        execute, before = self.connection.execute, self.connection.total_changes
        execute("SAVEPOINT message")
        try:
            yield
        except BaseException as error:
            if self.connection.in_transaction:
                execute("ROLLBACK TO message")
                self._vain += self.connection.total_changes - before
            elif isinstance(error, (MessageError, StaleReplica)):
                raise LostTransaction(error.sentence, hint=error.hint) from error
            raise
        finally:
            if self.connection.in_transaction:
                execute("RELEASE message")

    def end_if_vain(self) -> None:
        """End the transaction of `writing` without a commit where nothing stands of its changes.

        Nothing may be written in it afterwards. Others would look for what such a commit brings.
        """
        if self.connection.total_changes == self._vain:
            self._has_ended = True
            self.connection.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside in one transaction, with or without our tables."""
        with translated(self.path):
            self._refuse_replaced()
            with self._immediate():
                yield

    def drop_rows(
        self,
        table: str,
        condition: str = "1",
        values: Sequence[object] = (),
        *,
        state: tuple[str, str] | None = None,
    ) -> None:
        """Delete of one of our tables what meets a condition, and set a state if there is any.

        Some are deleted at once, of large ones fewer: in between, the lock is left to others.
        """
        execute = self.connection.execute
        met = f'SELECT rowid FROM "{table}" WHERE {condition} LIMIT {DROPPED_AT_ONCE}'
        while execute(met, values).fetchone():
            with self.writing(mute=False):
                ends = time.monotonic() + DROPPING_S
                for number in execute(met, values).fetchall():
                    execute(f'DELETE FROM "{table}" WHERE rowid = ?', number)
                    if time.monotonic() >= ends:
                        break
                if state is not None:
                    execute("INSERT OR REPLACE INTO syncd_state VALUES (?, ?)", state)

    @contextmanager
    def _immediate(self) -> Iterator[None]:
        _patiently(self.connection, lambda: self.connection.execute("BEGIN IMMEDIATE"))
        self._has_ended = False
        try:
            yield
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        if not self._has_ended:
            self.connection.execute("COMMIT")


def is_set_up(path: Path) -> bool:
    """Tell whether our tables and triggers stand in the database at ``path``, and all of them."""
    with translated(path), Database.open_readonly(path) as database:
        return tables.is_ready(database.connection)


def identity_of(path: Path | str) -> tuple[int, int] | None:
    """Return what tells a file or folder from another that takes its place; None for none."""
    try:
        return _identity(os.stat(path))
    except OSError:
        return None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def state_of(path: Path | str) -> tuple[tuple[int, ...] | None, ...]:
    """Return what tells a database's files from what they were before a write."""
    return tuple(map(_state_of_file, (f"{path}", f"{path}-wal")))


def _state_of_file(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _create_for_owner(path: Path) -> None:
    """Create an empty database that is its folder's owner's; SQLite's other files follow it."""
    with suppress(OSError):  # it exists, or SQLite will say what is wrong
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        give_to_owner_of(path.parent, path)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        mode_found = os.lstat(path).st_mode
    except FileNotFoundError:
        mode_found = stat.S_IFREG
    if not stat.S_ISREG(mode_found):
        what = "a symbolic link" if stat.S_ISLNK(mode_found) else "no regular file"
        raise ReplicaError(
            f"{path} is {what}", hint="Put the database itself there; links are not followed."
        )
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _identity_of_opened(path: Path, *suffixes: str) -> tuple[int, int] | None:
    """Return what tells the database that SQLite has opened from another that takes its place.

    Raises `StaleReplica` where it, or a file beside it, is another than the one that stands there.

    RACE: SQLite opens a database and the files beside it by their paths, and a link to somebody
    else's folder may stand in place of this one for just that long. So it is asked, where the
    system tells that, which files are open.
    """
    try:
        numbers = os.listdir("/proc/self/fd")
    except OSError:
        return identity_of(path)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            there = [
                _identity(os.stat(f"{path.name}{suffix}", dir_fd=folder, follow_symlinks=False))
                for suffix in ("", *suffixes)
            ]
        finally:
            os.close(folder)
    except OSError as error:
        raise replaced(path) from error
    opened: set[tuple[int, int]] = set()
    for number in numbers:
        with suppress(OSError):
            opened.add(_identity(os.fstat(int(number))))
    if not opened.issuperset(there):
        raise replaced(path)
    return there[0]


def _make_ready(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # makes the -wal


def _patiently(connection: sqlite3.Connection, do: Callable[[], object]) -> None:
    """Do what needs a lock as soon as that is free.

    SQLite itself looks for it at ever longer intervals, up to a tenth of a second, in which
    somebody who writes without a pause takes it again and again.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        with patience(BUSY_TIMEOUT_S, _LOOK_S) as wait:
            while True:
                try:
                    do()
                    return
                except sqlite3.OperationalError as error:
                    is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                    if not (is_busy and wait()):
                        raise
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
