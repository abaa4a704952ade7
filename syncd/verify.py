"""Proving both sides equal: every file and every row is read in full, the baseline is not asked.

A cycle trusts stamps and digests of what it has seen before; this does not. What differs is looked
at again until it has stood still for a while, so that a change that somebody is just carrying over
is no difference.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from syncd.config import Config
from syncd.core.markdown import ParsedFile
from syncd.core.message import FIELDS, FOLDERS, Message, file_name
from syncd.core.sides import Quarantined
from syncd.database.chronicle import QuarantineEntry
from syncd.database.record import Record, Row
from syncd.database.store import Store
from syncd.errors import MessageError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.inventory import Inventory
from syncd.names import CLAUDE_DIR, is_utf8, row_key
from syncd.shell import quoted

_AT_ONCE = 500
_LONGEST_PAUSE_S = 0.5
_SHORTEST_PAUSE_S = 0.02
_WIDTH = 60
_UNHURRIED_S = 0.2
_AGENT_NEEDS_S = 1.0
_OF_FOLDER = frozenset({"from_project", "to_project"})  # what a file leaves out is the project's


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

    ``files`` and ``rows`` were read, ``equal`` messages are the same on both sides.
    ``unreadable_files`` and ``unreadable_rows`` are those that no message can be read from,
    ``seconds`` further files with an id that is taken; ``twins`` outbox copies of messages to
    oneself, ``strays`` temporary files that syncd left.
    """

    files: int
    rows: int
    equal: int
    differences: tuple[Difference, ...]
    unreadable_files: tuple[QuarantineEntry, ...]
    unreadable_rows: tuple[QuarantineEntry, ...]
    seconds: tuple[QuarantineEntry, ...]
    twins: tuple[str, ...]
    strays: tuple[str, ...]

    @property
    def quarantined(self) -> list[QuarantineEntry]:
        """All that a cycle would leave alone, in order of path."""
        found = (*self.unreadable_files, *self.unreadable_rows, *self.seconds)
        return sorted(found, key=lambda entry: entry.path)

    @property
    def is_equal(self) -> bool:
        """Tell whether the two sides hold the same messages, and nothing beside them is left."""
        return not (self.differences or self.quarantined or self.strays)


def patience_beside(settings: Config, *, agent_works: bool) -> float:
    """Return how long a difference has to stand, beside an agent at work or without one.

    An agent looks a second time at what is gone before it carries that over.
    """
    return settings.gone_s + _AGENT_NEEDS_S if agent_works else _UNHURRIED_S


def verify(
    project: Path, store: Store, *, max_bytes: int, patience_s: float = _UNHURRIED_S
) -> Verification:
    """Read both sides of a project in full and compare every field of every message.

    What differs counts when it has not changed for ``patience_s``: beside an agent that should be
    longer than the agent needs to carry a change over. Changes nothing; the database may be open
    for reading only. Raises `ReplicaError` or `BusyError` when a side as a whole cannot be read,
    `StaleReplica` when the database is replaced meanwhile.
    """
    with FileReplica(project, max_bytes=max_bytes) as files:
        return _Verifier(project, store, Inventory(project, store, files)).run(patience_s)


@dataclass(slots=True)
class _Doubt:
    """Something that does not agree: as it was found last, and since when it has been so."""

    state: object = None
    since: float = 0.0

    def seen(self, state: object, now: float) -> Self:
        if self.state != state:
            self.state, self.since = state, now
        return self


