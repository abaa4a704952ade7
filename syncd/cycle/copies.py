"""Several files of one id: which of them stands for the message, and what becomes of the others.

The first one that a cycle meets does, or the one in which the message stood last. Others are twins
(the outbox copy of a message to oneself), late rewrites under a name that the message was moved
away from, further names of the same file, or files that somebody gave an id that is taken.
"""

from __future__ import annotations

from syncd.core.message import Mailbox, mailbox_at
from syncd.core.sides import Quarantined
from syncd.cycle.beside import remove
from syncd.cycle.found import Found
from syncd.cycle.ledger import Ledger
from syncd.cycle.reader import Reader
from syncd.cycle.strays import is_left_behind
from syncd.database.record import Record
from syncd.files.snapshot import Stamp

Twins = dict[str, tuple[str, Stamp]]
"""Path, and id and stamp, of each twin that a cycle recorded."""


class Copies:
    """Tells the files of one id apart, and deals with those that stand for none.

    ``twins`` are those that were recorded by earlier cycles; ``claimed`` has the path that stands
    for an id in this one.
    """

    def __init__(self, ledger: Ledger, reader: Reader, *, one_way: bool) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._files = ledger.files
        self._reader = reader
        self._one_way = one_way
        self._second_names: dict[str, tuple[str, str]] = {}
        self.twins: Twins = {}
        self.claimed: dict[str, str] = {}

    def claim(self, found: Found, record: Record | None) -> bool:
        """Give its id to a file, or deal with it as a copy; tell which.

        A copy is noted as a twin or set aside; a late rewrite is deleted, kept in the history.
        """
        if self._is_known_twin(found, record):
            self._note_twin(found)
            return False
        other = self._other_file(found, record)
        if other is None:
            return True
        if self._files.look(other) == found.version.stamp:
            return self._is_renamed(found, other)
        message = found.state.message
        if message.from_project == message.to_project:
            in_outbox = found.state.mailbox is Mailbox.OUTBOX
            if in_outbox and mailbox_at(other) is not Mailbox.OUTBOX:
                self._note_twin(found)
                return False
            if not in_outbox and mailbox_at(other) is Mailbox.OUTBOX:
                twin = self._files.look(other)
                if isinstance(twin, Stamp):
                    self._ledger.twins[other] = (message.id, twin)
                return True
        if record is not None and is_left_behind(self._store, found, record):
            if self._one_way:
                self._ledger.report.is_partial = True
            else:
                remove(self._ledger, message.id, found.path, found.version)
            return False
        problem = Quarantined(
            f"its id {message.id!r} is taken by {other}",
            hint="Give one of the two another id, or delete one.",
        )
        self._ledger.quarantine_file(found.path, message.id, problem, None)
        return False

    def _is_known_twin(self, found: Found, record: Record | None) -> bool:
        key, _ = self.twins.get(found.path, (None, None))
        # One that was moved onto its twin took the place of that.
        is_message = record is not None and (
            record.path == found.path
            or (record.stamp == found.version.stamp and self._files.look(record.path) is None)
        )
        return key == found.state.message.id and not is_message

    def _note_twin(self, found: Found) -> None:
        self._ledger.twins[found.path] = (found.state.message.id, found.version.stamp)

    def _is_renamed(self, found: Found, other: str) -> bool:
        """Tell whether a file was renamed to what is the same name where case does not count."""
        listed = self._files.listed([other, found.path])
        if other in listed and found.path in listed:
            self._second_names[found.path] = other, found.state.message.id
        return other not in listed

    def _other_file(self, found: Found, record: Record | None) -> str | None:
        """Return the path of another file that has the same id, and came first."""
        key = found.state.message.id
        claimed = self.claimed.get(key)
        if claimed is not None:
            return claimed if claimed != found.path else None
        if record is None or record.path == found.path:
            return None
        stamp = self._files.look(record.path)
        if stamp is None:
            return None
        if stamp != record.stamp:
            read = self._reader.read(record.path)
            if isinstance(read, Found) and read.state.message.id != key:
                return None
        return record.path

    def set_second_names_aside(self) -> None:
        """Report each second name of a file, unless that was a move that had been cut off."""
        for path, (other, key) in self._second_names.items():
            if self._files.look(path) == self._files.look(other) is not None:
                problem = Quarantined(
                    f"it is {other} under another name", hint="Delete one of the two names."
                )
                self._ledger.quarantine_file(path, key, problem, None)
