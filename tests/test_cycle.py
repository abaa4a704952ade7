"""Whole cycles over real files and a real database; tests of a guarantee bear its number."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import status as status_page
from syncd.core.message import FIELDS, FOLDERS
from syncd.core.sides import Side
from syncd.cycle import bulk, condition, cycle, intake
from syncd.cycle.report import State
from syncd.database.rows import Rows
from syncd.database.store import Store
from syncd.files import replica
from syncd.files.replica import FileReplica
from syncd.files.snapshot import Stamp
from syncd.patience import tell_of_waits
from tests.clients import NewClient, OldClient, parse_legacy
from tests.projects import (
    ARCHIVED,
    AT_ONE,
    BY_HAND,
    ODD_IDS,
    ONE,
    SENT,
    THREE,
    TWO,
    Project,
    a_day_later,
    a_row,
    assert_in_step,
    assert_quiet,
    drop_ours,
    everything,
    insert,
    moment,
    nothing_written,
    path_of,
    settings,
)

# What arrives where ------------------------------------------------------------------------------


def test_files_become_rows_that_the_new_client_lists(project: Project) -> None:
    key = project.receive(1, metadata={"n": 1}, attachments=["a.txt"], priority="high")
    project.old.send(project.other, "Out", "Going out.")
    report = project.sync()
    assert (2, 0) == (report.counts.rows_inserted, report.counts.files_created)
    listed = {message.id: message for message in project.new.list()}
    received = listed[key]
    assert ({"n": 1}, ["a.txt"], "high", "unread") == (
        received.metadata,
        received.attachments,
        received.priority,
        received.status,
    )
    assert ["sent", "unread"] == sorted(message.status for message in listed.values())
    assert_quiet(project)


def test_rows_become_files_that_the_old_client_lists(project: Project) -> None:
    sender = NewClient(project.other)
    key = sender.send(project.path, "Subject", "Body.", metadata={"n": [1]}, attachments=["a"])
    sent = project.new.send(project.other, "Out", "Going out.")
    report = project.sync()
    assert (0, 2) == (report.counts.rows_inserted, report.counts.files_created)
    assert [key] == [message.id for message in project.old.list()]
    (received,) = project.old.list()
    assert ("Subject", "Body.", {"n": [1]}, ["a"]) == (
        received.subject,
        received.body,
        received.metadata,
        received.attachments,
    )
    assert [f"{sent}.md"] == project.names("outbox")
    assert_quiet(project)


def test_a_subject_changed_by_sql_stands_in_the_file_and_nothing_else_moved(
    synced: Project,
) -> None:
    before = synced.text(AT_ONE)
    synced.new.update(ONE, subject="Better")
    assert 1 == synced.sync().counts.files_updated
    assert before.replace("# Subject 1", "# Better") == synced.text(AT_ONE)
    assert_quiet(synced)


@pytest.mark.parametrize("empty", [None, ""])
def test_reading_by_the_old_client_sets_read_at(synced: Project, empty: str | None) -> None:
    synced.new.update(ONE, read_at=empty)
    synced.old.read(ONE)
    assert 1 == synced.sync().counts.rows_updated
    row = synced.row(ONE)
    assert "read" == row["status"]
    assert row["read_at"]
    assert_quiet(synced)


def test_reading_leaves_a_read_at_that_is_there(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00", task_injected=1)
    synced.old.read(ONE)
    synced.sync()
    row = synced.row(ONE)
    assert ("read", "2026-01-01T00:00:00+00:00", 1) == (
        row["status"],
        row["read_at"],
        row["task_injected"],
    )


def test_reading_by_the_new_client_is_a_word_in_the_file(synced: Project) -> None:
    before = synced.text(AT_ONE)
    synced.new.read(ONE)
    synced.sync()
    assert before.replace("status: unread", "status: read") == synced.text(AT_ONE)
    assert_quiet(synced)


def test_a_row_that_only_spells_a_value_differently_changes_nothing(synced: Project) -> None:
    before = synced.files()
    synced.new.update(ONE, body="  Body 1.\r\n", metadata="{}", attachments="[ ]")
    row = synced.row(ONE)
    assert 0 == synced.sync().counts.changes()
    assert (before, row) == (synced.files(), synced.row(ONE))
    assert_quiet(synced)


def test_a_deleted_file_deletes_the_row_and_the_history_keeps_it(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    assert 1 == synced.sync().counts.rows_deleted
    assert ONE not in synced.rows()
    assert "Body 1." in synced.kept_texts(ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_deleted_row_deletes_the_file_and_the_history_keeps_its_bytes(synced: Project) -> None:
    data = synced.file(AT_ONE).read_bytes()
    synced.new.delete(ONE)
    assert 1 == synced.sync().counts.files_deleted
    assert data in [row["data"] for row in synced.history(ONE)]
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_file_that_was_on_its_way_to_another_folder_at_the_first_look_is_no_delete(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced.sql("UPDATE messages SET task_injected = 1 WHERE id = ?", ONE)
    synced.sync()
    on_its_way = synced.path / "on its way"
    synced.file(AT_ONE).rename(on_its_way)

    def arrive(_: float) -> None:
        on_its_way.rename(synced.file(f"inbox/.archive/{ONE}.md"))

    monkeypatch.setattr("syncd.cycle.absence.time.sleep", arrive)
    report = synced.sync()
    assert 0 == report.counts.rows_deleted
    assert ("archived", 1) == (synced.row(ONE)["status"], synced.row(ONE)["task_injected"])
    assert_in_step(synced)


def test_an_edit_of_the_row_wins_over_a_deleted_file(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    synced.new.update(ONE, body="Still needed.")
    assert 1 == synced.sync().counts.files_created
    assert "Still needed." == synced.message_at(AT_ONE).body
    assert_quiet(synced)


def test_an_edit_of_the_file_wins_over_a_deleted_row(synced: Project) -> None:
    synced.new.delete(ONE)
    synced.edit(AT_ONE, "Body 1.", "Still needed.")
    assert 1 == synced.sync().counts.rows_inserted
    assert "Still needed." == synced.row(ONE)["body"]
    assert_quiet(synced)


def test_what_both_sides_deleted_is_forgotten(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    synced.new.delete(ONE)
    assert 0 == synced.sync().counts.changes()
    assert ONE not in {values[0].decode() for values in synced.tables()["syncd_baseline"]}
    assert_quiet(synced)


def test_the_counts_say_how_many_messages_stayed_as_they_were(synced: Project) -> None:
    assert 5 == synced.sync().counts.unchanged
    synced.receive(6)
    assert (1, 5) == (
        (counts := synced.sync().counts).rows_inserted,
        counts.unchanged,
    )
    synced.new.delete(ONE)
    assert (1, 5) == ((counts := synced.sync().counts).files_deleted, counts.unchanged)
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "Other.")
    assert (1, 4) == ((counts := synced.sync().counts).rows_updated, counts.unchanged)


# G1: what cannot be read changes nothing ---------------------------------------------------------

BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "white space": lambda data: b" \n\n",
    "cut in the front matter": lambda data: data[:60],
    "cut before the closing line ends": lambda data: data[: data.index(b"---\n\n") + 3],
    "without front matter": lambda data: data.split(b"---\n")[2],
    "not UTF-8": lambda data: data + b"\xff\xfe",
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "bad YAML": lambda data: data.replace(b"id: ", b"id: [", 1),
    "front matter that is a list": lambda data: b"---\n- a\n---\n\n# S\n",
    "a date that is none": lambda data: data.replace(b"created_at: '2026", b"created_at: 'x2026"),
    "zeros": lambda data: b"\0" * len(data),
    "zeros at the end": lambda data: data[:-3] + b"\0\0\xff",
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_g1_a_broken_file_changes_no_row_and_is_reported(
    synced: Project, damage: Callable[[bytes], bytes]
) -> None:
    rows = synced.rows()
    good = synced.file(AT_ONE).read_bytes()
    synced.write(AT_ONE, damage(good))
    report = synced.sync()
    assert rows == synced.rows()
    assert damage(good) == synced.file(AT_ONE).read_bytes()
    assert State.ATTENTION is report.state
    assert [AT_ONE] == [entry.path for entry in report.quarantined]
    assert report.quarantined[0].problem.reason
    assert_quiet(synced)
    synced.write(AT_ONE, good)
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_quiet(synced)


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN.keys())
def test_g1_a_new_broken_file_makes_no_row(
    project: Project, damage: Callable[[bytes], bytes]
) -> None:
    key = project.receive(1)
    path = f"inbox/{key}.md"
    project.write(path, damage(project.file(path).read_bytes()))
    report = project.sync()
    assert {} == project.rows()
    assert [path] == [entry.path for entry in report.quarantined]
    assert_quiet(project)


def test_g1_a_row_changes_beside_a_broken_file_and_arrives_when_it_is_mended(
    synced: Project,
) -> None:
    good = synced.text(AT_ONE)
    synced.write(AT_ONE, "")
    synced.sync()
    synced.new.update(ONE, subject="Meanwhile")
    synced.sync()
    assert "" == synced.text(AT_ONE)
    assert "Meanwhile" == synced.row(ONE)["subject"]
    synced.write(AT_ONE, good.replace("Body 1.", "By hand."))
    synced.sync()
    assert ("Meanwhile", "By hand.") == (
        synced.message_at(AT_ONE).subject,
        synced.row(ONE)["body"],
    )
    assert_in_step(synced)
    assert_quiet(synced)


def test_g1_a_row_deleted_beside_a_broken_file_leaves_the_file(synced: Project) -> None:
    synced.write(AT_ONE, "---\nid: x")
    synced.new.delete(ONE)
    synced.sync()
    assert "---\nid: x" == synced.text(AT_ONE)
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_archived_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    synced.move(AT_ONE, f"inbox/.archive/{ONE}.md")
    synced.sync()
    assert rows == synced.rows()
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_renamed_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    synced.move(AT_ONE, "inbox/notes.md")
    synced.sync()
    assert rows == synced.rows()


def test_g1_a_file_that_was_given_a_name_that_is_not_utf8_keeps_its_row(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-02-20T00:00:00+00:00", task_injected=1)
    synced.sync()
    rows = synced.rows()
    odd = os.fsencode(synced.file("inbox")) + b"/gr\xf6\xdfe.md"
    os.rename(synced.file(AT_ONE), odd)
    for _ in range(2):
        assert ["inbox/gr\\xf6\\xdfe.md"] == [one.path for one in synced.sync().quarantined]
        assert rows == synced.rows()
        assert 0 == status_page.look(synced.path, []).pending
    synced.new.update(ONE, body="By SQL.")
    synced.sync()
    os.rename(odd, synced.file(AT_ONE))
    synced.sync()
    assert "By SQL." == synced.message_at(AT_ONE).body
    assert rows[ONE]["read_at"] == synced.row(ONE)["read_at"]
    assert_in_step(synced)
    assert_quiet(synced)


def test_g1_a_broken_file_that_was_saved_by_rename_and_then_renamed_keeps_its_row(
    synced: Project,
) -> None:
    rows = synced.rows()
    synced.write("inbox/draft", "")  # its inode is none that the baseline knows
    synced.move("inbox/draft", AT_ONE)
    synced.sync()
    synced.move(AT_ONE, "inbox/notes.md")
    synced.sync()
    assert rows == synced.rows()


def test_g1_a_broken_file_that_was_copied_to_the_archive_keeps_its_row(synced: Project) -> None:
    rows = synced.rows()
    synced.write(AT_ONE, "")
    synced.sync()
    shutil.copy2(synced.file(AT_ONE), synced.file(f"inbox/.archive/{ONE}.md"))
    synced.write("inbox/takes the inode.md", BY_HAND)
    synced.file(AT_ONE).unlink()
    synced.sync()
    assert rows == {key: row for key, row in synced.rows().items() if key != "by-hand"}
    assert_quiet(synced)


def test_a_quarantined_file_that_is_deleted_is_a_deleted_message(synced: Project) -> None:
    synced.write(AT_ONE, "")
    synced.sync()
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_deleted)
    assert_quiet(synced)


def test_a_quarantined_file_that_is_deleted_is_reported_no_longer_by_a_scoped_cycle(
    synced: Project,
) -> None:
    synced.write(AT_ONE, "")
    synced.scoped(AT_ONE)
    synced.file(AT_ONE).unlink()
    report = synced.scoped(gone=[AT_ONE])
    assert ([], 1) == (report.quarantined, report.counts.rows_deleted)
    assert_quiet(synced)


def test_g6_a_row_that_went_unheard_is_given_two_looks_also_where_its_file_was_written(
    synced: Project,
) -> None:
    synced.sql("DROP TRIGGER syncd_delete")
    synced.sql("DELETE FROM messages WHERE id = ?", ONE)
    report = synced.scoped(AT_ONE)
    assert ({f"messaging.db#{ONE}"}, 0) == (report.vanished, report.counts.files_deleted)
    assert synced.file(AT_ONE).exists()
    report = synced.scoped(AT_ONE, gone=report.vanished)
    assert (set(), 1) == (report.vanished, report.counts.files_deleted)
    assert_quiet(synced)


# G3, G4: both sides changed ----------------------------------------------------------------------


@pytest.mark.parametrize("prefer", Side)
def test_g3_the_same_field_changed_on_both_sides_keeps_both_and_lists_the_conflict(
    tmp_path: Path, prefer: Side
) -> None:
    project = Project(tmp_path / "p", prefer=prefer)
    key = project.receive(1)
    project.sync()
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.new.update(key, body="By SQL.")
    report = project.sync()
    winner = "By hand." if prefer is Side.FILE else "By SQL."
    loser = "By SQL." if prefer is Side.FILE else "By hand."
    assert winner == project.row(key)["body"]
    assert_in_step(project)
    assert loser in project.kept_texts(key)
    assert "Body 1." in project.kept_texts(key)
    (conflict,) = report.conflicts
    assert (key, "body", prefer) == (conflict.id, conflict.field, conflict.winner)
    assert loser in str(
        next(row for row in project.history(key) if row["version"] == conflict.version)
    )
    assert State.ATTENTION is report.state
    assert_quiet(project)
    assert report.conflicts == project.sync().conflicts


def test_g3_what_lost_a_conflict_is_kept_while_the_message_is_in_conflict(project: Project) -> None:
    key = project.receive(1)
    project.sync()
    for number, said in ((1, "Body 1."), (2, "By hand 1.")):
        project.edit(AT_ONE, said, f"By hand {number}.")
        project.new.update(key, body=f"By SQL {number}.")
        project.sync()
    project.sql("UPDATE syncd_history SET at = '2001-01-01T00:00:00+00:00'")
    project.sync()
    assert {"By SQL 1.", "By SQL 2."} <= {row["body"] for row in project.history(key)}
    project.sql("DELETE FROM syncd_conflicts")
    project.sync()
    a_day_later(project)
    project.sync()
    assert [] == project.history(key)


def test_g3_several_fields_in_conflict_have_one_winner_each(synced: Project) -> None:
    synced.edit(AT_ONE, "# Subject 1", "# By hand")
    synced.edit(AT_ONE, "priority: normal", "priority: high")
    synced.new.update(ONE, subject="By SQL", priority="low", body="Only by SQL.")
    report = synced.sync()
    assert [(ONE, "priority"), (ONE, "subject")] == [(c.id, c.field) for c in report.conflicts]
    row = synced.row(ONE)
    assert ("By hand", "high", "Only by SQL.") == (row["subject"], row["priority"], row["body"])
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_different_fields_changed_on_both_sides_arrive_on_both(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.edit(AT_ONE, "to_agent: pm", "to_agent: qa  # for once")
    synced.new.update(ONE, subject="By SQL", metadata='{"n": 1}', status="read")
    report = synced.sync()
    assert [] == report.conflicts
    row = synced.row(ONE)
    assert ("By hand.", "qa", "By SQL", "read") == (
        row["body"],
        row["to_agent"],
        row["subject"],
        row["status"],
    )
    assert "to_agent: qa  # for once\n" in synced.text(AT_ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_a_file_moved_while_its_row_is_edited_keeps_both(synced: Project) -> None:
    synced.old.archive(ONE)
    synced.new.update(ONE, body="By SQL.")
    report = synced.sync()
    assert [] == report.conflicts
    assert ("archived", "By SQL.") == (synced.row(ONE)["status"], synced.row(ONE)["body"])
    assert "By SQL." == synced.message_at(f"inbox/.archive/{ONE}.md").body
    assert_in_step(synced)
    assert_quiet(synced)


def test_g4_a_row_archived_while_its_file_is_edited_keeps_both(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.archive(ONE)
    report = synced.sync()
    assert [] == report.conflicts
    assert ("archived", "By hand.") == (synced.row(ONE)["status"], synced.row(ONE)["body"])
    assert f"inbox/.archive/{ONE}.md" == path_of(synced, ONE)
    assert_in_step(synced)
    assert_quiet(synced)


# G5: first syncs ---------------------------------------------------------------------------------


def test_g5_a_first_sync_is_the_union_of_both_sides(project: Project) -> None:
    only_file = project.receive(1)
    both = project.receive(2)
    insert(project, a_row(project, both, subject="Subject 2", body="Other body."))
    insert(project, a_row(project, "only-row"))
    report = project.sync()
    assert {only_file, both, "only-row"} == project.rows().keys()
    assert (0, 0) == (report.counts.rows_deleted, report.counts.files_deleted)
    assert "Other body." in project.kept_texts(both)
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("lost", ["database", "baseline", "all of syncd's tables"])
def test_g5_a_lost_baseline_deletes_nothing(synced: Project, lost: str) -> None:
    gone_file, gone_row = ONE, TWO
    synced.file(f"inbox/{gone_file}.md").unlink()
    synced.new.delete(gone_row)
    if lost == "database":
        for path in synced.base.glob("messaging.db*"):
            path.unlink()
    elif lost == "baseline":
        synced.sql("DELETE FROM syncd_baseline")
    else:
        drop_ours(synced)
    report = synced.sync()
    assert (0, 0) == (report.counts.rows_deleted, report.counts.files_deleted)
    expected = {ONE, TWO, THREE, ARCHIVED, SENT} - ({ONE} if lost == "database" else set())
    assert expected == synced.rows().keys()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g5_files_that_vanished_before_the_first_sync_are_made_from_the_rows(
    project: Project,
) -> None:
    insert(project, a_row(project, "a"))
    project.sync()
    assert ["a.md"] == project.names("inbox")


# G10, G13: nothing is written that need not be ---------------------------------------------------


def test_g10_after_a_busy_time_further_cycles_write_nothing(synced: Project) -> None:
    synced.receive(10, "Täglich 📬", "# heading\n\n---\nid: x\n---\n", metadata={"d": "2026-01-01"})
    insert(synced, a_row(synced, "../../etc/passwd", subject="a\nb", attachments='["`x`"]'))
    insert(synced, a_row(synced, "odd", metadata='{"b": NaN, "a": [1, {}]}', attachments="[]"))
    synced.old.read(ONE)
    synced.old.archive(TWO)
    synced.new.archive(THREE)
    synced.move(f"inbox/.archive/{ARCHIVED}.md", "inbox/back again.md")
    synced.write("inbox/broken.md", "---")
    synced.write("inbox/copy.md", synced.text(AT_ONE))
    synced.sync()
    for _ in range(3):
        assert_quiet(synced)


def test_g10_a_forced_compare_of_everything_writes_nothing(synced: Project) -> None:
    with nothing_written(synced):
        assert 0 == synced.sync(trust_stamps=False).counts.changes()


def test_rows_known_by_another_digest_are_known_again_after_one_cycle(synced: Project) -> None:
    # As a version left it that made the digests of rows in another way.
    synced.sql("UPDATE syncd_baseline SET row_digest = zeroblob(16)")
    rows, files = synced.rows(), synced.files()
    assert 0 == synced.sync().counts.changes()
    assert (rows, files) == (synced.rows(), synced.files())
    assert_quiet(synced)


def test_g10_a_file_that_was_only_touched_changes_no_row(synced: Project) -> None:
    rows, files = synced.rows(), synced.files()
    os.utime(synced.file(AT_ONE), ns=(1, 1))
    assert 0 == synced.sync().counts.changes()
    assert rows == synced.rows()
    assert (files[AT_ONE][0], 1) == synced.files()[AT_ONE]
    assert_quiet(synced)


def test_g13_a_file_made_by_hand_is_imported_and_stays_as_it_is(project: Project) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    before = project.files()
    project.sync()
    assert before == project.files()
    row = project.row("by-hand")
    assert ("A title", "Words.", "2026-02-20T20:15:00+00:00", "unread", None) == (
        row["subject"],
        row["body"],
        row["created_at"],
        row["status"],
        row["replied_to"],
    )


@pytest.mark.parametrize(
    ("column", "value", "old", "new"),
    [
        ("subject", "Another", "A title", "Another"),
        ("body", "Other words.", "Words.", "Other words."),
        ("from_agent", "qa", '"pm"', "qa"),
        ("priority", "low", "priority: high", "priority: low"),
        ("message_type", "request", "type: task", "type: request"),
    ],
)
def test_g13_an_edit_by_sql_touches_only_its_own_value(
    project: Project, column: str, value: str, old: str, new: str
) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    project.sync()
    project.new.update("by-hand", **{column: value})
    project.sync()
    found = project.text("inbox/whatever name.md")
    assert BY_HAND.replace(old, new) == found.replace(f'"{value}"', value)
    assert_in_step(project)


def test_g13_an_edit_of_the_subject_leaves_the_white_space_around_it(project: Project) -> None:
    text = BY_HAND.replace("# A title", "#   A title  ")
    project.write("inbox/a.md", text)
    project.sync()
    project.new.update("by-hand", subject="Another")
    project.sync()
    assert text.replace("A title", "Another") == project.text("inbox/a.md")


def test_g13_a_move_by_sql_keeps_every_byte_and_the_name(project: Project) -> None:
    project.write("inbox/whatever name.md", BY_HAND)
    project.sync()
    project.new.archive("by-hand")
    report = project.sync()
    assert (1, 0) == (report.counts.files_moved, report.counts.files_updated)
    assert BY_HAND == project.text("inbox/.archive/whatever name.md")
    assert [] == project.names("inbox")
    assert_quiet(project)


NO_DATE = BY_HAND.replace("created_at: 2026-02-20T20:15:00Z\n", "")


@pytest.mark.parametrize("by", ["hand", "sql"])
@pytest.mark.parametrize(
    ("folder", "left_out", "to", "status"),
    [
        ("inbox", "to_project", "outbox", "sent"),
        ("inbox", "from_project", "outbox", "sent"),
        ("outbox", "from_project", "inbox/.archive", "archived"),
        ("outbox", "to_project", "inbox", "unread"),
    ],
)
def test_g10_what_a_file_does_not_state_stays_when_it_comes_to_where_something_else_is_meant(
    project: Project, by: str, folder: str, left_out: str, to: str, status: str
) -> None:
    line = {"from_project": "from_project: /p/a\n", "to_project": "to_project: /p/b\n"}[left_out]
    project.write(f"{folder}/a.md", BY_HAND.replace(line, ""))
    project.sync()
    meant = project.row("by-hand")[left_out]
    if by == "sql":
        project.new.update("by-hand", status=status)
    else:
        project.move(f"{folder}/a.md", f"{to}/a.md")
    project.sync()
    assert (meant, status) == (project.row("by-hand")[left_out], project.row("by-hand")["status"])
    assert f"{left_out}: {meant}\n" in project.text(f"{to}/a.md")
    assert_in_step(project)
    assert_quiet(project)


def test_a_move_by_hand_and_another_project_by_sql_arrive_both(project: Project) -> None:
    project.write("inbox/a.md", BY_HAND.replace("to_project: /p/b\n", ""))
    project.sync()
    project.move("inbox/a.md", "outbox/a.md")
    project.new.update("by-hand", to_project="/p/c")
    report = project.sync()
    assert [] == report.conflicts
    row = project.row("by-hand")
    assert ("sent", "/p/c") == (row["status"], row["to_project"])
    assert_in_step(project)
    assert_quiet(project)


def test_a_date_that_sql_sets_is_written_into_a_file_that_stated_none(project: Project) -> None:
    project.write("inbox/a.md", NO_DATE)
    project.sync()
    project.new.update("by-hand", created_at="2026-01-02T03:04:05+00:00")
    project.sync()
    assert "2026-01-02T03:04:05+00:00" == project.message_at("inbox/a.md").created_at
    assert_in_step(project)
    assert_quiet(project)


def test_a_date_taken_from_the_mtime_does_not_move_with_it(project: Project) -> None:
    path = project.write("inbox/a.md", NO_DATE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    project.sync()
    created_at = project.row("by-hand")["created_at"]
    assert "2023-11-14T22:13:20+00:00" == created_at
    os.utime(path, (1_750_000_000, 1_750_000_000))
    assert 0 == project.sync().counts.changes()
    project.edit("inbox/a.md", "Words.", "Other words.")
    assert 1 == project.sync().counts.rows_updated
    assert (created_at, "Other words.") == (
        project.row("by-hand")["created_at"],
        project.row("by-hand")["body"],
    )
    assert_quiet(project)


def test_a_date_that_is_missing_is_taken_from_the_id_where_that_has_one(project: Project) -> None:
    key = "msg-20250102-030405-abcd1234"
    project.write("inbox/a.md", NO_DATE.replace("by-hand", key))
    project.sync()
    assert "2025-01-02T03:04:05+00:00" == project.row(key)["created_at"]
    assert_quiet(project)


def test_g13_an_edit_by_sql_of_a_file_without_a_date_touches_only_its_own_value(
    project: Project,
) -> None:
    path = project.write("inbox/a.md", NO_DATE)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    project.sync()
    os.utime(path, (1_750_000_000, 1_750_000_000))
    project.sync()
    created_at = project.row("by-hand")["created_at"]
    project.new.update("by-hand", subject="Another")
    project.sync()
    assert NO_DATE.replace("A title", "Another") == project.text("inbox/a.md")
    assert created_at == project.row("by-hand")["created_at"]
    assert_quiet(project)


def test_what_a_file_leaves_unsaid_is_not_changed_by_a_later_edit(project: Project) -> None:
    project.write("inbox/a.md", BY_HAND.replace("to_agent: 'engineer'\n", ""))
    insert(project, a_row(project, "by-hand", to_agent="qa"))
    project.sync()
    assert "qa" == project.row("by-hand")["to_agent"]
    project.edit("inbox/a.md", "Words.", "Other words.")
    project.sync()
    assert "qa" == project.row("by-hand")["to_agent"]


# Moves, copies, ids ------------------------------------------------------------------------------


def test_archiving_by_rename_and_by_sql_are_the_same(synced: Project) -> None:
    synced.old.archive(ONE)
    synced.new.archive(TWO)
    synced.sync()
    assert {ONE: "archived", TWO: "archived", THREE: "unread"} == {
        key: synced.row(key)["status"] for key in (ONE, TWO, THREE)
    }
    assert [f"{THREE}.md"] == synced.names("inbox")
    assert 3 == len(synced.names("inbox/.archive"))
    assert_quiet(synced)


def test_a_move_keeps_what_only_the_row_has(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00", task_injected=1)
    synced.old.archive(ONE)
    report = synced.sync()
    assert (1, 0, 0) == (
        report.counts.rows_updated,
        report.counts.rows_inserted,
        report.counts.rows_deleted,
    )
    row = synced.row(ONE)
    assert ("2026-01-01T00:00:00+00:00", 1) == (row["read_at"], row["task_injected"])


def test_a_file_moved_back_to_the_inbox_with_archived_in_it_is_read(project: Project) -> None:
    insert(project, a_row(project, "a", status="archived"))
    project.sync()
    assert "status: archived" in project.text("inbox/.archive/a.md")
    data = project.file("inbox/.archive/a.md").read_bytes()
    project.move("inbox/.archive/a.md", "inbox/a.md")
    project.sync()
    assert "read" == project.row("a")["status"]
    assert data == project.file("inbox/a.md").read_bytes()
    assert_quiet(project)


def test_g2_g11_words_that_are_saved_just_before_their_file_is_moved_arrive(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = FileReplica.move

    def edited_before(self: FileReplica, path: str, to: str, *, seen: Stamp) -> Stamp:
        synced.edit(path, "Body 1.", "Just saved.")
        return move(self, path, to, seen=seen)

    monkeypatch.setattr(FileReplica, "move", edited_before)
    synced.new.archive(ONE)
    report = synced.sync()
    assert (1, {f"inbox/.archive/{ONE}.md"}) == (report.counts.files_moved, report.unsettled)
    monkeypatch.undo()
    assert 1 == synced.sync().counts.rows_updated
    assert ("Just saved.", "archived") == itemgetter("body", "status")(synced.row(ONE))
    assert_in_step(synced)
    assert_quiet(synced)


def test_archived_written_by_hand_moves_the_file(synced: Project) -> None:
    synced.edit(AT_ONE, "status: unread", "status: archived")
    counts = synced.sync().counts
    assert (1, 1) == (counts.rows_updated, counts.files_moved)
    assert f"inbox/.archive/{ONE}.md" == path_of(synced, ONE)
    assert_quiet(synced)


def test_a_copy_from_an_outbox_that_is_put_into_the_inbox_is_unread_and_stays(
    synced: Project,
) -> None:
    sender = OldClient(synced.other)
    key = sender.send(synced.path, "Put there", "By hand.")
    copy = synced.file(f"inbox/{key}.md")
    shutil.copy(synced.other / f".claude-mpm/outbox/{key}.md", copy)
    assert "status: sent" in copy.read_text()
    assert 1 == synced.sync().counts.changes()
    assert "unread" == synced.row(key)["status"]
    assert_quiet(synced)


def test_a_file_in_the_other_archive_folder_stays_there(project: Project) -> None:
    key = project.receive(1)
    project.move(AT_ONE, f"archive/{key}.md")
    project.sync()
    assert "archived" == project.row(key)["status"]
    project.new.update(key, subject="By SQL")
    project.sync()
    assert "By SQL" == project.message_at(f"archive/{key}.md").subject
    assert_quiet(project)


def test_a_rename_within_the_inbox_is_no_change(synced: Project) -> None:
    rows = synced.rows()
    synced.move(AT_ONE, "inbox/read me first.md")
    assert 0 == synced.sync().counts.changes()
    assert rows == synced.rows()
    synced.new.update(ONE, subject="Found")
    synced.sync()
    assert "Found" == synced.message_at("inbox/read me first.md").subject
    assert not synced.file(AT_ONE).exists()
    assert_quiet(synced)


def test_a_copy_is_quarantined_and_takes_over_when_the_first_goes(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    synced.write("inbox/copy.md", synced.text(AT_ONE).replace("Body 1.", "Of the copy."))
    report = synced.sync()
    assert ["inbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert AT_ONE in report.quarantined[0].problem.reason
    assert "Body 1." == synced.row(ONE)["body"]
    assert_quiet(synced)
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.rows_deleted)
    row = synced.row(ONE)
    assert ("Of the copy.", "2026-01-01T00:00:00+00:00") == (row["body"], row["read_at"])
    assert_quiet(synced)


def has_in_history(project: Project, *words: str) -> bool:
    found = project.sql("SELECT data FROM syncd_history WHERE data IS NOT NULL")
    return all(any(word.encode() in data for (data,) in found) for word in words)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("subject", "the first"), ("body", "the first")),
        *(("metadata", '{"a": "the first"}'), ("attachments", '["the first"]')),
    ],
)
def test_g2_what_a_person_overwrites_in_a_file_is_kept(
    synced: Project, column: str, value: str
) -> None:
    synced.new.update(ONE, **{column: value})
    synced.sync()
    synced.edit(AT_ONE, "the first", "the second")
    synced.sync()
    assert "the second" in synced.row(ONE)[column]
    assert "the first" in synced.kept_texts(ONE)


def test_g2_the_words_of_a_copy_that_is_set_aside_outlive_it(synced: Project) -> None:
    synced.write("inbox/copy.md", synced.text(AT_ONE))
    synced.sync()
    assert not synced.sql("SELECT 1 FROM syncd_history")
    for words in ("Other words.", "And others."):
        synced.write("inbox/copy.md", synced.text(AT_ONE).replace("Body 1.", words))
        synced.sync()
        assert_quiet(synced)
    synced.file("inbox/copy.md").unlink()
    synced.sync()
    assert has_in_history(synced, "Other words.", "And others.")


def test_g2_the_words_of_a_file_beside_an_odd_row_outlive_it(synced: Project) -> None:
    synced.new.update(ONE, created_at="yesterday")
    synced.sync()
    for old, new in (("Body 1.", "Other words."), ("Other words.", "And others.")):
        synced.edit(AT_ONE, old, new)
        synced.sync()
        assert_quiet(synced)
    synced.new.update(ONE, created_at=moment(1).isoformat())
    synced.sync()
    assert ("And others.", True) == (
        synced.row(ONE)["body"],
        has_in_history(synced, "Other words."),
    )


def test_a_copy_in_the_outbox_of_what_others_sent_is_no_message_to_oneself(
    synced: Project,
) -> None:
    synced.write("outbox/copy.md", synced.text(AT_ONE))
    report = synced.sync()
    assert ["outbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert "unread" == synced.row(ONE)["status"]
    assert_quiet(synced)


def test_a_copy_in_the_inbox_of_what_was_sent_to_others_is_no_message_to_oneself(
    synced: Project,
) -> None:
    synced.write("inbox/copy.md", synced.text(f"outbox/{SENT}.md"))
    report = synced.sync()
    assert ["inbox/copy.md"] == [entry.path for entry in report.quarantined]
    assert "sent" == synced.row(SENT)["status"]
    assert_quiet(synced)


def test_g11_a_copy_takes_over_also_when_only_the_first_ones_end_was_seen(
    synced: Project,
) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    shutil.copy2(synced.file(AT_ONE), synced.file("inbox/copy.md"))
    synced.sync()
    synced.file(AT_ONE).unlink()
    synced.scoped(gone=[AT_ONE])
    report = synced.sync()
    assert State.IN_SYNC is report.state
    assert "2026-01-01T00:00:00+00:00" == synced.row(ONE)["read_at"]
    assert_quiet(synced)


def test_g11_a_message_whose_new_place_went_unseen_is_not_deleted(synced: Project) -> None:
    synced.new.update(ONE, read_at="2026-01-01T00:00:00+00:00")
    synced.move(AT_ONE, "inbox/.archive/elsewhere.md")
    synced.scoped(gone=[AT_ONE])
    synced.sync()
    assert "2026-01-01T00:00:00+00:00" == synced.row(ONE)["read_at"]
    assert "archived" == synced.row(ONE)["status"]


def test_a_copy_with_an_id_of_its_own_is_a_message_of_its_own(synced: Project) -> None:
    text = synced.text(AT_ONE).replace(f"id: {ONE}", "id: my-copy")
    synced.write("inbox/copy.md", text)
    report = synced.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_inserted)
    assert_quiet(synced)


def test_an_id_edited_in_a_file_is_another_message(synced: Project) -> None:
    synced.edit(AT_ONE, f"id: {ONE}", "id: another")
    synced.sync()
    assert ONE not in synced.rows()
    assert "Body 1." == synced.row("another")["body"]
    assert "Body 1." in synced.kept_texts(ONE)
    assert_in_step(synced)
    assert_quiet(synced)


def test_an_id_that_was_never_written_is_the_files_stem(project: Project) -> None:
    project.write("inbox/note to all.md", BY_HAND.replace("id: by-hand\n", ""))
    project.sync()
    assert ["note to all"] == list(project.rows())
    project.new.update("note to all", subject="By SQL")
    project.sync()
    assert_in_step(project)
    assert_quiet(project)


# Messages to oneself -----------------------------------------------------------------------------


def test_a_message_to_oneself_is_one_row_and_its_outbox_copy_is_left_alone(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    report = project.sync()
    assert (State.IN_SYNC, 1) == (report.state, report.counts.rows_inserted)
    assert "unread" == project.row(key)["status"]
    assert_quiet(project)
    twin = project.file(f"outbox/{key}.md").read_bytes()
    project.new.read(key)
    project.sync()
    project.new.archive(key)
    project.sync()
    assert twin == project.file(f"outbox/{key}.md").read_bytes()
    assert [f"{key}.md"] == project.names("inbox/.archive")
    assert_quiet(project)


def test_a_message_to_oneself_that_is_moved_onto_its_copy_is_sent(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.file(f"inbox/{key}.md").replace(project.file(f"outbox/{key}.md"))
    project.sync()
    assert "sent" == project.row(key)["status"]
    assert_in_step(project)
    assert_quiet(project)


def test_a_copy_that_becomes_a_hard_link_of_its_message_is_left_alone(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    twin = project.file(f"outbox/{key}.md")
    twin.unlink()
    twin.hardlink_to(project.file(f"inbox/{key}.md"))
    assert [] == project.sync().quarantined
    assert_quiet(project)


def test_a_message_to_oneself_seen_half_sent_ends_the_same(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    inbox = project.file(f"inbox/{key}.md")
    data = inbox.read_bytes()
    inbox.unlink()
    project.sync()
    assert "sent" == project.row(key)["status"]
    inbox.write_bytes(data)
    report = project.scoped(f"inbox/{key}.md")
    assert State.IN_SYNC is report.state
    assert "unread" == project.row(key)["status"]
    assert [f"{key}.md"] == project.names("inbox") == project.names("outbox")
    assert_quiet(project)


def test_g4_a_late_inbox_copy_undoes_nothing_that_sql_did_to_the_outbox_copy(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    inbox = project.file(f"inbox/{key}.md")
    data = inbox.read_bytes()
    inbox.unlink()
    project.sync()
    project.new.update(key, subject="By SQL", body="Changed meanwhile.")
    project.sync()
    inbox.write_bytes(data)
    report = project.scoped(f"inbox/{key}.md")
    assert State.IN_SYNC is report.state
    row = project.row(key)
    assert ("By SQL", "Changed meanwhile.", "unread") == (
        row["subject"],
        row["body"],
        row["status"],
    )
    assert "Changed meanwhile." in project.text(f"inbox/{key}.md")
    assert_quiet(project)


def test_a_twin_is_never_a_second_message(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.edit(f"outbox/{key}.md", "To myself.", "Edited in the outbox.")
    project.sync()
    assert "To myself." == project.row(key)["body"]
    project.file(f"inbox/{key}.md").unlink()
    project.sync()
    assert {} == project.rows()
    os.utime(project.file(f"outbox/{key}.md"))
    project.sync()
    assert {} == project.rows()
    project.file(f"outbox/{key}.md").unlink()
    assert State.IN_SYNC is project.sync().state
    assert_quiet(project)


def test_a_twin_that_went_is_forgotten_and_makes_none_of_what_comes_later(
    project: Project,
) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    words = project.text(f"outbox/{key}.md")
    for folder in ("inbox", "outbox"):
        project.file(f"{folder}/{key}.md").unlink()
        project.sync()
    project.write(f"outbox/{key}.md", words)
    project.sync()
    assert "sent" == project.row(key)["status"]
    assert_quiet(project)


def test_a_twin_that_changes_as_the_message_goes_does_not_hold_it(project: Project) -> None:
    key = project.old.send(project.path, "Note", "To myself.")
    project.sync()
    project.file(f"inbox/{key}.md").unlink()
    os.utime(project.file(f"outbox/{key}.md"))
    project.sync()
    assert {} == project.rows()
    assert_quiet(project)


def test_g2_the_words_of_a_twin_outlive_it(project: Project) -> None:
    key = project.old.send(project.path, "To me", "Words.")
    project.sync()
    assert not project.sql("SELECT 1 FROM syncd_history")
    twin = f"outbox/{key}.md"
    project.edit(twin, "Words.", "Words of the twin.")
    project.sync()
    assert_quiet(project)
    project.edit(twin, "Words of the twin.", "Words.")
    project.sync()
    assert has_in_history(project, "Words of the twin.")


def test_a_row_to_oneself_makes_one_file(project: Project) -> None:
    key = project.new.send(project.path, "Note", "To myself.")
    project.sync()
    assert ([f"{key}.md"], []) == (project.names("inbox"), project.names("outbox"))
    assert_quiet(project)


# Migrating: one way ------------------------------------------------------------------------------


def test_migrating_touches_no_file_and_says_so_again_with_zero_changes(project: Project) -> None:
    for number in range(1, 6):
        project.receive(number)
    project.old.archive(ONE)
    project.old.send(project.other, "Out", "Going out.")
    project.write("inbox/by hand.md", NO_DATE)
    project.write("inbox/bad.md", "x")
    before = everything_but_the_database(project)
    report = project.sync(one_way=True)
    assert 7 == report.counts.rows_inserted
    assert before == everything_but_the_database(project)
    assert 0 == project.sync(one_way=True).counts.changes()
    assert 0 == project.sync(one_way=True, trust_stamps=False).counts.changes()
    assert before == everything_but_the_database(project)
    project.file("inbox/bad.md").unlink()
    assert 0 == project.sync().counts.changes()
    assert_in_step(project)


def everything_but_the_database(project: Project) -> dict[str, tuple[object, ...]]:
    found = everything(project)
    return {path: value for path, value in found.items() if "messaging.db" not in path}


def test_migrating_merges_with_a_database_that_exists(project: Project) -> None:
    insert(project, a_row(project, "only-row"))
    insert(project, a_row(project, ONE, subject="Subject 1", body="By SQL.", status="read"))
    insert(project, a_row(project, TWO, subject="Subject 2", body="Body 2.", status="archived"))
    for number in (1, 2, 3):
        project.receive(number)
    before = everything_but_the_database(project)
    project.sync(one_way=True)
    assert before == everything_but_the_database(project)
    assert {"only-row", ONE, TWO, THREE} == project.rows().keys()
    assert ("Body 1.", "read") == (project.row(ONE)["body"], project.row(ONE)["status"])
    assert "archived" == project.row(TWO)["status"]
    assert "By SQL." in project.kept_texts(ONE)
    rows = project.rows()
    assert 0 == project.sync(one_way=True).counts.changes()
    assert rows == project.rows()
    project.sync()
    assert_in_step(project)
    assert rows == project.rows()
    assert_quiet(project)


def test_migrating_again_brings_edits_and_deletes_nothing(project: Project) -> None:
    for number in (1, 2, 3):
        project.receive(number)
    project.sync(one_way=True)
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.file(f"inbox/{TWO}.md").unlink()
    report = project.sync(one_way=True)
    assert (1, 0) == (report.counts.rows_updated, report.counts.rows_deleted)
    assert {ONE, TWO, THREE} == project.rows().keys()
    assert "By hand." == project.row(ONE)["body"]


def test_a_migration_leaves_a_row_that_changed_while_its_file_went_to_a_sync(
    project: Project,
) -> None:
    project.receive(1)
    project.sync()
    project.file(AT_ONE).unlink()
    project.new.update(ONE, body="By SQL.")
    report = project.sync(one_way=True)
    assert (0, set(), True) == (report.counts.changes(), report.unsettled, report.is_partial)
    project.sync()
    assert "By SQL." == project.message_at(AT_ONE).body


def test_what_sql_changed_before_a_migration_is_heard_by_a_later_cycle(project: Project) -> None:
    project.receive(1)
    project.sync()
    project.new.update(ONE, subject="By SQL")
    assert 0 == project.sync(one_way=True).counts.changes()
    assert "Subject 1" == project.message_at(AT_ONE).subject
    project.scoped()
    assert "By SQL" == project.message_at(AT_ONE).subject
    assert_quiet(project)


# Leftovers, readers, and large numbers -----------------------------------------------------------


def test_g2_a_temporary_file_of_an_earlier_pass_is_taken_in(synced: Project) -> None:
    left = synced.text(AT_ONE).replace("Body 1.", "Of a late writer.")
    synced.write("inbox/.syncd-1-1-abcdef.tmp", left)
    synced.write("inbox/.syncd-1-2-abcdef.tmp", synced.text(AT_ONE))
    synced.sync()
    assert [] == list(synced.file("inbox").glob(".syncd-*"))
    everywhere = synced.kept_texts(ONE) + synced.row(ONE)["body"]
    assert "Of a late writer." in everywhere
    assert_in_step(synced)
    assert_quiet(synced)


def test_hidden_files_of_editors_are_not_messages(synced: Project) -> None:
    synced.write("inbox/.note.md.swp", "x")
    synced.write("inbox/._note.md", b"\0\5\x16\7")
    synced.file("inbox/.#note.md").symlink_to("me@host.123")
    synced.write("inbox/note.md~", "x")
    synced.write("inbox/4913", "")
    report = synced.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_quiet(synced)


def test_the_old_client_reads_every_file_and_the_new_one_every_row(synced: Project) -> None:
    for number, key in enumerate(ODD_IDS):
        insert(
            synced,
            a_row(
                synced,
                key,
                subject=["", "a\nb", "# x", "---"][number % 4],
                body=["", "# x", "a---\n---\nb", "B\n\n## Attachments\n\n- `a`"][number % 3],
                attachments=json.dumps([[], ["`"], ["a", "- b"]][number % 3]),
                metadata=json.dumps({"---": "---\n", "1e3": [1e3, "1e3", None]}),
                status=["unread", "archived", "sent", "no", "null"][number % 5],
            ),
        )
    synced.sync()
    for folder in FOLDERS:
        for name in synced.names(folder):
            parse_legacy(synced.file(f"{folder}/{name}").read_bytes())
    assert len(ODD_IDS) + 5 == len(synced.new.list())
    assert_in_step(synced)
    assert_quiet(synced)


def test_more_messages_than_one_batch(project: Project) -> None:
    for number in range(1, 131):
        project.receive(number)
    assert 130 == project.sync().counts.rows_inserted
    with project.connection() as connection:
        for number in range(131, 261):
            row = a_row(project, f"row-{number}")
            marks = ", ".join("?" * len(row))
            sql = f"INSERT INTO messages ({', '.join(row)}) VALUES ({marks})"
            connection.execute(sql, tuple(row.values()))
    assert 130 == project.sync().counts.files_created
    assert_in_step(project)
    names = project.names("inbox")
    for name in names:
        project.move(f"inbox/{name}", f"inbox/{name}.aside")
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        project.move(f"inbox/{name}.aside", f"inbox/{other}")
    project.sql("UPDATE messages SET subject = subject || '!'")
    rows = project.messages_in_rows()
    assert 260 == project.sync().counts.files_updated
    assert rows == project.messages_in_rows()
    assert_in_step(project)
    assert_quiet(project)


def _write_and_be_cut_off(synced: Project, *, is_new: bool) -> None:
    """Have a cycle write inbox/x.md from its row, and end before the baseline says so."""
    if is_new:
        insert(synced, a_row(synced, "x"))
    else:
        insert(synced, a_row(synced, "x", body="Before."))
        synced.sync()
        synced.new.update("x", body="From a row.")
    synced.sql(
        "CREATE TRIGGER cut BEFORE INSERT ON syncd_baseline "
        "BEGIN SELECT RAISE(ABORT, 'the baseline is not written'); END"
    )
    assert "the baseline is not written" in (synced.cycle().error or "")
    assert "From a row." in synced.text("inbox/x.md")
    synced.sql("DROP TRIGGER cut")


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
@pytest.mark.parametrize("folder", ["inbox/.archive", "outbox"])
def test_g7_a_move_of_a_file_that_a_cut_off_cycle_wrote_is_not_undone(
    synced: Project, folder: str, is_new: bool
) -> None:
    _write_and_be_cut_off(synced, is_new=is_new)
    synced.move("inbox/x.md", f"{folder}/x.md")
    synced.sync()
    assert {"outbox": "sent"}.get(folder, "archived") == synced.row("x")["status"]
    assert synced.file(f"{folder}/x.md").exists()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g7_a_move_that_a_crash_kept_from_an_edited_file_is_still_done(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **_options: object) -> None:
        raise SystemExit

    synced.new.update(ONE, body="By SQL.", status="archived")
    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "move", crash)
        with pytest.raises(SystemExit):
            synced.sync()
    assert "By SQL." in synced.text(AT_ONE)
    assert [] == synced.sync().conflicts
    assert "archived" == synced.row(ONE)["status"]
    assert synced.file(f"inbox/.archive/{ONE}.md").exists()
    assert_in_step(synced)


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
def test_g7_a_file_that_a_cut_off_cycle_wrote_is_no_edit_of_a_person(
    synced: Project, is_new: bool
) -> None:
    _write_and_be_cut_off(synced, is_new=is_new)
    synced.new.update("x", body="Newer words.")
    assert [] == synced.sync().conflicts
    assert "Newer words." in synced.text("inbox/x.md")
    assert_quiet(synced)


@pytest.mark.parametrize("is_written", [False, True], ids=["before its file", "behind its file"])
@pytest.mark.parametrize("is_scoped", [False, True])
@pytest.mark.parametrize("move", [False, True])
def test_g7_a_crash_before_a_new_files_baseline_undoes_no_delete_of_its_row(
    project: Project, monkeypatch: pytest.MonkeyPatch, is_written: bool, is_scoped: bool, move: bool
) -> None:
    def crash(*_: object, **_options: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        if is_written:
            patched.setattr(replica, "sync_names", crash)
        else:
            patched.setattr(FileReplica, "create", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    path = project.file("inbox/row.md")
    assert is_written is path.exists()
    if move and is_written:
        path.rename(project.file("inbox/row-2.md"))
    project.heed() if is_scoped else project.sync()
    project.sync()
    assert [] == [name for name in project.names("inbox") if name.startswith("row")]
    assert "row" not in project.rows()
    assert [] == project.sql("SELECT * FROM syncd_versions WHERE intent")
    assert 0 == project.sql("SELECT count(*) FROM syncd_baseline WHERE id = 'row'")[0][0]
    assert_in_step(project)
    assert_quiet(project)


def test_g7_a_cut_off_cycles_file_that_cannot_be_read_now_undoes_no_delete_of_its_row(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        patched.setattr(replica, "sync_names", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    project.move("inbox/row.md", "inbox/row-2.md")
    with project.file("inbox/row-2.md").open("r+b"):
        assert {"inbox/row-2.md"} == project.cycle().unsettled
    project.sync()
    project.sync()
    assert (1, 1) == (len(project.names("inbox")), len(project.rows()))
    assert_quiet(project)


def test_g7_a_deleted_row_takes_a_cut_off_cycles_file_along_without_a_full_look(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise SystemExit

    project.receive()
    project.sync()
    insert(project, a_row(project, "row"))
    with monkeypatch.context() as patched:
        patched.setattr(replica, "sync_names", crash)
        with pytest.raises(SystemExit):
            project.sync()
    project.sql("DELETE FROM messages WHERE id = 'row'")
    vanished = project.scoped("inbox/row.md").vanished
    project.scoped("inbox/row.md", gone=vanished)
    assert not project.file("inbox/row.md").exists()
    assert_in_step(project)


def test_g14_large_rows_are_taken_in_portions(project: Project) -> None:
    for number in (1, 2, 3):
        insert(project, a_row(project, f"row-{number}", body="w" * 4_000))
    ids = ["row-1", "none", "row-2", "row-3"]
    with Store.open(project.new.database) as store:
        store.prepare()
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.rows.in_portions(ids, 5_000))
        assert [ids] == list(store.rows.in_portions(ids, 50_000))
    project.sync()
    project.sql("DELETE FROM messages")
    with Store.open(project.new.database) as store:
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.rows.in_portions(ids, 5_000))


def test_g14_a_row_counts_as_many_bytes_as_it_has(project: Project) -> None:
    for number, body in enumerate(["\0" + "x" * 3_000, "\u20ac" * 1_000, "x"]):
        insert(project, a_row(project, f"row-{number}", body=body))
    ids = [f"row-{number}" for number in range(3)]
    with Store.open(project.new.database) as store:
        store.prepare()
        assert [ids[:1], ids[1:2], ids[2:]] == list(store.rows.in_portions(ids, 3_100))


def test_g9_all_that_a_cycle_heard_and_set_aside_is_recorded_in_portions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.sync()
    for number in range(25):
        insert(project, a_row(project, f"row-{number}"))
        project.write(f"inbox/odd-{number}.md", "no front matter")
    monkeypatch.setattr(condition, "_AT_ONCE", 10)
    held: list[int] = []
    writing = Store.writing

    @contextmanager
    def counted(store: Store, **options: bool) -> Iterator[None]:
        before = store.connection.total_changes
        with writing(store, **options):
            yield
            held.append(store.connection.total_changes - before)

    def record_findings(*arguments: Any) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(Store, "writing", counted)
            condition.record_findings(*arguments)

    monkeypatch.setattr(cycle, "record_findings", record_findings)
    report = project.sync()
    assert (25, 25) == (report.counts.files_created, len(report.quarantined))
    assert ([10] * 7, 5) == (held[:-1], held[-1])
    assert [(0, 25)] == project.sql(
        "SELECT (SELECT count(*) FROM syncd_feed), (SELECT count(*) FROM syncd_quarantine)"
    )


def test_g9_messages_that_are_new_in_files_are_inserted_in_portions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):
        project.receive(number, body=600 * "w")
    monkeypatch.setattr(bulk, "_AT_ONCE_BYTES", 2_000)
    inserted: list[int] = []
    writing = Store.writing

    @contextmanager
    def counted(store: Store, **options: bool) -> Iterator[None]:
        before = store.rows.count()
        with writing(store, **options):
            yield
            inserted.append(store.rows.count() - before)

    monkeypatch.setattr(Store, "writing", counted)
    assert 5 == project.sync().counts.rows_inserted
    assert [2, 2, 1] == [number for number in inserted if number]


def test_g15_one_entry_that_cannot_be_looked_at_closes_no_mailbox(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self._entry, self.name = entry, entry.name

        def stat(self, **options: bool) -> os.stat_result:
            if self.name == f"{ONE}.md":
                raise OSError(errno.EIO, "Input/output error")
            return self._entry.stat(**options)

    @contextmanager
    def scandir(fd: int) -> Iterator[Iterator[Entry]]:
        with real(fd) as entries:
            yield map(Entry, entries)

    new = synced.receive(77)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", scandir)
        report = synced.cycle()
    assert [(AT_ONE, "it cannot be looked at")] == [
        (entry.path, entry.problem.reason) for entry in report.quarantined
    ]
    assert {ONE, new} < synced.rows().keys()
    assert State.IN_SYNC is synced.sync().state


def test_g14_rows_are_read_in_portions_also_where_their_files_are_small(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_BATCH_BYTES", 1_000)
    asked: list[int] = []
    of = Rows.of

    def noted(rows: Rows, ids: Any) -> Any:
        found = of(rows, ids)
        asked.append(len(found))
        return found

    synced.sql("UPDATE messages SET body = body || hex(zeroblob(2000))")
    for path in list(synced.files()):
        synced.edit(path, "priority: ", "priority: 'urgent' #")
    monkeypatch.setattr(Rows, "of", noted)
    assert State.IN_SYNC is synced.sync().state
    assert {0, 1} >= set(asked)
    assert len(synced.rows()) == sum(row["priority"] == "urgent" for row in synced.rows().values())


def test_g6_a_message_that_went_from_where_it_was_quarantined_is_gone(synced: Project) -> None:
    synced.write(AT_ONE, "cut off")
    archived = f"inbox/.archive/{ONE}.md"
    assert State.ATTENTION is synced.cycle().state
    synced.move(AT_ONE, archived)
    assert State.ATTENTION is synced.cycle().state
    synced.file(archived).unlink()
    assert 1 == synced.sync().counts.rows_deleted


def test_the_feed_of_a_halted_project_does_not_grow_by_what_it_says_again(
    synced: Project,
) -> None:
    synced.file("inbox").rename(synced.path / "unmounted")
    for _ in range(5):
        synced.sql("UPDATE messages SET task_injected = task_injected + 1")
        assert State.HALTED is synced.cycle().state
    assert [(len(synced.rows()),)] == synced.sql("SELECT count(*) FROM syncd_feed")
    (synced.path / "unmounted").rename(synced.file("inbox"))
    synced.sync()
    assert_quiet(synced)


def test_a_file_that_cannot_be_replaced_is_kept_once_however_often_it_is_tried(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    synced.new.update(ONE, body="By SQL.")
    with monkeypatch.context() as patched:
        patched.setattr(replica, "exchange", refuse)
        for _ in range(3):
            assert "read-only" in (synced.cycle().error or "")
    (kept,) = [row for row in synced.history(ONE) if row["side"] == "file"]
    assert synced.file(AT_ONE).read_bytes() == kept["data"]
    assert 1 == synced.sync().counts.files_updated
    assert kept["version"] == max(row["version"] for row in synced.history(ONE))


def test_a_row_changed_by_sql_between_two_cycles_is_never_touched_in_other_columns(
    synced: Project,
) -> None:
    synced.sql("ALTER TABLE messages ADD COLUMN labels TEXT")
    synced.sql("UPDATE messages SET labels = 'mine', task_injected = 1, read_at = 'odd'")
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.sync()
    found = synced.sql("SELECT DISTINCT labels, task_injected, read_at FROM messages")
    assert [("mine", 1, "odd")] == found


def test_every_field_goes_both_ways(synced: Project) -> None:
    """One cycle for each field and side, so that no field is left out by accident."""
    text = {
        "from_project": ("from_project: ", "from_project: /p/hand # "),
        "from_agent": ("from_agent: pm", "from_agent: hand"),
        "to_project": ("to_project: ", "to_project: /p/hand # "),
        "to_agent": ("to_agent: pm", "to_agent: hand"),
        "type": ("type: task", "type: hand"),
        "priority": ("priority: normal", "priority: hand"),
        "subject": ("# Subject 1", "# hand"),
        "body": ("Body 1.", "hand"),
        "status": ("status: unread", "status: hand"),
        "created_at": ("created_at: '2026-02-20T", "created_at: '2027-02-20T"),
        "reply_to": ("reply_to: null", "reply_to: hand"),
        "metadata": ("priority: ", "metadata:\n  by: hand\npriority: "),
        "attachments": (None, "\n\n## Attachments\n\n- `hand`"),
    }
    assert set(FIELDS) == text.keys()
    values = {"created_at": "2028-01-01T00:00:00+00:00", "metadata": '{"by": "sql"}'}
    values |= {"attachments": '["sql"]'}
    columns = {"type": "message_type", "reply_to": "replied_to"}
    for name, (old, new) in text.items():
        if old is None:
            synced.write(AT_ONE, synced.text(AT_ONE) + new)
        else:
            synced.edit(AT_ONE, old, new)
        counts = synced.sync().counts
        assert (name, 1, 1) == (name, counts.rows_updated, counts.changes())
        assert_in_step(synced)
    for name in FIELDS:
        synced.new.update(ONE, **{columns.get(name, name): values.get(name, "sql")})
        counts = synced.sync().counts
        assert (name, 1, 1) == (name, counts.files_updated, counts.changes())
        assert_in_step(synced)
    assert_quiet(synced)


def test_a_lock_that_a_host_holds_for_a_moment_is_waited_for(synced: Project) -> None:
    synced.receive(7)
    with closing(sqlite3.connect(synced.new.database, isolation_level=None)) as host:
        host.execute("BEGIN IMMEDIATE")
        tell_of_waits(lambda waits: host.execute("COMMIT") if waits else None)
        try:
            assert 1 == synced.sync().counts.rows_inserted
        finally:
            tell_of_waits(lambda _: None)


def test_a_busy_project_is_said_to_be_busy(synced: Project) -> None:
    import fcntl

    busy = settings(busy_wait_s=0.0)
    synced.config = busy
    fd = os.open(synced.base, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        report = synced.cycle()
    finally:
        os.close(fd)
    assert report.busy
    assert str(synced.path) in str(report.error)


def test_two_projects_exchange_messages_by_both_kinds_of_clients(tmp_path: Path) -> None:
    """What an old client sends here, a new client over there reads, and the other way round."""
    here, there = Project(tmp_path / "here"), Project(tmp_path / "there")
    asked = OldClient(here.path).send(there.path, "Question", "How?")
    here.sync()
    there.sync()
    assert "How?" == there.new.read(asked)["body"]
    answered = there.new.send(here.path, "Answer", "So.", reply_to=asked)
    there.sync()
    here.sync()
    assert "So." == here.old.read(answered).body
    here.sync()
    there.sync()
    assert ("read", "sent") == (there.row(asked)["status"], here.row(asked)["status"])
    assert ("sent", "read") == (there.row(answered)["status"], here.row(answered)["status"])
    for project in (here, there):
        assert_in_step(project)
        assert_quiet(project)


@pytest.mark.parametrize("metadata", ["5", "0", "1.5", "true", '"abc"', '""', '"a b"', "[1, [2]]"])
def test_a_row_whose_metadata_is_no_mapping_becomes_a_file_as_any_other(
    tmp_path: Path, metadata: str
) -> None:
    project = Project(tmp_path / "p")
    project.sync()
    odd, plain = (project.new.send(project.other, "Subject", "Body") for _ in range(2))
    project.new.update(odd, metadata=metadata)
    assert 2 == project.sync().counts.files_created
    assert project.file(f"outbox/{plain}.md").exists()
    assert_in_step(project)
    assert_quiet(project)


def test_a_message_to_oneself_in_either_archive_is_archived(project: Project) -> None:
    for number, folder in enumerate(("archive", "inbox/.archive"), 1):
        key = project.receive(number)
        text = project.text(f"inbox/{key}.md").replace(str(project.other), str(project.path))
        project.file(f"inbox/{key}.md").unlink()
        for place in (folder, "outbox"):
            project.write(f"{place}/{key}.md", text)
    assert 2 == project.cycle(dry_run=True).counts.rows_inserted
    report = project.sync(one_way=True)
    assert (2, set()) == (report.counts.rows_inserted, report.unsettled)
    assert {"archived"} == {row["status"] for row in project.rows().values()}
    assert 0 == project.sync().counts.changes()
    assert_quiet(project)


def test_what_sql_takes_out_of_the_archive_is_so_for_the_old_client_too(project: Project) -> None:
    insert(project, a_row(project, "born-archived") | {"status": "archived"})
    project.sync()
    for status in ("read", "unread"):
        project.new.update("born-archived", status=status)
        project.sync()
        assert [status] == [message.status for message in project.old.list()]
        assert status == project.row("born-archived")["status"]
    assert_in_step(project)
    assert_quiet(project)


# Folders that cannot be written to ---------------------------------------------------------------


@contextmanager
def closed(folder: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have nothing go into a mailbox folder, as where its owner is somebody else."""
    write, rename = FileReplica._temporary, replica.rename_new

    def refuse(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(f"/.claude-mpm/{folder}"):
            raise PermissionError(errno.EACCES, "Permission denied")

    def refusing_write(self: FileReplica, fd: int, *rest: Any, **options: Any) -> tuple[str, Stamp]:
        refuse(fd)
        return write(self, fd, *rest, **options)

    def refusing_rename(fd: int, name: str, to_fd: int, to: str) -> None:
        refuse(to_fd)
        rename(fd, name, to_fd, to)

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "_temporary", refusing_write)
        patched.setattr(replica, "rename_new", refusing_rename)
        patched.setattr(intake, "_BATCH", 10)
        yield