class _Verifier:
    """What `verify` works with, and the looks that it takes."""

    def __init__(self, project: Path, store: Store, files: Inventory) -> None:
        self._project = project
        self._store = store
        self._files = files
        self._doubts: dict[str, _Doubt] = {}
        self._unread: dict[str, _Doubt] = {}
        self._has_odd_ids = False
        self._rows = 0
        self._equal = 0

    def run(self, patience_s: float) -> Verification:
        self._files.read_all()
        strays = set(self._files.scan.strays)
        number = len(self._files.read)
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
        return self._told(number, strays & set(self._files.scan.strays), patience_s)

    def _compare_all(self) -> None:
        alone = self._files.ids()
        with self._store.reading():
            for values in self._store.rows.each():
                self._rows += 1
                key = values[0]
                if not (isinstance(key, str) and is_utf8(key)):
                    self._has_odd_ids = True
                    continue
                alone.discard(key)
                if self._agrees(key, Row(values)):
                    self._equal += 1
                else:
                    self._doubts[key] = _Doubt()
            doubled = {key for key in self._store.rows.doubled_ids() if isinstance(key, str)}
        self._doubts |= {key: _Doubt() for key in alone if not self._agrees(key, None)}
        self._doubts |= {key: _Doubt() for key in doubled}

    def _look_again(self) -> None:
        """Look once more at what does not agree, and at the files that moved or changed since."""
        for key in self._files.read_changed():
            self._doubts.setdefault(key, _Doubt())
        now, stamps = time.monotonic(), self._files.scan.stamps
        self._unread = {
            path: self._unread.get(path, _Doubt()).seen((stamps.get(path), problem), now)
            for path, problem in self._files.unreadable.items()
        }
        for key, row in self._rows_of(self._doubts):
            if self._agrees(key, row):
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
                rows = self._store.rows.of(batch)
            yield from ((key, rows.get(key)) for key in batch)

    def _agrees(self, key: str, row: Row | None) -> bool:
        """Tell whether a message is the same on both sides, in one file and one row, or in none."""
        if row is None:
            copies = self._files.copies(key)
            return copies.main is None and not copies.seconds
        try:
            message = row.message()
        except MessageError:
            return False
        copies = self._files.copies(key, message)
        if copies.main is None or copies.seconds:
            return False
        return self._files.is_equal(copies.main, message)

    # The report

    def _told(self, number: int, strays: Collection[str], patience_s: float) -> Verification:
        report = _Told(self._project, self._store, self._files)
        now = time.monotonic()
        for key, row in self._rows_of(self._doubts):
            report.tell(key, row, is_moving=now - self._doubts[key].since < patience_s)
        if self._has_odd_ids:
            report.tell_odd_ids()
        return Verification(
            files=number,
            rows=self._rows,
            equal=self._equal,
            differences=tuple(report.differences),
            unreadable_files=tuple(report.unreadable_files()),
            unreadable_rows=tuple(report.unreadable_rows),
            seconds=tuple(report.seconds),
            twins=tuple(self._files.twins()),
            strays=tuple(sorted(strays)),
        )


