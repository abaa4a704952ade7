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
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.core.sides import Side
from syncd.database import tables
from syncd.database.chronicle import PRUNED_UNTIL, Chronicle, now_text
from syncd.database.database import DROPPED_AT_ONCE, Database
from syncd.database.records import Records, TwinRecords, Versions
from syncd.database.rows import Rows
from syncd.database.sqlite_errors import translated
from syncd.errors import ReplicaError
from syncd.find import home

if TYPE_CHECKING:
    from syncd.core.guard import Halt

VERSION_MEMORY_S = 600.0
"""How long a replaced version is known as what an old client's late rewrite started from."""

_ITS_CONFLICTS = "SELECT 1 FROM syncd_conflicts WHERE syncd_conflicts.id = syncd_history.id"


class FeedEntry(NamedTuple):
    """An id that a host touched; ``was`` is the status of a row that it deleted."""

    seq: int
    id: object
    was: str | None


class Store(Database):
    """One project's database, with all that syncd reads from it and writes into it."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, identity: tuple[int, int] | None
    ) -> None:
        super().__init__(path, connection, identity)
        self.rows = Rows(connection)
        self.records = Records(connection)
        self.versions = Versions(connection)
        self.twins = TwinRecords(connection)
        self.chronicle = Chronicle(connection)

    def is_empty(self) -> bool:
        """Tell whether it knows of no message at all: no row, no baseline, and none intended."""
        return not self._has_any("messages", "syncd_baseline", "syncd_versions")

    def knows_files(self) -> bool:
        """Tell whether it holds the stamp of any file."""
        return self._has_any("syncd_baseline", "syncd_twins", "syncd_quarantine")

    def _has_any(self, *tables: str) -> bool:
        found = " OR ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables)
        return bool(self.connection.execute(f"SELECT {found}").fetchone()[0])

    def was_synced(self) -> bool:
        """Tell whether a cycle ever ran here; raises `ReplicaError` where a newer syncd's did."""
        return tables.is_ready(self.connection) or self.folders() is not None

    def known(self, ids: Collection[str]) -> set[str]:
        """Return those of these ids that have a baseline, or are about to get one."""
        return self.records.known(ids) | self.versions.with_intent(ids)

    def check_contract(self) -> None:
        """Raise `ReplicaError` where ``messages`` is not the contract's, or not of one project."""
        super().check_contract()
        self.refuse_shared()

    def _learn(self) -> None:
        super()._learn()
        self.rows.has_host_triggers = self.has_host_triggers
        self.rows.number_columns = tables.number_columns(self.connection)
        self.rows.resolution = " OR ABORT" if tables.resolves_conflicts(self.connection) else ""

    def refuse_shared(self) -> None:
        """Refuse the database that newer clients share between all projects, in the home folder."""
        project = self.path.parent.parent
        if project != home():
            return
        is_made = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name LIKE 'messages')"
        sql = (
            "SELECT DISTINCT to_project FROM messages WHERE status IS NOT 'sent' "
            "UNION SELECT DISTINCT from_project FROM messages WHERE status = 'sent'"
        )
        with translated(self.path):
            if not self.connection.execute(is_made).fetchone()[0]:
                return
            others = {found[0] for found in self.connection.execute(sql)} - {str(project)}
        if len(others) > 1:
            raise ReplicaError(
                f"{self.path} holds the messages of {len(others)} projects, not of one",
                hint="That layout is not exported to files; name the projects themselves.",
            )

    # Feed

    def feed(self) -> list[FeedEntry]:
        """Return what hosts touched since the feed was last consumed, oldest first."""
        sql = "SELECT seq, id, was FROM syncd_feed ORDER BY seq"
        return [FeedEntry(*values) for values in self.connection.execute(sql)]

    def changed_by_hosts(self, written: Mapping[str, bytes | None]) -> list[object]:
        """Return what hosts' triggers changed in this transaction, beside what they left as it is.

        ``written`` has, by id, the digests of the rows that we wrote, or None for those that we
        deleted: of these the feed is not to tell.
        """
        own = set(self.rows.left_as_written(written))
        sql = "SELECT seq, id FROM syncd_feed WHERE seq > ?"
        fed = self.connection.execute(sql, (self.fed_before,)).fetchall()
        sql = "DELETE FROM syncd_feed WHERE seq = ?"
        self.connection.executemany(sql, [(seq,) for seq, key in fed if key in own])
        return [key for _, key in fed if key not in own]

    def consume(self, entry: FeedEntry) -> None:
        """Note that an entry of the feed was heard."""
        self.connection.execute("DELETE FROM syncd_feed WHERE seq = ?", (entry.seq,))

    def thin_feed(self, feed: Iterable[FeedEntry]) -> None:
        """Drop the entries that say what an earlier one says.

        In a project that is halted nothing is heard, and the feed would grow, and each look.
        """
        said: set[tuple[object, str | None]] = set()
        again = []
        for entry in feed:
            if (entry.id, entry.was) in said:
                again.append(entry)
            said.add((entry.id, entry.was))
        for start in range(0, len(again), DROPPED_AT_ONCE):
            with self.writing(durable=False, mute=False):
                for entry in again[start : start + DROPPED_AT_ONCE]:
                    self.consume(entry)

    def add_to_feed(self, message_id: str) -> None:
        """Have the next cycle look at a message whose row syncd itself changed."""
        self.connection.execute("INSERT INTO syncd_feed (id) VALUES (?)", (message_id,))

    # State

    def state(self, key: str) -> Any:
        """Return a JSON value kept for the project as a whole; None when there is none."""
        sql = "SELECT value FROM syncd_state WHERE key = ?"
        found = self.connection.execute(sql, (key,)).fetchone()
        try:
            return json.loads(found[0]) if found is not None else None
        except (TypeError, ValueError, RecursionError):
            return None  # NULL, or somebody else wrote there: as if nothing were known

    def halt(self) -> Halt | None:
        """Return why the project is halted; None where it is not."""
        match self.state("halt"):
            case [str(cause), ("file" | "db") as side, int(gone), int(expected), *closed]:
                from syncd.core.guard import Halt  # needed by few

                folders = [folder for folder in closed[:1] if isinstance(folder, str)]
                return Halt(cause, Side(side), gone, expected, *folders)
        return None

    def lost(self) -> frozenset[str]:
        """Return the messages that are gone, as the project's halt told of them."""
        ids = self.state("lost")
        return frozenset(map(str, ids)) if isinstance(ids, list) else frozenset()

    def folders(self) -> dict[str, tuple[int, ...]] | None:
        """Return what tells the mailbox folders from others in their places; None for no cycle."""
        known = self.state("folders")
        if not isinstance(known, dict):
            return None
        return {name: tuple(found) for name, found in known.items() if isinstance(found, list)}

    def set_state(self, key: str, value: Any) -> None:
        text = json.dumps(value) if value is not None else None
        self.connection.execute("INSERT OR REPLACE INTO syncd_state VALUES (?, ?)", (key, text))

    # Pruning

    def prune(self, history_days: float, journal_days: float) -> None:
        """Drop history, journal and versions past their time; writes nothing where there are none.

        The versions of a message in conflict stay in the history, however old: an earlier
        conflict's loser may be among them. So does the last entry of the journal for each side,
        which tells when it was last changed.
        """
        without_conflict = f"NOT EXISTS ({_ITS_CONFLICTS})"
        # What is kept once more, as of now, keeps its place: here the oldest need not be the first.
        oldest = "SELECT min(at) FROM syncd_history WHERE at >= '' AND at < x''"  # as text
        self._prune("syncd_history", oldest, history_days, without_conflict)
        not_last = "seq NOT IN (SELECT max(seq) FROM syncd_journal GROUP BY side)"
        first = "SELECT at FROM syncd_journal WHERE typeof(at) = 'text' ORDER BY seq LIMIT 1"
        self._prune("syncd_journal", first, journal_days, not_last, until_key=PRUNED_UNTIL)
        first = "SELECT at FROM syncd_versions WHERE typeof(at) = 'real' ORDER BY seq LIMIT 1"
        found, now = self.connection.execute(first).fetchone(), time.time()
        if found is not None and not now - VERSION_MEMORY_S <= found[0] <= now:
            self.drop_rows("syncd_versions", "at < ?", [now - VERSION_MEMORY_S])

    def _prune(
        self, table: str, first: str, days: float, unless: str, until_key: str | None = None
    ) -> None:
        """Drop of a table what is older than ``days`` and meets a condition.

        ``first`` asks for the oldest time. What is found to be past its time goes at the first pass
        a day later: one with a clock that is wrong, as before it is set after a start, must not
        take all that is to be kept.
        """
        found, now = self.connection.execute(first).fetchone(), time.time()
        until = _days_before(now, days)
        # One from when the clock was wrong tells nothing of those behind it.
        if found is None or found[0] is None or until <= found[0] <= now_text():
            return
        condition, key = f"at < ? AND {unless}", f"{table}_expired"
        met = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"
        noted, wait_s = self.state(key), min(1.0, days) * 86_400
        is_early = isinstance(noted, float) and now - wait_s < noted <= now
        if is_early or not self.connection.execute(met, (until,)).fetchone():
            return
        with self.writing(durable=False, mute=False):
            self.set_state(key, now)
        if isinstance(noted, float) and noted <= now:
            until = _days_before(noted, days)
            state = (until_key, until) if until_key is not None else None
            self.drop_rows(table, condition, [until], state=state)

    def forget_damaged(self) -> None:
        """Forget each baseline that makes no sense; its message is synced as in a first sync."""
        for part in (self.records, self.versions):
            damaged = part.damaged()
            for start in range(0, len(damaged), DROPPED_AT_ONCE):
                with self.writing():
                    part.drop(damaged[start : start + DROPPED_AT_ONCE])


def _days_before(moment: float, days: float) -> str:
    """Return the time so many days before a moment in UTC, as `now_text` writes it."""
    return datetime.fromtimestamp(max(0.0, moment - days * 86_400), UTC).isoformat()
