"""Proving both sides equal: every file and every row is read in full, the baseline is not asked.

A cycle trusts stamps and digests of what it has seen before; this does not. What differs is looked
at again until it has stood still for a while, so that a change that somebody is just carrying over
is no difference. Of a message no more is kept than digests.
"""

from __future__ import annotations

import marshal
import shlex
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Self

from syncd.apply import row_key
from syncd.chronicle import QuarantineEntry
from syncd.errors import MessageError, StaleReplica
from syncd.files import FileReplica, Scan
from syncd.markdown import Place, parse
from syncd.message import FIELDS, Mailbox, Message, mailbox_at, message_from_row, values_of
from syncd.names import in_utf8, is_utf8
from syncd.sides import Quarantined
from syncd.store import Row, RowValues, Store

_AT_ONCE = 500
_LONGEST_PAUSE_S = 0.5
_SHORTEST_PAUSE_S = 0.02
_WIDTH = 60
_FOLDER_HINT = "Put a folder there that syncd's user may read."
_DATE = FIELDS.index("created_at")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the sides differ; ``field`` is None where one side lacks the message.

    ``file`` and ``row`` are the two values, shortened to where they part; None is no value.
    ``path`` is where the file stands, None where there is none. ``hint`` says how to mend it, and
    ``is_moving`` that it was still changing when the patience ended.
    """

    id: str
    field: str | None
    file: str | None
    row: str | None
    path: str | None
    has_row: bool
    hint: str
    is_moving: bool = False

    @property
    def what(self) -> str:
        """What differs, as a few words."""
        if self.path is None:
            return "the row has no file"
        return f"{self.field} differs" if self.has_row else "the file has no row"


@dataclass(frozen=True, slots=True)
class Verification:
    """What a full reading of both sides found.

    ``files`` and ``rows`` were read, ``equal`` messages are the same on both sides. ``quarantined``
    are files and rows that no message can be read from, and second files with an id that is taken;
    ``twins`` outbox copies of messages to oneself, ``strays`` temporary files that syncd left.
    """

    files: int
    rows: int
    equal: int
    differences: tuple[Difference, ...]
    quarantined: tuple[QuarantineEntry, ...]
    twins: tuple[str, ...]
    strays: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Tell whether the two sides hold the same messages, and nothing beside them is left."""
        return not (self.differences or self.quarantined or self.strays)


