"""What is kept for people: the history, open conflicts, the quarantine, and the journal.

Nothing here decides what a cycle does to a message; it tells what was done, what was left alone,
and how to get back what went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.core.message import FIELDS
from syncd.core.sides import Quarantined, Side
from syncd.database.queries import Queries
from syncd.database.tables import COLUMNS
from syncd.files.snapshot import Stamp
from syncd.messaging.schema import MESSAGE_COLUMNS

if TYPE_CHECKING:
    from syncd.core.journal import JournalCount, JournalEntry
    from syncd.core.reconcile import Conflict

_KEPT_ROW = ", ".join(COLUMNS[1:])
_FIELDS = ", ".join(f"'{name}'" for name in FIELDS)
_SOME = 1000
PRUNED_UNTIL = "journal_pruned_until"
_QUARANTINE = (
    "SELECT path, id, line, reason, hint, size, mtime_ns, inode FROM syncd_quarantine WHERE"
)
_JOURNAL = "at, id, side, step, fields, why, path, agent, project"
# Somebody else may have put a BLOB where text belongs.
_READ_JOURNAL = ", ".join(f"CAST({column} AS TEXT)" for column in _JOURNAL.split(", "))


class QuarantineEntry(NamedTuple):
    """A file or row left alone. ``stamp`` is None when it must be looked at again each time."""

    path: str
    id: str | None
    problem: Quarantined
    stamp: Stamp | None


class HistoryEntry(NamedTuple):
    """One version in the history: a file's bytes with its path, or a row's values."""

    version: int
    id: str
    at: str
    side: str
    reason: str
    path: str | None
    data: bytes | None
    values: tuple[Any, ...]

    @property
    def row(self) -> tuple[Any, ...]:
        """The row as `COLUMNS` has it; of a file's version all but the id is NULL."""
        return (self.id, *self.values)


class OpenConflict(NamedTuple):
    """A conflict that nobody has resolved yet; ``version`` is the loser's in the history."""

    id: str
    field: str
    at: str
    winner: str
    version: int

    @property
    def loser(self) -> Side:
        """The side whose value lost."""
        return Side(self.winner).other


def now_text() -> str:
    """Return the time in UTC as the contract writes it."""
    return datetime.now(UTC).isoformat()


def _by_path(found: Iterable[tuple[Any, ...]]) -> dict[str, QuarantineEntry]:
    return {
        path: QuarantineEntry(
            path,
            key,
            Quarantined(reason, line, hint),
            Stamp(size, mtime_ns, inode) if size is not None else None,
        )
        for path, key, line, reason, hint, size, mtime_ns, inode in found
    }


