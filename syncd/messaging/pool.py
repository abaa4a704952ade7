"""Connections to one database file: one per thread, kept between calls.

Opening a connection costs ten times what a short query costs, so each thread keeps its own.
What can go wrong with a kept connection is dealt with here and nowhere else:

- the file was replaced: writes to an unlinked file succeed and vanish, so the file's
  (device, inode) is compared at every lease, and once more after every commit;
- the process forks: SQLite's library in the child would believe that it holds the locks of the
  connections that it inherited, and new connections would rely on them (SQLite, "How To Corrupt An
  SQLite Database File", 2.6), and a call into the library that another thread was in would hold
  its mutexes there for ever. So a fork waits a moment for the leases of other threads, idle
  connections are closed before it, and a file that is in use all the same is refused in the child;
- its thread ended: the connection is closed with the thread;
- a cursor was left half read: its open read transaction would show old rows to later leases
  and fail their writes, so the cursors of a lease are closed with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

from syncd.errors import StaleReplica, UsageError
from syncd.messaging.connection import Connection, connect, identity

_OPEN_ATTEMPTS = 5
_FORK_WAIT_S, _FORK_LOOK_S = 0.25, 0.0005


class ConnectionPool:
    """One connection per thread to the database at ``path``, as `connect` makes them."""

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        self.path = path
        self.busy_timeout_s = busy_timeout_s
        self._start_afresh()
        self._closed = False
        _pools.add(self)

    @contextmanager
    def lease(self) -> Iterator[sqlite3.Connection]:
        """Lend this thread's connection; commit at the end, or roll back after an exception.

        A lease inside another one of the same thread gets the same connection. If a transaction is
        open by then, the inner lease is a savepoint of it: its failure undoes only its own work,
        and the outer lease commits. Otherwise each commits what it began.

        Raises what `explained` says when the database cannot be opened, `UsageError` after `close`,
        and `StaleReplica` when the file was replaced while the transaction ran: the commit may
        have gone to a file that no longer has a name.
        """
        slot = self._enter()
        connection = slot.connection
        inner = connection.in_transaction
        try:
            if inner:
                connection.execute("SAVEPOINT lease")
            try:
                yield connection
                slot.close_cursors()
                wrote = slot.commit(inner)
            except BaseException as error:
                slot.rollback(inner)
                # A write that failed for a table that a trigger names, and that was gone just then,
                # fails for good on a connection that has read the schema without it.
                slot.is_outdated = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR
                raise
        finally:
            self._leave(slot)
        if wrote and identity(self.path) != slot.identity:
            raise StaleReplica(
                f"The database {self.path} was replaced during a write, which may be lost.",
                hint="Look whether it is there, and repeat it if not.",
            )

    def close(self) -> None:
        """Close all connections; one that a thread is using just now closes when it is given back.

        Calling it again does nothing. A lease afterwards raises `UsageError`.
        """
        with self._lock:
            self._closed = True
            _dispose_idle(self._slots)

    def _enter(self) -> _Slot:
        _let_fork()
        with self._lock:
            if self._closed:
                raise UsageError(
                    f"the database {self.path} was closed by this program",
                    hint="Make a new MessagingDatabase or MessageService.",
                )
            slot: _Slot | None = getattr(self._local, "slot", None)
            if slot is not None and (slot.depth > 0 or slot.is_current()):
                slot.depth += 1
                return slot
            self._opening.add(get_ident())
        try:
            slot = self._open()
            slot.depth = 1
            with self._lock:
                self._slots.add(slot)
        finally:
            self._opening.discard(get_ident())
        self._local.slot = slot  # the one that it replaces, if any, is closed by that
        _here.slots.add(slot)
        return slot

    def _leave(self, slot: _Slot) -> None:
        with self._lock:
            slot.depth -= 1
            unwanted = self._closed and slot.depth == 0
        if unwanted:
            slot.dispose()

    def _open(self) -> _Slot:
        """Open the file, creating it where it is missing, and be sure which file that was."""
        for _ in range(_OPEN_ATTEMPTS):
            before = identity(self.path)
            if before in _inherited:
                raise UsageError(
                    f"The database {self.path} was in use while this process was forked from its"
                    " parent, so SQLite cannot use it here.",
                    hint="Fork outside of get_connection(), or start the process with 'spawn'.",
                )
            connection = connect(self.path, busy_timeout_s=self.busy_timeout_s)
            slot = _Slot(self.path, connection, identity(self.path))
            # RACE: a file that is replaced between the look and the opening would be taken for
            # the other one for good.
            if slot.identity is not None and before in (None, slot.identity):
                return slot
            slot.dispose()
        raise StaleReplica(
            f"The database {self.path} is being replaced or removed again and again.",
            hint="Wait until the program that does so is done.",
        )

    def _start_afresh(self) -> None:
        # Reentrant, since the garbage collector may run a finalizer that asks for a lease anywhere.
        self._lock = threading.RLock()
        self._local = threading.local()
        self._slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._opening: set[int] = set()
        """Threads that are opening the file."""
        # At exit, Python may take the classes apart before it deletes what is left of them.
        self._ending = weakref.finalize(self, _dispose_idle, self._slots)

    def _hold(self) -> bool:
        """Let no lease begin or end; tell whether another thread has one."""
        self._lock.acquire()
        me = get_ident()
        is_leased = any(slot.depth > 0 and slot.thread != me for slot in list(self._slots))
        return is_leased or bool(self._opening - {me})

    def _let_go(self) -> None:
        self._lock.release()

    def _before_fork(self) -> None:
        _dispose_idle(self._slots)

    def _after_fork_in_child(self) -> None:
        for slot in list(self._slots):
            if slot.is_open():
                slot.abandon()
        self._ending.detach()
        self._start_afresh()


class _Slot:
    """One thread's connection; only that thread's local storage holds it, so it ends with it."""

    __slots__ = (
        *("__weakref__", "abandoned", "connection", "depth"),
        *("identity", "is_outdated", "path", "thread"),
    )

    def __init__(self, path: Path, connection: Connection, found: tuple[int, int] | None) -> None:
        self.path = path
        self.connection = connection
        self.identity = found
        self.depth = 0
        self.thread = get_ident()
        self.abandoned = False
        self.is_outdated = False

    def is_current(self) -> bool:
        """Whether the connection is open and its file is the one that has the name now."""
        is_usable = self.is_open() and not self.is_outdated
        return is_usable and identity(self.path) == self.identity

    def is_open(self) -> bool:
        try:
            self.connection.total_changes  # noqa: B018  it raises on a closed connection
        except sqlite3.ProgrammingError:
            return False
        return True

    def close_cursors(self) -> None:
        if self.depth == 1 and not self.abandoned:
            for cursor in list(self.connection.cursors):
                cursor.close()

    def commit(self, inner: bool) -> bool:
        """End a lease well; say whether a transaction was committed."""
        if self.abandoned or not self.connection.in_transaction:
            return False
        if inner:
            self.connection.execute("RELEASE lease")
            return False
        self.connection.commit()
        return True

    def rollback(self, inner: bool) -> None:
        # A full disk or a broken file may have ended the transaction already; what is raised
        # then is the cause, not the vain rollback.
        with contextlib.suppress(sqlite3.Error):
            if self.abandoned or not self.connection.in_transaction:
                return
            if inner:
                self.connection.execute("ROLLBACK TO lease")
                self.connection.execute("RELEASE lease")
            else:
                self.close_cursors()
                self.connection.rollback()

    def abandon(self) -> None:
        """Let go of a connection that belongs to the parent process, without closing it."""
        self.abandoned = True
        _leave_to_parent(self.connection, self.identity)

    def dispose(self) -> None:
        """Close the connection. SQLite leaves the -wal alone if the file has lost its name."""
        if self.abandoned:
            return
        me = get_ident()
        _closing.add(me)
        try:
            if _forker in (None, me):
                with contextlib.suppress(sqlite3.Error):
                    self.connection.close()
            else:
                _unclosed.append((self.connection, self.identity))
        finally:
            _closing.discard(me)

    def __del__(self) -> None:
        self.dispose()


def _leave_to_parent(connection: Connection, found: tuple[int, int] | None) -> None:
    """Keep a connection to the file that was ``found`` from being closed, and its file from use.

    A reference that is never given back keeps it from being closed by the garbage collector.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    if found is not None:
        _inherited.add(found)


