"""What a cycle did and found, and the JSON object that commands print of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from syncd.errors import ExitCode, SyncdError, trouble_of

if TYPE_CHECKING:
    from syncd.core.guard import Halt
    from syncd.cycle.retirement import Retirement
    from syncd.database.chronicle import OpenConflict, QuarantineEntry


def number_of(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 row``, ``2 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


class State(StrEnum):
    """The state of a project."""

    IN_SYNC = "in-sync"
    ATTENTION = "attention"
    HALTED = "halted"
    ERROR = "error"
    RETIRED = "retired"

    @property
    def exit_code(self) -> ExitCode:
        """What a command ends with that found a project so."""
        return _EXIT_CODES.get(self, ExitCode.IN_SYNC)


@dataclass(slots=True)
class Counts:
    """How many messages a cycle changed on either side, and how many it left as they were."""

    rows_inserted: int = 0
    rows_updated: int = 0
    rows_deleted: int = 0
    files_created: int = 0
    files_updated: int = 0
    files_moved: int = 0
    files_deleted: int = 0
    unchanged: int = 0

    def changes(self) -> int:
        """Return how many steps were taken."""
        return sum(getattr(self, name) for name in _STEPS)

    def steps(self) -> Iterator[tuple[str, str]]:
        """Yield what was done: the number of things, and the word for it (``inserted``)."""
        for name in _STEPS:
            things, _, done = name.partition("_")
            if number := getattr(self, name):
                yield number_of(number, things[:-1]), done

    def __str__(self) -> str:
        return ", ".join(map(" ".join, self.steps())) or "nothing to do"


_STEPS = tuple(one.name for one in fields(Counts) if one.name != "unchanged")


@dataclass(slots=True)
class Report:
    """What one cycle did in one project.

    ``unsettled`` is to be come back to soon, ``vanished`` to be looked at a second time: paths and
    rows as ``messaging.db#id``. ``fresh`` are paths that were read too early to trust their stamps,
    ``late`` those of displaced files that somebody still had open. ``is_partial`` tells that a
    one-way cycle left something for one in both directions. ``released`` is what came out of the
    quarantine. Of a cycle that looked at some paths only, ``quarantined`` has what it set aside
    there, and ``conflicts`` nothing: work for one change does not grow with the rest. An ``error``
    that ``hinders_all`` is of the project as a whole, another of single files. In a ``retired``
    project nothing is done; ``left`` are files that stand in its legacy folders all the
    same.
    """

    path: str
    counts: Counts = field(default_factory=Counts)
    conflicts: list[OpenConflict] = field(default_factory=list)
    quarantined: list[QuarantineEntry] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    halt: Halt | None = None
    error: str | None = None
    hint: str = ""
    more_errors: int = 0
    hinders_all: bool = False
    busy: bool = False
    unsettled: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)
    late: list[str] = field(default_factory=list)
    is_partial: bool = False
    retired: Retirement | None = None
    left: list[str] = field(default_factory=list)

    @property
    def state(self) -> State:
        if self.error is not None:
            return State.ERROR
        if self.halt is not None:
            return State.HALTED
        if self.retired is not None:
            is_done = self.retired.is_done and not self.left
            return State.RETIRED if is_done else State.ATTENTION
        if self.conflicts or self.quarantined:
            return State.ATTENTION
        return State.IN_SYNC

    def note_error(self, error: SyncdError | OSError) -> None:
        """Note what went wrong with the project as a whole.

        A file system that fails is no defect of ours.
        """
        self.hinders_all = True
        self.note_failure(error)

    def note_failure(self, error: SyncdError | OSError) -> None:
        """Note what went wrong with one file; what follows the first is only counted."""
        if self.error is None:
            self.error, self.hint, _ = trouble_of(error)
        else:
            self.more_errors += 1

    def as_json(self) -> dict[str, Any]:
        """Return the project's entry in the object that ``--json`` prints (design, section 6)."""
        entry: dict[str, Any] = {
            "path": self.path,
            "state": str(self.state),
            "counts": asdict(self.counts),
            "conflicts": [
                {"id": conflict.id, "field": conflict.field, "winner": conflict.winner}
                for conflict in self.conflicts
            ],
            "quarantined": [
                {"path": entry.path, "line": entry.problem.line, "reason": entry.problem.reason}
                for entry in self.quarantined
            ],
            "halt": self.halt.as_json(self.path) if self.halt else None,
            "error": self.error,
        }
        if self.unsettled:
            entry["unsettled"] = sorted(self.unsettled)
        if self.retired is not None:
            entry |= {"retired": self.retired.as_json(), "left": self.left}
        return entry


_EXIT_CODES = {
    State.ATTENTION: ExitCode.ATTENTION,
    State.HALTED: ExitCode.HALTED,
    State.ERROR: ExitCode.ERROR,
}
