"""One database of the contract: its messages and its sessions.

Neighbours give up after one second of waiting for a lock. So everything that takes time (JSON,
iterating, deciding) happens before a write transaction begins, and each of them is short.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from syncd.errors import ReplicaError, UsageError, reason_of
from syncd.messaging.connection import BUSY_TIMEOUT_S, explained
from syncd.messaging.paths import full_path
from syncd.messaging.pool import ConnectionPool
from syncd.messaging.rows import INSERT, SELECT, message_dict, now_text, parse_instant, row_values

_DELETE_BATCH = 500
_NEWEST_FIRST = " ORDER BY created_at DESC, rowid DESC"
_PRESSING_FIRST = (
    " ORDER BY CASE priority WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END,"
    " created_at DESC, rowid DESC"
)

_log = logging.getLogger("syncd.messaging")


class MessagingDatabase:
    """The messages and sessions in the database at ``db_path``; made with its folder if missing.

    Safe to use from several threads, which get a connection each, and after a fork. A lock is
    waited for up to ``busy_timeout_s``. Every method raises `BusyError` when that was not enough
    and `ReplicaError` when the file cannot be used; one that writes raises `StaleReplica` when
    the file was replaced meanwhile. All ``limit`` parameters take None for no limit. With
    ``lazily`` the file is made by the first call, in a folder that is made now if it can be, and
    nothing is raised before that.

    "Newest first" goes by the text of ``created_at``, so that the index serves it: two messages
    less than a day apart may stand in the wrong order if their dates have different offsets.
    """

    def __init__(
        self, db_path: Path | str, *, busy_timeout_s: float = BUSY_TIMEOUT_S, lazily: bool = False
    ) -> None:
        self.db_path = full_path(db_path)
        try:
            self.db_path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if not lazily:
                raise ReplicaError(
                    f"the folder {self.db_path.parent} cannot be made: {reason_of(error)}",
                    hint="Check its name and who may write there.",
                ) from error
        self._pool = ConnectionPool(self.db_path, busy_timeout_s=busy_timeout_s)
        if not lazily:
            with self._pool.lease():
                pass  # the schema is made with the first connection

    def get_connection(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection for SQL of your own; it commits at the end, or rolls back on an error.

        A write begins with BEGIN IMMEDIATE and holds the lock until the block ends: keep what
        follows it short, and fetch all of what you read before you write. The connection and its
        cursors belong to the block. A block inside another one of the same thread shares its
        transaction.
        """
        return self._pool.lease()

    def close(self) -> None:
        """Close all connections; the database cannot be used afterwards. Safe to repeat."""
        self._pool.close()

    def check_writable(self) -> None:
        """Take the write lock and give it back; raises what a write that comes next would raise."""
        with self._write():
            pass

    # Messages

    def insert_message(self, message: Mapping[str, Any]) -> str:
        """Insert one message and return its id.

        Keys: ``id from_project from_agent to_project to_agent type priority subject body status
        created_at reply_to metadata attachments``; others are ignored. Raises
        `sqlite3.IntegrityError` when the id is taken and `MessageError` for what is no message.
        """
        return self.insert_messages([message])[0]

    def insert_messages(self, messages: Iterable[Mapping[str, Any]]) -> list[str]:
        """Insert many messages in one transaction, all or none, and return their ids in order.

        The lock is held for some 30 µs a message, so hand in at most 10,000 at a time where
        others write to the database too. Raises what `insert_message` raises.
        """
        rows = [row_values(message) for message in messages]
        with self._write() as connection:
            connection.executemany(INSERT, rows)
        return [str(row[0]) for row in rows]

    def get_message(self, message_id: str) -> dict[str, Any] | None:
        """Return one message, or None if there is none with that id."""
        found = self._messages(" WHERE id = ?", [message_id], _NEWEST_FIRST, 1)
        return found[0] if found else None

    def list_messages(
        self, status: str | None = None, limit: int | None = 50, *, received: bool = False
    ) -> list[dict[str, Any]]:
        """Return messages, newest first; with ``received`` without those that were sent."""
        where, values = _conditions(status=status, received=received)
        return self._messages(where, values, _NEWEST_FIRST, limit)

    def get_messages_for_agent(
        self,
        to_agent: str,
        status: str | None = None,
        limit: int | None = 50,
        *,
        received: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the messages to one agent, as `list_messages` does."""
        where, values = _conditions(status=status, to_agent=to_agent, received=received)
        return self._messages(where, values, _NEWEST_FIRST, limit)

    def get_high_priority_messages(
        self, priorities: Sequence[str] | None = None, limit: int | None = 50
    ) -> list[dict[str, Any]]:
        """Return the unread messages of these priorities (urgent and high), the most pressing
        first, and the newest first among equals."""
        wanted = ["urgent", "high"] if priorities is None else list(priorities)
        marks = ", ".join("?" * len(wanted))
        where = f" WHERE status = 'unread' AND priority IN ({marks})"
        return self._messages(where, wanted, _PRESSING_FIRST, limit)

    def update_message_status(
        self, message_id: str, status: str, *, only_from: str | None = None
    ) -> bool:
        """Set a message's status and say whether there was such a message.

        The first ``read`` sets ``read_at``, later ones keep it. With ``only_from`` a message that
        has any other status by then is left alone, and the answer is False.
        """
        where, values = _conditions(id=message_id, status=only_from)
        return self._changes(
            "UPDATE messages SET status = ?, read_at = CASE WHEN ? = 'read'"
            f" THEN coalesce(nullif(read_at, ''), ?) ELSE read_at END{where}",
            [status, status, now_text(), *values],
        )

    def mark_task_injected(self, message_id: str) -> bool:
        """Note that a message became a task, and say whether there was such a message."""
        return self._changes("UPDATE messages SET task_injected = 1 WHERE id = ?", [message_id])

    def get_unread_count(self, to_agent: str | None = None) -> int:
        """Return how many messages are unread, of one agent or of all."""
        where, values = _conditions(status="unread", to_agent=to_agent)
        with self._read() as connection:
            return int(
                connection.execute(f"SELECT count(*) FROM messages{where}", values).fetchone()[0]
            )

    def delete_message(self, message_id: str, *, only_from: str) -> bool:
        """Delete a message that has the status ``only_from`` and did not become a task yet."""
        return self._changes(
            "DELETE FROM messages WHERE id = ? AND status = ? AND task_injected = 0",
            [message_id, only_from],
        )

    def delete_archived_messages(self, before: datetime) -> int:
        """Delete archived messages made before that time, in small steps; return how many.

        One whose date cannot be read is kept. What is deleted here is gone from the database;
        a step that fails leaves the earlier ones done.
        """
        # The text comparison only spares reading the rest: offsets differ by less than two days.
        latest = (before + timedelta(days=2)).isoformat()
        with self._read() as connection:
            archived = connection.execute(
                "SELECT id, created_at FROM messages WHERE status = 'archived' AND created_at < ?",
                [latest],
            ).fetchall()
        old = [tuple(row) for row in archived if (parse_instant(row[1]) or before) < before]
        deleted = 0
        for start in range(0, len(old), _DELETE_BATCH):
            with self._write() as connection:
                deleted += connection.executemany(
                    "DELETE FROM messages WHERE id = ? AND created_at = ? AND status = 'archived'",
                    old[start : start + _DELETE_BATCH],
                ).rowcount
        return deleted

    # Sessions

    def register_session(
        self, session_id: str, project_path: Path | str, pid: int | None = None
    ) -> None:
        """Enter an active session of a project; ``pid`` is this process where not given."""
        now, path = now_text(), str(project_path)
        pid = os.getpid() if pid is None else pid
        with self._write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO sessions (session_id, project_path, project_name,"
                " started_at, last_active, status, pid) VALUES (?, ?, ?, ?, ?, 'active', ?)",
                [session_id, path, Path(path).name, now, now, pid],
            )

    def update_heartbeat(self, session_id: str) -> bool:
        """Note that a session is alive, also one taken for stale; False if it is not known."""
        return self._changes(
            "UPDATE sessions SET last_active = ?,"
            " status = CASE status WHEN 'stale' THEN 'active' ELSE status END WHERE session_id = ?",
            [now_text(), session_id],
        )

    def deregister_session(self, session_id: str) -> bool:
        """Note that a session has ended (``inactive``); False if it is not known."""
        return self._changes(
            "UPDATE sessions SET status = 'inactive' WHERE session_id = ?", [session_id]
        )

    def list_active_sessions(self) -> list[dict[str, Any]]:
        """Return the active sessions as dicts of the table's columns, the last active first."""
        return self._sessions(" WHERE status = 'active'")

    def list_all_sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, also those that ended, the last active first."""
        return self._sessions("")

    def cleanup_stale_sessions(
        self, timeout_minutes: float = 60, *, check_pids: bool = False
    ) -> int:
        """Note as ``stale`` the active sessions without a heartbeat for that long; return how many.

        With ``check_pids`` also those whose process is gone on this host: leave that out where
        several hosts share the database, since a row does not say which host it means. A process
        id that another process got meanwhile counts as alive. A session whose last heartbeat
        cannot be read as a time is left to ``check_pids``. Raises `UsageError` for less than no
        time.
        """
        if not timeout_minutes >= 0:
            raise UsageError(f"{timeout_minutes} minutes are no time", hint="Use 0 or more.")
        try:
            oldest = datetime.now(UTC) - timedelta(minutes=timeout_minutes)
        except OverflowError:
            oldest = datetime.min.replace(tzinfo=UTC)
        stale = [
            (row["session_id"], row["last_active"])
            for row in self.list_active_sessions()
            if (parse_instant(row["last_active"]) or oldest) < oldest
            or (check_pids and _is_gone(row["pid"]))
        ]
        if not stale:
            return 0
        with self._write() as connection:
            # RACE: a session that gave a heartbeat since the look is not stale.
            return connection.executemany(
                "UPDATE sessions SET status = 'stale'"
                " WHERE session_id = ? AND last_active = ? AND status = 'active'",
                stale,
            ).rowcount

    # Transactions

    @contextmanager
    def _read(self) -> Iterator[sqlite3.Connection]:
        with explained(self.db_path), self._pool.lease() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with explained(self.db_path), self._pool.lease() as connection:
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _changes(self, statement: str, values: Sequence[Any]) -> bool:
        with self._write() as connection:
            return connection.execute(statement, values).rowcount > 0

    def _messages(
        self, where: str, values: Sequence[Any], order: str, limit: int | None
    ) -> list[dict[str, Any]]:
        """Return the first messages in an order.

        Chosen before they are read: sorting whole rows, bodies and all, would cost several times
        what the few that are wanted do.
        """
        if limit is not None:
            if limit < 0:
                raise UsageError(f"a limit of {limit} is below zero", hint="Use None for no limit.")
            where = f" WHERE rowid IN (SELECT rowid FROM messages{where}{order} LIMIT ?)"
            values = [*values, min(limit, sys.maxsize)]
        return [message_dict(row) for row in self._fetch(f"{SELECT}{where}{order}", values)]

    def _sessions(self, where: str) -> list[dict[str, Any]]:
        columns = "session_id, project_path, project_name, started_at, last_active, status, pid"
        statement = f"SELECT {columns} FROM sessions{where} ORDER BY last_active DESC, rowid DESC"
        return [dict(row) for row in self._fetch(statement, [])]

    def _fetch(self, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        """Fetch all rows; bytes that are not UTF-8, which SQLite accepts as text, are replaced."""
        with self._read() as connection:
            try:
                return connection.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:
                if not str(error).startswith("Could not decode to UTF-8"):
                    raise
                _log.warning("%s holds text that is not UTF-8: %s", self.db_path, error)
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            try:
                return connection.execute(statement, values).fetchall()
            finally:
                connection.text_factory = str


def _conditions(*, received: bool = False, **columns: str | None) -> tuple[str, list[str]]:
    """Return a WHERE clause for the columns that are given, and its values."""
    given = {name: value for name, value in columns.items() if value is not None}
    terms = [f"{name} = ?" for name in given]
    if received:
        terms.append("status <> 'sent'")
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), list(given.values())


def _is_gone(pid: object) -> bool:
    """Say whether no process with that id runs on this host; what cannot be known is not gone."""
    # On Windows, os.kill would end the process instead of asking for it.
    if sys.platform == "win32" or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
        # One that was killed keeps its id until its parent asks for its end (proc(5): state Z).
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z"
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
