"""Looking: what changed on either side since the baseline, found without reading what did not.

A look answers *where* to look closer: paths to read, ids to compare, and what is gone. What then
happens depends only on baseline, file and row as they are read for the message itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncd.core.message import FOLDERS, Mailbox, in_order, mailbox_of
from syncd.core.sides import Quarantined, Side
from syncd.database.store import FeedEntry, Store
from syncd.errors import DamagedBaseline
from syncd.files.replica import FileReplica
from syncd.files.snapshot import FolderState, Scan, Stamp, odd_file
from syncd.names import is_hidden, is_row_key, is_stray, is_utf8, row_key

if TYPE_CHECKING:
    from syncd.core.guard import Gone


@dataclass(slots=True)
class Look:
    """What a pass has to deal with.

    ``paths`` are to be read; ``ids`` to be compared, whatever their file; ``vanished`` has the ids
    with the path at which nothing stands any more; ``gone_rows`` ids without a row, and
    ``cleaned_up`` those of them that a host's clean-up of archived messages deleted.
    """

    paths: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    vanished: dict[str, str] = field(default_factory=dict)
    gone_rows: set[str] = field(default_factory=set)
    cleaned_up: set[str] = field(default_factory=set)
    odd_ids: list[object] = field(default_factory=list)
    odd_paths: dict[str, Quarantined] = field(default_factory=dict)
    misnamed: dict[str, Stamp] = field(default_factory=dict)
    twins_gone: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    folders: dict[str, FolderState] = field(default_factory=dict)
    feed: list[FeedEntry] = field(default_factory=list)


def look_fully(
    store: Store,
    files: FileReplica,
    *,
    trust_stamps: bool = True,
    fresh: frozenset[str] = frozenset(),
    is_known: Callable[[Scan], bool] | None = None,
) -> Look:
    """Compare everything: stamps of all files and digests of all rows against the baseline.

    Without ``trust_stamps`` every file is read again; the ``fresh`` ones are in any case. Where
    ``is_known`` tells that both sides still are as they were when there was nothing to do, nothing
    is compared.
    """
    look = Look()
    knows_files = store.knows_files()
    scan = files.scan(stamped=knows_files)
    look.folders = scan.folders
    if knows_files and trust_stamps and not fresh and is_known is not None and is_known(scan):
        return look
    look.strays = scan.strays
    look.odd_paths = scan.odd
    _compare_files(store, scan, look, trust_stamps=trust_stamps, fresh=fresh)
    with store.reading():
        _note_feed(store, look)
        _note_rows(look, store.rows.doubled_ids().union(store.rows.changed_ids()))
        look.gone_rows = set(store.rows.gone_ids())
        look.ids |= look.gone_rows
    return look


def _compare_files(
    store: Store, scan: Scan, look: Look, *, trust_stamps: bool, fresh: frozenset[str]
) -> None:
    look.misnamed = scan.misnamed
    known: dict[str, Stamp | None] = {}
    for path, key, stamp in store.records.stamps():
        # Two messages may have changed places, and one end of that was not seen.
        known[path] = None if path in known else stamp
        if path not in scan.stamps and path not in scan.odd:
            if not isinstance(path, str) or path.rpartition("/")[0] not in FOLDERS:
                raise DamagedBaseline(f"the baseline has {key!r} in no mailbox: {path!r}")
            look.vanished[key] = path
    twins = store.twins.all()
    quarantine = store.chronicle.quarantine()
    seen: dict[str, Stamp | None] = {path: stamp for path, (_, stamp) in twins.items()}
    seen |= known
    seen |= {path: entry.stamp for path, entry in quarantine.items()}
    look.paths = in_order(
        path
        for path, stamp in scan.stamps.items()
        if seen.get(path) != stamp or not trust_stamps or path in fresh
    )
    look.twins_gone = [path for path in twins if path not in scan.stamps]
    for path, entry in quarantine.items():
        if is_row_key(path):
            if entry.id is not None:
                look.ids.add(entry.id)
            else:
                look.released.append(path)  # unless it is met again
        elif path not in scan.stamps and path not in scan.odd:
            look.released.append(path)


def look_again(store: Store, files: FileReplica, look: Look) -> None:
    """Look at all files once more, a while later: some may be back, or stand elsewhere now."""
    scan, again = files.scan(), Look()
    _compare_files(store, scan, again, trust_stamps=True, fresh=frozenset())
    for key in look.vanished.keys() - again.vanished.keys():
        del look.vanished[key]
    look.paths = in_order({*look.paths, *again.paths})
    look.folders, look.misnamed = scan.folders, again.misnamed


def look_at(store: Store, files: FileReplica, paths: Iterable[str], ids: Iterable[str]) -> Look:
    """Look at these paths, ids, and the ids in the feed; the cost does not grow with the rest."""
    look = Look()
    with store.reading():
        _note_feed(store, look)
        _note_rows(look, {entry.id for entry in look.feed}.union(ids))
        odd, look.odd_ids = look.odd_ids, []
        for key in odd:
            if store.rows.has(key):
                look.odd_ids.append(key)
            else:
                look.released.append(row_key(key))
        look.gone_rows = set(store.rows.gone_ids(look.ids))
        for record in store.records.at(paths):
            if files.look(record.path) is None:
                look.vanished[record.id] = record.path
    left = set(look.vanished.values())
    for path in paths:
        found = files.look(path)
        if is_stray(path):
            look.strays += [path] if found is not None else []
        elif isinstance(found, str):
            look.odd_paths[path] = odd_file(found)
        elif found is not None:
            look.paths.append(path)
        elif path not in left:
            look.released.append(path)
            look.twins_gone.append(path)
    look.paths = in_order(look.paths)
    return look


def _note_feed(store: Store, look: Look) -> None:
    look.feed = store.feed()
    look.cleaned_up = {
        entry.id for entry in look.feed if isinstance(entry.id, str) and entry.was == "archived"
    }


def _note_rows(look: Look, ids: Iterable[object]) -> None:
    for key in ids:
        if isinstance(key, str) and is_utf8(key):
            look.ids.add(key)
        else:
            look.odd_ids.append(key)


def pending(look: Look, store: Store, files: FileReplica) -> set[object]:
    """Return the messages that a cycle would do something about, of what a full look found.

    A file that is not known yet counts by its name, which is its id where syncd wrote it; so a
    message that is new on both sides counts once.
    """
    if not (look.paths or look.ids or look.feed or look.vanished or look.odd_paths):
        return set()
    known = {path: key for path, key, _ in store.records.stamps()}
    quarantine = store.chronicle.quarantine()
    apart = {path for path, entry in quarantine.items() if entry.stamp is None}
    hidden = [path for path in look.paths if is_hidden(path) and path not in known]
    if hidden:
        from syncd.cycle.found import is_no_message  # few have such files

        apart.update(path for path in hidden if is_no_message(files, path))
    ids: set[object] = {
        known[path] if path in known else path.rpartition("/")[2].removesuffix(".md")
        for path in look.paths
        if path not in apart
    }
    ids |= look.vanished.keys() | (look.odd_paths.keys() - quarantine.keys())
    aside = {entry.id for path, entry in quarantine.items() if is_row_key(path) and entry.id}
    ids |= look.ids - aside
    # What became of a file whose row cannot be read waits for the row.
    ids -= {key for key, row in store.rows.of(aside & ids).items() if not row.is_readable()}
    ids.update(entry.id for entry in look.feed)
    # What became of a row whose file cannot be read waits for the file.
    waiting = quarantine.keys() - set(look.paths)
    ids -= {quarantine[path].id for path in waiting if not is_row_key(path)}
    misnamed = {stamp.inode for stamp in look.misnamed.values()}
    if misnamed:
        gone = store.records.of(look.vanished).values()
        ids -= {record.id for record in gone if record.stamp.inode in misnamed}
    return ids


def losses(
    store: Store, look: Look, gone_files: dict[str, str], state_of: Callable[[str], FolderState]
) -> list[Gone]:
    """Return per folder and side how many messages of the baseline are gone, for the guard.

    ``gone_files`` has the former path of each message that stands in no file any more.
    """
    from syncd.core.guard import Gone  # most looks miss nothing

    expected = store.records.count_by_folder()
    both_gone = gone_files.keys() & look.gone_rows
    by_folder = Counter(
        path.rpartition("/")[0] for key, path in gone_files.items() if key not in both_gone
    )
    in_mailbox: Counter[str] = Counter()
    for folder, number in expected.items():
        if folder not in FOLDERS:
            raise DamagedBaseline(f"{number} messages of the baseline stand in no mailbox")
        in_mailbox[FOLDERS[folder]] += number
    lost: Counter[str] = Counter()
    troubles: dict[str, tuple[str, str, bool]] = {}
    for folder, number in by_folder.items():
        lost[FOLDERS[folder]] += number
        if (state := state_of(folder)).trouble:
            told = state.trouble, folder, state.is_closed
            troubles.setdefault(FOLDERS[folder], told)
    found = [
        Gone(Side.FILE, mailbox, number, lost[mailbox], *troubles.get(mailbox, ()))
        for mailbox, number in in_mailbox.items()
    ]
    # Who archives all and then deletes what is archived has not only cleaned up.
    by_mailbox = Counter(
        mailbox_of(record.baseline.status)
        for key, record in store.records.of(look.gone_rows - both_gone).items()
        if not (key in look.cleaned_up and record.baseline.status == "archived")
    )
    found += [
        Gone(Side.DB, mailbox, number, by_mailbox[Mailbox(mailbox)])
        for mailbox, number in in_mailbox.items()
    ]
    return found
