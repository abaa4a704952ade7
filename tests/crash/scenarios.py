"""States of a project that together make a sync take every row of the decision table.

Each scenario prepares a project, the same one every time, and says what the command that is then
interrupted does when it is not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.clients import LegacyMessage, parse_legacy, render_legacy, row_of
from tests.projects import Project, moment

SYNC = ("sync",)
MIGRATE = ("migrate",)
RETIRE = ("retire",)
UNDO = ("retire", "--undo", "ARCHIVE")
READ_AT = "2026-02-21T08:00:00+00:00"

Prepare = Callable[[Project], None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A prepared project, the command that is interrupted, and what that does otherwise.

    ``counts`` are the steps that an uninterrupted sync reports (None: not asked), ``conflicts``
    the fields that it lists, ``quarantined`` the number of files that it leaves alone, ``rows``
    how many rows are there in the end. ``again`` is the command of those who start again; where
    that halts, they give ``command`` once more, and where it refuses, a sync first. ``meanwhile``
    is what a host writes when the command has ended, however it did, and ``then`` a last command.
    ``ARCHIVE`` in a command stands for the path of the project's archive.
    """

    name: str
    prepare: Prepare
    rows: int
    command: tuple[str, ...] = SYNC
    again: tuple[str, ...] = SYNC
    counts: dict[str, int] | None = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
    quarantined: int = 0
    meanwhile: Prepare | None = None
    then: tuple[str, ...] = ()

    @property
    def in_step(self) -> bool:
        """Tell whether both sides hold the same in the end."""
        return not self.quarantined and self.command not in (MIGRATE, RETIRE)


SCENARIOS: dict[str, Scenario] = {}


def scenario(rows: int, *, of: dict[str, Any] | None = None, **counts: int) -> Callable[..., Any]:
    """Register a scenario under its function's name; ``of`` are other fields of it."""

    def register(prepare: Prepare) -> Prepare:
        name = prepare.__name__.replace("_", "-")
        values: dict[str, Any] = {"counts": counts} | (of or {})
        SCENARIOS[name] = Scenario(name, prepare, rows, **values)
        return prepare

    return register


# What the scenarios are made of --------------------------------------------------------------


def key_of(number: int) -> str:
    return f"msg-20260220-{number:06d}-{number:08x}"


def letter(number: int, **fields: Any) -> LegacyMessage:
    """Return the message of a number, the same on every run."""
    message = LegacyMessage(
        id=key_of(number),
        from_project="/p/a",
        to_project="/p/b",
        created_at=moment(number),
        subject=f"Subject {number}",
        body=f"Body {number}.\n\nIts second paragraph.",
        metadata={"thread": number, "tags": ["a", "b"]} if number % 2 else {},
        attachments=[f"notes-{number}.txt"] if number % 3 == 1 else [],
    )
    return replace(message, **fields)


def put(project: Project, folder: str, message: LegacyMessage, name: str = "") -> str:
    """Write a message into a mailbox as the old client does; return its path."""
    path = f"{folder}/{name or message.id}.md"
    project.write(path, render_legacy(message))
    return path


def path_of(number: int, folder: str = "inbox") -> str:
    return f"{folder}/{key_of(number)}.md"


def agreed(project: Project, more: int = 0) -> None:
    """Have five messages in step, in all three mailboxes, and ``more`` in the inbox."""
    put(project, "inbox", letter(1))
    put(project, "inbox", letter(2, status="read"))
    put(project, "inbox", letter(3))
    put(project, "outbox", letter(4, status="sent", from_project="/p/b", to_project="/p/a"))
    put(project, "inbox/.archive", letter(5, status="read"))
    for number in range(6, 6 + more):
        put(project, "inbox", letter(number))
    project.sync()


def rewritten(project: Project, path: str) -> str:
    """Return what an old client that reads a file now writes back later: the same, as read."""
    message = parse_legacy(project.file(path).read_bytes())
    return render_legacy(replace(message, status="read"))


# One side has something new ----------------------------------------------------------------------