class _Told:
    """What does not agree in the end, told in full and each with its mend."""

    def __init__(self, project: Path, store: Store, files: Inventory) -> None:
        self._store = store
        self._files = files
        self._base = project / CLAUDE_DIR
        self._quoted = quoted(project)
        self._quarantine = store.chronicle.quarantine()
        self._is_halted = store.halt() is not None
        self.differences: list[Difference] = []
        self.unreadable_rows: list[QuarantineEntry] = []
        self.seconds: list[QuarantineEntry] = []

    def tell(self, key: str, row: Row | None, *, is_moving: bool) -> None:
        """Tell of one message what does not agree."""
        message = None
        if row is not None:
            try:
                message = row.message()
            except MessageError as error:
                problem = Quarantined(error.sentence, hint=error.hint or "Mend the row with SQL.")
                self.unreadable_rows.append(QuarantineEntry(row_key(key), key, problem, None))
        copies = self._files.copies(key, message)
        self.seconds += [
            QuarantineEntry(path, key, self._second(key, path, copies.main or ""), None)
            for path in copies.seconds
        ]
        path = copies.main
        if message is not None and path is not None:
            file = self._files.parsed_at(path)
            if isinstance(file, ParsedFile):
                differing = list(_differing(file, message))
                unsaid = [name for name, *_ in differing if name in _OF_FOLDER - file.said]
                hint = self._hint(key, path, row, unsaid) if differing else ""
                self.differences += [
                    Difference(key, *values, path, True, hint, is_moving) for values in differing
                ]
        elif message is not None or (path is not None and row is None):
            hint = self._hint(key, path, row)
            self.differences.append(
                Difference(key, None, None, None, path, row is not None, hint, is_moving)
            )

    def tell_odd_ids(self) -> None:
        """Tell of the rows whose id is no text."""
        with self._store.reading():
            for key in self._store.rows.each_id():
                if not (isinstance(key, str) and is_utf8(key)):
                    problem = Quarantined("the id is no text", hint="Give the row such an id.")
                    self.unreadable_rows.append(QuarantineEntry(row_key(key), None, problem, None))

    def unreadable_files(self) -> Iterator[QuarantineEntry]:
        """Yield files and folders in which no message can be read."""
        problems = self._files.unreadable | self._files.scan.odd
        for path in sorted(problems):
            yield QuarantineEntry(path, None, problems[path], None)

    def _second(self, key: str, path: str, main: str) -> Quarantined:
        stamps = self._files.scan.stamps
        if path in stamps and stamps[path] == stamps.get(main):
            return Quarantined(f"it is {main} under another name", hint="Delete one of the two.")
        return Quarantined(
            f"its id {key!r} is taken by {main}",
            hint="Give one of the two another id, or delete one.",
        )

    def _hint(self, key: str, path: str | None, row: Row | None, unsaid: Sequence[str] = ()) -> str:
        """Return how a difference is mended; here the baseline is asked, for what a cycle sees."""
        if self._is_halted:
            return f"The project is halted; the ways out: syncd status {self._quoted}"
        entry = self._quarantine.get(path) if path is not None else None
        entry = entry or self._quarantine.get(row_key(key))
        if entry is not None:
            return f"{entry.path} is quarantined: {entry.problem.reason}. {entry.problem.hint}"
        hint = ""
        if row is not None:
            record = self._store.records.of([key]).get(key)
            if path is None:
                hint = self._hint_for_lost_file(key, record)
            elif record is not None and path == record.path:
                stamp = self._files.scan.stamps.get(path)
                if (record.row_digest, record.stamp) == (row.digest, stamp):
                    place = quoted(self._base / path)
                    hint = f"{_unnoticed(unsaid)}: touch {place} && syncd sync {self._quoted}"
        return hint or (
            f"See what a cycle would do: syncd sync {self._quoted} --dry-run; "
            f"then do it: syncd sync {self._quoted}"
        )

    def _hint_for_lost_file(self, key: str, record: Record | None) -> str:
        """Return where the file of a row may be that has none to be read; nothing for nowhere."""
        odd = self._files.scan.odd
        if record is not None and record.path in odd:
            problem = odd[record.path]
            return f"At {record.path}, where its file stood, {problem.reason}. {problem.hint}"
        places = [record.path] if record is not None else []
        places += [place for place, entry in self._quarantine.items() if entry.id == key]
        places += [f"{folder}/{file_name(key)}" for folder in FOLDERS]
        for place in places:
            if place in self._files.unreadable:
                return f"Its file may be {place}, which cannot be read: mend that one."
        return ""


def _unnoticed(unsaid: Sequence[str]) -> str:
    """Return why no cycle notices a difference; ``unsaid`` are fields that the file leaves out."""
    if unsaid:
        return (
            f"The file leaves out {' and '.join(unsaid)}, which means this project's folder, and "
            "that was another one when the row was written"
        )
    return "The file changed under the stamp that it had, which no cycle notices"


def _differing(file: ParsedFile, row: Message) -> Iterator[tuple[str, str | None, str | None]]:
    for name in FIELDS:
        values = getattr(file.message, name), getattr(row, name)
        if values[0] != values[1] and (name != "created_at" or name in file.said):
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
