"""One message on its way through a batch."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.legacy import view_beside_fields
from syncd.core.message import Fingerprints, fingerprints, mailbox_at
from syncd.core.reconcile import Outcome, Step
from syncd.core.sides import Baseline
from syncd.cycle.found import Found
from syncd.database.record import Record, Row
from syncd.digest import digest_of
from syncd.files.folders import split_path
from syncd.files.snapshot import NO_STAMP, Stamp


@dataclass(slots=True)
class Task:
    """One message on its way through a batch: what was seen, what is to be done, what came of it.

    ``partial`` outcomes leave a side behind on purpose, and so get no baseline. ``was_intended``
    says that the file is what a cycle was about to write when it was cut off.
    """

    id: str
    outcome: Outcome
    found: Found | None
    row: Row | None
    record: Record | None
    partial: bool = False
    was_intended: bool = False
    path: str = ""
    data: bytes | None = None
    stamp: Stamp | None = None
    written_row: Row | None = None
    marks: tuple[Fingerprints, bytes] | None = None
    dropped: bool = False

    @property
    def changes_both(self) -> bool:
        return self.outcome.row is not Step.NONE and self.outcome.file is not Step.NONE

    @property
    def folders(self) -> set[str]:
        """The mailbox folders in which its file is to change."""
        if self.outcome.file is Step.NONE:
            return set()
        return {
            split_path(self.path)[0],
            split_path(self.found.path if self.found else self.path)[0],
        }

    @property
    def writes(self) -> tuple[str, bytes, bool] | None:
        """Where it writes which bytes, and whether a file stands there; None for no file."""
        if self.data is None or self.dropped:
            return None
        if self.outcome.file is Step.CREATE:
            return self.path, self.data, False
        found = self.found
        if self.outcome.file is Step.UPDATE and found and self.data != found.version.data:
            return found.path, self.data, True
        return None

    def changes_anything(self) -> bool:
        """Tell whether it changes a side, or what the baseline says."""
        outcome = self.outcome
        if outcome.row is not Step.NONE or outcome.file is not Step.NONE or outcome.forget:
            return True
        if self.partial:
            return False
        return self.record is None or self.new_record() != self.record

    def new_record(self) -> Record:
        """Return the baseline of the message when all is done."""
        outcome, found, row = self.outcome, self.found, self.written_row or self.row
        assert outcome.message is not None
        is_keyed = found is not None and found.state.is_keyed
        data = self.data
        if data is not None:
            digest = digest_of(data)
            said = outcome.status_said
            if said is None:
                said = found.state.status_said if found else outcome.message.status
        else:
            assert found is not None
            data, digest, said = found.version.data, found.version.digest, found.state.status_said
        if self.marks is None:  # it is asked for twice where a file is written
            view = view_beside_fields(data, outcome.message, is_keyed=is_keyed)
            self.marks = fingerprints(outcome.message), view
        fields, view = self.marks
        return Record(
            id=self.id,
            path=self.path,
            stamp=self.stamp or NO_STAMP,
            digest=digest,
            baseline=Baseline(mailbox_at(self.path), said, outcome.message.status, fields),
            row_digest=row.digest if row is not None else b"",
            view=view,
        )

    def record_as_found(self) -> Record:
        """Return the baseline while the row has what the file said, which is yet to be changed."""
        found, heard = self.found, self.outcome.heard
        assert found is not None
        assert heard is not None
        state = found.state
        return Record(
            id=self.id,
            path=found.path,
            stamp=found.version.stamp,
            digest=found.version.digest,
            baseline=Baseline(state.mailbox, state.status_said, heard.status, fingerprints(heard)),
            row_digest=b"",
            view=view_beside_fields(found.version.data, heard, is_keyed=state.is_keyed),
        )
