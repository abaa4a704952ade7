"""Undoing: what stood before, bringing it back, and settling conflicts.

Whatever is brought back is written into the row first, with what it replaces in the history; the
next cycle carries it to the file. So each of these can itself be undone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from syncd.errors import MessageError, StaleReplica, UsageError
from syncd.files import FileReplica
from syncd.markdown import Place, parse
from syncd.message import FIELDS, Message, mailbox_at, message_from_row
from syncd.reconcile import Side
from syncd.report import OpenConflict
from syncd.store import HistoryEntry, Row, Store

CURRENT = "current"


def message_of(kept: HistoryEntry, project: Path) -> Message:
    """Return the message that a version in the history holds; raises `MessageError` for none."""
    if kept.data is None:
        return message_from_row(kept.row)
    path = kept.path or "inbox/x.md"
    return parse(kept.data, Place(path, mailbox_at(path), str(project), kept.at)).message


def version_of(store: Store, message_id: str, version: int | None) -> HistoryEntry:
    """Return a version of a message, the latest by default; raises `UsageError` for none."""
    if version is None:
        found = store.history(message_id)
        if not found:
            raise UsageError(
                f"the history has nothing of {message_id!r}",
                hint="syncd history lists what it has.",
            )
        return found[-1]
    kept = store.kept(version)
    if kept is None or kept.id != message_id:
        raise UsageError(
            f"the history has no version {version} of {message_id!r}",
            hint=f"syncd history {message_id} lists its versions.",
        )
    return kept


def restore(project: Path, store: Store, message_id: str, version: int | None) -> HistoryEntry:
    """Bring a version back; the caller then runs a cycle. Returns the version that it was.

    A file that is gone comes back with its own bytes, where its name is free.
    """
    kept = version_of(store, message_id, version)
    message = message_of(kept, project)
    _set_row(store, message, "before a restore")
    if kept.data is not None and kept.path is not None and not store.records([message_id]):
        with FileReplica(project) as files, suppress(StaleReplica):
            files.create(kept.path, kept.data)
            files.settle()
    return kept


def resolve(
    project: Path, store: Store, conflicts: list[OpenConflict], take: str
) -> dict[str, list[str]]:
    """Settle conflicts by taking a side's value, or what stands now; return fields by id.

    The caller then runs a cycle. Raises `UsageError` when the loser's version is gone or cannot be
    read, with nothing changed for that message.
    """
    settled: dict[str, list[str]] = {}
    by_id: dict[str, list[OpenConflict]] = {}
    for conflict in conflicts:
        by_id.setdefault(conflict.id, []).append(conflict)
    for message_id, open_ones in by_id.items():
        lost = [item for item in open_ones if take not in (CURRENT, item.winner)]
        if lost:
            _take_losers(project, store, message_id, lost)
        with store.writing():
            for conflict in open_ones:
                store.forget_conflict(message_id, conflict.field)
        settled[message_id] = [conflict.field for conflict in open_ones]
    return settled


def _take_losers(project: Path, store: Store, message_id: str, lost: list[OpenConflict]) -> None:
    row = store.rows([message_id]).get(message_id)
    if row is None:
        raise UsageError(
            f"the row of {message_id!r} is gone", hint=f"syncd restore {message_id} brings it back."
        )
    values = {name: getattr(message_from_row(row.values), name) for name in FIELDS}
    for conflict in lost:
        kept = store.kept(conflict.version)
        if kept is None:
            raise UsageError(
                f"the history has no version {conflict.version} of {message_id!r} any more",
                hint=f"Keep what stands now: syncd resolve {message_id} --take current",
            )
        values[conflict.field] = getattr(message_of(kept, project), conflict.field)
    _set_row(store, Message(id=message_id, **values), "before a conflict was resolved")


def _set_row(store: Store, message: Message, reason: str) -> None:
    """Write a message into its row, which goes to the history first."""
    row = store.rows([message.id]).get(message.id)
    with store.writing():
        if row is None:
            store.insert_row(message)
        else:
            fields = _differing(row, message)
            if fields:
                store.keep_row(message.id, reason)
                store.update_row(row, message, fields)
        store.add_to_feed(message.id)


def _differing(row: Row, message: Message) -> list[str]:
    try:
        now = message_from_row(row.values)
    except MessageError:
        return list(FIELDS)
    return [name for name in FIELDS if getattr(now, name) != getattr(message, name)]


def losing_side(conflict: OpenConflict) -> Side:
    """Return the side whose value lost."""
    return Side.DB if conflict.winner == Side.FILE else Side.FILE
