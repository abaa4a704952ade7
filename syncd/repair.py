"""Repairing files that syncd can read and the old client cannot, value by value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from syncd.core.edit import repair
from syncd.core.journal import COMMANDED, JournalEntry
from syncd.core.legacy import legacy_problem
from syncd.core.markdown import parse
from syncd.core.message import FIELDS
from syncd.core.reconcile import Step
from syncd.core.sides import Side
from syncd.cycle.found import place_of
from syncd.database.chronicle import now_text
from syncd.database.store import Store
from syncd.errors import MessageError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.names import in_utf8


@dataclass(frozen=True, slots=True)
class Repair:
    """One file that the old client cannot read: why, and (``failure``) why it stays so."""

    path: str
    problem: str
    failure: str = ""


def repair_files(
    project: Path, store: Store, files: FileReplica, *, dry_run: bool
) -> Iterator[Repair]:
    """Rewrite each file that only syncd can read, and yield what was wrong with it.

    Its former bytes go to the history first. The caller holds the lock of a project that is not
    halted, and runs a cycle afterwards. A file that syncd cannot read either is not touched and not
    named: it is in quarantine, with the reason.
    """
    own_path = in_utf8(str(project))
    for path in sorted(files.scan().stamps):
        try:
            version = files.read(path)
            place = place_of(path, own_path, version.stamp.mtime_ns)
            message = parse(version.data, place).message
        except (FileNotFoundError, MessageError, StaleReplica):
            continue
        problem = legacy_problem(version.data)
        if problem is None:
            continue
        try:
            record = store.records.of([message.id]).get(message.id)
            agreed = record.baseline.fields[FIELDS.index("created_at")] if record else None
            data = repair(version.data, place, created_at=agreed)
            if not dry_run:
                with store.writing():
                    store.chronicle.keep_file(message.id, path, version.data, "before a repair")
                files.replace(path, data, seen=version)
                files.settle()
                with store.writing():
                    store.chronicle.add_to_journal([_entry(message.id, path)])
        except (MessageError, StaleReplica) as error:
            yield Repair(path, problem.sentence, error.sentence)
        else:
            yield Repair(path, problem.sentence)


def _entry(message_id: str, path: str) -> JournalEntry:
    return JournalEntry(now_text(), message_id, Side.FILE, Step.UPDATE, why=COMMANDED, path=path)
