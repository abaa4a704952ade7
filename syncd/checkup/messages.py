"""The messages themselves: both sides equal, readable by every client, and dated before now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from syncd.checkup.check import Check, good, made, note, some, warning
from syncd.checkup.machine import seconds_ahead
from syncd.cycle.report import number_of
from syncd.database.chronicle import QuarantineEntry
from syncd.database.store import Store
from syncd.files.replica import FileReplica
from syncd.files.snapshot import time_ns
from syncd.names import CLAUDE_DIR
from syncd.repair import repair_files
from syncd.shell import quoted
from syncd.verify import Verification

_SKEW_S = 300.0


class MessageChecks:
    """The checks of one project's messages, of which both sides were read in full."""

    def __init__(
        self, project: Path, store: Store, files: FileReplica, found: Verification
    ) -> None:
        self._project = project
        self._store = store
        self._files = files
        self._found = found
        self._quoted = quoted(project)

    def all(self) -> Iterator[Check]:
        yield self.sides()
        yield self.files()
        yield self.rows()
        yield self.ids()
        yield made("old-client", self.old_client, self._store.path)
        yield made("dates", self.dates, self._store.path)

    def sides(self) -> Check:
        """Tell whether both sides hold the same."""
        found = self._found
        if not found.differences:
            return good("sides", f"{number_of(found.equal, 'message')} the same on both")
        told = [f"{one.id}: {one.what}" for one in found.differences]
        number = number_of(len({one.id for one in found.differences}), "message")
        mend = f"{found.differences[0].hint} (all of them: syncd verify {self._quoted})"
        return warning("sides", f"{number} not the same on both", mend, some(told))

    def files(self) -> Check:
        """Tell of files in which no message can be read."""
        entries = self._found.unreadable_files
        if not entries:
            return good("files", f"all {self._found.files:,} can be read")
        return _entries("files", "file", "not readable as a message", entries)

    def rows(self) -> Check:
        """Tell of rows that the new client cannot read: one of them breaks its whole listing."""
        entries = self._found.unreadable_rows
        if not entries:
            return good("rows", f"all {self._found.rows:,} can be read")
        return _entries("rows", "row", "not readable, which breaks every listing", entries)

    def ids(self) -> Check:
        """Tell of ids that several files have."""
        entries = self._found.seconds
        if not entries:
            twins = len(self._found.twins)
            own = f" ({number_of(twins, 'twin')} of messages to oneself)" if twins else ""
            return good("ids", f"each stands for one message{own}")
        return _entries("ids", "file", "with an id that another has", entries)

    def old_client(self) -> Check:
        """Tell of files that syncd can read and the old client cannot."""
        found = list(repair_files(self._project, self._store, self._files, dry_run=True))
        if not found:
            return good("old-client", "it can read every file that syncd can")
        told = [
            f"{one.path}: {one.problem}"
            + (f"; it cannot be repaired: {one.failure}" if one.failure else "")
            for one in found
        ]
        what = f"{number_of(len(found), 'file')} not readable by the old client"
        return warning("old-client", what, f"syncd repair {self._quoted}", some(told))

    def dates(self) -> Check:
        """Tell of files and rows that are dated in the future."""
        now = time.time()
        files = [
            path
            for path, stamp in self._files.scan().stamps.items()
            if time_ns(stamp.mtime_ns) / 1e9 > now + _SKEW_S
        ]
        # As text most times compare as they do as times; those near are then looked at closely.
        near = (datetime.fromtimestamp(now, UTC) - timedelta(days=1)).isoformat()
        sql = "SELECT id, created_at FROM messages WHERE typeof(created_at) = 'text' "
        rows = [
            str(key)
            for key, at in self._store.connection.execute(f"{sql}AND created_at > ?", (near,))
            if seconds_ahead(at, now) > _SKEW_S
        ]
        if not (files or rows):
            return good("dates", "nothing is dated in the future")
        parts = [number_of(len(files), "file")] if files else []
        parts += [number_of(len(rows), "row")] if rows else []
        mend = "If the clock is right, set their created_at; they stand first in every list."
        if files:
            path = quoted(self._project / CLAUDE_DIR / files[0])
            mend = f"If the clock is right: touch {path}"
        told = [*files, *(f"{key}: the row's created_at" for key in rows)]
        found = f"{' and '.join(parts)} dated in the future"
        return note("dates", found, mend, some(told))


def _entries(name: str, noun: str, what: str, entries: Sequence[QuarantineEntry]) -> Check:
    told = []
    for entry in entries:
        line = f":{entry.problem.line}" if entry.problem.line is not None else ""
        told.append(f"{entry.path}{line}: {entry.problem.reason}")
    first = entries[0]
    mend = f"{first.path}: {first.problem.hint}" if first.problem.hint else "Mend or delete it."
    if len(entries) > 1:
        mend += f" (and so for the other {len(entries) - 1:,}: syncd verify)"
    return warning(name, f"{number_of(len(entries), noun)} {what}", mend, some(told))
