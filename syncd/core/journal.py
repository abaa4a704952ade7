"""PURE: what a cycle does to a message, told as entries of the journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from syncd.core.message import FIELDS, Mailbox, mailbox_at
from syncd.core.reconcile import FileState, Outcome, Step
from syncd.core.sides import Side

FIRST_SYNC = "first sync"
RESTORED = "restored"
COMMANDED = "by a command"
LATE_REWRITE = "late rewrite"
_OWN_CAUSES = frozenset({FIRST_SYNC, RESTORED, COMMANDED, LATE_REWRITE})
_CONFLICT = "conflict: "
_WAS_GONE = " was gone"

QUARANTINED = "quarantine"
RELEASED = "release"
HALTED = "halt"
RESUMED = "resume"


class JournalEntry(NamedTuple):
    """One step that a cycle took, or (``side`` is None) something that it noted.

    ``side`` is the side that was written: what came from a file was written into the database.
    ``step`` says what was done there, to which ``fields``, and ``why`` what asked for it.
    ``agent`` and ``project`` tell whose change it was, as far as a message can tell. ``seq``
    orders the entries of one project; it is 0 before an entry is written.
    """

    at: str
    id: str | None
    side: str | None
    step: str
    fields: str = ""
    why: str = ""
    path: str | None = None
    agent: str | None = None
    project: str | None = None
    seq: int = 0

    @property
    def origins(self) -> tuple[Side, ...]:
        """Return the sides on which clients or people made the change that led to it."""
        return origins_of(self.side, self.why)


def origins_of(side: str | None, why: str | None) -> tuple[Side, ...]:
    """Return where the change came from that had ``side`` written: one side, both, or neither.

    Both is a conflict, or a change of what was deleted on the other side: only one side is written
    then, and both were changed. Neither is what syncd did of its own or for a command.
    """
    if side is None or side not in tuple(Side) or why in _OWN_CAUSES:
        return ()
    if why is not None and (why.startswith(_CONFLICT) or why.endswith(_WAS_GONE)):
        return tuple(Side)
    return (Side(side).other,)


class JournalCount(NamedTuple):
    """How many entries of the journal are alike in these, and time and id of the last of them."""

    day: str | None
    side: str | None
    why: str | None
    agent: str | None
    project: str | None
    number: int
    last_at: str
    last_id: str | None

    @property
    def origins(self) -> tuple[Side, ...]:
        """Return the sides on which clients or people made these changes."""
        return origins_of(self.side, self.why)


def entries_of(
    message_id: str,
    outcome: Outcome,
    file: FileState | None,
    row: Sequence[Any] | None,
    *,
    at: str,
    was_known: bool,
    path: str,
    cause: str,
) -> Iterator[JournalEntry]:
    """Yield one entry for each side that an outcome writes.

    ``row`` has the columns as they stand; ``was_known`` tells whether there was a baseline.
    ``cause`` says why, where it is not just that somebody changed the other side.
    """
    if outcome.message is not None:
        values = outcome.message[1:]
    else:
        values = file.message[1:] if file is not None else tuple(row or ())[1:]
    conflicts = {conflict.field for conflict in outcome.conflicts}
    for side, step, fields in (
        (Side.DB, outcome.row, outcome.row_fields),
        (Side.FILE, outcome.file, outcome.file_fields),
    ):
        if step is Step.NONE:
            continue
        lost = _named(conflicts & fields)
        agent, project = _whose(values, path, step)
        yield JournalEntry(
            at,
            message_id,
            side,
            step,
            _named(fields),
            cause or (f"{_CONFLICT}{lost}" if lost else _why(side, step, was_known)),
            path or None,
            agent,
            project,
        )


def first_entry(written: Side, *, at: str, cause: str) -> JournalEntry:
    """Return what is told of every message that was new on one side, and is now on both."""
    why = cause or _why(written, Step.CREATE, was_known=False)
    return JournalEntry(at, None, written, Step.CREATE, why=why)


def halt_entry(at: str, cause: str | None) -> JournalEntry:
    """Return the entry of a project that halts, or (no ``cause``) that goes on again."""
    return JournalEntry(at, None, None, RESUMED if cause is None else HALTED, why=cause or "")


def _named(fields: set[str] | frozenset[str]) -> str:
    return ",".join(name for name in FIELDS if name in fields)


def _why(written: Side, step: Step, was_known: bool) -> str:
    cause, other = ("file", "row") if written is Side.DB else ("row", "file")
    if step is Step.CREATE:
        return f"the {cause} changed, the {other}{_WAS_GONE}" if was_known else f"new {cause}"
    return f"the {cause} was deleted" if step is Step.DELETE else f"the {cause} changed"


def _whose(values: Sequence[Any], path: str, step: Step) -> tuple[str | None, str | None]:
    """Return agent and project of who most likely made a change.

    A new message is its sender's. What stands in the outbox is changed by the sender, what was
    received by the one that it is for.
    """
    if not values:
        return None, None
    from_project, from_agent, to_project, to_agent = values[:4]
    if step is Step.CREATE or (path and mailbox_at(path) is Mailbox.OUTBOX):
        return from_agent, from_project
    return to_agent, to_project
