"""The history: what stands and what stood before, and bringing that back.

Whatever is brought back is written into the row first, with what it replaces in the history; the
next cycle carries it to the file. So a restore can itself be undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.core.journal import COMMANDED, JournalEntry
from syncd.core.markdown import ParsedFile, Place, parse
from syncd.core.message import FIELDS, FOLDERS, Message, mailbox_at, message_from_row
from syncd.core.reconcile import Step
from syncd.core.sides import Side
from syncd.cycle.found import place_of
from syncd.database.chronicle import HistoryEntry, now_text
from syncd.database.record import Row
from syncd.database.store import Store
from syncd.errors import MessageError, StaleReplica, UsageError
from syncd.files.replica import FileReplica
from syncd.messaging.schema import MESSAGE_COLUMNS
from syncd.names import in_utf8, is_message_name, is_utf8

_MOST = 2**63 - 1  # SQLite's largest integer
_BEFORE_RESTORE = "before a restore"


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: the version that stands again, and the one that it kept before.

    ``before`` is None where nothing had to be kept: there was no message (``existed`` is false),
    or it was this very one.
    """

    kept: HistoryEntry
    before: int | None
    existed: bool


# Finding


def find(store: Store, text: str, *, also: str = "") -> str:
    """Return the id of the message that ``text`` is, or begins; raises `UsageError` for none.

    Known are the messages that stand, those of which the history has a version, and those in the
    table ``also``.
    """
    found: list[str] = []
    if is_utf8(text):
        begins = "typeof(id) = 'text' AND substr(id, 1, :length) = :text"
        if not text:
            begins = "id = :text"  # nothing begins every id: a script's empty variable
        tables = ("messages", "syncd_baseline", "syncd_history", also)
        sql = " UNION ".join(f"SELECT id FROM {table} WHERE {begins}" for table in tables if table)
        values = {"length": len(text), "text": text}
        found = [key for (key,) in store.connection.execute(sql, values)]
    return choose(
        text,
        found,
        none=f"no message {text!r} is known here",
        hint="'syncd history' lists all versions; 'syncd sync' takes in what is new.",
    )


def choose(text: str, ids: Iterable[str], *, none: str, hint: str) -> str:
    """Return the one of these ids that ``text`` is, or else the only one that it begins.

    Raises `UsageError` when there are several, or (``none``, ``hint``) there is none.
    """
    found = sorted({key for key in ids if key == text or (text and key.startswith(text))})
    if text in found or len(found) == 1:
        return text if text in found else found[0]
    if not found:
        raise UsageError(none, hint=hint)
    some = ", ".join(found[:3])
    raise UsageError(
        f"{len(found)} messages begin with {text!r}: {some}{', …' if len(found) > 3 else ''}",
        hint="Write more of the id.",
    )


def each_version(store: Store, message_id: str | None) -> Iterator[HistoryEntry]:
    """Yield the versions of one message or of all, oldest first, with one at a time in memory."""
    sql = "SELECT version FROM syncd_history WHERE :id IS NULL OR id = :id ORDER BY version"
    for (number,) in store.connection.execute(sql, {"id": message_id}).fetchall():
        kept = store.chronicle.kept(number)
        if kept is not None:
            yield kept


def version_of(store: Store, message_id: str | None, version: int | None) -> HistoryEntry:
    """Return a version of a message, the latest by default; raises `UsageError` for none.

    Without an id, which may be one that nobody can type, it is a version of any message.
    """
    if version is None:
        sql = "SELECT max(version) FROM syncd_history WHERE id = ?"
        version = store.connection.execute(sql, (message_id,)).fetchone()[0]
        if version is None:
            raise UsageError(
                f"the history has nothing of {message_id!r}",
                hint="'syncd history' lists what it has.",
            )
    kept = store.chronicle.kept(version) if 0 <= version <= _MOST else None
    if kept is None or message_id not in (None, kept.id):
        whose = f" of {message_id!r}" if message_id is not None else ""
        raise UsageError(
            f"the history has no version {version}{whose}",
            hint="'syncd history' lists what it has.",
        )
    return kept


