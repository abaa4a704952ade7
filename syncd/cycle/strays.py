"""Late writers: files that syncd replaced or moved while somebody was still writing to them.

An old client reads version *n*, syncd writes *n+1*, the old client writes back what it read. Three
things can come of it: the rewrite lands in the file (a *stale rewrite*), in a new file under the
name that syncd moved the message away from, or in the displaced file that is no longer anybody's
(a *stray*). Each is merged against the version that it started from, so that *n+1* stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import chain

from syncd.core.journal import LATE_REWRITE
from syncd.core.legacy import legacy_view
from syncd.core.message import Mailbox, Message, fingerprints, mailbox_at
from syncd.core.reconcile import FileState, Outcome, reconcile_late
from syncd.core.sides import Baseline, Side
from syncd.cycle.apply import Applier
from syncd.cycle.beside import remove_stray
from syncd.cycle.found import Found, as_found
from syncd.cycle.ledger import Ledger
from syncd.cycle.task import Task
from syncd.database.record import Record, but_status, sight_of
from syncd.database.store import VERSION_MEMORY_S, Store
from syncd.errors import MessageError, StaleReplica
from syncd.files.snapshot import Version

_SURE_S = 60.0
"""How long a file that equals an earlier version to the letter counts as a late rewrite of it.

Of a version that was ``read`` already a rewrite changes nothing; later it is taken for a person who
went back to that version.
"""

_LEFT_OVER = "left over"


def rewritten_version(store: Store, found: Found, record: Record | None) -> Record | None:
    """Return the version, the last or an earlier one, of which a file is an old client's rewrite.

    Recognised by what the old client changes and nothing else: the status is ``read``, and what
    it sees of the rest is what it saw in that version.
    """
    if record is None or found.version.digest == record.digest:
        return None
    if found.state.status_said != "read":
        return None
    message = found.state.message
    sights = (legacy_view(found.version.data, message), sight_of(fingerprints(message)))
    if record.seen in sights:
        return record
    earlier = store.versions.seen_as(record.id, sights, _oldest())
    if earlier is None:
        return None
    at, version = earlier
    was_unread = version.baseline.status_said != "read"
    return version if was_unread or time.time() - at < _SURE_S else None


def other_copy_of(store: Store, found: Found, record: Record | None) -> Record | None:
    """Return the version of which a file is the other copy, in the inbox, of a message to oneself.

    The old client writes the outbox copy first. When that was taken in already, and changed by SQL,
    before the inbox copy came, the texts in the latter are nobody's edit.
    """
    if record is None or mailbox_at(record.path) is not Mailbox.OUTBOX:
        return None
    message = found.state.message
    if found.state.mailbox is Mailbox.OUTBOX or message.from_project != message.to_project:
        return None
    mine = but_status(fingerprints(message))
    versions = chain([record], store.versions.of(record.id))
    return next((one for one in versions if but_status(one.baseline.fields) == mine), None)


def is_left_behind(store: Store, found: Found, record: Record) -> bool:
    """Tell whether a second file is a rewrite under the name that the message was moved from."""
    version = rewritten_version(store, found, record)
    return version is not None and store.versions.stood_at(record.id, found.path, _oldest())


def _oldest() -> float:
    """Return since when a late writer may have read what it writes; older versions may stand."""
    return time.time() - VERSION_MEMORY_S


def take_in(applier: Applier, path: str, prefer: Side) -> None:
    """Merge what a late writer left in a stray, and unlink it; nothing when it is still open."""
    ledger, store, files = applier.ledger, applier.ledger.store, applier.ledger.files
    try:
        version = files.read(path)
    except FileNotFoundError:
        return
    except StaleReplica:
        ledger.report.late.append(path)
        return
    except MessageError:
        return
    try:
        late = as_found(path, version, ledger.own_path)
        was = store.versions.of_file(version) if "id" not in late.state.said else None
        if was is not None:  # it has its id from a name, which was not the stray's
            late = as_found(was.path, version, ledger.own_path)
    except MessageError:
        # A writer was cut off, or syncd was before the file had its name.
        remove_stray(ledger, path, path, version, keep_as=_LEFT_OVER if version.data else None)
        return
    key = late.state.message.id
    record = store.records.of([key]).get(key)
    if (key, version.digest) in store.versions.intended([key]):
        # Ours: a crash came before it had its name.
        remove_stray(ledger, key, path, version, keep_as=None)
        return
    rewritten = rewritten_version(store, late, record)
    origin = rewritten or _origin(store, key, version)
    if record is None or origin is None or origin.digest == version.digest:
        is_known = any(one and one.digest == version.digest for one in (record, origin))
        keep_as = None if is_known else _LEFT_OVER
        remove_stray(ledger, key, path, version, keep_as=keep_as)
        return
    outcome_of = partial(
        reconcile_late, origin.baseline, late.state, prefer=prefer, is_rewrite=rewritten is not None
    )
    task = _merge(ledger, record, outcome_of)
    if task is None:
        ledger.report.late.append(path)
        ledger.awaited.add(record.path)
        return
    applier.apply([task])
    if task.dropped:
        ledger.report.late.append(path)
    else:
        remove_stray(ledger, key, path, version, keep_as=LATE_REWRITE)


def _origin(store: Store, message_id: str, version: Version) -> Record | None:
    """Return the version that a stray was before it was displaced: it still has that inode."""
    inode = version.stamp.inode
    return next((was for was in store.versions.of(message_id) if was.stamp.inode == inode), None)


def _merge(
    ledger: Ledger,
    record: Record,
    outcome_of: Callable[[Baseline, FileState, Message], Outcome],
) -> Task | None:
    """Return the task that merges into the file and row as they stand, None when not just now."""
    row = ledger.store.rows.of([record.id]).get(record.id)
    if row is None:
        return None
    try:
        found = as_found(record.path, ledger.files.read(record.path), ledger.own_path)
        message = row.message()
    except (FileNotFoundError, StaleReplica, MessageError):
        return None
    if found.version.digest != record.digest:
        return None  # another change comes first, of which no event need have told
    outcome = outcome_of(record.baseline, found.state, message)
    return Task(record.id, outcome, found, row, record)