@scenario(5, rows_inserted=5)
def first_sync(project: Project) -> None:
    put(project, "inbox", letter(1))
    put(project, "inbox", letter(2, status="read"))
    put(project, "outbox", letter(4, status="sent"))
    put(project, "inbox/.archive", letter(5, status="read"))
    note = "---\nto_agent: qa\npriority: high\n---\n\n# A note\n\nWritten by hand.\n"
    by_hand = project.write("inbox/a note.md", note)
    os.utime(by_hand, (1_771_574_400, 1_771_574_400))  # its only date


@scenario(6, rows_inserted=1)
def new_file(project: Project) -> None:
    agreed(project)
    put(project, "inbox", letter(6), name="named by hand")


@scenario(7, files_created=2)
def new_row(project: Project) -> None:
    agreed(project)
    project.new.replace(row_of(letter(6)))
    project.new.replace(row_of(letter(7, status="archived")))


# Both sides, without a baseline ------------------------------------------------------------------


@scenario(2)
def same_on_both_sides_at_first(project: Project) -> None:
    for number in (1, 2):
        put(project, "inbox", letter(number))
        project.new.replace(row_of(letter(number)))


@scenario(2, rows_updated=1, of={"conflicts": ("body", "priority")})
def different_on_both_sides_at_first(project: Project) -> None:
    put(project, "inbox", letter(1, body="The words in the file."))
    put(project, "inbox", letter(2))
    project.new.replace(row_of(letter(1, body="The words in the row.", priority="high")))
    project.new.replace(row_of(letter(2)))


# A change on one side ----------------------------------------------------------------------------


@scenario(5, files_updated=2)
def row_changed(project: Project) -> None:
    agreed(project)
    project.new.update(
        key_of(1),
        subject="Another subject",
        body="Changed with SQL.",
        metadata='{"thread": 11}',
        attachments='["notes-1.txt", "more.txt"]',
    )
    project.new.update(key_of(3), status="read", read_at=READ_AT)


@scenario(5, rows_updated=2)
def file_changed(project: Project) -> None:
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.edit(path_of(1), "notes-1.txt", "other-notes-1.txt")
    project.old.read(key_of(3))


# Changes on both sides ---------------------------------------------------------------------------


@scenario(5, rows_updated=1, files_updated=1)
def both_changed_different_fields(project: Project) -> None:
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.new.update(key_of(1), subject="Changed with SQL", priority="urgent")


@scenario(5, rows_updated=1, files_updated=1, of={"conflicts": ("body",)})
def both_changed_the_same_field(project: Project) -> None:
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.new.update(key_of(1), body="Changed with SQL.", priority="urgent")


@scenario(
    5,
    files_updated=1,
    rows_updated=1,
    of={
        "conflicts": ("body",),
        "command": ("sync", "--prefer", "db"),
        "again": ("sync", "--prefer", "db"),
    },
)
def both_changed_the_same_field_and_the_row_wins(project: Project) -> None:
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.edit(path_of(1), "priority: normal", "priority: high")
    project.new.update(key_of(1), body="Changed with SQL.")


@scenario(5)
def both_changed_to_the_same(project: Project) -> None:
    agreed(project)
    project.edit(path_of(2), "Body 2.", "Changed on both sides.")
    project.new.update(key_of(2), body="Changed on both sides.\n\nIts second paragraph.")


# Gone --------------------------------------------------------------------------------------------


@scenario(4, rows_deleted=1)
def file_gone(project: Project) -> None:
    agreed(project)
    project.file(path_of(1)).unlink()


@scenario(4, files_deleted=1)
def row_gone(project: Project) -> None:
    agreed(project)
    project.new.delete(key_of(1))


@scenario(5, files_created=1)
def file_gone_and_row_changed(project: Project) -> None:
    agreed(project)
    project.file(path_of(1)).unlink()
    project.new.update(key_of(1), body="Changed with SQL.")


@scenario(5, rows_inserted=1)
def row_gone_and_file_changed(project: Project) -> None:
    agreed(project)
    project.new.delete(key_of(1))
    project.edit(path_of(1), "Body 1.", "Changed by a person.")


