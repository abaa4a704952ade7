"""Every file read in full: what is kept of each to compare it, and which of them are one message.

Of a file no more is kept than a digest of its values, so that a mailbox of any size fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.core.markdown import ParsedFile, parse
from syncd.core.message import FIELDS, Mailbox, Message, in_order, mailbox_at
from syncd.core.sides import Quarantined
from syncd.cycle.found import place_of
from syncd.cycle.reader import problem_of
from syncd.database.store import Store
from syncd.digest import digest_of_values
from syncd.errors import MessageError, StaleReplica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Scan
from syncd.names import in_utf8, is_hidden

_DATE = FIELDS.index("created_at")


@dataclass(frozen=True, slots=True)
class ReadFile:
    """What is kept of a file that was read; ``is_dated`` tells whether it states its date."""

    id: str
    digest: bytes
    is_dated: bool
    to_oneself: bool


@dataclass(frozen=True, slots=True)
class FilesOfId:
    """The files of one id: the one that stands for it, twins, and others."""

    main: str | None = None
    twins: Sequence[str] = ()
    seconds: Sequence[str] = ()


class Inventory:
    """All files of a project by path and by id, as read; ``unreadable`` has those that cannot be.

    ``scan`` is how the folders looked last. The database is asked only which of several files a
    message stood in last, and which copies a cycle left alone as twins.
    """

    def __init__(self, project: Path, store: Store, replica: FileReplica) -> None:
        self._project = project
        self._store = store
        self._replica = replica
        self.scan = Scan()
        self.read: dict[str, ReadFile] = {}
        self.unreadable: dict[str, Quarantined] = {}
        self._first: dict[str, str] = {}
        self._more: dict[str, list[str]] = {}
        self._recorded: dict[str, str] = {}

    def read_all(self) -> None:
        """Read every file there is."""
        self._recorded = self._recorded_twins()
        self.scan = self._replica.scan()
        for path in in_order(self.scan.stamps):
            self._read(path)

    def read_changed(self) -> set[str]:
        """Read what came, went or changed since the last look, and what was unreadable then.

        Returns the ids of messages that can be read now and could not before.
        """
        self._recorded = self._recorded_twins()
        before, self.scan = self.scan.stamps, self._replica.scan()
        stamps = self.scan.stamps
        unreadable = set(self.unreadable)
        again = unreadable | {path for path in before if path not in stamps}
        again |= {path for path, stamp in stamps.items() if before.get(path) != stamp}
        for path in in_order(again):
            self._forget(path)
            if path in stamps:
                self._read(path)
        return {self.read[path].id for path in unreadable if path in self.read}

    def parsed_at(self, path: str) -> ParsedFile | Quarantined | None:
        """Return what a file says, or why that cannot be told; None when it is gone."""
        try:
            data = self._replica.read(path).data
            return parse(data, place_of(path, in_utf8(str(self._project))))
        except FileNotFoundError:
            return None
        except StaleReplica:
            return Quarantined("it is being written", hint="Look again when it is done.")
        except MessageError as error:
            return problem_of(error)

    def ids(self) -> set[str]:
        """Return the ids of all files."""
        return set(self._first)

    def twins(self) -> list[str]:
        """Return the outbox copies of messages to oneself."""
        recorded = {self.read[path].id for path in self._recorded if path in self.read}
        return sorted(twin for key in recorded | set(self._more) for twin in self.copies(key).twins)

    def paths_of(self, key: str) -> list[str]:
        """Return the files that have an id."""
        first = self._first.get(key)
        return [first, *self._more.get(key, ())] if first is not None else []

    def is_equal(self, path: str, message: Message) -> bool:
        """Tell whether a file says what ``message`` does, the date aside that it does not state."""
        seen = self.read[path]
        return seen.digest == _digest(message, is_dated=seen.is_dated)

    def copies(self, key: str, row: Message | None = None) -> FilesOfId:
        """Tell the files of an id apart: which stands for the message, and what the others are.

        That is the one in which it stood last, else one that the row equals, else the first. The
        outbox copy of a message to oneself is a twin where another file has the message, and
        stays one when that is deleted.
        """
        paths = self.paths_of(key)
        if not paths or (len(paths) == 1 and paths[0] not in self._recorded):
            return FilesOfId(paths[0] if paths else None)
        at_home = [path for path in paths if mailbox_at(path) is not Mailbox.OUTBOX]
        twins = [path for path in paths if self._is_twin(path, alone=not at_home)]
        others = [path for path in in_order(paths) if path not in twins]
        if not others:
            return FilesOfId(None, twins)
        record = self._store.records.of([key]).get(key) if len(others) > 1 else None
        last = [path for path in others if record is not None and path == record.path]
        same = [path for path in others if row is not None and self.is_equal(path, row)]
        main = (last or same or others)[0]
        return FilesOfId(main, twins, [path for path in others if path != main])

    def _is_twin(self, path: str, *, alone: bool) -> bool:
        """Tell whether a file is a twin. What a cycle recorded as one stays one, as for a cycle."""
        seen = self.read[path]
        if mailbox_at(path) is not Mailbox.OUTBOX:
            return False
        return self._recorded.get(path) == seen.id or (seen.to_oneself and not alone)

    def _recorded_twins(self) -> dict[str, str]:
        """Return path and id of the copies that a cycle left alone and that are no message now."""
        with self._store.reading():
            recorded = {path: key for path, (key, _) in self._store.twins.all().items()}
            now = {record.path for record in self._store.records.at(recorded)}
            return {path: key for path, key in recorded.items() if path not in now}

    def _read(self, path: str) -> None:
        parsed = self.parsed_at(path)
        if isinstance(parsed, Quarantined):
            # A hidden one is an editor's own file, but where a cycle knew it for a message's.
            if not is_hidden(path) or self._store.chronicle.quarantined([path]):
                self.unreadable[path] = parsed
        elif parsed is not None:
            found, is_dated = parsed.message, "created_at" in parsed.said
            digest = _digest(found, is_dated=is_dated)
            to_oneself = found.from_project == found.to_project
            self._add(path, ReadFile(found.id, digest, is_dated, to_oneself))

    def _add(self, path: str, seen: ReadFile) -> None:
        self.read[path] = seen
        if self._first.setdefault(seen.id, path) != path:
            self._more.setdefault(seen.id, []).append(path)

    def _forget(self, path: str) -> None:
        self.unreadable.pop(path, None)
        seen = self.read.pop(path, None)
        if seen is None:
            return
        others = [other for other in self.paths_of(seen.id) if other != path]
        self._first.pop(seen.id, None)
        self._more.pop(seen.id, None)
        for other in others:
            self._add(other, self.read[other])


def _digest(message: Message, *, is_dated: bool) -> bytes:
    """Return a digest of all values; of the date only where the file states one.

    The date of a message whose file has none is the row's alone.
    """
    values = list(message[1:])
    if not is_dated:
        values[_DATE] = None
    return digest_of_values(values)
