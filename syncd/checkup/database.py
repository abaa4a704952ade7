"""What stands in a project's database beside the messages: syncd's own tables, and their sense."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from syncd.checkup.check import Check, Verdict, good, made, note, problem, some, warning
from syncd.checkup.machine import seconds_ahead
from syncd.cycle.report import number_of
from syncd.database import tables
from syncd.database.store import Store
from syncd.files.snapshot import Scan
from syncd.messaging.schema import INDEXES_DDL
from syncd.names import CLAUDE_DIR, DATABASE, is_row_key
from syncd.shell import quoted
from syncd.verify import Verification

_SETTLED_S = 60.0
"""After this long nobody is still about to finish what is left over."""

_SKEW_S = 5.0


class DatabaseChecks:
    """The checks of one project's open database; ``agent_works`` tells whether one is at work."""

    def __init__(self, project: Path, store: Store, *, agent_works: bool) -> None:
        self._store = store
        self._agent_works = agent_works
        self._base = project / CLAUDE_DIR
        self._project = quoted(project)
        self._database = quoted(self._base / DATABASE)
        self._sync = f"syncd sync {self._project}"

    def lasting(self) -> Iterator[Check]:
        """Make the checks of what does not come and go with the work."""
        if not (self._base / DATABASE).exists():
            mend = f"syncd migrate {self._project}"
            yield note("database", "there is none yet", mend)
            return
        yield made("integrity", self.integrity, self._store.path)
        yield made("schema", self.schema, self._store.path)
        yield made("triggers", self.triggers, self._store.path)
        if self.is_new:
            return
        yield made("state", self.state, self._store.path)
        yield made("clock", self.clock, self._store.path)

    def passing(self, scan: Scan, known: Verification, feed_until: int | None) -> Iterator[Check]:
        """Make the checks of what an agent at work clears away by itself.

        What an earlier look saw in the feed goes up to ``feed_until``; only that has stood.
        """
        if self.is_new:
            return
        yield made("feed", lambda: self.feed(feed_until), self._store.path)
        yield made("baseline", lambda: self.baseline(scan), self._store.path)
        yield made("leftovers", lambda: self.leftovers(scan), self._store.path)
        yield made("quarantine", lambda: self.quarantine(scan, known), self._store.path)

    @property
    def is_new(self) -> bool:
        """Tell whether no cycle ever ran here."""
        sql = "SELECT 1 FROM sqlite_master WHERE name = 'syncd_state'"
        return self._store.connection.execute(sql).fetchone() is None

    def last_in_feed(self) -> int:
        """Return how far the feed goes now."""
        sql = "SELECT max(seq) FROM syncd_feed"
        return int(self._store.connection.execute(sql).fetchone()[0] or 0)

    def integrity(self) -> Check:
        """Have SQLite look for damage."""
        found = [str(row[0]) for row in self._store.connection.execute("PRAGMA quick_check(20)")]
        if found == ["ok"]:
            return good("integrity", "SQLite finds no damage")
        return problem(
            "integrity",
            f"{DATABASE} is damaged",
            "Stop all that use it, move it and its -wal file away and restore a backup; without "
            f"one, build a new one from the files: syncd migrate {self._project}",
            some(found),
        )

    def schema(self) -> Check:
        """Compare the contract's table with what the contract says."""
        sql = "SELECT lower(name) FROM sqlite_master WHERE type IN ('table', 'index')"
        names = {name for (name,) in self._store.connection.execute(sql)}
        if "messages" not in names:
            return note("schema", "there is no table messages yet", self._sync)
        missing = tables.missing_columns(self._store.connection)
        if missing:
            back = tables.way_back(self._store.connection, missing)
            adding = f"sqlite3 {self._database} {quoted(tables.adding(missing))}"
            return problem(
                "schema",
                f"the table messages lacks {', '.join(missing)}: no program of the family can "
                "use it",
                back or adding,
            )
        odd = tables.number_columns(self._store.connection)
        if odd:
            found = f"{', '.join(odd)}: of a type in which SQLite makes numbers of texts like '007'"
            return note("schema", found, tables.NUMBERS_HINT)
        wanted = [ddl.split("EXISTS ")[1].split()[0] for ddl in INDEXES_DDL]
        slow = [name for name in wanted if name not in names]
        if slow:
            found = f"there is no index {', '.join(slow)}: searching is slow"
            made_by = "Any program of the family makes it when it opens the database."
            return note("schema", found, made_by)
        return good("schema", "the table messages is as the contract has it")

    def triggers(self) -> Check:
        """Compare syncd's own tables and triggers with what this version makes."""
        tables.refuse_taken(self._store.connection)
        if self.is_new:
            return note("triggers", "no sync has been here yet", self._sync)
        tables.is_ready(self._store.connection)  # raises when a newer syncd made them
        lacking = tables.lacking(self._store.connection)
        if not lacking:
            return good("triggers", "all stand as this version makes them")
        return warning(
            "triggers",
            "changes by SQL are noticed late: not all is as this version makes it",
            f"{self._sync}, which makes them again",
            tuple(lacking),
        )

    def state(self) -> Check:
        """Tell of a halt, and of conflicts that nobody has settled."""
        halt = self._store.halt()
        if halt is not None:
            *others, last = halt.ways_out(str(self._base.parent))
            found = f"it is halted: {halt.cause}"
            return problem("state", found, last, tuple(others))
        conflicts = self._store.chronicle.conflicts()
        if conflicts:
            told = some([f"{key}, {field}" for key, field, *_ in conflicts])
            found = f"{number_of(len(conflicts), 'conflict')} without a decision"
            mend = f"syncd conflicts {self._project}, then syncd resolve ID --take file, or db"
            return warning("state", found, mend, told)
        return good("state", "no halt, no conflicts")

    def clock(self) -> Check:
        """Compare the clock with the times that were noted."""
        sql = "SELECT max(at) FROM syncd_history UNION ALL SELECT max(at) FROM syncd_journal"
        noted = [str(at) for (at,) in self._store.connection.execute(sql)]
        last = max(noted, key=seconds_ahead)
        if seconds_ahead(last) <= _SKEW_S:
            return good("clock", "it is not behind what was noted")
        when = datetime.fromisoformat(last).isoformat(" ", "seconds")
        return warning(
            "clock",
            f"the clock is behind: the last thing noted here is dated {when}",
            "Set it: sudo timedatectl set-ntp true; if it is right now, it was not then, and "
            "history and journal are kept that much longer.",
        )

    def feed(self, until: int | None) -> Check:
        """Look for changes by SQL that no cycle has taken up."""
        entries = [entry for entry in self._store.feed() if until is None or entry.seq <= until]
        if not entries:
            return good("feed", "no change by SQL waits")
        number = number_of(len({entry.id for entry in entries}), "message")
        if not self._agent_works:
            found = f"{number} changed by SQL, and yet to be taken up"
            return note("feed", found, self._sync)
        return warning(
            "feed",
            f"{number} changed by SQL and not taken up, though an agent is at work",
            f"See what is in its way: syncd status {self._project}",
            some([str(entry.id) for entry in entries]),
        )

    def baseline(self, scan: Scan) -> Check:
        """Look for messages that the baseline knows and a side does not have any more."""
        rows = self._store.rows.gone_ids()
        files, places, total = [], set(), 0
        doubled = 0
        for path, key, _ in self._store.records.stamps():
            total += 1
            doubled += path in places
            places.add(path)
            if path not in scan.stamps and path not in scan.odd:
                files.append(f"{key}, {path}")
        twins = [path for path in self._store.twins.all() if path not in scan.stamps]
        if not (rows or files or twins or doubled):
            known = number_of(total, "message")
            return good("baseline", f"it has {known}, each with its file and row")
        parts = (
            (len(rows), "without a row"),
            (len(files), "without a file"),
            (doubled, "at a place that another has"),
            (len(twins), "twins without a file"),
        )
        found = ", ".join(f"{number:,} {what}" for number, what in parts if number)
        verdict = Verdict.WARNING if self._agent_works else Verdict.NOTE
        told = [f"{key}: no row" for key in rows] + [f"{one}: no file" for one in files]
        mend = f"See what a cycle would do about it: {self._sync} --dry-run"
        return Check(
            "baseline", verdict, f"of {number_of(total, 'message')}: {found}", mend, some(told)
        )

    def leftovers(self, scan: Scan) -> Check:
        """Look for what a cycle that was cut off left behind."""
        connection = self._store.connection
        if connection.execute("SELECT count(*) FROM syncd_mute").fetchone()[0]:
            return problem(
                "leftovers",
                "the triggers are muted for good: somebody else wrote into syncd_mute",
                f"sqlite3 {self._database} 'DELETE FROM syncd_mute'",
            )
        old = time.time() - _SETTLED_S
        strays = [path for path in scan.strays if self._is_older(path, old)]
        sql = "SELECT id, path FROM syncd_versions WHERE intent AND at < ?"
        intents = [f"{key}, {path}" for key, path in connection.execute(sql, (old,))]
        if not (strays or intents):
            return good("leftovers", "nothing was left by a cycle that was cut off")
        found = [number_of(len(strays), "temporary file")] if strays else []
        found += [number_of(len(intents), "unfinished write")] if intents else []
        return note(
            "leftovers",
            f"a cycle was cut off, or a program keeps a file open: {' and '.join(found)}",
            f"{self._sync}, which takes them in",
            some([*strays, *(f"{one}: begun" for one in intents)]),
        )

    def _is_older(self, path: str, moment: float) -> bool:
        try:
            return (self._base / path).lstat().st_mtime < moment
        except OSError:
            return False

    def quarantine(self, scan: Scan, known: Verification) -> Check:
        """Look for what is noted as quarantined: that it still stands, and is told of."""
        found_now = {entry.path for entry in known.quarantined}
        differing = {one.id for one in known.differences}
        standing, past = [], []
        for path, entry in self._store.chronicle.quarantine().items():
            is_row = is_row_key(path)
            if path in found_now:
                continue  # another check tells of it
            if entry.id in differing and (is_row or path in scan.stamps):
                standing.append(f"{path}: {entry.problem.reason}. {entry.problem.hint}".strip())
            else:
                past.append(path)
        if standing:
            return warning(
                "quarantine",
                f"{number_of(len(standing), 'message')} that no cycle can carry over",
                "Mend each as it says; the next cycle takes it up.",
                some(standing),
            )
        if past:
            found = f"{len(past):,} noted that stand no more"
            return note("quarantine", found, f"{self._sync} drops them", some(past))
        return good("quarantine", "every entry still stands" if found_now else "it is empty")