def _dispose_idle(slots: weakref.WeakSet[_Slot]) -> None:
    for slot in list(slots):
        if slot.depth == 0:
            slot.dispose()


class _Here(threading.local):
    """This thread's connections."""

    def __init__(self) -> None:
        self.slots: weakref.WeakSet[_Slot] = weakref.WeakSet()


_here = _Here()
_pools: weakref.WeakSet[ConnectionPool] = weakref.WeakSet()
_inherited: set[tuple[int, int]] = set()
"""The files that the parent process was using when this one was forked from it."""
_fork_lock = threading.Lock()
_forker: int | None = None
"""The thread that is about to fork."""
_held: list[ConnectionPool] = []
_closing: set[int] = set()
"""Threads that are closing a connection."""
_unclosed: list[tuple[Connection, tuple[int, int] | None]] = []
"""Connections that were to be closed while another thread forked."""


def _let_fork() -> None:
    """Wait while another thread forks; but not in a lease, as the fork waits for its end."""
    while _forker not in (None, get_ident()) and not any(slot.depth for slot in _here.slots):
        time.sleep(_FORK_LOOK_S)


def _before_fork() -> None:
    global _forker
    _fork_lock.acquire()
    _forker = get_ident()
    until = time.monotonic() + _FORK_WAIT_S
    # A pool that is not among these is one whose first lease waits.
    while _hold_all() and time.monotonic() < until:
        _let_all_go()
        time.sleep(_FORK_LOOK_S)
    for pool in _held:
        pool._before_fork()
    _close_left()


def _close_left() -> None:
    while _unclosed:
        with contextlib.suppress(sqlite3.Error):
            _unclosed.pop()[0].close()


def _hold_all() -> bool:
    """Let no lease begin or end; tell whether another thread has one, or closes a connection."""
    _held[:] = _pools
    are_leased = [pool._hold() for pool in _held]
    return any(are_leased) or bool(_closing - {get_ident()})


def _let_all_go() -> None:
    while _held:
        _held.pop()._let_go()


def _after_fork_in_parent() -> None:
    global _forker
    _let_all_go()
    _forker = None
    _close_left()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    global _forker, _fork_lock
    while _held:
        _held.pop()._after_fork_in_child()
    for connection, found in _unclosed:
        _leave_to_parent(connection, found)
    _unclosed.clear()
    _closing.clear()
    _forker, _fork_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