class Chronicle(Queries):
    """What a project's database keeps for people."""

    # Quarantine

    def quarantine(self) -> dict[str, QuarantineEntry]:
        """Return everything that is left alone, by path (``messaging.db#id`` for rows)."""
        return _by_path(self._execute(f"{_QUARANTINE} typeof(path) = 'text' ORDER BY path"))

    def quarantined(self, paths: Iterable[str]) -> dict[str, QuarantineEntry]:
        """Return what of these paths and rows is left alone; the cost does not grow with others."""
        return _by_path(self._select_in(f"{_QUARANTINE} path IN ", paths))

    def quarantined_for(self, ids: Iterable[str]) -> dict[str, QuarantineEntry]:
        """Return what is left alone and has one of these ids."""
        return _by_path(self._select_in(f"{_QUARANTINE} typeof(path) = 'text' AND id IN ", ids))

    def save_quarantine(self, entry: QuarantineEntry) -> None:
        stamp, problem = entry.stamp, entry.problem
        numbers = (stamp.size, stamp.mtime_ns, stamp.inode) if stamp else (None, None, None)
        self._execute(
            "INSERT OR REPLACE INTO syncd_quarantine VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(entry.path, entry.id, problem.line, problem.reason, problem.hint),
                *(now_text(), *numbers),
            ),
        )

    def forget_quarantine(self, path: str) -> None:
        self._execute("DELETE FROM syncd_quarantine WHERE path = ?", (path,))

    # History and conflicts

    def keep_file(self, message_id: str, path: str, data: bytes, reason: str) -> int:
        """Add a file's bytes to the history; return the version's number.

        Where the last version is the same file with the same bytes, it is that one, as of now: what
        cannot be replaced is tried again and again, and each time kept before.
        """
        sql = "SELECT version, path, data FROM syncd_history WHERE id = ? ORDER BY version DESC"
        last = self._execute(f"{sql} LIMIT 1", (message_id,)).fetchone()
        if last is not None and last[1:] == (path, data):
            sql = "UPDATE syncd_history SET at = ?, reason = ? WHERE version = ?"
            self._execute(sql, (now_text(), reason, last[0]))
            return int(last[0])
        done = self._execute(
            "INSERT INTO syncd_history (id, at, side, reason, path, data) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (message_id, now_text(), Side.FILE, reason, path, data),
        )
        return done.lastrowid or 0

    def keep_row(self, message_id: str, reason: str) -> int:
        """Add the row as it stands to the history; return the version's number."""
        others = ", ".join(MESSAGE_COLUMNS[1:])
        done = self._execute(
            f"INSERT INTO syncd_history (id, at, side, reason, {others}) "
            f"SELECT id, ?, ?, ?, {others} FROM messages WHERE id = ?",
            (now_text(), Side.DB, reason, message_id),
        )
        return done.lastrowid or 0

    def has_version(self, message_id: str, data: bytes) -> bool:
        """Tell whether the history of a message holds a file of exactly these bytes."""
        sql = "SELECT 1 FROM syncd_history WHERE id = ? AND data = ? LIMIT 1"
        return self._execute(sql, (message_id, data)).fetchone() is not None

    def kept(self, version: int) -> HistoryEntry | None:
        """Return one version of the history."""
        sql = f"SELECT version, id, at, side, reason, path, data, {_KEPT_ROW} FROM syncd_history"
        values = self._execute(f"{sql} WHERE version = ?", (version,)).fetchone()
        return HistoryEntry._make((*values[:7], values[7:])) if values is not None else None

    def save_conflict(self, message_id: str, conflict: Conflict, version: int) -> None:
        self._execute(
            "INSERT OR REPLACE INTO syncd_conflicts VALUES (?, ?, ?, ?, ?)",
            (message_id, conflict.field, now_text(), conflict.winner, version),
        )

    def forget_conflict(self, message_id: str, field: str) -> None:
        self._execute("DELETE FROM syncd_conflicts WHERE id = ? AND field = ?", (message_id, field))

    def conflicts(self) -> list[OpenConflict]:
        """Return the conflicts that nobody has resolved yet, oldest first.

        What makes no sense is passed over: somebody else wrote there.
        """
        sql = (
            "SELECT id, field, at, winner, version FROM syncd_conflicts "
            f"WHERE winner IN ('file', 'db') AND field IN ({_FIELDS}) AND typeof(id) = 'text' "
            "AND typeof(at) = 'text' AND typeof(version) = 'integer' ORDER BY at, id, field"
        )
        return [OpenConflict(*values) for values in self._execute(sql)]

    # Journal

    def add_to_journal(self, entries: Iterable[JournalEntry]) -> None:
        marks = "?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, 0)"
        sql = f"INSERT INTO syncd_journal ({_JOURNAL}, seq) VALUES ({marks})"
        self._executemany(sql, entries)

    def journal(
        self,
        *,
        message_id: str | None = None,
        since: str = "",
        after: int = 0,
        first: int | None = None,
        last: int | None = None,
    ) -> list[JournalEntry]:
        """Return what was done, oldest first.

        Only to one message, since an ISO 8601 time in UTC, after an entry's ``seq``, or the
        ``first`` or ``last`` so many, where asked.
        """
        order, most = ("", first) if first is not None else (" DESC", last)
        sql = (
            f"SELECT {_READ_JOURNAL}, seq FROM syncd_journal "
            f"WHERE seq > ? AND at >= ? AND (? IS NULL OR id = ?) ORDER BY seq{order} LIMIT ?"
        )
        values = (after, since, message_id, message_id, -1 if most is None else most)
        from syncd.core.journal import JournalEntry  # what only looks at a project does without

        found = self._execute(sql, values).fetchall()
        return [JournalEntry(*entry) for entry in (reversed(found) if order else found)]

    def each_entry(
        self, *, message_id: str | None = None, since: str = "", after: int = 0
    ) -> Iterator[JournalEntry]:
        """Yield what `journal` returns, with some at a time in memory."""
        while True:
            some = self.journal(message_id=message_id, since=since, after=after, first=_SOME)
            yield from some
            if len(some) < _SOME:
                return
            after = some[-1].seq

    def last_entry_until(self, at: str) -> int:
        """Return the ``seq`` of the last entry that is not later than a time; 0 for none."""
        sql = "SELECT max(seq) FROM syncd_journal WHERE at <= ?"
        return int(self._execute(sql, (at,)).fetchone()[0] or 0)

    def journal_counts(self, first_moment: str) -> Iterator[JournalCount]:
        """Yield how many entries there are by day, side, reason and author.

        Days, which are local ones, are told apart from ``first_moment`` on, an ISO 8601 time in
        UTC; all that is older counts together, with None for its day.
        """
        sql = (
            "SELECT CASE WHEN at >= ? THEN date(at, 'localtime') END AS day, side, "
            # SQLite gives the id of the row that max(at) is of.
            "CAST(why AS TEXT), agent, project, count(*), max(at), id FROM syncd_journal "
            "WHERE typeof(at) = 'text' GROUP BY day, side, why, agent, project"
        )
        from syncd.core.journal import JournalCount

        for values in self._execute(sql, (first_moment,)):
            yield JournalCount(*values)

    def journal_since(self) -> str | None:
        """Return the time from which on the journal is whole; None when it has no entry."""
        first = "SELECT at FROM syncd_journal ORDER BY seq LIMIT 1"
        pruned = f"SELECT value FROM syncd_state WHERE key = '{PRUNED_UNTIL}'"
        found = [str(one[0]) for sql in (first, pruned) if (one := self._execute(sql).fetchone())]
        # One that is yet to come is of a clock that was wrong.
        return max((at for at in found if at <= now_text()), default=min(found, default=None))