@scenario(4)
def both_gone(project: Project) -> None:
    agreed(project)
    project.new.delete(key_of(1))
    project.file(path_of(1)).unlink()


# Moves -------------------------------------------------------------------------------------------


@scenario(5, rows_updated=2)
def move_by_rename(project: Project) -> None:
    agreed(project)
    project.old.archive(key_of(1))
    project.move(path_of(5, "inbox/.archive"), "inbox/back again.md")


@scenario(5, files_moved=2, files_updated=1)
def move_by_sql(project: Project) -> None:
    agreed(project)
    project.new.archive(key_of(1))
    project.new.update(key_of(5), status="unread")


@scenario(5, files_moved=1, files_updated=1)
def move_and_edit_by_sql(project: Project) -> None:
    agreed(project)
    project.new.update(key_of(1), status="archived", body="Changed with SQL.", priority="low")


@scenario(5, rows_updated=1, files_updated=1)
def move_by_rename_and_edit_by_sql(project: Project) -> None:
    agreed(project)
    project.old.archive(key_of(1))
    project.new.update(key_of(1), body="Changed with SQL.")


@scenario(5, rows_updated=1, files_moved=1)
def edit_by_hand_and_move_by_sql(project: Project) -> None:
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.new.archive(key_of(1))


@scenario(6, rows_inserted=1, files_moved=1)
def move_by_sql_where_the_name_is_taken(project: Project) -> None:
    agreed(project)
    put(project, "inbox/.archive", letter(6), name=key_of(1))
    project.new.archive(key_of(1))


# Twins, quarantine, late writers ------------------------------------------------------------------


@scenario(7, rows_inserted=1, files_updated=1)
def twin(project: Project) -> None:
    to_oneself = {"from_project": "/p/b", "to_project": "/p/b"}
    put(project, "inbox", letter(6, **to_oneself))
    put(project, "outbox", letter(6, status="sent", **to_oneself))
    agreed(project)
    project.new.update(key_of(6), body="Changed with SQL.")
    put(project, "inbox", letter(7, **to_oneself))
    put(project, "outbox", letter(7, status="sent", **to_oneself))


@scenario(6, rows_inserted=1, files_updated=1, of={"quarantined": 3})
def quarantined_beside_changes(project: Project) -> None:
    agreed(project)
    project.write(path_of(2), "---\nid: [never closed\n---\n\n# Half\n")
    project.write("inbox/no front matter.md", "Only words.\n")
    put(project, "inbox", letter(3, body="Another message with this id."), name="taken")
    project.new.update(key_of(2), body="Changed with SQL while the file cannot be read.")
    project.new.update(key_of(1), body="Changed with SQL.")
    put(project, "inbox", letter(6))


@scenario(5, rows_updated=1, files_updated=1)
def stale_rewrite(project: Project) -> None:
    agreed(project)
    late = rewritten(project, path_of(1))
    project.new.update(key_of(1), body="Changed with SQL.", priority="urgent")
    project.sync()
    project.write(path_of(1), late)


@scenario(5, files_deleted=1)
def rewrite_under_the_old_name(project: Project) -> None:
    agreed(project)
    late = rewritten(project, path_of(1))
    project.new.update(key_of(1), body="Changed with SQL.", status="archived")
    project.sync()
    project.write(path_of(1), late)


@scenario(5, rows_updated=1, files_updated=1)
def stray_of_a_late_writer(project: Project) -> None:
    agreed(project)
    late = project.text(path_of(1)).replace("Body 1.", "What the late writer wrote.")
    with project.file(path_of(1)).open("rb"):  # whoever has it open may write to it
        project.new.update(key_of(1), priority="urgent")
        project.sync()
    (stray,) = project.file("inbox").glob(".syncd-*.tmp")
    stray.write_text(late)


# Several at once ---------------------------------------------------------------------------------