def verify(project: Path, store: Store, *, max_bytes: int, patience_s: float = 0.2) -> Verification:
    """Read both sides of a project in full and compare every field of every message.

    What differs counts when it has not changed for ``patience_s``: beside an agent that should be
    longer than the agent needs to carry a change over. Changes nothing; the database may be open
    for reading only. Raises `ReplicaError` or `BusyError` when a side as a whole cannot be read,
    `StaleReplica` when the database is replaced meanwhile.
    """
    with FileReplica(project, max_bytes=max_bytes) as files:
        return _Verifier(project, store, files).run(patience_s)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of a file that was read; ``is_dated`` tells whether it states its date."""

    id: str
    digest: bytes
    is_dated: bool
    to_oneself: bool


@dataclass(frozen=True, slots=True)
class _Copies:
    """The files of one id: the one that stands for it, twins, and others."""

    main: str | None = None
    twins: Sequence[str] = ()
    seconds: Sequence[str] = ()


@dataclass(slots=True)
class _Doubt:
    """Something that does not agree: as it was found last, and since when it has been so."""

    state: object = None
    since: float = 0.0

    def seen(self, state: object, now: float) -> Self:
        if self.state != state:
            self.state, self.since = state, now
        return self


@dataclass(slots=True)
class _Files:
    """The files as read so far: by path, and the paths of each id in the order of folders."""

    seen: dict[str, _Seen] = field(default_factory=dict)
    unreadable: dict[str, Quarantined] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    more: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: str, seen: _Seen) -> None:
        self.seen[path] = seen
        if self.first.setdefault(seen.id, path) != path:
            self.more.setdefault(seen.id, []).append(path)

    def forget(self, path: str) -> None:
        self.unreadable.pop(path, None)
        seen = self.seen.pop(path, None)
        if seen is None:
            return
        others = [other for other in self.paths_of(seen.id) if other != path]
        self.first.pop(seen.id, None)
        self.more.pop(seen.id, None)
        for other in others:
            self.add(other, self.seen[other])

    def paths_of(self, key: str) -> list[str]:
        first = self.first.get(key)
        return [first, *self.more.get(key, ())] if first is not None else []


class _Verifier:
    """What `verify` works with, and the looks that it takes."""

    def __init__(self, project: Path, store: Store, replica: FileReplica) -> None:
        self._project = project
        self._store = store
        self._replica = replica
        self._files = _Files()
        self._scan = Scan()
        self._doubts: dict[str, _Doubt] = {}
        self._unread: dict[str, _Doubt] = {}
        self._known: dict[str, QuarantineEntry] = {}
        self._odd_rows = False
        self._rows = 0
        self._equal = 0

    def run(self, patience_s: float) -> Verification:
        self._read_all()
        strays = set(self._scan.strays)
        counted = len(self._files.seen)
        self._compare_all()
        self._store.is_current()  # from here on it must stay the one that it is
        deadline = time.monotonic() + max(1.0, 10 * patience_s)
        pause_s = max(_SHORTEST_PAUSE_S, min(patience_s / 4, _LONGEST_PAUSE_S))
        is_moving = bool(self._doubts or self._files.unreadable or strays)
        while is_moving:
            time.sleep(pause_s)
            self._look_again()
            now = time.monotonic()
            doubts = (*self._doubts.values(), *self._unread.values())
            youngest = min((now - doubt.since for doubt in doubts), default=patience_s)
            is_moving = youngest < patience_s and now < deadline
        if not self._store.is_current():
            raise StaleReplica(
                f"{self._store.path} was replaced meanwhile", hint="Verify once more."
            )
        return self._told(counted, strays & set(self._scan.strays), patience_s)

    # The first look, at everything

    def _read_all(self) -> None:
        self._scan = self._replica.scan()
        for path in _in_order(self._scan.stamps):
            self._read(path)

    def _read(self, path: str) -> None:
        """Read a file and keep what it takes to compare it; a file that is gone leaves nothing."""
        message = self._message_at(path)
        if isinstance(message, Quarantined):
            if not path.rpartition("/")[2].startswith("."):  # else an editor's own file
                self._files.unreadable[path] = message
        elif message is not None:
            found, is_dated = message
            seen = _Seen(
                found.id,
                _digest(found, is_dated=is_dated),
                is_dated,
                found.from_project == found.to_project,
            )
            self._files.add(path, seen)

    def _message_at(self, path: str) -> tuple[Message, bool] | Quarantined | None:
        """Return the message in a file and whether it states its date; None when it is gone."""
        try:
            data = self._replica.read(path).data
            place = Place(path, mailbox_at(path), in_utf8(str(self._project)), "")
            parsed = parse(data, place)
        except FileNotFoundError:
            return None
        except StaleReplica:
            return Quarantined("it is being written", hint="Verify again when it is done.")
        except MessageError as error:
            return Quarantined(error.sentence, error.line, error.hint, error.in_bytes)
        return parsed.message, "created_at" in parsed.said

    def _compare_all(self) -> None:
        alone = set(self._files.first)
        with self._store.reading():
            for values in self._store.all_rows():
                self._rows += 1
                key = values[0]
                if not (isinstance(key, str) and is_utf8(key)):
                    self._odd_rows = True
                    continue
                alone.discard(key)
                if self._agrees(key, values):
                    self._equal += 1
                else:
                    self._doubts[key] = _Doubt()
        self._doubts |= {key: _Doubt() for key in alone}

    # What does not agree, until it stands still

    def _look_again(self) -> None:
        """Look once more at what does not agree, and at the files that moved or changed since."""
        before, self._scan = self._scan, self._replica.scan()
        again = set(self._files.unreadable)
        again |= {path for path in before.stamps if path not in self._scan.stamps}
        again |= {
            path for path, stamp in self._scan.stamps.items() if before.stamps.get(path) != stamp
        }
        unreadable = set(self._files.unreadable)
        for path in _in_order(again):
            self._files.forget(path)
            if path in self._scan.stamps:
                self._read(path)
                if path in unreadable and path in self._files.seen:
                    self._doubts.setdefault(self._files.seen[path].id, _Doubt())
        now = time.monotonic()
        stamps = self._scan.stamps
        self._unread = {
            path: self._unread.get(path, _Doubt()).seen((stamps.get(path), problem), now)
            for path, problem in self._files.unreadable.items()
        }
        for key, row in self._rows_of(self._doubts):
            if self._agrees(key, row.values if row else None):
                del self._doubts[key]
                self._equal += row is not None
                continue
            files = [(path, stamps.get(path)) for path in self._files.paths_of(key)]
            self._doubts[key].seen((files, row.digest if row else None), now)

    def _rows_of(self, ids: Iterable[str]) -> Iterator[tuple[str, Row | None]]:
        wanted = sorted(ids)
        for start in range(0, len(wanted), _AT_ONCE):
            batch = wanted[start : start + _AT_ONCE]
            with self._store.reading():
                rows = self._store.rows(batch)
            yield from ((key, rows.get(key)) for key in batch)

    def _agrees(self, key: str, values: RowValues | None) -> bool:
        """Tell whether a message is the same on both sides, in one file and one row, or in none."""
        paths = self._files.paths_of(key)
        if values is None:
            return not paths
        try:
            message = message_from_row(values)
        except MessageError:
            return False
        copies = self._copies(paths, message)
        return (
            copies.main is not None and not copies.seconds and self._is_equal(copies.main, message)
        )

    def _is_equal(self, path: str, message: Message) -> bool:
        seen = self._files.seen[path]
        return seen.digest == _digest(message, is_dated=seen.is_dated)

    def _copies(self, paths: list[str], row: Message | None) -> _Copies:
        """Tell the files of an id apart: the message is the one that the row equals, or the first.

        The outbox copy of a message to oneself is a twin where another file has the message.
        """
        if len(paths) < 2:
            return _Copies(paths[0] if paths else None)
        at_home = [path for path in paths if mailbox_at(path) is not Mailbox.OUTBOX]
        twins = [
            path
            for path in paths
            if at_home and path not in at_home and self._files.seen[path].to_oneself
        ]
        others = [path for path in _in_order(paths) if path not in twins]
        same = [path for path in others if row is not None and self._is_equal(path, row)]
        main = (same or others)[0]
        return _Copies(main, twins, [path for path in others if path != main])

    # The report

    def _told(self, counted: int, strays: Collection[str], patience_s: float) -> Verification:
        differences: list[Difference] = []
        set_aside = list(self._unreadable())
        now = time.monotonic()
        self._known = self._store.quarantine()
        for key, row in self._rows_of(self._doubts):
            moving = now - self._doubts[key].since < patience_s
            for found in self._details(key, row, is_moving=moving):
                if isinstance(found, Difference):
                    differences.append(found)
                else:
                    set_aside.append(found)
        twins = [path for key in self._files.more for path in self._twins_of(key)]
        return Verification(
            files=counted,
            rows=self._rows,
            equal=self._equal,
            differences=tuple(differences),
            quarantined=tuple(sorted(set_aside, key=lambda entry: entry.path)),
            twins=tuple(sorted(twins)),
            strays=tuple(sorted(strays)),
        )

    def _twins_of(self, key: str) -> Sequence[str]:
        return self._copies(self._files.paths_of(key), None).twins

    def _unreadable(self) -> Iterator[QuarantineEntry]:
        for path, problem in self._files.unreadable.items():
            yield QuarantineEntry(path, None, problem, None)
        for path, reason in self._scan.odd.items():
            problem = Quarantined(reason, hint="Put a plain file with a plain name there.")
            yield QuarantineEntry(path, None, problem, None)
        for folder, state in self._scan.folders.items():
            if state.trouble not in ("", "is missing"):
                problem = Quarantined(f"it {state.trouble}", hint=_FOLDER_HINT)
                yield QuarantineEntry(folder, None, problem, None)
        if self._odd_rows:
            with self._store.reading():
                for key in self._store.all_row_ids():
                    if not (isinstance(key, str) and is_utf8(key)):
                        problem = Quarantined("the id is no text", hint="Give the row such an id.")
                        yield QuarantineEntry(row_key(key), None, problem, None)

    def _details(
        self, key: str, row: Row | None, *, is_moving: bool
    ) -> Iterator[Difference | QuarantineEntry]:
        paths = self._files.paths_of(key)
        message = None
        if row is not None:
            try:
                message = message_from_row(row.values)
            except MessageError as error:
                problem = Quarantined(error.sentence, hint=error.hint or "Mend the row with SQL.")
                yield QuarantineEntry(row_key(key), key, problem, None)
        copies = self._copies(paths, message)
        for path in copies.seconds:
            yield QuarantineEntry(path, key, self._second(key, path, copies.main or ""), None)
        if row is not None and message is None:
            return
        hint = self._hint(key, copies.main, row)
        found = self._message_at(copies.main) if copies.main is not None else None
        if isinstance(found, Quarantined):
            yield QuarantineEntry(copies.main or "", key, found, None)
        elif found is None or message is None:
            if found is not None or message is not None:
                where = copies.main if found is not None else None
                yield Difference(key, None, None, None, where, message is not None, hint, is_moving)
        else:
            for name, file_value, row_value in _differing(*found, message):
                yield Difference(
                    key, name, file_value, row_value, copies.main, True, hint, is_moving
                )

    def _second(self, key: str, path: str, main: str) -> Quarantined:
        stamps = self._scan.stamps
        if path in stamps and stamps[path] == stamps.get(main):
            return Quarantined(f"it is {main} under another name", hint="Delete one of the two.")
        return Quarantined(
            f"its id {key!r} is taken by {main}",
            hint="Give one of the two another id, or delete one.",
        )

    def _hint(self, key: str, path: str | None, row: Row | None) -> str:
        """Return how a difference is mended; here the baseline is asked, for what a cycle sees."""
        project = shlex.quote(str(self._project))
        if self._store.state("halt") is not None:
            return f"The project is halted; the ways out: syncd status {project}"
        for place in (path, row_key(key)):
            entry = self._known.get(place) if place is not None else None
            if entry is not None:
                return f"{entry.path} is quarantined: {entry.problem.reason}. {entry.problem.hint}"
        record = self._store.records([key]).get(key)
        if path is None and record is not None and record.path in self._files.unreadable:
            return f"Its file may be {record.path}, which cannot be read: mend that one."
        if path is not None and row is not None and record is not None:
            same_row = record.row_digest == row.digest
            if same_row and (record.path, record.stamp) == (path, self._scan.stamps.get(path)):
                file = shlex.quote(f"{self._project}/.claude-mpm/{path}")
                return (
                    "The file changed under the stamp that it had, which no cycle notices: "
                    f"touch {file} && syncd sync {project}"
                )
        return (
            f"See what a cycle would do: syncd sync {project} --dry-run; "
            f"then do it: syncd sync {project}"
        )


def _in_order(paths: Iterable[str]) -> list[str]:
    """Return paths as a cycle takes them: inbox, archive, outbox."""
    order = {mailbox: number for number, mailbox in enumerate(Mailbox)}
    return sorted(paths, key=lambda path: (order[mailbox_at(path)], path))


def _digest(message: Message, *, is_dated: bool) -> bytes:
    """Return a digest of all values; of the date only where the file states one.

    The date of a message whose file has none is the row's alone.
    """
    values = list(values_of(message))
    if not is_dated:
        values[_DATE] = None
    return blake2b(marshal.dumps(values, 2), digest_size=16).digest()


def _differing(
    file: Message, is_dated: bool, row: Message
) -> Iterator[tuple[str, str | None, str | None]]:
    for name in FIELDS:
        values = getattr(file, name), getattr(row, name)
        if values[0] != values[1] and (is_dated or name != "created_at"):
            yield (name, *_shortened(*values))


def _shortened(one: str | None, other: str | None) -> tuple[str | None, str | None]:
    """Return two differing values, long ones cut to where they part."""
    start = 0
    if one and other and max(len(one), len(other)) > _WIDTH:
        part = next(
            (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
            min(len(one), len(other)),
        )
        start = max(0, part - _WIDTH // 3)
    return _cut(one, start), _cut(other, start)


def _cut(value: str | None, start: int) -> str | None:
    if value is None:
        return None
    before = "…" if start else ""
    after = "…" if len(value) > start + _WIDTH else ""
    return f"{before}{value[start : start + _WIDTH]}{after}"