def row_now(store: Store, message_id: str) -> dict[str, Any] | None:
    """Return a message's whole row as it stands, by its columns; None when there is none."""
    return _whole_row(store, "messages WHERE id = ?", message_id)


def row_then(store: Store, version: int) -> dict[str, Any] | None:
    """Return the whole row that a version in the history holds, by its columns."""
    return _whole_row(store, "syncd_history WHERE version = ?", version)


def _whole_row(store: Store, where: str, value: str | int) -> dict[str, Any] | None:
    sql = f"SELECT {', '.join(MESSAGE_COLUMNS)} FROM {where}"
    values = store.connection.execute(sql, (value,)).fetchone()
    return dict(zip(MESSAGE_COLUMNS, values, strict=True)) if values is not None else None


def file_now(
    project: Path, store: Store, files: FileReplica, message_id: str
) -> tuple[str, bytes] | None:
    """Return path and bytes of the file in which a message stands; None when there is none.

    A file that cannot be read as a message still counts at the place where the message stood
    last. Raises `MessageError` when it is too large or no regular file, `StaleReplica` when it is
    being written.
    """
    record = store.records.of([message_id]).get(message_id)
    last = record.path if record else None
    known = {path: stamp for path, _, stamp in store.records.stamps()}
    scan = files.scan()
    new = [path for path, stamp in scan.stamps.items() if known.get(path) != stamp]
    first = [last] if last is not None and (last in scan.stamps or last in scan.odd) else []
    for path in first + new:
        try:
            data = files.read(path).data
        except FileNotFoundError:
            continue
        except MessageError as error:
            if path == last:
                raise MessageError(f"{path}: {error.sentence}", hint=error.hint) from error
            continue
        try:
            place = place_of(path, in_utf8(str(project)))
            is_it = parse(data, place).message.id == message_id
        except MessageError:
            is_it = path == last
        if is_it:
            return path, data
    return None


def in_step(store: Store, message_id: str) -> bool:
    """Tell whether a message's file and row agreed on what the row says at the last cycle."""
    row = store.rows.of([message_id]).get(message_id)
    record = store.records.of([message_id]).get(message_id)
    return row is not None and record is not None and row.digest == record.row_digest


# Versions as messages


def message_of(kept: HistoryEntry, project: Path) -> Message:
    """Return the message that a version in the history holds; raises `MessageError` for none."""
    if kept.data is None:
        return message_from_row(kept.row)
    return _parsed(kept, project).message._replace(id=kept.id)


def bytes_of(kept: HistoryEntry) -> bytes | None:
    """Return the bytes of a version that is a file; None when it is a row."""
    if kept.data is None or isinstance(kept.data, bytes):
        return kept.data
    return str(kept.data).encode("utf-8", "surrogateescape")  # as another client wrote it there


def path_of(kept: HistoryEntry) -> str | None:
    """Return where a version's file stood, if that is a place for messages.

    Any client may have written into the history: no path from there leads outside the project.
    """
    path = kept.path
    if not isinstance(path, str) or "\0" in path or not is_utf8(path):
        return None
    folder, _, name = path.rpartition("/")
    return path if folder in FOLDERS and is_message_name(name) else None


def _parsed(kept: HistoryEntry, project: Path) -> ParsedFile:
    path = path_of(kept) or "inbox/x.md"
    return parse(
        bytes_of(kept) or b"", Place(path, mailbox_at(path), in_utf8(str(project)), kept.at)
    )


# Restoring


