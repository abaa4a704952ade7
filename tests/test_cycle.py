"""Whole cycles over real files and a real database; tests of a guarantee bear its number."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd import cycle
from syncd.errors import ReplicaError
from syncd.files import FileReplica
from syncd.look import Look, look_fully
from syncd.message import FIELDS, FOLDERS, file_name
from syncd.report import State
from syncd.sides import Side
from syncd.snapshot import TICK_S, Stamp, Version
from syncd.store import Store
from tests.clients import SCHEMA, NewClient, OldClient, Row, parse_legacy
from tests.projects import Project, assert_in_step, assert_quiet, moment, nothing_written, settings


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "p")


@pytest.fixture
def synced(project: Project) -> Project:
    """A project with three messages in the inbox, one archived and one sent, in step."""
    for number in (1, 2, 3):
        project.receive(number)
    project.old.archive(project.receive(4))
    project.old.send(project.other, "Out", "Going out.", id=SENT, created_at=moment(5))
    project.sync()
    assert_in_step(project)
    return project


ONE, TWO, THREE, ARCHIVED = (f"msg-20260220-{number:06d}-00000000" for number in (1, 2, 3, 4))
SENT = "msg-20260220-000005-00000000"
AT_ONE = f"inbox/{ONE}.md"


def a_row(project: Project, message_id: str, **columns: object) -> Row:
    """Return a row as new clients insert it."""
    row: Row = {
        "id": message_id,
        "from_project": str(project.other),
        "from_agent": "pm",
        "to_project": str(project.path),
        "to_agent": "pm",
        "message_type": "task",
        "priority": "normal",
        "subject": "By SQL",
        "body": "From a row.",
        "status": "unread",
        "created_at": "2026-02-20T00:00:00+00:00",
    }
    return row | columns


def insert(project: Project, row: Row) -> None:
    if not project.new.database.exists():
        project.new.list()
    marks = ", ".join("?" * len(row))
    project.sql(f"INSERT INTO messages ({', '.join(row)}) VALUES ({marks})", *row.values())


def path_of(project: Project, message_id: str) -> str:
    """Return the path of the one file of a message."""
    found = [
        f"{folder}/{name}"
        for folder in FOLDERS
        for name in project.names(folder)
        if project.message_at(f"{folder}/{name}").id == message_id
    ]
    assert 1 == len(found), found
    return found[0]


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


def test_reading_by_the_old_client_sets_read_at(synced: Project) -> None:
    synced.old.read(ONE)
    assert 1 == synced.sync().counts.rows_updated
    row = synced.row(ONE)
    assert "read" == row["status"]
    assert row["read_at"] is not None
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


def drop_ours(project: Project, *, triggers_only: bool = False) -> None:
    for kind, name in project.sql(
        "SELECT type, name FROM sqlite_master WHERE name LIKE 'syncd%' AND type = 'trigger'"
    ):
        project.sql(f"DROP {kind} {name}")
    if not triggers_only:
        for kind, name in project.sql(
            "SELECT type, name FROM sqlite_master WHERE name LIKE 'syncd%' AND type = 'table'"
        ):
            project.sql(f"DROP {kind} {name}")


def test_g5_files_that_vanished_before_the_first_sync_are_made_from_the_rows(
    project: Project,
) -> None:
    insert(project, a_row(project, "a"))
    project.sync()
    assert ["a.md"] == project.names("inbox")


# G6: halts ---------------------------------------------------------------------------------------


@pytest.fixture
def crowd(project: Project) -> Project:
    """A project with 40 messages in the inbox and 10 in the archive, in step."""
    for number in range(1, 51):
        key = project.receive(number)
        if number > 40:
            project.old.archive(key)
    project.sync()
    return project


def inbox_files(project: Project) -> list[Path]:
    return sorted(project.file("inbox").glob("*.md"))


def assert_halted(project: Project, word: str, **orders: object) -> None:
    """Assert that a cycle halts, saying ``word``, and changes nothing that stands on a side."""
    files, rows = project.files(), project.rows()
    report = project.cycle(**orders)
    assert State.HALTED is report.state
    assert report.halt is not None
    assert word in report.halt.cause
    assert 0 == report.counts.changes()
    assert (files, rows) == (project.files(), project.rows())


def test_g6_an_emptied_folder_halts_and_its_return_resumes(crowd: Project) -> None:
    aside = crowd.path.parent / "aside"
    aside.mkdir()
    for path in inbox_files(crowd):
        path.rename(aside / path.name)
    assert_halted(crowd, "40")
    assert_halted(crowd, "40")
    for path in aside.iterdir():
        path.rename(crowd.file("inbox") / path.name)
    report = crowd.sync()
    assert (State.IN_SYNC, 0) == (report.state, report.counts.changes())
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_missing_folder_halts_and_its_return_resumes(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    assert_halted(crowd, "inbox is missing")
    assert not crowd.file("inbox").exists()
    crowd.file("away").rename(crowd.file("inbox"))
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)


def test_g6_a_missing_folder_halts_even_for_one_message(project: Project) -> None:
    project.old.send(project.other, "Out", "Going out.")
    project.receive(1)
    project.sync()
    project.file("outbox").rename(project.base / "away")
    assert_halted(project, "outbox is missing")


def test_g6_a_folder_that_was_made_anew_halts(crowd: Project) -> None:
    aside = crowd.base / "aside"
    crowd.file("inbox").rename(aside)
    crowd.file("inbox").mkdir()
    (aside / ".archive").rename(crowd.file("inbox/.archive"))
    for path in sorted(aside.glob("*.md"))[1:]:
        shutil.copy2(path, crowd.file("inbox") / path.name)
    assert_halted(crowd, "inbox was replaced: 1 message")


def test_a_folder_that_was_made_anew_with_all_that_was_in_it_is_no_halt(crowd: Project) -> None:
    shutil.copytree(crowd.file("inbox"), crowd.base / "copy")
    shutil.rmtree(crowd.file("inbox"))
    crowd.file("copy").rename(crowd.file("inbox"))
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)
    inbox_files(crowd)[0].unlink()
    assert 1 == crowd.sync().counts.rows_deleted


def test_g6_a_missing_folder_can_be_made_again_from_the_rows(crowd: Project) -> None:
    before = crowd.messages_in_rows()
    shutil.rmtree(crowd.file("inbox"))
    assert_halted(crowd, "is missing")
    assert 50 == crowd.sync(restore=True).counts.files_created
    assert before == crowd.messages_in_files()
    assert_quiet(crowd)


def test_g6_a_missing_folder_can_be_given_up(crowd: Project) -> None:
    shutil.rmtree(crowd.file("inbox"))
    assert_halted(crowd, "is missing")
    assert 50 == crowd.sync(accept_deletes=True).counts.rows_deleted
    assert_quiet(crowd)
    insert(crowd, a_row(crowd, "new-row"))
    assert None is crowd.heed().halt
    assert ["new-row.md"] == crowd.names("inbox")
    assert_quiet(crowd)


@pytest.mark.parametrize("instead", ["a file", "a link to the folder", "a link to nowhere"])
def test_g6_a_folder_that_is_no_folder_any_more_halts(crowd: Project, instead: str) -> None:
    inbox, aside = crowd.file("inbox"), crowd.path.parent / "aside"
    inbox.rename(aside)
    if instead == "a file":
        inbox.write_text("no folder")
    else:
        inbox.symlink_to(aside if instead == "a link to the folder" else "nowhere")
    rows = crowd.rows()
    report = crowd.cycle()
    assert State.HALTED is report.state
    assert rows == crowd.rows()
    inbox.unlink()
    aside.rename(inbox)
    assert 0 == crowd.sync().counts.changes()


def test_g6_a_mass_delete_of_files_halts_and_can_be_accepted(crowd: Project) -> None:
    for path in inbox_files(crowd)[:21]:
        path.unlink()
    assert_halted(crowd, "21 of 50 files")
    assert 21 == crowd.sync(accept_deletes=True).counts.rows_deleted
    assert 29 == len(crowd.rows())
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_mass_delete_of_rows_halts_and_can_be_accepted(crowd: Project) -> None:
    crowd.sql("DELETE FROM messages WHERE rowid IN (SELECT rowid FROM messages LIMIT 21)")
    assert_halted(crowd, "21 of 50 rows")
    assert 21 == crowd.sync(accept_deletes=True).counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.mark.parametrize("side", Side)
def test_g6_a_mass_delete_can_be_undone(crowd: Project, side: Side) -> None:
    before = crowd.messages_in_rows()
    if side is Side.FILE:
        for path in inbox_files(crowd):
            path.unlink()
    else:
        crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "40" if side is Side.FILE else "50")
    report = crowd.sync(restore=True)
    restored = report.counts.files_created if side is Side.FILE else report.counts.rows_inserted
    assert (40 if side is Side.FILE else 50) == restored
    assert before == crowd.messages_in_rows()
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_rows_that_come_back_end_the_halt(crowd: Project) -> None:
    crowd.sql("CREATE TABLE aside AS SELECT * FROM messages")
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50")
    crowd.sql("INSERT INTO messages SELECT * FROM aside")
    assert 0 == crowd.sync().counts.changes()
    assert_quiet(crowd)


def test_twenty_deletes_are_no_halt(crowd: Project) -> None:
    for path in inbox_files(crowd)[:20]:
        path.unlink()
    assert 20 == crowd.sync().counts.rows_deleted
    assert_quiet(crowd)


def test_g6_the_clean_up_of_archived_rows_is_no_halt(crowd: Project) -> None:
    for number in range(60, 90):
        crowd.old.archive(crowd.receive(number))
    crowd.sync()
    assert 40 == crowd.sql("SELECT count(*) FROM messages WHERE status = 'archived'")[0][0]
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    report = crowd.sync()
    assert 40 == report.counts.files_deleted
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_archived_rows_that_nobody_saw_deleted_are_a_mass_delete(crowd: Project) -> None:
    drop_ours(crowd, triggers_only=True)
    crowd.sql("DELETE FROM messages WHERE status = 'archived'")
    assert_halted(crowd, "10")


def test_messages_gone_on_both_sides_do_not_count(crowd: Project) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    crowd.sql("DELETE FROM messages WHERE status != 'archived'")
    assert 0 == crowd.sync().counts.changes()
    assert 10 == len(crowd.rows())
    assert_quiet(crowd)


def test_archiving_the_whole_inbox_is_no_halt(crowd: Project) -> None:
    for path in inbox_files(crowd):
        path.rename(crowd.file("inbox/.archive") / path.name)
    assert 40 == crowd.sync().counts.rows_updated
    assert {"archived"} == {row["status"] for row in crowd.rows().values()}
    assert_quiet(crowd)


def test_g6_an_id_rewritten_in_many_files_is_a_mass_delete(crowd: Project) -> None:
    for path in inbox_files(crowd)[:30]:
        path.write_bytes(path.read_bytes().replace(b"id: msg-", b"id: renamed-", 1))
    assert_halted(crowd, "30 of 50 files")


def test_g6_an_id_rewritten_in_many_rows_is_a_mass_delete(crowd: Project) -> None:
    crowd.sql("UPDATE messages SET id = 'x' || id WHERE status != 'archived'")
    assert_halted(crowd, "40 of 50 rows")


def test_g6_all_of_an_archive_in_two_folders_gone_halts(project: Project) -> None:
    first, second = project.receive(1), project.receive(2)
    project.receive(3)
    project.move(f"inbox/{first}.md", f"inbox/.archive/{first}.md")
    project.move(f"inbox/{second}.md", f"archive/{second}.md")
    project.sync()
    project.file(f"inbox/.archive/{first}.md").unlink()
    project.file(f"archive/{second}.md").unlink()
    assert_halted(project, "all 2 files")


def test_g6_a_scoped_cycle_in_a_halted_project_changes_nothing(crowd: Project) -> None:
    for path in inbox_files(crowd)[:25]:
        path.unlink()
    assert State.HALTED is crowd.cycle().state
    new = crowd.receive(99)
    crowd.new.update(ARCHIVED, subject="Meanwhile")
    insert(crowd, a_row(crowd, "new-row"))
    files = crowd.files()
    report = crowd.scoped(f"inbox/{new}.md")
    assert State.HALTED is report.state
    assert new not in crowd.rows()
    assert files == crowd.files()
    crowd.sync(restore=True)
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_halt_stays_while_files_come_back_one_by_one(crowd: Project) -> None:
    aside = crowd.path.parent / "aside"
    aside.mkdir()
    for path in inbox_files(crowd):
        path.rename(aside / path.name)
    assert_halted(crowd, "40")
    for number, path in enumerate(sorted(aside.iterdir())):
        path.rename(crowd.file("inbox") / path.name)
        report = crowd.scoped(f"inbox/{path.name}") if number % 2 else crowd.cycle()
        assert (number < 39) == (report.halt is not None), number
        assert 0 == report.counts.changes()
    assert State.IN_SYNC is crowd.sync().state
    assert_in_step(crowd)
    assert_quiet(crowd)


def test_g6_a_halt_stays_while_rows_come_back_one_by_one(crowd: Project) -> None:
    crowd.sql("CREATE TABLE aside AS SELECT * FROM messages")
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "50")
    for number, key in enumerate(sorted(row[0] for row in crowd.sql("SELECT id FROM aside"))):
        crowd.sql("INSERT INTO messages SELECT * FROM aside WHERE id = ?", key)
        report = crowd.scoped() if number % 2 else crowd.cycle()
        assert (number < 49) == (report.halt is not None), number
        assert 0 == report.counts.changes()
    assert State.IN_SYNC is crowd.sync().state
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.fixture
def unwritable_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every change to a file of the archive refused."""

    def refusing(method: str) -> None:
        do = getattr(FileReplica, method)

        def refuse(self: FileReplica, path: str, *arguments: Any, **options: Any) -> Any:
            if path.startswith("inbox/.archive/"):
                raise ReplicaError(f"cannot {method} {path}: permission denied")
            return do(self, path, *arguments, **options)

        monkeypatch.setattr(FileReplica, method, refuse)

    for method in ("create", "replace", "delete"):
        refusing(method)


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_that_deletes_were_accepted_ends_with_the_cycle_also_where_that_had_an_error(
    crowd: Project,
) -> None:
    paths = inbox_files(crowd)
    for path in paths[:30]:
        path.unlink()
    assert_halted(crowd, "30")
    crowd.sql("UPDATE messages SET subject = 'New' WHERE status = 'archived'")
    report = crowd.cycle(accept_deletes=True)
    assert "permission denied" in (report.error or "")
    assert 30 == report.counts.rows_deleted
    assert [(None,)] == crowd.sql("SELECT value FROM syncd_state WHERE key = 'halt'")
    crowd.file("inbox").rename(crowd.base / "away")
    report = crowd.cycle()
    assert (0, "is missing") == (
        report.counts.rows_deleted,
        report.halt and report.halt.cause[6:16],
    )


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_what_could_not_be_brought_back_is_not_deleted_by_the_next_cycle(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = crowd.messages_in_rows()
    name = crowd.names("inbox/.archive")[0]
    crowd.file(f"inbox/.archive/{name}").unlink()
    crowd.file(f"inbox/{crowd.names('inbox')[0]}").unlink()
    report = crowd.cycle(restore=True)
    assert ("permission denied" in (report.error or ""), 1) == (True, report.counts.files_created)
    (halt,) = crowd.sql("SELECT value FROM syncd_state WHERE key = 'halt'")[0]
    assert ["what is gone could not all be brought back", "file", 1, 50] == json.loads(halt)
    assert_halted(crowd, "1 of 50 files are still gone")
    monkeypatch.undo()
    assert 1 == crowd.sync(restore=True).counts.files_created
    assert before == crowd.messages_in_rows()
    assert_in_step(crowd)
    assert_quiet(crowd)


@pytest.mark.usefixtures("unwritable_archive")
def test_g6_what_could_not_be_deleted_needs_a_decision_again(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd.sql("DELETE FROM messages")
    assert_halted(crowd, "40 of 50 rows")
    report = crowd.cycle(accept_deletes=True)
    assert ("permission denied" in (report.error or ""), 40) == (True, report.counts.files_deleted)
    monkeypatch.undo()
    assert_halted(crowd, "10 rows")
    assert 10 == crowd.sync(accept_deletes=True).counts.files_deleted
    assert {} == crowd.rows()
    assert_quiet(crowd)


@pytest.mark.parametrize("decision", ["accept-deletes", "restore"])
def test_g16_a_dry_run_heeds_a_decision_that_a_crash_cut_off(crowd: Project, decision: str) -> None:
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40")
    sql = "INSERT OR REPLACE INTO syncd_state VALUES (?, ?)"
    crowd.sql(sql, "decision", json.dumps(decision))
    with nothing_written(crowd):
        told = crowd.cycle(dry_run=True)
    assert (told.halt, 40) == (None, told.counts.changes())
    done = crowd.sync()
    assert told.counts == done.counts
    assert [] == crowd.sql("SELECT 1 FROM syncd_state WHERE key = 'decision' AND value NOT NULL")


def test_a_folder_that_went_while_it_was_empty_is_missed_no_more(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = crowd.file("outbox")
    outbox.mkdir(exist_ok=True)
    crowd.sync()
    full_looks = []

    def looking(*arguments: Any, **options: Any) -> Look:
        full_looks.append(True)
        return look_fully(*arguments, **options)

    monkeypatch.setattr(cycle, "look_fully", looking)
    outbox.rmdir()
    crowd.scoped()
    assert [True] == full_looks
    crowd.scoped()
    assert [True] == full_looks
    crowd.file("inbox/.archive").rename(crowd.base / "away")
    assert "is missing" in crowd.scoped().halt.cause


def test_g6_the_return_of_a_folder_resumes_with_any_cycle(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    assert State.HALTED is crowd.cycle().state
    crowd.file("away").rename(crowd.file("inbox"))
    assert State.IN_SYNC is crowd.scoped().state
    assert_quiet(crowd)


def test_g6_a_scoped_cycle_writes_nothing_into_a_project_whose_folder_is_away(
    crowd: Project,
) -> None:
    crowd.file("inbox").rename(crowd.base / "away")
    insert(crowd, a_row(crowd, "new-row"))
    report = crowd.scoped()
    assert not crowd.file("inbox").exists()
    assert State.HALTED is report.state
    crowd.file("away").rename(crowd.file("inbox"))
    crowd.sync()
    assert "new-row.md" in crowd.names("inbox")
    assert_in_step(crowd)


def test_g6_a_mass_delete_seen_by_a_scoped_cycle_halts(crowd: Project) -> None:
    names = [f"inbox/{path.name}" for path in inbox_files(crowd)]
    for path in inbox_files(crowd):
        path.unlink()
    assert_halted(crowd, "40 of 50 files", paths=frozenset(names), gone=frozenset(names))


def test_g6_a_folder_that_was_accepted_as_it_is_now_halts_no_more(crowd: Project) -> None:
    crowd.file("inbox").rename(crowd.base / "aside")
    crowd.receive(60)
    crowd.receive(61)
    crowd.move("aside/.archive", "inbox/.archive")
    assert_halted(crowd, "inbox was replaced")
    crowd.sync(accept_deletes=True)
    assert_in_step(crowd)
    gone = inbox_files(crowd)[0]
    gone.unlink()
    report = crowd.scoped(gone=[f"inbox/{gone.name}"])
    assert (None, 1) == (report.halt, report.counts.rows_deleted)


def test_g6_a_halt_in_one_project_leaves_others_alone(crowd: Project, tmp_path: Path) -> None:
    other = Project(tmp_path / "q")
    other.receive(1)
    crowd.file("inbox").rename(crowd.base / "away")
    assert State.HALTED is crowd.cycle().state
    assert 1 == other.sync().counts.rows_inserted


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


BY_HAND = """\
\ufeff---
# from the stand-up
id: by-hand
from_agent: "pm"   # me
to_agent: 'engineer'
owner: somebody
type: task
from_project: /p/a
to_project: /p/b
created_at: 2026-02-20T20:15:00Z
priority: high
---
# A title\r
\r
Words.\r


"""


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


# G12: foreign SQL --------------------------------------------------------------------------------


def foreign_replace(project: Project) -> None:
    project.new.replace(a_row(project, ONE, subject="Replaced", status="read"))


def foreign_id_change(project: Project) -> None:
    project.sql("UPDATE messages SET id = 'another' WHERE id = ?", ONE)


def foreign_id_swap(project: Project) -> None:
    with project.connection() as connection:
        for was, becomes in ((ONE, "aside"), (TWO, ONE), ("aside", TWO)):
            connection.execute("UPDATE messages SET id = ? WHERE id = ?", (becomes, was))


def foreign_id_taken_over(project: Project) -> None:
    project.sql("UPDATE OR REPLACE messages SET id = ? WHERE id = ?", ONE, TWO)


def foreign_bulk_delete(project: Project) -> None:
    project.sql("DELETE FROM messages WHERE id IN (?, ?)", ONE, ARCHIVED)


def foreign_bulk_update(project: Project) -> None:
    project.sql("UPDATE messages SET subject = upper(subject), status = 'read'")


def foreign_upsert(project: Project) -> None:
    project.sql(
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at) "
        "VALUES (?, 'a', 'b', 'Up', 'Sert', '2026-02-20') "
        "ON CONFLICT (id) DO UPDATE SET subject = excluded.subject",
        ONE,
    )


def foreign_column(project: Project) -> None:
    project.sql("ALTER TABLE messages ADD COLUMN labels TEXT NOT NULL DEFAULT 'x'")
    insert(project, a_row(project, "with-label", labels="y"))


def foreign_column_in_front(project: Project) -> None:
    rebuild(project, "labels TEXT DEFAULT 'x', ")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def foreign_rebuild(project: Project) -> None:
    rebuild(project)
    project.sql("DELETE FROM messages WHERE id = ?", ONE)
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", TWO)


def foreign_rebuild_without_keys(project: Project) -> None:
    project.sql("CREATE TABLE fresh AS SELECT * FROM messages")
    project.sql("DROP TABLE messages")
    project.sql("ALTER TABLE fresh RENAME TO messages")
    insert(project, a_row(project, "fresh-row"))


def foreign_rename_and_back(project: Project) -> None:
    project.sql("ALTER TABLE messages RENAME TO elsewhere")
    project.sql("ALTER TABLE elsewhere RENAME TO messages")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def foreign_drop_of_triggers(project: Project) -> None:
    drop_ours(project, triggers_only=True)
    project.sql("DELETE FROM messages WHERE id = ?", ONE)
    insert(project, a_row(project, "unheard"))
    project.sql("UPDATE messages SET body = 'Unheard.' WHERE id = ?", TWO)


def foreign_unique_index(project: Project) -> None:
    project.sql("CREATE UNIQUE INDEX one_subject ON messages(subject)")
    project.new.replace(a_row(project, "replacing", subject="Subject 1"))


def foreign_vacuum(project: Project) -> None:
    project.sql("DELETE FROM messages WHERE id = ?", TWO)
    with closing(sqlite3.connect(project.new.database, isolation_level=None)) as connection:
        connection.execute("VACUUM")


def foreign_trigger(project: Project) -> None:
    project.sql("CREATE TABLE audit (id)")
    project.sql(
        "CREATE TRIGGER audit_update AFTER UPDATE ON messages BEGIN "
        "INSERT INTO audit VALUES (NEW.id); END"
    )
    project.new.read(ONE)


def foreign_rollback_journal(project: Project) -> None:
    with closing(sqlite3.connect(project.new.database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    project.sql("UPDATE messages SET subject = 'After' WHERE id = ?", ONE)


def rebuild(project: Project, extra: str = "") -> None:
    """Rebuild the table as SQLite's manual has it: make, copy, drop, rename."""
    columns = "id, from_project, from_agent, to_project, to_agent, message_type, priority, "
    columns += "subject, body, status, created_at, read_at, replied_to, task_injected, metadata, "
    columns += "attachments"
    with project.connection() as connection:
        ddl = SCHEMA[0].replace("EXISTS messages (", f"EXISTS fresh ({extra}")
        connection.execute(ddl)
        connection.execute(f"INSERT INTO fresh ({columns}) SELECT {columns} FROM messages")
        connection.execute("DROP TABLE messages")
        connection.execute("ALTER TABLE fresh RENAME TO messages")


FOREIGN = {
    name.removeprefix("foreign_").replace("_", " "): function
    for name, function in list(globals().items())
    if name.startswith("foreign_")
}


@pytest.fixture(params=FOREIGN.values(), ids=FOREIGN.keys())
def foreign(request: pytest.FixtureRequest) -> Callable[[Project], None]:
    done: Callable[[Project], None] = request.param
    return done


def test_g12_after_foreign_sql_the_files_are_as_the_rows_say(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    foreign(synced)
    wanted = synced.messages_in_rows()
    report = synced.sync()
    assert [] == report.conflicts
    assert wanted == synced.messages_in_rows()
    assert_in_step(synced)
    assert_quiet(synced)
    synced.new.update(THREE, subject="Heard again")
    synced.scoped()
    assert_in_step(synced)


def test_g12_foreign_sql_seen_by_the_feed_ends_as_after_a_full_compare(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    """A scoped cycle may miss what escapes the triggers; the full one after it has to mend it."""
    foreign(synced)
    wanted = synced.messages_in_rows()
    synced.heed()
    assert wanted == synced.messages_in_rows()
    synced.sync()
    assert wanted == synced.messages_in_rows()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g12_what_foreign_sql_overwrites_is_kept(
    synced: Project, foreign: Callable[[Project], None]
) -> None:
    before = synced.messages_in_rows()
    foreign(synced)
    synced.sync()
    after = synced.messages_in_rows()
    for key, message in before.items():
        if key not in after or after[key].body != message.body:
            assert message.body in synced.kept_texts(key), key
        if key not in after or after[key].subject != message.subject:
            assert message.subject in synced.kept_texts(key), key


def test_g12_a_restored_backup_is_merged_with_what_the_files_have_now(synced: Project) -> None:
    synced.new.send(synced.other, "Before", "Stood in the backup.", id="kept")
    synced.sync()
    backup = synced.base.parent / "backup.db"
    with closing(sqlite3.connect(synced.new.database)) as source:
        source.execute("VACUUM INTO ?", (str(backup),))
    later = synced.receive(20)
    synced.edit(AT_ONE, "Body 1.", "Edited later.")
    synced.file(f"inbox/{TWO}.md").unlink()
    synced.old.archive(THREE)
    synced.sync()
    files = synced.messages_in_files()
    for path in synced.base.glob("messaging.db*"):
        path.unlink()
    backup.rename(synced.new.database)
    synced.sync()
    assert files == synced.messages_in_rows()
    assert later in files
    assert_in_step(synced)
    assert_quiet(synced)


def test_g12_a_missing_column_is_said_and_nothing_is_harmed(synced: Project) -> None:
    drop_ours(synced, triggers_only=True)
    synced.sql("ALTER TABLE messages RENAME COLUMN read_at TO seen_at")
    files = synced.files()
    report = synced.cycle()
    assert State.ERROR is report.state
    assert "read_at" in str(report.error)
    assert files == synced.files()
    synced.sql("UPDATE messages SET subject = 'Hosts still write' WHERE id = ?", ONE)
    synced.sql("ALTER TABLE messages RENAME COLUMN seen_at TO read_at")
    synced.sync()
    assert_in_step(synced)


def test_g12_the_triggers_never_fail_a_hosts_write(synced: Project) -> None:
    synced.sql("UPDATE messages SET body = x'00ff', metadata = 1.5 WHERE id = ?", ONE)
    synced.sql("UPDATE messages SET id = NULL WHERE id = ?", TWO)
    synced.sql("INSERT OR REPLACE INTO messages SELECT * FROM messages")
    synced.sql("INSERT OR IGNORE INTO messages SELECT * FROM messages")
    synced.sql("DELETE FROM messages")
    insert(synced, a_row(synced, "one more"))
    assert 1 == synced.sql("SELECT count(*) FROM messages")[0][0]


# G14: hostile and odd input ----------------------------------------------------------------------

ODD_IDS = [
    *("../../escape", "/etc/escape", "..", ".", "", " ", ".hidden", "a/b", "a\\b", "-rf", "~"),
    *("nul", "CON", "com1.txt", "a\0b", "a\nb", "tab\t", "x" * 5000, "📬" * 100, "null", "0123"),
    *("a.md", "%2e%2e", "é", "e\u0301", "MSG-1", "msg-1", "no", "- a", "#", "'", '"', "a: b"),
    *(".syncd-1-1-abc.tmp", "\x7f", "\u202e", "a" * 199 + "é"),
]


def test_g14_no_id_of_a_row_leads_outside_its_mailbox(project: Project) -> None:
    for key in ODD_IDS:
        insert(project, a_row(project, key, body=f"Body of {key!r}."))
    outside = set(project.path.parent.rglob("*")) - set(project.base.rglob("*"))
    report = project.sync()
    assert [] == report.quarantined
    assert len(ODD_IDS) == report.counts.files_created == len(project.names("inbox"))
    assert outside == set(project.path.parent.rglob("*")) - set(project.base.rglob("*"))
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)
    project.sql("UPDATE messages SET status = 'archived', body = body || ' Again.'")
    project.sync()
    assert len(ODD_IDS) == len(project.names("inbox/.archive"))
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)


def test_g14_no_id_of_a_file_leads_outside_its_mailbox(project: Project) -> None:
    for number, key in enumerate(ODD_IDS):
        quoted = yaml.safe_dump(key, default_style='"', width=10**6).rstrip()
        said = BY_HAND.replace("id: by-hand", f"id: {quoted}")
        project.write(f"inbox/{number}.md", said)
    before = project.files()
    report = project.sync()
    assert [] == report.quarantined
    assert before == project.files()
    assert sorted(ODD_IDS) == sorted(project.rows())
    for number, key in enumerate(ODD_IDS):
        column = {"status": "archived"} if number % 2 else {"subject": "By SQL"}
        project.new.update(key, **column)
    project.sync()
    assert {"inbox", "messaging.db"} == {path.name for path in project.base.iterdir()}
    assert_in_step(project)
    assert_quiet(project)


def test_g14_file_names_are_plain_short_and_one_for_each_id() -> None:
    names = [file_name(key) for key in ODD_IDS]
    assert len(names) == len(set(names))
    for name in names:
        assert name.endswith(".md")
        assert not name.startswith(".")
        assert not set("/\\\0\n") & set(name)
        assert len(os.fsencode(name)) <= 255


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "device", "socket"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_g14_what_is_no_regular_file_is_left_alone(
    synced: Project, kind: str, known: bool, request: pytest.FixtureRequest
) -> None:
    path = synced.file(AT_ONE if known else "inbox/odd.md")
    secret = synced.path.parent / "secret.md"
    secret.write_text(synced.text(AT_ONE).replace("Body 1.", "Secret."))
    if known:
        path.unlink()
    make_odd(kind, path, secret)
    rows = synced.rows()
    report = synced.sync()
    assert rows == synced.rows()
    assert [f"inbox/{path.name}"] == [entry.path for entry in report.quarantined]
    assert_quiet(synced)
    if known:
        synced.new.update(ONE, subject="Meanwhile")
        synced.scoped()
        synced.sync()
        synced.new.archive(ONE)
        synced.sync()
    assert "Secret." in secret.read_text()
    assert "Secret." not in {row["body"] for row in synced.rows().values()}
    assert path.is_symlink() or path.exists()
    assert not stat.S_ISREG(path.lstat().st_mode)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    report = synced.sync()
    assert [] == report.quarantined
    assert_in_step(synced)


def make_odd(kind: str, path: Path, target: Path) -> None:
    match kind:
        case "link":
            path.symlink_to(target)
        case "dangling link":
            path.symlink_to(target.with_name("nothing.md"))
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            if os.geteuid() != 0:
                pytest.skip("only root can make a device")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        case "socket":
            os.mknod(path, stat.S_IFSOCK | 0o600)


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder", "device", "socket"])
@pytest.mark.parametrize("dry_run", [False, True], ids=["sync", "dry run"])
def test_g14_a_database_that_is_no_regular_file_is_an_error_and_blocks_nothing(
    project: Project, kind: str, dry_run: bool
) -> None:
    project.receive(1)
    target = project.path.parent / "target.db"
    NewClient(project.other).list()
    shutil.copy2(NewClient(project.other).database, target)
    before = target.read_bytes()
    make_odd(kind, project.new.database, target)
    code = (
        "import sys; from pathlib import Path; from syncd.project import run_pass; "
        "from syncd.config import Config; from syncd.orders import Orders; "
        f"report = run_pass(Path(sys.argv[1]), Config(gone_s=0.0), Orders(dry_run={dry_run})); "
        "print(report.state, '|', report.error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(project.path)],
        capture_output=True,
        text=True,
        timeout=10,
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert "" == done.stderr
    assert done.stdout.startswith("error | ")
    assert before == target.read_bytes()


def test_g14_a_mailbox_that_is_a_link_is_not_followed(synced: Project) -> None:
    elsewhere = synced.path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.md").write_text(BY_HAND)
    synced.file("archive").symlink_to(elsewhere)
    synced.sync()
    assert "by-hand" not in synced.rows()
    synced.new.archive(ONE)
    synced.sync()
    assert ["x.md"] == [path.name for path in elsewhere.iterdir()]


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_mailbox_that_is_no_folder_is_told_from_the_first_sync_on(
    project: Project, kind: str
) -> None:
    inbox = project.file("inbox")
    inbox.parent.mkdir(parents=True, exist_ok=True)
    reason = {"link": "it is a symbolic link", "file": "it is not a folder"}[kind]
    if kind == "link":
        (project.path / "elsewhere").mkdir()
        inbox.symlink_to(project.path / "elsewhere")
    else:
        inbox.write_text("")
    for _ in range(2):
        report = project.sync()
        assert State.ATTENTION is report.state
        assert [("inbox", reason)] == [(one.path, one.problem.reason) for one in report.quarantined]
        assert_quiet(project)

    inbox.unlink()
    key = project.receive()

    assert State.IN_SYNC is project.sync().state
    assert [key] == list(project.rows())


def test_a_link_from_one_archive_to_the_other_is_nothing_to_tell(synced: Project) -> None:
    synced.file("archive").symlink_to("inbox/.archive")
    assert State.IN_SYNC is synced.sync().state
    assert_quiet(synced)


def test_a_project_whose_folder_is_a_link_is_told_the_way_out(synced: Project) -> None:
    moved = synced.path / "moved"
    synced.file("").rename(moved)
    synced.path.joinpath(".claude-mpm").symlink_to(moved)
    report = synced.cycle()
    assert report.error is not None
    assert report.error.endswith("is a symbolic link, and links are not followed")
    assert report.hint


def test_g14_a_file_over_the_limit_is_left_alone(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    project.receive(1)
    project.sync()
    row = project.row(ONE)
    project.receive(1, body="x" * 3000)
    project.receive(2, body="x" * 3000)
    report = project.sync()
    assert {ONE: row} == project.rows()
    assert [AT_ONE, f"inbox/{TWO}.md"] == [entry.path for entry in report.quarantined]
    assert "2,000" in report.quarantined[0].problem.reason
    assert_quiet(project)
    project.receive(1, body="short")
    project.sync()
    assert "short" == project.row(ONE)["body"]


def test_g14_a_huge_sparse_file_is_not_read(project: Project) -> None:
    with open(project.write("inbox/huge.md", BY_HAND), "r+b") as file:
        file.truncate(1 << 40)
    project.receive(1)
    report = project.sync()
    assert [ONE] == list(project.rows())
    assert ["inbox/huge.md"] == [entry.path for entry in report.quarantined]


ODD_CELLS: dict[str, tuple[str, object]] = {
    "BLOB body": ("body", b"bytes"),
    "BLOB subject": ("subject", b"\xff\x00"),
    "BLOB status": ("status", b"read"),
    "BLOB metadata": ("metadata", b"{}"),
    "BLOB date": ("created_at", b"2026-02-20"),
    "broken JSON": ("metadata", '{"a": '),
    "JSON that is only words": ("metadata", "some words"),
    "broken list": ("attachments", "['a']"),
    "attachments that are a text": ("attachments", '"a.txt"'),
    "JSON without end": ("metadata", "[" * 100_000),
    "no date": ("created_at", ""),
    "an odd date": ("created_at", "yesterday"),
    "an impossible date": ("created_at", "2026-02-30T00:00:00"),
    "epoch seconds": ("created_at", "1760000000"),
}


@pytest.mark.parametrize(("column", "value"), ODD_CELLS.values(), ids=ODD_CELLS.keys())
def test_g14_an_odd_row_is_reported_and_its_file_stays(
    synced: Project, column: str, value: object
) -> None:
    files = synced.files()
    good = synced.row(ONE)[column]
    synced.new.update(ONE, **{column: value})
    insert(synced, a_row(synced, "odd-and-new", **{column: value}))
    insert(synced, a_row(synced, "fine"))
    synced.scoped()
    report = synced.sync()
    assert ["messaging.db#" + ONE, "messaging.db#odd-and-new"] == [
        entry.path for entry in report.quarantined
    ]
    assert files.keys() | {"inbox/fine.md"} == synced.files().keys()
    assert files == {path: synced.files()[path] for path in files}
    assert value == synced.row(ONE)[column]
    assert_quiet(synced)
    synced.edit(AT_ONE, "type: task", "type: request")
    synced.sync()
    assert value == synced.row(ONE)[column]
    synced.new.update(ONE, **{column: good})
    synced.new.delete("odd-and-new")
    report = synced.sync()
    assert (State.IN_SYNC, []) == (report.state, report.quarantined)
    assert "request" == synced.row(ONE)["message_type"]
    assert_in_step(synced)
    assert_quiet(synced)


def test_g14_rows_without_an_id_are_reported_until_they_are_gone(synced: Project) -> None:
    for key in (None, None, b"\x00\xff", b"blob"):
        insert(synced, a_row(synced, "x") | {"id": key})
    insert(synced, a_row(synced, "fine"))
    files = synced.files()
    synced.scoped()
    report = synced.sync()
    assert len(files) + 1 == len(synced.files())
    assert {"messaging.db#None", "messaging.db#b'\\x00\\xff'", "messaging.db#b'blob'"} == {
        entry.path for entry in report.quarantined
    }
    assert_quiet_raw(synced)
    synced.sql("DELETE FROM messages WHERE id IS NULL OR typeof(id) = 'blob'")
    report = synced.sync()
    assert [] == report.quarantined
    assert_quiet(synced)


def assert_quiet_raw(project: Project) -> None:
    with nothing_written(project):
        assert 0 == project.sync().counts.changes()


def test_g14_text_that_is_not_utf_8_in_a_row_is_reported(synced: Project) -> None:
    synced.sql("UPDATE messages SET body = CAST(x'ff41' AS TEXT) WHERE id = ?", ONE)
    insert(synced, a_row(synced, "fine"))
    files = synced.files()
    report = synced.sync()
    assert [ONE] == [entry.id for entry in report.quarantined]
    assert files == {path: synced.files()[path] for path in files}
    assert "fine.md" in synced.names("inbox")


def test_g14_an_id_that_is_not_utf_8_is_reported_and_holds_up_nothing(synced: Project) -> None:
    synced.sql(
        "INSERT INTO messages (id, from_project, to_project, subject, body, created_at) "
        "VALUES (CAST(x'61ff' AS TEXT), 'a', 'b', 'S', 'B', '2026-02-20')"
    )
    insert(synced, a_row(synced, "fine"))
    report = synced.sync()
    assert 1 == len(report.quarantined)
    assert "fine.md" in synced.names("inbox")
    synced.new.update(ONE, subject="Heard")
    synced.scoped()
    assert "Heard" == synced.message_at(AT_ONE).subject


def test_g14_half_a_surrogate_in_a_file_is_reported_and_holds_up_nothing(
    synced: Project,
) -> None:
    odd = {
        "agent": BY_HAND.replace('"pm"', '"\\ud800"'),
        "id": BY_HAND.replace("id: by-hand", 'id: "\\udfff"'),
        "subject": BY_HAND.replace("owner: somebody", 'subject: "\\ud800"'),
        "metadata": BY_HAND.replace("owner: somebody", 'metadata: {"\\ud800": "\\udcff"}'),
        "status": BY_HAND.replace("owner: somebody", 'status: "\\ud83d\\ude00\\ud83d"'),
    }
    for name, text in odd.items():
        synced.write(f"inbox/{name}.md", text.replace("id: by-hand", f"id: {name}"))
    synced.edit(AT_ONE, "Body 1.", "Heard.")
    synced.sync()
    assert "Heard." == synced.row(ONE)["body"]
    for name, text in odd.items():
        assert text.replace("id: by-hand", f"id: {name}") == synced.text(f"inbox/{name}.md")
    assert_quiet(synced)


def test_g14_a_file_name_that_is_not_utf_8_is_imported_or_reported_and_holds_up_nothing(
    synced: Project,
) -> None:
    name = os.fsencode(synced.file("inbox")) + b"/caf\xe9.md"
    Path(os.fsdecode(name)).write_text(BY_HAND)
    synced.edit(AT_ONE, "Body 1.", "Heard.")
    report = synced.sync()
    assert "Heard." == synced.row(ONE)["body"]
    assert "by-hand" in synced.rows() or report.quarantined


def test_g14_a_front_matter_that_expands_without_end_is_left_alone(synced: Project) -> None:
    bomb = ["a0: &a0 [" + ",".join("x" * 10) + "]"]
    bomb += [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 12)]
    synced.write("inbox/bomb.md", "---\n" + "\n".join(bomb) + "\nmetadata: *a11\n---\n")
    synced.write("inbox/deep.md", "---\nmetadata: " + "[" * 5000 + "]" * 5000 + "\n---\n")
    synced.write("inbox/python.md", "---\nid: !!python/object/apply:os.getpid []\n---\n")
    report = synced.sync()
    assert ["inbox/bomb.md", "inbox/deep.md", "inbox/python.md"] == [
        entry.path for entry in report.quarantined
    ]
    assert 5 == len(synced.rows())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("metadata", ["5", '"x"', "true", "[1]", "0", '""', "false", '{"a": 1e999, "b": NaN}']),
        ("metadata", ['{"": {"": []}}', '{"a": "\\u0000\\u0085"}', '{"---": ["---\\n"]}']),
        ("attachments", ["[1]", '{"a": 1}', '[""]', "[null]", '["a", "a"]', '[["x"]]', '["---"]']),
    ],
)
def test_json_of_any_kind_goes_into_the_file_and_stays_as_it_is(
    synced: Project, column: str, values: list[str]
) -> None:
    for value in values:
        synced.new.update(ONE, **{column: value})
        report = synced.sync()
        assert ([], 0) == (report.quarantined, report.counts.rows_updated)
        assert value == synced.row(ONE)[column]
        assert_in_step(synced)
        assert_quiet(synced)


def test_g14_the_longest_file_name_can_be_moved_to_a_taken_name(project: Project) -> None:
    name = "x" * 252 + ".md"
    project.write(f"inbox/{name}", BY_HAND)
    project.write(f"inbox/.archive/{name}", BY_HAND.replace("id: by-hand", "id: other"))
    project.sync()
    project.new.archive("by-hand")
    project.sync()
    assert 2 == len(project.names("inbox/.archive"))
    assert_in_step(project)
    assert_quiet(project)


def test_a_row_whose_file_name_is_taken_by_another_message_gets_another_name(
    project: Project,
) -> None:
    project.write("inbox/wanted.md", BY_HAND)
    insert(project, a_row(project, "wanted"))
    project.sync()
    assert BY_HAND == project.text("inbox/wanted.md")
    assert "inbox/wanted.md" != path_of(project, "wanted")
    assert_in_step(project)
    assert_quiet(project)


def test_a_row_finds_a_name_where_its_second_one_is_taken_too(project: Project) -> None:
    names = ["inbox/wanted.md"]
    for number in range(3):
        project.write(names[-1], f"---\nid: other-{number}\n---\n\nWords")
        insert(project, a_row(project, "wanted"))
        project.sync()
        names.append(path_of(project, "wanted"))
        assert_in_step(project)
        assert_quiet(project)
        project.sql("DELETE FROM messages WHERE id = 'wanted'")
        project.sync()
    assert 4 == len(set(names))


def test_a_file_without_an_id_that_is_moved_to_a_taken_name_stays_its_message(
    project: Project,
) -> None:
    project.write("inbox/.archive/note.md", BY_HAND)
    project.write("inbox/note.md", BY_HAND.replace("id: by-hand\n", ""))
    project.sync()
    assert {"by-hand", "note"} == project.rows().keys()
    project.new.update("note", status="archived", read_at="2026-01-01T00:00:00+00:00")
    project.sync()
    assert ["note.md"] != project.names("inbox/.archive")
    project.sync(trust_stamps=False)
    row = project.row("note")
    assert ("archived", "2026-01-01T00:00:00+00:00") == (row["status"], row["read_at"])
    assert {"by-hand", "note"} == project.rows().keys()


# G15: one bad thing harms nothing else -----------------------------------------------------------


def test_g15_one_bad_file_and_one_odd_row_hold_up_nothing_else(synced: Project) -> None:
    synced.write("inbox/bad.md", b"\xff")
    insert(synced, a_row(synced, "odd", created_at="never"))
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.update(TWO, body="By SQL.")
    report = synced.sync()
    assert ["inbox/bad.md", "messaging.db#odd"] == [entry.path for entry in report.quarantined]
    assert "By hand." == synced.row(ONE)["body"]
    assert "By SQL." == synced.message_at(f"inbox/{TWO}.md").body


def test_g18_a_second_name_of_a_file_is_reported_until_one_of_the_two_is_gone(
    synced: Project,
) -> None:
    os.link(synced.file(AT_ONE), synced.file("inbox/again.md"))
    for _ in range(2):
        (entry,) = synced.sync().quarantined
        assert ("inbox/again.md", f"it is {AT_ONE} under another name") == (
            entry.path,
            entry.problem.reason,
        )
    assert_quiet(synced)
    synced.file(AT_ONE).unlink()
    report = synced.sync()
    assert ([], 0) == (report.quarantined, report.counts.rows_deleted)
    assert "inbox/again.md" == path_of(synced, ONE)
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.fixture
def case_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have messages found whatever the case of their name, as macOS and Windows do."""
    really_open, really_stat = os.open, os.stat

    def listed(name: Any, folder: int | None) -> Any:
        if folder is None or not isinstance(name, str) or not name.endswith(".md"):
            return name
        return next((one for one in os.listdir(folder) if one.lower() == name.lower()), name)

    def opening(name: Any, *arguments: Any, dir_fd: int | None = None) -> int:
        return really_open(listed(name, dir_fd), *arguments, dir_fd=dir_fd)

    def looking(name: Any, *, dir_fd: int | None = None, **options: Any) -> os.stat_result:
        return really_stat(listed(name, dir_fd), dir_fd=dir_fd, **options)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(os, "stat", looking)


@pytest.mark.usefixtures("case_does_not_count")
@pytest.mark.parametrize("how", ["full", "old name first", "new name first", "both names"])
@pytest.mark.parametrize("edited", [False, True])
def test_g2_a_name_whose_case_alone_changes_is_a_name_that_changed(
    synced: Project, how: str, edited: bool
) -> None:
    old, new = AT_ONE, AT_ONE.replace("msg", "MSG")
    synced.move(old, new)
    if edited:
        synced.edit(new, "Body 1.", "Edited.")
    match how:
        case "full":
            synced.sync()
        case "old name first":
            synced.heed(old)
            synced.heed(new)
        case "new name first":
            synced.heed(new)
            synced.heed(old)
        case "both names":
            synced.heed(old, new)
    report = synced.sync()
    assert [] == report.quarantined
    assert new in {values[0] for values in synced.sql("SELECT path FROM syncd_baseline")}
    assert ("Edited." if edited else "Body 1.") == synced.row(ONE)["body"]
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("body", ["Another one.", "Body 1."])
def test_g12_g18_two_rows_of_one_id_are_reported_and_change_nothing(
    synced: Project, body: str
) -> None:
    columns = ", ".join(column for column in synced.row(ONE) if column != "body")
    for sql in (
        "CREATE TABLE other AS SELECT * FROM messages",
        "DROP TABLE messages",
        "ALTER TABLE other RENAME TO messages",
        f"INSERT INTO messages ({columns}, body) SELECT {columns}, '{body}' FROM messages "
        f"WHERE id = '{ONE}'",
    ):
        synced.sql(sql)
    text = synced.text(AT_ONE)
    for _ in range(2):
        (entry,) = synced.sync().quarantined
        assert (ONE, "several rows have this id") == (entry.id, entry.problem.reason)
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.sync()
    assert 2 == synced.sql("SELECT count(*) FROM messages WHERE id = ?", ONE)[0][0]
    assert text.replace("Body 1.", "By hand.") == synced.text(AT_ONE)
    synced.sql(
        "DELETE FROM messages WHERE rowid IN (SELECT max(rowid) FROM messages WHERE id = ?)", ONE
    )
    report = synced.sync()
    assert ([], "By hand.") == (report.quarantined, synced.row(ONE)["body"])
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("is_new", [False, True])
def test_g14_g18_no_file_is_written_that_would_be_too_large_to_be_read(
    tmp_path: Path, is_new: bool
) -> None:
    project = Project(tmp_path / "p", max_bytes=2000)
    key = project.receive()
    project.sync()
    if is_new:
        key = project.new.send(project.other, "Subject", "x" * 3000)
        project.sync()
    project.new.update(key, body="x" * 3000)
    files = project.files()
    for _ in range(2):
        (entry,) = project.sync().quarantined
        assert "bytes; the limit is 2,000" in entry.problem.reason
        assert "max_bytes" in entry.problem.hint
    assert files == project.files()
    project.new.update(key, body="Short")
    assert [] == project.sync().quarantined
    assert_in_step(project)
    assert_quiet(project)


@pytest.mark.parametrize("what", [errno.EIO, errno.ESTALE, errno.EOVERFLOW])
def test_g15_a_file_on_a_bad_sector_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch, what: int
) -> None:
    read = os.pread

    def fail(fd: int, size: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(AT_ONE):
            raise OSError(what, os.strerror(what))
        return read(fd, size, offset)

    synced.edit(AT_ONE, "Body 1.", "Not to be had.")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", fail)
        (entry,) = synced.sync().quarantined
    assert (AT_ONE, f"it cannot be read: {os.strerror(what).lower()}") == (
        entry.path,
        entry.problem.reason,
    )
    assert ("Body 1.", "By hand.") == (synced.row(ONE)["body"], synced.row(TWO)["body"])
    assert [] == synced.sync().quarantined
    assert "Not to be had." == synced.row(ONE)["body"]


def test_g15_a_file_that_the_database_refuses_is_reported_and_holds_up_nothing_else(
    synced: Project,
) -> None:
    synced.sql(
        "CREATE TRIGGER strict BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ABORT, 'no such priority'); END"
    )
    refused = synced.receive(10, priority="whenever")
    taken = {synced.receive(number) for number in range(11, 131)}
    report = synced.sync()
    assert 120 == report.counts.rows_inserted
    assert taken < synced.rows().keys()
    assert refused not in synced.rows()
    assert 120 == synced.sql("SELECT count(*) FROM syncd_journal WHERE why = 'new file'")[0][0]
    assert State.IN_SYNC is not report.state
    synced.sql("DROP TRIGGER strict")
    report = synced.sync()
    assert State.IN_SYNC is report.state
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("is_new", [False, True])
def test_g12_what_a_hosts_trigger_makes_of_syncds_own_write_is_heard_at_once(
    synced: Project, is_new: bool
) -> None:
    synced.sql(
        "CREATE TRIGGER shout AFTER INSERT ON messages WHEN NEW.subject <> upper(NEW.subject) "
        "BEGIN UPDATE messages SET subject = upper(subject) WHERE id = NEW.id; END"
        if is_new
        else "CREATE TRIGGER shout AFTER UPDATE ON messages "
        "WHEN NEW.subject <> upper(NEW.subject) "
        "BEGIN UPDATE messages SET subject = upper(subject) WHERE id = NEW.id; END"
    )
    synced.sync()
    key, path = ONE, AT_ONE
    if is_new:
        key = synced.receive(9, subject="Quiet")
        path = f"inbox/{key}.md"
    else:
        synced.edit(AT_ONE, "# Subject 1", "# Quiet")
    report = synced.scoped(path)
    assert {f"messaging.db#{key}"} == report.unsettled
    synced.scoped()
    assert ("QUIET", "QUIET") == (synced.row(key)["subject"], synced.message_at(path).subject)
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("number", [1, 60])
def test_g15_a_trigger_that_rolls_back_all_holds_up_nothing_else(
    synced: Project, number: int
) -> None:
    synced.sql(
        "CREATE TRIGGER harsh BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ROLLBACK, 'no such priority'); END"
    )
    synced.sql(
        "CREATE TRIGGER harsher BEFORE UPDATE ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ROLLBACK, 'no such priority'); END"
    )
    before = {synced.receive(20 + n) for n in range(number)}
    refused = synced.receive(100, priority="whenever")
    after = {synced.receive(200 + n) for n in range(number)}
    synced.edit(AT_ONE, "priority: normal", "priority: whenever")
    synced.new.update(ONE, subject="By SQL")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    for _ in range(2):
        report = synced.sync()
        assert {AT_ONE, f"inbox/{refused}.md"} == {entry.path for entry in report.quarantined}
        assert before | after < synced.rows().keys()
    assert "By hand." == synced.row(TWO)["body"]
    for trigger in ("harsh", "harsher"):
        synced.sql(f"DROP TRIGGER {trigger}")
    synced.sync()
    assert ("By SQL", "whenever") == tuple(
        synced.row(ONE)[name] for name in ("subject", "priority")
    )
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("number", [1, 60])
def test_g15_a_file_whose_row_a_trigger_ignores_is_reported_and_stays(
    synced: Project, number: int
) -> None:
    synced.sql(
        "CREATE TRIGGER lax BEFORE INSERT ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(IGNORE); END"
    )
    ignored = synced.receive(10, priority="whenever")
    taken = {synced.receive(20 + n) for n in range(number)}
    for _ in range(2):
        report = synced.sync()
        assert [f"inbox/{ignored}.md"] == [entry.path for entry in report.quarantined]
    assert synced.file(f"inbox/{ignored}.md").exists()
    assert taken < synced.rows().keys()
    synced.sql("DROP TRIGGER lax")
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g15_an_id_that_differs_from_another_in_case_alone_is_refused_where_a_host_says_so(
    synced: Project,
) -> None:
    with synced.connection() as connection:
        connection.execute("ALTER TABLE messages RENAME TO former")
        connection.execute(SCHEMA[0].replace("id TEXT", "id TEXT COLLATE NOCASE"))
        connection.execute("INSERT INTO messages SELECT * FROM former")
        connection.execute("DROP TABLE former")
    refused = f"inbox/{TWO.upper()}.md"
    synced.file(refused).write_text(
        synced.file(f"inbox/{TWO}.md").read_text().replace(TWO, TWO.upper())
    )
    for _ in range(2):
        report = synced.sync()
        assert [refused] == [entry.path for entry in report.quarantined]
        assert "UNIQUE" in report.quarantined[0].problem.reason
        assert set() == report.unsettled
    assert TWO in synced.rows()


def test_g15_an_update_that_the_database_refuses_is_reported(synced: Project) -> None:
    synced.sql(
        "CREATE TRIGGER strict BEFORE UPDATE ON messages WHEN NEW.priority = 'whenever' "
        "BEGIN SELECT RAISE(ABORT, 'no such priority'); END"
    )
    synced.edit(AT_ONE, "priority: normal", "priority: whenever")
    synced.edit(f"inbox/{TWO}.md", "Body 2.", "By hand.")
    report = synced.sync()
    assert "By hand." == synced.row(TWO)["body"]
    assert State.IN_SYNC is not report.state


def test_g15_a_stray_that_cannot_be_removed_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stray = synced.write("inbox/.syncd-1-0a-0.tmp", "left over")
    synced.receive(9)

    def refuse(*_: object) -> bool:
        raise ReplicaError("cannot unlink it: permission denied")

    monkeypatch.setattr(FileReplica, "unlink_stray", refuse)
    report = synced.cycle()
    assert "permission denied" in (report.error or "")
    assert 1 == report.counts.rows_inserted
    monkeypatch.undo()
    synced.sync()
    assert not stray.exists()
    assert_quiet(synced)


def test_g15_a_late_rewrite_that_cannot_be_removed_holds_up_nothing_else(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite = synced.text(AT_ONE).replace("unread", "read")
    synced.new.archive(ONE)
    synced.sync()
    synced.write(AT_ONE, rewrite)
    synced.receive(9)
    delete = FileReplica.delete

    def refuse(self: FileReplica, path: str, *, seen: Version) -> None:
        raise ReplicaError("cannot delete it: permission denied")

    monkeypatch.setattr(FileReplica, "delete", refuse)
    report = synced.cycle()
    assert "permission denied" in (report.error or "")
    assert 1 == report.counts.rows_inserted
    monkeypatch.setattr(FileReplica, "delete", delete)
    synced.sync()
    assert not synced.file(AT_ONE).exists()
    assert_quiet(synced)


def test_g15_a_folder_that_cannot_be_made_holds_up_nothing_else(synced: Project) -> None:
    shutil.rmtree(synced.file("outbox"))
    synced.new.delete(SENT)
    synced.sync()
    synced.file("outbox").write_text("in the way")
    synced.new.send(synced.other, "Out", "Cannot be written.")
    synced.new.update(ONE, subject="Arrives")
    report = synced.cycle()
    assert State.ERROR is report.state
    assert "Arrives" == synced.message_at(AT_ONE).subject
    synced.file("outbox").unlink()
    synced.sync()
    assert_in_step(synced)
    assert_quiet(synced)


@pytest.mark.parametrize("content", [b"this is no database, only text\n" * 100, b"\0" * 4096])
def test_g15_a_database_that_is_none_is_said_and_no_file_changes(
    project: Project, content: bytes
) -> None:
    project.receive(1)
    project.new.database.write_bytes(content)
    before = project.files()
    report = project.cycle()
    assert State.ERROR is report.state
    assert report.hint
    assert before == project.files()


# G16: dry runs -----------------------------------------------------------------------------------


def everything(project: Project) -> dict[str, tuple[object, ...]]:
    """Return all that stands in the project, but for SQLite's own files beside the database."""
    found: dict[str, tuple[object, ...]] = {}
    for path in project.path.rglob("*"):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and not path.name.startswith("messaging.db-"):
            found[str(path)] = (path.read_bytes(), status.st_mtime_ns, status.st_ino)
        elif stat.S_ISDIR(status.st_mode):
            found[str(path)] = (status.st_ino, status.st_mode)
    return found


def assert_dry_run_tells(project: Project, **orders: object) -> None:
    before = everything(project)
    dry = project.cycle(dry_run=True, **orders)
    assert before == everything(project)
    real = project.cycle(**orders)
    assert real.as_json() == dry.as_json()


def test_g16_a_dry_run_without_a_database_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    for number in range(1, 5):
        project.receive(number)
    project.write("inbox/bad.md", "x")
    project.write("inbox/copy.md", project.text(AT_ONE))
    assert_dry_run_tells(project)


def test_g16_a_dry_run_on_a_hosts_database_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    insert(project, a_row(project, "only-row"))
    insert(project, a_row(project, ONE, body="Other."))
    insert(project, a_row(project, "odd", created_at="never"))
    project.receive(1)
    project.receive(2)
    assert_dry_run_tells(project)


def test_g6_a_folder_that_is_replaced_while_files_are_read_gets_the_new_files(
    crowd: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd.receive(1000)
    keys = [crowd.new.send(crowd.path, "Note", "To myself.", id=f"row-{n}") for n in range(5)]
    read = FileReplica.read

    def read_and_replace(files: FileReplica, path: str) -> Version:
        monkeypatch.undo()
        found = read(files, path)
        shutil.copytree(crowd.file("inbox"), crowd.file("new"), copy_function=shutil.copy2)
        crowd.file("inbox").rename(crowd.base / "former")
        crowd.file("new").rename(crowd.file("inbox"))
        return found

    monkeypatch.setattr(FileReplica, "read", read_and_replace)
    crowd.cycle()
    assert {f"{key}.md" for key in keys} < set(crowd.names("inbox"))
    for _ in range(2):
        crowd.cycle()
    assert set(keys) < crowd.rows().keys()


def test_g15_a_row_whose_name_is_taken_in_the_last_moment_is_heard_again(
    synced: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = synced.new.send(synced.other, "Out", "New.")
    create = FileReplica.create

    def create_late(files: FileReplica, path: str, data: bytes) -> Stamp:
        synced.write(path, synced.file(AT_ONE).read_bytes().replace(ONE.encode(), b"another"))
        return create(files, path, data)

    with monkeypatch.context() as patched:
        patched.setattr(FileReplica, "create", create_late)
        report = synced.scoped()
    assert (None, 0) == (report.error, report.counts.files_created)
    assert 1 == synced.scoped().counts.files_created
    synced.sync()
    assert "New." in "".join(synced.text(f"outbox/{name}") for name in synced.names("outbox"))
    assert {key, "another"} < synced.rows().keys()
    assert_in_step(synced)
    assert_quiet(synced)


def test_g16_a_dry_run_changes_nothing_and_tells_what_comes(synced: Project) -> None:
    synced.edit(AT_ONE, "Body 1.", "By hand.")
    synced.new.update(ONE, body="By SQL.", subject="By SQL")
    synced.file(f"inbox/{TWO}.md").unlink()
    synced.new.delete(ARCHIVED)
    synced.old.archive(THREE)
    synced.receive(10)
    synced.new.send(synced.other, "Out", "New.")
    synced.write("inbox/bad.md", "x")
    assert_dry_run_tells(synced)


def test_g16_a_dry_run_of_a_halt_tells_it(crowd: Project) -> None:
    crowd.sql("DELETE FROM messages")
    assert_dry_run_tells(crowd)


def test_g16_a_dry_run_of_a_migration_changes_nothing_and_tells_what_comes(
    project: Project,
) -> None:
    insert(project, a_row(project, ONE, subject="By SQL"))
    project.receive(1)
    project.receive(2)
    assert_dry_run_tells(project, one_way=True)


def test_g16_a_dry_run_in_step_has_nothing_to_tell(synced: Project) -> None:
    assert_dry_run_tells(synced)


# Scoped cycles -----------------------------------------------------------------------------------

Deed = Callable[[Project], tuple[set[str], set[str]]]
"""Does something to the files; returns the paths that then stand, and those that are gone."""


def deed_new_file(project: Project) -> tuple[set[str], set[str]]:
    return {f"inbox/{project.receive(30)}.md"}, set()


def deed_edit(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, "Body 1.", "By hand.")
    return {AT_ONE}, set()


def deed_edit_and_row(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, "Body 1.", "By hand.")
    project.new.update(ONE, subject="By SQL", body="Conflict.")
    return {AT_ONE}, set()


def deed_delete(project: Project) -> tuple[set[str], set[str]]:
    project.file(AT_ONE).unlink()
    return set(), {AT_ONE}


def deed_rename(project: Project) -> tuple[set[str], set[str]]:
    project.move(AT_ONE, "inbox/renamed.md")
    return {"inbox/renamed.md"}, {AT_ONE}


def deed_archive(project: Project) -> tuple[set[str], set[str]]:
    project.old.archive(ONE)
    return {f"inbox/.archive/{ONE}.md"}, {AT_ONE}


def deed_archive_and_edit(project: Project) -> tuple[set[str], set[str]]:
    project.old.archive(ONE)
    project.edit(f"inbox/.archive/{ONE}.md", "Body 1.", "By hand.")
    project.new.update(ONE, subject="By SQL")
    return {f"inbox/.archive/{ONE}.md"}, {AT_ONE}


def deed_chain_of_renames(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.move(at_two, "inbox/zzz.md")
    project.move(AT_ONE, at_two)
    return {at_two, "inbox/zzz.md"}, {AT_ONE}


def deed_swap_of_names(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.move(at_two, "inbox/aside")
    project.move(AT_ONE, at_two)
    project.move("inbox/aside", AT_ONE)
    return {AT_ONE, at_two}, set()


def deed_swap_of_names_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.archive(TWO)
    return deed_swap_of_names(project)


def deed_chain_of_renames_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.update(TWO, body="By SQL.")
    return deed_chain_of_renames(project)


def deed_id_of_another_and_edited_rows(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.new.update(TWO, body="By SQL.")
    return deed_id_of_another(project)


def deed_new_id_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    return deed_new_id(project)


def deed_copy_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.archive(ONE)
    return deed_copy(project)


def deed_broken_and_moved_and_edited_row(project: Project) -> tuple[set[str], set[str]]:
    project.new.update(ONE, subject="By SQL")
    project.write(AT_ONE, "")
    project.move(AT_ONE, "inbox/.archive/broken.md")
    return {"inbox/.archive/broken.md"}, {AT_ONE}


def deed_swap_of_ids(project: Project) -> tuple[set[str], set[str]]:
    at_two = f"inbox/{TWO}.md"
    project.edit(AT_ONE, f"id: {ONE}", "id: aside")
    project.edit(at_two, f"id: {TWO}", f"id: {ONE}")
    project.edit(AT_ONE, "id: aside", f"id: {TWO}")
    return {AT_ONE, at_two}, set()


def deed_copy(project: Project) -> tuple[set[str], set[str]]:
    shutil.copy2(project.file(AT_ONE), project.file("inbox/copy.md"))
    return {"inbox/copy.md"}, set()


def deed_copy_and_delete(project: Project) -> tuple[set[str], set[str]]:
    shutil.copy2(project.file(AT_ONE), project.file("inbox/copy.md"))
    project.file(AT_ONE).unlink()
    return {"inbox/copy.md"}, {AT_ONE}


def deed_new_id(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, f"id: {ONE}", "id: another")
    return {AT_ONE}, set()


def deed_id_of_another(project: Project) -> tuple[set[str], set[str]]:
    project.edit(AT_ONE, f"id: {ONE}", f"id: {TWO}")
    return {AT_ONE}, set()


def deed_save_by_rename(project: Project) -> tuple[set[str], set[str]]:
    text = project.text(AT_ONE).replace("Body 1.", "By an editor.")
    project.write("inbox/.x.swp", text)
    project.move("inbox/.x.swp", AT_ONE)
    return {AT_ONE}, set()


def deed_broken(project: Project) -> tuple[set[str], set[str]]:
    project.write(AT_ONE, "")
    return {AT_ONE}, set()


def deed_rows_only(project: Project) -> tuple[set[str], set[str]]:
    project.new.delete(ONE)
    project.new.archive(TWO)
    insert(project, a_row(project, "new-row"))
    project.sql("UPDATE messages SET id = 'renamed-row' WHERE id = ?", THREE)
    return set(), set()


def deed_delete_against_an_edit(project: Project) -> tuple[set[str], set[str]]:
    project.file(AT_ONE).unlink()
    project.new.update(ONE, subject="By SQL")
    return set(), {AT_ONE}


def deed_back_from_the_archive(project: Project) -> tuple[set[str], set[str]]:
    was = f"inbox/.archive/{ARCHIVED}.md"
    project.move(was, f"inbox/{ARCHIVED}.md")
    return {f"inbox/{ARCHIVED}.md"}, {was}


DEEDS = {
    name.removeprefix("deed_").replace("_", " "): deed
    for name, deed in list(globals().items())
    if name.startswith("deed_")
}


@pytest.fixture(params=DEEDS.values(), ids=DEEDS.keys())
def deed(request: pytest.FixtureRequest) -> Deed:
    done: Deed = request.param
    return done


def end_state(project: Project) -> object:
    """Return what stands on both sides, without what differs between two runs of the same."""
    rows = [
        {name: value for name, value in row.items() if name != "read_at"} | {"read": row["read_at"]}
        for row in project.rows().values()
    ]
    report = project.sync()
    files = {path: data for path, (data, _) in project.files().items()}
    quarantined = [(entry.path, entry.problem) for entry in report.quarantined]
    conflicts = [(conflict.id, conflict.field) for conflict in report.conflicts]
    text = repr((sorted(rows, key=repr), files, quarantined, conflicts))
    return text.replace(str(project.path.parent), "/here")


def twin_projects(tmp_path: Path, deed: Deed) -> Iterator[tuple[Project, set[str], set[str]]]:
    """Make the same project twice, each with the deed done to it after a first sync."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        project = Project(tmp_path / name / "p")
        for number in (1, 2, 3):
            project.receive(number)
        project.old.archive(project.receive(4))
        project.old.send(project.other, "Out", "Going out.", id=SENT, created_at=moment(5))
        project.sync()
        # Only a row that is still the same one has these.
        project.sql("UPDATE messages SET read_at = 'at ' || id, task_injected = 1")
        project.sync()
        yield project, *deed(project)


def test_g11_a_scoped_cycle_ends_as_a_full_one(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    report = scoped.heed(*stand, *gone)
    assert (None, None) == (report.error, report.halt)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_events_in_any_order_end_as_a_full_cycle(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    for path in sorted(gone):
        scoped.heed(path)
    for path in sorted(stand, reverse=True):
        scoped.heed(path)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_events_one_by_one_end_as_a_full_cycle(tmp_path: Path, deed: Deed) -> None:
    (full, _, _), (scoped, stand, gone) = twin_projects(tmp_path, deed)
    full.sync()
    vanished = set()
    for path in sorted(stand | gone):
        vanished |= scoped.scoped(path).vanished
    scoped.scoped(gone=vanished)
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_a_cycle_that_knows_nothing_of_the_files_ends_as_a_full_one(
    tmp_path: Path, deed: Deed
) -> None:
    """All file events lost: first the feed alone, then a full compare."""
    (full, _, _), (scoped, _, _) = twin_projects(tmp_path, deed)
    full.sync()
    scoped.heed()
    scoped.sync()
    assert end_state(full) == end_state(scoped)
    assert_quiet(scoped)


def test_g11_a_change_within_the_same_tick_of_the_clock_is_found_without_its_event(
    synced: Project,
) -> None:
    path = synced.write(AT_ONE, synced.text(AT_ONE).replace("Subject 1", "Version 1"))
    second = int(time.time())  # of a file system that keeps times in whole seconds
    os.utime(path, (second, second))
    seen = synced.scoped(AT_ONE)
    assert {AT_ONE} == seen.fresh
    synced.edit(AT_ONE, "Version 1", "Version 2")
    os.utime(path, (second, second))
    assert 1 == synced.sync(fresh=frozenset(seen.fresh)).counts.rows_updated
    assert "Version 2" == synced.row(ONE)["subject"]
    assert_quiet(synced)


def test_g11_a_command_waits_until_a_later_change_of_what_it_read_would_show(
    synced: Project,
) -> None:
    synced.edit(AT_ONE, "Subject 1", "Version 1")
    assert set() == synced.sync().fresh
    assert time.time() - synced.file(AT_ONE).stat().st_mtime > TICK_S


def test_a_vanished_file_is_not_gone_at_the_first_look(synced: Project) -> None:
    synced.file(AT_ONE).unlink()
    report = synced.scoped(AT_ONE)
    assert ({AT_ONE}, 0) == (report.vanished, report.counts.changes())
    assert ONE in synced.rows()
    report = synced.scoped(gone=[AT_ONE])
    assert 1 == report.counts.rows_deleted


@pytest.mark.parametrize("first", ["file", "row"])
def test_a_message_that_went_on_both_sides_one_after_the_other_is_forgotten(
    synced: Project, first: str
) -> None:
    as_row = f"messaging.db#{ONE}"
    if first == "file":
        synced.file(AT_ONE).unlink()
        assert {AT_ONE} <= synced.scoped(AT_ONE).vanished
        synced.new.delete(ONE)
        report = synced.scoped(gone=[AT_ONE])
    else:
        synced.new.delete(ONE)
        assert {as_row} <= synced.scoped().vanished
        synced.file(AT_ONE).unlink()
        report = synced.scoped(gone=[as_row])
    looks = 0
    while report.vanished:
        report = synced.scoped(gone=report.vanished)
        assert (looks := looks + 1) < 3
    assert ONE not in {values[0].decode() for values in synced.tables()["syncd_baseline"]}
    assert_in_step(synced)
    assert_quiet(synced)


def test_a_file_that_came_back_before_the_second_look_was_never_gone(synced: Project) -> None:
    data = synced.file(AT_ONE).read_bytes()
    synced.file(AT_ONE).unlink()
    synced.scoped(AT_ONE)
    synced.write(AT_ONE, data)
    assert 0 == synced.scoped(gone=[AT_ONE]).counts.changes()
    assert_quiet(synced)


@pytest.mark.parametrize("folder", ["inbox", "inbox/.archive"])
def test_g13_a_row_that_is_deleted_and_soon_inserted_again_costs_its_file_nothing(
    synced: Project, folder: str
) -> None:
    synced.write(f"{folder}/my note.md", "---\nid: mine # own\nx_key: kept\n---\n\nMy words.\n")
    synced.sync()
    before = synced.files()
    row = synced.row("mine")
    synced.new.delete("mine")
    report = synced.scoped()
    assert (0, {"messaging.db#mine"}) == (report.counts.changes(), report.vanished)
    insert(synced, row)
    assert 0 == synced.scoped(gone=report.vanished).counts.changes()
    assert before == synced.files()
    assert_quiet(synced)


def test_a_command_looks_for_a_vanished_file_a_second_time(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", gone_s=0.5)
    key = project.receive(1)
    project.receive(2)
    project.sync()
    aside = project.file("editor's")
    project.file(f"inbox/{key}.md").rename(aside)
    saved = threading.Timer(0.1, aside.rename, [project.file(f"inbox/{key}.md")])
    saved.start()
    assert 0 == project.sync().counts.changes()
    saved.join()
    assert_in_step(project)


def test_the_feed_alone_brings_rows_to_files(synced: Project) -> None:
    synced.new.update(ONE, subject="By SQL")
    synced.new.archive(TWO)
    synced.new.delete(THREE)
    report = synced.scoped()
    counts = report.counts
    assert (1, 1, 0) == (counts.files_updated, counts.files_moved, counts.files_deleted)
    assert 1 == synced.scoped(gone=report.vanished).counts.files_deleted
    assert_in_step(synced)
    assert_quiet(synced)


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


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "changed"])
def test_g7_a_file_that_a_cut_off_cycle_wrote_is_no_edit_of_a_person(
    synced: Project, is_new: bool
) -> None:
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
    synced.new.update("x", body="Newer words.")
    assert [] == synced.sync().conflicts
    assert "Newer words." in synced.text("inbox/x.md")
    assert_quiet(synced)


def test_g14_large_rows_are_taken_in_portions(project: Project) -> None:
    for number in (1, 2, 3):
        insert(project, a_row(project, f"row-{number}", body="w" * 4_000))
    ids = ["row-1", "none", "row-2", "row-3"]
    with Store.open(project.new.database) as store:
        store.prepare()
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.in_portions(ids, 5_000))
        assert [ids] == list(store.in_portions(ids, 50_000))
    project.sync()
    project.sql("DELETE FROM messages")
    with Store.open(project.new.database) as store:
        assert [["row-1", "none"], ["row-2"], ["row-3"]] == list(store.in_portions(ids, 5_000))


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