@scenario(
    14,
    rows_inserted=2,
    rows_updated=4,
    rows_deleted=1,
    files_created=2,
    files_updated=3,
    files_moved=1,
    files_deleted=1,
    of={"conflicts": ("subject",), "quarantined": 1},
)
def several_at_once(project: Project) -> None:
    agreed(project, more=8)
    edited, renamed, conflict, merged = path_of(1), path_of(2), path_of(3), path_of(6)
    project.edit(edited, "Body 1.", "Changed by a person.")
    project.move(renamed, f"inbox/.archive/{key_of(2)}.md")
    project.edit(conflict, "# Subject 3", "# The person's subject")
    project.new.update(key_of(3), subject="The subject from SQL", body="The body from SQL.")
    project.edit(merged, "Body 6.", "Changed by a person.")
    project.new.update(key_of(6), priority="low")
    project.new.update(key_of(7), body="Changed with SQL.")
    project.new.archive(key_of(8))
    project.file(path_of(9)).unlink()
    project.new.delete(key_of(10))
    project.file(path_of(11)).unlink()
    project.new.update(key_of(11), body="Changed while the file was deleted.")
    project.new.delete(key_of(12))
    project.edit(path_of(12), "Body 12.", "Changed while the row was deleted.")
    project.write(path_of(13), "")
    put(project, "inbox", letter(14))
    project.new.replace(row_of(letter(15)))
    put(project, "outbox", letter(16, status="sent"))
    project.new.replace(row_of(letter(16, status="sent")))


@scenario(12, files_created=5, files_updated=5)
def many_rows_at_once(project: Project) -> None:
    """As many files to write as are made durable together."""
    agreed(project, more=2)
    for number in (1, 2, 3, 6, 7):
        project.new.update(key_of(number), body=f"Changed with SQL, {number}.")
    for number in range(20, 25):
        project.new.replace(row_of(letter(number)))


# Other commands ----------------------------------------------------------------------------------


def resume(way: str) -> dict[str, Any]:
    return {"command": ("resume", f"--{way}"), "counts": None}


@scenario(5, of=resume("restore"))
def restore_of_files(project: Project) -> None:
    agreed(project)
    for number in (1, 2, 3):
        project.file(path_of(number)).unlink()
    assert project.cycle().halt is not None


@scenario(5, of=resume("restore"))
def restore_of_rows(project: Project) -> None:
    agreed(project)
    project.sql("DELETE FROM messages")
    assert project.cycle().halt is not None


@scenario(2, of=resume("accept-deletes"))
def deletes_accepted(project: Project) -> None:
    agreed(project)
    for number in (1, 2, 3):
        project.file(path_of(number)).unlink()
    assert project.cycle().halt is not None


@scenario(6, rows_inserted=1, rows_updated=1, of={"command": MIGRATE, "again": MIGRATE})
def migrate(project: Project) -> None:
    agreed(project)
    put(project, "inbox", letter(6))
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.new.update(key_of(3), body="Changed with SQL.")


# The end of a migration ---------------------------------------------------------------------------


def with_a_past(project: Project) -> None:
    """Have messages in step with versions in the history, and what is no message beside them."""
    agreed(project)
    project.edit(path_of(1), "Body 1.", "Changed by a person.")
    project.new.update(key_of(3), body="Changed with SQL.")
    project.sync()
    project.write("inbox/notes.txt", "No message.\n")
    project.write("archive/by month/.keep", "")
    project.file("outbox/empty").mkdir()


def host_writes(project: Project) -> None:
    """Insert, update and delete as a host does, which never may fail."""
    project.new.replace(row_of(letter(7)))
    project.new.update(key_of(1), body="Changed with SQL meanwhile.", priority="low")
    project.new.delete(key_of(2))


@scenario(
    5,
    of={"command": RETIRE, "again": RETIRE, "counts": None, "meanwhile": host_writes},
)
def retire(project: Project) -> None:
    with_a_past(project)


@scenario(
    6,
    of={
        "command": UNDO,
        "again": UNDO,
        "counts": None,
        "meanwhile": host_writes,
        "then": SYNC,
    },
)
def retire_undone(project: Project) -> None:
    with_a_past(project)
    project.retire()
    project.new.update(key_of(4), body="Changed when all was retired.")
    project.new.update(key_of(5), status="read")
    put(project, "inbox", letter(8), name="by an old client")
    project.new.replace(row_of(letter(8)))