def restore(project: Path, store: Store, files: FileReplica, kept: HistoryEntry) -> Restored:
    """Bring a version back; the caller, who holds the project's lock, then runs a cycle.

    A version that is a file comes back with its own bytes: where the message stands in the same
    mailbox, in place of its file; where it is gone, under its former name if that is free.
    Raises `MessageError` when the version is no message.
    """
    message = message_of(kept, project)
    if kept.data is not None and "created_at" not in _parsed(kept, project).said:
        message = message._replace(created_at=_known_date(store, message))
    with store.writing():
        existed, before = set_row(store, message, FIELDS, _BEFORE_RESTORE)
    if not existed:
        _set_own_columns(store, kept)
    if kept.data is not None:
        # The file as it was says more than the row: comments, and keys of other programs.
        before = _put_file(project, store, files, kept, message) or before
    return Restored(kept, before, existed)


def _known_date(store: Store, message: Message) -> str:
    """Return the date of a message whose file states none: the row's, or that of its last one."""
    row = store.rows.of([message.id]).get(message.id)
    rows = [kept.row for kept in each_version(store, message.id) if kept.data is None]
    for values in ([row.values] if row else []) + rows[::-1]:
        with suppress(MessageError):
            return message_from_row(values).created_at
    return message.created_at


def _set_own_columns(store: Store, kept: HistoryEntry) -> None:
    """Give a row that came back what only rows have, from its last version that was a row."""
    version: int | None = kept.version
    if kept.data is not None:
        sql = "SELECT max(version) FROM syncd_history WHERE id = ? AND data IS NULL"
        version = store.connection.execute(sql, (kept.id,)).fetchone()[0]
    row = row_then(store, version) if version is not None else None
    if row is None:
        return
    with store.writing():
        store.connection.execute(
            "UPDATE messages SET read_at = ?, task_injected = ? WHERE id = ?",
            (row["read_at"], row["task_injected"] or 0, kept.id),
        )


def _put_file(
    project: Path, store: Store, files: FileReplica, kept: HistoryEntry, message: Message
) -> int | None:
    """Bring back a file's own bytes, if that can be done here; else the cycle edits or writes it.

    Returns the version that was kept of the file that stood there.
    """
    path, data = path_of(kept), bytes_of(kept)
    record = store.records.of([kept.id]).get(kept.id)
    if path is None or data is None:
        return None
    number: int | None = None
    with suppress(StaleReplica, MessageError, FileNotFoundError):
        if record is None:
            files.create(path, data)
        else:
            now = files.read(record.path)
            place = place_of(record.path, in_utf8(str(project)))
            found = parse(data, place).message
            same = (found.id, found.status) == (message.id, message.status)
            if same and now.digest == record.digest and now.data != data:
                with store.writing():
                    number = store.chronicle.keep_file(
                        kept.id, record.path, now.data, _BEFORE_RESTORE
                    )
                files.replace(record.path, data, seen=now)
        files.settle()
    return number


def set_row(
    store: Store, message: Message, fields: Iterable[str], reason: str
) -> tuple[bool, int | None]:
    """Write these fields of a message into its row, or insert it; inside of a transaction.

    Tells whether there was a row, and the version that the history kept of it if it changed.
    """
    row = store.rows.of([message.id]).get(message.id)
    store.add_to_feed(message.id)
    if row is None:
        store.rows.insert(message)
        store.chronicle.add_to_journal([_entry(message, Step.CREATE, ())])
        return False, None
    differing = _differing(row, message, fields)
    if not differing:
        return True, None
    before = store.chronicle.keep_row(message.id, reason)
    store.rows.update(row, message, differing)
    store.chronicle.add_to_journal([_entry(message, Step.UPDATE, differing)])
    return True, before


def _entry(message: Message, step: Step, fields: Iterable[str]) -> JournalEntry:
    return JournalEntry(now_text(), message.id, Side.DB, step, ",".join(fields), COMMANDED)


def _differing(row: Row, message: Message, fields: Iterable[str]) -> list[str]:
    try:
        now = row.message()
    except MessageError:
        return list(fields)
    return [name for name in fields if getattr(now, name) != getattr(message, name)]