def versions(project: Project) -> int:
    return int(project.sql("SELECT count(*) FROM syncd_versions")[0][0])


def test_g15_a_folder_that_cannot_be_written_to_is_tried_with_a_few_and_holds_up_no_other(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [project.receive(number) for number in range(1, 41)]
    project.sync()
    before = versions(project)
    with closed("inbox/.archive", monkeypatch):
        for key in keys[:30]:
            project.new.archive(key)
        project.new.update(keys[35], subject="From SQL")
        project.edit(f"inbox/{keys[29]}.md", "Body", "Words of a person: Body")
        report = project.cycle()
        assert "cannot move " in (report.error or "")
        counts = report.counts
        assert (29, 0, 1) == (report.more_errors, counts.files_moved, counts.files_updated)
        assert "Words of a person" in project.row(keys[29])["body"], "what both sides are to get"
        assert versions(project) - before <= 24, "of the first ten, and of the two others"
        assert 30 == project.cycle().more_errors + 1
    assert 30 == project.sync().counts.files_moved
    assert_in_step(project)
    assert_quiet(project)


def test_g15_an_outbox_that_cannot_be_written_to_is_tried_with_a_few(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.receive(1)
    project.sync()
    for number in range(30):
        project.new.send(project.other, f"Subject {number}", "Words")
    with closed("outbox", monkeypatch):
        report = project.cycle()
        assert "cannot write " in (report.error or "")
        assert (29, 0) == (report.more_errors, report.counts.files_created)
        assert versions(project) <= 12, "of the first ten"
    assert 30 == project.sync().counts.files_created
    assert_in_step(project)
    assert_quiet(project)
