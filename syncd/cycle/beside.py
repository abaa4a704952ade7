"""Files that stand beside a message's own: their words are kept, before they go or change."""

from __future__ import annotations

from syncd.core.journal import LATE_REWRITE, JournalEntry
from syncd.core.message import same_texts
from syncd.core.reconcile import Step
from syncd.core.sides import Side
from syncd.cycle.ledger import Ledger
from syncd.database.chronicle import now_text
from syncd.errors import ReplicaError, StaleReplica
from syncd.files.snapshot import Version


def keep_beside(ledger: Ledger) -> None:
    """Keep the words of files that no row holds: the next version would be their end."""
    beside, ledger.beside = ledger.beside, []
    records = ledger.store.records.of({found.state.message.id for found in beside})
    for found in beside:
        message = found.state.message
        record = records.get(message.id)
        if ledger.dry_run or (record and same_texts(record.baseline.fields, message)):
            continue
        _keep_once(ledger, message.id, found.path, found.version.data, "set aside")


def _keep_once(ledger: Ledger, message_id: str, path: str, data: bytes, reason: str) -> None:
    """Take a file's bytes into the history, unless that holds them."""
    if not ledger.store.chronicle.has_version(message_id, data):
        with ledger.store.writing():
            ledger.store.chronicle.keep_file(message_id, path, data, reason)


def remove(ledger: Ledger, message_id: str, path: str, version: Version) -> None:
    """Take a late rewrite that stands beside its message into the history, and delete it."""
    if not ledger.dry_run:
        _keep_once(ledger, message_id, path, version.data, LATE_REWRITE)
        try:
            ledger.files.delete(path, seen=version)
            ledger.report.late += ledger.files.settle()
        except StaleReplica:
            ledger.report.unsettled.add(path)
            return
        except ReplicaError as error:
            ledger.report.note_failure(error)
            return
        told = JournalEntry(
            now_text(), message_id, Side.FILE, Step.DELETE, why=LATE_REWRITE, path=path
        )
        with ledger.store.writing(durable=False, mute=False):
            ledger.store.chronicle.add_to_journal([told])
    ledger.report.counts.files_deleted += 1
    ledger.touched.add(message_id)


def remove_stray(
    ledger: Ledger, message_id: str, path: str, version: Version, *, keep_as: str | None
) -> None:
    """Unlink a stray; its bytes go to the history first, for this reason, if for any."""
    if ledger.dry_run:
        return
    if keep_as is not None:
        _keep_once(ledger, message_id, path, version.data, keep_as)
    try:
        if not ledger.files.unlink_stray(path, version.digest):
            ledger.report.late.append(path)
    except ReplicaError as error:
        ledger.report.note_failure(error)
