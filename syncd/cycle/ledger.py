"""What one cycle works on, and what it has done so far: kept by all who take part in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from syncd.core.sides import Quarantined
from syncd.cycle.found import Found
from syncd.cycle.report import Report
from syncd.database.chronicle import OpenConflict, QuarantineEntry
from syncd.database.store import Store
from syncd.errors import MessageError, ReplicaError
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp
from syncd.names import is_utf8, row_key


@dataclass(slots=True)
class Ledger:
    """The two replicas, and what one cycle has done with them so far.

    ``own_path`` is the project's, as text, and ``cause`` what the journal says of all that is done.

    ``set_aside`` has what goes into the quarantine, by path or row key, ``released`` what is to be
    in it no longer. ``touched`` are the ids of messages that changed, ``freed`` those of messages
    that stand nowhere any more. ``taken`` are the paths at which a file is put, ``closed`` the
    folders to which nothing can be written. ``beside`` are files that can be read and stand for no
    message, or for one that cannot take them in, ``twins`` those that are known to, with id and
    stamp. ``awaited`` are files whose change is to be taken in before a stray can be. A dry run
    tells of ``would_conflict``.
    """

    store: Store
    files: FileReplica
    report: Report
    own_path: str
    dry_run: bool
    cause: str
    set_aside: dict[str, QuarantineEntry] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)
    touched: set[str] = field(default_factory=set)
    freed: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    beside: list[Found] = field(default_factory=list)
    twins: dict[str, tuple[str, Stamp]] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    would_conflict: list[OpenConflict] = field(default_factory=list)

    def quarantine_row(self, message_id: object, problem: MessageError | Quarantined) -> None:
        """Leave a row alone, with the reason."""
        if isinstance(problem, MessageError):
            problem = Quarantined(problem.sentence, problem.line, problem.hint)
        if not problem.hint:
            problem = replace(problem, hint="Mend the row with SQL, or delete it.")
        key = row_key(message_id)
        known = message_id if isinstance(message_id, str) and is_utf8(message_id) else None
        self.set_aside[key] = QuarantineEntry(key, known, problem, None)

    def quarantine_file(
        self, path: str, message_id: str | None, problem: Quarantined, stamp: Stamp | None
    ) -> None:
        """Leave a file alone, with the reason; it is looked at again when its stamp changes."""
        self.set_aside[path] = QuarantineEntry(path, message_id, problem, stamp)

    def note_failure(self, error: ReplicaError, folders: set[str]) -> None:
        """Note that a change to a file in these folders failed, and where all others would."""
        self.report.note_failure(error)
        self.closed |= {one for one in folders - self.closed if self.files.is_closed(one)}

    def note_written(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Come back to what hosts' triggers changed, at the end of a transaction that wrote rows.

        ``rows`` has the id and digest of each that was written, None for one that was deleted.
        """
        if self.store.has_host_triggers:
            self.report.unsettled.update(map(row_key, self.store.changed_by_hosts(dict(rows))))
