"""One message on its way through a batch."""

from __future__ import annotations

from dataclasses import dataclass

from syncd.found import Found
from syncd.message import Fingerprints
from syncd.reconcile import Outcome, Step
from syncd.record import Record, Row
from syncd.snapshot import Stamp


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
