"""What is gone: told from what moved, what cannot be read, and what is only away for now.

Nothing is deleted on one side before it was looked for everywhere on the other, twice, and before
the guard agreed to the whole.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Set
from typing import NamedTuple

from syncd.config import Config
from syncd.core.guard import Halt, guard, still_gone
from syncd.core.sides import Quarantined, Side
from syncd.cycle.copies import Twins
from syncd.cycle.found import Found
from syncd.cycle.look import Look, look_again, losses
from syncd.cycle.orders import Orders
from syncd.cycle.reader import Reader
from syncd.cycle.report import Report
from syncd.database.store import Store
from syncd.files.replica import FileReplica
from syncd.files.snapshot import FolderState, Stamp
from syncd.names import is_row_key, row_key


class Absent(NamedTuple):
    """What a look misses.

    ``gone`` has the former paths of messages that stand in no file any more, ``moved`` the paths at
    which others stand now, ``unknown`` those of files that cannot be read and may be theirs.
    ``lost`` are all that are gone on a side. With a ``halt`` nothing may be applied.
    """

    gone: dict[str, str]
    moved: dict[str, str]
    unknown: dict[str, str]
    lost: set[str]
    halt: Halt | None


class Absence:
    """Judges what a cycle's look does not find at its place."""

    def __init__(
        self,
        store: Store,
        files: FileReplica,
        reader: Reader,
        config: Config,
        orders: Orders,
        report: Report,
    ) -> None:
        self._store = store
        self._files = files
        self._reader = reader
        self._config = config
        self._orders = orders
        self._report = report
        self._standing = store.halt()
        self._halted = self._standing is not None
        self._only_imports = orders.one_way and not self._halted

    def needs_full_look(self) -> bool:
        """Tell whether a look at some paths is not enough.

        Before a message is deleted it is looked for everywhere; and nothing is done in a project
        that is halted, or whose folders are not those that they were, before that is understood.
        """
        if not all(map(is_row_key, self._orders.gone)):
            return True
        if self._halted:
            return True
        known = self._store.folders() or {}
        return any(
            self._files.folder_state(folder).identity != identity
            for folder, identity in known.items()
        )

    def judge(self, look: Look, twins: Twins) -> Absent:
        """Return what is gone, and whether the cycle may go on; may wait for a second look."""
        if self._standing is not None and self._standing.side is Side.DB:
            look.cleaned_up.clear()  # what looks like a clean-up may be a part of the loss
        gone = self._confirmed(look) | self._displaced(look)
        moved, unknown = self._elsewhere(look, gone, twins) if gone else ({}, {})
        gone = {key: path for key, path in gone.items() if not (key in moved or key in unknown)}
        halt = self._guard(look, gone, twins)
        if halt is not None and look.cleaned_up:
            look.cleaned_up.clear()  # as above
            halt = self._guard(look, gone, twins)
        if halt is None:
            for key in self._set_aside(look, gone):
                gone.pop(key, None)
                look.gone_rows.discard(key)
                look.ids.discard(key)
        return Absent(
            gone={} if self._orders.one_way else gone,
            moved=moved,
            unknown=unknown,
            lost=gone.keys() | look.gone_rows,
            halt=halt,
        )

    def _set_aside(self, look: Look, gone_files: Iterable[str]) -> set[str]:
        """Return what is gone on one side and quarantined on the other, as that stands now.

        Nothing comes of such a message before a person has mended it.
        """
        chronicle, records = self._store.chronicle, self._store.records
        rows = chronicle.quarantined(map(row_key, gone_files))
        found = self._store.rows.of(entry.id for entry in rows.values() if entry.id is not None)
        set_aside = {key for key, row in found.items() if not row.is_readable()}
        paths = {record.path: record.id for record in records.of(look.gone_rows).values()}
        for path, entry in chronicle.quarantined(paths).items():
            if entry.stamp is not None and path not in look.paths:
                set_aside.add(paths[path])
        return set_aside

    def _confirmed(self, look: Look) -> dict[str, str]:
        """Return the messages, with their path, whose file is still gone at a second look.

        What is missed for the first time waits for that: here, or as ``vanished`` in the report.
        """
        if self._only_imports:
            return {}
        if self._halted and not (self._orders.is_decision and self._orders.wait):
            return dict(look.vanished)  # to stay halted is safe
        first = {key for key, path in look.vanished.items() if path not in self._orders.gone}
        if not self._orders.wait:
            # Rows too are given a second look: the guard is to see all of a slow clean-out, and a
            # row that is written anew (deleted, then inserted) must not cost its file.
            first_rows = {key for key in look.gone_rows if row_key(key) not in self._orders.gone}
            self._report.vanished |= set(map(row_key, first_rows))
            self._report.vanished |= {look.vanished[key] for key in first}
            look.gone_rows -= first_rows
            look.ids -= first_rows
            return {key: path for key, path in look.vanished.items() if key not in first}
        if first:
            time.sleep(self._config.gone_s)
            look_again(self._store, self._files, look)
        return dict(look.vanished)

    def _displaced(self, look: Look) -> dict[str, str]:
        """Return the messages, with their former path, where another message stands now."""
        if self._only_imports:
            return {}
        lost: dict[str, str] = {}
        for record in self._store.records.at(look.paths):
            read = self._reader.read(record.path, keep=True)
            if isinstance(read, Found) and read.state.message.id != record.id:
                lost[record.id] = record.path
        if not self._orders.wait and not self._halted:
            first = {key for key, path in lost.items() if path not in self._orders.gone}
            self._report.vanished |= {lost[key] for key in first}
            lost = {key: path for key, path in lost.items() if key not in first}
        return lost

    def _elsewhere(
        self, look: Look, gone: dict[str, str], twins: Twins
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return where messages stand whose file is gone from its path, and where they may.

        The latter are files that cannot be read: of an inode that a message's file had, of the same
        name in another folder, or known for a message's since an earlier look. Unknown is never
        gone.
        """
        moved: dict[str, str] = {}
        unknown: dict[str, str] = {}
        quarantine = self._store.chronicle.quarantine()
        former, released = set(gone.values()), set(look.released)
        # One file may be any of several messages': all that a path, a name and an inode speak for.
        owners: defaultdict[str | int, set[str]] = defaultdict(set)
        for record in self._store.records.of(gone).values():
            owners[record.stamp.inode].add(record.id)
        for key, path in gone.items():
            owners[path.rpartition("/")[2]].add(key)
        unreadable: list[tuple[str, Stamp | None]] = [*look.misnamed.items()]
        for path, entry in quarantine.items():
            if entry.id in gone and entry.stamp is not None and not is_row_key(path):
                owners[entry.stamp.inode].add(entry.id)
                owners[path].add(entry.id)
            if path not in former and path not in released:
                unreadable.append((path, entry.stamp))
        for path in look.paths:
            read = self._reader.read(path, keep=True)
            if isinstance(read, Quarantined):
                stamp = self._files.look(path)
                unreadable.append((path, stamp if isinstance(stamp, Stamp) else None))
            elif read is not None and read.state.message.id in gone:
                key = read.state.message.id
                if path not in twins or twins[path][0] != key:
                    moved.setdefault(key, path)
        for other, stamp in unreadable:
            signs = (other, other.rpartition("/")[2], stamp.inode if stamp is not None else "")
            for key in set().union(*(owners.get(sign, ()) for sign in signs)):
                if key not in moved and other != gone[key]:
                    unknown.setdefault(key, other)
        return moved, unknown

    def _guard(self, look: Look, gone_files: dict[str, str], twins: Twins) -> Halt | None:
        orders = self._orders
        if self._only_imports or not (gone_files or look.vanished or look.gone_rows):
            return None
        known = self._store.folders() or {}
        is_decided = orders.restore or self._accepts(gone_files.keys() | look.gone_rows)

        def state_of(folder: str) -> FolderState:
            found = look.folders.get(folder) or self._files.folder_state(folder)
            if is_decided and not found.is_closed:
                return FolderState(found.identity)
            was = known.get(folder)
            if found.identity is not None and was not in (None, found.identity):
                return found._replace(trouble="was replaced")
            return found

        # Of a folder in trouble no second look is needed: to halt is safe.
        in_trouble = {
            key: path
            for key, path in look.vanished.items()
            if key not in gone_files and state_of(path.rpartition("/")[0]).trouble
        }
        moved, _ = self._elsewhere(look, in_trouble, twins) if in_trouble else ({}, {})
        in_trouble = {key: path for key, path in in_trouble.items() if key not in moved}
        counted = gone_files | in_trouble
        found = losses(self._store, look, counted, state_of)
        if is_decided:
            # Nobody can decide what becomes of messages of which nothing can be told.
            halt = guard(one for one in found if one.trouble)
            end = "; nothing can be decided before that is mended"
            halt = halt._replace(cause=f"{halt.cause}{end}") if halt is not None else None
        else:
            halt = guard(found)
            if halt is None and self._standing is not None:
                halt = still_gone(found, self._standing.side)
        if halt and counted.keys() | look.gone_rows <= self._not_to_be_deleted(look, counted):
            return None  # no decision would end a halt for these
        return halt

    def _not_to_be_deleted(self, look: Look, gone_files: Iterable[str]) -> set[str]:
        """Return what is gone and yet not deleted: set aside, or an edit that no file can carry."""
        odd = self._store.chronicle.quarantined(map(row_key, gone_files))
        ids = [entry.id for entry in odd.values() if entry.id is not None]
        rows, records = self._store.rows.of(ids), self._store.records.of(ids)
        edited = {
            key
            for key, row in rows.items()
            if key in records and row.digest != records[key].row_digest
        }
        return edited | self._set_aside(look, gone_files)

    def _accepts(self, lost: Set[str]) -> bool:
        """Tell whether a person has accepted that these are deleted: the halt told of them all."""
        return self._orders.accept_deletes and lost <= self._store.lost()
